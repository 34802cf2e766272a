//! What a client remembers across rounds: counters, the log, its ledger. §4.5, R-02, R-26, R-33, R-36

use alloc::{collections::BTreeMap, vec::Vec};

use crate::ids::{Digest, Party, TaskId};
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::primitives::merkle::TreeHead;
use crate::primitives::signature::IdentityPublicKey;
use crate::privacy::budget::Ledger;

/// One memory per device's data, across tasks and identities.
#[derive(Debug)]
pub struct Memory {
    /// The last round counter of each task; it is used up, whatever became of the round.
    pub(crate) counters: BTreeMap<TaskId, u64>,
    /// The largest log seen, by aggregator.
    pub(crate) logs: BTreeMap<Party, TreeHead>,
    /// Number and digest of the newest revocation list seen, by authority.
    pub(crate) revocations: BTreeMap<Party, (u64, Digest)>,
    /// What was charged.
    pub(crate) ledger: Ledger,
}

impl Memory {
    /// Of a device that never took part.
    pub fn new() -> Self {
        Self {
            counters: BTreeMap::new(),
            logs: BTreeMap::new(),
            revocations: BTreeMap::new(),
            ledger: Ledger::default(),
        }
    }

    /// The last counter of a task; 0 before the first round.
    pub fn last_counter(&self, task: TaskId) -> u64 {
        self.counters.get(&task).copied().unwrap_or(0)
    }

    /// The largest log of an aggregator that this client saw.
    pub fn log_of(&self, aggregator: &IdentityPublicKey) -> Option<TreeHead> {
        self.logs.get(&aggregator.party()).copied()
    }

    /// Number and digest of the newest revocation list of an authority; number 0 before the first.
    pub fn revocations_of(&self, authority: &IdentityPublicKey) -> (u64, Digest) {
        self.revocations.get(&authority.party()).copied().unwrap_or((0, Digest::NONE))
    }

    /// What was charged.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn bytes_max(&self) -> usize {
        256 + 24 * self.counters.len() + 56 * (self.logs.len() + self.revocations.len()) + self.ledger.encode().len()
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend((self.counters.len() as u32).to_le_bytes());
        for (task, counter) in &self.counters {
            out.extend(task.0);
            out.extend(counter.to_le_bytes());
        }
        out.extend((self.logs.len() as u32).to_le_bytes());
        for (aggregator, head) in &self.logs {
            out.extend(aggregator.0);
            out.extend(head.size.to_le_bytes());
            out.extend(head.root.0);
        }
        out.extend((self.revocations.len() as u32).to_le_bytes());
        for (authority, (number, digest)) in &self.revocations {
            out.extend(authority.0);
            out.extend(number.to_le_bytes());
            out.extend(digest.0);
        }
        write_prefixed(out, &self.ledger.encode());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut counters = BTreeMap::new();
        for _ in 0..reader.u32("counters")? {
            counters.insert(TaskId(reader.array("task")?), reader.u64("counter")?);
        }
        let mut logs = BTreeMap::new();
        for _ in 0..reader.u32("logs")? {
            let aggregator = Party(reader.array("aggregator")?);
            logs.insert(aggregator, TreeHead { size: reader.u64("log size")?, root: reader.digest("log root")? });
        }
        let mut revocations = BTreeMap::new();
        for _ in 0..reader.u32("revocations")? {
            let authority = Party(reader.array("authority")?);
            revocations.insert(authority, (reader.u64("number")?, reader.digest("digest")?));
        }
        let ledger = Ledger::decode(reader.prefixed("ledger")?)
            .map_err(|_| DecodeError::NotCanonical { field: "ledger", expected: "as this program writes it" })?;
        Ok(Self { counters, logs, revocations, ledger })
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}
