//! The number that names a round, so that it can be played again.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::dice::Dice;

/// Names one round: everything in it follows. 16 hexadecimal digits; from 8 on in the first one the roster has 64 clients,
/// and the last two say which misbehaviour must occur.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed(pub u64);

impl Seed {
    const LARGE: u64 = 1 << 63;

    /// The seed of one round of a campaign; `lead` is the number of the misbehaviour that must occur.
    pub fn of(campaign: u64, index: u64, is_large: bool, lead: usize) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"blame");
        hash.update(campaign.to_le_bytes());
        hash.update(index.to_le_bytes());
        hash.update([u8::from(is_large)]);
        let drawn = u64::from_le_bytes(hash.finalize()[..8].try_into().expect("8 of 32"));
        let lead = u64::try_from(lead).expect("few") & 0xff;
        let size = if is_large { Self::LARGE } else { 0 };
        Self((drawn & !(Self::LARGE | 0xff)) | size | lead)
    }

    /// From 16 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| format!("a seed is 16 hexadecimal digits, not {text:?}"))
    }

    /// Whether its roster is a large one.
    pub fn is_large(self) -> bool {
        self.0 & Self::LARGE != 0
    }

    /// The stream of chance for one purpose in this round.
    pub fn dice(self, purpose: &str) -> Dice {
        Dice::new(self.0, purpose)
    }

    /// The number of the misbehaviour that must occur.
    pub fn lead(self) -> usize {
        (self.0 & 0xff) as usize
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_survives_being_printed_and_decides_everything() {
        let seed = Seed::of(7, 3, true, 41);
        assert_eq!(Seed::parse(&seed.to_string()), Ok(seed));
        assert!(seed.is_large() && seed.lead() == 41 && !Seed::of(7, 3, false, 41).is_large());
        assert!(Seed::parse("no").is_err());
        assert_eq!(seed.dice("a").bytes(), seed.dice("a").bytes());
        assert_ne!(seed.dice("a").bytes(), seed.dice("b").bytes());
    }
}
