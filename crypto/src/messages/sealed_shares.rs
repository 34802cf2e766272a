//! A dealer's shares for its neighbours, and one of them as mail. §5.2
//!
//! ```text
//! edge  = holder u32, ciphertext[80], P_s[32], P_b[32]
//! share = statement (previous = roster root), body: edges_root[32]; attachment: k edges in ring order
//! mail  = dealer u32, share statement + signature, edge, position u16, path
//! ```
//! The edges root is an RFC 6962 tree over the edges; one signature covers all of them (R-13).

use alloc::vec::Vec;

use curve25519_dalek::Scalar;
use sha2::{Digest as _, Sha512};

use crate::ids::{ClientId, Digest, LeafIndex};
use crate::messages::Chain;
use crate::primitives::agreement::Point;
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::merkle;
use crate::primitives::seal::SEALED_SHARES_BYTES;
use crate::primitives::signature::{IdentitySecretKey, Signed};

/// Length of one edge, bytes.
pub const EDGE_BYTES: usize = 4 + SEALED_SHARES_BYTES + 32 + 32;

/// One neighbour's pair of shares: sealed, and as public points.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    /// For whom.
    pub holder: LeafIndex,
    /// Both shares, sealed to the holder.
    pub sealed: [u8; SEALED_SHARES_BYTES],
    /// Share of s, times G.
    pub masking_point: Point,
    /// Share of b, times G.
    pub self_mask_point: Point,
}

impl Edge {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.holder.0.to_le_bytes());
        out.extend(self.sealed);
        out.extend(self.masking_point.as_bytes());
        out.extend(self.self_mask_point.as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            holder: LeafIndex(reader.u32("holder")?),
            sealed: reader.array("sealed shares")?,
            masking_point: Point::from_bytes(reader.array("P_s")?)?,
            self_mask_point: Point::from_bytes(reader.array("P_b")?)?,
        })
    }

    /// Its hash in the tree of edges: what a complaint names. R-16
    pub fn hash(&self) -> Digest {
        let mut bytes = Vec::with_capacity(EDGE_BYTES);
        self.write(&mut bytes);
        merkle::leaf_hash(&[&bytes])
    }
}

/// All edges of a dealer under one signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedShares {
    signed: Signed,
    edges: Vec<Edge>,
}

impl SealedShares {
    /// Signs the edges, which are in ring order.
    pub fn sign(edges: Vec<Edge>, chain: &Chain, roster: Digest, dealer: ClientId, key: &IdentitySecretKey) -> Self {
        let root = edges_root(&edges);
        let statement = chain.from_client(dealer, roster).statement(labels::SHARE, root.0.to_vec());
        Self { signed: statement.sign(key), edges }
    }

    /// Reads a message of exactly `degree` edges. The signature comes first on the wire and must be checked before the
    /// edges are trusted; both are bounded by the length agreed.
    pub fn decode(bytes: &[u8], degree: u32) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let signed = Signed::read(&mut reader, labels::SHARE)?;
        if signed.statement().body.len() != 32 {
            return Err(DecodeError::NotCanonical { field: "share body", expected: "32 bytes" });
        }
        if reader.left() != degree as usize * EDGE_BYTES {
            return Err(DecodeError::NotCanonical { field: "edges", expected: "k edges of 148 bytes" });
        }
        let edges = (0..degree).map(|_| Edge::read(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { signed, edges })
    }

    /// Statement, signature, edges.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.signed.encode();
        self.edges.iter().for_each(|edge| edge.write(&mut out));
        out
    }

    /// The signed statement.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// The edges, in the dealer's ring order.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Whether the edges are those signed. R-13
    pub fn edges_are_signed(&self) -> bool {
        self.signed.statement().body == edges_root(&self.edges).0
    }

    /// The edge for one holder.
    pub fn edge_to(&self, holder: LeafIndex) -> Option<&Edge> {
        self.edges.iter().find(|edge| edge.holder == holder)
    }

    /// The coefficients of the low-degree test: nobody could foresee them, everybody can replay them. R-38
    pub fn low_degree_coefficients(&self, threshold: u32) -> Vec<Scalar> {
        let prefix = Sha512::new_with_prefix(labels::LOW_DEGREE.bytes()).chain_update(self.signed.root().0);
        let degree = self.edges.len() as u32 - threshold;
        (0..degree + 2).map(|counter| Scalar::from_hash(prefix.clone().chain_update(counter.to_le_bytes()))).collect()
    }

    /// One piece of mail for each holder.
    pub fn mail(&self, dealer: LeafIndex) -> Vec<(LeafIndex, Vec<u8>)> {
        let hashes: Vec<Digest> = self.edges.iter().map(Edge::hash).collect();
        let signed = self.signed.encode();
        let item = |(position, (edge, path)): (usize, (&Edge, Vec<Digest>))| {
            let mut out = Vec::with_capacity(4 + signed.len() + EDGE_BYTES + 2 + 32 * path.len());
            out.extend(dealer.0.to_le_bytes());
            out.extend_from_slice(&signed);
            edge.write(&mut out);
            out.extend((position as u16).to_le_bytes());
            path.iter().for_each(|node| out.extend(node.0));
            (edge.holder, out)
        };
        self.edges.iter().zip(merkle::inclusion_paths(&hashes)).enumerate().map(item).collect()
    }
}

fn edges_root(edges: &[Edge]) -> Digest {
    let hashes: Vec<Digest> = edges.iter().map(Edge::hash).collect();
    merkle::root(&hashes)
}

/// One edge with what proves that its dealer signed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailItem {
    /// Who made the shares.
    pub dealer: LeafIndex,
    /// The dealer's signature over all its edges.
    pub signed: Signed,
    /// The edge.
    pub edge: Edge,
    position: u16,
    path: Vec<Digest>,
}

impl MailItem {
    /// Reads one item of a dealer with `degree` edges.
    pub fn decode(bytes: &[u8], degree: u32) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let dealer = LeafIndex(reader.u32("dealer")?);
        let signed = Signed::read(&mut reader, labels::SHARE)?;
        let edge = Edge::read(&mut reader)?;
        let position = reader.u16("position")?;
        if u32::from(position) >= degree {
            return Err(DecodeError::NotCanonical { field: "position", expected: "below k" });
        }
        let path = (0..merkle::path_len(position.into(), degree.into()))
            .map(|_| reader.digest("path"))
            .collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { dealer, signed, edge, position, path })
    }

    /// Whether the edge is one of those signed, at the place of the dealer's ring order that `holder` has. R-13
    pub fn edge_is_signed(&self, degree: u32, place: usize) -> bool {
        usize::from(self.position) == place
            && merkle::root_from_path(self.edge.hash(), self.position.into(), degree.into(), &self.path)
                .is_some_and(|root| root.0 == *self.signed.statement().body)
    }
}
