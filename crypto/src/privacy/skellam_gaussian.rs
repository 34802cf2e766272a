//! Skellam noise of variance mu hides at least what Gaussian noise of variance mu - 13/12 hides: in any dimension, for every
//! trade-off between errors, after any number of rounds.
//!
//! Renyi accounting of Skellam noise pays twice: for a bound on the divergence that grows with Delta_1, and for the conversion
//! to epsilon, some per cent even for exact divergences. This accountant pays neither. It rests on a theorem of this project,
//! proved in docs/privacy.md ("A tight account of Skellam noise"):
//!
//! > Let X be Skellam with variance `mu >= 2`, and `tau = -ln(1 - 1/mu - 1/(2 mu^2))`, `s^2 = 6 (1 - sqrt(1 - tau/3))`. Then for
//! > every integer d, telling X from X + d is at least as hard as telling N(0, 1) from N(s d, 1).
//!
//! Independent coordinates and rounds compose like Gaussians (Dong, Roth and Su 2019, Corollary 3.3): a vector moved by
//! integers of norm `Delta_2` is `s Delta_2`-GDP, and epsilon is that of the Gaussian mechanism, exactly
//! ([`super::gaussian`]). `s^2 mu` is `1 + 13/(12 mu)` to first order; no s below `1 + 1/(3 mu)` can be.
//!
//! Used for planning and comparison. Rounds and ledgers account with Renyi divergences ([`super::accountant`]).

use libm::{log1p, sqrt};

use super::gaussian::GaussianPrivacy;

/// The theorem holds for variances from here on.
pub const SMALLEST_VARIANCE: f64 = 2.0;

/// s: what moving one coordinate by one costs, as the parameter of a Gaussian mechanism. Rounded up; `None` for a variance below
/// 2, or none at all.
pub fn per_unit(variance: f64) -> Option<f64> {
    if !(SMALLEST_VARIANCE..f64::INFINITY).contains(&variance) {
        return None;
    }
    let tau = -log1p(-(1.0 / variance + 1.0 / (2.0 * variance * variance)));
    // 6 (1 - sqrt(1 - tau/3)), without the cancellation
    let square = 2.0 * tau / (1.0 + sqrt(1.0 - tau / 3.0));
    Some(sqrt(square) * (1.0 + 16.0 * f64::EPSILON))
}

/// What one query hides whose integers change by a vector of norm at most `l2_bound`, under Skellam noise of this variance in
/// every coordinate: the variance that honest survivors' shares add up to. Zero-out adjacency, as everywhere.
pub fn skellam_privacy(l2_bound: f64, variance: f64) -> Option<GaussianPrivacy> {
    GaussianPrivacy::new(l2_bound * per_unit(variance)? * (1.0 + f64::EPSILON))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::accountant::{RdpCurve, RoundingBounds, SkellamRound, default_orders};
    use crate::privacy::skellam::{SkellamSampler, Variance};
    use libm::{exp, log};
    use std::vec::Vec;

    /// `Pr[X = k]` for k from -reach to reach, accurate to about 1e-13 of each: by the recurrence of the Bessel functions'
    /// ratios, run toward zero.
    fn law(variance: f64) -> (i64, Vec<f64>) {
        let reach = (40.0 * sqrt(variance)) as i64 + 250;
        let mut ratio = 0.0; // I_k / I_{k-1}
        let mut ratios: Vec<f64> = (1..=reach + 60)
            .rev()
            .map(|k| {
                ratio = 1.0 / (2.0 * k as f64 / variance + ratio);
                ratio
            })
            .collect();
        ratios.reverse();
        let mut weight = 1.0;
        let weights: Vec<f64> = ratios
            .iter()
            .map(|ratio| {
                weight *= ratio;
                weight
            })
            .collect();
        let total = 1.0 + 2.0 * weights.iter().rev().sum::<f64>();
        let at = |k: i64| if k == 0 { 1.0 } else { weights[k.unsigned_abs() as usize - 1] };
        (reach, (-reach..=reach).map(|k| at(k) / total).collect())
    }

    /// That is the law of the sampler.
    #[test]
    fn the_law_below_is_that_of_the_sampler() {
        for (numerator, denominator) in [(2, 1), (47, 10), (10_000, 1)] {
            let sampler = SkellamSampler::with_variance(Variance { numerator, denominator }).expect("in range");
            let (reach, p) = law(numerator as f64 / denominator as f64);
            for k in [0, 1, 2, 5, 9] {
                let exact = sampler.probability(k).expect("one table");
                assert!((p[(k + reach) as usize] / exact - 1.0).abs() < 1e-11);
            }
        }
    }

    /// Sum of max(0, p(k) - e^eps q(k)) over pairs of probabilities.
    fn exact_delta(pairs: &[(f64, f64)], epsilon: f64) -> f64 {
        let mut parts: Vec<f64> = pairs.iter().map(|(p, q)| (p - exp(epsilon) * q).max(0.0)).collect();
        parts.sort_by(f64::total_cmp);
        parts.iter().sum()
    }

    fn moved(law: &(i64, Vec<f64>), by: i64) -> Vec<(f64, f64)> {
        let (reach, p) = law;
        let at = |k: i64| usize::try_from(k + reach).ok().and_then(|i| p.get(i)).copied().unwrap_or(0.0);
        (-reach - by.abs()..=reach + by.abs()).map(|k| (at(k), at(k - by))).collect()
    }

    /// One coordinate, by brute force: the exact delta never exceeds the one of the theorem, from eps 0 to where delta vanishes.
    #[test]
    fn exact_deltas_of_one_coordinate_are_never_above_it() {
        for variance in [2.0, 2.5, 4.0, 4.7, 10.0, 25.0, 333.3, 1e4] {
            let law = law(variance);
            for by in [1, 2, 3, 7, 25, -1, -4] {
                let pairs = moved(&law, by);
                let bound = skellam_privacy(by.abs() as f64, variance).expect("large enough");
                for step in 0..60 {
                    let epsilon = f64::from(step * step) * 0.004 * (1.0 + bound.mu());
                    let (exact, bound) = (exact_delta(&pairs, epsilon), bound.delta(epsilon));
                    assert!(exact <= bound * (1.0 + 1e-12) + 1e-25, "{variance} {by} {epsilon}: {exact} {bound}");
                }
            }
        }
    }

    /// Vectors: two coordinates moved by different integers, over the whole grid.
    #[test]
    fn exact_deltas_of_vectors_are_never_above_it() {
        for (variance, by) in [(2.0, [1, 1]), (4.0, [2, -1]), (9.0, [3, 4]), (4.7, [1, 5])] {
            let law = law(variance);
            let [first, second] = by.map(|by| moved(&law, by));
            let pairs: Vec<(f64, f64)> =
                first.iter().flat_map(|(p, q)| second.iter().map(move |(r, s)| (p * r, q * s))).collect();
            let norm = by.map(|by| (by * by) as f64).iter().sum::<f64>().sqrt();
            let bound = skellam_privacy(norm, variance).expect("large enough");
            for epsilon in [0.0, 0.05, 0.2, 0.7, 1.5, 3.0, 6.0, 10.0] {
                let (exact, bound) = (exact_delta(&pairs, epsilon), bound.delta(epsilon));
                assert!(exact <= bound * (1.0 + 1e-12) + 1e-25, "{by:?} {epsilon}: {exact} {bound}");
                assert!(epsilon > 0.5 || exact > 0.6 * bound, "{by:?} {epsilon}: {exact} is far below {bound}");
            }
        }
    }

    /// The steps of the proof, as numbers: quantiles of neighbouring integers are never further apart than s, and the largest
    /// curvature of the law is below tau.
    #[test]
    fn quantiles_of_neighbours_are_never_further_apart_than_s() {
        use crate::privacy::numeric::normal_upper_quantile;
        for variance in [2.0, 3.0, 5.5, 30.0, 142.857, 39_600.0] {
            let (reach, p) = law(variance);
            let s = per_unit(variance).expect("large enough");
            let tau = -log(1.0 - 1.0 / variance - 1.0 / (2.0 * variance * variance));
            let mut tail = 0.0;
            let mut after = None; // x_{k+1} = Phi^-1(Pr[X <= k])
            let mut widest = 0.0_f64;
            for k in (1..reach).rev() {
                let at = (k + reach) as usize;
                tail += p[at];
                if p[at] < 1e-290 {
                    continue;
                }
                let x = normal_upper_quantile(log(tail));
                if let Some(after) = after {
                    let gap: f64 = after - x;
                    widest = widest.max(gap);
                    assert!(gap <= s, "{variance} {k}: {gap} {s}");
                }
                after = Some(x);
                let curvature = 2.0 * log(p[at]) - log(p[at - 1]) - log(p[at + 1]);
                assert!(curvature <= tau + 1e-12, "{variance} {k}: {curvature} {tau}");
            }
            let middle = 2.0 * after.expect("a quantile");
            assert!(middle <= s && middle > s * (1.0 - 0.5 / variance), "{variance}: {middle} {s}"); // nearly tight
            assert!(widest <= middle);
        }
    }

    #[test]
    fn it_is_gaussian_noise_with_thirteen_twelfths_less_variance() {
        for variance in [2.0, 2.5, 10.0, 1e3, 1e6, 1e12] {
            let s = per_unit(variance).expect("large enough");
            let equivalent = 1.0 / (s * s);
            assert!(equivalent >= (variance - 13.0 / 12.0) * (1.0 - 1e-14), "{variance}: {equivalent}");
            assert!(equivalent <= variance - 1.0 / 3.0 || variance > 1e6);
        }
        for variance in [1.999, 0.0, -3.0, f64::NAN, f64::INFINITY] {
            assert_eq!(per_unit(variance), None);
        }
        assert_eq!(skellam_privacy(f64::NAN, 100.0), None);
        assert_eq!(skellam_privacy(0.0, 100.0).expect("a parameter").epsilon(1e-5), 0.0);
    }

    /// What it is for: the same rounds, less epsilon. The figures of the demo.
    #[test]
    fn it_is_several_per_cent_below_the_renyi_account() {
        let bounds = RoundingBounds::new(330.0, 1862, exp(-0.5));
        let RoundingBounds { l2_bound, l1_bound, .. } = bounds;
        let variance = 1_742_400.0;
        for rounds in [1, 12, 1000] {
            let round = SkellamRound { l2_bound, l1_bound, variance };
            let renyi =
                RdpCurve::skellam(&default_orders(), &round).expect("numbers").times(rounds).epsilon(1e-5).epsilon;
            let tight = skellam_privacy(l2_bound, variance).expect("large enough").times(rounds).epsilon(1e-5);
            assert!(tight < 0.97 * renyi && tight > 0.8 * renyi, "{rounds}: {tight} {renyi}");
        }
    }
}
