//! The journal: a step and its message are sealed together before the message can be had. §4.5, R-03
//!
//! ```text
//! plaintext = version u8 (2; 1 is read too), phase u8, u32 length, phase bytes, u32 length, message bytes
//! sealed    = nonce[12], AES-256-GCM ciphertext, tag[16]      under the caller's key
//! ```
//! One encoder for every phase; never serde. The caller writes the sealed bytes where they survive a crash,
//! replacing what stood there.

use alloc::{sync::Arc, vec::Vec};

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::*;
use crate::messages::{Acknowledgement, Answer, Confirmation, KeyAdvertisement, MaskedInput, Opening, SealedShares};
use crate::primitives::codec::write_prefixed;
use crate::primitives::seal::SavingKey;

/// 1 had counters by task alone, and was read last by the version that wrote it.
const VERSION: u8 = 2;

/// Sealed bytes, to be written down whole.
pub struct Sealed(pub Vec<u8>);

/// Why saved bytes are not a phase.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// Not sealed under this key, or altered.
    #[error("the saved state was not sealed under this key, or was altered; restore the key that belongs to it")]
    Unauthentic,
    /// Written by another version of this program.
    #[error(
        "the saved state has version {0}, this program reads 1 and 2; finish or abandon the round with the program that wrote it"
    )]
    Version(u8),
    /// Authentic but not a phase: a defect of the program that wrote it.
    #[error("the saved state is damaged: {0}")]
    Damaged(#[from] DecodeError),
}

/// What every phase knows how to do: be written down, and say which it is.
pub(crate) trait Saved: Sized {
    const TAG: u8;
    /// No fewer bytes than `write` will append.
    fn bytes_max(&self) -> usize;
    fn write(&self, out: &mut Vec<u8>);
    fn read(reader: &mut Reader<'_>, member: &Arc<Membership>) -> Result<Self, DecodeError>;
}

/// Something that can be sent.
pub trait Outgoing {
    /// The bytes; empty where there is nothing to send.
    fn encode(&self) -> Vec<u8>;
}

macro_rules! outgoing {
    ($($message:ty),*) => { $(impl Outgoing for $message {
        fn encode(&self) -> Vec<u8> { <$message>::encode(self) }
    })* };
}
outgoing!(KeyAdvertisement, SealedShares, Acknowledgement, Opening, MaskedInput, Answer);

impl Outgoing for Option<Confirmation> {
    fn encode(&self) -> Vec<u8> {
        self.as_ref().map(Confirmation::encode).unwrap_or_default()
    }
}

/// A step that has nothing to say.
#[derive(Debug)]
pub struct Nothing;
impl Outgoing for Nothing {
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// A step taken but not yet written down. No accessor: `persist` is the only way to the message.
#[must_use = "a step that is not persisted is lost, and with it the round"]
#[derive(Debug)]
pub struct Turn<Next, Sent> {
    next: Next,
    message: Sent,
}

impl<Next, Sent> Turn<Next, Sent> {
    pub(crate) fn new(next: Next, message: Sent) -> Self {
        Self { next, message }
    }
}

#[allow(private_bounds, reason = "phases are a closed set")]
impl<Next: Saved, Sent: Outgoing> Turn<Next, Sent> {
    /// Seals next phase and message together and hands the bytes to `write`; only after it has succeeded is the
    /// message released. `write` returns when the bytes are durable.
    pub fn persist<E>(
        self,
        key: &SavingKey,
        rng: &mut impl CryptoRng,
        write: impl FnOnce(&Sealed) -> Result<(), E>,
    ) -> Result<(Next, Vec<u8>), E> {
        let message = self.message.encode();
        write(&seal(key, rng, &self.next, &message))?;
        Ok((self.next, message))
    }
}

fn seal<P: Saved>(key: &SavingKey, rng: &mut impl CryptoRng, phase: &P, message: &[u8]) -> Sealed {
    // Reserved at once: a buffer that grows leaves unwiped copies of secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(phase.bytes_max()));
    phase.write(&mut bytes);
    debug_assert!(bytes.len() <= phase.bytes_max());
    let mut plaintext = Zeroizing::new(Vec::with_capacity(bytes.len() + message.len() + 10));
    plaintext.extend([VERSION, P::TAG]);
    write_prefixed(&mut plaintext, &bytes);
    write_prefixed(&mut plaintext, message);
    Sealed(key.seal(rng, &plaintext))
}

/// What was found on disk: the phase, and the bytes to send again until they are answered.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants are the phases")]
#[allow(clippy::large_enum_variant, reason = "one value at a time, matched at once")]
pub enum Resumed {
    Enrolled(Enrolled),
    AwaitingRoster(AwaitingRoster, Vec<u8>),
    AwaitingMail(AwaitingMail, Vec<u8>),
    ReadyToMask(ReadyToMask, Vec<u8>),
    AwaitingSurvivors(AwaitingSurvivors, Vec<u8>),
    ReadyToUnmask(ReadyToUnmask, Vec<u8>),
    AwaitingResult(AwaitingResult, Vec<u8>),
}

impl Resumed {
    /// Opens what [`Turn::persist`] wrote.
    pub fn open(key: &SavingKey, sealed: &[u8], member: &Arc<Membership>) -> Result<Self, OpenError> {
        let plaintext = key.open(sealed).ok_or(OpenError::Unauthentic)?;
        let mut reader = Reader::new(&plaintext);
        let version = reader.u8("version")?;
        if !(1..=VERSION).contains(&version) {
            return Err(OpenError::Version(version));
        }
        let tag = reader.u8("phase")?;
        let mut phase = Reader::new(reader.prefixed("phase")?);
        let message = reader.prefixed("message")?.to_vec();
        reader.finish()?;
        let resumed = match tag {
            Enrolled::TAG => Self::Enrolled(Saved::read(&mut phase, member)?),
            AwaitingRoster::TAG => Self::AwaitingRoster(Saved::read(&mut phase, member)?, message),
            AwaitingMail::TAG => Self::AwaitingMail(Saved::read(&mut phase, member)?, message),
            ReadyToMask::TAG => Self::ReadyToMask(Saved::read(&mut phase, member)?, message),
            AwaitingSurvivors::TAG => Self::AwaitingSurvivors(Saved::read(&mut phase, member)?, message),
            ReadyToUnmask::TAG => Self::ReadyToUnmask(Saved::read(&mut phase, member)?, message),
            AwaitingResult::TAG => Self::AwaitingResult(Saved::read(&mut phase, member)?, message),
            _ => return Err(DecodeError::NotCanonical { field: "phase", expected: "0 to 6" }.into()),
        };
        phase.finish()?;
        Ok(resumed)
    }

    /// What the client remembers, whichever phase it is in.
    pub fn memory(&self) -> &Memory {
        match self {
            Self::Enrolled(phase) => phase.memory(),
            Self::AwaitingRoster(phase, _) => &phase.memory,
            Self::AwaitingMail(phase, _) => &phase.view.memory,
            Self::ReadyToMask(phase, _) => &phase.view.memory,
            Self::AwaitingSurvivors(phase, _) => &phase.view.memory,
            Self::ReadyToUnmask(phase, _) => &phase.view.memory,
            Self::AwaitingResult(phase, _) => &phase.view.memory,
        }
    }

    /// Whether a round is under way that was advertised under another identity than this one: after enrolment anew. Its messages
    /// would be nobody's; it is to be given up. R-36
    pub fn is_of_another_identity(&self, member: &Membership) -> bool {
        let own = member.identity.public().party();
        !matches!(self, Self::Enrolled(_)) && self.memory().identity.is_some_and(|advertised| advertised != own)
    }

    /// Ends the round for this client, for good: its counter is used up, whatever was charged stays charged. R-28
    pub fn give_up(self) -> Turn<Enrolled, Nothing> {
        let (member, memory) = match self {
            Self::Enrolled(phase) => return Turn::new(phase, Nothing),
            Self::AwaitingRoster(phase, _) => phase.into_memory(),
            Self::AwaitingMail(phase, _) => phase.into_memory(),
            Self::ReadyToMask(phase, _) => phase.into_memory(),
            Self::AwaitingSurvivors(phase, _) => phase.into_memory(),
            Self::ReadyToUnmask(phase, _) => phase.into_memory(),
            Self::AwaitingResult(phase, _) => phase.into_memory(),
        };
        Turn::new(Enrolled::new(member, memory), Nothing)
    }
}
