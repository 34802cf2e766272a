//! `veilsum keys`: secrets in files of their own, and their public parts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use veilsum_aggregator::store::keys::{SealingKeys, listed};
use veilsum_crypto::ids::Digest;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::transparency::checkpoint::CheckpointKey;
use zeroize::Zeroizing;

use crate::exit::Ends as _;
use crate::keyfile;
use crate::output::Output;
use crate::serve::log_origin;

mod rotate;

/// Options of `keys`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a secret: a file of 64 hexadecimal digits that only its owner can read. Never replaces a file.
    #[command(
        after_help = "Examples:\n  veilsum keys generate --out data/admin.token\n  veilsum keys generate --kind signing \
                            --out data/service/aggregator.key"
    )]
    Generate {
        /// What it is for.
        #[arg(long, value_enum, default_value_t = Kind::AdminToken)]
        kind: Kind,
        /// Where it goes; its folder is made.
        #[arg(long)]
        out: PathBuf,
    },
    /// Print what may be known of a secret: its public key, or its fingerprint.
    #[command(
        after_help = "Examples:\n  veilsum keys show data/service/aggregator.key\n  veilsum keys show --kind signing backup/old.key"
    )]
    Show {
        /// What it is for; by default as the file is called.
        #[arg(long, value_enum)]
        kind: Option<Kind>,
        /// The file.
        file: PathBuf,
    },
    /// Exchange the key that seals what the service stores, while it runs: a new key first, then `--reseal`, then `--finish`.
    #[command(
        after_help = "Examples:\n  veilsum keys rotate --config veilsum.toml\n  veilsum keys rotate --config veilsum.toml \
                            --reseal\n  veilsum keys rotate --config veilsum.toml --finish"
    )]
    Rotate(rotate::RotateOptions),
}

/// What a secret is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// Lets an operator's tools in: `admin.token`.
    AdminToken,
    /// Signs statements: `aggregator.key`, `authority.key`, an auditor's.
    Signing,
    /// Signs heads of the log: `checkpoint.key`.
    Checkpoint,
    /// Seals what the service stores: `sealing.key`.
    Service,
}

/// What is printed.
#[derive(Serialize)]
struct Shown {
    file: String,
    kind: Kind,
    /// Of a key pair.
    public_key: Option<String>,
    /// The id that statements name, of a signing key.
    party: Option<String>,
    /// What verifies checkpoints of the log (C2SP), where the aggregator's key lies beside a checkpoint key.
    log_key: Option<String>,
    /// SHA-256 of the secret, of one without a public half.
    fingerprint: Option<String>,
    /// What sealing keys are called, the one that seals first: 16 digits of their fingerprints.
    sealing: Option<String>,
}

/// Runs one command.
pub async fn run(options: Options, output: Output) -> Result<()> {
    match options.command {
        Command::Generate { kind, out } => {
            let mut secret = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *secret).context("the operating system gives no randomness")?;
            if out.exists() {
                return Err(anyhow!(
                    "{} exists; a new secret never replaces an old one. Choose another --out",
                    out.display()
                ))
                .or_usage();
            }
            keyfile::write(&out, &secret)?;
            output.give(&read(&out, kind)?, in_words)
        }
        Command::Show { kind, file } => {
            let kind = kind.or_else(|| by_name(&file)).ok_or_else(|| {
                anyhow!("what {} is for does not follow from its name; say it with --kind", file.display())
            });
            output.give(&read(&file, kind.or_usage()?)?, in_words)
        }
        Command::Rotate(options) => rotate::run(options, output).await,
    }
}

fn by_name(file: &Path) -> Option<Kind> {
    Some(match file.file_name()?.to_str()? {
        "admin.token" => Kind::AdminToken,
        "aggregator.key" | "authority.key" | "auditor.key" => Kind::Signing,
        "checkpoint.key" => Kind::Checkpoint,
        "sealing.key" => Kind::Service,
        _ => return None,
    })
}

/// What may be known of a file; of sealing keys there may be several in it.
fn read(file: &Path, kind: Kind) -> Result<Shown> {
    if kind == Kind::Service {
        return Ok(sealing(file, &SealingKeys::read(file).or_usage()?));
    }
    let secret = Zeroizing::new(keyfile::read(file).or_usage()?);
    Ok(shown(file, kind, &secret))
}

fn shown(file: &Path, kind: Kind, secret: &[u8; 32]) -> Shown {
    let mut shown = Shown {
        file: file.display().to_string(),
        kind,
        public_key: None,
        party: None,
        log_key: None,
        fingerprint: None,
        sealing: None,
    };
    match kind {
        Kind::Signing => {
            let public = IdentitySecretKey::from_bytes(secret).public();
            shown.public_key = Some(Digest(*public.as_bytes()).to_string());
            shown.party = Some(public.party().to_string());
        }
        Kind::Checkpoint => {
            let key = CheckpointKey::from_bytes(secret);
            shown.public_key = Some(key.public().to_string());
            shown.log_key = log_key(file, &key);
        }
        // 256 random bits: their hash gives nothing away.
        Kind::AdminToken | Kind::Service => shown.fingerprint = Some(Digest(Sha256::digest(secret).into()).to_string()),
    }
    shown
}

/// Of a file with several keys.
fn sealing(file: &Path, keys: &SealingKeys) -> Shown {
    Shown {
        file: file.display().to_string(),
        kind: Kind::Service,
        public_key: None,
        party: None,
        log_key: None,
        fingerprint: None,
        sealing: Some(listed(&keys.ids())),
    }
}

/// The log is named after the aggregator, whose key lies beside.
fn log_key(file: &Path, key: &CheckpointKey) -> Option<String> {
    let aggregator = Zeroizing::new(keyfile::read(&file.with_file_name("aggregator.key")).ok()?);
    let origin = log_origin(&IdentitySecretKey::from_bytes(&aggregator).public());
    key.verifier(&origin).map(|key| key.to_string())
}

fn in_words(shown: &Shown) -> String {
    let Shown { file, public_key, party, log_key, fingerprint, sealing, .. } = shown;
    let mut lines = vec![format!("file         {file}")];
    let mut add = |name: &str, value: &Option<String>| {
        lines.extend(value.iter().map(|value| format!("{name:<13}{value}")));
    };
    add("public key", public_key);
    add("party", party);
    add("log key", log_key);
    add("fingerprint", fingerprint);
    add("seals", sealing);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of a secret never holds the secret.
    #[test]
    fn nothing_secret_is_shown() {
        let secret = [7; 32];
        for kind in [Kind::AdminToken, Kind::Signing, Kind::Checkpoint, Kind::Service] {
            let shown = shown(Path::new("x"), kind, &secret);
            assert!(shown.public_key.is_some() != shown.fingerprint.is_some(), "{kind:?}");
            let said = in_words(&shown) + &serde_json::to_string(&shown).expect("it serialises");
            assert!(!said.contains(&hex::encode(secret)), "{kind:?}");
        }
    }
}
