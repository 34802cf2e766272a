//! The demo's text: found on disk, a tenth held out, the rest dealt to the clients.
//!
//! Everything follows from the folder's content and a seed: files are taken in the order of their paths, and no
//! choice looks at a clock or at the order in which the file system lists them. [`Corpus::digest`] names the text in
//! reports.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use veilsum_client::training::sgd::SplitMix64;

/// Folders that never hold a person's text.
const SKIPPED_FOLDERS: [&str; 2] = ["target", "node_modules"];
/// The project's own text is what people wrote: no tables of numbers, no lock file.
const PROJECT_EXTENSIONS: [&str; 5] = ["md", "rs", "sql", "toml", "txt"];
/// Enough of a file to tell whether it is text.
const SNIFFED_BYTES: u64 = 64 * 1024;
/// A file above this size must look like text from its start before the rest is read.
const LARGE_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Most that the demo holds in memory.
const CORPUS_MAX_BYTES: usize = 256 * 1024 * 1024;
/// The loss is taken over the held-out text after every round: more would cost time and change nothing.
const HELD_OUT_MAX_BYTES: usize = 512 * 1024;
/// A tenth of fewer files is a handful, and one odd file among them would decide the loss.
const WHOLE_FILES_MIN: usize = 50;
/// Less than this on average teaches a client nothing.
const CLIENT_MEAN_MIN_BYTES: usize = 128;
/// Below this much text the margin over the unigram is thin.
const THIN_BELOW_BYTES: usize = 500_000;

/// Text, dealt.
pub struct Corpus {
    /// One text for each client, none empty.
    pub clients: Vec<Vec<u8>>,
    /// Belongs to nobody; losses are taken on it.
    pub held_out: Vec<u8>,
    /// Bytes in all, clients' and held out.
    pub bytes: usize,
    /// Files that were read as text.
    pub files: usize,
    /// Lower-case hex SHA-256 over, for each file in order, `u64 path_len, path, u64 bytes, bytes` (little-endian).
    pub digest: String,
    /// What to tell the person before training, if anything.
    pub warning: Option<String>,
}

/// How a text is dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deal {
    /// Number of clients, at least 1.
    pub clients: usize,
    /// Chooses what is held out.
    pub seed: u64,
}

impl Corpus {
    /// Deals the text files below `folder`. Hidden files, links, `target` and `node_modules` are passed over, and so
    /// is what is not text.
    ///
    /// # Errors
    ///
    /// If `folder` is no folder, cannot be read, holds no text, or too little or too much of it. The message says what
    /// was expected, what came and what to do.
    pub fn from_folder(folder: &Path, deal: Deal) -> Result<Self> {
        let found = Found::below(folder, None)?;
        Self::deal(found.text_in(folder)?, deal)
    }

    /// Deals the project's own documents and sources, as they are in the clone that this program was built from.
    ///
    /// # Errors
    ///
    /// If the clone is gone, and as [`Corpus::from_folder`].
    pub fn from_project(deal: Deal) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        ensure!(
            root.join("Cargo.toml").is_file(),
            "the demo trains on the project's own sources, expected at {}, where they were when this program was \
             built, but they are not there; pass a folder with text of your own: --data DIR",
            root.display()
        );
        let found = Found::below(&root, Some(&PROJECT_EXTENSIONS))?;
        Self::deal(found.text_in(&root)?, deal)
    }

    /// Deals `files`, which must be in a fixed order.
    fn deal(files: Vec<TextFile>, deal: Deal) -> Result<Self> {
        let bytes: usize = files.iter().map(|file| file.bytes.len()).sum();
        let needed = deal.clients.saturating_mul(CLIENT_MEAN_MIN_BYTES * 10 / 9);
        ensure!(deal.clients > 0, "the demo needs at least one client, got 0; pass a larger --clients");
        ensure!(
            bytes >= needed,
            "the text is too small: expected at least {needed} bytes for {} clients, found {bytes} in {} files; add \
             text (the demo learns well from 500 kB) or pass fewer --clients",
            deal.clients,
            files.len(),
        );
        let (count, digest) = (files.len(), digest(&files));
        let split = hold_out(files, &mut SplitMix64::new(deal.seed));
        Ok(Self {
            clients: deal_by_size(split.pieces, deal.clients),
            held_out: split.held_out,
            bytes,
            files: count,
            digest,
            warning: (bytes < THIN_BELOW_BYTES).then(|| {
                format!(
                    "only {bytes} bytes of text: below {THIN_BELOW_BYTES} the model beats byte frequencies by little"
                )
            }),
        })
    }
}

/// A file that was read and is text.
struct TextFile {
    /// Relative to the folder, with `/` between its parts on every platform.
    path: String,
    bytes: Vec<u8>,
}

/// Ordinary files below a folder.
struct Found {
    paths: Vec<PathBuf>,
}

impl Found {
    fn below(folder: &Path, extensions: Option<&[&str]>) -> Result<Self> {
        let shown = folder.display();
        let metadata = fs::metadata(folder).with_context(|| {
            format!("expected a folder with text at {shown}, but it cannot be read; check the path given to --data")
        })?;
        ensure!(
            metadata.is_dir(),
            "expected a folder with text, but {shown} is a file; pass the folder it is in: --data DIR"
        );
        let mut paths = Vec::new();
        collect(folder, extensions, &mut paths)?;
        Ok(Self { paths })
    }

    /// Reads those that are text, ordered by path.
    fn text_in(self, folder: &Path) -> Result<Vec<TextFile>> {
        let candidates = self.paths.len();
        let (mut files, mut bytes) = (Vec::new(), 0);
        for path in self.paths {
            let Some(text) = read_text(&path)? else {
                continue;
            };
            bytes += text.len();
            ensure!(
                bytes <= CORPUS_MAX_BYTES,
                "{} holds too much text: expected at most {CORPUS_MAX_BYTES} bytes, and {} goes beyond; pass a \
                 smaller folder: --data DIR",
                folder.display(),
                path.display(),
            );
            files.push(TextFile { path: portable(path.strip_prefix(folder).unwrap_or(&path)), bytes: text });
        }
        if files.is_empty() {
            let came = match candidates {
                0 => "it holds no files (hidden ones do not count)".to_owned(),
                some => format!("none of its {some} files is text in an alphabet close to ASCII"),
            };
            let shown = folder.display();
            bail!(
                "expected text files in {shown}, but {came}; pass a folder with .txt, .md or source files: --data DIR"
            );
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

fn collect(folder: &Path, extensions: Option<&[&str]>, paths: &mut Vec<PathBuf>) -> Result<()> {
    let reading = || format!("cannot list the folder {}; check its permissions", folder.display());
    for entry in fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let (name, kind) = (entry.file_name(), entry.file_type().with_context(reading)?);
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() && !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
            collect(&entry.path(), extensions, paths)?;
        } else if kind.is_file() {
            let path = entry.path();
            let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
            if extensions.is_none_or(|wanted| wanted.contains(&extension)) {
                paths.push(path);
            }
        } // a link is passed over: it may lead in a circle, or out of the folder
    }
    Ok(())
}

fn portable(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(OsStr::to_string_lossy).collect();
    parts.join("/")
}

/// The file's bytes, or `None` if it is empty or not text.
fn read_text(path: &Path) -> Result<Option<Vec<u8>>> {
    let reading = || format!("cannot read {}; make it readable or move it away", path.display());
    let mut file = fs::File::open(path).with_context(reading)?;
    let size = file.metadata().with_context(reading)?.len();
    let mut bytes = Vec::new();
    if size > LARGE_FILE_BYTES {
        file.by_ref().take(SNIFFED_BYTES).read_to_end(&mut bytes).with_context(reading)?;
        if !is_text(&bytes) {
            return Ok(None);
        }
    }
    file.take(CORPUS_MAX_BYTES as u64).read_to_end(&mut bytes).with_context(reading)?;
    Ok(is_text(&bytes).then_some(bytes))
}

/// At least three quarters printable ASCII or white space, and no NUL. This admits UTF-8 and Latin-1 in European
/// languages; what the model's alphabet does not know at all (another script, random bytes) it could only refuse.
fn is_text(bytes: &[u8]) -> bool {
    let known = bytes.iter().filter(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t' | b'\r'));
    !bytes.is_empty() && !bytes.contains(&0) && 4 * known.count() >= 3 * bytes.len()
}

fn digest(files: &[TextFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        for part in [file.path.as_bytes(), &file.bytes] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hex::encode(hash.finalize())
}

/// What is dealt and what belongs to nobody.
struct Split {
    pieces: Vec<Vec<u8>>,
    held_out: Vec<u8>,
}

/// Holds out a tenth of the text: whole files in a seeded order, or, where the files are too few or too unequal for
/// that, one contiguous tenth of each (an easier test, because clients hold the rest of the same files).
fn hold_out(files: Vec<TextFile>, rng: &mut SplitMix64) -> Split {
    let texts: Vec<Vec<u8>> = files.into_iter().map(|file| file.bytes).collect();
    let tenth = (texts.iter().map(Vec::len).sum::<usize>() / 10).min(HELD_OUT_MAX_BYTES);
    let mut order: Vec<usize> = (0..texts.len()).collect();
    rng.shuffle(&mut order);
    let (mut chosen, mut bytes) = (vec![false; texts.len()], 0);
    for index in order {
        if bytes + texts[index].len() <= tenth {
            chosen[index] = true;
            bytes += texts[index].len();
        }
        if 10 * bytes >= 9 * tenth {
            break;
        }
    }
    if texts.len() < WHOLE_FILES_MIN || 2 * bytes < tenth {
        return cut_tenths(texts, tenth, rng);
    }
    let mut split = Split { pieces: Vec::new(), held_out: Vec::with_capacity(bytes) };
    for (text, is_held_out) in texts.into_iter().zip(chosen) {
        if is_held_out { split.held_out.extend(text) } else { split.pieces.push(text) }
    }
    split
}

/// From every text one contiguous share at a seeded place, `tenth` bytes in all or a little more.
fn cut_tenths(texts: Vec<Vec<u8>>, tenth: usize, rng: &mut SplitMix64) -> Split {
    let total: usize = texts.iter().map(Vec::len).sum();
    let mut split = Split { pieces: Vec::new(), held_out: Vec::new() };
    for mut text in texts {
        let share = (text.len() as u128 * tenth as u128).div_ceil(total as u128) as usize;
        let after = text.split_off(rng.below(text.len() - share + 1) + share);
        split.held_out.extend(text.split_off(text.len() - share));
        split.pieces.extend([text, after].into_iter().filter(|piece| !piece.is_empty()));
    }
    split
}

/// Largest first, each to the client with the least so far. What is larger than a client's fair share is halved
/// before, so that there are at least as many pieces as clients and nobody is left with crumbs.
fn deal_by_size(mut pieces: Vec<Vec<u8>>, clients: usize) -> Vec<Vec<u8>> {
    let fair_share = pieces.iter().map(Vec::len).sum::<usize>().div_ceil(clients);
    let mut next = 0;
    while let Some(piece) = pieces.get_mut(next) {
        if piece.len() > fair_share {
            let half = piece.split_off(piece.len() / 2);
            pieces.push(half);
        } else {
            next += 1;
        }
    }
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len())); // stable: equal sizes stay in order of path
    let mut dealt = vec![Vec::new(); clients];
    for piece in pieces {
        let least = dealt.iter_mut().min_by_key(|client| client.len());
        least.expect("there is a client").extend(piece);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAL: Deal = Deal { clients: 8, seed: 1 };

    /// Files of different sizes, each of its own letter, so that a byte tells where it came from.
    fn files(sizes: &[usize]) -> Vec<TextFile> {
        let file = |(letter, &size): (u8, &usize)| TextFile {
            path: format!("{}.txt", char::from(letter)),
            bytes: vec![letter; size],
        };
        (b'0'..).zip(sizes).map(file).collect()
    }

    fn sizes_by_letter(corpus: &Corpus) -> Vec<usize> {
        let all = corpus.clients.iter().chain([&corpus.held_out]).flatten();
        let mut sizes = vec![0; 60];
        all.for_each(|&letter| sizes[usize::from(letter - b'0')] += 1);
        sizes.into_iter().filter(|&size| size > 0).collect()
    }

    fn refusal(folder: &Path) -> String {
        let refused = Corpus::from_folder(folder, DEAL).err().expect("refused");
        format!("{refused:#}")
    }

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder can be made")
    }

    fn write(folder: &Path, path: &str, bytes: &[u8]) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder can be made");
        fs::write(path, bytes).expect("a file can be written");
    }

    #[test]
    fn every_byte_is_dealt_once_and_a_tenth_is_held_out() {
        let many: Vec<usize> = (0..60).map(|i| 200 + 40 * i).collect();
        for sizes in [many.as_slice(), &many[..20], &[9000], &[5000, 100, 30, 1]] {
            let corpus = Corpus::deal(files(sizes), DEAL).expect("enough text");
            assert_eq!(sizes_by_letter(&corpus), sizes);
            let total: usize = sizes.iter().sum();
            assert!((total / 20..=total / 9).contains(&corpus.held_out.len()), "{sizes:?}");
            assert_eq!((corpus.bytes, corpus.files, corpus.clients.len()), (total, sizes.len(), 8));
            let least = corpus.clients.iter().map(Vec::len).min().expect("eight clients");
            assert!(least >= total / 8 / 3, "{sizes:?}: {least}");
        }
    }

    #[test]
    fn whole_files_are_held_out_where_there_are_enough() {
        let corpus = Corpus::deal(files(&[300; 60]), DEAL).expect("enough text");
        assert_eq!(corpus.held_out.len(), 6 * 300);
        assert!(corpus.clients.iter().flatten().all(|letter| !corpus.held_out.contains(letter)));
    }

    #[test]
    fn clients_get_equal_amounts() {
        let pieces = files(&[700, 600, 500, 400, 400, 300, 200, 100]).into_iter().map(|f| f.bytes);
        let dealt = deal_by_size(pieces.collect(), 4);
        assert_eq!(dealt.iter().map(Vec::len).collect::<Vec<_>>(), [800; 4]);
    }

    #[test]
    fn the_deal_follows_from_content_and_seed() {
        let deal = |seed| {
            let corpus = Corpus::deal(files(&[300; 60]), Deal { seed, ..DEAL }).expect("enough text");
            (corpus.digest, corpus.held_out, corpus.clients)
        };
        assert_eq!(deal(1), deal(1));
        assert_ne!(deal(1).1, deal(2).1);
        assert_eq!(deal(1).0, deal(2).0); // the digest names the text, not the deal
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_paths_without_what_is_no_text() {
        let (one, two) = (temporary(), temporary());
        let texts = [("b/z.md", "zz\n"), ("a.txt", "aa\n"), ("b.rs", "fn\n")];
        for (path, text) in texts {
            write(one.path(), path, text.repeat(300).as_bytes());
        }
        for (path, text) in texts.iter().rev() {
            write(two.path(), path, text.repeat(300).as_bytes());
        }
        for skipped in [".git/config", ".hidden", "target/debug/x.txt", "b/node_modules/x.js"] {
            write(two.path(), skipped, b"skipped");
        }
        write(two.path(), "picture.png", &[0x89, b'P', 0, 0xff]);
        write(two.path(), "empty.txt", b"");
        write(two.path(), "russian.txt", "\u{434}\u{430}".repeat(99).as_bytes());
        let [one, two] =
            [one, two].map(|folder| Corpus::from_folder(folder.path(), Deal { clients: 3, seed: 1 }).expect("text"));
        assert_eq!((one.files, one.digest, one.clients), (3, two.digest, two.clients));
    }

    #[test]
    fn large_text_is_read_and_a_large_binary_is_not() {
        let folder = temporary();
        let large = usize::try_from(LARGE_FILE_BYTES).expect("fits") + 10;
        write(folder.path(), "a.txt", &vec![b'a'; large]);
        write(folder.path(), "b.bin", &vec![0xff; large]);
        let corpus = Corpus::from_folder(folder.path(), DEAL).expect("there is text");
        assert_eq!((corpus.files, corpus.bytes), (1, large));
        assert!(corpus.warning.is_none() && corpus.held_out.len() <= HELD_OUT_MAX_BYTES + 1);
    }

    #[test]
    fn refusals_say_what_came_and_what_to_do() {
        let folder = temporary();
        assert!(refusal(folder.path()).contains("holds no files"), "{}", refusal(folder.path()));
        write(folder.path(), "a.bin", &[0; 100]);
        assert!(refusal(folder.path()).contains("none of its 1 files is text"));
        write(folder.path(), "a.txt", b"short");
        assert!(refusal(folder.path()).contains("found 5 in 1 files"));
        assert!(refusal(&folder.path().join("a.txt")).contains("is a file"));
        assert!(refusal(&folder.path().join("none")).contains("check the path given to --data"));
        let nobody = Corpus::deal(files(&[900]), Deal { clients: 0, seed: 1 });
        assert!(nobody.is_err());
    }

    #[test]
    fn little_text_comes_with_a_warning() {
        let corpus = Corpus::deal(files(&[9000]), DEAL).expect("enough text");
        assert!(corpus.warning.is_some_and(|warning| warning.contains("9000 bytes")));
    }
}
