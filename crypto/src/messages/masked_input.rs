//! A masked input: the signed promise of a vector, and the vector. §5.5
//!
//! ```text
//! statement (previous = core root), body: length u64, digest[32]; signature;
//! attachment: packed[ceil(vector_len * ring_bits / 8)]
//! ```
//! Neighbours are later shown the signed statement without the vector (R-22).

use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use crate::ids::{ClientId, Digest, LeafIndex};
use crate::math::ring::RingVector;
use crate::messages::Chain;
use crate::params::RoundParams;
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::merkle;
use crate::primitives::signature::{IdentitySecretKey, Signed};

/// The signed statement: what was uploaded, without the vector itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    signed: Signed,
    length: u64,
    digest: Digest,
}

impl Upload {
    /// Reads signed bytes without attachment.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let upload = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(upload)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let signed = Signed::read(reader, labels::UPLOAD)?;
        let mut body = Reader::new(&signed.statement().body);
        let (length, digest) = (body.u64("length")?, body.digest("digest")?);
        body.finish()?;
        Ok(Self { signed, length, digest })
    }

    /// The signed statement.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// How long the vector is that was signed, packed.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Its place in the tree that the survivor statement names. R-20
    pub fn survivor_leaf(&self, leaf: LeafIndex) -> Digest {
        merkle::leaf_hash(&[&leaf.0.to_le_bytes(), &self.signed.root().0])
    }
}

/// A masked vector under its owner's signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MaskedInput {
    upload: Upload,
    packed: Vec<u8>,
}

impl MaskedInput {
    /// Signs a masked vector.
    pub fn sign(vector: &RingVector, chain: &Chain, core: Digest, client: ClientId, key: &IdentitySecretKey) -> Self {
        let packed = vector.pack();
        let (length, digest) = (packed.len() as u64, Digest(Sha256::digest(&packed).into()));
        let body = [&length.to_le_bytes()[..], &digest.0].concat();
        let signed = chain.from_client(client, core).statement(labels::UPLOAD, body).sign(key);
        Self { upload: Upload { signed, length, digest }, packed }
    }

    /// Reads a message with a vector of exactly the round's length.
    pub fn decode(bytes: &[u8], params: &RoundParams) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let upload = Upload::read(&mut reader)?;
        let packed = reader.take("packed vector", params.packed_bytes())?.to_vec();
        reader.finish()?;
        Ok(Self { upload, packed })
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.upload.signed.encode();
        out.extend_from_slice(&self.packed);
        out
    }

    /// The signed statement.
    pub fn upload(&self) -> &Upload {
        &self.upload
    }

    /// Whether the vector is the one that was signed. R-19
    pub fn vector_is_signed(&self) -> bool {
        self.upload.length == self.packed.len() as u64
            && self.upload.digest.0 == <[u8; 32]>::from(Sha256::digest(&self.packed))
    }

    /// The vector, unpacked; spare bits must be zero.
    pub fn vector(&self, params: &RoundParams) -> Result<RingVector, DecodeError> {
        RingVector::unpack(&self.packed, params.vector_len as usize, params.ring_bits)
            .map_err(|_| DecodeError::NotCanonical { field: "packed vector", expected: "spare bits zero" })
    }
}
