//! Survivors, confirmations, answers, result.

use std::collections::BTreeMap;

use veilsum_crypto::client::*;
use veilsum_crypto::ids::*;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::acknowledgement::shares_digest;
use veilsum_crypto::messages::answer;
use veilsum_crypto::messages::*;
use veilsum_crypto::primitives::agreement::{MaskingSecretKey, Point};
use veilsum_crypto::primitives::codec::DecodeError;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{Signed, Statement};
use veilsum_crypto::rules::{Rejection, ServerMisbehaved};
use veilsum_crypto::server::*;
use veilsum_crypto::testing::*;

use crate::stage::*;

fn others_than(play: &Play, not: &[ClientId]) -> Vec<ClientId> {
    let members = assembly(play).roster().members();
    members.iter().map(|(client, _)| *client).filter(|client| !not.contains(client)).collect()
}

/// a list of fewer than max(cohort_min, n - T) is a sum over fewer, with less noise than was promised.
#[test]
fn r15_too_few_survivors_stop_the_client() {
    let mut play = twelve();
    let mut clients = uploaded(&mut play);
    let (target, phase) = clients.pop_first().expect("twelve");
    let keep: Vec<_> = neighbours(&play, target).into_iter().chain([target]).collect();
    let gone = [others_than(&play, &keep), vec![keep[0]]].concat();
    let step = phase.confirm(&survivors_of(&play, all_but(&play, &gone)), &uploads(&play, target));
    assert_eq!(stopped(step), ServerMisbehaved::TooFewSurvivors { found: 8, needed: 9 });
}

/// a client outside the core, listed alive, counts with shares that are not in place; here it even signed an upload.
#[test]
fn r20_survivors_outside_the_core_stop_the_client() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let outside = lose(&mut clients, 1)[0];
    let clients = play.share(clients);
    let clients = play.acknowledge(clients);
    let mut clients = play.mask(clients);
    let target = neighbours(&play, outside)[0];
    let phase = clients.remove(&target).expect("it uploaded");
    let zeros = RingVector::zeros(8, play.world.facts.header.params.ring_bits);
    let core = core_in_force(&play).root();
    let chain = &play.world.facts.chain;
    let upload = MaskedInput::sign(&zeros, chain, core, outside, &member(&play, outside).identity);
    let mut shown = uploads(&play, target);
    shown.push(upload.upload().signed().encode());
    let step = phase.confirm(&survivors_of(&play, all_but(&play, &[])), &shown);
    assert_eq!(stopped(step), ServerMisbehaved::SurvivorsOutsideCore);
}

/// a list without the client, after it uploaded, is a sum from which its masks were taken away.
#[test]
fn r21_a_client_that_is_not_listed_stops() {
    let mut play = twelve();
    let mut clients = uploaded(&mut play);
    let (target, phase) = clients.pop_first().expect("twelve");
    let step = phase.confirm(&survivors_of(&play, all_but(&play, &[target])), &uploads(&play, target));
    assert_eq!(stopped(step), ServerMisbehaved::NotListed);
}

/// a list that declares a target's neighbours dropped recovers the target: all its pair masks are opened.
#[test]
fn r21_a_client_with_too_few_neighbours_alive_stops() {
    let mut play = thin();
    let mut clients = uploaded(&mut play);
    let (target, phase) = clients.pop_first().expect("twenty");
    let gone = neighbours(&play, target)[..3].to_vec();
    let list = all_but(&play, &gone);
    assert_eq!(list.count(), assembly(&play).params().survivors_min, "large enough");
    let step = phase.confirm(&survivors_of(&play, list), &uploads(&play, target));
    assert_eq!(stopped(step), ServerMisbehaved::NeighboursAlive { found: 3, needed: 4 });
}

/// a list over another core than the client's own.
#[test]
fn r21_a_list_over_another_core_stops_the_client() {
    let mut play = twelve();
    let mut clients = uploaded(&mut play);
    let (target, phase) = clients.pop_first().expect("twelve");
    let everybody = all_but(&play, &[]);
    let other = core_of(&play, all_but(&play, &[others_than(&play, &[target])[0]])).root();
    let list = Survivors::fix(everybody, Digest([7; 32]), &play.world.facts.chain, other);
    let step = phase.confirm(&play.world.signed(list.statement().clone()), &uploads(&play, target));
    assert_eq!(stopped(step), ServerMisbehaved::OutOfChain { statement: "survivor list" });
}

/// a neighbour listed alive that did not upload, or only under another core, or whose upload somebody else signed,
/// leaves a mask in the sum that the server knows how to use.
#[test]
fn r22_a_neighbour_listed_alive_without_its_own_upload_stops_the_client() {
    let mut play = twelve();
    let mut clients = uploaded(&mut play);
    for how in ["withheld", "of another core", "signed by the server"] {
        let (target, phase) = clients.pop_first().expect("twelve");
        let near = neighbours(&play, target)[2];
        let mut shown = uploads(&play, target);
        let at = shown
            .iter()
            .position(|body| Signed::decode(body, labels::UPLOAD).expect("signed").statement().sender == near.into())
            .expect("shown");
        let genuine = Signed::decode(&shown.remove(at), labels::UPLOAD).expect("signed").statement().clone();
        match how {
            "withheld" => {}
            "of another core" => {
                let elsewhere = Statement { previous: Digest([4; 32]), ..genuine };
                shown.push(elsewhere.sign(&member(&play, near).identity).encode());
            }
            _ => shown.push(genuine.sign(&play.world.aggregator).encode()),
        }
        let step = phase.confirm(&survivors_of(&play, all_but(&play, &[])), &shown);
        assert_eq!(stopped(step), ServerMisbehaved::UploadSignature { leaf: leaf(&play, near).0 }, "{how}");
    }
}

/// only the agreement set signs a list: nobody would check others, and the aggregator refuses them.
#[test]
fn r23_only_the_agreement_set_signs_a_list() {
    let mut play = twelve();
    let clients = uploaded(&mut play);
    let survivors = play.aggregator.served(&play.world, StatementKind::Survivors);
    for (id, phase) in clients {
        let step = phase.confirm(&survivors, &uploads(&play, id)).expect("an honest list");
        let (_, body) = play.world.turn(step);
        let agrees = assembly(&play).order().agrees(leaf(&play, id));
        assert_eq!(!body.is_empty(), agrees, "{id} signs the list, or is silent, against its place on the ring");
        if !agrees {
            let Phase::Confirming(confirming) = &play.aggregator.phase else { panic!("it waits for confirmations") };
            let root = confirming.survivors().root();
            let uncalled = Confirmation::sign(&play.world.facts.chain, root, id, &member(&play, id).identity).encode();
            let judged = play.aggregator.put(&play.world, id, &uncalled);
            assert_eq!(refused(judged), Rejection::NotInAgreementSet { client: id });
        }
    }
}

/// two survivor lists, one shown to each half. An honest client signs one, ever; not both gather t, so at
/// most one of them opens.
#[test]
fn r23_two_survivor_lists_do_not_both_open() {
    let mut play = twelve();
    let clients = uploaded(&mut play);
    let last = client_id(11);
    let lists = [all_but(&play, &[]), all_but(&play, &[last])].map(|members| survivors_of(&play, members));
    let (mut confirmations, mut waiting) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for (number, (id, phase)) in clients.into_iter().enumerate() {
        let half = if id == last { 0 } else { number % 2 };
        let step = phase.confirm(&lists[half], &uploads(&play, id)).expect("each list is plausible");
        let (disk, body) = play.world.written(step);
        // The journal holds one list; a client that comes back has signed, and cannot take another.
        let Ok(Resumed::ReadyToUnmask(phase, again)) = Resumed::open(&play.world.saving, &disk, member(&play, id))
        else {
            panic!("it came back to sign again");
        };
        assert_eq!(again, body);
        confirmations[half].push(body);
        waiting[half].push(phase);
    }
    let all: Vec<_> = confirmations.concat();
    let opens = waiting.map(|phases| phases.into_iter().any(|phase| phase.unmask(&all).is_ok()));
    assert!(!(opens[0] && opens[1]), "both lists open: the difference of two sums is one client's input");
}

/// t - 1 signatures, and what does not add up to t: repeated, over another root, in another's name, of clients that
/// are not of the agreement set, or not in the list.
#[test]
fn r24_an_answer_demands_t_distinct_signatures_on_the_very_root() {
    let mut play = twelve();
    let clients = uploaded(&mut play);
    let first = assembly(&play).order().agreement_set()[0];
    let dropped = client(&play, first);
    let list = survivors_of(&play, all_but(&play, &[dropped]));
    let statement = Signed::decode(&list, labels::SURVIVORS).expect("signed").statement().clone();
    let root = statement.root();
    let chain = play.world.facts.chain;
    let mut phases = Vec::new();
    for (id, phase) in clients.into_iter().filter(|(id, _)| *id != dropped) {
        let step = phase.confirm(&list, &uploads(&play, id)).expect("a plausible list");
        phases.push(play.world.turn(step).0);
    }
    let by = |id: ClientId, root| Confirmation::sign(&chain, root, id, &member(&play, id).identity).encode();
    let set: Vec<_> = assembly(&play).order().agreement_set().iter().map(|leaf| client(&play, *leaf)).collect();
    let stranger = others_than(&play, &set)[0];
    let four: Vec<_> = set[1..5].iter().map(|id| by(*id, root)).collect();
    let in_anothers_name =
        chain.from_client(set[5], root).statement(labels::CONFIRM, Vec::new()).sign(&play.world.aggregator).encode();
    let fifths = [
        ("none", Vec::new()),
        ("one of the four again", four[0].clone()),
        ("over another root", by(set[5], Digest([4; 32]))),
        ("in another's name", in_anothers_name),
        ("outside the agreement set", by(stranger, root)),
        ("of a client that is not in the list", by(dropped, root)),
    ];
    for (how, fifth) in fifths {
        let phase = phases.pop().expect("eleven");
        let shown = [&four[..], &[fifth]].concat();
        match phase.unmask(&shown) {
            Err(error) => assert_eq!(error, ServerMisbehaved::Confirmations { found: 4, needed: 5 }, "{how}"),
            Ok(_) => panic!("the client answered to four signatures and one {how}"),
        }
    }
    let shown = [&four[..], &[by(set[5], root)]].concat();
    assert!(phases.pop().expect("five").unmask(&shown).is_ok(), "five are t");
}

/// Clients after two of them dropped in masking, each with its answer, undelivered; and who dropped.
type Answered = (Vec<ClientId>, BTreeMap<ClientId, (AwaitingResult, Vec<u8>)>);

fn answered(play: &mut Play) -> Answered {
    let mut clients = acknowledged(play);
    let dropped = lose(&mut clients, 2);
    let clients = play.mask(clients);
    let clients = play.confirm(clients);
    let confirmations = play.aggregator.bodies(PhaseKind::Confirming);
    let answers = clients
        .into_iter()
        .map(|(id, phase)| (id, play.world.turn(phase.unmask(&confirmations).expect("they agree"))))
        .collect();
    (dropped, answers)
}

/// A client's neighbours in the core, in ring order: what its answer is about.
fn owners(play: &Play, id: ClientId) -> Vec<ClientId> {
    neighbours(play, id)
}

/// both secrets of one client open its input. An answer has one entry a neighbour: b of the living, s of the dropped,
/// and has no room for both.
#[test]
fn r25_an_answer_holds_one_kind_of_share_for_each_neighbour() {
    let mut play = twelve();
    let (dropped, answers) = answered(&mut play);
    let root = survivor_root(&play);
    for (id, (_, body)) in &answers {
        let owners = owners(&play, *id);
        let answer = Answer::decode(body, owners.len()).expect("as sent");
        for (owner, share) in owners.iter().zip(answer.shares()) {
            let edge = dealt(&play, *owner).edge_to(leaf(&play, *id)).expect("neighbours").clone();
            let point = Point::of(share.as_ref().expect("it holds it"));
            let (right, wrong) = if dropped.contains(owner) {
                (edge.masking_point, edge.self_mask_point)
            } else {
                (edge.self_mask_point, edge.masking_point)
            };
            assert_ne!(point, wrong, "{id} gave the other kind of share of {owner}");
            assert_eq!(point, right);
        }
        // Both kinds for one neighbour: the bytes are no answer.
        let shares = answer.shares().iter().chain(&answer.shares()[..1]).cloned().collect();
        let chain = &play.world.facts.chain;
        let both = Answer::sign(shares, chain, root, *id, &member(&play, *id).identity).encode();
        let judged = play.aggregator.put(&play.world, *id, &both);
        assert_eq!(refused(judged), Rejection::Decode(DecodeError::LeftOver(33)));
    }
}

fn survivor_root(play: &Play) -> Digest {
    let Phase::Unmasking(unmasking) = &play.aggregator.phase else { panic!("it waits for answers") };
    unmasking.survivors().root()
}

/// an answer that its sender did not sign names nobody and is refused.
#[test]
fn r28_an_answer_that_is_not_signed_by_its_sender_is_refused() {
    let mut play = twelve();
    let (_, answers) = answered(&mut play);
    let (id, (_, body)) = answers.first_key_value().expect("ten");
    let statement = Signed::decode(body, labels::ANSWER).expect("signed").statement().clone();
    let expected = answer::place(&play.world.facts.chain, survivor_root(&play), *id);
    assert!(statement.stands_at(&expected));
    let forged = statement.sign(&play.world.aggregator).encode();
    let judged = play.aggregator.put(&play.world, *id, &forged);
    assert_eq!(refused(judged), Rejection::BadSignature { client: *id });
}

/// giving up is a slot of the journal: nothing is sent, and the counter is used up for good.
#[test]
fn r28_a_client_that_gives_up_sends_nothing_and_never_comes_back_to_the_round() {
    let play = twelve();
    let header = play.world.header();
    let again =
        |enrolled: Enrolled| enrolled.advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng());
    let (disk, _) = play.world.written(again(play.world.enrolled(0)).expect("an honest header"));
    let resumed = Resumed::open(&play.world.saving, &disk, &play.world.members[0]).expect("as written");
    let (disk, sent) = play.world.written(resumed.give_up());
    assert_eq!(sent, [0; 0], "an abort was sent: it tells a server whom to press");
    let Ok(Resumed::Enrolled(enrolled)) = Resumed::open(&play.world.saving, &disk, &play.world.members[0]) else {
        panic!("it is between rounds");
    };
    assert_eq!(stopped(again(enrolled)), ServerMisbehaved::Counter { last: 1, found: 1 });
}

/// one wrong share must not end the round nor name anybody honest: the liar is named, the sum is exact.
#[test]
fn r29_a_wrong_share_names_its_holder_alone_and_the_sum_is_exact() {
    let mut play = twelve();
    let (dropped, mut answers) = answered(&mut play);
    let (liar, honest_body) = answers.first_key_value().map(|(id, (_, body))| (*id, body.clone())).expect("ten");
    assert!(leaf(&play, liar).0 <= 2, "its shares are among the first t");
    let owners = owners(&play, liar);
    let answer = Answer::decode(&honest_body, owners.len()).expect("as sent");
    let (chain, root) = (play.world.facts.chain, survivor_root(&play));
    // One wrong b of a living neighbour, and one wrong s of a dropped one where it has such a neighbour.
    let mut shares = answer.shares().to_vec();
    for wanted in [true, false] {
        if let Some(at) = owners.iter().position(|owner| dropped.contains(owner) == wanted) {
            shares[at] = Some(MaskingSecretKey::generate(&mut os_rng()).to_scalar());
        }
    }
    let lie = Answer::sign(shares, &chain, root, liar, &member(&play, liar).identity).encode();
    answers.get_mut(&liar).expect("ten").1 = lie.clone();
    for (id, (_, body)) in &answers {
        let id = *id;
        let body = body.clone();
        play.put(id, &body);
    }
    play.aggregator.close(&play.world);
    verify(&play, answers.into_iter().map(|(id, (phase, _))| (id, phase)).collect());
    assert_eq!(named(&play), [(liar, 29)]);
    let Evidence::Answer { answer, acknowledgement, roots, .. } = evidence(&play, liar) else {
        panic!("another kind of evidence");
    };
    assert_eq!(answer, lie);
    let acknowledged = Acknowledgement::decode(&acknowledgement, owners.len() as u32).expect("as admitted");
    assert_eq!(shares_digest(roots), acknowledged.shares(), "over which share messages it was made");
}

/// §5.8: a result of other survivors, or a sum that is not the one signed, is not believed.
#[test]
fn r20_a_result_that_does_not_belong_to_the_list_stops_the_client() {
    let mut play = twelve();
    let clients = uploaded(&mut play);
    let clients = play.confirm(clients);
    let mut clients = play.unmask(clients);
    let honest = play.aggregator.served(&play.world, StatementKind::Result);
    let (chain, bits) = (play.world.facts.chain, play.world.facts.header.params.ring_bits);
    let (bytes, _) = &play.aggregator.statements[&StatementKind::Result];
    let root = Statement::decode(bytes, labels::RESULT).expect("as fixed").previous;
    let zeros = RingVector::zeros(8, bits);
    let (fewer, packed) = RoundResult::released(&zeros, 11, &chain, root);
    let fewer = [play.world.signed(fewer.statement().clone()), packed].concat();
    let (_, phase) = clients.pop_first().expect("twelve");
    assert_eq!(stopped(phase.verify(&fewer)), ServerMisbehaved::Result("it counts other clients"));
    // Outcome 2, "not opened", with the digest of a sum that somebody else may have been shown.
    let mut secretly = RoundResult::not_opened(12, &chain, root).statement().clone();
    secretly.body[4] = 1;
    let (_, phase) = clients.pop_first().expect("twelve");
    let expected = DecodeError::NotCanonical { field: "sum digest", expected: "zeros where there is no sum" };
    assert_eq!(stopped(phase.verify(&play.world.signed(secretly))), ServerMisbehaved::Decode(expected));
    let mut other = honest;
    *other.last_mut().expect("a sum") ^= 1;
    let (_, phase) = clients.pop_first().expect("eleven");
    assert_eq!(stopped(phase.verify(&other)), ServerMisbehaved::Result("the sum is not the one that was signed"));
}
