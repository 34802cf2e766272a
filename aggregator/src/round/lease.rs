//! Which replica computes a closing, where several could. §8; docs/decisions/0021-leases-without-clocks.md
//!
//! In: a closing that is due. Out: whether this replica does it. The watch loop asks; nothing that must be right depends on
//! the answer. No two clocks are compared: a lease that gave no sign of life while *this* replica waited may be taken.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;
use veilsum_crypto::ids::RoundId;

use crate::store::{Beats, Holder, Lease, Store, StoreError, Version};

/// How long a lease stands without a sign of life.
pub const LEASE: Duration = Duration::from_secs(3);
/// How often its holder gives one.
const BEAT: Duration = Duration::from_secs(1);
/// How often a replica looks at a lease that another one holds.
const LOOK: Duration = Duration::from_millis(250);

/// What one replica knows of leases.
pub(super) struct Leases {
    holder: Holder,
    elsewhere: BTreeMap<RoundId, Seen>,
}

/// A lease of another replica.
struct Seen {
    version: Version,
    beats: Beats,
    since: Instant,
    looked: Instant,
}

impl Leases {
    /// Of a replica with this token.
    pub(super) fn new(holder: Holder) -> Self {
        Self { holder, elsewhere: BTreeMap::new() }
    }

    /// The replica's token.
    pub(super) fn holder(&self) -> Holder {
        self.holder
    }

    /// Forgets rounds that are over.
    pub(super) fn retain(&mut self, standing: &BTreeMap<RoundId, Version>) {
        self.elsewhere.retain(|round, _| standing.contains_key(round));
    }

    /// Whether the closing that begins from `version` is this replica's now, and how often it was begun.
    pub(super) async fn take<S: Store>(
        &mut self,
        store: &S,
        round: RoundId,
        version: Version,
    ) -> Result<Option<u32>, StoreError> {
        let seen = self.elsewhere.get(&round).filter(|seen| seen.version == version);
        if seen.is_some_and(|seen| seen.looked.elapsed() < LOOK) {
            return Ok(None);
        }
        let stalled = seen.filter(|seen| seen.since.elapsed() >= LEASE).map(|seen| seen.beats);
        match store.lease(round, version, self.holder, stalled).await? {
            Lease::Held { attempts } => {
                self.elsewhere.remove(&round);
                Ok(Some(attempts))
            }
            Lease::Elsewhere { beats } => {
                let now = Instant::now();
                let same = self.elsewhere.get(&round).filter(|seen| (seen.version, seen.beats) == (version, beats));
                let since = same.map_or(now, |seen| seen.since);
                self.elsewhere.insert(round, Seen { version, beats, since, looked: now });
                Ok(None)
            }
            Lease::Moved => Ok(None),
        }
    }
}

/// Gives signs of life for as long as it is polled.
pub(super) async fn keep<S: Store>(store: &S, round: RoundId, version: Version, holder: Holder) -> Infallible {
    loop {
        tokio::time::sleep(BEAT).await;
        if let Err(error) = store.keep_lease(round, version, holder).await {
            // Another replica may begin the same closing; one commit wins.
            tracing::debug!(%round, %error, "no sign of life could be given");
        }
    }
}
