//! Errors as problem+json (RFC 9457), naming the rule broken. docs/wire.md §9

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use veilsum_crypto::rules::{Answer, Rejection};

use crate::round::RoundError;
use crate::store::StoreError;

/// An error as it is answered.
#[derive(Debug, Serialize)]
pub struct Problem {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    rule: Option<String>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem under a rule, or under none.
    pub fn new(status: StatusCode, rule: Option<u8>, detail: impl Into<String>) -> Self {
        let rule = rule.map(|number| format!("R-{number:02}"));
        Self {
            r#type: rule.as_ref().map_or("about:blank".into(), |rule| format!("urn:veilsum:rule:{rule}")),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            rule,
            retry_after_s: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    /// 400 for a request that is not in form.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some(37), detail)
    }

    /// 404.
    pub fn unknown(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, None, format!("there is no such {what} here"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = self.retry_after_s;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<RoundError> for Problem {
    fn from(error: RoundError) -> Self {
        let detail = error.to_string();
        match error {
            RoundError::Rejected(rejection) => Self::from_rejection(&rejection),
            RoundError::OtherBytes { rule } => Self::new(StatusCode::CONFLICT, Some(rule), detail),
            RoundError::KeyTaken => Self::new(StatusCode::CONFLICT, Some(9), detail),
            RoundError::Gone(_) => Self::new(StatusCode::GONE, None, detail),
            RoundError::Unknown(what) => Self::unknown(what),
            RoundError::Malformed(_) => Self::new(StatusCode::BAD_REQUEST, None, detail),
            RoundError::Unacceptable { rule, .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, rule, detail),
            RoundError::Conflict { rule, .. } => Self::new(StatusCode::CONFLICT, rule, detail),
            RoundError::Forbidden { rule, .. } => Self::new(StatusCode::FORBIDDEN, Some(rule), detail),
            RoundError::Busy | RoundError::ShuttingDown => Self::new(StatusCode::SERVICE_UNAVAILABLE, None, detail),
            RoundError::Store(StoreError::Away(_) | StoreError::NoRoom(_)) => {
                tracing::error!(why = detail, "the store is away");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    None,
                    "the store is away; send the same bytes again after a moment",
                )
            }
            error @ (RoundError::Store(_) | RoundError::Defect(_)) => {
                tracing::error!(%error, "a fault of ours");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, None, "a fault of the service; it was logged")
            }
        }
    }
}

impl Problem {
    fn from_rejection(rejection: &Rejection) -> Self {
        let status = match rejection.answer() {
            Answer::NotCanonical => StatusCode::BAD_REQUEST,
            Answer::Forbidden => StatusCode::FORBIDDEN,
            Answer::Unknown => StatusCode::NOT_FOUND,
            Answer::Closed => StatusCode::GONE,
            Answer::RuleBroken => StatusCode::UNPROCESSABLE_ENTITY,
            Answer::TooEarly => StatusCode::TOO_EARLY,
        };
        Self::new(status, rejection.rule().map(|rule| rule.0), rejection.to_string())
    }
}

pub(super) async fn unknown_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, None, "there is no such path; docs/wire.md §8 lists them")
}

pub(super) fn too_slow() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        None,
        "the answer took too long; send the same bytes again after a moment",
    )
}

/// Of a handler that panicked.
pub(super) fn fault() -> Problem {
    tracing::error!("a handler panicked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, None, "a fault of the service; it was logged")
}

pub(super) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response<Body> {
    fault().into_response()
}
