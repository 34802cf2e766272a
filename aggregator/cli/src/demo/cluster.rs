//! A PostgreSQL cluster for one demo: made in a temporary folder, gone with the demo. `scripts/cluster` says how.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Its keeper: it holds the cluster as long as its standard input is open, and deletes it then.
const KEEPER: &str = include_str!("../../../../scripts/cluster");

/// A cluster that ends with this value, or with this process.
pub struct Cluster {
    /// `postgres://…`
    pub url: String,
    keeper: Child,
}

impl Cluster {
    /// Starts one; PostgreSQL's programs must be installed.
    pub async fn start() -> Result<Self> {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, KEEPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("no shell")?;
        let stdout = keeper.stdout.take().context("its output was asked for")?;
        let folder = BufReader::new(stdout).lines().next_line().await?.unwrap_or_default();
        ensure!(
            !folder.is_empty(),
            "no PostgreSQL cluster could be started, see above; install PostgreSQL (scripts/postgres), or name one with --database"
        );
        Ok(Self { url: format!("postgres://postgres@localhost/postgres?host={folder}"), keeper })
    }

    /// Ends it, and waits until its folder is gone.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.keeper.stdin.take());
        self.keeper.wait().await?;
        Ok(())
    }
}
