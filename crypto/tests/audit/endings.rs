//! Every way in which a round can end is exported and audited; what the report says is what happened.

use veilsum_crypto::audit::{Outcome, Value};
use veilsum_crypto::ids::ClientId;
use veilsum_crypto::messages::{Answer, EdgeReport};
use veilsum_crypto::primitives::agreement::{MaskingSecretKey, Point};
use veilsum_crypto::server::*;
use veilsum_crypto::testing::*;

use crate::made::*;
use crate::stage::*;

fn number(report: &veilsum_crypto::audit::Report, check: &str, name: &str) -> u64 {
    match report.figure(check, name) {
        Some(Value::Number(number)) => *number,
        other => panic!("{check}: {name} is {other:?}\n{report}"),
    }
}

fn text(report: &veilsum_crypto::audit::Report, check: &str, name: &str) -> String {
    report.figure(check, name).unwrap_or_else(|| panic!("{check} has no {name}\n{report}")).to_string()
}

/// C-66: a released round with a complaint that was settled and a client that was lost.
#[test]
fn a_released_round_audits_and_its_figures_are_those_of_the_round() {
    let (export, pins) = released(true);
    let report = report(&export, &pins);
    assert!(report.holds(), "{report}");
    let passed = report.checks.iter().filter(|check| check.outcome == Outcome::Passed).count();
    assert_eq!(passed, report.checks.len() - 1, "all but evidence, of which there is none:\n{report}");
    for (check, name, expected) in [
        ("header", "counter", 3),
        ("revocations", "number", 4),
        ("roster", "n", 12),
        ("roster", "k", 8),
        ("roster", "t", 5),
        ("roster", "c", 1),
        ("roster", "T", 3),
        ("leaves", "distinct keys", 48),
        ("shares", "dealers", 12),
        ("acknowledgements", "complaints", 1),
        ("openings", "openings", 1),
        ("core", "members", 12),
        ("uploads", "uploads", 11),
        ("survivors", "survivors", 11),
        ("result", "count", 11),
        ("log", "entries", 8),
        ("ledger", "rounds counted", 2),
        ("ledger", "lapsed", 1),
    ] {
        assert_eq!(number(&report, check, name), expected, "{check} {name}\n{report}");
    }
    assert_eq!(text(&report, "result", "ended"), "released");
    // Two rounds at the cost of one each: more than one of them, less than twice.
    let (Some(Value::Real(one)), Some(Value::Real(all))) =
        (report.figure("header", "epsilon"), report.figure("ledger", "epsilon at most"))
    else {
        panic!("{report}")
    };
    assert!(one < all && *all < 2.0 * one, "{one} {all}");
}

/// C-66, C-67: whoever opened wrongly is named, and the evidence convinces.
#[test]
fn a_round_that_names_a_dealer_audits_with_its_evidence() {
    let (export, pins) = released(false);
    let report = report(&export, &pins);
    assert!(report.holds(), "{report}");
    assert_eq!(number(&report, "evidence", "named"), 1);
    assert_eq!(number(&report, "openings", "dealers named"), 1);
    assert_eq!(number(&report, "core", "members"), 11);
    assert_eq!(number(&report, "log", "entries"), 8, "a wrong opening is logged too");
}

/// C-67: messages that were refused prove what they are kept for; an answer that lies, too.
#[test]
fn evidence_by_every_rule_convinces_the_auditor() {
    let mut stage = Stage::twelve();
    let mut liar = Liar::new(&stage.play.world, 5);
    let honest = liar.advert(&stage.play.world);
    // one key twice in a leaf; another leaf of the same client is then admitted.
    let keys = liar.keys;
    liar.keys.self_mask.0 = liar.keys.masking.0;
    let double = liar.advert(&stage.play.world);
    liar.keys = keys;
    stage.refuse(PhaseKind::Advertising, liar.client(), &double);
    let clients = stage.advertise_with(&[(liar.client(), honest)]);
    // points off the polynomial; then an honest message is admitted.
    let mut bent = false;
    let off = liar.deal(&stage.play, |dealt| {
        if !std::mem::replace(&mut bent, true) {
            dealt.masking_point = Point::of(&MaskingSecretKey::generate(&mut os_rng()).to_scalar());
        }
    });
    stage.refuse(PhaseKind::Sharing, liar.client(), &off);
    let dealt = liar.deal(&stage.play, |_| {});
    stage.play.put(liar.client(), &dealt);
    let clients = stage.play.share(clients);
    // more complaints than an honest holder can have.
    let play = &stage.play;
    let everybody = acknowledgement(play, liar.client(), |dealer| EdgeReport::Complaint {
        edge: edge_hash(play, dealer, liar.client()),
    });
    stage.refuse(PhaseKind::Acknowledging, liar.client(), &everybody);
    let good = liar.acknowledgement(&stage.play);
    stage.play.put(liar.client(), &good);
    let clients = stage.play.acknowledge(clients);
    let clients = stage.play.mask(clients);
    let clients = stage.play.confirm(clients);
    // the first holder of the roster answers with another share.
    let confirmations = stage.play.aggregator.bodies(PhaseKind::Confirming);
    let play = &mut stage.play;
    let mut first = None;
    for (id, phase) in clients {
        let (_, body) = play.world.turn(phase.unmask(&confirmations).expect("they agree"));
        let body = if first.is_some() { body } else { lie(play, id, &body) };
        first.get_or_insert(id);
        play.put(id, &body);
    }
    play.aggregator.close(&play.world);
    assert_eq!(play.aggregator.phase.kind(), PhaseKind::Published);

    let (export, pins) = stage.export();
    let rules: Vec<(u8, u8)> = export.evidence.iter().map(|named| (named.phase, named.rule)).collect();
    assert_eq!(rules, [(0, 9), (1, 38), (2, 16), (6, 29)]);
    let report = report(&export, &pins);
    assert!(report.holds(), "{report}");
    assert_eq!(number(&report, "evidence", "named"), 4);
    // None of it names anybody else, or for anything else.
    for at in 0..4 {
        for (other, what) in [(0_u8, "client"), (1, "rule"), (2, "phase"), (3, "message")] {
            let mut framed = export.clone();
            let named = &mut framed.evidence[at];
            match other {
                0 => named.client = client_id(2),
                1 => named.rule = if named.rule == 29 { 13 } else { 29 },
                2 => named.phase = if named.phase == 5 { 4 } else { 5 },
                _ => *named.evidence.last_mut().expect("bytes") ^= 1,
            }
            framed.evidence.sort_by_key(|named| (named.phase, named.client));
            let why = fails(&framed, &pins, veilsum_crypto::audit::Section::Evidence);
            assert!(why.contains("against"), "{what}: {why}");
        }
    }
}

/// An answer with a wrong share for its first neighbour.
fn lie(play: &Play, id: ClientId, body: &[u8]) -> Vec<u8> {
    let asked =
        neighbours(play, id).into_iter().filter(|it| core_in_force(play).members().has(leaf(play, *it))).count();
    let mut shares = Answer::decode(body, asked).expect("as sent").shares().to_vec();
    shares[0] = Some(MaskingSecretKey::generate(&mut os_rng()).to_scalar());
    let Phase::Unmasking(unmasking) = &play.aggregator.phase else { panic!("answers come now") };
    let (chain, key) = (&play.world.facts.chain, &member(play, id).identity);
    Answer::sign(shares, chain, unmasking.survivors().root(), id, key).encode()
}

/// C-66: rounds that ended early audit as well, each with the reason that its messages show.
#[test]
fn abandoned_rounds_audit_with_the_reason_that_their_messages_show() {
    // Nobody's roster.
    let mut stage = Stage::twelve();
    stage.play.aggregator.close(&stage.play.world);
    let none = stage.export();
    // Too few dealt.
    let mut stage = Stage::twelve();
    let mut clients = stage.advertise();
    lose(&mut clients, 4);
    stage.play.share(clients);
    let few_dealt = stage.export();
    // Too few acknowledged.
    let mut stage = Stage::twelve();
    let clients = stage.advertise();
    let mut clients = stage.play.share(clients);
    lose(&mut clients, 4);
    stage.play.acknowledge(clients);
    let few_acknowledged = stage.export();
    // Too few uploaded.
    let mut stage = Stage::twelve();
    let clients = stage.advertise();
    let clients = stage.play.share(clients);
    let mut clients = stage.play.acknowledge(clients);
    lose(&mut clients, 4);
    stage.play.mask(clients);
    let few_uploaded = stage.export();
    // Too few confirmed.
    let mut stage = Stage::twelve();
    let clients = stage.advertise();
    let clients = stage.play.share(clients);
    let clients = stage.play.acknowledge(clients);
    let mut clients = stage.play.mask(clients);
    lose(&mut clients, 9);
    stage.play.confirm(clients);
    let few_confirmed = stage.export();
    // Too few answered.
    let mut stage = Stage::twelve();
    let clients = stage.advertise();
    let clients = stage.play.share(clients);
    let clients = stage.play.acknowledge(clients);
    let clients = stage.play.mask(clients);
    let mut clients = stage.play.confirm(clients);
    lose(&mut clients, 9);
    stage.play.unmask(clients);
    let few_answered = stage.export();

    for ((export, pins), check, ended, entries, counted) in [
        (none, None, "", 3, 1),
        (few_dealt, Some("shares"), "too few clients have their shares in place", 4, 1),
        (few_acknowledged, Some("core"), "too few clients have their shares in place", 4, 1),
        (few_uploaded, Some("survivors"), "too few clients uploaded", 5, 2),
        (few_confirmed, Some("confirms"), "the survivors were not confirmed", 6, 2),
        (few_answered, Some("result"), "too few valid answers to open the sum", 7, 2),
    ] {
        let report = report(&export, &pins);
        assert!(report.holds(), "{check:?}: {report}");
        if let Some(check) = check {
            assert_eq!(text(&report, check, "ended"), ended);
        }
        assert_eq!(number(&report, "log", "entries"), entries, "{check:?}");
        assert_eq!(number(&report, "ledger", "rounds counted"), counted, "{check:?}: charged from the core on");
    }
}

/// C-66: other keys than those pinned convince nobody.
#[test]
fn an_export_of_another_aggregator_authority_or_log_fails() {
    let (export, pins) = released(true);
    let other = veilsum_crypto::primitives::signature::IdentitySecretKey::generate(&mut os_rng()).public();
    let key = veilsum_crypto::transparency::checkpoint::CheckpointKey::generate(&mut os_rng());
    use veilsum_crypto::audit::{Pins, Section};
    fails(&export, &Pins { aggregator: other, ..pins.clone() }, Section::Header);
    fails(&export, &Pins { authority: other, ..pins.clone() }, Section::Header);
    let log = key.verifier("veilsum.test/log").expect("a name");
    fails(&export, &Pins { log, ..pins.clone() }, Section::Checkpoint);
    let log = key.verifier("another.test/log").expect("a name");
    fails(&export, &Pins { log, ..pins }, Section::Checkpoint);
}

/// The time of an audit at n = 64; printed, not judged.
#[test]
fn a_round_of_64_audits() {
    let mut stage = Stage::new(World::new(demo_params(64)));
    let clients = stage.advertise();
    let mut clients = stage.play.share(clients);
    lose(&mut clients, 4);
    let mut clients = stage.play.acknowledge(clients);
    lose(&mut clients, 4);
    let clients = stage.play.mask(clients);
    let clients = stage.play.confirm(clients);
    stage.play.unmask(clients);
    let (export, pins) = stage.export();
    let bytes = export.encode();
    let start = std::time::Instant::now();
    let report = veilsum_crypto::audit::audit_bytes(&bytes, &pins);
    println!("n = 64: {} bytes audited in {:?}\n{report}", bytes.len(), start.elapsed());
    assert!(report.holds(), "{report}");
    assert_eq!(number(&report, "survivors", "survivors"), 56);
}
