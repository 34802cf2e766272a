//! Merkle trees of RFC 6962: rosters, share edges, upload digests and the log. §2.5

use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use crate::ids::Digest;

/// Hash of a leaf: SHA-256(0x00 ‖ data). RFC 6962 §2.1
pub fn leaf_hash(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new_with_prefix([0x00]);
    parts.iter().for_each(|part| hash.update(part));
    Digest(hash.finalize().into())
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right). RFC 6962 §2.1
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let hash = Sha256::new_with_prefix([0x01]).chain_update(left.0).chain_update(right.0);
    Digest(hash.finalize().into())
}

/// Root over leaf hashes; of no leaves, SHA-256 of nothing.
pub fn root(leaves: &[Digest]) -> Digest {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

/// The roots of the full subtrees left of the next leaf: all that is needed to append. Largest first.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// Takes up a frontier that was written down; `None` if the number of peaks does not belong to `size`.
    pub fn from_parts(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// One peak for every bit set in the size, largest subtree first.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// Appends one leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("a peak stands for every bit set in the size");
            node = node_hash(&left, &node);
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root over all leaves so far.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Digest(Sha256::digest([]).into()),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// All inclusion paths of a small tree at once, leaf by leaf, each from the leaf upward. RFC 6962 §2.1.1
pub fn inclusion_paths(leaves: &[Digest]) -> Vec<Vec<Digest>> {
    let mut paths = alloc::vec![Vec::new(); leaves.len()];
    collect_paths(leaves, &mut paths);
    paths
}

fn collect_paths(leaves: &[Digest], paths: &mut [Vec<Digest>]) -> Digest {
    if let [leaf] = leaves {
        return *leaf;
    }
    if leaves.is_empty() {
        return root(&[]);
    }
    let split = split(leaves.len() as u64) as usize;
    let (left_paths, right_paths) = paths.split_at_mut(split);
    let left = collect_paths(&leaves[..split], left_paths);
    let right = collect_paths(&leaves[split..], right_paths);
    left_paths.iter_mut().for_each(|path| path.push(right));
    right_paths.iter_mut().for_each(|path| path.push(left));
    node_hash(&left, &right)
}

/// The number of siblings on the way from leaf `index` to the root of a tree of `size` leaves.
pub fn path_len(index: u64, size: u64) -> usize {
    let (mut index, mut size, mut len) = (index, size, 0);
    while size > 1 {
        let left = split(size);
        len += 1;
        (index, size) = if index < left { (index, left) } else { (index - left, size - left) };
    }
    len
}

/// The root that a leaf and its path lead to; `None` where the path has another length than the place demands.
pub fn root_from_path(leaf: Digest, index: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    if index >= size || path.len() != path_len(index, size) {
        return None;
    }
    // From the root downward: on which side each sibling stands.
    let mut sides = Vec::with_capacity(path.len());
    let (mut at, mut of) = (index, size);
    while of > 1 {
        let left = split(of);
        sides.push(at < left);
        (at, of) = if at < left { (at, left) } else { (at - left, of - left) };
    }
    Some(path.iter().zip(sides.iter().rev()).fold(leaf, |node, (sibling, on_the_left)| {
        if *on_the_left { node_hash(&node, sibling) } else { node_hash(sibling, &node) }
    }))
}

/// Proof that the tree over `leaves` begins with its own first `old_size` leaves. RFC 6962 §2.1.2
pub fn consistency_path(leaves: &[Digest], old_size: u64) -> Vec<Digest> {
    fn walk(leaves: &[Digest], old: u64, whole: bool, path: &mut Vec<Digest>) {
        if old == leaves.len() as u64 {
            if !whole {
                path.push(root(leaves));
            }
            return;
        }
        let at = split(leaves.len() as u64);
        let (left, right) = leaves.split_at(at as usize);
        if old <= at {
            walk(left, old, whole, path);
            path.push(root(right));
        } else {
            walk(right, old - at, false, path);
            path.push(root(left));
        }
    }
    let mut path = Vec::new();
    if old_size > 0 && old_size < leaves.len() as u64 {
        walk(leaves, old_size, true, &mut path);
    }
    path
}

/// A size of a log and its root there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeHead {
    /// Number of leaves.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
}

/// Whether `new` only appended to `old`, by the proof of [`consistency_path`]. RFC 9162 §2.1.4.2
pub fn extends(old: TreeHead, new: TreeHead, path: &[Digest]) -> bool {
    if old.size > new.size {
        return false;
    }
    if old.size == new.size {
        return old.root == new.root && path.is_empty();
    }
    if old.size == 0 {
        return path.is_empty() && old.root == root(&[]);
    }
    let mut siblings = path.iter();
    let (mut node, mut last) = (old.size - 1, new.size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let start = if node == 0 { Some(&old.root) } else { siblings.next() };
    let Some(start) = start else { return false };
    let (mut old_root, mut new_root) = (*start, *start);
    for sibling in siblings {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_root = node_hash(sibling, &old_root);
            new_root = node_hash(sibling, &new_root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_root = node_hash(&new_root, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_root == old.root && new_root == new.root
}

/// The largest power of two below `size`, for `size > 1`.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: u64) -> Vec<Digest> {
        (0..n).map(|i| leaf_hash(&[&i.to_le_bytes()])).collect()
    }

    /// Roots published with RFC 6962's reference implementation (certificate-transparency, `merkle_tree_test`).
    #[test]
    fn roots_are_those_of_rfc_6962() {
        let data: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let hashes: Vec<_> = data.iter().map(|d| leaf_hash(&[d])).collect();
        let known = [
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ];
        for (n, expected) in known {
            assert_eq!(root(&hashes[..n]), Digest::from_hex(expected).expect("hex"));
        }
        assert_eq!(
            root(&[]),
            Digest::from_hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855").expect("hex")
        );
    }

    #[test]
    fn every_leaf_is_found_at_its_own_place_and_nowhere_else() {
        for n in 1..40 {
            let leaves = leaves(n);
            let whole = root(&leaves);
            for (i, path) in inclusion_paths(&leaves).iter().enumerate() {
                let at = |index| root_from_path(leaves[i], index, n, path);
                assert_eq!(at(i as u64), Some(whole));
                assert!((0..n + 2).filter(|j| *j != i as u64).all(|j| at(j) != Some(whole)));
                assert_eq!(path.len(), path_len(i as u64, n));
            }
        }
    }

    #[test]
    fn a_log_that_grew_is_told_from_one_that_forked() {
        for new in 1..34_u64 {
            let leaves = leaves(new);
            let head = TreeHead { size: new, root: root(&leaves) };
            for old in 1..=new {
                let path = consistency_path(&leaves, old);
                let before = TreeHead { size: old, root: root(&leaves[..old as usize]) };
                assert!(extends(before, head, &path), "{old} of {new}");
                let forked = TreeHead { root: Digest([9; 32]), ..before };
                assert!(!extends(forked, head, &path));
                if old < new {
                    assert!(!extends(head, before, &path));
                }
            }
        }
    }
}
