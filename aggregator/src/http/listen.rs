//! Connections: how many there may be, and how long the line and headers of a request may take. §7.4
//!
//! In: a listener and a router. Out: served requests, until the service drains. Called by `service.rs`, once an address.
//! What a request may cost once its headers are there is bounded by the router's own layers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::READS_MAX;

/// The line and headers of a request come within this time, or the connection is closed; a connection on which nothing is
/// asked is closed after it, too.
pub const HEADERS_TIME_MAX: Duration = Duration::from_secs(10);
/// Connections at once, per address that is listened on: one for every read that may be waiting, and some for messages and for
/// those who say nothing. More wait to be accepted.
pub const CONNECTIONS_MAX: usize = READS_MAX + 8_704;

/// Bytes of one connection that were received and not yet taken up: longer headers are refused before they end.
const BUFFER_MAX: usize = 64 << 10;

/// How long nothing is accepted after the system refused: most likely it has no file descriptors left.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// What one address permits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// For the line and headers of one request.
    pub headers_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, headers_time: HEADERS_TIME_MAX }
    }
}

/// Serves until `drained`; then accepts nothing more and returns when requests in flight are answered.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, drained: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut server = http1::Builder::new();
    // Without a bound of its own each connection may hold 400 KiB of headers that never end.
    server.timer(TokioTimer::new()).header_read_timeout(limits.headers_time).max_buf_size(BUFFER_MAX);
    let connections = GracefulShutdown::new();
    let mut drained = std::pin::pin!(drained);
    loop {
        let (stream, slot) = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = &mut drained => break,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = connections.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A peer that goes away or dawdles is its own affair.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = slots.clone().acquire_owned().await.expect("nobody closes it");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted; is the limit of open files large enough?");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    use super::*;

    async fn listening(limits: Limits) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new().route("/", get(|| async { "here" }));
        let serving = tokio::spawn(serve(listener, router, limits, async move {
            let _ = stopped.await;
        }));
        (address, stop, serving)
    }

    async fn connect(address: SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.expect("it listens")
    }

    /// Everything that comes until the other side closes.
    async fn rest(mut stream: TcpStream) -> String {
        let mut seen = Vec::new();
        let _ = stream.read_to_end(&mut seen).await;
        String::from_utf8_lossy(&seen).into_owned()
    }

    const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn headers_that_never_end_close_their_connection_and_no_other() {
        let limits = Limits { connections: 8, headers_time: Duration::from_millis(200) };
        let (address, _stop, _serving) = listening(limits).await;
        let mut silent = connect(address).await;
        let mut dripping = connect(address).await;
        silent.write_all(b"GET / HTTP/1.1\r\n").await.expect("open");
        let drips = async {
            while dripping.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), drips).await.expect("a byte now and then does not keep it open");
        let silence = tokio::time::timeout(Duration::from_secs(30), rest(silent)).await;
        assert!(!silence.expect("closed").contains("200"));
        let mut honest = connect(address).await;
        honest.write_all(WHOLE).await.expect("open");
        assert!(rest(honest).await.ends_with("here"));
    }

    #[tokio::test]
    async fn headers_larger_than_the_buffer_close_their_connection_before_they_end() {
        let limits = Limits { connections: 8, headers_time: Duration::from_secs(600) };
        let (address, _stop, _serving) = listening(limits).await;
        let mut stream = connect(address).await;
        stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.expect("open");
        let endless = async { while stream.write_all(&[b'x'; 16 << 10]).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(60), endless)
            .await
            .expect("it is closed, long before the time is over");
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_until_one_ends() {
        let limits = Limits { connections: 2, headers_time: Duration::from_millis(300) };
        let (address, _stop, _serving) = listening(limits).await;
        let (_first, _second) = (connect(address).await, connect(address).await);
        let mut third = connect(address).await;
        third.write_all(WHOLE).await.expect("in the queue of the system");
        let answer = tokio::time::timeout(Duration::from_secs(30), rest(third)).await;
        assert!(answer.expect("the silent ones were closed").ends_with("here"));
    }

    #[tokio::test]
    async fn a_service_that_drains_accepts_nothing_more() {
        let (address, stop, serving) = listening(Limits::default()).await;
        stop.send(()).expect("it runs");
        tokio::time::timeout(Duration::from_secs(30), serving).await.expect("nothing is in flight").expect("no panic");
        assert!(TcpStream::connect(address).await.is_err());
    }
}
