//! The network between clients and replicas: late, lossy, repeating, cut; and the place from which messages are watched.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};

use super::Sim;
use super::server::Servers;
use crate::dice::Dice;

/// A client gives up waiting for an answer so long after it may have come.
const PATIENCE_MS: u64 = 3_000;
/// How long a read may wait at the aggregator.
const WAIT_MS: u64 = 5_000;

/// The network.
pub struct Network {
    sim: Arc<Sim>,
    servers: Arc<Servers>,
    dice: Mutex<Dice>,
}

/// A request of a client.
#[derive(Clone, Debug)]
pub struct Asked {
    /// By whom.
    pub client: usize,
    /// PUT or GET.
    pub method: Method,
    /// Path and query, without `wait`.
    pub target: String,
    /// A signed read statement.
    pub permit: Option<Vec<u8>>,
    /// Of a PUT.
    pub body: Vec<u8>,
}

impl Network {
    /// Between these.
    pub fn new(sim: Arc<Sim>, servers: Arc<Servers>, dice: Dice) -> Self {
        Self { sim, servers, dice: Mutex::new(dice) }
    }

    fn is_cut(&self, client: usize) -> bool {
        let now_ms = self.sim.now_ms();
        self.sim.plan.partitions.iter().any(|(cut, stretch)| *cut == client && stretch.holds(now_ms))
    }

    async fn travel(&self, is_message: bool) {
        let delay_ms = {
            let plan = &self.sim.plan;
            let mut dice = self.dice.lock().expect("one thread");
            let mut delay_ms = dice.between(plan.latency_ms.0, plan.latency_ms.1);
            if is_message && dice.permille(plan.stragglers) {
                delay_ms += dice.below(2 * u64::from(plan.window_ms));
            }
            delay_ms
        };
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }

    fn loses(&self, client: usize, what: &'static str, target: &str) -> bool {
        if self.is_cut(client) {
            self.sim.fault("partition", format_args!("c{client}: {what} {target}"));
            return true;
        }
        let lost = self.dice.lock().expect("one thread").permille(self.sim.plan.loss);
        if lost {
            self.sim.fault("lost", format_args!("c{client}: {what} {target}"));
        }
        lost
    }

    /// Sends a request and waits for its answer; `None` where none came.
    pub async fn exchange(self: &Arc<Self>, asked: Asked) -> Option<(u16, Vec<u8>)> {
        let is_put = asked.method == Method::PUT;
        self.travel(is_put).await;
        if self.loses(asked.client, "request", &asked.target) {
            tokio::time::sleep(Duration::from_millis(PATIENCE_MS)).await;
            return None;
        }
        if is_put && self.dice.lock().expect("one thread").permille(self.sim.plan.duplicates) {
            self.sim.fault("duplicate", format_args!("c{}: {}", asked.client, asked.target));
            let (network, again) = (self.clone(), asked.clone());
            tokio::spawn(async move {
                network.travel(true).await;
                network.travel(true).await;
                network.deliver(&again).await;
            });
        }
        let answer = self.deliver(&asked).await;
        self.travel(false).await;
        if answer.is_none() || self.loses(asked.client, "reply", &asked.target) {
            tokio::time::sleep(Duration::from_millis(PATIENCE_MS)).await;
            return None;
        }
        answer
    }

    async fn deliver(&self, asked: &Asked) -> Option<(u16, Vec<u8>)> {
        let running = self.servers.running();
        if running.is_empty() {
            return None;
        }
        let replica = *self.dice.lock().expect("one thread").pick(&running);
        let mut target = asked.target.clone();
        if asked.method == Method::GET && (target.starts_with("/v1/tasks/") || target.starts_with("/v1/rounds/")) {
            target.push_str(if target.contains('?') { "&" } else { "?" });
            target.push_str(&format!("wait={WAIT_MS}"));
        }
        let mut request = Request::builder().method(asked.method.clone()).uri(target);
        if let Some(permit) = &asked.permit {
            request = request.header("veilsum-read", hex::encode(permit));
        }
        let request = request.body(Body::from(asked.body.clone())).expect("paths of our own");
        super::watch::sent(&self.sim, asked);
        let answer = self.servers.ask(replica, request).await;
        if let Some((status, body)) = &answer {
            super::watch::answered(&self.sim, asked, *status, body);
            if asked.method == Method::PUT || *status != 204 {
                let (method, target) = (&asked.method, &asked.target);
                self.sim.note(format_args!(
                    "c{} {method} {target} -> {status}, {} bytes, replica {replica}",
                    asked.client,
                    body.len()
                ));
            }
        }
        answer
    }
}
