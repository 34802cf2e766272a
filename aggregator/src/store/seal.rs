//! What is written sealed, and by which key. §8
//!
//! Service keys never touch the database ([`super::keys`] has them). One wraps a key for each round, which seals that round's
//! partial sums and is erased with them. Sealed bytes are nonce ‖ ciphertext ‖ tag of AES-256-GCM
//! under a random nonce; where they belong is authenticated with them: they open nowhere else.

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit, Nonce};
use aes_gcm::{Aes256Gcm, Key};
use sha2::{Digest as _, Sha256};
use veilsum_crypto::ids::{ClientId, RoundId};
use veilsum_crypto::primitives::wipe;
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 12;

/// Bytes that sealing adds: nonce and tag.
pub const SEAL_BYTES: usize = NONCE_BYTES + 16;

/// Why there is no service key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("the service key file {path} cannot be read: {cause}")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Something else than a key was given.
    #[error("a service key must be 64 hexadecimal digits, as `veilsum keys generate --kind service` makes it")]
    NotAKey,
    /// The same, of a file.
    #[error("{path} must hold 64 hexadecimal digits and nothing else in each line; restore it")]
    NotKeys {
        /// Which file.
        path: String,
    },
    /// The same key stands twice.
    #[error("the service key {0} is given twice; each of them once, the one that seals first")]
    Twice(KeyId),
    /// Others can read it.
    #[error("{path} can be read by others (mode {mode:o}); run `chmod 600` on it")]
    Open {
        /// Which file.
        path: String,
        /// Its rights.
        mode: u32,
    },
}

/// These bytes were not sealed by this key, or not for this place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("sealed bytes do not open")]
pub struct DoesNotOpen;

/// What a service key is called: the first 8 bytes of SHA-256 of it, as `veilsum keys show` prints them. Of 256 random bits that
/// tells nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Wraps the keys of rounds; the same on every replica. Wiped when dropped.
pub struct ServiceKey(Box<Zeroizing<[u8; 32]>>);

impl ServiceKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Self {
        Self(Box::new(Zeroizing::new(random())))
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let mut key = Box::new(Zeroizing::new([0; 32]));
        hex::decode_to_slice(text, key.as_mut_slice()).map_err(|_| KeyError::NotAKey)?;
        Ok(Self(key))
    }

    /// What it is called.
    pub fn id(&self) -> KeyId {
        let digest = Sha256::digest(self.0.as_slice());
        wipe::stack_below();
        KeyId(*digest.first_chunk().expect("32 bytes"))
    }

    /// As [`ServiceKey::from_hex`] reads it.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_slice()))
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceKey(..)")
    }
}

/// Seals the partial sums of one round, and the answers to it. Wiped when dropped; it stays at one place of the heap, so that a task that waits and
/// moves it leaves no copy behind.
pub struct RoundKey(Box<Zeroizing<[u8; 32]>>);

impl RoundKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Self {
        Self(Box::new(Zeroizing::new(random())))
    }

    /// This key sealed by the service key.
    pub fn wrap(&self, key: &ServiceKey, round: RoundId) -> Vec<u8> {
        seal(&key.0, &wrapping(round), self.0.as_slice())
    }

    /// The inverse of [`RoundKey::wrap`].
    ///
    /// # Errors
    /// [`DoesNotOpen`] under another service key or for another round.
    pub fn unwrap(sealed: &[u8], key: &ServiceKey, round: RoundId) -> Result<Self, DoesNotOpen> {
        let opened = Zeroizing::new(open(&key.0, &wrapping(round), sealed)?);
        let mut inner = Box::new(Zeroizing::new([0; 32]));
        if opened.len() != inner.len() {
            return Err(DoesNotOpen);
        }
        inner.copy_from_slice(&opened);
        Ok(Self(inner))
    }

    /// Seals one segment of a partial sum.
    pub fn seal(&self, place: &impl Place, plain: &[u8]) -> Vec<u8> {
        seal(&self.0, &place.to_bytes(), plain)
    }

    /// The inverse of [`RoundKey::seal`].
    ///
    /// # Errors
    /// [`DoesNotOpen`] if the bytes were changed or belong elsewhere.
    pub fn open(&self, place: &impl Place, sealed: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
        open(&self.0, &place.to_bytes(), sealed)
    }
}

impl fmt::Debug for RoundKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoundKey(..)")
    }
}

/// A row that sealed bytes belong to: they open nowhere else.
pub trait Place {
    /// Table, then key.
    fn to_bytes(&self) -> Vec<u8>;
}

/// The row that a segment of a partial sum belongs to, and how many inputs it sums up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SumPlace {
    /// Which round.
    pub round: RoundId,
    /// Which admission.
    pub batch: [u8; 16],
    /// Which piece of the sum.
    pub segment: u32,
    /// Inputs that were added up.
    pub inputs: u32,
}

impl Place for SumPlace {
    fn to_bytes(&self) -> Vec<u8> {
        let SumPlace { round, batch, segment, inputs } = self;
        let numbers = [segment.to_le_bytes(), inputs.to_le_bytes()].concat();
        [b"veilsum/1/partial_sums".as_slice(), &round.0, batch, &numbers].concat()
    }
}

/// The row of a client's answer: the shares in it are the only ones that reach the service in the clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnswerPlace {
    /// Which round.
    pub round: RoundId,
    /// Whose.
    pub client: ClientId,
}

impl Place for AnswerPlace {
    fn to_bytes(&self) -> Vec<u8> {
        [b"veilsum/1/received/unmask".as_slice(), &self.round.0, &self.client.0].concat()
    }
}

fn wrapping(round: RoundId) -> Vec<u8> {
    [b"veilsum/1/round_keys".as_slice(), &round.0].concat()
}

/// Random bytes of the operating system.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("a system without randomness runs no service");
    bytes
}

fn seal(key: &[u8; 32], place: &[u8], plain: &[u8]) -> Vec<u8> {
    let sealed = sealed(key, place, plain);
    wipe::stack_below(); // the key's schedule
    sealed
}

#[inline(never)]
fn sealed(key: &[u8; 32], place: &[u8], plain: &[u8]) -> Vec<u8> {
    let nonce = random::<NONCE_BYTES>();
    let mut sealed = Vec::with_capacity(plain.len() + SEAL_BYTES);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plain);
    let tag = cipher(key)
        .encrypt_inout_detached(&Nonce::<Aes256Gcm>::from(nonce), place, (&mut sealed[NONCE_BYTES..]).into())
        .expect("a segment is far below 64 GiB");
    sealed.extend_from_slice(&tag);
    sealed
}

fn open(key: &[u8; 32], place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
    let plain = opened(key, place, sealed);
    wipe::stack_below();
    plain
}

#[inline(never)]
fn opened(key: &[u8; 32], place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(DoesNotOpen)?;
    let mut plain = ciphertext.to_vec();
    cipher(key).decrypt_in_place(&Nonce::<Aes256Gcm>::from(*nonce), place, &mut plain).map_err(|_| DoesNotOpen)?;
    Ok(plain)
}

fn cipher(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(<&Key<Aes256Gcm>>::from(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: RoundId = RoundId([7; 16]);
    const PLACE: SumPlace = SumPlace { round: ROUND, batch: [1; 16], segment: 2, inputs: 3 };

    #[test]
    fn a_sealed_segment_opens_at_its_own_place_only() {
        let key = RoundKey::generate();
        let sealed = key.seal(&PLACE, b"sum");
        assert_eq!(key.open(&PLACE, &sealed), Ok(b"sum".to_vec()));
        for elsewhere in [
            SumPlace { round: RoundId([8; 16]), ..PLACE },
            SumPlace { batch: [2; 16], ..PLACE },
            SumPlace { segment: 3, ..PLACE },
            SumPlace { inputs: 4, ..PLACE },
        ] {
            assert_eq!(key.open(&elsewhere, &sealed), Err(DoesNotOpen));
        }
        assert_eq!(RoundKey::generate().open(&PLACE, &sealed), Err(DoesNotOpen));
        assert_eq!(key.open(&PLACE, &sealed[..SEAL_BYTES - 1]), Err(DoesNotOpen));
    }

    #[test]
    fn a_round_key_unwraps_under_its_service_key_and_for_its_round_only() {
        let service = ServiceKey::from_hex(&ServiceKey::generate().to_hex()).expect("a key");
        let (key, other) = (RoundKey::generate(), RoundId([8; 16]));
        let wrapped = key.wrap(&service, ROUND);
        let sealed = key.seal(&PLACE, b"sum");
        let again = RoundKey::unwrap(&wrapped, &service, ROUND).expect("its own key");
        assert_eq!(again.open(&PLACE, &sealed), Ok(b"sum".to_vec()));
        assert!(RoundKey::unwrap(&wrapped, &service, other).is_err());
        assert!(RoundKey::unwrap(&wrapped, &ServiceKey::generate(), ROUND).is_err());
    }

    #[test]
    fn the_same_segment_is_never_sealed_to_the_same_bytes() {
        let key = RoundKey::generate();
        assert_ne!(key.seal(&PLACE, b"sum"), key.seal(&PLACE, b"sum"));
    }

    #[test]
    fn keys_do_not_print_themselves() {
        assert_eq!(format!("{:?}", ServiceKey::generate()), "ServiceKey(..)");
        assert!(matches!(ServiceKey::from_hex("short"), Err(KeyError::NotAKey)));
    }
}
