//! The distributed discrete Gaussian: what the sum of many clients' discrete Gaussian noise hides.
//!
//! Kairouz, Liu and Steinke, *The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation*
//! (2021), Theorem 1 and Section 5; formulas as in the authors' published code (`distributed_dp/accounting_utils.py`).
//! The sum of n discrete Gaussians is not one: its log-probabilities differ by at most `tau` a coordinate,
//!
//! ```text
//! tau = 10 sum over k from 1 to n-1 of exp(-2 pi^2 sigma^2 k/(k+1))            each share has parameter sigma
//! RDP(alpha) = min{ alpha D2^2/(2 s^2) + tau d,
//!                   alpha/2 (D2^2/s^2 + 2 (D1/s) tau + tau^2 d),
//!                   alpha/2 (D2/s + sqrt(d) tau)^2 },     s = sqrt(n) sigma, every real alpha > 1
//! ```
//!
//! `tau d` is a cliff: for n = 1000 and d = 10^6 it is 573 at sigma = 1, and 7e-11 at sigma = 2. Hence the rule that no
//! round uses shares below 2 ([`GaussianShares::for_rounds`]). Skellam noise needs no tau and is the default.

use core::f64::consts::PI;

use libm::{exp, sqrt};
use thiserror::Error;

use super::accountant::{CurveError, RdpCurve};
use super::numeric::LEGENDRE_16;

/// No round uses discrete Gaussian shares with a smaller parameter.
pub const SMALLEST_LOCAL_SIGMA: f64 = 2.0;

/// The bound holds for shares from this parameter on.
const SMALLEST_BOUNDED_SIGMA: f64 = 0.5;

/// Terms of tau that are added one by one; the rest is smooth.
const PLAIN_TERMS: u64 = 1024;

/// Why shares are refused.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum SharesError {
    /// The bound does not hold, or the rule says no.
    #[error(
        "shares of discrete Gaussian noise need a sigma of at least {smallest}, {sigma} came; raise the scale, or use Skellam \
         noise"
    )]
    TooSmall {
        /// What came.
        sigma: f64,
        /// What would do.
        smallest: f64,
    },
    /// There is nobody, or more than there can be.
    #[error("between 1 and 2^32 shares were expected, {shares} came")]
    Shares {
        /// What came.
        shares: u64,
    },
}

/// The noise that honest survivors add together, each `N_Z(0, sigma^2)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianShares {
    local_sigma: f64,
    shares: u64,
    tau: f64,
}

impl GaussianShares {
    /// For accounting: any parameter for which the bound is proved.
    ///
    /// # Errors
    /// [`SharesError`] below one half, or without shares.
    pub fn new(local_sigma: f64, shares: u64) -> Result<Self, SharesError> {
        Self::from_smallest(local_sigma, shares, SMALLEST_BOUNDED_SIGMA)
    }

    /// For use in a round.
    ///
    /// # Errors
    /// [`SharesError`] below [`SMALLEST_LOCAL_SIGMA`], or without shares.
    pub fn for_rounds(local_sigma: f64, shares: u64) -> Result<Self, SharesError> {
        Self::from_smallest(local_sigma, shares, SMALLEST_LOCAL_SIGMA)
    }

    fn from_smallest(local_sigma: f64, shares: u64, smallest: f64) -> Result<Self, SharesError> {
        if !(local_sigma >= smallest && local_sigma < f64::INFINITY) {
            return Err(SharesError::TooSmall { sigma: local_sigma, smallest });
        }
        if !(1..=1 << 32).contains(&shares) {
            return Err(SharesError::Shares { shares });
        }
        Ok(Self { local_sigma, shares, tau: tau(local_sigma, shares) })
    }

    /// The parameter of each share.
    pub fn local_sigma(&self) -> f64 {
        self.local_sigma
    }

    /// How far the sum is from a discrete Gaussian, a coordinate. Rounded up.
    pub fn tau(&self) -> f64 {
        self.tau
    }

    /// `sqrt(n) sigma`, rounded down.
    pub fn central_sigma(&self) -> f64 {
        self.local_sigma * sqrt(self.shares as f64) * (1.0 - 4.0 * f64::EPSILON)
    }
}

/// One query answered with such noise, in integer units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianRound {
    /// Delta_2.
    pub l2_bound: f64,
    /// Delta_1.
    pub l1_bound: f64,
    /// Elements of the vector, padding and weight included.
    pub dim: u64,
    /// The noise.
    pub noise: GaussianShares,
}

impl GaussianRound {
    /// The three bounds on the Renyi divergence of a real order above 1. Each holds.
    pub fn bounds(&self, order: f64) -> [f64; 3] {
        let (sigma, tau, dim) = (self.noise.central_sigma(), self.noise.tau, self.dim as f64);
        let (l2, l1) = (self.l2_bound / sigma, self.l1_bound / sigma);
        let apart = l2 + sqrt(dim) * tau;
        [
            order * l2 * l2 / 2.0 + tau * dim,
            order / 2.0 * (l2 * l2 + 2.0 * l1 * tau + tau * tau * dim),
            order / 2.0 * apart * apart,
        ]
        .map(|bound| bound * (1.0 + 16.0 * f64::EPSILON))
    }

    /// The smallest of them. Zero where nothing is to be hidden.
    pub fn divergence(&self, order: f64) -> f64 {
        if self.l2_bound == 0.0 && self.l1_bound == 0.0 {
            return 0.0;
        }
        self.bounds(order).into_iter().fold(f64::INFINITY, f64::min)
    }

    /// The divergences at integer orders, in a form that adds up.
    ///
    /// # Errors
    /// [`CurveError`], as of [`RdpCurve::skellam`].
    pub fn curve(&self, orders: &[u32]) -> Result<RdpCurve, CurveError> {
        if self.l2_bound.is_nan() || self.l1_bound.is_nan() {
            return Err(CurveError::Divergences);
        }
        let divergences = orders.iter().map(|&order| self.divergence(order.into())).collect();
        RdpCurve::from_parts(orders.to_vec(), divergences)
    }
}

/// `10 sum over j from 2 to n of exp(-A (1 - 1/j))` with `A = 2 pi^2 sigma^2`: the first terms one by one, the rest by Euler
/// and Maclaurin's formula, the integral octave by octave.
fn tau(sigma: f64, shares: u64) -> f64 {
    let a = 2.0 * PI * PI * sigma * sigma;
    let term = |j: f64| exp(a / j - a);
    let plain: f64 = (2..=shares.min(PLAIN_TERMS)).rev().map(|j| term(j as f64)).sum();
    let last = shares as f64;
    let (mut from, mut smooth) = (PLAIN_TERMS as f64, 0.0);
    if shares > PLAIN_TERMS {
        // the sum over from < j <= last
        let slope = |j: f64| -a / (j * j) * term(j);
        smooth += (term(last) - term(from)) / 2.0 + (slope(last) - slope(from)) / 12.0;
    }
    while from < last {
        let to = (2.0 * from).min(last);
        let (middle, half) = (f64::midpoint(from, to), (to - from) / 2.0);
        let pair = |&(node, weight): &(f64, f64)| weight * (term(middle - half * node) + term(middle + half * node));
        smooth += half * LEGENDRE_16.iter().map(pair).sum::<f64>();
        from = to;
    }
    10.0 * (plain + smooth) * (1.0 + (64.0 + a) * f64::EPSILON)
}

/// The published bound on the distance of the sum of two discrete Gaussians from the one with the added variance:
/// `sup |ln(Pr[X1 + X2 = k]/Pr[Z = k])| <= 5 exp(-2 pi^2/(1/sigma_1^2 + 1/sigma_2^2))`, from which tau follows by induction.
pub fn closeness(sigma_1: f64, sigma_2: f64) -> f64 {
    let harmonic = 1.0 / (1.0 / (sigma_1 * sigma_1) + 1.0 / (sigma_2 * sigma_2));
    5.0 * exp(-2.0 * PI * PI * harmonic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(sigma: f64, count: u64) -> GaussianShares {
        GaussianShares::new(sigma, count).expect("in range")
    }

    #[test]
    fn tau_is_its_sum_also_where_it_is_not_added_up() {
        for sigma in [0.5, 0.8, 1.0, 2.0, 5.9] {
            for count in [1, 2, 1024, 1025, 1500, 2048, 10_000, 300_000] {
                let a = 2.0 * PI * PI * sigma * sigma;
                let sum: f64 = (1..count).rev().map(|k| exp(-a * k as f64 / (k + 1) as f64)).sum();
                let got = shares(sigma, count).tau();
                assert!((got - 10.0 * sum).abs() <= 2e-12 * got, "{sigma} {count}: {got} {}", 10.0 * sum);
            }
        }
        assert_eq!(shares(2.0, 1).tau(), 0.0);
        assert_eq!(shares(60.0, 1 << 32).tau(), 0.0);
    }

    /// Two shares: tau is twice the published distance of two equal ones.
    #[test]
    fn tau_of_two_is_twice_the_published_distance() {
        let ratio = shares(0.7, 2).tau() / closeness(0.7, 0.7);
        assert!((ratio - 2.0).abs() < 1e-12);
    }

    #[test]
    fn the_rule_of_two_stands_and_says_what_would_do() {
        let refused = GaussianShares::for_rounds(1.99, 100).expect_err("below two");
        assert_eq!(refused, SharesError::TooSmall { sigma: 1.99, smallest: 2.0 });
        assert!(GaussianShares::for_rounds(2.0, 100).is_ok() && GaussianShares::new(1.99, 100).is_ok());
        for (sigma, count) in [(0.49, 1), (f64::NAN, 1), (f64::INFINITY, 1), (2.0, 0), (2.0, (1 << 32) + 1)] {
            assert!(GaussianShares::new(sigma, count).is_err());
        }
        let cliff = |sigma| shares(sigma, 1000).tau() * 1e6;
        assert!(cliff(1.0) > 500.0 && cliff(2.0) < 1e-10);
    }

    #[test]
    fn nothing_to_hide_costs_nothing() {
        let silent = GaussianRound { l2_bound: 0.0, l1_bound: 0.0, dim: 1 << 20, noise: shares(0.5, 10_000) };
        assert_eq!(silent.divergence(2.0), 0.0);
        let nonsense = GaussianRound { l2_bound: f64::NAN, ..silent };
        assert!(nonsense.curve(&[2, 3]).is_err());
    }

    proptest! {
        /// Without tau the bound is the Gaussian's; with it no less; and it rises with sensitivity and order.
        #[test]
        fn the_bound_is_never_below_the_gaussian(
            sigma in 0.5..50.0_f64, count in 1_u64..100_000, l2 in 0.1..1e4_f64, order in 1.01..1024.0_f64, dim in 1_u64..1_000_000,
        ) {
            let noise = shares(sigma, count);
            let round = GaussianRound { l2_bound: l2, l1_bound: l2 * sqrt(dim as f64).min(l2), dim, noise };
            let gaussian = order * l2 * l2 / (2.0 * sigma * sigma * count as f64);
            prop_assert!(round.divergence(order) >= gaussian);
            if noise.tau() == 0.0 {
                prop_assert!(round.divergence(order) <= gaussian * (1.0 + 1e-13));
            }
            prop_assert!(round.divergence(order * 1.01) >= round.divergence(order));
            let longer = GaussianRound { l2_bound: l2 * 1.01, ..round };
            prop_assert!(longer.divergence(order) >= round.divergence(order));
        }
    }
}
