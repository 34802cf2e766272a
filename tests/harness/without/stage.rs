//! A round of gullible clients and the aggregator's part in it: honest where an attack does not say otherwise. The adversary
//! holds the aggregator's keys and everything that travels; what it computes from them stands at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use curve25519_dalek::Scalar;
use veilsum_crypto::client::{Membership, Policy};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::key_advertisement::leaf_digest;
use veilsum_crypto::messages::{
    Acknowledgement, Bitmap, CoreSet, EdgeReport, MaskedInput, Roster, SealedShares, Survivors, answer,
};
use veilsum_crypto::params::{RosterParams, RoundParams};
use veilsum_crypto::primitives::agreement::{Point, SelfMaskSecret};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::context::CoreContext;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Signed;
use veilsum_crypto::testing::{TASK, World, now};

use super::checks::{Checks, CoreFacts, Counted, Decided, Kind, PairEnds, Rebuilding, Side, stop};
use super::gullible::{Client, Given, Leaf, View, point};

/// Shares of one secret, by holder.
pub type Shares = BTreeMap<LeafIndex, ShareScalar>;

/// A round in which everybody asks the same checks.
pub struct Stage {
    /// Keys of authority and aggregator, and the header.
    pub world: World,
    /// What everybody asks.
    pub checks: Checks,
    /// In leaf order.
    pub clients: Vec<Client>,
    /// Their leaves.
    pub leaves: Vec<Vec<u8>>,
    /// As served.
    pub roster: Vec<u8>,
    /// Share messages, by dealer.
    pub dealt: BTreeMap<LeafIndex, SealedShares>,
    /// What holders reported, in their neighbour order.
    pub reports: BTreeMap<LeafIndex, Vec<EdgeReport>>,
    /// The core.
    pub core: Option<CoreSet>,
    /// Masked inputs, whole.
    pub uploads: BTreeMap<LeafIndex, Vec<u8>>,
    /// Digests by which uploads count once.
    pub counted: BTreeMap<ClientId, Digest>,
    /// The sum of masked inputs.
    pub sum: RingVector,
}

impl Stage {
    /// Before the first advert.
    pub fn new(params: RoundParams, checks: Checks) -> Self {
        Self::of(World::new(params), checks)
    }

    /// The same with a policy that was altered.
    pub fn with_policy(params: RoundParams, checks: Checks, change: impl Fn(&mut Policy)) -> Self {
        Self::of(World::with_policy(params, change), checks)
    }

    /// The same in a given world.
    pub fn of(world: World, checks: Checks) -> Self {
        let params = &world.facts.header.params;
        let clients = world.members.iter().map(|member| Client::new(member.clone(), checks)).collect();
        Self {
            sum: RingVector::zeros(params.vector_len as usize, params.ring_bits),
            clients,
            world,
            checks,
            leaves: Vec::new(),
            roster: Vec::new(),
            dealt: BTreeMap::new(),
            reports: BTreeMap::new(),
            core: None,
            uploads: BTreeMap::new(),
            counted: BTreeMap::new(),
        }
    }

    /// Everybody judges the header and advertises.
    pub fn advertise(&mut self) -> Decided {
        let header = self.world.header();
        for client in &mut self.clients {
            self.leaves.push(client.advertise(TASK, &header, &[], now())?);
        }
        Ok(())
    }

    /// The roster over these leaves, with this nonce and these parameters, as served.
    pub fn roster_of(&self, leaves: &[Vec<u8>], params: &RosterParams, nonce: [u8; 32]) -> Vec<u8> {
        let entries = leaves.iter().map(|leaf| (Leaf::read(leaf).client, leaf_digest(leaf))).collect();
        let roster = Roster::fix(&self.world.facts.chain, params, nonce, entries);
        [self.world.signed(roster.statement().clone()), roster.list()].concat()
    }

    /// The parameters of this roster.
    pub fn params(&self) -> RosterParams {
        RosterParams::derive(self.clients.len() as u32, &self.world.facts.header.params).expect("feasible")
    }

    /// Everybody examines the honest roster.
    pub fn examine(&mut self) -> Decided {
        self.roster = self.roster_of(&self.leaves, &self.params(), [9; 32]);
        self.examine_this()
    }

    /// Everybody examines the roster that stands there.
    pub fn examine_this(&mut self) -> Decided {
        for client in &mut self.clients {
            client.examine(&self.roster, &|leaf| self.leaves[leaf.index()].clone(), now())?;
        }
        Ok(())
    }

    /// Everybody deals.
    pub fn deal(&mut self) -> Decided {
        for leaf in self.all() {
            let message = self.clients[leaf.index()].deal()?;
            self.admit_shares(leaf, message)?;
        }
        Ok(())
    }

    /// §5.2 accept, R-13 and R-38.
    pub fn admit_shares(&mut self, dealer: LeafIndex, message: SealedShares) -> Decided {
        let view = self.clients[dealer.index()].view();
        if !message.edges_are_signed() || !message.edges().iter().map(|edge| edge.holder).eq(view.neighbours.clone()) {
            return stop(13, "the edges are not those signed");
        }
        let keys = view.peer(dealer).keys;
        let points: Vec<_> = message
            .edges()
            .iter()
            .map(|edge| (edge.holder, [edge.masking_point.point(), edge.self_mask_point.point()]))
            .collect();
        let coefficients = message.low_degree_coefficients(view.params.threshold);
        if !(self.checks.r38)([&point(keys.masking), &point(keys.self_mask)], &points, &coefficients) {
            return stop(38, "the points lie on no polynomial through the dealer's keys");
        }
        self.dealt.insert(dealer, message);
        Ok(())
    }

    /// The honest mailbox of a holder, without the mail of some dealers.
    pub fn mail_without(&self, holder: LeafIndex, without: &[LeafIndex]) -> Vec<Vec<u8>> {
        let dealers = self.dealt.iter().filter(|(dealer, _)| !without.contains(dealer));
        let items = dealers.flat_map(|(dealer, message)| message.mail(*dealer));
        items.filter(|(to, _)| *to == holder).map(|(_, item)| item).collect()
    }

    /// A holder acknowledges what it is shown.
    pub fn acknowledge_one(&mut self, holder: LeafIndex, mail: &[Vec<u8>]) -> Decided<Acknowledgement> {
        let message = self.clients[holder.index()].acknowledge(mail)?;
        self.reports.insert(holder, message.reports().to_vec());
        Ok(message)
    }

    /// Everybody acknowledges its honest mailbox.
    pub fn acknowledge(&mut self) -> Decided {
        for holder in self.all() {
            self.acknowledge_one(holder, &self.mail_without(holder, &[]))?;
        }
        Ok(())
    }

    /// The honest core.
    pub fn fix_core(&self) -> Bitmap {
        let params = self.params();
        let dealt = Bitmap::of(params.n, self.dealt.keys().copied());
        let neighbours = |leaf| self.view().order.neighbours(leaf);
        let facts = CoreFacts { params: &params, neighbours: &neighbours, dealt: &dealt, reports: &self.reports };
        (self.checks.r17_core)(&facts)
    }

    /// A core that the aggregator signs, honest or not.
    pub fn core_of(&self, members: Bitmap) -> CoreSet {
        CoreSet::fix(members, &self.world.facts.chain, self.view().root)
    }

    /// The bytes of a core.
    pub fn served(&self, core: &CoreSet) -> Vec<u8> {
        self.world.signed(core.statement().clone())
    }

    /// One client masks under this core.
    pub fn mask_one(&mut self, leaf: LeafIndex, core: &CoreSet, said: &[LeafIndex]) -> Decided {
        let (served, world) = (self.served(core), &self.world);
        let input = |variance| input(world, leaf, variance);
        let message = self.clients[leaf.index()].mask(&served, said, &input)?;
        self.uploads.insert(leaf, message);
        Ok(())
    }

    /// These clients mask under the core of these members, and their inputs are added.
    pub fn mask(&mut self, members: Bitmap, who: &[LeafIndex]) -> Decided {
        let core = self.core_of(members);
        for leaf in who {
            self.mask_one(*leaf, &core, &self.all())?;
            self.add(*leaf, &self.uploads[leaf].clone());
        }
        self.core = Some(core);
        Ok(())
    }

    /// §5.5 accept: whether the aggregator takes an upload for its sender's.
    pub fn admit_upload(&mut self, from: LeafIndex, message: &[u8]) -> Decided {
        let signed = Signed::read(&mut Reader::new(message), labels::UPLOAD).expect("an upload");
        if !(self.checks.r37)(Side::Aggregator, &signed, &self.clients[from.index()].member.identity.public()) {
            return stop(37, "the signature of an upload does not verify");
        }
        self.uploads.insert(from, message.to_vec());
        self.add(from, message);
        Ok(())
    }

    /// §5.5 accept: an upload is added.
    pub fn add(&mut self, from: LeafIndex, message: &[u8]) -> Counted {
        let client = self.clients[from.index()].id();
        let counted = (self.checks.r19)(&mut self.counted, client, leaf_digest(message));
        if counted == Counted::Fresh {
            self.sum.add_assign(&self.vector(message)).expect("one ring");
        }
        counted
    }

    /// The masked vector of an upload.
    pub fn vector(&self, message: &[u8]) -> RingVector {
        let params = &self.world.facts.header.params;
        MaskedInput::decode(message, params).expect("as sent").vector(params).expect("in the ring")
    }

    /// Everything up to the acknowledgements, honestly.
    pub fn acknowledged(&mut self) -> Decided {
        self.advertise()?;
        self.examine()?;
        self.deal()?;
        self.acknowledge()
    }

    /// Everything up to the uploads of everybody, honestly.
    pub fn uploaded(&mut self) -> Decided {
        self.acknowledged()?;
        let members = self.fix_core();
        self.mask(members, &self.all())
    }

    /// A survivor list over the core in force. Clients do not check its tree of uploads.
    pub fn list_of(&self, members: Bitmap) -> Survivors {
        let core = self.core.as_ref().expect("it is fixed").root();
        Survivors::fix(members, Digest([7; 32]), &self.world.facts.chain, core)
    }

    /// The upload statements that are shown to a client: those of all its neighbours.
    pub fn statements_for(&self, leaf: LeafIndex) -> Vec<Vec<u8>> {
        let near = self.clients[leaf.index()].neighbours(leaf);
        near.iter().filter_map(|near| self.uploads.get(near)).map(|message| statement_of(message)).collect()
    }

    /// One client is shown a list.
    pub fn confirm_one(&mut self, leaf: LeafIndex, list: &Survivors) -> Decided<Option<Vec<u8>>> {
        let served = self.world.signed(list.statement().clone());
        let uploads = self.statements_for(leaf);
        self.clients[leaf.index()].confirm(&served, &uploads)
    }

    /// These clients confirm a list and answer.
    pub fn answers(&mut self, list: &Survivors, who: &[LeafIndex]) -> Decided<Vec<Given>> {
        let mut confirmations = Vec::new();
        for leaf in who {
            confirmations.extend(self.confirm_one(*leaf, list)?);
        }
        who.iter().map(|leaf| self.clients[leaf.index()].unmask(&confirmations)).collect()
    }

    /// §5.7 accept: of each client the first answer that stands in its place and counts as its own.
    pub fn admit_answers(&self, list: &Survivors, arriving: &[Given]) -> Vec<Given> {
        let mut admitted: BTreeMap<LeafIndex, Given> = BTreeMap::new();
        for answer in arriving {
            let client = &self.clients[answer.holder.index()];
            let place = answer::place(&self.world.facts.chain, list.root(), client.id());
            let counts = (self.checks.r28)(&answer.signed, &client.member.identity.public());
            if counts && (self.checks.r01)(answer.signed.statement(), &place) {
                admitted.entry(answer.holder).or_insert_with(|| answer.clone());
            }
        }
        admitted.into_values().collect()
    }

    /// §5.7 close step 1: the secrets behind a list, and who lied.
    pub fn rebuild(&self, list: &Survivors, answers: &[Given]) -> (BTreeMap<LeafIndex, Scalar>, BTreeSet<LeafIndex>) {
        let core = self.core.as_ref().expect("it is fixed").members();
        let given = shares_of(&self.admit_answers(list, answers));
        let (mut secrets, mut liars) = (BTreeMap::new(), BTreeSet::new());
        for owner in core.leaves() {
            let kind = if list.members().has(owner) { Kind::SelfMask } else { Kind::Masking };
            let Some(dealt) = self.dealt.get(&owner) else { continue };
            let pick = |edge: &veilsum_crypto::messages::Edge| match kind {
                Kind::SelfMask => edge.self_mask_point,
                Kind::Masking => edge.masking_point,
            };
            let rebuilt = (self.checks.r29)(&Rebuilding {
                shares: given.get(&(owner, kind)).unwrap_or(&Shares::new()),
                points: &dealt.edges().iter().map(|edge| (edge.holder, pick(edge))).collect(),
                key: self.key(owner, kind),
                threshold: self.view().params.threshold as usize,
                at: self.checks.r12,
            });
            secrets.extend(rebuilt.secret.map(|secret| (owner, secret)));
            liars.extend(rebuilt.liars);
        }
        (secrets, liars)
    }

    /// B or S of a client.
    pub fn key(&self, owner: LeafIndex, kind: Kind) -> Point {
        let keys = Leaf::read(&self.leaves[owner.index()]).keys;
        let bytes = if kind == Kind::SelfMask { keys.self_mask } else { keys.masking };
        Point::from_bytes(bytes).expect("R-09 has passed it")
    }

    /// §5.7 close step 2: the sum over a list, if every secret is there.
    pub fn open_sum(&self, list: &Bitmap, secrets: &BTreeMap<LeafIndex, Scalar>) -> Option<RingVector> {
        let core = self.core.as_ref().expect("it is fixed");
        let mut sum = self.sum.clone();
        for upload in self.uploads.iter().filter(|(from, _)| !list.has(**from)).map(|(_, upload)| upload) {
            sum.sub_assign(&self.vector(upload)).expect("one ring"); // it came, and is not counted
        }
        for owner in core.members().leaves() {
            let secret = *secrets.get(&owner)?;
            if list.has(owner) {
                sum.sub_assign(&self.self_mask(owner, secret, core.root())).expect("one ring");
                continue;
            }
            let living = |near: &LeafIndex| list.has(*near) && core.members().has(*near);
            for near in self.view().order.neighbours(owner).into_iter().filter(living) {
                // With the sign with which the living one used it.
                let mask = self.pair_mask(owner, secret, near, core.root());
                let opened = if near < owner { sum.sub_assign(&mask) } else { sum.add_assign(&mask) };
                opened.expect("one ring");
            }
        }
        Some(sum)
    }

    /// The mask of b.
    pub fn self_mask(&self, of: LeafIndex, secret: Scalar, core: Digest) -> RingVector {
        let secret = SelfMaskSecret::from_scalar(&ShareScalar::from_scalar(secret));
        let key = secret.into_mask_key(self.clients[of.index()].id(), &self.context(core));
        (self.checks.r32)(key, self.sum.len(), self.sum.bits())
    }

    /// The mask of a pair, from the s of one of them.
    pub fn pair_mask(&self, of: LeafIndex, secret: Scalar, peer: LeafIndex, core: Digest) -> RingVector {
        let keys = Leaf::read(&self.leaves[peer.index()]).keys;
        let ends = PairEnds {
            secret,
            me: self.clients[of.index()].id(),
            peer: (self.clients[peer.index()].id(), keys.masking),
            context: self.context(core),
        };
        (self.checks.r32)((self.checks.r10)(&ends), self.sum.len(), self.sum.bits())
    }

    fn context(&self, core: Digest) -> CoreContext {
        CoreContext { roster: self.view().context(), core }
    }

    /// The input under one upload, from its b, and its s where it masked with these neighbours.
    pub fn open_input(
        &self,
        of: LeafIndex,
        b: Scalar,
        s: Scalar,
        masked_with: &[LeafIndex],
        core: Digest,
    ) -> RingVector {
        let mut input = self.vector(&self.uploads[&of]);
        input.sub_assign(&self.self_mask(of, b, core)).expect("one ring");
        for near in masked_with {
            let mask = self.pair_mask(of, s, *near, core);
            let opened = if of < *near { input.sub_assign(&mask) } else { input.add_assign(&mask) };
            opened.expect("one ring");
        }
        input
    }

    /// What the ring sum of these clients' inputs really is.
    pub fn plain_sum(&self, of: impl IntoIterator<Item = LeafIndex>) -> RingVector {
        let mut sum = RingVector::zeros(self.sum.len(), self.sum.bits());
        for leaf in of {
            sum.add_assign(self.input(leaf)).expect("one ring");
        }
        sum
    }

    /// What a client masked.
    pub fn input(&self, leaf: LeafIndex) -> &RingVector {
        self.clients[leaf.index()].input.as_ref().expect("it masked")
    }

    /// The recovered input is the victim's, bit for bit; else the attack came to nothing under this rule.
    pub fn is_the_input(&self, of: LeafIndex, recovered: &RingVector, rule: u8) -> Decided<String> {
        if recovered != self.input(of) {
            return stop(rule, "what the server computes is not the input");
        }
        Ok(format!("the input of one client, bit for bit ({} coordinates)", recovered.len()))
    }

    /// The view of any client: in an honest roster all are alike but for who looks.
    pub fn view(&self) -> &View {
        self.clients[0].view()
    }

    /// The leaves by ring position, of a sparse graph.
    pub fn ring(&self) -> Vec<LeafIndex> {
        let order = &self.view().order;
        let half = self.view().params.degree as usize / 2;
        let mut ring = vec![order.agreement_set()[0]];
        while ring.len() < self.clients.len() {
            ring.push(order.neighbours(ring[ring.len() - 1])[half]); // the next one after itself
        }
        ring
    }

    /// Every leaf.
    pub fn all(&self) -> Vec<LeafIndex> {
        (0..self.clients.len() as u32).map(LeafIndex).collect()
    }

    /// Every leaf but these.
    pub fn all_but(&self, without: &[LeafIndex]) -> Bitmap {
        Bitmap::of(self.clients.len() as u32, self.all().into_iter().filter(|leaf| !without.contains(leaf)))
    }

    /// Gives a client another certificate, with the same identity key.
    pub fn recertify(
        world: &mut World,
        number: usize,
        change: impl FnOnce(&mut veilsum_crypto::messages::certificate::CertificateBody),
    ) {
        let before = &world.members[number];
        let mut body = *before.certificate.body();
        change(&mut body);
        let identity =
            veilsum_crypto::primitives::signature::IdentitySecretKey::from_bytes(&before.identity.to_bytes());
        let certificate = veilsum_crypto::messages::Certificate::issue(body, &world.authority);
        world.members[number] = Arc::new(Membership { identity, certificate, policy: before.policy.clone() });
    }
}

/// An update that is 1 at a coordinate of its own, noised, in the ring.
pub fn input(world: &World, leaf: LeafIndex, variance: u64) -> RingVector {
    let params = &world.facts.header.params;
    let at = leaf.index() % params.vector_len as usize;
    RingVector::from_signed(world.update(1.0, at, variance).values(), params.ring_bits)
}

/// The signed statement at the head of a message.
pub fn statement_of(upload: &[u8]) -> Vec<u8> {
    Signed::read(&mut Reader::new(upload), labels::UPLOAD).expect("an upload").encode()
}

/// Shares by owner and kind.
pub fn shares_of(answers: &[Given]) -> BTreeMap<(LeafIndex, Kind), Shares> {
    let mut by_owner: BTreeMap<(LeafIndex, Kind), Shares> = BTreeMap::new();
    for answer in answers {
        for (owner, shares) in &answer.shares {
            for (kind, share) in shares {
                by_owner.entry((*owner, *kind)).or_default().insert(answer.holder, share.clone());
            }
        }
    }
    by_owner
}
