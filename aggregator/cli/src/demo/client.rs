//! One client of `veilsum demo --processes`, in a process of its own: does as its order says, and writes down how it went.
//!
//! The order, the text and the identity are files; the aggregator is reached over HTTP. Nothing else is shared. The process
//! ends with its standard input, so that it does not outlive the demo that started it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use veilsum_aggregator::round::overview::phase_word;
use veilsum_client::config::{Identity, Join};
use veilsum_client::participant::{LocalWork, Trained, TrainerWork};
use veilsum_client::training::language::{LanguageTrainer, TrainerId};
use veilsum_client::training::sgd::DemoSettings;
use veilsum_client::transport::HttpTransport;
use veilsum_client::{Participant, RoundOutcome, Transport as _};
use veilsum_crypto::ids::RoundId;
use veilsum_crypto::messages::Header;

use super::lossy::{Fate, Lossy, Moment, PHASES};

/// How often a free turn is looked for.
const TURN_EVERY: Duration = Duration::from_millis(10);

/// Options of `demo-client`.
#[derive(Args)]
pub struct Options {
    /// What to do; the demo writes it.
    order: PathBuf,
}

/// What one client is to do in one round.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// In which round.
    pub round: String,
    /// The run's seed.
    pub seed: u64,
    /// The client's number in the run.
    pub number: u64,
    /// How many clients are invited: chooses the settings of training.
    pub cohort: u32,
    /// Whom it believes.
    pub join: PathBuf,
    /// Where its vector goes before it is masked.
    pub noised: PathBuf,
    /// Where it is lost on purpose, if it is.
    pub fate: Option<OrderedFate>,
    /// Files that are locked while a client trains: one for each core.
    pub turns: Vec<PathBuf>,
}

/// A fate as a file has it.
#[derive(Serialize, Deserialize)]
pub struct OrderedFate {
    /// As addresses name it.
    pub phase: String,
    /// At which await of it.
    pub moment: Moment,
}

/// How it went.
#[derive(Serialize, Deserialize)]
pub struct Account {
    /// Lost on purpose.
    pub lost: bool,
    /// Bodies sent and received.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Whose inputs are in the sum that this client verified.
    pub survivors: Option<Vec<String>>,
    /// Why it is not to the end, where it is not.
    pub words: Option<String>,
}

impl Account {
    /// Beside an order.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join("account.json")
    }

    /// Where the verified sum is, packed.
    pub fn sum_path(folder: &Path) -> PathBuf {
        folder.join("sum")
    }
}

impl OrderedFate {
    /// As a file has it.
    pub fn of(fate: Fate) -> Self {
        Self { phase: phase_word(fate.phase).to_string(), moment: fate.moment }
    }

    fn fate(&self) -> Option<Fate> {
        let phase = PHASES.into_iter().find(|phase| phase_word(*phase) == self.phase)?;
        Some(Fate { phase, moment: self.moment })
    }
}

/// Plays one round.
pub async fn run(options: Options) -> Result<()> {
    end_with_standard_input();
    let folder = options.order.parent().unwrap_or(Path::new(".")).to_path_buf();
    let order: Order = serde_json::from_slice(&std::fs::read(&options.order)?).context("the order")?;
    let round = RoundId::from_hex(&order.round).context("the order names no round")?;
    let identity = Identity::read(&folder.join("identity.toml"))?;
    let join = Join::read(&order.join)?;
    let text = std::fs::read(folder.join("text"))?;
    let settings = DemoSettings::for_clients(order.cohort);
    let id = TrainerId { seed: order.seed, client: order.number };
    let trainer = TrainerWork::new(LanguageTrainer::new(&text, settings.local, id)?);
    let work = Arc::new(Mutex::new(InTurn { trainer, turns: order.turns }));
    let fate = order.fate.as_ref().and_then(OrderedFate::fate);
    let transport = Arc::new(Lossy::new(HttpTransport::of(&join)?, fate, Arc::new(Semaphore::new(1))));

    let participant = Participant::open(identity, join, &folder.join("state"), transport.clone()).await?;
    let noised = order.noised;
    // Written down before it is masked: what the published sum is compared with.
    let mut participant = participant.on_noised(move |values: &[i64]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        if let Err(error) = std::fs::write(&noised, bytes) {
            tracing::error!(%error, "a noised vector could not be written down");
        }
    });
    let played = async {
        loop {
            let outcome = participant.take_part(&work).await;
            // A client that was lost first ends the round that it was lost in.
            let is_earlier = outcome.as_ref().is_ok_and(|ended| ended.round().is_some_and(|ended| ended != round));
            if !is_earlier {
                return outcome;
            }
        }
    };
    // Whichever comes first; a client that is lost ends here and now, as a crash would end it.
    let ended = tokio::select! {
        () = transport.lost.notified() => None,
        outcome = played => Some(outcome),
    };
    let traffic = transport.traffic();
    let mut account = Account {
        lost: ended.is_none(),
        bytes_up: traffic.up_bytes(),
        bytes_down: traffic.down_bytes(),
        survivors: None,
        words: None,
    };
    match ended {
        Some(Ok(RoundOutcome::Verified { sum: Some(sum), survivors, .. })) => {
            std::fs::write(Account::sum_path(&folder), sum.pack())?;
            account.survivors = Some(survivors.iter().map(|client| client.to_string()).collect());
        }
        Some(Ok(RoundOutcome::Stopped { why, .. })) => account.words = Some(format!("stopped: {why}")),
        Some(Ok(RoundOutcome::LeftOut { reason, .. })) => account.words = Some(format!("is left out: {reason}")),
        Some(Ok(RoundOutcome::Verified { sum: None, .. } | RoundOutcome::Abandoned { .. })) | None => {}
        Some(Err(error)) => account.words = Some(format!("failed: {error:#}")),
    }
    std::fs::write(Account::path(&folder), serde_json::to_vec(&account)?)?;
    std::process::exit(0); // a lost client's threads are not waited for
}

/// The demo holds the other end, and the system closes it whatever becomes of the demo.
pub fn end_with_standard_input() {
    std::thread::spawn(|| {
        let mut waste = [0; 64];
        while std::io::stdin().read(&mut waste).is_ok_and(|read| read > 0) {}
        std::process::exit(1);
    });
}

/// Local training, one client a core: it runs beside the key phases and must not hold them up.
struct InTurn {
    trainer: TrainerWork<LanguageTrainer>,
    turns: Vec<PathBuf>,
}

impl LocalWork for InTurn {
    fn suits(&mut self, header: &Header) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.trainer.suits(header)
    }

    fn train(&mut self, header: &Header, model: &[u8]) -> Trained {
        let _turn = self.take_turn()?;
        self.trainer.train(header, model)
    }
}

impl InTurn {
    /// The lock ends with the file.
    fn take_turn(&self) -> std::io::Result<File> {
        loop {
            for path in &self.turns {
                let file = File::create(path)?;
                if file.try_lock().is_ok() {
                    return Ok(file);
                }
            }
            std::thread::sleep(TURN_EVERY);
        }
    }
}
