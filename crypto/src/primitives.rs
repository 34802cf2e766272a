//! The cryptographic building blocks, each under one name and with no choice left open. §2

pub mod agreement;
pub mod codec;
pub mod context;
pub mod labels;
pub mod merkle;
pub mod prg;
pub mod seal;
pub mod signature;
pub mod wipe;
