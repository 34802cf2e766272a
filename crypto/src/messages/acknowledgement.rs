//! What a holder found in its mailbox, edge by edge. §5.3
//!
//! ```text
//! statement (previous = roster root), body: for each of the k neighbours in ring order
//!   u8 0 missing | 1 good | 2 complaint, edge_hash[32]
//! then shares_digest[32]: SHA-256 over the roots of the share statements behind the entries 1 and 2, in ring order
//! ```

use alloc::vec::Vec;

use crate::ids::{ClientId, Digest, LeafIndex};
use crate::messages::Chain;
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::signature::{IdentitySecretKey, Signed};

/// What became of one edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EdgeReport {
    /// Nothing came, or nothing that its dealer signed: never a complaint (R-16).
    Missing,
    /// It opened, and both shares match their points.
    Good,
    /// The dealer signed it, and it does not open or does not match.
    Complaint {
        /// The hash of that very edge.
        edge: Digest,
    },
}

/// A holder's one report on all its edges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acknowledgement {
    signed: Signed,
    reports: Vec<EdgeReport>,
    shares: Digest,
}

impl Acknowledgement {
    /// Signs the reports, which are in the holder's ring order; `shares` is [`shares_digest`] of what they are about.
    pub fn sign(
        shares: Digest,
        reports: Vec<EdgeReport>,
        chain: &Chain,
        roster: Digest,
        holder: ClientId,
        key: &IdentitySecretKey,
    ) -> Self {
        let mut body = Vec::with_capacity(reports.len());
        for report in &reports {
            match report {
                EdgeReport::Missing => body.push(0),
                EdgeReport::Good => body.push(1),
                EdgeReport::Complaint { edge } => {
                    body.push(2);
                    body.extend(edge.0);
                }
            }
        }
        body.extend(shares.0);
        Self {
            shares,
            signed: chain.from_client(holder, roster).statement(labels::ACKNOWLEDGEMENT, body).sign(key),
            reports,
        }
    }

    /// Reads a message of exactly `degree` reports.
    pub fn decode(bytes: &[u8], degree: u32) -> Result<Self, DecodeError> {
        let signed = Signed::decode(bytes, labels::ACKNOWLEDGEMENT)?;
        let mut reader = Reader::new(&signed.statement().body);
        let report = |reader: &mut Reader<'_>| {
            Ok(match reader.u8("report")? {
                0 => EdgeReport::Missing,
                1 => EdgeReport::Good,
                2 => EdgeReport::Complaint { edge: reader.digest("edge hash")? },
                _ => return Err(DecodeError::NotCanonical { field: "report", expected: "0, 1 or 2" }),
            })
        };
        let reports = (0..degree).map(|_| report(&mut reader)).collect::<Result<_, _>>()?;
        let shares = reader.digest("shares digest")?;
        reader.finish()?;
        Ok(Self { signed, reports, shares })
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }

    /// The signed statement.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// Over which share statements it was made.
    pub fn shares(&self) -> Digest {
        self.shares
    }

    /// In the holder's ring order.
    pub fn reports(&self) -> &[EdgeReport] {
        &self.reports
    }

    /// Those of the holder's neighbours, in its ring order, whose mail it says it got.
    pub fn reported_on(&self, neighbours: &[LeafIndex]) -> Vec<LeafIndex> {
        let reported = neighbours.iter().zip(&self.reports).filter(|(_, report)| **report != EdgeReport::Missing);
        reported.map(|(dealer, _)| *dealer).collect()
    }

    /// How many complaints.
    pub fn complaints(&self) -> u32 {
        self.reports.iter().filter(|report| matches!(report, EdgeReport::Complaint { .. })).count() as u32
    }
}

/// SHA-256 over the roots of share statements, in ring order. A dealer that signs two share messages could otherwise have an
/// honest holder answer from the one that the aggregator never admitted, and be named for it (R-29).
pub fn shares_digest(roots: impl IntoIterator<Item = Digest>) -> Digest {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    roots.into_iter().for_each(|root| hash.update(root.0));
    Digest(hash.finalize().into())
}
