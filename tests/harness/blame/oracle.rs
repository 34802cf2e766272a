//! The protocol once more, over what letters say and never over their bytes: what must come of a round. protocol.md §5, wire.md §8
//!
//! In: the diary, who is honest, who was lost on purpose, and the root of the roster (from which the ring follows). Out: what
//! every letter must have been answered, who must be named in which phase for which rule, which honest clients must have
//! stopped, and how the round must have ended. It shares no line with `veilsum_crypto::server`.

use std::collections::{BTreeMap, BTreeSet};

use curve25519_dalek::Scalar;
use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::rules::Abandonment;
use veilsum_crypto::server::PhaseKind;

use super::letter::{Attached, Content, End, Event, Letter, MailFate, Place, Reply};
use super::ring::{Ring, weights};

/// What the oracle is told beside the diary.
#[derive(Clone, Debug)]
pub struct Told {
    /// The header's.
    pub params: RoundParams,
    /// Who keeps to the protocol.
    pub honest: BTreeSet<ClientId>,
    /// Who of them sends nothing from some phase on.
    pub lost: BTreeMap<ClientId, PhaseKind>,
    /// The root of the roster statement, if one was fixed.
    pub roster_root: Option<Digest>,
}

/// What must have come of a round.
#[derive(Debug)]
pub struct Forecast {
    /// Who is named, in which phase, for which rule.
    pub faults: BTreeMap<(PhaseKind, ClientId), u8>,
    /// Honest clients that stop by themselves, and for which rule.
    pub stopped: BTreeMap<ClientId, (PhaseKind, u8)>,
    /// How it ends.
    pub end: End,
    /// Liars and losses are within what the protocol bears.
    pub is_within_bounds: bool,
    /// The roster, if there was one.
    pub ring: Option<Ring>,
    /// Whether somebody was asked to open.
    pub has_opened: bool,
}

/// A letter that was admitted.
struct Kept {
    digest: Digest,
    statement: Option<Digest>,
    content: Content,
}

/// The round as the oracle sees it.
struct Oracle<'a> {
    told: &'a Told,
    phase: PhaseKind,
    kept: BTreeMap<(PhaseKind, ClientId), Kept>,
    claims: BTreeMap<Digest, ClientId>,
    ring: Option<Ring>,
    mail: BTreeMap<(ClientId, ClientId), MailFate>, // holder, dealer
    complaints: BTreeMap<ClientId, BTreeSet<ClientId>>,
    candidates: BTreeSet<ClientId>,
    opened: BTreeSet<(ClientId, ClientId)>, // dealer, holder
    core: BTreeSet<ClientId>,
    survivors: BTreeSet<ClientId>,
    faults: BTreeMap<(PhaseKind, ClientId), u8>,
    stopped: BTreeMap<ClientId, (PhaseKind, u8)>,
    turned_away: BTreeSet<ClientId>,
    has_opened: bool,
    end: Option<End>,
}

/// Judges a diary; the error says which line is not as it must be.
pub fn judge(told: &Told, events: &[Event]) -> Result<Forecast, String> {
    let mut oracle = Oracle::new(told);
    for (line, event) in events.iter().enumerate() {
        let at = |what: String| format!("line {line}: {what}");
        match event {
            Event::Sent { letter, reply, kind } => {
                let expected = oracle.reply_to(letter);
                if reply.is_some_and(|reply| reply != expected) {
                    let seen = reply.expect("just seen");
                    return Err(at(format!("answered {seen}; the protocol says {expected}")));
                }
                if told.honest.contains(&letter.name) && kind.is_none() && expected.code != 204 {
                    oracle.turned_away.insert(letter.name);
                }
            }
            Event::Mail { holder, dealer, fate } => {
                oracle.mail.insert((*holder, *dealer), *fate);
            }
            Event::Stopped { client, phase, rule } => match oracle.must_stop(*client) {
                Some(expected) if expected == *rule && *phase == oracle.phase => {
                    oracle.stopped.insert(*client, (*phase, *rule));
                }
                expected => return Err(at(format!("{client} stops for R-{rule:02}; expected {expected:?}"))),
            },
            Event::Closed => {
                oracle.everybody_honest_spoke(&events[..line]).map_err(at)?;
                oracle.close();
            }
        }
    }
    oracle.forecast()
}

impl<'a> Oracle<'a> {
    fn new(told: &'a Told) -> Self {
        Self {
            told,
            phase: PhaseKind::Advertising,
            kept: BTreeMap::new(),
            claims: BTreeMap::new(),
            ring: None,
            mail: BTreeMap::new(),
            complaints: BTreeMap::new(),
            candidates: BTreeSet::new(),
            opened: BTreeSet::new(),
            core: BTreeSet::new(),
            survivors: BTreeSet::new(),
            faults: BTreeMap::new(),
            stopped: BTreeMap::new(),
            turned_away: BTreeSet::new(),
            has_opened: false,
            end: None,
        }
    }

    fn forecast(self) -> Result<Forecast, String> {
        let end = self.end.clone().ok_or("the diary ends before the round")?;
        let is_within_bounds = self.is_within_bounds();
        let Self { faults, stopped, ring, has_opened, .. } = self;
        Ok(Forecast { faults, stopped, end, is_within_bounds, ring, has_opened })
    }

    /// P3: liars at most c, liars and lost together at most T, of the roster as it came to be.
    fn is_within_bounds(&self) -> bool {
        let Some(ring) = &self.ring else { return false };
        let liars = ring.members.iter().filter(|member| !self.told.honest.contains(member)).count();
        let is_lost = |member: &&ClientId| {
            self.told.honest.contains(*member)
                && (self.told.lost.contains_key(*member) || self.mail.keys().any(|(holder, _)| holder == *member))
        };
        let lost = ring.members.iter().filter(is_lost).count();
        liars <= ring.corrupt && liars + lost <= ring.tolerated
    }

    fn of_phase(&self, phase: PhaseKind) -> BTreeSet<ClientId> {
        self.kept.keys().filter(|(of, _)| *of == phase).map(|(_, client)| *client).collect()
    }

    fn ring(&self) -> &Ring {
        self.ring.as_ref().expect("the roster is fixed")
    }

    /// wire.md §8.1, in its order; then protocol.md §5.
    fn reply_to(&mut self, letter: &Letter) -> Reply {
        let is_over = self.end.is_some();
        if letter.phase > self.phase && !is_over {
            return Reply::bare(425);
        }
        if letter.phase != PhaseKind::Advertising
            && self.ring.as_ref().is_some_and(|ring| ring.leaf(letter.name).is_none())
        {
            return Reply::bare(404);
        }
        if letter.is_too_long {
            return Reply::bare(413);
        }
        let key = (letter.phase, letter.name);
        if letter.phase < self.phase || is_over {
            return match self.kept.get(&key) {
                None => Reply::bare(410),
                Some(kept) if kept.digest == letter.digest => Reply::YES,
                Some(_) => self.other_bytes(letter),
            };
        }
        let content = self.said(letter);
        let refusal = self.refusal(letter, &content);
        if let Some((reply, proves)) = refusal {
            match proves {
                Some(rule) if self.is_signed(letter) => self.name(letter.phase, letter.name, rule),
                _ => self.name_for_contradiction(letter),
            }
            return reply;
        }
        if let Some(kept) = self.kept.get(&key) {
            return if kept.digest == letter.digest { Reply::YES } else { self.other_bytes(letter) };
        }
        if let Content::Advert { keys, .. } = &content {
            if keys.iter().any(|claim| self.claims.get(claim).is_some_and(|holder| *holder != letter.name)) {
                return Reply::no(409, 9);
            }
            self.claims.extend(keys.iter().map(|claim| (*claim, letter.name)));
        }
        self.kept.insert(key, Kept { digest: letter.digest, statement: letter.statement, content });
        Reply::YES
    }

    /// Why a letter is refused, and the rule that it proves by itself to be broken.
    fn refusal(&self, letter: &Letter, content: &Content) -> Option<(Reply, Option<u8>)> {
        let refused = |reply| Some((reply, None));
        if let Some(rule) = self.not_entitled(letter) {
            return refused(Reply::no(422, rule));
        }
        if !letter.is_canonical {
            return refused(Reply::no(400, 37));
        }
        if !letter.is_senders {
            return refused(Reply::bare(403));
        }
        if letter.place != Place::Right {
            return refused(Reply::no(422, 1));
        }
        if let Content::Advert { is_certified: false, .. } = content {
            return refused(Reply::no(403, 6));
        }
        if !letter.is_signed {
            return refused(Reply::no(403, 37));
        }
        match letter.attached {
            Attached::AsSigned => {}
            Attached::NotCanonical => return refused(Reply::no(400, 37)),
            Attached::Other => {
                return refused(Reply::no(422, if letter.phase == PhaseKind::Masking { 19 } else { 13 }));
            }
        }
        let broken = |rule, is_proof: bool| Some((Reply::no(422, rule), is_proof.then_some(rule)));
        match content {
            Content::Advert { keys, .. } => {
                let distinct: BTreeSet<_> = keys[..3].iter().collect();
                if distinct.len() < 3 {
                    return broken(9, true);
                }
            }
            Content::Shares { is_in_order: false, .. } => return broken(13, true),
            Content::Shares { is_low_degree: false, .. } => return broken(38, true),
            Content::Reports { missing, complaints, .. } => {
                if complaints.len() > self.ring().openings_max() {
                    return broken(16, true);
                }
                let dealt = self.of_phase(PhaseKind::Sharing);
                let silent = |dealer: &&ClientId| !dealt.contains(*dealer);
                let near = self.ring().neighbours(letter.name);
                if near.iter().filter(silent).any(|dealer| !missing.contains(dealer)) {
                    return broken(17, false);
                }
            }
            Content::Openings { holders, .. } => {
                let complainers = &self.complaints[&letter.name];
                if complainers.len() > self.ring().openings_max() || complainers != holders {
                    return broken(16, false);
                }
            }
            _ => {}
        }
        None
    }

    /// The rule for which a client may send nothing in this phase.
    fn not_entitled(&self, letter: &Letter) -> Option<u8> {
        let client = letter.name;
        let unless = |holds: bool, rule| (!holds).then_some(rule);
        match letter.phase {
            PhaseKind::Acknowledging => unless(self.kept.contains_key(&(PhaseKind::Sharing, client)), 17),
            PhaseKind::Opening => unless(self.complaints.contains_key(&client), 16),
            PhaseKind::Masking => unless(self.core.contains(&client), 17),
            PhaseKind::Confirming => {
                unless(self.ring().agrees(client), 23).or_else(|| unless(self.survivors.contains(&client), 21))
            }
            PhaseKind::Unmasking => unless(self.survivors.contains(&client), 21),
            _ => None,
        }
    }

    fn other_bytes(&mut self, letter: &Letter) -> Reply {
        self.name_for_contradiction(letter);
        Reply::no(409, if letter.phase == PhaseKind::Masking { 19 } else { 3 })
    }

    /// The client of the address itself signed the statement, for this round.
    fn is_signed(&self, letter: &Letter) -> bool {
        let is_its_own = letter.statement.is_some() && letter.is_senders && letter.is_signed;
        if letter.phase == PhaseKind::Advertising {
            let is_certified = matches!(letter.content, Content::Advert { is_certified: true, .. });
            return is_its_own && letter.is_canonical && letter.place == Place::Right && is_certified;
        }
        is_its_own && letter.place != Place::OtherRound && self.ring.is_some()
    }

    /// protocol.md §4.1: two statements of which an honest client signs one.
    fn name_for_contradiction(&mut self, letter: &Letter) {
        let is_erased = self.end.is_some() && (letter.phase == PhaseKind::Unmasking || self.ring.is_none());
        let Some(first) = self.kept.get(&(letter.phase, letter.name)).filter(|_| !is_erased) else { return };
        let is_beside = match letter.place {
            Place::Right | Place::OtherReceiver => true,
            Place::OtherPrevious => letter.phase == PhaseKind::Confirming,
            Place::OtherRound => false,
        };
        if self.is_signed(letter) && is_beside && first.statement != letter.statement {
            let rule = match letter.phase {
                PhaseKind::Masking => 19,
                PhaseKind::Confirming => 23,
                _ => 3,
            };
            self.name(letter.phase, letter.name, rule);
        }
    }

    fn name(&mut self, phase: PhaseKind, client: ClientId, rule: u8) {
        self.faults.entry((phase, client)).or_insert(rule);
    }

    /// What a letter says; of an honest client the oracle knows.
    fn said(&self, letter: &Letter) -> Content {
        let Content::Honest = letter.content else { return letter.content.clone() };
        match letter.phase {
            PhaseKind::Sharing => Content::Shares { is_in_order: true, is_low_degree: true, bad: BTreeSet::new() },
            PhaseKind::Acknowledging => self.honest_reports(letter.name),
            PhaseKind::Opening => {
                let holders = self.complaints.get(&letter.name).cloned().unwrap_or_default();
                Content::Openings { holders, is_right: true }
            }
            PhaseKind::Confirming => Content::Confirmed,
            PhaseKind::Unmasking => Content::Shared { errors: BTreeMap::new(), missing: BTreeSet::new() },
            _ => Content::Unread,
        }
    }

    /// §5.3: good, missing or a complaint, and over which messages.
    fn honest_reports(&self, holder: ClientId) -> Content {
        let (mut missing, mut complaints, mut is_over_admitted) = (BTreeSet::new(), BTreeMap::new(), true);
        for dealer in self.ring().neighbours(holder) {
            let Some(kept) = self.kept.get(&(PhaseKind::Sharing, dealer)) else {
                missing.insert(dealer);
                continue;
            };
            match self.mail.get(&(holder, dealer)) {
                Some(MailFate::Lost) => {
                    missing.insert(dealer);
                }
                Some(MailFate::Swapped) => is_over_admitted = false,
                Some(MailFate::Doubled) | None => {
                    if matches!(&kept.content, Content::Shares { bad, .. } if bad.contains(&holder)) {
                        complaints.insert(dealer, true);
                    }
                }
            }
        }
        Content::Reports { missing, complaints, is_over_admitted }
    }

    /// The rule for which an honest client stops by itself in this phase, if it does.
    fn must_stop(&self, client: ClientId) -> Option<u8> {
        let ring = self.ring.as_ref()?;
        match self.phase {
            PhaseKind::Acknowledging => {
                let doubled = |((holder, _), fate): (&(ClientId, ClientId), &MailFate)| {
                    *holder == client && *fate == MailFate::Doubled
                };
                if self.mail.iter().any(doubled) {
                    return Some(13);
                }
                let Content::Reports { complaints, .. } = self.honest_reports(client) else { return None };
                (complaints.len() > ring.openings_max()).then_some(16)
            }
            PhaseKind::Opening => (self.complaints.get(&client)?.len() > ring.openings_max()).then_some(16),
            PhaseKind::Masking => (!self.core.contains(&client)).then_some(17),
            _ => None,
        }
    }

    /// Everybody honest who is not lost, turned away or stopped has sent what this phase asks of it.
    fn everybody_honest_spoke(&self, before: &[Event]) -> Result<(), String> {
        if self.end.is_some() {
            return Ok(());
        }
        for client in &self.told.honest {
            let is_lost = self.told.lost.get(client).is_some_and(|from| *from <= self.phase);
            let is_asked = match self.phase {
                PhaseKind::Advertising => true,
                _ if self.ring().leaf(*client).is_none() => false,
                PhaseKind::Opening => self.complaints.contains_key(client),
                PhaseKind::Masking => self.core.contains(client),
                PhaseKind::Confirming => self.survivors.contains(client) && self.ring().agrees(*client),
                PhaseKind::Unmasking => self.survivors.contains(client),
                _ => true,
            };
            let has_stopped = self.stopped.contains_key(client) || self.turned_away.contains(client);
            let spoke = before.iter().any(|event| {
                matches!(event, Event::Sent { letter, kind: None, .. } if letter.name == *client && letter.phase == self.phase)
            });
            if is_asked && !is_lost && !has_stopped && !spoke {
                return Err(format!("{client} is honest and here, and says nothing"));
            }
            if let Some(rule) = self.must_stop(*client)
                && !is_lost
                && !has_stopped
                && self.phase != PhaseKind::Masking
            {
                return Err(format!("{client} must stop for R-{rule:02} and does not"));
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        match self.phase {
            PhaseKind::Advertising => self.close_advertise(),
            PhaseKind::Sharing => {
                let dealt = self.of_phase(PhaseKind::Sharing);
                self.next_or(
                    PhaseKind::Acknowledging,
                    dealt.len() >= self.ring().survivors_min,
                    Abandonment::CoreTooSmall,
                );
            }
            PhaseKind::Acknowledging => self.close_acknowledge(),
            PhaseKind::Opening => self.close_open(),
            PhaseKind::Masking => self.close_mask(),
            PhaseKind::Confirming => {
                let confirmed = self.of_phase(PhaseKind::Confirming).len();
                self.next_or(PhaseKind::Unmasking, confirmed >= self.ring().threshold, Abandonment::NotConfirmed);
            }
            PhaseKind::Unmasking => self.close_unmask(),
            PhaseKind::Published | PhaseKind::Abandoned => {}
        }
    }

    fn next_or(&mut self, next: PhaseKind, holds: bool, reason: Abandonment) {
        if holds {
            self.phase = next;
        } else {
            self.end = Some(End::Abandoned(reason));
        }
    }

    fn close_advertise(&mut self) {
        let members: Vec<ClientId> = self.of_phase(PhaseKind::Advertising).into_iter().collect();
        if members.len() < self.told.params.roster_min as usize {
            self.end = Some(End::Abandoned(Abandonment::RosterTooSmall));
            return;
        }
        let ring = self.told.roster_root.and_then(|root| Ring::new(members, root, &self.told.params));
        self.next_or(PhaseKind::Sharing, ring.is_some(), Abandonment::Infeasible);
        self.ring = ring;
    }

    /// §5.3: who is left out, and whose complaints count.
    fn close_acknowledge(&mut self) {
        let dealt = self.of_phase(PhaseKind::Sharing);
        let mut complaints: BTreeMap<ClientId, BTreeSet<ClientId>> = BTreeMap::new();
        for ((phase, holder), kept) in &self.kept {
            let (PhaseKind::Acknowledging, Content::Reports { missing, complaints: about, is_over_admitted }) =
                (phase, &kept.content)
            else {
                continue;
            };
            let near: BTreeSet<ClientId> = self.ring().neighbours(*holder).into_iter().collect();
            let misses = missing.iter().any(|dealer| dealt.contains(dealer) && near.contains(dealer));
            if !is_over_admitted || misses || about.values().any(|names_the_edge| !names_the_edge) {
                continue;
            }
            self.candidates.insert(*holder);
            for dealer in about.keys() {
                complaints.entry(*dealer).or_default().insert(*holder);
            }
        }
        complaints.retain(|dealer, _| self.candidates.contains(dealer));
        self.complaints = complaints;
        if self.complaints.is_empty() {
            self.fix_core();
        } else {
            (self.phase, self.has_opened) = (PhaseKind::Opening, true);
        }
    }

    /// §5.4: right settles, wrong names and drops, absent drops.
    fn close_open(&mut self) {
        for (dealer, holders) in self.complaints.clone() {
            match self.kept.get(&(PhaseKind::Opening, dealer)).map(|kept| &kept.content) {
                Some(Content::Openings { is_right: true, .. }) => {
                    self.opened.extend(holders.into_iter().map(|holder| (dealer, holder)));
                }
                Some(_) => {
                    self.candidates.remove(&dealer);
                    self.name(PhaseKind::Opening, dealer, 16);
                }
                None => {
                    self.candidates.remove(&dealer);
                }
            }
        }
        self.fix_core();
    }

    /// the largest set in which everybody has t neighbours.
    fn fix_core(&mut self) {
        let mut core = self.candidates.clone();
        loop {
            let lonely: Vec<ClientId> =
                core.iter().copied().filter(|client| self.near(*client, &core) < self.ring().threshold).collect();
            if lonely.is_empty() {
                break;
            }
            lonely.iter().for_each(|client| {
                core.remove(client);
            });
        }
        self.core = core;
        self.next_or(PhaseKind::Masking, self.core.len() >= self.ring().survivors_min, Abandonment::CoreTooSmall);
    }

    fn near(&self, client: ClientId, among: &BTreeSet<ClientId>) -> usize {
        self.ring().neighbours(client).iter().filter(|near| among.contains(near)).count()
    }

    fn close_mask(&mut self) {
        self.survivors = self.of_phase(PhaseKind::Masking);
        let served = self.core.iter().all(|member| self.near(*member, &self.survivors) >= self.ring().threshold);
        let enough = self.survivors.len() >= self.ring().survivors_min;
        self.next_or(PhaseKind::Confirming, served && enough, Abandonment::TooFewSurvivors);
    }

    /// the first t shares; if they rebuild something else, those that are wrong are named and the others are taken.
    fn close_unmask(&mut self) {
        let mut is_open = true;
        let mut liars = BTreeSet::new();
        for owner in self.core.clone() {
            let shares = self.shares_of(owner);
            let Some(error) = self.error_of(&shares) else {
                is_open = false; // too few, also without those that are wrong: but these are named all the same
                liars.extend(wrong(&shares));
                continue;
            };
            if error == Scalar::ZERO {
                continue;
            }
            liars.extend(wrong(&shares));
            let right: Vec<_> = shares.into_iter().filter(|(_, error)| *error == Scalar::ZERO).collect();
            is_open &= self.error_of(&right).is_some();
        }
        liars.into_iter().for_each(|liar| self.name(PhaseKind::Unmasking, liar, 29));
        self.end = Some(if is_open {
            End::Released { survivors: self.survivors.clone(), sum: self.sum() }
        } else {
            End::Abandoned(Abandonment::NotOpened)
        });
    }

    /// Shares of one owner that were given or opened, ascending by leaf: holder and error.
    fn shares_of(&self, owner: ClientId) -> Vec<(ClientId, Scalar)> {
        let mut near = self.ring().neighbours(owner);
        near.sort();
        let share = |holder: ClientId| {
            if self.opened.contains(&(owner, holder)) {
                return Some((holder, Scalar::ZERO));
            }
            let Content::Shared { errors, missing } = &self.kept.get(&(PhaseKind::Unmasking, holder))?.content else {
                return None;
            };
            let error = errors.get(&owner).copied().unwrap_or(Scalar::ZERO);
            (!missing.contains(&owner)).then_some((holder, error))
        };
        near.into_iter().filter_map(share).collect()
    }

    /// By how much the secret is missed that the first t of these rebuild; nothing if they are too few.
    fn error_of(&self, shares: &[(ClientId, Scalar)]) -> Option<Scalar> {
        let first = shares.get(..self.ring().threshold)?;
        let leaves: Vec<usize> = first.iter().map(|(holder, _)| self.ring().leaf(*holder).expect("a member")).collect();
        Some(weights(&leaves, 0).iter().zip(first).map(|(weight, (_, error))| weight * error).sum())
    }

    fn sum(&self) -> Vec<i64> {
        let mut sum = vec![0_i64; self.told.params.vector_len as usize];
        for survivor in &self.survivors {
            let Content::Upload(values) = &self.kept[&(PhaseKind::Masking, *survivor)].content else { continue };
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
        }
        RingVector::from_signed(&sum, self.told.params.ring_bits).to_signed()
    }
}

fn wrong(shares: &[(ClientId, Scalar)]) -> impl Iterator<Item = ClientId> + '_ {
    shares.iter().filter(|(_, error)| *error != Scalar::ZERO).map(|(holder, _)| *holder)
}
