//! What must hold while a simulation runs, whatever is injected; and the record of what was seen on the way.
//!
//! One message a phase from every honest client, and none before its last one was accepted; one accepted message a phase
//! from everybody; one statement a kind and round, one survivor list behind all answers; phases that only go forward, and
//! nothing refused as late while its window is open; one round of a task at a time; a log and a ledger that only grow.
//! What must hold in the end is in [`judge`](super::judge).

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use veilsum_aggregator::store::Store as _;
use veilsum_crypto::ids::{Digest, RoundId, TaskId, Timestamp};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{Signed, Statement};
use veilsum_crypto::server::PhaseKind;
use veilsum_crypto::testing::NOON;

use super::network::Asked;
use super::{Sim, short_round};
use crate::memory_store::MemoryStore;
use crate::world::sha256;

/// The record.
#[derive(Default)]
pub struct Seen {
    /// What did not hold.
    pub violations: Vec<String>,
    /// Rounds that released a sum.
    pub released: u32,
    /// Rounds that ended without one.
    pub abandoned: u32,
    /// What a client sent first to a path.
    messages: BTreeMap<String, Digest>,
    /// What was served first under a path.
    statements: BTreeMap<String, Digest>,
    /// The survivor list behind the first answer of a round.
    survivors: BTreeMap<Digest, (usize, Digest)>,
    /// What was answered 204, by path.
    accepted: BTreeMap<String, Digest>,
    /// When the phases of rounds opened, in their replica's time.
    opened: BTreeMap<RoundId, BTreeMap<PhaseKind, Timestamp>>,
    log: Vec<Digest>,
    spent: BTreeSet<u64>,
}

impl Seen {
    /// Whether a message to this path was answered 204.
    pub fn was_accepted(&self, path: &str) -> bool {
        self.accepted.contains_key(path)
    }

    /// The counters of rounds whose charge was spent.
    pub fn spent(&self) -> &BTreeSet<u64> {
        &self.spent
    }
}

/// A phase of a round has opened, or the round is over: a commit was done. Two replicas may open one round.
pub fn opened(sim: &Sim, round: RoundId, phase: PhaseKind, now: Timestamp) {
    let last = {
        let mut seen = sim.seen.lock().expect("one thread");
        let phases = seen.opened.entry(round).or_default();
        let last = phases.last_key_value().map(|(last, _)| *last);
        phases.entry(phase).or_insert(now);
        last
    };
    if let Some(last) = last.filter(|last| *last >= phase && phase != PhaseKind::Advertising) {
        sim.violation(format_args!("round {} went from {last:?} to {phase:?}", short_round(&round)));
    }
}

/// A request on its way to a replica.
pub fn sent(sim: &Sim, asked: &Asked) {
    if asked.method != Method::PUT || sim.plan.lie_of(asked.client).is_some() {
        return;
    }
    let digest = sha256(&asked.body);
    let mut found = Vec::new();
    {
        let mut seen = sim.seen.lock().expect("one thread");
        if *seen.messages.entry(asked.target.clone()).or_insert(digest) != digest {
            found.push(format!("c{} sent two different messages: {}", asked.client, asked.target));
        }
        if !is_next(&seen, &asked.target) {
            found.push(format!("c{} goes on, and its last message was not accepted: {}", asked.client, asked.target));
        }
        if asked.target.contains("/unmask/") {
            let signed = Signed::decode(&asked.body, labels::ANSWER).expect("an honest client");
            let Statement { context, previous, .. } = *signed.statement();
            let (first, list) = *seen.survivors.entry(context).or_insert((asked.client, previous));
            if list != previous {
                found.push(format!("c{first} and c{} answered for different survivor lists", asked.client));
            }
        }
    }
    found.into_iter().for_each(|what| sim.violation(what));
}

/// Whether what comes before a message, in its phase's order, was accepted. Openings and confirmations few are asked for.
fn is_next(seen: &Seen, target: &str) -> bool {
    const ORDER: [&str; 5] = ["/advertise/", "/share/", "/acknowledge/", "/mask/", "/unmask/"];
    let last = ORDER.windows(2).find(|pair| target.contains(pair[1])).map(|pair| target.replace(pair[1], pair[0]));
    last.is_none_or(|last| seen.was_accepted(&last))
}

/// A replica's answer, before the network may lose it.
pub fn answered(sim: &Sim, asked: &Asked, status: u16, body: &[u8]) {
    let what = if status == 500 {
        Some(format!("a fault of the service: {} {}", asked.target, String::from_utf8_lossy(body)))
    } else if asked.method == Method::PUT {
        put_answered(sim, asked, status)
    } else {
        got(sim, asked, status, body)
    };
    what.into_iter().for_each(|what| sim.violation(what));
}

fn put_answered(sim: &Sim, asked: &Asked, status: u16) -> Option<String> {
    let (target, digest, is_honest) = (&asked.target, sha256(&asked.body), sim.plan.lie_of(asked.client).is_none());
    let mut seen = sim.seen.lock().expect("one thread");
    match seen.accepted.get(target).copied() {
        Some(first) if status == 204 && first != digest => Some(format!("two messages were accepted: {target}")),
        Some(_) if is_honest && status != 204 && !matches!(status, 425 | 500..) => {
            Some(format!("a message that had been accepted was answered {status}: {target}"))
        }
        None if status == 204 => {
            seen.accepted.insert(target.clone(), digest);
            None
        }
        None if is_honest && status == 410 && is_in_time(sim, &seen, target) => {
            Some(format!("a message was refused as late while its window was open: {target}"))
        }
        _ => None,
    }
}

/// Whether a phase's window is open now. No survivor need confirm once enough have.
fn is_in_time(sim: &Sim, seen: &Seen, target: &str) -> bool {
    let Some((round, phase)) = addressed(target).filter(|(_, phase)| *phase != PhaseKind::Confirming) else {
        return false;
    };
    let opened = seen.opened.get(&round).and_then(|phases| phases.get(&phase));
    let clocks_jump = !sim.plan.replica_clocks.is_empty();
    !clocks_jump && opened.is_some_and(|at| NOON.plus_ms(sim.now_ms()) < at.plus_ms(sim.plan.window_ms.into()))
}

/// The round and the phase of `/v1/rounds/{round}/{phase}/{client}`.
fn addressed(target: &str) -> Option<(RoundId, PhaseKind)> {
    let mut parts = target.strip_prefix("/v1/rounds/")?.split('/');
    let round = RoundId::from_hex(parts.next()?)?;
    let phase = match parts.next()? {
        "advertise" => PhaseKind::Advertising,
        "share" => PhaseKind::Sharing,
        "acknowledge" => PhaseKind::Acknowledging,
        "open" => PhaseKind::Opening,
        "mask" => PhaseKind::Masking,
        "confirm" => PhaseKind::Confirming,
        "unmask" => PhaseKind::Unmasking,
        _ => return None,
    };
    Some((round, phase))
}

fn got(sim: &Sim, asked: &Asked, status: u16, body: &[u8]) -> Option<String> {
    let last = asked.target.rsplit('/').next().unwrap_or_default();
    if status != 200 || !["roster", "core", "survivors", "result", "header"].contains(&last) {
        return None;
    }
    let (mut seen, digest) = (sim.seen.lock().expect("one thread"), sha256(body));
    let first = *seen.statements.entry(asked.target.clone()).or_insert(digest);
    (first != digest).then(|| format!("two different statements were served: {}", asked.target))
}

/// What must only grow.
pub async fn growth(sim: &Sim, store: &MemoryStore, task: TaskId) {
    let size = store.log_head().await.expect("memory answers").size;
    let leaves = store.log_leaves(0, size).await.expect("memory answers");
    let ledger = store.ledger(task).await.expect("memory answers");
    let spent: BTreeSet<u64> = ledger.iter().filter(|row| row.spent).map(|row| row.counter).collect();
    let (log_grew, ledger_grew) = {
        let mut seen = sim.seen.lock().expect("one thread");
        let grew = (leaves.starts_with(&seen.log), spent.is_superset(&seen.spent));
        (seen.log, seen.spent) = (leaves, spent);
        grew
    };
    if !log_grew {
        sim.violation("the log lost or changed a leaf");
    }
    if !ledger_grew {
        sim.violation("the ledger lost a charge that was spent");
    }
    let standing = store.standing().await.expect("memory answers");
    if let [one, another, ..] = &standing[..] {
        let (one, another) = (short_round(&one.round), short_round(&another.round));
        sim.violation(format_args!("rounds {one} and {another} of one task run at once"));
    }
}
