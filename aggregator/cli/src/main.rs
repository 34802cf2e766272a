//! `veilsum`: the service, the enrolment authority, clients and the demo, one program.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

mod admin;
mod answer;
mod audit;
mod authority;
mod config;
mod demo;
mod exit;
mod join;
mod keyfile;
mod keys;
mod output;
mod plan;
mod ready;
mod revocations;
mod round;
mod serve;
mod status;
mod task;

use exit::Code;
use output::Output;

/// Memory is wiped when it is given back: bodies of requests pass through buffers of libraries that wipe nothing. R-31
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// Secure aggregation for private federated training.
///
/// Clients train on their own data, add noise and masks, and upload once; the aggregator learns the sum and nothing else.
#[derive(Parser)]
#[command(name = "veilsum", version, about, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE))]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object on stdout and nothing else.
    #[arg(long, global = true)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  veilsum demo                                       train a language model with 64 clients on this machine
  veilsum demo --clients 12 --rounds 3 --json        the same, small, for machines
  veilsum authority init --dir authority             make an enrolment authority
  veilsum authority enrol --dir authority --out alice.toml
  veilsum serve --config veilsum.toml                run the aggregator
  veilsum plan privacy --clients 64 --elements 1862 --clip 2 --epsilon 4 --rounds 12
  veilsum task create task.toml --check              what a task asks of its clients
  veilsum status --watch                             what the service is doing
  veilsum join --identity alice.toml --join join.toml --vector update.npy
  veilsum audit round round-3.export --join join.toml --log-key KEY
  veilsum audit tables tests/reference/privacy       check this build against figures from other tools
docs/quickstart.md walks through all of it.";

#[derive(Subcommand)]
enum Command {
    /// Train a language model federatedly, over real HTTP, with dropouts and noise.
    Demo(Box<demo::Options>),
    /// One client of `demo --processes`.
    #[command(hide = true)]
    DemoClient(demo::client::Options),
    /// Run the aggregator.
    #[command(
        after_help = "Examples:\n  veilsum serve --config veilsum.toml\n  VEILSUM_LISTEN=127.0.0.1:9000 veilsum serve"
    )]
    Serve(serve::ServeOptions),
    /// Make or update the tables of a database.
    #[command(after_help = "Example:\n  veilsum migrate --database postgres://veilsum:secret@127.0.0.1/veilsum")]
    Migrate(serve::MigrateOptions),
    /// The configuration of an aggregator.
    Config(config::Options),
    /// The enrolment authority: certifies clients. Its key never comes near the aggregator.
    Authority(authority::Options),
    /// Secrets in files, and their public parts.
    Keys(keys::Options),
    /// Take part in one round with an update from a file, and print every check that was made.
    Join(Box<join::Options>),
    /// Find parameters from what is to be kept.
    Plan(plan::Options),
    /// Tasks of a running service, and what a task file asks of clients.
    Task(task::Options),
    /// Rounds of a running service, and their exports.
    Round(round::Options),
    /// A running service at a glance.
    Status(status::Options),
    /// Whether the service on this machine is ready, as an exit code.
    Ready(ready::Options),
    /// The authority's list of ended certificates, at a running service.
    Revocations(revocations::Options),
    /// Check what this program computes.
    Audit(audit::Options),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  veilsum completions bash > /etc/bash_completion.d/veilsum")]
    Completions {
        /// Which.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime does not start: {error}");
            return Code::Fault.into();
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(code)) => code.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            exit::code_of(&error).into()
        }
    }
}

/// Runs a command; it has said what there is to say, and may end with a code nevertheless.
async fn run(cli: Cli) -> anyhow::Result<Option<Code>> {
    let output = Output::of(cli.json);
    match cli.command {
        Command::Demo(options) => demo::run(*options, output).await?,
        Command::DemoClient(options) => demo::client::run(options).await?,
        Command::Serve(options) => serve::serve(options, output).await?,
        Command::Migrate(options) => serve::migrate(options, output).await?,
        Command::Config(options) => return config::run(options, output).await,
        Command::Authority(options) => authority::run(options, output)?,
        Command::Keys(options) => keys::run(options, output).await?,
        Command::Join(options) => return join::run(*options, output).await,
        Command::Plan(options) => plan::run(&options, output)?,
        Command::Task(options) => task::run(options, output).await?,
        Command::Round(options) => round::run(options, output).await?,
        Command::Status(options) => status::run(options, output).await?,
        Command::Ready(options) => ready::run(options, output).await?,
        Command::Revocations(options) => revocations::run(options, output).await?,
        Command::Audit(options) => return audit::run(options, output),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "veilsum", &mut std::io::stdout());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// clap's own look at the whole tree of commands, and ours: every command that does something shows an example.
    #[test]
    fn every_command_is_in_form_and_shows_an_example() {
        Cli::command().debug_assert();
        let mut waiting = vec![(String::new(), Cli::command())];
        let mut seen = 0;
        while let Some((path, command)) = waiting.pop() {
            let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").cloned().collect();
            if below.is_empty() && !command.is_hide_set() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example") && help.contains("veilsum"), "{path} shows no example");
                seen += 1;
            }
            waiting.extend(below.into_iter().map(|below| (format!("{path} {}", below.get_name()), below)));
        }
        assert!(seen > 8, "{seen}");
    }
}
