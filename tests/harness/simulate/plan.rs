//! What a seed decides before anything runs: how many, how lossy, who crashes, who lies, whose clock jumps.

use std::fmt;

use veilsum_aggregator::task::{FORMAT, Task, TaskFile};

use crate::dice::Dice;

/// What a liar does, once in every round. One byte or one field of an honest message is changed, and signed again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lie {
    /// Says nothing after its advert.
    SilentAfterAdvert,
    /// Says nothing after its shares.
    SilentAfterShare,
    /// Says nothing after its acknowledgement.
    SilentAfterAcknowledgement,
    /// Says nothing after its upload.
    SilentAfterUpload,
    /// Says nothing after its confirmation.
    SilentAfterConfirmation,
    /// A share that does not open, and the right one for everybody to see when asked for it.
    BadShare,
    /// Points on no polynomial of degree t-1.
    OffPolynomial,
    /// Complains about a good edge.
    FalseComplaint,
    /// Uploads a second vector.
    TwoUploads,
    /// Answers with a wrong share.
    WrongAnswer,
    /// A share that does not open, and shares of nothing when asked for it.
    WrongOpening,
    /// A share that does not open, the right one when asked for it, and then nothing.
    SilentAfterOpening,
}

const LIES: [Lie; 12] = [
    Lie::SilentAfterAdvert,
    Lie::SilentAfterShare,
    Lie::SilentAfterAcknowledgement,
    Lie::SilentAfterUpload,
    Lie::SilentAfterConfirmation,
    Lie::BadShare,
    Lie::OffPolynomial,
    Lie::FalseComplaint,
    Lie::TwoUploads,
    Lie::WrongAnswer,
    Lie::WrongOpening,
    Lie::SilentAfterOpening,
];

/// The first of them only say nothing.
const SILENCES: usize = 5;

/// A stretch of virtual time.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// From.
    pub from_ms: u64,
    /// Until.
    pub until_ms: u64,
}

impl Stretch {
    /// Whether `now_ms` is in it.
    pub fn holds(&self, now_ms: u64) -> bool {
        (self.from_ms..self.until_ms).contains(&now_ms)
    }
}

/// Everything that a seed decides in advance.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Clients.
    pub n: u32,
    /// Replicas of the aggregator.
    pub replicas: usize,
    /// The task.
    pub task: TaskFile,
    /// One way, milliseconds: least and most.
    pub latency_ms: (u64, u64),
    /// Requests and replies lost, out of 1,000.
    pub loss: u64,
    /// Requests delivered twice, out of 1,000.
    pub duplicates: u64,
    /// Messages that take up to two windows longer, out of 1,000.
    pub stragglers: u64,
    /// Client cut off from everything.
    pub partitions: Vec<(usize, Stretch)>,
    /// Client whose process is gone for a while.
    pub client_crashes: Vec<(usize, Stretch)>,
    /// Replica that is gone for a while.
    pub replica_crashes: Vec<(usize, Stretch)>,
    /// From when on a replica's clock is so far ahead (or behind).
    pub replica_clocks: Vec<(usize, u64, i64)>,
    /// From when on a client's wall clock is so far ahead (or behind).
    pub client_clocks: Vec<(usize, u64, i64)>,
    /// Verbs of the store that take long, out of 1,000, and how long at most.
    pub slow_store: (u64, u64),
    /// Verbs of the store whose answer is lost after they were done, out of 1,000.
    pub ambiguous: u64,
    /// Verbs of the store that fail before they are done, out of 1,000.
    pub away: u64,
    /// While one database takes over from another: nothing is done for any replica, and what was under way when it began is
    /// ambiguous.
    pub failovers: Vec<Stretch>,
    /// Who lies, and how.
    pub liars: Vec<(usize, Lie)>,
    /// What a window has, milliseconds.
    pub window_ms: u32,
}

impl Plan {
    /// Draws one.
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let window_ms = 1_000;
        let (n, task) = loop {
            let n = dice.between(4, 8) as u32;
            let tolerated = dice.below(3) as u32;
            let roster_min = n - dice.below(2) as u32;
            let weighted = dice.permille(200);
            let file = TaskFile {
                format: FORMAT.to_string(),
                name: format!("simulation {seed}"),
                rounds: dice.between(1, 2),
                invited: n,
                roster_min: roster_min.max(3),
                roster_max: n,
                cohort_min: None,
                corrupt_fraction: 0.05,
                dropout_tolerance: f64::from(tolerated) / f64::from(n) + 1e-3,
                security_bits: 80,
                completion_bits: 30,
                model_len: dice.between(1, 5) as u32,
                layout: "00".repeat(32),
                weight_max: if weighted { 10 } else { 0 },
                clip_norm: 2.0,
                scale: 8.0,
                noise_multiplier: 4.0,
                wrap_bits: 40,
                dp_delta: 1e-5,
                budget_epsilon: 50.0,
                windows_ms: [window_ms; 7],
                grace_ms: 300,
                server_rate: [1.0, 1.0],
                query: None,
            };
            if Task::new(file.clone()).is_ok() {
                break (n, file);
            }
        };
        let length_ms = task.rounds * 8_000;
        // A third of the seeds is calm: what P3 promises is then put to the test by losses alone.
        let rough = dice.permille(667);
        // Few kinds of fault at once: where everything fails, every round is abandoned early.
        let scale = |dice: &mut Dice, most: u64| if rough && dice.permille(350) { dice.below(most + 1) } else { 0 };
        let stretches = |dice: &mut Dice, count: u64, of: u64, longest_ms: u64| {
            let count = dice.below(count + 1);
            let mut drawn = Vec::new();
            for _ in 0..count {
                let from_ms = dice.below(length_ms);
                let stretch = Stretch { from_ms, until_ms: from_ms + dice.between(1, longest_ms) };
                drawn.push((dice.below(of) as usize, stretch));
            }
            drawn
        };
        let replicas = dice.between(1, 2) as usize;
        let partitions = stretches(&mut dice, if rough { 3 } else { 1 }, n.into(), 5_000);
        let client_crashes = stretches(&mut dice, if rough { 4 } else { 1 }, n.into(), 4_000);
        let replica_crashes = stretches(&mut dice, if rough { 3 } else { 1 }, replicas as u64, 2_000);
        let mut replica_clocks = Vec::new();
        if rough && dice.permille(200) {
            let replica = dice.below(replicas as u64) as usize;
            replica_clocks.push((replica, dice.below(length_ms), dice.below(4_000) as i64 - 1_000));
        }
        let mut client_clocks = Vec::new();
        if rough && dice.permille(200) {
            let ahead_ms = dice.below(400_000) as i64 - 200_000;
            client_clocks.push((dice.below(n.into()) as usize, dice.below(length_ms), ahead_ms));
        }
        let failovers = if rough && dice.permille(200) {
            stretches(&mut dice, 2, 1, 1_500).into_iter().map(|(_, stretch)| stretch).collect()
        } else {
            Vec::new()
        };
        let mut liars = Vec::new();
        if dice.permille(400) {
            liars.push((dice.below(n.into()) as usize, *dice.pick(&LIES)));
            let second = dice.below(n.into()) as usize;
            // Beyond the assumed number of corrupt clients nobody may be named; whoever only falls silent is one more lost.
            if dice.permille(300) && second != liars[0].0 {
                liars.push((second, *dice.pick(&LIES[..SILENCES])));
            }
        }
        Self {
            n,
            replicas,
            task,
            latency_ms: (1, dice.between(2, 60)),
            loss: scale(&mut dice, 40),
            duplicates: scale(&mut dice, 80),
            stragglers: scale(&mut dice, 30),
            partitions,
            client_crashes,
            replica_crashes,
            replica_clocks,
            client_clocks,
            slow_store: (scale(&mut dice, 100), 400),
            ambiguous: scale(&mut dice, 20),
            away: scale(&mut dice, 20),
            failovers,
            liars,
            window_ms,
        }
    }

    /// What this client does wrong, if anything.
    pub fn lie_of(&self, client: usize) -> Option<Lie> {
        self.liars.iter().find(|(liar, _)| *liar == client).map(|(_, lie)| *lie)
    }
}

impl Plan {
    /// Whether a client crashes or is cut off at some time.
    pub fn is_afflicted(&self, client: usize) -> bool {
        self.client_crashes.iter().chain(&self.partitions).any(|(afflicted, _)| *afflicted == client)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = &self.task;
        write!(
            f,
            "n {} (roster {}..{}, delta {:.3}), {} rounds, {} values{}, {} replicas, latency {:?} ms, loss {}, duplicates {}, \
             stragglers {}, slow store {:?}, ambiguous {}, away {} of 1,000, failovers {:?}, partitions {:?}, client crashes {:?}, replica \
             crashes {:?}, replica clocks {:?}, client clocks {:?}, liars {:?}",
            self.n,
            task.roster_min,
            task.roster_max,
            task.dropout_tolerance,
            task.rounds,
            task.model_len,
            if task.weight_max > 0 { " weighted" } else { "" },
            self.replicas,
            self.latency_ms,
            self.loss,
            self.duplicates,
            self.stragglers,
            self.slow_store,
            self.ambiguous,
            self.away,
            self.failovers,
            self.partitions,
            self.client_crashes,
            self.replica_crashes,
            self.replica_clocks,
            self.client_clocks,
            self.liars
        )
    }
}
