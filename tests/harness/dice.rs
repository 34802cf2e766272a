//! Chance from a number, so that what was drawn can be drawn again: SHA-256 in counter mode. For tests only; what is shipped
//! draws from the operating system.

use std::convert::Infallible;

use rand_core::{Rng as _, TryCryptoRng, TryRng};
use sha2::{Digest as _, Sha256};

/// A stream of its own for each purpose, so that drawing more in one place moves nothing in another. The bias of 64 bits over
/// small numbers matters to nobody here.
#[derive(Clone, Debug)]
pub struct Dice {
    key: [u8; 32],
    count: u64,
    block: [u8; 32],
    used: usize,
}

impl Dice {
    /// The stream of this seed for this purpose.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let key = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(purpose).finalize().into();
        Self { key, count: 0, block: [0; 32], used: 32 }
    }

    /// One of 0..bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing to choose from");
        self.next_u64() % bound
    }

    /// One of low..=high.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A place in a list of this length.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// One of low..=high, to count with.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.index(high - low + 1)
    }

    /// True in `percent` of cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.index(100) < percent
    }

    /// True so often out of 1,000.
    pub fn permille(&mut self, often: u64) -> bool {
        self.below(1_000) < often
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// One of these, if there is one.
    pub fn pick_some<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| self.pick(of).clone())
    }

    /// Another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.index(at + 1));
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
        self.fill_bytes(&mut bytes);
        bytes
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
