//! A client's records, as the vector of a query. `docs/statistics.md`
//!
//! [`encode`] is the only place that turns records into numbers; what it returns is clipped, rounded, noised and masked as an
//! update of a model is (`crypto/src/update`). It knows nothing of the protocol. Whatever it refuses it refuses before anything
//! is sent ([`StatisticsWork`]), and its words name a record by its place, never by its contents.

mod records;
mod work;

use thiserror::Error;
use veilsum_crypto::statistics::query::{Range, tree_index};
use veilsum_crypto::statistics::{Kind, Outside, Query};
use zeroize::Zeroizing;

pub use records::{FileError, Records};
pub use work::{StatisticsWork, query_of};

/// Why records are no answer to a query. Places and bounds, never contents; places count from 1.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum RecordsError {
    /// More than the query takes of one client.
    #[error(
        "at most {records_max} records of one client are counted, {found} came; choose {records_max} of them at random"
    )]
    TooMany {
        /// K.
        records_max: u32,
        /// Records that came.
        found: usize,
    },
    /// Text where a number was asked for.
    #[error("record {place} is no finite number; the query counts numbers")]
    NoNumber {
        /// Which record.
        place: usize,
    },
    /// Outside the range, where the query does not clamp.
    #[error("record {place} is outside the query's range: values from {} to {} are accepted", range.lo, range.hi)]
    Outside {
        /// Which record.
        place: usize,
        /// What is accepted.
        range: Range,
    },
    /// Not one of the domain.
    #[error("record {place} is none of the {entries} entries of the query's domain, written as they are there")]
    NotInDomain {
        /// Which record.
        place: usize,
        /// Of the domain.
        entries: usize,
    },
}

/// The vector: [`Query::vector_len`] coordinates of norm at most [`Query::clip_norm`]. No records give zeros.
///
/// # Errors
/// [`RecordsError`].
pub fn encode(query: &Query, records: &Records) -> Result<Zeroizing<Vec<f32>>, RecordsError> {
    let (records_max, found) = (query.records_max(), records.len());
    if found > records_max as usize {
        return Err(RecordsError::TooMany { records_max, found });
    }
    let mut vector = Zeroizing::new(vec![0_f32; query.vector_len() as usize]);
    match query.kind() {
        Kind::Sum(range) => {
            let sum: f64 = values(query, records, range)?.iter().sum();
            vector[0] = (sum / query.unit()) as f32;
        }
        Kind::Mean(range) => {
            let values = values(query, records, range)?;
            let sum: f64 = values.iter().map(|value| value - range.centre()).sum();
            vector[0] = (sum / query.unit()) as f32;
            vector[1] = (found as f64 / f64::from(records_max)) as f32;
        }
        Kind::Histogram(range, bins) => {
            for value in values(query, records, range)?.iter() {
                vector[range.bin(*value, *bins) as usize] += 1.0;
            }
        }
        Kind::Quantile { range, bins, .. } => {
            let levels = bins.ilog2();
            for value in values(query, records, range)?.iter() {
                let bin = range.bin(*value, *bins);
                (1..=levels).for_each(|level| vector[tree_index(level, bin >> (levels - level))] += 1.0);
            }
        }
        Kind::HeavyHitters { domain, .. } => {
            for (place, word) in (1..).zip(records.words().iter()) {
                let outside = RecordsError::NotInDomain { place, entries: domain.len() };
                vector[domain.binary_search(word).map_err(|_| outside)?] += 1.0;
            }
        }
    }
    Ok(vector)
}

/// All values, each in the range.
fn values(query: &Query, records: &Records, range: &Range) -> Result<Zeroizing<Vec<f64>>, RecordsError> {
    let mut values = Zeroizing::new(Vec::with_capacity(records.len()));
    for (place, value) in (1..).zip(records.numbers().iter()) {
        let value = value.filter(|value| value.is_finite()).ok_or(RecordsError::NoNumber { place })?;
        match query.outside() {
            Outside::Clamp => values.push(value.clamp(range.lo, range.hi)),
            Outside::Refuse if range.contains(value) => values.push(value),
            Outside::Refuse => return Err(RecordsError::Outside { place, range: *range }),
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests;
