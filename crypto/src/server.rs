//! The aggregator's side: two pure functions a phase. §8
//!
//! `accept` judges one message against settled facts and changes nothing; `close` turns everything
//! accepted into the next phase and the rows to write with it. A phase value holds settled facts
//! only, so it is small, safe to cache, and never hot. Time and chance are arguments.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::ids::{ClientId, Digest};
use crate::math::ring::RingVector;

/// What SQL needs to know of a phase: the gates are open for exactly one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum PhaseKind {
    /// §5.1
    Advertising = 0,
    /// §5.2
    Sharing = 1,
    /// §5.3
    Acknowledging = 2,
    /// §5.4
    Opening = 3,
    /// §5.5
    Masking = 4,
    /// §5.6
    Confirming = 5,
    /// §5.7
    Unmasking = 6,
    /// The sum is published. §5.8
    Published = 7,
    /// The round ended without a sum.
    Abandoned = 8,
}

impl PhaseKind {
    /// Every phase, in order.
    pub const ALL: [PhaseKind; 9] = [
        PhaseKind::Advertising,
        PhaseKind::Sharing,
        PhaseKind::Acknowledging,
        PhaseKind::Opening,
        PhaseKind::Masking,
        PhaseKind::Confirming,
        PhaseKind::Unmasking,
        PhaseKind::Published,
        PhaseKind::Abandoned,
    ];

    /// The inverse of `as u8`.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Nothing is admitted any more.
    pub fn is_over(self) -> bool {
        matches!(self, PhaseKind::Published | PhaseKind::Abandoned)
    }
}

/// A statement of the aggregator's chain, §4.2. One of each kind a round, R-30.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum StatementKind {
    /// §5.1
    Header = 0,
    /// §5.1
    Roster = 1,
    /// §5.3
    Core = 2,
    /// §5.5
    Survivors = 3,
    /// §5.7
    Result = 4,
}

/// Proof that `accept` has judged a message; made nowhere else.
#[derive(Debug)]
pub struct Accepted {
    client: ClientId,
    digest: Digest,
    keep: Keep,
    claims: Vec<Digest>,
}

/// What the store does with an accepted message.
#[derive(Debug)]
pub enum Keep {
    /// Keep the bytes until the round is over.
    Body(Vec<u8>),
    /// Keep the bytes, and one piece of mail for each holder.
    Mail {
        /// The dealer's message.
        body: Vec<u8>,
        /// Mail items by holder.
        to: BTreeMap<ClientId, Vec<u8>>,
    },
    /// Keep the signed statement; add the vector to the sum and forget it.
    Sum {
        /// The signed upload statement, without the vector.
        statement: Vec<u8>,
        /// The masked input.
        vector: RingVector,
    },
}

impl Accepted {
    /// Who sent it.
    pub fn client(&self) -> ClientId {
        self.client
    }
    /// SHA-256 of the whole message body: the same bytes again succeed, others do not.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// What to do with it.
    pub fn keep(&self) -> &Keep {
        &self.keep
    }
    /// Keys that nobody else may bring in this round: the first who claims one has it, R-09.
    pub fn claims(&self) -> &[Digest] {
        &self.claims
    }
}

#[cfg(any(test, feature = "testing"))]
impl Accepted {
    /// For tests of stores, which do not look inside.
    pub fn unjudged(client: ClientId, digest: Digest, keep: Keep, claims: Vec<Digest>) -> Self {
        Self { client, digest, keep, claims }
    }
}

/// What became of one message of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admitted {
    /// Written down now.
    Fresh,
    /// The same bytes stood there already.
    Again,
    /// The client sent other bytes before.
    OtherBytes,
    /// Another client claimed one of its keys first, R-09.
    KeyTaken,
    /// The phase has closed.
    Closed,
}

/// Everything a phase accepted. The gates are shut, so it cannot grow.
#[derive(Default, Debug)]
pub struct Received {
    /// Message bodies by client (for masked inputs: the signed statements).
    pub bodies: BTreeMap<ClientId, Vec<u8>>,
    /// The share messages of the round; only where `close` needs them (acknowledging, unmasking).
    pub shares: BTreeMap<ClientId, Vec<u8>>,
    /// The sum of the masked inputs; only for unmasking.
    pub sum: Option<RingVector>,
}

/// A row to write in the same transaction as the phase. Work that remains is never an effect; it is a phase.
#[derive(PartialEq, Eq, Debug)]
pub enum Effect {
    /// A statement, unsigned: fixed first, signed when it is read back, R-30.
    Statement {
        /// Which of the chain.
        kind: StatementKind,
        /// The bytes to sign.
        bytes: Vec<u8>,
        /// What is served after the signature (roster: the list of leaves; result: the packed sum).
        attachment: Vec<u8>,
    },
    /// Masking opens: what the round reserved is spent for good, R-26.
    Spend,
    /// The round ended before masking opened: its reservation lapses.
    Lapse,
    /// Somebody is named, with the signed bytes that prove it.
    Fault {
        /// Who.
        client: ClientId,
        /// The rule broken.
        rule: u8,
        /// Bytes that bear the client's valid signature.
        evidence: Vec<u8>,
    },
    /// The next model, made from the sum (added by the aggregator's learning, never by `close`).
    Model {
        /// As stored and served.
        bytes: Vec<u8>,
        /// SHA-256 of them.
        digest: Digest,
    },
    /// The round is over: bodies, mail, sums and keys are erased; digests stay.
    Erase,
}
