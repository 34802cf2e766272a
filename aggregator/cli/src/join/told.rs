//! What `veilsum join` says: each check while it is made, then how the round ended; or all of it as one object.

use std::path::Path;

use serde::Serialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use veilsum_aggregator::task::query::Answer;
use veilsum_client::participant::Check;
use veilsum_client::{ClientEvent, LeftOut, RoundOutcome};
use veilsum_crypto::ids::ClientId;
use veilsum_crypto::privacy::budget::Budget;

use crate::answer;
use crate::exit::Code;

/// Prints events as they come, until the sender is gone.
pub async fn follow(mut events: Receiver<ClientEvent>) {
    loop {
        match events.recv().await {
            Ok(event) => say(&event),
            Err(RecvError::Lagged(missed)) => eprintln!("{missed} lines were too fast to print; --json has them all"),
            Err(RecvError::Closed) => return,
        }
    }
}

fn say(event: &ClientEvent) {
    match event {
        ClientEvent::Assumes(said) => println!("taken on trust: {said}"),
        ClientEvent::RoundSeen { round, counter } => println!("round {counter}, {round}"),
        ClientEvent::PhaseEntered(phase) => println!("{}", phase.as_str()),
        ClientEvent::Checked(Check { rule, compared, .. }) => println!("  ok {rule}  {compared}"),
        ClientEvent::Sent { phase, bytes } => {
            println!("  sent: {}, {bytes} bytes, on disk before it was sent", phase.as_str())
        }
        ClientEvent::Trained => println!("  the update is taken from the file"),
        ClientEvent::Masked => println!("  clipped, rounded, noised, masked, and written down"),
        ClientEvent::Retrying { after, why } => eprintln!("{why}; the same again in {:.1} s", after.as_secs_f64()),
        ClientEvent::Stopped { why, .. } => println!("  FAILED {why}"),
        // Said at the end.
        ClientEvent::LeftOut(_) | ClientEvent::Verified { .. } | ClientEvent::Abandoned { .. } => {}
    }
}

/// The one object of `--json`.
#[derive(Serialize)]
pub struct Told {
    outcome: Outcome,
    round: Option<String>,
    counter: Option<u64>,
    client: String,
    /// How many inputs are in the sum.
    survivors: Option<usize>,
    /// Whether this client's is one of them.
    update_included: bool,
    /// What this client's data cost so far, over all rounds; `None` if the ledger could not be read once the round was over.
    epsilon_spent: Option<f64>,
    /// Whether this call added to that.
    charged: Option<bool>,
    /// Whether the round's sum carries noise, where there is a sum; without noise no epsilon bounds what it tells.
    noise: Option<bool>,
    epsilon_budget: f64,
    dp_delta: f64,
    /// Where the mean was written.
    mean: Option<String>,
    /// What the sum tells, where the task asks a query.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
    /// Why there is no sum, or no part in it.
    reason: Option<String>,
    rule: Option<String>,
    evidence: Option<String>,
    sent_bytes: u64,
    received_bytes: u64,
    checks: Vec<Said>,
}

#[derive(Serialize)]
struct Said {
    rule: String,
    phase: &'static str,
    compared: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Released,
    NotOpened,
    Abandoned,
    LeftOut,
    Stopped,
}

/// What stands beside an outcome.
pub struct Beside<'a> {
    pub client: ClientId,
    pub checks: Vec<Check>,
    /// What the client's own ledger says.
    pub spending: Spending,
    /// Up and down.
    pub bytes: (u64, u64),
    pub mean: Option<&'a Path>,
    pub answer: Option<Answer>,
}

/// Of one client, over all rounds.
#[derive(Clone, Copy)]
pub struct Spending {
    /// Epsilon before this call.
    pub before: f64,
    /// Epsilon now; `None` if the ledger cannot be read.
    pub now: Option<f64>,
    /// What may be spent.
    pub budget: Budget,
}

impl Told {
    /// Of a round that ended.
    pub fn of(ended: &RoundOutcome, beside: Beside<'_>) -> Self {
        let Beside { client, checks, spending: Spending { before, now, budget }, bytes, mean, answer } = beside;
        let said = |Check { rule, phase, compared }| Said { rule: rule.to_string(), phase: phase.as_str(), compared };
        let mut told = Self {
            outcome: Outcome::Stopped,
            round: ended.round().map(|round| round.to_string()),
            counter: None,
            client: client.to_string(),
            survivors: None,
            update_included: false,
            epsilon_spent: now,
            charged: now.map(|now| now > before),
            noise: None,
            epsilon_budget: budget.epsilon,
            dp_delta: budget.delta,
            mean: mean.map(|path| path.display().to_string()),
            answer,
            reason: None,
            rule: ended.rule().map(|rule| rule.to_string()),
            evidence: None,
            sent_bytes: bytes.0,
            received_bytes: bytes.1,
            checks: checks.into_iter().map(said).collect(),
        };
        match ended {
            RoundOutcome::Verified { counter, sum, survivors, update_included, header, .. } => {
                told.noise = sum.is_some().then_some(header.params.total_variance > 0);
                told.outcome = if sum.is_some() { Outcome::Released } else { Outcome::NotOpened };
                told.counter = Some(*counter);
                told.survivors = Some(survivors.len());
                told.update_included = *update_included && sum.is_some();
                told.reason = sum.is_none().then(|| "a secret could not be rebuilt: there is no sum".to_string());
            }
            RoundOutcome::Abandoned { reason, .. } => {
                (told.outcome, told.reason) = (Outcome::Abandoned, Some(reason.clone()));
            }
            RoundOutcome::LeftOut { reason, .. } => {
                (told.outcome, told.reason) = (Outcome::LeftOut, Some(reason.to_string()));
            }
            RoundOutcome::Stopped { why, evidence, .. } => {
                told.reason = Some(why.to_string());
                told.evidence = evidence.as_ref().map(|path| path.display().to_string());
            }
        }
        told
    }

    /// The last lines, for people.
    pub fn in_words(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or_default();
        let mut lines = vec![match self.outcome {
            Outcome::Released => {
                let (counter, survivors) = (self.counter.unwrap_or(0), self.survivors.unwrap_or(0));
                let place =
                    if self.update_included { "this client's among them" } else { "this client's not among them" };
                format!("round {counter}: the sum of {survivors} clients was released, {place}")
            }
            Outcome::NotOpened => format!("no sum: {reason}"),
            Outcome::Abandoned => format!("no sum: the round was abandoned: {reason}"),
            Outcome::LeftOut => format!("not counted: {reason}"),
            Outcome::Stopped => {
                let kept = self.evidence.as_ref().map(|path| format!("; what was sent is kept in {path}"));
                format!("stopped: {reason}{}", kept.unwrap_or_default())
            }
        }];
        lines.push(format!(
            "{} checks held, {} bytes sent, {} received",
            self.checks.len(),
            self.sent_bytes,
            self.received_bytes
        ));
        if self.noise == Some(false) {
            lines.push("the sum carries no noise: what it tells of a single client is not bounded".to_string());
        }
        lines.push(self.spending_in_words());
        lines.extend(self.mean.iter().map(|path| format!("mean -> {path}")));
        let answer = self.answer.as_ref().and_then(|answer| serde_json::to_value(answer).ok());
        lines.extend(answer.iter().flat_map(answer::in_words));
        lines.join("\n")
    }

    fn spending_in_words(&self) -> String {
        let Self { epsilon_spent, epsilon_budget, dp_delta, .. } = self;
        let of = format!("of {epsilon_budget} is spent, at delta {dp_delta:e}");
        let (Some(epsilon_spent), Some(charged)) = (*epsilon_spent, self.charged) else {
            return "own privacy budget: the ledger cannot be read any more; what this call charged is not known"
                .to_string();
        };
        match (epsilon_spent > 0.0, charged) {
            (false, _) => format!("own privacy budget: nothing was charged, epsilon 0 {of}"),
            (true, false) => {
                format!("own privacy budget: this call charged nothing more, epsilon {epsilon_spent:.3} {of}")
            }
            (true, true) => format!("own privacy budget: epsilon {epsilon_spent:.3} {of}"),
        }
    }
}

/// What the shell is told.
pub fn code(ended: &RoundOutcome) -> Option<Code> {
    match ended {
        RoundOutcome::Verified { sum: Some(_), .. } => None,
        RoundOutcome::Verified { sum: None, .. } | RoundOutcome::Abandoned { .. } => Some(Code::NoSum),
        RoundOutcome::LeftOut { reason, .. } => Some(match reason {
            LeftOut::Late { .. } | LeftOut::RosterLate { .. } | LeftOut::NotInCore | LeftOut::NotListed => Code::NoSum,
            LeftOut::Budget { .. }
            | LeftOut::RoundsTaken { .. }
            | LeftOut::RoundsApart { .. }
            | LeftOut::EnrolledAnew
            | LeftOut::Certificate(_)
            | LeftOut::ClockApart { .. }
            | LeftOut::ClockBackwards => Code::Refused,
        }),
        RoundOutcome::Stopped { .. } => Some(Code::Refused),
    }
}
