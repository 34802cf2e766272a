//! Exports of rounds that were really played: taken from a running service over HTTP, and audited with nothing but three public
//! keys. docs/protocol.md §9, docs/wire.md §13. How the audit takes tampering apart is in crypto/tests/audit.

use std::collections::BTreeMap;

use veilsum_aggregator::store::{Retention, Store as _};
use veilsum_crypto::audit::{Export, Outcome, Pins, Report, Section, Value, audit_bytes};
use veilsum_crypto::ids::{ClientId, Digest, RoundId, Timestamp};
use veilsum_crypto::messages::ReadPermit;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::primitives::agreement::MaskingSecretKey;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey};
use veilsum_crypto::server::PhaseKind;
use veilsum_crypto::testing::os_rng;
use veilsum_crypto::transparency::checkpoint::LogKey;
use verification::hostile::*;
use verification::programs::{Said, veilsum};
use verification::world::*;

async fn ask(world: &World, target: &str) -> Answer {
    let token = format!("Bearer {}", hex::encode(ADMIN_TOKEN));
    request(world.admin(), "GET", target, &[("authorization", &token)], &[]).await
}

async fn ask_export(world: &World, round: RoundId) -> Answer {
    ask(world, &format!("/admin/v1/rounds/{round}/export")).await
}

async fn taken(world: &World, round: RoundId) -> Vec<u8> {
    let answer = ask_export(world, round).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.content_type, "application/octet-stream");
    answer.body
}

/// What an auditor got from elsewhere: here, from the status that the operator published.
async fn pins(world: &World) -> Pins {
    let status: serde_json::Value = serde_json::from_slice(&ask(world, "/admin/v1/status").await.body).expect("JSON");
    let key = |name: &str| {
        let digits = Digest::from_hex(status[name].as_str().expect("a key")).expect("64 digits");
        IdentityPublicKey::from_bytes(digits.0).expect("a key")
    };
    let log = LogKey::parse(status["log"]["key"].as_str().expect("a key")).expect("a verifier key");
    Pins { aggregator: key("aggregator_key"), authority: key("authority_key"), log }
}

#[track_caller]
fn is(report: &Report, check: &str, name: &str, expected: u64) {
    assert_eq!(report.figure(check, name), Some(&Value::Number(expected)), "{check} {name}\n{report}");
}

/// The liar's edge to one neighbour is bad, and it opens it so; one other client is lost before it uploads.
async fn a_round_with_a_complaint_and_a_loss(engine: Engine, rightly: bool) -> (World, RoundId) {
    let world = World::new(Shape { rounds: 2, engine, ..Shape::of(8) }).await;
    let mut liar = Liar::new(Hand::new(&world, 0, 1).await);
    let round = liar.hand.round;
    liar.hand.put("advertise", &liar.advert()).await.is_admitted();
    let lost = Fate { phase: "mask", moment: Moment::BeforeSending };
    let line = |number| if number == 7 { world.line().ending_at(lost) } else { world.line() };
    let others: Vec<Running> = (1..8).map(|number| world.send(number, line(number))).collect();
    let view = world.reached(round, PhaseKind::Sharing).await;
    let victim = liar.neighbours(&view)[0];
    let message = liar.deal(&view, |dealt| {
        if dealt.holder == victim {
            dealt.pair.self_mask = MaskingSecretKey::generate(&mut os_rng()).to_scalar();
        }
    });
    liar.hand.put("share", &message).await.is_admitted();
    let view = world.reached(round, PhaseKind::Acknowledging).await;
    liar.hand.put("acknowledge", &liar.acknowledgement(&world, &view).await).await.is_admitted();
    let view = world.reached(round, PhaseKind::Opening).await;
    let pair = match rightly {
        true => liar.pair(victim),
        false => SharePair { self_mask: MaskingSecretKey::generate(&mut os_rng()).to_scalar(), ..liar.pair(victim) },
    };
    liar.hand.put("open", &liar.opening(&view, BTreeMap::from([(victim, pair)]))).await.is_admitted();
    let view = world.reached(round, PhaseKind::Masking).await;
    let mut expected: Vec<usize> = (1..7).collect();
    if rightly {
        let (input, values) = liar.mask(&view);
        world.noised.lock().expect("no panic").insert(liar.hand.client(), values);
        liar.hand.put("mask", &input).await.is_admitted();
        expected.insert(0, 0);
    }
    ask_export(&world, round).await.is(409, None); // it still runs
    for (number, other) in (1..).zip(others) {
        let (line, ending) = (other.line.clone(), other.end().await);
        assert_eq!(ending.verified().is_some(), number != 7, "{ending:?}");
        kept_out(&world, round, &line).await;
    }
    world.is_exact_sum_of(round, &world.ids(expected)).await;
    (world, round)
}

/// No answer and no masked vector stands in the export, nor in the database.
async fn kept_out(world: &World, round: RoundId, line: &Line) {
    let answers = world.rounds().store().bodies(round, PhaseKind::Unmasking, None).await.expect("it answers");
    if world.over(round).await.gone().is_some() {
        assert!(answers.is_empty(), "answers are erased with the round");
    }
    let export = taken(world, round).await;
    let holds = |bytes: &[u8]| export.windows(bytes.len()).any(|window| window == bytes);
    for answer in line.sent("unmask") {
        assert!(!holds(&answer[answer.len() - 64..]), "the signature of an answer");
        assert!(!holds(&answer[150..190]), "a share of an answer");
    }
    for input in line.sent("mask") {
        assert!(
            holds(&input[..223]) || line.phases().last().is_some_and(|last| last == "mask"),
            "the upload statement"
        );
        assert!(!holds(&input[223..]), "a masked vector");
    }
}

/// C-66: what happened is what the auditor sees, on both databases, and again after a restart.
async fn a_released_round_is_audited(engine: Engine) {
    let (mut world, round) = a_round_with_a_complaint_and_a_loss(engine, true).await;
    let pins = pins(&world).await;
    let bytes = taken(&world, round).await;
    let report = audit_bytes(&bytes, &pins);
    println!("{} bytes\n{report}", bytes.len());
    assert!(report.holds(), "{report}");
    is(&report, "header", "counter", 1);
    is(&report, "roster", "n", 8);
    is(&report, "acknowledgements", "complaints", 1);
    is(&report, "openings", "openings", 1);
    is(&report, "core", "members", 8);
    is(&report, "survivors", "survivors", 7);
    is(&report, "result", "count", 7);
    is(&report, "log", "entries", 8);
    is(&report, "ledger", "rounds counted", 1);

    world.stop().await;
    world.start().await;
    let again = taken(&world, round).await;
    let (before, after) = (Export::decode(&bytes).expect("an export"), Export::decode(&again).expect("an export"));
    // Only the log may have grown meanwhile, by the opening of the next round.
    let same =
        |export: &Export| Export { checkpoint: String::new(), log: Vec::new(), growth: Vec::new(), ..export.clone() };
    assert_eq!(same(&before), same(&after));
    assert!(audit_bytes(&again, &pins).holds());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_round_with_a_complaint_and_a_loss_is_exported_and_audited() {
    a_released_round_is_audited(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_round_is_exported_and_audited_on_postgresql() {
    a_released_round_is_audited(Engine::Postgres).await;
}

/// C-66, C-67: the liar is named, its evidence is in the export, and an export of the next round, which nobody came to,
/// counts the first and proves that its own charge lapsed.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_dealer_and_the_abandoned_round_after_it_are_audited() {
    let (world, first) = a_round_with_a_complaint_and_a_loss(Engine::Sqlite, false).await;
    let pins = pins(&world).await;
    let bytes = taken(&world, first).await;
    let report = audit_bytes(&bytes, &pins);
    assert!(report.holds(), "{report}");
    is(&report, "evidence", "named", 1);
    is(&report, "core", "members", 7);
    let export = Export::decode(&bytes).expect("an export");
    assert_eq!((export.evidence[0].client, export.evidence[0].rule), (world.clients[0].id, 16));

    let second = world.round(2).await;
    world.is_abandoned(second, "roster-too-small", false).await;
    let report = audit_bytes(&taken(&world, second).await, &pins);
    assert!(report.holds(), "{report}");
    is(&report, "log", "entries", 3);
    is(&report, "ledger", "rounds counted", 1);
    is(&report, "ledger", "lapsed", 1);
    let nothing = report.checks.iter().filter(|check| check.outcome == Outcome::NothingToCheck).count();
    assert_eq!(nothing, 12, "revocations, roster to result, evidence:\n{report}");
}

/// C-66: a round that ended after masking had opened is audited too, with its reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_abandoned_after_masking_opened_is_audited() {
    let world = World::new(Shape::of(5)).await;
    let round = world.round(1).await;
    let lost = Fate { phase: "mask", moment: Moment::BeforeSending };
    world.play(&[(1, lost), (2, lost), (3, lost)]).await;
    world.is_abandoned(round, "too-few-survivors", true).await;
    let report = audit_bytes(&taken(&world, round).await, &pins(&world).await);
    assert!(report.holds(), "{report}");
    is(&report, "uploads", "uploads", 2);
    is(&report, "ledger", "rounds counted", 1);
    let ended = report.figure("survivors", "ended").map(ToString::to_string);
    assert_eq!(ended.as_deref(), Some("too few clients uploaded"));
}

/// C-59: the operator's retention ends what the export holds, and the round's record goes on without it.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_ends_with_its_retention_and_is_not_for_others() {
    let world = World::new(Shape::of(3)).await;
    let round = world.round(1).await;
    world.play(&[]).await;
    world.over(round).await;
    taken(&world, round).await;
    // Not for those who have no token, nor on the public port, nor for members by way of their reads.
    let path = format!("/admin/v1/rounds/{round}/export");
    request(world.admin(), "GET", &path, &[], &[]).await.is(401, None);
    request(world.address, "GET", &path, &[], &[]).await.is(404, None);
    let hand = Hand::new(&world, 0, 1).await;
    for what in ["leaves?i=0", "confirmations", &format!("mail/{}", world.clients[0].id)] {
        let target = hand.path(what);
        let permit = hand.permit(&target);
        let answer = hand.get(&target, Some(&permit)).await;
        assert_eq!((answer.status, answer.word().as_str()), (410, "erased"), "{what}");
    }
    ask_export(&world, RoundId([7; 16])).await.is(404, None);

    let retention = Retention { rounds_before: Timestamp(0), bodies_before: Timestamp(u64::MAX) };
    let purged = world.rounds().store().purge(retention).await.expect("it answers");
    assert_eq!((purged.rounds, purged.exports), (0, 1));
    ask_export(&world, round).await.is(410, None);
    let view: serde_json::Value =
        serde_json::from_slice(&ask(&world, &format!("/admin/v1/rounds/{round}")).await.body).expect("JSON");
    assert_eq!((&view["phase"], &view["export"]), (&"published".into(), &"erased".into()));
}

/// C-57, R-35: who holds a key that the operator pinned reads what members read, and what one of them reads, under its own
/// signature; nobody else does.
#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_auditor_reads_as_members_do_and_nobody_else_does() {
    let mut world = World::new(Shape { window_ms: 60_000, ..Shape::of(4) }).await;
    let [auditor, stranger] = [(); 2].map(|()| IdentitySecretKey::generate(&mut os_rng()));
    world.stop().await;
    world.auditors = vec![auditor.public()];
    world.start().await;
    let status: serde_json::Value = serde_json::from_slice(&ask(&world, "/admin/v1/status").await.body).expect("JSON");
    assert_eq!(status["auditor_keys"], serde_json::json!([Digest(*auditor.public().as_bytes()).to_string()]));

    let header = world.header(1).await;
    let (round, chain) = (header.round(), header.chain());
    let read = async |key: &IdentitySecretKey, signed_for: &str, target: &str| {
        let permit = ReadPermit::sign(signed_for, &chain, ClientId::from(key.public().party()), key).encode();
        request(world.address, "GET", target, &[("veilsum-read", &hex::encode(permit))], &[]).await
    };
    let path = |what: &str| format!("/v1/rounds/{round}/{what}");
    // Before there is a roster an auditor waits like everybody else; a stranger is turned away.
    assert_eq!(read(&auditor, &path("roster"), &path("roster")).await.status, 204);
    read(&stranger, &path("roster"), &path("roster")).await.is(403, Some(35));
    let gate = Gate::letting(2, "mask");
    let running: Vec<Running> = (0..4).map(|number| world.send(number, world.line().behind(&gate))).collect();
    world.reached(round, PhaseKind::Masking).await;
    let (mail, core) = (path(&format!("mail/{}", world.clients[1].id)), path("core"));
    for target in [&path("roster"), &path("leaves?i=0,2"), &mail, &core] {
        assert_eq!(read(&auditor, target, target).await.status, 200, "{target}");
        read(&stranger, target, target).await.is(403, Some(35));
        read(&auditor, &path("result"), target).await.is(403, Some(37)); // signed for another path
    }
    gate.open();
    for running in running {
        assert!(running.end().await.verified().is_some());
    }
    world.over(round).await;
    for target in [path("leaves?i=1"), path("confirmations"), path("result")] {
        assert_eq!(read(&auditor, &target, &target).await.status, 200, "{target}: kept for the export");
    }
    let gone = read(&auditor, &mail, &mail).await;
    assert_eq!((gone.status, gone.word().as_str()), (410, "erased"));
}

/// C-68, over the whole way: a byte changed on the auditor's own copy of a real export is found and named.
#[tokio::test(flavor = "multi_thread")]
async fn a_byte_changed_in_a_real_export_is_found_and_its_section_named() {
    let (world, round) = a_round_with_a_complaint_and_a_loss(Engine::Sqlite, true).await;
    let (pins, bytes) = (pins(&world).await, taken(&world, round).await);
    let mut at = 19; // after label and version
    for section in Section::ALL {
        let length = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().expect("four")) as usize;
        for offset in [0, 2, 5, 5 + length / 2, 4 + length] {
            let mut changed = bytes.clone();
            let place = (at + offset).min(at + 4 + length);
            changed[place] ^= 0x10;
            let report = audit_bytes(&changed, &pins);
            let failure = report.failure().unwrap_or_else(|| panic!("byte {place} of {section}: {report}"));
            assert_eq!(failure.section, section, "byte {place}: {report}");
        }
        at += 5 + length;
    }
}

/// C-66, C-68: the auditor's command says the same as the audit, in words and as one object, and ends with 3 where it fails.
#[tokio::test(flavor = "multi_thread")]
async fn the_auditors_command_judges_an_export_with_keys_from_elsewhere() {
    let world = World::new(Shape::of(3)).await;
    let round = world.round(1).await;
    world.play(&[]).await;
    world.over(round).await;
    let (bytes, pins) = (taken(&world, round).await, pins(&world).await);
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("it can be written");
        path.to_str().expect("UTF-8").to_string()
    };
    let join = folder.path().join("join.toml");
    world.join().write(&join).expect("it can be written");
    let (join, log) = (join.to_str().expect("UTF-8"), pins.log.to_string());
    let audit = |arguments: &[&str]| Said::from(veilsum(&[&["audit", "round"], arguments].concat()));

    let good = file("good.export", &bytes);
    let said = audit(&[&good, "--join", join, "--log-key", &log, "--json"]).json(0);
    assert_eq!((&said["holds"], &said["failed"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!(said["checks"].as_array().map(Vec::len), Some(audit_bytes(&bytes, &pins).checks.len()));
    let words = audit(&[&good, "--join", join, "--log-key", &log]);
    assert_eq!(words.code, 0, "{words:?}");
    assert!(words.out.contains("survivors 3") && words.out.contains("The export holds"), "{}", words.out);
    let keys = [pins.aggregator, pins.authority].map(|key| Digest(*key.as_bytes()).to_string());
    let by_keys = [&good, "--aggregator-key", &keys[0], "--authority-key", &keys[1], "--log-key", &log, "--json"];
    assert_eq!(audit(&by_keys).json(0), said, "the same keys, given one by one");

    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let section = audit_bytes(&changed, &pins).failure().expect("it is found").section;
    let bad = file("bad.export", &changed);
    let said = audit(&[&bad, "--join", join, "--log-key", &log, "--json"]).json(3);
    assert_eq!(said["failed"]["section"], section.name());
    let exchanged = [&good, "--aggregator-key", &keys[1], "--authority-key", &keys[0], "--log-key", &log, "--json"];
    assert_eq!(audit(&exchanged).json(3)["failed"]["section"], "header");
    audit(&[&good, "--join", join, "--log-key", "no key"]).refused(2, &["--log-key", "log.key"]);
    audit(&["nowhere.export", "--join", join, "--log-key", &log]).refused(2, &["cannot read the export"]);
    audit(&[&good, "--aggregator-key", "12", "--authority-key", &keys[1], "--log-key", &log]).refused(2, &["64"]);
}
