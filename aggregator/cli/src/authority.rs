//! `veilsum authority`: certifies clients and ends certificates. A program of its own: its key is never read by `serve`.
//!
//! ```text
//! DIR/authority.key    the secret key
//! DIR/revocations      the newest signed list of ended certificates, docs/wire.md §4.3
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use veilsum_client::config::Identity;
use veilsum_crypto::ids::{ClientId, Digest};

use crate::exit::Ends as _;
use crate::output::{Output, utc};

mod certify;
mod revoke;

pub use certify::{Authority, Group};

/// Options of `authority`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an authority: one key file that only its owner can read.
    #[command(after_help = "Example:\n  veilsum authority init --dir authority")]
    Init {
        /// The authority's folder.
        #[arg(long, default_value = "authority")]
        dir: PathBuf,
    },
    /// Certify one client: writes its identity file, secrets included, for that client alone.
    #[command(after_help = "Examples:\n  veilsum authority enrol --dir authority --out alice.toml --days 7\n  \
                            veilsum authority enrol --out alice-again.toml --replaces alice.toml\n  \
                            veilsum authority enrol --out alice-again.toml --client 0123456789abcdef0123456789abcdef")]
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
        #[arg(long, default_value_t = 30, value_parser = days)]
        days: u32,
        /// Enrol a revoked client again, under its old id with new keys: its old identity file. The client goes on with its
        /// saved state, and so with its ledger.
        #[arg(long)]
        replaces: Option<PathBuf>,
        /// The same where the old identity file is lost: the client begins with an empty state, as a new device.
        #[arg(long, value_parser = client_id, conflicts_with = "replaces")]
        client: Option<ClientId>,
    },
    /// Give a client a new certificate: same id, same keys, so that its ledger and its counters go on (R-36).
    #[command(
        after_help = "Example:\n  veilsum authority renew --dir authority --identity alice.toml --out alice-new.toml"
    )]
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
        #[arg(long, default_value_t = 30, value_parser = days)]
        days: u32,
    },
    /// End the certificates that clients have now: extends the authority's numbered, signed list.
    ///
    /// The list takes effect when it is given to the service with `veilsum revocations publish`; rounds that open afterwards
    /// carry it.
    #[command(
        after_help = "Examples:\n  veilsum authority revoke --dir authority --client 0123456789abcdef0123456789abcdef\n  \
                            veilsum revocations publish authority/revocations"
    )]
    Revoke {
        /// The authority's folder.
        #[arg(long, default_value = "authority")]
        dir: PathBuf,
        /// Whose certificates; may be given several times.
        #[arg(long, value_parser = client_id)]
        client: Vec<ClientId>,
        /// The same, as identity files name them; may be given several times.
        #[arg(long)]
        identity: Vec<PathBuf>,
        /// A copy of the list, to be carried to the service.
        #[arg(long)]
        out: Option<PathBuf>,
        /// The list's number instead of the next: where clients may have seen newer lists than this folder, which was restored.
        #[arg(long)]
        number: Option<u64>,
    },
}

/// Days that a certificate may live. R-36
fn days(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(days @ 1..=30) => Ok(days),
        Ok(days) => Err(format!("certificates live from 1 to 30 days (R-36), not {days}; renew them in time instead")),
        Err(_) => Err("a whole number of days from 1 to 30 was expected".to_string()),
    }
}

fn client_id(text: &str) -> Result<ClientId, String> {
    ClientId::from_hex(text).ok_or_else(|| "a client id has 32 lower-case hexadecimal digits".to_string())
}

/// What `init` says.
#[derive(Serialize)]
struct Made {
    authority_key: String,
    dir: String,
}

/// What `enrol` and `renew` say.
#[derive(Serialize)]
struct Certified {
    client: String,
    identity: String,
    not_before_us: u64,
    not_after_us: u64,
}

/// Runs one command.
pub fn run(options: Options, output: Output) -> Result<()> {
    match options.command {
        Command::Init { dir } => {
            let authority = Authority::make(&dir)?;
            let authority_key = Digest(*authority.public().as_bytes()).to_string();
            let made = Made { authority_key, dir: dir.display().to_string() };
            output.give(&made, |made| format!("authority_key = \"{}\"", made.authority_key))
        }
        Command::Enrol { dir, out, group_size, days, replaces, client } => {
            let authority = Authority::open(&dir)?;
            let group = Group { number: 0, size: group_size };
            let (identity, then) = match (replaces, client) {
                (Some(old), _) => (
                    authority.replace(Identity::read(&old).or_usage()?, group, days)?,
                    format!("; put it in the place of {}, and keep the client's saved state", old.display()),
                ),
                (None, Some(client)) => (
                    authority.enrol_again(client, group, days)?,
                    "; it opens no state that the client saved before: its ledger begins anew".to_string(),
                ),
                (None, None) => (authority.enrol(group, days)?, String::new()),
            };
            certified(&identity, &out, output, &then)
        }
        Command::Renew { dir, identity, out, days } => {
            let renewed = Authority::open(&dir)?.renew(Identity::read(&identity).or_usage()?, days)?;
            certified(&renewed, &out, output, &format!("; put it in the place of {}", identity.display()))
        }
        Command::Revoke { dir, client, identity, out, number } => {
            let read = |path: &PathBuf| Ok(Identity::read(path).or_usage()?.client());
            let clients = client.into_iter().map(Ok).chain(identity.iter().map(read)).collect::<Result<Vec<_>>>()?;
            let revoked = Authority::open(&dir)?.revoke(&clients, number, out.as_deref())?;
            output.give(&revoked, |revoked| revoked.in_words())
        }
    }
}

fn certified(identity: &Identity, out: &Path, output: Output, then: &str) -> Result<()> {
    identity.write(out).with_context(|| format!("cannot write {}", out.display())).or_usage()?;
    let body = identity.certificate().body();
    let said = Certified {
        client: identity.client().to_string(),
        identity: out.display().to_string(),
        not_before_us: body.not_before.0,
        not_after_us: body.not_after.0,
    };
    output.give(&said, |said| {
        format!("client {} -> {}, valid until {}{then}", said.client, said.identity, utc(said.not_after_us))
    })
}
