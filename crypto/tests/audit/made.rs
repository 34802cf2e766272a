//! Exports made from rounds played in memory, with a log of their own.

use std::collections::BTreeMap;

use veilsum_crypto::audit::export::{Counted, Inclusion, Lapse, List, Named};
use veilsum_crypto::audit::{Export, Pins, Report, Section, audit, audit_bytes};
use veilsum_crypto::ids::*;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{Header, RevocationList};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle::{self, TreeHead};
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed, Statement};
use veilsum_crypto::server::*;
use veilsum_crypto::testing::*;
use veilsum_crypto::transparency::checkpoint::CheckpointKey;
use veilsum_crypto::transparency::entry::{Charge, ledger_entry, root_entry, statement_entry};

use crate::stage::*;

const SALT: [u8; 32] = [0x5a; 32];
const ORIGIN: &str = "veilsum.test/log";

/// A log in memory; some of its entries are of others.
pub struct Log {
    leaves: Vec<Digest>,
    key: CheckpointKey,
}

impl Log {
    pub fn new() -> Self {
        let leaves = (0..11_u8).map(|other| merkle::leaf_hash(&[&[other]])).collect();
        Self { leaves, key: CheckpointKey::from_bytes(&[6; 32]) }
    }

    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.leaves.len() as u64, root: merkle::root(&self.leaves) }
    }

    fn append(&mut self, entry: Digest) {
        self.leaves.push(merkle::leaf_hash(&[entry.as_bytes()]));
    }

    fn find(&self, entry: Digest) -> Inclusion {
        let hash = merkle::leaf_hash(&[entry.as_bytes()]);
        let leaf = self.leaves.iter().position(|leaf| *leaf == hash).expect("it was appended");
        Inclusion { leaf: leaf as u64, path: merkle::inclusion_paths(&self.leaves)[leaf].clone() }
    }
}

/// A round about to start: the third of its task, after one that counted and one that lapsed, under a revocation list.
pub struct Stage {
    pub play: Play,
    log: Log,
    earlier: Vec<Header>,
}

impl Stage {
    pub fn new(mut world: World) -> Self {
        let mut log = Log::new();
        let list = RevocationList::issue(4, [(client_id(9_999), NOON)].into(), &world.authority);
        let named =
            Header { revocation_number: list.number(), revocation_digest: list.digest(), ..world.facts.header.clone() };
        let earlier: Vec<Header> =
            [1, 2].into_iter().map(|counter| Header { counter, log: log.head(), ..named.clone() }).collect();
        for (header, last) in earlier.iter().zip([Charge::Spent, Charge::Lapsed]) {
            for charge in [Charge::Reserved, last] {
                log.append(ledger_entry(&[header.counter as u8; 32], TASK, header.counter, root(header), charge));
            }
        }
        world.facts = RoundFacts::new(Header { counter: 3, log: log.head(), ..named }, list);
        Self { play: Play::of(world), log, earlier }
    }

    pub fn twelve() -> Self {
        Self::new(World::new(small_params(12, 8)))
    }

    /// Everybody advertises. (The list is evidence beside the header here.)
    pub fn advertise(&mut self) -> BTreeMap<ClientId, veilsum_crypto::client::AwaitingRoster> {
        self.advertise_with(&[])
    }

    /// Everybody advertises, these with the leaves given.
    pub fn advertise_with(
        &mut self,
        given: &[(ClientId, Vec<u8>)],
    ) -> BTreeMap<ClientId, veilsum_crypto::client::AwaitingRoster> {
        use veilsum_crypto::client::HeaderEvidence;
        let play = &mut self.play;
        let header = play.world.header();
        let evidence = HeaderEvidence { revocations: play.world.facts.revoked.encode(), ..HeaderEvidence::default() };
        let mut clients = BTreeMap::new();
        for number in 0..play.world.members.len() {
            let client = play.world.members[number].client();
            if let Some((_, leaf)) = given.iter().find(|(given, _)| *given == client) {
                play.put(client, leaf);
                continue;
            }
            let turn = play.world.enrolled(number).advertise(TASK, &header, &evidence, now(), &mut os_rng());
            let (phase, body) = play.world.turn(turn.expect("an honest header"));
            play.put(client, &body);
            clients.insert(client, phase);
        }
        play.aggregator.close(&play.world);
        clients
    }

    /// Whom a refused message proves something against, as the service keeps it.
    pub fn refuse(&mut self, phase: PhaseKind, client: ClientId, message: &[u8]) {
        let play = &mut self.play;
        let refused = play.aggregator.put(&play.world, client, message).expect_err("it is refused");
        let leaf =
            play.aggregator.received.get(&PhaseKind::Advertising).and_then(|leaves| leaves.get(&client)).cloned();
        let fault = blame(phase, client, Some(&refused), leaf.as_deref(), None, message).expect("it proves something");
        play.aggregator.effects.push(fault);
    }

    /// The export, as the service makes it.
    pub fn export(mut self) -> (Export, Pins) {
        let (play, header) = (&self.play, self.play.world.facts.header.clone());
        let aggregator = &play.aggregator;
        let entry = |charge| ledger_entry(&SALT, TASK, header.counter, root(&header), charge);
        let fixed = |kind| aggregator.statements.get(&kind).map(|(bytes, _)| statement_entry(&SALT, bytes));
        let is_spent = aggregator.effects.contains(&Effect::Spend);
        let mut entries = vec![statement_entry(&SALT, &header.statement().encode()), entry(Charge::Reserved)];
        entries.extend(fixed(StatementKind::Roster));
        entries.extend(fixed(StatementKind::Core));
        entries.extend(aggregator.effects.iter().filter_map(|effect| match effect {
            Effect::Log { root } => Some(root_entry(&SALT, *root)),
            _ => None,
        }));
        entries.extend(is_spent.then(|| entry(Charge::Spent)));
        entries.extend(fixed(StatementKind::Survivors));
        entries.extend(fixed(StatementKind::Result));
        entries.extend((!is_spent).then(|| entry(Charge::Lapsed)));
        entries.iter().for_each(|entry| self.log.append(*entry));
        (0..5_u8).for_each(|other| self.log.append(Digest([other; 32])));

        let (log, world) = (&self.log, &play.world);
        let served = |kind| match aggregator.statements.contains_key(&kind) {
            true => aggregator.served(world, kind),
            false => Vec::new(),
        };
        let list = |kind| -> List {
            let Some(assembly) = aggregator.phase.assembly() else { return List::new() };
            let bodies = aggregator.received.get(&kind).into_iter().flatten();
            bodies.filter_map(|(client, body)| Some((assembly.roster().leaf_of(*client)?, body.clone()))).collect()
        };
        let lapsed = ledger_entry(&[2; 32], TASK, 2, root(&self.earlier[1]), Charge::Lapsed);
        let counted = |header: &Header, lapse| Counted { header: world.signed(header.statement()), lapse };
        let export = Export {
            header: world.header(),
            revocations: world.facts.revoked.encode(),
            roster: served(StatementKind::Roster),
            leaves: list(PhaseKind::Advertising),
            shares: list(PhaseKind::Sharing),
            acknowledgements: list(PhaseKind::Acknowledging),
            openings: list(PhaseKind::Opening),
            core: served(StatementKind::Core),
            uploads: list(PhaseKind::Masking),
            survivors: served(StatementKind::Survivors),
            confirms: list(PhaseKind::Confirming),
            result: served(StatementKind::Result),
            evidence: evidence(&aggregator.effects),
            ledger: vec![
                counted(&self.earlier[0], None),
                counted(&self.earlier[1], Some(Lapse { salt: [2; 32], at: log.find(lapsed) })),
            ],
            salt: SALT,
            checkpoint: log.key.note(ORIGIN, &log.head()),
            log: entries.iter().map(|entry| log.find(*entry)).collect(),
            growth: merkle::consistency_path(&log.leaves, header.log.size),
        };
        let pins = Pins {
            aggregator: world.aggregator.public(),
            authority: world.authority.public(),
            log: log.key.verifier(ORIGIN).expect("a name"),
        };
        (export, pins)
    }
}

fn root(header: &Header) -> Digest {
    header.statement().root()
}

/// The store's rows of faults: one a phase and client.
fn evidence(effects: &[Effect]) -> Vec<Named> {
    let mut rows = BTreeMap::new();
    for effect in effects {
        if let Effect::Fault { client, rule, evidence } = effect {
            let phase = match rule {
                9 => 0,
                13 | 38 => 1,
                29 => 6,
                _ if evidence[0] == 1 => 2, // a message: too many complaints
                _ => 3,
            };
            rows.entry((phase, *client)).or_insert_with(|| (*rule, evidence.clone()));
        }
    }
    let named = |((phase, client), (rule, evidence))| Named { phase, client, rule, evidence };
    rows.into_iter().map(named).collect()
}

/// A dealer whose sealed pair for one neighbour does not open, and the others up to its acknowledgement.
pub fn complained() -> (Stage, Liar, LeafIndex, BTreeMap<ClientId, veilsum_crypto::client::ReadyToMask>) {
    let mut stage = Stage::twelve();
    let mut liar = Liar::new(&stage.play.world, 5);
    let advert = liar.advert(&stage.play.world);
    let clients = stage.advertise_with(&[(liar.client(), advert)]);
    let play = &mut stage.play;
    let victim = leaf(play, neighbours(play, liar.client())[0]);
    let message = liar.deal(play, |dealt| dealt.garbled = dealt.holder == victim);
    play.put(liar.client(), &message);
    let clients = play.share(clients);
    let acknowledgement = liar.acknowledgement(play);
    play.put(liar.client(), &acknowledgement);
    let clients = play.acknowledge(clients);
    (stage, liar, victim, clients)
}

/// A round with a complaint that is opened rightly (or wrongly), one loss, and a sum.
pub fn released(rightly: bool) -> (Export, Pins) {
    let (mut stage, liar, victim, mut clients) = complained();
    let play = &mut stage.play;
    let pair = match rightly {
        true => liar.pair(victim),
        false => SharePair { masking: liar.pair(victim).masking, self_mask: random_share() },
    };
    let opening = liar.opening(play, victim, pair);
    play.put(liar.client(), &opening);
    play.aggregator.close(&play.world);
    let complainer = client(play, victim);
    clients.get_mut(&complainer).expect("in the round").take_openings(&[opening]);
    finish(play, clients);
    stage.export()
}

fn random_share() -> veilsum_crypto::math::shamir::ShareScalar {
    veilsum_crypto::primitives::agreement::MaskingSecretKey::generate(&mut os_rng()).to_scalar()
}

/// Both ways to the report agree.
#[track_caller]
pub fn report(export: &Export, pins: &Pins) -> Report {
    let report = audit(export, pins);
    let of_bytes = audit_bytes(&export.encode(), pins);
    assert_eq!(report.checks[1..], of_bytes.checks[1..]);
    report
}

/// It fails in this section.
#[track_caller]
pub fn fails(export: &Export, pins: &Pins, section: Section) -> String {
    let report = report(export, pins);
    let check = report.failure().unwrap_or_else(|| panic!("it passed, and should fail in {section}"));
    assert_eq!(check.section, section, "{report}");
    match &check.outcome {
        veilsum_crypto::audit::Outcome::Failed(why) => why.clone(),
        other => panic!("{other:?}"),
    }
}

/// A statement of the aggregator, altered and signed again by the aggregator itself: the operator lies.
pub fn signed_anew(
    operator: &IdentitySecretKey,
    served: &[u8],
    label: labels::Label,
    alter: impl FnOnce(&mut Statement),
) -> Vec<u8> {
    let mut reader = Reader::new(served);
    let mut statement = Signed::read(&mut reader, label).expect("as served").statement().clone();
    alter(&mut statement);
    [statement.sign(operator).encode().as_slice(), reader.rest()].concat()
}
