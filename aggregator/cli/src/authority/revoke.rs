//! The authority's numbered, signed list of ended certificates. docs/wire.md §4.3, R-36
//!
//! A client in the list has every certificate ended that began before the time beside it. The list only grows: a new one has
//! all entries of the old one and a higher number, because clients refuse a lower number than one they saw.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;
use veilsum_aggregator::clock::{Clock as _, SystemClock};
use veilsum_crypto::ids::ClientId;
use veilsum_crypto::messages::RevocationList;
use veilsum_crypto::primitives::signature::IdentityPublicKey;

use super::Authority;
use crate::exit::Ends as _;

/// What `revoke` says.
#[derive(Serialize)]
pub struct Revoked {
    number: u64,
    digest: String,
    entries: usize,
    revoked: Vec<String>,
    list: String,
    copy: Option<String>,
}

impl Revoked {
    /// For people.
    pub fn in_words(&self) -> String {
        let Self { number, digest, entries, list, copy, .. } = self;
        let file = copy.as_ref().unwrap_or(list);
        format!(
            "revocation list {number}, {entries} entries, digest {digest}\nit is in {list}; give it to the service with \
             `veilsum revocations publish {file}`"
        )
    }
}

impl Authority {
    /// Ends the certificates that these clients have now.
    pub fn revoke(&self, clients: &[ClientId], number: Option<u64>, copy: Option<&Path>) -> Result<Revoked> {
        if clients.is_empty() {
            return Err(anyhow!("nobody is named: give --client ID or --identity FILE, once for each client"))
                .or_usage();
        }
        let old = self.revocations()?;
        let number = number.unwrap_or(old.number() + 1);
        if number <= old.number() {
            let words = "clients refuse a list that is not newer; leave --number out";
            return Err(anyhow!("the list in {} has number {}; {words}", self.folder.display(), old.number()))
                .or_usage();
        }
        let (mut entries, now) = (old.entries().clone(), SystemClock.now());
        for client in clients {
            let until = entries.entry(*client).or_insert(now);
            *until = now.max(*until);
        }
        let list = RevocationList::issue(number, entries, &self.key);
        let path = list_path(&self.folder);
        replace(&path, &list.encode())?;
        if let Some(copy) = copy {
            replace(copy, &list.encode())?;
        }
        Ok(Revoked {
            number,
            digest: list.digest().to_string(),
            entries: list.entries().len(),
            revoked: clients.iter().map(ClientId::to_string).collect(),
            list: path.display().to_string(),
            copy: copy.map(|copy| copy.display().to_string()),
        })
    }
}

/// Where an authority keeps its list.
pub fn list_path(folder: &Path) -> PathBuf {
    folder.join("revocations")
}

/// Reads a list that this authority signed.
pub fn read_list(path: &Path, authority: &IdentityPublicKey) -> Result<RevocationList> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the revocation list {}", path.display()))?;
    let list = RevocationList::decode(&bytes, authority);
    list.with_context(|| format!("{} is no revocation list of this authority", path.display())).or_usage()
}

/// Whole or not at all: a list that was cut would be refused by everybody.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write the revocation list {}", path.display()))
}
