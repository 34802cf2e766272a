//! Which leaves of a roster: the core and the survivors. docs/wire.md

use alloc::vec::Vec;

use crate::ids::LeafIndex;
use crate::primitives::codec::{DecodeError, Reader};

/// A set of leaf indices below n.
///
/// ```text
/// u32 n, u32 count, bitmap[ceil(n / 8)]     bit i mod 8 of byte i div 8; padding bits zero
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bitmap {
    n: u32,
    bits: Vec<u8>,
}

impl Bitmap {
    /// The empty set over n leaves.
    pub fn empty(n: u32) -> Self {
        Self { n, bits: alloc::vec![0; n.div_ceil(8) as usize] }
    }

    /// The set of these leaves; those not below n are left out.
    pub fn of(n: u32, leaves: impl IntoIterator<Item = LeafIndex>) -> Self {
        let mut set = Self::empty(n);
        leaves.into_iter().filter(|leaf| leaf.0 < n).for_each(|leaf| set.bits[leaf.index() / 8] |= 1 << (leaf.0 % 8));
        set
    }

    /// Number of leaves that could be in it.
    pub fn n(&self) -> u32 {
        self.n
    }

    /// Whether a leaf is in it.
    pub fn has(&self, leaf: LeafIndex) -> bool {
        leaf.0 < self.n && self.bits[leaf.index() / 8] >> (leaf.0 % 8) & 1 == 1
    }

    /// How many are in it.
    pub fn count(&self) -> u32 {
        self.bits.iter().map(|byte| byte.count_ones()).sum()
    }

    /// The leaves in it, ascending.
    pub fn leaves(&self) -> impl Iterator<Item = LeafIndex> + '_ {
        (0..self.n).map(LeafIndex).filter(|leaf| self.has(*leaf))
    }

    /// Whether every leaf is also in `other`.
    pub fn is_within(&self, other: &Bitmap) -> bool {
        self.n == other.n && self.bits.iter().zip(&other.bits).all(|(mine, theirs)| mine & !theirs == 0)
    }

    /// How many of `leaves` are in it.
    pub fn count_of(&self, leaves: &[LeafIndex]) -> u32 {
        leaves.iter().filter(|leaf| self.has(**leaf)).count() as u32
    }

    /// Appends n, count and bits.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.n.to_le_bytes());
        out.extend(self.count().to_le_bytes());
        out.extend_from_slice(&self.bits);
    }

    /// Reads a set over exactly `n` leaves; count and padding must be right.
    pub fn read(reader: &mut Reader<'_>, n: u32) -> Result<Self, DecodeError> {
        let wrong = |expected| DecodeError::NotCanonical { field: "bitmap", expected };
        if reader.u32("bitmap n")? != n {
            return Err(wrong("n as in the roster"));
        }
        let count = reader.u32("bitmap count")?;
        let set = Self { n, bits: reader.take("bitmap", n.div_ceil(8) as usize)?.to_vec() };
        if !n.is_multiple_of(8) && set.bits.last().is_some_and(|last| last >> (n % 8) != 0) {
            return Err(wrong("padding bits zero"));
        }
        if set.count() != count {
            return Err(wrong("count equal to the number of bits set"));
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_survives_the_wire(n in 1_u32..200, seeds in prop::collection::vec(any::<u32>(), 0..50)) {
            let set = Bitmap::of(n, seeds.iter().map(|s| LeafIndex(s % n)));
            let mut bytes = Vec::new();
            set.write(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Bitmap::read(&mut reader, n), Ok(set.clone()));
            prop_assert_eq!(set.leaves().count() as u32, set.count());
        }
    }

    /// R-37: one encoding a set.
    #[test]
    fn a_wrong_count_or_a_padding_bit_is_refused() {
        let mut bytes = Vec::new();
        Bitmap::of(5, [LeafIndex(1)]).write(&mut bytes);
        let read = |bytes: &[u8]| Bitmap::read(&mut Reader::new(bytes), 5);
        assert!(read(&bytes).is_ok());
        for (at, bit) in [(4, 2), (8, 1 << 5), (0, 1)] {
            let mut other = bytes.clone();
            other[at] ^= bit;
            assert!(read(&other).is_err());
        }
    }
}
