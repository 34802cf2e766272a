//! Attacks on the noise and on what it costs.

use veilsum_crypto::client::policy::round_charge_of;
use veilsum_crypto::client::{Enrolled, HeaderEvidence, Resumed};
use veilsum_crypto::ids::LeafIndex;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::{Header, RevocationList};
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::privacy::accountant::{IntegerRound, RoundingBounds, skellam_curve};
use veilsum_crypto::privacy::budget::{Budget, Ledger};
use veilsum_crypto::server::{RoundFacts, StatementKind};
use veilsum_crypto::testing::{Play, TASK, World, now, os_rng, small_params};
use veilsum_crypto::update::{ModelUpdate, decode_weighted};

use crate::without::checks::{Charging, stop};
use crate::without::stage::Stage;
use crate::without::{Checks, Played, WithoutRule, real};

/// All of this file.
pub fn all() -> Vec<WithoutRule> {
    vec![noise_for_everybody(), refunded_rounds(), owned_mean()]
}

/// What one round costs, at the round's delta, if the noise in the sum has this variance.
pub fn epsilon_of(round: &RoundParams, variance: u64) -> f64 {
    let (max_squared_norm, dim) = (round.max_squared_norm, round.vector_len.into());
    skellam_curve(IntegerRound { max_squared_norm, dim, variance }).epsilon(round.dp_delta).epsilon
}

/// T clients are lost and the c corrupt ones add no noise. Where each share was sized for all n, what is left in the smallest sum
/// that a round permits is less than the task promised.
fn noise_for_everybody() -> WithoutRule {
    WithoutRule {
        with: "the h honest clients of the smallest permitted sum carry the whole variance",
        without: "the smallest permitted sum has too little noise: more is given away than is charged",
        patch: |checks| checks.r14 = |round, n| round.total_variance.div_ceil(n.into()),
        real: || {
            let mut play = Play::new(small_params(64, 8));
            let clients = play.advertise();
            let (_, phase) = real::deal_all(&mut play, clients).pop_first().expect("64");
            let share_variance = phase.share_variance();
            judge_noise(&play.world.facts.header.params, share_variance)
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(64, 8), checks);
            stage.advertise()?;
            stage.examine()?;
            judge_noise(&stage.world.facts.header.params, stage.view().params.share_variance)
        },
        ..WithoutRule::new(14, "the noise for everybody")
    }
}

fn judge_noise(round: &RoundParams, share_variance: u64) -> Played {
    let n = round.roster_max;
    let honest = u64::from(n - round.tolerated(n) - round.corrupt(n));
    let left = honest * share_variance;
    let promised = round.total_variance;
    let (charged, given_away) = (epsilon_of(round, promised), epsilon_of(round, left));
    if left >= promised {
        return stop(
            14,
            format!("{honest} honest shares carry a variance of {left} of {promised}: epsilon {charged:.4}"),
        );
    }
    Ok(format!(
        "{honest} honest shares carry {left} of {promised}: epsilon is {given_away:.4}, charged is {charged:.4}"
    ))
}

/// The aggregator opens every sum, and says of every round that it could not be opened. A client that takes its charge back then
/// goes on for ever on a budget for one round. The aggregator has hundreds of noisy sums of the same data, and averages the
/// noise away.
fn refunded_rounds() -> WithoutRule {
    WithoutRule {
        with: "a charge is never refunded: the client takes part once, as its budget says",
        without: "400 rounds on a budget for one: averaged, the exact sum of the updates without noise",
        patch: |checks| {
            checks.r26 = |ledger, key, what| {
                if matches!(what, Charging::CameToNothing) {
                    *ledger = Ledger::default(); // it holds no other charge
                    return Ok(());
                }
                (Checks::all().r26)(ledger, key, what)
            }
        },
        real: || {
            let mut play = Play::of(World::with_policy(small_params(12, 8), |policy| {
                policy.budget = one_round(&small_params(12, 8))
            }));
            let mut clients = real::acknowledged(&mut play);
            let (_, phase) = clients.pop_first().expect("twelve");
            let core = play.aggregator.served(&play.world, StatementKind::Core);
            let update = play.world.update(1.0, 0, phase.share_variance());
            let (disk, _) = play.world.written(phase.mask(&core, update)?);
            // The round comes to nothing: the client gives it up, and keeps what stands in its ledger.
            let resumed = Resumed::open(&play.world.saving, &disk, &play.world.members[0]).expect("as written");
            let (enrolled, _): (Enrolled, _) = play.world.turn(resumed.give_up());
            let header = play.world.signed(Header { counter: 2, ..play.world.facts.header.clone() }.statement());
            let _ = enrolled.advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng())?;
            Ok("it advertised in the second round".into())
        },
        model: |checks| {
            let params = faint();
            let rounds = 400;
            let mut world = World::with_policy(params, |policy| policy.budget = one_round(&params));
            let mut ledgers = vec![Ledger::default(); 3];
            let mut total = [0_i64; 3];
            for counter in 1..=rounds {
                world.facts = RoundFacts::new(Header { counter, ..world.facts.header.clone() }, RevocationList::none());
                let mut stage = Stage::of(world, checks);
                stage.clients.iter_mut().zip(ledgers).for_each(|(client, ledger)| client.ledger = ledger);
                stage.uploaded()?;
                let (_, sum) = super::dealers::open_all(&mut stage)?;
                let sum = sum.expect("nobody lied").to_signed();
                total.iter_mut().zip(sum).for_each(|(total, noisy)| *total += noisy);
                // "It could not be opened."
                stage.clients.iter_mut().for_each(|client| client.came_to_nothing());
                ledgers = stage.clients.into_iter().map(|client| client.ledger).collect();
                world = stage.world;
            }
            let averaged: Vec<f64> = total.iter().map(|sum| (*sum as f64 / rounds as f64).round()).collect();
            // Client i's update is 1 at coordinate i, and scale is 1.
            if averaged != [1.0; 3] {
                return stop(26, "the noise did not average away");
            }
            let (spent, budget) =
                (skellam_of(&params).times(rounds as u32).epsilon(params.dp_delta), one_round(&params));
            Ok(format!(
                "the exact sum without noise; epsilon {:.0} on a budget of {:.1}",
                spent.epsilon, budget.epsilon
            ))
        },
        ..WithoutRule::new(26, "the refunded rounds")
    }
}

/// Three clients, three coordinates, clip 2 at scale 1, and as little noise as the default policy permits.
fn faint() -> RoundParams {
    let bounds = RoundingBounds::new(2.0, 3, (-0.5_f64).exp());
    let mut params = RoundParams {
        scale: 1.0,
        total_variance: 1,
        max_squared_norm: bounds.max_integer_squared_norm,
        ..small_params(3, 3)
    };
    params.ring_bits = params.ring_bits_needed().expect("a ring is wide enough");
    params
}

fn skellam_of(params: &RoundParams) -> veilsum_crypto::privacy::accountant::RdpCurve {
    round_charge_of(params).expect("there is noise")
}

fn one_round(params: &RoundParams) -> Budget {
    let epsilon = skellam_of(params).epsilon(params.dp_delta).epsilon * 1.01;
    Budget { epsilon, delta: params.dp_delta }
}

/// Whoever supplies the data of one client says that it has five thousand examples where the task permits a hundred. Where the
/// weight multiplies an update that was clipped without it, the mean of twelve clients is that one's.
fn owned_mean() -> WithoutRule {
    WithoutRule {
        with: "a weight above weight_max is treated like a value that is not finite: nothing is sent",
        without: "one client of twelve moves the weighted mean by four fifths of its clip norm",
        patch: |checks| {
            checks.r34 = |values, weight, round| {
                let scale = f64::from(weight) / f64::from(round.weight_max) * round.scale / 2_f64.sqrt();
                let model = values.iter().map(|value| (f64::from(*value) * scale).round() as i64); // |x| is the clip norm
                let weighted: Vec<i64> = model.chain([(round.clip_norm * scale).round() as i64]).collect();
                Ok(RingVector::from_signed(&weighted, round.ring_bits))
            }
        },
        real: || match ModelUpdate::new(vec![0.0, 2.0]).and_then(|update| update.with_weight(5_000.0, 100)) {
            Err(error) => stop(34, error.to_string()),
            Ok(_) => Ok("the update took the weight".into()),
        },
        model: |checks| {
            let round = weighted();
            let mut sum = RingVector::zeros(round.vector_len as usize, round.ring_bits);
            for leaf in (1..12).map(LeafIndex) {
                let honest = (checks.r34)(vec![2.0, 0.0], 90.0 + leaf.0 as f32 / 2.0, &round)?;
                sum.add_assign(&honest).expect("one ring");
            }
            sum.add_assign(&(checks.r34)(vec![0.0, 2.0], 5_000.0, &round)?).expect("one ring");
            let mean = decode_weighted(&sum, round.clip_norm).expect("there is weight");
            if f64::from(mean[1]) < 0.8 * round.clip_norm {
                return stop(34, format!("the mean is {mean:?}"));
            }
            Ok(format!("the mean of twelve is ({:.2}, {:.2}); eleven said (2, 0), one said (0, 2)", mean[0], mean[1]))
        },
        ..WithoutRule::new(34, "the owned mean")
    }
}

/// Two coordinates and a weight of at most 100.
fn weighted() -> RoundParams {
    let mut params = RoundParams { vector_len: 3, weight_max: 100, total_variance: 400, ..small_params(12, 3) };
    params.ring_bits = veilsum_crypto::math::ring::RingBits::new(24).expect("in range");
    params
}
