//! Parameters are found, not typed: from a privacy goal to noise, scale and expected error.
//!
//! Kairouz, Liu and Steinke, *The Distributed Discrete Gaussian Mechanism* (2021), Section 6, and the authors' published code
//! (`distributed_dp`): in a ring of b bits the scale s solves
//!
//! ```text
//! 2^b = 2 k sqrt( c^2 s^2 n^p/D + n/4 + v )
//! ```
//!
//! where c is the clip norm, n the clients, D the padded dimension, k how many standard deviations shall fit, v the variance
//! of all noise in integer units, and p = 2 if all updates may point the same way, 1 if they are nearly orthogonal. For each s
//! the noise is the least that keeps epsilon within the goal, at the sensitivity that rounding leaves; so both are solved at
//! once. Noise is counted on the shares of `honest` clients only, the sum carries that of all.
//!
//! This is how the mechanism's papers set their experiments. What a task's header states comes from `params`.

use libm::{pow, sqrt};
use thiserror::Error;

use super::accountant::{RdpCurve, RoundingBounds, SkellamRound};
use super::distributed::{GaussianRound, GaussianShares};
use super::numeric::least;
use super::skellam_gaussian::skellam_privacy;

/// The noise that clients add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Skellam: closed under addition.
    Skellam,
    /// Discrete Gaussian, with its tau.
    DiscreteGaussian,
}

/// How epsilon is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account<'a> {
    /// As ledgers do: Renyi divergences at these orders.
    Renyi(&'a [u32]),
    /// Through the Gaussian mechanism that Skellam noise is at least as private as ([`super::skellam_gaussian`]). Discrete
    /// Gaussian noise has no such account here.
    Gaussian,
}

/// What is to be kept, and from whom it comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal<'a> {
    /// The noise.
    pub mechanism: Mechanism,
    /// c: the largest L2 norm of an update.
    pub clip_norm: f64,
    /// The chance that one try to round is too long.
    pub beta: f64,
    /// D: elements of the vector, padding and weight included.
    pub dim: u64,
    /// n: clients in the sum.
    pub clients: u64,
    /// Clients whose noise is counted: those that stay and are honest in the worst case, `n - T - C`.
    pub honest: u64,
    /// Rounds with these parameters.
    pub rounds: u32,
    /// The largest epsilon after all rounds.
    pub epsilon: f64,
    /// The delta at which it is stated.
    pub delta: f64,
    /// How epsilon is computed.
    pub account: Account<'a>,
}

/// How the norm of a sum grows with its terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormGrowth {
    /// p = 2: updates may all be equal.
    Linear,
    /// p = 1: updates are nearly orthogonal.
    SquareRoot,
}

/// The ring that a sum shall fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ring {
    /// b.
    pub bits: u8,
    /// k: standard deviations of one coordinate on each side.
    pub deviations: f64,
    /// p.
    pub growth: NormGrowth,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Solution {
    /// s: integer steps per unit.
    pub scale: f64,
    /// The standard deviation, or the parameter, of one client's noise in integer units.
    pub local_sigma: f64,
    /// Of the honest clients' noise together: `sqrt(honest) local_sigma`.
    pub central_sigma: f64,
    /// Sensitivities in integer units.
    pub bounds: RoundingBounds,
    /// Epsilon after all rounds: at most the goal.
    pub epsilon: f64,
}

/// Why nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SolverError {
    /// The goal is none.
    #[error(
        "a goal needs an epsilon and a clip norm above 0, a delta and a beta between 0 and 1 (beta may be 0), at least one \
         coordinate, client and round, no more honest clients than there are, orders that rise from 2, and for the Gaussian \
         account Skellam noise"
    )]
    Goal,
    /// The ring is too narrow even for coarse steps.
    #[error(
        "a ring of {bits} bits does not hold the noise that this epsilon needs; use more bits, fewer clients, or a larger \
         epsilon"
    )]
    Ring {
        /// Of the ring.
        bits: u8,
    },
    /// No noise is enough at these orders.
    #[error("no amount of noise reaches this epsilon at this delta with these orders; raise epsilon or delta")]
    Unreachable,
}

impl Goal<'_> {
    fn check(&self) -> Result<(), SolverError> {
        let above_zero = [self.epsilon, self.clip_norm].iter().all(|&x| x > 0.0 && x < f64::INFINITY);
        let delta = self.delta > 0.0 && self.delta < 1.0;
        let beta = (0.0..1.0).contains(&self.beta);
        let counts = self.dim > 0 && self.honest > 0 && self.honest <= self.clients && self.clients <= 1 << 32;
        let account = match self.account {
            Account::Renyi(orders) => RdpCurve::zero(orders).is_ok(),
            Account::Gaussian => self.mechanism == Mechanism::Skellam,
        };
        let valid = above_zero && delta && beta && counts && self.rounds > 0 && account;
        if valid { Ok(()) } else { Err(SolverError::Goal) }
    }

    /// Epsilon after all rounds if `shares` clients add noise of `local_sigma` each. Infinite where no bound holds.
    pub fn epsilon_with(&self, bounds: &RoundingBounds, local_sigma: f64, shares: u64) -> f64 {
        let &RoundingBounds { l2_bound, l1_bound, .. } = bounds;
        let variance = shares as f64 * local_sigma * local_sigma;
        let curve = match (self.account, self.mechanism) {
            (Account::Gaussian, Mechanism::Skellam) => {
                let all = skellam_privacy(l2_bound, variance).map(|round| round.times(self.rounds));
                return all.map_or(f64::INFINITY, |all| all.epsilon(self.delta));
            }
            (Account::Gaussian, Mechanism::DiscreteGaussian) => return f64::INFINITY,
            (Account::Renyi(orders), Mechanism::Skellam) => {
                RdpCurve::skellam(orders, &SkellamRound { l2_bound, l1_bound, variance }).ok()
            }
            (Account::Renyi(orders), Mechanism::DiscreteGaussian) => GaussianShares::new(local_sigma, shares)
                .ok()
                .and_then(|noise| GaussianRound { l2_bound, l1_bound, dim: self.dim, noise }.curve(orders).ok()),
        };
        curve.map_or(f64::INFINITY, |curve| curve.times(self.rounds).epsilon(self.delta).epsilon)
    }

    /// The least noise that keeps the goal at this scale.
    ///
    /// # Errors
    /// [`SolverError::Goal`]; [`SolverError::Unreachable`].
    pub fn noise_at(&self, scale: f64) -> Result<Solution, SolverError> {
        self.check()?;
        if !(scale > 0.0 && scale < f64::INFINITY) {
            return Err(SolverError::Goal);
        }
        let bounds = RoundingBounds::new(scale * self.clip_norm, self.dim, self.beta);
        // Noise beyond this hides nothing that the orders let it: then no noise does.
        let limit = bounds.l2_bound * 1e9;
        let local_sigma = least(0.0, limit, |sigma| self.epsilon_with(&bounds, sigma, self.honest) <= self.epsilon);
        let epsilon = self.epsilon_with(&bounds, local_sigma, self.honest);
        if epsilon > self.epsilon {
            return Err(SolverError::Unreachable);
        }
        let central_sigma = local_sigma * sqrt(self.honest as f64);
        Ok(Solution { scale, local_sigma, central_sigma, bounds, epsilon })
    }

    /// The largest scale, and the least noise with it, for which the sum fits the ring.
    ///
    /// # Errors
    /// [`SolverError`].
    pub fn solve(&self, ring: Ring) -> Result<Solution, SolverError> {
        self.check()?;
        let narrow = SolverError::Ring { bits: ring.bits };
        let deviations = ring.deviations > 0.0 && ring.deviations < f64::INFINITY;
        if !deviations || !(2..=64).contains(&ring.bits) {
            return Err(narrow);
        }
        let half = pow(2.0, f64::from(ring.bits) - 1.0) / ring.deviations;
        let too_wide = |scale| match self.noise_at(scale) {
            Ok(solution) => self.deviation_of_sum(&solution, ring.growth) > half,
            Err(_) => true,
        };
        // A coordinate of the sum has more than c s/sqrt(D) alone.
        let largest = half * sqrt(self.dim as f64) / self.clip_norm;
        let beyond = least(largest * 1e-12, largest, too_wide);
        let found = self.noise_at(beyond.next_down()).map_err(|error| match error {
            SolverError::Goal => narrow,
            other => other,
        })?;
        if self.deviation_of_sum(&found, ring.growth) > half { Err(narrow) } else { Ok(found) }
    }

    /// The standard deviation that one coordinate of the sum is planned for, in integer units.
    pub fn deviation_of_sum(&self, solution: &Solution, growth: NormGrowth) -> f64 {
        let clients = self.clients as f64;
        let aligned = match growth {
            NormGrowth::Linear => clients * clients,
            NormGrowth::SquareRoot => clients,
        };
        let clip = self.clip_norm * solution.scale;
        let noise = clients * solution.local_sigma * solution.local_sigma;
        sqrt(clip * clip * aligned / self.dim as f64 + clients / 4.0 + noise)
    }

    /// The mean squared error of one coordinate of the mean over all clients, in squared real units, without wraps: noise,
    /// and rounding with a variance of at most 1/4, on average 1/6, each.
    pub fn mean_squared_error(&self, solution: &Solution) -> f64 {
        let clients = self.clients as f64;
        let noise = clients * solution.local_sigma * solution.local_sigma;
        (noise + clients / 6.0) / pow(solution.scale * clients, 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn orders() -> Vec<u32> {
        (2..=128).chain([256]).collect()
    }

    const RING: Ring = Ring { bits: 16, deviations: 3.0, growth: NormGrowth::SquareRoot };

    fn goal(orders: &[u32]) -> Goal<'_> {
        Goal {
            mechanism: Mechanism::Skellam,
            clip_norm: 1.0,
            beta: 0.5,
            dim: 256,
            clients: 100,
            honest: 100,
            rounds: 10,
            epsilon: 2.0,
            delta: 1e-5,
            account: Account::Renyi(orders),
        }
    }

    #[test]
    fn what_is_found_keeps_the_goal_fills_the_ring_and_is_the_least() {
        let orders = orders();
        for mechanism in [Mechanism::Skellam, Mechanism::DiscreteGaussian] {
            let goal = Goal { mechanism, ..goal(&orders) };
            let found = goal.solve(RING).expect("feasible");
            assert!(found.epsilon <= 2.0 && found.epsilon > 2.0 - 1e-9);
            let less = goal.epsilon_with(&found.bounds, found.local_sigma * (1.0 - 1e-6), 100);
            assert!(less > 2.0);
            let fill = goal.deviation_of_sum(&found, RING.growth) * 3.0 / 32_768.0;
            assert!(fill <= 1.0 && fill > 1.0 - 1e-9, "{fill}");
            assert_eq!(goal.noise_at(found.scale), Ok(found));
        }
    }

    #[test]
    fn tolerated_losses_cost_noise_and_wider_rings_save_it() {
        let orders = orders();
        let all = goal(&orders).solve(RING).expect("feasible");
        let fewer = Goal { honest: 60, ..goal(&orders) };
        let tolerant = fewer.solve(RING).expect("feasible");
        assert!(fewer.mean_squared_error(&tolerant) > goal(&orders).mean_squared_error(&all) * 1.5);
        let wide = goal(&orders).solve(Ring { bits: 20, ..RING }).expect("feasible");
        assert!(wide.scale > all.scale * 10.0);
        assert!(goal(&orders).mean_squared_error(&wide) < goal(&orders).mean_squared_error(&all));
        // and what was planned for 60 of 100 is what 60 give
        assert!(goal(&orders).epsilon_with(&tolerant.bounds, tolerant.local_sigma, 60) <= 2.0);
    }

    /// The tight account needs less noise for the same promise: 15 % less error is what Renyi accounting costs.
    #[test]
    fn the_tight_account_saves_noise() {
        let orders = orders();
        let renyi = goal(&orders).solve(RING).expect("feasible");
        let tight = Goal { account: Account::Gaussian, ..goal(&orders) };
        let found = tight.solve(RING).expect("feasible");
        assert!(found.epsilon <= 2.0 && found.epsilon > 2.0 - 1e-9);
        let saved = 1.0 - tight.mean_squared_error(&found) / goal(&orders).mean_squared_error(&renyi);
        assert!((0.05..0.25).contains(&saved), "{saved}");
    }

    #[test]
    fn impossible_goals_are_refused_with_the_reason() {
        let orders = orders();
        let good = goal(&orders);
        for bad in [
            Goal { epsilon: 0.0, ..good },
            Goal { epsilon: f64::NAN, ..good },
            Goal { delta: 1.0, ..good },
            Goal { clip_norm: -1.0, ..good },
            Goal { beta: 1.0, ..good },
            Goal { honest: 101, ..good },
            Goal { honest: 0, ..good },
            Goal { rounds: 0, ..good },
            Goal { dim: 0, ..good },
            Goal { account: Account::Renyi(&[]), ..good },
            Goal { account: Account::Gaussian, mechanism: Mechanism::DiscreteGaussian, ..good },
        ] {
            assert_eq!(bad.solve(RING), Err(SolverError::Goal), "{bad:?}");
        }
        assert_eq!(good.solve(Ring { bits: 4, ..RING }), Err(SolverError::Ring { bits: 4 }));
        assert_eq!(good.solve(Ring { deviations: 0.0, ..RING }), Err(SolverError::Ring { bits: 16 }));
        let tiny = Goal { epsilon: 1e-9, delta: 1e-12, ..good };
        assert_eq!(tiny.noise_at(1.0), Err(SolverError::Unreachable));
    }
}
