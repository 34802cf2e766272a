//! What a run of the demo came to: the object of `--json`, what the report shows beside it, and what both must admit.

use serde::Serialize;

pub use remarks::{Weight, remarks};

mod remarks;
#[cfg(test)]
pub mod samples;

/// The object that `--json` prints, field for field. A number that is not finite is printed as null.
#[derive(Clone, Debug, Serialize)]
pub struct DemoOutcome {
    /// In the order in which they ran.
    pub rounds: Vec<RoundOutcome>,
    /// The delta at which every epsilon here is stated.
    pub dp_delta: f64,
    /// Losses are in nats per byte, on text that belongs to no client.
    pub loss_before: f64,
    /// After the last round.
    pub loss_after: f64,
    /// After the same training without masks and noise.
    pub plain_loss_after: f64,
    /// Of byte frequencies, each count raised by a half.
    pub unigram_loss: f64,
    /// Elements of an update.
    pub vector_len: u32,
    /// Bits of each element on the wire.
    pub ring_bits: u32,
    /// Neighbours of each client, k.
    pub degree: u32,
    /// Shares that open a secret, t.
    pub threshold: u32,
    /// Guaranteed standard deviation of the noise on the sum, over the clip norm; 0 without noise.
    pub noise_multiplier: f64,
    /// Where the HTML report is, if one was written.
    pub report: Option<String>,
}

/// One round, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct RoundOutcome {
    /// From 1.
    pub round: u32,
    /// Whether a sum was published.
    pub status: Status,
    /// Clients invited.
    pub cohort: u32,
    /// Clients announced with their keys.
    pub roster: u32,
    /// Clients in the sum; 0 when abandoned.
    pub survivors: u32,
    /// Clients lost, by the phase in which it happened.
    pub dropped: ByPhase<u32>,
    /// Whether the published sum is the plain sum of the survivors' noised vectors; none when abandoned.
    pub bit_exact: Option<bool>,
    /// Spent since the first round, this one included; none without noise.
    pub epsilon: Option<f64>,
    /// Of the model that stands after this round.
    pub held_out_loss: f64,
    /// Mean over the clients invited.
    pub bytes_up_per_client: u64,
    /// Mean over the clients invited.
    pub bytes_down_per_client: u64,
    /// From opening to the end of the round.
    pub wall_s: f64,
    /// Only where there are several: the replica of the aggregator that was killed in the middle of the round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_killed: Option<ReplicaKilled>,
}

/// Which replica was killed, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaKilled {
    /// From 1.
    pub replica: usize,
    /// The phase in which the round stood.
    pub phase: String,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A sum was published.
    Released,
    /// Nothing was published.
    Abandoned,
}

/// One value for each phase in which a client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ByPhase<T> {
    pub advertise: T,
    pub share: T,
    pub acknowledge: T,
    pub mask: T,
    pub confirm: T,
    pub unmask: T,
}

impl<T: Copy> ByPhase<T> {
    /// Name and value, in the order of the protocol.
    pub fn named(&self) -> [(&'static str, T); 6] {
        let Self { advertise, share, acknowledge, mask, confirm, unmask } = *self;
        [
            ("advertise", advertise),
            ("share", share),
            ("acknowledge", acknowledge),
            ("mask", mask),
            ("confirm", confirm),
            ("unmask", unmask),
        ]
    }
}

impl ByPhase<u32> {
    /// Over all phases.
    pub fn total(&self) -> u32 {
        self.named().iter().map(|(_, count)| count).sum()
    }

    /// "7: share 2, mask 5", or "none".
    pub fn in_words(&self) -> String {
        let places: Vec<String> =
            self.named().iter().filter(|(_, n)| *n > 0).map(|(phase, n)| format!("{phase} {n}")).collect();
        if places.is_empty() { "none".to_string() } else { format!("{}: {}", self.total(), places.join(", ")) }
    }
}

/// What the report shows beside the outcome. Nothing in the outcome is repeated here.
#[derive(Clone, Debug)]
pub struct DemoDetails {
    /// One for each round of the outcome, in the same order.
    pub rounds: Vec<RoundDetails>,
    /// What the losses are held against.
    pub baselines: Baselines,
    /// Prefixes fixed before training, and how they go on.
    pub completions: Vec<Completion>,
    /// What was trained on.
    pub corpus: CorpusDetails,
    /// What the clients' policy takes on trust, in its own words.
    pub assumptions: Vec<String>,
    /// What was asked for and what was used.
    pub settings: Settings,
}

/// One round, as far as only the report shows it.
#[derive(Clone, Debug)]
pub struct RoundDetails {
    /// Time from the start of each phase to its end; 0 where the round did not get so far.
    pub phases_ms: ByPhase<f64>,
    /// Of the twin trained without masks and noise, after the same round.
    pub plain_loss: f64,
    /// Why nothing was published, if so.
    pub abandoned_because: Option<String>,
    /// None without noise, or where no roster was announced.
    pub noise: Option<RoundNoise>,
}

/// How a roster divides the noise.
#[derive(Clone, Copy, Debug)]
pub struct RoundNoise {
    /// Shares the guaranteed noise is made of, h.
    pub honest_shares: u32,
    /// Of each client's share, in integer units squared.
    pub share_variance: f64,
}

/// Losses in nats per byte and guesses of the next byte, all on the held-out text.
#[derive(Clone, Copy, Debug)]
pub struct Baselines {
    /// Every byte alike.
    pub uniform_loss: f64,
    /// Byte pairs, counted centrally.
    pub bigram_loss: f64,
    /// Of the private model, at the end.
    pub model_guesses: Guesses,
    /// Of byte frequencies: always the commonest bytes.
    pub unigram_guesses: Guesses,
}

/// How often the next byte was foreseen, from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Guesses {
    /// It was the first guess.
    pub first: f64,
    /// It was among the first five.
    pub first_five: f64,
}

/// How a prefix goes on.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Fixed in the source, not chosen afterwards.
    pub prefix: String,
    /// By the private model.
    pub model: String,
    /// By byte frequencies.
    pub unigram: String,
}

/// The text that was trained on.
#[derive(Clone, Debug)]
pub struct CorpusDetails {
    /// The folder, or what stands for it.
    pub source: String,
    /// Files read.
    pub files: usize,
    /// Clients' and held out.
    pub bytes: usize,
    /// Lower-case hex SHA-256.
    pub digest: String,
    /// What the reader must know about it, if anything.
    pub warning: Option<String>,
}

/// What was asked for and what was used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Clients enrolled.
    pub clients: u32,
    /// Clients invited to each round.
    pub cohort: u32,
    /// Rounds asked for.
    pub rounds: u32,
    /// Fraction of a cohort that vanishes on purpose.
    pub dropout: f64,
    /// Fraction that may vanish without ending the round, as it was asked for.
    pub dropout_tolerance_asked: f64,
    /// The same as used: lower where so few clients cannot bear what was asked for.
    pub dropout_tolerance: f64,
    /// Fraction of every roster that may collude with the aggregator.
    pub corrupt_fraction: f64,
    /// Longest update, in L2.
    pub clip_norm: f64,
    /// Integer units for each unit of an update.
    pub scale: f64,
    /// The task's budget; none without noise.
    pub epsilon_budget: Option<f64>,
    /// Chooses data, model and who is lost. Never keys, masks or noise.
    pub seed: u64,
}

impl DemoOutcome {
    /// Whether only masks protected anybody.
    pub fn noise_is_off(&self) -> bool {
        self.noise_multiplier <= 0.0
    }

    /// Rounds that published a sum.
    pub fn released(&self) -> usize {
        self.rounds.iter().filter(|round| round.status == Status::Released).count()
    }

    /// Published sums that were what they should be.
    pub fn bit_exact(&self) -> usize {
        self.rounds.iter().filter(|round| round.bit_exact == Some(true)).count()
    }

    /// Spent by the whole run.
    pub fn epsilon(&self) -> Option<f64> {
        self.rounds.iter().rev().find_map(|round| round.epsilon).filter(|epsilon| epsilon.is_finite())
    }
}

impl RoundDetails {
    /// Real noise over guaranteed noise: everybody who reported added a share, and only some were counted on.
    pub fn noise_ratio(&self, round: &RoundOutcome) -> Option<f64> {
        let shares = self.noise.map(|noise| noise.honest_shares).filter(|shares| *shares > 0)?;
        (round.survivors > 0).then(|| (f64::from(round.survivors) / f64::from(shares)).sqrt())
    }
}

/// "25 %", "12.5 %", or a dash.
pub fn percent(fraction: f64) -> String {
    if !fraction.is_finite() {
        return "–".to_string();
    }
    let tenths = (fraction * 1000.0).round() / 10.0;
    format!("{tenths} %")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn keys(value: &Value) -> Vec<&str> {
        let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
        keys.sort_unstable(); // whatever order serde_json was built to keep
        keys
    }

    fn sorted<const N: usize>(mut names: [&'static str; N]) -> Vec<&'static str> {
        names.sort_unstable();
        names.to_vec()
    }

    #[test]
    fn the_json_object_has_exactly_the_promised_names() {
        let json = serde_json::to_value(samples::run(4).0).expect("it serialises");
        assert_eq!(
            keys(&json),
            sorted([
                "rounds",
                "dp_delta",
                "loss_before",
                "loss_after",
                "plain_loss_after",
                "unigram_loss",
                "vector_len",
                "ring_bits",
                "degree",
                "threshold",
                "noise_multiplier",
                "report",
            ])
        );
        let released = &json["rounds"][0];
        assert_eq!(
            keys(released),
            sorted([
                "round",
                "status",
                "cohort",
                "roster",
                "survivors",
                "dropped",
                "bit_exact",
                "epsilon",
                "held_out_loss",
                "bytes_up_per_client",
                "bytes_down_per_client",
                "wall_s",
            ])
        );
        assert_eq!(
            keys(&released["dropped"]),
            sorted(["advertise", "share", "acknowledge", "mask", "confirm", "unmask"])
        );
        assert_eq!((&released["status"], &released["bit_exact"]), (&Value::from("released"), &Value::Bool(true)));
        let abandoned = &json["rounds"][3];
        assert_eq!((&abandoned["status"], &abandoned["bit_exact"]), (&Value::from("abandoned"), &Value::Null));
        assert_eq!(abandoned["survivors"], 0);
    }

    #[test]
    fn a_number_that_is_not_finite_is_null() {
        let json = serde_json::to_value(samples::all_abandoned().0).expect("it serialises");
        assert_eq!(json["loss_after"], Value::Null);
    }
}
