//! D, continued: clients that are lost where it hurts most, one by one or many at once.

use std::collections::BTreeMap;

use veilsum_crypto::ids::{ClientId, LeafIndex};
use veilsum_crypto::server::{PhaseKind, StatementKind};
use veilsum_crypto::testing::{Play, small_params};

use super::a_rosters::ring;
use super::dice::Dice;
use super::{Scale, Seen};
use crate::hostile::proxy::{Meddling, Proxy};
use crate::world::{Fate, Moment, Running, Shape, World};

/// Where one schedule loses its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loss {
    /// As many as T permits, spread by chance over phases and clients.
    Scattered,
    /// T neighbours on the ring, in one phase.
    Adjacent,
    /// k / 2 neighbours on the ring, in one phase: more than T.
    HalfANeighbourhood,
    /// Any number, anywhere.
    Any,
}

/// How a schedule ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Exact,
    Abandoned,
}

/// Drops clients from a phase that was reached.
fn lose<P>(clients: &mut BTreeMap<ClientId, P>, lost: &[ClientId]) {
    clients.retain(|client, _| !lost.contains(client));
}

/// One round in memory: real phases on both sides, some clients vanish before they speak in a phase.
fn schedule(n: u32, loss: Loss, dice: &mut Dice) -> End {
    let mut play = Play::new(small_params(n, 8));
    let mut clients = play.advertise();
    let assembly = play.aggregator.phase.assembly().expect("a roster").clone();
    let (tolerated, k) = (assembly.params().tolerated as usize, assembly.params().degree as usize);
    let ring: Vec<ClientId> = ring_of(&assembly);
    let start = dice.below(ring.len());
    let adjacent = |count: usize| -> Vec<ClientId> { (0..count).map(|at| ring[(start + at) % ring.len()]).collect() };
    let mut losses: [Vec<ClientId>; 5] = Default::default(); // share, acknowledge, mask, confirm, unmask
    match loss {
        Loss::Adjacent => losses[dice.below(5)] = adjacent(tolerated),
        Loss::HalfANeighbourhood => losses[dice.below(5)] = adjacent(k / 2),
        Loss::Scattered => {
            for client in adjacent(n as usize).into_iter().take(tolerated) {
                losses[dice.below(5)].push(client);
            }
        }
        Loss::Any => {
            for client in ring {
                if dice.percent(15) {
                    losses[dice.below(5)].push(client);
                }
            }
        }
    }
    lose(&mut clients, &losses[0]);
    let mut clients = play.share(clients);
    if play.aggregator.phase.kind().is_over() {
        return ended(&play, loss);
    }
    lose(&mut clients, &losses[1]);
    let mut clients = play.acknowledge(clients);
    if play.aggregator.phase.kind().is_over() {
        return ended(&play, loss);
    }
    // Who is not in the core would be refused.
    let core = veilsum_crypto::messages::CoreSet::from_statement(
        veilsum_crypto::primitives::signature::Statement::decode(
            &play.aggregator.statements[&StatementKind::Core].0,
            veilsum_crypto::primitives::labels::CORE,
        )
        .expect("as fixed"),
        n,
    );
    let core = core.expect("as fixed");
    clients.retain(|client, _| core.members().has(assembly.roster().leaf_of(*client).expect("on it")));
    lose(&mut clients, &losses[2]);
    let mut clients = play.mask(clients);
    if play.aggregator.phase.kind().is_over() {
        return ended(&play, loss);
    }
    lose(&mut clients, &losses[3]);
    let mut clients = play.confirm(clients);
    if play.aggregator.phase.kind().is_over() {
        return ended(&play, loss);
    }
    lose(&mut clients, &losses[4]);
    let clients = play.unmask(clients);
    if play.aggregator.phase.kind() != PhaseKind::Published {
        return ended(&play, loss);
    }
    let result = play.aggregator.served(&play.world, StatementKind::Result);
    for phase in clients.into_values() {
        let (verified, _) = phase.verify(&result).expect("an honest result");
        let living = verified.survivors.members().leaves().map(|leaf| assembly.roster().client(leaf));
        assert!(verified.sum.expect("released") == play.plain_sum(living), "the sum is not that of the survivors");
    }
    End::Exact
}

/// Everybody, by position on the ring.
fn ring_of(assembly: &veilsum_crypto::server::Assembly) -> Vec<ClientId> {
    let order = ring(assembly.root(), assembly.params().n);
    order.into_iter().map(|leaf| assembly.roster().client(LeafIndex(leaf))).collect()
}

/// Abandoned, with nothing released; and never where no more were lost than are tolerated.
fn ended(play: &Play, loss: Loss) -> End {
    assert_eq!(play.aggregator.phase.kind(), PhaseKind::Abandoned);
    let result = play.aggregator.statements.get(&StatementKind::Result);
    assert!(result.is_none_or(|(_, sum)| sum.is_empty()), "nothing is released");
    assert!(matches!(loss, Loss::HalfANeighbourhood | Loss::Any), "{loss:?}: within T a round ends with its sum");
    End::Abandoned
}

/// The real aggregator and real clients; these neighbours on the ring are cut off when masking opens.
async fn cut_off_at_mask(count: usize) -> bool {
    let world = World::new(Shape::of(12)).await;
    let round = world.round(1).await;
    let cut: std::sync::Arc<std::sync::Mutex<Vec<ClientId>>> = Default::default();
    let held = cut.clone();
    let proxy = Proxy::before(world.address, move |asked| {
        let is_cut = asked.client().is_some_and(|client| held.lock().expect("no panic").contains(&client));
        async move { if is_cut && asked.puts("mask") { Meddling::LoseRequest } else { Meddling::Pass } }
    })
    .await;
    let running: Vec<Running> = (0..12).map(|number| world.send(number, world.line_to(proxy.address()))).collect();
    let view = world.reached(round, PhaseKind::Sharing).await;
    *cut.lock().expect("no panic") =
        ring_of(view.phase.assembly().expect("a roster")).into_iter().take(count).collect();
    let lost = cut.lock().expect("no panic").clone();
    let view = world.over(round).await;
    let is_released = view.phase.kind() == PhaseKind::Published;
    if is_released {
        let living: Vec<usize> = (0..12).filter(|number| !lost.contains(&world.clients[*number].id)).collect();
        world.is_exact_sum_of(round, &world.ids(living)).await;
    } else {
        world.is_abandoned(round, "too-few-survivors", true).await;
    }
    for running in running {
        running.abort().await;
    }
    is_released
}

/// D10. As many as are tolerated, and more, lost where the ring is weakest.
pub async fn d10_adversarial_dropout(scale: Scale) -> Seen {
    let (mut dice, each) = (Dice::new(10), scale.times(8));
    let (mut exact, mut abandoned, mut schedules) = (0, 0, 0);
    for loss in [Loss::Scattered, Loss::Adjacent, Loss::HalfANeighbourhood, Loss::Any] {
        for trial in 0..each {
            let n = [12, 12, 9, 20][trial % 4];
            match schedule(n, loss, &mut dice) {
                End::Exact => exact += 1,
                End::Abandoned => abandoned += 1,
            }
            schedules += 1;
        }
    }
    assert!(exact > schedules / 2 && abandoned > 0, "{exact} exact, {abandoned} abandoned");
    let (within, beyond) = tokio::join!(cut_off_at_mask(3), cut_off_at_mask(4));
    assert!(within && !beyond, "T = 3 are borne, k / 2 = 4 end the round");
    Seen::new(format!(
        "{schedules} schedules in memory (scattered, T or k/2 adjacent ring positions, any number): {exact} exact to the bit, {abandoned} \
         abandoned with nothing released, none of those within T; over HTTP at n = 12, 3 adjacent uploads cut off: exact; 4: abandoned"
    ))
    .count("schedules", schedules + 2)
    .count("exact", exact + 1)
    .count("abandoned", abandoned + 1)
}

/// D11. Far more than are tolerated vanish after they uploaded; then everybody tries again.
pub async fn d11_mass_dropout(_: Scale) -> Seen {
    let world = World::new(Shape { rounds: 2, window_ms: 2_500, ..Shape::of(6) }).await;
    let round = world.round(1).await;
    let fate = Fate { phase: "mask", moment: Moment::BeforeSending };
    let losses: Vec<(usize, Fate)> = (0..4).map(|number| (number, fate)).collect();
    world.play(&losses).await;
    world.is_abandoned(round, "too-few-survivors", true).await;
    for table in ["partial_sums", "round_keys", "mail", "claims"] {
        let query = format!("SELECT count(*) FROM {table} WHERE round = x'{round}'");
        assert_eq!(world.count(&query).await, 0, "{table} is erased");
    }
    // A fresh retry, with fresh keys: who was lost hears that the round is over, and joins the next.
    let retry = async |number: usize| {
        if number < 4 {
            let ending = world.send(number, world.line()).end().await;
            assert_eq!(
                ending.abandoned().and_then(|why| why.split(':').next()),
                Some("too-few-survivors"),
                "{ending:?}"
            );
        }
        let ending = world.send(number, world.line()).end().await;
        assert!(ending.verified().is_some(), "{ending:?}");
    };
    tokio::join!(retry(0), retry(1), retry(2), retry(3), retry(4), retry(5));
    let round = world.round(2).await;
    let view = world.over(round).await;
    assert_eq!(view.phase.kind(), PhaseKind::Published, "{:?}", view.gone());
    let survivors = world.survivors(round).await;
    world.is_exact_sum_of(round, &survivors).await;
    let ledger = world.ledger().await;
    assert!(ledger.len() == 2 && ledger.iter().all(|row| row.spent), "both attempts are charged");
    Seen::new(format!(
        "4 of 6 lost before they uploaded: abandoned and charged, tables of sums, keys, mail and claims empty; the retry ended with the \
         exact sum of {} clients and was charged too. (Memory: E12)",
        survivors.len()
    ))
    .count("rows of secrets left", 0)
}
