//! Attacks that gather more liars around a client than 2t > k + c allows for.
//!
//! They end alike. The aggregator signs two survivor lists, one with the target and one without, and shows each to one half of
//! the honest clients. The liars sign both and give both kinds of share. Where t of the target's neighbours, liars counted
//! twice, stand on either side, both lists are confirmed, and both secrets of the target are rebuilt.

use std::sync::Arc;

use curve25519_dalek::Scalar;
use veilsum_crypto::client::policy::GammaBasis;
use veilsum_crypto::client::{Membership, Moment, Policy};
use veilsum_crypto::ids::{Digest, LeafIndex};
use veilsum_crypto::messages::{Certificate, Confirmation, Roster};
use veilsum_crypto::params::{RingOrder, RosterParams, RoundParams};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed};
use veilsum_crypto::testing::{Play, World, now, os_rng, small_params};

use crate::without::checks::{Checks, Decided, Kind, interpolate, stop};
use crate::without::real::{self, Mixed};
use crate::without::stage::{Stage, shares_of};
use crate::without::{Played, WithoutRule};

/// All of this file.
pub fn all() -> Vec<WithoutRule> {
    vec![served_threshold(), listed_twice(), gathered_liars(), ground_ring()]
}

/// The roster states t = k/2. Then each half of the target's neighbours is enough for one secret, and each half of the agreement
/// set for one list: it takes no liar at all.
fn served_threshold() -> WithoutRule {
    WithoutRule {
        with: "each client derives k, t and h from the signed n, and stops at a roster that says otherwise",
        without: "t of k/2 is believed: two lists open, both secrets of one client are rebuilt: its input is opened",
        patch: |checks| checks.r04 = |_, stated| Ok(stated),
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let (_, phase) = play.advertise().pop_first().expect("twelve");
            let (entries, params) =
                (real::assembly(&play).roster().members().to_vec(), *real::assembly(&play).params());
            let roster = Roster::fix(&play.world.facts.chain, &halved(params), [9; 32], entries);
            phase.examine(
                &[play.world.signed(roster.statement().clone()), roster.list()].concat(),
                now(),
                &mut os_rng(),
            )?;
            Ok("the client took t from the roster".into())
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.advertise()?;
            stage.roster = stage.roster_of(&stage.leaves, &halved(stage.params()), [9; 32]);
            stage.examine_this()?;
            both_secrets(&mut stage, LeafIndex(0), &[], 4)
        },
        ..WithoutRule::new(4, "the served threshold")
    }
}

fn halved(params: RosterParams) -> RosterParams {
    RosterParams { threshold: params.degree / 2, ..params }
}

/// One person with one identity key stands in the roster under two ids, and counts once against gamma (c = 1). The aggregator
/// draws closing nonces until both leaves are next to the target: two liars are enough.
fn listed_twice() -> WithoutRule {
    WithoutRule {
        with: "identity keys of a roster are unique: the second leaf stops every client that opens it",
        without: "one liar holds two places near the target and gives both kinds of share from each: its input is opened",
        patch: |checks| checks.r05 = |_, _| Ok(()),
        real: || {
            let mut mixed = Mixed::new(Play::of(world_with_a_double()), 1..12);
            let (_, phase) = mixed.advertise().pop_first().expect("client 0");
            real::deal(&mixed.play, phase)?;
            Ok("it dealt".into())
        },
        real_rule: Some(9), // found by the comparison of all keys, identity keys among them
        model: |checks| {
            let mut stage = Stage::of(world_with_a_double(), checks);
            let liars = [LeafIndex(4), LeafIndex(5)];
            let target = place_around(&mut stage, &liars)?;
            both_secrets(&mut stage, target, &liars, 5)
        },
        ..WithoutRule::new(5, "the liar listed twice")
    }
}

/// Clients 4 and 5 have ids and certificates of their own, and one identity key.
fn world_with_a_double() -> World {
    let mut world = World::new(small_params(12, 8));
    let (first, second) = (&world.members[4], &world.members[5]);
    let body = veilsum_crypto::messages::certificate::CertificateBody {
        identity: first.identity.public(),
        ..*second.certificate.body()
    };
    let double = Membership {
        identity: IdentitySecretKey::from_bytes(&first.identity.to_bytes()),
        certificate: Certificate::issue(body, &world.authority),
        policy: second.policy.clone(),
    };
    world.members[5] = Arc::new(double);
    world
}

/// The authority put a hundred clients into one random group, of whom at most four are corrupt. The aggregator forms a roster of
/// twelve from it, three of those four among them: a quarter, where the round computes with a twentieth.
fn gathered_liars() -> WithoutRule {
    WithoutRule {
        with: "a roster must cover its certified group: twelve of a hundred do not",
        without: "three of four liars stand in a roster of twelve: both secrets of one client are rebuilt",
        patch: |checks| checks.r07 = |_, _, _| Ok(()),
        real: || {
            let mut play = Play::of(world_of_a_large_group());
            let (_, phase) = play.advertise().pop_first().expect("twelve");
            real::deal(&play, phase)?;
            Ok("it dealt".into())
        },
        model: |checks| {
            let mut stage = Stage::of(world_of_a_large_group(), checks);
            let liars = [LeafIndex(3), LeafIndex(6), LeafIndex(7)];
            let target = place_around(&mut stage, &liars)?;
            both_secrets(&mut stage, target, &liars, 7)
        },
        ..WithoutRule::new(7, "the gathered liars")
    }
}

fn world_of_a_large_group() -> World {
    let certified = |policy: &mut Policy| {
        policy.gamma = GammaBasis::CertifiedGroup { coverage_min: 800_000, corrupt_of_group: 40_000 };
    };
    let mut world = World::with_policy(small_params(12, 8), certified);
    (0..12).for_each(|number| Stage::recertify(&mut world, number, |body| body.group_size = 100));
    world
}

/// Until clients hold the roster the aggregator may draw closing nonces, each a ring of its own. The parameters here are weak
/// on purpose (n = 40, c = 4, sigma = 2), so that some hundred rings suffice to put all four liars next to one client and
/// into the agreement set; at sigma = 80 the same takes 2^78 times as many. The deadline is what bounds them.
fn ground_ring() -> WithoutRule {
    WithoutRule {
        with: "the roster comes ten minutes after the advert: the clients have gone",
        without: "the aggregator grinds rings until c liars surround one client: its input is opened",
        patch: |checks| checks.r08 = |_, _| Ok(()),
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let (_, phase) = play.advertise().pop_first().expect("twelve");
            let roster = play.aggregator.served(&play.world, veilsum_crypto::server::StatementKind::Roster);
            phase.examine(&roster, ten_minutes_later(), &mut os_rng())?;
            Ok("it took a roster ten minutes old".into())
        },
        model: |checks| {
            let weak = |policy: &mut Policy| (policy.security_bits_min, policy.completion_bits_min) = (2, 1);
            let mut stage = Stage::with_policy(weak_params(), checks, weak);
            let liars = [LeafIndex(1), LeafIndex(8), LeafIndex(21), LeafIndex(33)];
            assert_eq!(liars.len() as u32, stage.params().corrupt, "no more than the round allows for");
            stage.advertise()?;
            let (rings, target) = grind(&mut stage, &liars);
            for client in &mut stage.clients {
                client.examine(&stage.roster, &|leaf| stage.leaves[leaf.index()].clone(), ten_minutes_later())?;
            }
            let won = both_secrets(&mut stage, target, &liars, 8)?;
            Ok(format!("{won}, after {rings} rings"))
        },
        ..WithoutRule::new(8, "the ground ring")
    }
}

fn weak_params() -> RoundParams {
    let mut params = RoundParams {
        roster_min: 40,
        roster_max: 40,
        corrupt_fraction: 100_000,
        dropout_tolerance: 50_000,
        cohort_min: 38,
        security_bits: 2,
        completion_bits: 1,
        ..small_params(12, 8)
    };
    params.ring_bits = params.ring_bits_needed().expect("a ring is wide enough");
    params
}

fn ten_minutes_later() -> Moment {
    let minutes_ms = 10 * 60 * 1_000;
    Moment { wall: now().wall.plus_ms(minutes_ms), monotonic_ms: now().monotonic_ms + minutes_ms }
}

/// Everybody advertises and examines a roster whose ring has the liars where they are needed.
fn place_around(stage: &mut Stage, liars: &[LeafIndex]) -> Decided<LeafIndex> {
    stage.advertise()?;
    let (_, target) = grind(stage, liars);
    stage.examine_this()?;
    Ok(target)
}

/// Draws closing nonces until enough liars are next to one honest client and in the agreement set. How many it took, and whom.
fn grind(stage: &mut Stage, liars: &[LeafIndex]) -> (u32, LeafIndex) {
    let params = stage.params();
    let needed = (2 * params.threshold).saturating_sub(params.degree) as usize;
    let honest: Vec<_> = stage.all().into_iter().filter(|leaf| !liars.contains(leaf)).collect();
    for rings in 1_u32.. {
        let mut nonce = [0; 32];
        nonce[..4].copy_from_slice(&rings.to_le_bytes());
        let roster = stage.roster_of(&stage.leaves, &params, nonce);
        let order = RingOrder::new(&root_of(&roster), &params);
        let signing = liars.iter().filter(|liar| order.agrees(**liar)).count();
        let around = |leaf: &&LeafIndex| {
            let near = order.neighbours(**leaf);
            liars.iter().filter(|liar| near.contains(liar)).count() >= needed
        };
        if signing >= needed
            && let Some(target) = honest.iter().find(around)
        {
            stage.roster = roster;
            return (rings, *target);
        }
    }
    unreachable!("some ring is the one")
}

fn root_of(roster: &[u8]) -> Digest {
    let mut reader = veilsum_crypto::primitives::codec::Reader::new(roster);
    Signed::read(&mut reader, labels::ROSTER).expect("as made").root()
}

/// From an examined roster on: everybody uploads under one core, each half is shown a list, the liars serve both.
fn both_secrets(stage: &mut Stage, target: LeafIndex, liars: &[LeafIndex], rule: u8) -> Played {
    stage.deal()?;
    stage.acknowledge()?;
    let members = stage.fix_core();
    stage.mask(members, &stage.all())?;
    let held: Vec<_> = liars.iter().map(|liar| (*liar, stage.clients[liar.index()].held.clone())).collect();
    let lists = [stage.all_but(&[]), stage.all_but(&[target])].map(|list| stage.list_of(list));
    let halves = halves(stage, target, liars);

    let mut confirmations = Vec::new();
    for (half, list) in halves.iter().zip(&lists) {
        for leaf in half {
            confirmations.extend(stage.confirm_one(*leaf, list)?);
        }
        for liar in liars {
            let (chain, client) = (&stage.world.facts.chain, &stage.clients[liar.index()]);
            let signed = Confirmation::sign(chain, list.root(), client.id(), &client.member.identity);
            confirmations.push(signed.encode());
        }
    }
    // The target has nothing to say about itself.
    let answering = halves.concat().into_iter().filter(|leaf| *leaf != target);
    let mut answers = Vec::new();
    for leaf in answering {
        answers.push(stage.clients[leaf.index()].unmask(&confirmations)?);
    }
    let mut shares = shares_of(&answers);
    for (liar, held) in held {
        if let Some(pair) = held.get(&target) {
            shares.entry((target, Kind::Masking)).or_default().insert(liar, pair.masking.clone());
            shares.entry((target, Kind::SelfMask)).or_default().insert(liar, pair.self_mask.clone());
        }
    }
    let threshold = stage.view().params.threshold as usize;
    let mut rebuild = |kind| -> Decided<Scalar> {
        let shares = shares.remove(&(target, kind)).unwrap_or_default();
        let first: Vec<_> = shares.iter().take(threshold).map(|(leaf, share)| (*leaf, *share.scalar())).collect();
        if first.len() < threshold {
            return stop(rule, "too few shares of one of the two secrets");
        }
        Ok(interpolate(&first, Checks::all().r12))
    };
    let (s, b) = (rebuild(Kind::Masking)?, rebuild(Kind::SelfMask)?);
    let core = stage.core.as_ref().expect("it is fixed").root();
    let near = stage.view().order.neighbours(target);
    let recovered = stage.open_input(target, b, s, &near, core);
    stage.is_the_input(target, &recovered, rule)
}

/// The honest clients in two halves, each with as many of the target's neighbours and of the agreement set as can be. The target
/// itself sees the list that it is in.
fn halves(stage: &Stage, target: LeafIndex, liars: &[LeafIndex]) -> [Vec<LeafIndex>; 2] {
    let order = &stage.view().order;
    let near = order.neighbours(target);
    let roles = |leaf: &LeafIndex| [near.contains(leaf), order.agrees(*leaf)];
    let mut halves = [vec![target], Vec::new()];
    let mut counts = [[0, usize::from(order.agrees(target))], [0, 0]];
    let mut honest: Vec<_> = stage.all().into_iter().filter(|leaf| *leaf != target && !liars.contains(leaf)).collect();
    honest.sort_by_key(|leaf| std::cmp::Reverse(roles(leaf).map(usize::from).iter().sum::<usize>()));
    for leaf in honest {
        let roles = roles(&leaf);
        let has = |half: usize| (0..2).filter(|role| roles[*role]).map(|role| counts[half][role]).sum::<usize>();
        let half = usize::from(has(1) < has(0));
        (0..2).for_each(|role| counts[half][role] += usize::from(roles[role]));
        halves[half].push(leaf);
    }
    halves
}
