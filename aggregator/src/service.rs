//! One replica: store, rounds, listeners, and how they start and stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use veilsum_crypto::ids::Timestamp;

use crate::clock::Clock;
use crate::host::Host;
use crate::http::admin::{AdminToken, Replica};
use crate::http::{self, listen};
use crate::round::{self, RoundError, Rounds, ServiceKeys};
use crate::store::keys::SealingKeys;
use crate::store::seen::SeenLog;
use crate::store::sql::{SCHEMA_VERSION, SqlStore};
use crate::store::{Purged, Retention, Store, StoreError};

/// How long a shutdown waits for requests in flight.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// How often rounds that are over are looked at for purging.
const PURGE_EVERY: Duration = Duration::from_secs(60 * 60);

/// Everything a replica needs.
pub struct Setup {
    /// `sqlite:PATH` or `postgres://…`, with tables in place.
    pub database: String,
    /// Wrap the keys of rounds.
    pub sealing: SealingKeys,
    /// Signs.
    pub keys: ServiceKeys,
    /// A folder where this replica keeps the newest head of the log that it has seen; `None`: it forgets.
    pub log_record: Option<PathBuf>,
    /// Where clients connect; port 0: any free one.
    pub listen: SocketAddr,
    /// Where health and metrics answer; `None`: nowhere.
    pub operations: Option<SocketAddr>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How long rounds that are over keep what they keep; `None`: for ever.
    pub retention: Option<RetentionDays>,
    /// A signed revocation list to take up before any round opens; one that is older than the list in force is passed over.
    pub revocations: Option<Vec<u8>>,
    /// The admin API; `None`: there is none.
    pub admin: Option<AdminSetup>,
}

/// Where the admin API answers, and to whom.
pub struct AdminSetup {
    /// Its address; port 0: any free one.
    pub listen: SocketAddr,
    /// What requests must carry.
    pub token: AdminToken,
}

/// How long rounds that are over keep what they keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetentionDays {
    /// Rosters and digests: after that, only statements, log, ledger and faults are left.
    pub rounds: u64,
    /// The messages that the round's export holds; at most as long as `rounds`.
    pub exports: u64,
}

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address.
    #[error("cannot listen on {address}: {cause}; is another program using the port? Choose another address")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// What is in the store.
    #[error("the rounds of this database cannot be served: {0}")]
    Rounds(RoundError),
    /// The revocation list.
    #[error("the revocation list cannot be taken up: {0}")]
    Revocations(RoundError),
}

/// A running replica.
#[derive(Debug)]
pub struct Service {
    /// Its rounds.
    pub rounds: Arc<Rounds<SqlStore>>,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where health and metrics answer.
    pub operations: Option<SocketAddr>,
    /// Where the admin API answers.
    pub admin: Option<SocketAddr>,
    running: Vec<JoinHandle<()>>,
}

impl Service {
    /// Opens the store, listens, and runs the watch loop.
    pub async fn start(setup: Setup) -> Result<Self, StartError> {
        let mut store = SqlStore::open(&setup.database, setup.sealing).await?;
        if let Some(folder) = setup.log_record {
            store = store.remembering(SeenLog::in_folder(&folder, setup.keys.aggregator.public().party())).await?;
        }
        let store = Arc::new(store);
        let rounds = Rounds::new(store, setup.keys, Host { clock: setup.clock.clone(), ..Host::system() });
        rounds.check_identity().await.map_err(StartError::Rounds)?;
        if let Some(list) = setup.revocations {
            take_up(&rounds, list).await?;
        }
        let listener = bind(setup.listen).await?;
        let address = local(&listener, setup.listen)?;
        let many = listen::Limits::default();
        let few = listen::Limits { connections: http::admin::CONNECTIONS_MAX, ..many };
        let mut running = vec![
            tokio::spawn(serve(listener, http::router(rounds.clone()), many, rounds.clone())),
            tokio::spawn(round::run(rounds.clone())),
        ];
        let mut operations = None;
        if let Some(wanted) = setup.operations {
            let listener = bind(wanted).await?;
            operations = Some(local(&listener, wanted)?);
            running.push(tokio::spawn(serve(listener, http::operations(rounds.clone()), many, rounds.clone())));
        }
        let mut admin = None;
        if let Some(AdminSetup { listen, token }) = setup.admin {
            let listener = bind(listen).await?;
            admin = Some(local(&listener, listen)?);
            let replica = Replica {
                store: rounds.store().engine_name(),
                schema: SCHEMA_VERSION,
                listen: address,
                started: Instant::now(),
                retention_days: setup.retention.map(|days| days.rounds),
                export_retention_days: setup.retention.map(|days| days.exports),
            };
            let router = http::admin::router(rounds.clone(), replica, token);
            running.push(tokio::spawn(serve(listener, router, few, rounds.clone())));
        }
        if let Some(days) = setup.retention {
            running.push(tokio::spawn(purge(rounds.clone(), setup.clock, days)));
        }
        Ok(Self { rounds, address, operations, admin, running })
    }

    /// Drains: no new messages, requests in flight are finished, waits end.
    pub async fn stop(self) {
        self.rounds.drain();
        let end = tokio::time::Instant::now() + DRAIN_MAX;
        for task in self.running {
            let abort = task.abort_handle();
            if tokio::time::timeout_at(end, task).await.is_err() {
                abort.abort();
            }
        }
        self.rounds.store().close().await;
    }

    /// Stops the loops at once, as a crash would: nothing is finished, nothing is said. Connections that are open already end
    /// with the runtime they run on.
    pub fn crash(self) {
        for task in &self.running {
            task.abort();
        }
    }
}

async fn take_up<S: Store>(rounds: &Rounds<S>, list: Vec<u8>) -> Result<(), StartError> {
    match rounds.publish_revocations(list).await {
        Ok(_) => Ok(()),
        Err(RoundError::Conflict { why, .. }) => {
            tracing::warn!(why, "the configured revocation list is passed over");
            Ok(())
        }
        Err(error) => Err(StartError::Revocations(error)),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|cause| StartError::Listen { address, cause })
}

fn local(listener: &TcpListener, wanted: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|cause| StartError::Listen { address: wanted, cause })
}

async fn serve<S: Store>(listener: TcpListener, router: axum::Router, limits: listen::Limits, rounds: Arc<Rounds<S>>) {
    listen::serve(listener, router, limits, async move { rounds.drained().await }).await;
}

async fn purge<S: Store>(rounds: Arc<Rounds<S>>, clock: Arc<dyn Clock>, days: RetentionDays) {
    let before = |days: u64| Timestamp(clock.now().0.saturating_sub(days.saturating_mul(24 * 60 * 60 * 1_000_000)));
    loop {
        let retention = Retention { rounds_before: before(days.rounds), bodies_before: before(days.exports) };
        match rounds.store().purge(retention).await {
            Ok(Purged { rounds: 0, exports: 0 }) => {}
            Ok(Purged { rounds, exports }) => {
                tracing::info!(rounds, exports, "what retention no longer covers is gone")
            }
            Err(error) => {
                tracing::error!(%error, "purging failed; it is tried again in an hour");
                rounds.metrics().purge_failed();
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PURGE_EVERY) => {}
            () = rounds.drained() => return,
        }
    }
}
