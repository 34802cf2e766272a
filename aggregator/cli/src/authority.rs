//! `veilsum authority`: certifies clients. A program of its own: its key file is never read by `serve`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use veilsum_aggregator::clock::{Clock as _, SystemClock};
use veilsum_client::config::Identity;
use veilsum_crypto::ids::{ClientId, Digest, Timestamp};
use veilsum_crypto::messages::Certificate;
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey};

use crate::keyfile;

/// Options of `authority`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an authority: one key file that only its owner can read.
    Init {
        /// The authority's folder.
        #[arg(long, default_value = "authority")]
        dir: PathBuf,
    },
    /// Give a client a new certificate: same id, same keys, so that its ledger and its counters go on.
    Renew {
        /// The authority's folder.
        #[arg(long, default_value = "authority")]
        dir: PathBuf,
        /// The client's identity file.
        #[arg(long)]
        identity: PathBuf,
        /// Where the renewed identity file goes; the old one is then to be replaced by it.
        #[arg(long)]
        out: PathBuf,
        /// How long the certificate is valid, days, at most 30.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=30))]
        days: u32,
    },
    /// Certify one client: writes its identity file, secrets included, for that client alone.
    Enrol {
        /// The authority's folder.
        #[arg(long, default_value = "authority")]
        dir: PathBuf,
        /// Where the identity file goes.
        #[arg(long)]
        out: PathBuf,
        /// How many clients the group has that this client belongs to.
        #[arg(long, default_value_t = 1)]
        group_size: u32,
        /// How long the certificate is valid, days, at most 30.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=30))]
        days: u32,
    },
}

/// Runs one command.
pub fn run(options: Options) -> Result<()> {
    match options.command {
        Command::Init { dir } => {
            let authority = Authority::make(&dir)?;
            println!("authority_key = \"{}\"", Digest(*authority.public().as_bytes()));
        }
        Command::Renew { dir, identity, out, days } => {
            let renewed = Authority::open(&dir)?.renew(Identity::read(&identity)?, days)?;
            renewed.write(&out).with_context(|| format!("cannot write {}", out.display()))?;
            println!("client {} -> {}; put it in the place of {}", renewed.client(), out.display(), identity.display());
        }
        Command::Enrol { dir, out, group_size, days } => {
            let identity = Authority::open(&dir)?.enrol(Group { number: 0, size: group_size }, days)?;
            identity.write(&out).with_context(|| format!("cannot write {}", out.display()))?;
            println!("client {} -> {}", identity.client(), out.display());
        }
    }
    Ok(())
}

/// The random group that a client is put in, R-07. One group for everybody until there are more.
#[derive(Clone, Copy)]
pub struct Group {
    /// Which.
    pub number: u32,
    /// How many clients it has.
    pub size: u32,
}

/// The enrolment authority.
pub struct Authority(IdentitySecretKey);

impl Authority {
    /// A new authority in a folder of its own.
    pub fn make(folder: &Path) -> Result<Self> {
        let path = key_path(folder);
        if path.exists() {
            bail!(
                "{} holds an authority already; its certificates would end with it. Choose another folder",
                folder.display()
            );
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("the operating system gives no randomness")?;
        keyfile::write(&path, &seed)?;
        Ok(Self(IdentitySecretKey::from_bytes(&seed)))
    }

    /// The authority in a folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = key_path(folder);
        if !path.exists() {
            bail!("there is no authority in {}; make one with `veilsum authority init --dir {0}`", folder.display());
        }
        Ok(Self(IdentitySecretKey::from_bytes(&keyfile::read(&path)?)))
    }

    /// What headers name and clients pin.
    pub fn public(&self) -> IdentityPublicKey {
        self.0.public()
    }

    /// A new client with a new id: keys, certificate, and a key for its saved state.
    pub fn enrol(&self, group: Group, days: u32) -> Result<Identity> {
        let mut random = [0; 16 + 32 + 32];
        getrandom::fill(&mut random).context("the operating system gives no randomness")?;
        let (id, rest) = random.split_at(16);
        let (seed, saving) = rest.split_at(32);
        let key = IdentitySecretKey::from_bytes(seed.try_into().expect("32 bytes"));
        let body = valid_for(
            days,
            CertificateBody {
                client: ClientId(id.try_into().expect("16 bytes")),
                identity: key.public(),
                group: group.number,
                group_size: group.size,
                not_before: Timestamp(0),
                not_after: Timestamp(0),
            },
        );
        let certificate = Certificate::issue(body, &self.0);
        Ok(Identity::new(key, certificate, saving.try_into().expect("32 bytes"))
            .expect("the certificate was made out for this key"))
    }
}

impl Authority {
    /// A client goes on under a new certificate.
    pub fn renew(&self, identity: Identity, days: u32) -> Result<Identity> {
        let body = valid_for(days, *identity.certificate().body());
        let certificate = Certificate::issue(body, &self.0);
        identity.renewed(certificate).context("the certificate was made out for this very client")
    }
}

/// From a minute ago, for clocks that disagree a little.
fn valid_for(days: u32, body: CertificateBody) -> CertificateBody {
    let not_before = Timestamp(SystemClock.now().0.saturating_sub(60 * 1_000_000));
    CertificateBody { not_before, not_after: not_before.plus_ms(u64::from(days) * 24 * 60 * 60 * 1_000), ..body }
}

fn key_path(folder: &Path) -> PathBuf {
    folder.join("authority.key")
}
