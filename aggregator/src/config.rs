//! How a service is set up: file, then environment. `veilsum serve --config veilsum.toml`
//!
//! Every key of the file can be given as `VEILSUM_KEY`; the environment wins.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::{Deserialize, Serialize};

/// The settings of `veilsum serve`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    #[serde(default = "defaults::listen")]
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` answer.
    #[serde(default = "defaults::operations")]
    pub operations: SocketAddr,
    /// `sqlite:PATH` or `postgres://…`; default: SQLite in the data directory.
    #[serde(default)]
    pub database: Option<String>,
    /// Keys, and the embedded database.
    pub data_dir: PathBuf,
    /// Where this replica keeps the newest head of the log that it has seen, on a disk that lasts and apart from the database; default:
    /// the data directory.
    #[serde(default)]
    pub log_record_dir: Option<PathBuf>,
    /// The enrolment authority's public key, 64 hexadecimal digits.
    pub authority_key: String,
    /// Public keys of auditors, who may read rounds as participants do, each 64 hexadecimal digits.
    #[serde(default)]
    pub auditor_keys: Vec<String>,
    /// Task files to serve, each with `model` beside it.
    #[serde(default)]
    pub tasks: Vec<TaskEntry>,
    /// A proxy in front speaks TLS: only then may `listen` be other than loopback.
    #[serde(default)]
    pub behind_tls_proxy: bool,
    /// Listen in the clear beyond loopback. Messages are signed, and shares and inputs are sealed; who takes part is not.
    #[serde(default)]
    pub insecure_listen: bool,
    /// Where the admin API answers; absent: nowhere.
    #[serde(default)]
    pub admin_listen: Option<SocketAddr>,
    /// Let the admin API answer beyond loopback. Its token then travels in the clear.
    #[serde(default)]
    pub admin_insecure_listen: bool,
    /// The admin API's token, 64 hexadecimal digits, made where there is none; default: `admin.token` in the data directory.
    #[serde(default)]
    pub admin_token_file: Option<PathBuf>,
    /// How long rounds that are over keep digests and can be looked at, days. Rosters stay: they were signed.
    #[serde(default = "defaults::retention_days")]
    pub retention_days: u64,
    /// How long rounds that are over keep the messages that their export holds, days; at most `retention_days`.
    #[serde(default = "defaults::retention_days")]
    pub export_retention_days: u64,
    /// A revocation list that the authority signed, taken up when the service starts.
    #[serde(default)]
    pub revocation_file: Option<PathBuf>,
}

/// One task to serve.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TaskEntry {
    /// The task file.
    pub file: PathBuf,
    /// Its first model (safetensors, one f32 tensor "model"); default: all zeros.
    #[serde(default)]
    pub model: Option<PathBuf>,
}

/// What a key is called in the environment, before its own name in capitals.
const PREFIX: &str = "VEILSUM_";

/// Secrets of the environment, which are no settings: they are read where they are used, and shown nowhere.
const SECRETS: [&str; 1] = ["sealing_keys"];

/// One setting, as it is in force.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Setting {
    /// Its name in the file.
    pub key: String,
    /// Its value; a password in it is not shown.
    pub value: serde_json::Value,
    /// Who said so.
    pub origin: Origin,
}

/// Where a setting came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File,
    /// The environment.
    Environment,
}

/// A database's address, fit to be shown: passwords stand before the last `@`, or in the query.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_string() };
    let (who, place) = rest.rsplit_once('@').map_or((None, rest), |(who, place)| (Some(who), place));
    let who = who.map_or(String::new(), |who| match who.split_once(':') {
        Some((user, _)) => format!("{user}:***@"),
        None => format!("{who}@"),
    });
    let (place, query) = place.split_once('?').map_or((place, None), |(place, query)| (place, Some(query)));
    let hidden = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("password") => format!("{name}=***"),
        _ => pair.to_string(),
    };
    let query = query.map(|query| format!("?{}", query.split('&').map(hidden).collect::<Vec<_>>().join("&")));
    format!("{scheme}://{who}{place}{}", query.unwrap_or_default())
}

mod defaults {
    use std::net::SocketAddr;
    pub fn listen() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 8_443))
    }
    pub fn operations() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 8_444))
    }
    pub fn retention_days() -> u64 {
        30
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Unreadable or of another shape.
    #[error("the configuration cannot be used: {0}")]
    Figment(Box<figment::Error>),
    /// No such file.
    #[error("a configuration file was expected at {0}; there is none. docs/operating.md has one to copy")]
    Missing(PathBuf),
    /// Listening in the clear.
    #[error(
        "listen = \"{0}\" is not a loopback address: put a TLS proxy in front and set behind_tls_proxy, or set insecure_listen"
    )]
    InTheClear(SocketAddr),
    /// The admin API beyond loopback.
    #[error(
        "admin_listen = \"{0}\" is not a loopback address: reach it through a tunnel, or set admin_insecure_listen if a TLS proxy is in front"
    )]
    AdminInTheClear(SocketAddr),
    /// Exports cannot outlive rounds.
    #[error(
        "export_retention_days = {exports} is longer than retention_days = {rounds}: an export needs its round; raise the latter"
    )]
    Retention {
        /// Of exports.
        exports: u64,
        /// Of rounds.
        rounds: u64,
    },
}

impl Config {
    /// Reads a file and the environment.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Ok(Self::explained(path)?.0)
    }

    /// The same, and where each setting came from, by key.
    pub fn explained(path: &Path) -> Result<(Self, Vec<Setting>), ConfigError> {
        if !path.is_file() {
            return Err(ConfigError::Missing(path.to_path_buf()));
        }
        let figment = Figment::new().merge(Toml::file_exact(path)).merge(Env::prefixed(PREFIX).ignore(&SECRETS));
        let config = figment.extract::<Self>().map_err(|error| ConfigError::Figment(Box::new(error)))?.checked()?;
        let shown = Self { database: Some(without_password(&config.database_url())), ..config.clone() };
        let values = serde_json::to_value(shown).expect("settings are texts, numbers and lists");
        let origin_of = |key: &str| match figment.find_metadata(key) {
            None => Origin::Default,
            Some(data) if data.source.is_some() => Origin::File,
            Some(_) => Origin::Environment,
        };
        let settings = values.as_object().into_iter().flatten().map(|(key, value)| Setting {
            key: key.clone(),
            value: value.clone(),
            origin: origin_of(key),
        });
        Ok((config, settings.collect()))
    }

    /// Refuses to listen in the clear by accident, and retention that contradicts itself.
    pub fn checked(self) -> Result<Self, ConfigError> {
        if !(self.listen.ip().is_loopback() || self.behind_tls_proxy || self.insecure_listen) {
            return Err(ConfigError::InTheClear(self.listen));
        }
        if let Some(address) = self.admin_listen.filter(|it| !it.ip().is_loopback() && !self.admin_insecure_listen) {
            return Err(ConfigError::AdminInTheClear(address));
        }
        if self.export_retention_days > self.retention_days {
            let (exports, rounds) = (self.export_retention_days, self.retention_days);
            return Err(ConfigError::Retention { exports, rounds });
        }
        Ok(self)
    }

    /// Where the admin API's token is.
    pub fn admin_token_path(&self) -> PathBuf {
        self.admin_token_file.clone().unwrap_or_else(|| self.data_dir.join("admin.token"))
    }

    /// Where the newest head of the log is kept.
    pub fn log_record_path(&self) -> PathBuf {
        self.log_record_dir.clone().unwrap_or_else(|| self.data_dir.clone())
    }

    /// The database's address.
    pub fn database_url(&self) -> String {
        self.database.clone().unwrap_or_else(|| format!("sqlite:{}", self.data_dir.join("veilsum.sqlite").display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str) -> Config {
        Config {
            listen: listen.parse().expect("an address"),
            operations: defaults::operations(),
            database: None,
            log_record_dir: None,
            data_dir: "data".into(),
            authority_key: "00".repeat(32),
            auditor_keys: Vec::new(),
            tasks: Vec::new(),
            behind_tls_proxy: false,
            insecure_listen: false,
            admin_listen: None,
            admin_insecure_listen: false,
            admin_token_file: None,
            retention_days: 30,
            export_retention_days: 30,
            revocation_file: None,
        }
    }

    #[test]
    fn only_loopback_is_listened_on_in_the_clear_unless_said() {
        assert!(config("127.0.0.1:1").checked().is_ok());
        assert!(matches!(config("0.0.0.0:1").checked(), Err(ConfigError::InTheClear(_))));
        assert!(Config { behind_tls_proxy: true, ..config("0.0.0.0:1") }.checked().is_ok());
    }

    #[test]
    fn the_admin_api_stays_on_loopback_unless_said_for_itself() {
        let admin = |address: &str| Config {
            admin_listen: Some(address.parse().expect("an address")),
            behind_tls_proxy: true, // of the public port: says nothing of this one
            ..config("127.0.0.1:1")
        };
        assert!(admin("127.0.0.1:2").checked().is_ok());
        assert!(admin("[::1]:2").checked().is_ok());
        assert!(matches!(admin("10.0.0.1:2").checked(), Err(ConfigError::AdminInTheClear(_))));
        assert!(Config { admin_insecure_listen: true, ..admin("10.0.0.1:2") }.checked().is_ok());
    }

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("postgres://veilsum:secret@db/veilsum", "postgres://veilsum:***@db/veilsum"),
            ("postgres://veilsum:se/c@r?et@db/veilsum", "postgres://veilsum:***@db/veilsum"),
            ("postgres://veilsum@db/veilsum?sslmode=require", "postgres://veilsum@db/veilsum?sslmode=require"),
            ("postgres:///veilsum?user=a&password=secret", "postgres:///veilsum?user=a&password=***"),
            ("sqlite:data/veilsum.sqlite", "sqlite:data/veilsum.sqlite"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn an_export_is_kept_no_longer_than_its_round() {
        let kept = |exports| Config { export_retention_days: exports, ..config("127.0.0.1:1") }.checked();
        assert!(kept(0).is_ok() && kept(30).is_ok());
        assert!(matches!(kept(31), Err(ConfigError::Retention { exports: 31, rounds: 30 })));
    }
}
