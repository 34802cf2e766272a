//! The real `Participant` on a line where an aggregator answers anything: from every state, lists and frames included.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use tokio::runtime::Runtime;
use veilsum_client::config::{Identity, Join};
use veilsum_client::transport::memory::{MemoryRequest, MemoryTransport, Method};
use veilsum_client::transport::{Reply, TransportError};
use veilsum_client::{LocalWork, Participant, RoundOutcome};
use veilsum_crypto::ids::LeafIndex;
use veilsum_crypto::messages::Header;
use veilsum_crypto::primitives::codec::write_prefixed;
use veilsum_crypto::primitives::seal::SavingKey;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::server::{PhaseKind, StatementKind};
use veilsum_crypto::testing::{SeededRng, TASK, now};
use veilsum_crypto::update::ModelUpdate;

use super::Target;
use super::client::alter;
use super::edit::{Input, edit};
use super::saved::scratch;
use super::stage::{MODEL, STAGE, Stage, State};

/// The target.
pub const TARGET: Target = Target {
    name: "participant",
    what: "the client library's Participant from any state on, answered with any status and any bytes: it comes to an end \
           without panic, and believes no sum but the honest one unless the aggregator's key signed it",
    run,
    seeds,
    words: &[],
    portion: 1,
    finish: super::nothing,
};

const SAVING_KEY: [u8; 32] = [0x6b; 32];
/// Enough for a whole round; then the aggregator says that it is over.
const REQUESTS_MAX: usize = 40;
/// A reply longer than any that a client reads here.
const LONG: usize = 200_000;

static RUNTIME: LazyLock<Mutex<Runtime>> = LazyLock::new(|| {
    // Time stands still and leaps over every pause: a client that waits costs nothing.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    Mutex::new(runtime.expect("a runtime"))
});

struct Work;

impl LocalWork for Work {
    fn suits(&mut self, _: &Header) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(()) // of any length
    }

    fn train(
        &mut self,
        header: &Header,
        _model: &[u8],
    ) -> Result<ModelUpdate, Box<dyn std::error::Error + Send + Sync>> {
        Ok(ModelUpdate::new(vec![0.5; header.params.vector_len as usize])?)
    }
}

/// `u8 state`, then for each request in turn a program: `u8 how` (most of them: answer honestly), and its edits.
fn run(bytes: &[u8]) {
    let stage = &*STAGE;
    let mut input = Input::new(bytes);
    let state = stage.states.get(input.below(stage.states.len() + 1));
    let number = state.map_or(0, |state| state.number);
    let folder = scratch();
    let path = folder.path().join("state");
    if let Some(state) = state {
        std::fs::write(&path, journal(stage, state)).expect("room");
    }
    let script =
        Arc::new(Mutex::new(Script { number, program: bytes[1.min(bytes.len())..].to_vec(), ..Script::default() }));
    let answering = script.clone();
    let transport = MemoryTransport::faulty(move |request| {
        let reply = answering.lock().expect("no panic while it is held").answer(&request);
        async { reply }
    });
    let runtime = RUNTIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let outcome = runtime.block_on(async {
        let participant = Participant::open(identity(stage, number), join(stage, number), &path, transport).await;
        let mut participant =
            participant.expect("a sound state").with_clock(Arc::new(now)).with_read_wait(Duration::ZERO);
        participant.take_part(&Arc::new(Mutex::new(Work))).await
    });
    let is_resigned = script.lock().expect("no panic").is_resigned;
    match outcome {
        Ok(RoundOutcome::Verified { sum, .. }) if !is_resigned => {
            let (_, honest) = &stage.aggregator.statements[&StatementKind::Result];
            assert_eq!(sum.expect("it was opened").pack(), *honest, "another sum is believed");
        }
        Ok(outcome) => assert!(!format!("{outcome:?}").is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The file as the library writes it.
fn journal(stage: &Stage, state: &State) -> Vec<u8> {
    let (key, mut rng) = (SavingKey::from_bytes(SAVING_KEY), SeededRng::new(6, 0));
    let mut plain = b"veilsum state v1".to_vec();
    write_prefixed(&mut plain, &stage.world.header());
    let roster =
        if state.plain[1] >= 2 { stage.aggregator.served(&stage.world, StatementKind::Roster) } else { Vec::new() };
    write_prefixed(&mut plain, &roster);
    plain.extend(key.seal(&mut rng, &state.plain));
    key.seal(&mut rng, &plain)
}

fn identity(stage: &Stage, number: usize) -> Identity {
    let member = &stage.world.members[number];
    let seed = IdentitySecretKey::from_bytes(&member.identity.to_bytes());
    Identity::new(seed, member.certificate.clone(), SAVING_KEY).expect("its own key")
}

fn join(stage: &Stage, number: usize) -> Join {
    let policy = stage.world.members[number].policy.clone();
    Join { policy, ..Join::new("memory:", TASK, stage.world.aggregator.public(), stage.world.authority.public()) }
}

/// An aggregator that follows a program.
#[derive(Default)]
struct Script {
    number: usize,
    program: Vec<u8>,
    read: usize,
    requests: usize,
    is_resigned: bool,
}

impl Script {
    fn answer(&mut self, request: &MemoryRequest) -> Result<Reply, TransportError> {
        self.requests += 1;
        if self.requests > REQUESTS_MAX {
            return Ok(Reply::new(410, br#"{"detail":"published"}"#));
        }
        let program = std::mem::take(&mut self.program);
        let mut input = Input::new(&program[self.read.min(program.len())..]);
        let left = input.left();
        let reply = self.follow(request, &mut input);
        self.read += left - input.left();
        self.program = program;
        reply
    }

    fn follow(&mut self, request: &MemoryRequest, input: &mut Input<'_>) -> Result<Reply, TransportError> {
        let honest = if request.method == Method::Put { Vec::new() } else { self.honest(&request.path) };
        let status = if request.method == Method::Put { 204 } else { 200 };
        match input.below(16) {
            1 => {
                Ok(Reply::new(*input.of(&[204, 400, 403, 404, 409, 410, 413, 422, 425, 500, 503, 302, 0, 999]), honest))
            }
            2 => Err(TransportError::Unreachable("cut".into())),
            3 => {
                let mut body =
                    br#"{"type":"about:blank","title":"Gone","status":410,"detail":"phase-closed","rule":null}"#
                        .to_vec();
                edit(&mut body, &[], input);
                Ok(Reply::new(*input.of(&[410, 404, 422]), body))
            }
            4 => Ok(Reply::new(status, vec![0x41; LONG])),
            5 | 6 => {
                let mut body = honest;
                edit(&mut body, &STAGE.donors(), input);
                Ok(Reply::new(status, body))
            }
            7 | 8 => {
                let items = (0..input.below(4)).map(|_| input.of(&STAGE.donors()).to_vec()).collect::<Vec<_>>();
                Ok(Reply::new(status, list(&items)))
            }
            9 | 10 => {
                let (mut whole, is_list) = (vec![honest.clone()], framed(&honest));
                let pieces = is_list.as_ref().unwrap_or(&whole).clone();
                whole = pieces;
                self.is_resigned |= alter(&STAGE, &mut whole, input);
                Ok(Reply::new(status, if is_list.is_some() { list(&whole) } else { whole.concat() }))
            }
            _ => Ok(Reply::new(status, honest)),
        }
    }

    /// What an honest aggregator answers at the end of the round: everything is settled.
    fn honest(&self, path: &str) -> Vec<u8> {
        let stage = &*STAGE;
        let client = stage.client(self.number);
        let statement = |kind| stage.aggregator.served(&stage.world, kind);
        let last = path.split(['/', '?']).nth(4).unwrap_or_default();
        match last {
            _ if path.starts_with("/v1/models/") => MODEL.to_vec(),
            _ if path.starts_with("/v1/log/") => vec![0],
            "header" => stage.world.header(),
            "roster" => statement(StatementKind::Roster),
            "core" => statement(StatementKind::Core),
            "survivors" => statement(StatementKind::Survivors),
            "result" => statement(StatementKind::Result),
            "confirmations" => list(&by_leaf(stage.aggregator.bodies(PhaseKind::Confirming))),
            "mail" => list(&stage.aggregator.mail[&client]),
            "complaints" => list(&[]),
            "openings" => list(&stage.aggregator.bodies(PhaseKind::Opening)),
            "uploads" => {
                let mut uploads = stage.aggregator.uploads_for(client);
                uploads.sort_by_key(|upload| upload[83..99].to_vec()); // by sender, as leaves are
                list(&uploads)
            }
            "leaves" => {
                let asked = path.split("i=").nth(1).unwrap_or_default().split(',').filter_map(|leaf| leaf.parse().ok());
                let leaves = stage.aggregator.leaves(asked.filter(|leaf| *leaf < 8).map(LeafIndex));
                let mut body = Vec::new();
                leaves.values().for_each(|leaf| write_prefixed(&mut body, leaf));
                body
            }
            _ => Vec::new(),
        }
    }
}

fn by_leaf(mut statements: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    statements.sort_by_key(|statement| statement[84..100].to_vec());
    statements
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut body = (items.len() as u16).to_le_bytes().to_vec();
    items.iter().for_each(|item| write_prefixed(&mut body, item));
    body
}

/// The items of a list, if these bytes are one.
fn framed(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut reader = veilsum_crypto::primitives::codec::Reader::new(body);
    let count = reader.u16("count").ok()?;
    let items = (0..count).map(|_| reader.prefixed("item").map(<[u8]>::to_vec)).collect::<Result<_, _>>().ok()?;
    reader.finish().is_ok().then_some(items)
}

/// Every state, answered honestly, and with one lie at each of the first requests.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for state in 0..=STAGE.states.len() as u8 {
        seeds.push(vec![state]);
        if state % 8 < 2 {
            for at in 0..4 {
                seeds.extend((1..11).map(|how| [vec![state], vec![0; at], vec![how, 1, 6, 8, 0, 1, 3, 9]].concat()));
            }
        }
    }
    seeds
}
