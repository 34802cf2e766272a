//! Carries bytes between a client and the aggregator, and understands none of them. docs/wire.md §8
//!
//! Nothing here is trusted: what comes back is judged by `veilsum_crypto::client`. A transport only keeps its bounds.

pub mod http;
pub mod memory;
mod tls;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use http::HttpTransport;
pub use memory::MemoryTransport;

/// Room for the explanation in an error, whatever the limit of the body asked for.
pub const PROBLEM_BYTES_MAX: usize = 16 * 1024;

/// What the aggregator answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The HTTP status code.
    pub status: u16,
    /// The body; of an error, `application/problem+json`.
    pub body: Vec<u8>,
    /// From `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl Reply {
    /// A reply without `Retry-After`.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), retry_after: None }
    }
}

/// Why there is no reply.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection, or it broke. Worth another attempt.
    #[error("the aggregator could not be reached: {0}")]
    Unreachable(String),
    /// Who answered is not believed to be the one asked. Another attempt would only be answered alike.
    #[error(
        "who answered cannot show that it is the service: {0}; check the address, and `ca_file` where the service has a private CA"
    )]
    Untrusted(String),
    /// No answer in time. Worth another attempt.
    #[error("an answer was expected within {} s, none came", .0.as_secs())]
    Timeout(Duration),
    /// More bytes than the reply may have.
    #[error("a reply of at most {limit_bytes} bytes was expected, a longer one came; is this address an aggregator?")]
    TooLarge {
        /// The bound.
        limit_bytes: usize,
    },
    /// The address cannot be used.
    #[error("{0}")]
    Address(String),
}

impl TransportError {
    /// Whether the same request may succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout(_))
    }
}

/// Bytes that went up and came down: paths, read permits and bodies, without what HTTP adds.
#[derive(Default, Debug)]
pub struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
}

impl Traffic {
    /// Bytes sent.
    pub fn up_bytes(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes received.
    pub fn down_bytes(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    fn sent(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn received(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A way to the aggregator.
pub trait Transport: Send + Sync + 'static {
    /// Reads `path`, which begins with `/v1/` and holds its query but not `wait`; that is what `permit`, a signed read
    /// statement, was signed over. The aggregator may take `wait` to answer. A reply of status 200 with more than
    /// `limit_bytes` is [`TransportError::TooLarge`].
    fn get(
        &self,
        path: &str,
        permit: Option<&[u8]>,
        wait: Duration,
        limit_bytes: usize,
    ) -> impl Future<Output = Result<Reply, TransportError>> + Send;

    /// Sends a client message.
    fn put(&self, path: &str, body: Vec<u8>) -> impl Future<Output = Result<Reply, TransportError>> + Send;

    /// What was carried so far.
    fn traffic(&self) -> &Traffic;
}

impl<T: Transport> Transport for Arc<T> {
    fn get(
        &self,
        path: &str,
        permit: Option<&[u8]>,
        wait: Duration,
        limit_bytes: usize,
    ) -> impl Future<Output = Result<Reply, TransportError>> + Send {
        T::get(self, path, permit, wait, limit_bytes)
    }

    fn put(&self, path: &str, body: Vec<u8>) -> impl Future<Output = Result<Reply, TransportError>> + Send {
        T::put(self, path, body)
    }

    fn traffic(&self) -> &Traffic {
        T::traffic(self)
    }
}

/// The request target: `wait` comes last, and not at all where there is none. docs/wire.md §8.3
fn target(path: &str, wait: Duration) -> String {
    if wait.is_zero() {
        return path.to_string();
    }
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}wait={}", wait.as_millis())
}

/// Checks a reply's length against the bound for its status.
fn bound(status: u16, limit_bytes: usize) -> usize {
    if matches!(status, 200 | 201) { limit_bytes } else { PROBLEM_BYTES_MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_written_last_and_never_as_zero() {
        let second = Duration::from_secs(1);
        assert_eq!(target("/v1/rounds/00/core", second), "/v1/rounds/00/core?wait=1000");
        assert_eq!(target("/v1/rounds/00/leaves?i=0,5", second), "/v1/rounds/00/leaves?i=0,5&wait=1000");
        assert_eq!(target("/v1/models/00", Duration::ZERO), "/v1/models/00");
    }
}
