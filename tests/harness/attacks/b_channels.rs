//! B, continued: what passes between clients and the aggregator is delayed, altered, repeated, or said in others' names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use veilsum_client::transport::Reply;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::messages::{Acknowledgement, Answer, EdgeReport, SealedShares};
use veilsum_crypto::primitives::agreement::{ChannelSecretKey, MailEdge, Point};
use veilsum_crypto::primitives::context::RosterContext;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Place};
use veilsum_crypto::server::{Effect, PhaseKind};
use veilsum_crypto::testing::{Play, demo_params, os_rng, small_params};

use super::rehearsal::Rehearsal;
use super::{Scale, Seen, gained_without, trying};
use crate::hostile::Hand;
use crate::hostile::front::Asked;
use crate::hostile::proxy::{Meddling, Proxy};
use crate::hostile::server::{Server, list, same_people};
use crate::hostile::victims::{face, face_all};
use crate::world::{Fate, Gate, Moment, Running, Shape, World};

/// B09. An upload that was held back comes after its sender was declared dropped and its masks were rebuilt.
pub async fn b09_late_masked_input(_: Scale) -> Seen {
    let world = World::new(Shape::of(6)).await;
    let round = world.round(1).await;
    let gate = Gate::letting(3, "unmask");
    let fate = Fate { phase: "mask", moment: Moment::BeforeSending };
    let running: Vec<Running> = (0..6)
        .map(|number| {
            let line = world.line().behind(&gate);
            world.send(number, if number == 5 { line.ending_at(fate) } else { line })
        })
        .collect();
    let lines: Vec<_> = running.iter().map(|running| running.line.clone()).collect();
    let view = world.reached(round, PhaseKind::Unmasking).await;
    let late = lines[5].sent("mask").pop().expect("it was written down");
    let hand = Hand::new(&world, 5, 1).await;
    let while_open = hand.put("mask", &late).await; // answers are coming in: its masks are being rebuilt
    while_open.is(410, None);
    assert_eq!(while_open.word(), "phase-closed");
    gate.open();
    for (number, running) in running.into_iter().enumerate() {
        let ending = running.end().await;
        assert!(number == 5 || ending.verified().is_some(), "{ending:?}");
    }
    hand.put("mask", &late).await.is(410, None);
    world.is_exact_sum_of(round, &world.ids(0..5)).await;
    assert_eq!(
        veilsum_aggregator::store::Store::digest(world.rounds().store(), round, PhaseKind::Masking, hand.client())
            .await
            .expect("the store answers"),
        None,
        "nothing of it was stored"
    );
    // What was said of the late one: shares of s, which cancel its pair masks, and no share of b, which would open its upload.
    let assembly = view.phase.assembly().expect("a roster");
    let degree = assembly.params().degree;
    let (late_leaf, _) = assembly.find(hand.client()).expect("on it");
    let dealt = SealedShares::decode(&lines[5].sent("share")[0], degree).expect("its own");
    let (mut of_masking, mut of_self_mask) = (0, 0);
    for (number, line) in lines.iter().enumerate().take(5) {
        let (me, _) = assembly.find(world.clients[number].id).expect("on it");
        let Some(place) = assembly.order().neighbours(me).iter().position(|leaf| *leaf == late_leaf) else { continue };
        for answer in line.sent("unmask") {
            let answer = Answer::decode(&answer, degree as usize).expect("its own");
            let share = answer.shares()[place].as_ref().expect("it holds one");
            let edge = dealt.edge_to(me).expect("a neighbour");
            of_masking += usize::from(Point::of(share) == edge.masking_point);
            of_self_mask += usize::from(Point::of(share) == edge.self_mask_point);
        }
    }
    assert!(of_masking >= assembly.params().threshold as usize, "{of_masking} shares of s");
    assert_eq!(of_self_mask, 0);
    Seen::new(format!(
        "the late upload was answered 410 while its masks were rebuilt and after, and nothing of it stored; {of_masking} shares of its s \
         were given and {of_self_mask} of its b; the sum of the other 5 exact"
    ))
    .count("shares of b", of_self_mask)
}

/// How the server tampers with one mailbox.
type Tampering = (&'static str, fn(&mut Server, ClientId) -> Vec<Vec<u8>>);

/// Where things lie in a mail item. docs/wire.md §5.3
const EDGE: usize = 4 + 214;
const CIPHERTEXT: usize = EDGE + 4;
const POINTS: usize = CIPHERTEXT + 80;
const POSITION: usize = POINTS + 64;

const TAMPERINGS: [Tampering; 10] = [
    ("a bit of the ciphertext", |server, victim| flipped(server, victim, CIPHERTEXT + 10)),
    ("a bit of the tag", |server, victim| flipped(server, victim, CIPHERTEXT + 79)),
    ("a bit of P_s", |server, victim| flipped(server, victim, POINTS)),
    ("a bit of P_b", |server, victim| flipped(server, victim, POINTS + 32)),
    ("a bit of the signature", |server, victim| flipped(server, victim, EDGE - 1)),
    ("a bit of the path", |server, victim| flipped(server, victim, POSITION + 2)),
    ("another position", |server, victim| flipped(server, victim, POSITION)),
    ("ciphertexts of two dealers swapped", |server, victim| {
        let mut mail = server.mail(victim);
        let (first, second) = (mail[0][CIPHERTEXT..POINTS].to_vec(), mail[1][CIPHERTEXT..POINTS].to_vec());
        mail.iter_mut().step_by(2).for_each(|item| item[CIPHERTEXT..POINTS].copy_from_slice(&second));
        mail.iter_mut().skip(1).step_by(2).for_each(|item| item[CIPHERTEXT..POINTS].copy_from_slice(&first));
        mail
    }),
    ("mail for somebody else", |server, victim| {
        let neighbour = server.neighbours(victim)[0];
        server.mail(neighbour)
    }),
    ("mail of another round", |server, victim| {
        // The same clients play a round of their own, under another roster.
        let mut before = Play::of(same_people(&server.play.world, |_| {}));
        let clients = before.advertise();
        before.share(clients);
        let mut mail = before.aggregator.mail[&victim].clone();
        mail.sort_by_key(|item| u32::from_le_bytes(item[..4].try_into().expect("a dealer")));
        mail
    }),
];

fn flipped(server: &Server, victim: ClientId, at: usize) -> Vec<Vec<u8>> {
    let mut mail = server.mail(victim);
    mail.iter_mut().for_each(|item| item[at] ^= 1);
    mail
}

/// B11. Sealed shares are altered, exchanged or repeated on their way.
pub async fn b11_ciphertext_tampering(_: Scale) -> Seen {
    for (what, tamper) in TAMPERINGS {
        trying(what);
        let mut kept = None;
        let server = Server::six().telling(move |server, asked| {
            if !asked.reads("mail") || server.play.aggregator.phase.kind() <= PhaseKind::Sharing {
                return None;
            }
            let victim = server.victim();
            let mail = kept.get_or_insert_with(|| tamper(server, victim));
            Some(Reply::new(200, list(mail)))
        });
        let (faced, served) = face(server, |_| {}).await;
        let server = served.server.lock().expect("no panic");
        let degree = server.assembly().params().degree;
        let said = server.heard(server.victim(), "acknowledge").expect("it reports what it has");
        let said = Acknowledgement::decode(said, degree).expect("its own");
        let good = said.reports().iter().filter(|report| **report == EdgeReport::Good).count();
        assert_eq!((good, said.complaints()), (0, 0), "{what}: all missing, and nobody blamed");
        faced.left_out(17, &["advertise", "share", "acknowledge"]);
        let named = server.play.aggregator.effects.iter().any(|effect| matches!(effect, Effect::Fault { .. }));
        assert!(!named, "{what}: the channel is to blame, and no client");
    }
    // The seal itself: bound to both ends, both keys, the round and the roster.
    let opened = seals_that_open_elsewhere();
    assert_eq!(opened, 0);
    Seen::new(format!(
        "{} ways to alter, swap or repeat mail: every item counted as missing, none as good, 0 complaints, nobody named; a sealed share \
         opened under none of 8 other bindings (ends, keys, header, roster, a changed bit)",
        TAMPERINGS.len()
    ))
    .count("tamperings", TAMPERINGS.len())
    .count("opened", opened)
}

/// One share is sealed; how often it opens under something else than what it was sealed for. It does open for that.
fn seals_that_open_elsewhere() -> usize {
    let mut rng = os_rng();
    let (dealer, holder, other) = (
        ChannelSecretKey::generate(&mut rng),
        ChannelSecretKey::generate(&mut rng),
        ChannelSecretKey::generate(&mut rng),
    );
    let id = |byte| ClientId([byte; 16]);
    let context = |header, roster| RosterContext { header: Digest([header; 32]), roster: Digest([roster; 32]) };
    let ends = |from, to| MailEdge {
        dealer: id(from),
        holder: id(to),
        dealer_key: dealer.public(),
        holder_key: holder.public(),
    };
    let aad = |context: &RosterContext, from, to| {
        let (sender, receiver) = (id(from).into(), id(to).into());
        let place = Place { context: context.header, previous: context.roster, sender, receiver };
        place.statement(labels::SHARE_MAIL, Vec::new()).before_body()
    };
    let right = context(1, 2);
    let plain = [7; 64];
    let sealed = dealer.mail_key(&holder.public(), ends(1, 2), &right).seal(&plain, &aad(&right, 1, 2));
    let open =
        |key: &ChannelSecretKey, peer: &ChannelSecretKey, edge: MailEdge, context: RosterContext, aad: Vec<u8>| {
            usize::from(key.mail_key(&peer.public(), edge, &context).open(&sealed, &aad).is_some())
        };
    assert_eq!(open(&holder, &dealer, ends(1, 2), right, aad(&right, 1, 2)), 1, "its holder opens it");
    let swapped = MailEdge { dealer_key: holder.public(), holder_key: dealer.public(), ..ends(1, 2) };
    let mut flipped = sealed;
    flipped[0] ^= 1;
    let flipped = holder.mail_key(&dealer.public(), ends(1, 2), &right).open(&flipped, &aad(&right, 1, 2));
    open(&holder, &dealer, ends(2, 1), right, aad(&right, 2, 1))
        + open(&holder, &dealer, ends(1, 3), right, aad(&right, 1, 3))
        + open(&holder, &dealer, ends(3, 2), right, aad(&right, 3, 2))
        + open(&holder, &dealer, swapped, right, aad(&right, 1, 2))
        + open(&holder, &other, ends(1, 2), right, aad(&right, 1, 2))
        + open(&holder, &dealer, ends(1, 2), context(9, 2), aad(&context(9, 2), 1, 2))
        + open(&holder, &dealer, ends(1, 2), context(1, 9), aad(&context(1, 9), 1, 2))
        + usize::from(flipped.is_some())
}

/// B12. The network loses the answer to every request once.
pub async fn b12_benign_retry(_: Scale) -> Seen {
    let world = World::new(Shape::patient(5)).await;
    let round = world.round(1).await;
    let lost: Arc<Mutex<BTreeSet<(String, String)>>> = Arc::default();
    let log = lost.clone();
    let proxy = Proxy::before(world.address, move |asked| {
        // Public reads have no sender: they are lost once for everybody.
        let who = asked.client().map_or(String::new(), |client| client.to_string());
        let is_first = log.lock().expect("no panic").insert((asked.path.clone(), who));
        async move { if is_first { Meddling::LoseAnswer } else { Meddling::Pass } }
    })
    .await;
    let running: Vec<Running> = (0..5).map(|number| world.send(number, world.line_to(proxy.address()))).collect();
    let lines: Vec<_> = running.iter().map(|running| running.line.clone()).collect();
    for running in running {
        let ending = running.end().await;
        assert!(ending.verified().is_some(), "{ending:?}");
    }
    world.is_exact_sum_of(round, &world.ids(0..5)).await;
    // At the other end, too, each message came at least twice, and always the same bytes.
    let mut bodies: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for passed in proxy.passed().into_iter().filter(|passed| passed.asked.method == "PUT") {
        bodies.entry(passed.asked.path).or_default().push(passed.asked.body);
    }
    assert!(bodies.len() >= 5 * 5, "{} messages", bodies.len());
    for (path, sent) in &bodies {
        assert!(sent.len() >= 2 && sent.iter().all(|body| body == &sent[0]), "{path}: sent again with other bytes");
    }
    let phases = ["advertise", "share", "acknowledge", "mask", "unmask"];
    assert!(lines.iter().all(|line| phases.iter().all(|phase| !line.sent(phase).is_empty())));
    let lost = lost.lock().expect("no panic").len();
    Seen::new(format!(
        "{lost} answers lost, one for each request of 5 clients in all phases: {} messages came twice or more, always the same bytes; the \
         sum of all 5 exact",
        bodies.len()
    ))
    .count("answers lost", lost)
}

/// B15. The server damages edges of an honest dealer, so that holders might complain and the dealer open them.
pub async fn b15_forced_openings(_: Scale) -> Seen {
    // Twelve real clients; t - c = 4 of them find the edge of client 0 damaged.
    let damage = |server: &mut Server, asked: &Asked| {
        if !asked.reads("mail") || server.play.aggregator.phase.kind() <= PhaseKind::Sharing {
            return None;
        }
        let (reader, dealer) = (asked.client().expect("a permit"), server.client(0));
        let params = *server.assembly().params();
        let damaged: Vec<ClientId> =
            server.neighbours(dealer).into_iter().take((params.threshold - params.corrupt) as usize).collect();
        let mut mail = server.mail(reader);
        for item in mail.iter_mut().filter(|_| damaged.contains(&reader)) {
            if item[..4] == server.leaf(dealer).0.to_le_bytes() {
                item[CIPHERTEXT + 10] ^= 1;
            }
        }
        Some(Reply::new(200, list(&mail)))
    };
    let (faced, served) = face_all(Server::twelve().against(0..12).telling(damage)).await;
    let server = served.server.lock().expect("no panic");
    let complaints: u32 = faced
        .iter()
        .enumerate()
        .map(|(number, _)| {
            let body = server.heard(server.client(number), "acknowledge").expect("all report");
            Acknowledgement::decode(body, server.assembly().params().degree).expect("its own").complaints()
        })
        .sum();
    let openings = server.said.iter().filter(|said| said.phase == "open").count();
    assert_eq!((complaints, openings), (0, 0), "damage on the way is no complaint");
    drop(server);
    // At n = 64 (k = 38, t = 22, c = 4), 18 holders of one dealer, each once: with 4 corrupt holders that would make t shares.
    let rehearsal = Rehearsal::new(demo_params(64)).dealt();
    let assembly = rehearsal.play.aggregator.phase.assembly().expect("a roster");
    let params = *assembly.params();
    assert_eq!((params.degree, params.threshold, params.corrupt), (38, 22, 4));
    let dealer = rehearsal.clients()[0];
    let leaf: LeafIndex = assembly.roster().leaf_of(dealer).expect("on it");
    let needed = (params.threshold - params.corrupt) as usize;
    let mut complaints_at_64 = 0;
    for holder in rehearsal.neighbours(dealer).into_iter().take(needed) {
        let mut mail = rehearsal.play.aggregator.mail[&holder].clone();
        let item = mail.iter_mut().find(|item| item[..4] == leaf.0.to_le_bytes()).expect("it dealt");
        item[CIPHERTEXT + 10] ^= 1;
        let veilsum_crypto::client::Resumed::AwaitingMail(phase, _) = rehearsal.resume(holder) else {
            panic!("it dealt")
        };
        let (_, message) = rehearsal.play.world.turn(phase.acknowledge(&mail).expect("a mailbox in form"));
        complaints_at_64 += Acknowledgement::decode(&message, params.degree).expect("its own").complaints();
    }
    assert_eq!(complaints_at_64, 0);
    let gained = gained_without(16, "the forced openings");
    Seen::new(format!(
        "4 of 12 real clients and {needed} of 64 in memory found an honest dealer's edge damaged: 0 complaints, 0 openings. Without the \
         check: {gained}"
    ))
    .count("openings", openings)
    .count("edges damaged at n = 64", needed)
}

/// How a server complains in an honest holder's name: it has the holder's genuine edge, and not its key.
type Complaint = (&'static str, fn(&Server, ClientId) -> Vec<u8>);

const COMPLAINTS: [Complaint; 6] = [
    ("signed by the server", |server, holder| complaint(server, holder, &own_key(), |_| {})),
    ("signed by another client", |server, holder| {
        let accomplice = server.play.world.members.last().expect("many");
        complaint(server, holder, &accomplice.identity, |_| {})
    }),
    ("the holder's own words with one entry altered", |server, holder| {
        let body = &server.play.aggregator.received[&PhaseKind::Acknowledging][&holder];
        let honest = Acknowledgement::decode(body, server.assembly().params().degree).expect("admitted");
        let signature = body[body.len() - 64..].to_vec();
        let mut statement = honest.signed().statement().clone();
        let place = place_of_victim(server, holder);
        let mut entry = vec![2];
        entry.extend(genuine_edge(server, holder).0);
        statement.body.splice(place..place + 1, entry);
        [statement.encode(), signature].concat()
    }),
    ("under another roster", |server, holder| {
        complaint(server, holder, key_of(server, holder), |statement| statement.previous.0[0] ^= 1)
    }),
    ("of another round", |server, holder| {
        complaint(server, holder, key_of(server, holder), |statement| statement.context.0[0] ^= 1)
    }),
    ("in the victim's own name", |server, holder| {
        let victim = server.victim();
        complaint(server, holder, &own_key(), |statement| statement.sender = victim.into())
    }),
];

fn own_key() -> IdentitySecretKey {
    IdentitySecretKey::from_bytes(&[8; 32])
}

/// A statement that the holder did sign once, for another place: the harness signs it with the holder's key.
fn key_of(server: &Server, holder: ClientId) -> &IdentitySecretKey {
    let members = &server.play.world.members;
    &members.iter().find(|member| member.client() == holder).expect("a client").identity
}

fn genuine_edge(server: &Server, holder: ClientId) -> Digest {
    server.dealt(server.victim()).edge_to(server.leaf(holder)).expect("a neighbour").hash()
}

fn place_of_victim(server: &Server, holder: ClientId) -> usize {
    server.neighbours(holder).iter().position(|client| *client == server.victim()).expect("a neighbour")
}

fn complaint(
    server: &Server,
    holder: ClientId,
    key: &IdentitySecretKey,
    change: impl FnOnce(&mut veilsum_crypto::primitives::signature::Statement),
) -> Vec<u8> {
    let mut reports = vec![EdgeReport::Good; server.assembly().params().degree as usize];
    reports[place_of_victim(server, holder)] = EdgeReport::Complaint { edge: genuine_edge(server, holder) };
    let (chain, roster) = (&server.play.world.facts.chain, server.assembly().root());
    let said = Acknowledgement::sign(Digest([7; 32]), reports, chain, roster, holder, key);
    let mut statement = said.signed().statement().clone();
    change(&mut statement);
    statement.sign(key).encode()
}

/// B19. Complaints in the names of honest holders, with their genuine edges.
pub async fn b19_forged_complaint(_: Scale) -> Seen {
    let wide = || {
        let mut params = demo_params(64);
        (params.dropout_tolerance, params.vector_len) = (50_000, 8);
        params.cohort_min = 64 - params.tolerated(64);
        params.max_squared_norm = small_params(64, 8).max_squared_norm;
        params.ring_bits = params.ring_bits_needed().expect("wide enough");
        params
    };
    let mut played = 0;
    for (n, params) in [(3, small_params(3, 8)), (6, small_params(6, 8)), (64, wide())] {
        for (what, forge) in COMPLAINTS.iter().take(if n == 64 { 3 } else { COMPLAINTS.len() }) {
            trying(what);
            let forge = *forge;
            let server = Server::with(params).telling(move |server, asked| {
                let is_settled = server.play.aggregator.phase.kind() > PhaseKind::Acknowledging;
                (asked.reads("complaints") && is_settled).then(|| {
                    let mut holders = server.neighbours(server.victim());
                    holders.sort();
                    // As many as would be opened: with one corrupt holder's share they would make t.
                    holders.truncate(server.assembly().params().openings_max().max(1) as usize);
                    let forged: Vec<Vec<u8>> = holders.into_iter().map(|holder| forge(server, holder)).collect();
                    Reply::new(200, list(&forged))
                })
            });
            let (faced, served) = face(server, |_| {}).await;
            faced.verified();
            let server = served.server.lock().expect("no panic");
            assert!(server.heard(server.victim(), "open").is_none(), "n = {n}, {what}: it opened");
            played += 1;
        }
    }
    let gained = gained_without(16, "the forced openings");
    Seen::new(format!(
        "{played} lists of complaints in honest names at n = 3, 6 and 64: 0 openings, and the round went to its end each time. Without \
         the check: {gained}"
    ))
    .count("openings", 0)
}
