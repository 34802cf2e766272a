//! The round in which every error is provoked, and what could be read of it.

use std::path::Path;
use std::process::Command;

use sqlx::Row as _;
use tokio::net::lookup_host;
use veilsum_crypto::ids::Digest;
use veilsum_crypto::messages::header::round_of;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Statement;

use super::{Figures, Sink, files, search};
use crate::deployment::{Deployment, Owner};
use crate::hostile::{Answer, request};
use crate::memory::{Journal, Known, Secret, round_key, value_at};
use crate::programs::veilsum_program;
use crate::world::{Shape, task_file};

const CLIENTS: usize = 4;
/// Where secrets belong: the files that are kept for their owners.
const SAFES: [&str; 6] =
    [".toml", "sealing.key", "aggregator.key", "checkpoint.key", "admin.token", "update.safetensors"];

/// Everything that was said, and every secret that must not be in it.
pub struct Heard {
    /// Logs, answers, metrics, files.
    pub sinks: Vec<Sink>,
    /// Of clients and service.
    pub secrets: Vec<Secret>,
    /// Answers by status, to show that every kind was provoked.
    pub statuses: Vec<u16>,
}

/// H04: plays, and searches.
pub async fn h04(stepping_client: &Path) -> (Heard, Figures) {
    let heard = listen(stepping_client).await;
    let figures = search(&heard.sinks, &heard.secrets);
    (heard, figures)
}

/// Asks the service and keeps what it answers.
struct Asking {
    address: std::net::SocketAddr,
    answers: Vec<(String, Answer)>,
}

impl Asking {
    async fn ask(&mut self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) {
        let answer = request(self.address, method, target, fields, body).await;
        self.answers.push((format!("{method} {target}"), answer));
    }

    /// Everything that a message can be refused for, in this client's name, with its own message at hand.
    async fn provoke(&mut self, round: &str, phase: &str, owner: &Owner, others: &Owner, message: &[u8]) {
        let path = |client: &dyn std::fmt::Display, phase: &str| format!("/v1/rounds/{round}/{phase}/{client}");
        let own = path(&owner.client, phase);
        let mut wrong = message.to_vec();
        *wrong.last_mut().expect("not empty") ^= 1;
        self.ask("PUT", &own, &[], &wrong).await;
        let mut signature = message.to_vec();
        let at = signature.len().min(200) - 1;
        signature[at] ^= 1;
        self.ask("PUT", &own, &[], &signature).await;
        self.ask("PUT", &own, &[], &message[..message.len() / 2]).await;
        self.ask("PUT", &own, &[], &owner.seed).await; // somebody pastes the wrong thing
        self.ask("PUT", &own, &[("content-encoding", "gzip")], message).await;
        self.ask("PUT", &own, &[], &vec![7; 1 << 20]).await;
        self.ask("PUT", &path(&others.client, phase), &[], message).await;
        self.ask("PUT", &path(&owner.client, "unmask"), &[], message).await;
        self.ask("PUT", &path(&owner.client, "advertise"), &[], message).await;
        self.ask("GET", &format!("/v1/rounds/{round}/core"), &[], b"").await;
        self.ask("GET", &format!("/v1/rounds/{round}/core"), &[("veilsum-read", &hex::encode(message))], b"").await;
        self.ask("GET", &format!("/v1/rounds/{round}/leaves?i=0,0"), &[], b"").await;
        self.ask("DELETE", &own, &[], b"").await;
    }
}

async fn listen(stepping_client: &Path) -> Heard {
    let shape = Shape { model_len: 64, ..Shape::patient(CLIENTS as u32) };
    let deployment = Deployment::start(CLIENTS as u32, &task_file(&shape), "trace");
    let address = lookup_host(deployment.address()).await.expect("an address").next().expect("one");
    let mut asking = Asking { address, answers: Vec::new() };
    let mut clients = deployment.clients(stepping_client, "trace");
    let mut journals = vec![Journal::default(); CLIENTS];
    let mut known = vec![Known::default(); CLIENTS];
    let mut secrets = deployment_secrets(&deployment);
    let mut left = CLIENTS;
    while left > 0 {
        let (number, step) = clients.next();
        let owner = &deployment.owners[number];
        journals[number] = Journal::open(&owner.state, owner.saving_key).expect("its state").after(&journals[number]);
        known[number].learn(&journals[number], number);
        if step == "over" {
            left -= 1;
            continue;
        }
        let message = journals[number].message().to_vec();
        if step == "mask" {
            secrets.push(Secret::new(format!("masked input of {number}"), &message[message.len() - 32..]));
        }
        let header = Statement::decode(journals[number].header_bytes(), labels::HEADER).expect("it was read");
        let other = &deployment.owners[(number + 1) % CLIENTS];
        asking.provoke(&round_of(&header.root()).to_string(), &step, owner, other, &message).await;
        if number == 0 && step == "mask" {
            secrets.push(sums_key(&deployment, &secrets[0]).await);
        }
        clients.go(number);
    }
    secrets.extend(known.iter().flat_map(Known::secrets));
    operate(&deployment, &mut asking).await;
    let mut sinks = misuse(&deployment);
    break_database(&deployment, &mut asking).await;
    drop(clients);
    sinks.extend(asking.answers.iter().map(|(asked, answer)| Sink { name: asked.clone(), bytes: answer.body.clone() }));
    sinks.extend(files(deployment.folder.path(), &SAFES).expect("our folder"));
    let mut statuses: Vec<u16> = asking.answers.iter().map(|(_, answer)| answer.status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    Heard { sinks, secrets, statuses }
}

fn deployment_secrets(deployment: &Deployment) -> Vec<Secret> {
    let service = [
        ("service key", "service/sealing.key"),
        ("aggregator key", "service/aggregator.key"),
        ("checkpoint key", "service/checkpoint.key"),
        ("admin token", "admin.token"),
    ];
    let mut secrets: Vec<Secret> =
        service.into_iter().map(|(name, path)| Secret::new(name, deployment.service_secret(path))).collect();
    for (number, owner) in deployment.owners.iter().enumerate() {
        secrets.push(Secret::new(format!("identity seed of {number}"), owner.seed));
        secrets.push(Secret::new(format!("saving key of {number}"), owner.saving_key));
    }
    // Every signed read statement begins so: label, version.
    secrets.push(Secret::new("a read permit", b"\x0eveilsum/1/read\x01\x00".as_slice()));
    secrets
}

async fn sums_key(deployment: &Deployment, service_key: &Secret) -> Secret {
    let row = database(deployment, "SELECT round, sealed FROM round_keys").await.expect("one round is open");
    let round: [u8; 16] = row.get::<Vec<u8>, _>(0).try_into().expect("16 bytes");
    let service_key: [u8; 32] = service_key.bytes.clone().try_into().expect("32 bytes");
    Secret::new("round key", round_key(&row.get::<Vec<u8>, _>(1), &service_key, &round))
}

async fn database(deployment: &Deployment, statement: &'static str) -> Option<sqlx::any::AnyRow> {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite:{}", deployment.folder.path().join("data/veilsum.sqlite").display());
    let pool = sqlx::AnyPool::connect(&url).await.expect("the service's database");
    let row = sqlx::query(statement).fetch_optional(&pool).await.expect("a statement");
    pool.close().await;
    row
}

/// What operators ask: metrics, health, the admin API with its token, with another, and with none.
async fn operate(deployment: &Deployment, asking: &mut Asking) {
    let public = asking.address;
    asking.address = deployment.operations.parse().expect("an address");
    for path in ["/metrics", "/healthz", "/readyz", "/nothing"] {
        asking.ask("GET", path, &[], b"").await;
    }
    let admin = deployment.serving["admin"]["listen"].as_str().expect("an address");
    asking.address = admin.parse().expect("an address");
    let token = format!("Bearer {}", hex::encode(deployment.service_secret("admin.token")));
    for (path, token) in [
        ("/admin/v1/status", token.as_str()),
        ("/admin/v1/rounds", &token),
        ("/admin/v1/tasks", &token),
        ("/admin/v1/nothing", &token),
        ("/admin/v1/status", "Bearer 00"),
    ] {
        asking.ask("GET", path, &[("authorization", token)], b"").await;
    }
    asking.ask("POST", "/admin/v1/tasks", &[("authorization", &token)], b"format = 7").await;
    asking.address = public;
}

/// Clients that are set up wrongly say what is wrong: at their loudest, too.
fn misuse(deployment: &Deployment) -> Vec<Sink> {
    let owner = &deployment.owners[0];
    let text = std::fs::read_to_string(&owner.identity).expect("an identity");
    let seed = hex::encode(owner.seed);
    let state = deployment.folder.path().join("state-misuse");
    let cases = [
        ("another seed", text.replace(&seed, &format!("{}00", &seed[..62])), 0o600),
        ("a seed too short", text.replace(&seed, &seed[..60]), 0o600),
        ("a key too many", format!("{text}\nmore = \"{seed}\"\n"), 0o600),
        ("no TOML", text.replace('=', ":"), 0o600),
        ("open to others", text.clone(), 0o644),
    ];
    let mut sinks = Vec::new();
    for (name, text, mode) in cases {
        let identity = deployment.folder.path().join("identity-misuse.toml");
        std::fs::write(&identity, text).expect("room");
        std::fs::set_permissions(&identity, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("ours");
        sinks.extend(join(deployment, name, &identity, &state));
        std::fs::remove_file(&identity).expect("ours");
    }
    std::fs::write(&state, owner.seed).expect("room"); // not sealed at all
    sinks.extend(join(deployment, "a state that is none", &owner.identity, &state));
    let _ = std::fs::remove_file(&state);
    sinks
}

fn join(deployment: &Deployment, name: &str, identity: &Path, state: &Path) -> [Sink; 2] {
    let vector = deployment.folder.path().join("update.safetensors");
    let values: Vec<f32> = (0..64).map(|at| value_at(0, at)).collect();
    std::fs::write(&vector, veilsum_aggregator::round::learn::to_bytes(&values)).expect("room");
    let said = Command::new(veilsum_program())
        .args(["join", "--within", "1", "--vector"])
        .arg(vector)
        .arg("--join")
        .arg(deployment.join())
        .arg("--identity")
        .arg(identity)
        .arg("--state")
        .arg(state)
        .env("RUST_LOG", "trace")
        .output()
        .expect("it was built");
    [
        Sink { name: format!("join with {name}: stdout"), bytes: said.stdout },
        Sink { name: format!("join with {name}: stderr"), bytes: said.stderr },
    ]
}

/// A fault of the service itself: a table is gone.
async fn break_database(deployment: &Deployment, asking: &mut Asking) {
    database(deployment, "ALTER TABLE models RENAME TO lost").await;
    asking.ask("GET", &format!("/v1/models/{}", Digest([7; 32])), &[], b"").await;
}
