//! The aggregator of a demo in processes: one replica, or several of which one dies in the middle of every round.

use std::collections::btree_map::{BTreeMap, Entry};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::sync::Mutex;
use veilsum_crypto::primitives::signature::IdentityPublicKey;

use super::front::Front;
use super::processes::{program, text_of};
use crate::admin::Admin;
use crate::serve::authority_key;

/// How long the aggregator may take to start, and to stop.
const SERVE_MAX: Duration = Duration::from_secs(60);
/// How often a replica that answers is looked for, while one is gone.
const LOOKS_MAX: u32 = 100;

/// `veilsum serve`, so many times, on one database and with one set of keys.
pub struct Replicas {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Whose statements it signs.
    pub aggregator: IdentityPublicKey,
    config: PathBuf,
    database: String,
    front: Option<Front>,
    running: Mutex<BTreeMap<usize, Replica>>,
}

/// One process.
struct Replica {
    process: Child,
    listen: SocketAddr,
    aggregator: IdentityPublicKey,
    admin: Admin,
}

impl Replicas {
    /// Starts them; the first makes the tables and opens the first round.
    pub async fn start(config: &Path, database: &str, count: usize) -> Result<Self> {
        let first = Replica::start(config, database, true).await?;
        let (aggregator, mut address) = (first.aggregator, first.listen);
        let mut front = None;
        if count > 1 {
            let started = Front::start().await?;
            address = started.address;
            front = Some(started);
        }
        let config = config.to_path_buf();
        let running = Mutex::new(BTreeMap::from([(0, first)]));
        let replicas = Self { address, aggregator, config, database: database.to_string(), front, running };
        for number in 1..count {
            replicas.bring(number).await?;
        }
        replicas.lead(&*replicas.running.lock().await);
        Ok(replicas)
    }

    /// Asks the admin API of one that runs.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let mut looks = 0;
        loop {
            let running = self.running.lock().await;
            let mut failed = anyhow!("no replica runs");
            for replica in running.values() {
                match replica.admin.get(path).await {
                    Ok(value) => return Ok(value),
                    Err(error) => failed = error,
                }
            }
            drop(running);
            looks += 1;
            if self.front.is_none() || looks == LOOKS_MAX {
                return Err(failed);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Kills one as a power cut would (SIGKILL), where there are several.
    pub async fn kill(&self, number: usize) -> Result<bool> {
        if self.front.is_none() {
            return Ok(false);
        }
        let mut running = self.running.lock().await;
        let Some(mut replica) = running.remove(&number) else { return Ok(false) };
        replica.process.kill().await?;
        self.lead(&running);
        Ok(true)
    }

    /// Starts the one with this number, if it does not run.
    pub async fn bring(&self, number: usize) -> Result<()> {
        let mut running = self.running.lock().await;
        if let Entry::Vacant(place) = running.entry(number) {
            place.insert(Replica::start(&self.config, &self.database, false).await?);
            self.lead(&running);
        }
        Ok(())
    }

    fn lead(&self, running: &BTreeMap<usize, Replica>) {
        if let Some(front) = &self.front {
            front.lead_to(running.values().map(|replica| replica.listen).collect());
        }
    }

    /// Ends all: standard input ends, they drain, and they are gone.
    pub async fn stop(self) -> Result<()> {
        for (_, mut replica) in self.running.into_inner() {
            drop(replica.process.stdin.take());
            let ended = tokio::time::timeout(SERVE_MAX, replica.process.wait()).await;
            let status = ended.map_err(|_| anyhow!("the aggregator did not stop"))??;
            ensure!(status.success(), "the aggregator ended with {status}");
        }
        Ok(())
    }
}

impl Replica {
    async fn start(config: &Path, database: &str, migrates: bool) -> Result<Self> {
        let mut command = program();
        command.args(["serve", "--json", "--until-stdin-ends", "--config"]).arg(config).stdout(Stdio::piped());
        if migrates {
            command.arg("--migrate");
        }
        // Several of them on one machine: each takes free ports, whatever the file says.
        for port in ["VEILSUM_LISTEN", "VEILSUM_OPERATIONS", "VEILSUM_ADMIN_LISTEN"] {
            command.env(port, "127.0.0.1:0");
        }
        let mut process = command.env("VEILSUM_DATABASE", database).spawn().context("the aggregator does not start")?;
        let said = tokio::time::timeout(SERVE_MAX, first_line(&mut process)).await;
        let said = said.map_err(|_| anyhow!("the aggregator did not say that it listens"))??;
        let token_file = PathBuf::from(text_of(&said["admin"]["token_file"]));
        let admin = Admin::at(&format!("http://{}", text_of(&said["admin"]["listen"])), &token_file)?;
        let aggregator = authority_key(text_of(&said["aggregator_key"]))?;
        Ok(Self { process, listen: text_of(&said["listen"]).parse()?, aggregator, admin })
    }
}

/// The one object that `serve --json` prints when it listens.
async fn first_line(serve: &mut Child) -> Result<Value> {
    let stdout = serve.stdout.take().context("its output was asked for")?;
    let line = BufReader::new(stdout).lines().next_line().await?;
    Ok(serde_json::from_str(&line.context("the aggregator ended before it listened; its words are above")?)?)
}
