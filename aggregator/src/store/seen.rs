//! What a replica has seen of the log, kept on its own disk: a database that was restored from an older backup, or is another
//! one, then shows, and nothing is signed over it that contradicts what was signed before. §9
//!
//! In: heads of the log and the leaves between them, as the database has them. Out: whether they extend what was seen; the
//! newest of them, in one small file for each aggregator key, written atomically. `sql/log.rs` asks, at the start, with every
//! append, and before anything that was fixed is handed out to be signed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use veilsum_crypto::ids::{Digest, Party};
use veilsum_crypto::primitives::merkle::Frontier;

use super::{LogHead, StoreError};

/// First word of the file: its form.
const FORM: &str = "veilsum-log-1";

/// The newest head that this replica has seen, in memory and in its file.
#[derive(Debug)]
pub struct SeenLog {
    path: PathBuf,
    aggregator: Party,
    writes: bool,
    state: Mutex<State>,
    /// One writer at a time.
    file: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Of the newest head; empty before the first look.
    frontier: Frontier,
    /// What contradicts it, as it was last found.
    contradicted: Option<LogHead>,
}

impl SeenLog {
    /// In this folder, of the log of this aggregator.
    pub fn in_folder(folder: &Path, aggregator: Party) -> Self {
        let path = folder.join(format!("log-{aggregator}"));
        Self { path, aggregator, writes: true, state: Mutex::default(), file: Mutex::default() }
    }

    /// The same, changing no file: for a look before the start.
    pub fn only_looking(self) -> Self {
        Self { writes: false, ..self }
    }

    /// What the file says; `None` where there is none yet.
    ///
    /// # Errors
    /// [`StoreError::Record`] if it cannot be read, or holds something else.
    pub(super) fn read(&self) -> Result<Option<LogHead>, StoreError> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        let form = "three words were expected: the form, the number of entries, their root";
        self.parse(&text).map(Some).ok_or_else(|| self.unusable(&form))
    }

    fn parse(&self, text: &str) -> Option<LogHead> {
        let mut words = text.split_whitespace();
        let form = words.next()? == FORM;
        let head = LogHead { size: words.next()?.parse().ok()?, root: Digest::from_hex(words.next()?)? };
        (form && words.next().is_none()).then_some(head)
    }

    /// Where what was seen ends.
    pub(super) fn frontier(&self) -> Frontier {
        self.state.lock().expect("no panic holds this lock").frontier.clone()
    }

    /// Takes a head up that extends what was seen.
    ///
    /// # Errors
    /// [`StoreError::Record`] if the file cannot be written.
    pub(super) fn advance(&self, to: Frontier) -> Result<(), StoreError> {
        let head = LogHead { size: to.size(), root: to.root() };
        {
            let mut state = self.state.lock().expect("no panic holds this lock");
            state.contradicted = None;
            if state.frontier.size() >= to.size() {
                return Ok(());
            }
        }
        // The file first: what is in memory is what may be signed.
        if self.writes {
            let _alone = self.file.lock().expect("no panic holds this lock");
            self.write(&head).map_err(|error| self.unusable(&error))?;
        }
        let mut state = self.state.lock().expect("no panic holds this lock");
        if state.frontier.size() < to.size() {
            state.frontier = to;
        }
        Ok(())
    }

    /// What was expected and what came, in words; noted, so that nothing is written meanwhile.
    pub(super) fn contradicted(&self, expected: LogHead, came: LogHead) -> StoreError {
        self.state.lock().expect("no panic holds this lock").contradicted = Some(came);
        self.other_log(expected, came)
    }

    /// The contradiction that was found last, if it was not found to be over since.
    pub(super) fn standing_contradiction(&self) -> Option<StoreError> {
        let state = self.state.lock().expect("no panic holds this lock");
        let seen = LogHead { size: state.frontier.size(), root: state.frontier.root() };
        state.contradicted.map(|came| self.other_log(seen, came))
    }

    fn other_log(&self, expected: LogHead, came: LogHead) -> StoreError {
        let in_words = |head: LogHead| format!("{} entries with root {}", head.size, head.root);
        let path = self.path.display().to_string();
        StoreError::OtherLog { expected: in_words(expected), came: in_words(came), path }
    }

    fn unusable(&self, why: &dyn std::fmt::Display) -> StoreError {
        StoreError::Record { path: self.path.display().to_string(), why: why.to_string() }
    }

    /// Whole or not at all. A replica beside this one, with the same folder, may have seen more.
    fn write(&self, head: &LogHead) -> std::io::Result<()> {
        let newer = |text: String| self.parse(&text).is_some_and(|there| there.size >= head.size);
        if std::fs::read_to_string(&self.path).is_ok_and(newer) {
            return Ok(());
        }
        let new = self.path.with_file_name(format!("log-{}.{}.new", self.aggregator, std::process::id()));
        let mut file = std::fs::File::create(&new)?;
        writeln!(file, "{FORM} {} {}", head.size, head.root)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use veilsum_crypto::primitives::merkle::leaf_hash;

    use super::*;

    fn grown(leaves: u8) -> Frontier {
        let mut frontier = Frontier::default();
        (0..leaves).for_each(|leaf| frontier.push(leaf_hash(&[&[leaf]])));
        frontier
    }

    #[test]
    fn the_newest_head_is_kept_and_an_older_one_does_not_replace_it() {
        let folder = std::env::temp_dir().join(format!("veilsum-seen-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("room");
        let seen = |party: u8| SeenLog::in_folder(&folder, Party([party; 16]));
        let log = seen(1);
        assert_eq!(log.read().expect("nothing is wrong"), None);
        log.advance(grown(3)).expect("room");
        log.advance(grown(2)).expect("room");
        seen(1).advance(grown(2)).expect("room"); // another process, which has seen less
        let head = LogHead { size: 3, root: grown(3).root() };
        assert_eq!(seen(1).read().expect("it was written"), Some(head));
        assert_eq!(seen(2).read().expect("another key, another file"), None);
        seen(1).only_looking().advance(grown(9)).expect("nothing to do");
        assert_eq!(seen(1).read().expect("it was written"), Some(head));
        std::fs::write(&log.path, "veilsum-log-1 3").expect("room");
        assert!(matches!(log.read(), Err(StoreError::Record { .. })), "a torn file is not taken for none");
        std::fs::remove_dir_all(&folder).expect("ours");
    }
}
