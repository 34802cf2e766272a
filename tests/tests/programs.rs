//! The programs that people run by hand, as processes of their own: what they do, what they print, and how they end.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use veilsum_client::config::Identity;
use veilsum_crypto::client::Policy;
use veilsum_crypto::client::policy::round_charge_of;
use veilsum_crypto::ids::{Digest, Timestamp};
use veilsum_crypto::messages::{Certificate, RevocationList};
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey};
use veilsum_crypto::rules::CertificateError;
use verification::programs::*;
use verification::world::*;

fn run(arguments: &[&str]) -> Said {
    veilsum(arguments).into()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// A vector as NumPy writes it, version 1, without its padding.
fn npy(values: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    array("<f4", &format!("({},)", values.len()), &data)
}

/// Any array, likewise.
fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let len = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &len, header.as_bytes(), data].concat()
}

/// The values of a vector that `join` wrote.
fn values_of(file: &Path) -> Vec<f32> {
    let bytes = std::fs::read(file).expect("it was written");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!(header % 64, 0, "as NumPy aligns it");
    bytes[header..].as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
}

/// An authority in a folder, its key, and clients enrolled by the program.
struct Enrolling {
    folder: tempfile::TempDir,
    key: IdentityPublicKey,
}

impl Enrolling {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("authority");
        let made = run(&["authority", "init", "--dir", text(&dir), "--json"]).json(0);
        let key = Digest::from_hex(made["authority_key"].as_str().expect("a key")).expect("64 digits");
        Self { folder, key: IdentityPublicKey::from_bytes(key.0).expect("a key") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn authority(&self, arguments: &[&str]) -> Said {
        let dir = self.path("authority");
        let (command, rest) = arguments.split_first().expect("a command");
        run(&[&["authority", command, "--dir", text(&dir)], rest].concat())
    }

    fn enrol(&self, name: &str, more: &[&str]) -> Identity {
        let path = self.path(name);
        let said = self.authority(&[&["enrol", "--json", "--out", text(&path)], more].concat()).json(0);
        let identity = Identity::read(&path).expect("an identity");
        assert_eq!(said["client"], identity.client().to_string());
        identity
    }

    fn list(&self, name: &str) -> RevocationList {
        let bytes = std::fs::read(self.path(name)).expect("a list");
        RevocationList::decode(&bytes, &self.key).expect("a list of this authority")
    }

    fn holds(&self, certificate: &Certificate, list: &RevocationList) -> Result<(), CertificateError> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        certificate.check(&self.key, Timestamp(now.as_micros() as u64), list)
    }
}

/// C-90: certificates live at most 30 days, and a client's go on under its id and keys.
#[test]
fn an_authority_enrols_and_renews_for_at_most_thirty_days() {
    let made = Enrolling::new();
    assert_eq!(mode(&made.path("authority/authority.key")), 0o600);
    for days in ["31", "0", "365"] {
        let refused = made.authority(&["enrol", "--out", text(&made.path("never")), "--days", days]);
        refused.refused(2, &["from 1 to 30 days", "R-36"]);
    }
    assert!(!made.path("never").exists());
    let alice = made.enrol("alice.toml", &["--days", "30"]);
    assert_eq!(mode(&made.path("alice.toml")), 0o600);
    let body = alice.certificate().body();
    assert_eq!(body.not_after.0 - body.not_before.0, 30 * 24 * 60 * 60 * 1_000_000);
    assert_eq!(made.holds(alice.certificate(), &RevocationList::none()), Ok(()));

    let [old, new] = ["alice.toml", "renewed.toml"].map(|name| made.path(name));
    let renewed = made.authority(&["renew", "--identity", text(&old), "--out", text(&new), "--days", "7", "--json"]);
    assert_eq!(renewed.json(0)["client"], alice.client().to_string());
    let renewed = Identity::read(&new).expect("an identity");
    assert_eq!(renewed.certificate().body().identity, body.identity, "the same key");
    // A file is never replaced, and another authority renews nothing.
    made.authority(&["renew", "--identity", text(&old), "--out", text(&old)]).refused(2, &["alice.toml"]);
    let other = Enrolling::new();
    let refused = other.authority(&["renew", "--identity", text(&old), "--out", text(&other.path("no"))]);
    refused.refused(2, &["another authority"]);
    // A second authority in one folder would end the first.
    made.authority(&["init"]).refused(2, &["holds an authority already"]);
}

/// C-91: the revocation list grows, its number grows, and who is on it stays out until it is enrolled anew.
#[test]
fn revocation_lists_are_numbered_signed_and_only_grow() {
    let made = Enrolling::new();
    let (alice, bob) = (made.enrol("alice.toml", &[]), made.enrol("bob.toml", &[]));
    made.authority(&["revoke"]).refused(2, &["nobody is named"]);
    let first = made.authority(&["revoke", "--json", "--client", &alice.client().to_string()]).json(0);
    assert_eq!((&first["number"], &first["entries"]), (&1.into(), &1.into()));
    let one = made.list("authority/revocations");
    assert_eq!(first["digest"], one.digest().to_string());
    assert_eq!(made.holds(alice.certificate(), &one), Err(CertificateError::Revoked));
    assert_eq!(made.holds(bob.certificate(), &one), Ok(()));

    let copy = made.path("list-2");
    let identity = made.path("bob.toml");
    let second = made.authority(&["revoke", "--identity", text(&identity), "--out", text(&copy)]);
    assert_eq!(second.code, 0, "{}", second.err);
    assert!(second.out.contains("revocation list 2, 2 entries") && second.out.contains("publish"), "{}", second.out);
    let two = made.list("list-2");
    assert_eq!(two, made.list("authority/revocations"));
    assert_eq!(two.entries().get(&alice.client()), one.entries().get(&alice.client()), "old entries stay as they were");
    assert_eq!(made.holds(bob.certificate(), &two), Err(CertificateError::Revoked));
    let lower = made.authority(&["revoke", "--client", &alice.client().to_string(), "--number", "2"]);
    lower.refused(2, &["has number 2"]);
    let leaps = made.authority(&["revoke", "--client", &alice.client().to_string(), "--number", "9", "--json"]);
    assert_eq!(leaps.json(0)["number"], 9);

    // Renewing would let a stolen key in again; a new key under the old id is the way.
    let refused = made.authority(&["renew", "--identity", text(&identity), "--out", text(&made.path("no"))]);
    refused.refused(2, &["was revoked", "enrol"]);
    let again = made.enrol("bob-again.toml", &["--replaces", text(&identity)]);
    assert_eq!(again.client(), bob.client());
    assert_ne!(again.certificate().body().identity, bob.certificate().body().identity);
    let lost = made.enrol("bob-anew.toml", &["--client", &bob.client().to_string()]);
    assert_eq!(lost.client(), bob.client());
    let saving_key = |name: &str| {
        let text = std::fs::read_to_string(made.path(name)).expect("it was written");
        text.lines().find(|line| line.starts_with("saving_key")).expect("it has one").to_string()
    };
    assert_eq!(saving_key("bob-again.toml"), saving_key("bob.toml"), "the saved state goes on");
    assert_ne!(saving_key("bob-anew.toml"), saving_key("bob.toml"));
    let newest = made.list("authority/revocations");
    assert_eq!(made.holds(again.certificate(), &newest), Ok(()));
    let carol = made.enrol("carol.toml", &[]).client().to_string();
    let (not_made, of_carol) = (made.path("no"), made.path("carol.toml"));
    for who in [["--client", &carol], ["--replaces", text(&of_carol)]] {
        let enrol = [&["enrol", "--out", text(&not_made)], &who[..]].concat();
        made.authority(&enrol).refused(2, &["is not revoked"]);
    }

    std::fs::write(made.path("authority/revocations"), b"cut").expect("room");
    made.authority(&["revoke", "--client", &carol]).refused(2, &["is no revocation list of this authority"]);
}

/// C-92: secrets are made once, for their owner only, and what is shown of them gives nothing away.
#[test]
fn keys_are_made_once_for_their_owner_and_shown_without_the_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let kinds = [
        ("admin-token", "admin.token"),
        ("signing", "aggregator.key"),
        ("checkpoint", "checkpoint.key"),
        ("service", "sealing.key"),
    ];
    for (kind, name) in kinds {
        let path = folder.path().join("new").join(name);
        let made = run(&["keys", "generate", "--kind", kind, "--out", text(&path), "--json"]).json(0);
        assert_eq!(mode(&path), 0o600);
        let secret = std::fs::read_to_string(&path).expect("it is there");
        assert_eq!(secret.trim_end().len(), 64);
        let shown = run(&["keys", "show", text(&path), "--json"]);
        assert_eq!(shown.json(0), made, "known by its name");
        assert!(!shown.out.contains(secret.trim_end()), "{}", shown.out);
        run(&["keys", "generate", "--kind", kind, "--out", text(&path)]).refused(2, &["never replaces"]);
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), secret);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("ours");
        run(&["keys", "show", text(&path)]).refused(2, &["chmod 600"]);
    }
    let other = folder.path().join("other");
    run(&["keys", "generate", "--kind", "signing", "--out", text(&other)]);
    run(&["keys", "show", text(&other)]).refused(2, &["--kind"]);
    let seed = std::fs::read_to_string(&other).expect("it is there");
    let seed: [u8; 32] = hex::decode(seed.trim_end()).expect("digits").try_into().expect("32 bytes");
    let public = hex::encode(IdentitySecretKey::from_bytes(&seed).public().as_bytes());
    assert_eq!(run(&["keys", "show", text(&other), "--kind", "signing", "--json"]).json(0)["public_key"], public);
}

/// C-93: completions and help exist for every shell and command; a wrong command is usage.
#[test]
fn help_completions_and_exit_codes_are_there() {
    for shell in ["bash", "zsh", "fish"] {
        let said = run(&["completions", shell]);
        assert!(said.code == 0 && said.out.contains("veilsum") && said.out.contains("join"), "{}", said.err);
    }
    let help = run(&["--help"]);
    assert!(help.out.contains("Exit codes:") && help.out.contains("no sum"), "{}", help.out);
    run(&["joni"]).refused(2, &["joni"]);
    // docs/operating.md has the same table.
    let table = std::fs::read_to_string(root().join("docs/operating.md")).expect("it is there");
    let meanings = help.out.lines().skip_while(|line| *line != "Exit codes:").skip(1);
    let mut seen = 0;
    for line in meanings.take_while(|line| !line.is_empty()) {
        let (code, meaning) = line.trim().split_once("  ").expect("a code and its meaning");
        let (word, _) = meaning.split_once(':').unwrap_or((meaning, ""));
        assert!(table.contains(&format!("| {code} | {word}")), "docs/operating.md lacks exit code {code}, {word}");
        seen += 1;
    }
    assert_eq!(seen, 5);
}

/// The files that a client of a world is given, in a folder of its own.
fn files_of(world: &World, number: usize) -> PathBuf {
    let folder = world.folder.path().join(format!("client-{number}"));
    std::fs::create_dir(&folder).expect("room");
    world.identity(number).write(&folder.join("identity.toml")).expect("room");
    world.join().write(&folder.join("join.toml")).expect("room");
    folder
}

/// `join` with the files in a folder, beside other arguments.
fn join(folder: &Path, vector: &str, more: &[&str]) -> tokio::task::JoinHandle<Said> {
    let mut command = Command::new(veilsum_program());
    command.arg("join").arg("--identity").arg(folder.join("identity.toml")).arg("--vector").arg(folder.join(vector));
    command.args(more);
    tokio::task::spawn_blocking(move || command.output().expect("it was built").into())
}

async fn built() {
    tokio::task::spawn_blocking(veilsum_program).await.expect("it is built");
}

/// C-94: `join` takes part with a vector from a file, its input is in the exact sum, the mean it writes is that of the sum,
/// and it lists its checks with the figures of the round.
#[tokio::test(flavor = "multi_thread")]
async fn join_takes_part_with_a_file_and_lists_its_checks() {
    built().await;
    let world = World::new(Shape { noise_multiplier: 0.5, rounds: 2, ..Shape::patient(4) }).await;
    let folder = files_of(&world, 3);
    std::fs::write(folder.join("update.npy"), npy(&[0.5; 8])).expect("room");
    let mean = folder.join("mean.npy");
    for counter in 1..=2 {
        let round = world.round(counter).await;
        let json: &[&str] = if counter == 1 { &["--json"] } else { &[] };
        let program = join(&folder, "update.npy", &[&["--out", text(&mean)], json].concat());
        let others: Vec<Running> = (0..3).map(|number| world.send(number, world.line())).collect();
        for other in others {
            assert!(other.end().await.verified().is_some());
        }
        let said = program.await.expect("no panic");
        let mut everybody = world.ids(0..4);
        everybody.sort_unstable();
        assert_eq!(world.survivors(round).await, everybody);
        let sum = world.released(round).await.expect("a sum").to_signed();
        let scale = world.task.file.scale * 4.0;
        let expected: Vec<f32> = sum.iter().map(|value| (*value as f64 * (1.0 / scale)) as f32).collect();
        assert_eq!(values_of(&mean), expected);
        if counter == 2 {
            assert_eq!(said.code, 0, "{}", said.err);
            for words in [
                "round 2, ",
                "ok R-04  graph: from n = 4",
                "ok R-24",
                "the sum of 4 clients was released, this client's among them",
                "own privacy budget: epsilon",
                " of 1000000 is spent",
            ] {
                assert!(said.out.contains(words), "\"{words}\" is missing in {}", said.out);
            }
            continue;
        }
        let json = said.json(0);
        assert_eq!(
            (&json["outcome"], &json["survivors"], &json["update_included"]),
            (&"released".into(), &4.into(), &true.into())
        );
        assert_eq!((&json["round"], &json["mean"]), (&round.to_string().into(), &text(&mean).into()));
        assert!(json["epsilon_spent"].as_f64().is_some_and(|epsilon| epsilon > 0.0));
        assert_eq!((&json["charged"], &json["noise"]), (&true.into(), &true.into()));
        let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
        for check in json["checks"].as_array().expect("a list") {
            assert!(
                check["phase"].is_string() && check["compared"].as_str().is_some_and(|words| words.len() > 10),
                "{check}"
            );
            *rules.entry(check["rule"].as_str().expect("a rule")).or_default() += 1;
        }
        for rule in ["R-01", "R-02", "R-04", "R-06", "R-14", "R-17", "R-22", "R-24", "R-26", "R-37"] {
            assert!(rules.contains_key(rule), "{rule} is missing in {rules:?}");
        }
    }
}

/// C-95: whatever is wrong with vector, identity or join file is said before anything is sent.
#[tokio::test(flavor = "multi_thread")]
async fn join_refuses_wrong_files_before_anything_is_sent() {
    built().await;
    let mut world = World::new(Shape::patient(4)).await;
    let round = world.round(1).await;
    let folder = files_of(&world, 0);
    let wrong: [(&str, Vec<u8>, &[&str]); 8] = [
        ("integers.npy", array("<i4", "(8,)", &[0; 32]), &["'<i4'", "astype"]),
        ("matrix.npy", array("<f4", "(2, 4)", &[0; 32]), &["(2, 4)", "ravel"]),
        ("nan.npy", npy(&[0.0, f32::NAN]), &["value 1 is NaN", "do not send"]),
        ("short.npy", npy(&[0.0; 7]), &["the task's model has 8 values", "float32[7]", "has 7", "nothing was sent"]),
        ("cut.npy", npy(&[0.0; 8])[..60].to_vec(), &["cut"]),
        ("text.npy", b"1 2 3".to_vec(), &["numpy.save"]),
        ("text.csv", b"1,2,3".to_vec(), &[".npy or .safetensors"]),
        ("none.safetensors", vec![0; 40], &["a safetensors file was expected"]),
    ];
    for (name, bytes, words) in wrong {
        std::fs::write(folder.join(name), bytes).expect("room");
        join(&folder, name, &["--json"]).await.expect("no panic").refused(2, words);
    }
    std::fs::write(folder.join("good.npy"), npy(&[0.0; 8])).expect("room");
    let refused = async |more: &[&str], words: &[&str]| {
        join(&folder, "good.npy", &[&["--json"], more].concat()).await.expect("no panic").refused(2, words);
    };
    refused(&["--weight", "2"], &["leave --weight out"]).await;
    refused(&["--tensor", "w"], &["leave --tensor out"]).await;
    refused(&["--server", "ftp://x"], &["http://"]).await;
    refused(&["--join", text(&folder.join("absent.toml"))], &["absent.toml"]).await;
    for needed in ["state", "identity.toml", "join.toml", "good.npy"] {
        refused(&["--out", text(&folder.join(needed))], &["--out", needed, "would replace"]).await;
    }
    refused(&["--task", "12"], &["32 lower-case hexadecimal digits"]).await;
    refused(&["--task", &"0".repeat(32)], &["is for task"]).await;
    std::fs::rename(folder.join("join.toml"), folder.join("away.toml")).expect("ours");
    refused(&[], &["--join FILE", "--task ID"]).await;
    refused(&["--task", &"0".repeat(32)], &["--server"]).await;
    let server = format!("http://{}", world.address);
    refused(&["--task", &"0".repeat(32), "--server", &server], &["knows no task"]).await;
    std::fs::rename(folder.join("away.toml"), folder.join("join.toml")).expect("ours");

    let identity = folder.join("identity.toml");
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o644)).expect("ours");
    refused(&[], &["chmod 600", "0644"]).await;
    let replace = |world: &World| {
        std::fs::remove_file(&identity).expect("ours");
        world.identity(0).write(&identity).expect("room");
    };
    let (authority, other) =
        (IdentitySecretKey::from_bytes(&world.authority.to_bytes()), IdentitySecretKey::from_bytes(&[9; 32]));
    world.recertify(0, &other, |_| {});
    replace(&world);
    refused(&[], &["of another deployment"]).await;
    world.recertify(0, &authority, |body| {
        body.not_before = Timestamp(body.not_before.0 - 3 * 86_400_000_000);
        body.not_after = Timestamp(body.not_before.0 + 86_400_000_000);
    });
    replace(&world);
    refused(&[], &["ended at", "veilsum authority renew"]).await;
    assert_eq!(world.admitted(round).await, 0, "nothing was sent");
    let journal = folder.join("state");
    assert!(!journal.exists(), "and nothing was written down");
}

/// Noise was on, and the client is told that it paid nothing: not the little that the formula of epsilon gives for no rounds.
#[track_caller]
fn assert_nothing_charged(said: &serde_json::Value) {
    let charge = (&said["epsilon_spent"], &said["charged"], &said["noise"]);
    assert_eq!(charge, (&0.0.into(), &false.into(), &serde_json::Value::Null), "{said}");
}

/// C-96: how a round ended for a client is its exit code: refused by its own budget 3, abandoned or nothing in time 4.
#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_of_join_says_how_the_round_ended() {
    built().await;
    let world = World::new(Shape::of(4)).await;
    let folder = files_of(&world, 0);
    std::fs::write(folder.join("update.npy"), npy(&[0.5; 8])).expect("room");
    // Its own budget does not cover the round: it sends nothing.
    let poor = folder.join("poor.toml");
    let mut policy = world.join();
    policy.policy.budget.epsilon = 0.01;
    policy.write(&poor).expect("room");
    let said = join(&folder, "update.npy", &["--join", text(&poor), "--json"]).await.expect("no panic").json(3);
    assert_eq!((&said["outcome"], &said["rule"]), (&"left-out".into(), &"R-26".into()));
    assert_eq!(
        (&said["evidence"], &said["sent_bytes"].as_u64().is_some_and(|bytes| bytes < 1_000)),
        (&serde_json::Value::Null, &true)
    );
    assert_nothing_charged(&said);
    // One of four is too few.
    let said = join(&folder, "update.npy", &["--json"]).await.expect("no panic").json(4);
    assert_nothing_charged(&said);
    assert_eq!(said["outcome"], "abandoned");
    assert!(said["reason"].as_str().is_some_and(|reason| reason.starts_with("roster-too-small")), "{said}");
    // The task is over: no further round opens.
    let said = join(&folder, "update.npy", &["--within", "1"]).await.expect("no panic");
    assert!(said.code == 4 && said.err.contains("--within"), "{}{}", said.out, said.err);
}

/// C-290: what happened in a round is told although the client's ledger cannot be read any more once it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_read_does_not_lose_what_happened_in_the_round() {
    built().await;
    // More than a pipe holds: the program waits in the middle of writing the mean, the round behind it.
    let world = World::new(Shape { model_len: 40_000, ..Shape::patient(3) }).await;
    world.round(1).await;
    let folder = files_of(&world, 0);
    std::fs::write(folder.join("update.npy"), npy(&vec![0.5; 40_000])).expect("room");
    let pipe = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it is there").success());
    let program = join(&folder, "update.npy", &["--out", text(&pipe), "--json"]);
    let others: Vec<Running> = (1..3).map(|number| world.send(number, world.line())).collect();
    let state = folder.join("state");
    let reading = tokio::task::spawn_blocking(move || {
        let mut mean = std::fs::File::open(pipe).expect("the program writes");
        std::fs::write(state, b"damaged").expect("ours");
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut mean, &mut bytes).expect("until it is written");
        bytes.len()
    });
    for other in others {
        assert!(other.end().await.verified().is_some());
    }
    assert!(reading.await.expect("no panic") > 4 * 40_000);
    let said = program.await.expect("no panic");
    assert!(said.code == 1 && said.err.contains("saving_key"), "{} {}", said.code, said.err);
    let told: serde_json::Value = serde_json::from_str(&said.out).expect("one object");
    assert_eq!((&told["outcome"], &told["update_included"]), (&"released".into(), &true.into()));
    assert_eq!((&told["epsilon_spent"], &told["charged"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert!(told["checks"].as_array().is_some_and(|checks| checks.len() > 20), "the report is there");
}

/// C-293, C-295: with a budget for one round and no more, a client takes part once. Its own ledger refuses the next round, in a new
/// process and under a new identity; so does its limit of rounds. Nothing is sent, and nothing more is charged.
#[tokio::test(flavor = "multi_thread")]
async fn a_spent_ledger_refuses_through_restarts_and_enrolment_anew() {
    built().await;
    // Nothing ends by time here.
    let world = World::new(Shape { noise_multiplier: 2.0, rounds: 2, window_ms: 600_000, ..Shape::of(4) }).await;
    world.round(1).await;
    let folder = files_of(&world, 0);
    std::fs::write(folder.join("update.npy"), npy(&[0.5; 8])).expect("room");
    let charge = round_charge_of(&world.task.params).expect("there is noise");
    let one = charge.epsilon(world.join().policy.budget.delta).epsilon;
    let with = |name: &str, change: fn(&mut Policy, f64)| {
        let (mut join, path) = (world.join(), folder.join(name));
        change(&mut join.policy, one);
        join.write(&path).expect("room");
        text(&path).to_string()
    };
    let poor = with("poor.toml", |policy, one| policy.budget.epsilon = one * 1.01);
    let once = with("once.toml", |policy, _| policy.rounds_max = Some(1));
    let apart = with("apart.toml", |policy, _| policy.rounds_apart_min = 1_000);

    // Enrolled anew by the authority's program, before the second round opens, so that the new certificate holds in it. The service
    // is not given the list: the old identity goes on for now.
    let authority = folder.join("authority");
    std::fs::create_dir(&authority).expect("room");
    let key = authority.join("authority.key");
    std::fs::write(&key, Digest(*world.authority.to_bytes()).to_string()).expect("room");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let (old, new) = (folder.join("identity.toml"), folder.join("again.toml"));
    let authorised = |arguments: &[&str]| {
        let said = run(&[&["authority"], arguments, &["--dir", text(&authority)]].concat());
        assert_eq!(said.code, 0, "{}", said.err);
    };
    authorised(&["revoke", "--identity", text(&old)]);
    authorised(&["enrol", "--replaces", text(&old), "--out", text(&new)]);

    let program = join(&folder, "update.npy", &["--join", &poor, "--json"]);
    let others: Vec<Running> = (1..4).map(|number| world.send(number, world.line())).collect();
    for other in others {
        assert!(other.end().await.verified().is_some());
    }
    let said = program.await.expect("no panic").json(0);
    assert_eq!((&said["outcome"], &said["charged"]), (&"released".into(), &true.into()));
    let spent = said["epsilon_spent"].as_f64().expect("charged");
    assert!((spent / one - 1.0).abs() < 1e-6, "{spent} of {one}");

    let refused = |said: Said, words: &str| {
        let said = said.json(3);
        assert_eq!((&said["outcome"], &said["rule"]), (&"left-out".into(), &"R-26".into()), "{said}");
        assert_eq!((said["epsilon_spent"].as_f64(), &said["charged"]), (Some(spent), &false.into()), "{said}");
        assert!(said["reason"].as_str().is_some_and(|reason| reason.contains(words)), "{said}");
    };
    let round = world.round(2).await;
    for (file, words) in [
        (&poor, "privacy budget"),
        (&poor, "privacy budget"),
        (&once, "took part in 1 round(s)"),
        (&apart, "in none before round 1001"),
    ] {
        refused(join(&folder, "update.npy", &["--join", file, "--json"]).await.expect("no panic"), words);
    }
    assert_eq!(world.admitted(round).await, 0);

    // Under the new identity: the state goes on, and with it the ledger.
    std::fs::rename(&new, &old).expect("ours");
    for (file, words) in [(&poor, "privacy budget"), (&once, "took part in 1 round(s)")] {
        refused(join(&folder, "update.npy", &["--join", file, "--json"]).await.expect("no panic"), words);
    }
    assert_eq!(world.admitted(round).await, 0);
}

/// C-294: a round that does not end is left by a command, for good; without one there is nothing to leave.
#[tokio::test(flavor = "multi_thread")]
async fn join_leaves_a_round_that_does_not_end() {
    built().await;
    let world = World::new(Shape { window_ms: 600_000, ..Shape::of(3) }).await;
    let round = world.round(1).await;
    let folder = files_of(&world, 0);
    std::fs::write(folder.join("update.npy"), npy(&[0.5; 8])).expect("room");
    let leave = || run(&["join", "--identity", text(&folder.join("identity.toml")), "--leave", "--json"]).json(0);
    assert_eq!(leave()["left"], false);
    // Nobody else comes; the advert was on disk before it was sent.
    let mut command = Command::new(veilsum_program());
    command.arg("join").arg("--identity").arg(folder.join("identity.toml"));
    let mut program = command.arg("--vector").arg(folder.join("update.npy")).spawn().expect("it was built");
    while world.admitted(round).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    program.kill().expect("it waits");
    program.wait().expect("it is gone");
    assert_eq!((&leave()["left"], &leave()["left"]), (&true.into(), &false.into()));
    // It comes back for the next round only.
    let said = join(&folder, "update.npy", &["--within", "2"]).await.expect("no panic");
    assert!(said.code == 4 && said.out.contains("waiting for a round"), "{}{}", said.out, said.err);
    // And windows beyond what this call permits are refused.
    let other = files_of(&world, 1);
    std::fs::write(other.join("update.npy"), npy(&[0.5; 8])).expect("room");
    let said = join(&other, "update.npy", &["--window-max", "599", "--json"]).await.expect("no panic").json(3);
    assert!(said["reason"].as_str().is_some_and(|reason| reason.contains("the longest window")), "{said}");
    assert_eq!(world.admitted(round).await, 1);
}

/// C-97: without a join file the aggregator's key is pinned at first use, and said aloud; the authority is the identity's.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_join_pins_the_key_that_the_service_names() {
    built().await;
    let world = World::new(Shape { noise_multiplier: 4.0, ..Shape::patient(3) }).await;
    let round = world.round(1).await;
    let folder = files_of(&world, 0);
    let pinned = folder.join("join.toml");
    let written = std::fs::read_to_string(&pinned).expect("it is there");
    std::fs::remove_file(&pinned).expect("ours");
    std::fs::write(folder.join("update.npy"), npy(&[0.5; 8])).expect("room");
    let (server, task) = (format!("http://{}", world.address), world.task.id.to_string());
    let program = join(&folder, "update.npy", &["--server", &server, "--task", &task]);
    let others: Vec<Running> = (1..3).map(|number| world.send(number, world.line())).collect();
    for other in others {
        assert!(other.end().await.verified().is_some());
    }
    let said = program.await.expect("no panic");
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let key = hex::encode(world.policy.aggregator.as_bytes());
    assert!(said.out.contains("taken on trust: the aggregator's key") && said.out.contains(&key), "{}", said.out);
    assert_eq!(world.survivors(round).await.len(), 3);
    let now = std::fs::read_to_string(&pinned).expect("it was written");
    let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_string);
    for name in ["aggregator_key", "authority_key", "task"] {
        assert_eq!(line(&now, name), line(&written, name), "{name}");
    }
}

/// C-98: the service runs where the authority's folder is not, and takes no path to its key.
#[test]
fn serve_never_reads_the_authoritys_key() {
    let made = Enrolling::new();
    let key = hex::encode(made.key.as_bytes());
    let secret = made.path("authority/authority.key");
    let data = made.path("data");
    let config = made.path("veilsum.toml");
    let serve = |authority: &str, more: &str| {
        let text = format!(
            "listen = \"127.0.0.1:0\"\noperations = \"127.0.0.1:0\"\ndata_dir = \"{}\"\nauthority_key = \"{authority}\"\n{more}",
            data.display()
        );
        std::fs::write(&config, text).expect("room");
        Command::new(veilsum_program())
            .args(["serve", "--json", "--config", self::text(&config)])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("it was built")
    };
    // A path where the public key belongs, and keys of the configuration that would name one.
    let ended = |child: std::process::Child| -> Said { child.wait_with_output().expect("it ends").into() };
    ended(serve(text(&secret), "")).refused(2, &["authority_key must be 64"]);
    for more in ["authority_dir = \"authority\"", "authority_secret = \"authority/authority.key\""] {
        ended(serve(&key, more)).refused(2, &["unknown field"]);
    }
    // The secret itself has the form of a public key; it must not be there at all.
    std::fs::remove_dir_all(made.path("authority")).expect("ours");
    let mut child = serve(&key, "");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().expect("piped")), &mut line)
        .expect("it says that it listens");
    let serving: serde_json::Value = serde_json::from_str(&line).expect("one object");
    assert!(serving["listen"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{line}");
    child.kill().expect("ours");
    child.wait().expect("ours");
}

/// A setting of `config check --json`, and who said so.
fn setting<'a>(said: &'a serde_json::Value, key: &str) -> (&'a serde_json::Value, &'a serde_json::Value) {
    let settings = said["settings"].as_array().expect("a list");
    let found = settings.iter().find(|setting| setting["key"] == key).expect("every key is there");
    (&found["value"], &found["origin"])
}

/// The checks of `config check --json` that fail, each with what was found.
fn failing(said: &serde_json::Value) -> BTreeMap<&str, &str> {
    let checks = said["checks"].as_array().expect("a list").iter();
    let failing = checks.filter(|check| check["holds"] == false);
    failing.map(|check| (check["what"].as_str().expect("words"), check["found"].as_str().expect("words"))).collect()
}

/// C-230: each setting is shown with where it came from and without passwords; what would keep `serve` from starting is said
/// beforehand, and a look changes nothing.
#[test]
fn a_configuration_is_explained_and_checked_before_it_is_used() {
    let made = Enrolling::new();
    let (config, data) = (made.path("veilsum.toml"), made.path("data"));
    let key = hex::encode(made.key.as_bytes());
    let write = |more: &str| {
        let text = format!("data_dir = \"{}\"\nauthority_key = \"{key}\"\nretention_days = 40\n{more}", data.display());
        std::fs::write(&config, text).expect("room");
    };
    let check = |environment: &[(&str, &str)], more: &[&str]| -> Said {
        let mut command = Command::new(veilsum_program());
        command.args(["config", "check", "--config", text(&config)]).args(more);
        command.envs(environment.iter().copied()).output().expect("it was built").into()
    };
    run(&["config", "check", "--config", "nowhere.toml"]).refused(2, &["nowhere.toml", "docs/operating.md"]);

    write("");
    let said = check(&[("VEILSUM_EXPORT_RETENTION_DAYS", "7")], &["--json"]).json(0);
    assert_eq!(setting(&said, "data_dir").1, "file");
    assert_eq!(setting(&said, "retention_days"), (&40.into(), &"file".into()));
    assert_eq!(setting(&said, "export_retention_days"), (&7.into(), &"environment".into()));
    assert_eq!(setting(&said, "listen"), (&"127.0.0.1:8443".into(), &"default".into()));
    assert_eq!(said["holds"], true);
    assert!(!data.exists(), "a look makes nothing");
    let words = check(&[], &[]);
    assert!(words.out.contains("serve would start with this"), "{}", words.out);

    // Everything that is wrong at once, each in its own line; the password is in none.
    let secret = made.path("data/service/aggregator.key");
    std::fs::create_dir_all(secret.parent().expect("a folder")).expect("room");
    std::fs::write(&secret, "00").expect("room");
    std::fs::write(made.path("no-list"), "no list").expect("room");
    let list = format!("revocation_file = \"{}\"\n", made.path("no-list").display());
    write(&format!("{list}auditor_keys = [\"12\"]\n[[tasks]]\nfile = \"nowhere/task.toml\"\n"));
    let away = "postgres://veilsum:hush-hush@127.0.0.1:1/veilsum";
    let environment = [("VEILSUM_DATABASE", away)];
    let said = check(&environment, &["--json"]).json(3);
    assert_eq!(setting(&said, "database").0, "postgres://veilsum:***@127.0.0.1:1/veilsum");
    let wrong = failing(&said);
    for (what, words) in [
        ("auditor keys", "64 lower-case"),
        ("tasks", "nowhere/task.toml"),
        ("revocation list", "no list of this authority"),
        ("service keys", "aggregator.key only"),
        ("database", "aggregator.key only"),
    ] {
        assert!(wrong.get(what).is_some_and(|found| found.contains(words)), "{what}: {wrong:?}");
    }
    assert_eq!(wrong.len(), 5, "{wrong:?}");
    std::fs::remove_dir_all(&data).expect("ours");
    let said = check(&environment, &["--json"]).json(3);
    assert!(failing(&said)["database"].contains("check that it runs"), "{said}");
    let words = check(&environment, &[]);
    assert_eq!(words.code, 3);
    for shown in [&words.out, &words.err, &said.to_string()] {
        assert!(!shown.contains("hush-hush"), "{shown}");
    }
}

/// C-231: a database that holds another aggregator's rounds, another sealing key, and a part of the keys, are each refused at
/// the start, and by `config check` before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_aggregator_and_a_part_of_the_keys_are_refused() {
    built().await;
    let mut world = World::new(Shape::of(3)).await;
    world.round(1).await;
    world.stop().await;
    let (config, data) = (world.folder.path().join("veilsum.toml"), world.folder.path().join("data"));
    let text = format!(
        "listen = \"127.0.0.1:0\"\noperations = \"127.0.0.1:0\"\ndata_dir = \"{}\"\nauthority_key = \"{}\"\ndatabase = \"sqlite:{}\"\n",
        data.display(),
        hex::encode(world.authority.public().as_bytes()),
        world.folder.path().join("world.sqlite").display(),
    );
    std::fs::write(&config, text).expect("room");
    let check = |code| run(&["config", "check", "--config", self::text(&config), "--json"]).json(code);
    let refused = |words: &str| {
        run(&["serve", "--config", self::text(&config)]).refused(1, &[words]);
        let said = check(3);
        assert!(failing(&said)["database"].contains(words), "{said}");
    };
    let exchange = |name: &str| {
        let path = data.join("service").join(name);
        let kept = std::fs::read(&path).expect("it is there");
        std::fs::write(&path, hex::encode([7; 32])).expect("room");
        move || std::fs::write(&path, kept).expect("room")
    };

    world.write_keys(&data);
    check(0);
    let back = exchange("sealing.key");
    refused("give it the newest sealing.key, or restore the old one");
    back();
    let back = exchange("aggregator.key");
    refused("another aggregator key");
    back();
    check(0);
    std::fs::remove_file(data.join("service/checkpoint.key")).expect("it is there");
    refused("sealing.key, aggregator.key only");
    assert!(!data.join("service/checkpoint.key").exists(), "no new one is made beside the old");
}

/// C-93: whoever reads a command's output may stop reading.
#[test]
fn a_reader_who_goes_away_is_no_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("admin.token");
    let mut generate = Command::new(veilsum_program());
    generate.args(["keys", "generate", "--out", text(&key)]);
    let mut child = generate
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it was built");
    drop(child.stdout.take()); // it has hardly begun
    let said: Said = child.wait_with_output().expect("it ends").into();
    assert!(said.code == 0 && said.err.is_empty(), "{}: {}", said.code, said.err);
    assert_eq!(mode(&key), 0o600, "what it was asked for is done");
}
