//! Blame that holds: rounds with liars drawn by lot, and whether anybody would notice if the aggregator were wrong.
//!
//! The campaign itself is `cargo run --release -p verification --bin blame`; here are some hundreds of its rounds.

use std::collections::BTreeSet;

use verification::blame::Seed;
use verification::blame::campaign::{play_all, play_all_over_http};
use verification::blame::kinds::Kind;
use verification::blame::{self, Bug, Campaign, Tally};
use verification::world::random;

/// Rounds of this run, beside those that some kind still needs.
const ROUNDS: u64 = 230;
/// Of them with 64 clients.
const LARGE: u64 = 2;
/// Rounds over HTTP.
const OVER_HTTP: u64 = 40;

fn fresh() -> u64 {
    u64::from_le_bytes(random()[..8].try_into().expect("8 of 32"))
}

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// C-80, C-81: whatever c liars and T losses do, in any combination that the lot finds, the sum is exact, liars are named where
/// signed evidence names them and nobody else, and the evidence convinces an outsider.
#[test]
fn some_hundreds_of_rounds_with_liars_release_exact_sums_and_name_liars_only() {
    let campaign = Campaign { seed: fresh(), rounds: ROUNDS, large: LARGE };
    println!("campaign seed {}", Seed(campaign.seed));
    let (mut tally, mismatches) = campaign.run(jobs(), false, |_| ());
    if let Some(mismatch) = mismatches.first() {
        panic!("{mismatch}");
    }
    // A kind that the lot has not brought about yet leads further rounds until it has been played, and if its one letter proves
    // all, until it has been named: that letter may be refused for what came before it, or come when the phase has closed.
    let all = Kind::all();
    for attempt in 0..60 {
        let is_done = |kind: &Kind| match tally.kinds.get(kind) {
            Some([named, ..]) => *named > 0 || !PROVED_BY_ONE_LETTER.contains(kind),
            None => false,
        };
        let absent: Vec<usize> = (0..all.len()).filter(|at| !is_done(&all[*at])).collect();
        if absent.is_empty() {
            break;
        }
        let seeds: Vec<Seed> =
            absent.into_iter().map(|lead| Seed::of(campaign.seed, 1_000_000 + attempt, false, lead)).collect();
        let (more, mismatches) = play_all(&seeds, jobs(), false, blame::round, |_| ());
        if let Some(mismatch) = mismatches.first() {
            panic!("{mismatch}");
        }
        tally.join(&more);
    }
    println!("{}", tally.table());
    assert_eq!(tally.never_played(all), Vec::<String>::new(), "every kind of misbehaviour occurs");
    assert!(tally.rounds >= ROUNDS && tally.large >= LARGE && tally.complete > 0 && tally.complete < tally.rounds);
    assert!(tally.within > tally.rounds / 2, "most rounds are within what the protocol promises to bear");
    assert!(tally.proofs > 0 && tally.frames > tally.rounds, "evidence was verified, and frames tried");
    named_where_signed_evidence_names(&tally);
}

/// Kinds whose one letter proves all.
const PROVED_BY_ONE_LETTER: [Kind; 5] =
    [Kind::RepeatedKey, Kind::OffPolynomial, Kind::EdgesAstray, Kind::TwoUploads, Kind::TwoConfirmations];

/// They are named. That each is named whenever it must be, the oracle has said of every single round: how many of a kind come too
/// late for it, or behind a message that was refused, is the lot's affair.
#[track_caller]
fn named_where_signed_evidence_names(tally: &Tally) {
    for kind in PROVED_BY_ONE_LETTER {
        let [named, refused, unnamed] = tally.kinds[&kind];
        assert!(named > 0, "{}: {refused} refused, {unnamed} unnamed, none named", kind.name());
    }
}

/// Rounds that were wrong once, in the aggregator or in this campaign, stay right.
#[test]
fn rounds_that_were_wrong_once_stay_right() {
    for seed in ["6ca83aced42ec207", "308bd9f627c38b15"] {
        if let Err(mismatch) = blame::round(Seed::parse(seed).expect("a seed")) {
            panic!("{mismatch}");
        }
    }
}

/// C-82: the oracle is no rubber stamp: an aggregator with a bug is noticed, whichever bug it is.
#[test]
fn an_aggregator_with_a_bug_is_noticed() {
    let campaign = fresh();
    println!("campaign seed {}", Seed(campaign));
    // Each in rounds that give it something to be wrong about.
    let planted = [
        (Bug::NamesSomebody, Kind::Garbage, "an honest client is named"),
        (Bug::DropsAnUpload, Kind::Garbage, "it must end with"),
        (Bug::ForgetsFaults, Kind::OffPolynomial, "must be named"),
        (Bug::AdmitsAnything, Kind::EdgesUnsigned, "the protocol says 422"),
        (Bug::TakesTheSecond, Kind::TwoUploads, "the protocol says 409"),
        (Bug::LosesAMessage, Kind::FalseComplaint, ""),
    ];
    assert_eq!(planted.len(), Bug::ALL.len());
    assert_eq!(planted.iter().map(|(bug, ..)| format!("{bug:?}")).collect::<BTreeSet<_>>().len(), Bug::ALL.len());
    for (bug, kind, expected) in planted {
        let lead = Kind::all().iter().position(|other| *other == kind).expect("a kind");
        let seeds: Vec<Seed> = (0..8).map(|index| Seed::of(campaign, index, false, lead)).collect();
        let (_, mismatches) = play_all(&seeds, jobs(), true, |seed| blame::round_with(seed, bug), |_| ());
        let noticed = mismatches.iter().find(|mismatch| mismatch.what.contains(expected));
        let said: Vec<&String> = mismatches.iter().map(|mismatch| &mismatch.what).collect();
        assert!(noticed.is_some(), "{bug:?} goes unnoticed in {seeds:?}, or is told as {said:?}");
    }
}

/// C-83: the same over HTTP: real participants complain about a liar's bad share, and open what a liar complains about.
#[tokio::test(flavor = "multi_thread")]
async fn rounds_over_http_with_real_participants_end_as_they_must() {
    let campaign = Campaign { seed: fresh(), rounds: 0, large: 0 };
    println!("campaign seed {}", Seed(campaign.seed));
    let must = [Kind::FalseComplaint, Kind::BadEdges, Kind::WrongOpening, Kind::NoOpening];
    let lead = |kind| Kind::over_http().iter().position(|other| *other == kind).expect("possible over HTTP");
    let mut seeds: Vec<Seed> =
        (0..).zip(must).map(|(index, kind)| Seed::of(campaign.seed, index, false, lead(kind))).collect();
    seeds.extend(campaign.seeds_over_http(OVER_HTTP - must.len() as u64));
    let mut tally = Tally::default();
    for attempt in 0..20 {
        let (more, mismatches) = play_all_over_http(&seeds, 4 * jobs(), false, |_| ()).await;
        if let Some(mismatch) = mismatches.first() {
            panic!("over HTTP: {mismatch}");
        }
        tally.join(&more);
        // A round that one of the four leads need not come to it: its liar may be lost first, or be found out before.
        seeds = must
            .into_iter()
            .filter(|kind| !tally.kinds.contains_key(kind))
            .map(|kind| Seed::of(campaign.seed, 1_000_000 + attempt, false, lead(kind)))
            .collect();
        // Nor need it be opened, or end with a sum.
        let has_seen_all = |tally: &Tally| tally.opened > 0 && tally.released > 0 && tally.within > 0;
        if seeds.is_empty() && !has_seen_all(&tally) {
            seeds.push(Seed::of(campaign.seed, 1_000_000 + attempt, false, lead(Kind::FalseComplaint)));
        }
        if seeds.is_empty() {
            break;
        }
    }
    println!("{}", tally.table());
    assert!(tally.rounds >= OVER_HTTP);
    assert_eq!(tally.never_played(must), Vec::<String>::new());
    assert!(tally.opened > 0 && tally.released > 0 && tally.within > 0);
}
