//! What was delivered in a round, and what came back: the diary that the oracle judges by.
//!
//! A letter says what a message *is*, as whoever made it knows. The oracle never looks into bytes.

use std::collections::{BTreeMap, BTreeSet};

use curve25519_dalek::Scalar;
use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::messages::KeyAdvertisement;
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Signed;
use veilsum_crypto::rules::Abandonment;
use veilsum_crypto::server::PhaseKind;

use super::kinds::Kind;

/// One message, in words.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Under whose address it was sent.
    pub name: ClientId,
    /// For which phase.
    pub phase: PhaseKind,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Root of the statement with which it begins, if it begins with one of this phase.
    pub statement: Option<Digest>,
    /// Longer than the service reads.
    pub is_too_long: bool,
    /// Statement and body are in form.
    pub is_canonical: bool,
    /// The statement's sender is the client of the address.
    pub is_senders: bool,
    /// Where the statement stands.
    pub place: Place,
    /// The client of the address signed it.
    pub is_signed: bool,
    /// What comes after the signature.
    pub attached: Attached,
    /// What it says.
    pub content: Content,
}

/// Where a statement stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Where it belongs.
    Right,
    /// In another round.
    OtherRound,
    /// After another statement.
    OtherPrevious,
    /// To somebody else.
    OtherReceiver,
}

/// What comes after the signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attached {
    /// What was signed, in form.
    AsSigned,
    /// Something else in form.
    Other,
    /// Not in form.
    NotCanonical,
}

/// What a message says, where it is in form.
#[derive(Clone, Debug)]
pub enum Content {
    /// What an honest client says here; the oracle works it out.
    Honest,
    /// Nothing that matters, because it is refused before anybody reads it.
    Unread,
    /// S, B, C and the identity key; whether the certificate holds.
    Advert {
        /// The keys.
        keys: [Digest; 4],
        /// Whether the certificate holds.
        is_certified: bool,
    },
    /// Shares.
    Shares {
        /// To the neighbours in their order.
        is_in_order: bool,
        /// On polynomials of degree t - 1.
        is_low_degree: bool,
        /// Holders whose edge does not open or match.
        bad: BTreeSet<ClientId>,
    },
    /// Reports.
    Reports {
        /// Dealers reported missing.
        missing: BTreeSet<ClientId>,
        /// Dealers complained about, and whether the edge named is the one admitted.
        complaints: BTreeMap<ClientId, bool>,
        /// The digest is that of the admitted messages reported on.
        is_over_admitted: bool,
    },
    /// Openings.
    Openings {
        /// For whom.
        holders: BTreeSet<ClientId>,
        /// Whether all match.
        is_right: bool,
    },
    /// What the masked vector stands for once the right masks are gone.
    Upload(Vec<i64>),
    /// Confirmed.
    Confirmed,
    /// Shares given.
    Shared {
        /// What is wrong with them, by owner: given minus true.
        errors: BTreeMap<ClientId, Scalar>,
        /// Owners marked missing.
        missing: BTreeSet<ClientId>,
    },
}

/// An answer: the code of docs/wire.md §9 and the rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Reply {
    /// The status code.
    pub code: u16,
    /// The rule named.
    pub rule: Option<u8>,
}

impl Reply {
    /// Admitted, or the same again.
    pub const YES: Reply = Reply { code: 204, rule: None };

    /// With a rule.
    pub fn no(code: u16, rule: u8) -> Self {
        Self { code, rule: Some(rule) }
    }

    /// Without one.
    pub fn bare(code: u16) -> Self {
        Self { code, rule: None }
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rule {
            Some(rule) => write!(f, "{} R-{rule:02}", self.code),
            None => write!(f, "{}", self.code),
        }
    }
}

/// One line of the diary.
#[derive(Clone, Debug)]
pub enum Event {
    /// A letter was delivered; `reply` is absent where nobody saw it.
    Sent {
        /// What.
        letter: Letter,
        /// What came back.
        reply: Option<Reply>,
        /// What it is a part of, if it is not as it should be.
        kind: Option<Kind>,
    },
    /// The network had this done to the mail of a holder.
    Mail {
        /// Whose mail.
        holder: ClientId,
        /// From whom.
        dealer: ClientId,
        /// What the holder saw.
        fate: MailFate,
    },
    /// An honest client stopped by itself, for this rule.
    Stopped {
        /// Who.
        client: ClientId,
        /// In which phase.
        phase: PhaseKind,
        /// Why.
        rule: u8,
    },
    /// The phase that is open was closed.
    Closed,
}

/// What became of a piece of mail on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailFate {
    /// Another share message of the dealer came in its place.
    Swapped,
    /// It never came, or damaged.
    Lost,
    /// It came twice.
    Doubled,
}

/// A misbehaviour that was played.
#[derive(Clone, Copy, Debug)]
pub struct Deed {
    /// Which.
    pub kind: Kind,
    /// By whom; for the network: to whom.
    pub client: ClientId,
    /// The line of the diary, where it is one letter.
    pub line: Option<usize>,
}

/// A round as it was played.
#[derive(Debug, Default)]
pub struct Diary {
    /// In order.
    pub events: Vec<Event>,
    /// What was not as it should be.
    pub deeds: Vec<Deed>,
}

impl Diary {
    /// Writes a line.
    pub fn note(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Writes down that something was played, in the line written last if it is a letter.
    pub fn did(&mut self, kind: Kind, client: ClientId) {
        let line = self.events.len().checked_sub(1).filter(|at| matches!(self.events[*at], Event::Sent { .. }));
        self.deeds.push(Deed { kind, client, line });
    }

    /// The same, of a part of a message that is sent later.
    pub fn did_silently(&mut self, kind: Kind, client: ClientId) {
        self.deeds.push(Deed { kind, client, line: None });
    }
}

/// What was seen of a round when it was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A sum was released, of these.
    Released {
        /// Survivors.
        survivors: BTreeSet<ClientId>,
        /// The sum as it was published, centred.
        sum: Vec<i64>,
    },
    /// There is none.
    Abandoned(Abandonment),
}

impl Letter {
    /// A message that is as it should be.
    pub fn right(name: ClientId, phase: PhaseKind, body: &[u8], content: Content) -> Self {
        Self {
            name,
            phase,
            digest: crate::world::sha256(body),
            statement: statement_of(phase, body),
            is_too_long: false,
            is_canonical: true,
            is_senders: true,
            place: Place::Right,
            is_signed: true,
            attached: Attached::AsSigned,
            content,
        }
    }
}

/// Root of the statement with which a message begins.
fn statement_of(phase: PhaseKind, body: &[u8]) -> Option<Digest> {
    let label = match phase {
        PhaseKind::Advertising => return Some(KeyAdvertisement::decode(body).ok()?.advert().root()),
        PhaseKind::Sharing => labels::SHARE,
        PhaseKind::Acknowledging => labels::ACKNOWLEDGEMENT,
        PhaseKind::Opening => labels::OPENING,
        PhaseKind::Masking => labels::UPLOAD,
        PhaseKind::Confirming => labels::CONFIRM,
        PhaseKind::Unmasking => labels::ANSWER,
        PhaseKind::Published | PhaseKind::Abandoned => return None,
    };
    Some(Signed::read(&mut Reader::new(body), label).ok()?.root())
}
