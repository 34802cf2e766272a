//! A: the server shows other keys or other directories than there are. Victims are real clients, over HTTP; where a criterion asks
//! for many trials, the same phase is opened anew for each.

use std::collections::BTreeMap;

use veilsum_client::transport::Reply;
use veilsum_crypto::client::Resumed;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::key_advertisement::{RoundKeys, leaf_digest};
use veilsum_crypto::messages::{Certificate, CoreSet, Header, KeyAdvertisement, Roster, SealedShares, Survivors};
use veilsum_crypto::params::{RingOrder, RosterParams};
use veilsum_crypto::primitives::agreement::{ChannelSecretKey, MaskingSecretKey, SelfMaskSecret};
use veilsum_crypto::primitives::codec::{Reader, write_prefixed};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed};
use veilsum_crypto::server::{PhaseKind, StatementKind};
use veilsum_crypto::testing::{now, os_rng, small_params};

use super::rehearsal::Rehearsal;
use super::{Scale, Seen};
use crate::hostile::front::Asked;
use crate::hostile::server::{Server, indices, list};
use crate::hostile::victims::{face, face_all, from};

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
