//! A: the server shows other keys, other clients or other figures than there are. Victims are real clients, over HTTP; where
//! a criterion asks for many trials, the same phase is opened anew for each.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use veilsum_client::RoundOutcome;
use veilsum_client::transport::Reply;
use veilsum_crypto::client::Resumed;
use veilsum_crypto::client::policy::GammaBasis;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::key_advertisement::{RoundKeys, leaf_digest};
use veilsum_crypto::messages::{
    Answer, Certificate, CoreSet, Header, KeyAdvertisement, Roster, SealedShares, Survivors,
};
use veilsum_crypto::params::{RingOrder, RosterParams};
use veilsum_crypto::primitives::agreement::{ChannelSecretKey, MaskingSecretKey, SelfMaskSecret};
use veilsum_crypto::primitives::codec::{Reader, write_prefixed};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed};
use veilsum_crypto::server::{PhaseKind, StatementKind};
use veilsum_crypto::testing::{World, now, os_rng, small_params};

use super::rehearsal::Rehearsal;
use super::{Scale, Seen, trying};
use crate::hostile::front::Asked;
use crate::hostile::server::{Server, face, face_all, from, indices, list};

/// A directory of the server's making, under a roster that it signs over it: which client stands there with which leaf.
pub(super) fn directory(
    made: impl Fn(&Server) -> BTreeMap<ClientId, Vec<u8>> + Send + 'static,
) -> impl FnMut(&mut Server, &Asked) -> Option<Reply> + Send + 'static {
    let mut kept = None;
    move |server, asked| {
        let is_settled = server.play.aggregator.statements.contains_key(&StatementKind::Roster);
        if !is_settled || !(asked.reads("roster") || asked.reads("leaves")) {
            return None;
        }
        let leaves = kept.get_or_insert_with(|| made(server));
        if asked.reads("leaves") {
            let mut body = Vec::new();
            let leaves: Vec<&Vec<u8>> = leaves.values().collect();
            indices(asked).into_iter().for_each(|leaf| write_prefixed(&mut body, leaves[leaf.index()]));
            return Some(Reply::new(200, body));
        }
        let params = RosterParams::derive(leaves.len() as u32, &server.play.world.facts.header.params);
        let members = leaves.iter().map(|(client, leaf)| (*client, leaf_digest(leaf))).collect();
        Some(Reply::new(200, server.roster(members, |own| *own = params.expect("feasible"))))
    }
}

/// The directory as it honestly is.
pub(super) fn admitted(server: &Server) -> BTreeMap<ClientId, Vec<u8>> {
    server.play.aggregator.received[&PhaseKind::Advertising].clone()
}

/// Keys that the server drew itself.
pub(super) fn own_keys() -> RoundKeys {
    let mut rng = os_rng();
    RoundKeys {
        masking: MaskingSecretKey::generate(&mut rng).public(),
        self_mask: SelfMaskSecret::generate(&mut rng).public(),
        channel: ChannelSecretKey::generate(&mut rng).public(),
        nonce: [3; 32],
    }
}

/// How somebody else's leaf is forged by one who holds the aggregator's key and no key of that client or of the authority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Forgery {
    /// The keys are exchanged; certificate and signature stay.
    Exchanged(usize),
    /// The advert is signed by the server, the certificate stays.
    Resigned,
    /// The certificate, too, is the server's.
    Certified,
}

const FORGERIES: [Forgery; 5] =
    [Forgery::Exchanged(0), Forgery::Exchanged(32), Forgery::Exchanged(64), Forgery::Resigned, Forgery::Certified];

fn forged(leaf: &[u8], header: &Header, how: Forgery) -> Vec<u8> {
    let honest = KeyAdvertisement::decode(leaf).expect("admitted");
    let server = IdentitySecretKey::generate(&mut os_rng());
    match how {
        Forgery::Exchanged(at) => {
            let keys = own_keys();
            let key = match at {
                0 => *keys.masking.0.as_bytes(),
                32 => *keys.self_mask.0.as_bytes(),
                _ => *keys.channel.as_bytes(),
            };
            let mut leaf = leaf.to_vec();
            let body = leaf.len() - 64 - 128 + at;
            leaf[body..body + 32].copy_from_slice(&key);
            leaf
        }
        Forgery::Resigned => KeyAdvertisement::sign(honest.certificate().clone(), own_keys(), header, &server).encode(),
        Forgery::Certified => {
            let body = CertificateBody { identity: server.public(), ..*honest.certificate().body() };
            KeyAdvertisement::sign(Certificate::issue(body, &server), own_keys(), header, &server).encode()
        }
    }
}

/// A01. The proxy has keys of its own in a neighbour's place.
pub async fn a01_key_directory_lie(scale: Scale) -> Seen {
    let (honest, _) = face(Server::six(), |_| {}).await;
    honest.verified();
    for how in FORGERIES {
        let lie = directory(move |server| {
            let neighbour = server.neighbours(server.victim())[0];
            let mut leaves = admitted(server);
            leaves.insert(neighbour, forged(&leaves[&neighbour], &server.play.world.facts.header, how));
            leaves
        });
        let (faced, _) = face(Server::six().telling(lie), |_| {}).await;
        faced.stopped(6, &["advertise"]);
    }
    // The same client again and again, each time with somebody else's key exchanged.
    let rehearsal = Rehearsal::new(small_params(6, 8));
    let (victim, trials) = (rehearsal.clients()[0], scale.times(1_000));
    let world = &rehearsal.play.world;
    let assembly = rehearsal.play.aggregator.phase.assembly().expect("a roster");
    let honest: BTreeMap<LeafIndex, Vec<u8>> = rehearsal.play.aggregator.leaves((0..6).map(LeafIndex));
    let mut aborts = 0;
    for trial in 0..trials {
        let other = LeafIndex(1 + (trial % 5) as u32);
        let mut leaves = honest.clone();
        leaves.insert(other, forged(&honest[&other], &world.facts.header, FORGERIES[trial / 5 % FORGERIES.len()]));
        let members = leaves.iter().map(|(leaf, bytes)| (assembly.roster().client(*leaf), leaf_digest(bytes)));
        let roster = Roster::fix(&world.facts.chain, assembly.params(), [9; 32], members.collect());
        let roster = [world.signed(roster.statement().clone()), roster.list()].concat();
        let Resumed::AwaitingRoster(phase, _) = rehearsal.resume(victim) else { panic!("it advertised") };
        let evidence = phase.examine(&roster, now(), &mut os_rng()).expect("in form: only the leaves lie");
        let (phase, _) = world.turn(phase.pin(&evidence));
        aborts += usize::from(phase.share(evidence, &leaves, &mut os_rng()).is_err());
    }
    assert_eq!(aborts, trials, "every exchanged key is found before a share is made");
    Seen::new(format!(
        "{} of {} forgeries over HTTP and {aborts} of {trials} from one saved phase: the client stopped (R-06) before it dealt; 0 \
         shares sent; with honest leaves it saw the round to its end",
        FORGERIES.len(),
        FORGERIES.len()
    ))
    .count("aborts", aborts + FORGERIES.len())
    .count("trials", trials + FORGERIES.len())
    .count("shares sent", 0)
}

/// The server of A02: everything after the adverts is forged, for each half under a roster of its own.
fn in_two_halves(server: &mut Server, asked: &Asked) -> Option<Reply> {
    server.is_deaf |= asked.reads("roster") && server.play.aggregator.statements.contains_key(&StatementKind::Roster);
    if !server.is_deaf || !asked.path.starts_with("/v1/rounds/") || asked.method == "PUT" {
        return None;
    }
    let chain = server.play.world.facts.chain;
    let (me, clients) = (server.leaf(server.client(from(asked))), server.assembly().roster());
    let rosters = [server.served(StatementKind::Roster), {
        let members = server.assembly().roster().members().to_vec();
        server.roster(members, |_| {})
    }];
    let half = usize::from(from(asked) >= 3);
    let root = |half: usize| {
        let signed = Signed::read(&mut Reader::new(&rosters[half]), labels::ROSTER).expect("just signed");
        signed.statement().root()
    };
    let have_spoken = |phase: &str| (0..6).all(|number| server.heard(server.client(number), phase).is_some());
    let later = || Some(Reply::new(204, []));
    let core = CoreSet::fix(server.all_but(&[]), &chain, root(half));
    let mut neighbours = RingOrder::new(&root(half), server.assembly().params()).neighbours(me);
    neighbours.sort();
    if asked.reads("roster") {
        return Some(Reply::new(200, rosters[half].clone()));
    }
    if asked.reads("leaves") {
        return Some(Reply::new(200, server.leaves(indices(asked))));
    }
    if asked.reads("mail") {
        if !have_spoken("share") {
            return later();
        }
        let items = neighbours.iter().filter_map(|dealer| {
            let body = server.heard(clients.client(*dealer), "share")?;
            let dealt = SealedShares::decode(body, server.assembly().params().degree).expect("an honest message");
            dealt.mail(*dealer).into_iter().find(|(holder, _)| *holder == me).map(|(_, item)| item)
        });
        return Some(Reply::new(200, list(&items.collect::<Vec<_>>())));
    }
    if asked.reads("complaints") {
        return if have_spoken("acknowledge") { Some(Reply::new(200, list(&[]))) } else { later() };
    }
    if asked.reads("core") {
        return Some(Reply::new(200, server.signed(core.statement())));
    }
    if !have_spoken("mask") {
        return later();
    }
    if asked.reads("survivors") {
        let survivors = Survivors::fix(server.all_but(&[]), Digest([7; 32]), &chain, core.root());
        return Some(Reply::new(200, server.signed(survivors.statement())));
    }
    if asked.reads("uploads") {
        let upload = |leaf: &LeafIndex| server.heard(clients.client(*leaf), "mask").expect("all spoke")[..223].to_vec();
        return Some(Reply::new(200, list(&neighbours.iter().map(upload).collect::<Vec<_>>())));
    }
    later()
}

/// A02. Two directories over the same leaves, each valid in itself, one for each half.
pub async fn a02_split_directory_view(_: Scale) -> Seen {
    let (honest, _) = face_all(Server::six().against(0..6)).await;
    honest.iter().for_each(|faced| faced.verified());
    let (faced, served) = face_all(Server::six().against(0..6).telling(in_two_halves)).await;
    for one in &faced {
        // It masked under its half's core, and the other half's uploads are under another.
        one.stopped(22, &["advertise", "share", "acknowledge", "mask"]);
    }
    let answers = served.server.lock().expect("no panic").said.iter().filter(|said| said.phase == "unmask").count();
    assert_eq!(answers, 0);
    // Each half kept the roster that it was shown, under the aggregator's signature.
    let rosters = [0, 5].map(|number: usize| roster_in(faced[number].evidence.as_deref().expect("kept")));
    assert!(rosters[0].contradicts(&rosters[1]), "two rosters of one sender in one round");
    let key = served.server.lock().expect("no panic").play.world.aggregator.public();
    assert!(rosters.iter().all(|roster| roster.is_by(&key)));
    Seen::new(
        "6 real clients, 3 shown one roster and 3 another: all masked, none confirmed or answered (R-22); the two signed rosters, \
         from the evidence of one client of each half, contradict each other; undivided, all 6 saw the round to its end",
    )
    .count("answers", answers)
}

/// The roster in a client's evidence.
fn roster_in(evidence: &[u8]) -> Signed {
    let mut reader = Reader::new(&evidence[b"veilsum evidence v1".len()..]);
    loop {
        let (name, bytes) = (reader.prefixed("name").expect("a name"), reader.prefixed("bytes").expect("bytes"));
        if name == b"roster of the round" {
            return Signed::read(&mut Reader::new(bytes), labels::ROSTER).expect("a roster");
        }
    }
}

/// A05. The target's leaf is left out, or another stands in its place.
pub async fn a05_roster_omission(_: Scale) -> Seen {
    let mut aborts = 0;
    for target in 0..6 {
        // A header that permits a roster of five: the omission alone is wrong.
        let mut params = small_params(6, 8);
        (params.roster_min, params.cohort_min) = (5, 4);
        params.ring_bits = params.ring_bits_needed().expect("wide enough");
        let omitting = Server::with(params).against([target]).with_instead("roster", |server| {
            let victim = server.victim();
            let five = RosterParams::derive(5, &server.play.world.facts.header.params).expect("feasible");
            let members = server.assembly().roster().members().iter().filter(|(client, _)| *client != victim);
            server.roster(members.copied().collect(), |params| *params = five)
        });
        let (faced, _) = face(omitting, |_| {}).await;
        faced.stopped(6, &["advertise"]);
        let altering = Server::six().against([target]).with_instead("roster", |server| {
            let mut members = server.assembly().roster().members().to_vec();
            let mine = server.leaf(server.victim()).index();
            members[mine].1 = members[(mine + 1) % 6].1;
            server.roster(members, |_| {})
        });
        let (faced, _) = face(altering, |_| {}).await;
        faced.stopped(6, &["advertise"]);
        aborts += 2;
    }
    Seen::new(format!(
        "at each of 6 places of the roster, left out and altered: {aborts} of 12 stopped (R-06), 0 shares sent"
    ))
    .count("aborts", aborts)
}

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
