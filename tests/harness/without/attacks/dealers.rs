//! Attacks with shares, up to the core.

use std::collections::BTreeMap;

use curve25519_dalek::Scalar;
use veilsum_crypto::ids::{ClientId, LeafIndex};
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{Answer, EdgeReport, SealedShares};
use veilsum_crypto::primitives::agreement::{ChannelPublicKey, ChannelSecretKey, MailEdge, Point};
use veilsum_crypto::primitives::seal::MailKey;
use veilsum_crypto::server::PhaseKind;
use veilsum_crypto::testing::{Play, lose, small_params};

use crate::without::checks::{Checks, Decided, Kind, MailEnds, interpolate, interpolate_at, stop};
use crate::without::gullible::random_pair;
use crate::without::real::Mixed;
use crate::without::stage::{Shares, Stage, shares_of};
use crate::without::{WithoutRule, real};

/// All of this file.
pub fn all() -> Vec<WithoutRule> {
    vec![one_key_both_ways(), index_zero(), unchecked_shares(), off_the_polynomial()]
}

const TARGET: LeafIndex = LeafIndex(0);
const LIAR: LeafIndex = LeafIndex(5);

/// Mail from u to v and from v to u under one key and one nonce. The aggregator withholds the target's upload from the list, so it
/// gets s of the target, and b of all its living neighbours, as it should. With b of a neighbour it knows half of what that
/// neighbour sealed for the target; the exclusive or of the two ciphertexts gives the other direction: a share of the target's b.
/// From t of them it has both secrets.
fn one_key_both_ways() -> WithoutRule {
    WithoutRule {
        with: "each direction has its key: the exclusive or of two ciphertexts says nothing",
        without: "the aggregator alone computes t shares of b of a client it lists as dropped: its input is opened",
        patch: |checks| {
            checks.r11_seal = |ends, plaintext| Some(undirected_key(ends)?.seal(plaintext, &ends.aad()));
            checks.r11_open = |ends, sealed| undirected_key(ends)?.open(sealed, &ends.aad()).map(|plain| *plain);
        },
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let mut clients = real::acknowledged(&mut play);
            let target = lose(&mut clients, 1)[0]; // it uploads; the aggregator keeps that to itself
            let clients = play.mask(clients);
            let clients = play.confirm(clients);
            play.unmask(clients);
            let assembly = real::assembly(&play);
            let decode = |client: &ClientId, body: &Vec<u8>| {
                let owners = assembly.order().neighbours(real::leaf(&play, *client));
                let answer = Answer::decode(body, owners.len()).expect("as admitted");
                (real::leaf(&play, *client), owners.into_iter().zip(answer.shares().to_vec()).collect::<Vec<_>>())
            };
            let mut b_of: BTreeMap<LeafIndex, Shares> = BTreeMap::new();
            for (client, body) in &play.aggregator.received[&PhaseKind::Unmasking] {
                let (holder, shares) = decode(client, body);
                for (owner, share) in shares {
                    b_of.entry(owner).or_default().insert(holder, share.expect("all mail was good"));
                }
            }
            b_of.remove(&real::leaf(&play, target)); // of the target these are shares of s
            let dealt = play.aggregator.received[&PhaseKind::Sharing].iter();
            let dealt = dealt.map(|(dealer, body)| {
                (real::leaf(&play, *dealer), SealedShares::decode(body, 8).expect("as admitted"))
            });
            let (dealt, target) = (dealt.collect(), real::leaf(&play, target));
            let found = by_exclusive_or(target, &dealt, &b_of, assembly.params().threshold as usize, Checks::all().r12);
            let right = |(holder, share): &(LeafIndex, Scalar)| {
                let edge = dealt[&target].edge_to(*holder).expect("a neighbour");
                Point::of(&ShareScalar::from_scalar(*share)) == edge.self_mask_point
            };
            match found.iter().filter(|share| right(share)).count() {
                0 => stop(11, format!("of {} shares computed so none matches its point", found.len())),
                some => Ok(format!("{some} shares of b were read")),
            }
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.uploaded()?;
            let list = stage.list_of(stage.all_but(&[TARGET]));
            let others: Vec<_> = list.members().leaves().collect();
            let answers = stage.answers(&list, &others)?;
            let (secrets, _) = stage.rebuild(&list, &answers);
            let given = shares_of(&answers).into_iter().filter(|((_, kind), _)| *kind == Kind::SelfMask);
            let b_of = given.map(|((owner, _), shares)| (owner, shares)).collect();
            let threshold = stage.params().threshold as usize;
            let shares = by_exclusive_or(TARGET, &stage.dealt, &b_of, threshold, checks.r12);
            let b = interpolate(&shares[..threshold], checks.r12);
            let core = stage.core.as_ref().expect("it is fixed").root();
            let near = stage.view().order.neighbours(TARGET);
            let recovered = stage.open_input(TARGET, b, secrets[&TARGET], &near, core);
            stage.is_the_input(TARGET, &recovered, 11)
        },
        ..WithoutRule::new(11, "one key both ways")
    }
}

/// Shares of b of a target, from ciphertexts and the b polynomials of its neighbours.
fn by_exclusive_or(
    target: LeafIndex,
    dealt: &BTreeMap<LeafIndex, SealedShares>,
    b_of: &BTreeMap<LeafIndex, Shares>,
    threshold: usize,
    at: fn(LeafIndex) -> Scalar,
) -> Vec<(LeafIndex, Scalar)> {
    let read = |holder: LeafIndex| {
        let there = dealt[&target].edge_to(holder)?.sealed;
        let back = dealt[&holder].edge_to(target)?.sealed;
        let known: Vec<_> =
            b_of.get(&holder)?.iter().take(threshold).map(|(leaf, share)| (*leaf, *share.scalar())).collect();
        let sealed_back = interpolate_at(at(target), &known, at).to_bytes(); // what the holder sealed for the target
        let mut share = [0; 32];
        (0..32).for_each(|byte| share[byte] = there[32 + byte] ^ back[32 + byte] ^ sealed_back[byte]);
        Some((holder, Scalar::from_bytes_mod_order(share)))
    };
    dealt.keys().filter(|holder| **holder != target).filter_map(|holder| read(*holder)).collect()
}

/// A patched copy of R-11's key: the ends of an edge in the order of their ids, whoever deals.
fn undirected_key(ends: &MailEnds) -> Option<MailKey> {
    let (low, high) =
        if ends.dealer.0 < ends.holder.0 { (ends.dealer, ends.holder) } else { (ends.holder, ends.dealer) };
    let edge = MailEdge {
        dealer: low.0,
        holder: high.0,
        dealer_key: ChannelPublicKey::from_bytes(low.1).ok()?,
        holder_key: ChannelPublicKey::from_bytes(high.1).ok()?,
    };
    let peer = ChannelPublicKey::from_bytes(ends.peer).ok()?;
    Some(ChannelSecretKey::from_bytes(ends.secret).mail_key(&peer, edge, &ends.context))
}

/// The holder at leaf 0 is corrupt. Where a share is evaluated at the leaf index itself, its share is f(0): the secret. The
/// low-degree test, which evaluates at leaf + 1, would find such dealers.
fn index_zero() -> WithoutRule {
    WithoutRule {
        with: "the share of leaf 0 is f(1): one share among t",
        without: "the client at leaf 0 holds both secrets of all its neighbours: their inputs are opened",
        behind: &[38],
        base: |checks| checks.r38 = |_, _, _| true,
        patch: |checks| checks.r12 = |holder| Scalar::from(holder.0),
        real: || {
            let mut mixed = Mixed::new(Play::new(small_params(12, 8)), [0]);
            let clients = mixed.advertise();
            let clients = mixed.share(clients);
            mixed.acknowledge(clients);
            let liar = mixed.liars.values().next().expect("one");
            assert_eq!(liar.view().me, LeafIndex(0));
            let is_secret = |(owner, pair): (&LeafIndex, &SharePair)| {
                let member = real::assembly(&mixed.play).member(*owner);
                Point::of(&pair.masking) == member.masking.0 || Point::of(&pair.self_mask) == member.self_mask.0
            };
            match liar.held.iter().filter(|held| is_secret(*held)).count() {
                0 => stop(12, format!("none of {} pairs of shares at leaf 0 is a secret", liar.held.len())),
                some => Ok(format!("{some} shares are the secret itself")),
            }
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.uploaded()?;
            let core = stage.core.as_ref().expect("it is fixed").root();
            let mut opened = 0;
            for (owner, pair) in &stage.clients[0].held {
                let near = stage.view().order.neighbours(*owner);
                let (s, b) = (*pair.masking.scalar(), *pair.self_mask.scalar());
                let recovered = stage.open_input(*owner, b, s, &near, core);
                stage.is_the_input(*owner, &recovered, 12)?;
                opened += 1;
            }
            Ok(format!("the inputs of {opened} clients, bit for bit"))
        },
        ..WithoutRule::new(12, "the holder at index zero")
    }
}

/// A dealer signs the points of honest shares and seals others. Who does not compare the two acknowledges garbage. When the
/// round is opened no share of the dealer matches, the aggregator names every honest holder as a liar, and there is no sum.
fn unchecked_shares() -> WithoutRule {
    WithoutRule {
        with: "all holders complain before the core is fixed; the dealer is outside, nobody honest is named",
        without: "eight honest clients are named as liars, and the sum is not opened",
        patch: |checks| checks.r13 = |_, _| true,
        real: || {
            let mut mixed = Mixed::new(Play::new(small_params(12, 8)), [LIAR.index()]);
            let clients = mixed.advertise();
            mixed.examine();
            let clients = mixed.share_with(clients, |liar| {
                liar.deal().expect("it deals"); // the polynomials
                let near = liar.view().neighbours.clone();
                let honest: Vec<_> = near.iter().map(|holder| liar.share_for(*holder)).collect();
                let garbage: Vec<_> = near.iter().map(|_| random_pair()).collect();
                liar.deal_these(&garbage, &honest).expect("it deals")
            });
            let clients = mixed.acknowledge(clients);
            let mut play = mixed.play;
            assert_eq!(play.aggregator.phase.kind(), PhaseKind::Opening, "it is complained about");
            play.aggregator.close(&play.world); // it cannot open eight edges
            let liar = *mixed.liars.keys().next().expect("one");
            assert_eq!(real::core_in_force(&play).members(), &real::all_but(&play, &[liar]));
            real::finish(&mut play, clients);
            assert_eq!(real::named(&play), []);
            stop(13, "the dealer is outside, the sum is exact, nobody is named")
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.advertise()?;
            stage.examine()?;
            stage.deal()?;
            let liar = &mut stage.clients[LIAR.index()];
            let near = liar.view().neighbours.clone();
            let honest: Vec<_> = near.iter().map(|holder| liar.share_for(*holder)).collect();
            let message = liar.deal_these(&near.iter().map(|_| random_pair()).collect::<Vec<_>>(), &honest)?;
            stage.admit_shares(LIAR, message)?;
            stage.acknowledge()?;
            let complain = |reports: &&Vec<EdgeReport>| {
                reports.iter().any(|report| matches!(report, EdgeReport::Complaint { .. }))
            };
            let complaints = stage.reports.values().filter(complain).count();
            if complaints > stage.params().openings_max() as usize {
                return stop(13, format!("{complaints} holders complain before the core is fixed"));
            }
            stage.mask(stage.all_but(&[]), &stage.all())?;
            let (named, opened) = open_all(&mut stage)?;
            if opened.is_some() || named.contains(&LIAR) {
                return stop(13, "the round was opened, or the liar named");
            }
            Ok(format!("{} honest clients are named as liars, and there is no sum", named.len()))
        },
        ..WithoutRule::new(13, "the shares off their points")
    }
}

/// One corrupt client deals random shares: each matches its signed point, and all of them lie on no polynomial of degree t - 1.
/// Nobody can complain. When the round is opened no t shares rebuild its b; every answer was truthful, so nobody is named.
fn off_the_polynomial() -> WithoutRule {
    WithoutRule {
        with: "the aggregator tests the degree when the shares arrive, and refuses the dealer by name",
        without: "the sum cannot be opened (0 of 200 subsets of t shares), and nobody is to blame",
        patch: |checks| checks.r38 = |_, _, _| true,
        real: || {
            let mut mixed = Mixed::new(Play::new(small_params(12, 8)), [LIAR.index()]);
            mixed.advertise();
            mixed.examine();
            let (client, liar) = mixed.liars.iter_mut().next().expect("one");
            let random: Vec<_> = liar.view().neighbours.iter().map(|_| random_pair()).collect();
            let message = liar.deal_these(&random, &random)?.encode();
            real::refused(mixed.play.aggregator.put(&mixed.play.world, *client, &message))
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.advertise()?;
            stage.examine()?;
            stage.deal()?;
            let liar = &mut stage.clients[LIAR.index()];
            let random: Vec<_> = liar.view().neighbours.iter().map(|_| random_pair()).collect();
            let message = liar.deal_these(&random, &random)?;
            stage.admit_shares(LIAR, message)?;
            stage.acknowledge()?;
            stage.mask(stage.fix_core(), &stage.all())?;
            let list = stage.list_of(stage.all_but(&[]));
            let answers = stage.answers(&list, &stage.all())?;
            let (secrets, named) = stage.rebuild(&list, &answers);
            let shares = shares_of(&answers).remove(&(LIAR, Kind::SelfMask)).expect("they were given");
            if secrets.contains_key(&LIAR) || !named.is_empty() || some_subset_rebuilds(&stage, &shares) {
                return stop(38, "the sum was opened, or somebody was named");
            }
            Ok(format!("no sum: none of 200 subsets of {} truthful shares rebuilds b, nobody is named", shares.len()))
        },
        ..WithoutRule::new(38, "the dealer off the polynomial")
    }
}

/// Whether one of 200 random subsets of t shares rebuilds the liar's b.
fn some_subset_rebuilds(stage: &Stage, shares: &Shares) -> bool {
    use rand_core::Rng as _;
    let (mut rng, threshold) = (veilsum_crypto::testing::os_rng(), stage.params().threshold as usize);
    (0..200).any(|_| {
        let mut subset: Vec<_> = shares.iter().map(|(leaf, share)| (*leaf, *share.scalar())).collect();
        while subset.len() > threshold {
            subset.swap_remove(rng.next_u32() as usize % subset.len());
        }
        let secret = ShareScalar::from_scalar(interpolate(&subset, stage.checks.r12));
        Point::of(&secret) == stage.key(LIAR, Kind::SelfMask)
    })
}

/// Everybody survives, confirms and answers: who is named, and the sum if it is opened.
pub fn open_all(
    stage: &mut Stage,
) -> Decided<(std::collections::BTreeSet<LeafIndex>, Option<veilsum_crypto::math::ring::RingVector>)> {
    let list = stage.list_of(stage.all_but(&[]));
    let answers = stage.answers(&list, &stage.all())?;
    let (secrets, named) = stage.rebuild(&list, &answers);
    Ok((named, stage.open_sum(list.members(), &secrets)))
}
