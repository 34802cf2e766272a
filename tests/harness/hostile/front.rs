//! HTTP/1.1 as a liar serves it: requests are read whole, and a function says what comes back: a reply, any bytes, nothing.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use veilsum_client::transport::Reply;
use veilsum_crypto::ids::ClientId;
use veilsum_crypto::messages::ReadPermit;

/// No request of an honest client is longer.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// GET or PUT.
    pub method: String,
    /// As it was sent, `wait` included.
    pub target: String,
    /// Without `wait`: what a permit is about.
    pub path: String,
    /// How long the answer may take.
    pub wait: Duration,
    /// Header fields, names in lower case.
    pub fields: BTreeMap<String, String>,
    /// The message; empty for a read.
    pub body: Vec<u8>,
}

impl Asked {
    /// A read of this resource of a round, or a message of this phase: the word after the round's id.
    pub fn names(&self, what: &str) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        path.starts_with("/v1/rounds/") && path.split('/').nth(4) == Some(what)
    }

    /// A read of this resource.
    pub fn reads(&self, what: &str) -> bool {
        self.method == "GET" && self.names(what)
    }

    /// A message of this phase.
    pub fn puts(&self, phase: &str) -> bool {
        self.method == "PUT" && self.names(phase)
    }

    /// The signed read statement.
    pub fn permit(&self) -> Option<ReadPermit> {
        ReadPermit::decode(&hex::decode(self.fields.get("veilsum-read")?).ok()?).ok()
    }

    /// Who asks: the sender of a message, the reader of a read; nobody for what is public.
    pub fn client(&self) -> Option<ClientId> {
        match self.method.as_str() {
            "PUT" => ClientId::from_hex(self.path.split('/').nth(5)?),
            _ => self.permit().map(|permit| permit.reader()),
        }
    }
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Told {
    /// A reply in form.
    Reply(Reply),
    /// These bytes, whatever they are; then the connection ends.
    Bytes(Vec<u8>),
    /// The connection ends without a word.
    Lost,
}

impl From<Reply> for Told {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// A port on which requests are answered by a function, until it is dropped.
#[derive(Debug)]
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Front {
    /// Listens on a free port of the loopback interface.
    pub async fn open<F>(answer: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Told> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let answer = Arc::new(answer);
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new(); // they end with the front
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(talk(stream, answer.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, accepting }
    }

    /// As clients are told it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn talk<F: Future<Output = Told>>(mut stream: TcpStream, answer: Arc<impl Fn(Asked) -> F>) {
    let mut seen = Vec::new();
    while let Some(asked) = read(&mut stream, &mut seen).await {
        let sent = match answer(asked).await {
            Told::Reply(reply) => stream.write_all(&encode(&reply)).await,
            Told::Bytes(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Told::Lost => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The next request; bytes beyond it stay in `seen`.
async fn read(stream: &mut TcpStream, seen: &mut Vec<u8>) -> Option<Asked> {
    let mut block = vec![0; 64 * 1024];
    loop {
        if let Some((asked, length)) = parse(seen) {
            seen.drain(..length);
            return Some(asked);
        }
        let count = stream.read(&mut block).await.ok().filter(|count| *count > 0)?;
        seen.extend_from_slice(&block[..count]);
        if seen.len() > REQUEST_BYTES_MAX {
            return None;
        }
    }
}

fn parse(seen: &[u8]) -> Option<(Asked, usize)> {
    let end = seen.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&seen[..end]).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_string(), first.next()?.to_string());
    let fields: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_string()))
        .collect();
    let length = fields.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let body = seen.get(end + 4..end + 4 + length)?.to_vec();
    let (path, wait) = without_wait(&target);
    Some((Asked { method, path, wait, target, fields, body }, end + 4 + length))
}

/// `wait` comes last, where there is one. docs/wire.md §8.3
fn without_wait(target: &str) -> (String, Duration) {
    let Some((path, wait)) = target.rsplit_once("wait=") else { return (target.to_string(), Duration::ZERO) };
    (path.trim_end_matches(['?', '&']).to_string(), Duration::from_millis(wait.parse().unwrap_or(0)))
}

fn encode(reply: &Reply) -> Vec<u8> {
    let retry = reply.retry_after.map_or(String::new(), |after| format!("retry-after: {}\r\n", after.as_secs()));
    // A reply 204 has neither body nor length.
    let length = if reply.status == 204 { String::new() } else { format!("content-length: {}\r\n", reply.body.len()) };
    let mut bytes = format!("HTTP/1.1 {} x\r\n{length}{retry}\r\n", reply.status).into_bytes();
    if reply.status != 204 {
        bytes.extend_from_slice(&reply.body);
    }
    bytes
}
