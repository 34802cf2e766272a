//! What runs of a mechanism prove about it: lower bounds on epsilon, with a confidence.
//!
//! * Exact confidence bounds on a probability: Clopper and Pearson, *The Use of Confidence or Fiducial Limits* (1934).
//! * Two worlds: with and without a canary, many runs of each, and a test between them. Jagielski, Ullman and Oprea, *Auditing
//!   Differentially Private Machine Learning* (2020), Section 4; through a Gaussian trade-off curve: Nasr et al., *Tight
//!   Auditing of Differentially Private Machine Learning* (2023), Section 3, for mechanisms that have such a curve.
//! * One run with many canaries: Steinke, Nasr and Jagielski, *Privacy Auditing with One (1) Training Run* (2023), Theorem 5.2.
//!
//! Tools only: no round depends on it. A lower bound above the claim shows a bug; one below shows nothing.

use libm::{exp, log, log1p};

use super::gaussian::GaussianPrivacy;
use super::numeric::{LN_SQRT_2_PI, least, normal_tail, normal_upper_quantile};

/// `k` of `n` trials came out positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// k, at most n.
    pub positive: u64,
    /// n, at least one.
    pub trials: u64,
}

impl Count {
    /// The largest probability with which so few come out positive in more than `risk` of all cases.
    pub fn upper_bound(&self, risk: f64) -> f64 {
        let (k, rest) = (self.positive as f64, (self.trials - self.positive) as f64);
        if rest == 0.0 {
            return 1.0;
        }
        // Pr[Bin <= k] = 1 - I_p(k + 1, n - k)
        least(0.0, 1.0, |p| beta_tail(Beta { a: rest, b: k + 1.0 }, 1.0 - p, p) <= risk)
    }

    /// The smallest probability with which so many come out positive in more than `risk` of all cases.
    pub fn lower_bound(&self, risk: f64) -> f64 {
        1.0 - Self { positive: self.trials - self.positive, ..*self }.upper_bound(risk)
    }
}

/// What a test said in two worlds, which differ by one client's contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwoWorlds {
    /// The canary was not there, and the test said that it was.
    pub false_alarms: Count,
    /// The canary was there, and the test said so.
    pub hits: Count,
}

/// A test on a number with normal noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistic {
    /// By how much the canary moves the number, in standard deviations.
    pub canary: f64,
    /// From where on the test is positive, in standard deviations from what it is without canary.
    pub threshold: f64,
}

impl TwoWorlds {
    /// The counts to expect, to the nearest integer: for planning an audit.
    pub fn expected(statistic: Statistic, trials: u64) -> Self {
        let count = |deviations: f64| {
            let positive = libm::round(normal_tail(deviations) * trials as f64) as u64;
            Count { positive: positive.min(trials), trials }
        };
        Self { false_alarms: count(statistic.threshold), hits: count(statistic.threshold - statistic.canary) }
    }

    /// A lower bound on epsilon at `delta`, wrong with a probability of at most `risk`: half of it on each side. The test must
    /// have been chosen on other data.
    pub fn epsilon_at_least(&self, delta: f64, risk: f64) -> f64 {
        let (alarms, hits) = (self.false_alarms.upper_bound(risk / 2.0), self.hits.lower_bound(risk / 2.0));
        if hits > delta { log((hits - delta) / alarms).max(0.0) } else { 0.0 }
    }

    /// The same for a mechanism whose trade-off curve is Gaussian, of a parameter that is not known.
    pub fn gaussian_at_least(&self, risk: f64) -> GaussianPrivacy {
        let (alarms, hits) = (self.false_alarms.upper_bound(risk / 2.0), self.hits.lower_bound(risk / 2.0));
        // Phi^-1(1 - alarms) - Phi^-1(1 - hits)
        let mu = normal_upper_quantile(log(alarms)) - normal_upper_quantile(log(hits));
        GaussianPrivacy::new(if mu > 0.0 { mu } else { 0.0 }).expect("zero is a parameter")
    }
}

/// One run in which each of m canaries took part with probability one half, and of r guesses v were right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneRun {
    /// m.
    pub canaries: u64,
    /// r, at most m and at least one.
    pub guesses: u64,
    /// v, at most r.
    pub correct: u64,
}

impl OneRun {
    /// How likely so many right guesses are at most, if the mechanism is (epsilon, delta)-private:
    ///
    /// ```text
    /// Pr[B >= v] + 2 m delta max over i >= 1 of Pr[v - i <= B < v]/i,    B ~ Bin(r, e^eps/(1 + e^eps))
    /// ```
    pub fn p_value(&self, epsilon: f64, delta: f64) -> f64 {
        let (r, v) = (self.guesses as f64, self.correct as f64);
        let (right, wrong) = (1.0 / (1.0 + exp(-epsilon)), exp(-epsilon) / (1.0 + exp(-epsilon)));
        let tail = if self.correct == 0 { 1.0 } else { beta_tail(Beta { a: v, b: r - v + 1.0 }, right, wrong) };
        let (mut mass, mut most) = (0.0, 0.0_f64);
        for i in 1..=self.correct {
            let k = (self.correct - i) as f64;
            let here = exp(ln_binomial(Binomial { n: r, right, wrong }, k));
            mass += here;
            let average = mass / i as f64;
            if average < most && k < r * right {
                break; // past the peak the averages only fall
            }
            most = most.max(average);
        }
        (tail + 2.0 * self.canaries as f64 * delta * most).min(1.0)
    }

    /// The largest epsilon at which such a run has a p-value below `risk`; zero if there is none.
    pub fn epsilon_at_least(&self, delta: f64, risk: f64) -> f64 {
        let refuted_up_to = least(0.0, 1e3, |epsilon| self.p_value(epsilon, delta) >= risk);
        if refuted_up_to == 0.0 { 0.0 } else { refuted_up_to.next_down() }
    }
}

/// `ln Gamma(z) - ((z - 1/2) ln z - z + ln sqrt(2 pi))`, `z > 0`.
fn stirling_error(z: f64) -> f64 {
    if z < 10.0 {
        return libm::lgamma(z) - ((z - 0.5) * log(z) - z + LN_SQRT_2_PI);
    }
    let square = z * z;
    let series = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0, 1.0 / 156.0];
    series.iter().rev().fold(0.0, |sum, coefficient| sum / square + coefficient) / z
}

/// `k ln(k/expected)` without loss where both are near.
fn deviance(k: f64, expected: f64) -> f64 {
    let off = (k - expected) / expected;
    if off.abs() < 0.5 { k * log1p(off) } else { k * log(k / expected) }
}

/// A binomial law, both probabilities given: the smaller keeps its digits.
struct Binomial {
    n: f64,
    right: f64,
    wrong: f64,
}

/// The logarithm of its probability of `k`, `0 <= k <= n` (Loader 2000).
fn ln_binomial(law: Binomial, k: f64) -> f64 {
    let Binomial { n, right, wrong } = law;
    let ln = |p: f64, other: f64| if p < 0.5 { log(p) } else { log1p(-other) };
    if k == 0.0 {
        return n * ln(wrong, right);
    }
    if k == n {
        return n * ln(right, wrong);
    }
    let factors = stirling_error(n) - stirling_error(k) - stirling_error(n - k);
    let size = -LN_SQRT_2_PI + 0.5 * log(n / (k * (n - k)));
    factors + size - deviance(k, n * right) - deviance(n - k, n * wrong)
}

/// A beta law.
struct Beta {
    a: f64,
    b: f64,
}

/// `I_x(a, b)`, with `y = 1 - x` given beside it: the chance that a beta variable is below x (DiDonato and Morris 1992).
fn beta_tail(law: Beta, x: f64, y: f64) -> f64 {
    let Beta { a, b } = law;
    if x <= 0.0 || y <= 0.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_below(Beta { a: b, b: a }, y, x);
    }
    beta_below(law, x, y)
}

/// The same where the continued fraction converges fast.
fn beta_below(law: Beta, x: f64, y: f64) -> f64 {
    let Beta { a, b } = law;
    // x^a y^b/B(a, b) by Stirling's formula and its error
    let sum = a + b;
    let factors = stirling_error(sum) - stirling_error(a) - stirling_error(b);
    let ln_front = factors - deviance(a, x * sum) - deviance(b, y * sum) + 0.5 * log(a * b / sum) - LN_SQRT_2_PI;
    // Lentz
    let tiny = f64::MIN_POSITIVE;
    let away = |x: f64| if x.abs() < tiny { tiny } else { x };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - sum * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..=1_000_000 {
        let m = f64::from(m);
        for numerator in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (sum + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / away(1.0 + numerator * d);
            c = away(1.0 + numerator / c);
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    (exp(ln_front) / a * fraction).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libm::sqrt;
    use proptest::prelude::*;

    fn close(got: f64, expected: f64, relative: f64) {
        assert!((got / expected - 1.0).abs() < relative, "{got} {expected}");
    }

    /// Tails added up term by term in exact integers, for small counts.
    #[test]
    fn tails_are_sums_of_binomial_probabilities() {
        for n in [1_u32, 2, 7, 40] {
            for p in [1e-6, 0.03, 0.5, 0.97] {
                let mut choose = 1.0;
                let probabilities: std::vec::Vec<f64> = (0..=n)
                    .map(|k| {
                        let here = choose * libm::pow(p, f64::from(k)) * libm::pow(1.0 - p, f64::from(n - k));
                        choose *= f64::from(n - k) / f64::from(k + 1);
                        here
                    })
                    .collect();
                for k in 0..=n {
                    let law = Binomial { n: n.into(), right: p, wrong: 1.0 - p };
                    close(exp(ln_binomial(law, k.into())), probabilities[k as usize], 1e-12);
                    let tail: f64 = probabilities[k as usize..].iter().rev().sum();
                    if k > 0 {
                        let law = Beta { a: k.into(), b: f64::from(n - k) + 1.0 };
                        close(beta_tail(law, p, 1.0 - p), tail, 1e-11);
                    }
                }
            }
        }
    }

    /// 30 digits, mpmath.
    #[test]
    fn tails_of_a_million_trials_are_exact() {
        for (k, n, p, expected) in TAILS {
            let law = Beta { a: k, b: n - k + 1.0 };
            close(beta_tail(law, p, 1.0 - p), expected, 1e-10);
        }
    }

    const TAILS: [(f64, f64, f64, f64); 6] = [
        (1_000.0, 1_000_000.0, 0.000_9, 0.000_546_973_600_764_924_9),
        (500_000.0, 1_000_000.0, 0.498_5, 0.001_354_303_198_197_104_4),
        (999_990.0, 1_000_000.0, 0.999_98, 0.010_811_137_202_282_555),
        (731.0, 1_000.0, 0.731_058_578_630_004_9, 0.518_073_518_933_348),
        (12.0, 1_000_000.0, 1e-6, 8.315_646_629_806_646e-10),
        (300_000.0, 1_000_000.0, 0.3, 0.500_377_244_087_957_4),
    ];

    #[test]
    fn bounds_hold_at_the_ends_and_come_closer_with_more_trials() {
        let count = |positive, trials| Count { positive, trials };
        assert_eq!((count(0, 10).lower_bound(0.025), count(10, 10).upper_bound(0.025)), (0.0, 1.0));
        close(count(0, 1000).upper_bound(0.025), 1.0 - libm::pow(0.025, 1e-3), 1e-12);
        close(count(1000, 1000).lower_bound(0.025), libm::pow(0.025, 1e-3), 1e-12);
        let few = count(30, 100);
        let many = count(300_000, 1_000_000);
        assert!(few.lower_bound(0.01) < many.lower_bound(0.01) && many.upper_bound(0.01) < few.upper_bound(0.01));
        let spread = many.upper_bound(0.025) - 0.3;
        close(spread, 1.96 * sqrt(0.3 * 0.7 / 1e6), 0.01);
    }

    #[test]
    fn a_canary_that_nobody_sees_proves_nothing() {
        let half = Count { positive: 500, trials: 1000 };
        let blind = TwoWorlds { false_alarms: half, hits: half };
        assert_eq!((blind.epsilon_at_least(1e-5, 0.05), blind.gaussian_at_least(0.05).mu()), (0.0, 0.0));
        let seen = TwoWorlds {
            false_alarms: Count { positive: 0, trials: 1000 },
            hits: Count { positive: 1000, trials: 1000 },
        };
        assert!(seen.epsilon_at_least(1e-5, 0.05) > 5.0 && seen.gaussian_at_least(0.05).mu() > 5.0);
        let none = OneRun { canaries: 100, guesses: 100, correct: 50 };
        assert_eq!(none.epsilon_at_least(0.0, 0.05), 0.0);
        let all = OneRun { canaries: 100, guesses: 100, correct: 100 };
        // q^100 = 0.05
        let q = libm::pow(0.05, 0.01);
        close(all.epsilon_at_least(0.0, 0.05), log(q / (1.0 - q)), 1e-9);
        assert_eq!(OneRun { canaries: 10, guesses: 10, correct: 0 }.p_value(1.0, 1e-5), 1.0);
    }

    proptest! {
        /// The bound that a count gives is where its tail meets the risk.
        #[test]
        fn bounds_invert_tails(trials in 1_u64..5_000, share in 0.0..1.0_f64, risk in 1e-6..0.4_f64) {
            let count = Count { positive: (share * trials as f64) as u64, trials };
            let (low, high) = (count.lower_bound(risk), count.upper_bound(risk));
            prop_assert!(low <= count.positive as f64 / trials as f64 && count.positive as f64 / trials as f64 <= high);
            if count.positive > 0 {
                let law = Beta { a: count.positive as f64, b: (trials - count.positive) as f64 + 1.0 };
                prop_assert!((beta_tail(law, low, 1.0 - low) / risk - 1.0).abs() < 1e-6);
            }
        }

        #[test]
        fn p_values_rise_with_epsilon_and_delta(correct in 0_u64..300, epsilon in 0.0..5.0_f64, delta in 0.0..1e-3_f64) {
            let run = OneRun { canaries: 1000, guesses: 300, correct };
            let p = run.p_value(epsilon, delta);
            prop_assert!(p <= run.p_value(epsilon + 0.1, 0.0) * (1.0 + 1e-12) + 2e3 * delta);
            prop_assert!(p >= run.p_value(epsilon, 0.0) && (0.0..=1.0).contains(&p));
        }
    }
}
