//! `veilsum plan privacy`: from what is to be kept to noise, scale, ring and expected error, by the solver that task files use.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;
use veilsum_crypto::math::ring::RingBits;
use veilsum_crypto::params::{MILLION, RosterParams, RoundParams, Windows};
use veilsum_crypto::plan::{PlanError, TaskGoal, TaskPlan, epsilon_of_rounds, error_of_mean, tight_epsilon};

use crate::exit::Ends as _;
use crate::output::{Output, table};

mod plot;

/// Options of `plan`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The least noise and the best scale for a privacy goal, the ring they need, and the error they leave.
    #[command(after_help = EXAMPLES)]
    Privacy(Privacy),
}

const EXAMPLES: &str = "\
Examples:
  veilsum plan privacy --clients 64 --dropouts 16 --colluders 4 --rounds 12 --elements 1862 --clip 2 --epsilon 4
  veilsum plan privacy --clients 1000 --dropouts 0.1 --rounds 100 --elements 100000 --clip 1 --epsilon 6 --bits 18
  veilsum plan privacy --clients 64 --elements 1862 --clip 2 --epsilon 4 --wrap 1e-9 --plot plan.html --json
Without --bits: the fewest for which the error is within 1 % of the least possible. A task file that says epsilon, delta and
rounds in place of scale and noise_multiplier is given the same numbers. docs/privacy.md explains all of them.";

/// Options of `plan privacy`.
#[derive(Args)]
struct Privacy {
    /// Clients of a round.
    #[arg(long)]
    clients: u32,
    /// Clients that may be lost in a round: a number, or a fraction such as 0.1.
    #[arg(long, default_value = "0.1")]
    dropouts: Part,
    /// Clients that may be corrupt and add no noise: a number, or a fraction.
    #[arg(long, default_value = "0.05")]
    colluders: Part,
    /// Rounds in which one client takes part.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Elements of the vector, a weight included.
    #[arg(long)]
    elements: u32,
    /// Largest L2 norm of an update.
    #[arg(long)]
    clip: f64,
    /// What all rounds together may give away.
    #[arg(long)]
    epsilon: f64,
    /// At which delta.
    #[arg(long, default_value_t = 1e-5)]
    delta: f64,
    /// Bits of the ring.
    #[arg(long)]
    bits: Option<u8>,
    /// Largest probability that one coordinate of a sum wraps; default 2^-40.
    #[arg(long)]
    wrap: Option<f64>,
    /// Draw epsilon by rounds and error by bits: a file whose name ends in .svg or .html.
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// Some of the clients.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Count(u32),
    Fraction(f64),
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(count) = text.parse() {
            return Ok(Self::Count(count));
        }
        match text.parse() {
            Ok(fraction) if (0.0..1.0).contains(&fraction) => Ok(Self::Fraction(fraction)),
            _ => Err("a number of clients or a fraction from 0.0 to below 1.0 was expected".into()),
        }
    }
}

impl Part {
    /// In millionths of `clients`, so that a count is met: rounded up where the protocol rounds down, and the other way.
    fn millionths(self, clients: u32, protocol_rounds_down: bool) -> u32 {
        let millionths = match self {
            Self::Count(count) if protocol_rounds_down => (u64::from(count) * MILLION).div_ceil(u64::from(clients)),
            Self::Count(count) => u64::from(count) * MILLION / u64::from(clients),
            Self::Fraction(fraction) => (fraction * MILLION as f64).round() as u64,
        };
        millionths.min(MILLION) as u32
    }
}

/// What was found, as it is printed.
#[derive(Serialize)]
struct Report {
    clients: u32,
    dropouts: u32,
    colluders: u32,
    /// Clients whose noise is counted.
    honest: u32,
    rounds: u32,
    elements: u32,
    clip: f64,
    delta: f64,
    wrap_bits: u8,
    bits: u8,
    scale: f64,
    noise_multiplier: f64,
    total_variance: u64,
    share_variance: u64,
    max_squared_norm: u64,
    /// As ledgers have it.
    epsilon: f64,
    epsilon_round: f64,
    epsilon_tight: Option<f64>,
    /// Standard error of one coordinate of the mean, in units of the model.
    error: f64,
    /// The same when all are lost that may be.
    error_after_losses: f64,
    /// What no ring undercuts.
    error_least: f64,
    neighbours: u32,
    threshold: u32,
    vector_bytes: usize,
    by_bits: Vec<OfBits>,
    by_rounds: Vec<OfRounds>,
}

/// The best that a ring allows.
#[derive(Serialize)]
struct OfBits {
    bits: u8,
    scale: f64,
    error: f64,
    vector_bytes: usize,
}

/// What the same noise gives away.
#[derive(Serialize)]
struct OfRounds {
    rounds: u32,
    epsilon: f64,
    epsilon_tight: Option<f64>,
}

/// Rings that are shown beyond the one that was found.
const MORE_BITS: u8 = 4;

/// Runs one command.
pub fn run(options: &Options, output: Output) -> Result<()> {
    let What::Privacy(privacy) = &options.what;
    let drawn = privacy.plot.as_deref().map(plot::Format::of).transpose().or_usage()?;
    let report = report(privacy).or_usage()?;
    if let (Some(file), Some(format)) = (&privacy.plot, drawn) {
        let words = in_words(&report, privacy);
        std::fs::write(file, plot::draw(&report, &words, format))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    output.give(&report, |report| in_words(report, privacy))
}

impl Privacy {
    /// Everything that the solver does not decide.
    fn given(&self) -> Result<RoundParams> {
        let clients = self.clients;
        ensure!((3..=16_384).contains(&clients), "--clients must be from 3 to 16384; it is {clients}");
        for (name, part) in [("--dropouts", self.dropouts), ("--colluders", self.colluders)] {
            if let Part::Count(count) = part {
                ensure!(count < clients, "{name} must be below --clients, {clients}; it is {count}");
            }
        }
        let wrap_bits = match self.wrap {
            None => 40,
            Some(chance) => {
                let range = (-128.0_f64).exp2()..=0.5;
                ensure!(range.contains(&chance), "--wrap must be from 2^-128 to 0.5; it is {chance}");
                (-chance.log2()).ceil() as u8 // 1 to 128
            }
        };
        let mut given = RoundParams {
            vector_len: self.elements,
            weight_max: 0,
            ring_bits: RingBits::MAX,
            wrap_bits,
            max_squared_norm: 1,
            scale: 1.0,
            clip_norm: self.clip,
            total_variance: 0,
            roster_min: clients,
            roster_max: clients,
            cohort_min: 2,
            corrupt_fraction: self.colluders.millionths(clients, false),
            dropout_tolerance: self.dropouts.millionths(clients, true),
            security_bits: 80,
            completion_bits: 30,
            dp_delta: self.delta,
            windows: Windows([1; 7]),
        };
        given.cohort_min = (clients - given.tolerated(clients)).max(2);
        Ok(given)
    }
}

fn report(asked: &Privacy) -> Result<Report> {
    let given = asked.given()?;
    let ring = |bits: u8| RingBits::new(bits).map_err(|_| anyhow!("--bits must be from 8 to 64; it is {bits}"));
    let goal = TaskGoal { rounds: asked.rounds, epsilon: asked.epsilon, ring_bits: asked.bits.map(ring).transpose()? };
    let TaskPlan { params, epsilon, epsilon_tight, least_error } = goal.plan(&given)?;
    let clients = asked.clients;
    let roster = RosterParams::derive(clients, &params)?;
    let share = roster.share_variance;
    let mut by_bits = Vec::new();
    for bits in RingBits::MIN.get()..=(params.ring_bits.get() + MORE_BITS).min(RingBits::MAX.get()) {
        match (TaskGoal { ring_bits: Some(ring(bits)?), ..goal }).plan(&given) {
            Ok(TaskPlan { params, .. }) => by_bits.push(OfBits {
                bits,
                scale: params.scale,
                error: error_of_mean(&params, clients, params.share_variance(clients)?),
                vector_bytes: params.packed_bytes(),
            }),
            Err(PlanError::Narrow { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    let by_rounds = rounds_to_show(asked.rounds).into_iter().map(|rounds| OfRounds {
        rounds,
        epsilon: epsilon_of_rounds(&params, rounds),
        epsilon_tight: tight_epsilon(&params, rounds),
    });
    Ok(Report {
        clients,
        dropouts: roster.tolerated,
        colluders: roster.corrupt,
        honest: roster.honest,
        rounds: asked.rounds,
        elements: params.vector_len,
        clip: params.clip_norm,
        delta: params.dp_delta,
        wrap_bits: params.wrap_bits,
        bits: params.ring_bits.get(),
        scale: params.scale,
        noise_multiplier: (params.total_variance as f64).sqrt() / (params.clip_norm * params.scale),
        total_variance: params.total_variance,
        share_variance: share,
        max_squared_norm: params.max_squared_norm,
        epsilon,
        epsilon_round: epsilon_of_rounds(&params, 1),
        epsilon_tight,
        error: error_of_mean(&params, clients, share),
        error_after_losses: error_of_mean(&params, roster.survivors_min, share),
        error_least: least_error,
        neighbours: roster.degree,
        threshold: roster.threshold,
        vector_bytes: params.packed_bytes(),
        by_bits,
        by_rounds: by_rounds.collect(),
    })
}

/// 1, 2, 5, 10, … up to twice the rounds asked for, and these.
fn rounds_to_show(asked: u32) -> Vec<u32> {
    let most = asked.saturating_mul(2);
    let mut rounds: Vec<u32> = (0..10)
        .flat_map(|zeros| [1, 2, 5].map(|digit| digit * 10_u64.pow(zeros)))
        .filter_map(|rounds| u32::try_from(rounds).ok())
        .filter(|rounds| *rounds < most)
        .chain([asked, most])
        .collect();
    rounds.sort_unstable();
    rounds.dedup();
    rounds
}

fn in_words(report: &Report, asked: &Privacy) -> String {
    let tight = |epsilon: Option<f64>| epsilon.map_or("-".to_string(), |epsilon| format!("{epsilon:.4}"));
    let Report { clients, dropouts, colluders, honest, rounds, delta, .. } = report;
    let mut lines = vec![
        format!("{clients} clients, {dropouts} may be lost and {colluders} corrupt: noise is counted on {honest}"),
        format!(
            "  privacy    epsilon {:.4} after {rounds} rounds at delta {delta:e}, {:.4} a round; {} by the tight account",
            report.epsilon,
            report.epsilon_round,
            tight(report.epsilon_tight)
        ),
        format!(
            "  noise      {:.6} times the clip norm {} guaranteed; each client adds Skellam noise of variance {}",
            report.noise_multiplier, report.clip, report.share_variance
        ),
        format!("  scale      {} integer steps a unit, squared norm at most {}", report.scale, report.max_squared_norm),
        format!(
            "  ring       {} bits; a coordinate wraps with probability at most 2^-{}; {:.1} kB for {} elements",
            report.bits,
            report.wrap_bits,
            report.vector_bytes as f64 / 1e3,
            report.elements
        ),
        format!(
            "  error      {:.3e} of each coordinate of the mean, {:.3e} after all losses; no ring has less than {:.3e}",
            report.error, report.error_after_losses, report.error_least
        ),
        format!("  graph      {} neighbours, threshold {}", report.neighbours, report.threshold),
        format!("in a task file: epsilon = {}, delta = {delta:e}, rounds = {rounds}", asked.epsilon),
        String::new(),
    ];
    let row = |of: &OfBits| {
        let mark = if of.bits == report.bits { "<-" } else { "" };
        let over = format!("{:.1}", 100.0 * (of.error / report.error_least - 1.0));
        let kilobytes = format!("{:.1}", of.vector_bytes as f64 / 1e3);
        vec![of.bits.to_string(), of.scale.to_string(), format!("{:.3e}", of.error), over, kilobytes, mark.to_string()]
    };
    let rows: Vec<Vec<String>> = report.by_bits.iter().map(row).collect();
    lines.push(table(&["bits", "scale", "error", "% over the least", "kB", ""], &rows));
    lines.push(String::new());
    let row = |of: &OfRounds| {
        let mark = if of.rounds == *rounds { "<-" } else { "" };
        vec![of.rounds.to_string(), format!("{:.4}", of.epsilon), tight(of.epsilon_tight), mark.to_string()]
    };
    let rows: Vec<Vec<String>> = report.by_rounds.iter().map(row).collect();
    lines.push(table(&["rounds", "epsilon", "tight", ""], &rows));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_fractions_become_the_counts_of_the_protocol() {
        for clients in [3, 7, 10, 64, 999, 16_384] {
            for count in [0, 1, 2, clients / 3, clients - 1] {
                let part = Part::Count(count);
                let lost = u64::from(clients) * u64::from(part.millionths(clients, true)) / MILLION;
                let corrupt = (u64::from(clients) * u64::from(part.millionths(clients, false))).div_ceil(MILLION);
                assert_eq!((lost, corrupt), (count.into(), count.into()), "{clients} {count}");
            }
        }
        assert_eq!("0.25".parse(), Ok(Part::Fraction(0.25)));
        assert_eq!("16".parse(), Ok(Part::Count(16)));
        for wrong in ["-1", "1.5", "nan", "x", ""] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rounds_that_are_shown_rise_and_have_those_asked_for() {
        assert_eq!(rounds_to_show(12), [1, 2, 5, 10, 12, 20, 24]);
        assert_eq!(rounds_to_show(1), [1, 2]);
        assert!(rounds_to_show(u32::MAX).is_sorted());
    }
}
