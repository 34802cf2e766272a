//! The aggregator: it lets `veilsum-crypto` decide, and keeps what was decided. §8

pub mod store;
