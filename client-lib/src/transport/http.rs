//! HTTP to an aggregator, with TLS where its address says so.
//!
//! Statements are signed and shares are sealed, so the network cannot alter a round or read an update; without TLS it
//! sees who takes part. The service itself speaks plain HTTP behind a proxy that ends TLS.

use std::path::Path;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, RequestBuilder, Response, redirect};

use super::{Reply, Traffic, Transport, TransportError, bound, target, tls};
use crate::config::Join;

/// For an answer, beyond the time that was asked for.
const PATIENCE: Duration = Duration::from_secs(10);
/// A line slower than this is taken for broken: 64 KiB/s.
const SLOWEST_BYTES_PER_S: usize = 64 * 1024;

/// The transport of production.
#[derive(Debug)]
pub struct HttpTransport {
    client: reqwest::Client,
    server: String,
    traffic: Traffic,
}

impl HttpTransport {
    /// To the aggregator at `server`, such as `https://sums.example` or `http://127.0.0.1:7400`; a path prefix is kept. Follows
    /// no redirects and uses no proxy of the environment: bytes go where this address says. With TLS the system's roots are
    /// believed.
    ///
    /// # Errors
    /// [`TransportError::Address`], of an address that is neither `http://` nor `https://`.
    pub fn new(server: &str) -> Result<Self, TransportError> {
        Self::believing(server, None)
    }

    /// As a join file says: with its `ca_file`, if it names one.
    ///
    /// # Errors
    /// [`TransportError::Address`], of an address or a file that cannot be used.
    pub fn of(join: &Join) -> Result<Self, TransportError> {
        Self::believing(&join.server, join.ca_file.as_deref())
    }

    /// The same; with TLS the certificates in a PEM file are believed, and no others.
    ///
    /// # Errors
    /// [`TransportError::Address`], of an address or a file that cannot be used.
    pub fn believing(server: &str, ca_file: Option<&Path>) -> Result<Self, TransportError> {
        let (scheme, host) = server.split_once("://").unwrap_or_default();
        let host = host.trim_end_matches('/');
        if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains(['?', '#', '@']) {
            return Err(TransportError::Address(format!(
                "an address like https://sums.example or http://127.0.0.1:7400 was expected, \"{server}\" came; correct `server`"
            )));
        }
        let config = match (scheme, ca_file) {
            ("https", None) => tls::system()?,
            ("https", Some(file)) => tls::roots_in(file)?,
            (_, None) => tls::none(),
            (_, Some(file)) => {
                return Err(TransportError::Address(format!(
                    "{} says whom to believe over TLS, but the address is \"{server}\"; write https://, or leave the file out",
                    file.display()
                )));
            }
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(PATIENCE)
            .build()
            .map_err(|error| TransportError::Address(chain(&error)))?;
        Ok(Self { client, server: format!("{scheme}://{host}"), traffic: Traffic::default() })
    }

    /// Any other request to the same service, for an operator's tools: sent once, not repeated.
    ///
    /// # Errors
    /// [`TransportError`]; also of a reply of status 200 with more than `limit_bytes`.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: Vec<u8>,
        limit_bytes: usize,
    ) -> Result<Reply, TransportError> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| TransportError::Address(format!("\"{method}\" is no method of HTTP")))?;
        let time = PATIENCE + time_to_carry(body.len() + limit_bytes);
        let mut request = self.client.request(method, format!("{}{path}", self.server)).body(body);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        within(time, self.exchange(request, limit_bytes)).await
    }

    async fn exchange(&self, request: RequestBuilder, limit_bytes: usize) -> Result<Reply, TransportError> {
        let broken = |error: reqwest::Error| match tls::is_untrusted(&error) {
            true => TransportError::Untrusted(chain(&error)),
            false => TransportError::Unreachable(chain(&error)),
        };
        let mut response = request.send().await.map_err(broken)?;
        let status = response.status().as_u16();
        let (limit_bytes, retry_after) = (bound(status, limit_bytes), retry_after(&response));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > limit_bytes {
                return Err(TransportError::TooLarge { limit_bytes });
            }
            body.extend_from_slice(&chunk);
            self.traffic.received(chunk.len());
        }
        Ok(Reply { status, body, retry_after })
    }
}

impl Transport for HttpTransport {
    async fn get(
        &self,
        path: &str,
        permit: Option<&[u8]>,
        wait: Duration,
        limit_bytes: usize,
    ) -> Result<Reply, TransportError> {
        let target = target(path, wait);
        self.traffic.sent(target.len());
        let mut request = self.client.get(format!("{}{target}", self.server));
        if let Some(permit) = permit {
            let permit = hex::encode(permit);
            self.traffic.sent(permit.len());
            request = request.header("Veilsum-Read", permit);
        }
        within(wait + PATIENCE + time_to_carry(limit_bytes), self.exchange(request, limit_bytes)).await
    }

    async fn put(&self, path: &str, body: Vec<u8>) -> Result<Reply, TransportError> {
        self.traffic.sent(path.len() + body.len());
        let time = PATIENCE + time_to_carry(body.len());
        within(time, self.exchange(self.client.put(format!("{}{path}", self.server)).body(body), 0)).await
    }

    fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

fn time_to_carry(bytes: usize) -> Duration {
    Duration::from_secs((bytes / SLOWEST_BYTES_PER_S) as u64)
}

async fn within(
    time: Duration,
    exchange: impl Future<Output = Result<Reply, TransportError>>,
) -> Result<Reply, TransportError> {
    tokio::time::timeout(time, exchange).await.unwrap_or(Err(TransportError::Timeout(time)))
}

fn retry_after(response: &Response) -> Option<Duration> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// An error with its causes; reqwest keeps "connection refused" there.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn an_address_says_whether_tls_is_spoken() {
        for wrong in ["", "aggregator", "ftp://a", "http://", "https://", "http://user@a", "http://a?b"] {
            assert!(HttpTransport::new(wrong).is_err(), "{wrong}");
        }
        assert!(HttpTransport::new("http://127.0.0.1:7400/").is_ok());
        let file = Path::new("ca.pem");
        let refused = HttpTransport::believing("http://127.0.0.1:7400", Some(file)).expect_err("no TLS there");
        assert!(refused.to_string().contains("write https://"), "{refused}");
        let refused = HttpTransport::believing("https://a", Some(Path::new("/nowhere/ca.pem"))).expect_err("no file");
        assert!(refused.to_string().contains("/nowhere/ca.pem"), "{refused}");
    }

    /// Answers one request and returns what it read.
    async fn once(answer: &'static [u8]) -> (String, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let read = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut seen = vec![0; 4096];
            let count = stream.read(&mut seen).await.expect("a request");
            stream.write_all(answer).await.expect("an open socket");
            String::from_utf8_lossy(&seen[..count]).into_owned()
        });
        (address, read)
    }

    #[tokio::test]
    async fn a_read_carries_its_permit_and_its_wait() {
        let (address, read) = once(b"HTTP/1.1 503 x\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nno").await;
        let transport = HttpTransport::new(&address).expect("an address");
        let reply = transport.get("/v1/rounds/aa/core", Some(&[0xab, 1]), Duration::from_secs(2), 10).await;
        let busy = Reply { status: 503, body: b"no".to_vec(), retry_after: Some(Duration::from_secs(7)) };
        assert_eq!(reply, Ok(busy));
        let request = read.await.expect("answered").to_lowercase();
        assert!(request.starts_with("get /v1/rounds/aa/core?wait=2000 http/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nveilsum-read: ab01\r\n"), "{request}");
        assert_eq!(transport.traffic().down_bytes(), 2);
    }

    #[tokio::test]
    async fn a_reply_stops_at_its_bound() {
        let (address, _read) = once(b"HTTP/1.1 200 x\r\ncontent-length: 4\r\n\r\nfour").await;
        let transport = HttpTransport::new(&address).expect("an address");
        let reply = transport.get("/v1/rounds/aa/core", None, Duration::ZERO, 3).await;
        assert_eq!(reply, Err(TransportError::TooLarge { limit_bytes: 3 }));
    }
}
