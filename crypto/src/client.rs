//! A client's phases. Each consumes itself; nothing is sent that is not written down. §5
//!
//! ```text
//! Enrolled -advertise-> AwaitingRoster -share-> AwaitingMail -acknowledge-> ReadyToMask -mask->
//! AwaitingSurvivors -confirm-> ReadyToUnmask -unmask-> AwaitingResult -verify-> Enrolled
//! ```
//! A step returns a [`Turn`]: the next phase and the message that leads to it. [`Turn::persist`] is the only way
//! to the message (R-03). After an error the caller opens what it last wrote down and calls `give_up`.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use crate::ids::{ClientId, Digest, LeafIndex, Timestamp};
use crate::messages::{Chain, Header, Member, Roster};
use crate::params::{RingOrder, RosterParams};
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::context::RosterContext;
use crate::primitives::labels::Label;
use crate::primitives::signature::{IdentityPublicKey, IdentitySecretKey, Signed, Statement};
use crate::rules::ServerMisbehaved;

mod acknowledge;
mod advertise;
mod confirm;
mod mask;
pub mod memory;
pub mod policy;
pub mod saved;
mod share;
mod unmask;
mod verify;

pub use acknowledge::{AwaitingMail, Opened, ReadyToMask};
pub use advertise::{AwaitingRoster, Enrolled, HeaderEvidence};
pub use confirm::ReadyToUnmask;
pub use mask::AwaitingSurvivors;
pub use memory::Memory;
pub use policy::Policy;
pub use saved::{OpenError, Resumed, Sealed, Turn};
pub use share::RosterEvidence;
pub use unmask::AwaitingResult;
pub use verify::Verified;

/// Who this client is and what it insists on: given by the caller each time, never part of saved phases.
#[derive(Debug)]
pub struct Membership {
    /// Signs everything the client says.
    pub identity: IdentitySecretKey,
    /// The authority vouches for it.
    pub certificate: crate::messages::Certificate,
    /// What the client insists on.
    pub policy: Policy,
}

impl Membership {
    /// The client's id.
    pub fn client(&self) -> ClientId {
        self.certificate.body().client
    }
}

/// Two clocks at one moment: the wall clock may be set, the monotonic one starts anew with the process. R-08
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Wall clock.
    pub wall: Timestamp,
    /// Milliseconds since some start; only differences within one process mean anything.
    pub monotonic_ms: u64,
}

/// What a client knows of its round once the roster holds. Derived, never accepted.
#[derive(Debug)]
pub(crate) struct RoundView {
    pub member: Arc<Membership>,
    pub memory: Memory,
    pub header: Header,
    pub chain: Chain,
    pub roster: Roster,
    pub roster_root: Digest,
    pub params: RosterParams,
    pub order: RingOrder,
    pub me: LeafIndex,
    /// Of this client, in ring order.
    pub neighbours: Vec<LeafIndex>,
    /// Verified members: this client, its neighbours, the agreement set and the random others.
    pub peers: BTreeMap<LeafIndex, Member>,
}

impl RoundView {
    pub fn new(
        member: Arc<Membership>,
        memory: Memory,
        header: Header,
        roster: Roster,
        params: RosterParams,
        me: LeafIndex,
        peers: BTreeMap<LeafIndex, Member>,
    ) -> Self {
        let roster_root = roster.statement().root();
        let order = RingOrder::new(&roster_root, &params);
        let neighbours = order.neighbours(me);
        let chain = header.chain();
        Self { member, memory, header, chain, roster, roster_root, params, order, me, neighbours, peers }
    }

    pub fn client(&self) -> ClientId {
        self.member.client()
    }

    pub fn identity(&self) -> &IdentitySecretKey {
        &self.member.identity
    }

    pub fn context(&self) -> RosterContext {
        RosterContext { header: self.chain.context, roster: self.roster_root }
    }

    /// A verified member; neighbours and agreement set always are.
    pub fn peer(&self, leaf: LeafIndex) -> &Member {
        self.peers.get(&leaf).expect("neighbours and agreement set were verified with the roster")
    }

    /// Core and survivor statements, written beside it, included.
    pub fn bytes_max(&self) -> usize {
        let (n, peers) = (self.roster.members().len(), self.peers.len());
        self.memory.bytes_max() + 4_096 + 52 * n + 160 * (peers + 1)
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        use crate::primitives::codec::write_prefixed;
        self.memory.write(out);
        write_prefixed(out, &self.header.statement().encode());
        write_prefixed(out, &self.roster.statement().encode());
        write_prefixed(out, &self.roster.list());
        out.extend(self.me.0.to_le_bytes());
        out.extend((self.peers.len() as u32).to_le_bytes());
        for (leaf, peer) in &self.peers {
            out.extend(leaf.0.to_le_bytes());
            peer.write(out);
        }
    }

    pub fn read(reader: &mut Reader<'_>, member: &Arc<Membership>) -> Result<Self, DecodeError> {
        use crate::primitives::labels;
        let memory = Memory::read(reader)?;
        let header = Header::from_statement(&Statement::decode(reader.prefixed("header")?, labels::HEADER)?)?;
        let statement = Statement::decode(reader.prefixed("roster")?, labels::ROSTER)?;
        let roster = Roster::from_parts(statement, reader.prefixed("roster list")?)?;
        let me = LeafIndex(reader.u32("own leaf")?);
        let mut peers = BTreeMap::new();
        for _ in 0..reader.u32("peers")? {
            let leaf = LeafIndex(reader.u32("leaf")?);
            peers.insert(leaf, Member::read(reader)?);
        }
        let params = RosterParams::derive(roster.n(), &header.params)
            .map_err(|_| DecodeError::NotCanonical { field: "saved roster", expected: "a feasible size" })?;
        let wrong = |expected| DecodeError::NotCanonical { field: "saved round", expected };
        if roster.leaf_of(member.client()) != Some(me) {
            return Err(wrong("this client at its own leaf of the roster"));
        }
        let view = Self::new(member.clone(), memory, header, roster, params, me, peers);
        view.has_its_peers().then_some(view).ok_or(wrong("every peer that this client verified, at its leaf"))
    }

    /// What [`RoundView::peer`] relies on.
    fn has_its_peers(&self) -> bool {
        let needed = self.neighbours.iter().chain(self.order.agreement_set()).chain([&self.me]);
        let stands = |(leaf, peer): (&LeafIndex, &Member)| self.roster.leaf_of(peer.client) == Some(*leaf);
        needed.into_iter().all(|leaf| self.peers.contains_key(leaf)) && self.peers.iter().all(stands)
    }
}

/// R-01, R-37: a statement of the pinned aggregator, in form and signed.
pub(crate) fn from_aggregator(
    bytes: &[u8],
    label: Label,
    name: &'static str,
    key: &IdentityPublicKey,
) -> Result<Statement, ServerMisbehaved> {
    let signed = Signed::decode(bytes, label)?;
    if !signed.is_by(key) {
        return Err(ServerMisbehaved::Signature { statement: name });
    }
    Ok(signed.statement().clone())
}

/// R-01: the same, at its place in the chain of this round.
pub(crate) fn chained(
    bytes: &[u8],
    label: Label,
    name: &'static str,
    view: &RoundView,
    previous: Digest,
) -> Result<Statement, ServerMisbehaved> {
    let statement = from_aggregator(bytes, label, name, &view.header.aggregator_key)?;
    if !statement.stands_at(&view.chain.from_aggregator(previous)) {
        return Err(ServerMisbehaved::OutOfChain { statement: name });
    }
    Ok(statement)
}
