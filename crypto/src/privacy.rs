//! Noise, and the account of what it hides, `docs/protocol.md` §10.
//!
//! [`skellam`] draws each client's share of the noise, [`accountant`] turns noise and sensitivity
//! into epsilon, [`budget`] keeps what was promised and spent. Clients, aggregator and auditors run
//! the same lines.
//!
//! The other accountants are for planning and for checks: [`gaussian`] and [`discrete_gaussian`] are exact, [`zcdp`] converts,
//! [`distributed`] bounds discrete Gaussian shares, [`subsampled`] is the figure for outsiders only, [`solver`] finds
//! parameters, [`xnoise`] and [`clipping`] are arithmetic that rounds may use, [`empirical`] is for audits. docs/privacy.md lists
//! their formulas.

pub mod accountant;
pub mod budget;
pub mod clipping;
pub mod discrete_gaussian;
pub mod discrete_gaussian_sampler;
pub mod distributed;
pub mod empirical;
pub mod gaussian;
mod inversion;
pub(crate) mod numeric;
pub mod skellam;
pub mod skellam_gaussian;
pub mod solver;
mod staircase;
pub mod subsampled;
mod wide;
pub mod xnoise;
pub mod zcdp;

pub use accountant::{IntegerRound, RdpCurve, RoundingBounds, SkellamRound, skellam_curve};
pub use budget::{Budget, BudgetError, ChargeKey, Ledger};
pub use skellam::SkellamSampler;
