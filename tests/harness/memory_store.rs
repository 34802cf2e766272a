//! The store's twin in memory: the same answers, one lock, nothing durable.
//!
//! It is written against the trait's words, not against the SQL, so that the conformance suite
//! compares two readings of one text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use sha2::{Digest as _, Sha256};
use veilsum_aggregator::store::{
    Beats, Charge, Committed, FaultRow, Holder, Lease, LedgerRow, Loaded, LogHead, NewRound, Purged, Retention,
    RevocationRow, Standing, Store, StoreError, TaskRound, TaskRow, Version, ledger_entry, root_entry, statement_entry,
};
use veilsum_crypto::ids::{ClientId, Digest, Party, RoundId, TaskId, Timestamp};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::primitives::merkle;
use veilsum_crypto::server::{Accepted, Admitted, Effect, Keep, PhaseKind, Received, StatementKind};

/// A store for simulations.
#[derive(Default)]
pub struct MemoryStore(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    tasks: BTreeMap<TaskId, TaskRow>,
    models: BTreeMap<Digest, Vec<u8>>,
    rounds: BTreeMap<RoundId, Round>,
    statements: BTreeMap<(RoundId, StatementKind), (Vec<u8>, Vec<u8>)>,
    faults: BTreeMap<(RoundId, PhaseKind, ClientId), (u8, Vec<u8>)>,
    ledger: BTreeMap<(TaskId, u64), LedgerRow>,
    log: Vec<Digest>,
    opened: BTreeMap<(TaskId, u64), TaskRound>,
    revocations: BTreeMap<(Party, u64), RevocationRow>,
    leases: BTreeMap<RoundId, Leased>,
}

struct Leased {
    version: Version,
    holder: Holder,
    beats: i64,
    attempts: u32,
}

struct Round {
    task: TaskId,
    counter: u64,
    salt: [u8; 32],
    version: Version,
    phase: PhaseKind,
    state: Vec<u8>,
    opened: Timestamp,
    over: Option<Timestamp>,
    gate: Gate,
    received: BTreeMap<(PhaseKind, ClientId), Message>,
    claims: BTreeMap<Digest, ClientId>,
    mail: BTreeMap<(ClientId, ClientId), Vec<u8>>, // recipient, dealer
    sum: Option<RingVector>,
}

/// What is admitted now, and how much of it came.
struct Gate {
    open: bool,
    batches: u64,
    clients: u32,
    last: Timestamp,
}

impl Gate {
    fn new(now: Timestamp) -> Self {
        Self { open: true, batches: 0, clients: 0, last: now }
    }
}

struct Message {
    digest: Digest,
    body: Option<Vec<u8>>,
}

impl Round {
    fn bodies(&self, phase: PhaseKind) -> BTreeMap<ClientId, Vec<u8>> {
        let received = self.received.iter().filter(|((of, _), _)| *of == phase);
        received.filter_map(|((_, client), it)| Some((*client, it.body.clone()?))).collect()
    }

    fn admit(&mut self, phase: PhaseKind, message: &Accepted) -> Admitted {
        let client = message.client();
        if let Some(seen) = self.received.get(&(phase, client)) {
            let same = seen.digest == message.digest();
            return if same { Admitted::Again } else { Admitted::OtherBytes };
        }
        if !(self.gate.open && self.phase == phase) {
            return Admitted::Closed;
        }
        let held = |claim| self.claims.get(claim).is_some_and(|holder| *holder != client);
        if message.claims().iter().any(held) {
            return Admitted::KeyTaken;
        }
        self.claims.extend(message.claims().iter().map(|claim| (*claim, client)));
        let body = match message.keep() {
            Keep::Body(body) => body,
            Keep::Mail { body, to } => {
                self.mail.extend(to.iter().map(|(to, item)| ((*to, client), item.clone())));
                body
            }
            Keep::Sum { statement, vector } => {
                match &mut self.sum {
                    None => self.sum = Some(vector.clone()),
                    Some(sum) => sum.add_assign(vector).expect("one round, one shape"),
                }
                statement
            }
        };
        let row = Message { digest: message.digest(), body: Some(body.clone()) };
        self.received.insert((phase, client), row);
        Admitted::Fresh
    }

    /// What an export holds stays, where there was a roster.
    fn erase(&mut self, had_roster: bool) {
        let goes = |phase: &PhaseKind| !had_roster || *phase == PhaseKind::Unmasking;
        let gone = self.received.iter_mut().filter(|((phase, _), _)| goes(phase));
        gone.for_each(|(_, message)| message.body = None);
        self.claims.clear();
        self.mail.clear();
        self.sum = None;
    }
}

impl Tables {
    fn append(&mut self, entry: Digest) {
        self.log.push(merkle::leaf_hash(&[entry.as_bytes()]));
    }

    /// The ledger entries of a commit come after its statements, §9.
    fn append_charge(&mut self, round: RoundId, charge: Charge) {
        let row = &self.rounds[&round];
        let header = &self.statements[&(round, StatementKind::Header)].0;
        let context = Digest(Sha256::digest(header).into());
        self.append(ledger_entry(&row.salt, row.task, row.counter, context, charge));
    }

    /// Returns what became of the charge, if it changed.
    fn write(&mut self, round: RoundId, effect: &Effect, closed: PhaseKind) -> Option<Charge> {
        let had_roster = self.statements.contains_key(&(round, StatementKind::Roster));
        let row = self.rounds.get_mut(&round).expect("the caller found it");
        let (task, counter, salt) = (row.task, row.counter, row.salt);
        match effect {
            Effect::Statement { kind, bytes, attachment } => {
                self.statements.insert((round, *kind), (bytes.clone(), attachment.clone()));
                self.append(statement_entry(&salt, bytes));
            }
            Effect::Spend => {
                self.ledger.get_mut(&(task, counter)).expect("reserved at opening").spent = true;
                return Some(Charge::Spent);
            }
            Effect::Lapse => {
                if self.ledger.get(&(task, counter)).is_some_and(|row| !row.spent) {
                    self.ledger.remove(&(task, counter));
                    return Some(Charge::Lapsed);
                }
            }
            Effect::Fault { client, rule, evidence } => {
                let fault = self.faults.entry((round, closed, *client));
                fault.or_insert_with(|| (*rule, evidence.clone()));
            }
            Effect::Model { bytes, digest } => {
                self.models.insert(*digest, bytes.clone());
                self.tasks.get_mut(&task).expect("rounds have tasks").model = *digest;
            }
            Effect::Log { root } => self.append(root_entry(&salt, *root)),
            Effect::Erase => row.erase(had_roster),
        }
        None
    }
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().expect("no case panics while it holds the tables")
    }
}

impl Store for MemoryStore {
    async fn create_task(
        &self,
        task: TaskId,
        file: &str,
        model: &[u8],
        _now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let mut tables = self.tables();
        if let Some(row) = tables.tasks.get(&task) {
            return Ok(if row.file == file { Committed::Yes } else { Committed::Conflict });
        }
        let digest = Digest(Sha256::digest(model).into());
        tables.models.insert(digest, model.to_vec());
        let row = TaskRow { task, file: file.to_owned(), model: digest, counter: 0, open: false };
        tables.tasks.insert(task, row);
        Ok(Committed::Yes)
    }

    async fn tasks(&self) -> Result<Vec<TaskRow>, StoreError> {
        Ok(self.tables().tasks.values().cloned().collect())
    }

    async fn open_round(&self, new: &NewRound) -> Result<Committed, StoreError> {
        let mut tables = self.tables();
        let mine = tables.rounds.get(&new.round);
        if mine.is_some_and(|it| it.task == new.task && it.counter == new.counter) {
            return Ok(Committed::Yes);
        }
        let header = (new.round, StatementKind::Header);
        let free = !tables.statements.contains_key(&header);
        match tables.tasks.get_mut(&new.task) {
            Some(task) if free && !task.open && task.counter + 1 == new.counter => {
                (task.counter, task.open) = (new.counter, true);
            }
            _ => return Ok(Committed::Conflict),
        }
        let round = Round {
            task: new.task,
            counter: new.counter,
            salt: new.salt,
            version: Version(0),
            phase: PhaseKind::Advertising,
            state: new.state.clone(),
            opened: new.opened,
            over: None,
            gate: Gate::new(new.opened),
            received: BTreeMap::new(),
            claims: BTreeMap::new(),
            mail: BTreeMap::new(),
            sum: None,
        };
        tables.rounds.insert(new.round, round);
        let opened = TaskRound { counter: new.counter, round: new.round, salt: new.salt };
        tables.opened.insert((new.task, new.counter), opened);
        tables.statements.insert(header, (new.header.clone(), Vec::new()));
        let charge = new.charge.clone();
        let reserved = LedgerRow { counter: new.counter, charge, spent: false };
        tables.ledger.insert((new.task, new.counter), reserved);
        tables.append(statement_entry(&new.salt, &new.header));
        tables.append_charge(new.round, Charge::Reserved);
        Ok(Committed::Yes)
    }

    async fn standing(&self) -> Result<Vec<Standing>, StoreError> {
        let tables = self.tables();
        let open = tables.rounds.iter().filter(|(_, row)| row.over.is_none());
        let standing = |(round, row): (&RoundId, &Round)| Standing {
            round: *round,
            task: row.task,
            version: row.version,
            phase: row.phase,
            opened: row.opened,
            last: row.gate.last,
            batches: row.gate.batches,
            clients: row.gate.clients,
        };
        Ok(open.map(standing).collect())
    }

    async fn load(&self, round: RoundId) -> Result<Option<Loaded>, StoreError> {
        let tables = self.tables();
        Ok(tables.rounds.get(&round).map(|row| Loaded {
            task: row.task,
            header: tables.statements[&(round, StatementKind::Header)].0.clone(),
            state: row.state.clone(),
            phase: row.phase,
            version: row.version,
            opened: row.opened,
            salt: row.salt,
            over: row.over,
        }))
    }

    async fn admit(
        &self,
        round: RoundId,
        phase: PhaseKind,
        accepted: &[Accepted],
        now: Timestamp,
    ) -> Result<Vec<Admitted>, StoreError> {
        let mut tables = self.tables();
        let Some(row) = tables.rounds.get_mut(&round) else {
            return Ok(vec![Admitted::Closed; accepted.len()]);
        };
        let mut taken = BTreeSet::new(); // a second message does not mend the first in one batch
        let mut admit = |message: &Accepted| {
            if taken.contains(&message.client()) {
                return Admitted::KeyTaken;
            }
            let answer = row.admit(phase, message);
            taken.extend((answer == Admitted::KeyTaken).then_some(message.client()));
            answer
        };
        let answers: Vec<_> = accepted.iter().map(&mut admit).collect();
        let fresh = answers.iter().filter(|answer| **answer == Admitted::Fresh).count();
        if fresh > 0 {
            row.gate.batches += 1;
            row.gate.clients += u32::try_from(fresh).expect("a batch is small");
            row.gate.last = row.gate.last.max(now);
        }
        Ok(answers)
    }

    async fn fault(
        &self,
        round: RoundId,
        phase: PhaseKind,
        client: ClientId,
        rule: u8,
        evidence: &[u8],
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let fault = tables.faults.entry((round, phase, client));
        fault.or_insert_with(|| (rule, evidence.to_vec()));
        Ok(())
    }

    async fn lease(
        &self,
        round: RoundId,
        version: Version,
        holder: Holder,
        stalled: Option<Beats>,
    ) -> Result<Lease, StoreError> {
        let mut tables = self.tables();
        let stands = tables.rounds.get(&round).is_some_and(|row| row.version == version && row.over.is_none());
        if !stands {
            return Ok(Lease::Moved);
        }
        let attempts = match tables.leases.get(&round) {
            Some(held) if held.version == version => {
                let beats = Beats(held.beats);
                if held.holder != holder && stalled != Some(beats) {
                    return Ok(Lease::Elsewhere { beats });
                }
                held.attempts + 1
            }
            _ => 1,
        };
        let beats = tables.leases.get(&round).map_or(0, |held| held.beats + 1);
        tables.leases.insert(round, Leased { version, holder, beats, attempts });
        Ok(Lease::Held { attempts })
    }

    async fn keep_lease(&self, round: RoundId, version: Version, holder: Holder) -> Result<(), StoreError> {
        if let Some(held) = self.tables().leases.get_mut(&round) {
            held.beats += i64::from((held.version, held.holder) == (version, holder));
        }
        Ok(())
    }

    async fn fence(&self, round: RoundId, phase: PhaseKind) -> Result<Received, StoreError> {
        let mut tables = self.tables();
        let Some(row) = tables.rounds.get_mut(&round) else { return Ok(Received::default()) };
        if row.phase == phase {
            row.gate.open = false;
        }
        let earlier = Received::needs(phase).iter().map(|earlier| (*earlier, row.bodies(*earlier))).collect();
        let mut received = Received::new(row.bodies(phase), earlier);
        if phase == PhaseKind::Unmasking {
            received.sum = row.sum.clone();
        }
        Ok(received)
    }

    async fn commit(
        &self,
        round: RoundId,
        expected: Version,
        phase: PhaseKind,
        state: &[u8],
        effects: &[Effect],
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let mut tables = self.tables();
        let mut kinds: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Statement { kind, .. } => Some(*kind),
                _ => None,
            })
            .collect();
        kinds.sort_unstable();
        let twice = kinds.windows(2).any(|pair| pair[0] == pair[1])
            || kinds.iter().any(|kind| tables.statements.contains_key(&(round, *kind)));
        let Some(row) = tables.rounds.get_mut(&round) else { return Ok(Committed::Conflict) };
        if twice || row.version != expected || row.over.is_some() {
            return Ok(Committed::Conflict);
        }
        let (closed, task) = (row.phase, row.task);
        (row.version, row.phase) = (Version(expected.0 + 1), phase);
        (row.state, row.opened) = (state.to_vec(), now);
        row.gate = Gate { open: !phase.is_over(), ..Gate::new(now) };
        if phase.is_over() {
            row.over = Some(now);
            tables.tasks.get_mut(&task).expect("rounds have tasks").open = false;
            tables.leases.remove(&round);
        }
        let charges: Vec<_> = effects.iter().filter_map(|effect| tables.write(round, effect, closed)).collect();
        charges.into_iter().for_each(|charge| tables.append_charge(round, charge));
        Ok(Committed::Yes)
    }

    async fn newest_header(&self, task: TaskId, after: u64) -> Result<Option<(RoundId, Vec<u8>)>, StoreError> {
        let tables = self.tables();
        let newer = tables.rounds.iter().filter(|(_, it)| it.task == task && it.counter > after);
        Ok(newer
            .max_by_key(|(_, it)| it.counter)
            .map(|(round, _)| (*round, tables.statements[&(*round, StatementKind::Header)].0.clone())))
    }

    async fn statement(&self, round: RoundId, kind: StatementKind) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
        Ok(self.tables().statements.get(&(round, kind)).cloned())
    }

    async fn bodies(
        &self,
        round: RoundId,
        phase: PhaseKind,
        clients: Option<&[ClientId]>,
    ) -> Result<BTreeMap<ClientId, Vec<u8>>, StoreError> {
        let tables = self.tables();
        let mut bodies = tables.rounds.get(&round).map(|it| it.bodies(phase)).unwrap_or_default();
        if let Some(clients) = clients {
            bodies.retain(|client, _| clients.contains(client));
        }
        Ok(bodies)
    }

    async fn digest(&self, round: RoundId, phase: PhaseKind, client: ClientId) -> Result<Option<Digest>, StoreError> {
        let tables = self.tables();
        let received = tables.rounds.get(&round).and_then(|it| it.received.get(&(phase, client)));
        Ok(received.map(|message| message.digest))
    }

    async fn mail(&self, round: RoundId, recipient: ClientId) -> Result<Vec<Vec<u8>>, StoreError> {
        let tables = self.tables();
        let Some(row) = tables.rounds.get(&round) else { return Ok(Vec::new()) };
        let to = row.mail.iter().filter(|((to, _), _)| *to == recipient);
        Ok(to.map(|(_, item)| item.clone()).collect())
    }

    async fn model(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables().models.get(&digest).cloned())
    }

    async fn ledger(&self, task: TaskId) -> Result<Vec<LedgerRow>, StoreError> {
        let tables = self.tables();
        let rows = tables.ledger.iter().filter(|((of, _), _)| *of == task);
        Ok(rows.map(|(_, row)| row.clone()).collect())
    }

    async fn log_head(&self) -> Result<LogHead, StoreError> {
        let log = &self.tables().log;
        Ok(LogHead { size: log.len() as u64, root: merkle::root(log) })
    }

    async fn log_leaves(&self, from: u64, to: u64) -> Result<Vec<Digest>, StoreError> {
        let leaves = (0..).zip(self.tables().log.clone());
        Ok(leaves.filter(|(at, _)| (from..to).contains(at)).map(|(_, leaf)| leaf).collect())
    }

    async fn faults(&self, round: RoundId) -> Result<Vec<FaultRow>, StoreError> {
        let tables = self.tables();
        let rows = tables.faults.iter().filter(|((of, _, _), _)| *of == round);
        let row = |((_, phase, client), (rule, evidence)): (&(RoundId, PhaseKind, ClientId), &(u8, Vec<u8>))| {
            FaultRow { phase: *phase, client: *client, rule: *rule, evidence: evidence.clone() }
        };
        Ok(rows.map(row).collect())
    }

    async fn rounds(
        &self,
        task: TaskId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(RoundId, u64, PhaseKind)>, StoreError> {
        let tables = self.tables();
        let asked = |it: &Round| it.task == task && before.is_none_or(|before| it.counter < before);
        let of_task = tables.rounds.iter().filter(|(_, it)| asked(it));
        let mut rounds: Vec<_> = of_task.map(|(id, it)| (*id, it.counter, it.phase)).collect();
        rounds.sort_unstable_by_key(|(_, counter, _)| std::cmp::Reverse(*counter));
        rounds.truncate(limit as usize);
        Ok(rounds)
    }

    async fn admitted(&self, round: RoundId) -> Result<BTreeMap<PhaseKind, u32>, StoreError> {
        let mut counts = BTreeMap::new();
        if let Some(row) = self.tables().rounds.get(&round) {
            row.received.keys().for_each(|(phase, _)| *counts.entry(*phase).or_default() += 1);
        }
        Ok(counts)
    }

    async fn has_bodies(&self, round: RoundId) -> Result<bool, StoreError> {
        let tables = self.tables();
        Ok(tables.rounds.get(&round).is_some_and(|row| row.received.values().any(|it| it.body.is_some())))
    }

    async fn task_rounds(&self, task: TaskId) -> Result<Vec<TaskRound>, StoreError> {
        let tables = self.tables();
        Ok(tables.opened.iter().filter(|((of, _), _)| *of == task).map(|(_, row)| row.clone()).collect())
    }

    async fn put_model(&self, model: &[u8]) -> Result<bool, StoreError> {
        let digest = Digest(Sha256::digest(model).into());
        Ok(self.tables().models.insert(digest, model.to_vec()).is_none())
    }

    async fn put_revocations(&self, row: &RevocationRow) -> Result<Committed, StoreError> {
        let mut tables = self.tables();
        let newest = newest_of(&tables.revocations, row.authority);
        match newest {
            Some(newest) if newest.digest == row.digest => Ok(Committed::Yes),
            Some(newest) if newest.number >= row.number => Ok(Committed::Conflict),
            _ => {
                tables.revocations.insert((row.authority, row.number), row.clone());
                Ok(Committed::Yes)
            }
        }
    }

    async fn newest_revocations(&self, authority: Party) -> Result<Option<RevocationRow>, StoreError> {
        Ok(newest_of(&self.tables().revocations, authority))
    }

    async fn revocations(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let tables = self.tables();
        Ok(tables.revocations.values().find(|row| row.digest == digest).map(|row| row.bytes.clone()))
    }

    async fn purge(&self, retention: Retention) -> Result<Purged, StoreError> {
        let mut tables = self.tables();
        let rounds = tables.rounds.len();
        tables.rounds.retain(|_, row| row.over.is_none_or(|over| over >= retention.rounds_before));
        let mut purged = Purged { rounds: (rounds - tables.rounds.len()) as u64, exports: 0 };
        let over = tables.rounds.values_mut().filter(|row| row.over.is_some_and(|over| over < retention.bodies_before));
        for row in over {
            let kept = row.received.values_mut().filter_map(|message| message.body.take()).count();
            purged.exports += u64::from(kept > 0);
        }
        Ok(purged)
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn newest_of(lists: &BTreeMap<(Party, u64), RevocationRow>, authority: Party) -> Option<RevocationRow> {
    lists.range((authority, 0)..=(authority, u64::MAX)).next_back().map(|(_, row)| row.clone())
}
