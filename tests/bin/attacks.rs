//! Plays the attack catalogue, and for each rule the attack that succeeds without it, and prints a table: attack, expected,
//! seen, verdict.
//!
//! The attacks themselves are `verification::attacks` and `verification::without`; `cargo test -p verification --test attacks
//! --test without` runs the same ones.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use verification::attacks::{self, Attack, Scale, Seen};
use verification::catalogue::Row;
use verification::without::{self, WithoutRule};

/// Plays the attacks of tests/attacks.csv against this build, and says what came of each; then, for each rule of the protocol,
/// the attack that succeeds where that one check is taken out of a model, and fails where it is not.
///
/// The attacks of the catalogue run against the real aggregator or the real client, most of them over HTTP on loopback ports.
/// The exit code is 0 if all were repelled, 1 if one was not, 2 for arguments that make no sense.
#[derive(Parser)]
#[command(name = "attacks", after_help = EXAMPLES)]
struct Arguments {
    /// Only these rows, by id or by family: A01,B04 or A,B; R-17 or R for rules taken out.
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
  cargo run --release -p verification --bin attacks -- --only A01,B04,R-17
  cargo run --release -p verification --bin attacks -- --only D --scale 100
  cargo run --release -p verification --bin attacks -- --json > attacks.jsonl

Some rows play on PostgreSQL as well as on SQLite: scripts/postgres installs it, or DATABASE_URL names one.";

/// One row of the table.
enum Entry {
    /// Of the catalogue.
    Listed(Attack, Row),
    /// A rule that is taken out.
    Without(WithoutRule),
}

impl Entry {
    fn all() -> Vec<Self> {
        let listed = attacks::all().into_iter().map(|attack| {
            let row = attack.row();
            Self::Listed(attack, row)
        });
        listed.chain(without::all().into_iter().map(Self::Without)).collect()
    }

    fn id(&self) -> String {
        match self {
            Self::Listed(_, row) => row.id.clone(),
            Self::Without(attack) => attack.name(),
        }
    }

    fn threat(&self) -> String {
        match self {
            Self::Listed(_, row) => row.threat.clone(),
            Self::Without(attack) => attack.attack.to_string(),
        }
    }

    fn attack(&self) -> String {
        match self {
            Self::Listed(_, row) => row.attack.clone(),
            Self::Without(attack) => format!("{}, with the check and without it", attack.attack),
        }
    }

    fn expected(&self) -> String {
        match self {
            Self::Listed(_, row) => row.expected(),
            Self::Without(attack) => format!("with it: {}; without it: {}", attack.with, attack.without),
        }
    }

    fn is_called(&self, only: &str) -> bool {
        let (only, id) = (only.trim().to_uppercase(), self.id());
        only == id || (only.len() == 1 && id.starts_with(&only))
    }

    /// Each attack has a runtime of its own, so that nothing of it lives on; one that panics has succeeded.
    fn play(&self, scale: Scale, told: &Told) -> Result<Seen, String> {
        told.forget();
        attacks::keep_quiet();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the system has threads");
        let seen = match self {
            Self::Listed(attack, _) => runtime.block_on(async { tokio::spawn((attack.play)(scale)).await }),
            Self::Without(attack) => {
                let attack = *attack;
                runtime.block_on(async { tokio::task::spawn_blocking(move || taken_out(&attack)).await })
            }
        };
        runtime.shutdown_background();
        seen.map_err(|_| match attacks::keep_quiet().as_str() {
            "" => told.first(),
            tried => format!("{tried}: {}", told.first()),
        })
    }
}

/// Plays an attack with its rule and without; panics where they do not differ as they should.
fn taken_out(attack: &WithoutRule) -> Seen {
    let seen = attack.run();
    assert!(attack.is_as_expected(&seen), "{seen:?}");
    let (Err(real), Ok(gained)) = (&seen.real, &seen.without) else { unreachable!("as expected") };
    Seen::new(format!("the real thing: {real}; the model without the check: {gained}"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut entries = Entry::all();
    let unknown: Vec<&String> =
        arguments.only.iter().filter(|only| !entries.iter().any(|entry| entry.is_called(only))).collect();
    if !unknown.is_empty() || arguments.scale == 0 {
        eprintln!("no such rows: {unknown:?}, or a scale of 0; --list names the rows");
        return ExitCode::from(2);
    }
    entries.retain(|entry| arguments.only.is_empty() || arguments.only.iter().any(|only| entry.is_called(only)));
    if arguments.list {
        entries.iter().for_each(|entry| println!("{:4} {}: {}", entry.id(), entry.threat(), entry.attack()));
        return ExitCode::SUCCESS;
    }
    let told = Told::listen();
    let mut failed = Vec::new();
    let start = Instant::now();
    let is_watched = std::io::stderr().is_terminal();
    if !arguments.json {
        println!("{}", line(["attack", "expected", "seen"].map(String::from), "verdict"));
        println!("{}", "-".repeat(WIDTHS.iter().sum::<usize>() + 3 * WIDTHS.len() + 8));
    }
    for (at, entry) in entries.iter().enumerate() {
        if is_watched {
            eprint!("\r{}/{} {} {} …\u{1b}[K", at + 1, entries.len(), entry.id(), entry.threat());
            let _ = std::io::stderr().flush();
        }
        let started = Instant::now();
        let seen = entry.play(Scale(arguments.scale), &told);
        let took = started.elapsed();
        if is_watched {
            eprint!("\r\u{1b}[K");
        }
        if seen.is_err() {
            failed.push(entry.id());
        }
        match arguments.json {
            true => println!("{}", json(entry, &seen, took)),
            false => print(entry, &seen, took),
        }
    }
    eprintln!(
        "{} of {} attacks repelled in {} s{}",
        entries.len() - failed.len(),
        entries.len(),
        start.elapsed().as_secs(),
        if failed.is_empty() { String::new() } else { format!("; not repelled: {}", failed.join(", ")) }
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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

fn print(entry: &Entry, seen: &Result<Seen, String>, took: Duration) {
    let (text, verdict) = match seen {
        Ok(seen) => (seen.text.clone(), "repelled"),
        Err(why) => (why.clone(), "FAILED"),
    };
    let first = format!("{} {}", entry.id(), entry.threat());
    println!("{}", line([first, entry.expected(), text], &format!("{verdict} {:.1} s", took.as_secs_f32())));
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

fn json(entry: &Entry, seen: &Result<Seen, String>, took: Duration) -> serde_json::Value {
    let figures: serde_json::Map<String, serde_json::Value> = match seen {
        Ok(seen) => seen.figures.iter().map(|(name, value)| (name.to_string(), (*value).into())).collect(),
        Err(_) => serde_json::Map::new(),
    };
    serde_json::json!({
        "id": entry.id(),
        "threat": entry.threat(),
        "attack": entry.attack(),
        "expected": entry.expected(),
        "seen": match seen { Ok(seen) => &seen.text, Err(why) => why },
        "figures": figures,
        "verdict": if seen.is_ok() { "repelled" } else { "failed" },
        "seconds": took.as_secs_f64(),
    })
}
