//! E: keys, shares, masks and encodings that are weak, empty or ambiguous.

use std::collections::BTreeSet;

use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::{Answer, Bitmap, SealedShares};
use veilsum_crypto::primitives::agreement::{ChannelPublicKey, MaskingSecretKey, Point, SelfMaskSecret};
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, Signed};
use veilsum_crypto::server::{Phase, PhaseKind, StatementKind};

use super::d_dealers::{all_see, others};
use super::dice::{Dice, uniform_p};
use super::{Scale, Seen, trying};
use crate::hostile::bent::with_bent_messages;
use crate::hostile::server::{Server, list};
use crate::hostile::victims::face;
use crate::hostile::{Hand, SMALL_ORDER, leaf_of, small_order_identity};
use crate::world::{Shape, World};
use crate::{encoding, wycheproof};

/// The order of the group, little-endian: the smallest scalar that is not canonical.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// E03. Are masks uniform over the ring, its last element included?
pub async fn e03_mask_bias(scale: Scale) -> Seen {
    const LEN: usize = 1 << 16;
    let keys = scale.times(8);
    let (mut tested, mut extremes) = (Vec::new(), Vec::new());
    // Widths that end on bytes and widths that do not.
    for width in [8, 10, 16, 20] {
        let bits = RingBits::new(width).expect("in range");
        let shift = u32::from(width.saturating_sub(8)); // classes by the highest eight bits
        let (mut counts, mut last) = (vec![0_u64; 256], 0_u64);
        let mut dice = Dice::new(u64::from(width));
        let id = |number: u8| ClientId([number; 16]);
        for at in 0..keys {
            let (roster, core) = (Digest(dice.bytes()), Digest(dice.bytes()));
            let context = CoreContext { roster: RosterContext { header: Digest(dice.bytes()), roster }, core };
            let key = if at % 2 == 0 {
                let peer = MaskingSecretKey::from_scalar(&dice.scalar()).public();
                MaskingSecretKey::from_scalar(&dice.scalar()).pair_mask_key(id(1), (id(2), &peer), &context)
            } else {
                SelfMaskSecret::from_scalar(&dice.scalar()).into_mask_key(id(1), &context)
            };
            let mut mask = RingVector::zeros(LEN, bits);
            mask.add_mask(key);
            for value in mask.to_signed() {
                let element = (value as u64) & (u64::MAX >> (64 - u32::from(width)));
                counts[(element >> shift) as usize] += 1;
                last += u64::from(element == (1 << width) - 1);
            }
        }
        let p = uniform_p(&counts);
        assert!((0.001..=0.999).contains(&p), "{width} bits: p = {p}");
        // With 2^19 elements the last one of 2^20 may be missing by chance; of smaller rings it must be there.
        assert!(width > 16 || last > 0, "{width} bits: M - 1 never occurs");
        tested.push(format!("{width} bits: p {p:.3}"));
        extremes.push(last);
    }
    Seen::new(format!(
        "{keys} pair and self masks of {LEN} elements for each width; {}; M - 1 seen {extremes:?} times",
        tested.join(", ")
    ))
    .count("elements", 4 * keys * LEN)
}

/// E05. Keys of small order, with another encoding, or no keys at all.
pub async fn e05_invalid_dh_points(_: Scale) -> Seen {
    for key in SMALL_ORDER.iter() {
        assert!(ChannelPublicKey::from_bytes(*key).is_err(), "{} is refused", hex::encode(key));
    }
    let identity_point = [0; 32];
    let negative: [u8; 32] = std::array::from_fn(|at| u8::from(at == 0)); // RFC 9496 §A.2
    for point in [identity_point, negative, [0xff; 32]] {
        assert!(Point::from_bytes(point).is_err());
    }
    // Over HTTP, in a signed advert: S at 0, B at 32, C at 64 of the body.
    let world = World::new(Shape::patient(5)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let good = hand.advert().await;
    let (certificate, advert) = (good[4..264].to_vec(), good[268..].to_vec());
    let with = |at: usize, key: [u8; 32]| {
        let advert = hand.sign(&advert, labels::ADVERT, |statement| statement.body[at..at + 32].copy_from_slice(&key));
        leaf_of(&certificate, &advert)
    };
    let mut refused = 0;
    for key in SMALL_ORDER.iter() {
        hand.put("advertise", &with(64, *key)).await.is(400, Some(37));
        refused += 1;
    }
    for key in [identity_point, negative, [0xff; 32]] {
        hand.put("advertise", &with(0, key)).await.is(400, Some(37));
        hand.put("advertise", &with(32, key)).await.is(400, Some(37));
        refused += 2;
    }
    // Identity keys of small order, certified by the authority itself.
    for weak in small_order_identity() {
        assert!(IdentityPublicKey::from_bytes(weak).is_err());
        let mut statement = Signed::decode(&certificate, labels::CERTIFICATE).expect("its own").statement().clone();
        statement.body[16..48].copy_from_slice(&weak);
        let certificate = statement.sign(&world.authority).encode();
        hand.put("advertise", &leaf_of(&certificate, &advert)).await.is(400, Some(37));
        refused += 1;
    }
    hand.put("advertise", &good).await.is_admitted();
    let others = others(&world);
    crate::hostile::finish(&world, hand).await;
    all_see(&world, others, 0..5).await;
    Seen::new(format!(
        "{} X25519 keys of small order or unreduced, 3 points that are none, in S and B, and 2 identity keys: {refused} of {refused} \
         refused over HTTP (400 R-37) and by the decoders; the same client's good advert was then admitted",
        SMALL_ORDER.len()
    ))
    .count("refused", refused)
}

/// E07. Share indices and scalars: zero, twice, beyond the roster, beyond the group, somebody else's.
pub async fn e07_shamir_indices(_: Scale) -> Seen {
    let points: BTreeSet<u64> = (0..16_384).map(|leaf| LeafIndex(leaf).evaluation_point()).collect();
    assert_eq!(points.len(), 16_384, "no index twice");
    assert!(!points.contains(&0), "index 0 is the secret");
    assert!(ShareScalar::from_bytes(&ORDER).is_none() && ShareScalar::from_bytes(&[0xff; 32]).is_none());
    // In a dealer's message.
    let world = World::new(Shape::patient(6)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let advert = hand.advert().await;
    hand.put("advertise", &advert).await.is_admitted();
    let running = others(&world);
    let good = hand.deal().await;
    let view = world.reached(hand.round, PhaseKind::Sharing).await;
    let assembly = view.phase.assembly().expect("a roster");
    let (chain, root, params) = (hand.header.chain(), assembly.root(), *assembly.params());
    let (me, _) = assembly.find(hand.client()).expect("on it");
    let edges = SealedShares::decode(&good, params.degree).expect("its own").edges().to_vec();
    let with_holder = |holder: LeafIndex| {
        let mut edges = edges.clone();
        edges[0].holder = holder;
        SealedShares::sign(edges, &chain, root, hand.client(), &hand.member.identity).encode()
    };
    let mut refused = 0;
    for (what, holder) in [
        ("twice", edges[1].holder),
        ("its own: it would hold a share of its secret", me),
        ("beyond the roster", LeafIndex(params.n)),
        ("u32::MAX, whose evaluation point would wrap in 32 bits", LeafIndex(u32::MAX)),
    ] {
        trying(what);
        hand.put("share", &with_holder(holder)).await.is(422, Some(13));
        refused += 1;
    }
    hand.put("share", &good).await.is_admitted();
    let message = hand.acknowledge().await;
    hand.put("acknowledge", &message).await.is_admitted();
    let (message, values) = hand.mask().await;
    world.noised.lock().expect("no panic").insert(hand.client(), values);
    hand.put("mask", &message).await.is_admitted();
    let message = hand.confirm().await;
    if !message.is_empty() {
        let answer = hand.put("confirm", &message).await;
        assert!([204, 410].contains(&answer.status), "{answer:?}");
    }
    // In an answer: at or above the order of the group, and one too many or too few.
    let good = hand.unmask().await;
    type Bend = fn(&mut Vec<u8>);
    let bends: [Bend; 5] = [
        |body| body[1..33].copy_from_slice(&ORDER),
        |body| body[1..33].fill(0xff),
        |body| body[0] = 2,
        |body| body.truncate(33),
        |body| body.push(0),
    ];
    for bend in bends {
        let bent = hand.sign(&good, labels::ANSWER, |statement| bend(&mut statement.body));
        hand.put("unmask", &bent).await.is(400, Some(37));
        refused += 1;
    }
    hand.put("unmask", &good).await.is_admitted();
    all_see(&world, running, 0..6).await;
    // Shares of one owner in another's place: scalars like any other, found against the signed points before they count.
    let (world, endings) = with_bent_messages(Shape::patient(6), 1, "unmask", |world, number, view, body| {
        let Phase::Unmasking(phase) = &view.phase else { return body.to_vec() };
        let member = world.membership(number);
        let degree = view.phase.assembly().expect("a roster").params().degree as usize;
        let mut shares = Answer::decode(body, degree).expect("its own").shares().to_vec();
        shares.rotate_left(1);
        let (chain, list) = (&view.facts.chain, phase.survivors().root());
        Answer::sign(shares, chain, list, member.client(), &member.identity).encode()
    })
    .await;
    assert!(endings.iter().all(|ending| ending.verified().is_some()), "{endings:?}");
    let round = world.round(1).await;
    world.is_exact_sum_of(round, &world.ids(0..6)).await;
    assert_eq!(world.named(round).await, [(world.clients[0].id, 29)]);
    Seen::new(format!(
        "no leaf has index 0 and none of 16,384 an index twice; {refused} messages with holders twice, foreign or beyond, scalars at or \
         above the order, entries too many or too few: refused; shares of other owners in an answer named their holder (R-29), the sum \
         exact"
    ))
    .count("refused", refused)
}

fn nobody(server: &Server) -> Bitmap {
    Bitmap::empty(server.assembly().params().n)
}

/// E08. Empty lists where something must be checked for each entry.
pub async fn e08_vacuous_loops(_: Scale) -> Seen {
    // What a server serves.
    type Empty = fn(&mut Server) -> Vec<u8>;
    let served: [(&'static str, Empty, u8); 7] = [
        ("roster", |_| Vec::new(), 37),
        ("leaves", |_| Vec::new(), 37),
        ("mail", |_| Vec::new(), 37), // not even a count
        ("core", |server| server.core(nobody(server)), 17),
        ("survivors", |server| server.survivors(nobody(server)), 15),
        ("uploads", |_| list(&[]), 22),
        ("confirmations", |_| list(&[]), 24),
    ];
    let mut refused = 0;
    for (what, empty, rule) in served {
        trying(what);
        let (faced, _) = face(Server::six().with_instead(what, empty), |_| {}).await;
        assert_eq!(faced.outcome().rule().map(|rule| rule.0), Some(rule), "{what}: {:?}", faced.ended);
        assert!(!faced.sent.contains(&"unmask".to_string()));
        refused += 1;
    }
    // An empty mailbox is in form: all is missing, and the client comes into no core.
    let (faced, _) = face(Server::six().with_instead("mail", |_| list(&[])), |_| {}).await;
    faced.left_out(17, &["advertise", "share", "acknowledge"]);
    // A statement without a signature, and with one of zeros.
    for cut in [64, 0] {
        let server = Server::six().with_instead("core", move |server| {
            let mut core = server.served(StatementKind::Core);
            core.truncate(core.len() - 64);
            core.extend(vec![0; 64 - cut]);
            core
        });
        let (faced, _) = face(server, |_| {}).await;
        faced.stopped(if cut == 64 { 37 } else { 1 }, &["advertise", "share", "acknowledge"]);
        refused += 1;
    }
    // What a client sends.
    let world = World::new(Shape::patient(6)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let good = hand.advert().await;
    let unsigned = [&good[..good.len() - 64], &[0; 64]].concat();
    hand.put("advertise", &unsigned).await.is(403, Some(37));
    hand.put("advertise", b"").await.is(400, Some(37));
    hand.put("advertise", &leaf_of(b"", b"")).await.is(400, Some(37));
    hand.put("advertise", &good).await.is_admitted();
    let running = others(&world);
    let good = hand.deal().await;
    hand.put("share", &good[..214]).await.is(400, Some(37)); // signed, and no edges
    hand.put("share", &good).await.is_admitted();
    let good = hand.acknowledge().await;
    let emptied = hand.sign(&good, labels::ACKNOWLEDGEMENT, |statement| statement.body.clear());
    hand.put("acknowledge", &emptied).await.is(400, Some(37));
    hand.put("acknowledge", &good).await.is_admitted();
    let (good, values) = hand.mask().await;
    world.noised.lock().expect("no panic").insert(hand.client(), values);
    hand.put("mask", &good[..223]).await.is(400, Some(37)); // signed, and no vector
    hand.put("mask", &good).await.is_admitted();
    let message = hand.confirm().await;
    if !message.is_empty() {
        let answer = hand.put("confirm", &message).await;
        assert!([204, 410].contains(&answer.status), "{answer:?}");
    }
    let good = hand.unmask().await;
    let emptied = hand.sign(&good, labels::ANSWER, |statement| statement.body.clear());
    hand.put("unmask", &emptied).await.is(400, Some(37));
    hand.put("unmask", &good).await.is_admitted();
    refused += 7;
    all_see(&world, running, 0..6).await;
    Seen::new(format!(
        "{refused} empty rosters, leaves, cores, lists, uploads, confirmations, signatures, edges, reports, vectors and answers: all \
         refused; an empty mailbox left its client out of the core"
    ))
    .count("refused", refused)
}

/// E10. Do two different statements ever have the same bytes?
pub async fn e10_encoding_ambiguity(scale: Scale) -> Seen {
    // Every tuple is compared with every other: the pairs grow with the square of the scale.
    let tuples = scale.times(15_000) as u64;
    let figures = encoding::no_two_tuples_encode_equally(tuples, 11).expect("distinct tuples have distinct bytes");
    assert!(figures.pairs >= 100_000_000, "{figures:?}");
    Seen::new(format!(
        "{} distinct tuples, cut at every place between two fields, each against each: {} pairs, 0 with equal bytes",
        figures.tuples, figures.pairs
    ))
    .figure("pairs", figures.pairs as f64)
    .count("collisions", 0)
}

/// E11. Wycheproof's vectors against the primitives as they are used here.
pub async fn e11_vector_suites(_: Scale) -> Seen {
    let suites = wycheproof::all().unwrap_or_else(|case| panic!("{case}"));
    let mut seen = Vec::new();
    let (mut run, mut cases) = (0, 0);
    for (name, figures) in &suites {
        let on_purpose: usize = figures.refused_on_purpose.values().flatten().collect::<BTreeSet<_>>().len();
        assert_eq!(
            figures.taken + figures.refused + on_purpose,
            figures.run,
            "{name}: every case that was run is counted"
        );
        seen.push(format!("{name} {} of {} run, {on_purpose} refused on purpose", figures.run, figures.cases));
        (run, cases) = (run + figures.run, cases + figures.cases);
    }
    Seen::new(format!(
        "{}; all as Wycheproof says. What cannot be expressed here (other nonce sizes) is not run; known answers of the RFCs: \
         `cargo test -p verification --test known_answers`",
        seen.join("; ")
    ))
    .count("run", run)
    .count("cases", cases)
}
