//! Chance that can be played again, and what it means: a generator from a seed, and Pearson's chi-squared test.

use curve25519_dalek::Scalar;
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::primitives::prg::{NoiseSeed, NoiseStream};

/// Random numbers that follow from a seed.
pub struct Dice(NoiseStream);

impl Dice {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(NoiseSeed::from_bytes(bytes).into_stream())
    }

    /// A word.
    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`; the bias of 64 bits is of no account here.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound as u64) as usize
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// Bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.word() as u8)
    }

    /// A scalar.
    pub fn scalar(&mut self) -> ShareScalar {
        ShareScalar::from_scalar(Scalar::from_bytes_mod_order_wide(&self.bytes()))
    }
}

/// The probability of a statistic at least as large as that of `counts` against equally likely classes.
pub fn uniform_p(counts: &[u64]) -> f64 {
    let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    chi2_p(counts.iter().map(|count| (*count as f64, expected)))
}

/// The same for pairs of what was counted and what was expected.
pub fn chi2_p(classes: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    let (mut statistic, mut classes_seen) = (0.0, 0_u32);
    for (counted, expected) in classes {
        assert!(expected >= 5.0, "too few expected in a class: {expected}");
        statistic += (counted - expected).powi(2) / expected;
        classes_seen += 1;
    }
    upper_gamma(f64::from(classes_seen - 1) / 2.0, statistic / 2.0)
}

/// The regularised upper incomplete gamma function Q(a, x).
fn upper_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let scale = (a * x.ln() - x - libm::lgamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * 1e-15 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return 1.0 - scale * sum;
    }
    // Lentz's method for the continued fraction.
    let tiny = 1e-300;
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / tiny, 1.0 / b);
    let mut fraction = d;
    for i in 1..10_000 {
        let step = -f64::from(i) * (f64::from(i) - a);
        b += 2.0;
        d = 1.0 / (step * d + b);
        c = b + step / c;
        let factor = c * d;
        fraction *= factor;
        if (factor - 1.0).abs() < 1e-15 {
            break;
        }
    }
    scale * fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tabled quantiles of the chi-squared law.
    #[test]
    fn chi_squared_has_its_known_quantiles() {
        for (degrees, statistic, p) in [(1.0, 3.841_459, 0.05), (10.0, 18.307_04, 0.05), (255.0, 310.457_4, 0.01)] {
            let found = upper_gamma(degrees / 2.0, statistic / 2.0);
            assert!((found - p).abs() < 1e-5, "{degrees}: {found}");
        }
        assert!(uniform_p(&[100, 100, 100]) > 0.999);
        assert!(uniform_p(&[200, 50, 50]) < 1e-6);
    }
}
