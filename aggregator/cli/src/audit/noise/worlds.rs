//! The two audits: a canary in two worlds, and many canaries in one run.

use anyhow::Result;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::privacy::empirical::{Count, OneRun, TwoWorlds};

use super::encoder::{Client, Encoder};
use super::{Bound, Setting};
use crate::audit::random::Random;

/// Places at which a threshold is tried, on runs that are then thrown away.
const THRESHOLDS: usize = 400;

/// Of the canaries of one run, those that are guessed: a quarter, the clearest.
const GUESSED: usize = 4;

/// The bound of Clopper and Pearson, and the sharper one through the Gaussian curve, each wrong with probability at most `risk`.
pub fn two_worlds<E: Encoder>(
    encoder: &E,
    setting: &Setting,
    trials: u32,
    risk: f64,
    random: &mut Random,
) -> Result<[Bound; 2]> {
    let sampler = encoder.sampler(&setting.params)?;
    let len = setting.params.vector_len as usize;
    // A direction in which no coordinate is idle, of the clip norm: what the sum is compared with.
    let side = setting.params.clip_norm / (len as f64).sqrt();
    let direction: Vec<f64> = (0..len).map(|at| if at % 3 == 0 { -side } else { side }).collect();
    let canary: Vec<f32> = direction.iter().map(|x| *x as f32).collect();
    let others: Vec<f32> = (0..len).map(|at| if at % 2 == 0 { side as f32 } else { -side as f32 }).collect();
    let mut world = |present: bool| -> Result<Vec<f64>> {
        (0..trials)
            .map(|round| {
                let mut sum = RingVector::zeros(len, setting.params.ring_bits);
                for number in 0..setting.honest() {
                    let update = match (number, present) {
                        (0, true) => canary.clone(),
                        (0, false) => vec![0.0; len],
                        _ => others.clone(),
                    };
                    let client = Client { number, round: u64::from(round) * 2 + u64::from(present) };
                    sum.add_assign(&encoder.upload(&sampler, &setting.params, client, update, random)?)?;
                }
                Ok(encoder.decode(&sum).iter().zip(&direction).map(|(x, y)| *x as f64 * y).sum())
            })
            .collect()
    };
    let (absent, present) = (world(false)?, world(true)?);
    let half = trials as usize / 2;
    let count = |absent: &[f64], present: &[f64], threshold: f64| {
        let above = |values: &[f64]| Count {
            positive: values.iter().filter(|value| **value >= threshold).count() as u64,
            trials: values.len() as u64,
        };
        TwoWorlds { false_alarms: above(absent), hits: above(present) }
    };
    let mut tried: Vec<f64> = absent[..half].iter().chain(&present[..half]).copied().collect();
    tried.sort_by(f64::total_cmp);
    let delta = setting.params.dp_delta;
    let best = |figure: &dyn Fn(&TwoWorlds) -> f64| {
        let candidates = tried.iter().step_by((tried.len() / THRESHOLDS).max(1)).copied();
        let scored = candidates.map(|at| (figure(&count(&absent[..half], &present[..half], at)), at));
        scored.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |(_, at)| at)
    };
    let bound = |name, figure: &dyn Fn(&TwoWorlds) -> f64| {
        let counts = count(&absent[half..], &present[half..], best(figure));
        let TwoWorlds { false_alarms, hits } = counts;
        Bound {
            name,
            seen: format!(
                "{} of {} alarms with the canary, {} without",
                hits.positive, hits.trials, false_alarms.positive
            ),
            epsilon_at_least: figure(&counts),
            claim: setting.claim,
            claim_tight: setting.claim_tight,
        }
    };
    Ok([
        bound("two worlds", &|counts| counts.epsilon_at_least(delta, risk)),
        bound("two worlds, Gaussian curve", &|counts| counts.gaussian_at_least(risk).epsilon(delta)),
    ])
}

/// Every client is a canary in a coordinate of its own, and takes part by a coin.
pub fn one_run<E: Encoder>(encoder: &E, setting: &Setting, risk: f64, random: &mut Random) -> Result<Bound> {
    let sampler = encoder.sampler(&setting.params)?;
    let len = setting.params.vector_len as usize;
    let mut sum = RingVector::zeros(len, setting.params.ring_bits);
    let mut is_in = Vec::new();
    for number in 0..setting.params.roster_max {
        let coin = random.coin();
        is_in.push(coin);
        let mut update = vec![0.0; len];
        update[number as usize] = if coin { setting.params.clip_norm as f32 } else { 0.0 };
        let client = Client { number, round: 0 };
        sum.add_assign(&encoder.upload(&sampler, &setting.params, client, update, random)?)?;
    }
    let middle = setting.params.clip_norm * setting.params.scale / 2.0;
    let mut scores: Vec<(f64, bool)> =
        encoder.decode(&sum).iter().zip(is_in).map(|(x, is_in)| (*x as f64 - middle, is_in)).collect();
    scores.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
    let guessed = &scores[..(scores.len() / GUESSED).max(1)];
    let correct = guessed.iter().filter(|(score, is_in)| (*score > 0.0) == *is_in).count();
    let run = OneRun { canaries: scores.len() as u64, guesses: guessed.len() as u64, correct: correct as u64 };
    Ok(Bound {
        name: "one run",
        seen: format!("{correct} of {} guesses right about {} canaries", guessed.len(), scores.len()),
        epsilon_at_least: run.epsilon_at_least(setting.params.dp_delta, risk),
        claim: setting.claim,
        claim_tight: setting.claim_tight,
    })
}
