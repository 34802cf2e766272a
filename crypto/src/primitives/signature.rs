//! The one thing that can be signed. §2.7, §4.1
//!
//! ```text
//! statement = u8 label length, label, u16 version, context[32], previous[32], sender[16],
//!             receiver[16], u32 body length, body
//! signed    = statement, signature[64]        Ed25519 over the statement bytes, no prehash
//! ```
//! There is no other `sign` in the protocol (R-01); log checkpoints have a key type of their own.
//! Verification is strict, by one predicate on both sides (R-37).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::codec::{DecodeError, Reader};
use super::labels::{self, Label, VERSION};
use crate::ids::{Digest, Party};

/// A long-term signing key: of a client, the aggregator or the authority. Wiped when dropped; it stays at one place of the
/// heap.
pub struct IdentitySecretKey(Box<SigningKey>);

impl IdentitySecretKey {
    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(Box::new(SigningKey::generate(rng)))
    }

    /// From the 32-byte seed of RFC 8032.
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(Box::new(SigningKey::from_bytes(seed)))
    }

    /// The seed, to be written to a protected file.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> IdentityPublicKey {
        IdentityPublicKey(self.0.verifying_key().to_bytes())
    }
}

impl fmt::Debug for IdentitySecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentitySecretKey(..)")
    }
}

/// A long-term public key: a valid Ed25519 point that is not of small order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IdentityPublicKey([u8; 32]);

impl IdentityPublicKey {
    /// Checks and takes up 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, DecodeError> {
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() && is_reduced(&bytes) => Ok(Self(bytes)),
            _ => Err(DecodeError::NotCanonical {
                field: "identity key",
                expected: "a canonical Ed25519 key that is not of small order",
            }),
        }
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// R-37: the one predicate by which a signature holds: strict verification of RFC 8032 without cofactor,
    /// canonical encodings, no keys or commitments of small order.
    pub fn verify_strict(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|verifying| verifying.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }

    /// The 16 bytes by which the holder is named as sender or receiver when it has no id of its
    /// own (aggregator, authority): the beginning of the key's hash.
    pub fn party(&self) -> Party {
        let hash = Sha256::digest(self.0);
        Party(hash[..16].try_into().expect("a SHA-256 value has 32 bytes"))
    }
}

/// Whether y, the low 255 bits, is below p = 2^255 - 19: the decoder of the curve library takes larger ones too.
fn is_reduced(bytes: &[u8; 32]) -> bool {
    let high = bytes[31] & 0x7f == 0x7f && bytes[1..31].iter().all(|byte| *byte == 0xff);
    !(high && bytes[0] >= 0xed)
}

/// Where a statement stands: in which round, after what, from whom, to whom. R-01
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Root of the round's header; zeros where there is no round.
    pub context: Digest,
    /// Root of the statement before it in the chain.
    pub previous: Digest,
    /// Who says it.
    pub sender: Party,
    /// To whom; zeros: everybody.
    pub receiver: Party,
}

impl Place {
    /// A statement at this place.
    pub fn statement(self, label: Label, body: Vec<u8>) -> Statement {
        let Place { context, previous, sender, receiver } = self;
        Statement { label, context, previous, sender, receiver, body }
    }
}

/// What is said, by whom, to whom, in which round, after what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// What kind of statement.
    pub label: Label,
    /// Root of the round's header; zeros where there is no round.
    pub context: Digest,
    /// Root of the statement before it in the chain.
    pub previous: Digest,
    /// Who says it.
    pub sender: Party,
    /// To whom; zeros: everybody.
    pub receiver: Party,
    /// What.
    pub body: Vec<u8>,
}

impl Statement {
    /// The bytes that are signed and hashed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.before_body();
        let len = u32::try_from(self.body.len()).expect("bodies are far below 4 GiB");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&self.body);
        out
    }

    /// The bytes before the body length: associated data of share mail, §2.6.
    pub fn before_body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + 32 + 2 + 64 + 32 + 4 + self.body.len());
        self.label.write(&mut out);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.context.0);
        out.extend_from_slice(&self.previous.0);
        out.extend_from_slice(&self.sender.0);
        out.extend_from_slice(&self.receiver.0);
        out
    }

    /// Whether the statement stands where it is expected. R-01
    pub fn stands_at(&self, place: &Place) -> bool {
        self.context == place.context
            && self.previous == place.previous
            && self.sender == place.sender
            && self.receiver == place.receiver
    }

    /// SHA-256 of the bytes without signature: what the next statement of the chain names.
    pub fn root(&self) -> Digest {
        root_of(&self.encode())
    }

    /// Signs; the only way to a signature.
    pub fn sign(self, key: &IdentitySecretKey) -> Signed {
        let signature = key.0.sign(&self.encode()).to_bytes();
        Signed { statement: self, signature }
    }

    /// Reads one statement with the label expected from the front.
    pub fn read(reader: &mut Reader<'_>, label: Label) -> Result<Self, DecodeError> {
        let wrong = DecodeError::Label { expected: label.as_str() };
        let len = reader.u8("label length")?;
        if usize::from(len) != label.as_str().len()
            || reader.take("label", usize::from(len))? != label.as_str().as_bytes()
        {
            return Err(wrong);
        }
        if reader.u16("version")? != VERSION {
            return Err(DecodeError::NotCanonical { field: "version", expected: "1" });
        }
        let context = reader.digest("context")?;
        let previous = reader.digest("previous")?;
        let sender = Party(reader.array("sender")?);
        let receiver = Party(reader.array("receiver")?);
        let body = reader.prefixed("body")?.to_vec();
        Ok(Self { label, context, previous, sender, receiver, body })
    }

    /// Reads bytes that are one statement and nothing else.
    pub fn decode(bytes: &[u8], label: Label) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let statement = Self::read(&mut reader, label)?;
        reader.finish()?;
        Ok(statement)
    }
}

/// SHA-256 of statement bytes.
pub fn root_of(statement_bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(statement_bytes).into())
}

/// A statement with a signature, not yet verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    statement: Statement,
    signature: [u8; 64],
}

impl Signed {
    /// Reads one signed statement from the front.
    pub fn read(reader: &mut Reader<'_>, label: Label) -> Result<Self, DecodeError> {
        let statement = Statement::read(reader, label)?;
        Ok(Self { statement, signature: reader.array("signature")? })
    }

    /// Reads bytes that are one signed statement and nothing else.
    pub fn decode(bytes: &[u8], label: Label) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let signed = Self::read(&mut reader, label)?;
        reader.finish()?;
        Ok(signed)
    }

    /// Statement bytes, then signature.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.statement.encode();
        out.extend_from_slice(&self.signature);
        out
    }

    /// What is said; whether it was said by its sender, [`Signed::is_by`] tells.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Root of the statement, without the signature.
    pub fn root(&self) -> Digest {
        self.statement.root()
    }

    /// Whether two statements, both validly signed, are evidence against their one sender. §4.2
    pub fn contradicts(&self, other: &Signed) -> bool {
        let (a, b) = (&self.statement, &other.statement);
        let one_of_two = match a.label {
            labels::CERTIFICATE | labels::REVOCATION | labels::READ => false, // many may stand side by side
            labels::CONFIRM => true,                                          // one a round, whatever list it names
            labels::HEADER => a.body.get(2..26) == b.body.get(2..26),         // task and counter
            _ => a.previous == b.previous,
        };
        one_of_two && a.label == b.label && a.context == b.context && a.sender == b.sender && a.root() != b.root()
    }

    /// R-37: whether the statement bears this key's signature.
    pub fn is_by(&self, key: &IdentityPublicKey) -> bool {
        key.verify_strict(&self.statement.encode(), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::labels;

    fn key() -> IdentitySecretKey {
        IdentitySecretKey::from_bytes(&[7; 32])
    }

    fn statement() -> Statement {
        Statement {
            label: labels::CONFIRM,
            context: Digest([1; 32]),
            previous: Digest([2; 32]),
            sender: Party([3; 16]),
            receiver: Party::EVERYBODY,
            body: alloc::vec![4, 5],
        }
    }

    /// RFC 8032 §7.1, test 2: the key and signature of the one-byte message 0x72.
    #[test]
    fn ed25519_is_that_of_rfc_8032() {
        let seed = Digest::from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").expect("hex").0;
        let key = IdentitySecretKey::from_bytes(&seed);
        assert_eq!(
            Digest(*key.public().as_bytes()),
            Digest::from_hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c").expect("hex")
        );
        let signature = hex::decode("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00").expect("hex");
        assert_eq!(key.0.sign(&[0x72]).to_bytes().as_slice(), signature);
    }

    /// R-01: every field is under the signature.
    #[test]
    fn a_signature_covers_every_field() {
        let signed = statement().sign(&key());
        assert!(signed.is_by(&key().public()));
        let altered = |change: &dyn Fn(&mut Statement)| {
            let mut other = signed.clone();
            change(&mut other.statement);
            other.is_by(&key().public())
        };
        assert!(!altered(&|s| s.label = labels::ANSWER));
        assert!(!altered(&|s| s.context = Digest([9; 32])));
        assert!(!altered(&|s| s.previous = Digest([9; 32])));
        assert!(!altered(&|s| s.sender = Party([9; 16])));
        assert!(!altered(&|s| s.receiver = Party([9; 16])));
        assert!(!altered(&|s| s.body.push(0)));
    }

    #[test]
    fn decoding_takes_the_whole_message_and_only_the_label_asked_for() {
        let bytes = statement().sign(&key()).encode();
        let signed = Signed::decode(&bytes, labels::CONFIRM).expect("as encoded");
        assert_eq!(signed.statement(), &statement());
        assert!(Signed::decode(&bytes, labels::ANSWER).is_err());
        assert!(Signed::decode(&bytes[..bytes.len() - 1], labels::CONFIRM).is_err());
        let longer = [bytes, alloc::vec![0]].concat();
        assert_eq!(Signed::decode(&longer, labels::CONFIRM), Err(DecodeError::LeftOver(1)));
    }

    /// R-37: a signature whose scalar was raised by the group order is another encoding of the same signature.
    #[test]
    fn a_malleated_signature_is_refused() {
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut signed = statement().sign(&key());
        let mut carry = 0;
        for (byte, order) in signed.signature[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert!(!signed.is_by(&key().public()));
    }

    /// R-09: keys of small order and encodings that are not reduced are no identity keys.
    #[test]
    fn weak_and_non_canonical_identity_keys_are_refused() {
        let mut one = [0; 32];
        one[0] = 1; // the identity element
        assert!(IdentityPublicKey::from_bytes(one).is_err());
        let mut unreduced = [0xff; 32];
        unreduced[0] = 0xee; // p + 1, another name of 1
        unreduced[31] = 0x7f;
        assert!(IdentityPublicKey::from_bytes(unreduced).is_err());
        unreduced[0] = 0xf0; // p + 3: 3 is the y of a point of large order
        assert!(IdentityPublicKey::from_bytes(unreduced).is_err());
        let mut three = [0; 32];
        three[0] = 3;
        assert!(IdentityPublicKey::from_bytes(three).is_ok());
    }
}
