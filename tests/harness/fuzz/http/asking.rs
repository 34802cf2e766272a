//! Requests, made as an input says: mostly ones that could be meant, altered at one place or another.

use axum::http::{HeaderName, HeaderValue, Method, Uri};
use veilsum_crypto::ids::{Digest, RoundId};
use veilsum_crypto::messages::ReadPermit;

use super::super::edit::{Input, edit};
use super::super::forge::{is_signed_again, label_of};
use super::standing::{ADMIN_SECRET, CLIENTS, Door, PHASES, Standing};

/// What is asked.
pub struct Asked {
    /// GET, PUT, another, or one that nobody knows.
    pub method: Method,
    /// Path and query.
    pub target: Vec<u8>,
    /// All of it.
    pub body: Vec<u8>,
    /// The body is an honest message of the path's client, or signed by its key.
    pub may_be_admitted: bool,
    /// At which listener.
    pub door: Door,
    /// A header of its own: the admin token, right or wrong.
    pub authorization: Option<String>,
}

/// Follows an input.
pub fn ask(standing: &Standing, input: &mut Input<'_>) -> Asked {
    let methods =
        [Method::GET, Method::PUT, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS, Method::PATCH];
    let method = input.below(24);
    let what = input.below(11);
    let mut fitting = if what <= 2 { Method::PUT } else { Method::GET };
    let (round, id) = (standing.round, |number: usize| standing.client(number % CLIENTS));
    let (mut body, mut may_be_admitted, mut door, mut authorization) = (Vec::new(), false, Door::Clients, None);
    let target = match what {
        0..=2 => {
            let (phase, owner, base) = input.of(&standing.messages);
            let (path, how) = (input.below(3 * CLIENTS), input.byte());
            let path = if path < CLIENTS { path } else { *owner }; // mostly its own
            let signer = if how & 8 == 0 { *owner } else { input.below(CLIENTS - 1) };
            let to = if how & 16 == 0 { *phase as usize } else { input.below(PHASES.len()) };
            body = standing.pool().forge(base, label_of(*phase), how, &standing.keys[signer], input);
            let honest = |(_, number, message): &(_, usize, Vec<u8>)| *number == path && *message == body;
            may_be_admitted = standing.messages.iter().any(honest) || (is_signed_again(how) && signer == path);
            format!("/v1/rounds/{round}/{}/{}", PHASES[to], id(path))
        }
        3 => format!(
            "/v1/rounds/{round}/{}?wait={}",
            input.of(&["header", "roster", "core", "survivors", "confirmations", "result"]),
            input.below(3)
        ),
        4 => {
            let indices: Vec<String> = (0..input.below(6)).map(|_| input.below(6).to_string()).collect();
            format!("/v1/rounds/{round}/leaves?i={}", indices.join(","))
        }
        5 => format!(
            "/v1/rounds/{round}/{}/{}",
            input.of(&["mail", "complaints", "openings", "uploads", "share"]),
            id(input.below(CLIENTS))
        ),
        6 => format!("/v1/tasks/{}/header?after={}&wait=0", standing.world.task.id, input.below(3)),
        7 => match input.below(6) {
            0 => format!(
                "/v1/models/{}",
                crate::world::sha256(&veilsum_aggregator::round::learn::to_bytes(&standing.world.model))
            ),
            1 => format!("/v1/revocations/{}", Digest([1; 32])),
            2 => "/v1/log/checkpoint".to_string(),
            3 => format!("/v1/log/consistency?from={}&to={}", input.below(9), input.below(9)),
            4 => String::from_utf8_lossy(input.take(40)).into_owned(),
            _ => format!("/v1/rounds/{}/header", RoundId(input.array())),
        },
        8 => {
            door = Door::Operations;
            (*input.of(&["/healthz", "/readyz", "/metrics"])).to_string()
        }
        _ => {
            door = Door::Admin;
            may_be_admitted = true; // the token admits, no signature
            authorization = match input.below(8) {
                0 => None,
                1 => Some(format!("Bearer {}", hex::encode(input.array::<32>()))),
                2 => Some(String::from_utf8_lossy(input.take(20)).into_owned()),
                _ => Some(admin_token()),
            };
            let (method, target) = ask_admin(standing, input, &mut body);
            fitting = method;
            target
        }
    };
    // Mostly the method that fits, now and then another, or one that nobody knows.
    let method = match methods.get(method) {
        Some(method) => method.clone(),
        None if method == 23 => Method::from_bytes(input.take(5)).unwrap_or(Method::TRACE),
        None => fitting,
    };
    Asked { method, target: target.into_bytes(), body, may_be_admitted, door, authorization }
}

/// As a request carries it.
pub fn admin_token() -> String {
    format!("Bearer {}", hex::encode(ADMIN_SECRET))
}

/// A path of docs/admin.md, and a body where it takes one. Tasks are only checked: each one made would open rounds.
fn ask_admin(standing: &Standing, input: &mut Input<'_>, body: &mut Vec<u8>) -> (Method, String) {
    let (task, round) = (standing.world.task.id, standing.round);
    let model = veilsum_aggregator::round::learn::to_bytes(&standing.world.model);
    let digest = crate::world::sha256(&model);
    let read = |path: String| (Method::GET, path);
    match input.below(10) {
        0 => read("/admin/v1/status".into()),
        1 => read(format!("/admin/v1/tasks/{task}")),
        2 => read(format!("/admin/v1/rounds?task={task}&limit={}&before={}", input.below(4), input.below(4))),
        3 => read(format!("/admin/v1/rounds/{round}")),
        4 => read(format!("/admin/v1/rounds/{round}/export")),
        5 => {
            *body = standing.messages.first().map_or_else(Vec::new, |(_, _, message)| message.clone());
            edit(body, &[], input);
            (Method::PUT, "/admin/v1/revocations".into())
        }
        6 => {
            *body = model;
            edit(body, &[b"F64", b"{}"], input);
            (Method::PUT, format!("/admin/v1/models/{digest}"))
        }
        7 | 8 => {
            *body = toml::to_string(&standing.world.task.file).expect("serialises").into_bytes();
            edit(body, &[b"nan", b"-1", b"roster_min = 3"], input);
            (Method::POST, format!("/admin/v1/tasks?check=1{}", input.of(&["", "&model=", "&check=1", "&model=00"])))
        }
        _ => read(format!("/admin/v1/{}", String::from_utf8_lossy(input.take(30)))),
    }
}

/// None, one for this very target, one for another, or one that was edited.
pub fn permit(standing: &Standing, uri: &Uri, input: &mut Input<'_>) -> Option<HeaderValue> {
    let (kind, number) = (input.below(6), input.below(CLIENTS));
    let target = match (uri.query(), kind) {
        (_, 0) => return None,
        (_, 1) => "/v1/rounds/other/core".to_string(),
        (Some(query), _) if query.starts_with("i=") => {
            format!("{}?{}", uri.path(), query.split('&').next().unwrap_or_default())
        }
        _ => uri.path().to_string(),
    };
    let mut permit =
        ReadPermit::sign(&target, &standing.chain, standing.client(number), &standing.keys[number]).encode();
    if kind == 2 {
        edit(&mut permit, &[], input);
    }
    let mut digits = hex::encode(permit).into_bytes();
    if kind == 3 {
        edit(&mut digits, &[], input);
    }
    HeaderValue::from_bytes(&digits).ok()
}

/// A header field, some of them long or out of place.
pub fn header(input: &mut Input<'_>) -> Option<(HeaderName, HeaderValue)> {
    let names =
        ["content-encoding", "content-length", "content-type", "veilsum-read", "accept", "expect", "x-long", "host"];
    let name = HeaderName::from_static(names[input.below(names.len())]);
    let value = match input.below(4) {
        0 => vec![b'a'; input.number() / 2],
        1 => input
            .of(&["gzip", "identity", "br, identity", "18446744073709551616", "-1", "100-continue"])
            .as_bytes()
            .to_vec(),
        _ => {
            let len = input.below(64);
            input.take(len).to_vec()
        }
    };
    Some((name, HeaderValue::from_bytes(&value).ok()?))
}
