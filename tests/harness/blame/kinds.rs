//! Every kind of misbehaviour that the campaign plays, what it must be named for, and why it is not where it is not.

use veilsum_crypto::server::PhaseKind::{self, *};

/// The seven phases in which clients send something.
pub const PHASES: [PhaseKind; 7] = [Advertising, Sharing, Acknowledging, Opening, Masking, Confirming, Unmasking];

/// One kind of misbehaviour. Those with a phase are possible in each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Bytes that are no message of this phase, signed or not.
    Malformed(PhaseKind),
    /// A right message under a signature that does not hold.
    Forged(PhaseKind),
    /// Signed for another round, another statement before it, or another receiver.
    Misplaced(PhaseKind),
    /// A liar's message under an honest client's address, or with an honest sender in it.
    Imposed(PhaseKind),
    /// An honest client's message under a liar's address.
    Stolen(PhaseKind),
    /// Sent before its phase or after it.
    Untimely(PhaseKind),
    /// Nothing more from here on.
    Silent(PhaseKind),

    /// An advert whose keys are not three.
    RepeatedKey,
    /// An advert with a key of somebody who was first.
    CopiedKey,
    /// The same, and the copy arrives first: the owner is turned away.
    StolenKey,
    /// A certificate that does not hold.
    BadCertificate,
    /// A second advert.
    TwoAdverts,

    /// Points off the polynomial.
    OffPolynomial,
    /// Signed edges to others than the neighbours in their order.
    EdgesAstray,
    /// Edges that are not those signed.
    EdgesUnsigned,
    /// Shares that do not open, or do not match their points, for some holders.
    BadEdges,
    /// A second share message.
    TwoShares,
    /// A second share message, which the network shows to some holders.
    TwoSharesShown,

    /// A complaint about a good edge of an honest dealer.
    FalseComplaint,
    /// A complaint about an edge of another liar.
    ComplaintAmongLiars,
    /// A complaint that names another edge.
    ComplaintAstray,
    /// More complaints than an honest holder can have.
    TooManyComplaints,
    /// "Missing" for everything that was served.
    AllMissing,
    /// "Missing" for some of it.
    SomeMissing,
    /// A complaint about mail that never was.
    ComplaintOfNothing,
    /// "Good" for mail that never was.
    GoodOfNothing,
    /// A digest of other share messages than those reported on.
    WrongDigest,
    /// A second acknowledgement.
    TwoAcknowledgements,

    /// An opening that does not match the edge.
    WrongOpening,
    /// No opening of an edge that was complained about.
    NoOpening,
    /// An opening of more or of other edges than those complained about.
    OpeningAstray,
    /// An opening by a dealer about whom nobody complains.
    OpeningUncalled,
    /// A second opening.
    TwoOpenings,

    /// A second masked input.
    TwoUploads,
    /// A vector that is not the one signed.
    UploadUnsigned,
    /// Anything as a masked input.
    Garbage,
    /// A masked input of a client that is not in the core.
    UploadUncalled,

    /// A confirmation of another survivor list.
    ConfirmAstray,
    /// Confirmations of two lists, the right one first.
    TwoConfirmations,
    /// A confirmation by somebody who is not to confirm.
    ConfirmUncalled,

    /// Wrong shares.
    WrongShares,
    /// Shares of the other secret.
    WrongKind,
    /// Every share marked missing.
    NoShares,
    /// Some shares marked missing.
    SomeShares,
    /// Two liars give each other's shares.
    SwappedShares,
    /// Two liars give shares whose errors cancel.
    CancellingShares,
    /// A second answer.
    TwoAnswers,
    /// An answer by somebody who is not a survivor.
    AnswerUncalled,

    /// The network changes the edges or the vector behind an honest signature.
    NetworkAlters(PhaseKind),
    /// The network breaks the signature of an honest message.
    NetworkBreaks(PhaseKind),
    /// The network delivers an honest message twice.
    NetworkRepeats(PhaseKind),
    /// The network withholds, damages or doubles mail of an honest holder.
    NetworkMail,
}

/// What a kind asks of the round in which it must occur.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Liars.
    pub liars: u32,
    /// Honest clients that will be lost by it, or must be lost for it.
    pub lost: u32,
}

impl Kind {
    /// All of them, in the order of the round.
    pub fn all() -> Vec<Kind> {
        use Kind::*;
        let mut all = Vec::new();
        for phase in PHASES {
            all.extend([Malformed(phase), Forged(phase), Misplaced(phase), Imposed(phase), Stolen(phase)]);
            all.extend([Untimely(phase), Silent(phase)]);
            all.extend(Self::of_phase(phase));
            if matches!(phase, Sharing | PhaseKind::Masking) {
                all.push(NetworkAlters(phase));
            }
            if phase != Opening {
                all.extend([NetworkBreaks(phase), NetworkRepeats(phase)]);
            }
        }
        all.push(NetworkMail);
        all
    }

    /// Those that can be played over HTTP, where the network takes no part.
    pub fn over_http() -> Vec<Kind> {
        Self::all().into_iter().filter(|kind| !kind.needs_network()).collect()
    }

    /// Those that only one phase knows.
    fn of_phase(phase: PhaseKind) -> &'static [Kind] {
        use Kind::*;
        match phase {
            Advertising => &[RepeatedKey, CopiedKey, StolenKey, BadCertificate, TwoAdverts],
            Sharing => &[OffPolynomial, EdgesAstray, EdgesUnsigned, BadEdges, TwoShares, TwoSharesShown],
            Acknowledging => &[
                FalseComplaint,
                ComplaintAmongLiars,
                ComplaintAstray,
                TooManyComplaints,
                AllMissing,
                SomeMissing,
                ComplaintOfNothing,
                GoodOfNothing,
                WrongDigest,
                TwoAcknowledgements,
            ],
            Opening => &[WrongOpening, NoOpening, OpeningAstray, OpeningUncalled, TwoOpenings],
            Masking => &[TwoUploads, UploadUnsigned, Garbage, UploadUncalled],
            Confirming => &[ConfirmAstray, TwoConfirmations, ConfirmUncalled],
            Unmasking => &[
                WrongShares,
                WrongKind,
                NoShares,
                SomeShares,
                SwappedShares,
                CancellingShares,
                TwoAnswers,
                AnswerUncalled,
            ],
            Published | Abandoned => &[],
        }
    }

    /// When it happens.
    pub fn phase(self) -> PhaseKind {
        use Kind::*;
        match self {
            Malformed(phase)
            | Forged(phase)
            | Misplaced(phase)
            | Imposed(phase)
            | Stolen(phase)
            | Untimely(phase)
            | Silent(phase)
            | NetworkAlters(phase)
            | NetworkBreaks(phase)
            | NetworkRepeats(phase) => phase,
            NetworkMail => Acknowledging,
            _ => PHASES.into_iter().find(|phase| Self::of_phase(*phase).contains(&self)).expect("it is in a list"),
        }
    }

    /// Whether nobody lies: the network does it to somebody honest.
    pub fn is_of_network(self) -> bool {
        use Kind::*;
        matches!(self, NetworkAlters(_) | NetworkBreaks(_) | NetworkRepeats(_) | NetworkMail)
    }

    /// Whether it can be played where the network cannot be made to take part.
    fn needs_network(self) -> bool {
        self.is_of_network() || matches!(self, Kind::StolenKey | Kind::TwoSharesShown)
    }

    /// As in the table.
    pub fn name(self) -> String {
        use Kind::*;
        let in_phase = |what: &str, phase: PhaseKind| format!("{what} ({})", phase_name(phase));
        match self {
            Malformed(phase) => in_phase("malformed", phase),
            Forged(phase) => in_phase("forged signature", phase),
            Misplaced(phase) => in_phase("out of its chain", phase),
            Imposed(phase) => in_phase("in an honest name", phase),
            Stolen(phase) => in_phase("an honest message as one's own", phase),
            Untimely(phase) => in_phase("too early or too late", phase),
            Silent(phase) => in_phase("silence", phase),
            NetworkAlters(phase) => in_phase("network alters what is signed elsewhere", phase),
            NetworkBreaks(phase) => in_phase("network breaks a signature", phase),
            NetworkRepeats(phase) => in_phase("network repeats", phase),
            NetworkMail => "network withholds, damages or doubles mail".into(),
            RepeatedKey => "one key twice in an advert".into(),
            CopiedKey => "a copied key".into(),
            StolenKey => "a copied key that arrives first".into(),
            BadCertificate => "a bad certificate".into(),
            TwoAdverts => "two adverts".into(),
            OffPolynomial => "points off the polynomial".into(),
            EdgesAstray => "signed edges to others".into(),
            EdgesUnsigned => "edges that are not those signed".into(),
            BadEdges => "shares that do not open or match".into(),
            TwoShares => "two share messages".into(),
            TwoSharesShown => "two share messages, both shown".into(),
            FalseComplaint => "false complaint".into(),
            ComplaintAmongLiars => "complaint about another liar".into(),
            ComplaintAstray => "complaint that names another edge".into(),
            TooManyComplaints => "more than 2t-k-1 complaints".into(),
            AllMissing => "\"missing\" for all mail".into(),
            SomeMissing => "\"missing\" for some mail".into(),
            ComplaintOfNothing => "complaint about absent mail".into(),
            GoodOfNothing => "\"good\" for absent mail".into(),
            WrongDigest => "wrong shares digest".into(),
            TwoAcknowledgements => "two acknowledgements".into(),
            WrongOpening => "wrong opening".into(),
            NoOpening => "no opening".into(),
            OpeningAstray => "opening of other edges".into(),
            OpeningUncalled => "opening that nobody asked for".into(),
            TwoOpenings => "two openings".into(),
            TwoUploads => "two uploads".into(),
            UploadUnsigned => "vector that is not the one signed".into(),
            Garbage => "garbage as masked input".into(),
            UploadUncalled => "upload from outside the core".into(),
            ConfirmAstray => "confirm of another list".into(),
            TwoConfirmations => "confirms of two lists".into(),
            ConfirmUncalled => "confirm that nobody asked for".into(),
            WrongShares => "wrong shares in an answer".into(),
            WrongKind => "shares of the other secret".into(),
            NoShares => "all shares marked missing".into(),
            SomeShares => "some shares marked missing".into(),
            SwappedShares => "two liars swap shares".into(),
            CancellingShares => "errors of two liars that cancel".into(),
            TwoAnswers => "two answers".into(),
            AnswerUncalled => "answer of no survivor".into(),
        }
    }

    /// The rules for which it is named, where signed evidence names it.
    pub fn named_for(self) -> &'static [u8] {
        use Kind::*;
        match self {
            RepeatedKey => &[9],
            EdgesAstray => &[13],
            OffPolynomial | StolenKey => &[38],
            TooManyComplaints | WrongOpening => &[16],
            TwoAdverts | TwoShares | TwoAcknowledgements | TwoOpenings | TwoAnswers | TwoSharesShown => &[3],
            TwoUploads => &[19],
            TwoConfirmations => &[23],
            WrongShares | WrongKind | SwappedShares | CancellingShares => &[29],
            Untimely(Masking) => &[19],
            Untimely(Confirming) => &[23],
            Untimely(_) => &[3],
            _ => &[],
        }
    }

    /// Why a liar is not named where it is not.
    pub fn unnamed_because(self) -> &'static str {
        use Kind::*;
        match self {
            Malformed(_) | UploadUnsigned | EdgesUnsigned => {
                "refused: the signature covers none of it, or it is no message"
            }
            Forged(_) | Imposed(_) | BadCertificate => "refused: anybody can have sent it",
            Misplaced(_) => "refused: it may be right in another place",
            Stolen(_) => "refused: the sender in it is another",
            Untimely(_) => "refused or the same again, unless it was a second statement",
            Silent(_) => "a server could have withheld it",
            CopiedKey => "refused: who was first has the key, whoever made it",
            StolenKey => "named for what it cannot deal",
            BadEdges => "settled by a right opening, withdrawn with its dealer, or hidden by a liar",
            TwoSharesShown => "only the holders saw the second one",
            FalseComplaint | ComplaintAmongLiars => "a right opening settles it: either may have lied",
            ComplaintAstray | WrongDigest => "left out: it may have been shown another message",
            AllMissing | SomeMissing => "left out: a server could have withheld it",
            ComplaintOfNothing | GoodOfNothing => "refused: a server could have shown it mail",
            NoOpening => "dropped: a server could have withheld it",
            OpeningAstray | OpeningUncalled => "refused: a server could have shown it complaints",
            Garbage => "nothing in suite 1 proves what was masked; the sum holds what it stands for",
            UploadUncalled | ConfirmUncalled | AnswerUncalled => "refused: it is not entitled",
            ConfirmAstray => "refused: the other list is not known here",
            WrongShares | WrongKind | SwappedShares => "never used: t others came first, or it was no survivor",
            NoShares | SomeShares => "allowed: it may not hold them",
            CancellingShares => "the secret came out right",
            WrongOpening => "another fault of the phase stood already, or its opening was refused",
            NetworkAlters(_) | NetworkBreaks(_) | NetworkRepeats(_) | NetworkMail => "nobody lied",
            _ => "it came before or after there was anything to contradict",
        }
    }

    /// What it asks for.
    pub fn needs(self) -> Needs {
        use Kind::*;
        match self {
            SwappedShares | CancellingShares | ComplaintAmongLiars => Needs { liars: 2, lost: 0 },
            StolenKey | TwoSharesShown | ComplaintOfNothing | GoodOfNothing => Needs { liars: 1, lost: 1 },
            NetworkMail => Needs { liars: 0, lost: 1 },
            NetworkAlters(_) | NetworkBreaks(_) | NetworkRepeats(_) => Needs::default(),
            _ => Needs { liars: 1, lost: 0 },
        }
    }
}

/// As in addresses.
pub fn phase_name(phase: PhaseKind) -> &'static str {
    match phase {
        Advertising => "advertise",
        Sharing => "share",
        Acknowledging => "acknowledge",
        Opening => "open",
        Masking => "mask",
        Confirming => "confirm",
        Unmasking => "unmask",
        Published => "published",
        Abandoned => "abandoned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_phase_and_a_name_of_its_own() {
        let all = Kind::all();
        let names: std::collections::BTreeSet<String> = all.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.len() < 256, "a seed has one byte for it");
        assert!(all.iter().all(|kind| PHASES.contains(&kind.phase())));
    }
}
