//! Laws that an encoder's output obeys. Breaking one may cost little epsilon, or none before the next round: no lower bound shows it.

use std::collections::BTreeSet;

use anyhow::Result;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::privacy::{RoundingBounds, SkellamSampler};

use super::encoder::{Client, Encoder};
use super::{Law, Setting};
use crate::audit::random::Random;

/// Rounds in which noise is measured.
const ROUNDS: u32 = 20_000;
/// Noise vectors whose beginnings are compared: among so many, seeds of 32 bits meet 18 times on average.
const SEEDS: u32 = 400_000;
/// Updates that are rounded to look at their norm.
const UPDATES: u32 = 4_000;
/// Standard errors that a measured variance may be off: one in 10^11 goes beyond by chance.
const DEVIATIONS: f64 = 7.0;

/// All of them.
pub fn all<E: Encoder>(encoder: &E, setting: &Setting, random: &mut Random) -> Result<Vec<Law>> {
    let mut laws = noise(encoder, setting, random)?;
    laws.push(seeds(encoder, random));
    laws.push(norms(encoder, setting, random)?);
    laws.push(sums(encoder, setting, random)?);
    Ok(laws)
}

/// Clients that send nothing: what comes out is noise, of the variance that the header guarantees, in every coordinate, for every client,
/// and other noise in the next round.
fn noise<E: Encoder>(encoder: &E, setting: &Setting, random: &mut Random) -> Result<Vec<Law>> {
    let sampler = encoder.sampler(&setting.params)?;
    let (len, honest) = (setting.params.vector_len as usize, setting.honest());
    let mut of_coordinate = vec![0.0; len];
    let mut of_client = vec![0.0; honest as usize];
    let mut of_difference = 0.0;
    let mut last: Option<Vec<i64>> = None;
    for round in 0..ROUNDS {
        let mut total = vec![0_i64; len];
        for number in 0..honest {
            let client = Client { number, round: round.into() };
            let upload = encoder.upload(&sampler, &setting.params, client, vec![0.0; len], random)?.to_signed();
            of_client[number as usize] += squares(upload.iter().map(|x| *x as f64));
            total.iter_mut().zip(&upload).for_each(|(total, x)| *total += x);
        }
        of_coordinate.iter_mut().zip(&total).for_each(|(sum, x)| *sum += (*x as f64) * (*x as f64));
        if let Some(last) = last.replace(total.clone()) {
            of_difference += squares(total.iter().zip(&last).map(|(x, y)| (x - y) as f64));
        }
    }
    let rounds = f64::from(ROUNDS);
    let share = setting.params.share_variance(setting.params.roster_max)? as f64;
    let all = share * f64::from(honest);
    let measured = |name, variances: Vec<f64>, expected: f64, samples: f64| {
        // The fourth moment of Skellam noise of variance v is 3 v^2 + v.
        let error = expected * ((2.0 + 1.0 / expected) / samples).sqrt();
        let worst = variances.iter().copied().fold(expected, |worst: f64, variance| {
            if (variance - expected).abs() > (worst - expected).abs() { variance } else { worst }
        });
        Law {
            name,
            seen: format!(
                "expected {expected:.1}, furthest from it {worst:.1}, {:.1} standard errors",
                (worst - expected) / error
            ),
            holds: (worst - expected).abs() <= DEVIATIONS * error,
        }
    };
    let per_coordinate = of_coordinate.iter().map(|sum| sum / rounds).collect();
    let samples = rounds * len as f64;
    let per_client = of_client.iter().map(|sum| sum / samples).collect();
    // Neighbouring differences share a term: as if there were at least a third of them.
    let pairs = (rounds - 1.0) * len as f64;
    Ok(vec![
        measured("variance in each coordinate of the sum", per_coordinate, all, rounds),
        measured("variance of each client's noise", per_client, share, samples),
        measured("variance between rounds", vec![of_difference / pairs], 2.0 * all, pairs / 3.0),
    ])
}

/// No noise comes twice: seeds are drawn from more than 32 bits.
fn seeds<E: Encoder>(encoder: &E, random: &mut Random) -> Law {
    let mut seen = BTreeSet::new();
    for round in 0..SEEDS {
        let seed = encoder.seed(0, round.into(), random);
        let mut stream = seed.into_stream();
        seen.insert([stream.next_u64(), stream.next_u64()]);
    }
    let twice = SEEDS as usize - seen.len();
    Law { name: "seeds", seen: format!("{twice} of {SEEDS} came before"), holds: twice == 0 }
}

/// What is rounded stays within the norm that the header states, in integers: also for steps so coarse that rounding matters.
fn norms<E: Encoder>(encoder: &E, setting: &Setting, random: &mut Random) -> Result<Law> {
    let mut coarse = setting.params;
    let len = coarse.vector_len as usize;
    coarse.scale = 3.0 / coarse.clip_norm;
    let bounds = RoundingBounds::new(3.0, len as u64, (-0.5_f64).exp());
    coarse.max_squared_norm = bounds.max_integer_squared_norm;
    let silent = SkellamSampler::new(0)?;
    let mut longest = 0_u64;
    for _ in 0..UPDATES {
        // Longer than the clip norm, in a random direction.
        let update = (0..len).map(|_| (random.uniform() * 2.0 - 1.0) as f32 * 10.0).collect();
        let noise = silent.noise(NoiseSeed::generate(random), len);
        let rounded = encoder.encode(&coarse, update, noise, random)?.to_signed();
        longest = longest.max(rounded.iter().map(|z| z.unsigned_abs().pow(2)).sum());
    }
    let most = coarse.max_squared_norm;
    Ok(Law {
        name: "squared norm after rounding",
        seen: format!("at most {longest} in {UPDATES} updates, {most} is permitted"),
        holds: longest <= most,
    })
}

/// A sum decodes to the sum of its terms, on both sides of zero.
fn sums<E: Encoder>(encoder: &E, setting: &Setting, random: &mut Random) -> Result<Law> {
    let sampler = encoder.sampler(&setting.params)?;
    let len = setting.params.vector_len as usize;
    let side = setting.params.clip_norm / (len as f64).sqrt();
    let mut wrong = 0;
    for round in 0..1_000 {
        let mut sum = RingVector::zeros(len, setting.params.ring_bits);
        let mut plain = vec![0_i64; len];
        for number in 0..setting.honest() {
            let sign = if random.coin() { side } else { -side };
            let client = Client { number, round };
            let upload = encoder.upload(&sampler, &setting.params, client, vec![sign as f32; len], random)?;
            plain.iter_mut().zip(upload.to_signed()).for_each(|(plain, x)| *plain += x);
            sum.add_assign(&upload)?;
        }
        wrong += usize::from(encoder.decode(&sum) != plain);
    }
    Ok(Law { name: "sums", seen: format!("{wrong} of 1000 decoded to something else"), holds: wrong == 0 })
}

fn squares(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum()
}
