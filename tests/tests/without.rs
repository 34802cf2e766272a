//! For each rule the attack that succeeds without it: `verification::without`.

use std::collections::BTreeSet;

use veilsum_crypto::server::{PhaseKind, StatementKind};
use veilsum_crypto::testing::{Play, small_params};
use verification::without::{self, Checks, WithoutRule, real};

/// Plays an attack three times.
#[track_caller]
fn plays(rule: u8, attack: &str) {
    let attack: WithoutRule = without::all()
        .into_iter()
        .find(|entry| (entry.rule, entry.attack) == (rule, attack))
        .unwrap_or_else(|| panic!("no attack {attack:?} on rule {rule}"));
    let seen = attack.run();
    assert!(attack.is_as_expected(&seen), "{} {:?}: {seen:#?}", attack.name(), attack.attack);
}

/// Every rule of the text has its attack, but R-27, which is reserved for a later suite, and R-36, which is the authority's to keep.
#[test]
fn every_rule_that_applies_has_an_attack_that_succeeds_without_it() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md")).expect("the text");
    let (_, appendix) = text.split_once("## Appendix A").expect("where each rule stands");
    let rules: BTreeSet<u8> = appendix
        .split("R-")
        .skip(1)
        .map(|rest| rest[..2].parse().expect("a number of two digits"))
        .filter(|rule| ![27, 36].contains(rule))
        .collect();
    let attacked: BTreeSet<u8> = without::all().iter().map(|attack| attack.rule).collect();
    assert_eq!(attacked, rules);
    let names: BTreeSet<&str> = without::all().iter().map(|attack| attack.attack).collect();
    assert_eq!(names.len(), without::all().len(), "each attack has a name of its own");
    let here = include_str!("without.rs");
    for attack in without::all() {
        let call = format!("plays({}, \"{}\");", attack.rule, attack.attack);
        assert_eq!(here.matches(&call).count(), 1, "{} {} has its test", attack.name(), attack.attack);
        assert!(!attack.with.is_empty() && !attack.without.is_empty(), "{} says what is expected", attack.name());
    }
}

/// An attack exchanges decisions of its own rule and of no other; where the rule is a second line, those it stands behind are out
/// in both plays.
#[test]
fn every_attack_takes_out_its_own_rule_and_nothing_else() {
    for attack in without::all() {
        let [with, without] = attack.checks();
        let of = |decision: &&str| decision[1..3].parse::<u8>().expect("a number of two digits");
        let taken_out: BTreeSet<u8> = with.changed(&without).iter().map(of).collect();
        assert_eq!(taken_out, BTreeSet::from([attack.rule]), "{} {}", attack.name(), attack.attack);
        let before: BTreeSet<u8> = Checks::all().changed(&with).iter().map(of).collect();
        assert_eq!(before, attack.behind.iter().copied().collect(), "{} {}", attack.name(), attack.attack);
    }
}

/// The model is no straw man: with all its checks it takes part in a round of real clients before a real aggregator.
#[test]
fn a_gullible_client_with_all_checks_takes_part_in_a_round_of_real_ones() {
    let mut mixed = real::Mixed::new(Play::new(small_params(12, 8)), [1, 4, 5, 9, 10, 11]);
    let clients = mixed.advertise();
    let clients = mixed.share(clients);
    let clients = mixed.acknowledge(clients);
    let clients = mixed.mask(clients);
    let clients = mixed.confirm(clients);
    let clients = mixed.unmask(clients);
    assert_eq!(mixed.play.aggregator.phase.kind(), PhaseKind::Published);
    assert!(mixed.play.aggregator.statements.contains_key(&StatementKind::Result));
    assert_eq!(real::named(&mixed.play), []);
    real::verify(&mixed.play, clients);
}

#[test]
fn r03_upload_masked_again_gives_a_difference_without_the_check() {
    plays(3, "the upload masked again");
}

#[test]
fn r10_two_views_give_a_sum_of_three_without_the_check() {
    plays(10, "the two views");
}

#[test]
fn r11_one_key_both_ways_recovers_an_input_without_the_check() {
    plays(11, "one key both ways");
}

#[test]
fn r12_index_zero_recovers_inputs_without_the_check() {
    plays(12, "the holder at index zero");
}

#[test]
fn r13_shares_off_their_points_name_the_honest_without_the_check() {
    plays(13, "the shares off their points");
}

#[test]
fn r16_forced_openings_recover_an_input_without_the_check() {
    plays(16, "the forced openings");
}

#[test]
fn r16_damaged_mail_recovers_an_input_without_the_check() {
    plays(16, "the damaged mail");
}

#[test]
fn r17_empty_mailbox_recovers_an_input_without_the_check() {
    plays(17, "the empty mailbox");
}

#[test]
fn r17_split_mailboxes_give_a_sum_of_three_without_the_check() {
    plays(17, "the split mailboxes");
}

#[test]
fn r17_silent_acknowledgers_stop_a_round_without_the_check() {
    plays(17, "the silent acknowledgers");
}

#[test]
fn r18_chosen_set_recovers_an_input_without_the_check() {
    plays(18, "the chosen set");
}

#[test]
fn r19_resent_upload_spoils_a_sum_without_the_check() {
    plays(19, "the re-sent upload");
}

#[test]
fn r22_lonely_core_recovers_an_input_without_the_check() {
    plays(22, "the lonely core");
}

#[test]
fn r23_two_survivor_roots_give_a_sum_of_two_without_the_check() {
    plays(23, "the two survivor roots, signed twice");
}

#[test]
fn r24_two_survivor_roots_give_a_sum_of_two_without_the_check() {
    plays(24, "the two survivor roots, unsigned");
}

#[test]
fn r31_seized_device_gives_an_input_without_the_check() {
    plays(31, "the seized device");
}

#[test]
fn r32_bare_coordinate_is_read_without_the_check() {
    plays(32, "the bare coordinate");
}

#[test]
fn r38_dealer_off_the_polynomial_stops_a_round_without_the_check() {
    plays(38, "the dealer off the polynomial");
}

#[test]
fn r04_served_threshold_recovers_an_input_without_the_check() {
    plays(4, "the served threshold");
}

#[test]
fn r05_liar_listed_twice_recovers_an_input_without_the_check() {
    plays(5, "the liar listed twice");
}

#[test]
fn r07_gathered_liars_recover_an_input_without_the_check() {
    plays(7, "the gathered liars");
}

#[test]
fn r08_ground_ring_recovers_an_input_without_the_check() {
    plays(8, "the ground ring");
}

#[test]
fn r01_answer_of_another_round_names_the_honest_without_the_check() {
    plays(1, "the answer of another round");
}

#[test]
fn r02_downgraded_header_recovers_an_input_without_the_check() {
    plays(2, "the downgraded header");
}

#[test]
fn r06_ghosts_recover_an_input_without_the_check() {
    plays(6, "the ghosts");
}

#[test]
fn r09_key_of_small_order_stops_a_round_without_the_check() {
    plays(9, "the key of small order");
}

#[test]
fn r14_noise_for_everybody_costs_more_than_is_charged_without_the_check() {
    plays(14, "the noise for everybody");
}

#[test]
fn r15_short_list_gives_a_sum_over_too_few_without_the_check() {
    plays(15, "the short list");
}

#[test]
fn r20_survivors_from_outside_give_a_sum_over_too_few_without_the_check() {
    plays(20, "the survivors from outside");
}

#[test]
fn r21_neighbours_that_all_dropped_give_an_input_without_the_check() {
    plays(21, "the neighbours that all dropped");
}

#[test]
fn r25_both_kinds_of_share_recover_an_input_without_the_check() {
    plays(25, "both kinds of share");
}

#[test]
fn r26_refunded_rounds_average_the_noise_away_without_the_check() {
    plays(26, "the refunded rounds");
}

#[test]
fn r28_forged_answer_names_the_honest_without_the_check() {
    plays(28, "the forged answer");
}

#[test]
fn r29_wrong_share_spoils_a_sum_without_the_check() {
    plays(29, "the wrong share");
}

#[test]
fn r30_second_roster_stops_a_round_without_the_check() {
    plays(30, "the second roster");
}

#[test]
fn r33_forked_log_hides_what_was_given_away_without_the_check() {
    plays(33, "the forked log");
}

#[test]
fn r34_owned_mean_is_one_clients_without_the_check() {
    plays(34, "the owned mean");
}

#[test]
fn r35_stranger_reads_who_takes_part_without_the_check() {
    plays(35, "the stranger who reads");
}

#[test]
fn r37_split_verdict_stops_a_round_without_the_check() {
    plays(37, "the split verdict");
}
