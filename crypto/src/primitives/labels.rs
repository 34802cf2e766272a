//! Every domain-separation label, in one place. §2.1
//!
//! A label says what the bytes after it are for; no two uses share one. Inside a hash or an HKDF
//! info string it is preceded by its length as one byte.

use alloc::vec::Vec;

/// A label: short ASCII, fixed at compile time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(&'static str);

/// Version of every statement of suite 1.
pub const VERSION: u16 = 1;

/// Opens a round. §5.1
pub const HEADER: Label = Label("veilsum/1/header");
/// The authority vouches for an identity key. §4.3
pub const CERTIFICATE: Label = Label("veilsum/1/certificate");
/// The authority's list of ended certificates. §4.3
pub const REVOCATION: Label = Label("veilsum/1/revocation");
/// A client's round keys. §5.1
pub const ADVERT: Label = Label("veilsum/1/advert");
/// Who takes part. §5.1
pub const ROSTER: Label = Label("veilsum/1/roster");
/// A dealer's edges. §5.2
pub const SHARE: Label = Label("veilsum/1/share");
/// Key and associated data of one sealed pair of shares. §2.6
pub const SHARE_MAIL: Label = Label("veilsum/1/share-mail");
/// What a holder found in its mailbox. §5.3
pub const ACKNOWLEDGEMENT: Label = Label("veilsum/1/acknowledgement");
/// A dealer's public answer to complaints. §5.4
pub const OPENING: Label = Label("veilsum/1/opening");
/// Who may upload. §5.4
pub const CORE: Label = Label("veilsum/1/core");
/// A masked input. §5.5
pub const UPLOAD: Label = Label("veilsum/1/upload");
/// Who is counted. §5.5
pub const SURVIVORS: Label = Label("veilsum/1/survivors");
/// A member of the agreement set vouches for one survivor list. §5.6
pub const CONFIRM: Label = Label("veilsum/1/confirm");
/// Shares that open the sum. §5.7
pub const ANSWER: Label = Label("veilsum/1/answer");
/// The published sum. §5.7
pub const RESULT: Label = Label("veilsum/1/result");
/// Permission to read one path of a round. §7.2
pub const READ: Label = Label("veilsum/1/read");
/// Places on the ring. §5.1
pub const RING: Label = Label("veilsum/1/ring");
/// Coefficients of the low-degree test. §5.2
pub const LOW_DEGREE: Label = Label("veilsum/1/low-degree");
/// Key of a pairwise mask. §5.5
pub const PAIR_MASK: Label = Label("mask");
/// Key of a self mask. §5.5
pub const SELF_MASK: Label = Label("self");
/// Begins the export of a round; never signed. docs/wire.md §13
pub const EXPORT: Label = Label("veilsum/1/export");
/// Sealed client state, never on the wire. §4.5
pub const SAVED: Label = Label("veilsum/1/saved");

/// All labels that may stand at the head of a signed statement.
pub const STATEMENTS: [Label; 15] = [
    HEADER,
    CERTIFICATE,
    REVOCATION,
    ADVERT,
    ROSTER,
    SHARE,
    ACKNOWLEDGEMENT,
    OPENING,
    CORE,
    UPLOAD,
    SURVIVORS,
    CONFIRM,
    ANSWER,
    RESULT,
    READ,
];

impl Label {
    /// The text itself.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Appends the label as it stands in hashes and statements: length as `u8`, then the text.
    pub fn write(self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.0.len()).expect("labels are short"));
        out.extend_from_slice(self.0.as_bytes());
    }

    /// The bytes of [`Label::write`].
    pub fn bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.0.len());
        self.write(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// a label of its own for every use.
    #[test]
    fn no_two_uses_share_a_label() {
        let mut all = STATEMENTS.to_vec();
        all.extend([SHARE_MAIL, RING, LOW_DEGREE, PAIR_MASK, SELF_MASK, EXPORT, SAVED]);
        let mut texts: Vec<_> = all.iter().map(|label| label.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), all.len());
        assert!(all.iter().all(|label| label.as_str().is_ascii()));
    }
}
