//! Runs to show: the demo's defaults, as reference/demo.md measured them.

use super::{
    Baselines, ByPhase, Completion, CorpusDetails, DemoDetails, DemoOutcome, Guesses, RoundDetails, RoundNoise,
    RoundOutcome, Settings, Status,
};

/// Loss after each of twelve rounds at 64 clients and z = 4.
const LOSSES: [f64; 12] = [4.26, 3.95, 3.77, 3.55, 3.48, 3.34, 3.35, 3.17, 3.12, 3.08, 3.05, 3.027];
const PLAIN: [f64; 12] = [4.2, 3.84, 3.6, 3.39, 3.26, 3.15, 3.06, 2.99, 2.93, 2.89, 2.86, 2.842];
const LOST: [[u32; 6]; 12] = [
    [1, 2, 0, 3, 0, 0],
    [0, 1, 1, 2, 1, 1],
    [2, 0, 1, 2, 1, 0],
    [0, 9, 8, 7, 0, 0],
    [1, 1, 1, 1, 1, 1],
    [0, 2, 0, 1, 1, 2],
    [3, 0, 1, 2, 0, 0],
    [0, 0, 2, 2, 2, 0],
    [1, 1, 0, 3, 0, 1],
    [0, 2, 2, 0, 1, 1],
    [2, 1, 0, 2, 0, 1],
    [0, 1, 1, 4, 0, 0],
];

/// `rounds` of at most twelve; the fourth is abandoned.
pub fn run(rounds: usize) -> (DemoOutcome, DemoDetails) {
    let (mut outcomes, mut details) = (Vec::new(), Vec::new());
    for index in 0..rounds {
        let [advertise, share, acknowledge, mask, confirm, unmask] = LOST[index];
        let dropped = ByPhase { advertise, share, acknowledge, mask, confirm, unmask };
        let abandoned = index == 3;
        outcomes.push(RoundOutcome {
            round: index as u32 + 1,
            status: if abandoned { Status::Abandoned } else { Status::Released },
            cohort: 64,
            roster: 64 - advertise,
            survivors: if abandoned { 0 } else { 64 - advertise - share - acknowledge - mask },
            dropped,
            bit_exact: (!abandoned).then_some(true),
            epsilon: Some(4.02 * ((index + 1) as f64 / 12.0).sqrt()),
            held_out_loss: if abandoned { LOSSES[index - 1] } else { LOSSES[index] },
            bytes_up_per_client: 14_210 + 131 * index as u64 % 400,
            bytes_down_per_client: 38_900 + 977 * index as u64 % 3_000,
            wall_s: 3.1 + 0.2 * (index % 4) as f64,
            replica_killed: None,
        });
        details.push(RoundDetails {
            phases_ms: ByPhase {
                advertise: 310.0,
                share: 820.0 + 20.0 * index as f64,
                acknowledge: 260.0,
                mask: if abandoned { 0.0 } else { 1_100.0 },
                confirm: if abandoned { 0.0 } else { 205.0 },
                unmask: if abandoned { 0.0 } else { 340.0 },
            },
            plain_loss: PLAIN[index],
            abandoned_because: abandoned
                .then(|| "the core has 40 clients, fewer than the 44 that the task demands".to_string()),
            noise: Some(RoundNoise { honest_shares: 44, share_variance: 39_600.0 }),
        });
    }
    let outcome = DemoOutcome {
        rounds: outcomes,
        dp_delta: 1e-5,
        loss_before: 4.587,
        loss_after: if rounds == 0 { 4.587 } else { LOSSES[rounds - 1] },
        plain_loss_after: if rounds == 0 { 4.587 } else { PLAIN[rounds - 1] },
        unigram_loss: 3.413,
        vector_len: 1_862,
        ring_bits: 16,
        degree: 38,
        threshold: 22,
        noise_multiplier: 4.0,
        report: Some("veilsum-report.html".to_string()),
    };
    (outcome, DemoDetails { rounds: details, ..surroundings(rounds as u32) })
}

/// Three rounds that lost too many, with losses that cannot be drawn.
pub fn all_abandoned() -> (DemoOutcome, DemoDetails) {
    let (mut outcome, mut details) = run(3);
    for (round, detail) in outcome.rounds.iter_mut().zip(&mut details.rounds) {
        round.status = Status::Abandoned;
        (round.survivors, round.bit_exact, round.held_out_loss) = (0, None, f64::NAN);
        round.epsilon = Some(0.0);
        round.dropped = ByPhase { share: 61, ..ByPhase::default() };
        detail.phases_ms = ByPhase { advertise: 300.0, share: 1_300.0, ..ByPhase::default() };
        detail.plain_loss = f64::NAN;
        detail.abandoned_because = Some("only 3 of 64 clients shared, 44 are needed".to_string());
    }
    outcome.loss_before = f64::NAN;
    outcome.loss_after = f64::NAN;
    outcome.plain_loss_after = f64::NAN;
    (outcome, details)
}

fn surroundings(rounds: u32) -> DemoDetails {
    DemoDetails {
        rounds: Vec::new(),
        baselines: Baselines {
            uniform_loss: 5.545,
            bigram_loss: 2.593,
            model_guesses: Guesses { first: 0.28, first_five: 0.52 },
            unigram_guesses: Guesses { first: 0.22, first_five: 0.42 },
        },
        completions: vec![
            Completion {
                prefix: "The aggregator ".into(),
                model: "the ansed ater on the se\n    re".into(),
                unigram: "e t ooa  s\ntie r".into(),
            },
            Completion { prefix: "pub fn ".into(), model: "self.cons(ther)\n    let ".into(), unigram: " ea".into() },
        ],
        corpus: CorpusDetails {
            source: "the project's own documents and sources".into(),
            files: 143,
            bytes: 1_352_118,
            digest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            warning: None,
        },
        assumptions: vec![
            "unwitnessed: no independent witness has seen the log; one client alone cannot see a fork (R-33)".into(),
            "gamma is assumed per roster: that at most 5 % of every roster the aggregator forms are corrupt is \
             taken on trust (R-07)"
                .into(),
        ],
        settings: Settings {
            clients: 64,
            cohort: 64,
            rounds,
            dropout: 0.1,
            dropout_tolerance_asked: 0.25,
            dropout_tolerance: 0.25,
            corrupt_fraction: 0.05,
            clip_norm: 2.0,
            scale: 165.0,
            epsilon_budget: Some(4.06),
            seed: 1,
        },
    }
}
