//! `/healthz`, `/readyz`, `/metrics`, on a port of their own.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;

use crate::round::Rounds;
use crate::store::Store;

/// The database is waited for so long: what asks here gives up after ten seconds, most of it.
pub const STORE_TIME_MAX: Duration = Duration::from_secs(5);

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
    match tokio::time::timeout(STORE_TIME_MAX, rounds.store().ready()).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n".into()),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        Err(_) => {
            let words = format!("the database gives no answer within {} s\n", STORE_TIME_MAX.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, words)
        }
    }
}

/// Counts, and what stands in the store, in the text format of Prometheus. Nothing about single clients.
async fn metrics<S: Store>(State(rounds): State<Arc<Rounds<S>>>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], rounds.exposition(STORE_TIME_MAX).await)
}
