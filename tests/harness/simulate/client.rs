//! A client of a simulation: the real phases, a disk that survives crashes, and a liar's hand over what it sends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::Method;
use veilsum_client::LeftOut;
use veilsum_crypto::client::*;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, RoundId, Timestamp};
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::sealed_shares::EDGE_BYTES;
use veilsum_crypto::messages::{Certificate, Header, ReadPermit, Roster};
use veilsum_crypto::params::{RingOrder, RosterParams};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle;
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::primitives::seal::SavingKey;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed};
use veilsum_crypto::privacy::SkellamSampler;
use veilsum_crypto::privacy::budget::Budget;
use veilsum_crypto::rules::ServerMisbehaved;
use veilsum_crypto::testing::{NOON, client_id};
use veilsum_crypto::update::{ModelUpdate, Privacy, prepare};

use super::Sim;
use super::network::{Asked, Network};
use super::plan::Lie;
use super::server::Servers;
use super::{lies, short_round};
use crate::dice::Dice;

/// A signed share statement, docs/wire.md §3.
const SHARE_BYTES: usize = 214;

/// Who a client is, and what it has written down.
pub struct Device {
    /// Its number.
    pub number: usize,
    /// Identity, certificate and policy.
    pub member: Arc<Membership>,
    key: SavingKey,
    disk: Mutex<Disk>,
}

/// What survives a crash. Replaced whole.
#[derive(Default)]
struct Disk {
    sealed: Option<Vec<u8>>,
    header: Vec<u8>,
    noised: BTreeMap<RoundId, Vec<i64>>,
}

impl Device {
    /// Its id.
    pub fn client(&self) -> ClientId {
        self.member.client()
    }

    /// What it wrote down before masking in a round, noise included.
    pub fn noised(&self, round: RoundId) -> Option<Vec<i64>> {
        self.disk.lock().expect("one thread").noised.get(&round).cloned()
    }

    fn standing(&self) -> Resumed {
        let disk = self.disk.lock().expect("one thread");
        match &disk.sealed {
            None => Resumed::Enrolled(Enrolled::new(self.member.clone(), Memory::new())),
            Some(sealed) => Resumed::open(&self.key, sealed, &self.member).expect("as it was written"),
        }
    }
}

/// Certified clients.
pub fn population(sim: &Sim, servers: &Servers, dice: &mut Dice) -> Vec<Arc<Device>> {
    let enrol = |number: u32| {
        let identity = IdentitySecretKey::generate(dice);
        let body = CertificateBody {
            client: client_id(number),
            identity: identity.public(),
            group: 0,
            group_size: sim.plan.n,
            not_before: Timestamp(NOON.0 - 24 * 60 * 60 * 1_000_000),
            not_after: NOON.plus_ms(24 * 60 * 60 * 1_000),
        };
        let mut policy = Policy::new(servers.aggregator, servers.authority.public());
        policy.dropout_tolerance_max = 500_000;
        policy.budget = Budget { epsilon: 100.0, delta: 1e-5 };
        let certificate = Certificate::issue(body, &servers.authority);
        let member = Arc::new(Membership { identity, certificate, policy });
        let key = SavingKey::from_bytes([number as u8 + 1; 32]);
        Arc::new(Device { number: number as usize, member, key, disk: Mutex::default() })
    };
    (0..sim.plan.n).map(enrol).collect()
}

/// A client's life: rounds, and crashes in between. Never returns.
pub async fn live(sim: Arc<Sim>, network: Arc<Network>, device: Arc<Device>, mut dice: Dice) {
    let mut crashes: Vec<_> =
        sim.plan.client_crashes.iter().filter(|(number, _)| *number == device.number).map(|(_, away)| *away).collect();
    crashes.sort_by_key(|away| away.from_ms);
    let mut process = Process {
        sim: sim.clone(),
        network,
        device,
        dice: dice.clone(),
        started_ms: 0,
        passed: 0,
        roster: Vec::new(),
        mail: Vec::new(),
    };
    for away in crashes {
        let now_ms = sim.now_ms();
        if away.until_ms <= now_ms {
            continue;
        }
        let until_crash = Duration::from_millis(away.from_ms.saturating_sub(now_ms));
        let _ = tokio::time::timeout(until_crash, process.run()).await;
        sim.fault("client crash", format_args!("c{}", process.device.number));
        tokio::time::sleep(Duration::from_millis(away.until_ms - sim.now_ms())).await;
        sim.note(format_args!("c{} starts again", process.device.number));
        // A process that starts again draws afresh and has forgotten everything but the disk.
        let seed = dice.below(u64::MAX);
        process.dice = Dice::new(seed, "restart");
        process.started_ms = sim.now_ms();
        process.passed = 0;
        process.mail.clear();
    }
    process.run().await;
}

struct Process {
    sim: Arc<Sim>,
    network: Arc<Network>,
    device: Arc<Device>,
    dice: Dice,
    started_ms: u64,
    /// The newest round that ended in this process.
    passed: u64,
    /// As it was served, for liars.
    roster: Vec<u8>,
    mail: Vec<Vec<u8>>,
}

/// Why a round goes no further here.
enum Halt {
    /// 404 or 410.
    Over(String),
    Refused(ServerMisbehaved),
    /// A liar falls silent.
    Silence,
}

impl From<ServerMisbehaved> for Halt {
    fn from(why: ServerMisbehaved) -> Self {
        Self::Refused(why)
    }
}

/// Seals a step onto the disk, and names what it leads to.
macro_rules! persisted {
    ($self:ident, $turn:expr => $resumed:path) => {{
        let (next, message) = persist!($self, $turn, |_: &mut Disk| {});
        $resumed(next, message)
    }};
}

macro_rules! persist {
    ($self:ident, $turn:expr, $also:expr) => {{
        let device = $self.device.clone();
        let write = |sealed: &Sealed| {
            let mut disk = device.disk.lock().expect("one thread");
            disk.sealed = Some(sealed.0.clone());
            $also(&mut disk);
            Ok::<_, Infallible>(())
        };
        match $turn.persist(&$self.device.key, &mut $self.dice, write) {
            Ok(written) => written,
            Err(never) => match never {},
        }
    }};
}

impl Process {
    async fn run(&mut self) {
        loop {
            let (number, ended) = (self.device.number, self.round().await);
            let header = self.device.disk.lock().expect("one thread").header.clone();
            let header = read_header(&header);
            let round = short_round(&header.round());
            match ended {
                Ok(opened) => self.sim.note(format_args!("c{number} verified round {round}, opened {opened}")),
                Err(Halt::Over(reason)) => self.sim.note(format_args!("c{number} round {round} over: {reason}")),
                Err(Halt::Silence) => self.sim.note(format_args!("c{number} falls silent in round {round}")),
                Err(Halt::Refused(why)) => {
                    self.sim.note(format_args!("c{number} refuses round {round}: {why}"));
                    let plan = &self.sim.plan;
                    let is_liar = plan.lie_of(number).is_some();
                    if LeftOut::of(&why).is_none() && !is_liar {
                        self.sim.violation(format_args!("an honest aggregator was accused by c{number}: {why}"));
                    }
                    let clocks_jump = !plan.client_clocks.is_empty() || !plan.replica_clocks.is_empty();
                    let is_clock =
                        matches!(why, ServerMisbehaved::ClockApart { .. } | ServerMisbehaved::RosterLate { .. });
                    if is_clock && !clocks_jump && !is_liar {
                        self.sim.violation(format_args!("c{number} left over a clock, and none jumped: {why}"));
                    }
                    if matches!(why, ServerMisbehaved::ClockBackwards) && plan.client_clocks.is_empty() {
                        self.sim.violation(format_args!("c{number} saw its clock run backwards, and none did"));
                    }
                }
            }
            self.passed = self.passed.max(header.counter);
            let standing = self.device.standing();
            if !matches!(standing, Resumed::Enrolled(_)) {
                persist!(self, standing.give_up(), |_: &mut Disk| {});
            }
        }
    }

    /// One round, from wherever the disk says; whether its sum could be opened.
    async fn round(&mut self) -> Result<bool, Halt> {
        let mut standing = self.device.standing();
        loop {
            standing = match standing {
                Resumed::Enrolled(phase) => self.advertise(phase).await?,
                Resumed::AwaitingRoster(phase, message) => {
                    self.send("advertise", message, true).await?;
                    self.falls_silent(Lie::SilentAfterAdvert)?;
                    self.share(phase).await?
                }
                Resumed::AwaitingMail(phase, message) => {
                    self.send("share", message, true).await?;
                    self.falls_silent(Lie::SilentAfterShare)?;
                    let mail = self.list("mail").await?;
                    self.mail = mail.clone();
                    persisted!(self, phase.acknowledge(&mail)? => Resumed::ReadyToMask)
                }
                Resumed::ReadyToMask(phase, message) => {
                    let is_opening = Signed::decode(&message, labels::OPENING).is_ok();
                    self.send(if is_opening { "open" } else { "acknowledge" }, message, true).await?;
                    self.falls_silent(Lie::SilentAfterAcknowledgement)?;
                    if is_opening {
                        self.falls_silent(Lie::SilentAfterOpening)?;
                    }
                    self.open_or_mask(phase).await?
                }
                Resumed::AwaitingSurvivors(phase, message) => {
                    self.send("mask", message, true).await?;
                    self.falls_silent(Lie::SilentAfterUpload)?;
                    let survivors = self.read("survivors").await?;
                    let uploads = self.list("uploads").await?;
                    persisted!(self, phase.confirm(&survivors, &uploads)? => Resumed::ReadyToUnmask)
                }
                Resumed::ReadyToUnmask(phase, message) => {
                    self.send("confirm", message, false).await?;
                    self.falls_silent(Lie::SilentAfterConfirmation)?;
                    let confirmations = items(&self.read("confirmations").await?);
                    persisted!(self, phase.unmask(&confirmations)? => Resumed::AwaitingResult)
                }
                Resumed::AwaitingResult(phase, message) => {
                    self.send("unmask", message, false).await?;
                    let result = self.read("result").await?;
                    let (verified, turn) = phase.verify(&result)?;
                    persist!(self, turn, |_: &mut Disk| {});
                    return Ok(verified.sum.is_some());
                }
            };
        }
    }

    async fn advertise(&mut self, enrolled: Enrolled) -> Result<Resumed, Halt> {
        let (memory, policy) = (enrolled.memory(), &self.device.member.policy);
        let task = read_task(&self.sim);
        let (after, log) =
            (memory.last_counter(&policy.aggregator, task).max(self.passed), memory.log_of(&policy.aggregator));
        let bytes = self.get(format!("/v1/tasks/{task}/header?after={after}"), None).await?;
        let header = read_header(&bytes);
        self.device.disk.lock().expect("one thread").header = bytes.clone();
        self.device.member.policy.permits(&header, task)?;
        let mut evidence = HeaderEvidence::default();
        if let Some(seen) = log.filter(|seen| (1..header.log.size).contains(&seen.size)) {
            let path = format!("/v1/log/consistency?from={}&to={}", seen.size, header.log.size);
            let proof = self.get(path, None).await?;
            evidence.log_growth =
                proof[1..].chunks(32).map(|hash| Digest(hash.try_into().expect("whole hashes"))).collect();
        }
        let now = self.moment();
        let turn = enrolled.advertise(task, &bytes, &evidence, now, &mut self.dice)?;
        Ok(persisted!(self, turn => Resumed::AwaitingRoster))
    }

    async fn share(&mut self, awaiting: AwaitingRoster) -> Result<Resumed, Halt> {
        let roster = self.read("roster").await?;
        self.roster = roster.clone();
        let now = self.moment();
        let evidence = awaiting.examine(&roster, now, &mut self.dice)?;
        let (awaiting, _) = persist!(self, awaiting.pin(&evidence), |_: &mut Disk| {});
        let wanted: Vec<LeafIndex> = evidence.wanted().iter().copied().collect();
        let list: Vec<String> = wanted.iter().map(|leaf| leaf.0.to_string()).collect();
        let body = self.read(&format!("leaves?i={}", list.join(","))).await?;
        let mut reader = Reader::new(&body);
        let leaves =
            wanted.iter().map(|leaf| (*leaf, reader.prefixed("leaf").expect("an honest frame").to_vec())).collect();
        let turn = awaiting.share(evidence, &leaves, &mut self.dice)?;
        let standing = persisted!(self, turn => Resumed::AwaitingMail);
        match (self.sim.plan.lie_of(self.device.number), standing) {
            (Some(Lie::BadShare | Lie::WrongOpening | Lie::SilentAfterOpening), Resumed::AwaitingMail(_, message)) => {
                Ok(self.spoil_first_share(&message))
            }
            (_, standing) => Ok(standing),
        }
    }

    /// A liar rewrites what it has written down: its message, and the edge that it believes to have sent.
    fn spoil_first_share(&mut self, message: &[u8]) -> Resumed {
        let (spoiled, [before, after]) = lies::spoil_first_share(message, &self.device.member);
        let replace = |bytes: &mut [u8], old: &[u8], new: &[u8]| {
            let at = bytes.windows(old.len()).position(|window| window == old).expect("it was written down");
            bytes[at..at + new.len()].copy_from_slice(new);
        };
        let key = &self.device.key;
        {
            let mut disk = self.device.disk.lock().expect("one thread");
            let mut plain = key.open(disk.sealed.as_ref().expect("it was written down")).expect("its own key");
            replace(&mut plain, message, &spoiled);
            replace(&mut plain, &before.0, &after.0);
            disk.sealed = Some(key.seal(&mut self.dice, &plain));
        }
        self.device.standing()
    }

    async fn open_or_mask(&mut self, ready: ReadyToMask) -> Result<Resumed, Halt> {
        let complaints = self.list("complaints").await?;
        let lie = self.sim.plan.lie_of(self.device.number);
        if let (Some(Lie::WrongOpening), false, Some(roster)) = (lie, complaints.is_empty(), self.read_roster()) {
            let opening = lies::wrong_opening(&complaints, &roster, ready.header(), &self.device.member);
            self.send("open", opening, true).await?;
            return Err(Halt::Silence);
        }
        let ready = match ready.open(&complaints)? {
            Opened::Opening(turn) => return Ok(persisted!(self, turn => Resumed::ReadyToMask)),
            Opened::Nothing(ready) => ready,
        };
        let core = self.read("core").await?;
        let (mut ready, _) = persist!(self, ready.pin(&core)?, |_: &mut Disk| {});
        if ready.has_complained() {
            ready.take_openings(&self.list("openings").await?);
        }
        let params = ready.header().params;
        let round = ready.header().round();
        let sampler = SkellamSampler::new(ready.share_variance()).expect("in range");
        let noise = sampler.noise(NoiseSeed::generate(&mut self.dice), params.vector_len as usize);
        let len = params.vector_len as usize - usize::from(params.weight_max > 0);
        let values = (0..len).map(|_| (self.dice.below(2_001) as f32 - 1_000.0) / 500.0).collect();
        let mut update = ModelUpdate::new(values).expect("finite");
        if params.weight_max > 0 {
            update = update.with_weight(self.dice.between(1, 10) as f32, params.weight_max).expect("in range");
        }
        let privacy =
            Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: params.max_squared_norm };
        let noised = prepare(update, noise, &privacy, &mut self.dice).expect("same length");
        let written = noised.values().to_vec();
        let turn = ready.mask(&core, noised)?;
        let (next, message) = persist!(self, turn, |disk: &mut Disk| {
            if disk.noised.insert(round, written).is_some() {
                self.sim.violation(format_args!("c{} masked twice in one round", self.device.number));
            }
        });
        Ok(Resumed::AwaitingSurvivors(next, message))
    }

    fn falls_silent(&self, after: Lie) -> Result<(), Halt> {
        if self.sim.plan.lie_of(self.device.number) == Some(after) { Err(Halt::Silence) } else { Ok(()) }
    }

    fn moment(&self) -> Moment {
        let now_ms = self.sim.now_ms();
        let jumps = self.sim.plan.client_clocks.iter();
        let jumps = jumps.filter(|(number, at_ms, _)| *number == self.device.number && *at_ms <= now_ms);
        let ahead_ms: i64 = jumps.map(|(_, _, ahead_ms)| ahead_ms).sum();
        let wall = NOON.plus_ms(now_ms).0.saturating_add_signed(ahead_ms * 1_000);
        Moment { wall: Timestamp(wall), monotonic_ms: now_ms - self.started_ms }
    }

    fn path(&self, what: &str) -> String {
        let header = read_header(&self.device.disk.lock().expect("one thread").header);
        format!("/v1/rounds/{}/{what}", header.round())
    }

    /// Something that only members may read.
    async fn read(&mut self, what: &str) -> Result<Vec<u8>, Halt> {
        let header = read_header(&self.device.disk.lock().expect("one thread").header);
        let (path, member) = (self.path(what), &self.device.member);
        let permit = ReadPermit::sign(&path, &header.chain(), member.client(), &member.identity).encode();
        self.get(path, Some(permit)).await
    }

    async fn list(&mut self, what: &str) -> Result<Vec<Vec<u8>>, Halt> {
        let body = self.read(&format!("{what}/{}", self.device.client())).await?;
        Ok(items(&body))
    }

    /// Asks until there is something.
    async fn get(&mut self, target: String, permit: Option<Vec<u8>>) -> Result<Vec<u8>, Halt> {
        let client = self.device.number;
        loop {
            let asked =
                Asked { client, method: Method::GET, target: target.clone(), permit: permit.clone(), body: Vec::new() };
            match self.network.exchange(asked).await {
                Some((200, body)) => return Ok(body),
                Some((204, _)) => {}
                Some((404 | 410, body)) => return Err(Halt::Over(detail(&body))),
                Some((status, body)) if status < 500 => {
                    let why = detail(&body);
                    self.sim.violation(format_args!("c{client} may not read {target}: {status} {why}"));
                    return Err(Halt::Over(why));
                }
                Some(_) | None => self.pause().await,
            }
        }
    }

    /// Sends until it is answered. Without an essential message there is no way on.
    async fn send(&mut self, phase: &str, message: Vec<u8>, is_essential: bool) -> Result<(), Halt> {
        if message.is_empty() {
            return Ok(());
        }
        let lie = self.sim.plan.lie_of(self.device.number);
        let bodies = match lie {
            Some(lie) => lies::bend(lie, phase, message, &self.device.member, self.first_edge()),
            None => vec![message],
        };
        let target = self.path(&format!("{phase}/{}", self.device.client()));
        for body in bodies {
            loop {
                let asked = Asked {
                    client: self.device.number,
                    method: Method::PUT,
                    target: target.clone(),
                    permit: None,
                    body: body.clone(),
                };
                match self.network.exchange(asked).await {
                    Some((204, _)) => break,
                    Some((410 | 404, _)) if !is_essential => break,
                    Some((410 | 404, body)) => return Err(Halt::Over(detail(&body))),
                    Some((425 | 500.., _)) | None => self.pause().await,
                    Some(_) if lie.is_some() => break,
                    // Whom the core left out learns it here where its own word was lost.
                    Some((422, body)) => return Err(Halt::Over(detail(&body))),
                    Some((status, body)) => {
                        let why = detail(&body);
                        self.sim.violation(format_args!("c{} was refused: {phase} {status} {why}", self.device.number));
                        return Err(Halt::Over(why));
                    }
                }
            }
        }
        Ok(())
    }

    /// The hash of the first edge in the mailbox, and its dealer's place among the neighbours.
    fn first_edge(&self) -> Option<(usize, Digest)> {
        let item = self.mail.first()?;
        let header = read_header(&self.device.disk.lock().expect("one thread").header);
        let roster = self.read_roster()?;
        let params = RosterParams::derive(roster.n(), &header.params).ok()?;
        let neighbours =
            RingOrder::new(&roster.statement().root(), &params).neighbours(roster.leaf_of(self.device.client())?);
        let dealer = LeafIndex(u32::from_le_bytes(item[..4].try_into().ok()?));
        let place = neighbours.iter().position(|leaf| *leaf == dealer)?;
        let edge = item.get(4 + SHARE_BYTES..4 + SHARE_BYTES + EDGE_BYTES)?;
        Some((place, merkle::leaf_hash(&[edge])))
    }

    /// The roster that was served last.
    fn read_roster(&self) -> Option<Roster> {
        let mut reader = Reader::new(&self.roster);
        let statement = Signed::read(&mut reader, labels::ROSTER).ok()?.statement().clone();
        Roster::from_parts(statement, reader.rest()).ok()
    }

    async fn pause(&mut self) {
        let pause_ms = self.dice.between(20, 300);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

fn read_task(sim: &Sim) -> veilsum_crypto::ids::TaskId {
    sim.plan.task.id()
}

/// A signed header.
pub fn read_header(bytes: &[u8]) -> Header {
    let signed = Signed::decode(bytes, labels::HEADER).expect("an honest aggregator");
    Header::from_statement(signed.statement()).expect("an honest aggregator")
}

/// A list as it is served. docs/wire.md §7
pub fn items(body: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(body);
    let count = reader.u16("count").expect("an honest frame");
    (0..count).map(|_| reader.prefixed("item").expect("an honest frame").to_vec()).collect()
}

fn detail(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    json["detail"].as_str().unwrap_or_default().to_string()
}
