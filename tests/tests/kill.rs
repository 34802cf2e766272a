//! The kill campaign, in short. `cargo run --release -p verification --bin kill` is the long one.

use std::time::Duration;

use verification::kill::{Campaign, Report, Store, run, run_at_points};

/// One campaign, and on a machine on which it met with too little a few more: each of them must hold.
fn short_campaigns(store: Store, run: impl Fn(&Campaign) -> Report, met: impl Fn(&Report) -> bool) {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    let seed = u64::from(u32::from_le_bytes(bytes));
    println!("seed {seed}");
    for seed in seed..seed + 8 {
        // Slow enough that most rounds come to an end between two kills, also on a machine that is busy.
        let campaign =
            Campaign { store, seed, duration: Duration::from_secs(25), kills_max: u64::MAX, pause_ms: (300, 2_500) };
        let report = run(&campaign);
        println!("{report:?}");
        assert!(report.holds(), "{report:?}");
        if report.kills_total() >= 5 && report.released >= 1 && report.accepted >= 4 && met(&report) {
            return;
        }
    }
    panic!("in none of eight campaigns was enough killed, and something released");
}

#[test]
fn whatever_is_killed_on_postgresql_nothing_is_lost_and_nothing_counts_twice() {
    short_campaigns(Store::Postgres, |campaign| run(campaign, |_| {}), |_| true);
}

#[test]
fn whatever_is_killed_on_sqlite_nothing_is_lost_and_nothing_counts_twice() {
    short_campaigns(Store::Sqlite, |campaign| run(campaign, |_| {}), |_| true);
}

#[test]
fn at_whatever_point_a_replica_is_killed_nothing_is_lost_and_nothing_counts_twice() {
    let met = |report: &Report| {
        let is_killed = |word: &str| report.kills.keys().any(|point| point.starts_with(word));
        is_killed("before committing") && is_killed("before answering")
    };
    short_campaigns(Store::Postgres, |campaign| run_at_points(campaign, |_| {}), met);
}
