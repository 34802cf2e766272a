//! Bytes are decoded whole, at lengths already agreed. docs/wire.md
//!
//! Little-endian integers, no options, nothing left over. The reader never allocates more than
//! it was given.

use alloc::vec::Vec;

use crate::ids::Digest;

/// Why bytes are not the message they claim to be. The sender is at fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("{field}: {needed} bytes expected, {left} left")]
    Short {
        /// What was being read.
        field: &'static str,
        /// Bytes that it takes.
        needed: usize,
        /// Bytes that were there.
        left: usize,
    },
    /// Bytes follow after the end.
    #[error("{0} bytes left over after the end of the message")]
    LeftOver(usize),
    /// A value in a form that no honest encoder writes.
    #[error("{field} is not canonical: {expected}")]
    NotCanonical {
        /// What was being read.
        field: &'static str,
        /// The only form accepted.
        expected: &'static str,
    },
    /// A statement under another label.
    #[error("a statement \"{expected}\" was expected; its label is another one")]
    Label {
        /// The label wanted.
        expected: &'static str,
    },
}

/// Reads from the front; [`Reader::finish`] sees to it that nothing is left.
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Bytes not yet read.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        if len > self.bytes.len() {
            return Err(DecodeError::Short { field, needed: len, left: self.bytes.len() });
        }
        let (front, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        Ok(front)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        Ok(self.take(field, N)?.try_into().expect("take returns as many bytes as asked"))
    }

    /// A `u8`.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(field)?[0])
    }

    /// A little-endian `u16`.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// A little-endian `u32`.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// A little-endian `u64`.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A finite, non-negative `f64` given as its bits; `-0` is not canonical.
    pub fn f64(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        let value = f64::from_bits(self.u64(field)?);
        if value.is_finite() && value.is_sign_positive() {
            Ok(value)
        } else {
            Err(DecodeError::NotCanonical { field, expected: "a finite number, not negative" })
        }
    }

    /// A 32-byte hash.
    pub fn digest(&mut self, field: &'static str) -> Result<Digest, DecodeError> {
        self.array(field).map(Digest)
    }

    /// A byte string preceded by its length as `u32`.
    pub fn prefixed(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.u32(field)?;
        self.take(field, len as usize)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.bytes)
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::LeftOver(self.bytes.len())) }
    }
}

/// Appends `bytes` preceded by their length as `u32`.
pub fn write_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("pieces of a message are far below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}
