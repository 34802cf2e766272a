//! Attacks on answers, and on who is named for them.

use veilsum_crypto::ids::LeafIndex;
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::{Answer, Header, RevocationList};
use veilsum_crypto::primitives::agreement::Point;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::server::{PhaseKind, RoundFacts};
use veilsum_crypto::testing::{Play, World, small_params};

use crate::without::checks::{Kind, Rebuilt, interpolate, stop};
use crate::without::gullible::{Given, scalar};
use crate::without::stage::Stage;
use crate::without::{Decided, Played, WithoutRule, real};

/// All of this file.
pub fn all() -> Vec<WithoutRule> {
    vec![replayed_answer(), both_kinds(), forged_answer(), wrong_share()]
}

const TARGET: LeafIndex = LeafIndex(0);

/// Somebody who recorded the round before sends a client's answer again, in this one, before the client does. It bears its
/// genuine signature. An aggregator that does not ask which round it was signed for counts it, finds it wrong, and names an
/// honest client, with evidence.
fn replayed_answer() -> WithoutRule {
    WithoutRule {
        with: "an answer of another round is out of the chain: refused",
        without: "an honest client is named for its own signature of another round",
        patch: |checks| checks.r01 = |_, _| true,
        real: || {
            let recorded = |play: &mut Play| -> Decided<Vec<Vec<u8>>> {
                let clients = real::uploaded(play);
                let clients = play.confirm(clients);
                let confirmations = play.aggregator.bodies(PhaseKind::Confirming);
                let answer =
                    |phase: veilsum_crypto::client::ReadyToUnmask| Ok(play.world.turn(phase.unmask(&confirmations)?).1);
                clients.into_values().map(answer).collect()
            };
            let mut first = Play::new(small_params(12, 8));
            let old = recorded(&mut first)?;
            let mut second = Play::of(next_round(first.world));
            recorded(&mut second)?;
            let sender = second.world.members[0].client();
            real::refused(second.aggregator.put(&second.world, sender, &old[0]))
        },
        model: |checks| {
            let mut first = Stage::new(small_params(12, 8), checks);
            first.uploaded()?;
            let list = first.list_of(first.all_but(&[]));
            let old = first.answers(&list, &first.all())?.swap_remove(TARGET.index());
            let mut stage = Stage::of(next_round(first.world), checks);
            stage.uploaded()?;
            frame(&mut stage, old, 1)
        },
        ..WithoutRule::new(1, "the answer of another round")
    }
}

/// The same clients in the next round of the task.
fn next_round(mut world: World) -> World {
    let header = Header { counter: world.facts.header.counter + 1, ..world.facts.header.clone() };
    world.facts = RoundFacts::new(header, RevocationList::none());
    world
}

/// An answer of the target arrives before its own; everybody survives, confirms and answers. Whether the target is named.
fn frame(stage: &mut Stage, first: Given, rule: u8) -> Played {
    let list = stage.list_of(stage.all_but(&[]));
    let mut answers = vec![first];
    answers.extend(stage.answers(&list, &stage.all())?);
    let (secrets, named) = stage.rebuild(&list, &answers);
    let exact = stage.open_sum(list.members(), &secrets) == Some(stage.plain_sum(stage.all()));
    if !named.contains(&TARGET) {
        return stop(
            rule,
            format!("it is refused; nobody is named, the sum is {}exact", if exact { "" } else { "not " }),
        );
    }
    Ok("an honest client is named as a liar".into())
}

/// A client that gives out what it holds, both shares of each neighbour, gives both secrets of every client.
fn both_kinds() -> WithoutRule {
    WithoutRule {
        with: "an answer has one kind of share a neighbour: of b for the living, of s for the dropped",
        without: "the aggregator has both secrets of a living client: its input is opened",
        patch: |checks| {
            checks.r25 = |_, pair| vec![(Kind::SelfMask, pair.self_mask.clone()), (Kind::Masking, pair.masking.clone())]
        },
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let clients = real::uploaded(&mut play);
            let clients = play.confirm(clients);
            play.unmask(clients);
            let assembly = real::assembly(&play);
            for (client, body) in &play.aggregator.received[&PhaseKind::Unmasking] {
                let holder = real::leaf(&play, *client);
                let owners = assembly.order().neighbours(holder);
                let answer = Answer::decode(body, owners.len()).expect("one share a neighbour, and nothing left over");
                for (owner, share) in owners.iter().zip(answer.shares()) {
                    let dealer = &play.aggregator.received[&PhaseKind::Sharing][&assembly.roster().client(*owner)];
                    let dealt = veilsum_crypto::messages::SealedShares::decode(dealer, 8).expect("as admitted");
                    let edge = dealt.edge_to(holder).expect("a neighbour");
                    let point = Point::of(share.as_ref().expect("all mail was good"));
                    if point != edge.self_mask_point {
                        return Ok("a share of s of a living client".into());
                    }
                }
            }
            stop(25, "in all answers there is nothing but shares of b of the living")
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.uploaded()?;
            let list = stage.list_of(stage.all_but(&[]));
            let answers = stage.answers(&list, &stage.all())?;
            let mut secrets = Vec::new();
            for kind in [Kind::Masking, Kind::SelfMask] {
                let shares = crate::without::stage::shares_of(&answers).remove(&(TARGET, kind)).unwrap_or_default();
                let threshold = stage.params().threshold as usize;
                if shares.len() < threshold {
                    return stop(25, "of a living client there are shares of b only");
                }
                let first: Vec<_> =
                    shares.iter().take(threshold).map(|(leaf, share)| (*leaf, *share.scalar())).collect();
                secrets.push(interpolate(&first, checks.r12));
            }
            let core = stage.core.as_ref().expect("it is fixed").root();
            let near = stage.view().order.neighbours(TARGET);
            let recovered = stage.open_input(TARGET, secrets[1], secrets[0], &near, core);
            stage.is_the_input(TARGET, &recovered, 25)
        },
        ..WithoutRule::new(25, "both kinds of share")
    }
}

/// Somebody sends an answer in a client's name, before the client does, with shares that mean nothing.
fn forged_answer() -> WithoutRule {
    WithoutRule {
        with: "an answer without its sender's signature is refused",
        without: "an honest client is named for an answer that it never gave",
        patch: |checks| checks.r28 = |_, _| true,
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let clients = real::uploaded(&mut play);
            let clients = play.confirm(clients);
            let confirmations = play.aggregator.bodies(PhaseKind::Confirming);
            let (target, phase) = clients.into_iter().next().expect("twelve");
            let (_, body) = play.world.turn(phase.unmask(&confirmations)?);
            let forged = real::statement(&body, labels::ANSWER).sign(&play.world.members[1].identity).encode();
            real::refused(play.aggregator.put(&play.world, target, &forged))
        },
        real_rule: Some(37),
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.uploaded()?;
            let list = stage.list_of(stage.all_but(&[]));
            let forger = &stage.clients[1].member.identity;
            let near = stage.view().order.neighbours(TARGET).into_iter();
            let nonsense = near.map(|owner| (owner, vec![(Kind::SelfMask, ShareScalar::from_scalar(scalar()))]));
            let shares: Vec<_> = nonsense.collect();
            let body = shares.iter().flat_map(|(_, share)| [&[1][..], share[0].1.as_bytes()].concat()).collect();
            let (chain, client) = (&stage.world.facts.chain, stage.clients[TARGET.index()].id());
            let place = veilsum_crypto::messages::answer::place(chain, list.root(), client);
            let signed = place.statement(labels::ANSWER, body).sign(forger);
            frame(&mut stage, Given { holder: TARGET, shares, signed }, 28)
        },
        ..WithoutRule::new(28, "the forged answer")
    }
}

/// One client answers with a wrong share. Who rebuilds from the first t and looks no further takes another mask away than was
/// added: the sum is noise, signed and believed.
fn wrong_share() -> WithoutRule {
    WithoutRule {
        with: "the rebuilt secret does not fit B; the wrong share is found, its holder named, the sum is exact",
        without: "a wrong sum is signed and believed, and nobody is named",
        patch: |checks| {
            checks.r29 = |of| {
                let first: Vec<_> =
                    of.shares.iter().take(of.threshold).map(|(leaf, share)| (*leaf, *share.scalar())).collect();
                let secret = (first.len() == of.threshold).then(|| interpolate(&first, of.at));
                Rebuilt { secret, ..Rebuilt::default() }
            }
        },
        real: || {
            let mut mixed = real::Mixed::new(Play::new(small_params(12, 8)), [0]);
            let clients = mixed.advertise();
            let clients = mixed.share(clients);
            let clients = mixed.acknowledge(clients);
            let clients = mixed.mask(clients);
            let clients = mixed.confirm(clients);
            let (liar, given) = mixed.answers().swap_remove(0);
            let lie = bent(&given, &mixed.play.world.members[0].identity);
            mixed.play.put(liar, &lie.signed.encode());
            let clients = mixed.play.unmask(clients);
            real::verify(&mixed.play, clients);
            match real::named(&mixed.play).as_slice() {
                [(named, 29)] if *named == liar => stop(29, "the liar is named and nobody else, and the sum is exact"),
                other => Ok(format!("named: {other:?}")),
            }
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.uploaded()?;
            let list = stage.list_of(stage.all_but(&[]));
            let mut answers = stage.answers(&list, &stage.all())?;
            answers[0] = bent(&answers[0], &stage.clients[0].member.identity);
            let (secrets, named) = stage.rebuild(&list, &answers);
            let sum = stage.open_sum(list.members(), &secrets);
            if sum == Some(stage.plain_sum(stage.all())) && named == [LeafIndex(0)].into() {
                return stop(29, "the liar is named, and the sum is exact");
            }
            if sum.is_none() || !named.is_empty() {
                return stop(29, "there is no sum to believe, or somebody is named");
            }
            Ok("a wrong sum is released; nobody is named".into())
        },
        ..WithoutRule::new(29, "the wrong share")
    }
}

/// The same answer with another first share, signed again.
fn bent(given: &Given, key: &veilsum_crypto::primitives::signature::IdentitySecretKey) -> Given {
    let mut bent = given.clone();
    let wrong = ShareScalar::from_scalar(scalar());
    let mut statement = given.signed.statement().clone();
    statement.body[1..33].copy_from_slice(wrong.as_bytes());
    bent.shares[0].1[0].1 = wrong;
    bent.signed = statement.sign(key);
    bent
}
