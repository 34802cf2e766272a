//! The authority's revocation lists: taken from the operator, named by headers, served to everybody. §4.3, R-36

use veilsum_crypto::ids::Digest;
use veilsum_crypto::messages::RevocationList;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, Signed};

use super::{RoundError, Rounds};
use crate::store::{Committed, RevocationRow, Store, StoreError};

/// What a database can hold as a number.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// Lists in memory at most; every open round names one of the newest.
const CACHED_LISTS: usize = 8;

impl<S: Store> Rounds<S> {
    /// Takes a signed list up: rounds that open from now on carry it. Whether it was new: the list in force may come again.
    ///
    /// # Errors
    /// [`RoundError::Malformed`], [`RoundError::Unacceptable`] if another authority signed it, [`RoundError::Conflict`] if its
    /// number is not above that of the list in force.
    pub async fn publish_revocations(&self, bytes: Vec<u8>) -> Result<(RevocationRow, bool), RoundError> {
        let authority = self.keys.authority;
        let judged = self.host.workers.run(move || {
            if bytes.len() > RevocationList::BYTES_MAX {
                return Err(RoundError::Malformed("a list of at most 1,000,000 clients was expected".into()));
            }
            Signed::decode(&bytes, labels::REVOCATION).map_err(|error| RoundError::Malformed(error.to_string()))?;
            match RevocationList::decode(&bytes, &authority) {
                Ok(list) => Ok((list, bytes)),
                Err(error) => Err(RoundError::Unacceptable { rule: Some(36), why: error.to_string() }),
            }
        });
        let (list, bytes) = judged.await.map_err(RoundError::Defect)??;
        if list.number() > NUMBER_MAX {
            return Err(RoundError::Unacceptable { rule: Some(36), why: "a number below 2^63 was expected".into() });
        }
        let newest = self.newest_revocations().await?;
        if newest.as_ref().is_some_and(|newest| newest.bytes == bytes) {
            return Ok((newest.expect("it was just looked at"), false));
        }
        let row = RevocationRow {
            digest: list.digest(),
            authority: authority.party(),
            number: list.number(),
            bytes,
            received: self.host.clock.now(),
        };
        if self.store.put_revocations(&row).await? == Committed::Conflict {
            let in_force = self.newest_revocations().await?.map_or(0, |row| row.number);
            return Err(RoundError::Conflict {
                rule: Some(36),
                why: format!(
                    "list {in_force} is in force; a list with a larger number was expected, this one has {}",
                    row.number
                ),
            });
        }
        tracing::info!(number = row.number, digest = %row.digest, "revocation list taken up");
        Ok((row, true))
    }

    /// The list that headers of new rounds name; `None` before the first.
    pub async fn newest_revocations(&self) -> Result<Option<RevocationRow>, RoundError> {
        Ok(self.store.newest_revocations(self.keys.authority.party()).await?)
    }

    /// The list that a header names.
    pub(super) async fn revoked(
        &self,
        digest: Digest,
        authority: &IdentityPublicKey,
    ) -> Result<RevocationList, RoundError> {
        if digest == Digest::NONE {
            return Ok(RevocationList::none());
        }
        if let Some(list) = self.lists.lock().expect("no panic holds this lock").get(&digest) {
            return Ok(list.clone());
        }
        let missing = || StoreError::Damaged(format!("a header names the revocation list {digest}, which is not here"));
        let (bytes, key) = (self.store.revocations(digest).await?.ok_or_else(missing)?, *authority);
        let decoded = self.host.workers.run(move || RevocationList::decode(&bytes, &key)).await;
        let list = decoded.map_err(RoundError::Defect)?.map_err(|error| StoreError::Damaged(error.to_string()))?;
        let mut lists = self.lists.lock().expect("no panic holds this lock");
        while lists.len() >= CACHED_LISTS {
            lists.pop_first();
        }
        lists.insert(digest, list.clone());
        Ok(list)
    }
}
