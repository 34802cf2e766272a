//! Plays rounds with liars drawn by lot, and stops at the first that is not as the protocol says.
//!
//! The rounds themselves are `verification::blame`; `cargo test -p verification --test blame` plays some hundreds of them.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use verification::blame::Seed;
use verification::blame::campaign::play_all_over_http;
use verification::blame::{self, Account, Campaign, Mismatch, Tally};

/// Plays randomised rounds in which clients lie and vanish, and judges each by an oracle that knows what was done.
///
/// Honest clients and the aggregator are the real phases, in memory. A round within the bounds of the protocol must be
/// released with the exact sum, liars must be named where signed evidence names them, the evidence must convince an outsider,
/// and nobody honest may be named. The first round that differs ends the campaign, with its seed and its story. The exit
/// code is 0 if all were as they must be, 1 if one was not, 2 for arguments that make no sense.
#[derive(Parser)]
#[command(name = "blame", after_help = EXAMPLES)]
struct Arguments {
    /// How many rounds.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    rounds: u64,
    /// How many of them have 64 clients.
    #[arg(long, default_value_t = 300, value_name = "N")]
    large: u64,
    /// How many rounds more over HTTP: the real aggregator on SQLite, real participants, liars on sockets of their own.
    #[arg(long, default_value_t = 0, value_name = "N")]
    http: u64,
    /// The campaign's seed, from which those of all rounds follow; by chance if absent.
    #[arg(long, value_name = "SEED")]
    seed: Option<String>,
    /// Plays this one round again and tells its story; with --http 1 over HTTP.
    #[arg(long, value_name = "SEED")]
    only: Option<String>,
    /// Goes on after a round that differs; tells of each.
    #[arg(long)]
    all: bool,
    /// Rounds at a time.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// One JSON object on standard output, and no table.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p verification --bin blame
  cargo run --release -p verification --bin blame -- --rounds 500 --large 5 --seed 00000000000000aa
  cargo run --release -p verification --bin blame -- --only 3f2a000000000017
  cargo run --release -p verification --bin blame -- --rounds 0 --large 0 --http 200
  cargo run --release -p verification --bin blame -- --json > blame.json

Every seed that is printed plays its round again, on any machine.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(mismatches) => match mismatches.first() {
            None => ExitCode::SUCCESS,
            Some(first) => {
                eprintln!("{first}");
                mismatches.iter().skip(1).for_each(|other| eprintln!("{other}"));
                eprintln!("again: cargo run --release -p verification --bin blame -- --only {}", first.seed);
                ExitCode::from(1)
            }
        },
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Vec<Mismatch>, String> {
    if let Some(only) = &arguments.only {
        let seed = Seed::parse(only)?;
        let told = if arguments.http > 0 { runtime()?.block_on(blame::http::told(seed)) } else { blame::told(seed) };
        let told = told.map(|(account, story)| tell(&account, &story));
        return Ok(told.err().into_iter().collect());
    }
    if arguments.large > arguments.rounds {
        return Err("there cannot be more large rounds than rounds: lower --large or raise --rounds".into());
    }
    let seed = match &arguments.seed {
        Some(seed) => Seed::parse(seed)?.0,
        None => u64::from_le_bytes(verification::world::random()[..8].try_into().expect("8 of 32")),
    };
    let campaign = Campaign { seed, rounds: arguments.rounds, large: arguments.large };
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let bar = ProgressBar::new(campaign.rounds.max(1));
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rounds, {elapsed} of about {duration}");
    bar.set_style(style.expect("a template"));
    if !std::io::stderr().is_terminal() {
        eprintln!("{} rounds, {} of them large, campaign seed {}", campaign.rounds, campaign.large, Seed(seed));
    }
    let start = Instant::now();
    let (mut tally, mut mismatches) = campaign.run(jobs, arguments.all, |played| bar.set_position(played));
    if arguments.http > 0 && (mismatches.is_empty() || arguments.all) {
        bar.set_length(campaign.rounds + arguments.http);
        let seeds = campaign.seeds_over_http(arguments.http);
        let progress = |played| bar.set_position(campaign.rounds + played);
        // Such a round waits more than it computes.
        let playing = play_all_over_http(&seeds, 2 * jobs, arguments.all, progress);
        let (over_http, others) = runtime()?.block_on(playing);
        tally.join(&over_http);
        mismatches.extend(others);
    }
    bar.finish_and_clear();
    print(&tally, seed, start, arguments.json);
    Ok(mismatches)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Runtime::new().map_err(|error| format!("no runtime: {error}"))
}

fn print(tally: &Tally, seed: u64, start: Instant, json: bool) {
    let (seed, took_s) = (Seed(seed).to_string(), start.elapsed().as_secs_f64());
    if json {
        let mut object = tally.json();
        object["seed"] = seed.into();
        object["took_s"] = took_s.into();
        println!("{object}");
    } else {
        print!("{}", tally.table());
        println!("campaign seed {seed}, {took_s:.0} s");
    }
}

fn tell(account: &Account, story: &str) {
    print!("{story}");
    let Account { n, is_complete, is_within_bounds, is_released, proofs, frames, .. } = account;
    let graph = if *is_complete { "complete" } else { "sparse" };
    println!(
        "as it must be: roster {n} on a {graph} graph, within the bounds: {is_within_bounds}, released: {is_released}"
    );
    println!("{proofs} faults proved to an outsider, {frames} frames that prove nothing");
}
