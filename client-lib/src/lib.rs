//! The client of Veilsum: take part in private federated training and statistics.
//!
//! One update is followed by reading downward: [`training`] makes it, or [`statistics`] from a client's records, [`participant`] drives it through the phases of
//! `veilsum_crypto::client`, [`saved`] writes down every step before its message is released, [`transport`] carries
//! bytes. `examples/quickstart.rs` is the whole of it on one page.

pub mod config;
pub mod participant;
pub mod saved;
pub mod statistics;
pub mod training;
pub mod transport;

pub use config::{Identity, Join};
pub use participant::{ClientEvent, LeftOut, LocalWork, Participant, ParticipantError, RoundOutcome, TrainerWork};
pub use statistics::{Records, StatisticsWork};
pub use transport::{HttpTransport, Transport};
