//! Tasks and rounds as an operator looks at them: what stands in the store, in words and numbers. docs/admin.md
//!
//! Everything here is read from the store or follows from a task file; nothing of it is asked by the protocol.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use veilsum_crypto::ids::{Digest, RoundId, TaskId};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::{CoreSet, Outcome, RoundResult, Survivors};
use veilsum_crypto::primitives::signature::Statement;
use veilsum_crypto::server::{Phase, PhaseKind, StatementKind};
use veilsum_crypto::statistics::SumOf;

use super::{RoundError, Rounds, View, epsilon_spent, learn};
use crate::store::{LedgerRow, Standing, Store, StoreError, TaskRow};
use crate::task::plan::{self, PrivacyPlan, RosterPlan, RosterView};
use crate::task::query::Answer;
use crate::task::{Task, TaskError, TaskFile};

/// One round.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/admin.md says what each is")]
pub struct RoundOverview {
    pub round: String,
    pub context: String,
    pub task: String,
    pub counter: u64,
    pub phase: &'static str,
    pub opened_us: u64,
    pub phase_opened_us: u64,
    pub over_us: Option<u64>,
    pub due_us: Option<u64>,
    pub enough: Option<u32>,
    pub admitted: BTreeMap<&'static str, u32>,
    pub roster: Option<RosterView>,
    pub core: Option<u32>,
    pub survivors: Option<u32>,
    pub outcome: Option<&'static str>,
    pub abandoned: Option<AbandonedOverview>,
    pub charge: &'static str,
    pub epsilon: Option<f64>,
    pub revocation_number: u64,
    pub faults: Vec<FaultOverview>,
    pub export: &'static str,
    pub answer: Option<Answer>,
}

/// Why a round was abandoned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/admin.md says what each is")]
pub struct AbandonedOverview {
    pub reason: &'static str,
    pub detail: String,
}

/// Who is named.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/admin.md says what each is")]
pub struct FaultOverview {
    pub client: String,
    pub phase: &'static str,
    pub rule: String,
}

/// One task.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/admin.md says what each is")]
pub struct TaskOverview {
    pub task: String,
    pub name: String,
    pub rounds: u64,
    pub counter: u64,
    pub is_open: bool,
    pub model: String,
    pub created: bool,
    pub file: String,
    pub query: Option<QueryOverview>,
    pub params: ParamsOverview,
    pub rosters: Vec<RosterPlan>,
    pub privacy: PrivacyPlan,
    pub warnings: Vec<String>,
}

impl TaskOverview {
    /// Of a task that is nowhere yet, with its first model: what creating it would answer.
    ///
    /// # Errors
    /// [`LearnError`](learn::LearnError) of a model that does not fit.
    pub fn planned(task: &Task, model: &[u8]) -> Result<Self, learn::LearnError> {
        learn::is_first_model(task, model)?;
        let digest = Digest(Sha256::digest(model).into());
        let row = TaskRow { task: task.id, file: task.text.clone(), model: digest, counter: 0, open: false };
        Ok(Self { created: false, ..describe(task, &row, None) })
    }
}

/// What a task asks, where it trains no model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/admin.md says what each is")]
pub struct QueryOverview {
    pub layout: String,
    pub words: String,
    pub text: String,
}

/// What a task's rounds have in common.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/admin.md says what each is")]
pub struct ParamsOverview {
    pub invited: u32,
    pub roster_min: u32,
    pub roster_max: u32,
    pub cohort_min: u32,
    pub corrupt_fraction: f64,
    pub dropout_tolerance: f64,
    pub security_bits: u16,
    pub completion_bits: u16,
    pub model_len: u32,
    pub vector_len: u32,
    pub weight_max: u32,
    pub ring_bits: u8,
    pub packed_bytes: usize,
    pub clip_norm: f64,
    pub scale: f64,
    pub noise_multiplier: f64,
    pub dp_delta: f64,
    pub windows_ms: [u32; 7],
    pub grace_ms: u64,
}

/// A phase as addresses name it.
pub fn phase_word(phase: PhaseKind) -> &'static str {
    match phase {
        PhaseKind::Advertising => "advertise",
        PhaseKind::Sharing => "share",
        PhaseKind::Acknowledging => "acknowledge",
        PhaseKind::Opening => "open",
        PhaseKind::Masking => "mask",
        PhaseKind::Confirming => "confirm",
        PhaseKind::Unmasking => "unmask",
        PhaseKind::Published => "published",
        PhaseKind::Abandoned => "abandoned",
    }
}

impl<S: Store> Rounds<S> {
    /// A round, over or not.
    pub async fn overview(&self, round: RoundId) -> Result<RoundOverview, RoundError> {
        let standing = self.store.standing().await?;
        let view = self.view(round).await?;
        let ledger = self.store.ledger(view.facts.header.task).await?;
        self.overview_of(&view, &standing, &ledger).await
    }

    /// Rounds that are not over.
    pub async fn open_overviews(&self) -> Result<Vec<RoundOverview>, RoundError> {
        let standing = self.store.standing().await?;
        let mut found = Vec::new();
        for stand in &standing {
            let view = self.view(stand.round).await?;
            found.push(self.overview_of(&view, &standing, &self.store.ledger(stand.task).await?).await?);
        }
        Ok(found)
    }

    /// Rounds, newest first: of one task those with a counter below `before`, else the newest of each task.
    pub async fn overviews(
        &self,
        task: Option<TaskId>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RoundOverview>, RoundError> {
        let tasks = self.store.tasks().await?;
        if task.is_some_and(|task| tasks.iter().all(|row| row.task != task)) {
            return Err(RoundError::Unknown("task"));
        }
        let standing = self.store.standing().await?;
        let mut found = Vec::new();
        for row in tasks.iter().filter(|row| task.is_none_or(|task| row.task == task)) {
            let ledger = self.store.ledger(row.task).await?;
            for (round, ..) in self.store.rounds(row.task, before, limit).await? {
                let view = self.view(round).await?;
                found.push(self.overview_of(&view, &standing, &ledger).await?);
            }
        }
        Ok(found)
    }

    async fn overview_of(
        &self,
        view: &View,
        standing: &[Standing],
        ledger: &[LedgerRow],
    ) -> Result<RoundOverview, RoundError> {
        let round = view.round;
        let over = self.store.load(round).await?.ok_or(RoundError::Unknown("round"))?.over;
        let stand = standing.iter().find(|stand| stand.round == round);
        let invited = match stand {
            Some(stand) => self.invited(stand).await?,
            None => 0,
        };
        let header = &view.facts.header;
        let roster = view.phase.assembly().map(|assembly| assembly.params());
        let result = self.statement_of(round, StatementKind::Result).await?;
        let result = result.map(RoundResult::from_statement).transpose().map_err(damaged)?;
        let charge = self.charge_of(view, ledger);
        let faults = self.store.faults(round).await?;
        Ok(RoundOverview {
            round: round.to_string(),
            context: view.facts.chain.context.to_string(),
            task: header.task.to_string(),
            counter: header.counter,
            phase: phase_word(view.phase.kind()),
            opened_us: header.opened_at.0,
            phase_opened_us: view.opened.0,
            over_us: over.map(|over| over.0),
            due_us: stand.map(|stand| self.due(view, stand).0),
            enough: stand.and_then(|_| view.phase.enough(invited)),
            admitted: self.admitted(round).await?,
            roster: roster.map(RosterView::from),
            core: self.count_of(view, StatementKind::Core).await?,
            survivors: self.count_of(view, StatementKind::Survivors).await?,
            outcome: result.map(|result| match result.outcome() {
                Outcome::Released => "released",
                Outcome::NotOpened => "not-opened",
            }),
            abandoned: match &view.phase {
                Phase::Abandoned(reason, _) => {
                    Some(AbandonedOverview { reason: reason.word(), detail: reason.to_string() })
                }
                _ => None,
            },
            charge,
            epsilon: veilsum_crypto::client::policy::round_charge_of(&header.params)
                .map(|curve| curve.epsilon(header.params.dp_delta).epsilon),
            revocation_number: header.revocation_number,
            faults: faults
                .into_iter()
                .map(|fault| FaultOverview {
                    client: fault.client.to_string(),
                    phase: phase_word(fault.phase),
                    rule: format!("R-{:02}", fault.rule),
                })
                .collect(),
            export: match (view.gone(), roster) {
                (None, _) => "running",
                (Some(_), Some(_)) if !self.store.has_bodies(round).await? => "erased",
                (Some(_), _) => "ready",
            },
            answer: self.answer(view).await?,
        })
    }

    /// What a released sum tells, where the task asks a query.
    async fn answer(&self, view: &View) -> Result<Option<Answer>, RoundError> {
        let (Phase::Published(_), Some(assembly)) = (&view.phase, view.phase.assembly()) else { return Ok(None) };
        let header = &view.facts.header;
        if self.task(header.task).is_none() {
            self.load_tasks().await?;
        }
        let task = self.task(header.task).ok_or(RoundError::Unknown("task"))?;
        let Some(query) = &task.query else { return Ok(None) };
        let survivors = self.count_of(view, StatementKind::Survivors).await?;
        let result = self.store.statement(view.round, StatementKind::Result).await?;
        let (Some(survivors), Some((_, packed))) = (survivors, result) else { return Ok(None) };
        if packed.is_empty() {
            return Ok(None); // not opened
        }
        let sum =
            RingVector::unpack(&packed, header.params.vector_len as usize, header.params.ring_bits).map_err(damaged)?;
        let of = SumOf { params: &header.params, roster: assembly.params().n, survivors };
        Ok(Some(Answer::of(query, &sum, of).map_err(damaged)?))
    }

    fn charge_of(&self, view: &View, ledger: &[LedgerRow]) -> &'static str {
        let header = &view.facts.header;
        match ledger.iter().find(|row| row.counter == header.counter) {
            _ if header.params.total_variance == 0 => "none",
            Some(row) if row.spent => "spent",
            Some(_) => "reserved",
            None => "lapsed",
        }
    }

    async fn admitted(&self, round: RoundId) -> Result<BTreeMap<&'static str, u32>, RoundError> {
        let counts = self.store.admitted(round).await?;
        let phases = PhaseKind::ALL.into_iter().filter(|phase| !phase.is_over());
        Ok(phases.map(|phase| (phase_word(phase), counts.get(&phase).copied().unwrap_or(0))).collect())
    }

    async fn statement_of(&self, round: RoundId, kind: StatementKind) -> Result<Option<Statement>, RoundError> {
        let found = self.store.statement(round, kind).await?;
        Ok(found.map(|(bytes, _)| Statement::decode(&bytes, kind.label())).transpose().map_err(damaged)?)
    }

    /// How many a core or a survivor list names.
    async fn count_of(&self, view: &View, kind: StatementKind) -> Result<Option<u32>, RoundError> {
        let Some(n) = view.phase.assembly().map(|assembly| assembly.params().n) else { return Ok(None) };
        let Some(statement) = self.statement_of(view.round, kind).await? else { return Ok(None) };
        let count = if kind == StatementKind::Core {
            CoreSet::from_statement(statement, n).map(|core| core.members().count())
        } else {
            Survivors::from_statement(statement, n).map(|survivors| survivors.members().count())
        };
        Ok(Some(count.map_err(damaged)?))
    }

    /// All tasks, by id.
    pub async fn task_overviews(&self) -> Result<Vec<TaskOverview>, RoundError> {
        self.load_tasks().await?;
        let mut found = Vec::new();
        for row in self.store.tasks().await? {
            found.push(self.task_overview_of(&row).await?);
        }
        Ok(found)
    }

    /// One task.
    pub async fn task_overview(&self, task: TaskId) -> Result<TaskOverview, RoundError> {
        self.load_tasks().await?;
        let rows = self.store.tasks().await?;
        let row = rows.iter().find(|row| row.task == task).ok_or(RoundError::Unknown("task"))?;
        self.task_overview_of(row).await
    }

    async fn task_overview_of(&self, row: &TaskRow) -> Result<TaskOverview, RoundError> {
        let task = self.task(row.task).ok_or(RoundError::Unknown("task"))?;
        let spent = epsilon_spent(&self.store.ledger(row.task).await?, task.file.dp_delta);
        let row = row.clone();
        let overview = self.host.workers.run(move || describe(&task, &row, spent)).await;
        overview.map_err(RoundError::Defect)
    }

    /// Creates a task from the text of its file; whether it is new. Its first model is one that was put before, or zeros. With
    /// `only_check` nothing is created.
    ///
    /// # Errors
    /// [`RoundError::Malformed`], [`RoundError::Unacceptable`] for a task that could not hold, [`RoundError::Conflict`] if
    /// another file has its name, [`RoundError::Unknown`] for the model.
    pub async fn create(
        &self,
        text: &str,
        model: Option<Digest>,
        only_check: bool,
    ) -> Result<(TaskOverview, bool), RoundError> {
        let text = text.to_string();
        let judged = self
            .host
            .workers
            .run(move || TaskFile::parse(&text).and_then(Task::new))
            .await
            .map_err(RoundError::Defect)?;
        let task = Arc::new(judged.map_err(refused)?);
        match self.store.tasks().await?.into_iter().find(|row| row.task == task.id) {
            Some(row) if row.file == task.text => return Ok((self.task_overview(row.task).await?, false)),
            Some(_) => return Err(RoundError::exists_otherwise(&task.file)),
            None => {}
        }
        let model = match model {
            None => learn::first_model(&task),
            Some(digest) => self.store.model(digest).await?.ok_or(RoundError::Unknown("model"))?,
        };
        let described = {
            let (task, model) = (Arc::clone(&task), model.clone());
            self.host.workers.run(move || TaskOverview::planned(&task, &model)).await.map_err(RoundError::Defect)?
        };
        let planned = described.map_err(|error| RoundError::Unacceptable { rule: None, why: error.to_string() })?;
        if only_check {
            return Ok((planned, false));
        }
        let id = self.store_task(task, &model).await?;
        Ok((self.task_overview(id).await?, true))
    }
}

fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(error.to_string())
}

fn refused(error: TaskError) -> RoundError {
    match error {
        TaskError::Toml(_) | TaskError::Format(_) | TaskError::Goal(_) => RoundError::Malformed(error.to_string()),
        other => RoundError::Unacceptable { rule: None, why: other.to_string() },
    }
}

/// Computes for some milliseconds.
fn describe(task: &Task, row: &TaskRow, epsilon_spent: Option<f64>) -> TaskOverview {
    let (file, params) = (&task.file, &task.params);
    TaskOverview {
        task: task.id.to_string(),
        name: file.name.clone(),
        rounds: file.rounds,
        counter: row.counter,
        is_open: row.open,
        model: row.model.to_string(),
        created: true,
        file: row.file.clone(),
        query: task.query.as_ref().map(|query| QueryOverview {
            layout: task.layout.to_string(),
            words: query.in_words(),
            text: query.text(),
        }),
        params: ParamsOverview {
            invited: file.invited,
            roster_min: params.roster_min,
            roster_max: params.roster_max,
            cohort_min: params.cohort_min,
            corrupt_fraction: file.corrupt_fraction,
            dropout_tolerance: file.dropout_tolerance,
            security_bits: params.security_bits,
            completion_bits: params.completion_bits,
            model_len: file.model_len,
            vector_len: params.vector_len,
            weight_max: params.weight_max,
            ring_bits: params.ring_bits.get(),
            packed_bytes: params.packed_bytes(),
            clip_norm: params.clip_norm,
            scale: params.scale,
            noise_multiplier: file.noise_multiplier,
            dp_delta: params.dp_delta,
            windows_ms: params.windows.0,
            grace_ms: file.grace_ms,
        },
        rosters: plan::rosters(task, learn::model_bytes(task)),
        privacy: plan::privacy(task, epsilon_spent),
        warnings: plan::warnings(task),
    }
}
