//! The admin API: what an operator's tools say to a running service. docs/admin.md
//!
//! On a listener of its own, behind a token. Handlers translate, and stop; what is answered is made in `round/overview.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use veilsum_crypto::ids::{Digest, TaskId};
use veilsum_crypto::messages::RevocationList;

use super::{Problem, REQUEST_MAX, bounded_headers, problem, wire};
use crate::round::overview::RoundOverview;
use crate::round::{RoundError, Rounds};
use crate::store::{RevocationRow, Store};

mod token;

pub use token::AdminToken;

/// Connections at once, to the admin API's listener.
pub const CONNECTIONS_MAX: usize = 64;
/// Requests under way at once, per replica; more are answered 503.
const REQUESTS_MAX: usize = 16;
/// Large bodies being received, or exports being made, at once.
const LARGE_MAX: usize = 1;
/// A task file.
const TASK_BYTES_MAX: usize = 64 << 10;
/// A model.
const MODEL_BYTES_MAX: usize = 1 << 30;
/// Rounds of one answer.
const ROUNDS_MAX: u64 = 500;
const ROUNDS_BY_DEFAULT: u64 = 50;

/// What the API says of its replica beside what stands in the store.
#[derive(Clone, Debug)]
pub struct Replica {
    /// `sqlite` or `postgres`.
    pub store: &'static str,
    /// Which tables it was built for.
    pub schema: i64,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// When it started.
    pub started: Instant,
    /// How long rounds stay, days; `None`: for ever.
    pub retention_days: Option<u64>,
    /// How long exports can be made, days.
    pub export_retention_days: Option<u64>,
}

struct App<S> {
    rounds: Arc<Rounds<S>>,
    replica: Arc<Replica>,
    requests: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl<S> Clone for App<S> {
    fn clone(&self) -> Self {
        let Self { rounds, replica, requests, large } = self;
        Self { rounds: rounds.clone(), replica: replica.clone(), requests: requests.clone(), large: large.clone() }
    }
}

type Answered = Result<Response, Problem>;

/// What an operator's tools talk to.
pub fn router<S: Store>(rounds: Arc<Rounds<S>>, replica: Replica, token: AdminToken) -> Router {
    let app = App {
        rounds,
        replica: Arc::new(replica),
        requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
        large: Arc::new(Semaphore::new(LARGE_MAX)),
    };
    Router::new()
        .route("/admin/v1/status", get(status::<S>))
        .route("/admin/v1/tasks", get(tasks::<S>).post(create_task::<S>))
        .route("/admin/v1/tasks/{task}", get(task::<S>))
        .route("/admin/v1/models/{digest}", axum::routing::put(put_model::<S>))
        .route("/admin/v1/rounds", get(rounds_list::<S>))
        .route("/admin/v1/rounds/{round}", get(round::<S>))
        .route("/admin/v1/rounds/{round}/export", get(export::<S>))
        .route("/admin/v1/revocations", get(revocations::<S>).put(put_revocations::<S>))
        .fallback(unknown_path)
        .method_not_allowed_fallback(other_method)
        .layer(DefaultBodyLimit::disable()) // each body has a limit of its own
        .layer(middleware::from_fn_with_state(app.clone(), bounded::<S>))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_MAX))
        .with_state(app)
        .layer(middleware::from_fn(bounded_headers))
        // Outermost but one: without the token nothing of a request is looked at, not even its path.
        .layer(middleware::from_fn_with_state(Arc::new(token), token::require))
        .layer(CatchPanicLayer::custom(problem::panicked))
}

async fn unknown_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, None, "there is no such path; docs/admin.md lists them")
}

async fn other_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, None, "this path has other methods; docs/admin.md lists them")
}

async fn bounded<S: Store>(State(app): State<App<S>>, request: Request, next: Next) -> Response {
    match app.requests.try_acquire() {
        Ok(_slot) => next.run(request).await,
        Err(_) => Problem::from(RoundError::Busy).into_response(),
    }
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    schema: i64,
    store: &'static str,
    uptime_ms: u64,
    now_us: u64,
    listen: String,
    aggregator_key: String,
    authority_key: String,
    auditor_keys: Vec<String>,
    log: LogStatus,
    revocation: RevocationStatus,
    retention_days: Option<u64>,
    export_retention_days: Option<u64>,
    tasks: usize,
    rounds_open: Vec<RoundOverview>,
}

#[derive(Serialize)]
struct LogStatus {
    origin: String,
    key: Option<String>,
    size: u64,
    root: String,
}

#[derive(Serialize)]
struct RevocationStatus {
    number: u64,
    digest: String,
}

/// `GET /admin/v1/status`
async fn status<S: Store>(State(app): State<App<S>>, uri: Uri) -> Answered {
    wire::Query::new(&uri, &[])?;
    let (rounds, replica) = (&app.rounds, &app.replica);
    let store = rounds.store();
    let head = store.log_head().await.map_err(RoundError::from)?;
    let list = rounds.newest_revocations().await?;
    let keys = rounds.keys();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        schema: replica.schema,
        store: replica.store,
        uptime_ms: u64::try_from(replica.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        now_us: rounds.now().0,
        listen: replica.listen.to_string(),
        aggregator_key: Digest(*keys.aggregator.public().as_bytes()).to_string(),
        authority_key: Digest(*keys.authority.as_bytes()).to_string(),
        auditor_keys: keys.auditors.iter().map(|key| Digest(*key.as_bytes()).to_string()).collect(),
        log: LogStatus {
            origin: keys.origin.clone(),
            key: keys.checkpoint.verifier(&keys.origin).map(|key| key.to_string()),
            size: head.size,
            root: head.root.to_string(),
        },
        revocation: RevocationStatus {
            number: list.as_ref().map_or(0, |list| list.number),
            digest: list.as_ref().map_or(Digest::NONE, |list| list.digest).to_string(),
        },
        retention_days: replica.retention_days,
        export_retention_days: replica.export_retention_days,
        tasks: store.tasks().await.map_err(RoundError::from)?.len(),
        rounds_open: rounds.open_overviews().await?,
    })
    .into_response())
}

/// `GET /admin/v1/tasks`
async fn tasks<S: Store>(State(app): State<App<S>>, uri: Uri) -> Answered {
    wire::Query::new(&uri, &[])?;
    let tasks = app.rounds.task_overviews().await?;
    Ok(Json(serde_json::json!({ "tasks": tasks })).into_response())
}

/// `GET /admin/v1/tasks/{task}`
async fn task<S: Store>(State(app): State<App<S>>, Path(task): Path<String>, uri: Uri) -> Answered {
    wire::Query::new(&uri, &[])?;
    let task = TaskId::from_hex(&task).ok_or_else(|| Problem::unknown("task"))?;
    Ok(Json(app.rounds.task_overview(task).await?).into_response())
}

/// `POST /admin/v1/tasks?check=1&model={digest}`
async fn create_task<S: Store>(State(app): State<App<S>>, uri: Uri, headers: HeaderMap, body: Body) -> Answered {
    let query = wire::Query::new(&uri, &["check", "model"])?;
    let only_check = match query.get("check") {
        None => false,
        Some("1") => true,
        Some(_) => return Err(malformed("check=1, or no check, was expected")),
    };
    let model = match query.get("model") {
        None => None,
        Some(digits) => Some(Digest::from_hex(digits).ok_or_else(|| malformed("model must be 64 lower-case digits"))?),
    };
    let body = receive(&headers, body, TASK_BYTES_MAX).await?;
    let text = std::str::from_utf8(&body).map_err(|_| malformed("a task file in UTF-8 was expected"))?;
    let (task, is_new) = app.rounds.create(text, model, only_check).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(task)).into_response())
}

/// `PUT /admin/v1/models/{digest}`
async fn put_model<S: Store>(
    State(app): State<App<S>>,
    Path(digest): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    wire::Query::new(&uri, &[])?;
    let digest = Digest::from_hex(&digest).ok_or_else(|| malformed("a digest of 64 lower-case digits was expected"))?;
    let _slot = app.large.try_acquire().map_err(|_| RoundError::Busy)?;
    let body = receive(&headers, body, MODEL_BYTES_MAX).await?;
    let is_new = app.rounds.put_model(digest, body.to_vec()).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let said = serde_json::json!({ "digest": digest.to_string(), "bytes": body.len() });
    Ok((status, Json(said)).into_response())
}

/// `GET /admin/v1/rounds?task=&limit=&before=`
async fn rounds_list<S: Store>(State(app): State<App<S>>, uri: Uri) -> Answered {
    let query = wire::Query::new(&uri, &["task", "limit", "before"])?;
    let number = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => {
            wire::decimal(text).map(Some).ok_or_else(|| malformed(format!("{name} must be a decimal number")))
        }
    };
    let task = match query.get("task") {
        None => None,
        Some(digits) => Some(TaskId::from_hex(digits).ok_or_else(|| malformed("task must be 32 lower-case digits"))?),
    };
    let before = number("before")?;
    if before.is_some() && task.is_none() {
        return Err(malformed("before counts the rounds of one task: name the task"));
    }
    let limit = number("limit")?.unwrap_or(ROUNDS_BY_DEFAULT);
    if !(1..=ROUNDS_MAX).contains(&limit) {
        return Err(malformed(format!("limit must be from 1 to {ROUNDS_MAX}")));
    }
    let limit = u32::try_from(limit).expect("at most 500");
    let rounds = app.rounds.overviews(task, before, limit).await?;
    Ok(Json(serde_json::json!({ "rounds": rounds })).into_response())
}

/// `GET /admin/v1/rounds/{round}`
async fn round<S: Store>(State(app): State<App<S>>, Path(round): Path<String>, uri: Uri) -> Answered {
    wire::Query::new(&uri, &[])?;
    Ok(Json(app.rounds.overview(wire::round(&round)?).await?).into_response())
}

/// `GET /admin/v1/rounds/{round}/export`
async fn export<S: Store>(State(app): State<App<S>>, Path(round): Path<String>, uri: Uri) -> Answered {
    wire::Query::new(&uri, &[])?;
    let round = wire::round(&round)?;
    let _slot = app.large.try_acquire().map_err(|_| RoundError::Busy)?;
    let export = app.rounds.export(round).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], export).into_response())
}

#[derive(Serialize)]
struct Revocations {
    number: u64,
    digest: String,
    entries: usize,
    received_us: Option<u64>,
}

impl From<Option<RevocationRow>> for Revocations {
    fn from(row: Option<RevocationRow>) -> Self {
        match row {
            None => Self { number: 0, digest: Digest::NONE.to_string(), entries: 0, received_us: None },
            Some(row) => Self {
                number: row.number,
                digest: row.digest.to_string(),
                entries: RevocationList::entries_of(row.bytes.len()),
                received_us: Some(row.received.0),
            },
        }
    }
}

/// `GET /admin/v1/revocations`
async fn revocations<S: Store>(State(app): State<App<S>>, uri: Uri) -> Answered {
    wire::Query::new(&uri, &[])?;
    Ok(Json(Revocations::from(app.rounds.newest_revocations().await?)).into_response())
}

/// `PUT /admin/v1/revocations`
async fn put_revocations<S: Store>(State(app): State<App<S>>, uri: Uri, headers: HeaderMap, body: Body) -> Answered {
    wire::Query::new(&uri, &[])?;
    let _slot = app.large.try_acquire().map_err(|_| RoundError::Busy)?;
    let body = receive(&headers, body, RevocationList::BYTES_MAX).await?;
    let (row, is_new) = app.rounds.publish_revocations(body.to_vec()).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Revocations::from(Some(row)))).into_response())
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, None, detail)
}

/// A body as it is, no longer than `limit`.
async fn receive(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        let detail = "send the body as it is: content encodings other than identity are refused";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, detail));
    }
    let too_long = || {
        let detail = format!("a body of at most {limit} bytes was expected");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, None, detail)
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long());
    }
    to_bytes(body, limit).await.map_err(|_| too_long())
}
