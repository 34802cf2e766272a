//! Share, the client's side: is the roster honest? Then shares of both secrets for each neighbour. §5.2
//!
//! Before: `client/advertise.rs`. Next: `client/acknowledge.rs`. The other end: `server/share.rs`.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::acknowledge::AwaitingMail;
use super::advertise::PinnedRoster;
use super::policy::GammaBasis;
use super::saved::{Nothing, Turn};
use super::{AwaitingRoster, Moment, RoundView, from_aggregator};
use crate::ids::{LeafIndex, Party, Timestamp};
use crate::math::shamir::{Polynomial, ShareScalar};
use crate::messages::key_advertisement::leaf_digest;
use crate::messages::opening::SharePair;
use crate::messages::{Edge, KeyAdvertisement, Member, Roster, SealedShares};
use crate::params::{MILLION, ROSTER_LIMIT, RingOrder, RosterParams};
use crate::primitives::agreement::{MailEdge, Point};
use crate::primitives::labels;
use crate::primitives::signature::{Place, Signed};
use crate::rules::ServerMisbehaved;

/// How many leaves beyond those it needs a client verifies, chosen at random after it holds the roster. R-06
const RANDOM_LEAVES: u32 = 16;

/// A roster that holds in itself; the leaves to ask for follow from it.
#[derive(Debug)]
pub struct RosterEvidence {
    roster: Roster,
    params: RosterParams,
    me: LeafIndex,
    wanted: BTreeSet<LeafIndex>,
}

impl RosterEvidence {
    /// The leaves that must be shown: own, neighbours, agreement set and 16 random others.
    pub fn wanted(&self) -> &BTreeSet<LeafIndex> {
        &self.wanted
    }
}

impl AwaitingRoster {
    /// §5.2 steps 1 to 4: judges the roster as served (signed statement, then the list), and chooses which leaves to see.
    pub fn examine(
        &self,
        roster: &[u8],
        now: Moment,
        rng: &mut impl CryptoRng,
    ) -> Result<RosterEvidence, ServerMisbehaved> {
        self.roster_is_in_time(now)?;
        let mut reader = crate::primitives::codec::Reader::new(roster);
        let signed = Signed::read(&mut reader, labels::ROSTER)?;
        let statement = from_aggregator(&signed.encode(), labels::ROSTER, "roster", &self.header.aggregator_key)?;
        let chain = self.header.chain();
        if !statement.stands_at(&chain.from_aggregator(chain.context)) {
            return Err(ServerMisbehaved::OutOfChain { statement: "roster" });
        }
        let roster = Roster::from_parts(statement, reader.rest())?;
        if roster.n() > ROSTER_LIMIT {
            return Err(ServerMisbehaved::Roster("more than 16384 clients: larger rosters need a witness"));
        }
        if self.pinned.as_ref().is_some_and(|pinned| pinned.root != roster.statement().root()) {
            return Err(ServerMisbehaved::SecondRoster);
        }
        // derived here from the signed n; what the roster says must agree.
        let params = RosterParams::derive(roster.n(), &self.header.params)?;
        if !roster.names(&params) {
            return Err(ServerMisbehaved::GraphParams);
        }
        let me = roster.leaf_of(self.member.client()).ok_or(ServerMisbehaved::OwnLeaf)?;
        let order = RingOrder::new(&roster.statement().root(), &params);
        let mut wanted: BTreeSet<LeafIndex> = order.neighbours(me).into_iter().collect();
        wanted.extend(order.agreement_set());
        wanted.insert(me);
        // Of one roster the random leaves are drawn once, also when the process died before all leaves had come. §4.5
        let is_whole = |kept: &&BTreeSet<LeafIndex>| {
            kept.is_superset(&wanted) && kept.last().is_some_and(|leaf| leaf.0 < roster.n())
        };
        if let Some(kept) = self.pinned.as_ref().map(|pinned| &pinned.wanted).filter(is_whole) {
            let wanted = kept.clone();
            return Ok(RosterEvidence { roster, params, me, wanted });
        }
        let others = roster.n() - wanted.len() as u32;
        let target = wanted.len() + RANDOM_LEAVES.min(others) as usize;
        while wanted.len() < target {
            wanted.insert(LeafIndex(uniform_below(roster.n(), rng)));
        }
        Ok(RosterEvidence { roster, params, me, wanted })
    }

    /// judged by the larger of both clocks; one that ran backwards stops.
    fn roster_is_in_time(&self, now: Moment) -> Result<(), ServerMisbehaved> {
        let Moment { wall: Timestamp(then_us), monotonic_ms: then_ms } = self.advertised;
        let by_wall = now.wall.0.checked_sub(then_us).ok_or(ServerMisbehaved::ClockBackwards)? / 1_000;
        let by_monotonic = if self.same_process {
            now.monotonic_ms.checked_sub(then_ms).ok_or(ServerMisbehaved::ClockBackwards)?
        } else {
            0
        };
        let after_ms = by_wall.max(by_monotonic);
        let deadline_ms = self.member.policy.roster_deadline_ms;
        if after_ms <= deadline_ms { Ok(()) } else { Err(ServerMisbehaved::RosterLate { after_ms, deadline_ms }) }
    }

    /// §5.2 step 2: the roster's slot of the journal: the first valid one counts, and is written down with the leaves to open
    /// before any of them is asked for. `share` takes no other.
    pub fn pin(self, evidence: &RosterEvidence) -> Turn<AwaitingRoster, Nothing> {
        let pinned = PinnedRoster { root: evidence.roster.statement().root(), wanted: evidence.wanted.clone() };
        Turn::new(Self { pinned: Some(pinned), ..self }, Nothing)
    }

    /// §5.2 steps 5 to 8: verifies the leaves asked for, then deals.
    pub fn share(
        self,
        evidence: RosterEvidence,
        leaves: &BTreeMap<LeafIndex, Vec<u8>>,
        rng: &mut impl CryptoRng,
    ) -> Result<Turn<AwaitingMail, SealedShares>, ServerMisbehaved> {
        let RosterEvidence { roster, params, me, wanted } = evidence;
        if self.pinned.as_ref().is_none_or(|pinned| pinned.root != roster.statement().root()) {
            return Err(ServerMisbehaved::SecondRoster);
        }
        let peers = self.verified(&roster, me, &wanted, leaves)?;
        let Self { member, memory, header, secrets, .. } = self;
        let view = RoundView::new(member, memory, header, roster, params, me, peers);

        let threshold = view.params.threshold;
        let masking = Polynomial::hide(secrets.masking.to_scalar(), threshold, rng);
        let self_mask = Polynomial::hide(secrets.self_mask.to_scalar(), threshold, rng);
        let mut dealt = Vec::with_capacity(view.neighbours.len());
        let mut edges = Vec::with_capacity(view.neighbours.len());
        for holder in &view.neighbours {
            let pair = SharePair { masking: masking.share_for(*holder), self_mask: self_mask.share_for(*holder) };
            let mail_edge = mail_edge(&view, view.me, *holder);
            let key = secrets.channel.mail_key(&mail_edge.holder_key, mail_edge, &view.context());
            edges.push(Edge {
                holder: *holder,
                sealed: key.seal(&plaintext(&pair), &aad(&view, mail_edge)),
                masking_point: Point::of(&pair.masking),
                self_mask_point: Point::of(&pair.self_mask),
            });
            dealt.push(pair);
        }
        let hashes = edges.iter().map(Edge::hash).collect();
        let message = SealedShares::sign(edges, &view.chain, view.roster_root, view.client(), view.identity());
        Ok(Turn::new(AwaitingMail { view, secrets, dealt, hashes }, message))
    }

    /// the full leaves of all wanted members.
    fn verified(
        &self,
        roster: &Roster,
        me: LeafIndex,
        wanted: &BTreeSet<LeafIndex>,
        leaves: &BTreeMap<LeafIndex, Vec<u8>>,
    ) -> Result<BTreeMap<LeafIndex, Member>, ServerMisbehaved> {
        let mut peers = BTreeMap::new();
        let mut claims = BTreeSet::new();
        for leaf in wanted {
            let (client, digest) = roster.members()[leaf.index()];
            let bytes = leaves.get(leaf).ok_or(ServerMisbehaved::Leaf { leaf: leaf.0 })?;
            if leaf_digest(bytes) != digest {
                return Err(ServerMisbehaved::Leaf { leaf: leaf.0 });
            }
            let misled =
                |rejection| ServerMisbehaved::Member { leaf: leaf.0, rejection: alloc::boxed::Box::new(rejection) };
            let advert = KeyAdvertisement::decode(bytes).map_err(|error| misled(error.into()))?;
            let member = advert.check(&self.header, &self.revoked).map_err(misled)?;
            if member.client != client {
                return Err(ServerMisbehaved::Leaf { leaf: leaf.0 });
            }
            // its own leaf is the one it sent for this round, nonce included.
            if *leaf == me && *advert.keys() != self.keys {
                return Err(ServerMisbehaved::OwnLeaf);
            }
            // And it is its own: another identity of the same client would speak in its place. A round that was advertised
            // under an identity that is gone is given up before it comes here.
            if *leaf == me && member.identity.party() != self.own_identity() {
                return Err(ServerMisbehaved::OwnLeaf);
            }
            if !member.claims().into_iter().all(|claim| claims.insert(claim)) {
                return Err(ServerMisbehaved::SharedKey);
            }
            self.is_in_group(roster.n(), &advert)?;
            peers.insert(*leaf, member);
        }
        Ok(peers)
    }

    /// The identity that signed the advert; what the first version wrote does not say, and is taken for this one's.
    fn own_identity(&self) -> Party {
        self.memory.identity.unwrap_or_else(|| self.member.identity.public().party())
    }

    /// a roster of one certified group, covered as the policy demands.
    fn is_in_group(&self, n: u32, advert: &KeyAdvertisement) -> Result<(), ServerMisbehaved> {
        let GammaBasis::CertifiedGroup { coverage_min, .. } = self.member.policy.gamma else { return Ok(()) };
        let (own, theirs) = (self.member.certificate.body(), advert.certificate().body());
        let covered = u64::from(n) * MILLION >= u64::from(own.group_size) * u64::from(coverage_min);
        if covered && own.group == theirs.group && own.group_size == theirs.group_size {
            Ok(())
        } else {
            Err(ServerMisbehaved::GroupCoverage)
        }
    }
}

/// Both ends of the mail between a dealer and a holder that this client verified.
pub(super) fn mail_edge(view: &RoundView, dealer: LeafIndex, holder: LeafIndex) -> MailEdge {
    let (dealer, holder) = (view.peer(dealer), view.peer(holder));
    MailEdge { dealer: dealer.client, holder: holder.client, dealer_key: dealer.channel, holder_key: holder.channel }
}

/// Associated data of a piece of mail: a statement from dealer to holder, up to its body length. §2.6
pub(super) fn aad(view: &RoundView, edge: MailEdge) -> Vec<u8> {
    Place {
        context: view.chain.context,
        previous: view.roster_root,
        sender: edge.dealer.into(),
        receiver: edge.holder.into(),
    }
    .statement(labels::SHARE_MAIL, Vec::new())
    .before_body()
}

fn plaintext(pair: &SharePair) -> Zeroizing<[u8; 64]> {
    let mut bytes = Zeroizing::new([0; 64]);
    bytes[..32].copy_from_slice(pair.masking.as_bytes());
    bytes[32..].copy_from_slice(pair.self_mask.as_bytes());
    bytes
}

/// The inverse of `plaintext`; `None` if a scalar is not below the group order.
pub(super) fn share_pair(plaintext: &[u8; 64]) -> Option<SharePair> {
    let half = |range: core::ops::Range<usize>| {
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(plaintext[range].try_into().expect("half of 64 bytes"));
        ShareScalar::from_bytes(&bytes)
    };
    Some(SharePair { masking: half(0..32)?, self_mask: half(32..64)? })
}

/// Uniform below `n`, by rejection.
fn uniform_below(n: u32, rng: &mut impl CryptoRng) -> u32 {
    let limit = u32::MAX - u32::MAX % n;
    loop {
        let draw = rng.next_u32();
        if draw < limit {
            return draw % n;
        }
    }
}
