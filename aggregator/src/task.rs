//! A task: one TOML file, from which every round's parameters follow. §3
//!
//! What the operator writes stands in [`TaskFile`]; what follows from it in [`Task`]. A file from which no honest round
//! could come is refused here, saying what would be feasible, never when clients are already waiting.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use veilsum_crypto::client::policy::round_charge_of;
use veilsum_crypto::ids::{Digest, TaskId};
use veilsum_crypto::math::ring::RingBits;
use veilsum_crypto::params::{ParamsError, RosterParams, RoundParams, Windows};
use veilsum_crypto::plan::{PlanError, ring_bits_of};
use veilsum_crypto::privacy::accountant::{RdpCurve, RoundingBounds};
use veilsum_crypto::privacy::budget::Budget;
use veilsum_crypto::statistics::{EstimateError, Query, QueryError, SumOf};

mod goal;
pub mod plan;
pub mod query;

pub use query::QueryFile;

/// What an operator writes.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    /// Always "veilsum-task-1".
    pub format: String,
    /// A name; the task's id follows from it.
    pub name: String,
    /// How many rounds.
    pub rounds: u64,
    /// How many clients are asked in; advertising closes as soon as so many came.
    pub invited: u32,
    /// Fewest clients of a roster.
    pub roster_min: u32,
    /// Most clients of a roster.
    pub roster_max: u32,
    /// Fewest clients of a sum; default max(2, roster_min - T(roster_min)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort_min: Option<u32>,
    /// gamma: fraction of a roster that may be corrupt.
    #[serde(default = "defaults::corrupt_fraction")]
    pub corrupt_fraction: f64,
    /// delta: fraction of a roster that may be lost.
    #[serde(default = "defaults::dropout_tolerance")]
    pub dropout_tolerance: f64,
    /// sigma.
    #[serde(default = "defaults::security_bits")]
    pub security_bits: u16,
    /// eta.
    #[serde(default = "defaults::completion_bits")]
    pub completion_bits: u16,
    /// Coordinates of the model. This and the next, the clip norm and the server rate follow from a query, where there is one.
    #[serde(default)]
    pub model_len: u32,
    /// SHA-256 of the model's layout, hexadecimal.
    #[serde(default)]
    pub layout: String,
    /// Largest weight of a client; 0: every client counts the same.
    #[serde(default)]
    pub weight_max: u32,
    /// L2 clip of an update.
    #[serde(default)]
    pub clip_norm: f64,
    /// Integer units per real unit.
    #[serde(default)]
    pub scale: f64,
    /// Guaranteed central noise over the clip norm; 0: none.
    pub noise_multiplier: f64,
    /// One coordinate wraps with probability at most 2^-wrap_bits.
    #[serde(default = "defaults::wrap_bits")]
    pub wrap_bits: u8,
    /// delta of differential privacy.
    #[serde(default = "defaults::dp_delta")]
    pub dp_delta: f64,
    /// What the task may give away in all; rounds that would exceed it do not open.
    pub budget_epsilon: f64,
    /// How long each phase stays open at least, ms: advertise, share, acknowledge, open, mask, confirm, unmask.
    pub windows_ms: [u32; 7],
    /// How long a phase waits after the last message, ms.
    pub grace_ms: u64,
    /// Server rate of the first and of the last round; linear between them.
    #[serde(default = "defaults::no_server_rate")]
    pub server_rate: [f64; 2],
    /// What is asked, where no model is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryFile>,
}

mod defaults {
    pub fn corrupt_fraction() -> f64 {
        0.05
    }
    pub fn dropout_tolerance() -> f64 {
        0.10
    }
    pub fn security_bits() -> u16 {
        80
    }
    pub fn completion_bits() -> u16 {
        30
    }
    pub fn wrap_bits() -> u8 {
        40
    }
    pub fn dp_delta() -> f64 {
        1e-5
    }
    /// No rate at all: refused where a model is trained.
    pub fn no_server_rate() -> [f64; 2] {
        [f64::NAN; 2]
    }
}

/// The only format.
pub const FORMAT: &str = "veilsum-task-1";

/// Why a task file is refused.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// Not TOML of this shape.
    #[error("the task file cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// Made by a program, and no TOML can say it.
    #[error("the task file cannot be written: {0}")]
    Unwritable(#[from] toml::ser::Error),
    /// Another format.
    #[error("format = \"{FORMAT}\" was expected, \"{0}\" came; write the file anew for this version")]
    Format(String),
    /// A value outside its range.
    #[error("{field} must be {expected}; it is {found}")]
    Range {
        /// Which.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// Parameters that do not hold.
    #[error("the task is infeasible: {0}")]
    Params(#[from] ParamsError),
    /// The query cannot be asked.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Its answers would have no intervals.
    #[error(transparent)]
    Estimate(#[from] EstimateError),
    /// A goal in place of noise and scale that is none.
    #[error("{0}")]
    Goal(String),
    /// A goal that nothing keeps.
    #[error("the goal of the task is infeasible: {0}")]
    Plan(#[from] PlanError),
    /// Not even one round fits.
    #[error(
        "one round already costs epsilon {one_round:.3}, above budget_epsilon {budget:.3}; raise the noise or the budget"
    )]
    Budget {
        /// Epsilon of one round.
        one_round: f64,
        /// The budget.
        budget: f64,
    },
}

/// A task whose every permitted roster is feasible.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name in the protocol.
    pub id: TaskId,
    /// What every round's header says.
    pub params: RoundParams,
    /// SHA-256 of the layout.
    pub layout: Digest,
    /// What is asked, where no model is trained.
    pub query: Option<Query>,
    /// What one round costs; `None` without noise.
    pub charge: Option<RdpCurve>,
    /// What all may cost.
    pub budget: Budget,
    /// What the file says.
    pub file: TaskFile,
    /// The file as this program writes it, in TOML: what a store keeps, equal if and only if the files say the same.
    pub text: String,
}

impl TaskFile {
    /// Reads TOML. A goal (`epsilon`) is replaced by the numbers that keep it.
    pub fn parse(text: &str) -> Result<Self, TaskError> {
        let table: toml::Table = toml::from_str(text)?;
        let file = if table.keys().any(|key| goal::KEYS.contains(&key.as_str())) {
            goal::resolve(table)?
        } else {
            toml::from_str(text)? // its errors name the line
        };
        if file.format == FORMAT { Ok(file) } else { Err(TaskError::Format(file.format)) }
    }

    /// The id of a task of this name.
    pub fn id(&self) -> TaskId {
        let hash = Sha256::digest(self.name.as_bytes());
        TaskId(hash[..16].try_into().expect("a SHA-256 value has 32 bytes"))
    }
}

impl Task {
    /// Derives everything, and refuses what could not hold for every permitted roster.
    pub fn new(file: TaskFile) -> Result<Self, TaskError> {
        let (file, query) = query::completed(file)?;
        let layout = Digest::from_hex(&file.layout).ok_or(TaskError::Range {
            field: "layout",
            expected: "64 lower-case hexadecimal digits",
            found: file.layout.clone(),
        })?;
        check_ranges(&file)?;
        let mut params = params_without_ring(&file)?;
        params.check()?;
        params.ring_bits = ring_bits_of(&params)?;
        for n in params.roster_min..=params.roster_max {
            let roster = RosterParams::derive(n, &params)?;
            // The exact sampler's reach, crypto::privacy::skellam.
            let within_reach = roster.share_variance <= 1 << 32;
            let expected = "so small that one share has variance at most 2^32";
            range("noise_multiplier", file.noise_multiplier, within_reach, expected)?;
        }
        query.as_ref().map_or(Ok(()), |query| SumOf::suits(&params, query))?;
        let budget = Budget { epsilon: file.budget_epsilon, delta: file.dp_delta };
        let charge = round_charge_of(&params);
        if let Some(charge) = &charge {
            let one_round = charge.epsilon(file.dp_delta).epsilon;
            if one_round > budget.epsilon {
                return Err(TaskError::Budget { one_round, budget: budget.epsilon });
            }
        }
        Ok(Self { id: file.id(), text: toml::to_string(&file)?, params, layout, query, charge, budget, file })
    }

    /// The server rate of a round, counted from 1: linear from the first to the last.
    pub fn server_rate(&self, counter: u64) -> f64 {
        let [first, last] = self.file.server_rate;
        let steps = self.file.rounds.saturating_sub(1).max(1);
        let done = counter.saturating_sub(1).min(steps);
        first + (last - first) * done as f64 / steps as f64
    }
}

fn range(field: &'static str, found: f64, holds: bool, expected: &'static str) -> Result<(), TaskError> {
    if holds { Ok(()) } else { Err(TaskError::Range { field, expected, found: found.to_string() }) }
}

/// What can be said of each number by itself.
fn check_ranges(file: &TaskFile) -> Result<(), TaskError> {
    range("rounds", file.rounds as f64, file.rounds >= 1, "at least 1")?;
    range("model_len", file.model_len.into(), file.model_len >= 1, "at least 1")?;
    range("invited", file.invited.into(), file.invited >= file.roster_min, "at least roster_min")?;
    range("corrupt_fraction", file.corrupt_fraction, (0.0..1.0).contains(&file.corrupt_fraction), "in [0, 1)")?;
    range("dropout_tolerance", file.dropout_tolerance, (0.0..1.0).contains(&file.dropout_tolerance), "in [0, 1)")?;
    range("clip_norm", file.clip_norm, file.clip_norm > 0.0 && file.clip_norm.is_finite(), "a number above 0")?;
    range(
        "scale",
        file.scale,
        file.scale > 0.0 && file.scale * file.clip_norm <= f64::from(1 << 30),
        "above 0, times clip_norm at most 2^30",
    )?;
    let z = file.noise_multiplier;
    range("noise_multiplier", z, (0.0..=1e6).contains(&z), "from 0 to 10^6")?;
    range("budget_epsilon", file.budget_epsilon, file.budget_epsilon > 0.0, "above 0")?;
    range("dp_delta", file.dp_delta, file.dp_delta > 0.0 && file.dp_delta < 1.0, "above 0 and below 1")?;
    range("grace_ms", file.grace_ms as f64, (1..=86_400_000).contains(&file.grace_ms), "from 1 ms to a day")?;
    for window_ms in file.windows_ms {
        range("windows_ms", window_ms.into(), window_ms > 0, "above 0")?;
    }
    for rate in file.server_rate {
        range("server_rate", rate, (0.0..=1e6).contains(&rate), "from 0 to 1,000,000")?;
    }
    Ok(())
}

/// The header's parameters, in a ring that holds everything.
fn params_without_ring(file: &TaskFile) -> Result<RoundParams, TaskError> {
    let vector_len = file.model_len.saturating_add(u32::from(file.weight_max > 0));
    let bounds = RoundingBounds::new(file.clip_norm * file.scale, vector_len.into(), (-0.5_f64).exp());
    let noise_std = file.noise_multiplier * file.clip_norm * file.scale;
    let mut params = RoundParams {
        vector_len,
        weight_max: file.weight_max,
        ring_bits: RingBits::MAX,
        wrap_bits: file.wrap_bits,
        max_squared_norm: bounds.max_integer_squared_norm,
        scale: file.scale,
        clip_norm: file.clip_norm,
        total_variance: (noise_std * noise_std).ceil() as u64,
        roster_min: file.roster_min,
        roster_max: file.roster_max,
        cohort_min: 2,
        corrupt_fraction: millionths(file.corrupt_fraction),
        dropout_tolerance: millionths(file.dropout_tolerance),
        security_bits: file.security_bits,
        completion_bits: file.completion_bits,
        dp_delta: file.dp_delta,
        windows: Windows(file.windows_ms),
    };
    let by_default = params.roster_min - params.tolerated(params.roster_min);
    params.cohort_min = file.cohort_min.unwrap_or(by_default.max(2));
    Ok(params)
}

/// Millionths, rounded to the nearest.
pub fn millionths(fraction: f64) -> u32 {
    (fraction * 1e6).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> TaskFile {
        TaskFile {
            format: FORMAT.into(),
            name: "test".into(),
            rounds: 12,
            invited: 64,
            roster_min: 32,
            roster_max: 64,
            cohort_min: None,
            corrupt_fraction: 0.05,
            dropout_tolerance: 0.25,
            security_bits: 80,
            completion_bits: 30,
            model_len: 1_862,
            layout: "00".repeat(32),
            weight_max: 0,
            clip_norm: 2.0,
            scale: 165.0,
            noise_multiplier: 4.0,
            wrap_bits: 40,
            dp_delta: 1e-5,
            budget_epsilon: 5.0,
            windows_ms: [500; 7],
            grace_ms: 1_000,
            server_rate: [1.5, 0.3],
            query: None,
        }
    }

    /// every permitted roster is feasible before the first round opens.
    #[test]
    fn a_task_holds_for_every_permitted_roster_or_says_what_would() {
        let task = Task::new(file()).expect("feasible");
        assert_eq!(task.params.cohort_min, 24);
        let tiny = TaskFile { roster_min: 4, invited: 4, ..file() };
        let error = Task::new(tiny).expect_err("n = 4 cannot lose one at gamma 0.05");
        assert!(error.to_string().contains("would be feasible"), "{error}");
    }

    #[test]
    fn a_file_of_another_format_or_with_an_unknown_key_is_refused() {
        let text = toml::to_string(&file()).expect("serialises");
        assert_eq!(TaskFile::parse(&text).expect("as written"), file());
        assert!(matches!(TaskFile::parse(&text.replace("task-1", "task-9")), Err(TaskError::Format(_))));
        assert!(matches!(TaskFile::parse(&format!("{text}\nnoise = 1")), Err(TaskError::Toml(_))));
    }

    #[test]
    fn the_server_rate_falls_linearly() {
        let task = Task::new(file()).expect("feasible");
        assert_eq!(task.server_rate(1), 1.5);
        assert!((task.server_rate(12) - 0.3).abs() < 1e-12);
    }

    #[test]
    fn a_budget_below_one_round_is_refused() {
        let poor = TaskFile { budget_epsilon: 0.1, ..file() };
        assert!(matches!(Task::new(poor), Err(TaskError::Budget { .. })));
    }
}
