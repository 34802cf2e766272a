//! Confirm, the aggregator's side: the survivors agree on one list. §5.6
//!
//! A lying server wins if two clients unmask for two different lists. So before anyone unmasks, t members of the round's
//! agreement set sign the root of the one list, and every client demands those signatures. The set is fixed by the
//! roster: ring positions 0..k-1. Since 2t > k + c, two lists cannot both gather t signatures unless an honest member
//! signs twice, which it never does.
//!
//! Before: `server/mask.rs`. Next: `server/unmask.rs`. The other end: `client/confirm.rs`.

use alloc::vec::Vec;

use super::mask::Masking;
use super::open::OpenedShare;
use super::{Accepted, Assembly, Effect, Phase, Received, RoundFacts, Unmasking, is_from};
use crate::ids::ClientId;
use crate::messages::{Confirmation, CoreSet, Survivors};
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::primitives::labels;
use crate::primitives::signature::Statement;
use crate::rules::{Abandonment, Rejection};

/// Waits for the agreement set. Everything in here was settled by earlier phases.
#[derive(Clone, Debug)]
pub struct Confirming {
    pub(super) assembly: Assembly,
    pub(super) core: CoreSet,
    pub(super) opened: Vec<OpenedShare>,
    pub(super) survivors: Survivors,
}

impl Confirming {
    pub(super) fn accept(&self, facts: &RoundFacts, client: ClientId, body: &[u8]) -> Result<Accepted, Rejection> {
        let (leaf, member) = self.assembly.find(client)?;
        if !self.assembly.order().agrees(leaf) {
            return Err(Rejection::NotInAgreementSet { client });
        }
        if !self.survivors.members().has(leaf) {
            return Err(Rejection::NotASurvivor { client }); // it did not upload
        }
        let message = Confirmation::decode(body)?;
        is_from(message.signed(), client, &facts.chain.from_client(client, self.survivors.root()), &member.identity)?;
        Ok(Accepted::body(client, body))
    }

    /// With at least t signatures the server shows them to every survivor; with fewer it abandons the round.
    pub(super) fn close(self, received: Received) -> (Phase, Vec<Effect>) {
        if (received.bodies.len() as u32) < self.assembly.params().threshold {
            return Phase::abandon_charged(Abandonment::NotConfirmed, self.assembly, Vec::new());
        }
        let Self { assembly, core, opened, survivors } = self;
        (Phase::Unmasking(Unmasking { assembly, core, opened, survivors }), Vec::new())
    }

    /// The survivors.
    pub fn survivors(&self) -> &Survivors {
        &self.survivors
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Self { assembly, core, opened, survivors } = self.clone();
        Masking { assembly, core, opened }.write(out);
        write_prefixed(out, &survivors.statement().encode());
    }

    pub(super) fn read(reader: &mut Reader<'_>, facts: &RoundFacts) -> Result<Self, DecodeError> {
        let Masking { assembly, core, opened } = Masking::read(reader, facts)?;
        let statement = Statement::decode(reader.prefixed("survivors")?, labels::SURVIVORS)?;
        let survivors = Survivors::from_statement(statement, assembly.params().n)?;
        Ok(Self { assembly, core, opened, survivors })
    }
}
