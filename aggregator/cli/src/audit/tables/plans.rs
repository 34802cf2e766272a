//! Tables of whole plans: parameters that are found from a goal, what dropouts do to it, and ledgers over many rounds.

use veilsum_crypto::privacy::solver::{Account, Goal, Mechanism, NormGrowth, Ring, Solution};
use veilsum_crypto::privacy::{Budget, BudgetError, Ledger};

use super::check::{Check, Malformed, Tolerance};
use super::distributed::{Noise, mechanism, table_orders};
use crate::audit::experiment::{Cell, Measured, measure};
use crate::audit::random::Random;

const TIGHT: Tolerance = Tolerance::Relative(1e-9);

/// Of what a solver finds.
const SOLVED: Tolerance = Tolerance::Relative(1e-6);

/// The papers' choice: exp(-1/2).
const DEFAULT_BETA: f64 = 0.606_530_659_712_633_4;

/// What the tables of plans have in common.
struct Plan<'a> {
    goal: Goal<'a>,
    ring: Ring,
}

/// One cell of the mean-estimation experiment.
#[derive(Clone, Copy)]
pub struct Experiment<'a> {
    /// What is to be kept.
    pub goal: Goal<'a>,
    /// Where the sum shall fit.
    pub ring: Ring,
    /// How often it is run.
    pub repeats: u32,
    /// Coordinates before padding.
    pub dim: usize,
}

impl<'a> Experiment<'a> {
    /// From a row of `mean_estimation_reference`.
    pub fn read(check: &Check<'_>, orders: &'a [u32]) -> Result<Self, Malformed> {
        let Plan { mut goal, ring } = Plan::read(check, "eps_target", orders)?;
        goal.beta = check.number("beta")?;
        if goal.clients > 1 << 20 || goal.dim > 1 << 24 {
            return Err(Malformed(format!("{} clients with {} coordinates are too many", goal.clients, goal.dim)));
        }
        Ok(Self { goal, ring, repeats: check.parsed("repeats")?, dim: check.parsed("d")? })
    }

    /// The parameters.
    pub fn solve(&self) -> Result<Solution, Malformed> {
        Plan { goal: self.goal, ring: self.ring }.solve()
    }

    /// Its error, with these parameters.
    pub fn measure(&self, plan: Solution, random: &mut Random) -> Result<Measured, Malformed> {
        let cell = Cell {
            mechanism: self.goal.mechanism,
            clients: self.goal.clients as u32,
            dim: self.dim,
            padded_dim: self.goal.dim as usize,
            clip_norm: self.goal.clip_norm,
            bits: self.ring.bits,
            plan,
        };
        measure(&cell, self.repeats, random).map_err(|error| Malformed(format!("{error:#}")))
    }
}

impl<'a> Plan<'a> {
    fn read(check: &Check<'_>, epsilon: &str, orders: &'a [u32]) -> Result<Self, Malformed> {
        let clients = check.parsed("n")?;
        let goal = Goal {
            mechanism: mechanism(check)?,
            clip_norm: check.positive("clip")?,
            beta: DEFAULT_BETA,
            dim: check.parsed("padded_dim")?,
            clients,
            honest: clients,
            rounds: 1,
            epsilon: check.positive(epsilon)?,
            delta: check.positive("delta")?,
            account: Account::Renyi(orders),
        };
        let deviations = check.positive("k_stddevs")?;
        Ok(Self { goal, ring: Ring { bits: check.parsed("bits")?, deviations, growth: NormGrowth::Linear } })
    }

    fn solve(&self) -> Result<Solution, Malformed> {
        self.goal.solve(self.ring).map_err(|error| Malformed(error.to_string()))
    }
}

/// `params`: one round in a ring.
pub fn params(check: &mut Check<'_>) -> Result<(), Malformed> {
    let orders = table_orders();
    let mut plan = Plan::read(check, "eps", &orders)?;
    plan.goal.beta = check.number("beta")?;
    plan.ring.growth = match check.text("norm_growth")? {
        "n" => NormGrowth::Linear,
        "sqrt_n" => NormGrowth::SquareRoot,
        other => return Err(Malformed(format!("norm_growth: {other:?} is neither n nor sqrt_n"))),
    };
    let found = plan.solve()?;
    check.near("scale", SOLVED, found.scale)?;
    check.near("central_sigma_int", SOLVED, found.central_sigma)?;
    check.near("local_sigma_int", SOLVED, found.local_sigma)?;
    check.near("l2_bound_int", SOLVED, found.bounds.l2_bound)?;
    check.near("l1_bound_int", SOLVED, found.bounds.l1_bound)
}

/// `mean_estimation_reference`: the parameters of the experiment.
pub fn mean_estimation(check: &mut Check<'_>) -> Result<(), Malformed> {
    let orders = table_orders();
    check_parameters(check, &Experiment::read(check, &orders)?).map(|_| ())
}

/// The same, and the experiment itself.
pub fn mean_estimation_simulated(check: &mut Check<'_>) -> Result<(), Malformed> {
    let orders = table_orders();
    let experiment = Experiment::read(check, &orders)?;
    let plan = check_parameters(check, &experiment)?;
    let measured = experiment.measure(plan, &mut Random::new(None))?;
    let reference = Measured { mse: check.positive("mse_mean")?, standard_error: check.positive("mse_stderr")? };
    let allowed = allowance(&measured, &reference, experiment.goal.mean_squared_error(&plan));
    check.statistic("mse_mean", allowed, measured.mse)
}

fn check_parameters(check: &mut Check<'_>, experiment: &Experiment<'_>) -> Result<Solution, Malformed> {
    let found = experiment.solve()?;
    check.near("scale", SOLVED, found.scale)?;
    check.near("central_sigma_int", SOLVED, found.central_sigma)?;
    check.near("l2_bound_int", SOLVED, found.bounds.l2_bound)?;
    Ok(found)
}

/// How far apart two measurements of one error may be: four standard errors of both together, or 15 % of what is planned,
/// whichever is more.
fn allowance(measured: &Measured, reference: &Measured, planned: f64) -> f64 {
    (4.0 * measured.standard_error.hypot(reference.standard_error)).max(0.15 * planned)
}

/// Whether a measured error is that of the reference.
pub fn agrees(measured: &Measured, reference: &Measured, planned: f64) -> bool {
    (measured.mse - reference.mse).abs() <= allowance(measured, reference, planned)
}

/// `dropout_degradation`: what epsilon becomes if fewer clients add the shares that were planned for all.
pub fn dropout_degradation(check: &mut Check<'_>) -> Result<(), Malformed> {
    let orders = table_orders();
    let mut plan = Plan::read(check, "eps_planned", &orders)?;
    plan.goal.rounds = check.parsed("rounds")?;
    let found = plan.solve()?;
    check.near("local_sigma_int", SOLVED, found.local_sigma)?;
    let left = check.parsed("surviving_clients")?;
    check.near("eps_without_compensation", SOLVED, plan.goal.epsilon_with(&found.bounds, found.local_sigma, left))
}

/// `ledger`: rounds that are reserved and spent one after the other, until one is refused.
pub fn ledger(check: &mut Check<'_>) -> Result<(), Malformed> {
    let broken = |what: &str| Malformed(format!("rounds_n_D_C_localsigma_dim_l2_l1: {what}"));
    let mechanism = mechanism(check)?;
    let budget = Budget { epsilon: check.positive("budget_eps")?, delta: check.positive("delta")? };
    let mut ledger = Ledger::over(&table_orders()).expect("the tables' orders rise from 2");
    let (mut accepted, mut refused) = (Vec::new(), None);
    for (counter, round) in (1_u64..).zip(check.text("rounds_n_D_C_localsigma_dim_l2_l1")?.split(';')) {
        let curve = ledger_round(round, mechanism).ok_or_else(|| broken(round))?.curve(&table_orders())?;
        match ledger.reserve(([0; 16], counter), curve, budget) {
            Ok(()) => ledger.spend(([0; 16], counter)).map_err(|error| broken(&error.to_string()))?,
            Err(BudgetError::Exhausted { would_be, .. }) => {
                refused = Some((counter, would_be));
                break;
            }
            Err(error) => return Err(broken(&error.to_string())),
        }
        accepted.push(ledger.epsilon_spent(budget.delta));
    }
    check.near_each("cumulative_eps_after_accepted_rounds", ';', TIGHT, &accepted)?;
    match refused {
        Some((counter, would_be)) => {
            check.equal("first_refused_round", counter)?;
            check.near("eps_if_it_had_been_accepted", TIGHT, would_be)
        }
        None => {
            check.empty("first_refused_round")?;
            check.empty("eps_if_it_had_been_accepted")
        }
    }
}

/// `n:D:C:local_sigma:dim:l2:l1`; `None` if it is not so.
fn ledger_round(text: &str, mechanism: Mechanism) -> Option<Noise> {
    let [n, dropped, colluding, local_sigma, dim, l2, l1] = text.split(':').collect::<Vec<_>>().try_into().ok()?;
    let count = |text: &str| text.parse::<u64>().ok();
    let shares = count(n)?.checked_sub(count(dropped)?)?.checked_sub(count(colluding)?)?;
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite());
    let (local_sigma, l2, l1) = (number(local_sigma)?, number(l2)?, number(l1)?);
    Some(Noise { mechanism, shares, local_sigma, l2, l1, dim: count(dim)? })
}
