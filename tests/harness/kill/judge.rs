//! Every released sum against what clients were told, when all is over.

use std::collections::{BTreeMap, BTreeSet};

use veilsum_aggregator::store::Store as _;
use veilsum_aggregator::store::seal::ServiceKey;
use veilsum_aggregator::store::sql::SqlStore;
use veilsum_crypto::ids::RoundId;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::{Header, Roster, Survivors};
use veilsum_crypto::primitives::labels::{self, Label};
use veilsum_crypto::primitives::merkle;
use veilsum_crypto::primitives::signature::Statement;
use veilsum_crypto::server::{PhaseKind, StatementKind};
use veilsum_crypto::testing::client_id;

use super::stage::Stage;
use super::{CLIENTS, Report};

/// Reads the database and the journals.
pub fn judge(stage: &Stage) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let key = ServiceKey::from_hex(&stage.sealing_key()).expect("as the service made it");
        let store = SqlStore::open(&stage.url, key).await.expect("the database answers");
        let mut report = Report::default();
        let told = told(stage, &mut report);
        let rounds = store.rounds(stage.task, None, u32::MAX).await.expect("it answers");
        for (round, _, phase) in rounds {
            for fault in store.faults(round).await.expect("it answers") {
                let number = (0..CLIENTS).find(|number| client_id(*number) == fault.client);
                report
                    .violations
                    .push(format!("round {round}: client {number:?} is honest and was named, rule {}", fault.rule));
            }
            match phase {
                PhaseKind::Published => released(&store, round, &told, &mut report).await,
                PhaseKind::Abandoned => report.abandoned += 1,
                _ => {}
            }
        }
        the_log_holds(&store, &mut report).await;
        said(stage, &mut report);
        report
    })
}

/// By round: who was told that its upload was accepted.
type Told = BTreeMap<RoundId, BTreeSet<usize>>;

fn told(stage: &Stage, report: &mut Report) -> Told {
    let mut told = Told::new();
    for number in 0..CLIENTS as usize {
        let journal = std::fs::read_to_string(stage.journal(number)).unwrap_or_default();
        for line in journal.lines() {
            match line.split_once(' ') {
                Some(("accepted", round)) => {
                    let round = RoundId::from_hex(round).expect("as it was written");
                    told.entry(round).or_default().insert(number);
                }
                Some(("verified", _)) => {}
                Some(("stopped" | "failed", why)) => {
                    report.violations.push(format!("client {number} went no further: {why}"));
                }
                _ => report.violations.push(format!("client {number} wrote \"{line}\"")),
            }
        }
    }
    told
}

async fn statement(store: &SqlStore, round: RoundId, kind: StatementKind, label: Label) -> (Statement, Vec<u8>) {
    let fixed = store.statement(round, kind).await.expect("it answers");
    let (bytes, attachment) = fixed.unwrap_or_else(|| panic!("round {round} was published without {kind:?}"));
    (Statement::decode(&bytes, label).expect("as it was fixed"), attachment)
}

/// The sum is a 1 for every survivor and a 0 for everybody else, and whoever was told so is among them.
async fn released(store: &SqlStore, round: RoundId, told: &Told, report: &mut Report) {
    let (header, _) = statement(store, round, StatementKind::Header, labels::HEADER).await;
    let header = Header::from_statement(&header).expect("as it was fixed");
    let (_, packed) = statement(store, round, StatementKind::Result, labels::RESULT).await;
    if packed.is_empty() {
        report.abandoned += 1;
        return;
    }
    report.released += 1;
    let params = &header.params;
    let sum = RingVector::unpack(&packed, params.vector_len as usize, params.ring_bits).expect("as it was fixed");
    let sum: Vec<i64> = sum.to_signed().iter().map(|value| value / params.scale as i64).collect();
    let (roster, list) = statement(store, round, StatementKind::Roster, labels::ROSTER).await;
    let roster = Roster::from_parts(roster, &list).expect("as it was fixed");
    let (survivors, _) = statement(store, round, StatementKind::Survivors, labels::SURVIVORS).await;
    let survivors = Survivors::from_statement(survivors, roster.n()).expect("as it was fixed");
    let listed: BTreeSet<usize> = (0..CLIENTS)
        .filter(|number| roster.leaf_of(client_id(*number)).is_some_and(|leaf| survivors.members().has(leaf)))
        .map(|number| number as usize)
        .collect();
    let accepted = told.get(&round).cloned().unwrap_or_default();
    report.accepted += accepted.len() as u64;
    for (number, count) in sum.iter().enumerate() {
        let (is_listed, was_told) = (listed.contains(&number), accepted.contains(&number));
        match *count {
            0 if was_told => report.lost.push(format!("round {round}: client {number}")),
            0 if is_listed => report.violations.push(format!("round {round}: survivor {number} is not in the sum")),
            1 if !is_listed => {
                report.violations.push(format!("round {round}: client {number} is in the sum, not listed"))
            }
            0 | 1 => {}
            count => report.double.push(format!("round {round}: client {number}, {count} times")),
        }
    }
}

/// The log's head is the root over all its leaves, none missing.
async fn the_log_holds(store: &SqlStore, report: &mut Report) {
    let head = store.log_head().await.expect("it answers");
    let leaves = store.log_leaves(0, head.size).await.expect("it answers");
    if leaves.len() as u64 != head.size || merkle::root(&leaves) != head.root {
        report.violations.push(format!(
            "the log has {} leaves, its head says {} and another root",
            leaves.len(),
            head.size
        ));
    }
}

/// A panic anywhere is one too many.
fn said(stage: &Stage, report: &mut Report) {
    for (who, text) in stage.said() {
        for line in text.lines().filter(|line| line.contains("panicked")) {
            report.violations.push(format!("{who}: {line}"));
        }
    }
}
