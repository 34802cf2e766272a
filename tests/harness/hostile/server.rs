//! A server that lies: it holds the aggregator's keys and those of every client but its victims, forges any statement, and
//! answers any request with anything. Its victims are real `Participant`s, over HTTP.
//!
//! Left alone it is honest: the victims' messages go to `veilsum_crypto::server`, the other clients are played by
//! `veilsum_crypto::testing`, and each phase closes when all have spoken. A lie is one deviation from that: a function that
//! may answer a request before the honest server does. A server that is `deaf` hears its victims and does nothing of itself:
//! everything they read is the lie's to make.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use veilsum_client::transport::Reply;
use veilsum_crypto::client::*;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::messages::{
    Bitmap, Confirmation, CoreSet, Header, RevocationList, Roster, SealedShares, Survivors,
};
use veilsum_crypto::params::{RosterParams, RoundParams};
use veilsum_crypto::primitives::codec::write_prefixed;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed, Statement};
use veilsum_crypto::server::{Assembly, Phase, PhaseKind, RoundFacts, StatementKind};
use veilsum_crypto::testing::{NOON, Play, TASK, World, now, os_rng, small_params};

use super::front::Asked;
use crate::world::sha256;

/// What clients train from.
pub const MODEL: &[u8] = b"a model";

/// What is served in place of the honest answer; `None`: the honest one.
pub type Lie = Box<dyn FnMut(&mut Server, &Asked) -> Option<Reply> + Send>;

/// A message of a victim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// Whose.
    pub client: ClientId,
    /// As in addresses.
    pub phase: String,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// An aggregator with all clients but its victims. It moves on as these speak.
pub struct Server {
    /// The round, as it is without lies.
    pub play: Play,
    /// Numbers of the real clients.
    pub victims: Vec<usize>,
    /// Everything that victims sent, in order, repetitions included.
    pub said: Vec<Said>,
    /// Nothing that victims say goes to the honest server.
    pub is_deaf: bool,
    rosters: BTreeMap<ClientId, AwaitingRoster>,
    mails: BTreeMap<ClientId, AwaitingMail>,
    ready: BTreeMap<ClientId, ReadyToMask>,
    uploaded: BTreeMap<ClientId, AwaitingSurvivors>,
    confirmed: BTreeMap<ClientId, ReadyToUnmask>,
    revoked: Vec<ClientId>,
    lie: Option<Lie>,
}

impl Server {
    /// In this world, with client 0 as its victim. The header names the model that is served.
    pub fn new(world: World) -> Self {
        let world = with_header(world, |header| header.model_hash = sha256(MODEL));
        Self {
            play: Play::of(world),
            victims: vec![0],
            said: Vec::new(),
            is_deaf: false,
            rosters: BTreeMap::new(),
            mails: BTreeMap::new(),
            ready: BTreeMap::new(),
            uploaded: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            revoked: Vec::new(),
            lie: None,
        }
    }

    /// With these parameters.
    pub fn with(params: RoundParams) -> Self {
        Self::new(World::new(params))
    }

    /// Six clients and eight coordinates: c = 1, T = 1, a complete graph.
    pub fn six() -> Self {
        Self::with(small_params(6, 8))
    }

    /// Twelve clients and eight coordinates: c = 1, T = 3, k = 8, t = 5.
    pub fn twelve() -> Self {
        Self::with(small_params(12, 8))
    }

    /// The same with another header.
    pub fn heading(mut self, change: impl FnOnce(&mut Header)) -> Self {
        self.play.world = with_header(self.play.world, change);
        self
    }

    /// The same under a list by which the authority revokes these clients; they do not advertise.
    pub fn revoking(mut self, number: u64, revoked: &[ClientId]) -> Self {
        let until = NOON; // every certificate of this world began before
        let entries = revoked.iter().map(|client| (*client, until)).collect();
        let list = RevocationList::issue(number, entries, &self.play.world.authority);
        let mut header = self.play.world.facts.header.clone();
        (header.revocation_number, header.revocation_digest) = (list.number(), list.digest());
        self.play.world.facts = RoundFacts::new(header, list);
        self.revoked = revoked.to_vec();
        self
    }

    /// The same, lying so.
    pub fn telling(mut self, lie: impl FnMut(&mut Server, &Asked) -> Option<Reply> + Send + 'static) -> Self {
        self.lie = Some(Box::new(lie));
        self
    }

    /// The same, with this in place of one resource of a round, whoever reads it.
    pub fn with_instead(self, what: &'static str, lie: impl Fn(&mut Server) -> Vec<u8> + Send + 'static) -> Self {
        self.telling(move |server, asked| asked.reads(what).then(|| Reply::new(200, lie(server))))
    }

    /// The same with these clients real.
    pub fn against(mut self, victims: impl IntoIterator<Item = usize>) -> Self {
        self.victims = victims.into_iter().collect();
        self
    }

    /// A client's id by number.
    pub fn client(&self, number: usize) -> ClientId {
        self.play.world.members[number].client()
    }

    /// The first victim.
    pub fn victim(&self) -> ClientId {
        self.client(self.victims[0])
    }

    /// Who the roster put together.
    pub fn assembly(&self) -> &Assembly {
        self.play.aggregator.phase.assembly().expect("there is a roster")
    }

    /// A client's place in the roster.
    pub fn leaf(&self, client: ClientId) -> LeafIndex {
        self.assembly().roster().leaf_of(client).expect("on the roster")
    }

    /// A client's neighbours, in its order.
    pub fn neighbours(&self, client: ClientId) -> Vec<ClientId> {
        let neighbours = self.assembly().order().neighbours(self.leaf(client));
        neighbours.into_iter().map(|leaf| self.assembly().roster().client(leaf)).collect()
    }

    /// Signs anything as the aggregator.
    pub fn signed(&self, statement: &Statement) -> Vec<u8> {
        self.play.world.signed(statement.clone())
    }

    /// The honest statement, as served.
    pub fn served(&self, kind: StatementKind) -> Vec<u8> {
        self.play.aggregator.served(&self.play.world, kind)
    }

    /// The root of an honest statement.
    pub fn root(&self, kind: StatementKind) -> Digest {
        use sha2::{Digest as _, Sha256};
        Digest(Sha256::digest(&self.play.aggregator.statements[&kind].0).into())
    }

    /// Everybody on the roster but these.
    pub fn all_but(&self, without: &[ClientId]) -> Bitmap {
        let n = self.assembly().params().n;
        let without: Vec<LeafIndex> = without.iter().map(|client| self.leaf(*client)).collect();
        Bitmap::of(n, (0..n).map(LeafIndex).filter(|leaf| !without.contains(leaf)))
    }

    /// A roster over these leaves, with figures of the server's choice.
    pub fn roster(&self, members: Vec<(ClientId, Digest)>, change: impl FnOnce(&mut RosterParams)) -> Vec<u8> {
        let mut params = *self.assembly().params();
        change(&mut params);
        let roster = Roster::fix(&self.play.world.facts.chain, &params, [9; 32], members);
        [self.signed(roster.statement()), roster.list()].concat()
    }

    /// A core over the roster in force.
    pub fn core(&self, members: Bitmap) -> Vec<u8> {
        self.signed(CoreSet::fix(members, &self.play.world.facts.chain, self.assembly().root()).statement())
    }

    /// A survivor list over the core in force. Clients do not check its tree of uploads.
    pub fn survivors(&self, members: Bitmap) -> Vec<u8> {
        let core = self.root(StatementKind::Core);
        self.signed(Survivors::fix(members, Digest([7; 32]), &self.play.world.facts.chain, core).statement())
    }

    /// A survivor list of the server's choice, and what all of the agreement set but the victims sign for it: the server holds
    /// their keys.
    pub fn certified(&self, members: Bitmap) -> (Vec<u8>, Vec<Vec<u8>>) {
        let served = self.survivors(members);
        let root = Signed::decode(&served, labels::SURVIVORS).expect("just signed").statement().root();
        let victims: Vec<ClientId> = self.victims.iter().map(|number| self.client(*number)).collect();
        let members = self.play.world.members.iter().filter(|member| {
            !victims.contains(&member.client()) && self.assembly().order().agrees(self.leaf(member.client()))
        });
        let chain = &self.play.world.facts.chain;
        let sign =
            |member: &Arc<Membership>| Confirmation::sign(chain, root, member.client(), &member.identity).encode();
        (served, members.map(sign).collect())
    }

    /// A victim's mailbox, as it honestly is.
    pub fn mail(&self, client: ClientId) -> Vec<Vec<u8>> {
        let mut mail = self.play.aggregator.mail.get(&client).cloned().unwrap_or_default();
        mail.sort_by_key(|item| u32::from_le_bytes(item[..4].try_into().expect("a dealer")));
        mail
    }

    /// What a client dealt.
    pub fn dealt(&self, dealer: ClientId) -> SealedShares {
        let body = &self.play.aggregator.received[&PhaseKind::Sharing][&dealer];
        SealedShares::decode(body, self.assembly().params().degree).expect("admitted")
    }

    /// The uploads of a client's neighbours, as they honestly are.
    pub fn uploads(&self, client: ClientId) -> Vec<Vec<u8>> {
        let mut uploads = self.play.aggregator.uploads_for(client);
        uploads.sort_by_key(|upload| Signed::decode(upload, labels::UPLOAD).expect("admitted").statement().sender);
        uploads
    }

    /// The confirmations, as they honestly are.
    pub fn confirmations(&self) -> Vec<Vec<u8>> {
        self.play.aggregator.bodies(PhaseKind::Confirming)
    }

    /// What a victim said in a phase; the first message, if there were several.
    pub fn heard(&self, client: ClientId, phase: &str) -> Option<&[u8]> {
        let said = self.said.iter().find(|said| said.client == client && said.phase == phase);
        said.map(|said| said.body.as_slice())
    }

    /// The phases in which a victim spoke, in order.
    pub fn phases(&self, client: ClientId) -> Vec<String> {
        let mut phases: Vec<String> =
            self.said.iter().filter(|said| said.client == client).map(|said| said.phase.clone()).collect();
        phases.dedup(); // sent again
        phases
    }

    /// What is told to a request: by the lie, or honestly.
    pub(super) fn answer(&mut self, asked: &Asked) -> Reply {
        if asked.method == "GET" && asked.path.starts_with("/v1/rounds/") {
            let permit = asked.permit().expect("a permit in form");
            let members = &self.play.world.members;
            let reader = members.iter().find(|member| member.client() == permit.reader()).expect("a client");
            let is_for = |chain| permit.permits(&asked.path, chain, &reader.identity.public());
            assert!(self.is_deaf || is_for(&self.play.world.facts.chain), "a permit for {}", asked.path);
        }
        let mut lie = self.lie.take();
        let told = lie.as_mut().and_then(|lie| lie(self, asked));
        self.lie = lie;
        match told {
            Some(reply) => reply,
            None if asked.method == "PUT" => self.hear(asked),
            None if self.is_deaf && asked.path.starts_with("/v1/rounds/") => Reply::new(204, []),
            None => self.honest(asked),
        }
    }

    fn hear(&mut self, asked: &Asked) -> Reply {
        let (client, phase) = (asked.client().expect("a client"), asked.path.split('/').nth(4).unwrap_or_default());
        let is_new =
            !self.said.iter().any(|said| said.client == client && said.phase == phase && said.body == asked.body);
        self.said.push(Said { client, phase: phase.to_string(), body: asked.body.clone() });
        if self.is_deaf || !is_new || phase == "open" {
            return Reply::new(204, []);
        }
        if let Err(rejection) = self.play.aggregator.put(&self.play.world, client, &asked.body) {
            return Reply::new(422, rejection.to_string());
        }
        if self.expected(phase).into_iter().all(|victim| self.heard(victim, phase).is_some()) {
            self.go_on(phase);
        }
        Reply::new(204, [])
    }

    /// The victims from whom a message is to come in this phase.
    fn expected(&self, phase: &str) -> BTreeSet<ClientId> {
        let victims = self.victims.iter().map(|number| self.client(*number));
        victims.filter(|client| phase != "confirm" || self.assembly().order().agrees(self.leaf(*client))).collect()
    }

    /// All victims have spoken: so do the others, and the phase closes.
    fn go_on(&mut self, phase: &str) {
        let others: Vec<usize> =
            (0..self.play.world.members.len()).filter(|number| !self.victims.contains(number)).collect();
        let others: Vec<usize> =
            others.into_iter().filter(|number| !self.revoked.contains(&self.client(*number))).collect();
        let play = &mut self.play;
        match phase {
            "advertise" => {
                let header = play.world.header();
                for number in others {
                    let enrolled = play.world.enrolled(number);
                    let evidence =
                        HeaderEvidence { revocations: play.world.facts.revoked.encode(), ..Default::default() };
                    let turn = enrolled.advertise(TASK, &header, &evidence, now(), &mut os_rng());
                    let turn = turn.expect("an honest header");
                    let client = play.world.members[number].client();
                    let (phase, body) = play.world.turn(turn);
                    play.put(client, &body);
                    self.rosters.insert(client, phase);
                }
                play.aggregator.close(&play.world);
            }
            "share" => self.mails = play.share(std::mem::take(&mut self.rosters)),
            "acknowledge" => self.ready = play.acknowledge(std::mem::take(&mut self.mails)),
            "mask" => {
                self.uploaded = play.mask(std::mem::take(&mut self.ready));
                if self.expected("confirm").is_empty() {
                    self.go_on("confirm");
                }
            }
            "confirm" => self.confirmed = play.confirm(std::mem::take(&mut self.uploaded)),
            "unmask" => {
                play.unmask(std::mem::take(&mut self.confirmed));
            }
            _ => panic!("an honest client has no message for {phase}"),
        }
    }

    fn honest(&mut self, asked: &Asked) -> Reply {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let parts: Vec<&str> = path.split('/').skip(2).collect();
        let phase = self.play.aggregator.phase.kind();
        let after = |closed: PhaseKind, body: &dyn Fn() -> Vec<u8>| match phase > closed {
            true => Reply::new(200, body()),
            false => Reply::new(204, []),
        };
        if let (Phase::Abandoned(reason, _), "rounds") = (&self.play.aggregator.phase, parts[0]) {
            let detail = format!("abandoned: {reason}");
            return Reply::new(410, serde_json::json!({"status": 410, "detail": detail, "rule": null}).to_string());
        }
        match &parts[..] {
            ["tasks", _, "header"] if query == "after=0" => Reply::new(200, self.play.world.header()),
            ["tasks", _, "header"] => Reply::new(204, []),
            ["models", _] => Reply::new(200, MODEL),
            ["revocations", _] => Reply::new(200, self.play.world.facts.revoked.encode()),
            ["rounds", _, "leaves"] => {
                let wanted = query[2..].split(',').map(|index| LeafIndex(index.parse().expect("an index")));
                after(PhaseKind::Advertising, &|| self.leaves(wanted.clone()))
            }
            ["rounds", _, "confirmations"] => after(PhaseKind::Confirming, &|| list(&self.confirmations())),
            ["rounds", _, what] => {
                let kind = match *what {
                    "roster" => StatementKind::Roster,
                    "core" => StatementKind::Core,
                    "survivors" => StatementKind::Survivors,
                    "result" => StatementKind::Result,
                    _ => return Reply::new(404, []),
                };
                match self.play.aggregator.statements.contains_key(&kind) {
                    true => Reply::new(200, self.served(kind)),
                    false => Reply::new(204, []),
                }
            }
            ["rounds", _, what, client] => {
                let client = ClientId::from_hex(client).expect("an id");
                match *what {
                    "mail" => after(PhaseKind::Sharing, &|| list(&self.mail(client))),
                    "complaints" => after(PhaseKind::Acknowledging, &|| list(&[])),
                    "openings" => after(PhaseKind::Opening, &|| list(&[])),
                    "uploads" => after(PhaseKind::Masking, &|| list(&self.uploads(client))),
                    _ => Reply::new(404, []),
                }
            }
            _ => Reply::new(404, []),
        }
    }

    /// These leaves, as served.
    pub fn leaves(&self, wanted: impl IntoIterator<Item = LeafIndex>) -> Vec<u8> {
        let wanted: Vec<LeafIndex> = wanted.into_iter().collect();
        let leaves = self.play.aggregator.leaves(wanted.iter().copied());
        let mut body = Vec::new();
        wanted.iter().for_each(|leaf| write_prefixed(&mut body, &leaves[leaf]));
        body
    }
}

/// The same world with another header.
fn with_header(mut world: World, change: impl FnOnce(&mut Header)) -> World {
    let mut header = world.facts.header.clone();
    change(&mut header);
    world.facts = RoundFacts::new(header, RevocationList::none());
    world
}

/// The same authority, aggregator and clients, before a round with another header.
pub fn same_people(world: &World, change: impl FnOnce(&mut Header)) -> World {
    let copy = |key: &IdentitySecretKey| IdentitySecretKey::from_bytes(&key.to_bytes());
    let same = World {
        authority: copy(&world.authority),
        aggregator: copy(&world.aggregator),
        members: world.members.clone(),
        facts: world.facts.clone(),
        ..World::new(world.facts.header.params)
    };
    with_header(same, change)
}

/// A list as it is served. docs/wire.md §7
pub fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut body = (items.len() as u16).to_le_bytes().to_vec();
    items.iter().for_each(|item| write_prefixed(&mut body, item));
    body
}

/// The leaf indices that a read of leaves asks for.
pub fn indices(asked: &Asked) -> Vec<LeafIndex> {
    let query = asked.path.split_once("?i=").map_or("", |(_, query)| query);
    query.split(',').map(|index| LeafIndex(index.parse().expect("an index"))).collect()
}
