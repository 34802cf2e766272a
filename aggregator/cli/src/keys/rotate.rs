//! `veilsum keys rotate`: another service key, while the service runs. docs/operating.md, "Exchange the sealing key"
//!
//! Three steps, each of which may be interrupted and run again. First a new key is put before the old one in the file: it seals
//! from now on, both open. Then `--reseal` retires the old one in the database and seals under the new one what was under it.
//! Then `--finish` drops it from the file, if nothing is sealed under it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde::Serialize;
use veilsum_aggregator::clock::{Clock as _, SystemClock};
use veilsum_aggregator::config::Config;
use veilsum_aggregator::store::keys::{SealingKeys, listed};
use veilsum_aggregator::store::seal::{KeyId, ServiceKey};
use veilsum_aggregator::store::sql::{SealedUnder, SqlStore};
use zeroize::Zeroizing;

use crate::exit::{self, Code, Ends as _};
use crate::keyfile;
use crate::output::Output;
use crate::serve::{SEALING_KEYS, sealing_key_file, sealing_keys_of_the_environment};

/// Options of `keys rotate`.
#[derive(Args)]
pub struct RotateOptions {
    /// The configuration file: where the database and the key file are.
    #[arg(long, default_value = "veilsum.toml")]
    config: PathBuf,
    /// The file with the sealing keys, if it is not where `serve` has it.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Retire the old keys, and seal under the first key what is under others.
    #[arg(long, conflicts_with = "finish")]
    reseal: bool,
    /// Drop the old keys, if nothing is sealed under them.
    #[arg(long)]
    finish: bool,
}

/// What a step did.
#[derive(Serialize)]
struct Done {
    step: Step,
    /// The key that seals.
    seals: String,
    /// Others that still open.
    opens: Vec<String>,
    /// Rows that were sealed anew.
    resealed: u64,
    /// Keys that were dropped.
    dropped: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    Added,
    Resealed,
    Finished,
}

/// Runs one step.
pub async fn run(options: RotateOptions, output: Output) -> Result<()> {
    let keys = Keys::find(&options)?;
    let done = if options.reseal {
        reseal(&options, &keys).await?
    } else if options.finish {
        finish(&options, &keys).await?
    } else {
        add(&keys)?
    };
    output.give(&done, |done| in_words(done, &keys))
}

/// Where the keys are.
enum Keys {
    Environment,
    File(PathBuf),
}

impl Keys {
    fn find(options: &RotateOptions) -> Result<Self> {
        if let Some(file) = &options.file {
            return Ok(Self::File(file.clone()));
        }
        if std::env::var_os(SEALING_KEYS).is_some() {
            return Ok(Self::Environment);
        }
        Ok(Self::File(sealing_key_file(&Config::load(&options.config).or_usage()?.data_dir)))
    }

    fn read(&self) -> Result<SealingKeys> {
        match self {
            Self::File(file) => Ok(SealingKeys::read(file).or_usage()?),
            Self::Environment => sealing_keys_of_the_environment().or_usage()?.context("it was there"),
        }
    }
}

/// One at a time: whoever else changes this file now is refused. It is held until the value is dropped.
fn lock(file: &Path) -> Result<std::fs::File> {
    let held = std::fs::File::open(file).with_context(|| format!("cannot read the key file {}", file.display()))?;
    held.try_lock().map_err(|_| anyhow!("another `veilsum keys rotate` works on {}; let it finish", file.display()))?;
    Ok(held)
}

/// Its keys as they stand in a file.
fn lines(file: &Path) -> Result<Vec<Zeroizing<String>>> {
    let text = Zeroizing::new(std::fs::read_to_string(file)?);
    Ok(text.split_whitespace().map(|key| Zeroizing::new(key.to_string())).collect())
}

fn add(keys: &Keys) -> Result<Done> {
    let Keys::File(file) = keys else {
        return Err(anyhow!(
            "the sealing keys are in {SEALING_KEYS}: put a new one before the others there (`veilsum keys generate --kind service`), \
             a comma between, start the replicas with it, then run `veilsum keys rotate --reseal`"
        ))
        .or_usage();
    };
    let _held = lock(file)?;
    let old = SealingKeys::read(file).or_usage()?.ids();
    if old.len() > 1 {
        let error = anyhow!(
            "a rotation is under way: {} has the keys {}; go on with `veilsum keys rotate --reseal`, then `--finish`",
            file.display(),
            listed(&old)
        );
        return Err(exit::with(Code::Refused, error));
    }
    let new = ServiceKey::generate();
    let mut all = lines(file)?;
    all.insert(0, new.to_hex());
    keyfile::replace(file, &all)?;
    Ok(done(Step::Added, &[&[new.id()], old.as_slice()].concat()))
}

fn done(step: Step, ids: &[KeyId]) -> Done {
    let mut ids = ids.iter().map(KeyId::to_string);
    let seals = ids.next().expect("there is a key that seals");
    Done { step, seals, opens: ids.collect(), resealed: 0, dropped: Vec::new() }
}

async fn store(options: &RotateOptions, keys: SealingKeys) -> Result<SqlStore> {
    let config = Config::load(&options.config).or_usage()?;
    Ok(SqlStore::open(&config.database_url(), keys).await?)
}

async fn reseal(options: &RotateOptions, keys: &Keys) -> Result<Done> {
    let sealing = keys.read()?;
    let ids = sealing.ids();
    let store = store(options, sealing).await?;
    let resealed = store.reseal(SystemClock.now()).await?;
    store.close().await;
    Ok(Done { resealed, ..done(Step::Resealed, &ids) })
}

async fn finish(options: &RotateOptions, keys: &Keys) -> Result<Done> {
    let _held = match keys {
        Keys::File(file) => Some(lock(file)?),
        Keys::Environment => None,
    };
    let sealing = keys.read()?;
    let ids = sealing.ids();
    let store = store(options, sealing).await?;
    let under = store.sealed_under().await?;
    store.close().await;
    // A key that may still seal could do so between this look and the dropping.
    let stands = |under: &&SealedUnder| under.key != Some(ids[0]) && (under.rows > 0 || !under.retired);
    if let Some(SealedUnder { key, rows, .. }) = under.iter().find(stands) {
        let key = key.map_or("a key without a name".to_string(), |key| key.to_string());
        let error = anyhow!("{key} still seals: {rows} rows are under it; run `veilsum keys rotate --reseal` first");
        return Err(exit::with(Code::Refused, error));
    }
    if let Keys::File(file) = keys {
        keyfile::replace(file, &lines(file)?[..1])?;
    }
    let dropped = ids[1..].iter().map(KeyId::to_string).collect();
    Ok(Done { dropped, ..done(Step::Finished, &ids[..1]) })
}

fn in_words(done: &Done, keys: &Keys) -> String {
    let Done { step, seals, opens, resealed, dropped } = done;
    let place = match keys {
        Keys::File(file) => file.display().to_string(),
        Keys::Environment => SEALING_KEYS.to_string(),
    };
    match step {
        Step::Added => format!(
            "{place}: the new key {seals} seals, {} opens\ncopy the file to every other replica, then run `veilsum keys rotate --reseal`",
            opens.join(", ")
        ),
        Step::Resealed if opens.is_empty() => {
            format!("{resealed} rows were sealed anew under {seals}; there is no other key")
        }
        Step::Resealed => format!(
            "{resealed} rows were sealed anew under {seals}; {} seals nothing more\nrun `veilsum keys rotate --finish` when every replica has {seals}",
            opens.join(", ")
        ),
        Step::Finished if dropped.is_empty() => format!("{place}: there is no key but {seals}; nothing to drop"),
        Step::Finished => {
            let drop = match keys {
                Keys::File(_) => "was dropped from",
                Keys::Environment => "may now be taken out of",
            };
            let dropped = dropped.join(", ");
            format!("{dropped} {drop} {place}; {seals} seals and opens\nkeep {dropped} as long as backups from before")
        }
    }
}
