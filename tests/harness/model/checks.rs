//! What may be taken out of the model: one check of a client, or one assumption, each with the rule that it stands for.
//!
//! Used by `model/decide.rs`, which asks whether a check is in place, and by `model/attacks.rs`, which takes them out.

/// A check, or an assumption, that an attack takes out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Check {
    /// one core, so one upload.
    FirstCore,
    /// slots after the share message survive a crash.
    Journal,
    /// a client computes t itself; without it the aggregator says t = 2.
    OwnThreshold,
    /// pair keys are bound to roster and core.
    BoundKeys,
    /// max(cohort_min, n - T) survivors.
    EnoughSurvivors,
    /// a complaint counts only with the complainer's signature.
    SignedComplaint,
    /// missing mail is no complaint.
    MissingIsNoComplaint,
    /// at most 2t - k - 1 edges are opened.
    OpeningsMax,
    /// nothing is opened once the core is held.
    NoneAfterCore,
    /// this client, t neighbours, and max(cohort_min, n - T) clients are in the core.
    CoreAdmits,
    /// survivors are of the core.
    WithinCore,
    /// the client itself is listed.
    Listed,
    /// t of its neighbours are listed.
    NeighboursAlive,
    /// every neighbour listed shows an upload under this core.
    SignedUploads,
    /// one survivor list, ever.
    OneList,
    /// t confirmations before the answer.
    Confirmations,
    /// t of them; without it, t - 1 will do.
    FullQuorum,
    /// on the very root that the client accepted; without it, it answers for whichever list t confirmed.
    AcceptedRoot,
    /// R-24, §3.2: only the agreement set counts, k clients; without it, all n.
    AgreementSet,
    /// one answer.
    OneAnswer,
    /// one kind of share for each neighbour.
    OneKind,
    /// an abort ends the counter.
    AbortIsFinal,
    /// §3.1: at most c clients are corrupt; without it, one more is.
    Corrupt,
}

impl Check {
    /// All of them, by rule.
    pub const ALL: [Self; 23] = [
        Self::FirstCore,
        Self::Journal,
        Self::OwnThreshold,
        Self::BoundKeys,
        Self::EnoughSurvivors,
        Self::SignedComplaint,
        Self::MissingIsNoComplaint,
        Self::OpeningsMax,
        Self::NoneAfterCore,
        Self::CoreAdmits,
        Self::WithinCore,
        Self::Listed,
        Self::NeighboursAlive,
        Self::SignedUploads,
        Self::OneList,
        Self::Confirmations,
        Self::FullQuorum,
        Self::AcceptedRoot,
        Self::AgreementSet,
        Self::OneAnswer,
        Self::OneKind,
        Self::AbortIsFinal,
        Self::Corrupt,
    ];

    /// A word for the command line, and the rule or section behind it.
    pub fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::FirstCore => ("first-core", "R-02"),
            Self::Journal => ("journal", "R-03"),
            Self::OwnThreshold => ("own-threshold", "R-04"),
            Self::BoundKeys => ("bound-keys", "R-10"),
            Self::EnoughSurvivors => ("enough-survivors", "R-15"),
            Self::SignedComplaint => ("signed-complaint", "R-16"),
            Self::MissingIsNoComplaint => ("missing-is-no-complaint", "R-16"),
            Self::OpeningsMax => ("openings-max", "R-16"),
            Self::NoneAfterCore => ("none-after-core", "R-16"),
            Self::CoreAdmits => ("core-admits", "R-17"),
            Self::WithinCore => ("within-core", "R-20"),
            Self::Listed => ("listed", "R-21"),
            Self::NeighboursAlive => ("neighbours-alive", "R-21"),
            Self::SignedUploads => ("signed-uploads", "R-22"),
            Self::OneList => ("one-list", "R-23"),
            Self::Confirmations => ("confirmations", "R-24"),
            Self::FullQuorum => ("full-quorum", "R-24"),
            Self::AcceptedRoot => ("accepted-root", "R-24"),
            Self::AgreementSet => ("agreement-set", "R-24"),
            Self::OneAnswer => ("one-answer", "R-25"),
            Self::OneKind => ("one-kind", "R-25"),
            Self::AbortIsFinal => ("abort-is-final", "R-28"),
            Self::Corrupt => ("corrupt", "§3.1"),
        }
    }

    /// The check with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|check| check.name().0 == name)
    }
}

/// The checks that are out, a bit each; none, and the model is the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Without(u32);

impl Without {
    /// Takes these out.
    pub fn of(checks: impl IntoIterator<Item = Check>) -> Self {
        Self(checks.into_iter().fold(0, |out, check| out | 1 << check as u32))
    }

    /// Whether a check is in place.
    pub fn has(self, check: Check) -> bool {
        self.0 & 1 << check as u32 == 0
    }

    /// Those that are out.
    pub fn checks(self) -> impl Iterator<Item = Check> {
        Check::ALL.into_iter().filter(move |check| !self.has(*check))
    }
}
