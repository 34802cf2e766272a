//! Revocation lists, as the authority signed them. §4.3, R-36

use sqlx::Row;
use sqlx::any::AnyRow;
use veilsum_crypto::ids::{Digest, Party, Timestamp};

use super::rows::{self, damaged};
use super::{Committed, Failure, RevocationRow, SqlStore, micros};

impl SqlStore {
    /// An older list never comes after a newer one; of two lists with one number the first stands.
    pub(super) async fn try_put_revocations(&self, row: &RevocationRow) -> Result<Committed, Failure> {
        let number =
            i64::try_from(row.number).map_err(|_| damaged("a list's number is larger than it can be".into()))?;
        let mut writing = self.begin().await?;
        let written = sqlx::query(
            "INSERT INTO revocations (digest, authority, number, bytes, received_us) SELECT $1, $2, $3, $4, $5 \
             WHERE NOT EXISTS (SELECT 1 FROM revocations WHERE authority = $2 AND number >= $3) ON CONFLICT DO NOTHING",
        )
        .bind(row.digest.0.to_vec())
        .bind(row.authority.0.to_vec())
        .bind(number)
        .bind(row.bytes.clone())
        .bind(micros(row.received))
        .execute(&mut *writing.tx)
        .await?
        .rows_affected();
        writing.commit().await?;
        if written == 1 {
            return Ok(Committed::Yes);
        }
        let newest = self.read_newest_revocations(row.authority).await?;
        let is_in_force = newest.is_some_and(|newest| newest.digest == row.digest);
        Ok(if is_in_force { Committed::Yes } else { Committed::Conflict })
    }

    pub(super) async fn read_newest_revocations(&self, authority: Party) -> Result<Option<RevocationRow>, Failure> {
        let row = sqlx::query(
            "SELECT digest, authority, number, bytes, received_us FROM revocations WHERE authority = $1 \
             ORDER BY number DESC LIMIT 1",
        )
        .bind(authority.0.to_vec())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    pub(super) async fn read_revocations(&self, digest: Digest) -> Result<Option<Vec<u8>>, Failure> {
        let row = sqlx::query("SELECT bytes FROM revocations WHERE digest = $1")
            .bind(digest.0.to_vec())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }
}

fn read(row: &AnyRow) -> Result<RevocationRow, Failure> {
    Ok(RevocationRow {
        digest: Digest(rows::fixed(row, 0)?),
        authority: Party(rows::fixed(row, 1)?),
        number: rows::number(row, 2)?,
        bytes: row.try_get(3)?,
        received: Timestamp(rows::number(row, 4)?),
    })
}
