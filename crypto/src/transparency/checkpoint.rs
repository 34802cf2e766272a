//! Signed heads of the log, in the C2SP tlog-checkpoint format. §9
//!
//! ```text
//! <origin>\n<size>\n<base64 root>\n\n— <origin> <base64(key id[4] ‖ Ed25519 signature[64])>\n
//! ```
//! The key signs checkpoints and nothing else (R-01); its type has no other use.

use alloc::{format, string::String};
use core::fmt;

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signer, SigningKey};
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::ids::Digest;
use crate::primitives::merkle::TreeHead;

/// Signs log heads. Wiped when dropped.
pub struct CheckpointKey(SigningKey);

impl CheckpointKey {
    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(SigningKey::generate(rng))
    }

    /// From a 32-byte seed.
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be written to a protected file.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> Digest {
        Digest(self.0.verifying_key().to_bytes())
    }

    /// The note for one head of the log named `origin`.
    pub fn note(&self, origin: &str, head: &TreeHead) -> String {
        let text = format!("{origin}\n{}\n{}\n", head.size, Base64::encode_string(&head.root.0));
        let mut signature = key_id(origin, &self.public()).to_vec();
        signature.extend(self.0.sign(text.as_bytes()).to_bytes());
        format!("{text}\n\u{2014} {origin} {}\n", Base64::encode_string(&signature))
    }
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckpointKey(..)")
    }
}

/// First four bytes of SHA-256(origin ‖ "\n" ‖ 0x01 ‖ key). C2SP signed-note
fn key_id(origin: &str, key: &Digest) -> [u8; 4] {
    let hash = Sha256::new_with_prefix(origin.as_bytes()).chain_update(b"\n\x01").chain_update(key.0).finalize();
    hash[..4].try_into().expect("a SHA-256 value has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, Verifier};

    #[test]
    fn a_note_has_the_form_of_c2sp_and_its_signature_holds() {
        let key = CheckpointKey::from_bytes(&[4; 32]);
        let note = key.note("example.org/log", &TreeHead { size: 7, root: Digest([9; 32]) });
        let (text, signature) = note.split_once("\n\n").expect("a blank line");
        assert_eq!(text.lines().nth(1), Some("7"));
        let signature = signature.trim_end().rsplit(' ').next().expect("three words");
        let signature = Base64::decode_vec(signature).expect("base64");
        let signature = Signature::from_slice(&signature[4..]).expect("64 bytes");
        let signed = format!("{text}\n");
        assert!(key.0.verifying_key().verify(signed.as_bytes(), &signature).is_ok());
    }
}
