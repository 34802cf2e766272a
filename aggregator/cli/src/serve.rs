//! `veilsum serve` and `veilsum migrate`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde::Serialize;
use veilsum_aggregator::clock::{Clock as _, SystemClock};
use veilsum_aggregator::config::Config;
use veilsum_aggregator::http::admin::AdminToken;
use veilsum_aggregator::round::{ServiceKeys, learn};
use veilsum_aggregator::service::{AdminSetup, RetentionDays, Service, Setup};
use veilsum_aggregator::store::keys::SealingKeys;
use veilsum_aggregator::store::sql;
use veilsum_aggregator::task::{Task, TaskFile};
use veilsum_client::config::Join;
use veilsum_crypto::ids::{Digest, TaskId};
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey};
use veilsum_crypto::transparency::checkpoint::CheckpointKey;
use zeroize::Zeroizing;

use crate::exit::Ends as _;
use crate::keyfile;
use crate::output::Output;

/// Options of `serve`.
#[derive(Args)]
pub struct ServeOptions {
    /// The configuration file; every key can also be given as VEILSUM_KEY in the environment.
    #[arg(long, default_value = "veilsum.toml")]
    config: PathBuf,
    /// Make or update the tables before starting.
    #[arg(long)]
    migrate: bool,
    /// Stop when standard input ends: for a program that starts this one, and must not leave it behind.
    #[arg(long)]
    until_stdin_ends: bool,
}

/// Options of `migrate`.
#[derive(Args)]
pub struct MigrateOptions {
    /// `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/NAME`.
    #[arg(long, env = "DATABASE_URL")]
    database: String,
}

/// Makes or updates the tables.
pub async fn migrate(options: MigrateOptions, output: Output) -> Result<()> {
    sql::migrate(&options.database).await?;
    output.give(&serde_json::json!({ "schema": sql::SCHEMA_VERSION }), |_| {
        format!("the tables have schema version {}", sql::SCHEMA_VERSION)
    })
}

/// Runs the aggregator until it is told to stop.
pub async fn serve(options: ServeOptions, output: Output) -> Result<()> {
    logs("info");
    let config = Config::load(&options.config).or_usage()?;
    let tasks = tasks(&config).or_usage()?;
    let database = config.database_url();
    if options.migrate || database.starts_with("sqlite:") {
        std::fs::create_dir_all(&config.data_dir)?;
        sql::migrate(&database).await?;
    }
    let authority = authority_key(&config.authority_key).or_usage()?;
    let auditors: Vec<_> = config
        .auditor_keys
        .iter()
        .map(|digits| public_key("auditor_keys", digits))
        .collect::<Result<_>>()
        .or_usage()?;
    let (sealing, keys) = service_keys(&config.data_dir, authority)?;
    let keys = ServiceKeys { auditors, ..keys };
    let aggregator = keys.aggregator.public();
    let revocations = config
        .revocation_file
        .as_ref()
        .map(|path| std::fs::read(path).with_context(|| format!("cannot read the revocation list {}", path.display())));
    let revocations = revocations.transpose()?;
    let admin = admin(&config)?;
    std::fs::create_dir_all(config.log_record_path())
        .with_context(|| format!("cannot make the folder {}", config.log_record_path().display()))?;
    sql::check_clock(&database, SystemClock.now()).await?; // before anything is dated by it
    let service = Service::start(Setup {
        database,
        sealing,
        keys,
        log_record: Some(config.log_record_path()),
        listen: config.listen,
        operations: Some(config.operations),
        clock: Arc::new(SystemClock),
        retention: Some(RetentionDays { rounds: config.retention_days, exports: config.export_retention_days }),
        revocations,
        admin,
    })
    .await?;
    let mut serving = Serving {
        aggregator_key: Digest(*aggregator.as_bytes()).to_string(),
        tasks: Vec::new(),
        listen: service.address.to_string(),
        operations: config.operations.to_string(),
        admin: service.admin.map(|address| ServedAdmin {
            listen: address.to_string(),
            token_file: config.admin_token_path().display().to_string(),
        }),
    };
    for (file, model) in tasks {
        let task = service.rounds.create_task(&file, &model).await?;
        let join = write_join(&config, service.address, &file, task, aggregator)?.display().to_string();
        serving.tasks.push(ServedTask { task: task.to_string(), name: file.name, join });
    }
    output.give(&serving, Serving::in_words)?;
    stop_signal(options.until_stdin_ends).await?;
    tracing::info!("shutting down: requests in flight are finished");
    service.stop().await;
    Ok(())
}

/// What `serve` says when it listens.
#[derive(Serialize)]
struct Serving {
    aggregator_key: String,
    tasks: Vec<ServedTask>,
    listen: String,
    operations: String,
    /// Where the admin API answers, and the file with its token.
    admin: Option<ServedAdmin>,
}

#[derive(Serialize)]
struct ServedAdmin {
    listen: String,
    token_file: String,
}

#[derive(Serialize)]
struct ServedTask {
    task: String,
    name: String,
    /// The public file that clients are given.
    join: String,
}

impl Serving {
    fn in_words(&self) -> String {
        let mut lines = vec![format!("aggregator key {}", self.aggregator_key)];
        let serving = |ServedTask { task, name, join }: &ServedTask| {
            format!("serving task {task} \"{name}\"; clients join with {join}")
        };
        lines.extend(self.tasks.iter().map(serving));
        if let Some(ServedAdmin { listen, token_file }) = &self.admin {
            lines.push(format!("admin API on http://{listen}, token in {token_file}"));
        }
        lines.push(format!("listening on http://{}, health and metrics on http://{}", self.listen, self.operations));
        lines.join("\n")
    }
}

/// The admin API, where it is configured; its token is made at the first start.
fn admin(config: &Config) -> Result<Option<AdminSetup>> {
    let Some(listen) = config.admin_listen else { return Ok(None) };
    let secret = Zeroizing::new(keyfile::read_or_make(&config.admin_token_path())?);
    Ok(Some(AdminSetup { listen, token: AdminToken::new(&secret) }))
}

/// Task files with their first models, each checked before anything starts.
pub fn tasks(config: &Config) -> Result<Vec<(TaskFile, Vec<u8>)>> {
    let read = |entry: &veilsum_aggregator::config::TaskEntry| {
        let text = std::fs::read_to_string(&entry.file)
            .with_context(|| format!("cannot read the task file {}", entry.file.display()))?;
        let file = TaskFile::parse(&text).with_context(|| format!("{}", entry.file.display()))?;
        let task = Task::new(file.clone()).with_context(|| format!("{}", entry.file.display()))?;
        let model = match &entry.model {
            None => learn::first_model(&task),
            Some(path) => std::fs::read(path).with_context(|| format!("cannot read the model {}", path.display()))?,
        };
        learn::is_first_model(&task, &model).with_context(|| format!("{}", entry.file.display()))?;
        Ok((file, model))
    };
    config.tasks.iter().map(read).collect()
}

/// The public file that clients are given: where the service is, the task, and the keys to pin. Written once; what an operator
/// changes in it (the address behind a proxy, the policy) stays.
fn write_join(
    config: &Config,
    address: SocketAddr,
    file: &TaskFile,
    task: TaskId,
    aggregator: IdentityPublicKey,
) -> Result<PathBuf> {
    let path = config.data_dir.join(format!("join-{task}.toml"));
    if !path.exists() {
        let mut join = Join::new(&format!("http://{address}"), task, aggregator, authority_key(&config.authority_key)?);
        join.policy.noise_multiplier_min = join.policy.noise_multiplier_min.min(file.noise_multiplier);
        join.write(&path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(path)
}

/// A public key as it stands in configuration files.
pub fn authority_key(digits: &str) -> Result<IdentityPublicKey> {
    public_key("authority_key", digits)
}

/// A public key of this name, 64 hexadecimal digits.
pub fn public_key(name: &str, digits: &str) -> Result<IdentityPublicKey> {
    let bytes = Digest::from_hex(digits).ok_or_else(|| anyhow!("{name} must be 64 lower-case hexadecimal digits"))?;
    IdentityPublicKey::from_bytes(bytes.0).map_err(|error| anyhow!("{name}: {error}"))
}

/// What the service's secrets are called: of the database's columns, of its statements, of its log.
pub const KEY_FILES: [&str; 3] = ["sealing.key", "aggregator.key", "checkpoint.key"];

/// Sealing keys of the environment, which stand for the file: the first seals, all open.
pub const SEALING_KEYS: &str = "VEILSUM_SEALING_KEYS";

/// Where they are.
pub fn key_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("service")
}

/// Where the sealing keys are, if not in the environment.
pub fn sealing_key_file(data_dir: &Path) -> PathBuf {
    key_folder(data_dir).join(KEY_FILES[0])
}

/// Sealing keys of the environment.
pub fn sealing_keys_of_the_environment() -> Result<Option<SealingKeys>> {
    let Ok(text) = std::env::var(SEALING_KEYS) else { return Ok(None) };
    let keys = SealingKeys::parse(&Zeroizing::new(text));
    Ok(Some(keys.with_context(|| format!("{SEALING_KEYS} cannot be used"))?))
}

/// The files that must be there.
pub fn key_files() -> &'static [&'static str] {
    if std::env::var_os(SEALING_KEYS).is_some() { &KEY_FILES[1..] } else { &KEY_FILES }
}

/// Which of them are there: all, or none yet. A part of them is what a backup restored by halves leaves, and new ones beside the
/// old would be another service.
pub fn keys_there(folder: &Path) -> Result<bool> {
    let files = key_files();
    let there: Vec<&str> = files.iter().copied().filter(|name| folder.join(name).exists()).collect();
    match there.len() {
        0 => Ok(false),
        len if len == files.len() => Ok(true),
        _ => Err(anyhow!(
            "{} has {} only, {} were expected; restore the others: with new ones this would be another service",
            folder.display(),
            there.join(", "),
            files.join(", ")
        )),
    }
}

/// The service's keys, made at the first start. The authority's is not among them.
pub fn service_keys(data_dir: &Path, authority: IdentityPublicKey) -> Result<(SealingKeys, ServiceKeys)> {
    let folder = key_folder(data_dir);
    keys_there(&folder)?;
    let [sealing_file, aggregator, checkpoint] = KEY_FILES.map(|name| folder.join(name));
    let sealing = match sealing_keys_of_the_environment()? {
        Some(keys) => keys,
        None => {
            if !sealing_file.exists() {
                keyfile::make(&sealing_file)?;
            }
            SealingKeys::read(&sealing_file)?
        }
    };
    let aggregator = IdentitySecretKey::from_bytes(&keyfile::read_or_make(&aggregator)?);
    let checkpoint = CheckpointKey::from_bytes(&keyfile::read_or_make(&checkpoint)?);
    let origin = log_origin(&aggregator.public());
    Ok((sealing, ServiceKeys { aggregator, checkpoint, origin, authority, auditors: Vec::new() }))
}

/// What an aggregator's log is called in its checkpoints.
pub fn log_origin(aggregator: &IdentityPublicKey) -> String {
    format!("veilsum/{}", aggregator.party())
}

/// Structured logs on stderr; `RUST_LOG` decides what is said.
pub fn logs(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    // A second call, in tests, changes nothing.
    // A log that cannot be written, on a full disk say, is no reason to end: without this its own complaint would panic.
    let log = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter);
    let _ = log.with_writer(std::io::stderr).json().try_init();
}

async fn stop_signal(until_stdin_ends: bool) -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("cannot wait for an interrupt"),
        _ = terminate.recv() => Ok(()),
        () = stdin_ended(), if until_stdin_ends => Ok(()),
    }
}

/// On a thread of its own: a read of standard input cannot be called off.
async fn stdin_ended() {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        ended.send(())
    });
    let _ = end.await;
}
