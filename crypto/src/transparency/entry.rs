//! What stands in the log: salted roots, so that the log tells nothing to those who lack the salt. §9, R-35
//!
//! ```text
//! entry  = H(salt[32], root[32])
//! root   = root(statement), or for a ledger entry H(task[16], counter u64, context[32], kind u8)
//! ```

use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, TaskId};

/// What became of a round's charge, as the log names it. §9
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Charge {
    /// The round opened.
    Reserved = 1,
    /// Masking opened.
    Spent = 2,
    /// The round ended before that.
    Lapsed = 3,
}

/// The log's entry data for a root.
pub fn root_entry(salt: &[u8; 32], root: Digest) -> Digest {
    Digest(Sha256::new_with_prefix(salt).chain_update(root.0).finalize().into())
}

/// The log's entry data for a statement, given by its bytes without signature.
pub fn statement_entry(salt: &[u8; 32], statement: &[u8]) -> Digest {
    root_entry(salt, Digest(Sha256::digest(statement).into()))
}

/// The log's entry data for a charge; `context` is the root of the round's header.
pub fn ledger_entry(salt: &[u8; 32], task: TaskId, counter: u64, context: Digest, charge: Charge) -> Digest {
    let root = Sha256::new_with_prefix(task.0)
        .chain_update(counter.to_le_bytes())
        .chain_update(context.0)
        .chain_update([charge as u8]);
    root_entry(salt, Digest(root.finalize().into()))
}
