//! Clients that send what they should not. Each gets the status, type and rule of docs/wire.md §9, no handler panics, and
//! the round goes on for the others and is released exactly.

use std::collections::BTreeMap;

use veilsum_crypto::ids::{ClientId, Digest, RoundId};
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::{
    Acknowledgement, Certificate, Confirmation, EdgeReport, Header, KeyAdvertisement, Opening, ReadPermit, SealedShares,
};
use veilsum_crypto::primitives::agreement::{MaskingSecretKey, Point};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed};
use veilsum_crypto::server::{Phase, PhaseKind};
use veilsum_crypto::testing::os_rng;
use verification::hostile::*;
use verification::world::*;

/// The statements of a leaf: certificate and advert.
fn parts(leaf: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut reader = Reader::new(leaf);
    let certificate = reader.prefixed("certificate").expect("a leaf").to_vec();
    (certificate, reader.prefixed("advert").expect("a leaf").to_vec())
}

/// All but client 0 take part as they should; their confirmations wait for the gate.
fn others(world: &World, gate: &Gate) -> Vec<Running> {
    (1..world.clients.len()).map(|number| world.send(number, world.line().behind(gate))).collect()
}

/// Client 0 goes on as it should; everybody is in the exact sum.
async fn goes_on(world: &World, hand: Hand, others: Vec<Running>) {
    let round = hand.round;
    finish(world, hand).await;
    for other in others {
        let ending = other.end().await;
        assert!(ending.verified().is_some(), "{ending:?}");
    }
    world.is_exact_sum_of(round, &world.ids(0..world.clients.len())).await;
}

fn open_gate() -> Gate {
    Gate::letting(10_000, "nowhere")
}

/// C-20: whatever comes in place of an advert is refused by name; the right one is then admitted.
#[tokio::test(flavor = "multi_thread")]
async fn adverts_that_are_not_canonical_or_not_their_senders_are_refused() {
    let world = World::new(Shape::patient(5)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let good = hand.advert().await;
    let (certificate, advert) = parts(&good);

    // Lengths and layout.
    for wrong in [&b""[..], &good[..578], &[&good[..], &[0]].concat(), &vec![0; 579], &vec![0xff; 579]] {
        hand.put("advertise", wrong).await.is(400, Some(37));
    }
    hand.put("advertise", &vec![0; 20_000]).await.is(413, None);
    let mut version = good.clone();
    version[4 + 22] = 2; // after the certificate's label
    hand.put("advertise", &version).await.is(400, Some(37));
    let mut label = good.clone();
    label[4 + 1] = b'V';
    hand.put("advertise", &label).await.is(400, Some(37));

    // Another sender, chain, signature.
    hand.put_as(world.clients[1].id, "advertise", &good).await.is(403, None);
    for alter in [0, 1, 2] {
        let advert = hand.sign(&advert, labels::ADVERT, |statement| match alter {
            0 => statement.context.0[0] ^= 1,
            1 => statement.previous.0[0] ^= 1,
            _ => statement.receiver.0[0] ^= 1,
        });
        hand.put("advertise", &leaf_of(&certificate, &advert)).await.is(422, Some(1));
    }
    for at in [good.len() - 1, good.len() - 33, good.len() - 64] {
        let mut forged = good.clone();
        forged[at] ^= 1;
        hand.put("advertise", &forged).await.is(403, Some(37));
    }
    // S + l in place of S verifies where canonical scalars are not demanded. R-37
    let mut malleable = good.clone();
    let at = good.len() - 32;
    add_group_order(&mut malleable[at..]);
    hand.put("advertise", &malleable).await.is(403, Some(37));
    // R of small order. R-37
    let mut small = good.clone();
    small[at - 32..at].copy_from_slice(&small_order_identity()[0]);
    hand.put("advertise", &small).await.is(403, Some(37));

    hand.put("advertise", &good).await.is_admitted();
    hand.put("advertise", &good).await.is_admitted();
    let others = others(&world, &open_gate());
    goes_on(&world, hand, others).await;
}

/// C-20, R-06, R-36: certificates are judged at the time the round opened.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_do_not_hold_are_refused() {
    let world = World::new(Shape::patient(5)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let good = hand.advert().await;
    let keys = *KeyAdvertisement::decode(&good).expect("its own").keys();
    let opened = hand.header.opened_at;
    let day = |days: u64| days * 24 * 60 * 60 * 1_000;
    let stranger = IdentitySecretKey::generate(&mut os_rng());
    type Change<'a> = dyn Fn(&mut CertificateBody) + 'a;
    let wrong: [(&str, &IdentitySecretKey, &Change<'_>); 5] = [
        ("expired when the round opened", &world.authority, &|body| body.not_after = opened),
        ("not valid yet", &world.authority, &|body| body.not_before = opened.plus_ms(1)),
        ("31 days", &world.authority, &|body| body.not_after = body.not_before.plus_ms(day(31))),
        ("foreign", &stranger, &|_| {}),
        ("foreign and expired", &stranger, &|body| body.not_after = opened),
    ];
    for (what, authority, change) in wrong {
        println!("{what}");
        let mut body = *hand.member.certificate.body();
        change(&mut body);
        let leaf =
            KeyAdvertisement::sign(Certificate::issue(body, authority), keys, &hand.header, &hand.member.identity);
        hand.put("advertise", &leaf.encode()).await.is(403, Some(6));
    }
    // The foreign authority under the name of the right one.
    let (certificate, advert) = parts(&good);
    let forged =
        Signed::decode(&certificate, labels::CERTIFICATE).expect("its own").statement().clone().sign(&stranger);
    hand.put("advertise", &leaf_of(&forged.encode(), &advert)).await.is(403, Some(6));
    // For another key than the one that signs.
    let mut body = *hand.member.certificate.body();
    body.identity = stranger.public();
    let leaf =
        KeyAdvertisement::sign(Certificate::issue(body, &world.authority), keys, &hand.header, &hand.member.identity);
    hand.put("advertise", &leaf.encode()).await.is(403, Some(37));

    hand.put("advertise", &good).await.is_admitted();
    let others = others(&world, &open_gate());
    goes_on(&world, hand, others).await;
}

/// C-22: a message for another phase, client, round or path is turned away, with the reason where the phase is over.
#[tokio::test(flavor = "multi_thread")]
async fn messages_for_another_phase_client_round_or_path_are_turned_away() {
    let world = World::new(Shape { rounds: 2, ..Shape::patient(3) }).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let round = hand.round;
    let good = hand.advert().await;
    for early in ["share", "acknowledge", "open", "mask", "confirm", "unmask"] {
        hand.put(early, b"early").await.is(425, None);
    }
    let client = hand.client();
    let zeros = RoundId([0; 16]);
    for target in [
        format!("/v1/rounds/{zeros}/advertise/{client}"),
        format!("/v1/rounds/{round}/advertise/{}", client.to_string().to_uppercase()),
        format!("/v1/rounds/{round}/advertise/{client}0"),
        format!("/v1/rounds/{}/advertise/{client}", round.to_string().to_uppercase()),
        format!("/v1/rounds/{round}/advertize/{client}"),
        format!("/v1/rounds/{round}/mail/{client}"),
        format!("/v1/rounds/{round}/advertise"),
        format!("/v2/rounds/{round}/advertise/{client}"),
        "/".to_string(),
        "/v1/rounds/../../etc/passwd".to_string(),
    ] {
        println!("{target}");
        request(world.address, "PUT", &target, &[], &good).await.is(404, None);
    }
    for method in ["POST", "DELETE", "PATCH"] {
        request(world.address, method, &hand.path(&format!("advertise/{client}")), &[], &good).await.is(404, None);
    }
    for target in [
        "/v1/tasks/00/header",
        &format!("/v1/tasks/{}/header", "00".repeat(16)),
        &format!("/v1/models/{}", "00".repeat(32)),
        "/v1/models/zz",
        "/v1/models/%ff",
        &format!("/v1/revocations/{}", "00".repeat(32)),
        "/v1/log/consistency?from=0&to=1",
        "/v1/log/consistency?from=1&to=9999",
    ] {
        println!("{target}");
        hand.get(target, None).await.is(404, None);
    }

    hand.put("advertise", &good).await.is_admitted();
    let others = others(&world, &open_gate());
    world.reached(round, PhaseKind::Sharing).await;
    // The phase has closed: the same bytes are remembered, other bytes are not, and who sent nothing hears so. G16
    hand.put("advertise", &good).await.is_admitted();
    hand.put("advertise", &good[1..]).await.is(409, Some(3));
    let late = hand.put_as(ClientId([0xee; 16]), "advertise", &good).await;
    late.is(410, None);
    assert_eq!(late.word(), "phase-closed");
    hand.put_as(ClientId([0xee; 16]), "share", &good[..200]).await.is(404, None);
    goes_on(&world, hand, others).await;

    // The round is over, and stale.
    let stale = Hand::new(&world, 0, 2).await;
    let old = |phase: &str| format!("/v1/rounds/{round}/{phase}/{client}");
    request(world.address, "PUT", &old("advertise"), &[], &good).await.is_admitted();
    request(world.address, "PUT", &old("mask"), &[], &good[..200]).await.is(409, Some(19));
    let over = request(world.address, "PUT", &old("open"), &[], &good[..200]).await;
    over.is(410, None);
    assert_eq!(over.word(), "published");
    // An advert of the round before, in the round that is open. A16, C07
    stale.put("advertise", &good).await.is(422, Some(1));
}

/// C-23: the line and the headers of a request have 16 KiB (docs/wire.md §10).
#[tokio::test(flavor = "multi_thread")]
async fn headers_beyond_sixteen_kibibytes_are_refused() {
    let world = World::new(Shape::patient(3)).await;
    let round = world.round(1).await;
    let padding = "7".repeat(20 * 1024);
    let answer =
        request(world.address, "GET", &format!("/v1/rounds/{round}/header"), &[("x-padding", &padding)], b"").await;
    assert_eq!(answer.status, 431);
    let answer = request(world.address, "GET", &format!("/v1/rounds/{round}/header"), &[], b"").await;
    assert_eq!(answer.status, 200, "the service goes on");
}

/// C-24, R-35: what a round says of its clients goes to its clients, each with a permit of its own for this very path.
#[tokio::test(flavor = "multi_thread")]
async fn reads_without_a_permit_of_this_reader_path_and_round_are_refused() {
    let world = World::new(Shape { rounds: 2, ..Shape::patient(3) }).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let outsider = Hand::new(&world, 1, 1).await;
    let roster = hand.path("roster");
    // Before its advert is admitted nobody reads.
    hand.get(&roster, Some(&hand.permit(&roster))).await.is(403, Some(35));
    let good = hand.advert().await;
    hand.put("advertise", &good).await.is_admitted();
    assert_eq!(hand.get(&roster, Some(&hand.permit(&roster))).await.status, 204, "not settled yet");
    outsider.get(&roster, Some(&outsider.permit(&roster))).await.is(403, Some(35));

    let others = others(&world, &Gate::letting(0, "mask"));
    world.reached(hand.round, PhaseKind::Sharing).await;
    let core = hand.path("core");
    let me = hand.client();
    let neighbour = world.clients[1].id;
    hand.get(&roster, None).await.is(403, Some(35));
    for malformed in
        ["", "zz", "00", "abc", &"00".repeat(4_001), &hand.permit(&roster)[2..], &format!("{}00", hand.permit(&roster))]
    {
        hand.get(&roster, Some(malformed)).await.is(403, Some(35));
    }
    hand.get(&roster, Some(&hand.permit(&roster).to_uppercase())).await.is(403, Some(35));
    // For another path.
    hand.get(&roster, Some(&hand.permit(&core))).await.is(403, Some(37));
    hand.get(&hand.path("leaves?i=0"), Some(&hand.permit(&hand.path("leaves?i=1")))).await.is(403, Some(37));
    // Another round's.
    let other_header = Header { counter: 7, ..hand.header.clone() };
    let elsewhere = ReadPermit::sign(&roster, &other_header.chain(), me, &hand.member.identity);
    hand.get(&roster, Some(&hex::encode(elsewhere.encode()))).await.is(403, Some(37));
    // Somebody else's name under this client's key; and no client's.
    let forged = ReadPermit::sign(&roster, &hand.header.chain(), neighbour, &hand.member.identity);
    hand.get(&roster, Some(&hex::encode(forged.encode()))).await.is(403, Some(37));
    let nobody = ClientId([0xee; 16]);
    let stranger = ReadPermit::sign(&roster, &hand.header.chain(), nobody, &hand.member.identity);
    hand.get(&roster, Some(&hex::encode(stranger.encode()))).await.is(403, Some(35));
    // Another client's mail.
    for what in ["mail", "complaints", "openings", "uploads"] {
        let path = hand.path(&format!("{what}/{neighbour}"));
        hand.get(&path, Some(&hand.permit(&path))).await.is(403, Some(35));
    }
    let path = hand.path(&format!("letters/{me}"));
    hand.get(&path, Some(&hand.permit(&path))).await.is(404, None);
    // Its own, asked for twice, and with wait, which is no part of what is signed.
    let permit = hand.permit(&roster);
    assert_eq!(hand.get(&roster, Some(&permit)).await.status, 200);
    assert_eq!(hand.get(&format!("{roster}?wait=10"), Some(&permit)).await.status, 200);
    for query in ["wait=x", "wait=-1", "wait=1&wait=1", "weight=1", "wait", "after=1"] {
        hand.get(&format!("{roster}?{query}"), Some(&permit)).await.is(400, Some(37));
    }
    drop(others);
}

/// C-24: `leaves` takes 1 to 512 indices below n, none twice, in decimal without sign or leading zeros (docs/wire.md §1, §8.2).
#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_for_leaves_are_refused() {
    let world = World::new(Shape::patient(3)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let good = hand.advert().await;
    hand.put("advertise", &good).await.is_admitted();
    let others = others(&world, &open_gate());
    world.reached(hand.round, PhaseKind::Sharing).await;
    let many: Vec<String> = (0..513).map(|index| index.to_string()).collect();
    let many = format!("i={}", many.join(","));
    for query in [
        "",
        "i",
        "i=",
        "i=0,",
        "i=,0",
        "i=0,,1",
        "i=0,0",
        "i=3",
        "i=4294967296",
        "i=-1",
        "i=+1",
        "i=01",
        "i=0%2C1",
        "i=a",
        "i=0&i=1",
        "i=0;1",
        &many,
    ] {
        let path = hand.path(&format!("leaves?{query}"));
        println!("{}", &query[..query.len().min(20)]);
        hand.get(&path, Some(&hand.permit(&path))).await.is(400, Some(37));
    }
    let path = hand.path("leaves?i=2,0");
    let leaves = hand.get(&path, Some(&hand.permit(&path))).await;
    assert_eq!((leaves.status, leaves.body.len()), (200, 2 * (4 + 579)), "in the order asked");
    goes_on(&world, hand, others).await;
}

/// C-20, R-13, R-38: share messages; a dealer off the polynomial is named (D02, D18, D20).
#[tokio::test(flavor = "multi_thread")]
async fn share_messages_that_are_not_k_signed_edges_of_low_degree_are_refused() {
    let world = World::new(Shape::patient(6)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let advert = hand.advert().await;
    hand.put("advertise", &advert).await.is_admitted();
    let others = others(&world, &open_gate());
    let good = hand.deal().await;
    let view = world.reached(hand.round, PhaseKind::Sharing).await;
    let assembly = view.phase.assembly().expect("a roster");
    let (chain, root, degree) = (hand.header.chain(), assembly.root(), assembly.params().degree);
    let edges = SealedShares::decode(&good, degree).expect("its own").edges().to_vec();
    let signed = |edges| SealedShares::sign(edges, &chain, root, hand.client(), &hand.member.identity).encode();

    for wrong in [&good[..good.len() - 1], &good[..214], &good[..good.len() - 148], &[], &[&good[..], &[0]].concat()] {
        hand.put("share", wrong).await.is(400, Some(37));
    }
    hand.put("share", &vec![0; 100_000]).await.is(413, None);
    let mut swapped = edges.clone();
    swapped.swap(0, 1);
    hand.put("share", &signed(swapped)).await.is(422, Some(13));
    let mut double = edges.clone();
    double[1] = double[0].clone(); // one holder twice: a duplicate share index. E07
    hand.put("share", &signed(double)).await.is(422, Some(13));
    let mut altered = good.clone();
    let at = altered.len() - 100; // in the ciphertext of the last edge
    altered[at] ^= 1;
    hand.put("share", &altered).await.is(422, Some(13));
    let mut point = good.clone();
    let at = point.len() - 32;
    point[at..].fill(0); // the identity
    hand.put("share", &point).await.is(400, Some(37));
    let unsigned = {
        let mut unsigned = point;
        unsigned[213] ^= 1; // the signature is checked before the attachment is looked at
        unsigned
    };
    hand.put("share", &unsigned).await.is(403, Some(37));
    hand.put("share", &hand.sign(&good, labels::SHARE, |statement| statement.previous.0[0] ^= 1))
        .await
        .is(422, Some(1));
    hand.put_as(world.clients[1].id, "share", &good).await.is(403, None);

    let mut bent = edges.clone();
    bent[0].masking_point = Point::of(&MaskingSecretKey::generate(&mut os_rng()).to_scalar());
    hand.put("share", &signed(bent)).await.is(422, Some(38));
    let mut bent = edges;
    bent[2].self_mask_point = Point::of(&MaskingSecretKey::generate(&mut os_rng()).to_scalar());
    hand.put("share", &signed(bent)).await.is(422, Some(38));
    let named = world.named(hand.round).await;
    let client = hand.client();
    assert!(
        !named.is_empty() && named.iter().all(|(who, _)| *who == client),
        "the sender is named, and nobody else: {named:?}"
    );

    hand.put("share", &good).await.is_admitted();
    goes_on(&world, hand, others).await;
}

/// C-20, R-16, R-17: acknowledgements.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_with_too_many_complaints_or_wrong_entries_are_refused() {
    let world = World::new(Shape::patient(6)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let message = hand.advert().await;
    hand.put("advertise", &message).await.is_admitted();
    let others = others(&world, &open_gate());
    let shares = hand.deal().await;
    hand.put("share", &shares).await.is_admitted();
    let good = hand.acknowledge().await;
    let view = world.reached(hand.round, PhaseKind::Acknowledging).await;
    let params = *view.phase.assembly().expect("a roster").params();
    let root = view.phase.assembly().expect("a roster").root();
    let signed = |reports| {
        Acknowledgement::sign(
            Digest([7; 32]),
            reports,
            &hand.header.chain(),
            root,
            hand.client(),
            &hand.member.identity,
        )
        .encode()
    };
    let complaint = EdgeReport::Complaint { edge: Digest([7; 32]) };
    let mut reports = vec![EdgeReport::Good; params.degree as usize];
    reports[..=params.openings_max() as usize].fill(complaint);
    hand.put("acknowledge", &signed(reports)).await.is(422, Some(16)); // D21
    let body = |alter: &dyn Fn(&mut Vec<u8>)| {
        hand.sign(&good, labels::ACKNOWLEDGEMENT, |statement| alter(&mut statement.body))
    };
    hand.put("acknowledge", &body(&|body| body[0] = 3)).await.is(400, Some(37));
    hand.put("acknowledge", &body(&|body| body[0] = 2)).await.is(400, Some(37)); // without the hash
    hand.put("acknowledge", &body(&|body| body.truncate(body.len() - 1))).await.is(400, Some(37));
    hand.put("acknowledge", &body(&|body| body.push(1))).await.is(400, Some(37));
    hand.put("acknowledge", &body(&|body| body.clear())).await.is(400, Some(37)); // E08
    hand.put("acknowledge", &hand.sign(&good, labels::ACKNOWLEDGEMENT, |statement| statement.context.0[0] ^= 1))
        .await
        .is(422, Some(1));
    hand.put("acknowledge", &shares[..224 + params.degree as usize]).await.is(400, Some(37)); // another kind of statement
    hand.put("acknowledge", &good).await.is_admitted();
    goes_on(&world, hand, others).await;
}

/// C-20, R-21, R-23: confirmations come from the agreement set only; answers have one entry a neighbour.
#[tokio::test(flavor = "multi_thread")]
async fn confirmations_and_answers_that_are_not_in_form_or_not_their_senders_are_refused() {
    let world = World::new(Shape::patient(6)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let message = hand.advert().await;
    hand.put("advertise", &message).await.is_admitted();
    let gate = Gate::letting(0, "confirm");
    let others = others(&world, &gate);
    let message = hand.deal().await;
    hand.put("share", &message).await.is_admitted();
    let message = hand.acknowledge().await;
    hand.put("acknowledge", &message).await.is_admitted();
    let (message, values) = hand.mask().await;
    world.noised.lock().expect("no panic").insert(hand.client(), values);
    hand.put("mask", &message).await.is_admitted();
    let view = world.reached(hand.round, PhaseKind::Confirming).await;

    let Phase::Confirming(phase) = &view.phase else { panic!("the gate holds") };
    let assembly = view.phase.assembly().expect("a roster");
    let agrees = |client: ClientId| assembly.order().agrees(assembly.find(client).expect("on it").0);
    let confirmation = |number: usize, root| {
        let member = world.membership(number);
        Confirmation::sign(&hand.header.chain(), root, member.client(), &member.identity).encode()
    };
    let root = phase.survivors().root();
    let outside = (0..6).find(|number| !agrees(world.clients[*number].id)).expect("k is below n");
    let inside = (0..6).find(|number| agrees(world.clients[*number].id)).expect("k is above 0");
    let id = |number: usize| world.clients[number].id;
    hand.put_as(id(outside), "confirm", &confirmation(outside, root)).await.is(422, Some(23));
    hand.put_as(id(inside), "confirm", &confirmation(inside, Digest([7; 32]))).await.is(422, Some(1));
    hand.put_as(id(inside), "confirm", &confirmation(outside, root)).await.is(403, None);
    hand.put_as(id(inside), "confirm", &[confirmation(inside, root), vec![0]].concat()).await.is(400, Some(37));
    gate.open();

    let message = hand.confirm().await;
    if !message.is_empty() {
        let answer = hand.put("confirm", &message).await;
        assert!([204, 410].contains(&answer.status), "{answer:?}");
    }
    let good = hand.unmask().await;
    let body = |alter: &dyn Fn(&mut Vec<u8>)| hand.sign(&good, labels::ANSWER, |statement| alter(&mut statement.body));
    hand.put("unmask", &hand.sign(&good, labels::ANSWER, |statement| statement.receiver.0.fill(0)))
        .await
        .is(422, Some(1));
    hand.put("unmask", &good).await.is_admitted();
    hand.put("unmask", &body(&|body| body[1] ^= 1)).await.is(409, Some(3));
    for other in others {
        assert!(other.end().await.verified().is_some());
    }
    world.is_exact_sum_of(hand.round, &world.ids(0..6)).await;
}

/// C-22: who was left out of the core may not upload, and who dealt nothing may not acknowledge; the round goes on without
/// them (R-17, D19).
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dealt_nothing_may_neither_acknowledge_nor_upload() {
    let world = World::new(Shape::of(6)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let message = hand.advert().await;
    hand.put("advertise", &message).await.is_admitted();
    let gate = Gate::letting(0, "mask");
    let others = others(&world, &gate);
    hand.deal().await; // and keeps it
    let view = world.reached(hand.round, PhaseKind::Acknowledging).await;
    if view.phase.kind() == PhaseKind::Acknowledging {
        let answer = hand.put("acknowledge", b"anything").await;
        assert!([422, 410].contains(&answer.status), "{answer:?}"); // the phase may close under our hands
        if answer.status == 422 {
            answer.is(422, Some(17));
        }
    }
    world.reached(hand.round, PhaseKind::Masking).await;
    hand.put("mask", b"anything").await.is(422, Some(17));
    gate.open();
    for other in others {
        assert!(other.end().await.verified().is_some());
    }
    world.is_exact_sum_of(hand.round, &world.ids(1..6)).await;
    assert_eq!(world.named(hand.round).await, [], "silence names nobody");
}

/// C-25, R-16, E07: what is no opening of exactly the edges that are complained about is refused; the right one settles it.
#[tokio::test(flavor = "multi_thread")]
async fn openings_that_were_not_asked_for_are_refused() {
    let world = World::new(Shape::of(6)).await;
    let mut liar = Liar::new(Hand::new(&world, 0, 1).await);
    let (round, client) = (liar.hand.round, liar.hand.client());
    liar.hand.put("advertise", &liar.advert()).await.is_admitted();
    let others = others(&world, &open_gate());
    let view = world.reached(round, PhaseKind::Sharing).await;
    let victim = liar.neighbours(&view)[0];
    let message = liar.deal(&view, |dealt| {
        if dealt.holder == victim {
            dealt.pair.self_mask = MaskingSecretKey::generate(&mut os_rng()).to_scalar(); // the point stays right
        }
    });
    liar.hand.put("share", &message).await.is_admitted();
    let view = world.reached(round, PhaseKind::Acknowledging).await;
    liar.hand.put("acknowledge", &liar.acknowledgement(&world, &view).await).await.is_admitted();
    let view = world.reached(round, PhaseKind::Opening).await;
    assert_eq!(view.phase.kind(), PhaseKind::Opening, "the victim complains");

    let holder = |leaf| BTreeMap::from([(leaf, liar.pair(leaf))]);
    let other = liar.neighbours(&view)[1];
    liar.hand.put("open", &liar.opening(&view, holder(other))).await.is(422, Some(16));
    liar.hand.put("open", &liar.opening(&view, BTreeMap::new())).await.is(400, Some(37));
    let two = BTreeMap::from([(victim, liar.pair(victim)), (other, liar.pair(other))]);
    liar.hand.put("open", &liar.opening(&view, two)).await.is(422, Some(16));
    let right = liar.opening(&view, holder(victim));
    let body =
        |alter: &dyn Fn(&mut Vec<u8>)| liar.hand.sign(&right, labels::OPENING, |statement| alter(&mut statement.body));
    liar.hand.put("open", &body(&|body| body[6..38].fill(0xff))).await.is(400, Some(37));
    let twice = body(&|body| {
        body[0] = 2;
        body.extend_from_within(2..70); // one holder twice
    });
    liar.hand.put("open", &twice).await.is(400, Some(37));
    // A client about whom nobody complains.
    let innocent = world.membership(1);
    let root = view.phase.assembly().expect("a roster").root();
    let edges = BTreeMap::from([(victim, liar.pair(victim))]);
    let chain = liar.hand.header.chain();
    let opening = Opening::sign(edges, &chain, root, innocent.client(), &innocent.identity);
    liar.hand.put_as(innocent.client(), "open", &opening.encode()).await.is(422, Some(16));

    liar.hand.put("open", &right).await.is_admitted();
    let view = world.reached(round, PhaseKind::Masking).await;
    let (input, values) = liar.mask(&view);
    world.noised.lock().expect("no panic").insert(client, values);
    liar.hand.put("mask", &input).await.is_admitted();
    for other in others {
        let ending = other.end().await;
        assert!(ending.verified().is_some(), "{ending:?}");
    }
    world.is_exact_sum_of(round, &world.ids(0..6)).await;
    assert_eq!(world.named(round).await, [], "settled in public, and nobody is named");
}
