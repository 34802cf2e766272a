//! Rounds as one replica last read them: caches by (round, version), and no more than that. §7.1
//!
//! In: a round's id. Out: its view, no older than the newest commit this replica knows of. Whoever needs a round asks here; the
//! watch loop tells of commits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;
use veilsum_crypto::ids::RoundId;
use veilsum_crypto::messages::Header;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Statement;
use veilsum_crypto::server::{Phase, RoundFacts};

use super::{RoundError, Rounds, View};
use crate::store::{Store, StoreError, Version};

/// Views that are read and decoded at once.
const LOADS_MAX: usize = 2;

/// How many rounds that are over stay in the caches.
const CACHED_ROUNDS: usize = 64;

/// A view in memory.
struct Cached {
    view: Arc<View>,
    /// The step at which reading it began: it is no older than that.
    begun: u64,
    /// The step at which somebody last wanted it.
    used: u64,
}

/// What one replica has in memory of rounds.
pub(super) struct Views {
    cached: Mutex<BTreeMap<RoundId, Cached>>,
    /// Views that are being read and decoded.
    loads: Semaphore,
    steps: AtomicU64,
    /// The newest commit of a round that this replica knows of: a view that was read before it is never served after it.
    floors: Mutex<BTreeMap<RoundId, Version>>,
}

impl Views {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            cached: Mutex::default(),
            loads: Semaphore::new(LOADS_MAX),
            steps: AtomicU64::default(),
            floors: Mutex::default(),
        }
    }
}

impl<S: Store> Rounds<S> {
    /// A round at its newest commit that this replica knows of.
    pub async fn view(&self, round: RoundId) -> Result<Arc<View>, RoundError> {
        let is_enough = |cached: &Cached| cached.view.version >= self.floor(round);
        match self.cached(round, is_enough) {
            Some(view) => Ok(view),
            None => self.load(round, is_enough).await,
        }
    }

    /// What is in memory, if it is enough.
    fn cached(&self, round: RoundId, is_enough: impl Fn(&Cached) -> bool) -> Option<Arc<View>> {
        let mut views = self.views.cached.lock().expect("no panic holds this lock");
        let cached = views.get_mut(&round).filter(|cached| is_enough(cached))?;
        cached.used = self.step();
        Some(cached.view.clone())
    }

    /// Orders what happens in this replica.
    fn step(&self) -> u64 {
        self.views.steps.fetch_add(1, Ordering::SeqCst)
    }

    fn floor(&self, round: RoundId) -> Version {
        self.views.floors.lock().expect("no panic holds this lock").get(&round).copied().unwrap_or(Version(0))
    }

    /// Notes that a round has come at least so far.
    pub(super) fn raise_floor(&self, round: RoundId, version: Version) {
        let mut floors = self.views.floors.lock().expect("no panic holds this lock");
        let floor = floors.entry(round).or_insert(version);
        *floor = version.max(*floor);
    }

    /// A round at its newest commit.
    pub(crate) async fn reload(&self, round: RoundId) -> Result<Arc<View>, RoundError> {
        let asked = self.step();
        self.load(round, |cached| cached.begun > asked).await
    }

    /// Reads a round, unless another has read enough of it while this one waited for its turn: however many ask at once, few
    /// read and decode.
    async fn load(&self, round: RoundId, is_enough: impl Fn(&Cached) -> bool) -> Result<Arc<View>, RoundError> {
        let _turn = self.views.loads.acquire().await.map_err(|_| RoundError::ShuttingDown)?;
        if let Some(view) = self.cached(round, is_enough) {
            return Ok(view);
        }
        let begun = self.step();
        let loaded = self.store.load(round).await?.ok_or(RoundError::Unknown("round"))?;
        {
            let mut views = self.views.cached.lock().expect("no panic holds this lock");
            if let Some(cached) = views.get_mut(&round).filter(|cached| cached.view.version == loaded.version) {
                (cached.begun, cached.used) = (begun, self.step());
                return Ok(cached.view.clone());
            }
        }
        let damaged = |error: &dyn std::fmt::Display| StoreError::Damaged(format!("round {round}: {error}"));
        let header = Statement::decode(&loaded.header, labels::HEADER)
            .and_then(|statement| Header::from_statement(&statement))
            .map_err(|error| damaged(&error))?;
        let revoked = self.revoked(header.revocation_digest, &header.authority_key).await?;
        let facts = RoundFacts::new(header, revoked);
        // Keys of every member are decompressed: much for a thread that serves requests.
        let state = loaded.state;
        let decode =
            move || Phase::decode(&state, &facts).map(|phase| (phase, facts)).map_err(|error| error.to_string());
        let decoded = self.host.workers.run(decode).await.map_err(RoundError::Defect)?;
        let (phase, facts) = decoded.map_err(|error| damaged(&error))?;
        let view = Arc::new(View { round, version: loaded.version, opened: loaded.opened, facts, phase });
        let mut views = self.views.cached.lock().expect("no panic holds this lock");
        // A slow reader must not put an older view in the place of a newer one.
        if views.get(&round).is_none_or(|cached| cached.view.version < view.version) {
            views.insert(round, Cached { view: view.clone(), begun, used: self.step() });
        }
        if views.len() > CACHED_ROUNDS {
            let over = views.iter().filter(|(id, cached)| **id != round && cached.view.gone().is_some());
            if let Some(oldest) = over.min_by_key(|(_, cached)| cached.used).map(|(id, _)| *id) {
                views.remove(&oldest);
            }
        }
        Ok(view)
    }

    /// Every commit adds one to a round's version; a round that stands no more was ended by a commit.
    pub(super) fn raise_floors(&self, known: &BTreeMap<RoundId, Version>, now: &BTreeMap<RoundId, Version>) {
        now.iter().for_each(|(round, version)| self.raise_floor(*round, *version));
        for (round, version) in known.iter().filter(|(round, _)| !now.contains_key(round)) {
            self.raise_floor(*round, Version(version.0 + 1));
        }
        let views = self.views.cached.lock().expect("no panic holds this lock");
        let mut floors = self.views.floors.lock().expect("no panic holds this lock");
        floors.retain(|round, _| now.contains_key(round) || views.contains_key(round));
    }
}
