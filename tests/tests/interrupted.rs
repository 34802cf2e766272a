//! What interruptions must not change: every statement of the store on PostgreSQL is broken, in every way that a server and a
//! network have, and what was written in the end is what is written when nothing breaks. Claim C-251.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use veilsum_aggregator::store::sql::{SqlStore, migrate};
use veilsum_aggregator::store::{Committed, Holder, Lease, NewRound, Retention, RevocationRow, Store, StoreError};
use veilsum_crypto::ids::{Party, RoundId, Timestamp};
use veilsum_crypto::server::{Accepted, Admitted, Effect, Keep, PhaseKind, StatementKind};
use verification::postgres::Schema;
use verification::sql_proxy::{Fault, Request, SqlProxy};
use verification::stores::{
    SALT, SUM_LEN, TASK, add, advert, bit, block_on, client, digest, input, message, open, round, statement,
};

const HOLDER: Holder = Holder([7; 16]);

/// Everything that can happen to one statement.
const FAULTS: [Fault; 10] = [
    Fault::Raise("40001"),
    Fault::Raise("40P01"),
    Fault::Raise("08006"),
    Fault::Raise("57P01"),
    Fault::Raise("53300"),
    Fault::Raise("53100"),
    Fault::End("57P01"),
    Fault::End("53300"),
    Fault::CutBefore,
    Fault::CutAfter,
];

/// Two replicas on one schema, each over a proxy.
struct Stage {
    stores: [Arc<SqlStore>; 2],
    proxies: [SqlProxy; 2],
    /// Dropped last.
    _schema: Schema,
}

impl Stage {
    async fn set() -> Self {
        let schema = Schema::create().await;
        migrate(&schema.url()).await.expect("migrations apply");
        let proxies = [SqlProxy::before(&schema.server()).await, SqlProxy::before(&schema.server()).await];
        let [a, b] = proxies.each_ref().map(|proxy| schema.url_over(proxy.address));
        Self { stores: [open(&a).await.into(), open(&b).await.into()], proxies, _schema: schema }
    }

    /// One judgement over both.
    fn judge(&self, judge: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        let judge = Arc::new(Mutex::new(judge));
        for proxy in &self.proxies {
            let judge = judge.clone();
            proxy.judge(move |request| (judge.lock().expect("no judge panics"))(request));
        }
    }
}

/// The verbs of one story, each repeated while the database is away, as their callers do.
struct Teller<'a> {
    store: &'a SqlStore,
    /// How often it was.
    away: AtomicUsize,
}

impl Teller<'_> {
    async fn insist<T>(&self, verb: impl AsyncFn(&SqlStore) -> Result<T, StoreError>) -> (T, bool) {
        let mut was_away = false;
        loop {
            match verb(self.store).await {
                Ok(answer) => return (answer, was_away),
                Err(StoreError::Away(_) | StoreError::NoRoom(_)) => {
                    self.away.fetch_add(1, Ordering::Relaxed);
                    was_away = true;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    async fn ask<T>(&self, verb: impl AsyncFn(&SqlStore) -> Result<T, StoreError>) -> T {
        self.insist(verb).await.0
    }

    async fn create_task(&self) {
        let created = self.ask(async |store| store.create_task(TASK, "file", b"model", Timestamp(1)).await).await;
        assert_eq!(created, Committed::Yes);
    }

    async fn open_round(&self, counter: u64) {
        let new = NewRound {
            round: round(counter),
            task: TASK,
            counter,
            header: format!("header {counter}").into_bytes(),
            state: b"advertising".to_vec(),
            opened: Timestamp(10 * counter),
            salt: SALT,
            charge: format!("charge {counter}").into_bytes(),
        };
        assert_eq!(self.ask(async |store| store.open_round(&new).await).await, Committed::Yes);
    }

    async fn admit(&self, round: RoundId, phase: PhaseKind, batch: &[Accepted]) {
        let (answers, was_away) =
            self.insist(async |store| store.admit(round, phase, batch, Timestamp(50)).await).await;
        let expected = answers.iter().all(|it| *it == Admitted::Fresh || was_away && *it == Admitted::Again);
        assert!(expected, "{answers:?}");
    }

    /// After an answer that did not come, somebody committed: it was we.
    async fn commit(&self, round: RoundId, phase: PhaseKind, effects: &[Effect]) {
        let before = self.ask(async |store| store.load(round).await).await.expect("it stands").version;
        let state = format!("{phase:?}");
        let lease = self.ask(async |store| store.lease(round, before, HOLDER, None).await).await;
        assert!(matches!(lease, Lease::Held { .. }), "to {phase:?}: {lease:?}");
        self.ask(async |store| store.keep_lease(round, before, HOLDER).await).await;
        let commit =
            async |store: &SqlStore| store.commit(round, before, phase, state.as_bytes(), effects, Timestamp(60)).await;
        let (committed, was_away) = self.insist(commit).await;
        let after = self.ask(async |store| store.load(round).await).await.expect("it stands");
        assert!(committed == Committed::Yes || was_away, "to {phase:?}");
        assert_eq!((after.state, after.version.0), (state.into_bytes(), before.0 + 1), "to {phase:?}");
    }
}

/// A life of two rounds that uses every verb; returns all that can be read afterwards.
async fn story(store: &SqlStore) -> (String, usize) {
    let teller = &Teller { store, away: AtomicUsize::new(0) };
    teller.create_task().await;
    let list = RevocationRow {
        digest: digest("list"),
        authority: Party([1; 16]),
        number: 2,
        bytes: b"list".to_vec(),
        received: Timestamp(2),
    };
    assert_eq!(teller.ask(async |store| store.put_revocations(&list).await).await, Committed::Yes);
    let (is_new, was_away) = teller.insist(async |store| store.put_model(b"another").await).await;
    assert!(is_new || was_away);

    let mut told = String::new();
    for counter in 1..=2 {
        teller.open_round(counter).await;
        a_round(teller, round(counter), counter == 1, &mut told).await;
    }
    let over = Retention { rounds_before: Timestamp(61), bodies_before: Timestamp(61) };
    read_all(teller, &mut told).await;
    teller.ask(async |store| store.purge(over).await).await;
    read_all(teller, &mut told).await;
    (told, teller.away.load(Ordering::Relaxed))
}

/// From the first advert to the end, with the sum if it is released.
async fn a_round(teller: &Teller<'_>, round: RoundId, is_released: bool, told: &mut String) {
    let adverts: Vec<_> = (1..=3).map(|i| advert(client(i), "advert", &[&format!("s{i}"), &format!("b{i}")])).collect();
    teller.admit(round, PhaseKind::Advertising, &adverts).await;
    teller.ask(async |store| store.fault(round, PhaseKind::Advertising, client(9), 9, b"evidence").await).await;
    let fenced = teller.ask(async |store| store.fence(round, PhaseKind::Advertising).await).await;
    writeln!(told, "{:?}", fenced.bodies).expect("a string");
    teller.commit(round, PhaseKind::Sharing, &[statement(StatementKind::Roster, "roster")]).await;
    let keep = |to| Keep::Mail { body: "mail".into(), to: [(client(to), b"for you".to_vec())].into() };
    let mail = [1, 2].map(|i| Accepted::unjudged(client(i), digest("mail"), keep(i + 1), Vec::new()));
    teller.admit(round, PhaseKind::Sharing, &mail).await;
    writeln!(told, "{:?}", teller.ask(async |store| store.mail(round, client(2)).await).await).expect("a string");
    if !is_released {
        let named = Effect::Fault { client: client(1), rule: 16, evidence: b"signed".to_vec() };
        teller.commit(round, PhaseKind::Abandoned, &[named, Effect::Lapse, Effect::Erase]).await;
        return;
    }
    let core = [statement(StatementKind::Core, "core"), Effect::Log { root: digest("openings") }, Effect::Spend];
    teller.commit(round, PhaseKind::Masking, &core).await;
    let mut expected = vec![0; SUM_LEN];
    for number in 1..=3 {
        teller.admit(round, PhaseKind::Masking, &[input(client(number), "input", &bit(number, false))]).await;
        add(&mut expected, &bit(number, false));
    }
    teller.ask(async |store| store.fence(round, PhaseKind::Masking).await).await;
    teller.commit(round, PhaseKind::Unmasking, &[statement(StatementKind::Survivors, "survivors")]).await;
    let answers = [1, 2].map(|number| message(client(number), "answer"));
    teller.admit(round, PhaseKind::Unmasking, &answers).await;
    let fenced = teller.ask(async |store| store.fence(round, PhaseKind::Unmasking).await).await;
    assert_eq!(fenced.sum.expect("three are in it").to_signed(), expected, "nobody is lost, nobody counts twice");
    writeln!(told, "{:?}", fenced.bodies).expect("a string");
    let model = Effect::Model { bytes: b"better".to_vec(), digest: digest("better") };
    let end = [statement(StatementKind::Result, "result"), model, Effect::Erase];
    teller.commit(round, PhaseKind::Published, &end).await;
}

/// Every verb that reads.
async fn read_all(teller: &Teller<'_>, told: &mut String) {
    macro_rules! tell {
        ($($verb:ident($($argument:expr),*))*) => {
            $(writeln!(told, "{:?}", teller.ask(async |store| store.$verb($($argument),*).await).await).expect("a string");)*
        };
    }
    tell!(tasks() standing() newest_header(TASK, 0) ledger(TASK) log_head() log_leaves(0, 99) task_rounds(TASK));
    tell!(rounds(TASK, None, 9) model(digest("better")) newest_revocations(Party([1; 16])) revocations(digest("list")));
    for round in [round(1), round(2)] {
        let loaded = teller.ask(async |store| store.load(round).await).await;
        let loaded = loaded.map(|it| (it.header, it.state, it.phase, it.version, it.opened, it.salt, it.over));
        writeln!(told, "{loaded:?}").expect("a string");
        tell!(faults(round) admitted(round) has_bodies(round) mail(round, client(2)));
        tell!(digest(round, PhaseKind::Masking, client(1)) statement(round, StatementKind::Core));
        tell!(bodies(round, PhaseKind::Advertising, None) bodies(round, PhaseKind::Masking, Some(&[client(2)])));
    }
}

/// Whether it can happen there: a transaction's rollback does not fail, its connection breaks at most.
fn is_possible(fault: Fault, request: &Request) -> bool {
    !matches!(fault, Fault::Raise(_)) || !request.is_rollback()
}

/// One statement of the story after the other is broken, in one way after the other; the story stays the same.
#[test]
fn whatever_statement_breaks_what_is_written_is_the_same() {
    block_on(async {
        let stage = Stage::set().await;
        stage.judge(|_| None);
        let (whole, _) = story(&stage.stores[0]).await;
        let requests = stage.proxies[0].seen();
        let texts: BTreeSet<_> = requests.iter().map(|it| (it.text.clone(), it.is_prepared)).collect();
        println!("{} requests, {} different", requests.len(), texts.len());
        assert!(requests.iter().filter(|it| it.is_commit()).count() > 20, "it writes");
        for fault in FAULTS {
            every_statement_once(fault, &whole, &texts).await;
        }
    });
}

/// In a new schema, every different statement breaks the first time it comes, so that hardly anything succeeds at once.
async fn every_statement_once(fault: Fault, whole: &str, texts: &BTreeSet<(String, bool)>) {
    let stage = Stage::set().await;
    let met = Arc::new(Mutex::new(BTreeSet::new()));
    let judged = met.clone();
    stage.judge(move |request| {
        let text = (request.text.clone(), request.is_prepared);
        let is_first = judged.lock().expect("no judge panics").insert(text);
        (is_first && is_possible(fault, request)).then_some(fault)
    });
    let (told, away) = story(&stage.stores[0]).await;
    assert!(told == whole, "{fault:?} at every statement gives\n{told}\nand nothing gives\n{whole}");
    let met = met.lock().expect("no judge panics");
    let missed: Vec<_> = texts.difference(&met).collect();
    assert!(missed.is_empty(), "{fault:?}: {missed:?}");
    println!("{fault:?}: {} broken, {away} verbs repeated by their caller", stage.proxies[0].faults());
    let is_invisible = matches!(fault, Fault::Raise("40001" | "40P01"));
    assert_eq!(is_invisible, away == 0, "{fault:?}: lost races are run again by the store itself, and nothing else is");
}

/// Every commit of the story, once cut before it arrives and once after it was done: nothing is lost and nothing is done twice,
/// whichever of the two it was.
#[test]
fn whichever_commit_is_ambiguous_what_is_written_is_the_same() {
    block_on(async {
        let stage = Stage::set().await;
        stage.judge(|_| None);
        let (whole, _) = story(&stage.stores[0]).await;
        let commits = stage.proxies[0].seen().iter().filter(|it| it.is_commit()).count();
        for number in 0..commits {
            for fault in [Fault::CutBefore, Fault::CutAfter] {
                let stage = Stage::set().await;
                let mut commits = 0;
                stage.judge(move |request| {
                    commits += usize::from(request.is_commit());
                    (request.is_commit() && commits == number + 1).then_some(fault)
                });
                let (told, away) = story(&stage.stores[0]).await;
                assert!(told == whole, "{fault:?} at commit {number} gives\n{told}\nand nothing gives\n{whole}");
                assert_eq!(away, 1, "{fault:?} at commit {number}");
            }
        }
        println!("{commits} commits, each cut before and after");
    });
}

/// Two replicas at once, and every seventh request over either of them breaks, each time in another way: whoever got no answer
/// asks again, and every input is in the sum once.
#[test]
fn replicas_that_race_over_broken_connections_count_everybody_once() {
    block_on(async {
        let stage = Stage::set().await;
        let teller = Teller { store: &stage.stores[0], away: AtomicUsize::new(0) };
        teller.create_task().await;
        teller.open_round(1).await;
        teller.commit(round(1), PhaseKind::Masking, &[]).await;
        let mut requests = 0;
        stage.judge(move |request| {
            requests += 1;
            let fault = FAULTS[requests / 7 % FAULTS.len()];
            (requests % 7 == 0 && is_possible(fault, request)).then_some(fault)
        });
        let (clients, workers) = (120, 6);
        let mut racing = JoinSet::new();
        for worker in 0..workers {
            let store = stage.stores[worker % 2].clone();
            racing.spawn(async move {
                let mut unanswered = 0;
                for number in 0..clients {
                    let number = (number + worker as u64 * 20) % clients;
                    let input = [input(client(number), "input", &bit(number, false))];
                    while let Err(error) = store.admit(round(1), PhaseKind::Masking, &input, Timestamp(4)).await {
                        assert!(matches!(error, StoreError::Away(_) | StoreError::NoRoom(_)), "{error}");
                        unanswered += 1;
                    }
                }
                unanswered
            });
        }
        let unanswered: usize = racing.join_all().await.into_iter().sum();
        let faults: usize = stage.proxies.iter().map(SqlProxy::faults).sum();
        println!("{faults} broken, {unanswered} requests went unanswered");
        assert!(unanswered > 0 && faults > unanswered, "some were lost, some run again by the store");
        stage.judge(|_| None);
        teller.commit(round(1), PhaseKind::Unmasking, &[]).await;
        let fenced = teller.ask(async |store| store.fence(round(1), PhaseKind::Unmasking).await).await;
        let mut expected = vec![0; SUM_LEN];
        (0..clients).for_each(|number| add(&mut expected, &bit(number, false)));
        assert_eq!(fenced.sum.expect("everybody is in it").to_signed(), expected);
    });
}
