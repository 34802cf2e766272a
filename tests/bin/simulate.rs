//! `simulate`: plays many seeds of the deterministic simulation and prints what was injected, what came of it, and what
//! did not hold. See `verification::simulate`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use verification::simulate::{self, Outcome};

/// Plays seeds of the deterministic simulation: real clients and replicas, virtual time, injected faults.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  simulate --seeds 0..1000          play a thousand seeds on all cores
  simulate --seeds 42 --trace       play one and print its whole trace
  simulate --seeds 0..1000 --json   one JSON object

Exit code: 0 if everything held, 1 if something did not, 2 for wrong options.")]
struct Options {
    /// One seed, or a range like 0..1000 whose end is excluded
    #[arg(long, value_parser = seeds)]
    seeds: Range<u64>,
    /// Print every line of the trace of each seed
    #[arg(long)]
    trace: bool,
    /// Stop at the first seed in which something did not hold
    #[arg(long)]
    first: bool,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
    /// Threads; each plays one seed at a time
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, |cores| cores.get()))]
    threads: usize,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number =
        |text: &str| text.parse().map_err(|_| format!("a seed or a range like 0..1000 was expected, not \"{text}\""));
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => number(text).map(|seed: u64| seed..seed + 1),
    }
}

#[derive(Default)]
struct Total {
    seeds: u64,
    virtual_ms: u64,
    released: u64,
    abandoned: u64,
    faults: BTreeMap<&'static str, u64>,
    failing: BTreeMap<u64, Vec<String>>,
    hashes: BTreeMap<u64, [u8; 32]>,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.virtual_ms += outcome.virtual_ms;
        self.released += u64::from(outcome.released);
        self.abandoned += u64::from(outcome.abandoned);
        for (kind, count) in outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.hashes.insert(outcome.seed, outcome.trace_hash);
        if !outcome.violations.is_empty() {
            self.failing.insert(outcome.seed, outcome.violations);
        }
    }

    /// Over the traces of all seeds, in order: the same on every machine.
    fn hash(&self) -> String {
        let all = self.hashes.values().fold(Sha256::new(), |hash, trace| hash.chain_update(trace));
        hex::encode(all.finalize())
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let bar = ProgressBar::new(options.seeds.end.saturating_sub(options.seeds.start));
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {eta} left, {msg}").expect("a template"));
    if options.json || options.trace {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let (next, total) = (Arc::new(AtomicU64::new(options.seeds.start)), Arc::new(Mutex::new(Total::default())));
    let threads: Vec<_> = (0..options.threads.max(1))
        .map(|_| {
            let (next, total, bar) = (next.clone(), total.clone(), bar.clone());
            let (end, trace, first) = (options.seeds.end, options.trace, options.first);
            std::thread::spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= end {
                        return;
                    }
                    let outcome = simulate::run(seed, trace);
                    outcome.trace.iter().for_each(|line| println!("{line}"));
                    let mut total = total.lock().expect("no thread panics with it");
                    total.add(outcome);
                    bar.set_message(format!("{} failing", total.failing.len()));
                    bar.inc(1);
                    if first && !total.failing.is_empty() {
                        next.store(end, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("violations are counted, not panics");
    }
    bar.finish_and_clear();
    let total = std::mem::take(&mut *total.lock().expect("all threads ended"));
    if options.json {
        let json = serde_json::json!({
            "seeds": total.seeds, "virtual_s": total.virtual_ms / 1_000, "released": total.released,
            "abandoned": total.abandoned, "faults": total.faults, "trace_hash": total.hash(), "failing": total.failing,
        });
        println!("{json}");
    } else {
        println!("{} schedules, {} virtual hours", total.seeds, total.virtual_ms / 3_600_000);
        println!("rounds: {} released, {} abandoned", total.released, total.abandoned);
        for (kind, count) in &total.faults {
            println!("  {kind:<16} {count:>10}");
        }
        println!("trace hash {}", total.hash());
        for (seed, violations) in total.failing.iter().take(20) {
            println!("seed {seed}: {} (replay: --seeds {seed} --trace)", violations[0]);
        }
        println!("{} seeds in which something did not hold", total.failing.len());
    }
    if total.failing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
