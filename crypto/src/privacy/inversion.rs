//! Sampling by inversion of a table, in 127-bit fixed point, in constant work.
//!
//! In come weights, as 256-bit integers up to a common factor; out goes a table of cumulative probabilities rounded down to
//! multiples of 2^-127, from which [`SymmetricTable::draw`] reads one variate with two words of a keystream. Every entry is
//! within 2^-125 of the exact quotient of the weights' sums. [`super::skellam`] and [`super::discrete_gaussian_sampler`] make
//! the weights, and say how far these are from their laws.
//!
//! **What a local observer sees.** Each draw takes the same number of words and of search steps, without branches on secrets
//! in the source. The addresses read depend on the value drawn: an observer who shares the processor's caches may learn about
//! it. Draw before the data are read.

use alloc::vec::Vec;
use core::hint;

use super::wide::Limbs;
use crate::primitives::prg::NoiseStream;

/// Larger than every 127-bit number: fills the table up.
const BEYOND: u128 = 1 << 127;

/// The law of X with `Pr[X = k] = Pr[X = -k]`, by magnitude.
#[derive(Clone)]
pub(crate) struct SymmetricTable {
    /// `floor(2^127 Pr[|X| <= k])` for k = 0, 1, …; then [`BEYOND`] up to a power of two.
    cumulative: Vec<u128>,
}

impl SymmetricTable {
    /// Nothing but zero.
    pub(crate) fn silent() -> Self {
        Self { cumulative: alloc::vec![BEYOND] }
    }

    /// From weights of 0, 1, …, of which the largest is at least 2^128 and all together less than 2^254. Weights beyond count
    /// as zero.
    pub(crate) fn from_weights(weights: &[Limbs]) -> Self {
        let both_signs = |(k, weight): (usize, &Limbs)| if k == 0 { *weight } else { weight.plus(weight) };
        Self::from_weights_of_magnitudes(weights.iter().enumerate().map(both_signs))
    }

    /// From weights of magnitudes, both signs together.
    pub(crate) fn from_weights_of_magnitudes(weights: impl Iterator<Item = Limbs>) -> Self {
        // Pr[|X| <= k] is the k-th of these sums over the last.
        let mut sum = Limbs::default();
        let sums: Vec<Limbs> = weights
            .map(|weight| {
                sum = sum.plus(&weight);
                sum
            })
            .collect();
        let spare_bits = sum.bits() - 128; // the sum exceeds 2^128: its largest weight does
        let total = sum.shifted_right(spare_bits);
        let mut cumulative: Vec<u128> = sums
            .iter()
            .map(|sum| fraction_of_2_127(sum.shifted_right(spare_bits), total))
            .take_while(|&cumulative| cumulative < BEYOND)
            .collect();
        cumulative.push(BEYOND); // the value whose cumulative probability rounds to one
        cumulative.resize(cumulative.len().next_power_of_two(), BEYOND);
        Self { cumulative }
    }

    /// One variate.
    #[inline]
    pub(crate) fn draw(&self, stream: &mut NoiseStream) -> i64 {
        let (magnitude, sign) = self.choose(stream);
        (magnitude as i64 ^ -sign) + sign // two's complement: -m = !m + 1
    }

    /// A magnitude, and a sign that is 0 or 1. Low word first: bit 0 is the sign, the other 127 bits choose the magnitude.
    #[inline]
    pub(crate) fn choose(&self, stream: &mut NoiseStream) -> (usize, i64) {
        let low = u128::from(stream.next_u64());
        let random = low | u128::from(stream.next_u64()) << 64;
        let (sign, uniform) = ((random & 1) as i64, random >> 1);
        let mut magnitude = 0;
        let mut half = self.cumulative.len() / 2;
        while half > 0 {
            // Both are at most 2^127: the top bit of the difference says which is larger.
            let difference = uniform.wrapping_sub(self.cumulative[magnitude + half - 1]);
            let below = hint::black_box((difference >> 127) as usize); // else it becomes a branch
            magnitude += half & below.wrapping_sub(1); // half where the entry is reached, else 0
            half /= 2;
        }
        (magnitude, sign)
    }

    /// The largest magnitude that is ever drawn.
    pub(crate) fn largest(&self) -> u64 {
        self.cumulative.iter().take_while(|&&cumulative| cumulative < BEYOND).count() as u64
    }

    /// `Pr[X = k]` as the table has it.
    pub(crate) fn probability(&self, k: i64) -> f64 {
        let at = |k: u64| self.cumulative.get(k as usize).copied().unwrap_or(BEYOND);
        match k.unsigned_abs() {
            0 => to_f64(at(0)),
            magnitude => to_f64(at(magnitude) - at(magnitude - 1)) / 2.0,
        }
    }
}

/// `part / 2^127`.
fn to_f64(part: u128) -> f64 {
    part as f64 / f64::from_bits((1023 + 127) << 52)
}

/// `floor(2^127 part / whole)` for `part <= whole`, by long division.
fn fraction_of_2_127(part: u128, whole: u128) -> u128 {
    if part >= whole {
        return 1 << 127;
    }
    let (mut rest, mut quotient) = (part, 0_u128);
    for _ in 0..127 {
        let leaves_128_bits = rest >> 127 == 1;
        rest <<= 1;
        quotient <<= 1;
        if leaves_128_bits || rest >= whole {
            rest = rest.wrapping_sub(whole);
            quotient |= 1;
        }
    }
    quotient
}
