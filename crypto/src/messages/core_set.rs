//! The core, U2: the clients whose shares are in place and who may upload. §5.3, R-17
//!
//! ```text
//! statement of the aggregator (previous = roster root), body: bitmap (bitmap.rs)
//! ```

use alloc::vec::Vec;

use crate::ids::Digest;
use crate::messages::{Bitmap, Chain};
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::signature::Statement;

/// One signed bitmap, fixed after the acknowledgements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoreSet {
    statement: Statement,
    members: Bitmap,
}

impl CoreSet {
    /// Fixes the core.
    pub fn fix(members: Bitmap, chain: &Chain, roster: Digest) -> Self {
        let mut body = Vec::new();
        members.write(&mut body);
        Self { statement: chain.from_aggregator(roster).statement(labels::CORE, body), members }
    }

    /// Reads the statement over a roster of `n`.
    pub fn from_statement(statement: Statement, n: u32) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&statement.body);
        let members = Bitmap::read(&mut reader, n)?;
        reader.finish()?;
        Ok(Self { statement, members })
    }

    /// The unsigned statement.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The "core root".
    pub fn root(&self) -> Digest {
        self.statement.root()
    }

    /// Who is in it.
    pub fn members(&self) -> &Bitmap {
        &self.members
    }
}
