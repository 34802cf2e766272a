//! The decisions of docs/protocol.md, one function a rule: what a gullible client or aggregator asks before it goes on.
//!
//! [`Checks::all`] decides as the protocol says, by the functions of `veilsum_crypto` wherever it exposes them. An attack takes
//! them and exchanges exactly one for a patched copy. Nothing here is part of what is shipped, and nothing that is shipped
//! has such a switch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use curve25519_dalek::{RistrettoPoint, Scalar};
use veilsum_crypto::client::{Moment, Policy};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, TaskId};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::math::shamir::{ShareScalar, is_low_degree_vartime};
use veilsum_crypto::messages::acknowledgement::shares_digest;
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::masked_input::Upload;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{
    Acknowledgement, Bitmap, Certificate, Chain, Confirmation, CoreSet, EdgeReport, Header, ReadPermit, RevocationList,
    SealedShares,
};
use veilsum_crypto::params::{MILLION, RosterParams, RoundParams};
use veilsum_crypto::primitives::agreement::{
    ChannelPublicKey, ChannelSecretKey, MailEdge, MaskingPublicKey, MaskingSecretKey, Point,
};
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle::{TreeHead, extends};
use veilsum_crypto::primitives::prg::MaskKey;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, Place, Signed, Statement};
use veilsum_crypto::privacy::accountant::RdpCurve;
use veilsum_crypto::privacy::budget::{Budget, ChargeKey, Ledger};

use super::gullible::{Client, Secrets};

/// Who was asked stops, or refuses, under this rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stop {
    /// Its number.
    pub rule: u8,
    /// In words.
    pub why: String,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R-{:02}: {}", self.rule, self.why)
    }
}

/// What a decision comes to.
pub type Decided<T = ()> = Result<T, Stop>;

/// Stops under a rule.
pub fn stop<T>(rule: u8, why: impl Into<String>) -> Decided<T> {
    Err(Stop { rule, why: why.into() })
}

fn holds(rule: u8, holds: bool, why: &str) -> Decided {
    if holds { Ok(()) } else { stop(rule, why) }
}

/// The public keys of one leaf, as they travel: whether they are any is R-09's to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawKeys {
    /// S.
    pub masking: [u8; 32],
    /// B.
    pub self_mask: [u8; 32],
    /// C.
    pub channel: [u8; 32],
}

/// What the key of a pairwise mask is made from.
pub struct PairEnds {
    /// s of the one who derives.
    pub secret: Scalar,
    /// Who derives.
    pub me: ClientId,
    /// The neighbour, and its S.
    pub peer: (ClientId, [u8; 32]),
    /// Header, roster and core.
    pub context: CoreContext,
}

/// What seals one pair of shares.
pub struct MailEnds {
    /// c of the one who seals or opens.
    pub secret: [u8; 32],
    /// C of the other.
    pub peer: [u8; 32],
    /// Who made the shares.
    pub dealer: (ClientId, [u8; 32]),
    /// Who keeps them.
    pub holder: (ClientId, [u8; 32]),
    /// Header and roster.
    pub context: RosterContext,
}

impl MailEnds {
    /// The associated data, §2.6.
    pub fn aad(&self) -> Vec<u8> {
        Place {
            context: self.context.header,
            previous: self.context.roster,
            sender: self.dealer.0.into(),
            receiver: self.holder.0.into(),
        }
        .statement(labels::SHARE_MAIL, Vec::new())
        .before_body()
    }
}

/// Seals and opens mail; `None` where the agreed secret is none (§2.2), or where it does not open.
#[derive(Clone, Copy)]
pub struct Mailing {
    /// By the dealer.
    pub seal: fn(&MailEnds, &[u8; 64]) -> Option<[u8; 80]>,
    /// By the holder.
    pub open: fn(&MailEnds, &[u8; 80]) -> Option<[u8; 64]>,
}

/// Everything that the core is computed from, §5.3 and §5.4.
pub struct CoreFacts<'a> {
    /// n, k, t.
    pub params: &'a RosterParams,
    /// Neighbours of every leaf.
    pub neighbours: &'a dyn Fn(LeafIndex) -> Vec<LeafIndex>,
    /// Whose share message was admitted.
    pub dealt: &'a Bitmap,
    /// Who reported what, in its neighbour order.
    pub reports: &'a BTreeMap<LeafIndex, Vec<EdgeReport>>,
}

/// Of one secret, which share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Of s.
    Masking,
    /// Of b.
    SelfMask,
}

/// What an upload that arrives is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    /// The client's first: added.
    Fresh,
    /// The same bytes again: answered 204, not added.
    Again,
    /// Other bytes: answered 409.
    Other,
}

/// Something that touches a client's ledger.
pub enum Charging<'a> {
    /// Before the first uploaded byte.
    Upload {
        /// The worst case of this round.
        cost: &'a RdpCurve,
        /// What the device's data may cost in all.
        budget: Budget,
    },
    /// The aggregator says that the round came to nothing.
    CameToNothing,
}

/// One secret that the aggregator rebuilds.
pub struct Rebuilding<'a> {
    /// Shares that answers gave, by holder.
    pub shares: &'a BTreeMap<LeafIndex, ShareScalar>,
    /// What the dealer signed of each share.
    pub points: &'a BTreeMap<LeafIndex, Point>,
    /// B or S.
    pub key: Point,
    /// t.
    pub threshold: usize,
    /// Where holders' shares were evaluated.
    pub at: fn(LeafIndex) -> Scalar,
}

/// What became of it.
#[derive(Default)]
pub struct Rebuilt {
    /// The secret, if it was found.
    pub secret: Option<Scalar>,
    /// Whose signed answer was wrong.
    pub liars: BTreeSet<LeafIndex>,
}

/// Which side verifies a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// A client.
    Client,
    /// The aggregator.
    Aggregator,
}

/// A read that the service is asked to answer.
pub struct Read<'a> {
    /// The signed statement that came with it.
    pub permit: Option<&'a [u8]>,
    /// The request target.
    pub path: &'a str,
    /// The round.
    pub chain: &'a Chain,
    /// Who may: roster members and their keys.
    pub readers: &'a BTreeMap<ClientId, IdentityPublicKey>,
}

macro_rules! checks {
    ($($(#[$doc:meta])* $rule:ident: $decision:ty,)*) => {
        /// One decision a rule. §5 says where each is asked.
        #[derive(Clone, Copy)]
        pub struct Checks { $($(#[$doc])* pub $rule: $decision,)* }

        impl Checks {
            /// As the protocol says.
            pub fn all() -> Self {
                Self { $($rule: decide::$rule,)* }
            }
        }
    };
}

checks! {
    /// Whether a statement stands where it is expected.
    r01: fn(&Statement, &Place) -> bool,
    /// Whether a header is one to answer, after this last counter.
    r02: fn(&Policy, &Header, TaskId, u64) -> Decided,
    /// The bytes to send again: what stands in the journal, made afresh only if nothing does.
    r03: fn(&mut Option<Vec<u8>>, &mut dyn FnMut() -> Vec<u8>) -> Vec<u8>,
    /// (k, t, h), given those that the roster states.
    r04: fn(&RoundParams, RosterParams) -> Decided<RosterParams>,
    /// Whether a roster lists nobody twice, given the identity keys of the leaves that were opened.
    r05: fn(&[ClientId], &[IdentityPublicKey]) -> Decided,
    /// Whether a certificate holds.
    r06: fn(&Certificate, &Header, &RevocationList) -> Decided,
    /// Whether a roster of n covers the group of both certificates.
    r07: fn(&Policy, u32, [&CertificateBody; 2]) -> Decided,
    /// Whether the roster came in time: advert, roster.
    r08: fn(&Policy, [Moment; 2]) -> Decided,
    /// Whether these keys are canonical, of large order, and pairwise different.
    r09: fn(&[RawKeys]) -> Decided,
    /// The key of a pairwise mask.
    r10: fn(&PairEnds) -> MaskKey,
    /// How share mail is sealed.
    r11: Mailing,
    /// Where a holder's share is evaluated.
    r12: fn(LeafIndex) -> Scalar,
    /// Whether a pair of shares matches the points that its dealer signed.
    r13: fn(&SharePair, &[Point; 2]) -> bool,
    /// The variance of one client's noise.
    r14: fn(&RoundParams, u32) -> u64,
    /// Whether the survivors are enough.
    r15: fn(&RosterParams, &Bitmap) -> Decided,
    /// Which edges a dealer opens, given the complaints it is shown.
    r16: fn(&Client, &[Vec<u8>]) -> Decided<BTreeSet<LeafIndex>>,
    /// Whom a client masks with at most, and the root that stands for them, given the core it is shown.
    r17: fn(&Client, &CoreSet) -> Decided<(Bitmap, Digest)>,
    /// The core.
    r17_core: fn(&CoreFacts<'_>) -> Bitmap,
    /// Whom a client masks with, given its core and what the server says.
    r18: fn(&Client, &Bitmap, &[LeafIndex]) -> Vec<LeafIndex>,
    /// What an upload is, after those that came before.
    r19: fn(&mut BTreeMap<ClientId, Digest>, ClientId, Digest) -> Counted,
    /// Whether the survivors are within the core.
    r20: fn(&Bitmap, &Bitmap) -> Decided,
    /// Whether a client is listed, with enough of its neighbours.
    r21: fn(&Client, &Bitmap) -> Decided,
    /// Whether every neighbour listed has signed its upload under this core root.
    r22: fn(&Client, &Bitmap, Digest, &[Vec<u8>]) -> Decided,
    /// Whether a client accepts a survivor root, after the one it accepted.
    r23: fn(Option<Digest>, Digest) -> Decided,
    /// Whether the agreement set has signed this root.
    r24: fn(&Client, &Bitmap, Digest, &[Vec<u8>]) -> Decided,
    /// Which shares of a neighbour a client gives out, given whether it is listed.
    r25: fn(bool, &SharePair) -> Vec<(Kind, ShareScalar)>,
    /// What is charged, and refunded.
    r26: fn(&mut Ledger, ChargeKey, &Charging<'_>) -> Decided,
    /// Whether an answer counts as this client's.
    r28: fn(&Signed, &IdentityPublicKey) -> bool,
    /// A secret from shares.
    r29: fn(&Rebuilding<'_>) -> Rebuilt,
    /// The statement to sign, given what was fixed before and what would be fixed now.
    r30: fn(&mut Option<Statement>, Statement) -> Statement,
    /// What is left of a client's secrets once its masked bytes are written down.
    r31: fn(&mut Option<Secrets>),
    /// A mask.
    r32: fn(MaskKey, usize, RingBits) -> RingVector,
    /// Whether a log only grew.
    r33: fn(Option<TreeHead>, TreeHead, &[Digest]) -> Decided,
    /// A client's weight, relative to the largest.
    r34: fn(f64, u32) -> Decided<f64>,
    /// Whether a read is answered.
    r35: fn(&Read<'_>) -> bool,
    /// Whether a signature holds.
    r37: fn(Side, &Signed, &IdentityPublicKey) -> bool,
    /// Whether a dealer's points lie on one polynomial.
    r38: fn([&RistrettoPoint; 2], &[(LeafIndex, [&RistrettoPoint; 2])], &[Scalar]) -> bool,
}

/// The decisions of the protocol.
pub mod decide {
    use super::*;

    /// §4.1.
    pub fn r01(statement: &Statement, place: &Place) -> bool {
        statement.stands_at(place)
    }

    /// §5.1 steps 2 to 4.
    pub fn r02(policy: &Policy, header: &Header, task: TaskId, last: u64) -> Decided {
        holds(2, (1..=1 << 20).contains(&header.counter.saturating_sub(last)), "the counter does not grow, or leaps")?;
        policy.permits(header, task).map_err(|error| Stop { rule: error.rule().0, why: error.to_string() })
    }

    /// §4.5.
    pub fn r03(slot: &mut Option<Vec<u8>>, fresh: &mut dyn FnMut() -> Vec<u8>) -> Vec<u8> {
        slot.get_or_insert_with(fresh).clone()
    }

    /// §3.2.
    pub fn r04(round: &RoundParams, stated: RosterParams) -> Decided<RosterParams> {
        let own = RosterParams::derive(stated.n, round).map_err(|error| Stop { rule: 4, why: error.to_string() })?;
        let agree = (own.degree, own.threshold, own.honest) == (stated.degree, stated.threshold, stated.honest);
        holds(4, agree, "k, t or h are not what follows from n").map(|()| own)
    }

    /// §5.1.
    pub fn r05(ids: &[ClientId], identities: &[IdentityPublicKey]) -> Decided {
        holds(5, ids.windows(2).all(|two| two[0] < two[1]), "ids are not strictly ascending")?;
        let distinct: BTreeSet<_> = identities.iter().collect();
        holds(5, distinct.len() == identities.len(), "one identity key stands in two leaves")
    }

    /// §4.3, §5.1.
    pub fn r06(certificate: &Certificate, header: &Header, revoked: &RevocationList) -> Decided {
        certificate
            .check(&header.authority_key, header.opened_at, revoked)
            .map_err(|error| Stop { rule: 6, why: error.to_string() })
    }

    /// §5.2 step 4.
    pub fn r07(policy: &Policy, n: u32, [own, theirs]: [&CertificateBody; 2]) -> Decided {
        use veilsum_crypto::client::policy::GammaBasis;
        let GammaBasis::CertifiedGroup { coverage_min, .. } = policy.gamma else { return Ok(()) };
        let covered = u64::from(n) * MILLION >= u64::from(own.group_size) * u64::from(coverage_min);
        let one_group = (own.group, own.group_size) == (theirs.group, theirs.group_size);
        holds(7, covered && one_group, "the roster does not cover the certified group")
    }

    /// §5.2 step 1.
    pub fn r08(policy: &Policy, [advert, now]: [Moment; 2]) -> Decided {
        let by_wall = now.wall.0.checked_sub(advert.wall.0);
        let by_monotonic = now.monotonic_ms.checked_sub(advert.monotonic_ms);
        let (Some(wall_us), Some(monotonic_ms)) = (by_wall, by_monotonic) else {
            return stop(8, "a clock ran backwards");
        };
        holds(8, (wall_us / 1_000).max(monotonic_ms) <= policy.roster_deadline_ms, "the roster came too late")
    }

    /// §2.2.
    pub fn r09(leaves: &[RawKeys]) -> Decided {
        let canonical = leaves.iter().all(|keys| {
            Point::from_bytes(keys.masking).is_ok()
                && Point::from_bytes(keys.self_mask).is_ok()
                && ChannelPublicKey::from_bytes(keys.channel).is_ok()
        });
        holds(9, canonical, "a key is not canonical, the identity, or of small order")?;
        let all: BTreeSet<[u8; 32]> =
            leaves.iter().flat_map(|keys| [keys.masking, keys.self_mask, keys.channel]).collect();
        holds(9, all.len() == 3 * leaves.len(), "one key stands in two places")
    }

    /// §2.1.
    pub fn r10(ends: &PairEnds) -> MaskKey {
        let own = MaskingSecretKey::from_scalar(&ShareScalar::from_scalar(ends.secret));
        let theirs = MaskingPublicKey(Point::from_bytes(ends.peer.1).expect("R-09 saw to it"));
        own.pair_mask_key(ends.me, (ends.peer.0, &theirs), &ends.context)
    }

    /// §2.6.
    #[allow(non_upper_case_globals, reason = "it stands where functions stand")]
    pub const r11: Mailing = Mailing {
        seal: |ends, plaintext| {
            let (edge, peer) = (mail_edge(ends)?, ChannelPublicKey::from_bytes(ends.peer).ok()?);
            let key = ChannelSecretKey::from_bytes(ends.secret).mail_key(&peer, edge, &ends.context);
            Some(key.seal(plaintext, &ends.aad()))
        },
        open: |ends, sealed| {
            let (edge, peer) = (mail_edge(ends)?, ChannelPublicKey::from_bytes(ends.peer).ok()?);
            let key = ChannelSecretKey::from_bytes(ends.secret).mail_key(&peer, edge, &ends.context);
            key.open(sealed, &ends.aad()).map(|plain| *plain)
        },
    };

    fn mail_edge(ends: &MailEnds) -> Option<MailEdge> {
        Some(MailEdge {
            dealer: ends.dealer.0,
            holder: ends.holder.0,
            dealer_key: ChannelPublicKey::from_bytes(ends.dealer.1).ok()?,
            holder_key: ChannelPublicKey::from_bytes(ends.holder.1).ok()?,
        })
    }

    /// §2.2.
    pub fn r12(holder: LeafIndex) -> Scalar {
        Scalar::from(holder.evaluation_point())
    }

    /// §5.3 step 2.
    pub fn r13(pair: &SharePair, points: &[Point; 2]) -> bool {
        [Point::of(&pair.masking), Point::of(&pair.self_mask)] == *points
    }

    /// §3.4.
    pub fn r14(round: &RoundParams, n: u32) -> u64 {
        round.share_variance(n).expect("R-02 refused a header without honest clients")
    }

    /// §5.6.
    pub fn r15(params: &RosterParams, list: &Bitmap) -> Decided {
        let why = format!("{} survivors; {} are needed", list.count(), params.survivors_min);
        holds(15, list.count() >= params.survivors_min, &why)
    }

    /// §5.4 steps 2 and 3.
    pub fn r16(dealer: &Client, complaints: &[Vec<u8>]) -> Decided<BTreeSet<LeafIndex>> {
        let view = dealer.view();
        let counts = |bytes: &Vec<u8>| {
            let message = Acknowledgement::decode(bytes, view.params.degree).ok()?;
            let statement = message.signed().statement();
            let holder = *view.neighbours.iter().find(|leaf| view.peer(**leaf).client == statement.sender.into())?;
            let at = view.order.neighbours(holder).iter().position(|leaf| *leaf == view.me)?;
            let peer = view.peer(holder);
            let holds = (dealer.checks.r01)(statement, &view.chain.from_client(peer.client, view.root))
                && (dealer.checks.r37)(Side::Client, message.signed(), &peer.identity)
                && message.complaints() <= view.params.openings_max()
                && message.reports()[at] == EdgeReport::Complaint { edge: dealer.edge_hash(holder) };
            holds.then_some(holder)
        };
        let opened: BTreeSet<_> = complaints.iter().filter_map(counts).collect();
        holds(16, opened.len() as u32 <= view.params.openings_max(), "more complaints than corrupt neighbours")?;
        Ok(opened)
    }

    /// §5.5 step 2.
    pub fn r17(client: &Client, core: &CoreSet) -> Decided<(Bitmap, Digest)> {
        let (view, members) = (client.view(), core.members());
        holds(17, members.has(view.me), "this client is not in the core")?;
        let near = members.count_of(&view.neighbours);
        holds(17, near >= view.params.threshold, &format!("{near} neighbours are in the core"))?;
        holds(17, members.count() >= view.params.survivors_min, "the core is too small")?;
        Ok((members.clone(), core.root()))
    }

    /// §5.3 close and §5.4 close step 2, without complaints: silence removes only the silent.
    pub fn r17_core(facts: &CoreFacts<'_>) -> Bitmap {
        let (n, threshold) = (facts.params.n, facts.params.threshold);
        let acknowledged = |leaf: &LeafIndex| {
            let served = (facts.neighbours)(*leaf);
            facts.reports.get(leaf).is_some_and(|reports| {
                served
                    .iter()
                    .zip(reports)
                    .all(|(dealer, report)| !facts.dealt.has(*dealer) || !matches!(report, EdgeReport::Missing))
            })
        };
        let mut inside = Bitmap::of(n, facts.dealt.leaves().filter(acknowledged));
        loop {
            let stay = inside.leaves().filter(|leaf| inside.count_of(&(facts.neighbours)(*leaf)) >= threshold);
            let next = Bitmap::of(n, stay.collect::<Vec<_>>());
            if next == inside {
                return inside;
            }
            inside = next;
        }
    }

    /// §5.5 step 4: computed; what the server says is not looked at.
    pub fn r18(client: &Client, core: &Bitmap, _said: &[LeafIndex]) -> Vec<LeafIndex> {
        client.view().neighbours.iter().copied().filter(|leaf| core.has(*leaf)).collect()
    }

    /// §5.5.
    pub fn r19(seen: &mut BTreeMap<ClientId, Digest>, client: ClientId, digest: Digest) -> Counted {
        match seen.get(&client) {
            None => {
                seen.insert(client, digest);
                Counted::Fresh
            }
            Some(earlier) if *earlier == digest => Counted::Again,
            Some(_) => Counted::Other,
        }
    }

    /// §5.5.
    pub fn r20(list: &Bitmap, core: &Bitmap) -> Decided {
        holds(20, list.is_within(core), "survivors outside the core")
    }

    /// §5.6.
    pub fn r21(client: &Client, list: &Bitmap) -> Decided {
        let view = client.view();
        holds(21, list.has(view.me), "this client is not listed")?;
        let near = list.count_of(&view.neighbours);
        holds(21, near >= view.params.threshold, &format!("{near} neighbours are listed alive"))
    }

    /// §5.6.
    pub fn r22(client: &Client, list: &Bitmap, core: Digest, uploads: &[Vec<u8>]) -> Decided {
        let view = client.view();
        let uploads: Vec<Upload> = uploads.iter().filter_map(|bytes| Upload::decode(bytes).ok()).collect();
        let signed = |leaf: LeafIndex| {
            let peer = view.peer(leaf);
            let place = view.chain.from_client(peer.client, core);
            uploads.iter().map(Upload::signed).any(|signed| {
                signed.statement().stands_at(&place) && (client.checks.r37)(Side::Client, signed, &peer.identity)
            })
        };
        let all = view.neighbours.iter().filter(|leaf| list.has(**leaf)).all(|leaf| signed(*leaf));
        holds(22, all, "a neighbour is listed alive without its signed upload under this core")
    }

    /// §5.6 step 3.
    pub fn r23(accepted: Option<Digest>, root: Digest) -> Decided {
        holds(23, accepted.is_none_or(|first| first == root), "it has accepted another survivor list")
    }

    /// §5.7 step 1.
    pub fn r24(client: &Client, list: &Bitmap, root: Digest, confirmations: &[Vec<u8>]) -> Decided {
        let view = client.view();
        let mut signers = BTreeSet::new();
        for message in confirmations.iter().filter_map(|bytes| Confirmation::decode(bytes).ok()) {
            let statement = message.signed().statement();
            let agrees = |leaf: &&LeafIndex| view.peer(**leaf).client == statement.sender.into();
            let Some(leaf) = view.order.agreement_set().iter().find(agrees) else { continue };
            let peer = view.peer(*leaf);
            let holds = list.has(*leaf)
                && statement.previous == root
                && (client.checks.r01)(statement, &view.chain.from_client(peer.client, root))
                && (client.checks.r37)(Side::Client, message.signed(), &peer.identity);
            if holds {
                signers.insert(*leaf);
            }
        }
        let (found, needed) = (signers.len() as u32, view.params.threshold);
        holds(24, found >= needed, &format!("{found} valid signatures on this list; {needed} are needed"))
    }

    /// §5.7 step 2.
    pub fn r25(listed: bool, pair: &SharePair) -> Vec<(Kind, ShareScalar)> {
        vec![if listed { (Kind::SelfMask, pair.self_mask.clone()) } else { (Kind::Masking, pair.masking.clone()) }]
    }

    /// §5.5 step 3, §10.3.
    pub fn r26(ledger: &mut Ledger, key: ChargeKey, what: &Charging<'_>) -> Decided {
        if let Charging::Upload { cost, budget } = what {
            if !ledger.is_spent(key) {
                ledger.can_open(cost, *budget).map_err(|error| Stop { rule: 26, why: error.to_string() })?;
            }
            ledger.charge(key, (*cost).clone());
        }
        Ok(()) // never refunded
    }

    /// §5.7.
    pub fn r28(answer: &Signed, key: &IdentityPublicKey) -> bool {
        answer.is_by(key)
    }

    /// §5.7 close step 1.
    pub fn r29(of: &Rebuilding<'_>) -> Rebuilt {
        let try_first = |shares: &BTreeMap<LeafIndex, ShareScalar>| {
            let first: Vec<_> =
                shares.iter().take(of.threshold).map(|(leaf, share)| (*leaf, *share.scalar())).collect();
            let secret = (first.len() == of.threshold).then(|| interpolate(&first, of.at))?;
            (Point::of(&ShareScalar::from_scalar(secret)) == of.key).then_some(secret)
        };
        if let Some(secret) = try_first(of.shares) {
            return Rebuilt { secret: Some(secret), liars: BTreeSet::new() };
        }
        let matches = |(leaf, share): &(&LeafIndex, &ShareScalar)| of.points.get(*leaf) == Some(&Point::of(share));
        let (right, wrong): (Vec<_>, Vec<_>) = of.shares.iter().partition(matches);
        let right = right.into_iter().map(|(leaf, share)| (*leaf, share.clone())).collect();
        Rebuilt { secret: try_first(&right), liars: wrong.into_iter().map(|(leaf, _)| *leaf).collect() }
    }

    /// §8.
    pub fn r30(fixed: &mut Option<Statement>, now: Statement) -> Statement {
        fixed.get_or_insert(now).clone()
    }

    /// §5.5 step 5.
    pub fn r31(secrets: &mut Option<Secrets>) {
        *secrets = None;
    }

    /// §2.4.
    pub fn r32(key: MaskKey, len: usize, bits: RingBits) -> RingVector {
        let mut mask = RingVector::zeros(len, bits);
        mask.add_mask(key);
        mask
    }

    /// §9.
    pub fn r33(seen: Option<TreeHead>, now: TreeHead, growth: &[Digest]) -> Decided {
        holds(33, seen.is_none_or(|seen| extends(seen, now, growth)), "the log shrank or forked")
    }

    /// §6.5.
    pub fn r34(weight: f64, weight_max: u32) -> Decided<f64> {
        let relative = weight / f64::from(weight_max);
        holds(34, relative > 0.0 && relative <= 1.0, "the weight is not above 0 and at most weight_max")?;
        Ok(relative)
    }

    /// §7.2.
    pub fn r35(read: &Read<'_>) -> bool {
        let permit = read.permit.and_then(|bytes| ReadPermit::decode(bytes).ok());
        permit.is_some_and(|permit| {
            read.readers.get(&permit.reader()).is_some_and(|key| permit.permits(read.path, read.chain, key))
        })
    }

    /// §2.7.
    pub fn r37(_: Side, signed: &Signed, key: &IdentityPublicKey) -> bool {
        signed.is_by(key)
    }

    /// §5.2.
    pub fn r38(
        dealer: [&RistrettoPoint; 2],
        shares: &[(LeafIndex, [&RistrettoPoint; 2])],
        coefficients: &[Scalar],
    ) -> bool {
        is_low_degree_vartime(dealer, shares, coefficients)
    }
}

/// Lagrange at zero over these shares.
pub fn interpolate(shares: &[(LeafIndex, Scalar)], at: fn(LeafIndex) -> Scalar) -> Scalar {
    interpolate_at(Scalar::ZERO, shares, at)
}

/// Lagrange at x.
pub fn interpolate_at(x: Scalar, shares: &[(LeafIndex, Scalar)], at: fn(LeafIndex) -> Scalar) -> Scalar {
    let weight = |of: LeafIndex| -> Scalar {
        let others = shares.iter().map(|(leaf, _)| *leaf).filter(|leaf| *leaf != of);
        let (above, below) = others.fold((Scalar::ONE, Scalar::ONE), |(above, below), other| {
            (above * (x - at(other)), below * (at(of) - at(other)))
        });
        above * below.invert()
    };
    shares.iter().map(|(leaf, share)| weight(*leaf) * share).sum()
}

/// The digest over the share messages that an acknowledgement is about.
pub fn digest_of(dealt: &[&SealedShares]) -> Digest {
    shares_digest(dealt.iter().map(|message| message.signed().root()))
}
