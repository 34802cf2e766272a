//! The published sum. §5.7
//!
//! ```text
//! statement of the aggregator (previous = survivor root), body: count u32, sum_digest[32], outcome u8
//! as served = signed statement, then the packed sum if the outcome is 1 (released)
//! ```

use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use crate::ids::Digest;
use crate::math::ring::RingVector;
use crate::messages::Chain;
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::signature::Statement;

/// How the unmasking ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The sum follows.
    Released,
    /// A secret could not be rebuilt; there is no sum.
    NotOpened,
}

/// The last statement of a round.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoundResult {
    statement: Statement,
    count: u32,
    digest: Digest,
    outcome: Outcome,
}

impl RoundResult {
    /// A sum of `count` inputs.
    pub fn released(sum: &RingVector, count: u32, chain: &Chain, survivors: Digest) -> (Self, Vec<u8>) {
        let packed = sum.pack();
        let digest = Digest(Sha256::digest(&packed).into());
        (Self::new(count, digest, Outcome::Released, chain, survivors), packed)
    }

    /// No sum.
    pub fn not_opened(count: u32, chain: &Chain, survivors: Digest) -> Self {
        Self::new(count, Digest::NONE, Outcome::NotOpened, chain, survivors)
    }

    fn new(count: u32, digest: Digest, outcome: Outcome, chain: &Chain, survivors: Digest) -> Self {
        let mut body = count.to_le_bytes().to_vec();
        body.extend(digest.0);
        body.push(match outcome {
            Outcome::Released => 1,
            Outcome::NotOpened => 2,
        });
        Self { statement: chain.from_aggregator(survivors).statement(labels::RESULT, body), count, digest, outcome }
    }

    /// Reads the statement.
    pub fn from_statement(statement: Statement) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&statement.body);
        let count = reader.u32("count")?;
        let digest = reader.digest("sum digest")?;
        let outcome = match reader.u8("outcome")? {
            1 => Outcome::Released,
            2 => Outcome::NotOpened,
            _ => return Err(DecodeError::NotCanonical { field: "outcome", expected: "1 or 2" }),
        };
        reader.finish()?;
        if outcome == Outcome::NotOpened && digest != Digest::NONE {
            return Err(DecodeError::NotCanonical { field: "sum digest", expected: "zeros where there is no sum" });
        }
        Ok(Self { statement, count, digest, outcome })
    }

    /// The unsigned statement.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// How many inputs are in the sum.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether these are the packed bytes of the sum.
    pub fn is_sum(&self, packed: &[u8]) -> bool {
        self.digest.0 == <[u8; 32]>::from(Sha256::digest(packed))
    }
}
