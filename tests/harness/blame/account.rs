//! Judges a round that was played, and counts what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::json;
use veilsum_crypto::ids::{ClientId, LeafIndex};
use veilsum_crypto::messages::{Evidence, SealedShares};
use veilsum_crypto::server::PhaseKind;

use super::evidence::Court;
use super::kinds::{Kind, phase_name};
use super::letter::{Deed, Diary, End, Event};
use super::memory::Played;
use super::oracle::{self, Forecast};
use super::plan::Plan;
use super::ploys::number_of;
use super::seed::Seed;
use crate::dice::Dice;

/// What a round did not do as it must.
#[derive(Debug)]
pub struct Mismatch {
    /// Plays it again.
    pub seed: Seed,
    /// What is wrong.
    pub what: String,
    /// What happened, line by line.
    pub story: String,
}

impl Mismatch {
    /// A round in which something panicked.
    pub fn of_panic(seed: Seed, panic: &(dyn std::any::Any + Send)) -> Self {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Self { seed, what: format!("panicked: {}", said.unwrap_or_default()), story: String::new() }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "round {}: {}", self.seed, self.what)?;
        write!(f, "{}", self.story)
    }
}

/// What came of one misbehaviour.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fate {
    /// Its client is named for it, with evidence.
    Named,
    /// Its message was refused, and nobody is named.
    Refused,
    /// It was not refused, and nobody is named.
    Unnamed,
}

/// One round that was as it must be.
#[derive(Clone, Debug)]
pub struct Account {
    /// Of which.
    pub seed: Seed,
    /// n of the roster; 0 without one.
    pub n: usize,
    /// Whether the graph was complete.
    pub is_complete: bool,
    /// Liars and losses within what the protocol bears.
    pub is_within_bounds: bool,
    /// A sum was released, and it was exact.
    pub is_released: bool,
    /// Somebody had to open edges.
    pub has_opened: bool,
    /// What was played, and what came of it.
    pub deeds: Vec<(Kind, Fate)>,
    /// Faults whose evidence was verified.
    pub proofs: usize,
    /// Pieces of evidence that prove nothing, and did not.
    pub frames: usize,
}

/// Judges a round: the oracle, then the evidence.
pub fn judge(plan: &Plan, played: Played) -> Result<Account, Mismatch> {
    let wrong = |what: String| Mismatch { seed: plan.seed, what, story: story(plan, &played) };
    let forecast = oracle::judge(&played.told, &played.diary.events).map_err(wrong)?;
    compare(plan, &played, &forecast).map_err(wrong)?;
    let proofs = verify(&played).map_err(wrong)?;
    let frames = frame(plan, &played).map_err(wrong)?;
    let ring = forecast.ring.as_ref();
    let deeds = played.diary.deeds.iter().map(|deed| (deed.kind, fate(deed, &played))).collect();
    Ok(Account {
        seed: plan.seed,
        n: ring.map_or(0, |ring| ring.n()),
        is_complete: ring.is_some_and(|ring| ring.is_complete()),
        is_within_bounds: forecast.is_within_bounds,
        is_released: matches!(played.end, End::Released { .. }),
        has_opened: forecast.has_opened,
        deeds,
        proofs,
        frames,
    })
}

/// Everything that was seen is what the oracle says.
fn compare(plan: &Plan, played: &Played, forecast: &Forecast) -> Result<(), String> {
    if let Some(((_, client), (rule, _))) =
        played.faults.iter().find(|((_, client), _)| played.told.honest.contains(client))
    {
        return Err(format!("an honest client is named: {client}, for R-{rule:02}"));
    }
    let named: BTreeMap<(PhaseKind, ClientId), u8> =
        played.faults.iter().map(|(place, (rule, _))| (*place, *rule)).collect();
    if named != forecast.faults {
        return Err(format!("named: {}; must be named: {}", names(&named), names(&forecast.faults)));
    }
    let stopped: BTreeSet<ClientId> = forecast.stopped.keys().copied().collect();
    if played.end != forecast.end {
        return Err(format!("it ends with {:?}; it must end with {:?}", played.end, forecast.end));
    }
    if forecast.is_within_bounds && !matches!(played.end, End::Released { .. }) {
        return Err(format!("liars and losses are within the bounds, and there is no sum: {:?}", played.end));
    }
    let sum = match &played.end {
        End::Released { sum, .. } => Some(sum),
        End::Abandoned(_) => None,
    };
    for (client, believed) in &played.believed {
        if believed.as_ref() != sum {
            return Err(format!("{client} believes in {believed:?}"));
        }
    }
    if let End::Released { survivors, .. } = &played.end {
        let lost = |client: &ClientId| plan.lost.contains_key(&number_of(*client));
        let silent = survivors.iter().find(|client| {
            played.told.honest.contains(client)
                && !lost(client)
                && !stopped.contains(client)
                && !played.believed.contains_key(client)
        });
        if let Some(client) = silent {
            return Err(format!("{client} is a survivor, honest and here, and verified nothing"));
        }
    }
    Ok(())
}

fn names(faults: &BTreeMap<(PhaseKind, ClientId), u8>) -> String {
    let name = |((phase, client), rule): (&(PhaseKind, ClientId), &u8)| {
        format!("{} in {} for R-{rule:02}", number_of(*client), phase_name(*phase))
    };
    if faults.is_empty() { "nobody".into() } else { faults.iter().map(name).collect::<Vec<_>>().join(", ") }
}

/// What a fault keeps convinces an outsider; with one bit turned, or against somebody else, or for another rule, it does not.
fn verify(played: &Played) -> Result<usize, String> {
    let mut dice = Dice::new(played.faults.len() as u64, "bits");
    let court = Court::new(&played.public);
    for ((phase, client), (rule, bytes)) in &played.faults {
        let place = format!("the evidence against {} in {}", number_of(*client), phase_name(*phase));
        court.judge(*client, *rule, bytes).map_err(|why| format!("{place} proves nothing: {why}"))?;
        for _ in 0..3 {
            let mut turned = bytes.clone();
            let at = dice.index(turned.len());
            turned[at] ^= 1 << dice.index(8);
            if court.judge(*client, *rule, &turned).is_ok() {
                return Err(format!("{place} still proves it with byte {at} of {} changed", turned.len()));
            }
        }
        let others = played.told.honest.iter().copied().chain(played.faults.keys().map(|(_, other)| *other));
        for other in others.filter(|other| other != client) {
            if court.judge(other, *rule, bytes).is_ok() {
                return Err(format!("{place} proves it of {} too", number_of(other)));
            }
        }
        for other in [3, 9, 13, 16, 19, 23, 29, 38].into_iter().filter(|other| other != rule) {
            if court.judge(*client, other, bytes).is_ok() {
                return Err(format!("{place} is for R-{rule:02} and proves R-{other:02} as well"));
            }
        }
    }
    Ok(played.faults.len())
}

/// Evidence made of what honest clients sent proves nothing.
fn frame(plan: &Plan, played: &Played) -> Result<usize, String> {
    let mut frames = 0;
    let mut dice = plan.seed.dice("frames");
    let court = Court::new(&played.public);
    let honest: Vec<ClientId> = played.told.honest.iter().copied().collect();
    for client in dice.some(&honest, 2) {
        let sent = |phase| played.messages.get(&(phase, client)).cloned();
        let Some(leaf) = sent(PhaseKind::Advertising) else { continue };
        let with = |message: Vec<u8>| Evidence::Message { leaf: leaf.clone(), message };
        let mut made: Vec<(u8, Evidence)> = vec![(9, with(leaf.clone()))];
        let by_itself = [(PhaseKind::Sharing, [13, 38]), (PhaseKind::Acknowledging, [16, 16])];
        for (phase, rules) in by_itself {
            made.extend(sent(phase).into_iter().flat_map(|message| rules.map(|rule| (rule, with(message.clone())))));
        }
        let twice =
            [(PhaseKind::Sharing, 3), (PhaseKind::Masking, 19), (PhaseKind::Confirming, 23), (PhaseKind::Unmasking, 3)];
        for (phase, rule) in twice {
            let Some(message) = sent(phase) else { continue };
            let statement = if phase == PhaseKind::Masking { message[..223].to_vec() } else { message };
            let evidence = Evidence::Contradiction { leaf: leaf.clone(), first: statement.clone(), second: statement };
            made.push((rule, evidence));
        }
        made.extend(framed_answers(played, client, &leaf).into_iter().map(|made| (29, made)));
        made.extend(framed_openings(played, client, &leaf).into_iter().map(|made| (16, made)));
        for (rule, made) in made {
            frames += 1;
            if court.judge(client, rule, &made.encode()).is_ok() {
                return Err(format!("{} is honest, and this proves R-{rule:02} of it: {made:?}", number_of(client)));
            }
        }
    }
    Ok(frames)
}

/// An honest answer beside edges of its neighbours: those that it acknowledged, and those of second share messages that
/// liars signed and somebody else was shown.
fn framed_answers(played: &Played, client: ClientId, leaf: &[u8]) -> Vec<Evidence> {
    let received = |phase, client| played.received.get(&(phase, client)).cloned();
    let (Some(answer), Some(acknowledgement), Some((ring, degree))) =
        (received(PhaseKind::Unmasking, client), received(PhaseKind::Acknowledging, client), ring_of(played))
    else {
        return Vec::new();
    };
    let near = ring.neighbours(client);
    let admitted = |dealer: &ClientId| received(PhaseKind::Sharing, *dealer);
    let mail = |dealer: ClientId, message: &[u8]| {
        let (from, to) = (leaf_index(ring.leaf(dealer)?), leaf_index(ring.leaf(client)?));
        let shares = SealedShares::decode(message, degree).ok()?;
        let (_, item) = shares.mail(from).into_iter().find(|(holder, _)| *holder == to)?;
        Some((shares.signed().root(), item))
    };
    let roots: Vec<_> = near.iter().filter_map(|dealer| Some(mail(*dealer, &admitted(dealer)?)?.0)).collect();
    let first = near.iter().filter_map(|dealer| Some((*dealer, mail(*dealer, &admitted(dealer)?)?.1))).take(3);
    let second = played.seconds.iter().filter(|(dealer, _)| near.contains(dealer));
    let second = second.filter_map(|(dealer, message)| Some((*dealer, mail(*dealer, message)?.1)));
    let made = |(dealer, mail)| {
        Some(Evidence::Answer {
            leaf: leaf.to_vec(),
            answer: answer.clone(),
            acknowledgement: acknowledgement.clone(),
            roots: roots.clone(),
            dealer: received(PhaseKind::Advertising, dealer)?,
            mail,
        })
    };
    first.chain(second).filter_map(made).collect()
}

/// An honest opening beside every edge of its dealer.
fn framed_openings(played: &Played, client: ClientId, leaf: &[u8]) -> Vec<Evidence> {
    let sent = |phase| played.messages.get(&(phase, client)).cloned();
    let (Some(opening), Some(shares), Some((ring, degree))) =
        (sent(PhaseKind::Opening), sent(PhaseKind::Sharing), ring_of(played))
    else {
        return Vec::new();
    };
    let (Some(own), Ok(shares)) = (ring.leaf(client), SealedShares::decode(&shares, degree)) else { return Vec::new() };
    let made = |(_, mail)| Evidence::Opening { leaf: leaf.to_vec(), opening: opening.clone(), mail };
    shares.mail(leaf_index(own)).into_iter().map(made).collect()
}

fn leaf_index(leaf: usize) -> LeafIndex {
    LeafIndex(u32::try_from(leaf).expect("few"))
}

fn ring_of(played: &Played) -> Option<(super::ring::Ring, u32)> {
    use veilsum_crypto::messages::Roster;
    use veilsum_crypto::primitives::codec::Reader;
    use veilsum_crypto::primitives::labels;
    use veilsum_crypto::primitives::signature::Signed;
    let mut reader = Reader::new(played.public.roster.as_ref()?);
    let signed = Signed::read(&mut reader, labels::ROSTER).ok()?;
    let root = signed.root();
    let roster = Roster::from_parts(signed.statement().clone(), reader.rest()).ok()?;
    let members = roster.members().iter().map(|(client, _)| *client).collect();
    let ring = super::ring::Ring::new(members, root, &played.told.params)?;
    let degree = u32::try_from(ring.degree).ok()?;
    Some((ring, degree))
}

/// What came of a deed.
fn fate(deed: &Deed, played: &Played) -> Fate {
    let rules = deed.kind.named_for();
    // One fault a client and phase is kept, the first: what else it did there is proved by none.
    let is_named = played.faults.iter().any(|((phase, client), (rule, _))| {
        *client == deed.client && (rules.contains(rule) || (!rules.is_empty() && *phase == deed.kind.phase()))
    });
    if is_named {
        return Fate::Named;
    }
    let is_refused = deed.line.is_some_and(
        |line| matches!(&played.diary.events[line], Event::Sent { reply: Some(reply), .. } if reply.code != 204),
    );
    if is_refused { Fate::Refused } else { Fate::Unnamed }
}

/// The round in words.
pub fn story(plan: &Plan, played: &Played) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let params = &plan.params;
    let line = |text: &mut String, what: fmt::Arguments<'_>| writeln!(text, "  {what}").expect("a string");
    let (n, gamma, delta) = (params.roster_max, params.corrupt_fraction, params.dropout_tolerance);
    line(&mut text, format_args!("{n} clients, gamma {gamma}, delta {delta}, rosters from {}", params.roster_min));
    for (number, lies) in &plan.liars {
        let kinds: Vec<String> = lies.kinds.iter().map(|kind| kind.name()).collect();
        line(&mut text, format_args!("{number} lies: {} (stubborn from {:?})", kinds.join("; "), lies.stubborn_from));
    }
    for (number, phase) in &plan.lost {
        line(&mut text, format_args!("{number} is lost before {}", phase_name(*phase)));
    }
    for (kind, number) in &plan.network {
        line(&mut text, format_args!("to {number}: {}", kind.name()));
    }
    tell(&played.diary, &mut text);
    for ((phase, client), (rule, _)) in &played.faults {
        line(&mut text, format_args!("named: {} in {} for R-{rule:02}", number_of(*client), phase_name(*phase)));
    }
    text
}

fn tell(diary: &Diary, text: &mut String) {
    use std::fmt::Write as _;
    for (at, event) in diary.events.iter().enumerate() {
        match event {
            Event::Sent { letter, reply, kind } => {
                let reply = reply.map_or("?".to_string(), |reply| reply.to_string());
                let what = kind.map_or(String::new(), |kind| format!(" [{}]", kind.name()));
                let (phase, who) = (phase_name(letter.phase), number_of(letter.name));
                writeln!(text, "  {at:4} {phase:11} {who:3}{what} -> {reply}").expect("a string");
            }
            Event::Mail { holder, dealer, fate } => {
                let (holder, dealer) = (number_of(*holder), number_of(*dealer));
                writeln!(text, "  {at:4} mail of {dealer} for {holder}: {fate:?}").expect("a string");
            }
            Event::Stopped { client, phase, rule } => {
                let (client, phase) = (number_of(*client), phase_name(*phase));
                writeln!(text, "  {at:4} {phase:11} {client:3} stops for R-{rule:02}").expect("a string");
            }
            Event::Closed => writeln!(text, "  {at:4} closed").expect("a string"),
        }
    }
}

/// What a campaign has seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Rounds played.
    pub rounds: u64,
    /// Of them with a roster of 64.
    pub large: u64,
    /// With a complete graph.
    pub complete: u64,
    /// Within the bounds.
    pub within: u64,
    /// That released a sum; every one exact.
    pub released: u64,
    /// In which edges were opened.
    pub opened: u64,
    /// Faults whose evidence convinced an outsider.
    pub proofs: u64,
    /// Frames that did not.
    pub frames: u64,
    /// By kind: named, refused, unnamed.
    pub kinds: BTreeMap<Kind, [u64; 3]>,
}

impl Tally {
    /// Adds a round.
    pub fn add(&mut self, account: &Account) {
        self.rounds += 1;
        self.large += u64::from(account.seed.is_large());
        self.complete += u64::from(account.is_complete);
        self.within += u64::from(account.is_within_bounds);
        self.released += u64::from(account.is_released);
        self.opened += u64::from(account.has_opened);
        self.proofs += account.proofs as u64;
        self.frames += account.frames as u64;
        for (kind, fate) in &account.deeds {
            self.kinds.entry(*kind).or_default()[*fate as usize] += 1;
        }
    }

    /// Adds another campaign.
    pub fn join(&mut self, other: &Tally) {
        self.rounds += other.rounds;
        self.large += other.large;
        self.complete += other.complete;
        self.within += other.within;
        self.released += other.released;
        self.opened += other.opened;
        self.proofs += other.proofs;
        self.frames += other.frames;
        for (kind, counts) in &other.kinds {
            let sums = self.kinds.entry(*kind).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }

    /// Kinds that were never played.
    pub fn never_played(&self, among: impl IntoIterator<Item = Kind>) -> Vec<String> {
        among.into_iter().filter(|kind| !self.kinds.contains_key(kind)).map(Kind::name).collect()
    }

    /// As a table.
    pub fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!(
            "{:45} {:>7} {:>7} {:>8} {:>8}  unnamed because\n{}\n",
            "misbehaviour",
            "played",
            "named",
            "refused",
            "unnamed",
            "-".repeat(120)
        );
        for (kind, [named, refused, unnamed]) in &self.by_round() {
            let why = if refused + unnamed > 0 { kind.unnamed_because() } else { "" };
            let played = named + refused + unnamed;
            writeln!(text, "{:45} {played:7} {named:7} {refused:8} {unnamed:8}  {why}", kind.name()).expect("a string");
        }
        writeln!(
            text,
            "\n{} rounds: {} with 64 clients, {} on a complete graph, {} in which edges were opened\n\
             within the bounds: {}, every one released with the exact sum; beyond them: {}, of which {} released, exact too\n\
             named with evidence that an outsider verified: {}; frames made of honest messages, none convincing: {}",
            self.rounds,
            self.large,
            self.complete,
            self.opened,
            self.within,
            self.rounds - self.within,
            self.released - self.within,
            self.proofs,
            self.frames
        )
        .expect("a string");
        text
    }

    fn by_round(&self) -> Vec<(Kind, [u64; 3])> {
        Kind::all().into_iter().filter_map(|kind| Some((kind, *self.kinds.get(&kind)?))).collect()
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let kinds: Vec<serde_json::Value> = self
            .by_round()
            .into_iter()
            .map(|(kind, [named, refused, unnamed])| {
                json!({
                    "kind": kind.name(),
                    "phase": phase_name(kind.phase()),
                    "played": named + refused + unnamed,
                    "named": named,
                    "refused": refused,
                    "unnamed": unnamed,
                })
            })
            .collect();
        json!({
            "rounds": self.rounds,
            "large": self.large,
            "complete": self.complete,
            "opened": self.opened,
            "within_bounds": self.within,
            "released": self.released,
            "proofs": self.proofs,
            "frames": self.frames,
            "kinds": kinds,
        })
    }
}
