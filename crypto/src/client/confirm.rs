//! Confirm, the client's side: one survivor list a round, ever. §5.6
//!
//! A lying server wins if two clients unmask for two lists. Before: `client/mask.rs`. Next: `client/unmask.rs`.
//! The other end: `server/confirm.rs`.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::acknowledge::{read_held, write_held};
use super::mask::{AwaitingSurvivors, read_core};
use super::saved::{Saved, Turn};
use super::{Membership, Memory, RoundView, chained};
use crate::ids::LeafIndex;
use crate::messages::masked_input::Upload;
use crate::messages::opening::SharePair;
use crate::messages::{Confirmation, CoreSet, Survivors};
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::primitives::labels;
use crate::primitives::signature::Statement;
use crate::rules::ServerMisbehaved;

impl AwaitingSurvivors {
    /// §5.6. Accepts the signed list, or stops; consumed either way, so there is no second one. A member of the
    /// agreement set signs it; nobody else sends anything.
    pub fn confirm(
        self,
        survivors: &[u8],
        uploads: &[Vec<u8>],
    ) -> Result<Turn<ReadyToUnmask, Option<Confirmation>>, ServerMisbehaved> {
        let Self { view, core, held } = self;
        let statement = chained(survivors, labels::SURVIVORS, "survivor list", &view, core.root())?;
        let survivors = Survivors::from_statement(statement, view.params.n)?;
        if !survivors.members().is_within(core.members()) {
            return Err(ServerMisbehaved::SurvivorsOutsideCore);
        }
        survivors_hold(&view, &core, &survivors, uploads)?;
        let message = view
            .order
            .agrees(view.me)
            .then(|| Confirmation::sign(&view.chain, survivors.root(), view.client(), view.identity()));
        Ok(Turn::new(ReadyToUnmask { view, core, survivors, held }, message))
    }
}

/// one function: enough survivors, this client and t neighbours among them, and every neighbour listed
/// alive with its own signature under this very core.
fn survivors_hold(
    view: &RoundView,
    core: &CoreSet,
    survivors: &Survivors,
    uploads: &[Vec<u8>],
) -> Result<(), ServerMisbehaved> {
    let alive = survivors.members();
    let (found, needed) = (alive.count(), view.params.survivors_min);
    if found < needed {
        return Err(ServerMisbehaved::TooFewSurvivors { found, needed });
    }
    if !alive.has(view.me) {
        return Err(ServerMisbehaved::NotListed);
    }
    let (found, needed) = (alive.count_of(&view.neighbours), view.params.threshold);
    if found < needed {
        return Err(ServerMisbehaved::NeighboursAlive { found, needed });
    }
    let signed: BTreeMap<_, _> = uploads
        .iter()
        .filter_map(|bytes| Upload::decode(bytes).ok())
        .map(|upload| (upload.signed().statement().sender, upload))
        .collect();
    for leaf in view.neighbours.iter().filter(|leaf| alive.has(**leaf)) {
        let peer = view.peer(*leaf);
        let holds = signed.get(&peer.client.into()).is_some_and(|upload| {
            upload.signed().statement().stands_at(&view.chain.from_client(peer.client, core.root()))
                && upload.signed().is_by(&peer.identity)
        });
        if !holds {
            return Err(ServerMisbehaved::UploadSignature { leaf: leaf.0 });
        }
    }
    Ok(())
}

/// Has accepted the one survivor list of this round.
#[derive(Debug)]
pub struct ReadyToUnmask {
    pub(super) view: RoundView,
    pub(super) core: CoreSet,
    pub(super) survivors: Survivors,
    pub(super) held: BTreeMap<LeafIndex, SharePair>,
}

impl ReadyToUnmask {
    pub(super) fn into_memory(self) -> (Arc<Membership>, Memory) {
        (self.view.member, self.view.memory)
    }
}

pub(super) fn read_survivors(reader: &mut Reader<'_>, view: &RoundView) -> Result<Survivors, DecodeError> {
    Survivors::from_statement(Statement::decode(reader.prefixed("survivors")?, labels::SURVIVORS)?, view.params.n)
}

impl Saved for ReadyToUnmask {
    const TAG: u8 = 5;

    fn bytes_max(&self) -> usize {
        self.view.bytes_max() + 72 * (self.held.len() + 1)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.view.write(out);
        write_prefixed(out, &self.core.statement().encode());
        write_prefixed(out, &self.survivors.statement().encode());
        write_held(out, &self.held);
    }

    fn read(reader: &mut Reader<'_>, member: &Arc<Membership>) -> Result<Self, DecodeError> {
        let view = RoundView::read(reader, member)?;
        let core = read_core(reader, &view)?;
        let survivors = read_survivors(reader, &view)?;
        Ok(Self { view, core, survivors, held: read_held(reader)? })
    }
}
