//! The real client against an aggregator that lies. Each lie is one deviation from an honest round in memory; the client
//! stops under the rule named, keeps the evidence, and sends nothing further.
//!
//! Both kinds of share of one client cannot even be asked for: an answer is computed from the survivor list that the client
//! accepted, and has one entry a neighbour (`veilsum_crypto::client`, R-25).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use veilsum_client::config::{Identity, Join};
use veilsum_client::transport::memory::{MemoryRequest, MemoryTransport, Method};
use veilsum_client::transport::{Reply, TransportError};
use veilsum_client::{LocalWork, Participant, RoundOutcome};
use veilsum_crypto::client::*;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, Timestamp};
use veilsum_crypto::messages::{
    Bitmap, Confirmation, CoreSet, Header, ReadPermit, RevocationList, Roster, RoundResult, Survivors,
};
use veilsum_crypto::params::{RosterParams, RoundParams};
use veilsum_crypto::primitives::codec::write_prefixed;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle::TreeHead;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed, Statement};
use veilsum_crypto::server::{PhaseKind, RoundFacts, StatementKind};
use veilsum_crypto::testing::{Play, TASK, World, client_id, now, os_rng, small_params};
use veilsum_crypto::update::ModelUpdate;
use verification::world::sha256;

const MODEL: &[u8] = b"a model";
/// The real client's number; all others are played honestly by the harness.
const VICTIM: usize = 0;

/// What is served in place of the honest answer to one path; `None`: the honest one.
type Lie = Box<dyn Fn(&mut Server, &MemoryRequest) -> Option<Vec<u8>> + Send>;

/// An aggregator in memory with all clients but one. It moves on as that one speaks.
struct Server {
    play: Play,
    rosters: BTreeMap<ClientId, AwaitingRoster>,
    mails: BTreeMap<ClientId, AwaitingMail>,
    ready: BTreeMap<ClientId, ReadyToMask>,
    uploaded: BTreeMap<ClientId, AwaitingSurvivors>,
    confirmed: BTreeMap<ClientId, ReadyToUnmask>,
    /// Every message of the victim, in order.
    puts: Vec<String>,
    lie: Option<Lie>,
}

impl Server {
    fn new(world: World) -> Self {
        Self {
            play: Play::of(world),
            rosters: BTreeMap::new(),
            mails: BTreeMap::new(),
            ready: BTreeMap::new(),
            uploaded: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            puts: Vec::new(),
            lie: None,
        }
    }

    fn victim(&self) -> ClientId {
        self.play.world.members[VICTIM].client()
    }

    fn others(&self) -> Vec<usize> {
        (0..self.play.world.members.len()).filter(|number| *number != VICTIM).collect()
    }

    fn assembly(&self) -> &veilsum_crypto::server::Assembly {
        self.play.aggregator.phase.assembly().expect("there is a roster")
    }

    fn leaf(&self, client: ClientId) -> LeafIndex {
        self.assembly().roster().leaf_of(client).expect("on the roster")
    }

    fn signed(&self, statement: &Statement) -> Vec<u8> {
        self.play.world.signed(statement.clone())
    }

    /// Everybody on the roster but these.
    fn all_but(&self, without: &[ClientId]) -> Bitmap {
        let n = self.assembly().params().n;
        let without: Vec<LeafIndex> = without.iter().map(|client| self.leaf(*client)).collect();
        Bitmap::of(n, (0..n).map(LeafIndex).filter(|leaf| !without.contains(leaf)))
    }

    fn core_root(&self) -> Digest {
        let (bytes, _) = &self.play.aggregator.statements[&StatementKind::Core];
        Statement::decode(bytes, labels::CORE).expect("as fixed").root()
    }

    fn survivor_root(&self) -> Digest {
        let (bytes, _) = &self.play.aggregator.statements[&StatementKind::Survivors];
        Statement::decode(bytes, labels::SURVIVORS).expect("as fixed").root()
    }

    /// A core that the aggregator signs, honest or not.
    fn core(&self, members: Bitmap) -> Vec<u8> {
        let core = CoreSet::fix(members, &self.play.world.facts.chain, self.assembly().root());
        self.signed(core.statement())
    }

    /// A survivor list over the core in force.
    fn survivors(&self, members: Bitmap) -> Vec<u8> {
        let survivors = Survivors::fix(members, Digest([7; 32]), &self.play.world.facts.chain, self.core_root());
        self.signed(survivors.statement())
    }

    /// The victim's neighbours, in its order.
    fn neighbours(&self) -> Vec<ClientId> {
        let neighbours = self.assembly().order().neighbours(self.leaf(self.victim()));
        neighbours.into_iter().map(|leaf| self.assembly().roster().client(leaf)).collect()
    }

    fn uploads(&self) -> Vec<Vec<u8>> {
        let mut uploads = self.play.aggregator.uploads_for(self.victim());
        uploads.sort_by_key(|upload| Signed::decode(upload, labels::UPLOAD).expect("admitted").statement().sender);
        uploads
    }

    fn confirmations(&self) -> Vec<Vec<u8>> {
        self.play.aggregator.bodies(PhaseKind::Confirming)
    }

    fn answer(&mut self, request: &MemoryRequest) -> Reply {
        if request.method == Method::Get && request.path.starts_with("/v1/rounds/") {
            let permit = ReadPermit::decode(request.permit.as_ref().expect("a permit")).expect("in form");
            let key = self.play.world.members[VICTIM].identity.public();
            assert!(permit.permits(&request.path, &self.play.world.facts.chain, &key), "a permit for {}", request.path);
        }
        let lie = self.lie.take();
        let told = lie.as_ref().and_then(|lie| lie(self, request));
        self.lie = lie;
        match told {
            Some(body) => Reply::new(200, body),
            None => self.honest(request),
        }
    }

    fn honest(&mut self, request: &MemoryRequest) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parts: Vec<&str> = path.split('/').skip(2).collect();
        match (request.method, &parts[..]) {
            (Method::Put, ["rounds", _, phase, _]) => {
                self.puts.push(phase.to_string());
                self.take(phase, &request.body);
                Reply::new(204, [])
            }
            (_, ["tasks", _, "header"]) if query == "after=0" => Reply::new(200, self.play.world.header()),
            (_, ["tasks", _, "header"]) => Reply::new(204, []),
            (_, ["models", _]) => Reply::new(200, MODEL),
            (_, ["rounds", _, "leaves"]) => {
                let wanted: Vec<LeafIndex> =
                    query[2..].split(',').map(|index| LeafIndex(index.parse().expect("an index"))).collect();
                let leaves = self.play.aggregator.leaves(wanted.iter().copied());
                let mut body = Vec::new();
                wanted.iter().for_each(|leaf| write_prefixed(&mut body, &leaves[leaf]));
                Reply::new(200, body)
            }
            (_, ["rounds", _, "confirmations"]) => {
                self.confirm(); // the victim need not be of the agreement set
                Reply::new(200, list(&self.confirmations()))
            }
            (_, ["rounds", _, what]) => {
                let kind = match *what {
                    "roster" => StatementKind::Roster,
                    "core" => StatementKind::Core,
                    "survivors" => StatementKind::Survivors,
                    "result" => StatementKind::Result,
                    _ => panic!("{path}"),
                };
                Reply::new(200, self.play.aggregator.served(&self.play.world, kind))
            }
            (_, ["rounds", _, "mail", _]) => {
                let mut mail = self.play.aggregator.mail.get(&self.victim()).cloned().unwrap_or_default();
                mail.sort_by_key(|item| u32::from_le_bytes(item[..4].try_into().expect("a dealer")));
                Reply::new(200, list(&mail))
            }
            (_, ["rounds", _, "complaints" | "openings", _]) => Reply::new(200, list(&[])),
            (_, ["rounds", _, "uploads", _]) => Reply::new(200, list(&self.uploads())),
            _ => panic!("an honest client does not ask for {path}"),
        }
    }

    /// The victim's message, then those of all others; then the phase closes.
    fn take(&mut self, phase: &str, body: &[u8]) {
        let victim = self.victim();
        let others = self.others();
        let play = &mut self.play;
        match phase {
            "advertise" => {
                play.put(victim, body);
                let header = play.world.header();
                for number in others {
                    let enrolled = play.world.enrolled(number);
                    let turn = enrolled.advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng());
                    let (phase, body) = play.world.turn(turn.expect("an honest header"));
                    let client = play.world.members[number].client();
                    play.put(client, &body);
                    self.rosters.insert(client, phase);
                }
                play.aggregator.close(&play.world);
            }
            "share" => {
                play.put(victim, body);
                self.mails = play.share(std::mem::take(&mut self.rosters));
            }
            "acknowledge" => {
                play.put(victim, body);
                self.ready = play.acknowledge(std::mem::take(&mut self.mails));
            }
            "mask" => {
                play.put(victim, body);
                self.uploaded = play.mask(std::mem::take(&mut self.ready));
            }
            "confirm" => {
                play.put(victim, body);
                self.confirm();
            }
            "unmask" => {
                play.put(victim, body);
                play.unmask(std::mem::take(&mut self.confirmed));
            }
            _ => panic!("{phase}"),
        }
    }

    fn confirm(&mut self) {
        if !self.uploaded.is_empty() {
            self.confirmed = self.play.confirm(std::mem::take(&mut self.uploaded));
        }
    }
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut body = (items.len() as u16).to_le_bytes().to_vec();
    items.iter().for_each(|item| write_prefixed(&mut body, item));
    body
}

/// How it ended for the victim.
struct Told {
    outcome: RoundOutcome,
    puts: Vec<String>,
    server: Arc<Mutex<Server>>,
}

struct Zeros;

impl LocalWork for Zeros {
    fn train(&mut self, header: &Header, _: &[u8]) -> Result<ModelUpdate, Box<dyn std::error::Error + Send + Sync>> {
        Ok(ModelUpdate::new(vec![0.0; header.params.vector_len as usize])?)
    }
}

/// Clocks that the test moves, in milliseconds after noon.
type Hands = Arc<Mutex<u64>>;

/// The real client takes part once; then once more, shortly, to see that it says nothing further.
async fn told(mut server: Server, lie: Option<Lie>, change: impl FnOnce(&mut Join)) -> Told {
    server.lie = lie;
    let hands: Hands = Arc::new(Mutex::new(100));
    let (told, _) = told_at(server, change, &hands).await;
    told
}

async fn told_at(server: Server, change: impl FnOnce(&mut Join), hands: &Hands) -> (Told, tempfile::TempDir) {
    let member = server.play.world.members[VICTIM].clone();
    let secret = IdentitySecretKey::from_bytes(&member.identity.to_bytes());
    let identity = Identity::new(secret, member.certificate.clone(), [9; 32]).expect("its own key");
    let mut join = Join::new("http://memory", TASK, member.policy.aggregator, member.policy.authority);
    join.policy = member.policy.clone();
    change(&mut join);
    let server = Arc::new(Mutex::new(server));
    let answering = server.clone();
    let transport = MemoryTransport::faulty(move |request| {
        let reply = answering.lock().expect("no panic").answer(&request);
        async move {
            // An honest wait, so that a client that asks again does not spin.
            if reply.status == 204 && request.method == Method::Get {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, TransportError>(reply)
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let state: &Path = folder.path();
    let participant = Participant::open(identity, join, &state.join("state"), transport).await.expect("a new state");
    let clock = hands.clone();
    let mut participant = participant.with_read_wait(Duration::from_millis(20)).with_clock(Arc::new(move || {
        let ms = *clock.lock().expect("no panic");
        Moment { wall: Timestamp(veilsum_crypto::testing::NOON.0).plus_ms(ms), monotonic_ms: ms }
    }));
    let work = Arc::new(Mutex::new(Zeros));
    let outcome = participant.take_part(&work).await.expect("neither the disk nor the line fails");
    let puts = server.lock().expect("no panic").puts.clone();
    if let RoundOutcome::Stopped { evidence, .. } = &outcome {
        let evidence = evidence.as_ref().expect("the bytes are kept");
        let kept = std::fs::read(evidence).expect("they are there");
        assert!(kept.starts_with(b"veilsum evidence v1"));
    } else {
        assert!(!state.join("evidence").exists(), "nobody lied: {outcome:?}");
    }
    if !matches!(outcome, RoundOutcome::Verified { .. }) {
        // It does not come back to this counter.
        let _ = tokio::time::timeout(Duration::from_millis(150), participant.take_part(&work)).await;
        assert_eq!(server.lock().expect("no panic").puts, puts, "it sends nothing further");
    }
    (Told { outcome, puts, server }, folder)
}

impl Told {
    /// It stopped under this rule, having sent this and no more.
    #[track_caller]
    fn stopped(&self, rule: u8, puts: &[&str]) {
        assert!(matches!(self.outcome, RoundOutcome::Stopped { .. }), "not stopped: {:?}", self.outcome);
        self.went_no_further(rule, puts);
    }

    /// It is left out and cannot show that anybody lied: no evidence, and no further part in the round.
    #[track_caller]
    fn left_out(&self, rule: u8, puts: &[&str]) {
        assert!(matches!(self.outcome, RoundOutcome::LeftOut { .. }), "not left out: {:?}", self.outcome);
        self.went_no_further(rule, puts);
    }

    #[track_caller]
    fn went_no_further(&self, rule: u8, puts: &[&str]) {
        assert_eq!(self.outcome.rule().map(|rule| rule.0), Some(rule), "{:?}", self.outcome);
        assert_eq!(self.puts, puts, "{:?}", self.outcome);
    }
}

/// Six clients and eight coordinates: c = 1, T = 1.
fn six() -> Server {
    six_with(small_params(6, 8))
}

fn six_with(params: RoundParams) -> Server {
    Server::new(with_header(World::new(params), |_| {}))
}

/// The same world with another header.
fn with_header(mut world: World, change: impl FnOnce(&mut Header)) -> World {
    let mut header = Header { model_hash: sha256(MODEL), ..world.facts.header.clone() };
    change(&mut header);
    world.facts = RoundFacts::new(header, RevocationList::none());
    world
}

/// Serves this in place of one resource.
fn instead(what: &'static str, lie: impl Fn(&mut Server) -> Vec<u8> + Send + 'static) -> Option<Lie> {
    Some(Box::new(move |server, request| {
        let path = request.path.split('?').next().unwrap_or_default();
        let named = path.split('/').nth(4) == Some(what);
        (request.method == Method::Get && named).then(|| lie(server))
    }))
}

/// C-40: an honest aggregator is followed to the end; without this the others would prove nothing.
#[tokio::test]
async fn an_honest_round_is_played_to_its_end() {
    let told = told(six(), None, |_| {}).await;
    let RoundOutcome::Verified { sum, survivors, update_included, .. } = &told.outcome else {
        panic!("{:?}", told.outcome)
    };
    assert_eq!((survivors.len(), *update_included), (6, true));
    assert!(sum.is_some());
    let without_confirm: Vec<&String> = told.puts.iter().filter(|phase| *phase != "confirm").collect();
    assert_eq!(without_confirm, ["advertise", "share", "acknowledge", "mask", "unmask"]);
}

/// C-41, R-02: parameters below a floor, one at a time (A08, A14, A15).
#[tokio::test]
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
        ("model", |join| join.policy.models = policy::AllowedModels::OneOf([Digest([3; 32])].into()), 2),
        ("task", |join| join.task.0[0] ^= 1, 2),
        ("authority", |join| join.policy.authority = IdentitySecretKey::from_bytes(&[8; 32]).public(), 2),
        ("clock", |join| join.policy.clock_apart_max_s = 0, 6),
        ("budget", |join| join.policy.budget.epsilon = 0.01, 26),
    ];
    for (what, change, rule) in floors {
        println!("{what}");
        let mut server = six();
        if what == "clock" {
            server.play.world =
                with_header(server.play.world, |header| header.opened_at = header.opened_at.plus_ms(5_000));
        }
        let told = told(server, None, change).await;
        // What a round may cost is between the client and its ledger: nobody lied.
        if what == "budget" { told.left_out(rule, &[]) } else { told.stopped(rule, &[]) }
    }
}

/// C-41: headers that contradict themselves, replay a counter, or leap (A20), whoever's policy it is.
#[tokio::test]
async fn a_header_that_does_not_hold_in_itself_is_not_answered() {
    type Change = fn(&mut Header);
    let headers: [(&str, Change, u8); 9] = [
        ("a counter that leaps", |header| header.counter = u64::MAX, 2),
        ("a ring that wraps", |header| header.params.ring_bits = veilsum_crypto::math::ring::RingBits::MIN, 14),
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
        let server = Server::new(with_header(World::new(small_params(6, 8)), change));
        told(server, None, |_| {}).await.stopped(rule, &[]);
    }
}

/// C-41, R-01: statements under another key than the pinned one.
#[tokio::test]
async fn a_header_of_another_aggregator_is_not_answered() {
    let stranger = IdentitySecretKey::from_bytes(&[8; 32]);
    let resigned = |name_it: bool| -> Option<Lie> {
        let stranger = IdentitySecretKey::from_bytes(&[8; 32]);
        Some(Box::new(move |server, request| {
            request.path.starts_with("/v1/tasks/").then(|| {
                let mut header = server.play.world.facts.header.clone();
                if name_it {
                    header.aggregator_key = stranger.public();
                }
                header.statement().sign(&stranger).encode()
            })
        }))
    };
    told(six(), resigned(false), |_| {}).await.stopped(1, &[]);
    told(six(), resigned(true), |_| {}).await.stopped(1, &[]);
    let other = stranger.public();
    told(six(), None, move |join| join.policy.aggregator = other).await.stopped(1, &[]);
}

/// C-42, R-33: a log that is shorter than one this client saw (A04).
#[tokio::test]
async fn a_log_that_shrank_or_forked_is_not_answered() {
    for (what, size) in [("shrank", 4), ("forked", 5)] {
        println!("{what}");
        let head = |size, byte| TreeHead { size, root: Digest([byte; 32]) };
        let server = Server::new(with_header(World::new(small_params(6, 8)), |header| header.log = head(5, 1)));
        let hands: Hands = Arc::new(Mutex::new(100));
        // One round is seen, and given up at the roster: its head is remembered.
        let mut server = server;
        server.lie = Some(Box::new(move |server, request| {
            if !request.path.starts_with("/v1/tasks/") {
                return request.path.ends_with("/roster").then(|| b"no roster".to_vec());
            }
            let header = &server.play.world.facts.header;
            let later = Header { counter: 2, log: head(size, 2), ..header.clone() };
            (request.path.ends_with("after=1")).then(|| server.play.world.signed(later.statement()))
        }));
        let member = server.play.world.members[VICTIM].clone();
        let secret = IdentitySecretKey::from_bytes(&member.identity.to_bytes());
        let identity = Identity::new(secret, member.certificate.clone(), [9; 32]).expect("its own key");
        let mut join = Join::new("http://memory", TASK, member.policy.aggregator, member.policy.authority);
        join.policy = member.policy.clone();
        let server = Arc::new(Mutex::new(server));
        let answering = server.clone();
        let transport = MemoryTransport::new(Arc::new(move |request| {
            let reply = answering.lock().expect("no panic").answer(&request);
            Box::pin(async move { reply })
        }));
        let folder = tempfile::tempdir().expect("a folder");
        let participant =
            Participant::open(identity, join, &folder.path().join("state"), transport).await.expect("new");
        let mut participant = participant.with_clock(Arc::new(move || {
            let ms = *hands.lock().expect("no panic");
            Moment { wall: Timestamp(veilsum_crypto::testing::NOON.0).plus_ms(ms), monotonic_ms: ms }
        }));
        let work = Arc::new(Mutex::new(Zeros));
        let first = participant.take_part(&work).await.expect("it stops");
        assert!(matches!(&first, RoundOutcome::Stopped { why, .. } if why.rule().0 == 37), "{first:?}");
        let second = participant.take_part(&work).await.expect("it stops");
        let RoundOutcome::Stopped { why, .. } = &second else { panic!("{second:?}") };
        assert_eq!(why.rule().0, 33, "{why}");
        assert_eq!(server.lock().expect("no panic").puts, ["advertise"], "the second header is not answered");
    }
}

/// A roster that the aggregator signs over these leaves.
fn roster_of(server: &Server, change: impl FnOnce(&mut RosterParams), without: &[ClientId]) -> Vec<u8> {
    let mut members = server.assembly().roster().members().to_vec();
    members.retain(|(client, _)| !without.contains(client));
    let mut params = *server.assembly().params();
    change(&mut params);
    let roster = Roster::fix(&server.play.world.facts.chain, &params, [9; 32], members);
    [server.signed(roster.statement()), roster.list()].concat()
}

/// C-43: rosters: without the client, with another leaf for it, with other k, t, h, of another round (A05, A07, A09, A16).
#[tokio::test]
async fn a_roster_that_is_not_honest_gets_no_shares() {
    let sent = &["advertise"];
    let permissive = || {
        let mut params = small_params(6, 8);
        params.roster_min = 5;
        params.cohort_min = 4;
        params.ring_bits = params.ring_bits_needed().expect("wide enough");
        six_with(params)
    };
    let lie = instead("roster", |server| {
        let victim = server.victim();
        let fewer = RosterParams::derive(5, &server.play.world.facts.header.params).expect("feasible");
        roster_of(server, |params| *params = fewer, &[victim])
    });
    told(permissive(), lie, |_| {}).await.stopped(6, sent);
    // Somebody else's leaf in its place: the leaf that it is shown is not its own.
    let lie = instead("roster", |server| {
        let mut members = server.assembly().roster().members().to_vec();
        let (mine, other) = (server.leaf(server.victim()).index(), members[5].1);
        members[mine].1 = other;
        let roster = Roster::fix(&server.play.world.facts.chain, server.assembly().params(), [9; 32], members);
        [server.signed(roster.statement()), roster.list()].concat()
    });
    told(six(), lie, |_| {}).await.stopped(6, sent);
    type Change = fn(&mut RosterParams);
    let others: [(&str, Change); 4] = [
        ("k", |params| params.degree -= 2),
        ("t at most k / 2", |params| params.threshold = params.degree / 2),
        ("t + 1", |params| params.threshold += 1),
        ("h", |params| params.honest -= 1),
    ];
    for (what, change) in others {
        println!("{what}");
        let lie = instead("roster", move |server| roster_of(server, change, &[]));
        told(six(), lie, |_| {}).await.stopped(4, sent);
    }
    // Too small for the header.
    let lie = instead("roster", |server| {
        let two: Vec<ClientId> = server.others()[..2].iter().map(|number| client_id(*number as u32)).collect();
        roster_of(server, |params| params.n = 4, &two)
    });
    told(six(), lie, |_| {}).await.stopped(14, sent);
    // Of another round.
    let lie = instead("roster", |server| {
        let honest = server.play.aggregator.served(&server.play.world, StatementKind::Roster);
        let mut reader = veilsum_crypto::primitives::codec::Reader::new(&honest);
        let mut statement = Signed::read(&mut reader, labels::ROSTER).expect("a roster").statement().clone();
        statement.context.0[0] ^= 1;
        [server.signed(&statement), reader.rest().to_vec()].concat()
    });
    told(six(), lie, |_| {}).await.stopped(1, sent);
    // Not in the order of ids: one client twice would count twice against gamma.
    let lie = instead("roster", |server| {
        let mut members = server.assembly().roster().members().to_vec();
        members[1] = members[2];
        let roster = Roster::fix(&server.play.world.facts.chain, server.assembly().params(), [9; 32], members);
        [server.signed(roster.statement()), roster.list()].concat()
    });
    told(six(), lie, |_| {}).await.stopped(37, sent);
}

/// C-43, R-06: leaves that are withheld, altered or exchanged (A01).
#[tokio::test]
async fn leaves_that_do_not_hash_to_the_roster_get_no_shares() {
    let sent = &["advertise"];
    let lie: Option<Lie> = Some(Box::new(|server, request| {
        let (path, query) = request.path.split_once('?')?;
        path.ends_with("/leaves").then(|| {
            let wanted: Vec<LeafIndex> =
                query[2..].split(',').map(|index| LeafIndex(index.parse().expect("an index"))).collect();
            let leaves = server.play.aggregator.leaves(wanted.iter().copied());
            let mut body = Vec::new();
            // Everybody has the keys of the last.
            wanted.iter().for_each(|_| write_prefixed(&mut body, leaves.values().last().expect("six")));
            body
        })
    }));
    told(six(), lie, |_| {}).await.stopped(6, sent);
    told(six(), instead("leaves", |_| Vec::new()), |_| {}).await.stopped(37, sent);
}

/// C-44, R-08: a roster that comes so late that the ring could have been ground.
#[tokio::test]
async fn a_roster_that_comes_late_or_before_the_advert_gets_no_shares() {
    for (what, after) in [("late", 120_101), ("backwards", 50)] {
        println!("{what}");
        let hands: Hands = Arc::new(Mutex::new(100));
        let mut server = six();
        let moving = hands.clone();
        server.lie = Some(Box::new(move |_, request| {
            if request.path.ends_with("/roster") {
                *moving.lock().expect("no panic") = after;
            }
            None
        }));
        let (told, _folder) = told_at(server, |_| {}, &hands).await;
        // A clock that ran backwards is the client's own.
        if what == "backwards" { told.left_out(8, &["advertise"]) } else { told.stopped(8, &["advertise"]) }
    }
    let hands: Hands = Arc::new(Mutex::new(100));
    let mut server = six();
    let moving = hands.clone();
    server.lie = Some(Box::new(move |_, request| {
        if request.path.ends_with("/roster") {
            *moving.lock().expect("no panic") = 120_100;
        }
        None
    }));
    let (told, _folder) = told_at(server, |_| {}, &hands).await;
    assert!(matches!(told.outcome, RoundOutcome::Verified { .. }), "in time to the millisecond: {:?}", told.outcome);
}

const DEALT: [&str; 3] = ["advertise", "share", "acknowledge"];

/// C-45, R-17: cores without the client, without t of its neighbours, too small, or of another roster (B17).
#[tokio::test]
async fn a_core_that_does_not_hold_gets_no_input() {
    let lie = instead("core", |server| server.core(server.all_but(&[server.victim()])));
    told(six(), lie, |_| {}).await.left_out(17, &DEALT);
    let lie = instead("core", |server| {
        let lost = server.neighbours()[..2].to_vec(); // two of six: below n - T
        server.core(server.all_but(&lost))
    });
    told(six(), lie, |_| {}).await.stopped(17, &DEALT);
    let lie = instead("core", |server| {
        let core = CoreSet::fix(server.all_but(&[]), &server.play.world.facts.chain, Digest([7; 32]));
        server.signed(core.statement())
    });
    told(six(), lie, |_| {}).await.stopped(1, &DEALT);
    let lie = instead("core", |server| {
        let core = CoreSet::fix(server.all_but(&[]), &server.play.world.facts.chain, server.assembly().root());
        core.statement().clone().sign(&IdentitySecretKey::from_bytes(&[8; 32])).encode()
    });
    told(six(), lie, |_| {}).await.stopped(1, &DEALT);
}

/// C-46, R-16: mail twice from one dealer stops; mail withheld is never a complaint, and the client is out of the core
/// rather than opened (B15).
#[tokio::test]
async fn withheld_or_altered_mail_never_makes_a_client_complain() {
    for alter in [false, true] {
        let lie = instead("mail", move |server| {
            let mut mail = server.play.aggregator.mail[&server.victim()].clone();
            mail.sort_by_key(|item| u32::from_le_bytes(item[..4].try_into().expect("a dealer")));
            for item in &mut mail {
                if alter {
                    item[4 + 214 + 4 + 10] ^= 1; // in the ciphertext: no longer what the dealer signed
                }
            }
            list(if alter { &mail } else { &[] })
        });
        let told = told(six(), lie, |_| {}).await;
        let server = told.server.lock().expect("no panic");
        let body = &server.play.aggregator.received[&PhaseKind::Acknowledging][&server.victim()];
        let degree = server.assembly().params().degree;
        let said = veilsum_crypto::messages::Acknowledgement::decode(body, degree).expect("its own");
        assert_eq!(said.complaints(), 0, "missing or altered mail is never a complaint");
        // The honest rest of this aggregator leaves it out of the core, and it ends there.
        told.left_out(17, &DEALT);
    }
    let lie = instead("mail", |server| {
        let mut mail = server.play.aggregator.mail[&server.victim()].clone();
        mail.sort_by_key(|item| u32::from_le_bytes(item[..4].try_into().expect("a dealer")));
        mail[1] = mail[0].clone();
        list(&mail)
    });
    told(six(), lie, |_| {}).await.stopped(37, &DEALT[..2]); // a frame that is not canonical is refused whole
}

/// C-46, R-16: complaints in the names of honest holders open nothing (B19).
#[tokio::test]
async fn forged_complaints_open_nothing() {
    let lie = instead("complaints", |server| {
        let victim = server.victim();
        let mut forged: Vec<(ClientId, Vec<u8>)> = Vec::new();
        let degree = server.assembly().params().degree;
        let body = &server.play.aggregator.received[&PhaseKind::Sharing][&victim];
        let dealt = veilsum_crypto::messages::SealedShares::decode(body, degree).expect("admitted");
        for holder in server.neighbours() {
            let mine = server.assembly().order().neighbours(server.leaf(holder));
            let report = |dealer: &LeafIndex| match *dealer == server.leaf(victim) {
                true => veilsum_crypto::messages::EdgeReport::Complaint {
                    edge: dealt.edge_to(server.leaf(holder)).expect("a neighbour").hash(),
                },
                false => veilsum_crypto::messages::EdgeReport::Good,
            };
            let (chain, root) = (&server.play.world.facts.chain, server.assembly().root());
            let reports = mine.iter().map(report).collect();
            // The server holds every genuine edge, but not the holder's key.
            let key = IdentitySecretKey::from_bytes(&[8; 32]);
            let said =
                veilsum_crypto::messages::Acknowledgement::sign(Digest([7; 32]), reports, chain, root, holder, &key);
            forged.push((holder, said.encode()));
        }
        forged.sort();
        list(&forged.into_iter().map(|(_, body)| body).collect::<Vec<_>>())
    });
    let told = told(six(), lie, |_| {}).await;
    assert!(!told.puts.contains(&"open".to_string()), "{:?}", told.puts);
    assert!(matches!(told.outcome, RoundOutcome::Verified { .. }), "{:?}", told.outcome);
}

const UPLOADED: [&str; 4] = ["advertise", "share", "acknowledge", "mask"];

/// C-47: survivor lists without the client, too small, beyond the core, of another core, or without the signatures of its
/// neighbours (B04, B06, B07).
#[tokio::test]
async fn a_survivor_list_that_does_not_hold_is_neither_confirmed_nor_opened() {
    let lie = instead("survivors", |server| server.survivors(server.all_but(&[server.victim()])));
    told(six(), lie, |_| {}).await.left_out(21, &UPLOADED);
    let lie = instead("survivors", |server| {
        let lost = server.neighbours()[..2].to_vec();
        server.survivors(server.all_but(&lost))
    });
    told(six(), lie, |_| {}).await.stopped(15, &UPLOADED);
    let lie = instead("survivors", |server| {
        let lost = server.neighbours(); // all of the target's neighbours declared dropped: recovers it exactly
        server.survivors(server.all_but(&lost))
    });
    told(six(), lie, |_| {}).await.stopped(15, &UPLOADED);
    let lie = instead("survivors", |server| {
        let survivors =
            Survivors::fix(server.all_but(&[]), Digest([7; 32]), &server.play.world.facts.chain, Digest([7; 32]));
        server.signed(survivors.statement())
    });
    told(six(), lie, |_| {}).await.stopped(1, &UPLOADED);
    // A neighbour is listed alive, and its upload is not shown, or is another's.
    let lie = instead("uploads", |server| list(&server.uploads()[1..]));
    told(six(), lie, |_| {}).await.stopped(22, &UPLOADED);
    let lie = instead("uploads", |server| {
        let mut uploads = server.uploads();
        let last = uploads[0].len() - 1;
        uploads[0][last] ^= 1;
        list(&uploads)
    });
    told(six(), lie, |_| {}).await.stopped(22, &UPLOADED);
}

/// C-47, R-20: a list beyond the core.
#[tokio::test]
async fn survivors_outside_the_core_are_neither_confirmed_nor_opened() {
    // The core lacks one client, and the list has it.
    let absent = |server: &Server| *server.neighbours().last().expect("neighbours");
    let lie: Option<Lie> = Some(Box::new(move |server, request| {
        let named = |what: &str| request.path.ends_with(what);
        if named("/core") {
            return Some(server.core(server.all_but(&[absent(server)])));
        }
        named("/survivors").then(|| {
            let smaller = CoreSet::fix(
                server.all_but(&[absent(server)]),
                &server.play.world.facts.chain,
                server.assembly().root(),
            );
            let chain = &server.play.world.facts.chain;
            let survivors = Survivors::fix(server.all_but(&[]), Digest([7; 32]), chain, smaller.root());
            server.signed(survivors.statement())
        })
    }));
    let mut server = six();
    server.lie = lie;
    // The honest half of this server would refuse an input under another core: it only listens from there on.
    let deaf: Lie = {
        let told = server.lie.take().expect("just set");
        Box::new(move |server, request| {
            if request.method == Method::Put && request.path.contains("/mask/") {
                server.puts.push("mask".into());
                return Some(Vec::new());
            }
            if request.method == Method::Get && request.path.contains("/uploads/") {
                return Some(list(&[]));
            }
            told(server, request)
        })
    };
    told(server, Some(deaf), |_| {}).await.stopped(20, &UPLOADED);
}

fn confirm_and(puts: &[String]) -> Vec<&str> {
    let mut expected = UPLOADED.to_vec();
    if puts.contains(&"confirm".to_string()) {
        expected.push("confirm"); // of the agreement set by the ring's chance
    }
    expected
}

/// C-48, R-24: fewer than t confirmations, or such as do not count, open nothing (A02, B02, B16).
#[tokio::test]
async fn confirmations_that_are_too_few_or_not_of_the_agreement_set_get_no_answer() {
    type Bend = fn(&mut Server) -> Vec<Vec<u8>>;
    let confirmations: [(&str, Bend); 5] = [
        ("one too few", |server| {
            let needed = server.assembly().params().threshold as usize;
            server.confirmations()[..needed - 1].to_vec()
        }),
        ("none", |_| Vec::new()),
        ("of another root", |server| {
            let members: Vec<_> = server.play.world.members.to_vec();
            let agrees = |client| server.assembly().order().agrees(server.leaf(client));
            let mut all = Vec::new();
            for member in members.iter().filter(|member| agrees(member.client())) {
                let chain = &server.play.world.facts.chain;
                all.push(Confirmation::sign(chain, Digest([7; 32]), member.client(), &member.identity).encode());
            }
            all
        }),
        ("of members outside the set", |server| {
            let root = server.survivor_root();
            let members: Vec<_> = server.play.world.members.to_vec();
            let agrees = |client| server.assembly().order().agrees(server.leaf(client));
            let mut all: Vec<(ClientId, Vec<u8>)> = Vec::new();
            for member in members.iter().filter(|member| !agrees(member.client())) {
                let chain = &server.play.world.facts.chain;
                let said = Confirmation::sign(chain, root, member.client(), &member.identity).encode();
                all.push((member.client(), said));
            }
            let one = server.confirmations()[0].clone();
            let sender = Signed::decode(&one, labels::CONFIRM).expect("admitted").statement().sender;
            all.push((sender.into(), one));
            all.sort();
            all.into_iter().map(|(_, body)| body).collect()
        }),
        ("under keys that are not theirs", |server| {
            let root = server.survivor_root();
            let key = IdentitySecretKey::from_bytes(&[8; 32]);
            let set: Vec<LeafIndex> = server.assembly().order().agreement_set().to_vec();
            let mut clients: Vec<ClientId> = set.iter().map(|leaf| server.assembly().roster().client(*leaf)).collect();
            clients.sort();
            let chain = &server.play.world.facts.chain;
            clients.into_iter().map(|client| Confirmation::sign(chain, root, client, &key).encode()).collect()
        }),
    ];
    for (what, bend) in confirmations {
        println!("{what}");
        let lie = instead("confirmations", move |server| {
            server.confirm();
            list(&bend(server))
        });
        let told = told(six(), lie, |_| {}).await;
        told.stopped(24, &confirm_and(&told.puts));
    }
}

/// C-48, R-23: after a crash, another survivor list than the one accepted is not even asked for: the phase on disk is past
/// it, and the answer is for the first.
#[tokio::test]
async fn a_second_survivor_list_gets_no_second_answer() {
    // Confirmations for a second list, which the server signs as well: they do not name the root that was accepted.
    let lie = instead("confirmations", |server| {
        server.confirm();
        let lost = [server.neighbours()[0]];
        let second =
            Survivors::fix(server.all_but(&lost), Digest([7; 32]), &server.play.world.facts.chain, server.core_root());
        let root = second.root();
        let set: Vec<LeafIndex> = server.assembly().order().agreement_set().to_vec();
        let mut members: Vec<_> = server.play.world.members.to_vec();
        members.retain(|member| set.contains(&server.leaf(member.client())));
        let chain = &server.play.world.facts.chain;
        let sign =
            |member: &Arc<Membership>| Confirmation::sign(chain, root, member.client(), &member.identity).encode();
        list(&members.iter().map(sign).collect::<Vec<_>>())
    });
    let told = told(six(), lie, |_| {}).await;
    told.stopped(24, &confirm_and(&told.puts));
}

/// C-49: a result that is not the signed one, or counts others (B13 as far as a client sees it).
#[tokio::test]
async fn an_altered_result_is_not_believed() {
    let answered = |puts: &[String]| {
        let mut expected: Vec<String> = confirm_and(puts).into_iter().map(String::from).collect();
        expected.push("unmask".into());
        expected
    };
    type Bend = fn(&mut Server) -> Vec<u8>;
    let results: [(&str, Bend, u8); 4] = [
        (
            "one bit",
            |server| {
                let mut result = server.play.aggregator.served(&server.play.world, StatementKind::Result);
                *result.last_mut().expect("a sum") ^= 1;
                result
            },
            20,
        ),
        (
            "without its sum",
            |server| server.play.aggregator.served(&server.play.world, StatementKind::Result)[..220].to_vec(),
            20,
        ),
        (
            "counts others",
            |server| {
                let zeros =
                    veilsum_crypto::math::ring::RingVector::zeros(8, server.play.world.facts.header.params.ring_bits);
                let chain = &server.play.world.facts.chain;
                let (result, packed) = RoundResult::released(&zeros, 5, chain, server.survivor_root());
                [server.signed(result.statement()), packed].concat()
            },
            20,
        ),
        (
            "of another survivor list",
            |server| {
                let zeros =
                    veilsum_crypto::math::ring::RingVector::zeros(8, server.play.world.facts.header.params.ring_bits);
                let chain = &server.play.world.facts.chain;
                let (result, packed) = RoundResult::released(&zeros, 6, chain, Digest([7; 32]));
                [server.signed(result.statement()), packed].concat()
            },
            1,
        ),
    ];
    for (what, bend, rule) in results {
        println!("{what}");
        let told = told(six(), instead("result", bend), |_| {}).await;
        let RoundOutcome::Stopped { why, .. } = &told.outcome else { panic!("it believes: {:?}", told.outcome) };
        assert_eq!(why.rule().0, rule, "{why}");
        assert_eq!(told.puts, answered(&told.puts));
    }
}
