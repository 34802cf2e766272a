//! Shares, acknowledgements, openings, and the core as the aggregator fixes it.

use std::collections::BTreeMap;

use veilsum_crypto::client::*;
use veilsum_crypto::ids::*;
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::math::shamir::{ShareScalar, is_low_degree_vartime};
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{self, *};
use veilsum_crypto::primitives::agreement::*;
use veilsum_crypto::primitives::codec::DecodeError;
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Signed;
use veilsum_crypto::rules::{Rejection, ServerMisbehaved};
use veilsum_crypto::server::*;
use veilsum_crypto::testing::*;

use crate::stage::*;

fn random_share() -> ShareScalar {
    MaskingSecretKey::generate(&mut os_rng()).to_scalar()
}

/// clients with different views of header, roster, core or of each other hold masks that never cancel, so split
/// mailboxes and split cores sum to nothing.
#[test]
fn r10_masks_of_clients_with_different_views_do_not_cancel() {
    let (alice, bob) = (MaskingSecretKey::generate(&mut os_rng()), MaskingSecretKey::generate(&mut os_rng()));
    let view = |header, roster, core| CoreContext {
        roster: RosterContext { header: Digest([header; 32]), roster: Digest([roster; 32]) },
        core: Digest([core; 32]),
    };
    let left_over = |theirs: CoreContext, bobs_name: u32| {
        let mut sum = RingVector::zeros(4, RingBits::MAX);
        sum.add_mask(alice.pair_mask_key(client_id(1), (client_id(2), &bob.public()), &view(1, 2, 3)));
        sum.sub_mask(bob.pair_mask_key(client_id(bobs_name), (client_id(1), &alice.public()), &theirs));
        sum.to_signed()
    };
    assert_eq!(left_over(view(1, 2, 3), 2), [0; 4], "one view: the masks cancel");
    assert_ne!(left_over(view(9, 2, 3), 2), [0; 4], "another header, and they cancel");
    assert_ne!(left_over(view(1, 9, 3), 2), [0; 4], "another roster, and they cancel");
    assert_ne!(left_over(view(1, 2, 9), 2), [0; 4], "another core, and they cancel");
    assert_ne!(left_over(view(1, 2, 3), 9), [0; 4], "another name, and they cancel");
}

/// a share at index 0 would be the secret; the owner holds none; the degree is t - 1 exactly.
#[test]
fn r12_no_holder_is_dealt_the_secret_and_fewer_than_t_do_not_have_it() {
    let mut play = twelve();
    for (dealer, phase) in play.advertise() {
        let (me, keys) = assembly(&play).find(dealer).expect("on the roster");
        let message = SealedShares::decode(&play.deal(phase).1, assembly(&play).params().degree).expect("as sent");
        for edge in message.edges() {
            assert_ne!(edge.holder, me, "a dealer holds a share of its own secret");
            assert_ne!(edge.masking_point, keys.masking.0, "the share of {:?} is the secret", edge.holder);
            assert_ne!(edge.self_mask_point, keys.self_mask.0, "the share of {:?} is the secret", edge.holder);
        }
        let points: Vec<_> = message
            .edges()
            .iter()
            .map(|edge| (edge.holder, [edge.masking_point.point(), edge.self_mask_point.point()]))
            .collect();
        let on_degree = |threshold| {
            let coefficients = message.low_degree_coefficients(threshold);
            is_low_degree_vartime([keys.masking.0.point(), keys.self_mask.0.point()], &points, &coefficients)
        };
        let threshold = assembly(&play).params().threshold;
        assert!(on_degree(threshold));
        assert!(!on_degree(threshold - 1), "t - 1 shares rebuild the secret");
    }
}

/// a scalar has one encoding, below the group order.
#[test]
fn r12_a_share_that_is_not_reduced_is_refused() {
    let (mut play, liar, victim) = garbled_edge();
    let honest = liar.opening(&play, victim, liar.pair(victim));
    let mut statement = Signed::decode(&honest, labels::OPENING).expect("signed").statement().clone();
    statement.body[6..38].fill(0xff);
    let raised = statement.sign(liar.identity()).encode();
    let expected = DecodeError::NotCanonical { field: "opening", expected: "scalars below the group order" };
    assert_eq!(refused(play.aggregator.put(&play.world, liar.client(), &raised)), Rejection::Decode(expected));
    play.put(liar.client(), &honest);
}

/// edges that the dealer did not sign, or for others than its neighbours in ring order.
#[test]
fn r13_edges_that_are_not_those_signed_are_refused() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let (dealer, phase) = clients.pop_first().expect("twelve");
    let (_, honest) = play.deal(phase);
    let mut altered = honest.clone();
    let at = altered.len() - 100; // in the ciphertext of the last edge
    altered[at] ^= 1;
    let on_the_way = refused(play.aggregator.put(&play.world, dealer, &altered));
    assert_eq!(on_the_way, Rejection::EdgesRoot);
    assert!(!on_the_way.is_proved_by_message(), "anybody on the way could have altered them: nobody is named");

    let degree = assembly(&play).params().degree;
    let mut edges = SealedShares::decode(&honest, degree).expect("as sent").edges().to_vec();
    let mut readdressed = honest.clone();
    readdressed[214..218].copy_from_slice(&edges[1].holder.0.to_le_bytes());
    let on_the_way = refused(play.aggregator.put(&play.world, dealer, &readdressed));
    assert!(!on_the_way.is_proved_by_message(), "a holder altered on the way names nobody either: {on_the_way}");
    edges.swap(0, 1);
    let (chain, root) = (&play.world.facts.chain, assembly(&play).root());
    let swapped = SealedShares::sign(edges, chain, root, dealer, &member(&play, dealer).identity).encode();
    let judged = play.aggregator.put(&play.world, dealer, &swapped);
    let signed_wrong = refused(judged);
    assert_eq!(signed_wrong, Rejection::Edges { expected: degree });
    assert!(signed_wrong.is_proved_by_message(), "these edges the dealer did sign");
    assert_eq!(play.aggregator.put(&play.world, dealer, &honest), Ok(()));
}

/// an honest server keeps one message of a dealer; two pieces of its mail, both genuine, come from a lying one.
#[test]
fn r13_mail_that_comes_twice_stops_the_client() {
    let mut play = twelve();
    let clients = play.advertise();
    let mut clients = play.share(clients);
    let (target, phase) = clients.pop_first().expect("twelve");
    let mut mail = play.aggregator.mail[&target].clone();
    mail.push(mail[0].clone());
    assert_eq!(stopped(phase.acknowledge(&mail)), ServerMisbehaved::Mailbox);
}

/// points that match their shares and are signed, but lie on no polynomial of degree t - 1: every subset of t
/// holders rebuilds another secret, and the sum cannot be opened.
#[test]
fn r38_a_dealer_off_the_polynomial_is_refused_by_name() {
    let mut play = twelve();
    let mut liar = Liar::new(&play.world, 5);
    let advert = liar.advert(&play.world);
    advertise_with(&mut play, &[(liar.client(), advert)]);
    let off = |dealt: &mut Dealt, kind: usize| {
        let (share, point) = match kind {
            0 => (&mut dealt.pair.masking, &mut dealt.masking_point),
            _ => (&mut dealt.pair.self_mask, &mut dealt.self_mask_point),
        };
        *share = random_share();
        *point = Point::of(share);
    };
    for kind in [0, 1] {
        let mut bent = false;
        let message = liar.deal(&play, |dealt| {
            if !core::mem::replace(&mut bent, true) {
                off(dealt, kind);
            }
        });
        let found = refused(play.aggregator.put(&play.world, liar.client(), &message));
        assert_eq!(found, Rejection::NotLowDegree);
        assert!(found.is_proved_by_message(), "it is kept as evidence");
    }
    // A polynomial of the right degree that does not pass through the advertised key.
    let mut other = Liar::new(&play.world, 5);
    let message = other.deal(&play, |_| {});
    assert_eq!(refused(play.aggregator.put(&play.world, liar.client(), &message)), Rejection::NotLowDegree);
    let message = liar.deal(&play, |_| {});
    assert_eq!(play.aggregator.put(&play.world, liar.client(), &message), Ok(()));
}

/// the server damages mail of honest dealers. If that were a complaint, t of them would open both secrets.
#[test]
fn r16_damaged_or_withheld_mail_is_missing_and_never_a_complaint() {
    let mut play = twelve();
    let clients = play.advertise();
    let mut clients = play.share(clients);
    let (target, phase) = clients.pop_first().expect("twelve");
    let degree = assembly(&play).params().degree;
    let mut mail = play.aggregator.mail[&target].clone();
    let signature = mail[0].len() - 2 - 32 * 3 - 148 - 64; // position, path of three, edge, signature
    mail[0][signature] ^= 1;
    let ciphertext = mail[1].len() - 2 - 32 * 3 - 148 + 4;
    mail[1][ciphertext] ^= 1;
    let path = mail[2].len() - 1;
    mail[2][path] ^= 1;
    mail.remove(3);
    let (_, body) = play.world.turn(phase.acknowledge(&mail).expect("damage is no reason to stop"));
    let sent = Acknowledgement::decode(&body, degree).expect("as sent");
    assert_eq!(sent.complaints(), 0, "damage by the server became a complaint against honest dealers");
    let missing = sent.reports().iter().filter(|report| **report == EdgeReport::Missing).count();
    assert_eq!(missing, 4);
}

/// the server holds every genuine edge. It complains in honest names, and asks a dealer to open: with t openings it
/// would rebuild both secrets. The dealer opens to a neighbour's own whole signed complaint about that very edge alone.
#[test]
fn r16_forced_openings_in_honest_names_open_nothing() {
    let mut play = twelve();
    let clients = play.advertise();
    let mut clients = play.share(clients);
    let (dealer, phase) = clients.pop_first().expect("twelve");
    let mail = play.aggregator.mail[&dealer].clone();
    let (ready, _) = play.world.turn(phase.acknowledge(&mail).expect("honest mail"));

    let holders = neighbours(&play, dealer);
    let holder = holders[0];
    let true_edge = edge_hash(&play, dealer, holder);
    let about = |edge| move |of| if of == dealer { EdgeReport::Complaint { edge } } else { EdgeReport::Good };
    let genuine = acknowledgement(&play, holder, about(true_edge));
    let statement = Signed::decode(&genuine, labels::ACKNOWLEDGEMENT).expect("signed").statement().clone();
    let chain = &play.world.facts.chain;
    let key = &member(&play, holder).identity;
    let decoded = Acknowledgement::decode(&genuine, 8).expect("signed");
    let (reports, shares) = (decoded.reports().to_vec(), decoded.shares());
    let stranger = (0..12).map(client_id).find(|id| *id != dealer && !holders.contains(id)).expect("k < n - 1");
    let forged = [
        ("signed by the server in the holder's name", statement.clone().sign(&play.world.aggregator).encode()),
        ("without a complaint", acknowledgement(&play, holder, |_| EdgeReport::Good)),
        ("about another edge", acknowledgement(&play, holder, about(edge_hash(&play, dealer, holders[1])))),
        (
            "over another roster",
            Acknowledgement::sign(shares, reports.clone(), chain, Digest([4; 32]), holder, key).encode(),
        ),
        (
            "of another round",
            Acknowledgement::sign(
                shares,
                reports,
                &Chain { context: Digest([4; 32]), ..*chain },
                assembly(&play).root(),
                holder,
                key,
            )
            .encode(),
        ),
        ("of no neighbour", acknowledgement(&play, stranger, |_| EdgeReport::Complaint { edge: true_edge })),
        (
            "with more complaints than an honest holder has",
            acknowledgement(&play, holder, |_| EdgeReport::Complaint { edge: true_edge }),
        ),
        ("an entry alone", genuine[..genuine.len() - 1].to_vec()),
    ];
    let mut ready = ready;
    for (how, complaint) in forged {
        ready = match ready.open(&[complaint]).expect("it is ignored") {
            Opened::Nothing(ready) => ready,
            Opened::Opening(_) => panic!("the dealer opened to a complaint {how}"),
        };
    }
    // A corrupt neighbour's genuine complaint: one edge is opened, to it, once.
    let Opened::Opening(turn) = ready.open(core::slice::from_ref(&genuine)).expect("one is allowed") else {
        panic!("a genuine complaint is answered");
    };
    let (ready, body) = play.world.turn(turn);
    let opening = messages::Opening::decode(&body, 8).expect("as sent");
    assert_eq!(opening.edges().keys().copied().collect::<Vec<_>>(), [leaf(&play, holder)]);
    assert!(
        matches!(ready.open(&[genuine]), Ok(Opened::Nothing(_))),
        "the slot is written; there is no second opening"
    );
}

/// more complaints than there can be corrupt neighbours, each of them genuine: the dealer opens none, and stops.
#[test]
fn r16_a_dealer_asked_for_more_than_2t_k_1_edges_opens_none() {
    let mut play = twelve();
    let clients = play.advertise();
    let mut clients = play.share(clients);
    let (dealer, phase) = clients.pop_first().expect("twelve");
    let mail = play.aggregator.mail[&dealer].clone();
    let (ready, _) = play.world.turn(phase.acknowledge(&mail).expect("honest mail"));
    let complaints: Vec<_> = neighbours(&play, dealer)[..2]
        .iter()
        .map(|holder| {
            let edge = edge_hash(&play, dealer, *holder);
            acknowledgement(&play, *holder, |of| {
                if of == dealer { EdgeReport::Complaint { edge } } else { EdgeReport::Good }
            })
        })
        .collect();
    assert_eq!(stopped(ready.open(&complaints)), ServerMisbehaved::TooManyBadEdges { found: 2, allowed: 1 });
}

/// an acknowledgement that complains about everybody is invalid; so is one about mail that was never served.
#[test]
fn r16_a_holder_with_too_many_complaints_is_refused() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let silent = lose(&mut clients, 1)[0];
    play.share(clients);
    let holder = *neighbours(&play, silent).first().expect("it has neighbours");
    let edge = Digest([4; 32]);
    let put = |play: &mut Play, body: Vec<u8>| refused(play.aggregator.put(&play.world, holder, &body));
    let many =
        acknowledgement(
            &play,
            holder,
            |of| if of == silent { EdgeReport::Missing } else { EdgeReport::Complaint { edge } },
        );
    assert_eq!(put(&mut play, many), Rejection::TooManyComplaints { allowed: 1, found: 7 });
    let on_nothing = acknowledgement(&play, holder, |_| EdgeReport::Good);
    assert_eq!(put(&mut play, on_nothing), Rejection::ReportOnNothing);
    let in_silence = acknowledgement(&play, silent, |_| EdgeReport::Missing);
    let judged = play.aggregator.put(&play.world, silent, &in_silence);
    assert_eq!(refused(judged), Rejection::DidNotDeal { client: silent });
}

/// A round in which client 5 dealt garbled mail to its first neighbour, who complained; the liar's opening is awaited.
/// Returns the liar and the complainer's leaf.
fn garbled_edge() -> (Play, Liar, LeafIndex) {
    let (play, liar, victim, _) = garbled_edge_with_clients();
    (play, liar, victim)
}

fn garbled_edge_with_clients() -> (Play, Liar, LeafIndex, BTreeMap<ClientId, ReadyToMask>) {
    let mut play = twelve();
    let mut liar = Liar::new(&play.world, 5);
    let advert = liar.advert(&play.world);
    let clients = advertise_with(&mut play, &[(liar.client(), advert)]);
    let victim = leaf(&play, neighbours(&play, liar.client())[0]);
    let message = liar.deal(&play, |dealt| dealt.garbled = dealt.holder == victim);
    play.put(liar.client(), &message);
    let clients = play.share(clients);
    let acknowledgement = liar.acknowledgement(&play);
    play.put(liar.client(), &acknowledgement);
    let clients = play.acknowledge(clients);
    assert_eq!(play.aggregator.phase.kind(), PhaseKind::Opening, "one complaint was made");
    assert!(clients[&client(&play, victim)].has_complained());
    (play, liar, victim, clients)
}

/// a right opening settles the edge: the dealer is in, nobody is named, and the opened share counts.
#[test]
fn r16_a_right_opening_settles_a_bad_edge() {
    let (mut play, liar, victim, mut clients) = garbled_edge_with_clients();
    let opening = liar.opening(&play, victim, liar.pair(victim));
    play.put(liar.client(), &opening);
    play.aggregator.close(&play.world);
    assert!(core_in_force(&play).members().has(leaf(&play, liar.client())));
    let complainer = client(&play, victim);
    clients.get_mut(&complainer).expect("in the round").take_openings(&[opening]);
    // The liar vanishes: its masking key is rebuilt by its neighbours, the complainer's opened share among theirs.
    finish(&mut play, clients);
    assert_eq!(named(&play), []);
}

/// a wrong signed opening names the dealer and drops it.
#[test]
fn r16_a_wrong_opening_names_the_dealer() {
    let (mut play, liar, victim, clients) = garbled_edge_with_clients();
    let SharePair { masking, .. } = liar.pair(victim);
    let wrong = liar.opening(&play, victim, SharePair { masking, self_mask: random_share() });
    play.put(liar.client(), &wrong);
    play.aggregator.close(&play.world);
    assert!(!core_in_force(&play).members().has(leaf(&play, liar.client())));
    finish(&mut play, clients);
    assert_eq!(named(&play), [(liar.client(), 16)]);
}

/// an opening that does not come drops the dealer unnamed: the server could have withheld it.
#[test]
fn r16_an_absent_opening_drops_the_dealer_unnamed() {
    let (mut play, liar, _, clients) = garbled_edge_with_clients();
    play.aggregator.close(&play.world);
    assert!(!core_in_force(&play).members().has(leaf(&play, liar.client())));
    finish(&mut play, clients);
    assert_eq!(named(&play), []);
}

/// who dealt badly to more holders than can be corrupt would give its own secrets away; the aggregator keeps no such
/// opening, and the dealer is out.
#[test]
fn r16_openings_to_more_holders_than_can_be_corrupt_are_refused() {
    let mut play = twelve();
    let mut liar = Liar::new(&play.world, 5);
    let advert = liar.advert(&play.world);
    let clients = advertise_with(&mut play, &[(liar.client(), advert)]);
    let victims = [0, 1].map(|at| leaf(&play, neighbours(&play, liar.client())[at]));
    let message = liar.deal(&play, |dealt| dealt.garbled = victims.contains(&dealt.holder));
    play.put(liar.client(), &message);
    let clients = play.share(clients);
    let acknowledgement = liar.acknowledgement(&play);
    play.put(liar.client(), &acknowledgement);
    let clients = play.acknowledge(clients);
    let edges = victims.map(|victim| (victim, liar.pair(victim))).into();
    let (chain, root) = (&play.world.facts.chain, assembly(&play).root());
    let both = messages::Opening::sign(edges, chain, root, liar.client(), liar.identity()).encode();
    let judged = play.aggregator.put(&play.world, liar.client(), &both);
    assert_eq!(refused(judged), Rejection::TooManyOpenings { allowed: 1, found: 2 });
    play.aggregator.close(&play.world);
    assert!(!core_in_force(&play).members().has(leaf(&play, liar.client())));
    finish(&mut play, clients);
}

/// whom nobody complained about has nothing to open, and nobody opens another edge.
#[test]
fn r16_an_opening_nobody_asked_for_is_refused() {
    let (mut play, liar, victim, _) = garbled_edge_with_clients();
    let other = neighbours(&play, liar.client())[1];
    let elsewhere = liar.opening(&play, leaf(&play, other), liar.pair(victim));
    let judged = play.aggregator.put(&play.world, liar.client(), &elsewhere);
    assert_eq!(refused(judged), Rejection::NothingToOpen { client: liar.client() });
    let judged = play.aggregator.put(&play.world, other, &elsewhere);
    assert_eq!(refused(judged), Rejection::NothingToOpen { client: other });
}

/// a complaint about an edge that its dealer never sent is false: the accused is not asked, the holder is outside.
/// It is not named: its dealer may have signed two share messages, and somebody on the way swapped them.
#[test]
fn r16_a_false_complaint_puts_its_holder_outside_unnamed() {
    let mut play = twelve();
    let clients = play.advertise();
    let mut clients = play.share(clients);
    let (liar, _) = clients.pop_first().expect("twelve");
    let accused = neighbours(&play, liar)[0];
    let edge = Digest([4; 32]);
    let about = |of| if of == accused { EdgeReport::Complaint { edge } } else { EdgeReport::Good };
    let lie = acknowledgement(&play, liar, about);
    play.put(liar, &lie);
    let clients = play.acknowledge(clients);
    assert_eq!(play.aggregator.phase.kind(), PhaseKind::Masking, "the accused need not open what it never sent");
    assert_eq!(core_in_force(&play).members(), &all_but(&play, &[liar]));
    finish(&mut play, clients);
    assert_eq!(named(&play), []);
}

/// a dealer signs two share messages. Who was served the one that was not admitted would answer from it, and be
/// named for wrong shares; its acknowledgement says which it saw, and it is outside, unnamed.
#[test]
fn r17_a_report_on_another_share_message_puts_the_holder_outside_unnamed() {
    let mut play = twelve();
    let mut liar = Liar::new(&play.world, 5);
    let advert = liar.advert(&play.world);
    let clients = advertise_with(&mut play, &[(liar.client(), advert)]);
    let victim = neighbours(&play, liar.client())[0];
    let other = liar.deal(&play, |_| {}); // other polynomials through the same keys
    let admitted = liar.deal(&play, |_| {});
    play.put(liar.client(), &admitted);
    let clients = play.share(clients);
    let (liars_leaf, victims_leaf) = (leaf(&play, liar.client()), leaf(&play, victim));
    let other = SealedShares::decode(&other, 8).expect("in form").mail(liars_leaf);
    let swapped = other.into_iter().find(|(holder, _)| *holder == victims_leaf).expect("a neighbour").1;
    let mailbox = play.aggregator.mail.get_mut(&victim).expect("it has mail");
    let at = mailbox.iter().position(|item| item[..4] == liars_leaf.0.to_le_bytes()).expect("the liar's");
    mailbox[at] = swapped;
    let acknowledgement = liar.acknowledgement(&play);
    play.put(liar.client(), &acknowledgement);
    let mut clients = play.acknowledge(clients);
    assert_eq!(core_in_force(&play).members(), &all_but(&play, &[victim]), "its shares are not those admitted");
    clients.remove(&victim);
    finish(&mut play, clients);
    assert_eq!(named(&play), []);
}

/// with the core in hand the server knows whose input it wants; from then on nothing is opened, to nobody.
#[test]
fn r16_nothing_is_opened_once_the_core_is_held() {
    let mut play = twelve();
    let mut clients = acknowledged(&mut play);
    let (dealer, phase) = clients.pop_first().expect("twelve");
    let core = play.aggregator.served(&play.world, StatementKind::Core);
    let (phase, _) = play.world.turn(phase.pin(&core).expect("an honest core"));
    let holder = neighbours(&play, dealer)[0];
    let edge = edge_hash(&play, dealer, holder);
    let about = |of| if of == dealer { EdgeReport::Complaint { edge } } else { EdgeReport::Good };
    let complaint = acknowledgement(&play, holder, about);
    assert!(matches!(phase.open(&[complaint]), Ok(Opened::Nothing(_))), "it opened after the core was fixed");
}

/// silence removes only the silent; who reports served mail as missing is outside, unnamed.
#[test]
fn r17_the_core_leaves_out_who_is_silent_or_misses_mail_that_was_served() {
    let mut play = twelve();
    let mut clients = play.advertise();
    let silent_dealer = lose(&mut clients, 1)[0];
    let mut clients = play.share(clients);
    let silent_holder = lose(&mut clients, 1)[0];
    let (without_mail, phase) = clients.pop_first().expect("ten");
    let (_, empty) = play.world.turn(phase.acknowledge(&[]).expect("an empty mailbox"));
    play.put(without_mail, &empty);
    let clients = play.acknowledge(clients);
    let out = [silent_dealer, silent_holder, without_mail];
    assert_eq!(core_in_force(&play).members(), &all_but(&play, &out));
    finish(&mut play, clients);
    assert_eq!(named(&play), []);
}

/// a client that keeps fewer than t neighbours cannot be opened; it is removed, and then whoever needed it.
#[test]
fn r17_the_core_holds_nobody_with_fewer_than_t_neighbours_inside() {
    let mut play = thin();
    let clients = play.advertise();
    let mut clients = play.share(clients);
    let alone = client_id(0);
    for gone in &neighbours(&play, alone)[..3] {
        clients.remove(gone);
    }
    let clients = play.acknowledge(clients);
    assert_eq!(clients.len(), 17, "as many as the roster permits to be lost");
    // Left without t = 4 neighbours the client goes, and the core is too small: nothing was spent.
    assert_eq!(play.aggregator.phase.kind(), PhaseKind::Abandoned);
    assert_eq!(play.aggregator.effects.iter().filter(|effect| **effect == Effect::Lapse).count(), 1);
}

/// a bad dealer is told from a bad holder only if the holder checks both shares against the signed points.
#[test]
fn r13_a_share_that_does_not_match_its_signed_point_is_complained_about() {
    let mut play = twelve();
    let mut liar = Liar::new(&play.world, 5);
    let advert = liar.advert(&play.world);
    let mut clients = advertise_with(&mut play, &[(liar.client(), advert)]);
    let victim = neighbours(&play, liar.client())[0];
    let at = leaf(&play, victim);
    // The points lie on the polynomial and are signed; what is sealed for one holder is another pair of scalars.
    let message = liar.deal(&play, |dealt| {
        if dealt.holder == at {
            dealt.pair.self_mask = random_share();
        }
    });
    play.put(liar.client(), &message);
    let phase = clients.remove(&victim).expect("in the round");
    let (phase, body) = play.deal(phase);
    play.put(victim, &body);
    play.share(clients);
    let mail = play.aggregator.mail[&victim].clone();
    let (_, body) = play.world.turn(phase.acknowledge(&mail).expect("one is allowed"));
    let sent = Acknowledgement::decode(&body, 8).expect("as sent");
    assert_eq!(sent.complaints(), 1, "the bad share was taken for good");
    let edge = edge_hash(&play, liar.client(), victim);
    assert!(sent.reports().contains(&EdgeReport::Complaint { edge }), "it names that very edge");
}
