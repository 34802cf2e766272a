//! Closing a phase: the fence, and the commit that opens the next. §8

use sha2::{Digest as _, Sha256};
use sqlx::{Any, Row, Transaction};
use veilsum_crypto::ids::{ClientId, Digest, RoundId, TaskId, Timestamp};
use veilsum_crypto::server::{Effect, PhaseKind, Received, StatementKind};

use super::open::{insert_model, insert_statement};
use super::rows::{self, damaged};
use super::{Committed, Failure, SqlStore, Version, log, micros};
use crate::store::{Charge, ledger_entry, root_entry, statement_entry};

/// `open_for` of gates that are open for nothing.
const SHUT: i64 = -1;

/// What one commit writes.
#[derive(Clone, Copy)]
pub(super) struct Commit<'a> {
    pub(super) round: RoundId,
    pub(super) expected: Version,
    pub(super) phase: PhaseKind,
    pub(super) state: &'a [u8],
    pub(super) effects: &'a [Effect],
    pub(super) now: Timestamp,
}

/// What never changes in a round, and the phase that the commit closes.
struct Before {
    task: TaskId,
    counter: i64,
    salt: [u8; 32],
    context: Digest,
    phase: PhaseKind,
}

impl Before {
    fn entry(&self, charge: Charge) -> Digest {
        let counter = self.counter.cast_unsigned();
        ledger_entry(&self.salt, self.task, counter, self.context, charge)
    }
}

impl SqlStore {
    /// Waits for every admission in flight; none can follow. Committed before anything is read.
    pub(super) async fn shut_gates(&self, round: RoundId, phase: PhaseKind) -> Result<(), Failure> {
        let mut writing = self.begin().await?;
        sqlx::query("UPDATE gates SET open_for = $3 WHERE round = $1 AND open_for = $2")
            .bind(round.0.to_vec())
            .bind(phase as i64)
            .bind(SHUT)
            .execute(&mut *writing.tx)
            .await?;
        writing.commit().await
    }

    pub(super) async fn read_received(&self, round: RoundId, phase: PhaseKind) -> Result<Received, Failure> {
        let bodies = self.read_bodies(round, phase, None).await?;
        let mut earlier = Vec::new();
        for phase in Received::needs(phase) {
            earlier.push((*phase, self.read_bodies(round, *phase, None).await?));
        }
        let mut received = Received::new(bodies, earlier);
        if phase == PhaseKind::Unmasking {
            received.sum = self.read_sum_unless_erased(round).await?;
        }
        Ok(received)
    }

    pub(super) async fn try_commit(&self, commit: &Commit<'_>) -> Result<Committed, Failure> {
        let mut writing = self.begin().await?;
        let tx = &mut writing.tx;
        let Some(before) = advance(tx, commit).await? else { return Ok(Committed::Conflict) };
        open_gates(tx, commit).await?; // first: whoever is under way is erased too
        let (mut entries, mut charges) = (Vec::new(), Vec::new());
        for effect in commit.effects {
            match write(tx, commit.round, &before, effect).await? {
                Written::Conflict => return Ok(Committed::Conflict),
                Written::Quiet => {}
                Written::Entry(entry) => entries.push(entry),
                Written::Charge(charge) => charges.push(before.entry(charge)),
            }
        }
        if commit.phase.is_over() {
            sqlx::query("UPDATE tasks SET open = 0 WHERE task = $1 AND counter = $2")
                .bind(before.task.0.to_vec())
                .bind(before.counter)
                .execute(&mut **tx)
                .await?;
            sqlx::query("DELETE FROM leases WHERE round = $1").bind(commit.round.0.to_vec()).execute(&mut **tx).await?;
        }
        entries.extend(charges); // §9: statements and openings first
        log::append(tx, self.seen.as_ref(), &entries).await?;
        writing.commit().await?;
        Ok(Committed::Yes)
    }

    pub(super) async fn try_fault(
        &self,
        round: RoundId,
        phase: PhaseKind,
        client: ClientId,
        rule: u8,
        evidence: &[u8],
    ) -> Result<(), Failure> {
        let mut writing = self.begin().await?;
        insert_fault(&mut writing.tx, round, phase, client, rule, evidence).await?;
        writing.commit().await
    }
}

/// Writes the phase, if the round still stands where it was read and is not over.
async fn advance(tx: &mut Transaction<'static, Any>, commit: &Commit<'_>) -> Result<Option<Before>, Failure> {
    let row = sqlx::query(
        "SELECT r.task, r.counter, r.salt, r.phase, s.bytes \
         FROM rounds r JOIN statements s ON s.round = r.round AND s.kind = $3 \
         WHERE r.round = $1 AND r.version = $2 AND r.over_us IS NULL",
    )
    .bind(commit.round.0.to_vec())
    .bind(commit.expected.0)
    .bind(StatementKind::Header as i64)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let moved = sqlx::query(
        "UPDATE rounds SET version = version + 1, phase = $3, state = $4, opened_us = $5, over_us = $6 \
         WHERE round = $1 AND version = $2",
    )
    .bind(commit.round.0.to_vec())
    .bind(commit.expected.0)
    .bind(commit.phase as i64)
    .bind(commit.state.to_vec())
    .bind(micros(commit.now))
    .bind(commit.phase.is_over().then(|| micros(commit.now)))
    .execute(&mut **tx)
    .await?
    .rows_affected();
    Ok((moved == 1).then_some(Before {
        task: TaskId(rows::fixed(&row, 0)?),
        counter: row.try_get(1)?,
        salt: rows::fixed(&row, 2)?,
        context: Digest(Sha256::digest(row.try_get::<Vec<u8>, _>(4)?).into()),
        phase: rows::phase(&row, 3)?,
    }))
}

/// What an effect leaves for the rest of the commit.
enum Written {
    Quiet,
    /// Something to log.
    Entry(Digest),
    Charge(Charge),
    Conflict,
}

async fn write(
    tx: &mut Transaction<'static, Any>,
    round: RoundId,
    before: &Before,
    effect: &Effect,
) -> Result<Written, Failure> {
    match effect {
        Effect::Statement { kind, bytes, attachment } => {
            if !insert_statement(tx, round, *kind, bytes, attachment).await? {
                return Ok(Written::Conflict);
            }
            return Ok(Written::Entry(statement_entry(&before.salt, bytes)));
        }
        Effect::Log { root } => return Ok(Written::Entry(root_entry(&before.salt, *root))),
        Effect::Spend => return spend(tx, before).await,
        Effect::Lapse => return lapse(tx, before).await,
        Effect::Fault { client, rule, evidence } => {
            insert_fault(tx, round, before.phase, *client, *rule, evidence).await?;
        }
        Effect::Model { bytes, digest } => {
            insert_model(tx, *digest, bytes).await?;
            sqlx::query("UPDATE tasks SET model = $2 WHERE task = $1")
                .bind(before.task.0.to_vec())
                .bind(digest.0.to_vec())
                .execute(&mut **tx)
                .await?;
        }
        Effect::Erase => erase(tx, round).await?,
    }
    Ok(Written::Quiet)
}

/// A reservation becomes a charge for good.
async fn spend(tx: &mut Transaction<'static, Any>, before: &Before) -> Result<Written, Failure> {
    let spent =
        sqlx::query("UPDATE ledger SET state = 'spent' WHERE task = $1 AND counter = $2 AND state = 'reserved'")
            .bind(before.task.0.to_vec())
            .bind(before.counter)
            .execute(&mut **tx)
            .await?
            .rows_affected();
    match spent {
        1 => Ok(Written::Charge(Charge::Spent)),
        _ => Err(damaged(format!("round {} of its task has no reservation", before.counter))),
    }
}

/// Only a reservation lapses; what was spent stays spent.
async fn lapse(tx: &mut Transaction<'static, Any>, before: &Before) -> Result<Written, Failure> {
    let lapsed = sqlx::query("DELETE FROM ledger WHERE task = $1 AND counter = $2 AND state = 'reserved'")
        .bind(before.task.0.to_vec())
        .bind(before.counter)
        .execute(&mut **tx)
        .await?
        .rows_affected();
    Ok(if lapsed == 1 { Written::Charge(Charge::Lapsed) } else { Written::Quiet })
}

async fn insert_fault(
    tx: &mut Transaction<'static, Any>,
    round: RoundId,
    phase: PhaseKind,
    client: ClientId,
    rule: u8,
    evidence: &[u8],
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO faults (round, phase, client, rule, evidence) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT DO NOTHING",
    )
    .bind(round.0.to_vec())
    .bind(phase as i64)
    .bind(client.0.to_vec())
    .bind(i64::from(rule))
    .bind(evidence.to_vec())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Digests stay: they tell a repeated message from another one. So do the messages that the round's export holds, if it had a
/// roster: all but answers. §9
async fn erase(tx: &mut Transaction<'static, Any>, round: RoundId) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE received SET body = NULL WHERE round = $1 AND (phase = $2 \
         OR NOT EXISTS (SELECT 1 FROM statements s WHERE s.round = $1 AND s.kind = $3))",
    )
    .bind(round.0.to_vec())
    .bind(PhaseKind::Unmasking as i64)
    .bind(StatementKind::Roster as i64)
    .execute(&mut **tx)
    .await?;
    for erase in [
        "DELETE FROM claims WHERE round = $1",
        "DELETE FROM mail WHERE round = $1",
        "DELETE FROM partial_sums WHERE round = $1",
        "DELETE FROM round_keys WHERE round = $1",
    ] {
        sqlx::query(erase).bind(round.0.to_vec()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Opens the gates for the next phase, counting from nothing. Waits for admissions like the fence.
async fn open_gates(tx: &mut Transaction<'static, Any>, commit: &Commit<'_>) -> Result<(), Failure> {
    let open_for = if commit.phase.is_over() { SHUT } else { commit.phase as i64 };
    sqlx::query("UPDATE gates SET open_for = $2, batches = 0, clients = 0, last_us = $3 WHERE round = $1")
        .bind(commit.round.0.to_vec())
        .bind(open_for)
        .bind(micros(commit.now))
        .execute(&mut **tx)
        .await?;
    Ok(())
}
