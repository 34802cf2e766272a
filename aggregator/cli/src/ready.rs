//! `veilsum ready`: what `/readyz` of the service on this machine answers, as an exit code, for the health checks of containers
//! and units. It needs no token, and no other program in an image.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;
use veilsum_aggregator::config::Config;
use veilsum_client::HttpTransport;

use crate::exit::Ends as _;
use crate::output::Output;

/// Options of `ready`.
#[derive(Args)]
#[command(after_help = "Examples:\n  veilsum ready\n  veilsum ready --config /etc/veilsum/veilsum.toml --within 60")]
pub struct Options {
    /// The service's configuration: its `operations` says where to ask.
    #[arg(long, value_name = "FILE", default_value = "veilsum.toml")]
    config: PathBuf,
    /// Ask again until it is ready, for so many seconds at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    within: u64,
}

/// An answer of `/readyz` is a line.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(250);

/// Asks, and ends with an error if the service is not ready in time.
pub async fn run(options: Options, output: Output) -> Result<()> {
    let config = Config::load(&options.config).or_usage()?;
    let address = reachable(config.operations);
    let (since, patience) = (Instant::now(), Duration::from_secs(options.within));
    loop {
        match ask(address).await {
            Ok(()) => break,
            Err(_) if since.elapsed() < patience => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error.context(format!("the service at {address} is not ready"))),
        }
    }
    output.give(&json!({ "ready": true, "operations": address }), |_| format!("the service at {address} is ready"))
}

async fn ask(address: SocketAddr) -> Result<()> {
    let transport = HttpTransport::new(&format!("http://{address}"))?;
    let reply = transport.request("GET", "/readyz", &[], Vec::new(), ANSWER_BYTES_MAX).await;
    let reply = reply.context("no answer from it")?;
    if reply.status != 200 {
        bail!("it answers {}: {}", reply.status, String::from_utf8_lossy(&reply.body).trim_end());
    }
    Ok(())
}

/// Who listens on every address is asked on this machine's own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => {}
        std::net::IpAddr::V4(_) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        std::net::IpAddr::V6(_) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_listens_everywhere_is_asked_on_loopback() {
        for (configured, asked) in [
            ("0.0.0.0:8444", "127.0.0.1:8444"),
            ("[::]:8444", "[::1]:8444"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("10.0.0.7:8444", "10.0.0.7:8444"),
        ] {
            let configured: SocketAddr = configured.parse().expect("an address");
            assert_eq!(reachable(configured).to_string(), asked);
        }
    }
}
