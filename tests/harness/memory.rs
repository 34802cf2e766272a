//! Looks for known secrets in the memory of a running process. Attack E12 of the catalogue. Linux only.
//!
//! `journal` says what the secrets are; `play` runs the programs, and looks at them while they hold them and afterwards.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

mod journal;
mod play;

pub use journal::{Journal, round_key};
pub use play::{Scans, e12};

/// The update of client `number` at a coordinate: a number that stands nowhere else.
pub fn value_at(number: usize, at: usize) -> f32 {
    0.031_25 + number as f32 / 256.0 + at as f32 / 65_536.0
}

/// Bytes that must not be found, and what they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secret {
    /// For people: `s of 3`.
    pub name: String,
    /// At least sixteen bytes.
    pub bytes: Vec<u8>,
}

impl Secret {
    /// A secret of this name.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }
}

/// Every secret of a client that its journals ever led to, by name: what a later journal no longer holds included.
#[derive(Clone, Debug, Default)]
pub struct Known(BTreeMap<String, Secret>);

impl Known {
    /// Adds what follows from a journal of client `owner`.
    pub fn learn(&mut self, journal: &Journal, owner: usize) {
        self.0.extend(journal.secrets(owner).into_iter().map(|secret| (secret.name.clone(), secret)));
    }

    /// All of them.
    pub fn secrets(&self) -> Vec<Secret> {
        self.0.values().cloned().collect()
    }
}

/// Where a secret was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The address.
    pub address: u64,
    /// `[heap]`, `[stack]`, a file, or `anonymous` (heaps of threads, their stacks).
    pub mapping: String,
    /// The bytes before, for who looks for the cause.
    pub before: Vec<u8>,
}

/// What one scan saw.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Found {
    /// Bytes looked through.
    pub scanned_bytes: u64,
    /// Secrets looked for.
    pub secrets: usize,
    /// Where each that was found stands.
    pub hits: BTreeMap<String, Vec<Hit>>,
}

impl Found {
    /// Names of what was found, each with how often.
    pub fn names(&self) -> Vec<String> {
        self.hits.iter().map(|(name, hits)| format!("{name} ({} times)", hits.len())).collect()
    }
}

/// Sixteen bytes of a secret are enough: a copy that was half overwritten counts.
const NEEDLE_BYTES: usize = 16;
const CHUNK_BYTES: usize = 1 << 20;

/// Looks through every writable mapping of a process.
///
/// # Errors
/// What the system said; among others if the process may not be looked at.
pub fn scan(pid: u32, secrets: &[Secret]) -> io::Result<Found> {
    let needles = Needles::new(secrets);
    let mut found = Found { secrets: secrets.len(), ..Found::default() };
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    for line in std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(permissions)) = (fields.next(), fields.next()) else { continue };
        let mapping = fields.nth(3).unwrap_or("anonymous").to_string();
        if !permissions.starts_with("rw") || mapping.starts_with("[v") {
            continue;
        }
        let Some((from, to)) = range.split_once('-') else { continue };
        let address = |text| u64::from_str_radix(text, 16).map_err(io::Error::other);
        found.scanned_bytes += scan_range(&memory, address(from)?, address(to)?, &needles, |name, address, before| {
            let hit = Hit { address, mapping: mapping.clone(), before: before.to_vec() };
            found.hits.entry(name.to_string()).or_default().push(hit);
        });
    }
    Ok(found)
}

fn scan_range(memory: &File, from: u64, to: u64, needles: &Needles, mut hit: impl FnMut(&str, u64, &[u8])) -> u64 {
    let mut chunk = vec![0; CHUNK_BYTES + NEEDLE_BYTES];
    let (mut at, mut scanned) = (from, 0);
    while at < to {
        let len = chunk.len().min((to - at) as usize);
        // A page may be gone by now, or was never there.
        let Ok(read) = memory.read_at(&mut chunk[..len], at) else { return scanned };
        if read == 0 {
            return scanned;
        }
        needles.find(&chunk[..read], |name, offset| {
            if offset < CHUNK_BYTES {
                hit(name, at + offset as u64, &chunk[offset.saturating_sub(32)..offset]);
            }
        });
        let step = read.min(CHUNK_BYTES) as u64;
        (at, scanned) = (at + step, scanned + step);
    }
    scanned
}

/// Both halves of each secret, by their first two bytes.
struct Needles<'a> {
    by_start: BTreeMap<[u8; 2], Vec<(&'a str, &'a [u8])>>,
    starts: Vec<bool>,
}

impl<'a> Needles<'a> {
    fn new(secrets: &'a [Secret]) -> Self {
        let mut by_start: BTreeMap<[u8; 2], Vec<(&str, &[u8])>> = BTreeMap::new();
        let mut starts = vec![false; 1 << 16];
        for Secret { name, bytes } in secrets {
            assert!(bytes.len() >= NEEDLE_BYTES, "{name} is too short to be looked for");
            for half in [&bytes[..NEEDLE_BYTES], &bytes[bytes.len() - NEEDLE_BYTES..]] {
                assert!(half.iter().any(|byte| *byte != half[0]), "{name} would be found everywhere");
                let start = [half[0], half[1]];
                by_start.entry(start).or_default().push((name, half));
                starts[usize::from(u16::from_le_bytes(start))] = true;
            }
        }
        Self { by_start, starts }
    }

    fn find(&self, bytes: &[u8], mut found: impl FnMut(&'a str, usize)) {
        for (offset, window) in bytes.windows(NEEDLE_BYTES).enumerate() {
            let start = [window[0], window[1]];
            if !self.starts[usize::from(u16::from_le_bytes(start))] {
                continue;
            }
            for (name, half) in &self.by_start[&start] {
                if window == *half {
                    found(name, offset);
                }
            }
        }
    }
}
