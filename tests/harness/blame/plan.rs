//! What a seed means: how many clients, which parameters, who lies how, who is lost when.

use std::collections::BTreeMap;

use veilsum_crypto::math::ring::RingBits;
use veilsum_crypto::params::{RosterParams, RoundParams};
use veilsum_crypto::privacy::accountant::RoundingBounds;
use veilsum_crypto::server::PhaseKind;
use veilsum_crypto::testing::demo_params;

use super::kinds::{Kind, PHASES};
use super::seed::Seed;
use crate::dice::Dice;

/// Clients of a round drawn as a large one.
pub const LARGE: usize = 64;

/// One round to be played.
#[derive(Clone, Debug)]
pub struct Plan {
    /// It follows from this.
    pub seed: Seed,
    /// The header's.
    pub params: RoundParams,
    /// By number.
    pub liars: BTreeMap<usize, Lies>,
    /// Honest clients that send nothing from this phase on.
    pub lost: BTreeMap<usize, PhaseKind>,
    /// What the network does, and to whom: honest, and not among the lost.
    pub network: Vec<(Kind, usize)>,
}

/// What one liar does.
#[derive(Clone, Debug, Default)]
pub struct Lies {
    /// In the order of the round.
    pub kinds: Vec<Kind>,
    /// From here on it only does what it is refused for.
    pub stubborn_from: Option<PhaseKind>,
}

impl Lies {
    /// What it does in a phase.
    pub fn of(&self, phase: PhaseKind) -> impl Iterator<Item = Kind> + '_ {
        self.kinds.iter().copied().filter(move |kind| kind.phase() == phase)
    }

    /// Whether it does this.
    pub fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether it sends what it ought to send in a phase, bent or not.
    pub fn speaks(&self, phase: PhaseKind) -> bool {
        let silent = self.kinds.iter().any(|kind| matches!(kind, Kind::Silent(from) if *from <= phase));
        !silent && self.stubborn_from.is_none_or(|from| phase < from)
    }
}

/// From what is drawn.
struct Lot {
    kinds: Vec<Kind>,
    clients_max: usize,
    /// Some rounds have more liars or losses than the protocol bears.
    may_exceed: bool,
    has_weights: bool,
}

/// Numbers of a roster.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n: usize,
    corrupt: usize,
    tolerated: usize,
    /// Clients that may be absent from the roster.
    absent: usize,
}

impl Plan {
    /// The round of a seed.
    pub fn draw(seed: Seed) -> Self {
        Self::by(seed, &Lot { kinds: Kind::all(), clients_max: 20, may_exceed: true, has_weights: true })
    }

    /// The round of a seed over HTTP: nothing that the network does, and nobody lost who was to open, which only who is asked
    /// can be.
    pub fn draw_over_http(seed: Seed) -> Self {
        let kinds = Kind::over_http();
        let mut plan = Self::by(seed, &Lot { kinds, clients_max: 12, may_exceed: false, has_weights: false });
        for phase in plan.lost.values_mut().filter(|phase| **phase == PhaseKind::Opening) {
            *phase = PhaseKind::Masking;
        }
        plan
    }

    fn by(seed: Seed, lot: &Lot) -> Self {
        let lead = lot.kinds[seed.lead() % lot.kinds.len()];
        let mut dice = seed.dice("plan");
        let (shape, params) = feasible(&mut dice, seed.is_large(), lead, lot);
        let (liars, lost, network) = Draft { dice: &mut dice, shape, lead, lot }.draw();
        Self { seed, params, liars, lost, network }
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.params.roster_max as usize
    }

    /// Everybody who is honest.
    pub fn honest(&self) -> Vec<usize> {
        (0..self.clients()).filter(|number| !self.liars.contains_key(number)).collect()
    }
}

/// Draws shapes until one has a graph.
fn feasible(dice: &mut Dice, is_large: bool, lead: Kind, lot: &Lot) -> (Shape, RoundParams) {
    let needs = lead.needs();
    let (liars, lost) = (needs.liars as usize, needs.lost as usize);
    let thins_roster = matches!(lead, Kind::StolenKey | Kind::Silent(PhaseKind::Advertising));
    for attempt in 0.. {
        // A few of the smallest, which bear nobody; then whatever the lead needs.
        let low = if attempt == 0 { 3 } else { 4 + 2 * liars + lost };
        let n = if is_large { LARGE } else { dice.within(low, lot.clients_max) };
        let corrupt = if is_large { 4 } else { dice.within(1, 3).max(liars) };
        let tolerated = dice.within(0, n / 2);
        let absent = dice.index(3).max(usize::from(thins_roster));
        let shape = Shape { n, corrupt, tolerated, absent };
        // Rosters of 3 and 4 bear nobody: there whatever is played is beyond the bounds.
        let has_room = corrupt >= liars && tolerated >= liars + lost && tolerated >= corrupt;
        let is_smallest = attempt == 0 && n <= 4 && tolerated == 0 && corrupt == 1 && lot.may_exceed;
        if !(has_room || is_smallest) {
            continue;
        }
        if let Some(params) = params_of(dice, shape, lot.has_weights) {
            return (shape, params);
        }
    }
    unreachable!("12 clients, 1 corrupt, 3 lost have a graph")
}

/// The parameters of a shape, if every permitted roster has a graph.
fn params_of(dice: &mut Dice, shape: Shape, has_weights: bool) -> Option<RoundParams> {
    let Shape { n, corrupt, tolerated, absent } = shape;
    let million = 1_000_000;
    let n32 = u32::try_from(n).expect("few");
    let demo = demo_params(n32);
    let weighted = has_weights && dice.chance(30);
    let vector_len = u32::try_from(dice.within(1, 6)).expect("few") + u32::from(weighted);
    let bounds = RoundingBounds::new(demo.clip_norm * demo.scale, vector_len.into(), (-0.5_f64).exp());
    let mut params = RoundParams {
        vector_len,
        weight_max: if weighted { 100 } else { 0 },
        max_squared_norm: bounds.max_integer_squared_norm,
        roster_min: n32.saturating_sub(u32::try_from(absent).expect("few")).max(3),
        corrupt_fraction: u32::try_from(corrupt * million / n).expect("below a million"),
        dropout_tolerance: u32::try_from((tolerated * million).div_ceil(n)).expect("below a million"),
        ..demo
    };
    params.cohort_min = (params.roster_min - params.tolerated(params.roster_min)).max(2);
    for size in params.roster_min..=params.roster_max {
        RosterParams::derive(size, &params).ok()?;
    }
    let needed = params.ring_bits_needed().ok()?.get();
    let wider = u8::try_from(dice.within(usize::from(needed), 64)).expect("at most 64");
    params.ring_bits = RingBits::new(if dice.chance(50) { needed } else { wider }).expect("8 to 64");
    params.check().ok()?;
    Some(params)
}

/// A plan in the making.
struct Draft<'a> {
    dice: &'a mut Dice,
    shape: Shape,
    lead: Kind,
    lot: &'a Lot,
}

type Drawn = (BTreeMap<usize, Lies>, BTreeMap<usize, PhaseKind>, Vec<(Kind, usize)>);

impl Draft<'_> {
    fn draw(&mut self) -> Drawn {
        let Shape { n, corrupt, tolerated, absent } = self.shape;
        let needs = self.lead.needs();
        let (least, reserved) = (needs.liars as usize, needs.lost as usize);
        let excess = self.dice.chance(10) && n < LARGE && self.lot.may_exceed;
        let most = corrupt.min(tolerated.saturating_sub(reserved)).max(least);
        let count = if excess { most + 1 + self.dice.index(2) } else { self.dice.within(least, most) };
        let mut numbers: Vec<usize> = (0..n).collect();
        self.dice.shuffle(&mut numbers);
        let honest = numbers.split_off(count.min(n - 1));
        let mut liars: BTreeMap<usize, Lies> = BTreeMap::new();
        for (at, number) in numbers.iter().enumerate() {
            liars.insert(*number, self.lies(at == 0, numbers.len()));
        }
        // Who is lost: at most what is tolerated beside the liars, or more on purpose.
        let budget = tolerated.saturating_sub(numbers.len() + reserved);
        let count = if excess { self.dice.within(0, budget + 2) } else { self.dice.within(0, budget) };
        let mut lost = BTreeMap::new();
        let mut away = 0;
        for number in honest.iter().take(count.min(honest.len().saturating_sub(2))) {
            let mut phase = *self.dice.pick(&PHASES);
            if phase == PhaseKind::Advertising {
                away += 1;
                if away > absent {
                    phase = PhaseKind::Sharing;
                }
            }
            lost.insert(*number, phase);
        }
        let mut present: Vec<usize> = honest.into_iter().filter(|number| !lost.contains_key(number)).collect();
        if matches!(self.lead, Kind::ComplaintOfNothing | Kind::GoodOfNothing)
            && let Some(number) = present.pop()
        {
            lost.insert(number, PhaseKind::Sharing);
        }
        (liars, lost, self.network(&present))
    }

    /// What one liar does; the first one does what the seed asks for.
    fn lies(&mut self, is_first: bool, liars: usize) -> Lies {
        let mut lies = Lies::default();
        let from = if is_first && !self.lead.is_of_network() {
            lies.kinds.push(self.lead);
            lies.kinds.extend(prepared_by(self.lead));
            self.lead.phase()
        } else {
            PhaseKind::Advertising
        };
        let more = self.dice.index(3) + usize::from(!is_first);
        for _ in 0..more {
            let kind = *self.dice.pick(&self.lot.kinds);
            let needs = kind.needs();
            if needs.lost == 0 && needs.liars as usize <= liars && !kind.is_of_network() && kind.phase() >= from {
                lies.kinds.push(kind);
                lies.kinds.extend(prepared_by(kind).filter(|before| before.phase() >= from));
            }
        }
        if self.dice.chance(20) {
            let phases: Vec<PhaseKind> = PHASES.into_iter().filter(|phase| *phase > from).collect();
            lies.stubborn_from = self.dice.pick_some(&phases);
        }
        lies.kinds.sort_by_key(|kind| (kind.phase(), *kind));
        lies.kinds.dedup();
        lies
    }

    fn network(&mut self, present: &[usize]) -> Vec<(Kind, usize)> {
        let mut network = Vec::new();
        if self.lead.is_of_network()
            && let Some(victim) = self.dice.pick_some(present)
        {
            network.push((self.lead, victim));
        }
        let harmless: Vec<Kind> =
            self.lot.kinds.iter().copied().filter(|kind| kind.is_of_network() && kind.needs().lost == 0).collect();
        for _ in 0..self.dice.index(3) {
            if let (Some(kind), Some(victim)) = (self.dice.pick_some(&harmless), self.dice.pick_some(present)) {
                network.push((kind, victim));
            }
        }
        network
    }
}

/// What must have been done before a kind can be played.
fn prepared_by(kind: Kind) -> impl Iterator<Item = Kind> {
    use Kind::*;
    let before = match kind {
        OpeningUncalled | Stolen(PhaseKind::Opening) => Some(FalseComplaint),
        UploadUncalled | ConfirmUncalled | AnswerUncalled => Some(AllMissing),
        kind if kind.phase() == PhaseKind::Opening => Some(BadEdges),
        _ => None,
    };
    before.into_iter()
}
