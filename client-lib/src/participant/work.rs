//! What a client brings to a round: work on its own data.

use std::error::Error;
use std::sync::{Mutex, PoisonError};

use safetensors::{Dtype, SafeTensors};
use veilsum_crypto::messages::Header;
use veilsum_crypto::update::ModelUpdate;

use crate::training::LocalTrainer;

/// Training ends in an update, or in words.
pub type Trained = Result<ModelUpdate, Box<dyn Error + Send + Sync>>;

/// Makes one update from a model; runs on a thread of its own and may take its time.
pub trait LocalWork: Send + 'static {
    /// Whether there can be an update for such a round; asked before anything is sent. Work whose update has a length of its own
    /// says [`has_values`] of it; work that makes one of any length says yes.
    ///
    /// # Errors
    /// What the round would have to be like, or the work. The client then sends nothing in this round.
    fn suits(&mut self, header: &Header) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Whether there can be an update from `model`, the bytes whose hash the header names; the last thing asked before the advert
    /// is sent, not asked again when a round is resumed. Yes, unless told otherwise.
    ///
    /// # Errors
    /// What the model would have to be like, or the work. The client then sends nothing in this round.
    fn accepts(&mut self, _header: &Header, _model: &[u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    /// Trains from `model`, the bytes whose hash the header names.
    ///
    /// # Errors
    /// Whatever keeps it from an update; the client then leaves the round. Errors must not quote data: they are shown.
    fn train(&mut self, header: &Header, model: &[u8]) -> Trained;
}

/// Whether an update of so many values, its weight not counted, is of the round's length.
///
/// # Errors
/// Both numbers, in words.
pub fn has_values(header: &Header, values: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    let expected = header.params.vector_len as usize - usize::from(header.params.weight_max > 0);
    if values == expected {
        return Ok(());
    }
    Err(format!("the task's model has {expected} values, this update has {values}").into())
}

/// A [`LocalTrainer`] on models as the aggregator publishes them: safetensors with one `f32` tensor "model".
#[derive(Debug)]
pub struct TrainerWork<L> {
    trainer: L,
    weight: f32,
}

impl<L: LocalTrainer> TrainerWork<L> {
    /// With a weight of 1 where the task is weighted.
    pub fn new(trainer: L) -> Self {
        Self { trainer, weight: 1.0 }
    }

    /// With this weight in a weighted mean, above 0 and at most the task's `weight_max`.
    pub fn with_weight(mut self, weight: f32) -> Self {
        self.weight = weight;
        self
    }
}

impl<L: LocalTrainer + Send + 'static> LocalWork for TrainerWork<L> {
    fn suits(&mut self, header: &Header) -> Result<(), Box<dyn Error + Send + Sync>> {
        has_values(header, self.trainer.vector_len())
    }

    fn train(&mut self, header: &Header, model: &[u8]) -> Trained {
        let values = self.trainer.train(&model_values(model)?, header.counter)?;
        let update = ModelUpdate::new(values)?;
        match header.params.weight_max {
            0 => Ok(update),
            weight_max => Ok(update.with_weight(self.weight, weight_max)?),
        }
    }
}

/// The values of a published model. That their number fits is for the trainer to say.
fn model_values(bytes: &[u8]) -> Result<Vec<f32>, Box<dyn Error + Send + Sync>> {
    let tensors = SafeTensors::deserialize(bytes)?;
    let tensor = tensors.tensor("model")?;
    if tensor.dtype() != Dtype::F32 {
        return Err(format!("the tensor \"model\" should hold F32, it holds {:?}", tensor.dtype()).into());
    }
    let (values, _) = tensor.data().as_chunks::<4>();
    Ok(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// As [`train`]: a work that is still training for a round that was dropped is waited for.
pub fn suits<W: LocalWork + ?Sized>(work: &Mutex<W>, header: &Header) -> Result<(), Box<dyn Error + Send + Sync>> {
    work.lock().unwrap_or_else(PoisonError::into_inner).suits(header)
}

/// As [`suits`].
pub fn accepts<W: LocalWork + ?Sized>(
    work: &Mutex<W>,
    header: &Header,
    model: &[u8],
) -> Result<(), Box<dyn Error + Send + Sync>> {
    work.lock().unwrap_or_else(PoisonError::into_inner).accepts(header, model)
}

/// A trainer that panicked in an earlier round is asked again: what it left behind is its own business.
pub fn train<W: LocalWork + ?Sized>(work: &Mutex<W>, header: &Header, model: &[u8]) -> Trained {
    work.lock().unwrap_or_else(PoisonError::into_inner).train(header, model)
}
