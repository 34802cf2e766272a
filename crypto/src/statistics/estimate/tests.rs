//! Estimates without noise are exact, rounds of another query are refused. That intervals cover, through the client's own encoder
//! and noise, is tested in `client-lib/src/statistics`.

use alloc::string::ToString;
use alloc::vec;

use super::super::query::{Outside, Proposal};
use super::*;
use crate::testing::demo_params;

const RANGE: Range = Range { lo: 0.0, hi: 8.0 };

fn query(kind: Kind, records_max: u32) -> Query {
    Query::new(Proposal { kind, records_max, outside: Outside::Refuse, level: 0.95 }).expect("it holds")
}

/// Parameters of a round of the query, with noise of this variance.
fn round(query: &Query, total_variance: u64) -> RoundParams {
    RoundParams {
        vector_len: query.vector_len(),
        weight_max: 0,
        clip_norm: query.clip_norm(),
        scale: 1_024.0,
        total_variance,
        wrap_bits: 40,
        ring_bits: crate::math::ring::RingBits::MAX,
        corrupt_fraction: 0,
        dropout_tolerance: 0,
        cohort_min: 4,
        ..demo_params(4)
    }
}

/// The estimate of a sum of four clients of whom all vectors together are `units`.
fn told(query: &Query, units: &[f64], total_variance: u64) -> Estimate {
    let params = round(query, total_variance);
    let steps: Vec<i64> = units.iter().map(|unit| (unit * params.scale) as i64).collect();
    let sum = RingVector::from_signed(&steps, params.ring_bits);
    Estimate::of(query, &sum, SumOf { params: &params, roster: 4, survivors: 4 }).expect("they belong together")
}

/// Four clients with one record each: 1, 3, 3.5 and 8.
#[test]
fn without_noise_figures_are_what_was_counted() {
    let counts = [0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0];
    let histogram = told(&query(Kind::Histogram(RANGE, 8), 1), &counts, 0);
    for (figure, count) in histogram.figures.iter().zip(counts) {
        assert_eq!((figure.value, figure.low, figure.high), (Some(count), count, count));
    }
    let tree = [3.0, 1.0, 1.0, 2.0, 0.0, 1.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0];
    for (q, bin) in [(0.25, 1.0), (0.3, 3.0), (0.5, 3.0), (0.75, 3.0), (0.8, 7.0)] {
        let figure = told(&query(Kind::Quantile { range: RANGE, bins: 8, q }, 1), &tree, 0).figures[0];
        assert_eq!((figure.low, figure.high), (bin, bin + 1.0), "{q}");
        assert!(figure.value.is_some_and(|value| (bin..=bin + 1.0).contains(&value)), "{figure:?}");
    }
    let domain = ["a", "b", "c"].map(ToString::to_string).to_vec();
    let heavy = told(&query(Kind::HeavyHitters { domain, least: 2 }, 1), &[1.0, 3.0, 2.0], 0);
    assert_eq!(heavy.figures.iter().map(|figure| figure.cell).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(heavy.threshold, Some(Threshold { count: 1.0, all_above: 1.0 }));

    let sum = told(&query(Kind::Sum(RANGE), 1), &[15.5 / 8.0], 0).figures[0];
    assert!(sum.value == Some(15.5) && sum.low < 15.5 && sum.high > 15.5 && sum.high - sum.low < 0.1, "{sum:?}");
    let mean = told(&query(Kind::Mean(RANGE), 1), &[(15.5 - 16.0) / 4.0, 4.0], 0).figures[0];
    assert!(
        mean.value == Some(3.875) && mean.low < 3.875 && mean.high > 3.875 && mean.high - mean.low < 0.1,
        "{mean:?}"
    );
}

/// Whatever the noise, nothing impossible is told, and where it drowns the count there is no estimate.
#[test]
fn noise_widens_intervals_within_what_is_possible() {
    let variance = 64 << 20; // 8 records wide
    let counts = told(&query(Kind::Histogram(RANGE, 2), 1), &[-9.0, 3.0], variance);
    assert!(counts.figures.iter().all(|figure| figure.low == 0.0 && figure.high <= 4.0), "{counts:?}");
    assert_eq!(counts.figures[0].high, 4.0_f64.min(counts.figures[0].high));
    let nothing = told(&query(Kind::Mean(RANGE), 1), &[0.1, 4.0], variance).figures[0];
    assert_eq!(nothing, Figure { cell: 0, value: None, low: 0.0, high: 8.0 });
    let nothing = told(&query(Kind::Quantile { range: RANGE, bins: 2, q: 0.5 }, 1), &[2.0, 2.0], variance).figures[0];
    assert_eq!(nothing, Figure { cell: 0, value: None, low: 0.0, high: 8.0 });
    let domain = vec!["a".to_string(), "b".to_string()];
    assert!(told(&query(Kind::HeavyHitters { domain, least: 1 }, 1), &[4.0, 0.0], variance).figures.is_empty());
}

#[test]
fn a_round_of_another_query_is_refused() {
    let query = query(Kind::Histogram(RANGE, 4), 2);
    let right = round(&query, 1_000);
    assert_eq!(SumOf::suits(&right, &query), Ok(()));
    let refused = |params: RoundParams| SumOf::suits(&params, &query).expect_err("refused").to_string();
    assert!(refused(RoundParams { vector_len: 5, ..right }).contains("vector_len is 5, this query has 4"));
    assert!(refused(RoundParams { clip_norm: 4.0, ..right }).contains("clip_norm is 4, this query has 2"));
    assert!(refused(RoundParams { weight_max: 1, ..right }).contains("weight_max"));
    for scale in [0.5, 1.5] {
        assert!(refused(RoundParams { scale, ..right }).contains("a whole number from 1"));
    }
    assert!(refused(RoundParams { wrap_bits: 5, ..right }).contains("raise wrap_bits"));
    let sum = RingVector::zeros(4, right.ring_bits);
    for survivors in [0, 5] {
        let refused = Estimate::of(&query, &sum, SumOf { params: &right, roster: 4, survivors });
        assert_eq!(refused, Err(EstimateError::Survivors { roster: 4, survivors }));
    }
    let short = RingVector::zeros(3, right.ring_bits);
    assert!(Estimate::of(&query, &short, SumOf { params: &right, roster: 4, survivors: 4 }).is_err());
}

#[test]
fn falling_neighbours_are_pooled() {
    assert_eq!(rising(&[-2.0, 3.0, 1.0, 2.0, 9.0]), [-2.0, 2.0, 2.0, 2.0, 9.0]);
    assert_eq!(rising(&[3.0, 2.0, 1.0]), [2.0, 2.0, 2.0]);
    assert_eq!(zero_of(&[-2.0, -1.0, 3.0]), 1.25);
    assert_eq!(zero_of(&[0.0, 1.0]), 0.0);
}
