//! What `veilsum join` says: each check while it is made, then how the round ended; or all of it as one object.

use std::path::Path;

use serde::Serialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use veilsum_client::participant::Check;
use veilsum_client::{ClientEvent, LeftOut, RoundOutcome};
use veilsum_crypto::ids::ClientId;

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
    /// What this client's data cost so far, over all rounds.
    epsilon_spent: f64,
    epsilon_budget: f64,
    dp_delta: f64,
    /// Where the mean was written.
    mean: Option<String>,
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
    /// Spent so far, the budget, and the delta of both.
    pub epsilon: (f64, f64, f64),
    /// Up and down.
    pub bytes: (u64, u64),
    pub mean: Option<&'a Path>,
}

impl Told {
    /// Of a round that ended.
    pub fn of(ended: &RoundOutcome, beside: Beside<'_>) -> Self {
        let Beside { client, checks, epsilon: (epsilon_spent, epsilon_budget, dp_delta), bytes, mean } = beside;
        let said = |Check { rule, phase, compared }| Said { rule: rule.to_string(), phase: phase.as_str(), compared };
        let mut told = Self {
            outcome: Outcome::Stopped,
            round: ended.round().map(|round| round.to_string()),
            counter: None,
            client: client.to_string(),
            survivors: None,
            update_included: false,
            epsilon_spent,
            epsilon_budget,
            dp_delta,
            mean: mean.map(|path| path.display().to_string()),
            reason: None,
            rule: ended.rule().map(|rule| rule.to_string()),
            evidence: None,
            sent_bytes: bytes.0,
            received_bytes: bytes.1,
            checks: checks.into_iter().map(said).collect(),
        };
        match ended {
            RoundOutcome::Verified { counter, sum, survivors, update_included, .. } => {
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
        lines.push(format!(
            "own privacy budget: epsilon {:.3} of {} is spent, at delta {:e}",
            self.epsilon_spent, self.epsilon_budget, self.dp_delta
        ));
        lines.extend(self.mean.iter().map(|path| format!("mean -> {path}")));
        lines.join("\n")
    }
}

/// What the shell is told.
pub fn code(ended: &RoundOutcome) -> Option<Code> {
    match ended {
        RoundOutcome::Verified { sum: Some(_), .. } => None,
        RoundOutcome::Verified { sum: None, .. } | RoundOutcome::Abandoned { .. } => Some(Code::NoSum),
        RoundOutcome::LeftOut { reason, .. } => Some(match reason {
            LeftOut::Late { .. } | LeftOut::NotInCore | LeftOut::NotListed => Code::NoSum,
            LeftOut::Budget { .. } | LeftOut::Certificate(_) | LeftOut::ClockBackwards => Code::Refused,
        }),
        RoundOutcome::Stopped { .. } => Some(Code::Refused),
    }
}
