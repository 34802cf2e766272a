//! The kill campaign, in short. `cargo run --release -p verification --bin kill` is the long one.

use std::time::Duration;

use verification::kill::{Campaign, Report, Store, run, run_at_points};

fn a_short_campaign(store: Store, run: impl FnOnce(&Campaign) -> Report) -> Report {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    let seed = u64::from(u32::from_le_bytes(bytes));
    println!("seed {seed}");
    // Slow enough that most rounds come to an end between two kills, also on a machine that is busy.
    let campaign =
        Campaign { store, seed, duration: Duration::from_secs(25), kills_max: u64::MAX, pause_ms: (300, 2_500) };
    let report = run(&campaign);
    println!("{report:?}");
    assert!(report.holds(), "{report:?}");
    assert!(report.kills_total() >= 5, "something was killed");
    assert!(report.released >= 1 && report.accepted >= 4, "something was released: {report:?}");
    report
}

#[test]
fn whatever_is_killed_on_postgresql_nothing_is_lost_and_nothing_counts_twice() {
    a_short_campaign(Store::Postgres, |campaign| run(campaign, |_| {}));
}

#[test]
fn whatever_is_killed_on_sqlite_nothing_is_lost_and_nothing_counts_twice() {
    a_short_campaign(Store::Sqlite, |campaign| run(campaign, |_| {}));
}

#[test]
fn at_whatever_point_a_replica_is_killed_nothing_is_lost_and_nothing_counts_twice() {
    let report = a_short_campaign(Store::Postgres, |campaign| run_at_points(campaign, |_| {}));
    let points = |word: &str| report.kills.keys().filter(|point| point.starts_with(word)).count();
    assert!(points("before committing") > 0 && points("before answering") > 0, "{:?}", report.kills);
}
