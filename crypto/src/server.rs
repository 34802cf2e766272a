//! The aggregator's side: two pure functions a phase. §8
//!
//! [`accept`] judges one message against settled facts and changes nothing; [`close`] turns everything accepted into
//! the next phase and the rows to write with it. A [`Phase`] holds settled facts only, so it is small, safe to cache,
//! and never hot. Time and chance are arguments.
//!
//! ```text
//! Advertising -> Sharing -> Acknowledging -> (Opening ->) Masking -> Confirming -> Unmasking -> Published
//!            each may end in Abandoned: too few is no error
//! ```

use alloc::{collections::BTreeMap, vec::Vec};

use crate::ids::{ClientId, Digest};
use crate::math::ring::RingVector;
use crate::messages::{Chain, Header, RevocationList};
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels::{self, Label};
use crate::primitives::signature::{IdentityPublicKey, Place, Signed};
use crate::rules::{Abandonment, Rejection};

mod acknowledge;
mod advertise;
mod assembly;
mod blame;
mod confirm;
mod mask;
mod open;
mod share;
mod unmask;

pub use acknowledge::Acknowledging;
pub use advertise::Advertising;
pub use assembly::Assembly;
pub use blame::{blame, is_signed_by};
pub use confirm::Confirming;
pub use mask::Masking;
pub use open::{OpenedShare, Opening};
pub use share::Sharing;
pub use unmask::Unmasking;

/// What every phase of a round is judged by, from its header.
#[derive(Clone, Debug)]
pub struct RoundFacts {
    /// The header.
    pub header: Header,
    /// Where its statements stand.
    pub chain: Chain,
    /// The revocation list that the header names.
    pub revoked: RevocationList,
}

impl RoundFacts {
    /// From a header and the list it names.
    pub fn new(header: Header, revoked: RevocationList) -> Self {
        Self { chain: header.chain(), header, revoked }
    }
}

/// Where a round stands.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one value a round, behind an Arc")]
pub enum Phase {
    /// Collects adverts.
    Advertising(Advertising),
    /// The roster is fixed; collects shares.
    Sharing(Sharing),
    /// Mailboxes are fixed; collects acknowledgements.
    Acknowledging(Acknowledging),
    /// Complaints are fixed; collects openings.
    Opening(Opening),
    /// The core is fixed; collects masked inputs.
    Masking(Masking),
    /// The survivors are fixed; collects confirmations.
    Confirming(Confirming),
    /// The survivors agree; collects answers.
    Unmasking(Unmasking),
    /// The sum is public.
    Published(Assembly),
    /// There will be no sum. The roster, if there was one, may still read why.
    Abandoned(Abandonment, Option<Assembly>),
}

/// Judges one message that `client` sent for phase `addressed`. Changes nothing.
pub fn accept(
    facts: &RoundFacts,
    phase: &Phase,
    addressed: PhaseKind,
    client: ClientId,
    body: &[u8],
) -> Result<Accepted, Rejection> {
    let kind = phase.kind();
    if kind.is_over() {
        return Err(Rejection::RoundOver);
    }
    match addressed.cmp(&kind) {
        core::cmp::Ordering::Less => return Err(Rejection::PhaseClosed),
        core::cmp::Ordering::Greater => return Err(Rejection::PhaseNotOpen),
        core::cmp::Ordering::Equal => {}
    }
    match phase {
        Phase::Advertising(phase) => phase.accept(facts, client, body),
        Phase::Sharing(phase) => phase.accept(facts, client, body),
        Phase::Acknowledging(phase) => phase.accept(facts, client, body),
        Phase::Opening(phase) => phase.accept(facts, client, body),
        Phase::Masking(phase) => phase.accept(facts, client, body),
        Phase::Confirming(phase) => phase.accept(facts, client, body),
        Phase::Unmasking(phase) => phase.accept(facts, client, body),
        Phase::Published(_) | Phase::Abandoned(..) => Err(Rejection::RoundOver),
    }
}

/// Turns everything accepted into the next phase. Total: whoever was wrong was rejected by [`accept`] or is named in an
/// effect; too few is `Abandoned`. `nonce` is 32 random bytes, used where a roster closes.
pub fn close(facts: &RoundFacts, phase: Phase, received: Received, nonce: [u8; 32]) -> (Phase, Vec<Effect>) {
    match phase {
        Phase::Advertising(phase) => phase.close(facts, received, nonce),
        Phase::Sharing(phase) => phase.close(received),
        Phase::Acknowledging(phase) => phase.close(facts, received),
        Phase::Opening(phase) => phase.close(facts, received),
        Phase::Masking(phase) => phase.close(facts, received),
        Phase::Confirming(phase) => phase.close(received),
        Phase::Unmasking(phase) => phase.close(facts, received),
        over @ (Phase::Published(_) | Phase::Abandoned(..)) => (over, Vec::new()),
    }
}

impl Phase {
    /// The first phase of every round.
    pub fn first() -> Self {
        Phase::Advertising(Advertising)
    }

    /// The same, as SQL knows it.
    pub fn kind(&self) -> PhaseKind {
        match self {
            Phase::Advertising(_) => PhaseKind::Advertising,
            Phase::Sharing(_) => PhaseKind::Sharing,
            Phase::Acknowledging(_) => PhaseKind::Acknowledging,
            Phase::Opening(_) => PhaseKind::Opening,
            Phase::Masking(_) => PhaseKind::Masking,
            Phase::Confirming(_) => PhaseKind::Confirming,
            Phase::Unmasking(_) => PhaseKind::Unmasking,
            Phase::Published(_) => PhaseKind::Published,
            Phase::Abandoned(..) => PhaseKind::Abandoned,
        }
    }

    /// The phase need not wait longer once so many messages were admitted; `None` for a round that is over.
    pub fn enough(&self, invited: u32) -> Option<u32> {
        Some(match self {
            Phase::Advertising(_) => invited,
            Phase::Sharing(phase) => phase.assembly.params().n,
            Phase::Acknowledging(phase) => phase.dealt.count(),
            Phase::Opening(phase) => phase.complaints.len() as u32,
            Phase::Masking(phase) => phase.core.members().count(),
            Phase::Confirming(phase) => phase.assembly.params().threshold,
            Phase::Unmasking(phase) => phase.survivors.members().count(),
            Phase::Published(_) | Phase::Abandoned(..) => return None,
        })
    }

    /// Who is on the roster, once there is one.
    pub fn assembly(&self) -> Option<&Assembly> {
        match self {
            Phase::Advertising(_) => None,
            Phase::Sharing(phase) => Some(&phase.assembly),
            Phase::Acknowledging(phase) => Some(&phase.assembly),
            Phase::Opening(phase) => Some(&phase.assembly),
            Phase::Masking(phase) => Some(&phase.assembly),
            Phase::Confirming(phase) => Some(&phase.assembly),
            Phase::Unmasking(phase) => Some(&phase.assembly),
            Phase::Published(assembly) => Some(assembly),
            Phase::Abandoned(_, assembly) => assembly.as_ref(),
        }
    }

    /// The bytes in which a phase is stored: its number, then its facts.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = alloc::vec![self.kind() as u8];
        match self {
            Phase::Advertising(_) => {}
            Phase::Sharing(phase) => phase.write(&mut out),
            Phase::Acknowledging(phase) => phase.write(&mut out),
            Phase::Opening(phase) => phase.write(&mut out),
            Phase::Masking(phase) => phase.write(&mut out),
            Phase::Confirming(phase) => phase.write(&mut out),
            Phase::Unmasking(phase) => phase.write(&mut out),
            Phase::Published(assembly) => assembly.write(&mut out),
            Phase::Abandoned(reason, assembly) => {
                out.push(*reason as u8);
                if let Some(assembly) = assembly {
                    assembly.write(&mut out);
                }
            }
        }
        out
    }

    /// The inverse of [`Phase::encode`].
    pub fn decode(bytes: &[u8], facts: &RoundFacts) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let wrong = |expected| DecodeError::NotCanonical { field: "stored phase", expected };
        let kind = PhaseKind::from_number(reader.u8("phase")?).ok_or(wrong("a phase number"))?;
        let phase = match kind {
            PhaseKind::Advertising => Phase::Advertising(Advertising),
            PhaseKind::Sharing => Phase::Sharing(Sharing::read(&mut reader, facts)?),
            PhaseKind::Acknowledging => Phase::Acknowledging(Acknowledging::read(&mut reader, facts)?),
            PhaseKind::Opening => Phase::Opening(Opening::read(&mut reader, facts)?),
            PhaseKind::Masking => Phase::Masking(Masking::read(&mut reader, facts)?),
            PhaseKind::Confirming => Phase::Confirming(Confirming::read(&mut reader, facts)?),
            PhaseKind::Unmasking => Phase::Unmasking(Unmasking::read(&mut reader, facts)?),
            PhaseKind::Published => Phase::Published(Assembly::read(&mut reader, facts)?),
            PhaseKind::Abandoned => {
                let reason = Abandonment::from_number(reader.u8("reason")?).ok_or(wrong("a reason"))?;
                let assembly = (reader.left() > 0).then(|| Assembly::read(&mut reader, facts)).transpose()?;
                Phase::Abandoned(reason, assembly)
            }
        };
        reader.finish()?;
        Ok(phase)
    }

    /// Ends a round before masking has opened: what it reserved lapses.
    fn abandon_uncharged(
        reason: Abandonment,
        assembly: Option<Assembly>,
        mut effects: Vec<Effect>,
    ) -> (Self, Vec<Effect>) {
        effects.extend([Effect::Lapse, Effect::Erase]);
        (Phase::Abandoned(reason, assembly), effects)
    }

    /// Ends a round after masking has opened: the charge stays.
    fn abandon_charged(reason: Abandonment, assembly: Assembly, mut effects: Vec<Effect>) -> (Self, Vec<Effect>) {
        effects.push(Effect::Erase);
        (Phase::Abandoned(reason, Some(assembly)), effects)
    }
}

/// R-01, R-37: a statement of the client in whose name it was sent, at its place, under its key.
fn is_from(signed: &Signed, client: ClientId, place: &Place, key: &IdentityPublicKey) -> Result<(), Rejection> {
    if ClientId::from(signed.statement().sender) != client {
        return Err(Rejection::OtherSender { named: client });
    }
    if !signed.statement().stands_at(place) {
        return Err(Rejection::OutOfChain);
    }
    if !signed.is_by(key) {
        return Err(Rejection::BadSignature { client });
    }
    Ok(())
}

/// What SQL needs to know of a phase: the gates are open for exactly one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum PhaseKind {
    /// §5.1
    Advertising = 0,
    /// §5.2
    Sharing = 1,
    /// §5.3
    Acknowledging = 2,
    /// §5.4
    Opening = 3,
    /// §5.5
    Masking = 4,
    /// §5.6
    Confirming = 5,
    /// §5.7
    Unmasking = 6,
    /// The sum is published. §5.8
    Published = 7,
    /// The round ended without a sum.
    Abandoned = 8,
}

impl PhaseKind {
    /// Every phase, in order.
    pub const ALL: [PhaseKind; 9] = [
        PhaseKind::Advertising,
        PhaseKind::Sharing,
        PhaseKind::Acknowledging,
        PhaseKind::Opening,
        PhaseKind::Masking,
        PhaseKind::Confirming,
        PhaseKind::Unmasking,
        PhaseKind::Published,
        PhaseKind::Abandoned,
    ];

    /// The inverse of `as u8`.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Nothing is admitted any more.
    pub fn is_over(self) -> bool {
        matches!(self, PhaseKind::Published | PhaseKind::Abandoned)
    }
}

/// A statement of the aggregator's chain, §4.2. One of each kind a round, R-30.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum StatementKind {
    /// §5.1
    Header = 0,
    /// §5.1
    Roster = 1,
    /// §5.3
    Core = 2,
    /// §5.5
    Survivors = 3,
    /// §5.7
    Result = 4,
}

impl StatementKind {
    /// What such a statement is signed under.
    pub fn label(self) -> Label {
        match self {
            Self::Header => labels::HEADER,
            Self::Roster => labels::ROSTER,
            Self::Core => labels::CORE,
            Self::Survivors => labels::SURVIVORS,
            Self::Result => labels::RESULT,
        }
    }
}

/// Proof that `accept` has judged a message; made nowhere else.
#[derive(Debug)]
pub struct Accepted {
    client: ClientId,
    digest: Digest,
    keep: Keep,
    claims: Vec<Digest>,
}

/// What the store does with an accepted message.
#[derive(Debug)]
pub enum Keep {
    /// Keep the bytes.
    Body(Vec<u8>),
    /// Keep the bytes, and one piece of mail for each holder.
    Mail {
        /// The dealer's message.
        body: Vec<u8>,
        /// Mail items by holder.
        to: BTreeMap<ClientId, Vec<u8>>,
    },
    /// Keep the signed statement; add the vector to the sum and forget it.
    Sum {
        /// The signed upload statement, without the vector.
        statement: Vec<u8>,
        /// The masked input.
        vector: RingVector,
    },
}

impl Accepted {
    fn new(client: ClientId, message: &[u8], keep: Keep) -> Self {
        use sha2::{Digest as _, Sha256};
        Self { client, digest: Digest(Sha256::digest(message).into()), keep, claims: Vec::new() }
    }

    fn body(client: ClientId, message: &[u8]) -> Self {
        Self::new(client, message, Keep::Body(message.to_vec()))
    }

    /// Who sent it.
    pub fn client(&self) -> ClientId {
        self.client
    }
    /// SHA-256 of the whole message body: the same bytes again succeed, others do not.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// What to do with it.
    pub fn keep(&self) -> &Keep {
        &self.keep
    }
    /// Keys that nobody else may bring in this round: the first who claims one has it, R-09.
    pub fn claims(&self) -> &[Digest] {
        &self.claims
    }
}

#[cfg(any(test, feature = "testing"))]
impl Accepted {
    /// For tests of stores, which do not look inside.
    pub fn unjudged(client: ClientId, digest: Digest, keep: Keep, claims: Vec<Digest>) -> Self {
        Self { client, digest, keep, claims }
    }
}

/// What became of one message of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admitted {
    /// Written down now.
    Fresh,
    /// The same bytes stood there already.
    Again,
    /// The client sent other bytes before.
    OtherBytes,
    /// Another client claimed one of its keys first, R-09.
    KeyTaken,
    /// The phase has closed.
    Closed,
}

/// Everything a phase accepted, and of the phases before it what [`Received::needs`] says. The gates are shut, so it cannot
/// grow.
#[derive(Default, Debug)]
pub struct Received {
    /// Message bodies by client (for masked inputs: the signed statements).
    pub bodies: BTreeMap<ClientId, Vec<u8>>,
    /// The leaves of the round.
    pub adverts: BTreeMap<ClientId, Vec<u8>>,
    /// The share messages of the round.
    pub shares: BTreeMap<ClientId, Vec<u8>>,
    /// The acknowledgements of the round.
    pub acknowledgements: BTreeMap<ClientId, Vec<u8>>,
    /// The sum of the masked inputs; only for unmasking.
    pub sum: Option<RingVector>,
}

impl Received {
    /// The earlier phases whose bodies `close` needs, to judge or to name.
    pub fn needs(closing: PhaseKind) -> &'static [PhaseKind] {
        use PhaseKind::{Acknowledging, Advertising, Opening, Sharing, Unmasking};
        match closing {
            Acknowledging => &[Sharing],
            Opening => &[Advertising, Sharing],
            Unmasking => &[Advertising, Sharing, Acknowledging],
            _ => &[],
        }
    }

    /// Bodies of the phase that closes, with those of the phases that it [needs](Self::needs).
    pub fn new(bodies: BTreeMap<ClientId, Vec<u8>>, earlier: Vec<(PhaseKind, BTreeMap<ClientId, Vec<u8>>)>) -> Self {
        let mut received = Self { bodies, ..Self::default() };
        for (phase, bodies) in earlier {
            match phase {
                PhaseKind::Advertising => received.adverts = bodies,
                PhaseKind::Sharing => received.shares = bodies,
                PhaseKind::Acknowledging => received.acknowledgements = bodies,
                _ => {}
            }
        }
        received
    }
}

/// A row to write in the same transaction as the phase. Work that remains is never an effect; it is a phase.
#[derive(PartialEq, Eq, Debug)]
pub enum Effect {
    /// A statement, unsigned: fixed first, signed when it is read back, R-30.
    Statement {
        /// Which of the chain.
        kind: StatementKind,
        /// The bytes to sign.
        bytes: Vec<u8>,
        /// What is served after the signature (roster: the list of leaves; result: the packed sum).
        attachment: Vec<u8>,
    },
    /// Masking opens: what the round reserved is spent for good, R-26.
    Spend,
    /// A client's statement that belongs into the log, after the statement of this commit and before its charge. §9
    Log {
        /// Its root.
        root: Digest,
    },
    /// The round ended before masking opened: its reservation lapses.
    Lapse,
    /// Somebody is named, with what proves it to anybody.
    Fault {
        /// Who.
        client: ClientId,
        /// The rule broken.
        rule: u8,
        /// Encoded [`Evidence`](crate::messages::Evidence).
        evidence: Vec<u8>,
    },
    /// The next model, made from the sum (added by the aggregator's learning, never by `close`).
    Model {
        /// As stored and served.
        bytes: Vec<u8>,
        /// SHA-256 of them.
        digest: Digest,
    },
    /// The round is over: answers, mail, sums and keys are erased. Digests stay, and what its export needs for as long as the
    /// operator keeps it. §9
    Erase,
}
