//! The round once more: the aggregator's own functions over what clients signed. docs/protocol.md §9, steps 2 to 12
//!
//! `server::accept` judges every message as it was judged when it came, `server::close` turns what was accepted into the
//! statement that must have been signed. Only masked inputs (the vectors are gone) and answers (gone altogether) are not run.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::export::{Export, ExportError, List, Section};
use super::report::{Figures, Report};
use super::{Pins, wrong};
use crate::client::policy::round_charge_of;
use crate::ids::{ClientId, Digest, LeafIndex};
use crate::math::ring::RingVector;
use crate::messages::key_advertisement::leaf_digest;
use crate::messages::masked_input::Upload;
use crate::messages::{CoreSet, Header, Outcome, RevocationList, Roster, RoundResult, Survivors};
use crate::params::RosterParams;
use crate::primitives::codec::Reader;
use crate::primitives::labels::{self, Label};
use crate::primitives::signature::{Signed, Statement};
use crate::rules::Abandonment;
use crate::server::{self, Assembly, Effect, Masking, Phase, PhaseKind, Received, RoundFacts, StatementKind};
use crate::update::{decode_sum, decode_weighted};

/// A round as far as its export shows it.
pub(super) struct Played {
    pub facts: RoundFacts,
    /// The unsigned statements of the chain, as far as they were fixed.
    pub statements: BTreeMap<StatementKind, Statement>,
    /// Phases as they stood when messages came, for evidence against those that were refused.
    pub phases: BTreeMap<PhaseKind, Phase>,
    pub assembly: Option<Assembly>,
    pub core: Option<CoreSet>,
    pub survivors: Option<Survivors>,
    /// Roots of the openings that led to the core, by dealer.
    pub openings: Vec<Digest>,
    /// Whom closing a phase names.
    pub named: Vec<(PhaseKind, ClientId)>,
}

type Judged<T> = Result<Option<T>, ExportError>;
type Bodies = BTreeMap<ClientId, Vec<u8>>;

/// Header to result; `None` if a check fails.
pub(super) fn round(export: &Export, pins: &Pins, report: &mut Report) -> Option<Played> {
    let header = report.check(|figures| header(export, pins, figures))??;
    let revoked = report.check(|figures| revocations(export, &header, figures))?.unwrap_or_default();
    let facts = RoundFacts::new(header, revoked);
    let mut played = Played {
        statements: BTreeMap::from([(StatementKind::Header, facts.header.statement())]),
        facts,
        phases: BTreeMap::from([(PhaseKind::Advertising, Phase::first())]),
        assembly: None,
        core: None,
        survivors: None,
        openings: Vec::new(),
        named: Vec::new(),
    };
    let Some(roster) = report.check(|figures| roster(export, &played, figures))? else {
        rest_is_empty(export, report, Section::Leaves)?;
        return Some(played);
    };
    let (leaves, phase) = report.check(|figures| leaves(export, &played, &roster, figures))??;
    played.statements.insert(StatementKind::Roster, roster.statement().clone());
    played.assembly = phase.assembly().cloned();
    played.phases.insert(PhaseKind::Sharing, phase.clone());

    let (shares, phase) = report.check(|figures| shares(export, &played, phase, figures))??;
    let Some(phase) = goes_on(phase) else {
        rest_is_empty(export, report, Section::Acknowledgements)?;
        return Some(played);
    };
    played.phases.insert(PhaseKind::Acknowledging, phase.clone());
    let (phase, effects) = report.check(|figures| acknowledgements(export, &played, &shares, phase, figures))??;
    let opened =
        report.check(|figures| openings(export, &mut played, (&leaves, &shares), phase, effects, figures))??;
    let Some(masking) = report.check(|figures| core(export, &mut played, opened, figures))? else {
        rest_is_empty(export, report, Section::Uploads)?;
        return Some(played);
    };
    let uploads = report.check(|figures| uploads(export, &played, &masking, figures))??;
    let Some(phase) = report.check(|figures| survivors(export, &mut played, masking, uploads, figures))? else {
        rest_is_empty(export, report, Section::Confirms)?;
        return Some(played);
    };
    let is_confirmed = report.check(|figures| confirms(export, &played, phase, figures))??;
    report.check(|figures| result(export, &mut played, is_confirmed, figures))?;
    Some(played)
}

/// §5.1 steps 1 to 3, with the keys pinned.
fn header(export: &Export, pins: &Pins, figures: &mut Figures) -> Judged<Header> {
    let statement = signed(&export.header, labels::HEADER, Section::Header, pins)?.statement().clone();
    let header = Header::from_statement(&statement).or_else(|error| wrong(Section::Header, error))?;
    figures.text("task", header.task);
    figures.number("counter", header.counter);
    figures.text("round", header.round());
    if header.aggregator_key != pins.aggregator || header.authority_key != pins.authority {
        return wrong(Section::Header, "it names another aggregator or another authority than those pinned");
    }
    if (header.revocation_number == 0) != (header.revocation_digest == Digest::NONE) {
        return wrong(Section::Header, "revocation number and digest must both be there or both not");
    }
    let params = &header.params;
    params.check().or_else(|error| wrong(Section::Header, error))?; // h, headroom, least r
    let least = params.ring_bits_needed().map_or(0, |bits| bits.get());
    figures.number("ring bits", params.ring_bits.get());
    figures.number("least", least);
    figures.number("cohort min", params.cohort_min);
    figures.real("gamma", f64::from(params.corrupt_fraction) / 1e6);
    figures.real("delta", f64::from(params.dropout_tolerance) / 1e6);
    figures.number("sigma", params.security_bits);
    match round_charge_of(params) {
        Some(curve) => figures.real("epsilon", curve.epsilon(params.dp_delta).epsilon),
        None => figures.text("epsilon", "none: no noise"),
    }
    Ok(Some(header))
}

///
fn revocations(export: &Export, header: &Header, figures: &mut Figures) -> Judged<RevocationList> {
    let section = Section::Revocations;
    if header.revocation_number == 0 {
        return if export.revocations.is_empty() { Ok(None) } else { wrong(section, "the header names no list") };
    }
    let list = RevocationList::decode(&export.revocations, &header.authority_key);
    let list = list.or_else(|error| wrong(section, error))?;
    figures.number("number", list.number());
    figures.number("clients", list.entries().len());
    if list.number() != header.revocation_number || list.digest() != header.revocation_digest {
        return wrong(section, "it is not the list that the header names");
    }
    Ok(Some(list))
}

/// the signed statement and its list; the leaves come next.
fn roster(export: &Export, played: &Played, figures: &mut Figures) -> Judged<Roster> {
    if export.roster.is_empty() {
        return Ok(None);
    }
    let (section, chain) = (Section::Roster, &played.facts.chain);
    let mut reader = Reader::new(&export.roster);
    let signed = Signed::read(&mut reader, labels::ROSTER).or_else(|error| wrong(section, error))?;
    is_at(&signed, section, played, chain.context)?;
    let roster =
        Roster::from_parts(signed.statement().clone(), reader.rest()).or_else(|error| wrong(section, error))?;
    let params =
        RosterParams::derive(roster.n(), &played.facts.header.params).or_else(|error| wrong(section, error))?;
    figures.number("n", params.n);
    figures.number("k", params.degree);
    figures.number("t", params.threshold);
    figures.number("c", params.corrupt);
    figures.number("T", params.tolerated);
    figures.number("h", params.honest);
    if !roster.names(&params) {
        return wrong(section, "k, t or h are not what follows from n and the header");
    }
    Ok(Some(roster))
}

/// over all n; then the statement that they make.
fn leaves(export: &Export, played: &Played, roster: &Roster, figures: &mut Figures) -> Judged<(Bodies, Phase)> {
    let section = Section::Leaves;
    if export.leaves.len() != roster.members().len() {
        return wrong(section, format!("{} leaves are shown of {}", export.leaves.len(), roster.n()));
    }
    let (mut bodies, mut keys) = (Bodies::new(), BTreeMap::new());
    for ((leaf, body), (client, digest)) in export.leaves.iter().zip(roster.members()) {
        let place = format!("leaf {} ({client})", leaf.0);
        if leaf.index() != bodies.len() {
            return wrong(section, format!("leaf {} is missing", bodies.len()));
        }
        if leaf_digest(body) != *digest {
            return wrong(section, format!("{place} does not hash to its entry in the roster"));
        }
        let accepted = server::accept(&played.facts, &Phase::first(), PhaseKind::Advertising, *client, body);
        let accepted = accepted.or_else(|rejection| wrong(section, format!("{place}: {rejection}")))?;
        for key in accepted.claims() {
            if let Some(other) = keys.insert(*key, *leaf) {
                return wrong(section, format!("R-09: {place} has a key that leaf {} has too", other.0));
            }
        }
        bodies.insert(*client, body.clone());
    }
    figures.number("certificates", bodies.len());
    figures.number("distinct keys", keys.len());
    let nonce = roster.closing_nonce();
    let received = Received { bodies: bodies.clone(), ..Received::default() };
    let (phase, effects) = server::close(&played.facts, Phase::first(), received, nonce);
    match fixed(&effects, StatementKind::Roster) {
        Some(statement) if statement == roster.statement().encode() => Ok(Some((bodies, phase))),
        _ => wrong(Section::Roster, "these leaves do not make this roster"),
    }
}

///
fn shares(export: &Export, played: &Played, phase: Phase, figures: &mut Figures) -> Judged<(Bodies, Phase)> {
    let bodies = accepted(&export.shares, Section::Shares, played, &phase)?;
    figures.number("dealers", bodies.len());
    figures.number("points", 2 * bodies.len() * played.degree());
    let received = Received { bodies: bodies.clone(), ..Received::default() };
    let (phase, _) = server::close(&played.facts, phase, received, [0; 32]);
    if let Phase::Abandoned(reason, _) = &phase {
        figures.text("ended", reason);
    }
    Ok(Some((bodies, phase)))
}

/// §5.3
fn acknowledgements(
    export: &Export,
    played: &Played,
    shares: &Bodies,
    phase: Phase,
    figures: &mut Figures,
) -> Judged<(Phase, Vec<Effect>)> {
    let bodies = accepted(&export.acknowledgements, Section::Acknowledgements, played, &phase)?;
    figures.number("holders", bodies.len());
    let received = Received { bodies, shares: shares.clone(), ..Received::default() };
    let (phase, effects) = server::close(&played.facts, phase, received, [0; 32]);
    let complaints = match &phase {
        Phase::Opening(opening) => played.leaves().map(|dealer| opening.complainers(dealer).len()).sum(),
        _ => 0,
    };
    figures.number("complaints", complaints);
    Ok(Some((phase, effects)))
}

/// §5.4; what they lead to is the core, which comes next.
fn openings(
    export: &Export,
    played: &mut Played,
    (leaves, shares): (&Bodies, &Bodies),
    phase: Phase,
    effects: Vec<Effect>,
    figures: &mut Figures,
) -> Judged<(Phase, Vec<Effect>)> {
    let Phase::Opening(_) = &phase else {
        return match export.openings.is_empty() {
            true => Ok(Some((phase, effects))),
            false => wrong(Section::Openings, "R-16: nobody was asked to open anything"),
        };
    };
    let bodies = accepted(&export.openings, Section::Openings, played, &phase)?;
    figures.number("openings", bodies.len());
    let received = Received { bodies, adverts: leaves.clone(), shares: shares.clone(), ..Received::default() };
    let (phase, effects) = server::close(&played.facts, phase, received, [0; 32]);
    for effect in &effects {
        match effect {
            Effect::Log { root } => played.openings.push(*root),
            Effect::Fault { client, .. } => played.named.push((PhaseKind::Opening, *client)),
            _ => {}
        }
    }
    figures.number("dealers named", played.named.len());
    Ok(Some((phase, effects)))
}

/// the core is computed again, and must be the one that was signed.
fn core(
    export: &Export,
    played: &mut Played,
    (phase, effects): (Phase, Vec<Effect>),
    figures: &mut Figures,
) -> Judged<Masking> {
    let section = Section::Core;
    let previous = played.root(StatementKind::Roster);
    let shown = shown(&export.core, labels::CORE, section, played, previous)?;
    let masking = match phase {
        Phase::Masking(masking) => masking,
        Phase::Abandoned(reason, _) => {
            return match shown {
                None => {
                    figures.text("ended", reason);
                    Ok(None)
                }
                Some(_) => wrong(section, "these acknowledgements and openings lead to no core: too few are in place"),
            };
        }
        _ => return wrong(section, "the round cannot stand there"),
    };
    let count = masking.core().members().count();
    figures.number("members", count);
    match (shown, fixed(&effects, StatementKind::Core)) {
        (None, _) => {
            wrong(section, format!("these acknowledgements and openings lead to a core of {count}; none is shown"))
        }
        (Some(shown), Some(computed)) if shown.encode() == computed => {
            played.core = Some(masking.core().clone());
            played.statements.insert(StatementKind::Core, shown);
            Ok(Some(masking))
        }
        _ => wrong(section, "these acknowledgements and openings lead to another core than the one signed"),
    }
}

/// signed by members of the core, over vectors of the round's length, which are gone.
fn uploads(export: &Export, played: &Played, masking: &Masking, figures: &mut Figures) -> Judged<Bodies> {
    let section = Section::Uploads;
    let packed = played.facts.header.params.packed_bytes() as u64;
    let mut bodies = Bodies::new();
    for (leaf, body) in &export.uploads {
        let (client, place) = played.client(*leaf, section)?;
        if !masking.core().members().has(*leaf) {
            return wrong(section, format!("R-17: {place} is not in the core"));
        }
        let upload = Upload::decode(body).or_else(|error| wrong(section, format!("{place}: {error}")))?;
        let expected = played.facts.chain.from_client(client, masking.core().root());
        if !upload.signed().statement().stands_at(&expected) {
            return wrong(section, format!("R-01: {place}'s upload is of another client, round or core"));
        }
        if !upload.signed().is_by(&played.assembly().member(*leaf).identity) {
            return wrong(section, format!("R-37: the signature of {place} does not hold"));
        }
        if upload.length() != packed {
            return wrong(section, format!("R-19: {place} signed {} bytes, {packed} make a vector", upload.length()));
        }
        bodies.insert(client, body.clone());
    }
    figures.number("uploads", bodies.len());
    figures.number("bytes each", packed);
    Ok(Some(bodies))
}

/// the list is computed again, and must be the one that was signed.
fn survivors(
    export: &Export,
    played: &mut Played,
    masking: Masking,
    uploads: Bodies,
    figures: &mut Figures,
) -> Judged<Phase> {
    let section = Section::Survivors;
    let shown = shown(&export.survivors, labels::SURVIVORS, section, played, masking.core().root())?;
    let received = Received { bodies: uploads, ..Received::default() };
    let (phase, effects) = server::close(&played.facts, Phase::Masking(masking), received, [0; 32]);
    let confirming = match &phase {
        Phase::Confirming(confirming) => confirming,
        Phase::Abandoned(reason, _) if shown.is_none() => {
            figures.text("ended", reason);
            return Ok(None);
        }
        _ => return wrong(section, "these uploads lead to no survivor list: too few arrived"),
    };
    let count = confirming.survivors().members().count();
    figures.number("survivors", count);
    figures.number("needed", played.assembly().params().survivors_min);
    match (shown, fixed(&effects, StatementKind::Survivors)) {
        (None, _) => wrong(section, format!("these uploads lead to {count} survivors; no list is shown")),
        (Some(shown), Some(computed)) if shown.encode() == computed => {
            played.survivors = Some(confirming.survivors().clone());
            played.statements.insert(StatementKind::Survivors, shown);
            Ok(Some(phase))
        }
        _ => wrong(section, "these uploads lead to another survivor list than the one signed"),
    }
}

/// whether the survivors agreed.
fn confirms(export: &Export, played: &Played, phase: Phase, figures: &mut Figures) -> Judged<bool> {
    let bodies = accepted(&export.confirms, Section::Confirms, played, &phase)?;
    figures.number("confirms", bodies.len());
    figures.number("needed", played.assembly().params().threshold);
    let received = Received { bodies, ..Received::default() };
    let (phase, _) = server::close(&played.facts, phase, received, [0; 32]);
    if let Phase::Abandoned(reason, _) = &phase {
        figures.text("ended", reason);
    }
    Ok(Some(phase.kind() == PhaseKind::Unmasking))
}

/// §5.8: count, digest, length; the sum is decoded.
fn result(export: &Export, played: &mut Played, is_confirmed: bool, figures: &mut Figures) -> Judged<()> {
    let section = Section::Result;
    if export.result.is_empty() {
        return match is_confirmed {
            true => wrong(section, "the survivors agreed, and no result is shown"),
            false => Ok(None),
        };
    }
    if !is_confirmed {
        return wrong(Section::Confirms, "R-24: there is a result, and too few confirms for one");
    }
    let mut reader = Reader::new(&export.result);
    let signed = Signed::read(&mut reader, labels::RESULT).or_else(|error| wrong(section, error))?;
    is_at(&signed, section, played, played.root(StatementKind::Survivors))?;
    let result = RoundResult::from_statement(signed.statement().clone()).or_else(|error| wrong(section, error))?;
    let (packed, params) = (reader.rest(), &played.facts.header.params);
    let survivors = played.survivors.as_ref().map_or(0, |survivors| survivors.members().count());
    figures.number("count", result.count());
    if result.count() != survivors {
        return wrong(section, format!("R-20: it counts {}, {survivors} survived", result.count()));
    }
    if result.outcome() == Outcome::NotOpened {
        figures.text("ended", Abandonment::NotOpened);
        if !packed.is_empty() {
            return wrong(section, "a sum follows where none was opened");
        }
    } else {
        if !result.is_sum(packed) {
            return wrong(section, "the sum does not have the digest that was signed");
        }
        let sum = RingVector::unpack(packed, params.vector_len as usize, params.ring_bits);
        let sum = sum.or_else(|error| wrong(section, error))?;
        let mean = match params.weight_max {
            0 => decode_sum(&sum, params.scale, result.count()),
            _ => decode_weighted(&sum, params.clip_norm),
        };
        figures.text("ended", "released");
        figures.number("coordinates", sum.len());
        match mean {
            Ok(mean) => {
                let squares = mean.iter().map(|it| f64::from(*it) * f64::from(*it));
                figures.real("norm of the mean", libm::sqrt(squares.sum()));
            }
            Err(_) => figures.text("norm of the mean", "none: the weights sum to nothing"),
        }
    }
    played.statements.insert(StatementKind::Result, signed.statement().clone());
    Ok(Some(()))
}

impl Played {
    pub fn root(&self, kind: StatementKind) -> Digest {
        self.statements.get(&kind).map_or(Digest::NONE, Statement::root)
    }

    /// There is one from the leaves on.
    pub fn assembly(&self) -> &Assembly {
        self.assembly.as_ref().expect("asked for only after the leaves were checked")
    }

    fn degree(&self) -> usize {
        self.assembly().params().degree as usize
    }

    fn leaves(&self) -> impl Iterator<Item = LeafIndex> {
        (0..self.assembly().params().n).map(LeafIndex)
    }

    /// Who stands at a leaf, and how it is called in words.
    fn client(&self, leaf: LeafIndex, section: Section) -> Result<(ClientId, alloc::string::String), ExportError> {
        if !self.assembly().params().has(leaf) {
            return wrong(section, format!("leaf {} is not below n", leaf.0));
        }
        let client = self.assembly().roster().client(leaf);
        Ok((client, format!("leaf {} ({client})", leaf.0)))
    }
}

/// Every message of a list, judged as when it came.
fn accepted(list: &List, section: Section, played: &Played, phase: &Phase) -> Result<Bodies, ExportError> {
    let mut bodies = Bodies::new();
    for (leaf, body) in list {
        let (client, place) = played.client(*leaf, section)?;
        server::accept(&played.facts, phase, phase.kind(), client, body)
            .or_else(|rejection| wrong(section, format!("{place}: {rejection}")))?;
        bodies.insert(client, body.clone());
    }
    Ok(bodies)
}

/// The phase, unless the round ended there.
fn goes_on(phase: Phase) -> Option<Phase> {
    (!phase.kind().is_over()).then_some(phase)
}

fn fixed(effects: &[Effect], wanted: StatementKind) -> Option<&[u8]> {
    effects.iter().find_map(|effect| match effect {
        Effect::Statement { kind, bytes, .. } if *kind == wanted => Some(bytes.as_slice()),
        _ => None,
    })
}

fn signed(bytes: &[u8], label: Label, section: Section, pins: &Pins) -> Result<Signed, ExportError> {
    let signed = Signed::decode(bytes, label).or_else(|error| wrong(section, error))?;
    if signed.is_by(&pins.aggregator) {
        Ok(signed)
    } else {
        wrong(section, "R-37: it is not signed by the pinned aggregator")
    }
}

/// A statement of the chain, at its place and signed; `None` if the section is empty.
fn shown(
    bytes: &[u8],
    label: Label,
    section: Section,
    played: &Played,
    previous: Digest,
) -> Result<Option<Statement>, ExportError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let signed = Signed::decode(bytes, label).or_else(|error| wrong(section, error))?;
    is_at(&signed, section, played, previous)?;
    Ok(Some(signed.statement().clone()))
}

///
fn is_at(signed: &Signed, section: Section, played: &Played, previous: Digest) -> Result<(), ExportError> {
    if !signed.statement().stands_at(&played.facts.chain.from_aggregator(previous)) {
        return wrong(section, "R-01: it belongs to another round, or follows another statement");
    }
    if !signed.is_by(&played.facts.header.aggregator_key) {
        return wrong(section, "R-37: it is not signed by the pinned aggregator");
    }
    Ok(())
}

/// The round ended before this section: it and those after it are empty. One check each is noted.
fn rest_is_empty(export: &Export, report: &mut Report, from: Section) -> Option<()> {
    const UNTIL_RESULT: core::ops::Range<usize> = 3..12; // leaves to result, in the order of the file
    let sections = Section::ALL[UNTIL_RESULT].iter().filter(|section| **section >= from);
    for section in sections {
        report.check(|_| match export.is_empty(*section) {
            true => Ok(None::<()>),
            false => wrong(*section, "the round ended before this"),
        })?;
    }
    Some(())
}
