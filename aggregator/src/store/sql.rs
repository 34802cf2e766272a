//! The store over SQLite and PostgreSQL: one text for both, through `sqlx::Any`. §8
//!
//! Exactly once rests on three things: the primary key of `received`, the gate row that an admission
//! holds until it commits, and the version that a commit names. `admit` and `close` are where
//! they meet; `engine` holds what differs; `migrations/README.md` says what the text may use.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{Any, AnyPool, Transaction};
use tokio::sync::{Semaphore, SemaphorePermit};
use veilsum_crypto::ids::{ClientId, Digest, Party, RoundId, TaskId, Timestamp};
use veilsum_crypto::server::{Accepted, Admitted, Effect, PhaseKind, Received, StatementKind};

use super::engine::{self, Engine, Kind};
use super::keys::SealingKeys;
use super::seal::{RoundKey, random};
use super::seen::SeenLog;
use super::{
    Beats, Committed, FaultRow, Holder, Lease, LedgerRow, Loaded, LogHead, NewRound, Purged, Retention, RevocationRow,
    Standing, Store, StoreError, TaskRound, TaskRow, Version,
};

mod admit;
mod close;
mod keys;
mod leases;
mod log;
mod open;
mod read;
mod revocations;
mod rows;
mod schema;
mod sums;

pub use keys::SealedUnder;
pub use schema::{SCHEMA_VERSION, migrate, undo};

/// Gates of a round: as many admissions can be under way at once.
const GATES: u32 = 8;

/// How long a transaction that keeps losing races is run again.
const PATIENCE: Duration = Duration::from_secs(15);

/// How far the database's clock may be from a replica's: as far as clients bear by default, protocol.md §5.1.
pub const CLOCK_APART_MAX_S: u64 = 10 * 60;

/// Whether the clock of the database at `url` is near `now`: windows end, and headers are dated, by clocks.
///
/// # Errors
/// [`StoreError::Clock`] if they are further apart than clients bear.
pub async fn check_clock(url: &str, now: Timestamp) -> Result<(), StoreError> {
    let engine = Engine::of(url)?;
    let pool = engine.connect(url).await.map_err(Failure::from)?;
    let theirs = engine.clock(&pool).await.map_err(Failure::from);
    pool.close().await;
    let Some(theirs) = theirs? else { return Ok(()) };
    let seconds = |micros: u64| micros / 1_000_000;
    let (ours, theirs) = (seconds(now.0), seconds(u64::try_from(theirs).unwrap_or(0)));
    let (apart_s, most_s) = (ours.abs_diff(theirs), CLOCK_APART_MAX_S);
    if apart_s > most_s { Err(StoreError::Clock { apart_s, most_s, ours, theirs }) } else { Ok(()) }
}

/// The store of one replica.
pub struct SqlStore {
    pool: AnyPool,
    engine: Engine,
    keys: SealingKeys,
    seen: Option<Arc<SeenLog>>,
    writers: Semaphore,
    next_gate: AtomicU32,
}

impl SqlStore {
    /// Connects to `sqlite:path` or `postgres://..`; [`migrate`] has made the tables before.
    ///
    /// # Errors
    /// [`StoreError::Schema`] if the tables are of another version, [`StoreError::ReadOnly`] if they cannot be written,
    /// [`StoreError::UnknownKey`] if an open round is sealed under another service key.
    pub async fn open(url: &str, keys: impl Into<SealingKeys>) -> Result<Self, StoreError> {
        let engine = Engine::of(url)?;
        let pool = engine.connect(url).await.map_err(Failure::from)?;
        let store = Self {
            pool,
            engine,
            keys: keys.into(),
            seen: None,
            writers: Semaphore::new(engine.writers()),
            next_gate: AtomicU32::new(u32::from_le_bytes(random())), // replicas start apart
        };
        store.ready().await?;
        retrying(|| schema::complete(&store.pool)).await?;
        retrying(|| store.touch()).await?;
        Ok(store)
    }

    /// `sqlite` or `postgres`.
    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }

    /// Waits for what is under way, then disconnects.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Whether a transaction that writes may do so; it writes nothing.
    async fn touch(&self) -> Result<(), Failure> {
        let mut writing = self.begin().await?;
        Ok(self.engine.touch(&mut writing.tx).await?)
    }

    async fn check(&self) -> Result<(), Failure> {
        schema::check(&self.pool).await?;
        match self.engine.takes_writes(&self.pool).await? {
            true => self.check_keys().await?,
            false => return Err(StoreError::ReadOnly.into()),
        }
        self.look_at_log().await?;
        Ok(())
    }

    /// A transaction that writes; rolled back if it is dropped.
    async fn begin(&self) -> Result<Writing<'_>, Failure> {
        if let Some(contradiction) = self.seen.as_ref().and_then(|seen| seen.standing_contradiction()) {
            return Err(contradiction.into());
        }
        let permit = self.writers.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        Ok(Writing { tx: self.pool.begin_with(self.engine.begin()).await?, _permit: permit })
    }

    /// Admissions take the gates in turn.
    fn pick_gate(&self) -> i64 {
        i64::from(self.next_gate.fetch_add(1, Ordering::Relaxed) % GATES)
    }

    /// Takes erased bytes out of the files; what could not be done now is done at the next time.
    async fn forget(&self) {
        if let Ok(_permit) = self.writers.acquire().await {
            let _ = self.engine.forget(&self.pool).await;
        }
    }
}

/// An open transaction and, on SQLite, the only place in the line of writers.
struct Writing<'a> {
    tx: Transaction<'static, Any>,
    _permit: SemaphorePermit<'a>,
}

impl Writing<'_> {
    async fn commit(self) -> Result<(), Failure> {
        Ok(self.tx.commit().await?)
    }
}

/// Why a transaction ended early.
enum Failure {
    Sql(sqlx::Error),
    /// Somebody else wrote what this transaction had read.
    LostRace,
    Store(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match engine::kind(&error) {
            Kind::LostRace => Failure::LostRace,
            _ => Failure::Sql(error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error,
            Failure::LostRace => StoreError::Away("it is too busy".to_owned()),
            Failure::Sql(error) => match engine::kind(&error) {
                Kind::Away | Kind::LostRace => StoreError::Away(error.to_string()),
                Kind::NoRoom => StoreError::NoRoom(error.to_string()),
                Kind::NoTable => StoreError::Schema { found: 0, needed: SCHEMA_VERSION },
                Kind::Denied => StoreError::Denied(error.to_string()),
                Kind::ReadOnly => StoreError::ReadOnly,
                Kind::NoDatabase => StoreError::Foreign(error.to_string()),
                Kind::Refused if error.as_database_error().is_none() => {
                    StoreError::Damaged(error.to_string()) // a column of another type, or missing
                }
                Kind::Refused => StoreError::Refused(error.to_string()),
            },
        }
    }
}

/// Runs a transaction again while it loses races, each time after a longer, random pause.
async fn retrying<T, F>(mut transaction: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Failure>>,
{
    let (since, mut most_ms) = (Instant::now(), 1_u64);
    loop {
        match transaction().await {
            Err(Failure::LostRace) if since.elapsed() < PATIENCE => {
                most_ms = (2 * most_ms).min(128);
                let pause_us = u64::from_le_bytes(random()) % (most_ms * 1_000);
                tokio::time::sleep(Duration::from_micros(pause_us)).await;
            }
            other => return Ok(other?),
        }
    }
}

/// As the tables hold times.
fn micros(time: Timestamp) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

impl Store for SqlStore {
    async fn create_task(
        &self,
        task: TaskId,
        file: &str,
        model: &[u8],
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        retrying(|| self.try_create_task(task, file, model, now)).await
    }

    async fn tasks(&self) -> Result<Vec<TaskRow>, StoreError> {
        retrying(|| self.read_tasks()).await
    }

    async fn open_round(&self, new: &NewRound) -> Result<Committed, StoreError> {
        let committed = retrying(|| self.try_open_round(new)).await?;
        retrying(|| self.look_at_log()).await?;
        Ok(committed)
    }

    async fn standing(&self) -> Result<Vec<Standing>, StoreError> {
        retrying(|| self.read_standing()).await
    }

    async fn load(&self, round: RoundId) -> Result<Option<Loaded>, StoreError> {
        retrying(|| self.read_round(round)).await
    }

    async fn admit(
        &self,
        round: RoundId,
        phase: PhaseKind,
        accepted: &[Accepted],
        now: Timestamp,
    ) -> Result<Vec<Admitted>, StoreError> {
        retrying(|| self.try_admit(round, phase, accepted, now)).await
    }

    async fn fault(
        &self,
        round: RoundId,
        phase: PhaseKind,
        client: ClientId,
        rule: u8,
        evidence: &[u8],
    ) -> Result<(), StoreError> {
        retrying(|| self.try_fault(round, phase, client, rule, evidence)).await
    }

    async fn lease(
        &self,
        round: RoundId,
        version: Version,
        holder: Holder,
        stalled: Option<Beats>,
    ) -> Result<Lease, StoreError> {
        retrying(|| self.try_lease(round, version, holder, stalled)).await
    }

    async fn keep_lease(&self, round: RoundId, version: Version, holder: Holder) -> Result<(), StoreError> {
        retrying(|| self.try_keep_lease(round, version, holder)).await
    }

    async fn fence(&self, round: RoundId, phase: PhaseKind) -> Result<Received, StoreError> {
        retrying(|| self.shut_gates(round, phase)).await?;
        retrying(|| self.read_received(round, phase)).await
    }

    async fn commit(
        &self,
        round: RoundId,
        expected: Version,
        phase: PhaseKind,
        state: &[u8],
        effects: &[Effect],
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let commit = close::Commit { round, expected, phase, state, effects, now };
        let committed = retrying(|| self.try_commit(&commit)).await?;
        retrying(|| self.look_at_log()).await?;
        if committed == Committed::Yes && effects.contains(&Effect::Erase) {
            self.forget().await;
        }
        Ok(committed)
    }

    async fn newest_header(&self, task: TaskId, after: u64) -> Result<Option<(RoundId, Vec<u8>)>, StoreError> {
        let header = retrying(|| self.read_newest_header(task, after)).await?;
        retrying(|| self.look_at_log()).await?; // it is read to be signed
        Ok(header)
    }

    async fn statement(&self, round: RoundId, kind: StatementKind) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
        let fixed = retrying(|| self.read_statement(round, kind)).await?;
        retrying(|| self.look_at_log()).await?; // it is read to be signed
        Ok(fixed)
    }

    async fn bodies(
        &self,
        round: RoundId,
        phase: PhaseKind,
        clients: Option<&[ClientId]>,
    ) -> Result<BTreeMap<ClientId, Vec<u8>>, StoreError> {
        retrying(|| self.read_bodies(round, phase, clients)).await
    }

    async fn digest(&self, round: RoundId, phase: PhaseKind, client: ClientId) -> Result<Option<Digest>, StoreError> {
        retrying(|| self.read_digest(round, phase, client)).await
    }

    async fn mail(&self, round: RoundId, recipient: ClientId) -> Result<Vec<Vec<u8>>, StoreError> {
        retrying(|| self.read_mail(round, recipient)).await
    }

    async fn model(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        retrying(|| self.read_model(digest)).await
    }

    async fn ledger(&self, task: TaskId) -> Result<Vec<LedgerRow>, StoreError> {
        retrying(|| self.read_ledger(task)).await
    }

    async fn log_head(&self) -> Result<LogHead, StoreError> {
        match retrying(|| self.look_at_log()).await? {
            Some(seen) => Ok(seen),
            None => retrying(|| self.read_log_head()).await,
        }
    }

    async fn log_leaves(&self, from: u64, to: u64) -> Result<Vec<Digest>, StoreError> {
        retrying(|| self.read_log_leaves(from, to)).await
    }

    async fn faults(&self, round: RoundId) -> Result<Vec<FaultRow>, StoreError> {
        retrying(|| self.read_faults(round)).await
    }

    async fn rounds(
        &self,
        task: TaskId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(RoundId, u64, PhaseKind)>, StoreError> {
        retrying(|| self.read_rounds(task, before, limit)).await
    }

    async fn admitted(&self, round: RoundId) -> Result<BTreeMap<PhaseKind, u32>, StoreError> {
        retrying(|| self.read_admitted(round)).await
    }

    async fn has_bodies(&self, round: RoundId) -> Result<bool, StoreError> {
        retrying(|| self.read_has_bodies(round)).await
    }

    async fn task_rounds(&self, task: TaskId) -> Result<Vec<TaskRound>, StoreError> {
        retrying(|| self.read_task_rounds(task)).await
    }

    async fn put_model(&self, model: &[u8]) -> Result<bool, StoreError> {
        retrying(|| self.try_put_model(model)).await
    }

    async fn put_revocations(&self, row: &RevocationRow) -> Result<Committed, StoreError> {
        retrying(|| self.try_put_revocations(row)).await
    }

    async fn newest_revocations(&self, authority: Party) -> Result<Option<RevocationRow>, StoreError> {
        retrying(|| self.read_newest_revocations(authority)).await
    }

    async fn revocations(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        retrying(|| self.read_revocations(digest)).await
    }

    async fn purge(&self, retention: Retention) -> Result<Purged, StoreError> {
        let mut purged = Purged::default();
        for round in retrying(|| self.read_over_before(retention.rounds_before)).await? {
            purged.rounds += retrying(|| self.try_purge(round)).await?;
        }
        for round in retrying(|| self.read_kept_before(retention.bodies_before)).await? {
            purged.exports += retrying(|| self.try_erase_bodies(round)).await?;
        }
        if purged != Purged::default() {
            self.forget().await;
        }
        Ok(purged)
    }

    async fn ready(&self) -> Result<(), StoreError> {
        retrying(|| self.check()).await
    }
}
