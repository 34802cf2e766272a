//! One suite for every store: SQLite, PostgreSQL, a PostgreSQL on which every transaction loses races, and the twin in memory
//! that simulations run on.
//!
//! Claim C-250; C-12 (a client is counted once) and what the aggregator says of closed phases rest on these cases. Two replicas
//! share every database; in memory both are one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};
use tokio::task::JoinSet;
use veilsum_aggregator::store::keys::SealingKeys;
use veilsum_aggregator::store::seal::ServiceKey;
use veilsum_aggregator::store::sql::{SCHEMA_VERSION, SqlStore, migrate, undo};
use veilsum_aggregator::store::{
    Beats, Charge, Committed, FaultRow, Holder, Lease, LedgerRow, NewRound, Purged, Retention, RevocationRow, Store,
    StoreError, TaskRound, Version, ledger_entry, root_entry, statement_entry,
};
use veilsum_crypto::ids::{Party, RoundId, TaskId, Timestamp};
use veilsum_crypto::primitives::merkle;
use veilsum_crypto::server::{Accepted, Admitted, Effect, Keep, PhaseKind, StatementKind};
use verification::postgres::Schema;
use verification::stores::{
    Home, KEY, SALT, SUM_LEN, TASK, World, add, advert, bit, block_on, client, digest, input, losing_races, memory,
    message, postgres, sqlite, sqlite_url, statement,
};

/// Runs every case on every store.
macro_rules! on_every_store {
    (@ $store:ident $($case:ident)*) => {
        mod $store {
            $(#[test]
            fn $case() {
                super::block_on(async { super::$case(super::$store().await).await });
            })*
        }
    };
    ($($case:ident)*) => {
        on_every_store!(@ memory $($case)*);
        on_every_store!(@ sqlite $($case)*);
        on_every_store!(@ postgres $($case)*);
        on_every_store!(@ losing_races $($case)*);
    };
}

on_every_store! {
    what_the_fence_finds_is_what_the_workers_were_told
    the_same_request_a_hundred_times_at_once_is_counted_once
    a_repeated_batch_adds_nothing
    a_client_that_comes_twice_in_a_batch_counts_once
    after_closing_the_digests_answer
    of_two_competing_commits_one_wins
    of_two_clients_who_claim_a_key_one_has_it
    a_key_is_free_again_when_its_claimer_was_refused
    mail_reaches_its_recipients_in_the_order_of_dealers
    a_batch_larger_than_one_statement_is_admitted_whole
    a_sum_larger_than_one_row_comes_back_whole
    standing_counts_fresh_clients_of_the_open_phase
    erasure_takes_everything_but_digests_and_what_the_export_holds
    a_second_statement_of_a_kind_writes_nothing_at_all
    the_log_is_the_merkle_tree_over_all_leaves
    a_charge_is_reserved_then_spent_or_lapses
    a_round_opens_once_and_after_the_one_before
    a_task_is_created_once
    a_published_model_becomes_the_tasks
    a_client_is_named_once_a_phase
    purging_leaves_what_others_rely_on
    what_is_logged_stands_between_statement_and_charge
    what_is_counted_is_what_was_admitted
    a_newer_revocation_list_takes_the_place_of_an_older_one
    a_closing_is_leased_to_one_replica_until_it_ends_or_falls_silent
}

// ---- the cases ---------------------------------------------------------------------------------

/// C-12: every input is a bit of its own, so that a loss or a double shows in the sum.
async fn what_the_fence_finds_is_what_the_workers_were_told<S: Store>(world: World<S>) {
    world.create_task().await;
    for counter in 1..=8 {
        let round = world.next_round(counter).await;
        world.commit(round, PhaseKind::Masking, &[]).await;
        let mut workers = JoinSet::new();
        for worker in 0..8_u64 {
            let store = if worker % 2 == 0 { world.a.clone() } else { world.b.clone() };
            workers.spawn(async move { send_inputs(&*store, round, worker).await });
        }
        let enough = 36 * counter as u32; // of 320: the fence falls among admissions in flight
        while world.b.standing().await.expect("it answers")[0].clients < enough {
            tokio::task::yield_now().await;
        }
        let at_fence = world.b.fence(round, PhaseKind::Masking).await.expect("it answers").bodies;

        let mut told = BTreeMap::new();
        while let Some(fresh) = workers.join_next().await {
            for (client, altered) in fresh.expect("the worker lived") {
                assert_eq!(told.insert(client, altered), None, "{client} was fresh twice");
            }
        }
        let at_end = world.a.fence(round, PhaseKind::Masking).await.expect("it answers").bodies;
        assert_eq!(at_fence, at_end, "somebody came after the fence of round {counter}");
        println!("round {counter}: {} of 320 came before the fence", told.len());
        let clients: BTreeSet<_> = told.keys().copied().map(client).collect();
        assert_eq!(at_fence.into_keys().collect::<BTreeSet<_>>(), clients);

        let mut expected = vec![0; SUM_LEN];
        told.iter().for_each(|(client, altered)| add(&mut expected, &bit(*client, *altered)));
        let sum = world.sum(round).await;
        assert_eq!(sum.is_some(), !told.is_empty());
        assert_eq!(sum.unwrap_or_else(|| vec![0; SUM_LEN]), expected, "round {counter}");
        world.commit(round, PhaseKind::Abandoned, &[Effect::Erase]).await;
    }
}

/// 320 clients, each sent by two workers at once, one in seven with other bytes by the second.
async fn send_inputs<S: Store>(store: &S, round: RoundId, worker: u64) -> Vec<(u64, bool)> {
    let mut fresh = Vec::new();
    for batch in 0..10 {
        let numbers: Vec<_> = (0..8).map(|i| (worker / 2) * 80 + batch * 8 + i).collect();
        let altered = |number: u64| worker % 2 == 1 && number.is_multiple_of(7);
        let inputs: Vec<_> = numbers
            .iter()
            .map(|&number| {
                let statement = format!("{number} {}", altered(number));
                input(client(number), &statement, &bit(number, altered(number)))
            })
            .collect();
        let now = Timestamp(1_000 + batch);
        let answers = store.admit(round, PhaseKind::Masking, &inputs, now).await;
        for (number, answer) in numbers.into_iter().zip(answers.expect("it answers")) {
            if answer == Admitted::Fresh {
                fresh.push((number, altered(number)));
            }
        }
    }
    fresh
}

async fn the_same_request_a_hundred_times_at_once_is_counted_once<S: Store>(world: World<S>) {
    let round = world.round().await;
    world.commit(round, PhaseKind::Masking, &[]).await;
    let mut requests = JoinSet::new();
    for i in 0..100 {
        let store = if i % 2 == 0 { world.a.clone() } else { world.b.clone() };
        requests.spawn(async move {
            let input = [input(client(1), "input", &[1, 10])];
            store.admit(round, PhaseKind::Masking, &input, Timestamp(5)).await
        });
    }
    let answers = requests.join_all().await.into_iter().map(|it| it.expect("it answers"));
    let fresh = answers.filter(|answer| answer == &[Admitted::Fresh]).count();
    assert_eq!(fresh, 1);
    assert_eq!(world.a.standing().await.expect("it answers")[0].clients, 1);
    assert_eq!(world.sum(round).await, Some(vec![1, 10]));
}

async fn a_repeated_batch_adds_nothing<S: Store>(world: World<S>) {
    let round = world.round().await;
    world.commit(round, PhaseKind::Masking, &[]).await;
    let batch = [input(client(2), "two", &[2]), input(client(1), "one", &[1])];
    let phase = PhaseKind::Masking;
    assert_eq!(world.admit(round, phase, &batch).await, [Admitted::Fresh; 2]);
    let again = world.b.admit(round, phase, &batch, Timestamp(99)).await.expect("it answers");
    assert_eq!(again, [Admitted::Again; 2]);
    let mixed = [input(client(1), "other", &[64]), input(client(3), "three", &[4])];
    let answers = world.admit(round, phase, &mixed).await;
    assert_eq!(answers, [Admitted::OtherBytes, Admitted::Fresh]);
    assert_eq!(world.admit(round, phase, &[]).await, []);
    assert_eq!(world.sum(round).await, Some(vec![7]));
}

async fn a_client_that_comes_twice_in_a_batch_counts_once<S: Store>(world: World<S>) {
    let round = world.round().await;
    world.commit(round, PhaseKind::Masking, &[]).await;
    let batch = [input(client(1), "first", &[1]), input(client(1), "second", &[2]), input(client(1), "first", &[1])];
    let answers = world.admit(round, PhaseKind::Masking, &batch).await;
    assert_eq!(answers, [Admitted::Fresh, Admitted::OtherBytes, Admitted::Again]);
    assert_eq!(world.sum(round).await, Some(vec![1]));
}

async fn after_closing_the_digests_answer<S: Store>(world: World<S>) {
    let (round, phase) = (world.round().await, PhaseKind::Advertising);
    let batch = || [message(client(1), "one"), message(client(2), "other"), message(client(3), "3")];
    world.admit(round, phase, &[message(client(1), "one"), message(client(2), "two")]).await;
    let received = world.b.fence(round, phase).await.expect("it answers");
    assert_eq!(received.bodies.len(), 2);
    let expected = [Admitted::Again, Admitted::OtherBytes, Admitted::Closed];
    assert_eq!(world.admit(round, phase, &batch()).await, expected, "after the fence");
    world.commit(round, PhaseKind::Sharing, &[]).await;
    assert_eq!(world.admit(round, phase, &batch()).await, expected, "in the next phase");
    world.commit(round, PhaseKind::Abandoned, &[Effect::Erase]).await;
    assert_eq!(world.admit(round, phase, &batch()).await, expected, "when all is over");
    for (number, expected) in [(1, Some(digest("one"))), (2, Some(digest("two"))), (3, None)] {
        let found = world.b.digest(round, phase, client(number)).await.expect("it answers");
        assert_eq!(found, expected);
    }
    let nowhere = world.admit(RoundId([9; 16]), phase, &batch()).await;
    assert_eq!(nowhere, [Admitted::Closed; 3]);
}

async fn of_two_competing_commits_one_wins<S: Store>(world: World<S>) {
    world.create_task().await;
    for counter in 1..=10 {
        let round = world.next_round(counter).await;
        // In every other round nothing but the version tells them apart.
        let effects = |who: &str| match counter % 2 {
            0 => Vec::new(),
            _ => vec![statement(StatementKind::Roster, who), Effect::Spend],
        };
        let (a, b) = (effects("a"), effects("b"));
        let (phase, version) = (PhaseKind::Sharing, Version(0));
        let (won_a, won_b) = tokio::join!(
            world.a.commit(round, version, phase, b"a", &a, Timestamp(7)),
            world.b.commit(round, version, phase, b"b", &b, Timestamp(7)),
        );
        let won_a = won_a.expect("it answers") == Committed::Yes;
        let won_b = won_b.expect("it answers") == Committed::Yes;
        assert!(won_a != won_b, "round {counter}: {won_a} {won_b}");
        let winner = if won_a { b"a" } else { b"b" };
        let roster = world.a.statement(round, StatementKind::Roster).await.expect("it answers");
        assert_eq!(roster.map(|(bytes, _)| bytes), (counter % 2 == 1).then(|| winner.to_vec()));
        let loaded = world.b.load(round).await.expect("it answers").expect("it stands");
        assert_eq!((loaded.state, loaded.version), (winner.to_vec(), Version(1)));
        world.commit(round, PhaseKind::Abandoned, &[]).await;
    }
    let log = world.a.log_head().await.expect("it answers");
    assert_eq!(log.size, 30, "ten headers and reservations, five rosters and charges");
}

async fn of_two_clients_who_claim_a_key_one_has_it<S: Store>(world: World<S>) {
    let (round, phase) = (world.round().await, PhaseKind::Advertising);
    for contest in 0..10 {
        let key = format!("key {contest}");
        let (one, two) = (client(100 + 2 * contest), client(101 + 2 * contest));
        let own = |name: &str| format!("{name} {contest}");
        let a = [advert(one, "one", &[&key, &own("a")])];
        let b = [advert(two, "two", &[&own("b"), &key])];
        let (a, b) =
            tokio::join!(world.a.admit(round, phase, &a, Timestamp(5)), world.b.admit(round, phase, &b, Timestamp(5)),);
        let mut answers = [a.expect("it answers")[0], b.expect("it answers")[0]];
        let loser = if answers[0] == Admitted::KeyTaken { one } else { two };
        answers.sort_by_key(|answer| *answer != Admitted::Fresh);
        assert_eq!(answers, [Admitted::Fresh, Admitted::KeyTaken]);
        assert_eq!(world.a.digest(round, phase, loser).await.expect("it answers"), None);
        // Nothing of the loser stays: other keys are welcome, its own from before among them.
        let better = [advert(loser, "better", &[&own("a"), &own("b"), &own("c")])];
        let own_is_free = world.admit(round, phase, &better).await;
        assert_eq!(own_is_free, [Admitted::KeyTaken], "the winner's other key is taken as well");
        let other = if loser == one { own("a") } else { own("b") };
        let better = [advert(loser, "better", &[&other, &other])];
        assert_eq!(world.admit(round, phase, &better).await, [Admitted::Fresh]);
    }
    let standing = &world.a.standing().await.expect("it answers")[0];
    assert_eq!(standing.clients, 20);
    let received = world.a.fence(round, phase).await.expect("it answers");
    assert_eq!(received.bodies.len(), 20);
}

/// Within one batch, in the order of arrival.
async fn a_key_is_free_again_when_its_claimer_was_refused<S: Store>(world: World<S>) {
    let (round, phase) = (world.round().await, PhaseKind::Advertising);
    world.admit(round, phase, &[advert(client(1), "1", &["old"])]).await;
    let batch = [
        advert(client(9), "9", &["new", "old"]),
        advert(client(5), "5", &["new"]),
        advert(client(2), "2", &["new", "newer"]),
        advert(client(3), "3", &["newer"]),
        advert(client(4), "4", &["own"]),
    ];
    let expected = [Admitted::KeyTaken, Admitted::Fresh, Admitted::KeyTaken, Admitted::Fresh, Admitted::Fresh];
    assert_eq!(world.admit(round, phase, &batch).await, expected);
    let bodies = world.b.bodies(round, phase, None).await.expect("it answers");
    let clients: Vec<_> = bodies.into_keys().collect();
    assert_eq!(clients, [client(1), client(3), client(4), client(5)]);
    let twice = [advert(client(6), "6", &["old"]), advert(client(6), "another", &["free"])];
    assert_eq!(world.admit(round, phase, &twice).await, [Admitted::KeyTaken; 2]);
    assert_eq!(world.admit(round, phase, &twice[1..]).await, [Admitted::Fresh]);
}

async fn mail_reaches_its_recipients_in_the_order_of_dealers<S: Store>(world: World<S>) {
    let round = world.round().await;
    world.commit(round, PhaseKind::Sharing, &[]).await;
    let share = |dealer: u64, word: &str| {
        let item = |to: u64| (client(to), format!("{word} {dealer} for {to}").into_bytes());
        let keep = Keep::Mail { body: word.into(), to: [7, 8].map(item).into() };
        Accepted::unjudged(client(dealer), digest(word), keep, Vec::new())
    };
    world.admit(round, PhaseKind::Sharing, &[share(3, "mail"), share(1, "mail")]).await;
    world.admit(round, PhaseKind::Sharing, &[share(2, "mail"), share(1, "forged")]).await;
    let mail = world.b.mail(round, client(8)).await.expect("it answers");
    let expected = ["mail 1 for 8", "mail 2 for 8", "mail 3 for 8"].map(|it| it.as_bytes().to_vec());
    assert_eq!(mail, expected);
    let some = [client(2), client(5)];
    let bodies = world.b.bodies(round, PhaseKind::Sharing, Some(&some)).await.expect("it answers");
    assert_eq!(bodies, [(client(2), b"mail".to_vec())].into());

    world.commit(round, PhaseKind::Acknowledging, &[]).await;
    world.admit(round, PhaseKind::Acknowledging, &[message(client(7), "good")]).await;
    let received = world.a.fence(round, PhaseKind::Acknowledging).await.expect("it answers");
    assert_eq!(received.bodies, [(client(7), b"good".to_vec())].into());
    assert_eq!(received.shares.len(), 3);
    assert_eq!(received.sum, None);

    // What a close may need to name somebody comes with it.
    world.commit(round, PhaseKind::Opening, &[]).await;
    let received = world.b.fence(round, PhaseKind::Opening).await.expect("it answers");
    assert_eq!((received.shares.len(), received.acknowledgements.len()), (3, 0));
    world.commit(round, PhaseKind::Unmasking, &[]).await;
    let received = world.a.fence(round, PhaseKind::Unmasking).await.expect("it answers");
    assert_eq!(received.acknowledgements, [(client(7), b"good".to_vec())].into());
    assert_eq!(received.shares.len(), 3);
}

async fn a_batch_larger_than_one_statement_is_admitted_whole<S: Store>(world: World<S>) {
    let round = world.round().await;
    let (adverts, clients) = (PhaseKind::Advertising, 2_345);
    let batch: Vec<_> =
        (0..clients).map(|i| advert(client(i), "body", &[&format!("s{i}"), &format!("b{i}")])).collect();
    assert_eq!(world.admit(round, adverts, &batch).await, vec![Admitted::Fresh; batch.len()]);
    assert_eq!(world.admit(round, adverts, &batch).await, vec![Admitted::Again; batch.len()]);
    let everybody: Vec<_> = (0..clients).map(client).collect();
    let bodies = world.a.bodies(round, adverts, Some(&everybody)).await.expect("it answers");
    assert_eq!(bodies.len(), batch.len());
    let thieves: Vec<_> =
        (0..clients).map(|i| advert(client(10_000 + i), "thief", &[&format!("x{i}"), &format!("b{i}")])).collect();
    assert_eq!(world.admit(round, adverts, &thieves).await, vec![Admitted::KeyTaken; batch.len()]);
    assert_eq!(world.a.fence(round, adverts).await.expect("it answers").bodies.len(), batch.len());
}

async fn a_sum_larger_than_one_row_comes_back_whole<S: Store>(world: World<S>) {
    let round = world.round().await;
    world.commit(round, PhaseKind::Masking, &[]).await;
    let values: Vec<i64> = (0..300_000).map(|i| i * 0x1_0001).collect(); // 2.4 MB: three segments
    for batch in 0..3 {
        let inputs = [0, 1].map(|i| input(client(2 * batch + i), "input", &values));
        assert_eq!(world.admit(round, PhaseKind::Masking, &inputs).await, [Admitted::Fresh; 2]);
    }
    let expected: Vec<_> = values.iter().map(|value| 6 * value).collect();
    assert!(world.sum(round).await == Some(expected));
}

async fn standing_counts_fresh_clients_of_the_open_phase<S: Store>(world: World<S>) {
    let (round, phase) = (world.round().await, PhaseKind::Advertising);
    let standing = async || world.b.standing().await.expect("it answers").pop().expect("one round");
    let opened = standing().await;
    assert_eq!((opened.round, opened.task, opened.phase), (round, TASK, phase));
    assert_eq!((opened.batches, opened.clients, opened.last), (0, 0, opened.opened));

    let late = Timestamp(10_000);
    for first in [1, 3, 5, 7, 9, 11, 13, 15, 17, 19] {
        let batch = [message(client(first), "x"), message(client(first + 1), "x")];
        world.a.admit(round, phase, &batch, late).await.expect("it answers");
    }
    let repeated = [message(client(1), "x")];
    world.a.admit(round, phase, &repeated, Timestamp(20_000)).await.expect("it answers");
    let now = standing().await;
    assert_eq!((now.batches, now.clients, now.last), (10, 20, late), "a repetition delays nothing");
    assert_eq!((now.version, now.opened), (Version(0), opened.opened));

    world.commit(round, PhaseKind::Sharing, &[]).await;
    let next = standing().await;
    assert_eq!((next.version, next.phase, next.clients), (Version(1), PhaseKind::Sharing, 0));
    assert_eq!((next.batches, next.last), (0, next.opened));
    world.commit(round, PhaseKind::Published, &[]).await;
    assert_eq!(world.a.standing().await.expect("it answers"), []);
    assert!(world.a.load(round).await.expect("it answers").is_some(), "over, but still there");
}

async fn erasure_takes_everything_but_digests_and_what_the_export_holds<S: Store>(world: World<S>) {
    let round = world.round().await;
    send_everything(&world, round, true).await;
    world.commit(round, PhaseKind::Published, &[Effect::Erase]).await;
    let bodies = async |phase| world.a.bodies(round, phase, None).await.expect("it answers");
    for phase in [PhaseKind::Advertising, PhaseKind::Sharing, PhaseKind::Masking, PhaseKind::Unmasking] {
        let kept = world.b.digest(round, phase, client(1)).await.expect("it answers");
        assert!(kept.is_some(), "{phase:?}");
        assert_eq!(bodies(phase).await.is_empty(), phase == PhaseKind::Unmasking, "{phase:?}");
    }
    assert!(world.b.mail(round, client(2)).await.expect("it answers").is_empty());
    let late = world.b.fence(round, PhaseKind::Unmasking).await.expect("a late fence is harmless");
    assert!(late.bodies.is_empty() && late.sum.is_none());
    assert!(world.a.has_bodies(round).await.expect("it answers"));

    let retention = |bodies_before| Retention { rounds_before: Timestamp(0), bodies_before };
    let over = world.a.load(round).await.expect("it answers").expect("it stands").over.expect("it is over");
    let purged = async |retention| world.b.purge(retention).await.expect("it answers");
    assert_eq!(purged(retention(over)).await, Purged::default(), "not yet");
    assert_eq!(purged(retention(Timestamp(over.0 + 1))).await, Purged { rounds: 0, exports: 1 });
    assert_eq!(purged(retention(Timestamp(over.0 + 1))).await, Purged::default(), "and only once");
    assert!(!world.a.has_bodies(round).await.expect("it answers"));
    for phase in [PhaseKind::Advertising, PhaseKind::Sharing, PhaseKind::Masking] {
        assert!(bodies(phase).await.is_empty(), "{phase:?}");
        assert!(world.a.digest(round, phase, client(1)).await.expect("it answers").is_some(), "{phase:?}");
    }

    let without = world.next_round(2).await; // of a round without a roster nothing is kept
    send_everything(&world, without, false).await;
    world.commit(without, PhaseKind::Abandoned, &[Effect::Erase]).await;
    assert!(!world.a.has_bodies(without).await.expect("it answers"));
}

/// What stands where an export will look for it.
const PLANTED: &str = "planted message of somebody";
/// What must go when the round is over.
const SECRET: &str = "planted secret of nobody else";

/// Something in every table that erasure must empty: [`SECRET`] where it goes with the round, [`PLANTED`] where it stays.
async fn send_everything<S: Store>(world: &World<S>, round: RoundId, with_roster: bool) {
    let advert = advert(client(1), PLANTED, &["key"]);
    world.admit(round, PhaseKind::Advertising, &[advert]).await;
    let roster = with_roster.then(|| statement(StatementKind::Roster, "roster"));
    world.commit(round, PhaseKind::Sharing, &roster.into_iter().collect::<Vec<_>>()).await;
    let long = SECRET.repeat(500); // beyond one page of a database
    let keep = Keep::Mail { body: PLANTED.into(), to: [(client(2), long.into())].into() };
    let shares = Accepted::unjudged(client(1), digest(PLANTED), keep, Vec::new());
    world.admit(round, PhaseKind::Sharing, &[shares]).await;
    world.commit(round, PhaseKind::Masking, &[]).await;
    let planted: Vec<i64> = vec![i64::from_le_bytes(*b"planted!"); 40_000];
    let input = [input(client(1), PLANTED, &planted)];
    assert_eq!(world.admit(round, PhaseKind::Masking, &input).await, [Admitted::Fresh]);
    world.commit(round, PhaseKind::Unmasking, &[]).await;
    assert_eq!(world.admit(round, PhaseKind::Unmasking, &[message(client(1), SECRET)]).await, [Admitted::Fresh]);
}

async fn a_second_statement_of_a_kind_writes_nothing_at_all<S: Store>(world: World<S>) {
    let round = world.round().await;
    world.commit(round, PhaseKind::Sharing, &[statement(StatementKind::Roster, "roster")]).await;
    let before = world.a.log_head().await.expect("it answers");
    let effects =
        [Effect::Spend, statement(StatementKind::Core, "core"), statement(StatementKind::Roster, "another roster")];
    let phase = PhaseKind::Masking;
    let refused = world.a.commit(round, Version(1), phase, b"x", &effects, Timestamp(9)).await;
    assert_eq!(refused.expect("it answers"), Committed::Conflict);
    let loaded = world.b.load(round).await.expect("it answers").expect("it stands");
    assert_eq!((loaded.version, loaded.phase), (Version(1), PhaseKind::Sharing));
    assert_eq!(world.a.log_head().await.expect("it answers"), before);
    assert!(!world.a.ledger(TASK).await.expect("it answers")[0].spent);
    let core = world.a.statement(round, StatementKind::Core).await.expect("it answers");
    assert_eq!(core, None);
    let roster = world.a.statement(round, StatementKind::Roster).await.expect("it answers");
    assert_eq!(roster, Some((b"roster".to_vec(), b"attachment".to_vec())));
}

/// Eight tasks at once, over two replicas, each with the leaves of one round.
async fn the_log_is_the_merkle_tree_over_all_leaves<S: Store>(world: World<S>) {
    let head = world.a.log_head().await.expect("it answers");
    assert_eq!((head.size, head.root), (0, merkle::root(&[])));
    let mut tasks = JoinSet::new();
    for number in 0..8_u8 {
        let store = if number % 2 == 0 { world.a.clone() } else { world.b.clone() };
        tasks.spawn(async move {
            let (task, round) = (TaskId([number; 16]), RoundId([0x40 + number; 16]));
            let now = Timestamp(1);
            store.create_task(task, "file", b"model", now).await.expect("it answers");
            let header = vec![number];
            let new = NewRound {
                round,
                task,
                counter: 1,
                header: header.clone(),
                state: Vec::new(),
                opened: now,
                salt: SALT,
                charge: vec![9],
            };
            assert_eq!(store.open_round(&new).await.expect("it answers"), Committed::Yes);
            let steps = [
                vec![statement(StatementKind::Roster, "r"), statement(StatementKind::Core, "c")],
                vec![Effect::Spend],
                vec![statement(StatementKind::Survivors, "s"), Effect::Erase],
            ];
            for (version, effects) in (0..).map(Version).zip(&steps) {
                let phase = PhaseKind::Masking;
                let done = store.commit(round, version, phase, b"", effects, now).await;
                assert_eq!(done.expect("it answers"), Committed::Yes);
            }
            let mut leaves = [header.as_slice(), b"r", b"c", b"s"].map(|it| statement_entry(&SALT, it)).to_vec();
            let charge = |charge| ledger_entry(&SALT, task, 1, digest(&header), charge);
            leaves.extend([Charge::Reserved, Charge::Spent].map(charge));
            leaves
        });
    }
    let appended = tasks.join_all().await.concat();
    let leaves = world.a.log_leaves(0, u64::MAX).await.expect("it answers");
    let head = world.b.log_head().await.expect("it answers");
    assert_eq!((head.size, head.root), (48, merkle::root(&leaves)));
    let expected: BTreeSet<_> = appended.iter().map(|it| merkle::leaf_hash(&[&it.0])).collect();
    assert_eq!(leaves.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(world.a.log_leaves(7, 11).await.expect("it answers"), leaves[7..11]);
}

async fn a_charge_is_reserved_then_spent_or_lapses<S: Store>(world: World<S>) {
    world.create_task().await;
    let row = |counter: u64, spent| LedgerRow { counter, charge: format!("charge {counter}").into_bytes(), spent };
    let ledger = async || world.b.ledger(TASK).await.expect("it answers");
    let first = world.next_round(1).await;
    assert_eq!(ledger().await, [row(1, false)]);
    let opening = [Effect::Spend, statement(StatementKind::Core, "core")];
    world.commit(first, PhaseKind::Masking, &opening).await;
    assert_eq!(ledger().await, [row(1, true)]);
    world.commit(first, PhaseKind::Abandoned, &[Effect::Lapse]).await;
    assert_eq!(ledger().await, [row(1, true)], "what was spent cannot lapse");
    let second = world.next_round(2).await;
    assert_eq!(ledger().await, [row(1, true), row(2, false)]);
    world.commit(second, PhaseKind::Abandoned, &[Effect::Lapse]).await;
    assert_eq!(ledger().await, [row(1, true)]);

    let said = |text: &str| statement_entry(&SALT, text.as_bytes());
    let charge = |counter, charge| ledger_entry(&SALT, TASK, counter, digest(format!("header {counter}")), charge);
    let entries = [
        said("header 1"),
        charge(1, Charge::Reserved),
        said("core"), // §9: statements before charges
        charge(1, Charge::Spent),
        said("header 2"),
        charge(2, Charge::Reserved),
        charge(2, Charge::Lapsed),
    ];
    let log = world.a.log_leaves(0, 99).await.expect("it answers");
    assert_eq!(log, entries.map(|it| merkle::leaf_hash(&[&it.0])));
}

async fn a_round_opens_once_and_after_the_one_before<S: Store>(world: World<S>) {
    world.create_task().await;
    let first = world.new_round(1);
    let rival = NewRound { round: RoundId([0xee; 16]), ..first.clone() };
    let (a, b) = tokio::join!(world.a.open_round(&first), world.b.open_round(&rival));
    let won = [a.expect("it answers"), b.expect("it answers")];
    assert_eq!(won.iter().filter(|it| **it == Committed::Yes).count(), 1, "{won:?}");
    let winner = if won[0] == Committed::Yes { &first } else { &rival };
    let repeated = world.a.open_round(winner).await.expect("it answers");
    assert_eq!(repeated, Committed::Yes, "the same round again is no conflict");
    for counter in [0, 1, 2, 3] {
        let early = NewRound { round: RoundId([0xdd; 16]), ..world.new_round(counter) };
        let refused = world.a.open_round(&early).await.expect("it answers");
        assert_eq!(refused, Committed::Conflict, "while round 1 is open");
    }
    assert_eq!(world.a.log_head().await.expect("it answers").size, 2);
    world.commit(winner.round, PhaseKind::Abandoned, &[]).await;
    let skipped = world.a.open_round(&world.new_round(3)).await.expect("it answers");
    assert_eq!(skipped, Committed::Conflict);
    let second = world.next_round(2).await;
    let rounds = world.b.rounds(TASK, None, 10).await.expect("it answers");
    let listed = [(second, 2, PhaseKind::Advertising), (winner.round, 1, PhaseKind::Abandoned)];
    assert_eq!(rounds, listed);
    assert_eq!(world.b.rounds(TASK, None, 1).await.expect("it answers"), listed[..1]);
    assert_eq!(
        world.b.rounds(TASK, Some(2), 10).await.expect("it answers"),
        listed[listed.len() - 1..],
        "those before"
    );
    let newest = world.b.newest_header(TASK, 1).await.expect("it answers");
    assert_eq!(newest, Some((second, b"header 2".to_vec())));
    assert_eq!(world.b.newest_header(TASK, 2).await.expect("it answers"), None);
    let task = &world.b.tasks().await.expect("it answers")[0];
    assert_eq!((task.counter, task.open), (2, true));
}

async fn a_task_is_created_once<S: Store>(world: World<S>) {
    world.create_task().await;
    let again = world.b.create_task(TASK, "file", b"another", Timestamp(9)).await;
    assert_eq!(again.expect("it answers"), Committed::Yes);
    let other = world.b.create_task(TASK, "another file", b"model", Timestamp(9)).await;
    assert_eq!(other.expect("it answers"), Committed::Conflict);
    let tasks = world.a.tasks().await.expect("it answers");
    assert_eq!(tasks.len(), 1);
    assert_eq!((tasks[0].file.as_str(), tasks[0].model), ("file", digest("model")));
    let model = world.a.model(tasks[0].model).await.expect("it answers");
    assert_eq!(model, Some(b"model".to_vec()));
    assert_eq!(world.a.model(digest("another")).await.expect("it answers"), None);
}

async fn a_published_model_becomes_the_tasks<S: Store>(world: World<S>) {
    let round = world.round().await;
    let model = Effect::Model { bytes: b"better".to_vec(), digest: digest("better") };
    world.commit(round, PhaseKind::Published, &[model]).await;
    let task = &world.b.tasks().await.expect("it answers")[0];
    assert_eq!((task.model, task.open), (digest("better"), false));
    for bytes in ["model", "better"] {
        let kept = world.b.model(digest(bytes)).await.expect("it answers");
        assert_eq!(kept, Some(bytes.into()));
    }
}

async fn a_client_is_named_once_a_phase<S: Store>(world: World<S>) {
    let round = world.round().await;
    let (adverts, who) = (PhaseKind::Advertising, client(1));
    world.a.fault(round, adverts, who, 9, b"first").await.expect("it answers");
    world.b.fault(round, adverts, who, 10, b"second").await.expect("it answers");
    let fault = |rule| Effect::Fault { client: who, rule, evidence: b"closing".to_vec() };
    world.commit(round, PhaseKind::Sharing, &[fault(11)]).await;
    world.commit(round, PhaseKind::Acknowledging, &[fault(12)]).await;
    let faults = world.a.faults(round).await.expect("it answers");
    let row = |phase, rule, evidence: &[u8]| FaultRow { phase, client: who, rule, evidence: evidence.to_vec() };
    assert_eq!(faults, [row(adverts, 9, b"first"), row(PhaseKind::Sharing, 12, b"closing")]);
}

async fn purging_leaves_what_others_rely_on<S: Store>(world: World<S>) {
    let old = world.round().await;
    send_everything(&world, old, true).await;
    world.a.fault(old, PhaseKind::Masking, client(1), 9, b"evidence").await.expect("it answers");
    world.commit(old, PhaseKind::Published, &[Effect::Spend]).await;
    let before = world.now();
    let new = world.next_round(2).await;
    world.commit(new, PhaseKind::Abandoned, &[]).await;
    let open = world.next_round(3).await;

    let retention = Retention { rounds_before: before, bodies_before: before };
    assert_eq!(world.b.purge(retention).await.expect("it answers").rounds, 1);
    assert_eq!(world.b.purge(retention).await.expect("it answers").rounds, 0);
    assert!(world.a.load(old).await.expect("it answers").is_none());
    let gone = world.a.digest(old, PhaseKind::Masking, client(1)).await.expect("it answers");
    assert_eq!(gone, None);
    for stays in [new, open] {
        assert!(world.a.load(stays).await.expect("it answers").is_some());
    }
    let header = world.a.statement(old, StatementKind::Header).await.expect("it answers");
    assert_eq!(header.map(|(bytes, _)| bytes), Some(b"header 1".to_vec()));
    assert_eq!(world.a.faults(old).await.expect("it answers").len(), 1);
    assert_eq!(world.a.ledger(TASK).await.expect("it answers").len(), 3);
    assert_eq!(world.a.log_head().await.expect("it answers").size, 8);
    let opened = world.b.task_rounds(TASK).await.expect("it answers");
    let expected = [old, new, open].into_iter().zip(1..);
    let expected: Vec<_> = expected.map(|(round, counter)| TaskRound { counter, round, salt: SALT }).collect();
    assert_eq!(opened, expected, "later rounds account for those that are gone");
}

/// §9: statement, openings, ledger, whatever the order of effects.
async fn what_is_logged_stands_between_statement_and_charge<S: Store>(world: World<S>) {
    let round = world.round().await;
    let log = |text: &str| Effect::Log { root: digest(text) };
    let effects = [statement(StatementKind::Core, "core"), Effect::Spend, log("one"), log("two")];
    world.commit(round, PhaseKind::Masking, &effects).await;
    let header = world.new_round(1).header;
    let charge = |charge| ledger_entry(&SALT, TASK, 1, digest(&header), charge);
    let opening = |text: &str| root_entry(&SALT, digest(text));
    let entries = [
        statement_entry(&SALT, &header),
        charge(Charge::Reserved),
        statement_entry(&SALT, b"core"),
        opening("one"),
        opening("two"),
        charge(Charge::Spent),
    ];
    let hashes = entries.map(|entry| merkle::leaf_hash(&[entry.as_bytes()]));
    assert_eq!(world.b.log_leaves(0, 100).await.expect("it answers"), hashes);
}

async fn what_is_counted_is_what_was_admitted<S: Store>(world: World<S>) {
    let round = world.round().await;
    let none = BTreeMap::new();
    assert_eq!(world.a.admitted(round).await.expect("it answers"), none);
    let adverts: Vec<_> = (0..5).map(|number| advert(client(number), "advert", &[])).collect();
    world.admit(round, PhaseKind::Advertising, &adverts).await;
    world.commit(round, PhaseKind::Sharing, &[]).await;
    world.admit(round, PhaseKind::Sharing, &[message(client(3), "shares")]).await;
    let counts = BTreeMap::from([(PhaseKind::Advertising, 5), (PhaseKind::Sharing, 1)]);
    assert_eq!(world.b.admitted(round).await.expect("it answers"), counts);
    world.commit(round, PhaseKind::Abandoned, &[Effect::Erase]).await;
    assert_eq!(world.b.admitted(round).await.expect("it answers"), counts, "also when it is over");
    assert!(world.a.put_model(b"another model").await.expect("it answers"));
    assert!(!world.b.put_model(b"another model").await.expect("it answers"), "it was there");
    let kept = world.b.model(digest("another model")).await.expect("it answers");
    assert_eq!(kept, Some(b"another model".to_vec()));
}

/// R-36: numbers only grow; of two lists with one number the first stands.
async fn a_newer_revocation_list_takes_the_place_of_an_older_one<S: Store>(world: World<S>) {
    let list = |number: u64, text: &str, by: u8| RevocationRow {
        digest: digest(text),
        authority: Party([by; 16]),
        number,
        bytes: text.into(),
        received: Timestamp(7),
    };
    let put = async |row: RevocationRow| world.a.put_revocations(&row).await.expect("it answers");
    let newest = async |by: u8| world.b.newest_revocations(Party([by; 16])).await.expect("it answers");
    assert_eq!(newest(1).await, None);
    assert_eq!(put(list(2, "second", 1)).await, Committed::Yes);
    assert_eq!(put(list(2, "second", 1)).await, Committed::Yes, "the same again");
    assert_eq!(put(list(2, "another second", 1)).await, Committed::Conflict);
    assert_eq!(put(list(1, "first", 1)).await, Committed::Conflict);
    assert_eq!(put(list(9, "of another authority", 3)).await, Committed::Yes);
    assert_eq!(newest(1).await, Some(list(2, "second", 1)));
    assert_eq!(put(list(5, "fifth", 1)).await, Committed::Yes);
    assert_eq!(put(list(2, "second", 1)).await, Committed::Conflict, "there is no way back");
    assert_eq!(newest(1).await, Some(list(5, "fifth", 1)));
    let kept = world.b.revocations(digest("second")).await.expect("it answers");
    assert_eq!(kept, Some(b"second".to_vec()), "rounds that are open still name it");
    assert_eq!(world.b.revocations(digest("first")).await.expect("it answers"), None);
}

/// C-261: of two who ask, one has it; it passes on with the round, or when its holder gives no more signs of life.
async fn a_closing_is_leased_to_one_replica_until_it_ends_or_falls_silent<S: Store>(world: World<S>) {
    let round = world.round().await;
    let [first, second] = [Holder([1; 16]), Holder([2; 16])];
    let version = async || world.a.load(round).await.expect("it answers").expect("it stands").version;
    let a = async |version, stalled| world.a.lease(round, version, first, stalled).await.expect("it answers");
    let b = async |version, stalled| world.b.lease(round, version, second, stalled).await.expect("it answers");
    let beats = |lease| match lease {
        Lease::Elsewhere { beats } => beats,
        other => panic!("another replica holds it, not {other:?}"),
    };

    let begins = version().await;
    let (of_a, of_b) = tokio::join!(a(begins, None), b(begins, None));
    let held = Lease::Held { attempts: 1 };
    assert!((of_a == held) != (of_b == held), "of two at once one has it: {of_a:?}, {of_b:?}");

    world.commit(round, PhaseKind::Sharing, &[statement(StatementKind::Roster, "roster")]).await;
    assert_eq!(b(begins, None).await, Lease::Moved, "the round moved on");
    let begins = version().await;
    assert_eq!(a(begins, None).await, held, "what was held for an earlier closing does not count");
    assert_eq!(a(begins, None).await, Lease::Held { attempts: 2 }, "its holder may begin again");
    let seen = beats(b(begins, None).await);
    assert_eq!(beats(b(begins, Some(Beats(seen.0 - 1))).await), seen, "these beats are past");
    world.a.keep_lease(round, begins, first).await.expect("it answers");
    let alive = beats(b(begins, Some(seen)).await);
    assert!(alive > seen, "it has given a sign of life");
    world.b.keep_lease(round, begins, second).await.expect("it answers");
    assert_eq!(beats(b(begins, None).await), alive, "only its holder can");
    assert_eq!(b(begins, Some(alive)).await, Lease::Held { attempts: 3 }, "it fell silent");
    assert!(beats(a(begins, Some(alive)).await) > alive, "whoever has lost it sees so");

    let effects = [Effect::Lapse, Effect::Erase];
    world.commit(round, PhaseKind::Abandoned, &effects).await;
    assert_eq!(b(version().await, None).await, Lease::Moved, "the round is over");
    assert_eq!(a(Version(99), None).await, Lease::Moved, "no such version");
    let unknown = RoundId([0xee; 16]);
    assert_eq!(world.a.lease(unknown, Version(0), first, None).await.expect("it answers"), Lease::Moved);
}

// ---- databases only ----------------------------------------------------------------------------

/// Tables, columns and indexes as each engine's catalogue tells them.
async fn dump(url: &str, catalogue: &str) -> Vec<String> {
    let mut connection = AnyConnection::connect(url).await.expect("it connects");
    let rows = sqlx::query(AssertSqlSafe(catalogue.to_owned())).fetch_all(&mut connection).await;
    let rows = rows.expect("the catalogue answers");
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

async fn up_down_and_up_again(url: &str, catalogue: &str) {
    migrate(url).await.expect("up");
    let first = dump(url, catalogue).await;
    assert!(first.len() > 14, "there are tables: {first:?}");
    undo(url).await.expect("down");
    let nothing = dump(url, catalogue).await;
    assert_eq!(nothing, Vec::<String>::new(), "down leaves nothing behind");
    migrate(url).await.expect("up again");
    assert_eq!(dump(url, catalogue).await, first);
    migrate(url).await.expect("and once more changes nothing");
    assert_eq!(dump(url, catalogue).await, first);
}

#[test]
fn migrations_can_be_taken_back_on_sqlite() {
    block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let catalogue = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL \
            AND tbl_name <> '_sqlx_migrations' ORDER BY sql";
        up_down_and_up_again(&sqlite_url(&dir), catalogue).await;
    });
}

#[test]
fn migrations_can_be_taken_back_on_postgres() {
    block_on(async {
        let schema = Schema::create().await;
        let catalogue = format!(
            "SELECT CAST(table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable AS TEXT) \
               AS line FROM information_schema.columns \
              WHERE table_schema = '{0}' AND table_name <> '_sqlx_migrations' \
             UNION ALL SELECT indexdef FROM pg_indexes \
              WHERE schemaname = '{0}' AND tablename <> '_sqlx_migrations' \
             UNION ALL SELECT c.relname || ' ' || pg_get_constraintdef(k.oid) \
               FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid \
              WHERE k.connamespace = '{0}'::regnamespace AND c.relname <> '_sqlx_migrations' ORDER BY 1",
            schema.name()
        );
        up_down_and_up_again(&schema.url(), &catalogue).await;
    });
}

async fn execute(url: &str, statement: &str) {
    let mut connection = AnyConnection::connect(url).await.expect("it connects");
    connection.execute(AssertSqlSafe(statement.to_string())).await.expect("the statement is good");
}

async fn tables_of_another_version(url: &str) {
    let open = || SqlStore::open(url, ServiceKey::from_hex(KEY).expect("a key"));
    let version = |result: Result<SqlStore, StoreError>| match result {
        Err(StoreError::Schema { found, needed: SCHEMA_VERSION }) => found,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    };
    assert_eq!(version(open().await), 0, "no tables");
    migrate(url).await.expect("migrations apply");
    let store = open().await.expect("the right version");
    let newer = SCHEMA_VERSION + 1;
    execute(url, &format!("UPDATE _sqlx_migrations SET version = {newer} WHERE version = {SCHEMA_VERSION}")).await;
    assert_eq!(version(open().await), newer, "a newer program migrated");
    let found = |result: Result<(), StoreError>| match result {
        Err(StoreError::Schema { found, needed: SCHEMA_VERSION }) => Some(found),
        _ => None,
    };
    assert_eq!(found(store.ready().await), Some(newer));
    assert_eq!(found(migrate(url).await), Some(newer));
    execute(url, &format!("DELETE FROM _sqlx_migrations WHERE version = {newer}")).await;
    assert_eq!(version(open().await), SCHEMA_VERSION - 1, "an older program migrated");
}

#[test]
fn tables_of_another_version_are_refused_on_sqlite() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(async { tables_of_another_version(&sqlite_url(&dir)).await });
}

#[test]
fn tables_of_another_version_are_refused_on_postgres() {
    block_on(async { tables_of_another_version(&Schema::create().await.url()).await });
}

#[test]
fn another_service_key_is_refused_before_it_can_do_harm() {
    block_on(async {
        let world = sqlite().await;
        let Home::Directory(dir) = &world.home else { unreachable!() };
        world.round().await;
        let refused = SqlStore::open(&sqlite_url(dir), ServiceKey::generate()).await.err();
        let refused = refused.expect("it must not open");
        assert!(matches!(refused, StoreError::UnknownKey { .. }));
        assert!(refused.to_string().contains("sealing.key"), "{refused}");
    });
}

/// One store has an old key only; another rotates it away. Nothing is sealed under the old one any more, and what is there stays.
async fn a_retired_key_seals_nothing_more(url: &str) {
    migrate(url).await.expect("migrations apply");
    let (old, new) = (ServiceKey::from_hex(KEY).expect("a key"), ServiceKey::generate());
    let both = SealingKeys::parse(&format!("{}\n{}", *new.to_hex(), KEY)).expect("two keys");
    let stale = SqlStore::open(url, ServiceKey::from_hex(KEY).expect("a key")).await.expect("it opens");
    let task = |number: u8| TaskId([number; 16]);
    let opened = |number: u8| NewRound {
        round: RoundId([number; 16]),
        task: task(number),
        counter: 1,
        header: vec![number],
        state: vec![],
        opened: Timestamp(1),
        salt: [number; 32],
        charge: vec![],
    };
    for number in 1..=3 {
        stale.create_task(task(number), "file", b"model", Timestamp(1)).await.expect("it answers");
    }
    assert_eq!(stale.open_round(&opened(1)).await.expect("its key seals"), Committed::Yes);
    let newer = SqlStore::open(url, both).await.expect("both keys are there");
    let under = newer.sealed_under().await.expect("it answers");
    assert_eq!(
        under.iter().map(|it| (it.key, it.rows, it.retired)).collect::<Vec<_>>(),
        [(Some(new.id()), 0, false), (Some(old.id()), 1, false)]
    );
    assert_eq!(newer.reseal(Timestamp(2)).await.expect("both keys are there"), 1);
    let refused = stale.open_round(&opened(2)).await;
    assert!(matches!(&refused, Err(StoreError::RetiredKey { key }) if *key == old.id().to_string()), "{refused:?}");
    assert!(stale.load(RoundId([2; 16])).await.expect("it answers").is_none(), "nothing was written");
    assert!(matches!(stale.ready().await, Err(StoreError::UnknownKey { .. })));
    assert_eq!(newer.open_round(&opened(2)).await.expect("its key seals"), Committed::Yes);
    let under = newer.sealed_under().await.expect("it answers");
    assert_eq!(
        under.iter().map(|it| (it.key, it.rows, it.retired)).collect::<Vec<_>>(),
        [(Some(new.id()), 2, false), (Some(old.id()), 0, true)]
    );
    assert_eq!(newer.reseal(Timestamp(3)).await.expect("it answers"), 0, "again changes nothing");
    // With no round open it is the retired key itself that keeps a replica from starting.
    execute(url, "DELETE FROM round_keys").await;
    let refused = SqlStore::open(url, old).await.err();
    assert!(matches!(refused, Some(StoreError::RetiredKey { .. })), "{refused:?}");
}

#[test]
fn a_retired_key_seals_nothing_more_on_sqlite() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(async { a_retired_key_seals_nothing_more(&sqlite_url(&dir)).await });
}

#[test]
fn a_retired_key_seals_nothing_more_on_postgres() {
    block_on(async { a_retired_key_seals_nothing_more(&Schema::create().await.url()).await });
}

/// What a program before schema 5 sealed names no key: it opens all the same, and is named when it is sealed anew.
#[test]
fn rows_from_before_keys_had_names_open_and_are_sealed_anew() {
    block_on(async {
        let world = sqlite().await;
        let Home::Directory(dir) = &world.home else { unreachable!() };
        let round = world.round().await;
        world.commit(round, PhaseKind::Masking, &[]).await;
        execute(&sqlite_url(dir), "UPDATE round_keys SET sealed_by = NULL").await;
        world.admit(round, PhaseKind::Masking, &[input(client(1), "input", &[1; SUM_LEN])]).await;
        let both = SealingKeys::parse(&format!("{} {KEY}", *ServiceKey::generate().to_hex())).expect("two keys");
        let newer = SqlStore::open(&sqlite_url(dir), both).await.expect("both keys are there");
        assert_eq!(newer.reseal(Timestamp(2)).await.expect("it answers"), 1);
        let under = newer.sealed_under().await.expect("it answers");
        assert_eq!(under.iter().map(|it| (it.rows, it.retired)).collect::<Vec<_>>(), [(1, false), (0, true)]);
        let fenced = newer.fence(round, PhaseKind::Unmasking).await.expect("the sum opens");
        assert!(fenced.sum.is_some());
    });
}

#[test]
fn sums_that_were_changed_moved_or_lost_are_damaged() {
    block_on(async {
        for damage in [
            "UPDATE partial_sums SET sealed = X'00' WHERE segment = 1",
            "UPDATE partial_sums SET inputs = inputs + 1",
            "UPDATE partial_sums SET segment = 2 WHERE segment = 1",
            "DELETE FROM partial_sums WHERE segment = 1",
            "DELETE FROM partial_sums",
        ] {
            let world = sqlite().await;
            let Home::Directory(dir) = &world.home else { unreachable!() };
            let round = world.round().await;
            world.commit(round, PhaseKind::Masking, &[]).await;
            let large = vec![3; 200_000]; // two segments
            world.admit(round, PhaseKind::Masking, &[input(client(1), "input", &large)]).await;
            execute(&sqlite_url(dir), damage).await;
            let fenced = world.a.fence(round, PhaseKind::Unmasking).await;
            assert!(matches!(fenced, Err(StoreError::Damaged(_))), "{damage}");
        }
    });
}

#[test]
fn a_round_key_that_was_changed_is_named() {
    block_on(async {
        let world = sqlite().await;
        let Home::Directory(dir) = &world.home else { unreachable!() };
        let round = world.round().await;
        world.commit(round, PhaseKind::Masking, &[]).await;
        execute(&sqlite_url(dir), "UPDATE round_keys SET sealed = X'0011'").await;
        let inputs = [input(client(1), "input", &[1])];
        let refused = world.a.admit(round, PhaseKind::Masking, &inputs, Timestamp(3)).await;
        assert!(matches!(refused, Err(StoreError::WrongKey)));
        let nobody = world.a.digest(round, PhaseKind::Masking, client(1)).await;
        assert_eq!(nobody.expect("it answers"), None, "nothing was written");
    });
}

/// The files themselves, byte by byte, while both replicas are still open.
#[test]
fn what_was_erased_is_in_no_file_of_sqlite() {
    block_on(async {
        let world = sqlite().await;
        let Home::Directory(dir) = &world.home else { unreachable!() };
        let found = |needle: &[u8]| {
            let files = std::fs::read_dir(dir.path()).expect("it is there");
            let bytes = files.map(|it| std::fs::read(it.expect("it is there").path()).expect("read"));
            bytes.filter(|bytes| bytes.windows(needle.len()).any(|it| it == needle)).count()
        };
        let round = world.round().await;
        send_everything(&world, round, true).await;
        for planted in [PLANTED, SECRET] {
            assert!(found(planted.as_bytes()) > 0, "the case must be able to see it");
        }
        assert_eq!(found(b"planted!"), 0, "no input is ever written in the clear");
        let mut connection = AnyConnection::connect(&sqlite_url(dir)).await.expect("it connects");
        let sealed = sqlx::query("SELECT sealed FROM round_keys").fetch_one(&mut connection).await;
        let wrapped: Vec<u8> = sealed.expect("the round has a key").get(0);
        connection.close().await.expect("it closes");
        assert!(found(&wrapped) > 0);
        world.commit(round, PhaseKind::Published, &[Effect::Erase]).await;
        assert_eq!(found(SECRET.as_bytes()), 0);
        assert_eq!(found(&wrapped), 0, "nor can the key be unwrapped again");
        let retention = Retention { rounds_before: Timestamp(0), bodies_before: Timestamp(u64::MAX) };
        world.a.purge(retention).await.expect("it answers");
        assert_eq!(found(PLANTED.as_bytes()), 0, "what the export held goes with its retention");
    });
}

#[test]
fn a_database_that_is_away_says_so() {
    block_on(async {
        for url in [
            "postgres://nobody@localhost/nothing?host=/nonexistent",
            "sqlite:/nonexistent/veilsum.db",
            "mysql://localhost/veilsum",
        ] {
            let refused = SqlStore::open(url, ServiceKey::generate()).await.err();
            assert!(matches!(refused, Some(StoreError::Away(_))), "{url}: {refused:?}");
        }
    });
}

/// C-12, with every connection cut again and again: whoever got no answer asks again.
#[test]
fn broken_connections_lose_and_double_nothing() {
    block_on(async {
        let world = postgres().await;
        let Home::Schema(schema) = &world.home else { unreachable!() };
        let round = world.round().await;
        world.commit(round, PhaseKind::Masking, &[]).await;
        let mut workers = JoinSet::new();
        for worker in 0..4_u64 {
            let store = if worker % 2 == 0 { world.a.clone() } else { world.b.clone() };
            workers.spawn(async move {
                let mut unanswered = 0_u32;
                for number in (0..80).map(|i| worker / 2 * 80 + i) {
                    let input = [input(client(number), "input", &bit(number, false))];
                    while let Err(error) = store.admit(round, PhaseKind::Masking, &input, Timestamp(4)).await {
                        assert!(matches!(error, StoreError::Away(_)), "{error}");
                        unanswered += 1;
                    }
                }
                unanswered
            });
        }
        let mut cuts = 0;
        while cuts < 100 {
            schema.disconnect_everybody().await;
            tokio::time::sleep(Duration::from_millis(2)).await;
            cuts += 1;
        }
        println!("{cuts} cuts");
        while let Some(unanswered) = workers.join_next().await {
            println!("{} requests went unanswered", unanswered.expect("the worker lived"));
        }
        let mut expected = vec![0; SUM_LEN];
        (0..160).for_each(|number| add(&mut expected, &bit(number, false)));
        assert_eq!(world.sum(round).await, Some(expected));
    });
}
