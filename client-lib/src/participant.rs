//! Takes part in rounds: waits, trains, and carries each phase's message, written down first. Protocol §5, §4.5
//!
//! The phases of `veilsum_crypto::client` decide; what is here asks for what they need, writes down what they return and
//! sends it. `Play::run` is the round, and the same lines serve a round that is resumed: what is on disk is the truth,
//! nothing of a phase is kept between calls. So a call may be dropped at any await and made again.

mod left_out;
mod line;
mod report;
mod round;
mod served;
#[cfg(test)]
mod tests;
mod work;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand_core::UnwrapErr;
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use veilsum_crypto::client::*;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, RoundId, TaskId, Timestamp};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::Header;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::primitives::seal::SavingKey;
use veilsum_crypto::primitives::signature::Signed;
use veilsum_crypto::primitives::wipe;
use veilsum_crypto::privacy::SkellamSampler;
use veilsum_crypto::privacy::skellam::SkellamError;
use veilsum_crypto::rules::{Rule, ServerMisbehaved};
use veilsum_crypto::update::{ModelUpdate, Privacy, UpdateError, prepare};

use crate::config::{Identity, Join};
use crate::saved::{Journal, Notes, SavedError, Session};
use crate::transport::{Traffic, Transport, TransportError};
use line::{Delivery, Line};
use report::{Before, Checks};
use round::Round;
use served::{HEADER_BYTES, LEAVES_MAX, List, REPLY_BYTES_MAX};

pub use left_out::LeftOut;
pub use report::Check;
pub use work::{LocalWork, Trained, TrainerWork, has_values};

/// How long one read may wait at the aggregator, which permits 30 s.
const READ_WAIT: Duration = Duration::from_secs(25);
/// Events that a slow listener may lag behind.
const EVENTS_KEPT: usize = 256;
/// How far a header may lead on a client in one process: as R-02 permits counters to leap.
const COUNTER_LEAP_MAX: u64 = 1 << 20;

/// What a client sends, in order, and at last reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the phases of protocol §5")]
pub enum Phase {
    Advertise,
    Share,
    Acknowledge,
    Open,
    Mask,
    Confirm,
    Unmask,
    Verify,
}

impl Phase {
    /// Its name in addresses. docs/wire.md §8.1
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Advertise => "advertise",
            Self::Share => "share",
            Self::Acknowledge => "acknowledge",
            Self::Open => "open",
            Self::Mask => "mask",
            Self::Confirm => "confirm",
            Self::Unmask => "unmask",
            Self::Verify => "verify",
        }
    }
}

/// What happens while a client takes part. Names and counts, never contents.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientEvent {
    /// Something that the policy takes on trust.
    Assumes(String),
    /// A round is open.
    RoundSeen {
        /// Which.
        round: RoundId,
        /// Its counter within the task.
        counter: u64,
    },
    /// Work on a phase begins.
    PhaseEntered(Phase),
    /// Something was checked, and holds.
    Checked(Check),
    /// A message was admitted.
    Sent {
        /// Of which phase.
        phase: Phase,
        /// Its size.
        bytes: usize,
    },
    /// There is an update.
    Trained,
    /// The update was noised, masked and written down.
    Masked,
    /// Something passing went wrong; the same is tried again.
    Retrying {
        /// After this pause.
        after: Duration,
        /// What went wrong.
        why: String,
    },
    /// The aggregator broke a rule; this client takes no further part in the round.
    Stopped {
        /// The rule.
        rule: Rule,
        /// In words.
        why: String,
    },
    /// This client is not counted in the round; nobody is shown to have lied.
    LeftOut(LeftOut),
    /// The result holds.
    Verified {
        /// Of which round.
        round: RoundId,
        /// How many inputs are in the sum.
        survivors: usize,
        /// Whether the sum could be opened.
        opened: bool,
    },
    /// The round is over without this client, and nobody is wrong.
    Abandoned {
        /// As the aggregator says.
        reason: String,
    },
}

/// How a round ended for this client.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one value a round")]
pub enum RoundOutcome {
    /// The result belongs to the round that this client took part in.
    Verified {
        /// Which.
        round: RoundId,
        /// Its counter within the task.
        counter: u64,
        /// The sum, noise included; `None` if it could not be opened.
        sum: Option<RingVector>,
        /// Whose inputs are in it.
        survivors: Vec<ClientId>,
        /// The round's header.
        header: Header,
        /// Clients of its roster: they divided the noise.
        roster: u32,
        /// Whether this client's input is in it.
        update_included: bool,
    },
    /// The round is over without a result for this client, and nobody is wrong.
    Abandoned {
        /// Which.
        round: RoundId,
        /// As the aggregator says, docs/wire.md §9.
        reason: String,
    },
    /// This client is not counted, although nobody is shown to have lied; it takes no further part.
    LeftOut {
        /// In which round.
        round: RoundId,
        /// Why.
        reason: LeftOut,
    },
    /// The aggregator broke a rule.
    Stopped {
        /// Which; `None` if what came was no header of the pinned aggregator.
        round: Option<RoundId>,
        /// What it did.
        why: ServerMisbehaved,
        /// Where the bytes were kept, unless they could not be.
        evidence: Option<PathBuf>,
    },
}

impl RoundOutcome {
    /// The rule under which this client went no further, where it did not come to the end.
    pub fn rule(&self) -> Option<Rule> {
        match self {
            Self::Verified { .. } | Self::Abandoned { .. } => None,
            Self::LeftOut { reason, .. } => reason.rule(),
            Self::Stopped { why, .. } => Some(why.rule()),
        }
    }

    /// Which round it was, where there was one.
    pub fn round(&self) -> Option<RoundId> {
        match self {
            Self::Verified { round, .. } | Self::Abandoned { round, .. } | Self::LeftOut { round, .. } => Some(*round),
            Self::Stopped { round, .. } => *round,
        }
    }
}

/// Why a round was not played to an end, with neither a liar nor an ordinary end in sight.
#[derive(Debug, thiserror::Error)]
pub enum ParticipantError {
    /// The journal on disk.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// What is in it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The saved phase and the notes beside it do not belong together.
    #[error(
        "the state file names another round than the join file's aggregator has: {0}; restore the join file that belongs to it"
    )]
    OtherAggregator(ServerMisbehaved),
    /// The round under way is of another task.
    #[error(
        "a round of task {found} is under way in the state file, the join file is for task {expected}; finish that round \
         with its own join file first"
    )]
    OtherTask {
        /// In the state file.
        found: TaskId,
        /// In the join file.
        expected: TaskId,
    },
    /// The transport, for good.
    #[error(transparent)]
    Transport(TransportError),
    /// The aggregator does not know the task.
    #[error("the aggregator should know task {task}, it says: {reason}; check `task` and `server` in the join file")]
    NoTask {
        /// Which.
        task: TaskId,
        /// Its words.
        reason: String,
    },
    /// The aggregator refuses a request.
    #[error("{request} should be admitted; it was refused with {status}{}: {detail}; this client leaves the round", rule.as_deref().map(|rule| format!(", {rule}")).unwrap_or_default())]
    Refused {
        /// The path.
        request: String,
        /// The status code.
        status: u16,
        /// The rule that the aggregator names.
        rule: Option<String>,
        /// Its words.
        detail: String,
    },
    /// The model is not the one in the header.
    #[error(
        "the model of the header has SHA-256 {expected}, bytes with {found} came; the aggregator's store or the line is damaged"
    )]
    Model {
        /// In the signed header.
        expected: Digest,
        /// Of what came.
        found: Digest,
    },
    /// The work has no update for such a round. Asked before the advert.
    #[error("{0}; nothing was sent")]
    Unsuited(#[source] Box<dyn Error + Send + Sync>),
    /// An update of another length than the round's vectors.
    #[error("the round's vectors have {expected} elements, the update has {found}; this client leaves the round")]
    UpdateLen {
        /// In the header, the weight included.
        expected: usize,
        /// As it came from training.
        found: usize,
    },
    /// No update.
    #[error("training failed: {0}; this client leaves the round")]
    Training(#[source] Box<dyn Error + Send + Sync>),
    /// The update is not one for this round.
    #[error("the update cannot be sent: {0}; this client leaves the round")]
    Update(#[from] UpdateError),
    /// The noise that the round demands cannot be drawn.
    #[error("the noise of this round cannot be drawn: {0}; this client leaves the round")]
    Noise(#[from] SkellamError),
    /// The runtime is shutting down.
    #[error("interrupted: the runtime is shutting down; the round can be resumed")]
    Interrupted,
}

impl ParticipantError {
    /// Whether playing the same round again would only fail again.
    fn ends_round(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::Model { .. }
                | Self::Unsuited(_)
                | Self::UpdateLen { .. }
                | Self::Training(_)
                | Self::Update(_)
                | Self::Noise(_)
                | Self::Transport(TransportError::TooLarge { .. })
        )
    }
}

/// Why a play ends early.
#[derive(Debug)]
enum Halt {
    Over { reason: String },
    LeftOut(LeftOut),
    Misbehaved(ServerMisbehaved),
    Failed(ParticipantError),
}

impl From<ServerMisbehaved> for Halt {
    fn from(why: ServerMisbehaved) -> Self {
        LeftOut::of(&why).map_or(Self::Misbehaved(why), Self::LeftOut)
    }
}

impl<E: Into<ParticipantError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Two clocks, read at once. R-08
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;
type Noticed = Arc<dyn Fn(&[i64]) + Send + Sync>;

/// One client of one task.
pub struct Participant<T> {
    member: Arc<Membership>,
    task: TaskId,
    journal: Arc<Journal>,
    line: Line<T>,
    clock: Clock,
    on_noised: Option<Noticed>,
    /// The newest round that ended for this client in this process, for whatever reason: it waits for a later one.
    passed_counter: u64,
    has_spoken: bool,
    /// What the newest call has checked so far.
    report: Mutex<Vec<Check>>,
}

impl<T: Transport> Participant<T> {
    /// Takes hold of the state at `state_path`, which is made with the first round; its directory must exist. A round that
    /// was under way is finished by the next [`take_part`](Self::take_part).
    ///
    /// # Errors
    /// [`ParticipantError::Saved`] and [`ParticipantError::Open`], among others if another process holds the state.
    pub async fn open(
        identity: Identity,
        join: Join,
        state_path: &Path,
        transport: T,
    ) -> Result<Self, ParticipantError> {
        let saving_key = identity.saving_key();
        let Identity { secret, certificate, .. } = identity;
        let member = Arc::new(Membership { identity: secret, certificate, policy: join.policy });
        let (path, owner) = (state_path.to_path_buf(), member.clone());
        let journal = blocking(move || {
            let journal = Journal::open(&path, saving_key)?;
            load(&journal, &owner)?;
            Ok::<_, ParticipantError>(journal)
        });
        Ok(Self {
            journal: Arc::new(journal.await??),
            member,
            task: join.task,
            line: Line { transport, events: broadcast::channel(EVENTS_KEPT).0, wait: READ_WAIT },
            clock: Arc::new(system_clock),
            on_noised: None,
            passed_counter: 0,
            has_spoken: false,
            report: Mutex::default(),
        })
    }

    /// Calls `notice` with the noised integers of each update just before they are masked; for audits and demonstrations:
    /// they are this client's secret. A round resumed before its upload was written down calls it again, with other noise.
    pub fn on_noised(mut self, notice: impl Fn(&[i64]) + Send + Sync + 'static) -> Self {
        self.on_noised = Some(Arc::new(notice));
        self
    }

    /// Reads these clocks instead of the system's.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How long one read waits at the aggregator (25 s unless told).
    pub fn with_read_wait(mut self, wait: Duration) -> Self {
        self.line.wait = wait;
        self
    }

    /// What happens from now on. A listener that lags by more than 256 events misses some.
    pub fn events(&self) -> broadcast::Receiver<ClientEvent> {
        self.line.events.subscribe()
    }

    /// Bytes carried so far.
    pub fn traffic(&self) -> &Traffic {
        self.line.transport.traffic()
    }

    /// This client's id.
    pub fn client(&self) -> ClientId {
        self.member.client()
    }

    /// Every check that the newest [`take_part`](Self::take_part) made and that held, in order. A check that failed is in the
    /// outcome. A round that was resumed lists what was checked since.
    pub fn report(&self) -> Vec<Check> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What this client's data cost so far, over all rounds and tasks, at the policy's delta.
    ///
    /// # Errors
    /// [`ParticipantError::Saved`] and [`ParticipantError::Open`].
    pub async fn epsilon_spent(&self) -> Result<f64, ParticipantError> {
        let (journal, member) = (self.journal.clone(), self.member.clone());
        let (_, standing) = blocking(move || load(&journal, &member)).await??;
        Ok(standing.memory().ledger().epsilon_spent(self.member.policy.budget.delta))
    }

    /// Whether a round is under way in the state file, to be finished before another is begun.
    ///
    /// # Errors
    /// [`ParticipantError::Saved`] and [`ParticipantError::Open`].
    pub async fn is_under_way(&self) -> Result<bool, ParticipantError> {
        let (journal, member) = (self.journal.clone(), self.member.clone());
        let (_, standing) = blocking(move || load(&journal, &member)).await??;
        Ok(!matches!(standing, Resumed::Enrolled(_)))
    }

    /// Leaves the round under way for good, as after a fault of the aggregator: nothing more is sent in it, its counter is used up,
    /// and what it was charged stays charged. Whether there was one.
    ///
    /// # Errors
    /// [`ParticipantError::Saved`] and [`ParticipantError::Open`].
    pub async fn leave(&mut self) -> Result<bool, ParticipantError> {
        let was_under_way = self.is_under_way().await?;
        let session = self.journal.begin();
        self.give_up(session).await?;
        Ok(was_under_way)
    }

    /// Finishes the round under way, or else waits for the next one and plays it to its end. The call may be dropped at any
    /// time and made again. Training that was dropped runs on to its end before `work` is used again.
    ///
    /// # Errors
    /// [`ParticipantError`]. After [`Refused`](ParticipantError::Refused), `Model`, `Unsuited`, `UpdateLen`, `Training`, `Update`,
    /// `Noise` and a reply beyond its bound the round is given up; after others the next call resumes it.
    pub async fn take_part<W: LocalWork + ?Sized>(
        &mut self,
        work: &Arc<Mutex<W>>,
    ) -> Result<RoundOutcome, ParticipantError> {
        if !std::mem::replace(&mut self.has_spoken, true) {
            self.member.policy.assumptions().into_iter().for_each(|said| self.line.tell(ClientEvent::Assumes(said)));
        }
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let session = self.journal.begin();
        let (journal, member) = (self.journal.clone(), self.member.clone());
        let (notes, standing) = blocking(move || load(&journal, &member)).await??;
        let aggregator = &self.member.policy.aggregator;
        let round = match &standing {
            Resumed::Enrolled(_) => None,
            _ => Some(Round::from_notes(notes, aggregator).map_err(ParticipantError::OtherAggregator)?),
        };
        if let Some(of_another) = round.as_ref().filter(|_| standing.is_of_another_identity(&self.member)) {
            self.give_up(session).await?;
            self.line.tell(ClientEvent::LeftOut(LeftOut::EnrolledAnew));
            return Ok(RoundOutcome::LeftOut { round: of_another.id, reason: LeftOut::EnrolledAnew });
        }
        if let Some(found) = round.as_ref().map(|round| round.header.task).filter(|found| *found != self.task) {
            return Err(ParticipantError::OtherTask { found, expected: self.task });
        }
        let mut play = Play {
            of: &*self,
            session,
            work,
            round,
            training: None,
            model: None,
            phase: Phase::Advertise,
            shown: Vec::new(),
            advertised: None,
            core: None,
        };
        let ended = play.run(standing).await;
        let Play { round, phase, shown, .. } = play;
        let outcome = self.settle(session, ended, &round, phase, shown).await;
        let is_over = outcome.as_ref().map_or_else(ParticipantError::ends_round, |_| true);
        if let Some(Round { header, .. }) = round.filter(|_| is_over) {
            let leap = header.counter.saturating_sub(self.passed_counter);
            if header.task == self.task && leap <= COUNTER_LEAP_MAX {
                self.passed_counter = self.passed_counter.max(header.counter);
            }
        }
        outcome
    }

    /// Gives the round up where it did not end by itself, and says how it ended.
    async fn settle(
        &self,
        session: Session,
        ended: Result<RoundOutcome, Halt>,
        round: &Option<Round>,
        phase: Phase,
        shown: Vec<Shown>,
    ) -> Result<RoundOutcome, ParticipantError> {
        let id = round.as_ref().map(|round| round.id);
        match (ended, id) {
            (Ok(outcome), _) => Ok(outcome),
            (Err(Halt::Over { reason }), Some(round)) => {
                self.give_up(session).await?;
                self.line.tell(ClientEvent::Abandoned { reason: reason.clone() });
                Ok(RoundOutcome::Abandoned { round, reason })
            }
            (Err(Halt::LeftOut(reason)), Some(round)) => {
                self.give_up(session).await?;
                self.line.tell(ClientEvent::LeftOut(reason.clone()));
                Ok(RoundOutcome::LeftOut { round, reason })
            }
            (Err(Halt::LeftOut(_)), None) => unreachable!("a client is left out of a round, and there is none yet"),
            (Err(Halt::Over { reason }), None) => Err(ParticipantError::NoTask { task: self.task, reason }),
            (Err(Halt::Misbehaved(why)), round_id) => {
                self.give_up(session).await?;
                let (journal, rule) = (self.journal.clone(), why.rule());
                let name = round_id.map_or("no-round".to_string(), |id| id.to_string());
                let name = format!("{name}-{}-{rule}", phase.as_str());
                let bytes = evidence(round.as_ref().map(|round| &round.notes), &shown);
                let kept = blocking(move || journal.keep_evidence(&name, &bytes)).await?;
                let evidence = kept.inspect_err(|error| tracing::error!(%error, "evidence was not kept")).ok();
                self.line.tell(ClientEvent::Stopped { rule, why: why.to_string() });
                Ok(RoundOutcome::Stopped { round: round_id, why, evidence })
            }
            (Err(Halt::Failed(error)), _) => {
                if error.ends_round() {
                    self.give_up(session).await?;
                }
                Err(error)
            }
        }
    }

    /// what is on disk ends its round; the counter is used up if it was advertised.
    async fn give_up(&self, session: Session) -> Result<(), ParticipantError> {
        let (journal, member) = (self.journal.clone(), self.member.clone());
        let give_up = move || match load(&journal, &member)? {
            (_, Resumed::Enrolled(_)) => Ok(()),
            (_, standing) => {
                let turn = standing.give_up();
                turn.persist(journal.key(), &mut os_rng(), |sealed| journal.write(session, &Notes::default(), sealed))?;
                Ok::<_, ParticipantError>(())
            }
        };
        blocking(give_up).await?
    }
}

/// Bytes that the aggregator served in this phase, and as what.
type Shown = (&'static str, Arc<Vec<u8>>);

/// What a step writes with, on a thread that may block.
struct Pen {
    journal: Arc<Journal>,
    session: Session,
    notes: Notes,
}

impl Pen {
    fn key(&self) -> &SavingKey {
        self.journal.key()
    }

    fn write(&self, sealed: &Sealed) -> Result<(), SavedError> {
        self.journal.write(self.session, &self.notes, sealed)
    }
}

/// Seals a turn with a pen and names what it leads to; a macro because `Turn::persist` knows only phases.
macro_rules! persisted {
    ($pen:ident, $turn:expr => $resumed:path) => {{
        let (next, message) = $turn.persist($pen.key(), &mut os_rng(), |sealed| $pen.write(sealed))?;
        $resumed(next, message)
    }};
}

/// A step of a round, or the round is given up.
async fn in_time<R>(patience: Duration, step: impl Future<Output = Result<R, Halt>>) -> Result<R, Halt> {
    match tokio::time::timeout(patience, step).await {
        Ok(done) => done,
        Err(_) => {
            Err(Halt::Over { reason: format!("no-answer: the aggregator said nothing for {} s", patience.as_secs()) })
        }
    }
}

/// One call that plays one round.
struct Play<'a, T, W: ?Sized> {
    of: &'a Participant<T>,
    session: Session,
    work: &'a Arc<Mutex<W>>,
    round: Option<Round>,
    training: Option<JoinHandle<work::Trained>>,
    /// Fetched, not yet trained from.
    model: Option<Vec<u8>>,
    phase: Phase,
    shown: Vec<Shown>,
    /// When this call advertised, and under which core it uploaded; for the report only.
    advertised: Option<Moment>,
    core: Option<Arc<Vec<u8>>>,
}

impl<T: Transport, W: LocalWork + ?Sized> Play<'_, T, W> {
    /// The round. Each arm sends what is on disk, then takes the next step, which writes the next message down.
    async fn run(&mut self, mut standing: Resumed) -> Result<RoundOutcome, Halt> {
        loop {
            standing = match standing {
                Resumed::Enrolled(phase) => self.advertise(phase).await?,
                Resumed::AwaitingRoster(phase, advert) => {
                    self.send(Phase::Advertise, advert).await?;
                    self.start_training().await?;
                    self.share(phase).await?
                }
                Resumed::AwaitingMail(phase, shares) => {
                    self.send(Phase::Share, shares).await?;
                    self.start_training().await?;
                    self.acknowledge(phase).await?
                }
                Resumed::ReadyToMask(phase, message) => {
                    // What led here, or led here again: an opening does not leave the phase.
                    let is_opening = Signed::decode(&message, labels::OPENING).is_ok();
                    self.send(if is_opening { Phase::Open } else { Phase::Acknowledge }, message).await?;
                    self.start_training().await?;
                    self.open_or_mask(phase).await?
                }
                Resumed::AwaitingSurvivors(phase, input) => {
                    self.send(Phase::Mask, input).await?;
                    self.confirm(phase).await?
                }
                Resumed::ReadyToUnmask(phase, confirmation) => {
                    self.send_if_in_time(Phase::Confirm, confirmation).await?;
                    self.unmask(phase).await?
                }
                Resumed::AwaitingResult(phase, answer) => {
                    self.send_if_in_time(Phase::Unmask, answer).await?;
                    return self.verify(phase).await;
                }
            };
        }
    }

    /// §5.1. Waits for a round that this client has not seen, looks at all that its header names, and answers.
    async fn advertise(&mut self, enrolled: Enrolled) -> Result<Resumed, Halt> {
        let (task, aggregator) = (self.of.task, &self.of.member.policy.aggregator);
        let memory = enrolled.memory();
        let (after, log) =
            (memory.last_counter(aggregator, task).max(self.of.passed_counter), memory.log_of(aggregator));
        let round = loop {
            let path = format!("/v1/tasks/{task}/header?after={after}");
            let bytes = self.of.line.get(&path, None, HEADER_BYTES).await?;
            self.shown = vec![("header", Arc::new(bytes.clone()))];
            let round = Round::of(bytes, &self.of.member.policy.aggregator)?;
            if round.header.counter > after || round.header.counter > self.of.passed_counter {
                break round; // one that this client used up already is judged below
            }
            tokio::time::sleep(Duration::from_secs(1)).await; // an old one again: this aggregator does not heed `after`
        };
        self.of.line.tell(ClientEvent::RoundSeen { round: round.id, counter: round.header.counter });
        self.enter(Phase::Advertise);
        let header = round.header.clone();
        let (bytes, notes) = (round.notes.header.clone(), round.notes.clone());
        self.round = Some(round);

        // Judged before anything that it names is fetched.
        self.of.member.policy.permits(&header, task)?;
        let (work, asked) = (self.work.clone(), header.clone());
        blocking(move || work::suits(&work, &asked)).await?.map_err(ParticipantError::Unsuited)?;
        let mut evidence = HeaderEvidence::default();
        if header.revocation_number != 0 {
            let path = format!("/v1/revocations/{}", header.revocation_digest);
            evidence.revocations = self.fetch("revocations", &path, REPLY_BYTES_MAX).await?.to_vec();
        }
        if let Some(seen) = log.filter(|seen| (1..header.log.size).contains(&seen.size)) {
            let path = format!("/v1/log/consistency?from={}&to={}", seen.size, header.log.size);
            let proof = self.fetch("log growth", &path, 1 + 64 * 32).await?;
            evidence.log_growth = served::read_growth(&proof).map_err(ServerMisbehaved::from)?;
        }
        let (work, asked, model) = (self.work.clone(), header.clone(), self.fetch_model(&header).await?);
        let (model, accepted) = blocking(move || {
            let accepted = work::accepts(&work, &asked, &model);
            (model, accepted)
        })
        .await?;
        accepted.map_err(ParticipantError::Unsuited)?;
        self.model = Some(model);

        let now = (self.of.clock)();
        let (before, growth) =
            (Before::of(enrolled.memory(), &header, &self.of.member.policy), evidence.log_growth.len());
        let advertised = self
            .step(notes, move |pen| {
                let turn = enrolled.advertise(task, &bytes, &evidence, now, &mut os_rng())?;
                Ok(persisted!(pen, turn => Resumed::AwaitingRoster))
            })
            .await?;
        self.advertised = Some(now);
        let Membership { policy, certificate, .. } = &*self.of.member;
        self.checked(report::header(self.round(), policy, certificate.body(), &before, growth, now.wall));
        Ok(advertised)
    }

    /// §5.2. The roster, then the leaves that this client chose to see; then shares for its neighbours.
    async fn share(&mut self, awaiting: AwaitingRoster) -> Result<Resumed, Halt> {
        self.enter(Phase::Share);
        let roster_max = self.round().header.params.roster_max as usize;
        let served = self.fetch_in_round("roster", "roster", 259 + 48 * roster_max).await?;
        let (now, roster) = ((self.of.clock)(), served.clone());
        let notes = self.round().notes.clone();
        let (awaiting, evidence) = self
            .step(notes, move |pen| {
                let evidence = awaiting.examine(&roster, now, &mut os_rng())?;
                // the first valid roster counts; it is on disk before any leaf is asked for.
                let turn = awaiting.pin(&evidence);
                let (awaiting, _) = turn.persist(pen.key(), &mut os_rng(), |sealed| pen.write(sealed))?;
                Ok((awaiting, evidence))
            })
            .await?;
        let round = self.round().clone().with_roster(served.to_vec()).map_err(ServerMisbehaved::from)?;
        let notes = round.notes.clone();
        self.round = Some(round);

        let wanted: Vec<LeafIndex> = evidence.wanted().iter().copied().collect(); // sorted: hides which are the random ones
        let mut leaves = BTreeMap::new();
        for asked in wanted.chunks(LEAVES_MAX) {
            let list: Vec<String> = asked.iter().map(|leaf| leaf.0.to_string()).collect();
            let body = self
                .fetch_in_round("leaves", &format!("leaves?i={}", list.join(",")), served::leaves_bytes(asked))
                .await?;
            served::read_leaves(&body, asked, &mut leaves).map_err(ServerMisbehaved::from)?;
        }
        let opened = leaves.len();
        let shared = self
            .step(notes, move |pen| {
                let turn = awaiting.share(evidence, &leaves, &mut os_rng())?;
                Ok(persisted!(pen, turn => Resumed::AwaitingMail))
            })
            .await?;
        let after_ms = self.advertised.map(|then| now.monotonic_ms.saturating_sub(then.monotonic_ms));
        self.checked(report::roster(self.round(), self.of.client(), &self.of.member.policy, opened, after_ms));
        Ok(shared)
    }

    /// §5.3. The mailbox, and what is in it.
    async fn acknowledge(&mut self, awaiting: AwaitingMail) -> Result<Resumed, Halt> {
        self.enter(Phase::Acknowledge);
        let mailbox = self.fetch_own_list("mail", List::mail).await?;
        let notes = self.round().notes.clone();
        let acknowledged = self.step(notes, move |pen| {
            let turn = awaiting.acknowledge(&mailbox)?;
            let (next, message) = turn.persist(pen.key(), &mut os_rng(), |sealed| pen.write(sealed))?;
            Ok((next, message))
        });
        let (next, message) = acknowledged.await?;
        self.checked(report::mailbox(self.round(), &message));
        Ok(Resumed::ReadyToMask(next, message))
    }

    /// §5.4. Opens what was complained about, once; when there is nothing to open, masks.
    async fn open_or_mask(&mut self, ready: ReadyToMask) -> Result<Resumed, Halt> {
        let complaints = self.fetch_own_list("complaints", List::complaints).await?;
        let notes = self.round().notes.clone();
        let opened = self.step(notes, move |pen| {
            Ok(match ready.open(&complaints)? {
                Opened::Nothing(ready) => Err(ready),
                Opened::Opening(turn) => Ok(turn.persist(pen.key(), &mut os_rng(), |sealed| pen.write(sealed))?),
            })
        });
        match opened.await? {
            Ok((ready, opening)) => {
                self.enter(Phase::Open);
                self.checked(report::opening(self.round(), &opening));
                Ok(Resumed::ReadyToMask(ready, opening))
            }
            Err(ready) => self.mask(ready).await,
        }
    }

    /// §5.5. One update, with noise that was drawn before its values were looked at, under the core.
    async fn mask(&mut self, ready: ReadyToMask) -> Result<Resumed, Halt> {
        self.enter(Phase::Mask);
        let limit = self.round().bitmap_bytes(197);
        let core = self.fetch_in_round("core", "core", limit).await?;
        let (served, notes) = (core.clone(), self.round().notes.clone());
        let mut ready = self
            .step(notes, move |pen| {
                // the first valid core counts, and after it nothing is opened.
                let (ready, _) = ready.pin(&served)?.persist(pen.key(), &mut os_rng(), |sealed| pen.write(sealed))?;
                Ok(ready)
            })
            .await?;
        let mut openings = Vec::new();
        if ready.has_complained() {
            openings = self.fetch_own_list("openings", List::openings).await?;
        }
        let params = ready.header().params;
        let update: ModelUpdate = self.trained().await?; // of the round's length, or nothing is drawn for it
        let (variance, len) = (ready.share_variance(), update.vector_len());
        let noise = blocking(move || {
            Ok::<_, SkellamError>(SkellamSampler::new(variance)?.noise(NoiseSeed::generate(&mut os_rng()), len))
        });
        let noise = noise.await??;

        let privacy =
            Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: params.max_squared_norm };
        let (notes, notice) = (self.round().notes.clone(), self.of.on_noised.clone());
        let shown = core.clone();
        let masked = self.step(notes, move |pen| {
            ready.take_openings(&openings);
            let noised = prepare(update, noise, &privacy, &mut os_rng())?;
            if let Some(notice) = notice {
                notice(noised.values());
            }
            let turn = ready.mask(&core, noised)?;
            Ok(persisted!(pen, turn => Resumed::AwaitingSurvivors))
        });
        let masked = masked.await?;
        let epsilon = masked.memory().ledger().epsilon_spent(self.of.member.policy.budget.delta);
        let epsilon = (params.total_variance > 0).then_some(epsilon);
        self.checked(report::core(self.round(), self.of.client(), &shown, epsilon));
        self.core = Some(shown);
        self.of.line.tell(ClientEvent::Masked);
        Ok(masked)
    }

    /// §5.6. The one survivor list of this round; empty bytes where this client does not sign it.
    async fn confirm(&mut self, awaiting: AwaitingSurvivors) -> Result<Resumed, Halt> {
        self.enter(Phase::Confirm);
        let limit = self.round().bitmap_bytes(234);
        let survivors = self.fetch_in_round("survivors", "survivors", limit).await?;
        let uploads = self.fetch_own_list("uploads", List::uploads).await?;
        let (notes, shown) = (self.round().notes.clone(), survivors.clone());
        let accepted = self.step(notes, move |pen| {
            let turn = awaiting.confirm(&survivors, &uploads)?;
            Ok(persisted!(pen, turn => Resumed::ReadyToUnmask))
        });
        let accepted = accepted.await?;
        self.checked(report::survivors(self.round(), self.of.client(), &shown));
        Ok(accepted)
    }

    /// §5.7. What t of the agreement set signed; then shares.
    async fn unmask(&mut self, ready: ReadyToUnmask) -> Result<Resumed, Halt> {
        self.enter(Phase::Unmask);
        let list = List::confirmations(&self.round().placed().1);
        let body = self.fetch_in_round("confirmations", "confirmations", list.bytes_max()).await?;
        let confirmations = list.read(&body, self.round().roster()).map_err(ServerMisbehaved::from)?;
        let (notes, shown) = (self.round().notes.clone(), confirmations.len());
        let answered = self.step(notes, move |pen| {
            let turn = ready.unmask(&confirmations)?;
            Ok(turn.persist(pen.key(), &mut os_rng(), |sealed| pen.write(sealed))?)
        });
        let (next, answer) = answered.await?;
        let core = self.core.as_deref().map(Vec::as_slice);
        self.checked(report::confirmations(self.round(), self.of.client(), core, shown, &answer));
        Ok(Resumed::AwaitingResult(next, answer))
    }

    /// §5.8. The result, and an end.
    async fn verify(&mut self, awaiting: AwaitingResult) -> Result<RoundOutcome, Halt> {
        self.enter(Phase::Verify);
        let limit = 220 + self.round().header.params.packed_bytes();
        let result = self.fetch_in_round("result", "result", limit).await?;
        let served = result.clone();
        let verified = self.step(Notes::default(), move |pen| {
            let (verified, turn) = awaiting.verify(&result)?;
            turn.persist(pen.key(), &mut os_rng(), |sealed| pen.write(sealed))?;
            Ok(verified)
        });
        let Verified { sum, survivors } = verified.await?;
        self.checked(report::result(self.round(), &served));
        let round = self.round();
        let survivors: Vec<ClientId> = survivors.members().leaves().map(|leaf| round.roster().client(leaf)).collect();
        let update_included = survivors.contains(&self.of.client());
        self.of.line.tell(ClientEvent::Verified { round: round.id, survivors: survivors.len(), opened: sum.is_some() });
        let (id, header, roster) = (round.id, round.header.clone(), round.roster().n());
        let counter = header.counter;
        Ok(RoundOutcome::Verified { round: id, counter, sum, survivors, header, roster, update_included })
    }

    fn round(&self) -> &Round {
        self.round.as_ref().expect("every phase but Enrolled has a round")
    }

    /// Writes checks that held into the report, and tells them.
    fn checked(&self, checks: Checks) {
        for check in checks.into_vec() {
            self.of.report.lock().unwrap_or_else(PoisonError::into_inner).push(check.clone());
            self.of.line.tell(ClientEvent::Checked(check));
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.shown.clear();
        self.of.line.tell(ClientEvent::PhaseEntered(phase));
    }

    /// Sends what must arrive for this client to go on.
    async fn send(&mut self, phase: Phase, message: Vec<u8>) -> Result<(), Halt> {
        if message.is_empty() {
            return Ok(()); // this step wrote something down that nobody is sent
        }
        match self.put(phase, message).await? {
            Delivery::Admitted => Ok(()),
            delivery if delivery.is_only_late() => Err(Halt::LeftOut(LeftOut::Late { phase })),
            Delivery::Closed(reason) => Err(Halt::Over { reason }),
        }
    }

    /// Sends what the round may do without: enough others confirmed or answered.
    async fn send_if_in_time(&mut self, phase: Phase, message: Vec<u8>) -> Result<(), Halt> {
        if message.is_empty() {
            return Ok(()); // not of the agreement set
        }
        match self.put(phase, message).await? {
            delivery if delivery.is_only_late() => Ok(()),
            Delivery::Closed(reason) => Err(Halt::Over { reason }),
            Delivery::Admitted => Ok(()),
        }
    }

    async fn put(&mut self, phase: Phase, message: Vec<u8>) -> Result<Delivery, Halt> {
        self.phase = phase;
        let path = self.round().path_of(phase.as_str(), self.of.client());
        in_time(self.patience(), self.of.line.put(&path, phase, message)).await
    }

    /// Reads something public and remembers it as evidence for this phase.
    async fn fetch(&mut self, name: &'static str, path: &str, limit_bytes: usize) -> Result<Arc<Vec<u8>>, Halt> {
        let body = Arc::new(in_time(self.patience(), self.of.line.get(path, None, limit_bytes)).await?);
        self.shown.push((name, body.clone()));
        Ok(body)
    }

    /// How long one step of this round is waited for: ten windows of the largest roster (§7.1), and a minute for retries. An
    /// aggregator that falls silent must not hold a client for ever. How long the windows may be that it announces, the policy
    /// says; whoever minds in the middle of a round has [`Participant::leave`].
    fn patience(&self) -> Duration {
        let params = &self.round().header.params;
        let window_ms = params.windows.0.iter().copied().max().map_or(0, u64::from);
        let n = u64::from(params.roster_max);
        Duration::from_millis(10 * (window_ms + n * n / 4)) + Duration::from_secs(60)
    }

    /// Reads something that only members may read. R-35
    async fn fetch_in_round(
        &mut self,
        name: &'static str,
        what: &str,
        limit_bytes: usize,
    ) -> Result<Arc<Vec<u8>>, Halt> {
        let path = self.round().path(what);
        let permit = self.round().permit(&path, &self.of.member);
        let body = in_time(self.patience(), self.of.line.get(&path, Some(&permit), limit_bytes)).await?;
        let body = Arc::new(body);
        self.shown.push((name, body.clone()));
        Ok(body)
    }

    /// Reads a list made for this client.
    async fn fetch_own_list(
        &mut self,
        name: &'static str,
        list: fn(&veilsum_crypto::params::RosterParams) -> List,
    ) -> Result<Vec<Vec<u8>>, Halt> {
        let list = list(&self.round().placed().1);
        let what = format!("{name}/{}", self.of.client());
        let body = self.fetch_in_round(name, &what, list.bytes_max()).await?;
        Ok(list.read(&body, self.round().roster()).map_err(ServerMisbehaved::from)?)
    }

    /// The model that the header names, by its hash. Not kept as evidence: the hash says all.
    async fn fetch_model(&self, header: &Header) -> Result<Vec<u8>, Halt> {
        let expected = header.model_hash;
        let limit = REPLY_BYTES_MAX + 8 * header.params.vector_len as usize;
        let path = format!("/v1/models/{expected}");
        let model = in_time(self.patience(), self.of.line.get(&path, None, limit)).await?;
        let (model, found) = blocking(move || {
            let found = Digest(Sha256::digest(&model).into());
            (model, found)
        })
        .await?;
        if found == expected { Ok(model) } else { Err(ParticipantError::Model { expected, found }.into()) }
    }

    /// Trains beside the phases that need no update. After a restart it trains anew: no update was sent yet.
    async fn start_training(&mut self) -> Result<(), Halt> {
        if self.training.is_some() {
            return Ok(());
        }
        let header = self.round().header.clone();
        let model = match self.model.take() {
            Some(model) => model,
            None => self.fetch_model(&header).await?,
        };
        let work = self.work.clone();
        self.training = Some(spawn_blocking(move || work::train(&work, &header, &model)));
        Ok(())
    }

    async fn trained(&mut self) -> Result<ModelUpdate, Halt> {
        let training = self.training.take().expect("started in every phase before the mask");
        let update = training.await.unwrap_or_else(|error| {
            Err(if error.is_panic() { "the trainer panicked".into() } else { "the runtime is shutting down".into() })
        });
        let update = update.map_err(ParticipantError::Training)?;
        let (expected, found) = (self.round().header.params.vector_len as usize, update.vector_len());
        if found != expected {
            return Err(ParticipantError::UpdateLen { expected, found }.into());
        }
        self.of.line.tell(ClientEvent::Trained);
        Ok(update)
    }

    /// Takes one step, and writes it down, where blocking is permitted. Dropped half way, it ends as it would have: on disk or
    /// not, but never sent.
    async fn step<R: Send + 'static>(
        &self,
        notes: Notes,
        act: impl FnOnce(&Pen) -> Result<R, Halt> + Send + 'static,
    ) -> Result<R, Halt> {
        let pen = Pen { journal: self.of.journal.clone(), session: self.session, notes };
        blocking(move || act(&pen)).await?
    }
}

/// What is on disk; a client that never took part stands at the beginning.
fn load(journal: &Journal, member: &Arc<Membership>) -> Result<(Notes, Resumed), ParticipantError> {
    Ok(match journal.read()? {
        None => (Notes::default(), Resumed::Enrolled(Enrolled::new(member.clone(), Memory::new()))),
        Some((notes, sealed)) => (notes, Resumed::open(journal.key(), &sealed, member)?),
    })
}

/// What was served, for whoever is to be convinced: `"veilsum evidence v1"`, then name and bytes of each, u32 length before.
fn evidence(notes: Option<&Notes>, shown: &[Shown]) -> Vec<u8> {
    use veilsum_crypto::primitives::codec::write_prefixed;
    let mut out = b"veilsum evidence v1".to_vec();
    let mut add = |name: &str, bytes: &[u8]| {
        write_prefixed(&mut out, name.as_bytes());
        write_prefixed(&mut out, bytes);
    };
    if let Some(Notes { header, roster }) = notes {
        add("header of the round", header);
        add("roster of the round", roster);
    }
    shown.iter().for_each(|(name, bytes)| add(name, bytes));
    out
}

/// Runs `act` where it may block. A panic in it goes on here.
async fn blocking<R: Send + 'static>(act: impl FnOnce() -> R + Send + 'static) -> Result<R, ParticipantError> {
    let wiped = move || {
        let done = act();
        wipe::stack_below(); // what the step computed with leaves copies there, and the thread is kept
        done
    };
    spawn_blocking(wiped).await.map_err(|error: JoinError| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => ParticipantError::Interrupted,
    })
}

fn os_rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// The monotonic clock of this process counts from the first look at it.
fn system_clock() -> Moment {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let wall_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    Moment {
        wall: Timestamp(u64::try_from(wall_us).unwrap_or(u64::MAX)),
        monotonic_ms: u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}
