//! B: the server would like two kinds of share of one client, or a list over fewer than were promised. Its adversary holds the
//! aggregator's key and the keys of all clients but its victim, so that it can certify any list.

use std::collections::BTreeSet;

use veilsum_client::transport::Reply;
use veilsum_crypto::client::Resumed;
use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::{Answer, CoreSet, Header, Survivors};
use veilsum_crypto::primitives::agreement::Point;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Signed;
use veilsum_crypto::server::StatementKind;
use veilsum_crypto::testing::small_params;

use super::dice::Dice;
use super::rehearsal::{Certified, Rehearsal};
use super::{Scale, Seen, gained_without, trying};
use crate::hostile::front::Asked;
use crate::hostile::server::{Server, list};
use crate::hostile::victims::{Served, face, hands, until};

pub(super) const UPLOADED: [&str; 4] = ["advertise", "share", "acknowledge", "mask"];

/// From the survivor list on the server plays its own game: a list without these clients, certified by everybody but the victim.
pub(super) fn certifying(
    without: impl Fn(&Server) -> Vec<ClientId> + Send + 'static,
) -> impl FnMut(&mut Server, &Asked) -> Option<Reply> + Send + 'static {
    move |server, asked| {
        if !server.play.aggregator.statements.contains_key(&StatementKind::Survivors) {
            return None;
        }
        server.is_deaf = true;
        let (without, victim) = (without(server), server.victim());
        let (survivors, mut confirmations) = server.certified(server.all_but(&without));
        if asked.reads("survivors") {
            return Some(Reply::new(200, survivors));
        }
        if asked.reads("uploads") {
            let sender = |upload: &Vec<u8>| ClientId::from(signed(upload, labels::UPLOAD).statement().sender);
            let uploads = server.uploads(victim).into_iter().filter(|upload| !without.contains(&sender(upload)));
            return Some(Reply::new(200, list(&uploads.collect::<Vec<_>>())));
        }
        asked.reads("confirmations").then(|| {
            confirmations.extend(server.heard(victim, "confirm").map(<[u8]>::to_vec));
            let sender = |said: &Vec<u8>| ClientId::from(signed(said, labels::CONFIRM).statement().sender);
            confirmations.retain(|said| !without.contains(&sender(said)));
            confirmations.sort_by_key(sender);
            Reply::new(200, list(&confirmations))
        })
    }
}

pub(super) fn signed(bytes: &[u8], label: labels::Label) -> Signed {
    Signed::decode(bytes, label).expect("a statement")
}

/// What a victim's answer gives away: for each neighbour in the core, in its order, whether a share of s and one of b.
fn given_away(server: &Server, answer: &[u8]) -> Vec<(ClientId, bool, bool)> {
    let (victim, me) = (server.victim(), server.leaf(server.victim()));
    let neighbours = server.neighbours(victim);
    let answer = Answer::decode(answer, neighbours.len()).expect("all are in the core");
    let opens =
        |share: &Option<ShareScalar>, point: &Point| share.as_ref().is_some_and(|share| Point::of(share) == *point);
    neighbours
        .into_iter()
        .zip(answer.shares())
        .map(|(neighbour, share)| {
            let dealt = server.dealt(neighbour);
            let edge = dealt.edge_to(me).expect("a neighbour");
            (neighbour, opens(share, &edge.masking_point), opens(share, &edge.self_mask_point))
        })
        .collect()
}

/// The victim answers a certified list; its answer.
pub(super) async fn answer_to(server: Server) -> (Vec<u8>, Served) {
    let served = Served::open(server).await;
    let mut participant = served.participant(0, |_| {}, &hands()).await;
    let heard = |server: &Server| server.heard(server.victim(), "unmask").is_some();
    assert!(until(&served, &mut participant, heard).await, "a list that holds and is certified is answered");
    let answer = {
        let server = served.server.lock().expect("no panic");
        server.heard(server.victim(), "unmask").expect("just heard").to_vec()
    };
    (answer, served)
}

/// B01. One request that asks for both kinds. There is none to make: an answer's kinds follow from the one survivor list, so
/// what can be sent are lists that say two things of one client.
pub async fn b01_both_share_types_one_request(_: Scale) -> Seen {
    // The control: a list that holds and leaves one neighbour out gets one kind of share for each, and both kinds occur.
    let lie = certifying(|server| vec![server.neighbours(server.victim())[0]]);
    let (answer, served) = answer_to(Server::six().telling(lie)).await;
    let given = given_away(&served.server.lock().expect("no panic"), &answer);
    assert!(given.iter().all(|(_, masking, self_mask)| masking != self_mask), "one kind for each neighbour: {given:?}");
    assert_eq!(given.iter().filter(|(_, masking, _)| *masking).count(), 1, "the one declared dropped");
    type Bend = fn(&mut Vec<u8>);
    let lists: [(&str, Bend); 5] = [
        ("two bitmaps", |body| {
            let bitmap = body[8];
            body.splice(9..9, [!bitmap & 0x3f]);
        }),
        ("bits beyond n", |body| body[8] |= 0xc0),
        ("a count of all and a bitmap of fewer", |body| body[8] &= !1),
        ("a count of one more than there are", |body| body[4] += 1),
        ("another n", |body| body[0] = 12),
    ];
    for (what, bend) in lists {
        trying(what);
        let server = Server::six().with_instead("survivors", move |server| {
            let served = server.survivors(server.all_but(&[]));
            let mut statement = signed(&served, labels::SURVIVORS).statement().clone();
            bend(&mut statement.body);
            server.signed(&statement)
        });
        let (faced, _) = face(server, |_| {}).await;
        faced.stopped(37, &UPLOADED);
    }
    Seen::new(format!(
        "{} lists that say two things of one client: stopped (R-37) with evidence kept, 0 shares; a sound certified list without one \
         neighbour got, of each of {} neighbours, exactly one kind of share, checked against the dealers' signed points",
        lists.len(),
        given.len()
    ))
    .count("shares of a second kind", 0)
}

/// What a client said in one schedule of B02.
#[derive(Default)]
struct Told {
    answers: BTreeSet<Vec<u8>>,
    confirmations: BTreeSet<Vec<u8>>,
    lists_shown: BTreeSet<usize>,
}

/// One schedule: the victim crashes where chance says, before or after it wrote down or sent; each time it comes back it is
/// shown a list that chance picks, certified by all others. Where it stops it crashes, too, before it could give up.
fn schedule(rehearsal: &Rehearsal, victim: ClientId, lists: &[Certified], dice: &mut Dice) -> Told {
    let (mut disk, mut told) = (rehearsal.disk(victim), Told::default());
    for _ in 0..8 {
        let at = dice.below(lists.len());
        let (shown, is_written, is_sent) = (&lists[at], dice.percent(70), dice.percent(70));
        told.lists_shown.insert(at);
        let world = &rehearsal.play.world;
        let (written, message, said) = match rehearsal.open(victim, &disk) {
            Resumed::AwaitingSurvivors(phase, _) => match phase.confirm(&shown.survivors, &shown.uploads) {
                Ok(turn) => {
                    let (written, message) = world.written(turn);
                    (written, message, &mut told.confirmations)
                }
                Err(_) => continue,
            },
            Resumed::ReadyToUnmask(phase, again) => {
                told.confirmations.extend((!again.is_empty()).then_some(again));
                let known: Vec<Vec<u8>> = shown.confirmations.iter().chain(&told.confirmations).cloned().collect();
                match phase.unmask(&known) {
                    Ok(turn) => {
                        let (written, message) = world.written(turn);
                        (written, message, &mut told.answers)
                    }
                    Err(_) => continue,
                }
            }
            Resumed::AwaitingResult(_, again) => {
                told.answers.insert(again);
                continue;
            }
            other => panic!("it uploaded: {other:?}"),
        };
        if is_written {
            disk = written;
            said.extend((is_sent && !message.is_empty()).then_some(message));
        }
    }
    told
}

/// B02. The other list after a lost reply, or from a second replica; the client may crash at any await.
pub async fn b02_both_share_types_two_requests(scale: Scale) -> Seen {
    let rehearsal = Rehearsal::new(small_params(6, 8)).dealt().acknowledged().uploaded();
    let (schedules, mut dice) = (scale.times(1_000), Dice::new(2));
    let (mut answered, mut tempted) = (0, 0);
    for trial in 0..schedules {
        let victim = rehearsal.clients()[trial % 6];
        let lists: Vec<Certified> = rehearsal
            .neighbours(victim)
            .into_iter()
            .map(|dropped| rehearsal.certified(victim, &[dropped]))
            .chain([rehearsal.certified(victim, &[])])
            .collect();
        let told = schedule(&rehearsal, victim, &lists, &mut dice);
        assert!(told.answers.len() <= 1, "schedule {trial}: two answers");
        assert!(told.confirmations.len() <= 1, "schedule {trial}: two confirmations");
        answered += told.answers.len();
        tempted += usize::from(told.answers.len() == 1 && told.lists_shown.len() > 1);
    }
    assert!(
        answered > schedules / 4 && tempted > schedules / 8,
        "{answered} answered, {tempted} of them after other lists"
    );
    // Over HTTP: the reply to its answer is lost, its process ends, and a second replica shows the other list.
    let mut identical = 0;
    for _ in 0..scale.times(5) {
        let lie = certifying(|server| {
            let has_answered = server.heard(server.victim(), "unmask").is_some();
            vec![server.neighbours(server.victim())[usize::from(has_answered)]]
        });
        let (first, served) = answer_to(Server::six().telling(lie)).await;
        let mut participant = served.participant(0, |_| {}, &hands()).await;
        let sent = |server: &Server| server.said.iter().filter(|said| said.phase == "unmask").count();
        let before = sent(&served.server.lock().expect("no panic"));
        assert!(until(&served, &mut participant, |server| sent(server) > before).await, "it sends its answer again");
        let server = served.server.lock().expect("no panic");
        assert!(server.said.iter().filter(|said| said.phase == "unmask").all(|said| said.body == first));
        identical += 1;
    }
    Seen::new(format!(
        "{schedules} crash and retry schedules with 6 certified lists: {answered} ended in an answer, {tempted} of them though other          lists were shown as well; never a second answer or a second confirmation; {identical} of {identical} restarts over HTTP sent          the identical bytes to a replica with another list"
    ))
    .count("schedules", schedules)
    .count("answers", answered)
    .count("shares of a second kind", 0)
}

/// B04. All neighbours of the target are declared dropped, so that its pairwise masks could be rebuilt and its input remains.
pub async fn b04_isolation_by_dropout_claims(scale: Scale) -> Seen {
    // The control: without the signatures of its neighbours' uploads a client stands alone in a list, and its input is had.
    let gained = gained_without(22, "the lonely core");
    let (mut targets, mut refused) = (0, 0);
    for _ in 0..scale.times(10) {
        let rehearsal = Rehearsal::new(small_params(12, 8)).dealt().acknowledged().uploaded();
        for target in rehearsal.clients() {
            let neighbours = rehearsal.neighbours(target);
            let strangers: Vec<ClientId> = rehearsal
                .clients()
                .into_iter()
                .filter(|client| *client != target && !neighbours.contains(client))
                .collect();
            let mut lists = vec![
                rehearsal.certified(target, &neighbours),
                rehearsal.certified(target, &neighbours[..4]), // fewer than t are left
                rehearsal.certified(target, &[&neighbours[..], &strangers].concat()),
            ];
            // All alive, but what they uploaded is not shown: nobody has said that they did.
            lists.push(Certified { uploads: Vec::new(), ..rehearsal.certified(target, &[]) });
            for shown in &lists {
                let Resumed::AwaitingSurvivors(phase, _) = rehearsal.resume(target) else { panic!("it uploaded") };
                refused += usize::from(phase.confirm(&shown.survivors, &shown.uploads).is_err());
            }
            targets += 1;
        }
    }
    assert_eq!(refused, 4 * targets, "every such list is refused");
    type Without = fn(&Server) -> Vec<ClientId>;
    let over_http: [(Without, u8); 2] = [
        (|server| server.neighbours(server.victim()), 15),
        (|server| server.neighbours(server.victim())[..4].to_vec(), 15),
    ];
    for (without, rule) in over_http {
        let (faced, _) = face(Server::twelve().telling(certifying(without)), |_| {}).await;
        faced.stopped(rule, &UPLOADED);
    }
    Seen::new(format!(
        "{targets} targets, 4 lists each that isolate them, certified by everybody else: {refused} of {} refused (R-15, R-21, R-22), and          2 more over HTTP; 0 shares. Without the check: {gained}",
        4 * targets
    ))
    .count("targets", targets)
    .count("inputs recovered", 0)
}

/// B08. Shares of a client that is no neighbour, or of another round or task. No request names whose shares are wanted: what
/// can be sent are lists of another place, and lists that differ in clients outside the victim's neighbourhood.
pub async fn b08_foreign_share_request(_: Scale) -> Seen {
    type Bend = fn(&mut Server) -> Vec<u8>;
    let foreign: [(&str, Bend); 3] = [
        ("of another core", |server| {
            let list =
                Survivors::fix(server.all_but(&[]), Digest([7; 32]), &server.play.world.facts.chain, Digest([7; 32]));
            server.signed(list.statement())
        }),
        ("of another round", |server| {
            let header = Header { counter: 2, ..server.play.world.facts.header.clone() };
            let core = server.root(StatementKind::Core);
            server.signed(Survivors::fix(server.all_but(&[]), Digest([7; 32]), &header.chain(), core).statement())
        }),
        ("of another task", |server| {
            let header =
                Header { task: veilsum_crypto::ids::TaskId([1; 16]), ..server.play.world.facts.header.clone() };
            let core = server.root(StatementKind::Core);
            server.signed(Survivors::fix(server.all_but(&[]), Digest([7; 32]), &header.chain(), core).statement())
        }),
    ];
    for (what, bend) in foreign {
        trying(what);
        let (faced, _) = face(Server::six().with_instead("survivors", bend), |_| {}).await;
        faced.stopped(1, &UPLOADED);
    }
    // Beyond the core: a client with whom no masks were made.
    let beyond = Server::six().telling(|server, asked| {
        if !server.play.aggregator.statements.contains_key(&StatementKind::Core) {
            return None;
        }
        server.is_deaf = true;
        let absent = *server.neighbours(server.victim()).last().expect("neighbours");
        let core = CoreSet::fix(server.all_but(&[absent]), &server.play.world.facts.chain, server.assembly().root());
        if asked.reads("core") {
            return Some(Reply::new(200, server.signed(core.statement())));
        }
        if asked.reads("uploads") || asked.reads("complaints") {
            return Some(Reply::new(200, list(&[])));
        }
        asked.reads("survivors").then(|| {
            let all = Survivors::fix(server.all_but(&[]), Digest([7; 32]), &server.play.world.facts.chain, core.root());
            Reply::new(200, server.signed(all.statement()))
        })
    });
    let (faced, _) = face(beyond, |_| {}).await;
    faced.stopped(20, &UPLOADED);
    // Certified lists that differ in whom they leave out: answers are about the neighbours in the core, and of one length.
    let mut lengths = BTreeSet::new();
    let mut answers = 0;
    for strangers in [0, 1, 2] {
        let lie = certifying(move |server| {
            let near = server.neighbours(server.victim());
            let far = (0..12).map(|number| server.client(number));
            let far = far.filter(|client| *client != server.victim() && !near.contains(client));
            far.take(strangers).chain(near.iter().take(2 - strangers).copied()).collect()
        });
        let (answer, served) = answer_to(Server::twelve().telling(lie)).await;
        let given = given_away(&served.server.lock().expect("no panic"), &answer);
        assert!(given.iter().all(|(_, masking, self_mask)| masking != self_mask), "{given:?}");
        lengths.insert(answer.len());
        answers += 1;
    }
    assert_eq!(lengths.len(), 1, "the length says nothing of the list: {lengths:?}");
    Seen::new(format!(
        "lists of another core, round or task (R-01) and beyond the core (R-20): 4 of 4 stopped, 0 shares; {answers} certified lists          that leave out neighbours or strangers got one share for each neighbour in the core, {} bytes each time",
        lengths.first().expect("one")
    ))
    .count("stopped", 4)
}
