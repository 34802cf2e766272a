//! Losing a client on purpose: a transport that ends at one await, before or after a message.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use veilsum_client::Transport;
use veilsum_client::training::sgd::SplitMix64;
use veilsum_client::transport::{HttpTransport, Reply, Traffic, TransportError};
use veilsum_crypto::server::PhaseKind;

/// The phases in which a client can be lost.
pub const PHASES: [PhaseKind; 6] = [
    PhaseKind::Advertising,
    PhaseKind::Sharing,
    PhaseKind::Acknowledging,
    PhaseKind::Masking,
    PhaseKind::Confirming,
    PhaseKind::Unmasking,
];

/// What is to become of one invited client.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Its number.
    pub client: usize,
    /// Where it is lost, if it is.
    pub fate: Option<Fate>,
}

/// An await at which a client is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fate {
    /// In which phase.
    pub phase: PhaseKind,
    /// At which await of it.
    pub moment: Moment,
}

/// The awaits of a phase at which a task can end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Moment {
    BeforeReading,
    AfterReading,
    BeforeSending,
    AfterSending,
}

impl Loss {
    /// It stays.
    pub fn none(client: usize) -> Self {
        Self { client, fate: None }
    }

    /// It is lost at a random await of a random phase.
    pub fn at_random(client: usize, rng: &mut SplitMix64) -> Self {
        let moments = [Moment::BeforeReading, Moment::AfterReading, Moment::BeforeSending, Moment::AfterSending];
        let phase = PHASES[rng.below(PHASES.len())];
        // Outside the agreement set nobody sends a confirmation: there the task ends while it reads.
        let awaits = if phase == PhaseKind::Confirming { 2 } else { moments.len() };
        let fate = Fate { phase, moment: moments[rng.below(awaits)] };
        Self { client, fate: Some(fate) }
    }
}

/// A transport that ends its client's task at one await.
pub struct Lossy {
    inner: HttpTransport,
    fate: Option<Fate>,
    is_over: AtomicBool,
    /// Told when the client is to end.
    pub lost: Notify,
    cores: Arc<Semaphore>,
    /// Held from the reply that makes work until the message that the work makes.
    turn: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Lossy {
    /// Clients of one process take turns on its cores.
    pub fn new(inner: HttpTransport, fate: Option<Fate>, cores: Arc<Semaphore>) -> Self {
        let (is_over, lost) = (AtomicBool::new(false), Notify::new());
        Self { inner, fate, is_over, lost, cores, turn: Mutex::new(None) }
    }

    /// Real clients have a processor each; here they take turns, so that messages flow one by one and not all at the end.
    async fn take_turn(&self, path: &str) {
        let makes_work = ["/leaves", "/mail/", "/core", "/uploads/"].iter().any(|what| path.contains(what));
        if makes_work && self.turn.lock().expect("no panic holds this lock").is_none() {
            let turn = self.cores.clone().acquire_owned().await.ok();
            *self.turn.lock().expect("no panic holds this lock") = turn;
        }
    }

    fn end_turn(&self) {
        self.turn.lock().expect("no panic holds this lock").take();
    }

    /// Ends the task here, if this is where it is to end.
    async fn may_end(&self, phase: Option<PhaseKind>, moment: Moment) {
        let ends = self.fate.is_some_and(|fate| Some(fate.phase) == phase && fate.moment == moment);
        if ends && !self.is_over.swap(true, Ordering::SeqCst) {
            self.end_turn();
            self.lost.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// The phase that a read belongs to.
fn phase_of_read(path: &str) -> Option<PhaseKind> {
    let mut parts = path.split('?').next()?.split('/').skip(2);
    Some(match (parts.next()?, parts.nth(1)?) {
        ("tasks", "header") => PhaseKind::Advertising,
        ("rounds", "roster" | "leaves") => PhaseKind::Sharing,
        ("rounds", "mail") => PhaseKind::Acknowledging,
        ("rounds", "complaints" | "openings" | "core") => PhaseKind::Masking,
        ("rounds", "survivors" | "uploads") => PhaseKind::Confirming,
        ("rounds", "confirmations") => PhaseKind::Unmasking,
        _ => return None,
    })
}

/// The phase that a message belongs to.
fn phase_of_message(path: &str) -> Option<PhaseKind> {
    Some(match path.split('/').nth(4)? {
        "advertise" => PhaseKind::Advertising,
        "share" => PhaseKind::Sharing,
        "acknowledge" | "open" => PhaseKind::Acknowledging,
        "mask" => PhaseKind::Masking,
        "confirm" => PhaseKind::Confirming,
        "unmask" => PhaseKind::Unmasking,
        _ => return None,
    })
}

impl Transport for Lossy {
    async fn get(
        &self,
        path: &str,
        permit: Option<&[u8]>,
        wait: Duration,
        limit_bytes: usize,
    ) -> Result<Reply, TransportError> {
        let phase = phase_of_read(path);
        if phase != Some(PhaseKind::Sharing) && !path.contains("/openings/") {
            self.end_turn();
        }
        self.may_end(phase, Moment::BeforeReading).await;
        let reply = self.inner.get(path, permit, wait, limit_bytes).await;
        if matches!(&reply, Ok(reply) if reply.status == 200) {
            self.may_end(phase, Moment::AfterReading).await;
            self.take_turn(path).await;
        }
        reply
    }

    async fn put(&self, path: &str, body: Vec<u8>) -> Result<Reply, TransportError> {
        let phase = phase_of_message(path);
        self.end_turn();
        self.may_end(phase, Moment::BeforeSending).await;
        let ends_after = self.fate.is_some_and(|fate| Some(fate.phase) == phase && fate.moment == Moment::AfterSending);
        if ends_after {
            // The message goes out; nobody is left to hear the reply.
            let _ = self.inner.put(path, body).await;
            self.may_end(phase, Moment::AfterSending).await;
            return Err(TransportError::Unreachable("lost on purpose".into()));
        }
        self.inner.put(path, body).await
    }

    fn traffic(&self) -> &Traffic {
        self.inner.traffic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_client_belongs_to_one_phase() {
        let round = "/v1/rounds/00112233445566778899aabbccddeeff";
        assert_eq!(phase_of_read(&format!("{round}/leaves?i=1,2")), Some(PhaseKind::Sharing));
        assert_eq!(phase_of_read(&format!("{round}/core")), Some(PhaseKind::Masking));
        assert_eq!(phase_of_read("/v1/tasks/00/header?after=3"), Some(PhaseKind::Advertising));
        assert_eq!(phase_of_read("/v1/models/00"), None);
        assert_eq!(phase_of_message(&format!("{round}/unmask/00")), Some(PhaseKind::Unmasking));
    }
}
