//! Service keys as the tables know them: which sealed what, and which seal nothing more. §8
//!
//! A round opens under a key only while its row says that it is not retired, and holds that row until it commits; retiring
//! writes the same row. So once a key is retired nothing new comes under it, and sealing anew ends.

use sqlx::{Any, Row, Transaction};
use veilsum_crypto::ids::{RoundId, Timestamp};

use super::rows::{self, damaged};
use super::{Failure, RoundKey, SqlStore, StoreError, micros, retrying};
use crate::store::keys::listed;
use crate::store::seal::KeyId;

/// A key of a round as it stands sealed.
struct SealedKey {
    round: RoundId,
    sealed: Vec<u8>,
    sealed_by: Option<KeyId>,
}

/// What is sealed under one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedUnder {
    /// Which; `None`: what was sealed before keys had names.
    pub key: Option<KeyId>,
    /// Rows.
    pub rows: u64,
    /// It seals nothing more.
    pub retired: bool,
}

impl SqlStore {
    /// Whether everything sealed opens, and the first key may seal.
    pub(super) async fn check_keys(&self) -> Result<(), Failure> {
        for row in self.read_sealed_keys().await? {
            self.keys.unwrap(row.sealed_by, &row.sealed, row.round)?;
        }
        if self.is_retired(self.keys.first()).await? {
            self.keys.read_again()?;
            let first = self.keys.first();
            if self.is_retired(first).await? {
                return Err(retired(first).into());
            }
        }
        Ok(())
    }

    async fn read_sealed_keys(&self) -> Result<Vec<SealedKey>, Failure> {
        let rows =
            sqlx::query("SELECT round, sealed, sealed_by FROM round_keys ORDER BY round").fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let (sealed, sealed_by) = read(row, 1)?;
                Ok(SealedKey { round: RoundId(rows::fixed(row, 0)?), sealed, sealed_by })
            })
            .collect()
    }

    async fn is_retired(&self, key: KeyId) -> Result<bool, Failure> {
        let row = sqlx::query("SELECT id FROM sealing_keys WHERE id = $1 AND retired_us IS NOT NULL")
            .bind(key.0.to_vec())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Retires every key but the first, and seals under the first what they sealed, a row in each transaction. It may be
    /// stopped anywhere and run again; replicas go on meanwhile. How many rows were sealed anew.
    ///
    /// # Errors
    /// [`StoreError::UnknownKey`] for a row under a key that is not held.
    pub async fn reseal(&self, now: Timestamp) -> Result<u64, StoreError> {
        let ids = self.keys.ids();
        let (first, old) = ids.split_first().expect("there is a key that seals");
        for key in old {
            retrying(|| self.try_retire(*key, now)).await?;
        }
        let mut resealed = 0;
        loop {
            let rows = retrying(|| self.read_sealed_keys()).await?;
            let mut under_others = rows.iter().filter(|row| row.sealed_by != Some(*first)).peekable();
            if under_others.peek().is_none() {
                return Ok(resealed);
            }
            for row in under_others {
                resealed += retrying(|| self.try_reseal(row)).await?;
            }
        }
    }

    /// What is sealed under which key, of those held and others.
    pub async fn sealed_under(&self) -> Result<Vec<SealedUnder>, StoreError> {
        let rows = retrying(|| self.read_sealed_keys()).await?;
        let mut keys: Vec<Option<KeyId>> = self.keys.ids().into_iter().map(Some).collect();
        for row in &rows {
            if !keys.contains(&row.sealed_by) {
                keys.push(row.sealed_by);
            }
        }
        let mut found = Vec::new();
        for key in keys {
            let retired = match key {
                None => true,
                Some(key) => retrying(|| self.is_retired(key)).await?,
            };
            let under = rows.iter().filter(|row| row.sealed_by == key);
            found.push(SealedUnder { key, rows: under.count() as u64, retired });
        }
        Ok(found)
    }

    async fn try_retire(&self, key: KeyId, now: Timestamp) -> Result<(), Failure> {
        let mut writing = self.begin().await?;
        insert(&mut writing.tx, key, now).await?;
        sqlx::query("UPDATE sealing_keys SET retired_us = $2 WHERE id = $1 AND retired_us IS NULL")
            .bind(key.0.to_vec())
            .bind(micros(now))
            .execute(&mut *writing.tx)
            .await?;
        writing.commit().await
    }

    /// 1, or 0 where the round ended or another did it.
    async fn try_reseal(&self, row: &SealedKey) -> Result<u64, Failure> {
        let key = self.keys.unwrap(row.sealed_by, &row.sealed, row.round)?;
        let (by, sealed) = self.keys.wrap(&key, row.round);
        let mut writing = self.begin().await?;
        let written = sqlx::query("UPDATE round_keys SET sealed = $3, sealed_by = $4 WHERE round = $1 AND sealed = $2")
            .bind(row.round.0.to_vec())
            .bind(row.sealed.clone())
            .bind(sealed)
            .bind(by.0.to_vec())
            .execute(&mut *writing.tx)
            .await?
            .rows_affected();
        writing.commit().await?;
        Ok(written)
    }

    /// Writes a new key for a round, sealed under a key that is not retired.
    pub(super) async fn insert_round_key(
        &self,
        tx: &mut Transaction<'static, Any>,
        round: RoundId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let (by, sealed) = self.keys.wrap(&RoundKey::generate(), round);
        if !may_seal(tx, by, now).await? {
            // Another replica's file is newer, perhaps this one's by now too.
            return Err(if self.keys.read_again()? { Failure::LostRace } else { retired(by).into() });
        }
        sqlx::query("INSERT INTO round_keys (round, sealed, sealed_by) VALUES ($1, $2, $3)")
            .bind(round.0.to_vec())
            .bind(sealed)
            .bind(by.0.to_vec())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

/// Holds the key's row until the commit; false if it is retired.
async fn may_seal(tx: &mut Transaction<'static, Any>, key: KeyId, now: Timestamp) -> Result<bool, Failure> {
    if insert(tx, key, now).await? {
        return Ok(true);
    }
    let held = sqlx::query("UPDATE sealing_keys SET newest_us = $2 WHERE id = $1 AND retired_us IS NULL")
        .bind(key.0.to_vec())
        .bind(micros(now))
        .execute(&mut **tx)
        .await?
        .rows_affected();
    Ok(held == 1)
}

/// Whether it was new.
async fn insert(tx: &mut Transaction<'static, Any>, key: KeyId, now: Timestamp) -> Result<bool, Failure> {
    let made = sqlx::query(
        "INSERT INTO sealing_keys (id, newest_us, retired_us) VALUES ($1, $2, NULL) ON CONFLICT DO NOTHING",
    )
    .bind(key.0.to_vec())
    .bind(micros(now))
    .execute(&mut **tx)
    .await?
    .rows_affected();
    Ok(made == 1)
}

fn retired(key: KeyId) -> StoreError {
    StoreError::RetiredKey { key: listed(&[key]) }
}

/// What is sealed, and by which key, from two columns beside each other.
pub(super) fn read(row: &sqlx::any::AnyRow, column: usize) -> Result<(Vec<u8>, Option<KeyId>), Failure> {
    let id: Option<Vec<u8>> = row.try_get(column + 1)?;
    let id = id.map(|id| id.try_into().map(KeyId).map_err(|_| damaged("a sealed row names no key".to_owned())));
    Ok((row.try_get(column)?, id.transpose()?))
}
