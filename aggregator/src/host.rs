//! What a replica takes from the machine it runs on: time, chance and threads. Arguments, so that a simulation decides them.

use std::sync::Arc;

use veilsum_crypto::primitives::wipe;

use crate::clock::{Clock, SystemClock};

/// Draws what nobody may foresee: closing nonces and log salts.
pub trait Chance: Send + Sync + 'static {
    /// 32 fresh bytes, or why there are none.
    fn draw(&self) -> Result<[u8; 32], String>;
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn draw(&self) -> Result<[u8; 32], String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

/// Where long computations run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workers {
    /// On the runtime's threads for blocking work: requests go on meanwhile.
    Threads,
    /// Where they are asked for: the order of events is then that of the asking.
    Caller,
}

impl Workers {
    /// Runs `work`; an error means that it panicked or that the runtime is shutting down.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        match self {
            Self::Threads => {
                let wiped = move || {
                    let done = work();
                    wipe::stack_below(); // rebuilt secrets leave copies there, and the thread is kept
                    done
                };
                tokio::task::spawn_blocking(wiped).await.map_err(|error| error.to_string())
            }
            Self::Caller => Ok(work()),
        }
    }
}

/// Time, chance and threads.
#[derive(Clone)]
pub struct Host {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Draws nonces.
    pub chance: Arc<dyn Chance>,
    /// Where long computations run.
    pub workers: Workers,
}

impl Host {
    /// This machine: its clock, its generator, the runtime's threads.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), chance: Arc::new(SystemChance), workers: Workers::Threads }
    }
}
