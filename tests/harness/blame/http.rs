//! A planned round over HTTP: the real aggregator on a real database, real participants behind a proxy that holds their
//! messages until the liars have sent theirs, and puppets on sockets of their own.
//!
//! Windows are never waited for: when everybody has spoken who will, the aggregator's clock is moved on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use veilsum_aggregator::round::{Rounds, View};
use veilsum_aggregator::store::Store as _;
use veilsum_aggregator::store::sql::SqlStore;
use veilsum_crypto::ids::{ClientId, RoundId};
use veilsum_crypto::messages::{Header, KeyAdvertisement};
use veilsum_crypto::server::{Assembly, Phase, PhaseKind, StatementKind};

use super::account::{self, Account, Mismatch};
use super::evidence::Public;
use super::kinds::{PHASES, phase_name};
use super::letter::{Content, Deed, Diary, End, Event, Letter, Reply};
use super::memory::{Fixed, Played, complainers, sets};
use super::oracle::Told;
use super::plan::Plan;
use super::ploys::{Cast, Out, Scene};
use super::puppet::{Puppet, Stage};
use super::seed::Seed;
use crate::hostile::proxy::{Meddling, Proxy};
use crate::hostile::wire::request;
use crate::world::{Fate, Line, Moment, Running, Shape, World};

/// Nobody honest needs so long for a step, on however busy a machine.
const STEP_MAX: Duration = Duration::from_secs(90);
/// Windows so long that none passes by itself.
const WINDOW_MS: u32 = 10 * 60 * 1_000;

/// Plays one round and judges it.
pub async fn round(seed: Seed) -> Result<Account, Mismatch> {
    told(seed).await.map(|(account, _)| account)
}

/// The same, with its story.
pub async fn told(seed: Seed) -> Result<(Account, String), Mismatch> {
    // On a task of its own: a panic is told with the seed.
    let played = tokio::spawn(async move {
        let mut plan = Plan::draw_over_http(seed);
        let played = play(&mut plan).await;
        (plan, played)
    });
    match played.await {
        Ok((plan, played)) => {
            let story = account::story(&plan, &played);
            Ok((account::judge(&plan, played)?, story))
        }
        Err(error) => {
            let panic = error.try_into_panic().unwrap_or_else(|error| Box::new(error.to_string()));
            Err(Mismatch::of_panic(seed, &*panic))
        }
    }
}

/// What the proxy has seen and holds.
#[derive(Default)]
struct Held {
    arrived: Mutex<BTreeMap<(PhaseKind, ClientId), Vec<u8>>>,
    gates: Mutex<BTreeMap<PhaseKind, Gate>>,
}

/// Who may pass in one phase.
#[derive(Default)]
struct Gate {
    is_open: bool,
    permits: usize,
    passed: BTreeSet<ClientId>,
}

impl Held {
    fn arrived(&self, phase: PhaseKind) -> BTreeMap<ClientId, Vec<u8>> {
        let arrived = self.arrived.lock().expect("no panic while it is held");
        let of_phase = arrived.iter().filter(|((of, _), _)| *of == phase);
        of_phase.map(|((_, client), body)| (*client, body.clone())).collect()
    }

    /// So many clients may pass.
    fn let_pass(&self, phase: PhaseKind, count: usize) {
        self.gates.lock().expect("no panic while it is held").entry(phase).or_default().permits += count;
    }

    /// Everybody may.
    fn open(&self, phase: PhaseKind) {
        self.gates.lock().expect("no panic while it is held").entry(phase).or_default().is_open = true;
    }

    /// Returns when this client may pass; it may again, if it asks again.
    async fn pass(&self, phase: PhaseKind, client: ClientId) {
        let may_pass = || {
            let mut gates = self.gates.lock().expect("no panic while it is held");
            let gate = gates.entry(phase).or_default();
            if gate.permits > 0 && !gate.passed.contains(&client) {
                gate.permits -= 1;
                gate.passed.insert(client);
            }
            gate.is_open || gate.passed.contains(&client)
        };
        while !may_pass() {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

struct Play<'p> {
    plan: &'p Plan,
    world: World,
    header: Header,
    round: RoundId,
    held: Arc<Held>,
    proxy: Proxy,
    cast: Cast,
    told: Told,
    diary: Diary,
    lies: BTreeMap<(PhaseKind, ClientId), Vec<u8>>,
}

async fn play(plan: &mut Plan) -> Played {
    let (play, running) = Play::start(plan).await;
    play.finally(running).await
}

fn id(number: usize) -> ClientId {
    veilsum_crypto::testing::client_id(u32::try_from(number).expect("few"))
}

impl<'p> Play<'p> {
    async fn start(plan: &'p mut Plan) -> (Self, Vec<(ClientId, Running)>) {
        let fraction = |millionths: u32| f64::from(millionths) / 1e6;
        let mut world = World::new(Shape {
            roster_min: plan.params.roster_min,
            corrupt_fraction: fraction(plan.params.corrupt_fraction),
            dropout_tolerance: fraction(plan.params.dropout_tolerance),
            model_len: plan.params.vector_len,
            window_ms: WINDOW_MS,
            ..Shape::of(plan.params.roster_max)
        })
        .await;
        (world.policy.corrupt_fraction_min, world.policy.dropout_tolerance_max) = (0, 999_999);
        world.policy.roster_deadline_ms = u64::from(WINDOW_MS); // adverts are held until the liars have sent theirs
        plan.params = world.task.params;
        let plan: &Plan = plan;
        let header = world.header(1).await;
        let cast = Cast::new(plan, |number, dice| Puppet::new(world.membership(number), dice));
        let held = Arc::new(Held::default());
        let proxy = Proxy::before(world.address, {
            let held = held.clone();
            move |asked| {
                let held = held.clone();
                async move {
                    let phase = PHASES.into_iter().find(|phase| asked.puts(phase_name(*phase)));
                    if let (Some(phase), Some(client)) = (phase, asked.client()) {
                        let arrived = ((phase, client), asked.body.clone());
                        held.arrived.lock().expect("no panic while it is held").extend([arrived]);
                        held.pass(phase, client).await;
                    }
                    Meddling::Pass
                }
            }
        })
        .await;
        let mut running = Vec::new();
        for number in plan.honest() {
            let fate =
                plan.lost.get(&number).map(|phase| Fate { phase: phase_name(*phase), moment: Moment::BeforeSending });
            let line: Line = world.line_to(proxy.address());
            let line = match fate {
                Some(fate) => line.ending_at(fate),
                None => line,
            };
            running.push((id(number), world.send(number, line)));
        }
        let told = Told {
            params: plan.params,
            honest: plan.honest().into_iter().map(id).collect(),
            lost: plan.lost.iter().map(|(number, phase)| (id(*number), *phase)).collect(),
            roster_root: None,
        };
        let round = header.round();
        let diary = Diary::default();
        let mut play = Self { plan, world, header, round, held, proxy, cast, told, diary, lies: BTreeMap::new() };
        play.cast.speaks_last = true;
        (play, running)
    }

    async fn finally(mut self, running: Vec<(ClientId, Running)>) -> Played {
        loop {
            let view = self.view().await;
            if view.phase.kind().is_over() {
                break;
            }
            self.phase(&view).await;
        }
        let view = self.view().await;
        let empty = BTreeMap::new();
        let scene = Owned::of(&self, &view, &empty).await;
        for liar in self.cast.clients() {
            let outs = self.cast.letters(&scene.scene(self.plan, &self.header, &self.world, &view), liar);
            for out in outs {
                self.put(&view, liar, out).await;
            }
        }
        let mut believed = BTreeMap::new();
        for (client, running) in running {
            let ending = running.end().await;
            if let Some(sum) = ending.verified() {
                believed.insert(client, Some(sum.to_signed()));
            }
        }
        self.finish(&view, believed).await
    }

    fn rounds(&self) -> &Rounds<SqlStore> {
        self.world.rounds()
    }

    async fn view(&self) -> Arc<View> {
        self.rounds().view(self.round).await.expect("a known round")
    }

    /// One phase: honest messages are on the way and held; liars send; the others pass; the phase closes.
    async fn phase(&mut self, view: &Arc<View>) {
        let phase = view.phase.kind();
        let expected = self.expected(view).await;
        self.until("honest clients speak", || {
            let arrived = self.held.arrived(phase);
            expected.iter().all(|client| arrived.contains_key(client))
        })
        .await;
        let outbox = self.held.arrived(phase);
        // In advertise all but one come first, so that there are keys to copy; the last one keeps the phase open.
        if phase == PhaseKind::Advertising && outbox.len() > 1 {
            self.held.let_pass(phase, outbox.len() - 1);
            self.until("adverts are answered", || self.answered(phase).len() >= outbox.len() - 1).await;
        }
        self.note_honest(phase, &outbox, &BTreeSet::new());
        let before = self.answered(phase).into_keys().collect();
        let mut outs = Vec::new();
        {
            let owned = Owned::of(self, view, &outbox).await;
            let scene = owned.scene(self.plan, &self.header, &self.world, view);
            if phase == PhaseKind::Unmasking {
                self.cast.conspire(&scene);
            }
            for liar in self.cast.clients() {
                let letters = self.cast.letters(&scene, liar);
                outs.extend(letters.into_iter().map(|out| (liar, out)));
            }
        }
        // Where only liars are asked, the last of their messages closes the phase: attempts before it.
        let (messages, attempts): (Vec<_>, Vec<_>) = {
            let mut has_spoken = BTreeSet::new();
            outs.into_iter().partition(|(liar, out)| {
                if out.kind.is_none() {
                    has_spoken.insert(*liar);
                }
                has_spoken.contains(liar)
            })
        };
        for (liar, out) in attempts.into_iter().chain(messages) {
            self.put(view, liar, out).await;
        }
        self.held.open(phase);
        self.until("honest messages are answered", || {
            let answered = self.answered(phase);
            expected.iter().all(|client| answered.contains_key(client))
        })
        .await;
        self.note_honest(phase, &outbox, &before);
        self.close(view).await;
        self.diary.note(Event::Closed);
    }

    /// Who of the honest will send something in this phase.
    async fn expected(&self, view: &View) -> BTreeSet<ClientId> {
        let phase = view.phase.kind();
        let (core, survivors) = self.sets(view).await;
        let asked = complainers(&view.phase);
        let is_expected = |client: &ClientId| {
            if self.told.lost.get(client).is_some_and(|from| *from <= phase) {
                return false;
            }
            let Some(assembly) = view.phase.assembly() else { return true };
            let Ok((leaf, _)) = assembly.find(*client) else { return false };
            let is_in = |set: &Fixed| set.as_ref().is_some_and(|(_, members)| members.has(leaf));
            match phase {
                PhaseKind::Opening => asked.contains_key(client),
                PhaseKind::Masking => is_in(&core),
                PhaseKind::Confirming => is_in(&survivors) && assembly.order().agrees(leaf),
                PhaseKind::Unmasking => is_in(&survivors),
                _ => true,
            }
        };
        self.told.honest.iter().copied().filter(is_expected).collect()
    }

    async fn served(&self, kind: StatementKind) -> Option<Vec<u8>> {
        self.rounds().statement(self.round, kind).await.ok().map(|served| served.to_vec())
    }

    async fn sets(&self, view: &View) -> (Fixed, Fixed) {
        let n = view.phase.assembly().map_or(0, |assembly| assembly.params().n);
        let (core, survivors) = (self.served(StatementKind::Core).await, self.served(StatementKind::Survivors).await);
        sets(core.as_deref(), survivors.as_deref(), n)
    }

    /// How the messages of honest clients were answered.
    fn answered(&self, phase: PhaseKind) -> BTreeMap<ClientId, u16> {
        let passed = self.proxy.passed();
        let of_phase = passed.iter().filter(|passed| passed.asked.puts(phase_name(phase)) && passed.status != 0);
        of_phase.filter_map(|passed| Some((passed.asked.client()?, passed.status))).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + STEP_MAX;
        while !holds() {
            assert!(Instant::now() < end, "in {STEP_MAX:?} it did not come to it that {what}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn put(&mut self, view: &View, liar: ClientId, out: Out) {
        let Out { body, mut letter, kind } = out;
        letter.is_too_long = body.len() > Rounds::<SqlStore>::body_limit(view, letter.phase);
        let path = format!("/v1/rounds/{}/{}/{}", self.round, phase_name(letter.phase), letter.name);
        let answer = request(self.world.address, "PUT", &path, &[], &body).await;
        let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let rule = said["rule"].as_str().and_then(|rule| rule.strip_prefix("R-")?.parse().ok());
        let reply = Reply { code: answer.status, rule };
        if kind.is_none() && reply == Reply::YES {
            self.lies.insert((letter.phase, letter.name), body);
        }
        self.diary.note(Event::Sent { letter, reply: Some(reply), kind });
        if let Some(kind) = kind {
            self.diary.did(kind, liar);
        }
    }

    /// What honest clients sent, in words. A confirm that came after t others was not needed any more, and counts as sent.
    fn note_honest(&mut self, phase: PhaseKind, outbox: &BTreeMap<ClientId, Vec<u8>>, noted: &BTreeSet<ClientId>) {
        let answered = self.answered(phase);
        for (client, body) in outbox.iter().filter(|(client, _)| !noted.contains(client)) {
            if !answered.contains_key(client) {
                continue;
            }
            let content = match phase {
                PhaseKind::Advertising => {
                    let keys = KeyAdvertisement::decode(body).expect("an honest advert").claims();
                    Content::Advert { keys, is_certified: true }
                }
                PhaseKind::Masking => {
                    let noised = self.world.noised.lock().expect("no panic while it is held");
                    Content::Upload(noised[client].clone())
                }
                _ => Content::Honest,
            };
            let reply = match answered.get(client) {
                Some(410) if phase == PhaseKind::Confirming => None,
                status => status.map(|status| Reply::bare(*status)),
            };
            let letter = Letter::right(*client, phase, body, content);
            self.diary.note(Event::Sent { letter, reply, kind: None });
        }
    }

    /// The phase closes because enough came, or because its time is over.
    async fn close(&self, view: &View) {
        let (phase, end) = (view.phase.kind(), Instant::now() + STEP_MAX);
        let admitted: BTreeSet<ClientId> =
            self.diary.events.iter().filter_map(|event| admitted_in(phase, event)).collect();
        let enough = view.phase.enough(self.plan.params.roster_max).expect("it is open");
        if admitted.len() < enough as usize {
            self.world.skip_ms(u64::from(WINDOW_MS) + 60_000);
        }
        while self.view().await.phase.kind() == phase {
            assert!(Instant::now() < end, "{phase:?} does not close: {} of {enough}", admitted.len());
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn finish(self, view: &View, believed: BTreeMap<ClientId, Option<Vec<i64>>>) -> Played {
        let public = Public {
            aggregator: self.world.policy.aggregator,
            authority: self.world.policy.authority,
            header: self.served(StatementKind::Header).await.expect("there is one"),
            roster: self.served(StatementKind::Roster).await,
            core: self.served(StatementKind::Core).await,
            survivors: self.served(StatementKind::Survivors).await,
        };
        let end = match &view.phase {
            Phase::Abandoned(reason, _) => End::Abandoned(*reason),
            _ => End::Released {
                survivors: self.world.survivors(self.round).await.into_iter().collect(),
                sum: self.world.released(self.round).await.expect("a sum").to_signed(),
            },
        };
        let rows = self.rounds().store().faults(self.round).await.expect("the store answers");
        let faults = rows.into_iter().map(|row| ((row.phase, row.client), (row.rule, row.evidence))).collect();
        let Self { mut diary, mut told, cast, held, lies, .. } = self;
        told.roster_root = view.phase.assembly().map(Assembly::root);
        diary.deeds.extend(cast.silent_deeds.iter().map(|(kind, client)| Deed {
            kind: *kind,
            client: *client,
            line: None,
        }));
        let messages = held.arrived.lock().expect("no panic while it is held").clone();
        let received = messages.clone().into_iter().chain(lies).collect();
        Played { diary, told, faults, end, believed, public, messages, received, seconds: Vec::new() }
    }
}

/// Whose message of a phase was admitted, in this line of the diary.
fn admitted_in(phase: PhaseKind, event: &Event) -> Option<ClientId> {
    match event {
        Event::Sent { letter, reply, .. } if letter.phase == phase => {
            reply.is_none_or(|reply| reply == Reply::YES).then_some(letter.name)
        }
        _ => None,
    }
}

/// What a scene borrows.
struct Owned<'o> {
    outbox: &'o BTreeMap<ClientId, Vec<u8>>,
    adverts: BTreeMap<ClientId, Vec<u8>>,
    shares: BTreeMap<ClientId, Vec<u8>>,
    mail: BTreeMap<ClientId, Vec<Vec<u8>>>,
    complainers: BTreeMap<ClientId, Vec<ClientId>>,
    sets: (Fixed, Fixed),
    mute: BTreeSet<ClientId>,
}

impl<'o> Owned<'o> {
    async fn of(play: &Play<'_>, view: &View, outbox: &'o BTreeMap<ClientId, Vec<u8>>) -> Self {
        let bodies = async |phase| play.rounds().bodies(play.round, phase, None).await.expect("the store answers");
        let mut mail = BTreeMap::new();
        for liar in play.cast.clients() {
            mail.insert(liar, play.rounds().store().mail(play.round, liar).await.expect("the store answers"));
        }
        let honest = play.told.honest.iter().copied();
        Self {
            adverts: bodies(PhaseKind::Advertising).await,
            shares: bodies(PhaseKind::Sharing).await,
            mail,
            complainers: complainers(&view.phase),
            sets: play.sets(view).await,
            mute: honest.filter(|client| !outbox.contains_key(client)).collect(),
            outbox,
        }
    }

    fn scene<'s>(&'s self, plan: &'s Plan, header: &'s Header, world: &'s World, view: &'s View) -> Scene<'s> {
        let (core, survivors) = &self.sets;
        Scene {
            plan,
            header,
            authority: &world.authority,
            phase: view.phase.kind(),
            stage: view.phase.assembly().map(|assembly| Stage { header, assembly }),
            outbox: self.outbox,
            adverts: &self.adverts,
            shares: &self.shares,
            mail: &self.mail,
            complainers: &self.complainers,
            core: core.as_ref().map(|(root, members)| (*root, members)),
            survivors: survivors.as_ref().map(|(root, members)| (*root, members)),
            mute: &self.mute,
        }
    }
}
