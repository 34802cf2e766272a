//! What a client of the model decides: the decisions of `veilsum_crypto::client`, over sets of leaf indices.
//!
//! Each function stands beside the real one that it paraphrases, and refuses under the same rule, in the same order.
//! `tests/tests/explore.rs` puts every question that the model can ask to both. Without a check, the line that makes it is
//! passed over.

use super::checks::{Check, Without};
use super::{Set, Table, count, has, only};

/// The number of the rule under which a client stops.
pub type Decided = Result<(), u8>;

/// Who judges: the round's figures, the checks in place, and the client's own leaf.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// The figures.
    pub table: &'a Table,
    /// The checks.
    pub without: Without,
    /// The leaf.
    pub me: u8,
}

impl Judge<'_> {
    fn demands(&self, check: Check, holds: bool, rule: u8) -> Decided {
        if holds || !self.without.has(check) { Ok(()) } else { Err(rule) }
    }

    /// The graph is complete: everybody else.
    pub fn neighbours(&self) -> Set {
        self.table.everybody() & !only(self.me)
    }

    /// `AwaitingMail::acknowledge` (client/acknowledge.rs), its last check: R-16, no more complaints than there can be corrupt
    /// neighbours.
    pub fn may_complain(&self, about: Set) -> Decided {
        self.demands(Check::OpeningsMax, count(about) <= self.table.openings_max, 16)
    }

    /// `ReadyToMask::open` and `challenged` (client/acknowledge.rs): R-16, whose complaints count, and how many. `complained` did
    /// sign a complaint about this dealer; the others are names only.
    pub fn counted(&self, shown: Set, complained: Set) -> Result<Set, u8> {
        let signed = if self.without.has(Check::SignedComplaint) { complained } else { self.table.everybody() };
        let counted = shown & signed & self.neighbours();
        self.demands(Check::OpeningsMax, count(counted) <= self.table.openings_max, 16)?;
        Ok(counted)
    }

    /// `core_admits` (client/mask.rs): R-17.
    pub fn core_admits(&self, core: Set) -> Decided {
        self.demands(Check::CoreAdmits, has(core, self.me), 17)?;
        self.demands(Check::CoreAdmits, count(core & self.neighbours()) >= self.table.threshold, 17)?;
        self.demands(Check::CoreAdmits, count(core) >= self.table.survivors_min, 17)
    }

    /// `AwaitingSurvivors::confirm` and `survivors_hold` (client/confirm.rs). `uploads`: whose upload under
    /// this client's core is shown.
    pub fn survivors_hold(&self, core: Set, list: Set, uploads: Set) -> Decided {
        let alive = list & self.neighbours();
        self.demands(Check::WithinCore, list & !core == 0, 20)?;
        self.demands(Check::EnoughSurvivors, count(list) >= self.table.survivors_min, 15)?;
        self.demands(Check::Listed, has(list, self.me), 21)?;
        self.demands(Check::NeighboursAlive, count(alive) >= self.table.threshold, 21)?;
        self.demands(Check::SignedUploads, alive & !uploads == 0, 22)
    }

    /// `agreed` (client/unmask.rs): R-24. `signers`: who signed the root that this client accepted; `agreement`: the agreement
    /// set of its roster.
    pub fn agreed(&self, list: Set, agreement: Set, signers: Set) -> Decided {
        let agreement = if self.without.has(Check::AgreementSet) { agreement } else { self.table.everybody() };
        let needed = self.table.threshold - u8::from(!self.without.has(Check::FullQuorum));
        self.demands(Check::Confirmations, count(signers & agreement & list) >= needed, 24)
    }
}
