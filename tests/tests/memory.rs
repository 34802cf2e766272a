//! E12: after a round its secrets are in no memory of the processes that held them. C-106

use std::path::Path;

use verification::memory::{Found, e12};

fn is_found(found: &Found, name: &str) -> bool {
    found.hits.keys().any(|secret| secret.starts_with(name))
}

/// Everything that was found but what may be there, each with its places.
fn beyond(found: &Found, allowed: &[&str]) -> Vec<String> {
    let others = found.hits.iter().filter(|(name, _)| !allowed.iter().any(|allowed| name.starts_with(allowed)));
    others
        .map(|(name, hits)| format!("{name}: {:?}", hits.iter().map(|hit| &hit.mapping).collect::<Vec<_>>()))
        .collect()
}

/// C-106: keys, shares, noise and update leave a client's memory as soon as the protocol is done with them, and the service
/// keeps neither the round's key nor anything that it rebuilt.
#[tokio::test]
async fn e12_secrets_of_a_round_are_wiped_from_memory() {
    let scans = e12(Path::new(env!("CARGO_BIN_EXE_stepping-client"))).await;
    for (when, found) in [
        ("client, before masking", &scans.acknowledged),
        ("client, masked", &scans.masked),
        ("client, round over", &scans.over),
        ("client, closed", &scans.dropped),
        ("service, round open", &scans.service_open),
        ("service, round over", &scans.service_over),
    ] {
        println!(
            "{when}: {} secrets looked for in {} bytes; found {:?}",
            found.secrets,
            found.scanned_bytes,
            found.names()
        );
    }
    // The scan sees what is there: without this the rest would say nothing.
    for name in ["s of 0", "b of 0", "dealt s->", "held b<-", "update of 0"] {
        assert!(is_found(&scans.acknowledged, name), "{name} is needed later, and was not found");
    }
    assert!(is_found(&scans.masked, "held b<-"), "needed for the answer");
    assert!(is_found(&scans.service_open, "service key"), "it runs");

    assert_eq!(beyond(&scans.masked, &["held "]), [""; 0], "own keys, own shares and the update have done their work");
    assert_eq!(beyond(&scans.over, &[]), [""; 0]);
    assert_eq!(beyond(&scans.dropped, &[]), [""; 0]);
    assert_eq!(beyond(&scans.service_over, &["service key"]), [""; 0]);
}
