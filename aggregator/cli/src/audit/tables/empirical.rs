//! Tables of empirical audits: what an auditor can expect to prove, and p-values of one run.

use veilsum_crypto::privacy::empirical::{OneRun, Statistic, TwoWorlds};
use veilsum_crypto::privacy::gaussian::sigma_for;

use super::check::{Check, Malformed, Tolerance};

const TIGHT: Tolerance = Tolerance::Relative(1e-9);

/// Of what a search over thresholds ends with; the table gives four decimals.
const SEARCHED: Tolerance = Tolerance::Absolute(1e-4);

/// Of a bound found by bisection.
const BISECTED: Tolerance = Tolerance::Relative(1e-4);

/// Thresholds that the table's auditor tries for the plain bound: this many equal steps from 2 deviations below nothing to 5 above the canary.
const THRESHOLD_STEPS: u32 = 280;

/// More runs than this are not expected of anybody.
const MOST_TRIALS: u64 = 1_000_000_000;

/// `audit_power`: the best lower bound an auditor gets if counts come out as expected, to the nearest integer.
pub fn audit_power(check: &mut Check<'_>) -> Result<(), Malformed> {
    let (claimed, delta) = (check.positive("claimed_eps")?, check.positive("delta")?);
    let (factor, confidence) = (check.positive("noise_factor")?, check.positive("confidence")?);
    let trials = check.parsed::<u64>("trials_per_world")?;
    if confidence >= 1.0 || trials == 0 || trials > MOST_TRIALS {
        return Err(Malformed(format!("confidence {confidence} with {trials} trials is no audit")));
    }
    let canary = 1.0 / sigma_for(claimed, delta) / factor;
    if !canary.is_finite() {
        return Err(Malformed(format!("claimed_eps: {claimed} at delta {delta} needs no noise")));
    }
    let risk = 1.0 - confidence;
    let plain = (0..=THRESHOLD_STEPS).map(|step| {
        let threshold = -2.0 + (canary + 7.0) * f64::from(step) / f64::from(THRESHOLD_STEPS);
        TwoWorlds::expected(Statistic { canary, threshold }, trials).epsilon_at_least(delta, risk)
    });
    let plain = plain.fold(0.0, f64::max);
    // halfway, both errors are equally likely: near the best for a Gaussian curve
    let halfway = TwoWorlds::expected(Statistic { canary, threshold: canary / 2.0 }, trials);
    let gaussian = halfway.gaussian_at_least(risk);
    check.near("expected_eps_lower_bound", SEARCHED, plain)?;
    check.near("expected_eps_lower_bound_gdp", SEARCHED, gaussian.epsilon(delta))
}

/// `one_run_pvalue`: p-values at two epsilons, and the bound at 95 %.
pub fn one_run_pvalue(check: &mut Check<'_>) -> Result<(), Malformed> {
    let delta = check.number("delta")?;
    let run = OneRun {
        canaries: check.parsed("m_canaries")?,
        guesses: check.parsed("r_guesses")?,
        correct: check.parsed("v_correct")?,
    };
    if run.correct > run.guesses || run.guesses > run.canaries || run.canaries > MOST_TRIALS || delta < 0.0 {
        return Err(Malformed(format!("{run:?} at delta {delta} is no run")));
    }
    check.near("p_value_at_eps1", TIGHT, run.p_value(1.0, delta))?;
    check.near("p_value_at_eps3", TIGHT, run.p_value(3.0, delta))?;
    check.near("eps_lower_bound_95", BISECTED, run.epsilon_at_least(delta, 0.05))
}
