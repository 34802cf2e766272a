//! For each rule, what succeeds without it.
//!
//! An attack is played three times: against the real thing, which refuses it; against the gullible model with all its checks,
//! which refuses it under this very rule; and against the same model with one decision exchanged for a patched copy. Then it
//! succeeds, and what it gains is computed: an input bit for bit, a sum over fewer than promised, a wrong sum that everybody
//! believes, a round that stops, somebody honest named. No production code has a switch for any of this.
//!
//! Some rules are a second line: another rule would stop the same lie. Those attacks name it (`behind`), and are played where
//! that one is out too; that one line alone then decides is what is shown.

use veilsum_crypto::rules::{Rejection, ServerMisbehaved};

pub mod attacks;
pub mod checks;
pub mod gullible;
pub mod real;
pub mod stage;

pub use checks::{Checks, Decided, Stop};

/// What an attack comes to: what was gained, or who stopped it.
pub type Played = Decided<String>;

/// One attack, and the one decision that it turns on.
#[derive(Clone, Copy)]
pub struct WithoutRule {
    /// The number of the rule that stands against it.
    pub rule: u8,
    /// Its name.
    pub attack: &'static str,
    /// What happens with the check.
    pub with: &'static str,
    /// What happens without it.
    pub without: &'static str,
    /// Other rules that would stop it too; they are out in both plays of the model.
    pub behind: &'static [u8],
    /// Takes those out.
    pub base: fn(&mut Checks),
    /// Exchanges the one decision for its patched copy.
    pub patch: fn(&mut Checks),
    /// Against the real thing.
    pub real: fn() -> Played,
    /// The rule by which the real thing stops, where it counts the lie under another.
    pub real_rule: Option<u8>,
    /// Against the model.
    pub model: fn(Checks) -> Played,
}

/// What was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The real thing.
    pub real: Played,
    /// The model with the check.
    pub with: Played,
    /// The model without it.
    pub without: Played,
    /// The model without it, but with the rules behind which it stands; `None` if it stands alone.
    pub second_line: Option<Played>,
}

impl WithoutRule {
    /// An attack on a rule that stands alone.
    pub const fn new(rule: u8, attack: &'static str) -> Self {
        Self {
            rule,
            attack,
            with: "",
            without: "",
            behind: &[],
            base: |_| {},
            patch: |_| {},
            real: || Ok(String::new()),
            real_rule: None,
            model: |_| Ok(String::new()),
        }
    }

    /// `R-17`.
    pub fn name(&self) -> String {
        format!("R-{:02}", self.rule)
    }

    /// The checks with which the model is played: with the decision, and without it.
    pub fn checks(&self) -> [Checks; 2] {
        let mut with = Checks::all();
        (self.base)(&mut with);
        let mut without = with;
        (self.patch)(&mut without);
        [with, without]
    }

    /// Plays all of it.
    pub fn run(&self) -> Seen {
        let [with, without] = self.checks();
        let mut alone = Checks::all();
        (self.patch)(&mut alone);
        Seen {
            real: (self.real)(),
            with: (self.model)(with),
            without: (self.model)(without),
            second_line: (!self.behind.is_empty()).then(|| (self.model)(alone)),
        }
    }

    /// Whether it is as it should be: nothing gained under this rule, twice; something gained without it.
    pub fn is_as_expected(&self, seen: &Seen) -> bool {
        let stopped_by = |played: &Played, rules: &[u8]| played.as_ref().is_err_and(|stop| rules.contains(&stop.rule));
        stopped_by(&seen.real, &[self.real_rule.unwrap_or(self.rule)])
            && stopped_by(&seen.with, &[self.rule])
            && seen.without.is_ok()
            && seen.second_line.as_ref().is_none_or(|played| stopped_by(played, self.behind))
    }
}

/// Every attack, by rule.
pub fn all() -> Vec<WithoutRule> {
    let mut all = attacks::all();
    all.sort_by_key(|attack| attack.rule);
    all
}

impl From<ServerMisbehaved> for Stop {
    fn from(error: ServerMisbehaved) -> Self {
        Self { rule: error.rule().0, why: without_number(&error.to_string()) }
    }
}

impl From<Rejection> for Stop {
    fn from(error: Rejection) -> Self {
        Self { rule: error.rule().map_or(0, |rule| rule.0), why: without_number(&error.to_string()) }
    }
}

/// The words behind "R-17: ".
fn without_number(text: &str) -> String {
    let words = text.strip_prefix("R-").and_then(|rest| rest.split_once(": "));
    words.map_or(text, |(_, words)| words).to_string()
}
