//! Chance from a seed: SHA-256 in counter mode. For simulations only; shipped code draws from the operating system.

use std::convert::Infallible;
use std::sync::Mutex;

use rand_core::{Rng as _, TryCryptoRng, TryRng};
use sha2::{Digest as _, Sha256};

/// A stream of its own for each purpose, so that drawing more in one place moves nothing in another.
#[derive(Clone)]
pub struct Chance {
    key: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Chance {
    /// The stream of a seed for one purpose.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let key = Sha256::new_with_prefix(seed.to_le_bytes()).chain_update(purpose.as_bytes()).finalize().into();
        Self { key, counter: 0, block: [0; 32], used: 32 }
    }

    /// A number below `bound`, which is above 0. The bias of the modulus does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// A number of a range, both ends included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True so often out of 1,000.
    pub fn permille(&mut self, often: u64) -> bool {
        self.below(1_000) < often
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            if self.used == self.block.len() {
                self.block =
                    Sha256::new_with_prefix(self.key).chain_update(self.counter.to_le_bytes()).finalize().into();
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for Chance {}

/// A replica's chance.
pub struct ReplicaChance(pub Mutex<Chance>);

impl veilsum_aggregator::host::Chance for ReplicaChance {
    fn draw(&self) -> Result<[u8; 32], String> {
        let mut bytes = [0; 32];
        self.0.lock().expect("one thread").fill_bytes(&mut bytes);
        Ok(bytes)
    }
}
