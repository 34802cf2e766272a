//! Distributed mean estimation, the experiment of the mechanisms' papers, with the encoder and the samplers that clients ship.
//!
//! Kairouz, Liu and Steinke 2021, Section 6, and Agarwal, Kairouz and Liu 2021, Section 5, as in the authors' `dme_run.py`: n
//! clients hold vectors `c g/||g||`, g standard normal in d dimensions. Each pads to D, applies public random signs and an
//! orthonormal Walsh-Hadamard transform, clips, scales, rounds, adds its noise and reduces to the ring; the sum is decoded,
//! transformed back and compared with the true mean. The error is the squared distance over d.

use anyhow::{Context as _, Result, ensure};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::privacy::discrete_gaussian_sampler::DiscreteGaussianSampler;
use veilsum_crypto::privacy::skellam::{SkellamSampler, Variance};
use veilsum_crypto::privacy::solver::{Mechanism, Solution};
use veilsum_crypto::update::{ModelUpdate, NoiseVector, Privacy, decode_sum, prepare};

use super::random::Random;

/// One cell of the experiment.
pub struct Cell {
    /// The noise.
    pub mechanism: Mechanism,
    /// n.
    pub clients: u32,
    /// d.
    pub dim: usize,
    /// D: a power of two, at least d.
    pub padded_dim: usize,
    /// c.
    pub clip_norm: f64,
    /// Of the ring.
    pub bits: u8,
    /// Scale and noise.
    pub plan: Solution,
}

/// Mean squared error over repeated experiments.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The mean.
    pub mse: f64,
    /// The standard error of that mean.
    pub standard_error: f64,
}

/// The largest experiment that is run: elements that all clients encode.
const MOST_ELEMENTS: u64 = 1 << 32;

enum Sampler {
    Skellam(SkellamSampler),
    Gaussian(DiscreteGaussianSampler),
}

impl Sampler {
    /// The square of the local parameter as a fraction over 2^16: the samplers take exact ones.
    fn new(cell: &Cell) -> Result<Self> {
        const DENOMINATOR: u64 = 1 << 16;
        let square = cell.plan.local_sigma * cell.plan.local_sigma;
        let variance = Variance { numerator: (square * DENOMINATOR as f64).round() as u64, denominator: DENOMINATOR };
        Ok(match cell.mechanism {
            Mechanism::Skellam => Self::Skellam(SkellamSampler::with_variance(variance)?),
            Mechanism::DiscreteGaussian => Self::Gaussian(DiscreteGaussianSampler::new(variance)?),
        })
    }

    fn noise(&self, seed: NoiseSeed, len: usize) -> NoiseVector {
        match self {
            Self::Skellam(sampler) => sampler.noise(seed, len),
            Self::Gaussian(sampler) => sampler.noise(seed, len),
        }
    }
}

/// Runs a cell `repeats` times with fresh data, fresh signs and fresh noise.
pub fn measure(cell: &Cell, repeats: u32, random: &mut Random) -> Result<Measured> {
    ensure!(repeats >= 2, "{repeats} repeats were asked for, at least 2 are needed for a standard error");
    let elements = u64::from(repeats) * u64::from(cell.clients) * cell.padded_dim as u64;
    ensure!(elements <= MOST_ELEMENTS, "{elements} elements would be encoded, at most 2^32 are");
    ensure!(
        cell.padded_dim.is_power_of_two() && (1..=cell.padded_dim).contains(&cell.dim) && cell.clients > 0,
        "{} coordinates of {} clients do not pad to {}",
        cell.dim,
        cell.clients,
        cell.padded_dim
    );
    let sampler = Sampler::new(cell)?;
    let errors = (0..repeats).map(|_| squared_error(cell, &sampler, random)).collect::<Result<Vec<f64>>>()?;
    let count = f64::from(repeats);
    let mse = errors.iter().sum::<f64>() / count;
    let spread = errors.iter().map(|error| (error - mse) * (error - mse)).sum::<f64>() / (count - 1.0);
    Ok(Measured { mse, standard_error: (spread / count).sqrt() })
}

/// One experiment.
fn squared_error(cell: &Cell, sampler: &Sampler, random: &mut Random) -> Result<f64> {
    let bits = RingBits::new(cell.bits).with_context(|| format!("a ring of {} bits is none of ours", cell.bits))?;
    let Cell { plan, clip_norm, clients, dim, padded_dim, .. } = *cell;
    let bound = plan.bounds.max_integer_squared_norm;
    let privacy = Privacy { clip_norm, scale: plan.scale, max_squared_norm: bound };
    let signs: Vec<f64> = (0..padded_dim).map(|_| if random.coin() { 1.0 } else { -1.0 }).collect();
    let mut sum = RingVector::zeros(padded_dim, bits);
    let mut mean = vec![0.0; dim];
    for _ in 0..clients {
        let vector = on_sphere(dim, clip_norm, random);
        mean.iter_mut().zip(&vector).for_each(|(mean, x)| *mean += x / f64::from(clients));
        let mut rotated: Vec<f64> = vector.iter().copied().chain(std::iter::repeat(0.0)).take(padded_dim).collect();
        rotated.iter_mut().zip(&signs).for_each(|(x, sign)| *x *= sign);
        hadamard(&mut rotated);
        let update = ModelUpdate::new(rotated.iter().map(|&x| x as f32).collect())?;
        let noise = sampler.noise(NoiseSeed::generate(random), padded_dim);
        sum.add_assign(&prepare(update, noise, &privacy, random)?.into_ring(bits))?;
    }
    let mut decoded: Vec<f64> = decode_sum(&sum, plan.scale, clients)?.into_iter().map(f64::from).collect();
    hadamard(&mut decoded);
    let estimate = decoded.iter().zip(&signs).map(|(x, sign)| x * sign);
    Ok(estimate.zip(&mean).map(|(x, mean)| (x - mean) * (x - mean)).sum::<f64>() / dim as f64)
}

/// A random direction, of the given length.
fn on_sphere(dim: usize, length: f64, random: &mut Random) -> Vec<f64> {
    // Box and Muller
    let mut normal =
        || (-2.0 * (1.0 - random.uniform()).ln()).sqrt() * (std::f64::consts::TAU * random.uniform()).cos();
    let vector: Vec<f64> = (0..dim).map(|_| normal()).collect();
    let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    vector.into_iter().map(|x| x * length / norm).collect()
}

/// The orthonormal Walsh-Hadamard transform, its own inverse. The length is a power of two.
fn hadamard(vector: &mut [f64]) {
    let mut half = 1;
    while half < vector.len() {
        for block in vector.chunks_exact_mut(2 * half) {
            let (left, right) = block.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (vector.len() as f64).sqrt();
    vector.iter_mut().for_each(|x| *x *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;
    use veilsum_crypto::privacy::solver::{Account, Goal, NormGrowth, Ring};

    #[test]
    fn the_transform_keeps_lengths_and_undoes_itself() {
        let mut vector = vec![1.0, -2.0, 0.5, 3.0, 0.0, 0.0, 7.0, -1.0];
        let before = vector.clone();
        hadamard(&mut vector);
        let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>();
        assert!((norm(&vector) - norm(&before)).abs() < 1e-12);
        hadamard(&mut vector);
        assert!(vector.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    /// The error is what the plan foresees, for both mechanisms and both accounts; and the tight account's is that of central
    /// Gaussian noise to a few per cent.
    #[test]
    fn errors_are_those_that_were_planned() {
        let orders: Vec<u32> = (2..=128).chain([256]).collect();
        let ring = Ring { bits: 16, deviations: 3.0, growth: NormGrowth::Linear };
        let accounts = [
            (Mechanism::Skellam, Account::Renyi(&orders)),
            (Mechanism::DiscreteGaussian, Account::Renyi(&orders)),
            (Mechanism::Skellam, Account::Gaussian),
        ];
        for (mechanism, account) in accounts {
            let goal = Goal {
                mechanism,
                clip_norm: 10.0,
                beta: 0.5,
                dim: 64,
                clients: 50,
                honest: 50,
                rounds: 1,
                epsilon: 3.0,
                delta: 1e-5,
                account,
            };
            let plan = goal.solve(ring).expect("feasible");
            let cell = Cell { mechanism, clients: 50, dim: 60, padded_dim: 64, clip_norm: 10.0, bits: 16, plan };
            let Measured { mse, standard_error } = measure(&cell, 40, &mut Random::new(Some(1))).expect("it runs");
            let planned = goal.mean_squared_error(&plan);
            assert!((mse - planned).abs() < 5.0 * standard_error, "{mechanism:?}: {mse} {planned} {standard_error}");
            let central = (veilsum_crypto::privacy::gaussian::sigma_for(3.0, 1e-5) * 10.0 / 50.0).powi(2);
            let ratio = planned / central;
            assert_eq!(ratio < 1.03, account == Account::Gaussian, "{mechanism:?}: {ratio}");
        }
    }
}
