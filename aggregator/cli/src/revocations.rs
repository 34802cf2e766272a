//! `veilsum revocations`: gives the authority's list of ended certificates to a running service.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::admin::{Service, number, read_file};
use crate::output::{Output, utc};

/// Options of `revocations`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    service: Service,
}

#[derive(Subcommand)]
enum Command {
    /// Give the service the list that `veilsum authority revoke` wrote. Rounds that open afterwards carry it.
    #[command(after_help = "Example:\n  veilsum revocations publish authority/revocations")]
    Publish {
        /// The signed list.
        file: PathBuf,
    },
    /// Show which list is in force.
    #[command(after_help = "Example:\n  veilsum revocations show")]
    Show,
}

/// Runs one command.
pub async fn run(options: Options, output: Output) -> Result<()> {
    let admin = options.service.open()?;
    match options.command {
        Command::Publish { file } => {
            let (is_new, list) = admin.send("PUT", "/admin/v1/revocations", read_file(&file)?).await?;
            let what = if is_new { "is in force for rounds that open from now on" } else { "was in force already" };
            output.give(&list, |list| format!("{}; it {what}", in_words(list)))
        }
        Command::Show => output.give(&admin.get("/admin/v1/revocations").await?, in_words),
    }
}

fn in_words(list: &Value) -> String {
    if list["number"] == 0 {
        return "there is no revocation list".to_string();
    }
    let received = list["received_us"].as_u64().map_or(String::new(), |us| format!(", received {}", utc(us)));
    let [number, entries, digest] = [&list["number"], &list["entries"], &list["digest"]].map(number);
    format!("revocation list {number}, {entries} entries, digest {digest}{received}")
}
