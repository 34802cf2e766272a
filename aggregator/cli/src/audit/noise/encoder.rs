//! What a client does with its update, and what becomes of the sum: the pieces that are shipped, in their order.
//!
//! The order is that of `veilsum_client::participant` and of the aggregator's decoding. Tests exchange single pieces
//! (`planted.rs`); nothing else implements this trait but [`Shipped`].

use anyhow::Result;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::privacy::SkellamSampler;
use veilsum_crypto::update::{ModelUpdate, NoiseVector, Privacy, prepare};

use crate::audit::random::Random;

/// The client's chain, piece by piece.
pub trait Encoder {
    /// What draws noise; made once, it is the same for all clients of a round.
    type Sampler;

    /// The sampler of a round.
    fn sampler(&self, params: &RoundParams) -> Result<Self::Sampler>;

    /// A client's seed. `client` counts from 0, `round` names the round.
    fn seed(&self, _client: u32, _round: u64, random: &mut Random) -> NoiseSeed {
        NoiseSeed::generate(random)
    }

    /// A client's noise, drawn before its data are looked at.
    fn noise(&self, sampler: &Self::Sampler, client: u32, seed: NoiseSeed, len: usize) -> NoiseVector;

    /// Clip, scale, round, add the noise, reduce.
    fn encode(
        &self,
        params: &RoundParams,
        update: Vec<f32>,
        noise: NoiseVector,
        random: &mut Random,
    ) -> Result<RingVector> {
        let privacy =
            Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: params.max_squared_norm };
        Ok(prepare(ModelUpdate::new(update)?, noise, &privacy, random)?.into_ring(params.ring_bits))
    }

    /// The integers of a sum.
    fn decode(&self, sum: &RingVector) -> Vec<i64> {
        sum.to_signed()
    }

    /// The whole of it for one client.
    fn upload(
        &self,
        sampler: &Self::Sampler,
        params: &RoundParams,
        client: Client,
        update: Vec<f32>,
        random: &mut Random,
    ) -> Result<RingVector> {
        let seed = self.seed(client.number, client.round, random);
        let noise = self.noise(sampler, client.number, seed, update.len());
        self.encode(params, update, noise, random)
    }
}

/// Who uploads, and when.
#[derive(Clone, Copy)]
pub struct Client {
    /// From 0.
    pub number: u32,
    /// Of which round.
    pub round: u64,
}

/// What clients run.
pub struct Shipped;

impl Encoder for Shipped {
    type Sampler = SkellamSampler;

    fn sampler(&self, params: &RoundParams) -> Result<SkellamSampler> {
        Ok(SkellamSampler::new(params.share_variance(params.roster_max)?)?)
    }

    fn noise(&self, sampler: &SkellamSampler, _client: u32, seed: NoiseSeed, len: usize) -> NoiseVector {
        sampler.noise(seed, len)
    }
}
