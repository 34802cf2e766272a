//! `veilsum config check`: what `serve` would be set up with, where each value came from, and whether it would start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use serde::Serialize;
use veilsum_aggregator::clock::{Clock as _, SystemClock};
use veilsum_aggregator::config::{Config, Origin, Setting};
use veilsum_aggregator::host::Host;
use veilsum_aggregator::round::Rounds;
use veilsum_aggregator::store::keys::{SealingKeys, listed};
use veilsum_aggregator::store::seal::ServiceKey;
use veilsum_aggregator::store::seen::SeenLog;
use veilsum_aggregator::store::sql::{self, SCHEMA_VERSION, SqlStore};
use veilsum_crypto::messages::RevocationList;

use crate::exit::{Code, Ends as _};
use crate::keyfile;
use crate::output::{Output, table};
use crate::serve::{
    KEY_FILES, SEALING_KEYS, authority_key, key_files, key_folder, keys_there, public_key, sealing_key_file,
    sealing_keys_of_the_environment, service_keys, tasks,
};

/// Options of `config`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print each setting with where it came from, and check all that `serve` would read. Makes and changes nothing.
    #[command(after_help = "Example:\n  veilsum config check --config veilsum.toml")]
    Check {
        /// The configuration file; every key can also be given as VEILSUM_KEY in the environment.
        #[arg(long, default_value = "veilsum.toml")]
        config: PathBuf,
    },
}

/// How long the database is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Checked {
    settings: Vec<Setting>,
    checks: Vec<Check>,
    holds: bool,
}

#[derive(Serialize)]
struct Check {
    what: &'static str,
    holds: bool,
    /// What was found, or what is wrong and what to do.
    found: String,
}

/// Runs the command; it ends with [`Code::Refused`] if a check fails.
pub async fn run(options: Options, output: Output) -> Result<Option<Code>> {
    let Command::Check { config } = options.command;
    let (config, settings) = Config::explained(&config).or_usage()?;
    let checks = vec![
        judged("authority key", authority_key(&config.authority_key).map(|_| "a public key".to_string())),
        judged("auditor keys", auditors(&config)),
        judged("tasks", tasks(&config).map(|tasks| format!("{} in files, each feasible", tasks.len()))),
        judged("revocation list", revocations(&config)),
        judged("service keys", keys(&config)),
        judged("admin token", admin_token(&config)),
        judged("database", database(&config).await),
    ];
    let holds = checks.iter().all(|check| check.holds);
    output.give(&Checked { settings, checks, holds }, in_words)?;
    Ok((!holds).then_some(Code::Refused))
}

fn judged(what: &'static str, found: Result<String>) -> Check {
    match found {
        Ok(found) => Check { what, holds: true, found },
        Err(error) => Check { what, holds: false, found: format!("{error:#}") },
    }
}

fn auditors(config: &Config) -> Result<String> {
    for digits in &config.auditor_keys {
        public_key("auditor_keys", digits)?;
    }
    Ok(format!("{}", config.auditor_keys.len()))
}

fn revocations(config: &Config) -> Result<String> {
    let Some(path) = &config.revocation_file else { return Ok("none in the configuration".to_string()) };
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let list = RevocationList::decode(&bytes, &authority_key(&config.authority_key)?)
        .with_context(|| format!("{} is no list of this authority", path.display()))?;
    Ok(format!("number {}", list.number()))
}

fn keys(config: &Config) -> Result<String> {
    let folder = key_folder(&config.data_dir);
    if !keys_there(&folder)? {
        return Ok(format!("none yet; the first start makes them in {}", folder.display()));
    }
    for name in KEY_FILES.into_iter().skip(1) {
        keyfile::read(&folder.join(name))?;
    }
    let (sealing, from) = match sealing_keys_of_the_environment()? {
        Some(keys) => (keys, format!(", sealing keys in {SEALING_KEYS}")),
        None => (SealingKeys::read(&sealing_key_file(&config.data_dir))?, String::new()),
    };
    let ids = listed(&sealing.ids());
    Ok(format!("{} in {}{from}; sealing under the first of {ids}", key_files().join(", "), folder.display()))
}

fn admin_token(config: &Config) -> Result<String> {
    let path = config.admin_token_path();
    match (config.admin_listen, path.exists()) {
        (None, _) => Ok("not needed: admin_listen is not set".to_string()),
        (Some(_), false) => Ok(format!("none yet; the first start makes it at {}", path.display())),
        (Some(_), true) => keyfile::read(&path).map(|_| format!("{}", path.display())),
    }
}

async fn database(config: &Config) -> Result<String> {
    let url = config.database_url();
    let file = url.strip_prefix("sqlite:").map(Path::new);
    if let Some(file) = file.filter(|file| !file.exists()) {
        return Ok(format!("none yet; the first start makes it at {}", file.display()));
    }
    let opened = tokio::time::timeout(PATIENCE, opened(config, &url)).await;
    let store = opened.map_err(|_| {
        anyhow!("no answer from it in {} s; check that it runs and that the address is right", PATIENCE.as_secs())
    })??;
    sql::check_clock(&url, SystemClock.now()).await?;
    let engine = store.engine_name();
    store.close().await;
    Ok(format!("{engine}, schema version {SCHEMA_VERSION}"))
}

async fn opened(config: &Config, url: &str) -> Result<Arc<SqlStore>> {
    if keys_there(&key_folder(&config.data_dir))? {
        let (key, keys) = service_keys(&config.data_dir, authority_key(&config.authority_key)?)?;
        let seen = SeenLog::in_folder(&config.log_record_path(), keys.aggregator.public().party()).only_looking();
        let store = Arc::new(SqlStore::open(url, key).await?.remembering(seen).await?);
        Rounds::new(Arc::clone(&store), keys, Host::system()).check_identity().await?;
        Ok(store)
    } else {
        if let Some(keys) = sealing_keys_of_the_environment()? {
            return Ok(Arc::new(SqlStore::open(url, keys).await?));
        }
        // Before the first start: no round is open, so no key is asked for.
        Ok(Arc::new(SqlStore::open(url, ServiceKey::from_hex(&"0".repeat(64))?).await?))
    }
}

fn in_words(checked: &Checked) -> String {
    let setting = |Setting { key, value, origin }: &Setting| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let origin = match origin {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Environment => "environment",
        };
        vec![key.clone(), origin.to_string(), value]
    };
    let check = |Check { what, holds, found }: &Check| {
        vec![(*what).to_string(), if *holds { "ok" } else { "FAILS" }.to_string(), found.clone()]
    };
    let settings: Vec<_> = checked.settings.iter().map(setting).collect();
    let checks: Vec<_> = checked.checks.iter().map(check).collect();
    format!(
        "{}\n\n{}\n\n{}",
        table(&["setting", "from", "value"], &settings),
        table(&["check", "", "found"], &checks),
        if checked.holds { "serve would start with this" } else { "serve would not start with this" }
    )
}
