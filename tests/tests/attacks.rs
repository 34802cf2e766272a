//! The attack catalogue: one test a row, and the two lists compared.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use verification::attacks::{self, Scale};
use verification::catalogue;

/// Attacks that look at the memory of this process or at time, and so want it for themselves.
const ALONE: [&str; 3] = ["f02_sampler_timing", "g01_oversized_body", "g03_slowloris_headers"];
/// Held by one that is alone, shared by the others.
static PROCESS: RwLock<()> = RwLock::new(());

/// Plays the attack of this name as often as by default; it panics where the attack succeeds.
fn play(name: &str) {
    // One that failed poisons the lock for nobody.
    let (_alone, _shared) = match ALONE.contains(&name) {
        true => (Some(PROCESS.write().unwrap_or_else(PoisonError::into_inner)), None),
        false => (None, Some(PROCESS.read().unwrap_or_else(PoisonError::into_inner))),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let seen = runtime.block_on((attacks::named(name).play)(Scale(1)));
    println!("{}", seen.text);
    seen.figures.iter().for_each(|(figure, value)| println!("{figure}: {value}"));
}

macro_rules! one_test_each {
    ($($family:ident::$name:ident: $threat:literal;)*) => { $(
        #[test]
        fn $name() {
            play(stringify!($name));
        }
    )* };
}
verification::attacks!(one_test_each);

/// Rows that look at processes from outside, and so have files of their own beside this one: memory.rs and canary.rs.
const OUTSIDE: [&str; 2] = ["E12", "H04"];

/// C-117: every row of the catalogue that is due is played, by one function that bears its id.
#[test]
fn every_row_of_the_catalogue_is_played_once() {
    let mut played = BTreeMap::new();
    for attack in attacks::all() {
        assert_eq!(played.insert(attack.id(), attack.threat), None, "{} twice", attack.id());
    }
    let due: BTreeMap<String, String> =
        catalogue::rows().into_iter().filter(catalogue::Row::is_played).map(|row| (row.id, row.threat)).collect();
    assert!(due.len() > 50, "{} rows", due.len());
    for (id, threat) in due.iter().filter(|(id, _)| !OUTSIDE.contains(&id.as_str())) {
        let known = played.get(id).unwrap_or_else(|| panic!("{id} ({threat}) is not played"));
        assert_eq!(known, threat, "{id}");
    }
    let twice: Vec<_> = OUTSIDE.iter().filter(|id| played.contains_key(**id) || !due.contains_key(**id)).collect();
    assert!(twice.is_empty(), "played here too, or not due: {twice:?}");
    for (id, threat) in played {
        let row = catalogue::row(&id).unwrap_or_else(|| panic!("{id} is not in the catalogue"));
        assert_eq!(row.threat, threat, "{id}");
    }
}
