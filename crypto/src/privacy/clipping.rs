//! Arithmetic of adaptive clipping: the clip norm follows a quantile of the norms, seen through noise.
//!
//! Andrew, Thakkar, McMahan and Ramaswamy, *Differentially Private Learning with Adaptive Clipping* (2019), Sections 2 and 3;
//! the joint form is that of apple/pfl-research. Each client adds one more coordinate `b - 1/2`, where b says whether its
//! update was within the clip norm; clients' own noise covers it like every other. Nothing here looks at data: the clip norm
//! moves from released values only.

use libm::{exp, sqrt};

/// The noise multiplier left for the update where the bits take noise of standard deviation `sigma_b`, so that both together
/// cost what `total` alone would:
///
/// ```text
/// z_delta = (z^-2 - (2 sigma_b)^-2)^(-1/2)
/// ```
///
/// `None` if `total >= 2 sigma_b`: the bits alone would cost more. A bit less one half has sensitivity 1/2. Rounded up.
pub fn split_noise(total: f64, sigma_b: f64) -> Option<f64> {
    if !(total > 0.0 && total < 2.0 * sigma_b) {
        return None;
    }
    let share = total / (2.0 * sigma_b); // of the privacy that the bits take, as a ratio of multipliers
    Some(total / sqrt((1.0 - share) * (1.0 + share)) * (1.0 + 4.0 * f64::EPSILON))
}

/// The next clip norm: `C exp(-eta (b - gamma))`, where `fraction_unclipped`, b, was released with noise and may lie outside
/// [0, 1].
pub fn next_clip_norm(step: ClipStep) -> f64 {
    let ClipStep { clip_norm, rate, target_fraction, fraction_unclipped } = step;
    clip_norm * exp(-rate * (fraction_unclipped - target_fraction))
}

/// One step of [`next_clip_norm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipStep {
    /// C.
    pub clip_norm: f64,
    /// eta: 0.2 is usual.
    pub rate: f64,
    /// gamma: the quantile that the clip norm shall reach, 1/2 for the median.
    pub target_fraction: f64,
    /// The fraction of updates within the clip norm, as it was released.
    pub fraction_unclipped: f64,
}

/// The bit as one more coordinate of the same query: its length, and the norm of the longer vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JointQuery {
    /// `C_b`: the coordinate is plus or minus this.
    pub bit_length: f64,
    /// `sqrt(C^2 + C_b^2)`: the clip norm of the longer vector.
    pub clip_norm: f64,
}

impl JointQuery {
    /// For a total noise multiplier z and noise sigma_b on the sum of bits: with
    /// `r = z/(2 sigma_b)` the bit gets `C_b = C r/sqrt(1 - r^2)`, and the vector the norm `C/sqrt(1 - r^2)`. `None` unless
    /// `0 < r < 1`.
    pub fn new(clip_norm: f64, total: f64, sigma_b: f64) -> Option<Self> {
        split_noise(total, sigma_b)?;
        let ratio = total / (2.0 * sigma_b);
        let stretch = 1.0 / sqrt((1.0 - ratio) * (1.0 + ratio));
        Some(Self { bit_length: clip_norm * ratio * stretch, clip_norm: clip_norm * stretch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::zcdp::rho_of_gaussian;
    use proptest::prelude::*;

    #[test]
    fn bits_that_would_cost_too_much_are_refused() {
        for (total, sigma_b) in
            [(2.0, 1.0), (5.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1.0, f64::NAN)]
        {
            assert_eq!(split_noise(total, sigma_b), None);
            assert_eq!(JointQuery::new(1.0, total, sigma_b), None);
        }
    }

    proptest! {
        /// Both queries together cost what one would with the noise multiplier asked for.
        #[test]
        fn the_split_adds_up(total in 1e-3..100.0_f64, factor in 0.501..1e4_f64) {
            let sigma_b = total * factor;
            let update = split_noise(total, sigma_b).expect("enough noise on the bits");
            let rho = rho_of_gaussian(1.0, update) + rho_of_gaussian(0.5, sigma_b);
            prop_assert!((rho / rho_of_gaussian(1.0, total) - 1.0).abs() < 1e-9);
        }

        /// One query of the longer vector is the same as both: equal noise over all coordinates.
        #[test]
        fn the_joint_form_is_the_split(total in 1e-2..10.0_f64, factor in 0.51..100.0_f64, clip_norm in 1e-3..1e3_f64) {
            let sigma_b = total * factor;
            let joint = JointQuery::new(clip_norm, total, sigma_b).expect("enough noise on the bits");
            let noise = total * joint.clip_norm; // in each coordinate
            let update = split_noise(total, sigma_b).expect("the same");
            prop_assert!((noise / clip_norm / update - 1.0).abs() < 1e-9);
            // the bit is half of 2 C_b/1: its noise in units of a bit is noise/(2 C_b)
            prop_assert!((noise / (2.0 * joint.bit_length) / sigma_b - 1.0).abs() < 1e-9);
            prop_assert!((joint.bit_length.hypot(clip_norm) / joint.clip_norm - 1.0).abs() < 1e-12);
        }

        /// The norm rises when too few are within it, falls when too many are, and rests at the target.
        #[test]
        fn the_norm_moves_toward_its_quantile(clip_norm in 1e-3..1e3_f64, fraction in -0.5..1.5_f64, target in 0.1..0.9_f64) {
            let step = ClipStep { clip_norm, rate: 0.2, target_fraction: target, fraction_unclipped: fraction };
            let next = next_clip_norm(step);
            prop_assert_eq!(next > clip_norm, fraction < target && next != clip_norm);
            prop_assert_eq!(next_clip_norm(ClipStep { fraction_unclipped: target, ..step }), clip_norm);
        }
    }
}
