//! A, continued: statements and keys that come twice, too late, or that were ended. Victims are real clients, over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use veilsum_client::RoundOutcome;
use veilsum_client::transport::Reply;
use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::key_advertisement::RoundKeys;
use veilsum_crypto::messages::{Certificate, Header, KeyAdvertisement};
use veilsum_crypto::primitives::agreement::MaskingPublicKey;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed};
use veilsum_crypto::rules::{CertificateError, Rejection};
use veilsum_crypto::server::{PhaseKind, StatementKind};
use veilsum_crypto::testing::{Play, client_id, small_params};

use super::a_views::{admitted, directory, own_keys};
use super::{Scale, Seen, trying};
use crate::hostile::server::{Server, same_people};
use crate::hostile::victims::{Served, face, hands, once, take_part};
use crate::hostile::{Hand, SMALL_ORDER, leaf_of};
use crate::world::{Running, Shape};

/// A11. After the first roster was shown and logged, a second one with one leaf more.
pub async fn a11_late_insertion(_: Scale) -> Seen {
    let mut params = small_params(7, 8);
    (params.roster_min, params.cohort_min) = (6, 5);
    params.ring_bits = params.ring_bits_needed().expect("wide enough");
    let first = |server: &Server| {
        let mut leaves = admitted(server);
        leaves.pop_last();
        leaves
    };
    for inserts in [false, true] {
        let is_second = Arc::new(AtomicBool::new(false));
        let (switch, mut without, mut with) = (is_second.clone(), directory(first), directory(admitted));
        let server = Server::with(params).telling(move |server, asked| {
            if switch.load(Ordering::SeqCst) {
                return if inserts { with(server, asked) } else { without(server, asked) };
            }
            // The first roster is shown; its leaves are late, so that the client has nothing but the roster.
            if asked.reads("leaves") { Some(Reply::new(204, [])) } else { without(server, asked) }
        });
        let served = Served::open(server).await;
        let mut participant = served.participant(0, |_| {}, &hands()).await;
        let cut_short = tokio::time::timeout(Duration::from_millis(700), once(&mut participant)).await;
        assert!(cut_short.is_err(), "it waits for leaves: {cut_short:?}");
        drop(participant); // the process ends, and starts again
        is_second.store(true, Ordering::SeqCst);
        let mut participant = served.participant(0, |_| {}, &hands()).await;
        if inserts {
            take_part(&served, &mut participant).await.stopped(2, &["advertise"]);
        } else {
            // The control: shown the same roster again, it deals. (The rest of this server has another.)
            let _ = tokio::time::timeout(Duration::from_secs(2), once(&mut participant)).await;
            let server = served.server.lock().expect("no panic");
            assert!(server.heard(server.victim(), "share").is_some(), "the roster that it holds is good");
        }
    }
    // The honest aggregator has one roster, and nobody joins it late.
    let world = crate::world::World::new(Shape::patient(3)).await;
    let round = world.round(1).await;
    let running: Vec<Running> = (0..3).map(|number| world.send(number, world.line())).collect();
    world.reached(round, PhaseKind::Sharing).await;
    let before = world.rounds().statement(round, StatementKind::Roster).await.expect("it is fixed");
    let hand = Hand::new(&world, 0, 1).await;
    let (late, key) = (ClientId([0xee; 16]), IdentitySecretKey::from_bytes(&crate::world::random()));
    let body = CertificateBody { client: late, identity: key.public(), ..*hand.member.certificate.body() };
    let certificate = Certificate::issue(body, &world.authority);
    let leaf = KeyAdvertisement::sign(certificate, own_keys(), &hand.header, &key).encode();
    let answer = hand.put_as(late, "advertise", &leaf).await;
    answer.is(410, None);
    for running in running {
        assert!(running.end().await.verified().is_some());
    }
    let after = world.rounds().statement(round, StatementKind::Roster).await.expect("it stays");
    assert_eq!(before, after, "one roster a round");
    Seen::new(
        "shown the first roster, restarted, then shown one with a leaf more: the client stopped (R-02) and dealt nothing; shown the \
         first again it dealt. The real aggregator answered a late advert 410 and served one roster before and after",
    )
    .count("aborts", 1)
}

/// A12. One key in two places, or keys that make a secret guessable: at clients and at the aggregator.
pub async fn a12_duplicate_or_weak_keys(_: Scale) -> Seen {
    // At clients: the server admits itself what an aggregator must refuse, and holds the liar's identity key.
    type Bend = fn(RoundKeys, RoundKeys) -> RoundKeys;
    let copies: [(&str, Bend, u8); 5] = [
        ("S of another", |own, other| RoundKeys { masking: other.masking, ..own }, 9),
        ("B of another", |own, other| RoundKeys { self_mask: other.self_mask, ..own }, 9),
        ("C of another", |own, other| RoundKeys { channel: other.channel, ..own }, 9),
        ("another's B as S", |own, other| RoundKeys { masking: MaskingPublicKey(other.self_mask.0), ..own }, 9),
        ("S as its own B", |own, _| RoundKeys { masking: MaskingPublicKey(own.self_mask.0), ..own }, 6),
    ];
    for (what, bend, rule) in copies {
        trying(what);
        let lie = directory(move |server| {
            let (liar, other) = (server.client(5), server.client(4));
            let mut leaves = admitted(server);
            let keys = |leaf: &[u8]| *KeyAdvertisement::decode(leaf).expect("admitted").keys();
            let keys = bend(keys(&leaves[&liar]), keys(&leaves[&other]));
            let member = &server.play.world.members[5];
            let header = &server.play.world.facts.header;
            let leaf = KeyAdvertisement::sign(member.certificate.clone(), keys, header, &member.identity);
            leaves.insert(liar, leaf.encode());
            leaves
        });
        let (faced, _) = face(Server::six().telling(lie), |_| {}).await;
        faced.stopped(rule, &["advertise"]);
    }
    let mut weak = 0;
    for (at, key) in SMALL_ORDER.iter().map(|key| (64, *key)).chain([(0, [0; 32]), (32, [0; 32])]) {
        trying(&hex::encode(key));
        let lie = directory(move |server| {
            let liar = server.client(5);
            let mut leaves = admitted(server);
            let parts = KeyAdvertisement::decode(&leaves[&liar]).expect("admitted");
            let advert = Signed::decode(&leaves[&liar][4 + 260 + 4..], labels::ADVERT).expect("admitted");
            let mut statement = advert.statement().clone();
            statement.body[at..at + 32].copy_from_slice(&key);
            let advert = statement.sign(&server.play.world.members[5].identity).encode();
            leaves.insert(liar, leaf_of(&parts.certificate().encode(), &advert));
            leaves
        });
        let (faced, _) = face(Server::six().telling(lie), |_| {}).await;
        assert!(matches!(faced.outcome(), RoundOutcome::Stopped { .. }), "{:?}", faced.ended);
        assert_eq!(faced.sent, ["advertise"]);
        weak += 1;
    }
    // At the aggregator: weak keys are E05; here, keys that another client brought first, and one identity under two ids.
    let world = crate::world::World::new(Shape::patient(5)).await;
    let mut first = Hand::new(&world, 0, 1).await;
    let advert = first.advert().await;
    first.put("advertise", &advert).await.is_admitted();
    let theirs = *KeyAdvertisement::decode(&advert).expect("its own").keys();
    let mut second = Hand::new(&world, 1, 1).await;
    let good = second.advert().await;
    let mine = *KeyAdvertisement::decode(&good).expect("its own").keys();
    let resigned = |keys| {
        let member = &second.member;
        KeyAdvertisement::sign(member.certificate.clone(), keys, &second.header, &member.identity).encode()
    };
    for (_, bend, _) in &copies[..4] {
        second.put("advertise", &resigned(bend(mine, theirs))).await.is(409, Some(9));
    }
    second.put("advertise", &resigned((copies[4].1)(mine, theirs))).await.is(422, Some(9));
    let twin = ClientId([0xee; 16]);
    let body = CertificateBody { client: twin, ..*first.member.certificate.body() };
    let leaf = KeyAdvertisement::sign(
        Certificate::issue(body, &world.authority),
        mine,
        &second.header,
        &first.member.identity,
    );
    second.put_as(twin, "advertise", &leaf.encode()).await.is(409, Some(9));
    second.put("advertise", &good).await.is_admitted();
    second.put("advertise", &resigned(RoundKeys { nonce: [9; 32], ..mine })).await.is(409, Some(3));
    let rest: Vec<Running> = (2..5).map(|number| world.send(number, world.line())).collect();
    tokio::join!(crate::hostile::finish(&world, first), crate::hostile::finish(&world, second));
    for running in rest {
        assert!(running.end().await.verified().is_some());
    }
    world.is_exact_sum_of(world.round(1).await, &world.ids(0..5)).await;
    Seen::new(format!(
        "5 ways of bringing a key twice and {weak} weak keys ({} X25519 encodings, 2 identity points) stopped the client; the real \
         aggregator refused 6 copies and a second advert, and the first owner's round went on to its exact sum",
        SMALL_ORDER.len()
    ))
    .count("refused by clients", copies.len() + weak)
    .count("refused by the aggregator", 7)
}

/// A16. The directory of the round before.
pub async fn a16_directory_replay(_: Scale) -> Seen {
    let round_one = || {
        let mut play = Play::new(small_params(6, 8));
        play.advertise();
        play
    };
    let old_leaves = |play: &Play| play.aggregator.received[&PhaseKind::Advertising].clone();
    // A client that never took part asks for the newest header, whatever its counter.
    let at = |play: &Play| Server::new(same_people(&play.world, |header| header.counter = 2));
    // As it was signed.
    let before = round_one();
    let replayed = before.aggregator.served(&before.world, StatementKind::Roster);
    let (faced, _) = face(at(&before).with_instead("roster", move |_| replayed.clone()), |_| {}).await;
    faced.stopped(1, &["advertise"]);
    // The same leaves under a roster signed for this round: the client's own nonce is an old one.
    let before = round_one();
    let leaves = old_leaves(&before);
    let (faced, _) = face(at(&before).telling(directory(move |_| leaves.clone())), |_| {}).await;
    faced.stopped(6, &["advertise"]);
    // All but the client's own.
    let before = round_one();
    let leaves = old_leaves(&before);
    let lie = directory(move |server| {
        let mut shown = leaves.clone();
        let victim = server.victim();
        shown.insert(victim, admitted(server)[&victim].clone());
        shown
    });
    let (faced, _) = face(at(&before).telling(lie), |_| {}).await;
    faced.stopped(6, &["advertise"]);
    let (honest, _) = face(at(&round_one()), |_| {}).await;
    honest.verified();
    Seen::new(
        "the roster of round 1 in round 2, as it was signed (R-01), signed anew over its old leaves (R-06), and over the old leaves \
         of all others (R-06): 3 of 3 stopped before dealing; with its own directory round 2 went to its end",
    )
    .count("aborts", 3)
}

/// A20. One signed header with the last counter there is.
pub async fn a20_lock_out_by_counter(_: Scale) -> Seen {
    let mut refused = 0;
    for counter in [u64::MAX, u64::MAX - 1, (1 << 20) + 1, 1 << 40] {
        let mut is_told = false;
        let server = Server::six().telling(move |server, asked| {
            let is_first = asked.path.starts_with("/v1/tasks/") && !std::mem::replace(&mut is_told, true);
            is_first.then(|| {
                let header = Header { counter, ..server.play.world.facts.header.clone() };
                Reply::new(200, server.signed(&header.statement()))
            })
        });
        let served = Served::open(server).await;
        let mut participant = served.participant(0, |_| {}, &hands()).await;
        let ended = once(&mut participant).await.expect("no fault");
        assert!(matches!(&ended, RoundOutcome::Stopped { why, .. } if why.rule().0 == 2), "{ended:?}");
        assert_eq!(served.server.lock().expect("no panic").said, []);
        let ended = once(&mut participant).await.expect("no fault");
        assert!(matches!(ended, RoundOutcome::Verified { counter: 1, .. }), "{ended:?}");
        refused += 1;
    }
    Seen::new(format!(
        "{refused} leaping counters, 2^64-1 among them, refused (R-02) without an advert; the same client then joined round 1 and saw \
         it to its end"
    ))
    .count("refused", refused)
}

/// A21. The roster lists whom the authority has revoked; then, a list older than one that the client saw.
pub async fn a21_revoked_client_in_the_roster(_: Scale) -> Seen {
    let permissive = || {
        let mut params = small_params(6, 8);
        (params.roster_min, params.cohort_min) = (5, 4);
        params.ring_bits = params.ring_bits_needed().expect("wide enough");
        Server::with(params)
    };
    let revoked = client_id(5);
    let (honest, _) = face(permissive().revoking(1, &[revoked]), |_| {}).await;
    honest.verified();
    let revoked_leaf = move |server: &Server| {
        let member = &server.play.world.members[5];
        let header = &server.play.world.facts.header;
        KeyAdvertisement::sign(member.certificate.clone(), own_keys(), header, &member.identity).encode()
    };
    let lie = directory(move |server| {
        let mut leaves: BTreeMap<ClientId, Vec<u8>> = admitted(server);
        leaves.insert(revoked, revoked_leaf(server));
        leaves
    });
    let (faced, _) = face(permissive().revoking(1, &[revoked]).telling(lie), |_| {}).await;
    faced.stopped(6, &["advertise"]);
    // The aggregator's side of the same decision.
    let mut server = permissive().revoking(1, &[revoked]);
    let leaf = revoked_leaf(&server);
    let play = &mut server.play;
    let refused = play.aggregator.put(&play.world, revoked, &leaf).expect_err("it is revoked");
    let reason = CertificateError::Revoked;
    assert_eq!(refused, Rejection::Certificate { client: revoked, reason });
    // The server forgets a revocation that the client saw: an older list, or none.
    for number in [4, 0] {
        let mut is_first = true;
        let server = permissive().revoking(5, &[revoked]).telling(move |server, asked| {
            let facts = &server.play.world.facts;
            if asked.reads("roster") {
                return Some(Reply::new(200, b"no roster".to_vec())); // the first round ends here
            }
            let later = if number == 0 {
                Header { counter: 2, revocation_number: 0, revocation_digest: Digest::NONE, ..facts.header.clone() }
            } else {
                let older = veilsum_crypto::messages::RevocationList::issue(
                    number,
                    BTreeMap::new(),
                    &server.play.world.authority,
                );
                if asked.path == format!("/v1/revocations/{}", older.digest()) {
                    return Some(Reply::new(200, older.encode()));
                }
                let (revocation_number, revocation_digest) = (number, older.digest());
                Header { counter: 2, revocation_number, revocation_digest, ..facts.header.clone() }
            };
            let is_header = asked.path.starts_with("/v1/tasks/") && !std::mem::replace(&mut is_first, false);
            is_header.then(|| Reply::new(200, server.signed(&later.statement())))
        });
        let served = Served::open(server).await;
        let mut participant = served.participant(0, |_| {}, &hands()).await;
        let first = once(&mut participant).await.expect("no fault");
        assert!(matches!(&first, RoundOutcome::Stopped { why, .. } if why.rule().0 == 37), "{first:?}");
        let second = once(&mut participant).await.expect("no fault");
        assert!(matches!(&second, RoundOutcome::Stopped { why, .. } if why.rule().0 == 36), "{number}: {second:?}");
        assert_eq!(served.server.lock().expect("no panic").phases(client_id(0)), ["advertise"]);
    }
    Seen::new(
        "a roster with a revoked client: the real client stopped before it dealt, and the aggregator refuses its advert by the same \
         function; list 4 after list 5, and none after list 5: no advert (R-36); without the revoked client the round ended well",
    )
    .count("refused", 4)
}
