//! What a client remembers across rounds: counters, the log, its ledger. §4.5, R-02, R-26, R-33, R-36

use alloc::{collections::BTreeMap, vec::Vec};

use crate::ids::TaskId;
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::primitives::merkle::TreeHead;
use crate::privacy::budget::Ledger;

/// One memory per device's data, across tasks and identities.
#[derive(Debug)]
pub struct Memory {
    /// The last round counter of each task; it is used up, whatever became of the round.
    pub(crate) counters: BTreeMap<TaskId, u64>,
    /// The largest log seen.
    pub(crate) log: Option<TreeHead>,
    /// The newest revocation list seen.
    pub(crate) revocation_number: u64,
    /// What was charged.
    pub(crate) ledger: Ledger,
}

impl Memory {
    /// Of a device that never took part.
    pub fn new() -> Self {
        Self { counters: BTreeMap::new(), log: None, revocation_number: 0, ledger: Ledger::default() }
    }

    /// The last counter of a task; 0 before the first round.
    pub fn last_counter(&self, task: TaskId) -> u64 {
        self.counters.get(&task).copied().unwrap_or(0)
    }

    /// The largest log seen.
    pub fn log(&self) -> Option<TreeHead> {
        self.log
    }

    /// What was charged.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend((self.counters.len() as u32).to_le_bytes());
        for (task, counter) in &self.counters {
            out.extend(task.0);
            out.extend(counter.to_le_bytes());
        }
        out.push(u8::from(self.log.is_some()));
        if let Some(head) = self.log {
            out.extend(head.size.to_le_bytes());
            out.extend(head.root.0);
        }
        out.extend(self.revocation_number.to_le_bytes());
        write_prefixed(out, &self.ledger.encode());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut counters = BTreeMap::new();
        for _ in 0..reader.u32("counters")? {
            counters.insert(TaskId(reader.array("task")?), reader.u64("counter")?);
        }
        let log = match reader.u8("log")? {
            0 => None,
            _ => Some(TreeHead { size: reader.u64("log size")?, root: reader.digest("log root")? }),
        };
        let revocation_number = reader.u64("revocation number")?;
        let ledger = Ledger::decode(reader.prefixed("ledger")?)
            .map_err(|_| DecodeError::NotCanonical { field: "ledger", expected: "as this program writes it" })?;
        Ok(Self { counters, log, revocation_number, ledger })
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}
