//! Why a message is refused, and by whom. Rules are those of docs/protocol.md.
//!
//! [`Rejection`]: the sender is wrong, says the aggregator (4xx, counted by rule). [`ServerMisbehaved`]: the
//! aggregator is wrong or lies, says the client, and stops. [`Abandonment`]: nobody is wrong, too few are left.

use crate::ids::ClientId;
use crate::params::ParamsError;
use crate::primitives::codec::DecodeError;

/// The number of a rule, R-01 to R-38.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rule(pub u8);

impl core::fmt::Display for Rule {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "R-{:02}", self.0)
    }
}

/// How a refused message is answered, §7.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// 400: the bytes are no message.
    NotCanonical,
    /// 403: signature or certificate.
    Forbidden,
    /// 404: no such client here.
    Unknown,
    /// 410: the phase has closed.
    Closed,
    /// 422: a rule is broken.
    RuleBroken,
    /// 425: the phase is not open yet.
    TooEarly,
}

/// The aggregator refuses a message. §7.3
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Rejection {
    /// The bytes are not a message of this kind.
    #[error("R-37: the body is not canonical: {0}")]
    Decode(#[from] DecodeError),
    /// The message is for a phase that has closed.
    #[error("this phase has closed")]
    PhaseClosed,
    /// The message is for a phase that has not opened.
    #[error("this phase is not open yet; wait for the statement before it, then send again")]
    PhaseNotOpen,
    /// The sender named in the message is not the one in the address.
    #[error("the message was sent as {named}, but names another sender")]
    OtherSender {
        /// In the address.
        named: ClientId,
    },
    /// Context, previous statement, sender or receiver do not belong here.
    #[error("R-01: the statement is bound to another round, chain or receiver than this one")]
    OutOfChain,
    /// The client is not on the roster.
    #[error("client {client} is not on the roster of this round")]
    NotOnRoster {
        /// Who.
        client: ClientId,
    },
    /// The signature does not hold.
    #[error("R-37: the signature of {client} does not verify")]
    BadSignature {
        /// Who.
        client: ClientId,
    },
    /// The certificate does not hold.
    #[error("R-06: the certificate of {client} is refused: {reason}")]
    Certificate {
        /// Who.
        client: ClientId,
        /// Why.
        reason: CertificateError,
    },
    /// One key twice.
    #[error("R-09: masking key, self-mask key and channel key must differ from each other")]
    RepeatedKey,
    /// Wrong number of edges, or holders other than the neighbours in ring order.
    #[error("R-13: {expected} edges in ring order were expected")]
    Edges {
        /// k.
        expected: u32,
    },
    /// The signed edges root is not that of the edges sent.
    #[error("R-13: the edges do not hash to the signed root")]
    EdgesRoot,
    /// The points lie on no polynomial of degree t - 1 through the dealer's keys.
    #[error("R-38: the points of the shares lie on no polynomial of degree t - 1 through the dealer's keys")]
    NotLowDegree,
    /// Only who dealt can acknowledge.
    #[error("R-17: client {client} dealt no shares in this round")]
    DidNotDeal {
        /// Who.
        client: ClientId,
    },
    /// More complaints than an honest holder can have.
    #[error("R-16: {found} complaints; at most {allowed} of a client's neighbours can be corrupt")]
    TooManyComplaints {
        /// 2t - k - 1.
        allowed: u32,
        /// How many.
        found: u32,
    },
    /// A report on mail that was never served.
    #[error("R-17: good or complaint about a neighbour that dealt nothing")]
    ReportOnNothing,
    /// The dealer is complained about by more holders than can be corrupt: an honest one opens nothing then.
    #[error(
        "R-16: {found} holders complain about this dealer; more than {allowed} openings would give its secrets away"
    )]
    TooManyOpenings {
        /// 2t - k - 1.
        allowed: u32,
        /// How many.
        found: u32,
    },
    /// The client was not asked to open anything.
    #[error("R-16: nobody complains about client {client}, or it opens edges nobody complains about")]
    NothingToOpen {
        /// Who.
        client: ClientId,
    },
    /// The client is not in U2.
    #[error("R-17: client {client} is not in the core of this round: its shares are not in place")]
    NotInCore {
        /// Who.
        client: ClientId,
    },
    /// Length or digest of the vector are not those signed.
    #[error("R-19: the packed vector is not the one that was signed")]
    NotTheSignedVector,
    /// The round was published or abandoned.
    #[error("this round is over")]
    RoundOver,
    /// Not one of the k clients that make a survivor list.
    #[error("R-23: client {client} is not of the agreement set")]
    NotInAgreementSet {
        /// Who.
        client: ClientId,
    },
    /// The client is not counted.
    #[error("R-21: client {client} is not a survivor of this round")]
    NotASurvivor {
        /// Who.
        client: ClientId,
    },
}

impl Rejection {
    /// The rule broken, where one is.
    pub fn rule(&self) -> Option<Rule> {
        Some(Rule(match self {
            Self::Decode(_) | Self::BadSignature { .. } => 37,
            Self::OutOfChain => 1,
            Self::Certificate { .. } => 6,
            Self::RepeatedKey => 9,
            Self::Edges { .. } | Self::EdgesRoot => 13,
            Self::NotLowDegree => 38,
            Self::DidNotDeal { .. } | Self::ReportOnNothing | Self::NotInCore { .. } => 17,
            Self::TooManyComplaints { .. } | Self::TooManyOpenings { .. } | Self::NothingToOpen { .. } => 16,
            Self::NotTheSignedVector => 19,
            Self::NotInAgreementSet { .. } => 23,
            Self::NotASurvivor { .. } => 21,
            Self::PhaseClosed
            | Self::PhaseNotOpen
            | Self::RoundOver
            | Self::OtherSender { .. }
            | Self::NotOnRoster { .. } => return None,
        }))
    }

    /// The kind of answer, §7.3.
    pub fn answer(&self) -> Answer {
        match self {
            Self::Decode(_) => Answer::NotCanonical,
            Self::PhaseClosed | Self::RoundOver => Answer::Closed,
            Self::PhaseNotOpen => Answer::TooEarly,
            Self::NotOnRoster { .. } => Answer::Unknown,
            Self::OtherSender { .. } | Self::BadSignature { .. } | Self::Certificate { .. } => Answer::Forbidden,
            _ => Answer::RuleBroken,
        }
    }

    /// Whether the bytes bear the sender's valid signature and break a rule nevertheless: evidence worth keeping. Edges that do
    /// not hash to the signed root are none: whoever is on the way can put them behind an honest signature.
    pub fn is_proved_by_message(&self) -> bool {
        matches!(self, Self::Edges { .. } | Self::NotLowDegree | Self::TooManyComplaints { .. } | Self::RepeatedKey)
    }
}

/// Why a certificate does not hold. §4.3
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not signed by the authority that the header names.
    #[error("it is not signed by the enrolment authority of this round")]
    Authority,
    /// Names of sender, receiver and holder do not agree.
    #[error("it is not made out for this client")]
    Holder,
    /// Outside its validity at the header's opening time.
    #[error("it is not valid at the time the round opened; enrol again")]
    Expired,
    /// Valid for longer than allowed.
    #[error("it is valid for more than 30 days")]
    TooLong,
    /// Ended by the authority.
    #[error("it was revoked; enrol again")]
    Revoked,
}

/// The client stops: what the aggregator sent is not what an honest one sends. §5
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ServerMisbehaved {
    /// Bytes that are no statement.
    #[error("R-37: what the aggregator sent is not canonical: {0}")]
    Decode(#[from] DecodeError),
    /// Not signed by the pinned key.
    #[error("R-01: the {statement} is not signed by the pinned key of the aggregator")]
    Signature {
        /// Which statement.
        statement: &'static str,
    },
    /// Bound to something else.
    #[error("R-01: the {statement} is bound to another round or to another statement before it")]
    OutOfChain {
        /// Which statement.
        statement: &'static str,
    },
    /// Another aggregator, authority, task or suite than the policy pins.
    #[error("R-02: the header names another {what} than this client's policy pins")]
    NotPinned {
        /// What.
        what: &'static str,
    },
    /// A round counter that was used, or one absurdly far ahead.
    #[error("R-02: round counter {found} after {last}: it must grow, by at most 2^20")]
    Counter {
        /// Last counter of this client.
        last: u64,
        /// What came.
        found: u64,
    },
    /// Below what the policy permits.
    #[error("R-02: {what} is {found}; this client's policy demands {demanded}")]
    BelowPolicy {
        /// Which figure.
        what: &'static str,
        /// What the header says.
        found: f64,
        /// The floor or ceiling.
        demanded: f64,
    },
    /// Parameters that contradict themselves.
    #[error("R-14: the parameters of the header do not hold: {0}")]
    Params(#[from] ParamsError),
    /// The header's time is not within policy of the client's own.
    #[error(
        "R-06: the header was opened {apart_s} s away from this client's time; at most {allowed_s} s are permitted"
    )]
    ClockApart {
        /// Seconds apart.
        apart_s: u64,
        /// Permitted.
        allowed_s: u64,
    },
    /// The log shrank or forked.
    #[error("R-33: the log of {found} entries does not extend the log of {last} entries that this client saw")]
    LogRewritten {
        /// Size seen.
        last: u64,
        /// Size named.
        found: u64,
    },
    /// The revocation list is older than one seen, missing, or names a member.
    #[error("R-36: {0}")]
    Revocation(&'static str),
    /// The roster breaks its form.
    #[error("R-05: {0}")]
    Roster(&'static str),
    /// (k, t, h) are not those derived.
    #[error("R-04: k, t or h of the roster are not what follows from its size")]
    GraphParams,
    /// The own leaf is missing or altered.
    #[error("R-06: this client's own leaf, under its own identity and with its nonce, is not in the roster")]
    OwnLeaf,
    /// A leaf does not hash to the roster.
    #[error("R-06: leaf {leaf} does not hash to its entry in the roster, or was withheld")]
    Leaf {
        /// Which.
        leaf: u32,
    },
    /// A member that no honest aggregator would have admitted.
    #[error("R-06: leaf {leaf} would have been refused by an honest aggregator: {rejection}")]
    Member {
        /// Which.
        leaf: u32,
        /// Why.
        rejection: alloc::boxed::Box<Rejection>,
    },
    /// One key in two leaves.
    #[error("R-09: one key stands in two leaves of the roster")]
    SharedKey,
    /// Group coverage below policy.
    #[error("R-07: the roster does not cover the certified group as the policy demands")]
    GroupCoverage,
    /// The roster came too late: there was time to grind the ring.
    #[error("R-08: the roster came {after_ms} ms after this client's advert, its deadline is {deadline_ms} ms")]
    RosterLate {
        /// How late.
        after_ms: u64,
        /// The deadline.
        deadline_ms: u64,
    },
    /// A clock of the client ran backwards, so that lateness cannot be told.
    #[error("R-08: this client's clock ran backwards since its advert")]
    ClockBackwards,
    /// Mail addressed to somebody else, or twice from one dealer.
    #[error("R-13: the mailbox holds mail that is not for this client, or mail twice")]
    Mailbox,
    /// More neighbours deal badly, or complain, than can be corrupt.
    #[error("R-16: {found} bad edges or complaints; at most {allowed} of a client's neighbours can be corrupt")]
    TooManyBadEdges {
        /// How many.
        found: u32,
        /// 2t - k - 1.
        allowed: u32,
    },
    /// The core leaves out this client.
    #[error("R-17: this client is not in the core")]
    NotInCore,
    /// Too few neighbours in the core.
    #[error("R-17: {found} neighbours are in the core; {needed} are needed")]
    NeighboursInCore {
        /// How many.
        found: u32,
        /// t.
        needed: u32,
    },
    /// The core is too small.
    #[error("R-17: the core has {found} clients; {needed} are needed")]
    CoreTooSmall {
        /// How many.
        found: u32,
        /// max(cohort_min, n - T).
        needed: u32,
    },
    /// The update is not for this round.
    #[error("R-34: the prepared vector does not have the length of this round")]
    VectorLen,
    /// The client's own ledger refuses.
    #[error(
        "R-26: this client's own privacy budget does not cover the round: epsilon would be {would_be:.3}, the budget is {budget:.3}"
    )]
    Budget {
        /// Epsilon after the round.
        would_be: f64,
        /// What the policy grants.
        budget: f64,
    },
    /// The client took part in as many rounds of the task as it permits itself.
    #[error("R-26: this client took part in {taken} round(s) of this task; its policy permits {allowed}")]
    RoundsTaken {
        /// So far.
        taken: u64,
        /// What the policy grants.
        allowed: u64,
    },
    /// The client took part in a round of the task that is too near.
    #[error(
        "R-26: this client took part in round {last} of this task; round {found} is nearer than the {apart} its policy demands"
    )]
    RoundsApart {
        /// The last in which it took part.
        last: u64,
        /// This round.
        found: u64,
        /// What the policy demands.
        apart: u64,
    },
    /// Survivors outside the core.
    #[error("R-20: the survivor list names clients outside the core")]
    SurvivorsOutsideCore,
    /// The survivor list leaves out this client.
    #[error("R-21: this client uploaded but is not listed alive")]
    NotListed,
    /// Too few neighbours alive.
    #[error("R-21: {found} neighbours are listed alive; {needed} are needed")]
    NeighboursAlive {
        /// How many.
        found: u32,
        /// t.
        needed: u32,
    },
    /// Too few survivors.
    #[error("R-15: {found} survivors; {needed} are needed")]
    TooFewSurvivors {
        /// How many.
        found: u32,
        /// max(cohort_min, n - T).
        needed: u32,
    },
    /// A neighbour is listed alive without its signature.
    #[error("R-22: neighbour at leaf {leaf} is listed alive without its signed upload under this core")]
    UploadSignature {
        /// Which.
        leaf: u32,
    },
    /// A second core under one roster.
    #[error("R-02: another core than the one this client wrote down")]
    SecondCore,
    /// A second roster under one counter, or one that was not written down.
    #[error("R-02: another roster than the one this client wrote down")]
    SecondRoster,
    /// Too few confirmations.
    #[error("R-24: {found} valid signatures of the agreement set on this survivor root; {needed} are needed")]
    Confirmations {
        /// How many.
        found: u32,
        /// t.
        needed: u32,
    },
    /// The result does not fit what was agreed.
    #[error("R-20: the result does not belong to the survivors agreed on: {0}")]
    Result(&'static str),
}

impl ServerMisbehaved {
    /// The rule under which the client stops.
    pub fn rule(&self) -> Rule {
        Rule(match self {
            Self::Decode(_) => 37,
            Self::Signature { .. } | Self::OutOfChain { .. } => 1,
            Self::NotPinned { .. }
            | Self::SecondCore
            | Self::SecondRoster
            | Self::Counter { .. }
            | Self::BelowPolicy { .. } => 2,
            Self::Params(_) => 14,
            Self::ClockApart { .. } | Self::OwnLeaf | Self::Leaf { .. } | Self::Member { .. } => 6,
            Self::LogRewritten { .. } => 33,
            Self::Revocation(_) => 36,
            Self::Roster(_) => 5,
            Self::GraphParams => 4,
            Self::SharedKey => 9,
            Self::GroupCoverage => 7,
            Self::RosterLate { .. } | Self::ClockBackwards => 8,
            Self::Mailbox => 13,
            Self::TooManyBadEdges { .. } => 16,
            Self::NotInCore | Self::NeighboursInCore { .. } | Self::CoreTooSmall { .. } => 17,
            Self::VectorLen => 34,
            Self::Budget { .. } | Self::RoundsTaken { .. } | Self::RoundsApart { .. } => 26,
            Self::SurvivorsOutsideCore | Self::Result(_) => 20,
            Self::NotListed | Self::NeighboursAlive { .. } => 21,
            Self::TooFewSurvivors { .. } => 15,
            Self::UploadSignature { .. } => 22,
            Self::Confirmations { .. } => 24,
        })
    }
}

/// Nobody is wrong; the round ends without a sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[repr(u8)]
pub enum Abandonment {
    /// Fewer adverts than roster_min.
    #[error("too few clients advertised")]
    RosterTooSmall = 1,
    /// No (k, t) for a roster of this size.
    #[error("no graph keeps the promises for a roster of this size")]
    Infeasible = 2,
    /// Fewer than max(cohort_min, n - T) dealt, acknowledged and have t neighbours.
    #[error("too few clients have their shares in place")]
    CoreTooSmall = 3,
    /// Fewer than max(cohort_min, n - T) uploaded, or a member of the core has fewer than t neighbours alive.
    #[error("too few clients uploaded")]
    TooFewSurvivors = 4,
    /// Fewer than t of the agreement set signed.
    #[error("the survivors were not confirmed")]
    NotConfirmed = 5,
    /// A secret could not be rebuilt.
    #[error("too few valid answers to open the sum")]
    NotOpened = 6,
}

impl Abandonment {
    /// The word for it, wire.md §9.
    pub fn word(self) -> &'static str {
        match self {
            Self::RosterTooSmall => "roster-too-small",
            Self::Infeasible => "roster-infeasible",
            Self::CoreTooSmall => "core-too-small",
            Self::TooFewSurvivors => "too-few-survivors",
            Self::NotConfirmed => "not-confirmed",
            Self::NotOpened => "not-opened",
        }
    }

    /// The inverse of `as u8`.
    pub fn from_number(number: u8) -> Option<Self> {
        [
            Self::RosterTooSmall,
            Self::Infeasible,
            Self::CoreTooSmall,
            Self::TooFewSurvivors,
            Self::NotConfirmed,
            Self::NotOpened,
        ]
        .into_iter()
        .find(|reason| *reason as u8 == number)
    }
}
