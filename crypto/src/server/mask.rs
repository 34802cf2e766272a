//! Mask, the aggregator's side: adds what arrives, keeps no vector; then fixes who is counted. §5.5
//!
//! Before: `server/open.rs`. Next: `server/confirm.rs`. The other end: `client/mask.rs`.

use alloc::vec::Vec;

use super::open::{OpenedShare, read_opened, write_opened};
use super::share::leaves;
use super::{Accepted, Assembly, Confirming, Effect, Keep, Phase, Received, RoundFacts, StatementKind, is_from};
use crate::ids::ClientId;
use crate::messages::masked_input::Upload;
use crate::messages::{Bitmap, CoreSet, MaskedInput, Survivors};
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::primitives::labels;
use crate::primitives::merkle;
use crate::primitives::signature::{Signed, Statement};
use crate::rules::{Abandonment, Rejection};

/// Waits for masked inputs. The core is settled.
#[derive(Clone, Debug)]
pub struct Masking {
    pub(super) assembly: Assembly,
    pub(super) core: CoreSet,
    pub(super) opened: Vec<OpenedShare>,
}

impl Masking {
    pub(super) fn accept(&self, facts: &RoundFacts, client: ClientId, body: &[u8]) -> Result<Accepted, Rejection> {
        let (leaf, member) = self.assembly.find(client)?;
        if !self.core.members().has(leaf) {
            return Err(Rejection::NotInCore { client });
        }
        let params = &facts.header.params;
        // The signature is checked before the attachment is read.
        let signed = Signed::read(&mut Reader::new(body), labels::UPLOAD)?;
        is_from(&signed, client, &facts.chain.from_client(client, self.core.root()), &member.identity)?;
        let message = MaskedInput::decode(body, params)?;
        if !message.vector_is_signed() {
            return Err(Rejection::NotTheSignedVector);
        }
        let vector = message.vector(params)?;
        Ok(Accepted::new(client, body, Keep::Sum { statement: signed.encode(), vector }))
    }

    /// Runs the clients' own checks and abandons rather than ask for what no client would give.
    pub(super) fn close(self, facts: &RoundFacts, received: Received) -> (Phase, Vec<Effect>) {
        let Self { assembly, core, opened } = self;
        let alive = leaves(&assembly, received.bodies.keys());
        let threshold = assembly.params().threshold;
        let served = |leaf| alive.count_of(&assembly.order().neighbours(leaf)) >= threshold;
        if alive.count() < assembly.params().survivors_min || !core.members().leaves().all(served) {
            return Phase::abandon_charged(Abandonment::TooFewSurvivors, assembly, Vec::new());
        }
        let survivors =
            Survivors::fix(alive.clone(), uploads_root(&assembly, &alive, &received), &facts.chain, core.root());
        let effect = Effect::Statement {
            kind: StatementKind::Survivors,
            bytes: survivors.statement().encode(),
            attachment: Vec::new(),
        };
        (Phase::Confirming(Confirming { assembly, core, opened, survivors }), alloc::vec![effect])
    }

    /// The core.
    pub fn core(&self) -> &CoreSet {
        &self.core
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.assembly.write(out);
        write_prefixed(out, &self.core.statement().encode());
        write_opened(out, &self.opened);
    }

    pub(super) fn read(reader: &mut Reader<'_>, facts: &RoundFacts) -> Result<Self, DecodeError> {
        let assembly = Assembly::read(reader, facts)?;
        let core =
            CoreSet::from_statement(Statement::decode(reader.prefixed("core")?, labels::CORE)?, assembly.params().n)?;
        let opened = read_opened(reader, &assembly)?;
        Ok(Self { assembly, core, opened })
    }
}

/// the tree over (leaf index, upload root) of the living.
fn uploads_root(assembly: &Assembly, alive: &Bitmap, received: &Received) -> crate::ids::Digest {
    let hashes: Vec<_> = alive
        .leaves()
        .map(|leaf| {
            let statement = &received.bodies[&assembly.roster().client(leaf)];
            Upload::decode(statement).expect("only what `accept` has judged is stored").survivor_leaf(leaf)
        })
        .collect();
    merkle::root(&hashes)
}
