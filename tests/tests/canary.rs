//! H04: no secret in any log, answer, metric or file. C-107

use std::path::Path;

use verification::canary::h04;

/// C-107: at the loudest log level, whatever goes wrong, nothing that anybody reads holds a secret in any form.
#[tokio::test]
async fn h04_no_sink_holds_a_secret_in_any_form() {
    let (heard, figures) = h04(Path::new(env!("CARGO_BIN_EXE_stepping-client"))).await;
    let logs: usize = heard.sinks.iter().filter(|sink| sink.name.ends_with(".log")).map(|sink| sink.bytes.len()).sum();
    println!(
        "{} sinks, {} bytes ({logs} of logs), {} secrets in {} forms; statuses {:?}",
        figures.sinks, figures.bytes, figures.secrets, figures.needles, heard.statuses
    );
    for (sink, found) in &figures.found {
        println!("{sink}: {found:?}");
    }
    for status in [200, 204, 400, 401, 403, 404, 409, 413, 415, 422, 500] {
        assert!(heard.statuses.contains(&status), "no answer with {status} was provoked");
    }
    assert!(figures.found.is_empty());
}
