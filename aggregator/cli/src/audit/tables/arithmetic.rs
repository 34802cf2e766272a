//! Tables of arithmetic: the variances of removable noise, as exact fractions, and adaptive clipping.

use veilsum_crypto::privacy::clipping::{ClipStep, next_clip_norm, split_noise};
use veilsum_crypto::privacy::xnoise::{NoisePlan, Ratio, Scheme, XNoise, XNoiseError};

use super::check::{Check, Malformed, Tolerance};

const TIGHT: Tolerance = Tolerance::Relative(1e-9);

/// `a/b`, in lowest terms or not; a whole number stands for itself.
fn ratio(column: &str, text: &str) -> Result<Ratio, Malformed> {
    let (above, below) = text.split_once('/').unwrap_or((text, "1"));
    let parsed = above.parse().ok().zip(below.parse().ok()).and_then(|(above, below)| Ratio::new(above, below));
    parsed.ok_or_else(|| Malformed(format!("{column}: {text:?} is no fraction")))
}

fn equal_ratio(check: &mut Check<'_>, column: &str, got: Result<Ratio, XNoiseError>) -> Result<(), Malformed> {
    let got = got.map_err(|error| Malformed(error.to_string()))?;
    let expected = ratio(column, check.text(column)?)?;
    check.same(column, got == expected, &got, &expected);
    Ok(())
}

/// `xnoise`: every column, as exact fractions.
pub fn xnoise(check: &mut Check<'_>) -> Result<(), Malformed> {
    let scheme = match check.text("scheme")? {
        "simple" => Scheme::Simple,
        "log2" => Scheme::Log2,
        other => return Err(Malformed(format!("scheme: {other:?} is neither simple nor log2"))),
    };
    let (clients, colluding): (u32, u32) = (check.parsed("n")?, check.parsed("colluding_C")?);
    let (tolerated, dropped): (u32, u32) = (check.parsed("tolerated_T")?, check.parsed("dropped_D")?);
    let target = ratio("target_variance", check.text("target_variance")?)?;
    let left = clients.checked_sub(dropped).ok_or_else(|| Malformed("dropped_D: more than all".to_string()))?;
    let honest = left.saturating_sub(colluding);
    let noise = XNoise::new(NoisePlan { scheme, clients, tolerated, colluding, target })
        .map_err(|error| Malformed(error.to_string()))?;

    equal_ratio(check, "inflation_kappa", Ok(noise.inflation()))?;
    let listed = check.text("component_variances")?;
    let components = listed.split(';').map(|cell| ratio("component_variances", cell)).collect::<Result<Vec<_>, _>>()?;
    let got: Vec<String> = noise.components().iter().map(Ratio::to_string).collect();
    check.same("component_variances", noise.components() == components.as_slice(), &got.join(";"), &listed);

    let removed = noise.removed(dropped);
    check.equal("expected", if removed.is_ok() { "release" } else { "abort" }.to_string())?;
    let removed: Vec<String> = removed.unwrap_or_default().iter().map(ToString::to_string).collect();
    check.equal("removed_component_indices", removed.join(";"))?;

    let (uploaded, residual) = (noise.uploaded(), noise.residual(dropped));
    equal_ratio(check, "per_client_uploaded_variance", uploaded)?;
    equal_ratio(check, "per_client_residual_variance", residual)?;
    equal_ratio(check, "total_residual_variance", residual.and_then(|each| XNoise::of_all(each, left)))?;
    equal_ratio(check, "honest_residual_variance", residual.and_then(|each| XNoise::of_all(each, honest)))?;
    equal_ratio(check, "total_if_no_removal", uploaded.and_then(|each| XNoise::of_all(each, left)))?;
    // plain shares of target/n, of the honest: what a plan that tolerates nothing has
    let plain = XNoise::new(NoisePlan { tolerated: 0, colluding: 0, scheme: Scheme::Simple, clients, target });
    let plain = plain.and_then(|plain| plain.uploaded()).and_then(|each| XNoise::of_all(each, honest));
    equal_ratio(check, "total_plain_no_xnoise", plain)
}

/// `adaptive_clipping`: how noise is split between update and bit, and how the clip norm moves.
pub fn adaptive_clipping(check: &mut Check<'_>) -> Result<(), Malformed> {
    match check.text("kind")? {
        "noise_split" => match split_noise(check.number("total_z")?, check.number("sigma_b")?) {
            Some(z_delta) => check.near("z_delta", TIGHT, z_delta),
            None => check.equal("z_delta", "reject".to_string()),
        },
        "geometric_update" => {
            let step = ClipStep {
                clip_norm: check.positive("C_before")?,
                rate: check.number("eta")?,
                target_fraction: check.number("gamma")?,
                fraction_unclipped: check.number("noisy_fraction_unclipped")?,
            };
            check.near("C_after", TIGHT, next_clip_norm(step))
        }
        other => Err(Malformed(format!("kind: {other:?} is neither noise_split nor geometric_update"))),
    }
}
