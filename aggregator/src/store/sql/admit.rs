//! An admission: whoever is fresh is written down and counted, in one transaction. §8
//!
//! The gate row comes first: it is held until the commit, so that the fence waits for this admission
//! and none begins after it. Clients and claims are written in sorted order, so that two admissions
//! wait for each other in one direction only.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Any, Transaction};
use veilsum_crypto::ids::{ClientId, Digest, RoundId, Timestamp};
use veilsum_crypto::server::{Accepted, Admitted, Keep, PhaseKind};

use super::rows::{self, Columns, ROWS_AT_ONCE, listed, many};
use super::{Failure, SqlStore, micros, sums};
use crate::store::seal::{AnswerPlace, RoundKey};

/// Fresh messages by client.
type Fresh<'a> = BTreeMap<ClientId, &'a Accepted>;

impl SqlStore {
    pub(super) async fn try_admit(
        &self,
        round: RoundId,
        phase: PhaseKind,
        accepted: &[Accepted],
        now: Timestamp,
    ) -> Result<Vec<Admitted>, Failure> {
        if accepted.is_empty() {
            return Ok(Vec::new());
        }
        let gate = self.pick_gate();
        let mut writing = self.begin().await?;
        let mut batch = Batch { tx: &mut writing.tx, round, phase };
        if !batch.pass(gate).await? {
            let clients: BTreeSet<_> = accepted.iter().map(Accepted::client).collect();
            let seen = batch.digests(&clients).await?;
            return Ok(accepted.iter().map(|message| compare(message, &seen)).collect());
        }

        let mut first = Fresh::new(); // a client that came twice: its first message counts
        for message in accepted {
            first.entry(message.client()).or_insert(message);
        }
        let key = match phase {
            PhaseKind::Unmasking => Some(sums::key_of(batch.tx, &self.keys, round).await?),
            _ => None,
        };
        let mut fresh = batch.insert_received(&first, key.as_ref()).await?;
        let in_order: Vec<_> = accepted
            .iter()
            .filter(|&message| fresh.get(&message.client()).is_some_and(|it| std::ptr::eq(*it, message)))
            .collect();
        let taken = batch.settle_claims(&in_order).await?;
        fresh.retain(|client, _| !taken.contains(client));
        let known = first.keys().filter(|client| !fresh.contains_key(client));
        let known = known.filter(|client| !taken.contains(client)).copied().collect();
        let seen = batch.digests(&known).await?;

        let answer = |message: &Accepted| match fresh.get(&message.client()) {
            Some(written) if std::ptr::eq(*written, message) => Admitted::Fresh,
            Some(written) if written.digest() == message.digest() => Admitted::Again,
            Some(_) => Admitted::OtherBytes,
            None if taken.contains(&message.client()) => Admitted::KeyTaken,
            None => compare(message, &seen),
        };
        let answers: Vec<_> = accepted.iter().map(answer).collect();
        if answers.contains(&Admitted::Closed) {
            return Err(Failure::LostRace); // a row was there and is gone: the round was purged
        }
        if fresh.is_empty() {
            return Ok(answers); // nothing to write; the gate's count is rolled back
        }
        batch.insert_mail(&fresh).await?;
        sums::append(batch.tx, &self.keys, round, fresh.values().copied()).await?;
        batch.count(gate, fresh.len(), now).await?;
        writing.commit().await?;
        Ok(answers)
    }
}

fn compare(message: &Accepted, seen: &BTreeMap<ClientId, Digest>) -> Admitted {
    match seen.get(&message.client()) {
        None => Admitted::Closed,
        Some(digest) if *digest == message.digest() => Admitted::Again,
        Some(_) => Admitted::OtherBytes,
    }
}

/// The transaction of one admission.
struct Batch<'a> {
    tx: &'a mut Transaction<'static, Any>,
    round: RoundId,
    phase: PhaseKind,
}

impl Batch<'_> {
    /// Holds the gate until the commit; false if it is shut.
    async fn pass(&mut self, gate: i64) -> Result<bool, Failure> {
        let open =
            sqlx::query("UPDATE gates SET batches = batches + 1 WHERE round = $1 AND gate = $2 AND open_for = $3")
                .bind(self.round.0.to_vec())
                .bind(gate)
                .bind(self.phase as i64)
                .execute(&mut **self.tx)
                .await?
                .rows_affected();
        Ok(open == 1)
    }

    /// With a key the bodies are sealed by it.
    async fn insert_received<'m>(&mut self, first: &Fresh<'m>, key: Option<&RoundKey>) -> Result<Fresh<'m>, Failure> {
        let text = "INSERT INTO received (round, phase, client, digest, body) VALUES {rows} \
            ON CONFLICT DO NOTHING RETURNING client";
        let (round, phase) = (self.round.0.to_vec(), self.phase as i64);
        let mut fresh = Fresh::new();
        for chunk in first.values().copied().collect::<Vec<_>>().chunks(ROWS_AT_ONCE) {
            let shared = |query: rows::Query| query.bind(round.clone()).bind(phase);
            let query = many(text, Columns { shared: 2, own: 3 }, chunk, shared, |query, message| {
                let (Keep::Body(body) | Keep::Mail { body, .. } | Keep::Sum { statement: body, .. }) = message.keep();
                let client = message.client();
                let body =
                    key.map_or_else(|| body.clone(), |key| key.seal(&AnswerPlace { round: self.round, client }, body));
                query.bind(client.0.to_vec()).bind(message.digest().0.to_vec()).bind(body)
            });
            for row in query.fetch_all(&mut **self.tx).await? {
                let client = ClientId(rows::fixed(&row, 0)?);
                fresh.extend(first.get_key_value(&client));
            }
        }
        Ok(fresh)
    }

    /// Writes the claims of fresh clients, in the order of arrival; whoever claims a key that
    /// another has is returned, and nothing of theirs stays. R-09
    async fn settle_claims(&mut self, fresh: &[&Accepted]) -> Result<BTreeSet<ClientId>, Failure> {
        // Those who dispute a key within the batch come one by one: if the first of them loses by
        // another of its keys, the next has it.
        let mut named = BTreeSet::new();
        let (undisputed, disputed): (Vec<&Accepted>, Vec<_>) = fresh.iter().partition(|message| {
            let free = message.claims().iter().all(|claim| !named.contains(claim));
            named.extend(message.claims().iter().copied());
            free
        });
        let mut taken = BTreeSet::new();
        for chunk in undisputed.chunks(ROWS_AT_ONCE / 4) {
            taken.extend(self.claim(chunk).await?);
        }
        for message in disputed {
            taken.extend(self.claim(&[message]).await?);
        }
        Ok(taken)
    }

    /// The claims of clients who share none. Returns whose claim another has; no trace of them stays.
    async fn claim(&mut self, messages: &[&Accepted]) -> Result<BTreeSet<ClientId>, Failure> {
        let claims: BTreeMap<Digest, ClientId> = messages
            .iter()
            .flat_map(|message| message.claims().iter().map(|claim| (*claim, message.client())))
            .collect();
        let (mut mine, round) = (BTreeSet::new(), self.round.0.to_vec());
        let text = "INSERT INTO claims (round, claim, client) VALUES {rows} \
            ON CONFLICT DO NOTHING RETURNING claim";
        for chunk in claims.iter().collect::<Vec<_>>().chunks(ROWS_AT_ONCE) {
            let shared = |query: rows::Query| query.bind(round.clone());
            let query = many(text, Columns { shared: 1, own: 2 }, chunk, shared, |query, row| {
                query.bind(row.0.0.to_vec()).bind(row.1.0.to_vec())
            });
            for row in query.fetch_all(&mut **self.tx).await? {
                mine.insert(Digest(rows::fixed(&row, 0)?));
            }
        }
        let mut losers = BTreeSet::new();
        let others: Vec<_> = claims.iter().filter(|(claim, _)| !mine.contains(*claim)).collect();
        for chunk in others.chunks(ROWS_AT_ONCE) {
            let text = "SELECT claim, client FROM claims WHERE round = $1 AND claim IN ({list})";
            let keys = chunk.iter().map(|(claim, _)| claim.0.as_slice());
            let query = listed(text, 1, keys, |query| query.bind(round.clone()));
            let held = query.fetch_all(&mut **self.tx).await?;
            if held.len() < chunk.len() {
                return Err(Failure::LostRace); // a claim was there and is gone
            }
            for row in held {
                let claimer = claims[&Digest(rows::fixed(&row, 0)?)];
                if claimer != ClientId(rows::fixed(&row, 1)?) {
                    losers.insert(claimer);
                }
            }
        }
        let written = mine.iter().filter(|claim| losers.contains(&claims[*claim]));
        let written: Vec<_> = written.map(|claim| claim.0.as_slice()).collect();
        for chunk in written.chunks(ROWS_AT_ONCE) {
            let text = "DELETE FROM claims WHERE round = $1 AND claim IN ({list})";
            let query = listed(text, 1, chunk.iter().copied(), |query| query.bind(round.clone()));
            query.execute(&mut **self.tx).await?;
        }
        let clients: Vec<_> = losers.iter().map(|client| client.0.as_slice()).collect();
        for chunk in clients.chunks(ROWS_AT_ONCE) {
            let text = "DELETE FROM received WHERE round = $1 AND phase = $2 AND client IN ({list})";
            let phase = self.phase as i64;
            let first = |query: rows::Query| query.bind(round.clone()).bind(phase);
            listed(text, 2, chunk.iter().copied(), first).execute(&mut **self.tx).await?;
        }
        Ok(losers)
    }

    async fn digests(&mut self, clients: &BTreeSet<ClientId>) -> Result<BTreeMap<ClientId, Digest>, Failure> {
        let text = "SELECT client, digest FROM received \
            WHERE round = $1 AND phase = $2 AND client IN ({list})";
        let mut seen = BTreeMap::new();
        for chunk in clients.iter().collect::<Vec<_>>().chunks(ROWS_AT_ONCE) {
            let (round, phase) = (self.round.0.to_vec(), self.phase as i64);
            let ids = chunk.iter().map(|client| client.0.as_slice());
            let query = listed(text, 2, ids, |query| query.bind(round).bind(phase));
            for row in query.fetch_all(&mut **self.tx).await? {
                seen.insert(ClientId(rows::fixed(&row, 0)?), Digest(rows::fixed(&row, 1)?));
            }
        }
        Ok(seen)
    }

    async fn insert_mail(&mut self, fresh: &Fresh<'_>) -> Result<(), Failure> {
        let items: Vec<_> = fresh
            .iter()
            .filter_map(|(dealer, message)| match message.keep() {
                Keep::Mail { to, .. } => Some(to.iter().map(move |(to, item)| (to, dealer, item))),
                Keep::Body(_) | Keep::Sum { .. } => None,
            })
            .flatten()
            .collect();
        let text = "INSERT INTO mail (round, recipient, dealer, item) VALUES {rows}";
        for chunk in items.chunks(ROWS_AT_ONCE) {
            let round = self.round.0.to_vec();
            let shared = |query: rows::Query| query.bind(round);
            many(text, Columns { shared: 1, own: 3 }, chunk, shared, |query, (to, dealer, item)| {
                query.bind(to.0.to_vec()).bind(dealer.0.to_vec()).bind((*item).clone())
            })
            .execute(&mut **self.tx)
            .await?;
        }
        Ok(())
    }

    async fn count(&mut self, gate: i64, clients: usize, now: Timestamp) -> Result<(), Failure> {
        sqlx::query(
            "UPDATE gates SET clients = clients + $3, \
             last_us = CASE WHEN last_us < $4 THEN $4 ELSE last_us END WHERE round = $1 AND gate = $2",
        )
        .bind(self.round.0.to_vec())
        .bind(gate)
        .bind(clients as i64)
        .bind(micros(now))
        .execute(&mut **self.tx)
        .await?;
        Ok(())
    }
}
