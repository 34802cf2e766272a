//! The client of Veilsum.
pub mod training;
