//! `veilsum join`: takes part in one round with an update or records from a file, and says every check that it made.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde::Serialize;
use veilsum_client::config::{Identity, Join};
use veilsum_client::transport::TransportError;
use veilsum_client::{HttpTransport, Participant, ParticipantError, RoundOutcome};
use veilsum_crypto::ids::TaskId;
use veilsum_crypto::update::{decode_sum, decode_weighted};

use crate::admin::is_private;
use crate::exit::{self, Code, Ends as _};
use crate::output::Output;

mod brought;
pub mod npy;
mod pins;
mod told;
mod vector;

use brought::Brought;
use pins::{Source, Way};
use told::{Beside, Spending, Told};
use vector::Vector;

const EXAMPLES: &str = "\
Examples:
  veilsum join --identity alice.toml --join join.toml --vector update.npy --out mean.npy
  veilsum join --server https://sums.example --ca ca.pem --identity alice.toml --vector update.safetensors
  veilsum join --identity alice.toml --vector update.npy --json | jq .checks
  veilsum join --identity alice.toml --records visits.csv --column age --json | jq .answer
  veilsum join --identity alice.toml --leave

The update is the change of the model that training on this client's data made, in the order of the task's layout. It is
clipped, rounded, noised and masked before it is sent; the file is read and never written. A task that asks a query is
answered with records, as docs/statistics.md says; what they are no answer to is refused before anything is sent.";

/// Options of `join`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Where the service is; by default as the join file says.
    #[arg(long)]
    server: Option<String>,
    /// Certificates (PEM) to believe over TLS instead of the system's, where the service has a private CA.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// This client's identity file.
    #[arg(long)]
    identity: PathBuf,
    /// The update: a vector of floats in .npy, or tensors in .safetensors, which are taken in the order of their names.
    #[arg(long, required_unless_present_any = ["records", "leave"])]
    vector: Option<PathBuf>,
    /// The records of this client, where the task asks a query: one a line in .txt, or a column of .csv.
    #[arg(long, conflicts_with_all = ["vector", "tensor", "weight", "out"])]
    records: Option<PathBuf>,
    /// The column of a .csv file of records; needed where there are several.
    #[arg(long, requires = "records")]
    column: Option<String>,
    /// One tensor of a .safetensors file instead of all.
    #[arg(long)]
    tensor: Option<String>,
    /// What is joined: server, task, pinned keys and this client's policy; by default join.toml beside the identity.
    #[arg(long)]
    join: Option<PathBuf>,
    /// The task, where there is no join file yet: the aggregator's key is then taken from its first answer and pinned.
    #[arg(long, conflicts_with = "join", value_parser = task_id)]
    task: Option<TaskId>,
    /// How much this client counts, in a weighted task; default 1.
    #[arg(long)]
    weight: Option<f32>,
    /// This client's sealed journal, kept between rounds; by default `state` beside the identity.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Where the mean goes, as .npy (float32).
    #[arg(long)]
    out: Option<PathBuf>,
    /// Give up when no round has come to its end within so many seconds. A round under way is finished by the next call.
    #[arg(long)]
    within: Option<u64>,
    /// The longest window of a phase to accept, seconds, instead of the join file's window_max_s. A service that falls silent is
    /// waited for ten of them.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    window_max: Option<u64>,
    /// Leave the round under way for good instead of finishing it: nothing more is sent in it, and what it was charged stays
    /// charged. Asks the service nothing.
    #[arg(long, conflicts_with_all = ["vector", "records", "tensor", "weight", "out", "within", "task", "window_max"])]
    leave: bool,
}

impl Options {
    fn state(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| self.identity.with_file_name("state"))
    }
}

/// What `--leave` says.
#[derive(Serialize)]
struct Left {
    client: String,
    /// Whether there was a round to leave.
    left: bool,
}

/// Leaves the round under way, if there is one.
async fn leave(options: &Options, output: Output) -> Result<()> {
    let identity = Identity::read(&options.identity).or_usage()?;
    let join = Join::read(Source::of(options.join.clone(), None, &options.identity)?.file()).or_usage()?;
    pins::is_of(&identity, &join.policy.authority).or_usage()?;
    let transport = HttpTransport::of(&join).or_usage()?; // asked nothing
    let mut participant = Participant::open(identity, join, &options.state(), transport).await.map_err(coded)?;
    let said = Left { left: participant.leave().await.map_err(coded)?, client: participant.client().to_string() };
    output.give(&said, |said| match said.left {
        true => {
            "the round under way is left for good: nothing more is sent in it, and what it was charged stays charged"
                .into()
        }
        false => "no round is under way in the state file: there was nothing to leave".into(),
    })
}

fn task_id(text: &str) -> Result<TaskId, String> {
    TaskId::from_hex(text).ok_or_else(|| "a task id has 32 lower-case hexadecimal digits".to_string())
}

/// Takes part in one round.
pub async fn run(options: Options, output: Output) -> Result<Option<Code>> {
    if options.leave {
        return leave(&options, output).await.map(|()| None);
    }
    // Everything that can be wrong at home is looked at before the network is.
    let brought = match (&options.records, &options.vector) {
        (Some(records), _) => Brought::records(records, options.column.as_deref(), output)?,
        (None, Some(vector)) => Brought::Update(Vector::read(vector, options.tensor.as_deref(), options.weight)?),
        (None, None) => return Err(anyhow!("--vector or --records was expected")).or_usage(),
    };
    let identity = Identity::read(&options.identity).or_usage()?;
    let source = Source::of(options.join.clone(), options.task, &options.identity)?;
    let state = options.state();
    if let Some(out) = &options.out {
        let vector = options.vector.as_deref().unwrap_or(out); // none: --records has no --out
        is_apart(out, &[&state, &options.identity, vector, source.file()]).or_usage()?;
    }
    let way = Way { server: options.server.as_deref(), ca: options.ca.as_deref() };
    let mut join = source.join(way, &identity, output).await?;
    join.policy.window_max_s = options.window_max.unwrap_or(join.policy.window_max_s);
    pins::is_of(&identity, &join.policy.authority).or_usage()?;
    let in_time = pins::is_in_time(&identity);
    let transport = HttpTransport::of(&join).or_usage()?;
    let asking = HttpTransport::of(&join).or_usage()?;
    let is_asked = matches!(brought, Brought::Records { .. });
    if is_asked && join.policy.layout.is_none() {
        output.say(
            "taken on trust: the query; the join file pins none (layout), so whatever the header names is answered",
        );
    }
    if !is_private(&join.server) {
        output.say(
            "taken on trust: the network, which sees who takes part because the address says http:// and not https://",
        );
    }

    let (budget, task, server) = (join.policy.budget, join.task, join.server.clone());
    let mut participant = Participant::open(identity, join, &state, transport).await.map_err(coded)?;
    if participant.is_under_way().await.map_err(coded)? {
        output
            .say("a round is under way in the state file; it is finished first, and it is the one round of this call");
    } else {
        in_time?; // a round that was begun in time may end after it
        output.say(&format!("{}\nwaiting for a round of task {task} at {server}", brought.described()));
    }
    let before = participant.epsilon_spent().await.map_err(coded)?;
    let telling = (output == Output::Words).then(|| tokio::spawn(told::follow(participant.events())));

    let work = Arc::new(Mutex::new(brought));
    let ended = match options.within {
        None => participant.take_part(&work).await,
        Some(within_s) => {
            let ended = tokio::time::timeout(Duration::from_secs(within_s), participant.take_part(&work)).await;
            ended.map_err(|_| {
                let words = "a round under way is finished by the next call";
                exit::with(Code::NoSum, anyhow!("no round came to its end within {within_s} s (--within); {words}"))
            })?
        }
    };
    let ended = ended.map_err(coded)?;

    let mean = options.out.as_deref().filter(|_| matches!(ended, RoundOutcome::Verified { sum: Some(_), .. }));
    // Whatever becomes of the file, or of the ledger: what happened in the round is told.
    let written = mean.map_or(Ok(()), |path| write_mean(&ended, path));
    let mean = mean.filter(|_| written.is_ok());
    let answered = if is_asked { brought::answer(&ended, &asking).await } else { Ok(None) };
    let answer = answered.as_ref().ok().cloned().flatten();
    let spent = participant.epsilon_spent().await.map_err(coded);
    let spending = Spending { before, now: spent.as_ref().ok().copied(), budget };
    let bytes = (participant.traffic().up_bytes(), participant.traffic().down_bytes());
    let beside = Beside { client: participant.client(), checks: participant.report(), spending, bytes, mean, answer };
    let said = Told::of(&ended, beside);
    drop(participant); // its events end, and so does whoever prints them
    if let Some(telling) = telling {
        telling.await?;
    }
    output.give(&said, Told::in_words)?;
    written.and(answered.map(drop)).and(spent).map(|_| told::code(&ended))
}

/// The mean goes to no file that the client needs; its ledger above all.
fn is_apart(out: &Path, needed: &[&Path]) -> Result<()> {
    let whole = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let out_path = whole(out)?;
    for path in needed {
        anyhow::ensure!(
            whole(path)? != out_path,
            "--out {} would replace a file that is needed; name another",
            out.display()
        );
    }
    Ok(())
}

fn write_mean(ended: &RoundOutcome, path: &Path) -> Result<()> {
    let values = mean_of(ended)?.context("no sum was released")?;
    std::fs::write(path, npy::write(&values)).with_context(|| format!("cannot write {}", path.display()))
}

/// The mean over the survivors, noise included.
fn mean_of(ended: &RoundOutcome) -> Result<Option<Vec<f32>>> {
    let RoundOutcome::Verified { sum: Some(sum), survivors, header, .. } = ended else { return Ok(None) };
    let params = &header.params;
    let mean = match params.weight_max {
        0 => decode_sum(sum, params.scale, survivors.len() as u32),
        _ => decode_weighted(sum, params.clip_norm),
    };
    Ok(Some(mean.context("the sum was released, but gives no mean")?))
}

/// Whose fault an error is.
fn coded(error: ParticipantError) -> anyhow::Error {
    let code = match &error {
        ParticipantError::Unsuited(_)
        | ParticipantError::UpdateLen { .. }
        | ParticipantError::Update(_)
        | ParticipantError::Training(_)
        | ParticipantError::OtherTask { .. }
        | ParticipantError::OtherAggregator(_)
        | ParticipantError::NoTask { .. } => Code::Usage,
        ParticipantError::Transport(TransportError::Address(_)) => Code::Usage,
        ParticipantError::Transport(TransportError::Untrusted(_))
        | ParticipantError::Refused { .. }
        | ParticipantError::Model { .. } => Code::Refused,
        ParticipantError::Saved(_)
        | ParticipantError::Open(_)
        | ParticipantError::Transport(_)
        | ParticipantError::Noise(_)
        | ParticipantError::Interrupted => Code::Fault,
    };
    exit::with(code, error)
}
