//! Stands between a store and PostgreSQL, knows where a statement ends, and breaks the one it is told to.
//!
//! In: a server's address and, for every request of a store, the judgement of a test. Out: an address for the store, and a record
//! of what passed. Speaks protocol 3.0 without TLS: <https://www.postgresql.org/docs/current/protocol-flow.html>. A request is
//! everything up to Sync or a simple query: a statement being prepared, or one being executed. For tests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::AbortHandle;

/// What happens to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is not executed: the server raises this SQLSTATE, and the transaction is lost.
    Raise(&'static str),
    /// It is not executed: the server says FATAL with this SQLSTATE and ends the connection.
    End(&'static str),
    /// The connection is cut before it arrives.
    CutBefore,
    /// It is executed, and the connection is cut before the answer arrives.
    CutAfter,
}

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Counts the connections over this proxy.
    pub connection: usize,
    /// The SQL.
    pub text: String,
    /// Prepared only; otherwise executed.
    pub is_prepared: bool,
}

impl Request {
    /// A transaction's end without a trace cannot fail: the server knows no such error.
    pub fn is_rollback(&self) -> bool {
        self.text == "ROLLBACK"
    }

    /// A transaction's end.
    pub fn is_commit(&self) -> bool {
        self.text == "COMMIT"
    }
}

/// Says what happens to a request; `None`: nothing.
pub type Judge = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

/// A proxy that runs; it and its connections end with this.
pub struct SqlProxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    server: Server,
    state: Mutex<State>,
}

struct State {
    judge: Judge,
    seen: Vec<Request>,
    faults: usize,
}

#[derive(Clone, Debug)]
enum Server {
    Socket(PathBuf),
    Tcp(String, u16),
}

impl SqlProxy {
    /// One before this server.
    pub async fn before(server: &PgConnectOptions) -> Self {
        let port = server.get_port();
        let server = match server.get_socket() {
            Some(folder) => Server::Socket(folder.join(format!(".s.PGSQL.{port}"))),
            None => Server::Tcp(server.get_host().to_owned(), port),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let state = State { judge: Box::new(|_| None), seen: Vec::new(), faults: 0 };
        let shared = Arc::new(Shared { server, state: Mutex::new(state) });
        let each = shared.clone();
        let accepting = tokio::spawn(async move {
            for connection in 0.. {
                let Ok((client, _)) = listener.accept().await else { break };
                let shared = each.clone();
                // A broken connection is the purpose.
                tokio::spawn(async move { shared.carry(connection, client).await.unwrap_or_default() });
            }
        });
        Self { address, shared, accepting: accepting.abort_handle() }
    }

    /// From now on this judges, and what was recorded is forgotten.
    pub fn judge(&self, judge: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        let mut state = self.shared.state.lock().expect("no judge panics");
        *state = State { judge: Box::new(judge), seen: Vec::new(), faults: 0 };
    }

    /// What passed since then.
    pub fn seen(&self) -> Vec<Request> {
        self.shared.state.lock().expect("no judge panics").seen.clone()
    }

    /// How many requests were broken since then.
    pub fn faults(&self) -> usize {
        self.shared.state.lock().expect("no judge panics").faults
    }
}

impl Drop for SqlProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    async fn carry(&self, connection: usize, client: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?; // answers go out in several writes
        match &self.server {
            Server::Socket(path) => self.relay(connection, client, UnixStream::connect(path).await?).await,
            Server::Tcp(host, port) => {
                self.relay(connection, client, TcpStream::connect((host.as_str(), *port)).await?).await
            }
        }
    }

    /// One request after the other; the client waits for each answer, or has sent the next already.
    async fn relay(
        &self,
        connection: usize,
        mut client: TcpStream,
        mut server: impl AsyncRead + AsyncWrite + Unpin,
    ) -> std::io::Result<()> {
        let len = client.read_u32().await?;
        let mut startup = vec![0; len as usize - 4];
        client.read_exact(&mut startup).await?;
        server.write_u32(len).await?;
        server.write_all(&startup).await?;
        let mut prepared = HashMap::new();
        let mut client_speaks = answer(&mut server, Some(&mut client)).await?;
        while client_speaks {
            let request = read_request(&mut client, &mut prepared).await?;
            let (bytes, asked) = match request {
                Asked::Words(bytes) => {
                    server.write_all(&bytes).await?;
                    client_speaks = answer(&mut server, Some(&mut client)).await?;
                    continue;
                }
                Asked::Sql { bytes, text, is_prepared } => (bytes, (text, is_prepared)),
            };
            match self.judgement(connection, asked) {
                None => server.write_all(&bytes).await?,
                Some(Fault::Raise(code)) => {
                    let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = '{code}'; END $$\0");
                    server.write_all(&framed(b'Q', raise.as_bytes())).await?;
                }
                Some(Fault::End(code)) => {
                    let fields = format!("SFATAL\0VFATAL\0C{code}\0Mplanted\0\0");
                    return client.write_all(&framed(b'E', fields.as_bytes())).await;
                }
                Some(Fault::CutBefore) => return Ok(()),
                Some(Fault::CutAfter) => {
                    server.write_all(&bytes).await?;
                    return answer(&mut server, None).await.map(|_| ());
                }
            }
            client_speaks = answer(&mut server, Some(&mut client)).await?;
        }
        Ok(())
    }

    fn judgement(&self, connection: usize, (text, is_prepared): (String, bool)) -> Option<Fault> {
        let mut state = self.state.lock().expect("no judge panics");
        let request = Request { connection, text, is_prepared };
        let fault = (state.judge)(&request);
        state.seen.push(request);
        state.faults += usize::from(fault.is_some());
        fault
    }
}

/// What a client sent in one go.
enum Asked {
    /// A password, a farewell, the end of a statement: no request.
    Words(Vec<u8>),
    Sql {
        bytes: Vec<u8>,
        text: String,
        is_prepared: bool,
    },
}

/// Reads up to a Sync, a simple query, or a message outside of requests.
async fn read_request(client: &mut TcpStream, prepared: &mut HashMap<Vec<u8>, String>) -> std::io::Result<Asked> {
    let (mut bytes, mut text, mut is_executed) = (Vec::new(), None, false);
    loop {
        let (kind, body) = read_message(client).await?;
        bytes.extend_from_slice(&framed(kind, &body));
        let mut strings = body.split(|byte| *byte == 0);
        match kind {
            b'Q' => {
                let text = String::from_utf8_lossy(strings.next().unwrap_or_default()).into_owned();
                return Ok(Asked::Sql { bytes, text, is_prepared: false });
            }
            b'P' => {
                let name = strings.next().unwrap_or_default().to_vec();
                let sql = String::from_utf8_lossy(strings.next().unwrap_or_default()).into_owned();
                text = Some(sql.clone());
                prepared.insert(name, sql);
            }
            b'B' => text = prepared.get(strings.nth(1).unwrap_or_default()).cloned(),
            b'E' => is_executed = true,
            b'S' => {
                return Ok(match text {
                    Some(text) => Asked::Sql { bytes, text, is_prepared: !is_executed },
                    None => Asked::Words(bytes),
                });
            }
            b'p' | b'X' => return Ok(Asked::Words(bytes)),
            _ => {} // Describe, Close
        }
    }
}

/// Carries an answer, up to where the client speaks next; false if the server has gone.
async fn answer(server: &mut (impl AsyncRead + Unpin), mut client: Option<&mut TcpStream>) -> std::io::Result<bool> {
    loop {
        let Ok((kind, body)) = read_message(server).await else { return Ok(false) };
        if let Some(client) = &mut client {
            client.write_all(&framed(kind, &body)).await?;
        }
        let wants_password = kind == b'R' && !matches!(body[..], [0, 0, 0, 0 | 12, ..]);
        if kind == b'Z' || wants_password {
            return Ok(true);
        }
    }
}

async fn read_message(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let len = from.read_u32().await? as usize;
    let mut body = vec![0; len.saturating_sub(4)];
    from.read_exact(&mut body).await?;
    Ok((kind, body))
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).expect("messages are shorter than 4 GiB");
    [&[kind], &len.to_be_bytes()[..], body].concat()
}
