//! The core at clients, masking, uploads, charges.

use rand_core::{CryptoRng, Infallible, TryCryptoRng, TryRng};
use veilsum_crypto::client::memory::charge_key;
use veilsum_crypto::client::policy::round_charge_of;
use veilsum_crypto::client::*;
use veilsum_crypto::ids::*;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::masked_input::Upload;
use veilsum_crypto::messages::*;
use veilsum_crypto::primitives::agreement::{ChannelSecretKey, MaskingSecretKey, SelfMaskSecret};
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::privacy::budget::{Budget, Ledger};
use veilsum_crypto::privacy::skellam::SkellamSampler;
use veilsum_crypto::rules::{Abandonment, Rejection, ServerMisbehaved};
use veilsum_crypto::server::*;
use veilsum_crypto::testing::*;
use veilsum_crypto::update::{ModelUpdate, Privacy, UpdateError, prepare};

use crate::stage::*;

/// Clients ready to mask, and the bytes of a core that the aggregator signs for them.
fn shown(play: &Play, members: Bitmap) -> Vec<u8> {
    play.world.signed(core_of(play, members).statement().clone())
}

/// the first valid core is written down; another one stops the client, also after a restart.
#[test]
fn r02_a_second_core_stops_the_client() {
    let mut play = twelve();
    let mut clients = acknowledged(&mut play);
    let (target, phase) = clients.pop_first().expect("twelve");
    let first = play.aggregator.served(&play.world, StatementKind::Core);
    let far = (0..12).map(client_id).find(|id| *id != target && !neighbours(&play, target).contains(id));
    let second = shown(&play, all_but(&play, &[far.expect("k < n - 1")]));
    let (disk, sent) = play.world.written(phase.pin(&first).expect("an honest core"));
    assert_eq!(sent, [0; 0]);
    let Ok(Resumed::ReadyToMask(phase, _)) = Resumed::open(&play.world.saving, &disk, member(&play, target)) else {
        panic!("it is ready to mask");
    };
    assert_eq!(stopped(mask(&play, phase, &second)), ServerMisbehaved::SecondCore);
}

/// a server that shows the target an empty mailbox has its input masked by b alone: with no neighbour in the core.
/// The target acknowledged nothing, and whatever core it is shown, it does not mask.
#[test]
fn r17_a_client_with_an_empty_mailbox_masks_nothing() {
    let mut play = twelve();
    let clients = play.advertise();
    let mut clients = play.share(clients);
    let (target, phase) = clients.pop_first().expect("twelve");
    let (ready, body) = play.world.turn(phase.acknowledge(&[]).expect("an empty mailbox"));
    assert_eq!(Acknowledgement::decode(&body, 8).expect("as sent").reports(), [EdgeReport::Missing; 8]);
    let near: Vec<_> = neighbours(&play, target);
    let far = shown(&play, all_but(&play, &near));
    let threshold = assembly(&play).params().threshold;
    let step = mask(&play, ready, &far);
    assert_eq!(stopped(step), ServerMisbehaved::NeighboursInCore { found: 0, needed: threshold });
}

/// fewer than t neighbours in an otherwise large core: few masks to remove, and too few to open the own.
#[test]
fn r17_a_client_with_too_few_neighbours_in_the_core_stops() {
    let mut play = thin();
    let mut clients = acknowledged(&mut play);
    let (target, phase) = clients.pop_first().expect("twenty");
    let near = neighbours(&play, target);
    let core = all_but(&play, &near[..3]);
    assert_eq!(core.count(), assembly(&play).params().survivors_min, "large enough");
    let step = mask(&play, phase, &shown(&play, core));
    assert_eq!(stopped(step), ServerMisbehaved::NeighboursInCore { found: 3, needed: 4 });
}

/// a small core is a small sum.
#[test]
fn r17_a_core_below_the_floor_stops_the_client() {
    let mut play = twelve();
    let mut clients = acknowledged(&mut play);
    let (target, phase) = clients.pop_first().expect("twelve");
    let near = neighbours(&play, target);
    let others: Vec<_> = (0..12).map(client_id).filter(|id| *id != target && !near.contains(id)).collect();
    let core = all_but(&play, &[&others[..], &near[..1]].concat());
    assert_eq!(core.count_of(&assembly(&play).order().neighbours(leaf(&play, target))), 7, "neighbours enough");
    let step = mask(&play, phase, &shown(&play, core));
    assert_eq!(stopped(step), ServerMisbehaved::CoreTooSmall { found: 8, needed: 9 });
}

/// who is not in the core has no shares in place; its upload could not be opened, or only by the server.
#[test]
fn r17_a_client_that_is_not_in_the_core_stops_and_is_refused() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let outside = lose(&mut clients, 1)[0];
    let clients = play.share(clients);
    let mut clients = play.acknowledge(clients);
    let (target, phase) = clients.pop_first().expect("eleven");
    let step = mask(&play, phase, &shown(&play, all_but(&play, &[target])));
    assert_eq!(stopped(step), ServerMisbehaved::NotInCore);
    let judged = play.aggregator.put(&play.world, outside, b"whatever it is");
    assert_eq!(refused(judged), Rejection::NotInCore { client: outside });
}

/// mailboxes split so that two halves see two cores would give two sums over a few neighbours each. The upload names
/// its core: under the other the aggregator itself refuses it, and the other half does not take it for a survivor's.
#[test]
fn r17_clients_shown_two_cores_do_not_survive_each_other() {
    let mut play = twelve();
    let mut clients = acknowledged(&mut play);
    let (target, phase) = clients.pop_first().expect("twelve");
    let far = (0..12).map(client_id).find(|id| *id != target && !neighbours(&play, target).contains(id));
    let other = shown(&play, all_but(&play, &[far.expect("k < n - 1")]));
    let (_, body) = play.world.turn(mask(&play, phase, &other).expect("it cannot know"));
    assert_eq!(refused(play.aggregator.put(&play.world, target, &body)), Rejection::OutOfChain);

    let near = neighbours(&play, target)[0];
    let packed = play.world.facts.header.params.packed_bytes();
    let mut clients = play.mask(clients);
    let witness = clients.remove(&near).expect("it uploaded");
    let mut statements = uploads(&play, near);
    statements.push(body[..body.len() - packed].to_vec());
    let step = witness.confirm(&survivors_of(&play, all_but(&play, &[])), &statements);
    assert_eq!(stopped(step), ServerMisbehaved::UploadSignature { leaf: leaf(&play, target).0 });
}

/// the set of masks follows from ring and core. A client whose neighbour dealt it garbage masks with it all the same:
/// otherwise the server, who knows of the complaint, removes a mask that was never added, and learns a difference.
#[test]
fn r18_a_client_masks_with_every_neighbour_in_the_core_also_without_its_share() {
    let mut play = twelve();
    let mut liar = Liar::new(&play.world, 5);
    let advert = liar.advert(&play.world);
    let clients = advertise_with(&mut play, &[(liar.client(), advert)]);
    let victim = leaf(&play, neighbours(&play, liar.client())[0]);
    let message = liar.deal(&play, |dealt| dealt.garbled = dealt.holder == victim);
    play.put(liar.client(), &message);
    let clients = play.share(clients);
    let acknowledgement = liar.acknowledgement(&play);
    play.put(liar.client(), &acknowledgement);
    let clients = play.acknowledge(clients);
    let opening = liar.opening(&play, victim, liar.pair(victim));
    play.put(liar.client(), &opening);
    play.aggregator.close(&play.world);
    assert!(core_in_force(&play).members().has(leaf(&play, liar.client())), "the opening settled the edge");
    finish(&mut play, clients); // the opening is withheld from the victim, and the liar vanishes
}

/// a vector that is not the one signed.
#[test]
fn r19_a_vector_that_was_not_signed_is_refused() {
    let mut play = twelve();
    let mut clients = acknowledged(&mut play);
    let core = play.aggregator.served(&play.world, StatementKind::Core);
    let (client, phase) = clients.pop_first().expect("twelve");
    let (_, body) = play.world.turn(mask(&play, phase, &core).expect("an honest core"));
    let mut altered = body.clone();
    *altered.last_mut().expect("a vector") ^= 1;
    assert_eq!(refused(play.aggregator.put(&play.world, client, &altered)), Rejection::NotTheSignedVector);
    assert_eq!(play.aggregator.put(&play.world, client, &body), Ok(()));
}

/// R-19, §4.1: two uploads that one client signed are kept, and name it; what somebody else can have made of its one upload
/// names nobody.
#[test]
fn r19_a_second_upload_names_its_sender_if_it_signed_both() {
    let mut play = twelve();
    let mut clients = acknowledged(&mut play);
    let core = play.aggregator.served(&play.world, StatementKind::Core);
    let (client, phase) = clients.pop_first().expect("twelve");
    let (_, body) = play.world.turn(mask(&play, phase, &core).expect("an honest core"));
    play.put(client, &body);
    let leaf = play.aggregator.received[&PhaseKind::Advertising][&client].clone();
    let admitted = play.aggregator.received[&PhaseKind::Masking][&client].clone();
    let blamed = |message: &[u8], refused: Option<&Rejection>| {
        let (facts, by) = (&play.world.facts, Some(assembly(&play)));
        is_signed_by(facts, by, PhaseKind::Masking, client, message)
            .then(|| blame(PhaseKind::Masking, client, refused, Some(&leaf), Some(&admitted), message))
            .flatten()
    };
    let zeros = RingVector::zeros(8, play.world.facts.header.params.ring_bits);
    let signed =
        |key| MaskedInput::sign(&zeros, &play.world.facts.chain, core_in_force(&play).root(), client, key).encode();
    let second = signed(&member(&play, client).identity);
    let statement = |body: &[u8]| Upload::decode(&body[..223]).expect("signed").signed().encode();
    let evidence =
        Evidence::Contradiction { leaf: leaf.clone(), first: statement(&body), second: statement(&second) }.encode();
    assert_eq!(blamed(&second, None), Some(Effect::Fault { client, rule: 19, evidence }));

    let mut altered = body.clone();
    *altered.last_mut().expect("a vector") ^= 1;
    assert_eq!(blamed(&altered, Some(&Rejection::NotTheSignedVector)), None, "the network named an honest client");
    assert_eq!(blamed(&body, None), None, "the same again");
    assert_eq!(blamed(&signed(&play.world.aggregator), None), None, "the aggregator named an honest client");
    assert_eq!(blamed(b"noise", None), None);
}

/// the same upload again succeeds and is counted once; another upload of the client is told apart by its digest, which
/// is what the store answers 409 by.
#[test]
fn r19_an_upload_sent_again_is_counted_once() {
    let mut play = twelve();
    let mut clients = acknowledged(&mut play);
    let core = play.aggregator.served(&play.world, StatementKind::Core);
    let (client, phase) = clients.pop_first().expect("twelve");
    let update = play.world.update(1.0, 0, phase.share_variance());
    play.noised.insert(client, update.values().to_vec());
    let (phase, body) = play.world.turn(phase.mask(&core, update).expect("an honest core"));
    let digest = |body: &[u8]| {
        let judged = accept(&play.world.facts, &play.aggregator.phase, PhaseKind::Masking, client, body);
        judged.expect("signed").digest()
    };
    let other = {
        let vector = RingVector::zeros(8, play.world.facts.header.params.ring_bits);
        let core = core_in_force(&play).root();
        MaskedInput::sign(&vector, &play.world.facts.chain, core, client, &member(&play, client).identity).encode()
    };
    assert_eq!(digest(&body), digest(&body));
    assert_ne!(digest(&body), digest(&other), "other bytes pass for the same");
    play.put(client, &body);
    play.put(client, &body);
    let mut all = play.mask(clients);
    all.insert(client, phase);
    let all = play.confirm(all);
    let all = play.unmask(all);
    verify(&play, all);
}

/// The ledger of a client that gives up where this was written.
fn ledger(play: &Play, number: usize, disk: &[u8]) -> Ledger {
    let resumed = Resumed::open(&play.world.saving, disk, &play.world.members[number]).expect("as written");
    let (enrolled, _) = play.world.turn(resumed.give_up());
    enrolled.memory().ledger().clone()
}

/// the charge stands with the masked bytes, before the first of them is sent; giving up later refunds nothing, and
/// before that nothing was charged.
#[test]
fn r26_a_client_charges_its_ledger_with_the_masked_bytes() {
    let mut play = twelve();
    let clients = play.advertise();
    let mut clients = play.share(clients);
    let (target, phase) = clients.pop_first().expect("twelve");
    let mail = play.aggregator.mail[&target].clone();
    let (before, body) = play.world.written(phase.acknowledge(&mail).expect("honest mail"));
    assert_eq!(ledger(&play, 0, &before), Ledger::default(), "nothing was uploaded");
    let Ok(Resumed::ReadyToMask(phase, _)) = Resumed::open(&play.world.saving, &before, &play.world.members[0]) else {
        panic!("it is ready to mask");
    };
    play.put(target, &body);
    play.acknowledge(clients);
    let core = play.aggregator.served(&play.world, StatementKind::Core);
    let (after, _) = play.world.written(mask(&play, phase, &core).expect("an honest core"));
    let mut charged = Ledger::default();
    charged.charge(
        charge_key(&play.world.aggregator.public(), TASK, 1),
        round_charge_of(&play.world.facts.header.params).expect("there is noise"),
    );
    assert!(ledger(&play, 0, &after) == charged, "the upload was not charged");
}

/// a budget that covers one round stops the client before the second, at its advert; keyed charges count once.
#[test]
fn r26_a_client_whose_budget_is_spent_takes_no_part() {
    let params = small_params(12, 8);
    let charge = round_charge_of(&params).expect("there is noise");
    let one_round = charge.epsilon(1e-5).epsilon;
    let mut play = Play::of(World::with_policy(params, |policy| {
        policy.budget = Budget { epsilon: one_round * 1.01, delta: 1e-5 };
    }));
    let mut clients = acknowledged(&mut play);
    let core = play.aggregator.served(&play.world, StatementKind::Core);
    let (_, phase) = clients.pop_first().expect("twelve");
    let (disk, _) = play.world.written(mask(&play, phase, &core).expect("within the budget"));
    let resumed = Resumed::open(&play.world.saving, &disk, &play.world.members[0]).expect("as written");
    let (enrolled, _) = play.world.turn(resumed.give_up());
    let header = Header { counter: 2, ..play.world.facts.header.clone() };
    let header = play.world.signed(header.statement());
    let step = enrolled.advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng());
    assert!(matches!(stopped(step), ServerMisbehaved::Budget { budget, .. } if budget == one_round * 1.01));

    let mut ledger = Ledger::default();
    ledger.charge((TASK.0, 1), charge.clone());
    let once = ledger.clone();
    ledger.charge((TASK.0, 1), charge);
    assert_eq!(ledger, once, "a charge repeated under its key counts once");
}

/// limits of the client's own, stated in its policy and enforced by its saved ledger: so many rounds of a task, so far apart.
/// C-293
#[test]
fn r26_a_client_takes_part_in_as_many_rounds_and_as_far_apart_as_it_permits_itself() {
    type Change = fn(&mut Policy);
    let limits: [(Change, u64, Option<ServerMisbehaved>); 5] = [
        (|policy| policy.rounds_max = Some(1), 2, Some(ServerMisbehaved::RoundsTaken { taken: 1, allowed: 1 })),
        (|policy| policy.rounds_max = Some(2), 2, None),
        (|policy| policy.rounds_apart_min = 3, 3, Some(ServerMisbehaved::RoundsApart { last: 1, found: 3, apart: 3 })),
        (|policy| policy.rounds_apart_min = 3, 4, None),
        (|policy| (policy.noise_multiplier_min, policy.rounds_max) = (0.0, Some(1)), 2, None),
    ];
    for (at, (change, counter, expected)) in limits.into_iter().enumerate() {
        let mut params = small_params(12, 8);
        let without_noise = at == 4; // no bound to charge: the round counts all the same
        if without_noise {
            params.total_variance = 0;
        }
        let mut play = Play::of(World::with_policy(params, change));
        let mut clients = acknowledged(&mut play);
        let core = play.aggregator.served(&play.world, StatementKind::Core);
        let (_, phase) = clients.pop_first().expect("twelve");
        let (disk, _) = play.world.written(mask(&play, phase, &core).expect("its first round"));
        let resumed = Resumed::open(&play.world.saving, &disk, &play.world.members[0]).expect("as written");
        let (enrolled, _) = play.world.turn(resumed.give_up());
        let header = Header { counter, ..play.world.facts.header.clone() };
        let header = play.world.signed(header.statement());
        let step = enrolled.advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng());
        let expected =
            if without_noise { Some(ServerMisbehaved::RoundsTaken { taken: 1, allowed: 1 }) } else { expected };
        assert_eq!(step.map(drop).err(), expected, "{at}");
    }
}

/// the charge is spent in the very close that fixes the core; a round abandoned before lapses, one abandoned
/// after does not; and every statement is fixed once.
#[test]
fn r26_the_round_is_charged_with_the_core_and_never_refunded() {
    let charged = |lost: [usize; 6]| {
        let mut play = twelve();
        let mut clients = play.advertise();
        lose(&mut clients, lost[1]);
        let mut clients = play.share(clients);
        let mut over = play.aggregator.phase.kind().is_over();
        if !over {
            lose(&mut clients, lost[2]);
            let mut clients = play.acknowledge(clients);
            over = play.aggregator.phase.kind().is_over();
            if !over {
                lose(&mut clients, lost[3]);
                let mut clients = play.mask(clients);
                over = play.aggregator.phase.kind().is_over();
                if !over {
                    lose(&mut clients, lost[4]);
                    let mut clients = play.confirm(clients);
                    over = play.aggregator.phase.kind().is_over();
                    if !over {
                        lose(&mut clients, lost[5]);
                        play.unmask(clients);
                    }
                }
            }
        }
        let reason = match play.aggregator.phase {
            Phase::Abandoned(reason, _) => Some(reason),
            _ => None,
        };
        let effects = &play.aggregator.effects;
        let count = |wanted: &Effect| effects.iter().filter(|effect| *effect == wanted).count();
        let spend = effects.iter().position(|effect| *effect == Effect::Spend);
        let before_spend =
            spend.map(|at| matches!(effects[at - 1], Effect::Statement { kind: StatementKind::Core, .. }));
        for kind in [StatementKind::Roster, StatementKind::Core, StatementKind::Survivors, StatementKind::Result] {
            let fixed =
                effects.iter().filter(|effect| matches!(effect, Effect::Statement { kind: of, .. } if *of == kind));
            assert!(fixed.count() <= 1, "R-30: a second statement of one kind");
        }
        assert_eq!(count(&Effect::Erase), 1, "a round that is over is erased");
        (reason, before_spend, count(&Effect::Lapse))
    };
    // How many are lost in share, acknowledge, mask, confirm, unmask.
    assert_eq!(charged([0, 4, 0, 0, 0, 0]), (Some(Abandonment::CoreTooSmall), None, 1));
    assert_eq!(charged([0, 0, 4, 0, 0, 0]), (Some(Abandonment::CoreTooSmall), None, 1));
    assert_eq!(charged([0, 0, 0, 4, 0, 0]), (Some(Abandonment::TooFewSurvivors), Some(true), 0));
    assert_eq!(charged([0, 0, 0, 0, 10, 0]), (Some(Abandonment::NotConfirmed), Some(true), 0));
    assert_eq!(charged([0, 0, 0, 0, 0, 10]), (Some(Abandonment::NotOpened), Some(true), 0));
    assert_eq!(charged([0, 0, 0, 0, 0, 0]), (None, Some(true), 0));
}

/// too few adverts: there is no roster, and what was reserved lapses.
#[test]
fn r26_a_round_without_roster_lapses() {
    let mut play = twelve();
    play.aggregator.close(&play.world);
    assert!(matches!(play.aggregator.phase, Phase::Abandoned(Abandonment::RosterTooSmall, None)));
    assert_eq!(play.aggregator.effects, [Effect::Lapse, Effect::Erase]);
}

/// an input that comes after its pairwise masks were opened is masked by b alone. It is refused, and not kept.
#[test]
fn r30_an_upload_after_the_survivors_were_fixed_is_refused() {
    let mut play = twelve();
    let mut clients = acknowledged(&mut play);
    let core = play.aggregator.served(&play.world, StatementKind::Core);
    let (late, phase) = clients.pop_first().expect("twelve");
    let (_, body) = play.world.turn(mask(&play, phase, &core).expect("an honest core"));
    let clients = play.mask(clients);
    let judged = |play: &Play| {
        refused(accept(&play.world.facts, &play.aggregator.phase, PhaseKind::Masking, late, &body).map(drop))
    };
    assert_eq!(judged(&play), Rejection::PhaseClosed);
    let clients = play.confirm(clients);
    assert_eq!(judged(&play), Rejection::PhaseClosed);
    play.unmask(clients);
    assert_eq!(judged(&play), Rejection::RoundOver);
}

/// A generator that can be run twice from one seed, so that the test knows a client's secrets.
struct Replayed(u64);

impl TryRng for Replayed {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|word| word as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        // splitmix64: nothing here is secret
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(z ^ (z >> 31))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}
impl TryCryptoRng for Replayed {}

fn replayed() -> impl CryptoRng {
    Replayed(31)
}

/// whoever takes the device later must not unmask what was sent: c is gone once mail was opened, s and b once the
/// masked bytes are written down, the shares of others with the answer.
#[test]
fn r31_a_device_taken_later_holds_no_secret_of_the_round() {
    let mut play = twelve();
    let mut rng = replayed();
    let masking = MaskingSecretKey::generate(&mut rng).to_scalar();
    let self_mask = SelfMaskSecret::generate(&mut rng).to_scalar();
    let channel = ChannelSecretKey::generate(&mut rng).to_bytes();
    let me = play.world.members[0].clone();
    let on = |play: &Play, disk: &[u8]| {
        let plain = play.world.saving.open(disk).expect("as written");
        let holds = |secret: &[u8]| plain.windows(secret.len()).any(|window| window == secret);
        [holds(masking.as_bytes()), holds(self_mask.as_bytes()), holds(&channel[..])]
    };
    let resume = |play: &Play, disk: &[u8]| Resumed::open(&play.world.saving, disk, &me).expect("as written");

    let header = play.world.header();
    let step = play.world.enrolled(0).advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut replayed());
    let (disk, advert) = play.world.written(step.expect("an honest header"));
    assert_eq!(on(&play, &disk), [true; 3], "s, b and c are needed");
    let others = advertise_with(&mut play, &[(me.client(), advert)]);
    let Resumed::AwaitingRoster(phase, _) = resume(&play, &disk) else { panic!("it advertised") };
    let roster = play.aggregator.served(&play.world, StatementKind::Roster);
    let leaves = play.aggregator.leaves((0..12).map(LeafIndex));
    let (disk, shares) = play.world.written(deal(&play.world, phase, &roster, &leaves).expect("an honest roster"));
    assert_eq!(on(&play, &disk), [true; 3], "s, b and c are needed");
    play.put(me.client(), &shares);
    let others = play.share(others);
    let Resumed::AwaitingMail(phase, _) = resume(&play, &disk) else { panic!("it dealt") };
    let mail = play.aggregator.mail[&me.client()].clone();
    let (disk, sent) = play.world.written(phase.acknowledge(&mail).expect("honest mail"));
    assert_eq!(on(&play, &disk), [true, true, false], "c outlived the mail");
    play.put(me.client(), &sent);
    play.acknowledge(others);
    let Resumed::ReadyToMask(phase, _) = resume(&play, &disk) else { panic!("it acknowledged") };
    let core = play.aggregator.served(&play.world, StatementKind::Core);
    let (disk, _) = play.world.written(mask(&play, phase, &core).expect("an honest core"));
    assert_eq!(on(&play, &disk), [false; 3], "s or b outlived the masked bytes");
}

fn privacy(params: &veilsum_crypto::params::RoundParams) -> Privacy {
    Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: params.max_squared_norm }
}

/// an unbounded weight owns the mean: it is bounded when given, and travels in the vector, within the norm.
#[test]
fn r34_a_weight_is_bounded_and_lies_within_the_norm_of_the_vector() {
    let params = small_params(12, 8);
    let update = || ModelUpdate::new(vec![0.9; 7]).expect("finite");
    for weight in [0.0, -1.0, 101.0, f32::INFINITY, f32::NAN] {
        assert_eq!(
            update().with_weight(weight, 100).expect_err("out of bounds"),
            UpdateError::Weight { weight_max: 100 }
        );
    }
    let silent = SkellamSampler::new(0).expect("no noise").noise(NoiseSeed::generate(&mut os_rng()), 8);
    let heaviest = update().with_weight(100.0, 100).expect("the largest weight");
    let noised = prepare(heaviest, silent, &privacy(&params), &mut os_rng()).expect("of one length");
    let squares: i64 = noised.values().iter().map(|z| z * z).sum();
    assert!(squares.unsigned_abs() <= params.max_squared_norm, "the sensitivity is a fact");
    let weight = noised.values()[7] as f64;
    let expected = params.clip_norm * params.scale / f64::sqrt(2.0);
    assert!((weight - expected).abs() <= 1.0, "the heaviest weight is {weight}, not {expected}");
}

/// noise and masks cover the whole vector of the round, the weight included: a vector of another length is not masked.
#[test]
fn r34_a_vector_without_the_coordinates_of_the_round_is_not_masked() {
    let mut play = twelve();
    let mut clients = acknowledged(&mut play);
    let core = play.aggregator.served(&play.world, StatementKind::Core);
    let (_, phase) = clients.pop_first().expect("twelve");
    let noise = SkellamSampler::new(phase.share_variance()).expect("in range");
    let noise = noise.noise(NoiseSeed::generate(&mut os_rng()), 7);
    let shorter = ModelUpdate::new(vec![0.1; 7]).expect("finite");
    let params = play.world.facts.header.params;
    let shorter = prepare(shorter, noise, &privacy(&params), &mut os_rng()).expect("of one length");
    assert_eq!(stopped(phase.mask(&core, shorter)), ServerMisbehaved::VectorLen);
}
