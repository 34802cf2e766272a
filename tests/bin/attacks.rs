//! Plays the attack catalogue and prints a table: attack, expected, seen, verdict.
//!
//! The attacks themselves are `verification::attacks`; `cargo test -p verification --test attacks` runs the same ones.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use verification::attacks::{self, Attack, Scale, Seen};

/// Plays the attacks of tests/attacks.csv against this build, and says what came of each.
///
/// Every attack runs against the real aggregator or the real client, most of them over HTTP on loopback ports. The exit code
/// is 0 if all were repelled, 1 if one was not, 2 for arguments that make no sense.
#[derive(Parser)]
#[command(name = "attacks", after_help = EXAMPLES)]
struct Arguments {
    /// Only these rows, by id or by family: A01,B04 or A,B.
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    only: Vec<String>,
    /// How many times as many trials as by default; the catalogue's largest counts need thousands.
    #[arg(long, default_value_t = 1, value_name = "N")]
    scale: usize,
    /// One JSON object a row on standard output, and no table.
    #[arg(long)]
    json: bool,
    /// Says which rows there are, and plays none.
    #[arg(long)]
    list: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p verification --bin attacks
  cargo run --release -p verification --bin attacks -- --only A01,B04
  cargo run --release -p verification --bin attacks -- --only D --scale 100
  cargo run --release -p verification --bin attacks -- --json > attacks.jsonl

Some rows play on PostgreSQL as well as on SQLite: scripts/postgres installs it, or DATABASE_URL names one.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen: Vec<Attack> = attacks::all().into_iter().filter(|attack| is_chosen(attack, &arguments.only)).collect();
    let unknown: Vec<&String> =
        arguments.only.iter().filter(|only| !attacks::all().iter().any(|attack| matches(attack, only))).collect();
    if !unknown.is_empty() || arguments.scale == 0 {
        eprintln!("no such rows: {unknown:?}, or a scale of 0; --list names the rows");
        return ExitCode::from(2);
    }
    if arguments.list {
        for attack in &chosen {
            let row = attack.row();
            println!("{}  {}: {}", row.id, row.threat, row.attack);
        }
        return ExitCode::SUCCESS;
    }
    let told = Told::listen();
    let mut failed = Vec::new();
    let start = Instant::now();
    let is_watched = std::io::stderr().is_terminal();
    if !arguments.json {
        println!("{}", line(["attack", "expected", "seen"].map(String::from), ""));
        println!("{}", "-".repeat(WIDTHS.iter().sum::<usize>() + 3 * WIDTHS.len() + 8));
    }
    for (at, attack) in chosen.iter().enumerate() {
        if is_watched {
            eprint!("\r{}/{} {} …\u{1b}[K", at + 1, chosen.len(), attack.name);
            let _ = std::io::stderr().flush();
        }
        let (seen, took) = play(attack, Scale(arguments.scale), &told);
        if is_watched {
            eprint!("\r\u{1b}[K");
        }
        if seen.is_err() {
            failed.push(attack.id());
        }
        match arguments.json {
            true => println!("{}", json(attack, &seen, took)),
            false => print(attack, &seen, took),
        }
    }
    eprintln!(
        "{} of {} attacks repelled in {} s{}",
        chosen.len() - failed.len(),
        chosen.len(),
        start.elapsed().as_secs(),
        if failed.is_empty() { String::new() } else { format!("; not repelled: {}", failed.join(", ")) }
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_chosen(attack: &Attack, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|only| matches(attack, only))
}

fn matches(attack: &Attack, only: &str) -> bool {
    let only = only.trim().to_uppercase();
    only == attack.id() || (only.len() == 1 && attack.id().starts_with(&only))
}

/// Each attack has a runtime of its own, so that nothing of it lives on; one that panics has succeeded.
fn play(attack: &Attack, scale: Scale, told: &Told) -> (Result<Seen, String>, Duration) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the system has threads");
    told.forget();
    attacks::keep_quiet();
    let start = Instant::now();
    let seen = runtime.block_on(async { tokio::spawn((attack.play)(scale)).await });
    let took = start.elapsed();
    runtime.shutdown_background();
    let failed = |_| match attacks::keep_quiet().as_str() {
        "" => told.first(),
        tried => format!("{tried}: {}", told.first()),
    };
    (seen.map_err(failed), took)
}

/// What the first panic of an attack said, and where.
struct Told(Arc<Mutex<Option<String>>>);

impl Told {
    fn listen() -> Self {
        let first: Arc<Mutex<Option<String>>> = Arc::default();
        let keeping = first.clone();
        std::panic::set_hook(Box::new(move |panic| {
            keeping.lock().expect("no panic in here").get_or_insert_with(|| panic.to_string().replace('\n', " "));
        }));
        Self(first)
    }

    fn forget(&self) {
        *self.0.lock().expect("no panic in there") = None;
    }

    fn first(&self) -> String {
        self.0.lock().expect("no panic in there").clone().unwrap_or_else(|| "the attack was cut short".into())
    }
}

const WIDTHS: [usize; 3] = [34, 44, 58];

fn print(attack: &Attack, seen: &Result<Seen, String>, took: Duration) {
    let row = attack.row();
    let (text, verdict) = match seen {
        Ok(seen) => (seen.text.clone(), "repelled"),
        Err(why) => (why.clone(), "FAILED"),
    };
    let first = format!("{} {}", row.id, row.threat);
    println!("{}", line([first, row.expected(), text], &format!("{verdict} {:.1} s", took.as_secs_f32())));
}

/// One row of the table, wrapped.
fn line(cells: [String; 3], verdict: &str) -> String {
    let wrapped: Vec<Vec<String>> = cells.iter().zip(WIDTHS).map(|(cell, width)| wrap(cell, width)).collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(1);
    let mut lines = Vec::new();
    for at in 0..height {
        let mut text = String::new();
        for (cell, width) in wrapped.iter().zip(WIDTHS) {
            text.push_str(&format!("{:width$} | ", cell.get(at).map_or("", String::as_str)));
        }
        text.push_str(if at == 0 { verdict } else { "" });
        lines.push(text.trim_end().to_string());
    }
    lines.join("\n")
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("never empty");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_string());
        }
    }
    lines
}

fn json(attack: &Attack, seen: &Result<Seen, String>, took: Duration) -> serde_json::Value {
    let row = attack.row();
    let figures: serde_json::Map<String, serde_json::Value> = match seen {
        Ok(seen) => seen.figures.iter().map(|(name, value)| (name.to_string(), (*value).into())).collect(),
        Err(_) => serde_json::Map::new(),
    };
    serde_json::json!({
        "id": row.id,
        "threat": row.threat,
        "attack": row.attack,
        "expected": row.expected(),
        "seen": match seen { Ok(seen) => &seen.text, Err(why) => why },
        "figures": figures,
        "verdict": if seen.is_ok() { "repelled" } else { "failed" },
        "seconds": took.as_secs_f64(),
    })
}
