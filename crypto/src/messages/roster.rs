//! The roster: who takes part, and what follows from their number. §5.1
//!
//! ```text
//! roster body  = n u32, k u16, t u16, h u32, closing_nonce[32], tree_root[32]
//! as served    = signed statement, then n times: client_id[16], leaf_digest[32], in leaf order
//! tree_root    = RFC 6962 root over (client_id, leaf_digest): ids are bound also where a leaf is not opened
//! ```

use alloc::vec::Vec;

use crate::ids::{ClientId, Digest, LeafIndex};
use crate::messages::Chain;
use crate::params::RosterParams;
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::merkle;
use crate::primitives::signature::Statement;

/// A roster, in form: strictly sorted, and hashed as its statement says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roster {
    statement: Statement,
    degree: u16,
    threshold: u16,
    honest: u32,
    members: Vec<(ClientId, Digest)>,
}

impl Roster {
    /// Fixes a roster; `members` are sorted by id.
    pub fn fix(
        chain: &Chain,
        params: &RosterParams,
        closing_nonce: [u8; 32],
        members: Vec<(ClientId, Digest)>,
    ) -> Self {
        let (degree, threshold) = (params.degree as u16, params.threshold as u16);
        let mut body = Vec::new();
        body.extend(params.n.to_le_bytes());
        body.extend(degree.to_le_bytes());
        body.extend(threshold.to_le_bytes());
        body.extend(params.honest.to_le_bytes());
        body.extend(closing_nonce);
        body.extend(tree_root(&members).0);
        let statement = chain.from_aggregator(chain.context).statement(labels::ROSTER, body);
        Self { statement, degree, threshold, honest: params.honest, members }
    }

    /// Reads statement and list; `n` is bounded by what was sent.
    pub fn from_parts(statement: Statement, list: &[u8]) -> Result<Self, DecodeError> {
        let wrong = |expected| DecodeError::NotCanonical { field: "roster", expected };
        let mut body = Reader::new(&statement.body);
        let n = body.u32("n")?;
        let degree = body.u16("k")?;
        let threshold = body.u16("t")?;
        let honest = body.u32("h")?;
        let _closing_nonce: [u8; 32] = body.array("closing nonce")?;
        let root = body.digest("tree root")?;
        body.finish()?;
        if list.len() as u64 != u64::from(n) * 48 {
            return Err(wrong("48 bytes for each of n members"));
        }
        let mut reader = Reader::new(list);
        let mut members: Vec<(ClientId, Digest)> = Vec::with_capacity(n as usize);
        for _ in 0..n {
            let client = ClientId(reader.array("client id")?);
            if members.last().is_some_and(|(last, _)| *last >= client) {
                return Err(wrong("strictly ascending client ids"));
            }
            members.push((client, reader.digest("leaf digest")?));
        }
        if tree_root(&members) != root {
            return Err(wrong("ids and leaf digests that make the signed tree root"));
        }
        Ok(Self { statement, degree, threshold, honest, members })
    }

    /// The unsigned statement.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// What is served after the statement.
    pub fn list(&self) -> Vec<u8> {
        self.members.iter().flat_map(|(client, hash)| client.0.into_iter().chain(hash.0)).collect()
    }

    /// Drawn when the roster closed. R-05
    pub fn closing_nonce(&self) -> [u8; 32] {
        let mut body = Reader::new(&self.statement.body);
        body.take("n, k, t, h", 12).and_then(|_| body.array("closing nonce")).expect("its form was checked")
    }

    /// n.
    pub fn n(&self) -> u32 {
        self.members.len() as u32
    }

    /// Whether the (k, t, h) it names are those derived. R-04
    pub fn names(&self, params: &RosterParams) -> bool {
        u32::from(self.degree) == params.degree
            && u32::from(self.threshold) == params.threshold
            && self.honest == params.honest
    }

    /// Ids and leaf digests in leaf order.
    pub fn members(&self) -> &[(ClientId, Digest)] {
        &self.members
    }

    /// Who stands at a leaf.
    pub fn client(&self, leaf: LeafIndex) -> ClientId {
        self.members[leaf.index()].0
    }

    /// Where a client stands.
    pub fn leaf_of(&self, client: ClientId) -> Option<LeafIndex> {
        self.members.binary_search_by_key(&client, |(id, _)| *id).ok().map(|index| LeafIndex(index as u32))
    }
}

fn tree_root(members: &[(ClientId, Digest)]) -> Digest {
    let hashes: Vec<Digest> = members.iter().map(|(client, leaf)| merkle::leaf_hash(&[&client.0, &leaf.0])).collect();
    merkle::root(&hashes)
}
