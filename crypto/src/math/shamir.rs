//! Shamir shares of scalars, and the test that a dealer's points lie on one polynomial. §2.2, §5.2
//!
//! Secrets are scalars of the Ristretto group. A holder's share is the polynomial at its leaf index
//! plus one. Public points of all shares let anybody check the degree (R-38: the dual-code test of
//! SCRAPE, Cascudo and David 2017) without learning more than the points say.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use curve25519_dalek::{
    RistrettoPoint, Scalar,
    traits::{IsIdentity, VartimeMultiscalarMul},
};
use rand_core::CryptoRng;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::ids::LeafIndex;

/// A secret scalar: a share, or what shares rebuild. It stays at one place of the heap, so that moving it leaves no copy
/// behind, and is wiped when dropped.
#[derive(Clone)]
pub struct ShareScalar(Box<Zeroizing<Scalar>>);

impl ZeroizeOnDrop for ShareScalar {}

impl ShareScalar {
    /// Decodes the one encoding, below the group order; `None` otherwise. R-12
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        Option::from(Scalar::from_canonical_bytes(*bytes)).map(Self::from_scalar)
    }

    /// Takes up a scalar.
    pub fn from_scalar(scalar: Scalar) -> Self {
        Self(Box::new(Zeroizing::new(scalar)))
    }

    /// The scalar.
    pub fn scalar(&self) -> &Scalar {
        &self.0
    }

    /// The encoding: 32 bytes, little-endian.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for ShareScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShareScalar(..)")
    }
}

/// A secret polynomial of degree exactly `threshold - 1`. Wiped when dropped.
pub struct Polynomial(Vec<ShareScalar>);

impl Polynomial {
    /// Hides `secret`: any `threshold - 1` shares say nothing about it. The leading coefficient is not zero.
    pub fn hide(secret: ShareScalar, threshold: u32, rng: &mut impl CryptoRng) -> Self {
        let mut coefficients = Vec::with_capacity(threshold as usize);
        coefficients.push(secret);
        while coefficients.len() < threshold as usize {
            let coefficient = Scalar::random(rng);
            if coefficients.len() + 1 < threshold as usize || coefficient != Scalar::ZERO {
                coefficients.push(ShareScalar::from_scalar(coefficient));
            }
        }
        Self(coefficients)
    }

    /// The share of one holder.
    pub fn share_for(&self, holder: LeafIndex) -> ShareScalar {
        let x = Scalar::from(holder.evaluation_point());
        let value = self.0.iter().rev().fold(Scalar::ZERO, |value, coefficient| value * x + coefficient.scalar());
        ShareScalar::from_scalar(value)
    }
}

/// Lagrange weights at zero for one set of holders: computed once, used for every secret they share.
/// Time depends on the (public) holders only.
pub struct Interpolation(Vec<Scalar>);

impl Interpolation {
    /// Weights for distinct holders.
    pub fn at_zero_vartime(holders: &[LeafIndex]) -> Self {
        let points: Vec<Scalar> = holders.iter().map(|holder| Scalar::from(holder.evaluation_point())).collect();
        let mut denominators = denominators(&points);
        Scalar::invert_batch_alloc(&mut denominators);
        // prod_{j != i} x_j / (x_j - x_i); (-1)^(len-1) turns (x_i - x_j) into (x_j - x_i).
        let all: Scalar = points.iter().product();
        let sign = if points.len().is_multiple_of(2) { -Scalar::ONE } else { Scalar::ONE };
        let mut inverses = points.clone();
        Scalar::invert_batch_alloc(&mut inverses);
        let weights = inverses
            .iter()
            .zip(&denominators)
            .map(|(inverse, denominator)| sign * all * inverse * denominator)
            .collect();
        Self(weights)
    }

    /// The secret, from one share for each holder in the same order.
    pub fn combine(&self, shares: &[ShareScalar]) -> ShareScalar {
        debug_assert_eq!(self.0.len(), shares.len());
        ShareScalar::from_scalar(self.0.iter().zip(shares).map(|(weight, share)| weight * share.scalar()).sum())
    }
}

/// whether the points of a dealer's shares lie on one polynomial of degree at most `threshold - 1` through its
/// public keys, for both secrets at once. Variable time: everything here is public.
///
/// `coefficients` are those of a random polynomial of degree `holders - threshold`, then the factor that joins
/// the two secrets: `holders - threshold + 2` scalars that the dealer could not foresee.
pub fn is_low_degree_vartime(
    dealer: [&RistrettoPoint; 2],
    shares: &[(LeafIndex, [&RistrettoPoint; 2])],
    coefficients: &[Scalar],
) -> bool {
    let Some((factor, polynomial)) = coefficients.split_last() else { return false };
    let points: Vec<Scalar> = core::iter::once(Scalar::ZERO)
        .chain(shares.iter().map(|(holder, _)| Scalar::from(holder.evaluation_point())))
        .collect();
    let mut weights = denominators(&points);
    Scalar::invert_batch_alloc(&mut weights);
    for (weight, x) in weights.iter_mut().zip(&points) {
        *weight *= polynomial.iter().rev().fold(Scalar::ZERO, |value, coefficient| value * x + coefficient);
    }
    let joined: Vec<Scalar> = weights.iter().map(|weight| weight * factor).collect();
    let first = core::iter::once(dealer[0]).chain(shares.iter().map(|(_, points)| points[0]));
    let second = core::iter::once(dealer[1]).chain(shares.iter().map(|(_, points)| points[1]));
    RistrettoPoint::vartime_multiscalar_mul(weights.iter().chain(&joined), first.chain(second)).is_identity()
}

/// `prod_{j != i} (x_i - x_j)` for every i.
fn denominators(points: &[Scalar]) -> Vec<Scalar> {
    let product = |(i, x): (usize, &Scalar)| {
        points.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| x - other).product()
    };
    points.iter().enumerate().map(product).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rng() -> impl CryptoRng {
        rand_core::UnwrapErr(getrandom::SysRng)
    }

    fn holders(indices: impl IntoIterator<Item = u32>) -> Vec<LeafIndex> {
        indices.into_iter().map(LeafIndex).collect()
    }

    #[test]
    fn any_threshold_of_shares_rebuilds_the_secret_and_one_fewer_does_not() {
        let secret = ShareScalar::from_scalar(Scalar::random(&mut rng()));
        let polynomial = Polynomial::hide(secret.clone(), 3, &mut rng());
        let rebuild = |holders: &[LeafIndex]| {
            let shares: Vec<_> = holders.iter().map(|h| polynomial.share_for(*h)).collect();
            Interpolation::at_zero_vartime(holders).combine(&shares)
        };
        for set in [[0, 1, 2], [4, 0, 9], [7, 3, 1]] {
            assert_eq!(rebuild(&holders(set)).as_bytes(), secret.as_bytes());
        }
        assert_eq!(rebuild(&holders([5, 2, 8, 0])).as_bytes(), secret.as_bytes());
        assert_ne!(rebuild(&holders([5, 2])).as_bytes(), secret.as_bytes());
    }

    /// a scalar not below the group order is no share.
    #[test]
    fn an_unreduced_share_is_refused() {
        let mut order = [0; 32];
        order.copy_from_slice(
            &hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").expect("hex"),
        );
        assert!(ShareScalar::from_bytes(&order).is_none());
        order[0] -= 1;
        assert!(ShareScalar::from_bytes(&order).is_some());
    }

    /// no holder is given the polynomial at zero, which is the secret.
    #[test]
    fn no_leaf_is_evaluated_at_zero() {
        assert_eq!(LeafIndex(0).evaluation_point(), 1);
        assert_eq!(LeafIndex(u32::MAX).evaluation_point(), 1 << 32);
    }

    /// points on one polynomial pass; one point off it, in either secret, fails.
    #[test]
    fn a_dealer_off_the_polynomial_is_found() {
        let mut rng = rng();
        let (k, t) = (6_u32, 4);
        let holders = holders([0, 2, 3, 5, 6, 9]);
        let secrets = [(); 2].map(|()| ShareScalar::from_scalar(Scalar::random(&mut rng)));
        let polynomials = [0, 1].map(|i| Polynomial::hide(secrets[i].clone(), t, &mut rng));
        let point = |share: &ShareScalar| RistrettoPoint::mul_base(share.scalar());
        let dealer = [point(&secrets[0]), point(&secrets[1])];
        let mut shares: Vec<(LeafIndex, [RistrettoPoint; 2])> = holders
            .iter()
            .map(|h| (*h, [point(&polynomials[0].share_for(*h)), point(&polynomials[1].share_for(*h))]))
            .collect();
        let coefficients: Vec<_> = (0..k - t + 2).map(|_| Scalar::random(&mut rng)).collect();
        let test = |shares: &[(LeafIndex, [RistrettoPoint; 2])]| {
            let views: Vec<_> = shares.iter().map(|(h, [p, q])| (*h, [p, q])).collect();
            is_low_degree_vartime([&dealer[0], &dealer[1]], &views, &coefficients)
        };
        assert!(test(&shares));
        for which in 0..2 {
            let honest = shares[3].1[which];
            shares[3].1[which] = RistrettoPoint::random(&mut rng);
            assert!(!test(&shares));
            shares[3].1[which] = honest;
        }
    }
}
