//! Services that stand each in another phase of a round and stay there: of every phase one client's message is never sent.

use std::time::Instant;

use axum::Router;
use veilsum_aggregator::http;
use veilsum_aggregator::http::admin::{AdminToken, Replica};
use veilsum_crypto::ids::{ClientId, Digest, Party, RoundId};
use veilsum_crypto::messages::Chain;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Statement};
use veilsum_crypto::server::{PhaseKind, StatementKind};

use super::super::forge::Pool;
use crate::hostile::Hand;
use crate::world::{Shape, World};

/// What the admin API's token is made of.
pub const ADMIN_SECRET: [u8; 32] = [0x5e; 32];
/// As in addresses; the last is none.
pub const PHASES: [&str; 8] = ["advertise", "share", "acknowledge", "open", "mask", "confirm", "unmask", "else"];
/// Of each service.
pub const CLIENTS: usize = 4;

/// A service that stands in one phase.
pub struct Standing {
    /// The service, its database and its clients.
    pub world: World,
    /// Its one round.
    pub round: RoundId,
    /// Where that stands.
    pub phase: PhaseKind,
    /// Where its statements stand.
    pub chain: Chain,
    /// Its roots.
    pub digests: Vec<Digest>,
    /// Messages of this and earlier phases that may be sent: phase, client, bytes.
    pub messages: Vec<(PhaseKind, usize, Vec<u8>)>,
    /// Signing keys by number.
    pub keys: Vec<IdentitySecretKey>,
    /// By [`Door`].
    pub doors: [Router; 3],
}

/// A listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// What clients talk to.
    Clients,
    /// Health and metrics.
    Operations,
    /// What an operator's tools talk to.
    Admin,
}

impl Standing {
    /// Plays a round up to this phase.
    pub async fn at(phase: PhaseKind) -> Self {
        let shape = Shape { window_ms: 24 * 60 * 60 * 1_000, ..Shape::patient(CLIENTS as u32) };
        let world = World::new(shape).await;
        let mut hands = Vec::new();
        for number in 0..CLIENTS {
            hands.push(Hand::new(&world, number, 1).await);
        }
        let mut messages = Vec::new();
        for (of, name) in PHASES[..7].iter().enumerate().filter(|(_, name)| **name != "open") {
            let of = PhaseKind::from_number(of as u8).expect("seven phases");
            if of > phase {
                break;
            }
            for (number, hand) in hands.iter_mut().enumerate() {
                let message = match *name {
                    "advertise" => hand.advert().await,
                    "share" => hand.deal().await,
                    "acknowledge" => hand.acknowledge().await,
                    "mask" => hand.mask().await.0,
                    "confirm" => hand.confirm().await,
                    _ => hand.unmask().await,
                };
                if of < phase && !message.is_empty() {
                    let answer = hand.put(name, &message).await;
                    assert!([204, 410].contains(&answer.status), "honest, or late among confirmations: {answer:?}");
                }
                // So many that the phase stays open: of confirmations t would close it, of others all.
                let is_held_back = number >= if of == PhaseKind::Confirming { 2 } else { CLIENTS - 1 };
                if !message.is_empty() && (of < phase || !is_held_back) {
                    messages.push((of, number, message));
                }
            }
        }
        let round = world.round(1).await;
        let view = world.reached(round, phase).await;
        assert_eq!(view.phase.kind(), phase, "it stands where it should");
        Self::of(world, round, phase, messages, hands).await
    }

    async fn of(
        world: World,
        round: RoundId,
        phase: PhaseKind,
        messages: Vec<(PhaseKind, usize, Vec<u8>)>,
        hands: Vec<Hand>,
    ) -> Self {
        let chain = hands[0].header.chain();
        let mut digests = vec![Digest::NONE, chain.context];
        for (kind, label) in [
            (StatementKind::Roster, labels::ROSTER),
            (StatementKind::Core, labels::CORE),
            (StatementKind::Survivors, labels::SURVIVORS),
        ] {
            if let Ok(served) = world.rounds().statement(round, kind).await {
                let mut reader = veilsum_crypto::primitives::codec::Reader::new(&served);
                digests.push(Statement::read(&mut reader, label).expect("as signed").root());
            }
        }
        let keys = hands.iter().map(|hand| IdentitySecretKey::from_bytes(&hand.member.identity.to_bytes())).collect();
        let replica = Replica {
            store: "sqlite",
            schema: veilsum_aggregator::store::sql::SCHEMA_VERSION,
            listen: world.address,
            started: Instant::now(),
            retention_days: None,
            export_retention_days: None,
        };
        let rounds = || world.rounds().clone();
        let admin = http::admin::router(rounds(), replica, AdminToken::new(&ADMIN_SECRET));
        let doors = [http::router(rounds()), http::operations(rounds()), admin];
        Self { round, phase, chain, digests, messages, keys, doors, world }
    }

    /// A client's id.
    pub fn client(&self, number: usize) -> ClientId {
        self.world.clients[number].id
    }

    /// What may be put in another's place.
    pub fn pool(&self) -> Pool<'_> {
        let clients = (0..CLIENTS).map(|number| self.client(number).into());
        Pool {
            donors: self.messages.iter().map(|(_, _, message)| message.as_slice()).collect(),
            digests: &self.digests,
            parties: clients.chain([self.chain.aggregator, Party::EVERYBODY]).collect(),
        }
    }
}
