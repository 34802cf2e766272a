//! Epsilon from noise and sensitivity, `docs/protocol.md` §10.2.
//!
//! Renyi divergences at fixed integer orders are added up round by round and turned into epsilon at
//! the end. Every round counts in full (no amplification by sampling): the aggregator knows who
//! took part. Adjacency: one client's whole contribution is replaced by zero.
//!
//! Results are rounded up: each is enlarged by more than its arithmetic can have lost, about 1e-14
//! of its size, so that the figure stated is never below the bound in the papers.

use alloc::vec::Vec;

use libm::{log, sqrt};
use thiserror::Error;

/// Orders that cover small and large epsilon: 2 to 128, 256, 320, 512 and 1024.
pub fn default_orders() -> Vec<u32> {
    (2..=128).chain([256, 320, 512, 1024]).collect()
}

/// Enlarges a non-negative bound by 64 units in the last place: no formula here loses that much.
fn upward(bound: f64) -> f64 {
    bound * (1.0 + 64.0 * f64::EPSILON)
}

/// Which of the two bounds on the norm after rounding is smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundingBranch {
    /// `C + sqrt(D)`: every rounding obeys it.
    Deterministic,
    /// The one that a rounding obeys with probability at least `1 - beta`.
    Conditional,
}

/// Sensitivities after conditional stochastic rounding, in integer units.
///
/// ```text
/// Delta_2 = min(C + sqrt(D), sqrt(C^2 + D/4 + sqrt(2 ln(1/beta)) (C + sqrt(D)/2)))
/// Delta_1 = Delta_2 min(sqrt(D), Delta_2)          integers: L1 <= L2^2
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundingBounds {
    /// Delta_2.
    pub l2_bound: f64,
    /// Delta_1.
    pub l1_bound: f64,
    /// The smaller of the two bounds.
    pub active_branch: RoundingBranch,
    /// floor(Delta_2^2): what the client compares `sum z_i^2` with.
    pub max_integer_squared_norm: u64,
}

impl RoundingBounds {
    /// Computes the bounds for `scaled_clip` = clip_norm times scale in integer units, `dim`
    /// elements, padding and weight included, and `beta`, the chance that one try is too long:
    /// 0 for none, `exp(-1/2)` is the papers' choice. `Delta_2^2` beyond 2^64 saturates.
    pub fn new(scaled_clip: f64, dim: u64, beta: f64) -> Self {
        let dim = dim as f64;
        let root = sqrt(dim);
        // Squares, so that the floor is exact where the bound is an integer.
        let deterministic = scaled_clip * scaled_clip + 2.0 * scaled_clip * root + dim;
        let conditional = if beta > 0.0 {
            let deviations = sqrt(2.0 * log(1.0 / beta));
            scaled_clip * scaled_clip + dim / 4.0 + deviations * (scaled_clip + root / 2.0)
        } else {
            f64::INFINITY
        };
        let (squared, active_branch) = if deterministic <= conditional {
            (deterministic, RoundingBranch::Deterministic)
        } else {
            (conditional, RoundingBranch::Conditional)
        };
        let l2_bound = sqrt(squared);
        Self {
            l2_bound,
            l1_bound: l2_bound * root.min(l2_bound),
            active_branch,
            max_integer_squared_norm: squared as u64,
        }
    }
}

/// Sensitivity and guaranteed noise of one round, in integer units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkellamRound {
    /// Delta_2.
    pub l2_bound: f64,
    /// Delta_1.
    pub l1_bound: f64,
    /// mu: the variance that the honest survivors of the smallest permitted set add together.
    pub variance: f64,
}

impl SkellamRound {
    /// The Renyi divergence of an integer order from 2 up (Agarwal, Kairouz and Liu 2021):
    ///
    /// ```text
    /// alpha D2^2/(2 mu) + min{ ((2 alpha - 1) D2^2 + 6 D1)/(4 mu^2), 3 D1/(2 mu) }
    /// ```
    fn divergence(&self, order: u32) -> f64 {
        let &Self { l2_bound, l1_bound, variance } = self;
        if l2_bound == 0.0 && l1_bound == 0.0 {
            return 0.0; // nothing to hide, even without noise
        }
        let (order, squared) = (f64::from(order), l2_bound * l2_bound);
        let gaussian = order * squared / (2.0 * variance);
        let quadratic = ((2.0 * order - 1.0) * squared + 6.0 * l1_bound) / (4.0 * variance * variance);
        let linear = 3.0 * l1_bound / (2.0 * variance);
        upward(gaussian + quadratic.min(linear))
    }
}

/// A round as its header states it, in integer units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerRound {
    /// floor(Delta_2^2), which every client's integers are checked against.
    pub max_squared_norm: u64,
    /// Elements of the vector, padding and weight included.
    pub dim: u64,
    /// mu: the variance that the guaranteed honest shares add together.
    pub variance: u64,
}

/// What a round gives away at most, at the [`default_orders`].
pub fn skellam_curve(round: IntegerRound) -> RdpCurve {
    let l2_bound = upward(sqrt(round.max_squared_norm as f64));
    let l1_bound = upward(l2_bound * sqrt(round.dim as f64).min(l2_bound));
    let round = SkellamRound { l2_bound, l1_bound, variance: round.variance as f64 };
    RdpCurve::skellam(&default_orders(), &round).expect("integers give numbers from 0")
}

/// ln delta at `epsilon` from one Renyi divergence of a real order above 1, rounded up (Canonne, Kamath and Steinke 2020):
///
/// ```text
/// delta = exp((alpha - 1) (r - eps + ln(1 - 1/alpha)))/alpha
/// ```
pub fn ln_delta_at(order: f64, divergence: f64, epsilon: f64) -> f64 {
    let above_one = order - 1.0;
    let terms = [above_one * divergence, -above_one * epsilon, -above_one * libm::log1p(1.0 / above_one), -log(order)];
    let size: f64 = terms.iter().map(|term| term.abs()).sum();
    (terms.iter().sum::<f64>() + 4.0 * f64::EPSILON * size).min(0.0)
}

/// Why two curves do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CurveError {
    /// Their orders differ.
    #[error("curves over the same orders were expected; use one list of orders for a ledger")]
    OtherOrders,
    /// The orders are no list of integers that rises from 2 or more.
    #[error("orders must be integers from 2 up, each larger than the one before")]
    Orders,
    /// A divergence is negative or not a number.
    #[error("divergences must be numbers from 0 up, one for each order")]
    Divergences,
}

/// Renyi divergences by order: how much was given away, in a form that adds up.
#[derive(Clone, Debug, PartialEq)]
pub struct RdpCurve {
    orders: Vec<u32>,
    divergences: Vec<f64>,
}

/// What a curve amounts to at some delta.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epsilon {
    /// The smallest bound over all orders; infinite if there is none.
    pub epsilon: f64,
    /// The order that gives it.
    pub best_order: u32,
}

impl RdpCurve {
    /// Nothing given away yet.
    ///
    /// # Errors
    /// [`CurveError::Orders`] unless the orders rise from 2 or more.
    pub fn zero(orders: &[u32]) -> Result<Self, CurveError> {
        Self::from_parts(orders.to_vec(), alloc::vec![0.0; orders.len()])
    }

    /// What costs nothing, at the default orders.
    pub fn nothing() -> Self {
        Self::zero(&default_orders()).expect("the default orders rise from 2")
    }

    /// One round of Skellam noise.
    ///
    /// # Errors
    /// As [`RdpCurve::zero`]; [`CurveError::Divergences`] if a bound or the variance is negative or
    /// no number.
    pub fn skellam(orders: &[u32], round: &SkellamRound) -> Result<Self, CurveError> {
        let divergences = orders.iter().map(|&order| round.divergence(order)).collect();
        Self::from_parts(orders.to_vec(), divergences)
    }

    /// A curve at the default orders, from divergences that were written down; `None` unless there is one number from 0 up
    /// for each order.
    pub fn from_divergences(divergences: Vec<f64>) -> Option<Self> {
        Self::from_parts(default_orders(), divergences).ok()
    }

    pub(super) fn from_parts(orders: Vec<u32>, divergences: Vec<f64>) -> Result<Self, CurveError> {
        let rising = orders.windows(2).all(|pair| pair[0] < pair[1]);
        if orders.first().is_none_or(|&first| first < 2) || !rising {
            return Err(CurveError::Orders);
        }
        let numbers = divergences.iter().all(|divergence| *divergence >= 0.0); // no NaN
        if divergences.len() != orders.len() || !numbers {
            return Err(CurveError::Divergences);
        }
        Ok(Self { orders, divergences })
    }

    /// The orders.
    pub fn orders(&self) -> &[u32] {
        &self.orders
    }

    /// The divergences, one for each order.
    pub fn divergences(&self) -> &[f64] {
        &self.divergences
    }

    /// Both together. Rounds up.
    ///
    /// # Errors
    /// [`CurveError::OtherOrders`].
    pub fn plus(&self, other: &Self) -> Result<Self, CurveError> {
        if self.orders != other.orders {
            return Err(CurveError::OtherOrders);
        }
        let pairs = self.divergences.iter().zip(&other.divergences);
        let divergences = pairs.map(|(&a, &b)| if a == 0.0 || b == 0.0 { a + b } else { (a + b).next_up() }).collect();
        Ok(Self { orders: self.orders.clone(), divergences })
    }

    /// The same `rounds` times over.
    pub fn times(&self, rounds: u32) -> Self {
        let divergences = self
            .divergences
            .iter()
            .map(|&divergence| if rounds == 0 { 0.0 } else { upward(divergence * f64::from(rounds)) })
            .collect();
        Self { orders: self.orders.clone(), divergences }
    }

    /// Epsilon at `delta`, the smallest over the orders (Canonne, Kamath and Steinke 2020), not
    /// below zero:
    ///
    /// ```text
    /// epsilon = r + ln(1 - 1/alpha) - ln(delta alpha)/(alpha - 1)
    /// ```
    ///
    /// A curve that is zero everywhere gives zero, where the formula alone would not: equal distributions tell nothing apart. A
    /// delta outside (0, 1) gives infinity.
    pub fn epsilon(&self, delta: f64) -> Epsilon {
        let mut best = Epsilon { epsilon: f64::INFINITY, best_order: self.orders[0] };
        if !(delta > 0.0 && delta < 1.0) {
            return best;
        }
        if self.divergences.iter().all(|divergence| *divergence == 0.0) {
            best.epsilon = 0.0;
            return best;
        }
        for (&order, &divergence) in self.orders.iter().zip(&self.divergences) {
            let alpha = f64::from(order);
            let gain = libm::log1p(-1.0 / alpha);
            let cost = -log(delta * alpha) / (alpha - 1.0);
            let size = divergence - gain + cost.abs() + 1.0 / (alpha - 1.0);
            let epsilon = divergence + gain + cost + 8.0 * f64::EPSILON * size; // rounds up
            if epsilon < best.epsilon {
                best = Epsilon { epsilon, best_order: order };
            }
        }
        best.epsilon = best.epsilon.max(0.0);
        best
    }

    /// delta at `epsilon`, the smallest over the orders, rounded up.
    pub fn delta(&self, epsilon: f64) -> f64 {
        let at = |(&order, &divergence)| ln_delta_at(f64::from(order), divergence, epsilon);
        let ln_delta = self.orders.iter().zip(&self.divergences).map(at).fold(0.0, f64::min);
        libm::exp(ln_delta).next_up().min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::string::String;
    use std::{format, fs};

    fn rows(file: &str) -> Vec<BTreeMap<String, String>> {
        let path = format!("{}/../tests/reference/privacy/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&path).expect("the reference tables are in tests/reference");
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().expect("a header line").split(',').collect();
        let row = |line: &str| names.iter().map(|&name| name.into()).zip(line.split(',').map(Into::into)).collect();
        lines.map(row).collect()
    }

    fn number(row: &BTreeMap<String, String>, name: &str) -> f64 {
        row[name].parse().expect("a number")
    }

    /// Within 1e-9 of the reference, and never below it by more than its own rounding.
    fn assert_close(got: f64, row: &BTreeMap<String, String>, name: &str) {
        let expected = number(row, name);
        assert!((got - expected).abs() <= 1e-9 * expected.abs(), "{name}: {got} in {row:?}");
        assert!(got >= expected * (1.0 - 1e-15), "{name}: {got} is too low in {row:?}");
    }

    #[test]
    fn rounding_bounds_equal_the_reference_table() {
        for row in rows("rounding_public.csv") {
            let bounds = RoundingBounds::new(
                number(&row, "scaled_clip"),
                row["dim"].parse().expect("a count"),
                number(&row, "beta"),
            );
            for (got, name) in [(bounds.l2_bound, "l2_bound_int"), (bounds.l1_bound, "l1_bound_int")] {
                let expected = number(&row, name);
                assert!((got - expected).abs() <= 1e-9 * expected, "{name}: {got} in {row:?}");
            }
            let branch = match row["active_branch"].as_str() {
                "deterministic" => RoundingBranch::Deterministic,
                _ => RoundingBranch::Conditional,
            };
            assert_eq!(bounds.active_branch, branch, "{row:?}");
            let squared = row["max_integer_squared_norm"].parse().expect("an integer");
            assert_eq!(bounds.max_integer_squared_norm, squared, "{row:?}");
        }
    }

    #[test]
    fn skellam_accounting_equals_the_reference_table() {
        let orders: Vec<u32> = (2..=128).chain([256]).collect();
        let mut checked = 0;
        for row in rows("distributed_bounds_public.csv") {
            if row["mechanism"] != "skellam" || number(&row, "sampling_q") != 1.0 {
                continue;
            }
            let local = number(&row, "local_sigma_int");
            let round = SkellamRound {
                l2_bound: number(&row, "l2_sens_int"),
                l1_bound: number(&row, "l1_sens_int"),
                variance: number(&row, "n") * local * local,
            };
            let curve = RdpCurve::skellam(&orders, &round).expect("numbers");
            for order in [2, 8, 32, 128] {
                let at = orders.binary_search(&order).expect("listed");
                assert_close(curve.divergences()[at], &row, &format!("rdp_alpha{order}"));
            }
            let all = curve.times(row["rounds"].parse().expect("a count"));
            let Epsilon { epsilon, best_order } = all.epsilon(number(&row, "delta"));
            assert_close(epsilon, &row, "eps_bound");
            assert_eq!(f64::from(best_order), number(&row, "best_order"), "{row:?}");
            checked += 1;
        }
        assert!(checked >= 20, "only {checked} rows");
    }

    #[test]
    fn adding_rounds_is_the_same_as_multiplying_them_and_never_less() {
        let round = SkellamRound { l2_bound: 10.0, l1_bound: 50.0, variance: 1e4 };
        let once = RdpCurve::skellam(&default_orders(), &round).expect("numbers");
        let mut sum = RdpCurve::zero(&default_orders()).expect("rising");
        for _ in 0..1000 {
            sum = sum.plus(&once).expect("one list of orders");
        }
        for (added, single) in sum.divergences().iter().zip(once.divergences()) {
            assert!(*added >= 1000.0 * single && *added <= 1000.0 * single * (1.0 + 1e-12));
        }
        let other = RdpCurve::zero(&[2, 3]).expect("rising");
        assert_eq!(sum.plus(&other), Err(CurveError::OtherOrders));
    }

    #[test]
    fn a_header_gives_the_curve_of_its_bounds() {
        let bounds = RoundingBounds::new(100.0, 10_000, libm::exp(-0.5));
        let stated = skellam_curve(IntegerRound {
            max_squared_norm: bounds.max_integer_squared_norm,
            dim: 10_000,
            variance: 50_000,
        });
        let RoundingBounds { l2_bound, l1_bound, .. } = bounds;
        let round = SkellamRound { l2_bound, l1_bound, variance: 50_000.0 };
        let exact = RdpCurve::skellam(&default_orders(), &round).expect("numbers");
        for (a, b) in stated.divergences().iter().zip(exact.divergences()) {
            assert!((a / b - 1.0).abs() < 1e-3, "{a} {b}"); // the floor of a square
        }
        let silent = skellam_curve(IntegerRound { max_squared_norm: 1, dim: 1, variance: 0 });
        assert_eq!(silent.epsilon(1e-5).epsilon, f64::INFINITY);
    }

    #[test]
    fn what_cannot_be_private_is_infinite_or_refused() {
        let silent = SkellamRound { l2_bound: 1.0, l1_bound: 1.0, variance: 0.0 };
        let curve = RdpCurve::skellam(&[2, 3], &silent).expect("infinity is a divergence");
        assert_eq!(curve.epsilon(1e-5).epsilon, f64::INFINITY);
        let nonsense = SkellamRound { l2_bound: f64::NAN, ..silent };
        assert_eq!(RdpCurve::skellam(&[2, 3], &nonsense), Err(CurveError::Divergences));
        let nothing = SkellamRound { l2_bound: 0.0, l1_bound: 0.0, variance: 0.0 };
        let curve = RdpCurve::skellam(&[2, 1024], &nothing).expect("zero");
        assert_eq!(curve.divergences(), [0.0, 0.0]);
        assert_eq!(curve.epsilon(0.0).epsilon, f64::INFINITY);
        assert_eq!(RdpCurve::zero(&[3, 2]), Err(CurveError::Orders));
        assert_eq!(RdpCurve::zero(&[]), Err(CurveError::Orders));
    }
}
