//! D: clients that deal badly: random shares, shares off their polynomial, edges that some would take and others not. Against the
//! real aggregator, over HTTP, among real clients.

use std::collections::BTreeMap;

use veilsum_aggregator::round::View;
use veilsum_crypto::ids::{ClientId, LeafIndex};
use veilsum_crypto::math::shamir::{Interpolation, Polynomial, ShareScalar};
use veilsum_crypto::messages::SealedShares;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::primitives::agreement::{MaskingSecretKey, Point};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Signed;
use veilsum_crypto::rules::Rejection;
use veilsum_crypto::server;
use veilsum_crypto::server::PhaseKind;
use veilsum_crypto::testing::os_rng;

use super::dice::Dice;
use super::{Scale, Seen, gained_without, trying};
use crate::hostile::{Dealt, Hand, Liar, with_small_order_commitment};
use crate::world::{Running, Shape, World};

/// A share, or anything else that nobody expects.
pub(super) fn random_share() -> ShareScalar {
    MaskingSecretKey::generate(&mut os_rng()).to_scalar()
}

/// All but client 0 take part as they should.
pub(super) fn others(world: &World) -> Vec<Running> {
    (1..world.clients.len()).map(|number| world.send(number, world.line())).collect()
}

/// They see the exact sum of these.
pub(super) async fn all_see(world: &World, others: Vec<Running>, in_sum: impl IntoIterator<Item = usize>) {
    let round = world.round(1).await;
    for other in others {
        let ending = other.end().await;
        assert!(ending.verified().is_some(), "{ending:?}");
    }
    world.is_exact_sum_of(round, &world.ids(in_sum)).await;
}

/// The liar advertised; the others are on their way; the roster is fixed.
pub(super) async fn among_others(shape: Shape) -> (World, Liar, Vec<Running>, std::sync::Arc<View>) {
    let world = World::new(shape).await;
    let liar = Liar::new(Hand::new(&world, 0, 1).await);
    liar.hand.put("advertise", &liar.advert()).await.is_admitted();
    let others = others(&world);
    let view = world.reached(liar.hand.round, PhaseKind::Sharing).await;
    (world, liar, others, view)
}

/// How a liar answers complaints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opens {
    Rightly,
    Wrongly,
    Never,
}

/// To how many neighbours a liar deals badly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victims {
    One,
    AllButOneOfAQuorum,
    All,
}

/// A liar deals random shares under points that are right; who holds one complains. Whether the liar was named.
async fn bad_shares(victims: Victims, opens: Opens) -> bool {
    let (world, mut liar, others, view) = among_others(Shape::of(6)).await;
    let (round, client) = (liar.hand.round, liar.hand.client());
    let params = *view.phase.assembly().expect("a roster").params();
    let cheated: Vec<LeafIndex> = match victims {
        Victims::One => liar.neighbours(&view)[..1].to_vec(),
        Victims::AllButOneOfAQuorum => liar.neighbours(&view)[..params.threshold as usize - 1].to_vec(),
        Victims::All => liar.neighbours(&view),
    };
    let message = liar.deal(&view, |dealt| {
        if cheated.contains(&dealt.holder) {
            dealt.pair.self_mask = random_share();
        }
    });
    liar.hand.put("share", &message).await.is_admitted();
    let view = world.reached(round, PhaseKind::Acknowledging).await;
    liar.hand.put("acknowledge", &liar.acknowledgement(&world, &view).await).await.is_admitted();
    let view = world.reached(round, PhaseKind::Opening).await;
    assert_eq!(view.phase.kind(), PhaseKind::Opening, "its victims complain");
    let pairs = |bend: &dyn Fn(SharePair) -> SharePair| -> BTreeMap<LeafIndex, SharePair> {
        cheated.iter().map(|holder| (*holder, bend(liar.pair(*holder)))).collect()
    };
    // More openings than can be corrupt would give its secrets away: none is taken, right or wrong.
    let is_many = cheated.len() as u32 > params.openings_max();
    let opening = match opens {
        Opens::Rightly => Some(liar.opening(&view, pairs(&|pair| pair))),
        Opens::Wrongly => Some(liar.opening(&view, pairs(&|pair| SharePair { self_mask: random_share(), ..pair }))),
        Opens::Never => None,
    };
    if let Some(opening) = opening {
        let answer = liar.hand.put("open", &opening).await;
        if is_many { answer.is(422, Some(16)) } else { answer.is_admitted() }
    }
    let is_in = opens == Opens::Rightly && !is_many;
    let view = world.reached(round, PhaseKind::Masking).await;
    if is_in {
        // The opening settled it: the liar is in the core, uploads, and is counted.
        let (input, values) = liar.mask(&view);
        world.noised.lock().expect("no panic").insert(client, values);
        liar.hand.put("mask", &input).await.is_admitted();
    }
    all_see(&world, others, usize::from(!is_in)..6).await;
    let named = world.named(round).await;
    assert!(named.iter().all(|named| *named == (client, 16)), "{victims:?} {opens:?}: somebody honest: {named:?}");
    !named.is_empty()
}

/// D01. Random shares to 1, t - 1 and all neighbours; then a right opening, a wrong one, or none.
pub async fn d01_bad_shares(_: Scale) -> Seen {
    use Opens::*;
    use Victims::*;
    let (a, b, c) = tokio::join!(bad_shares(One, Rightly), bad_shares(One, Wrongly), bad_shares(One, Never));
    assert_eq!((a, b, c), (false, true, false), "named if and only if a wrong opening is signed");
    let (d, e, f, g) = tokio::join!(
        bad_shares(AllButOneOfAQuorum, Wrongly),
        bad_shares(AllButOneOfAQuorum, Never),
        bad_shares(All, Wrongly),
        bad_shares(All, Never),
    );
    // More complaints than an honest dealer can have: it opens none, is dropped, and nothing signed convicts it.
    assert!(!e && !f && !g, "silence names nobody");
    Seen::new(format!(
        "7 rounds with random shares to 1, t - 1 or all neighbours: a wrong signed opening named its dealer{}, a right one settled the \
         edge and the liar was counted, silence dropped it unnamed; 0 honest clients named, every sum exact. (Randomised rounds of many \
         liars: the blame campaign, tests/README.md)",
        if d { ", with t - 1 victims too" } else { "" }
    ))
    .count("rounds", 7)
    .count("honest clients named", 0)
}

/// A polynomial of some degree through a secret, as Shamir's but for its length.
struct Bent(Polynomial);

impl Bent {
    fn new(secret: ShareScalar, coefficients: u32) -> Self {
        Self(Polynomial::hide(secret, coefficients, &mut os_rng()))
    }
}

/// Makes one or both secrets of a message lie on polynomials with more coefficients than t; points match the shares.
fn over_degree(masking: Option<&Bent>, self_mask: Option<&Bent>, dealt: &mut Dealt) {
    if let Some(bent) = masking {
        dealt.pair.masking = bent.0.share_for(dealt.holder);
        dealt.masking_point = Point::of(&dealt.pair.masking);
    }
    if let Some(bent) = self_mask {
        dealt.pair.self_mask = bent.0.share_for(dealt.holder);
        dealt.self_mask_point = Point::of(&dealt.pair.self_mask);
    }
}

/// Which of a dealer's secrets lies on a polynomial of too high a degree.
const BENT: [(&str, bool, bool); 3] = [("s only", true, false), ("b only", false, true), ("both", true, true)];

/// A dealer with `extra` coefficients too many; refused by name, then it deals honestly and is counted or stays away.
async fn dealt_over_degree(extra: u32) -> usize {
    let (world, mut liar, others, view) = among_others(Shape::of(6)).await;
    let threshold = view.phase.assembly().expect("a roster").params().threshold;
    let mut refused = 0;
    for (what, masking, self_mask) in BENT {
        trying(what);
        let bend = |is_bent: bool, secret| is_bent.then(|| Bent::new(secret, threshold + extra));
        let (of_masking, of_self_mask) = (bend(masking, liar.secrets().0), bend(self_mask, liar.secrets().1));
        let message = liar.deal(&view, |dealt| over_degree(of_masking.as_ref(), of_self_mask.as_ref(), dealt));
        liar.hand.put("share", &message).await.is(422, Some(38));
        refused += 1;
    }
    assert_eq!(world.named(liar.hand.round).await, [(liar.hand.client(), 38)], "by name, once a phase");
    all_see(&world, others, 1..6).await;
    refused
}

/// D02. Shares on a polynomial of degree t + 3, so that subsets of holders rebuild different secrets.
pub async fn d02_over_degree_polynomial(scale: Scale) -> Seen {
    let refused = dealt_over_degree(4).await; // t coefficients make degree t - 1
    // The control: what t holders would have rebuilt. t = 5 of 8 holders, 20 subsets.
    let mut dice = Dice::new(2);
    let secret = dice.scalar();
    let bent = Bent::new(ShareScalar::from_scalar(*secret.scalar()), 9);
    let (mut wrong, subsets) = (0, scale.times(20));
    for _ in 0..subsets {
        let mut holders: Vec<LeafIndex> = (0..8).map(LeafIndex).collect();
        while holders.len() > 5 {
            holders.remove(dice.below(holders.len()));
        }
        let shares: Vec<ShareScalar> = holders.iter().map(|holder| bent.0.share_for(*holder)).collect();
        wrong += usize::from(Interpolation::at_zero_vartime(&holders).combine(&shares).as_bytes() != secret.as_bytes());
    }
    assert_eq!(wrong, subsets, "no subset would have the secret");
    Seen::new(format!(
        "{refused} of {refused} messages (s, b, both on degree t + 3) refused by name at admission (R-38), the others' sum exact; were \
         they admitted, {wrong} of {subsets} sets of t holders would have rebuilt a wrong secret"
    ))
    .count("refused", refused)
    .count("wrong secrets used", 0)
}

/// D18. Points are signed and match the shares, and lie on no polynomial of degree t - 1.
pub async fn d18_dealer_off_the_polynomial(scale: Scale) -> Seen {
    // One coefficient too many is the hardest to see.
    let refused = dealt_over_degree(1).await + dealt_over_degree(2).await;
    // One point off, and honest dealers: the same decision, as often as wanted.
    let (world, mut liar, others, view) = among_others(Shape::patient(6)).await;
    let judge = |message: &[u8]| server::accept(&view.facts, &view.phase, PhaseKind::Sharing, liar_id(&world), message);
    let (mut accepted, trials) = (0, scale.times(400));
    for _ in 0..trials {
        accepted += usize::from(judge(&liar.deal(&view, |_| {})).is_ok());
    }
    assert_eq!(accepted, trials, "an honest dealer is never refused");
    let k = view.phase.assembly().expect("a roster").params().degree as usize;
    let mut off = 0;
    for place in 0..k {
        let mut at = 0;
        let message = liar.deal(&view, |dealt| {
            if at == place {
                dealt.pair.masking = random_share();
                dealt.masking_point = Point::of(&dealt.pair.masking);
            }
            at += 1;
        });
        assert_eq!(judge(&message).expect_err("off the polynomial"), Rejection::NotLowDegree);
        off += 1;
    }
    for other in others {
        other.abort().await;
    }
    let gained = gained_without(38, "the dealer off the polynomial");
    Seen::new(format!(
        "{refused} dealers with one or two coefficients too many, in s, b or both, over HTTP, and {off} with one point off: all refused by \
         name (R-38); {accepted} of {trials} honest dealers accepted. Without the check: {gained}"
    ))
    .count("refused", refused + off)
    .count("honest dealers accepted", accepted)
    .count("honest dealers", trials)
}

fn liar_id(world: &World) -> ClientId {
    world.clients[0].id
}

/// D20. A message of edges that some would take and others not.
pub async fn d20_edge_that_nobody_can_blame(_: Scale) -> Seen {
    let (world, mut liar, others, view) = among_others(Shape::of(6)).await;
    let good = liar.deal(&view, |_| {});
    let degree = view.phase.assembly().expect("a roster").params().degree as usize;
    let mut refused = 0;
    // One edge altered behind the signature: its holder's path would not lead to the signed root. One for each place.
    for place in 0..degree {
        let mut wrong = good.clone();
        wrong[214 + 148 * place + 4 + 10] ^= 1;
        liar.hand.put("share", &wrong).await.is(422, Some(13));
        refused += 1;
    }
    // A root that is signed, and of no edges that were sent.
    let other_root = liar.hand.sign(&good, labels::SHARE, |statement| statement.body[0] ^= 1);
    liar.hand.put("share", &other_root).await.is(422, Some(13));
    // A signature that batch verification and cofactored checks accept: R of small order, made with the key.
    let statement = Signed::read(&mut veilsum_crypto::primitives::codec::Reader::new(&good), labels::SHARE);
    let statement = statement.expect("its own").statement().clone();
    let lax = with_small_order_commitment(&statement, &liar.hand.member.identity);
    liar.hand.put("share", &[lax, good[214..].to_vec()].concat()).await.is(403, Some(37));
    // S + l in place of S.
    let mut malleable = good.clone();
    crate::hostile::add_group_order(&mut malleable[182..214]);
    liar.hand.put("share", &malleable).await.is(403, Some(37));
    assert_eq!(world.named(liar.hand.round).await, [], "what others could have put there names nobody");
    let decoded = SealedShares::decode(&good, degree as u32).expect("in form");
    assert!(decoded.edges_are_signed());
    all_see(&world, others, 1..6).await;
    Seen::new(format!(
        "{} edges altered behind the signature and a root of no edges (R-13), an R of small order and an S + l that lax verifiers take \
         (R-37): {} of {} refused at admission, none named; the others' sum exact",
        degree,
        refused + 3,
        refused + 3
    ))
    .count("refused", refused + 3)
}
