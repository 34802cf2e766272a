//! Acknowledge, the aggregator's side: whose shares are in place, and who must be asked. §5.3
//!
//! Before: `server/share.rs`. Next: `server/open.rs` if anybody complained, else `server/mask.rs`.
//! The other end: `client/acknowledge.rs`.

use alloc::{collections::BTreeMap, vec::Vec};

use super::open::{Complaints, Opening, fix_core};
use super::{Accepted, Assembly, Effect, Phase, Received, RoundFacts, is_from};
use crate::ids::{ClientId, Digest, LeafIndex};
use crate::messages::acknowledgement::shares_digest;
use crate::messages::{Acknowledgement, Bitmap, Edge, EdgeReport, SealedShares};
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::signature::Signed;
use crate::rules::Rejection;

/// Waits for acknowledgements. Who dealt is settled.
#[derive(Clone, Debug)]
pub struct Acknowledging {
    pub(super) assembly: Assembly,
    pub(super) dealt: Bitmap,
}

impl Acknowledging {
    pub(super) fn accept(&self, facts: &RoundFacts, client: ClientId, body: &[u8]) -> Result<Accepted, Rejection> {
        let (leaf, holder) = self.assembly.find(client)?;
        if !self.dealt.has(leaf) {
            return Err(Rejection::DidNotDeal { client });
        }
        let params = self.assembly.params();
        let message = Acknowledgement::decode(body, params.degree)?;
        is_from(message.signed(), client, &facts.chain.from_client(client, self.assembly.root()), &holder.identity)?;
        let (found, allowed) = (message.complaints(), params.openings_max());
        if found > allowed {
            return Err(Rejection::TooManyComplaints { allowed, found });
        }
        let neighbours = self.assembly.order().neighbours(leaf);
        let on_nothing =
            |(dealer, report): (&LeafIndex, &EdgeReport)| !self.dealt.has(*dealer) && *report != EdgeReport::Missing;
        if neighbours.iter().zip(message.reports()).any(on_nothing) {
            return Err(Rejection::ReportOnNothing);
        }
        Ok(Accepted::body(client, body))
    }

    /// silence removes only the silent; "missing" on mail that was served puts the holder outside, unnamed. So does a report
    /// over other share messages than those admitted: a dealer may have signed two, and somebody on the way swapped them.
    pub(super) fn close(self, facts: &RoundFacts, received: Received) -> (Phase, Vec<Effect>) {
        let Self { assembly, dealt } = self;
        let degree = assembly.params().degree;
        let shares = SharesOf::new(&received.shares, degree);
        let mut candidates = Vec::new();
        let mut complaints = Complaints::new();
        for (client, body) in &received.bodies {
            let (Some(leaf), Ok(message)) = (assembly.roster().leaf_of(*client), Acknowledgement::decode(body, degree))
            else {
                continue;
            };
            match judge(&assembly, &dealt, leaf, &message, &shares) {
                Verdict::Holds(challenged) => {
                    candidates.push(leaf);
                    for (dealer, edge) in challenged {
                        complaints.entry(dealer).or_default().insert(leaf, (edge.masking_point, edge.self_mask_point));
                    }
                }
                Verdict::Missing => {}
            }
        }
        let candidates = Bitmap::of(assembly.params().n, candidates);
        // Only dealers that could be in the core are asked: a silent one is out already.
        complaints.retain(|dealer, _| candidates.has(*dealer));
        if complaints.is_empty() {
            return fix_core(facts, assembly, candidates, Vec::new(), Vec::new());
        }
        (Phase::Opening(Opening { assembly, candidates, complaints }), Vec::new())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.assembly.write(out);
        self.dealt.write(out);
    }

    pub(super) fn read(reader: &mut Reader<'_>, facts: &RoundFacts) -> Result<Self, DecodeError> {
        let assembly = Assembly::read(reader, facts)?;
        let dealt = Bitmap::read(reader, assembly.params().n)?;
        Ok(Self { assembly, dealt })
    }
}

/// What one acknowledgement amounts to.
enum Verdict {
    /// Every edge served was acknowledged; these dealers are complained about.
    Holds(Vec<(LeafIndex, Edge)>),
    /// Mail that was served is reported missing, or another message than the one admitted was reported on.
    Missing,
}

fn judge(
    assembly: &Assembly,
    dealt: &Bitmap,
    holder: LeafIndex,
    message: &Acknowledgement,
    shares: &SharesOf<'_>,
) -> Verdict {
    let neighbours = assembly.order().neighbours(holder);
    if message.shares() != shares_digest(shares.roots_of(assembly, message.reported_on(&neighbours))) {
        return Verdict::Missing;
    }
    let mut challenged = Vec::new();
    let mut missing = false;
    for (dealer, report) in neighbours.into_iter().zip(message.reports()) {
        match report {
            EdgeReport::Good => {}
            EdgeReport::Missing => missing |= dealt.has(dealer),
            EdgeReport::Complaint { edge } => {
                let sent = shares.of(assembly.roster().client(dealer));
                match sent.as_ref().and_then(|sent| sent.edge_to(holder)) {
                    Some(sent) if sent.hash() == *edge => challenged.push((dealer, sent.clone())),
                    _ => return Verdict::Missing,
                }
            }
        }
    }
    if missing { Verdict::Missing } else { Verdict::Holds(challenged) }
}

/// The admitted share messages of the round: roots at once, edges decoded where a message is looked at.
pub(super) struct SharesOf<'a> {
    bodies: &'a BTreeMap<ClientId, Vec<u8>>,
    roots: BTreeMap<ClientId, Digest>,
    degree: u32,
}

impl<'a> SharesOf<'a> {
    pub fn new(bodies: &'a BTreeMap<ClientId, Vec<u8>>, degree: u32) -> Self {
        let root =
            |body: &Vec<u8>| Signed::read(&mut Reader::new(body), labels::SHARE).ok().map(|signed| signed.root());
        let roots = bodies.iter().filter_map(|(dealer, body)| Some((*dealer, root(body)?))).collect();
        Self { bodies, roots, degree }
    }

    /// Roots of those share messages, in the order of `dealers`, that are admitted.
    pub fn roots_of(&self, assembly: &Assembly, dealers: impl IntoIterator<Item = LeafIndex>) -> Vec<Digest> {
        let root = |dealer| self.roots.get(&assembly.roster().client(dealer)).copied();
        dealers.into_iter().filter_map(root).collect()
    }

    /// What a dealer sent.
    pub fn of(&self, dealer: ClientId) -> Option<SealedShares> {
        SealedShares::decode(self.bodies.get(&dealer)?, self.degree).ok()
    }
}
