//! Clients over TLS: a real nginx before the service, a real round through it, and nobody believed who should not be.

use std::path::Path;

use veilsum_client::transport::{HttpTransport, TransportError};
use veilsum_client::{Participant, ParticipantError};
use verification::proxy::{Proxy, self_signed};
use verification::world::*;

/// C-99: a round through a proxy with TLS ends with the exact sum; its clients believe the file that their join file names.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_through_a_tls_proxy_releases_the_exact_sum() {
    let world = World::new(Shape::patient(3)).await;
    let round = world.round(1).await;
    let proxy = Proxy::before(world.address);
    let believing = || HttpTransport::believing(&proxy.address(), Some(&proxy.certificate())).expect("a certificate");
    let running: Vec<Running> = (0..3).map(|number| world.send(number, world.line_over(believing()))).collect();
    for running in running {
        let ending = running.end().await;
        assert!(ending.verified().is_some(), "{ending:?}");
    }
    world.is_exact_sum_of(round, &world.ids(0..3)).await;
}

/// C-99: a certificate that the client was not told to believe ends the call, and nothing is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_show_who_it_is_is_sent_nothing() {
    let world = World::new(Shape::patient(3)).await;
    let round = world.round(1).await;
    let proxy = Proxy::before(world.address);
    let other = tempfile::tempdir().expect("a folder");
    self_signed(other.path(), "localhost");
    let files: [Option<&Path>; 2] = [Some(&other.path().join("cert.pem")), None];
    let at_ip = format!("https://127.0.0.1:{}", proxy.port); // the certificate is for the name
    let own = proxy.certificate();
    let tries = files.map(|file| (proxy.address(), file)).into_iter().chain([(at_ip, Some(own.as_path()))]);
    for (address, file) in tries {
        println!("{address} {file:?}");
        let transport = HttpTransport::believing(&address, file).expect("an address");
        let state = world.folder.path().join("untrusting");
        let mut participant =
            Participant::open(world.identity(0), world.join(), &state, transport).await.expect("a new state");
        let error = participant.take_part(&world.unit(0)).await.expect_err("who answers is not believed");
        let ParticipantError::Transport(TransportError::Untrusted(_)) = &error else { panic!("{error}") };
        assert!(error.to_string().contains("ca_file"), "{error}");
        assert_eq!(participant.traffic().down_bytes(), 0);
    }
    assert_eq!(world.admitted(round).await, 0);
    // The same client, told whom to believe, takes part.
    let believing = || HttpTransport::believing(&proxy.address(), Some(&own)).expect("a certificate");
    let running: Vec<Running> = (0..3).map(|number| world.send(number, world.line_over(believing()))).collect();
    for running in running {
        let ending = running.end().await;
        assert!(ending.verified().is_some(), "{ending:?}");
    }
}
