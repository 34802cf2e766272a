//! Advertise, the aggregator's side: collects certified keys, then fixes who takes part. §5.1
//!
//! Before: the header. Next: `server/share.rs`. The other end: `client/advertise.rs`.

use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::{Accepted, Assembly, Effect, Phase, Received, RoundFacts, Sharing, StatementKind};
use crate::ids::{ClientId, Digest};
use crate::messages::key_advertisement::leaf_digest;
use crate::messages::{KeyAdvertisement, Member, Roster};
use crate::params::RosterParams;
use crate::rules::{Abandonment, Rejection};

/// Waits for adverts. Nothing is settled yet but the header.
#[derive(Clone, Copy, Debug)]
pub struct Advertising;

impl Advertising {
    pub(super) fn accept(&self, facts: &RoundFacts, client: ClientId, body: &[u8]) -> Result<Accepted, Rejection> {
        let advert = KeyAdvertisement::decode(body)?;
        if advert.client() != client {
            return Err(Rejection::OtherSender { named: client });
        }
        advert.check(&facts.header, &facts.revoked)?; // the clients' own function
        let mut accepted = Accepted::body(client, body);
        accepted.claims = advert.claims().to_vec(); // the first who brings a key has it
        Ok(accepted)
    }

    /// a roster strictly sorted by id, with a nonce drawn now, so that no client could grind the ring.
    pub(super) fn close(self, facts: &RoundFacts, received: Received, nonce: [u8; 32]) -> (Phase, Vec<Effect>) {
        let bounds = &facts.header.params;
        let mut clients: Vec<(Digest, ClientId)> =
            received.bodies.keys().map(|client| (lot(&nonce, client), *client)).collect();
        // More than roster_max: the lots that nobody could foresee decide, not the order of arrival.
        clients.sort_unstable();
        clients.truncate(bounds.roster_max as usize);
        if (clients.len() as u32) < bounds.roster_min {
            return Phase::abandon_uncharged(Abandonment::RosterTooSmall, None, Vec::new());
        }
        clients.sort_unstable_by_key(|(_, client)| *client);
        let params = match RosterParams::derive(clients.len() as u32, bounds) {
            Ok(params) => params,
            Err(_) => return Phase::abandon_uncharged(Abandonment::Infeasible, None, Vec::new()),
        };
        let (members, entries): (Vec<Member>, Vec<(ClientId, Digest)>) = clients
            .iter()
            .map(|(_, client)| {
                let body = &received.bodies[client];
                let member = KeyAdvertisement::decode(body)
                    .ok()
                    .and_then(|advert| advert.check(&facts.header, &facts.revoked).ok())
                    .expect("only what `accept` has judged is stored");
                (member, (*client, leaf_digest(body)))
            })
            .unzip();
        let roster = Roster::fix(&facts.chain, &params, nonce, entries);
        let effect = Effect::Statement {
            kind: StatementKind::Roster,
            bytes: roster.statement().encode(),
            attachment: roster.list(),
        };
        (Phase::Sharing(Sharing { assembly: Assembly::new(roster, members, params) }), alloc::vec![effect])
    }
}

fn lot(nonce: &[u8; 32], client: &ClientId) -> Digest {
    Digest(Sha256::new_with_prefix(nonce).chain_update(client.0).finalize().into())
}
