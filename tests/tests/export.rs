//! Exports of rounds that were really played: taken from a running service over HTTP, and audited with nothing but three public
//! keys. docs/protocol.md §9, docs/wire.md §13. How the audit takes tampering apart is in crypto/tests/audit.

use std::collections::BTreeMap;

use veilsum_aggregator::store::{Retention, Store as _};
use veilsum_crypto::audit::{Export, Outcome, Pins, Report, Section, Value, audit_bytes};
use veilsum_crypto::ids::{Digest, RoundId, Timestamp};
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::primitives::agreement::MaskingSecretKey;
use veilsum_crypto::primitives::signature::IdentityPublicKey;
use veilsum_crypto::server::PhaseKind;
use veilsum_crypto::testing::os_rng;
use veilsum_crypto::transparency::checkpoint::LogKey;
use verification::hostile::*;
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
