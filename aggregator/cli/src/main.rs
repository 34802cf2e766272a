//! `veilsum`: the service, the enrolment authority and the demo, one program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod authority;
mod demo;
mod keyfile;
mod serve;

/// Secure aggregation for private federated training.
///
/// Clients train on their own data, add noise and masks, and upload once; the aggregator learns the sum and nothing else.
#[derive(Parser)]
#[command(name = "veilsum", version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  veilsum demo                                       train a language model with 64 clients on this machine
  veilsum demo --clients 12 --rounds 3 --json        the same, small, for machines
  veilsum authority init --dir authority             make an enrolment authority
  veilsum authority enrol --dir authority --out alice.toml
  veilsum migrate --database postgres://…            make or update the tables
  veilsum serve --config veilsum.toml                run the aggregator";

#[derive(Subcommand)]
enum Command {
    /// Train a language model federatedly, over real HTTP, with dropouts and noise.
    Demo(Box<demo::Options>),
    /// Run the aggregator.
    Serve(serve::ServeOptions),
    /// Make or update the tables of a database.
    Migrate(serve::MigrateOptions),
    /// The enrolment authority: certifies clients. Its key never comes near the aggregator.
    Authority(authority::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Demo(options) => demo::run(*options).await,
            Command::Serve(options) => serve::serve(options).await,
            Command::Migrate(options) => serve::migrate(options).await,
            Command::Authority(options) => authority::run(options),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
