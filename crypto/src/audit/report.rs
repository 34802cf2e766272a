//! What an audit found: named checks, in order, each with the figures it compared.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::export::{ExportError, Section};

/// Every check, in order, with the section that it is about. docs/protocol.md §9
pub const CHECKS: [(&str, Section); 18] = [
    ("form", Section::Beginning),
    ("header", Section::Header),
    ("revocations", Section::Revocations),
    ("roster", Section::Roster),
    ("leaves", Section::Leaves),
    ("shares", Section::Shares),
    ("acknowledgements", Section::Acknowledgements),
    ("openings", Section::Openings),
    ("core", Section::Core),
    ("uploads", Section::Uploads),
    ("survivors", Section::Survivors),
    ("confirms", Section::Confirms),
    ("result", Section::Result),
    ("evidence", Section::Evidence),
    ("checkpoint", Section::Checkpoint),
    ("growth", Section::Growth),
    ("log", Section::Log),
    ("ledger", Section::Ledger),
];

/// What an audit found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Report {
    /// All of [`CHECKS`], in order.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Clone, PartialEq, Debug)]
pub struct Check {
    /// One of [`CHECKS`].
    pub name: &'static str,
    /// What it is about, or, where it failed, the section that holds what is wrong.
    pub section: Section,
    /// How it ended.
    pub outcome: Outcome,
    /// What was compared or found.
    pub figures: Vec<(&'static str, Value)>,
}

/// How a check ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// The round did not come so far; nothing is shown, and nothing need be.
    NothingToCheck,
    /// It does not hold.
    Failed(String),
    /// An earlier one failed.
    NotReached,
}

/// A figure.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A count or an index.
    Number(u64),
    /// A real number.
    Real(f64),
    /// An id, a digest or a word.
    Text(String),
}

impl Report {
    /// The first check that failed.
    pub fn failure(&self) -> Option<&Check> {
        self.checks.iter().find(|check| matches!(check.outcome, Outcome::Failed(_)))
    }

    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.failure().is_none() && !self.checks.is_empty()
    }

    /// A figure of one check.
    pub fn figure(&self, check: &str, name: &str) -> Option<&Value> {
        let check = self.checks.iter().find(|it| it.name == check)?;
        check.figures.iter().find(|(it, _)| *it == name).map(|(_, value)| value)
    }

    /// Runs the next check; `None` if it fails, and then every later one is not reached.
    pub(super) fn check<T>(
        &mut self,
        judge: impl FnOnce(&mut Figures) -> Result<Option<T>, ExportError>,
    ) -> Option<Option<T>> {
        let (name, section) = CHECKS[self.checks.len()];
        let mut figures = Figures::default();
        let (section, outcome, found) = match judge(&mut figures) {
            Ok(Some(found)) => (section, Outcome::Passed, Some(Some(found))),
            Ok(None) => (section, Outcome::NothingToCheck, Some(None)),
            Err(ExportError { section, why }) => (section, Outcome::Failed(why), None),
        };
        let failed = found.is_none();
        self.checks.push(Check { name, section, outcome, figures: figures.0 });
        if failed {
            self.skip_the_rest();
        }
        found
    }

    fn skip_the_rest(&mut self) {
        let rest = CHECKS[self.checks.len()..].iter();
        self.checks.extend(rest.map(|(name, section)| Check {
            name,
            section: *section,
            outcome: Outcome::NotReached,
            figures: Vec::new(),
        }));
    }
}

/// The figures of the check under way.
#[derive(Default)]
pub(super) struct Figures(Vec<(&'static str, Value)>);

impl Figures {
    pub fn number(&mut self, name: &'static str, value: impl TryInto<u64>) {
        self.0.push((name, Value::Number(value.try_into().unwrap_or(u64::MAX))));
    }
    pub fn real(&mut self, name: &'static str, value: f64) {
        self.0.push((name, Value::Real(value)));
    }
    pub fn text(&mut self, name: &'static str, value: impl ToString) {
        self.0.push((name, Value::Text(value.to_string())));
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number}"),
            Value::Real(real) if real.abs() < 1e-3 && *real != 0.0 => write!(f, "{real:e}"),
            Value::Real(real) => write!(f, "{real:.4}"),
            Value::Text(text) => f.write_str(text),
        }
    }
}

/// One line a check, its figures beside it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let word = match &check.outcome {
                Outcome::Passed => "ok",
                Outcome::NothingToCheck => "none",
                Outcome::Failed(_) => "FAILED",
                Outcome::NotReached => "not reached",
            };
            write!(f, "{:<17}{word:<12}", check.name)?;
            for (at, (name, value)) in check.figures.iter().enumerate() {
                write!(f, "{}{name} {value}", if at == 0 { "" } else { ", " })?;
            }
            if let Outcome::Failed(why) = &check.outcome {
                write!(f, "{}in section {}: {why}", if check.figures.is_empty() { "" } else { "; " }, check.section)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
