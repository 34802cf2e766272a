//! What the roster settles for the aggregator: everybody's keys, ring and thresholds. §5.1

use alloc::vec::Vec;

use super::RoundFacts;
use crate::ids::{ClientId, Digest, LeafIndex};
use crate::messages::{Member, Roster};
use crate::params::{RingOrder, RosterParams};
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::primitives::labels;
use crate::primitives::signature::Statement;
use crate::rules::Rejection;

/// A fixed roster with the members' keys, in leaf order.
#[derive(Clone, Debug)]
pub struct Assembly {
    roster: Roster,
    members: Vec<Member>,
    root: Digest,
    params: RosterParams,
    order: RingOrder,
}

impl Assembly {
    /// From a roster and its members in leaf order.
    pub(super) fn new(roster: Roster, members: Vec<Member>, params: RosterParams) -> Self {
        let root = roster.statement().root();
        Self { order: RingOrder::new(&root, &params), root, roster, members, params }
    }

    /// The roster.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The roster root.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// n, c, T, k, t, h.
    pub fn params(&self) -> &RosterParams {
        &self.params
    }

    /// Who is whose neighbour.
    pub fn order(&self) -> &RingOrder {
        &self.order
    }

    /// A member by leaf.
    pub fn member(&self, leaf: LeafIndex) -> &Member {
        &self.members[leaf.index()]
    }

    /// A member by id.
    pub fn find(&self, client: ClientId) -> Result<(LeafIndex, &Member), Rejection> {
        let leaf = self.roster.leaf_of(client).ok_or(Rejection::NotOnRoster { client })?;
        Ok((leaf, self.member(leaf)))
    }

    /// A stored leaf index: of a member, or the bytes are damaged.
    pub(super) fn read_leaf(&self, reader: &mut Reader<'_>, field: &'static str) -> Result<LeafIndex, DecodeError> {
        let leaf = LeafIndex(reader.u32(field)?);
        let is_member = leaf.index() < self.members.len();
        is_member.then_some(leaf).ok_or(DecodeError::NotCanonical { field, expected: "a leaf of the roster" })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_prefixed(out, &self.roster.statement().encode());
        write_prefixed(out, &self.roster.list());
        self.members.iter().for_each(|member| member.write(out));
    }

    pub(super) fn read(reader: &mut Reader<'_>, facts: &RoundFacts) -> Result<Self, DecodeError> {
        let statement = Statement::decode(reader.prefixed("roster")?, labels::ROSTER)?;
        let roster = Roster::from_parts(statement, reader.prefixed("roster list")?)?;
        let members = (0..roster.n()).map(|_| Member::read(reader)).collect::<Result<_, _>>()?;
        let params = RosterParams::derive(roster.n(), &facts.header.params)
            .map_err(|_| DecodeError::NotCanonical { field: "stored roster", expected: "a feasible size" })?;
        Ok(Self::new(roster, members, params))
    }
}
