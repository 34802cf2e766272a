//! What a replica counts since its start, and what stands in the store, as Prometheus reads it. docs/operating.md says what to
//! do about each.
//!
//! In: an event, counted where it happens (`round.rs`, `watch.rs`, `http.rs`, `service.rs`). Out: the text of `/metrics`. Counts and public
//! facts only: nothing here tells one client from another.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use veilsum_crypto::ids::Timestamp;
use veilsum_crypto::rules::Abandonment;
use veilsum_crypto::server::{Phase, PhaseKind};

use super::overview::phase_word;
use super::{RoundError, Rounds, epsilon_spent};
use crate::store::sql::SCHEMA_VERSION;
use crate::store::{Standing, Store};

/// What is counted, from 0 at the start of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Counter {
    /// Messages of clients, by the phase they were addressed to and what became of them.
    Messages,
    /// Answers at the clients' address, by status code.
    Answers,
    /// Closings that this replica began.
    ClosingsBegun,
    /// Phases that this replica closed.
    PhasesClosed,
    /// Rounds that this replica brought to their end.
    RoundsEnded,
    /// Clients named by signed evidence.
    Named,
    /// Steps of the watch loop that failed and are tried again.
    LoopFailures,
    /// Purges that failed.
    PurgeFailures,
}

impl Counter {
    const ALL: [Self; 8] = [
        Self::Messages,
        Self::Answers,
        Self::ClosingsBegun,
        Self::PhasesClosed,
        Self::RoundsEnded,
        Self::Named,
        Self::LoopFailures,
        Self::PurgeFailures,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Messages => "veilsum_messages_total",
            Self::Answers => "veilsum_answers_total",
            Self::ClosingsBegun => "veilsum_closings_begun_total",
            Self::PhasesClosed => "veilsum_phases_closed_total",
            Self::RoundsEnded => "veilsum_rounds_ended_total",
            Self::Named => "veilsum_faults_named_total",
            Self::LoopFailures => "veilsum_loop_failures_total",
            Self::PurgeFailures => "veilsum_purge_failures_total",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Messages => "Messages of clients, by the phase they were addressed to and what became of them.",
            Self::Answers => "Answers at the clients' address, by status code.",
            Self::ClosingsBegun => "Closings that this replica began, for the first time or again.",
            Self::PhasesClosed => "Phases that this replica closed.",
            Self::RoundsEnded => "Rounds that this replica brought to their end, by how they ended.",
            Self::Named => "Clients named by signed evidence, by the rule they broke.",
            Self::LoopFailures => "Steps of the watch loop that failed and are tried again.",
            Self::PurgeFailures => "Purges that failed and are tried again in an hour.",
        }
    }

    /// Series that are there from the start, at 0: an alert sees their first step.
    fn known(self) -> Vec<String> {
        match self {
            Self::RoundsEnded => {
                let words = (0..=u8::MAX).filter_map(Abandonment::from_number).map(Abandonment::word);
                words.chain(["released"]).map(|word| label("ending", word)).collect()
            }
            Self::LoopFailures => ["look", "advance", "open"].map(|step| label("step", step)).into(),
            Self::ClosingsBegun => ["first", "again"].map(|attempt| label("attempt", attempt)).into(),
            Self::PurgeFailures => vec![String::new()],
            Self::Answers => [500, 503].map(|code| label("code", code)).into(),
            Self::Messages | Self::PhasesClosed | Self::Named => Vec::new(),
        }
    }
}

/// The counts of one replica.
#[derive(Debug)]
pub struct Metrics {
    counts: Mutex<BTreeMap<(Counter, String), u64>>,
    /// When the loop last looked at everything.
    looked: Mutex<Option<Timestamp>>,
    started: Timestamp,
}

impl Metrics {
    /// From 0.
    pub(super) fn new(started: Timestamp) -> Self {
        let known = |counter: Counter| counter.known().into_iter().map(move |labels| ((counter, labels), 0));
        let counts = Counter::ALL.into_iter().flat_map(known).collect();
        Self { counts: Mutex::new(counts), looked: Mutex::default(), started }
    }

    fn add(&self, counter: Counter, labels: String) {
        *self.counts.lock().expect("no panic holds this lock").entry((counter, labels)).or_default() += 1;
    }

    /// A message was answered; `answered` is what became of it.
    pub(super) fn message(&self, phase: PhaseKind, answered: &Result<super::Taken, RoundError>) {
        let word = match answered {
            Ok(super::Taken::Fresh) => "fresh",
            Ok(super::Taken::Again) => "again",
            Err(RoundError::Rejected(_) | RoundError::Unknown(_)) => "refused",
            Err(RoundError::OtherBytes { .. }) => "other-bytes",
            Err(RoundError::KeyTaken) => "key-taken",
            Err(RoundError::Gone(_)) => "late",
            Err(_) => "failed",
        };
        self.add(Counter::Messages, format!("{},{}", label("phase", phase_word(phase)), label("answer", word)));
    }

    /// An answer went out at the clients' address.
    pub fn answer(&self, code: u16) {
        self.add(Counter::Answers, label("code", code));
    }

    /// This replica begins a closing; somebody may have begun it before.
    pub(super) fn closing_begun(&self, attempts: u32) {
        self.add(Counter::ClosingsBegun, label("attempt", if attempts > 1 { "again" } else { "first" }));
    }

    /// This replica's commit closed a phase.
    pub(super) fn closed(&self, phase: PhaseKind, next: &Phase) {
        self.add(Counter::PhasesClosed, label("phase", phase_word(phase)));
        match next {
            Phase::Published(_) => self.add(Counter::RoundsEnded, label("ending", "released")),
            Phase::Abandoned(reason, _) => self.add(Counter::RoundsEnded, label("ending", reason.word())),
            _ => {}
        }
    }

    /// Evidence names somebody.
    pub(super) fn named(&self, rule: u8) {
        self.add(Counter::Named, label("rule", format_args!("R-{rule:02}")));
    }

    /// A step of the loop failed.
    pub(super) fn loop_failed(&self, step: &'static str) {
        self.add(Counter::LoopFailures, label("step", step));
    }

    /// The loop looked at everything.
    pub(super) fn looked(&self, now: Timestamp) {
        *self.looked.lock().expect("no panic holds this lock") = Some(now);
    }

    /// A purge failed.
    pub fn purge_failed(&self) {
        self.add(Counter::PurgeFailures, String::new());
    }
}

fn label(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name}=\"{value}\"") // values are ours: words, numbers and hexadecimal digits
}

fn seconds(time: Timestamp) -> f64 {
    time.0 as f64 / 1e6
}

/// Text that grows family by family.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: impl IntoIterator<Item = (String, f64)>) {
        let fits = "a string takes everything";
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect(fits);
        for (labels, value) in samples {
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            writeln!(self.0, "{name}{labels} {value}").expect(fits);
        }
    }

    fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (String, f64)>) {
        self.family(name, "gauge", help, samples);
    }
}

/// What the store says, at one time.
#[derive(Default)]
struct Standings {
    open: Vec<(String, f64)>,
    overdue_s: Vec<(String, f64)>,
    log_entries: Vec<(String, f64)>,
    opened: Vec<(String, f64)>,
    rounds: Vec<(String, f64)>,
    spent: Vec<(String, f64)>,
    budget: Vec<(String, f64)>,
}

impl<S: Store> Rounds<S> {
    /// What this replica counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The text of `/metrics`. A store that gives no answer in time leaves its own families empty.
    pub async fn exposition(self: &Arc<Self>, store_time_max: Duration) -> String {
        let mut text = Exposition::default();
        let version = [label("version", env!("CARGO_PKG_VERSION")), label("schema", SCHEMA_VERSION)].join(",");
        text.gauge("veilsum_build_info", "1, of this program and the schema it needs.", [(version, 1.0)]);
        let started = [(String::new(), seconds(self.metrics.started))];
        text.gauge("veilsum_start_time_seconds", "When this process started, by its own clock.", started);
        let looked = self.metrics.looked.lock().expect("no panic holds this lock").map(seconds);
        let help = "When the watch loop last looked at every round and task, by this machine's clock.";
        text.gauge("veilsum_loop_time_seconds", help, looked.map(|at| (String::new(), at)));
        text.gauge("veilsum_time_seconds", "This machine's clock.", [(String::new(), seconds(self.now()))]);
        let counts = self.metrics.counts.lock().expect("no panic holds this lock").clone();
        for counter in Counter::ALL {
            let own = counts.iter().filter(|((of, _), _)| *of == counter);
            let samples = own.map(|((_, labels), count)| (labels.clone(), *count as f64));
            text.family(counter.name(), "counter", counter.help(), samples);
        }
        let standings = tokio::time::timeout(store_time_max, self.standings()).await.unwrap_or(Err(RoundError::Busy));
        let up = [(String::new(), f64::from(u8::from(standings.is_ok())))];
        text.gauge("veilsum_store_up", "1 if the database answered just now.", up);
        let Standings { open, overdue_s, log_entries, opened, rounds, spent, budget } = standings.unwrap_or_default();
        text.gauge("veilsum_rounds_open", "Rounds that are not over, by phase.", open);
        let help = "How long the phase that should have closed first is overdue.";
        text.gauge("veilsum_round_overdue_seconds", help, overdue_s);
        text.gauge("veilsum_log_entries", "Entries of the log.", log_entries);
        text.gauge("veilsum_task_rounds_opened", "Rounds opened so far, by task.", opened);
        text.gauge("veilsum_task_rounds", "Rounds that the task file permits, by task.", rounds);
        text.gauge("veilsum_task_epsilon_spent", "Epsilon spent so far, by task with noise.", spent);
        text.gauge("veilsum_task_epsilon_budget", "Epsilon that the task file permits, by task with noise.", budget);
        text.0
    }

    async fn standings(self: &Arc<Self>) -> Result<Standings, RoundError> {
        let standing = self.store.standing().await?;
        let mut found = Standings::default();
        for phase in PhaseKind::ALL.into_iter().filter(|phase| !phase.is_over()) {
            let count = standing.iter().filter(|stand| stand.phase == phase).count();
            found.open.push((label("phase", phase_word(phase)), count as f64));
        }
        found.overdue_s.push((String::new(), self.overdue_s(&standing).await?));
        found.log_entries.push((String::new(), self.store.log_head().await?.size as f64));
        for row in self.store.tasks().await? {
            if self.task(row.task).is_none() {
                self.load_tasks().await?;
            }
            let Some(task) = self.task(row.task) else { continue };
            let of = || label("task", row.task);
            found.opened.push((of(), row.counter as f64));
            found.rounds.push((of(), task.file.rounds as f64));
            if task.charge.is_some() {
                let rows = self.store.ledger(row.task).await?;
                found.spent.push((of(), epsilon_spent(&rows, task.file.dp_delta).unwrap_or(0.0)));
                found.budget.push((of(), task.file.budget_epsilon));
            }
        }
        Ok(found)
    }

    async fn overdue_s(&self, standing: &[Standing]) -> Result<f64, RoundError> {
        let mut most_us = 0;
        for stand in standing {
            let view = self.view(stand.round).await?;
            if view.version == stand.version {
                self.invited(stand).await?; // takes the task up, whose grace counts
                most_us = most_us.max(self.now().0.saturating_sub(self.due(&view, stand).0));
            }
        }
        Ok(seconds(Timestamp(most_us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_and_step_is_there_before_it_happens() {
        let metrics = Metrics::new(Timestamp(0));
        metrics.loop_failed("advance");
        let counts = metrics.counts.lock().expect("ours");
        let of = |counter: Counter| counts.iter().filter(|((of, _), _)| *of == counter).collect::<Vec<_>>();
        assert_eq!(of(Counter::RoundsEnded).len(), 7, "six words of wire.md §9, and released");
        assert!(of(Counter::RoundsEnded).iter().all(|(_, count)| **count == 0));
        let failures: Vec<_> =
            of(Counter::LoopFailures).iter().map(|((_, labels), count)| (labels.as_str(), **count)).collect();
        assert_eq!(failures, [("step=\"advance\"", 1), ("step=\"look\"", 0), ("step=\"open\"", 0)]);
    }

    #[test]
    fn a_family_is_announced_before_its_samples() {
        let mut text = Exposition::default();
        text.gauge("a", "Help.", [(String::new(), 1.0), (label("b", "c"), 2.5)]);
        assert_eq!(text.0, "# HELP a Help.\n# TYPE a gauge\na 1\na{b=\"c\"} 2.5\n");
    }
}
