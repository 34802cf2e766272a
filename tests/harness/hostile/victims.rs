//! Victims of a server that lies: real `Participant`s, each at an address of its own, and how it ended for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use veilsum_client::config::{Identity, Join};
use veilsum_client::{HttpTransport, LocalWork, Participant, ParticipantError, RoundOutcome};
use veilsum_crypto::client::*;
use veilsum_crypto::ids::Timestamp;
use veilsum_crypto::messages::Header;
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::seal::SavingKey;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::testing::{NOON, TASK};
use veilsum_crypto::update::ModelUpdate;

use super::front::{Asked, Front, Told};
use super::server::Server;

/// How long a victim's read waits here.
const READ_WAIT: Duration = Duration::from_millis(500);
/// How often a read that waits looks again.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long a victim that stopped is watched, to see that it says nothing further.
const SILENCE: Duration = Duration::from_millis(100);

struct Zeros;

impl LocalWork for Zeros {
    fn suits(&mut self, _: &Header) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(()) // of any length
    }

    fn train(&mut self, header: &Header, _: &[u8]) -> Result<ModelUpdate, Box<dyn std::error::Error + Send + Sync>> {
        Ok(ModelUpdate::new(vec![0.0; header.params.vector_len as usize])?)
    }
}

/// Clocks that a test moves, in milliseconds after noon.
pub type Hands = Arc<Mutex<u64>>;

/// The hands of a clock that stands at 100 ms after noon.
pub fn hands() -> Hands {
    Arc::new(Mutex::new(100))
}

/// A server that is listened to by its victims, each at an address of its own.
pub struct Served {
    /// What it knows.
    pub server: Arc<Mutex<Server>>,
    fronts: BTreeMap<usize, Front>,
    folder: tempfile::TempDir,
}

impl Served {
    /// Opens one address for each victim.
    pub async fn open(server: Server) -> Self {
        let victims = server.victims.clone();
        let server = Arc::new(Mutex::new(server));
        let mut fronts = BTreeMap::new();
        for number in victims {
            let answering = server.clone();
            fronts.insert(number, Front::open(move |asked| answer(answering.clone(), number, asked)).await);
        }
        Self { server, fronts, folder: tempfile::tempdir().expect("a folder") }
    }

    /// Where a victim keeps its state, and what it holds against the server.
    pub fn state(&self, number: usize) -> std::path::PathBuf {
        self.folder.path().join(number.to_string()).join("state")
    }

    /// The real client with this number; its state is where it was, if there was one.
    pub async fn participant(
        &self,
        number: usize,
        change: impl FnOnce(&mut Join),
        hands: &Hands,
    ) -> Participant<HttpTransport> {
        let member = self.server.lock().expect("no panic").play.world.members[number].clone();
        let secret = IdentitySecretKey::from_bytes(&member.identity.to_bytes());
        let identity = Identity::new(secret, member.certificate.clone(), saving_key(number)).expect("its own key");
        let url = self.fronts[&number].url();
        let mut join = Join::new(&url, TASK, member.policy.aggregator, member.policy.authority);
        join.policy = member.policy.clone();
        change(&mut join);
        let transport = HttpTransport::new(&url).expect("an address");
        std::fs::create_dir_all(self.state(number).parent().expect("a folder")).expect("room");
        let participant = Participant::open(identity, join, &self.state(number), transport).await.expect("its state");
        let clock = hands.clone();
        participant.with_read_wait(READ_WAIT).with_clock(Arc::new(move || {
            let ms = *clock.lock().expect("no panic");
            Moment { wall: Timestamp(NOON.0).plus_ms(ms), monotonic_ms: ms }
        }))
    }

    /// What a victim has written down, opened with its own key.
    pub fn written(&self, number: usize) -> Option<Resumed> {
        let member = self.server.lock().expect("no panic").play.world.members[number].clone();
        let key = SavingKey::from_bytes(saving_key(number));
        let bytes = std::fs::read(self.state(number)).ok()?;
        let plain = key.open(&bytes).expect("sealed by its key");
        let mut reader = Reader::new(&plain[16..]);
        reader.prefixed("header").expect("as it writes it");
        reader.prefixed("roster").expect("as it writes it");
        Some(Resumed::open(&key, reader.rest(), &member).expect("as it writes it"))
    }
}

/// The key of a victim's saved state.
fn saving_key(number: usize) -> [u8; 32] {
    [number as u8 + 1; 32]
}

/// A read that is not settled waits here, as at an honest aggregator.
async fn answer(server: Arc<Mutex<Server>>, number: usize, mut asked: Asked) -> Told {
    asked.fields.insert(FROM.into(), number.to_string());
    let start = Instant::now();
    loop {
        let reply = server.lock().expect("no panic").answer(&asked);
        if reply.status != 204 || asked.method != "GET" || start.elapsed() >= asked.wait {
            return reply.into();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A field that the server adds: the number of the victim whose address was asked.
const FROM: &str = "x-from";

/// The number of the victim that asks, also where what it reads is public.
pub fn from(asked: &Asked) -> usize {
    asked.fields.get(FROM).and_then(|number| number.parse().ok()).expect("every request is marked")
}

/// How it ended for one victim.
pub struct Faced {
    /// As it says.
    pub ended: Result<RoundOutcome, ParticipantError>,
    /// The phases in which it spoke, in order.
    pub sent: Vec<String>,
    /// The bytes that it kept against the server.
    pub evidence: Option<Vec<u8>>,
}

impl Faced {
    /// How the round ended.
    #[track_caller]
    pub fn outcome(&self) -> &RoundOutcome {
        self.ended.as_ref().expect("neither the disk nor the line fails")
    }

    /// It stopped under this rule, kept evidence, and had sent this and no more.
    #[track_caller]
    pub fn stopped(&self, rule: u8, sent: &[&str]) {
        let RoundOutcome::Stopped { why, .. } = self.outcome() else { panic!("it went on: {:?}", self.ended) };
        assert_eq!(why.rule().0, rule, "{why}");
        assert_eq!(self.sent, sent, "{why}");
        let evidence = self.evidence.as_ref().expect("the bytes are kept");
        assert!(evidence.starts_with(b"veilsum evidence v1"));
    }

    /// It was left out under this rule: nobody is shown to have lied, so it accuses nobody.
    #[track_caller]
    pub fn left_out(&self, rule: u8, sent: &[&str]) {
        assert!(matches!(self.outcome(), RoundOutcome::LeftOut { .. }), "not left out: {:?}", self.ended);
        assert_eq!(self.outcome().rule().map(|rule| rule.0), Some(rule), "{:?}", self.ended);
        assert_eq!(self.sent, sent, "{:?}", self.ended);
        assert_eq!(self.evidence, None);
    }

    /// It saw the round to its end.
    #[track_caller]
    pub fn verified(&self) {
        assert!(matches!(self.outcome(), RoundOutcome::Verified { .. }), "{:?}", self.ended);
    }
}

/// The first victim takes part once; then once more, shortly, to see that it says nothing further.
pub async fn face(server: Server, change: impl FnOnce(&mut Join)) -> (Faced, Served) {
    face_at(server, change, &hands()).await
}

/// The same under a clock that the lie may move.
pub async fn face_at(server: Server, change: impl FnOnce(&mut Join), hands: &Hands) -> (Faced, Served) {
    let number = server.victims[0];
    let served = Served::open(server).await;
    let mut participant = served.participant(number, change, hands).await;
    (take_part(&served, &mut participant).await, served)
}

/// All victims take part at once; in the order of their numbers.
pub async fn face_all(server: Server) -> (Vec<Faced>, Served) {
    let served = Arc::new(Served::open(server).await);
    let numbers = served.server.lock().expect("no panic").victims.clone();
    let mut running = Vec::new();
    for number in numbers {
        let served = served.clone();
        running.push(tokio::spawn(async move {
            let mut participant = served.participant(number, |_| {}, &hands()).await;
            take_part(&served, &mut participant).await
        }));
    }
    let mut faced = Vec::new();
    for running in running {
        faced.push(running.await.expect("no panic"));
    }
    (faced, Arc::into_inner(served).expect("nobody else holds it"))
}

/// One call of a real client, and how it ended.
pub async fn once(participant: &mut Participant<HttpTransport>) -> Result<RoundOutcome, ParticipantError> {
    participant.take_part(&Arc::new(Mutex::new(Zeros))).await
}

/// The same until something can be seen at the server; then the client's process ends. `false` if the client ended first.
pub async fn until(
    served: &Served,
    participant: &mut Participant<HttpTransport>,
    seen: impl Fn(&Server) -> bool,
) -> bool {
    let looking = async {
        while !seen(&served.server.lock().expect("no panic")) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = looking => true,
        _ = once(participant) => false,
    }
}

/// The same, and what came of it; if it stopped, it is called once more, and must be silent.
pub async fn take_part(served: &Served, participant: &mut Participant<HttpTransport>) -> Faced {
    let client = participant.client();
    let ended = once(participant).await;
    let sent = || served.server.lock().expect("no panic").phases(client);
    let said = sent();
    let mut evidence = None;
    if let Ok(RoundOutcome::Stopped { evidence: kept, .. }) = &ended {
        evidence = kept.as_ref().map(|kept| std::fs::read(kept).expect("it is there"));
    }
    if matches!(&ended, Ok(RoundOutcome::Stopped { .. } | RoundOutcome::LeftOut { .. })) {
        // It does not come back to this counter.
        let _ = tokio::time::timeout(SILENCE, once(participant)).await;
        assert_eq!(sent(), said, "it sends nothing further");
    }
    Faced { ended, sent: said, evidence }
}
