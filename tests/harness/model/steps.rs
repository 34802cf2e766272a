//! What honest clients do, step by step, and what was said: states and actions of the model.
//!
//! `Round::steps` lists, for every honest client, everything that it would accept if it were shown it; `Round::step` takes
//! it. Decisions are asked of `model/decide.rs`.

use std::hash::{Hash, Hasher};

use super::checks::Check;
use super::decide::Judge;
use super::{HONEST_MAX, Round, Set, count, has, leaves, only};

/// How far a client has come: the last slot of its journal that is written. docs/protocol.md §4.5
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum Phase {
    /// It advertised; it has no roster.
    #[default]
    Enrolled,
    /// It dealt its shares.
    Dealt,
    /// It judged its mail.
    Acknowledged,
    /// It took a core and sent its masked input.
    Uploaded,
    /// It took a survivor list, and confirmed it if it is of the agreement set.
    Accepted,
    /// It gave its shares away.
    Answered,
}

/// One honest client: what its journal holds, and thereby what it has signed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Life {
    /// The last slot.
    pub phase: Phase,
    /// It gave up; it says nothing more.
    pub is_gone: bool,
    /// Which roster.
    pub roster: u8,
    /// Honest dealers whose shares it holds.
    pub held: Set,
    /// Dealers about whom it complained.
    pub complained: Set,
    /// Holders to whom it opened their edge.
    pub opened: Set,
    /// The core under which it uploaded.
    pub core: Set,
    /// Its input was masked anew, with fresh noise.
    pub is_redrawn: bool,
    /// The survivor list that it accepted.
    pub list: Set,
    /// Which of two statements with that list.
    pub copy: u8,
    /// It answered for a list that it had not accepted itself.
    pub is_foreign: bool,
}

/// A survivor statement: roster, core, list, copy.
pub type Root = (u8, Set, Set, u8);

impl Life {
    /// The survivor statement accepted.
    pub fn root(&self) -> Root {
        (self.roster, self.core, self.list, self.copy)
    }

    /// The same client with nothing written after this slot.
    fn back_to(&self, phase: Phase) -> Self {
        let mut life = Self { phase, is_gone: false, ..*self };
        if phase < Phase::Accepted {
            (life.list, life.copy, life.is_foreign) = (0, 0, false);
        }
        if phase < Phase::Uploaded {
            life.core = 0;
            life.is_redrawn |= self.phase >= Phase::Uploaded;
        }
        if phase < Phase::Acknowledged {
            (life.held, life.complained, life.opened) = (0, 0, 0);
        }
        life
    }
}

/// Everything that was said, and where every honest client stands.
#[derive(Clone, Copy, Default, Debug)]
pub struct State {
    /// Who is outside the agreement set of each roster: the last of its ring. §3.2
    pub outside: [u8; 2],
    /// The honest clients.
    pub lives: [Life; HONEST_MAX],
    /// What a client had said before it forgot it, or said something else; only where a check is out.
    pub past: [Option<Life>; HONEST_MAX],
    /// What the clients, rosters and copies were called at the beginning; no part of the state.
    pub names: Names,
}

/// By number of today, the number at the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Names {
    /// Leaf indices.
    pub leaves: [u8; 8],
    /// Rosters.
    pub rosters: [u8; 2],
    /// Copies of survivor lists.
    pub copies: [u8; 2],
}

impl Default for Names {
    fn default() -> Self {
        Self { leaves: [0, 1, 2, 3, 4, 5, 6, 7], rosters: [0, 1], copies: [0, 1] }
    }
}

impl State {
    /// What is compared: all but the names.
    pub fn key(&self) -> (&[u8; 2], &[Life; HONEST_MAX], &[Option<Life>; HONEST_MAX]) {
        (&self.outside, &self.lives, &self.past)
    }

    /// Everything that honest clients have said, by whom.
    pub fn said(&self) -> impl Iterator<Item = (u8, &Life)> {
        let past = (0..).zip(&self.past).filter_map(|(leaf, life)| life.as_ref().map(|life| (leaf, life)));
        (0..).zip(&self.lives).chain(past)
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for State {}
impl PartialOrd for State {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for State {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.key().hash(hasher);
    }
}

/// One step of one honest client, with what it was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "client: who; the rest is said with each")]
pub enum Action {
    /// Takes a roster, and deals.
    Deal { client: u8, roster: u8 },
    /// Judges its mail: good shares of these honest dealers, bad ones of those whom it complains about.
    Acknowledge { client: u8, held: Set, complained: Set },
    /// Is shown these complaints, and opens.
    Open { client: u8, holders: Set },
    /// Takes a core, and uploads.
    Mask { client: u8, core: Set },
    /// Takes a survivor list, and confirms.
    Confirm { client: u8, list: Set, copy: u8 },
    /// Is shown confirmations of a list, and answers.
    Answer { client: u8, list: Set, copy: u8 },
    /// Abandons the round.
    GiveUp { client: u8 },
    /// Crashes, and goes on from this slot.
    Crash { client: u8, to: Phase },
    /// Begins the round again after it gave up, with new keys.
    Begin { client: u8, roster: u8 },
}

impl Action {
    /// Who.
    pub fn client(&self) -> u8 {
        match *self {
            Self::Deal { client, .. }
            | Self::Acknowledge { client, .. }
            | Self::Open { client, .. }
            | Self::Mask { client, .. }
            | Self::Confirm { client, .. }
            | Self::Answer { client, .. }
            | Self::GiveUp { client }
            | Self::Crash { client, .. }
            | Self::Begin { client, .. } => client,
        }
    }
}

impl Action {
    /// The same step in the names of the beginning.
    pub fn named(self, names: &Names) -> Self {
        let leaf = |leaf: u8| names.leaves[usize::from(leaf)];
        let set = |set: Set| leaves(set).fold(0, |named, member| named | only(leaf(member)));
        let on = |roster: u8| names.rosters[usize::from(roster)];
        let copy_of = |copy: u8| names.copies[usize::from(copy)];
        let client = leaf(self.client());
        match self {
            Self::Deal { roster, .. } => Self::Deal { client, roster: on(roster) },
            Self::Acknowledge { held, complained, .. } => {
                Self::Acknowledge { client, held: set(held), complained: set(complained) }
            }
            Self::Open { holders, .. } => Self::Open { client, holders: set(holders) },
            Self::Mask { core, .. } => Self::Mask { client, core: set(core) },
            Self::Confirm { list, copy, .. } => Self::Confirm { client, list: set(list), copy: copy_of(copy) },
            Self::Answer { list, copy, .. } => Self::Answer { client, list: set(list), copy: copy_of(copy) },
            Self::GiveUp { .. } => Self::GiveUp { client },
            Self::Crash { to, .. } => Self::Crash { client, to },
            Self::Begin { roster, .. } => Self::Begin { client, roster: on(roster) },
        }
    }

    /// The step in words; the honest clients are A, B, …, the corrupt X and Y.
    pub fn told(&self, honest: u8) -> String {
        let leaf = |leaf: u8| char::from(if leaf < honest { b'A' + leaf } else { b'X' + leaf - honest });
        let set = |set: Set| if set == 0 { "nobody".to_string() } else { leaves(set).map(leaf).collect() };
        let list = |list: Set, copy: u8| format!("{}{}", set(list), if copy == 0 { "" } else { "'" });
        let client = leaf(self.client());
        match *self {
            Self::Deal { roster, .. } => format!("{client} takes roster {}, and deals", roster + 1),
            Self::Acknowledge { held, complained: 0, .. } => format!("{client} gets good shares of {}", set(held)),
            Self::Acknowledge { held, complained, .. } => {
                format!("{client} gets good shares of {}, and complains about {}", set(held), set(complained))
            }
            Self::Open { holders, .. } => format!("{client} opens its edges to {}", set(holders)),
            Self::Mask { core, .. } => format!("{client} uploads under the core {}", set(core)),
            Self::Confirm { list: named, copy, .. } => format!("{client} accepts the list {}", list(named, copy)),
            Self::Answer { list: named, copy, .. } => format!("{client} answers for the list {}", list(named, copy)),
            Self::GiveUp { .. } => format!("{client} gives up"),
            Self::Crash { to, .. } => format!("{client} crashes, and goes on from \"{to:?}\""),
            Self::Begin { roster, .. } => format!("{client} begins again, takes roster {}, and deals", roster + 1),
        }
    }
}

/// The subsets of a set.
fn subsets(set: Set) -> impl Iterator<Item = Set> {
    (0..=set).filter(move |subset| subset & !set == 0)
}

impl Round {
    /// Every choice of the rosters, and where the exploration begins later, who is on which.
    pub(super) fn beginnings(&self) -> Vec<State> {
        let mut states = Vec::new();
        for (first, second) in (0..self.table.n).flat_map(|first| (0..self.table.n).map(move |second| (first, second)))
        {
            let blank = State { outside: [first, second], ..State::default() };
            if self.table.from == Phase::Enrolled {
                states.push(blank);
                continue;
            }
            // All mail of a roster is delivered: fewer shares in honest hands only make answers emptier.
            for on_second in subsets(self.table.honest()) {
                let mut state = blank;
                for leaf in leaves(self.table.honest()) {
                    let (roster, together) =
                        if has(on_second, leaf) { (1, on_second) } else { (0, self.table.honest() & !on_second) };
                    let held = together & !only(leaf);
                    state.lives[usize::from(leaf)] = Life { phase: self.table.from, roster, held, ..Life::default() };
                }
                states.push(state);
            }
        }
        states
    }

    fn judge(&self, me: u8) -> Judge<'_> {
        Judge { table: &self.table, without: self.without, me }
    }

    /// Honest clients that dealt under a roster.
    pub(super) fn dealt(&self, state: &State, roster: u8) -> Set {
        said_by(state, |life| life.phase >= Phase::Dealt && life.roster == roster) & self.table.honest()
    }

    /// Whose upload under a core can be shown: the corrupt sign any.
    fn uploads(&self, state: &State, roster: u8, core: Set) -> Set {
        said_by(state, |life| life.phase >= Phase::Uploaded && (life.roster, life.core) == (roster, core))
            | self.table.corrupt()
    }

    /// The agreement set of a roster. §3.2
    pub fn agreement(&self, state: &State, roster: u8) -> Set {
        self.table.everybody() & !only(state.outside[usize::from(roster)])
    }

    /// Whose confirmation of a survivor statement can be shown: the corrupt sign any.
    fn signers(&self, state: &State, root: Root) -> Set {
        let agreement = self.agreement(state, root.0);
        let everybody_signs = !self.without.has(Check::AgreementSet);
        let signed = |life: &Life| life.phase >= Phase::Accepted && life.root() == root && !life.is_foreign;
        let honest = said_by(state, signed);
        (if everybody_signs { honest } else { honest & agreement }) | self.table.corrupt()
    }

    /// Everything that some honest client would do if it were shown it.
    pub(super) fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        for client in leaves(self.table.honest()) {
            let life = state.lives[usize::from(client)];
            if life.is_gone {
                if !self.without.has(Check::AbortIsFinal) && state.past[usize::from(client)].is_none() {
                    actions.push(Action::Begin { client, roster: 1 - life.roster });
                }
                continue;
            }
            match life.phase {
                Phase::Enrolled => actions.extend((0..2).map(|roster| Action::Deal { client, roster })),
                Phase::Dealt => self.acknowledgements(state, client, actions),
                Phase::Acknowledged => {
                    self.openings(state, client, actions);
                    self.masks(client, actions);
                }
                Phase::Uploaded => {
                    if !self.without.has(Check::NoneAfterCore) {
                        self.openings(state, client, actions);
                    }
                    if !self.without.has(Check::FirstCore) && state.past[usize::from(client)].is_none() {
                        self.masks(client, actions);
                    }
                    self.lists(state, client, actions);
                }
                Phase::Accepted => {
                    if !self.without.has(Check::OneList) && state.past[usize::from(client)].is_none() {
                        self.lists(state, client, actions);
                    }
                    self.answers(state, client, actions);
                }
                Phase::Answered => {
                    if !self.without.has(Check::OneAnswer) && state.past[usize::from(client)].is_none() {
                        self.answers(state, client, actions);
                        if !self.without.has(Check::OneList) {
                            self.lists(state, client, actions);
                        }
                    }
                }
            }
            if life.phase < Phase::Answered {
                actions.push(Action::GiveUp { client });
            }
            if self.without.has(Check::Journal) {
                actions.push(Action::Crash { client, to: life.phase });
            } else if state.past[usize::from(client)].is_none() {
                // Only the slots up to the share message outlive a crash.
                let kept = [Phase::Dealt, Phase::Acknowledged, Phase::Uploaded, Phase::Accepted];
                let lost = kept.into_iter().filter(|to| *to >= self.table.from && *to < life.phase);
                actions.extend(lost.map(|to| Action::Crash { client, to }));
            }
        }
    }

    fn acknowledgements(&self, state: &State, client: u8, actions: &mut Vec<Action>) {
        let dealers = self.dealt(state, state.lives[usize::from(client)].roster) & !only(client);
        for held in subsets(dealers) {
            // only what a dealer signed and what opens badly; that is a corrupt dealer's. Missing mail is none.
            let withheld = if self.without.has(Check::MissingIsNoComplaint) { 0 } else { dealers & !held };
            for complained in subsets(self.table.corrupt() | withheld) {
                if self.judge(client).may_complain(complained).is_ok() {
                    actions.push(Action::Acknowledge { client, held, complained });
                }
            }
        }
    }

    fn openings(&self, state: &State, client: u8, actions: &mut Vec<Action>) {
        let life = state.lives[usize::from(client)];
        if life.opened != 0 {
            return; // one opening: `ReadyToMask::open`, has_opened
        }
        let complained = said_by(state, |other| {
            other.phase >= Phase::Acknowledged && other.roster == life.roster && has(other.complained, client)
        }) | self.table.corrupt();
        // Later in the round only openings that tell something: the corrupt hold their own shares anyway.
        let asking = if self.table.from == Phase::Enrolled { self.table.everybody() } else { self.table.honest() };
        for shown in subsets(self.judge(client).neighbours() & asking).filter(|shown| *shown != 0) {
            match self.judge(client).counted(shown, complained) {
                Ok(holders) if holders == shown => actions.push(Action::Open { client, holders }),
                _ => {} // what does not count changes nothing; too many stop it, which is to give up
            }
        }
    }

    fn masks(&self, client: u8, actions: &mut Vec<Action>) {
        let cores = (1..=self.table.everybody()).filter(|core| self.judge(client).core_admits(*core).is_ok());
        actions.extend(cores.map(|core| Action::Mask { client, core }));
    }

    fn lists(&self, state: &State, client: u8, actions: &mut Vec<Action>) {
        let life = state.lives[usize::from(client)];
        let uploads = self.uploads(state, life.roster, life.core);
        for list in 1..=self.table.everybody() {
            if self.judge(client).survivors_hold(life.core, list, uploads).is_ok() {
                actions.extend((0..2).map(|copy| Action::Confirm { client, list, copy }));
            }
        }
    }

    fn answers(&self, state: &State, client: u8, actions: &mut Vec<Action>) {
        let life = state.lives[usize::from(client)];
        for list in 1..=self.table.everybody() {
            for copy in 0..2 {
                let root = (life.roster, life.core, list, copy);
                let is_asked = root == life.root() || !self.without.has(Check::AcceptedRoot);
                let agreement = self.agreement(state, life.roster);
                if is_asked && self.judge(client).agreed(list, agreement, self.signers(state, root)).is_ok() {
                    actions.push(Action::Answer { client, list, copy });
                }
            }
        }
    }

    /// The state after a step.
    pub(super) fn step(&self, state: &State, action: Action) -> State {
        let mut next = *state;
        let at = usize::from(action.client());
        let life = &mut next.lives[at];
        let before = *life;
        match action {
            Action::Deal { roster, .. } => (life.phase, life.roster) = (Phase::Dealt, roster),
            Action::Acknowledge { held, complained, .. } => {
                *life = Life { phase: Phase::Acknowledged, held, complained, ..*life };
            }
            Action::Open { holders, .. } => life.opened = holders,
            Action::Mask { core, .. } => *life = Life { core, ..life.back_to(Phase::Uploaded) },
            Action::Confirm { list, copy, .. } => {
                *life = Life { list, copy, ..life.back_to(Phase::Accepted) };
                life.is_foreign = false;
            }
            Action::Answer { list, copy, .. } => {
                let is_foreign = (list, copy) != (life.list, life.copy);
                *life = Life { phase: Phase::Answered, list, copy, is_foreign: is_foreign || life.is_foreign, ..*life };
            }
            Action::GiveUp { .. } => {
                life.is_gone = true;
                life.held = 0; // it will never answer
            }
            Action::Crash { to, .. } => *life = if to == life.phase { *life } else { life.back_to(to) },
            Action::Begin { roster, .. } => *life = Life { phase: Phase::Dealt, roster, ..Life::default() },
        }
        // Where a check is out: what it had said before it says otherwise.
        let says_otherwise = match action {
            Action::Mask { .. } => before.phase > Phase::Acknowledged,
            Action::Confirm { .. } => before.phase > Phase::Uploaded,
            Action::Answer { .. } => before.phase == Phase::Answered || life.is_foreign,
            Action::Crash { .. } => *life != before,
            Action::Begin { .. } => true,
            _ => false,
        };
        if says_otherwise && *life != before && next.past[at].is_none() {
            next.past[at] = Some(before);
        }
        next
    }

    /// Whether two different survivor statements are both confirmed by t.
    pub(super) fn are_two_lists_confirmed(&self, state: &State) -> bool {
        let mut confirmed: Option<Root> = None;
        for (_, life) in state.said().filter(|(_, life)| life.phase >= Phase::Accepted && !life.is_foreign) {
            let (root, list) = (life.root(), life.list);
            let by = self.signers(state, root) & list;
            let by = if self.without.has(Check::AgreementSet) { by & self.agreement(state, root.0) } else { by };
            if count(by) >= self.table.threshold {
                match confirmed {
                    Some(first) if first != root => return true,
                    _ => confirmed = Some(root),
                }
            }
        }
        false
    }

    /// Whether a client has signed two different statements of one kind. R-03
    pub(super) fn says_two_things(&self, state: &State) -> bool {
        (0..HONEST_MAX).any(|at| state.past[at].is_some_and(|past| contradict(&past, &state.lives[at])))
    }
}

/// Whose journal, today's or a former one, is like this.
fn said_by(state: &State, is_like_this: impl Fn(&Life) -> bool) -> Set {
    state.said().filter(|(_, life)| is_like_this(life)).fold(0, |set, (leaf, _)| set | only(leaf))
}

/// Two journals of one client that hold different statements in one slot.
fn contradict(a: &Life, b: &Life) -> bool {
    let reached = |phase| a.phase >= phase && b.phase >= phase;
    let mail = |life: &Life| (life.complained, if a.is_gone || b.is_gone { 0 } else { life.held });
    (reached(Phase::Dealt) && a.roster != b.roster)
        || (reached(Phase::Acknowledged) && mail(a) != mail(b))
        || (a.opened != 0 && b.opened != 0 && a.opened != b.opened)
        || (reached(Phase::Uploaded) && (a.core, a.is_redrawn) != (b.core, b.is_redrawn))
        || (reached(Phase::Accepted) && a.root() != b.root() && !a.is_foreign && !b.is_foreign)
        || (reached(Phase::Answered) && a.root() != b.root())
}
