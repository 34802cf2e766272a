//! The kill campaign: replicas, clients and the database as processes of their own, killed at moments by chance.
//!
//! ```text
//! stage     what runs: `veilsum serve` twice on one database, lasting clients, PostgreSQL with fsync; kill and bring back
//! run       what is killed when, from one seed
//! points    replicas killed before and after each commit and each answer
//! judge     every released sum against what clients were told
//! ```
//! Client i adds 1 to the i-th element of the sum and nothing else, and there is no noise: whoever is lost or counted twice
//! shows, and who it was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

mod judge;
mod points;
mod stage;

pub use stage::Store;

use crate::dice::Dice;
use stage::{Stage, Target};

/// Clients of a campaign.
pub const CLIENTS: u32 = 6;

/// What client `number` adds.
pub fn unit(number: usize, len: usize) -> Vec<f32> {
    (0..len).map(|at| if at == number { 1.0 } else { 0.0 }).collect()
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// On which engine.
    pub store: Store,
    /// What is killed when follows from it; what then happens does not.
    pub seed: u64,
    /// Killing ends after so long.
    pub duration: Duration,
    /// Or after so many kills.
    pub kills_max: u64,
    /// From one kill to the next, milliseconds: least and most.
    pub pause_ms: (u64, u64),
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By what was killed; at points, by the point.
    pub kills: BTreeMap<String, u64>,
    /// Rounds whose sum was released.
    pub released: u64,
    /// Rounds that ended without one.
    pub abandoned: u64,
    /// Uploads that a client was told were accepted, in released rounds.
    pub accepted: u64,
    /// Of them, those that are in no sum.
    pub lost: Vec<String>,
    /// Clients whose input is in a sum more than once.
    pub double: Vec<String>,
    /// Whatever else does not hold.
    pub violations: Vec<String>,
}

impl Report {
    /// All kills.
    pub fn kills_total(&self) -> u64 {
        self.kills.values().sum()
    }

    /// Nothing lost, nothing twice, and nothing else that must not be.
    pub fn holds(&self) -> bool {
        self.lost.is_empty() && self.double.is_empty() && self.violations.is_empty()
    }
}

/// Runs a campaign; `progress` hears of every kill.
pub fn run(campaign: &Campaign, mut progress: impl FnMut(&BTreeMap<String, u64>)) -> Report {
    let mut dice = Dice::new(campaign.seed, "kills");
    let mut stage = Stage::set(campaign.store, None);
    let started = Instant::now();
    let mut kills = BTreeMap::new();
    let mut total = 0;
    let mut back: Vec<(Instant, Target)> = Vec::new();
    while started.elapsed() < campaign.duration && total < campaign.kills_max {
        let next = Instant::now() + Duration::from_millis(dice.between(campaign.pause_ms.0, campaign.pause_ms.1));
        loop {
            back.sort_by_key(|(due, _)| *due);
            let now = Instant::now();
            if back.first().is_some_and(|(due, _)| *due <= now) {
                stage.bring_back(back.remove(0).1);
            } else if now >= next {
                break;
            } else {
                let due = back.first().map_or(next, |(due, _)| next.min(*due));
                std::thread::sleep(due - now);
            }
        }
        let target = match dice.below(100) {
            0..45 => Target::Replica(dice.index(stage::REPLICAS)),
            45..85 => Target::Client(dice.index(CLIENTS as usize)),
            _ => match campaign.store {
                Store::Postgres => Target::Database,
                Store::Sqlite => Target::Room,
            },
        };
        if stage.kill(target) {
            *kills.entry(target.name().to_owned()).or_default() += 1;
            total += 1;
            back.push((Instant::now() + Duration::from_millis(dice.below(400)), target));
            progress(&kills);
        }
    }
    back.into_iter().for_each(|(_, target)| stage.bring_back(target));
    stage.settle();
    let mut report = judge::judge(&stage);
    report.kills = kills;
    report
}

/// Runs a campaign in which replicas are killed at points (`points`), each about as often as the others, and nothing else is.
pub fn run_at_points(campaign: &Campaign, mut progress: impl FnMut(&BTreeMap<String, u64>)) -> Report {
    let mut dice = Dice::new(campaign.seed, "pauses");
    let mut stage = Stage::set(campaign.store, Some(campaign.seed));
    let started = Instant::now();
    let mut kills = BTreeMap::new();
    while started.elapsed() < campaign.duration && kills.values().sum::<u64>() < campaign.kills_max {
        std::thread::sleep(Duration::from_millis(dice.between(campaign.pause_ms.0, campaign.pause_ms.1)));
        let points = stage.points().expect("it was set with points");
        points.arm();
        while !(0..stage::REPLICAS).any(|number| stage.has_ended(number)) && started.elapsed() < campaign.duration {
            std::thread::sleep(Duration::from_millis(5));
        }
        kills = points.struck();
        progress(&kills);
        std::thread::sleep(Duration::from_millis(dice.below(400)));
        stage.mend();
    }
    stage.settle();
    let mut report = judge::judge(&stage);
    report.kills = kills;
    report
}
