//! A round of real processes, looked at while they hold its secrets and after it.

use std::path::Path;

use sqlx::Row as _;

use super::{Found, Journal, Known, Secret, round_key, scan};
use crate::deployment::{Deployment, Stepping};
use crate::world::{Shape, task_file};

const CLIENTS: usize = 6;
/// Is looked at.
const SCANNED: usize = 0;
/// Deals and vanishes before it uploads: its masking key is rebuilt.
const LOST: usize = 5;

/// What was seen, in order.
#[derive(Clone, Debug)]
pub struct Scans {
    /// The client, which has dealt and acknowledged: the control, its secrets are there.
    pub acknowledged: Found,
    /// The client, which has masked: its own keys have done their work.
    pub masked: Found,
    /// The client after the round.
    pub over: Found,
    /// The client after its `Participant` was dropped: identity and saving key.
    pub dropped: Found,
    /// The service while answers come in.
    pub service_open: Found,
    /// The service after the round.
    pub service_over: Found,
}

/// E12: plays a round, one client lost, and looks.
pub async fn e12(stepping_client: &Path) -> Scans {
    let shape = Shape { model_len: 64, window_ms: 60_000, ..Shape::of(CLIENTS as u32) };
    let mut task = task_file(&shape);
    task.windows_ms[4] = 5_000; // masking ends without the one that is lost
    let deployment = Deployment::start(CLIENTS as u32, &task, "info");
    let mut clients = deployment.clients(stepping_client, "warn");
    let mut journals = vec![Journal::default(); CLIENTS];
    let mut known = vec![Known::default(); CLIENTS];
    let (mut acknowledged, mut masked, mut service_open) = (None, None, None);
    let service_key = deployment.service_secret("service/sealing.key");
    let mut service = vec![Secret::new("service key", service_key)];
    let mut left = CLIENTS - 1;
    while left > 0 {
        let (number, step) = clients.next();
        let owner = &deployment.owners[number];
        journals[number] = Journal::open(&owner.state, owner.saving_key).expect("its state").after(&journals[number]);
        known[number].learn(&journals[number], number);
        match (step.as_str(), number) {
            ("acknowledge", SCANNED) => acknowledged = Some(look(clients.pid(number), &known[number].secrets())),
            ("mask", SCANNED) => masked = Some(look(clients.pid(number), &known[number].secrets())),
            ("mask", LOST) => {
                clients.lose(number);
                let (round, sealed) = wrapped_key(&deployment).await;
                service.push(Secret::new("round key", round_key(&sealed, &service_key, &round)));
                continue;
            }
            ("unmask", SCANNED) => service_open = Some(look(deployment.pid(), &all(&known, &service))),
            ("over", _) => {
                left -= 1;
                continue;
            }
            _ => {}
        }
        clients.go(number);
    }
    let (over, service_over, dropped) = afterwards(&deployment, clients, &known, &service);
    let [acknowledged, masked, service_open] =
        [acknowledged, masked, service_open].map(|found| found.expect("the client came there"));
    Scans { acknowledged, masked, over, dropped, service_open, service_over }
}

fn afterwards(
    deployment: &Deployment,
    mut clients: Stepping,
    known: &[Known],
    service: &[Secret],
) -> (Found, Found, Found) {
    let over = look(clients.pid(SCANNED), &known[SCANNED].secrets());
    let service_over = look(deployment.pid(), &all(known, service));
    clients.go(SCANNED);
    while clients.next() != (SCANNED, "dropped".to_string()) {}
    let owner = &deployment.owners[SCANNED];
    let keys = [Secret::new("identity seed", owner.seed), Secret::new("saving key", owner.saving_key)];
    (over, service_over, look(clients.pid(SCANNED), &keys))
}

fn look(pid: u32, secrets: &[Secret]) -> Found {
    scan(pid, secrets).expect("a process of our own may be looked at")
}

fn all(known: &[Known], service: &[Secret]) -> Vec<Secret> {
    known.iter().flat_map(Known::secrets).chain(service.iter().cloned()).collect()
}

async fn wrapped_key(deployment: &Deployment) -> ([u8; 16], Vec<u8>) {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite:{}", deployment.folder.path().join("data/veilsum.sqlite").display());
    let pool = sqlx::AnyPool::connect(&url).await.expect("the service's database");
    let row = sqlx::query("SELECT round, sealed FROM round_keys").fetch_one(&pool).await.expect("one round is open");
    let found = (row.get::<Vec<u8>, _>(0).try_into().expect("16 bytes"), row.get(1));
    pool.close().await;
    found
}
