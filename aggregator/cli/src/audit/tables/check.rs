//! One row under check: its cells as numbers, and what was computed compared with what stands there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use indicatif::ProgressBar;

use super::csv::{Row, Table};

/// How a kind of table is checked.
pub enum Checker {
    /// Each row for itself.
    Rows(CheckRow),
    /// All rows together, in their order.
    Table(CheckTable),
    /// Not at all, and why.
    Skipped(&'static str),
}

/// Computes a row anew and compares. An error means that the row cannot be computed from its cells.
pub type CheckRow = fn(&mut Check<'_>) -> Result<(), Malformed>;

/// The same for rows that only make sense together: an outcome for each. It moves the bar on.
pub type CheckTable = fn(&Table, &ProgressBar) -> Vec<Outcome>;

/// Why a row cannot be checked.
#[derive(Debug)]
pub struct Malformed(pub String);

/// What became of a row.
pub struct Outcome {
    /// The row.
    pub id: String,
    /// Cells that were compared.
    pub compared: usize,
    /// The largest error among them.
    pub worst: f64,
    /// What was wrong; empty if nothing.
    pub failures: Vec<String>,
}

/// How far apart two numbers may be.
#[derive(Clone, Copy)]
pub enum Tolerance {
    /// Their difference, over the size of what stands in the table.
    Relative(f64),
    /// Their difference.
    Absolute(f64),
}

/// A row, and what was found in it so far.
pub struct Check<'a> {
    header: &'a [String],
    row: &'a Row,
    outcome: Outcome,
}

impl<'a> Check<'a> {
    /// Checks a row.
    pub fn row(header: &'a [String], row: &'a Row, check_row: CheckRow) -> Outcome {
        Self::row_with(header, row, check_row)
    }

    /// The same, by a closure.
    pub fn row_with(
        header: &'a [String],
        row: &'a Row,
        check_row: impl FnOnce(&mut Self) -> Result<(), Malformed>,
    ) -> Outcome {
        let outcome = Outcome { id: row.id.clone(), compared: 0, worst: 0.0, failures: vec![] };
        let mut check = Self { header, row, outcome };
        if row.cells.len() != header.len() {
            let problem = format!("{} cells where the header has {}", row.cells.len(), header.len());
            check.outcome.failures.push(problem);
            return check.outcome;
        }
        // Whatever a file holds, the next row is checked too. The message of the panic is on stderr.
        match catch_unwind(AssertUnwindSafe(|| check_row(&mut check))) {
            Ok(Ok(())) => {}
            Ok(Err(Malformed(problem))) => check.outcome.failures.push(problem),
            Err(_) => check.outcome.failures.push("the computation broke off".to_string()),
        }
        check.outcome
    }

    /// The text of a cell.
    pub fn text(&self, column: &str) -> Result<&'a str, Malformed> {
        let at = self.header.iter().position(|name| name == column);
        at.map(|at| self.row.cells[at].as_str()).ok_or_else(|| Malformed(format!("there is no column {column}")))
    }

    /// The number in a cell.
    pub fn parsed<T: FromStr>(&self, column: &str) -> Result<T, Malformed> {
        let text = self.text(column)?;
        text.parse().map_err(|_| Malformed(format!("{column}: {text:?} is no {}", std::any::type_name::<T>())))
    }

    /// The number in a cell, finite.
    pub fn number(&self, column: &str) -> Result<f64, Malformed> {
        let number: f64 = self.parsed(column)?;
        if number.is_finite() { Ok(number) } else { Err(Malformed(format!("{column}: {number} is not finite"))) }
    }

    /// The number in a cell, finite and above zero.
    pub fn positive(&self, column: &str) -> Result<f64, Malformed> {
        let number = self.number(column)?;
        if number > 0.0 { Ok(number) } else { Err(Malformed(format!("{column}: {number} is not above zero"))) }
    }

    /// Compares a number with its cell.
    pub fn near(&mut self, column: &str, tolerance: Tolerance, got: f64) -> Result<(), Malformed> {
        let expected: f64 = self.parsed(column)?;
        self.compare(column, tolerance, got, expected);
        Ok(())
    }

    /// Compares numbers with a cell that lists them; an empty cell lists none.
    pub fn near_each(
        &mut self,
        column: &str,
        separator: char,
        tolerance: Tolerance,
        got: &[f64],
    ) -> Result<(), Malformed> {
        let text = self.text(column)?;
        let expected: Vec<&str> = if text.is_empty() { vec![] } else { text.split(separator).collect() };
        self.outcome.compared += 1;
        if expected.len() != got.len() {
            let problem = format!("{column}: {} were computed, {} stand there", got.len(), expected.len());
            self.outcome.failures.push(problem);
        }
        for (&got, expected) in got.iter().zip(expected) {
            let expected = expected.parse().map_err(|_| Malformed(format!("{column}: {expected:?} is no number")))?;
            self.compare(column, tolerance, got, expected);
        }
        Ok(())
    }

    fn compare(&mut self, column: &str, tolerance: Tolerance, got: f64, expected: f64) {
        let (error, allowed) = match tolerance {
            // what underflows to zero on one side is equal on both
            Tolerance::Relative(allowed) if (got - expected).abs() > 1e-307 => {
                ((got - expected).abs() / expected.abs(), allowed)
            }
            Tolerance::Absolute(allowed) if got != expected => ((got - expected).abs(), allowed),
            Tolerance::Relative(allowed) | Tolerance::Absolute(allowed) => (0.0, allowed),
        };
        let error = if got.is_nan() || expected.is_nan() { f64::INFINITY } else { error };
        self.outcome.compared += 1;
        self.outcome.worst = self.outcome.worst.max(error.min(f64::MAX)); // JSON has no infinity
        if error > allowed {
            self.outcome.failures.push(format!("{column}: {got:e} was computed, {expected:e} stands there"));
        }
    }

    /// Compares a bound with the exact value in a cell, which it must not fall below by more than `relative`.
    pub fn bounds(&mut self, column: &str, relative: f64, bound: f64) -> Result<(), Malformed> {
        let exact = self.number(column)?;
        self.outcome.compared += 1;
        let below = ((exact - bound) / exact.abs()).max(0.0); // no number where the bound is none
        let holds = bound >= exact || (bound < exact && below <= relative);
        self.outcome.worst = self.outcome.worst.max(if holds || below.is_finite() { below } else { f64::MAX });
        if !holds {
            self.outcome.failures.push(format!("{column}: the bound {bound:e} is below the exact value {exact:e}"));
        }
        Ok(())
    }

    /// Compares a word, or a number that must be met exactly.
    pub fn equal<T: FromStr + PartialEq + std::fmt::Display>(&mut self, column: &str, got: T) -> Result<(), Malformed> {
        let expected: T = self.parsed(column)?;
        self.same(column, got == expected, &got, &expected);
        Ok(())
    }

    /// Takes down a comparison that was made elsewhere.
    pub fn same(&mut self, column: &str, same: bool, got: &dyn std::fmt::Display, expected: &dyn std::fmt::Display) {
        self.outcome.compared += 1;
        if !same {
            self.outcome.worst = self.outcome.worst.max(1.0);
            self.outcome.failures.push(format!("{column}: {got} was computed, {expected} stands there"));
        }
    }

    /// Compares a figure of draws with its cell, within `allowed`. Chance does not count as an error.
    pub fn statistic(&mut self, column: &str, allowed: f64, got: f64) -> Result<(), Malformed> {
        let expected = self.number(column)?;
        self.sampled();
        if (got - expected).abs() > allowed {
            let problem = format!("{column}: {got:e} was drawn, {expected:e} within {allowed:e} stands there");
            self.outcome.failures.push(problem);
        }
        Ok(())
    }

    /// Takes down that the row is compared with draws.
    pub fn sampled(&mut self) {
        self.outcome.compared += 1;
    }

    /// Sees that a cell which does not apply is empty.
    pub fn empty(&mut self, column: &str) -> Result<(), Malformed> {
        let text = self.text(column)?;
        if !text.is_empty() {
            self.outcome.failures.push(format!("{column}: {text:?} stands where no value applies"));
        }
        Ok(())
    }
}
