//! Attacks on survivor lists.

use veilsum_crypto::client::Policy;
use veilsum_crypto::ids::LeafIndex;
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::testing::{Play, World, small_params};

use super::noise::epsilon_of;
use crate::without::checks::stop;
use crate::without::gullible::scalar;
use crate::without::stage::Stage;
use crate::without::{WithoutRule, real};

/// All of this file.
pub fn all() -> Vec<WithoutRule> {
    vec![short_list(), survivors_from_outside(), everybody_dropped()]
}

/// The aggregator lists as few as still leave every member of the core t answering neighbours: 40 of 64, where 48 were promised.
/// The noise was sized for 44 honest ones among those 48.
fn short_list() -> WithoutRule {
    WithoutRule {
        with: "a list below max(cohort_min, n - T) is neither confirmed nor answered",
        without: "the exact sum over fewer clients than promised is opened, with less noise than was paid for",
        patch: |checks| checks.r15 = |_, _| Ok(()),
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let mut clients = real::uploaded(&mut play);
            let (target, phase) = clients.pop_first().expect("twelve");
            let out: Vec<_> =
                real::strangers(&play, target).into_iter().chain([real::neighbours(&play, target)[0]]).collect();
            let list = real::list_of(&play, real::all_but(&play, &out));
            let _ = phase.confirm(&list, &play.aggregator.uploads_for(target))?;
            Ok("it confirmed a list of eight".into())
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(64, 8), checks);
            stage.uploaded()?;
            let params = stage.params();
            let out = thinned(&stage);
            let list = stage.list_of(stage.all_but(&out));
            let alive: Vec<_> = list.members().leaves().collect();
            let answers = stage.answers(&list, &alive)?;
            let (secrets, _) = stage.rebuild(&list, &answers);
            if stage.open_sum(list.members(), &secrets) != Some(stage.plain_sum(alive.iter().copied())) {
                return stop(15, "the short list was not opened");
            }
            let honest = alive.len() as u64 - u64::from(params.corrupt);
            let round = stage.world.facts.header.params;
            let (paid, got) =
                (epsilon_of(&round, round.total_variance), epsilon_of(&round, honest * params.share_variance));
            let (found, promised) = (alive.len(), params.survivors_min);
            Ok(format!(
                "the exact sum over {found} of {promised} promised; epsilon {got:.4} where {paid:.4} was charged"
            ))
        },
        ..WithoutRule::new(15, "the short list")
    }
}

/// As many leaves, evenly spread, as can be taken away so that everybody in the roster keeps t neighbours.
fn thinned(stage: &Stage) -> Vec<LeafIndex> {
    let (ring, order) = (stage.ring(), &stage.view().order);
    let (n, threshold) = (ring.len(), stage.params().threshold);
    let spread = |count: usize| (0..n).filter(|at| at * count % n < count).map(|at| ring[at]).collect::<Vec<_>>();
    let serves = |out: &Vec<LeafIndex>| {
        let alive = stage.all_but(out);
        stage.all().iter().all(|leaf| alive.count_of(&order.neighbours(*leaf)) >= threshold)
    };
    (1..n / 2).map(spread).filter(serves).max_by_key(Vec::len).expect("taking away one serves")
}

/// The list is filled up with a client that is not in the core: it never masked, so nothing of it is in the sum, and the list is
/// as long as it must be with one input less. Who asks for every neighbour's upload would notice too.
fn survivors_from_outside() -> WithoutRule {
    WithoutRule {
        with: "a list beyond the core is neither confirmed nor answered",
        without: "a list of nine opens the exact sum of eight",
        behind: &[22],
        base: |checks| checks.r22 = |_, _, _, _| Ok(()),
        patch: |checks| checks.r20 = |_, _| Ok(()),
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let clients = play.advertise();
            let mut clients = play.share(clients);
            let outside = veilsum_crypto::testing::lose(&mut clients, 1)[0];
            let clients = play.acknowledge(clients);
            let mut clients = play.mask(clients);
            let (target, phase) = clients.pop_first().expect("eleven");
            assert!(!real::core_in_force(&play).members().has(real::leaf(&play, outside)));
            let list = real::list_of(&play, real::all_but(&play, &[]));
            let _ = phase.confirm(&list, &play.aggregator.uploads_for(target))?;
            Ok("it confirmed a survivor from outside".into())
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.acknowledged()?;
            let ring = stage.ring();
            let core = stage.all_but(&[ring[0], ring[3], ring[6]]);
            let out = [ring[0], ring[3], ring[6], ring[9]];
            let real: Vec<_> = stage.all().into_iter().filter(|leaf| !out.contains(leaf)).collect();
            stage.mask(core, &real)?;
            let list = stage.list_of(stage.all_but(&out[1..])); // ring[0] is alive, they say
            let answers = stage.answers(&list, &real)?;
            let (mut secrets, _) = stage.rebuild(&list, &answers);
            secrets.remove(&ring[0]);
            if stage.open_sum(list.members(), &secrets) != Some(stage.plain_sum(real.iter().copied())) {
                return stop(20, "the list was not opened");
            }
            Ok(format!("the exact sum of {} clients under a list of {}", real.len(), list.members().count()))
        },
        ..WithoutRule::new(20, "the survivors from outside")
    }
}

/// The list says that all neighbours of the target dropped: on a large roster k is less than T. Then s of each of them is
/// rebuilt, so every pairwise mask of the target is known; and where a client that is not listed answers all the same, its
/// neighbours give their shares of b too.
fn everybody_dropped() -> WithoutRule {
    WithoutRule {
        with: "who is not listed, or has fewer than t neighbours listed, confirms and answers nothing",
        without: "every mask of one client is taken away: its input is opened exactly",
        patch: |checks| checks.r21 = |_, _| Ok(()),
        real: || {
            let params = RoundParams {
                roster_min: 20,
                roster_max: 20,
                dropout_tolerance: 150_000,
                cohort_min: 2,
                security_bits: 4,
                completion_bits: 1,
                ..small_params(12, 8)
            };
            let mut play = Play::of(World::with_policy(fitted(params), |policy| weak(policy, 4)));
            let mut clients = real::uploaded(&mut play);
            let (target, phase) = clients.pop_first().expect("twenty");
            let list = real::list_of(&play, real::all_but(&play, &real::neighbours(&play, target)[..3]));
            let _ = phase.confirm(&list, &play.aggregator.uploads_for(target))?;
            Ok("it confirmed with too few neighbours".into())
        },
        model: |checks| {
            let mut stage = Stage::with_policy(eighty(), checks, |policy| weak(policy, 8));
            stage.uploaded()?;
            let target = stage.ring()[50];
            let near = stage.view().order.neighbours(target);
            assert!(near.len() as u32 <= stage.params().tolerated, "k is at most T");
            let list = stage.list_of(stage.all_but(&near));
            let answers = stage.answers(&list, &stage.all())?;
            let (secrets, _) = stage.rebuild(&list, &answers);
            let core = stage.core.as_ref().expect("it is fixed").root();
            let Some(b) = secrets.get(&target) else { return stop(21, "b was not given") };
            let mut recovered = stage.open_input(target, *b, scalar(), &[], core);
            for of in near {
                let Some(s) = secrets.get(&of) else { return stop(21, "s of a neighbour was not given") };
                let mask = stage.pair_mask(of, *s, target, core);
                let taken = if target < of { recovered.sub_assign(&mask) } else { recovered.add_assign(&mask) };
                taken.expect("one ring");
            }
            stage.is_the_input(target, &recovered, 21)
        },
        ..WithoutRule::new(21, "the neighbours that all dropped")
    }
}

/// n = 80, k = 20, t = 11, T = 20: gamma and sigma are small, so that so few clients have k at most T.
fn eighty() -> RoundParams {
    fitted(RoundParams {
        roster_min: 80,
        roster_max: 80,
        corrupt_fraction: 10_000,
        dropout_tolerance: 250_000,
        cohort_min: 60,
        security_bits: 8,
        completion_bits: 1,
        ..small_params(12, 8)
    })
}

fn fitted(params: RoundParams) -> RoundParams {
    RoundParams { ring_bits: params.ring_bits_needed().expect("a ring is wide enough"), ..params }
}

fn weak(policy: &mut Policy, security_bits: u16) {
    (policy.security_bits_min, policy.completion_bits_min) = (security_bits, 1);
    policy.corrupt_fraction_min = 10_000;
}
