//! Local training: from a published model and one client's own data to one update.
//!
//! This module is the first step of a round and the only one that reads a client's data. It knows nothing of the
//! protocol: what it returns is clipped, quantised, noised and masked elsewhere (`crypto/update`).
//!
//! **Scaled coordinates.** Layers learn at different speeds while clip and noise treat all coordinates alike. So a
//! model is stored, hashed and sent in coordinates of its own choice, `parameter = scale * coordinate` with one scale
//! for each layer, and SGD, clip and noise all happen there. The aggregator applies `model[i] += rate * mean[i]` and
//! never hears of layers. The scales are part of the [`Layout`]: read with others, a vector is another model.

pub mod finite;
pub mod language;
pub mod sgd;

use thiserror::Error;

/// Turns a model into one client's update.
///
/// Object-safe: a driver holds `Box<dyn LocalTrainer>`. A trainer owns its data and its own randomness: it is never
/// handed the protocol's secret generator, and [`train`](Self::train) is a function of `(trainer, model, round)`, so
/// that a client that restarts within a round computes the same update again.
pub trait LocalTrainer {
    /// Names, shapes and scales of the vectors that [`train`](Self::train) takes and returns.
    fn layout(&self) -> Layout;

    /// Number of `f32` values in a model and in an update.
    fn vector_len(&self) -> usize {
        self.layout().vector_len()
    }

    /// Trains from `model` ([`vector_len`](Self::vector_len) scaled coordinates) and returns the update: the change
    /// of the same coordinates, neither clipped nor rounded, all finite. `round` is the round's counter; the
    /// trainer mixes it into its random choices.
    ///
    /// # Errors
    ///
    /// [`TrainingError::ModelLength`] and [`TrainingError::NonFinite`]; a trainer of other data may add to
    /// [`TrainingError::Other`]. No error leaves a partial update behind.
    fn train(&mut self, model: &[f32], round: u64) -> Result<Vec<f32>, TrainingError>;
}

/// Why there is no update. Never holds data, only counts.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// There is nothing to train on.
    #[error("no training data: expected at least one byte of text, got none")]
    EmptyData,
    /// More than half of the bytes are control bytes or no UTF-8.
    #[error(
        "the training data is not text: {outside} of {total} bytes are control bytes or no UTF-8, \
         expected at most half"
    )]
    NotText {
        /// Control bytes (white space apart) and bytes that are no UTF-8.
        outside: usize,
        /// Bytes in all.
        total: usize,
    },
    /// The model belongs to another layout.
    #[error("the model has {actual} values, this trainer's layout has {expected}")]
    ModelLength {
        /// Values in the trainer's layout.
        expected: usize,
        /// Values that came.
        actual: usize,
    },
    /// A NaN or infinity, in the model that came or in the update that resulted. Checked here because a NaN passes
    /// every comparison `norm > clip_norm`.
    #[error("value {index} of the {what} is not finite")]
    NonFinite {
        /// `"model"` or `"update"`.
        what: &'static str,
        /// The first such index.
        index: usize,
    },
    /// A trainer that is not part of this crate failed.
    #[error("training failed")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Passes if all of `vector` is finite; `what` names it in the error.
///
/// # Errors
///
/// [`TrainingError::NonFinite`] with the first index that is not.
pub fn check_finite(what: &'static str, vector: &[f32]) -> Result<(), TrainingError> {
    match vector.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(TrainingError::NonFinite { what, index }),
        None => Ok(()),
    }
}

/// What a vector means: its tensors in order, each row-major, one behind the other, nothing between.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// In the order of the vector.
    pub tensors: Vec<TensorLayout>,
}

/// One tensor of a [`Layout`].
#[derive(Clone, Debug, PartialEq)]
pub struct TensorLayout {
    /// At most 255 bytes.
    pub name: &'static str,
    /// Row-major; at most 255 dimensions.
    pub shape: Vec<u32>,
    /// Parameter over coordinate, positive and finite.
    pub scale: f32,
}

impl TensorLayout {
    /// Values in this tensor: the product of its dimensions.
    pub fn values(&self) -> usize {
        self.shape.iter().map(|&dimension| dimension as usize).product()
    }
}

impl Layout {
    /// Values in all tensors.
    pub fn vector_len(&self) -> usize {
        self.tensors.iter().map(TensorLayout::values).sum()
    }

    /// The one encoding, to be hashed into a round's header. Little-endian:
    ///
    /// ```text
    /// u8 label_len; label "veilsum layout v1"; u32 tensors;
    /// per tensor: u8 name_len; name; u8 dimensions; u32 dimension[dimensions]; u32 scale (bits of the f32)
    /// ```
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_name(&mut bytes, "veilsum layout v1");
        let tensors = u32::try_from(self.tensors.len()).expect("a layout is written in source");
        bytes.extend(tensors.to_le_bytes());
        for tensor in &self.tensors {
            put_name(&mut bytes, tensor.name);
            bytes.push(u8::try_from(tensor.shape.len()).expect("at most 255 dimensions"));
            for dimension in &tensor.shape {
                bytes.extend(dimension.to_le_bytes());
            }
            bytes.extend(tensor.scale.to_bits().to_le_bytes());
        }
        bytes
    }
}

fn put_name(bytes: &mut Vec<u8>, name: &str) {
    bytes.push(u8::try_from(name.len()).expect("names of tensors have at most 255 bytes"));
    bytes.extend(name.as_bytes());
}

/// How well a predictor of the next byte does on a text it has not seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Cross entropy, in nats per real byte. `ln 256 = 5.545` is what knowing nothing costs.
    pub nats_per_byte: f64,
    /// Share of bytes that were the most likely one, in `[0, 1]`.
    pub first_guess: f64,
    /// Share of bytes that were among the five most likely, in `[0, 1]`.
    pub first_five: f64,
}

/// Cross entropy of the uniform distribution over bytes, `ln 256`, in nats per byte.
pub const UNIFORM_NATS_PER_BYTE: f64 = 8.0 * std::f64::consts::LN_2;

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(scale: f32) -> Layout {
        Layout {
            tensors: vec![
                TensorLayout { name: "weight", shape: vec![3, 2], scale: 1.0 },
                TensorLayout { name: "bias", shape: vec![3], scale },
            ],
        }
    }

    #[test]
    fn canonical_bytes_are_the_documented_ones() {
        let mut expected = b"\x11veilsum layout v1\x02\0\0\0".to_vec();
        expected.extend(b"\x06weight\x02\x03\0\0\0\x02\0\0\0\x00\x00\x80\x3f");
        expected.extend(b"\x04bias\x01\x03\0\0\0\x00\x00\x00\x40");
        assert_eq!(layout(2.0).canonical_bytes(), expected);
        assert_eq!(layout(2.0).vector_len(), 9);
    }

    /// Vectors read with other scales are another model: the header's layout hash must differ.
    #[test]
    fn another_scale_is_another_layout() {
        assert_ne!(layout(2.0).canonical_bytes(), layout(0.5).canonical_bytes());
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_named() {
        assert!(check_finite("model", &[0.0, f32::MAX]).is_ok());
        let refused = check_finite("model", &[0.0, f32::NAN, f32::INFINITY]);
        assert!(matches!(refused, Err(TrainingError::NonFinite { what: "model", index: 1 })));
    }

    #[test]
    fn trainers_fit_in_a_box() {
        fn _driver(trainer: &mut Box<dyn LocalTrainer>, model: &[f32]) {
            let _ = trainer.train(model, 1);
        }
    }
}
