//! The journal on disk: one sealed file, replaced whole, held by one process. Protocol §4.5, R-03
//!
//! ```text
//! file      = nonce[12], AES-256-GCM ciphertext, tag[16]        under the identity's saving key
//! plaintext = "veilsum state v1"[16], u32 length, header, u32 length, roster, sealed phase (crypto/client/saved)
//! ```
//! Header and roster stand beside the phase as they were served: after a restart the driver finds its round by them.
//! The file beside it, `<file>.lock`, is locked while a process holds the identity; it is empty and stays.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};
use veilsum_crypto::client::Sealed;
use veilsum_crypto::primitives::codec::{DecodeError, Reader, write_prefixed};
use veilsum_crypto::primitives::seal::SavingKey;

const MAGIC: &[u8; 16] = b"veilsum state v1";
/// A step that was under way when its task was aborted still holds the lock for so long.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Why the state cannot be read or written. Each says what was expected, what came and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// Two processes with one identity.
    #[error(
        "{} is held by another process: one client runs once; stop the other, or give this one an identity and a state \
         file of its own", .0.display()
    )]
    Held(PathBuf),
    /// The operating system refuses.
    #[error("{what} {} failed: {source}; the directory must exist, be writable and have room", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Sealed under another key, or altered.
    #[error(
        "{} should be state sealed under this identity's saving_key; it is not: restore the identity file or the state \
         file that belong together, never copy state between clients", .0.display()
    )]
    Unauthentic(PathBuf),
    /// Authentic, but written by another version.
    #[error("{} should hold \"veilsum state v1\": {found}; use the version of this program that wrote it", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        found: DecodeError,
    },
    /// A step of an earlier call, which was dropped, came to write after a later call had begun.
    #[error("this step belongs to a call that was dropped; its successor has begun, nothing was written")]
    Superseded,
}

/// One call that plays a round: only the newest may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session(u64);

/// What stands beside the phase: public bytes, as they were served.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Notes {
    /// The signed header of the round; empty between rounds.
    pub header: Vec<u8>,
    /// The roster as served; empty before it is known.
    pub roster: Vec<u8>,
}

/// The sealed file of one client. Its lock goes when it is dropped.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    key: SavingKey,
    newest: Mutex<Session>,
    _lock: File,
}

impl Journal {
    /// Takes the lock; there need not be a file yet. Blocks for up to two seconds if another holds it.
    ///
    /// # Errors
    /// [`SavedError::Held`], [`SavedError::Io`].
    pub fn open(path: &Path, key: SavingKey) -> Result<Self, SavedError> {
        let lock_path = beside(path, ".lock");
        let lock = private(&mut OpenOptions::new()).create(true).truncate(false).open(&lock_path);
        let lock = lock.map_err(failed("opening", &lock_path))?;
        let start = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => return Err(SavedError::Held(path.to_path_buf())),
                Err(TryLockError::Error(source)) => return Err(failed("locking", &lock_path)(source)),
            }
        }
        Ok(Self { path: path.to_path_buf(), key, newest: Mutex::new(Session(0)), _lock: lock })
    }

    /// Begins a call; those before it can write no more.
    pub fn begin(&self) -> Session {
        let mut newest = self.newest();
        newest.0 += 1;
        *newest
    }

    /// What was written last: the notes and the sealed phase; nothing before the first write.
    ///
    /// # Errors
    /// All but [`SavedError::Held`] and [`SavedError::Superseded`].
    pub fn read(&self) -> Result<Option<(Notes, Vec<u8>)>, SavedError> {
        // Whoever replaced the file may have died, or failed, before that was durable: a power cut could take back what is about
        // to be sent from here.
        sync_directory(&self.path)?;
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.and_then(|mut file| file.read_to_end(&mut bytes)).map_err(failed("reading", &self.path))?,
        };
        let plain = self.key.open(&bytes).ok_or_else(|| SavedError::Unauthentic(self.path.clone()))?;
        let parts = || {
            let mut reader = Reader::new(&plain);
            if reader.array("version")? != *MAGIC {
                return Err(DecodeError::NotCanonical { field: "version", expected: "\"veilsum state v1\"" });
            }
            let (header, roster) = (reader.prefixed("header")?.to_vec(), reader.prefixed("roster")?.to_vec());
            Ok((Notes { header, roster }, reader.rest().to_vec()))
        };
        parts().map(Some).map_err(|found| SavedError::Version { path: self.path.clone(), found })
    }

    /// Replaces the file; what it returns from is durable.
    ///
    /// # Errors
    /// [`SavedError::Io`], [`SavedError::Superseded`]; the file is then as before.
    pub fn write(&self, session: Session, notes: &Notes, phase: &Sealed) -> Result<(), SavedError> {
        let mut plain = MAGIC.to_vec(); // the phase in it is sealed already: nothing to wipe
        write_prefixed(&mut plain, &notes.header);
        write_prefixed(&mut plain, &notes.roster);
        plain.extend_from_slice(&phase.0);
        let bytes = self.key.seal(&mut UnwrapErr(getrandom::SysRng), &plain);
        let newest = self.newest(); // held while writing: a later call cannot begin in between
        if *newest != session {
            return Err(SavedError::Superseded);
        }
        replace(&self.path, &bytes)
    }

    /// The key, to open and seal phases.
    pub fn key(&self) -> &SavingKey {
        &self.key
    }

    /// Keeps `bytes` in the directory `evidence` beside the state. The name ends in their digest: the same lie is kept once.
    ///
    /// # Errors
    /// [`SavedError::Io`].
    pub fn keep_evidence(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, SavedError> {
        let directory = parent(&self.path).join("evidence");
        std::fs::create_dir_all(&directory).map_err(failed("creating", &directory))?;
        let digest = hex::encode(&Sha256::digest(bytes)[..8]);
        let path = directory.join(format!("{name}-{digest}.bin"));
        if std::fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(path);
        }
        // Whole or not at all, also if this process dies, or if another client that keeps its state here saw the same lie.
        let draw = getrandom::u64().map_err(|error| failed("naming", &path)(io::Error::other(error)))?;
        let new = beside(&path, &format!(".{draw:016x}"));
        let write = || {
            let mut file = private(&mut OpenOptions::new()).create_new(true).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(failed("writing", &new))?;
        std::fs::rename(&new, &path).map_err(failed("replacing", &path))?;
        Ok(path)
    }

    fn newest(&self) -> MutexGuard<'_, Session> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner) // a counter is never half written
    }
}

/// Writes a file that is whole after a crash, the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), SavedError> {
    let new = beside(path, ".new");
    let write = || {
        let mut file = private(&mut OpenOptions::new()).create(true).truncate(true).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(failed("writing", &new))?;
    std::fs::rename(&new, path).map_err(failed("replacing", path))?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> Result<(), SavedError> {
    let directory = parent(path);
    File::open(&directory).and_then(|directory| directory.sync_all()).map_err(failed("syncing", &directory))
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// For writing, by the owner only.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.write(true)
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SavedError {
    move |source| SavedError::Io { what, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SavingKey {
        SavingKey::from_bytes([byte; 32])
    }

    fn notes() -> Notes {
        Notes { header: vec![1, 2], roster: vec![3] }
    }

    #[test]
    fn what_was_written_last_is_read_by_the_next_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        let journal = Journal::open(&path, key(1)).expect("free");
        assert!(journal.read().expect("nothing yet").is_none());
        let session = journal.begin();
        for phase in [vec![1], vec![2; 100]] {
            journal.write(session, &notes(), &Sealed(phase)).expect("room");
        }
        drop(journal);
        let journal = Journal::open(&path, key(1)).expect("free again");
        assert_eq!(journal.read().expect("sealed by us"), Some((notes(), vec![2; 100])));
        assert!(!beside(&path, ".new").exists());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_state_and_evidence() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        let journal = Journal::open(&path, key(1)).expect("free");
        journal.write(journal.begin(), &notes(), &Sealed(vec![1])).expect("room");
        let first = journal.keep_evidence("lie", b"bytes").expect("room");
        let second = journal.keep_evidence("lie", b"others").expect("room");
        assert_eq!(std::fs::read(&first).expect("kept"), b"bytes", "never overwritten");
        assert_eq!(journal.keep_evidence("lie", b"bytes").expect("there"), first);
        std::fs::write(&first, b"by").expect("ours"); // as if a process had died over it
        assert_eq!(journal.keep_evidence("lie", b"bytes").expect("room"), first);
        assert_eq!(std::fs::read(&first).expect("kept"), b"bytes", "whole");
        for path in [path, first, second] {
            let mode = std::fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }

    #[test]
    fn two_holders_of_one_identity_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        let journal = Journal::open(&path, key(1)).expect("free");
        assert!(matches!(Journal::open(&path, key(1)), Err(SavedError::Held(_))));
        drop(journal);
        assert!(Journal::open(&path, key(1)).is_ok());
    }

    /// A step that outlived its call must not undo what its successor wrote.
    #[test]
    fn only_the_newest_call_writes() {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(&directory.path().join("state"), key(1)).expect("free");
        let (old, new) = (journal.begin(), journal.begin());
        journal.write(new, &notes(), &Sealed(vec![2])).expect("room");
        assert!(matches!(journal.write(old, &notes(), &Sealed(vec![1])), Err(SavedError::Superseded)));
        assert_eq!(journal.read().expect("ours"), Some((notes(), vec![2])));
    }

    #[test]
    fn another_key_or_an_altered_byte_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        let journal = Journal::open(&path, key(1)).expect("free");
        journal.write(journal.begin(), &notes(), &Sealed(vec![1])).expect("room");
        drop(journal);
        let other = Journal::open(&path, key(2)).expect("free");
        assert!(matches!(other.read(), Err(SavedError::Unauthentic(_))));
        drop(other);
        let mut bytes = std::fs::read(&path).expect("there");
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).expect("room");
        let journal = Journal::open(&path, key(1)).expect("free");
        assert!(matches!(journal.read(), Err(SavedError::Unauthentic(_))));
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let refused = Journal::open(Path::new("/nowhere/state"), key(1)).expect_err("no directory");
        assert!(refused.to_string().contains("/nowhere/state.lock"), "{refused}");
    }
}
