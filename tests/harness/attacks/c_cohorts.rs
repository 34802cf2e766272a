//! C: fewer clients than promised, rounds and tasks confused with each other, and data beside the masked vector.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use veilsum_aggregator::task::Task;
use veilsum_client::RoundOutcome;
use veilsum_client::transport::Reply;
use veilsum_crypto::messages::Header;
use veilsum_crypto::testing::client_id;

use super::{Scale, Seen, trying};
use crate::hostile::proxy::{Meddling, Proxy};
use crate::hostile::server::Server;
use crate::hostile::victims::{Served, hands, once};
use crate::hostile::{Answer, Hand, request};
use crate::world::{Ending, Fate, Moment, Running, Shape, World, task_file};

/// So many clients of six are lost in one phase; the round must end with nothing in anybody's hands.
async fn too_many_are_lost(phase: &'static str, count: usize, word: &str, is_charged: bool) {
    let world = World::new(Shape::of(6)).await;
    let round = world.round(1).await;
    let fate = Fate { phase, moment: Moment::BeforeSending };
    let running: Vec<Running> = (0..6)
        .map(|number| {
            let line = world.line();
            world.send(number, if number < count { line.ending_at(fate) } else { line })
        })
        .collect();
    let lines: Vec<_> = running.iter().map(|running| running.line.clone()).collect();
    let mut endings = Vec::new();
    for running in running {
        endings.push(running.end().await);
    }
    for ending in &endings[count..] {
        match ending {
            // Who answered reads the result, which says that there is no sum.
            Ending::Outcome(RoundOutcome::Verified { sum: None, .. }) if word == "not-opened" => {}
            other => assert_eq!(other.abandoned().and_then(|why| why.split(':').next()), Some(word), "{other:?}"),
        }
    }
    world.is_abandoned(round, word, is_charged).await;
    // At the API: nothing but the reason.
    let hand = Hand::new(&world, 5, 1).await;
    for what in ["result", "survivors", "confirmations"] {
        let path = hand.path(what);
        let answer = hand.get(&path, Some(&hand.permit(&path))).await;
        let has_sum = what == "result" && answer.status == 200 && answer.body.len() > 220;
        assert!(!has_sum, "{what}: a sum is served");
    }
    // In the database: neither sums nor the key that they were sealed under; in its bytes no upload.
    for table in ["partial_sums", "round_keys", "mail", "claims"] {
        assert_eq!(world.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{phase}: {table}");
    }
    // What an export holds of an upload is its signed statement, without the vector.
    assert_eq!(world.count("SELECT count(*) FROM received WHERE phase = 4 AND length(body) > 223").await, 0);
    let files = world.database_bytes();
    for upload in lines.iter().flat_map(|line| line.sent("mask")) {
        let vector = &upload[223..];
        assert!(!contains(&files, vector), "{phase}: a masked input is in the database in clear");
    }
}

/// Whether these bytes stand in those.
pub(super) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// C04. So many are lost at each phase that one survivor is missing.
pub async fn c04_small_cohort_after_dropout(_: Scale) -> Seen {
    tokio::join!(
        too_many_are_lost("advertise", 2, "roster-too-small", false),
        too_many_are_lost("share", 2, "core-too-small", false),
        too_many_are_lost("acknowledge", 2, "core-too-small", false),
    );
    tokio::join!(
        too_many_are_lost("mask", 2, "too-few-survivors", true),
        too_many_are_lost("confirm", 4, "not-confirmed", true),
        too_many_are_lost("unmask", 4, "not-opened", true),
    );
    Seen::new(
        "6 of 6 phases (advertise, share, acknowledge, mask, confirm, unmask): abandoned with its reason; no sum at the API; no partial \
         sum, key, mail or upload left in the tables, and no masked input in the database's bytes; charged if and only if masking had \
         opened",
    )
    .count("phases", 6)
    .count("partial sums", 0)
}

/// C06. A counter that the client has used, under other parameters.
pub async fn c06_round_id_reuse(_: Scale) -> Seen {
    type Change = fn(&mut Header);
    let changes: [(&str, Change); 4] = [
        ("the same header again", |_| {}),
        ("less noise", |header| header.params.total_variance /= 2),
        ("another layout", |header| header.layout_hash.0[0] ^= 1),
        ("a later time", |header| header.opened_at = header.opened_at.plus_ms(1)),
    ];
    for (what, change) in changes {
        trying(what);
        let server = Server::six().telling(move |server, asked| {
            // This server does not heed `after`: once the round is over it offers the counter again.
            let is_over = server.play.aggregator.phase.kind().is_over();
            (asked.path.starts_with("/v1/tasks/") && is_over).then(|| {
                let mut header = server.play.world.facts.header.clone();
                change(&mut header);
                Reply::new(200, server.signed(&header.statement()))
            })
        });
        let served = Served::open(server).await;
        let mut participant = served.participant(0, |_| {}, &hands()).await;
        let first = once(&mut participant).await.expect("no fault");
        assert!(matches!(first, RoundOutcome::Verified { counter: 1, .. }), "{first:?}");
        let before = served.server.lock().expect("no panic").said.len();
        // In the same process it does not even judge a counter that it has left behind.
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(300), once(&mut participant)).await;
        assert!(waiting.is_err(), "{waiting:?}");
        // A restarted one has only its journal.
        drop(participant);
        let mut participant = served.participant(0, |_| {}, &hands()).await;
        let second = once(&mut participant).await.expect("no fault");
        assert!(matches!(&second, RoundOutcome::Stopped { why, .. } if why.rule().0 == 2), "{second:?}");
        let server = served.server.lock().expect("no panic");
        assert_eq!(server.said.len(), before, "it sends nothing under a counter that is used up");
        assert_eq!(server.phases(client_id(0)).iter().filter(|phase| *phase == "advertise").count(), 1);
    }
    Seen::new(format!(
        "{} headers with a used counter after a round that ended well: {} of {} refused (R-02) after a restart, ignored in the same \
         process; nothing sent",
        changes.len(),
        changes.len(),
        changes.len()
    ))
    .count("refused", changes.len())
}

/// C07. Every message of one task is sent into another, at its phase and in its sender's name.
pub async fn c07_cross_task_replay(_: Scale) -> Seen {
    let mut world = World::new(Shape::patient(5)).await;
    let round = world.round(1).await;
    let running: Vec<Running> = (0..5).map(|number| world.send(number, world.line())).collect();
    let mut before: BTreeMap<(String, String), Vec<u8>> = BTreeMap::new();
    for (number, running) in running.into_iter().enumerate() {
        let line = running.line.clone();
        assert!(running.end().await.verified().is_some());
        for phase in ["advertise", "share", "acknowledge", "mask", "confirm", "unmask"] {
            let sent = line.sent(phase).into_iter().next();
            before.extend(sent.map(|body| ((phase.to_string(), world.clients[number].id.to_string()), body)));
        }
    }
    world.is_exact_sum_of(round, &world.ids(0..5)).await;
    // The same clients in a second task of the same aggregator.
    let file = task_file(&Shape::patient(5));
    let model = veilsum_aggregator::round::learn::to_bytes(&world.model);
    world.rounds().create_task(&file, &model).await.expect("a new task");
    world.task = Task::new(file).expect("feasible");
    world.noised.lock().expect("no panic").clear();
    let round = world.round(1).await;
    let refused: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let (log, upstream) = (refused.clone(), world.address);
    let proxy = Proxy::before(upstream, move |asked| {
        let key = asked.path.split('/').nth(4).zip(asked.path.split('/').nth(5));
        let key = key.map(|(phase, client)| (phase.to_string(), client.to_string()));
        let replayed = key.filter(|_| asked.method == "PUT").and_then(|key| Some((before.get(&key)?.clone(), key.0)));
        let (log, path) = (log.clone(), asked.path.clone());
        async move {
            if let Some((body, phase)) = replayed {
                let answer = request(upstream, "PUT", &path, &[], &body).await;
                // Confirmations close their phase early: a late one is answered so.
                if phase == "confirm" && answer.status == 410 {
                    return Meddling::Pass;
                }
                answer.is(422, Some(1));
                *log.lock().expect("no panic").entry(phase).or_default() += 1;
            }
            Meddling::Pass
        }
    })
    .await;
    let running: Vec<Running> = (0..5).map(|number| world.send(number, world.line_to(proxy.address()))).collect();
    for running in running {
        let ending = running.end().await;
        assert!(ending.verified().is_some(), "{ending:?}");
    }
    world.is_exact_sum_of(round, &world.ids(0..5)).await;
    let refused = refused.lock().expect("no panic").clone();
    assert!(refused.len() == 6 && refused.values().all(|count| *count > 0), "{refused:?}");
    // A permit of the other task reads nothing here, either.
    let hand = Hand::new(&world, 0, 1).await;
    let path = hand.path("roster");
    let mut foreign = hand.header.clone();
    foreign.task.0[0] ^= 1;
    let permit =
        veilsum_crypto::messages::ReadPermit::sign(&path, &foreign.chain(), hand.client(), &hand.member.identity);
    let answer = hand.get(&path, Some(&hex::encode(permit.encode()))).await;
    assert!([403, 410].contains(&answer.status), "{}", answer.status);
    let count: usize = refused.values().sum();
    Seen::new(format!(
        "{count} messages of 6 kinds from task A, each sent into task B at its phase, just before the genuine one: all refused with 422 \
         R-01; a read permit of A read nothing of B; both sums exact"
    ))
    .count("refused", count)
}

/// Lengths of client messages, from docs/wire.md §6 alone.
fn length(phase: &str, k: usize, packed: usize, body: &[u8]) -> usize {
    match phase {
        "advertise" => 579,
        "share" => 214 + 148 * k,
        "acknowledge" => 224 + k,
        "mask" => 223 + packed,
        "confirm" => 184,
        // m neighbours in the core, all of whose shares are held.
        "unmask" => 183 + 33 * ((body.len() - 183) / 33),
        other => panic!("an honest client has no message for {other}"),
    }
}

/// C12. Is there any field in which a client's loss, number of examples or the like could stand in clear?
pub async fn c12_metric_side_channel(_: Scale) -> Seen {
    let world = World::new(Shape::patient(5)).await;
    let round = world.round(1).await;
    let proxy = Proxy::before(world.address, |_| async { Meddling::Pass }).await;
    let running: Vec<Running> = (0..5).map(|number| world.send(number, world.line_to(proxy.address()))).collect();
    for running in running {
        assert!(running.end().await.verified().is_some());
    }
    let view = world.over(round).await;
    let k = view.phase.assembly().expect("a roster").params().degree as usize;
    let packed = world.task.params.packed_bytes();
    let (mut messages, mut names) = (0, BTreeSet::new());
    for passed in proxy.passed() {
        let asked = passed.asked;
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let parameters: Vec<&str> = query.split('&').filter_map(|part| part.split('=').next()).collect();
        assert!(
            parameters.iter().all(|name| ["", "after", "wait", "i", "from", "to"].contains(name)),
            "{}",
            asked.target
        );
        names.extend(asked.fields.keys().cloned());
        if asked.method == "GET" {
            assert!(asked.body.is_empty(), "{path}: a read has no body");
            continue;
        }
        let phase = path.split('/').nth(4).expect("a phase");
        assert_eq!(asked.body.len(), length(phase, k, packed, &asked.body), "{path}: exactly the protocol's fields");
        messages += 1;
    }
    let expected = ["accept", "content-length", "host", "veilsum-read"];
    let beyond: Vec<_> = names.iter().filter(|name| !expected.contains(&name.as_str())).collect();
    assert!(beyond.is_empty(), "header fields beyond the protocol: {beyond:?}");
    assert!(messages >= 5 * 5);
    // And none is taken: what is longer, or says more in the address, is refused.
    let other = World::new(Shape::patient(3)).await;
    let mut hand = Hand::new(&other, 0, 1).await;
    let advert = hand.advert().await;
    let metrics = br#"{"num_examples":1000,"loss":0.5}"#;
    let target = hand.path(&format!("advertise/{}", hand.client()));
    hand.put("advertise", &[&advert[..], &metrics[..16]].concat()).await.is(400, Some(37));
    hand.put("advertise", &[&advert[..], metrics].concat()).await.is(413, None);
    hand.put("advertise", metrics).await.is(400, Some(37));
    let in_query: Answer = request(other.address, "GET", &hand.path("roster?loss=0.5"), &[], b"").await;
    in_query.is(400, Some(37));
    request(other.address, "PUT", &format!("{target}/metrics"), &[], metrics).await.is(404, None);
    hand.put("advertise", &advert).await.is_admitted();
    Seen::new(format!(
        "{messages} messages of a round of 5 real clients: each exactly as long as docs/wire.md says, header fields {}, no body in \
         reads; metrics appended to a message, in its place, in a query or at a path of their own: refused",
        names.into_iter().collect::<Vec<_>>().join(", ")
    ))
    .count("messages", messages)
    .count("fields beyond the protocol", 0)
}
