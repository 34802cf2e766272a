//! `veilsum round`: rounds of a running service, and their exports.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::admin::{Admin, Service, number, only_one};
use crate::answer;
use crate::exit::Ends as _;
use crate::output::{Output, table, utc};

/// An export: 16,384 clients' statements without their vectors.
const EXPORT_BYTES_MAX: usize = 1 << 30;

/// Options of `round`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    service: Service,
}

#[derive(Subcommand)]
enum Command {
    /// List rounds, newest first.
    #[command(after_help = "Examples:\n  veilsum round list\n  veilsum round list --task example --limit 10")]
    List {
        /// Of one task: its name, or the beginning of its id.
        #[arg(long)]
        task: Option<String>,
        /// At most so many; of each task, where none is named.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
    },
    /// Show one round: phase, who came, who was named, what it cost.
    #[command(after_help = "Examples:\n  veilsum round show example/3\n  veilsum round show 0123abcd")]
    Show {
        /// TASK/COUNTER, its id, or the beginning of its id.
        round: String,
    },
    /// Take the export of a round that is over away: all that an auditor needs, and no input.
    #[command(after_help = "Example:\n  veilsum round export example/3 --out round-3.export")]
    Export {
        /// TASK/COUNTER, its id, or the beginning of its id.
        round: String,
        /// Where it goes.
        #[arg(long)]
        out: PathBuf,
    },
}

/// Runs one command.
pub async fn run(options: Options, output: Output) -> Result<()> {
    let admin = options.service.open()?;
    match options.command {
        Command::List { task, limit } => {
            let mut path = format!("/admin/v1/rounds?limit={limit}");
            if let Some(wanted) = task {
                let tasks = admin.get("/admin/v1/tasks").await?;
                let tasks = tasks["tasks"].as_array().context("a list of tasks was expected")?;
                path.push_str(&format!("&task={}", number(&only_one(tasks, "task", "task", &wanted)?["task"])));
            }
            output.give(&admin.get(&path).await?, |all| list_in_words(&all["rounds"]))
        }
        Command::Show { round } => output.give(&find(&admin, &round).await?, in_words),
        Command::Export { round, out } => {
            let id = number(&find(&admin, &round).await?["round"]);
            let export = admin.get_bytes(&format!("/admin/v1/rounds/{id}/export"), EXPORT_BYTES_MAX).await?;
            std::fs::write(&out, &export).with_context(|| format!("cannot write {}", out.display()))?;
            let said = json!({ "round": id, "export": out, "bytes": export.len() });
            output.give(&said, |_| format!("round {id} -> {}, {} bytes", out.display(), export.len()))
        }
    }
}

/// By task and counter, by its whole id, or by the beginning of it among the newest rounds.
async fn find(admin: &Admin, wanted: &str) -> Result<Value> {
    if let Some((task, counter)) = wanted.split_once('/') {
        let counter: u64 = counter.parse().context("TASK/COUNTER was expected, example/3 say").or_usage()?;
        let tasks = admin.get("/admin/v1/tasks").await?;
        let tasks = tasks["tasks"].as_array().context("a list of tasks was expected")?;
        let task = number(&only_one(tasks, "task", "task", task)?["task"]);
        let path = format!("/admin/v1/rounds?task={task}&before={}&limit=1", counter.saturating_add(1));
        let newest = admin.get(&path).await?["rounds"][0].clone();
        if newest["counter"] != counter {
            return Err(anyhow!("there is no round {wanted}; `veilsum round list` has them")).or_usage();
        }
        return Ok(newest);
    }
    if wanted.len() == 32 {
        return admin.get(&format!("/admin/v1/rounds/{wanted}")).await;
    }
    let all = admin.get("/admin/v1/rounds?limit=500").await?;
    let rounds = all["rounds"].as_array().context("a list of rounds was expected")?;
    Ok(only_one(rounds, "round", "round", wanted)?.clone())
}

/// Rounds as lines.
pub fn list_in_words(rounds: &Value) -> String {
    let none = Vec::new();
    let row = |round: &Value| {
        let mut cells = [&round["counter"], &round["round"], &round["phase"]].map(number).to_vec();
        cells.extend([number(&round["roster"]["n"]), number(&round["core"]), number(&round["survivors"])]);
        cells.push(outcome(round));
        cells.push(cost(round));
        cells.push(round["opened_us"].as_u64().map_or("-".to_string(), utc));
        cells
    };
    let rows: Vec<Vec<String>> = rounds.as_array().unwrap_or(&none).iter().map(row).collect();
    if rows.is_empty() {
        return "there are no rounds".to_string();
    }
    table(&["no.", "round", "phase", "roster", "core", "sum of", "outcome", "epsilon", "opened"], &rows)
}

fn outcome(round: &Value) -> String {
    match (round["outcome"].as_str(), round["abandoned"]["reason"].as_str()) {
        (Some("released"), _) => "released".to_string(),
        (_, Some(reason)) => reason.to_string(),
        (Some(other), None) => other.to_string(),
        (None, None) => "-".to_string(),
    }
}

/// The epsilon that a round cost, or will cost if masking opens: what lapsed cost nothing.
fn cost(round: &Value) -> String {
    if round["charge"] == "lapsed" { "0".to_string() } else { number(&round["epsilon"]) }
}

fn in_words(round: &Value) -> String {
    let said = |name: &str| number(&round[name]);
    let time = |name: &str| round[name].as_u64().map_or("-".to_string(), utc);
    let mut lines = vec![
        format!("round {} of task {}: {}", said("counter"), said("task"), said("round")),
        format!("  phase      {}, since {}", said("phase"), time("phase_opened_us")),
        format!("  opened     {}", time("opened_us")),
    ];
    if !round["due_us"].is_null() {
        lines.push(format!("  closes     {} at the latest, or after {} messages", time("due_us"), said("enough")));
    }
    let roster = &round["roster"];
    if !roster.is_null() {
        let figures = ["n", "k", "t", "c", "T", "h"].map(|name| format!("{name} = {}", number(&roster[name])));
        lines.push(format!("  roster     {}", figures.join(", ")));
    }
    lines.push(format!("  core       {}; sum of {}; outcome {}", said("core"), said("survivors"), outcome(round)));
    if let Some(detail) = round["abandoned"]["detail"].as_str() {
        lines.push(format!("  abandoned  {detail}"));
    }
    let admitted = round["admitted"].as_object();
    let phases = ["advertise", "share", "acknowledge", "open", "mask", "confirm", "unmask"];
    let counts =
        phases.map(|phase| format!("{phase} {}", admitted.map_or("-".to_string(), |counts| number(&counts[phase]))));
    lines.push(format!("  admitted   {}", counts.join(", ")));
    lines.push(format!("  charge     {}, epsilon {}", said("charge"), cost(round)));
    lines.push(format!("  revoked    list {}; export {}", said("revocation_number"), said("export")));
    if !round["answer"].is_null() {
        let told = answer::in_words(&round["answer"]);
        lines.extend(
            ["  answer     "]
                .into_iter()
                .chain(std::iter::repeat("             "))
                .zip(told)
                .map(|(place, line)| format!("{place}{line}")),
        );
    }
    for fault in round["faults"].as_array().into_iter().flatten() {
        let named = |name: &str| number(&fault[name]);
        lines.push(format!("  named      client {} in {}: {}", named("client"), named("phase"), named("rule")));
    }
    lines.join("\n")
}
