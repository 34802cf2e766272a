//! Mask, the client's side: the one update of this client in this round. §5.5
//!
//! Before: `client/acknowledge.rs`. Next: `client/confirm.rs`. The other end: `server/mask.rs`.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::acknowledge::{ReadyToMask, read_held, write_held};
use super::memory::charge_key;
use super::policy::{budget_covers, limits_permit, round_charge_of};
use super::saved::{Saved, Turn};
use super::{Membership, Memory, RoundView};
use crate::ids::LeafIndex;
use crate::math::ring::RingVector;
use crate::messages::opening::SharePair;
use crate::messages::{CoreSet, MaskedInput};
use crate::primitives::agreement::MaskingSecretKey;
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::primitives::context::CoreContext;
use crate::primitives::labels;
use crate::primitives::signature::Statement;
use crate::privacy::accountant::RdpCurve;
use crate::rules::ServerMisbehaved;
use crate::update::Noised;

impl ReadyToMask {
    /// §5.5. Judges the signed core, charges the own ledger, masks. Both secrets end here (R-31). Without [`pin`](Self::pin) before,
    /// the core is written down together with the masked bytes: nothing is opened in between, because this consumes the phase.
    ///
    /// A second call does not compile; nor does masking anything that carries no noise:
    ///
    /// ```compile_fail,E0382
    /// fn twice(ready: veilsum_crypto::client::ReadyToMask, a: veilsum_crypto::update::Noised, b: veilsum_crypto::update::Noised) {
    ///     let _ = ready.mask(&[], a);
    ///     let _ = ready.mask(&[], b);
    /// }
    /// ```
    /// ```compile_fail,E0308
    /// fn bare(ready: veilsum_crypto::client::ReadyToMask, q: veilsum_crypto::update::Quantized) {
    ///     let _ = ready.mask(&[], q);
    /// }
    /// ```
    pub fn mask(self, core: &[u8], update: Noised) -> Result<Turn<AwaitingSurvivors, MaskedInput>, ServerMisbehaved> {
        let core = self.judge_core(core)?;
        let Self { mut view, masking, self_mask, held, .. } = self;
        core_admits(&view, &core)?;
        if update.values().len() != view.header.params.vector_len as usize {
            return Err(ServerMisbehaved::VectorLen);
        }
        charge(&mut view)?;

        let context = CoreContext { roster: view.context(), core: core.root() };
        let mut vector = update.into_ring(view.header.params.ring_bits);
        vector.add_mask(self_mask.into_mask_key(view.client(), &context));
        add_pairwise_masks(&mut vector, &view, &masking, &core, &context);
        let message = MaskedInput::sign(&vector, &view.chain, core.root(), view.client(), view.identity());
        Ok(Turn::new(AwaitingSurvivors { view, core, held }, message))
    }
}

/// R-17: this client, t of its neighbours and enough others are in the core.
fn core_admits(view: &RoundView, core: &CoreSet) -> Result<(), ServerMisbehaved> {
    let members = core.members();
    if !members.has(view.me) {
        return Err(ServerMisbehaved::NotInCore);
    }
    let (found, needed) = (members.count_of(&view.neighbours), view.params.threshold);
    if found < needed {
        return Err(ServerMisbehaved::NeighboursInCore { found, needed });
    }
    let (found, needed) = (members.count(), view.params.survivors_min);
    if found < needed {
        return Err(ServerMisbehaved::CoreTooSmall { found, needed });
    }
    Ok(())
}

/// R-26: charged before the first byte goes out, keyed by aggregator, task and counter, never refunded. A round without noise has
/// no bound to charge; that the client took part in it is written down all the same.
fn charge(view: &mut RoundView) -> Result<(), ServerMisbehaved> {
    let header = &view.header;
    limits_permit(header, &view.memory, &view.member.policy)?;
    budget_covers(header, &view.memory, &view.member.policy)?;
    let charge = round_charge_of(&header.params).unwrap_or_else(RdpCurve::nothing);
    let key = charge_key(&header.aggregator_key, header.task, header.counter);
    view.memory.ledger.charge(key, charge);
    Ok(())
}

/// R-18: exactly the neighbours in the core; computed, never passed in.
///
/// > y_u = x_u + PRG(self_u) + Σ_{v > u} PRG(pair_uv) − Σ_{v < u} PRG(pair_uv)   (mod 2^r), over neighbours v in U2
fn add_pairwise_masks(
    vector: &mut RingVector,
    view: &RoundView,
    masking: &MaskingSecretKey,
    core: &CoreSet,
    context: &CoreContext,
) {
    for leaf in view.neighbours.iter().filter(|leaf| core.members().has(**leaf)) {
        let peer = view.peer(*leaf);
        let key = masking.pair_mask_key(view.client(), (peer.client, &peer.masking), context);
        // The lower leaf index adds, the higher subtracts: the masks of a pair cancel in the sum.
        if view.me < *leaf { vector.add_mask(key) } else { vector.sub_mask(key) }
    }
}

/// Has uploaded; waits for the survivor list.
#[derive(Debug)]
pub struct AwaitingSurvivors {
    pub(super) view: RoundView,
    pub(super) core: CoreSet,
    pub(super) held: BTreeMap<LeafIndex, SharePair>,
}

impl AwaitingSurvivors {
    pub(super) fn into_memory(self) -> (Arc<Membership>, Memory) {
        (self.view.member, self.view.memory)
    }
}

pub(super) fn read_core(reader: &mut Reader<'_>, view: &RoundView) -> Result<CoreSet, DecodeError> {
    CoreSet::from_statement(Statement::decode(reader.prefixed("core")?, labels::CORE)?, view.params.n)
}

impl Saved for AwaitingSurvivors {
    const TAG: u8 = 4;

    fn bytes_max(&self) -> usize {
        self.view.bytes_max() + 72 * (self.held.len() + 1)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.view.write(out);
        write_prefixed(out, &self.core.statement().encode());
        write_held(out, &self.held);
    }

    fn read(reader: &mut Reader<'_>, member: &Arc<Membership>) -> Result<Self, DecodeError> {
        let view = RoundView::read(reader, member)?;
        let core = read_core(reader, &view)?;
        Ok(Self { view, core, held: read_held(reader)? })
    }
}
