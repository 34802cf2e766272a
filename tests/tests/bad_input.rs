//! Everything that is no message of this phase, sent in every phase, by a member of the roster and by a stranger: the status of
//! docs/wire.md §8.1 and §9, and nothing changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use veilsum_crypto::ids::ClientId;
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::{Answer as Shares, Certificate, KeyAdvertisement, ReadPermit};
use veilsum_crypto::primitives::agreement::MaskingSecretKey;
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels::{self, Label};
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed};
use veilsum_crypto::server::{Phase, PhaseKind};
use veilsum_crypto::testing::os_rng;
use verification::hostile::proxy::{Meddling, Proxy};
use verification::hostile::{Answer, Hand, Liar};
use verification::world::*;

/// Phases as in addresses, with the label of their message.
const KINDS: [(&str, PhaseKind, Label); 7] = [
    ("advertise", PhaseKind::Advertising, labels::ADVERT),
    ("share", PhaseKind::Sharing, labels::SHARE),
    ("acknowledge", PhaseKind::Acknowledging, labels::ACKNOWLEDGEMENT),
    ("open", PhaseKind::Opening, labels::OPENING),
    ("mask", PhaseKind::Masking, labels::UPLOAD),
    ("confirm", PhaseKind::Confirming, labels::CONFIRM),
    ("unmask", PhaseKind::Unmasking, labels::ANSWER),
];

/// The client that deals one bad share, so that there is an open phase.
const LIAR: usize = 0;
/// The member whose messages wait at the gate while others are sent in its name.
const MEMBER: usize = 5;
const STRANGER: ClientId = ClientId([0xee; 16]);

/// Who is said to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sender {
    Member,
    Stranger,
}

/// A round that is held in each of its phases in turn.
struct Held {
    world: Arc<World>,
    /// Messages up to this phase pass the proxy before the aggregator.
    until: watch::Sender<u8>,
    proxy: Proxy,
    liar: Liar,
    member: Hand,
    stranger: IdentitySecretKey,
    /// Phases in which the member's own message was admitted.
    spoke: BTreeSet<PhaseKind>,
}

impl Held {
    async fn new() -> Self {
        let world = Arc::new(World::new(Shape::patient(6)).await);
        let (until, gate) = watch::channel(0_u8);
        let proxy = Proxy::before(world.address, move |asked| {
            let kind = KINDS.iter().find(|(phase, ..)| asked.puts(phase)).map(|(_, kind, _)| *kind as u8);
            let mut gate = gate.clone();
            async move {
                if let Some(kind) = kind {
                    let _ = gate.wait_for(|until| *until > kind).await; // an error: the test is over
                }
                Meddling::Pass
            }
        })
        .await;
        let liar = Liar::new(Hand::new(&world, LIAR, 1).await);
        let member = Hand::new(&world, MEMBER, 1).await;
        let stranger = IdentitySecretKey::from_bytes(&random());
        Self { world, until, proxy, liar, member, stranger, spoke: BTreeSet::new() }
    }

    /// Whatever a message can change: rows by table, and the version of the round.
    async fn rows(&self) -> BTreeMap<&'static str, i64> {
        let mut rows = BTreeMap::new();
        for table in ["received", "claims", "mail", "partial_sums", "statements", "log_entries", "ledger", "faults"] {
            rows.insert(table, self.world.count(&format!("SELECT count(*) FROM {table}")).await);
        }
        rows.insert("version", self.world.count("SELECT max(version) FROM rounds").await);
        rows
    }

    /// Sends a body in somebody's name.
    async fn put(&self, sender: Sender, phase: &str, body: &[u8]) -> Answer {
        let client = if sender == Sender::Member { self.member.client() } else { STRANGER };
        self.member.put_as(client, phase, body).await
    }

    /// Bodies that are no message of this kind, whoever sends them.
    fn bodies(&self, kind: PhaseKind, sender: Sender) -> Vec<Vec<u8>> {
        let key = if sender == Sender::Member { &self.member.member.identity } else { &self.stranger };
        let client = if sender == Sender::Member { self.member.client() } else { STRANGER };
        let chain = self.member.header.chain();
        // Signed, of this round, and of another kind.
        let label = if kind == PhaseKind::Confirming { labels::UPLOAD } else { labels::CONFIRM };
        let other_kind = chain.from_client(client, chain.context).statement(label, Vec::new()).sign(key).encode();
        vec![Vec::new(), vec![0; 60], vec![0xff; 150], other_kind]
    }

    /// What docs/wire.md says of such a body: §8.1 has the order, §9 the rules.
    fn expected(&self, now: PhaseKind, kind: PhaseKind, sender: Sender, agrees: bool) -> (u16, Option<u8>) {
        let is_member = sender == Sender::Member;
        let other_bytes = if kind == PhaseKind::Masking { 19 } else { 3 };
        match kind {
            kind if kind > now => (425, None),
            kind if kind > PhaseKind::Advertising && !is_member => (404, None),
            kind if kind < now && is_member && self.spoke.contains(&kind) => (409, Some(other_bytes)),
            kind if kind < now => (410, None),
            PhaseKind::Opening => (422, Some(16)), // nobody complains about the member
            PhaseKind::Confirming if !agrees => (422, Some(23)),
            _ => (400, Some(37)),
        }
    }

    /// Everything wrong, in the phase that is open now; returns how much.
    async fn send_everything(&self, now: PhaseKind) -> usize {
        let view = self.world.rounds().view(self.member.round).await.expect("a known round");
        let agrees = view
            .phase
            .assembly()
            .is_some_and(|assembly| assembly.order().agrees(assembly.find(self.member.client()).expect("on it").0));
        let before = self.rows().await;
        let mut sent = 0;
        for (phase, kind, _) in KINDS {
            for sender in [Sender::Member, Sender::Stranger] {
                let (status, rule) = self.expected(now, kind, sender, agrees);
                for body in self.bodies(kind, sender) {
                    println!("{now:?}: {phase} of {sender:?}, {} bytes: {status} {rule:?}", body.len());
                    self.put(sender, phase, &body).await.is(status, rule);
                    sent += 1;
                }
            }
        }
        // What a stranger would read, with and without a permit of its own.
        let stranger = |path: &str| {
            let permit = ReadPermit::sign(path, &self.member.header.chain(), STRANGER, &self.stranger);
            hex::encode(permit.encode())
        };
        for what in ["roster", "core", "survivors", "confirmations", "result"] {
            let path = self.member.path(what);
            self.member.get(&path, None).await.is(403, Some(35));
            self.member.get(&path, Some(&stranger(&path))).await.is(403, Some(35));
            sent += 2;
        }
        assert_eq!(self.rows().await, before, "{now:?}: nothing changes");
        sent
    }

    /// The member's own message, signed anew over something else, or with another signature.
    async fn bend_the_right_one(&self, phase: &str, label: Label, message: &[u8]) -> usize {
        let before = self.rows().await;
        let is_leaf = phase == "advertise";
        // A leaf has its advert behind the certificate.
        let (head, statement) = if is_leaf { message.split_at(4 + 260 + 4) } else { message.split_at(0) };
        let length = Signed::read(&mut Reader::new(statement), label).expect("its own").encode().len();
        let (head, statement) = (head.to_vec(), statement.to_vec());
        let resigned = |alter: &dyn Fn(&mut veilsum_crypto::primitives::signature::Statement)| {
            [head.clone(), self.member.sign(&statement, label, |statement| alter(statement))].concat()
        };
        self.put(Sender::Member, phase, &resigned(&|statement| statement.context.0[0] ^= 1)).await.is(422, Some(1));
        self.put(Sender::Member, phase, &resigned(&|statement| statement.previous.0[0] ^= 1)).await.is(422, Some(1));
        let mut forged = message.to_vec();
        forged[head.len() + length - 1] ^= 0x20; // in S
        self.put(Sender::Member, phase, &forged).await.is(403, Some(37));
        self.put(Sender::Member, phase, &message[..message.len() - 1]).await.is(400, Some(37));
        // In the name of another member, who is entitled here.
        let view = self.world.rounds().view(self.member.round).await.expect("a known round");
        let agrees = |client: ClientId| {
            view.phase
                .assembly()
                .is_some_and(|assembly| assembly.order().agrees(assembly.find(client).expect("on it").0))
        };
        let others = self.world.ids(1..5);
        let other = others.into_iter().find(|client| phase != "confirm" || agrees(*client)).expect("three at least");
        self.member.put_as(other, phase, message).await.is(403, None);
        assert_eq!(self.rows().await, before, "{phase}: nothing changes");
        5
    }
}

/// C-20: whatever is no message of a phase gets the documented status, in every phase, from a member and from a stranger, and
/// changes nothing; the round it was sent into ends with the exact sum of all.
#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_in_every_phase_from_member_and_stranger_changes_nothing() {
    let mut held = Held::new().await;
    let (world, round) = (held.world.clone(), held.member.round);
    let running: Vec<Running> = (1..6).map(|number| world.send(number, world.line_to(held.proxy.address()))).collect();
    let line = running[MEMBER - 1].line.clone();
    let mut sent = 0;
    for (phase, kind, label) in KINDS {
        let view = world.reached(round, kind).await;
        assert_eq!(view.phase.kind(), kind, "the round is held here");
        let has_message = match kind {
            PhaseKind::Opening => false,
            PhaseKind::Confirming => {
                let assembly = view.phase.assembly().expect("a roster");
                assembly.order().agrees(assembly.find(held.member.client()).expect("on it").0)
            }
            _ => true,
        };
        if has_message {
            // Its own message has come to the gate.
            while line.sent(phase).is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        sent += held.send_everything(kind).await;
        if has_message {
            sent += held.bend_the_right_one(phase, label, &line.sent(phase)[0]).await;
            held.spoke.insert(kind);
        }
        if kind == PhaseKind::Advertising {
            sent += strangers_advertise(&held).await;
        }
        liar_speaks(&mut held, kind).await;
        held.until.send_replace(kind as u8 + 1);
    }
    let view = world.over(round).await;
    assert_eq!(view.phase.kind(), PhaseKind::Published);
    sent += held.send_everything(PhaseKind::Published).await;
    for running in running {
        let ending = running.end().await;
        assert!(ending.verified().is_some(), "{ending:?}");
    }
    world.is_exact_sum_of(round, &world.ids(0..6)).await;
    assert!(sent > 8 * KINDS.len() * 2 * 4, "{sent} requests");
    println!("{sent} requests");
}

/// Adverts of who is certified by somebody else, or for somebody else.
async fn strangers_advertise(held: &Held) -> usize {
    let before = held.rows().await;
    let keys = *KeyAdvertisement::decode(&held.liar.advert()).expect("its own").keys();
    let body = CertificateBody {
        client: STRANGER,
        identity: held.stranger.public(),
        ..*held.member.member.certificate.body()
    };
    let other_authority = IdentitySecretKey::from_bytes(&random());
    let leaf =
        KeyAdvertisement::sign(Certificate::issue(body, &other_authority), keys, &held.member.header, &held.stranger);
    held.put(Sender::Stranger, "advertise", &leaf.encode()).await.is(403, Some(6));
    // The member's certificate under the stranger's key, in the member's name and in the stranger's.
    let stolen = held.member.member.certificate.clone();
    let leaf = KeyAdvertisement::sign(stolen, keys, &held.member.header, &held.stranger).encode();
    held.put(Sender::Member, "advertise", &leaf).await.is(403, Some(37));
    held.put(Sender::Stranger, "advertise", &leaf).await.is(403, None);
    assert_eq!(held.rows().await, before, "nothing changes");
    3
}

/// The liar keeps to the protocol, but for one share; it holds no shares of others, and says so.
async fn liar_speaks(held: &mut Held, kind: PhaseKind) {
    let (world, round) = (held.world.clone(), held.member.round);
    let view = world.rounds().view(round).await.expect("a known round");
    let liar = &mut held.liar;
    match kind {
        PhaseKind::Advertising => liar.hand.put("advertise", &liar.advert()).await.is_admitted(),
        PhaseKind::Sharing => {
            let victim = liar.neighbours(&view).into_iter().find(|leaf| {
                let client = view.phase.assembly().expect("a roster").roster().client(*leaf);
                client != world.clients[MEMBER].id
            });
            let victim = victim.expect("several neighbours");
            let message = liar.deal(&view, |dealt| {
                if dealt.holder == victim {
                    dealt.pair.self_mask = MaskingSecretKey::generate(&mut os_rng()).to_scalar();
                }
            });
            liar.hand.put("share", &message).await.is_admitted();
        }
        PhaseKind::Acknowledging => {
            let message = liar.acknowledgement(&world, &view).await;
            liar.hand.put("acknowledge", &message).await.is_admitted();
        }
        PhaseKind::Opening => {
            let Phase::Opening(phase) = &view.phase else { panic!("it is held there") };
            let assembly = view.phase.assembly().expect("a roster");
            let me = assembly.find(liar.hand.client()).expect("on it").0;
            let complainers = phase.complainers(me);
            let edges = complainers.iter().map(|client| assembly.find(*client).expect("on it").0);
            let edges = edges.map(|holder| (holder, liar.pair(holder))).collect();
            liar.hand.put("open", &liar.opening(&view, edges)).await.is_admitted();
        }
        PhaseKind::Masking => {
            let (input, values) = liar.mask(&view);
            world.noised.lock().expect("no panic").insert(liar.hand.client(), values);
            liar.hand.put("mask", &input).await.is_admitted();
        }
        PhaseKind::Unmasking => {
            let Phase::Unmasking(phase) = &view.phase else { panic!("it is held there") };
            let none = liar.neighbours(&view).iter().map(|_| None).collect();
            let (chain, list) = (&view.facts.chain, phase.survivors().root());
            let answer = Shares::sign(none, chain, list, liar.hand.client(), &liar.hand.member.identity);
            liar.hand.put("unmask", &answer.encode()).await.is_admitted();
        }
        _ => {}
    }
}
