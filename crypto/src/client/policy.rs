//! What a client insists on, whatever the aggregator says. §5.1, R-02, R-07, R-33
//!
//! Floors and pins; a header below one of them stops the client before it sends anything. What the policy takes on
//! trust is said aloud: [`Policy::assumptions`].

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};

use super::Memory;
use super::memory::charge_key;
use crate::ids::{Digest, TaskId};
use crate::messages::Header;
use crate::params::{MILLION, RoundParams};
use crate::primitives::signature::IdentityPublicKey;
use crate::privacy::accountant::{IntegerRound, RdpCurve, RoundingBounds, skellam_curve};
use crate::privacy::budget::Budget;
use crate::rules::ServerMisbehaved;

/// What gamma rests on. R-07
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GammaBasis {
    /// "gamma is assumed per roster": the aggregator chose who is in it.
    AssumedPerRoster,
    /// The authority assigned random groups; a roster must cover a part of one.
    CertifiedGroup {
        /// rho: millionths of the group that the roster covers at least.
        coverage_min: u32,
        /// Millionths of the group that may be corrupt.
        corrupt_of_group: u32,
    },
}

/// Which models a client trains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AllowedModels {
    /// Any; the hash in the header is checked against the bytes all the same.
    Any,
    /// These hashes only.
    OneOf(BTreeSet<Digest>),
}

/// Floors and pins of one client.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// The only aggregator whose statements count.
    pub aggregator: IdentityPublicKey,
    /// The only authority whose certificates count.
    pub authority: IdentityPublicKey,
    /// Fewest clients of a core and of a sum.
    pub cohort_min: u32,
    /// Least gamma, millionths.
    pub corrupt_fraction_min: u32,
    /// Largest delta, millionths: more would let sums be smaller.
    pub dropout_tolerance_max: u32,
    /// Least sigma.
    pub security_bits_min: u16,
    /// Least eta.
    pub completion_bits_min: u16,
    /// Least guaranteed central noise over the clip norm.
    pub noise_multiplier_min: f64,
    /// Least wrap_bits.
    pub wrap_bits_min: u8,
    /// Largest clip norm, real units.
    pub clip_norm_max: f64,
    /// Largest delta of differential privacy.
    pub dp_delta_max: f64,
    /// What this client's data may cost in all, across tasks.
    pub budget: Budget,
    /// In how many rounds of one task this client takes part at most; as many as its budget covers, unless it says so.
    pub rounds_max: Option<u64>,
    /// By how many counters two rounds of a task in which this client takes part are apart at least; 1 is every round.
    pub rounds_apart_min: u64,
    /// The layout of the vector, where pinned.
    pub layout: Option<Digest>,
    /// Which models.
    pub models: AllowedModels,
    /// Longest window of a phase: a client waits for an aggregator that falls silent for ten of them.
    pub window_max_s: u64,
    /// How far the header's time may be from this client's.
    pub clock_apart_max_s: u64,
    /// How long after its advert a client accepts a roster: the time to grind a ring in. R-08
    pub roster_deadline_ms: u64,
    /// What gamma rests on.
    pub gamma: GammaBasis,
}

impl Policy {
    /// The defaults of the protocol text, for pinned keys: gamma 0.05, delta at most 0.25, sigma 80, eta 30,
    /// dp_delta 1e-5, some noise, an epsilon of at most 8 over everything.
    pub fn new(aggregator: IdentityPublicKey, authority: IdentityPublicKey) -> Self {
        Self {
            aggregator,
            authority,
            cohort_min: 2,
            corrupt_fraction_min: 50_000,
            dropout_tolerance_max: 250_000,
            security_bits_min: 80,
            completion_bits_min: 30,
            noise_multiplier_min: 0.5,
            wrap_bits_min: 30,
            clip_norm_max: 1e6,
            dp_delta_max: 1e-5,
            budget: Budget { epsilon: 8.0, delta: 1e-5 },
            rounds_max: None,
            rounds_apart_min: 1,
            window_max_s: 24 * 60 * 60,
            layout: None,
            models: AllowedModels::Any,
            clock_apart_max_s: 10 * 60,
            roster_deadline_ms: 2 * 60 * 1_000,
            gamma: GammaBasis::AssumedPerRoster,
        }
    }

    /// What this policy takes on trust, one sentence each, to be shown to whoever runs the client.
    pub fn assumptions(&self) -> Vec<String> {
        let mut said = alloc::vec![
            "unwitnessed: no independent witness has seen the log; one client alone cannot see a fork (R-33)"
                .to_string(),
        ];
        if self.gamma == GammaBasis::AssumedPerRoster {
            let percent = f64::from(self.corrupt_fraction_min) / 1e4;
            said.push(alloc::format!(
                "gamma is assumed per roster: that at most {percent} % of every roster the aggregator forms are corrupt is taken on trust (R-07)"
            ));
        }
        if self.models == AllowedModels::Any {
            said.push("any model: whatever model the header names is trained (R-02)".to_string());
        }
        if self.noise_multiplier_min == 0.0 {
            said.push("no noise demanded: the sum itself may reveal individual data (R-02)".to_string());
        }
        said
    }

    /// the header against every floor and pin.
    ///
    /// # Errors
    /// [`ServerMisbehaved`] naming the first figure that does not hold.
    pub fn permits(&self, header: &Header, task: TaskId) -> Result<(), ServerMisbehaved> {
        let pinned = |what, holds: bool| if holds { Ok(()) } else { Err(ServerMisbehaved::NotPinned { what }) };
        pinned("aggregator", header.aggregator_key == self.aggregator)?;
        pinned("authority", header.authority_key == self.authority)?;
        pinned("task", header.task == task)?;
        pinned("layout", self.layout.is_none_or(|layout| layout == header.layout_hash))?;
        pinned(
            "model",
            match &self.models {
                AllowedModels::Any => true,
                AllowedModels::OneOf(models) => models.contains(&header.model_hash),
            },
        )?;

        let params = &header.params;
        params.check()?;
        let least = |what, found: f64, demanded: f64| {
            if found >= demanded { Ok(()) } else { Err(ServerMisbehaved::BelowPolicy { what, found, demanded }) }
        };
        let most = |what, found: f64, demanded: f64| {
            if found <= demanded { Ok(()) } else { Err(ServerMisbehaved::BelowPolicy { what, found, demanded }) }
        };
        // A sum over n clients holds at least max(cohort_min, n - T): the floor is on what can be summed.
        least("the smallest sum permitted", params.survivors_min(params.roster_min).into(), self.cohort_min.into())?;
        least("cohort_min", params.cohort_min.into(), self.cohort_min.into())?;
        least("corrupt_fraction", params.corrupt_fraction.into(), self.corrupt_fraction_min.into())?;
        most("dropout_tolerance", params.dropout_tolerance.into(), self.dropout_tolerance_max.into())?;
        least("security_bits", params.security_bits.into(), self.security_bits_min.into())?;
        least("completion_bits", params.completion_bits.into(), self.completion_bits_min.into())?;
        least("wrap_bits", params.wrap_bits.into(), self.wrap_bits_min.into())?;
        most("clip_norm", params.clip_norm, self.clip_norm_max)?;
        most("dp_delta", params.dp_delta, self.dp_delta_max)?;
        let longest_ms = params.windows.0.iter().copied().max().unwrap_or(0);
        most("the longest window, in seconds,", f64::from(longest_ms) / 1e3, self.window_max_s as f64)?;
        let multiplier = libm::sqrt(params.total_variance as f64) / (params.clip_norm * params.scale);
        // Variance is rounded up to an integer, so the multiplier asked for is reached but for rounding of f64.
        least("noise_multiplier", multiplier * (1.0 + 1e-12), self.noise_multiplier_min)?;
        // The norm that rounding can reach, and no more: else the noise would be small beside it.
        let bounds = RoundingBounds::new(params.clip_norm * params.scale, params.vector_len.into(), libm::exp(-0.5));
        most("max_squared_norm", params.max_squared_norm as f64, bounds.max_integer_squared_norm as f64)?;
        if let GammaBasis::CertifiedGroup { coverage_min, corrupt_of_group } = self.gamma {
            let gamma = (u64::from(corrupt_of_group) * MILLION).div_ceil(u64::from(coverage_min.max(1)));
            least("corrupt_fraction over group coverage", params.corrupt_fraction.into(), gamma as f64)?;
        }
        Ok(())
    }
}

/// What a round costs this client, worst case; `None` where it adds no noise and the cost has no bound. §10
pub fn round_charge_of(params: &RoundParams) -> Option<RdpCurve> {
    let round = IntegerRound {
        max_squared_norm: params.max_squared_norm,
        dim: params.vector_len.into(),
        variance: params.total_variance,
    };
    (params.total_variance > 0).then(|| skellam_curve(round))
}

/// whether this client's own ledger covers the round; asked before it advertises and again before it charges. A round
/// charged already costs nothing more. No noise: only a policy that demands none comes this far, and says so aloud.
pub(super) fn budget_covers(header: &Header, memory: &Memory, policy: &Policy) -> Result<(), ServerMisbehaved> {
    let Some(charge) = round_charge_of(&header.params) else { return Ok(()) };
    if memory.ledger.is_spent(charge_key(&header.aggregator_key, header.task, header.counter)) {
        return Ok(());
    }
    memory.ledger.can_open(&charge, policy.budget).map_err(|_| ServerMisbehaved::Budget {
        would_be: memory.ledger.epsilon_with(&charge, policy.budget.delta),
        budget: policy.budget.epsilon,
    })
}

/// whether this client still takes part in rounds of this task, by limits of its own; asked when the budget is.
pub(super) fn limits_permit(header: &Header, memory: &Memory, policy: &Policy) -> Result<(), ServerMisbehaved> {
    let taken = memory.taken_part(&header.aggregator_key, header.task);
    if let Some(allowed) = policy.rounds_max.filter(|allowed| taken.rounds >= *allowed) {
        return Err(ServerMisbehaved::RoundsTaken { taken: taken.rounds, allowed });
    }
    match taken.last {
        Some(last) if header.counter.saturating_sub(last) < policy.rounds_apart_min => {
            Err(ServerMisbehaved::RoundsApart { last, found: header.counter, apart: policy.rounds_apart_min })
        }
        _ => Ok(()),
    }
}
