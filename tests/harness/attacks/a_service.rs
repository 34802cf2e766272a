//! A, continued: what the real aggregator says twice, and what two clients' clocks make of a certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use veilsum_client::{LeftOut, RoundOutcome};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Signed;
use veilsum_crypto::server::{PhaseKind, StatementKind};

use super::dice::Dice;
use super::{Scale, Seen};
use crate::world::{Ending, Running, Shape, World};

/// Statements as served, by kind: all that were ever signed.
type Ever = BTreeMap<StatementKind, BTreeSet<Vec<u8>>>;

const KINDS: [(StatementKind, labels::Label); 4] = [
    (StatementKind::Roster, labels::ROSTER),
    (StatementKind::Core, labels::CORE),
    (StatementKind::Survivors, labels::SURVIVORS),
    (StatementKind::Result, labels::RESULT),
];

/// Has the running replica sign whatever it would serve of this round.
async fn collect(world: &World, round: veilsum_crypto::ids::RoundId, ever: &mut Ever) {
    for (kind, _) in KINDS {
        if let Ok(served) = world.rounds().statement(round, kind).await {
            ever.entry(kind).or_default().insert(served.to_vec());
        }
    }
}

/// Pairs that convict the aggregator.
fn contradictions(ever: &Ever) -> usize {
    let mut found = 0;
    for (kind, label) in KINDS {
        let signed: Vec<Signed> = ever
            .get(&kind)
            .into_iter()
            .flatten()
            .map(|served| Signed::read(&mut Reader::new(served), label).expect("as served"))
            .collect();
        let pairs = signed.iter().enumerate().flat_map(|(at, one)| signed[at + 1..].iter().map(move |two| (one, two)));
        found += pairs.filter(|(one, two)| one.contradicts(two)).count();
    }
    found
}

/// A17. The aggregator crashes again and again, at moments drawn by chance; each successor signs what it finds.
pub async fn a17_second_statement_after_a_crash(scale: Scale) -> Seen {
    let (rounds, crashes_each) = (scale.times(6), 20);
    let mut crashes = 0;
    for seed in 0..rounds as u64 {
        let mut dice = Dice::new(seed);
        let mut world = World::new(Shape::patient(3)).await;
        let round = world.round(1).await;
        let mut ever = Ever::new();
        let running: Vec<Running> = (0..3).map(|number| world.send(number, world.line())).collect();
        for _ in 0..crashes_each {
            tokio::time::sleep(Duration::from_micros(dice.below(30_000) as u64)).await;
            collect(&world, round, &mut ever).await;
            world.crash();
            world.start().await;
            collect(&world, round, &mut ever).await;
            crashes += 1;
        }
        for running in running {
            let ending = running.end().await;
            assert!(ending.verified().is_some(), "seed {seed}: {ending:?}");
        }
        collect(&world, round, &mut ever).await;
        assert_eq!(ever.len(), KINDS.len(), "seed {seed}: every kind was signed");
        assert_eq!(contradictions(&ever), 0, "seed {seed}");
        assert!(ever.values().all(|served| served.len() == 1), "seed {seed}: one of a kind, to the byte");
        world.is_exact_sum_of(round, &world.ids(0..3)).await;
    }
    // The control: a database that forgets what was signed. The successor's roster has another nonce, and that is seen.
    let mut world = World::new(Shape::patient(3)).await;
    let round = world.round(1).await;
    world.stop().await;
    let backup = world.backup();
    world.start().await;
    let mut ever = Ever::new();
    for _ in 0..2 {
        let running: Vec<Running> = (0..3).map(|number| world.send(number, world.line())).collect();
        world.reached(round, PhaseKind::Sharing).await;
        collect(&world, round, &mut ever).await;
        for running in running {
            running.abort().await;
        }
        world.stop().await;
        world.restore(&backup);
        world.forget_clients();
        world.start().await;
    }
    let served: Vec<_> = ever.iter().map(|(kind, served)| (kind, served.len())).collect();
    assert!(contradictions(&ever) > 0, "two rosters of one round would be found, among {served:?}");
    Seen::new(format!(
        "{crashes} crashes at random moments of {rounds} rounds: one roster, core, survivor list and result each, to the byte, 0 \
         contradicting pairs, every sum exact; a database put back behind a signed roster does contradict itself, and is seen to"
    ))
    .count("crashes", crashes)
    .count("contradicting pairs", 0)
}

/// A18. A certificate that has ended by the clock of one client, and not by that of another, when the round is under way.
pub async fn a18_certificate_that_ends_in_the_round(_: Scale) -> Seen {
    let mut world = World::new(Shape::patient(5)).await;
    let opened = world.header(1).await.opened_at;
    let authority = veilsum_crypto::primitives::signature::IdentitySecretKey::from_bytes(&world.authority.to_bytes());
    world.recertify(3, &authority, |body| body.not_after = opened.plus_ms(1));
    let round = world.round(1).await;
    let minutes = |minutes: i64| minutes * 60 * 1_000_000;
    let skews = [minutes(-9), minutes(9), 0, minutes(4), minutes(-4)];
    let running: Vec<Running> =
        skews.iter().enumerate().map(|(number, skew_us)| world.send_at(number, *skew_us, world.line())).collect();
    for running in running {
        let ending = running.end().await;
        assert!(ending.verified().is_some(), "{ending:?}");
    }
    world.is_exact_sum_of(round, &world.ids(0..5)).await;
    // One that has ended at the header's time is refused by its own client and by the aggregator alike.
    let mut world = World::new(Shape::of(6)).await;
    let opened = world.header(1).await.opened_at;
    let round = world.round(1).await;
    let authority = veilsum_crypto::primitives::signature::IdentitySecretKey::from_bytes(&world.authority.to_bytes());
    world.recertify(5, &authority, |body| body.not_after = opened);
    let running: Vec<Running> = (0..6).map(|number| world.send(number, world.line())).collect();
    for (number, running) in running.into_iter().enumerate() {
        let ending = running.end().await;
        match ending {
            Ending::Outcome(RoundOutcome::LeftOut { reason: LeftOut::Certificate(_), .. }) if number == 5 => {}
            ending => assert!(number < 5 && ending.verified().is_some(), "{number}: {ending:?}"),
        }
    }
    world.is_exact_sum_of(round, &world.ids(0..5)).await;
    Seen::new(
        "a certificate that ends 1 ms after the header's time, clients' clocks up to 18 minutes apart: 5 of 5 honest clients saw the \
         exact sum; ended at the header's time, its holder was left out and the 5 others saw theirs",
    )
    .count("honest clients that stopped", 0)
}
