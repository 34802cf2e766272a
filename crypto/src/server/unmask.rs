//! Unmask, the aggregator's side: rebuilds what the answers permit, removes the masks, publishes. §5.7
//!
//! Before: `server/confirm.rs`. Next: the round is over. The other end: `client/unmask.rs`, then `client/verify.rs`.

use alloc::{collections::BTreeMap, vec::Vec};
use core::cell::OnceCell;

use super::acknowledge::SharesOf;
use super::confirm::Confirming;
use super::open::OpenedShare;
use super::{Accepted, Assembly, Effect, Phase, Received, RoundFacts, StatementKind, is_from};
use crate::ids::{ClientId, LeafIndex};
use crate::math::ring::RingVector;
use crate::math::shamir::{Interpolation, ShareScalar};
use crate::messages::evidence::mail_to;
use crate::messages::{Acknowledgement, Answer, CoreSet, Evidence, RoundResult, Survivors, answer};
use crate::primitives::agreement::{MaskingSecretKey, Point, SelfMaskSecret};
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::context::{CoreContext, RosterContext};
use crate::rules::{Abandonment, Rejection};

/// Waits for answers. The survivors have agreed.
#[derive(Clone, Debug)]
pub struct Unmasking {
    pub(super) assembly: Assembly,
    pub(super) core: CoreSet,
    pub(super) opened: Vec<OpenedShare>,
    pub(super) survivors: Survivors,
}

/// Shares of one secret, by holder.
type Shares = BTreeMap<LeafIndex, ShareScalar>;

impl Unmasking {
    pub(super) fn accept(&self, facts: &RoundFacts, client: ClientId, body: &[u8]) -> Result<Accepted, Rejection> {
        let (leaf, member) = self.assembly.find(client)?;
        if !self.survivors.members().has(leaf) {
            return Err(Rejection::NotASurvivor { client });
        }
        let message = Answer::decode(body, self.neighbours_in_core(leaf).len())?;
        is_from(
            message.signed(),
            client,
            &answer::place(&facts.chain, self.survivors.root(), client),
            &member.identity,
        )?;
        Ok(Accepted::body(client, body))
    }

    /// rebuilds, checks, names liars, goes on with others; then removes the masks.
    pub(super) fn close(self, facts: &RoundFacts, received: Received) -> (Phase, Vec<Effect>) {
        let count = self.survivors.members().count();
        let (shares, mut effects) = (self.shares_by_owner(&received), Vec::new());
        let secrets = self.rebuild_all(&shares, &received, &mut effects);
        let (Some(secrets), Some(mut sum)) = (secrets, received.sum) else {
            let result = RoundResult::not_opened(count, &facts.chain, self.survivors.root());
            effects.push(Effect::Statement {
                kind: StatementKind::Result,
                bytes: result.statement().encode(),
                attachment: Vec::new(),
            });
            return Phase::abandon_charged(Abandonment::NotOpened, self.assembly, effects);
        };
        self.remove_masks(facts, &mut sum, secrets);
        let (result, packed) = RoundResult::released(&sum, count, &facts.chain, self.survivors.root());
        effects.push(Effect::Statement {
            kind: StatementKind::Result,
            bytes: result.statement().encode(),
            attachment: packed,
        });
        effects.push(Effect::Erase);
        (Phase::Published(self.assembly), effects)
    }

    fn neighbours_in_core(&self, leaf: LeafIndex) -> Vec<LeafIndex> {
        let mut neighbours = self.assembly.order().neighbours(leaf);
        neighbours.retain(|neighbour| self.core.members().has(*neighbour));
        neighbours
    }

    fn is_alive(&self, leaf: LeafIndex) -> bool {
        self.survivors.members().has(leaf)
    }

    /// Every share that an answer or an opening gave, by whose secret it is of. The kind follows from the survivors.
    fn shares_by_owner(&self, received: &Received) -> BTreeMap<LeafIndex, Shares> {
        let mut shares: BTreeMap<LeafIndex, Shares> = BTreeMap::new();
        for (client, body) in &received.bodies {
            let Some(holder) = self.assembly.roster().leaf_of(*client) else { continue };
            let owners = self.neighbours_in_core(holder);
            let Ok(answer) = Answer::decode(body, owners.len()) else { continue };
            for (owner, share) in owners.into_iter().zip(answer.shares()) {
                if let Some(share) = share {
                    shares.entry(owner).or_default().insert(holder, share.clone());
                }
            }
        }
        // An edge settled by an opening was checked against its points: the opened share counts as the holder's.
        for OpenedShare { dealer, holder, pair } in &self.opened {
            let share = if self.is_alive(*dealer) { &pair.self_mask } else { &pair.masking };
            shares.entry(*dealer).or_default().insert(*holder, share.clone());
        }
        shares
    }

    /// One secret for every member of the core, or `None` if one cannot be rebuilt.
    fn rebuild_all(
        &self,
        shares: &BTreeMap<LeafIndex, Shares>,
        received: &Received,
        effects: &mut Vec<Effect>,
    ) -> Option<BTreeMap<LeafIndex, ShareScalar>> {
        let none = Shares::new();
        let mut weights = BTreeMap::new();
        let mut liars = BTreeMap::new();
        // Read once, and only if somebody lied: it takes every share message of the round.
        let dealt = OnceCell::new();
        let dealt = || dealt.get_or_init(|| SharesOf::new(&received.shares, self.assembly.params().degree));
        // Everybody is tried, also after a failure: who lied is named in any case.
        let secrets: Vec<Option<(LeafIndex, ShareScalar)>> = self
            .core
            .members()
            .leaves()
            .map(|owner| {
                let given = shares.get(&owner).unwrap_or(&none);
                let secret = self
                    .rebuild(owner, given, &mut weights)
                    .or_else(|| self.rebuild(owner, &self.truthful(owner, given, dealt(), &mut liars), &mut weights))?;
                Some((owner, secret))
            })
            .collect();
        effects.extend(liars.into_iter().filter_map(|(liar, owner)| self.wrong_answer(received, dealt(), liar, owner)));
        secrets.into_iter().collect()
    }

    /// From the first t shares, ascending by holder; checked against what the owner signed.
    fn rebuild(
        &self,
        owner: LeafIndex,
        shares: &Shares,
        weights: &mut BTreeMap<Vec<LeafIndex>, Interpolation>,
    ) -> Option<ShareScalar> {
        let threshold = self.assembly.params().threshold as usize;
        let (holders, values): (Vec<_>, Vec<_>) =
            shares.iter().take(threshold).map(|(holder, share)| (*holder, share.clone())).unzip();
        if holders.len() < threshold {
            return None;
        }
        let weights = weights.entry(holders).or_insert_with_key(|holders| Interpolation::at_zero_vartime(holders));
        let secret = weights.combine(&values);
        (Point::of(&secret) == self.signed_key(owner)).then_some(secret)
    }

    /// Only the shares that match the points their dealer signed; who gave another is noted, with one owner it lied about.
    fn truthful(
        &self,
        owner: LeafIndex,
        shares: &Shares,
        dealt: &SharesOf<'_>,
        liars: &mut BTreeMap<LeafIndex, LeafIndex>,
    ) -> Shares {
        // Decoded once for all holders: points cost more than everything else here.
        let dealt = dealt.of(self.assembly.roster().client(owner));
        let points: BTreeMap<LeafIndex, Point> = dealt
            .iter()
            .flat_map(|dealt| dealt.edges())
            .map(|edge| (edge.holder, if self.is_alive(owner) { edge.self_mask_point } else { edge.masking_point }))
            .collect();
        let mut truthful = Shares::new();
        for (holder, share) in shares {
            let Some(point) = points.get(holder) else { continue };
            if Point::of(share) == *point {
                truthful.insert(*holder, share.clone());
            } else {
                liars.entry(*holder).or_insert(owner);
            }
        }
        truthful
    }

    /// Names a holder: its answer, what it had acknowledged, and the edge that `owner` had signed.
    fn wrong_answer(
        &self,
        received: &Received,
        shares: &SharesOf<'_>,
        holder: LeafIndex,
        owner: LeafIndex,
    ) -> Option<Effect> {
        let degree = self.assembly.params().degree;
        let (client, dealer) = (self.assembly.roster().client(holder), self.assembly.roster().client(owner));
        let acknowledgement = received.acknowledgements.get(&client)?;
        let reports = Acknowledgement::decode(acknowledgement, degree).ok()?;
        let dealers = reports.reported_on(&self.assembly.order().neighbours(holder));
        let evidence = Evidence::Answer {
            leaf: received.adverts.get(&client)?.clone(),
            answer: received.bodies.get(&client)?.clone(),
            acknowledgement: acknowledgement.clone(),
            roots: shares.roots_of(&self.assembly, dealers),
            dealer: received.adverts.get(&dealer)?.clone(),
            mail: mail_to(&shares.of(dealer)?, owner, holder)?,
        };
        Some(Effect::Fault { client, rule: 29, evidence: evidence.encode() })
    }

    fn signed_key(&self, owner: LeafIndex) -> Point {
        let member = self.assembly.member(owner);
        if self.is_alive(owner) { member.self_mask.0 } else { member.masking.0 }
    }

    /// §5.7 close, step 2:
    /// > sum = Σ_{v in L} y_v − Σ_{v in L} mask(self key of v) − Σ_{u in D} Σ_{v in L, v ~ u} e(v, u) · mask(pair key of v and u)
    ///
    /// where e(v, u) is the sign with which v used the mask: + if v has the lower leaf index.
    fn remove_masks(&self, facts: &RoundFacts, sum: &mut RingVector, secrets: BTreeMap<LeafIndex, ShareScalar>) {
        let context = CoreContext {
            roster: RosterContext { header: facts.chain.context, roster: self.assembly.root() },
            core: self.core.root(),
        };
        for (owner, secret) in secrets {
            let member = self.assembly.member(owner);
            if self.is_alive(owner) {
                sum.sub_mask(SelfMaskSecret::from_scalar(&secret).into_mask_key(member.client, &context));
                continue;
            }
            let masking = MaskingSecretKey::from_scalar(&secret);
            for living in self.assembly.order().neighbours(owner).into_iter().filter(|leaf| self.is_alive(*leaf)) {
                let peer = self.assembly.member(living);
                let key = masking.pair_mask_key(member.client, (peer.client, &peer.masking), &context);
                if living < owner { sum.sub_mask(key) } else { sum.add_mask(key) }
            }
        }
    }

    /// The survivors.
    pub fn survivors(&self) -> &Survivors {
        &self.survivors
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Self { assembly, core, opened, survivors } = self.clone();
        Confirming { assembly, core, opened, survivors }.write(out);
    }

    pub(super) fn read(reader: &mut Reader<'_>, facts: &RoundFacts) -> Result<Self, DecodeError> {
        let Confirming { assembly, core, opened, survivors } = Confirming::read(reader, facts)?;
        Ok(Self { assembly, core, opened, survivors })
    }
}
