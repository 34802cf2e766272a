//! The Gaussian mechanism, exactly: epsilon, delta and sigma without a bound in between.
//!
//! Balle and Wang, *Improving the Gaussian Mechanism for Differential Privacy* (2018), Theorem 8; with the composition of
//! Dong, Roth and Su, *Gaussian Differential Privacy* (2019), Corollary 3.3. Noise of standard deviation sigma on a query of
//! sensitivity Delta has the parameter `mu = Delta/sigma`; several have `mu = sqrt(sum mu_i^2)`. Then
//!
//! ```text
//! delta(eps) = Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu)
//!            = phi(a) (M(a) - M(a + mu)),     a = eps/mu - mu/2,  M(x) = Q(x)/phi(x)
//! ```
//!
//! The second form neither overflows nor cancels. What is returned as a guarantee is rounded up, by about 1e-15 times the
//! size of the exponent: less than 1e-12 of delta wherever delta is an `f64`.

use libm::{exp, log, log1p};

use super::numeric::{LN_SQRT_2_PI, least, mills, mills_drop, normal_tail};

/// Standard deviations at which a tail is not worth computing.
const HOPELESS: f64 = 1e150;

/// A mechanism as hard to see through as telling N(0, 1) from N(mu, 1): "mu-GDP".
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct GaussianPrivacy {
    mu: f64,
}

impl GaussianPrivacy {
    /// `mu` = sensitivity over standard deviation; `None` unless it is a number from 0 up. Infinity: no privacy.
    pub fn new(mu: f64) -> Option<Self> {
        (mu >= 0.0).then_some(Self { mu })
    }

    /// The parameter.
    pub fn mu(&self) -> f64 {
        self.mu
    }

    /// Both together: the squares add up.
    pub fn and(&self, other: &Self) -> Self {
        Self { mu: libm::hypot(self.mu, other.mu).next_up() }
    }

    /// The same `rounds` times over.
    pub fn times(&self, rounds: u32) -> Self {
        Self { mu: self.mu * libm::sqrt(f64::from(rounds)) * (1.0 + 4.0 * f64::EPSILON) }
    }

    /// ln delta at `epsilon >= 0`, rounded up. Minus infinity where nothing is given away.
    pub fn ln_delta(&self, epsilon: f64) -> f64 {
        let mu = self.mu;
        if mu == 0.0 {
            return f64::NEG_INFINITY;
        }
        if mu == f64::INFINITY {
            return 0.0;
        }
        let (per_mu, half) = (epsilon / mu, mu / 2.0);
        let a = per_mu - half;
        if a > HOPELESS {
            return -HOPELESS; // far above -a^2/2, which has no f64
        }
        let ln_delta = if a >= -1.0 {
            log(mills_drop(a, mu)) - LN_SQRT_2_PI - a * a / 2.0
        } else {
            // delta is near one: Q(-a) + phi(a) M(a + mu) is missing
            log1p(-(normal_tail(-a) + exp(-LN_SQRT_2_PI - a * a / 2.0) * mills(a + mu)))
        };
        let lost = if a >= -1.0 { 16.0 + a * a + 2.0 * a.abs() * (per_mu + half) } else { -16.0 * ln_delta };
        (ln_delta + 2.0 * f64::EPSILON * lost).min(0.0)
    }

    /// delta at `epsilon >= 0`, rounded up.
    pub fn delta(&self, epsilon: f64) -> f64 {
        exp(self.ln_delta(epsilon)).next_up().min(1.0)
    }

    /// The smallest epsilon at this `delta`, rounded up; infinite unless `0 < delta`.
    pub fn epsilon(&self, delta: f64) -> f64 {
        if !(delta > 0.0 && self.mu < f64::INFINITY) {
            return if self.mu == 0.0 { 0.0 } else { f64::INFINITY };
        }
        let ln_delta = log(delta).next_down();
        // delta(eps) < Q(eps/mu - mu/2) < exp(-(eps/mu - mu/2)^2/2)
        let enough = self.mu * (self.mu / 2.0 + libm::sqrt(-2.0 * ln_delta.min(-1.0))) * 1.01;
        least(0.0, enough, |epsilon| self.ln_delta(epsilon) <= ln_delta)
    }
}

/// The smallest standard deviation that makes a query of sensitivity 1 (epsilon, delta)-private, rounded up; infinite if
/// none does: epsilon must be from 0 up and delta positive.
pub fn sigma_for(epsilon: f64, delta: f64) -> f64 {
    if !(epsilon >= 0.0 && delta > 0.0) {
        return f64::INFINITY;
    }
    if delta >= 1.0 {
        return 0.0;
    }
    let ln_delta = log(delta).next_down();
    least(0.0, f64::MAX, |sigma| GaussianPrivacy { mu: 1.0 / sigma }.ln_delta(epsilon) <= ln_delta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gdp(mu: f64) -> GaussianPrivacy {
        GaussianPrivacy::new(mu).expect("not negative")
    }

    /// 60 digits, mpmath; tails far below what the reference tables hold.
    #[test]
    fn far_tails_and_extreme_noise_are_exact() {
        for (mu, epsilon, ln_delta) in FAR {
            let got = gdp(mu).ln_delta(epsilon);
            let error = got - ln_delta;
            // an error of ln delta is a relative error of delta
            assert!((0.0..1e-9_f64.max(1e-14 * ln_delta.abs())).contains(&error), "{mu} {epsilon}: {got} {error}");
        }
    }

    const FAR: [(f64, f64, f64); 17] = [
        (1e-6, 0.0, -14.734_449_091_168_988),
        (1e-6, 1e-6, -16.300_631_083_676_993),
        (1e-6, 2e-5, -220.733_339_067_389_55),
        (1e-6, 0.001, -500_028.549_462_649_2),
        (0.01, 0.3, -462.179_836_419_021_97),
        (0.3, 5.0, -144.160_459_665_948_76),
        (1.0, 0.0, -0.959_916_333_695_622_3),
        (1.0, 37.0, -674.267_778_458_898_3),
        (1.0, 500.0, -124_763.473_165_729_91),
        (5.0, 1.0, -0.020_354_067_659_902_643),
        (5.0, 12.5, -0.860_192_349_749_233),
        (30.0, 450.0, -0.720_073_151_414_965),
        (30.0, 1_500.0, -617.748_966_047_029_1),
        (350.0, 61_250.0, -0.695_429_434_485_936_2),
        (350.0, 70_000.0, -316.708_514_300_094_9),
        (350.0, 61_000.0, -0.272_347_251_175_017_9),
        (5_000.0, 12_500_000.0, -0.693_306_770_199_472),
    ];

    #[test]
    fn epsilon_and_sigma_invert_delta() {
        for delta in [0.5, 1e-3, 1e-10, 1e-100, 1e-300] {
            for mu in [1e-6, 0.01, 1.0, 30.0, 350.0] {
                let epsilon = gdp(mu).epsilon(delta);
                if epsilon == 0.0 {
                    assert!(gdp(mu).delta(0.0) <= delta * (1.0 + 1e-12));
                    continue;
                }
                assert!(gdp(mu).delta(epsilon) <= delta * (1.0 + 1e-12));
                assert!(gdp(mu).delta(epsilon * (1.0 - 1e-9)) > delta, "{mu} {delta}");
                let sigma = sigma_for(epsilon, delta);
                assert!((sigma * mu - 1.0).abs() < 1e-9, "{mu} {delta}: {sigma}");
            }
        }
    }

    #[test]
    fn nothing_given_away_and_everything() {
        assert_eq!(gdp(0.0).epsilon(1e-5), 0.0);
        assert_eq!(gdp(0.0).delta(0.0), f64::MIN_POSITIVE * f64::EPSILON);
        assert_eq!(gdp(f64::INFINITY).delta(100.0), 1.0);
        assert_eq!(gdp(f64::INFINITY).epsilon(1e-5), f64::INFINITY);
        assert_eq!(gdp(1.0).epsilon(0.0), f64::INFINITY);
        assert_eq!(gdp(1.0).epsilon(1.0), 0.0);
        assert_eq!((sigma_for(1.0, 0.0), sigma_for(-1.0, 0.1)), (f64::INFINITY, f64::INFINITY));
        assert!(GaussianPrivacy::new(-1.0).is_none() && GaussianPrivacy::new(f64::NAN).is_none());
    }

    proptest! {
        /// More noise, or a larger epsilon, never costs more delta; two rounds are one of sqrt(2) the parameter.
        #[test]
        fn delta_falls_with_noise_and_epsilon(mu in 1e-4..50.0_f64, epsilon in 0.0..60.0_f64) {
            let at = gdp(mu).ln_delta(epsilon);
            prop_assert!(at <= gdp(mu * 1.001).ln_delta(epsilon));
            prop_assert!(at >= gdp(mu).ln_delta(epsilon * 1.001 + 1e-6));
            let twice = gdp(mu).times(2).ln_delta(epsilon);
            let both = gdp(mu).and(&gdp(mu)).ln_delta(epsilon);
            prop_assert!((twice - both).abs() <= 1e-11 * (1.0 + both.abs()));
        }
    }
}
