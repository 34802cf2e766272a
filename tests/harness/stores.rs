//! The stores that one suite runs on, as two replicas see them, and the steps that its cases share.
//!
//! For tests/tests/store.rs (what every store must do) and tests/tests/interrupted.rs (what interruptions must not change).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use veilsum_aggregator::store::seal::ServiceKey;
use veilsum_aggregator::store::sql::{SqlStore, migrate};
use veilsum_aggregator::store::{Committed, NewRound, Store};
use veilsum_crypto::ids::{ClientId, Digest, RoundId, TaskId, Timestamp};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::server::{Accepted, Admitted, Effect, Keep, PhaseKind, StatementKind};

use crate::dice::Dice;
use crate::memory_store::MemoryStore;
use crate::postgres::Schema;
use crate::sql_proxy::{Fault, SqlProxy};

/// The task of the cases.
pub const TASK: TaskId = TaskId([0x7a; 16]);
/// The service key of the replicas, in hex.
pub const KEY: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";
/// The log salt of every round.
pub const SALT: [u8; 32] = [0x5a; 32];

/// Two replicas of one store, and what must outlive them.
pub struct World<S> {
    /// One replica.
    pub a: Arc<S>,
    /// The other.
    pub b: Arc<S>,
    clock: AtomicU64,
    /// Dropped last.
    pub home: Home,
}

/// Where the data are; it goes with this.
pub enum Home {
    /// Nowhere.
    Memory,
    /// In `veilsum.db` of a directory.
    Directory(TempDir),
    /// In a schema of a server.
    Schema(Schema),
    /// The same, with something between.
    Proxied(Schema, [SqlProxy; 2]),
}

/// The twin in memory.
pub async fn memory() -> World<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    World { a: store.clone(), b: store, clock: AtomicU64::new(1), home: Home::Memory }
}

/// A file.
pub async fn sqlite() -> World<SqlStore> {
    let dir = tempfile::tempdir().expect("a directory");
    let url = sqlite_url(&dir);
    two_replicas(&url, Home::Directory(dir)).await
}

/// PostgreSQL.
pub async fn postgres() -> World<SqlStore> {
    let schema = Schema::create().await;
    let url = schema.url();
    two_replicas(&url, Home::Schema(schema)).await
}

/// PostgreSQL that says again and again that a race was lost: the first time that a statement comes, and by chance.
pub async fn losing_races() -> World<SqlStore> {
    let schema = Schema::create().await;
    migrate(&schema.url()).await.expect("migrations apply");
    let proxies = [SqlProxy::before(&schema.server()).await, SqlProxy::before(&schema.server()).await];
    for (seed, proxy) in (1..).zip(&proxies) {
        let (mut known, mut dice) = (BTreeSet::new(), Dice::new(seed, "races"));
        proxy.judge(move |request| {
            let is_meant = known.insert(request.text.clone()) || dice.below(40) == 0;
            let code = if dice.below(2) == 0 { "40001" } else { "40P01" };
            (is_meant && !request.is_rollback()).then_some(Fault::Raise(code))
        });
    }
    let [a, b] = proxies.each_ref().map(|proxy| schema.url_over(proxy.address));
    let (a, b) = (open(&a).await.into(), open(&b).await.into());
    World { a, b, clock: AtomicU64::new(1), home: Home::Proxied(schema, proxies) }
}

/// Two replicas on the database at this address.
pub async fn two_replicas(url: &str, home: Home) -> World<SqlStore> {
    migrate(url).await.expect("migrations apply");
    let (a, b) = (Arc::new(open(url).await), Arc::new(open(url).await));
    World { a, b, clock: AtomicU64::new(1), home }
}

/// A replica.
pub async fn open(url: &str) -> SqlStore {
    SqlStore::open(url, ServiceKey::from_hex(KEY).expect("a key")).await.expect("the store opens")
}

/// Its file in this directory.
pub fn sqlite_url(dir: &TempDir) -> String {
    format!("sqlite:{}", dir.path().join("veilsum.db").display())
}

/// Runs a case on two threads.
pub fn block_on(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(case);
}

impl<S: Store> World<S> {
    /// A later time at every call.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock.fetch_add(1, Ordering::Relaxed))
    }

    /// The task, with its first model.
    pub async fn create_task(&self) {
        let created = self.a.create_task(TASK, "file", b"model", self.now()).await;
        assert_eq!(created.expect("the store answers"), Committed::Yes);
    }

    /// The round with this counter.
    pub fn new_round(&self, counter: u64) -> NewRound {
        NewRound {
            round: round(counter),
            task: TASK,
            counter,
            header: format!("header {counter}").into_bytes(),
            state: b"advertising".to_vec(),
            opened: self.now(),
            salt: SALT,
            charge: format!("charge {counter}").into_bytes(),
        }
    }

    /// A round of a new task, in its first phase.
    pub async fn round(&self) -> RoundId {
        self.create_task().await;
        self.next_round(1).await
    }

    /// Opens the round with this counter.
    pub async fn next_round(&self, counter: u64) -> RoundId {
        let opened = self.a.open_round(&self.new_round(counter)).await;
        assert_eq!(opened.expect("the store answers"), Committed::Yes);
        round(counter)
    }

    /// A commit by the first replica that must win.
    pub async fn commit(&self, round: RoundId, phase: PhaseKind, effects: &[Effect]) {
        let version = self.a.load(round).await.expect("it answers").expect("it stands").version;
        let committed = self.a.commit(round, version, phase, b"state", effects, self.now()).await;
        assert_eq!(committed.expect("the store answers"), Committed::Yes, "to {phase:?}");
    }

    /// What the first replica answers.
    pub async fn admit(&self, round: RoundId, phase: PhaseKind, batch: &[Accepted]) -> Vec<Admitted> {
        self.a.admit(round, phase, batch, self.now()).await.expect("the store answers")
    }

    /// The sum, as a round gets it: at unmasking.
    pub async fn sum(&self, round: RoundId) -> Option<Vec<i64>> {
        self.commit(round, PhaseKind::Confirming, &[]).await;
        self.commit(round, PhaseKind::Unmasking, &[]).await;
        let received = self.b.fence(round, PhaseKind::Unmasking).await.expect("it answers");
        received.sum.map(|sum| sum.to_signed())
    }
}

/// A round's id.
pub fn round(counter: u64) -> RoundId {
    RoundId([counter as u8; 16])
}

/// A client's id.
pub fn client(number: u64) -> ClientId {
    let mut id = [0xc1; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    ClientId(id)
}

/// SHA-256.
pub fn digest(text: impl AsRef<[u8]>) -> Digest {
    Digest(Sha256::digest(text).into())
}

/// A message that is kept as it is.
pub fn message(from: ClientId, body: &str) -> Accepted {
    Accepted::unjudged(from, digest(body), Keep::Body(body.into()), Vec::new())
}

/// A message that claims keys.
pub fn advert(from: ClientId, body: &str, keys: &[&str]) -> Accepted {
    let claims = keys.iter().map(digest).collect();
    Accepted::unjudged(from, digest(body), Keep::Body(body.into()), claims)
}

/// A message that is added to the sum, in a ring of 64 bits.
pub fn input(from: ClientId, statement: &str, values: &[i64]) -> Accepted {
    let bits = RingBits::new(64).expect("64 bits are allowed");
    let vector = RingVector::from_signed(values, bits);
    let keep = Keep::Sum { statement: statement.into(), vector };
    Accepted::unjudged(from, digest(statement), keep, Vec::new())
}

/// A statement to be fixed.
pub fn statement(kind: StatementKind, text: &str) -> Effect {
    Effect::Statement { kind, bytes: text.into(), attachment: b"attachment".to_vec() }
}

/// Elements of the vectors of [`bit`].
pub const SUM_LEN: usize = 12;

/// A power of two that no other input has.
pub fn bit(client: u64, altered: bool) -> Vec<i64> {
    let place = client as usize + if altered { 360 } else { 0 };
    let mut values = vec![0; SUM_LEN];
    values[place / 60] = 1 << (place % 60);
    values
}

/// Adds without a ring.
pub fn add(sum: &mut [i64], values: &[i64]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}
