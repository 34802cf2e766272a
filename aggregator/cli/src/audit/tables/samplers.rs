//! Tables of laws that samplers follow: compared with the law that the shipped sampler's own table has, and with draws from
//! fresh seeds. No Poisson sampler is shipped: its rows are compared with the law alone.
//!
//! A row whose probability is off by more than 1e-9 is found in the law at once; a sampler that does not draw by its table is
//! found by chi-squared (rejected below p = 1e-6) or by its moments (further than 6 standard errors).

use std::collections::BTreeMap;

use indicatif::ProgressBar;
use rand_core::UnwrapErr;
use veilsum_crypto::primitives::prg::{NoiseSeed, NoiseStream};
use veilsum_crypto::privacy::discrete_gaussian_sampler::DiscreteGaussianSampler;
use veilsum_crypto::privacy::skellam::{SkellamSampler, Variance};

use super::check::{Check, Malformed, Outcome, Tolerance};
use super::csv::Table;

/// Draws for each law.
const DRAWS: usize = 2_000_000;

/// Of a probability or a moment.
const LAW: Tolerance = Tolerance::Relative(1e-9);

/// Of a mean, which is zero, or of what lies that near to it.
const NEAR_ZERO: Tolerance = Tolerance::Absolute(1e-9);

/// Bins are merged until so many draws are expected in them.
const LEAST_EXPECTED: f64 = 20.0;

/// One law of a table.
enum Law {
    Skellam(SkellamSampler),
    Gaussian(DiscreteGaussianSampler),
    Poisson(f64),
}

impl Law {
    /// `distribution` and `param` of a row.
    fn read(distribution: &str, param: &str) -> Result<Self, Malformed> {
        let refused = |why: String| Malformed(format!("param: {why}"));
        let decimal = exact_decimal(param).ok_or_else(|| refused(format!("{param:?} is no short decimal")));
        match distribution {
            "skellam(variance)" => {
                let (numerator, denominator) = decimal?;
                let sampler = SkellamSampler::with_variance(Variance { numerator, denominator });
                sampler.map(Self::Skellam).map_err(|error| refused(error.to_string()))
            }
            "discrete_gaussian(sigma)" => {
                let (numerator, denominator) = decimal?;
                let squares = numerator.checked_mul(numerator).zip(denominator.checked_mul(denominator));
                let (numerator, denominator) = squares.ok_or_else(|| refused(format!("{param} is too long")))?;
                let sampler = DiscreteGaussianSampler::new(Variance { numerator, denominator });
                sampler.map(Self::Gaussian).map_err(|error| refused(error.to_string()))
            }
            "poisson(lambda)" => {
                let (numerator, denominator) = decimal?;
                let mean = numerator as f64 / denominator as f64;
                if mean <= 1e6 { Ok(Self::Poisson(mean)) } else { Err(refused(format!("{param} is too large"))) }
            }
            other => Err(Malformed(format!("distribution: {other:?} is none of this program's"))),
        }
    }

    /// All integers that the law reaches, with their probabilities; `None` where the sampler adds several draws up.
    fn probabilities(&self) -> Option<Vec<(i64, f64)>> {
        match self {
            Self::Skellam(sampler) => {
                let end = sampler.largest()? as i64;
                (-end..=end).map(|k| Some((k, sampler.probability(k)?))).collect()
            }
            Self::Gaussian(sampler) => {
                let end = sampler.largest()? as i64;
                (-end..=end).map(|k| Some((k, sampler.probability(k)?))).collect()
            }
            Self::Poisson(mean) => {
                let end = (mean + 40.0 * mean.sqrt() + 60.0) as i64;
                let mut ln_factorial = 0.0;
                Some(
                    (0..=end)
                        .map(|k| {
                            ln_factorial += if k > 0 { (k as f64).ln() } else { 0.0 };
                            let ln_power = if k == 0 { 0.0 } else { k as f64 * mean.ln() };
                            (k, (ln_power - mean - ln_factorial).exp())
                        })
                        .collect(),
                )
            }
        }
    }

    /// Draws from a fresh seed, sorted; `None` where nothing is shipped that draws.
    fn draw(&self) -> Option<Vec<i64>> {
        let mut stream = NoiseSeed::generate(&mut UnwrapErr(getrandom::SysRng)).into_stream();
        let mut draws = |sample: &dyn Fn(&mut NoiseStream) -> i64| (0..DRAWS).map(|_| sample(&mut stream)).collect();
        let mut samples: Vec<i64> = match self {
            Self::Skellam(sampler) => draws(&|stream| sampler.sample(stream)),
            Self::Gaussian(sampler) => draws(&|stream| sampler.sample(stream)),
            Self::Poisson(_) => return None,
        };
        samples.sort_unstable();
        Some(samples)
    }
}

/// `12.8` is 128/10, not negative.
fn exact_decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| plain)?, 10_u64.checked_pow(fraction.len().try_into().ok()?)?))
}

/// A law of the table, and the rows that speak of it.
struct Group {
    law: Result<Law, Malformed>,
    rows: Vec<usize>,
}

fn groups(table: &Table) -> Vec<Group> {
    let column = |name: &str| table.header.iter().position(|header| header == name);
    let cell =
        |row: usize, name: &str| column(name).and_then(|at| table.rows[row].cells.get(at)).map_or("", String::as_str);
    let mut by_law: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for row in 0..table.rows.len() {
        by_law.entry((cell(row, "distribution"), cell(row, "param"))).or_default().push(row);
    }
    let group = |((distribution, param), rows)| Group { law: Law::read(distribution, param), rows };
    by_law.into_iter().map(group).collect()
}

/// `sampler_pmf`: bins that are a partition of the integers, with their probabilities.
pub fn sampler_pmf(table: &Table, bar: &ProgressBar) -> Vec<Outcome> {
    let mut outcomes = BTreeMap::new();
    for group in groups(table) {
        let law = group.law.as_ref();
        let probabilities = law.ok().and_then(Law::probabilities);
        let mut bins = Vec::new();
        let mut next = None; // where the next bin begins
        for &at in &group.rows {
            let outcome = Check::row_with(&table.header, &table.rows[at], |check| {
                law.map_err(|Malformed(why)| Malformed(why.clone()))?;
                let bin = Bin::read(check)?;
                if next.is_some_and(|next| next != bin.low) || (next.is_none() && bin.low > 0) {
                    return Err(Malformed(format!("lo: {} does not follow the bin before", bin.low)));
                }
                next = Some(bin.high.saturating_add(1));
                if let Some(probabilities) = &probabilities {
                    let inside = |&&(k, _): &&(i64, f64)| (bin.low..=bin.high).contains(&k);
                    // small ones first
                    let mut inside: Vec<f64> = probabilities.iter().filter(inside).map(|&(_, p)| p).collect();
                    inside.sort_by(f64::total_cmp);
                    check.near("prob", LAW, inside.iter().sum())?;
                } else {
                    check.sampled();
                }
                bins.push((at, bin));
                Ok(())
            });
            outcomes.insert(at, outcome);
            bar.inc(1);
        }
        let Some(&last) = group.rows.last() else { continue };
        if next.is_some_and(|next| next != i64::MAX) {
            fail(&mut outcomes, last, "hi: the last bin of a law ends at inf");
        }
        if let Some(samples) = law.ok().and_then(Law::draw)
            && let Some((at, why)) = chi_squared(&bins, &samples)
        {
            fail(&mut outcomes, at, &why);
        }
    }
    outcomes.into_values().collect()
}

fn fail(outcomes: &mut BTreeMap<usize, Outcome>, at: usize, why: &str) {
    if let Some(outcome) = outcomes.get_mut(&at) {
        outcome.failures.push(why.to_string());
    }
}

/// Integers from `low` to `high`; the ends of `i64` stand for infinity.
#[derive(Clone, Copy)]
struct Bin {
    low: i64,
    high: i64,
    probability: f64,
}

impl Bin {
    fn read(check: &Check<'_>) -> Result<Self, Malformed> {
        let low = if check.text("lo")? == "-inf" { i64::MIN } else { check.parsed("lo")? };
        let high = if check.text("hi")? == "inf" { i64::MAX } else { check.parsed("hi")? };
        let probability = check.number("prob")?;
        if high < low || !(0.0..=1.0).contains(&probability) {
            return Err(Malformed(format!("{low}..{high} with probability {probability} is no bin")));
        }
        Ok(Self { low, high, probability })
    }
}

/// Pearson's statistic over bins merged to at least twenty expected draws. If it is too large: the row that stands out most,
/// and why.
fn chi_squared(bins: &[(usize, Bin)], sorted: &[i64]) -> Option<(usize, String)> {
    let (mut statistic, mut merged) = (0.0, 0);
    let (mut worst, mut worst_row) = (0.0, 0);
    let (mut expected, mut seen, mut first) = (0.0, 0.0, None);
    for (i, &(at, bin)) in bins.iter().enumerate() {
        let first_row = *first.get_or_insert(at);
        expected += bin.probability * sorted.len() as f64;
        seen += (sorted.partition_point(|&k| k <= bin.high) - sorted.partition_point(|&k| k < bin.low)) as f64;
        if expected >= LEAST_EXPECTED || i + 1 == bins.len() {
            let part = (seen - expected) * (seen - expected) / f64::max(expected, 1e-9);
            (statistic, merged) = (statistic + part, merged + 1);
            if part > worst {
                (worst, worst_row) = (part, first_row);
            }
            (expected, seen, first) = (0.0, 0.0, None);
        }
    }
    // Wilson and Hilferty: p = 1e-6 is 4.753 standard deviations of the cube root
    let freedom = f64::max(f64::from(merged) - 1.0, 1.0);
    let spread = 2.0 / (9.0 * freedom);
    let limit = freedom * (1.0 - spread + 4.753 * spread.sqrt()).powi(3);
    (statistic > limit).then(|| {
        let why = format!("chi-squared {statistic:.1} over {merged} bins of this law, at most {limit:.1} expected");
        (worst_row, why)
    })
}

/// `sampler_moments`: moments and a few probabilities of whole laws.
pub fn sampler_moments(table: &Table, bar: &ProgressBar) -> Vec<Outcome> {
    let mut outcomes = BTreeMap::new();
    for group in groups(table) {
        for &at in &group.rows {
            let outcome = Check::row_with(&table.header, &table.rows[at], |check| {
                let law = group.law.as_ref().map_err(|Malformed(why)| Malformed(why.clone()))?;
                if let Some(probabilities) = law.probabilities() {
                    check_law(check, &probabilities)?;
                }
                law.draw().map_or(Ok(()), |samples| check_samples(check, &samples))
            });
            outcomes.insert(at, outcome);
            bar.inc(1);
        }
    }
    outcomes.into_values().collect()
}

/// A random variable's law in so many numbers.
struct Summary {
    mean: f64,
    /// Central moments 2, 4 and 8.
    central: [f64; 3],
    zero: f64,
    odd: f64,
    far: f64,
}

/// `nine_variances`: where an integer lies exactly three standard deviations off, the row's own variance decides.
fn summary(weighted: &[(i64, f64)], row_mean: f64, nine_variances: f64) -> Summary {
    let sum = |f: &dyn Fn(f64) -> f64| weighted.iter().map(|&(k, p)| p * f(k as f64)).sum::<f64>();
    let mean = sum(&|k| k);
    let central = [2, 4, 8].map(|power| sum(&|k| (k - mean).powi(power)));
    Summary {
        mean,
        central,
        zero: sum(&|k| f64::from(k == 0.0)),
        odd: sum(&|k| f64::from(k.rem_euclid(2.0) == 1.0)),
        far: sum(&|k| f64::from((k - row_mean) * (k - row_mean) > nine_variances)),
    }
}

fn check_law(check: &mut Check<'_>, probabilities: &[(i64, f64)]) -> Result<(), Malformed> {
    let law = summary(probabilities, check.number("mean")?, 9.0 * check.positive("variance")?);
    let symmetric = law.mean.abs() < 1e-12 * law.central[0].sqrt();
    check.near("mean", if symmetric { NEAR_ZERO } else { LAW }, law.mean)?;
    check.near("variance", LAW, law.central[0])?;
    check.near("fourth_central_moment", LAW, law.central[1])?;
    check.near("prob_zero", LAW, law.zero)?;
    check.near("prob_odd", LAW, law.odd)?;
    check.near("prob_abs_dev_gt_3sd", LAW, law.far)?;
    let entropy = |&(_, p): &(i64, f64)| if p > 0.0 { -p * p.log2() } else { 0.0 };
    check.near("entropy_bits", LAW, probabilities.iter().map(entropy).sum())
}

/// How many standard errors a sampled figure may be off.
const STANDARD_ERRORS: f64 = 6.0;

fn check_samples(check: &mut Check<'_>, samples: &[i64]) -> Result<(), Malformed> {
    let each = 1.0 / samples.len() as f64;
    let weighted: Vec<(i64, f64)> = samples.iter().map(|&k| (k, each)).collect();
    let (variance, fourth) = (check.positive("variance")?, check.positive("fourth_central_moment")?);
    let seen = summary(&weighted, check.number("mean")?, 9.0 * variance);
    let spread = |square: f64| STANDARD_ERRORS * (square * each).sqrt() + 1e-12;
    let of_probability = |p: f64| spread((p * (1.0 - p)).max(each));
    let figures = [
        ("mean", seen.mean, spread(variance)),
        ("variance", seen.central[0], spread(fourth - variance * variance)),
        ("fourth_central_moment", seen.central[1], spread(seen.central[2])),
        ("prob_zero", seen.zero, of_probability(seen.zero)),
        ("prob_odd", seen.odd, of_probability(seen.odd)),
        ("prob_abs_dev_gt_3sd", seen.far, of_probability(seen.far)),
    ];
    for (column, got, allowed) in figures {
        check.statistic(column, allowed, got)?;
    }
    Ok(())
}
