//! Who is whose neighbour: the ring order of a roster. §3.2, §5.1
//!
//! Both sides compute it from the roster root; it is never received.

use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::RosterParams;
use crate::ids::{Digest, LeafIndex};
use crate::primitives::labels;

/// The clients of a roster around a ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RingOrder {
    leaves: Vec<LeafIndex>,
    positions: Vec<u32>,
    degree: u32,
}

impl RingOrder {
    /// Sorts leaf indices by SHA-256(label, roster root, index).
    pub fn new(roster_root: &Digest, params: &RosterParams) -> Self {
        let prefix = Sha256::new_with_prefix(labels::RING.bytes()).chain_update(roster_root.0);
        let mut keyed: Vec<([u8; 32], LeafIndex)> = (0..params.n)
            .map(|index| (prefix.clone().chain_update(index.to_le_bytes()).finalize().into(), LeafIndex(index)))
            .collect();
        keyed.sort_unstable();
        let leaves: Vec<LeafIndex> = keyed.into_iter().map(|(_, leaf)| leaf).collect();
        let mut positions = alloc::vec![0; leaves.len()];
        for (position, leaf) in (0..).zip(&leaves) {
            positions[leaf.index()] = position;
        }
        Self { leaves, positions, degree: params.degree }
    }

    /// The neighbours of a client in ring order: -k/2..-1, then +1..+k/2; in the complete graph everybody else from
    /// position 0.
    pub fn neighbours(&self, of: LeafIndex) -> Vec<LeafIndex> {
        let n = self.leaves.len();
        let degree = self.degree as usize;
        let own = self.positions[of.index()] as usize;
        if degree + 1 == n {
            return self.leaves.iter().copied().filter(|leaf| *leaf != of).collect();
        }
        let before = (1..=degree / 2).rev().map(|step| (own + n - step) % n);
        let after = (1..=degree / 2).map(|step| (own + step) % n);
        before.chain(after).map(|position| self.leaves[position]).collect()
    }

    /// The clients whose signatures make one survivor list: ring positions 0..k-1, also when the graph is complete.
    pub fn agreement_set(&self) -> &[LeafIndex] {
        &self.leaves[..self.degree as usize]
    }

    /// Whether a client is of the agreement set.
    pub fn agrees(&self, leaf: LeafIndex) -> bool {
        self.positions[leaf.index()] < self.degree
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::demo_params;

    fn order(n: u32) -> (RingOrder, RosterParams) {
        let mut round = demo_params(n);
        if n < 10 {
            round.dropout_tolerance = 0;
            round.cohort_min = 2;
        }
        let params = RosterParams::derive(n, &round).expect("feasible");
        (RingOrder::new(&Digest([5; 32]), &params), params)
    }

    /// neighbourhood is mutual, of the degree derived, and never contains oneself.
    #[test]
    fn neighbours_are_mutual() {
        for n in [3, 5, 64] {
            let (ring, params) = order(n);
            for leaf in (0..n).map(LeafIndex) {
                let neighbours = ring.neighbours(leaf);
                assert_eq!(neighbours.len(), params.degree as usize);
                assert!(!neighbours.contains(&leaf));
                assert!(neighbours.iter().all(|other| ring.neighbours(*other).contains(&leaf)));
            }
        }
    }

    /// §5.6: in the complete graph everybody but the last position agrees, never all n.
    #[test]
    fn the_agreement_set_has_k_members_also_in_the_complete_graph() {
        for n in [3, 5, 64] {
            let (ring, params) = order(n);
            assert_eq!(ring.agreement_set().len(), params.degree as usize);
            assert_eq!((0..n).filter(|leaf| ring.agrees(LeafIndex(*leaf))).count(), params.degree as usize);
        }
    }
}
