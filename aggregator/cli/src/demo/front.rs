//! One address before several replicas: a connection goes to one that answers, in turn. What a load balancer does for operators.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A listener that knows the replicas.
pub struct Front {
    /// Where clients connect.
    pub address: SocketAddr,
    replicas: Arc<Mutex<Vec<SocketAddr>>>,
    accepting: JoinHandle<()>,
}

impl Front {
    /// Listens on a free port of this machine.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let replicas: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let known = replicas.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let order = {
                    let mut known = known.lock().expect("no panic holds this lock");
                    if !known.is_empty() {
                        known.rotate_left(1);
                    }
                    known.clone()
                };
                tokio::spawn(pass_on(client, order));
            }
        });
        Ok(Self { address, replicas, accepting })
    }

    /// From now on new connections go to these.
    pub fn lead_to(&self, replicas: Vec<SocketAddr>) {
        *self.replicas.lock().expect("no panic holds this lock") = replicas;
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// To the first that takes the connection. Where none does it closes, and the client tries again.
async fn pass_on(mut client: TcpStream, order: Vec<SocketAddr>) {
    for replica in order {
        if let Ok(mut server) = TcpStream::connect(replica).await {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
