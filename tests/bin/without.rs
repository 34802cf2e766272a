//! Plays what succeeds without each rule, and prints a table: rule, attack, what was seen with the check and without it.
//!
//! The attacks themselves are `verification::without`; `cargo test -p verification --test without` runs the same ones.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use verification::without::{self, Played, WithoutRule};

/// For each rule of docs/protocol.md: the attack that gains something where that one check is taken out.
///
/// Each is played against the real thing, against a model with all its checks, and against the model without the one. The exit
/// code is 0 if the first two gained nothing and the last did, for all; else 1. 2: no such rule.
#[derive(Parser)]
#[command(name = "without", after_help = "Example: cargo run --release -p verification --bin without -- --only 17,38")]
struct Arguments {
    /// Only these rules, by number.
    #[arg(long, value_delimiter = ',', value_name = "RULES")]
    only: Vec<u8>,
    /// One JSON object an attack on standard output, and no table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Arguments { only, json } = Arguments::parse();
    let is_chosen = |attack: &WithoutRule| only.is_empty() || only.contains(&attack.rule);
    let chosen: Vec<_> = without::all().into_iter().filter(is_chosen).collect();
    if only.iter().any(|rule| chosen.iter().all(|attack| attack.rule != *rule)) {
        eprintln!("no attack for one of the rules {only:?}");
        return ExitCode::from(2);
    }
    let mut failed = 0;
    for attack in &chosen {
        let start = Instant::now();
        let seen = attack.run();
        let holds = attack.is_as_expected(&seen);
        failed += u32::from(!holds);
        let verdict = if holds { "as expected" } else { "NOT AS EXPECTED" };
        let behind: Vec<String> = attack.behind.iter().map(|rule| format!("R-{rule:02}")).collect();
        if json {
            let row = serde_json::json!({
                "rule": attack.name(),
                "attack": attack.attack,
                "behind": behind,
                "expected": { "with": attack.with, "without": attack.without },
                "seen": { "real": said(&seen.real), "with": said(&seen.with), "without": said(&seen.without) },
                "verdict": verdict,
                "seconds": start.elapsed().as_secs_f64(),
            });
            println!("{row}");
            continue;
        }
        let second = if behind.is_empty() { String::new() } else { format!(" (behind {})", behind.join(", ")) };
        println!("{} {}{second}: {verdict}, {:.1} s", attack.name(), attack.attack, start.elapsed().as_secs_f64());
        println!("    with     expected  {}", attack.with);
        println!("             real      {}", said(&seen.real));
        println!("             model     {}", said(&seen.with));
        println!("    without  expected  {}", attack.without);
        println!("             model     {}", said(&seen.without));
        if let Some(played) = &seen.second_line {
            println!("             model, with {} in place: {}", behind.join(", "), said(played));
        }
    }
    eprintln!("{} of {} attacks as expected", chosen.len() as u32 - failed, chosen.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn said(played: &Played) -> String {
    match played {
        Ok(gained) => format!("GAINED: {gained}"),
        Err(stop) => stop.to_string(),
    }
}
