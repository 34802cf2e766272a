//! D, continued: vectors and answers that are not what they should be.

use veilsum_aggregator::store::Store as _;
use veilsum_crypto::ids::ClientId;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::{Answer, MaskedInput};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Signed;
use veilsum_crypto::server;
use veilsum_crypto::server::{Phase, PhaseKind};

use super::d_dealers::{all_see, others, random_share};
use super::dice::Dice;
use super::{Scale, Seen};
use crate::hostile::Hand;
use crate::hostile::bent::with_bent_messages;
use crate::world::{Running, Shape, World, sha256};

/// D03. Neighbours return altered shares: some, or all that they hold.
pub async fn d03_bad_share_at_unmask(_: Scale) -> Seen {
    let mut rounds = 0;
    for (clients, liars, altered) in [(6, 1, 1), (6, 1, usize::MAX), (12, 1, usize::MAX), (12, 3, usize::MAX)] {
        let (world, endings) =
            with_bent_messages(Shape::patient(clients), liars, "unmask", move |world, number, view, body| {
                let Phase::Unmasking(phase) = &view.phase else { return body.to_vec() }; // sent again, late
                let member = world.membership(number);
                let degree = view.phase.assembly().expect("a roster").params().degree as usize;
                let honest = Answer::decode(body, degree).expect("its own");
                let shares = honest.shares().iter().enumerate();
                let shares =
                    shares.map(|(at, share)| if at < altered { Some(random_share()) } else { share.clone() }).collect();
                let (chain, list) = (&view.facts.chain, phase.survivors().root());
                Answer::sign(shares, chain, list, member.client(), &member.identity).encode()
            })
            .await;
        assert!(endings.iter().all(|ending| ending.verified().is_some()), "{endings:?}");
        let round = world.round(1).await;
        world.is_exact_sum_of(round, &world.ids(0..clients as usize)).await;
        let expected: Vec<(ClientId, u8)> = world.ids(0..liars).into_iter().map(|client| (client, 29)).collect();
        let mut named = world.named(round).await;
        named.sort_unstable();
        assert_eq!(named, expected, "the liars, and nobody honest");
        rounds += 1;
    }
    Seen::new(format!(
        "{rounds} rounds of 6 and 12 real clients, 1 to 3 of whom signed answers with random shares, one or all: every liar named (R-29), \
         nobody honest, every sum exact"
    ))
    .count("rounds", rounds)
    .count("honest clients named", 0)
}

/// D09. Vectors that are not the one canonical packing of what was signed.
pub async fn d09_malformed_vectors(scale: Scale) -> Seen {
    let world = World::new(Shape { model_len: 7, ..Shape::patient(6) }).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let message = hand.advert().await;
    hand.put("advertise", &message).await.is_admitted();
    let others = others(&world);
    let message = hand.deal().await;
    hand.put("share", &message).await.is_admitted();
    let message = hand.acknowledge().await;
    hand.put("acknowledge", &message).await.is_admitted();
    let (good, values) = hand.mask().await;
    world.noised.lock().expect("no panic").insert(hand.client(), values);
    let (params, statement) = (hand.header.params, 223);
    for wrong in [&good[..good.len() - 1], &[&good[..], &[0]].concat(), &good[..statement], &[]] {
        hand.put("mask", wrong).await.is(400, Some(37));
    }
    hand.put("mask", &vec![0; 10_000]).await.is(413, None);
    let mut altered = good.clone();
    altered[statement] ^= 1;
    hand.put("mask", &altered).await.is(422, Some(19));
    // Spare bits that are not zero, under an honest digest.
    let spare = params.packed_bytes() * 8 - 7 * usize::from(params.ring_bits.get());
    assert!(spare > 0, "ring_bits {} leave spare bits in 7 elements", params.ring_bits.get());
    let mut packed = good[statement..].to_vec();
    *packed.last_mut().expect("not empty") |= 0x80;
    let spare = hand.sign(&good[..statement], labels::UPLOAD, |statement| {
        statement.body[8..].copy_from_slice(&sha256(&packed).0);
    });
    hand.put("mask", &[spare, packed].concat()).await.is(400, Some(37));
    let length = hand.sign(&good, labels::UPLOAD, |statement| statement.body[0] ^= 1);
    hand.put("mask", &length).await.is(422, Some(19));
    let elsewhere = hand.sign(&good, labels::UPLOAD, |statement| statement.previous.0[0] ^= 1);
    hand.put("mask", &elsewhere).await.is(422, Some(1));
    // Anything else, drawn by chance, against the same decision.
    let view = world.reached(hand.round, PhaseKind::Masking).await;
    let (mut dice, trials, mut taken) = (Dice::new(9), scale.times(20_000), 0);
    for _ in 0..trials {
        let mut message = good.clone();
        match dice.below(4) {
            0 => message.truncate(dice.below(message.len())),
            1 => message.extend((0..=dice.below(40)).map(|at| at as u8)),
            _ => {}
        }
        for _ in 0..dice.below(4) {
            let at = dice.below(message.len().max(1));
            if let Some(byte) = message.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
        let judged = server::accept(&view.facts, &view.phase, PhaseKind::Masking, hand.client(), &message);
        taken += usize::from(judged.is_ok() && message != good);
    }
    assert_eq!(taken, 0, "only what was signed is taken");
    assert_eq!(world.admitted_bodies(hand.round, PhaseKind::Masking, hand.client()).await, 0, "no partial state");
    hand.put("mask", &good).await.is_admitted();
    crate::hostile::finish(&world, hand).await;
    all_see(&world, others, 0..6).await;
    Seen::new(format!(
        "10 malformed uploads over HTTP and {trials} mutated ones: 0 taken, 0 panics, nothing stored; the right one was then taken and \
         the sum exact. (A vector with NaN is not representable here: clients refuse it before masking, C-06; more cases: the fuzz \
         targets)"
    ))
    .count("cases", trials + 10)
    .count("panics", 0)
}

/// D13. Two different masked vectors of one client in one round.
pub async fn d13_equivocating_upload(_: Scale) -> Seen {
    let world = World::new(Shape::patient(6)).await;
    let round = world.round(1).await;
    let gate = crate::world::Gate::letting(4, "mask");
    let running: Vec<Running> = (0..6).map(|number| world.send(number, world.line().behind(&gate))).collect();
    // Four have uploaded and two wait, so that the phase stays open.
    let view = world.reached(round, PhaseKind::Masking).await;
    let uploaded = async {
        while world.admitted(round).await < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), uploaded).await.expect("the gate lets four through");
    let Phase::Masking(phase) = &view.phase else { panic!("two are missing") };
    let (mut refused, mut again) = (0, 0);
    for (number, client) in running.iter().enumerate() {
        if world.admitted_bodies(round, PhaseKind::Masking, world.clients[number].id).await == 0 {
            continue; // it waits at the gate
        }
        let hand = Hand::new(&world, number, 1).await;
        let params = &hand.header.params;
        let zeros = RingVector::zeros(params.vector_len as usize, params.ring_bits);
        let (chain, core) = (hand.header.chain(), phase.core().root());
        let second = MaskedInput::sign(&zeros, &chain, core, hand.client(), &hand.member.identity).encode();
        hand.put("mask", &second).await.is(409, Some(19));
        refused += 1;
        let first = client.line.sent("mask")[0].clone();
        hand.put("mask", &first).await.is_admitted();
        again += 1;
        let stored =
            world.rounds().store().digest(round, PhaseKind::Masking, hand.client()).await.expect("the store answers");
        assert_eq!(stored, Some(sha256(&first)), "the first stands");
        // The two signed statements convict their sender.
        let signed = |body: &[u8]| Signed::decode(&body[..223], labels::UPLOAD).expect("signed");
        assert!(signed(&first).contradicts(&signed(&second)));
    }
    assert_eq!((refused, again), (4, 4));
    gate.open();
    for running in running {
        assert!(running.end().await.verified().is_some());
    }
    world.is_exact_sum_of(round, &world.ids(0..6)).await;
    Seen::new(
        "4 clients sent a second vector after their first: 409 R-19 each, the first stands (its digest is the one stored), the same \
         bytes again 204; first and second contradict each other under one signature key; the sum exact",
    )
    .count("refused", refused)
    .count("stored per client", 1)
}
