//! The Skellam sampler, `docs/protocol.md` §10.1.
//!
//! A Skellam variable of variance mu is the difference of two Poisson variables of mean mu/2. Sums
//! of independent ones are Skellam again, which is why each client can add a share of the noise.
//!
//! **Method.** Inversion of the law of |X|, tabulated in 127-bit fixed point, and a sign. The law
//! is `Pr[X = k] = e^-mu I_k(mu)`, where the Bessel functions obey `I_{k-1} = I_{k+1} + (2k/mu) I_k`.
//! Run toward zero this recurrence only adds positive terms; it starts past the tail and is
//! normalised by its sum (Miller's method). Everything, the table included, is integer arithmetic:
//! all platforms draw the same noise from the same seed.
//!
//! **Distance from the exact law**, in total variation and per draw, at most 2^-100: 2^-125 a step
//! of the recurrence (at most 2^18 steps, each exact to 2^-127 of its value), 2^-125 an entry of the
//! table (at most 2^17), and less than 2^-120 for what lies beyond 16 standard deviations. Charge
//! [`SkellamSampler::distance`] times the number of coordinates to delta.
//!
//! What a local observer sees: `inversion.rs`.

use alloc::vec::Vec;
use core::fmt;

use thiserror::Error;

use super::inversion::SymmetricTable;
use super::staircase::{self, Law, StaircaseSampler};
use super::wide::Limbs;
use crate::primitives::prg::{NoiseSeed, NoiseStream};
use crate::update::NoiseVector;

/// The largest variance of one table: 8,192 squared, a table of 2 MiB.
const MAX_TABLE_VARIANCE: u64 = 1 << 26;

/// Up to here samples are sums of up to 64 draws from one table; beyond, they come from a staircase.
const MAX_SUMMED_VARIANCE: u64 = staircase::SMALLEST_SKELLAM;

/// The largest variance.
pub const MAX_VARIANCE: u64 = staircase::LARGEST;

/// Variances are zero, or above 2^-32.
const SMALLEST_SHIFT: u32 = 32;

/// Why there is no sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SkellamError {
    /// No table is made for it.
    #[error(
        "a noise variance of zero, or above 2^-32 and up to 2^60 was expected, {numerator}/{denominator} came; choose another scale"
    )]
    Variance {
        /// Of the variance asked for.
        numerator: u64,
        /// Of the variance asked for.
        denominator: u64,
    },
}

/// A variance in squared integer units, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variance {
    /// Dividend.
    pub numerator: u64,
    /// Divisor, not zero.
    pub denominator: u64,
}

/// Draws from one Skellam law. Holds nothing secret.
#[derive(Clone)]
pub struct SkellamSampler(Way);

#[derive(Clone)]
enum Way {
    /// So many draws are added up to one sample; zero for no noise.
    Summed { table: SymmetricTable, pieces: u64 },
    /// For variances whose tables would be too many.
    Staircase(StaircaseSampler),
}

impl SkellamSampler {
    /// Prepares to draw with this variance. Takes 1 ms for a variance of 40,000, 60 ms for 2^26, and less than a second above
    /// 2^32.
    ///
    /// # Errors
    /// [`SkellamError::Variance`] above [`MAX_VARIANCE`].
    pub fn new(variance: u64) -> Result<Self, SkellamError> {
        Self::with_variance(Variance { numerator: variance, denominator: 1 })
    }

    /// The same for any rational variance.
    ///
    /// # Errors
    /// [`SkellamError::Variance`] above [`MAX_VARIANCE`], at 2^-32 and below unless it is zero, and if the denominator is zero.
    pub fn with_variance(variance: Variance) -> Result<Self, SkellamError> {
        let Variance { numerator, denominator } = variance;
        if denominator == 0
            || numerator.div_ceil(denominator) > MAX_VARIANCE
            || (numerator > 0 && denominator >> SMALLEST_SHIFT >= numerator)
        {
            return Err(SkellamError::Variance { numerator, denominator });
        }
        if numerator == 0 {
            return Ok(Self(Way::Summed { table: SymmetricTable::silent(), pieces: 0 }));
        }
        let whole = numerator.div_ceil(denominator);
        if whole > MAX_SUMMED_VARIANCE {
            return Ok(Self(Way::Staircase(StaircaseSampler::new(Law::Skellam, numerator, denominator))));
        }
        let pieces = whole.div_ceil(MAX_TABLE_VARIANCE);
        // where there are several, the numerator is 2^26 times the denominator at least: the product fits
        let weights = bessel_weights(numerator, denominator * pieces);
        Ok(Self(Way::Summed { table: SymmetricTable::from_weights(&weights), pieces }))
    }

    /// One sample. Up to a variance of 2^32 it takes two words of the stream for every 2^26 of variance; beyond, its time says
    /// how many candidates it took: take [`SkellamSampler::noise`] for what is secret.
    #[inline]
    pub fn sample(&self, stream: &mut NoiseStream) -> i64 {
        match &self.0 {
            Way::Summed { table, pieces } => (0..*pieces).map(|_| table.draw(stream)).sum(),
            Way::Staircase(staircase) => staircase.sample(stream),
        }
    }

    /// The noise of one client, in coordinate order. The same seed gives the same noise.
    pub fn noise(&self, seed: NoiseSeed, len: usize) -> NoiseVector {
        if let Way::Staircase(staircase) = &self.0 {
            return staircase.noise(seed, len);
        }
        let mut stream = seed.into_stream();
        NoiseVector::new((0..len).map(|_| self.sample(&mut stream)).collect())
    }

    /// Bound on the total variation distance of one sample from the exact law: add this times the
    /// number of coordinates and rounds to delta.
    pub fn distance(&self) -> f64 {
        let draws = match &self.0 {
            Way::Summed { pieces, .. } => *pieces,
            Way::Staircase(_) => 1,
        };
        draws as f64 * f64::from_bits((1023 - 100) << 52) // 2^-100 each
    }

    /// `Pr[X = k]` as the table has it; `None` where no table has the whole law.
    pub fn probability(&self, k: i64) -> Option<f64> {
        match &self.0 {
            Way::Summed { pieces: 0, .. } => Some(if k == 0 { 1.0 } else { 0.0 }),
            Way::Summed { table, pieces: 1 } => Some(table.probability(k)),
            _ => None,
        }
    }

    /// The largest magnitude that is drawn, where one table has the whole law.
    pub fn largest(&self) -> Option<u64> {
        match &self.0 {
            Way::Summed { pieces: 0, .. } => Some(0),
            Way::Summed { table, pieces: 1 } => Some(table.largest()),
            _ => None,
        }
    }
}

impl fmt::Debug for SkellamSampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkellamSampler").finish_non_exhaustive()
    }
}

/// `I_k(mu)` for k = 0, 1, … up to a common factor, by the recurrence run toward zero.
///
/// Running values stay within 192 bits: where one grows beyond, all are divided by 2^64.
fn bessel_weights(numerator: u64, divisor: u64) -> Vec<Limbs> {
    let deviation = numerator.div_ceil(divisor).isqrt() + 1;
    let last = 16 * deviation + 40; // beyond it lies less than 2^-120, also where mu is small
    let mut scaled: Vec<(Limbs, u32)> = Vec::with_capacity(last as usize + 1); // from `last` to 0
    let (mut above, mut here, mut scale) = (Limbs::default(), Limbs([0, 0, 1, 0]), 0_u32);
    scaled.push((here, scale));
    for k in (1..=last).rev() {
        // here < 2^192, 2 k divisor / numerator < 2^19 2^32
        let mut below = here.times_over(u128::from(2 * k) * u128::from(divisor), numerator).plus(&above);
        if below.0[3] != 0 {
            below = below.without_lowest_limb();
            here = here.without_lowest_limb();
            scale += 1;
        }
        (above, here) = (here, below);
        scaled.push((here, scale));
    }
    let to_last_scale =
        |&(weight, at): &(Limbs, u32)| (at..scale).take(4).fold(weight, |weight, _| weight.without_lowest_limb());
    scaled.iter().rev().map(to_last_scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};
    use std::{format, fs, println};

    struct Bin {
        lowest: f64,
        highest: f64,
        probability: f64,
    }

    fn reference(file: &str) -> String {
        let path = format!("{}/../tests/reference/privacy/{file}", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(&path).expect("the reference tables are in tests/reference")
    }

    fn reference_bins(param: &str) -> Vec<Bin> {
        reference("sampler_pmf_public.csv")
            .lines()
            .map(|line| line.split(',').collect::<Vec<_>>())
            .filter(|row| row[1] == "skellam(variance)" && row[2] == param)
            .map(|row| row[3..].iter().map(|cell| cell.parse().expect("a number")).collect())
            .map(|row: Vec<f64>| Bin { lowest: row[0], highest: row[1], probability: row[2] })
            .collect()
    }

    /// `param` is an exact decimal with one digit after the point.
    fn sampler(param: &str) -> SkellamSampler {
        let tenths: f64 = param.parse::<f64>().expect("a number") * 10.0;
        let variance = Variance { numerator: tenths.round() as u64, denominator: 10 };
        SkellamSampler::with_variance(variance).expect("within the limit")
    }

    fn seed(byte: u8) -> NoiseSeed {
        NoiseSeed::from_bytes([byte; 32])
    }

    const PARAMS: [&str; 5] = ["0.3", "1", "4.7", "25", "1000.3"];

    /// The table itself, before any randomness.
    #[test]
    fn tabulated_probabilities_equal_the_reference_to_f64() {
        for param in PARAMS {
            let sampler = sampler(param);
            let end = sampler.largest().expect("one table") as f64;
            for Bin { lowest, highest, probability } in reference_bins(param) {
                let bin = lowest.max(-end) as i64..=highest.min(end) as i64;
                let got: f64 = bin.map(|k| sampler.probability(k).expect("one table")).sum();
                assert!((got - probability).abs() < 1e-13 * probability, "{param}: {lowest}..{highest}: {got}");
            }
        }
    }

    #[test]
    fn draws_follow_the_reference_law() {
        const DRAWS: usize = 500_000; // for each of the five laws
        for (byte, param) in PARAMS.into_iter().enumerate() {
            let mut samples = sampler(param).noise(seed(byte as u8), DRAWS).values().to_vec();
            samples.sort_unstable();
            let below = |x: f64| samples.partition_point(|&sample| (sample as f64) < x);
            let (mut chi_squared, mut bins) = (0.0, 0);
            let (mut expected, mut seen) = (0.0, 0.0);
            let all = reference_bins(param);
            let last = all.len() - 1;
            for (i, Bin { lowest, highest, probability }) in all.into_iter().enumerate() {
                expected += probability * DRAWS as f64;
                seen += (below(highest + 1.0) - below(lowest)) as f64;
                if expected >= 20.0 || i == last {
                    chi_squared += (seen - expected) * (seen - expected) / expected.max(1e-9);
                    bins += 1;
                    (expected, seen) = (0.0, 0.0);
                }
            }
            // Wilson and Hilferty: p = 1e-6 is 4.753 standard deviations of the cube root.
            let freedom = f64::from(bins - 1);
            let spread = 2.0 / (9.0 * freedom);
            let limit = freedom * (1.0 - spread + 4.753 * spread.sqrt()).powi(3);
            println!("variance {param}: chi-squared {chi_squared:.1} in {bins} bins, {limit:.1}");
            assert!(chi_squared < limit, "variance {param}: {chi_squared} in {bins} bins");
        }
    }

    #[test]
    fn moments_are_those_of_the_law_also_above_one_table() {
        let wide = [(4, MAX_SUMMED_VARIANCE + 1), (5, 2_882_302_641_352_831), (6, MAX_VARIANCE)];
        for (byte, variance) in
            [(1, 39_600_u64), (2, 1_000_000), (3, MAX_TABLE_VARIANCE * 2 + 1)].into_iter().chain(wide)
        {
            let draws = 200_000;
            let sampler = SkellamSampler::new(variance).expect("within the limit");
            let noise = sampler.noise(seed(byte), draws);
            let count = draws as f64;
            let power = |p: i32| noise.values().iter().map(|&x| (x as f64).powi(p)).sum::<f64>() / count;
            let deviation = (variance as f64).sqrt();
            assert!(power(1).abs() < 5.0 * deviation / count.sqrt());
            let relative = power(2) / variance as f64 - 1.0;
            assert!(relative.abs() < 5.0 * (2.0 / count).sqrt(), "{variance}: {relative}");
            let kurtosis = power(4) / (variance as f64).powi(2);
            assert!((kurtosis - 3.0).abs() < 5.0 * (96.0 / count).sqrt(), "{variance}: {kurtosis}");
        }
    }

    /// Computed with 70 digits (mpmath) and OpenSSL's AES-256, in other code.
    #[test]
    fn known_seeds_give_known_noise_on_every_platform() {
        let draw = |variance, byte| {
            let sampler = SkellamSampler::new(variance).expect("within the limit");
            sampler.noise(seed(byte), 16).values().to_vec()
        };
        assert_eq!(draw(25, 1), [2, 0, 6, -6, -3, 7, 0, 1, -4, -3, -10, -4, 0, 2, 5, 4]);
        assert_eq!(draw(39_600, 2), KNOWN_39_600);
    }

    const KNOWN_39_600: [i64; 16] =
        [-148, 86, -153, 213, -160, 78, -134, 192, 242, -297, 233, -102, 116, -272, 296, -89];

    #[test]
    fn no_variance_gives_no_noise_and_too_much_is_refused() {
        let silent = SkellamSampler::new(0).expect("within the limit");
        assert_eq!(silent.noise(seed(1), 3).values(), [0, 0, 0]);
        assert!(SkellamSampler::new(MAX_VARIANCE).is_ok());
        let refused = SkellamSampler::new(MAX_VARIANCE + 1).expect_err("too large");
        assert!(refused.to_string().contains("1152921504606846977/1"));
        let nonsense = Variance { numerator: 1, denominator: 0 };
        assert!(SkellamSampler::with_variance(nonsense).is_err());
        for (numerator, denominator, fine) in
            [(1, (1 << 32) - 1, true), (1, 1 << 32, false), (u64::MAX, u64::MAX, true)]
        {
            let sampler = SkellamSampler::with_variance(Variance { numerator, denominator });
            assert_eq!(sampler.is_ok(), fine, "{numerator}/{denominator}");
        }
    }
}
