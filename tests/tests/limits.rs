//! Limits that docs/threat-model.md states as facts: here they are shown. A test that turned red would mean that a limit is
//! gone, or is larger than stated.

use std::time::Duration;

use veilsum_client::RoundOutcome;
use veilsum_client::transport::Reply;
use veilsum_crypto::client::Resumed;
use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::{Certificate, Header, KeyAdvertisement, MaskedInput};
use veilsum_crypto::primitives::merkle::TreeHead;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::server::{Phase, PhaseKind};
use veilsum_crypto::testing::{client_id, small_params};
use verification::hostile::bent::with_bent_messages;
use verification::hostile::server::Server;
use verification::hostile::victims::{Served, from, hands, once};
use verification::hostile::{Hand, Liar, request};
use verification::world::*;

/// C-223: an upload of anything within the ring is admitted; the sum is spoilt, everybody believes it, nobody is named.
#[tokio::test(flavor = "multi_thread")]
async fn one_client_can_spoil_the_sum_and_nobody_is_named() {
    let (world, endings) = with_bent_messages(Shape::patient(5), 1, "mask", |world, number, view, body| {
        let Phase::Masking(phase) = &view.phase else { return body.to_vec() };
        let (member, params) = (world.membership(number), &view.facts.header.params);
        // Its honest vector, and garbage on top.
        let honest = MaskedInput::decode(body, params).expect("its own").vector(params).expect("in form");
        let mut vector = RingVector::from_signed(&vec![12_345; params.vector_len as usize], params.ring_bits);
        vector.add_assign(&honest).expect("one ring");
        let (chain, core) = (&view.facts.chain, phase.core().root());
        MaskedInput::sign(&vector, chain, core, member.client(), &member.identity).encode()
    })
    .await;
    let round = world.round(1).await;
    let view = world.over(round).await;
    assert_eq!(view.phase.kind(), PhaseKind::Published);
    let released = world.released(round).await.expect("a sum");
    let mut spoilt = world.plain_sum(&world.ids(0..5));
    assert!(released != spoilt, "the sum is not that of what clients wrote down");
    let params = &world.task.params;
    let garbage = RingVector::from_signed(&vec![12_345; params.vector_len as usize], params.ring_bits);
    spoilt.add_assign(&garbage).expect("one ring");
    assert!(released == spoilt, "and wrong by exactly what one client made of it");
    assert!(endings.iter().all(|ending| ending.verified() == Some(&released)), "everybody believes it");
    assert_eq!(world.named(round).await, []);
}

/// C-225: two clients are shown two logs, and each believes its own.
#[tokio::test(flavor = "multi_thread")]
async fn two_clients_may_be_shown_two_logs() {
    let mut server = Server::with(small_params(6, 8)).against([0, 1]).telling(|server, asked| {
        let is_header = asked.path.starts_with("/v1/tasks/") && asked.path.ends_with("after=0");
        is_header.then(|| {
            let root = Digest([from(asked) as u8 + 1; 32]);
            let header = Header { log: TreeHead { size: 7, root }, ..server.play.world.facts.header.clone() };
            Reply::new(200, server.signed(&header.statement()))
        })
    });
    server.is_deaf = true;
    let served = Served::open(server).await;
    for number in [0, 1] {
        let mut participant = served.participant(number, |_| {}, &hands()).await;
        let _ = tokio::time::timeout(Duration::from_millis(700), once(&mut participant)).await;
    }
    let server = served.server.lock().expect("no panic");
    for number in [0, 1] {
        assert_eq!(server.phases(client_id(number)), ["advertise"], "client {number} answers");
    }
}

/// C-220, C-225: what a policy takes on trust is said by it, in words.
#[test]
fn a_policy_says_aloud_what_it_takes_on_trust() {
    let world = veilsum_crypto::testing::World::new(small_params(6, 8));
    let mut policy = world.members[0].policy.clone();
    let says = |policy: &veilsum_crypto::client::Policy, what: &str| {
        policy.assumptions().iter().any(|said| said.starts_with(what))
    };
    assert!(says(&policy, "unwitnessed"));
    assert!(!says(&policy, "no noise demanded"), "the default demands some");
    policy.noise_multiplier_min = 0.0;
    assert!(says(&policy, "no noise demanded"));
}

/// C-221: a certificate of the authority is all that it takes to be admitted.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_certified_may_advertise() {
    let world = World::new(Shape::patient(3)).await;
    let liar = Liar::new(Hand::new(&world, 0, 1).await);
    let (uninvited, key) = (ClientId([0xee; 16]), IdentitySecretKey::from_bytes(&random()));
    let body = CertificateBody { client: uninvited, identity: key.public(), ..*liar.hand.member.certificate.body() };
    let keys = *KeyAdvertisement::decode(&liar.advert()).expect("its own").keys();
    let certificate = Certificate::issue(body, &world.authority);
    let leaf = KeyAdvertisement::sign(certificate, keys, &liar.hand.header, &key).encode();
    liar.hand.put_as(uninvited, "advertise", &leaf).await.is_admitted();
}

/// C-210, C-222: a server that stops a round after the upload costs its clients a charge, and gets nothing to open it with.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_is_stopped_after_the_upload_costs_a_charge() {
    let server = Server::six().telling(|_, asked| {
        asked.reads("survivors").then(|| {
            let problem = serde_json::json!({"status": 410, "detail": "stopped", "rule": null});
            Reply::new(410, problem.to_string())
        })
    });
    let served = Served::open(server).await;
    let mut participant = served.participant(0, |_| {}, &hands()).await;
    let ended = once(&mut participant).await.expect("no fault");
    assert!(matches!(ended, RoundOutcome::Abandoned { .. }), "{ended:?}");
    drop(participant);
    let Some(Resumed::Enrolled(phase)) = served.written(0) else { panic!("the round is over for it") };
    assert!(phase.memory().ledger().epsilon_spent(1e-5) > 0.0, "the charge stays");
    let server = served.server.lock().expect("no panic");
    let said = server.phases(client_id(0));
    assert!(!said.contains(&"confirm".to_string()) && !said.contains(&"unmask".to_string()), "{said:?}");
}

/// C-226: who lost the state file has lost the ledger with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_without_its_state_begins_with_an_empty_ledger() {
    let mut world = World::new(Shape { rounds: 2, ..Shape::patient(3) }).await;
    // A budget for one round and no more.
    let charge = world.task.charge.clone().expect("there is noise");
    let delta = world.policy.budget.delta;
    world.policy.budget.epsilon = charge.epsilon(delta).epsilon * 1.000_1;
    let round = world.round(1).await;
    world.play(&[]).await;
    world.is_exact_sum_of(round, &world.ids(0..3)).await;
    world.round(2).await;
    let with_state = world.send(0, world.line());
    let line = with_state.line.clone();
    let ending = with_state.end().await;
    assert!(matches!(ending, Ending::Outcome(RoundOutcome::LeftOut { .. })), "{ending:?}");
    assert_eq!(line.phases(), [""; 0], "its ledger is spent");
    std::fs::remove_file(&world.clients[0].state).expect("it was written");
    let without = world.send(0, world.line());
    let advertised = async {
        while without.line.sent("advertise").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), advertised).await.expect("it takes part as if it were new");
    without.abort().await;
}

/// C-228: a permit says nothing about when, or by whom it is shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_permit_may_be_used_again_by_whoever_saw_it() {
    let world = World::new(Shape::patient(3)).await;
    let round = world.round(1).await;
    let gate = Gate::letting(0, "mask");
    let running: Vec<Running> = (0..3).map(|number| world.send(number, world.line().behind(&gate))).collect();
    world.reached(round, PhaseKind::Sharing).await;
    let hand = Hand::new(&world, 0, 1).await;
    let path = hand.path("roster");
    let seen_on_the_way = hand.permit(&path);
    for _ in 0..3 {
        let fields = [("veilsum-read", seen_on_the_way.as_str())];
        assert_eq!(request(world.address, "GET", &path, &fields, b"").await.status, 200);
    }
    // For that path only.
    let fields = [("veilsum-read", seen_on_the_way.as_str())];
    request(world.address, "GET", &hand.path("core"), &fields, b"").await.is(403, Some(37));
    gate.open();
    for running in running {
        assert!(running.end().await.verified().is_some());
    }
}
