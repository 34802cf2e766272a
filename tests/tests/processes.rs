//! The demo in processes of their own: the same outcome, and nobody left behind.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use veilsum_client::config::{Identity, Join};
use verification::postgres::Schema;
use verification::programs::*;

/// Longer than the demo needs to begin its first round, also on a machine that is busy.
const BEGINS_MAX: Duration = Duration::from_secs(120);

fn demo(data_dir: &Path, more: &[&str]) -> Child {
    let fixture = root().join("tests/fixture/text");
    Command::new(veilsum_program())
        .args(["demo", "--processes", "--json", "--seed", "7", "--data"])
        .arg(fixture)
        .arg("--data-dir")
        .arg(data_dir)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built")
}

/// Command lines of this machine's processes that name a folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("Linux").filter_map(Result::ok);
    let command = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    let words = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', " ");
    entries.filter_map(command).map(words).filter(|line| line.contains(folder.to_str().expect("utf-8"))).collect()
}

/// C-105: authority, aggregator and clients in processes of their own give the same object, every sum bit exact with clients
/// lost on the way, and leave the same files.
#[test]
fn a_demo_in_processes_gives_the_same_object_with_exact_sums() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    println!("seed 7");
    let child = demo(&data_dir, &["--clients", "8", "--rounds", "2", "--dropout", "0.2"]);
    let said: Said = child.wait_with_output().expect("it ends").into();
    let json = said.json(0);
    assert_demo_object(&json, 8, 2);
    let lost: u64 =
        json["rounds"][0]["dropped"].as_object().expect("by phase").values().filter_map(|count| count.as_u64()).sum();
    assert_eq!(lost, 1, "a fifth of eight, rounded down: {json}");
    assert!(processes_in(&data_dir).is_empty(), "everybody is gone");
    let spare = data_dir.join("spare");
    assert!(Identity::read(&spare.join("identity.toml")).is_ok() && Join::read(&spare.join("join.toml")).is_ok());
    // What each process was told, and what it left: one folder a client.
    for number in 0..8 {
        let client = data_dir.join(format!("clients/{number:04}"));
        for file in ["identity.toml", "text", "order.json", "account.json"] {
            assert!(client.join(file).exists(), "{file} of client {number}");
        }
    }
}

/// Two replicas on PostgreSQL: one dies in the middle of every round, and every round is released with the exact sum. Without
/// `DATABASE_URL` the demo has a cluster of its own, which is gone with it.
#[test]
fn a_demo_of_which_a_replica_dies_in_every_round_releases_every_round() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let schema = std::env::var_os("DATABASE_URL").map(|_| runtime.block_on(Schema::create()));
    let url = schema.as_ref().map(Schema::url);
    let mut options = vec!["--replicas", "2", "--clients", "6", "--rounds", "3", "--dropout", "0"];
    options.extend(url.iter().flat_map(|url| ["--database", url]));
    println!("seed 7");
    let said: Said = demo(&data_dir, &options).wait_with_output().expect("it ends").into();
    let mut json = said.json(0);
    let mut killed = Vec::new();
    for round in json["rounds"].as_array_mut().expect("rounds") {
        let kill = round.as_object_mut().expect("an object").remove("replica_killed").expect("one a round");
        assert!(kill["phase"].is_string(), "{kill}");
        killed.push(kill["replica"].as_u64().expect("a number"));
    }
    assert_demo_object(&json, 6, 3); // else as ever, every round released and exact
    assert_eq!(killed, [2, 1, 2], "by turns");
    assert!(processes_in(&data_dir).is_empty(), "everybody is gone");
}

/// C-105: a demo that is killed leaves no process behind.
#[test]
fn a_demo_that_is_killed_leaves_no_process_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    // One invited client of three is lost before it advertises: the others wait.
    let mut child = demo(&data_dir, &["--clients", "5", "--rounds", "50", "--dropout", "0.2"]);
    let begun = Instant::now();
    let is_running = |what: &str| processes_in(&data_dir).iter().any(|line| line.contains(what));
    while !(is_running(" serve ") && is_running("demo-client")) {
        assert!(begun.elapsed() < BEGINS_MAX, "it did not begin: {:?}", processes_in(&data_dir));
        assert!(
            child.try_wait().expect("ours").is_none(),
            "it ended: {:?}",
            Said::from(child.wait_with_output().expect("ours"))
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("ours"); // SIGKILL: it cannot tidy up
    child.wait().expect("ours");
    let killed = Instant::now();
    while !processes_in(&data_dir).is_empty() {
        // The aggregator finishes requests in flight, for at most 20 s.
        assert!(killed.elapsed() < Duration::from_secs(60), "left behind: {:?}", processes_in(&data_dir));
        std::thread::sleep(Duration::from_millis(50));
    }
}
