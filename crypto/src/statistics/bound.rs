//! How far the error of a released sum reaches, with proof.
//!
//! **The error.** Coordinate `j` of a released sum over `n` clients is off by `E_j = e_j + R_j` integer steps. `e_j` is Skellam of
//! variance `V`, the clients' shares together; `R_j` is the sum of `n` errors of rounding, independent, each of mean zero within an
//! interval of length 1. (Rounding is never repeated for its norm where coordinates are within the whole number `scale`: see
//! `estimate`.) What is bounded is a combination `X = sum a_j E_j`.
//!
//! **Chernoff.** `ln E exp(t e_j) = V (cosh t - 1)`, and `ln E exp(t R_j) <= n t^2 / 8 <= (n/4) (cosh t - 1)` by Hoeffding's lemma.
//! `cosh(a t) - 1 <= a^2 (cosh t - 1)` for `|a| <= 1`, term by term. So with `W = (V + n/4) sum a_j^2`, all `|a_j| <= 1`,
//! `P(|X| >= q) <= 2 exp(-(q asinh(q/W) - sqrt(W^2 + q^2) + W))`.
//!
//! **Berry and Esseen.** `e_j` is a sum of any number of equal independent parts, whose third absolute moments add up to `V` in the
//! limit; one error of rounding has a third absolute moment of at most its variance, which is at most 1/4. So the law of `X` is
//! within `0.56 max|a| / sqrt(V sum a_j^2)` of the normal law of its variance (Shevtsova 2010, summands of different laws), and
//! `P(|X| > q) <= 2 Q(q / s) + 2 * 0.56 max|a| / sqrt(V sum a_j^2)` with `s^2 = (V + n/4) sum a_j^2`, not below the variance.
//!
//! Both hold; the smaller is used. The second is close to the law itself as soon as the noise is some hundreds of steps wide.

use libm::{asinh, log, sqrt};

use crate::privacy::numeric::{least, normal_upper_quantile};

/// Berry-Esseen, summands of different laws.
const BERRY_ESSEEN: f64 = 0.56;
/// Above the rounding of f64 in what is computed here.
const SLACK: f64 = 1.0 + 1e-9;

/// The error of one coordinate of a sum.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct CoordinateError {
    /// V, in squared steps.
    pub noise_variance: f64,
    /// Clients whose rounding counts; 0 where all coordinates are whole.
    pub rounding_clients: f64,
    /// At most so many steps on top, always: what 32-bit floats cannot say.
    pub bias: f64,
}

/// A combination of coordinates: `max |a_j|`, `sum a_j^2` and `sum |a_j|`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Weights {
    pub largest: f64,
    pub squares: f64,
    pub total: f64,
}

impl Weights {
    pub const ONE: Self = Self { largest: 1.0, squares: 1.0, total: 1.0 };

    pub fn of(weights: &[f64]) -> Self {
        let largest = weights.iter().fold(0.0, |most: f64, weight| most.max(weight.abs()));
        let squares = weights.iter().map(|weight| weight * weight).sum();
        Self { largest, squares, total: weights.iter().map(|weight| weight.abs()).sum() }
    }
}

impl CoordinateError {
    /// A `q` that the combination exceeds, up or down, with probability at most `tail`; in steps. `0 < tail < 1`.
    pub fn bound(&self, weights: Weights, tail: f64) -> f64 {
        let random = match self.by_normal_law(weights, tail) {
            Some(bound) => bound.min(self.by_chernoff(weights, tail)),
            None => self.by_chernoff(weights, tail),
        };
        random * SLACK + self.bias * weights.total
    }

    fn variance(&self) -> f64 {
        self.noise_variance + self.rounding_clients / 4.0
    }

    fn by_chernoff(&self, Weights { largest, squares, .. }: Weights, tail: f64) -> f64 {
        let w = self.variance() * squares / (largest * largest);
        if w == 0.0 {
            return 0.0;
        }
        let nats = log(2.0 / tail);
        // Bernstein's form of the same bound is reached at this q, or before.
        let enough = sqrt(2.0 * w * nats) + nats;
        let reaches = |q: f64| q * asinh(q / w) - q * q / (sqrt(w * w + q * q) + w) >= nats;
        largest * least(0.0, enough, reaches)
    }

    fn by_normal_law(&self, Weights { largest, squares, .. }: Weights, tail: f64) -> Option<f64> {
        let apart = 2.0 * BERRY_ESSEEN * largest / sqrt(self.noise_variance * squares);
        let left = tail - apart;
        (left > 0.0).then(|| normal_upper_quantile(log(left / 2.0)) * sqrt(self.variance() * squares))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::prg::NoiseSeed;
    use crate::privacy::SkellamSampler;

    fn skellam(noise_variance: f64) -> CoordinateError {
        CoordinateError { noise_variance, rounding_clients: 0.0, bias: 0.0 }
    }

    /// The exact tail of Skellam, from its tabulated law.
    fn tail_beyond(variance: u64, q: f64) -> f64 {
        let sampler = SkellamSampler::new(variance).expect("in reach");
        let from = libm::floor(q) as i64 + 1;
        let mut tail = 0.0;
        for k in from..=sampler.largest().expect("one table") as i64 {
            tail += 2.0 * sampler.probability(k).expect("one table");
        }
        tail
    }

    /// Both bounds hold against the exact law, and the smaller is within a hundredth of it where noise is wide.
    #[test]
    fn bounds_hold_against_the_exact_law_and_are_close() {
        for variance in [1, 4, 25, 400, 10_000, 250_000, 4_000_000] {
            for tail in [0.3, 0.05, 1e-3, 1e-5, 1e-8] {
                let error = skellam(variance as f64);
                let chernoff = error.by_chernoff(Weights::ONE, tail);
                assert!(tail_beyond(variance, chernoff) <= tail, "{variance} {tail}: {chernoff}");
                if let Some(normal) = error.by_normal_law(Weights::ONE, tail) {
                    assert!(tail_beyond(variance, normal) <= tail, "{variance} {tail}: {normal}");
                }
                let deviations = error.bound(Weights::ONE, tail) / sqrt(variance as f64);
                if variance >= 1_000_000 && tail == 0.05 {
                    assert!((1.959..1.98).contains(&deviations), "{deviations}");
                }
            }
        }
    }

    /// Bernstein's q is far enough: else the search would end at its upper end, where nothing holds.
    #[test]
    fn the_search_ends_where_the_bound_holds() {
        for w in [1e-3, 0.25, 1.0, 1e3, 1e12] {
            for nats in [0.8, 3.0, 40.0] {
                let q = sqrt(2.0 * w * nats) + nats;
                assert!(q * asinh(q / w) - q * q / (sqrt(w * w + q * q) + w) >= nats, "{w} {nats}");
            }
        }
    }

    /// Combinations: 20,000 seeded draws of 0.5 e1 - e2 + 0.25 e3 leave the bound less often than is permitted.
    #[test]
    fn combinations_stay_within_their_bound() {
        let (variance, weights) = (900, [0.5, -1.0, 0.25]);
        let sampler = SkellamSampler::new(variance).expect("in reach");
        let mut stream = NoiseSeed::from_bytes([7; 32]).into_stream();
        let bound = skellam(variance as f64).bound(Weights::of(&weights), 0.1);
        let draws = 20_000;
        let beyond = (0..draws)
            .filter(|_| {
                weights.iter().map(|weight| weight * sampler.sample(&mut stream) as f64).sum::<f64>().abs() > bound
            })
            .count();
        assert!(beyond as f64 <= 0.1 * f64::from(draws), "{beyond}");
        assert!(beyond as f64 >= 0.03 * f64::from(draws), "{beyond}: the bound says nothing");
    }

    #[test]
    fn nothing_added_is_nothing_off() {
        assert_eq!(skellam(0.0).bound(Weights::ONE, 0.05), 0.0);
        let rounded = CoordinateError { noise_variance: 0.0, rounding_clients: 100.0, bias: 0.5 };
        let bound = rounded.bound(Weights::ONE, 0.05);
        assert!(bound > 10.0 && bound < 20.0, "{bound}"); // Hoeffding alone: 13.6
    }
}
