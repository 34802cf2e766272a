//! Attacks on which survivor list is opened.
//!
//! Five clients in the complete graph: k = 4, t = 3, c = 1, T = 1; any sum holds at least four inputs. One client, z, is the
//! adversary's. The aggregator signs two lists, each without one client, and shows them to two halves. Either half gives
//! shares for its list; what both know together opens two clients' inputs from the rest.

use veilsum_crypto::ids::LeafIndex;
use veilsum_crypto::messages::Survivors;
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::testing::{Play, small_params};

use crate::without::checks::{Checks, Decided, Kind, interpolate, stop};
use crate::without::gullible::Given;
use crate::without::stage::{Stage, shares_of};
use crate::without::{Played, WithoutRule, real};

/// All of this file.
pub fn all() -> Vec<WithoutRule> {
    vec![two_roots_signed(), two_roots_unsigned()]
}

/// The agreement set, and so who must be in which half, decides: ring positions 0..3 sign, position 4 does not.
struct Roles {
    /// In both lists; their sum leaks. `u` sees the first list, `w` the second.
    u: LeafIndex,
    w: LeafIndex,
    /// Missing from the first list, sees the second.
    p: LeafIndex,
    /// Missing from the second list, sees the first.
    q: LeafIndex,
    /// The adversary's client: sees, signs and answers both.
    z: LeafIndex,
}

impl Roles {
    fn new(stage: &Stage) -> Self {
        let ring = stage.view().order.agreement_set();
        let last = stage.all().into_iter().find(|leaf| !ring.contains(leaf)).expect("everybody but one");
        Self { z: ring[0], u: ring[1], q: ring[2], w: ring[3], p: last }
    }
}

fn five() -> RoundParams {
    small_params(5, 8)
}

/// Each half is shown one list first and the other later. A client that accepts more than one survivor root in its life signs
/// both, so both gather t signatures, and either half opens for its own.
fn two_roots_signed() -> WithoutRule {
    WithoutRule {
        with: "an honest member signs one list, ever: the second list is not confirmed",
        without: "both lists gather t signatures; both are opened, and the exact sum of two clients falls out",
        patch: |checks| checks.r23 = |_, _| Ok(()),
        real: || {
            let mut play = Play::new(five());
            let clients = real::uploaded(&mut play);
            let (out, target) = (*clients.keys().next_back().expect("five"), *clients.keys().next().expect("five"));
            let lists =
                [real::all_but(&play, &[]), real::all_but(&play, &[out])].map(|list| real::list_of(&play, list));
            // `confirm` consumes the phase; what was written down resumes behind it, with the same confirmation.
            let phase = clients.into_iter().next().expect("five").1;
            let turn = phase.confirm(&lists[0], &play.aggregator.uploads_for(target))?;
            let (disk, first) = play.world.written(turn);
            let resumed = veilsum_crypto::client::Resumed::open(&play.world.saving, &disk, real::member(&play, target));
            match resumed.expect("as written") {
                veilsum_crypto::client::Resumed::ReadyToUnmask(_, again) if again == first => {
                    stop(23, "it has confirmed one list, and has no step that takes another")
                }
                other => Ok(format!("it stands at {other:?}, and could sign again")),
            }
        },
        model: |checks| two_lists(checks, Show::BothToEverybody, 23),
        ..WithoutRule::new(23, "the two survivor roots, signed twice")
    }
}

/// Each half is shown one list, and signs it. Only one of the two can gather t signatures; where an answer does not wait for them,
/// both halves open all the same.
fn two_roots_unsigned() -> WithoutRule {
    WithoutRule {
        with: "an answer waits for t signatures on its list: one of the two lists has too few",
        without: "both halves answer: the exact sum of two clients falls out",
        patch: |checks| checks.r24 = |_, _, _, _| Ok(()),
        real: || {
            let mut play = Play::new(five());
            let clients = real::uploaded(&mut play);
            let out = *clients.keys().next_back().expect("five");
            let lists =
                [real::all_but(&play, &[]), real::all_but(&play, &[out])].map(|list| real::list_of(&play, list));
            let (mut signed, mut phases) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
            for (number, (client, phase)) in clients.into_iter().enumerate() {
                let half = usize::from(client != out && number % 2 == 0);
                let turn = phase.confirm(&lists[half], &play.aggregator.uploads_for(client))?;
                let (phase, confirmation) = play.world.turn(turn);
                signed[half].push(confirmation);
                phases[half].push(phase);
            }
            for phase in phases.into_iter().map(|half| half.into_iter().next().expect("both halves")) {
                let _ = phase.unmask(&signed.concat())?;
            }
            Ok("both halves answered".into())
        },
        model: |checks| two_lists(checks, Show::OneToEachHalf, 24),
        ..WithoutRule::new(24, "the two survivor roots, unsigned")
    }
}

/// How lists are shown.
#[derive(Clone, Copy, PartialEq)]
enum Show {
    BothToEverybody,
    OneToEachHalf,
}

fn two_lists(checks: Checks, show: Show, rule: u8) -> Played {
    let mut stage = Stage::new(five(), checks);
    stage.uploaded()?;
    let Roles { u, w, p, q, z } = Roles::new(&stage);
    let lists = [p, q].map(|out| stage.list_of(stage.all_but(&[out])));
    let halves = [[q, u], [p, w]];
    // The adversary's client signs whatever it likes, and keeps its shares.
    let held = stage.clients[z.index()].held.clone();
    let mut answers: Vec<(Survivors, Given)> = Vec::new();
    let mut confirmations = Vec::new();
    if show == Show::BothToEverybody {
        // The other list first, for its signature only; then the list that is to be answered.
        for (half, list) in halves.iter().zip([&lists[1], &lists[0]]) {
            for leaf in half.iter().filter(|leaf| list.members().has(**leaf)) {
                confirmations.extend(stage.confirm_one(*leaf, list)?);
            }
        }
    }
    for (half, list) in halves.iter().zip(&lists) {
        for leaf in half {
            confirmations.extend(stage.confirm_one(*leaf, list)?);
        }
    }
    for list in &lists {
        confirmations.push(by(&stage, z, list));
    }
    for (half, list) in halves.iter().zip(&lists) {
        for leaf in half {
            let given = stage.clients[leaf.index()].unmask(&confirmations)?;
            answers.push((list.clone(), given));
        }
    }

    // Shares that both halves gave, and both kinds from z.
    let mut shares = shares_of(&answers.into_iter().map(|(_, given)| given).collect::<Vec<_>>());
    for (owner, pair) in held {
        shares.entry((owner, Kind::Masking)).or_default().insert(z, pair.masking.clone());
        shares.entry((owner, Kind::SelfMask)).or_default().insert(z, pair.self_mask.clone());
    }
    let threshold = stage.params().threshold as usize;
    let rebuild = |owner: LeafIndex, kind: Kind| -> Decided<curve25519_dalek::Scalar> {
        let given: Vec<_> = shares.get(&(owner, kind)).into_iter().flatten().collect();
        if given.len() < threshold {
            return stop(rule, "too few shares of a secret");
        }
        let first: Vec<_> = given[..threshold].iter().map(|(leaf, share)| (**leaf, *share.scalar())).collect();
        Ok(interpolate(&first, stage.checks.r12))
    };
    // b of the two; s of the two that are missing from one list each; z's own secrets are known anyway.
    let core = stage.core.as_ref().expect("it is fixed").root();
    let mut sum = stage.plain_sum([]);
    for leaf in [u, w] {
        sum.add_assign(&stage.vector(&stage.uploads[&leaf])).expect("one ring");
        sum.sub_assign(&stage.self_mask(leaf, rebuild(leaf, Kind::SelfMask)?, core)).expect("one ring");
        let known = [
            (p, rebuild(p, Kind::Masking)?),
            (q, rebuild(q, Kind::Masking)?),
            (z, stage.clients[z.index()].truth.as_ref().expect("it is the adversary's").masking),
        ];
        for (of, secret) in known {
            let mask = stage.pair_mask(of, secret, leaf, core);
            let taken = if leaf < of { sum.sub_assign(&mask) } else { sum.add_assign(&mask) };
            taken.expect("one ring");
        }
    }
    if sum != stage.plain_sum([u, w]) {
        return stop(rule, "what the server computes is not the sum of the two");
    }
    Ok("the exact sum of two clients, where at least four were promised".into())
}

/// A confirmation by the adversary's client.
fn by(stage: &Stage, leaf: LeafIndex, list: &Survivors) -> Vec<u8> {
    let client = &stage.clients[leaf.index()];
    let chain = &stage.world.facts.chain;
    veilsum_crypto::messages::Confirmation::sign(chain, list.root(), client.id(), &client.member.identity).encode()
}
