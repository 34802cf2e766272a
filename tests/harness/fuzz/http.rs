//! The HTTP front door: requests of any method, path, query, header and body to the real router on a real SQLite database.
//!
//! Seven services stand each in another phase of a round and stay there: of every phase one client's message is never sent.

use std::sync::{LazyLock, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use veilsum_aggregator::http;
use veilsum_crypto::ids::{ClientId, Digest, Party, RoundId};
use veilsum_crypto::messages::{Chain, ReadPermit};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Statement};
use veilsum_crypto::server::{PhaseKind, StatementKind};

use super::Target;
use super::edit::{Input, edit};
use super::forge::{Pool, is_signed_again, label_of};
use crate::hostile::{Answer, Hand};
use crate::world::{Shape, World};

/// The target.
pub const TARGET: Target = Target {
    name: "http",
    what: "the HTTP front door: never 500, only statuses that docs/wire.md §9 lists, every refusal a whole problem+json, and no \
           message admitted that its client did not sign",
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
};

/// The statuses of docs/wire.md §9.
const STATUSES: [u16; 14] = [200, 204, 400, 403, 404, 409, 410, 413, 415, 422, 425, 431, 500, 503];
const PHASES: [&str; 8] = ["advertise", "share", "acknowledge", "open", "mask", "confirm", "unmask", "else"];
const CLIENTS: usize = 4;

/// A service that stands in one phase.
struct Standing {
    world: World,
    round: RoundId,
    phase: PhaseKind,
    chain: Chain,
    digests: Vec<Digest>,
    /// Messages of this and earlier phases that may be sent: phase, client, bytes.
    messages: Vec<(PhaseKind, usize, Vec<u8>)>,
    keys: Vec<IdentitySecretKey>,
    clients: Router,
    operations: Router,
}

struct Front {
    standing: Vec<Standing>,
    runtime: Runtime,
}

static FRONT: LazyLock<Mutex<Front>> = LazyLock::new(|| {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let phases = PhaseKind::ALL.into_iter().filter(|phase| !matches!(phase, PhaseKind::Opening | PhaseKind::Abandoned));
    let standing = phases.map(|phase| runtime.block_on(Standing::at(phase))).collect();
    Mutex::new(Front { standing, runtime })
});

impl Standing {
    async fn at(phase: PhaseKind) -> Self {
        let shape = Shape { window_ms: 24 * 60 * 60 * 1_000, ..Shape::patient(CLIENTS as u32) };
        let world = World::new(shape).await;
        let mut hands = Vec::new();
        for number in 0..CLIENTS {
            hands.push(Hand::new(&world, number, 1).await);
        }
        let mut messages = Vec::new();
        for (of, name) in PHASES[..7].iter().enumerate().filter(|(_, name)| **name != "open") {
            let of = PhaseKind::from_number(of as u8).expect("seven phases");
            if of > phase {
                break;
            }
            for (number, hand) in hands.iter_mut().enumerate() {
                let message = match *name {
                    "advertise" => hand.advert().await,
                    "share" => hand.deal().await,
                    "acknowledge" => hand.acknowledge().await,
                    "mask" => hand.mask().await.0,
                    "confirm" => hand.confirm().await,
                    _ => hand.unmask().await,
                };
                if of < phase && !message.is_empty() {
                    let answer = hand.put(name, &message).await;
                    assert!([204, 410].contains(&answer.status), "honest, or late among confirmations: {answer:?}");
                }
                // So many that the phase stays open: of confirmations t would close it, of others all.
                let is_held_back = number >= if of == PhaseKind::Confirming { 2 } else { CLIENTS - 1 };
                if !message.is_empty() && (of < phase || !is_held_back) {
                    messages.push((of, number, message));
                }
            }
        }
        let round = world.round(1).await;
        let view = world.reached(round, phase).await;
        assert_eq!(view.phase.kind(), phase, "it stands where it should");
        Self::of(world, round, phase, messages, hands).await
    }

    async fn of(
        world: World,
        round: RoundId,
        phase: PhaseKind,
        messages: Vec<(PhaseKind, usize, Vec<u8>)>,
        hands: Vec<Hand>,
    ) -> Self {
        let chain = hands[0].header.chain();
        let mut digests = vec![Digest::NONE, chain.context];
        for (kind, label) in [
            (StatementKind::Roster, labels::ROSTER),
            (StatementKind::Core, labels::CORE),
            (StatementKind::Survivors, labels::SURVIVORS),
        ] {
            if let Ok(served) = world.rounds().statement(round, kind).await {
                let mut reader = veilsum_crypto::primitives::codec::Reader::new(&served);
                digests.push(Statement::read(&mut reader, label).expect("as signed").root());
            }
        }
        let keys = hands.iter().map(|hand| IdentitySecretKey::from_bytes(&hand.member.identity.to_bytes())).collect();
        let (clients, operations) = (http::router(world.rounds().clone()), http::operations(world.rounds().clone()));
        Self { round, phase, chain, digests, messages, keys, clients, operations, world }
    }

    fn client(&self, number: usize) -> ClientId {
        self.world.clients[number].id
    }

    fn pool(&self) -> Pool<'_> {
        let clients = (0..CLIENTS).map(|number| self.client(number).into());
        Pool {
            donors: self.messages.iter().map(|(_, _, message)| message.as_slice()).collect(),
            digests: &self.digests,
            parties: clients.chain([self.chain.aggregator, Party::EVERYBODY]).collect(),
        }
    }
}

/// What is asked.
struct Asked {
    method: Method,
    target: Vec<u8>,
    body: Vec<u8>,
    /// The body is an honest message of the path's client, or signed by its key.
    may_be_admitted: bool,
    is_operations: bool,
}

/// ```text
/// u8 service, u8 method, u8 what is asked (and its details), u8 edits of the target, u8 permit, u8 further header fields
/// ```
pub fn run(bytes: &[u8]) {
    let front = FRONT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
    for _ in 0..input.below(4) {
        let Some((name, value)) = header(&mut input) else { continue };
        request = request.header(name, value);
    }
    let Ok(request) = request.body(Body::from(asked.body)) else { return };
    let router = if asked.is_operations { &standing.operations } else { &standing.clients };
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
    if asked.is_operations {
        // The operator's own port: docs/wire.md does not speak of it.
        assert!([200, 404, 405].contains(&answer.status), "{} at the operator's port", answer.status);
    } else {
        judge(&asked.method, &answer, &retry_after);
    }
    assert_eq!(phase, standing.phase, "the round stays where it was");
    if asked.method == Method::PUT && !asked.may_be_admitted {
        assert_ne!(answer.status, 204, "admitted without its sender's signature");
    }
}

fn judge(method: &Method, answer: &Answer, retry_after: &str) {
    let text = String::from_utf8_lossy(&answer.body);
    assert!(STATUSES.contains(&answer.status), "{} is no status of docs/wire.md: {text}", answer.status);
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

fn ask(standing: &Standing, input: &mut Input<'_>) -> Asked {
    let methods =
        [Method::GET, Method::PUT, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS, Method::PATCH];
    let method = input.below(24);
    let what = input.below(9);
    let (round, id) = (standing.round, |number: usize| standing.client(number % CLIENTS));
    let (mut body, mut may_be_admitted, mut is_operations) = (Vec::new(), false, false);
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
        _ => {
            is_operations = true;
            (*input.of(&["/healthz", "/readyz", "/metrics"])).to_string()
        }
    };
    // Mostly the method that fits, now and then another, or one that nobody knows.
    let fitting = if what <= 2 { Method::PUT } else { Method::GET };
    let method = match methods.get(method) {
        Some(method) => method.clone(),
        None if method == 23 => Method::from_bytes(input.take(5)).unwrap_or(Method::TRACE),
        None => fitting,
    };
    Asked { method, target: target.into_bytes(), body, may_be_admitted, is_operations }
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

/// None, one for this very target, one for another, or one that was edited.
fn permit(standing: &Standing, uri: &Uri, input: &mut Input<'_>) -> Option<HeaderValue> {
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

fn header(input: &mut Input<'_>) -> Option<(HeaderName, HeaderValue)> {
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

/// Everything there is to ask, of every service, with a permit.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for service in 0..7_u8 {
        for what in 3..9_u8 {
            seeds.extend((0..6_u8).map(|detail| vec![service, 15, what, detail, 0, 0, 5, 0, 0]));
        }
        for how in 0..7_u8 {
            seeds.extend((0..4_u8).map(|which| vec![service, 15, 0, which, 8, how, 1, 0, 40, 0, 1]));
        }
    }
    seeds
}
