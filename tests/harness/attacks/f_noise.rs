//! F: is the noise what was promised, whole numbers of one exact law, and does its making say nothing? Seeds are fixed, so that
//! a run repeats the last one; more scale means more seeds or draws.

use std::time::Instant;

use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::params::RosterParams;
use veilsum_crypto::primitives::prg::{NoiseSeed, NoiseStream};
use veilsum_crypto::privacy::SkellamSampler;
use veilsum_crypto::testing::{SeededRng, demo_params};
use veilsum_crypto::update::{ModelUpdate, Privacy, prepare};

use super::dice::chi2_p;
use super::{Scale, Seen};

/// A seed by number.
fn seed(number: u64) -> NoiseSeed {
    let mut bytes = [0x5e; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    NoiseSeed::from_bytes(bytes)
}

fn stream(number: u64) -> NoiseStream {
    seed(number).into_stream()
}

/// The Skellam law of a variance: probabilities of 0, 1, 2, … (and of their negatives), until they are below 2^-170.
/// Pr[k] = e^-v I_k(v), by Miller's backward recurrence, scaled so that all sum to 1: nothing of the sampler's own making.
fn law(variance: u64) -> Vec<f64> {
    let v = variance as f64;
    let top = (v.sqrt() * 40.0) as usize + 60;
    let mut values = vec![0.0; top + 2];
    values[top] = 1e-300;
    for k in (1..=top).rev() {
        values[k - 1] = values[k + 1] + 2.0 * k as f64 / v * values[k];
        if values[k - 1] > 1e250 {
            values[k - 1..].iter_mut().for_each(|value| *value *= 1e-250);
        }
    }
    let all: f64 = values[0] + 2.0 * values[1..].iter().sum::<f64>();
    let floor = 2.0_f64.powi(-170);
    values.into_iter().map(|value| value / all).take_while(|p| *p > floor).collect()
}

/// The variance of one client's noise in the demo, and the bounds of its update.
fn demo() -> (RosterParams, Privacy) {
    let params = demo_params(64);
    let roster = RosterParams::derive(64, &params).expect("feasible");
    let privacy =
        Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: params.max_squared_norm };
    (roster, privacy)
}

/// F01. Mironov's test: can an output be told to be impossible under another input, from its last digits?
pub async fn f01_floating_point_attack(scale: Scale) -> Seen {
    let (roster, privacy) = demo();
    let (sampler, law) = (SkellamSampler::new(roster.share_variance).expect("in range"), law(roster.share_variance));
    let (len, runs) = (10_000, scale.times(20) as u64);
    // Two updates that differ as much as two can, with values that no binary fraction hits.
    let updates = [0.1_f32 / 3.0, -0.7 / 3.0].map(|value| {
        let mut values = vec![0.0; len];
        values[..64].fill(value);
        values
    });
    // What each is rounded to, at most: an integer beside value times scale.
    let (mut outputs, mut impossible) = (0_usize, 0_usize);
    for run in 0..runs {
        let mut rng = SeededRng::new(run, 1);
        let update = ModelUpdate::new(updates[0].clone()).expect("finite");
        let noised = prepare(update, sampler.noise(seed(run), len), &privacy, &mut rng).expect("same length");
        let other = prepare(
            ModelUpdate::new(updates[1].clone()).expect("finite"),
            SkellamSampler::new(0).expect("no noise").noise(seed(run), len),
            &privacy,
            &mut rng,
        );
        let other = other.expect("same length");
        // Integers, by type; and each could have come from the other input.
        for (output, input) in noised.values().iter().zip(other.values()) {
            let needed = output.abs_diff(*input) as usize;
            outputs += 1;
            impossible += usize::from(law.get(needed).is_none_or(|probability| *probability <= 0.0));
        }
    }
    assert_eq!(impossible, 0);
    // The control: the same test on binary64 Laplace noise, as it is usually drawn, knows most outputs.
    let told = naive_float_outputs_told_apart(runs.min(20) as usize * 1_000);
    assert!(told > 0.3, "the test can tell: {told}");
    Seen::new(format!(
        "{outputs} noised values, integers by type: {impossible} impossible under the other input; the same test tells {:.0} % of \
         textbook binary64 Laplace outputs",
        100.0 * told
    ))
    .count("outputs", outputs)
    .count("impossible values", impossible)
}

/// The share of outputs x + b ln(u) that a tester knows not to come from input 0: no u makes them there.
fn naive_float_outputs_told_apart(count: usize) -> f64 {
    let mut draws = stream(3);
    // u has 32 bits, so that all values near the one needed can be tried.
    let draw = |bits: u64| (bits as f64 + 0.5) / f64::from(u32::MAX);
    let noise = |bits: u64| -draw(bits).ln();
    let told = (0..count).filter(|_| {
        let bits = draws.next_u64() >> 32;
        let output = 1.0 + noise(bits); // the true input is 1
        if output < 0.0 {
            return true;
        }
        // Which bits would make this from 0? The nearest, and some beside it.
        let near = ((-output).exp() * f64::from(u32::MAX) - 0.5).round() as i64;
        !(near - 4..=near + 4).any(|bits| (0..=i64::from(u32::MAX)).contains(&bits) && noise(bits as u64) == output)
    });
    told.count() as f64 / count as f64
}

/// F02. Does the time in which noise is made say how large it is? It is made for a whole vector at once, before the data are
/// read: what can be timed from outside is that.
pub async fn f02_sampler_timing(scale: Scale) -> Seen {
    const LEN: usize = 64; // a small model; the longer the vector, the less its time says of one draw
    let (roster, _) = demo();
    let sampler = SkellamSampler::new(roster.share_variance).expect("in range");
    let vectors = scale.times(1_000_000).div_ceil(LEN);
    let mut source = stream(2);
    let r = correlation(&timed(vectors, LEN, || sampler.sample(&mut source)));
    // The control: a sampler that walks its table from the middle outwards takes as long as its values are large.
    let law = law(roster.share_variance);
    let mut source = stream(22);
    let walked = correlation(&timed(vectors.min(2_000), LEN, || walk(&law, &mut source)));
    assert!(walked > 0.02, "such a dependence is seen: r = {walked}");
    assert!(r.abs() < 0.01, "r = {r} over {vectors} vectors");
    // One draw by itself, as an observer on the same core might time it: outside the model, and printed.
    let mut source = stream(23);
    let single = correlation(&timed(scale.times(1_000_000), 1, || sampler.sample(&mut source)));
    Seen::new(format!(
        "{vectors} vectors of {LEN} draws at variance {}: correlation of magnitudes with the vector's time r = {r:.4}; of a sampler that \
         walks its table {walked:.3}. Single draws, which nobody outside the machine can time: r = {:.4} (caches; docs/privacy.md, what \
         a local observer sees)",
        roster.share_variance, single
    ))
    .figure("r", r)
    .figure("r of single draws", single)
    .count("draws", vectors * LEN)
}

/// For each draw its magnitude and the time of the vector that it is in. A vector that was interrupted says nothing of draws:
/// times beyond twice the median are left out.
fn timed(vectors: usize, len: usize, mut draw: impl FnMut() -> i64) -> Vec<(f64, f64)> {
    let mut timed = Vec::with_capacity(vectors);
    for _ in 0..vectors {
        let start = Instant::now();
        let values: Vec<i64> = (0..len).map(|_| std::hint::black_box(draw())).collect();
        timed.push((start.elapsed().as_nanos() as f64, values));
    }
    let mut times: Vec<f64> = timed.iter().map(|(time, _)| *time).collect();
    times.sort_by(f64::total_cmp);
    let limit = 2.0 * times[times.len() / 2];
    timed.retain(|(time, _)| *time <= limit);
    let pairs = timed.iter().flat_map(|(time, values)| values.iter().map(|value| (value.unsigned_abs() as f64, *time)));
    pairs.collect()
}

fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let count = pairs.len() as f64;
    let (mean_x, mean_y) =
        (pairs.iter().map(|pair| pair.0).sum::<f64>() / count, pairs.iter().map(|pair| pair.1).sum::<f64>() / count);
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        let (x, y) = (x - mean_x, y - mean_y);
        (xy, xx, yy) = (xy + x * y, xx + x * x, yy + y * y);
    }
    xy / (xx * yy).sqrt()
}

fn walk(law: &[f64], source: &mut NoiseStream) -> i64 {
    let mut left = (source.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    for (magnitude, p) in law.iter().enumerate() {
        left -= if magnitude == 0 { *p } else { 2.0 * p };
        if std::hint::black_box(left) < 0.0 {
            return magnitude as i64;
        }
    }
    law.len() as i64
}

/// F06. The largest sum that clients can make in one coordinate, with the noise of all of them.
pub async fn f06_noise_wrap(scale: Scale) -> Seen {
    let params = demo_params(64);
    let (roster, _) = demo();
    let n = 64_u64;
    let bound = params.max_squared_norm.isqrt(); // of one client in one coordinate
    let half = 1_i64 << (params.ring_bits.get() - 1);
    // The noise of n clients together is Skellam of n times the variance: the same law, drawn at once.
    let sampler = SkellamSampler::new(n * roster.share_variance).expect("in range");
    let (draws, mut source, mut wraps, mut highest) = (scale.times(2_000_000), stream(6), 0, 0);
    for _ in 0..draws {
        let sum = (n * bound) as i64 + sampler.sample(&mut source).abs(); // the worst sign
        wraps += usize::from(sum >= half);
        highest = highest.max(sum);
    }
    assert_eq!(wraps, 0);
    // The bound: both tails of the normal law beyond what the ring has left.
    let left = (half - 1 - (n * bound) as i64) as f64 / ((n * roster.share_variance) as f64).sqrt();
    let bits = libm::erfc(left / std::f64::consts::SQRT_2).log2();
    assert!(bits <= -f64::from(params.wrap_bits), "{bits}");
    // The same in ring arithmetic: 64 clients, all as large as they can be, and what comes back.
    let mut sum = RingVector::zeros(2, params.ring_bits);
    for number in 0..n {
        let noise = SkellamSampler::new(roster.share_variance).expect("in range").sample(&mut stream(100 + number));
        let vector = RingVector::from_signed(&[bound as i64 + noise, -(bound as i64) - noise], params.ring_bits);
        sum.add_assign(&vector).expect("one ring");
    }
    let back = sum.to_signed();
    assert!(back[0] > 0 && back[0] == -back[1], "no wrap: {back:?}");
    Seen::new(format!(
        "{draws} draws of 64 clients' noise on the largest sum they can make: {wraps} wraps, the largest {highest} of {half}; the bound is \
         2^{bits:.1} a coordinate, promised 2^-{}",
        params.wrap_bits
    ))
    .count("draws", draws)
    .count("wraps", wraps)
    .figure("log2 of the bound", bits)
}

/// F08. Do draws follow the exact law?
pub async fn f08_sampler_law(scale: Scale) -> Seen {
    let (roster, _) = demo();
    let (seeds, draws) = (20, scale.times(50_000));
    let (mut least, mut tests) = (1.0_f64, 0);
    for variance in [1, 40, roster.share_variance, 1_742_400] {
        let (sampler, law) = (SkellamSampler::new(variance).expect("in range"), law(variance));
        for number in 0..seeds {
            let mut source = stream(1_000 * variance + number);
            let mut counts = std::collections::BTreeMap::new();
            for _ in 0..draws {
                *counts.entry(sampler.sample(&mut source)).or_insert(0_u64) += 1;
            }
            let p = goodness(&counts, &law, draws);
            assert!(p > 0.001, "variance {variance}, seed {number}: p = {p}");
            (least, tests) = (least.min(p), tests + 1);
        }
    }
    Seen::new(format!(
        "{} draws: 4 variances, {seeds} seeds each, {draws} a seed, against the exact law: least p {least:.4} of {tests}",
        4 * seeds as usize * draws
    ))
    .count("draws", 4 * seeds as usize * draws)
    .figure("least p", least)
}

/// Chi-squared against the law; neighbouring values are taken together until ten are expected.
fn goodness(counts: &std::collections::BTreeMap<i64, u64>, law: &[f64], draws: usize) -> f64 {
    let top = law.len() as i64 - 1;
    let probability = |value: i64| law.get(value.unsigned_abs() as usize).copied().unwrap_or(0.0);
    let (mut classes, mut counted, mut expected) = (Vec::new(), 0.0, 0.0);
    for value in -top..=top {
        counted += counts.get(&value).copied().unwrap_or(0) as f64;
        expected += probability(value) * draws as f64;
        if expected >= 10.0 {
            classes.push((counted, expected));
            (counted, expected) = (0.0, 0.0);
        }
    }
    let last = classes.last_mut().expect("many are drawn");
    (last.0, last.1) = (last.0 + counted, last.1 + expected);
    chi2_p(classes)
}
