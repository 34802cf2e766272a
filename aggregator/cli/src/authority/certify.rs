//! The authority's key, and the certificates that it signs. R-36

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use veilsum_aggregator::clock::{Clock as _, SystemClock};
use veilsum_client::config::Identity;
use veilsum_crypto::ids::{ClientId, Timestamp};
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::{Certificate, RevocationList};
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey};
use zeroize::Zeroizing;

use super::revoke;
use crate::exit::Ends as _;
use crate::keyfile;

/// Certificates begin a minute ago, for clocks that disagree a little.
const CLOCKS_APART_US: u64 = 60 * 1_000_000;

/// The random group that a client is put in, R-07. One group for everybody until there are more.
#[derive(Clone, Copy)]
pub struct Group {
    /// Which.
    pub number: u32,
    /// How many clients it has.
    pub size: u32,
}

/// The enrolment authority.
pub struct Authority {
    pub(super) key: IdentitySecretKey,
    pub(super) folder: PathBuf,
}

impl Authority {
    /// A new authority in a folder of its own.
    pub fn make(folder: &Path) -> Result<Self> {
        let path = key_path(folder);
        if path.exists() {
            let words = "holds an authority already; its certificates would end with it. Choose another folder";
            return Err(anyhow!("{} {words}", folder.display())).or_usage();
        }
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).context("the operating system gives no randomness")?;
        keyfile::write(&path, &seed)?;
        Ok(Self { key: IdentitySecretKey::from_bytes(&seed), folder: folder.to_path_buf() })
    }

    /// The authority in a folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = key_path(folder);
        if !path.exists() {
            let make = format!("make one with `veilsum authority init --dir {}`", folder.display());
            return Err(anyhow!("there is no authority in {}; {make}", folder.display())).or_usage();
        }
        let seed = Zeroizing::new(keyfile::read(&path).or_usage()?);
        Ok(Self { key: IdentitySecretKey::from_bytes(&seed), folder: folder.to_path_buf() })
    }

    /// What headers name and clients pin.
    pub fn public(&self) -> IdentityPublicKey {
        self.key.public()
    }

    /// A new client with a new id: keys, certificate, and a key for its saved state.
    pub fn enrol(&self, group: Group, days: u32) -> Result<Identity> {
        self.with_new_keys(ClientId(random()?), group, days)
    }

    /// A client whose certificates were ended, under its id, with new keys, and with a new key for its saved state: what it
    /// saved before is lost. R-36
    pub fn enrol_again(&self, client: ClientId, group: Group, days: u32) -> Result<Identity> {
        self.must_be_revoked(client)?;
        self.with_new_keys(client, group, days)
    }

    /// The same, in the place of an old identity: its saved state goes on, and with it the ledger. R-36
    pub fn replace(&self, old: Identity, group: Group, days: u32) -> Result<Identity> {
        self.must_be_revoked(old.client())?;
        let (key, certificate) = self.new_keys(old.client(), group, days)?;
        Ok(old.succeeded_by(key, certificate).expect("the certificate was made out for this client and key"))
    }

    fn must_be_revoked(&self, client: ClientId) -> Result<()> {
        if self.revocations()?.entries().contains_key(&client) {
            return Ok(());
        }
        let revoke = format!("run `veilsum authority revoke --dir {} --client {client}` first", self.folder.display());
        Err(anyhow!("client {client} is not revoked: two certificates would hold at once; {revoke}")).or_usage()
    }

    fn with_new_keys(&self, client: ClientId, group: Group, days: u32) -> Result<Identity> {
        let (key, certificate) = self.new_keys(client, group, days)?;
        let saving_key = Zeroizing::new(random()?);
        Ok(Identity::new(key, certificate, *saving_key).expect("the certificate was made out for this key"))
    }

    fn new_keys(&self, client: ClientId, group: Group, days: u32) -> Result<(IdentitySecretKey, Certificate)> {
        let seed = Zeroizing::new(random()?);
        let key = IdentitySecretKey::from_bytes(&seed);
        let body = CertificateBody {
            client,
            identity: key.public(),
            group: group.number,
            group_size: group.size,
            not_before: Timestamp(0),
            not_after: Timestamp(0),
        };
        let certificate = self.certify(body, days)?;
        Ok((key, certificate))
    }

    /// A client goes on under a new certificate, with its id and keys.
    pub fn renew(&self, identity: Identity, days: u32) -> Result<Identity> {
        let client = identity.client();
        let old = identity.certificate();
        let none = RevocationList::none();
        // Only who certified a client renews it: judged at a time when the certificate held.
        if old.check(&self.public(), old.body().not_before, &none).is_err() {
            let words = "was certified by another authority; enrol it here instead";
            return Err(anyhow!("client {client} {words}")).or_usage();
        }
        if self.revocations()?.entries().get(&client).is_some_and(|until| old.body().not_before < *until) {
            let words = "was revoked: whoever has its keys would be let in again; give it new ones with";
            let command =
                format!("`veilsum authority enrol --dir {} --replaces OLD --out FILE`", self.folder.display());
            return Err(anyhow!("client {client} {words} {command}")).or_usage();
        }
        let certificate = self.certify(*old.body(), days)?;
        Ok(identity.renewed(certificate).expect("the certificate was made out for this very client"))
    }

    /// Valid from a minute ago, but never from before the client was revoked.
    fn certify(&self, body: CertificateBody, days: u32) -> Result<Certificate> {
        let ended = self.revocations()?.entries().get(&body.client).copied();
        let now = SystemClock.now();
        let not_before = Timestamp(now.0.saturating_sub(CLOCKS_APART_US)).max(ended.unwrap_or(Timestamp(0)));
        let not_after = not_before.plus_ms(u64::from(days) * 24 * 60 * 60 * 1_000);
        Ok(Certificate::issue(CertificateBody { not_before, not_after, ..body }, &self.key))
    }

    /// The newest list in the folder.
    pub(super) fn revocations(&self) -> Result<RevocationList> {
        let path = revoke::list_path(&self.folder);
        if path.exists() { revoke::read_list(&path, &self.public()) } else { Ok(RevocationList::none()) }
    }
}

fn key_path(folder: &Path) -> PathBuf {
    folder.join("authority.key")
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the operating system gives no randomness")?;
    Ok(bytes)
}
