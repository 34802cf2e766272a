//! Vectors over the ring of integers modulo 2^r, `docs/protocol.md` §2.3.
//!
//! A vector is kept as it travels: packed, element `j` in bits `[j r, (j + 1) r)` of one
//! little-endian bit string. Adding two packed vectors is then one pass over 64-bit words, and a
//! mask is added as it leaves the cipher, without being unpacked.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::primitives::prg::MaskKey;

/// Bits of one ring element, r: 8 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingBits(u8);

impl RingBits {
    /// The smallest ring, modulo 2^8.
    pub const MIN: Self = Self(8);
    /// The largest ring, modulo 2^64.
    pub const MAX: Self = Self(64);

    /// Checks that `bits` is 8 to 64.
    ///
    /// # Errors
    /// [`RingError::Bits`] otherwise.
    pub const fn new(bits: u8) -> Result<Self, RingError> {
        if bits < Self::MIN.0 || bits > Self::MAX.0 {
            return Err(RingError::Bits { bits });
        }
        Ok(Self(bits))
    }

    /// The number of bits.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Why two vectors cannot be added, or bytes are not a vector, §2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RingError {
    /// The ring is too small or too large.
    #[error("ring_bits must be 8 to 64, not {bits}")]
    Bits {
        /// What was asked for.
        bits: u8,
    },
    /// The vectors have different numbers of elements.
    #[error("a vector of {expected} elements was expected, one of {got} came; check vector_len")]
    Length {
        /// Elements of the vector added to.
        expected: usize,
        /// Elements of the other.
        got: usize,
    },
    /// The vectors belong to different rings.
    #[error("a ring of {expected} bits was expected, one of {got} came; check ring_bits")]
    OtherRing {
        /// Bits of the vector added to.
        expected: u8,
        /// Bits of the other.
        got: u8,
    },
    /// A packed vector has the wrong number of bytes.
    #[error("{expected} packed bytes were expected, {got} came; check vector_len and ring_bits")]
    PackedBytes {
        /// `ceil(vector_len * ring_bits / 8)`.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// The last byte holds bits that belong to no element.
    #[error("the spare bits of the last packed byte must be zero")]
    SpareBits,
}

/// A vector over the integers modulo 2^r, wiped when dropped.
///
/// Invariant: bits past the last element are zero.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RingVector {
    words: Vec<u64>,
    len: usize,
    #[zeroize(skip)]
    bits: RingBits,
}

impl RingVector {
    /// A vector of `len` zeros.
    ///
    /// # Panics
    /// If `len` exceeds 2^32 - 1, the longest `vector_len` that a header can name.
    pub fn zeros(len: usize, bits: RingBits) -> Self {
        assert!(u32::try_from(len).is_ok(), "vector_len is a u32 in the header");
        Self { words: vec![0; (len * usize::from(bits.0)).div_ceil(WORD_BITS)], len, bits }
    }

    /// Reduces signed values modulo 2^r, in two's complement.
    ///
    /// # Panics
    /// As [`RingVector::zeros`].
    pub fn from_signed(values: &[i64], bits: RingBits) -> Self {
        let mut vector = Self::zeros(values.len(), bits);
        let (width, mask) = (u32::from(bits.0), u64::MAX >> (64 - bits.0));
        let (mut pending, mut held) = (0_u64, 0_u32); // bits not yet written
        let mut words = vector.words.iter_mut();
        for &value in values {
            let element = value.cast_unsigned() & mask;
            pending |= element << held;
            held += width;
            if held >= u64::BITS {
                *words.next().expect("one word for every 64 bits") = pending;
                held -= u64::BITS;
                pending = element.checked_shr(width - held).unwrap_or(0); // what did not fit
            }
        }
        if held > 0 {
            *words.next().expect("one word for the rest") = pending;
        }
        vector
    }

    /// The elements as signed values in `[-2^(r-1), 2^(r-1))`.
    pub fn to_signed(&self) -> Vec<i64> {
        let (width, unused) = (usize::from(self.bits.0), 64 - u32::from(self.bits.0));
        (0..self.len)
            .map(|j| {
                let (word, shift) = (j * width / WORD_BITS, j * width % WORD_BITS);
                let mut element = self.words[word] >> shift;
                if shift > WORD_BITS - width {
                    element |= self.words[word + 1] << (WORD_BITS - shift);
                }
                (element << unused).cast_signed() >> unused
            })
            .collect()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ring.
    pub fn bits(&self) -> RingBits {
        self.bits
    }

    /// Adds another vector, element by element, modulo 2^r.
    ///
    /// # Errors
    /// [`RingError::Length`] or [`RingError::OtherRing`]; nothing is changed then.
    pub fn add_assign(&mut self, other: &Self) -> Result<(), RingError> {
        self.same_shape(other)?;
        self.combine::<ADD>(read_words(&other.words));
        Ok(())
    }

    /// Subtracts another vector, element by element, modulo 2^r.
    ///
    /// # Errors
    /// [`RingError::Length`] or [`RingError::OtherRing`]; nothing is changed then.
    pub fn sub_assign(&mut self, other: &Self) -> Result<(), RingError> {
        self.same_shape(other)?;
        self.combine::<SUBTRACT>(read_words(&other.words));
        Ok(())
    }

    /// Adds a packed vector of the same shape.
    ///
    /// # Errors
    /// [`RingError::PackedBytes`] or [`RingError::SpareBits`]; nothing is changed then.
    pub fn add_packed(&mut self, packed: &[u8]) -> Result<(), RingError> {
        check_packed(packed, self.len, self.bits)?;
        let mut rest = packed;
        self.combine::<ADD>(|block| {
            let (now, later) = rest.split_at(block.len());
            block.copy_from_slice(now);
            rest = later;
        });
        Ok(())
    }

    /// Expands a mask and adds it in the same pass, §2.4.
    pub fn add_mask(&mut self, key: MaskKey) {
        let mut stream = key.into_keystream(self.keystream_bytes());
        self.combine::<ADD>(|block| stream.fill(block));
    }

    /// Expands a mask and subtracts it in the same pass, §2.4.
    pub fn sub_mask(&mut self, key: MaskKey) {
        let mut stream = key.into_keystream(self.keystream_bytes());
        self.combine::<SUBTRACT>(|block| stream.fill(block));
    }

    /// Bytes of a packed vector: `ceil(len * r / 8)`.
    pub fn packed_bytes(len: usize, bits: RingBits) -> usize {
        let elements_of_eight = len / 8 * usize::from(bits.0); // r bytes hold 8 elements
        elements_of_eight + (len % 8 * usize::from(bits.0)).div_ceil(8)
    }

    /// The vector as it travels.
    pub fn pack(&self) -> Vec<u8> {
        let mut packed: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        packed.truncate(Self::packed_bytes(self.len, self.bits));
        packed
    }

    /// Reads a packed vector.
    ///
    /// # Errors
    /// [`RingError::PackedBytes`] or [`RingError::SpareBits`].
    ///
    /// # Panics
    /// As [`RingVector::zeros`], once the bytes have the right length.
    pub fn unpack(packed: &[u8], len: usize, bits: RingBits) -> Result<Self, RingError> {
        check_packed(packed, len, bits)?;
        let mut vector = Self::zeros(len, bits);
        let (whole, rest) = packed.as_chunks();
        for (word, bytes) in vector.words.iter_mut().zip(whole) {
            *word = u64::from_le_bytes(*bytes);
        }
        if !rest.is_empty() {
            let mut last = [0; WORD_BYTES];
            last[..rest.len()].copy_from_slice(rest);
            vector.words[whole.len()] = u64::from_le_bytes(last);
        }
        Ok(vector)
    }

    fn keystream_bytes(&self) -> u64 {
        Self::packed_bytes(self.len, self.bits) as u64
    }

    fn same_shape(&self, other: &Self) -> Result<(), RingError> {
        if self.bits != other.bits {
            return Err(RingError::OtherRing { expected: self.bits.0, got: other.bits.0 });
        }
        if self.len != other.len {
            return Err(RingError::Length { expected: self.len, got: other.len });
        }
        Ok(())
    }

    /// Adds (or subtracts) packed bytes that `fill` writes block by block, in order.
    fn combine<const SUB: bool>(&mut self, mut fill: impl FnMut(&mut [u8])) {
        let tops = Tops::new(self.bits);
        let mut bytes_left = Self::packed_bytes(self.len, self.bits);
        let mut first_word = 0;
        let mut carries = [0; BLOCK_WORDS + 1];
        let mut block = [0_u8; BLOCK_BYTES];
        for words in self.words.chunks_mut(BLOCK_WORDS) {
            let used = bytes_left.min(block.len());
            fill(&mut block[..used]);
            if used < block.len() {
                block[used..].fill(0);
            }
            add_block::<SUB>(words, &block, &tops, first_word, &mut carries);
            bytes_left -= used;
            first_word += BLOCK_WORDS;
        }
        block.zeroize();
        carries.zeroize();
        self.clear_spare_bits();
    }

    fn clear_spare_bits(&mut self) {
        let used_in_last = self.len * usize::from(self.bits.0) % WORD_BITS;
        if let (1.., Some(last)) = (used_in_last, self.words.last_mut()) {
            *last &= u64::MAX >> (WORD_BITS - used_in_last);
        }
    }
}

impl fmt::Debug for RingVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingVector(..)")
    }
}

const ADD: bool = false;
const SUBTRACT: bool = true;

const WORD_BITS: usize = 64;
const WORD_BYTES: usize = WORD_BITS / 8;

/// Words added at a time: 4 KiB of keystream stay in the first-level cache.
const BLOCK_WORDS: usize = 512;
const BLOCK_BYTES: usize = BLOCK_WORDS * WORD_BYTES;

/// Adds words of packed elements. `carries[0]` comes from the word before; the carry into the word
/// after a whole block is left there.
///
/// With the top bit of every element set aside, no sum leaves its element; the top bits are then
/// added without carry. An element that straddles two words passes a carry to the second, where it
/// ends, so that carries never run on: they are found in a pass of their own, and both passes
/// vectorise. Subtraction is `a - b = !(!a + b)`.
#[inline]
fn add_block<const SUB: bool>(
    words: &mut [u64],
    addend: &[u8; BLOCK_BYTES],
    tops: &Tops,
    first_word: usize,
    carries: &mut [u64; BLOCK_WORDS + 1],
) {
    let flip = if SUB { u64::MAX } else { 0 };
    let (addend, _) = addend.as_chunks::<WORD_BYTES>();
    let pattern = tops.starting_at(first_word);
    if tops.straddle() {
        let inputs = words.iter().zip(addend).zip(pattern);
        for (((word, bytes), &top), carry) in inputs.zip(&mut carries[1..]) {
            let (a, b) = (*word ^ flip, u64::from_le_bytes(*bytes));
            let (low_a, low_b) = (a & !top, b & !top);
            let low_sum = low_a.wrapping_add(low_b);
            *carry = ((low_a & low_b) | ((low_a | low_b) & !low_sum)) >> 63;
        }
    }
    let inputs = words.iter_mut().zip(addend).zip(pattern);
    for (((word, bytes), &top), &carry) in inputs.zip(&carries[..BLOCK_WORDS]) {
        let (a, b) = (*word ^ flip, u64::from_le_bytes(*bytes));
        let low_sum = (a & !top).wrapping_add(b & !top).wrapping_add(carry);
        *word = low_sum ^ ((a ^ b) & top) ^ flip;
    }
    carries[0] = carries[BLOCK_WORDS];
}

/// The top bit of every element, word by word. The pattern repeats after at most 63 words.
struct Tops {
    words: [u64; BLOCK_WORDS + 64],
    period_words: usize,
}

impl Tops {
    fn new(bits: RingBits) -> Self {
        let width = usize::from(bits.0);
        let mut words = [0; BLOCK_WORDS + 64];
        for top in (width - 1..words.len() * WORD_BITS).step_by(width) {
            words[top / WORD_BITS] |= 1 << (top % WORD_BITS);
        }
        let shared_factor = 1 << width.trailing_zeros().min(6); // gcd(r, 64)
        Self { words, period_words: width / shared_factor }
    }

    /// True if some elements lie in two words.
    fn straddle(&self) -> bool {
        self.period_words > 1
    }

    /// The pattern for a block that starts with word number `first_word` of the vector.
    fn starting_at(&self, first_word: usize) -> &[u64; BLOCK_WORDS] {
        self.words[first_word % self.period_words..].first_chunk().expect("the pattern is a block and a period long")
    }
}

/// Hands out the words of a vector as little-endian bytes, block by block.
fn read_words(words: &[u64]) -> impl FnMut(&mut [u8]) {
    let mut blocks = words.chunks(BLOCK_WORDS);
    move |block| {
        let words = blocks.next().expect("both vectors have the same shape");
        for (bytes, word) in block.chunks_mut(WORD_BYTES).zip(words) {
            let len = bytes.len(); // the last word may be partly used
            bytes.copy_from_slice(&word.to_le_bytes()[..len]);
        }
    }
}

fn check_packed(packed: &[u8], len: usize, bits: RingBits) -> Result<(), RingError> {
    let expected = RingVector::packed_bytes(len, bits);
    if packed.len() != expected {
        return Err(RingError::PackedBytes { expected, got: packed.len() });
    }
    let used_in_last = len % 8 * usize::from(bits.0) % 8;
    match packed.last() {
        Some(last) if used_in_last > 0 && last >> used_in_last != 0 => Err(RingError::SpareBits),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reduce(value: i128, bits: u8) -> i64 {
        let (modulus, half) = (1_i128 << bits, 1_i128 << (bits - 1));
        ((value + half).rem_euclid(modulus) - half) as i64
    }

    /// Element by element and bit by bit, as §2.3 says it.
    fn plain_elements(packed: &[u8], len: usize, bits: u8) -> Vec<i64> {
        let bit = |i: usize| u64::from(packed[i / 8] >> (i % 8) & 1);
        (0..len)
            .map(|j| (0..usize::from(bits)).fold(0, |e, i| e | bit(j * usize::from(bits) + i) << i))
            .map(|element| reduce(i128::from(element), bits))
            .collect()
    }

    fn shape_and_values() -> impl Strategy<Value = (u8, Vec<i64>, Vec<i64>)> {
        (8..=64_u8, 0..4000_usize).prop_flat_map(|(bits, len)| {
            (Just(bits), prop::collection::vec(any::<i64>(), len), prop::collection::vec(any::<i64>(), len))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn sums_and_differences_are_those_of_the_elements((bits, a, b) in shape_and_values()) {
            let ring = RingBits::new(bits).expect("8 to 64");
            let (x, y) = (RingVector::from_signed(&a, ring), RingVector::from_signed(&b, ring));
            prop_assert_eq!((x.len(), x.is_empty(), x.bits()), (a.len(), a.is_empty(), ring));
            let reduced: Vec<i64> = a.iter().map(|&v| reduce(v.into(), bits)).collect();
            prop_assert_eq!(x.to_signed(), reduced);
            let each = |op: fn(i128, i128) -> i128| -> Vec<i64> {
                a.iter().zip(&b).map(|(&p, &q)| reduce(op(p.into(), q.into()), bits)).collect()
            };
            let mut sum = x.clone();
            sum.add_assign(&y).expect("one shape");
            prop_assert_eq!(sum.to_signed(), each(|p, q| p + q));
            let mut packed_sum = x.clone();
            packed_sum.add_packed(&y.pack()).expect("one shape");
            prop_assert_eq!(&packed_sum, &sum);
            let mut difference = x.clone();
            difference.sub_assign(&y).expect("one shape");
            prop_assert_eq!(difference.to_signed(), each(|p, q| p - q));
            difference.add_assign(&y).expect("one shape");
            prop_assert_eq!(difference, x);
        }

        #[test]
        fn packing_is_the_bit_string_of_the_elements((bits, values, _) in shape_and_values()) {
            let ring = RingBits::new(bits).expect("8 to 64");
            let vector = RingVector::from_signed(&values, ring);
            let packed = vector.pack();
            prop_assert_eq!(packed.len(), (values.len() * usize::from(bits)).div_ceil(8));
            prop_assert_eq!(plain_elements(&packed, values.len(), bits), vector.to_signed());
            prop_assert_eq!(RingVector::unpack(&packed, values.len(), ring), Ok(vector));
        }

        #[test]
        fn a_mask_is_the_keystream_read_as_elements(
            (bits, values, _) in shape_and_values(),
            key: [u8; 16],
        ) {
            let ring = RingBits::new(bits).expect("8 to 64");
            let mut stream = alloc::vec![0; (values.len() * usize::from(bits)).div_ceil(8)];
            MaskKey::from_bytes(key).into_keystream(stream.len() as u64).fill(&mut stream);
            let mask = plain_elements(&stream, values.len(), bits);
            let start = RingVector::from_signed(&values, ring);
            let mut masked = start.clone();
            masked.add_mask(MaskKey::from_bytes(key));
            let mut expected = start.clone();
            expected.add_assign(&RingVector::from_signed(&mask, ring)).expect("one shape");
            prop_assert_eq!(&masked, &expected);
            masked.sub_mask(MaskKey::from_bytes(key));
            prop_assert_eq!(masked, start);
        }
    }

    #[test]
    fn bytes_of_another_shape_are_refused() {
        let ring = RingBits::new(20).expect("8 to 64");
        let mut sum = RingVector::zeros(3, ring);
        assert_eq!(sum.add_packed(&[0; 7]), Err(RingError::PackedBytes { expected: 8, got: 7 }));
        assert_eq!(sum.add_packed(&[0xff; 8]), Err(RingError::SpareBits));
        assert_eq!(sum, RingVector::zeros(3, ring));
        let longer = RingVector::zeros(4, ring);
        assert_eq!(sum.add_assign(&longer), Err(RingError::Length { expected: 3, got: 4 }));
        let wider = RingVector::zeros(3, RingBits::MAX);
        assert_eq!(sum.sub_assign(&wider), Err(RingError::OtherRing { expected: 20, got: 64 }));
        assert_eq!(RingBits::new(7), Err(RingError::Bits { bits: 7 }));
        assert_eq!(RingBits::new(65), Err(RingError::Bits { bits: 65 }));
    }

    #[test]
    fn an_empty_vector_has_no_bytes() {
        let mut empty = RingVector::zeros(0, RingBits::MIN);
        empty.add_mask(MaskKey::from_bytes([1; 16]));
        assert!(empty.is_empty() && empty.pack().is_empty() && empty.to_signed().is_empty());
    }
}
