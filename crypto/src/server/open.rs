//! Open: a bad dealer is told from a bad holder, in public; then the core is fixed. §5.4
//!
//! The aggregator's file alone; the client's part is in `client/acknowledge.rs`.
//! Before: `server/acknowledge.rs`. Next: `server/mask.rs`.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::{Accepted, Assembly, Effect, Masking, Phase, PhaseKind, Received, RoundFacts, StatementKind, is_from};
use crate::ids::{ClientId, LeafIndex};
use crate::math::shamir::ShareScalar;
use crate::messages::evidence::mail_to;
use crate::messages::opening::SharePair;
use crate::messages::{Bitmap, CoreSet, Evidence, SealedShares};
use crate::primitives::agreement::Point;
use crate::primitives::codec::{DecodeError, Reader};
use crate::rules::{Abandonment, Rejection};

/// Who is complained about, by whom, and the signed points of that edge.
pub type Complaints = BTreeMap<LeafIndex, BTreeMap<LeafIndex, (Point, Point)>>;

/// A share that its dealer made public. It counts as the holder's.
#[derive(Clone, Debug)]
pub struct OpenedShare {
    /// Whose secret.
    pub dealer: LeafIndex,
    /// Whose share.
    pub holder: LeafIndex,
    /// Both shares.
    pub pair: SharePair,
}

/// Waits for dealers complained about.
#[derive(Clone, Debug)]
pub struct Opening {
    pub(super) assembly: Assembly,
    /// Who dealt and acknowledged every edge it was served.
    pub(super) candidates: Bitmap,
    pub(super) complaints: Complaints,
}

impl Opening {
    pub(super) fn accept(&self, facts: &RoundFacts, client: ClientId, body: &[u8]) -> Result<Accepted, Rejection> {
        let (leaf, dealer) = self.assembly.find(client)?;
        let complainers = self.complaints.get(&leaf).ok_or(Rejection::NothingToOpen { client })?;
        let message = crate::messages::Opening::decode(body, self.assembly.params().degree)?;
        is_from(message.signed(), client, &facts.chain.from_client(client, self.assembly.root()), &dealer.identity)?;
        let (found, allowed) = (complainers.len() as u32, self.assembly.params().openings_max());
        if found > allowed {
            return Err(Rejection::TooManyOpenings { allowed, found });
        }
        if !message.edges().keys().eq(complainers.keys()) {
            return Err(Rejection::NothingToOpen { client });
        }
        Ok(Accepted::body(client, body))
    }

    /// a right opening settles the edge; a wrong signed one names the dealer and drops it; an absent one drops the
    /// dealer as vanished, unnamed, because a server could have withheld it.
    pub(super) fn close(self, facts: &RoundFacts, received: Received) -> (Phase, Vec<Effect>) {
        let Self { assembly, candidates, complaints } = self;
        let (mut opened, mut dropped, mut effects) = (Vec::new(), BTreeSet::new(), Vec::new());
        let mut roots = Vec::new();
        for (dealer, challenged) in complaints {
            let client = assembly.roster().client(dealer);
            let body = received.bodies.get(&client);
            let Some(message) =
                body.and_then(|body| crate::messages::Opening::decode(body, assembly.params().degree).ok())
            else {
                dropped.insert(dealer);
                continue;
            };
            roots.push(message.signed().root());
            let pairs = message.edges().iter().zip(challenged.values());
            let wrong = pairs.clone().find(|((_, pair), (masking, self_mask))| {
                Point::of(&pair.masking) != *masking || Point::of(&pair.self_mask) != *self_mask
            });
            if let Some(((holder, _), _)) = wrong {
                dropped.insert(dealer);
                effects.extend(wrong_opening(&assembly, &received, dealer, *holder));
                continue;
            }
            opened.extend(pairs.map(|((holder, pair), _)| OpenedShare { dealer, holder: *holder, pair: pair.clone() }));
        }
        let kept = Bitmap::of(assembly.params().n, candidates.leaves().filter(|leaf| !dropped.contains(leaf)));
        let (phase, mut effects) = fix_core(facts, assembly, kept, opened, effects);
        if phase.kind() == PhaseKind::Masking {
            effects.extend(roots.into_iter().map(|root| Effect::Log { root })); // §9: what led to the core, by dealer
        }
        (phase, effects)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.assembly.write(out);
        self.candidates.write(out);
        out.extend((self.complaints.len() as u32).to_le_bytes());
        for (dealer, holders) in &self.complaints {
            out.extend(dealer.0.to_le_bytes());
            out.extend((holders.len() as u32).to_le_bytes());
            for (holder, (masking, self_mask)) in holders {
                out.extend(holder.0.to_le_bytes());
                out.extend(masking.as_bytes());
                out.extend(self_mask.as_bytes());
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, facts: &RoundFacts) -> Result<Self, DecodeError> {
        let assembly = Assembly::read(reader, facts)?;
        let candidates = Bitmap::read(reader, assembly.params().n)?;
        let mut complaints = Complaints::new();
        for _ in 0..reader.u32("dealers")? {
            let dealer = assembly.read_leaf(reader, "stored dealer")?;
            let mut holders = BTreeMap::new();
            for _ in 0..reader.u32("holders")? {
                let holder = assembly.read_leaf(reader, "stored holder")?;
                let points = (Point::from_bytes(reader.array("P_s")?)?, Point::from_bytes(reader.array("P_b")?)?);
                insert_next(&mut holders, holder, points)?;
            }
            insert_next(&mut complaints, dealer, holders)?;
        }
        Ok(Self { assembly, candidates, complaints })
    }

    /// The holders who complain about a dealer.
    pub fn complainers(&self, dealer: LeafIndex) -> Vec<ClientId> {
        let holders = self.complaints.get(&dealer).into_iter().flat_map(BTreeMap::keys);
        holders.map(|holder| self.assembly.roster().client(*holder)).collect()
    }
}

/// Names a dealer: its opening, and the edge that it had signed.
fn wrong_opening(assembly: &Assembly, received: &Received, dealer: LeafIndex, holder: LeafIndex) -> Option<Effect> {
    let client = assembly.roster().client(dealer);
    let shares = SealedShares::decode(received.shares.get(&client)?, assembly.params().degree).ok()?;
    let evidence = Evidence::Opening {
        leaf: received.adverts.get(&client)?.clone(),
        opening: received.bodies.get(&client)?.clone(),
        mail: mail_to(&shares, dealer, holder)?,
    };
    Some(Effect::Fault { client, rule: 16, evidence: evidence.encode() })
}

/// the largest set in which everyone has t neighbours, by repeated removal: the order does not matter.
fn core_of(assembly: &Assembly, candidates: Bitmap) -> Bitmap {
    let params = assembly.params();
    let neighbours: BTreeMap<LeafIndex, Vec<LeafIndex>> =
        candidates.leaves().map(|leaf| (leaf, assembly.order().neighbours(leaf))).collect();
    let mut inside = candidates;
    loop {
        let stay: Vec<LeafIndex> =
            inside.leaves().filter(|leaf| inside.count_of(&neighbours[leaf]) >= params.threshold).collect();
        if stay.len() as u32 == inside.count() {
            return inside;
        }
        inside = Bitmap::of(params.n, stay);
    }
}

/// Fixes the core and spends the round's charge in one commit, or abandons before anything is spent.
pub(super) fn fix_core(
    facts: &RoundFacts,
    assembly: Assembly,
    candidates: Bitmap,
    opened: Vec<OpenedShare>,
    mut effects: Vec<Effect>,
) -> (Phase, Vec<Effect>) {
    let members = core_of(&assembly, candidates);
    if members.count() < assembly.params().survivors_min {
        return Phase::abandon_uncharged(Abandonment::CoreTooSmall, Some(assembly), effects);
    }
    let core = CoreSet::fix(members, &facts.chain, assembly.root());
    effects.push(Effect::Statement {
        kind: StatementKind::Core,
        bytes: core.statement().encode(),
        attachment: Vec::new(),
    });
    effects.push(Effect::Spend);
    (Phase::Masking(Masking { assembly, core, opened }), effects)
}

pub(super) fn write_opened(out: &mut Vec<u8>, opened: &[OpenedShare]) {
    out.extend((opened.len() as u32).to_le_bytes());
    for share in opened {
        out.extend(share.dealer.0.to_le_bytes());
        out.extend(share.holder.0.to_le_bytes());
        out.extend(share.pair.masking.as_bytes());
        out.extend(share.pair.self_mask.as_bytes());
    }
}

/// Stored maps are in the order of their keys, each once.
fn insert_next<V>(map: &mut BTreeMap<LeafIndex, V>, leaf: LeafIndex, value: V) -> Result<(), DecodeError> {
    if map.last_key_value().is_some_and(|(last, _)| *last >= leaf) {
        return Err(DecodeError::NotCanonical { field: "stored complaints", expected: "in ascending order" });
    }
    map.insert(leaf, value);
    Ok(())
}

pub(super) fn read_opened(reader: &mut Reader<'_>, assembly: &Assembly) -> Result<Vec<OpenedShare>, DecodeError> {
    let scalar = |reader: &mut Reader<'_>| {
        ShareScalar::from_bytes(&reader.array("share")?)
            .ok_or(DecodeError::NotCanonical { field: "opened share", expected: "below the group order" })
    };
    (0..reader.u32("opened")?)
        .map(|_| {
            let (dealer, holder) =
                (assembly.read_leaf(reader, "opened dealer")?, assembly.read_leaf(reader, "opened holder")?);
            Ok(OpenedShare { dealer, holder, pair: SharePair { masking: scalar(reader)?, self_mask: scalar(reader)? } })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Digest, Party};
    use crate::messages::{Chain, Roster};
    use crate::params::RosterParams;
    use crate::testing::client_id;
    use proptest::prelude::*;

    /// A graph of n clients; who they are does not matter here.
    fn graph(n: u32, degree: u32, threshold: u32, seed: u8) -> Assembly {
        let params = RosterParams {
            n,
            corrupt: 0,
            tolerated: 0,
            degree,
            threshold,
            honest: 1,
            survivors_min: 2,
            share_variance: 0,
        };
        let members = (0..n).map(|number| (client_id(number), Digest([seed; 32]))).collect();
        let chain = Chain { context: Digest([seed; 32]), aggregator: Party([1; 16]) };
        Assembly::new(Roster::fix(&chain, &params, [seed; 32], members), Vec::new(), params)
    }

    /// As §5.4 says it: while somebody has too few neighbours inside, it is removed; whom first, `choose` says.
    fn one_by_one(assembly: &Assembly, candidates: &Bitmap, mut choose: impl FnMut(usize) -> usize) -> Bitmap {
        let mut inside: BTreeSet<LeafIndex> = candidates.leaves().collect();
        loop {
            let weak: Vec<LeafIndex> = inside.iter().copied().filter(|leaf| !holds(assembly, &inside, *leaf)).collect();
            if weak.is_empty() {
                return Bitmap::of(assembly.params().n, inside);
            }
            inside.remove(&weak[choose(weak.len())]);
        }
    }

    fn holds(assembly: &Assembly, inside: &BTreeSet<LeafIndex>, leaf: LeafIndex) -> bool {
        let neighbours = assembly.order().neighbours(leaf);
        neighbours.iter().filter(|neighbour| inside.contains(neighbour)).count() >= assembly.params().threshold as usize
    }

    /// Every set of candidates in which everybody has t neighbours, joined: the largest.
    fn largest(assembly: &Assembly, candidates: &Bitmap) -> Bitmap {
        let candidates: Vec<LeafIndex> = candidates.leaves().collect();
        let mut joined = BTreeSet::new();
        for chosen in 0..1_u32 << candidates.len() {
            let set: BTreeSet<LeafIndex> =
                candidates.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, leaf)| *leaf).collect();
            if set.iter().all(|leaf| holds(assembly, &set, *leaf)) {
                joined.extend(set);
            }
        }
        Bitmap::of(assembly.params().n, joined)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// the core does not depend on the order of removal.
        #[test]
        fn the_core_is_what_removal_in_any_order_leaves(
            (n, half, sparse) in (5..60_u32, 1..20_u32, any::<bool>()),
            threshold in 1..20_u32,
            lost in prop::collection::btree_set(0..60_u32, 0..30),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 60),
            seed: u8,
        ) {
            let degree = if sparse { (2 * half).min((n - 2) / 2 * 2) } else { n - 1 };
            let assembly = graph(n, degree, threshold.min(degree), seed);
            let candidates = Bitmap::of(n, (0..n).filter(|leaf| !lost.contains(leaf)).map(LeafIndex));
            let mut picks = picks.iter();
            let expected = one_by_one(&assembly, &candidates, |count| picks.next().map_or(0, |pick| pick.index(count)));
            let core = core_of(&assembly, candidates.clone());
            prop_assert_eq!(&core, &expected);
            prop_assert!(core.is_within(&candidates));
        }

        /// it is the largest set that holds, and contains every other.
        #[test]
        fn the_core_is_the_largest_set_that_holds(
            (n, half, sparse) in (5..11_u32, 1..5_u32, any::<bool>()),
            threshold in 1..8_u32,
            lost in prop::collection::btree_set(0..11_u32, 0..6),
            seed: u8,
        ) {
            let degree = if sparse { (2 * half).min((n - 2) / 2 * 2) } else { n - 1 };
            let assembly = graph(n, degree, threshold.min(degree), seed);
            let candidates = Bitmap::of(n, (0..n).filter(|leaf| !lost.contains(leaf)).map(LeafIndex));
            prop_assert_eq!(core_of(&assembly, candidates.clone()), largest(&assembly, &candidates));
        }
    }
}
