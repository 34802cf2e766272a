//! A transport within the process: tests plug in any aggregator, or a liar.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Reply, Traffic, Transport, TransportError, bound, target};

/// A future on the heap.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// GET or PUT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// A read.
    Get,
    /// A client message.
    Put,
}

/// What the other side is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryRequest {
    /// GET or PUT.
    pub method: Method,
    /// With its query, without `wait`.
    pub path: String,
    /// The signed read statement.
    pub permit: Option<Vec<u8>>,
    /// How long the answer may take.
    pub wait: Duration,
    /// The message; empty for a read.
    pub body: Vec<u8>,
}

type Answer = dyn Fn(MemoryRequest) -> BoxFuture<Result<Reply, TransportError>> + Send + Sync;

/// Asks a function instead of a network.
#[derive(Clone)]
pub struct MemoryTransport {
    answer: Arc<Answer>,
    traffic: Arc<Traffic>,
}

impl MemoryTransport {
    /// An aggregator that always answers.
    pub fn new(answer: Arc<dyn Fn(MemoryRequest) -> BoxFuture<Reply> + Send + Sync>) -> Self {
        Self::faulty(move |request| {
            let reply = answer(request);
            async move { Ok(reply.await) }
        })
    }

    /// An aggregator behind a line that may break.
    pub fn faulty<F>(answer: impl Fn(MemoryRequest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Reply, TransportError>> + Send + 'static,
    {
        Self { answer: Arc::new(move |request| Box::pin(answer(request))), traffic: Arc::default() }
    }

    async fn exchange(&self, request: MemoryRequest, limit_bytes: usize) -> Result<Reply, TransportError> {
        let permit_digits = 2 * request.permit.as_ref().map_or(0, Vec::len);
        self.traffic.sent(target(&request.path, request.wait).len() + permit_digits + request.body.len());
        let reply = (self.answer)(request).await?;
        let limit_bytes = bound(reply.status, limit_bytes);
        if reply.body.len() > limit_bytes {
            return Err(TransportError::TooLarge { limit_bytes });
        }
        self.traffic.received(reply.body.len());
        Ok(reply)
    }
}

impl Transport for MemoryTransport {
    async fn get(
        &self,
        path: &str,
        permit: Option<&[u8]>,
        wait: Duration,
        limit_bytes: usize,
    ) -> Result<Reply, TransportError> {
        let (path, permit) = (path.to_string(), permit.map(<[u8]>::to_vec));
        self.exchange(MemoryRequest { method: Method::Get, path, permit, wait, body: Vec::new() }, limit_bytes).await
    }

    async fn put(&self, path: &str, body: Vec<u8>) -> Result<Reply, TransportError> {
        let path = path.to_string();
        self.exchange(MemoryRequest { method: Method::Put, path, permit: None, wait: Duration::ZERO, body }, 0).await
    }

    fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}
