//! `veilsum audit mean-estimation TABLE`: reruns every cell of the published experiment and prints its error beside that of
//! the reference and that of central Gaussian noise. With `--tight` a fourth column: what Skellam noise achieves under the
//! account of this project.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use veilsum_crypto::privacy::gaussian::sigma_for;
use veilsum_crypto::privacy::solver::{Account, Goal, Mechanism};

use super::experiment::Measured;
use super::random::Random;
use super::tables::check::{Check, Malformed};
use super::tables::csv::Table;
use super::tables::distributed::table_orders;
use super::tables::plans::{Experiment, agrees};
use crate::exit::{Code, Ends as _};
use crate::output::Output;

/// Options of `audit mean-estimation`.
#[derive(Args)]
pub struct Options {
    /// The table of cells: mean_estimation_reference_public.csv, or one like it.
    table: PathBuf,
    /// Run the Skellam cells once more with the noise that the tight account asks for.
    #[arg(long)]
    tight: bool,
    /// The same data and noise each time, for each number another run; without it, fresh ones.
    #[arg(long)]
    seed: Option<u64>,
}

/// For `--help`.
pub const EXAMPLES: &str = "\
Example:
  veilsum audit mean-estimation tests/reference/privacy/mean_estimation_reference_public.csv --tight
Takes about a minute in a release build. Ends with 1 if a cell is further from the reference than chance explains.";

/// What became of a cell.
#[derive(Serialize)]
struct Line {
    id: String,
    mechanism: &'static str,
    clients: u32,
    bits: u8,
    /// k: standard deviations that fit the ring.
    deviations: f64,
    epsilon: f64,
    mse: f64,
    standard_error: f64,
    mse_reference: f64,
    mse_planned: f64,
    mse_central_gaussian: f64,
    /// With the tight account, where asked for.
    mse_tight: Option<f64>,
    agrees: bool,
}

/// Runs all cells.
pub fn run(options: &Options, output: Output) -> Result<Option<Code>> {
    let text = std::fs::read_to_string(&options.table)
        .with_context(|| format!("{} cannot be read", options.table.display()))
        .or_usage()?;
    let table = Table::read(&text);
    let target = if output == Output::Words { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(table.rows.len() as u64), target);
    let mut random = Random::new(options.seed);
    let mut lines = Vec::new();
    for row in &table.rows {
        let mut line = None;
        let outcome = Check::row_with(&table.header, row, |check| {
            line = Some(run_cell(&row.id, check, options.tight, &mut random)?);
            Ok(())
        });
        let line = line.ok_or_else(|| anyhow!("{}: {}", row.id, outcome.failures.join("; "))).or_usage()?;
        bar.suspend(|| output.say(&in_words(&line, lines.is_empty())));
        lines.push(line);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if output == Output::Json {
        output.give(&serde_json::json!({ "cells": lines }), |_| String::new())?;
    }
    Ok(if lines.iter().all(|line| line.agrees) { None } else { Some(Code::Fault) })
}

fn run_cell(id: &str, check: &mut Check<'_>, tight: bool, random: &mut Random) -> Result<Line, Malformed> {
    let orders = table_orders();
    let experiment = Experiment::read(check, &orders)?;
    let Experiment { goal, ring, .. } = experiment;
    let plan = experiment.solve()?;
    let measured = experiment.measure(plan, random)?;
    let planned = goal.mean_squared_error(&plan);
    let reference = Measured { mse: check.positive("mse_mean")?, standard_error: check.positive("mse_stderr")? };
    let tight = if tight && goal.mechanism == Mechanism::Skellam {
        let tight = Experiment { goal: Goal { account: Account::Gaussian, ..goal }, ..experiment };
        Some(tight.measure(tight.solve()?, random)?.mse)
    } else {
        None
    };
    Ok(Line {
        id: id.to_string(),
        mechanism: match goal.mechanism {
            Mechanism::Skellam => "skellam",
            Mechanism::DiscreteGaussian => "ddgauss",
        },
        clients: goal.clients as u32,
        bits: ring.bits,
        deviations: ring.deviations,
        epsilon: goal.epsilon,
        mse: measured.mse,
        standard_error: measured.standard_error,
        mse_reference: reference.mse,
        mse_planned: planned,
        mse_central_gaussian: (sigma_for(goal.epsilon, goal.delta) * goal.clip_norm / goal.clients as f64).powi(2),
        mse_tight: tight,
        agrees: agrees(&measured, &reference, planned),
    })
}

fn in_words(line: &Line, first: bool) -> String {
    let heading = "noise       n  bits  k  epsilon  this build            reference   planned     central     tight\n";
    let Line { mechanism, clients, bits, deviations, epsilon, mse, standard_error, .. } = line;
    let Line { mse_reference, mse_planned, mse_central_gaussian, .. } = line;
    let tight = line.mse_tight.map_or_else(String::new, |mse| format!("{mse:.3e}"));
    let mark = if line.agrees { "" } else { "  <- differs" };
    let cells = format!(
        "{mechanism:<8} {clients:>5} {bits:>4} {deviations:>3} {epsilon:>8}  {mse:.3e} +- {standard_error:.1e}  \
         {mse_reference:.3e}   {mse_planned:.3e}   {mse_central_gaussian:.3e}   {tight}"
    );
    format!("{}{}{mark}", if first { heading } else { "" }, cells.trim_end())
}
