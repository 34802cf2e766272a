//! The kill campaign, in short. `cargo run --release -p verification --bin kill` is the long one.

use std::time::Duration;

use verification::kill::{Campaign, Store, run};

fn a_short_campaign(store: Store) {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    let seed = u64::from(u32::from_le_bytes(bytes));
    println!("seed {seed}");
    // Slow enough that most rounds come to an end between two kills, also on a machine that is busy.
    let campaign =
        Campaign { store, seed, duration: Duration::from_secs(25), kills_max: u64::MAX, pause_ms: (300, 2_500) };
    let report = run(&campaign, |_| {});
    println!("{report:?}");
    assert!(report.holds(), "{report:?}");
    assert!(report.kills_total() >= 5, "something was killed");
    assert!(report.released >= 1 && report.accepted >= 4, "something was released: {report:?}");
}

#[test]
fn whatever_is_killed_on_postgresql_nothing_is_lost_and_nothing_counts_twice() {
    a_short_campaign(Store::Postgres);
}

#[test]
fn whatever_is_killed_on_sqlite_nothing_is_lost_and_nothing_counts_twice() {
    a_short_campaign(Store::Sqlite);
}
