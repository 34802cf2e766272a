//! Tasks are created and rounds opened; rounds that were over long ago are purged. §8

use sha2::{Digest as _, Sha256};
use sqlx::{Any, Row, Transaction};
use veilsum_crypto::ids::{Digest, RoundId, TaskId, Timestamp};
use veilsum_crypto::server::{PhaseKind, StatementKind};

use super::rows::{Columns, Query, damaged, many};
use super::{Committed, Failure, GATES, NewRound, SqlStore, log, micros};
use crate::store::{Charge, ledger_entry, statement_entry};

impl SqlStore {
    pub(super) async fn try_create_task(
        &self,
        task: TaskId,
        file: &str,
        model: &[u8],
        now: Timestamp,
    ) -> Result<Committed, Failure> {
        let digest = Digest(Sha256::digest(model).into());
        let mut writing = self.begin().await?;
        let made = sqlx::query(
            "INSERT INTO tasks (task, file, created_us, model, counter, open) \
             VALUES ($1, $2, $3, $4, 0, 0) ON CONFLICT DO NOTHING",
        )
        .bind(task.0.to_vec())
        .bind(file.to_owned())
        .bind(micros(now))
        .bind(digest.0.to_vec())
        .execute(&mut *writing.tx)
        .await?
        .rows_affected();
        if made == 0 {
            let row = sqlx::query("SELECT file FROM tasks WHERE task = $1")
                .bind(task.0.to_vec())
                .fetch_one(&mut *writing.tx)
                .await?;
            let same = row.try_get::<String, _>(0)? == file;
            return Ok(if same { Committed::Yes } else { Committed::Conflict });
        }
        insert_model(&mut writing.tx, digest, model).await?;
        writing.commit().await?;
        Ok(Committed::Yes)
    }

    pub(super) async fn try_open_round(&self, new: &NewRound) -> Result<Committed, Failure> {
        let counter =
            i64::try_from(new.counter).map_err(|_| damaged("a counter is larger than it can be".to_owned()))?;
        let mut writing = self.begin().await?;
        let first =
            sqlx::query("UPDATE tasks SET counter = $2, open = 1 WHERE task = $1 AND counter = $2 - 1 AND open = 0")
                .bind(new.task.0.to_vec())
                .bind(counter)
                .execute(&mut *writing.tx)
                .await?
                .rows_affected();
        if first == 0 {
            let mine = sqlx::query("SELECT round FROM rounds WHERE round = $1 AND task = $2 AND counter = $3")
                .bind(new.round.0.to_vec())
                .bind(new.task.0.to_vec())
                .bind(counter)
                .fetch_optional(&mut *writing.tx)
                .await?;
            return Ok(if mine.is_some() { Committed::Yes } else { Committed::Conflict });
        }
        sqlx::query(
            "INSERT INTO rounds (round, task, counter, salt, version, phase, state, opened_us, over_us) \
             VALUES ($1, $2, $3, $4, 0, $5, $6, $7, NULL)",
        )
        .bind(new.round.0.to_vec())
        .bind(new.task.0.to_vec())
        .bind(counter)
        .bind(new.salt.to_vec())
        .bind(PhaseKind::Advertising as i64)
        .bind(new.state.clone())
        .bind(micros(new.opened))
        .execute(&mut *writing.tx)
        .await?;
        sqlx::query("INSERT INTO task_rounds (task, counter, round, salt) VALUES ($1, $2, $3, $4)")
            .bind(new.task.0.to_vec())
            .bind(counter)
            .bind(new.round.0.to_vec())
            .bind(new.salt.to_vec())
            .execute(&mut *writing.tx)
            .await?;
        insert_gates(&mut writing.tx, new).await?;
        self.insert_round_key(&mut writing.tx, new.round, new.opened).await?;
        let header = StatementKind::Header;
        if !insert_statement(&mut writing.tx, new.round, header, &new.header, &[]).await? {
            return Ok(Committed::Conflict); // a round of this name was purged
        }
        sqlx::query("INSERT INTO ledger (task, counter, charge, state) VALUES ($1, $2, $3, 'reserved')")
            .bind(new.task.0.to_vec())
            .bind(counter)
            .bind(new.charge.clone())
            .execute(&mut *writing.tx)
            .await?;
        let context = Digest(Sha256::digest(&new.header).into());
        let entries = [
            statement_entry(&new.salt, &new.header),
            ledger_entry(&new.salt, new.task, new.counter, context, Charge::Reserved),
        ];
        log::append(&mut writing.tx, self.seen.as_ref(), &entries).await?;
        writing.commit().await?;
        Ok(Committed::Yes)
    }

    /// 1, or 0 if another replica was first.
    pub(super) async fn try_purge(&self, round: RoundId) -> Result<u64, Failure> {
        let mut writing = self.begin().await?;
        for delete in [
            "DELETE FROM gates WHERE round = $1",
            "DELETE FROM received WHERE round = $1",
            "DELETE FROM claims WHERE round = $1",
            "DELETE FROM mail WHERE round = $1",
            "DELETE FROM partial_sums WHERE round = $1",
            "DELETE FROM round_keys WHERE round = $1",
            "DELETE FROM leases WHERE round = $1",
        ] {
            sqlx::query(delete).bind(round.0.to_vec()).execute(&mut *writing.tx).await?;
        }
        let purged = sqlx::query("DELETE FROM rounds WHERE round = $1")
            .bind(round.0.to_vec())
            .execute(&mut *writing.tx)
            .await?
            .rows_affected();
        writing.commit().await?;
        Ok(purged)
    }
}

impl SqlStore {
    /// 1, or 0 if another replica was first.
    pub(super) async fn try_erase_bodies(&self, round: RoundId) -> Result<u64, Failure> {
        let mut writing = self.begin().await?;
        let erased = sqlx::query("UPDATE received SET body = NULL WHERE round = $1 AND body IS NOT NULL")
            .bind(round.0.to_vec())
            .execute(&mut *writing.tx)
            .await?
            .rows_affected();
        sqlx::query("UPDATE rounds SET bodies_gone = 1 WHERE round = $1 AND bodies_gone IS NULL")
            .bind(round.0.to_vec())
            .execute(&mut *writing.tx)
            .await?;
        writing.commit().await?;
        Ok(erased.min(1))
    }

    /// Whether it was new.
    pub(super) async fn try_put_model(&self, model: &[u8]) -> Result<bool, Failure> {
        let mut writing = self.begin().await?;
        let fresh = insert_model(&mut writing.tx, Digest(Sha256::digest(model).into()), model).await?;
        writing.commit().await?;
        Ok(fresh)
    }
}

async fn insert_gates(tx: &mut Transaction<'static, Any>, new: &NewRound) -> Result<(), Failure> {
    let gates: Vec<i64> = (0..i64::from(GATES)).collect();
    let text = "INSERT INTO gates (round, open_for, batches, clients, last_us, gate) VALUES {rows}";
    let first = |query: Query| {
        query
            .bind(new.round.0.to_vec())
            .bind(PhaseKind::Advertising as i64)
            .bind(0_i64)
            .bind(0_i64)
            .bind(micros(new.opened))
    };
    many(text, Columns { shared: 5, own: 1 }, &gates, first, |query, gate| query.bind(*gate))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Whether it was written: a round has one statement of a kind, R-30.
pub(super) async fn insert_statement(
    tx: &mut Transaction<'static, Any>,
    round: RoundId,
    kind: StatementKind,
    bytes: &[u8],
    attachment: &[u8],
) -> Result<bool, Failure> {
    let written = sqlx::query(
        "INSERT INTO statements (round, kind, bytes, attachment) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
    )
    .bind(round.0.to_vec())
    .bind(kind as i64)
    .bind(bytes.to_vec())
    .bind(attachment.to_vec())
    .execute(&mut **tx)
    .await?
    .rows_affected();
    Ok(written == 1)
}

/// Whether it was new.
pub(super) async fn insert_model(
    tx: &mut Transaction<'static, Any>,
    digest: Digest,
    bytes: &[u8],
) -> Result<bool, Failure> {
    let written = sqlx::query("INSERT INTO models (digest, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(digest.0.to_vec())
        .bind(bytes.to_vec())
        .execute(&mut **tx)
        .await?
        .rows_affected();
    Ok(written == 1)
}
