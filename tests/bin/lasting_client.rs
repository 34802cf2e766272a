//! A client that takes part in one round after the other until it is killed, and writes down what it was told. For the kill
//! campaign, `verification::kill`.
//!
//! Arguments: identity file, join file, state file, journal, its number, and the addresses of all replicas. A line of the
//! journal: `accepted ROUND` (its upload was answered 204), `verified ROUND INCLUDED`, `stopped WHY`.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use veilsum_client::config::{Identity, Join};
use veilsum_client::transport::{Reply, Traffic, TransportError};
use veilsum_client::{HttpTransport, LocalWork, Participant, RoundOutcome, Transport};
use veilsum_crypto::messages::Header;
use veilsum_crypto::update::ModelUpdate;
use verification::kill::unit;

/// One of several equal servers; where one does not answer, the next is asked.
struct Replicas {
    lines: Vec<HttpTransport>,
    at: AtomicUsize,
    journal: Arc<Journal>,
}

struct Journal(Mutex<std::fs::File>);

impl Journal {
    /// One write: a killed process leaves whole lines.
    fn note(&self, line: &str) {
        let mut file = self.0.lock().expect("no panic holds this lock");
        file.write_all(format!("{line}\n").as_bytes()).expect("room");
    }
}

impl Replicas {
    fn line(&self) -> &HttpTransport {
        &self.lines[self.at.load(Ordering::Relaxed) % self.lines.len()]
    }

    fn look_elsewhere<T>(&self, reply: Result<T, TransportError>) -> Result<T, TransportError> {
        if reply.is_err() {
            self.at.fetch_add(1, Ordering::Relaxed);
        }
        reply
    }
}

impl Transport for Replicas {
    async fn get(
        &self,
        path: &str,
        permit: Option<&[u8]>,
        wait: Duration,
        limit_bytes: usize,
    ) -> Result<Reply, TransportError> {
        self.look_elsewhere(self.line().get(path, permit, wait, limit_bytes).await)
    }

    async fn put(&self, path: &str, body: Vec<u8>) -> Result<Reply, TransportError> {
        let reply = self.look_elsewhere(self.line().put(path, body).await)?;
        let mut parts = path.split('/').skip(3);
        if let (204, Some(round), Some("mask")) = (reply.status, parts.next(), parts.next()) {
            self.journal.note(&format!("accepted {round}"));
        }
        Ok(reply)
    }

    fn traffic(&self) -> &Traffic {
        self.lines[0].traffic()
    }
}

struct Work(usize);

impl LocalWork for Work {
    fn suits(&mut self, _: &Header) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(()) // of any length
    }

    fn train(
        &mut self,
        header: &Header,
        _model: &[u8],
    ) -> Result<ModelUpdate, Box<dyn std::error::Error + Send + Sync>> {
        Ok(ModelUpdate::new(unit(self.0, header.params.vector_len as usize))?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [identity, join, state, journal, number, servers @ ..] = arguments.as_slice() else {
        panic!("identity, join, state, journal, number, servers")
    };
    let file = std::fs::File::options().create(true).append(true).open(journal).expect("a journal");
    let journal = Arc::new(Journal(Mutex::new(file)));
    let identity = Identity::read(Path::new(identity)).expect("an identity");
    let join = Join::read(Path::new(join)).expect("a join file");
    let number: usize = number.parse().expect("a number");
    let lines = servers.iter().map(|server| HttpTransport::new(server).expect("an address")).collect();
    let transport = Replicas { lines, at: AtomicUsize::new(number), journal: journal.clone() };
    let participant = Participant::open(identity, join, Path::new(state), transport).await.expect("a free state");
    let mut participant = participant.with_read_wait(Duration::from_secs(2));
    let work = Arc::new(Mutex::new(Work(number)));
    loop {
        match participant.take_part(&work).await {
            Ok(RoundOutcome::Verified { round, update_included, .. }) => {
                journal.note(&format!("verified {round} {update_included}"));
            }
            Ok(RoundOutcome::Stopped { why, .. }) => journal.note(&format!("stopped {why}")),
            Ok(RoundOutcome::Abandoned { .. } | RoundOutcome::LeftOut { .. }) => {}
            Err(error) => {
                journal.note(&format!("failed {error}"));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}
