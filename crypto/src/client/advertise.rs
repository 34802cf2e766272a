//! Advertise, the client's side: is this a round to take part in? Then fresh keys, signed. §5.1
//!
//! Before: nothing of the round is known. Next: `client/share.rs`. The other end: `server/advertise.rs`.

use alloc::{collections::BTreeSet, sync::Arc, vec::Vec};

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::policy::{budget_covers, limits_permit};
use super::saved::{Saved, Turn};
use super::{Membership, Memory, Moment, from_aggregator};
use crate::ids::{Digest, LeafIndex, TaskId, Timestamp};
use crate::math::shamir::ShareScalar;
use crate::messages::key_advertisement::RoundKeys;
use crate::messages::{Header, KeyAdvertisement, RevocationList};
use crate::params::ROSTER_LIMIT;
use crate::primitives::agreement::{ChannelSecretKey, MaskingSecretKey, SelfMaskSecret};
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::primitives::labels;
use crate::primitives::merkle::{TreeHead, extends};
use crate::primitives::signature::Statement;
use crate::rules::ServerMisbehaved;

/// How far a counter may leap: one signed 2^64 - 1 would lock everybody out. R-02
const COUNTER_LEAP_MAX: u64 = 1 << 20;

/// How many entries a log can have grown by between two headers, or hold when a client first sees it. R-33
const LOG_GROWTH_MAX: u64 = 1 << 32;

/// Between rounds.
#[derive(Debug)]
pub struct Enrolled {
    member: Arc<Membership>,
    memory: Memory,
}

/// What comes with a header: the list it names, and the proof that the log it names only grew.
#[derive(Default, Debug)]
pub struct HeaderEvidence {
    /// The authority's signed list; empty where the header names none.
    pub revocations: Vec<u8>,
    /// Proof from the log this client saw last to the one in the header; empty where it saw none.
    pub log_growth: Vec<Digest>,
}

impl Enrolled {
    /// A client with its memory.
    pub fn new(member: Arc<Membership>, memory: Memory) -> Self {
        Self { member, memory }
    }

    /// What it remembers.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// §5.1: judges the signed header and answers with fresh keys for this round.
    pub fn advertise(
        self,
        task: TaskId,
        header: &[u8],
        evidence: &HeaderEvidence,
        now: Moment,
        rng: &mut impl CryptoRng,
    ) -> Result<Turn<AwaitingRoster, KeyAdvertisement>, ServerMisbehaved> {
        let Self { member, mut memory } = self;
        let policy = &member.policy;
        let statement = from_aggregator(header, labels::HEADER, "header", &policy.aggregator)?;
        let header = Header::from_statement(&statement)?;
        policy.permits(&header, task)?;
        counter_advances(&header, memory.last_counter(&policy.aggregator, task))?;
        time_is_near(&header, now.wall, policy.clock_apart_max_s)?;
        log_only_grew(&header, memory.log_of(&header.aggregator_key), &evidence.log_growth)?;
        let revoked = revocations(&header, &memory, &evidence.revocations)?;
        member.certificate.check(&header.authority_key, header.opened_at, &revoked).map_err(|reason| {
            ServerMisbehaved::Member {
                leaf: u32::MAX,
                rejection: crate::rules::Rejection::Certificate { client: member.client(), reason }.into(),
            }
        })?;
        budget_covers(&header, &memory, policy)?;
        limits_permit(&header, &memory, policy)?;

        memory.counters.insert((policy.aggregator.party(), task), header.counter);
        memory.identity = Some(member.identity.public().party());
        memory.logs.insert(header.aggregator_key.party(), header.log);
        let newest = (header.revocation_number, header.revocation_digest);
        memory.revocations.insert(header.authority_key.party(), newest);
        let secrets = RoundSecrets::generate(rng);
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let keys = RoundKeys {
            masking: secrets.masking.public(),
            self_mask: secrets.self_mask.public(),
            channel: secrets.channel.public(),
            nonce,
        };
        let message = KeyAdvertisement::sign(member.certificate.clone(), keys, &header, &member.identity);
        let next = AwaitingRoster {
            member,
            memory,
            header,
            revoked,
            secrets,
            keys,
            advertised: now,
            same_process: true,
            pinned: None,
        };
        Ok(Turn::new(next, message))
    }
}

/// counters grow, by at most 2^20.
fn counter_advances(header: &Header, last: u64) -> Result<(), ServerMisbehaved> {
    match header.counter.checked_sub(last) {
        Some(1..=COUNTER_LEAP_MAX) => Ok(()),
        _ => Err(ServerMisbehaved::Counter { last, found: header.counter }),
    }
}

/// a client only checks that the header's time is within policy of its own.
fn time_is_near(header: &Header, wall: Timestamp, allowed_s: u64) -> Result<(), ServerMisbehaved> {
    let apart_s = header.opened_at.0.abs_diff(wall.0) / 1_000_000;
    if apart_s <= allowed_s { Ok(()) } else { Err(ServerMisbehaved::ClockApart { apart_s, allowed_s }) }
}

/// the log of the header extends the one this client saw.
fn log_only_grew(header: &Header, seen: Option<TreeHead>, growth: &[Digest]) -> Result<(), ServerMisbehaved> {
    // A log cannot have grown so far: one forged size, proved with invented hashes, would lock the client out of every
    // honest header.
    let last = seen.map_or(0, |seen| seen.size);
    if header.log.size.saturating_sub(last) > LOG_GROWTH_MAX {
        return Err(ServerMisbehaved::LogRewritten { last, found: header.log.size });
    }
    match seen {
        Some(seen) if !extends(seen, header.log, growth) => {
            Err(ServerMisbehaved::LogRewritten { last: seen.size, found: header.log.size })
        }
        _ => Ok(()),
    }
}

/// the list that the header names, not older than one seen.
fn revocations(header: &Header, memory: &Memory, bytes: &[u8]) -> Result<RevocationList, ServerMisbehaved> {
    let (seen, digest) = memory.revocations_of(&header.authority_key);
    if header.revocation_number < seen {
        return Err(ServerMisbehaved::Revocation("the header names an older revocation list than one this client saw"));
    }
    if header.revocation_number == seen && header.revocation_digest != digest {
        return Err(ServerMisbehaved::Revocation(
            "the header names another revocation list under a number this client saw",
        ));
    }
    let list = if header.revocation_number == 0 {
        RevocationList::none()
    } else {
        RevocationList::decode(bytes, &header.authority_key)?
    };
    if list.number() != header.revocation_number || list.digest() != header.revocation_digest {
        return Err(ServerMisbehaved::Revocation("the revocation list is not the one that the header names"));
    }
    Ok(list)
}

/// The three secrets of a round. Each is wiped when dropped.
#[derive(Debug)]
pub(crate) struct RoundSecrets {
    pub masking: MaskingSecretKey,
    pub self_mask: SelfMaskSecret,
    pub channel: ChannelSecretKey,
}

impl RoundSecrets {
    fn generate(rng: &mut impl CryptoRng) -> Self {
        Self {
            masking: MaskingSecretKey::generate(rng),
            self_mask: SelfMaskSecret::generate(rng),
            channel: ChannelSecretKey::generate(rng),
        }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        write_scalar(out, &self.masking.to_scalar());
        write_scalar(out, &self.self_mask.to_scalar());
        out.extend(self.channel.to_bytes().iter());
    }

    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            masking: MaskingSecretKey::from_scalar(&read_scalar(reader)?),
            self_mask: SelfMaskSecret::from_scalar(&read_scalar(reader)?),
            channel: ChannelSecretKey::from_bytes(*Zeroizing::new(reader.array("c")?)),
        })
    }
}

pub(crate) fn write_scalar(out: &mut Vec<u8>, scalar: &ShareScalar) {
    out.extend(scalar.as_bytes());
}

pub(crate) fn read_scalar(reader: &mut Reader<'_>) -> Result<ShareScalar, DecodeError> {
    ShareScalar::from_bytes(&Zeroizing::new(reader.array("scalar")?))
        .ok_or(DecodeError::NotCanonical { field: "scalar", expected: "below the group order" })
}

/// Has advertised; waits for the roster.
#[derive(Debug)]
pub struct AwaitingRoster {
    pub(super) member: Arc<Membership>,
    pub(super) memory: Memory,
    pub(super) header: Header,
    pub(super) revoked: RevocationList,
    pub(super) secrets: RoundSecrets,
    pub(super) keys: RoundKeys,
    pub(super) advertised: Moment,
    /// Whether `advertised.monotonic_ms` was read in this process.
    pub(super) same_process: bool,
    /// The first valid roster, written down before any leaf is asked for. R-02
    pub(super) pinned: Option<PinnedRoster>,
}

/// What the roster's slot of the journal holds. §4.5
#[derive(Debug)]
pub(super) struct PinnedRoster {
    pub(super) root: Digest,
    /// The leaves that this client asks for, drawn once: a server that fails to answer learns nothing about another draw.
    pub(super) wanted: BTreeSet<LeafIndex>,
}

impl AwaitingRoster {
    /// The round's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn into_memory(self) -> (Arc<Membership>, Memory) {
        (self.member, self.memory)
    }
}

impl Saved for Enrolled {
    const TAG: u8 = 0;

    fn bytes_max(&self) -> usize {
        self.memory.bytes_max()
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.memory.write(out);
    }

    fn read(reader: &mut Reader<'_>, member: &Arc<Membership>) -> Result<Self, DecodeError> {
        Ok(Self::new(member.clone(), Memory::read(reader)?))
    }
}

impl Saved for AwaitingRoster {
    const TAG: u8 = 1;

    fn bytes_max(&self) -> usize {
        let wanted = self.pinned.as_ref().map_or(0, |pinned| pinned.wanted.len());
        self.memory.bytes_max() + 4_096 + 4 * wanted + self.revoked.encode().len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.memory.write(out);
        write_prefixed(out, &self.header.statement().encode());
        write_prefixed(out, &self.revoked.encode());
        self.secrets.write(out);
        out.extend(self.keys.nonce);
        out.extend(self.advertised.wall.0.to_le_bytes());
        let Some(PinnedRoster { root, wanted }) = &self.pinned else { return out.extend(Digest::NONE.0) };
        out.extend(root.0);
        out.extend((wanted.len() as u32).to_le_bytes());
        wanted.iter().for_each(|leaf| out.extend(leaf.0.to_le_bytes()));
    }

    fn read(reader: &mut Reader<'_>, member: &Arc<Membership>) -> Result<Self, DecodeError> {
        let memory = Memory::read(reader)?;
        let header = Header::from_statement(&Statement::decode(reader.prefixed("header")?, labels::HEADER)?)?;
        let revoked = match reader.prefixed("revocations")? {
            [] => RevocationList::none(),
            bytes => RevocationList::decode(bytes, &header.authority_key)?,
        };
        let secrets = RoundSecrets::read(reader)?;
        let keys = RoundKeys {
            masking: secrets.masking.public(),
            self_mask: secrets.self_mask.public(),
            channel: secrets.channel.public(),
            nonce: reader.array("nonce")?,
        };
        let advertised = Moment { wall: Timestamp(reader.u64("advertised")?), monotonic_ms: 0 };
        let pinned = match reader.digest("pinned roster")? {
            Digest::NONE => None,
            // Written before leaves were kept: they are drawn once more.
            root if reader.left() == 0 => Some(PinnedRoster { root, wanted: BTreeSet::new() }),
            root => {
                let count = reader.u32("leaves to open")?.min(ROSTER_LIMIT);
                let leaves = (0..count).map(|_| reader.u32("leaf to open").map(LeafIndex));
                Some(PinnedRoster { root, wanted: leaves.collect::<Result<_, _>>()? })
            }
        };
        Ok(Self {
            member: member.clone(),
            memory,
            header,
            revoked,
            secrets,
            keys,
            advertised,
            same_process: false,
            pinned,
        })
    }
}
