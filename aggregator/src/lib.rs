//! The aggregator: rounds, their store, their HTTP surface.
//!
//! `http` translates, `round` acts, `store` remembers; what is decided is decided in `veilsum-crypto`. Arrows point one
//! way: http -> round -> store.

pub mod clock;
pub mod config;
pub mod host;
pub mod http;
pub mod round;
pub mod service;
pub mod store;
pub mod task;
