//! What the tests share: stores to run on, and a store in memory.

pub mod memory_store;
pub mod postgres;
