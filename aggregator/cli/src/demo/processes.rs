//! `veilsum demo --processes`: authority, aggregator and clients as processes of their own.
//!
//! ```text
//! veilsum authority init, enrol        once, and once for each client: writes identity files
//! veilsum serve                        one, or --replicas on one database; asked by their admin APIs
//! veilsum demo-client ORDER            one for each invited client and round
//! ```
//! They share nothing but HTTP and files. Each ends with its standard input, which this process holds: whatever becomes of
//! it, none of them outlives it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};
use veilsum_aggregator::round::learn;
use veilsum_client::config::Join;
use veilsum_client::{HttpTransport, Transport as _};
use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::primitives::signature::IdentityPublicKey;

use super::client::{Account, Order, OrderedFate};
use super::cluster::Cluster;
use super::data::Corpus;
use super::display::Progress;
use super::fleet::{Played, ROUND_MAX, count, is_plain_sum};
use super::lossy::Loss;
use super::outcome::{ByPhase, ReplicaKilled, RoundNoise};
use super::replicas::Replicas;
use super::setup::Plan;

/// How often the admin API is asked how a round stands.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a client may take to say how it went once its round is over.
const ACCOUNT_MAX: Duration = Duration::from_secs(60);
/// In which phase a replica is killed, by turns.
const KILLED_IN: [&str; 5] = ["share", "acknowledge", "mask", "confirm", "unmask"];

/// A demo in processes.
pub struct Processes {
    /// What it is about.
    pub plan: Plan,
    /// How clients reach the aggregator, and what they insist on.
    pub join: Join,
    clients: Vec<ClientId>,
    replicas: Replicas,
    count: usize,
    /// Where the demo has one of its own.
    cluster: Option<Cluster>,
    cohort: u32,
    seed: u64,
}

impl Processes {
    /// Makes an authority, enrols everybody, and starts the aggregator, which opens the first round.
    pub async fn start(mut plan: Plan, options: &super::Options, corpus: &Corpus, model: &[f32]) -> Result<Self> {
        let count = options.replicas as usize;
        let mut cluster = None;
        if count > 1 && options.database.is_none() {
            let started = Cluster::start().await?;
            plan.database.clone_from(&started.url);
            cluster = Some(started);
        }
        let authority = authority(&plan.folder).await?;
        let mut clients = Vec::with_capacity(plan.clients as usize);
        for (number, text) in (0..plan.clients).zip(&corpus.clients) {
            let folder = plan.client_folder(number);
            clients.push(enrol(&plan, &folder).await?);
            std::fs::write(folder.join("text"), text)?;
        }
        let spare = plan.folder.join("spare");
        enrol(&plan, &spare).await?;
        let turns = plan.folder.join("turns");
        std::fs::create_dir_all(&turns)?;

        let model_file = plan.folder.join("model.safetensors");
        std::fs::write(&model_file, learn::to_bytes(model))?;
        let any = ([127, 0, 0, 1], 0).into();
        let database = format!("database = \"{}\"\n", plan.database);
        let config = plan.write_config(any, &authority, &database)?;
        let text = std::fs::read_to_string(&config)?;
        std::fs::write(&config, format!("{text}model = \"{}\"\n", model_file.display()))?;
        let replicas = Replicas::start(&config, &plan.database, count).await?;
        let join = plan.join(&format!("http://{}", replicas.address), replicas.aggregator, authority);
        join.write(&plan.folder.join("join.toml"))?;
        join.write(&spare.join("join.toml"))?;
        // Who serves it again later needs no model: the task is in the database.
        plan.write_config(replicas.address, &authority, if options.database.is_some() { &database } else { "" })?;
        let cohort = options.cohort.unwrap_or(options.clients);
        Ok(Self { plan, join, clients, replicas, count, cluster, cohort, seed: options.seed })
    }

    /// Plays one round to its end.
    pub async fn play(&self, counter: u64, losses: &[Loss], progress: &Progress) -> Result<Played> {
        let round = self.round_of(counter).await?;
        let noised = self.plan.folder.join("noised").join(counter.to_string());
        std::fs::create_dir_all(&noised)?;
        let mut running = Vec::with_capacity(losses.len());
        for loss in losses {
            running.push((loss, self.send(loss, &round, &noised)?));
        }
        let followed = tokio::time::timeout(ROUND_MAX, self.follow(&round, counter, progress)).await;
        let (seen, phases_ms, replica_killed) =
            followed.map_err(|_| anyhow!("round {counter} did not end within {} s", ROUND_MAX.as_secs()))??;

        let mut played = Played {
            released: seen["phase"] == "published",
            roster: seen["roster"]["n"].as_u64().unwrap_or(0) as u32,
            counted: Vec::new(),
            dropped: ByPhase::default(),
            bit_exact: None,
            bytes_up: 0,
            bytes_down: 0,
            phases_ms,
            abandoned_because: seen["abandoned"]["detail"].as_str().map(str::to_string),
            noise: self.noise_of(&seen),
            replica_killed,
        };
        let mut verified = None;
        for (loss, mut client) in running {
            // Waiting would close it, and whoever is not at its end yet would take that for the end of the demo.
            let _line = client.stdin.take();
            let ended = tokio::time::timeout(ACCOUNT_MAX, client.wait()).await;
            ended.map_err(|_| anyhow!("client {} did not end with its round", loss.client))??;
            let folder = self.plan.client_folder(loss.client as u32);
            let account = std::fs::read(Account::path(&folder));
            let account =
                account.with_context(|| format!("client {} left no account of round {counter}", loss.client))?;
            let account: Account = serde_json::from_slice(&account)?;
            played.bytes_up += account.bytes_up;
            played.bytes_down += account.bytes_down;
            if let Some(words) = &account.words {
                progress.say(&format!("client {} {words}", loss.client));
            }
            if account.lost {
                count(&mut played.dropped, loss.fate.context("nobody is lost by chance")?.phase);
            }
            if let Some(survivors) = account.survivors {
                let told = (survivors, std::fs::read(Account::sum_path(&folder))?);
                ensure!(*verified.get_or_insert_with(|| told.clone()) == told, "clients verified two different sums");
            }
        }
        if played.released {
            let (survivors, packed) = verified.context("a sum was released, and no client saw it")?;
            let parse = |id: &String| ClientId::from_hex(id).context("a survivor list of client ids");
            let survivors = survivors.iter().map(parse).collect::<Result<Vec<_>>>()?;
            let params = &self.plan.task.params;
            let sum = RingVector::unpack(&packed, params.vector_len as usize, params.ring_bits)?;
            played.bit_exact = Some(is_plain_sum(&sum, &survivors, &noised)?);
            let number_of = |client: &ClientId| self.clients.iter().position(|id| id == client);
            played.counted = survivors.iter().filter_map(number_of).collect();
        }
        std::fs::remove_dir_all(&noised)?;
        Ok(played)
    }

    /// The model that the next round trains from: its hash from the admin API, its bytes as every client gets them.
    pub async fn model(&self) -> Result<Vec<f32>> {
        let task = self.replicas.get(&format!("/admin/v1/tasks/{}", self.plan.task.id)).await?;
        let path = format!("/v1/models/{}", text_of(&task["model"]));
        let limit = learn::file_bytes(self.plan.task.file.model_len) as usize;
        let reply = HttpTransport::of(&self.join)?.get(&path, None, Duration::ZERO, limit).await?;
        ensure!(reply.status == 200, "the model is not served: status {}", reply.status);
        Ok(learn::from_bytes(&reply.body, self.plan.task.file.model_len)?)
    }

    /// What the task has spent so far; none without noise.
    pub async fn epsilon_spent(&self) -> Result<Option<f64>> {
        let task = self.replicas.get(&format!("/admin/v1/tasks/{}", self.plan.task.id)).await?;
        Ok(task["privacy"]["epsilon_spent"].as_f64())
    }

    /// Ends the aggregator, and the cluster if it was the demo's.
    pub async fn stop(self) -> Result<()> {
        self.replicas.stop().await?;
        match self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }

    /// Waits until the round with this counter is open.
    async fn round_of(&self, counter: u64) -> Result<String> {
        let path = format!("/admin/v1/rounds?limit=1&task={}", self.plan.task.id);
        let looking = async {
            loop {
                let newest = self.replicas.get(&path).await?["rounds"][0].clone();
                if newest["counter"] == counter {
                    return Ok::<_, anyhow::Error>(text_of(&newest["round"]).to_string());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(30), looking).await;
        found.map_err(|_| anyhow!("round {counter} did not open within 30 s"))?
    }

    /// Starts one client.
    fn send(&self, loss: &Loss, round: &str, noised: &Path) -> Result<Child> {
        let folder = self.plan.client_folder(loss.client as u32);
        for stale in [Account::path(&folder), Account::sum_path(&folder)] {
            if stale.exists() {
                std::fs::remove_file(stale)?;
            }
        }
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let turn = |core: usize| std::path::absolute(self.plan.folder.join("turns").join(core.to_string()));
        let order = Order {
            round: round.to_string(),
            seed: self.seed,
            number: loss.client as u64,
            cohort: self.cohort,
            join: std::path::absolute(self.plan.folder.join("join.toml"))?,
            noised: std::path::absolute(noised.join(self.clients[loss.client].to_string()))?,
            fate: loss.fate.map(OrderedFate::of),
            turns: (0..cores).map(turn).collect::<std::io::Result<_>>()?,
        };
        let path = folder.join("order.json");
        std::fs::write(&path, serde_json::to_vec(&order)?)?;
        program()
            .arg("demo-client")
            .arg(&path)
            .spawn()
            .with_context(|| format!("client {} does not start", loss.client))
    }

    /// Follows a round to its end over the admin API: how it ended, how long each phase took, and which replica was killed in
    /// which phase. It is back when the round is over.
    async fn follow(
        &self,
        round: &str,
        counter: u64,
        progress: &Progress,
    ) -> Result<(Value, ByPhase<f64>, Option<ReplicaKilled>)> {
        let path = format!("/admin/v1/rounds/{round}");
        let victim = counter as usize % self.count;
        let at = KILLED_IN[counter as usize % KILLED_IN.len()];
        let mut killed: Option<ReplicaKilled> = None;
        let mut opened: BTreeMap<u64, String> = BTreeMap::new();
        loop {
            let seen = self.replicas.get(&path).await?;
            let phase = text_of(&seen["phase"]).to_string();
            let since = seen["phase_opened_us"].as_u64().unwrap_or(0);
            if opened.insert(since, phase.clone()).is_none() {
                progress.phase(&phase, seen["enough"].as_u64().unwrap_or(0) as u32);
            }
            if matches!(phase.as_str(), "published" | "abandoned") {
                self.replicas.bring(victim).await?;
                return Ok((seen, phases_ms(&opened), killed));
            }
            // A phase may be too short to be seen: it is killed in the first that is not before the chosen one.
            if killed.is_none() && place(&phase) >= place(at) && self.replicas.kill(victim).await? {
                progress.say(&format!("replica {} of {} is killed in phase {phase}", victim + 1, self.count));
                killed = Some(ReplicaKilled { replica: victim + 1, phase });
            }
            progress.arrived(seen["admitted"][text_of(&seen["phase"])].as_u64().unwrap_or(0) as u32);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn noise_of(&self, seen: &Value) -> Option<RoundNoise> {
        self.plan.task.charge.as_ref()?;
        let roster = &seen["roster"];
        let honest_shares = roster["h"].as_u64()? as u32;
        Some(RoundNoise { honest_shares, share_variance: roster["share_variance"].as_f64()? })
    }
}

/// Phases in their order.
fn place(phase: &str) -> usize {
    ["advertise", "share", "acknowledge", "open", "mask", "confirm", "unmask"]
        .iter()
        .position(|it| *it == phase)
        .unwrap_or(0)
}

/// From when each phase was seen to open to the next; a phase too short to be seen counts with the one before.
fn phases_ms(opened: &BTreeMap<u64, String>) -> ByPhase<f64> {
    let mut phases_ms = ByPhase::default();
    let times: Vec<(&u64, &String)> = opened.iter().collect();
    for pair in times.windows(2) {
        let ms = (pair[1].0 - pair[0].0) as f64 / 1_000.0;
        match pair[0].1.as_str() {
            "advertise" => phases_ms.advertise += ms,
            "share" => phases_ms.share += ms,
            "acknowledge" | "open" => phases_ms.acknowledge += ms,
            "mask" => phases_ms.mask += ms,
            "confirm" => phases_ms.confirm += ms,
            _ => phases_ms.unmask += ms,
        }
    }
    phases_ms
}

/// This very program, in a process that ends with this one.
pub fn program() -> Command {
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("veilsum"));
    let mut command = Command::new(path);
    command.stdin(Stdio::piped()).kill_on_drop(true);
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "warn"); // as the demo itself
    }
    command
}

/// Runs a command of this program that answers with one object.
async fn ask(arguments: &[&str]) -> Result<Value> {
    let output = program().args(arguments).arg("--json").output().await?;
    if !output.status.success() {
        bail!("veilsum {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Makes the authority, or finds the one that an earlier demo made; its public key.
async fn authority(folder: &Path) -> Result<IdentityPublicKey> {
    let dir = folder.join("authority");
    let key = dir.join("authority.key");
    let said = if key.exists() {
        text_of(&ask(&["keys", "show", utf8(&key)?]).await?["public_key"]).to_string()
    } else {
        text_of(&ask(&["authority", "init", "--dir", utf8(&dir)?]).await?["authority_key"]).to_string()
    };
    let bytes = Digest::from_hex(&said).context("the authority names no key")?;
    IdentityPublicKey::from_bytes(bytes.0).map_err(|error| anyhow!("the authority's key: {error}"))
}

/// Has one client enrolled by the authority's own process.
async fn enrol(plan: &Plan, folder: &Path) -> Result<ClientId> {
    std::fs::create_dir_all(folder)?;
    let (dir, out, size) = (plan.folder.join("authority"), folder.join("identity.toml"), plan.clients.to_string());
    let arguments = ["authority", "enrol", "--dir", utf8(&dir)?, "--out", utf8(&out)?, "--group-size", &size];
    let said = ask(&arguments).await?;
    ClientId::from_hex(text_of(&said["client"])).context("the authority names no client")
}

/// A JSON string; empty where there is none.
pub fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no UTF-8; choose another --data-dir", path.display()))
}
