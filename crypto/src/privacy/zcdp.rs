//! Concentrated differential privacy: one number rho, and what it amounts to.
//!
//! Bun and Steinke, *Concentrated Differential Privacy* (2016), Definition 1.1 and Proposition 1.3; the optimal conversion is
//! Canonne, Kamath and Steinke, *The Discrete Gaussian for Differential Privacy* (2020), Proposition 12 and Corollary 13,
//! minimised over all real orders. A mechanism is rho-zCDP if its Renyi divergence is at most `alpha rho` for every order
//! `alpha > 1`. Gaussian noise, continuous or discrete: `rho = Delta^2/(2 sigma^2)`; rho adds up over rounds.
//!
//! Every order gives a valid bound, so that a minimiser that is slightly off costs nothing but tightness.

use libm::{exp, log, log1p, sqrt};

use super::numeric::least;

/// rho of one query: `sensitivity^2/(2 sigma^2)`, continuous or discrete Gaussian noise, rounded up.
pub fn rho_of_gaussian(sensitivity: f64, sigma: f64) -> f64 {
    let ratio = sensitivity / sigma;
    ratio * ratio / 2.0 * (1.0 + 4.0 * f64::EPSILON)
}

/// The well-known loose conversion, for comparison: `rho + 2 sqrt(rho ln(1/delta))`. A guarantee, but never the best.
pub fn epsilon_standard(rho: f64, delta: f64) -> f64 {
    (rho + 2.0 * sqrt(rho * -log(delta))) * (1.0 + 4.0 * f64::EPSILON)
}

/// What rho amounts to at some delta, or the other way round, and the order that shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Converted {
    /// Epsilon, or delta.
    pub value: f64,
    /// The real order, above 1.
    pub order: f64,
}

/// The smallest epsilon at `delta` over all real orders, rounded up, not below zero:
///
/// ```text
/// eps = alpha rho + ln(1 - 1/alpha) - ln(delta alpha)/(alpha - 1),   rho (alpha - 1)^2 + ln(delta alpha) = 0
/// ```
///
/// Infinite unless `rho >= 0` and `0 < delta < 1`.
pub fn epsilon(rho: f64, delta: f64) -> Converted {
    if !((0.0..f64::INFINITY).contains(&rho) && delta > 0.0 && delta < 1.0) {
        return Converted { value: f64::INFINITY, order: f64::INFINITY };
    }
    let ln_delta = log(delta);
    let above_one = least(f64::MIN_POSITIVE, 2.0 / delta, |x| rho * x * x + log1p(x) + ln_delta >= 0.0);
    let order = 1.0 + above_one;
    let (spread, gain, cost) = (order * rho, -log1p(1.0 / above_one), -(ln_delta + log1p(above_one)) / above_one);
    let lost = 4.0 * f64::EPSILON * (spread + gain.abs() + (ln_delta.abs() + log1p(above_one)) / above_one);
    Converted { value: (spread + gain + cost + lost).max(0.0), order }
}

/// The smallest delta at `epsilon` over all real orders, rounded up:
///
/// ```text
/// delta = exp((alpha - 1)(alpha rho - eps) + (alpha - 1) ln(alpha - 1) - alpha ln alpha),   (2 alpha - 1) rho = eps + ln(1/(1 - 1/alpha))
/// ```
///
/// One unless `rho >= 0` and `epsilon >= 0`.
pub fn delta(rho: f64, epsilon: f64) -> Converted {
    if !((0.0..f64::INFINITY).contains(&rho) && epsilon >= 0.0) {
        return Converted { value: 1.0, order: f64::INFINITY };
    }
    if rho == 0.0 {
        return Converted { value: 0.0, order: f64::INFINITY };
    }
    let above_one = least(f64::MIN_POSITIVE, f64::MAX, |x| (2.0 * x + 1.0) * rho - epsilon - log1p(1.0 / x) >= 0.0);
    let order = 1.0 + above_one;
    let terms = [above_one * order * rho, -above_one * epsilon, -above_one * log1p(1.0 / above_one), -log1p(above_one)];
    let size: f64 = terms.iter().map(|term| term.abs()).sum();
    let ln_delta = terms.iter().sum::<f64>() + 4.0 * f64::EPSILON * size;
    Converted { value: exp(ln_delta.min(0.0)).next_up().min(1.0), order }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::gaussian::GaussianPrivacy;
    use proptest::prelude::*;

    /// 40 digits, mpmath, by minimising over the order.
    #[test]
    fn extremes_are_exact() {
        let close = |got: f64, expected: f64| {
            let relative = got / expected - 1.0;
            assert!((-1e-15..1e-11).contains(&relative), "{got} {expected}");
        };
        for (rho, at, expected) in EPSILONS {
            close(epsilon(rho, at).value, expected);
        }
        for (rho, at, expected) in DELTAS {
            close(delta(rho, at).value, expected);
        }
    }

    const EPSILONS: [(f64, f64, f64); 6] = [
        (1e-6, 1e-300, 0.052_139_531_962_167_356),
        (0.001, 1e-5, 0.157_335_393_161_215_5),
        (0.5, 1e-12, 7.515_142_752_890_129),
        (30.0, 1e-8, 75.449_015_042_557_24),
        (10_000.0, 1e-300, 15_254.064_222_323_594),
        (100.0, 0.3, 118.661_853_964_471_59),
    ];
    const DELTAS: [(f64, f64, f64); 6] = [
        (0.000_1, 0.5, 6.951_899_848_591_853e-276),
        (2.0, 0.1, 0.882_079_856_069_363),
        (2.0, 50.0, 2.464_639_098_231_081e-127),
        (0.005, 1.0, 1.162_619_111_825_759_5e-24),
        (100.0, 80.0, 0.999_999_997_938_846_8),
        (0.001, 1.5, 5.313_952_347_615_587_6e-248),
    ];

    #[test]
    fn what_is_no_budget_bounds_nothing() {
        for (rho, delta) in [(1.0, 0.0), (1.0, 1.0), (-1.0, 0.1), (f64::NAN, 0.1), (f64::INFINITY, 0.1)] {
            assert_eq!(epsilon(rho, delta).value, f64::INFINITY);
        }
        assert_eq!(delta(f64::INFINITY, 1.0).value, 1.0);
        assert_eq!(delta(1.0, f64::NAN).value, 1.0);
        assert_eq!((epsilon(0.0, 1e-5).value, delta(0.0, 1.0).value), (0.0, 0.0));
    }

    proptest! {
        /// Each conversion undoes the other at least, and neither claims more than Gaussian noise of that rho gives.
        #[test]
        fn conversions_invert_each_other_and_stay_above_the_exact_values(
            rho in 1e-8..100.0_f64,
            ln_delta in -600.0..-0.7_f64,
        ) {
            let at = exp(ln_delta);
            let epsilon = epsilon(rho, at).value;
            prop_assert!(epsilon <= epsilon_standard(rho, at) * (1.0 + 1e-12));
            let exact = GaussianPrivacy::new(sqrt(2.0 * rho)).expect("positive").epsilon(at);
            prop_assert!(epsilon >= exact * (1.0 - 1e-12), "{epsilon} {exact}");
            if epsilon > 1e-3 {
                let back = delta(rho, epsilon).value;
                prop_assert!((log(back) - ln_delta).abs() < 1e-9 * (1.0 + ln_delta.abs()), "{back} {at}");
            }
        }

        #[test]
        fn more_rho_costs_more(rho in 1e-8..10.0_f64, at in 1e-12..0.1_f64) {
            prop_assert!(epsilon(rho * 1.01, at).value >= epsilon(rho, at).value);
            prop_assert!(delta(rho * 1.01, 1.0).value >= delta(rho, 1.0).value);
        }
    }
}
