//! Arithmetic that the protocol is made of: the ring of the sums, and shares of scalars. §2

pub mod ring;
pub mod shamir;
