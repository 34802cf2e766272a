//! Ring, thresholds and Lagrange weights from the protocol's text, not from the code under test. protocol.md §3.2, §2.2

use curve25519_dalek::Scalar;
use sha2::{Digest as _, Sha256};
use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::params::{RosterParams, RoundParams};

/// A roster with its ring.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Sorted: the place is the leaf index.
    pub members: Vec<ClientId>,
    /// Leaf indices by position on the ring.
    order: Vec<usize>,
    /// c
    pub corrupt: usize,
    /// T
    pub tolerated: usize,
    /// k
    pub degree: usize,
    /// t
    pub threshold: usize,
    /// max(cohort_min, n - T)
    pub survivors_min: usize,
}

impl Ring {
    /// Of these members under this roster root.
    pub fn new(members: Vec<ClientId>, root: Digest, params: &RoundParams) -> Option<Self> {
        let n = u32::try_from(members.len()).ok()?;
        // The search for (k, t) is checked elsewhere, against two other implementations.
        let RosterParams { degree, threshold, .. } = RosterParams::derive(n, params).ok()?;
        let million = 1_000_000;
        let corrupt = (u64::from(n) * u64::from(params.corrupt_fraction)).div_ceil(million);
        let tolerated = u64::from(n) * u64::from(params.dropout_tolerance) / million;
        let mut keyed: Vec<(Vec<u8>, usize)> = (0..members.len()).map(|leaf| (key(root, leaf), leaf)).collect();
        keyed.sort();
        Some(Self {
            survivors_min: u64::from(params.cohort_min).max(u64::from(n) - tolerated) as usize,
            corrupt: corrupt as usize,
            tolerated: tolerated as usize,
            degree: degree as usize,
            threshold: threshold as usize,
            order: keyed.into_iter().map(|(_, leaf)| leaf).collect(),
            members,
        })
    }

    /// n
    pub fn n(&self) -> usize {
        self.members.len()
    }

    /// Whether everybody is everybody's neighbour.
    pub fn is_complete(&self) -> bool {
        self.degree + 1 == self.n()
    }

    /// 2t - k - 1
    pub fn openings_max(&self) -> usize {
        (2 * self.threshold).saturating_sub(self.degree + 1)
    }

    /// A client's leaf index.
    pub fn leaf(&self, client: ClientId) -> Option<usize> {
        self.members.binary_search(&client).ok()
    }

    /// A client's neighbours, in its order.
    pub fn neighbours(&self, client: ClientId) -> Vec<ClientId> {
        let Some(own) = self.leaf(client) else { return Vec::new() };
        let at = |position: usize| self.members[self.order[position]];
        if self.is_complete() {
            return (0..self.n()).map(at).filter(|other| *other != client).collect();
        }
        let (n, half) = (self.n(), self.degree / 2);
        let place = self.order.iter().position(|leaf| *leaf == own).expect("everybody has a place");
        (0..=self.degree).filter(|step| *step != half).map(|step| at((place + n + step - half) % n)).collect()
    }

    /// Whether a client is of the agreement set: the first k of the ring.
    pub fn agrees(&self, client: ClientId) -> bool {
        self.order[..self.degree].iter().any(|leaf| self.members[*leaf] == client)
    }
}

fn key(root: Digest, leaf: usize) -> Vec<u8> {
    let label = b"veilsum/1/ring";
    let mut hash = Sha256::new();
    hash.update([label.len() as u8]);
    hash.update(label);
    hash.update(root.0);
    hash.update((leaf as u32).to_le_bytes());
    hash.finalize().to_vec()
}

/// Lagrange weights of holders, by leaf index, at `at`; the holder's point is its index plus one.
pub fn weights(leaves: &[usize], at: u64) -> Vec<Scalar> {
    let points: Vec<Scalar> = leaves.iter().map(|leaf| Scalar::from(*leaf as u64 + 1)).collect();
    weights_of(&points, Scalar::from(at))
}

/// The same for any points.
pub fn weights_of(points: &[Scalar], at: Scalar) -> Vec<Scalar> {
    let weight = |(i, own): (usize, &Scalar)| {
        let others = points.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other);
        let (above, below) = others
            .fold((Scalar::ONE, Scalar::ONE), |(above, below), other| (above * (at - other), below * (own - other)));
        above * below.invert()
    };
    points.iter().enumerate().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// wire.md §12.
    #[test]
    fn the_ring_is_that_of_the_known_answer() {
        let mut root = [0; 32];
        (0..32).for_each(|at| root[at as usize] = at);
        let mut keyed: Vec<_> = (0..8).map(|leaf| (key(Digest(root), leaf), leaf)).collect();
        keyed.sort();
        assert_eq!(keyed.iter().map(|(_, leaf)| *leaf).collect::<Vec<_>>(), [0, 4, 1, 6, 2, 5, 7, 3]);
        let members = (0..8).map(veilsum_crypto::testing::client_id).collect();
        let order = keyed.into_iter().map(|(_, leaf)| leaf).collect();
        let ring = Ring { members, order, corrupt: 0, tolerated: 0, degree: 4, threshold: 3, survivors_min: 2 };
        let near = |leaf: u32| -> Vec<usize> {
            let near = ring.neighbours(veilsum_crypto::testing::client_id(leaf));
            near.into_iter().map(|client| ring.leaf(client).expect("a member")).collect()
        };
        assert_eq!(near(0), [7, 3, 4, 1]);
        let complete = Ring { degree: 7, ..ring.clone() };
        let near = complete.neighbours(veilsum_crypto::testing::client_id(4));
        assert_eq!(
            near.into_iter().map(|client| ring.leaf(client)).collect::<Option<Vec<_>>>(),
            Some(vec![0, 1, 6, 2, 5, 7, 3])
        );
    }

    #[test]
    fn weights_rebuild_a_polynomial_at_zero() {
        let f = |x: u64| Scalar::from(5_u64) + Scalar::from(3_u64) * Scalar::from(x) + Scalar::from(x * x);
        let leaves = [4, 0, 9];
        let value: Scalar =
            weights(&leaves, 0).iter().zip(leaves).map(|(weight, leaf)| weight * f(leaf as u64 + 1)).sum();
        assert_eq!(value, Scalar::from(5_u64));
    }
}
