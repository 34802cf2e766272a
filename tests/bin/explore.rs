//! `explore`: every schedule of a small round with a lying aggregator, and what breaks where a check is taken out. See
//! `verification::model`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use verification::model::attacks::{Broken, explore, without};
use verification::model::{Check, Round, Setting, Without};

/// Explores the round machine in full: honest clients, and an aggregator that shows each of them whatever it likes.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  cargo run --release -p verification --bin explore                          what must hold, in every setting
  cargo run --release -p verification --bin explore -- --each                and what breaks without each check
  cargo run --release -p verification --bin explore -- --without one-list    the shortest way to break something without it

Exit code: 0 if everything holds that must, 1 if something does not, 2 for wrong options.")]
struct Options {
    /// Take these checks out, and look for the shortest way to break something
    #[arg(long, value_delimiter = ',', value_parser = check)]
    without: Vec<Check>,
    /// Take out each check in turn
    #[arg(long, conflicts_with = "without")]
    each: bool,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
    /// Threads, for what is explored in full
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, |cores| cores.get()))]
    threads: usize,
}

fn check(name: &str) -> Result<Check, String> {
    let names = || Check::ALL.map(|check| check.name().0).join(", ");
    Check::named(name).ok_or_else(|| format!("a check was expected, not \"{name}\": {}", names()))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let bar = ProgressBar::new_spinner(); // on stderr, and only where somebody looks
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a template"));
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut said = serde_json::Map::new();
    let mut all_hold = true;
    if options.without.is_empty() {
        let mut settings = Vec::new();
        for setting in Setting::ALL {
            bar.set_message(format!("{}: everything", setting.name()));
            let start = Instant::now();
            let explored = explore(&Round::new(setting, Without::default()), options.threads);
            let seconds = start.elapsed().as_secs_f64();
            let always = || explored.properties.iter().filter(|held| held.is_always);
            all_hold &= always().all(|held| held.holds);
            let properties: Vec<_> =
                explored.properties.iter().map(|held| json!({ "property": held.name, "holds": held.holds })).collect();
            settings.push(json!({
                "setting": setting.name(), "states": explored.unique, "reached": explored.states, "depth": explored.depth,
                "seconds": seconds, "properties": properties,
            }));
            if !options.json {
                bar.suspend(|| {
                    println!(
                        "{}: {} different states, all of them; {} steps at most; {seconds:.1} s",
                        setting.name(),
                        explored.unique,
                        explored.depth
                    );
                    for held in &explored.properties {
                        let word = match (held.is_always, held.holds) {
                            (true, true) => "holds  ",
                            (true, false) => "BROKEN ",
                            (false, true) => "reached",
                            (false, false) => "never  ",
                        };
                        println!("  {word} {}", held.name);
                    }
                });
            }
        }
        said.insert("settings".into(), settings.into());
    }
    let taken_out = match (options.each, options.without.is_empty()) {
        (true, _) => Check::ALL.map(|check| vec![check]).to_vec(),
        (false, false) => vec![options.without.clone()],
        (false, true) => Vec::new(),
    };
    let mut attacks = Vec::new();
    for checks in &taken_out {
        let names: Vec<_> = checks.iter().map(|check| format!("{} ({})", check.name().0, check.name().1)).collect();
        let names = names.join(", ");
        bar.set_message(format!("without {names}"));
        let broken = without(checks);
        attacks.push(json!({ "without": names, "broken": broken.as_ref().map(told) }));
        if !options.json {
            bar.suspend(|| match &broken {
                None => println!("without {names}: nothing breaks, in any setting; other checks stand behind it"),
                Some(broken) => {
                    let Broken { setting, property, steps } = broken;
                    println!("without {names}: {}, {} steps: not \"{property}\"", setting.name(), steps.len());
                    let honest = setting.table(Without::of(checks.iter().copied())).honest_count();
                    steps.iter().filter(|_| !options.each).for_each(|step| println!("  {}", step.told(honest)));
                }
            });
        }
    }
    bar.finish_and_clear();
    if options.json {
        said.insert("without".into(), attacks.into());
        println!("{}", serde_json::Value::Object(said));
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn told(broken: &Broken) -> serde_json::Value {
    let steps: Vec<_> = broken.steps.iter().map(|step| format!("{step:?}")).collect();
    json!({ "setting": broken.setting.name(), "property": broken.property, "steps": steps })
}
