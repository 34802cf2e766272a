//! From a goal to the parameters of a task's rounds: the least noise and the best scale, as headers state them.
//!
//! [`crate::privacy::solver`] sets the experiments of the papers, in real numbers. This sets rounds as the protocol has them: variances
//! and norms are integers, epsilon is the figure that ledgers charge, the ring obeys the rule of §3.3 for every permitted
//! roster, and noise is counted on the honest clients of the smallest permitted sum, §3.4.
//!
//! * With a given ring: the largest scale whose sums fit it. Finer steps only help: less is rounded, and less is added to the
//!   sensitivity by rounding.
//! * Without one: the narrowest ring whose best scale is within [`NEARLY_BEST`] of the error that no ring undercuts.

use libm::{exp, exp2, floor, log10, pow, sqrt};
use thiserror::Error;

use crate::client::policy::round_charge_of;
use crate::math::ring::RingBits;
use crate::params::headroom::skellam_tail_is_heavier;
use crate::params::{ParamsError, RoundParams};
use crate::privacy::accountant::{RoundingBounds, default_orders};
use crate::privacy::numeric::least;
use crate::privacy::skellam_gaussian::skellam_privacy;
use crate::privacy::solver::{Account, Goal, Mechanism, SolverError};

/// How much more error than the least possible is accepted to save bits.
pub const NEARLY_BEST: f64 = 1.01;

/// Most integer units in the clip norm: what a task file may say.
const MOST_UNITS: f64 = (1 << 30) as f64;

/// The largest variance that a header may state.
const MOST_VARIANCE: u64 = 1 << 52;

/// Ledgers add round to round and round up each time: the goal keeps clear of the budget by more than that.
const MARGIN: f64 = 1e-7;

/// What is to be kept; the rest stands in the parameters that [`TaskGoal::plan`] is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskGoal {
    /// Rounds.
    pub rounds: u32,
    /// The largest epsilon after all of them, at the parameters' `dp_delta`.
    pub epsilon: f64,
    /// The ring, where it is given.
    pub ring_bits: Option<RingBits>,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskPlan {
    /// Complete: scale, norm, noise and ring are filled in.
    pub params: RoundParams,
    /// Epsilon after all rounds, as ledgers have it: at most the goal.
    pub epsilon: f64,
    /// The same noise by the tight account, where it has a figure.
    pub epsilon_tight: Option<f64>,
    /// The error of one coordinate that no scale undercuts, as [`error_of_mean`] counts it.
    pub least_error: f64,
}

/// Why there is no plan.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum PlanError {
    /// A number of the goal is none.
    #[error("{field} must be {expected}; it is {found}")]
    Goal {
        /// Which.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What came.
        found: f64,
    },
    /// What the goal does not decide is infeasible already.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// Not even a clip norm of one step fits, or nothing does.
    #[error(
        "a ring of {bits} bits wraps, or loses updates to rounding, at this epsilon; at least {needed} bits are needed, or \
         fewer clients, a larger epsilon, or fewer rounds"
    )]
    Narrow {
        /// Given.
        bits: u8,
        /// The fewest at which there is a plan.
        needed: u8,
    },
    /// No noise keeps the goal.
    #[error(
        "no noise that a header can state keeps epsilon {epsilon} at delta {delta} over {rounds} rounds; this account reaches \
         {reachable:.6} and more: raise epsilon or delta"
    )]
    Unreachable {
        /// Asked for.
        epsilon: f64,
        /// Its delta.
        delta: f64,
        /// Rounds.
        rounds: u32,
        /// The least epsilon.
        reachable: f64,
    },
}

/// The standard error of one coordinate of the mean over `clients`, in the units of the model: noise, and rounding with a variance
/// of 1/6 on average.
pub fn error_of_mean(params: &RoundParams, clients: u32, share_variance: u64) -> f64 {
    let variance = f64::from(clients) * (share_variance as f64 + 1.0 / 6.0);
    sqrt(variance) / (params.scale * f64::from(clients))
}

/// The ring that a task's rounds take: the narrowest by the rule of §3.3, and one bit more where the exact tail of the noise is
/// heavier than the rule's.
///
/// # Errors
/// [`ParamsError`], if no ring is wide enough or a roster leaves nobody honest.
pub fn ring_bits_of(params: &RoundParams) -> Result<RingBits, ParamsError> {
    let bits = params.ring_bits_needed()?;
    let mut fewest = u64::MAX;
    for n in params.roster_min..=params.roster_max {
        fewest = fewest.min(u64::from(n) * params.share_variance(n)?);
    }
    if !skellam_tail_is_heavier(params.wrap_bits, fewest) {
        return Ok(bits);
    }
    RingBits::new((bits.get() + 1).min(64)).map_err(|_| ParamsError::NoRing)
}

/// Epsilon of this many rounds, as ledgers have it.
pub fn epsilon_of_rounds(params: &RoundParams, rounds: u32) -> f64 {
    round_charge_of(params).map_or(f64::INFINITY, |round| round.times(rounds).epsilon(params.dp_delta).epsilon)
}

/// The same by the tight account ([`crate::privacy::skellam_gaussian`]); `None` for noise of a variance below 2.
pub fn tight_epsilon(params: &RoundParams, rounds: u32) -> Option<f64> {
    let l2_bound = sqrt(params.max_squared_norm as f64).next_up();
    let round = skellam_privacy(l2_bound, params.total_variance as f64)?;
    Some(round.times(rounds).epsilon(params.dp_delta))
}

impl TaskGoal {
    /// Fills in scale, norm, noise and ring. `given` has everything else: rosters, fractions, clip norm, length, delta, `wrap_bits`.
    ///
    /// # Errors
    /// [`PlanError`], with what would be accepted.
    pub fn plan(&self, given: &RoundParams) -> Result<TaskPlan, PlanError> {
        self.check(given)?;
        let least_error = self.least_error(given)?;
        let params = match self.ring_bits {
            Some(bits) => self.widest(given, bits)?,
            None => {
                let (coarsest, finest) = (1.0 / given.clip_norm, MOST_UNITS / given.clip_norm);
                self.at_scale(given, coarsest)?;
                let accurate = |scale| match self.at_scale(given, scale) {
                    Ok(params) => self.error(&params) <= NEARLY_BEST * least_error,
                    Err(_) => true, // beyond what headers can state
                };
                let scale = least(coarsest, finest, accurate);
                let enough = self.at_scale(given, scale).or_else(|_| self.at_scale(given, scale.next_down()))?;
                self.widest(given, enough.ring_bits)?
            }
        };
        Ok(TaskPlan {
            params,
            epsilon: epsilon_of_rounds(&params, self.rounds),
            epsilon_tight: tight_epsilon(&params, self.rounds),
            least_error,
        })
    }

    fn check(&self, given: &RoundParams) -> Result<(), PlanError> {
        let holds = |field, found: f64, holds: bool, expected| {
            if holds { Ok(()) } else { Err(PlanError::Goal { field, expected, found }) }
        };
        let delta = given.dp_delta;
        holds("epsilon", self.epsilon, self.epsilon > 0.0 && self.epsilon <= 1000.0, "above 0 and at most 1000")?;
        holds("delta", delta, delta > 0.0 && delta < 1.0, "above 0 and below 1")?;
        holds("rounds", self.rounds.into(), self.rounds > 0, "at least 1")?;
        let clip = given.clip_norm;
        holds("clip_norm", clip, (1e-9..=1e9).contains(&clip), "from 10^-9 to 10^9")?;
        // Whatever is not decided here, with a scale and noise that cannot be too large.
        let blank = RoundParams {
            scale: 1.0 / clip,
            max_squared_norm: 1,
            total_variance: 0,
            ring_bits: RingBits::MAX,
            ..*given
        };
        Ok(blank.check()?)
    }

    /// The least noise at this scale, and the ring for it, which may be wider than the goal's.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn at_scale(&self, given: &RoundParams, scale: f64) -> Result<RoundParams, PlanError> {
        let bounds = RoundingBounds::new(given.clip_norm * scale, given.vector_len.into(), exp(-0.5));
        let mut params = RoundParams {
            scale,
            max_squared_norm: bounds.max_integer_squared_norm.max(1),
            total_variance: MOST_VARIANCE,
            ring_bits: RingBits::MAX,
            ..*given
        };
        let goal = self.epsilon * (1.0 - MARGIN);
        let epsilon = |variance| epsilon_of_rounds(&RoundParams { total_variance: variance, ..params }, self.rounds);
        let reachable = epsilon(MOST_VARIANCE);
        if reachable > goal {
            let (epsilon, delta, rounds) = (self.epsilon, given.dp_delta, self.rounds);
            return Err(PlanError::Unreachable { epsilon, delta, rounds, reachable });
        }
        let (mut low, mut high) = (1, MOST_VARIANCE);
        while low < high {
            let middle = low + (high - low) / 2;
            if epsilon(middle) <= goal { high = middle } else { low = middle + 1 }
        }
        params.total_variance = high;
        params.check()?;
        params.ring_bits = ring_bits_of(&params)?;
        Ok(params)
    }

    /// The largest scale that fits a ring, five digits of it.
    fn widest(&self, given: &RoundParams, bits: RingBits) -> Result<RoundParams, PlanError> {
        let (coarsest, finest) = (1.0 / given.clip_norm, MOST_UNITS / given.clip_norm);
        let coarse = self.at_scale(given, coarsest)?;
        if coarse.ring_bits > bits {
            return Err(PlanError::Narrow { bits: bits.get(), needed: coarse.ring_bits.get() });
        }
        let too_fine = |scale| self.at_scale(given, scale).map_or(true, |params| params.ring_bits > bits);
        let scale = least(coarsest, finest, too_fine);
        let places = 4.0 - floor(log10(scale));
        // By a whole power of ten, so that the number is the one that its digits say.
        let rounded = if places > 0.0 {
            floor(scale * pow(10.0, places)) / pow(10.0, places)
        } else {
            floor(scale / pow(10.0, -places)) * pow(10.0, -places)
        };
        self.at_scale(given, if (coarsest..scale).contains(&rounded) { rounded } else { scale.next_down() })
    }

    fn error(&self, params: &RoundParams) -> f64 {
        let n = params.roster_max;
        params.share_variance(n).map_or(f64::INFINITY, |share| error_of_mean(params, n, share))
    }

    /// What remains when steps are so fine that rounding costs nothing.
    fn least_error(&self, given: &RoundParams) -> Result<f64, PlanError> {
        let n = given.roster_max;
        let orders = default_orders();
        let goal = Goal {
            mechanism: Mechanism::Skellam,
            clip_norm: given.clip_norm,
            beta: exp(-0.5),
            dim: given.vector_len.into(),
            clients: n.into(),
            honest: given.honest(n)?.into(),
            rounds: self.rounds,
            epsilon: self.epsilon,
            delta: given.dp_delta,
            account: Account::Renyi(&orders),
        };
        let scale = exp2(24.0) * sqrt(f64::from(given.vector_len)) / given.clip_norm;
        match goal.noise_at(scale) {
            Ok(found) => Ok(found.local_sigma / (found.scale * sqrt(f64::from(n)))),
            Err(SolverError::Goal | SolverError::Ring { .. } | SolverError::Unreachable) => {
                let (epsilon, delta, rounds) = (self.epsilon, given.dp_delta, self.rounds);
                let coarsest = self.at_scale(given, 1.0 / given.clip_norm);
                Err(coarsest.err().unwrap_or(PlanError::Unreachable { epsilon, delta, rounds, reachable: epsilon }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::demo_params;
    use std::string::ToString;

    const GOAL: TaskGoal = TaskGoal { rounds: 12, epsilon: 4.0, ring_bits: None };

    fn given() -> RoundParams {
        demo_params(64)
    }

    fn bits(bits: u8) -> Option<RingBits> {
        Some(RingBits::new(bits).expect("8 to 64"))
    }

    /// What headers are checked for, by clients too: and the noise is the least, the scale the largest.
    #[test]
    fn a_plan_keeps_the_goal_with_the_least_noise_and_fills_its_ring() {
        for ring_bits in [None, bits(14), bits(16), bits(20)] {
            let goal = TaskGoal { ring_bits, ..GOAL };
            let TaskPlan { params, epsilon, epsilon_tight, least_error } = goal.plan(&given()).expect("feasible");
            assert_eq!(params.check(), Ok(()));
            assert!(ring_bits.is_none_or(|bits| params.ring_bits == bits), "{}", params.ring_bits.get());
            assert!(epsilon <= 4.0 && epsilon > 4.0 - 1e-3, "{epsilon}");
            assert!(epsilon_tight.expect("much noise") < epsilon);
            let less = RoundParams { total_variance: params.total_variance - 1, ..params };
            assert!(epsilon_of_rounds(&less, 12) > 4.0 * (1.0 - MARGIN));
            let finer = goal.at_scale(&given(), params.scale * 1.001).expect("a header");
            assert!(finer.ring_bits > params.ring_bits);
            let error = goal.error(&params);
            assert!(error >= least_error, "{error} {least_error}");
            assert!(ring_bits.is_some() || error <= NEARLY_BEST * least_error);
        }
    }

    #[test]
    fn fewer_bits_and_more_losses_cost_accuracy() {
        let error = |goal: TaskGoal, given: &RoundParams| goal.error(&goal.plan(given).expect("feasible").params);
        let narrow = error(TaskGoal { ring_bits: bits(13), ..GOAL }, &given());
        let wide = error(TaskGoal { ring_bits: bits(18), ..GOAL }, &given());
        assert!(narrow > wide, "{narrow} {wide}");
        let steadfast = RoundParams { dropout_tolerance: 0, ..given() };
        assert!(error(GOAL, &steadfast) < error(GOAL, &given()));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_could() {
        let refused = |goal: TaskGoal, given: &RoundParams| goal.plan(given).expect_err("infeasible");
        let narrow = refused(TaskGoal { ring_bits: bits(8), ..GOAL }, &given());
        let PlanError::Narrow { bits: 8, needed } = narrow else { panic!("{narrow:?}") };
        assert!(TaskGoal { ring_bits: bits(needed), ..GOAL }.plan(&given()).is_ok());
        assert!(TaskGoal { ring_bits: bits(needed - 1), ..GOAL }.plan(&given()).is_err());
        let small = refused(TaskGoal { epsilon: 1e-3, ..GOAL }, &given());
        let PlanError::Unreachable { reachable, .. } = small else { panic!("{small:?}") };
        assert!(TaskGoal { epsilon: reachable * 1.2, ..GOAL }.plan(&given()).is_ok());
        for epsilon in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(refused(TaskGoal { epsilon, ..GOAL }, &given()).to_string().contains("epsilon must be"));
        }
        assert!(refused(TaskGoal { rounds: 0, ..GOAL }, &given()).to_string().contains("rounds must be"));
        for dp_delta in [0.0, 1.0, f64::NAN] {
            assert!(refused(GOAL, &RoundParams { dp_delta, ..given() }).to_string().contains("delta must be"));
        }
        for clip_norm in [0.0, -1.0, f64::NAN] {
            assert!(refused(GOAL, &RoundParams { clip_norm, ..given() }).to_string().contains("clip_norm must be"));
        }
        let nobody = RoundParams { corrupt_fraction: 990_000, ..given() };
        assert!(matches!(refused(GOAL, &nobody), PlanError::Params(ParamsError::NobodyHonest { .. })));
    }
}
