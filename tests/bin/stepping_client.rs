//! A client that stops before each message it sends, says which on a line of its own, and goes on when it is told. For
//! tests that look at it from outside while it stands. See `verification::deployment`.
//!
//! Arguments: identity file, join file, state file, its number. Its update is `value_at(number, coordinate)`.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use veilsum_client::config::{Identity, Join};
use veilsum_client::transport::{Reply, Traffic, TransportError};
use veilsum_client::{HttpTransport, LocalWork, Participant, RoundOutcome, Transport};
use veilsum_crypto::messages::Header;
use veilsum_crypto::update::ModelUpdate;
use verification::memory::value_at;

/// As `veilsum` has it: what goes through buffers of libraries is wiped when they are given back.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

struct Stepping(HttpTransport);

/// Says where it stands and waits for a line.
fn stop_before(step: &str) {
    println!("{step}");
    std::io::stdout().flush().expect("somebody reads");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).expect("somebody writes");
}

impl Transport for Stepping {
    async fn get(
        &self,
        path: &str,
        permit: Option<&[u8]>,
        wait: Duration,
        limit_bytes: usize,
    ) -> Result<Reply, TransportError> {
        self.0.get(path, permit, wait, limit_bytes).await
    }

    async fn put(&self, path: &str, body: Vec<u8>) -> Result<Reply, TransportError> {
        let phase = path.split('/').nth(4).unwrap_or_default().to_string();
        tokio::task::spawn_blocking(move || stop_before(&phase)).await.expect("no panic");
        self.0.put(path, body).await
    }

    fn traffic(&self) -> &Traffic {
        self.0.traffic()
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
        Ok(ModelUpdate::new((0..header.params.vector_len as usize).map(|at| value_at(self.0, at)).collect())?)
    }
}

#[tokio::main]
async fn main() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [identity, join, state, number] = arguments.as_slice() else { panic!("identity, join, state, number") };
    let identity = Identity::read(Path::new(identity)).expect("an identity");
    let join = Join::read(Path::new(join)).expect("a join file");
    let transport = Stepping(HttpTransport::new(&join.server).expect("an address"));
    let participant = Participant::open(identity, join, Path::new(state), transport).await.expect("a free state");
    let mut participant = participant.with_read_wait(Duration::from_secs(2));
    let work = Arc::new(Mutex::new(Work(number.parse().expect("a number"))));
    let outcome = participant.take_part(&work).await.expect("the round is played");
    assert!(matches!(outcome, RoundOutcome::Verified { .. }), "{outcome:?}");
    drop(outcome);
    stop_before("over");
    drop(participant);
    stop_before("dropped");
}
