//! How wide the ring must be for a sum not to wrap, `docs/protocol.md` §3.3.
//!
//! The sum of `N` updates of norm at most `Delta_2` and of their noise leaves `[-2^(r-1), 2^(r-1))`
//! in one coordinate with probability at most `2 Q(x / sd)`, where
//!
//! ```text
//! x = 2^(r-1) - 1 - N floor(Delta_2)        sd = sqrt(N share_variance)
//! ```
//!
//! and `Q` is the tail of the standard Gaussian. A wrap spoils accuracy, never privacy.

use core::f64::consts::{LN_2, PI};

use thiserror::Error;

use crate::math::ring::RingBits;

/// What decides the width of the ring.
#[derive(Clone, Copy, Debug)]
pub struct Headroom<'a> {
    /// floor(Delta_2): the largest value of one coordinate before noise, in integer units.
    pub norm_bound_floor: u64,
    /// One coordinate may wrap with probability at most 2^-wrap_bits.
    pub wrap_bits: u8,
    /// Every sum that may be formed: N from roster_min to roster_max.
    pub sums: &'a [NoisySum],
}

/// One sum that may be formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoisySum {
    /// N, the clients counted in it.
    pub clients: u32,
    /// The noise that each of them adds to a coordinate, in squared integer units.
    pub share_variance: u64,
}

/// No ring is wide enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadroomError {
    /// Even 64 bits would wrap too often.
    #[error(
        "a sum over {clients} clients needs more than 64 bits; lower the scale, the noise or \
         wrap_bits"
    )]
    NoRing {
        /// The clients of the sum that does not fit.
        clients: u32,
    },
}

/// The narrowest ring in which every sum fits, r from 8 to 64.
///
/// # Errors
/// [`HeadroomError::NoRing`] naming the first sum that fits no ring.
pub fn smallest_ring_bits(headroom: Headroom<'_>) -> Result<RingBits, HeadroomError> {
    let mut widest = RingBits::MIN.get();
    for &sum in headroom.sums {
        // More bits only make x larger: a sum that fits keeps fitting.
        widest = (widest..=RingBits::MAX.get())
            .find(|&bits| fits(bits, sum, &headroom))
            .ok_or(HeadroomError::NoRing { clients: sum.clients })?;
    }
    Ok(RingBits::new(widest).expect("8 to 64 was searched"))
}

fn fits(bits: u8, sum: NoisySum, headroom: &Headroom<'_>) -> bool {
    let largest = (1_i128 << (bits - 1)) - 1;
    let room = largest - i128::from(sum.clients) * i128::from(headroom.norm_bound_floor);
    let variance = u128::from(sum.clients) * u128::from(sum.share_variance);
    if room < 0 {
        return false;
    }
    if variance == 0 {
        return true;
    }
    let deviations = room as f64 / libm::sqrt(variance as f64);
    ln_two_sided_gaussian_tail(deviations) <= -f64::from(headroom.wrap_bits) * LN_2
}

/// `ln(2 Q(z))` for `z >= 0`.
fn ln_two_sided_gaussian_tail(z: f64) -> f64 {
    if z < 37.0 {
        return libm::log(libm::erfc(z / libm::sqrt(2.0))); // smallest value about 1e-298
    }
    // Q(z) < phi(z) / z, and at 37 by less than one part in a thousand.
    libm::log(2.0) - z * z / 2.0 - libm::log(z * libm::sqrt(2.0 * PI))
}

/// Whether the tail of a Skellam sum of this variance is more than twice the Gaussian's where the ring ends: then one more bit
/// is due. The two differ by a factor of about `exp(z^4 / (24 variance))` at z standard deviations (the fourth cumulant of
/// Skellam is its variance); z here is at most `sqrt(2 ln 2 wrap_bits)`. docs/privacy.md tabulates the exact tail beside it.
pub fn skellam_tail_is_heavier(wrap_bits: u8, sum_variance: u64) -> bool {
    let z_squared = 2.0 * LN_2 * f64::from(wrap_bits);
    sum_variance > 0 && z_squared * z_squared > 24.0 * LN_2 * sum_variance as f64
}

#[cfg(test)]
mod tests {
    /// The exact tail is more than twice 2Q up to a sum variance of 88 at 40 bits; the rule is on the safe side of it.
    #[test]
    fn small_sums_of_noise_get_one_more_bit() {
        use super::skellam_tail_is_heavier;
        assert!(skellam_tail_is_heavier(40, 88));
        assert!(!skellam_tail_is_heavier(40, 1_000));
        assert!(!skellam_tail_is_heavier(40, 0));
    }

    use super::*;

    fn bits(norm_bound_floor: u64, wrap_bits: u8, sums: &[(u32, u64)]) -> Result<u8, HeadroomError> {
        let sums: alloc::vec::Vec<NoisySum> =
            sums.iter().map(|&(clients, share_variance)| NoisySum { clients, share_variance }).collect();
        smallest_ring_bits(Headroom { norm_bound_floor, wrap_bits, sums: &sums }).map(RingBits::get)
    }

    #[test]
    fn the_demo_fits_into_sixteen_bits() {
        assert_eq!(bits(331, 40, &[(64, 39_600)]), Ok(16));
    }

    #[test]
    fn without_noise_the_sum_itself_decides() {
        assert_eq!(bits(127, 40, &[(1, 0)]), Ok(8));
        assert_eq!(bits(128, 40, &[(1, 0)]), Ok(9));
        assert_eq!(bits(0, 40, &[]), Ok(8));
        assert_eq!(bits(u64::MAX / 2, 40, &[(1, 0)]), Ok(64));
        assert_eq!(bits(u64::MAX / 2 + 1, 40, &[(1, 0)]), Err(HeadroomError::NoRing { clients: 1 }));
    }

    /// At 2^-40 the two-sided Gaussian tail begins at 7.14355 standard deviations.
    #[test]
    fn the_largest_sum_decides() {
        assert_eq!(bits(0, 40, &[(10, 1_000), (100, 1_000), (3, 1_000)]), Ok(13));
        assert_eq!(bits(0, 40, &[(1, 82_112)]), Ok(12)); // (2047 / 7.14355)^2 = 82112.1
        assert_eq!(bits(0, 40, &[(1, 82_113)]), Ok(13));
    }

    #[test]
    fn the_far_tail_continues_the_near_one() {
        let (near, far) = (36.999_999, 37.000_001);
        let step = ln_two_sided_gaussian_tail(near) - ln_two_sided_gaussian_tail(far);
        assert!((step - 37.0 * (far - near)).abs() < 1e-3);
        assert!(bits(0, 255, &[(1_000_000, 1 << 40)]).is_ok());
    }
}
