//! The export of one round: 18 sections in a fixed order, decoded whole. docs/wire.md §13
//!
//! ```text
//! export  = lab("veilsum/1/export"), u16 version = 1, then 18 times: kind u8, length u32, bytes
//! list    = count u32, then ascending: leaf index u32, length u32, bytes
//! ```
//! The codec reads form only. What a section must agree with, the rest of `audit` judges.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::ids::{ClientId, Digest, LeafIndex};
use crate::params::ROSTER_LIMIT;
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::primitives::labels::{EXPORT, VERSION};

/// A signed header. docs/wire.md §4.1
const HEADER_BYTES: usize = 527;
/// A checkpoint's text at most.
const CHECKPOINT_BYTES_MAX: usize = 1_024;
/// Hashes of one path through a tree of at most 2^64 leaves.
const PATH_MAX: u8 = 64;
/// Log entries of one round beside its openings.
const ENTRIES_MAX: u32 = 16;
/// Faults of one round: one a client and phase, of those on the roster and as many who were not.
const FAULTS_MAX: u32 = 7 * 2 * ROSTER_LIMIT;
/// Kind and length before each section.
const HEAD_BYTES: usize = 5;
/// In files up to this size a section with a wrong length is searched for, so that the right one is named.
const SEARCHED_MAX: usize = 64 << 20;
/// Kinds of a ledger entry.
const COUNTED: u8 = 2;
const LAPSED: u8 = 3;

/// A part of the file. The number of each but the first is its kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "docs/wire.md §13 says what each is")]
pub enum Section {
    Beginning = 0,
    Header = 1,
    Revocations = 2,
    Roster = 3,
    Leaves = 4,
    Shares = 5,
    Acknowledgements = 6,
    Openings = 7,
    Core = 8,
    Uploads = 9,
    Survivors = 10,
    Confirms = 11,
    Result = 12,
    Evidence = 13,
    Ledger = 14,
    Salt = 15,
    Checkpoint = 16,
    Log = 17,
    Growth = 18,
}

impl Section {
    /// All sections, in the order of the file.
    pub const ALL: [Section; 18] = [
        Section::Header,
        Section::Revocations,
        Section::Roster,
        Section::Leaves,
        Section::Shares,
        Section::Acknowledgements,
        Section::Openings,
        Section::Core,
        Section::Uploads,
        Section::Survivors,
        Section::Confirms,
        Section::Result,
        Section::Evidence,
        Section::Ledger,
        Section::Salt,
        Section::Checkpoint,
        Section::Log,
        Section::Growth,
    ];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Section::Beginning => "beginning",
            Section::Header => "header",
            Section::Revocations => "revocations",
            Section::Roster => "roster",
            Section::Leaves => "leaves",
            Section::Shares => "shares",
            Section::Acknowledgements => "acknowledgements",
            Section::Openings => "openings",
            Section::Core => "core",
            Section::Uploads => "uploads",
            Section::Survivors => "survivors",
            Section::Confirms => "confirms",
            Section::Result => "result",
            Section::Evidence => "evidence",
            Section::Ledger => "ledger",
            Section::Salt => "salt",
            Section::Checkpoint => "checkpoint",
            Section::Log => "log",
            Section::Growth => "growth",
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes are no export, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{section}: {why}")]
pub struct ExportError {
    /// The section that holds what is wrong.
    pub section: Section,
    /// What is wrong with it.
    pub why: String,
}

/// Messages by leaf index.
pub type List = BTreeMap<LeafIndex, Vec<u8>>;

/// One round, as it is handed to an auditor.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Export {
    /// The signed header.
    pub header: Vec<u8>,
    /// The revocation list that it names; empty if none.
    pub revocations: Vec<u8>,
    /// The roster as served; empty if none was fixed.
    pub roster: Vec<u8>,
    /// All leaves.
    pub leaves: List,
    /// Share messages, whole.
    pub shares: List,
    /// Signed acknowledgements.
    pub acknowledgements: List,
    /// Signed openings.
    pub openings: List,
    /// The signed core; empty if none was fixed.
    pub core: Vec<u8>,
    /// Signed upload statements.
    pub uploads: List,
    /// The signed survivors; empty if none were fixed.
    pub survivors: Vec<u8>,
    /// Signed confirms.
    pub confirms: List,
    /// The result as served; empty if there is none.
    pub result: Vec<u8>,
    /// Who is named, by phase, then client.
    pub evidence: Vec<Named>,
    /// The task's earlier rounds, counter 1 first.
    pub ledger: Vec<Counted>,
    /// The salt of the round's log entries.
    pub salt: [u8; 32],
    /// A checkpoint of the log, signed when the export was made.
    pub checkpoint: String,
    /// Where the round's entries stand in the log.
    pub log: Vec<Inclusion>,
    /// The log of the header grew into that of the checkpoint.
    pub growth: Vec<Digest>,
}

/// Who is named for what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// In which phase, 0 advertise … 6 unmask.
    pub phase: u8,
    /// Who.
    pub client: ClientId,
    /// The rule broken.
    pub rule: u8,
    /// Encoded evidence, docs/wire.md §7.1.
    pub evidence: Vec<u8>,
}

/// An earlier round of the task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted {
    /// Its signed header.
    pub header: Vec<u8>,
    /// That its charge lapsed; without it the round counts at the cost of its header.
    pub lapse: Option<Lapse>,
}

/// A charge that lapsed, and its proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lapse {
    /// The salt of that round.
    pub salt: [u8; 32],
    /// Where the log says so.
    pub at: Inclusion,
}

/// A leaf of the log with its audit path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inclusion {
    /// From 0.
    pub leaf: u64,
    /// From the leaf upward.
    pub path: Vec<Digest>,
}

impl Export {
    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = beginning();
        for section in Section::ALL {
            out.push(section as u8);
            write_prefixed(&mut out, &self.section(section));
        }
        out
    }

    /// One section's bytes.
    fn section(&self, section: Section) -> Vec<u8> {
        match section {
            Section::Beginning => beginning(),
            Section::Header => self.header.clone(),
            Section::Revocations => self.revocations.clone(),
            Section::Roster => self.roster.clone(),
            Section::Leaves => list_bytes(&self.leaves),
            Section::Shares => list_bytes(&self.shares),
            Section::Acknowledgements => list_bytes(&self.acknowledgements),
            Section::Openings => list_bytes(&self.openings),
            Section::Core => self.core.clone(),
            Section::Uploads => list_bytes(&self.uploads),
            Section::Survivors => self.survivors.clone(),
            Section::Confirms => list_bytes(&self.confirms),
            Section::Result => self.result.clone(),
            Section::Evidence => counted(&self.evidence, |out, named| {
                out.push(named.phase);
                out.extend(named.client.0);
                out.push(named.rule);
                write_prefixed(out, &named.evidence);
            }),
            Section::Ledger => counted(&self.ledger, |out, round| {
                out.extend_from_slice(&round.header);
                match &round.lapse {
                    None => out.push(COUNTED),
                    Some(lapse) => {
                        out.push(LAPSED);
                        out.extend(lapse.salt);
                        lapse.at.write(out);
                    }
                }
            }),
            Section::Salt => self.salt.to_vec(),
            Section::Checkpoint => self.checkpoint.clone().into_bytes(),
            Section::Log => counted(&self.log, |out, entry| entry.write(out)),
            Section::Growth => path_bytes(&self.growth),
        }
    }

    /// Whether a section between leaves and result shows nothing.
    pub(super) fn is_empty(&self, section: Section) -> bool {
        match section {
            Section::Leaves => self.leaves.is_empty(),
            Section::Shares => self.shares.is_empty(),
            Section::Acknowledgements => self.acknowledgements.is_empty(),
            Section::Openings => self.openings.is_empty(),
            Section::Core => self.core.is_empty(),
            Section::Uploads => self.uploads.is_empty(),
            Section::Survivors => self.survivors.is_empty(),
            Section::Confirms => self.confirms.is_empty(),
            Section::Result => self.result.is_empty(),
            _ => false,
        }
    }

    /// Reads a file, whole.
    pub fn decode(bytes: &[u8]) -> Result<Self, ExportError> {
        let sections = split(bytes)?;
        let mut export = Self::default();
        for (section, bytes) in Section::ALL.into_iter().zip(sections) {
            let mut reader = Reader::new(bytes);
            let read = export.read(section, &mut reader).and_then(|()| reader.finish());
            read.map_err(|error| ExportError { section, why: error.to_string() })?;
        }
        Ok(export)
    }

    fn read(&mut self, section: Section, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        match section {
            Section::Beginning => {}
            Section::Header => self.header = reader.take("header", HEADER_BYTES)?.to_vec(),
            Section::Revocations => self.revocations = reader.rest().to_vec(),
            Section::Roster => self.roster = reader.rest().to_vec(),
            Section::Leaves => self.leaves = read_list(reader)?,
            Section::Shares => self.shares = read_list(reader)?,
            Section::Acknowledgements => self.acknowledgements = read_list(reader)?,
            Section::Openings => self.openings = read_list(reader)?,
            Section::Core => self.core = reader.rest().to_vec(),
            Section::Uploads => self.uploads = read_list(reader)?,
            Section::Survivors => self.survivors = reader.rest().to_vec(),
            Section::Confirms => self.confirms = read_list(reader)?,
            Section::Result => self.result = reader.rest().to_vec(),
            Section::Evidence => self.evidence = read_evidence(reader)?,
            Section::Ledger => self.ledger = read_counted(reader, u32::MAX, Counted::read)?,
            Section::Salt => self.salt = reader.array("salt")?,
            Section::Checkpoint => self.checkpoint = read_checkpoint(reader)?,
            Section::Log => self.log = read_counted(reader, ROSTER_LIMIT + ENTRIES_MAX, Inclusion::read)?,
            Section::Growth => self.growth = read_path(reader)?,
        }
        Ok(())
    }
}

impl Counted {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let header = reader.take("header", HEADER_BYTES)?.to_vec();
        let lapse = match reader.u8("kind")? {
            COUNTED => None,
            LAPSED => Some(Lapse { salt: reader.array("salt")?, at: Inclusion::read(reader)? }),
            _ => return Err(DecodeError::NotCanonical { field: "kind", expected: "2 counted or 3 lapsed" }),
        };
        Ok(Self { header, lapse })
    }
}

impl Inclusion {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.leaf.to_le_bytes());
        out.extend(path_bytes(&self.path));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { leaf: reader.u64("leaf")?, path: read_path(reader)? })
    }
}

fn beginning() -> Vec<u8> {
    let mut out = EXPORT.bytes();
    out.extend(VERSION.to_le_bytes());
    out
}

/// The 18 sections.
fn split(bytes: &[u8]) -> Result<Vec<&[u8]>, ExportError> {
    let fail = |section, why: &str| Err(ExportError { section, why: why.to_string() });
    let Some(rest) = bytes.strip_prefix(beginning().as_slice()) else {
        return fail(Section::Beginning, "this is not a round export of version 1");
    };
    let (sections, end) = follow(rest, 0);
    if sections.len() == Section::ALL.len() && end == rest.len() {
        return match Section::ALL.into_iter().zip(&sections).find(|(section, (kind, _))| *kind != *section as u8) {
            None => Ok(sections.into_iter().map(|(_, bytes)| bytes).collect()),
            Some((section, _)) => fail(section, "another section stands in its place: the order is fixed"),
        };
    }
    match wrong_length(rest) {
        Some(section) => fail(section, "its length does not lead to the next section"),
        None if sections.len() == Section::ALL.len() => {
            fail(Section::Growth, "bytes are left over after the last section")
        }
        None => {
            let last = sections.len().saturating_sub(1);
            fail(Section::ALL[last], "the file ends too early, in this section or after it")
        }
    }
}

/// Sections from place `at` of the order on, as far as their lengths lead, and where they end.
fn follow(bytes: &[u8], at: usize) -> (Vec<(u8, &[u8])>, usize) {
    let (mut reader, mut sections) = (Reader::new(bytes), Vec::new());
    let mut end = 0;
    while at + sections.len() < Section::ALL.len() {
        let next = reader.u8("kind").and_then(|kind| Ok((kind, reader.prefixed("section")?)));
        let Ok(next) = next else { break };
        sections.push(next);
        end = bytes.len() - reader.left();
    }
    (sections, end)
}

/// The one section whose length is wrong, if the file is whole but for that: its kind is where those before lead, and from some
/// later place on all that should follow it stands and ends with the file. Of several the one whose length would have to be
/// changed least.
fn wrong_length(bytes: &[u8]) -> Option<Section> {
    let (mut start, mut found) = (0, None);
    if bytes.len() > SEARCHED_MAX {
        return None;
    }
    for (at, section) in Section::ALL.into_iter().enumerate() {
        let Some([kind, length @ ..]) = bytes.get(start..).and_then(|rest| rest.first_chunk::<HEAD_BYTES>()) else {
            break;
        };
        if *kind != section as u8 {
            break;
        }
        let (length, body) = (u32::from_le_bytes(*length), start + HEAD_BYTES);
        for end in (body..=bytes.len()).filter(|end| end - body != length as usize && leads_on(&bytes[*end..], at + 1))
        {
            let changed = (length ^ (end - body) as u32).count_ones();
            if found.is_none_or(|(least, _)| changed < least) {
                found = Some((changed, section));
            }
        }
        start = match body.checked_add(length as usize) {
            Some(next) => next,
            None => break,
        };
    }
    found.map(|(_, section)| section)
}

/// Whether the sections from place `at` of the order on stand here, and end with the file.
fn leads_on(bytes: &[u8], at: usize) -> bool {
    let rest = &Section::ALL[at..];
    if bytes.first().copied() != rest.first().map(|section| *section as u8) {
        return false;
    }
    let (sections, end) = follow(bytes, at);
    let kinds = rest.iter().zip(&sections).all(|(section, (kind, _))| *kind == *section as u8);
    kinds && sections.len() == rest.len() && end == bytes.len()
}

fn counted<T>(items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) -> Vec<u8> {
    let mut out = (items.len() as u32).to_le_bytes().to_vec();
    items.iter().for_each(|item| write(&mut out, item));
    out
}

fn read_counted<T>(
    reader: &mut Reader<'_>,
    count_max: u32,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.u32("count")?;
    if count > count_max {
        return Err(DecodeError::NotCanonical { field: "count", expected: "no more than a round can have" });
    }
    let mut items = Vec::new(); // grows with what is there, not with what is promised
    for _ in 0..count {
        items.push(read(reader)?);
    }
    Ok(items)
}

fn list_bytes(list: &List) -> Vec<u8> {
    let mut out = (list.len() as u32).to_le_bytes().to_vec();
    for (leaf, bytes) in list {
        out.extend(leaf.0.to_le_bytes());
        write_prefixed(&mut out, bytes);
    }
    out
}

fn read_list(reader: &mut Reader<'_>) -> Result<List, DecodeError> {
    let mut list = List::new();
    let read = |reader: &mut Reader<'_>| {
        let leaf = LeafIndex(reader.u32("leaf index")?);
        if list.last_key_value().is_some_and(|(last, _)| *last >= leaf) {
            return Err(DecodeError::NotCanonical { field: "leaf index", expected: "strictly ascending" });
        }
        list.insert(leaf, reader.prefixed("message")?.to_vec());
        Ok(())
    };
    read_counted(reader, ROSTER_LIMIT, read)?;
    Ok(list)
}

fn read_evidence(reader: &mut Reader<'_>) -> Result<Vec<Named>, DecodeError> {
    let mut last = None;
    read_counted(reader, FAULTS_MAX, |reader| {
        let (phase, client) = (reader.u8("phase")?, ClientId(reader.array("client id")?));
        if phase > 6 {
            return Err(DecodeError::NotCanonical { field: "phase", expected: "0 to 6" });
        }
        if last.replace((phase, client)).is_some_and(|last| last >= (phase, client)) {
            return Err(DecodeError::NotCanonical { field: "phase and client", expected: "strictly ascending" });
        }
        Ok(Named { phase, client, rule: reader.u8("rule")?, evidence: reader.prefixed("evidence")?.to_vec() })
    })
}

fn read_checkpoint(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let wrong = DecodeError::NotCanonical { field: "checkpoint", expected: "a note of at most 1,024 bytes, in UTF-8" };
    let bytes = reader.rest();
    if bytes.len() > CHECKPOINT_BYTES_MAX {
        return Err(wrong);
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| wrong)
}

fn path_bytes(path: &[Digest]) -> Vec<u8> {
    let mut out = alloc::vec![path.len() as u8];
    path.iter().for_each(|hash| out.extend(hash.0));
    out
}

fn read_path(reader: &mut Reader<'_>) -> Result<Vec<Digest>, DecodeError> {
    let count = reader.u8("hashes")?;
    if count > PATH_MAX {
        return Err(DecodeError::NotCanonical { field: "hashes", expected: "at most 64" });
    }
    (0..count).map(|_| reader.digest("hash")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Export {
        let list = |byte: u8| List::from([(LeafIndex(0), alloc::vec![byte; 3]), (LeafIndex(2), Vec::new())]);
        let inclusion = Inclusion { leaf: 5, path: alloc::vec![Digest([1; 32]), Digest([2; 32])] };
        Export {
            header: alloc::vec![7; HEADER_BYTES],
            revocations: Vec::new(),
            roster: alloc::vec![1; 9],
            leaves: list(1),
            shares: list(2),
            acknowledgements: list(3),
            openings: List::new(),
            core: alloc::vec![4; 3],
            uploads: list(5),
            survivors: alloc::vec![6; 2],
            confirms: list(7),
            result: alloc::vec![8],
            evidence: alloc::vec![
                Named { phase: 1, client: ClientId([1; 16]), rule: 38, evidence: alloc::vec![1] },
                Named { phase: 1, client: ClientId([2; 16]), rule: 13, evidence: alloc::vec![] },
            ],
            ledger: alloc::vec![
                Counted { header: alloc::vec![9; HEADER_BYTES], lapse: None },
                Counted {
                    header: alloc::vec![9; HEADER_BYTES],
                    lapse: Some(Lapse { salt: [3; 32], at: inclusion.clone() }),
                },
            ],
            salt: [4; 32],
            checkpoint: "note\n".to_string(),
            log: alloc::vec![inclusion.clone(), inclusion],
            growth: alloc::vec![Digest([5; 32])],
        }
    }

    /// Where each section stands in the file, its head included.
    fn places(export: &Export) -> Vec<(Section, core::ops::Range<usize>)> {
        let mut at = beginning().len();
        let place = |section: Section| {
            let range = at..at + 5 + export.section(section).len();
            at = range.end;
            (section, range)
        };
        let mut places = alloc::vec![(Section::Beginning, 0..beginning().len())];
        places.extend(Section::ALL.into_iter().map(place));
        places
    }

    #[test]
    fn an_export_survives_its_file() {
        let export = small();
        let bytes = export.encode();
        assert_eq!(Export::decode(&bytes), Ok(export.clone()));
        assert_eq!(places(&export).last().map(|(_, range)| range.end), Some(bytes.len()));
        assert_eq!(&bytes[..19], b"\x10veilsum/1/export\x01\x00");
    }

    /// A file that cannot be followed names the section whose head is wrong; one that can be followed reads as something else.
    #[test]
    fn a_changed_head_is_named() {
        let export = small();
        let bytes = export.encode();
        for (section, range) in places(&export) {
            let head = if section == Section::Beginning { range } else { range.start..range.start + 5 };
            for at in head {
                for bit in 0..8 {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1 << bit;
                    let error = Export::decode(&changed).expect_err("a head that was changed");
                    assert_eq!(error.section, section, "byte {at}, bit {bit}: {error}");
                }
            }
        }
    }

    #[test]
    fn files_that_were_cut_lengthened_or_reordered_are_refused_in_words() {
        let export = small();
        let bytes = export.encode();
        for cut in 0..bytes.len() {
            let error = Export::decode(&bytes[..cut]).expect_err("a file that was cut");
            assert!(error.why.len() > 10, "{error}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Export::decode(&longer).expect_err("longer").section, Section::Growth);
        let twice = [bytes.as_slice(), &bytes].concat();
        assert!(Export::decode(&twice).is_err());
        let places = places(&export);
        for window in places[1..].windows(2) {
            let [(first, one), (_, two)] = window else { unreachable!() };
            let swapped = [&bytes[..one.start], &bytes[two.clone()], &bytes[one.clone()], &bytes[two.end..]].concat();
            assert_eq!(Export::decode(&swapped).expect_err("reordered").section, *first);
            let without = [&bytes[..one.start], &bytes[one.end..]].concat();
            assert!(Export::decode(&without).is_err(), "without {first}");
        }
    }

    #[test]
    fn counts_are_bounded_and_allocate_nothing() {
        let mut export = small();
        export.leaves = List::new();
        let bytes = export.encode();
        let (_, leaves) =
            places(&export).into_iter().find(|(section, _)| *section == Section::Leaves).expect("it is there");
        let mut many = bytes.clone();
        many[leaves.start + 5..leaves.start + 9].fill(0xff);
        assert_eq!(Export::decode(&many).expect_err("4 billion leaves").section, Section::Leaves);
    }
}
