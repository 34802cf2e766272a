//! D, continued: clients that complain falsely, or say nothing.

use veilsum_crypto::ids::Digest;
use veilsum_crypto::messages::{Acknowledgement, EdgeReport};
use veilsum_crypto::server::PhaseKind;

use super::d_dealers::{all_see, among_others};
use super::{Scale, Seen, gained_without};
use crate::hostile::edge_hash;
use crate::world::{Fate, Moment, Shape, World};

/// The liar complains about the edge of its first neighbour, which is good, or which it never was sent.
async fn complains_falsely(is_of_a_real_edge: bool) {
    let (world, mut liar, others, view) = among_others(Shape::of(6)).await;
    let (round, client) = (liar.hand.round, liar.hand.client());
    let message = liar.deal(&view, |_| {});
    liar.hand.put("share", &message).await.is_admitted();
    let view = world.reached(round, PhaseKind::Acknowledging).await;
    let assembly = view.phase.assembly().expect("a roster");
    let victim = assembly.roster().client(liar.neighbours(&view)[0]);
    let number = world.clients.iter().position(|enrolled| enrolled.id == victim).expect("one of ours");
    let line = others[number - 1].line.clone();
    let edge = if is_of_a_real_edge { edge_hash(&line.sent("share")[0], &view, client) } else { Digest([7; 32]) };
    let mut reports = vec![EdgeReport::Good; assembly.params().degree as usize];
    reports[0] = EdgeReport::Complaint { edge };
    liar.hand.put("acknowledge", &liar.acknowledgement_of(&world, &view, reports).await).await.is_admitted();
    let view = world.reached(round, PhaseKind::Masking).await;
    if is_of_a_real_edge {
        assert_eq!(line.sent("open").len(), 1, "the honest dealer opens the edge in public");
        // Once the core is fixed nothing is opened any more, and nobody complains.
        let late = liar.hand.put("acknowledge", b"late").await;
        late.is(409, Some(3));
        let (input, values) = liar.mask(&view);
        world.noised.lock().expect("no panic").insert(client, values);
        liar.hand.put("mask", &input).await.is_admitted();
    }
    all_see(&world, others, usize::from(!is_of_a_real_edge)..6).await;
    assert_eq!(world.named(round).await, [], "a dealer can have made a holder say so: nobody is named");
}

/// D04. A client complains about a good ciphertext, so that its dealer be named or dropped.
pub async fn d04_framing(scale: Scale) -> Seen {
    let rounds = scale.times(4);
    for batch in 0..rounds.div_ceil(2) {
        let _ = batch;
        tokio::join!(complains_falsely(true), complains_falsely(true));
    }
    Seen::new(format!(
        "{rounds} complaints about good edges: the honest dealer opened each in public, stayed in the core and was counted; framed: 0. \
         (Many more, at random: the blame campaign, tests/README.md)"
    ))
    .count("rounds", rounds)
    .count("framed", 0)
}

/// D21. False complaints: about a good edge, about one never sent, about too many, after the core.
pub async fn d21_false_complaint(_: Scale) -> Seen {
    tokio::join!(complains_falsely(true), complains_falsely(false));
    // Too many: the acknowledgement is invalid, and kept against its sender.
    let (world, mut liar, others, view) = among_others(Shape::of(6)).await;
    let (round, client) = (liar.hand.round, liar.hand.client());
    let message = liar.deal(&view, |_| {});
    liar.hand.put("share", &message).await.is_admitted();
    let view = world.reached(round, PhaseKind::Acknowledging).await;
    let params = *view.phase.assembly().expect("a roster").params();
    let mut reports = vec![EdgeReport::Good; params.degree as usize];
    reports[..=params.openings_max() as usize].fill(EdgeReport::Complaint { edge: Digest([7; 32]) });
    let many = liar.acknowledgement_of(&world, &view, reports).await;
    liar.hand.put("acknowledge", &many).await.is(422, Some(16));
    let said = Acknowledgement::decode(&many, params.degree).expect("in form");
    assert_eq!(said.complaints(), params.openings_max() + 1);
    all_see(&world, others, 1..6).await;
    assert_eq!(world.named(round).await, [(client, 16)], "who signs too many is named by its own signature");
    Seen::new(format!(
        "a complaint about a good edge was settled by its opening, the dealer counted; one about an edge never sent left its holder out; \
         {} complaints made the acknowledgement invalid (R-16) and its sender named; after the core was fixed none was taken; every sum \
         exact, nobody honest named",
        params.openings_max() + 1
    ))
    .count("honest clients named", 0)
}

/// Some clients of twelve deal and then say nothing more.
async fn silent(count: usize) {
    let world = World::new(Shape::of(12)).await;
    let round = world.round(1).await;
    let fate = Fate { phase: "acknowledge", moment: Moment::BeforeSending };
    let losses: Vec<(usize, Fate)> = (0..count).map(|number| (number * 5 % 12, fate)).collect();
    let endings = world.play(&losses).await;
    let silent: Vec<usize> = losses.iter().map(|(number, _)| *number).collect();
    let speaking = (0..12).filter(|number| !silent.contains(number));
    for number in speaking.clone() {
        assert!(endings[number].verified().is_some(), "{:?}", endings[number]);
    }
    let view = world.over(round).await;
    assert_eq!(view.phase.kind(), PhaseKind::Published);
    world.is_exact_sum_of(round, &world.ids(speaking)).await;
    assert_eq!(world.named(round).await, [], "silence names nobody");
}

/// D19. 1 to T clients deal but never acknowledge.
pub async fn d19_silent_acknowledgers(_: Scale) -> Seen {
    tokio::join!(silent(1), silent(2), silent(3));
    let gained = gained_without(17, "the silent acknowledgers");
    Seen::new(format!(
        "1, 2 and T = 3 of 12 clients silent after dealing: the core was the others, their sum exact, nobody named. Without the rule: \
         {gained}"
    ))
    .count("rounds", 3)
}
