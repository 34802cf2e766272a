//! The operator's commands against a real service's admin API: what they ask for, print and refuse.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use veilsum_aggregator::task::{Task, TaskFile};
use veilsum_client::config::Join;
use veilsum_crypto::params::RosterParams;
use verification::programs::*;
use verification::world::*;

/// A world, and the commands of its operator.
struct Operator {
    world: World,
    token: PathBuf,
}

impl Operator {
    async fn of(shape: Shape) -> Self {
        tokio::task::spawn_blocking(veilsum_program).await.expect("it is built");
        let world = World::new(shape).await;
        let token = world.folder.path().join("token");
        secret_file(&token, &ADMIN_TOKEN);
        Self { world, token }
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        let admin = format!("http://{}", self.world.admin());
        let mut command = Command::new(veilsum_program());
        command.args(arguments).args(["--admin", &admin, "--token-file"]).arg(&self.token);
        tokio::task::spawn_blocking(move || command.output().expect("it was built").into()).await.expect("no panic")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.folder.path().join(name)
    }

    fn task_file(&self, name: &str, change: impl FnOnce(&mut TaskFile)) -> PathBuf {
        let mut file = task_file(&Shape::of(6));
        file.name = name.to_string();
        change(&mut file);
        let path = self.path(&format!("{name}.toml"));
        std::fs::write(&path, toml::to_string(&file).expect("a task file")).expect("room");
        path
    }
}

fn secret_file(path: &Path, secret: &[u8; 32]) {
    let mut file = std::fs::OpenOptions::new();
    let mut file = file.write(true).create_new(true).mode(0o600).open(path).expect("room");
    std::io::Write::write_all(&mut file, hex::encode(secret).as_bytes()).expect("room");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

/// C-100: `task create --check` needs no service, prints k, t, bytes and milliseconds of the task, and warns where liars can
/// stop a round or a tolerance is dear.
#[test]
fn a_task_file_is_planned_without_a_service() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("task.toml");
    let check = |change: &dyn Fn(&mut TaskFile), json: bool| -> Said {
        let mut file = TaskFile {
            invited: 64,
            roster_min: 58,
            roster_max: 64,
            dropout_tolerance: 0.1,
            ..task_file(&Shape::of(64))
        };
        file.budget_epsilon = 1e6;
        change(&mut file);
        std::fs::write(&path, toml::to_string(&file).expect("a task file")).expect("room");
        let arguments = ["task", "create", text(&path), "--check", "--json"];
        veilsum(&arguments[..if json { 5 } else { 4 }]).into()
    };
    let planned = check(&|_| (), true).json(0);
    let file = TaskFile::parse(&std::fs::read_to_string(&path).expect("it is there")).expect("a task file");
    let task = Task::new(file).expect("feasible");
    assert_eq!((&planned["created"], &planned["task"]), (&json!(false), &json!(task.id.to_string())));
    for (plan, n) in planned["rosters"].as_array().expect("a list").iter().zip([58, 64]) {
        let derived = RosterParams::derive(n, &task.params).expect("feasible");
        assert_eq!(
            (&plan["n"], &plan["k"], &plan["t"]),
            (&json!(n), &json!(derived.degree), &json!(derived.threshold))
        );
        assert_eq!(
            (&plan["c"], &plan["T"], &plan["h"]),
            (&json!(derived.corrupt), &json!(derived.tolerated), &json!(derived.honest))
        );
        let client = &plan["client"];
        assert!(
            client["up_bytes"].as_u64() > Some(task.params.packed_bytes() as u64) && client["ms"].as_f64() > Some(0.0)
        );
    }
    assert_eq!(planned["warnings"], json!([]));
    let words = check(&|_| (), false);
    for wanted in ["would be created", "kB up", "kB down", "epsilon", "rosters of 58 to 64"] {
        assert!(words.out.contains(wanted), "\"{wanted}\" is missing in {}", words.out);
    }
    let warned = |change: &dyn Fn(&mut TaskFile), words: &[&str]| {
        let said = check(change, false);
        for word in words {
            assert!(said.code == 0 && said.out.contains(word), "\"{word}\" is missing in {}{}", said.out, said.err);
        }
    };
    warned(&|file| file.dropout_tolerance = 0.25, &["warning: dropout_tolerance 0.25", "neighbours"]);
    warned(
        &|file| (file.roster_min, file.dropout_tolerance) = (64, 0.0),
        &["warning: of 64 clients 4 may lie and only 0"],
    );
    warned(&|file| file.noise_multiplier = 0.0, &["warning: noise_multiplier is 0"]);
    warned(&|file| (file.budget_epsilon, file.rounds) = (20.0, 100), &["warning: budget_epsilon 20 permits"]);
    check(&|file| file.dropout_tolerance = 0.6, true).refused(2, &["task.toml", "infeasible", "would be feasible"]);
    check(&|file| file.scale = -1.0, true).refused(2, &["scale must be"]);
    std::fs::write(&path, "name = 3").expect("room");
    Said::from(veilsum(&["task", "create", text(&path), "--check"])).refused(2, &["task.toml"]);
}

/// C-101: tasks are created, listed, shown and handed out over the admin API; the same file again is the same task.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_created_listed_and_handed_out() {
    let operator = Operator::of(Shape::patient(3)).await;
    let file = operator.task_file("second", |_| ());
    let made = operator.run(&["task", "create", text(&file), "--json"]).await.json(0);
    assert_eq!((&made["name"], &made["created"]), (&json!("second"), &json!(true)));
    let again = operator.run(&["task", "create", text(&file)]).await;
    assert!(again.code == 0 && again.out.contains("was there already"), "{}{}", again.out, again.err);
    let other = operator.task_file("other", |file| (file.name, file.rounds) = ("second".into(), 99));
    operator.run(&["task", "create", text(&other)]).await.refused(3, &["another name"]);
    let infeasible = operator.task_file("infeasible", |file| file.dropout_tolerance = 0.6);
    operator.run(&["task", "create", text(&infeasible)]).await.refused(3, &["would be feasible"]);
    // A first model goes before its task.
    let model = operator.path("model.safetensors");
    std::fs::write(&model, veilsum_aggregator::round::learn::to_bytes(&[0.5; 8])).expect("room");
    let third = operator.task_file("third", |_| ());
    let third = operator.run(&["task", "create", text(&third), "--model", text(&model), "--json"]).await.json(0);
    assert_eq!(third["model"], sha256(&std::fs::read(&model).expect("it is there")).to_string());
    std::fs::write(&model, b"no model").expect("room");
    let fourth = operator.task_file("fourth", |_| ());
    operator.run(&["task", "create", text(&fourth), "--model", text(&model)]).await.refused(3, &["model"]);

    let all = operator.run(&["task", "list", "--json"]).await.json(0);
    let names: Vec<&Value> = all["tasks"].as_array().expect("a list").iter().map(|task| &task["name"]).collect();
    assert!(names.len() == 3 && names.contains(&&json!("third")), "{names:?}");
    assert_eq!(operator.run(&["task", "list"]).await.out.lines().count(), 4, "a heading and three tasks");
    let shown = operator.run(&["task", "show", "second", "--json"]).await.json(0);
    assert_eq!(shown["task"], made["task"]);
    let id = made["task"].as_str().expect("an id");
    assert_eq!(operator.run(&["task", "show", &id[..12], "--json"]).await.json(0)["name"], "second");
    operator.run(&["task", "show", "nowhere"]).await.refused(2, &["there is no task nowhere"]);

    let out = operator.path("join.toml");
    let world = &operator.world;
    let address = format!("http://{}", world.address);
    let hand_out = ["task", "join", world.task.file.name.as_str(), "--address", &address, "--out", text(&out)];
    assert_eq!(operator.run(&hand_out).await.code, 0);
    let (join, expected) = (Join::read(&out).expect("a join file"), world.join());
    assert_eq!((&join.server, join.task), (&expected.server, expected.task));
    assert_eq!(
        (join.policy.aggregator, join.policy.authority),
        (expected.policy.aggregator, expected.policy.authority)
    );
    operator.run(&hand_out).await.refused(2, &["join.toml"]);
}

/// C-102: rounds are listed and shown as the service has them, and the status of the whole is one look.
#[tokio::test(flavor = "multi_thread")]
async fn rounds_and_status_are_shown_as_they_are() {
    let operator = Operator::of(Shape { rounds: 2, ..Shape::of(6) }).await;
    let world = &operator.world;
    let round = world.round(1).await;
    let status = operator.run(&["status", "--json"]).await.json(0);
    assert_eq!(status["rounds_open"][0]["round"], round.to_string());
    assert_eq!(status["aggregator_key"], hex::encode(world.policy.aggregator.as_bytes()));
    world.play(&[(2, Fate { phase: "mask", moment: Moment::BeforeSending })]).await;
    world.over(round).await;
    let second = world.round(2).await;

    let all = operator.run(&["round", "list", "--task", &world.task.file.name, "--json"]).await.json(0);
    let counters: Vec<&Value> =
        all["rounds"].as_array().expect("a list").iter().map(|round| &round["counter"]).collect();
    assert_eq!(counters, [2, 1]);
    assert_eq!(
        operator.run(&["round", "list", "--limit", "1", "--json"]).await.json(0)["rounds"][0]["round"],
        second.to_string()
    );
    let shown = operator.run(&["round", "show", &round.to_string(), "--json"]).await.json(0);
    assert_eq!((&shown["outcome"], &shown["survivors"], &shown["core"]), (&json!("released"), &json!(5), &json!(6)));
    assert_eq!(operator.run(&["round", "show", &round.to_string()[..10], "--json"]).await.json(0), shown);
    let words = operator.run(&["round", "show", &round.to_string()]).await;
    for wanted in ["published", "n = 6", "sum of 5", "released", "mask 5", "spent"] {
        assert!(words.out.contains(wanted), "\"{wanted}\" is missing in {}", words.out);
    }
    let list = operator.run(&["round", "list"]).await;
    assert!(list.out.lines().count() == 3 && list.out.contains(&second.to_string()), "{}", list.out);
    operator.run(&["round", "show", &"0".repeat(32)]).await.refused(2, &["round"]);
    operator.run(&["round", "show", "zz"]).await.refused(2, &["there is no round zz"]);
    operator.run(&["round", "list", "--limit", "0"]).await.refused(2, &["--limit"]);

    // Looked at again and again, until somebody stops it.
    operator.run(&["status", "--watch", "--json"]).await.refused(2, &["--watch"]);
    let mut watching = Command::new(veilsum_program())
        .args(["status", "--watch", "1", "--admin", &format!("http://{}", world.admin()), "--token-file"])
        .arg(&operator.token)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was built");
    let lines = BufReader::new(watching.stdout.take().expect("piped")).lines();
    let looks = lines.map_while(Result::ok).filter(|line| line.starts_with("veilsum ")).take(2).count();
    watching.kill().expect("it runs on");
    watching.wait().expect("ours");
    assert_eq!(looks, 2);
}

/// C-103: the list that the authority signed reaches the service by one command; an older or a foreign one does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_list_is_published_by_one_command() {
    let operator = Operator::of(Shape::patient(3)).await;
    let world = &operator.world;
    // The authority's folder of this world; its programs run elsewhere.
    let dir = operator.path("authority");
    std::fs::create_dir(&dir).expect("room");
    secret_file(&dir.join("authority.key"), &world.authority.to_bytes());
    let revoke = |dir: &Path, more: &[&str]| {
        let client = world.clients[2].id.to_string();
        let said: Said =
            veilsum(&[&["authority", "revoke", "--dir", text(dir), "--client", &client], more].concat()).into();
        assert_eq!(said.code, 0, "{}", said.err);
    };
    let first = operator.run(&["revocations", "show"]).await;
    assert!(first.out.contains("there is no revocation list"), "{}", first.out);
    let list = dir.join("revocations");
    revoke(&dir, &[]);
    let old = std::fs::read(&list).expect("it is there");
    let said = operator.run(&["revocations", "publish", text(&list), "--json"]).await.json(0);
    assert_eq!((&said["number"], &said["entries"]), (&json!(1), &json!(1)));
    let again = operator.run(&["revocations", "publish", text(&list)]).await;
    assert!(again.code == 0 && again.out.contains("was in force already"), "{}{}", again.out, again.err);
    revoke(&dir, &[]);
    assert_eq!(operator.run(&["revocations", "publish", text(&list)]).await.code, 0);
    assert_eq!(operator.run(&["revocations", "show", "--json"]).await.json(0)["number"], 2);
    std::fs::write(&list, old).expect("room");
    operator.run(&["revocations", "publish", text(&list)]).await.refused(3, &["number"]);
    let foreign = operator.path("foreign");
    assert_eq!(veilsum(&["authority", "init", "--dir", text(&foreign)]).status.code(), Some(0));
    revoke(&foreign, &["--number", "9"]);
    operator.run(&["revocations", "publish", text(&foreign.join("revocations"))]).await.refused(3, &["authority"]);
    operator.run(&["revocations", "publish", text(&operator.path("absent"))]).await.refused(2, &["absent"]);
}

/// C-104: without the right token, a private way and a service, a command says which of them is missing, and sends no token.
#[tokio::test(flavor = "multi_thread")]
async fn commands_name_what_is_missing_on_the_way_to_the_service() {
    let operator = Operator::of(Shape::patient(3)).await;
    let admin = format!("http://{}", operator.world.admin());
    let run = async |arguments: &[&str]| -> Said {
        let mut command = Command::new(veilsum_program());
        command.args(arguments).current_dir(operator.world.folder.path());
        tokio::task::spawn_blocking(move || command.output().expect("it was built").into()).await.expect("no panic")
    };
    let token = text(&operator.token);
    run(&["status"]).await.refused(2, &["There is no veilsum.toml", "--admin URL"]);
    let other = operator.path("other-token");
    secret_file(&other, &[1; 32]);
    run(&["status", "--admin", &admin, "--token-file", text(&other)]).await.refused(3, &["does not know this token"]);
    run(&["status", "--admin", "http://192.0.2.1:8081", "--token-file", token])
        .await
        .refused(2, &["in the clear", "ssh -L"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    run(&["status", "--admin", &format!("http://{closed}"), "--token-file", token])
        .await
        .refused(1, &["could not be reached"]);
    std::fs::set_permissions(&operator.token, std::fs::Permissions::from_mode(0o644)).expect("ours");
    run(&["status", "--admin", &admin, "--token-file", token]).await.refused(2, &["chmod 600"]);
    std::fs::set_permissions(&operator.token, std::fs::Permissions::from_mode(0o600)).expect("ours");
    // The service's own configuration is enough, where it is on this machine.
    let config = operator.path("veilsum.toml");
    let without = format!("data_dir = \"data\"\nauthority_key = \"{}\"\n", "0".repeat(64));
    std::fs::write(&config, &without).expect("room");
    run(&["status"]).await.refused(2, &["sets no admin_listen"]);
    let with = format!("{without}admin_listen = \"{}\"\nadmin_token_file = \"{token}\"\n", operator.world.admin());
    std::fs::write(&config, with).expect("room");
    assert_eq!(run(&["status", "--json"]).await.json(0)["store"], "sqlite");
}

/// C-109: an export that the service hands out passes the audit under keys from elsewhere; one that was changed, cut, or put
/// together from two rounds does not, and the command names what is wrong and ends with 3.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_taken_away_and_audited_by_commands() {
    let operator = Operator::of(Shape { rounds: 3, ..Shape::of(6) }).await;
    let world = &operator.world;
    for counter in 1..=2 {
        let round = world.round(counter).await;
        world.play(&[(1, Fate { phase: "mask", moment: Moment::BeforeSending })]).await;
        world.over(round).await;
    }
    let name = &world.task.file.name;
    let files: Vec<PathBuf> = (1..=2).map(|counter| operator.path(&format!("round-{counter}.export"))).collect();
    for (file, counter) in files.iter().zip(1..) {
        let said = operator
            .run(&["round", "export", &format!("{name}/{counter}"), "--out", text(file), "--json"])
            .await
            .json(0);
        assert_eq!(said["bytes"], std::fs::metadata(file).expect("it was written").len());
    }
    operator
        .run(&["round", "export", &format!("{name}/3"), "--out", text(&operator.path("open"))])
        .await
        .refused(3, &["not over"]);
    operator
        .run(&["round", "export", &format!("{name}/9"), "--out", text(&operator.path("none"))])
        .await
        .refused(2, &["there is no round"]);

    let status = operator.run(&["status", "--json"]).await.json(0);
    let log_key = status["log"]["key"].as_str().expect("a key").to_string();
    let [aggregator, authority] =
        [world.policy.aggregator, world.policy.authority].map(|key| hex::encode(key.as_bytes()));
    let pins = ["--aggregator", &aggregator, "--authority", &authority, "--log-key", &log_key];
    let audit = |file: &Path, pins: &[&str]| -> Said {
        veilsum(&[&["audit", "round", text(file), "--json"], pins].concat()).into()
    };
    // Who was lost in the first round spends the second on hearing that it is over.
    for (file, core) in files.iter().zip([6, 5]) {
        let said = audit(file, &pins).json(0);
        assert_eq!((&said["holds"], &said["failed"]), (&json!(true), &Value::Null));
        let figure = |check: &str, name: &str| {
            let checks = said["checks"].as_array().expect("a list");
            checks.iter().find(|it| it["name"] == check).expect("it was made")["figures"][name].clone()
        };
        assert_eq!((figure("survivors", "survivors"), figure("core", "members")), (json!(5), json!(core)));
    }
    // The same with a join file in place of the two keys, in words.
    let join = operator.path("join.toml");
    world.join().write(&join).expect("room");
    let words: Said =
        veilsum(&["audit", "round", text(&files[0]), "--join", text(&join), "--log-key", &log_key]).into();
    assert!(words.code == 0 && words.out.contains("The export holds"), "{}{}", words.out, words.err);

    let export = std::fs::read(&files[0]).expect("it is there");
    let bent = operator.path("bent");
    let names_what_is_wrong = |bytes: &[u8], pins: &[&str], what: &str| {
        std::fs::write(&bent, bytes).expect("room");
        let said = audit(&bent, pins).json(3);
        assert_eq!(said["holds"], false, "{what}");
        let failed = said["failed"]["check"].as_str().unwrap_or_else(|| panic!("{what}: {said}"));
        let checks = said["checks"].as_array().expect("a list");
        let check = checks.iter().find(|check| check["name"] == failed).expect("it is listed");
        assert!(
            check["outcome"] == "failed" && check["why"].is_string() && check["section"].is_string(),
            "{what}: {check}"
        );
    };
    for part in 0..24 {
        let at = part * (export.len() - 1) / 23;
        let mut changed = export.clone();
        changed[at] ^= 1;
        names_what_is_wrong(&changed, &pins, &format!("byte {at} of {}", export.len()));
    }
    names_what_is_wrong(&export[..export.len() - 1], &pins, "cut");
    let other = std::fs::read(&files[1]).expect("it is there");
    names_what_is_wrong(&[&export[..600], &other[600..]].concat(), &pins, "of two rounds");
    names_what_is_wrong(&[&export[..], &other[..]].concat(), &pins, "two, one behind the other");
    names_what_is_wrong(&[&export[600..], &export[..600]].concat(), &pins, "reordered");
    // Keys that somebody else pinned.
    names_what_is_wrong(
        &export,
        &["--aggregator", &authority, "--authority", &authority, "--log-key", &log_key],
        "another aggregator",
    );
    names_what_is_wrong(
        &export,
        &["--aggregator", &aggregator, "--authority", &aggregator, "--log-key", &log_key],
        "another authority",
    );

    audit(&files[0], &["--join", text(&join), "--log-key", "no key"]).refused(2, &["--log-key"]);
    audit(&files[0], &["--log-key", &log_key]).refused(2, &["--join"]);
    audit(&operator.path("absent"), &pins).refused(2, &["absent"]);
    // What is no export at all is refused as one.
    names_what_is_wrong(b"no export", &pins, "no export");
}
