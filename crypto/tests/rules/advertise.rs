//! Header, roster and leaves.

use std::collections::BTreeMap;

use veilsum_crypto::client::policy::{AllowedModels, GammaBasis};
use veilsum_crypto::client::*;
use veilsum_crypto::ids::*;
use veilsum_crypto::math::ring::RingBits;
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::key_advertisement::RoundKeys;
use veilsum_crypto::messages::*;
use veilsum_crypto::params::{ParamsError, RosterParams};
use veilsum_crypto::primitives::codec::{DecodeError, write_prefixed};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle::{self, TreeHead};
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed, Statement};
use veilsum_crypto::rules::{CertificateError, Rejection, ServerMisbehaved};
use veilsum_crypto::server::*;
use veilsum_crypto::testing::*;

use crate::stage::*;

type Step = Result<Turn<AwaitingRoster, KeyAdvertisement>, ServerMisbehaved>;

/// Client 0 judges a header that the aggregator has changed and signed anew.
fn judge(world: &World, client: Enrolled, change: impl FnOnce(&mut Header)) -> Step {
    let mut header = world.facts.header.clone();
    change(&mut header);
    let header = world.signed(header.statement());
    client.advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng())
}

/// A client that took part in round 1, whose header was changed so, and gave up.
fn after_round_one(world: &World, evidence: &HeaderEvidence, change: impl FnOnce(&mut Header)) -> Enrolled {
    let mut header = world.facts.header.clone();
    change(&mut header);
    let header = world.signed(header.statement());
    let step = world.enrolled(0).advertise(TASK, &header, evidence, now(), &mut os_rng());
    let (disk, _) = world.written(step.expect("an honest header"));
    let resumed = Resumed::open(&world.saving, &disk, &world.members[0]).expect("as written");
    world.turn(resumed.give_up()).0
}

fn round_one(world: &World) -> Enrolled {
    after_round_one(world, &HeaderEvidence::default(), |_| {})
}

/// an old counter replays a round whose masks are known; one far ahead locks everybody out for good.
#[test]
fn r02_a_counter_that_does_not_grow_or_leaps_stops_the_client() {
    let world = World::new(small_params(12, 8));
    let at = |counter| judge(&world, round_one(&world), |header| header.counter = counter);
    assert_eq!(stopped(at(1)), ServerMisbehaved::Counter { last: 1, found: 1 });
    assert!(matches!(stopped(at(0)), ServerMisbehaved::Decode(DecodeError::NotCanonical { field: "counter", .. })));
    assert_eq!(stopped(at(u64::MAX)), ServerMisbehaved::Counter { last: 1, found: u64::MAX });
    let leap = 1 + (1 << 20) + 1;
    assert_eq!(stopped(at(leap)), ServerMisbehaved::Counter { last: 1, found: leap });
    assert!(at(leap - 1).is_ok(), "2^20 is the largest step");
}

/// each figure of the header has its floor or pin in the policy.
#[test]
fn r02_a_header_below_the_policy_stops_the_client() {
    let params = small_params(12, 8);
    let world = World::with_policy(params, |policy| {
        policy.cohort_min = params.cohort_min;
        policy.dropout_tolerance_max = params.dropout_tolerance;
        policy.clip_norm_max = params.clip_norm;
        policy.budget.epsilon = 1e12; // R-26 is not what stops it here
        policy.layout = Some(Digest([2; 32]));
        policy.models = AllowedModels::OneOf([Digest([1; 32])].into());
    });
    assert!(judge(&world, world.enrolled(0), |_| {}).is_ok(), "the honest header is within");
    let below = |change: fn(&mut Header)| match stopped(judge(&world, world.enrolled(0), change)) {
        ServerMisbehaved::BelowPolicy { what, .. } | ServerMisbehaved::NotPinned { what } => what,
        other => panic!("{other}"),
    };
    assert_eq!(below(|header| header.params.cohort_min = 2), "cohort_min");
    assert_eq!(below(|header| header.params.corrupt_fraction = 0), "corrupt_fraction");
    assert_eq!(below(|header| header.params.dropout_tolerance = 260_000), "dropout_tolerance");
    assert_eq!(below(|header| header.params.security_bits = 40), "security_bits");
    assert_eq!(below(|header| header.params.completion_bits = 10), "completion_bits");
    assert_eq!(below(|header| header.params.wrap_bits = 1), "wrap_bits");
    assert_eq!(below(|header| header.params.clip_norm *= 2.0), "clip_norm");
    assert_eq!(below(|header| header.params.dp_delta = 0.1), "dp_delta");
    assert_eq!(below(|header| header.params.total_variance = 1), "noise_multiplier");
    assert_eq!(below(|header| header.layout_hash = Digest([8; 32])), "layout");
    assert_eq!(below(|header| header.model_hash = Digest([8; 32])), "model");
    assert_eq!(below(|header| header.task = TaskId([8; 16])), "task");
}

/// a header of another authority, whose certificates the aggregator could write itself.
#[test]
fn r02_an_authority_that_is_not_pinned_stops_the_client() {
    let world = World::new(small_params(12, 8));
    let step = judge(&world, world.enrolled(0), |header| header.authority_key = world.aggregator.public());
    assert_eq!(stopped(step), ServerMisbehaved::NotPinned { what: "authority" });
}

/// a second roster of one round is evidence against its signer, and so are two headers under one counter and two
/// confirmations in one round; what may be said twice is none.
#[test]
fn r02_two_statements_that_contradict_each_other_are_evidence() {
    let world = World::new(small_params(12, 8));
    let chain = world.facts.chain;
    let by_aggregator = |statement: Statement| statement.sign(&world.aggregator);
    let roster = |body: u8| by_aggregator(chain.from_aggregator(chain.context).statement(labels::ROSTER, vec![body]));
    assert!(roster(1).contradicts(&roster(2)));
    assert!(!roster(1).contradicts(&roster(1)), "the same again");

    let header =
        |counter, opened_at| by_aggregator(Header { counter, opened_at, ..world.facts.header.clone() }.statement());
    assert!(header(1, NOON).contradicts(&header(1, NOON.plus_ms(1))));
    assert!(!header(1, NOON).contradicts(&header(2, NOON)), "the next round");

    let member = &world.members[0];
    let confirms = |list: u8| {
        let signed = Confirmation::sign(&chain, Digest([list; 32]), member.client(), &member.identity).encode();
        Signed::decode(&signed, labels::CONFIRM).expect("as signed")
    };
    assert!(confirms(1).contradicts(&confirms(2)), "two survivor lists in one round");
    let reads = |path: &str| {
        let signed = ReadPermit::sign(path, &chain, member.client(), &member.identity).encode();
        Signed::decode(&signed, labels::READ).expect("as signed")
    };
    assert!(!reads("/roster").contradicts(&reads("/core")), "a client reads more than one path");
}

/// numbers that no honest header holds.
#[test]
fn r02_a_malformed_header_stops_the_client() {
    let world = World::new(small_params(12, 8));
    let field = |change: fn(&mut Header)| match stopped(judge(&world, world.enrolled(0), change)) {
        ServerMisbehaved::Params(ParamsError::Range { field, .. }) => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(|header| header.params.windows.0[3] = 0), "window");
    assert_eq!(field(|header| header.params.scale = 2_f64.powi(31)), "clip_norm times scale (rounded up)");
    assert_eq!(field(|header| header.params.wrap_bits = 0), "wrap_bits");
    assert_eq!(field(|header| header.params.max_squared_norm = 0), "max_squared_norm");
    assert_eq!(field(|header| header.params.roster_max = 16_385), "roster_max");
    let one_of_weight = |header: &mut Header| (header.params.vector_len, header.params.weight_max) = (1, 5);
    assert_eq!(field(one_of_weight), "vector_len with a weight");
}

/// the first valid roster is written down before any leaf is asked for; a second one, of another ring, stops the
/// client, also after a restart, and nothing is dealt for a roster that was not written down.
#[test]
fn r02_a_second_roster_stops_the_client() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let first = play.aggregator.served(&play.world, StatementKind::Roster);
    let (second, leaves) = forged_roster(&play.world, &play.aggregator.received[&PhaseKind::Advertising]);
    assert_ne!(first, second, "the same leaves, another closing nonce");

    let (_, phase) = clients.pop_first().expect("twelve");
    let evidence = phase.examine(&second, now(), &mut os_rng()).expect("as good as the first");
    let unwritten = phase.share(evidence, &leaves, &mut os_rng());
    assert_eq!(stopped(unwritten), ServerMisbehaved::SecondRoster, "it was not written down");

    let (target, phase) = clients.pop_first().expect("eleven");
    let evidence = phase.examine(&first, now(), &mut os_rng()).expect("an honest roster");
    let (disk, sent) = play.world.written(phase.pin(&evidence));
    assert_eq!(sent, [0; 0]);
    let Ok(Resumed::AwaitingRoster(phase, _)) = Resumed::open(&play.world.saving, &disk, member(&play, target)) else {
        panic!("it waits for leaves");
    };
    assert_eq!(stopped(phase.examine(&second, now(), &mut os_rng())), ServerMisbehaved::SecondRoster);
    assert!(deal(&play.world, phase, &first, &leaves).is_ok(), "the first one counts");
}

/// with t <= k/2 the ring splits in two halves that both open.
#[test]
fn r04_a_roster_with_parameters_that_do_not_follow_from_n_stops_the_client() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let (entries, params) = (assembly(&play).roster().members().to_vec(), *assembly(&play).params());
    let lies = [
        RosterParams { threshold: params.degree / 2, ..params },
        RosterParams { degree: params.degree - 2, ..params },
        RosterParams { honest: params.honest + 1, ..params },
    ];
    for lie in lies {
        let (_, phase) = clients.pop_first().expect("twelve");
        let roster = Roster::fix(&play.world.facts.chain, &lie, [1; 32], entries.clone());
        let step = phase.examine(&served(&play.world, &roster), now(), &mut os_rng());
        assert_eq!(stopped(step), ServerMisbehaved::GraphParams);
    }
}

/// a liar listed twice counts once against gamma.
#[test]
fn r05_a_roster_with_a_client_twice_or_out_of_order_stops_the_client() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let (entries, params) = (assembly(&play).roster().members().to_vec(), *assembly(&play).params());
    let mut twice = entries.clone();
    twice[5] = twice[4];
    let mut swapped = entries;
    swapped.swap(7, 8);
    for lie in [twice, swapped] {
        let (_, phase) = clients.pop_first().expect("twelve");
        let roster = Roster::fix(&play.world.facts.chain, &params, [1; 32], lie);
        let step = phase.examine(&served(&play.world, &roster), now(), &mut os_rng());
        let expected = DecodeError::NotCanonical { field: "roster", expected: "strictly ascending client ids" };
        assert_eq!(stopped(step), ServerMisbehaved::Decode(expected));
    }
}

/// with the nonce of the closing another ring follows from the same adverts: no client can choose its place.
#[test]
fn r05_the_closing_nonce_decides_the_ring() {
    let mut play = twelve();
    play.advertise();
    let ring = |nonce| {
        let received =
            Received { bodies: play.aggregator.received[&PhaseKind::Advertising].clone(), ..Received::default() };
        let (phase, _) = close(&play.world.facts, Phase::first(), received, [nonce; 32]);
        phase.assembly().expect("a roster").order().clone()
    };
    assert_eq!(ring(1), ring(1));
    assert_ne!(ring(1), ring(2));
}

/// ghosts that the aggregator makes up would hold shares and complete the ring around a target.
#[test]
fn r06_a_leaf_whose_certificate_the_authority_did_not_sign_stops_the_client() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let mut leaves = play.aggregator.received[&PhaseKind::Advertising].clone();
    let ghost = Liar::new(&play.world, 6);
    // All of a genuine certificate, but another identity key, signed by the aggregator in the authority's name.
    let genuine = member(&play, ghost.client()).certificate.encode();
    let mut statement = Signed::decode(&genuine, labels::CERTIFICATE).expect("as issued").statement().clone();
    statement.body[16..48].copy_from_slice(play.world.aggregator.public().as_bytes());
    let certificate = Certificate::decode(&statement.sign(&play.world.aggregator).encode()).expect("in form");
    let leaf =
        KeyAdvertisement::sign(certificate, ghost.keys, &play.world.facts.header, &play.world.aggregator).encode();
    let reason = CertificateError::Authority;
    let expected = Rejection::Certificate { client: ghost.client(), reason };

    let mut advertising = Aggregator::new(&play.world.facts.header.params);
    assert_eq!(refused(advertising.put(&play.world, ghost.client(), &leaf)), expected);
    leaves.insert(ghost.client(), leaf);
    let (roster, shown) = forged_roster(&play.world, &leaves);
    let (_, phase) = clients.pop_first().expect("twelve");
    let found = stopped(deal(&play.world, phase, &roster, &shown));
    assert_eq!(found, ServerMisbehaved::Member { leaf: 6, rejection: Box::new(expected) });
}

/// a roster that is replayed holds an older leaf of the client; its nonce is another.
#[test]
fn r06_a_roster_without_the_clients_own_fresh_leaf_stops_it() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let mut leaves = play.aggregator.received[&PhaseKind::Advertising].clone();
    let (target, phase) = clients.pop_first().expect("twelve");
    let older = Liar::new(&play.world, 0); // its own identity, in this round, with the keys of an earlier try
    leaves.insert(target, older.advert(&play.world));
    let (roster, shown) = forged_roster(&play.world, &leaves);
    assert_eq!(stopped(deal(&play.world, phase, &roster, &shown)), ServerMisbehaved::OwnLeaf);

    // Its own keys and nonce, under another identity that the authority certified for the same client.
    let (target, phase) = clients.pop_first().expect("eleven");
    let other = IdentitySecretKey::from_bytes(&[0x77; 32]);
    let own = play.aggregator.received[&PhaseKind::Advertising][&target].clone();
    let keys = *KeyAdvertisement::decode(&own).expect("its own").keys();
    let member = play.world.members.iter().find(|member| member.client() == target).expect("one of twelve");
    let body = CertificateBody { identity: other.public(), ..*member.certificate.body() };
    let certificate = Certificate::issue(body, &play.world.authority);
    let mut leaves = play.aggregator.received[&PhaseKind::Advertising].clone();
    leaves.insert(target, KeyAdvertisement::sign(certificate, keys, &play.world.facts.header, &other).encode());
    let (roster, shown) = forged_roster(&play.world, &leaves);
    assert_eq!(stopped(deal(&play.world, phase, &roster, &shown)), ServerMisbehaved::OwnLeaf);

    let (target, phase) = clients.pop_first().expect("ten");
    let without: BTreeMap<_, _> = play.aggregator.received[&PhaseKind::Advertising]
        .iter()
        .map(|(client, leaf)| (if *client == target { ClientId([0; 16]) } else { *client }, leaf.clone()))
        .collect();
    let (roster, _) = forged_roster(&play.world, &without);
    assert_eq!(stopped(phase.examine(&roster, now(), &mut os_rng())), ServerMisbehaved::OwnLeaf);
}

/// leaves are shown whole, as they were hashed, or the client stops.
#[test]
fn r06_a_leaf_that_is_withheld_or_exchanged_stops_the_client() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let (roster, shown) = forged_roster(&play.world, &play.aggregator.received[&PhaseKind::Advertising]);
    let (mut withheld, mut exchanged) = (shown.clone(), shown);
    withheld.remove(&LeafIndex(4));
    exchanged.insert(LeafIndex(4), Liar::new(&play.world, 4).advert(&play.world)); // its own, signed, but not that hashed
    for leaves in [withheld, exchanged] {
        let (_, phase) = clients.pop_first().expect("twelve");
        assert_eq!(stopped(deal(&play.world, phase, &roster, &leaves)), ServerMisbehaved::Leaf { leaf: 4 });
    }
}

/// beside its own, its neighbours' and the agreement set's leaves a client asks for 16 that nobody could foresee.
#[test]
fn r06_sixteen_leaves_are_drawn_after_the_roster_is_held() {
    let mut params = veilsum_crypto::params::RoundParams {
        security_bits: 4,
        completion_bits: 1,
        corrupt_fraction: 10_000,
        dropout_tolerance: 0,
        cohort_min: 2,
        ..small_params(48, 8)
    };
    params.ring_bits = params.ring_bits_needed().expect("a ring is wide enough");
    let mut play = Play::of(World::with_policy(params, |policy| {
        policy.security_bits_min = 4;
        policy.completion_bits_min = 1;
        policy.corrupt_fraction_min = 0;
    }));
    let mut clients = play.advertise();
    let (target, phase) = clients.pop_first().expect("48");
    let order = assembly(&play).order();
    let mut needed: std::collections::BTreeSet<_> = order.neighbours(leaf(&play, target)).into_iter().collect();
    needed.extend(order.agreement_set());
    needed.insert(leaf(&play, target));
    let roster = play.aggregator.served(&play.world, StatementKind::Roster);
    let draw = |phase: &AwaitingRoster| phase.examine(&roster, now(), &mut os_rng()).expect("an honest roster");
    let (one, two) = (draw(&phase), draw(&phase));
    assert!(needed.is_subset(one.wanted()));
    assert_eq!(one.wanted().len(), needed.len() + 16);
    assert_ne!(one.wanted(), two.wanted(), "nobody can foretell them");
    // Written down, they stay: a server that does not answer gets no second draw, whatever becomes of the process.
    let (disk, _) = play.world.written(phase.pin(&two));
    for _ in 0..2 {
        let Ok(Resumed::AwaitingRoster(phase, _)) = Resumed::open(&play.world.saving, &disk, member(&play, target))
        else {
            panic!("it waits for leaves");
        };
        assert_eq!(draw(&phase).wanted(), two.wanted());
    }
}

/// certificates are judged at the header's time; how far that may be from the client's clock, its policy says.
#[test]
fn r06_a_header_far_from_the_clients_clock_stops_it() {
    let world = World::new(small_params(12, 8));
    let late = judge(&world, world.enrolled(0), |header| header.opened_at = NOON.plus_ms(11 * 60 * 1_000));
    assert!(matches!(stopped(late), ServerMisbehaved::ClockApart { apart_s: 659, allowed_s: 600 }));
}

/// A world whose policy knows groups: at least `coverage_min` of one, `corrupt_of_group` of it corrupt.
fn grouped(coverage_min: u32, corrupt_of_group: u32) -> World {
    World::with_policy(small_params(12, 8), |policy| {
        policy.gamma = GammaBasis::CertifiedGroup { coverage_min, corrupt_of_group };
    })
}

fn first_dealer(world: World) -> Result<(), ServerMisbehaved> {
    let mut play = Play::of(world);
    let (_, phase) = play.advertise().pop_first().expect("twelve");
    let roster = play.aggregator.served(&play.world, StatementKind::Roster);
    let leaves = play.aggregator.leaves((0..12).map(LeafIndex));
    deal(&play.world, phase, &roster, &leaves).map(drop)
}

/// 50 liars of 1,000, gathered in a roster of 100, own a chosen client; so a roster covers one certified group.
#[test]
fn r07_a_roster_gathered_from_groups_stops_the_client() {
    assert_eq!(first_dealer(grouped(500_000, 20_000)), Ok(()), "the whole of one group");
    let mut mixed = grouped(500_000, 20_000);
    certify(&mut mixed, 7, |body| body.group = 1);
    assert_eq!(first_dealer(mixed), Err(ServerMisbehaved::GroupCoverage));
    let mut gathered = grouped(500_000, 20_000);
    (0..12).for_each(|number| certify(&mut gathered, number, |body| body.group_size = 25));
    assert_eq!(first_dealer(gathered), Err(ServerMisbehaved::GroupCoverage), "12 of 25 are less than a half");
}

/// gamma is at least the corrupt part of the group over its coverage, in exact fractions.
#[test]
fn r07_a_gamma_below_that_of_the_group_stops_the_client() {
    let world = grouped(300_000, 50_000);
    let at = |gamma| {
        judge(&world, world.enrolled(0), |header| {
            header.params.corrupt_fraction = gamma;
            header.params.ring_bits = RingBits::MAX;
        })
    };
    let found = stopped(at(166_666)); // one sixth of a million is 166,666 and two thirds
    assert!(
        matches!(found, ServerMisbehaved::BelowPolicy { what: "corrupt_fraction over group coverage", .. }),
        "{found}"
    );
    assert!(at(166_667).is_ok());
}

/// a client that takes gamma on trust says so.
#[test]
fn r07_an_assumed_gamma_is_said_aloud() {
    let world = World::new(small_params(12, 8));
    let said = world.members[0].policy.assumptions();
    assert!(said.iter().any(|line| line.contains("gamma is assumed per roster")), "{said:?}");
}

/// until clients hold the roster the aggregator redraws the ring; the larger of two clocks bounds how often.
#[test]
fn r08_a_roster_that_comes_late_or_under_a_clock_set_back_stops_the_client() {
    let mut play = twelve();
    let (_, phase) = play.advertise().pop_first().expect("twelve");
    let roster = play.aggregator.served(&play.world, StatementKind::Roster);
    let at = |wall_ms: u64, monotonic_ms| {
        let now = Moment { wall: NOON.plus_ms(wall_ms), monotonic_ms };
        phase.examine(&roster, now, &mut os_rng()).map(drop)
    };
    let deadline_ms = play.world.members[0].policy.roster_deadline_ms;
    let late = Err(ServerMisbehaved::RosterLate { after_ms: deadline_ms + 1, deadline_ms });
    assert_eq!(at(100 + deadline_ms, 100 + deadline_ms), Ok(()), "in time: both clocks stood at 100 ms");
    assert_eq!(at(101 + deadline_ms, 200), late, "by the wall clock");
    assert_eq!(at(200, 101 + deadline_ms), late, "by the monotonic clock, the wall clock was held");
    assert_eq!(at(99, 200), Err(ServerMisbehaved::ClockBackwards));
    assert_eq!(at(200, 99), Err(ServerMisbehaved::ClockBackwards));
}

/// after a restart the monotonic clock begins anew; the advert's wall time was written down.
#[test]
fn r08_a_restart_does_not_stop_the_clock() {
    let mut play = twelve();
    let header = play.world.header();
    let step = play.world.enrolled(0).advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng());
    let (disk, sent) = play.world.written(step.expect("an honest header"));
    let liar = play.world.members[0].client();
    advertise_with(&mut play, &[(liar, sent)]);
    let Ok(Resumed::AwaitingRoster(phase, _)) = Resumed::open(&play.world.saving, &disk, &play.world.members[0]) else {
        panic!("it waits for the roster");
    };
    let roster = play.aggregator.served(&play.world, StatementKind::Roster);
    let at = |wall_ms| {
        let now = Moment { wall: NOON.plus_ms(wall_ms), monotonic_ms: 0 };
        phase.examine(&roster, now, &mut os_rng()).map(drop)
    };
    let deadline_ms = play.world.members[0].policy.roster_deadline_ms;
    assert_eq!(at(100 + deadline_ms), Ok(()));
    assert_eq!(at(101 + deadline_ms), Err(ServerMisbehaved::RosterLate { after_ms: deadline_ms + 1, deadline_ms }));
}

/// who copies another's key answers in its place, or cancels its mask.
#[test]
fn r09_a_key_in_two_leaves_stops_the_client() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let mut leaves = play.aggregator.received[&PhaseKind::Advertising].clone();
    let victim = *KeyAdvertisement::decode(&leaves[&client_id(3)]).expect("admitted").keys();
    let copies: [fn(&mut RoundKeys, &RoundKeys); 3] = [
        |keys, victim| keys.channel = victim.channel,
        |keys, victim| keys.masking = victim.masking,
        |keys, victim| keys.self_mask.0 = victim.masking.0, // across kinds too
    ];
    for copy in copies {
        let mut liar = Liar::new(&play.world, 8);
        copy(&mut liar.keys, &victim);
        leaves.insert(liar.client(), liar.advert(&play.world));
        let (roster, shown) = forged_roster(&play.world, &leaves);
        let (_, phase) = clients.pop_first().expect("twelve");
        assert_eq!(stopped(deal(&play.world, phase, &roster, &shown)), ServerMisbehaved::SharedKey);
        // At admission: both claim the key; the store gives it to the first, and the other is answered 409.
        let claims = |leaf: &[u8]| {
            let client = KeyAdvertisement::decode(leaf).expect("in form").client();
            let accepted = accept(&play.world.facts, &Phase::first(), PhaseKind::Advertising, client, leaf);
            accepted.expect("its own keys differ").claims().to_vec()
        };
        let honest = claims(&leaves[&client_id(3)]);
        assert!(claims(&leaves[&liar.client()]).iter().any(|claim| honest.contains(claim)));
    }
}

/// one key for two purposes in one leaf, and keys whose agreed secret anybody can guess.
#[test]
fn r09_degenerate_keys_are_refused_at_admission() {
    let world = World::new(small_params(12, 8));
    let mut liar = Liar::new(&world, 2);
    let put = |leaf: &[u8]| Aggregator::new(&world.facts.header.params).put(&world, client_id(2), leaf);
    let honest = liar.advert(&world);
    assert_eq!(put(&honest), Ok(()));
    liar.keys.self_mask.0 = liar.keys.masking.0;
    assert_eq!(refused(put(&liar.advert(&world))), Rejection::RepeatedKey);

    // The identity for S, and 0 (of small order) for C, in an advert that is signed as it should be.
    let parts = KeyAdvertisement::decode(&honest).expect("in form");
    for (at, field) in [(0, "point"), (64, "channel key")] {
        let chain = world.facts.chain;
        let keys = parts.keys();
        let mut body = [keys.masking.0.as_bytes(), keys.self_mask.0.as_bytes(), keys.channel.as_bytes(), &keys.nonce]
            .map(|k| *k)
            .concat();
        body[at..at + 32].fill(0);
        let advert =
            chain.from_client(client_id(2), chain.context).statement(labels::ADVERT, body).sign(liar.identity());
        let mut leaf = Vec::new();
        write_prefixed(&mut leaf, &parts.certificate().encode());
        write_prefixed(&mut leaf, &advert.encode());
        let found = refused(put(&leaf));
        assert!(
            matches!(found, Rejection::Decode(DecodeError::NotCanonical { field: of, .. }) if of == field),
            "{found}"
        );
    }
}

/// a ring that wraps is silently wrong, and noise carried by nobody honest is no noise.
#[test]
fn r14_parameters_that_do_not_hold_for_every_permitted_roster_stop_the_client() {
    let world = World::new(small_params(12, 8));
    let needed = world.facts.header.params.ring_bits.get();
    let narrow = judge(&world, world.enrolled(0), |header| {
        header.params.ring_bits = RingBits::new(needed - 1).expect("in range");
    });
    assert_eq!(stopped(narrow), ServerMisbehaved::Params(ParamsError::Headroom { needed, found: needed - 1 }));
    let nobody = judge(&world, world.enrolled(0), |header| header.params.corrupt_fraction = 990_000);
    assert!(matches!(stopped(nobody), ServerMisbehaved::Params(ParamsError::NobodyHonest { .. })));
}

/// h honest members of the smallest permitted sum carry all of the noise that is promised.
#[test]
fn r14_the_noise_is_sized_for_the_honest_of_the_smallest_permitted_sum() {
    for n in [8, 12, 20, 64] {
        let round = demo_params(n);
        let params = RosterParams::derive(n, &round).expect("feasible");
        let honest = u64::from(round.cohort_min.max(n - params.tolerated) - params.corrupt);
        assert_eq!(u64::from(params.honest), honest);
        assert!(params.share_variance * honest >= round.total_variance, "n = {n}: rounded up, not down");
    }
}

/// one client sees a log that shrank, forked or grew without proof; that it sees no more, its report says.
#[test]
fn r33_a_log_that_was_rewritten_stops_the_client() {
    let world = World::new(small_params(12, 8));
    let entries: Vec<_> = (0..7_u8).map(|entry| merkle::leaf_hash(&[&[entry]])).collect();
    let head = |size: usize| TreeHead { size: size as u64, root: merkle::root(&entries[..size]) };
    let after_five = || after_round_one(&world, &HeaderEvidence::default(), |header| header.log = head(5));
    let grown = |log: TreeHead, log_growth: Vec<Digest>| {
        let header = Header { counter: 2, log, ..world.facts.header.clone() };
        let evidence = HeaderEvidence { log_growth, ..HeaderEvidence::default() };
        after_five().advertise(TASK, &world.signed(header.statement()), &evidence, now(), &mut os_rng())
    };
    let forked = TreeHead { root: Digest([6; 32]), ..head(5) };
    let proof = merkle::consistency_path(&entries, 5);
    for (log, path) in
        [(head(4), Vec::new()), (forked, Vec::new()), (head(7), Vec::new()), (head(7), proof[1..].to_vec())]
    {
        let expected = ServerMisbehaved::LogRewritten { last: 5, found: log.size };
        assert_eq!(stopped(grown(log, path)), expected);
    }
    // A size that no log reaches, proved with invented hashes, would lock the client out of every honest header.
    let far = TreeHead { size: 1 << 33, root: Digest([6; 32]) };
    let first = judge(&world, world.enrolled(0), |header| header.log = far);
    assert_eq!(stopped(first), ServerMisbehaved::LogRewritten { last: 0, found: 1 << 33 });
    assert!(grown(head(7), proof).is_ok());
    let said = world.members[0].policy.assumptions();
    assert!(said.iter().any(|line| line.starts_with("unwitnessed")), "{said:?}");
}

/// A round whose header names list `number`, which ends the certificates of these clients.
fn with_revocations(number: u64, ended: &[ClientId]) -> (World, HeaderEvidence) {
    let mut world = World::new(small_params(12, 8));
    let list = RevocationList::issue(number, ended.iter().map(|client| (*client, NOON)).collect(), &world.authority);
    let (revocation_number, revocation_digest) = (number, list.digest());
    let header = Header { revocation_number, revocation_digest, ..world.facts.header.clone() };
    let evidence = HeaderEvidence { revocations: list.encode(), ..HeaderEvidence::default() };
    world.facts = RoundFacts::new(header, list);
    (world, evidence)
}

/// a stolen identity key stops working: at admission, at its peers, and at the device itself.
#[test]
fn r36_a_revoked_certificate_is_refused_on_both_sides() {
    let stolen = client_id(7);
    let (world, evidence) = with_revocations(3, &[stolen]);
    let reason = CertificateError::Revoked;
    let expected = Rejection::Certificate { client: stolen, reason };
    let header = world.header();
    let advertise = |number: usize| world.enrolled(number).advertise(TASK, &header, &evidence, now(), &mut os_rng());
    let own = ServerMisbehaved::Member { leaf: u32::MAX, rejection: Box::new(expected.clone()) };
    assert_eq!(stopped(advertise(7)), own);

    let thief = Liar::new(&world, 7).advert(&world);
    let admitted = Aggregator::new(&world.facts.header.params).put(&world, stolen, &thief);
    assert_eq!(refused(admitted), expected);

    let mut leaves = BTreeMap::from([(stolen, thief)]);
    let mut target = None;
    for number in (0..12).filter(|number| *number != 7) {
        let (phase, leaf) = world.turn(advertise(number).expect("not revoked"));
        leaves.insert(client_id(number as u32), leaf);
        target = Some(phase);
    }
    let (roster, shown) = forged_roster(&world, &leaves);
    let found = stopped(deal(&world, target.expect("eleven"), &roster, &shown));
    assert_eq!(found, ServerMisbehaved::Member { leaf: 7, rejection: Box::new(expected) });
}

/// with an older list, or another under its number, the thief is back.
#[test]
fn r36_an_older_or_another_list_stops_the_client() {
    let (world, evidence) = with_revocations(3, &[client_id(7)]);
    let seen = after_round_one(&world, &evidence, |_| {});
    let older = judge(&world, seen, |header| {
        header.counter = 2;
        header.revocation_number = 0;
        header.revocation_digest = Digest::NONE;
    });
    let said = "the header names an older revocation list than one this client saw";
    assert_eq!(stopped(older), ServerMisbehaved::Revocation(said));

    let other = RevocationList::issue(3, BTreeMap::new(), &world.authority).encode();
    let evidence = HeaderEvidence { revocations: other, ..HeaderEvidence::default() };
    let header = world.header();
    let step = world.enrolled(0).advertise(TASK, &header, &evidence, now(), &mut os_rng());
    let said = "the revocation list is not the one that the header names";
    assert_eq!(stopped(step), ServerMisbehaved::Revocation(said));
}

/// the authority signs one list a number; two are a fork, and the client keeps to the one it saw.
#[test]
fn r36_another_list_under_a_number_it_saw_stops_the_client() {
    let (world, evidence) = with_revocations(3, &[client_id(7)]);
    let seen = after_round_one(&world, &evidence, |_| {});
    let list = RevocationList::issue(3, BTreeMap::new(), &world.authority);
    let header = Header { counter: 2, revocation_digest: list.digest(), ..world.facts.header.clone() };
    let evidence = HeaderEvidence { revocations: list.encode(), ..HeaderEvidence::default() };
    let step = seen.advertise(TASK, &world.signed(header.statement()), &evidence, now(), &mut os_rng());
    let said = "the header names another revocation list under a number this client saw";
    assert_eq!(stopped(step), ServerMisbehaved::Revocation(said));
}

/// a certificate lives at most 30 days.
#[test]
fn r36_a_certificate_for_longer_than_thirty_days_is_refused() {
    let mut world = World::new(small_params(12, 8));
    certify(&mut world, 2, |body| body.not_after = NOON.plus_ms(30 * 24 * 60 * 60 * 1_000 + 1));
    let leaf = Liar::new(&world, 2).advert(&world);
    let found = refused(Aggregator::new(&world.facts.header.params).put(&world, client_id(2), &leaf));
    assert_eq!(found, Rejection::Certificate { client: client_id(2), reason: CertificateError::TooLong });
}
