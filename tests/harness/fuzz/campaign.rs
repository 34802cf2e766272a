//! The portable driver: inputs from the corpus, bytes changed by chance, so many executions, from one seed.
//!
//! It knows nothing of coverage: what libFuzzer finds with it stands in the corpus, from which this one starts. It runs
//! wherever the tests run, and the same seed does the same.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand_core::Rng as _;
use veilsum_crypto::testing::SeededRng;

use super::Target;

/// Inputs grow no longer than this.
const BYTES_MAX: usize = 16 << 10;

/// Where the corpus of a target lies.
pub fn corpus_folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
}

/// The corpus on disk, in the order of its names; then the seeds.
///
/// # Errors
/// What the system said of a folder or file that cannot be read. A target without a folder has only seeds.
pub fn corpus(target: &Target) -> std::io::Result<Vec<Vec<u8>>> {
    let folder = corpus_folder(target);
    let mut paths: Vec<PathBuf> = Vec::new();
    if folder.is_dir() {
        for entry in std::fs::read_dir(&folder)? {
            paths.push(entry?.path());
        }
    }
    paths.sort();
    let mut inputs = paths.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    inputs.extend((target.seeds)());
    Ok(inputs)
}

/// What was executed, and the slowest of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many times the target ran.
    pub executions: u64,
    /// Inputs that it started from.
    pub corpus: usize,
    /// In all.
    pub elapsed: Duration,
    /// The longest single execution, and its input: a decoder that can be kept busy is a finding too.
    pub slowest: (Duration, Vec<u8>),
}

/// An input that made a target panic.
#[derive(Clone, Debug)]
pub struct Crash {
    /// Which target.
    pub target: &'static str,
    /// The input.
    pub input: Vec<u8>,
    /// The panic's words.
    pub message: String,
}

/// One execution.
pub fn execute(target: &Target, input: &[u8]) -> Result<(), Crash> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        Crash { target: target.name, input: input.to_vec(), message: text }
    })
}

/// The corpus as it stands, then changed inputs until there were `executions`.
///
/// # Errors
/// The first [`Crash`].
pub fn run(
    target: &Target,
    corpus: &[Vec<u8>],
    executions: u64,
    seed: u64,
    mut progress: impl FnMut(&Tally),
) -> Result<Tally, Crash> {
    let mut tally = Tally { corpus: corpus.len(), ..Tally::default() };
    let (mut chance, start) = (Chance(SeededRng::new(seed, 0xf0)), Instant::now());
    let mut told = Instant::now();
    while tally.executions < executions {
        let input = match usize::try_from(tally.executions).ok().and_then(|number| corpus.get(number)) {
            Some(untouched) => untouched.clone(),
            None => chance.mutate(corpus, target.words),
        };
        let begun = Instant::now();
        execute(target, &input)?;
        let took = begun.elapsed();
        tally.executions += 1;
        if took > tally.slowest.0 && tally.executions > 1 {
            tally.slowest = (took, input); // the first builds what all stand on
        }
        if told.elapsed() > Duration::from_secs(5) {
            tally.elapsed = start.elapsed();
            progress(&tally);
            told = Instant::now();
        }
    }
    tally.elapsed = start.elapsed();
    (target.finish)();
    Ok(tally)
}

/// Writes the input of a crash where it can be found.
///
/// # Errors
/// What the system said.
pub fn keep(crash: &Crash, folder: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let digest = crate::world::sha256(&crash.input).to_string();
    let path = folder.join(format!("crash-{}-{}", crash.target, &digest[..16]));
    std::fs::write(&path, &crash.input)?;
    Ok(path)
}

struct Chance(SeededRng);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit.max(1) as u64) as usize
    }

    /// One input of the corpus with one to eight changes, now and then something that never was one.
    fn mutate(&mut self, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
        let mut bytes = match self.below(50) {
            0 => self.random(),
            _ => corpus.get(self.below(corpus.len())).cloned().unwrap_or_default(),
        };
        for _ in 0..1 << self.below(4) {
            self.change(&mut bytes, corpus, words);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn random(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << self.below(11)];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str]) {
        let at = self.below(bytes.len() + 1);
        // Inputs are programs: their beginning decides most.
        let at = if self.below(3) == 0 { at.min(self.below(16)) } else { at };
        match self.below(10) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (self.0.next_u32() % 8);
                }
            }
            2 | 3 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.0.next_u32() as u8;
                }
            }
            4 => {
                let new = self.0.next_u64().to_le_bytes();
                let len = 1 + self.below(8);
                bytes.splice(at..at, new[..len].iter().copied());
            }
            5 => {
                let end = (at + 1 + self.below(32)).min(bytes.len());
                bytes.drain(at..end);
            }
            6 => {
                let value = [0, 1, 0x7f, 0x80, 0xff, u32::from(u16::MAX), u32::MAX, 1 << 31][self.below(8)];
                let new = value.to_le_bytes();
                for (byte, new) in bytes.iter_mut().skip(at).zip(new) {
                    *byte = new;
                }
            }
            7 => {
                let from = self.below(bytes.len() + 1);
                let copied = bytes[from..(from + self.below(64)).min(bytes.len())].to_vec();
                bytes.splice(at..at, copied);
            }
            8 => {
                if let Some(other) = corpus.get(self.below(corpus.len())) {
                    let from = self.below(other.len() + 1);
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
            }
            _ => {
                let word = words.get(self.below(words.len())).copied().unwrap_or_default();
                let end = (at + word.len() * self.below(2)).min(bytes.len());
                bytes.splice(at..end, word.bytes());
            }
        }
    }
}
