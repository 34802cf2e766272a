//! The client's own judgement: every step, on whatever an aggregator (or others through it) may show.

use veilsum_crypto::client::{HeaderEvidence, Opened, Resumed};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed};
use veilsum_crypto::testing::{SeededRng, TASK, now};

use super::Target;
use super::edit::{Input, edit};
use super::forge::mend;
use super::stage::{CLIENTS, STAGE, Stage, State};

/// The target.
pub const TARGET: Target = Target {
    name: "client",
    what: "every step of a client on hostile statements, mail and lists: it never panics, and goes on from no statement that \
           differs from the honest one unless the aggregator's key signed it anew",
    run,
    seeds,
    words: &[],
    portion: 6,
    finish: super::nothing,
};

/// `u8 state, u8 variant`, then edits of what is served: `u8 how many`, each `u8 item, u8 how`, then edits.
pub fn run(bytes: &[u8]) {
    let stage = &*STAGE;
    let mut input = Input::new(bytes);
    let number = input.below(stage.states.len() + 1);
    let variant = input.byte();
    let Some(state) = stage.states.get(number) else { return fresh(stage, &mut input) };
    let mut served = state.served.clone();
    let mut is_resigned = false;
    for _ in 0..input.below(4) {
        is_resigned |= alter(stage, &mut served, &mut input);
    }
    step(stage, state, &served, variant, is_resigned);
}

/// One edit of what is served; whether somebody signed anew.
pub(super) fn alter(stage: &Stage, served: &mut Vec<Vec<u8>>, input: &mut Input<'_>) -> bool {
    if served.is_empty() {
        served.push(input.rest().to_vec());
        return false;
    }
    let at = input.below(served.len());
    match input.below(8) {
        0 | 1 => edit(&mut served[at], &stage.donors(), input),
        2 => drop(served.remove(at)),
        3 => {
            let again = served[at].clone();
            served.push(again);
        }
        4 => {
            let other = input.below(served.len());
            served.swap(at, other);
        }
        5 => served[at] = input.rest().to_vec(),
        how => {
            let signer = input.below(CLIENTS + 1);
            let key = if signer < CLIENTS { stage.key(signer) } else { &stage.world.aggregator };
            let key = if at == 0 && how == 6 { &stage.world.aggregator } else { key };
            return resign(stage, &mut served[at], key, input);
        }
    }
    false
}

/// Alters a field of the statement with which these bytes begin, or its attachment, and signs again.
fn resign(stage: &Stage, bytes: &mut Vec<u8>, key: &IdentitySecretKey, input: &mut Input<'_>) -> bool {
    // Mail begins with its dealer.
    for skipped in [0, 4] {
        for label in labels::STATEMENTS {
            let mut reader = Reader::new(bytes.get(skipped..).unwrap_or_default());
            let Ok(signed) = Signed::read(&mut reader, label) else { continue };
            let (mut statement, mut attachment) = (signed.statement().clone(), reader.rest().to_vec());
            if input.byte() & 1 == 0 {
                stage.pool().edit_statement(&mut statement, input);
            } else {
                edit(&mut attachment, &stage.donors(), input);
                mend(&mut statement, &attachment);
            }
            *bytes = [&bytes[..skipped], &statement.sign(key).encode(), &attachment].concat();
            return true;
        }
    }
    false
}

/// A client that never took part, before a header.
fn fresh(stage: &Stage, input: &mut Input<'_>) {
    let mut served = vec![stage.world.header(), Vec::new()];
    let is_resigned = (0..input.below(4)).fold(false, |resigned, _| alter(stage, &mut served, input) | resigned);
    let [header, rest @ ..] = served.as_slice() else { return };
    let revocations = rest.first().cloned().unwrap_or_default();
    let evidence = HeaderEvidence { revocations, log_growth: Vec::new() };
    let turn = stage.world.enrolled(0).advertise(TASK, header, &evidence, now(), &mut SeededRng::new(2, 0));
    if let Ok(turn) = turn {
        assert!(
            is_resigned || *header == stage.world.header(),
            "a header that the aggregator did not sign is answered"
        );
        stage.world.turn(turn);
    }
}

/// The step that follows a state.
fn step(stage: &Stage, state: &State, served: &[Vec<u8>], variant: u8, is_resigned: bool) {
    let mut rng = SeededRng::new(3, 0);
    let Some((statement, rest)) = served.split_first() else { return };
    let honest = is_resigned || state.served.first() == Some(statement);
    let took = |what: &str| assert!(honest, "{what} that the aggregator did not sign is taken");
    match stage.resume(state.number, &state.plain).expect("as written") {
        Resumed::Enrolled(_) => {}
        Resumed::AwaitingRoster(phase, _) => {
            let Ok(evidence) = phase.examine(statement, now(), &mut rng) else { return };
            took("a roster");
            // Leaves by index: as many as are asked for, in order, and whatever else was served.
            let leaves = evidence.wanted().iter().copied().zip(rest.iter().cloned()).collect();
            let (phase, _) = stage.world.turn(phase.pin(&evidence));
            if let Ok(turn) = phase.share(evidence, &leaves, &mut rng) {
                stage.world.turn(turn);
            }
        }
        Resumed::AwaitingMail(phase, _) => {
            if let Ok(turn) = phase.acknowledge(served) {
                stage.world.turn(turn);
            }
        }
        Resumed::ReadyToMask(phase, _) if variant & 1 == 0 => {
            if let Ok(Opened::Opening(turn)) = phase.open(served) {
                stage.world.turn(turn);
            }
        }
        Resumed::ReadyToMask(phase, _) => {
            let Ok(turn) = phase.pin(statement) else { return };
            took("a core");
            let (mut phase, _) = stage.world.turn(turn);
            phase.take_openings(rest);
            let update = stage.world.update(1.0, 0, phase.share_variance());
            if let Ok(turn) = phase.mask(statement, update) {
                stage.world.turn(turn);
            }
        }
        Resumed::AwaitingSurvivors(phase, _) => {
            if let Ok(turn) = phase.confirm(statement, rest) {
                took("a survivor list");
                stage.world.turn(turn);
            }
        }
        Resumed::ReadyToUnmask(phase, _) => {
            if let Ok(turn) = phase.unmask(served) {
                stage.world.turn(turn);
            }
        }
        Resumed::AwaitingResult(phase, _) => {
            if let Ok((_, turn)) = phase.verify(statement) {
                took("a result");
                stage.world.turn(turn);
            }
        }
    }
}

/// Every state with what it is served, untouched and touched once.
pub fn seeds() -> Vec<Vec<u8>> {
    let states = STAGE.states.len();
    let mut seeds = Vec::new();
    for state in 0..=states as u8 {
        seeds.extend([0, 1].map(|variant| vec![state, variant, 0]));
        if usize::from(state) % CLIENTS < 2 || usize::from(state) == states {
            seeds.extend((0..8_u8).map(|how| vec![state, 1, 1, 0, how, 8, 0, 1, 1, 0, 9]));
        }
    }
    seeds
}
