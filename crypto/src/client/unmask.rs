//! Unmask, the client's side: one answer, after the agreement set has spoken. §5.7
//!
//! Before: `client/confirm.rs`. Next: `client/verify.rs`. The other end: `server/unmask.rs`.

use alloc::{collections::BTreeSet, sync::Arc, vec::Vec};

use super::confirm::{ReadyToUnmask, read_survivors};
use super::saved::{Saved, Turn};
use super::{Membership, Memory, RoundView};
use crate::messages::{Answer, Confirmation, Survivors};
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::rules::ServerMisbehaved;

impl ReadyToUnmask {
    /// §5.7. Demands t signatures of the agreement set on the root this client accepted, then gives out of each
    /// neighbour in the core one kind of share. The shares end here.
    pub fn unmask(self, confirmations: &[Vec<u8>]) -> Result<Turn<AwaitingResult, Answer>, ServerMisbehaved> {
        let Self { view, core, survivors, held } = self;
        agreed(&view, &survivors, confirmations)?;
        let shares = view
            .neighbours
            .iter()
            .filter(|leaf| core.members().has(**leaf))
            .map(|leaf| {
                let pair = held.get(leaf)?;
                Some(if survivors.members().has(*leaf) { pair.self_mask.clone() } else { pair.masking.clone() })
            })
            .collect();
        let message = Answer::sign(shares, &view.chain, survivors.root(), view.client(), view.identity());
        Ok(Turn::new(AwaitingResult { view, survivors }, message))
    }
}

/// t distinct valid signatures on this very root, of members of the agreement set that are in it; stops at t.
fn agreed(view: &RoundView, survivors: &Survivors, confirmations: &[Vec<u8>]) -> Result<(), ServerMisbehaved> {
    let needed = view.params.threshold;
    let mut signers = BTreeSet::new();
    for confirmation in confirmations.iter().filter_map(|bytes| Confirmation::decode(bytes).ok()) {
        let statement = confirmation.signed().statement();
        let Some(leaf) = view.roster.leaf_of(statement.sender.into()) else { continue };
        if !view.order.agrees(leaf) || !survivors.members().has(leaf) || signers.contains(&leaf) {
            continue;
        }
        let peer = view.peer(leaf);
        if statement.stands_at(&view.chain.from_client(peer.client, survivors.root()))
            && confirmation.signed().is_by(&peer.identity)
        {
            signers.insert(leaf);
        }
        if signers.len() as u32 == needed {
            return Ok(());
        }
    }
    Err(ServerMisbehaved::Confirmations { found: signers.len() as u32, needed })
}

/// Has answered; waits for the result.
#[derive(Debug)]
pub struct AwaitingResult {
    pub(super) view: RoundView,
    pub(super) survivors: Survivors,
}

impl AwaitingResult {
    pub(super) fn into_memory(self) -> (Arc<Membership>, Memory) {
        (self.view.member, self.view.memory)
    }
}

impl Saved for AwaitingResult {
    const TAG: u8 = 6;

    fn bytes_max(&self) -> usize {
        self.view.bytes_max()
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.view.write(out);
        write_prefixed(out, &self.survivors.statement().encode());
    }

    fn read(reader: &mut Reader<'_>, member: &Arc<Membership>) -> Result<Self, DecodeError> {
        let view = RoundView::read(reader, member)?;
        let survivors = read_survivors(reader, &view)?;
        Ok(Self { view, survivors })
    }
}
