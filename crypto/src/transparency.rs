//! The log: what is appended, and the heads that are signed. Trees are in `primitives::merkle`. §9

pub mod checkpoint;
pub mod entry;
