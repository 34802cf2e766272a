//! What a task asks of its clients, before anybody is asked: neighbours, bytes, milliseconds, epsilon, and warnings. §3
//!
//! Bytes follow from docs/wire.md. Milliseconds are estimated: the number of each costly operation times what one takes
//! here, on one core, measured once.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::Serialize;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::math::shamir::Polynomial;
use veilsum_crypto::messages::sealed_shares::EDGE_BYTES;
use veilsum_crypto::params::{MILLION, RosterParams, RoundParams};
use veilsum_crypto::primitives::agreement::{ChannelSecretKey, MailEdge, MaskingSecretKey, Point};
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::merkle::path_len;
use veilsum_crypto::primitives::prg::{MaskKey, NoiseSeed};
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Place};
use veilsum_crypto::primitives::{labels, signature};
use veilsum_crypto::privacy::SkellamSampler;

use super::Task;

/// Signed statements without their bodies, docs/wire.md §3.
const SHARE_BYTES: u64 = 214;
const ACKNOWLEDGEMENT_BYTES: u64 = 224;
const UPLOAD_BYTES: u64 = 223;
const CONFIRM_BYTES: u64 = 184;
const ANSWER_BYTES: u64 = 183;
const HEADER_BYTES: u64 = 527;
const ROSTER_BYTES: u64 = 259;
const ENTRY_BYTES: u64 = 48;
const LEAF_BYTES: u64 = 579;
const MAIL_BYTES: u64 = 368;
const CORE_BYTES: u64 = 189;
const SURVIVORS_BYTES: u64 = 226;
const RESULT_BYTES: u64 = 220;
/// A length before an item, a count before a list.
const FRAME: u64 = 4;
const COUNT: u64 = 2;
/// Leaves that a client opens at random, R-06.
const RANDOM_LEAVES: u64 = 16;
/// Neighbours from which on a tolerance is worth a second thought.
const MANY_NEIGHBOURS: u32 = 24;

/// What follows from one size of a roster.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RosterPlan {
    /// Its parameters.
    #[serde(flatten)]
    pub params: RosterView,
    /// What one client bears in one round.
    pub client: ClientCost,
}

/// (n, k, t, c, T, h) and what belongs to them, as they are printed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RosterView {
    n: u32,
    k: u32,
    t: u32,
    c: u32,
    #[serde(rename = "T")]
    tolerated: u32,
    h: u32,
    is_complete: bool,
    survivors_min: u32,
    share_variance: u64,
}

/// What one client bears in one round in which nobody complains and nobody is lost.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct ClientCost {
    /// Bodies that it sends, if it is of the agreement set.
    pub up_bytes: u64,
    /// Bodies that it reads, the model included.
    pub down_bytes: u64,
    /// Computing, training apart, on one core of this machine.
    pub ms: f64,
}

/// What the rounds of a task give away; `None` without noise.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct PrivacyPlan {
    /// Epsilon of one round.
    pub epsilon_round: Option<f64>,
    /// Of what was spent so far.
    pub epsilon_spent: Option<f64>,
    /// Of all rounds.
    pub epsilon_all_rounds: Option<f64>,
    /// What is permitted.
    pub budget_epsilon: f64,
    /// How many rounds that permits, at most all.
    pub rounds_in_budget: Option<u64>,
}

impl From<&RosterParams> for RosterView {
    fn from(params: &RosterParams) -> Self {
        Self {
            n: params.n,
            k: params.degree,
            t: params.threshold,
            c: params.corrupt,
            tolerated: params.tolerated,
            h: params.honest,
            is_complete: params.degree + 1 == params.n,
            survivors_min: params.survivors_min,
            share_variance: params.share_variance,
        }
    }
}

/// For the smallest and the largest roster, which may be one. The first call takes some 50 ms.
pub fn rosters(task: &Task, model_bytes: u64) -> Vec<RosterPlan> {
    let mut sizes = vec![task.params.roster_min, task.params.roster_max];
    sizes.dedup();
    let derived = sizes.into_iter().filter_map(|n| RosterParams::derive(n, &task.params).ok());
    derived
        .map(|roster| RosterPlan { params: (&roster).into(), client: client_cost(task, &roster, model_bytes) })
        .collect()
}

/// Epsilon, planned.
pub fn privacy(task: &Task, epsilon_spent: Option<f64>) -> PrivacyPlan {
    let rounds = u32::try_from(task.file.rounds).unwrap_or(u32::MAX);
    let epsilon_of = |rounds: u32| {
        let curve = task.charge.as_ref().filter(|_| rounds > 0)?;
        Some(curve.times(rounds).epsilon(task.budget.delta).epsilon)
    };
    let fits = |rounds: u32| epsilon_of(rounds).is_none_or(|epsilon| epsilon <= task.budget.epsilon);
    let (mut low, mut high) = (0, rounds); // fits(low) holds; epsilon grows with rounds
    while low < high {
        let middle = high - (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    PrivacyPlan {
        epsilon_round: epsilon_of(1),
        epsilon_spent: task.charge.as_ref().map(|_| epsilon_spent.unwrap_or(0.0)),
        epsilon_all_rounds: epsilon_of(rounds),
        budget_epsilon: task.budget.epsilon,
        rounds_in_budget: task.charge.as_ref().map(|_| u64::from(low)),
    }
}

/// What an operator should know before the task is created; one sentence each.
pub fn warnings(task: &Task) -> Vec<String> {
    let params = &task.params;
    let mut said = Vec::new();
    if let Ok(roster) = RosterParams::derive(params.roster_min, params) {
        said.extend(liars_stop_rounds(params, &roster));
    }
    if let Ok(roster) = RosterParams::derive(params.roster_max, params) {
        said.extend(tolerance_is_expensive(params, &roster));
    }
    if task.charge.is_none() {
        said.push(
            "noise_multiplier is 0: the sums themselves may reveal single clients, and masks protect nobody from that"
                .into(),
        );
    }
    let plan = privacy(task, None);
    if let Some(rounds) = plan.rounds_in_budget.filter(|rounds| *rounds < task.file.rounds) {
        said.push(format!(
            "budget_epsilon {} permits {rounds} of the {} rounds; the others will not open",
            plan.budget_epsilon, task.file.rounds
        ));
    }
    said
}

/// Liars count as lost: with T < c they alone can stop a round.
fn liars_stop_rounds(params: &RoundParams, roster: &RosterParams) -> Option<String> {
    let RosterParams { n, corrupt, tolerated, .. } = *roster;
    if tolerated >= corrupt {
        return None;
    }
    let enough = (u64::from(corrupt) * MILLION).div_ceil(u64::from(n)) as u32;
    let wider = RoundParams { dropout_tolerance: enough, ..*params };
    // cohort_min may stand in the way: judged as if it followed the wider tolerance.
    let cohort_min = (n - wider.tolerated(n)).clamp(2, wider.cohort_min);
    let feasible = RosterParams::derive(n, &RoundParams { cohort_min, ..wider }).is_ok();
    let advice = if feasible {
        format!("dropout_tolerance {:.4} would bear them", f64::from(enough) / MILLION as f64)
    } else {
        "no dropout_tolerance bears them with so few clients: raise roster_min".to_string()
    };
    Some(format!(
        "of {n} clients {corrupt} may lie and only {tolerated} may be lost: liars that fall silent stop a round; {advice}"
    ))
}

/// Half the tolerance for far fewer neighbours.
fn tolerance_is_expensive(params: &RoundParams, roster: &RosterParams) -> Option<String> {
    let half = RoundParams { dropout_tolerance: params.dropout_tolerance / 2, ..*params };
    let cheaper = RosterParams::derive(roster.n, &half).ok()?;
    let is_expensive = roster.degree >= MANY_NEIGHBOURS && 2 * roster.degree >= 3 * cheaper.degree;
    is_expensive.then(|| {
        let tolerance = |params: &RoundParams| f64::from(params.dropout_tolerance) / MILLION as f64;
        format!(
            "dropout_tolerance {} gives each of {} clients {} neighbours to deal to, {} bytes; {} would do with {}, {} bytes",
            tolerance(params),
            roster.n,
            roster.degree,
            share_bytes(roster),
            tolerance(&half),
            cheaper.degree,
            share_bytes(&cheaper),
        )
    })
}

fn share_bytes(roster: &RosterParams) -> u64 {
    SHARE_BYTES + EDGE_BYTES as u64 * u64::from(roster.degree)
}

fn client_cost(task: &Task, roster: &RosterParams, model_bytes: u64) -> ClientCost {
    let (n, k, t) = (u64::from(roster.n), u64::from(roster.degree), u64::from(roster.threshold));
    let packed = task.params.packed_bytes() as u64;
    // Itself, its neighbours, the agreement set and others at random; the sets overlap.
    let leaves = n.min(1 + 2 * k + RANDOM_LEAVES);
    let up_bytes = LEAF_BYTES
        + share_bytes(roster)
        + ACKNOWLEDGEMENT_BYTES
        + k
        + UPLOAD_BYTES
        + packed
        + CONFIRM_BYTES
        + ANSWER_BYTES
        + 33 * k;
    let paths: u64 = (0..k).map(|position| 32 * path_len(position, k) as u64).sum();
    let down_bytes = HEADER_BYTES
        + model_bytes
        + ROSTER_BYTES
        + ENTRY_BYTES * n
        + leaves * (FRAME + LEAF_BYTES)
        + COUNT
        + k * (FRAME + MAIL_BYTES)
        + paths
        + COUNT // complaints
        + CORE_BYTES
        + n.div_ceil(8)
        + COUNT
        + k * (FRAME + UPLOAD_BYTES)
        + SURVIVORS_BYTES
        + n.div_ceil(8)
        + COUNT
        + t * (FRAME + CONFIRM_BYTES)
        + RESULT_BYTES
        + packed;
    ClientCost { up_bytes, down_bytes, ms: 1e3 * seconds(task, roster, leaves) }
}

/// Operations times their cost.
fn seconds(task: &Task, roster: &RosterParams, leaves: u64) -> f64 {
    let unit = UnitCosts::here();
    let (k, t) = (f64::from(roster.degree), f64::from(roster.threshold));
    let signatures_checked = 2.0 * leaves as f64 + k + k + t + 5.0; // leaves, mail, uploads, confirms, the aggregator's
    let points_made = 4.0 * k; // dealt, and received
    let elements = f64::from(task.params.vector_len);
    let mask_bytes = (k + 1.0) * task.params.packed_bytes() as f64;
    let noise = SkellamSampler::new(roster.share_variance)
        .map_or(0.0, |sampler| elements * per_call(|| drop(sampler.noise(NoiseSeed::from_bytes([1; 32]), 64))) / 64.0);
    signatures_checked * unit.verify
        + points_made * unit.point
        + 2.0 * k * t * unit.share_step
        + 2.0 * k * unit.mail_key
        + k * unit.pair_key
        + mask_bytes * unit.mask_byte
        + noise
}

/// Seconds for one of each.
struct UnitCosts {
    verify: f64,
    point: f64,
    share_step: f64,
    mail_key: f64,
    pair_key: f64,
    mask_byte: f64,
}

impl UnitCosts {
    fn here() -> &'static Self {
        static MEASURED: OnceLock<UnitCosts> = OnceLock::new();
        MEASURED.get_or_init(Self::measure)
    }

    fn measure() -> Self {
        const STEPS: u32 = 64;
        const ELEMENTS: usize = 16_384;
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        let identity = IdentitySecretKey::generate(&mut rng);
        let zeros = Digest([0; 32]);
        let place = Place {
            context: zeros,
            previous: zeros,
            sender: identity.public().party(),
            receiver: identity.public().party(),
        };
        let signed: signature::Signed = place.statement(labels::CONFIRM, Vec::new()).sign(&identity);
        let (public, masking) = (identity.public(), MaskingSecretKey::generate(&mut rng));
        let (scalar, peer) = (masking.to_scalar(), masking.public());
        let polynomial = Polynomial::hide(masking.to_scalar(), STEPS, &mut rng);
        let channel = ChannelSecretKey::generate(&mut rng);
        let (other, [dealer, holder]) = (channel.public(), [ClientId([1; 16]), ClientId([2; 16])]);
        let roster = RosterContext { header: zeros, roster: zeros };
        let core = CoreContext { roster, core: zeros };
        let bits = veilsum_crypto::math::ring::RingBits::new(16).expect("in range");
        let mut vector = RingVector::zeros(ELEMENTS, bits);
        Self {
            verify: per_call(|| assert!(signed.is_by(&public), "it was just signed")),
            point: per_call(|| {
                std::hint::black_box(Point::of(&scalar));
            }),
            share_step: per_call(|| drop(std::hint::black_box(polynomial.share_for(LeafIndex(7))))) / f64::from(STEPS),
            mail_key: per_call(|| {
                let edge = MailEdge { dealer, holder, dealer_key: other, holder_key: other };
                drop(std::hint::black_box(channel.mail_key(&other, edge, &roster)));
            }),
            pair_key: per_call(|| drop(std::hint::black_box(masking.pair_mask_key(dealer, (holder, &peer), &core)))),
            mask_byte: per_call(|| vector.add_mask(MaskKey::from_bytes([1; 16]))) / (2 * ELEMENTS) as f64,
        }
    }
}

/// Seconds of one call: the quickest of three tries of a millisecond or more.
fn per_call(mut call: impl FnMut()) -> f64 {
    const TRY: Duration = Duration::from_millis(1);
    let one_try = |call: &mut dyn FnMut()| {
        let (start, mut calls) = (Instant::now(), 0_u32);
        while start.elapsed() < TRY {
            call();
            calls += 1;
        }
        start.elapsed().as_secs_f64() / f64::from(calls)
    };
    (0..3).map(|_| one_try(&mut call)).fold(f64::INFINITY, f64::min)
}
