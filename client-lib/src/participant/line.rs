//! The line to the aggregator: asks and sends again until there is an answer that says something. docs/wire.md §9
//!
//! A message is sent again byte for byte: the aggregator answers the same bytes alike, so a lost reply costs nothing.

use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::broadcast;

use super::{ClientEvent, Halt, ParticipantError, Phase};
use crate::transport::{Reply, Transport, TransportError};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An aggregator that asks for more patience gets this much.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Characters of somebody else's text that go into an error.
const DETAIL_CHARS_MAX: usize = 300;

/// What became of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// It counts.
    Admitted,
    /// 410 or 404: it does not; with the reason.
    Closed(String),
}

impl Delivery {
    /// Whether the round may go on without this message.
    pub fn is_only_late(&self) -> bool {
        match self {
            Self::Admitted => true,
            Self::Closed(reason) => {
                let word = reason.split(':').next().unwrap_or_default();
                word == "phase-closed" || word == "published"
            }
        }
    }
}

/// A transport that does not give up.
pub struct Line<T> {
    pub transport: T,
    pub events: broadcast::Sender<ClientEvent>,
    /// How long one read may wait for its answer.
    pub wait: Duration,
}

impl<T: Transport> Line<T> {
    /// Tells whoever listens.
    pub fn tell(&self, event: ClientEvent) {
        tracing::debug!(?event);
        let _ = self.events.send(event); // nobody need listen
    }

    /// Waits for a resource for as long as it may yet come.
    pub async fn get(&self, path: &str, permit: Option<&[u8]>, limit_bytes: usize) -> Result<Vec<u8>, Halt> {
        let (mut pauses, mut idle) = (Pauses::default(), Pauses::default());
        // Only what is settled later can be waited for; models and the log are there or not. docs/wire.md §8.2
        let waits = path.starts_with("/v1/tasks/") || path.starts_with("/v1/rounds/");
        let wait = if waits { self.wait } else { Duration::ZERO };
        loop {
            let asked = Instant::now();
            let reply = self.transport.get(path, permit, wait, limit_bytes).await;
            match judge(path, reply)? {
                Judged::Body(body) => return Ok(body),
                Judged::Over(reason) => return Err(Halt::Over { reason }),
                Judged::Again { why, at_least } => self.pause(&mut pauses, why, at_least).await,
                Judged::Nothing => {
                    pauses = Pauses::default();
                    // Nothing yet. An aggregator that does not wait is not asked without pause.
                    if asked.elapsed() < self.wait / 2 {
                        tokio::time::sleep(idle.next(Duration::ZERO)).await;
                    } else {
                        idle = Pauses::default();
                    }
                }
            }
        }
    }

    /// Sends the same bytes until they are answered.
    pub async fn put(&self, path: &str, phase: Phase, message: Vec<u8>) -> Result<Delivery, Halt> {
        let (mut pauses, bytes) = (Pauses::default(), message.len());
        loop {
            let reply = self.transport.put(path, message.clone()).await;
            match judge(path, reply)? {
                Judged::Nothing | Judged::Body(_) => {
                    self.tell(ClientEvent::Sent { phase, bytes });
                    return Ok(Delivery::Admitted);
                }
                Judged::Over(reason) => return Ok(Delivery::Closed(reason)),
                Judged::Again { why, at_least } => self.pause(&mut pauses, why, at_least).await,
            }
        }
    }

    async fn pause(&self, pauses: &mut Pauses, why: String, at_least: Duration) {
        let after = pauses.next(at_least);
        self.tell(ClientEvent::Retrying { after, why });
        tokio::time::sleep(after).await;
    }
}

/// What a reply means to a client that wants one thing.
#[derive(Debug)]
enum Judged {
    Body(Vec<u8>),
    Nothing,
    Over(String),
    Again { why: String, at_least: Duration },
}

fn judge(path: &str, reply: Result<Reply, TransportError>) -> Result<Judged, Halt> {
    let Reply { status, body, retry_after } = match reply {
        Ok(reply) => reply,
        Err(error) if error.is_passing() => {
            return Ok(Judged::Again { why: error.to_string(), at_least: Duration::ZERO });
        }
        Err(error) => return Err(Halt::Failed(ParticipantError::Transport(error))),
    };
    Ok(match status {
        200 => Judged::Body(body),
        204 => Judged::Nothing,
        404 | 410 => {
            let detail = Problem::read(&body).detail;
            Judged::Over(if detail.is_empty() { format!("status {status}") } else { detail })
        }
        408 | 425 | 429 | 500..=599 => {
            let at_least = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            Judged::Again { why: format!("the aggregator answered {status}"), at_least }
        }
        _ => {
            let Problem { detail, rule } = Problem::read(&body);
            let request = path.to_string();
            return Err(Halt::Failed(ParticipantError::Refused { request, status, rule, detail }));
        }
    })
}

/// What an error says, as far as it can be used. docs/wire.md §9
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    detail: String,
    rule: Option<String>,
}

impl Problem {
    /// Others' text: short, and without control characters.
    fn read(body: &[u8]) -> Self {
        let tame = |text: String| text.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS_MAX).collect::<String>();
        let Self { detail, rule } = serde_json::from_slice(body).unwrap_or_default();
        Self { detail: tame(detail), rule: rule.map(tame) }
    }
}

/// Pauses that double, each drawn between half and whole, so that clients that failed together do not return together.
#[derive(Default)]
struct Pauses {
    taken: u32,
}

impl Pauses {
    fn next(&mut self, at_least: Duration) -> Duration {
        let whole = FIRST_PAUSE.saturating_mul(1 << self.taken.min(10)).min(LONGEST_PAUSE);
        self.taken += 1;
        at_least + whole / 2 + (whole / 2).mul_f64(fraction())
    }
}

/// Uniform in 0 to 1; if the system has no randomness, half will do for a pause.
fn fraction() -> f64 {
    getrandom::u32().map_or(0.5, |draw| f64::from(draw) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::MemoryTransport;
    use crate::transport::memory::MemoryRequest;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    type Script = Vec<Result<Reply, TransportError>>;

    /// A line whose other side answers by script, and what it was asked.
    fn line(script: Script) -> (Line<MemoryTransport>, Arc<Mutex<Vec<MemoryRequest>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Mutex::new(VecDeque::from(script)), asked.clone());
        let transport = MemoryTransport::faulty(move |request| {
            log.lock().expect("one thread").push(request);
            let reply = script.lock().expect("one thread").pop_front().expect("the script goes on");
            async { reply }
        });
        (Line { transport, events: broadcast::channel(64).0, wait: Duration::from_secs(20) }, asked)
    }

    fn lost() -> Result<Reply, TransportError> {
        Err(TransportError::Unreachable("connection reset".to_string()))
    }

    fn status(status: u16) -> Result<Reply, TransportError> {
        Ok(Reply::new(status, []))
    }

    fn problem(status: u16, detail: &str, rule: &str) -> Result<Reply, TransportError> {
        let body = serde_json::json!({"type": "x", "title": "x", "status": status, "detail": detail, "rule": rule});
        Ok(Reply::new(status, body.to_string()))
    }

    /// whatever breaks, the bytes stay the same, until they are admitted.
    #[tokio::test(start_paused = true)]
    async fn a_message_is_sent_again_unchanged_until_it_is_admitted() {
        let busy = Reply { retry_after: Some(Duration::from_secs(7)), ..Reply::new(503, []) };
        let script =
            vec![lost(), status(500), status(425), Err(TransportError::Timeout(Duration::ZERO)), Ok(busy), status(204)];
        let (line, asked) = line(script);
        let mut events = line.events.subscribe();
        let delivery = line.put("/v1/x", Phase::Share, vec![1, 2, 3]).await.expect("admitted in the end");
        assert_eq!(delivery, Delivery::Admitted);
        let asked = asked.lock().expect("done");
        assert_eq!(asked.len(), 6);
        assert!(asked.iter().all(|request| *request == asked[0] && request.body == [1, 2, 3]));
        let mut pauses = Vec::new();
        while let Ok(ClientEvent::Retrying { after, .. }) = events.try_recv() {
            pauses.push(after);
        }
        assert_eq!(pauses.len(), 5);
        for (index, pause) in pauses[..4].iter().enumerate() {
            let whole = FIRST_PAUSE * (1 << index);
            assert!((whole / 2..=whole).contains(pause), "{index}: {pause:?}");
        }
        assert!(pauses[4] >= Duration::from_secs(7), "as the aggregator asked");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_not_repeated_and_names_its_rule() {
        for code in [400, 403, 409, 413, 422] {
            let (line, asked) = line(vec![problem(code, "no\u{1b}[0m", "R-19")]);
            let refused = line.put("/v1/x", Phase::Mask, vec![1]).await.expect_err("refused");
            let Halt::Failed(ParticipantError::Refused { status, rule, detail, .. }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!((status, rule.as_deref(), detail.as_str()), (code, Some("R-19"), "no[0m"));
            assert_eq!(asked.lock().expect("done").len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_phase_says_whether_the_round_may_go_on() {
        for (detail, only_late) in
            [("phase-closed", true), ("published: x", true), ("stopped", false), ("core-too-small: 3", false)]
        {
            let (line, _) = line(vec![problem(410, detail, "")]);
            let delivery = line.put("/v1/x", Phase::Confirm, vec![1]).await.expect("an answer");
            assert_eq!(delivery, Delivery::Closed(detail.to_string()));
            assert_eq!(delivery.is_only_late(), only_late, "{detail}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_waits_for_what_is_not_settled_and_stops_at_what_never_will_be() {
        let (line, asked) =
            line(vec![status(204), status(204), lost(), Ok(Reply::new(200, [7])), problem(410, "stopped", "")]);
        assert_eq!(line.get("/v1/x", Some(&[1]), 1).await.expect("settled"), [7]);
        assert!(asked.lock().expect("done").iter().all(|request| request.permit.as_deref() == Some(&[1])));
        let Err(Halt::Over { reason }) = line.get("/v1/x", None, 1).await else { panic!("410 is the end") };
        assert_eq!(reason, "stopped");
    }
}
