//! What the tests share: stores to run on, a store in memory, a world of real services and clients, and liars.

pub mod attacks;
pub mod blame;
pub mod catalogue;
pub mod encoding;
pub mod fuzz;
pub mod hostile;
pub mod memory_store;
pub mod postgres;
pub mod programs;
pub mod proxy;
pub mod simulate;
pub mod without;
pub mod world;
pub mod wycheproof;
