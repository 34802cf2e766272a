//! A member of the agreement set vouches for one survivor list. §5.6, R-23
//!
//! ```text
//! statement (previous = survivor root), empty body
//! ```

use alloc::vec::Vec;

use crate::ids::{ClientId, Digest};
use crate::messages::Chain;
use crate::primitives::codec::DecodeError;
use crate::primitives::labels;
use crate::primitives::signature::{IdentitySecretKey, Signed};

/// One signature on the survivor root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Confirmation(Signed);

impl Confirmation {
    /// Signs the root.
    pub fn sign(chain: &Chain, survivors: Digest, client: ClientId, key: &IdentitySecretKey) -> Self {
        Self(chain.from_client(client, survivors).statement(labels::CONFIRM, Vec::new()).sign(key))
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let signed = Signed::decode(bytes, labels::CONFIRM)?;
        if signed.statement().body.is_empty() {
            Ok(Self(signed))
        } else {
            Err(DecodeError::NotCanonical { field: "confirm body", expected: "nothing" })
        }
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode()
    }

    /// The signed statement.
    pub fn signed(&self) -> &Signed {
        &self.0
    }
}
