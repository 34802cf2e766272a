//! Sums of masked inputs: one per admission, sealed, in segments. §8
//!
//! ```text
//! sum = elements u32, ring_bits u8, packed[ceil(elements * ring_bits / 8)], cut in segments  §2.3
//! ```

use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};
use veilsum_crypto::ids::RoundId;
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::primitives::wipe;
use veilsum_crypto::server::{Accepted, Keep, PhaseKind};

use super::rows::{self, damaged};
use super::{Failure, RoundKey, SealingKeys, SqlStore, StoreError, keys, random};
use crate::store::seal::{SEAL_BYTES, SumPlace};

/// A row holds at most 1 MiB: what the engines handle well, and small beside their limits.
const SEGMENT_BYTES: usize = 1024 * 1024 - SEAL_BYTES;

/// Bytes before the packed elements.
const HEAD_BYTES: usize = 5;

/// Adds up the masked inputs among `fresh` and appends their sum; nothing if there are none.
pub(super) async fn append(
    tx: &mut Transaction<'static, Any>,
    keys: &SealingKeys,
    round: RoundId,
    fresh: impl Iterator<Item = &Accepted>,
) -> Result<(), Failure> {
    let mut vectors = fresh.filter_map(|message| match message.keep() {
        Keep::Sum { vector, .. } => Some(vector),
        Keep::Body(_) | Keep::Mail { .. } => None,
    });
    let Some(first) = vectors.next() else { return Ok(()) };
    let (mut sum, mut inputs) = (first.clone(), 1);
    for vector in vectors {
        add(&mut sum, vector)?;
        inputs += 1;
    }
    let key = key_of(tx, keys, round).await?;
    let batch = random();
    for (segment, plain) in (0..).zip(to_bytes(&sum).chunks(SEGMENT_BYTES)) {
        let place = SumPlace { round, batch, segment, inputs };
        sqlx::query(
            "INSERT INTO partial_sums (round, batch, segment, inputs, sealed) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(round.0.to_vec())
        .bind(batch.to_vec())
        .bind(i64::from(segment))
        .bind(i64::from(inputs))
        .bind(key.seal(&place, plain))
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// The key of a round that admits messages.
pub(super) async fn key_of(
    tx: &mut Transaction<'static, Any>,
    keys: &SealingKeys,
    round: RoundId,
) -> Result<RoundKey, Failure> {
    let row = sqlx::query("SELECT sealed, sealed_by FROM round_keys WHERE round = $1")
        .bind(round.0.to_vec())
        .fetch_optional(&mut **tx)
        .await?
        .ok_or_else(|| damaged(format!("round {round} is open but has no key")))?;
    open_key(&row, keys, round)
}

impl SqlStore {
    /// The sum over everybody admitted in masking; `None` if there is nobody or all was erased.
    pub(super) async fn read_sum(&self, round: RoundId) -> Result<Option<RingVector>, Failure> {
        let Some(key) = self.read_round_key(round).await? else { return Ok(None) };
        let batches = sqlx::query("SELECT batch FROM partial_sums WHERE round = $1 AND segment = 0")
            .bind(round.0.to_vec())
            .fetch_all(&self.pool)
            .await?;
        let (mut sum, mut inputs) = (None, 0_u64);
        for row in &batches {
            let (partial, count) = self.read_partial_sum(&key, round, rows::fixed(row, 0)?).await?;
            inputs += u64::from(count);
            match &mut sum {
                None => sum = Some(partial),
                Some(sum) => add(sum, &partial)?,
            }
        }
        let row = sqlx::query("SELECT COUNT(*) FROM received WHERE round = $1 AND phase = $2")
            .bind(round.0.to_vec())
            .bind(PhaseKind::Masking as i64)
            .fetch_one(&self.pool)
            .await?;
        let clients: u64 = rows::number(&row, 0)?;
        if clients != inputs {
            return Err(damaged(format!("{clients} clients sent inputs, {inputs} were added up")));
        }
        Ok(sum)
    }

    /// One admission's sum, and how many inputs it holds.
    async fn read_partial_sum(
        &self,
        key: &RoundKey,
        round: RoundId,
        batch: [u8; 16],
    ) -> Result<(RingVector, u32), Failure> {
        let segments = sqlx::query(
            "SELECT segment, inputs, sealed FROM partial_sums WHERE round = $1 AND batch = $2 \
             ORDER BY segment",
        )
        .bind(round.0.to_vec())
        .bind(batch.to_vec())
        .fetch_all(&self.pool)
        .await?;
        let (mut bytes, mut inputs) = (Vec::new(), 0);
        for row in &segments {
            inputs = rows::number(row, 1)?;
            let place = SumPlace { round, batch, segment: rows::number(row, 0)?, inputs };
            let plain = key.open(&place, &row.try_get::<Vec<u8>, _>(2)?);
            bytes.extend(plain.map_err(|_| damaged(format!("a sum of round {round} was changed")))?);
        }
        let sum = from_bytes(&bytes).ok_or_else(|| damaged(format!("a sum of round {round} lacks a segment")))?;
        Ok((sum, inputs))
    }

    pub(super) async fn read_round_key(&self, round: RoundId) -> Result<Option<RoundKey>, Failure> {
        let row = sqlx::query("SELECT sealed, sealed_by FROM round_keys WHERE round = $1")
            .bind(round.0.to_vec())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| open_key(&row, &self.keys, round)).transpose()
    }

    /// [`SqlStore::read_sum`], with a round that is erased meanwhile not taken for a damaged one.
    pub(super) async fn read_sum_unless_erased(&self, round: RoundId) -> Result<Option<RingVector>, Failure> {
        match self.read_sum(round).await {
            Err(Failure::Store(StoreError::Damaged(_))) if self.read_round_key(round).await?.is_none() => Ok(None),
            other => other,
        }
    }
}

fn open_key(row: &AnyRow, sealing_keys: &SealingKeys, round: RoundId) -> Result<RoundKey, Failure> {
    let (sealed, sealed_by) = keys::read(row, 0)?;
    let key = sealing_keys.unwrap(sealed_by, &sealed, round);
    wipe::stack_below();
    Ok(key?)
}

fn add(sum: &mut RingVector, vector: &RingVector) -> Result<(), Failure> {
    sum.add_assign(vector).map_err(|error| damaged(error.to_string()))
}

fn to_bytes(sum: &RingVector) -> Vec<u8> {
    let elements = u32::try_from(sum.len()).expect("vector_len is a u32 in the header");
    [elements.to_le_bytes().as_slice(), &[sum.bits().get()], &sum.pack()].concat()
}

fn from_bytes(bytes: &[u8]) -> Option<RingVector> {
    let (head, packed) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let [elements @ .., bits] = *head;
    let bits = RingBits::new(bits).ok()?;
    RingVector::unpack(packed, usize::try_from(u32::from_le_bytes(elements)).ok()?, bits).ok()
}
