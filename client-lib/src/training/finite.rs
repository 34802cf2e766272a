//! Finite differences: the independent judge of a hand-written gradient.
//!
//! Any trainer can check its gradient against its own loss with [`compare_gradient`]. Nothing here runs in a round.

/// Where a gradient and the central differences of its loss disagree most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorstCoordinate {
    /// Index into the point.
    pub index: usize,
    /// `(loss(x + step) - loss(x - step)) / 2 step`.
    pub difference: f64,
    /// What the gradient claims there.
    pub gradient: f64,
    /// `|difference - gradient|` over the largest absolute value of the gradient; NaN counts as infinite.
    pub relative_error: f64,
}

/// Compares `gradient` with central differences of `loss` at `point`, in every coordinate of `indices`.
///
/// `step` is in units of the point. In `f32` a step near `1e-2` balances the rounding of the loss against its
/// curvature, and a right gradient then agrees to about `1e-3`. Accumulate the loss in `f64`.
///
/// `None` if `indices` is empty.
///
/// # Panics
///
/// If an index or the gradient's length does not fit the point, which is a mistake in the caller's test.
pub fn compare_gradient(
    point: &[f32],
    gradient: &[f32],
    indices: impl IntoIterator<Item = usize>,
    step: f32,
    mut loss: impl FnMut(&[f32]) -> f64,
) -> Option<WorstCoordinate> {
    assert_eq!(point.len(), gradient.len(), "a gradient has one value for each coordinate");
    let largest = gradient.iter().fold(f64::MIN_POSITIVE, |max, &g| max.max(f64::from(g).abs()));
    let mut moved = point.to_vec();
    let mut loss_at = |index: usize, value: f32| {
        moved[index] = value;
        let result = loss(&moved);
        moved[index] = point[index];
        result
    };
    indices
        .into_iter()
        .map(|index| {
            let (above, below) = (point[index] + step, point[index] - step);
            let rise = loss_at(index, above) - loss_at(index, below);
            let difference = rise / (f64::from(above) - f64::from(below));
            let gradient = f64::from(gradient[index]);
            let error = (difference - gradient).abs() / largest;
            let relative_error = if error.is_nan() { f64::INFINITY } else { error };
            WorstCoordinate { index, difference, gradient, relative_error }
        })
        .max_by(|a, b| a.relative_error.total_cmp(&b.relative_error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: [f32; 3] = [0.5, -1.0, 2.0];

    /// `x^3 + 2 y z`
    fn loss(point: &[f32]) -> f64 {
        let [x, y, z] = [point[0], point[1], point[2]].map(f64::from);
        x.powi(3) + 2.0 * y * z
    }

    #[test]
    fn a_right_gradient_agrees() {
        let worst = compare_gradient(&POINT, &[0.75, 4.0, -2.0], 0..3, 1e-2, loss);
        assert!(worst.expect("three coordinates").relative_error < 1e-4);
    }

    #[test]
    fn a_wrong_coordinate_is_found() {
        let worst = compare_gradient(&POINT, &[0.75, 4.0, 2.0], 0..3, 1e-2, loss).expect("three coordinates");
        assert_eq!(worst.index, 2);
        assert!(worst.relative_error > 0.5);
    }

    #[test]
    fn a_gradient_that_is_not_a_number_is_found() {
        let worst = compare_gradient(&POINT, &[f32::NAN, 4.0, -2.0], 0..3, 1e-2, loss).expect("three coordinates");
        assert_eq!((worst.index, worst.relative_error), (0, f64::INFINITY));
    }

    #[test]
    fn no_coordinates_give_no_verdict() {
        assert_eq!(compare_gradient(&POINT, &[0.0; 3], [], 1e-2, loss), None);
    }
}
