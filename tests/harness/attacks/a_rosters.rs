//! A, continued: rosters of the wrong people, of the wrong size, or with figures and neighbours of the server's choice. Victims are
//! real clients, over HTTP.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use veilsum_client::RoundOutcome;
use veilsum_crypto::client::policy::GammaBasis;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::{Answer, Certificate, Header, Roster, SealedShares};
use veilsum_crypto::params::RosterParams;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::testing::{World, now, os_rng, small_params};

use super::{Scale, Seen, trying};
use crate::hostile::server::{Server, list};
use crate::hostile::victims::face;

/// A06. Everybody but the target is the server's.
pub async fn a06_sybil_cohort(_: Scale) -> Seen {
    let basis = GammaBasis::CertifiedGroup { coverage_min: 500_000, corrupt_of_group: 25_000 };
    // The group is the roster: the policy is met.
    let (covered, _) = face(Server::six(), |join| join.policy.gamma = basis).await;
    covered.verified();
    // Fresh clients of one enroller: not of the target's group.
    let foreign = recertified(|number, body| body.group = if number == 0 { 0 } else { 7 });
    // Sybils that were slipped into the target's group: of its hundred members the server shows those six.
    let gathered = recertified(|_, body| body.group_size = 100);
    for (what, world) in [("of one other group", foreign), ("gathered from one group", gathered)] {
        trying(what);
        let (faced, _) = face(Server::new(world), |join| join.policy.gamma = basis).await;
        faced.stopped(7, &["advertise"]);
    }
    // A header whose gamma does not cover the part that the roster may be of the group.
    let thin = GammaBasis::CertifiedGroup { coverage_min: 500_000, corrupt_of_group: 50_000 };
    let (faced, _) = face(Server::six(), |join| join.policy.gamma = thin).await;
    assert_eq!(faced.sent, [""; 0], "{:?}", faced.ended);
    assert!(matches!(faced.outcome(), RoundOutcome::Stopped { .. }), "{:?}", faced.ended);
    // What is left is said: by the policy that assumes, and in the threat model.
    let assumed = World::new(small_params(6, 8)).members[0].policy.assumptions();
    assert!(assumed.iter().any(|said| said.contains("gamma is assumed per roster")), "{assumed:?}");
    let threat_model = include_str!("../../../docs/threat-model.md");
    assert!(threat_model.contains("* Sybils: whoever is certified counts as a client."));
    Seen::new(
        "a policy that demands half of a certified group stopped at Sybils of another group, at six gathered out of a hundred and \
         at a gamma too small for it (R-07): 0 uploads; a policy without it prints the assumption, and docs/threat-model.md says \
         what is left",
    )
    .count("uploads", 0)
}

/// Six clients with other certificates.
fn recertified(change: impl Fn(usize, &mut CertificateBody)) -> World {
    let mut world = World::new(small_params(6, 8));
    for (number, member) in world.members.iter_mut().enumerate() {
        let mut body = *member.certificate.body();
        change(number, &mut body);
        *member = std::sync::Arc::new(veilsum_crypto::client::Membership {
            identity: IdentitySecretKey::from_bytes(&member.identity.to_bytes()),
            certificate: Certificate::issue(body, &world.authority),
            policy: member.policy.clone(),
        });
    }
    world
}

/// A07. The roster says a thousand, and two leaves are under it.
pub async fn a07_claimed_cohort(_: Scale) -> Seen {
    let thousand = || {
        let mut params = small_params(6, 8);
        params.roster_max = 1_000;
        params.ring_bits = params.ring_bits_needed().expect("wide enough");
        let six = World::new(small_params(6, 8));
        let header = Header { params, ..six.facts.header.clone() };
        World { facts: veilsum_crypto::server::RoundFacts::new(header, six.facts.revoked.clone()), ..six }
    };
    let (honest, _) = face(Server::new(thousand()), |_| {}).await;
    honest.verified();
    type Shown = fn(Vec<u8>, &Server) -> Vec<u8>;
    let shapes: [(&str, Shown); 3] = [
        ("two leaves", |statement, server| [statement, entries(server, 2)].concat()),
        ("none", |statement, _| statement),
        // The two, five hundred times.
        ("two leaves again and again", |statement, server| [statement, entries(server, 2).repeat(500)].concat()),
    ];
    for (what, shown) in shapes {
        trying(what);
        let server = Server::new(thousand()).with_instead("roster", move |server| {
            let params = RosterParams::derive(1_000, &server.play.world.facts.header.params).expect("feasible");
            let two = server.assembly().roster().members()[..2].to_vec();
            let roster = Roster::fix(&server.play.world.facts.chain, &params, [9; 32], two);
            shown(server.signed(roster.statement()), server)
        });
        let (faced, _) = face(server, |_| {}).await;
        faced.stopped(37, &["advertise"]);
    }
    Seen::new("n = 1,000 announced over 2 leaves, over none, and over 2 repeated 500 times: 3 of 3 stopped (R-37), 0 shares sent")
        .count("aborts", 3)
}

/// The first entries of the honest roster's list.
fn entries(server: &Server, count: usize) -> Vec<u8> {
    server.assembly().roster().list()[..48 * count].to_vec()
}

type Downgrade = (&'static str, fn(&mut Header));

/// Each alone is below what the default policy takes.
const DOWNGRADES: [Downgrade; 12] = [
    ("modulus 2^8", |header| header.params.ring_bits = veilsum_crypto::math::ring::RingBits::MIN),
    ("clip infinite", |header| header.params.clip_norm = f64::INFINITY),
    ("clip huge", |header| header.params.clip_norm *= 1e7),
    ("noise 0", |header| header.params.total_variance = 0),
    ("sigma 0", |header| header.params.security_bits = 0),
    ("sigma 40", |header| header.params.security_bits = 40),
    ("eta 0", |header| header.params.completion_bits = 0),
    ("n_min 1", |header| (header.params.roster_min, header.params.cohort_min) = (1, 1)),
    ("cohort_min 1", |header| header.params.cohort_min = 1),
    ("gamma 0", |header| header.params.corrupt_fraction = 0),
    ("delta 0.9", |header| header.params.dropout_tolerance = 900_000),
    ("dp_delta 0.5", |header| header.params.dp_delta = 0.5),
];

/// A08. Weaker figures, one at a time and in pairs: in the header, and (t, k) in the roster.
pub async fn a08_parameter_downgrade(_: Scale) -> Seen {
    let (honest, _) = face(Server::six(), |_| {}).await;
    honest.verified();
    for (what, change) in DOWNGRADES {
        trying(what);
        let (faced, _) = face(Server::six().heading(change), |_| {}).await;
        assert_eq!(faced.sent, [""; 0], "{what}: {:?}", faced.ended);
        assert!(matches!(faced.outcome(), RoundOutcome::Stopped { .. }), "{what}: {:?}", faced.ended);
    }
    let world = World::new(small_params(6, 8));
    let (mut pairs, mut refused) = (0, 0);
    for (at, (_, first)) in DOWNGRADES.iter().enumerate() {
        for (_, second) in &DOWNGRADES[at + 1..] {
            let mut header = world.facts.header.clone();
            first(&mut header);
            second(&mut header);
            let header = world.signed(header.statement());
            let turn = world.enrolled(0).advertise(
                veilsum_crypto::testing::TASK,
                &header,
                &Default::default(),
                now(),
                &mut os_rng(),
            );
            (pairs, refused) = (pairs + 1, refused + usize::from(turn.is_err()));
        }
    }
    assert_eq!(refused, pairs, "every pair is refused");
    type Change = fn(&mut RosterParams);
    let graphs: [(&str, Change); 6] = [
        ("t = 1, k = 2", |params| (params.threshold, params.degree) = (1, 2)),
        ("t = 1", |params| params.threshold = 1),
        ("k = 2", |params| params.degree = 2),
        ("t at most k / 2: both halves of the ring open", |params| params.threshold = params.degree / 2),
        ("t + 1", |params| params.threshold += 1),
        ("h - 1: less noise for each", |params| params.honest -= 1),
    ];
    for (what, change) in graphs {
        trying(what);
        let server = Server::six().with_instead("roster", move |server| {
            let members = server.assembly().roster().members().to_vec();
            server.roster(members, change)
        });
        let (faced, _) = face(server, |_| {}).await;
        faced.stopped(4, &["advertise"]);
    }
    Seen::new(format!(
        "{} figures of the header, alone over HTTP and in all {pairs} pairs, got no advert; {} pairs of k and t in the roster got \
         no shares (R-02, R-14, R-04)",
        DOWNGRADES.len(),
        graphs.len()
    ))
    .count("pairs refused", refused)
    .count("pairs", pairs)
}

/// The ring of docs/protocol.md §3.2, computed here from the text alone: leaf indices by position.
pub(super) fn ring(roster: Digest, n: u32) -> Vec<u32> {
    let label = b"veilsum/1/ring";
    let key = |index: &u32| -> [u8; 32] {
        let hash = Sha256::new_with_prefix([label.len() as u8]).chain_update(label).chain_update(roster.0);
        hash.chain_update(index.to_le_bytes()).finalize().into()
    };
    let mut order: Vec<u32> = (0..n).collect();
    order.sort_by_key(key);
    order
}

/// A09. The server would like other neighbours for its target. There is no list of neighbours to send: they follow from the
/// roster. What it can send are other figures, and mail from dealers of its choice.
pub async fn a09_server_picks_neighbours(_: Scale) -> Seen {
    let (n, k) = (12, 8);
    let mut rounds = 0;
    for _ in 0..3 {
        let (faced, served) = face(Server::twelve(), |_| {}).await;
        faced.verified();
        let server = served.server.lock().expect("no panic");
        assert_eq!(server.assembly().params().degree as usize, k);
        let order = ring(server.assembly().root(), n);
        let me = server.leaf(server.victim());
        let position = order.iter().position(|leaf| *leaf == me.0).expect("on the ring");
        let at = |offset: usize| order[(position + n as usize - k / 2 + offset) % n as usize];
        let expected: Vec<u32> = (0..=k).filter(|offset| *offset != k / 2).map(at).collect();
        let body = server.heard(server.victim(), "share").expect("it dealt");
        let dealt = SealedShares::decode(body, k as u32).expect("its own");
        let holders: Vec<u32> = dealt.edges().iter().map(|edge| edge.holder.0).collect();
        assert_eq!(holders, expected, "it deals to the ring that follows from roster and seed");
        let answer = Answer::decode(server.heard(server.victim(), "unmask").expect("it answered"), k);
        assert_eq!(answer.expect("its own").shares().len(), k, "and answers about nobody else");
        rounds += 1;
    }
    // Figures that make another ring.
    for degree in [2, 6, 10] {
        let server = Server::twelve().with_instead("roster", move |server| {
            let members = server.assembly().roster().members().to_vec();
            server.roster(members, |params| params.degree = degree)
        });
        let (faced, _) = face(server, |_| {}).await;
        faced.stopped(4, &["advertise"]);
    }
    // Mail from dealers who are no neighbours, in place of its own: it has none of it, and comes into no core.
    let server = Server::twelve().with_instead("mail", |server| {
        let victim = server.victim();
        let near: BTreeSet<ClientId> = server.neighbours(victim).into_iter().chain([victim]).collect();
        let far = (0..12).map(|number| server.client(number)).find(|client| !near.contains(client));
        let far = far.expect("three are no neighbours");
        let from_far = |item: &Vec<u8>| {
            let dealer = LeafIndex(u32::from_le_bytes(item[..4].try_into().expect("a dealer")));
            !near.contains(&server.assembly().roster().client(dealer))
        };
        let elsewhere = server.mail(near.iter().copied().find(|client| *client != victim).expect("a neighbour"));
        let mut mail: Vec<Vec<u8>> =
            [server.mail(far), elsewhere].concat().into_iter().filter(|item| from_far(item)).collect();
        mail.sort();
        mail.dedup_by_key(|item| item[..4].to_vec());
        mail.sort_by_key(|item| u32::from_le_bytes(item[..4].try_into().expect("a dealer")));
        assert!(!mail.is_empty(), "somebody deals who is no neighbour");
        list(&mail)
    });
    let (faced, _) = face(server, |_| {}).await;
    faced.left_out(17, &["advertise", "share", "acknowledge"]);
    Seen::new(format!(
        "in {rounds} rounds of n = 12, k = 8 every share went to the ring computed from docs/protocol.md alone; 3 other degrees got no \
         shares (R-04); mail from 3 clients outside the ring counted for nothing and the client uploaded nothing (R-17)"
    ))
    .count("aborts", 4)
}
