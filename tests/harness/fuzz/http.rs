//! The HTTP front door: requests of any method, path, query, header and body to the real router on a real SQLite database.
//!
//! `standing` makes the services, one for each phase; `asking` makes the requests.

use std::sync::Mutex;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Method, Request, Uri};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use veilsum_crypto::server::PhaseKind;

use super::Target;
use super::edit::{Input, edit};
use crate::hostile::Answer;
use asking::{admin_token, ask, header, permit};
use standing::{Door, Standing};

mod asking;
mod standing;

/// The target.
pub const TARGET: Target = Target {
    name: "http",
    what: "the HTTP front doors (clients, operators, admin API): never 500, only statuses that docs/wire.md §9 and docs/admin.md \
           list, every refusal a whole problem+json, no message admitted that its client did not sign, nothing without the token",
    run,
    seeds,
    words: &[
        "wait=",
        "after=",
        "i=0,1",
        "%00",
        "%ff",
        "%2e%2e",
        "' OR 1=1--",
        "identity",
        "gzip",
        "/v1/",
        "?",
        "&",
        "//",
    ],
    portion: 1,
    finish,
};

/// The statuses of docs/wire.md §9.
const STATUSES: [u16; 14] = [200, 204, 400, 403, 404, 409, 410, 413, 415, 422, 425, 431, 500, 503];
/// The statuses of docs/admin.md.
const ADMIN_STATUSES: [u16; 15] = [200, 201, 204, 400, 401, 404, 405, 409, 410, 413, 415, 422, 431, 500, 503];

struct Front {
    standing: Vec<Standing>,
    runtime: Runtime,
}

/// Made by the first execution; taken down with [`Target::finish`], folders and all.
static FRONT: Mutex<Option<Front>> = Mutex::new(None);

fn front() -> Front {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let phases = PhaseKind::ALL.into_iter().filter(|phase| !matches!(phase, PhaseKind::Opening | PhaseKind::Abandoned));
    let standing = phases.map(|phase| runtime.block_on(Standing::at(phase))).collect();
    Front { standing, runtime }
}

fn finish() {
    *FRONT.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
}

/// ```text
/// u8 service, u8 method, u8 what is asked (and its details), u8 edits of the target, u8 permit, u8 further header fields
/// ```
pub fn run(bytes: &[u8]) {
    let mut front = FRONT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let front = &*front.get_or_insert_with(self::front);
    let mut input = Input::new(bytes);
    let standing = input.of(&front.standing);
    let mut asked = ask(standing, &mut input);
    if input.below(4) == 3 {
        edit(&mut asked.target, &[b"/v1/rounds/", b"?wait=1", b"%2f", b"..", b"&i=0,1"], &mut input);
        asked.may_be_admitted = true; // under another path it may be another's honest message
    }
    shorten_wait(&mut asked.target);
    let Ok(uri) = Uri::try_from(asked.target.as_slice()) else { return };
    let mut request = Request::builder().method(asked.method.clone()).uri(uri.clone());
    if let Some(permit) = permit(standing, &uri, &mut input) {
        request = request.header("veilsum-read", permit);
    }
    if let Some(Ok(value)) = asked.authorization.as_deref().map(HeaderValue::from_str) {
        request = request.header("authorization", value);
    }
    for _ in 0..input.below(4) {
        let Some((name, value)) = header(&mut input) else { continue };
        request = request.header(name, value);
    }
    let Ok(request) = request.body(Body::from(asked.body)) else { return };
    let router = &standing.doors[asked.door as usize];
    let (answer, retry_after, phase) = front.runtime.block_on(async {
        let response = router.clone().oneshot(request).await.expect("a router answers");
        let (parts, body) = response.into_parts();
        let text =
            |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let (content_type, retry_after) = (text("content-type").to_string(), text("retry-after").to_string());
        let body = to_bytes(body, 64 << 20).await.expect("a whole body").to_vec();
        let view = standing.world.rounds().view(standing.round).await.expect("the round is known");
        (Answer { status: parts.status.as_u16(), content_type, body }, retry_after, view.phase.kind())
    });
    match asked.door {
        Door::Clients => judge(&STATUSES, &asked.method, &answer, &retry_after),
        // docs/wire.md does not speak of it.
        Door::Operations => {
            assert!([200, 404, 405].contains(&answer.status), "{} at the operator's port", answer.status)
        }
        Door::Admin => {
            judge(&ADMIN_STATUSES, &asked.method, &answer, &retry_after);
            let is_let_in = asked.authorization.as_deref() == Some(&admin_token());
            assert!(is_let_in || answer.status == 401, "{} without the token", answer.status);
        }
    }
    assert_eq!(phase, standing.phase, "the round stays where it was");
    if asked.method == Method::PUT && !asked.may_be_admitted {
        assert_ne!(answer.status, 204, "admitted without its sender's signature");
    }
}

fn judge(statuses: &[u16], method: &Method, answer: &Answer, retry_after: &str) {
    let text = String::from_utf8_lossy(&answer.body);
    assert!(statuses.contains(&answer.status), "{} is not documented: {text}", answer.status);
    assert_ne!(answer.status, 500, "a fault of the service: {text}");
    assert_eq!(answer.status == 503, !retry_after.is_empty(), "503 says when to come again");
    if answer.status == 204 {
        assert!(answer.body.is_empty(), "204 has no body");
    } else if answer.status >= 400 && *method != Method::HEAD {
        let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("a problem is JSON");
        let rule = json["rule"].as_str().map(|rule| rule.trim_start_matches("R-").parse().expect("a number"));
        answer.is(answer.status, rule);
    }
}

/// A read that waits would make the campaign wait: one millisecond shows as much.
fn shorten_wait(target: &mut Vec<u8>) {
    let mut from = 0;
    while let Some(at) = target[from..].windows(5).position(|five| five == b"wait=") {
        let digits = from + at + 5;
        let end = digits + target[digits..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if end > digits + 1 {
            target.splice(digits..end, [b'1']);
        }
        from = digits;
    }
}

/// Everything there is to ask, of every service, with a permit.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for service in 0..7_u8 {
        for what in 3..11_u8 {
            seeds.extend((0..6_u8).map(|detail| vec![service, 15, what, detail, 0, 0, 5, 0, 0]));
        }
        for how in 0..7_u8 {
            seeds.extend((0..4_u8).map(|which| vec![service, 15, 0, which, 8, how, 1, 0, 40, 0, 1]));
        }
    }
    seeds
}
