//! One state for all that differ in names alone: which honest client is which, which roster, which copy of a list.
//!
//! Nothing that the model decides or asks depends on these numbers, so the smallest image stands for all. What each was called
//! at the beginning of a path is carried along, so that a path can be told.

use std::cmp::Ordering;
use std::sync::LazyLock;

use super::{HONEST_MAX, Life, Phase, Set, State, Table};

/// A renaming of leaf indices, and what it does to sets.
struct Renaming {
    to: [u8; 8],
    from: [usize; 8],
    sets: [Set; 1 << (HONEST_MAX + 1)],
}

impl Renaming {
    fn new(to: [u8; 8]) -> Self {
        let sets = std::array::from_fn(|set| {
            (0..8).filter(|leaf| set & 1 << leaf != 0).fold(0, |image, leaf: usize| image | 1 << to[leaf])
        });
        let mut from = [0; 8];
        for leaf in 0..8 {
            from[usize::from(to[leaf])] = leaf;
        }
        Self { to, from, sets }
    }
}

/// Those of the first so many leaves, by how many.
static RENAMINGS: LazyLock<Vec<Vec<Renaming>>> = LazyLock::new(|| {
    let mut by_count: Vec<Vec<[u8; 8]>> = vec![vec![[0, 1, 2, 3, 4, 5, 6, 7]]];
    for count in 1..=HONEST_MAX {
        let wider = by_count[count - 1].iter().flat_map(|to| {
            (0..count).map(move |place| {
                let mut to = *to;
                to.swap(place, count - 1);
                to
            })
        });
        by_count.push(wider.collect());
    }
    by_count.into_iter().map(|all| all.into_iter().map(Renaming::new).collect()).collect()
});

/// One way to rename a state.
struct Image<'a> {
    state: &'a State,
    renaming: &'a Renaming,
    swaps_rosters: bool,
    swaps_copies: bool,
}

/// The smallest image of a state.
pub fn canonical(table: &Table, state: &State) -> State {
    let honest = usize::from(table.honest_count());
    let mut best = *state;
    for renaming in &RENAMINGS[honest] {
        for (swaps_rosters, swaps_copies) in [(false, false), (false, true), (true, false), (true, true)] {
            let image = Image { state, renaming, swaps_rosters, swaps_copies };
            if image.is_below(&best, honest) {
                best = image.whole(honest);
            }
        }
    }
    best
}

impl Image<'_> {
    /// Compares piece by piece, as `State` is ordered: most images differ early.
    fn is_below(&self, best: &State, honest: usize) -> bool {
        let lives = (0..honest).map(|to| self.life(&self.state.lives[self.renaming.from[to]]).cmp(&best.lives[to]));
        let past = (0..honest).map(|to| self.past(self.renaming.from[to]).cmp(&best.past[to]));
        let outside = std::iter::once_with(|| self.outside().cmp(&best.outside));
        outside.chain(lives).chain(past).find(|order| order.is_ne()).is_some_and(Ordering::is_lt)
    }

    fn outside(&self) -> [u8; 2] {
        let [first, second] = self.state.outside.map(|leaf| self.renaming.to[usize::from(leaf)]);
        if self.swaps_rosters { [second, first] } else { [first, second] }
    }

    fn life(&self, life: &Life) -> Life {
        let set = |set: Set| self.renaming.sets[usize::from(set)];
        Life {
            roster: life.roster ^ u8::from(self.swaps_rosters && life.phase >= Phase::Dealt),
            held: set(life.held),
            complained: set(life.complained),
            opened: set(life.opened),
            core: set(life.core),
            list: set(life.list),
            copy: life.copy ^ u8::from(self.swaps_copies && life.phase >= Phase::Accepted),
            ..*life
        }
    }

    fn past(&self, leaf: usize) -> Option<Life> {
        self.state.past[leaf].as_ref().map(|life| self.life(life))
    }

    fn whole(&self, honest: usize) -> State {
        let mut whole = State { outside: self.outside(), ..*self.state };
        for to in 0..honest {
            let from = self.renaming.from[to];
            whole.lives[to] = self.life(&self.state.lives[from]);
            whole.past[to] = self.past(from);
            whole.names.leaves[to] = self.state.names.leaves[from];
        }
        if self.swaps_rosters {
            whole.names.rosters.swap(0, 1);
        }
        if self.swaps_copies {
            whole.names.copies.swap(0, 1);
        }
        whole
    }
}
