//! Plain minibatch SGD, the two learning rates, and the settings with which the demo learns.
//!
//! No momentum and no Adam on either side: adaptive servers turn the noise up (measured: they lose to the unigram).

/// One client's local training in one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// Minibatches a round.
    pub steps: usize,
    /// Examples in a minibatch, drawn independently with replacement.
    pub positions: usize,
    /// Learning rate: step over mean gradient, both in the model's scaled coordinates.
    pub rate: f32,
}

/// Calibrated by simulation on 1.3 MB of Rust and of Markdown, 64 clients, `z = 4`, three seeds each. Nats below the
/// unigram, mean and worst: 0.30 and 0.20 at 0.5, 0.33 and 0.24 at 1, 0.32 and 0.25 at 1.5, 0.24 and 0.08 at 4, the
/// rate of the first calibration.
const LOCAL_RATE: f32 = 1.0;

impl Default for SgdConfig {
    /// The demo's column for 64 clients. 120 steps of 170 cost as much as 80 of 256 and gain a little more.
    fn default() -> Self {
        Self { steps: 120, positions: 170, rate: LOCAL_RATE }
    }
}

/// Runs `config.steps` minibatches: `step` receives example numbers below `examples` and the rate, and moves the
/// model.
///
/// Does nothing when there are no examples.
pub fn descend(config: &SgdConfig, examples: usize, rng: &mut SplitMix64, mut step: impl FnMut(&[usize], f32)) {
    if examples == 0 {
        return;
    }
    let mut batch = vec![0; config.positions];
    for _ in 0..config.steps {
        batch.fill_with(|| rng.below(examples));
        step(&batch, config.rate);
    }
}

/// The aggregator's learning rate: `model += rate(round) * mean update`, falling linearly from the first of a fixed
/// number of rounds to the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerRate {
    /// Rate of the first round.
    pub first: f32,
    /// Rate of the last round, and of any that should follow.
    pub last: f32,
    /// Rounds planned.
    pub rounds: u64,
}

impl ServerRate {
    /// 1.5 falling to 0.3, tuned at `z = 4` with 64 clients. At another `z` it may diverge.
    pub fn demo(rounds: u64) -> Self {
        Self { first: 1.5, last: 0.3, rounds }
    }

    /// The rate after `completed` published rounds, so 0 before the first.
    pub fn after(&self, completed: u64) -> f32 {
        let last_index = self.rounds.saturating_sub(1);
        if last_index == 0 {
            return self.first;
        }
        let progress = completed.min(last_index) as f32 / last_index as f32;
        self.first + (self.last - self.first) * progress
    }
}

/// What the demo runs with at a given number of clients. Found by calibration at 12 rounds, everybody invited every
/// round, `dropout_tolerance` 0.25, `dp_delta` 1e-5; change one figure and the others must be found again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DemoSettings {
    /// L2 norm to which an update is clipped, in scaled coordinates.
    pub clip_norm: f32,
    /// `clip_norm` in integer units: the quantiser's scale is `scaled_clip / clip_norm`.
    pub scaled_clip: f32,
    /// `z`: the guaranteed central standard deviation (all honest shares) over the clip norm.
    pub noise_multiplier: f64,
    /// Training rounds.
    pub rounds: u64,
    /// Local training.
    pub local: SgdConfig,
}

impl DemoSettings {
    /// The column for the nearest number of clients at or below `clients`; below 256 that of 64.
    pub fn for_clients(clients: u32) -> Self {
        let (clip_norm, noise_multiplier, steps, positions) = match clients {
            1000.. => (4.0, 12.0, 40, 64),
            256.. => (3.0, 8.0, 40, 128),
            _ => (2.0, 4.0, 120, 170),
        };
        Self {
            clip_norm,
            scaled_clip: 330.0,
            noise_multiplier,
            rounds: 12,
            local: SgdConfig { steps, positions, rate: LOCAL_RATE },
        }
    }

    /// Standard deviation of the noise on the mean over the clip norm, `z sqrt(n / h) / n`, where `survivors` (n) add
    /// noise that was sized for `honest_shares` (h). Above [`NOISE_ON_MEAN_MAX`] the server's rate is likely to
    /// diverge while epsilon still looks good: warn.
    pub fn noise_on_mean(&self, survivors: u32, honest_shares: u32) -> f64 {
        let surplus = (f64::from(survivors) / f64::from(honest_shares)).sqrt();
        self.noise_multiplier * surplus / f64::from(survivors)
    }
}

/// See [`DemoSettings::noise_on_mean`].
pub const NOISE_ON_MEAN_MAX: f64 = 0.1;

/// A small generator for choices that need to be repeatable and not secret: positions, initial weights, demo data.
///
/// SplitMix64 (Steele, Lea, Flood 2014). Never use it for keys, masks or noise.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

/// What a stream of choices belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// One for the whole run.
    pub seed: u64,
    /// The client's number in the run.
    pub client: u64,
    /// The round's counter.
    pub round: u64,
}

impl SplitMix64 {
    /// A stream of its own for every seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A stream of its own for every `(seed, client, round)`: each is mixed in by one full step.
    pub fn for_stream(stream: Stream) -> Self {
        [stream.seed, stream.client, stream.round].into_iter().fold(Self::new(0), |rng, part| {
            let mut mixed = Self { state: rng.state ^ part };
            Self { state: mixed.next_u64() }
        })
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform below `bound` (not zero), with a bias below `bound / 2^64`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal by Box and Muller. Not for differential privacy.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Puts `items` into a uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_rate_falls_linearly_and_stays() {
        let rate = ServerRate::demo(12);
        assert_eq!(rate.after(0), 1.5);
        assert!((rate.after(11) - 0.3).abs() < 1e-6);
        assert_eq!(rate.after(99), rate.after(11));
        let steps: Vec<f32> = (0..11).map(|r| rate.after(r) - rate.after(r + 1)).collect();
        assert!(steps.iter().all(|step| (step - 1.2 / 11.0).abs() < 1e-6), "{steps:?}");
        assert_eq!(ServerRate::demo(1).after(0), 1.5);
        assert_eq!(ServerRate::demo(0).after(3), 1.5);
    }

    #[test]
    fn settings_take_the_nearest_column_below() {
        let clips = [2, 64, 255, 256, 999, 1000, 100_000].map(|clients| DemoSettings::for_clients(clients).clip_norm);
        assert_eq!(clips, [2.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
    }

    /// The default of 64 clients, of which 58 report, is near the edge but not over it; z = 8 would be.
    #[test]
    fn the_default_noise_stays_below_the_warning() {
        let mut settings = DemoSettings::for_clients(64);
        assert!(settings.noise_on_mean(58, 44) < NOISE_ON_MEAN_MAX);
        settings.noise_multiplier = 8.0;
        assert!(settings.noise_on_mean(58, 44) > NOISE_ON_MEAN_MAX);
    }

    /// Known answers of the published generator for seed 1234567.
    #[test]
    fn splitmix_is_the_published_one() {
        let mut rng = SplitMix64::new(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn seed_client_and_round_each_change_the_stream() {
        let first = |seed, client, round| SplitMix64::for_stream(Stream { seed, client, round }).next_u64();
        let base = first(1, 2, 3);
        assert_eq!(base, first(1, 2, 3));
        for other in [first(2, 2, 3), first(1, 3, 3), first(1, 2, 4), first(2, 1, 3)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn normal_and_unit_have_their_moments() {
        let mut rng = SplitMix64::new(5);
        let draws: Vec<f64> = (0..100_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let unit = (0..100_000).map(|_| rng.unit()).sum::<f64>() / 1e5;
        assert!((unit - 0.5).abs() < 0.01, "{unit}");
    }

    /// One parameter, loss `(x - 3)^2 / 2`: it is found, in exactly the configured number of steps.
    #[test]
    fn descend_finds_a_minimum() {
        let config = SgdConfig { steps: 50, positions: 4, rate: 0.5 };
        let (mut x, mut calls) = (0.0_f32, 0);
        descend(&config, 10, &mut SplitMix64::new(1), |batch, rate| {
            assert!(batch.len() == 4 && batch.iter().all(|&example| example < 10));
            x -= rate * (x - 3.0);
            calls += 1;
        });
        assert!((x - 3.0).abs() < 1e-6 && calls == 50);
        descend(&config, 0, &mut SplitMix64::new(1), |_, _| unreachable!("no examples"));
    }
}
