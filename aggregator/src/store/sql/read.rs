//! Reading what was committed: no transaction, no lock. §8

use std::collections::BTreeMap;

use sqlx::Row;
use veilsum_crypto::ids::{ClientId, Digest, RoundId, TaskId, Timestamp};
use veilsum_crypto::server::{PhaseKind, StatementKind};

use super::rows::{self, ROWS_AT_ONCE, damaged, listed};
use super::{Failure, FaultRow, LedgerRow, Loaded, SqlStore, Standing, TaskRound, TaskRow, Version, micros};
use crate::store::seal::AnswerPlace;

impl SqlStore {
    pub(super) async fn read_tasks(&self) -> Result<Vec<TaskRow>, Failure> {
        sqlx::query("SELECT task, file, model, counter, open FROM tasks ORDER BY task")
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| {
                Ok(TaskRow {
                    task: TaskId(rows::fixed(row, 0)?),
                    file: row.try_get(1)?,
                    model: Digest(rows::fixed(row, 2)?),
                    counter: rows::number(row, 3)?,
                    open: row.try_get::<i64, _>(4)? == 1,
                })
            })
            .collect()
    }

    /// One row per gate; added up here, because the type of `SUM` differs between engines.
    pub(super) async fn read_standing(&self) -> Result<Vec<Standing>, Failure> {
        let gates = sqlx::query(
            "SELECT r.round, r.task, r.version, r.phase, r.opened_us, g.batches, g.clients, g.last_us \
             FROM rounds r JOIN gates g ON g.round = r.round WHERE r.over_us IS NULL ORDER BY r.round",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut standings: Vec<Standing> = Vec::new();
        for row in &gates {
            let round = RoundId(rows::fixed(row, 0)?);
            let (batches, clients): (u64, u32) = (rows::number(row, 5)?, rows::number(row, 6)?);
            let last = Timestamp(rows::number(row, 7)?);
            match standings.last_mut().filter(|standing| standing.round == round) {
                Some(standing) => {
                    standing.batches += batches;
                    standing.clients += clients;
                    standing.last = standing.last.max(last);
                }
                None => standings.push(Standing {
                    round,
                    task: TaskId(rows::fixed(row, 1)?),
                    version: Version(row.try_get(2)?),
                    phase: rows::phase(row, 3)?,
                    opened: Timestamp(rows::number(row, 4)?),
                    last,
                    batches,
                    clients,
                }),
            }
        }
        Ok(standings)
    }

    pub(super) async fn read_round(&self, round: RoundId) -> Result<Option<Loaded>, Failure> {
        let row = sqlx::query(
            "SELECT r.task, s.bytes, r.state, r.phase, r.version, r.opened_us, r.salt, r.over_us \
             FROM rounds r JOIN statements s ON s.round = r.round AND s.kind = $2 WHERE r.round = $1",
        )
        .bind(round.0.to_vec())
        .bind(StatementKind::Header as i64)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(Loaded {
                task: TaskId(rows::fixed(&row, 0)?),
                header: row.try_get(1)?,
                state: row.try_get(2)?,
                phase: rows::phase(&row, 3)?,
                version: Version(row.try_get(4)?),
                opened: Timestamp(rows::number(&row, 5)?),
                salt: rows::fixed(&row, 6)?,
                over: rows::maybe(&row, 7)?.map(Timestamp),
            })
        })
        .transpose()
    }

    pub(super) async fn read_newest_header(
        &self,
        task: TaskId,
        after: u64,
    ) -> Result<Option<(RoundId, Vec<u8>)>, Failure> {
        let row = sqlx::query(
            "SELECT r.round, s.bytes FROM rounds r JOIN statements s ON s.round = r.round AND s.kind = $3 \
             WHERE r.task = $1 AND r.counter > $2 ORDER BY r.counter DESC LIMIT 1",
        )
        .bind(task.0.to_vec())
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(StatementKind::Header as i64)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| Ok((RoundId(rows::fixed(&row, 0)?), row.try_get(1)?))).transpose()
    }

    pub(super) async fn read_statement(
        &self,
        round: RoundId,
        kind: StatementKind,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>, Failure> {
        let row = sqlx::query("SELECT bytes, attachment FROM statements WHERE round = $1 AND kind = $2")
            .bind(round.0.to_vec())
            .bind(kind as i64)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    pub(super) async fn read_bodies(
        &self,
        round: RoundId,
        phase: PhaseKind,
        clients: Option<&[ClientId]>,
    ) -> Result<BTreeMap<ClientId, Vec<u8>>, Failure> {
        let all = "SELECT client, body FROM received WHERE round = $1 AND phase = $2 AND body IS NOT NULL";
        let first = |query: rows::Query| query.bind(round.0.to_vec()).bind(phase as i64);
        let mut found = Vec::new();
        match clients {
            None => found = first(sqlx::query(all)).fetch_all(&self.pool).await?,
            Some(clients) => {
                let some = format!("{all} AND client IN ({{list}})");
                for chunk in clients.chunks(ROWS_AT_ONCE) {
                    let ids = chunk.iter().map(|client| client.0.as_slice());
                    found.extend(listed(&some, 2, ids, first).fetch_all(&self.pool).await?);
                }
            }
        }
        let bodies = found.iter().map(|row| Ok((ClientId(rows::fixed(row, 0)?), row.try_get(1)?)));
        let bodies: BTreeMap<ClientId, Vec<u8>> = bodies.collect::<Result<_, Failure>>()?;
        if phase != PhaseKind::Unmasking || bodies.is_empty() {
            return Ok(bodies);
        }
        let Some(key) = self.read_round_key(round).await? else { return Ok(BTreeMap::new()) }; // erased meanwhile
        let opened = bodies.into_iter().map(|(client, sealed)| {
            let body = key.open(&AnswerPlace { round, client }, &sealed);
            Ok((client, body.map_err(|_| damaged(format!("the answer of {client} to round {round} was changed")))?))
        });
        opened.collect()
    }

    pub(super) async fn read_digest(
        &self,
        round: RoundId,
        phase: PhaseKind,
        client: ClientId,
    ) -> Result<Option<Digest>, Failure> {
        let row = sqlx::query("SELECT digest FROM received WHERE round = $1 AND phase = $2 AND client = $3")
            .bind(round.0.to_vec())
            .bind(phase as i64)
            .bind(client.0.to_vec())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| Ok(Digest(rows::fixed(&row, 0)?))).transpose()
    }

    pub(super) async fn read_mail(&self, round: RoundId, recipient: ClientId) -> Result<Vec<Vec<u8>>, Failure> {
        sqlx::query("SELECT item FROM mail WHERE round = $1 AND recipient = $2 ORDER BY dealer")
            .bind(round.0.to_vec())
            .bind(recipient.0.to_vec())
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| Ok(row.try_get(0)?))
            .collect()
    }

    pub(super) async fn read_model(&self, digest: Digest) -> Result<Option<Vec<u8>>, Failure> {
        let row = sqlx::query("SELECT bytes FROM models WHERE digest = $1")
            .bind(digest.0.to_vec())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    pub(super) async fn read_ledger(&self, task: TaskId) -> Result<Vec<LedgerRow>, Failure> {
        sqlx::query("SELECT counter, charge, state FROM ledger WHERE task = $1 ORDER BY counter")
            .bind(task.0.to_vec())
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| {
                let spent = match row.try_get::<String, _>(2)?.as_str() {
                    "reserved" => false,
                    "spent" => true,
                    other => return Err(damaged(format!("a charge is {other}"))),
                };
                Ok(LedgerRow { counter: rows::number(row, 0)?, charge: row.try_get(1)?, spent })
            })
            .collect()
    }

    pub(super) async fn read_faults(&self, round: RoundId) -> Result<Vec<FaultRow>, Failure> {
        sqlx::query("SELECT phase, client, rule, evidence FROM faults WHERE round = $1 ORDER BY phase, client")
            .bind(round.0.to_vec())
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| {
                Ok(FaultRow {
                    phase: rows::phase(row, 0)?,
                    client: ClientId(rows::fixed(row, 1)?),
                    rule: rows::number(row, 2)?,
                    evidence: row.try_get(3)?,
                })
            })
            .collect()
    }

    pub(super) async fn read_rounds(
        &self,
        task: TaskId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(RoundId, u64, PhaseKind)>, Failure> {
        let text = "SELECT round, counter, phase FROM rounds WHERE task = $1 AND counter < $2 \
            ORDER BY counter DESC LIMIT $3";
        sqlx::query(text)
            .bind(task.0.to_vec())
            .bind(before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX)))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| Ok((RoundId(rows::fixed(row, 0)?), rows::number(row, 1)?, rows::phase(row, 2)?)))
            .collect()
    }

    pub(super) async fn read_admitted(&self, round: RoundId) -> Result<BTreeMap<PhaseKind, u32>, Failure> {
        sqlx::query("SELECT phase, COUNT(*) FROM received WHERE round = $1 GROUP BY phase ORDER BY phase")
            .bind(round.0.to_vec())
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| Ok((rows::phase(row, 0)?, rows::number(row, 1)?)))
            .collect()
    }

    pub(super) async fn read_has_bodies(&self, round: RoundId) -> Result<bool, Failure> {
        let found = sqlx::query("SELECT phase FROM received WHERE round = $1 AND body IS NOT NULL LIMIT 1")
            .bind(round.0.to_vec())
            .fetch_optional(&self.pool)
            .await?;
        Ok(found.is_some())
    }

    pub(super) async fn read_task_rounds(&self, task: TaskId) -> Result<Vec<TaskRound>, Failure> {
        sqlx::query("SELECT counter, round, salt FROM task_rounds WHERE task = $1 ORDER BY counter")
            .bind(task.0.to_vec())
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| {
                Ok(TaskRound {
                    counter: rows::number(row, 0)?,
                    round: RoundId(rows::fixed(row, 1)?),
                    salt: rows::fixed(row, 2)?,
                })
            })
            .collect()
    }

    pub(super) async fn read_over_before(&self, before: Timestamp) -> Result<Vec<RoundId>, Failure> {
        self.read_round_ids("SELECT round FROM rounds WHERE over_us < $1", before).await
    }

    /// Rounds that were over by then and of which messages are kept.
    pub(super) async fn read_kept_before(&self, before: Timestamp) -> Result<Vec<RoundId>, Failure> {
        let text = "SELECT round FROM rounds WHERE bodies_gone IS NULL AND over_us < $1";
        self.read_round_ids(text, before).await
    }

    async fn read_round_ids(&self, text: &'static str, before: Timestamp) -> Result<Vec<RoundId>, Failure> {
        let rows = sqlx::query(text).bind(micros(before)).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(RoundId(rows::fixed(row, 0)?))).collect()
    }
}
