//! Folders, authority, aggregator, task and identities of the demo.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use veilsum_aggregator::clock::SystemClock;
use veilsum_aggregator::round::{epsilon_spent, learn};
use veilsum_aggregator::service::{Service, Setup};
use veilsum_aggregator::store::{Store as _, sql};
use veilsum_aggregator::task::{FORMAT, Task, TaskError, TaskFile};
use veilsum_client::config::{Identity, Join};
use veilsum_client::training::sgd::{DemoSettings, ServerRate};
use veilsum_crypto::ids::Digest;
use veilsum_crypto::params::RosterParams;
use veilsum_crypto::primitives::signature::IdentityPublicKey;
use veilsum_crypto::privacy::budget::Budget;

use super::{Options, TOLERANCE, layout_digest, refuse};
use crate::authority::{Authority, Group};

/// What the version file of a data directory says.
const VERSION: &str = "veilsum-demo-1";

/// How long phases stay open, ms.
#[derive(Clone, Copy)]
struct Windows {
    /// At least so long each; the first has no roster yet to be measured by.
    phases: [u32; 7],
    /// So long after the last message.
    grace: u64,
}

impl Windows {
    const OF_TASKS: Self = Self { phases: [1_500, 400, 400, 400, 400, 400, 400], grace: 1_000 };
    /// Processes take a while to start, and all of them want the same few cores.
    const OF_PROCESSES: Self = Self { phases: [6_000, 2_000, 2_000, 2_000, 2_000, 2_000, 2_000], grace: 3_000 };
}

/// What a demo is about, wherever it plays.
pub struct Plan {
    /// The task.
    pub task: Task,
    /// Degree and threshold of a full roster.
    pub expected_graph: (u32, u32),
    /// Where the demo keeps its things.
    pub folder: PathBuf,
    /// `sqlite:PATH` or `postgres://…`.
    pub database: String,
    /// How many clients are enrolled.
    pub clients: u32,
}

impl Plan {
    /// Finds a task that so few clients can bear, and clears the folder.
    pub fn new(options: &Options, cohort: u32, settings: &DemoSettings, model_len: u32) -> Result<Self> {
        prepare_folder(&options.data_dir)?;
        let windows = if options.in_processes() { Windows::OF_PROCESSES } else { Windows::OF_TASKS };
        let task = feasible_task(options, cohort, settings, model_len, windows)?;
        Self::in_folder(options, task, cohort)
    }

    /// A demo of this task, over all clients; clears the folder.
    pub fn of(options: &Options, task: Task) -> Result<Self> {
        prepare_folder(&options.data_dir)?;
        Self::in_folder(options, task, options.clients)
    }

    fn in_folder(options: &Options, task: Task, cohort: u32) -> Result<Self> {
        let folder = options.data_dir.clone();
        std::fs::write(folder.join("task.toml"), &task.text)?;
        let database =
            options.database.clone().unwrap_or_else(|| format!("sqlite:{}", folder.join("demo.sqlite").display()));
        let expected_graph =
            RosterParams::derive(cohort, &task.params).map(|params| (params.degree, params.threshold))?;
        Ok(Self { task, expected_graph, folder, database, clients: options.clients })
    }

    /// What every client insists on, and whom it believes.
    pub fn join(&self, server: &str, aggregator: IdentityPublicKey, authority: IdentityPublicKey) -> Join {
        let mut join = Join::new(server, self.task.id, aggregator, authority);
        join.policy.noise_multiplier_min = self.task.file.noise_multiplier;
        join.policy.budget = self.task.budget;
        join.policy.layout = Some(self.task.layout);
        join.policy.cohort_min = self.task.params.cohort_min;
        join
    }

    /// Where the files of a client are.
    pub fn client_folder(&self, number: u32) -> PathBuf {
        self.folder.join("clients").join(format!("{number:04}"))
    }

    /// Writes the configuration under which `serve` serves this demo's task again.
    pub fn write_config(&self, listen: SocketAddr, authority: &IdentityPublicKey, more: &str) -> Result<PathBuf> {
        let (folder, path) = (self.folder.display(), self.folder.join("veilsum.toml"));
        let config = format!(
            "# Serves this demo's task again: veilsum serve --config {folder}/veilsum.toml\nlisten = \"{listen}\"\ndata_dir = \
             \"{folder}\"\nauthority_key = \"{}\"\n{more}\n[[tasks]]\nfile = \"{folder}/task.toml\"\n",
            Digest(*authority.as_bytes()),
        );
        std::fs::write(&path, config)?;
        Ok(path)
    }
}

/// The demo in this process: everything that outlives a round.
pub struct World {
    /// The aggregator.
    pub service: Service,
    /// What it is about.
    pub plan: Plan,
    /// How clients reach the aggregator, and what they insist on.
    pub join: Join,
    /// One identity file a client.
    pub identities: Vec<PathBuf>,
}

impl World {
    /// Makes everything; the first round's header names these bytes as its model.
    pub async fn make(plan: Plan, model: &[u8]) -> Result<Self> {
        let folder = &plan.folder;
        let authority_folder = folder.join("authority");
        let authority = if authority_folder.join("authority.key").exists() {
            Authority::open(&authority_folder)?
        } else {
            Authority::make(&authority_folder)?
        };
        sql::migrate(&plan.database).await?;
        let (sealing, keys) = crate::serve::service_keys(folder, authority.public())?;
        let aggregator = keys.aggregator.public();
        let service = Service::start(Setup {
            database: plan.database.clone(),
            sealing,
            keys,
            log_record: None,
            listen: ([127, 0, 0, 1], 0).into(),
            operations: None,
            clock: Arc::new(SystemClock),
            retention: None,
            revocations: None,
            admin: None,
        })
        .await?;

        let join = plan.join(&format!("http://{}", service.address), aggregator, authority.public());
        let group = Group { number: 0, size: plan.clients };
        let mut identities = Vec::with_capacity(plan.clients as usize);
        for number in 0..plan.clients {
            let path = plan.client_folder(number).join("identity.toml");
            enrol(&authority, group, &path)?;
            identities.push(path);
        }
        let spare = folder.join("spare");
        enrol(&authority, group, &spare.join("identity.toml"))?;
        join.write(&spare.join("join.toml"))?;
        plan.write_config(service.address, &authority.public(), "")?;
        service.rounds.create_task(&plan.task.file, model).await?;
        Ok(Self { service, plan, join, identities })
    }

    /// The model that the next round trains from.
    pub async fn model(&self) -> Result<Vec<f32>> {
        let store = self.service.rounds.store();
        let (task, len) = (self.plan.task.id, self.plan.task.file.model_len);
        let row = store.tasks().await?.into_iter().find(|row| row.task == task).context("the task is gone")?;
        let bytes = store.model(row.model).await?.context("the model is gone")?;
        Ok(learn::from_bytes(&bytes, len)?)
    }

    /// What the task has spent so far; none without noise.
    pub async fn epsilon_spent(&self) -> Result<Option<f64>> {
        let task = &self.plan.task;
        if task.charge.is_none() {
            return Ok(None);
        }
        let rows = self.service.rounds.store().ledger(task.id).await?;
        Ok(Some(epsilon_spent(&rows, task.params.dp_delta).unwrap_or(0.0)))
    }

    /// Stops the aggregator.
    pub async fn stop(self) {
        self.service.stop().await;
    }
}

fn enrol(authority: &Authority, group: Group, path: &Path) -> Result<()> {
    let identity: Identity = authority.enrol(group, 30)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    identity.write(path).with_context(|| format!("cannot write {}", path.display()))
}

/// A new folder, or one that an earlier demo of this version made: its clients and its database are made anew, its
/// authority stays.
fn prepare_folder(folder: &Path) -> Result<()> {
    let version = folder.join("version");
    if folder.exists() {
        let is_empty = folder.read_dir().map_err(|error| refuse(folder, &error.to_string()))?.next().is_none();
        match std::fs::read_to_string(&version) {
            Ok(text) if text.trim_end() == VERSION => {}
            Ok(text) => {
                return Err(refuse(
                    folder,
                    &format!("its version file says \"{}\", \"{VERSION}\" was expected", text.trim_end()),
                ));
            }
            Err(_) if is_empty => {}
            Err(_) => return Err(refuse(folder, "it holds other things and no version file")),
        }
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the data directory {}", folder.display()))?;
    for stale in ["clients", "spare", "noised", "turns"] {
        remove(&folder.join(stale))?;
    }
    for stale in ["demo.sqlite", "demo.sqlite-wal", "demo.sqlite-shm", "join.toml", "model.safetensors"] {
        remove(&folder.join(stale))?;
    }
    std::fs::write(version, format!("{VERSION}\n"))?;
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove what an earlier run left at {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The task with the largest tolerance, from 0.25 down, that every permitted roster can bear.
fn feasible_task(
    options: &Options,
    cohort: u32,
    settings: &DemoSettings,
    model_len: u32,
    windows: Windows,
) -> Result<Task> {
    let mut name = [0; 8];
    getrandom::fill(&mut name).context("the operating system gives no randomness")?;
    let clip_norm = f64::from(settings.clip_norm);
    let rate = ServerRate::demo(options.rounds.into());
    let mut refused = None;
    for step in 0..=50 {
        let dropout_tolerance = TOLERANCE * f64::from(50 - step) / 50.0;
        let roster_min = (cohort - (f64::from(cohort) * dropout_tolerance) as u32).max(3);
        let file = TaskFile {
            format: FORMAT.into(),
            name: format!("demo-{}", hex::encode(name)),
            rounds: options.rounds.into(),
            invited: cohort,
            roster_min,
            roster_max: cohort,
            cohort_min: None,
            corrupt_fraction: 0.05,
            dropout_tolerance,
            security_bits: 80,
            completion_bits: 30,
            model_len,
            layout: layout_digest().to_string(),
            weight_max: 0,
            clip_norm,
            scale: f64::from(settings.scaled_clip) / clip_norm,
            noise_multiplier: settings.noise_multiplier,
            wrap_bits: 40,
            dp_delta: 1e-5,
            budget_epsilon: f64::MAX,
            windows_ms: windows.phases,
            grace_ms: windows.grace,
            server_rate: [rate.first.into(), rate.last.into()],
            query: None,
        };
        match Task::new(file) {
            Ok(task) => return with_budget(task),
            Err(error @ TaskError::Params(_)) => refused = Some(error),
            Err(other) => return Err(other.into()),
        }
    }
    Err(refused.expect("at least one tolerance was tried").into())
}

/// The budget that exactly all rounds need.
fn with_budget(task: Task) -> Result<Task> {
    let rounds = u32::try_from(task.file.rounds).unwrap_or(u32::MAX);
    let Some(charge) = &task.charge else {
        return Ok(Task { budget: Budget { epsilon: f64::MAX, ..task.budget }, ..task });
    };
    // Sums are rounded up one by one, the product once: the difference is far below a millionth.
    let epsilon = charge.times(rounds).epsilon(task.params.dp_delta).epsilon * (1.0 + 1e-6);
    let file = TaskFile { budget_epsilon: epsilon, ..task.file };
    Ok(Task::new(file)?)
}
