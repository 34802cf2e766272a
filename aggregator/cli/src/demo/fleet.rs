//! One round of the demo: the cohort takes part over HTTP, and some are lost on purpose.
//!
//! A lost client's task is aborted at an await of its phase: before it reads, after it has read, before it sends, or after it
//! has sent and before the reply. In the next round it starts again from what it had written down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::Semaphore;
use veilsum_aggregator::round::overview::phase_word;
use veilsum_aggregator::store::Store as _;
use veilsum_client::config::Identity;
use veilsum_client::participant::{LocalWork, Trained, TrainerWork};
use veilsum_client::training::language::{LanguageTrainer, TrainerId};
use veilsum_client::training::sgd::DemoSettings;
use veilsum_client::transport::{HttpTransport, Traffic};
use veilsum_client::{Participant, RoundOutcome, Transport as _};
use veilsum_crypto::ids::{ClientId, RoundId};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::{Bitmap, Header, RoundResult, Survivors};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{Signed, Statement};
use veilsum_crypto::server::{Phase, PhaseKind, StatementKind};

use super::data::Corpus;
use super::display::Progress;
use super::lossy::{Loss, Lossy};
use super::outcome::{ByPhase, ReplicaKilled, RoundNoise};
use super::setup::World;

/// How long a round may take in all before the demo says that something hangs.
pub const ROUND_MAX: Duration = Duration::from_secs(180);

/// All clients, between rounds.
pub struct Fleet {
    members: Vec<Member>,
    /// What this machine can do at once.
    cores: Arc<Semaphore>,
    trainings: Arc<Semaphore>,
}

struct Member {
    identity: PathBuf,
    state: PathBuf,
    client: ClientId,
    text: Vec<u8>,
    id: TrainerId,
    settings: DemoSettings,
}

/// What came of a round.
pub struct Played {
    /// Whether a sum was published.
    pub released: bool,
    /// Clients of the roster.
    pub roster: u32,
    /// The numbers of the clients in the sum.
    pub counted: Vec<usize>,
    /// Clients lost on purpose, by phase.
    pub dropped: ByPhase<u32>,
    /// Whether the published sum is the plain one.
    pub bit_exact: Option<bool>,
    /// Over all invited.
    pub bytes_up: u64,
    /// Over all invited.
    pub bytes_down: u64,
    /// How long each phase took.
    pub phases_ms: ByPhase<f64>,
    /// Why there is no sum.
    pub abandoned_because: Option<String>,
    /// How the roster divided the noise.
    pub noise: Option<RoundNoise>,
    /// Which replica of the aggregator was killed, where there are several.
    pub replica_killed: Option<ReplicaKilled>,
}

impl Fleet {
    /// One member for each text.
    pub fn new(world: &World, corpus: &Corpus, settings: &DemoSettings, seed: u64) -> Result<Self> {
        let member = |((path, text), number): ((&PathBuf, &Vec<u8>), u64)| {
            let identity = Identity::read(path)?;
            Ok(Member {
                client: identity.client(),
                identity: path.clone(),
                state: path.with_file_name("state"),
                text: text.clone(),
                id: TrainerId { seed, client: number },
                settings: *settings,
            })
        };
        let members = world.identities.iter().zip(&corpus.clients).zip(0..).map(member).collect::<Result<_>>()?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let [cores, trainings] = [2 * cores, cores].map(|count| Arc::new(Semaphore::new(count)));
        Ok(Self { members, cores, trainings })
    }

    /// Plays one round to its end.
    pub async fn play(&self, world: &World, counter: u64, losses: &[Loss], progress: &Progress) -> Result<Played> {
        let round = round_of(world, counter).await?;
        let noised = world.plan.folder.join("noised").join(counter.to_string());
        std::fs::create_dir_all(&noised)?;
        let mut tasks = Vec::new();
        let mut transports = Vec::new();
        for loss in losses {
            let member = &self.members[loss.client];
            let transport =
                Arc::new(Lossy::new(HttpTransport::new(&world.join.server)?, loss.fate, self.cores.clone()));
            transports.push(transport.clone());
            tasks.push(tokio::spawn(take_part(member.kit(world, round, &noised, self.trainings.clone())?, transport)));
        }
        let traced = tokio::time::timeout(ROUND_MAX, trace(world, round, losses.len() as u32, progress)).await;
        let phases_ms =
            traced.map_err(|_| anyhow!("round {counter} did not end within {} s", ROUND_MAX.as_secs()))??;

        let mut dropped = ByPhase::default();
        for (task, loss) in tasks.into_iter().zip(losses) {
            match task.await.context("a client's task panicked")? {
                Ended::Lost => count(&mut dropped, loss.fate.context("nobody is lost by chance")?.phase),
                // The phase of its fate never came for it: the round ended before, or it had nothing to send there.
                Ended::Outcome(outcome) => report_stop(progress, loss.client, &outcome),
                Ended::Failed(error) => progress.say(&format!("client {} failed: {error:#}", loss.client)),
            }
        }
        let traffic = |bytes: fn(&Traffic) -> u64| transports.iter().map(|transport| bytes(transport.traffic())).sum();
        let view = world.service.rounds.view(round).await?;
        let assembly = view.phase.assembly();
        let (released, abandoned_because) = match &view.phase {
            Phase::Published(_) => (true, None),
            Phase::Abandoned(reason, _) => (false, Some(reason.to_string())),
            _ => bail!("round {counter} is not over"),
        };
        let (mut counted, mut bit_exact) = (Vec::new(), None);
        if let (true, Some(assembly)) = (released, assembly) {
            let survivors = signed_survivors(world, round, assembly.params().n).await?;
            let clients: Vec<ClientId> = survivors.leaves().map(|leaf| assembly.roster().client(leaf)).collect();
            let sum = published_sum(world, round).await?;
            bit_exact = Some(is_plain_sum(&sum, &clients, &noised)?);
            counted = clients.iter().filter_map(|client| self.number_of(*client)).collect();
        }
        std::fs::remove_dir_all(&noised)?;
        Ok(Played {
            released,
            roster: assembly.map_or(0, |assembly| assembly.params().n),
            counted,
            dropped,
            bit_exact,
            bytes_up: traffic(Traffic::up_bytes),
            bytes_down: traffic(Traffic::down_bytes),
            phases_ms,
            abandoned_because,
            replica_killed: None,
            noise: assembly.filter(|_| world.plan.task.charge.is_some()).map(|assembly| RoundNoise {
                honest_shares: assembly.params().honest,
                share_variance: assembly.params().share_variance as f64,
            }),
        })
    }

    fn number_of(&self, client: ClientId) -> Option<usize> {
        self.members.iter().position(|member| member.client == client)
    }
}

fn report_stop(progress: &Progress, client: usize, outcome: &RoundOutcome) {
    match outcome {
        RoundOutcome::Stopped { why, .. } => progress.say(&format!("client {client} stopped: {why}")),
        RoundOutcome::LeftOut { reason, .. } => progress.say(&format!("client {client} is left out: {reason}")),
        RoundOutcome::Verified { .. } | RoundOutcome::Abandoned { .. } => {}
    }
}

/// Counts a client that was lost.
pub fn count(dropped: &mut ByPhase<u32>, phase: PhaseKind) {
    let place = match phase {
        PhaseKind::Advertising => &mut dropped.advertise,
        PhaseKind::Sharing => &mut dropped.share,
        PhaseKind::Acknowledging | PhaseKind::Opening => &mut dropped.acknowledge,
        PhaseKind::Masking => &mut dropped.mask,
        PhaseKind::Confirming => &mut dropped.confirm,
        _ => &mut dropped.unmask,
    };
    *place += 1;
}

/// Waits until the round with this counter is open.
async fn round_of(world: &World, counter: u64) -> Result<RoundId> {
    let header = world
        .service
        .rounds
        .newest_header(world.plan.task.id, counter - 1, Duration::from_secs(30))
        .await?
        .with_context(|| format!("round {counter} did not open within 30 s"))?;
    let signed = Signed::decode(&header, labels::HEADER)?;
    Ok(Header::from_statement(signed.statement())?.round())
}

/// Follows a round to its end; how long each phase took.
async fn trace(world: &World, round: RoundId, invited: u32, progress: &Progress) -> Result<ByPhase<f64>> {
    let rounds = &world.service.rounds;
    let mut opened: BTreeMap<PhaseKind, u64> = BTreeMap::new();
    loop {
        let view = rounds.view(round).await?;
        let kind = view.phase.kind();
        opened.entry(kind).or_insert(view.opened.0);
        if kind.is_over() {
            break;
        }
        progress.phase(phase_word(kind), view.phase.enough(invited).unwrap_or(0));
        let moved = |view: &veilsum_aggregator::round::View| (view.phase.kind() != kind).then_some(());
        while rounds.wait_for(round, Duration::from_millis(100), moved).await?.is_none() {
            let standing = rounds.store().standing().await?;
            if let Some(stand) = standing.iter().find(|stand| stand.round == round) {
                progress.arrived(stand.clients);
            }
        }
    }
    let mut phases_ms = ByPhase::default();
    let times: Vec<(PhaseKind, u64)> = opened.into_iter().collect();
    for pair in times.windows(2) {
        let ms = pair[1].1.saturating_sub(pair[0].1) as f64 / 1_000.0;
        match pair[0].0 {
            PhaseKind::Advertising => phases_ms.advertise = ms,
            PhaseKind::Sharing => phases_ms.share = ms,
            PhaseKind::Acknowledging | PhaseKind::Opening => phases_ms.acknowledge += ms,
            PhaseKind::Masking => phases_ms.mask = ms,
            PhaseKind::Confirming => phases_ms.confirm = ms,
            _ => phases_ms.unmask = ms,
        }
    }
    Ok(phases_ms)
}

/// The survivor bitmap under the aggregator's signature, as clients verify it; never the aggregator's own list of uploads.
async fn signed_survivors(world: &World, round: RoundId, n: u32) -> Result<Bitmap> {
    let served = world.service.rounds.statement(round, StatementKind::Survivors).await?;
    let signed = Signed::decode(&served, labels::SURVIVORS)?;
    if !signed.is_by(&world.join.policy.aggregator) {
        bail!("the survivor list is not signed by the aggregator");
    }
    Ok(Survivors::from_statement(signed.statement().clone(), n)?.members().clone())
}

/// The sum under the aggregator's signature.
async fn published_sum(world: &World, round: RoundId) -> Result<RingVector> {
    let served = world.service.rounds.statement(round, StatementKind::Result).await?;
    let mut reader = Reader::new(&served);
    let signed = Signed::read(&mut reader, labels::RESULT)?;
    let statement: Statement = signed.statement().clone();
    let packed = reader.rest();
    if !signed.is_by(&world.join.policy.aggregator) || !RoundResult::from_statement(statement)?.is_sum(packed) {
        bail!("the sum is not the one that the aggregator signed");
    }
    Ok(RingVector::unpack(packed, world.plan.task.params.vector_len as usize, world.plan.task.params.ring_bits)?)
}

/// Whether a sum is, bit for bit, that of what these clients wrote down before they masked.
pub fn is_plain_sum(sum: &RingVector, clients: &[ClientId], noised: &Path) -> Result<bool> {
    let mut plain = RingVector::zeros(sum.len(), sum.bits());
    for client in clients {
        let Ok(bytes) = std::fs::read(noised.join(client.to_string())) else { return Ok(false) };
        let values: Vec<i64> =
            bytes.chunks_exact(8).map(|eight| i64::from_le_bytes(eight.try_into().expect("chunks of eight"))).collect();
        plain.add_assign(&RingVector::from_signed(&values, sum.bits()))?;
    }
    Ok(plain == *sum)
}

/// What a client's task needs.
struct Kit {
    round: RoundId,
    identity: Identity,
    join: veilsum_client::Join,
    state: PathBuf,
    work: Arc<Mutex<InTurn>>,
    noised: PathBuf,
}

impl Member {
    fn kit(&self, world: &World, round: RoundId, noised: &Path, trainings: Arc<Semaphore>) -> Result<Kit> {
        Ok(Kit {
            round,
            identity: Identity::read(&self.identity)?,
            join: world.join.clone(),
            state: self.state.clone(),
            work: Arc::new(Mutex::new(InTurn {
                work: TrainerWork::new(LanguageTrainer::new(&self.text, self.settings.local, self.id)?),
                trainings,
            })),
            noised: noised.join(self.client.to_string()),
        })
    }
}

/// Local training, a few clients at a time: it runs beside the key phases and must not hold them up.
struct InTurn {
    work: TrainerWork<LanguageTrainer>,
    trainings: Arc<Semaphore>,
}

impl LocalWork for InTurn {
    fn suits(&mut self, header: &Header) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.work.suits(header)
    }

    fn train(&mut self, header: &Header, model: &[u8]) -> Trained {
        let _turn = tokio::runtime::Handle::current().block_on(self.trainings.acquire())?;
        self.work.train(header, model)
    }
}

/// How a client's task ended.
enum Ended {
    Outcome(Box<RoundOutcome>),
    Lost,
    Failed(anyhow::Error),
}

async fn take_part(kit: Kit, transport: Arc<Lossy>) -> Ended {
    let Kit { round, identity, join, state, work, noised } = kit;
    let gone = transport.clone();
    let played = async move {
        let participant = Participant::open(identity, join, &state, transport).await?;
        // Written down before it is masked: what the published sum is compared with.
        let mut participant = participant.on_noised(move |values: &[i64]| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            if let Err(error) = std::fs::write(&noised, bytes) {
                tracing::error!(%error, "a noised vector could not be written down");
            }
        });
        loop {
            // A client that was lost first ends the round that it was lost in.
            let outcome = participant.take_part(&work).await?;
            let is_stop = matches!(outcome, RoundOutcome::Stopped { .. });
            if is_stop || outcome.round() == Some(round) {
                return Ok(outcome);
            }
        }
    };
    // Whichever comes first: dropping the round's future is what a crash is.
    tokio::select! {
        () = gone.lost.notified() => Ended::Lost,
        outcome = played => match outcome {
            Ok(outcome) => Ended::Outcome(Box::new(outcome)),
            Err::<_, veilsum_client::ParticipantError>(error) => Ended::Failed(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veilsum_crypto::math::ring::RingBits;

    /// The comparison behind `bit_exact` sees one flipped bit.
    #[test]
    fn one_flipped_bit_in_what_was_written_down_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let bits = RingBits::new(16).expect("in range");
        let clients = [ClientId([1; 16]), ClientId([2; 16])];
        let vectors = [[3_i64, -7, 12], [-4, 0, 32_000]];
        let mut sum = RingVector::zeros(3, bits);
        for (client, values) in clients.iter().zip(&vectors) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            std::fs::write(folder.path().join(client.to_string()), bytes).expect("written");
            sum.add_assign(&RingVector::from_signed(values, bits)).expect("one ring");
        }
        assert!(is_plain_sum(&sum, &clients, folder.path()).expect("readable"));
        let path = folder.path().join(clients[1].to_string());
        let mut bytes = std::fs::read(&path).expect("written");
        bytes[16] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        assert!(!is_plain_sum(&sum, &clients, folder.path()).expect("readable"));
    }
}
