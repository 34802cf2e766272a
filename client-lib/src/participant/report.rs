//! What a client checked, step by step, with the figures that were compared. Protocol §5
//!
//! The phases of `veilsum_crypto::client` decide: a step that returns has made every check of its §, and one that does not
//! returns the check that failed. Here it is said afterwards, from the round's own bytes, which checks those were and on
//! what. Nothing is decided here, and nothing secret is said: public figures, counts, the beginnings of keys and hashes.

use veilsum_crypto::client::memory::TakenPart;
use veilsum_crypto::client::policy::{AllowedModels, GammaBasis, round_charge_of};
use veilsum_crypto::client::{Memory, Policy};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, Timestamp};
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::{
    Acknowledgement, Answer, CoreSet, EdgeReport, Header, Opening, Outcome, RoundResult, Survivors,
};
use veilsum_crypto::params::{RingOrder, RosterParams};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle::TreeHead;
use veilsum_crypto::primitives::signature::Signed;
use veilsum_crypto::rules::Rule;

use super::Phase;
use super::round::Round;

/// One check that a client made and that held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// By which rule of docs/protocol.md.
    pub rule: Rule,
    /// While it worked on which phase.
    pub phase: Phase,
    /// What was compared with what.
    pub compared: String,
}

/// The checks of one step.
#[derive(Debug)]
pub struct Checks(Phase, Vec<Check>);

impl Checks {
    fn of(phase: Phase) -> Self {
        Self(phase, Vec::new())
    }

    fn held(&mut self, rule: u8, compared: impl Into<String>) {
        self.1.push(Check { rule: Rule(rule), phase: self.0, compared: compared.into() });
    }

    fn served(&mut self, what: &str, bytes: usize, place: &str, header: &Header) {
        self.held(37, format!("{what}: {bytes} bytes, canonical to the last one; one strict Ed25519 signature"));
        let key = brief(header.aggregator_key.as_bytes());
        self.held(1, format!("{what}: by the pinned aggregator key {key}, {place}"));
    }

    /// In the order in which they were made, as far as the text has one.
    pub fn into_vec(self) -> Vec<Check> {
        self.1
    }
}

/// What a client remembered before it judged a header.
#[derive(Debug)]
pub struct Before {
    /// Last counter of the task.
    pub counter: u64,
    /// Newest log.
    pub log: Option<TreeHead>,
    /// Epsilon spent, and epsilon with this round.
    pub epsilon: (f64, f64),
    /// Rounds of the task in which it took part.
    pub taken: TakenPart,
}

impl Before {
    /// Of a memory, for a round that it does not know yet.
    pub fn of(memory: &Memory, header: &Header, policy: &Policy) -> Self {
        let (ledger, delta) = (memory.ledger(), policy.budget.delta);
        let spent = ledger.epsilon_spent(delta);
        let with = round_charge_of(&header.params).map_or(spent, |charge| ledger.epsilon_with(&charge, delta));
        let aggregator = &policy.aggregator;
        let (counter, taken) =
            (memory.last_counter(aggregator, header.task), memory.taken_part(aggregator, header.task));
        Self { counter, log: memory.log_of(aggregator), epsilon: (spent, with), taken }
    }
}

/// §5.1: a header that was answered.
pub fn header(
    round: &Round,
    policy: &Policy,
    own: &CertificateBody,
    before: &Before,
    growth: usize,
    now: Timestamp,
) -> Checks {
    let mut checks = Checks::of(Phase::Advertise);
    let Round { header, notes, .. } = round;
    let params = &header.params;
    checks.served("header", notes.header.len(), "with nothing before it", header);
    let authority = brief(header.authority_key.as_bytes());
    checks.held(2, format!("header: names the pinned authority key {authority} and the task {}", header.task));
    checks.held(
        2,
        match policy.layout {
            Some(layout) => format!("layout of the vector: {}, as pinned", brief(&layout.0)),
            None => format!("layout of the vector: {}, none is pinned", brief(&header.layout_hash.0)),
        },
    );
    checks.held(
        2,
        match &policy.models {
            AllowedModels::Any => {
                format!("model: its bytes hash to {} as signed; any is allowed", brief(&header.model_hash.0))
            }
            AllowedModels::OneOf(models) => {
                format!("model: its bytes hash to {}, one of the {} allowed", brief(&header.model_hash.0), models.len())
            }
        },
    );
    checks.held(2, format!("round counter: {} after {}, by at most 2^20", header.counter, before.counter));
    floors(&mut checks, header, policy);
    let sizes = params.roster_min..=params.roster_max;
    let honest = sizes.clone().filter_map(|n| params.honest(n).ok()).min().unwrap_or(0);
    let needed = params.ring_bits_needed().map_or(0, |bits| bits.get());
    checks.held(
        14,
        format!(
            "noise and ring, for every roster of {} to {}: at least {honest} honest share(s) of the noise; {} ring bits, \
             {needed} needed",
            sizes.start(),
            sizes.end(),
            params.ring_bits.get()
        ),
    );
    let apart_s = header.opened_at.0.abs_diff(now.0) as f64 / 1e6;
    checks.held(6, format!("opening time: {apart_s:.1} s from this clock, at most {} s", policy.clock_apart_max_s));
    let left_h = header.opened_at.0.abs_diff(own.not_after.0) / (3_600 * 1_000_000);
    checks.held(6, format!("own certificate: by that authority, valid at the opening time and {left_h} h more"));
    checks.held(
        36,
        match header.revocation_number {
            0 => "revocations: the header names no list, and none was seen before".to_string(),
            number => format!(
                "revocations: list {number} with digest {}, signed by the authority, not older than one seen; this client is \
                 not on it",
                brief(&header.revocation_digest.0)
            ),
        },
    );
    checks.held(
        33,
        match before.log {
            None => format!("log: {} entries, seen for the first time", header.log.size),
            Some(seen) => format!(
                "log: {} entries extend the {} seen before, by a proof of {growth} hashes",
                header.log.size, seen.size
            ),
        },
    );
    let (spent, with) = before.epsilon;
    checks.held(
        26,
        match params.total_variance {
            0 => "own budget: this round adds no noise and has no bound; the policy demands none".to_string(),
            _ => format!(
                "own budget: epsilon {spent:.3} so far, {with:.3} with this round, at most {}",
                policy.budget.epsilon
            ),
        },
    );
    let TakenPart { rounds, last } = before.taken;
    let at_most = policy.rounds_max.map_or("no limit of its own".to_string(), |max| format!("at most {max}"));
    let after = last.map_or(String::new(), |last| format!("; the last was {last}, this is {}", header.counter));
    let apart = policy.rounds_apart_min;
    checks.held(
        26,
        format!("own limits: took part in {rounds} round(s) of this task, {at_most}{after}, at least {apart} apart"),
    );
    checks
}

/// the policy's floors and ceilings.
fn floors(checks: &mut Checks, header: &Header, policy: &Policy) {
    let params = &header.params;
    let mut bound = |what: &str, found: String, sign: &str, demanded: String| {
        checks.held(2, format!("policy, {what}: {found} {sign} {demanded}"));
    };
    let smallest = params.survivors_min(params.roster_min);
    bound("smallest sum", smallest.to_string(), ">=", policy.cohort_min.to_string());
    bound("cohort_min", params.cohort_min.to_string(), ">=", policy.cohort_min.to_string());
    bound("gamma", millionths(params.corrupt_fraction), ">=", millionths(policy.corrupt_fraction_min));
    bound("delta", millionths(params.dropout_tolerance), "<=", millionths(policy.dropout_tolerance_max));
    bound("sigma", params.security_bits.to_string(), ">=", policy.security_bits_min.to_string());
    bound("eta", params.completion_bits.to_string(), ">=", policy.completion_bits_min.to_string());
    bound("wrap_bits", params.wrap_bits.to_string(), ">=", policy.wrap_bits_min.to_string());
    bound("clip norm", params.clip_norm.to_string(), "<=", policy.clip_norm_max.to_string());
    let longest_ms = params.windows.0.iter().copied().max().unwrap_or(0);
    bound("longest window", format!("{longest_ms} ms"), "<=", format!("{} s", policy.window_max_s));
    bound("dp_delta", format!("{:e}", params.dp_delta), "<=", format!("{:e}", policy.dp_delta_max));
    let multiplier = (params.total_variance as f64).sqrt() / (params.clip_norm * params.scale);
    bound("noise multiplier", format!("{multiplier:.4}"), ">=", format!("{:.4}", policy.noise_multiplier_min));
    checks.held(
        2,
        format!("largest squared norm after rounding: {}, no more than rounding can reach", params.max_squared_norm),
    );
    checks.held(
        7,
        match policy.gamma {
            GammaBasis::AssumedPerRoster => {
                "gamma is assumed per roster, not proved: the policy says so in as many words".to_string()
            }
            GammaBasis::CertifiedGroup { coverage_min, corrupt_of_group } => format!(
                "gamma {} covers {} of a certified group over a cover of {}",
                millionths(params.corrupt_fraction),
                millionths(corrupt_of_group),
                millionths(coverage_min)
            ),
        },
    );
}

/// §5.2: a roster that shares were dealt over. `opened`: the leaves that were asked for.
pub fn roster(round: &Round, client: ClientId, policy: &Policy, opened: usize, after_ms: Option<u64>) -> Checks {
    let mut checks = Checks::of(Phase::Share);
    let (roster, params) = round.placed();
    let RosterParams { n, degree, threshold, honest, corrupt, tolerated, .. } = *params;
    checks.served("roster", round.notes.roster.len(), "over this header", &round.header);
    let deadline_ms = policy.roster_deadline_ms;
    checks.held(
        8,
        match after_ms {
            Some(after_ms) => format!("roster: {after_ms} ms after the own advert, at most {deadline_ms} ms"),
            None => format!("roster: by this machine's clock no later than {deadline_ms} ms after the own advert"),
        },
    );
    let root = brief(&roster.statement().root().0);
    checks.held(2, format!("roster: the first of this round, root {root}, on disk before any leaf was asked for"));
    checks.held(
        5,
        format!("roster: {n} ids, strictly ascending; the tree over ids and leaf digests has the signed root"),
    );
    checks.held(
        4,
        format!(
            "graph: from n = {n}, c = {corrupt}, T = {tolerated} follow k = {degree}, t = {threshold}, h = {honest}; the roster \
             says the same; 2t > k + c"
        ),
    );
    let me = roster.leaf_of(client).map_or(0, |leaf| leaf.0);
    checks.held(6, format!("own leaf: at index {me}, with the keys and the nonce that were sent"));
    let (neighbours, wanted) = (degree as usize, opened);
    checks.held(
        6,
        format!(
            "leaves: {wanted} of {n} opened (own, {neighbours} neighbours, agreement set, random ones); each hashes to the \
             roster, with certificate and advert signed for this round"
        ),
    );
    checks.held(
        9,
        format!(
            "keys: {} in the opened leaves, canonical and pairwise different, as are {wanted} identity keys",
            3 * wanted
        ),
    );
    if let GammaBasis::CertifiedGroup { coverage_min, .. } = policy.gamma {
        checks.held(
            7,
            format!(
                "group: every opened leaf is of the own one, and {n} cover at least {} of it",
                millionths(coverage_min)
            ),
        );
    }
    checks
}

/// §5.3: a mailbox, as the acknowledgement says what was in it.
pub fn mailbox(round: &Round, acknowledgement: &[u8]) -> Checks {
    let mut checks = Checks::of(Phase::Acknowledge);
    let (_, params) = round.placed();
    let Ok(said) = Acknowledgement::decode(acknowledgement, params.degree) else { return checks };
    let count = |wanted: fn(&EdgeReport) -> bool| said.reports().iter().filter(|report| wanted(report)).count();
    let good = count(|report| *report == EdgeReport::Good);
    let missing = count(|report| *report == EdgeReport::Missing);
    let complaints = said.complaints();
    checks.held(
        13,
        format!(
            "mail from {} neighbours: {good} signed by their dealer, opened, and right for both signed points; {complaints} \
             wrong, {missing} missing",
            params.degree
        ),
    );
    checks.held(16, format!("complaints made: {complaints}, at most 2t - k - 1 = {}", params.openings_max()));
    checks
}

/// §5.4: edges that were opened because their holders complained.
pub fn opening(round: &Round, opening: &[u8]) -> Checks {
    let mut checks = Checks::of(Phase::Open);
    let (_, params) = round.placed();
    let Ok(said) = Opening::decode(opening, params.degree) else { return checks };
    checks.held(
        16,
        format!(
            "openings: {} neighbour(s) complained over this roster, signed, of the very edge that was dealt; at most {} in all",
            said.edges().len(),
            params.openings_max()
        ),
    );
    checks
}

/// §5.5: a core that was masked under, and the update that was.
pub fn core(round: &Round, client: ClientId, core: &[u8], epsilon: Option<f64>) -> Checks {
    let mut checks = Checks::of(Phase::Mask);
    let (_, params) = round.placed();
    let Some(core_set) = core_of(core, params.n) else { return checks };
    let members = core_set.members();
    let (me, neighbours) = seat(round, client);
    checks.served("core", core.len(), "over this roster", &round.header);
    let root = brief(&core_set.root().0);
    checks.held(2, format!("core: the first of this round, root {root}; nothing is opened after it"));
    let inside = members.count_of(&neighbours);
    checks.held(17, format!("core: holds this client, leaf {}", me.0));
    checks.held(17, format!("core: {inside} of {} neighbours, at least t = {}", params.degree, params.threshold));
    checks.held(17, format!("core: {} of {}, at least {}", members.count(), params.n, params.survivors_min));
    let header = &round.header.params;
    checks.held(
        34,
        format!(
            "update: {} elements as announced, all finite, clipped to {}, its squared norm in integers at most {}",
            header.vector_len, header.clip_norm, header.max_squared_norm
        ),
    );
    let variance = params.share_variance;
    checks.held(
        14,
        format!("own noise: variance {variance} each element = ceil({} / {})", header.total_variance, params.honest),
    );
    if let Some(epsilon) = epsilon {
        checks.held(26, format!("own ledger: charged before a byte of the update was sent; epsilon {epsilon:.3}"));
    }
    checks.held(18, format!("masks: the own and one with each of the {inside} neighbours in the core, no other"));
    checks
}

/// §5.6: a survivor list that was accepted.
pub fn survivors(round: &Round, client: ClientId, survivors: &[u8]) -> Checks {
    let mut checks = Checks::of(Phase::Confirm);
    let (_, params) = round.placed();
    let Some(list) = survivors_of(survivors, params.n) else { return checks };
    let alive = list.members();
    let (me, neighbours) = seat(round, client);
    checks.served("survivor list", survivors.len(), "over this core", &round.header);
    checks.held(20, format!("survivors: {} in all, every one of the core", alive.count()));
    checks.held(15, format!("survivors: {}, at least {}", alive.count(), params.survivors_min));
    let listed = alive.count_of(&neighbours);
    checks.held(21, format!("survivors: this client is listed, leaf {}", me.0));
    checks.held(21, format!("survivors: {listed} of {} neighbours, at least t = {}", params.degree, params.threshold));
    checks.held(
        22,
        format!("uploads of neighbours: {listed} listed alive, {listed} shown, each signed under this very core"),
    );
    let root = brief(&list.root().0);
    checks.held(23, format!("survivors: root {root} is the only one that this client ever accepts in this round"));
    checks
}

/// §5.7: confirmations that were enough, and the answer that was given.
pub fn confirmations(round: &Round, client: ClientId, core: Option<&[u8]>, shown: usize, answer: &[u8]) -> Checks {
    let mut checks = Checks::of(Phase::Unmask);
    let (_, params) = round.placed();
    checks.held(
        24,
        format!(
            "confirmations: {shown} shown; t = {} of the agreement set, all survivors, signed the very list that was accepted",
            params.threshold
        ),
    );
    let (_, neighbours) = seat(round, client);
    // A round that was resumed after its upload has its core sealed in the phase; only the figures are missing then.
    let asked = core.and_then(|core| core_of(core, params.n)).map(|core| core.members().count_of(&neighbours));
    let given =
        asked.and_then(|asked| Some(Answer::decode(answer, asked as usize).ok()?.shares().iter().flatten().count()));
    let of_whom = match (given, asked) {
        (Some(given), Some(asked)) => format!("{given} of {asked} neighbours in the core"),
        _ => "every neighbour in the core whose share is held".to_string(),
    };
    checks.held(
        25,
        format!(
            "answer: one share of {of_whom}: of the self mask of who survived, of the masking key of who did not, never both"
        ),
    );
    checks
}

/// §5.8: a result that is believed.
pub fn result(round: &Round, result: &[u8]) -> Checks {
    let mut checks = Checks::of(Phase::Verify);
    checks.served("result", result.len(), "over this survivor list", &round.header);
    let mut reader = Reader::new(result);
    let statement = Signed::read(&mut reader, labels::RESULT).map(|signed| signed.statement().clone());
    if let Ok(said) = statement.and_then(RoundResult::from_statement) {
        checks.held(20, format!("result: counts {} clients, as many as the survivor list", said.count()));
        checks.held(
            20,
            match said.outcome() {
                Outcome::Released => format!("sum: {} bytes, with the signed digest", reader.rest().len()),
                Outcome::NotOpened => "sum: none, a secret could not be rebuilt; and no bytes follow".to_string(),
            },
        );
    }
    checks
}

fn seat(round: &Round, client: ClientId) -> (LeafIndex, Vec<LeafIndex>) {
    let (roster, params) = round.placed();
    let Some(me) = roster.leaf_of(client) else { return (LeafIndex(0), Vec::new()) };
    (me, RingOrder::new(&roster.statement().root(), params).neighbours(me))
}

fn core_of(bytes: &[u8], n: u32) -> Option<CoreSet> {
    CoreSet::from_statement(Signed::decode(bytes, labels::CORE).ok()?.statement().clone(), n).ok()
}

fn survivors_of(bytes: &[u8], n: u32) -> Option<Survivors> {
    Survivors::from_statement(Signed::decode(bytes, labels::SURVIVORS).ok()?.statement().clone(), n).ok()
}

/// The first eight digits: enough to tell keys and roots apart by eye.
fn brief(bytes: &[u8; 32]) -> String {
    let mut digits = Digest(*bytes).to_string();
    digits.truncate(8);
    digits.push('…');
    digits
}

fn millionths(fraction: u32) -> String {
    (f64::from(fraction) / 1e6).to_string()
}
