//! What the aggregator must not forget: the store's verbs. §8
//!
//! Five verbs carry a round ([`Store::standing`], [`Store::load`], [`Store::admit`],
//! [`Store::fence`], [`Store::commit`]); the rest open rounds and read what was fixed. Phases and
//! statements are opaque bytes here. Every guard is a WHERE or a primary key, correct at READ
//! COMMITTED; every verb may be repeated after an ambiguous answer. `sql` implements it for
//! SQLite and PostgreSQL; the tests hold a twin in memory.

use std::collections::BTreeMap;
use std::future::Future;

use veilsum_crypto::ids::{ClientId, Digest, Party, RoundId, TaskId, Timestamp};
use veilsum_crypto::server::{Accepted, Admitted, Effect, PhaseKind, Received, StatementKind};

pub use veilsum_crypto::transparency::entry::{Charge, ledger_entry, root_entry, statement_entry};

pub mod engine;
pub mod keys;
pub mod seal;
pub mod seen;
pub mod sql;

/// Why the store could not answer. We are at fault, never the sender.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or it broke; trying again is safe.
    #[error("the database cannot be reached: {0}; check that it runs and that the address is right")]
    Away(String),
    /// It answers, and its disk takes nothing more; trying again is safe.
    #[error("the database cannot write: {0}; its disk is full or fails: make room, and what was under way goes on")]
    NoRoom(String),
    /// The tables are of another version.
    #[error(
        "the database has schema version {found}, this program needs {needed}; run `veilsum migrate` with the newer of the two programs"
    )]
    Schema {
        /// What the tables say (0: none).
        found: i64,
        /// What this program was built for.
        needed: i64,
    },
    /// A row that this program wrote cannot be read back.
    #[error("a stored row is damaged: {0}")]
    Damaged(String),
    /// It answers, and did not do what was asked: a limit, a CHECK.
    #[error("the database refused a statement: {0}")]
    Refused(String),
    /// It lets this role not in, or not to a table.
    #[error(
        "the database does not permit this: {0}; check its name, the role, the password (PGPASSFILE names a file that only its owner can read) and what the role was granted (aggregator/deploy/postgres)"
    )]
    Denied(String),
    /// Half of a schema.
    #[error("the tables are incomplete: {0}; restore the backup from before the upgrade, then run `veilsum migrate`")]
    Incomplete(String),
    /// Something else than this program's tables.
    #[error("the database belongs to another program: {0}; give this service a database of its own")]
    Foreign(String),
    /// One of the two clocks is wrong.
    #[error(
        "the clocks are {apart_s} s apart, at most {most_s} s were expected: it is {ours} here and {theirs} at the database, in seconds since 1970; set the one that is wrong"
    )]
    Clock {
        /// How far.
        apart_s: u64,
        /// How far is borne.
        most_s: u64,
        /// This machine's.
        ours: u64,
        /// The database's.
        theirs: u64,
    },
    /// It takes no writes.
    #[error(
        "the database takes no writes: it is a standby, or was made read-only; give the address of the one that writes"
    )]
    ReadOnly,
    /// Sealed bytes do not open under the service keys.
    #[error("a sealed row does not open: the service key is not the one that sealed it, or the row was changed")]
    WrongKey,
    /// Sealed under a key that this replica does not have.
    #[error(
        "a row is sealed under the service key {sealed_by}, this replica has {held}; give it the newest sealing.key, or restore the old one"
    )]
    UnknownKey {
        /// The key's public id.
        sealed_by: String,
        /// Those of the keys that are there.
        held: String,
    },
    /// The key that seals was rotated away.
    #[error(
        "the service key {key} was retired by `veilsum keys rotate` and seals nothing more; give this replica the newest sealing.key"
    )]
    RetiredKey {
        /// The key's public id.
        key: String,
    },
    /// The log is not the one that this replica has seen, grown.
    #[error(
        "the log in this database is not the one that this replica has seen: {expected} were expected ({path}), {came} came. It was restored from an older backup, or is another database: restore a newer one, or begin anew with an empty database and a new aggregator.key"
    )]
    OtherLog {
        /// What was seen.
        expected: String,
        /// What is there.
        came: String,
        /// The file that says so.
        path: String,
    },
    /// What was seen of the log cannot be read or written.
    #[error(
        "what this replica has seen of the log cannot be kept in {path}: {why}; make room and let the service write there, or restore the file"
    )]
    Record {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The service keys cannot be read any more.
    #[error("the service keys cannot be read again: {0}")]
    Keys(String),
    /// What stands here is another aggregator's.
    #[error(
        "the rounds in this database are those of another aggregator key; give this service that key file (service/aggregator.key), or a database of its own"
    )]
    WrongAggregator,
}

/// Counts commits of a round; every commit names the one it read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version(pub i64);

/// Where an open round stands, without its state: what the watch loop polls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Which round.
    pub round: RoundId,
    /// Of which task.
    pub task: TaskId,
    /// Its last commit.
    pub version: Version,
    /// The phase it is in.
    pub phase: PhaseKind,
    /// When this phase opened.
    pub opened: Timestamp,
    /// When the last fresh message of this phase was admitted; `opened` if none was.
    pub last: Timestamp,
    /// Admissions of somebody fresh so far in this phase, over all gates.
    pub batches: u64,
    /// Fresh clients admitted in this phase, over all gates.
    pub clients: u32,
}

/// A round as it was last committed.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Of which task.
    pub task: TaskId,
    /// The unsigned header statement.
    pub header: Vec<u8>,
    /// The phase, as `Phase::encode` wrote it.
    pub state: Vec<u8>,
    /// The same, as SQL knows it.
    pub phase: PhaseKind,
    /// The commit that wrote it.
    pub version: Version,
    /// When the phase opened.
    pub opened: Timestamp,
    /// The round's log salt, §9.
    pub salt: [u8; 32],
    /// When the round was over; `None` until then.
    pub over: Option<Timestamp>,
}

/// A task as the operator created it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskRow {
    /// Its name in the protocol.
    pub task: TaskId,
    /// The task file, as given (TOML).
    pub file: String,
    /// SHA-256 of the current model.
    pub model: Digest,
    /// Counter of the newest round; 0 before the first.
    pub counter: u64,
    /// A round of this task is open now.
    pub open: bool,
}

/// A round about to open: everything in one transaction, or nothing.
#[derive(Clone, Debug)]
pub struct NewRound {
    /// First 16 bytes of the header root.
    pub round: RoundId,
    /// Of which task.
    pub task: TaskId,
    /// Exactly one above the task's newest counter, or it conflicts.
    pub counter: u64,
    /// The unsigned header statement.
    pub header: Vec<u8>,
    /// The first phase.
    pub state: Vec<u8>,
    /// When it opens.
    pub opened: Timestamp,
    /// 32 random bytes for the round's log leaves.
    pub salt: [u8; 32],
    /// What the round reserves, `RdpCurve` bytes, R-26.
    pub charge: Vec<u8>,
}

/// One entry of a task's ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerRow {
    /// The round's counter.
    pub counter: u64,
    /// `RdpCurve` bytes.
    pub charge: Vec<u8>,
    /// Spent (true) or only reserved.
    pub spent: bool,
}

/// The log's head: how many leaves, and their Merkle root. §9
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogHead {
    /// Leaves so far.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: Digest,
}

/// Who is named in a round, for which rule, with the signed bytes that prove it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultRow {
    /// In which phase.
    pub phase: PhaseKind,
    /// Who.
    pub client: ClientId,
    /// The rule broken.
    pub rule: u8,
    /// The client's message.
    pub evidence: Vec<u8>,
}

/// A revocation list as the authority signed it. §4.3
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevocationRow {
    /// Root of the list.
    pub digest: Digest,
    /// Who signed it.
    pub authority: Party,
    /// Counts the lists of this authority.
    pub number: u64,
    /// The signed bytes, as served.
    pub bytes: Vec<u8>,
    /// When the operator gave it to the service.
    pub received: Timestamp,
}

/// Which round had a counter of a task; it outlives the round's record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskRound {
    /// The counter.
    pub counter: u64,
    /// The round.
    pub round: RoundId,
    /// Its log salt, §9.
    pub salt: [u8; 32],
}

/// What `purge` deletes: of rounds that were over before these times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Everything but statements, log, ledger and faults.
    pub rounds_before: Timestamp,
    /// The messages that only an export needs.
    pub bodies_before: Timestamp,
}

/// What `purge` did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Purged {
    /// Rounds of which only statements and faults are left.
    pub rounds: u64,
    /// Rounds whose messages were erased; digests are left.
    pub exports: u64,
}

/// A statement as it was fixed: unsigned bytes, and the attachment.
pub type Fixed = (Vec<u8>, Vec<u8>);

/// A replica's token: 16 random bytes, drawn when it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder(pub [u8; 16]);

/// Counts the signs of life of a lease; it only grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Beats(pub i64);

/// Who computes a closing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lease {
    /// Who asked.
    Held {
        /// How often this closing was begun, this time included.
        attempts: u32,
    },
    /// Another replica.
    Elsewhere {
        /// Its signs of life so far.
        beats: Beats,
    },
    /// Nobody: the round moved on, or is over.
    Moved,
}

/// What became of a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Committed {
    /// Written.
    Yes,
    /// Somebody else committed first; nothing was written.
    Conflict,
}

/// The store's verbs. Every future is `Send`, every verb safe to repeat.
pub trait Store: Send + Sync + 'static {
    /// Creates a task with its first model; the same file again changes nothing, another file under one id is `Conflict`.
    fn create_task(
        &self,
        task: TaskId,
        file: &str,
        model: &[u8],
        now: Timestamp,
    ) -> impl Future<Output = Result<Committed, StoreError>> + Send;
    /// All tasks.
    fn tasks(&self) -> impl Future<Output = Result<Vec<TaskRow>, StoreError>> + Send;
    /// Opens a round: round, gates, header statement, reservation, the log leaves of both. `Conflict` where another replica was first.
    fn open_round(&self, new: &NewRound) -> impl Future<Output = Result<Committed, StoreError>> + Send;

    /// Every round that is not over, one query.
    fn standing(&self) -> impl Future<Output = Result<Vec<Standing>, StoreError>> + Send;
    /// A round, over or not.
    fn load(&self, round: RoundId) -> impl Future<Output = Result<Option<Loaded>, StoreError>> + Send;
    /// Parallel; one transaction: gate, rows, mail, one partial sum. Durable when it returns. Safe to repeat.
    /// One answer for every message, in the order of `accepted`; of two by one client the first counts. Where the phase
    /// has closed, digests answer for those who were admitted before, and `Closed` for the others.
    fn admit(
        &self,
        round: RoundId,
        phase: PhaseKind,
        accepted: &[Accepted],
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<Admitted>, StoreError>> + Send;
    /// Writes at most one fault row per (round, phase, client).
    fn fault(
        &self,
        round: RoundId,
        phase: PhaseKind,
        client: ClientId,
        rule: u8,
        evidence: &[u8],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Takes the lease of the closing that begins from `version`: where nobody has it, where it is `holder`'s, or where it
    /// still stands at `stalled` beats. It spares work and guards nothing.
    fn lease(
        &self,
        round: RoundId,
        version: Version,
        holder: Holder,
        stalled: Option<Beats>,
    ) -> impl Future<Output = Result<Lease, StoreError>> + Send;
    /// A sign of life of who holds a lease; nothing where it does not.
    fn keep_lease(
        &self,
        round: RoundId,
        version: Version,
        holder: Holder,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Shuts the gates of `phase`; returns once no admission is in flight, with everything received. Safe to repeat.
    /// What [`Received::needs`] names is filled, and `sum` for Unmasking.
    fn fence(&self, round: RoundId, phase: PhaseKind) -> impl Future<Output = Result<Received, StoreError>> + Send;
    /// Optimistic: phase, effects with their log leaves, ledger, and the gates of the next phase, or nothing.
    fn commit(
        &self,
        round: RoundId,
        expected: Version,
        phase: PhaseKind,
        state: &[u8],
        effects: &[Effect],
        now: Timestamp,
    ) -> impl Future<Output = Result<Committed, StoreError>> + Send;

    /// The newest round of a task whose counter is above `after`: (round, unsigned header).
    fn newest_header(
        &self,
        task: TaskId,
        after: u64,
    ) -> impl Future<Output = Result<Option<(RoundId, Vec<u8>)>, StoreError>> + Send;
    /// A fixed statement: unsigned bytes and attachment.
    fn statement(
        &self,
        round: RoundId,
        kind: StatementKind,
    ) -> impl Future<Output = Result<Option<Fixed>, StoreError>> + Send;
    /// Bodies of some clients (`None`: of all) in one phase, as long as they are kept: answers until the round is over, others
    /// until retention ends; of a round that never had a roster, until it is over.
    fn bodies(
        &self,
        round: RoundId,
        phase: PhaseKind,
        clients: Option<&[ClientId]>,
    ) -> impl Future<Output = Result<BTreeMap<ClientId, Vec<u8>>, StoreError>> + Send;
    /// The digest of what a client sent in a phase; it outlives erasure.
    fn digest(
        &self,
        round: RoundId,
        phase: PhaseKind,
        client: ClientId,
    ) -> impl Future<Output = Result<Option<Digest>, StoreError>> + Send;
    /// A mailbox, in the order of dealers' ids.
    fn mail(
        &self,
        round: RoundId,
        recipient: ClientId,
    ) -> impl Future<Output = Result<Vec<Vec<u8>>, StoreError>> + Send;
    /// Model bytes by digest.
    fn model(&self, digest: Digest) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;
    /// A task's charges, by counter; lapsed ones are absent.
    fn ledger(&self, task: TaskId) -> impl Future<Output = Result<Vec<LedgerRow>, StoreError>> + Send;
    /// The log's head.
    fn log_head(&self) -> impl Future<Output = Result<LogHead, StoreError>> + Send;
    /// Leaf hashes `from..to` of the log.
    fn log_leaves(&self, from: u64, to: u64) -> impl Future<Output = Result<Vec<Digest>, StoreError>> + Send;
    /// Faults of a round, by phase, then client.
    fn faults(&self, round: RoundId) -> impl Future<Output = Result<Vec<FaultRow>, StoreError>> + Send;
    /// Rounds of a task with a counter below `before` (`None`: all) and their phase, newest first, at most `limit`.
    fn rounds(
        &self,
        task: TaskId,
        before: Option<u64>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<(RoundId, u64, PhaseKind)>, StoreError>> + Send;
    /// How many clients were admitted in each phase of a round; phases with none are absent.
    fn admitted(&self, round: RoundId) -> impl Future<Output = Result<BTreeMap<PhaseKind, u32>, StoreError>> + Send;
    /// Whether any body of a round is still kept.
    fn has_bodies(&self, round: RoundId) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Every round that a task ever opened, by counter.
    fn task_rounds(&self, task: TaskId) -> impl Future<Output = Result<Vec<TaskRound>, StoreError>> + Send;
    /// Keeps model bytes under their digest; whether they were new.
    fn put_model(&self, model: &[u8]) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Keeps a revocation list, if its number is above every one of its authority's; the same list again changes nothing.
    fn put_revocations(&self, row: &RevocationRow) -> impl Future<Output = Result<Committed, StoreError>> + Send;
    /// The list with the largest number of an authority.
    fn newest_revocations(
        &self,
        authority: Party,
    ) -> impl Future<Output = Result<Option<RevocationRow>, StoreError>> + Send;
    /// The signed bytes of a list.
    fn revocations(&self, digest: Digest) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;
    /// Deletes what retention no longer covers.
    fn purge(&self, retention: Retention) -> impl Future<Output = Result<Purged, StoreError>> + Send;
    /// The database answers and has the right schema.
    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}
