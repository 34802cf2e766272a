//! Clipping to an L2 ball, `docs/protocol.md` §6.1.
//!
//! An update `x` becomes `x min(1, C / ||x||)`. With a weight, the vector that is masked is
//! `(w / w_max) (x, C) / sqrt(2)` with `x` already clipped: its norm is at most `C` again, and the
//! last element carries the weight.

use alloc::vec::Vec;
use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::ModelUpdate;

/// An update within the ball of norm C, up to rounding. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Clipped {
    values: Vec<f32>,
    /// Every value is multiplied by this.
    factor: f64,
    /// The element that carries a weight, already in the units of the result.
    weight_element: Option<f64>,
}

impl ModelUpdate {
    /// Scales the update down to L2 norm `clip_norm` if it is longer. Computes in f64.
    pub fn clip(mut self, clip_norm: f64) -> Clipped {
        let values = core::mem::take(&mut self.values);
        let squares: f64 = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let norm = libm::sqrt(squares); // finite: f32 squares stay below 1e78
        let shrink = if norm > clip_norm { clip_norm / norm } else { 1.0 };
        let share = self.relative_weight.map(|weight| weight / libm::sqrt(2.0));
        Clipped { values, factor: shrink * share.unwrap_or(1.0), weight_element: share.map(|share| share * clip_norm) }
    }
}

impl Clipped {
    /// The clipped elements, and the one that carries the weight.
    pub(super) fn elements(&self) -> impl Iterator<Item = f64> {
        let values = self.values.iter().map(|&value| f64::from(value) * self.factor);
        values.chain(self.weight_element)
    }

    pub(super) fn len(&self) -> usize {
        self.values.len() + usize::from(self.weight_element.is_some())
    }
}

impl fmt::Debug for Clipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clipped(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn elements(update: ModelUpdate, clip_norm: f64) -> Vec<f64> {
        update.clip(clip_norm).elements().collect()
    }

    fn update(values: &[f32]) -> ModelUpdate {
        ModelUpdate::new(values.to_vec()).expect("finite")
    }

    #[test]
    fn long_updates_shrink_and_short_ones_stay() {
        assert_eq!(elements(update(&[3.0, 4.0]), 10.0), [3.0, 4.0]);
        assert_eq!(elements(update(&[3.0, 4.0]), 2.5), [1.5, 2.0]);
        assert_eq!(elements(update(&[0.0, 0.0]), 0.0), [0.0, 0.0]);
        assert_eq!(elements(update(&[3.0, 4.0]), 0.0), [0.0, 0.0]);
        let huge = elements(update(&[f32::MAX; 4]), 1.0);
        assert!(huge.iter().all(|element| (element - 0.5).abs() < 1e-12));
    }

    #[test]
    fn a_weight_is_one_more_element_within_the_same_ball() {
        let weighted = update(&[3.0, 4.0]).with_weight(5.0, 10).expect("within the range");
        let got = elements(weighted, 2.5);
        let expected = [1.5, 2.0, 2.5].map(|element| 0.5 * element / libm::sqrt(2.0));
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15));
        let heaviest = update(&[3.0, 4.0]).with_weight(10.0, 10).expect("within the range");
        let squared: f64 = elements(heaviest, 2.5).iter().map(|element| element * element).sum();
        assert!((squared - 6.25).abs() < 1e-12);
        assert_eq!(vec![0.0; 3].len(), got.len());
    }
}
