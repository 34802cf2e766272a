//! `veilsum audit tables DIR`: every reference table in DIR against this build's own code.
//!
//! In come CSV files of the shared format (`tests/reference/privacy/README.md`): a header line, then rows, an `id` first where there
//! is one. The kind of a table is its file name without `.csv`, `_public` or `_heldout`. Each row is computed anew from its
//! input columns, and fails if any column listed for its kind is further away than that kind's tolerance. Out goes a line
//! for each table, or one JSON object; the exit code is 1 if a row failed, else 2 if a table is of no known kind.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

mod arithmetic;
pub(super) mod check;
pub(super) mod csv;
pub(super) mod distributed;
mod empirical;
mod gaussian;
mod graph;
pub(super) mod plans;
mod samplers;
#[cfg(test)]
mod tests;

use check::{Check, Checker, Outcome};
use csv::Table;

use crate::exit::{Code, Ends as _};
use crate::output::Output;

/// Options of `audit tables`.
#[derive(Args)]
pub struct Options {
    /// The folder with the tables.
    dir: PathBuf,
    /// Also rerun the mean-estimation experiment and compare its error: about a minute in a release build.
    #[arg(long)]
    simulate: bool,
}

/// For `--help`.
pub const EXAMPLES: &str = "\
Examples:
  veilsum audit tables tests/reference/privacy
  veilsum audit tables other-tables --json
  veilsum audit tables tests/reference/privacy --simulate
Ends with 1 if a row failed, else with 2 if a table is of no known kind.";

/// The kinds of tables, and what checks their rows.
fn checker(kind: &str, simulate: bool) -> Option<Checker> {
    Some(match kind {
        "gaussian" => Checker::Rows(gaussian::gaussian),
        "analytic_gaussian" => Checker::Rows(gaussian::analytic_gaussian),
        "discrete_gaussian" => Checker::Rows(gaussian::discrete_gaussian),
        "discrete_gaussian_rdp" => Checker::Rows(gaussian::discrete_gaussian_rdp),
        "zcdp" => Checker::Rows(gaussian::zcdp),
        "rounding" => Checker::Rows(distributed::rounding),
        "convolution_closeness" => Checker::Rows(distributed::convolution_closeness),
        "distributed_bounds" => Checker::Rows(distributed::distributed_bounds),
        "distributed_exact" => Checker::Rows(distributed::distributed_exact),
        "distributed_exact_delta" => Checker::Rows(distributed::distributed_exact_delta),
        "params" => Checker::Rows(plans::params),
        "mean_estimation_reference" if simulate => Checker::Rows(plans::mean_estimation_simulated),
        "mean_estimation_reference" => Checker::Rows(plans::mean_estimation),
        "dropout_degradation" => Checker::Rows(plans::dropout_degradation),
        "ledger" => Checker::Rows(plans::ledger),
        "xnoise" => Checker::Rows(arithmetic::xnoise),
        "adaptive_clipping" => Checker::Rows(arithmetic::adaptive_clipping),
        "audit_power" => Checker::Rows(empirical::audit_power),
        "one_run_pvalue" => Checker::Rows(empirical::one_run_pvalue),
        "sampler_pmf" => Checker::Table(samplers::sampler_pmf),
        "sampler_moments" => Checker::Table(samplers::sampler_moments),
        "graph_params" | "graph_params_protocol" => Checker::Rows(graph::graph_params),
        "matrix_factorization" => Checker::Skipped("correlated noise is no part of suite 1"),
        _ => return None,
    })
}

/// What was found in one table.
#[derive(Serialize)]
struct Report {
    name: String,
    /// Rows that were checked.
    rows: usize,
    failed: usize,
    /// Rows in which nothing is checked.
    skipped: usize,
    /// The largest error of a number, relative or absolute as its tolerance is.
    worst: f64,
    /// The id of the first row that failed.
    first_failure: Option<String>,
    /// For people: why a table was not checked, and what failed.
    #[serde(skip)]
    remarks: Vec<String>,
    #[serde(skip)]
    unknown: bool,
}

/// Checks all tables. No code: every row of every table holds.
pub fn run(options: &Options, output: Output) -> Result<Option<Code>> {
    let files = tables_in(&options.dir).or_usage()?;
    let target = match output {
        Output::Words => ProgressDrawTarget::stderr(),
        Output::Json => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    bar.set_style(ProgressStyle::with_template("{msg:<32} {bar:32} {pos}/{len}  {elapsed}").expect("a fixed template"));
    let mut reports = Vec::new();
    for file in files {
        let report = check_table(&file, options.simulate, &bar)?;
        if output == Output::Words {
            bar.suspend(|| print_report(&report, reports.is_empty()));
        }
        reports.push(report);
    }
    bar.finish_and_clear();
    if output == Output::Json {
        println!("{}", serde_json::json!({ "tables": reports }));
    }
    Ok(if reports.iter().any(|report| report.failed > 0) {
        Some(Code::Fault)
    } else if reports.iter().any(|report| report.unknown) {
        Some(Code::Usage)
    } else {
        None
    })
}

/// The tables of a folder, by name.
fn tables_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = dir.read_dir().with_context(|| format!("the folder {} cannot be read", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "csv") && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{} holds no table; a folder of files whose names end in .csv was expected", dir.display());
    }
    files.sort();
    Ok(files)
}

fn check_table(file: &Path, simulate: bool, bar: &ProgressBar) -> Result<Report> {
    let name = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let text = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let table = Table::read(&String::from_utf8_lossy(&text));
    Ok(check(name, &table, simulate, bar))
}

fn check(name: String, table: &Table, simulate: bool, bar: &ProgressBar) -> Report {
    let mut report = Report {
        name,
        rows: 0,
        failed: 0,
        skipped: 0,
        worst: 0.0,
        first_failure: None,
        remarks: vec![],
        unknown: false,
    };
    let kind = report.name.trim_end_matches("_public").trim_end_matches("_heldout").to_string();
    bar.set_message(report.name.clone());
    bar.set_length(table.rows.len() as u64);
    bar.set_position(0);
    match checker(&kind, simulate) {
        None => {
            report.unknown = true;
            report.skipped = table.rows.len();
            report.remarks.push(format!("not checked: no table of kind {kind} is known"));
        }
        Some(Checker::Skipped(why)) => {
            report.skipped = table.rows.len();
            report.remarks.push(format!("skipped: {why}"));
        }
        Some(Checker::Table(check_table)) => check_table(table, bar).iter().for_each(|outcome| report.add(outcome)),
        Some(Checker::Rows(check_row)) => {
            for row in &table.rows {
                report.add(&Check::row(&table.header, row, check_row));
                bar.inc(1);
            }
        }
    }
    if !report.unknown && table.rows.is_empty() {
        report.fail("line 2", "a table has a header line and at least one row");
    }
    for id in table.missing_ids() {
        report.fail(&id, "the row is missing");
    }
    report
}

impl Report {
    fn add(&mut self, outcome: &Outcome) {
        self.worst = self.worst.max(outcome.worst);
        if outcome.failures.is_empty() && outcome.compared == 0 {
            self.skipped += 1;
            return;
        }
        self.rows += 1;
        if !outcome.failures.is_empty() {
            self.fail(&outcome.id, &outcome.failures.join("; "));
        }
    }

    fn fail(&mut self, id: &str, why: &str) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| id.to_string());
        self.remarks.push(format!("{id}: {why}"));
    }
}

/// Failures told in full; the others are only counted.
const REMARKS_SHOWN: usize = 5;

fn print_report(report: &Report, first: bool) {
    if first {
        println!("{:<38} {:>6} {:>6} {:>7} {:>9}  first failure", "table", "rows", "failed", "skipped", "worst");
    }
    let Report { name, rows, failed, skipped, worst, .. } = report;
    let first_failure = report.first_failure.as_deref().unwrap_or("-");
    println!("{name:<38} {rows:>6} {failed:>6} {skipped:>7} {worst:>9.1e}  {first_failure}");
    for remark in report.remarks.iter().take(REMARKS_SHOWN) {
        println!("  {remark}");
    }
    if report.remarks.len() > REMARKS_SHOWN {
        println!("  and {} more", report.remarks.len() - REMARKS_SHOWN);
    }
}
