//! The sampler of the discrete Gaussian: each client's share where a task asks for that noise.
//!
//! `Pr[X = k]` is proportional to `exp(-k^2/(2 sigma^2))`, sigma^2 a fraction. Shares do not add up to a discrete Gaussian:
//! [`super::distributed`] says what their sum hides, and why no round uses a sigma below 2.
//!
//! **Method.** Inversion of the law of |X| (`inversion.rs`). The weights follow from two exponentials by multiplication:
//! `w_{k+1} = w_k r_k`, `r_{k+1} = r_k exp(-1/sigma^2)`, `r_0 = exp(-1/(2 sigma^2))`, all in units of 2^-192. Everything is
//! integer arithmetic: all platforms draw the same noise from the same seed.
//!
//! **Distance from the exact law**, in total variation and per draw, at most 2^-100: exponentials are exact to 2^-170, so that
//! weights are to `k^2 2^-170`, at most 2^-134; the table adds 2^-125 an entry (at most 2^17 entries), and less than 2^-120
//! lies beyond 16 sigma. Above a sigma^2 of 2^26 samples come from a staircase (`staircase.rs`), as near to the law.

use alloc::vec::Vec;
use core::fmt;

use thiserror::Error;

use super::inversion::SymmetricTable;
use super::skellam::Variance;
use super::staircase::{self, Law, StaircaseSampler};
use super::wide::{Limbs, ONE, exp_minus};
use crate::primitives::prg::{NoiseSeed, NoiseStream};
use crate::update::NoiseVector;

/// The largest sigma^2 of a table: 8,192 squared, 2 MiB.
const MAX_TABLE_SIGMA_SQUARED: u64 = 1 << 26;

/// The largest sigma^2.
pub const MAX_SIGMA_SQUARED: u64 = staircase::LARGEST;

/// Why there is no sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DiscreteGaussianError {
    /// Drawing would take too long, or give nothing.
    #[error(
        "a sigma squared above 0 and up to 2^60 was expected, {numerator}/{denominator} came; choose another scale"
    )]
    SigmaSquared {
        /// Of sigma squared.
        numerator: u64,
        /// Of sigma squared.
        denominator: u64,
    },
}

/// Draws from one discrete Gaussian. Holds nothing secret.
#[derive(Clone)]
pub struct DiscreteGaussianSampler(Way);

#[derive(Clone)]
enum Way {
    Table(SymmetricTable),
    /// For laws whose table would be too large.
    Staircase(StaircaseSampler),
}

impl DiscreteGaussianSampler {
    /// Prepares to draw with this sigma squared: the parameter, which for small sigma is not the variance.
    ///
    /// # Errors
    /// [`DiscreteGaussianError::SigmaSquared`] for zero and above [`MAX_SIGMA_SQUARED`].
    pub fn new(sigma_squared: Variance) -> Result<Self, DiscreteGaussianError> {
        let Variance { numerator, denominator } = sigma_squared;
        let valid = denominator > 0 && (1..1 << 63).contains(&numerator);
        if !valid || numerator.div_ceil(denominator) > MAX_SIGMA_SQUARED {
            return Err(DiscreteGaussianError::SigmaSquared { numerator, denominator });
        }
        Ok(Self(if numerator.div_ceil(denominator) > MAX_TABLE_SIGMA_SQUARED {
            Way::Staircase(StaircaseSampler::new(Law::Gaussian, numerator, denominator))
        } else {
            Way::Table(SymmetricTable::from_weights(&gaussian_weights(numerator, denominator)))
        }))
    }

    /// One sample. Up to a sigma squared of 2^26 it takes two words of the stream; beyond, its time says how many candidates it
    /// took: take [`DiscreteGaussianSampler::noise`] for what is secret.
    #[inline]
    pub fn sample(&self, stream: &mut NoiseStream) -> i64 {
        match &self.0 {
            Way::Table(table) => table.draw(stream),
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

    /// Bound on the total variation distance of one sample from the exact law: add this times the number of coordinates and
    /// rounds to delta.
    pub fn distance(&self) -> f64 {
        f64::from_bits((1023 - 100) << 52) // 2^-100
    }

    /// `Pr[X = k]` as the table has it; `None` where no table has the whole law.
    pub fn probability(&self, k: i64) -> Option<f64> {
        match &self.0 {
            Way::Table(table) => Some(table.probability(k)),
            Way::Staircase(_) => None,
        }
    }

    /// The largest magnitude that is drawn, where a table has the whole law.
    pub fn largest(&self) -> Option<u64> {
        match &self.0 {
            Way::Table(table) => Some(table.largest()),
            Way::Staircase(_) => None,
        }
    }
}

impl fmt::Debug for DiscreteGaussianSampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscreteGaussianSampler").finish_non_exhaustive()
    }
}

/// `exp(-k^2 divisor/(2 numerator))` for k = 0, 1, … up to 16 sigma and beyond, in units of 2^-192.
fn gaussian_weights(numerator: u64, divisor: u64) -> Vec<Limbs> {
    let sigma = numerator.div_ceil(divisor).isqrt() + 1;
    let last = 16 * sigma + 40;
    let step = exp_minus(divisor, numerator);
    let (mut weight, mut ratio) = (ONE, exp_minus(divisor, 2 * numerator));
    let mut weights = Vec::with_capacity(last as usize + 1);
    for _ in 0..=last {
        weights.push(weight);
        weight = weight.times_fraction(&ratio);
        ratio = ratio.times_fraction(&step);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::discrete_gaussian::DiscreteGaussian;
    use std::string::ToString;

    fn sampler(numerator: u64, denominator: u64) -> DiscreteGaussianSampler {
        DiscreteGaussianSampler::new(Variance { numerator, denominator }).expect("within the limit")
    }

    fn seed(byte: u8) -> NoiseSeed {
        NoiseSeed::from_bytes([byte; 32])
    }

    /// From sigma 0.2 to the largest, fractions included.
    #[test]
    fn tabulated_probabilities_are_those_of_the_law() {
        for (numerator, denominator) in
            [(1, 25), (1, 4), (49, 100), (4, 1), (16_384, 100), (1_000_003, 7), (MAX_TABLE_SIGMA_SQUARED, 1)]
        {
            let sampler = sampler(numerator, denominator);
            let sigma = libm::sqrt(numerator as f64 / denominator as f64);
            let law = DiscreteGaussian::new(sigma).expect("in range");
            for z in [0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 9.0] {
                let k = libm::round(z * sigma) as i64;
                let (got, expected) = (sampler.probability(-k).expect("a table"), law.probability(k));
                assert!(
                    (got - expected).abs() <= 1e-11 * expected + 1e-37,
                    "{numerator}/{denominator} {k}: {got} {expected}"
                );
            }
            let end = sampler.largest().expect("a table") as i64;
            let all: f64 = (-end..=end).map(|k| sampler.probability(k).expect("a table")).sum();
            assert!((all - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn moments_are_those_of_the_law_not_of_the_parameter() {
        const DRAWS: usize = 400_000;
        for (byte, numerator, denominator, variance) in
            [(1, 1, 4, 0.215_012_675_088_138_5), (2, 1_000_003, 7, 142_857.571)]
        {
            let noise = sampler(numerator, denominator).noise(seed(byte), DRAWS);
            let power = |p: i32| noise.values().iter().map(|&x| (x as f64).powi(p)).sum::<f64>() / DRAWS as f64;
            let relative = power(2) / variance - 1.0;
            let spread = (power(4) / (variance * variance) - 1.0) / DRAWS as f64;
            assert!(relative.abs() < 5.0 * spread.sqrt(), "{numerator}/{denominator}: {relative}");
            assert!(power(1).abs() < 5.0 * (variance / DRAWS as f64).sqrt());
        }
    }

    /// Computed with 70 digits (mpmath) and OpenSSL's AES-256, in other code.
    #[test]
    fn known_seeds_give_known_noise_on_every_platform() {
        assert_eq!(sampler(25, 4).noise(seed(1), 16).values(), KNOWN_2_5);
        assert_eq!(sampler(1_000_003, 7).noise(seed(2), 16).values(), KNOWN_378);
    }

    const KNOWN_2_5: [i64; 16] = [1, 0, 3, -3, -2, 4, 0, 1, -2, -2, -5, -2, 0, 1, 3, 2];
    const KNOWN_378: [i64; 16] =
        [-281, 163, -290, 405, -304, 148, -254, 365, 460, -565, 442, -194, 219, -516, 563, -169];

    #[test]
    fn no_parameter_and_too_much_are_refused() {
        for (numerator, denominator) in [(0, 1), (1, 0), (MAX_SIGMA_SQUARED + 1, 1), (u64::MAX, u64::MAX)] {
            let refused = DiscreteGaussianSampler::new(Variance { numerator, denominator }).expect_err("out of range");
            assert!(refused.to_string().contains("2^60"));
        }
        assert_eq!(sampler(1, u64::MAX).noise(seed(1), 3).values(), [0, 0, 0]);
    }
}
