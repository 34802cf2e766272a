//! Exploring: the whole of a model, or the shortest way to break what must always hold where checks are out.
//!
//! For tests/bin/explore.rs and tests/tests/explore.rs.

use std::collections::BTreeSet;

use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _};

use super::checks::{Check, Without};
use super::{Action, BOTH_SECRETS, Round, SMALL_SUM, Setting, TWO_LISTS, TWO_STATEMENTS};

/// What an exploration saw.
#[derive(Clone, Debug)]
pub struct Explored {
    /// States reached, each as often as it was reached.
    pub states: usize,
    /// Different states.
    pub unique: usize,
    /// Steps to the last new one.
    pub depth: usize,
    /// By property: whether it must always hold, and whether it did; or whether it was reached.
    pub properties: Vec<Held>,
}

/// What came of one property.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its name.
    pub name: &'static str,
    /// Always, or sometimes.
    pub is_always: bool,
    /// It is as it should be.
    pub holds: bool,
}

impl Explored {
    /// What came of a property.
    pub fn holds(&self, name: &str) -> bool {
        self.properties.iter().find(|held| held.name == name).is_some_and(|held| held.holds)
    }
}

/// Explores all of it.
pub fn explore(model: &Round, threads: usize) -> Explored {
    let checker = model.clone().checker().threads(threads).spawn_bfs().join();
    assert!(checker.is_done(), "nothing is left to explore");
    let properties = model.properties().into_iter().map(|property| {
        let is_always = property.expectation == Expectation::Always;
        Held { name: property.name, is_always, holds: checker.discovery(property.name).is_some() != is_always }
    });
    Explored {
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth() - 1, // stateright counts the first state as one
        properties: properties.collect(),
    }
}

/// The shortest way to a state that breaks one of these properties, or reaches it; in the names of the beginning.
pub fn shortest(model: &Round, properties: &[&'static str]) -> Option<(&'static str, Vec<Action>)> {
    let mut found = None;
    let mut depth_max = usize::MAX;
    loop {
        let wanted: BTreeSet<_> = properties.iter().copied().collect();
        // One thread, so that the search is breadth first; it stops some states after the first discovery, hence again.
        let builder = model.clone().checker().threads(1).finish_when(HasDiscoveries::AnyOf(wanted));
        let builder = if depth_max == usize::MAX { builder } else { builder.target_max_depth(depth_max) };
        let checker = builder.spawn_bfs().join();
        let paths = properties.iter().filter_map(|name| Some((*name, checker.discovery(name)?.into_vec())));
        let Some((name, path)) = paths.min_by_key(|(_, path)| path.len()) else { return found };
        depth_max = path.len(); // states; so one step fewer next time
        let named = path.into_iter().filter_map(|(state, action)| Some(action?.named(&state.names)));
        found = Some((name, named.collect()));
    }
}

/// How a property breaks, in the fewest steps.
#[derive(Clone, Debug)]
pub struct Broken {
    /// In which round.
    pub setting: Setting,
    /// Which property.
    pub property: &'static str,
    /// What the honest clients did, in the names of the beginning.
    pub steps: Vec<Action>,
}

/// What breaks without these checks, in the first setting in which something does; `None`: nothing, in none of them. What gives
/// something away comes before two statements by one client, which are only a way to it.
pub fn without(checks: &[Check]) -> Option<Broken> {
    let told = [BOTH_SECRETS, TWO_LISTS, SMALL_SUM].as_slice();
    let broken = |properties: &[&'static str], setting: Setting| {
        let model = Round::new(setting, Without::of(checks.iter().copied()));
        let (property, steps) = shortest(&model, properties)?;
        Some(Broken { setting, property, steps })
    };
    let mut in_order = [told, &[TWO_STATEMENTS]].into_iter();
    in_order.find_map(|properties| Setting::ALL.into_iter().find_map(|setting| broken(properties, setting)))
}
