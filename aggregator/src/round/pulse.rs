//! Wakes everybody who waits for a commit, in the order in which they began to wait.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts commits that this replica knows of.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    beats: AtomicU64,
    waiting: Notify,
}

impl Pulse {
    /// Something was committed.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::SeqCst);
        self.waiting.notify_waiters();
    }

    /// How many there were.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::SeqCst)
    }

    /// Ends with the next beat after this call, however late it is first awaited.
    pub fn next(&self) -> impl Future<Output = ()> + '_ {
        // A `Notified` counts `notify_waiters` from its creation on.
        self.waiting.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_beat_between_asking_and_waiting_is_not_missed() {
        let pulse = Pulse::default();
        let next = pulse.next();
        pulse.beat();
        next.await;
        assert_eq!(pulse.beats(), 1);
    }
}
