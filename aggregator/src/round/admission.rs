//! Admission in groups: whoever arrives while a commit is under way shares the next one. §8
//!
//! One queue a (round, phase); one task drains it. The answer is given after the commit that holds the message.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use veilsum_crypto::ids::RoundId;
use veilsum_crypto::server::{Accepted, Admitted, Keep, PhaseKind};

use super::{RoundError, Rounds};
use crate::store::{Store, StoreError};

/// Messages waiting in one queue.
const QUEUE_MESSAGES_MAX: usize = 4_096;
/// Bytes waiting in one queue; one message is always let in.
const QUEUE_BYTES_MAX: usize = 256 << 20;
/// Messages of one commit.
const BATCH_MESSAGES_MAX: usize = 256;

type Answer = Result<Admitted, Refusal>;

/// A failed commit, told to everybody who waited for it.
#[derive(Clone, Debug)]
struct Refusal {
    /// Whether trying again may help.
    is_passing: bool,
    why: String,
}

struct Waiting {
    accepted: Accepted,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    bytes: usize,
    is_draining: bool,
}

/// The queues of one replica.
#[derive(Default)]
pub(super) struct Queues(Mutex<BTreeMap<(RoundId, PhaseKind), Queue>>);

impl<S: Store> Rounds<S> {
    /// Writes one judged message down, in company; returns when it is durable.
    pub(super) async fn admit(
        self: &Arc<Self>,
        round: RoundId,
        phase: PhaseKind,
        accepted: Accepted,
    ) -> Result<Admitted, RoundError> {
        let bytes = weight(&accepted);
        let (answer, receiver) = oneshot::channel();
        let starts = {
            let mut queues = self.queues.0.lock().expect("no panic holds this lock");
            let queue = queues.entry((round, phase)).or_default();
            let is_full = queue.waiting.len() >= QUEUE_MESSAGES_MAX || queue.bytes + bytes > QUEUE_BYTES_MAX;
            if is_full && !queue.waiting.is_empty() {
                return Err(RoundError::Busy);
            }
            queue.waiting.push(Waiting { accepted, bytes, answer });
            queue.bytes += bytes;
            !std::mem::replace(&mut queue.is_draining, true)
        };
        if starts {
            // A task of its own: a request that is dropped must not take the batch of others with it.
            tokio::spawn(self.clone().drain_queue(round, phase));
        }
        match receiver.await {
            Ok(Ok(admitted)) => Ok(admitted),
            Ok(Err(Refusal { is_passing: true, why })) => Err(StoreError::Away(why).into()),
            Ok(Err(Refusal { why, .. })) => Err(RoundError::Defect(why)),
            Err(_) => Err(RoundError::ShuttingDown),
        }
    }

    async fn drain_queue(self: Arc<Self>, round: RoundId, phase: PhaseKind) {
        while let Some(batch) = self.next_batch(round, phase) {
            let (accepted, answers): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.accepted, waiting.answer)).unzip();
            let outcome = self.store.admit(round, phase, &accepted, self.host.clock.now()).await;
            for (index, answer) in answers.into_iter().enumerate() {
                let said = match &outcome {
                    Ok(admitted) => Ok(admitted.get(index).copied().unwrap_or(Admitted::Closed)),
                    Err(StoreError::Away(why) | StoreError::NoRoom(why)) => {
                        Err(Refusal { is_passing: true, why: why.clone() })
                    }
                    Err(error) => Err(Refusal { is_passing: false, why: error.to_string() }),
                };
                let _ = answer.send(said); // who went away asks again
            }
        }
    }

    fn next_batch(&self, round: RoundId, phase: PhaseKind) -> Option<Vec<Waiting>> {
        let mut queues = self.queues.0.lock().expect("no panic holds this lock");
        let queue = queues.get_mut(&(round, phase))?;
        if queue.waiting.is_empty() {
            queues.remove(&(round, phase));
            return None;
        }
        let count = queue.waiting.len().min(BATCH_MESSAGES_MAX);
        let batch: Vec<_> = queue.waiting.drain(..count).collect();
        queue.bytes -= batch.iter().map(|waiting| waiting.bytes).sum::<usize>();
        Some(batch)
    }
}

fn weight(accepted: &Accepted) -> usize {
    match accepted.keep() {
        Keep::Body(body) => body.len(),
        Keep::Mail { body, to } => body.len() + to.values().map(Vec::len).sum::<usize>(),
        Keep::Sum { statement, vector } => statement.len() + vector.len() * usize::from(vector.bits().get()) / 8,
    }
}
