//! A planned round in memory: real clients, puppets, and the aggregator of `service.rs`.

use std::collections::{BTreeMap, BTreeSet};

use veilsum_crypto::client::{
    AwaitingMail, AwaitingResult, AwaitingRoster, AwaitingSurvivors, Enrolled, HeaderEvidence, Opened, ReadyToMask,
    ReadyToUnmask,
};
use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::messages::{Bitmap, Header, KeyAdvertisement, SealedShares};
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::privacy::skellam::SkellamSampler;
use veilsum_crypto::rules::ServerMisbehaved;
use veilsum_crypto::server::{Phase, PhaseKind, StatementKind};
use veilsum_crypto::testing::{TASK, World, client_id, now};
use veilsum_crypto::update::{ModelUpdate, Noised, Privacy, prepare};

use super::evidence::Public;
use super::kinds::Kind;
use super::letter::{Attached, Content, Deed, Diary, End, Event, Letter, MailFate};
use super::oracle::Told;
use super::plan::Plan;
use super::ploys::{Cast, Out, Scene, alter_edges, broken_signature};
use super::puppet::{Puppet, Stage};
use super::service::{Bug, Service};
use crate::dice::Dice;

/// A round that is over, with everything that was seen of it.
#[derive(Debug)]
pub struct Played {
    /// What was delivered.
    pub diary: Diary,
    /// What the oracle is told.
    pub told: Told,
    /// Who was named, with the evidence.
    pub faults: BTreeMap<(PhaseKind, ClientId), (u8, Vec<u8>)>,
    /// How it ended.
    pub end: End,
    /// The sum that each honest client verified at the end; `None` if it was told that there is none.
    pub believed: BTreeMap<ClientId, Option<Vec<i64>>>,
    /// What everybody may see.
    pub public: Public,
    /// Honest messages, for those who would use them against their senders.
    pub messages: BTreeMap<(PhaseKind, ClientId), Vec<u8>>,
    /// Everything admitted, for the same.
    pub received: BTreeMap<(PhaseKind, ClientId), Vec<u8>>,
    /// Second share messages that liars signed and the aggregator did not admit.
    pub seconds: Vec<(ClientId, Vec<u8>)>,
}

/// Where an honest client stands.
enum Stand {
    Enrolled(Enrolled),
    Roster(AwaitingRoster),
    Mail(AwaitingMail),
    Ready(ReadyToMask),
    Survivors(AwaitingSurvivors),
    Unmask(ReadyToUnmask),
    Result(AwaitingResult),
}

/// A message of an honest client, in words.
type Spoken = (Vec<u8>, Content);

struct Play<'p> {
    plan: &'p Plan,
    world: World,
    service: Service,
    diary: Diary,
    dice: Dice,
    cast: Cast,
    honest: BTreeMap<ClientId, Stand>,
    told: Told,
    messages: BTreeMap<(PhaseKind, ClientId), Vec<u8>>,
    believed: BTreeMap<ClientId, Option<Vec<i64>>>,
}

/// Plays it to its end.
pub fn play(plan: &Plan, bug: Bug) -> Played {
    let mut play = Play::new(plan, bug);
    while !play.service.phase().is_over() {
        play.phase();
    }
    play.after();
    play.finish()
}

impl<'p> Play<'p> {
    fn new(plan: &'p Plan, bug: Bug) -> Self {
        let (dice, world) = (plan.seed.dice("order"), world(plan));
        let cast = Cast::new(plan, |number, dice| Puppet::new(world.members[number].clone(), dice));
        let id = |number: usize| client_id(u32::try_from(number).expect("few"));
        let honest: BTreeMap<ClientId, Stand> =
            plan.honest().into_iter().map(|number| (id(number), Stand::Enrolled(world.enrolled(number)))).collect();
        let told = Told {
            params: plan.params,
            honest: honest.keys().copied().collect(),
            lost: plan.lost.iter().map(|(number, phase)| (id(*number), *phase)).collect(),
            roster_root: None,
        };
        Self {
            service: Service::new(&world, bug),
            diary: Diary::default(),
            messages: BTreeMap::new(),
            believed: BTreeMap::new(),
            plan,
            world,
            dice,
            cast,
            honest,
            told,
        }
    }

    /// One phase: everybody writes, everything is delivered, it closes.
    fn phase(&mut self) {
        let phase = self.service.phase();
        let mut spoken: BTreeMap<ClientId, Spoken> = BTreeMap::new();
        for client in self.honest.keys().copied().collect::<Vec<_>>() {
            if self.told.lost.get(&client).is_some_and(|from| *from <= phase) {
                self.honest.remove(&client);
                continue;
            }
            if let Some(message) = self.speak(client) {
                spoken.insert(client, message);
            }
        }
        let outbox: BTreeMap<ClientId, Vec<u8>> =
            spoken.iter().map(|(client, (body, _))| (*client, body.clone())).collect();
        if phase == PhaseKind::Unmasking {
            let Self { cast, plan, world, service, .. } = self;
            cast.conspire(&Parts::of(plan, world, service, &outbox).scene());
        }
        for client in self.order(&spoken) {
            match spoken.remove(&client) {
                Some((body, content)) => self.deliver_honest(client, body, content),
                None => self.deliver_lies(client, &outbox),
            }
        }
        self.diary.note(Event::Closed);
        let nonce = self.dice.bytes();
        self.service.close(&self.world, nonce);
        if phase == PhaseKind::Sharing {
            self.swap_mail();
        }
    }

    /// In which order messages arrive: by lot, but that thieves come first and other liars' adverts last.
    fn order(&mut self, spoken: &BTreeMap<ClientId, Spoken>) -> Vec<ClientId> {
        let mut order: Vec<ClientId> = spoken.keys().copied().collect();
        self.dice.shuffle(&mut order);
        for liar in self.cast.clients() {
            let at = if self.cast.actors[&liar].lies.has(Kind::StolenKey) {
                0
            } else if self.service.phase() == PhaseKind::Advertising {
                order.len()
            } else {
                self.dice.index(order.len() + 1)
            };
            order.insert(at, liar);
        }
        order
    }

    fn put(&mut self, Out { body, letter, kind }: Out) {
        let reply = self.service.put(&self.world, letter.name, letter.phase, &body);
        self.diary.note(Event::Sent { letter, reply: Some(reply), kind });
    }

    fn deliver_lies(&mut self, liar: ClientId, outbox: &BTreeMap<ClientId, Vec<u8>>) {
        let outs = {
            let Self { cast, plan, world, service, .. } = self;
            cast.letters(&Parts::of(plan, world, service, outbox).scene(), liar)
        };
        for out in outs {
            let kind = out.kind;
            self.put(out);
            if let Some(kind) = kind {
                self.diary.did(kind, liar);
            }
        }
    }

    fn deliver_honest(&mut self, client: ClientId, body: Vec<u8>, content: Content) {
        let phase = self.service.phase();
        let right = Letter::right(client, phase, &body, content);
        let network: Vec<Kind> = self
            .plan
            .network
            .iter()
            .filter(|(kind, victim)| client == id(*victim) && kind.phase() == phase)
            .map(|(kind, _)| *kind)
            .collect();
        for kind in network.iter().copied() {
            let (altered, is_signed, attached) = match kind {
                Kind::NetworkAlters(PhaseKind::Sharing) => {
                    let mut altered = body.clone();
                    alter_edges(&mut altered, &mut self.dice);
                    (altered, true, Attached::Other)
                }
                Kind::NetworkAlters(_) => {
                    let mut altered = body.clone();
                    altered[223] ^= 1;
                    (altered, true, Attached::Other)
                }
                Kind::NetworkBreaks(_) => (broken_signature(phase, &body, &mut self.dice), false, Attached::AsSigned),
                _ => continue,
            };
            let letter =
                Letter { is_signed, attached, ..Letter::right(client, phase, &altered, right.content.clone()) };
            self.put(Out { body: altered, letter, kind: Some(kind) });
            self.diary.did(kind, client);
        }
        self.messages.insert((phase, client), body.clone());
        self.put(Out { body: body.clone(), letter: right.clone(), kind: None });
        for kind in network.into_iter().filter(|kind| matches!(kind, Kind::NetworkRepeats(_))) {
            self.put(Out { body: body.clone(), letter: right.clone(), kind: Some(kind) });
            self.diary.did(kind, client);
        }
    }

    /// The second share messages of liars, shown by the network in the place of the first.
    fn swap_mail(&mut self) {
        let Some(assembly) = self.service.aggregator.phase.assembly().cloned() else { return };
        for (dealer, actor) in &self.cast.actors {
            let Some((second, holder)) = &actor.shown else { continue };
            let (Ok((leaf, _)), Ok((holds, _))) = (assembly.find(*dealer), assembly.find(*holder)) else { continue };
            let Ok(second) = SealedShares::decode(second, assembly.params().degree) else { continue };
            let Some((_, item)) = second.mail(leaf).into_iter().find(|(to, _)| *to == holds) else { continue };
            let Some(mail) = self.service.aggregator.mail.get_mut(holder) else { continue };
            if let Some(place) = mail.iter_mut().find(|item| item.starts_with(&leaf.0.to_le_bytes())) {
                *place = item;
                self.diary.note(Event::Mail { holder: *holder, dealer: *dealer, fate: MailFate::Swapped });
            }
        }
    }

    /// What the network does to the mail of a holder.
    fn spoil_mail(&mut self, client: ClientId) {
        if !self.plan.network.iter().any(|(kind, victim)| *kind == Kind::NetworkMail && id(*victim) == client) {
            return;
        }
        let Some(assembly) = self.service.aggregator.phase.assembly() else { return };
        let Some(mail) = self.service.aggregator.mail.get_mut(&client).filter(|mail| !mail.is_empty()) else { return };
        let at = self.dice.index(mail.len());
        let leaf = u32::from_le_bytes(mail[at][..4].try_into().expect("an item"));
        let dealer = assembly.roster().client(veilsum_crypto::ids::LeafIndex(leaf));
        let fate = match self.dice.index(3) {
            0 => {
                mail.remove(at);
                MailFate::Lost
            }
            1 => {
                let byte = self.dice.within(4, mail[at].len() - 1);
                mail[at][byte] ^= 1; // the statement, its signature, the edge, the position or the path
                MailFate::Lost
            }
            _ => {
                let twice = mail[at].clone();
                mail.push(twice);
                MailFate::Doubled
            }
        };
        self.diary.note(Event::Mail { holder: client, dealer, fate });
        self.diary.did_silently(Kind::NetworkMail, client);
    }

    /// What an honest client sends in the phase that is open. One that stops is gone.
    fn speak(&mut self, client: ClientId) -> Option<Spoken> {
        let phase = self.service.phase();
        if phase == PhaseKind::Acknowledging {
            self.spoil_mail(client);
        }
        let stand = self.honest.remove(&client)?;
        let stepped = match (phase, stand) {
            (PhaseKind::Advertising, Stand::Enrolled(stand)) => self.advertise(stand),
            (PhaseKind::Sharing, Stand::Roster(stand)) => self.share(client, stand),
            (PhaseKind::Acknowledging, Stand::Mail(stand)) => self.acknowledge(client, stand),
            (PhaseKind::Opening, Stand::Ready(stand)) => self.open(client, stand),
            (PhaseKind::Masking, Stand::Ready(stand)) => self.mask(client, stand),
            (PhaseKind::Confirming, Stand::Survivors(stand)) => self.confirm(client, stand),
            (PhaseKind::Unmasking, Stand::Unmask(stand)) => self.unmask(stand),
            _ => return None,
        };
        match stepped {
            Ok((next, message)) => {
                self.honest.insert(client, next);
                message
            }
            Err(error) => {
                self.diary.note(Event::Stopped { client, phase, rule: error.rule().0 });
                None
            }
        }
    }

    fn advertise(&mut self, stand: Enrolled) -> Stepped {
        let header = self.world.header();
        let turn = stand.advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut self.dice)?;
        let (next, body) = self.world.turn(turn);
        let keys = KeyAdvertisement::decode(&body).expect("its own").claims();
        Ok((Stand::Roster(next), Some((body, Content::Advert { keys, is_certified: true }))))
    }

    /// Turned away in advertise, it finds itself on no roster: its program ended with the refusal.
    fn share(&mut self, client: ClientId, stand: AwaitingRoster) -> Stepped {
        let aggregator = &self.service.aggregator;
        if aggregator.phase.assembly().is_some_and(|assembly| assembly.find(client).is_err()) {
            return Ok((Stand::Roster(stand), None));
        }
        let roster = aggregator.served(&self.world, StatementKind::Roster);
        let evidence = stand.examine(&roster, now(), &mut self.dice)?;
        let (stand, _) = self.world.turn(stand.pin(&evidence));
        let leaves = aggregator.leaves(evidence.wanted().clone());
        let (next, body) = self.world.turn(stand.share(evidence, &leaves, &mut self.dice)?);
        Ok((Stand::Mail(next), Some((body, Content::Honest))))
    }

    fn acknowledge(&mut self, client: ClientId, stand: AwaitingMail) -> Stepped {
        let mail = self.service.aggregator.mail.get(&client).cloned().unwrap_or_default();
        let (next, body) = self.world.turn(stand.acknowledge(&mail)?);
        Ok((Stand::Ready(next), Some((body, Content::Honest))))
    }

    fn open(&mut self, client: ClientId, stand: ReadyToMask) -> Stepped {
        let aggregator = &self.service.aggregator;
        let complainers = complainers(&aggregator.phase).remove(&client).unwrap_or_default();
        let bodies = &aggregator.received[&PhaseKind::Acknowledging];
        let complaints: Vec<Vec<u8>> = complainers.iter().map(|holder| bodies[holder].clone()).collect();
        Ok(match stand.open(&complaints)? {
            Opened::Nothing(next) => (Stand::Ready(next), None),
            Opened::Opening(turn) => {
                let (next, body) = self.world.turn(turn);
                (Stand::Ready(next), Some((body, Content::Honest)))
            }
        })
    }

    fn mask(&mut self, client: ClientId, mut stand: ReadyToMask) -> Stepped {
        let aggregator = &self.service.aggregator;
        if stand.has_complained() {
            stand.take_openings(&aggregator.bodies(PhaseKind::Opening));
        }
        let core = aggregator.served(&self.world, StatementKind::Core);
        let (stand, _) = self.world.turn(stand.pin(&core)?);
        let update = noised(stand.header(), stand.share_variance(), client, &mut self.dice);
        let values = update.values().to_vec();
        let (next, body) = self.world.turn(stand.mask(&core, update)?);
        Ok((Stand::Survivors(next), Some((body, Content::Upload(values)))))
    }

    fn confirm(&mut self, client: ClientId, stand: AwaitingSurvivors) -> Stepped {
        let aggregator = &self.service.aggregator;
        let survivors = aggregator.served(&self.world, StatementKind::Survivors);
        let turn = stand.confirm(&survivors, &aggregator.uploads_for(client))?;
        let (next, body) = self.world.turn(turn);
        let message = (!body.is_empty()).then_some((body, Content::Honest));
        Ok((Stand::Unmask(next), message))
    }

    fn unmask(&mut self, stand: ReadyToUnmask) -> Stepped {
        let confirmations = self.service.aggregator.bodies(PhaseKind::Confirming);
        let (next, body) = self.world.turn(stand.unmask(&confirmations)?);
        Ok((Stand::Result(next), Some((body, Content::Honest))))
    }

    /// Whoever answered verifies; liars send what comes too late.
    fn after(&mut self) {
        for liar in self.cast.clients() {
            self.deliver_lies(liar, &BTreeMap::new());
        }
        let Some(_) = self.service.aggregator.statements.get(&StatementKind::Result) else { return };
        let result = self.service.aggregator.served(&self.world, StatementKind::Result);
        for (client, stand) in std::mem::take(&mut self.honest) {
            if let Stand::Result(stand) = stand {
                let sum = stand.verify(&result).ok().and_then(|(verified, _)| verified.sum);
                self.believed.insert(client, sum.map(|sum| sum.to_signed()));
            }
        }
    }

    fn finish(mut self) -> Played {
        let deeds = std::mem::take(&mut self.cast.silent_deeds);
        self.diary.deeds.extend(deeds.into_iter().map(|(kind, client)| Deed { kind, client, line: None }));
        let aggregator = &self.service.aggregator;
        let served = |kind| aggregator.statements.contains_key(&kind).then(|| aggregator.served(&self.world, kind));
        let public = Public {
            aggregator: self.world.aggregator.public(),
            authority: self.world.authority.public(),
            header: self.world.header(),
            roster: served(StatementKind::Roster),
            core: served(StatementKind::Core),
            survivors: served(StatementKind::Survivors),
        };
        let n = aggregator.phase.assembly().map_or(0, |assembly| assembly.params().n);
        let (_, survivors) = sets(None, public.survivors.as_deref(), n);
        let end = match (&aggregator.phase, self.service.released(&self.world)) {
            (Phase::Published(assembly), Some(sum)) => End::Released {
                survivors: survivors
                    .map(|(_, members)| members.leaves().map(|leaf| assembly.roster().client(leaf)).collect())
                    .unwrap_or_default(),
                sum: sum.to_signed(),
            },
            (Phase::Abandoned(reason, _), _) => End::Abandoned(*reason),
            (other, _) => panic!("the round is over, and stands in {:?}", other.kind()),
        };
        self.told.roster_root = aggregator.phase.assembly().map(veilsum_crypto::server::Assembly::root);
        let shown = |(dealer, actor): (&ClientId, &super::ploys::Actor)| {
            actor.shown.as_ref().map(|(message, _)| (*dealer, message.clone()))
        };
        let seconds = self.cast.actors.iter().filter_map(shown).collect();
        let Self { diary, told, service, believed, messages, .. } = self;
        let Service { aggregator, faults, .. } = service;
        let of_phase = |(phase, bodies): (PhaseKind, BTreeMap<ClientId, Vec<u8>>)| {
            bodies.into_iter().map(move |(client, body)| ((phase, client), body))
        };
        let received = aggregator.received.into_iter().flat_map(of_phase).collect();
        Played { diary, told, faults, end, believed, public, messages, received, seconds }
    }
}

type Stepped = Result<(Stand, Option<Spoken>), ServerMisbehaved>;

fn id(number: usize) -> ClientId {
    client_id(u32::try_from(number).expect("few"))
}

/// A set of leaves that a statement fixed, with its root.
pub type Fixed = Option<(Digest, Bitmap)>;

/// Core and survivors, from their signed statements as far as there are any, over a roster of `n`.
pub fn sets(core: Option<&[u8]>, survivors: Option<&[u8]>, n: u32) -> (Fixed, Fixed) {
    use veilsum_crypto::messages::{CoreSet, Survivors};
    use veilsum_crypto::primitives::labels;
    use veilsum_crypto::primitives::signature::Signed;
    let core = core.map(|served| {
        let signed = Signed::decode(served, labels::CORE).expect("as served");
        let core = CoreSet::from_statement(signed.statement().clone(), n).expect("as served");
        (core.root(), core.members().clone())
    });
    let survivors = survivors.map(|served| {
        let signed = Signed::decode(served, labels::SURVIVORS).expect("as served");
        let survivors = Survivors::from_statement(signed.statement().clone(), n).expect("as served");
        (survivors.root(), survivors.members().clone())
    });
    (core, survivors)
}

/// Who is complained about, by whom, while openings are awaited.
pub fn complainers(phase: &Phase) -> BTreeMap<ClientId, Vec<ClientId>> {
    let Phase::Opening(opening) = phase else { return BTreeMap::new() };
    let roster = phase.assembly().expect("there is one").roster();
    let of = |index: u32| {
        let leaf = veilsum_crypto::ids::LeafIndex(index);
        (roster.client(leaf), opening.complainers(leaf))
    };
    (0..roster.n()).map(of).filter(|(_, holders)| !holders.is_empty()).collect()
}

/// What a scene borrows.
struct Parts<'a> {
    plan: &'a Plan,
    world: &'a World,
    service: &'a Service,
    outbox: &'a BTreeMap<ClientId, Vec<u8>>,
    adverts: &'a BTreeMap<ClientId, Vec<u8>>,
    shares: &'a BTreeMap<ClientId, Vec<u8>>,
    complainers: BTreeMap<ClientId, Vec<ClientId>>,
    sets: (Fixed, Fixed),
    mute: BTreeSet<ClientId>,
}

static NOTHING: BTreeMap<ClientId, Vec<u8>> = BTreeMap::new();

impl<'a> Parts<'a> {
    fn of(plan: &'a Plan, world: &'a World, service: &'a Service, outbox: &'a BTreeMap<ClientId, Vec<u8>>) -> Self {
        let aggregator = &service.aggregator;
        let received = |phase| aggregator.received.get(&phase).unwrap_or(&NOTHING);
        let honest = plan.honest().into_iter().map(id);
        let served = |kind| aggregator.statements.contains_key(&kind).then(|| aggregator.served(world, kind));
        let (core, survivors) = (served(StatementKind::Core), served(StatementKind::Survivors));
        let n = aggregator.phase.assembly().map_or(0, |assembly| assembly.params().n);
        Self {
            plan,
            world,
            service,
            adverts: received(PhaseKind::Advertising),
            shares: received(PhaseKind::Sharing),
            complainers: complainers(&aggregator.phase),
            sets: sets(core.as_deref(), survivors.as_deref(), n),
            mute: honest.filter(|client| !outbox.contains_key(client)).collect(),
            outbox,
        }
    }

    fn scene(&self) -> Scene<'_> {
        let header = &self.world.facts.header;
        let (core, survivors) = &self.sets;
        Scene {
            plan: self.plan,
            header,
            authority: &self.world.authority,
            phase: self.service.phase(),
            stage: self.service.aggregator.phase.assembly().map(|assembly| Stage { header, assembly }),
            outbox: self.outbox,
            adverts: self.adverts,
            shares: self.shares,
            mail: &self.service.aggregator.mail,
            complainers: &self.complainers,
            core: core.as_ref().map(|(root, members)| (*root, members)),
            survivors: survivors.as_ref().map(|(root, members)| (*root, members)),
            mute: &self.mute,
        }
    }
}

/// An authority, an aggregator and clients, all from the seed, that accept the campaign's shapes.
fn world(plan: &Plan) -> World {
    World::seeded_with_policy(plan.params, plan.seed.0, |policy| {
        (policy.corrupt_fraction_min, policy.dropout_tolerance_max) = (0, 999_999);
    })
}

/// An update that is 1 at one coordinate, with a weight where the round has weights.
fn noised(header: &Header, share_variance: u64, client: ClientId, dice: &mut Dice) -> Noised {
    let params = &header.params;
    let weighted = params.weight_max > 0;
    let mut values = vec![0.0; params.vector_len as usize - usize::from(weighted)];
    let at = usize::from(client.0[3]) % values.len();
    values[at] = 1.0;
    let mut update = ModelUpdate::new(values).expect("finite");
    if weighted {
        let weight = dice.within(1, params.weight_max as usize) as f32;
        update = update.with_weight(weight, params.weight_max).expect("in range");
    }
    let sampler = SkellamSampler::new(share_variance).expect("in range");
    let noise = sampler.noise(NoiseSeed::generate(dice), params.vector_len as usize);
    let privacy =
        Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: params.max_squared_norm };
    prepare(update, noise, &privacy, dice).expect("same length")
}
