//! Everything that clients read. docs/wire.md §8.2
//!
//! A read checks who asks, waits until what it wants is settled, and answers 200; 204 if it did not come in time; 410 if it
//! never will.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, RoundId, TaskId};
use veilsum_crypto::messages::Opening;
use veilsum_crypto::rules::Abandonment;
use veilsum_crypto::server::{Phase, PhaseKind, StatementKind};

use super::{App, Problem, wire};
use crate::round::{Gone, RoundError, Rounds, View};
use crate::store::Store;

/// Indices of one request for leaves.
const LEAVES_MAX: usize = 512;

type Answered = Result<Response, Problem>;

/// Bytes that many answers share.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn shared(bytes: Arc<Vec<u8>>) -> Response {
    octets(Bytes::from_owner(Shared(bytes)))
}

fn octets(bytes: impl Into<Bytes>) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], bytes.into()).into_response()
}

fn nothing_yet() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Count, then each item preceded by its length.
fn listed<'a>(items: impl ExactSizeIterator<Item = &'a Vec<u8>>) -> Response {
    let mut out = (items.len() as u16).to_le_bytes().to_vec();
    for item in items {
        veilsum_crypto::primitives::codec::write_prefixed(&mut out, item);
    }
    octets(out)
}

/// `GET /v1/tasks/{task}/header?after=&wait=`
pub async fn newest_header<S: Store>(State(app): State<App<S>>, Path(task): Path<String>, uri: Uri) -> Answered {
    let task = TaskId::from_hex(&task).ok_or_else(|| Problem::unknown("task"))?;
    let query = wire::Query::new(&uri, &["after", "wait"])?;
    let _slot = app.reads.try_acquire().map_err(|_| RoundError::Busy)?;
    let found = app.rounds.newest_header(task, query.number("after")?, query.wait()?).await?;
    Ok(found.map_or_else(nothing_yet, octets))
}

/// `GET /v1/rounds/{round}/header`
pub async fn header<S: Store>(State(app): State<App<S>>, Path(round): Path<String>) -> Answered {
    let round = wire::round(&round)?;
    let _slot = app.reads.try_acquire().map_err(|_| RoundError::Busy)?;
    Ok(shared(app.rounds.statement(round, StatementKind::Header).await?))
}

/// `GET …/roster`: the signed statement, then ids and leaf digests.
pub async fn roster<S: Store>(app: State<App<S>>, round: Path<String>, uri: Uri, headers: HeaderMap) -> Answered {
    statement(app, round, uri, headers, StatementKind::Roster, PhaseKind::Advertising).await
}

/// `GET …/core`
pub async fn core<S: Store>(app: State<App<S>>, round: Path<String>, uri: Uri, headers: HeaderMap) -> Answered {
    statement(app, round, uri, headers, StatementKind::Core, PhaseKind::Opening).await
}

/// `GET …/survivors`
pub async fn survivors<S: Store>(app: State<App<S>>, round: Path<String>, uri: Uri, headers: HeaderMap) -> Answered {
    statement(app, round, uri, headers, StatementKind::Survivors, PhaseKind::Masking).await
}

/// `GET …/result`: the signed statement, then the packed sum.
pub async fn result<S: Store>(app: State<App<S>>, round: Path<String>, uri: Uri, headers: HeaderMap) -> Answered {
    statement(app, round, uri, headers, StatementKind::Result, PhaseKind::Unmasking).await
}

/// A statement that stands once `after` has closed.
async fn statement<S: Store>(
    State(app): State<App<S>>,
    Path(round): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    kind: StatementKind,
    after: PhaseKind,
) -> Answered {
    let read = Read::start(&app, &round, &uri, &headers, &["wait"]).await?;
    match read.settled(after, kind == StatementKind::Result).await? {
        None => Ok(nothing_yet()),
        Some(()) => Ok(shared(app.rounds.statement(read.round, kind).await?)),
    }
}

/// A read of one round, its sender checked.
struct Read<'a, S> {
    app: &'a App<S>,
    round: RoundId,
    reader: wire::Reader,
    wait: std::time::Duration,
    _slot: tokio::sync::SemaphorePermit<'a>,
}

impl<'a, S: Store> Read<'a, S> {
    async fn start(
        app: &'a App<S>,
        round: &str,
        uri: &Uri,
        headers: &HeaderMap,
        known: &[&str],
    ) -> Result<Self, Problem> {
        let round = wire::round(round)?;
        let wait = wire::Query::new(uri, known)?.wait()?;
        let view = app.rounds.view(round).await?;
        let reader = wire::reader(&app.rounds, &view, uri, headers).await?;
        let slot = app.reads.try_acquire().map_err(|_| RoundError::Busy)?;
        Ok(Self { app, round, reader, wait, _slot: slot })
    }

    /// Waits until `after` has closed. What a round that was abandoned before cannot have is gone.
    async fn settled(&self, after: PhaseKind, is_result: bool) -> Result<Option<()>, Problem> {
        let settled = |view: &View| match &view.phase {
            Phase::Published(_) => Some(Ok(())),
            // The one abandonment with a result: the sum could not be opened.
            Phase::Abandoned(Abandonment::NotOpened, _) if is_result => Some(Ok(())),
            Phase::Abandoned(reason, _) => Some(if reached(*reason) > after && !is_result {
                Ok(())
            } else {
                Err(RoundError::Gone(Gone::Abandoned(*reason)))
            }),
            open => (open.kind() > after).then_some(Ok(())),
        };
        match self.app.rounds.wait_for(self.round, self.wait, settled).await? {
            None => Ok(None),
            Some(Ok(())) => Ok(Some(())),
            Some(Err(gone)) => Err(gone.into()),
        }
    }

    /// The newest view, which has a roster.
    async fn view(&self) -> Result<Arc<View>, Problem> {
        Ok(self.app.rounds.view(self.round).await?)
    }

    /// Bodies of a phase. For members they are erased with the round; auditors have them while they are kept for its export. §8.2
    async fn bodies(
        &self,
        phase: PhaseKind,
        clients: Option<&[ClientId]>,
    ) -> Result<std::collections::BTreeMap<ClientId, Vec<u8>>, Problem> {
        let bodies = self.app.rounds.bodies(self.round, phase, clients).await?;
        let is_erased = bodies.is_empty() || self.reader != wire::Reader::Auditor;
        if self.view().await?.gone().is_some() && is_erased {
            return Err(RoundError::Gone(Gone::Erased).into());
        }
        Ok(bodies)
    }
}

/// The phase in which a round was abandoned: statements before it stand.
fn reached(reason: Abandonment) -> PhaseKind {
    match reason {
        Abandonment::RosterTooSmall | Abandonment::Infeasible => PhaseKind::Advertising,
        Abandonment::CoreTooSmall => PhaseKind::Sharing,
        Abandonment::TooFewSurvivors => PhaseKind::Masking,
        Abandonment::NotConfirmed => PhaseKind::Confirming,
        Abandonment::NotOpened => PhaseKind::Unmasking,
    }
}

/// `GET …/leaves?i=0,5,17`: for each index in the order asked, length and leaf.
pub async fn leaves<S: Store>(
    State(app): State<App<S>>,
    Path(round): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    let indices = leaf_indices(wire::Query::new(&uri, &["i", "wait"])?.get("i").unwrap_or(""))?;
    let read = Read::start(&app, &round, &uri, &headers, &["i", "wait"]).await?;
    if read.settled(PhaseKind::Advertising, false).await?.is_none() {
        return Ok(nothing_yet());
    }
    let view = read.view().await?;
    let clients = Rounds::<S>::clients_at(&view, &indices)
        .ok_or_else(|| Problem::malformed("leaf indices below n were expected"))?;
    let bodies = read.bodies(PhaseKind::Advertising, Some(&clients)).await?;
    let mut out = Vec::new();
    for client in clients {
        let leaf = bodies.get(&client).ok_or(RoundError::Gone(Gone::Erased))?;
        veilsum_crypto::primitives::codec::write_prefixed(&mut out, leaf);
    }
    Ok(octets(out))
}

fn leaf_indices(text: &str) -> Result<Vec<LeafIndex>, Problem> {
    let wrong = || {
        Problem::malformed(format!("i must be 1 to {LEAVES_MAX} leaf indices, none twice, separated by single commas"))
    };
    let indices: Vec<LeafIndex> = text
        .split(',')
        .take(LEAVES_MAX + 1)
        .map(|index| wire::decimal(index).and_then(|index| u32::try_from(index).ok()).map(LeafIndex).ok_or_else(wrong))
        .collect::<Result<_, _>>()?;
    let distinct: std::collections::BTreeSet<_> = indices.iter().collect();
    if distinct.len() == indices.len() && indices.len() <= LEAVES_MAX { Ok(indices) } else { Err(wrong()) }
}

/// `GET …/confirmations`
pub async fn confirmations<S: Store>(
    State(app): State<App<S>>,
    Path(round): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    let read = Read::start(&app, &round, &uri, &headers, &["wait"]).await?;
    if read.settled(PhaseKind::Confirming, false).await?.is_none() {
        return Ok(nothing_yet());
    }
    Ok(listed(read.bodies(PhaseKind::Confirming, None).await?.values()))
}

/// `GET …/{mail|complaints|openings|uploads}/{client}`: for that client, and for auditors while the round runs.
pub async fn of_client<S: Store>(
    State(app): State<App<S>>,
    Path((round, kind, client)): Path<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    let client = wire::client(&client)?;
    let after = match kind.as_str() {
        "mail" => PhaseKind::Sharing,
        "complaints" => PhaseKind::Acknowledging,
        "openings" => PhaseKind::Opening,
        "uploads" => PhaseKind::Masking,
        _ => return Err(Problem::unknown("path")),
    };
    let read = Read::start(&app, &round, &uri, &headers, &["wait"]).await?;
    if !matches!(read.reader, wire::Reader::Auditor) && read.reader != wire::Reader::Member(client) {
        return Err(RoundError::Forbidden { rule: 35, why: "this is for another client" }.into());
    }
    if read.settled(after, false).await?.is_none() {
        return Ok(nothing_yet());
    }
    let view = read.view().await?;
    let Some(assembly) = view.phase.assembly() else { return Err(RoundError::Gone(Gone::Erased).into()) };
    let (leaf, _) = assembly.find(client).map_err(RoundError::from)?;
    if view.gone().is_some() {
        return Err(RoundError::Gone(Gone::Erased).into()); // mail, openings and upload statements end with the round
    }
    match after {
        PhaseKind::Sharing => {
            let mail = app.rounds.store().mail(read.round, client).await.map_err(RoundError::from)?;
            Ok(listed(mail.iter()))
        }
        PhaseKind::Acknowledging => match &view.phase {
            // Once the core is fixed nobody opens anything any more.
            Phase::Opening(opening) => {
                let complainers = opening.complainers(leaf);
                Ok(listed(read.bodies(PhaseKind::Acknowledging, Some(&complainers)).await?.values()))
            }
            _ => Ok(listed(std::iter::empty())),
        },
        PhaseKind::Opening => {
            let mut openings = app.rounds.bodies(read.round, PhaseKind::Opening, None).await?;
            let degree = assembly.params().degree;
            openings.retain(|_, body| {
                Opening::decode(body, degree).is_ok_and(|opening| opening.edges().contains_key(&leaf))
            });
            Ok(listed(openings.values()))
        }
        _ => {
            let alive = survivors_of(&view);
            let neighbours =
                assembly.order().neighbours(leaf).into_iter().filter(|leaf| alive.is_none_or(|alive| alive.has(*leaf)));
            let neighbours: Vec<ClientId> = neighbours.map(|leaf| assembly.roster().client(leaf)).collect();
            Ok(listed(read.bodies(PhaseKind::Masking, Some(&neighbours)).await?.values()))
        }
    }
}

fn survivors_of(view: &View) -> Option<&veilsum_crypto::messages::Bitmap> {
    match &view.phase {
        Phase::Confirming(phase) => Some(phase.survivors().members()),
        Phase::Unmasking(phase) => Some(phase.survivors().members()),
        _ => None,
    }
}

/// `GET /v1/models/{hash}`
pub async fn model<S: Store>(State(app): State<App<S>>, Path(hash): Path<String>) -> Answered {
    let digest = Digest::from_hex(&hash).ok_or_else(|| Problem::unknown("model"))?;
    let _slot = app.reads.try_acquire().map_err(|_| RoundError::Busy)?;
    Ok(shared(app.rounds.model(digest).await?))
}

/// `GET /v1/revocations/{digest}`
pub async fn revocations<S: Store>(State(app): State<App<S>>, Path(digest): Path<String>) -> Answered {
    let digest = Digest::from_hex(&digest).ok_or_else(|| Problem::unknown("revocation list"))?;
    let _slot = app.reads.try_acquire().map_err(|_| RoundError::Busy)?;
    Ok(shared(app.rounds.revocation_list(digest).await?))
}

/// `GET /v1/log/checkpoint`
pub async fn checkpoint<S: Store>(State(app): State<App<S>>) -> Answered {
    let _slot = app.reads.try_acquire().map_err(|_| RoundError::Busy)?;
    Ok(app.rounds.checkpoint().await?.into_response())
}

/// `GET /v1/log/consistency?from=&to=`: count u8, then 32 bytes each.
pub async fn consistency<S: Store>(State(app): State<App<S>>, uri: Uri) -> Answered {
    let query = wire::Query::new(&uri, &["from", "to"])?;
    let _slot = app.reads.try_acquire().map_err(|_| RoundError::Busy)?;
    let path = app.rounds.log_growth(query.number("from")?, query.number("to")?).await?;
    let mut out = vec![u8::try_from(path.len()).expect("at most two nodes a level of a 64-level tree")];
    path.iter().for_each(|node| out.extend(node.0));
    Ok(octets(out))
}
