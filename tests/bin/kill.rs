//! `kill`: replicas, clients and the database are killed at moments by chance, and every released sum is compared with what
//! clients were told. See `verification::kill`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use verification::kill::{self, Campaign};

/// Kills real processes at random moments: two replicas of `veilsum serve`, six clients, and PostgreSQL with fsync on.
#[derive(Parser)]
#[command(
    name = "kill",
    after_help = "\
Examples:
  cargo run --release -p verification --bin kill -- --minutes 10 --store postgres
  cargo run --release -p verification --bin kill -- --minutes 10 --store sqlite --json
  cargo run --release -p verification --bin kill -- --minutes 10 --store postgres --points

Exit code: 0 if nothing was lost, doubled or otherwise wrong, 1 if something was, 2 for wrong options."
)]
struct Options {
    /// How long to kill
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Stop after so many kills
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    kills: u64,
    /// On which engine
    #[arg(long, value_enum, default_value_t = Store::Postgres)]
    store: Store,
    /// Kill replicas only: before and after each kind of commit, before and after each kind of answer
    #[arg(long)]
    points: bool,
    /// What is killed when follows from it; by chance if absent
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Store {
    Postgres,
    Sqlite,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !(options.minutes.is_finite() && options.minutes > 0.0) {
        eprintln!("--minutes must be above 0, it is {}", options.minutes);
        return ExitCode::from(2);
    }
    let chance = || {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the system has randomness");
        u64::from_le_bytes(bytes) >> 16
    };
    let campaign = Campaign {
        store: match options.store {
            Store::Postgres => kill::Store::Postgres,
            Store::Sqlite => kill::Store::Sqlite,
        },
        seed: options.seed.unwrap_or_else(chance),
        duration: Duration::from_secs_f64(60.0 * options.minutes),
        kills_max: options.kills,
        pause_ms: (50, 700),
    };
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a template"));
    if options.json {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    } else {
        println!("seed {}", campaign.seed);
    }
    let progress = |kills: &BTreeMap<String, u64>| {
        let total: u64 = kills.values().sum();
        bar.set_message(format!("{total} kills, of {} kinds", kills.len()));
        bar.tick();
    };
    let report = if options.points { kill::run_at_points(&campaign, progress) } else { kill::run(&campaign, progress) };
    bar.finish_and_clear();
    if options.json {
        let json = serde_json::json!({
            "seed": campaign.seed, "kills": report.kills, "released": report.released, "abandoned": report.abandoned,
            "accepted": report.accepted, "lost": report.lost, "double": report.double, "violations": report.violations,
        });
        println!("{json}");
    } else {
        println!("kills {}", report.kills_total());
        report.kills.iter().for_each(|(what, times)| println!("{times:7} {what}"));
        println!("rounds: {} released, {} abandoned", report.released, report.abandoned);
        println!("uploads told accepted in released rounds: {}", report.accepted);
        println!("lost {}, double {}, other {}", report.lost.len(), report.double.len(), report.violations.len());
        let all = report.lost.iter().chain(&report.double).chain(&report.violations);
        all.take(20).for_each(|what| println!("  {what}"));
    }
    if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
