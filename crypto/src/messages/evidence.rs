//! What proves to anybody, from the bytes alone, that a client broke a rule. §4.1
//!
//! ```text
//! evidence = u8 kind, then parts, each u32 length and bytes
//!   1 message        leaf, message                          it breaks the rule by itself
//!   2 contradiction  leaf, statement + signature, statement + signature
//!   3 opening        leaf, opening, mail item               the opened share does not match the dealer's own edge
//!   4 answer         leaf, answer, acknowledgement, roots, leaf of the dealer, mail item
//! ```
//! Whoever holds the round's signed header, roster, core and survivors needs nothing else. Bodies are erased with the
//! round; evidence is kept.

use alloc::vec::Vec;

use crate::ids::{Digest, LeafIndex};
use crate::messages::SealedShares;
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};

/// A proof against one client; `leaf` is that client's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// One message that no honest client sends. R-09, R-13, R-16, R-38
    Message {
        /// Whose.
        leaf: Vec<u8>,
        /// All of it. In advertise it is the leaf again.
        message: Vec<u8>,
    },
    /// Two statements of which an honest client signs one. R-03, R-19, R-23
    Contradiction {
        /// Whose.
        leaf: Vec<u8>,
        /// The one admitted.
        first: Vec<u8>,
        /// The other.
        second: Vec<u8>,
    },
    /// A dealer opened another share than the one whose point it had signed. R-16
    Opening {
        /// The dealer's.
        leaf: Vec<u8>,
        /// Its message.
        opening: Vec<u8>,
        /// An edge that it opened wrongly, as mail to its holder.
        mail: Vec<u8>,
    },
    /// A holder gave out another share than the one that it had acknowledged. R-29
    Answer {
        /// The holder's.
        leaf: Vec<u8>,
        /// Its message.
        answer: Vec<u8>,
        /// What it acknowledged.
        acknowledgement: Vec<u8>,
        /// Roots of the share statements that it acknowledged, in its order: they make the digest that it signed. So a
        /// dealer that signed two share messages cannot have it blamed for the one that it never saw.
        roots: Vec<Digest>,
        /// The leaf of a dealer whose share is wrong.
        dealer: Vec<u8>,
        /// That dealer's edge, as mail to this holder.
        mail: Vec<u8>,
    },
}

impl Evidence {
    /// The bytes that are kept.
    pub fn encode(&self) -> Vec<u8> {
        let roots: Vec<u8>;
        let (kind, parts): (u8, Vec<&[u8]>) = match self {
            Self::Message { leaf, message } => (1, alloc::vec![leaf, message]),
            Self::Contradiction { leaf, first, second } => (2, alloc::vec![leaf, first, second]),
            Self::Opening { leaf, opening, mail } => (3, alloc::vec![leaf, opening, mail]),
            Self::Answer { leaf, answer, acknowledgement, roots: signed, dealer, mail } => {
                roots = signed.iter().flat_map(|root| root.0).collect();
                (4, alloc::vec![leaf, answer, acknowledgement, &roots, dealer, mail])
            }
        };
        let mut out = alloc::vec![kind];
        parts.into_iter().for_each(|part| write_prefixed(&mut out, part));
        out
    }

    /// The inverse of [`Evidence::encode`]. That it proves anything is another matter.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8("kind of evidence")?;
        let mut part = |field| Ok::<_, DecodeError>(reader.prefixed(field)?.to_vec());
        let leaf = part("leaf")?;
        let evidence = match kind {
            1 => Self::Message { leaf, message: part("message")? },
            2 => Self::Contradiction { leaf, first: part("first statement")?, second: part("second statement")? },
            3 => Self::Opening { leaf, opening: part("opening")?, mail: part("mail item")? },
            4 => Self::Answer {
                leaf,
                answer: part("answer")?,
                acknowledgement: part("acknowledgement")?,
                roots: roots(&part("roots")?)?,
                dealer: part("leaf of the dealer")?,
                mail: part("mail item")?,
            },
            _ => return Err(DecodeError::NotCanonical { field: "kind of evidence", expected: "1 to 4" }),
        };
        reader.finish()?;
        Ok(evidence)
    }
}

fn roots(bytes: &[u8]) -> Result<Vec<Digest>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut roots = Vec::with_capacity(bytes.len() / 32);
    while reader.left() > 0 {
        roots.push(reader.digest("root")?);
    }
    Ok(roots)
}

/// A dealer's edge as it went to one holder.
pub(crate) fn mail_to(shares: &SealedShares, dealer: LeafIndex, holder: LeafIndex) -> Option<Vec<u8>> {
    shares.mail(dealer).into_iter().find(|(to, _)| *to == holder).map(|(_, item)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One encoding each, and nothing is lost in it.
    #[test]
    fn evidence_survives_the_store() {
        let part = |byte| alloc::vec![byte; 3];
        let all = [
            Evidence::Message { leaf: part(1), message: part(2) },
            Evidence::Contradiction { leaf: part(1), first: part(2), second: Vec::new() },
            Evidence::Opening { leaf: part(1), opening: part(2), mail: part(3) },
            Evidence::Answer {
                leaf: part(1),
                answer: part(2),
                acknowledgement: part(3),
                roots: alloc::vec![Digest([4; 32]), Digest([5; 32])],
                dealer: part(6),
                mail: part(7),
            },
        ];
        for evidence in all {
            let mut bytes = evidence.encode();
            assert_eq!(Evidence::decode(&bytes), Ok(evidence));
            assert!(Evidence::decode(&bytes[..bytes.len() - 1]).is_err());
            bytes.push(0);
            assert!(Evidence::decode(&bytes).is_err());
        }
        assert!(Evidence::decode(&[5, 0, 0, 0, 0]).is_err());
    }
}
