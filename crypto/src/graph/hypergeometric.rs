//! Tails of the hypergeometric law in logarithms, for `docs/protocol.md` §3.2.
//!
//! A difference of log-factorials of a million loses nine digits before it starts. Loader's
//! saddle-point form ("Fast and accurate computation of binomial probabilities", 2000) adds small
//! deviances instead; the error stays below 1e-10 in log2 up to a million clients, against 1e-6
//! that the reference tables need.

use libm::{exp, log, log1p};

/// `X`: how many of `drawn` clients are marked, when `marked` of `population` are.
pub(super) struct Hypergeometric {
    population: u32,
    marked: u32,
    drawn: u32,
}

/// Which end of the law a tail reaches to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// `Pr[X <= x]`.
    Lower,
    /// `Pr[X >= x]`.
    Upper,
}

impl Hypergeometric {
    /// Both `marked` and `drawn` are at most `population`, and `drawn` is less.
    pub(super) fn new(population: u32, marked: u32, drawn: u32) -> Self {
        debug_assert!(marked <= population && drawn < population);
        Self { population, marked, drawn }
    }

    fn unmarked(&self) -> u32 {
        self.population - self.marked
    }

    fn lowest(&self) -> u32 {
        self.drawn.saturating_sub(self.unmarked())
    }

    fn highest(&self) -> u32 {
        self.marked.min(self.drawn)
    }

    fn mode(&self) -> u32 {
        let product = (u64::from(self.drawn) + 1) * (u64::from(self.marked) + 1);
        (product / (u64::from(self.population) + 2)) as u32 // at most `drawn`
    }

    /// `ln Pr[X = x]`.
    pub(super) fn ln_pmf(&self, x: u32) -> f64 {
        if x < self.lowest() || x > self.highest() {
            return f64::NEG_INFINITY;
        }
        let p = f64::from(self.drawn) / f64::from(self.population);
        let q = f64::from(self.population - self.drawn) / f64::from(self.population);
        ln_binomial(x, self.marked, p, q) + ln_binomial(self.drawn - x, self.unmarked(), p, q)
            - ln_binomial(self.drawn, self.population, p, q)
    }

    /// `ln Pr[X <= x]` or `ln Pr[X >= x]`.
    pub(super) fn ln_tail(&self, side: Side, x: u32) -> f64 {
        match self.locate(side, x) {
            Place::All => 0.0,
            Place::Nothing => f64::NEG_INFINITY,
            Place::Falling => {
                let mut sum = 1.0;
                for term in self.terms(side, x) {
                    sum += term;
                    if term < sum * 1e-17 {
                        break;
                    }
                }
                self.ln_pmf(x) + log(sum)
            }
            Place::Rising { other_side, neighbour } => log1p(-exp(self.ln_tail(other_side, neighbour))),
        }
    }

    /// Whether the tail is at most `exp(ln_limit)`; stops as soon as that is certain.
    pub(super) fn tail_at_most(&self, side: Side, x: u32, ln_limit: f64) -> bool {
        let Place::Falling = self.locate(side, x) else {
            return self.ln_tail(side, x) <= ln_limit;
        };
        let limit = exp(ln_limit - self.ln_pmf(x)); // in units of Pr[X = x]
        let (mut sum, mut last) = (1.0, 1.0);
        for term in self.terms(side, x) {
            // The ratio of neighbours falls: a geometric series bounds what is still to come.
            let rest = if term < last { term / (1.0 - term / last) } else { f64::INFINITY };
            if sum > limit || sum + rest <= limit {
                break;
            }
            sum += term;
            last = term;
            if term < sum * 1e-17 {
                break;
            }
        }
        sum <= limit
    }

    fn locate(&self, side: Side, x: u32) -> Place {
        let (lowest, highest, mode) = (self.lowest(), self.highest(), self.mode());
        match side {
            Side::Upper if x <= lowest => Place::All,
            Side::Upper if x > highest => Place::Nothing,
            Side::Upper if x >= mode => Place::Falling,
            Side::Upper => Place::Rising { other_side: Side::Lower, neighbour: x - 1 },
            Side::Lower if x >= highest => Place::All,
            Side::Lower if x < lowest => Place::Nothing,
            Side::Lower if x <= mode => Place::Falling,
            Side::Lower => Place::Rising { other_side: Side::Upper, neighbour: x + 1 },
        }
    }

    /// `Pr[X = x ± 1] / Pr[X = x]`, `Pr[X = x ± 2] / Pr[X = x]`, … to the end of the law.
    fn terms(&self, side: Side, x: u32) -> impl Iterator<Item = f64> {
        let (marked, drawn) = (f64::from(self.marked), f64::from(self.drawn));
        let beyond = f64::from(self.unmarked()) - drawn; // plus x: unmarked and not drawn
        let (mut at, mut term) = (f64::from(x), 1.0);
        core::iter::from_fn(move || {
            term *= match side {
                Side::Upper => (marked - at) * (drawn - at) / ((at + 1.0) * (beyond + at + 1.0)),
                Side::Lower => at * (beyond + at) / ((marked - at + 1.0) * (drawn - at + 1.0)),
            };
            at += if side == Side::Upper { 1.0 } else { -1.0 };
            (term > 0.0).then_some(term)
        })
    }
}

/// Where a tail begins.
enum Place {
    All,
    Nothing,
    /// Past the mode: the first term is the largest.
    Falling,
    /// Before the mode: the tail is one less the other tail.
    Rising {
        other_side: Side,
        neighbour: u32,
    },
}

/// ln of the binomial probability of `x` in `n`, with `q = 1 - p`.
fn ln_binomial(x: u32, n: u32, p: f64, q: f64) -> f64 {
    let (successes, trials) = (f64::from(x), f64::from(n));
    if x == 0 {
        return trials * if p < 0.5 { log1p(-p) } else { log(q) };
    }
    if x == n {
        return trials * if p < 0.5 { log(p) } else { log1p(-q) };
    }
    let failures = trials - successes;
    stirling_error(n)
        - stirling_error(x)
        - stirling_error(n - x)
        - deviance(successes, trials * p)
        - deviance(failures, trials * q)
        - 0.5 * (LN_2_PI + log(successes) + log1p(-successes / trials))
}

const LN_2_PI: f64 = 1.837_877_066_409_345_3;

/// `x ln(x / mean) + mean - x`, without cancellation near the mean.
fn deviance(x: f64, mean: f64) -> f64 {
    let distance = x - mean;
    if distance.abs() >= 0.1 * (x + mean) {
        return x * log(x / mean) + mean - x;
    }
    let v = distance / (x + mean);
    let mut sum = distance * v;
    let mut power = 2.0 * x * v;
    let mut odd = 3.0;
    loop {
        power *= v * v;
        let next = sum + power / odd;
        if next == sum {
            return sum;
        }
        sum = next;
        odd += 2.0;
    }
}

/// `ln n!` less Stirling's `(n + 1/2) ln n - n + ln(2 pi) / 2`.
fn stirling_error(n: u32) -> f64 {
    if let Some(&exact) = STIRLING_ERRORS.get(n as usize) {
        return exact;
    }
    let n = f64::from(n);
    let square = n * n;
    (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / 1188.0 / square) / square) / square) / square)
        / n
}

/// The same for 0 (by convention) to 15, where the series is not exact enough; computed to 40
/// digits.
const STIRLING_ERRORS: [f64; 16] = [
    0.0,
    0.081_061_466_795_327_26,
    0.041_340_695_955_409_3,
    0.027_677_925_684_998_34,
    0.020_790_672_103_765_093,
    0.016_644_691_189_821_193,
    0.013_876_128_823_070_748,
    0.011_896_709_945_891_77,
    0.010_411_265_261_972_096,
    0.009_255_462_182_712_733,
    0.008_330_563_433_362_87,
    0.007_573_675_487_951_841,
    0.006_942_840_107_209_53,
    0.006_408_994_188_004_207,
    0.005_951_370_112_758_847_5,
    0.005_554_733_551_962_801,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Exact counts from Pascal's triangle in integers.
    #[test]
    fn every_tail_of_small_laws_equals_the_exact_count() {
        let mut choose = [[0_u64; 41]; 41];
        for n in 0..=40 {
            choose[n][0] = 1;
            for k in 1..=n {
                choose[n][k] = choose[n - 1][k - 1] + choose[n - 1][k];
            }
        }
        for (population, marked, drawn) in
            (1..=40_u32).step_by(3).flat_map(|n| (0..=n).flat_map(move |r| (0..n).map(move |k| (n, r, k))))
        {
            let law = Hypergeometric::new(population, marked, drawn);
            let ways = |x: u32| {
                let rest = drawn.checked_sub(x).filter(|&rest| rest <= population - marked);
                rest.map_or(0, |rest| {
                    choose[marked as usize][x as usize] * choose[(population - marked) as usize][rest as usize]
                })
            };
            let all = choose[population as usize][drawn as usize] as f64;
            for x in 0..=marked.min(drawn) {
                let upper = (x..=marked.min(drawn)).map(ways).sum::<u64>() as f64 / all;
                let lower = (0..=x).map(ways).sum::<u64>() as f64 / all;
                for (side, exact) in [(Side::Upper, upper), (Side::Lower, lower)] {
                    let (tail, exact) = (exp(law.ln_tail(side, x)), exact);
                    assert!((tail - exact).abs() <= 1e-13 * exact, "{population} {marked} {drawn} {x}");
                    if exact > 0.0 {
                        assert!(law.tail_at_most(side, x, log(exact) + 1e-9));
                        assert!(!law.tail_at_most(side, x, log(exact) - 1e-9));
                    }
                }
            }
        }
    }
}
