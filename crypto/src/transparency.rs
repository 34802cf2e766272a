//! The log: the heads that are signed. What is appended, the store says; trees are in `primitives::merkle`. §9

pub mod checkpoint;
