//! Many rounds, on all cores, until one is not as it must be.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::account::{Account, Mismatch, Tally};
use super::kinds::Kind;
use super::seed::Seed;

/// How many rounds, and from which number all seeds follow.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// All seeds follow from it.
    pub seed: u64,
    /// Rounds in all.
    pub rounds: u64,
    /// How many of them have 64 clients.
    pub large: u64,
}

impl Campaign {
    /// The seeds, large rosters spread among the others; every kind leads in turn.
    pub fn seeds(&self) -> Vec<Seed> {
        let kinds = Kind::all().len();
        let seed = |index: u64| {
            let large_before = |index: u64| (index * self.large).checked_div(self.rounds).unwrap_or(0);
            let is_large = large_before(index + 1) > large_before(index);
            // Large and small rounds each go through all kinds.
            let turn = if is_large { large_before(index) } else { index - large_before(index) };
            Seed::of(self.seed, index, is_large, (turn % kinds as u64) as usize)
        };
        (0..self.rounds).map(seed).collect()
    }

    /// Seeds of rounds over HTTP, every kind that is possible there leading in turn.
    pub fn seeds_over_http(&self, rounds: u64) -> Vec<Seed> {
        let kinds = Kind::over_http().len() as u64;
        // Beside the other rounds; where in turn they begin is drawn, too, so that few rounds a run see all kinds in time.
        (0..rounds)
            .map(|index| {
                Seed::of(self.seed, (1 << 32) + index, false, (self.seed.wrapping_add(index) % kinds) as usize)
            })
            .collect()
    }

    /// Plays all of them, `jobs` at a time; the first mismatch ends it, unless it is to go on.
    pub fn run(&self, jobs: usize, goes_on: bool, progress: impl Fn(u64) + Sync) -> (Tally, Vec<Mismatch>) {
        play_all(&self.seeds(), jobs, goes_on, super::round, progress)
    }
}

/// Plays these rounds, `jobs` at a time, until one is not as it must be, or all of them.
pub fn play_all(
    seeds: &[Seed],
    jobs: usize,
    goes_on: bool,
    play: impl Fn(Seed) -> Result<Account, Mismatch> + Sync,
    progress: impl Fn(u64) + Sync,
) -> (Tally, Vec<Mismatch>) {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let seen = Mutex::new((Tally::default(), Vec::new()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) else { return };
            // Also a panic is told with its seed.
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(*seed)));
            let played = played.unwrap_or_else(|panic| Err(Mismatch::of_panic(*seed, &*panic)));
            let (tally, mismatches) = &mut *seen.lock().expect("no panic while it is held");
            match played {
                Ok(account) => tally.add(&account),
                Err(mismatch) => {
                    mismatches.push(mismatch);
                    stop.store(!goes_on, Ordering::Relaxed);
                }
            }
            progress(tally.rounds + mismatches.len() as u64);
        }
    };
    std::thread::scope(|scope| {
        (0..jobs.max(1)).for_each(|_| {
            scope.spawn(work);
        });
    });
    seen.into_inner().expect("no panic while it is held")
}

/// The same over HTTP.
pub async fn play_all_over_http(
    seeds: &[Seed],
    jobs: usize,
    goes_on: bool,
    progress: impl Fn(u64),
) -> (Tally, Vec<Mismatch>) {
    let (mut tally, mut mismatches) = (Tally::default(), Vec::new());
    let mut waiting = seeds.iter();
    let mut playing = tokio::task::JoinSet::new();
    loop {
        let may_start = mismatches.is_empty() || goes_on;
        while may_start && playing.len() < jobs.max(1) {
            let Some(seed) = waiting.next() else { break };
            playing.spawn(super::http::round(*seed));
        }
        match playing.join_next().await {
            None => return (tally, mismatches),
            Some(Ok(Ok(account))) => tally.add(&account),
            Some(Ok(Err(mismatch))) => mismatches.push(mismatch),
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        }
        progress(tally.rounds + mismatches.len() as u64);
    }
}
