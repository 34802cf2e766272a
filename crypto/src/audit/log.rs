//! The log and the ledger: what was fixed is in the log, and what it cost is counted. docs/protocol.md §9 steps 14, 15

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::export::{Counted, Export, ExportError, Inclusion, Section};
use super::replay::Played;
use super::report::Figures;
use super::{Pins, wrong};
use crate::client::policy::round_charge_of;
use crate::ids::Digest;
use crate::messages::Header;
use crate::primitives::labels;
use crate::primitives::merkle::{self, TreeHead, extends};
use crate::primitives::signature::Signed;
use crate::privacy::RdpCurve;
use crate::server::StatementKind;
use crate::transparency::entry::{Charge, ledger_entry, root_entry};

type Judged<T> = Result<Option<T>, ExportError>;

/// A head of the log under its own key.
pub(super) fn checkpoint(export: &Export, pins: &Pins, figures: &mut Figures) -> Judged<TreeHead> {
    let head = pins.log.open(&export.checkpoint).or_else(|error| wrong(Section::Checkpoint, error))?;
    figures.text("log", pins.log.origin());
    figures.number("size", head.size);
    Ok(Some(head))
}

/// it extends the log that the header names.
pub(super) fn growth(export: &Export, played: &Played, head: TreeHead, figures: &mut Figures) -> Judged<()> {
    let named = played.facts.header.log;
    figures.number("from", named.size);
    figures.number("to", head.size);
    if extends(named, head, &export.growth) {
        Ok(Some(()))
    } else {
        wrong(Section::Growth, "R-33: the checkpoint is not shown to extend the log that the header names")
    }
}

/// One entry that the log must hold, in the order of docs/wire.md §13, and whether it follows the one before without a gap.
struct Expected {
    what: &'static str,
    entry: Digest,
    follows: bool,
}

/// The round's entries, in their order and groups.
pub(super) fn entries(export: &Export, played: &Played, head: TreeHead, figures: &mut Figures) -> Judged<()> {
    let section = Section::Log;
    let expected = expected(played, &export.salt);
    figures.number("entries", expected.len());
    if expected.len() != export.log.len() {
        return wrong(section, format!("{} entries are shown, the round has {}", export.log.len(), expected.len()));
    }
    let held = expected.iter().zip(&export.log).map(|(it, at)| is_included(it.entry, at, head)).collect::<Vec<_>>();
    if held.iter().all(|held| !held) {
        return wrong(Section::Salt, "with this salt not one entry of the round is in the log");
    }
    let mut last: Option<u64> = None;
    for ((it, at), held) in expected.iter().zip(&export.log).zip(held) {
        if !held {
            return wrong(section, format!("\"{}\" is not in the log at leaf {}", it.what, at.leaf));
        }
        let in_order = match last {
            None => at.leaf >= played.facts.header.log.size,
            Some(last) if it.follows => at.leaf == last + 1,
            Some(last) => at.leaf > last,
        };
        if !in_order {
            return wrong(section, format!("\"{}\" stands at leaf {}, out of its order", it.what, at.leaf));
        }
        last = Some(at.leaf);
    }
    Ok(Some(()))
}

fn is_included(entry: Digest, at: &Inclusion, head: TreeHead) -> bool {
    let leaf = merkle::leaf_hash(&[entry.as_bytes()]);
    merkle::root_from_path(leaf, at.leaf, head.size, &at.path) == Some(head.root)
}

fn expected(played: &Played, salt: &[u8; 32]) -> Vec<Expected> {
    let header = &played.facts.header;
    let charge = |what, follows, charge| {
        let entry = ledger_entry(salt, header.task, header.counter, played.facts.chain.context, charge);
        Expected { what, entry, follows }
    };
    let root = |what, root, follows| Expected { what, entry: root_entry(salt, root), follows };
    let statement = |what, kind| played.statements.get(&kind).map(|it| root(what, it.root(), false));
    let mut all = Vec::new();
    all.extend(statement("header", StatementKind::Header));
    all.push(charge("reserved", true, Charge::Reserved));
    all.extend(statement("roster", StatementKind::Roster));
    match statement("core", StatementKind::Core) {
        Some(core) => {
            all.push(core);
            all.extend(played.openings.iter().map(|opening| root("opening", *opening, true)));
            all.push(charge("spent", true, Charge::Spent));
            all.extend(statement("survivors", StatementKind::Survivors));
            all.extend(statement("result", StatementKind::Result));
        }
        None => all.push(charge("lapsed", false, Charge::Lapsed)),
    }
    all
}

/// every earlier round of the task at the cost of its own header, unless the log shows that its charge lapsed.
pub(super) fn ledger(
    export: &Export,
    pins: &Pins,
    played: &Played,
    head: TreeHead,
    figures: &mut Figures,
) -> Judged<()> {
    let (section, header) = (Section::Ledger, &played.facts.header);
    if export.ledger.len() as u64 != header.counter - 1 {
        let (shown, needed) = (export.ledger.len(), header.counter - 1);
        return wrong(section, format!("{shown} earlier rounds are shown, the task had {needed}"));
    }
    let mut costs = Costs::default();
    for (counter, round) in (1..).zip(&export.ledger) {
        let (earlier, has_lapsed) = earlier(round, pins, played, counter, head)
            .or_else(|why| wrong(section, format!("round {counter} of the task: {why}")))?;
        if has_lapsed { costs.lapsed += 1 } else { costs.add(&earlier) }
    }
    match played.core {
        Some(_) => costs.add(header),
        None => costs.lapsed += 1,
    }
    figures.number("rounds counted", costs.counted);
    figures.number("lapsed", costs.lapsed);
    figures.real("dp delta", header.params.dp_delta);
    match costs.sum(header.params.dp_delta) {
        Some(epsilon) => figures.real("epsilon at most", epsilon),
        None => figures.text("epsilon at most", "unbounded: a round had no noise"),
    }
    Ok(Some(()))
}

/// The header of an earlier round, and whether its charge lapsed.
fn earlier(
    round: &Counted,
    pins: &Pins,
    played: &Played,
    counter: u64,
    head: TreeHead,
) -> Result<(Header, bool), alloc::string::String> {
    let signed = Signed::decode(&round.header, labels::HEADER).map_err(|error| format!("{error}"))?;
    if !signed.is_by(&pins.aggregator) {
        return Err("its header is not signed by the pinned aggregator".into());
    }
    let header = Header::from_statement(signed.statement()).map_err(|error| format!("{error}"))?;
    if header.task != played.facts.header.task || header.counter != counter || header.aggregator_key != pins.aggregator
    {
        return Err("its header is of another task, counter or aggregator".into());
    }
    let Some(lapse) = &round.lapse else { return Ok((header, false)) };
    let context = signed.root();
    let entry = ledger_entry(&lapse.salt, header.task, counter, context, Charge::Lapsed);
    if is_included(entry, &lapse.at, head) {
        Ok((header, true))
    } else {
        Err(format!("that its charge lapsed is not in the log at leaf {}", lapse.at.leaf))
    }
}

/// Curves of one shape are added at once: a task has many rounds, and one or two shapes.
#[derive(Default)]
struct Costs {
    counted: u64,
    lapsed: u64,
    without_noise: bool,
    shapes: BTreeMap<[u64; 3], (u32, Option<RdpCurve>)>,
}

impl Costs {
    fn add(&mut self, header: &Header) {
        let params = &header.params;
        let shape = [params.max_squared_norm, params.vector_len.into(), params.total_variance];
        self.counted += 1;
        self.without_noise |= params.total_variance == 0;
        self.shapes.entry(shape).or_insert_with(|| (0, round_charge_of(params))).0 += 1;
    }

    fn sum(&self, dp_delta: f64) -> Option<f64> {
        let curves = self.shapes.values().filter_map(|(count, curve)| Some(curve.as_ref()?.times(*count)));
        let sum = curves.reduce(|sum, curve| sum.plus(&curve).unwrap_or(sum));
        (!self.without_noise).then(|| sum.map_or(0.0, |sum| sum.epsilon(dp_delta).epsilon))
    }
}
