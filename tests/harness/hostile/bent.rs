//! Real clients that sign something else than they should in one phase: a proxy that has their keys exchanges their messages.

use std::sync::Arc;

use veilsum_aggregator::round::View;

use super::proxy::{Meddling, Proxy};
use crate::world::{Ending, Running, Shape, World};

/// Everybody takes part in one round; the first `liars` of them have their messages of `phase` exchanged by `bend`, which is
/// told whose it is, where the round stands, and the honest bytes. The world, and how it ended for each.
pub async fn with_bent_messages(
    shape: Shape,
    liars: usize,
    phase: &'static str,
    bend: impl Fn(&World, usize, &View, &[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> (Arc<World>, Vec<Ending>) {
    let world = Arc::new(World::new(shape).await);
    let (holding, bend, round) = (world.clone(), Arc::new(bend), world.round(1).await);
    let proxy = Proxy::before(world.address, move |mut asked| {
        let (world, bend) = (holding.clone(), bend.clone());
        async move {
            if !asked.puts(phase) {
                return Meddling::Pass;
            }
            let view = world.rounds().view(round).await.expect("a known round");
            let client = asked.client().expect("a client");
            let number = world.clients.iter().position(|enrolled| enrolled.id == client).expect("one of ours");
            asked.body = bend(&world, number, &view, &asked.body);
            Meddling::PassAs(asked)
        }
    })
    .await;
    let count = world.clients.len();
    let running: Vec<Running> = (0..count)
        .map(|number| world.send(number, if number < liars { world.line_to(proxy.address()) } else { world.line() }))
        .collect();
    let mut endings = Vec::new();
    for running in running {
        endings.push(running.end().await);
    }
    (world, endings)
}
