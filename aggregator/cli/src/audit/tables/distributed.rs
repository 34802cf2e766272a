//! Tables of distributed noise: published bounds, and exact values that no bound of ours may fall below.

use veilsum_crypto::privacy::accountant::{RoundingBranch, ln_delta_at};
use veilsum_crypto::privacy::distributed::{GaussianRound, GaussianShares, closeness};
use veilsum_crypto::privacy::gaussian::GaussianPrivacy;
use veilsum_crypto::privacy::skellam_gaussian::skellam_privacy;
use veilsum_crypto::privacy::solver::Mechanism;
use veilsum_crypto::privacy::subsampled::OutsiderCurve;
use veilsum_crypto::privacy::{RdpCurve, RoundingBounds, SkellamRound};

use super::check::{Check, Malformed, Tolerance};

const TIGHT: Tolerance = Tolerance::Relative(1e-9);

/// How far below an exact value a bound may be by rounding.
const ROUNDING: f64 = 1e-9;

/// The orders of the tables: 2 to 128, and 256.
pub fn table_orders() -> Vec<u32> {
    (2..=128).chain([256]).collect()
}

/// The cell `mechanism`.
pub fn mechanism(check: &Check<'_>) -> Result<Mechanism, Malformed> {
    match check.text("mechanism")? {
        "skellam" => Ok(Mechanism::Skellam),
        "ddgauss" => Ok(Mechanism::DiscreteGaussian),
        other => Err(Malformed(format!("mechanism: {other:?} is neither skellam nor ddgauss"))),
    }
}

/// What `shares` clients with noise of `sigma` each hide, as a bound.
pub struct Noise {
    /// The kind of noise.
    pub mechanism: Mechanism,
    /// Clients that add it.
    pub shares: u64,
    /// The parameter, or for Skellam the standard deviation, of each.
    pub local_sigma: f64,
    /// Delta_2.
    pub l2: f64,
    /// Delta_1.
    pub l1: f64,
    /// Coordinates.
    pub dim: u64,
}

impl Noise {
    /// tau; zero for Skellam.
    fn shares(&self) -> Result<GaussianShares, Malformed> {
        GaussianShares::new(self.local_sigma, self.shares).map_err(|error| Malformed(error.to_string()))
    }

    /// The bound for discrete Gaussian noise.
    fn gaussian(&self) -> Result<GaussianRound, Malformed> {
        Ok(GaussianRound { l2_bound: self.l2, l1_bound: self.l1, dim: self.dim, noise: self.shares()? })
    }

    /// The curve of one round.
    pub fn curve(&self, orders: &[u32]) -> Result<RdpCurve, Malformed> {
        let variance = self.shares as f64 * self.local_sigma * self.local_sigma;
        match self.mechanism {
            Mechanism::Skellam => {
                RdpCurve::skellam(orders, &SkellamRound { l2_bound: self.l2, l1_bound: self.l1, variance })
            }
            Mechanism::DiscreteGaussian => self.gaussian()?.curve(orders),
        }
        .map_err(|error| Malformed(error.to_string()))
    }

    /// The other bound on Skellam noise, by the Gaussian mechanism it is no worse than; for variances from 2 on.
    fn tight(&self) -> Option<GaussianPrivacy> {
        let variance = self.shares as f64 * self.local_sigma * self.local_sigma;
        (self.mechanism == Mechanism::Skellam).then(|| skellam_privacy(self.l2, variance)).flatten()
    }

    /// The divergence of a real order; for Skellam of an integer one.
    fn divergence(&self, order: f64) -> Result<f64, Malformed> {
        match self.mechanism {
            Mechanism::Skellam if (2.0..=1e6).contains(&order) && order.fract() == 0.0 => {
                Ok(self.curve(&[order as u32])?.divergences()[0])
            }
            Mechanism::DiscreteGaussian if order > 1.0 => Ok(self.gaussian()?.divergence(order)),
            _ => Err(Malformed(format!("alpha: there is no bound of order {order}"))),
        }
    }
}

/// `rounding`: how long an update can become by rounding.
pub fn rounding(check: &mut Check<'_>) -> Result<(), Malformed> {
    let bounds = RoundingBounds::new(check.number("scaled_clip")?, check.parsed("dim")?, check.number("beta")?);
    check.near("l2_bound_int", TIGHT, bounds.l2_bound)?;
    check.near("l1_bound_int", TIGHT, bounds.l1_bound)?;
    let branch = match bounds.active_branch {
        RoundingBranch::Deterministic => "deterministic",
        RoundingBranch::Conditional => "conditional",
    };
    check.equal("active_branch", branch.to_string())?;
    check.equal("max_integer_squared_norm", bounds.max_integer_squared_norm)
}

/// `convolution_closeness`: the bound from which tau follows.
pub fn convolution_closeness(check: &mut Check<'_>) -> Result<(), Malformed> {
    check.near("published_bound", TIGHT, closeness(check.positive("sigma1")?, check.positive("sigma2")?))
}

/// `distributed_bounds`: both mechanisms at the tables' orders. Rows with sampling are figures for outsiders.
pub fn distributed_bounds(check: &mut Check<'_>) -> Result<(), Malformed> {
    let noise = Noise {
        mechanism: mechanism(check)?,
        shares: check.parsed("n")?,
        local_sigma: check.positive("local_sigma_int")?,
        l2: check.number("l2_sens_int")?,
        l1: check.number("l1_sens_int")?,
        dim: check.parsed("dim")?,
    };
    let tau = match noise.mechanism {
        Mechanism::Skellam => 0.0,
        Mechanism::DiscreteGaussian => noise.shares()?.tau(),
    };
    check.near("tau", TIGHT, tau)?;
    let orders = table_orders();
    let (rounds, delta) = (check.parsed("rounds")?, check.positive("delta")?);
    let curve = noise.curve(&orders)?;
    let sampling = check.positive("sampling_q")?;
    let (divergences, epsilon) = if sampling == 1.0 {
        (curve.divergences().to_vec(), curve.times(rounds).epsilon(delta))
    } else {
        let outside = OutsiderCurve::of_round(&curve, sampling)
            .ok_or_else(|| Malformed(format!("sampling_q: {sampling} is no probability")))?;
        (outside.divergences().to_vec(), outside.times(rounds).epsilon(delta))
    };
    for order in [2, 8, 32, 128] {
        let at = orders.binary_search(&order).expect("one of the tables' orders");
        check.near(&format!("rdp_alpha{order}"), TIGHT, divergences[at])?;
    }
    check.near("eps_bound", TIGHT, epsilon.epsilon)?;
    check.equal("best_order", epsilon.best_order)
}

/// Noise and an integer shift, as the tables of exact values state them.
fn exact_noise(check: &Check<'_>) -> Result<Noise, Malformed> {
    let mechanism = mechanism(check)?;
    let cells = check.text("shift")?.split('|');
    let shift = cells.map(|cell| cell.parse::<i32>().map(f64::from)).collect::<Result<Vec<_>, _>>().map_err(|_| {
        Malformed(format!("shift: {:?} is no list of integers", check.text("shift").unwrap_or_default()))
    })?;
    let parameter = check.positive("local_param")?;
    Ok(Noise {
        mechanism,
        shares: check.parsed("n")?,
        local_sigma: match mechanism {
            Mechanism::Skellam => parameter.sqrt(), // a variance there
            Mechanism::DiscreteGaussian => parameter,
        },
        l2: shift.iter().map(|x| x * x).sum::<f64>().sqrt(),
        l1: shift.iter().map(|x| x.abs()).sum(),
        dim: shift.len() as u64,
    })
}

/// `distributed_exact`: exact divergences of vectors, which neither of our bounds may fall below, and the published bound.
pub fn distributed_exact(check: &mut Check<'_>) -> Result<(), Malformed> {
    let (noise, order) = (exact_noise(check)?, check.number("alpha")?);
    let bound = noise.divergence(order)?;
    check.bounds("rdp_exact", ROUNDING, bound)?;
    if let Some(tight) = noise.tight() {
        check.bounds("rdp_exact", ROUNDING, order * tight.mu() * tight.mu() / 2.0)?;
    }
    check.near("rdp_bound", TIGHT, bound)
}

/// `distributed_exact_delta`: exact delta of one coordinate, and the one that follows from the divergences: real orders in
/// steps of 0.05 up to 4 where the bound has them, and all integers up to 1,024.
pub fn distributed_exact_delta(check: &mut Check<'_>) -> Result<(), Malformed> {
    let (noise, epsilon) = (exact_noise(check)?, check.number("eps")?);
    let fine = (21..80).map(|twentieths| f64::from(twentieths) / 20.0);
    let whole = (2..=1024).map(f64::from);
    let orders: Vec<f64> = match noise.mechanism {
        Mechanism::Skellam => whole.collect(),
        Mechanism::DiscreteGaussian => fine.chain(whole).collect(),
    };
    let mut ln_delta = 0.0_f64;
    for order in orders {
        ln_delta = ln_delta.min(ln_delta_at(order, noise.divergence(order)?, epsilon));
    }
    check.bounds("delta_exact", ROUNDING, ln_delta.exp())?;
    if let Some(tight) = noise.tight() {
        check.bounds("delta_exact", ROUNDING, tight.delta(epsilon))?;
    }
    check.near("delta_bound", TIGHT, ln_delta.exp())
}
