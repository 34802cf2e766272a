//! A fuzz campaign of so many executions, without a nightly toolchain. See `verification::fuzz`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use verification::fuzz::campaign::{self, Tally};
use verification::fuzz::{TARGETS, Target, target};

/// Changes bytes of the corpus by chance and runs the targets on them; stops at the first input that makes one panic.
#[derive(Parser)]
#[command(after_help = "Example: cargo run --release -p verification --bin fuzz -- --target all --executions 10000000")]
struct Arguments {
    /// A target, or `all`: then the executions are shared out by the targets' portions.
    #[arg(long, default_value = "all")]
    target: String,
    /// How many executions in all.
    #[arg(long, default_value_t = 100_000)]
    executions: u64,
    /// The same seed does the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs this one input of `--target` and stops.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Writes the seeds of every target into this folder, one file each: what another driver starts from.
    #[arg(long)]
    write_seeds: Option<PathBuf>,
    /// Where an input that makes a target panic is kept.
    #[arg(long, default_value = "target/fuzz")]
    crashes: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match act(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn act(arguments: &Arguments) -> std::io::Result<ExitCode> {
    let chosen: Vec<&Target> = match arguments.target.as_str() {
        "all" => TARGETS.iter().collect(),
        name => match target(name) {
            Some(target) => vec![target],
            None => {
                let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                let unknown = format!("a target was expected: all, {}; not {name}", names.join(", "));
                return Err(std::io::Error::other(unknown));
            }
        },
    };
    if let Some(folder) = &arguments.write_seeds {
        return write_seeds(&chosen, folder);
    }
    if let Some(path) = &arguments.input {
        let input = std::fs::read(path)?;
        chosen.iter().for_each(|target| (target.run)(&input)); // a panic shows itself, with its trace
        println!("nothing panicked");
        return Ok(ExitCode::SUCCESS);
    }
    let whole: u64 = chosen.iter().map(|target| target.portion).sum();
    let mut total = 0;
    println!("| target | corpus | executions | seconds | slowest, ms |\n|---|---|---|---|---|");
    for target in chosen {
        let executions = (u128::from(arguments.executions) * u128::from(target.portion)).div_ceil(whole.into()) as u64;
        let corpus = campaign::corpus(target)?;
        let progress = |tally: &Tally| eprintln!("{}: {} of {executions}", target.name, tally.executions);
        match campaign::run(target, &corpus, executions, arguments.seed, progress) {
            Ok(Tally { executions, corpus, elapsed, slowest: (slowest, _) }) => {
                total += executions;
                let (seconds, slowest_ms) = (elapsed.as_secs_f64(), slowest.as_secs_f64() * 1e3);
                println!("| {} | {corpus} | {executions} | {seconds:.0} | {slowest_ms:.1} |", target.name);
            }
            Err(crash) => {
                let path = campaign::keep(&crash, &arguments.crashes)?;
                println!("{}: {}\nthe input is kept in {}", crash.target, crash.message, path.display());
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    println!("\n{total} executions, seed {}, nothing panicked", arguments.seed);
    Ok(ExitCode::SUCCESS)
}

fn write_seeds(chosen: &[&Target], folder: &std::path::Path) -> std::io::Result<ExitCode> {
    for target in chosen {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for seed in (target.seeds)() {
            std::fs::write(folder.join(&verification::world::sha256(&seed).to_string()[..16]), seed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
