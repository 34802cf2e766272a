//! A dealer's public answer to complaints: the shares of those edges. §5.4
//!
//! ```text
//! statement (previous = roster root), body: count u16, then ascending: holder u32, s[32], b[32]
//! ```

use alloc::{collections::BTreeMap, vec::Vec};

use crate::ids::{ClientId, Digest, LeafIndex};
use crate::math::shamir::ShareScalar;
use crate::messages::Chain;
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::signature::{IdentitySecretKey, Signed};

/// Both shares of one edge.
#[derive(Clone, Debug)]
pub struct SharePair {
    /// Share of s.
    pub masking: ShareScalar,
    /// Share of b.
    pub self_mask: ShareScalar,
}

/// A dealer opens edges it was shown signed complaints about.
#[derive(Clone, Debug)]
pub struct Opening {
    signed: Signed,
    edges: BTreeMap<LeafIndex, SharePair>,
}

impl Opening {
    /// Signs the shares.
    pub fn sign(
        edges: BTreeMap<LeafIndex, SharePair>,
        chain: &Chain,
        roster: Digest,
        dealer: ClientId,
        key: &IdentitySecretKey,
    ) -> Self {
        let mut body = (edges.len() as u16).to_le_bytes().to_vec();
        for (holder, pair) in &edges {
            body.extend(holder.0.to_le_bytes());
            body.extend(pair.masking.as_bytes());
            body.extend(pair.self_mask.as_bytes());
        }
        Self { signed: chain.from_client(dealer, roster).statement(labels::OPENING, body).sign(key), edges }
    }

    /// Reads a message of at most `degree` edges.
    pub fn decode(bytes: &[u8], degree: u32) -> Result<Self, DecodeError> {
        let wrong = |expected| DecodeError::NotCanonical { field: "opening", expected };
        let signed = Signed::decode(bytes, labels::OPENING)?;
        let mut reader = Reader::new(&signed.statement().body);
        let count = reader.u16("count")?;
        if u32::from(count) > degree || count == 0 {
            return Err(wrong("1 to k edges"));
        }
        let mut edges = BTreeMap::new();
        for _ in 0..count {
            let holder = LeafIndex(reader.u32("holder")?);
            if edges.last_key_value().is_some_and(|(last, _)| *last >= holder) {
                return Err(wrong("strictly ascending holders"));
            }
            let mut share =
                |field| ShareScalar::from_bytes(&reader.array(field)?).ok_or(wrong("scalars below the group order"));
            edges.insert(holder, SharePair { masking: share("s")?, self_mask: share("b")? });
        }
        reader.finish()?;
        Ok(Self { signed, edges })
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }

    /// The signed statement.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// Shares by holder.
    pub fn edges(&self) -> &BTreeMap<LeafIndex, SharePair> {
        &self.edges
    }
}
