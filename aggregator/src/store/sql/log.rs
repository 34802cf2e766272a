//! Appending to the log: leaves and head in the transaction that made them. §9

use sqlx::{Any, Row, Transaction};
use veilsum_crypto::ids::Digest;
use veilsum_crypto::primitives::merkle::{self, Frontier};

use super::rows::{self, Columns, damaged, many};
use super::{Failure, LogHead, SqlStore};

impl SqlStore {
    pub(super) async fn read_log_head(&self) -> Result<LogHead, Failure> {
        let row = sqlx::query("SELECT size, root FROM log_head WHERE head = 0").fetch_optional(&self.pool).await?;
        Ok(match row {
            None => LogHead { size: 0, root: merkle::root(&[]) },
            Some(row) => LogHead { size: rows::number(&row, 0)?, root: Digest(rows::fixed(&row, 1)?) },
        })
    }

    pub(super) async fn read_log_leaves(&self, from: u64, to: u64) -> Result<Vec<Digest>, Failure> {
        let end = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        sqlx::query("SELECT hash FROM log_entries WHERE leaf >= $1 AND leaf < $2 ORDER BY leaf")
            .bind(end(from))
            .bind(end(to))
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| Ok(Digest(rows::fixed(row, 0)?)))
            .collect()
    }
}

/// Appends leaves with this entry data; last in a transaction, so that the head is held shortly.
///
/// The head names the size that was read: where another replica appended meanwhile, the transaction
/// has lost and runs again.
pub(super) async fn append(tx: &mut Transaction<'static, Any>, entries: &[Digest]) -> Result<(), Failure> {
    if entries.is_empty() {
        return Ok(());
    }
    let read = sqlx::query("SELECT size, frontier FROM log_head WHERE head = 0").fetch_optional(&mut **tx).await?;
    let mut frontier = match &read {
        None => Frontier::default(),
        Some(row) => read_frontier(rows::number(row, 0)?, &row.try_get::<Vec<u8>, _>(1)?)?,
    };
    let read_size = signed(frontier.size())?;
    let hashes = entries.iter().map(|entry| merkle::leaf_hash(&[entry.as_bytes()]));
    let leaves: Vec<_> = hashes.zip(read_size..).collect();
    leaves.iter().for_each(|(hash, _)| frontier.push(*hash));

    let head = match read {
        None => {
            "INSERT INTO log_head (head, size, frontier, root) SELECT 0, $2, $3, $4 WHERE $1 = 0 \
             ON CONFLICT DO NOTHING"
        }
        Some(_) => "UPDATE log_head SET size = $2, frontier = $3, root = $4 WHERE head = 0 AND size = $1",
    };
    let peaks: Vec<u8> = frontier.peaks().iter().flat_map(|peak| peak.0).collect();
    let moved = sqlx::query(head)
        .bind(read_size)
        .bind(signed(frontier.size())?)
        .bind(peaks)
        .bind(frontier.root().0.to_vec())
        .execute(&mut **tx)
        .await?
        .rows_affected();
    if moved == 0 {
        return Err(Failure::LostRace);
    }
    let text = "INSERT INTO log_entries (leaf, hash) VALUES {rows}";
    many(
        text,
        Columns { shared: 0, own: 2 },
        &leaves,
        |query| query,
        |query, (hash, leaf)| query.bind(*leaf).bind(hash.0.to_vec()),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn read_frontier(size: u64, peaks: &[u8]) -> Result<Frontier, Failure> {
    let (peaks, rest) = peaks.as_chunks::<32>();
    let peaks = peaks.iter().copied().map(Digest).collect();
    Frontier::from_parts(size, peaks)
        .filter(|_| rest.is_empty())
        .ok_or_else(|| damaged("the log's frontier does not belong to its size".to_owned()))
}

fn signed(number: u64) -> Result<i64, Failure> {
    i64::try_from(number).map_err(|_| damaged("the log is longer than it can be".to_owned()))
}
