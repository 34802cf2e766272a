//! The export of a round that is over: what its auditor needs, put together from the store. docs/protocol.md §9, wire.md §13
//!
//! Nothing is judged here: what does not fit together, the audit finds. In: a round. Out: the bytes of the file.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use veilsum_crypto::audit::Export;
use veilsum_crypto::audit::export::{Counted, Inclusion, Lapse, List, Named};
use veilsum_crypto::ids::{Digest, RoundId};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle::{TreeHead, leaf_hash};
use veilsum_crypto::primitives::signature::Signed;
use veilsum_crypto::server::{Assembly, PhaseKind, StatementKind};

use super::log_tree::LogTree;
use super::{Gone, RoundError, Rounds, View};
use crate::store::{Charge, LogHead, Store, TaskRound, ledger_entry, root_entry, statement_entry};

impl<S: Store> Rounds<S> {
    /// The export, as bytes.
    ///
    /// # Errors
    /// [`RoundError::Conflict`] while the round runs, [`RoundError::Gone`] once its messages were erased.
    pub async fn export(&self, round: RoundId) -> Result<Vec<u8>, RoundError> {
        let view = self.view(round).await?;
        let Some(gone) = view.gone() else {
            let why = "the round is not over: its export can be made when it is".to_string();
            return Err(RoundError::Conflict { rule: None, why });
        };
        let salt = self.store.load(round).await?.ok_or(RoundError::Unknown("round"))?.salt;
        let mut export = Export {
            header: self.statement(round, StatementKind::Header).await?.to_vec(),
            revocations: view.facts.revoked.encode(),
            salt,
            evidence: self.named(round).await?,
            ..Export::default()
        };
        if let Some(assembly) = view.phase.assembly() {
            if !self.store.has_bodies(round).await? {
                tracing::info!(%round, %gone, "an export was asked for after its retention");
                return Err(RoundError::Gone(Gone::Erased));
            }
            self.add_messages(&mut export, round, assembly).await?;
            // Retention may have begun while it was read: half an export would accuse whoever made it.
            if !self.store.has_bodies(round).await? {
                return Err(RoundError::Gone(Gone::Erased));
            }
        }
        let (earlier, lapsed) = self.earlier_rounds(&view).await?;
        let entries = self.logged(&view, &salt, &export).await?;

        let (tree, head) = self.log_tree().await?;
        let head_of_tree = TreeHead { size: head.size, root: head.root };
        export.checkpoint = self.keys.checkpoint.note(&self.keys.origin, &head_of_tree);
        let wanted = entries.iter().chain(lapsed.values()).map(|entry| leaf_hash(&[entry.as_bytes()]));
        let places = tree.places(wanted, head.size);
        let at = |tree: &LogTree, entry: &Digest| place_of(tree, &places, entry, head);
        export.log = entries.iter().map(|entry| at(&tree, entry).unwrap_or(NOWHERE)).collect();
        export.ledger = earlier
            .into_iter()
            .map(|(row, header)| {
                let lapse = lapsed.get(&row.counter).and_then(|entry| at(&tree, entry));
                Counted { header, lapse: lapse.map(|at| Lapse { salt: row.salt, at }) }
            })
            .collect();
        export.growth = tree.consistency_path(view.facts.header.log.size, head.size);
        drop(tree);
        self.host.workers.run(move || export.encode()).await.map_err(RoundError::Defect)
    }

    /// Statements of the chain, and the messages of clients of the roster.
    async fn add_messages(&self, export: &mut Export, round: RoundId, assembly: &Assembly) -> Result<(), RoundError> {
        for (kind, section) in [
            (StatementKind::Roster, &mut export.roster),
            (StatementKind::Core, &mut export.core),
            (StatementKind::Survivors, &mut export.survivors),
            (StatementKind::Result, &mut export.result),
        ] {
            match self.statement(round, kind).await {
                Ok(served) => section.clone_from(&served),
                Err(RoundError::Unknown(_)) => {} // the round did not come so far
                Err(error) => return Err(error),
            }
        }
        for (phase, section) in [
            (PhaseKind::Advertising, &mut export.leaves),
            (PhaseKind::Sharing, &mut export.shares),
            (PhaseKind::Acknowledging, &mut export.acknowledgements),
            (PhaseKind::Opening, &mut export.openings),
            (PhaseKind::Masking, &mut export.uploads),
            (PhaseKind::Confirming, &mut export.confirms),
        ] {
            let bodies = self.store.bodies(round, phase, None).await?;
            let leaf_of = |client| assembly.roster().leaf_of(client);
            *section = bodies.into_iter().filter_map(|(client, body)| Some((leaf_of(client)?, body))).collect::<List>();
        }
        Ok(())
    }

    async fn named(&self, round: RoundId) -> Result<Vec<Named>, RoundError> {
        let faults = self.store.faults(round).await?;
        let named = faults.into_iter().map(|fault| Named {
            phase: fault.phase as u8,
            client: fault.client,
            rule: fault.rule,
            evidence: fault.evidence,
        });
        Ok(named.collect())
    }

    /// The task's earlier rounds with their signed headers, and the log's entry for each charge that lapsed.
    async fn earlier_rounds(
        &self,
        view: &View,
    ) -> Result<(Vec<(TaskRound, Vec<u8>)>, BTreeMap<u64, Digest>), RoundError> {
        let header = &view.facts.header;
        let ledger = self.store.ledger(header.task).await?;
        let (mut earlier, mut lapsed) = (Vec::new(), BTreeMap::new());
        for row in self.store.task_rounds(header.task).await? {
            if row.counter >= header.counter {
                break; // they come by counter
            }
            let (bytes, _) =
                self.store.statement(row.round, StatementKind::Header).await?.ok_or(RoundError::Unknown("header"))?;
            if ledger.iter().all(|charge| charge.counter != row.counter) {
                let context = Digest(Sha256::digest(&bytes).into());
                let entry = ledger_entry(&row.salt, header.task, row.counter, context, Charge::Lapsed);
                lapsed.insert(row.counter, entry);
            }
            earlier.push((row, self.sign(&bytes, StatementKind::Header)?));
        }
        Ok((earlier, lapsed))
    }

    /// The round's entries in the order of wire.md §13.
    async fn logged(&self, view: &View, salt: &[u8; 32], export: &Export) -> Result<Vec<Digest>, RoundError> {
        let (round, header) = (view.round, &view.facts.header);
        let charge = |charge| ledger_entry(salt, header.task, header.counter, view.facts.chain.context, charge);
        let statement = async |kind| {
            let found = self.store.statement(round, kind).await?;
            Ok::<_, RoundError>(found.map(|(bytes, _)| statement_entry(salt, &bytes)))
        };
        let mut entries = Vec::new();
        entries.extend(statement(StatementKind::Header).await?);
        entries.push(charge(Charge::Reserved));
        entries.extend(statement(StatementKind::Roster).await?);
        let core = statement(StatementKind::Core).await?;
        let has_core = core.is_some();
        entries.extend(core);
        if has_core {
            let openings = export.openings.values().filter_map(|body| Signed::decode(body, labels::OPENING).ok());
            entries.extend(openings.map(|opening| root_entry(salt, opening.root())));
            entries.push(charge(Charge::Spent));
            entries.extend(statement(StatementKind::Survivors).await?);
            entries.extend(statement(StatementKind::Result).await?);
        } else {
            entries.push(charge(Charge::Lapsed));
        }
        Ok(entries)
    }
}

/// Of an entry that the log does not have: the auditor will say so.
const NOWHERE: Inclusion = Inclusion { leaf: u64::MAX, path: Vec::new() };

fn place_of(tree: &LogTree, places: &BTreeMap<Digest, u64>, entry: &Digest, head: LogHead) -> Option<Inclusion> {
    let leaf = *places.get(&leaf_hash(&[entry.as_bytes()]))?;
    Some(Inclusion { leaf, path: tree.inclusion_path(leaf, head.size) })
}
