//! What a client remembers across rounds: counters, the log, its ledger. §4.5, R-02, R-26, R-33, R-36

use alloc::{collections::BTreeMap, vec::Vec};

use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, Party, TaskId};
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::primitives::merkle::TreeHead;
use crate::primitives::signature::IdentityPublicKey;
use crate::privacy::budget::{ChargeKey, Ledger};

/// Stands where the first version had the number of its counters, which never was so large.
const SECOND_FORM: u32 = u32::MAX;

/// The name of a round in a client's ledger. A task's id is made of its name alone: two aggregators may have equal ones, and a
/// round of one is not paid with that of the other. docs/decisions/0019
pub fn charge_key(aggregator: &IdentityPublicKey, task: TaskId, counter: u64) -> ChargeKey {
    (charged_task(aggregator.party(), task), counter)
}

fn charged_task(aggregator: Party, task: TaskId) -> [u8; 16] {
    let hash = Sha256::new().chain_update(b"veilsum charged task").chain_update(aggregator.0).chain_update(task.0);
    hash.finalize()[..16].try_into().expect("a SHA-256 value has 32 bytes")
}

/// In which rounds of one task this client's update was masked, as its ledger has them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TakenPart {
    /// How many.
    pub rounds: u64,
    /// The counter of the last.
    pub last: Option<u64>,
}

/// One memory per device's data, across tasks and identities.
#[derive(Debug)]
pub struct Memory {
    /// The last round counter of each task of an aggregator; it is used up, whatever became of the round.
    pub(crate) counters: BTreeMap<(Party, TaskId), u64>,
    /// The largest log seen, by aggregator.
    pub(crate) logs: BTreeMap<Party, TreeHead>,
    /// Number and digest of the newest revocation list seen, by authority.
    pub(crate) revocations: BTreeMap<Party, (u64, Digest)>,
    /// What was charged.
    pub(crate) ledger: Ledger,
    /// The identity under which the newest round was advertised; not known of what the first version wrote.
    pub(crate) identity: Option<Party>,
}

impl Memory {
    /// Of a device that never took part.
    pub fn new() -> Self {
        Self {
            counters: BTreeMap::new(),
            logs: BTreeMap::new(),
            revocations: BTreeMap::new(),
            ledger: Ledger::default(),
            identity: None,
        }
    }

    /// The last counter of a task of this aggregator; 0 before the first round.
    pub fn last_counter(&self, aggregator: &IdentityPublicKey, task: TaskId) -> u64 {
        self.counters.get(&(aggregator.party(), task)).copied().unwrap_or(0)
    }

    /// In which rounds of a task of this aggregator the client took part. Rounds that the first version charged count for
    /// whichever aggregator has a task of that id: it did not write down which it was.
    pub fn taken_part(&self, aggregator: &IdentityPublicKey, task: TaskId) -> TakenPart {
        let ledger = &self.ledger;
        let counters = [charged_task(aggregator.party(), task), task.0].map(|name| ledger.counters_of(name));
        counters.into_iter().flatten().fold(TakenPart::default(), |taken, counter| TakenPart {
            rounds: taken.rounds + 1,
            last: taken.last.max(Some(counter)),
        })
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
        256 + 40 * self.counters.len() + 56 * (self.logs.len() + self.revocations.len()) + self.ledger.encode().len()
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend(SECOND_FORM.to_le_bytes());
        out.push(u8::from(self.identity.is_some()));
        out.extend(self.identity.unwrap_or(Party([0; 16])).0);
        out.extend((self.counters.len() as u32).to_le_bytes());
        for ((aggregator, task), counter) in &self.counters {
            out.extend(aggregator.0);
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
        let mut count = reader.u32("counters")?;
        let is_second = count == SECOND_FORM;
        let mut identity = None;
        if is_second {
            let is_known = reader.u8("identity")? != 0;
            identity = Some(Party(reader.array("identity")?)).filter(|_| is_known);
            count = reader.u32("counters")?;
        }
        let mut counters = BTreeMap::new();
        let mut nobodys = Vec::new(); // of the first form, which did not say whose tasks they are
        for _ in 0..count {
            let aggregator = if is_second { Some(Party(reader.array("aggregator")?)) } else { None };
            let (task, counter) = (TaskId(reader.array("task")?), reader.u64("counter")?);
            match aggregator {
                Some(aggregator) => drop(counters.insert((aggregator, task), counter)),
                None => nobodys.push((task, counter)),
            }
        }
        let mut logs = BTreeMap::new();
        for _ in 0..reader.u32("logs")? {
            let aggregator = Party(reader.array("aggregator")?);
            logs.insert(aggregator, TreeHead { size: reader.u64("log size")?, root: reader.digest("log root")? });
        }
        // They count for every aggregator of whom this client holds a log: its counters and logs were written together.
        if logs.is_empty() && !nobodys.is_empty() {
            return Err(DecodeError::NotCanonical {
                field: "logs",
                expected: "the aggregator whose rounds were counted",
            });
        }
        for aggregator in logs.keys() {
            counters.extend(nobodys.iter().map(|(task, counter)| ((*aggregator, *task), *counter)));
        }
        let mut revocations = BTreeMap::new();
        for _ in 0..reader.u32("revocations")? {
            let authority = Party(reader.array("authority")?);
            revocations.insert(authority, (reader.u64("number")?, reader.digest("digest")?));
        }
        let ledger = Ledger::decode(reader.prefixed("ledger")?)
            .map_err(|_| DecodeError::NotCanonical { field: "ledger", expected: "as this program writes it" })?;
        Ok(Self { counters, logs, revocations, ledger, identity })
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::signature::IdentitySecretKey;

    fn aggregator(seed: u8) -> IdentityPublicKey {
        IdentitySecretKey::from_bytes(&[seed; 32]).public()
    }

    fn head(size: u64) -> TreeHead {
        TreeHead { size, root: Digest([size as u8; 32]) }
    }

    fn read_back(bytes: &[u8]) -> Result<Memory, DecodeError> {
        let mut reader = Reader::new(bytes);
        let memory = Memory::read(&mut reader)?;
        reader.finish()?;
        Ok(memory)
    }

    /// What the first version wrote: counters by task alone.
    fn first_form(logs: &[u8]) -> Vec<u8> {
        let mut ledger = Ledger::default();
        for counter in [3, 7] {
            ledger.charge(([7; 16], counter), crate::privacy::accountant::RdpCurve::nothing());
        }
        let mut out = 1_u32.to_le_bytes().to_vec();
        out.extend([7; 16]);
        out.extend(9_u64.to_le_bytes());
        out.extend((logs.len() as u32).to_le_bytes());
        let mut logs: Vec<Party> = logs.iter().map(|seed| aggregator(*seed).party()).collect();
        logs.sort();
        for log in logs {
            out.extend(log.0);
            out.extend(5_u64.to_le_bytes());
            out.extend([5; 32]);
        }
        out.extend(0_u32.to_le_bytes());
        write_prefixed(&mut out, &ledger.encode());
        out
    }

    /// C-292: two aggregators with tasks of one name neither share a counter nor a charge.
    #[test]
    fn tasks_of_one_name_at_two_aggregators_are_two() {
        let (one, other, task) = (aggregator(1), aggregator(2), TaskId([7; 16]));
        let mut memory = Memory::new();
        memory.counters.insert((one.party(), task), 9);
        memory.logs.insert(one.party(), head(4));
        memory.identity = Some(aggregator(3).party());
        memory.ledger.charge(charge_key(&one, task, 9), crate::privacy::accountant::RdpCurve::nothing());
        let mut bytes = Vec::new();
        memory.write(&mut bytes);
        assert!(bytes.len() <= memory.bytes_max());
        let memory = read_back(&bytes).expect("as written");
        assert_eq!((memory.last_counter(&one, task), memory.last_counter(&other, task)), (9, 0));
        assert_eq!(memory.identity, Some(aggregator(3).party()));
        assert_eq!(memory.taken_part(&one, task), TakenPart { rounds: 1, last: Some(9) });
        assert_eq!(memory.taken_part(&other, task), TakenPart::default());
        assert_ne!(charge_key(&one, task, 9), charge_key(&other, task, 9));
    }

    /// C-292: what the first version wrote is read, and gives nobody a counter or a charge back.
    #[test]
    fn counters_without_an_aggregator_count_for_each_that_was_seen() {
        let memory = read_back(&first_form(&[1, 2])).expect("as the first version wrote it");
        let task = TaskId([7; 16]);
        for seen in [1, 2] {
            assert_eq!(memory.last_counter(&aggregator(seen), task), 9);
        }
        assert_eq!(memory.last_counter(&aggregator(3), task), 0, "never seen");
        assert_eq!(memory.taken_part(&aggregator(1), task), TakenPart { rounds: 2, last: Some(7) });
        assert_eq!(memory.identity, None);
        assert!(read_back(&first_form(&[])).is_err(), "no version wrote counters without a log");
    }
}
