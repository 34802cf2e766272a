//! From a model update to ring elements, `docs/protocol.md` §6.
//!
//! `ModelUpdate -> Clipped -> Quantized -> Noised -> RingVector`: each step is a type that only the
//! step before it can make, so that a skipped step does not compile. Privacy rests on one check, in
//! integers, that [`Clipped::quantize`] makes last; everything before it may be wrong by rounding.

pub mod clip;
pub mod quantize;

use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::math::ring::{RingBits, RingVector};

pub use clip::Clipped;
pub use quantize::{Quantized, Quantizer, decode_sum, decode_weighted};

/// Why an update cannot be taken, or a sum not be read.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum UpdateError {
    /// There is nothing in it.
    #[error("an update needs at least one element; check the layout of the model")]
    Empty,
    /// Training diverged, most likely.
    #[error("element {index} is not a finite number; leave this round out and look at training")]
    NotFinite {
        /// The first such element.
        index: usize,
    },
    /// The weight is not in `(0, weight_max]`.
    #[error("a weight above 0 and up to {weight_max} was expected; check weight_max of the task")]
    Weight {
        /// The largest weight of the task.
        weight_max: u32,
    },
    /// The noise was drawn for another vector.
    #[error("noise for {expected} elements was expected, for {got} came; check vector_len")]
    NoiseLength {
        /// Elements of the quantized update.
        expected: usize,
        /// Elements of the noise.
        got: usize,
    },
    /// A sum over nobody, or one whose weights vanish in the noise.
    #[error("the sum has no positive weight to divide by; more clients or more weight is needed")]
    NoWeight,
}

/// The privacy parameters of a round, as its header states them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Privacy {
    /// C: the largest L2 norm of an update.
    pub clip_norm: f64,
    /// Integer steps per unit of the model.
    pub scale: f64,
    /// The largest squared L2 norm of a quantized update, in squared integer units.
    pub max_squared_norm: u64,
}

/// What training gave: finite numbers, and perhaps a weight. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ModelUpdate {
    values: Vec<f32>,
    /// weight / weight_max, in (0, 1].
    relative_weight: Option<f64>,
}

impl ModelUpdate {
    /// Takes over an update.
    ///
    /// # Errors
    /// [`UpdateError::Empty`]; [`UpdateError::NotFinite`] with the index of a NaN or an infinity.
    pub fn new(values: Vec<f32>) -> Result<Self, UpdateError> {
        let update = Self { values, relative_weight: None }; // wiped on every path from here
        if update.values.is_empty() {
            return Err(UpdateError::Empty);
        }
        match update.values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(UpdateError::NotFinite { index }),
            None => Ok(update),
        }
    }

    /// Gives the update a weight in the mean. The quantized vector is then one element longer, and
    /// the weight, which travels in that element, is as private as the update.
    ///
    /// # Errors
    /// [`UpdateError::Weight`] unless `0 < weight <= weight_max`.
    pub fn with_weight(mut self, weight: f32, weight_max: u32) -> Result<Self, UpdateError> {
        let relative = f64::from(weight) / f64::from(weight_max);
        if !(relative > 0.0 && relative <= 1.0) {
            return Err(UpdateError::Weight { weight_max });
        }
        self.relative_weight = Some(relative);
        Ok(self)
    }

    /// Elements after quantization: those of the model, and one for a weight.
    pub fn vector_len(&self) -> usize {
        self.values.len() + usize::from(self.relative_weight.is_some())
    }
}

impl fmt::Debug for ModelUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelUpdate(..)")
    }
}

/// One client's share of the noise, in integer units. Only `privacy::skellam` makes it, before the
/// data are read. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct NoiseVector(Vec<i64>);

impl NoiseVector {
    pub(crate) fn new(values: Vec<i64>) -> Self {
        Self(values)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn values(&self) -> &[i64] {
        &self.0
    }
}

impl fmt::Debug for NoiseVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoiseVector(..)")
    }
}

/// A quantized update with this client's noise: what may be masked. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Noised(Vec<i64>);

impl Noised {
    /// Adds the noise. Wraps where it must: the ring is the integers modulo a power of two anyway.
    fn new(quantized: &[i64], noise: &NoiseVector) -> Result<Self, UpdateError> {
        if quantized.len() != noise.len() {
            let (expected, got) = (quantized.len(), noise.len());
            return Err(UpdateError::NoiseLength { expected, got });
        }
        Ok(Self(quantized.iter().zip(noise.values()).map(|(z, e)| z.wrapping_add(*e)).collect()))
    }

    /// The integers before reduction, for audits of this encoder. Secret.
    pub fn values(&self) -> &[i64] {
        &self.0
    }

    /// Reduces modulo 2^r, §2.3.
    pub fn into_ring(self, bits: RingBits) -> RingVector {
        RingVector::from_signed(&self.0, bits)
    }
}

impl fmt::Debug for Noised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Noised(..)")
    }
}

/// The whole chain. `noise` was drawn before the data were read: its time says nothing about them.
///
/// # Errors
/// [`UpdateError::NoiseLength`], if the noise is not for [`ModelUpdate::vector_len`] elements.
pub fn prepare(
    update: ModelUpdate,
    noise: NoiseVector,
    privacy: &Privacy,
    rng: &mut impl CryptoRng,
) -> Result<Noised, UpdateError> {
    let quantizer = Quantizer { scale: privacy.scale, max_squared_norm: privacy.max_squared_norm };
    let clipped: Clipped = update.clip(privacy.clip_norm);
    let quantized: Quantized = clipped.quantize(&quantizer, rng);
    quantized.add_noise(noise) // `into_ring` takes `Noised` and nothing else
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;
    use std::{format, vec};

    const PRIVACY: Privacy = Privacy { clip_norm: 1.0, scale: 100.0, max_squared_norm: 10_100 };

    #[test]
    fn numbers_that_are_none_are_refused_by_index() {
        let refused = |values| ModelUpdate::new(values).expect_err("refused");
        assert_eq!(refused(vec![]), UpdateError::Empty);
        assert_eq!(refused(vec![0.0, f32::NAN]), UpdateError::NotFinite { index: 1 });
        assert_eq!(refused(vec![f32::INFINITY]), UpdateError::NotFinite { index: 0 });
        for weight in [0.0, -1.0, 11.0, f32::NAN] {
            let update = ModelUpdate::new(vec![1.0]).expect("finite");
            let refused = update.with_weight(weight, 10).expect_err("out of range");
            assert_eq!(refused, UpdateError::Weight { weight_max: 10 });
        }
        let update = ModelUpdate::new(vec![1.0]).expect("finite");
        assert!(update.with_weight(1.0, 0).is_err());
    }

    #[test]
    fn noise_of_another_length_is_refused() {
        let update = ModelUpdate::new(vec![0.5, 0.5]).expect("finite");
        let noise = NoiseVector::new(vec![0; 3]);
        let refused = prepare(update, noise, &PRIVACY, &mut UnwrapErr(SysRng));
        let expected = UpdateError::NoiseLength { expected: 2, got: 3 };
        assert_eq!(refused.expect_err("another length"), expected);
    }

    #[test]
    fn a_sum_of_prepared_updates_decodes_to_their_mean() {
        let bits = RingBits::new(20).expect("8 to 64");
        let mut sum = RingVector::zeros(2, bits);
        for values in [[0.3, -0.4], [0.5, 0.2]] {
            let update = ModelUpdate::new(values.to_vec()).expect("finite");
            let noise = NoiseVector::new(vec![1, -1]);
            let noised = prepare(update, noise, &PRIVACY, &mut UnwrapErr(SysRng)).expect("2");
            sum.add_assign(&noised.into_ring(bits)).expect("one shape");
        }
        let mean = decode_sum(&sum, PRIVACY.scale, 2).expect("two clients");
        assert!((mean[0] - 0.4).abs() < 0.03 && (mean[1] + 0.1).abs() < 0.03, "{mean:?}");
    }

    #[test]
    fn nothing_private_is_printed() {
        let update = ModelUpdate::new(vec![0.5]).expect("finite");
        assert_eq!(format!("{update:?}"), "ModelUpdate(..)");
        let noised = Noised(vec![1]);
        assert_eq!(format!("{noised:?}"), "Noised(..)");
    }
}
