//! Shares that open the sum: of each neighbour in the core one kind, never both. §5.7, R-25
//!
//! ```text
//! statement to the aggregator (previous = survivor root), body: for each neighbour in the core, in ring order:
//!   u8 0 | u8 1, share[32]       b if the neighbour is a survivor, s if not
//! ```
//! The kind follows from the survivor bitmap and is not written down, so both cannot be.

use alloc::vec::Vec;

use crate::ids::{ClientId, Digest, Party};
use crate::math::shamir::ShareScalar;
use crate::messages::Chain;
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::signature::{IdentitySecretKey, Place, Signed};

/// The one share given out for a neighbour, if the holder has it.
pub type AnswerShare = Option<ShareScalar>;

/// One client's shares for all its neighbours in the core.
#[derive(Clone, Debug)]
pub struct Answer {
    signed: Signed,
    shares: Vec<AnswerShare>,
}

impl Answer {
    /// Signs the shares, in ring order.
    pub fn sign(
        shares: Vec<AnswerShare>,
        chain: &Chain,
        survivors: Digest,
        client: ClientId,
        key: &IdentitySecretKey,
    ) -> Self {
        let mut body = Vec::new();
        for share in &shares {
            match share {
                None => body.push(0),
                Some(scalar) => {
                    body.push(1);
                    body.extend(scalar.as_bytes());
                }
            }
        }
        Self { signed: place(chain, survivors, client).statement(labels::ANSWER, body).sign(key), shares }
    }

    /// Reads a message about exactly `neighbours` neighbours in the core.
    pub fn decode(bytes: &[u8], neighbours: usize) -> Result<Self, DecodeError> {
        let wrong = |expected| DecodeError::NotCanonical { field: "answer", expected };
        let signed = Signed::decode(bytes, labels::ANSWER)?;
        let mut reader = Reader::new(&signed.statement().body);
        let share = |reader: &mut Reader<'_>| match reader.u8("present")? {
            0 => Ok(None),
            1 => {
                ShareScalar::from_bytes(&reader.array("share")?).map(Some).ok_or(wrong("scalars below the group order"))
            }
            _ => Err(wrong("0 or 1 before each share")),
        };
        let shares = (0..neighbours).map(|_| share(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { signed, shares })
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }

    /// The signed statement.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// In the ring order of the holder's neighbours in the core.
    pub fn shares(&self) -> &[AnswerShare] {
        &self.shares
    }
}

/// Where an answer stands.
pub fn place(chain: &Chain, survivors: Digest, client: ClientId) -> Place {
    Place { context: chain.context, previous: survivors, sender: Party::from(client), receiver: chain.aggregator }
}
