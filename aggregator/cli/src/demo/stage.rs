//! Where a demo plays: client tasks and the aggregator in this process, or a process each.

use anyhow::Result;
use veilsum_aggregator::round::learn;
use veilsum_client::training::sgd::DemoSettings;
use veilsum_crypto::client::Policy;

use super::Options;
use super::data::Corpus;
use super::display::Progress;
use super::fleet::{Fleet, Played};
use super::lossy::Loss;
use super::processes::Processes;
use super::setup::{Plan, World};

/// One demo, set up.
pub enum Stage {
    /// In this process, over loopback HTTP.
    Tasks(Box<(World, Fleet)>),
    /// In processes that share nothing but HTTP and files.
    Processes(Box<Processes>),
}

impl Stage {
    /// Sets everything up; the first round opens.
    pub async fn set(
        plan: Plan,
        options: &Options,
        settings: &DemoSettings,
        corpus: &Corpus,
        model: &[f32],
    ) -> Result<Self> {
        if options.in_processes() {
            return Ok(Self::Processes(Box::new(Processes::start(plan, options, corpus, model).await?)));
        }
        let world = World::make(plan, &learn::to_bytes(model)).await?;
        let fleet = Fleet::new(&world, corpus, settings, options.seed)?;
        Ok(Self::Tasks(Box::new((world, fleet))))
    }

    /// What it is about.
    pub fn plan(&self) -> &Plan {
        match self {
            Self::Tasks(here) => &here.0.plan,
            Self::Processes(processes) => &processes.plan,
        }
    }

    /// What every client insists on.
    pub fn policy(&self) -> &Policy {
        match self {
            Self::Tasks(here) => &here.0.join.policy,
            Self::Processes(processes) => &processes.join.policy,
        }
    }

    /// Plays one round to its end.
    pub async fn play(&self, counter: u64, losses: &[Loss], progress: &Progress) -> Result<Played> {
        match self {
            Self::Tasks(here) => here.1.play(&here.0, counter, losses, progress).await,
            Self::Processes(processes) => processes.play(counter, losses, progress).await,
        }
    }

    /// The model that the next round trains from.
    pub async fn model(&self) -> Result<Vec<f32>> {
        match self {
            Self::Tasks(here) => here.0.model().await,
            Self::Processes(processes) => processes.model().await,
        }
    }

    /// What the task has spent so far; none without noise.
    pub async fn epsilon_spent(&self) -> Result<Option<f64>> {
        match self {
            Self::Tasks(here) => here.0.epsilon_spent().await,
            Self::Processes(processes) => processes.epsilon_spent().await,
        }
    }

    /// Stops the aggregator.
    pub async fn stop(self) -> Result<()> {
        match self {
            Self::Tasks(here) => here.0.stop().await,
            Self::Processes(processes) => processes.stop().await?,
        }
        Ok(())
    }
}
