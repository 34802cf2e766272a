//! A round as its client sees it from outside the phases: names, addresses, bounds.

use veilsum_crypto::client::Membership;
use veilsum_crypto::ids::{ClientId, RoundId};
use veilsum_crypto::messages::{Chain, Header, ReadPermit, Roster};
use veilsum_crypto::params::RosterParams;
use veilsum_crypto::primitives::codec::{DecodeError, Reader};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, Signed};
use veilsum_crypto::rules::ServerMisbehaved;

use crate::saved::Notes;

/// What of a round is public, beside the phase that `veilsum_crypto::client` keeps.
#[derive(Clone, Debug)]
pub struct Round {
    pub id: RoundId,
    pub header: Header,
    pub notes: Notes,
    chain: Chain,
    placed: Option<(Roster, RosterParams)>,
}

impl Round {
    /// Of a header signed by the pinned aggregator; whether to take part, the phases judge.
    pub fn of(header: Vec<u8>, aggregator: &IdentityPublicKey) -> Result<Self, ServerMisbehaved> {
        let signed = Signed::decode(&header, labels::HEADER)?;
        if !signed.is_by(aggregator) {
            return Err(ServerMisbehaved::Signature { statement: "header" });
        }
        let notes = Notes { header, roster: Vec::new() };
        let header = Header::from_statement(signed.statement())?;
        Ok(Self { id: header.round(), chain: header.chain(), header, notes, placed: None })
    }

    /// Of what stood beside a saved phase.
    pub fn from_notes(notes: Notes, aggregator: &IdentityPublicKey) -> Result<Self, ServerMisbehaved> {
        let round = Self::of(notes.header, aggregator)?;
        if notes.roster.is_empty() { Ok(round) } else { Ok(round.with_roster(notes.roster)?) }
    }

    /// The same once the roster is known; it was or will be judged by the phase.
    pub fn with_roster(mut self, served: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&served);
        let statement = Signed::read(&mut reader, labels::ROSTER)?.statement().clone();
        let roster = Roster::from_parts(statement, reader.rest())?;
        let params = RosterParams::derive(roster.n(), &self.header.params)
            .map_err(|_| DecodeError::NotCanonical { field: "roster", expected: "a feasible size" })?;
        self.placed = Some((roster, params));
        self.notes.roster = served;
        Ok(self)
    }

    /// The roster and what follows from its size.
    pub fn placed(&self) -> &(Roster, RosterParams) {
        self.placed.as_ref().expect("phases from share on keep the roster in their notes")
    }

    /// Who stands in the roster.
    pub fn roster(&self) -> &Roster {
        &self.placed().0
    }

    /// The address of something in this round.
    pub fn path(&self, what: &str) -> String {
        format!("/v1/rounds/{}/{what}", self.id)
    }

    /// The address of something of one client.
    pub fn path_of(&self, what: &str, client: ClientId) -> String {
        self.path(&format!("{what}/{client}"))
    }

    /// the right to read one path.
    pub fn permit(&self, path: &str, member: &Membership) -> Vec<u8> {
        ReadPermit::sign(path, &self.chain, member.client(), &member.identity).encode()
    }

    /// Longest core or survivor list: their fixed part, then a bit for each member.
    pub fn bitmap_bytes(&self, fixed: usize) -> usize {
        fixed + self.roster().n().div_ceil(8) as usize
    }
}
