//! Whole rounds between real clients and the real decisions of an aggregator, over a transport that can lie and break.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use veilsum_crypto::messages::RevocationList;
use veilsum_crypto::params::RosterParams;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::server::{PhaseKind, RoundFacts, StatementKind};
use veilsum_crypto::testing::{Aggregator, TASK, World, now, small_params};

use super::*;
use crate::transport::Reply;
use crate::transport::memory::{MemoryRequest, MemoryTransport, Method};

const CLIENTS: usize = 3;
const MODEL: &[u8] = b"a model";

/// An aggregator in memory: closes a phase when all have spoken, and keeps to docs/wire.md where a client could tell.
struct Service {
    world: World,
    aggregator: Aggregator,
    /// Every message as it first came.
    admitted: BTreeMap<(PhaseKind, ClientId), Vec<u8>>,
}

impl Service {
    fn new() -> Self {
        let mut world = World::new(small_params(CLIENTS as u32, 40));
        let model_hash = Digest(Sha256::digest(MODEL).into());
        let header = Header { model_hash, ..world.facts.header.clone() };
        world.facts = RoundFacts::new(header, RevocationList::none());
        let aggregator = Aggregator::new(&world.facts.header.params);
        Self { world, aggregator, admitted: BTreeMap::new() }
    }

    fn answer(&mut self, request: &MemoryRequest) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parts: Vec<&str> = path.split('/').skip(2).collect();
        if let ["rounds", _, what, ..] = parts[..] {
            let member = self.world.members.iter().find(|member| {
                let permit = request
                    .permit
                    .as_ref()
                    .and_then(|permit| veilsum_crypto::messages::ReadPermit::decode(permit).ok());
                permit.is_some_and(|permit| {
                    permit.permits(&request.path, &self.world.facts.chain, &member.identity.public())
                })
            });
            if request.method == Method::Get && member.is_none() {
                return problem(403, &format!("no permit for {what}"));
            }
        }
        match (request.method, &parts[..]) {
            (Method::Get, ["tasks", task, "header"]) if *task == TASK.to_string() => match query {
                "after=0" => Reply::new(200, self.world.header()),
                _ => Reply::new(204, []),
            },
            (Method::Get, ["models", _]) => Reply::new(200, MODEL),
            (Method::Get, ["rounds", _, what]) => self.shared(what, query),
            (Method::Get, ["rounds", _, what, client]) => self.own(what, ClientId::from_hex(client).expect("an id")),
            (Method::Put, ["rounds", _, phase, client]) => {
                self.put(phase, ClientId::from_hex(client).expect("an id"), &request.body)
            }
            _ => problem(404, "no such path"),
        }
    }

    fn put(&mut self, phase: &str, client: ClientId, body: &[u8]) -> Reply {
        let kind = match phase {
            "advertise" => PhaseKind::Advertising,
            "share" => PhaseKind::Sharing,
            "acknowledge" => PhaseKind::Acknowledging,
            "mask" => PhaseKind::Masking,
            "confirm" => PhaseKind::Confirming,
            "unmask" => PhaseKind::Unmasking,
            _ => return problem(404, "no such phase"),
        };
        match self.admitted.get(&(kind, client)) {
            Some(before) if before == body => return Reply::new(204, []),
            Some(_) => return problem(409, "other bytes than admitted"),
            None if kind < self.aggregator.phase.kind() => return problem(410, "phase-closed"),
            None if kind > self.aggregator.phase.kind() => return problem(425, "not open yet"),
            None => {}
        }
        if let Err(rejection) = self.aggregator.put(&self.world, client, body) {
            return problem(422, &rejection.to_string());
        }
        self.admitted.insert((kind, client), body.to_vec());
        let awaited = match kind {
            PhaseKind::Confirming => self.aggregator.phase.assembly().expect("a roster").order().agreement_set().len(),
            _ => CLIENTS,
        };
        if self.admitted.keys().filter(|(of, _)| *of == kind).count() == awaited {
            self.aggregator.close(&self.world);
        }
        Reply::new(204, [])
    }

    fn shared(&self, what: &str, query: &str) -> Reply {
        let statement = match what {
            "roster" => StatementKind::Roster,
            "core" => StatementKind::Core,
            "survivors" => StatementKind::Survivors,
            "result" => StatementKind::Result,
            "leaves" => {
                let wanted: Vec<_> =
                    query[2..].split(',').map(|index| LeafIndex(index.parse().expect("an index"))).collect();
                let leaves = self.aggregator.leaves(wanted.iter().copied());
                let framed = wanted
                    .iter()
                    .flat_map(|leaf| [&579_u32.to_le_bytes()[..], &leaves[leaf]].concat())
                    .collect::<Vec<_>>();
                return Reply::new(200, framed);
            }
            "confirmations" => return self.list(PhaseKind::Confirming, self.aggregator.bodies(PhaseKind::Confirming)),
            _ => return problem(404, "no such path"),
        };
        match self.aggregator.statements.contains_key(&statement) {
            true => Reply::new(200, self.aggregator.served(&self.world, statement)),
            false => Reply::new(204, []),
        }
    }

    fn own(&self, what: &str, client: ClientId) -> Reply {
        match what {
            "mail" => self.list(PhaseKind::Sharing, self.aggregator.mail.get(&client).cloned().unwrap_or_default()),
            "complaints" => self.list(PhaseKind::Acknowledging, Vec::new()),
            "uploads" if self.aggregator.phase.kind() > PhaseKind::Masking => {
                // In leaf order, as the wire demands; the harness has them in ring order.
                let mut uploads = self.aggregator.uploads_for(client);
                uploads
                    .sort_by_key(|upload| Signed::decode(upload, labels::UPLOAD).expect("admitted").statement().sender);
                self.list(PhaseKind::Masking, uploads)
            }
            _ => Reply::new(204, []),
        }
    }

    /// A list that is settled once `after` has closed.
    fn list(&self, after: PhaseKind, mut items: Vec<Vec<u8>>) -> Reply {
        if self.aggregator.phase.kind() <= after {
            return Reply::new(204, []);
        }
        if after == PhaseKind::Sharing {
            items.sort_by_key(|item| item[..4].iter().rev().copied().collect::<Vec<_>>());
        }
        let mut body = (items.len() as u16).to_le_bytes().to_vec();
        for item in items {
            body.extend((item.len() as u32).to_le_bytes());
            body.extend(item);
        }
        Reply::new(200, body)
    }
}

fn problem(status: u16, detail: &str) -> Reply {
    let body =
        serde_json::json!({"type": "about:blank", "title": "x", "status": status, "detail": detail, "rule": null});
    Reply::new(status, body.to_string())
}

/// An update of zeros.
struct Zeros;
impl LocalWork for Zeros {
    fn suits(&mut self, _: &Header) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(()) // of any length
    }

    fn train(&mut self, header: &Header, model: &[u8]) -> work::Trained {
        assert_eq!(model, MODEL);
        Ok(ModelUpdate::new(vec![0.0; header.params.vector_len as usize])?)
    }
}

type Noised = Arc<Mutex<BTreeMap<ClientId, Vec<i64>>>>;

/// Three clients of one service, each with a state file.
struct Fleet {
    service: Arc<Mutex<Service>>,
    directory: tempfile::TempDir,
    noised: Noised,
}

impl Fleet {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { service: Arc::new(Mutex::new(Service::new())), directory, noised: Noised::default() }
    }

    /// The line of an honest aggregator, whose replies `alter` may change.
    fn line(&self, alter: impl Fn(&MemoryRequest, Reply) -> Reply + Send + Sync + 'static) -> MemoryTransport {
        let service = self.service.clone();
        MemoryTransport::new(Arc::new(move |request| {
            let reply = service.lock().expect("no test panicked in it").answer(&request);
            let reply = alter(&request, reply);
            Box::pin(async move { reply })
        }))
    }

    fn honest(&self) -> MemoryTransport {
        self.line(|_, reply| reply)
    }

    async fn open<T: Transport>(&self, number: usize, transport: T) -> Participant<T> {
        let (identity, join) = {
            let service = self.service.lock().expect("no test panicked in it");
            let member = &service.world.members[number];
            let secret = IdentitySecretKey::from_bytes(&member.identity.to_bytes());
            let identity = Identity::new(secret, member.certificate.clone(), [number as u8; 32]).expect("its own key");
            let policy = member.policy.clone();
            (identity, Join { server: String::new(), ca_file: None, task: TASK, policy })
        };
        let (noised, client) = (self.noised.clone(), identity.client());
        Participant::open(identity, join, &self.state(number), transport)
            .await
            .expect("nobody else holds it")
            .with_clock(Arc::new(now))
            .on_noised(move |values| {
                noised.lock().expect("no test panicked in it").insert(client, values.to_vec());
            })
    }

    fn state(&self, number: usize) -> PathBuf {
        self.directory.path().join(number.to_string())
    }

    /// Clients 1 and 2 play honestly, beside whatever client 0 does.
    fn others(&self) -> Vec<impl Future<Output = RoundOutcome>> {
        (1..CLIENTS)
            .map(|number| async move {
                let mut participant = self.open(number, self.honest()).await;
                participant.take_part(&zeros()).await.expect("an honest round")
            })
            .collect()
    }

    fn assert_sum(&self, outcome: &RoundOutcome) {
        let RoundOutcome::Verified { sum, survivors, update_included, .. } = outcome else { panic!("{outcome:?}") };
        let noised = self.noised.lock().expect("no test panicked in it");
        let sum = sum.as_ref().expect("opened");
        let mut plain = RingVector::zeros(sum.len(), sum.bits());
        for client in survivors {
            plain.add_assign(&RingVector::from_signed(&noised[client], sum.bits())).expect("one ring");
        }
        assert_eq!(*sum, plain, "bit for bit");
        assert!(survivors.len() == CLIENTS && *update_included);
    }
}

fn zeros() -> Arc<Mutex<Zeros>> {
    Arc::new(Mutex::new(Zeros))
}

async fn all(
    others: Vec<impl Future<Output = RoundOutcome>>,
    first: impl Future<Output = RoundOutcome>,
) -> Vec<RoundOutcome> {
    let [one, two] = <[_; 2]>::try_from(others).ok().expect("three clients");
    let (first, one, two) = tokio::join!(first, one, two);
    vec![first, one, two]
}

/// C-03: what a client verifies is the sum of what was masked.
#[tokio::test]
async fn three_clients_verify_the_sum_of_what_they_masked() {
    let fleet = Fleet::new();
    let first = async {
        let mut participant = fleet.open(0, fleet.honest()).await;
        let mut events = participant.events();
        let outcome = participant.take_part(&zeros()).await.expect("an honest round");
        let mut sent = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let ClientEvent::Sent { phase, .. } = event {
                sent.push(phase);
            }
        }
        sent.retain(|phase| *phase != Phase::Confirm); // only if it is of the agreement set
        assert_eq!(sent, [Phase::Advertise, Phase::Share, Phase::Acknowledge, Phase::Mask, Phase::Unmask]);
        assert!(participant.traffic().up_bytes() > 0 && participant.traffic().down_bytes() > 0);
        outcome
    };
    for outcome in all(fleet.others(), first).await {
        fleet.assert_sum(&outcome);
    }
}

/// The rules under which a client can stop, as `ServerMisbehaved::rule` has them.
fn rules_of_the_client() -> BTreeMap<u8, ()> {
    let source = include_str!("../../../crypto/src/rules.rs");
    let after = source.split("/// The rule under which the client stops.").nth(1).expect("the function is there");
    let body = after.split("})").next().expect("it ends");
    let number = |text: &str| text.trim().trim_end_matches(',').parse().ok();
    body.split("=>").filter_map(|arm| number(arm.split(',').next()?)).map(|rule| (rule, ())).collect()
}

/// Every rule under which a client can stop has an entry in the report of a round that was played to its end, with the
/// figures of that round.
#[tokio::test]
async fn the_report_of_a_round_names_every_rule_that_could_have_stopped_it() {
    let fleet = Fleet::new();
    let first = async {
        let mut participant = fleet.open(0, fleet.honest()).await;
        let outcome = participant.take_part(&zeros()).await.expect("an honest round");
        (participant.report(), participant.epsilon_spent().await.expect("readable"), outcome)
    };
    let [one, two] = <[_; 2]>::try_from(fleet.others()).ok().expect("two others");
    let ((report, epsilon, outcome), _, _) = tokio::join!(first, one, two);
    let RoundOutcome::Verified { header, .. } = outcome else { panic!("{outcome:?}") };
    let expected = rules_of_the_client();
    assert!(expected.len() > 15 && expected.contains_key(&24), "the source is read: {expected:?}");
    for rule in expected.keys() {
        assert!(report.iter().any(|check| check.rule.0 == *rule), "R-{rule:02} is not in the report");
    }
    let phases: Vec<Phase> = report.iter().map(|check| check.phase).collect();
    let mut order = phases.clone();
    order.dedup();
    use Phase::*;
    assert_eq!(order, [Advertise, Share, Acknowledge, Mask, Confirm, Unmask, Verify]);
    let said = |phase, rule| {
        let of = |check: &&Check| check.phase == phase && check.rule.0 == rule;
        report.iter().filter(of).map(|check| check.compared.clone()).collect::<Vec<_>>().join("\n")
    };
    let params = RosterParams::derive(3, &header.params).expect("feasible");
    assert!(
        said(Share, 4).contains(&format!("k = {}, t = {}, h = {}", params.degree, params.threshold, params.honest))
    );
    assert!(said(Acknowledge, 13).contains("mail from 2 neighbours: 2 signed"), "{}", said(Acknowledge, 13));
    assert!(said(Mask, 17).contains("core: 3 of 3"), "{}", said(Mask, 17));
    assert!(said(Mask, 26).contains(&format!("epsilon {epsilon:.3}")) && epsilon > 0.0, "{}", said(Mask, 26));
    assert!(said(Confirm, 22).contains("2 listed alive"), "{}", said(Confirm, 22));
    assert!(said(Unmask, 25).contains("2 of 2 neighbours"), "{}", said(Unmask, 25));
    assert!(said(Verify, 20).contains("counts 3 clients"), "{}", said(Verify, 20));
}

/// killed at any request, before it is delivered or before its reply is seen, a client goes on where it was. The
/// service above answers other bytes under one name with 409, so this also shows that none are ever sent.
#[tokio::test]
async fn a_client_that_is_killed_anywhere_finishes_its_round() {
    let places = [
        "/header",
        "/models",
        "/advertise",
        "/roster",
        "/leaves",
        "/share",
        "/mail",
        "/acknowledge",
        "/complaints",
        "/core",
        "/mask",
        "/survivors",
        "/uploads",
        "/confirmations",
        "/unmask",
        "/result",
    ];
    for (place, is_delivered) in places.into_iter().flat_map(|place| [(place, false), (place, true)]) {
        let fleet = Fleet::new();
        let killed = Arc::new(Notify::new());
        let (service, kill) = (fleet.service.clone(), killed.clone());
        let breaking = MemoryTransport::faulty(move |request| {
            let dies = request.path.contains(place);
            let reply = (!dies || is_delivered).then(|| service.lock().expect("no panic").answer(&request));
            let kill = kill.clone();
            async move {
                if dies {
                    kill.notify_one();
                    std::future::pending::<()>().await;
                }
                Ok(reply.expect("delivered"))
            }
        });
        let first = async {
            let mut doomed = fleet.open(0, breaking).await;
            tokio::select! {
                outcome = async { doomed.take_part(&zeros()).await } => panic!("{place}: {outcome:?}"),
                () = killed.notified() => {}
            }
            drop(doomed);
            let mut participant = fleet.open(0, fleet.honest()).await;
            participant.take_part(&zeros()).await.unwrap_or_else(|error| panic!("{place}, {is_delivered}: {error}"))
        };
        for outcome in all(fleet.others(), first).await {
            fleet.assert_sum(&outcome);
        }
    }
}

/// A lying reply stops the client, uses the round up, and is kept.
#[tokio::test]
async fn a_lie_stops_the_client_and_is_kept() {
    let fleet = Fleet::new();
    let lying = fleet.line(|request, mut reply| {
        if request.path.ends_with("/core") && reply.status == 200 {
            let last = reply.body.len() - 1;
            reply.body[last] ^= 1; // of the signature
        }
        reply
    });
    let honest: Vec<_> = (1..CLIENTS).map(|number| (number, fleet.honest())).collect();
    let mut participant = fleet.open(0, lying).await;
    let work = zeros();
    let first = participant.take_part(&work);
    let others = honest.into_iter().map(|(number, transport)| {
        let fleet = &fleet;
        async move {
            let mut other = fleet.open(number, transport).await;
            let _ = tokio::time::timeout(Duration::from_secs(5), other.take_part(&zeros())).await; // there is no sum without client 0
        }
    });
    let [one, two] = <[_; 2]>::try_from(others.collect::<Vec<_>>()).ok().expect("two others");
    let outcome = tokio::select! {
        outcome = first => outcome.expect("stopped is an outcome"),
        _ = async { tokio::join!(one, two) } => panic!("client 0 should stop first"),
    };
    let RoundOutcome::Stopped { round: Some(_), why, evidence: Some(kept) } = outcome else { panic!("{outcome:?}") };
    assert_eq!(why, ServerMisbehaved::Signature { statement: "core" });
    assert_eq!(kept.parent(), Some(fleet.directory.path().join("evidence").as_path()));
    let kept = std::fs::read(&kept).expect("kept");
    assert!(kept.starts_with(b"veilsum evidence v1") && kept.windows(4).any(|name| name == b"core"));
    drop(participant);
    assert_used_up(&fleet).await;
}

/// 410 ends a round without blame; its counter is used up.
#[tokio::test]
async fn an_abandoned_round_is_given_up_with_the_reason_of_the_aggregator() {
    let fleet = Fleet::new();
    let abandoned = fleet.line(|request, reply| match request.path.ends_with("/roster") {
        true => problem(410, "roster-too-small: 1 of 3"),
        false => reply,
    });
    let mut participant = fleet.open(0, abandoned).await;
    let outcome = participant.take_part(&zeros()).await.expect("an end");
    let RoundOutcome::Abandoned { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason, "roster-too-small: 1 of 3");
    drop(participant);
    assert_used_up(&fleet).await;
}

/// A reply that never ends is read to its bound and no further, and a later call does not ask for it again.
#[tokio::test]
async fn a_reply_without_an_end_ends_the_round() {
    let fleet = Fleet::new();
    let service = fleet.service.clone();
    let endless = MemoryTransport::faulty(move |request| {
        let reply = service.lock().expect("no test panicked in it").answer(&request);
        async move {
            match request.path.ends_with("/roster") {
                true => Err(TransportError::TooLarge { limit_bytes: 1 }),
                false => Ok(reply),
            }
        }
    });
    let mut participant = fleet.open(0, endless).await;
    let error = participant.take_part(&zeros()).await.expect_err("no roster");
    assert!(matches!(error, ParticipantError::Transport(TransportError::TooLarge { .. })), "{error}");
    drop(participant);
    assert_used_up(&fleet).await;
}

/// Whoever does not want to wait any longer leaves, and nothing more is sent under that counter.
#[tokio::test]
async fn a_client_may_leave_a_round_that_does_not_end() {
    let fleet = Fleet::new();
    let silent = fleet.line(|request, reply| match request.path.ends_with("/roster") {
        true => Reply::new(204, []),
        false => reply,
    });
    let mut participant = fleet.open(0, silent).await;
    assert!(!participant.leave().await.expect("its own state"), "there is no round yet");
    let waiting = tokio::time::timeout(Duration::from_millis(200), participant.take_part(&zeros())).await;
    assert!(waiting.is_err() && participant.is_under_way().await.expect("its own state"));
    assert!(participant.leave().await.expect("its own state"));
    assert!(!participant.is_under_way().await.expect("its own state"));
    drop(participant);
    assert_used_up(&fleet).await;
}

/// A model that never ends to come holds no client: nothing was sent, and the same call ends. C-294
#[tokio::test(start_paused = true)]
async fn a_model_that_does_not_end_is_waited_for_no_longer_than_any_step() {
    let fleet = Fleet::new();
    let service = fleet.service.clone();
    let stuck = MemoryTransport::faulty(move |request| {
        let reply = service.lock().expect("no test panicked in it").answer(&request);
        async move {
            if request.path.starts_with("/v1/models/") {
                std::future::pending::<()>().await;
            }
            Ok(reply)
        }
    });
    let mut participant = fleet.open(0, stuck).await;
    let outcome = participant.take_part(&zeros()).await.expect("an ordinary end");
    let RoundOutcome::Abandoned { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.starts_with("no-answer"), "{reason}");
    assert!(fleet.service.lock().expect("no panic").admitted.is_empty());
    assert!(!participant.is_under_way().await.expect("its own state"));
}

/// Windows longer than the policy permits are not waited for. C-294
#[tokio::test]
async fn windows_beyond_the_policy_are_refused() {
    let fleet = Fleet::new();
    let mut participant = fleet.open(0, fleet.honest()).await;
    let longest_ms = fleet.service.lock().expect("no panic").world.facts.header.params.windows.0.into_iter().max();
    let member = Arc::get_mut(&mut participant.member).expect("nobody else holds it");
    member.policy.window_max_s = u64::from(longest_ms.expect("seven")) / 1_000 - 1;
    let outcome = participant.take_part(&zeros()).await.expect("it stops");
    let RoundOutcome::Stopped { why, .. } = outcome else { panic!("{outcome:?}") };
    assert!(why.to_string().contains("the longest window"), "{why}");
    assert!(fleet.service.lock().expect("no panic").admitted.is_empty());
}

/// a round that was begun under an identity that is gone is given up, and accuses nobody; the next is played under the new
/// one. C-292
#[tokio::test]
async fn a_round_of_another_identity_is_given_up() {
    let fleet = Fleet::new();
    let silent = fleet.line(|request, reply| match request.path.ends_with("/roster") {
        true => Reply::new(204, []),
        false => reply,
    });
    let mut participant = fleet.open(0, silent).await;
    let waiting = tokio::time::timeout(Duration::from_millis(200), participant.take_part(&zeros())).await;
    assert!(waiting.is_err() && participant.is_under_way().await.expect("its own state"));
    drop(participant);

    let mut participant = fleet.open(0, fleet.honest()).await;
    let member = Arc::get_mut(&mut participant.member).expect("nobody else holds it");
    member.identity = IdentitySecretKey::from_bytes(&[0x55; 32]);
    let outcome = participant.take_part(&zeros()).await.expect("left out is an outcome");
    assert!(matches!(outcome, RoundOutcome::LeftOut { reason: LeftOut::EnrolledAnew, .. }), "{outcome:?}");
    assert!(!participant.is_under_way().await.expect("its own state"));
    assert_eq!(fleet.service.lock().expect("no panic").admitted.len(), 1, "the advert of the old identity");
    assert!(!fleet.directory.path().join("evidence").exists());
    drop(participant);
    assert_used_up(&fleet).await;
}

/// A message that comes late is nobody's lie: no evidence, and no second try under this counter.
#[tokio::test]
async fn a_client_whose_message_is_late_is_left_out_and_accuses_nobody() {
    for (path, phase) in [("/advertise/", Phase::Advertise), ("/share/", Phase::Share)] {
        let fleet = Fleet::new();
        let late = fleet.line(move |request, reply| match request.path.contains(path) {
            true => problem(410, "phase-closed"),
            false => reply,
        });
        let mut participant = fleet.open(0, late).await;
        let mut events = participant.events();
        let [one, two] = <[_; 2]>::try_from(fleet.others()).ok().expect("two others");
        let outcome = tokio::select! {
            outcome = async { participant.take_part(&zeros()).await } => outcome.expect("left out is an outcome"),
            _ = async { tokio::join!(one, two) } => panic!("client 0 should end first"),
        };
        let RoundOutcome::LeftOut { reason, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(reason, LeftOut::Late { phase });
        assert!(reason.to_string().contains("cannot tell"), "{reason}");
        let told =
            std::iter::from_fn(|| events.try_recv().ok()).any(|event| event == ClientEvent::LeftOut(reason.clone()));
        assert!(told && !fleet.directory.path().join("evidence").exists());
        drop(participant);
        assert_used_up(&fleet).await;
    }
}

/// Work that has no update for such a round says so before the advert.
#[tokio::test]
async fn work_that_does_not_suit_the_round_sends_nothing() {
    struct Picky;
    impl LocalWork for Picky {
        fn suits(&mut self, header: &Header) -> Result<(), Box<dyn Error + Send + Sync>> {
            Err(format!("{} elements are too many", header.params.vector_len).into())
        }
        fn train(&mut self, _: &Header, _: &[u8]) -> work::Trained {
            panic!("never asked")
        }
    }
    let fleet = Fleet::new();
    let mut participant = fleet.open(0, fleet.honest()).await;
    let error = participant.take_part(&Arc::new(Mutex::new(Picky))).await.expect_err("no update");
    assert!(matches!(error, ParticipantError::Unsuited(_)), "{error}");
    assert_eq!(error.to_string(), "40 elements are too many; nothing was sent");
    assert!(fleet.service.lock().expect("no panic").admitted.is_empty());
}

/// An update of another length than announced is the client's own fault, not the aggregator's. Noise is drawn to the length
/// of the update, so it is told before.
#[tokio::test]
async fn an_update_of_another_length_ends_the_round_without_blame() {
    struct Short;
    impl LocalWork for Short {
        fn suits(&mut self, _: &Header) -> Result<(), Box<dyn Error + Send + Sync>> {
            Ok(()) // it does not know better
        }
        fn train(&mut self, _: &Header, _: &[u8]) -> work::Trained {
            Ok(ModelUpdate::new(vec![0.0; 7])?)
        }
    }
    let fleet = Fleet::new();
    let mut participant = fleet.open(0, fleet.honest()).await;
    let [one, two] = <[_; 2]>::try_from(fleet.others()).ok().expect("two others");
    let error = tokio::select! {
        outcome = async { participant.take_part(&Arc::new(Mutex::new(Short))).await } => outcome.expect_err("no update"),
        _ = async { tokio::join!(one, two) } => panic!("client 0 should fail first"),
    };
    assert!(matches!(error, ParticipantError::UpdateLen { expected: 40, found: 7 }), "{error}");
    assert!(!fleet.directory.path().join("evidence").exists());
}

/// Training that fails ends the round for this client, after its advert was sent.
#[tokio::test]
async fn a_client_that_cannot_train_leaves_the_round() {
    struct Fails;
    impl LocalWork for Fails {
        fn suits(&mut self, _: &Header) -> Result<(), Box<dyn Error + Send + Sync>> {
            Ok(())
        }
        fn train(&mut self, _: &Header, _: &[u8]) -> work::Trained {
            Err("no data".into())
        }
    }
    let fleet = Fleet::new();
    let mut participant = fleet.open(0, fleet.honest()).await;
    let [one, two] = <[_; 2]>::try_from(fleet.others()).ok().expect("two others");
    let error = tokio::select! {
        outcome = async { participant.take_part(&Arc::new(Mutex::new(Fails))).await } => outcome.expect_err("no update"),
        _ = async { tokio::join!(one, two) } => panic!("client 0 should fail first"),
    };
    assert!(matches!(error, ParticipantError::Training(_)), "{error}");
    drop(participant);
    assert_used_up(&fleet).await;
}

/// A model that is not the one signed for is not trained, and nothing is sent.
#[tokio::test]
async fn another_model_than_the_signed_one_is_not_trained() {
    let fleet = Fleet::new();
    let other =
        fleet.line(|request, reply| if request.path.contains("/models/") { Reply::new(200, *b"x") } else { reply });
    let mut participant = fleet.open(0, other).await;
    let error = participant.take_part(&zeros()).await.expect_err("another model");
    assert!(matches!(error, ParticipantError::Model { .. }), "{error}");
    assert!(fleet.service.lock().expect("no panic").admitted.is_empty());
}

/// Asked again from disk, client 0 wants a later round than the first.
async fn assert_used_up(fleet: &Fleet) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let idle = MemoryTransport::faulty(move |request| {
        log.lock().expect("no panic").push(request.path);
        async { Ok(Reply::new(204, [])) }
    });
    let mut participant = fleet.open(0, idle).await;
    let waiting = tokio::time::timeout(Duration::from_millis(100), participant.take_part(&zeros())).await;
    assert!(waiting.is_err(), "it waits");
    let asked = asked.lock().expect("no panic");
    assert!(!asked.is_empty() && asked.iter().all(|path| path.ends_with("/header?after=1")), "{asked:?}");
    assert!(Path::new(&fleet.state(0)).exists());
}
