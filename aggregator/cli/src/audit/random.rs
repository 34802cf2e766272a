//! Randomness of experiments and audits: from the operating system, or, to see the same run again, from a number.
//!
//! It stands for clients, their data and their noise; nothing that protects anybody is drawn from it.

use std::convert::Infallible;

use getrandom::SysRng;
use rand_core::{TryCryptoRng, TryRng, UnwrapErr};
use veilsum_crypto::primitives::prg::{NoiseSeed, NoiseStream};

/// The keystream of a seed.
pub struct Random(NoiseStream);

impl Random {
    /// The same numbers for the same seed; without one, other numbers each time.
    pub fn new(seed: Option<u64>) -> Self {
        Self(match seed {
            None => NoiseSeed::generate(&mut UnwrapErr(SysRng)).into_stream(),
            Some(seed) => {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&seed.to_le_bytes());
                NoiseSeed::from_bytes(bytes).into_stream()
            }
        })
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A fair coin.
    pub fn coin(&mut self) -> bool {
        self.word() & 1 == 1
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.word())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for eight in bytes.chunks_mut(8) {
            eight.copy_from_slice(&self.word().to_le_bytes()[..eight.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Random {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_others() {
        let words = |seed| {
            let mut random = Random::new(seed);
            [random.word(), random.word()]
        };
        assert_eq!(words(Some(1)), words(Some(1)));
        assert_ne!(words(Some(1)), words(Some(2)));
        assert_ne!(words(None), words(None));
        let mut random = Random::new(Some(3));
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.uniform())));
        let heads = (0..1000).filter(|_| random.coin()).count();
        assert!((400..600).contains(&heads), "{heads}");
    }
}
