//! The HTTP surface: handlers translate, and stop. No rule of the protocol lives here. §7, docs/wire.md §8

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

use crate::round::Rounds;
use crate::store::Store;

pub mod admin;
pub mod listen;
mod messages;
mod operations;
mod problem;
mod statements;
mod wire;

pub use operations::operations;
pub use problem::Problem;

/// The longest wait of a read. §7.4
pub const WAIT_MAX: Duration = Duration::from_millis(30_000);
/// The longest a request may take, its wait included. A message's body has a time of its own before that, messages.rs
const REQUEST_MAX: Duration = Duration::from_secs(90);
/// KiB of messages that may be received at once, per replica, each counted as the longest that its phase permits; more are
/// answered 503. Weighed and not counted: whoever holds many small places must not keep out those with large ones.
const PUTS_KIB_MAX: u32 = 512 << 10;
/// Reads waiting at once, per replica; more are answered 503.
const READS_MAX: usize = 32_768;

/// Request line and headers at most, bytes. §7.4
const HEADERS_MAX: usize = 16 << 10;

async fn bounded_headers(request: Request, next: Next) -> Response {
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let line = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if headers + line > HEADERS_MAX {
        let detail = "request line and headers of at most 16 KiB were expected";
        return Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, None, detail).into_response();
    }
    next.run(request).await
}

/// Ends what takes too long. Messages have times of their own.
async fn in_time(request: Request, next: Next) -> Response {
    if request.method() == Method::PUT {
        return next.run(request).await;
    }
    match tokio::time::timeout(REQUEST_MAX, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => problem::too_slow().into_response(),
    }
}

/// Paths hold ids and digests in hexadecimal, and words of ours: nothing that would be escaped.
async fn plain_path(request: Request, next: Next) -> Response {
    if request.uri().path().contains('%') {
        return problem::unknown_path().await.into_response();
    }
    next.run(request).await
}

/// Counts what went out, of everything below it.
async fn counted<S: Store>(State(app): State<App<S>>, request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    app.rounds.metrics().answer(answer.status().as_u16());
    answer
}

/// What handlers share.
pub struct App<S> {
    /// The rounds.
    pub rounds: Arc<Rounds<S>>,
    puts: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl<S> Clone for App<S> {
    fn clone(&self) -> Self {
        Self { rounds: self.rounds.clone(), puts: self.puts.clone(), reads: self.reads.clone() }
    }
}

/// The data plane: what clients talk to.
pub fn router<S: Store>(rounds: Arc<Rounds<S>>) -> Router {
    let app = App {
        rounds,
        puts: Arc::new(Semaphore::new(PUTS_KIB_MAX as usize)),
        reads: Arc::new(Semaphore::new(READS_MAX)),
    };
    Router::new()
        .route("/v1/tasks/{task}/header", get(statements::newest_header::<S>))
        .route("/v1/rounds/{round}/header", get(statements::header::<S>))
        .route("/v1/rounds/{round}/roster", get(statements::roster::<S>))
        .route("/v1/rounds/{round}/leaves", get(statements::leaves::<S>))
        .route("/v1/rounds/{round}/core", get(statements::core::<S>))
        .route("/v1/rounds/{round}/survivors", get(statements::survivors::<S>))
        .route("/v1/rounds/{round}/confirmations", get(statements::confirmations::<S>))
        .route("/v1/rounds/{round}/result", get(statements::result::<S>))
        // One segment serves both: a client's own mailbox is read where its messages are written.
        .route("/v1/rounds/{round}/{kind}/{client}", put(messages::put::<S>).get(statements::of_client::<S>))
        .route("/v1/models/{hash}", get(statements::model::<S>))
        .route("/v1/revocations/{digest}", get(statements::revocations::<S>))
        .route("/v1/log/checkpoint", get(statements::checkpoint::<S>))
        .route("/v1/log/consistency", get(statements::consistency::<S>))
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::unknown_path)
        .layer(DefaultBodyLimit::disable()) // each message has a limit of its own, messages.rs
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn(plain_path))
        .layer(middleware::from_fn(bounded_headers))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(middleware::from_fn_with_state(app.clone(), counted::<S>))
        .with_state(app)
}
