//! Quantization and its inverse, side by side, `docs/protocol.md` §6.2.
//!
//! `z_i = floor(y_i) + Bernoulli(y_i - floor(y_i))` with `y = scale x`, repeated until
//! `sum z_i^2 <= max_squared_norm` in exact integers (conditional stochastic rounding, Kairouz, Liu
//! and Steinke 2021). Whatever map leads into that ball is private: the check is all that counts.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Clipped, NoiseVector, Noised, UpdateError};
use crate::math::ring::RingVector;
use crate::primitives::prg::{NoiseSeed, NoiseStream};

/// Roundings tried before truncating. At the default bound one fails with probability at most 0.61.
const MAX_TRIES: usize = 64;

/// How real numbers become integers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantizer {
    /// Integer steps per unit of the model.
    pub scale: f64,
    /// The largest squared L2 norm of the integers.
    pub max_squared_norm: u64,
}

/// Integers of squared norm at most `max_squared_norm`, exactly. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Quantized(Vec<i64>);

impl Clipped {
    /// Rounds at random until the integers are short enough, at most 64 times, then toward zero;
    /// where even that is too long the result is zero.
    ///
    /// The number of tries depends on the data a little: upload at a scheduled time.
    pub fn quantize(self, quantizer: &Quantizer, rng: &mut impl CryptoRng) -> Quantized {
        let mut stream = NoiseSeed::generate(rng).into_stream();
        let mut integers = Quantized(vec![0; self.len()]); // wiped on every path
        for _ in 0..MAX_TRIES {
            self.round_into(&mut integers.0, quantizer.scale, |y| round_at_random(y, &mut stream));
            if squared_norm_at_most(&integers.0, quantizer.max_squared_norm) {
                return integers;
            }
        }
        self.round_into(&mut integers.0, quantizer.scale, |y| y as i64); // toward zero
        if !squared_norm_at_most(&integers.0, quantizer.max_squared_norm) {
            integers.0.fill(0);
        }
        integers
    }

    fn round_into(&self, integers: &mut [i64], scale: f64, mut round: impl FnMut(f64) -> i64) {
        for (integer, element) in integers.iter_mut().zip(self.elements()) {
            *integer = round(element * scale);
        }
    }
}

/// `floor(y)` or one more, with mean `y` (to 2^-53). Saturates; NaN gives zero or one.
fn round_at_random(y: f64, stream: &mut NoiseStream) -> i64 {
    let below = libm::floor(y);
    let uniform = (stream.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64);
    (below as i64).saturating_add(i64::from(uniform < y - below))
}

/// The check that privacy rests on, in integers that cannot overflow unseen.
fn squared_norm_at_most(integers: &[i64], max_squared_norm: u64) -> bool {
    let mut sum = 0_u128;
    for &z in integers {
        let magnitude = u128::from(z.unsigned_abs());
        match sum.checked_add(magnitude * magnitude) {
            Some(longer) => sum = longer,
            None => return false,
        }
    }
    sum <= u128::from(max_squared_norm)
}

impl Quantized {
    /// Adds this client's noise.
    ///
    /// # Errors
    /// [`UpdateError::NoiseLength`].
    pub fn add_noise(self, noise: NoiseVector) -> Result<Noised, UpdateError> {
        Noised::new(&self.0, &noise)
    }
}

impl fmt::Debug for Quantized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quantized(..)")
    }
}

/// The mean of the updates of `count` clients, from their sum.
///
/// # Errors
/// [`UpdateError::NoWeight`] if `count` is zero.
pub fn decode_sum(sum: &RingVector, scale: f64, count: u32) -> Result<Vec<f32>, UpdateError> {
    if count == 0 {
        return Err(UpdateError::NoWeight);
    }
    let step = 1.0 / (scale * f64::from(count));
    Ok(sum.to_signed().iter().map(|&z| (z as f64 * step) as f32).collect())
}

/// The weighted mean of updates that carry a weight in their last element: `C sum(y) / sum(last)`.
/// Neither scale nor count matters: they cancel.
///
/// # Errors
/// [`UpdateError::NoWeight`] if the last element is not positive.
pub fn decode_weighted(sum: &RingVector, clip_norm: f64) -> Result<Vec<f32>, UpdateError> {
    let integers = sum.to_signed();
    let (weight, elements) = integers.split_last().ok_or(UpdateError::NoWeight)?;
    if *weight <= 0 {
        return Err(UpdateError::NoWeight);
    }
    let step = clip_norm / *weight as f64;
    Ok(elements.iter().map(|&z| (z as f64 * step) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::ring::RingBits;
    use crate::update::ModelUpdate;
    use getrandom::SysRng;
    use proptest::prelude::*;
    use rand_core::UnwrapErr;

    fn clipped(values: Vec<f32>, clip_norm: f64) -> Clipped {
        ModelUpdate::new(values).expect("finite").clip(clip_norm)
    }

    fn quantize(values: Vec<f32>, clip_norm: f64, quantizer: Quantizer) -> Vec<i64> {
        clipped(values, clip_norm).quantize(&quantizer, &mut UnwrapErr(SysRng)).0.clone()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// No update, however wild, leaves the ball that privacy is accounted for.
        #[test]
        fn integers_never_leave_the_ball(
            values in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, 1..50),
            clip_norm in prop::num::f64::ANY,
            scale in prop::num::f64::ANY,
            max_squared_norm in any::<u64>(),
        ) {
            let integers = quantize(values, clip_norm, Quantizer { scale, max_squared_norm });
            prop_assert!(squared_norm_at_most(&integers, max_squared_norm));
        }
    }

    #[test]
    fn rounding_has_the_mean_of_what_it_rounds() {
        let quantizer = Quantizer { scale: 10.0, max_squared_norm: 1_000_000_000 };
        let integers = quantize(alloc::vec![0.0123; 400_000], 1e9, quantizer);
        assert!(integers.iter().all(|&z| z == 0 || z == 1));
        let mean = integers.iter().sum::<i64>() as f64 / 400_000.0;
        assert!((mean - 0.123).abs() < 6.0 * 0.33 / libm::sqrt(400_000.0), "{mean}");
        let integers = quantize(alloc::vec![-0.25; 100_000], 1e9, quantizer);
        assert!(integers.iter().all(|&z| z == -3 || z == -2));
    }

    #[test]
    fn where_no_rounding_fits_it_truncates_and_then_gives_nothing() {
        // (1.9, 1.9): of the four roundings only (1, 1), one in a hundred, is within norm 2.
        let tight = Quantizer { scale: 1.0, max_squared_norm: 2 };
        assert_eq!(quantize(alloc::vec![1.9; 2], 10.0, tight), [1, 1]);
        assert_eq!(quantize(alloc::vec![-1.9; 2], 10.0, tight), [-1, -1]);
        let tighter = Quantizer { scale: 1.0, max_squared_norm: 1 };
        assert_eq!(quantize(alloc::vec![1.9; 2], 10.0, tighter), [0, 0]);
    }

    #[test]
    fn sums_of_squares_do_not_overflow() {
        assert!(!squared_norm_at_most(&[i64::MIN; 5], u64::MAX));
        assert!(squared_norm_at_most(&[3, -4], 25));
        assert!(!squared_norm_at_most(&[3, -4], 24));
    }

    #[test]
    fn a_weighted_sum_decodes_to_the_weighted_mean() {
        let bits = RingBits::new(32).expect("8 to 64");
        let quantizer = Quantizer { scale: 1e5, max_squared_norm: 11_000_000_000 };
        let mut sum = RingVector::zeros(3, bits);
        for (values, weight) in [([0.6, 0.0], 1.0), ([0.0, 0.8], 3.0)] {
            let update = ModelUpdate::new(values.to_vec()).expect("finite");
            let update = update.with_weight(weight, 4).expect("within the range");
            let quantized = update.clip(1.0).quantize(&quantizer, &mut UnwrapErr(SysRng));
            sum.add_assign(&RingVector::from_signed(&quantized.0, bits)).expect("one shape");
        }
        let mean = decode_weighted(&sum, 1.0).expect("positive weight");
        assert!((mean[0] - 0.15).abs() < 1e-3 && (mean[1] - 0.6).abs() < 1e-3, "{mean:?}");
        let nobody = RingVector::zeros(3, bits);
        assert_eq!(decode_weighted(&nobody, 1.0), Err(UpdateError::NoWeight));
        assert_eq!(decode_sum(&nobody, 1.0, 0), Err(UpdateError::NoWeight));
    }
}
