//! What liars of a simulation send: an honest message with one thing changed, signed again.

use veilsum_crypto::client::Membership;
use veilsum_crypto::ids::Digest;
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::sealed_shares::EDGE_BYTES;
use veilsum_crypto::messages::{Header, Opening, Roster};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels::{self, Label};
use veilsum_crypto::primitives::merkle;
use veilsum_crypto::primitives::signature::{Signed, Statement};

use super::plan::Lie;
use crate::world::sha256;

/// What is sent in the place of an honest message, in this order. `edge_hash` is that of the edge of the sender's first
/// neighbour that dealt, with the neighbour's place, where the sender still knows it.
pub fn bend(
    lie: Lie,
    phase: &str,
    message: Vec<u8>,
    member: &Membership,
    edge_hash: Option<(usize, Digest)>,
) -> Vec<Vec<u8>> {
    let split = |label: Label| {
        let mut reader = Reader::new(&message);
        let statement: Statement = Signed::read(&mut reader, label).expect("its own").statement().clone();
        (statement, reader.rest().to_vec())
    };
    let sign =
        |statement: Statement, attachment: &[u8]| [&statement.sign(&member.identity).encode(), attachment].concat();
    match (lie, phase) {
        (Lie::OffPolynomial, "share") => {
            let (mut statement, mut edges) = split(labels::SHARE);
            let point = edges[4 + 80..4 + 80 + 32].to_vec();
            edges[4 + 80 + 32..EDGE_BYTES].copy_from_slice(&point); // P_b = P_s: on no polynomial with the others
            statement.body = edges_root(&edges);
            vec![sign(statement, &edges)]
        }
        (Lie::FalseComplaint, "acknowledge") => {
            let (mut statement, _) = split(labels::ACKNOWLEDGEMENT);
            let (place, hash) = edge_hash.unwrap_or((0, Digest([0x5a; 32])));
            // An honest client's message has one byte for each neighbour, if it has no complaint.
            if statement.body.get(place) == Some(&1) {
                statement.body[place] = 2;
                statement.body.splice(place + 1..place + 1, hash.0);
            }
            vec![sign(statement, &[])]
        }
        (Lie::TwoUploads, "mask") => {
            let (mut statement, mut vector) = split(labels::UPLOAD);
            vector[0] ^= 1;
            statement.body[8..40].copy_from_slice(&sha256(&vector).0);
            vec![message.clone(), sign(statement, &vector)]
        }
        (Lie::WrongAnswer, "unmask") => {
            let (mut statement, _) = split(labels::ANSWER);
            if let Some(at) = statement.body.iter().position(|present| *present == 1) {
                statement.body[at + 1] ^= 1; // the least byte: still canonical, but for one value in 2^252
            }
            vec![sign(statement, &[])]
        }
        _ => vec![message],
    }
}

/// A share message whose first share does not open; and the hashes of that edge, before and after. Who sends it may write
/// it down in the place of the honest one, and opens the edge rightly when it is asked to.
pub fn spoil_first_share(message: &[u8], member: &Membership) -> (Vec<u8>, [Digest; 2]) {
    let mut reader = Reader::new(message);
    let mut statement: Statement = Signed::read(&mut reader, labels::SHARE).expect("its own").statement().clone();
    let mut edges = reader.rest().to_vec();
    let first_hash = |edges: &[u8]| merkle::leaf_hash(&[&edges[..EDGE_BYTES]]);
    let before = first_hash(&edges);
    edges[4] ^= 1; // the first byte of the first ciphertext
    statement.body = edges_root(&edges);
    let hashes = [before, first_hash(&edges)];
    ([statement.sign(&member.identity).encode(), edges].concat(), hashes)
}

fn edges_root(edges: &[u8]) -> Vec<u8> {
    let leaves: Vec<_> = edges.chunks(EDGE_BYTES).map(|edge| merkle::leaf_hash(&[edge])).collect();
    merkle::root(&leaves).0.to_vec()
}

/// The answer to complaints of somebody who has nothing to open: scalars that no dealer shares.
pub fn wrong_opening(complaints: &[Vec<u8>], roster: &Roster, header: &Header, member: &Membership) -> Vec<u8> {
    let one = || {
        let mut bytes = [0; 32];
        bytes[0] = 1;
        ShareScalar::from_bytes(&bytes).expect("one is below the group order")
    };
    let holders = complaints.iter().filter_map(|complaint| {
        let signed = Signed::decode(complaint, labels::ACKNOWLEDGEMENT).ok()?;
        roster.leaf_of(signed.statement().sender.into())
    });
    let edges = holders.map(|holder| (holder, SharePair { masking: one(), self_mask: one() })).collect();
    let root = roster.statement().root();
    Opening::sign(edges, &header.chain(), root, member.client(), &member.identity).encode()
}
