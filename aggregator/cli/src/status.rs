//! `veilsum status`: a running service at a glance, once or again and again.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::admin::{Service, number};
use crate::exit::Ends as _;
use crate::output::Output;
use crate::round::list_in_words;

/// Options of `status`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  veilsum status\n  veilsum status --watch 1\n  veilsum status --json | jq .rounds_open"
)]
pub struct Options {
    /// Look again every so many seconds, 2 if none are given, until interrupted.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
    #[command(flatten)]
    service: Service,
}

/// Prints the status.
pub async fn run(options: Options, output: Output) -> Result<()> {
    let admin = options.service.open()?;
    let Some(every_s) = options.watch else {
        return output.give(&admin.get("/admin/v1/status").await?, in_words);
    };
    if output == Output::Json {
        return Err(anyhow::anyhow!("--json prints one object: leave --watch out, and ask again")).or_usage();
    }
    loop {
        let said = match admin.get("/admin/v1/status").await {
            Ok(status) => in_words(&status),
            Err(error) => format!("{error:#}"), // it may come back
        };
        if std::io::stdout().is_terminal() {
            print!("\x1b[2J\x1b[H"); // a fresh screen, from its top
        }
        println!("{said}\n");
        tokio::time::sleep(Duration::from_secs(every_s)).await;
    }
}

fn in_words(status: &Value) -> String {
    let said = |name: &str| number(&status[name]);
    let log = &status["log"];
    let up_s = status["uptime_ms"].as_u64().unwrap_or(0) / 1_000;
    let days = |name: &str| status[name].as_u64().map_or("for ever".to_string(), |days| format!("{days} days"));
    let mut lines = vec![
        format!("veilsum {} on {}, schema {}, up {up_s} s", said("version"), said("store"), said("schema")),
        format!("  clients     http://{}", said("listen")),
        format!("  aggregator  {}", said("aggregator_key")),
        format!("  authority   {}", said("authority_key")),
        format!("  log         {} entries, root {}", number(&log["size"]), number(&log["root"])),
        format!("  log key     {}", number(&log["key"])),
        format!("  revoked     list {}", number(&status["revocation"]["number"])),
        format!("  kept        rounds {}, exports {}", days("retention_days"), days("export_retention_days")),
        format!("  tasks       {}", said("tasks")),
    ];
    let open = &status["rounds_open"];
    match open.as_array().map(Vec::len) {
        None | Some(0) => lines.push("no round is open".to_string()),
        Some(_) => lines.push(list_in_words(open)),
    }
    lines.join("\n")
}
