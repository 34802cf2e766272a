//! Noise, and the account of what it hides, `docs/protocol.md` §10.
//!
//! [`skellam`] draws each client's share of the noise, [`accountant`] turns noise and sensitivity
//! into epsilon, [`budget`] keeps what was promised and spent. Clients, aggregator and auditors run
//! the same lines.

pub mod accountant;
pub mod budget;
pub mod skellam;

pub use accountant::{IntegerRound, RdpCurve, RoundingBounds, SkellamRound, skellam_curve};
pub use budget::{Budget, BudgetError, ChargeKey, Ledger};
pub use skellam::SkellamSampler;
