//! Signed heads of the log, in the C2SP tlog-checkpoint format. §9
//!
//! ```text
//! <origin>\n<size>\n<base64 root>\n\n— <origin> <base64(key id[4] ‖ Ed25519 signature[64])>\n
//! ```
//! The key signs checkpoints and nothing else (R-01); its type has no other use.

use alloc::string::{String, ToString};
use alloc::{format, vec::Vec};
use core::fmt;

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
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

    /// What verifies the notes of the log named `origin`; `None` if that is no name.
    pub fn verifier(&self, origin: &str) -> Option<LogKey> {
        LogKey::new(origin, self.public())
    }

    /// The note for one head of the log named `origin`.
    pub fn note(&self, origin: &str, head: &TreeHead) -> String {
        let text = text_of(origin, head);
        let signature = self.0.sign(text.as_bytes()).to_bytes();
        note_of(origin, &self.public(), &text, &signature)
    }
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckpointKey(..)")
    }
}

/// A log's name and public key: what its checkpoints are verified with. Written as a C2SP verifier key,
/// `<origin>+<key id>+<base64 of 0x01 and the key>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogKey {
    origin: String,
    key: Digest,
}

/// Why a text is no verifier key, or a note not this log's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    /// Not a verifier key.
    #[error("a log's key was expected, as <name>+<key id>+<base64>; see `log.key` of the service's status")]
    Key,
    /// Not a note of one signature.
    #[error("a signed note of three lines, a blank line and one signature was expected")]
    Form,
    /// Another log's.
    #[error("the checkpoint is of another log than the one pinned")]
    Origin,
    /// Not signed by the log's key.
    #[error("the checkpoint is not signed by the log's key")]
    Signature,
}

impl LogKey {
    /// From a name and an Ed25519 key; `None` if the name is empty or holds spaces or pluses, or the key is no key.
    pub fn new(origin: &str, key: Digest) -> Option<Self> {
        let is_name = !origin.is_empty() && !origin.contains(|c: char| c.is_whitespace() || c == '+');
        let is_key = VerifyingKey::from_bytes(&key.0).is_ok_and(|key| !key.is_weak());
        (is_name && is_key).then(|| Self { origin: origin.to_string(), key })
    }

    /// Reads the written form.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (origin, rest) = text.split_once('+').ok_or(NoteError::Key)?;
        let (_, key) = rest.split_once('+').ok_or(NoteError::Key)?;
        let key = Base64::decode_vec(key).map_err(|_| NoteError::Key)?;
        let key: [u8; 33] = key.try_into().map_err(|_| NoteError::Key)?;
        let key = Digest(key[1..].try_into().expect("32 of 33 bytes"));
        Self::new(origin, key).filter(|parsed| parsed.to_string() == text).ok_or(NoteError::Key)
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The head that a note vouches for. Only the one form that [`CheckpointKey::note`] writes is read.
    pub fn open(&self, note: &str) -> Result<TreeHead, NoteError> {
        let (text, last) = note.split_once("\n\n").ok_or(NoteError::Form)?;
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next(), lines.next(), lines.next());
        let (Some(origin), Some(size), Some(root), None) = (origin, size, root, lines.next()) else {
            return Err(NoteError::Form);
        };
        if origin != self.origin {
            return Err(NoteError::Origin);
        }
        let root = Base64::decode_vec(root).ok().and_then(|root| root.try_into().ok()).ok_or(NoteError::Form)?;
        let head = TreeHead { size: size.parse().map_err(|_| NoteError::Form)?, root: Digest(root) };
        let signature = last.trim_end_matches('\n').rsplit(' ').next().ok_or(NoteError::Form)?;
        let signature: Vec<u8> = Base64::decode_vec(signature).map_err(|_| NoteError::Form)?;
        let signature: [u8; 64] = signature.get(4..).and_then(|bytes| bytes.try_into().ok()).ok_or(NoteError::Form)?;
        let text = text_of(origin, &head);
        if note_of(origin, &self.key, &text, &signature) != note {
            return Err(NoteError::Form); // another key id, other spaces, other digits
        }
        let key = VerifyingKey::from_bytes(&self.key.0).map_err(|_| NoteError::Key)?;
        let signature = Signature::from_bytes(&signature);
        key.verify_strict(text.as_bytes(), &signature).map_err(|_| NoteError::Signature)?;
        Ok(head)
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = [1; 33]; // 0x01: Ed25519
        key[1..].copy_from_slice(&self.key.0);
        write!(f, "{}+", self.origin)?;
        key_id(&self.origin, &self.key).iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "+{}", Base64::encode_string(&key))
    }
}

/// What is signed.
fn text_of(origin: &str, head: &TreeHead) -> String {
    format!("{origin}\n{}\n{}\n", head.size, Base64::encode_string(&head.root.0))
}

/// The signed text and its signature.
fn note_of(origin: &str, key: &Digest, text: &str, signature: &[u8; 64]) -> String {
    let signature = [key_id(origin, key).as_slice(), signature].concat();
    format!("{text}\n\u{2014} {origin} {}\n", Base64::encode_string(&signature))
}

/// First four bytes of SHA-256(origin ‖ "\n" ‖ 0x01 ‖ key). C2SP signed-note
fn key_id(origin: &str, key: &Digest) -> [u8; 4] {
    let hash = Sha256::new_with_prefix(origin.as_bytes()).chain_update(b"\n\x01").chain_update(key.0).finalize();
    hash[..4].try_into().expect("a SHA-256 value has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::Verifier;

    const HEAD: TreeHead = TreeHead { size: 7, root: Digest([9; 32]) };

    #[test]
    fn a_note_has_the_form_of_c2sp_and_its_signature_holds() {
        let key = CheckpointKey::from_bytes(&[4; 32]);
        let note = key.note("example.org/log", &HEAD);
        let (text, signature) = note.split_once("\n\n").expect("a blank line");
        assert_eq!(text.lines().nth(1), Some("7"));
        let signature = signature.trim_end().rsplit(' ').next().expect("three words");
        let signature = Base64::decode_vec(signature).expect("base64");
        let signature = Signature::from_slice(&signature[4..]).expect("64 bytes");
        let signed = format!("{text}\n");
        assert!(key.0.verifying_key().verify(signed.as_bytes(), &signature).is_ok());
    }

    #[test]
    fn a_log_key_survives_its_text_and_opens_its_own_notes_only() {
        let key = CheckpointKey::from_bytes(&[4; 32]);
        let verifier = key.verifier("example.org/log").expect("a name");
        assert_eq!(LogKey::parse(&verifier.to_string()), Ok(verifier.clone()));
        let text = verifier.to_string();
        let other_id = text.replacen('+', "+0", 1);
        assert!(
            [other_id.as_str(), &text[1..], "", "a+b+c", &text[..text.len() - 1]]
                .iter()
                .all(|it| LogKey::parse(it).is_err())
        );
        assert!(key.verifier("two words").is_none() && key.verifier("a+b").is_none() && key.verifier("").is_none());
        let note = key.note("example.org/log", &HEAD);
        assert_eq!(verifier.open(&note), Ok(HEAD));
        assert_eq!(verifier.open(&key.note("example.org/other", &HEAD)), Err(NoteError::Origin));
        let forged = CheckpointKey::from_bytes(&[5; 32]).note("example.org/log", &HEAD);
        assert!(verifier.open(&forged).is_err());
    }

    /// Every byte of a note counts: there is one form, and it is signed.
    #[test]
    fn no_byte_of_a_note_can_be_changed_added_or_taken_away() {
        let key = CheckpointKey::from_bytes(&[4; 32]);
        let verifier = key.verifier("example.org/log").expect("a name");
        let note = key.note("example.org/log", &HEAD);
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut bytes = note.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(other) = String::from_utf8(bytes) {
                    assert!(verifier.open(&other).is_err(), "byte {at}, bit {bit}");
                }
            }
            if note.is_char_boundary(at) {
                assert!(verifier.open(&note[..at]).is_err(), "cut at {at}");
                let longer = format!("{}\n{}", &note[..at], &note[at..]);
                assert!(verifier.open(&longer).is_err(), "a line more at {at}");
            }
        }
    }
}
