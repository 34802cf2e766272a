//! Share, the aggregator's side: every dealer's points lie on one polynomial before anybody relies on them. §5.2
//!
//! Before: `server/advertise.rs`. Next: `server/acknowledge.rs`. The other end: `client/share.rs`.

use alloc::vec::Vec;

use super::{Accepted, Acknowledging, Assembly, Effect, Keep, Phase, Received, RoundFacts, is_from};
use crate::ids::{ClientId, LeafIndex};
use crate::math::shamir::is_low_degree_vartime;
use crate::messages::{Bitmap, SealedShares};
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::signature::Signed;
use crate::rules::{Abandonment, Rejection};

/// Waits for shares.
#[derive(Clone, Debug)]
pub struct Sharing {
    pub(super) assembly: Assembly,
}

impl Sharing {
    pub(super) fn accept(&self, facts: &RoundFacts, client: ClientId, body: &[u8]) -> Result<Accepted, Rejection> {
        let (leaf, dealer) = self.assembly.find(client)?;
        let params = self.assembly.params();
        // The signature is checked before the attachment is read.
        let signed = Signed::read(&mut Reader::new(body), labels::SHARE)?;
        is_from(&signed, client, &facts.chain.from_client(client, self.assembly.root()), &dealer.identity)?;
        let message = SealedShares::decode(body, params.degree)?;
        // First, because only signed edges prove anything: others may have been put there on the way.
        if !message.edges_are_signed() {
            return Err(Rejection::EdgesRoot);
        }
        let neighbours = self.assembly.order().neighbours(leaf);
        if !message.edges().iter().map(|edge| edge.holder).eq(neighbours) {
            return Err(Rejection::Edges { expected: params.degree });
        }
        let points: Vec<_> = message
            .edges()
            .iter()
            .map(|edge| (edge.holder, [edge.masking_point.point(), edge.self_mask_point.point()]))
            .collect();
        let coefficients = message.low_degree_coefficients(params.threshold);
        let keys = [dealer.masking.0.point(), dealer.self_mask.0.point()];
        if !is_low_degree_vartime(keys, &points, &coefficients) {
            return Err(Rejection::NotLowDegree);
        }
        let to = message
            .mail(leaf)
            .into_iter()
            .map(|(holder, item)| (self.assembly.roster().client(holder), item))
            .collect();
        Ok(Accepted::new(client, body, Keep::Mail { body: body.to_vec(), to }))
    }

    /// The mailboxes are what was admitted. A core cannot be larger than the set of dealers.
    pub(super) fn close(self, received: Received) -> (Phase, Vec<Effect>) {
        let assembly = self.assembly;
        let dealt = leaves(&assembly, received.bodies.keys());
        if dealt.count() < assembly.params().survivors_min {
            return Phase::abandon_uncharged(Abandonment::CoreTooSmall, Some(assembly), Vec::new());
        }
        (Phase::Acknowledging(Acknowledging { assembly, dealt }), Vec::new())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.assembly.write(out);
    }

    pub(super) fn read(reader: &mut Reader<'_>, facts: &RoundFacts) -> Result<Self, DecodeError> {
        Ok(Self { assembly: Assembly::read(reader, facts)? })
    }
}

/// The leaves of clients on the roster.
pub(super) fn leaves<'a>(assembly: &Assembly, clients: impl Iterator<Item = &'a ClientId>) -> Bitmap {
    let leaves: Vec<LeafIndex> = clients.filter_map(|client| assembly.roster().leaf_of(*client)).collect();
    Bitmap::of(assembly.params().n, leaves)
}
