//! Statistics over the data of many clients, by the same rounds that train models. `docs/statistics.md`
//!
//! ```text
//! query      what is asked: kind, range, bins, records of a client; its one text, whose SHA-256 the header names
//! bound      how far the noise of a sum reaches, with proof
//! estimate   from a released sum to figures, each with its interval
//! ```
//! How a client's records become a vector is in `client-lib/src/statistics`: nothing here reads data.

mod bound;
pub mod estimate;
pub mod query;

pub use estimate::{Estimate, EstimateError, Figure, SumOf};
pub use query::{Kind, Outside, Query, QueryError};
