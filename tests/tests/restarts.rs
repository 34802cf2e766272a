//! Crashes of either side at every phase: what was begun is finished, exactly, and nothing is counted or sent twice.

use std::sync::Arc;
use std::time::Duration;

use veilsum_client::{ParticipantError, RoundOutcome};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::MaskedInput;
use veilsum_crypto::server::{Phase, PhaseKind};
use verification::hostile::{Hand, request};
use verification::world::*;

/// Phases in which every client sends, with how many messages a gate lets through before the restart.
const PHASES: [(&str, PhaseKind, usize); 6] = [
    ("advertise", PhaseKind::Advertising, 2),
    ("share", PhaseKind::Sharing, 2),
    ("acknowledge", PhaseKind::Acknowledging, 3),
    ("mask", PhaseKind::Masking, 2),
    ("confirm", PhaseKind::Confirming, 1),
    ("unmask", PhaseKind::Unmasking, 2),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Crash,
    Stop,
}

/// The aggregator ends in the middle of a phase, with some messages admitted; another starts on the same database.
async fn the_aggregator_restarts_in(phase: (&'static str, PhaseKind, usize), end: End, engine: Engine) {
    let (name, kind, admitted) = phase;
    let mut world = World::new(Shape { engine, ..Shape::patient(5) }).await;
    let round = world.round(1).await;
    let gate = Gate::letting(admitted, name);
    let running: Vec<Running> = (0..5).map(|number| world.send(number, world.line().behind(&gate))).collect();
    world.reached(round, kind).await;
    let waiting = async {
        while world.admitted(round).await < admitted as u32 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the gate lets them through");
    assert_eq!(world.reached(round, kind).await.phase.kind(), kind, "it stands in {name}");
    match end {
        End::Crash => world.crash(),
        End::Stop => world.stop().await,
    }
    gate.open(); // the others knock while nobody is there
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.start().await;
    let mut lines = Vec::new();
    for running in running {
        lines.push(running.line.clone());
        let ending = running.end().await;
        assert!(ending.verified().is_some(), "{name} {end:?}: {ending:?}");
    }
    world.is_exact_sum_of(round, &world.ids(0..5)).await;
    assert!(world.ledger().await.iter().all(|row| row.spent), "charged once");
    for line in &lines {
        for (phase, ..) in PHASES {
            let sent = line.sent(phase);
            assert!(sent.iter().all(|body| *body == sent[0]), "{phase} was sent again with other bytes");
        }
    }
    assert_eq!(world.named(round).await, []);
}

/// C-10: nothing of a round lives outside the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_is_finished_exactly_by_the_next_aggregator_after_a_crash_in_any_phase() {
    for phases in PHASES.chunks(3) {
        let mut tasks = tokio::task::JoinSet::new();
        phases.iter().for_each(|phase| {
            tasks.spawn(the_aggregator_restarts_in(*phase, End::Crash, Engine::Sqlite));
        });
        tasks.join_all().await;
    }
}

/// C-10.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_is_finished_exactly_by_the_next_aggregator_after_a_shutdown_in_any_phase() {
    for phases in PHASES.chunks(3) {
        let mut tasks = tokio::task::JoinSet::new();
        phases.iter().for_each(|phase| {
            tasks.spawn(the_aggregator_restarts_in(*phase, End::Stop, Engine::Sqlite));
        });
        tasks.join_all().await;
    }
}

/// C-10, on the other engine, where the sum of inputs is at stake.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_is_finished_exactly_on_postgresql_after_a_crash_while_inputs_arrive() {
    the_aggregator_restarts_in(PHASES[3], End::Crash, Engine::Postgres).await;
}

/// One client's task is dropped at an await of a phase, before or after its message arrived, and starts again from what it
/// had written down.
async fn a_client_restarts_at(phase: &'static str, moment: Moment) {
    let world = World::new(Shape::patient(4)).await;
    let round = world.round(1).await;
    // Confirmations of a quorum close their phase: the others wait there until the client is back.
    let gate = Gate::letting(0, if phase == "confirm" { "confirm" } else { "nowhere" });
    let others: Vec<Running> = (0..3).map(|number| world.send(number, world.line().behind(&gate))).collect();
    let first = world.send(3, world.line().ending_at(Fate { phase, moment }));
    let before = first.line.clone();
    assert!(matches!(first.end().await, Ending::Lost), "{phase} {moment:?}");
    gate.open();
    let second = world.send(3, world.line());
    let after = second.line.clone();
    let ending = second.end().await;
    assert!(ending.verified().is_some(), "{phase} {moment:?}: {ending:?}");
    for other in others {
        assert!(other.end().await.verified().is_some());
    }
    world.is_exact_sum_of(round, &world.ids(0..4)).await;
    assert_eq!(world.survivors(round).await.len(), 4, "nobody is counted twice");
    for (phase, ..) in PHASES {
        let sent = [before.sent(phase), after.sent(phase)].concat();
        assert!(sent.iter().all(|body| *body == sent[0]), "{phase} was sent again with other bytes");
    }
    let again = after.sent(phase);
    assert!(phase == "confirm" || !again.is_empty(), "what was on its way is sent again: {phase}");
}

/// C-11: a client that crashes sends the same bytes again, or nothing (B12 of attacks.csv).
#[tokio::test(flavor = "multi_thread")]
async fn a_client_dropped_before_it_sends_resumes_with_the_same_bytes_at_every_phase() {
    let mut tasks = tokio::task::JoinSet::new();
    PHASES.iter().for_each(|(phase, ..)| {
        tasks.spawn(a_client_restarts_at(phase, Moment::BeforeSending));
    });
    tasks.join_all().await;
}

/// C-11.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_dropped_after_it_sent_resumes_with_the_same_bytes_at_every_phase() {
    let mut tasks = tokio::task::JoinSet::new();
    PHASES.iter().for_each(|(phase, ..)| {
        tasks.spawn(a_client_restarts_at(phase, Moment::AfterSending));
    });
    tasks.join_all().await;
}

/// C-12: who has lost the journal of a round takes no further part in it, and cannot add a second input (D13).
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_lost_its_state_cannot_upload_a_second_time() {
    let world = World::new(Shape::patient(4)).await;
    let round = world.round(1).await;
    let gate = Gate::letting(0, "mask");
    let others: Vec<Running> = (0..3).map(|number| world.send(number, world.line().behind(&gate))).collect();
    let fate = Fate { phase: "mask", moment: Moment::AfterSending };
    let first = world.send(3, world.line().ending_at(fate));
    let uploaded = first.line.clone();
    assert!(matches!(first.end().await, Ending::Lost));

    // The device is reset: it would take part anew, with new keys, and is refused.
    let (state, backup) = (&world.clients[3].state, world.folder.path().join("backup"));
    std::fs::rename(state, &backup).expect("it was written");
    let Ending::Failed(error) = world.send(3, world.line()).end().await else { panic!("it took part twice") };
    let ParticipantError::Refused { status, rule, .. } = &error else { panic!("{error}") };
    assert_eq!((*status, rule.as_deref()), (409, Some("R-03")), "{error}");

    // By hand, with its identity: another vector under the same core.
    let view = world.reached(round, PhaseKind::Masking).await;
    let Phase::Masking(phase) = &view.phase else { panic!("it went on") };
    let hand = Hand::new(&world, 3, 1).await;
    let params = &hand.header.params;
    let zeros = RingVector::zeros(params.vector_len as usize, params.ring_bits);
    let chain = hand.header.chain();
    let second = MaskedInput::sign(&zeros, &chain, phase.core().root(), hand.client(), &hand.member.identity).encode();
    hand.put("mask", &second).await.is(409, Some(19));
    hand.put("mask", &uploaded.sent("mask")[0]).await.is_admitted();
    gate.open();
    // Its journal is found again: it finishes what it began.
    std::fs::rename(&backup, state).expect("ours");
    let found = world.send(3, world.line());
    for running in others.into_iter().chain([found]) {
        assert!(running.end().await.verified().is_some());
    }
    world.is_exact_sum_of(round, &world.ids(0..4)).await;
}

/// C-10: messages that come while a phase is closing or the service drains are not lost and not doubled: two replicas on
/// one database serve one round.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_one_database_serve_one_round() {
    let world = World::new(Shape { engine: Engine::Postgres, ..Shape::patient(4) }).await;
    let round = world.round(1).await;
    let second = veilsum_aggregator::service::Service::start(world.setup(([127, 0, 0, 1], 0).into())).await;
    let second = second.expect("another port");
    let elsewhere = second.address;
    let running: Vec<Running> = (0..4)
        .map(|number| world.send(number, if number % 2 == 0 { world.line() } else { world.line_to(elsewhere) }))
        .collect();
    for running in running {
        assert!(running.end().await.verified().is_some());
    }
    world.is_exact_sum_of(round, &world.ids(0..4)).await;
    let result = |address| async move {
        let path = format!("/v1/rounds/{round}/header");
        request(address, "GET", &path, &[], b"").await.body
    };
    assert_eq!(result(world.address).await, result(elsewhere).await, "both sign alike");
    second.stop().await;
}

/// C-12: one identity runs once.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_the_same_state_file_is_refused() {
    let world = World::new(Shape::patient(3)).await;
    let gate = Gate::letting(0, "share");
    let first = world.send(0, world.line().behind(&gate));
    let sent = || first.line.sent("advertise").len();
    let advertised = async {
        while sent() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), advertised).await.expect("it advertises");
    let Ending::Failed(error) = world.send(0, world.line()).end().await else { panic!("both run") };
    assert!(error.to_string().contains("held by another process"), "{error}");
    let line: Arc<Line> = first.abort().await;
    assert_eq!(line.sent("share").len(), 0);
}

/// C-10: an aggregator that stops for good leaves its clients waiting, not failing: they finish when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn clients_wait_for_an_aggregator_that_is_away() {
    let mut world = World::new(Shape { rounds: 2, ..Shape::patient(3) }).await;
    let round = world.round(1).await;
    world.crash();
    let running: Vec<Running> = (0..3).map(|number| world.send(number, world.line())).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.start().await;
    for running in running {
        let ending = running.end().await;
        assert!(matches!(ending, Ending::Outcome(RoundOutcome::Verified { counter: 1, .. })), "{ending:?}");
    }
    world.is_exact_sum_of(round, &world.ids(0..3)).await;
}
