//! Kills a replica at named points: before and after its commits, before and after its answers.
//!
//! ```text
//! before committing WHAT        all is written, and the database never hears of the end
//! after committing WHAT         the database has committed, and the replica never hears of it
//! before answering METHOD PATH  the work is done, and the client never hears of it
//! after answering METHOD PATH   the answer is on its way
//! ```
//! WHAT are the tables that the transaction wrote. Proxies on both sides of a replica know where it stands; it does not know them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Child;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::dice::Dice;
use crate::postgres::url_over;
use crate::sql_proxy::{Fault, Request, SqlProxy};

/// A replica that may be running.
pub type Slot = Arc<Mutex<Option<Child>>>;

/// The proxies of every replica, and how often each point was a replica's last.
pub struct Points {
    struck: Arc<Mutex<Struck>>,
    sql: Vec<SqlProxy>,
    answers: Vec<SocketAddr>,
    /// Carries the proxies; they end with it.
    _runtime: Runtime,
}

struct Struck {
    at: BTreeMap<String, u64>,
    is_armed: bool,
    dice: Dice,
}

impl Points {
    /// Before these replicas, which listen at `ports`, and before the database at `url`, if it is PostgreSQL.
    pub fn set(url: &str, slots: &[Slot], ports: &[u16], seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let struck = Struck { at: BTreeMap::new(), is_armed: false, dice: Dice::new(seed, "points") };
        let struck = Arc::new(Mutex::new(struck));
        let (mut sql, mut answers) = (Vec::new(), Vec::new());
        for (slot, port) in slots.iter().zip(ports) {
            if let Ok(server) = url.parse() {
                let proxy = runtime.block_on(SqlProxy::before(&server));
                let (struck, slot) = (struck.clone(), slot.clone());
                let mut written = BTreeMap::new();
                proxy.judge(move |request| at_commit(request, &mut written, |point| strike(&struck, &slot, point)));
                sql.push(proxy);
            }
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
            answers.push(listener.local_addr().expect("it is bound"));
            let (struck, slot, port) = (struck.clone(), slot.clone(), *port);
            runtime.spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (struck, slot) = (struck.clone(), slot.clone());
                    // A broken connection is the purpose.
                    tokio::spawn(async move {
                        carry(client, port, |point| strike(&struck, &slot, point)).await.unwrap_or_default();
                    });
                }
            });
        }
        Self { struck, sql, answers, _runtime: runtime }
    }

    /// The next point that chance picks is a replica's last; points that were none yet come first.
    pub fn arm(&self) {
        self.struck.lock().expect("nobody panics").is_armed = true;
    }

    /// Nothing is killed any more.
    pub fn disarm(&self) {
        self.struck.lock().expect("nobody panics").is_armed = false;
    }

    /// How often each point was a replica's last.
    pub fn struck(&self) -> BTreeMap<String, u64> {
        let is_struck = |(_, count): &(_, u64)| *count > 0;
        self.struck.lock().expect("nobody panics").at.clone().into_iter().filter(is_struck).collect()
    }

    /// The database, as a replica sees it.
    pub fn database(&self, url: &str, replica: usize) -> String {
        self.sql.get(replica).map_or_else(|| url.to_owned(), |proxy| url_over(url, proxy.address))
    }

    /// Where clients reach a replica.
    pub fn address(&self, replica: usize) -> SocketAddr {
        self.answers[replica]
    }
}

/// Kills the replica, if it is to be here.
fn strike(struck: &Mutex<Struck>, slot: &Slot, point: String) -> bool {
    let mut struck = struck.lock().expect("nobody panics");
    let Struck { at, is_armed, dice } = &mut *struck;
    let times = at.entry(point).or_default();
    if !*is_armed || dice.below(1 + 8 * *times) > 0 {
        return false;
    }
    let mut slot = slot.lock().expect("nobody panics");
    let Some(child) = slot.as_mut() else { return false };
    if child.kill().is_err() {
        return false; // SIGKILL, but it had ended
    }
    *times += 1;
    *is_armed = false;
    true
}

/// Follows each connection's transaction; `written` has the tables by connection.
fn at_commit(
    request: &Request,
    written: &mut BTreeMap<usize, BTreeSet<String>>,
    mut strike: impl FnMut(String) -> bool,
) -> Option<Fault> {
    if !request.is_commit() {
        let tables = written.entry(request.connection).or_default();
        if request.text.starts_with("BEGIN") {
            tables.clear();
        }
        let mut words = request.text.split_whitespace();
        match words.next() {
            Some("INSERT" | "DELETE") => tables.extend(words.nth(1).map(str::to_owned)),
            Some("UPDATE") => tables.extend(words.next().map(str::to_owned)),
            _ => {}
        }
        return None;
    }
    let tables: Vec<_> = written.remove(&request.connection).unwrap_or_default().into_iter().collect();
    let what = tables.join(", ");
    if strike(format!("before committing {what}")) {
        Some(Fault::CutBefore)
    } else if strike(format!("after committing {what}")) {
        Some(Fault::CutAfter)
    } else {
        None
    }
}

/// One connection of a client to a replica.
async fn carry(mut client: TcpStream, port: u16, mut strike: impl FnMut(String) -> bool) -> std::io::Result<()> {
    let mut replica = TcpStream::connect(("127.0.0.1", port)).await?;
    client.set_nodelay(true)?;
    replica.set_nodelay(true)?;
    let (mut question, mut asked, mut answered) = (vec![0; 1 << 16], None, vec![0; 1 << 16]);
    loop {
        tokio::select! {
            len = client.read(&mut question) => {
                let sent = &question[..len?];
                if sent.is_empty() {
                    return Ok(());
                }
                asked = asked.or_else(|| named(sent));
                replica.write_all(sent).await?;
            }
            len = replica.read(&mut answered) => {
                let sent = &answered[..len?];
                let what = asked.take(); // of an answer's first bytes only
                if sent.is_empty() || what.as_ref().is_some_and(|what| strike(format!("before answering {what}"))) {
                    return Ok(());
                }
                client.write_all(sent).await?;
                if what.is_some_and(|what| strike(format!("after answering {what}"))) {
                    return Ok(());
                }
            }
        }
    }
}

/// Method and path of a request, without what differs from round to round.
fn named(sent: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(sent.split(|byte| *byte == b'\r').next()?).ok()?;
    let (method, rest) = line.split_once(' ')?;
    let path = rest.split([' ', '?']).next()?;
    let is_id = |part: &str| part.len() >= 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<_> = path.split('/').map(|part| if is_id(part) { "{}" } else { part }).collect();
    Some(format!("{method} {}", parts.join("/")))
}
