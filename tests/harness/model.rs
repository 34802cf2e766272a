//! The round machine with a lying aggregator, as a model that stateright explores in full.
//!
//! The honest clients are the machine. The aggregator and the corrupt client are the environment: they know everything that
//! was ever sent, sign what they like, and show each client whatever they like as often as they like; so an action is one
//! step of one honest client, for every thing that could be shown to it and that it accepts. What they can compute from what
//! was sent is `model/knowledge.rs`; what a client accepts, `model/decide.rs`, beside the real functions; tests/tests/explore.rs compares the two.
//!
//! | of the protocol | in the model |
//! |---|---|
//! | header and roster | which of two rosters a client takes, for every choice of who is outside their agreement sets |
//! | mail, complaints | whose shares reach it; whether the corrupt client's are bad; which complaints a dealer is shown |
//! | core, survivor list | every set of leaf indices; each list in two statements that differ in their root alone |
//! | uploads, confirms | everything signed so far by anybody, and whatever the corrupt client may sign |
//! | crash, resumption | at any point between two steps: the client goes on from its journal. A crash inside a step is one before it, or one after it with the message not yet shown to anybody |
//! | a refusal | the client gives up, at any point; being shown what it refuses leads nowhere else |
//!
//! Not in it: adverts and leaves, clocks, other rounds, noise and budget, blame, more than two rosters, and
//! cryptography, which is taken for what it promises. With four clients and t = 3 nobody may be lost, so that cores and lists are
//! of everybody: choices of whom to leave out begin with five, and there the exploration begins at the acknowledgements with all
//! mail delivered. A crash that loses nothing changes nothing, so it shows only where the journal is taken out. Where checks are
//! taken out, "nothing breaks" is weaker than where none is: a client has one former life, and sums are not subtracted from each
//! other unless one client sent two under the same masks. States are told apart by 64-bit hashes. A state is kept once for all its images under exchange of honest clients, rosters and copies
//! (`model/symmetry.rs`). `model/attacks.rs` explores; `cargo run --release -p verification --bin explore` prints it.

use stateright::{Model, Property};
use veilsum_crypto::params::{RosterParams, RoundParams};
use veilsum_crypto::testing::small_params;

pub mod attacks;
pub mod checks;
pub mod decide;
pub mod knowledge;
pub mod steps;
pub mod symmetry;

pub use checks::{Check, Without};
pub use steps::{Action, Life, Phase, State};

use knowledge::Knowledge;

/// Clients, by leaf index, a bit each.
pub type Set = u8;

/// The honest clients are leaves 0.. up to this many.
pub const HONEST_MAX: usize = 4;

/// How many.
pub fn count(set: Set) -> u8 {
    set.count_ones() as u8
}

/// Whether this leaf is in it.
pub fn has(set: Set, leaf: u8) -> bool {
    set & 1 << leaf != 0
}

/// One leaf.
pub fn only(leaf: u8) -> Set {
    1 << leaf
}

/// Those in a set, ascending.
pub fn leaves(set: Set) -> impl Iterator<Item = u8> {
    (0..8).filter(move |leaf| has(set, *leaf))
}

/// The figures of the round, and how much of it is explored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// n.
    pub n: u8,
    /// t.
    pub threshold: u8,
    /// T.
    pub tolerated: u8,
    /// How many are corrupt: the last leaves.
    pub corrupt: u8,
    /// max(cohort_min, n - T).
    pub survivors_min: u8,
    /// 2t - k - 1.
    pub openings_max: u8,
    /// Fewest honest inputs of a sum: max(cohort_min, n - T) less the corrupt clients there are.
    pub honest_min: u8,
    /// Where the exploration begins.
    pub from: Phase,
}

impl Table {
    /// All leaf indices.
    pub fn everybody(&self) -> Set {
        (1 << self.n) - 1
    }

    /// The honest ones.
    pub fn honest(&self) -> Set {
        (1 << self.honest_count()) - 1
    }

    /// How many are honest.
    pub fn honest_count(&self) -> u8 {
        self.n - self.corrupt
    }

    /// Those who work with the aggregator.
    pub fn corrupt(&self) -> Set {
        self.everybody() & !self.honest()
    }
}

/// Which round, and who is corrupt in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// Four clients, t = 3, one corrupt; nobody may be lost. From the roster on.
    Four,
    /// The same with both corrupt clients that its parameters allow for.
    FourTwoCorrupt,
    /// Five clients, one corrupt: the fewest with t = 3 that may lose one. From the acknowledgements on, all mail delivered.
    Five,
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Four, Self::FourTwoCorrupt, Self::Five];

    /// A word for the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Four => "four",
            Self::FourTwoCorrupt => "four-two-corrupt",
            Self::Five => "five",
        }
    }

    /// The parameters of the header. With gamma 0.05 four clients get a ring with k = t = 2; with gamma 0.5 the graph is
    /// complete and t = 3.
    pub fn params(self) -> RoundParams {
        match self {
            Self::Four | Self::FourTwoCorrupt => {
                let mut params = RoundParams { corrupt_fraction: 500_000, ..small_params(4, 8) };
                params.ring_bits = params.ring_bits_needed().expect("a ring is wide enough");
                params
            }
            Self::Five => small_params(5, 8),
        }
    }

    /// The figures, as `RosterParams::derive` gives them: k, t and the rest are nobody's choice.
    pub fn table(self, without: Without) -> Table {
        let params = self.params();
        let params = RosterParams::derive(params.roster_max, &params).expect("these rosters are feasible");
        assert_eq!(params.degree, params.n - 1, "the graph is complete");
        let byte = |figure: u32| u8::try_from(figure).expect("five clients have small figures");
        let (corrupt, from) = match self {
            Self::Four => (1, Phase::Enrolled),
            Self::FourTwoCorrupt => (2, Phase::Enrolled),
            Self::Five => (1, Phase::Acknowledged),
        };
        assert!(corrupt <= byte(params.corrupt), "at most c");
        let survivors_min = byte(params.survivors_min);
        Table {
            n: byte(params.n),
            threshold: if without.has(Check::OwnThreshold) { byte(params.threshold) } else { 2 },
            tolerated: byte(params.tolerated),
            corrupt: corrupt + u8::from(!without.has(Check::Corrupt)),
            survivors_min,
            openings_max: byte(params.openings_max()),
            honest_min: survivors_min - corrupt,
            from,
        }
    }
}

/// The model: a table, and the checks in place.
#[derive(Clone, Debug)]
pub struct Round {
    /// The figures.
    pub table: Table,
    /// The checks.
    pub without: Without,
}

impl Round {
    /// Of a setting, with some checks taken out.
    pub fn new(setting: Setting, without: Without) -> Self {
        Self { table: setting.table(without), without }
    }
}

/// What must always hold.
pub const ALWAYS: [&str; 4] = [BOTH_SECRETS, TWO_LISTS, SMALL_SUM, TWO_STATEMENTS];
/// P1: the aggregator and the corrupt client hold t shares of both secrets of no honest client.
pub const BOTH_SECRETS: &str = "never both secrets of an honest client";
///
pub const TWO_LISTS: &str = "never two survivor lists confirmed by t";
/// max(cohort_min, n - T) - c.
pub const SMALL_SUM: &str = "never a sum of fewer honest inputs than promised";
///
pub const TWO_STATEMENTS: &str = "never two statements of one client in one slot";
/// What must be reachable.
pub const SOMETIMES: [&str; 5] = [RELEASED, RELEASED_WITH_LOSS, TWO_ROSTERS, TWO_LISTS_ACCEPTED, OPENED];
/// P3.
pub const RELEASED: &str = "a sum of everybody is released";
/// P3; out of reach where the table tolerates no loss.
pub const RELEASED_WITH_LOSS: &str = "a sum without one honest client is released";
/// The lies are there.
pub const TWO_ROSTERS: &str = "clients upload under two rosters";
/// The lies are there.
pub const TWO_LISTS_ACCEPTED: &str = "clients accept two survivor lists";
/// The lies are there.
pub const OPENED: &str = "a client opens an edge";

impl Model for Round {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut states = self.beginnings();
        states.iter_mut().for_each(|state| *state = symmetry::canonical(&self.table, state));
        states.sort_unstable();
        states.dedup();
        states
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.steps(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let next = self.step(state, action);
        (next != *state).then(|| symmetry::canonical(&self.table, &next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(BOTH_SECRETS, |model, state| !Knowledge::of(model, state).has_both_secrets()),
            Property::always(TWO_LISTS, |model, state| !model.are_two_lists_confirmed(state)),
            Property::always(SMALL_SUM, |model: &Self, state| {
                Knowledge::of(model, state).smallest_sum().is_none_or(|inputs| inputs >= model.table.honest_min)
            }),
            Property::always(TWO_STATEMENTS, |model, state| !model.says_two_things(state)),
            Property::sometimes(RELEASED, |model, state| Knowledge::of(model, state).releases(model.table.everybody())),
            Property::sometimes(RELEASED_WITH_LOSS, |model, state| {
                let honest = model.table.honest();
                leaves(honest).any(|lost| Knowledge::of(model, state).releases(model.table.everybody() & !only(lost)))
            }),
            Property::sometimes(TWO_ROSTERS, |_, state: &State| {
                let uploaded =
                    |roster| state.said().any(|(_, life)| life.phase >= Phase::Uploaded && life.roster == roster);
                uploaded(0) && uploaded(1)
            }),
            Property::sometimes(TWO_LISTS_ACCEPTED, |_, state: &State| {
                let mut lists =
                    state.said().filter(|(_, life)| life.phase >= Phase::Accepted).map(|(_, life)| life.root());
                lists.next().is_some_and(|first| lists.any(|other| other != first))
            }),
            Property::sometimes(OPENED, |_, state: &State| state.said().any(|(_, life)| life.opened != 0)),
        ]
    }
}
