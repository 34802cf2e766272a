//! Whom `veilsum join` believes: the identity and the join file, looked at before anything is sent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use veilsum_aggregator::clock::{Clock as _, SystemClock};
use veilsum_client::config::{Identity, Join};
use veilsum_client::transport::TransportError;
use veilsum_client::{HttpTransport, Transport as _};
use veilsum_crypto::ids::TaskId;
use veilsum_crypto::messages::{Header, RevocationList};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, Signed};
use veilsum_crypto::rules::CertificateError;

use crate::exit::{self, Code, Ends as _};
use crate::output::{Output, utc};

/// A signed header, and room for words in its place.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// How the service is reached, as the command line says; it wins over a file.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// Its address.
    pub server: Option<&'a str>,
    /// Certificates to believe.
    pub ca: Option<&'a Path>,
}

/// Where the pinned keys come from.
pub enum Source {
    /// A join file.
    File(PathBuf),
    /// Nowhere yet: the first header of this task, kept in this file from then on.
    FirstUse(TaskId, PathBuf),
}

impl Source {
    /// The file that is named, or lies beside the identity; else the task that is named.
    pub fn of(join: Option<PathBuf>, task: Option<TaskId>, identity: &Path) -> Result<Self> {
        let beside = identity.with_file_name("join.toml");
        match (join, task) {
            (Some(file), _) => Ok(Self::File(file)),
            (None, None) if beside.exists() => Ok(Self::File(beside)),
            (None, None) => Err(anyhow!(
                "which task, and whose keys? Give --join FILE, as the operator handed it out; or --task ID, which takes the \
                 aggregator's key from its first answer. There is no {} either",
                beside.display()
            ))
            .or_usage(),
            (None, Some(task)) if beside.exists() => {
                let pinned = Join::read(&beside).or_usage()?.task;
                if pinned != task {
                    let words = "move it away, or name another file with --join";
                    return Err(anyhow!("{} is for task {pinned}, not {task}; {words}", beside.display())).or_usage();
                }
                Ok(Self::File(beside))
            }
            (None, Some(task)) => Ok(Self::FirstUse(task, beside)),
        }
    }

    /// The join file, there already or not.
    pub fn file(&self) -> &Path {
        match self {
            Self::File(file) | Self::FirstUse(_, file) => file,
        }
    }

    /// What is joined.
    pub async fn join(self, way: Way<'_>, identity: &Identity, output: Output) -> Result<Join> {
        match self {
            Self::File(file) => {
                let mut join = Join::read(&file).or_usage()?;
                join.server = way.server.map_or(join.server, str::to_string);
                join.ca_file = way.ca.map(Path::to_path_buf).or(join.ca_file);
                Ok(join)
            }
            Self::FirstUse(task, file) => {
                let server =
                    way.server.ok_or_else(|| anyhow!("without a join file --server says where the service is"));
                let mut join = on_first_use(server.or_usage()?, way.ca, task, identity, output).await?;
                join.ca_file = way.ca.map(std::path::absolute).transpose()?;
                join.write(&file).with_context(|| format!("cannot write {}", file.display()))?;
                output.say(&format!(
                    "taken on trust: the aggregator's key {} came from {}; it is pinned in {} from now on. Compare it with the \
                     operator's",
                    hex::encode(join.policy.aggregator.as_bytes()),
                    join.server,
                    file.display()
                ));
                Ok(join)
            }
        }
    }
}

/// Pins what the first header names. The authority is not taken on trust: the identity's own certificate is by it.
async fn on_first_use(
    server: &str,
    ca: Option<&Path>,
    task: TaskId,
    identity: &Identity,
    output: Output,
) -> Result<Join> {
    let transport = HttpTransport::believing(server, ca).or_usage()?;
    let path = format!("/v1/tasks/{task}/header?after=0");
    output.say(&format!("waiting for a round of task {task} at {server}"));
    loop {
        let reply = transport.get(&path, None, Duration::from_secs(25), HEADER_BYTES_MAX).await;
        let reply = reply.map_err(|error| {
            let code = if matches!(error, TransportError::Untrusted(_)) { Code::Refused } else { Code::Fault };
            exit::with(code, error)
        })?;
        match reply.status {
            200 => {
                let header = read_header(&reply.body).context("the service's header").or_refused()?;
                is_of(identity, &header.authority_key).or_usage()?;
                return Ok(Join::new(server, task, header.aggregator_key, header.authority_key));
            }
            204 => tokio::time::sleep(Duration::from_millis(500)).await,
            404 => {
                return Err(anyhow!("{server} knows no task {task}; check --task and --server")).or_usage();
            }
            503 => {
                tokio::time::sleep(reply.retry_after.unwrap_or(Duration::from_secs(1)).min(Duration::from_secs(60)))
                    .await
            }
            other => return Err(anyhow!("a header was expected from {server}, status {other} came")),
        }
    }
}

fn read_header(bytes: &[u8]) -> Result<Header> {
    let signed = Signed::decode(bytes, labels::HEADER)?;
    let header = Header::from_statement(signed.statement())?;
    if !signed.is_by(&header.aggregator_key) {
        return Err(anyhow!("R-01: it is not signed by the key that it names"));
    }
    Ok(header)
}

/// The identity is of this deployment, whatever the time.
pub fn is_of(identity: &Identity, authority: &IdentityPublicKey) -> Result<()> {
    let certificate = identity.certificate();
    match certificate.check(authority, certificate.body().not_before, &RevocationList::none()) {
        Err(CertificateError::Authority | CertificateError::Holder) => Err(anyhow!(
            "the identity of client {} is of another deployment: its certificate is not by the authority {}; use the identity \
             and the join file that belong together",
            identity.client(),
            hex::encode(authority.as_bytes())
        )),
        Err(other) => Err(anyhow!("the certificate of client {} cannot hold: {other}", identity.client())),
        Ok(()) => Ok(()),
    }
}

/// The certificate has not ended, by this machine's clock. What counts in a round is the time at which it opened.
pub fn is_in_time(identity: &Identity) -> Result<()> {
    let (body, now) = (identity.certificate().body(), SystemClock.now());
    let client = identity.client();
    if now >= body.not_after {
        let (ended, renew) = (utc(body.not_after.0), "ask the authority for `veilsum authority renew`");
        return Err(exit::with(Code::Usage, anyhow!("the certificate of client {client} ended at {ended}; {renew}")));
    }
    if now < body.not_before {
        let begins = utc(body.not_before.0);
        let words = "is this machine's clock right?";
        return Err(exit::with(Code::Usage, anyhow!("the certificate of client {client} begins at {begins}; {words}")));
    }
    Ok(())
}
