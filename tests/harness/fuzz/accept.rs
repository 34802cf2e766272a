//! `server::accept` with any message, in any phase, for any phase, in anybody's name.

use sha2::{Digest as _, Sha256};
use veilsum_crypto::messages::Evidence;
use veilsum_crypto::rules::Rejection;
use veilsum_crypto::server::{Effect, Phase, PhaseKind, accept, blame, is_signed_by};

use super::Target;
use super::edit::Input;
use super::forge::Forged;
use super::stage::{OPEN_PHASES, STAGE};

/// The target.
pub const TARGET: Target = Target {
    name: "accept",
    what: "the aggregator's judgement of one message, in every phase: it never panics; what nobody signed anew, or a key that \
           is not the sender's signed, is never accepted unless it is an honest message",
    run,
    seeds,
    words: &[],
    portion: 12,
    finish: super::nothing,
};

/// `u8 phase, u8 addressed`, then as `Stage::forge`.
pub fn run(bytes: &[u8]) {
    let stage = &*STAGE;
    let mut input = Input::new(bytes);
    let standing = *input.of(&PhaseKind::ALL);
    let addressed = input.below(4 * PhaseKind::ALL.len());
    let addressed = PhaseKind::ALL.get(addressed).copied().unwrap_or(standing); // mostly the one that is open
    let abandoned;
    let phase = match stage.phases.get(&standing) {
        Some(phase) => phase,
        None => {
            let reason = veilsum_crypto::rules::Abandonment::from_number(1).expect("a reason");
            abandoned = Phase::Abandoned(reason, None);
            &abandoned
        }
    };
    let message = stage.forge(addressed, &mut input);
    match accept(&stage.world.facts, phase, addressed, message.client, &message.bytes) {
        Ok(accepted) => {
            assert_eq!(accepted.client(), message.client, "kept under the name it came in");
            assert_eq!(accepted.digest().0, <[u8; 32]>::from(Sha256::digest(&message.bytes)), "of the whole body");
            let honest = stage.messages[&addressed].get(&message.client) == Some(&message.bytes);
            assert!(honest || message.signer == Some(message.client), "accepted without its sender's signature");
            assert_eq!(standing, addressed, "accepted for a phase that is not open");
            names_only_who_signed(addressed, &message, None);
        }
        Err(rejection) => {
            assert!(!rejection.to_string().is_empty(), "a refusal says why");
            names_only_who_signed(addressed, &message, Some(&rejection));
        }
    }
}

/// What the message proves, alone or beside the honest one that stands already, it proves against who signed it.
fn names_only_who_signed(phase: PhaseKind, message: &Forged, refused: Option<&Rejection>) {
    let stage = &*STAGE;
    let assembly = stage.aggregator.phase.assembly();
    if !is_signed_by(&stage.world.facts, assembly, phase, message.client, &message.bytes) {
        return;
    }
    let of = |phase: PhaseKind| stage.messages.get(&phase).and_then(|messages| messages.get(&message.client));
    let leaf = of(PhaseKind::Advertising).map(Vec::as_slice);
    let found = blame(phase, message.client, refused, leaf, of(phase).map(Vec::as_slice), &message.bytes);
    if let Some(Effect::Fault { client, evidence, .. }) = found {
        assert_eq!(message.signer, Some(client), "who is named signed it anew");
        Evidence::decode(&evidence).expect("as written");
    }
}

/// Every honest message in its phase, and one edit of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![7], vec![8]];
    for phase in OPEN_PHASES {
        for client in 0..3_u8 {
            seeds.push(vec![phase as u8, 0xff, client, client, 0]);
            seeds.extend((0..7_u8).map(|how| vec![phase as u8, 0xff, client, client, how, 1, 0, 9, 0, 3]));
        }
    }
    seeds
}
