//! `veilsum task`: what a task file asks of clients, tasks of a running service, and the file that clients are given.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use veilsum_aggregator::round::learn;
use veilsum_aggregator::round::overview::TaskOverview;
use veilsum_aggregator::task::{Task, TaskFile};
use veilsum_client::config::Join;
use veilsum_crypto::ids::{Digest, TaskId};

use crate::admin::{Service, kilobytes, number, only_one, read_file};
use crate::exit::Ends as _;
use crate::output::{Output, table};
use crate::serve::authority_key;

/// Options of `task`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    service: Service,
}

#[derive(Subcommand)]
enum Command {
    /// Create a task of a running service from its file; or look at what the file asks for, with --check and no service.
    #[command(
        after_help = "Examples:\n  veilsum task create task.toml --check      what it asks of clients; no service is needed\n  \
                            veilsum task create task.toml\n  veilsum task create task.toml --model first.safetensors"
    )]
    Create {
        /// The task file; docs/operating.md lists its keys.
        file: PathBuf,
        /// Compute and print everything, here, and create nothing.
        #[arg(long)]
        check: bool,
        /// The first model (safetensors, one f32 tensor "model") instead of zeros.
        #[arg(long)]
        model: Option<PathBuf>,
    },
    /// List the tasks of a running service.
    #[command(after_help = "Example:\n  veilsum task list")]
    List,
    /// Show one task: parameters, what a client bears, privacy, warnings.
    #[command(after_help = "Example:\n  veilsum task show example")]
    Show {
        /// Its name, or the beginning of its id.
        task: String,
    },
    /// Write the join file that clients of a task are given: address, task, keys to pin, policy.
    #[command(after_help = "Example:\n  veilsum task join example --address https://sums.example --out join.toml")]
    Join {
        /// Its name, or the beginning of its id.
        task: String,
        /// Where clients reach the service.
        #[arg(long)]
        address: String,
        /// Certificates (PEM) that clients believe, where the service has a private CA; as clients will name the file.
        #[arg(long)]
        ca: Option<PathBuf>,
        /// Where the join file goes.
        #[arg(long)]
        out: PathBuf,
    },
}

/// Runs one command.
pub async fn run(options: Options, output: Output) -> Result<()> {
    match options.command {
        Command::Create { file, check: true, model } => {
            let planned = planned(&file, model.as_deref())?;
            output.give(&planned, |task| in_words(task, "would be created"))
        }
        Command::Create { file, check: false, model } => {
            create(&options.service, &file, model.as_deref(), output).await
        }
        Command::List => {
            let tasks = options.service.open()?.get("/admin/v1/tasks").await?;
            output.give(&tasks, list_in_words)
        }
        Command::Show { task } => output.give(&find(&options.service, &task).await?, |task| in_words(task, "")),
        Command::Join { task, address, ca, out } => {
            let task = find(&options.service, &task).await?;
            let status = options.service.open()?.get("/admin/v1/status").await?;
            let join = join_file(&task, &status, &address, ca)?;
            join.write(&out).with_context(|| format!("cannot write {}", out.display())).or_usage()?;
            let said = json!({ "task": task["task"], "server": address, "join": out });
            output.give(&said, |_| format!("clients of \"{}\" join with {}", number(&task["name"]), out.display()))
        }
    }
}

/// What the file says, computed here.
fn planned(file: &Path, model: Option<&Path>) -> Result<Value> {
    let text = String::from_utf8(read_file(file)?).context("a task file in UTF-8 was expected").or_usage()?;
    let place = || format!("{}", file.display());
    let task = Task::new(TaskFile::parse(&text).with_context(place).or_usage()?).with_context(place).or_usage()?;
    let model = model.map(read_file).transpose()?.unwrap_or_else(|| learn::first_model(&task));
    let overview = TaskOverview::planned(&task, &model).or_usage()?;
    Ok(serde_json::to_value(overview)?)
}

async fn create(service: &Service, file: &Path, model: Option<&Path>, output: Output) -> Result<()> {
    let text = read_file(file)?;
    let admin = service.open()?;
    let mut path = "/admin/v1/tasks".to_string();
    if let Some(model) = model {
        let bytes = read_file(model)?;
        let digest = Digest(Sha256::digest(&bytes).into());
        admin.send("PUT", &format!("/admin/v1/models/{digest}"), bytes).await?;
        path.push_str(&format!("?model={digest}"));
    }
    let (is_new, task) = admin.send("POST", &path, text).await?;
    output.give(&task, |task| in_words(task, if is_new { "created" } else { "was there already" }))
}

async fn find(service: &Service, wanted: &str) -> Result<Value> {
    let all = service.open()?.get("/admin/v1/tasks").await?;
    let tasks = all["tasks"].as_array().context("a list of tasks was expected")?;
    Ok(only_one(tasks, "task", "task", wanted)?.clone())
}

/// The keys are the service's own word; the authority's is what its configuration pins.
fn join_file(task: &Value, status: &Value, address: &str, ca: Option<PathBuf>) -> Result<Join> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let id = TaskId::from_hex(&text(&task["task"])).ok_or_else(|| anyhow!("the service names no task id"))?;
    let [aggregator, authority] = ["aggregator_key", "authority_key"].map(|name| authority_key(&text(&status[name])));
    let mut join = Join::new(address, id, aggregator?, authority?);
    join.ca_file = ca;
    let noise = task["params"]["noise_multiplier"].as_f64().unwrap_or(f64::MAX);
    let layout = task["query"]["layout"].as_str();
    join.policy.layout = layout.map(|text| Digest::from_hex(text).context("the service names no query")).transpose()?;
    join.policy.noise_multiplier_min = join.policy.noise_multiplier_min.min(noise);
    Ok(join)
}

fn list_in_words(tasks: &Value) -> String {
    let none = Vec::new();
    let row = |task: &Value| {
        let privacy = &task["privacy"];
        let of = |value: &Value, all: &Value| format!("{} of {}", number(value), number(all));
        let cells = [&task["task"], &task["name"]].map(number);
        let roster = format!("{} to {}", number(&task["params"]["roster_min"]), number(&task["params"]["roster_max"]));
        let state = if task["is_open"] == true { "open" } else { "over" };
        let spent = of(&privacy["epsilon_spent"], &privacy["budget_epsilon"]);
        cells.into_iter().chain([of(&task["counter"], &task["rounds"]), state.to_string(), roster, spent]).collect()
    };
    let rows: Vec<Vec<String>> = tasks["tasks"].as_array().unwrap_or(&none).iter().map(row).collect();
    if rows.is_empty() {
        return "there are no tasks; `veilsum task create FILE`".to_string();
    }
    table(&["task", "name", "rounds", "state", "clients", "epsilon"], &rows)
}

/// Six digits of a number.
fn short(value: &Value) -> String {
    value.as_f64().map_or("-".to_string(), |number| {
        if number.fract() == 0.0 { number.to_string() } else { format!("{number:.6}") }
    })
}

fn in_words(task: &Value, what: &str) -> String {
    let (params, privacy) = (&task["params"], &task["privacy"]);
    let said = |name: &str| number(&params[name]);
    let what = if what.is_empty() { String::new() } else { format!(", {what}") };
    let mut lines = vec![
        format!("task {} \"{}\"{what}", number(&task["task"]), number(&task["name"])),
        format!("  rounds     {} of {} opened", number(&task["counter"]), number(&task["rounds"])),
        format!(
            "  clients    {} invited; rosters of {} to {}; at least {} in a sum",
            said("invited"),
            said("roster_min"),
            said("roster_max"),
            said("cohort_min")
        ),
        format!(
            "  assumed    gamma {} corrupt, delta {} lost at most; sigma {}, eta {}",
            params["corrupt_fraction"],
            params["dropout_tolerance"],
            said("security_bits"),
            said("completion_bits")
        ),
        format!(
            "  model      {} values; vectors of {} elements of {} bits, {} kB",
            said("model_len"),
            said("vector_len"),
            said("ring_bits"),
            kilobytes(&params["packed_bytes"])
        ),
    ];
    lines.push(format!(
        "  noise      {} times the clip norm {} guaranteed; {} integer steps a unit",
        short(&params["noise_multiplier"]),
        params["clip_norm"],
        short(&params["scale"])
    ));
    if let Some(words) = task["query"]["words"].as_str() {
        lines.push(format!("  asks       {words}; query {}", number(&task["query"]["layout"])));
    }
    lines.push(match privacy["epsilon_round"].as_f64() {
        None => "  privacy    no noise, no bound".to_string(),
        Some(round) => format!(
            "  privacy    epsilon {round:.4} a round, {} for all; {} permitted, which is {} rounds; at delta {}",
            number(&privacy["epsilon_all_rounds"]),
            privacy["budget_epsilon"],
            number(&privacy["rounds_in_budget"]),
            params["dp_delta"]
        ),
    });
    let none = Vec::new();
    let roster = |roster: &Value| {
        let cells = ["n", "k", "t", "c", "T", "h"].map(|name| number(&roster[name]));
        let client = &roster["client"];
        let ms = client["ms"].as_f64().map_or("-".to_string(), |ms| format!("{ms:.1}"));
        cells.into_iter().chain([kilobytes(&client["up_bytes"]), kilobytes(&client["down_bytes"]), ms]).collect()
    };
    let rows: Vec<Vec<String>> = task["rosters"].as_array().unwrap_or(&none).iter().map(roster).collect();
    lines.push("one client in one round, training apart, by the size n of the roster:".to_string());
    lines.push(table(&["n", "k", "t", "c", "T", "h", "kB up", "kB down", "ms"], &rows));
    let warnings = task["warnings"].as_array().unwrap_or(&none);
    lines.extend(warnings.iter().map(|warning| format!("warning: {}", number(warning))));
    lines.join("\n")
}
