//! The survivors, L: whose inputs are in the sum. §5.5, R-20
//!
//! ```text
//! statement of the aggregator (previous = core root), body: bitmap, uploads_root[32]
//! uploads_root: RFC 6962 tree over (leaf index u32, SHA-256 of the upload statement) of L, ascending
//! ```

use alloc::vec::Vec;

use crate::ids::Digest;
use crate::messages::{Bitmap, Chain};
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::signature::Statement;

/// One signed survivor list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survivors {
    statement: Statement,
    members: Bitmap,
}

impl Survivors {
    /// Fixes the list.
    pub fn fix(members: Bitmap, uploads_root: Digest, chain: &Chain, core: Digest) -> Self {
        let mut body = Vec::new();
        members.write(&mut body);
        body.extend(uploads_root.0);
        Self { statement: chain.from_aggregator(core).statement(labels::SURVIVORS, body), members }
    }

    /// Reads the statement over a roster of `n`.
    pub fn from_statement(statement: Statement, n: u32) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&statement.body);
        let members = Bitmap::read(&mut reader, n)?;
        let _uploads_root = reader.digest("uploads root")?;
        reader.finish()?;
        Ok(Self { statement, members })
    }

    /// The unsigned statement.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The "survivor root": what is confirmed.
    pub fn root(&self) -> Digest {
        self.statement.root()
    }

    /// Who is counted.
    pub fn members(&self) -> &Bitmap {
        &self.members
    }
}
