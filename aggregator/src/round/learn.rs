//! Server-side learning: the next model from the released sum. §6.4
//!
//! FedAvg with a server rate: `model += rate * mean`. Models are stored as safetensors with one tensor "model" of f32; the
//! SHA-256 of those bytes stands in the next header. Where a task asks a query, the text of the query stands in the model's place,
//! and nothing is learnt: each round answers the same query anew.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest as _, Sha256};
use veilsum_crypto::ids::Digest;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::server::Effect;
use veilsum_crypto::update::{decode_sum, decode_weighted};

use crate::task::Task;

/// Why there is no next model.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The stored model is not one.
    #[error("the model is not a safetensors file with one f32 tensor \"model\" of {expected} elements: {found}")]
    Model {
        /// Elements wanted.
        expected: u32,
        /// What came.
        found: String,
    },
    /// The task asks a query.
    #[error("the task asks a query, which stands in the model's place: name no model")]
    Query,
    /// The sum decodes to no mean.
    #[error("the sum gives no mean: {0}")]
    Mean(#[from] veilsum_crypto::update::UpdateError),
}

/// What a task begins with unless it names a model.
pub fn zeros(len: u32) -> Vec<u8> {
    to_bytes(&vec![0.0; len as usize])
}

/// What the first header of a task names as its model, unless another model was chosen: the query, or zeros.
pub fn first_model(task: &Task) -> Vec<u8> {
    task.query.as_ref().map_or_else(|| zeros(task.file.model_len), |query| query.text().into_bytes())
}

/// Whether a task can begin with a model.
///
/// # Errors
/// [`LearnError`].
pub fn is_first_model(task: &Task, model: &[u8]) -> Result<(), LearnError> {
    match &task.query {
        None => from_bytes(model, task.file.model_len).map(drop),
        Some(query) if query.text().as_bytes() == model => Ok(()),
        Some(_) => Err(LearnError::Query),
    }
}

/// How long the model of a task is, as it is served.
pub fn model_bytes(task: &Task) -> u64 {
    task.query.as_ref().map_or_else(|| file_bytes(task.file.model_len), |query| query.text().len() as u64)
}

/// A model's bytes as they are stored and served.
pub fn to_bytes(model: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = model.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![model.len()], &data).expect("as many bytes as elements need");
    safetensors::serialize([("model", view)], None).expect("one tensor of known length")
}

/// How long the file of so many elements is, without making it.
pub fn file_bytes(elements: u32) -> u64 {
    let data = 4 * u64::from(elements);
    let head = format!(r#"{{"model":{{"dtype":"F32","shape":[{elements}],"data_offsets":[0,{data}]}}}}"#);
    8 + head.len().next_multiple_of(8) as u64 + data
}

/// The inverse of [`to_bytes`].
pub fn from_bytes(bytes: &[u8], expected: u32) -> Result<Vec<f32>, LearnError> {
    let wrong = |found: String| LearnError::Model { expected, found };
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| wrong(error.to_string()))?;
    let tensor = tensors.tensor("model").map_err(|error| wrong(error.to_string()))?;
    if tensor.dtype() != Dtype::F32 || tensor.data().len() != expected as usize * 4 {
        return Err(wrong(format!("{:?} of shape {:?}", tensor.dtype(), tensor.shape())));
    }
    Ok(tensor.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("chunks of four"))).collect())
}

/// The next model; none where nothing is learnt.
pub(super) fn next_model(
    task: &Task,
    counter: u64,
    model: &[u8],
    sum: &RingVector,
    count: u32,
) -> Result<Option<Effect>, LearnError> {
    if task.query.is_some() {
        return Ok(None);
    }
    let mut values = from_bytes(model, task.file.model_len)?;
    let mean = if task.params.weight_max > 0 {
        decode_weighted(sum, task.params.clip_norm)?
    } else {
        decode_sum(sum, task.params.scale, count)?
    };
    let rate = task.server_rate(counter) as f32;
    values.iter_mut().zip(&mean).for_each(|(value, step)| *value += rate * step);
    let bytes = to_bytes(&values);
    let digest = Digest(Sha256::digest(&bytes).into());
    Ok(Some(Effect::Model { bytes, digest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_file_is_known_before_it_is_made() {
        for elements in [1, 8, 99, 1_862, 100_000] {
            assert_eq!(file_bytes(elements), zeros(elements).len() as u64);
        }
    }

    #[test]
    fn a_model_survives_its_file_and_another_length_is_refused() {
        let model = [1.0, -2.5, 3.25];
        assert_eq!(from_bytes(&to_bytes(&model), 3).expect("as written"), model);
        assert!(from_bytes(&to_bytes(&model), 4).is_err());
        assert!(from_bytes(b"no model", 3).is_err());
    }
}
