//! The query of a task file, and estimates as they are printed. docs/statistics.md
//!
//! A file with a `[query]` asks for a statistic instead of a model. Length, layout and clip norm of its vectors follow from the
//! query, and a scale too unless the file has one; what the file says otherwise is refused.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use veilsum_crypto::ids::Digest;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::statistics::query::{Proposal, Range};
use veilsum_crypto::statistics::{Estimate, EstimateError, Figure, Kind, Outside, Query, SumOf};

use super::{TaskError, TaskFile};

/// What an operator writes below `[query]`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct QueryFile {
    /// sum, mean, histogram, quantile or heavy-hitters.
    pub kind: String,
    /// Least value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lo: Option<f64>,
    /// Largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hi: Option<f64>,
    /// Of a histogram or a quantile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bins: Option<u32>,
    /// Which quantile; 0.5 is the median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// Of heavy hitters: every entry that is counted, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Vec<String>>,
    /// Of heavy hitters: how often an entry occurs at least to be told; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<u64>,
    /// Most records of one client.
    #[serde(default = "defaults::records_max")]
    pub records_max: u32,
    /// "refuse", or "clamp" values to the nearest end of the range.
    #[serde(default = "defaults::outside")]
    pub outside: String,
    /// Confidence of all intervals together.
    #[serde(default = "defaults::level")]
    pub level: f64,
}

mod defaults {
    pub fn records_max() -> u32 {
        1
    }
    pub fn outside() -> String {
        "refuse".into()
    }
    pub fn level() -> f64 {
        0.95
    }
}

impl QueryFile {
    /// The query that it means.
    ///
    /// # Errors
    /// [`TaskError::Range`] and [`TaskError::Query`], with what would be accepted.
    pub fn query(&self) -> Result<Query, TaskError> {
        let kind = self.kind.as_str();
        let only = |field, given: bool, kinds: &[&str], words| {
            let found = || format!("given, and kind is \"{kind}\"");
            if !given || kinds.contains(&kind) { Ok(()) } else { Err(refused(field, words, found())) }
        };
        let numbers = ["sum", "mean", "histogram", "quantile"];
        if !numbers.contains(&kind) && kind != "heavy-hitters" {
            let expected = "\"sum\", \"mean\", \"histogram\", \"quantile\" or \"heavy-hitters\"";
            return Err(refused("kind", expected, format!("\"{kind}\"")));
        }
        only("lo", self.lo.is_some(), &numbers, "left out where records are no numbers")?;
        only("hi", self.hi.is_some(), &numbers, "left out where records are no numbers")?;
        only("bins", self.bins.is_some(), &["histogram", "quantile"], "left out but for histogram and quantile")?;
        only("quantile", self.quantile.is_some(), &["quantile"], "left out but for quantile")?;
        only("domain", self.domain.is_some(), &["heavy-hitters"], "left out but for heavy-hitters")?;
        only("least", self.least.is_some(), &["heavy-hitters"], "left out but for heavy-hitters")?;
        let range = || Ok::<_, TaskError>(Range { lo: needed("lo", self.lo)?, hi: needed("hi", self.hi)? });
        let kind = match kind {
            "sum" => Kind::Sum(range()?),
            "mean" => Kind::Mean(range()?),
            "histogram" => Kind::Histogram(range()?, needed("bins", self.bins)?),
            "quantile" => Kind::Quantile {
                range: range()?,
                bins: needed("bins", self.bins)?,
                q: needed("quantile", self.quantile)?,
            },
            _ => {
                let mut domain = needed("domain", self.domain.clone())?;
                domain.sort();
                Kind::HeavyHitters { domain, least: self.least.unwrap_or(1) }
            }
        };
        let outside = match self.outside.as_str() {
            "refuse" => Outside::Refuse,
            "clamp" => Outside::Clamp,
            other => return Err(refused("outside", "\"refuse\" or \"clamp\"", format!("\"{other}\""))),
        };
        Ok(Query::new(Proposal { kind, records_max: self.records_max, outside, level: self.level })?)
    }
}

fn refused(field: &'static str, expected: &'static str, found: String) -> TaskError {
    TaskError::Range { field, expected, found }
}

fn needed<V>(field: &'static str, value: Option<V>) -> Result<V, TaskError> {
    value.ok_or_else(|| refused(field, "given for a query of this kind", "absent".into()))
}

/// SHA-256 of the query's text: what headers name.
pub fn digest(query: &Query) -> Digest {
    Digest(Sha256::digest(query.text()).into())
}

/// The file with all that follows from its query.
pub(super) fn completed(mut file: TaskFile) -> Result<(TaskFile, Option<Query>), TaskError> {
    let Some(query) = file.query.as_ref().map(QueryFile::query).transpose()? else { return Ok((file, None)) };
    let layout = digest(&query).to_string();
    let follows = |field, is_so: bool, found: String| {
        if is_so { Ok(()) } else { Err(refused(field, "left out: it follows from the query", found)) }
    };
    follows("model_len", [0, query.vector_len()].contains(&file.model_len), file.model_len.to_string())?;
    follows("layout", file.layout.is_empty() || file.layout == layout, file.layout.clone())?;
    follows("clip_norm", [0.0, query.clip_norm()].contains(&file.clip_norm), file.clip_norm.to_string())?;
    follows("weight_max", file.weight_max == 0, file.weight_max.to_string())?;
    let is_absent = file.server_rate.iter().all(|rate| rate.is_nan() || *rate == 0.0);
    follows("server_rate", is_absent, format!("{:?}", file.server_rate))?;
    file.model_len = query.vector_len();
    file.layout = layout;
    file.clip_norm = query.clip_norm();
    file.server_rate = [0.0; 2];
    if file.scale == 0.0 {
        file.scale = query.default_scale();
    }
    Ok((file, Some(query)))
}

/// A query and what a round told of it, for people and programs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Answer {
    kind: &'static str,
    query: String,
    clients: u32,
    level: f64,
    figures: Vec<AnswerFigure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<AnswerThreshold>,
}

/// One figure with its interval.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AnswerFigure {
    /// What it is of: the kind, a bin, an entry of the domain.
    pub of: String,
    /// The estimate.
    pub estimate: Option<f64>,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct AnswerThreshold {
    told_above: f64,
    none_missing_above: f64,
}

impl Answer {
    /// Of a released sum.
    ///
    /// # Errors
    /// [`EstimateError`].
    pub fn of(query: &Query, sum: &RingVector, of: SumOf<'_>) -> Result<Self, EstimateError> {
        let estimate = Estimate::of(query, sum, of)?;
        let figure = |&Figure { cell, value, low, high }: &Figure| AnswerFigure {
            of: figure_name(query, cell),
            estimate: value,
            low,
            high,
        };
        Ok(Self {
            kind: query.kind().word(),
            query: query.in_words(),
            clients: estimate.clients,
            level: estimate.level,
            figures: estimate.figures.iter().map(figure).collect(),
            threshold: estimate.threshold.map(|threshold| AnswerThreshold {
                told_above: threshold.count,
                none_missing_above: threshold.all_above,
            }),
        })
    }

    /// What was told.
    pub fn figures(&self) -> &[AnswerFigure] {
        &self.figures
    }
}

/// What a figure is of: the kind, a bin, an entry of the domain.
pub fn figure_name(query: &Query, cell: u32) -> String {
    match query.kind() {
        Kind::Histogram(range, bins) => {
            let end = if cell + 1 == *bins { ']' } else { ')' };
            format!("[{}, {}{end}", range.edge(cell, *bins), range.edge(cell + 1, *bins))
        }
        Kind::HeavyHitters { domain, .. } => domain[cell as usize].clone(),
        Kind::Quantile { q, .. } => format!("quantile {q}"),
        kind => kind.word().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::round::learn;
    use crate::task::Task;

    const QUERY: &str = r#"
format = "veilsum-task-1"
name = "ages"
rounds = 1
invited = 24
roster_min = 16
roster_max = 24
noise_multiplier = 4.0
budget_epsilon = 3.0
windows_ms = [500, 500, 500, 500, 500, 500, 500]
grace_ms = 1000
[query]
kind = "histogram"
lo = 0
hi = 120
bins = 12
"#;

    fn task(text: &str) -> Result<Task, TaskError> {
        Task::new(TaskFile::parse(text)?)
    }

    fn refused(from: &str, to: &str) -> String {
        assert!(QUERY.contains(from), "{from}");
        task(&QUERY.replace(from, to)).err().map(|error| error.to_string()).expect(to)
    }

    #[test]
    fn what_follows_from_the_query_is_filled_in() {
        let made = task(QUERY).expect("feasible");
        let query = made.query.as_ref().expect("it asks one");
        assert_eq!((made.params.vector_len, made.params.clip_norm, made.params.scale), (12, 1.0, 1024.0));
        assert_eq!(made.layout, digest(query));
        assert_eq!(learn::first_model(&made), query.text().into_bytes());
        assert!(learn::is_first_model(&made, &learn::zeros(12)).is_err());
        assert_eq!(task(&made.text).expect("as it was kept").text, made.text);
    }

    /// Bad input is refused with what would be accepted.
    #[test]
    fn what_contradicts_the_query_or_itself_is_refused() {
        for (from, to, words) in [
            ("hi = 120", "hi = 0", "hi must be above lo"),
            ("hi = 120", "", "hi must be given"),
            ("bins = 12", "bins = 0", "bins must be from 1 to 65536; it is 0"),
            ("bins = 12", "", "bins must be given"),
            ("bins = 12", "bins = 12\nquantile = 0.5", "quantile must be left out but for quantile"),
            ("\"histogram\"", "\"median\"", "\"sum\", \"mean\", \"histogram\", \"quantile\" or \"heavy-hitters\""),
            ("\"histogram\"", "\"heavy-hitters\"", "lo must be left out"),
            ("\"histogram\"", "\"quantile\"", "quantile must be given"),
            ("\"histogram\"", "\"sum\"", "bins must be left out"),
            ("bins = 12", "bins = 12\noutside = \"wrap\"", "\"refuse\" or \"clamp\""),
            ("bins = 12", "bins = 12\nlevel = 1.0", "level must be from 0.5"),
            ("bins = 12", "bins = 12\nrecords_max = 0", "records_max must be from 1"),
            ("grace_ms", "model_len = 11\ngrace_ms", "model_len must be left out"),
            ("grace_ms", "weight_max = 3\ngrace_ms", "weight_max must be left out"),
            ("grace_ms", "clip_norm = 2.0\ngrace_ms", "clip_norm must be left out"),
            ("grace_ms", "server_rate = [1.0, 1.0]\ngrace_ms", "server_rate must be left out"),
            ("grace_ms", "scale = 2.5\ngrace_ms", "scale must be a whole number"),
            ("grace_ms", "wrap_bits = 4\ngrace_ms", "raise wrap_bits"),
            ("budget_epsilon = 3.0", "budget_epsilon = 0.5", "raise the noise or the budget"),
            ("budget_epsilon = 3.0", "budget_epsilon = -1.0", "budget_epsilon must be above 0"),
        ] {
            let found = refused(from, to);
            assert!(found.contains(words), "{to}: {found}");
        }
        let without = QUERY.split("[query]").next().expect("before it");
        assert!(task(without).is_err(), "a model needs its length, layout, clip norm, scale and rates");
    }
}
