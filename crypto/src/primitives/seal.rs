//! Sealing: shares for their holder, and saved state for oneself. §2.6, §4.5
//!
//! AES-256-GCM both times. A mail key encrypts one message in its life, so its nonce is fixed; that is
//! allowed here and nowhere else. Saved state draws a fresh nonce each time it is written.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use rand_core::CryptoRng;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::labels;

/// Length of a sealed pair of shares: two scalars and a tag.
pub const SEALED_SHARES_BYTES: usize = 2 * 32 + 16;

/// Seals or opens exactly one pair of shares; both consume it.
pub struct MailKey(Zeroizing<[u8; 32]>);

impl MailKey {
    pub(super) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// Seals the one message of this key.
    pub fn seal(self, plaintext: &[u8; 64], aad: &[u8]) -> [u8; SEALED_SHARES_BYTES] {
        cipher(&self.0)
            .encrypt(&Nonce::from([0; 12]), Payload { msg: plaintext, aad })
            .expect("64 bytes are within every limit of GCM")
            .try_into()
            .expect("GCM adds 16 bytes")
    }

    /// Opens the one message of this key; `None` if it is not authentic.
    pub fn open(self, sealed: &[u8; SEALED_SHARES_BYTES], aad: &[u8]) -> Option<Zeroizing<[u8; 64]>> {
        let plain = Zeroizing::new(cipher(&self.0).decrypt(&Nonce::from([0; 12]), Payload { msg: sealed, aad }).ok()?);
        let mut shares = Zeroizing::new([0; 64]);
        shares.copy_from_slice(&plain);
        Some(shares)
    }
}

/// The caller's key for saved state. Wiped when dropped; it stays at one place of the heap.
pub struct SavingKey(Box<Zeroizing<[u8; 32]>>);

impl ZeroizeOnDrop for SavingKey {}

impl SavingKey {
    /// From 32 random bytes, kept where the platform keeps keys.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Box::new(Zeroizing::new(bytes)))
    }

    /// Seals state under a fresh nonce: `nonce[12], ciphertext, tag[16]`.
    pub fn seal(&self, rng: &mut impl CryptoRng, plaintext: &[u8]) -> Vec<u8> {
        let mut nonce = [0; 12];
        rng.fill_bytes(&mut nonce);
        let sealed = cipher(&self.0)
            .encrypt(&Nonce::from(nonce), Payload { msg: plaintext, aad: labels::SAVED.as_str().as_bytes() })
            .expect("saved state is far below the limit of GCM");
        [&nonce[..], &sealed].concat()
    }

    /// Opens what [`SavingKey::seal`] made; `None` if it is not authentic.
    pub fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<12>()?;
        cipher(&self.0)
            .decrypt(&Nonce::from(*nonce), Payload { msg: ciphertext, aad: labels::SAVED.as_str().as_bytes() })
            .ok()
            .map(Zeroizing::new)
    }
}

impl fmt::Debug for SavingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SavingKey(..)")
    }
}

fn cipher(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(<&Key<Aes256Gcm>>::from(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST GCM test case 14 (McGrew and Viega): zero key, zero nonce, 16 zero bytes.
    #[test]
    fn aes_256_gcm_is_that_of_its_authors() {
        let sealed =
            cipher(&[0; 32]).encrypt(&Nonce::from([0; 12]), Payload { msg: &[0; 16], aad: &[] }).expect("short");
        assert_eq!(hex::encode(sealed), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    }

    /// RFC 5869 §A.1
    #[test]
    fn hkdf_is_that_of_rfc_5869() {
        let salt: Vec<u8> = (0x00..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let mut okm = [0; 42];
        hkdf::Hkdf::<sha2::Sha256>::new(Some(&salt), &[0x0b; 22]).expand(&info, &mut okm).expect("short");
        assert_eq!(
            hex::encode(okm),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
    }

    /// one message a key; it opens only under the same associated data.
    #[test]
    fn mail_opens_only_as_it_was_sealed() {
        let key = || MailKey::new(Zeroizing::new([7; 32]));
        let sealed = key().seal(&[1; 64], b"edge");
        assert_eq!(key().open(&sealed, b"edge").as_deref(), Some(&[1; 64]));
        assert!(key().open(&sealed, b"another edge").is_none());
        let mut altered = sealed;
        altered[79] ^= 1;
        assert!(key().open(&altered, b"edge").is_none());
    }

    #[test]
    fn saved_state_never_seals_twice_alike() {
        let key = SavingKey::from_bytes([3; 32]);
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        let (one, two) = (key.seal(&mut rng, b"state"), key.seal(&mut rng, b"state"));
        assert_ne!(one, two);
        assert_eq!(key.open(&one).as_deref().map(Vec::as_slice), Some(&b"state"[..]));
        assert!(key.open(&one[..11]).is_none());
    }
}
