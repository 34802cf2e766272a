//! Numbers that several accountants need: the tail of the normal law in scaled form, its quantile, and one way of solving.
//!
//! Everything is `f64` from `libm`, the same on every platform. Where two nearly equal numbers would be subtracted the
//! difference is computed as such: tails stay accurate to about 1e-14 of their size down to exp(-10^5) and beyond.
//! Used by the accountants of this folder and by audits; nothing here is secret.

use core::f64::consts::{FRAC_1_SQRT_2, PI};

use libm::{erfc, exp, log, log1p, sqrt};

/// From here on the continued fraction replaces `erfc`.
const FRACTION_FROM: f64 = 4.0;

/// Levels of the continued fraction: at 4 the rest is below 1e-17.
const LEVELS: u32 = 96;

/// ln sqrt(2 pi).
pub(crate) const LN_SQRT_2_PI: f64 = 0.918_938_533_204_672_8;

/// `K` in `Q(x)/phi(x) = 1/(x + K)`, for `x >= 4`: 1/(x + 2/(x + 3/(x + …))) (Laplace).
fn fraction(x: f64) -> f64 {
    (1..=LEVELS).rev().fold(0.0, |below, level| f64::from(level) / (x + below))
}

/// The Mills ratio `Q(x)/phi(x)`: tail over density of the standard normal law. Infinite below about -38.
pub(crate) fn mills(x: f64) -> f64 {
    if x >= FRACTION_FROM {
        1.0 / (x + fraction(x))
    } else {
        sqrt(PI / 2.0) * exp(x * x / 2.0) * erfc(x * FRAC_1_SQRT_2)
    }
}

/// How fast the Mills ratio falls: `-M'(x) = 1 - x M(x)`, without the cancellation.
fn mills_slope(x: f64) -> f64 {
    if x >= FRACTION_FROM {
        let rest = fraction(x);
        rest / (x + rest)
    } else {
        1.0 - x * mills(x)
    }
}

/// `M(x) - M(x + width)` for `width >= 0`.
pub(crate) fn mills_drop(x: f64, width: f64) -> f64 {
    if width >= 1.0 {
        return mills(x) - mills(x + width);
    }
    // Gauss and Legendre, sixteen points: the integrand varies on a scale of one.
    let half = width / 2.0;
    let sum: f64 = LEGENDRE_16
        .iter()
        .map(|&(node, weight)| weight * (mills_slope(x + half - half * node) + mills_slope(x + half + half * node)))
        .sum();
    half * sum
}

/// Positive nodes and weights on [-1, 1].
pub(crate) const LEGENDRE_16: [(f64, f64); 8] = [
    (0.095_012_509_837_637_44, 0.189_450_610_455_068_5),
    (0.281_603_550_779_258_9, 0.182_603_415_044_923_6),
    (0.458_016_777_657_227_4, 0.169_156_519_395_002_54),
    (0.617_876_244_402_643_7, 0.149_595_988_816_576_73),
    (0.755_404_408_355_003, 0.124_628_971_255_533_87),
    (0.865_631_202_387_831_7, 0.095_158_511_682_492_79),
    (0.944_575_023_073_232_6, 0.062_253_523_938_647_894),
    (0.989_400_934_991_649_9, 0.027_152_459_411_754_096),
];

/// `Q(x)`: the chance that a standard normal variable exceeds `x`.
pub(crate) fn normal_tail(x: f64) -> f64 {
    erfc(x * FRAC_1_SQRT_2) / 2.0
}

/// `ln Q(x)`, also where `Q(x)` itself is too small for an `f64`.
pub(crate) fn ln_normal_tail(x: f64) -> f64 {
    if x < FRACTION_FROM {
        let below = normal_tail(-x);
        return if x < 0.0 { log1p(-below) } else { log(normal_tail(x)) };
    }
    -x * x / 2.0 - LN_SQRT_2_PI + log(mills(x))
}

/// The `x` with `Q(x) = exp(ln_tail)`, `ln_tail < 0`; the upper quantile of the standard normal law.
pub(crate) fn normal_upper_quantile(ln_tail: f64) -> f64 {
    if ln_tail > -core::f64::consts::LN_2 {
        // above one half: the other side, whose tail is 1 - exp(ln_tail)
        let below = -libm::expm1(ln_tail);
        return if below > 0.0 { -normal_upper_quantile(log(below)) } else { f64::NEG_INFINITY };
    }
    let limit = sqrt(-2.0 * ln_tail); // Q(x) < exp(-x^2/2)
    least(0.0, limit, |x| ln_normal_tail(x) <= ln_tail)
}

/// The least `f64` in `[low, high]` for which `holds`, where it holds from some number on. `high` if it holds nowhere below.
/// Halves the interval of representable numbers: at most 64 questions, exact to the last place. `0 <= low <= high`.
pub(crate) fn least(low: f64, high: f64, mut holds: impl FnMut(f64) -> bool) -> f64 {
    // Non-negative numbers are ordered as their bits are.
    let (mut low, mut high) = (low.to_bits(), high.to_bits());
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(f64::from_bits(middle)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    f64::from_bits(high)
}

/// `ln(e^a + e^b)`.
pub(crate) fn ln_add(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if small == f64::NEG_INFINITY { large } else { large + log1p(exp(small - large)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64) {
        assert!((got / expected - 1.0).abs() < 4e-15, "{got} {expected}");
    }

    /// 40 digits, mpmath.
    #[test]
    fn scaled_tails_are_those_of_the_normal_law() {
        close(mills(0.0), 1.253_314_137_315_500_3);
        close(mills(3.999_999), 0.236_652_436_304_040_56);
        close(mills(4.0), 0.236_652_382_913_560_67);
        close(mills(40.0), 0.024_984_404_205_720_57);
        close(mills_slope(4.0), 0.053_390_468_345_757_315);
        close(normal_tail(5.0), 2.866_515_718_791_939e-7);
    }

    #[test]
    fn both_forms_meet_where_one_takes_over() {
        for x in [4.0, 5.0, 8.0] {
            let direct = sqrt(PI / 2.0) * exp(x * x / 2.0) * erfc(x * FRAC_1_SQRT_2);
            assert!((mills(x) / direct - 1.0).abs() < 1e-13, "{x}");
        }
        for (x, width) in [(-1.0, 0.999_999_999), (0.3, 0.999_999_999), (9.0, 0.999_999_999)] {
            let (narrow, wide) = (mills_drop(x, width), mills_drop(x, 1.0));
            assert!((narrow / wide - 1.0).abs() < 1e-8 && narrow < wide, "{x}");
        }
        let tiny = mills_drop(20.0, 1e-9) / 1e-9;
        assert!((tiny / mills_slope(20.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_invert_tails() {
        for x in [-8.0, -1.5, -0.001, 0.0, 0.3, 2.0, 9.0, 38.0, 1000.0] {
            let back = normal_upper_quantile(ln_normal_tail(x));
            assert!((back - x).abs() <= 1e-13 * (1.0 + x.abs()), "{x} {back}");
        }
    }

    #[test]
    fn the_least_number_is_found_to_the_last_bit() {
        assert_eq!(least(0.0, 10.0, |x| x * x >= 2.0), 2.0_f64.sqrt());
        assert_eq!(least(0.0, 10.0, |_| false), 10.0);
        assert_eq!(least(0.0, 10.0, |_| true), 0.0);
        assert_eq!(least(0.0, f64::INFINITY, |x| x > 1e-300), 1e-300_f64.next_up());
    }
}
