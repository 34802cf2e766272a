//! Lists as they are served: bounds first, then lengths, then order; a frame that is not canonical is refused whole.
//! docs/wire.md §7
//!
//! ```text
//! list   = count u16, then count times: u32 length, item
//! leaves = for each index asked: u32 length = 579, leaf
//! ```

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use veilsum_crypto::ids::LeafIndex;
use veilsum_crypto::messages::Roster;
use veilsum_crypto::params::RosterParams;
use veilsum_crypto::primitives::codec::{DecodeError, Reader};
use veilsum_crypto::primitives::labels::{self, Label};
use veilsum_crypto::primitives::signature::Signed;

/// No reply is read beyond this, whatever the parameters of a round would permit; vectors and models apart.
pub const REPLY_BYTES_MAX: usize = 64 << 20;
/// A signed header.
pub const HEADER_BYTES: usize = 527;
/// Indices in one request for leaves.
pub const LEAVES_MAX: usize = 512;
/// One served leaf: its length, then the leaf.
const FRAMED_LEAF_BYTES: usize = 4 + LEAF_BYTES;
const LEAF_BYTES: usize = 579;

/// One kind of list: how many items of which size a client reads at most.
#[derive(Clone, Debug)]
pub struct List {
    count_max: usize,
    item_bytes: RangeInclusive<usize>,
    /// Under which label items are signed; mail begins with its dealer instead.
    label: Option<Label>,
}

impl List {
    /// Mail items.
    pub fn mail(params: &RosterParams) -> Self {
        let path_max = (params.degree as usize).next_power_of_two().trailing_zeros() as usize;
        Self::of(params, 368..=368 + 32 * path_max, None)
    }

    /// Acknowledgements that complain.
    pub fn complaints(params: &RosterParams) -> Self {
        let k = params.degree as usize;
        Self::of(params, 224 + k..=224 + 33 * k, Some(labels::ACKNOWLEDGEMENT))
    }

    /// Openings after complaints.
    pub fn openings(params: &RosterParams) -> Self {
        Self::of(params, 186 + 68..=186 + 68 * params.openings_max() as usize, Some(labels::OPENING))
    }

    /// Upload statements.
    pub fn uploads(params: &RosterParams) -> Self {
        Self::of(params, 223..=223, Some(labels::UPLOAD))
    }

    /// Confirmations.
    pub fn confirmations(params: &RosterParams) -> Self {
        Self::of(params, 184..=184, Some(labels::CONFIRM))
    }

    fn of(params: &RosterParams, item_bytes: RangeInclusive<usize>, label: Option<Label>) -> Self {
        Self { count_max: params.degree as usize, item_bytes, label }
    }

    /// The longest body that is read.
    pub fn bytes_max(&self) -> usize {
        (2 + self.count_max * (4 + self.item_bytes.end())).min(REPLY_BYTES_MAX)
    }

    /// The items. Whether each holds is judged by `veilsum_crypto::client`.
    pub fn read(&self, body: &[u8], roster: &Roster) -> Result<Vec<Vec<u8>>, DecodeError> {
        let wrong = |field, expected| DecodeError::NotCanonical { field, expected };
        let mut reader = Reader::new(body);
        let count = usize::from(reader.u16("count")?);
        if count > self.count_max {
            return Err(wrong("count", "at most one item for each neighbour"));
        }
        let mut items = Vec::with_capacity(count);
        let mut last = None;
        for _ in 0..count {
            let item = reader.prefixed("item")?;
            if !self.item_bytes.contains(&item.len()) {
                return Err(wrong("item length", "the lengths of this round"));
            }
            if let Some(leaf) = self.leaf(item, roster)
                && last.replace(leaf).is_some_and(|last| last >= leaf)
            {
                return Err(wrong("order", "strictly ascending leaf indices"));
            }
            items.push(item.to_vec());
        }
        reader.finish()?;
        Ok(items)
    }

    /// Whose item this is; `None` if it is nobody's, in which case it fails its checks later.
    fn leaf(&self, item: &[u8], roster: &Roster) -> Option<LeafIndex> {
        match self.label {
            None => item.first_chunk().map(|dealer| LeafIndex(u32::from_le_bytes(*dealer))),
            Some(label) => roster.leaf_of(Signed::decode(item, label).ok()?.statement().sender.into()),
        }
    }
}

/// The longest reply to a request for so many leaves.
pub fn leaves_bytes(asked: &[LeafIndex]) -> usize {
    asked.len() * FRAMED_LEAF_BYTES
}

/// Adds the leaves asked for, in the order asked, to `leaves`.
pub fn read_leaves(
    body: &[u8],
    asked: &[LeafIndex],
    leaves: &mut BTreeMap<LeafIndex, Vec<u8>>,
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(body);
    for leaf in asked {
        let bytes = reader.prefixed("leaf")?;
        if bytes.len() != LEAF_BYTES {
            return Err(DecodeError::NotCanonical { field: "leaf length", expected: "579" });
        }
        leaves.insert(*leaf, bytes.to_vec());
    }
    reader.finish()
}

/// A proof that the log grew: count u8, then as many hashes.
pub fn read_growth(body: &[u8]) -> Result<Vec<veilsum_crypto::ids::Digest>, DecodeError> {
    let mut reader = Reader::new(body);
    let count = reader.u8("count")?;
    if count > 64 {
        return Err(DecodeError::NotCanonical { field: "count", expected: "at most 64 hashes" });
    }
    let path = (0..count).map(|_| reader.digest("hash")).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_read_in_the_order_asked_and_nothing_is_left_over() {
        let mut body = Vec::new();
        for byte in [3_u8, 9] {
            body.extend((LEAF_BYTES as u32).to_le_bytes());
            body.extend([byte; LEAF_BYTES]);
        }
        let asked = [LeafIndex(3), LeafIndex(9)];
        assert_eq!(body.len(), leaves_bytes(&asked));
        let mut leaves = BTreeMap::new();
        read_leaves(&body, &asked, &mut leaves).expect("canonical");
        assert!(leaves.iter().all(|(leaf, bytes)| bytes[0] == leaf.0 as u8));
        assert!(read_leaves(&body, &asked[..1], &mut leaves).is_err(), "left over");
        body[0] -= 1;
        assert!(read_leaves(&body, &asked, &mut leaves).is_err(), "another length");
    }

    #[test]
    fn a_proof_of_growth_is_bounded() {
        assert_eq!(read_growth(&[0]).map(|path| path.len()), Ok(0));
        assert!(read_growth(&[[65].as_slice(), &[0; 65 * 32]].concat()).is_err());
        assert!(read_growth(&[1]).is_err());
    }
}
