//! `veilsum audit noise`: runs the encoder that clients ship, many times, and proves from what comes out how much it gives away at least.
//!
//! Two worlds (Jagielski, Ullman and Oprea 2020; Nasr et al. 2023): a canary client sends nothing, or a vector of the clip norm. One run
//! (Steinke, Nasr and Jagielski 2023): many canaries, each in by a coin. A lower bound on epsilon above what the account claims shows a
//! bug, with the confidence stated. Beside them stand laws that the noise must obey: some bugs cost little epsilon, or none yet.
//! docs/privacy.md, "An audit of the noise"; docs/decisions/0018 says how bugs are planted.

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use veilsum_crypto::math::ring::RingBits;
use veilsum_crypto::params::{RoundParams, Windows};
use veilsum_crypto::plan::{TaskGoal, epsilon_of_rounds, tight_epsilon};

use super::random::Random;
use crate::exit::{Code, Ends as _};
use crate::output::{Output, table};

mod encoder;
mod laws;
#[cfg(test)]
mod planted;
mod worlds;

use encoder::{Encoder, Shipped};

/// Options of `audit noise`.
#[derive(Args)]
pub struct Options {
    /// Epsilon that a round is planned for.
    #[arg(long, default_value_t = 2.0)]
    epsilon: f64,
    /// At which delta.
    #[arg(long, default_value_t = 1e-5)]
    delta: f64,
    /// Runs in each of the two worlds.
    #[arg(long, default_value_t = 100_000)]
    trials: u32,
    /// Canaries of the one run.
    #[arg(long, default_value_t = 2_048)]
    canaries: u32,
    /// With which probability all bounds hold together.
    #[arg(long, default_value_t = 0.99)]
    confidence: f64,
    /// The same run each time, for each number another one; without it, a fresh one.
    #[arg(long)]
    seed: Option<u64>,
}

/// For `--help`.
pub const EXAMPLES: &str = "\
Examples:
  veilsum audit noise
  veilsum audit noise --epsilon 1 --trials 1000000 --confidence 0.999 --json
Some seconds in a release build. Ends with 1 if a lower bound is above the claim, or the noise breaks one of its laws.";

/// What was seen.
#[derive(Serialize)]
struct Report {
    delta: f64,
    confidence: f64,
    bounds: Vec<Bound>,
    laws: Vec<Law>,
    holds: bool,
}

/// A lower bound on epsilon beside what is claimed.
#[derive(Serialize)]
pub struct Bound {
    /// Which audit.
    pub name: &'static str,
    /// What was counted.
    pub seen: String,
    /// Epsilon is at least this, with the confidence stated.
    pub epsilon_at_least: f64,
    /// What ledgers charge.
    pub claim: f64,
    /// The tight account's figure: what a correct encoder cannot exceed.
    pub claim_tight: f64,
}

impl Bound {
    fn holds(&self) -> bool {
        self.epsilon_at_least <= self.claim_tight
    }
}

/// Something that must be so.
#[derive(Serialize)]
pub struct Law {
    /// What.
    pub name: &'static str,
    /// As it must be, and as it is.
    pub seen: String,
    /// Whether it is.
    pub holds: bool,
}

/// Rounds of one kind, and the claim about them.
pub struct Setting {
    /// As a header states them.
    pub params: RoundParams,
    claim: f64,
    claim_tight: f64,
}

impl Setting {
    /// Clients of which a part may be lost and corrupt: the noise of `h` only is there in the worst case that is tolerated.
    fn new(
        clients: u32,
        elements: u32,
        [dropout_tolerance, corrupt_fraction]: [u32; 2],
        options: &Options,
    ) -> Result<Self> {
        let given = RoundParams {
            vector_len: elements,
            weight_max: 0,
            ring_bits: RingBits::MAX,
            wrap_bits: 40,
            max_squared_norm: 1,
            scale: 1.0,
            clip_norm: 1.0,
            total_variance: 0,
            roster_min: clients,
            roster_max: clients,
            cohort_min: 2,
            corrupt_fraction,
            dropout_tolerance,
            security_bits: 80,
            completion_bits: 30,
            dp_delta: options.delta,
            windows: Windows([1; 7]),
        };
        let goal = TaskGoal { rounds: 1, epsilon: options.epsilon, ring_bits: None };
        let params = goal.plan(&given)?.params;
        let claim = epsilon_of_rounds(&params, 1);
        Ok(Self { params, claim, claim_tight: tight_epsilon(&params, 1).unwrap_or(claim) })
    }

    /// Clients whose noise is there when all are lost that may be, and the corrupt add nothing.
    pub fn honest(&self) -> u32 {
        self.params.honest(self.params.roster_max).expect("a plan leaves somebody honest")
    }
}

/// Runs the audit.
pub fn run(options: &Options, output: Output) -> Result<Option<Code>> {
    let report = audit(&Shipped, options).or_usage()?;
    output.give(&report, in_words)?;
    Ok(if report.holds { None } else { Some(Code::Fault) })
}

fn audit(encoder: &impl Encoder, options: &Options) -> Result<Report> {
    ensure!(
        (1_000..=100_000_000).contains(&options.trials),
        "--trials must be from 1000 to 10^8; it is {}",
        options.trials
    );
    ensure!((64..=8_192).contains(&options.canaries), "--canaries must be from 64 to 8192; it is {}", options.canaries);
    let confidence = options.confidence;
    ensure!((0.5..1.0).contains(&confidence), "--confidence must be from 0.5 to below 1; it is {confidence}");
    let mut random = Random::new(options.seed);
    // Four clients, of whom one may be lost and one is corrupt: two shares of noise have to do.
    let few = Setting::new(4, 16, [250_000, 250_000], options)?;
    let many = Setting::new(options.canaries, options.canaries, [0, 0], options)?;
    let risk = (1.0 - confidence) / 3.0;
    let mut bounds = Vec::from(worlds::two_worlds(encoder, &few, options.trials, risk, &mut random)?);
    bounds.push(worlds::one_run(encoder, &many, risk, &mut random)?);
    let laws = laws::all(encoder, &few, &mut random)?;
    let holds = bounds.iter().all(Bound::holds) && laws.iter().all(|law| law.holds);
    Ok(Report { delta: options.delta, confidence, bounds, laws, holds })
}

fn in_words(report: &Report) -> String {
    let verdict = |holds: bool| if holds { "holds" } else { "BROKEN" }.to_string();
    let rows: Vec<Vec<String>> = report
        .bounds
        .iter()
        .map(|bound| {
            let figures = [bound.epsilon_at_least, bound.claim_tight, bound.claim].map(|figure| format!("{figure:.4}"));
            let [least, tight, claim] = figures;
            vec![bound.name.to_string(), least, tight, claim, verdict(bound.holds()), bound.seen.clone()]
        })
        .collect();
    let laws: Vec<Vec<String>> =
        report.laws.iter().map(|law| vec![law.name.to_string(), verdict(law.holds), law.seen.clone()]).collect();
    format!(
        "epsilon at delta {:e}; all lower bounds hold together with confidence {}\n{}\n\n{}\n\n{}",
        report.delta,
        report.confidence,
        table(&["audit", "at least", "tight account", "ledger", "claim", "seen"], &rows),
        table(&["law", "", "seen"], &laws),
        if report.holds { "nothing found" } else { "a claim is broken: do not use this build" }
    )
}
