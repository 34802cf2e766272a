//! Chance from one number, so that a round can be played again.

use std::convert::Infallible;
use std::fmt;

use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest as _, Sha256};

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

/// A stream of chance for one purpose.
#[derive(Clone, Debug)]
pub struct Dice {
    key: [u8; 32],
    count: u64,
    block: [u8; 32],
    used: usize,
}

impl Dice {
    /// The stream of this seed for this purpose.
    pub fn new(seed: Seed, purpose: &str) -> Self {
        let key = Sha256::new().chain_update(seed.0.to_le_bytes()).chain_update(purpose).finalize().into();
        Self { key, count: 0, block: [0; 32], used: 32 }
    }

    /// One of 0..below.
    pub fn below(&mut self, below: usize) -> usize {
        assert!(below > 0, "nothing to choose from");
        (self.next() % below as u64) as usize // the bias of 64 bits over small numbers matters to nobody
    }

    /// One of low..=high.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// One of these, if there is one.
    pub fn pick_some<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| self.pick(of).clone())
    }

    /// Another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }

    /// `count` different ones of these, at most all.
    pub fn some<T: Clone>(&mut self, of: &[T], count: usize) -> Vec<T> {
        let mut items = of.to_vec();
        self.shuffle(&mut items);
        items.truncate(count);
        items
    }

    /// 32 bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let Ok(()) = self.try_fill_bytes(&mut bytes);
        bytes
    }

    fn next(&mut self) -> u64 {
        let Ok(drawn) = self.try_next_u64();
        drawn
    }
}

impl TryRng for Dice {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|drawn| drawn as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for byte in out {
            if self.used == self.block.len() {
                let hash = Sha256::new().chain_update(self.key).chain_update(self.count.to_le_bytes());
                (self.block, self.count, self.used) = (hash.finalize().into(), self.count + 1, 0);
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for Dice {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_survives_being_printed_and_decides_everything() {
        let seed = Seed::of(7, 3, true, 41);
        assert_eq!(Seed::parse(&seed.to_string()), Ok(seed));
        assert!(seed.is_large() && seed.lead() == 41 && !Seed::of(7, 3, false, 41).is_large());
        assert!(Seed::parse("no").is_err());
        assert_eq!(Dice::new(seed, "a").bytes(), Dice::new(seed, "a").bytes());
        assert_ne!(Dice::new(seed, "a").bytes(), Dice::new(seed, "b").bytes());
    }
}
