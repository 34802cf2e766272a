//! Noise that fits the dropouts that happened: the variances of XNoise, in exact rationals.
//!
//! Jiang, Wang and Chen, *Dordis: Efficient Federated Learning with Dropout-Resilient Differential Privacy* (2024), Section 4,
//! and its published code. Of n clients up to T may drop out, D do. Each client adds components of noise; once D is known, what
//! is too much is removed from each survivor's sum, so that the total has variance S, or a little more, whatever D was.
//!
//! ```text
//! simple  v_0 = S/n, v_k = S/((n-k+1)(n-k)) for k = 1..T      remove components D+1..T: exactly S is left
//! log2    V = S T/(n(n-T)), L = ceil(log2 T), u = V/2^L; components S/n, u, u, 2u, 4u, .., 2^(L-1) u
//!         remove floor(S(1/(n-T) - 1/(n-D))/u) units: component 1 once, then the binary expansion of one less
//! ```
//!
//! C clients may collude with the aggregator and keep their noise to themselves: all variances are then larger by
//! `kappa = t/(t-C)`, where t = n-T survivors are guaranteed. More dropouts than T: the round is abandoned, nothing is removed.
//!
//! Variances only; Skellam noise alone has them add up. Integers throughout: nothing depends on rounding.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use thiserror::Error;

/// A fraction from 0 up, in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    numerator: u128,
    denominator: u128,
}

fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Ratio {
    /// The fraction in lowest terms; `None` if `denominator` is zero.
    pub fn new(numerator: u128, denominator: u128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let common = greatest_common_divisor(numerator, denominator);
        Some(Self { numerator: numerator / common, denominator: denominator / common })
    }

    /// A whole number.
    pub fn whole(number: u128) -> Self {
        Self { numerator: number, denominator: 1 }
    }

    /// Above the line.
    pub fn numerator(&self) -> u128 {
        self.numerator
    }

    /// Below the line, not zero.
    pub fn denominator(&self) -> u128 {
        self.denominator
    }

    fn times(self, other: Self) -> Option<Self> {
        // reduced crosswise first: what fits at all is found
        let a = greatest_common_divisor(self.numerator, other.denominator).max(1);
        let b = greatest_common_divisor(other.numerator, self.denominator).max(1);
        Some(Self {
            numerator: (self.numerator / a).checked_mul(other.numerator / b)?,
            denominator: (self.denominator / b).checked_mul(other.denominator / a)?,
        })
    }

    fn over(self, divisor: u128) -> Option<Self> {
        self.times(Self::new(1, divisor)?)
    }

    /// This by `sign` the other, where the result is not negative.
    fn combined(self, other: Self, sum: fn(u128, u128) -> Option<u128>) -> Option<Self> {
        let common = greatest_common_divisor(self.denominator, other.denominator);
        let (mine, theirs) = (other.denominator / common, self.denominator / common);
        let numerator = sum(self.numerator.checked_mul(mine)?, other.numerator.checked_mul(theirs)?)?;
        Self::new(numerator, self.denominator.checked_mul(mine)?)
    }

    fn plus(self, other: Self) -> Option<Self> {
        self.combined(other, u128::checked_add)
    }

    fn minus(self, other: Self) -> Option<Self> {
        self.combined(other, u128::checked_sub)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

/// How the removable noise is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// One removable component for each tolerated dropout.
    Simple,
    /// Components that double: about log2 T of them.
    Log2,
}

/// What a round plans for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoisePlan {
    /// How the removable noise is cut up.
    pub scheme: Scheme,
    /// n: clients that add noise.
    pub clients: u32,
    /// T: how many of them may drop out.
    pub tolerated: u32,
    /// C: how many of those that stay may keep their noise to themselves.
    pub colluding: u32,
    /// S: the variance that the honest survivors' noise must have.
    pub target: Ratio,
}

/// Why there is no plan, or no release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum XNoiseError {
    /// The counts do not go together.
    #[error(
        "{clients} clients of whom {tolerated} may drop out and {colluding} collude leave nobody honest; tolerate less, or \
         invite more"
    )]
    Counts {
        /// n.
        clients: u32,
        /// T.
        tolerated: u32,
        /// C.
        colluding: u32,
    },
    /// More were lost than planned for: abandoned.
    #[error("{dropped} clients dropped out where {tolerated} were planned for: what is left is too little noise")]
    TooManyDropped {
        /// D.
        dropped: u32,
        /// T.
        tolerated: u32,
    },
    /// A fraction does not fit 128 bits.
    #[error("a variance of this plan needs more than 128 bits above or below the line; give a rounder target")]
    TooLarge,
}

/// The components of one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XNoise {
    plan: NoisePlan,
    inflation: Ratio,
    components: Vec<Ratio>,
}

impl XNoise {
    /// Cuts the noise up.
    ///
    /// # Errors
    /// [`XNoiseError::Counts`] unless `T + C < n`; [`XNoiseError::TooLarge`].
    pub fn new(plan: NoisePlan) -> Result<Self, XNoiseError> {
        let NoisePlan { scheme, clients, tolerated, colluding, target } = plan;
        let counts = XNoiseError::Counts { clients, tolerated, colluding };
        let guaranteed = clients.checked_sub(tolerated).ok_or(counts)?;
        let honest = guaranteed.checked_sub(colluding).filter(|honest| *honest > 0).ok_or(counts)?;
        let inflation = Ratio::new(guaranteed.into(), honest.into()).ok_or(counts)?;
        let inflated = target.times(inflation).ok_or(XNoiseError::TooLarge)?;
        let components = match scheme {
            Scheme::Simple => simple(inflated, clients, tolerated),
            Scheme::Log2 => log2(inflated, clients, tolerated),
        };
        Ok(Self { plan, inflation, components: components.ok_or(XNoiseError::TooLarge)? })
    }

    /// kappa.
    pub fn inflation(&self) -> Ratio {
        self.inflation
    }

    /// The variances of a client's components; the first is never removed. Each has a seed of its own.
    pub fn components(&self) -> &[Ratio] {
        &self.components
    }

    /// Which components are removed from every survivor when `dropped` were lost, by index, rising.
    ///
    /// # Errors
    /// [`XNoiseError::TooManyDropped`].
    pub fn removed(&self, dropped: u32) -> Result<Vec<usize>, XNoiseError> {
        let NoisePlan { scheme, clients, tolerated, .. } = self.plan;
        if dropped > tolerated {
            return Err(XNoiseError::TooManyDropped { dropped, tolerated });
        }
        Ok(match scheme {
            Scheme::Simple => (dropped as usize + 1..=tolerated as usize).collect(),
            Scheme::Log2 => {
                // S(1/(n-T) - 1/(n-D))/u with u = S T/(n(n-T) 2^L): S cancels
                let [n, t, d] = [clients, tolerated, dropped].map(u128::from);
                let units = if t == 0 { 0 } else { (((t - d) << doublings(tolerated)) * n) / ((n - d) * t) };
                let binary = |units: u128| (0..128).filter(move |bit| units >> bit & 1 == 1).map(|bit| bit + 2);
                units.checked_sub(1).map_or_else(Vec::new, |rest| vec![1].into_iter().chain(binary(rest)).collect())
            }
        })
    }

    /// The variance of one client's upload, all components.
    ///
    /// # Errors
    /// [`XNoiseError::TooLarge`].
    pub fn uploaded(&self) -> Result<Ratio, XNoiseError> {
        self.sum(0..self.components.len())
    }

    /// The variance that is left of one survivor's noise; after too many dropouts nothing was removed.
    ///
    /// # Errors
    /// [`XNoiseError::TooLarge`].
    pub fn residual(&self, dropped: u32) -> Result<Ratio, XNoiseError> {
        let removed = self.sum(self.removed(dropped).unwrap_or_default())?;
        self.uploaded()?.minus(removed).ok_or(XNoiseError::TooLarge)
    }

    /// The same of `clients` together.
    ///
    /// # Errors
    /// [`XNoiseError::TooLarge`].
    pub fn of_all(each: Ratio, clients: u32) -> Result<Ratio, XNoiseError> {
        each.times(Ratio::whole(clients.into())).ok_or(XNoiseError::TooLarge)
    }

    fn sum(&self, indices: impl IntoIterator<Item = usize>) -> Result<Ratio, XNoiseError> {
        let add = |sum: Ratio, index: usize| sum.plus(self.components[index]);
        indices.into_iter().try_fold(Ratio::whole(0), add).ok_or(XNoiseError::TooLarge)
    }
}

fn simple(target: Ratio, clients: u32, tolerated: u32) -> Option<Vec<Ratio>> {
    let n = u128::from(clients);
    let removable = (1..=u128::from(tolerated)).map(|k| target.over((n - k + 1) * (n - k)));
    core::iter::once(target.over(n)).chain(removable).collect()
}

/// L: how often the smallest component is doubled.
fn doublings(tolerated: u32) -> u32 {
    tolerated.next_power_of_two().trailing_zeros()
}

fn log2(target: Ratio, clients: u32, tolerated: u32) -> Option<Vec<Ratio>> {
    let (n, t) = (u128::from(clients), u128::from(tolerated));
    let mut components = vec![target.over(n)?];
    if tolerated > 0 {
        let all = target.times(Ratio::new(t, n * (n - t))?)?;
        let unit = all.over(1 << doublings(tolerated))?;
        components.push(unit);
        for doubling in 0..doublings(tolerated) {
            components.push(unit.times(Ratio::whole(1 << doubling))?);
        }
    }
    Some(components)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;

    fn plan(scheme: Scheme, clients: u32, tolerated: u32, colluding: u32) -> NoisePlan {
        let target = Ratio::new(123_456, 7).expect("not over zero");
        NoisePlan { scheme, clients, tolerated, colluding, target }
    }

    fn at_most(a: Ratio, b: Ratio) -> bool {
        b.minus(a).is_some()
    }

    #[test]
    fn fractions_are_in_lowest_terms_and_exact() {
        let third = Ratio::new(2, 6).expect("not over zero");
        assert_eq!((third.numerator(), third.denominator(), format!("{third}").as_str()), (1, 3, "1/3"));
        assert_eq!(third.plus(third), Ratio::new(2, 3));
        assert_eq!(third.minus(Ratio::whole(1)), None);
        assert_eq!(third.times(Ratio::whole(0)), Some(Ratio::whole(0)));
        assert_eq!(Ratio::new(1, 0), None);
        let huge = Ratio::whole(u128::MAX);
        assert_eq!((huge.plus(huge), huge.times(huge)), (None, None));
        assert_eq!(huge.over(u128::MAX), Some(Ratio::whole(1)));
    }

    #[test]
    fn plans_that_leave_nobody_honest_and_losses_beyond_the_plan_are_refused() {
        for (clients, tolerated, colluding) in [(3, 3, 0), (3, 4, 0), (3, 1, 2), (0, 0, 0)] {
            let refused = XNoise::new(plan(Scheme::Simple, clients, tolerated, colluding)).expect_err("nobody");
            assert_eq!(refused, XNoiseError::Counts { clients, tolerated, colluding });
        }
        let noise = XNoise::new(plan(Scheme::Log2, 10, 3, 0)).expect("a plan");
        assert_eq!(noise.removed(4), Err(XNoiseError::TooManyDropped { dropped: 4, tolerated: 3 }));
        assert_eq!(noise.residual(4), noise.uploaded());
        assert_eq!(XNoise::new(plan(Scheme::Log2, 10, 0, 0)).expect("a plan").removed(0), Ok(vec![]));
    }

    #[test]
    fn a_million_clients_fit() {
        for scheme in [Scheme::Simple, Scheme::Log2] {
            let noise = XNoise::new(plan(scheme, 1_000_000, 1_000, 50_000)).expect("a plan");
            let left = XNoise::of_all(noise.residual(300).expect("fits"), 1_000_000 - 300).expect("fits");
            assert!(at_most(plan(scheme, 1, 0, 0).target, left));
        }
    }

    proptest! {
        /// Whatever happens within the plan, the honest survivors' noise has the variance aimed for; without colluders the
        /// simple scheme leaves exactly that, the other less than one unit a survivor more.
        #[test]
        fn enough_is_left_and_not_much_more(clients in 2_u32..200, t in 0.0..1.0_f64, d in 0.0..1.0_f64, c in 0.0..1.0_f64) {
            let tolerated = (t * f64::from(clients - 1)) as u32;
            let dropped = (d * f64::from(tolerated + 1)) as u32;
            let colluding = (c * f64::from(clients - tolerated)) as u32;
            for scheme in [Scheme::Simple, Scheme::Log2] {
                let plan = plan(scheme, clients, tolerated, colluding);
                let noise = XNoise::new(plan).expect("somebody is honest");
                prop_assert_eq!(noise.uploaded(), Ok(noise.inflation().times(plan.target).and_then(|s| s.over((clients - tolerated).into())).expect("fits")));
                let each = noise.residual(dropped).expect("fits");
                let honest = XNoise::of_all(each, clients - dropped - colluding).expect("fits");
                prop_assert!(at_most(plan.target, honest));
                let all = XNoise::of_all(each, clients - dropped).expect("fits");
                let exactly = noise.inflation().times(plan.target).expect("fits");
                match scheme {
                    Scheme::Simple => prop_assert_eq!(all, exactly),
                    Scheme::Log2 if tolerated > 0 => {
                        let unit = XNoise::of_all(noise.components()[1], clients - dropped).expect("fits");
                        prop_assert!(at_most(exactly, all) && !at_most(exactly.plus(unit).expect("fits"), all));
                    }
                    Scheme::Log2 => prop_assert_eq!(all, exactly),
                }
            }
        }
    }
}
