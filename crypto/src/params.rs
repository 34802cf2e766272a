//! What is equal for everybody in a round, and what follows from the roster's size. §3
//!
//! [`RoundParams`] stand in the header. [`RosterParams`] follow from them and the signed number of
//! clients: both sides derive them, nobody accepts them from anybody.

use alloc::vec::Vec;

use crate::graph::{Adversary, GraphKind, GraphQuery, largest_feasible_dropped, search};
use crate::ids::LeafIndex;
use crate::math::ring::{RingBits, RingVector};
use crate::primitives::codec::{DecodeError, Reader};

pub mod headroom;
mod order;

use headroom::{Headroom, NoisySum, smallest_ring_bits};
pub use order::RingOrder;

/// Fractions are counted in millionths.
pub const MILLION: u64 = 1_000_000;
/// The largest roster whose every (id, leaf hash) a client holds itself, R-05.
pub const ROSTER_LIMIT: u32 = 16_384;
/// The longest vector: 2^28 elements, 2 GiB at 64 bits. Bounds every allocation that a header can cause.
pub const VECTOR_LIMIT: u32 = 1 << 28;
/// Longest window, ms: a day. No aggregator can hold clients in a round longer than it said, nor say whatever it likes. §7.1
pub const WINDOW_MS_LIMIT: u32 = 24 * 60 * 60 * 1_000;

/// The seven windows of a round, ms. §7.1
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Windows(pub [u32; 7]);

/// The parameters of a round that stand in its header. §3
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RoundParams {
    /// Coordinates of the masked vector, the weight included.
    pub vector_len: u32,
    /// Largest weight; 0: the mean is not weighted. R-34
    pub weight_max: u32,
    /// r of the ring Z mod 2^r.
    pub ring_bits: RingBits,
    /// One coordinate wraps with probability at most 2^-wrap_bits.
    pub wrap_bits: u8,
    /// Largest squared L2 norm of the quantized vector, integer units.
    pub max_squared_norm: u64,
    /// Integer units per real unit.
    pub scale: f64,
    /// L2 clip, real units.
    pub clip_norm: f64,
    /// Guaranteed variance of the noise in one coordinate of the sum, integer units; 0: no noise.
    pub total_variance: u64,
    /// Fewest clients of a roster.
    pub roster_min: u32,
    /// Most clients of a roster.
    pub roster_max: u32,
    /// Fewest clients of a core and of a sum.
    pub cohort_min: u32,
    /// gamma, millionths of the roster that may be corrupt.
    pub corrupt_fraction: u32,
    /// delta, millionths of the roster that may be lost.
    pub dropout_tolerance: u32,
    /// sigma: privacy of the graph fails with probability at most 2^-sigma.
    pub security_bits: u16,
    /// eta: completion fails with probability at most 2^-eta.
    pub completion_bits: u16,
    /// delta at which epsilon is stated.
    pub dp_delta: f64,
    /// How long phases stay open at least.
    pub windows: Windows,
}

/// Why parameters cannot be used.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ParamsError {
    /// A number outside its range.
    #[error("{field} must be {expected}; it is {found}")]
    Range {
        /// Which.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What came.
        found: u64,
    },
    /// No graph, not even the complete one, keeps the promises.
    #[error("{n} clients with {corrupt} corrupt and {dropped} lost are infeasible at {security_bits} security bits; {}", Feasible(*.feasible, *.n))]
    InfeasibleGraph {
        /// Clients.
        n: u32,
        /// c.
        corrupt: u32,
        /// T.
        dropped: u32,
        /// sigma.
        security_bits: u16,
        /// The largest T that would do, if any.
        feasible: Option<u32>,
    },
    /// Fewer than `cohort_min` would be left when T are lost.
    #[error(
        "a roster of {n} that loses {dropped} is below cohort_min {cohort_min}; lower cohort_min or dropout_tolerance, or raise roster_min"
    )]
    CohortMin {
        /// Clients.
        n: u32,
        /// T.
        dropped: u32,
        /// The bound.
        cohort_min: u32,
    },
    /// All that the roster permits to remain could be corrupt: nobody is promised to add noise.
    #[error(
        "of {survivors_min} survivors {corrupt} may be corrupt: no honest client is left to carry the noise; raise cohort_min"
    )]
    NobodyHonest {
        /// Fewest survivors.
        survivors_min: u32,
        /// c.
        corrupt: u32,
    },
    /// The ring is too narrow for the sum.
    #[error("ring_bits {found} would wrap: {needed} are needed for the sum, its noise and wrap_bits")]
    Headroom {
        /// Bits needed.
        needed: u8,
        /// Bits given.
        found: u8,
    },
    /// No ring is wide enough.
    #[error("no ring of up to 64 bits holds the sum: lower scale, clip_norm or the noise")]
    NoRing,
}

struct Feasible(Option<u32>, u32);
impl core::fmt::Display for Feasible {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(dropped) => {
                let fraction = f64::from(dropped) / f64::from(self.1);
                write!(f, "{dropped} lost would be feasible (dropout_tolerance {fraction:.4})")
            }
            None => {
                write!(f, "no dropout_tolerance is feasible: lower corrupt_fraction or raise the number of clients")
            }
        }
    }
}

impl RoundParams {
    /// c = ceil(gamma n).
    pub fn corrupt(&self, n: u32) -> u32 {
        (u64::from(n) * u64::from(self.corrupt_fraction)).div_ceil(MILLION) as u32
    }

    /// T = floor(delta n).
    pub fn tolerated(&self, n: u32) -> u32 {
        (u64::from(n) * u64::from(self.dropout_tolerance) / MILLION) as u32
    }

    /// max(cohort_min, n - T): fewest clients of a core and of a sum with a roster of n.
    pub fn survivors_min(&self, n: u32) -> u32 {
        self.cohort_min.max(n - self.tolerated(n))
    }

    /// h: the honest clients of the smallest permitted sum. §3.4, R-14
    pub fn honest(&self, n: u32) -> Result<u32, ParamsError> {
        let (survivors_min, corrupt) = (self.survivors_min(n), self.corrupt(n));
        if n - self.tolerated(n) < self.cohort_min {
            return Err(ParamsError::CohortMin { n, dropped: self.tolerated(n), cohort_min: self.cohort_min });
        }
        match survivors_min.checked_sub(corrupt) {
            Some(honest) if honest > 0 => Ok(honest),
            _ => Err(ParamsError::NobodyHonest { survivors_min, corrupt }),
        }
    }

    /// Variance of one client's noise in one coordinate: h of them carry the total. Rounded up. §3.4, R-14
    pub fn share_variance(&self, n: u32) -> Result<u64, ParamsError> {
        Ok(self.total_variance.div_ceil(u64::from(self.honest(n)?)))
    }

    /// Length of a packed vector, bytes.
    pub fn packed_bytes(&self) -> usize {
        RingVector::packed_bytes(self.vector_len as usize, self.ring_bits)
    }

    /// Everything that can be said before the roster is known, cheaply enough for every round: ranges, honest
    /// counts and headroom for every permitted size. §3.3, R-14
    pub fn check(&self) -> Result<(), ParamsError> {
        let range = |field, found: u64, allowed: core::ops::RangeInclusive<u64>, expected| {
            if allowed.contains(&found) { Ok(()) } else { Err(ParamsError::Range { field, expected, found }) }
        };
        range("vector_len", self.vector_len.into(), 1..=VECTOR_LIMIT.into(), "1 to 2^28")?;
        range("wrap_bits", self.wrap_bits.into(), 1..=128, "1 to 128")?;
        range("corrupt_fraction", self.corrupt_fraction.into(), 0..=MILLION - 1, "below one million millionths")?;
        range("dropout_tolerance", self.dropout_tolerance.into(), 0..=MILLION - 1, "below one million millionths")?;
        range("security_bits", self.security_bits.into(), 1..=256, "1 to 256")?;
        range("completion_bits", self.completion_bits.into(), 1..=256, "1 to 256")?;
        range("roster_min", self.roster_min.into(), 3..=ROSTER_LIMIT.into(), "3 to 16384")?;
        range(
            "roster_max",
            self.roster_max.into(),
            self.roster_min.into()..=ROSTER_LIMIT.into(),
            "roster_min to 16384",
        )?;
        range("cohort_min", self.cohort_min.into(), 2..=self.roster_max.into(), "2 to roster_max")?;
        range("scale (rounded down)", self.scale as u64, 0..=1 << 52, "above 0 and at most 2^52")?;
        range("clip_norm (rounded up)", libm::ceil(self.clip_norm) as u64, 1..=1 << 52, "above 0 and at most 2^52")?;
        range("scale (rounded up)", libm::ceil(self.scale) as u64, 1..=1 << 52, "above 0 and at most 2^52")?;
        range("dp_delta (rounded up)", libm::ceil(self.dp_delta) as u64, 1..=1, "above 0 and below 1")?;
        range("dp_delta (rounded down)", self.dp_delta as u64, 0..=0, "above 0 and below 1")?;
        range("max_squared_norm", self.max_squared_norm, 1..=1 << 62, "1 to 2^62")?;
        range("total_variance", self.total_variance, 0..=1 << 52, "at most 2^52")?;
        range(
            "vector_len with a weight",
            self.vector_len.into(),
            1 + u64::from(self.weight_max > 0)..=VECTOR_LIMIT.into(),
            "2 to 2^28",
        )?;
        range(
            "clip_norm times scale (rounded up)",
            libm::ceil(self.clip_norm * self.scale) as u64,
            1..=1 << 31,
            "at most 2^31",
        )?;
        for window_ms in self.windows.0 {
            range("window", window_ms.into(), 1..=WINDOW_MS_LIMIT.into(), "1 ms to a day")?;
        }
        for n in self.roster_min..=self.roster_max {
            // The reach of the exact sampler, crate::privacy::skellam.
            range("share variance", self.share_variance(n)?, 0..=1 << 32, "at most 2^32")?;
        }
        let needed = self.ring_bits_needed()?;
        if needed > self.ring_bits {
            return Err(ParamsError::Headroom { needed: needed.get(), found: self.ring_bits.get() });
        }
        Ok(())
    }

    /// The narrowest ring for every permitted roster, R-14.
    pub fn ring_bits_needed(&self) -> Result<RingBits, ParamsError> {
        let sums = (self.roster_min..=self.roster_max)
            .map(|n| Ok(NoisySum { clients: n, share_variance: self.share_variance(n)? }))
            .collect::<Result<Vec<_>, ParamsError>>()?;
        let norm_bound_floor = self.max_squared_norm.isqrt();
        smallest_ring_bits(Headroom { norm_bound_floor, wrap_bits: self.wrap_bits, sums: &sums })
            .map_err(|_| ParamsError::NoRing)
    }

    /// Appends the layout of docs/wire.md §header.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.vector_len.to_le_bytes());
        out.extend(self.weight_max.to_le_bytes());
        out.push(self.ring_bits.get());
        out.push(self.wrap_bits);
        out.extend(self.max_squared_norm.to_le_bytes());
        out.extend(self.scale.to_bits().to_le_bytes());
        out.extend(self.clip_norm.to_bits().to_le_bytes());
        out.extend(self.total_variance.to_le_bytes());
        for number in [self.roster_min, self.roster_max, self.cohort_min, self.corrupt_fraction, self.dropout_tolerance]
        {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.security_bits.to_le_bytes());
        out.extend(self.completion_bits.to_le_bytes());
        out.extend(self.dp_delta.to_bits().to_le_bytes());
        self.windows.0.iter().for_each(|window_ms| out.extend(window_ms.to_le_bytes()));
    }

    /// Reads what [`RoundParams::write`] wrote; whether the numbers make sense, [`RoundParams::check`] says.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            vector_len: reader.u32("vector_len")?,
            weight_max: reader.u32("weight_max")?,
            ring_bits: RingBits::new(reader.u8("ring_bits")?)
                .map_err(|_| DecodeError::NotCanonical { field: "ring_bits", expected: "8 to 64" })?,
            wrap_bits: reader.u8("wrap_bits")?,
            max_squared_norm: reader.u64("max_squared_norm")?,
            scale: reader.f64("scale")?,
            clip_norm: reader.f64("clip_norm")?,
            total_variance: reader.u64("total_variance")?,
            roster_min: reader.u32("roster_min")?,
            roster_max: reader.u32("roster_max")?,
            cohort_min: reader.u32("cohort_min")?,
            corrupt_fraction: reader.u32("corrupt_fraction")?,
            dropout_tolerance: reader.u32("dropout_tolerance")?,
            security_bits: reader.u16("security_bits")?,
            completion_bits: reader.u16("completion_bits")?,
            dp_delta: reader.f64("dp_delta")?,
            windows: {
                let mut windows = [0; 7];
                for window_ms in &mut windows {
                    *window_ms = reader.u32("window")?;
                }
                Windows(windows)
            },
        })
    }
}

/// What follows from the roster's size. Invariants: `2t > k + c`, `t <= k`, `h >= 1`; for the complete graph
/// k = n - 1 and `2t >= n + c`. §3.2
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RosterParams {
    /// n.
    pub n: u32,
    /// c.
    pub corrupt: u32,
    /// T.
    pub tolerated: u32,
    /// k: neighbours of a client.
    pub degree: u32,
    /// t: shares that rebuild a secret, signatures that make a survivor list.
    pub threshold: u32,
    /// h: honest noise shares of the smallest permitted sum.
    pub honest: u32,
    /// max(cohort_min, n - T).
    pub survivors_min: u32,
    /// Variance of one client's noise in one coordinate.
    pub share_variance: u64,
}

impl RosterParams {
    /// The only way to (k, t, h), on both sides. R-04
    pub fn derive(n: u32, params: &RoundParams) -> Result<Self, ParamsError> {
        if n < params.roster_min || n > params.roster_max {
            return Err(ParamsError::Range {
                field: "roster size",
                expected: "roster_min to roster_max",
                found: n.into(),
            });
        }
        let (corrupt, tolerated) = (params.corrupt(n), params.tolerated(n));
        let (honest, share_variance) = (params.honest(n)?, params.share_variance(n)?);
        let query = GraphQuery {
            clients: n,
            corrupt,
            dropped: tolerated,
            security_bits: params.security_bits,
            completion_bits: params.completion_bits,
            adversary: Adversary::SemiMalicious,
        };
        let graph = search(&query).map_err(|_| ParamsError::InfeasibleGraph {
            n,
            corrupt,
            dropped: tolerated,
            security_bits: params.security_bits,
            feasible: largest_feasible_dropped(&query),
        })?;
        debug_assert!(graph.kind == GraphKind::Complete || graph.degree <= n - 2);
        Ok(Self {
            n,
            corrupt,
            tolerated,
            degree: graph.degree,
            threshold: graph.threshold,
            honest,
            survivors_min: params.survivors_min(n),
            share_variance,
        })
    }

    /// 2t - k - 1: the most complaints of an honest holder and the most openings of an honest dealer. R-16
    pub fn openings_max(&self) -> u32 {
        (2 * self.threshold).saturating_sub(self.degree + 1)
    }

    /// Whether `leaf` is in the roster.
    pub fn has(&self, leaf: LeafIndex) -> bool {
        leaf.0 < self.n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::demo_params;

    /// the worked example of §3: n = 64, gamma 0.05, delta 0.25.
    #[test]
    fn the_demo_round_has_the_parameters_of_the_text() {
        let params = RosterParams::derive(64, &demo_params(64)).expect("feasible");
        let RosterParams { corrupt, tolerated, degree, threshold, honest, .. } = params;
        assert_eq!((corrupt, tolerated, degree, threshold, honest), (4, 16, 38, 22, 44));
        assert!(2 * threshold > degree + corrupt);
    }

    /// a ring too narrow for every permitted roster is refused, and so is a task with nobody honest.
    #[test]
    fn headroom_and_honest_count_are_proved_for_every_permitted_size() {
        let good = demo_params(64);
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.ring_bits_needed().map(RingBits::get), Ok(16));
        let narrow = RoundParams { ring_bits: RingBits::new(15).expect("in range"), ..good };
        assert_eq!(narrow.check(), Err(ParamsError::Headroom { needed: 16, found: 15 }));
        let nobody = RoundParams { corrupt_fraction: 990_000, cohort_min: 2, ..good };
        assert!(matches!(nobody.check(), Err(ParamsError::NobodyHonest { .. })));
    }

    /// §5.1: no header holds a client longer than a day a window.
    #[test]
    fn windows_last_from_a_millisecond_to_a_day() {
        let with = |window_ms: u32| {
            let mut params = demo_params(64);
            params.windows.0[3] = window_ms;
            params.check()
        };
        assert_eq!((with(1), with(WINDOW_MS_LIMIT)), (Ok(()), Ok(())));
        for refused in [0, WINDOW_MS_LIMIT + 1] {
            assert!(matches!(with(refused), Err(ParamsError::Range { .. })), "{refused}");
        }
    }

    #[test]
    fn an_infeasible_roster_names_what_would_be_feasible() {
        let four = RoundParams { roster_min: 3, roster_max: 64, cohort_min: 2, ..demo_params(64) };
        let error = RosterParams::derive(4, &four).expect_err("n = 4, gamma 0.05, delta 0.25");
        assert!(matches!(error, ParamsError::InfeasibleGraph { feasible: Some(0), .. }), "{error}");
    }

    #[test]
    fn parameters_survive_the_wire() {
        let params = demo_params(64);
        let mut bytes = Vec::new();
        params.write(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(RoundParams::read(&mut reader), Ok(params));
        assert_eq!(reader.finish(), Ok(()));
    }
}
