//! Sampling wide laws, whose tables would not fit: Skellam and discrete Gaussian noise of variances from 2^26 to 2^60.
//!
//! **Method.** Rejection under a staircase. Magnitudes are cut into blocks of width w, a power of two between 1/8192 and 1/4096
//! of a standard deviation. A block is chosen by inversion, with the weight of its first element for all of them; then an
//! element in it, uniformly; and a sign. The candidate m is accepted with the probability `exp(-(h(m) - h(m0)))`, m0 the first
//! element of its block and `exp(-h)` the law up to a factor; and not if it is minus zero. What is accepted follows the law;
//! about one candidate in ten thousand is not.
//!
//! ```text
//! discrete Gaussian   h(m) = m^2/(2 sigma^2)
//! Skellam             h(m) = -ln(I_m(mu)/I_0(mu)) = m^2/(2 mu) + y P(y),    y = (m/mu)^2
//! ```
//!
//! P is the expansion of Debye, `I_m(mu) ~ e^eta/sqrt(2 pi R) (1 + u_1(p)/m + u_2(p)/m^2 + u_3(p)/m^3)`, R = sqrt(m^2 + mu^2),
//! p = m/R (Olver 1997, Chapter 10, §7), as a power series in y and 1/mu. For mu > 2^32 and up to 32 standard deviations what is left out is below
//! 2^-115 of one: Olver's bound on the remainder of the first is 2^-127, the first terms omitted of the second are below 2^-117.
//!
//! **Constant schedule.** [`StaircaseSampler::noise`] draws a number of candidates that depends on the length alone, and keeps
//! the accepted ones in order: all candidates cost the same. Where they would not be enough, which has a probability below
//! 2^-400, more are drawn. Everything is integer arithmetic, in units of 2^-127 or less: all platforms draw the same noise.
//!
//! **Distance from the exact law**, in total variation and per draw, at most 2^-100: 2^-115 of each probability for the
//! expansion, 2^-118 for rounding in the weights and in the comparison, 2^-106 for the table of at most 2^18 entries, each
//! exact to 2^-125, and less than 2^-180 beyond 16 standard deviations.

use alloc::vec;
use alloc::vec::Vec;

use super::inversion::SymmetricTable;
use super::wide::{Limbs, ONE, exp_fraction};
use crate::primitives::prg::{NoiseSeed, NoiseStream};
use crate::update::NoiseVector;

/// Skellam laws are expanded from this variance on.
pub(crate) const SMALLEST_SKELLAM: u64 = 1 << 32;

/// The largest variance.
pub(crate) const LARGEST: u64 = 1 << 60;

/// Blocks of magnitudes: 16 standard deviations and more.
const BLOCKS: u64 = 1 << 17;

/// Which law.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Law {
    /// Of this sigma squared.
    Gaussian,
    /// Of this variance.
    Skellam,
}

/// Draws from one wide law. Holds nothing secret.
#[derive(Clone)]
pub(crate) struct StaircaseSampler {
    /// Which block, and the sign.
    blocks: SymmetricTable,
    /// log2 of the width of a block.
    width_bits: u32,
    exponent: Exponent,
}

impl StaircaseSampler {
    /// A law of variance, or sigma squared, `numerator/divisor`: from 2^26, for Skellam from [`SMALLEST_SKELLAM`], to
    /// [`LARGEST`], which the caller has seen to.
    pub(crate) fn new(law: Law, numerator: u64, divisor: u64) -> Self {
        let deviation_bits = (numerator / divisor).isqrt().ilog2();
        let width_bits = deviation_bits - 12;
        let exponent = Exponent::new(law, numerator, divisor);
        // (width/sigma)^2, exact to 2^-150
        let step = Limbs([0, 0, 0, divisor]).divided_by(numerator).shifted_left(2 * width_bits);
        let (mut weight, mut ratio) = (ONE, exp_fraction(&step.divided_by(2), true));
        let factor = exp_fraction(&step, true);
        let weights = (0..BLOCKS).map(|block| {
            let corrected = match exponent.beyond_gaussian(block << width_bits) {
                0 => weight,
                h => {
                    let size = h.unsigned_abs();
                    let size = Limbs([0, size as u64, (size >> 64) as u64, 0]); // from 2^-128 to 2^-192
                    weight.times_fraction(&exp_fraction(&size, h > 0))
                }
            };
            weight = weight.times_fraction(&ratio);
            ratio = ratio.times_fraction(&factor);
            corrected
        });
        let blocks = SymmetricTable::from_weights_of_magnitudes(weights);
        Self { blocks, width_bits, exponent }
    }

    /// One candidate: five words of the stream. The second is 1 if it is accepted, else 0.
    #[inline]
    fn candidate(&self, stream: &mut NoiseStream) -> (i64, usize) {
        let (block, sign) = self.blocks.choose(stream);
        let first = (block as u64) << self.width_bits;
        let inside = stream.next_u64() & ((1 << self.width_bits) - 1);
        let uniform = u128::from(stream.next_u64()) | u128::from(stream.next_u64()) << 64;
        let accepted = (uniform >> 1) < exp_minus_small(self.exponent.rise(first, inside));
        let magnitude = first + inside;
        let minus_zero = magnitude == 0 && sign == 1;
        ((magnitude as i64 ^ -sign) + sign, usize::from(accepted & !minus_zero))
    }

    /// One sample; its time says how many candidates it took.
    pub(crate) fn sample(&self, stream: &mut NoiseStream) -> i64 {
        loop {
            let (value, accepted) = self.candidate(stream);
            if accepted == 1 {
                return value;
            }
        }
    }

    /// The noise of one client, in coordinate order: what [`StaircaseSampler::sample`] gives one by one.
    pub(crate) fn noise(&self, seed: NoiseSeed, len: usize) -> NoiseVector {
        let mut stream = seed.into_stream();
        let mut values = vec![0; len + 1]; // the last takes what is not kept
        let mut kept = 0;
        for _ in 0..len + len / 512 + 64 {
            let (value, accepted) = self.candidate(&mut stream);
            values[kept] = value;
            kept = (kept + accepted).min(len);
        }
        for value in &mut values[kept..len] {
            *value = self.sample(&mut stream);
        }
        values[len] = 0;
        values.truncate(len);
        NoiseVector::new(values)
    }
}

/// `h`, and how it rises within a block, in units of 2^-128.
#[derive(Clone)]
struct Exponent {
    /// `floor(2^(128 + shift)/variance)`, above 2^126.
    reciprocal: u128,
    shift: u32,
    /// The constant parts of the coefficients of P, in units of 2^-112: beta + gamma/mu + delta/mu^2 + zeta/mu^3. Empty for
    /// the discrete Gaussian.
    constants: Vec<i128>,
}

/// Of P: what is multiplied by m^2/mu, for each power of y, in units of 2^-128; minus, plus, minus, …
const ALPHA: [u128; 6] = [
    u128::MAX / 24,
    u128::MAX / 80,
    u128::MAX / 896 * 5,
    u128::MAX / 2304 * 7,
    u128::MAX / 11_264 * 21,
    u128::MAX / 26_624 * 33,
];
/// What is not multiplied, as fractions.
const BETA: [(i128, i128); 6] = [(1, 4), (-1, 8), (1, 12), (-1, 16), (1, 20), (-1, 24)];
/// What is divided by mu.
const GAMMA: [(i128, i128); 6] = [(13, 48), (-23, 64), (55, 128), (-1505, 3072), (1113, 2048), (0, 1)];
/// What is divided by its square.
const DELTA: [(i128, i128); 6] = [(7, 16), (-9, 8), (17, 8), (-55, 16), (0, 1), (0, 1)];
/// What is divided by its cube.
const ZETA: [(i128, i128); 6] = [(1187, 1280), (-4017, 1024), (0, 1), (0, 1), (0, 1), (0, 1)];

/// Binary places of P.
const PLACES: u32 = 112;

impl Exponent {
    fn new(law: Law, numerator: u64, divisor: u64) -> Self {
        // 2^126 < 2^(128 + shift) divisor/numerator <= 2^127
        let shift = (numerator / divisor).ilog2() - 1;
        let wide = Limbs([0, 0, 0, divisor]).divided_by(numerator); // 2^192 divisor/numerator
        let reciprocal = wide.shifted_right(64 - shift);
        let mut exponent = Self { reciprocal, shift, constants: Vec::new() };
        if law == Law::Skellam {
            let over_mu = |x: i128| exponent.divided(x);
            exponent.constants = (0..ALPHA.len())
                .map(|m| {
                    let part = |(above, below): (i128, i128)| (above << PLACES) / below;
                    part(BETA[m]) + over_mu(part(GAMMA[m]) + over_mu(part(DELTA[m]) + over_mu(part(ZETA[m]))))
                })
                .collect();
        }
        exponent
    }

    /// `x / variance`.
    fn divided(&self, x: i128) -> i128 {
        times_high(x, self.reciprocal) >> self.shift
    }

    /// `h(first + inside) - h(first)`, not below zero.
    #[inline]
    fn rise(&self, first: u64, inside: u64) -> u128 {
        // j (2 first + j) / (2 variance)
        let difference = u128::from(inside) * (2 * u128::from(first) + u128::from(inside));
        let (high, low) = multiply(difference, self.reciprocal);
        let gaussian = shift_down(high, low, self.shift + 1) as i128;
        let beyond = self.beyond_gaussian(first + inside) - self.beyond_gaussian(first);
        (gaussian + beyond).max(0) as u128
    }

    /// `h(m) - m^2/(2 variance)`: `y P(y)`.
    #[inline]
    fn beyond_gaussian(&self, magnitude: u64) -> i128 {
        if self.constants.is_empty() {
            return 0; // the law is public
        }
        let square = u128::from(magnitude) * u128::from(magnitude);
        // q = m^2/mu < 2^10, in units of 2^-112
        let (high, low) = multiply(square, self.reciprocal);
        let q = shift_down(high, low, 128 + self.shift - PLACES);
        // y = q/mu < 2^-22, in units of 2^-150
        let (high, low) = multiply(q, self.reciprocal);
        let y = shift_down(high, low, 128 + self.shift - (150 - PLACES));
        let mut sum = 0;
        for (power, (constant, alpha)) in self.constants.iter().zip(ALPHA).enumerate().rev() {
            let with_q = multiply(q, alpha).0 as i128;
            let with_q = if power % 2 == 0 { -with_q } else { with_q };
            sum = constant + with_q + (times_high(sum, y) >> (150 - 128));
        }
        times_high(sum, y) >> (150 + PLACES - 128 - 128)
    }
}

/// The product of two unsigned numbers: its high and its low half.
#[inline]
fn multiply(a: u128, b: u128) -> (u128, u128) {
    let (low, high) = a.carrying_mul(b, 0);
    (high, low)
}

/// `(high 2^128 + low) >> bits`, which fits.
#[inline]
fn shift_down(high: u128, low: u128, bits: u32) -> u128 {
    if bits >= 128 { high >> (bits - 128) } else { high << (128 - bits) | low >> bits }
}

/// `floor(a b / 2^128)` up to one, `a` signed.
#[inline]
fn times_high(a: i128, b: u128) -> i128 {
    let sign = a >> 127;
    let high = multiply(((a ^ sign) - sign) as u128, b).0 as i128;
    (high ^ sign) - sign
}

/// `2^127/n!` for n = 0 to 14.
const RECIPROCAL_FACTORIALS: [u128; 15] = {
    let mut table = [1 << 127; 15];
    let mut n = 1;
    while n < 15 {
        table[n] = table[n - 1] / n as u128;
        n += 1;
    }
    table
};

/// `exp(-x)` in units of 2^-127, for `x < 2^-6` in units of 2^-128: Taylor's series.
#[inline]
fn exp_minus_small(x: u128) -> u128 {
    RECIPROCAL_FACTORIALS.iter().rev().fold(0, |sum, &coefficient| coefficient - multiply(sum, x).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::numeric::normal_tail;
    use std::println;

    fn seed(byte: u8) -> NoiseSeed {
        NoiseSeed::from_bytes([byte; 32])
    }

    /// 60 digits, mpmath, from five terms of Debye's expansion, themselves checked against the Bessel functions.
    #[test]
    fn the_exponent_is_that_of_the_law_to_118_bits() {
        for (numerator, divisor, magnitude, expected) in EXPONENTS {
            let got = Exponent::new(Law::Skellam, numerator, divisor).beyond_gaussian(magnitude);
            let error = (got - expected).unsigned_abs();
            assert!(error < 1 << 10, "{numerator}/{divisor} {magnitude}: {got} {expected}");
        }
    }

    const EXPONENTS: [(u64, u64, u64, i128); 24] = [
        (4_294_967_297, 1, 65, 19_484_370_229_203_426_783_451),
        (4_294_967_297, 1, 65_536, 16_505_867_186_474_942_450_557_615_191),
        (4_294_967_297, 1, 196_608, -89_131_682_698_497_834_188_660_449_418),
        (4_294_967_297, 1, 524_288, -12_253_955_742_030_479_193_956_337_102_229),
        (4_294_967_297, 1, 1_310_720, -520_264_919_087_965_450_684_674_697_401_898),
        (4_294_967_297, 1, 2_031_616, -3_029_668_224_037_944_823_030_004_172_501_694),
        (6_597_069_766_661, 7, 970, 90_119_085_516_899_111_006),
        (6_597_069_766_661, 7, 970_792, 75_221_959_635_225_914_667_381_606),
        (6_597_069_766_661, 7, 2_912_376, -406_196_608_591_830_917_707_963_052),
        (6_597_069_766_661, 7, 7_766_336, -55_844_672_319_579_933_595_265_306_586),
        (6_597_069_766_661, 7, 19_415_840, -2_370_991_792_948_376_686_598_210_339_722),
        (6_597_069_766_661, 7, 30_094_552, -13_807_040_622_475_424_636_807_168_572_782),
        (2_882_302_641_352_831, 1, 53_687, 29_514_708_264_355_966),
        (2_882_302_641_352_831, 1, 53_687_080, 24_595_667_760_986_824_104_387),
        (2_882_302_641_352_831, 1, 161_061_240, -132_816_593_755_047_847_662_227),
        (2_882_302_641_352_831, 1, 429_496_640, -18_259_823_065_116_768_533_816_652),
        (2_882_302_641_352_831, 1, 1_073_741_600, -775_255_420_884_283_189_560_083_622),
        (2_882_302_641_352_831, 1, 1_664_299_480, -4_514_559_257_459_588_960_935_924_642),
        (1_152_921_504_606_846_976, 1, 1_073_741, 73_786_850_747_392),
        (1_152_921_504_606_846_976, 1, 1_073_741_824, 61_489_146_912_365_172_093),
        (1_152_921_504_606_846_976, 1, 3_221_225_472, -332_041_393_326_771_928_724),
        (1_152_921_504_606_846_976, 1, 8_589_934_592, -45_649_542_667_739_903_020_169),
        (1_152_921_504_606_846_976, 1, 21_474_836_480, -1_938_137_910_677_750_023_413_334),
        (1_152_921_504_606_846_976, 1, 33_285_996_544, -11_286_394_404_911_536_885_035_651),
    ];

    #[test]
    fn small_exponentials_are_exact() {
        for bits in [0, 1, 64, 100, 120, 121] {
            let x = (1_u128 << bits) + (1 << bits >> 1);
            let exact = exp_fraction(&Limbs([0, x as u64, (x >> 64) as u64, 0]), true).shifted_right(65);
            assert!(exp_minus_small(x).abs_diff(exact) <= 16, "{bits}");
        }
        assert_eq!(exp_minus_small(0), 1 << 127);
    }

    /// Twenty bins of a fortieth each, and the tails: Skellam and Gaussian laws so wide are normal to a millionth.
    #[test]
    fn draws_follow_the_law() {
        const DRAWS: usize = 400_000;
        let laws = [
            (Law::Gaussian, (1 << 26) + 1, 1),
            (Law::Gaussian, 1 << 60, 1),
            (Law::Skellam, (1 << 32) + 1, 1),
            (Law::Skellam, u64::MAX, 1001),
        ];
        for (byte, (law, numerator, divisor)) in laws.into_iter().enumerate() {
            let noise = StaircaseSampler::new(law, numerator, divisor).noise(seed(byte as u8), DRAWS);
            let deviation = libm::sqrt(numerator as f64 / divisor as f64);
            let edges: Vec<f64> = (-10..=10).map(|step| f64::from(step) * 0.3).collect();
            let mut seen = vec![0.0; edges.len() + 1];
            for &value in noise.values() {
                seen[edges.partition_point(|edge| edge * deviation < value as f64)] += 1.0;
            }
            let above = |edge: Option<&f64>| edge.map_or(0.0, |&edge| normal_tail(edge));
            let mut chi_squared = 0.0;
            for (bin, seen) in seen.iter().enumerate() {
                let before = if bin == 0 { 1.0 } else { above(edges.get(bin - 1)) };
                let expected = (before - above(edges.get(bin))) * DRAWS as f64;
                chi_squared += (seen - expected) * (seen - expected) / expected;
            }
            println!("law {byte}: chi-squared {chi_squared:.1} in {} bins", seen.len());
            assert!(chi_squared < 70.0, "law {byte}: {chi_squared}"); // 21 degrees: p = 4e-7
        }
    }

    #[test]
    fn a_batch_is_what_single_draws_give_and_few_candidates_are_lost() {
        let sampler = StaircaseSampler::new(Law::Skellam, 1 << 40, 3);
        let mut stream = seed(9).into_stream();
        let single: Vec<i64> = (0..20_000).map(|_| sampler.sample(&mut stream)).collect();
        assert_eq!(sampler.noise(seed(9), 20_000).values(), single);
        assert_eq!(sampler.noise(seed(9), 3).values(), &single[..3]);
        assert!(sampler.noise(seed(9), 0).is_empty());
        let mut stream = seed(10).into_stream();
        let lost: usize = (0..100_000).map(|_| 1 - sampler.candidate(&mut stream).1).sum();
        assert!((1..60).contains(&lost), "{lost}");
    }

    /// Computed with 50 digits (mpmath) and OpenSSL's AES-256, in other code.
    #[test]
    fn known_seeds_give_known_noise_on_every_platform() {
        let gaussian = StaircaseSampler::new(Law::Gaussian, (1 << 40) + 3, 5).noise(seed(1), 12);
        assert_eq!(gaussian.values(), KNOWN_GAUSSIAN);
        let skellam = StaircaseSampler::new(Law::Skellam, 2_882_302_641_352_831, 1).noise(seed(2), 12);
        assert_eq!(skellam.values(), KNOWN_SKELLAM);
    }

    const KNOWN_GAUSSIAN: [i64; 12] =
        [165_282, 625_408, 681_361, 64_850, -954_173, -324_438, 374_607, -214_603, 429_783, 59_605, -121_266, 554_950];
    const KNOWN_SKELLAM: [i64; 12] = [
        -39_944_902,
        -58_761_078,
        21_028_187,
        33_536_303,
        62_838_761,
        -36_612_633,
        -24_049_163,
        7_849_279,
        -8_193_547,
        48_636_546,
        -46_979_555,
        19_958_884,
    ];
}
