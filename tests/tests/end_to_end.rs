//! Whole rounds over real HTTP: what is released, what is not, and what it costs. The programs that people run, too.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use veilsum_aggregator::round::learn;
use veilsum_aggregator::store::Store as _;
use veilsum_aggregator::task::Task;
use veilsum_client::config::{Identity, Join};
use veilsum_client::{LeftOut, ParticipantError, RoundOutcome};
use veilsum_crypto::ids::Digest;
use veilsum_crypto::server::PhaseKind;
use verification::hostile::{Hand, request};
use verification::programs::{assert_demo_object, quickstart_example, veilsum};
use verification::world::*;

/// Three clients play one round over HTTP; the sum is exact, everybody verified it, and it was charged.
async fn three_clients(engine: Engine) {
    let world = World::new(Shape { engine, ..Shape::patient(3) }).await;
    let round = world.round(1).await;
    let endings = world.play(&[]).await;
    world.is_exact_sum_of(round, &world.ids(0..3)).await;
    let released = world.released(round).await.expect("a sum");
    for ending in &endings {
        assert!(ending.verified() == Some(&released), "every client saw the sum that was released: {ending:?}");
    }
    assert!(world.ledger().await.iter().all(|row| row.spent), "masking opened, so it is charged");
}

/// C-01: the sum released is, bit for bit, that of what the survivors wrote down.
#[tokio::test(flavor = "multi_thread")]
async fn three_clients_over_http_release_the_exact_sum() {
    three_clients(Engine::Sqlite).await;
}

/// C-01, on the other engine.
#[tokio::test(flavor = "multi_thread")]
async fn three_clients_over_http_release_the_exact_sum_on_postgresql() {
    three_clients(Engine::Postgres).await;
}

/// One of six is lost at an await of a phase; who is in the sum follows from where.
async fn one_is_lost(phase: &'static str, moment: Moment, is_counted: bool) {
    let world = World::new(Shape::of(6)).await;
    let round = world.round(1).await;
    let lost = 4;
    let endings = world.play(&[(lost, Fate { phase, moment })]).await;
    assert!(matches!(endings[lost], Ending::Lost), "{phase} {moment:?}: {:?}", endings[lost]);
    world.is_exact_sum_of(round, &world.ids((0..6).filter(|number| is_counted || *number != lost))).await;
    for ending in endings.iter().take(lost) {
        assert!(ending.verified().is_some(), "{phase} {moment:?}: {ending:?}");
    }
    assert!(world.ledger().await.iter().all(|row| row.spent));
    assert_eq!(world.named(round).await, [], "nobody is named for silence");
}

/// C-03: a client may vanish at any phase, before or after its message went out; the survivors' sum stays exact.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_lost_before_it_sends_its_keys_or_shares_is_not_in_the_exact_sum() {
    use Moment::*;
    tokio::join!(
        one_is_lost("advertise", BeforeSending, false),
        one_is_lost("advertise", AfterSending, false),
        one_is_lost("share", BeforeSending, false),
        one_is_lost("share", AfterSending, false),
    );
}

/// C-03.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_lost_around_its_acknowledgement_or_upload_is_in_the_sum_if_its_upload_arrived() {
    use Moment::*;
    tokio::join!(
        one_is_lost("acknowledge", BeforeSending, false),
        one_is_lost("acknowledge", AfterSending, false),
        one_is_lost("mask", BeforeSending, false),
        one_is_lost("mask", AfterSending, true),
    );
}

/// C-03.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_lost_after_its_upload_stays_in_the_exact_sum() {
    use Moment::*;
    tokio::join!(
        one_is_lost("confirm", BeforeSending, true),
        one_is_lost("confirm", AfterSending, true),
        one_is_lost("unmask", BeforeSending, true),
        one_is_lost("unmask", AfterSending, true),
    );
}

/// C-01, C-03: a larger roster on a sparse graph, with as many losses as it tolerates.
#[tokio::test(flavor = "multi_thread")]
async fn twelve_clients_of_whom_three_are_lost_in_three_phases_release_the_exact_sum() {
    let world = World::new(Shape::of(12)).await;
    let round = world.round(1).await;
    let fate = |phase| Fate { phase, moment: Moment::BeforeSending };
    let lost = [(2, fate("share")), (5, fate("mask")), (11, fate("unmask"))];
    world.play(&lost).await;
    world.is_exact_sum_of(round, &world.ids((0..12).filter(|number| ![2, 5].contains(number)))).await;
}

/// More are lost in one phase than the roster bears: nothing is released, the clients hear why, and it is charged only if
/// masking had opened.
async fn too_many_are_lost(phase: &'static str, count: usize, word: &str, is_charged: bool) {
    let world = World::new(Shape::of(6)).await;
    let round = world.round(1).await;
    let hand = Hand::new(&world, 0, 1).await;
    let fate = Fate { phase, moment: Moment::BeforeSending };
    let losses: Vec<_> = (0..count).map(|number| (number, fate)).collect();
    let endings = world.play(&losses).await;
    world.is_abandoned(round, word, is_charged).await;
    for ending in endings.iter().skip(count) {
        match ending {
            // Who answered reads the result, which says that there is no sum.
            Ending::Outcome(RoundOutcome::Verified { sum: None, .. }) if word == "not-opened" => {}
            other => assert_eq!(other.abandoned().and_then(|why| why.split(':').next()), Some(word), "{other:?}"),
        }
    }
    // Whoever comes late hears the same.
    let late = hand.put("unmask", b"too late").await;
    late.is(410, None);
    assert_eq!(late.word(), word);
    assert_eq!(learned(&world).await, world.model, "no model is learned from a round without a sum");
}

async fn learned(world: &World) -> Vec<f32> {
    let store = world.rounds().store();
    let row = store.tasks().await.expect("the store answers").pop().expect("the task");
    let bytes = store.model(row.model).await.expect("the store answers").expect("a model");
    learn::from_bytes(&bytes, world.task.file.model_len).expect("a model")
}

/// C-02: with too few left a round ends abandoned, before the charge or after it (C04 of attacks.csv).
#[tokio::test(flavor = "multi_thread")]
async fn losses_beyond_the_tolerance_before_masking_release_nothing_and_cost_nothing() {
    tokio::join!(
        too_many_are_lost("advertise", 2, "roster-too-small", false),
        too_many_are_lost("share", 2, "core-too-small", false),
        too_many_are_lost("acknowledge", 2, "core-too-small", false),
    );
}

/// C-02, D11.
#[tokio::test(flavor = "multi_thread")]
async fn losses_beyond_the_tolerance_after_masking_opened_release_nothing_and_are_charged() {
    tokio::join!(
        too_many_are_lost("mask", 2, "too-few-survivors", true),
        too_many_are_lost("confirm", 4, "not-confirmed", true),
        too_many_are_lost("unmask", 4, "not-opened", true),
    );
}

/// C-04: a task gives away no more than its budget.
#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_stops_further_rounds() {
    let one = World::new(Shape::patient(3)).await;
    let charge = one.task.charge.clone().expect("there is noise");
    let budget_epsilon = charge.times(2).epsilon(1e-5).epsilon * 1.000_1;
    drop(one);
    let world = World::new(Shape { rounds: 5, budget_epsilon, ..Shape::patient(3) }).await;
    for counter in 1..=2 {
        let round = world.round(counter).await;
        world.play(&[]).await;
        world.is_exact_sum_of(round, &world.ids(0..3)).await;
    }
    let third = world.rounds().newest_header(world.task.id, 2, Duration::from_secs(2)).await.expect("a known task");
    assert_eq!(third, None, "two of five rounds are all that the budget covers");
    assert_eq!(world.ledger().await.len(), 2);
}

/// C-05: clients train from what the sum made of the model before, and the next header binds them to its hash.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_header_names_the_model_that_the_mean_made() {
    let world = World::new(Shape { rounds: 2, ..Shape::patient(3) }).await;
    let round = world.round(1).await;
    world.play(&[]).await;
    world.over(round).await;
    let next = world.header(2).await;
    let served = request(world.address, "GET", &format!("/v1/models/{}", next.model_hash), &[], b"").await;
    assert_eq!(served.status, 200);
    assert_eq!(Digest(Sha256::digest(&served.body).into()), next.model_hash);
    let sum = world.released(round).await.expect("a sum");
    let (rate, scale) = (world.task.file.server_rate[0], world.task.file.scale);
    let model = learn::from_bytes(&served.body, world.task.file.model_len).expect("a model");
    assert_eq!(model.len(), world.model.len());
    for ((after, before), value) in model.iter().zip(&world.model).zip(sum.to_signed()) {
        let expected = f64::from(*before) + rate * value as f64 / scale / 3.0;
        assert!((f64::from(*after) - expected).abs() < 1e-5, "{after} instead of {expected}");
    }
    let round = world.round(2).await;
    world.play(&[]).await; // `Unit` asserts the hash of what it trains from
    world.is_exact_sum_of(round, &world.ids(0..3)).await;
}

/// C-06: an update that is not finite is not sent; the round goes on without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_update_is_not_finite_leaves_and_the_others_release_their_sum() {
    for value in [f32::NAN, f32::INFINITY] {
        let world = World::new(Shape::of(6)).await;
        let round = world.round(1).await;
        let liar = world.send_with(5, value, world.line());
        let others: Vec<Running> = (0..5).map(|number| world.send(number, world.line())).collect();
        let Ending::Failed(error) = liar.end().await else { panic!("it went on") };
        assert!(matches!(error, ParticipantError::Training(_)), "{error}");
        for other in others {
            assert!(other.end().await.verified().is_some());
        }
        world.is_exact_sum_of(round, &world.ids(0..5)).await;
    }
}

/// C-04: a client with a budget of its own stops before it sends an advert that the budget does not cover.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_own_budget_is_too_small_sends_nothing() {
    let mut world = World::new(Shape::patient(3)).await;
    world.policy.budget.epsilon = 0.01;
    let running = world.send(0, world.line());
    let line = running.line.clone();
    let Ending::Outcome(RoundOutcome::LeftOut { reason, .. }) = running.end().await else { panic!("it went on") };
    assert!(matches!(reason, LeftOut::Budget { .. }), "{reason}");
    assert_eq!(line.phases(), [""; 0]);
}

fn fixture() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixture/text").display().to_string()
}

/// C-07: the example joins a running service with nothing but the two files of a spare identity.
#[tokio::test(flavor = "multi_thread")]
async fn the_quickstart_takes_part_with_the_files_of_a_spare_identity() {
    let quickstart = tokio::task::spawn_blocking(quickstart_example).await.expect("it is built");
    let world = World::new(Shape::patient(4)).await;
    let round = world.round(1).await;
    // As the demo leaves it.
    let spare = world.folder.path().join("spare");
    std::fs::create_dir(&spare).expect("room");
    world.identity(3).write(&spare.join("identity.toml")).expect("room");
    world.join().write(&spare.join("join.toml")).expect("room");
    let example =
        tokio::task::spawn_blocking(move || Command::new(quickstart).arg(spare).output().expect("it was built"));
    let others: Vec<Running> = (0..3).map(|number| world.send(number, world.line())).collect();
    for other in others {
        assert!(other.end().await.verified().is_some());
    }
    let output = example.await.expect("no panic");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Verified") && said.contains("update_included: true"), "{said}");
    assert_eq!(world.over(round).await.phase.kind(), PhaseKind::Published);
    let mut everybody = world.ids(0..4);
    everybody.sort_unstable();
    assert_eq!(world.survivors(round).await, everybody, "its update, of zeros, is in the sum");
}

/// C-08: the demo's JSON is one object with the members of the issue, and every released sum is bit exact. It leaves what
/// the quickstart needs.
#[test]
fn the_demo_prints_one_json_object_and_leaves_a_spare_identity() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let arguments =
        ["demo", "--clients", "6", "--rounds", "2", "--seed", "7", "--json", "--data", &fixture(), "--data-dir"];
    println!("seed 7");
    let output = veilsum(&[&arguments[..], &[data_dir.to_str().expect("utf-8")]].concat());
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{complained}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    let json: serde_json::Value = serde_json::from_str(&said).expect("one object and nothing else");
    assert_demo_object(&json, 6, 2);
    let report = std::fs::read_to_string(json["report"].as_str().expect("a path")).expect("a report");
    assert!(report.contains("<html"), "a report in HTML");

    let spare = data_dir.join("spare");
    let (identity, join) = (Identity::read(&spare.join("identity.toml")), Join::read(&spare.join("join.toml")));
    let (identity, join) = (identity.expect("an identity"), join.expect("a join file"));
    assert!(identity.certificate().body().not_after > identity.certificate().body().not_before);
    let task = std::fs::read_to_string(data_dir.join("task.toml")).expect("a task file");
    let task = Task::new(veilsum_aggregator::task::TaskFile::parse(&task).expect("a task file")).expect("feasible");
    assert_eq!(task.id, join.task);
}

/// The demo refuses with these words on stderr, nothing on stdout, and no panic.
fn demo_refuses(arguments: &[&str], words: &[&str]) {
    let output = veilsum(&[&["demo", "--json"], arguments].concat());
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} was accepted");
    assert_ne!(output.status.code(), None, "it ended by a signal: {complained}");
    assert!(!complained.contains("panicked"), "{complained}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(complained.contains(word), "\"{word}\" is missing in: {complained}");
    }
}

/// C-09: bad input to the demo is refused with what was expected, what came and what to do.
#[test]
fn the_demo_refuses_bad_input_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let data_dir = path("fresh");

    std::fs::create_dir(path("empty")).expect("room");
    demo_refuses(
        &["--data", &path("empty"), "--data-dir", &data_dir],
        &["expected text files", "no files", "--data DIR"],
    );
    demo_refuses(&["--data", &path("nowhere"), "--data-dir", &data_dir], &["expected a folder with text", "--data"]);

    std::fs::create_dir(path("binary")).expect("room");
    std::fs::write(path("binary/noise.txt"), (0..200_000_u32).map(|at| ((at * 7_919) >> 3) as u8).collect::<Vec<_>>())
        .expect("room");
    demo_refuses(
        &["--data", &path("binary"), "--data-dir", &data_dir],
        &["expected text files", "none of its 1 files is text"],
    );
    assert!(!Path::new(&data_dir).exists(), "no partial state");

    std::fs::create_dir(path("other")).expect("room");
    std::fs::write(path("other/version"), "veilsum-demo-99\n").expect("room");
    demo_refuses(
        &["--data", &fixture(), "--data-dir", &path("other")],
        &["veilsum-demo-99", "veilsum-demo-1", "--data-dir"],
    );
    std::fs::create_dir(path("strange")).expect("room");
    std::fs::write(path("strange/precious"), "mine").expect("room");
    demo_refuses(&["--data", &fixture(), "--data-dir", &path("strange")], &["no version file", "--data-dir"]);
    assert_eq!(std::fs::read_to_string(path("strange/precious")).expect("untouched"), "mine");

    demo_refuses(&["--clients", "2", "--data-dir", &data_dir], &["--clients"]);
    demo_refuses(
        &["--clients", "6", "--cohort", "9", "--data-dir", &data_dir],
        &["--cohort must be from 3 to --clients (6)", "9"],
    );
    demo_refuses(&["--dropout", "1.5", "--data-dir", &data_dir], &["--dropout must be from 0 to 1"]);
    demo_refuses(
        &["--data", &fixture(), "--database", "postgres://nobody@127.0.0.1:1/none", "--data-dir", &path("away")],
        &["database"],
    );
}

/// C-09: an infeasible task is refused before anything starts, and the message names what would be feasible; a port in use
/// is named.
#[test]
fn serve_refuses_an_infeasible_task_and_a_port_in_use_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound");
    let serve = |shape: &Shape| {
        let (task, config) = (folder.path().join("task.toml"), folder.path().join("veilsum.toml"));
        let file = toml::to_string(&task_file(shape)).expect("a task file");
        std::fs::write(&task, file).expect("room");
        let key = hex::encode(
            veilsum_crypto::primitives::signature::IdentitySecretKey::from_bytes(&[7; 32]).public().as_bytes(),
        );
        let text = format!(
            "listen = \"{port}\"\noperations = \"127.0.0.1:0\"\ndata_dir = \"{}\"\nauthority_key = \"{key}\"\n[[tasks]]\nfile = \"{}\"\n",
            folder.path().join("data").display(),
            task.display()
        );
        std::fs::write(&config, text).expect("room");
        let output = veilsum(&["serve", "--config", config.to_str().expect("utf-8")]);
        assert!(!output.status.success());
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!complained.contains("panicked"), "{complained}");
        complained
    };
    let infeasible = serve(&Shape { dropout_tolerance: 0.5, roster_min: 4, ..Shape::of(6) });
    assert!(infeasible.contains("infeasible") && infeasible.contains("would be feasible"), "{infeasible}");
    assert!(!folder.path().join("data").exists(), "no partial state");
    let in_use = serve(&Shape::of(6));
    assert!(in_use.contains("cannot listen on") && in_use.contains(&port.to_string()), "{in_use}");
}
