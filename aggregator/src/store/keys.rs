//! The service keys that a replica holds: the first seals, all open. §8
//!
//! In: a file with a key in each line, or words of the environment. Out: keys of rounds, wrapped under the first and unwrapped
//! under whichever sealed them; sealed rows name it by a public id. A file is read again when a row names a key that it did
//! not have, or when its first key was retired: `veilsum keys rotate` exchanges keys while replicas run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use veilsum_crypto::ids::RoundId;
use zeroize::Zeroizing;

use super::StoreError;
use super::seal::{DoesNotOpen, KeyError, KeyId, RoundKey, ServiceKey};

/// All service keys of a replica.
pub struct SealingKeys {
    held: Mutex<Arc<Held>>,
    /// Where they are read again; `None`: they are what they are until the next start.
    file: Option<PathBuf>,
}

/// At least one, the one that seals first.
struct Held(Vec<ServiceKey>);

impl Held {
    /// Keys between white space or commas.
    fn parse(text: &str) -> Result<Self, KeyError> {
        let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
        let keys = words.map(ServiceKey::from_hex).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(KeyError::NotAKey);
        }
        let held = Self(keys);
        let ids = held.ids();
        match ids.iter().enumerate().find(|(at, id)| ids[..*at].contains(id)) {
            Some((_, twice)) => Err(KeyError::Twice(*twice)),
            None => Ok(held),
        }
    }

    fn read(path: &Path) -> Result<Self, KeyError> {
        use std::os::unix::fs::PermissionsExt as _;
        let unreadable = |cause| KeyError::Unreadable { path: path.display().to_string(), cause };
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
        let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.display().to_string(), mode: mode & 0o777 });
        }
        Self::parse(&text).map_err(|error| match error {
            KeyError::NotAKey => KeyError::NotKeys { path: path.display().to_string() },
            other => other,
        })
    }

    fn ids(&self) -> Vec<KeyId> {
        self.0.iter().map(ServiceKey::id).collect()
    }

    fn find(&self, id: KeyId) -> Option<&ServiceKey> {
        self.0.iter().find(|key| key.id() == id)
    }
}

impl SealingKeys {
    /// The keys of a file, one in each line, which nobody but its owner can read.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Ok(Self { held: Mutex::new(Arc::new(Held::read(path)?)), file: Some(path.to_path_buf()) })
    }

    /// Keys as 64 hexadecimal digits each, between commas or white space.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Ok(Self { held: Mutex::new(Arc::new(Held::parse(text)?)), file: None })
    }

    /// What the keys are called, the one that seals first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.held().ids()
    }

    /// The key that seals.
    pub fn first(&self) -> KeyId {
        self.held().0[0].id()
    }

    /// A round's key sealed under the first key, and what that is called.
    pub(super) fn wrap(&self, key: &RoundKey, round: RoundId) -> (KeyId, Vec<u8>) {
        let held = self.held();
        (held.0[0].id(), key.wrap(&held.0[0], round))
    }

    /// A round's key out of its row; one that names no key is tried under each.
    ///
    /// # Errors
    /// [`StoreError::UnknownKey`] where the key is not held, and is not in the file now; [`StoreError::WrongKey`] where none of
    /// them opens it.
    pub(super) fn unwrap(
        &self,
        sealed_by: Option<KeyId>,
        sealed: &[u8],
        round: RoundId,
    ) -> Result<RoundKey, StoreError> {
        if sealed_by.is_some_and(|id| self.held().find(id).is_none()) {
            self.read_again()?;
        }
        let held = self.held();
        let opened = match sealed_by {
            Some(id) => {
                let missing = || StoreError::UnknownKey { sealed_by: id.to_string(), held: listed(&held.ids()) };
                RoundKey::unwrap(sealed, held.find(id).ok_or_else(missing)?, round)
            }
            None => held.0.iter().find_map(|key| RoundKey::unwrap(sealed, key, round).ok()).ok_or(DoesNotOpen),
        };
        opened.map_err(|DoesNotOpen| StoreError::WrongKey)
    }

    /// Looks whether the file has other keys by now; whether another one seals.
    pub(super) fn read_again(&self) -> Result<bool, StoreError> {
        let Some(file) = &self.file else { return Ok(false) };
        let before = self.ids();
        let now = Held::read(file).map_err(|error| StoreError::Keys(error.to_string()))?;
        let ids = now.ids();
        if ids != before {
            tracing::info!(before = listed(&before), now = listed(&ids), "sealing keys were read again");
            *self.held.lock().expect("no panic holds this lock") = Arc::new(now);
        }
        Ok(ids[0] != before[0])
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.lock().expect("no panic holds this lock"))
    }
}

/// Ids for people.
pub fn listed(ids: &[KeyId]) -> String {
    ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
}

impl From<ServiceKey> for SealingKeys {
    fn from(key: ServiceKey) -> Self {
        Self { held: Mutex::new(Arc::new(Held(vec![key]))), file: None }
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKeys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: RoundId = RoundId([7; 16]);

    fn digits(byte: u8) -> String {
        hex::encode([byte; 32])
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let old = SealingKeys::parse(&digits(1)).expect("a key");
        let both = SealingKeys::parse(&format!("{},\n{}\n", digits(2), digits(1))).expect("two keys");
        let key = RoundKey::generate();
        let (by_old, under_old) = old.wrap(&key, ROUND);
        let (by_new, under_new) = both.wrap(&key, ROUND);
        assert_eq!((by_old, by_new), (old.first(), both.first()));
        assert_ne!(by_old, by_new);
        assert!(both.unwrap(Some(by_old), &under_old, ROUND).is_ok());
        assert!(both.unwrap(None, &under_old, ROUND).is_ok(), "one that names no key is tried under each");
        assert!(both.unwrap(Some(by_new), &under_new, ROUND).is_ok());
        let missing = old.unwrap(Some(by_new), &under_new, ROUND).err();
        assert!(matches!(missing, Some(StoreError::UnknownKey { .. })), "{missing:?}");
        assert!(matches!(old.unwrap(None, &under_new, ROUND).err(), Some(StoreError::WrongKey)));
        assert!(matches!(both.unwrap(Some(by_old), &under_new, ROUND).err(), Some(StoreError::WrongKey)));
    }

    #[test]
    fn what_is_no_list_of_different_keys_is_refused() {
        assert!(matches!(SealingKeys::parse(" \n"), Err(KeyError::NotAKey)));
        assert!(matches!(SealingKeys::parse(&format!("{} 12", digits(1))), Err(KeyError::NotAKey)));
        assert!(matches!(SealingKeys::parse(&format!("{0},{0}", digits(1))), Err(KeyError::Twice(_))));
        assert_eq!(format!("{:?}", SealingKeys::from(ServiceKey::generate())), "SealingKeys(..)");
    }

    #[test]
    fn a_file_is_read_again_when_a_key_is_missing() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = std::env::temp_dir().join(format!("veilsum-keys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("room");
        let path = folder.join("sealing.key");
        std::fs::write(&path, digits(1)).expect("room");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
        let keys = SealingKeys::read(&path).expect("a key");
        let newer = SealingKeys::parse(&digits(2)).expect("a key");
        let (by, sealed) = newer.wrap(&RoundKey::generate(), ROUND);
        assert!(keys.unwrap(Some(by), &sealed, ROUND).is_err());
        std::fs::write(&path, format!("{}\n{}\n", digits(2), digits(1))).expect("room");
        assert!(keys.unwrap(Some(by), &sealed, ROUND).is_ok());
        assert_eq!(keys.first(), by, "the file's first key seals from now on");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("ours");
        assert!(matches!(SealingKeys::read(&path), Err(KeyError::Open { mode: 0o640, .. })));
        std::fs::remove_dir_all(&folder).expect("ours");
    }
}
