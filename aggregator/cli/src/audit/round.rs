//! `veilsum audit round EXPORT`: a round's export, checked with nothing but three public keys. docs/protocol.md §9
//!
//! In come the file and the keys, from elsewhere than the file. Out goes a line for each check, or one JSON object. Nothing is asked
//! of the operator, and nothing is sent.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde_json::{Map, Value as Json, json};
use veilsum_client::config::Join;
use veilsum_crypto::audit::{Check, Outcome, Pins, Report, Value, audit_bytes};
use veilsum_crypto::ids::Digest;
use veilsum_crypto::primitives::signature::IdentityPublicKey;
use veilsum_crypto::transparency::checkpoint::LogKey;

use crate::exit::{Code, Ends as _};
use crate::output::Output;

/// Options of `audit round`.
#[derive(Args)]
pub struct Options {
    /// The export, as `veilsum round export` wrote it.
    export: PathBuf,
    /// The join file of the task: pins the aggregator's and the authority's keys.
    #[arg(long, required_unless_present_all = ["aggregator_key", "authority_key"])]
    join: Option<PathBuf>,
    /// The aggregator's key, 64 digits; instead of the join file's.
    #[arg(long, visible_alias = "aggregator")]
    aggregator_key: Option<String>,
    /// The authority's key, 64 digits; instead of the join file's.
    #[arg(long, visible_alias = "authority")]
    authority_key: Option<String>,
    /// The log's key, `<name>+<key id>+<base64>`, as `veilsum status` prints it.
    #[arg(long)]
    log_key: String,
}

/// For `--help`.
pub const EXAMPLES: &str = "\
Examples:
  veilsum audit round round-3.export --join join.toml --log-key \"$LOG_KEY\"
  veilsum audit round round-3.export --aggregator-key 707d… --authority-key a977… --log-key \"$LOG_KEY\" --json
Get the keys from elsewhere than from whoever made the export. Ends with 3 if a check fails.";

/// Audits one export.
pub fn run(options: &Options, output: Output) -> Result<Option<Code>> {
    let pins = pins(options)?;
    let bytes = std::fs::read(&options.export)
        .with_context(|| format!("cannot read the export {}", options.export.display()))
        .or_usage()?;
    let report = audit_bytes(&bytes, &pins);
    output.give(&as_json(&report), |_| in_words(&report))?;
    Ok((!report.holds()).then_some(Code::Refused))
}

fn pins(options: &Options) -> Result<Pins> {
    let join = options.join.as_deref().map(Join::read).transpose().or_usage()?;
    let pinned = |given: &Option<String>, name: &str, of_join: fn(&Join) -> IdentityPublicKey| match (given, &join) {
        (Some(digits), _) => {
            let bytes = Digest::from_hex(digits).ok_or_else(|| anyhow!("{name} must be 64 lower-case digits"));
            bytes.and_then(|bytes| IdentityPublicKey::from_bytes(bytes.0).map_err(|error| anyhow!("{name}: {error}")))
        }
        (None, Some(join)) => Ok(of_join(join)),
        (None, None) => Err(anyhow!("{name}, or --join, must be given")),
    };
    Ok(Pins {
        aggregator: pinned(&options.aggregator_key, "--aggregator-key", |join| join.policy.aggregator).or_usage()?,
        authority: pinned(&options.authority_key, "--authority-key", |join| join.policy.authority).or_usage()?,
        log: LogKey::parse(&options.log_key).map_err(|error| anyhow!("--log-key: {error}")).or_usage()?,
    })
}

fn in_words(report: &Report) -> String {
    let verdict = match report.failure() {
        None => {
            "The export holds. It shows what happened, not that nothing else did; that the sum was computed correctly \
                 cannot be shown (docs/protocol.md §9)."
                .to_string()
        }
        Some(check) => format!("The export does NOT hold: look at section \"{}\".", check.section),
    };
    format!("{report}\n{verdict}")
}

fn as_json(report: &Report) -> Json {
    let failed = report.failure().map(|check| json!({ "check": check.name, "section": check.section.name() }));
    json!({ "holds": report.holds(), "failed": failed, "checks": report.checks.iter().map(check).collect::<Vec<_>>() })
}

fn check(check: &Check) -> Json {
    let (outcome, why) = match &check.outcome {
        Outcome::Passed => ("passed", None),
        Outcome::NothingToCheck => ("nothing to check", None),
        Outcome::NotReached => ("not reached", None),
        Outcome::Failed(why) => ("failed", Some(why)),
    };
    let figures: Map<String, Json> =
        check.figures.iter().map(|(name, value)| ((*name).to_string(), figure(value))).collect();
    json!({ "name": check.name, "section": check.section.name(), "outcome": outcome, "why": why, "figures": figures })
}

fn figure(value: &Value) -> Json {
    match value {
        Value::Number(number) => json!(number),
        Value::Real(real) => json!(real),
        Value::Text(text) => json!(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_export_is_refused_and_says_so_in_both_forms() {
        let key = veilsum_crypto::transparency::checkpoint::CheckpointKey::from_bytes(&[4; 32]);
        let identity = veilsum_crypto::primitives::signature::IdentitySecretKey::from_bytes(&[5; 32]).public();
        let log = key.verifier("example.org/log").expect("a name");
        let report = audit_bytes(b"no export", &Pins { aggregator: identity, authority: identity, log });
        let json = as_json(&report);
        assert_eq!(json["holds"], false);
        assert_eq!(json["failed"], json!({ "check": "form", "section": "beginning" }));
        assert_eq!(json["checks"].as_array().map(Vec::len), Some(report.checks.len()));
        assert!(in_words(&report).contains("does NOT hold"));
    }
}
