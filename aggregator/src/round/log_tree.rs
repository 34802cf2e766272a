//! The log's tree as one replica remembers it, so that a proof costs a few hashes and not one a leaf. §9
//!
//! The log only grows, and full subtrees never change. What is remembered is checked against the head that the store
//! names; where it does not fit, it is forgotten and read again.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::MutexGuard;
use veilsum_crypto::ids::Digest;
use veilsum_crypto::primitives::merkle::{self, node_hash};

use super::{RoundError, Rounds};
use crate::store::{LogHead, Store, StoreError};

impl<S: Store> Rounds<S> {
    /// Proof that the log of `from` leaves is the beginning of that of `to`. §9
    pub async fn log_growth(&self, from: u64, to: u64) -> Result<Vec<Digest>, RoundError> {
        if from == 0 || from > to {
            return Err(RoundError::Unknown("stretch of the log"));
        }
        // What is remembered was held against a head, and the log only grows: most who ask want what is known already.
        let remembered = self.log_tree.lock().await.checked_path(from, to);
        if let Some(path) = remembered {
            return Ok(path);
        }
        let size = self.store.log_head().await?.size;
        if from == 0 || from > to || to > size {
            return Err(RoundError::Unknown("stretch of the log"));
        }
        let (tree, _) = self.log_tree().await?;
        Ok(tree.consistency_path(from, to))
    }

    /// The tree, brought up to the head that the store names now, and that head.
    pub(super) async fn log_tree(&self) -> Result<(MutexGuard<'_, LogTree>, LogHead), RoundError> {
        let mut tree = self.log_tree.lock().await;
        let head = self.store.log_head().await?;
        let new = self.store.log_leaves(tree.size(), head.size).await?;
        tree.extend(new);
        if !tree.check(head) {
            // Not the log that was remembered: a database was put in the place of another.
            *tree = LogTree::default();
            tree.extend(self.store.log_leaves(0, head.size).await?);
            if !tree.check(head) {
                return Err(StoreError::Damaged("the log's leaves do not give its head".into()).into());
            }
        }
        Ok((tree, head))
    }
}

/// Every full subtree over the leaves known so far: `levels[i][j]` covers the 2^i leaves from j 2^i on.
#[derive(Default)]
pub(super) struct LogTree {
    levels: Vec<Vec<Digest>>,
    /// The largest head that these leaves gave.
    checked: u64,
}

impl LogTree {
    /// Leaves known.
    fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends leaf hashes.
    fn extend(&mut self, leaves: impl IntoIterator<Item = Digest>) {
        leaves.into_iter().for_each(|leaf| self.push(leaf));
    }

    fn push(&mut self, leaf: Digest) {
        let mut node = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let nodes = &mut self.levels[level];
            nodes.push(node);
            match nodes.as_slice() {
                [.., left, right] if nodes.len().is_multiple_of(2) => node = node_hash(left, right),
                _ => return,
            }
        }
    }

    /// Whether this head is known now.
    fn check(&mut self, head: LogHead) -> bool {
        let holds = self.has(head.size, head.root);
        if holds {
            self.checked = self.checked.max(head.size);
        }
        holds
    }

    /// The path, where all of it is known and was checked.
    fn checked_path(&self, from: u64, to: u64) -> Option<Vec<Digest>> {
        (to <= self.checked).then(|| self.consistency_path(from, to))
    }

    /// Whether the first `size` leaves are known and have this root.
    fn has(&self, size: u64, root: Digest) -> bool {
        self.size() >= size && self.root(size) == root
    }

    /// The root over the first `size` leaves, which are known.
    fn root(&self, size: u64) -> Digest {
        if size == 0 { merkle::root(&[]) } else { self.over(0, size) }
    }

    /// Where these leaf hashes stand among the first `size` leaves; those that do not are absent.
    pub(super) fn places(&self, wanted: impl Iterator<Item = Digest>, size: u64) -> BTreeMap<Digest, u64> {
        let wanted: BTreeSet<Digest> = wanted.collect();
        let leaves = self.levels.first().into_iter().flatten().zip(0..size);
        leaves.filter(|(leaf, _)| wanted.contains(leaf)).map(|(leaf, at)| (*leaf, at)).collect()
    }

    /// RFC 6962 §2.1.1, of a leaf below `size`.
    pub(super) fn inclusion_path(&self, leaf: u64, size: u64) -> Vec<Digest> {
        let mut path = Vec::new();
        let (mut start, mut len) = (0, size);
        while len > 1 {
            let left = split(len);
            if leaf - start < left {
                path.push(self.over(start + left, len - left));
                len = left;
            } else {
                path.push(self.over(start, left));
                (start, len) = (start + left, len - left);
            }
        }
        path.reverse();
        path
    }

    /// RFC 6962 §2.1.2, as `merkle::consistency_path` gives it.
    pub(super) fn consistency_path(&self, from: u64, to: u64) -> Vec<Digest> {
        let mut path = Vec::new();
        if from == 0 || from >= to {
            return path;
        }
        // From the root downward, to the subtree that `from` ends with.
        let (mut start, mut len, mut old, mut is_whole) = (0, to, from, true);
        while old < len {
            let left = split(len);
            if old <= left {
                path.push(self.over(start + left, len - left));
                len = left;
            } else {
                path.push(self.over(start, left));
                (start, len, old, is_whole) = (start + left, len - left, old - left, false);
            }
        }
        if !is_whole {
            path.push(self.over(start, len));
        }
        path.reverse();
        path
    }

    /// The root over `len` leaves from `start` on. Whatever RFC 6962 asks for begins where a full subtree begins.
    fn over(&self, start: u64, len: u64) -> Digest {
        if len.is_power_of_two() {
            let level = len.trailing_zeros();
            return self.levels[level as usize][(start >> level) as usize];
        }
        let left = split(len);
        node_hash(&self.over(start, left), &self.over(start + left, len - left))
    }
}

/// The largest power of two below `size`, for `size > 1`.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_and_proofs_are_those_of_the_plain_tree() {
        let leaves: Vec<Digest> = (0..70_u64).map(|at| merkle::leaf_hash(&[&at.to_le_bytes()])).collect();
        let mut tree = LogTree::default();
        assert_eq!(tree.root(0), merkle::root(&[]));
        for to in 1..=leaves.len() {
            tree.extend([leaves[to - 1]]);
            assert_eq!(tree.size(), to as u64);
            for from in 1..=to {
                let plain = merkle::consistency_path(&leaves[..to], from as u64);
                assert_eq!(tree.consistency_path(from as u64, to as u64), plain, "{from} of {to}");
                assert_eq!(tree.root(from as u64), merkle::root(&leaves[..from]));
            }
            for (at, plain) in merkle::inclusion_paths(&leaves[..to]).into_iter().enumerate() {
                assert_eq!(tree.inclusion_path(at as u64, to as u64), plain, "{at} of {to}");
            }
        }
        let places = tree.places([leaves[3], leaves[69], Digest([1; 32])].into_iter(), 69);
        assert_eq!(places, BTreeMap::from([(leaves[3], 3)]), "below 69");
        // A tree that knows more leaves proves shorter stretches, too.
        assert_eq!(tree.consistency_path(5, 23), merkle::consistency_path(&leaves[..23], 5));
    }
}
