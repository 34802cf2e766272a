//! Encoding, and whether intervals hold: records through the client's own encoder, clipping, rounding and noise, summed in the ring
//! and read back, many times over from fixed seeds.

use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::privacy::{RoundingBounds, SkellamSampler};
use veilsum_crypto::statistics::query::Proposal;
use veilsum_crypto::statistics::{Estimate, SumOf};
use veilsum_crypto::testing::{SeededRng, demo_params};
use veilsum_crypto::update::{ModelUpdate, Privacy, prepare};

use super::*;
use crate::training::sgd::{SplitMix64, Stream};

const RANGE: Range = Range { lo: -2.0, hi: 10.0 };
const CLIENTS: u32 = 12;
const RECORDS_MAX: u32 = 5;
const ROUNDS: u64 = 1_000;
const LEVEL: f64 = 0.8; // low, so that a thousand rounds see intervals miss

fn query(kind: Kind, outside: Outside) -> Query {
    Query::new(Proposal { kind, records_max: RECORDS_MAX, outside, level: LEVEL }).expect("it holds")
}

fn domain() -> Vec<String> {
    ["a", "b", "c", "d", "e", "f"].map(str::to_string).to_vec()
}

/// A round of the query with noise of `noise_multiplier` times its sensitivity, nobody lost and nobody corrupt.
fn round(query: &Query, noise_multiplier: f64) -> RoundParams {
    let (clip_norm, scale) = (query.clip_norm(), query.default_scale());
    let bounds = RoundingBounds::new(clip_norm * scale, query.vector_len().into(), (-0.5_f64).exp());
    RoundParams {
        vector_len: query.vector_len(),
        ring_bits: RingBits::MAX,
        max_squared_norm: bounds.max_integer_squared_norm,
        clip_norm,
        scale,
        total_variance: (noise_multiplier * clip_norm * scale).powi(2).ceil() as u64,
        cohort_min: CLIENTS,
        corrupt_fraction: 0,
        dropout_tolerance: 0,
        ..demo_params(CLIENTS)
    }
}

/// What clients bring: `numbers` for queries of numbers, letters for the others.
fn everybody(query: &Query, rng: &mut SplitMix64) -> Vec<Vec<f64>> {
    let record = |rng: &mut SplitMix64| match query.kind() {
        Kind::HeavyHitters { domain, .. } => {
            let skewed = rng.unit().min(rng.unit()).min(rng.unit()); // some entries are frequent, some do not occur
            (skewed * domain.len() as f64).floor()
        }
        _ => (RANGE.lo + (RANGE.hi - RANGE.lo) * rng.unit() * rng.unit()).clamp(RANGE.lo, RANGE.hi),
    };
    (0..CLIENTS).map(|client| (0..1 + client % RECORDS_MAX).map(|_| record(rng)).collect()).collect()
}

fn records(query: &Query, values: &[f64]) -> Records {
    match query.kind() {
        Kind::HeavyHitters { domain, .. } => {
            Records::of_words(values.iter().map(|&value| domain[value as usize].clone()).collect())
        }
        _ => Records::of_numbers(values.to_vec()),
    }
}

/// A cohort that answers one query again and again.
struct Cohort {
    vectors: Vec<Zeroizing<Vec<f32>>>,
    sampler: SkellamSampler,
    params: RoundParams,
}

impl Cohort {
    fn of(query: &Query, everybody: &[Vec<f64>]) -> Self {
        let params = round(query, 1.0);
        let vector = |values: &Vec<f64>| {
            let vector = encode(query, &records(query, values)).expect("an answer");
            let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
            assert!(norm <= query.clip_norm(), "{norm}: nothing is ever clipped");
            vector
        };
        let vectors = everybody.iter().map(vector).collect();
        let variance = params.share_variance(CLIENTS).expect("feasible");
        Self { vectors, sampler: SkellamSampler::new(variance).expect("in reach"), params }
    }

    /// One round of all clients: the sum as the aggregator would release it.
    fn released(&self, seed: u64) -> RingVector {
        let (params, mut rng) = (&self.params, SeededRng::new(seed, 0));
        let privacy =
            Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: params.max_squared_norm };
        let mut sum = RingVector::zeros(params.vector_len as usize, params.ring_bits);
        for vector in &self.vectors {
            let noise = self.sampler.noise(NoiseSeed::generate(&mut rng), vector.len());
            let update = ModelUpdate::new(vector.to_vec()).expect("finite");
            let noised = prepare(update, noise, &privacy, &mut rng).expect("one length");
            sum.add_assign(&noised.into_ring(params.ring_bits)).expect("one ring");
        }
        sum
    }
}

/// Whether every interval holds the truth, and no entry is told that should not be, nor missing.
fn holds(query: &Query, estimate: &Estimate, everybody: &[Vec<f64>]) -> bool {
    let mut all: Vec<f64> = everybody.concat();
    all.sort_by(f64::total_cmp);
    let one = |truth: f64| (estimate.figures[0].low..=estimate.figures[0].high).contains(&truth);
    let count = |holds: &dyn Fn(f64) -> bool| all.iter().filter(|value| holds(**value)).count() as f64;
    match query.kind() {
        Kind::Sum(_) => one(all.iter().sum()),
        Kind::Mean(_) => one(all.iter().sum::<f64>() / all.len() as f64),
        Kind::Quantile { q, .. } => one(all[(q * all.len() as f64).ceil() as usize - 1]),
        Kind::Histogram(range, bins) => estimate.figures.iter().all(|figure| {
            let truth = count(&|value| range.bin(value, *bins) == figure.cell);
            figure.low <= truth && truth <= figure.high
        }),
        Kind::HeavyHitters { domain, least } => {
            let threshold = estimate.threshold.expect("of heavy hitters");
            (0..domain.len() as u32).all(|cell| {
                let truth = count(&|value| value == f64::from(cell));
                match estimate.figures.iter().find(|figure| figure.cell == cell) {
                    Some(figure) => truth >= *least as f64 && figure.low <= truth && truth <= figure.high,
                    None => truth <= threshold.all_above,
                }
            })
        }
    }
}

fn kinds() -> Vec<Kind> {
    vec![
        Kind::Sum(RANGE),
        Kind::Mean(RANGE),
        Kind::Histogram(RANGE, 12),
        Kind::Quantile { range: RANGE, bins: 16, q: 0.5 },
        Kind::HeavyHitters { domain: domain(), least: 3 },
    ]
}

/// In how many of [`ROUNDS`] rounds something is wrong, where the reader believes noise of `believed` times the real deviation.
fn misses(kind: Kind, believed: f64) -> u64 {
    let query = query(kind, Outside::Refuse);
    let mut rng = SplitMix64::for_stream(Stream { seed: 11, client: 0, round: 0 });
    let everybody = everybody(&query, &mut rng);
    let cohort = Cohort::of(&query, &everybody);
    let total_variance = (cohort.params.total_variance as f64 * believed * believed) as u64;
    let read = RoundParams { total_variance, ..cohort.params };
    let is_wrong = |seed: &u64| {
        let of = SumOf { params: &read, roster: CLIENTS, survivors: CLIENTS };
        let estimate = Estimate::of(&query, &cohort.released(*seed), of).expect("of this query");
        !holds(&query, &estimate, &everybody)
    };
    (0..ROUNDS).filter(is_wrong).count() as u64
}

/// Four deviations above what the level permits: a level that holds is exceeded by chance once in 30,000 sets of seeds.
fn permitted() -> f64 {
    let expected = (1.0 - LEVEL) * ROUNDS as f64;
    expected + 4.0 * (expected * LEVEL).sqrt()
}

/// C-310: intervals hold together at least as often as their level says, for every kind.
#[test]
fn intervals_hold_as_often_as_they_say() {
    for kind in kinds() {
        let (word, misses) = (kind.word(), misses(kind, 1.0));
        println!("{word}: wrong in {misses} of {ROUNDS} rounds at level {LEVEL}");
        assert!(misses as f64 <= permitted(), "{word}: {misses}");
        // One coordinate, nothing given away to a union bound: the interval is hardly wider than it must be.
        assert!(word != "sum" || misses as f64 >= 0.7 * (1.0 - LEVEL) * ROUNDS as f64, "{misses}");
    }
}

/// The count above can fail: who believes in less noise than there is misses more often than is permitted.
#[test]
fn intervals_from_too_little_noise_are_caught() {
    for kind in kinds() {
        let (word, misses) = (kind.word(), misses(kind, 0.25));
        assert!(misses as f64 > permitted(), "{word}: {misses}");
    }
}

/// Bad input: refused by its place, with what would be accepted, never with its contents.
#[test]
fn records_that_are_no_answer_are_refused_by_their_place() {
    let histogram = query(Kind::Histogram(RANGE, 4), Outside::Refuse);
    let refused = |query: &Query, records: Records| encode(query, &records).expect_err("refused").to_string();
    for value in [-2.5, 10.000001] {
        let words = refused(&histogram, Records::of_numbers(vec![1.0, value]));
        assert_eq!(words, "record 2 is outside the query's range: values from -2 to 10 are accepted");
    }
    let no_number = "record 1 is no finite number; the query counts numbers";
    assert_eq!(refused(&histogram, Records::of_numbers(vec![f64::NAN])), no_number);
    assert_eq!(refused(&histogram, Records::of_words(vec!["secret".into()])), no_number);
    assert!(refused(&histogram, Records::of_numbers(vec![1.0; 6])).contains("at most 5 records"));
    let heavy = query(Kind::HeavyHitters { domain: domain(), least: 1 }, Outside::Refuse);
    assert!(refused(&heavy, Records::of_words(vec!["a".into(), "A".into()])).starts_with("record 2 is none of the 6"));
    let clamping = query(Kind::Histogram(RANGE, 4), Outside::Clamp);
    let clamped = encode(&clamping, &Records::of_numbers(vec![-1e9, 1e9, 1.0])).expect("clamped");
    assert_eq!(*clamped, [1.0, 1.0, 0.0, 1.0]);
    assert!(encode(&clamping, &Records::of_numbers(vec![f64::INFINITY])).is_err());
}

#[test]
fn vectors_are_those_of_the_table() {
    let of = |kind, values: &[f64]| {
        let query = query(kind, Outside::Refuse);
        encode(&query, &records(&query, values)).expect("an answer").to_vec()
    };
    assert_eq!(of(Kind::Sum(RANGE), &[10.0, 10.0, 5.0]), [0.5]); // of 5 times 10
    assert_eq!(of(Kind::Mean(RANGE), &[10.0, 10.0, 4.0]), [0.4, 0.6]); // centre 4, half-width 6
    assert_eq!(of(Kind::Mean(RANGE), &[]), [0.0, 0.0]);
    let tree = of(Kind::Quantile { range: RANGE, bins: 4, q: 0.5 }, &[-2.0, 0.0, 3.9, 4.0, 10.0]);
    assert_eq!(tree, [3.0, 2.0, 2.0, 1.0, 1.0, 1.0]);
    assert_eq!(of(Kind::HeavyHitters { domain: domain(), least: 1 }, &[2.0, 2.0, 0.0]), [1.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
}
