//! Tables of exact values: Gaussian noise, continuous and discrete, and concentrated privacy.

use veilsum_crypto::privacy::discrete_gaussian::DiscreteGaussian;
use veilsum_crypto::privacy::gaussian::{GaussianPrivacy, sigma_for};
use veilsum_crypto::privacy::zcdp;

use super::check::{Check, Malformed, Tolerance};

const EXACT: Tolerance = Tolerance::Relative(1e-9);

fn gaussian_privacy(mu: f64) -> Result<GaussianPrivacy, Malformed> {
    GaussianPrivacy::new(mu).ok_or_else(|| Malformed(format!("mu = {mu} is no parameter of Gaussian noise")))
}

fn noise(check: &Check<'_>) -> Result<DiscreteGaussian, Malformed> {
    let sigma = check.positive("sigma")?;
    DiscreteGaussian::new(sigma).ok_or_else(|| Malformed(format!("sigma: {sigma} is out of range")))
}

/// `gaussian`: composed Gaussian mechanisms; exact where nothing is sampled.
pub fn gaussian(check: &mut Check<'_>) -> Result<(), Malformed> {
    let (noise_multiplier, rounds) = (check.positive("noise_multiplier")?, check.parsed("rounds")?);
    if check.positive("sampling_q")? != 1.0 {
        return check.empty("eps_exact_analytic");
    }
    let all = gaussian_privacy(1.0 / noise_multiplier)?.times(rounds);
    check.near("eps_exact_analytic", EXACT, all.epsilon(check.positive("delta")?))
}

/// `analytic_gaussian`: delta of epsilon, and sigma of both.
pub fn analytic_gaussian(check: &mut Check<'_>) -> Result<(), Malformed> {
    let epsilon = check.number("eps")?;
    match check.text("kind")? {
        "delta_of_eps" => {
            let delta = gaussian_privacy(check.positive("mu")?)?.delta(epsilon);
            check.near("delta", EXACT, delta)
        }
        "sigma_of_eps_delta" => {
            let sigma = sigma_for(epsilon, check.positive("delta")?);
            check.near("sigma_for_unit_sensitivity", EXACT, sigma)
        }
        other => Err(Malformed(format!("kind: {other:?} is neither delta_of_eps nor sigma_of_eps_delta"))),
    }
}

/// `discrete_gaussian`: one coordinate, exactly.
pub fn discrete_gaussian(check: &mut Check<'_>) -> Result<(), Malformed> {
    let (noise, sensitivity) = (noise(check)?, check.parsed::<u32>("sensitivity")?);
    let rho = zcdp::rho_of_gaussian(f64::from(sensitivity), check.positive("sigma")?);
    match check.text("row_kind")? {
        "delta_of_eps" => {
            let epsilon = check.number("eps")?;
            check.near("delta_exact", EXACT, noise.delta(epsilon, sensitivity.into()))?;
            if epsilon == 0.0 {
                check.empty("delta_via_zcdp")?; // the conversion is stated above zero only
            } else {
                check.near("delta_via_zcdp", EXACT, zcdp::delta(rho, epsilon).value)?;
            }
        }
        "eps_of_delta" => {
            let delta = check.positive("delta_exact")?;
            check.near("eps", EXACT, noise.epsilon(delta, sensitivity.into()))?;
        }
        other => return Err(Malformed(format!("row_kind: {other:?} is neither delta_of_eps nor eps_of_delta"))),
    }
    check.near("rho_zcdp", EXACT, rho)
}

/// `discrete_gaussian_rdp`: Renyi divergences of one coordinate, exactly.
pub fn discrete_gaussian_rdp(check: &mut Check<'_>) -> Result<(), Malformed> {
    let (noise, sensitivity) = (noise(check)?, check.parsed::<u32>("sensitivity")?);
    let order = check.number("alpha")?;
    if order <= 1.0 {
        return Err(Malformed(format!("alpha: {order} is not above 1")));
    }
    let rho = zcdp::rho_of_gaussian(f64::from(sensitivity), check.positive("sigma")?);
    check.near("rdp_exact", EXACT, noise.renyi_divergence(order, sensitivity.into()))?;
    check.near("rdp_bound_alpha_rho", EXACT, order * rho)
}

/// `zcdp`: what a rho amounts to.
pub fn zcdp(check: &mut Check<'_>) -> Result<(), Malformed> {
    let (rho, delta) = (check.number("rho")?, check.positive("delta")?);
    check.near("eps_standard", EXACT, zcdp::epsilon_standard(rho, delta))?;
    check.near("eps_optimal", EXACT, zcdp::epsilon(rho, delta).value)
}
