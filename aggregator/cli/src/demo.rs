//! `veilsum demo`: a whole federated training on this machine, over real HTTP, with clients that vanish.
//!
//! ```text
//! setup    folders, authority, aggregator, task, identities
//! stage    where it plays: in this process (fleet), or in a process each (processes, client; replicas, front, cluster)
//! fleet    one round: the cohort takes part, some are lost on purpose (lossy)
//! twin     the same training without masks and noise
//! report   what came of it, for people
//! statistics  questions instead of a model, with --statistics
//! ```

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use veilsum_client::training::language::{self, LanguageModel};
use veilsum_client::training::sgd::{DemoSettings, SplitMix64, Stream};

pub mod client;
mod cluster;
mod data;
mod display;
mod fleet;
mod front;
mod lossy;
mod outcome;
mod processes;
mod replicas;
mod report;
mod setup;
mod stage;
mod statistics;
mod twin;

use data::{Corpus, Deal};
use display::{Progress, Reader, round_line, summary};
use lossy::Loss;
use outcome::*;
use setup::Plan;
use stage::Stage;
use twin::{Baseline, Twin};

use crate::exit::Ends as _;
use crate::output::Output;

/// Options of `demo`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Clients, each with its own text, identity and masks.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(3..=10_000))]
    pub clients: u32,
    /// Clients invited each round; default: all.
    #[arg(long)]
    pub cohort: Option<u32>,
    /// Rounds of training.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// Fraction of each cohort that vanishes at a random phase.
    #[arg(long, default_value_t = 0.1)]
    pub dropout: f64,
    /// Guaranteed noise on the sum over the clip norm; 0 switches noise off. Default: calibrated for the number of clients.
    #[arg(long)]
    pub noise_multiplier: Option<f64>,
    /// Chooses data, model and who is lost. Keys, masks and noise always come from the operating system.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A folder of text to train on; default: this project's own documents and sources.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Where everything is kept.
    #[arg(long, default_value = "veilsum-data")]
    pub data_dir: PathBuf,
    /// `sqlite:PATH` or `postgres://…`; default: SQLite in the data directory.
    #[arg(long)]
    pub database: Option<String>,
    /// Where the HTML report goes; default: report.html in the data directory.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Run authority, aggregator and every client as a process of its own; they share nothing but HTTP and files.
    #[arg(long)]
    pub processes: bool,
    /// So many aggregator processes on one database, each of which is killed in turn in the middle of a round and started
    /// again; more than 1 means --processes, and without --database a PostgreSQL cluster of the demo's own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub replicas: u32,
    /// Ask five questions instead of training a model: sum, mean, histogram, median, frequent entries. The truth is printed beside
    /// each estimate and its interval.
    #[arg(long, conflicts_with_all = ["cohort", "rounds", "dropout", "noise_multiplier", "data", "report", "processes", "replicas"])]
    pub statistics: bool,
}

const EXAMPLES: &str = "\
Examples:
  veilsum demo                                     64 clients, 12 rounds, a tenth of them lost in each
  veilsum demo --clients 12 --rounds 3 --json      small, for machines
  veilsum demo --processes --clients 12            every client, the authority and the aggregator a process each
  veilsum demo --replicas 2 --clients 12           two aggregators on PostgreSQL, one of them killed in every round
  veilsum demo --statistics                        a sum, a mean, a histogram, a median, frequent entries
  veilsum demo --data texts --noise-multiplier 0   other text, and no noise, which it says";

impl Options {
    /// Whether everybody is a process.
    pub fn in_processes(&self) -> bool {
        self.processes || self.replicas > 1
    }

    /// What clap cannot see.
    fn check(&self, cohort: u32) -> Result<()> {
        let clients = self.clients;
        ensure!((3..=clients).contains(&cohort), "--cohort must be from 3 to --clients ({clients}); it is {cohort}");
        ensure!((0.0..=1.0).contains(&self.dropout), "--dropout must be from 0 to 1; it is {}", self.dropout);
        let z = self.noise_multiplier.unwrap_or(0.0);
        ensure!(z >= 0.0 && z.is_finite(), "--noise-multiplier must be a number from 0; it is {z}");
        Ok(())
    }
}

/// How much of a roster may be lost, where so few clients can bear it.
const TOLERANCE: f64 = 0.25;
/// Prefixes fixed before training.
const PREFIXES: [&str; 3] = ["The aggregator ", "pub fn ", "A client that "];
/// Symbols that a completion goes on.
const COMPLETION_LEN: usize = 40;

/// Runs the demo.
pub async fn run(options: Options, output: Output) -> Result<()> {
    let cohort = options.cohort.unwrap_or(options.clients);
    options.check(cohort).or_usage()?;
    if options.statistics {
        crate::serve::logs("warn");
        return statistics::run(&options, output).await;
    }
    let mut settings = DemoSettings::for_clients(cohort);
    settings.noise_multiplier = options.noise_multiplier.unwrap_or(settings.noise_multiplier);
    crate::serve::logs("warn");
    let deal = Deal { clients: options.clients as usize, seed: options.seed };
    let corpus = match &options.data {
        Some(folder) => Corpus::from_folder(folder, deal).or_usage()?,
        None => Corpus::from_project(deal)?,
    };
    let model = LanguageModel::initial(options.seed);
    let progress = Progress::new(options.rounds, if output == Output::Json { Reader::Program } else { Reader::Person });
    progress.note("enrolling clients");
    let plan = Plan::new(&options, cohort, &settings, model.to_vector().len() as u32)?;
    let stage = Stage::set(plan, &options, &settings, &corpus, &model.to_vector()).await?;
    let task = stage.plan().task.clone();
    let baseline = Baseline::new(&corpus)?;
    let twin = Twin::start(&corpus, &settings, &task, model.to_vector(), options.seed)?;
    say_beforehand(&progress, &corpus, &stage, &settings);
    progress.say(display::ROUND_HEADING);

    let mut played = Vec::new();
    for counter in 1..=options.rounds {
        let losses = losses(&options, cohort, counter);
        let started = Instant::now();
        let round = stage.play(u64::from(counter), &losses, &progress).await?;
        twin.train(u64::from(counter), round.counted.clone());
        let model = LanguageModel::from_vector(&stage.model().await?)?;
        let held_out_loss = baseline.evaluate(&model)?.nats_per_byte;
        let outcome = RoundOutcome {
            round: counter,
            status: if round.released { Status::Released } else { Status::Abandoned },
            cohort,
            roster: round.roster,
            survivors: round.counted.len() as u32,
            dropped: round.dropped,
            bit_exact: round.bit_exact,
            epsilon: stage.epsilon_spent().await?,
            held_out_loss,
            bytes_up_per_client: round.bytes_up / u64::from(cohort),
            bytes_down_per_client: round.bytes_down / u64::from(cohort),
            wall_s: started.elapsed().as_secs_f64(),
            replica_killed: round.replica_killed,
        };
        let details = RoundDetails {
            phases_ms: round.phases_ms,
            plain_loss: f64::NAN,
            abandoned_because: round.abandoned_because,
            noise: round.noise,
        };
        progress.round_ended(&round_line(&outcome, &details, options.rounds));
        played.push((outcome, details));
    }

    progress.note("the same training without masks and noise");
    let plain = twin.finish().await?;
    let mut rounds = Vec::new();
    let mut details = Vec::new();
    for ((outcome, mut detail), plain_model) in played.into_iter().zip(&plain) {
        detail.plain_loss = baseline.evaluate(&LanguageModel::from_vector(plain_model)?)?.nats_per_byte;
        rounds.push(outcome);
        details.push(detail);
    }
    let last = LanguageModel::from_vector(&stage.model().await?)?;
    let report = options.report.clone().unwrap_or_else(|| options.data_dir.join("report.html"));
    let outcome = DemoOutcome {
        dp_delta: task.params.dp_delta,
        loss_before: baseline.evaluate(&model)?.nats_per_byte,
        loss_after: baseline.evaluate(&last)?.nats_per_byte,
        plain_loss_after: details.last().map_or(f64::NAN, |detail| detail.plain_loss),
        unigram_loss: baseline.unigram()?.nats_per_byte,
        vector_len: task.params.vector_len,
        ring_bits: task.params.ring_bits.get().into(),
        degree: stage.plan().expected_graph.0,
        threshold: stage.plan().expected_graph.1,
        noise_multiplier: settings.noise_multiplier,
        report: Some(report.display().to_string()),
        rounds,
    };
    let details = DemoDetails {
        rounds: details,
        baselines: baseline.against(&last)?,
        completions: baseline.completions(&last, &PREFIXES, COMPLETION_LEN, options.seed),
        corpus: corpus_details(&options, &corpus),
        assumptions: stage.policy().assumptions(),
        settings: Settings {
            clients: options.clients,
            cohort,
            rounds: options.rounds,
            dropout: options.dropout,
            dropout_tolerance_asked: TOLERANCE,
            dropout_tolerance: task.file.dropout_tolerance,
            corrupt_fraction: task.file.corrupt_fraction,
            clip_norm: task.file.clip_norm,
            scale: task.file.scale,
            epsilon_budget: task.charge.as_ref().map(|_| task.budget.epsilon),
            seed: options.seed,
        },
    };
    report::write_report(&report, &outcome, &details)?;
    progress.finish();
    output.give(&outcome, |outcome| summary(outcome, &details))?;
    stage.stop().await
}

fn say_beforehand(progress: &Progress, corpus: &Corpus, stage: &Stage, settings: &DemoSettings) {
    if let Some(warning) = &corpus.warning {
        progress.say(&format!("warning: {warning}"));
    }
    let used = stage.plan().task.file.dropout_tolerance;
    if used < TOLERANCE {
        progress.say(&format!(
            "so few clients cannot bear that {TOLERANCE} of them are lost: the dropout tolerance is lowered to {used:.4}"
        ));
    }
    if settings.noise_multiplier == 0.0 {
        progress.say("WARNING: --noise-multiplier 0: noise is OFF in this run");
    }
    for assumption in stage.policy().assumptions() {
        progress.say(&format!("taken on trust: {assumption}"));
    }
}

/// Who is lost in a round, and where: `dropout` of the cohort, at a random phase, from the seed.
fn losses(options: &Options, cohort: u32, counter: u32) -> Vec<Loss> {
    let mut rng = SplitMix64::for_stream(Stream { seed: options.seed, client: u64::MAX, round: counter.into() });
    let mut clients: Vec<usize> = (0..options.clients as usize).collect();
    rng.shuffle(&mut clients);
    clients.truncate(cohort as usize);
    let lost = (options.dropout * f64::from(cohort)).floor() as usize;
    let fate = |(order, client): (usize, usize)| {
        if order < lost { Loss::at_random(client, &mut rng) } else { Loss::none(client) }
    };
    clients.into_iter().enumerate().map(fate).collect()
}

fn corpus_details(options: &Options, corpus: &Corpus) -> CorpusDetails {
    CorpusDetails {
        source: options
            .data
            .as_ref()
            .map_or("this project's documents and sources".into(), |folder| folder.display().to_string()),
        files: corpus.files,
        bytes: corpus.bytes,
        digest: corpus.digest.clone(),
        warning: corpus.warning.clone(),
    }
}

/// The layout that headers name.
fn layout_digest() -> veilsum_crypto::ids::Digest {
    use sha2::{Digest as _, Sha256};
    veilsum_crypto::ids::Digest(Sha256::digest(language::layout().canonical_bytes()).into())
}

/// Refuses a folder that is not the demo's.
fn refuse(folder: &std::path::Path, found: &str) -> anyhow::Error {
    let words = "Choose another with --data-dir, or remove it";
    let folder = folder.display();
    let error = anyhow::anyhow!("{folder} is not a data directory of this version of the demo: {found}. {words}");
    crate::exit::with(crate::exit::Code::Usage, error)
}
