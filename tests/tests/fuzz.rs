//! The fuzz targets in CI: the corpus as it stands, then some thousand changed inputs a target. Long campaigns are run by
//! hand, docs/campaigns.md.

use verification::fuzz::campaign::{self, Crash};
use verification::fuzz::{TARGETS, Target, target};

/// Changed inputs of one target; a target with a portion of 1 in 100 gets a hundredth of 100 times as many.
const EXECUTIONS_A_PORTION: u64 = 1_500;

fn survives(name: &str) {
    let target: &Target = target(name).expect("a target of this name");
    let corpus = campaign::corpus(target).expect("the corpus can be read");
    assert!(corpus.len() > 1, "{name} starts from something");
    let executions = corpus.len() as u64 + EXECUTIONS_A_PORTION * target.portion;
    let tally =
        campaign::run(target, &corpus, executions, 7, |_| {}).unwrap_or_else(|Crash { input, message, .. }| {
            panic!("{name}: {message}\non input {}", hex::encode(input));
        });
    assert_eq!(tally.executions, executions);
}

macro_rules! survives {
    ($($test:ident $name:literal;)*) => {
        $(#[test] fn $test() { survives($name); })*

        /// No target is left out.
        #[test]
        fn every_target_is_run_here() {
            let here = [$($name),*];
            let missing: Vec<_> = TARGETS.iter().map(|target| target.name).filter(|name| !here.contains(name)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

survives! {
    messages_of_any_bytes_are_taken_or_refused "messages";
    parts_of_messages_of_any_bytes_are_taken_or_refused "parts";
    any_message_in_any_phase_is_judged "accept";
    any_round_of_forged_messages_closes "close";
    a_client_judges_whatever_it_is_shown "client";
    a_participant_comes_to_an_end_whatever_it_is_answered "participant";
    a_saved_state_of_other_contents_is_refused_or_works "saved-client";
    a_stored_phase_of_other_contents_is_refused_or_works "saved-server";
    a_journal_of_other_bytes_is_refused_or_read "journal";
    task_files_of_any_bytes_are_taken_or_refused "task";
    configurations_of_any_bytes_are_taken_or_refused "config";
    any_request_is_answered_as_documented "http";
}
