//! The discrete Gaussian in one coordinate, exactly: epsilon, delta, Renyi divergence. Its sampler is
//! [`super::discrete_gaussian_sampler`], what many shares of it add up to is [`super::distributed`].
//!
//! Canonne, Kamath and Steinke, *The Discrete Gaussian for Differential Privacy* (2020), Theorem 7 and Proposition 5:
//! `Pr[X = k] = exp(-k^2/(2 sigma^2))/Z`, k any integer. For an integer sensitivity D
//!
//! ```text
//! delta(eps) = Pr[X > t] - e^eps Pr[X > t + D],   t = eps sigma^2/D - D/2
//!            = sum over k > t of Pr[X = k] (1 - exp(eps - D (2k + D)/(2 sigma^2)))
//! ```
//!
//! The sum has positive terms only. Where it is long it is done by Euler and Maclaurin's formula, whose differences of tails
//! are computed as differences. Guarantees are rounded up by less than 1e-12 of their size.

use core::f64::consts::PI;

use libm::{exp, expm1, floor, log, log1p, sin, sqrt};

use super::numeric::{least, mills, mills_drop};

/// Sums shorter than this are done term by term.
const LONGEST_SUM: f64 = 4096.0;

/// Terms beyond `exp(-TAIL)` of the first are left out.
const TAIL: f64 = 42.0;

/// `B_2j/(2j)!`: the coefficients of Euler and Maclaurin.
const BERNOULLI: [f64; 6] =
    [1.0 / 12.0, -1.0 / 720.0, 1.0 / 30_240.0, -1.0 / 1_209_600.0, 1.0 / 47_900_160.0, -691.0 / 1_307_674_368_000.0];

/// Noise with `Pr[X = k]` proportional to `exp(-k^2/(2 sigma^2))`. sigma is the parameter, not the standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiscreteGaussian {
    sigma: f64,
}

impl DiscreteGaussian {
    /// `None` unless `0.01 <= sigma <= 2^60`: below, the noise is none; above, an `f64` does not tell neighbours apart.
    pub fn new(sigma: f64) -> Option<Self> {
        (0.01..=1.152_921_504_606_847e18).contains(&sigma).then_some(Self { sigma })
    }

    /// `Z`: the sum of `exp(-k^2/(2 sigma^2))` over all integers.
    fn normalizer(&self) -> f64 {
        let variance = self.sigma * self.sigma;
        if self.sigma >= 0.5 {
            // Poisson's summation: the other form converges here
            let ripple: f64 = (1..=8).map(|j| exp(-2.0 * PI * PI * variance * f64::from(j * j))).sum();
            self.sigma * sqrt(2.0 * PI) * (1.0 + 2.0 * ripple)
        } else {
            1.0 + 2.0 * (1..=8).map(|k| exp(-f64::from(k * k) / (2.0 * variance))).sum::<f64>()
        }
    }

    /// `Pr[X = k]`.
    pub fn probability(&self, k: i64) -> f64 {
        let z = k as f64 / self.sigma;
        exp(-z * z / 2.0) / self.normalizer()
    }

    /// ln delta at `epsilon >= 0` for a change of one coordinate by `sensitivity`, rounded up.
    pub fn ln_delta(&self, epsilon: f64, sensitivity: u64) -> f64 {
        if sensitivity == 0 {
            return f64::NEG_INFINITY;
        }
        let (sigma, shift) = (self.sigma, sensitivity as f64);
        let variance = sigma * sigma;
        let threshold = epsilon * variance / shift - shift / 2.0;
        let first = floor(threshold) + 1.0;
        let (near, far) = (first / sigma, (first + shift) / sigma);
        // 1 - exp(eps - D (2 first + D)/(2 sigma^2)), from 0 up
        let step = shift * (first - threshold) / variance;
        let (ln_delta, lost) = if near >= -1.0 {
            let sum = self.difference(Start { first, shift, step });
            (log(sum / self.normalizer()) - near * near / 2.0, 16.0 + near * near + 2.0 * near.abs() * far)
        } else {
            // delta is near one: Pr[X < first] + e^eps Pr[X >= first + D] is missing
            let below = 1.0 - first;
            let missing = exp(-below * below / (2.0 * variance)) * self.scaled_tail(below)
                + exp(-near * near / 2.0 - step) * self.scaled_tail(first + shift);
            let ln_delta = log1p(-(missing / self.normalizer()).min(1.0));
            (ln_delta, -16.0 * ln_delta)
        };
        if ln_delta == f64::NEG_INFINITY {
            return ln_delta;
        }
        (ln_delta + 2.0 * f64::EPSILON * lost).min(0.0)
    }

    /// delta at `epsilon >= 0`, rounded up.
    pub fn delta(&self, epsilon: f64, sensitivity: u64) -> f64 {
        exp(self.ln_delta(epsilon, sensitivity)).next_up().min(1.0)
    }

    /// The smallest epsilon at `delta`, rounded up; infinite unless `0 < delta`.
    pub fn epsilon(&self, delta: f64, sensitivity: u64) -> f64 {
        if sensitivity == 0 {
            return 0.0;
        }
        if delta.is_nan() || delta <= 0.0 {
            return f64::INFINITY;
        }
        let ln_delta = log(delta).next_down();
        let mu = sensitivity as f64 / self.sigma;
        // Pr[X > t] < exp(-t^2/(2 sigma^2)) for t >= 0, with a step to the next integer
        let enough = mu * (mu / 2.0 + sqrt(-2.0 * ln_delta.min(-1.0)) + 2.0 / self.sigma) * 1.01;
        least(0.0, enough, |epsilon| self.ln_delta(epsilon, sensitivity) <= ln_delta)
    }

    /// The Renyi divergence of the noise from itself moved by `sensitivity`, of a real order above 1, rounded up:
    /// `alpha D^2/(2 sigma^2)` where `alpha D` is an integer, and less elsewhere.
    pub fn renyi_divergence(&self, order: f64, sensitivity: u64) -> f64 {
        let shift = sensitivity as f64;
        let spread = order * super::zcdp::rho_of_gaussian(shift, self.sigma);
        let offset = libm::fmod((order - 1.0) * shift, 1.0);
        let offset = offset.min(1.0 - offset); // the grid is symmetric
        let below = self.ln_off_grid(offset) / (order - 1.0);
        (spread + below + 8.0 * f64::EPSILON * (spread - below)).max(0.0)
    }

    /// `ln(sum of exp(-(k + f)^2/(2 sigma^2)) / Z) <= 0` for an offset f from 0 to 1/2.
    fn ln_off_grid(&self, offset: f64) -> f64 {
        let variance = self.sigma * self.sigma;
        if self.sigma >= 0.5 {
            let lost: f64 = (1..=8)
                .map(|j| {
                    let wave = sin(PI * offset * f64::from(j));
                    4.0 * wave * wave * exp(-2.0 * PI * PI * variance * f64::from(j * j))
                })
                .sum();
            let ripple: f64 = (1..=8).map(|j| exp(-2.0 * PI * PI * variance * f64::from(j * j))).sum();
            return log1p(-lost / (1.0 + 2.0 * ripple));
        }
        // k and -k together: exp(-k^2/(2 sigma^2)) 2 (cosh(k f/sigma^2) - 1), k >= 1
        let gained: f64 = (1..=8)
            .map(|k| {
                let (k, y) = (f64::from(k), f64::from(k) * offset / variance);
                let half = -expm1(-y);
                exp(y - k * k / (2.0 * variance)) * half * half
            })
            .sum();
        -offset * offset / (2.0 * variance) + log1p(gained / self.normalizer())
    }

    /// `sum over k >= first of exp(-k^2/2s^2) (1 - exp(eps - D (2k + D)/2s^2))`, over `exp(-first^2/2s^2)`.
    fn difference(&self, start: Start) -> f64 {
        let Start { first, shift, step } = start;
        let (sigma, variance) = (self.sigma, self.sigma * self.sigma);
        if self.terms(first) <= LONGEST_SUM {
            let term = |j: f64| exp(-(2.0 * first + j) * j / (2.0 * variance)) * -expm1(-step - shift * j / variance);
            return (0..=self.terms(first) as u32).map(|j| term(f64::from(j))).sum();
        }
        if shift >= sigma {
            return self.scaled_tail(first) - exp(-step) * self.scaled_tail(first + shift);
        }
        let (near, far) = (first / sigma, (first + shift) / sigma);
        let lost = -expm1(-step);
        let integral = sigma * (mills_drop(near, shift / sigma) + lost * mills(far));
        integral + lost / 2.0 + corrections(near, sigma) - (1.0 - lost) * corrections(far, sigma)
    }

    /// `sum over k >= first of exp(-(k^2 - first^2)/(2 sigma^2))`, for `first >= -sigma`.
    fn scaled_tail(&self, first: f64) -> f64 {
        let sigma = self.sigma;
        if self.terms(first) <= LONGEST_SUM {
            let term = |j: f64| exp(-(2.0 * first + j) * j / (2.0 * sigma * sigma));
            return (0..=self.terms(first) as u32).map(|j| term(f64::from(j))).sum();
        }
        sigma * mills(first / sigma) + 0.5 + corrections(first / sigma, sigma)
    }

    /// How many terms from `first` on count.
    fn terms(&self, first: f64) -> f64 {
        // (2 first j + j^2)/(2 sigma^2) = TAIL
        let variance = self.sigma * self.sigma;
        let reach = 2.0 * TAIL * variance;
        reach / (first + sqrt(first * first + reach)) + 1.0
    }
}

/// Where a sum of differences starts.
struct Start {
    /// The first integer.
    first: f64,
    /// The sensitivity.
    shift: f64,
    /// The logarithm of the ratio of the two terms there, from 0 up.
    step: f64,
}

/// Euler and Maclaurin's terms beyond the first two for `exp(-x^2/2)` summed from `u` on in steps of `1/sigma`.
fn corrections(u: f64, sigma: f64) -> f64 {
    // Hermite polynomials: He_{m+1} = u He_m - m He_{m-1}
    let (mut lower, mut here) = (1.0, u);
    let (mut scale, mut sum) = (1.0 / sigma, 0.0);
    for (j, coefficient) in BERNOULLI.into_iter().enumerate() {
        sum += coefficient * here * scale;
        scale /= sigma * sigma;
        for m in [2 * j + 1, 2 * j + 2] {
            (lower, here) = (here, u * here - m as f64 * lower);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::gaussian::GaussianPrivacy;
    use crate::privacy::zcdp;
    use proptest::prelude::*;

    fn noise(sigma: f64) -> DiscreteGaussian {
        DiscreteGaussian::new(sigma).expect("in range")
    }

    /// The definition, term by term: sum of max(0, p(k) - e^eps p(k + D)).
    fn by_brute_force(sigma: f64, epsilon: f64, shift: i64) -> f64 {
        let reach = (40.0 * sigma) as i64 + shift + 20;
        let p = |k: i64| noise(sigma).probability(k);
        (-reach..reach).map(|k| (p(k) - exp(epsilon) * p(k + shift)).max(0.0)).sum()
    }

    #[test]
    fn delta_is_what_the_definition_sums_to() {
        for sigma in [0.2, 0.5, 1.0, 2.7, 19.3, 300.5, 900.0] {
            for shift in [1, 3, 40, 1000] {
                for epsilon in [0.0, 0.01, 0.3, 2.0, 9.0] {
                    let (got, expected) =
                        (noise(sigma).delta(epsilon, shift), by_brute_force(sigma, epsilon, shift as i64));
                    let error = (got - expected).abs();
                    assert!(error <= 1e-12 + 1e-9 * expected, "{sigma} {shift} {epsilon}: {got} {expected}");
                }
            }
        }
    }

    /// 50 digits, mpmath.
    #[test]
    fn far_tails_and_extreme_noise_are_exact() {
        for (sigma, shift, epsilon, expected) in FAR {
            let got = noise(sigma).ln_delta(epsilon, shift);
            let error = got - expected;
            assert!((0.0..1e-9_f64.max(1e-14 * expected.abs())).contains(&error), "{sigma} {shift} {epsilon}: {got}");
        }
        for (sigma, shift, order, expected) in DIVERGENCES {
            let got = noise(sigma).renyi_divergence(order, shift);
            assert!((0.0..1e-11).contains(&(got / expected - 1.0)), "{sigma} {shift} {order}: {got}");
        }
    }

    const FAR: [(f64, u64, f64, f64); 18] = [
        (0.2, 1, 0.0, -7.453_278_568_407_637e-6),
        (0.2, 1, 12.3, -1.707_758_695_798_459_6),
        (0.2, 1, 12.6, -12.500_007_453_293_916),
        (0.2, 3, 200.0, -50.000_007_453_278_56),
        (0.2, 3, 1_000.0, -1_800.000_011_179_938_4),
        (0.5, 1, 9.961_411_388_026_17, -11.512_925_464_970_147),
        (2.5, 7, 1.0, -0.290_517_474_332_926),
        (2.5, 7, 60.0, -210.350_980_152_012_82),
        (50.0, 1, 0.7, -624.074_731_094_759_2),
        (50.0, 200, 3.0, -0.180_907_846_860_507_84),
        (1_000.0, 3, 0.1, -569.249_460_440_153_6),
        (1_000.0, 3000, 1.0, -0.238_763_969_557_504_65),
        (123_456.75, 1, 1e-5, -14.675_563_306_616_228),
        (1_000_000.0, 1000, 0.03, -464.617_409_164_379_7),
        (1_000_000.0, 3000000, 1.0, -0.238_763_990_927_105_07),
        (1_000_000.0, 3000000, 100.0, -513.514_674_772_060_5),
        (0.05, 1, 150.0, -1.928_749_847_963_960_6e-22),
        (1_000_000.0, 1, 3.7e-5, -706.458_452_221_177_6),
    ];
    const DIVERGENCES: [(f64, u64, f64, f64); 8] = [
        (0.05, 1, 1.5, 201.386_294_361_119_87),
        (0.2, 1, 1.001, 12.500_002_329_262_18),
        (0.2, 3, 1.25, 137.507_684_588_423_67),
        (0.49, 1, 1.5, 3.053_739_082_804_484_4),
        (0.51, 1, 1.5, 2.836_368_559_201_638),
        (0.7, 2, 1_023.3, 4_176.734_693_654_554),
        (3.2, 1, 1.5, 0.073_242_187_499_999_99),
        (1.0, 1, 1.000_001, 0.500_000_499_999_894_4),
    ];

    /// Long sums and short ones are computed in two ways; on either side of the border they agree.
    #[test]
    fn both_ways_of_summing_agree() {
        for sigma in [445.0, 455.0, 2_000.0] {
            let noise = noise(sigma);
            for first in [-1.0, 0.0, 0.5, 1.0, 3.0, 8.0].map(|z| floor(z * sigma)) {
                let long = sigma * mills(first / sigma) + 0.5 + corrections(first / sigma, sigma);
                let terms = noise.terms(first) as u32;
                let short: f64 =
                    (0..=terms).map(f64::from).map(|j| exp(-(2.0 * first + j) * j / (2.0 * sigma * sigma))).sum();
                assert!((long / short - 1.0).abs() < 1e-13, "{sigma} {first}: {long} {short}");
            }
        }
    }

    #[test]
    fn wide_noise_is_the_continuous_gaussian() {
        for (sigma, shift) in [(1e6, 1_000_000), (1e6, 10), (3e5, 2_000_000), (1e9, 1)] {
            for epsilon in [0.0, 1e-5, 0.5, 10.0] {
                let mu = shift as f64 / sigma;
                let continuous = GaussianPrivacy::new(mu).expect("positive").ln_delta(epsilon);
                let discrete = noise(sigma).ln_delta(epsilon, shift);
                let (z, near) = ((epsilon / mu - mu / 2.0).max(1.0), (discrete - continuous).abs());
                assert!(near <= 2.0 * z * z / sigma + 1e-12 * continuous.abs(), "{sigma} {shift} {epsilon}: {near}");
            }
        }
    }

    #[test]
    fn nothing_given_away_and_everything() {
        assert_eq!(noise(1.0).epsilon(1e-5, 0), 0.0);
        assert_eq!(noise(1.0).ln_delta(0.0, 0), f64::NEG_INFINITY);
        assert_eq!(noise(1.0).epsilon(0.0, 1), f64::INFINITY);
        assert_eq!(noise(1.0).delta(0.0, u64::MAX), 1.0);
        assert_eq!(noise(1.0).renyi_divergence(2.0, 0), 0.0);
        for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(DiscreteGaussian::new(sigma).is_none());
        }
    }

    proptest! {
        /// Epsilon undoes delta, neither rises with noise, and concentrated privacy bounds both from above.
        #[test]
        fn exact_values_stay_below_every_bound(
            ln_sigma in -1.5..13.0_f64, shift in 1_u64..200, ln_delta in -600.0..-1.0_f64, order in 1.001..1024.0_f64,
        ) {
            let sigma = exp(ln_sigma);
            let (law, delta) = (noise(sigma), exp(ln_delta));
            let epsilon = law.epsilon(delta, shift);
            let rho = zcdp::rho_of_gaussian(shift as f64, sigma);
            prop_assert!(epsilon <= zcdp::epsilon(rho, delta).value * (1.0 + 1e-11));
            prop_assert!(law.ln_delta(epsilon, shift) <= ln_delta + 1e-12);
            if epsilon > 0.0 {
                prop_assert!(law.ln_delta(epsilon * (1.0 - 1e-9), shift) > ln_delta - 1e-12);
            }
            let divergence = law.renyi_divergence(order, shift);
            prop_assert!(divergence <= order * rho * (1.0 + 1e-12) && divergence >= 0.0);
            let whole = floor(order).max(2.0);
            prop_assert!((law.renyi_divergence(whole, shift) / (whole * rho) - 1.0).abs() < 1e-12);
        }
    }
}
