//! B, continued: lists and cores that are too small, that leave the victim out, or of which there are two.

use veilsum_crypto::client::Resumed;
use veilsum_crypto::ids::{ClientId, LeafIndex};
use veilsum_crypto::messages::Confirmation;
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::testing::{World, small_params};

use super::b_secrets::{UPLOADED, answer_to, certifying, signed};
use super::rehearsal::{Certified, Rehearsal};
use super::{Scale, Seen, gained_without};
use crate::hostile::server::Server;
use crate::hostile::victims::{Faced, Served, face};

/// Twenty clients on a graph so thin (k = 6, t = 4) that T = 3 losses can leave one client without t neighbours. Policies
/// permit it for this attack only.
fn thin() -> Server {
    let mut params = RoundParams {
        security_bits: 4,
        completion_bits: 1,
        dropout_tolerance: 150_000,
        cohort_min: 2,
        ..small_params(20, 8)
    };
    params.ring_bits = params.ring_bits_needed().expect("a ring is wide enough");
    Server::new(World::with_policy(params, |policy| {
        (policy.security_bits_min, policy.completion_bits_min) = (4, 1);
    }))
}

/// B06. Fewer survivors than promised, or fewer than t of the victim's neighbours among them.
pub async fn b06_survivors_below_threshold(_: Scale) -> Seen {
    let (answer, _) =
        answer_to(Server::six().telling(certifying(|server| vec![server.neighbours(server.victim())[0]]))).await;
    assert!(!answer.is_empty(), "one may be lost");
    for lost in 2..=4 {
        let lie = certifying(move |server| server.neighbours(server.victim())[..lost].to_vec());
        let (faced, _) = face(Server::six().telling(lie), |_| {}).await;
        faced.stopped(15, &UPLOADED);
    }
    let (faced, served) =
        face(thin().telling(certifying(|server| server.neighbours(server.victim())[..3].to_vec())), |_| {}).await;
    let params = *served.server.lock().expect("no panic").assembly().params();
    assert!(
        params.n - 3 >= params.survivors_min && params.degree - 3 < params.threshold,
        "enough in all, too few near"
    );
    faced.stopped(21, &UPLOADED);
    Seen::new(
        "lists of n - 2 to n - 5 where one loss is permitted (R-15), and one with enough survivors but t - 1 neighbours (R-21), all          certified: 5 of 5 stopped; a list of n - 1 was answered",
    )
    .count("stopped", 5)
}

/// B07. The list says that the victim dropped; then the victim is asked.
pub async fn b07_ask_a_declared_dropped_client(_: Scale) -> Seen {
    let mut refused = 0;
    for target in 0..6 {
        let lie = certifying(|server| vec![server.victim()]);
        let (faced, _) = face(Server::six().against([target]).telling(lie), |_| {}).await;
        faced.left_out(21, &UPLOADED);
        refused += 1;
    }
    Seen::new(format!(
        "each of {refused} clients declared dropped under a certified list: no confirmation, no answer (R-21); it accuses nobody,          because its upload may have come late"
    ))
    .count("refused", refused)
}

/// Whether two lists can both gather t confirmations, over every way in which the server shares the honest members of a set
/// between them; liars sign both.
fn splits(honest: usize, liars: usize, threshold: usize) -> usize {
    (0_u32..1 << honest)
        .filter(|first| {
            let first = first.count_ones() as usize;
            first + liars >= threshold && honest - first + liars >= threshold
        })
        .count()
}

/// B16. Two survivor lists in a complete graph, each certified by a half and by the liar.
pub async fn b16_two_roots_in_a_complete_graph(scale: Scale) -> Seen {
    let (mut tried, mut both, mut everybody) = (0, 0, 0);
    for (n, tolerance, t, losses) in [(5_u32, 250_000, 3_u32, 1_u32), (11, 370_000, 6, 4)] {
        let mut params = small_params(n, 8);
        params.dropout_tolerance = tolerance;
        params.cohort_min = (n - params.tolerated(n)).max(2);
        params.ring_bits = params.ring_bits_needed().expect("wide enough");
        let world = World::with_policy(params, |policy| policy.dropout_tolerance_max = tolerance);
        let rehearsal = Rehearsal::of(world).dealt().acknowledged().uploaded();
        let assembly = rehearsal.play.aggregator.phase.assembly().expect("a roster");
        let found = *assembly.params();
        assert_eq!((found.corrupt, found.threshold, found.tolerated, found.degree), (1, t, losses, n - 1));
        let set: Vec<ClientId> =
            assembly.order().agreement_set().iter().map(|leaf: &LeafIndex| assembly.roster().client(*leaf)).collect();
        assert_eq!(set.len() as u32, n - 1, "everybody but the last position");
        // The control: with everybody in the set there are two quorums, each with the one liar.
        everybody += splits(n as usize - 1, 1, t as usize);
        let liar = set[0];
        let honest: Vec<ClientId> = set[1..].to_vec();
        let others: Vec<ClientId> = rehearsal.clients().into_iter().filter(|client| *client != liar).collect();
        // Two lists that the rules permit: each leaves out somebody else.
        let lists = [&others[0], &others[1]].map(|dropped| rehearsal.certified(liar, &[*dropped]));
        let of_liar = |list: &Certified| {
            let root = signed(&list.survivors, labels::SURVIVORS).statement().root();
            let member = rehearsal.play.world.members.iter().find(|member| member.client() == liar).expect("a client");
            Confirmation::sign(&rehearsal.play.world.facts.chain, root, liar, &member.identity).encode()
        };
        // What each honest client really says when it is shown each list; it says it to one of them only.
        let confirms = |client: ClientId, list: &Certified| {
            let Resumed::AwaitingSurvivors(phase, _) = rehearsal.resume(client) else { panic!("it uploaded") };
            let uploads = rehearsal.play.aggregator.uploads_for(client);
            let turn = phase.confirm(&list.survivors, &uploads).ok()?;
            Some(rehearsal.play.world.written(turn))
        };
        type Written = (Vec<u8>, Vec<u8>); // what is on disk, and what is sent
        let said: Vec<[Option<Written>; 2]> =
            honest.iter().map(|client| [0, 1].map(|at: usize| confirms(*client, &lists[at]))).collect();
        let limit = scale.times(1 << 8).min(1 << honest.len());
        for split in (0..1_usize << honest.len()).take(limit) {
            let opened = [0, 1].map(|at: usize| {
                let of_half = |number: usize| (split >> number & 1 == at).then(|| said[number][at].clone()).flatten();
                let mut confirmations: Vec<Vec<u8>> =
                    (0..honest.len()).filter_map(of_half).map(|(_, message)| message).collect();
                confirmations.push(of_liar(&lists[at]));
                // Whoever of this half accepted the list answers, if the quorum is there.
                (0..honest.len()).filter_map(|number| Some((number, of_half(number)?))).any(|(number, (disk, _))| {
                    let Resumed::ReadyToUnmask(phase, _) = rehearsal.open(honest[number], &disk) else {
                        panic!("it confirmed")
                    };
                    phase.unmask(&confirmations).is_ok()
                })
            });
            tried += 1;
            both += usize::from(opened == [true, true]);
        }
        assert_eq!(splits(honest.len(), 1, t as usize), 0, "by count, too");
    }
    assert_eq!(both, 0, "two lists were opened");
    assert!(everybody > 0);
    let gained = gained_without(23, "the two survivor roots, signed twice");
    Seen::new(format!(
        "n, c, t, T = 5, 1, 3, 1 and 11, 1, 6, 4: {tried} ways to show half of the honest one list and half another, the liar          signing both: never both opened; were everybody in the set, {everybody} splits would give two quorums. Without one list a          client: {gained}"
    ))
    .count("splits", tried)
    .count("second roots", both)
}

/// B17. A core that is too small, or that leaves the victim with too few neighbours: it must stop before it charges itself.
pub async fn b17_small_core(_: Scale) -> Seen {
    let charged = |served: &Served| match served.written(0) {
        Some(Resumed::Enrolled(phase)) => phase.memory().ledger().epsilon_spent(1e-5) > 0.0,
        other => panic!("the round is over for it: {other:?}"),
    };
    let (honest, served) = face(Server::six(), |_| {}).await;
    honest.verified();
    assert!(charged(&served), "a round that it sees to its end is charged");
    let dealt = ["advertise", "share", "acknowledge"];
    let check = |faced: Faced, served: Served| {
        faced.stopped(17, &dealt);
        assert!(!charged(&served), "nothing was charged");
    };
    for lost in 2..=4 {
        let server = Server::six().with_instead("core", move |server| {
            let lost = server.neighbours(server.victim())[..lost].to_vec();
            server.core(server.all_but(&lost))
        });
        let (faced, served) = face(server, |_| {}).await;
        check(faced, served);
    }
    let server = thin().with_instead("core", |server| {
        let lost = server.neighbours(server.victim())[..3].to_vec();
        server.core(server.all_but(&lost))
    });
    let (faced, served) = face(server, |_| {}).await;
    check(faced, served);
    let without_it = Server::six().with_instead("core", |server| server.core(server.all_but(&[server.victim()])));
    let (faced, served) = face(without_it, |_| {}).await;
    faced.left_out(17, &dealt);
    assert!(!charged(&served));
    let gained = gained_without(17, "the empty mailbox");
    Seen::new(format!(
        "cores of n - 2 to n - 4, one with t - 1 of the victim's neighbours, one without the victim: 5 of 5 got no input and 0 charges          (R-17), read from the client's own sealed ledger; an honest round was charged. Without the check: {gained}"
    ))
    .count("charges", 0)
}
