//! Secure aggregation, suite 1: what client and aggregator decide, and nothing else.
//!
//! This crate does no I/O, reads no clock and draws no randomness of its own: bytes, time and
//! randomness are arguments. `docs/protocol.md` is the text it implements; comments cite its
//! sections (§) and rules (R-). One update is read downward:
//!
//! [`update`] (model update to noised integers) → [`client`] (mask) → [`messages`] (bytes) →
//! [`server`] (judge, close, unmask) → [`client`] (verify).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod audit;
pub mod client;
pub mod graph;
pub mod ids;
pub mod math;
pub mod messages;
pub mod params;
pub mod plan;
pub mod primitives;
pub mod privacy;
pub mod rules;
pub mod server;
pub mod statistics;
pub mod transparency;
pub mod update;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
