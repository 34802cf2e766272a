//! The same training without masks and noise, and what losses are held against.
//!
//! The twin starts from the same model and counts the same survivors with the same clip and the same kind of rounding; it
//! runs beside the rounds, on one thread.

use anyhow::{Context as _, Result};
use tokio::sync::{mpsc, oneshot};
use veilsum_aggregator::task::Task;
use veilsum_client::training::language::{
    Bigram, Choice, LanguageModel, LanguageTrainer, Predictor as _, Text, TrainerId, Unigram,
};
use veilsum_client::training::sgd::DemoSettings;
use veilsum_client::training::{Evaluation, LocalTrainer as _};
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::privacy::skellam::SkellamSampler;
use veilsum_crypto::update::{ModelUpdate, Privacy, prepare};

use super::data::Corpus;
use super::outcome::{Baselines, Completion, Guesses};

/// Trains beside the private run.
pub struct Twin {
    orders: mpsc::UnboundedSender<(u64, Vec<usize>)>,
    models: oneshot::Receiver<Result<Vec<Vec<f32>>>>,
}

impl Twin {
    /// Starts from the same model.
    pub fn start(corpus: &Corpus, settings: &DemoSettings, task: &Task, model: Vec<f32>, seed: u64) -> Result<Self> {
        let mut trainers = corpus
            .clients
            .iter()
            .zip(0..)
            .map(|(text, client)| LanguageTrainer::new(text, settings.local, TrainerId { seed, client }))
            .collect::<Result<Vec<_>, _>>()?;
        let (orders, mut receiver) = mpsc::unbounded_channel::<(u64, Vec<usize>)>();
        let (answer, models) = oneshot::channel();
        let task = task.clone();
        tokio::task::spawn_blocking(move || {
            let mut model = model;
            let mut models = Vec::new();
            let outcome = loop {
                let Some((counter, survivors)) = receiver.blocking_recv() else { break Ok(models) };
                match step(&mut trainers, &task, &model, counter, &survivors) {
                    Ok(next) => model = next,
                    Err(error) => break Err(error),
                }
                models.push(model.clone());
            };
            let _ = answer.send(outcome);
        });
        Ok(Self { orders, models })
    }

    /// One round over the clients counted in the private one; none counted: the model stays.
    pub fn train(&self, counter: u64, survivors: Vec<usize>) {
        let _ = self.orders.send((counter, survivors)); // a twin that failed says so at the end
    }

    /// The models after each round.
    pub async fn finish(self) -> Result<Vec<Vec<f32>>> {
        drop(self.orders);
        self.models.await.context("the twin training ended early")?
    }
}

fn step(
    trainers: &mut [LanguageTrainer],
    task: &Task,
    model: &[f32],
    counter: u64,
    survivors: &[usize],
) -> Result<Vec<f32>> {
    if survivors.is_empty() {
        return Ok(model.to_vec());
    }
    let params = &task.params;
    let privacy =
        Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: params.max_squared_norm };
    let silence = SkellamSampler::new(0)?;
    let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
    let mut sum = vec![0_i64; model.len()];
    for client in survivors {
        let update = ModelUpdate::new(trainers[*client].train(model, counter)?)?;
        let no_noise = silence.noise(NoiseSeed::generate(&mut rng), model.len());
        let quantized = prepare(update, no_noise, &privacy, &mut rng)?;
        sum.iter_mut().zip(quantized.values()).for_each(|(total, value)| *total += value);
    }
    let rate = task.server_rate(counter) / (task.params.scale * survivors.len() as f64);
    Ok(model.iter().zip(&sum).map(|(value, total)| value + (rate * *total as f64) as f32).collect())
}

/// What the model is held against, on text that belongs to nobody.
pub struct Baseline {
    held_out: Text,
    unigram: Unigram,
    bigram: Bigram,
}

impl Baseline {
    /// Counted over all clients' text, centrally.
    pub fn new(corpus: &Corpus) -> Result<Self> {
        let texts = corpus.clients.iter().map(|text| Text::new(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { held_out: Text::new(&corpus.held_out)?, unigram: Unigram::fit(&texts), bigram: Bigram::fit(&texts) })
    }

    /// A model on the held-out text.
    pub fn evaluate(&self, model: &LanguageModel) -> Result<Evaluation> {
        Ok(model.evaluate(&self.held_out))
    }

    /// Byte frequencies on the held-out text.
    pub fn unigram(&self) -> Result<Evaluation> {
        Ok(self.unigram.evaluate(&self.held_out))
    }

    /// The baselines beside a model.
    pub fn against(&self, model: &LanguageModel) -> Result<Baselines> {
        let guesses =
            |evaluation: Evaluation| Guesses { first: evaluation.first_guess, first_five: evaluation.first_five };
        Ok(Baselines {
            uniform_loss: 256_f64.ln(),
            bigram_loss: self.bigram.evaluate(&self.held_out).nats_per_byte,
            model_guesses: guesses(self.evaluate(model)?),
            unigram_guesses: guesses(self.unigram()?),
        })
    }

    /// How fixed prefixes go on.
    pub fn completions(&self, model: &LanguageModel, prefixes: &[&str], len: usize, seed: u64) -> Vec<Completion> {
        let complete = |prefix: &&str| Completion {
            prefix: (*prefix).to_string(),
            model: model.complete(prefix, len, Choice::Sampled { seed }),
            unigram: self.unigram.complete(prefix, len, Choice::Sampled { seed }),
        };
        prefixes.iter().map(complete).collect()
    }
}
