//! A task file that states what is to be kept, and leaves noise, scale and ring to the solver.
//!
//! In place of `scale` and `noise_multiplier` it has `epsilon`, the most that all rounds together give away, and, if the ring is to be
//! of a given width, `ring_bits`; `delta` is another name of `dp_delta`. The goal is resolved once, when the file is read: what
//! stores keep, and headers state, are the numbers. docs/privacy.md, "Parameters are found".

use toml::{Table, Value};
use veilsum_crypto::math::ring::RingBits;
use veilsum_crypto::plan::TaskGoal;

use super::query::completed;
use super::{TaskError, TaskFile, check_ranges, params_without_ring};

/// What only a goal has.
pub(super) const KEYS: [&str; 3] = ["epsilon", "delta", "ring_bits"];

/// Replaces a goal by the numbers that keep it.
pub(super) fn resolve(mut table: Table) -> Result<TaskFile, TaskError> {
    let Some(epsilon) = table.remove("epsilon") else {
        let keys = KEYS.join(", ");
        return Err(TaskError::Goal(format!(
            "of {keys} a file that states a goal has epsilon; say it, or leave all out"
        )));
    };
    if let Some(key) = ["scale", "noise_multiplier"].into_iter().find(|key| table.contains_key(*key)) {
        return Err(TaskError::Goal(format!("{key} follows from epsilon: leave out one of them")));
    }
    let epsilon = number("epsilon", &epsilon)?;
    if let Some(delta) = table.remove("delta")
        && table.insert("dp_delta".into(), delta).is_some()
    {
        return Err(TaskError::Goal("delta and dp_delta are the same: leave out one of them".into()));
    }
    let ring_bits = table.remove("ring_bits").map(|bits| width(&bits)).transpose()?;
    let budget = table.entry("budget_epsilon").or_insert(Value::Float(epsilon));
    let budget = number("budget_epsilon", budget)?;
    if budget < epsilon {
        let what = format!("budget_epsilon {budget} is below the goal, epsilon {epsilon}: leave it out, or raise it");
        return Err(TaskError::Goal(what));
    }
    // The two that are found, for now without effect.
    table.insert("scale".into(), Value::Float(f64::MIN_POSITIVE));
    table.insert("noise_multiplier".into(), Value::Float(0.0));
    let (mut file, query) = completed(table.try_into()?)?;
    check_ranges(&file)?;
    let rounds = u32::try_from(file.rounds).map_err(|_| TaskError::Range {
        field: "rounds",
        expected: "below 2^32 where epsilon is given",
        found: file.rounds.to_string(),
    })?;
    let (goal, given) = (TaskGoal { rounds, epsilon, ring_bits }, params_without_ring(&file)?);
    let mut params = goal.plan(&given)?.params;
    if let Some(query) = &query {
        // Statistics rest on whole steps, and fine ones make their intervals tight; their vectors are short.
        let scale = if ring_bits.is_none() { query.default_scale() } else { params.scale.floor() };
        if scale >= 1.0 {
            params = goal.at_scale(&given, scale)?; // else it is refused, as too coarse for this ring
        }
    }
    file.scale = params.scale;
    // Its square, times that of the scaled clip norm, is rounded up to the variance again.
    let noise_std = (params.total_variance as f64 - 0.5).sqrt();
    file.noise_multiplier = noise_std / (file.clip_norm * file.scale);
    Ok(file)
}

fn number(key: &str, value: &Value) -> Result<f64, TaskError> {
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    number.ok_or_else(|| TaskError::Goal(format!("{key} must be a number; it is {value}")))
}

fn width(value: &Value) -> Result<RingBits, TaskError> {
    let bits = value.as_integer().and_then(|bits| u8::try_from(bits).ok()).and_then(|bits| RingBits::new(bits).ok());
    bits.ok_or_else(|| TaskError::Goal(format!("ring_bits must be a whole number from 8 to 64; it is {value}")))
}

#[cfg(test)]
mod tests {
    use super::super::{FORMAT, Task, TaskFile};
    use veilsum_crypto::plan::epsilon_of_rounds;

    fn text(goal: &str) -> String {
        format!(
            "format = \"{FORMAT}\"\nname = \"goal\"\nrounds = 12\ninvited = 64\nroster_min = 48\nroster_max = 64\n\
             dropout_tolerance = 0.25\nmodel_len = 1862\nlayout = \"{}\"\nclip_norm = 2.0\nwindows_ms = [500, 500, 500, 500, \
             500, 500, 500]\ngrace_ms = 100\nserver_rate = [1.0, 1.0]\n{goal}\n",
            "00".repeat(32)
        )
    }

    fn task(goal: &str) -> Task {
        Task::new(TaskFile::parse(&text(goal)).expect("a goal")).expect("feasible")
    }

    #[test]
    fn a_goal_becomes_numbers_that_keep_it_and_are_kept() {
        for (goal, bits) in [("epsilon = 4.0\ndelta = 1e-6", None), ("epsilon = 4\nring_bits = 16", Some(16))] {
            let task = task(goal);
            let epsilon = epsilon_of_rounds(&task.params, 12);
            assert!(epsilon <= 4.0 && epsilon > 3.99, "{epsilon}");
            assert_eq!(task.budget.epsilon, 4.0);
            assert!(bits.is_none_or(|bits| task.params.ring_bits.get() == bits), "{}", task.params.ring_bits.get());
            // The store keeps the numbers, and they are a task file with the same parameters.
            let again = Task::new(TaskFile::parse(&task.text).expect("a task file")).expect("feasible");
            assert_eq!((again.params, &again.text), (task.params, &task.text));
            assert!(!task.text.contains("\nepsilon") && task.text.contains("noise_multiplier"));
        }
        assert_eq!(task("epsilon = 4.0\ndelta = 1e-6").params.dp_delta, 1e-6);
        assert_eq!(task("epsilon = 3\nbudget_epsilon = 5").budget.epsilon, 5.0);
    }

    /// What follows from a query is filled in before the goal is resolved, and its scale is a whole number.
    #[test]
    fn a_query_may_have_a_goal() {
        let text = format!(
            "format = \"{FORMAT}\"\nname = \"ages\"\nrounds = 2\ninvited = 500\nroster_min = 500\nroster_max = 500\n\
             windows_ms = [500, 500, 500, 500, 500, 500, 500]\ngrace_ms = 100\nepsilon = 1.0\n\
             [query]\nkind = \"mean\"\nlo = 0\nhi = 120\n"
        );
        let task = Task::new(TaskFile::parse(&text).expect("a goal")).expect("feasible");
        assert!(task.query.is_some() && task.params.scale.fract() == 0.0);
        let epsilon = epsilon_of_rounds(&task.params, 2);
        assert!(epsilon <= 1.0 && epsilon > 0.99, "{epsilon}");
    }

    /// Every round of the goal fits its budget as ledgers add rounds up: one by one.
    #[test]
    fn the_last_round_of_the_goal_opens() {
        let task = task("epsilon = 4.0");
        let mut ledger = veilsum_crypto::privacy::Ledger::default();
        let charge = task.charge.clone().expect("noise");
        for counter in 0..12 {
            let key = (task.id.0, counter);
            ledger.reserve(key, charge.clone(), task.budget).unwrap_or_else(|error| panic!("round {counter}: {error}"));
            ledger.spend(key).expect("reserved");
        }
        assert!(ledger.can_open(&charge, task.budget).is_err(), "a thirteenth");
    }

    #[test]
    fn goals_that_are_none_or_cannot_be_kept_are_refused_with_what_could() {
        for (goal, words) in [
            ("epsilon = 4.0\nscale = 100.0", "scale follows from epsilon"),
            ("epsilon = 4.0\nnoise_multiplier = 1.0", "noise_multiplier follows from epsilon"),
            ("epsilon = 4.0\ndelta = 1e-5\ndp_delta = 1e-5", "leave out one"),
            ("epsilon = \"much\"", "epsilon must be a number"),
            ("epsilon = -1.0", "epsilon must be above 0"),
            ("epsilon = 4.0\ndelta = 2.0", "above 0 and below 1"),
            ("epsilon = 4.0\nbudget_epsilon = 3.0", "below the goal"),
            ("epsilon = 4.0\nring_bits = 8", "at least"),
            ("epsilon = 4.0\nring_bits = 99", "from 8 to 64"),
            ("epsilon = 0.0001", "raise epsilon or delta"),
            ("ring_bits = 16", "has epsilon; say it"),
            ("epsilon = 4.0\nsurprise = 1", "unknown field"),
        ] {
            let error = TaskFile::parse(&text(goal)).expect_err(goal).to_string();
            assert!(error.contains(words), "{goal}: {error}");
        }
    }
}
