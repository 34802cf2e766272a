//! What a person sees at the terminal: bars while the demo works, a line for each round, and the summary.
//!
//! Bars go to stderr and vanish where there is no terminal; lines go to stdout.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::outcome::{DemoDetails, DemoOutcome, RoundDetails, RoundOutcome, Status, Weight, percent, remarks};

/// Text of the summary is broken here.
const COLUMNS: usize = 100;
/// Stands above the lines of [`round_line`].
pub const ROUND_HEADING: &str =
    "  round  cohort roster    sum  up/client down/client   loss  epsilon  bit-exact  lost, and in which phase";

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Bars and lines.
    Person,
    /// One JSON object on stdout, and nothing else anywhere.
    Program,
}

/// The bars. Shared between tasks by reference.
pub struct Progress {
    bars: MultiProgress,
    rounds: ProgressBar,
    phase: ProgressBar,
    reader: Reader,
}

impl Progress {
    /// One bar for `rounds`, one for the phase of the current round.
    pub fn new(rounds: u32, reader: Reader) -> Self {
        let target = match reader {
            Reader::Person => ProgressDrawTarget::stderr(), // hides itself where stderr is no terminal
            Reader::Program => ProgressDrawTarget::hidden(),
        };
        let bars = MultiProgress::with_draw_target(target);
        let all = ProgressBar::new(u64::from(rounds)).with_style(style("{prefix:<12} {bar:32} {pos}/{len}  {elapsed}"));
        let phase = ProgressBar::new(0).with_style(style("{prefix:<12} {bar:32} {pos}/{len}  {msg} {spinner}"));
        let progress = Self { rounds: bars.add(all), phase: bars.add(phase), bars, reader };
        progress.rounds.set_prefix("rounds");
        for bar in [&progress.rounds, &progress.phase] {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        progress
    }

    /// A phase begins, in which `expected` clients may report; also "training", "enrolling" and the like.
    pub fn phase(&self, name: &str, expected: u32) {
        self.phase.set_length(u64::from(expected));
        self.phase.set_position(0);
        self.phase.set_prefix(name.to_string());
        self.phase.set_message("");
    }

    /// So many clients have reported in this phase.
    pub fn arrived(&self, clients: u32) {
        self.phase.set_position(u64::from(clients));
    }

    /// A word beside the phase: "3 lost", "window closes".
    pub fn note(&self, words: &str) {
        self.phase.set_message(words.to_string());
    }

    /// A round ended; `line` tells how.
    pub fn round_ended(&self, line: &str) {
        self.rounds.inc(1);
        self.say(line);
    }

    /// Writes a line to stdout above the bars, for a person only.
    pub fn say(&self, line: &str) {
        if self.reader == Reader::Person {
            // A reader that has closed the pipe has seen enough: the run goes on.
            self.bars.suspend(|| {
                let _ = writeln!(std::io::stdout(), "{line}");
            });
        }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        self.phase.finish_and_clear();
        self.rounds.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant").progress_chars("━╸─")
}

/// One round in one line, to stand below [`ROUND_HEADING`].
pub fn round_line(round: &RoundOutcome, details: &RoundDetails, rounds: u32) -> String {
    let (sum, exact) = match (round.status, round.bit_exact) {
        (Status::Abandoned, _) => ("–".to_string(), "ABANDONED"),
        (Status::Released, Some(true)) => (round.survivors.to_string(), "yes"),
        (Status::Released, Some(false)) => (round.survivors.to_string(), "NO"),
        (Status::Released, None) => (round.survivors.to_string(), "unknown"),
    };
    let mut line = format!(
        "{:>7}  {:>6} {:>6} {sum:>6} {:>10} {:>11} {:>6} {:>8}  {exact:<9}  {}",
        format!("{}/{rounds}", round.round),
        round.cohort,
        round.roster,
        bytes(round.bytes_up_per_client),
        bytes(round.bytes_down_per_client),
        number(round.held_out_loss, Decimals(3)),
        round.epsilon.map_or("none".to_string(), |epsilon| number(epsilon, Decimals(2))),
        round.dropped.in_words(),
    );
    if round.status == Status::Abandoned {
        let why = details.abandoned_because.as_deref().unwrap_or("no reason given");
        write!(line, "; nothing released: {}", visible(why)).expect("a String takes everything");
    }
    line
}

/// The last block: what was learned, what it cost, and what must be admitted.
pub fn summary(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };

    for remark in remarks(outcome, details).iter().filter(|remark| remark.weight == Weight::Alarm) {
        let rule = "!".repeat(COLUMNS);
        line(format!("{rule}\n{}\n{rule}\n", wrapped(&remark.text, "!!  ")));
    }

    line("Held-out loss, nats per byte (lower is better)".to_string());
    for rung in ladder(outcome, details) {
        line(format!("  {:<34} {:>6}   {}", rung.name, number(rung.loss, Decimals(3)), rung.remark).trim_end().into());
    }

    let (model, unigram) = (details.baselines.model_guesses, details.baselines.unigram_guesses);
    line("\nNext byte guessed                this model   byte frequencies".to_string());
    line(format!("  first guess {:>31} {:>18}", percent(model.first), percent(unigram.first)));
    line(format!("  among the first five {:>22} {:>18}", percent(model.first_five), percent(unigram.first_five)));

    if !details.completions.is_empty() {
        line("\nPrefixes fixed in advance, as this model | byte frequencies go on".to_string());
    }
    for it in &details.completions {
        line(format!("  {} -> {} | {}", visible(&it.prefix), visible(&it.model), visible(&it.unigram)));
    }

    line("\nPrivacy and correctness".to_string());
    line(wrapped(&released_in_words(outcome), "  "));
    line(wrapped(&epsilon_in_words(outcome), "  "));

    line("\nTo be honest".to_string());
    for remark in remarks(outcome, details).iter().filter(|remark| remark.weight != Weight::Alarm) {
        let mark = if remark.weight == Weight::Warning { "WARNING: " } else { "" };
        line(wrapped(&format!("{mark}{}", remark.text), "  "));
    }
    line(wrapped(&corpus_in_words(details), "  "));
    if let Some(report) = &outcome.report {
        line(format!("\nReport: {}", visible(report)));
    }
    text
}

/// One model and its loss.
pub(super) struct Rung {
    pub name: &'static str,
    pub loss: f64,
    pub remark: String,
    /// Whether it is the model of this run.
    pub ours: bool,
}

/// What the loss is held against, as a ladder from knowing nothing to the best that was counted centrally.
pub(super) fn ladder(outcome: &DemoOutcome, details: &DemoDetails) -> [Rung; 6] {
    let rung = |name, loss, remark: String| Rung { name, loss, remark, ours: false };
    [
        rung("uniform guessing", details.baselines.uniform_loss, "every byte alike".into()),
        Rung { ours: true, ..rung("this model before training", outcome.loss_before, String::new()) },
        rung("byte frequencies (unigram)", outcome.unigram_loss, "what mere counting gives".into()),
        Rung { ours: true, ..rung("this model after training", outcome.loss_after, against_unigram(outcome)) },
        rung("its plain twin", outcome.plain_loss_after, against_plain(outcome)),
        rung("byte pairs (bigram)", details.baselines.bigram_loss, "counted centrally, on all text at once".into()),
    ]
}

fn against_unigram(outcome: &DemoOutcome) -> String {
    let gain = outcome.unigram_loss - outcome.loss_after;
    match gain {
        gain if !gain.is_finite() => String::new(),
        gain if gain > 0.0 => format!("{gain:.3} better than byte frequencies"),
        gain => format!("{:.3} WORSE than byte frequencies", -gain),
    }
}

fn against_plain(outcome: &DemoOutcome) -> String {
    let price = outcome.loss_after - outcome.plain_loss_after;
    if !price.is_finite() {
        return "same training without masks and noise".into();
    }
    format!("same training without masks and noise: privacy cost {price:.3}")
}

/// How many rounds published a sum, and whether it was the right one.
pub(super) fn released_in_words(outcome: &DemoOutcome) -> String {
    let (released, rounds) = (outcome.released(), outcome.rounds.len());
    if released == 0 {
        return format!("0 of {rounds} rounds released: nothing was published.");
    }
    let exact = match outcome.bit_exact() {
        exact if exact == released => "every released sum equals".to_string(),
        exact => format!("only {exact} of these {released} sums equal"),
    };
    format!(
        "{released} of {rounds} rounds released; {exact}, bit for bit, the plain sum of what the survivors wrote down \
         before masking."
    )
}

/// Epsilon, and what it means.
pub(super) fn epsilon_in_words(outcome: &DemoOutcome) -> String {
    if outcome.noise_is_off() {
        return "No noise, so no epsilon: what a published sum tells about a single client is not bounded.".into();
    }
    let Some(epsilon) = outcome.epsilon() else { return "No epsilon was charged.".into() };
    let delta = outcome.dp_delta;
    if epsilon <= 0.0 {
        return format!("Epsilon 0 at delta {delta:e}: no round came so far as to spend any.");
    }
    let odds = epsilon.exp();
    let odds = match odds {
        0.0..10.0 => format!("{odds:.1}"),
        10.0..1e5 => format!("{odds:.0}"),
        _ => format!("e^{epsilon:.0}, which is no protection"),
    };
    format!(
        "Epsilon {epsilon:.2} at delta {delta:e}, over all rounds: whether one client's whole contribution was in the \
         sums, or zeros in its place, changes the odds of anything that anyone could conclude from them by a factor of \
         at most {odds}, but for a probability of about {delta:e}. That a client took part is public."
    )
}

fn corpus_in_words(details: &DemoDetails) -> String {
    let corpus = &details.corpus;
    format!(
        "Text: {}, {} files, {}, SHA-256 {}. The text may change between runs; the digest names what was used.",
        visible(&corpus.source),
        corpus.files,
        bytes(corpus.bytes as u64),
        visible(&corpus.digest)
    )
}

/// Decimal places.
pub(super) struct Decimals(pub usize);

/// The number, or a dash where it is not finite.
pub(super) fn number(value: f64, Decimals(places): Decimals) -> String {
    if value.is_finite() { format!("{value:.places$}") } else { "–".to_string() }
}

/// "812 B", "14.2 kB", "1.35 MB".
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.2} MB", count as f64 / 1e6),
    }
}

/// What others wrote, with control characters shown rather than obeyed: a terminal takes orders from them, and
/// direction marks would reorder the line around them.
pub(super) fn visible(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '\n' => '↵',
            '\t' => '⇥',
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '·',
            letter if letter.is_control() => '·',
            letter => letter,
        })
        .collect()
}

/// Broken at [`COLUMNS`], each line after `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![indent.to_string()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        if line.chars().count() + word.chars().count() >= COLUMNS && line.as_str() != indent {
            lines.push(format!("{indent}{word}"));
        } else {
            if line.as_str() != indent {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::outcome::samples;
    use super::*;

    #[test]
    fn a_round_is_one_line_below_its_heading() {
        let (outcome, details) = samples::run(4);
        let lines: Vec<String> =
            outcome.rounds.iter().zip(&details.rounds).map(|(round, detail)| round_line(round, detail, 4)).collect();
        assert_eq!(
            lines[0],
            "    1/4      64     63     58    14.2 kB     38.9 kB  4.260     1.16  yes        6: advertise 1, share 2, mask 3"
        );
        assert!(lines[3].contains("ABANDONED  24: share 9, acknowledge 8, mask 7; nothing released: the core has 40"));
        assert!(lines.iter().all(|line| !line.contains('\n')));
        let column = |line: &str, word: &str| line.find(word).expect("it is there");
        assert_eq!(column(ROUND_HEADING, "lost"), column(&lines[0], "6: advertise"));
    }

    #[test]
    fn the_summary_tells_the_losses_the_epsilon_and_what_is_taken_on_trust() {
        let (outcome, details) = samples::run(12);
        let text = summary(&outcome, &details);
        println!("{ROUND_HEADING}");
        for (round, detail) in outcome.rounds.iter().zip(&details.rounds) {
            println!("{}", round_line(round, detail, 12));
        }
        println!("\n{text}");
        for expected in [
            "4.587",
            "3.027",
            "0.386 better",
            "2.842",
            "28 %",
            "Epsilon 4.02 at delta 1e-5",
            "unwitnessed:",
            "gamma is",
        ] {
            assert!(text.contains(expected), "{expected} is missing from\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS + 10));
    }

    #[test]
    fn an_abandoned_run_says_so_first_and_prints_no_nonsense() {
        let (outcome, details) = samples::all_abandoned();
        let text = summary(&outcome, &details);
        assert!(text.lines().nth(1).is_some_and(|line| line.contains("No round was released")), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }

    #[test]
    fn a_completion_gives_no_orders_to_the_terminal() {
        let (outcome, mut details) = samples::run(1);
        details.completions[0].model = "\u{1b}[2Jgone\r\u{202e}".to_string();
        let text = summary(&outcome, &details);
        assert!(text.contains("·[2Jgone··"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\r'));
    }

    #[test]
    fn bars_for_a_program_stay_hidden() {
        let progress = Progress::new(3, Reader::Program);
        progress.phase("mask", 64);
        progress.arrived(7);
        progress.note("3 lost");
        progress.round_ended("never shown");
        assert!(progress.bars.is_hidden());
        progress.finish();
    }
}
