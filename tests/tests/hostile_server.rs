//! The real client against an aggregator that lies, over HTTP: `verification::hostile::server`. Each lie is one deviation from an
//! honest round; the client stops under the rule named, keeps the evidence, and sends nothing further.
//!
//! Lies that stand in the catalogue are played in `attacks.rs`; what is here is beside them.

use std::sync::Arc;

use veilsum_client::RoundOutcome;
use veilsum_client::config::Join;
use veilsum_client::transport::Reply;
use veilsum_crypto::client::policy::AllowedModels;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::messages::{Confirmation, CoreSet, Header, Roster, RoundResult};
use veilsum_crypto::primitives::codec::write_prefixed;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle::TreeHead;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed};
use veilsum_crypto::server::StatementKind;
use veilsum_crypto::testing::client_id;
use verification::hostile::server::{Server, indices, list};
use verification::hostile::victims::{Hands, Served, face, face_at, hands, once};

const DEALT: [&str; 3] = ["advertise", "share", "acknowledge"];
const UPLOADED: [&str; 4] = ["advertise", "share", "acknowledge", "mask"];

/// The same, and the confirmation where the victim is of the agreement set by the ring's chance.
fn confirmed(sent: &[String]) -> Vec<&str> {
    let mut expected = UPLOADED.to_vec();
    if sent.contains(&"confirm".to_string()) {
        expected.push("confirm");
    }
    expected
}

/// C-40: an honest aggregator is followed to the end; without this the others would prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_honest_round_is_played_to_its_end() {
    let (faced, _) = face(Server::six(), |_| {}).await;
    let RoundOutcome::Verified { sum, survivors, update_included, .. } = faced.outcome() else {
        panic!("{:?}", faced.ended)
    };
    assert_eq!((survivors.len(), *update_included), (6, true));
    assert!(sum.is_some());
    let mut expected = confirmed(&faced.sent);
    expected.push("unmask");
    assert_eq!(faced.sent, expected);
}

/// C-41, R-02: parameters below a floor, one at a time. C-50: neither a budget nor a clock of its own accuses anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_below_any_floor_of_the_policy_is_not_answered() {
    type Change = fn(&mut Join);
    let floors: [(&str, Change, u8); 15] = [
        ("cohort_min", |join| join.policy.cohort_min = 6, 2),
        ("gamma", |join| join.policy.corrupt_fraction_min = 50_001, 2),
        ("delta", |join| join.policy.dropout_tolerance_max = 1_000, 2),
        ("sigma", |join| join.policy.security_bits_min = 81, 2),
        ("eta", |join| join.policy.completion_bits_min = 31, 2),
        ("noise", |join| join.policy.noise_multiplier_min = 4.001, 2),
        ("wrap_bits", |join| join.policy.wrap_bits_min = 41, 2),
        ("clip", |join| join.policy.clip_norm_max = 1.9, 2),
        ("dp_delta", |join| join.policy.dp_delta_max = 1e-6, 2),
        ("layout", |join| join.policy.layout = Some(Digest([3; 32])), 2),
        ("model", |join| join.policy.models = AllowedModels::OneOf([Digest([3; 32])].into()), 2),
        ("task", |join| join.task.0[0] ^= 1, 2),
        ("authority", |join| join.policy.authority = IdentitySecretKey::from_bytes(&[8; 32]).public(), 2),
        ("clock", |join| join.policy.clock_apart_max_s = 0, 6),
        ("budget", |join| join.policy.budget.epsilon = 0.01, 26),
    ];
    for (what, change, rule) in floors {
        println!("{what}");
        let mut server = Server::six();
        if what == "clock" {
            server = server.heading(|header| header.opened_at = header.opened_at.plus_ms(5_000));
        }
        let (faced, _) = face(server, change).await;
        if ["budget", "clock"].contains(&what) { faced.left_out(rule, &[]) } else { faced.stopped(rule, &[]) }
    }
}

/// C-41: headers that contradict themselves, whoever's policy it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_does_not_hold_in_itself_is_not_answered() {
    type Change = fn(&mut Header);
    let headers: [(&str, Change, u8); 8] = [
        ("a ring that wraps", |header| header.params.ring_bits = RingBits::MIN, 14),
        ("a norm beyond what rounding can reach", |header| header.params.max_squared_norm *= 2, 2),
        ("no noise", |header| header.params.total_variance = 0, 2),
        ("a clip that is no number", |header| header.params.clip_norm = f64::NAN, 37),
        ("a roster of two", |header| header.params.roster_min = 2, 14),
        ("all may be lost", |header| header.params.dropout_tolerance = 999_999, 14),
        ("an hour ago", |header| header.opened_at.0 -= 3_600_000_000, 6),
        ("a revocation list that nobody signed", |header| header.revocation_digest = Digest([1; 32]), 36),
    ];
    for (what, change, rule) in headers {
        println!("{what}");
        let (faced, _) = face(Server::six().heading(change), |_| {}).await;
        if what == "an hour ago" { faced.left_out(rule, &[]) } else { faced.stopped(rule, &[]) }
    }
}

/// C-41, R-01: statements under another key than the pinned one.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_another_aggregator_is_not_answered() {
    for names_it in [false, true] {
        let server = Server::six().telling(move |server, asked| {
            let stranger = IdentitySecretKey::from_bytes(&[8; 32]);
            asked.path.starts_with("/v1/tasks/").then(|| {
                let mut header = server.play.world.facts.header.clone();
                if names_it {
                    header.aggregator_key = stranger.public();
                }
                Reply::new(200, header.statement().sign(&stranger).encode())
            })
        });
        let (faced, _) = face(server, |_| {}).await;
        faced.stopped(1, &[]);
    }
    let other = IdentitySecretKey::from_bytes(&[8; 32]).public();
    let (faced, _) = face(Server::six(), move |join| join.policy.aggregator = other).await;
    faced.stopped(1, &[]);
}

/// C-42, R-33: a log that is shorter than one this client saw, or another of the same length (A04 of the catalogue).
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_shrank_or_forked_is_not_answered() {
    for (what, size) in [("shrank", 4), ("forked", 5)] {
        println!("{what}");
        let head = |size, byte| TreeHead { size, root: Digest([byte; 32]) };
        // One round is seen, and given up at the roster: its head is remembered.
        let server = Server::six().heading(|header| header.log = head(5, 1)).telling(move |server, asked| {
            if asked.reads("roster") {
                return Some(Reply::new(200, b"no roster".to_vec()));
            }
            let header = &server.play.world.facts.header;
            let later = Header { counter: 2, log: head(size, 2), ..header.clone() };
            let is_second = asked.path.starts_with("/v1/tasks/") && asked.path.ends_with("after=1");
            is_second.then(|| Reply::new(200, server.signed(&later.statement())))
        });
        let served = Served::open(server).await;
        let mut participant = served.participant(0, |_| {}, &hands()).await;
        let first = once(&mut participant).await.expect("it stops");
        assert!(matches!(&first, RoundOutcome::Stopped { why, .. } if why.rule().0 == 37), "{first:?}");
        let second = once(&mut participant).await.expect("it stops");
        assert!(matches!(&second, RoundOutcome::Stopped { why, .. } if why.rule().0 == 33), "{second:?}");
        let phases = served.server.lock().expect("no panic").phases(client_id(0));
        assert_eq!(phases, ["advertise"], "the second header is not answered");
    }
}

/// C-43, R-05, R-14: rosters that are too small for the header, or not in the order of ids.
#[tokio::test(flavor = "multi_thread")]
async fn a_roster_that_is_too_small_or_out_of_order_gets_no_shares() {
    let server = Server::six().with_instead("roster", |server| {
        let members = server.assembly().roster().members()[..4].to_vec();
        server.roster(members, |params| params.n = 4)
    });
    let (faced, _) = face(server, |_| {}).await;
    faced.stopped(14, &["advertise"]);
    // One client twice would count twice against gamma.
    let server = Server::six().with_instead("roster", |server| {
        let mut members = server.assembly().roster().members().to_vec();
        members[1] = members[2];
        let roster = Roster::fix(&server.play.world.facts.chain, server.assembly().params(), [9; 32], members);
        [server.signed(roster.statement()), roster.list()].concat()
    });
    let (faced, _) = face(server, |_| {}).await;
    faced.stopped(37, &["advertise"]);
}

/// C-43, R-06: leaves that are withheld or exchanged, under the honest roster.
#[tokio::test(flavor = "multi_thread")]
async fn leaves_that_do_not_hash_to_the_roster_get_no_shares() {
    // Everybody has the keys of the last.
    let server = Server::six().telling(|server, asked| {
        asked.reads("leaves").then(|| {
            let leaves = server.play.aggregator.leaves((0..6).map(LeafIndex));
            let mut body = Vec::new();
            let last = leaves.values().last().expect("six");
            indices(asked).iter().for_each(|_| write_prefixed(&mut body, last));
            Reply::new(200, body)
        })
    });
    let (faced, _) = face(server, |_| {}).await;
    faced.stopped(6, &["advertise"]);
}

/// C-44, R-08: a roster that comes so late that the ring could have been ground. C-50: an honest one can be late, and a clock
/// that ran backwards is the client's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_roster_that_comes_late_or_before_the_advert_gets_no_shares() {
    let moving_to = |after: u64| {
        let hands: Hands = hands();
        let moved = hands.clone();
        let server = Server::six().telling(move |_, asked| {
            if asked.reads("roster") {
                *moved.lock().expect("no panic") = after;
            }
            None
        });
        (server, hands)
    };
    for (what, after) in [("late", 120_101), ("backwards", 50)] {
        println!("{what}");
        let (server, hands) = moving_to(after);
        let (faced, _) = face_at(server, |_| {}, &hands).await;
        faced.left_out(8, &["advertise"]);
    }
    let (server, hands) = moving_to(120_100);
    let (faced, _) = face_at(server, |_| {}, &hands).await;
    faced.verified(); // in time to the millisecond
}

/// C-45, R-01: cores of another roster, or under another key.
#[tokio::test(flavor = "multi_thread")]
async fn a_core_of_another_roster_or_key_gets_no_input() {
    let server = Server::six().with_instead("core", |server| {
        let core = CoreSet::fix(server.all_but(&[]), &server.play.world.facts.chain, Digest([7; 32]));
        server.signed(core.statement())
    });
    let (faced, _) = face(server, |_| {}).await;
    faced.stopped(1, &DEALT);
    let server = Server::six().with_instead("core", |server| {
        let core = CoreSet::fix(server.all_but(&[]), &server.play.world.facts.chain, server.assembly().root());
        core.statement().clone().sign(&IdentitySecretKey::from_bytes(&[8; 32])).encode()
    });
    let (faced, _) = face(server, |_| {}).await;
    faced.stopped(1, &DEALT);
}

/// C-46, R-13: mail that comes twice from one dealer: a frame that is not canonical is refused whole.
#[tokio::test(flavor = "multi_thread")]
async fn mail_that_comes_twice_stops_the_client() {
    let server = Server::six().with_instead("mail", |server| {
        let mut mail = server.mail(server.victim());
        mail[1] = mail[0].clone();
        list(&mail)
    });
    let (faced, _) = face(server, |_| {}).await;
    faced.stopped(37, &DEALT[..2]);
}

/// C-47, R-22: neighbours listed alive whose uploads are not shown, or are not theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_the_neighbours_uploads_is_neither_confirmed_nor_opened() {
    for is_altered in [false, true] {
        let server = Server::six().with_instead("uploads", move |server| {
            let mut uploads = server.uploads(server.victim());
            if is_altered {
                *uploads[0].last_mut().expect("signed") ^= 1;
            } else {
                uploads.remove(0);
            }
            list(&uploads)
        });
        let (faced, _) = face(server, |_| {}).await;
        faced.stopped(22, &UPLOADED);
    }
}

/// C-48, R-24: fewer than t confirmations, or such as do not count, open nothing.
#[tokio::test(flavor = "multi_thread")]
async fn confirmations_that_are_too_few_or_not_of_the_agreement_set_get_no_answer() {
    type Bend = fn(&Server) -> Vec<Vec<u8>>;
    let confirmations: [(&str, Bend); 5] = [
        ("one too few", |server| {
            let needed = server.assembly().params().threshold as usize;
            server.confirmations()[..needed - 1].to_vec()
        }),
        ("none", |_| Vec::new()),
        ("of another root", |server| said_by(server, Digest([7; 32]), true, None)),
        ("of members outside the set, and one of it", |server| {
            let root = server.root(StatementKind::Survivors);
            let mut all = said_by(server, root, false, None);
            all.push(server.confirmations()[0].clone());
            all.sort_by_key(|said| sender(said));
            all
        }),
        ("under keys that are not theirs", |server| {
            let root = server.root(StatementKind::Survivors);
            said_by(server, root, true, Some(&IdentitySecretKey::from_bytes(&[8; 32])))
        }),
    ];
    for (what, bend) in confirmations {
        println!("{what}");
        let server = Server::six().with_instead("confirmations", move |server| list(&bend(server)));
        let (faced, _) = face(server, |_| {}).await;
        faced.stopped(24, &confirmed(&faced.sent));
    }
}

fn sender(said: &[u8]) -> ClientId {
    Signed::decode(said, labels::CONFIRM).expect("a confirmation").statement().sender.into()
}

/// Confirmations of a root by the agreement set, or by everybody else, under their own keys or another.
fn said_by(server: &Server, root: Digest, is_of_set: bool, key: Option<&IdentitySecretKey>) -> Vec<Vec<u8>> {
    let members = server.play.world.members.iter();
    let members = members.filter(|member| server.assembly().order().agrees(server.leaf(member.client())) == is_of_set);
    let chain = &server.play.world.facts.chain;
    let sign = |member: &Arc<veilsum_crypto::client::Membership>| {
        Confirmation::sign(chain, root, member.client(), key.unwrap_or(&member.identity)).encode()
    };
    members.map(sign).collect()
}

/// C-49: a result that is not the signed one, or counts others (B13 of the catalogue, as far as a client sees it).
#[tokio::test(flavor = "multi_thread")]
async fn an_altered_result_is_not_believed() {
    type Bend = fn(&Server) -> Vec<u8>;
    let results: [(&str, Bend, u8); 4] = [
        (
            "one bit",
            |server| {
                let mut result = server.served(StatementKind::Result);
                *result.last_mut().expect("a sum") ^= 1;
                result
            },
            20,
        ),
        ("without its sum", |server| server.served(StatementKind::Result)[..220].to_vec(), 20),
        ("counts others", |server| result_of(server, 5, server.root(StatementKind::Survivors)), 20),
        ("of another survivor list", |server| result_of(server, 6, Digest([7; 32])), 1),
    ];
    for (what, bend, rule) in results {
        println!("{what}");
        let (faced, _) = face(Server::six().with_instead("result", move |server| bend(server)), |_| {}).await;
        let mut sent = confirmed(&faced.sent);
        sent.push("unmask");
        faced.stopped(rule, &sent);
    }
}

/// A result of zeros.
fn result_of(server: &Server, count: u32, list: Digest) -> Vec<u8> {
    let zeros = RingVector::zeros(8, server.play.world.facts.header.params.ring_bits);
    let (result, packed) = RoundResult::released(&zeros, count, &server.play.world.facts.chain, list);
    [server.signed(result.statement()), packed].concat()
}
