//! What an outsider learns who sees published models only, where each round's cohort was drawn by independent coins.
//!
//! **Never the claim towards the aggregator.** It addresses clients one by one and knows who took part: towards it nothing is
//! gained by sampling. A curve of this file is therefore a type of its own that no ledger takes.
//!
//! Zhu and Wang, *Poisson Subsampled Renyi Differential Privacy* (2019), Theorem 5, for any mechanism and integer alpha:
//!
//! ```text
//! RDP'(a) <= 1/(a-1) ln[ (1-q)^(a-1) (aq - q + 1) + C(a,2) q^2 (1-q)^(a-2) e^RDP(2)
//!                        + 3 sum over l from 3 to a of C(a,l) (1-q)^(a-l) q^l e^((l-1) RDP(l)) ]
//! ```
//!
//! The weights add up to one; so the logarithm is taken of one plus what each term exceeds its weight by, and small
//! divergences keep their digits.

use alloc::vec::Vec;

use libm::{exp, expm1, log, log1p};

use super::accountant::{CurveError, Epsilon, RdpCurve};
use super::numeric::ln_add;

/// Divergences towards an outsider. They add up among themselves, and never to a ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct OutsiderCurve(RdpCurve);

impl OutsiderCurve {
    /// One round whose clients each took part with probability `sampling`, independently and unknown to the outsider. Orders
    /// that are not reached from 2 in steps of one keep their divergence without sampling, as do those where that is less.
    /// `None` unless `0 < sampling <= 1`.
    pub fn of_round(round: &RdpCurve, sampling: f64) -> Option<Self> {
        if !(sampling > 0.0 && sampling <= 1.0) {
            return None;
        }
        let known = round.divergences();
        let consecutive =
            round.orders().iter().zip(2_u32..).take_while(|(order, expected)| **order == *expected).count();
        let divergences = (0..known.len())
            .map(|at| if at < consecutive { known[at].min(sampled(known, at, sampling)) } else { known[at] })
            .collect::<Vec<_>>();
        RdpCurve::from_parts(round.orders().to_vec(), divergences).ok().map(Self)
    }

    /// Both together.
    ///
    /// # Errors
    /// [`CurveError::OtherOrders`].
    pub fn plus(&self, other: &Self) -> Result<Self, CurveError> {
        self.0.plus(&other.0).map(Self)
    }

    /// The same `rounds` times over.
    pub fn times(&self, rounds: u32) -> Self {
        Self(self.0.times(rounds))
    }

    /// The divergences, one for each order.
    pub fn divergences(&self) -> &[f64] {
        self.0.divergences()
    }

    /// The figure for outsiders.
    pub fn epsilon(&self, delta: f64) -> Epsilon {
        self.0.epsilon(delta)
    }
}

/// The bound at the order `at + 2`; `known[l - 2]` is the divergence of order l.
fn sampled(known: &[f64], at: usize, sampling: f64) -> f64 {
    if sampling == 1.0 {
        return known[at];
    }
    let order = (at + 2) as f64;
    let (ln_q, ln_rest) = (log(sampling), log1p(-sampling));
    // C(a, l) (1-q)^(a-l) q^l, starting from l = 2
    let mut ln_weight = log(order * (order - 1.0) / 2.0) + 2.0 * ln_q + (order - 2.0) * ln_rest;
    let mut ln_excess = f64::NEG_INFINITY;
    for (l, &divergence) in (2_u32..).zip(&known[..=at]) {
        let l = f64::from(l);
        let exponent = (l - 1.0) * divergence;
        let ln_beyond_weight = if l == 2.0 {
            if exponent > 1.0 { exponent + log1p(-exp(-exponent)) } else { log(expm1(exponent)) }
        } else {
            exponent + log(3.0) + log1p(-exp(-exponent) / 3.0)
        };
        ln_excess = ln_add(ln_excess, ln_weight + ln_beyond_weight);
        ln_weight += log((order - l) / (l + 1.0)) + ln_q - ln_rest;
    }
    let ln_sum = if ln_excess < 30.0 { log1p(exp(ln_excess)) } else { ln_excess + exp(-ln_excess) };
    ln_sum / (order - 1.0) * (1.0 + 1e-12) // more than 1,024 logarithms can have lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::accountant::{SkellamRound, default_orders};

    fn round(variance: f64) -> RdpCurve {
        let round = SkellamRound { l2_bound: 10.0, l1_bound: 40.0, variance };
        RdpCurve::skellam(&default_orders(), &round).expect("numbers")
    }

    /// The bracket of the theorem, added up as it is written.
    fn as_written(known: &[f64], order: u32, q: f64) -> f64 {
        let a = f64::from(order);
        let mut bracket = libm::pow(1.0 - q, a - 1.0) * (a * q - q + 1.0);
        let mut choose = a * (a - 1.0) / 2.0;
        for l in 2..=order {
            let l = f64::from(l);
            let factor = if l == 2.0 { 1.0 } else { 3.0 };
            let divergence = known[l as usize - 2];
            bracket += factor * choose * libm::pow(1.0 - q, a - l) * libm::pow(q, l) * exp((l - 1.0) * divergence);
            choose *= (a - l) / (l + 1.0);
        }
        log(bracket) / (a - 1.0)
    }

    #[test]
    fn it_is_the_theorem_where_the_theorem_can_be_added_up() {
        for variance in [300.0, 1e3, 1e4] {
            for q in [0.01, 0.2, 0.7] {
                let curve = round(variance);
                let outside = OutsiderCurve::of_round(&curve, q).expect("a probability");
                for order in [2, 3, 10, 60] {
                    let expected =
                        as_written(curve.divergences(), order, q).min(curve.divergences()[order as usize - 2]);
                    let got = outside.divergences()[order as usize - 2];
                    assert!((got / expected - 1.0).abs() < 1e-9, "{variance} {q} {order}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn it_never_exceeds_the_figure_without_sampling_and_needs_a_probability() {
        for q in [1e-9, 1e-3, 0.5, 0.999_999, 1.0] {
            let curve = round(50.0);
            let outside = OutsiderCurve::of_round(&curve, q).expect("a probability");
            for (sampled, whole) in outside.divergences().iter().zip(curve.divergences()) {
                assert!(sampled <= whole && *sampled >= 0.0);
            }
            assert_eq!(outside.divergences().last(), curve.divergences().last()); // order 1,024 is left as it is
        }
        let whole = OutsiderCurve::of_round(&round(50.0), 1.0).expect("a probability");
        assert_eq!(whole.divergences(), round(50.0).divergences());
        for q in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(OutsiderCurve::of_round(&round(50.0), q).is_none());
        }
    }

    #[test]
    fn no_noise_hides_nothing_from_outsiders_either() {
        let silent = OutsiderCurve::of_round(&round(0.0), 0.01).expect("a probability");
        assert_eq!(silent.times(3).epsilon(1e-5).epsilon, f64::INFINITY);
    }
}
