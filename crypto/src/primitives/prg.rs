//! Keystreams: what masks and noise are expanded from, `docs/protocol.md` §2.4.
//!
//! A mask is AES-128 in counter mode with a 64-bit little-endian counter that starts at zero; noise
//! is AES-256 in the same mode. Both give the same bytes on every platform.

use core::fmt;

use aes::cipher::{KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use ctr::Ctr64LE;
use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// at most this many 16-byte blocks under one key.
const MAX_BLOCKS: u64 = 1 << 32;

/// The label of [`NoiseSeed`]'s key, preceded by its length as every label is.
const NOISE_LABEL: &[u8; 16] = b"\x0fveilsum/1/noise";

/// The counter starts at zero: a key is used for one keystream only.
const ZERO_IV: [u8; 16] = [0; 16];

/// The key of one mask, §2.4. It is used up by the mask, and wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct MaskKey([u8; 16]);

impl MaskKey {
    /// Takes over 16 bytes that came out of a key derivation.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Opens the keystream, of which no more than `keystream_bytes` may be read.
    ///
    /// # Panics
    /// If `keystream_bytes` exceeds the block limit of R-32. A vector of 2^32 - 1 elements of 64
    /// bits stays below half of it.
    pub(crate) fn into_keystream(self, keystream_bytes: u64) -> MaskStream {
        assert!(
            keystream_bytes <= MAX_BLOCKS * 16,
            "a mask of {keystream_bytes} bytes exceeds 2^32 AES blocks; shorten the vector"
        );
        MaskStream(Ctr64LE::new(&self.0.into(), &ZERO_IV.into()))
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKey(..)")
    }
}

/// The bytes of one mask, in order.
pub(crate) struct MaskStream(Ctr64LE<Aes128>);

impl MaskStream {
    /// Writes the next `block.len()` bytes of the keystream over `block`.
    pub(crate) fn fill(&mut self, block: &mut [u8]) {
        self.0.write_keystream(block);
    }
}

/// What one vector of noise, or one rounding, is expanded from: 256 bits, wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct NoiseSeed([u8; 32]);

impl NoiseSeed {
    /// Draws a fresh seed.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Self([0; 32]);
        rng.fill_bytes(&mut seed.0);
        seed
    }

    /// Takes over 32 secret bytes: a known answer, or a seed rebuilt from shares.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Expands the seed. Consumes it: noise that was added twice could be subtracted once.
    pub fn into_stream(self) -> NoiseStream {
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(NOISE_LABEL, &mut key)
            .expect("HKDF-SHA-256 gives up to 255 * 32 bytes");
        let cipher = Ctr64LE::new(&key.into(), &ZERO_IV.into());
        key.zeroize();
        NoiseStream { cipher, buffer: [0; BUFFER_BYTES], used_bytes: BUFFER_BYTES }
    }
}

impl fmt::Debug for NoiseSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoiseSeed(..)")
    }
}

/// Bytes expanded at a time: small enough for the first-level cache.
const BUFFER_BYTES: usize = 4096;

/// The keystream of a [`NoiseSeed`] as consecutive 64-bit little-endian words.
pub struct NoiseStream {
    cipher: Ctr64LE<Aes256>, // wipes itself
    buffer: [u8; BUFFER_BYTES],
    used_bytes: usize,
}

impl NoiseStream {
    /// The next word.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        if self.used_bytes == BUFFER_BYTES {
            self.cipher.write_keystream(&mut self.buffer);
            self.used_bytes = 0;
        }
        let (words, _) = self.buffer.as_chunks::<8>();
        let word = u64::from_le_bytes(words[self.used_bytes / 8]);
        self.used_bytes += 8;
        word
    }
}

impl Drop for NoiseStream {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

impl ZeroizeOnDrop for NoiseStream {}

impl fmt::Debug for NoiseStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoiseStream(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    /// The first block is the hash key of test case 1 of the GCM specification: AES-128 of sixteen
    /// zero bytes under the zero key.
    #[test]
    fn a_mask_starts_with_the_zero_block_and_counts_little_endian() {
        let mut bytes = [0; 32];
        MaskKey::from_bytes([0; 16]).into_keystream(32).fill(&mut bytes);
        assert_eq!(bytes[..16], 0x66e94bd4ef8a2c3b884cfa59ca342b2e_u128.to_be_bytes());
        let mut counted = [0_u8; 16];
        counted[0] = 1;
        let second = {
            use aes::cipher::{BlockCipherEncrypt, KeyInit};
            let mut block = counted.into();
            Aes128::new(&[0; 16].into()).encrypt_block(&mut block);
            block
        };
        assert_eq!(bytes[16..], second[..]);
    }

    /// The words were computed with Python's hmac and OpenSSL's AES-256.
    #[test]
    fn noise_words_are_the_same_on_every_platform() {
        let mut stream = NoiseSeed::from_bytes([7; 32]).into_stream();
        let first = [stream.next_u64(), stream.next_u64()];
        assert_eq!(first, NOISE_WORDS);
        let mut again = NoiseSeed::from_bytes([7; 32]).into_stream();
        let far = (0..2000).map(|_| again.next_u64()).fold(0, u64::wrapping_add);
        assert_eq!(far, NOISE_WORDS_SUM);
    }

    const NOISE_WORDS: [u64; 2] = [14_611_442_175_139_879_393, 3_301_168_884_195_734_188];
    const NOISE_WORDS_SUM: u64 = 4_478_362_157_102_228_973;

    #[test]
    fn secrets_print_nothing() {
        assert_eq!(format!("{:?}", MaskKey::from_bytes([1; 16])), "MaskKey(..)");
        assert_eq!(format!("{:?}", NoiseSeed::from_bytes([1; 32])), "NoiseSeed(..)");
    }

    #[test]
    #[should_panic(expected = "2^32 AES blocks")]
    fn a_key_has_a_block_limit() {
        let _ = MaskKey::from_bytes([0; 16]).into_keystream((MAX_BLOCKS + 1) * 16);
    }
}
