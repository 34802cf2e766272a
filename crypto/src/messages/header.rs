//! The header: everything equal for everybody that is known when the round opens. §5.1
//!
//! ```text
//! suite u16, task[16], counter u64, opened_at u64 (us), aggregator_key[32], authority_key[32],
//! revocation_number u64, revocation_digest[32], model_hash[32], log_size u64, log_root[32], layout_hash[32],
//! then the round parameters (params.rs)
//! ```
//! Its root is the round's context.

use alloc::vec::Vec;

use crate::ids::{Digest, Party, RoundId, TaskId, Timestamp};
use crate::messages::Chain;
use crate::params::RoundParams;
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::merkle::TreeHead;
use crate::primitives::signature::{IdentityPublicKey, Place, Statement};

/// Pairwise masks on a sparse graph.
pub const SUITE: u16 = 1;

/// A round as it opens.
#[derive(Clone, PartialEq, Debug)]
pub struct Header {
    /// Of which task.
    pub task: TaskId,
    /// Grows with every round of the task; starts at 1.
    pub counter: u64,
    /// When the aggregator opened the round: certificates are judged at this time.
    pub opened_at: Timestamp,
    /// Signs every statement of the chain.
    pub aggregator_key: IdentityPublicKey,
    /// Certifies clients.
    pub authority_key: IdentityPublicKey,
    /// Number of the authority's revocation list; 0: none.
    pub revocation_number: u64,
    /// Root of that list; zeros: none.
    pub revocation_digest: Digest,
    /// SHA-256 of the model that clients train from.
    pub model_hash: Digest,
    /// The log when the round opened.
    pub log: TreeHead,
    /// SHA-256 of the layout of the vector.
    pub layout_hash: Digest,
    /// Everything numeric.
    pub params: RoundParams,
}

impl Header {
    /// The unsigned statement.
    pub fn statement(&self) -> Statement {
        let mut body = Vec::new();
        body.extend(SUITE.to_le_bytes());
        body.extend(self.task.0);
        body.extend(self.counter.to_le_bytes());
        body.extend(self.opened_at.0.to_le_bytes());
        body.extend(self.aggregator_key.as_bytes());
        body.extend(self.authority_key.as_bytes());
        body.extend(self.revocation_number.to_le_bytes());
        body.extend(self.revocation_digest.0);
        body.extend(self.model_hash.0);
        body.extend(self.log.size.to_le_bytes());
        body.extend(self.log.root.0);
        body.extend(self.layout_hash.0);
        self.params.write(&mut body);
        Place {
            context: Digest::NONE,
            previous: Digest::NONE,
            sender: self.aggregator_key.party(),
            receiver: Party::EVERYBODY,
        }
        .statement(labels::HEADER, body)
    }

    /// Reads the statement; its place must be that of a header of the key it names.
    pub fn from_statement(statement: &Statement) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&statement.body);
        if reader.u16("suite")? != SUITE {
            return Err(DecodeError::NotCanonical { field: "suite", expected: "1" });
        }
        let header = Self {
            task: TaskId(reader.array("task")?),
            counter: reader.u64("counter")?,
            opened_at: Timestamp(reader.u64("opened_at")?),
            aggregator_key: IdentityPublicKey::from_bytes(reader.array("aggregator key")?)?,
            authority_key: IdentityPublicKey::from_bytes(reader.array("authority key")?)?,
            revocation_number: reader.u64("revocation number")?,
            revocation_digest: reader.digest("revocation digest")?,
            model_hash: reader.digest("model hash")?,
            log: TreeHead { size: reader.u64("log size")?, root: reader.digest("log root")? },
            layout_hash: reader.digest("layout hash")?,
            params: RoundParams::read(&mut reader)?,
        };
        reader.finish()?;
        if header.counter == 0 {
            return Err(DecodeError::NotCanonical { field: "counter", expected: "at least 1" });
        }
        if header.statement() != *statement {
            return Err(DecodeError::NotCanonical {
                field: "header",
                expected: "no context, no previous, sent by the key it names",
            });
        }
        Ok(header)
    }

    /// Where the other statements of this round stand.
    pub fn chain(&self) -> Chain {
        Chain { context: self.statement().root(), aggregator: self.aggregator_key.party() }
    }

    /// The round's name: the beginning of its context.
    pub fn round(&self) -> RoundId {
        round_of(&self.statement().root())
    }
}

/// The round that a context belongs to.
pub fn round_of(context: &Digest) -> RoundId {
    RoundId(context.0[..16].try_into().expect("a digest has 32 bytes"))
}
