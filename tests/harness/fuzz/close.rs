//! `server::close` after whatever `accept` let through: it is total, its phases survive the store, and nobody honest is named.

use std::collections::{BTreeMap, BTreeSet};

use veilsum_crypto::ids::ClientId;
use veilsum_crypto::messages::Evidence;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{Signed, Statement};
use veilsum_crypto::server::{Effect, Keep, Phase, PhaseKind, StatementKind, accept, close};

use super::Target;
use super::edit::Input;
use super::stage::{CLIENTS, OPEN_PHASES, STAGE};

/// The target.
pub const TARGET: Target = Target {
    name: "close",
    what: "whole rounds from any phase on, with clients lost and messages forged: close never panics, what it returns survives \
           the store, whoever is named signed the evidence, and a sum that is released is exact",
    run,
    seeds,
    words: &[],
    portion: 1,
    finish: super::nothing,
};

/// `u8 phase, u8 lost (bits), u8 forged messages (at most 3)`, each as `Stage::forge`; then one `u8 lost` a later phase.
pub fn run(bytes: &[u8]) {
    let stage = &*STAGE;
    let mut input = Input::new(bytes);
    let first = *input.of(&OPEN_PHASES);
    let mut lost = input.byte();
    let mut standing = stage.phases[&first].clone();
    // What later phases look at, as it is at the end of an honest round.
    let veilsum_crypto::server::Received { mut shares, mut acknowledgements, .. } =
        stage.received(PhaseKind::Unmasking);
    let mut sum = stage.received(PhaseKind::Unmasking).sum.expect("the honest sum");
    let honest_sum = &stage.aggregator.statements[&StatementKind::Result].1;
    let mut cheats = BTreeSet::new();
    let forged: Vec<_> = (0..input.below(4)).map(|_| stage.forge(first, &mut input)).collect();
    for phase in OPEN_PHASES.into_iter().filter(|phase| *phase >= first) {
        if standing.kind() != phase {
            continue; // nobody complained, or the round is over
        }
        if phase == PhaseKind::Masking {
            sum.sub_assign(&sum.clone()).expect("one ring");
        }
        let forged = forged.iter().filter(|_| phase == first).map(|message| (message.client, &message.bytes, true));
        let honest = stage.messages[&phase].iter().map(|(client, bytes)| (*client, bytes, false));
        let is_lost = |client: &ClientId| {
            (0..CLIENTS).find(|number| stage.client(*number) == *client).is_some_and(|number| lost >> number & 1 == 1)
        };
        let mut bodies: BTreeMap<ClientId, Vec<u8>> = BTreeMap::new();
        // Forged ones first: of two messages of one client the first stands.
        for (client, bytes, is_forged) in forged.chain(honest).filter(|(client, ..)| !is_lost(client)) {
            if bodies.contains_key(&client) {
                continue;
            }
            let Ok(accepted) = accept(&stage.world.facts, &standing, phase, client, bytes) else { continue };
            if is_forged && stage.messages[&phase].get(&client) != Some(bytes) {
                cheats.insert(client);
            }
            let body = match accepted.keep() {
                Keep::Body(body) => body.clone(),
                Keep::Mail { body, .. } => body.clone(),
                Keep::Sum { statement, vector } => {
                    sum.add_assign(vector).expect("one ring");
                    statement.clone()
                }
            };
            bodies.insert(client, body);
        }
        match phase {
            PhaseKind::Sharing => shares = bodies.clone(),
            PhaseKind::Acknowledging => acknowledgements = bodies.clone(),
            _ => {}
        }
        let mut received = stage.received(phase);
        received.bodies = bodies;
        received.shares = shares.clone();
        received.acknowledgements = acknowledgements.clone();
        received.sum = (phase == PhaseKind::Unmasking).then(|| sum.clone());
        let (next, effects) = close(&stage.world.facts, standing, received, [7; 32]);
        assert!(next.kind() > phase, "a phase that has closed is over");
        survives_the_store(&next);
        effects.iter().for_each(|effect| check(effect, &cheats));
        if let Some(packed) = effects.iter().find_map(released).filter(|_| first > PhaseKind::Masking) {
            assert_eq!(packed, honest_sum, "a sum is exact whatever was answered");
        }
        standing = next;
        lost = input.byte();
    }
}

fn survives_the_store(phase: &Phase) {
    let bytes = phase.encode();
    let again = Phase::decode(&bytes, &STAGE.world.facts).expect("what close returned is stored and read again");
    assert!(again.encode() == bytes, "a stored phase is the phase");
}

fn released(effect: &Effect) -> Option<&Vec<u8>> {
    match effect {
        Effect::Statement { kind: StatementKind::Result, attachment, .. } => {
            Some(attachment).filter(|sum| !sum.is_empty())
        }
        _ => None,
    }
}

fn check(effect: &Effect, cheats: &BTreeSet<ClientId>) {
    match effect {
        Effect::Fault { client, rule, evidence } => {
            assert!(cheats.contains(client), "{client} is named under R-{rule} and did nothing wrong");
            let evidence = Evidence::decode(evidence).expect("as written");
            let (label, signed) = match &evidence {
                Evidence::Opening { opening, .. } => (labels::OPENING, opening),
                Evidence::Answer { answer, .. } => (labels::ANSWER, answer),
                other => panic!("close names nobody by {other:?}"),
            };
            let signed = Signed::decode(signed, label).expect("evidence is a statement");
            let number = (0..CLIENTS).find(|number| STAGE.client(*number) == *client).expect("a client");
            assert!(signed.is_by(&STAGE.key(number).public()), "evidence bears the signature of whom it names");
        }
        Effect::Statement { kind, bytes, .. } => {
            let label =
                [labels::HEADER, labels::ROSTER, labels::CORE, labels::SURVIVORS, labels::RESULT][*kind as usize];
            let statement = Statement::decode(bytes, label).expect("a statement of this kind");
            assert_eq!(statement.sender, STAGE.world.facts.chain.aggregator);
        }
        Effect::Spend | Effect::Log { .. } | Effect::Lapse | Effect::Model { .. } | Effect::Erase => {}
    }
}

/// Every phase with nobody, one and two lost, and one forged message of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for phase in 0..OPEN_PHASES.len() as u8 {
        seeds.extend([0_u8, 1, 0x81, 0x0f].map(|lost| vec![phase, lost, 0]));
        for how in 2..7_u8 {
            for at in [0_u8, 40, 90] {
                seeds.push(vec![phase, 0, 1, 3, 3, how, 1, 0, at, 0, 1]);
                seeds.push(vec![phase, 0, 1, 3, 3, how, 1, 1, at, 0, 1]);
            }
        }
    }
    seeds
}
