//! The aggregator in memory: the real `accept`, `close` and `blame`, and what a store does between them.
//!
//! It can be built with a [`Bug`], which the oracle must notice.

use std::collections::BTreeMap;

use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::rules::{Answer, Rejection};
use veilsum_crypto::server::{Effect, Keep, Phase, PhaseKind, accept, blame, is_signed_by};
use veilsum_crypto::testing::{Aggregator, World};

use super::letter::Reply;
use crate::world::sha256;

/// What is wrong with an aggregator, to see whether anybody notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Nothing.
    None,
    /// When the round is over it names an honest client.
    NamesSomebody,
    /// It adds one upload of the survivors to no sum.
    DropsAnUpload,
    /// It keeps no fault.
    ForgetsFaults,
    /// It admits what it ought to refuse for a rule of the phase, and forgets it.
    AdmitsAnything,
    /// It takes the second message of a client for the first.
    TakesTheSecond,
    /// It closes acknowledgements as if nobody had sent the last one.
    LosesAMessage,
}

impl Bug {
    /// All but none.
    pub const ALL: [Bug; 6] = [
        Bug::NamesSomebody,
        Bug::DropsAnUpload,
        Bug::ForgetsFaults,
        Bug::AdmitsAnything,
        Bug::TakesTheSecond,
        Bug::LosesAMessage,
    ];
}

/// One round's aggregator and its store.
pub struct Service {
    /// The real one.
    pub aggregator: Aggregator,
    /// Who is named for what, with the evidence; one a phase and client, the first.
    pub faults: BTreeMap<(PhaseKind, ClientId), (u8, Vec<u8>)>,
    digests: BTreeMap<(PhaseKind, ClientId), Digest>,
    claims: BTreeMap<Digest, ClientId>,
    bug: Bug,
    uploads: usize,
}

impl Service {
    /// Before the first advert.
    pub fn new(world: &World, bug: Bug) -> Self {
        Self {
            aggregator: Aggregator::new(&world.facts.header.params),
            faults: BTreeMap::new(),
            digests: BTreeMap::new(),
            claims: BTreeMap::new(),
            bug,
            uploads: 0,
        }
    }

    /// The phase that is open.
    pub fn phase(&self) -> PhaseKind {
        self.aggregator.phase.kind()
    }

    /// One PUT: docs/wire.md §8.1.
    pub fn put(&mut self, world: &World, name: ClientId, addressed: PhaseKind, body: &[u8]) -> Reply {
        let phase = &self.aggregator.phase;
        if addressed > phase.kind() && !phase.kind().is_over() {
            return Reply::bare(425);
        }
        if addressed != PhaseKind::Advertising
            && let Some(assembly) = phase.assembly()
            && assembly.find(name).is_err()
        {
            return Reply::bare(404);
        }
        match accept(&world.facts, phase, addressed, name, body) {
            Ok(accepted) => self.admit(world, addressed, accepted, body),
            Err(Rejection::PhaseClosed | Rejection::RoundOver) => match self.digests.get(&(addressed, name)) {
                Some(digest) if *digest == sha256(body) => Reply::YES,
                Some(_) => self.other_bytes(world, addressed, name, body),
                None => Reply::bare(410),
            },
            Err(rejection) => {
                self.keep_evidence(world, addressed, name, Some(&rejection), body);
                let reply = refusal(&rejection);
                if self.bug == Bug::AdmitsAnything && reply.code == 422 { Reply::YES } else { reply }
            }
        }
    }

    fn admit(
        &mut self,
        world: &World,
        phase: PhaseKind,
        accepted: veilsum_crypto::server::Accepted,
        body: &[u8],
    ) -> Reply {
        let client = accepted.client();
        match self.digests.get(&(phase, client)) {
            Some(digest) if *digest == accepted.digest() => return Reply::YES,
            Some(_) if self.bug != Bug::TakesTheSecond => return self.other_bytes(world, phase, client, body),
            _ => {}
        }
        if accepted.claims().iter().any(|claim| self.claims.get(claim).is_some_and(|holder| *holder != client)) {
            return Reply::no(409, 9);
        }
        self.claims.extend(accepted.claims().iter().map(|claim| (*claim, client)));
        self.digests.insert((phase, client), accepted.digest());
        let aggregator = &mut self.aggregator;
        let bodies = aggregator.received.entry(phase).or_default();
        match accepted.keep() {
            Keep::Body(body) => {
                bodies.insert(client, body.clone());
            }
            Keep::Mail { body, to } => {
                bodies.insert(client, body.clone());
                for (holder, item) in to {
                    aggregator.mail.entry(*holder).or_default().push(item.clone());
                }
            }
            Keep::Sum { statement, vector } => {
                bodies.insert(client, statement.clone());
                self.uploads += 1;
                if !(self.bug == Bug::DropsAnUpload && self.uploads == 2) {
                    aggregator.sum.add_assign(vector).expect("one ring");
                }
            }
        }
        Reply::YES
    }

    fn other_bytes(&mut self, world: &World, phase: PhaseKind, client: ClientId, body: &[u8]) -> Reply {
        self.keep_evidence(world, phase, client, None, body);
        Reply::no(409, if phase == PhaseKind::Masking { 19 } else { 3 })
    }

    /// As `Rounds::keep_evidence`: once a round is over its answers are erased, and without a roster everything is.
    fn keep_evidence(
        &mut self,
        world: &World,
        phase: PhaseKind,
        client: ClientId,
        refused: Option<&Rejection>,
        message: &[u8],
    ) {
        let assembly = self.aggregator.phase.assembly();
        if !is_signed_by(&world.facts, assembly, phase, client, message) {
            return;
        }
        let is_over = self.phase().is_over();
        let sent = |of: PhaseKind| {
            let is_erased = is_over && (of == PhaseKind::Unmasking || assembly.is_none());
            self.aggregator.received.get(&of)?.get(&client).filter(|_| !is_erased).map(Vec::as_slice)
        };
        let fault = blame(phase, client, refused, sent(PhaseKind::Advertising), sent(phase), message);
        if let Some(fault) = fault {
            self.keep(phase, &fault);
        }
    }

    fn keep(&mut self, phase: PhaseKind, fault: &Effect) {
        let Effect::Fault { client, rule, evidence } = fault else { return };
        if self.bug != Bug::ForgetsFaults {
            self.faults.entry((phase, *client)).or_insert_with(|| (*rule, evidence.clone()));
        }
    }

    /// Closes the phase that is open.
    pub fn close(&mut self, world: &World, nonce: [u8; 32]) {
        let closing = self.phase();
        if self.bug == Bug::LosesAMessage && closing == PhaseKind::Acknowledging {
            self.aggregator.received.entry(closing).or_default().pop_last();
        }
        let before = self.aggregator.effects.len();
        self.aggregator.close_with(world, nonce);
        let faults: Vec<Effect> = self.aggregator.effects.drain(before..).collect();
        faults.iter().for_each(|fault| self.keep(closing, fault));
        if self.bug == Bug::NamesSomebody && self.phase().is_over() {
            let named = |client: &ClientId| self.faults.keys().any(|(_, named)| named == client);
            let bodies = self.aggregator.received.get(&PhaseKind::Advertising).into_iter().flatten();
            let innocent = bodies.map(|(client, body)| (*client, body.clone())).find(|(client, _)| !named(client));
            if let Some((client, body)) = innocent {
                self.faults.insert((PhaseKind::Unmasking, client), (29, body));
            }
        }
    }

    /// The sum, once it is released.
    pub fn released(&self, world: &World) -> Option<RingVector> {
        let Phase::Published(_) = &self.aggregator.phase else { return None };
        let (_, packed) = self.aggregator.statements.get(&veilsum_crypto::server::StatementKind::Result)?;
        let params = &world.facts.header.params;
        RingVector::unpack(packed, params.vector_len as usize, params.ring_bits).ok()
    }
}

/// The status code of a refusal, as `aggregator/src/http/problem.rs` has it.
fn refusal(rejection: &Rejection) -> Reply {
    let code = match rejection.answer() {
        Answer::NotCanonical => 400,
        Answer::Forbidden => 403,
        Answer::Unknown => 404,
        Answer::Closed => 410,
        Answer::RuleBroken => 422,
        Answer::TooEarly => 425,
    };
    Reply { code, rule: rejection.rule().map(|rule| rule.0) }
}
