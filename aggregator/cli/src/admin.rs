//! The operator's side of the admin API: where it answers, the token, requests, and errors in words. docs/admin.md
//!
//! The commands of `veilsum` say nothing to the tables; what they print is what the API answers.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use serde_json::Value;
use veilsum_aggregator::config::Config;
use veilsum_client::HttpTransport;
use veilsum_client::transport::{Reply, TransportError};
use zeroize::Zeroizing;

use crate::exit::{self, Code, Ends as _};
use crate::keyfile;

/// An answer that is not an export or a model.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Which service, for commands that talk to its admin API.
#[derive(Args, Clone, Debug)]
pub struct Service {
    /// Where the admin API answers; by default as --config says.
    #[arg(long, value_name = "URL", global = true)]
    admin: Option<String>,
    /// The file with its token; by default as --config says.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// The service's configuration, if it is on this machine.
    #[arg(long, value_name = "FILE", default_value = "veilsum.toml", global = true)]
    config: PathBuf,
    /// Certificates (PEM) to believe over TLS instead of the system's.
    #[arg(long, value_name = "FILE", global = true)]
    admin_ca: Option<PathBuf>,
}

impl Service {
    /// Reads the token and gets ready; nothing is sent yet.
    pub fn open(&self) -> Result<Admin> {
        let (server, token_file) = self.place().or_usage()?;
        if !is_private(&server) {
            let words =
                "the token would travel in the clear; give an https:// address, or a tunnel's end on this machine";
            return Err(anyhow!("{server} is not on this machine: {words} (ssh -L)")).or_usage();
        }
        Admin::believing(&server, &token_file, self.admin_ca.as_deref())
    }

    fn place(&self) -> Result<(String, PathBuf)> {
        if let (Some(server), Some(file)) = (&self.admin, &self.token_file) {
            return Ok((server.clone(), file.clone()));
        }
        if !self.config.exists() {
            bail!(
                "where does the admin API answer? There is no {}; give --config FILE, or --admin URL and --token-file FILE",
                self.config.display()
            );
        }
        let config = Config::load(&self.config)?;
        let configured = || {
            let listen = config.admin_listen.ok_or_else(|| {
                anyhow!("{} sets no admin_listen: the admin API is off; docs/admin.md", self.config.display())
            });
            Ok::<_, anyhow::Error>(format!("http://{}", listen?))
        };
        let server = self.admin.clone().map_or_else(configured, Ok)?;
        Ok((server, self.token_file.clone().unwrap_or_else(|| config.admin_token_path())))
    }
}

/// Over TLS, or on this machine.
pub fn is_private(server: &str) -> bool {
    let Some(host) = server.strip_prefix("http://") else { return true };
    let host = host.split('/').next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A service's admin API.
pub struct Admin {
    server: String,
    transport: HttpTransport,
    token: Zeroizing<String>,
}

impl Admin {
    /// One on this machine.
    pub fn at(server: &str, token_file: &Path) -> Result<Self> {
        Self::believing(server, token_file, None)
    }

    fn believing(server: &str, token_file: &Path, ca_file: Option<&Path>) -> Result<Self> {
        let secret = Zeroizing::new(keyfile::read(token_file).or_usage()?);
        let token = Zeroizing::new(format!("Bearer {}", hex::encode(*secret)));
        let transport = HttpTransport::believing(server, ca_file).or_usage()?;
        Ok(Self { server: server.to_string(), transport, token })
    }

    /// Reads JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let reply = self.ask("GET", path, Vec::new(), ANSWER_BYTES_MAX).await?;
        self.json(path, &reply.body)
    }

    /// Reads bytes, no more than so many.
    pub async fn get_bytes(&self, path: &str, limit_bytes: usize) -> Result<Vec<u8>> {
        Ok(self.ask("GET", path, Vec::new(), limit_bytes).await?.body)
    }

    /// Sends a body; whether something new came of it, and the answer.
    pub async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Result<(bool, Value)> {
        let reply = self.ask(method, path, body, ANSWER_BYTES_MAX).await?;
        Ok((reply.status == 201, self.json(path, &reply.body)?))
    }

    fn json(&self, path: &str, body: &[u8]) -> Result<Value> {
        serde_json::from_slice(body)
            .with_context(|| format!("{}{path} should answer JSON; is it the admin API?", self.server))
    }

    async fn ask(&self, method: &str, path: &str, body: Vec<u8>, limit_bytes: usize) -> Result<Reply> {
        let authorization = [("authorization", self.token.as_str())];
        let reply = self.transport.request(method, path, &authorization, body, limit_bytes).await;
        let reply = reply.map_err(|error| {
            let code = if matches!(error, TransportError::Address(_)) { Code::Usage } else { Code::Fault };
            let error = anyhow::Error::from(error).context(format!("the admin API at {}", self.server));
            exit::with(code, error)
        })?;
        if matches!(reply.status, 200 | 201) { Ok(reply) } else { Err(self.refusal(&reply)) }
    }

    /// docs/admin.md says when each status is answered.
    fn refusal(&self, reply: &Reply) -> anyhow::Error {
        let problem: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let said = problem["detail"].as_str().unwrap_or_default();
        let said: String = said.chars().filter(|c| !c.is_control()).take(1_000).collect();
        let detail = if said.is_empty() { format!("status {}", reply.status) } else { said };
        let rule = problem["rule"].as_str().map(|rule| format!("{rule}: ")).unwrap_or_default();
        match reply.status {
            401 => exit::with(
                Code::Refused,
                anyhow!("the admin API at {} does not know this token; is the token file this service's?", self.server),
            ),
            400 | 404 | 405 | 413 | 415 => exit::with(Code::Usage, anyhow!("{detail}")),
            409 | 410 | 422 => exit::with(Code::Refused, anyhow!("{rule}{detail}")),
            status => {
                anyhow!("the admin API at {} failed with status {status}: {detail}; see the service's log", self.server)
            }
        }
    }
}

/// The one thing of these that a name or the beginning of an id means.
pub fn only_one<'a>(things: &'a [Value], what: &str, id: &str, wanted: &str) -> Result<&'a Value> {
    let is_meant = |thing: &&Value| {
        thing[id].as_str().is_some_and(|id| id.starts_with(wanted)) || thing["name"].as_str() == Some(wanted)
    };
    let meant: Vec<&Value> = things.iter().filter(is_meant).collect();
    match meant[..] {
        [one] => Ok(one),
        [] => Err(anyhow!("there is no {what} {wanted}")).or_usage(),
        _ => Err(anyhow!("{} {what}s are called {wanted}…; give more digits", meant.len())).or_usage(),
    }
}

/// Reads a file that is sent away.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display())).or_usage()
}

/// A number for people; a dash for null.
pub fn number(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{float:.4}"),
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        _ => "-".to_string(),
    }
}

/// Bytes for people.
pub fn kilobytes(value: &Value) -> String {
    let digits = |bytes: f64| if bytes < 1e4 { 3 } else { 1 };
    value.as_f64().map_or("-".to_string(), |bytes| format!("{:.1$}", bytes / 1e3, digits(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leaves_this_machine_over_tls_only() {
        for private in ["http://127.0.0.1:8081", "http://localhost", "http://[::1]:1/x", "https://sums.example"] {
            assert!(is_private(private), "{private}");
        }
        for open in ["http://10.0.0.1:8081", "http://sums.example", "http://127.0.0.1.sums.example:1", "http://"] {
            assert!(!is_private(open), "{open}");
        }
    }

    #[test]
    fn a_beginning_is_enough_if_it_means_one_thing() {
        let things =
            [serde_json::json!({"task": "aa01", "name": "one"}), serde_json::json!({"task": "aa02", "name": "two"})];
        assert_eq!(only_one(&things, "task", "task", "aa02").expect("one")["name"], "two");
        assert_eq!(only_one(&things, "task", "task", "one").expect("one")["task"], "aa01");
        assert!(only_one(&things, "task", "task", "aa").expect_err("two").to_string().contains("more digits"));
        assert!(only_one(&things, "task", "task", "b").is_err());
    }
}
