//! The log: what is appended, and the heads that are signed. §9

pub mod checkpoint;



use sha2::{Digest as _, Sha256};

use crate::ids::Digest;

/// What the log holds of a statement: the root, hidden behind a salt of the round, so that only who has the round's export
/// can tell what was logged. R-35
pub fn salted_leaf(salt: &[u8; 32], root: &Digest) -> Digest {
    let hash = Sha256::new_with_prefix(salt).chain_update(root.0);
    Digest(hash.finalize().into())
}

