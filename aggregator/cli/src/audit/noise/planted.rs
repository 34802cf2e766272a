//! Bugs, planted by exchanging one piece of the encoder: the audit must find each. docs/decisions/0018.

use anyhow::Result;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::privacy::SkellamSampler;
use veilsum_crypto::privacy::discrete_gaussian_sampler::DiscreteGaussianSampler;
use veilsum_crypto::privacy::skellam::Variance;
use veilsum_crypto::update::{ModelUpdate, NoiseVector, Privacy, prepare};

use super::encoder::{Encoder, Shipped};
use super::{Options, Report, audit};
use crate::audit::random::Random;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// Client 0 adds no noise.
    OneWithoutNoise,
    /// The standard deviation is taken for the variance.
    DeviationForVariance,
    /// Noise is drawn in units of the model, and added to integers.
    NoiseBeforeScaling,
    /// The norm is checked before rounding only.
    NormBeforeRounding,
    /// A client is told that nobody will be lost, and adds its share of less noise.
    ToldFewerLosses,
    /// Discrete Gaussian shares of sigma 1/2, accounted for as if their sum were one of the added variance: tau is left out.
    TauOmitted,
    /// A client's seed is the same in every round.
    SeedReused,
    /// The last coordinate gets no noise, as if it were padding.
    PaddingWithoutNoise,
    /// Sums are read from 0 to 2^b instead of around zero.
    WrongCentre,
    /// Seeds have 32 bits.
    ShortSeed,
}

const ALL: [Bug; 10] = [
    Bug::OneWithoutNoise,
    Bug::DeviationForVariance,
    Bug::NoiseBeforeScaling,
    Bug::NormBeforeRounding,
    Bug::ToldFewerLosses,
    Bug::TauOmitted,
    Bug::SeedReused,
    Bug::PaddingWithoutNoise,
    Bug::WrongCentre,
    Bug::ShortSeed,
];

/// The variance that a discrete Gaussian of this sigma^2, a quarter, really has. The sum of many has the law of noise of the added
/// variance, nearly; drawing them one by one would take as many draws.
fn variance_of_a_share(quarter: f64) -> Result<f64> {
    let variance = Variance { numerator: 1, denominator: (1.0 / quarter) as u64 };
    let law = DiscreteGaussianSampler::new(variance)?;
    let largest = law.largest().expect("a table") as i64;
    Ok((-largest..=largest).map(|k| (k * k) as f64 * law.probability(k).expect("a table")).sum())
}

/// The shipped encoder with one piece exchanged.
struct Planted(Bug);

impl Encoder for Planted {
    type Sampler = SkellamSampler;

    fn sampler(&self, params: &RoundParams) -> Result<SkellamSampler> {
        let share = params.share_variance(params.roster_max)?;
        let n = u64::from(params.roster_max);
        let variance = match self.0 {
            Bug::DeviationForVariance => share.isqrt(),
            Bug::NoiseBeforeScaling => (share as f64 / (params.scale * params.scale)).round() as u64,
            Bug::ToldFewerLosses => {
                let corrupt = u64::from(params.corrupt(params.roster_max));
                params.total_variance.div_ceil(n - corrupt)
            }
            Bug::TauOmitted => (share as f64 * 4.0 * variance_of_a_share(0.25)?).round() as u64,
            _ => share,
        };
        Ok(SkellamSampler::new(variance)?)
    }

    fn seed(&self, client: u32, _round: u64, random: &mut Random) -> NoiseSeed {
        let mut bytes = [0; 32];
        match self.0 {
            Bug::SeedReused => bytes[..4].copy_from_slice(&client.to_le_bytes()),
            Bug::ShortSeed => bytes[..4].copy_from_slice(&(random.word() as u32).to_le_bytes()),
            _ => return NoiseSeed::generate(random),
        }
        NoiseSeed::from_bytes(bytes)
    }

    fn noise(&self, sampler: &SkellamSampler, client: u32, seed: NoiseSeed, len: usize) -> NoiseVector {
        if self.0 == Bug::OneWithoutNoise && client == 0 {
            return SkellamSampler::new(0).expect("no noise").noise(seed, len);
        }
        sampler.noise(seed, len)
    }

    fn encode(
        &self,
        params: &RoundParams,
        update: Vec<f32>,
        noise: NoiseVector,
        random: &mut Random,
    ) -> Result<RingVector> {
        let bound = if self.0 == Bug::NormBeforeRounding { u64::MAX } else { params.max_squared_norm };
        let privacy = Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: bound };
        let len = update.len();
        if self.0 == Bug::PaddingWithoutNoise {
            let silent = SkellamSampler::new(0)?;
            let plain = silent.noise(NoiseSeed::generate(random), len);
            let without = prepare(ModelUpdate::new(update.clone())?, plain, &privacy, random)?.values()[len - 1];
            let noised = prepare(ModelUpdate::new(update)?, noise, &privacy, random)?;
            let mut values = noised.values().to_vec();
            values[len - 1] = without;
            return Ok(RingVector::from_signed(&values, params.ring_bits));
        }
        Ok(prepare(ModelUpdate::new(update)?, noise, &privacy, random)?.into_ring(params.ring_bits))
    }

    fn decode(&self, sum: &RingVector) -> Vec<i64> {
        let signed = sum.to_signed();
        if self.0 != Bug::WrongCentre {
            return signed;
        }
        signed.into_iter().map(|z| if z < 0 { z + (1 << sum.bits().get()) } else { z }).collect()
    }
}

fn options(seed: u64) -> Options {
    Options { epsilon: 2.0, delta: 1e-5, trials: 60_000, canaries: 1_024, confidence: 0.99, seed: Some(seed) }
}

fn broken(report: &Report) -> Vec<&'static str> {
    let bounds = report.bounds.iter().filter(|bound| !bound.holds()).map(|bound| bound.name);
    bounds.chain(report.laws.iter().filter(|law| !law.holds).map(|law| law.name)).collect()
}

/// What is shipped breaks nothing, for seeds that were not chosen.
#[test]
fn the_shipped_encoder_breaks_nothing() {
    for seed in 1..=3 {
        let report = audit(&Shipped, &options(seed)).expect("it runs");
        assert_eq!(broken(&report), [""; 0], "seed {seed}");
        // An audit that shows next to nothing would find nothing either.
        let sharpest = report.bounds.iter().map(|bound| bound.epsilon_at_least / bound.claim_tight).fold(0.0, f64::max);
        assert!(sharpest > 0.7, "seed {seed}: {sharpest}");
    }
}

/// Each bug is found, and by the means that are meant for it.
#[test]
fn every_planted_bug_is_found() {
    let curve = "two worlds, Gaussian curve";
    let (coordinate, client, rounds) =
        ("variance in each coordinate of the sum", "variance of each client's noise", "variance between rounds");
    for bug in ALL {
        let report = audit(&Planted(bug), &options(1)).expect("it runs");
        let found = broken(&report);
        println!("{bug:?}: {found:?}");
        let meant: &[&str] = match bug {
            Bug::OneWithoutNoise => &[curve, client, coordinate],
            Bug::DeviationForVariance | Bug::NoiseBeforeScaling => &["two worlds", curve, "one run", client],
            Bug::NormBeforeRounding => &["squared norm after rounding"],
            Bug::ToldFewerLosses => &[curve, client],
            Bug::TauOmitted => &[client],
            Bug::SeedReused => &[curve, rounds, "seeds"],
            Bug::PaddingWithoutNoise => &[coordinate],
            Bug::WrongCentre => &["sums"],
            Bug::ShortSeed => &["seeds"],
        };
        for name in meant {
            assert!(found.contains(name), "{bug:?}: {name} is not among {found:?}");
        }
        assert!(!report.holds);
    }
}
