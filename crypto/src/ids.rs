//! Names of things: who, which round, which leaf, when. §1
//!
//! All are plain public values. They are separate types so that the compiler refuses to swap them.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// The bytes, as they stand on the wire.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// Reads the lower-case hexadecimal form used in URLs and logs; anything else is `None`.
            pub fn from_hex(text: &str) -> Option<Self> {
                parse_hex(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

id!(
    /// A client, as the enrolment authority named it; the same after re-enrolment.
    ClientId, 16
);
id!(
    /// A training task: rounds of one model under one set of parameters.
    TaskId, 16
);
id!(
    /// A round: the first 16 bytes of its context, so that it cannot name another header.
    RoundId, 16
);
id!(
    /// A sender or receiver in a statement: a client, the aggregator or the authority. §4.1
    Party, 16
);
id!(
    /// A SHA-256 value.
    Digest, 32
);

impl Party {
    /// "Everybody", the receiver of most statements.
    pub const EVERYBODY: Party = Party([0; 16]);
}

impl From<ClientId> for Party {
    fn from(client: ClientId) -> Self {
        Party(client.0)
    }
}

impl From<Party> for ClientId {
    fn from(party: Party) -> Self {
        ClientId(party.0)
    }
}

impl Digest {
    /// The value before the first statement of a chain.
    pub const NONE: Digest = Digest([0; 32]);
}

/// Microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This time and `ms` milliseconds, at most the end of time.
    pub fn plus_ms(self, ms: u64) -> Self {
        Timestamp(self.0.saturating_add(ms.saturating_mul(1_000)))
    }
}

/// The place of a client in its roster, counted from 0 in the order of ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LeafIndex(pub u32);

impl LeafIndex {
    /// As an index into a slice.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The point at which this holder's Shamir shares are evaluated: never 0, R-12.
    pub fn evaluation_point(self) -> u64 {
        u64::from(self.0) + 1
    }
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn only_lower_case_hexadecimal_of_the_right_length_names_a_client() {
        let id = ClientId([0xa7; 16]);
        assert_eq!(ClientId::from_hex(&id.to_string()), Some(id));
        assert_eq!(ClientId::from_hex(&id.to_string().to_uppercase()), None);
        assert_eq!(ClientId::from_hex("a7"), None);
    }
}
