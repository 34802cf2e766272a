//! Appending to the log: leaves and head in the transaction that made them. §9
//!
//! With a [`SeenLog`] the log is compared with what this replica has seen of it: whole at the start, then what is new, with every
//! append and before anything is handed out to be signed.

use std::sync::Arc;

use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, Row, Transaction};
use veilsum_crypto::ids::Digest;
use veilsum_crypto::primitives::merkle::{self, Frontier};

use super::rows::{self, Columns, ROWS_AT_ONCE, damaged, many};
use super::{Failure, LogHead, SqlStore, StoreError, retrying};
use crate::store::seen::SeenLog;

/// Leaves that are read at once when the whole log is looked at.
const LEAVES_AT_ONCE: u64 = 50_000;

const HEAD: &str = "SELECT size, frontier FROM log_head WHERE head = 0";

impl SqlStore {
    /// Looks whether the log is what this replica has seen of it, grown; from now on it is kept in mind.
    ///
    /// # Errors
    /// [`StoreError::OtherLog`] if it is shorter or another one, [`StoreError::Record`] if the file cannot be used.
    pub async fn remembering(mut self, seen: SeenLog) -> Result<Self, StoreError> {
        let expected = seen.read()?;
        let seen = Arc::new(seen);
        retrying(|| self.look_at_all(&seen, expected)).await?;
        self.seen = Some(seen);
        Ok(self)
    }

    async fn look_at_all(&self, seen: &Arc<SeenLog>, expected: Option<LogHead>) -> Result<(), Failure> {
        let head = self.read_log_head().await?;
        if let Some(expected) = expected.filter(|expected| head.size < expected.size) {
            return Err(seen.contradicted(expected, head).into());
        }
        let mut grown = Frontier::default();
        while grown.size() < head.size {
            let until = head.size.min(grown.size() + LEAVES_AT_ONCE);
            let leaves = self.read_log_leaves(grown.size(), until).await?;
            if leaves.is_empty() {
                return Err(damaged(format!("the log lacks entry {} of {}", grown.size(), head.size)));
            }
            for leaf in leaves {
                grown.push(leaf);
                if let Some(expected) = expected.filter(|it| it.size == grown.size() && it.root != grown.root()) {
                    return Err(seen.contradicted(expected, LogHead { root: grown.root(), ..expected }).into());
                }
            }
        }
        if grown.root() != head.root {
            return Err(damaged("the log's head does not belong to its entries".to_owned()));
        }
        keep(seen, grown).await
    }

    /// Looks at what is new in the log, and keeps it in mind; `None` if nobody asked for that.
    pub(super) async fn look_at_log(&self) -> Result<Option<LogHead>, Failure> {
        let Some(seen) = &self.seen else { return Ok(None) };
        let before = seen.frontier(); // first: it only grows, and the head is read after it
        let mut connection = self.pool.acquire().await?;
        let row = sqlx::query(HEAD).fetch_optional(&mut *connection).await?;
        let found = frontier_of(row.as_ref())?;
        compare(&mut connection, seen, before, &found).await?;
        drop(connection);
        let head = LogHead { size: found.size(), root: found.root() };
        keep(seen, found).await?;
        Ok(Some(head))
    }

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
pub(super) async fn append(
    tx: &mut Transaction<'static, Any>,
    seen: Option<&Arc<SeenLog>>,
    entries: &[Digest],
) -> Result<(), Failure> {
    if entries.is_empty() {
        return Ok(());
    }
    let before = seen.map(|seen| (seen, seen.frontier()));
    let read = sqlx::query(HEAD).fetch_optional(&mut **tx).await?;
    let mut frontier = frontier_of(read.as_ref())?;
    if let Some((seen, before)) = before {
        compare(tx, seen, before, &frontier).await?;
    }
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
    for chunk in leaves.chunks(ROWS_AT_ONCE) {
        many(
            text,
            Columns { shared: 0, own: 2 },
            chunk,
            |query| query,
            |query, (hash, leaf)| query.bind(*leaf).bind(hash.0.to_vec()),
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Whether `found` is `before`, grown by the leaves that stand between them.
async fn compare(
    connection: &mut AnyConnection,
    seen: &SeenLog,
    before: Frontier,
    found: &Frontier,
) -> Result<(), Failure> {
    let in_words = |frontier: &Frontier| LogHead { size: frontier.size(), root: frontier.root() };
    if found.size() < before.size() {
        return Err(seen.contradicted(in_words(&before), in_words(found)).into());
    }
    let mut grown = before.clone();
    if found.size() > before.size() {
        let rows = sqlx::query("SELECT hash FROM log_entries WHERE leaf >= $1 AND leaf < $2 ORDER BY leaf")
            .bind(signed(before.size())?)
            .bind(signed(found.size())?)
            .fetch_all(connection)
            .await?;
        for row in &rows {
            grown.push(Digest(rows::fixed(row, 0)?));
        }
    }
    if grown.root() != found.root() {
        return Err(seen.contradicted(in_words(&before), in_words(found)).into());
    }
    Ok(())
}

/// The file is written and synchronised on a thread that may wait.
async fn keep(seen: &Arc<SeenLog>, head: Frontier) -> Result<(), Failure> {
    let seen = Arc::clone(seen);
    let kept = tokio::task::spawn_blocking(move || seen.advance(head)).await;
    Ok(kept.map_err(|error| damaged(error.to_string()))??)
}

fn frontier_of(row: Option<&AnyRow>) -> Result<Frontier, Failure> {
    match row {
        None => Ok(Frontier::default()),
        Some(row) => read_frontier(rows::number(row, 0)?, &row.try_get::<Vec<u8>, _>(1)?),
    }
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
