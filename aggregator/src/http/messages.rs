//! `PUT /v1/rounds/{round}/{phase}/{client}`: all seven client messages. Each is signed; the signature is the
//! authentication. The same bytes again succeed; other bytes are refused. docs/wire.md §8.1

use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};

use super::{App, PUTS_KIB_MAX, Problem, REQUEST_MAX, problem, wire};
use crate::round::{RoundError, Rounds};
use crate::store::Store;

/// A body has this long, and as much more as a slow line needs for the longest that its phase permits.
const BODY_TIME: Duration = Duration::from_secs(10);
/// A line slower than this is taken for one that means to hold a place: 64 KiB/s.
const SLOWEST_BYTES_PER_S: usize = 64 * 1024;

/// Reads a body no longer than its phase permits, and hands it on.
pub async fn put<S: Store>(
    State(app): State<App<S>>,
    Path((round, phase, client)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let (round, phase, client) = (wire::round(&round)?, wire::phase(&phase)?, wire::client(&client)?);
    let view = app.rounds.expects(round, phase, client).await?;
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        let detail = "send the body as it is: content encodings other than identity are refused";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, detail));
    }
    let limit = Rounds::<S>::body_limit(&view, phase);
    let weight = u32::try_from(limit.div_ceil(1024)).unwrap_or(PUTS_KIB_MAX).min(PUTS_KIB_MAX);
    let slot = app.puts.clone().try_acquire_many_owned(weight).map_err(|_| RoundError::Busy)?;
    let too_long = || {
        let detail = format!("a body of at most {limit} bytes was expected in this phase");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, None, detail)
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long());
    }
    let time = BODY_TIME + Duration::from_secs((limit / SLOWEST_BYTES_PER_S) as u64);
    let body = match tokio::time::timeout(time, to_bytes(body, limit)).await {
        Ok(body) => body.map_err(|_| too_long())?,
        Err(_) => {
            let detail = format!("a body within {} s was expected; send it again over a faster line", time.as_secs());
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, None, detail));
        }
    };
    // A task of its own: what was begun is ended though the sender hangs up, and the place is free only then.
    let judging = tokio::spawn(async move {
        let _slot = slot;
        tokio::time::timeout(REQUEST_MAX, app.rounds.accept(round, phase, client, body.into())).await
    });
    match judging.await {
        Ok(Ok(taken)) => taken.map(|()| StatusCode::NO_CONTENT).map_err(Problem::from),
        Ok(Err(_)) => Err(problem::too_slow()),
        Err(_) => Err(problem::fault()),
    }
}
