//! What liars send: for each kind of misbehaviour the messages, with what they are in words.
//!
//! Nothing is delivered here. [`Cast::letters`] gives what one liar sends in the phase that is open, in order; whoever
//! drives the round delivers them, in memory or over HTTP.

use std::collections::{BTreeMap, BTreeSet};

use curve25519_dalek::Scalar;
use veilsum_crypto::ids::{ClientId, Digest, Party};
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::sealed_shares::EDGE_BYTES;
use veilsum_crypto::messages::{Bitmap, Certificate, Edge, EdgeReport, Header, KeyAdvertisement, SealedShares};
use veilsum_crypto::primitives::agreement::{MaskingPublicKey, Point, SelfMaskPublicKey};
use veilsum_crypto::primitives::codec::{Reader, write_prefixed};
use veilsum_crypto::primitives::labels::{self, Label};
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed};
use veilsum_crypto::server::PhaseKind;

use super::kinds::{Kind, PHASES};
use super::letter::{Attached, Content, Letter, Place};
use super::plan::{Lies, Plan};
use super::puppet::{Puppet, Spoil, Stage};
use super::ring::weights;
use crate::dice::Dice;

/// One message to be delivered.
#[derive(Clone, Debug)]
pub struct Out {
    /// The bytes.
    pub body: Vec<u8>,
    /// In words; the address is in it.
    pub letter: Letter,
    /// What is wrong with it.
    pub kind: Option<Kind>,
}

/// What a liar sees of the round in the phase that is open.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// What is to be played.
    pub plan: &'a Plan,
    /// The header.
    pub header: &'a Header,
    /// Signs certificates that do not hold.
    pub authority: &'a IdentitySecretKey,
    /// The phase that is open.
    pub phase: PhaseKind,
    /// Once the roster is fixed.
    pub stage: Option<Stage<'a>>,
    /// What honest clients send in this phase, as far as the network lets a liar see it.
    pub outbox: &'a BTreeMap<ClientId, Vec<u8>>,
    /// Adverts admitted so far.
    pub adverts: &'a BTreeMap<ClientId, Vec<u8>>,
    /// Share messages admitted.
    pub shares: &'a BTreeMap<ClientId, Vec<u8>>,
    /// Mail of the liars.
    pub mail: &'a BTreeMap<ClientId, Vec<Vec<u8>>>,
    /// Who is complained about, by whom.
    pub complainers: &'a BTreeMap<ClientId, Vec<ClientId>>,
    /// Root and members.
    pub core: Option<(Digest, &'a Bitmap)>,
    /// Root and members.
    pub survivors: Option<(Digest, &'a Bitmap)>,
    /// Honest clients that will not answer.
    pub mute: &'a BTreeSet<ClientId>,
}

impl Scene<'_> {
    fn stage(&self) -> Stage<'_> {
        self.stage.expect("the roster is fixed")
    }

    fn is_in(&self, set: Option<(Digest, &Bitmap)>, client: ClientId) -> bool {
        let found = self.stage.and_then(|stage| stage.assembly.find(client).ok());
        found.is_some_and(|(leaf, _)| set.is_some_and(|(_, members)| members.has(leaf)))
    }

    /// The client's neighbours in the core, in its order.
    fn owners(&self, client: ClientId) -> Vec<ClientId> {
        let near = self.stage().neighbours(client).into_iter();
        near.filter(|owner| self.is_in(self.core, *owner)).collect()
    }

    fn dealt(&self, dealer: ClientId) -> Option<SealedShares> {
        SealedShares::decode(self.shares.get(&dealer)?, self.stage().assembly.params().degree).ok()
    }
}

/// One liar in the middle of a round.
pub struct Actor {
    /// Its secrets.
    pub puppet: Puppet,
    /// What it is to do.
    pub lies: Lies,
    dice: Dice,
    /// What it sent as its message of a phase.
    past: BTreeMap<PhaseKind, Vec<u8>>,
    /// Roots of the share statements in its mail, by dealer.
    roots: BTreeMap<ClientId, Digest>,
    /// It advertised a key of somebody else and can deal nothing.
    has_stolen: bool,
    /// Untimely messages that are sent early.
    early: BTreeSet<PhaseKind>,
    /// The second share message, and to whom the network shows it.
    pub shown: Option<(Vec<u8>, ClientId)>,
    /// Shares that it gives instead of true ones.
    given: BTreeMap<ClientId, Scalar>,
}

/// All liars of a round. They work together.
pub struct Cast {
    /// By id.
    pub actors: BTreeMap<ClientId, Actor>,
    /// Nothing comes after a liar's message of a phase but a second one: where that message may close the phase.
    pub speaks_last: bool,
    /// What was played as a part of another message.
    pub silent_deeds: Vec<(Kind, ClientId)>,
}

impl Cast {
    /// Of a plan.
    pub fn new(plan: &Plan, mut puppet: impl FnMut(usize, &mut Dice) -> Puppet) -> Self {
        let actor = |(number, lies): (&usize, &Lies)| {
            let mut dice = plan.seed.dice(&format!("liar {number}"));
            let puppet = puppet(*number, &mut dice);
            let early = PHASES.into_iter().filter(|_| dice.chance(40)).collect();
            let actor = Actor {
                puppet,
                lies: lies.clone(),
                dice,
                past: BTreeMap::new(),
                roots: BTreeMap::new(),
                has_stolen: false,
                early,
                shown: None,
                given: BTreeMap::new(),
            };
            (actor.puppet.client(), actor)
        };
        Self { actors: plan.liars.iter().map(actor).collect(), speaks_last: false, silent_deeds: Vec::new() }
    }

    /// Who they are.
    pub fn clients(&self) -> Vec<ClientId> {
        self.actors.keys().copied().collect()
    }

    /// What one of them sends in the phase that is open.
    pub fn letters(&mut self, scene: &Scene<'_>, me: ClientId) -> Vec<Out> {
        let mut actor = self.actors.remove(&me).expect("one of the cast");
        let mut hand = Hand {
            scene,
            actor: &mut actor,
            others: &self.actors,
            speaks_last: self.speaks_last,
            out: Vec::new(),
            deeds: Vec::new(),
        };
        hand.play();
        let Hand { out, deeds, .. } = hand;
        self.silent_deeds.extend(deeds.into_iter().map(|kind| (kind, me)));
        self.actors.insert(me, actor);
        out
    }

    /// Before answers: what two liars agree on.
    pub fn conspire(&mut self, scene: &Scene<'_>) {
        for me in self.clients() {
            let partner = |client: &ClientId| {
                *client != me
                    && scene.is_in(scene.survivors, *client)
                    && self.actors[client].lies.speaks(PhaseKind::Unmasking)
            };
            let lies = self.actors[&me].lies.clone();
            if !scene.is_in(scene.survivors, me) || !lies.speaks(PhaseKind::Unmasking) {
                continue;
            }
            let Some(partner) = self.clients().into_iter().find(partner) else { continue };
            if lies.has(Kind::SwappedShares) && self.swap(scene, me, partner) {
                self.silent_deeds.push((Kind::SwappedShares, me));
            }
            if lies.has(Kind::CancellingShares) && self.cancel(scene, me, partner) {
                self.silent_deeds.push((Kind::CancellingShares, me));
            }
        }
    }

    /// Each gives the share of the other, for every owner that both are neighbours of.
    fn swap(&mut self, scene: &Scene<'_>, me: ClientId, partner: ClientId) -> bool {
        let theirs = scene.owners(partner);
        let owners: Vec<ClientId> = scene.owners(me).into_iter().filter(|owner| theirs.contains(owner)).collect();
        for owner in &owners {
            let (mine, other) = (self.share(scene, me, *owner), self.share(scene, partner, *owner));
            let (Some(mine), Some(other)) = (mine, other) else { continue };
            self.actors.get_mut(&me).expect("of the cast").given.insert(*owner, other);
            self.actors.get_mut(&partner).expect("of the cast").given.insert(*owner, mine);
        }
        !owners.is_empty()
    }

    /// Both are wrong about one owner, so that the errors cancel if the aggregator takes the shares that it should.
    fn cancel(&mut self, scene: &Scene<'_>, me: ClientId, partner: ClientId) -> bool {
        let stage = scene.stage();
        let threshold = stage.assembly.params().threshold as usize;
        for owner in scene.owners(me) {
            let mut holders = stage.neighbours(owner);
            holders.retain(|holder| scene.is_in(scene.survivors, *holder) && !scene.mute.contains(holder));
            holders.sort();
            holders.truncate(threshold);
            let place = |client| holders.iter().position(|holder| *holder == client);
            let (Some(own), Some(other)) = (place(me), place(partner)) else { continue };
            let leaves: Vec<usize> = holders.iter().map(|holder| stage.leaf(*holder).index()).collect();
            let weights = weights(&leaves, 0);
            let error = Scalar::random(&mut self.actors.get_mut(&me).expect("of the cast").dice);
            let errors = [(me, error), (partner, -(weights[own] * error) * weights[other].invert())];
            let shares = errors.map(|(client, error)| Some((client, self.share(scene, client, owner)? + error)));
            let [Some(mine), Some(theirs)] = shares else { continue };
            for (client, share) in [mine, theirs] {
                self.actors.get_mut(&client).expect("of the cast").given.insert(owner, share);
            }
            return true;
        }
        false
    }

    fn share(&self, scene: &Scene<'_>, holder: ClientId, owner: ClientId) -> Option<Scalar> {
        let pair = true_pair(scene, &self.actors[&holder].puppet, self.actors.get(&owner), owner)?;
        Some(*kind_of_share(scene, owner, &pair).scalar())
    }
}

/// The share pair of an owner that a liar ought to hold: from its mail, or from the owner, if that lies too.
fn true_pair(scene: &Scene<'_>, holder: &Puppet, owner_lies: Option<&Actor>, owner: ClientId) -> Option<SharePair> {
    match owner_lies {
        Some(actor) => Some(actor.puppet.pair(scene.stage().leaf(holder.client()))),
        None => holder.held.get(&owner).cloned(),
    }
}

/// Of a pair the one that the survivors demand.
fn kind_of_share<'p>(scene: &Scene<'_>, owner: ClientId, pair: &'p SharePair) -> &'p ShareScalar {
    if scene.is_in(scene.survivors, owner) { &pair.self_mask } else { &pair.masking }
}

/// One liar writes its letters of one phase.
struct Hand<'h, 's> {
    scene: &'h Scene<'s>,
    actor: &'h mut Actor,
    others: &'h BTreeMap<ClientId, Actor>,
    speaks_last: bool,
    out: Vec<Out>,
    deeds: Vec<Kind>,
}

impl Hand<'_, '_> {
    fn me(&self) -> ClientId {
        self.actor.puppet.client()
    }

    fn has(&self, kind: Kind) -> bool {
        self.actor.lies.has(kind)
    }

    fn push(&mut self, kind: Option<Kind>, body: Vec<u8>, letter: Letter) {
        self.out.push(Out { body, letter, kind });
    }

    fn play(&mut self) {
        let phase = self.scene.phase;
        self.untimely();
        if phase.is_over() {
            return;
        }
        if phase == PhaseKind::Acknowledging {
            let mail = self.scene.mail.get(&self.me()).cloned().unwrap_or_default();
            self.actor.roots = self.actor.puppet.read_mail(&self.scene.stage(), &mail);
        }
        if self.scene.stage.is_some_and(|stage| stage.assembly.find(self.me()).is_err()) {
            return; // its advert was refused; strangers are played elsewhere
        }
        let right = self.right();
        let kinds: Vec<Kind> = self.actor.lies.of(phase).collect();
        // Some attempts come after the right message: then they may be a second statement.
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for kind in kinds {
            let comes_last = self.actor.dice.chance(15) && phase != PhaseKind::Advertising && !self.speaks_last;
            if comes_last { last.push(kind) } else { first.push(kind) }
        }
        for kind in first {
            self.attempt(kind, &right);
        }
        if self.actor.lies.speaks(phase) {
            if let Some((body, content)) = self.own() {
                let letter = Letter::right(self.me(), phase, &body, content);
                self.actor.past.insert(phase, body.clone());
                self.push(None, body, letter);
                self.second();
            }
        } else if self.has(Kind::Silent(phase)) {
            self.deeds.push(Kind::Silent(phase));
        }
        for kind in last {
            self.attempt(kind, &right);
        }
    }

    /// Messages of other phases.
    fn untimely(&mut self) {
        let open = self.scene.phase;
        for phase in PHASES {
            let kind = Kind::Untimely(phase);
            if !self.has(kind) || self.actor.lies.kinds.is_empty() {
                continue;
            }
            let is_early = self.actor.early.contains(&phase) && phase != PhaseKind::Advertising;
            let is_next = |a: PhaseKind, b: PhaseKind| b as u8 == a as u8 + 1;
            let me = self.me();
            if is_early && (is_next(open, phase) || (phase == PhaseKind::Masking && open == PhaseKind::Acknowledging)) {
                let body = self.actor.past.values().next_back().cloned().unwrap_or_else(|| b"too early".to_vec());
                let mut letter = Letter::right(me, phase, &body, Content::Unread);
                letter.is_canonical = false;
                self.push(Some(kind), body, letter);
            }
            let is_late = !is_early && open > phase && !self.out.iter().any(|out| out.kind == Some(kind));
            if is_late && self.actor.lies.kinds.contains(&kind) {
                self.actor.lies.kinds.retain(|other| *other != kind); // once
                self.late(phase);
            }
        }
    }

    /// Something for a phase that has closed: the same again, or another statement.
    fn late(&mut self, phase: PhaseKind) {
        let (me, kind) = (self.me(), Kind::Untimely(phase));
        let Some(body) = self.actor.past.get(&phase).cloned() else {
            let body = b"too late".to_vec();
            let mut letter = Letter::right(me, phase, &body, Content::Unread);
            letter.is_canonical = false;
            self.push(Some(kind), body, letter);
            return;
        };
        if self.actor.dice.chance(40) {
            let letter = Letter::right(me, phase, &body, self.advert_content(&body));
            self.push(Some(kind), body, letter);
            return;
        }
        let is_confirm = phase == PhaseKind::Confirming;
        let other = self.resigned(phase, &body, |statement| match statement.body.last_mut() {
            Some(last) if !is_confirm => *last ^= 1,
            _ => statement.previous.0[0] ^= 1,
        });
        let mut letter = Letter::right(me, phase, &other, self.advert_content(&other));
        if is_confirm {
            letter.place = Place::OtherPrevious;
        }
        self.push(Some(kind), other, letter);
    }

    /// The content of an advert, whatever else the letter is.
    fn advert_content(&self, body: &[u8]) -> Content {
        match KeyAdvertisement::decode(body) {
            Ok(advert) => Content::Advert { keys: advert.claims(), is_certified: true },
            Err(_) => Content::Unread,
        }
    }

    /// A message of this phase as an honest client would send it, also where this one may not: what attempts are made of.
    fn right(&mut self) -> (Vec<u8>, Content) {
        let scene = self.scene;
        let me = self.me();
        match scene.phase {
            PhaseKind::Advertising => {
                let puppet = &self.actor.puppet;
                let body = puppet.advert(scene.header, &puppet.member.certificate, puppet.keys);
                let content = self.advert_content(&body);
                (body, content)
            }
            PhaseKind::Sharing => {
                let stage = scene.stage();
                self.actor.puppet.shuffle(&stage, &mut self.actor.dice);
                let edges = self.actor.puppet.edges(&stage, &BTreeMap::new(), &mut self.actor.dice);
                let is_low_degree = !self.actor.has_stolen;
                let content = Content::Shares { is_in_order: true, is_low_degree, bad: BTreeSet::new() };
                (self.actor.puppet.shares(&stage, edges), content)
            }
            PhaseKind::Acknowledging => self.acknowledgement(&[], false),
            PhaseKind::Opening => {
                let holders = self.complainers();
                let holders = if holders.is_empty() { scene.stage().neighbours(me)[..1].to_vec() } else { holders };
                self.opening(&holders, None)
            }
            PhaseKind::Masking => {
                let (root, members) = scene.core.expect("the core is fixed");
                let values: Vec<i64> =
                    (0..self.len()).map(|_| self.actor.dice.within(0, 2_000) as i64 - 1_000).collect();
                let vector = self.actor.puppet.masked(&scene.stage(), (root, members), &values);
                (self.actor.puppet.upload(&scene.stage(), root, &vector), Content::Upload(values))
            }
            PhaseKind::Confirming => {
                let (root, _) = scene.survivors.expect("they are fixed");
                (self.actor.puppet.confirmation(&scene.stage().chain(), root), Content::Confirmed)
            }
            _ => self.answer(&BTreeMap::new(), &BTreeSet::new()),
        }
    }

    fn len(&self) -> usize {
        self.scene.header.params.vector_len as usize
    }

    fn complainers(&self) -> Vec<ClientId> {
        self.scene.complainers.get(&self.me()).cloned().unwrap_or_default()
    }

    /// What it sends as its message of this phase, bent as it likes; nothing where it has nothing to send.
    fn own(&mut self) -> Option<(Vec<u8>, Content)> {
        let (scene, me) = (self.scene, self.me());
        match scene.phase {
            PhaseKind::Advertising => self.own_advert(),
            PhaseKind::Sharing => Some(self.own_shares()),
            PhaseKind::Acknowledging => scene.shares.contains_key(&me).then(|| self.own_reports()),
            PhaseKind::Opening => {
                let holders = self.complainers();
                if self.has(Kind::NoOpening) && !holders.is_empty() {
                    self.deeds.push(Kind::NoOpening);
                    return None;
                }
                let wrong = self.has(Kind::WrongOpening).then(|| self.actor.dice.pick_some(&holders)).flatten();
                if wrong.is_some() {
                    self.deeds.push(Kind::WrongOpening);
                }
                (!holders.is_empty()).then(|| self.opening(&holders, wrong))
            }
            PhaseKind::Masking => {
                if !scene.is_in(scene.core, me) {
                    return None;
                }
                if !self.has(Kind::Garbage) {
                    return Some(self.right());
                }
                self.deeds.push(Kind::Garbage);
                Some(self.garbage())
            }
            PhaseKind::Confirming => {
                let agrees = scene.stage().assembly.order().agrees(scene.stage().leaf(me));
                (agrees && scene.is_in(scene.survivors, me)).then(|| self.right())
            }
            PhaseKind::Unmasking => scene.is_in(scene.survivors, me).then(|| self.own_answer()),
            PhaseKind::Published | PhaseKind::Abandoned => None,
        }
    }

    /// A second statement after the first.
    fn second(&mut self) {
        let scene = self.scene;
        let (kind, second) = match scene.phase {
            PhaseKind::Advertising => {
                let mut keys = self.actor.puppet.keys;
                keys.nonce = self.actor.dice.bytes();
                let puppet = &self.actor.puppet;
                (Kind::TwoAdverts, puppet.advert(scene.header, &puppet.member.certificate, keys))
            }
            PhaseKind::Sharing if self.has(Kind::TwoSharesShown) => {
                let Some((second, _)) = self.actor.shown.clone() else { return };
                if self.actor.dice.chance(50) {
                    self.deeds.push(Kind::TwoSharesShown); // the aggregator never sees it
                    return;
                }
                (Kind::TwoSharesShown, second)
            }
            PhaseKind::Sharing => {
                let edges = self.actor.puppet.edges(&scene.stage(), &BTreeMap::new(), &mut self.actor.dice);
                let edges = self.with_one_ciphertext_changed(edges);
                (Kind::TwoShares, self.actor.puppet.shares(&scene.stage(), edges))
            }
            PhaseKind::Acknowledging => {
                let first = self.actor.past[&PhaseKind::Acknowledging].clone();
                let other = self.resigned(scene.phase, &first, |statement| {
                    if let Some(last) = statement.body.last_mut() {
                        *last ^= 1;
                    }
                });
                let mut letter = Letter::right(self.me(), scene.phase, &other, self.reports_of(&first));
                if let Content::Reports { is_over_admitted, .. } = &mut letter.content {
                    *is_over_admitted = false;
                }
                if self.has(Kind::TwoAcknowledgements) {
                    self.push(Some(Kind::TwoAcknowledgements), other, letter);
                }
                return;
            }
            PhaseKind::Opening => {
                if self.has(Kind::TwoOpenings) {
                    let holders = self.complainers();
                    let wrong = self.actor.dice.pick_some(&holders);
                    let (body, content) = self.opening(&holders, wrong);
                    let letter = Letter::right(self.me(), scene.phase, &body, content);
                    self.push(Some(Kind::TwoOpenings), body, letter);
                }
                return;
            }
            PhaseKind::Masking => {
                if self.has(Kind::TwoUploads) {
                    let (body, content) = if self.actor.dice.chance(50) { self.garbage() } else { self.right() };
                    let letter = Letter::right(self.me(), scene.phase, &body, content);
                    self.push(Some(Kind::TwoUploads), body, letter);
                }
                return;
            }
            PhaseKind::Confirming => {
                if self.has(Kind::TwoConfirmations) {
                    self.confirm_another(Kind::TwoConfirmations);
                }
                return;
            }
            _ => {
                if self.has(Kind::TwoAnswers) {
                    let owners = scene.owners(self.me());
                    let wrong = self.actor.dice.some(&owners, 1);
                    let given: BTreeMap<_, _> =
                        wrong.into_iter().map(|owner| (owner, Scalar::random(&mut self.actor.dice))).collect();
                    let (body, content) = self.answer(&given, &BTreeSet::new());
                    let letter = Letter::right(self.me(), scene.phase, &body, content);
                    self.push(Some(Kind::TwoAnswers), body, letter);
                }
                return;
            }
        };
        if !self.has(kind) {
            return;
        }
        let content = match scene.phase {
            PhaseKind::Advertising => self.advert_content(&second),
            _ => Content::Shares { is_in_order: true, is_low_degree: !self.actor.has_stolen, bad: BTreeSet::new() },
        };
        let letter = Letter::right(self.me(), scene.phase, &second, content);
        self.push(Some(kind), second, letter);
    }

    fn with_one_ciphertext_changed(&mut self, mut edges: Vec<Edge>) -> Vec<Edge> {
        let at = self.actor.dice.index(edges.len());
        edges[at].sealed[0] ^= 1;
        edges
    }
}

/// Advertise and share.
impl Hand<'_, '_> {
    fn own_advert(&mut self) -> Option<(Vec<u8>, Content)> {
        let scene = self.scene;
        let mut keys = self.actor.puppet.keys;
        if self.has(Kind::StolenKey) {
            // Of somebody whose advert is on its way and has not arrived.
            let waiting: Vec<&Vec<u8>> = scene
                .outbox
                .iter()
                .filter(|(client, _)| !scene.adverts.contains_key(*client))
                .map(|(_, body)| body)
                .collect();
            if let Some(victim) = self.actor.dice.pick_some(&waiting) {
                keys.masking = KeyAdvertisement::decode(victim).expect("honest").keys().masking;
                self.actor.has_stolen = true;
                self.deeds.push(Kind::StolenKey);
            }
        }
        self.actor.puppet.keys = keys;
        let puppet = &self.actor.puppet;
        let body = puppet.advert(scene.header, &puppet.member.certificate, keys);
        let content = self.advert_content(&body);
        Some((body, content))
    }

    fn own_shares(&mut self) -> (Vec<u8>, Content) {
        let stage = self.scene.stage();
        let near = stage.neighbours(self.me());
        if self.has(Kind::TwoSharesShown) {
            // Consistent in itself, over other polynomials; the first message has the last word.
            let honest: Vec<ClientId> = near.iter().copied().filter(|holder| self.is_here(*holder)).collect();
            if let Some(victim) = self.actor.dice.pick_some(&honest) {
                self.actor.puppet.shuffle(&stage, &mut self.actor.dice);
                let edges = self.actor.puppet.edges(&stage, &BTreeMap::new(), &mut self.actor.dice);
                self.actor.shown = Some((self.actor.puppet.shares(&stage, edges), victim));
            }
        }
        self.actor.puppet.shuffle(&stage, &mut self.actor.dice);
        let mut spoilt = BTreeMap::new();
        if self.has(Kind::BadEdges) {
            let openings_max = stage.assembly.params().openings_max() as usize;
            let many = self.actor.dice.chance(15);
            let most = if many { near.len() } else { openings_max.clamp(1, near.len()) };
            let count = self.actor.dice.within(1, most);
            let mut holders: Vec<ClientId> = near.iter().copied().filter(|holder| self.is_here(*holder)).collect();
            self.actor.dice.shuffle(&mut holders);
            // Sometimes an edge to another liar is spoilt too, which hides it.
            holders.truncate(count);
            let liars: Vec<ClientId> = near.iter().copied().filter(|holder| self.others.contains_key(holder)).collect();
            holders.extend(self.actor.dice.pick_some(&liars).filter(|_| self.actor.dice.chance(50)));
            for holder in holders {
                spoilt.insert(holder, *self.actor.dice.pick(&Spoil::ALL));
            }
            if !spoilt.is_empty() {
                self.deeds.push(Kind::BadEdges);
            }
        }
        let edges = self.actor.puppet.edges(&stage, &spoilt, &mut self.actor.dice);
        let content = Content::Shares {
            is_in_order: true,
            is_low_degree: !self.actor.has_stolen,
            bad: spoilt.into_keys().collect(),
        };
        (self.actor.puppet.shares(&stage, edges), content)
    }

    /// Honest, and not to be lost before it reports.
    fn is_here(&self, client: ClientId) -> bool {
        let number = number_of(client);
        !self.others.contains_key(&client)
            && client != self.me()
            && self.scene.plan.lost.get(&number).is_none_or(|from| *from > PhaseKind::Acknowledging)
    }
}

/// Acknowledge and open.
impl Hand<'_, '_> {
    /// Reports "good" on all mail, but for these dealers; also in words.
    fn acknowledgement(&mut self, bent: &[(ClientId, EdgeReport)], digest_is_wrong: bool) -> (Vec<u8>, Content) {
        let (scene, me) = (self.scene, self.me());
        let stage = scene.stage();
        let (mut reports, mut roots) = (Vec::new(), Vec::new());
        let (mut missing, mut complaints) = (BTreeSet::new(), BTreeMap::new());
        for dealer in stage.neighbours(me) {
            let root = self.actor.roots.get(&dealer);
            let usual = if root.is_some() { EdgeReport::Good } else { EdgeReport::Missing };
            let report = bent.iter().find(|(about, _)| *about == dealer).map_or(usual, |(_, report)| *report);
            match report {
                EdgeReport::Missing => {
                    missing.insert(dealer);
                }
                EdgeReport::Good => {}
                EdgeReport::Complaint { edge } => {
                    let admitted = scene.dealt(dealer).and_then(|dealt| Some(dealt.edge_to(stage.leaf(me))?.hash()));
                    complaints.insert(dealer, admitted == Some(edge));
                }
            }
            if report != EdgeReport::Missing {
                roots.extend(root.copied());
            }
            reports.push(report);
        }
        if digest_is_wrong {
            match self.actor.dice.index(3) {
                0 if roots.len() > 1 => roots.reverse(),
                1 if !roots.is_empty() => {
                    roots.pop();
                }
                _ => roots.push(Digest(self.actor.dice.bytes())),
            }
        }
        let body = self.actor.puppet.acknowledgement(&stage, reports, &roots);
        (body, Content::Reports { missing, complaints, is_over_admitted: !digest_is_wrong })
    }

    /// The content of its own acknowledgement that it sent.
    fn reports_of(&self, body: &[u8]) -> Content {
        self.out
            .iter()
            .rev()
            .find(|out| out.kind.is_none() && out.body == body)
            .map_or(Content::Unread, |out| out.letter.content.clone())
    }

    fn complaint(&self, dealer: ClientId) -> Option<EdgeReport> {
        let leaf = self.scene.stage().leaf(self.me());
        let edge = self.scene.dealt(dealer)?.edge_to(leaf)?.hash();
        Some(EdgeReport::Complaint { edge })
    }

    fn own_reports(&mut self) -> (Vec<u8>, Content) {
        let scene = self.scene;
        let near = scene.stage().neighbours(self.me());
        let served: Vec<ClientId> =
            near.iter().copied().filter(|dealer| self.actor.roots.contains_key(dealer)).collect();
        let (lying, honest): (Vec<ClientId>, Vec<ClientId>) =
            served.iter().partition(|dealer| self.others.contains_key(dealer));
        let openings_max = scene.stage().assembly.params().openings_max() as usize;
        let mut bent: Vec<(ClientId, EdgeReport)> = Vec::new();
        if self.has(Kind::FalseComplaint) {
            let count = self.actor.dice.within(1, openings_max.max(1));
            for dealer in self.actor.dice.some(&honest, count) {
                bent.extend(self.complaint(dealer).map(|report| (dealer, report)));
            }
            if !bent.is_empty() {
                self.deeds.push(Kind::FalseComplaint);
            }
        }
        if self.has(Kind::ComplaintAmongLiars)
            && bent.len() < openings_max
            && let Some(dealer) = self.actor.dice.pick_some(&lying)
        {
            bent.extend(self.complaint(dealer).map(|report| (dealer, report)));
            self.deeds.push(Kind::ComplaintAmongLiars);
        }
        if self.has(Kind::ComplaintAstray)
            && bent.len() < openings_max
            && let Some(dealer) = self.actor.dice.pick_some(&served)
        {
            bent.retain(|(about, _)| *about != dealer);
            bent.push((dealer, EdgeReport::Complaint { edge: Digest(self.actor.dice.bytes()) }));
            self.deeds.push(Kind::ComplaintAstray);
        }
        if self.has(Kind::AllMissing) {
            bent = served.iter().map(|dealer| (*dealer, EdgeReport::Missing)).collect();
            self.deeds.push(Kind::AllMissing);
        } else if self.has(Kind::SomeMissing) && !served.is_empty() {
            let count = self.actor.dice.within(1, served.len());
            for dealer in self.actor.dice.some(&served, count) {
                bent.retain(|(about, _)| *about != dealer);
                bent.push((dealer, EdgeReport::Missing));
            }
            self.deeds.push(Kind::SomeMissing);
        }
        let digest_is_wrong = self.has(Kind::WrongDigest);
        if digest_is_wrong {
            self.deeds.push(Kind::WrongDigest);
        }
        self.acknowledgement(&bent, digest_is_wrong)
    }

    /// Opens for these holders, one of them wrongly.
    fn opening(&mut self, holders: &[ClientId], wrong: Option<ClientId>) -> (Vec<u8>, Content) {
        let stage = self.scene.stage();
        let mut edges = BTreeMap::new();
        for holder in holders {
            let mut pair = self.actor.puppet.pair(stage.leaf(*holder));
            if wrong == Some(*holder) {
                let random = ShareScalar::from_scalar(Scalar::random(&mut self.actor.dice));
                pair = match self.actor.dice.index(3) {
                    0 => SharePair { masking: random, ..pair },
                    1 => SharePair { self_mask: random, ..pair },
                    _ => SharePair { masking: pair.self_mask.clone(), self_mask: pair.masking.clone() },
                };
            }
            edges.insert(stage.leaf(*holder), pair);
        }
        let body = self.actor.puppet.opening(&stage, edges);
        (body, Content::Openings { holders: holders.iter().copied().collect(), is_right: wrong.is_none() })
    }
}

/// Mask, confirm and unmask.
impl Hand<'_, '_> {
    /// Any vector, and what it stands for once the masks that it ought to have are gone.
    fn garbage(&mut self) -> (Vec<u8>, Content) {
        let (scene, len) = (self.scene, self.len());
        let core = scene.core.expect("the core is fixed");
        let bits = scene.header.params.ring_bits;
        let random: Vec<i64> =
            (0..len).map(|_| i64::from_le_bytes(self.actor.dice.bytes()[..8].try_into().expect("8 of 32"))).collect();
        let vector = veilsum_crypto::math::ring::RingVector::from_signed(&random, bits);
        let masks = self.actor.puppet.masked(&scene.stage(), core, &vec![0; len]);
        let mut plain = vector.clone();
        plain.sub_assign(&masks).expect("one ring");
        (self.actor.puppet.upload(&scene.stage(), core.0, &vector), Content::Upload(plain.to_signed()))
    }

    fn confirm_another(&mut self, kind: Kind) {
        let other = Digest(self.actor.dice.bytes());
        let body = self.actor.puppet.confirmation(&self.scene.stage().chain(), other);
        let mut letter = Letter::right(self.me(), PhaseKind::Confirming, &body, Content::Confirmed);
        letter.place = Place::OtherPrevious;
        self.push(Some(kind), body, letter);
    }

    fn own_answer(&mut self) -> (Vec<u8>, Content) {
        let scene = self.scene;
        let owners = scene.owners(self.me());
        let mut given = self.actor.given.clone();
        let mut missing = BTreeSet::new();
        if self.has(Kind::WrongShares) && !owners.is_empty() {
            let count = self.actor.dice.within(1, owners.len());
            for owner in self.actor.dice.some(&owners, count) {
                given.insert(owner, Scalar::random(&mut self.actor.dice));
            }
            self.deeds.push(Kind::WrongShares);
        }
        if self.has(Kind::WrongKind) && !owners.is_empty() {
            let count = self.actor.dice.within(1, owners.len());
            for owner in self.actor.dice.some(&owners, count) {
                let Some(pair) = self.pair_of(owner) else { continue };
                let other = if scene.is_in(scene.survivors, owner) { pair.masking } else { pair.self_mask };
                given.insert(owner, *other.scalar());
            }
            self.deeds.push(Kind::WrongKind);
        }
        if self.has(Kind::NoShares) {
            missing.extend(owners.iter().copied());
            self.deeds.push(Kind::NoShares);
        } else if self.has(Kind::SomeShares) && !owners.is_empty() {
            let count = self.actor.dice.within(1, owners.len());
            missing.extend(self.actor.dice.some(&owners, count));
            self.deeds.push(Kind::SomeShares);
        }
        self.answer(&given, &missing)
    }

    fn pair_of(&self, owner: ClientId) -> Option<SharePair> {
        true_pair(self.scene, &self.actor.puppet, self.others.get(&owner), owner)
    }

    /// True shares, but for these.
    fn answer(&mut self, given: &BTreeMap<ClientId, Scalar>, missing: &BTreeSet<ClientId>) -> (Vec<u8>, Content) {
        let scene = self.scene;
        let (mut shares, mut errors, mut absent) = (Vec::new(), BTreeMap::new(), missing.clone());
        for owner in scene.owners(self.me()) {
            let truth = self.pair_of(owner).map(|pair| *kind_of_share(scene, owner, &pair).scalar());
            let Some(truth) = truth.filter(|_| !missing.contains(&owner)) else {
                absent.insert(owner);
                shares.push(None);
                continue;
            };
            let share = given.get(&owner).copied().unwrap_or(truth);
            if share != truth {
                errors.insert(owner, share - truth);
            }
            shares.push(Some(ShareScalar::from_scalar(share)));
        }
        let (root, _) = scene.survivors.expect("they are fixed");
        let body = self.actor.puppet.answer(&scene.stage().chain(), root, shares);
        (body, Content::Shared { errors, missing: absent })
    }
}

/// Messages that are refused.
impl Hand<'_, '_> {
    fn attempt(&mut self, kind: Kind, right: &(Vec<u8>, Content)) {
        let (scene, me, phase) = (self.scene, self.me(), self.scene.phase);
        let (body, content) = right;
        let own = |body: &[u8]| Letter::right(me, phase, body, content.clone());
        match kind {
            Kind::Malformed(_) => self.malformed(right),
            Kind::Forged(_) => {
                let forged = if self.actor.dice.chance(50) {
                    broken_signature(phase, body, &mut self.actor.dice)
                } else {
                    let stranger = IdentitySecretKey::generate(&mut self.actor.dice);
                    resigned(phase, body, &stranger, |_| {})
                };
                let letter = Letter { is_signed: false, ..own(&forged) };
                self.push(Some(kind), forged, letter);
            }
            Kind::Misplaced(_) => {
                let place = *self.actor.dice.pick(&[Place::OtherRound, Place::OtherPrevious, Place::OtherReceiver]);
                let byte = self.actor.dice.index(16);
                let other = self.resigned(phase, body, |statement| match place {
                    Place::OtherRound => statement.context.0[byte] ^= 1,
                    Place::OtherPrevious => statement.previous.0[byte] ^= 1,
                    _ => statement.receiver.0[byte] ^= 1,
                });
                let letter = Letter { place, ..own(&other) };
                self.push(Some(kind), other, letter);
            }
            Kind::Imposed(_) => self.imposed(right),
            Kind::Stolen(_) => {
                let seen: Vec<ClientId> = scene.outbox.keys().copied().collect();
                if let Some(from) = self.actor.dice.pick_some(&seen) {
                    let stolen = scene.outbox[&from].clone();
                    let content = self.advert_content(&stolen);
                    let mut letter = Letter { is_senders: false, ..Letter::right(me, phase, &stolen, content) };
                    letter.is_canonical = self.fits(from, me);
                    self.push(Some(kind), stolen, letter);
                }
            }
            Kind::RepeatedKey | Kind::CopiedKey | Kind::BadCertificate => self.bad_advert(kind),
            Kind::OffPolynomial | Kind::EdgesAstray | Kind::EdgesUnsigned => self.bad_shares(kind),
            Kind::TooManyComplaints | Kind::ComplaintOfNothing | Kind::GoodOfNothing => self.bad_reports(kind),
            Kind::OpeningAstray | Kind::OpeningUncalled => self.bad_opening(kind),
            Kind::UploadUnsigned => {
                let mut altered = body.clone();
                altered[UPLOAD_BYTES] ^= 1; // the first of the vector, never a spare bit
                let letter = Letter { attached: Attached::Other, ..own(&altered) };
                self.push(Some(kind), altered, letter);
            }
            Kind::UploadUncalled if !scene.is_in(scene.core, me) => self.push(Some(kind), body.clone(), own(body)),
            Kind::ConfirmAstray => self.confirm_another(kind),
            Kind::ConfirmUncalled => {
                let agrees = scene.stage().assembly.order().agrees(scene.stage().leaf(me));
                if !agrees || !scene.is_in(scene.survivors, me) {
                    self.push(Some(kind), body.clone(), own(body));
                }
            }
            Kind::AnswerUncalled if !scene.is_in(scene.survivors, me) => self.push(Some(kind), body.clone(), own(body)),
            _ => {} // a part of its own message, or a second one
        }
    }

    fn resigned(
        &self,
        phase: PhaseKind,
        body: &[u8],
        alter: impl FnOnce(&mut veilsum_crypto::primitives::signature::Statement),
    ) -> Vec<u8> {
        resigned(phase, body, self.actor.puppet.identity(), alter)
    }

    /// Bytes that are no message of this phase: cut, lengthened, of another kind, or signed with a body that is out of form.
    fn malformed(&mut self, right: &(Vec<u8>, Content)) {
        let (phase, kind) = (self.scene.phase, Kind::Malformed(self.scene.phase));
        let (body, content) = right;
        let dice = &mut self.actor.dice;
        let mut is_canonical = false;
        let mut attached = Attached::AsSigned;
        let bad = match dice.index(7) {
            0 => Vec::new(),
            1 => body[..dice.index(100)].to_vec(), // in the statement
            2 => (0..body.len()).map(|_| dice.bytes()[0]).collect(),
            3 => {
                let other = self.actor.past.iter().find(|(of, _)| **of != phase).map(|(_, body)| body.clone());
                other.unwrap_or_else(|| b"of another kind".to_vec())
            }
            4 if matches!(phase, PhaseKind::Sharing | PhaseKind::Masking) => {
                // The statement is in form; what follows it is too short or too long.
                (is_canonical, attached) = (true, Attached::NotCanonical);
                let cut = body[..body.len() - 1 - dice.index(8)].to_vec();
                if dice.chance(50) { cut } else { [&body[..], &[0]].concat() }
            }
            4 => [&body[..], &[0]].concat(),
            5 if phase == PhaseKind::Sharing => {
                // A point that is none.
                (is_canonical, attached) = (true, Attached::NotCanonical);
                let mut bad = body.clone();
                let at = bad.len() - 32;
                bad[at..].fill(0);
                bad
            }
            _ => self.resigned(phase, body, |statement| spoil_body(phase, &mut statement.body)),
        };
        let mut letter = Letter::right(self.me(), phase, &bad, content.clone());
        (letter.is_canonical, letter.attached) = (is_canonical, attached);
        self.push(Some(kind), bad, letter);
    }

    /// Under an honest client's address.
    fn imposed(&mut self, right: &(Vec<u8>, Content)) {
        let (scene, phase) = (self.scene, self.scene.phase);
        let (body, content) = right;
        let mut honest: Vec<ClientId> =
            scene.plan.honest().into_iter().map(|number| veilsum_crypto::testing::client_id(number as u32)).collect();
        if let Some(stage) = scene.stage {
            honest.retain(|client| stage.assembly.find(*client).is_ok());
        }
        let Some(victim) = self.actor.dice.pick_some(&honest) else { return };
        let kind = Some(Kind::Imposed(phase));
        if self.actor.dice.chance(50) {
            let mut letter = Letter { is_senders: false, ..Letter::right(victim, phase, body, content.clone()) };
            letter.is_canonical = self.fits(self.me(), victim);
            self.push(kind, body.clone(), letter);
            return;
        }
        // The honest client is named as sender, and the liar signs.
        let certificate = match (phase, scene.adverts.get(&victim).or_else(|| scene.outbox.get(&victim))) {
            (PhaseKind::Advertising, Some(leaf)) => {
                Some(KeyAdvertisement::decode(leaf).expect("honest").certificate().clone())
            }
            (PhaseKind::Advertising, None) => return,
            _ => None,
        };
        let mut forged = self.resigned(phase, body, |statement| statement.sender = Party::from(victim));
        if let Some(certificate) = certificate {
            forged = with_certificate(&certificate, &forged);
        }
        let content = match phase {
            PhaseKind::Advertising => self.advert_content(&forged),
            _ => content.clone(),
        };
        let mut letter = Letter { is_signed: false, ..Letter::right(victim, phase, &forged, content) };
        letter.is_canonical = self.fits(self.me(), victim);
        self.push(kind, forged, letter);
    }

    /// Whether a message of one has the form of one of another: answers have as many entries as their sender has owners.
    fn fits(&self, of: ClientId, under: ClientId) -> bool {
        self.scene.phase != PhaseKind::Unmasking || self.scene.owners(of).len() == self.scene.owners(under).len()
    }

    fn bad_advert(&mut self, kind: Kind) {
        let (scene, me) = (self.scene, self.me());
        let mut keys = self.actor.puppet.keys;
        let mut certificate = self.actor.puppet.member.certificate.clone();
        let mut is_certified = true;
        match kind {
            Kind::RepeatedKey => keys.self_mask = SelfMaskPublicKey(keys.masking.0),
            Kind::CopiedKey => {
                let admitted: Vec<&Vec<u8>> =
                    scene.adverts.iter().filter(|(of, _)| **of != me).map(|(_, leaf)| leaf).collect();
                let Some(leaf) = self.actor.dice.pick_some(&admitted) else { return };
                let theirs = *KeyAdvertisement::decode(leaf).expect("admitted").keys();
                match self.actor.dice.index(3) {
                    0 => keys.masking = theirs.masking,
                    1 => keys.channel = theirs.channel,
                    _ => keys.masking = MaskingPublicKey(theirs.self_mask.0), // for another purpose
                }
            }
            _ => {
                is_certified = false;
                let body = *certificate.body();
                let at = scene.header.opened_at;
                certificate = match self.actor.dice.index(3) {
                    0 => Certificate::issue(body, &IdentitySecretKey::generate(&mut self.actor.dice)),
                    1 => Certificate::issue(CertificateBody { not_after: at, ..body }, scene.authority),
                    _ => Certificate::issue(CertificateBody { not_before: at.plus_ms(1), ..body }, scene.authority),
                };
            }
        }
        let leaf = self.actor.puppet.advert(scene.header, &certificate, keys);
        let claims = KeyAdvertisement::decode(&leaf).expect("in form").claims();
        let letter = Letter::right(me, scene.phase, &leaf, Content::Advert { keys: claims, is_certified });
        self.push(Some(kind), leaf, letter);
    }

    fn bad_shares(&mut self, kind: Kind) {
        let (stage, me) = (self.scene.stage(), self.me());
        if self.actor.has_stolen {
            return;
        }
        // Over the polynomials that it has: what it dealt before must stay what it holds.
        let mut edges = self.actor.puppet.edges(&stage, &BTreeMap::new(), &mut self.actor.dice);
        let at = self.actor.dice.index(edges.len());
        let (mut is_in_order, mut is_low_degree) = (true, true);
        match kind {
            Kind::OffPolynomial => {
                is_low_degree = false;
                let point = Point::of(&ShareScalar::from_scalar(Scalar::random(&mut self.actor.dice)));
                match self.actor.dice.index(3) {
                    0 => edges[at].masking_point = point,
                    1 => edges[at].self_mask_point = point,
                    // Polynomials of another secret altogether.
                    _ => edges
                        .iter_mut()
                        .for_each(|edge| std::mem::swap(&mut edge.masking_point, &mut edge.self_mask_point)),
                }
            }
            Kind::EdgesAstray => {
                is_in_order = false;
                let other = (at + 1) % edges.len();
                if self.actor.dice.chance(50) { edges.swap(at, other) } else { edges[at] = edges[other].clone() }
            }
            _ => {}
        }
        let mut body = self.actor.puppet.shares(&stage, edges);
        let content = Content::Shares { is_in_order, is_low_degree, bad: BTreeSet::new() };
        let mut letter = Letter::right(me, PhaseKind::Sharing, &body, content.clone());
        if kind == Kind::EdgesUnsigned {
            alter_edges(&mut body, &mut self.actor.dice);
            letter = Letter { attached: Attached::Other, ..Letter::right(me, PhaseKind::Sharing, &body, content) };
        }
        self.push(Some(kind), body, letter);
    }

    fn bad_reports(&mut self, kind: Kind) {
        let scene = self.scene;
        let stage = scene.stage();
        let near = stage.neighbours(self.me());
        let any = |dice: &mut Dice| EdgeReport::Complaint { edge: Digest(dice.bytes()) };
        let bent: Vec<(ClientId, EdgeReport)> = if kind == Kind::TooManyComplaints {
            let least = stage.assembly.params().openings_max() as usize + 1;
            let count = self.actor.dice.within(least, near.len());
            let about = self.actor.dice.some(&near, count);
            about
                .into_iter()
                .map(|dealer| (dealer, self.complaint(dealer).unwrap_or_else(|| any(&mut self.actor.dice))))
                .collect()
        } else {
            let absent: Vec<ClientId> = near.into_iter().filter(|dealer| !scene.shares.contains_key(dealer)).collect();
            let Some(about) = self.actor.dice.pick_some(&absent) else { return };
            let report = if kind == Kind::GoodOfNothing { EdgeReport::Good } else { any(&mut self.actor.dice) };
            vec![(about, report)]
        };
        let (body, content) = self.acknowledgement(&bent, false);
        let letter = Letter::right(self.me(), scene.phase, &body, content);
        self.push(Some(kind), body, letter);
    }

    fn bad_opening(&mut self, kind: Kind) {
        let near = self.scene.stage().neighbours(self.me());
        let mut holders = self.complainers();
        let others: Vec<ClientId> = near.into_iter().filter(|holder| !holders.contains(holder)).collect();
        match kind {
            Kind::OpeningUncalled if !holders.is_empty() => return,
            Kind::OpeningAstray if holders.is_empty() => return,
            Kind::OpeningAstray if holders.len() > 1 && self.actor.dice.chance(40) => {
                holders.pop();
            }
            Kind::OpeningAstray if self.actor.dice.chance(50) => {
                holders.pop();
                holders.extend(self.actor.dice.pick_some(&others));
            }
            _ => holders.extend(self.actor.dice.pick_some(&others)),
        }
        if holders.is_empty() {
            return;
        }
        let (body, content) = self.opening(&holders, None);
        let letter = Letter::right(self.me(), PhaseKind::Opening, &body, content);
        self.push(Some(kind), body, letter);
    }
}

/// A signed upload without its vector, docs/wire.md §6.5.
const UPLOAD_BYTES: usize = 223;

/// The number of a client, from its id.
pub fn number_of(client: ClientId) -> usize {
    u32::from_be_bytes(client.0[..4].try_into().expect("4 of 16")) as usize
}

fn label_of(phase: PhaseKind) -> Label {
    match phase {
        PhaseKind::Advertising => labels::ADVERT,
        PhaseKind::Sharing => labels::SHARE,
        PhaseKind::Acknowledging => labels::ACKNOWLEDGEMENT,
        PhaseKind::Opening => labels::OPENING,
        PhaseKind::Masking => labels::UPLOAD,
        PhaseKind::Confirming => labels::CONFIRM,
        _ => labels::ANSWER,
    }
}

/// The parts of a message: what stands before its signed statement, the statement, and what follows the signature.
fn parts(phase: PhaseKind, body: &[u8]) -> (Vec<u8>, Signed, Vec<u8>) {
    if phase == PhaseKind::Advertising {
        let mut reader = Reader::new(body);
        let certificate = reader.prefixed("certificate").expect("in form");
        let advert = reader.prefixed("advert").expect("in form");
        return (certificate.to_vec(), Signed::decode(advert, labels::ADVERT).expect("in form"), Vec::new());
    }
    let mut reader = Reader::new(body);
    let signed = Signed::read(&mut reader, label_of(phase)).expect("in form");
    (Vec::new(), signed, reader.rest().to_vec())
}

fn joined(phase: PhaseKind, before: &[u8], signed: &[u8], after: &[u8]) -> Vec<u8> {
    if phase == PhaseKind::Advertising {
        let mut leaf = Vec::new();
        write_prefixed(&mut leaf, before);
        write_prefixed(&mut leaf, signed);
        return leaf;
    }
    [signed, after].concat()
}

/// The message with its statement altered and signed again.
fn resigned(
    phase: PhaseKind,
    body: &[u8],
    key: &IdentitySecretKey,
    alter: impl FnOnce(&mut veilsum_crypto::primitives::signature::Statement),
) -> Vec<u8> {
    let (before, signed, after) = parts(phase, body);
    let mut statement = signed.statement().clone();
    alter(&mut statement);
    joined(phase, &before, &statement.sign(key).encode(), &after)
}

fn with_certificate(certificate: &Certificate, leaf: &[u8]) -> Vec<u8> {
    let (_, advert, _) = parts(PhaseKind::Advertising, leaf);
    joined(PhaseKind::Advertising, &certificate.encode(), &advert.encode(), &[])
}

/// The message with one bit of its signature turned.
pub fn broken_signature(phase: PhaseKind, body: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (before, signed, after) = parts(phase, body);
    let mut bytes = signed.encode();
    let at = bytes.len() - 1 - dice.index(64);
    bytes[at] ^= 1 << dice.index(8);
    joined(phase, &before, &bytes, &after)
}

/// Other edges behind the same signature: a ciphertext changed, or two edges in each other's place.
pub fn alter_edges(body: &mut [u8], dice: &mut Dice) {
    let edges = body.len() - 214;
    let count = edges / EDGE_BYTES;
    let at = dice.index(count);
    let start = |edge: usize| 214 + edge * EDGE_BYTES;
    if dice.chance(50) && count > 1 {
        let other = (at + 1) % count;
        let (a, b) = (start(at.min(other)), start(at.max(other)));
        let (left, right) = body.split_at_mut(b);
        left[a..a + EDGE_BYTES].swap_with_slice(&mut right[..EDGE_BYTES]);
    } else {
        body[start(at) + 4 + dice.index(80)] ^= 1;
    }
}

/// A body that no honest encoder writes.
fn spoil_body(phase: PhaseKind, body: &mut Vec<u8>) {
    match phase {
        PhaseKind::Advertising => body[..32].fill(0), // the identity point
        PhaseKind::Acknowledging => body[0] = 3,
        PhaseKind::Opening => body[..2].fill(0), // nothing opened
        PhaseKind::Unmasking if !body.is_empty() => body[0] = 2,
        _ => body.push(0),
    }
}
