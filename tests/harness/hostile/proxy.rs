//! A server that lies with the help of an honest one: it stands between real clients and the real aggregator, sees all that
//! passes, and drops, repeats, redirects, alters or forges it. What it forges it signs with the aggregator's keys: `World` has
//! them.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use veilsum_client::transport::Reply;

use super::front::{Asked, Front, Told};
use super::wire::request;

/// What becomes of one request.
pub enum Meddling {
    /// It passes, and so does its answer.
    Pass,
    /// It passes to another aggregator.
    PassTo(SocketAddr),
    /// Another passes in its place.
    PassAs(Asked),
    /// It passes; its answer is lost.
    LoseAnswer,
    /// It is answered here.
    Answer(Reply),
    /// It passes; its answer is altered.
    Alter(Box<dyn FnOnce(Reply) -> Reply + Send>),
    /// It never arrives, and nobody says so.
    LoseRequest,
}

/// A request that came by, and the status with which it was answered; 0 if the client heard nothing.
#[derive(Clone, Debug)]
pub struct Passed {
    /// What was asked.
    pub asked: Asked,
    /// What it was told.
    pub status: u16,
}

/// Listens in the aggregator's place.
pub struct Proxy {
    front: Front,
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl Proxy {
    /// Before an aggregator; `meddle` decides about each request.
    pub async fn before<F>(upstream: SocketAddr, meddle: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Meddling> + Send + 'static,
    {
        let (passed, meddle) = (Arc::new(Mutex::new(Vec::new())), Arc::new(meddle));
        let log = passed.clone();
        let front = Front::open(move |asked| {
            let (log, meddle) = (log.clone(), meddle.clone());
            async move {
                let told = match meddle(asked.clone()).await {
                    Meddling::Pass => forward(upstream, &asked).await.into(),
                    Meddling::PassTo(other) => forward(other, &asked).await.into(),
                    Meddling::PassAs(other) => forward(upstream, &other).await.into(),
                    Meddling::LoseAnswer => {
                        forward(upstream, &asked).await;
                        Told::Lost
                    }
                    Meddling::Answer(reply) => reply.into(),
                    Meddling::Alter(alter) => alter(forward(upstream, &asked).await).into(),
                    Meddling::LoseRequest => Told::Lost,
                };
                let status = if let Told::Reply(reply) = &told { reply.status } else { 0 };
                log.lock().expect("no panic").push(Passed { asked, status });
                told
            }
        });
        Self { front: front.await, passed }
    }

    /// Where clients are told that the aggregator is.
    pub fn address(&self) -> SocketAddr {
        self.front.address
    }

    /// All that came by so far.
    pub fn passed(&self) -> Vec<Passed> {
        self.passed.lock().expect("no panic").clone()
    }
}

async fn forward(upstream: SocketAddr, asked: &Asked) -> Reply {
    let kept = ["veilsum-read", "content-encoding"];
    let fields: Vec<(&str, &str)> = asked
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| kept.contains(name))
        .collect();
    let answer = request(upstream, &asked.method, &asked.target, &fields, &asked.body).await;
    Reply::new(answer.status, answer.body)
}
