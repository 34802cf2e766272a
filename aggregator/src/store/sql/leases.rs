//! Who computes a closing, where several replicas could. §8; docs/decisions/0021-leases-without-clocks.md
//!
//! One statement decides, and one row is written: the lease's own. A commit does not look at it.

use sqlx::Row;
use veilsum_crypto::ids::RoundId;

use super::{Beats, Failure, Holder, Lease, SqlStore, Version};

/// Beats of no lease.
const NEVER: i64 = -1;

impl SqlStore {
    pub(super) async fn try_lease(
        &self,
        round: RoundId,
        version: Version,
        holder: Holder,
        stalled: Option<Beats>,
    ) -> Result<Lease, Failure> {
        let mut writing = self.begin().await?;
        sqlx::query(
            "INSERT INTO leases (round, version, holder, beats, attempts) \
             SELECT round, version, $3, 0, 1 FROM rounds WHERE round = $1 AND version = $2 AND over_us IS NULL \
             ON CONFLICT (round) DO UPDATE SET version = excluded.version, holder = excluded.holder, \
             beats = leases.beats + 1, \
             attempts = CASE WHEN leases.version = excluded.version THEN leases.attempts + 1 ELSE 1 END \
             WHERE leases.version < excluded.version \
             OR (leases.version = excluded.version AND (leases.holder = excluded.holder OR leases.beats = $4))",
        )
        .bind(round.0.to_vec())
        .bind(version.0)
        .bind(holder.0.to_vec())
        .bind(stalled.map_or(NEVER, |beats| beats.0))
        .execute(&mut *writing.tx)
        .await?;
        let row = sqlx::query(
            "SELECT l.holder, l.beats, l.attempts FROM leases l JOIN rounds r ON r.round = l.round AND r.version = l.version \
             WHERE l.round = $1 AND l.version = $2",
        )
        .bind(round.0.to_vec())
        .bind(version.0)
        .fetch_optional(&mut *writing.tx)
        .await?;
        let Some(row) = row else { return Ok(Lease::Moved) };
        if row.try_get::<Vec<u8>, _>(0)? != holder.0 {
            return Ok(Lease::Elsewhere { beats: Beats(row.try_get(1)?) });
        }
        let attempts = u32::try_from(row.try_get::<i64, _>(2)?).unwrap_or(u32::MAX);
        writing.commit().await?;
        Ok(Lease::Held { attempts })
    }

    pub(super) async fn try_keep_lease(&self, round: RoundId, version: Version, holder: Holder) -> Result<(), Failure> {
        let mut writing = self.begin().await?;
        sqlx::query("UPDATE leases SET beats = beats + 1 WHERE round = $1 AND version = $2 AND holder = $3")
            .bind(round.0.to_vec())
            .bind(version.0)
            .bind(holder.0.to_vec())
            .execute(&mut *writing.tx)
            .await?;
        writing.commit().await
    }
}
