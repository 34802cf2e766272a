//! Why a client is not in a round's sum although nobody is shown to have lied. Protocol §5
//!
//! A lie that the client can show to others ends in `RoundOutcome::Stopped`, with evidence. What is here it cannot show:
//! either the cause lies with the client itself, or the aggregator says that a message came too late, or not at all. An
//! answer 204 is not signed, so from the client's place a message that was late cannot be told from one that was held back.
//! In each case the client goes no further, sends nothing more under the round's counter, and keeps no evidence.

use veilsum_crypto::rules::{CertificateError, Rejection, Rule, ServerMisbehaved};

use super::Phase;

/// Why a client is not counted in a round.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum LeftOut {
    /// The own ledger refuses. Decided here, by the client.
    #[error(
        "R-26: its own privacy budget does not cover the round: epsilon would be {would_be:.3}, the budget is {budget:.3}; \
         it sends no update. Only the owner of the data may raise budget_epsilon"
    )]
    Budget {
        /// Epsilon after the round.
        would_be: f64,
        /// What the policy grants.
        budget: f64,
    },
    /// It took part in as many rounds of the task as its policy permits. Decided here, by the client.
    #[error(
        "R-26: it took part in {taken} round(s) of this task and its policy permits {allowed} (rounds_max); it sends nothing. Only \
         the owner of the data may raise it"
    )]
    RoundsTaken {
        /// So far.
        taken: u64,
        /// What the policy grants.
        allowed: u64,
    },
    /// The last round in which it took part is too near. Decided here, by the client.
    #[error(
        "R-26: it took part in round {last} of this task, and takes part in none before round {}: its policy demands that they are \
         {apart} apart (rounds_apart_min); it sends nothing", last.saturating_add(*apart)
    )]
    RoundsApart {
        /// The last round in which it took part.
        last: u64,
        /// What the policy demands.
        apart: u64,
    },
    /// The round was advertised under an identity that this client no longer has.
    #[error(
        "R-36: the round under way was begun under another identity of this client; it was enrolled anew since and leaves that \
         round. What it was charged stays charged; the next call takes part under the new identity"
    )]
    EnrolledAnew,
    /// The own certificate does not hold for this round: every aggregator would refuse its advert.
    #[error("R-06: its own certificate does not hold for this round: {0}")]
    Certificate(CertificateError),
    /// The header's time is too far from the own clock. An honest aggregator is told so by a client whose clock is wrong.
    #[error(
        "R-06: the header's time is {apart_s} s from its own clock, {allowed_s} s are allowed; set the clock if it is wrong. \
         A client cannot tell whose clock it is"
    )]
    ClockApart {
        /// Seconds between both.
        apart_s: u64,
        /// As the policy has it.
        allowed_s: u64,
    },
    /// The roster came later after the own advert than the policy permits: in that time the ring could have been ground.
    #[error(
        "R-08: the roster came {after_ms} ms after its advert, {deadline_ms} ms are allowed; it deals no shares. A client cannot \
         tell a slow line, or a machine that slept, from an aggregator that took its time"
    )]
    RosterLate {
        /// Milliseconds since the advert.
        after_ms: u64,
        /// As the policy has it.
        deadline_ms: u64,
    },
    /// The own clock ran backwards between advert and roster, so that nobody can say how old the roster is.
    #[error(
        "R-08: its own clock ran backwards since its advert, so it cannot tell whether the roster came in time; set the clock"
    )]
    ClockBackwards,
    /// A message without which there is no way on was answered 410.
    #[error(
        "its {} message came after that phase had closed, says the aggregator; a client cannot tell a late message from an \
         aggregator that closed early or held it back", phase.as_str()
    )]
    Late {
        /// Of which phase.
        phase: Phase,
    },
    /// The core leaves it out, and it uploads nothing.
    #[error(
        "R-17: the core leaves it out: its shares were not in place with enough neighbours when the core was fixed, says the \
         aggregator; nothing of its update was sent. A client cannot tell mail and messages that were late from an aggregator \
         that held them back"
    )]
    NotInCore,
    /// It uploaded, and the survivor list leaves it out; it confirms and opens nothing.
    #[error(
        "R-21: the survivor list leaves it out, so its upload came too late, says the aggregator; the upload stays masked and \
         is in no sum. A client cannot tell a late message from an aggregator that held it back"
    )]
    NotListed,
}

impl LeftOut {
    /// Of a refusal that shows no lie; `None` of one that does.
    pub fn of(why: &ServerMisbehaved) -> Option<Self> {
        Some(match why {
            ServerMisbehaved::Budget { would_be, budget } => Self::Budget { would_be: *would_be, budget: *budget },
            ServerMisbehaved::RoundsTaken { taken, allowed } => Self::RoundsTaken { taken: *taken, allowed: *allowed },
            ServerMisbehaved::RoundsApart { last, apart, .. } => Self::RoundsApart { last: *last, apart: *apart },
            // The own certificate is judged with the header, before there is a roster with leaves.
            ServerMisbehaved::Member { leaf: u32::MAX, rejection } => match rejection.as_ref() {
                Rejection::Certificate { reason, .. } => Self::Certificate(*reason),
                _ => return None,
            },
            ServerMisbehaved::ClockApart { apart_s, allowed_s } => {
                Self::ClockApart { apart_s: *apart_s, allowed_s: *allowed_s }
            }
            ServerMisbehaved::RosterLate { after_ms, deadline_ms } => {
                Self::RosterLate { after_ms: *after_ms, deadline_ms: *deadline_ms }
            }
            ServerMisbehaved::ClockBackwards => Self::ClockBackwards,
            ServerMisbehaved::NotInCore => Self::NotInCore,
            ServerMisbehaved::NotListed => Self::NotListed,
            _ => return None,
        })
    }

    /// The rule under which the client goes no further, where there is one.
    pub fn rule(&self) -> Option<Rule> {
        Some(Rule(match self {
            Self::Budget { .. } | Self::RoundsTaken { .. } | Self::RoundsApart { .. } => 26,
            Self::EnrolledAnew => 36,
            Self::Certificate(_) | Self::ClockApart { .. } => 6,
            Self::ClockBackwards | Self::RosterLate { .. } => 8,
            Self::Late { .. } => return None,
            Self::NotInCore => 17,
            Self::NotListed => 21,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veilsum_crypto::ids::ClientId;

    /// The rule is the same whichever way the ending is told.
    #[test]
    fn what_shows_no_lie_keeps_its_rule_and_what_does_stays_one() {
        let reason = CertificateError::Expired;
        let rejection = Box::new(Rejection::Certificate { client: ClientId([1; 16]), reason });
        let blameless = [
            ServerMisbehaved::Budget { would_be: 2.0, budget: 1.0 },
            ServerMisbehaved::RoundsTaken { taken: 2, allowed: 2 },
            ServerMisbehaved::RoundsApart { last: 4, found: 5, apart: 2 },
            ServerMisbehaved::Member { leaf: u32::MAX, rejection: rejection.clone() },
            ServerMisbehaved::ClockApart { apart_s: 601, allowed_s: 600 },
            ServerMisbehaved::RosterLate { after_ms: 8, deadline_ms: 7 },
            ServerMisbehaved::ClockBackwards,
            ServerMisbehaved::NotInCore,
            ServerMisbehaved::NotListed,
        ];
        for why in blameless {
            let told = LeftOut::of(&why).unwrap_or_else(|| panic!("{why}"));
            assert_eq!(told.rule(), Some(why.rule()), "{told}");
        }
        let lies = [
            ServerMisbehaved::Member { leaf: 3, rejection },
            ServerMisbehaved::NeighboursInCore { found: 1, needed: 2 },
            ServerMisbehaved::TooFewSurvivors { found: 1, needed: 2 },
            ServerMisbehaved::OwnLeaf,
        ];
        for why in lies {
            assert_eq!(LeftOut::of(&why), None, "{why}");
        }
    }
}
