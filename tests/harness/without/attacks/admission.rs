//! Attacks on what a client takes part in, and with whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use veilsum_aggregator::store::{Charge, ledger_entry};
use veilsum_crypto::client::{HeaderEvidence, Membership, Resumed};
use veilsum_crypto::ids::{Digest, LeafIndex};
use veilsum_crypto::messages::key_advertisement::leaf_digest;
use veilsum_crypto::messages::{Certificate, Header, Roster};
use veilsum_crypto::params::{RosterParams, RoundParams};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle::{self, TreeHead};
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::privacy::accountant::RdpCurve;
use veilsum_crypto::testing::{Aggregator, Play, TASK, World, demo_params, now, os_rng, small_params};

use super::dealers::open_all;
use crate::without::WithoutRule;
use crate::without::checks::{Checks, RawKeys, stop};
use crate::without::gullible::{Client, Leaf};
use crate::without::real::{self, Mixed};
use crate::without::stage::Stage;

/// All of this file.
pub fn all() -> Vec<WithoutRule> {
    vec![downgrade(), ghosts(), small_order_key(), forked_log()]
}

const TARGET: LeafIndex = LeafIndex(0);

/// A header in which every number is possible: three clients, gamma 0, no noise. Two of the three are the aggregator's.
fn downgrade() -> WithoutRule {
    WithoutRule {
        with: "the header is below floors of the client's own policy: it sends nothing",
        without: "the sum of three less two known inputs: one client's input, and without any noise",
        patch: |checks| checks.r02 = |_, _, _, _| Ok(()),
        real: || {
            let play = Play::new(downgraded());
            let header = play.world.header();
            let _ =
                play.world.enrolled(0).advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng())?;
            Ok("it advertised".into())
        },
        model: |checks| {
            let mut stage = Stage::new(downgraded(), checks);
            stage.uploaded()?;
            let (_, sum) = open_all(&mut stage)?;
            let mut recovered = sum.expect("nobody lied");
            recovered.sub_assign(&stage.plain_sum([LeafIndex(1), LeafIndex(2)])).expect("one ring");
            let won = stage.is_the_input(TARGET, &recovered, 2)?;
            let mut bare = [0; 8];
            bare[0] = stage.world.facts.header.params.scale as i64; // an update of 1 at coordinate 0
            if recovered.to_signed() != bare {
                return stop(2, "there was noise");
            }
            Ok(format!("{won}, without noise"))
        },
        ..WithoutRule::new(2, "the downgraded header")
    }
}

fn downgraded() -> RoundParams {
    let mut params = RoundParams { corrupt_fraction: 0, total_variance: 0, ..small_params(3, 8) };
    params.ring_bits = params.ring_bits_needed().expect("a ring is wide enough");
    params
}

/// Eleven of the twelve clients do not exist: the aggregator made up their keys, and signed their certificates in the
/// authority's name.
fn ghosts() -> WithoutRule {
    WithoutRule {
        with: "a certificate that the authority did not sign stops the client",
        without: "the sum of twelve less eleven inputs of the aggregator's own: the input of the only real client",
        patch: |checks| checks.r06 = |_, _, _| Ok(()),
        real: || {
            let world = haunted();
            let mut leaves = BTreeMap::new();
            let turn =
                world.enrolled(0).advertise(TASK, &world.header(), &HeaderEvidence::default(), now(), &mut os_rng());
            let (phase, own) = world.turn(turn?);
            leaves.insert(world.members[0].client(), own);
            for member in &world.members[1..] {
                let mut ghost = ghost(member.clone());
                leaves.insert(ghost.id(), ghost.advertise(TASK, &world.header(), &[], now())?);
            }
            let first = leaves.iter().nth(1).expect("eleven");
            let at_the_door = Aggregator::new(&world.facts.header.params).put(&world, *first.0, first.1);
            assert!(at_the_door.is_err(), "an honest aggregator would not admit it");
            let params = RosterParams::derive(12, &world.facts.header.params).expect("feasible");
            let entries = leaves.iter().map(|(client, leaf)| (*client, leaf_digest(leaf))).collect();
            let roster = Roster::fix(&world.facts.chain, &params, [9; 32], entries);
            let served = [world.signed(roster.statement().clone()), roster.list()].concat();
            let evidence = phase.examine(&served, now(), &mut os_rng())?;
            let (phase, _) = world.turn(phase.pin(&evidence));
            let shown = (0..).map(LeafIndex).zip(leaves.into_values()).collect();
            let _ = phase.share(evidence, &shown, &mut os_rng())?;
            Ok("it dealt to ghosts".into())
        },
        model: |checks| {
            let mut stage = Stage::of(haunted(), checks);
            for client in &mut stage.clients[1..] {
                *client = ghost(client.member.clone());
            }
            stage.uploaded()?;
            let (_, sum) = open_all(&mut stage)?;
            let mut recovered = sum.expect("nobody lied");
            let ghosts = stage.all().into_iter().filter(|leaf| *leaf != TARGET);
            recovered.sub_assign(&stage.plain_sum(ghosts)).expect("one ring");
            stage.is_the_input(TARGET, &recovered, 6)
        },
        ..WithoutRule::new(6, "the ghosts")
    }
}

/// A client of the aggregator's, which minds no certificate.
fn ghost(member: Arc<Membership>) -> Client {
    Client::new(member, Checks { r06: |_, _, _| Ok(()), ..Checks::all() })
}

/// All certificates but that of client 0 are signed by the aggregator.
fn haunted() -> World {
    let mut world = World::new(small_params(12, 8));
    for number in 1..12 {
        let before = &world.members[number];
        let genuine = real::statement(&before.certificate.encode(), labels::CERTIFICATE);
        let forged = Certificate::decode(&genuine.sign(&world.aggregator).encode()).expect("in form");
        let identity = IdentitySecretKey::from_bytes(&before.identity.to_bytes());
        world.members[number] = Arc::new(Membership { identity, certificate: forged, policy: before.policy.clone() });
    }
    world
}

/// One corrupt client brings a channel key of small order. Whatever its neighbours agree on with it is 32 zero bytes, which they
/// must refuse: all of them abandon the round, and it with them. Turned away at the door it harms nobody.
fn small_order_key() -> WithoutRule {
    WithoutRule {
        with: "the one function that judges leaves refuses the key when it is brought",
        without: "all neighbours of one client stop, and the round is abandoned",
        patch: |checks| checks.r09 = |_| Ok(()),
        real: || {
            let mut mixed = Mixed::new(Play::new(small_params(12, 8)), [5]);
            let (client, liar) = mixed.liars.iter_mut().next().expect("one");
            let leaf = liar.advertise(TASK, &mixed.play.world.header(), &[], now())?;
            let leaf = with_small_order(&leaf, &liar.member.identity);
            real::refused(mixed.play.aggregator.put(&mixed.play.world, *client, &leaf))
        },
        real_rule: Some(37), // its type has no such value: it does not decode
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.advertise()?;
            let liar = LeafIndex(5);
            let leaf = with_small_order(&stage.leaves[liar.index()], &stage.clients[liar.index()].member.identity);
            (checks.r09)(&[Leaf::read(&leaf).keys])?; // at admission
            stage.leaves[liar.index()] = leaf;
            let others: Vec<_> = stage.all().into_iter().filter(|leaf| *leaf != liar).collect();
            stage.roster = stage.roster_of(&stage.leaves, &stage.params(), [9; 32]);
            let mut dealt = 0;
            for leaf in &others {
                let client = &mut stage.clients[leaf.index()];
                client.examine(&stage.roster, &|leaf| stage.leaves[leaf.index()].clone(), now())?;
                dealt += u32::from(client.deal().is_ok());
            }
            let needed = stage.params().survivors_min;
            if dealt + 1 >= needed {
                return stop(9, format!("{dealt} of 11 honest clients deal"));
            }
            Ok(format!("{dealt} of 11 honest clients deal, {needed} are needed: the round is abandoned"))
        },
        ..WithoutRule::new(9, "the key of small order")
    }
}

/// The same leaf with C = 0, signed again by its client.
fn with_small_order(leaf: &[u8], key: &IdentitySecretKey) -> Vec<u8> {
    let leaf = Leaf::read(leaf);
    let mut statement = leaf.advert.statement().clone();
    let at = statement.body.len() - 64;
    statement.body[at..at + 32].copy_from_slice(&RawKeys { channel: [0; 32], ..leaf.keys }.channel);
    Leaf::encode(&leaf.certificate, &statement.sign(key))
}

/// The aggregator writes its log anew: of twelve rounds that it charged, eleven never were. A client that does not ask how the
/// log grew answers a header over the new one, and whoever audits that log finds a cost that is too small.
fn forked_log() -> WithoutRule {
    WithoutRule {
        with: "a log that does not extend the one the client saw stops it",
        without: "the client answers a header whose log hides eleven of twelve charges",
        patch: |checks| checks.r33 = |_, _, _| Ok(()),
        real: || {
            let play = Play::new(small_params(12, 8));
            let Logs { honest, forged, growth } = logs(&play.world);
            let header = |counter, log: &[Digest]| {
                let header = Header { counter, log: head(log), ..play.world.facts.header.clone() };
                play.world.signed(header.statement())
            };
            let evidence = HeaderEvidence::default();
            let seen = play.world.enrolled(0).advertise(TASK, &header(1, &honest), &evidence, now(), &mut os_rng())?;
            let (disk, _) = play.world.written(seen);
            let resumed = Resumed::open(&play.world.saving, &disk, &play.world.members[0]).expect("as written");
            let (enrolled, _) = play.world.turn(resumed.give_up());
            let evidence = HeaderEvidence { log_growth: growth, ..HeaderEvidence::default() };
            let _ = enrolled.advertise(TASK, &header(2, &forged), &evidence, now(), &mut os_rng())?;
            Ok("it answered the header over the forged log".into())
        },
        model: |checks| {
            let world = World::new(small_params(12, 8));
            let Logs { honest, forged, growth } = logs(&world);
            let mut client = Client::new(world.members[0].clone(), checks);
            client.log = Some(head(&honest));
            let header = Header { counter: 13, log: head(&forged), ..world.facts.header.clone() };
            client.advertise(TASK, &world.signed(header.statement()), &growth, now())?;
            let [told, true_cost] = [&forged, &honest].map(|log| audited(&world, log));
            Ok(format!("an audit of the log it answered finds epsilon {told:.4}; given away was {true_cost:.4}"))
        },
        ..WithoutRule::new(33, "the forked log")
    }
}

/// Leaves of two logs, and the proof that the forged one grew from its own beginning.
struct Logs {
    honest: Vec<Digest>,
    forged: Vec<Digest>,
    growth: Vec<Digest>,
}

fn logs(world: &World) -> Logs {
    let charges = |spent: u64| {
        let entry = |counter| {
            if counter <= spent {
                entry_of(world, counter, Charge::Spent)
            } else {
                entry_of(world, counter, Charge::Lapsed)
            }
        };
        (1..=12).map(entry).collect::<Vec<_>>()
    };
    let (honest, mut forged) = (charges(12), charges(1));
    forged.push(entry_of(world, 13, Charge::Reserved));
    let growth = merkle::consistency_path(&forged, honest.len() as u64);
    Logs { honest, forged, growth }
}

/// The salt of a round is in its export, so an auditor can tell its entries.
fn entry_of(world: &World, counter: u64, charge: Charge) -> Digest {
    let salt = [counter as u8; 32];
    merkle::leaf_hash(&[&ledger_entry(&salt, TASK, counter, world.facts.chain.context, charge).0])
}

fn head(log: &[Digest]) -> TreeHead {
    TreeHead { size: log.len() as u64, root: merkle::root(log) }
}

/// Epsilon of the charges that a log says were spent, each that of the demo's round.
fn audited(world: &World, log: &[Digest]) -> f64 {
    let spent = (1..=12).filter(|counter| log.contains(&entry_of(world, *counter, Charge::Spent))).count() as u32;
    let round = demo_params(64);
    let cost: RdpCurve = veilsum_crypto::client::policy::round_charge_of(&round).expect("there is noise");
    cost.times(spent).epsilon(round.dp_delta).epsilon
}
