//! For each rule the attack that succeeds without it: `verification::without`.

use veilsum_crypto::server::{PhaseKind, StatementKind};
use veilsum_crypto::testing::{Play, small_params};
use verification::without::{self, WithoutRule, real};

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
