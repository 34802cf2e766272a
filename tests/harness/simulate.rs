//! Deterministic simulation: whole rounds in one process, one thread and virtual time, everything decided by one seed.
//!
//! Real are the client's phases, the HTTP handlers, `accept`, `close`, `advance` and the admission queues. Simulated are
//! the network, the clocks, dice, the disks of clients, and a store in memory behind a faulty line ([`store`]). What is
//! drawn is in [`plan`], what must hold in [`watch`], [`judge`] and `records`. The same seed gives the same trace hash on every machine.

use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};
use tokio::time::{Duration, Instant};
use veilsum_crypto::ids::{ClientId, RoundId};

pub mod client;
pub mod judge;
mod lies;
pub mod network;
pub mod plan;
mod records;
pub mod server;
pub mod store;
pub mod watch;

use crate::dice::Dice;
use plan::Plan;

/// What one seed gave.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// SHA-256 over all lines of the trace.
    pub trace_hash: [u8; 32],
    /// The lines, where they were asked for.
    pub trace: Vec<String>,
    /// Virtual time, milliseconds.
    pub virtual_ms: u64,
    /// Faults injected, by kind.
    pub faults: std::collections::BTreeMap<&'static str, u64>,
    /// Rounds that released a sum.
    pub released: u32,
    /// Rounds that ended without one.
    pub abandoned: u32,
    /// What did not hold; empty where all did.
    pub violations: Vec<String>,
}

/// What everybody in a simulation shares: the plan, the trace, and what has been seen.
pub struct Sim {
    /// What was drawn from the seed.
    pub plan: Plan,
    start: Instant,
    trace: Mutex<Trace>,
    /// What was observed, and what did not hold.
    pub seen: Mutex<watch::Seen>,
}

#[derive(Default)]
struct Trace {
    hash: Sha256,
    lines: Vec<String>,
    keeps_lines: bool,
    faults: std::collections::BTreeMap<&'static str, u64>,
}

impl Sim {
    /// Virtual milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).expect("a simulation is short")
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: impl std::fmt::Display) {
        let line = format!("{:>7} {line}", self.now_ms());
        let mut trace = self.trace.lock().expect("one thread");
        trace.hash.update(line.as_bytes());
        trace.hash.update(b"\n");
        if trace.keeps_lines {
            trace.lines.push(line);
        }
    }

    /// Counts an injected fault, and notes it.
    pub fn fault(&self, kind: &'static str, detail: impl std::fmt::Display) {
        *self.trace.lock().expect("one thread").faults.entry(kind).or_default() += 1;
        self.note(format_args!("fault: {kind}: {detail}"));
    }

    /// Whether nothing happened to everybody at once: no loss, no slowness, no clock that jumps, no replica or store that
    /// was away. What happens to one client alone is another matter.
    pub fn is_calm(&self) -> bool {
        const OF_ONE_CLIENT: [&str; 3] = ["client crash", "partition", "duplicate"];
        let Plan { stragglers, slow_store, replica_clocks, client_clocks, .. } = &self.plan;
        let trace = self.trace.lock().expect("one thread");
        *stragglers == 0
            && slow_store.0 == 0
            && replica_clocks.is_empty()
            && client_clocks.is_empty()
            && trace.faults.keys().all(|kind| OF_ONE_CLIENT.contains(kind))
    }

    /// Something that must not happen.
    pub fn violation(&self, what: impl std::fmt::Display) {
        let what = what.to_string();
        self.note(format_args!("VIOLATION: {what}"));
        self.seen.lock().expect("one thread").violations.push(what);
    }
}

/// A name for the trace.
pub fn short(id: &ClientId) -> String {
    format!("c{}", u32::from_be_bytes(id.0[..4].try_into().expect("four of sixteen")))
}

/// The first digits of a round's id.
pub fn short_round(id: &RoundId) -> String {
    hex::encode(&id.0[..3])
}

/// How long a simulation may take, virtual: far more than any schedule needs.
const HORIZON: Duration = Duration::from_secs(3 * 60 * 60);

/// Plays one seed to its end.
pub fn run(seed: u64, keeps_lines: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    runtime.block_on(async move {
        let plan = Plan::draw(seed);
        let trace = Trace { keeps_lines, ..Trace::default() };
        let sim = Arc::new(Sim { plan, start: Instant::now(), trace: Mutex::new(trace), seen: Mutex::default() });
        sim.note(format_args!("seed {seed}: {}", sim.plan));
        if tokio::time::timeout(HORIZON, play(sim.clone(), seed)).await.is_err() {
            sim.violation("the rounds did not come to an end");
        }
        let virtual_ms = sim.now_ms();
        let mut seen = std::mem::take(&mut *sim.seen.lock().expect("one thread"));
        let mut trace = std::mem::take(&mut *sim.trace.lock().expect("one thread"));
        Outcome {
            seed,
            trace_hash: trace.hash.finalize_reset().into(),
            trace: trace.lines,
            virtual_ms,
            faults: trace.faults,
            released: seen.released,
            abandoned: seen.abandoned,
            violations: std::mem::take(&mut seen.violations),
        }
    })
}

async fn play(sim: Arc<Sim>, seed: u64) {
    let mut dice = Dice::new(seed, "world");
    let servers = server::Servers::start(sim.clone(), &mut dice).await;
    let network = Arc::new(network::Network::new(sim.clone(), servers.clone(), Dice::new(seed, "network")));
    let clients = client::population(&sim, &servers, &mut dice);
    let mut living = Vec::new();
    for (number, device) in clients.iter().enumerate() {
        let dice = Dice::new(seed, &format!("client {number}"));
        living.push(tokio::spawn(client::live(sim.clone(), network.clone(), device.clone(), dice)));
    }
    servers.until_over().await;
    // Who waits for the last result still gets it.
    tokio::time::sleep(Duration::from_secs(90)).await;
    living.iter().for_each(tokio::task::JoinHandle::abort);
    for task in living {
        if let Err(error) = task.await
            && error.is_panic()
        {
            sim.violation(format_args!("a client panicked: {error}"));
        }
    }
    judge::judge(&sim, &servers, &clients).await;
}
