//! What the tests share: stores to run on, a store in memory, a world of real services and clients, and liars.

pub mod attacks;
pub mod blame;
pub mod canary;
pub mod catalogue;
pub mod deployment;
pub mod dice;
pub mod encoding;
pub mod fuzz;
pub mod hostile;
pub mod kill;
pub mod manifests;
pub mod memory;
pub mod memory_store;
pub mod model;
pub mod operated;
pub mod postgres;
pub mod programs;
pub mod proxy;
pub mod simulate;
pub mod sql_proxy;
pub mod stores;
pub mod timing;
pub mod without;
pub mod world;
pub mod wycheproof;
