//! What every key of a round is bound to. §2.1
//!
//! Clients that were shown different headers, rosters or cores derive different keys from the
//! same secrets: their masks never cancel, and their mail does not open.

use alloc::vec::Vec;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::labels::Label;
use crate::ids::Digest;

/// A round with its roster fixed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RosterContext {
    /// Root of the header statement: "the context".
    pub header: Digest,
    /// Root of the roster statement.
    pub roster: Digest,
}

/// A round with its core fixed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoreContext {
    /// Header and roster.
    pub roster: RosterContext,
    /// Root of the core statement.
    pub core: Digest,
}

impl RosterContext {
    /// HKDF-SHA-256 with the roster root as salt; `info` is the label followed by the parts. §2.1
    pub(super) fn derive<const N: usize>(
        &self,
        secret: &[u8; 32],
        label: Label,
        parts: &[&[u8]],
    ) -> Zeroizing<[u8; N]> {
        let mut info: Vec<u8> = label.bytes();
        parts.iter().for_each(|part| info.extend_from_slice(part));
        let mut key = Zeroizing::new([0; N]);
        Hkdf::<Sha256>::new(Some(&self.roster.0), secret)
            .expand(&info, key.as_mut_slice())
            .expect("keys are far shorter than 255 hashes");
        key
    }
}
