//! `/healthz`, `/readyz`, `/metrics`, on a port of their own.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::round::Rounds;
use crate::store::Store;

/// What an operator's machinery asks.
pub fn operations<S: Store>(rounds: Arc<Rounds<S>>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready::<S>))
        .route("/metrics", get(metrics::<S>))
        .with_state(rounds)
}

/// 200 if the store answers with the right schema and the service is not draining.
async fn ready<S: Store>(State(rounds): State<Arc<Rounds<S>>>) -> (StatusCode, String) {
    if rounds.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".into());
    }
    match rounds.store().ready().await {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// Open rounds, by phase, in the text format of Prometheus. Nothing about clients.
async fn metrics<S: Store>(State(rounds): State<Arc<Rounds<S>>>) -> Result<String, StatusCode> {
    let standing = rounds.store().standing().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let mut text = String::from(
        "# HELP veilsum_rounds_open Rounds that are not over, by phase.\n# TYPE veilsum_rounds_open gauge\n",
    );
    for phase in veilsum_crypto::server::PhaseKind::ALL.into_iter().filter(|phase| !phase.is_over()) {
        let count = standing.iter().filter(|stand| stand.phase == phase).count();
        let name = format!("{phase:?}").to_lowercase();
        writeln!(text, "veilsum_rounds_open{{phase=\"{name}\"}} {count}").expect("a string takes everything");
    }
    Ok(text)
}
