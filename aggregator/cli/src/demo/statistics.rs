//! `veilsum demo --statistics`: the five kinds of questions, each a task of its own, answered by the same clients over real HTTP with
//! records made from the seed; the truth beside each estimate and its interval. docs/statistics.md

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use tokio::sync::Semaphore;
use veilsum_aggregator::round::learn;
use veilsum_aggregator::task::query::{Answer, figure_name};
use veilsum_aggregator::task::{FORMAT, Task, TaskFile};
use veilsum_client::config::{Identity, Join};
use veilsum_client::training::sgd::{SplitMix64, Stream};
use veilsum_client::{HttpTransport, Participant, Records, RoundOutcome, StatisticsWork};
use veilsum_crypto::client::policy::round_charge_of;
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::statistics::{Kind, Query, SumOf};

use super::Options;
use super::lossy::Lossy;
use super::setup::{Plan, World};
use crate::answer::decimal;
use crate::exit::Ends as _;
use crate::output::{Output, table};

/// What one question may cost.
const EPSILON: f64 = 2.0;
const DELTA: f64 = 1e-5;
/// A phase ends when all have spoken; nobody is lost on purpose.
const WINDOWS_MS: [u32; 7] = [120_000; 7];
/// How much of the roster may be lost all the same.
const TOLERANCES: [f64; 4] = [0.1, 0.05, 0.02, 0.0];
const ROUND_MAX: Duration = Duration::from_secs(600);
/// Entries of the domain, the frequent ones first.
const TOWNS: [&str; 12] =
    ["Zwolle", "Aarhus", "Turin", "Brno", "Ghent", "Lyon", "Porto", "Graz", "Tartu", "Cork", "Pecs", "Bergen"];

/// What is printed.
#[derive(Serialize)]
struct Told {
    clients: u32,
    seed: u64,
    dp_delta: f64,
    /// What the first client's own ledger says, over all questions.
    epsilon_spent: f64,
    questions: Vec<Asked>,
}

/// One question.
#[derive(Serialize)]
struct Asked {
    kind: &'static str,
    query: String,
    epsilon: f64,
    noise_multiplier: f64,
    level: f64,
    clients: u32,
    /// Of the noise on one coordinate, in the units of the figures; `null` for mean and quantile, which are made of several.
    noise_std: Option<f64>,
    figures: Vec<Figure>,
    /// Whether all intervals of this question hold the truth, as at least the level of all rounds do.
    covers: bool,
}

#[derive(Serialize)]
struct Figure {
    of: String,
    truth: f64,
    estimate: Option<f64>,
    low: f64,
    high: f64,
    covers: bool,
}

/// Runs it.
pub async fn run(options: &Options, output: Output) -> Result<()> {
    let tasks = questions().iter().map(|question| task_of(options.clients, question)).collect::<Result<Vec<_>>>()?;
    let mut tasks = tasks.into_iter();
    let first = tasks.next().context("there are questions")?;
    let (model, plan) = (learn::first_model(&first), Plan::of(options, first)?);
    let world = World::make(plan, &model).await?;
    let mut asked = Vec::new();
    let mut epsilon_spent = 0.0;
    for task in std::iter::once(world.plan.task.clone()).chain(tasks) {
        output.say(&format!("asking {} clients for {}", options.clients, words(&task)));
        world.service.rounds.create_task(&task.file, &learn::first_model(&task)).await?; // the first is there already
        let (told, spent) = ask(&world, &task, options).await?;
        epsilon_spent = spent;
        asked.push(told);
    }
    world.stop().await;
    let told = Told { clients: options.clients, seed: options.seed, dp_delta: DELTA, epsilon_spent, questions: asked };
    output.give(&told, in_words)
}

fn words(task: &Task) -> String {
    task.query.as_ref().map(|query| query.in_words()).unwrap_or_default()
}

/// The five questions, as a task file has them below `[query]`.
fn questions() -> [String; 5] {
    [
        "kind = \"sum\"\nlo = 0\nhi = 100".to_string(),
        "kind = \"mean\"\nlo = 0\nhi = 100".to_string(),
        "kind = \"histogram\"\nlo = 0\nhi = 100\nbins = 5".to_string(),
        "kind = \"quantile\"\nlo = 0\nhi = 100\nbins = 32\nquantile = 0.5".to_string(),
        format!("kind = \"heavy-hitters\"\ndomain = {TOWNS:?}"),
    ]
}

/// One round of the question, over all clients, with the least noise that keeps [`EPSILON`], and the largest tolerance of those
/// tried that so few can bear.
fn task_of(clients: u32, question: &str) -> Result<Task> {
    let mut name = [0; 8];
    getrandom::fill(&mut name).context("the operating system gives no randomness")?;
    let of = |dropout_tolerance: f64| {
        let text = format!(
            "format = \"{FORMAT}\"\nname = \"demo-{}\"\nrounds = 1\ninvited = {clients}\nroster_min = {clients}\nroster_max = \
             {clients}\ndropout_tolerance = {dropout_tolerance:?}\nepsilon = {EPSILON:?}\ndelta = {DELTA:?}\nwindows_ms = \
             {WINDOWS_MS:?}\ngrace_ms = {}\n[query]\n{question}\n",
            hex::encode(name),
            WINDOWS_MS[0],
        );
        TaskFile::parse(&text).and_then(Task::new)
    };
    let mut refused = None;
    for dropout_tolerance in TOLERANCES {
        match of(dropout_tolerance) {
            Ok(task) => return Ok(task),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.context("at least one tolerance was tried")?).context("a question of the demo").or_usage()
}

/// Each client's record for a question, from the seed: a number, or the place of a town.
fn record(options: &Options, client: u32, kind: &Kind) -> f64 {
    let mut rng = SplitMix64::for_stream(Stream { seed: options.seed, client: client.into(), round: 0 });
    let (age, minutes, town) = (41.0 + 14.0 * rng.normal(), 100.0 * rng.unit() * rng.unit(), rng.unit());
    match kind {
        Kind::Sum(_) => minutes.round().clamp(0.0, 100.0),
        Kind::HeavyHitters { .. } => (TOWNS.len() as f64 * town * town * town).floor(),
        _ => age.round().clamp(0.0, 100.0),
    }
}

/// Plays the round; what it told, and what it cost the first client so far.
async fn ask(world: &World, task: &Task, options: &Options) -> Result<(Asked, f64)> {
    let query = task.query.as_ref().context("the task asks")?;
    let values: Vec<f64> = (0..options.clients).map(|client| record(options, client, query.kind())).collect();
    let join = Join { task: task.id, ..world.join.clone() };
    let cores = Arc::new(Semaphore::new(2 * std::thread::available_parallelism().map_or(2, usize::from)));
    let mut clients = Vec::new();
    for (path, value) in world.identities.iter().zip(&values) {
        let (identity, mut join) = (Identity::read(path)?, join.clone());
        join.policy.layout = Some(task.layout);
        join.policy.noise_multiplier_min = task.file.noise_multiplier;
        join.policy.cohort_min = task.params.cohort_min;
        // Over all five: what each costs, added up, is never less than what they cost together.
        join.policy.budget.epsilon = EPSILON * questions().len() as f64;
        let records = match query.kind() {
            Kind::HeavyHitters { .. } => Records::of_words(vec![TOWNS[*value as usize].to_string()]),
            _ => Records::of_numbers(vec![*value]),
        };
        let transport = Arc::new(Lossy::new(HttpTransport::new(&join.server)?, None, cores.clone()));
        let state = path.with_file_name("state");
        clients.push(tokio::spawn(async move {
            let mut participant = Participant::open(identity, join, &state, transport).await?;
            let work = Arc::new(Mutex::new(StatisticsWork::new(records)));
            let ended = participant.take_part(&work).await?;
            Ok::<_, anyhow::Error>((ended, participant.epsilon_spent().await?))
        }));
    }
    let mut first = None;
    for client in clients {
        let ended = tokio::time::timeout(ROUND_MAX, client).await.context("the round hangs")?;
        let (ended, spent) = ended.context("a client's task panicked")??;
        match ended {
            RoundOutcome::Verified { sum: Some(_), .. } => {
                first.get_or_insert((ended, spent));
            }
            other => return Err(anyhow!("a client's round ended otherwise: {other:?}")),
        }
    }
    let (ended, spent) = first.context("there are clients")?;
    let RoundOutcome::Verified { sum: Some(sum), survivors, header, roster, .. } = ended else {
        bail!("the first client saw no sum");
    };
    let of = SumOf { params: &header.params, roster, survivors: survivors.len() as u32 };
    let answer = Answer::of(query, &sum, of)?;
    // Everybody is in the sum, or the truth would be another.
    anyhow::ensure!(survivors.len() == values.len(), "of {} clients {} were counted", values.len(), survivors.len());
    Ok((compared(task, &answer, &header.params, (roster, &values))?, spent))
}

/// Truth beside estimate.
fn compared(task: &Task, answer: &Answer, params: &RoundParams, (roster, values): (u32, &[f64])) -> Result<Asked> {
    let query = task.query.as_ref().context("the task asks")?;
    let truths = truths(query, values);
    let figures: Vec<Figure> = answer
        .figures()
        .iter()
        .map(|figure| {
            let truth =
                truths.get(&figure.of).copied().with_context(|| format!("nothing is known of {}", figure.of))?;
            let covers = (figure.low..=figure.high).contains(&truth);
            Ok(Figure {
                of: figure.of.clone(),
                truth,
                estimate: figure.estimate,
                low: figure.low,
                high: figure.high,
                covers,
            })
        })
        .collect::<Result<_>>()?;
    let steps = (values.len() as f64 * params.share_variance(roster)? as f64).sqrt();
    let is_plain = !matches!(query.kind(), Kind::Mean(_) | Kind::Quantile { .. });
    Ok(Asked {
        kind: query.kind().word(),
        query: query.in_words(),
        epsilon: round_charge_of(params).context("it has noise")?.epsilon(params.dp_delta).epsilon,
        noise_multiplier: task.file.noise_multiplier,
        level: query.level(),
        clients: values.len() as u32,
        noise_std: is_plain.then(|| steps / params.scale * query.unit()),
        covers: figures.iter().all(|figure| figure.covers),
        figures,
    })
}

/// What the records are, by the names that figures have.
fn truths(query: &Query, values: &[f64]) -> BTreeMap<String, f64> {
    let sum: f64 = values.iter().sum();
    match query.kind() {
        Kind::Sum(_) => BTreeMap::from([(figure_name(query, 0), sum)]),
        Kind::Mean(_) => BTreeMap::from([(figure_name(query, 0), sum / values.len() as f64)]),
        Kind::Histogram(range, bins) => {
            let count = |bin: u32| values.iter().filter(|value| range.bin(**value, *bins) == bin).count() as f64;
            (0..*bins).map(|bin| (figure_name(query, bin), count(bin))).collect()
        }
        Kind::Quantile { q, .. } => {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            let rank = (q * sorted.len() as f64).ceil().max(1.0) as usize;
            BTreeMap::from([(figure_name(query, 0), sorted[rank - 1])])
        }
        Kind::HeavyHitters { .. } => {
            let count = |place: usize| values.iter().filter(|value| **value == place as f64).count() as f64;
            TOWNS.iter().enumerate().map(|(place, town)| (town.to_string(), count(place))).collect()
        }
    }
}

fn in_words(told: &Told) -> String {
    let mut lines = Vec::new();
    for asked in &told.questions {
        lines.push(format!(
            "\n{}\n  epsilon {:.3} at delta {:e}; noise {:.2} times what one client can add; intervals together at {} %",
            asked.query,
            asked.epsilon,
            told.dp_delta,
            asked.noise_multiplier,
            (asked.level * 1e6).round() / 1e4
        ));
        let row = |figure: &Figure| {
            let shown = |value: f64| decimal(value, figure.high - figure.low);
            let estimate = figure.estimate.map_or("within the noise".to_string(), shown);
            let covers = if figure.covers { "yes" } else { "no" };
            vec![figure.of.clone(), shown(figure.truth), estimate, shown(figure.low), shown(figure.high), covers.into()]
        };
        let rows: Vec<Vec<String>> = asked.figures.iter().map(row).collect();
        if rows.is_empty() {
            lines.push("  no entry is above the noise".to_string());
        } else {
            let table = table(&["of", "truth", "estimate", "from", "to", "holds"], &rows);
            lines.extend(table.lines().map(|line| format!("  {line}")));
        }
    }
    lines.push(format!(
        "\nall {} questions together cost each client epsilon {:.3} at delta {:e}, by its own ledger",
        told.questions.len(),
        told.epsilon_spent,
        told.dp_delta
    ));
    lines.join("\n")
}
