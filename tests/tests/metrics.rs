//! `/metrics`: what is counted, and whether docs/operating.md explains every family that is exported, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use veilsum_aggregator::store::Store as _;
use veilsum_crypto::server::PhaseKind;
use verification::programs::root;
use verification::world::*;

/// The store is on this machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Families by name, with their kind and the names of their labels; and samples by name and labels.
struct Read {
    families: BTreeMap<String, (String, BTreeSet<String>)>,
    samples: BTreeMap<String, f64>,
}

impl Read {
    fn of(text: &str) -> Self {
        let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
        let mut current = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("a name and words");
                assert!(words.ends_with('.') && name.starts_with("veilsum_"), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a kind");
                current = name.to_string();
                let before = families.insert(current.clone(), (kind.to_string(), BTreeSet::new()));
                assert!(before.is_none(), "{name} comes twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                assert_eq!(name, current, "samples stand below their family");
                let names = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
                let names = names.map(|(name, _)| name.to_string());
                families.get_mut(name).expect("announced").1.extend(names);
                assert!(
                    samples.insert(series.to_string(), value.parse().expect("a number")).is_none(),
                    "{series} twice"
                );
            }
        }
        Self { families, samples }
    }

    fn value(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("no {series} in {:?}", self.samples))
    }
}

async fn read(world: &World) -> Read {
    let text = world.rounds().exposition(PATIENCE).await;
    for client in &world.clients {
        assert!(!text.contains(&client.id.to_string()), "{text}");
    }
    Read::of(&text)
}

/// Waits for what follows an answer within a moment.
async fn until(world: &World, series: &str, value: f64) -> Read {
    let waiting = async {
        loop {
            let now = read(world).await;
            if now.samples.get(series) == Some(&value) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{series} does not become {value}"))
}

/// C-246: one round released, one that nobody came to, a message again and one too late, each is counted once.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_is_counted_as_it_happened() {
    let world = World::new(Shape { rounds: 2, ..Shape::patient(4) }).await;
    let round = world.round(1).await;
    let lines: Vec<_> = (0..4).map(|number| world.send(number, world.line())).collect();
    let mut masked = Vec::new();
    for (number, running) in lines.into_iter().enumerate() {
        let line = running.line.clone();
        assert!(running.end().await.verified().is_some());
        masked.push((world.clients[number].id, line.sent("mask")));
    }
    let now = until(&world, "veilsum_rounds_ended_total{ending=\"released\"}", 1.0).await;
    for phase in ["advertise", "share", "acknowledge", "mask", "unmask"] {
        let fresh = format!("veilsum_messages_total{{phase=\"{phase}\",answer=\"fresh\"}}");
        let closed = format!("veilsum_phases_closed_total{{phase=\"{phase}\"}}");
        assert_eq!((now.value(&fresh), now.value(&closed)), (4.0, 1.0), "{phase}");
    }
    assert_eq!(now.value("veilsum_store_up"), 1.0);
    assert!(now.value("veilsum_answers_total{code=\"204\"}") >= 20.0);
    assert!(now.value("veilsum_log_entries") > 4.0);
    let of = |name: &str| format!("{name}{{task=\"{}\"}}", world.task.id);
    assert_eq!(now.value(&of("veilsum_task_rounds")), 2.0);
    assert!(now.value(&of("veilsum_task_epsilon_spent")) > 0.0);
    assert_eq!(now.value(&of("veilsum_task_epsilon_budget")), 1e6);

    // The same bytes again, and bytes of another client's turn, after the round.
    let (client, sent) = &masked[0];
    let body = sent.first().expect("it masked").clone();
    world.rounds().accept(round, PhaseKind::Masking, *client, body.clone()).await.expect("the same bytes");
    assert!(world.rounds().accept(round, PhaseKind::Confirming, masked[1].0, body).await.is_err());
    let now = read(&world).await;
    assert_eq!(now.value("veilsum_messages_total{phase=\"mask\",answer=\"again\"}"), 1.0);

    // Nobody comes to the second round: it is overdue for a moment, and abandoned.
    world.round(2).await;
    assert_eq!(read(&world).await.value("veilsum_rounds_open{phase=\"advertise\"}"), 1.0);
    world.skip_ms(11 * 60_000);
    let now = until(&world, "veilsum_rounds_ended_total{ending=\"roster-too-small\"}", 1.0).await;
    let now = if now.value("veilsum_rounds_open{phase=\"advertise\"}") == 0.0 { now } else { read(&world).await };
    assert_eq!(now.value(&of("veilsum_task_rounds_opened")), 2.0);
    assert_eq!(now.value("veilsum_round_overdue_seconds"), 0.0);
    assert_eq!(now.value("veilsum_loop_failures_total{step=\"advance\"}"), 0.0);
    assert!(now.value("veilsum_time_seconds") - now.value("veilsum_loop_time_seconds") < 600.0);
}

/// C-246: what is counted in memory is there without a database, and says that there is none.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_there_while_the_database_is_away() {
    let world = World::new(Shape::patient(3)).await;
    world.round(1).await;
    let before = read(&world).await;
    world.rounds().store().close().await;
    assert!(world.rounds().store().ready().await.is_err());
    let failing = until(&world, "veilsum_store_up", 0.0).await;
    assert!(failing.samples.keys().all(|series| !series.starts_with("veilsum_rounds_open")), "nothing stale");
    assert_eq!(failing.families.keys().collect::<Vec<_>>(), before.families.keys().collect::<Vec<_>>());
    let step = "veilsum_loop_failures_total{step=\"look\"}";
    let failed = async {
        while read(&world).await.value(step) == 0.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.expect("the loop fails, and is counted");
}

/// C-246: the table in docs/operating.md has a row for each family, with its kind and labels, and no other rows.
#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_explained_and_every_one_explained_exists() {
    let world = World::new(Shape::patient(3)).await;
    world.round(1).await;
    for running in (0..3).map(|number| world.send(number, world.line())).collect::<Vec<_>>() {
        assert!(running.end().await.verified().is_some());
    }
    until(&world, "veilsum_rounds_ended_total{ending=\"released\"}", 1.0).await;
    world.rounds().metrics().answer(200);
    let exported = read(&world).await.families;

    let markdown = std::fs::read_to_string(root().join("docs/operating.md")).expect("it is there");
    let section =
        markdown.split("\n## Metrics\n").nth(1).and_then(|below| below.split("\n### ").next()).expect("it is there");
    let mut explained = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `veilsum_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning, to_do] = cells[..] else {
            panic!("five cells were expected: name, kind, labels, meaning, what to do: {row}")
        };
        assert!(meaning.len() > 10 && !to_do.is_empty(), "{row}");
        let labels: BTreeSet<String> = labels.split('`').skip(1).step_by(2).map(str::to_string).collect();
        let before = explained.insert(name.trim_matches('`').to_string(), (kind.to_string(), labels));
        assert!(before.is_none(), "{name} stands twice");
    }
    for (name, (kind, labels)) in &exported {
        let (of, named) = explained.get(name).unwrap_or_else(|| panic!("docs/operating.md does not explain {name}"));
        assert_eq!(of, kind, "{name}");
        // A family that nothing has happened to shows no labels yet.
        assert!(labels.is_subset(named), "{name}: {labels:?}, explained are {named:?}");
        let silent = ["veilsum_faults_named_total"];
        assert!(labels == named || silent.contains(&name.as_str()), "{name}: {labels:?}, explained are {named:?}");
    }
    for name in explained.keys() {
        assert!(exported.contains_key(name), "docs/operating.md explains {name}, which nothing exports");
    }
}
