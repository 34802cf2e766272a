//! From the released sum of a query to figures, each with an interval. `docs/statistics.md`
//!
//! All intervals of one estimate hold *together* with probability at least the query's level, over the noise and the rounding of
//! that round (simultaneous intervals, by the union bound); that one coordinate wraps in the ring is counted in. They speak of the
//! records that the counted clients contributed, not of a population that these were drawn from, and they assume that everybody
//! encoded and noised as the protocol says: less noise makes them too wide, a lie about records is a record like any other.
//!
//! Rounding has mean zero only as long as it is never repeated for its norm (`update/quantize`). With a whole `scale` it never is:
//! coordinates of sum and mean are at most 1 in size, so rounded at most `scale`, which keeps the norm within `clip_norm * scale`;
//! the other kinds are whole already.

use alloc::vec::Vec;

use libm::sqrt;
use thiserror::Error;

use super::bound::{CoordinateError, Weights};
use super::query::{Kind, Query, Range, tree_index};
use crate::math::ring::RingVector;
use crate::params::{ParamsError, RoundParams};

/// Relative error of a coordinate as a 32-bit float, with room for the sums it is made of.
const FLOAT_ERROR: f64 = 1.0 / (1 << 23) as f64;

/// Over whom a sum was formed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SumOf<'a> {
    /// Of the round's header.
    pub params: &'a RoundParams,
    /// Clients of the roster: they divided the noise.
    pub roster: u32,
    /// Clients in the sum.
    pub survivors: u32,
}

/// Why there is no estimate.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum EstimateError {
    /// The round is not one of this query.
    #[error("the round's {what} is {found}, this query has {expected}: they do not belong together")]
    OtherQuery {
        /// Which figure.
        what: &'static str,
        /// The round's.
        found: f64,
        /// The query's.
        expected: f64,
    },
    /// The scale is no whole number.
    #[error("scale must be a whole number from 1 for statistics: their intervals rest on it; it is {0}")]
    Scale(f64),
    /// Coordinates wrap more often than the level permits to be wrong.
    #[error(
        "one coordinate may wrap with probability 2^-{wrap_bits}: too often for the level {level}; raise wrap_bits or lower level"
    )]
    Wraps {
        /// Of the round.
        wrap_bits: u8,
        /// Of the query.
        level: f64,
    },
    /// Not a sum of a permitted roster.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// More were counted than came.
    #[error("a sum of 1 to {roster} clients was expected, {survivors} are said to be in it")]
    Survivors {
        /// Clients of the roster.
        roster: u32,
        /// Clients in the sum.
        survivors: u32,
    },
}

/// What a round tells.
#[derive(Clone, PartialEq, Debug)]
pub struct Estimate {
    /// Clients in the sum.
    pub clients: u32,
    /// With what probability, at least, all intervals hold.
    pub level: f64,
    /// One figure, or one for each bin; of heavy hitters those that are told, most frequent first.
    pub figures: Vec<Figure>,
    /// Of heavy hitters: who is told.
    pub threshold: Option<Threshold>,
}

/// One figure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figure {
    /// Which bin, or entry of the domain; 0 where there is one figure.
    pub cell: u32,
    /// The estimate, noise included; `None` where the noise is larger than what is asked for.
    pub value: Option<f64>,
    /// The interval's lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// Which entries are told: those whose noisy count is above `count`. With the probability of the level, none of them occurs less
/// often than was asked, and none is missing that occurs more often than `all_above`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Threshold {
    /// Of noisy counts.
    pub count: f64,
    /// Of true counts.
    pub all_above: f64,
}

impl SumOf<'_> {
    /// Whether a round with these parameters can answer the query, and estimates of it hold.
    ///
    /// # Errors
    /// [`EstimateError`] with what would be accepted.
    pub fn suits(params: &RoundParams, query: &Query) -> Result<(), EstimateError> {
        let same = |what, found: f64, expected: f64| {
            if found == expected { Ok(()) } else { Err(EstimateError::OtherQuery { what, found, expected }) }
        };
        same("vector_len", params.vector_len.into(), query.vector_len().into())?;
        same("weight_max", params.weight_max.into(), 0.0)?;
        same("clip_norm", params.clip_norm, query.clip_norm())?;
        if params.scale < 1.0 || libm::floor(params.scale) != params.scale {
            return Err(EstimateError::Scale(params.scale));
        }
        if permitted_error(params, query) <= 0.0 {
            return Err(EstimateError::Wraps { wrap_bits: params.wrap_bits, level: query.level() });
        }
        Ok(())
    }
}

/// What the level leaves for noise, once wraps are counted in.
fn permitted_error(params: &RoundParams, query: &Query) -> f64 {
    let wraps = f64::from(query.vector_len()) * libm::exp2(-f64::from(params.wrap_bits));
    (1.0 - query.level()) - wraps
}

impl Estimate {
    /// Reads a released sum.
    ///
    /// # Errors
    /// [`EstimateError`] if sum, round and query do not belong together.
    pub fn of(query: &Query, sum: &RingVector, of: SumOf<'_>) -> Result<Self, EstimateError> {
        let SumOf { params, roster, survivors } = of;
        SumOf::suits(params, query)?;
        let integers = sum.to_signed();
        if integers.len() != params.vector_len as usize {
            let (found, expected) = (integers.len() as f64, params.vector_len.into());
            return Err(EstimateError::OtherQuery { what: "sum's length", found, expected });
        }
        if survivors == 0 || survivors > roster {
            return Err(EstimateError::Survivors { roster, survivors });
        }
        let clients = f64::from(survivors);
        let is_whole = !matches!(query.kind(), Kind::Sum(_) | Kind::Mean(_));
        let reader = Reader {
            query,
            steps: integers.iter().map(|&step| step as f64).collect(),
            scale: params.scale,
            clients,
            error: CoordinateError {
                noise_variance: clients * params.share_variance(roster)? as f64,
                rounding_clients: if is_whole { 0.0 } else { clients },
                bias: if is_whole { 0.0 } else { clients * params.scale * FLOAT_ERROR },
            },
            tail: permitted_error(params, query),
        };
        let (figures, threshold) = match query.kind() {
            Kind::Sum(range) => (alloc::vec![reader.sum(range)], None),
            Kind::Mean(range) => (alloc::vec![reader.mean(range)], None),
            Kind::Histogram(_, bins) => (reader.counts(*bins), None),
            Kind::Quantile { range, bins, q } => (alloc::vec![reader.quantile(range, *bins, *q)], None),
            Kind::HeavyHitters { domain, least } => {
                let (figures, threshold) = reader.heavy(domain.len() as u32, *least);
                (figures, Some(threshold))
            }
        };
        Ok(Self { clients: survivors, level: query.level(), figures, threshold })
    }
}

/// A released sum, in steps, and how far it may be off.
struct Reader<'a> {
    query: &'a Query,
    steps: Vec<f64>,
    scale: f64,
    clients: f64,
    error: CoordinateError,
    /// With what probability intervals may be wrong in all.
    tail: f64,
}

impl Reader<'_> {
    /// The most records that can be in the sum.
    fn records_max(&self) -> f64 {
        self.clients * f64::from(self.query.records_max())
    }

    /// The sum of what `n K` records can add up to, noise and rounding either side.
    fn sum(&self, range: &Range) -> Figure {
        let unit = self.query.unit() / self.scale;
        let (value, reach) = (self.steps[0] * unit, self.error.bound(Weights::ONE, self.tail) * unit);
        let (least, most) = (self.records_max() * range.lo.min(0.0), self.records_max() * range.hi.max(0.0));
        interval(0, value, (value - reach, value + reach), (least, most))
    }

    /// The quotient of two noisy sums, after Fieller (1954): all `m` for which `S - m N` is within its bound of zero, where the
    /// bound of `e_S - m e_N` is at most `sqrt(1 + m^2)` times that of one coordinate. No estimate while the noise could have made
    /// the count.
    fn mean(&self, range: &Range) -> Figure {
        let (s, n) = (self.steps[0], self.steps[1]);
        let of_values = |m: f64| range.centre() + range.half() * m;
        // The largest combination has weights (1, 1): a bias counts in both.
        let one = self.error.bound(Weights { total: 2.0, ..Weights::ONE }, self.tail);
        if n <= one {
            return Figure { cell: 0, value: None, low: range.lo, high: range.hi };
        }
        let (middle, spread) = (s * n, one * sqrt(s * s + n * n - one * one));
        let below = n * n - one * one;
        let ends = [middle - spread, middle + spread].map(|end| of_values((end / below).clamp(-1.0, 1.0)));
        interval(0, of_values((s / n).clamp(-1.0, 1.0)), (ends[0], ends[1]), (range.lo, range.hi))
    }

    fn counts(&self, bins: u32) -> Vec<Figure> {
        let reach = self.error.bound(Weights::ONE, self.tail / f64::from(bins)) / self.scale;
        let most = self.records_max();
        let figure = |(cell, step): (u32, &f64)| {
            let value = step / self.scale;
            interval(cell, value, (value - reach, value + reach), (0.0, most))
        };
        (0..bins).zip(&self.steps).map(figure).collect()
    }

    /// Entries whose count is above the threshold, which noise alone carries nothing over.
    fn heavy(&self, entries: u32, least: u64) -> (Vec<Figure>, Threshold) {
        let reach = self.error.bound(Weights::ONE, self.tail / f64::from(entries)) / self.scale;
        let below = least as f64 - 1.0; // counts are whole: more than least - 1 is least at the least
        let threshold = Threshold { count: below + reach, all_above: below + 2.0 * reach };
        let mut told = self.counts(entries);
        told.retain(|figure| figure.value.is_some_and(|value| value > threshold.count));
        told.sort_by(|one, other| other.value.partial_cmp(&one.value).unwrap_or(core::cmp::Ordering::Equal));
        (told, threshold)
    }

    /// For each edge between bins, how many records lie below it less `q` times all: noisy, from the fewest nodes of the tree
    /// (Dwork, Naor, Pitassi and Rothblum 2010; Chan, Shi and Song 2010). Where that is surely below zero the quantile is not below
    /// the edge; where it is surely not below zero the quantile is below it.
    fn quantile(&self, range: &Range, bins: u32, q: f64) -> Figure {
        let levels = bins.ilog2();
        let node = |level, node| self.steps[tree_index(level, node)];
        let all = node(1, 0) + node(1, 1);
        let nobody = Figure { cell: 0, value: None, low: range.lo, high: range.hi };
        let tail = self.tail / f64::from(bins); // bins - 1 edges, and whether there is anything at all
        let both = Weights { largest: 1.0, squares: 2.0, total: 2.0 };
        if all <= self.error.bound(both, tail) {
            return nobody;
        }
        let mut excess = alloc::vec![-q * all];
        let (mut low, mut high) = (range.lo, range.hi);
        for edge in 1..bins {
            // The nodes that make up the bins below the edge: one for each bit of its number.
            let mut weights = alloc::vec![-q, -q];
            let mut found = -q * all;
            for level in (1..=levels).filter(|level| edge >> (levels - level) & 1 == 1) {
                let first = (edge >> (levels - level)) - 1;
                found += node(level, first);
                if level == 1 { weights[0] += 1.0 } else { weights.push(1.0) }
            }
            let reach = self.error.bound(Weights::of(&weights), tail);
            if found + reach < 0.0 {
                low = range.edge(edge, bins);
            }
            if found - reach >= 0.0 {
                high = high.min(range.edge(edge, bins));
            }
            excess.push(found);
        }
        excess.push((1.0 - q) * all);
        let crossing = zero_of(&rising(&excess));
        let value = range.lo + (range.hi - range.lo) * (crossing / f64::from(bins));
        interval(0, value, (low, high.max(low)), (range.lo, range.hi))
    }
}

/// What is possible of an interval and of the estimate in it. Where nothing is, the nearest end of what is possible.
fn interval(cell: u32, value: f64, (low, high): (f64, f64), (least, most): (f64, f64)) -> Figure {
    let (low, high) = (low.clamp(least, most), high.clamp(least, most));
    Figure { cell, value: Some(value), low, high }
}

/// The nearest rising sequence in the sense of least squares: neighbours that fall are pooled (Barlow et al. 1972).
fn rising(values: &[f64]) -> Vec<f64> {
    let mut pools: Vec<(f64, u32)> = Vec::new();
    for &value in values {
        let mut pool = (value, 1);
        while let Some(&(before, count)) = pools.last().filter(|(before, _)| *before > pool.0) {
            pools.pop();
            let together = count + pool.1;
            pool = ((before * f64::from(count) + pool.0 * f64::from(pool.1)) / f64::from(together), together);
        }
        pools.push(pool);
    }
    pools.into_iter().flat_map(|(value, count)| core::iter::repeat_n(value, count as usize)).collect()
}

/// Where a rising sequence crosses zero, in steps of its index; its first element is below zero, its last is not.
fn zero_of(rising: &[f64]) -> f64 {
    let Some(after) = rising.iter().position(|&value| value >= 0.0).filter(|&after| after > 0) else { return 0.0 };
    let (below, above) = (rising[after - 1], rising[after]);
    (after - 1) as f64 + below / (below - above)
}

#[cfg(test)]
mod tests;
