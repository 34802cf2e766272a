//! What the aggregator and the corrupt client can compute from everything that was said: secrets, and sums of inputs.
//!
//! A secret of an honest client can be had from t shares, from different holders, of what it dealt under one roster. The
//! masked input of client u is its input, the self mask of b_u, and one pair mask for each member of its core; that of u and
//! v is known to whoever knows s_u or s_v, and cancels against v's own upload under the same roster and core. So among
//! honest uploads draw an edge between u and v where their pair mask is unknown: whoever wants the inputs of one must add
//! those of all that it is tied to, each with its self mask. The smallest sums are the parts of this graph in which every
//! self mask is known and no pair mask is tied to an upload that does not exist.

use super::checks::Check;
use super::{HONEST_MAX, Life, Phase, Round, Set, State, count, has, leaves, only};

/// By roster, the honest clients whose secrets are known; and every upload.
#[derive(Clone, Debug)]
pub struct Knowledge {
    /// s: masking keys.
    masking: [Set; 2],
    /// b: self-mask secrets.
    self_mask: [Set; 2],
    uploads: Vec<Upload>,
    honest: Set,
    are_keys_bound: bool,
}

/// One masked input of an honest client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Upload {
    client: u8,
    roster: u8,
    core: Set,
    is_redrawn: bool,
}

/// Who gave shares of one secret away, by dealer.
type Holders = [[Set; HONEST_MAX]; 2];

impl Knowledge {
    /// After everything that was said.
    pub fn of(model: &Round, state: &State) -> Self {
        let (mut masking, mut self_mask): (Holders, Holders) = Default::default();
        let mut uploads = Vec::with_capacity(HONEST_MAX);
        for (client, life) in state.said() {
            let roster = usize::from(life.roster);
            if life.phase >= Phase::Dealt && usize::from(client) < HONEST_MAX && has(model.table.honest(), client) {
                // The corrupt hold their own shares; an opening shows both shares of a holder.
                let shown = model.table.corrupt() | life.opened;
                masking[roster][usize::from(client)] |= shown;
                self_mask[roster][usize::from(client)] |= shown;
            }
            if life.phase == Phase::Answered {
                give_away(model, client, life, &mut masking[roster], &mut self_mask[roster]);
            }
            if life.phase >= Phase::Uploaded {
                let upload = Upload { client, roster: life.roster, core: life.core, is_redrawn: life.is_redrawn };
                if !uploads.contains(&upload) {
                    uploads.push(upload);
                }
            }
        }
        let known = |holders: &[Set; HONEST_MAX]| {
            (0..)
                .zip(holders)
                .filter(|(_, by)| count(**by) >= model.table.threshold)
                .fold(0, |set, (leaf, _)| set | only(leaf))
        };
        Self {
            masking: [known(&masking[0]), known(&masking[1])],
            self_mask: [known(&self_mask[0]), known(&self_mask[1])],
            uploads,
            honest: model.table.honest(),
            are_keys_bound: model.without.has(Check::BoundKeys),
        }
    }

    /// Whether both secrets of one honest client, of one roster, are known.
    pub fn has_both_secrets(&self) -> bool {
        (0..2).any(|roster| self.masking[roster] & self.self_mask[roster] != 0)
    }

    /// Whether the sum over exactly this survivor list can be opened.
    pub fn releases(&self, list: Set) -> bool {
        self.uploads.iter().any(|first| {
            let (roster, core) = (usize::from(first.roster), first.core);
            let same = self.uploads.iter().filter(|upload| (upload.roster, upload.core) == (first.roster, core));
            let uploaded = same.fold(0, |set, upload| set | only(upload.client));
            let (alive, lost) = (list & self.honest, core & !list & self.honest);
            list & !core == 0 && alive & !(uploaded & self.self_mask[roster]) == 0 && lost & !self.masking[roster] == 0
        })
    }

    /// How many honest inputs the smallest sum has that can be computed; `None` if none can.
    pub fn smallest_sum(&self) -> Option<u8> {
        let uploads = &self.uploads;
        // By upload: the others that it is tied to, and whether it can be had at all.
        let mut tied: Vec<u16> = (0..uploads.len()).map(|at| 1 << at).collect();
        let mut is_had: Vec<bool> =
            uploads.iter().map(|upload| has(self.self_mask[usize::from(upload.roster)], upload.client)).collect();
        for (at, upload) in uploads.iter().enumerate() {
            for peer in leaves(upload.core & self.honest & !only(upload.client)) {
                let masking = self.masking[usize::from(upload.roster)];
                if has(masking, upload.client) || has(masking, peer) {
                    continue;
                }
                match uploads.iter().position(|other| other.client == peer && self.cancels(upload, other)) {
                    Some(other) => (tied[at], tied[other]) = (tied[at] | 1 << other, tied[other] | 1 << at),
                    None => is_had[at] = false,
                }
            }
        }
        // Two uploads of one client under the same masks: their difference is that of two inputs.
        let twice = uploads.iter().enumerate().any(|(at, upload)| {
            let same = |other: &Upload| Upload { is_redrawn: upload.is_redrawn, ..*other } == *upload;
            uploads[at + 1..].iter().any(same)
        });
        if twice {
            return Some(1);
        }
        (0..uploads.len()).filter_map(|at| self.inputs(part(&tied, at), &is_had)).min()
    }

    /// The honest clients in a part, if all of it can be had.
    fn inputs(&self, part: u16, is_had: &[bool]) -> Option<u8> {
        let members = || (0..self.uploads.len()).filter(|at| part & 1 << at != 0);
        let clients = members().fold(0, |set, at| set | only(self.uploads[at].client));
        members().all(|at| is_had[at]).then(|| count(clients))
    }

    /// Whether the pair mask in the first is the one in the second.
    fn cancels(&self, first: &Upload, second: &Upload) -> bool {
        let is_same = (first.roster, first.core) == (second.roster, second.core);
        is_same || (!self.are_keys_bound && has(second.core, first.client))
    }
}

/// What an answer holds: of each member of the core whose shares the client holds, one kind. `ReadyToUnmask::unmask`, R-25
fn give_away(
    model: &Round,
    client: u8,
    life: &Life,
    masking: &mut [Set; HONEST_MAX],
    self_mask: &mut [Set; HONEST_MAX],
) {
    for dealer in leaves(life.held & life.core) {
        let is_alive = has(life.list, dealer);
        let gives_both = !model.without.has(Check::OneKind);
        if is_alive || gives_both {
            self_mask[usize::from(dealer)] |= only(client);
        }
        if !is_alive || gives_both {
            masking[usize::from(dealer)] |= only(client);
        }
    }
}

/// Everything that an upload is tied to, over others.
fn part(tied: &[u16], at: usize) -> u16 {
    let mut part = tied[at];
    loop {
        let wider = (0..tied.len()).filter(|at| part & 1 << at != 0).fold(part, |wider, at| wider | tied[at]);
        if wider == part {
            return part;
        }
        part = wider;
    }
}
