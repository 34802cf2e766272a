//! Permission to read one path of a round: participation lists go to participants only. §7.2, R-35
//!
//! ```text
//! statement (context, previous zero, sender = the reader), body: the path as ASCII
//! ```

use alloc::vec::Vec;

use crate::ids::{ClientId, Digest};
use crate::messages::Chain;
use crate::primitives::codec::DecodeError;
use crate::primitives::labels;
use crate::primitives::signature::{IdentityPublicKey, IdentitySecretKey, Signed};

/// A signed request for one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadPermit(Signed);

impl ReadPermit {
    /// Asks for a path, with its query but without `wait`.
    pub fn sign(path: &str, chain: &Chain, reader: ClientId, key: &IdentitySecretKey) -> Self {
        let place = chain.from_client(reader, Digest::NONE);
        Self(place.statement(labels::READ, path.as_bytes().to_vec()).sign(key))
    }

    /// Reads signed bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Signed::decode(bytes, labels::READ).map(Self)
    }

    /// The signed bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode()
    }

    /// Who asks.
    pub fn reader(&self) -> ClientId {
        self.0.statement().sender.into()
    }

    /// Whether the holder of `key` may read `path` in this round.
    pub fn permits(&self, path: &str, chain: &Chain, key: &IdentityPublicKey) -> bool {
        let statement = self.0.statement();
        statement.stands_at(&chain.from_client(self.reader(), Digest::NONE))
            && statement.body == path.as_bytes()
            && self.0.is_by(key)
    }
}
