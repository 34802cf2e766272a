//! Does the time of an operation say something about the secret in it? Measured in the manner of dudect (Reparaz, Balasch and
//! Verbauwhede, 2017). Attack F02 of the catalogue is [`sampler`].
//!
//! Two classes of inputs, drawn in random order, timed one by one; Welch's t of the two means, over all samples and over
//! those below several percentiles, because the slow tail is the machine's and not the operation's. Nothing here asserts a
//! time: figures are printed for people, with a control that is known to leak and one that cannot.

use std::hint::black_box;
use std::time::Instant;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key};
use rand_core::Rng as _;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::math::shamir::{Interpolation, ShareScalar};
use veilsum_crypto::primitives::agreement::{ChannelSecretKey, MailEdge, MaskingSecretKey, Point, SelfMaskSecret};
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::primitives::seal::SavingKey;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Place};
use veilsum_crypto::privacy::SkellamSampler;
use veilsum_crypto::testing::SeededRng;

/// One comparison of two classes.
#[derive(Clone, PartialEq, Debug)]
pub struct Comparison {
    /// What was timed, and what the classes are.
    pub name: &'static str,
    /// Samples of both classes.
    pub samples: usize,
    /// Mean of each class, nanoseconds, the slowest tenth left out.
    pub mean_ns: [f64; 2],
    /// The largest |t| over all crops: beyond about 4.5 dudect calls it a leak, beyond 10 a certain one.
    pub t: f64,
}

/// How time and |noise| go together.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Correlation {
    /// Variance of the sampler.
    pub variance: u64,
    /// Draws.
    pub draws: usize,
    /// Pearson's r over the draws below the 99th percentile of time.
    pub r: f64,
    /// What r would be by chance alone: one standard error.
    pub chance: f64,
    /// Mean time of one draw, nanoseconds, the machine's clock included.
    pub mean_ns: f64,
}

/// Crops: all, then below these percentiles.
const PERCENTILES: [f64; 6] = [1.0, 0.99, 0.95, 0.9, 0.75, 0.5];

/// Times `operation` on inputs that `input(class)` makes outside the time.
fn compare<I, O>(
    name: &'static str,
    samples: usize,
    mut input: impl FnMut(bool, &mut SeededRng) -> I,
    mut operation: impl FnMut(I) -> O,
) -> Comparison {
    let mut rng = SeededRng::new(0x71, 0);
    let mut times: Vec<(bool, f64)> = Vec::with_capacity(samples);
    for sample in 0..samples + samples / 10 {
        let class = rng.next_u32() & 1 == 1;
        let input = black_box(input(class, &mut rng));
        let start = Instant::now();
        let output = black_box(operation(input));
        let took = start.elapsed();
        drop(output);
        if sample >= samples / 10 {
            times.push((class, took.as_nanos() as f64)); // the first tenth warms up
        }
    }
    Comparison { name, samples, mean_ns: means(&times), t: largest_t(&times) }
}

fn means(times: &[(bool, f64)]) -> [f64; 2] {
    let below = percentile(times, 0.9);
    [false, true].map(|of| {
        let class: Vec<f64> =
            times.iter().filter(|(class, time)| *class == of && *time <= below).map(|(_, time)| *time).collect();
        class.iter().sum::<f64>() / class.len().max(1) as f64
    })
}

fn percentile(times: &[(bool, f64)], fraction: f64) -> f64 {
    let mut sorted: Vec<f64> = times.iter().map(|(_, time)| *time).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * fraction) as usize]
}

fn largest_t(times: &[(bool, f64)]) -> f64 {
    PERCENTILES
        .iter()
        .map(|fraction| {
            let below = percentile(times, *fraction);
            let class =
                |of| times.iter().filter(move |(class, time)| *class == of && *time <= below).map(|(_, time)| *time);
            welch(class(false), class(true)).abs()
        })
        .fold(0.0, f64::max)
}

/// Welch's t of two samples; 0 where a class is too small or nothing varies.
pub fn welch(one: impl Iterator<Item = f64>, two: impl Iterator<Item = f64>) -> f64 {
    let (one, two) = (Moments::of(one), Moments::of(two));
    let spread = one.variance() / one.count + two.variance() / two.count;
    if one.count < 2.0 || two.count < 2.0 || spread == 0.0 { 0.0 } else { (one.mean - two.mean) / spread.sqrt() }
}

/// Welford's running mean and variance.
#[derive(Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut moments = Self::default();
        for value in values {
            moments.count += 1.0;
            let apart = value - moments.mean;
            moments.mean += apart / moments.count;
            moments.squares += apart * (value - moments.mean);
        }
        moments
    }

    fn variance(&self) -> f64 {
        self.squares / (self.count - 1.0)
    }
}

/// Pearson's r.
pub fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let (x, y) = (Moments::of(pairs.iter().map(|pair| pair.0)), Moments::of(pairs.iter().map(|pair| pair.1)));
    let joint: f64 = pairs.iter().map(|(a, b)| (a - x.mean) * (b - y.mean)).sum();
    let spread = (x.squares * y.squares).sqrt();
    if spread == 0.0 { 0.0 } else { joint / spread }
}

/// F02: does the time of one draw say how large the noise is?
pub fn sampler(variance: u64, draws: usize) -> Correlation {
    let sampler = SkellamSampler::new(variance).expect("in range");
    let mut stream = NoiseSeed::from_bytes([0x2a; 32]).into_stream();
    for _ in 0..draws / 10 {
        black_box(sampler.sample(&mut stream));
    }
    let mut seen: Vec<(f64, f64)> = Vec::with_capacity(draws);
    for _ in 0..draws {
        let start = Instant::now();
        let noise = black_box(sampler.sample(black_box(&mut stream)));
        let took = start.elapsed();
        seen.push((noise.unsigned_abs() as f64, took.as_nanos() as f64));
    }
    let times: Vec<(bool, f64)> = seen.iter().map(|(_, time)| (false, *time)).collect();
    let below = percentile(&times, 0.99);
    seen.retain(|(_, time)| *time <= below);
    let mean_ns = seen.iter().map(|(_, time)| time).sum::<f64>() / seen.len() as f64;
    Correlation { variance, draws, r: correlation(&seen), chance: 1.0 / (seen.len() as f64).sqrt(), mean_ns }
}

/// Every comparison, controls first.
pub fn comparisons(samples: usize) -> Vec<Comparison> {
    let mut done = controls(samples);
    done.extend(shares(samples));
    done.extend(tags(samples));
    done.extend(keys(samples.div_ceil(10)));
    done
}

fn random<const N: usize>(rng: &mut SeededRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// A comparison that leaks for certain, and one in which the classes are the same.
fn controls(samples: usize) -> Vec<Comparison> {
    let right: [u8; 4096] = [0x5a; 4096];
    let naive = |given: Box<[u8; 4096]>| given.iter().zip(&right).all(|(a, b)| black_box(*a) == black_box(*b));
    let leaking = compare(
        "control, leaks: early exit, difference in the first or the last of 4096 bytes",
        samples,
        |class, _| {
            let mut given = Box::new(right);
            given[if class { 4095 } else { 0 }] ^= 1;
            given
        },
        naive,
    );
    let same = compare("control, cannot leak: the same input in both classes", samples, |_, _| Box::new(right), naive);
    vec![leaking, same]
}

/// Rebuilding a secret from shares, and taking up a share. Inputs of both classes are made in either case: what the processor
/// did just before would tell the classes apart, and says nothing of the operation.
fn shares(samples: usize) -> Vec<Comparison> {
    let holders: Vec<LeafIndex> = (0..22).map(LeafIndex).collect();
    let weights = Interpolation::at_zero_vartime(&holders);
    let fixed: Vec<ShareScalar> = (0..22).map(|_| ShareScalar::from_bytes(&[0; 32]).expect("zero")).collect();
    let scalar = |rng: &mut SeededRng| ShareScalar::from_scalar(curve25519_dalek::Scalar::random(rng));
    vec![
        compare(
            "Shamir combination of 22 shares: all zero, or random",
            samples,
            |class, rng| {
                let (random, zeros) = ((0..22).map(|_| scalar(rng)).collect(), fixed.clone());
                if class { random } else { zeros }
            },
            |shares: Vec<ShareScalar>| weights.combine(&shares),
        ),
        compare(
            "a share is decoded: zero, or random below the order",
            samples,
            |class, rng| {
                let random = *scalar(rng).as_bytes();
                if class { random } else { [0; 32] }
            },
            |bytes: [u8; 32]| ShareScalar::from_bytes(&bytes),
        ),
    ]
}

/// Tag checks: of share mail as AES-GCM does it, of saved state, and equality of digests, which are public.
fn tags(samples: usize) -> Vec<Comparison> {
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from([7; 32]));
    let sealed: [u8; 80] = cipher
        .encrypt(&[0; 12].into(), Payload { msg: &[1; 64], aad: b"edge" })
        .expect("short")
        .try_into()
        .expect("64 bytes and a tag");
    let open = |sealed: [u8; 80]| cipher.decrypt(&[0; 12].into(), Payload { msg: &sealed, aad: b"edge" }).is_ok();
    let altered = |at: usize| {
        let mut other = sealed;
        other[at] ^= 1;
        other
    };
    let saving = SavingKey::from_bytes([3; 32]);
    let state = saving.seal(&mut SeededRng::new(1, 1), &[9; 64]);
    let (dealer, holder) = (ChannelSecretKey::from_bytes([5; 32]), ChannelSecretKey::from_bytes([6; 32]));
    let ends = MailEdge {
        dealer: ClientId([1; 16]),
        holder: ClientId([2; 16]),
        dealer_key: dealer.public(),
        holder_key: holder.public(),
    };
    let context = RosterContext { header: Digest([1; 32]), roster: Digest([2; 32]) };
    let mail = dealer.mail_key(&holder.public(), ends, &context).seal(&[4; 64], b"edge");
    vec![
        compare(
            "AES-GCM tag: wrong in its first, or in its last byte",
            samples,
            |class, _| altered(if class { 79 } else { 64 }),
            open,
        ),
        compare(
            "AES-GCM tag: right, or random (a right one goes on to decrypt: this is public, the message is used or not)",
            samples,
            |class, rng| {
                let mut given = sealed;
                if class {
                    given[64..].copy_from_slice(&random::<16>(rng));
                }
                given
            },
            open,
        ),
        compare(
            "share mail opened by its key: ciphertext wrong in its first, or in its last byte",
            samples,
            |class, _| {
                let mut given = mail;
                given[if class { 63 } else { 0 }] ^= 1;
                (holder.mail_key(&dealer.public(), ends, &context), given)
            },
            |(key, sealed)| key.open(&sealed, b"edge").is_some(),
        ),
        compare(
            "saved state opened: tag wrong in its first, or in its last byte",
            samples,
            |class, _| {
                let mut given = state.clone();
                let at = if class { given.len() - 1 } else { given.len() - 16 };
                given[at] ^= 1;
                given
            },
            |sealed: Vec<u8>| saving.open(&sealed).is_some(),
        ),
        compare(
            "digests compared: different in the first, or in the last byte (public values)",
            samples,
            |class, _| {
                let mut given = [8; 32];
                given[if class { 31 } else { 0 }] ^= 1;
                (Digest(given), Digest([8; 32]))
            },
            |(a, b): (Digest, Digest)| (0..64).filter(|_| black_box(a) == black_box(b)).count(),
        ),
    ]
}

/// Keys in use: a fixed one, or random ones.
fn keys(samples: usize) -> Vec<Comparison> {
    let context = CoreContext {
        roster: RosterContext { header: Digest([1; 32]), roster: Digest([2; 32]) },
        core: Digest([3; 32]),
    };
    let (me, peer) = (ClientId([1; 16]), ClientId([2; 16]));
    let theirs = MaskingSecretKey::generate(&mut SeededRng::new(2, 2)).public();
    let scalar = |class: bool, rng: &mut SeededRng| {
        let random = curve25519_dalek::Scalar::random(rng);
        let scalar = if class { random } else { curve25519_dalek::Scalar::ONE };
        ShareScalar::from_scalar(scalar)
    };
    let other = ChannelSecretKey::from_bytes([6; 32]).public();
    let ends =
        |own: &ChannelSecretKey| MailEdge { dealer: me, holder: peer, dealer_key: own.public(), holder_key: other };
    let place = Place { context: Digest([1; 32]), previous: Digest([2; 32]), sender: me.into(), receiver: peer.into() };
    vec![
        compare("point of a scalar: one, or random", samples, scalar, |scalar: ShareScalar| Point::of(&scalar)),
        compare(
            "pair key agreed on: masking key one, or random",
            samples,
            |class, rng| MaskingSecretKey::from_scalar(&scalar(class, rng)),
            |key: MaskingSecretKey| key.pair_mask_key(me, (peer, &theirs), &context),
        ),
        compare(
            "self mask key derived: secret one, or random",
            samples,
            |class, rng| SelfMaskSecret::from_scalar(&scalar(class, rng)),
            |key: SelfMaskSecret| key.into_mask_key(me, &context),
        ),
        compare(
            "mail key agreed on (X25519): channel key fixed, or random",
            samples,
            |class, rng| ChannelSecretKey::from_bytes(if class { random(rng) } else { [0x40; 32] }),
            |key: ChannelSecretKey| key.mail_key(&other, ends(&key), &context.roster),
        ),
        compare(
            "statement signed (Ed25519): identity key fixed, or random",
            samples,
            |class, rng| IdentitySecretKey::from_bytes(&if class { random(rng) } else { [0; 32] }),
            |key: IdentitySecretKey| {
                place.statement(veilsum_crypto::primitives::labels::CONFIRM, Vec::new()).sign(&key)
            },
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against values computed by hand: means 2 and 4, variances 1 and 4, three of each.
    #[test]
    fn the_statistics_are_what_they_are_called() {
        let t = welch([1.0, 2.0, 3.0].into_iter(), [2.0, 4.0, 6.0].into_iter());
        assert!((t - -2.0 / (5.0_f64 / 3.0).sqrt()).abs() < 1e-12, "{t}");
        assert_eq!(welch([1.0, 1.0].into_iter(), [1.0, 1.0].into_iter()), 0.0);
        let line: Vec<(f64, f64)> = (0..9).map(|x| (f64::from(x), 5.0 - 3.0 * f64::from(x))).collect();
        assert!((correlation(&line) + 1.0).abs() < 1e-12);
        let apart: Vec<(bool, f64)> = (0..1_000).map(|at| (at % 2 == 0, f64::from(at % 2 * 50 + at % 7))).collect();
        assert!(largest_t(&apart) > 100.0, "classes that differ are told apart");
        let alike: Vec<(bool, f64)> = (0..1_000).map(|at| (at % 2 == 0, f64::from(at / 2 % 7))).collect();
        assert!(largest_t(&alike) < 1.0, "classes that are equal are not");
    }
}
