//! A client written from docs/protocol.md in straight lines, with all its secrets in the open. What comes in is what a server
//! shows it, what goes out is what it would send; before every step it asks its [`Checks`], and believes them.
//!
//! With all checks in place it is a client like any other: `tests/without.rs` lets it take part in a round of real ones. It
//! is for attacks only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::ristretto::CompressedRistretto;
use curve25519_dalek::{RistrettoPoint, Scalar};
use rand_core::Rng as _;
use sha2::{Digest as _, Sha256};
use veilsum_crypto::client::{Membership, Moment};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, TaskId};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::acknowledgement::shares_digest;
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{
    Acknowledgement, Bitmap, Certificate, Chain, Confirmation, CoreSet, Edge, EdgeReport, Header, MailItem,
    MaskedInput, Opening, RevocationList, SealedShares, Survivors,
};
use veilsum_crypto::params::{RingOrder, RosterParams};
use veilsum_crypto::primitives::agreement::{Point, SelfMaskSecret};
use veilsum_crypto::primitives::codec::{Reader, write_prefixed};
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::labels::{self, Label};
use veilsum_crypto::primitives::merkle::{self, TreeHead};
use veilsum_crypto::primitives::signature::{IdentityPublicKey, Place, Signed, Statement};
use veilsum_crypto::privacy::budget::Ledger;
use veilsum_crypto::testing::os_rng;

use super::checks::{Charging, Checks, Decided, Kind, MailEnds, PairEnds, RawKeys, Side, stop};

/// Both secrets of a round that open an input, and the key of the mail.
#[derive(Clone, Copy)]
pub struct Secrets {
    /// s.
    pub masking: Scalar,
    /// b.
    pub self_mask: Scalar,
    /// c.
    pub channel: [u8; 32],
    /// Found again in the own leaf.
    pub nonce: [u8; 32],
}

impl Secrets {
    /// Fresh ones, §4.4.
    pub fn draw() -> Self {
        Self { masking: scalar(), self_mask: scalar(), channel: bytes(), nonce: bytes() }
    }

    /// S, B, C.
    pub fn keys(&self) -> RawKeys {
        let public = |secret: &Scalar| RistrettoPoint::mul_base(secret).compress().to_bytes();
        RawKeys {
            masking: public(&self.masking),
            self_mask: public(&self.self_mask),
            channel: MontgomeryPoint::mul_base_clamped(self.channel).to_bytes(),
        }
    }
}

/// A random scalar.
pub fn scalar() -> Scalar {
    Scalar::random(&mut os_rng())
}

/// Random bytes.
pub fn bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    os_rng().fill_bytes(&mut bytes);
    bytes
}

/// A leaf, opened. §5.1
#[derive(Clone)]
pub struct Leaf {
    /// Who.
    pub client: ClientId,
    /// Signs everything it says.
    pub identity: IdentityPublicKey,
    /// The authority vouches.
    pub certificate: Certificate,
    /// S, B, C.
    pub keys: RawKeys,
    /// Fresh.
    pub nonce: [u8; 32],
    /// The signed advert.
    pub advert: Signed,
}

impl Leaf {
    /// A leaf of these parts, whatever they are.
    pub fn encode(certificate: &Certificate, advert: &Signed) -> Vec<u8> {
        let mut leaf = Vec::new();
        write_prefixed(&mut leaf, &certificate.encode());
        write_prefixed(&mut leaf, &advert.encode());
        leaf
    }

    /// Reads one; nothing is checked.
    pub fn read(leaf: &[u8]) -> Self {
        let mut reader = Reader::new(leaf);
        let certificate = Certificate::decode(reader.prefixed("certificate").expect("framed")).expect("in form");
        let advert = Signed::decode(reader.prefixed("advert").expect("framed"), labels::ADVERT).expect("in form");
        let mut body = Reader::new(&advert.statement().body);
        let mut field = || body.array("key").expect("128 bytes");
        let keys = RawKeys { masking: field(), self_mask: field(), channel: field() };
        let (nonce, CertificateBody { client, identity, .. }) = (field(), *certificate.body());
        Self { client, identity, certificate, keys, nonce, advert }
    }
}

/// What a client knows once it has a roster.
#[derive(Clone)]
pub struct View {
    /// Where statements stand.
    pub chain: Chain,
    /// The roster root.
    pub root: Digest,
    /// Ids in leaf order.
    pub ids: Vec<ClientId>,
    /// n, k, t, h.
    pub params: RosterParams,
    /// The ring.
    pub order: RingOrder,
    /// The client's own leaf.
    pub me: LeafIndex,
    /// Its neighbours, in its order.
    pub neighbours: Vec<LeafIndex>,
    /// The leaves that it opened.
    pub peers: BTreeMap<LeafIndex, Leaf>,
}

impl View {
    /// A leaf that was opened; neighbours and agreement set always are.
    pub fn peer(&self, leaf: LeafIndex) -> &Leaf {
        &self.peers[&leaf]
    }

    /// Header and roster.
    pub fn context(&self) -> RosterContext {
        RosterContext { header: self.chain.context, roster: self.root }
    }
}

/// One client.
pub struct Client {
    /// What it asks.
    pub checks: Checks,
    /// Identity, certificate, policy.
    pub member: Arc<Membership>,
    /// The last counter of the task.
    pub last_counter: u64,
    /// The largest log seen.
    pub log: Option<TreeHead>,
    /// What was charged.
    pub ledger: Ledger,
    /// The round's header.
    pub header: Option<Header>,
    /// s, b, c: as long as it keeps them.
    pub secrets: Option<Secrets>,
    /// Where an attack looks up what it must not find: never read by the client itself.
    pub truth: Option<Secrets>,
    /// When it advertised.
    pub advertised: Option<Moment>,
    /// The roster.
    pub view: Option<View>,
    /// The polynomials of s and b.
    pub polynomials: [Vec<Scalar>; 2],
    /// Its share message.
    pub dealt: Option<SealedShares>,
    /// Shares of others, by dealer.
    pub held: BTreeMap<LeafIndex, SharePair>,
    /// Whose mail it acknowledged.
    pub mailbox: BTreeSet<LeafIndex>,
    /// Members and root of the core that it masked under.
    pub core: Option<(Bitmap, Digest)>,
    /// What it masked.
    pub input: Option<RingVector>,
    /// The journal's slot for the upload.
    pub upload: Option<Vec<u8>>,
    /// The survivor lists it accepted: more than one only without R-23.
    pub accepted: Vec<(Bitmap, Digest)>,
}

impl Client {
    /// Before its first round.
    pub fn new(member: Arc<Membership>, checks: Checks) -> Self {
        Self {
            checks,
            member,
            last_counter: 0,
            log: None,
            ledger: Ledger::default(),
            header: None,
            secrets: None,
            truth: None,
            advertised: None,
            view: None,
            polynomials: [Vec::new(), Vec::new()],
            dealt: None,
            held: BTreeMap::new(),
            mailbox: BTreeSet::new(),
            core: None,
            input: None,
            upload: None,
            accepted: Vec::new(),
        }
    }

    /// Who it is.
    pub fn id(&self) -> ClientId {
        self.member.client()
    }

    /// The roster, once it has one.
    pub fn view(&self) -> &View {
        self.view.as_ref().expect("it has examined a roster")
    }

    /// The header, once it has one.
    pub fn header(&self) -> &Header {
        self.header.as_ref().expect("it has judged a header")
    }

    fn secrets(&self) -> &Secrets {
        self.secrets.as_ref().expect("they are not erased yet")
    }

    /// The neighbours of any leaf.
    pub fn neighbours(&self, of: LeafIndex) -> Vec<LeafIndex> {
        self.view().order.neighbours(of)
    }

    /// A signed statement of the pinned aggregator at its place. §5
    fn statement_of_aggregator(&self, bytes: &[u8], label: Label, place: &Place) -> Decided<Statement> {
        let Ok(signed) = Signed::decode(bytes, label) else { return stop(37, "not canonical") };
        if !(self.checks.r37)(Side::Client, &signed, &self.member.policy.aggregator) {
            return stop(37, "not signed by the pinned aggregator");
        }
        if !(self.checks.r01)(signed.statement(), place) {
            return stop(1, "bound to another round or statement");
        }
        Ok(signed.statement().clone())
    }

    /// §5.1: judges a header as served, and gives its leaf.
    pub fn advertise(&mut self, task: TaskId, header: &[u8], growth: &[Digest], now: Moment) -> Decided<Vec<u8>> {
        let policy = &self.member.policy;
        let Ok(signed) = Signed::decode(header, labels::HEADER) else { return stop(37, "not canonical") };
        let Ok(header) = Header::from_statement(signed.statement()) else { return stop(2, "malformed header") };
        if header.aggregator_key != policy.aggregator || !(self.checks.r37)(Side::Client, &signed, &policy.aggregator) {
            return stop(1, "not a header of the pinned aggregator");
        }
        (self.checks.r02)(policy, &header, task, self.last_counter)?;
        if header.opened_at.0.abs_diff(now.wall.0) / 1_000_000 > policy.clock_apart_max_s {
            return stop(6, "opened at another time");
        }
        (self.checks.r33)(self.log, header.log, growth)?;
        (self.checks.r06)(&self.member.certificate, &header, &RevocationList::none())?;
        if let Some(cost) = veilsum_crypto::client::policy::round_charge_of(&header.params) {
            let mut tried = self.ledger.clone(); // the same question as before masking, asked without charging
            let upload = Charging::Upload { cost: &cost, budget: policy.budget };
            (self.checks.r26)(&mut tried, (header.task.0, header.counter), &upload)?;
        }
        (self.last_counter, self.log) = (header.counter, Some(header.log));
        let secrets = Secrets::draw();
        (self.secrets, self.truth, self.advertised) = (Some(secrets), Some(secrets), Some(now));
        let chain = header.chain();
        let RawKeys { masking, self_mask, channel } = secrets.keys();
        let body = [masking, self_mask, channel, secrets.nonce].concat();
        let advert = chain.from_client(self.id(), chain.context).statement(labels::ADVERT, body);
        self.header = Some(header);
        Ok(Leaf::encode(&self.member.certificate, &advert.sign(&self.member.identity)))
    }

    /// §5.2 steps 1 to 4: judges a roster as served, and the leaves that it asks for.
    pub fn examine(&mut self, roster: &[u8], leaf: &dyn Fn(LeafIndex) -> Vec<u8>, now: Moment) -> Decided<()> {
        let policy = &self.member.policy;
        (self.checks.r08)(policy, [self.advertised.expect("it advertised"), now])?;
        let chain = self.header().chain();
        let mut reader = Reader::new(roster);
        let Ok(signed) = Signed::read(&mut reader, labels::ROSTER) else { return stop(37, "not canonical") };
        let place = chain.from_aggregator(chain.context);
        let statement = self.statement_of_aggregator(&signed.encode(), labels::ROSTER, &place)?;
        let mut body = Reader::new(&statement.body);
        let mut number = |bytes: usize| {
            let field = body.take("a number", bytes).expect("76 bytes");
            field.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
        };
        let (n, degree, threshold, honest) = (number(4), number(2), number(2), number(4));
        let entries: Vec<(ClientId, Digest)> = (0..n)
            .map(|_| (ClientId(reader.array("id").expect("48 n bytes")), reader.digest("leaf").expect("48 n bytes")))
            .collect();
        let hashes: Vec<Digest> = entries.iter().map(|(id, leaf)| merkle::leaf_hash(&[&id.0, &leaf.0])).collect();
        if statement.body[44..] != merkle::root(&hashes).0 {
            return stop(5, "the entries do not make the signed tree");
        }
        let round = &self.header().params;
        let stated = RosterParams {
            n,
            corrupt: round.corrupt(n),
            tolerated: round.tolerated(n),
            degree,
            threshold,
            honest,
            survivors_min: round.survivors_min(n),
            share_variance: (self.checks.r14)(round, n),
        };
        let mut params = (self.checks.r04)(round, stated)?;
        params.share_variance = stated.share_variance;

        let ids: Vec<ClientId> = entries.iter().map(|(id, _)| *id).collect();
        let own = entries.iter().position(|(id, _)| *id == self.id());
        let Some(me) = own.map(|at| LeafIndex(at as u32)) else { return stop(6, "this client is not in the roster") };
        let order = RingOrder::new(&statement.root(), &params);
        let mut wanted: BTreeSet<LeafIndex> = order.neighbours(me).into_iter().collect();
        wanted.extend(order.agreement_set());
        wanted.insert(me);
        let target = (wanted.len() + 16).min(n as usize);
        while wanted.len() < target {
            wanted.insert(LeafIndex(os_rng().next_u32() % n));
        }
        let mut peers = BTreeMap::new();
        for at in wanted {
            let bytes = leaf(at);
            if Sha256::digest(&bytes).as_slice() != entries[at.index()].1.0 {
                return stop(6, "a leaf does not hash to its entry");
            }
            let leaf = Leaf::read(&bytes);
            (self.checks.r06)(&leaf.certificate, self.header(), &RevocationList::none())?;
            let place = chain.from_client(leaf.client, chain.context);
            if !(self.checks.r01)(leaf.advert.statement(), &place) {
                return stop(1, "an advert of another round");
            }
            if !(self.checks.r37)(Side::Client, &leaf.advert, &leaf.identity) {
                return stop(37, "an advert that its client did not sign");
            }
            (self.checks.r07)(policy, n, [self.member.certificate.body(), leaf.certificate.body()])?;
            peers.insert(at, leaf);
        }
        let own_leaf = &peers[&me];
        if (own_leaf.keys, own_leaf.nonce) != (self.secrets().keys(), self.secrets().nonce) {
            return stop(6, "its own leaf is another");
        }
        let identities: Vec<_> = peers.values().map(|leaf| leaf.identity).collect();
        (self.checks.r05)(&ids, &identities)?;
        (self.checks.r09)(&peers.values().map(|leaf| leaf.keys).collect::<Vec<_>>())?;
        let (root, neighbours) = (statement.root(), order.neighbours(me));
        self.view = Some(View { chain, root, ids, params, order, me, neighbours, peers });
        Ok(())
    }

    /// §5.2 steps 5 and 6: shares of both secrets for each neighbour.
    pub fn deal(&mut self) -> Decided<SealedShares> {
        let Secrets { masking, self_mask, .. } = *self.secrets();
        let threshold = self.view().params.threshold;
        self.polynomials = [masking, self_mask].map(|secret| {
            let coefficients = (1..threshold).map(|_| scalar());
            std::iter::once(secret).chain(coefficients).collect()
        });
        let pairs: Vec<_> = self.view().neighbours.iter().map(|holder| self.share_for(*holder)).collect();
        self.deal_these(&pairs, &pairs)
    }

    /// The shares of one holder.
    pub fn share_for(&self, holder: LeafIndex) -> SharePair {
        let x = (self.checks.r12)(holder);
        let at = |polynomial: &Vec<Scalar>| {
            ShareScalar::from_scalar(polynomial.iter().rev().fold(Scalar::ZERO, |value, next| value * x + next))
        };
        SharePair { masking: at(&self.polynomials[0]), self_mask: at(&self.polynomials[1]) }
    }

    /// Seals any pairs, in neighbour order, and signs them with the points of any others.
    pub fn deal_these(&mut self, sealed: &[SharePair], signed: &[SharePair]) -> Decided<SealedShares> {
        let mut edges = Vec::new();
        for ((holder, pair), public) in self.view().neighbours.iter().zip(sealed).zip(signed) {
            let plain = [*pair.masking.as_bytes(), *pair.self_mask.as_bytes()].concat();
            let ends = self.mail_ends(self.view().me, *holder);
            let Some(sealed) = (self.checks.r11_seal)(&ends, plain.as_slice().try_into().expect("64 bytes")) else {
                return stop(9, "an agreed secret of 32 zero bytes");
            };
            let (masking_point, self_mask_point) = (Point::of(&public.masking), Point::of(&public.self_mask));
            edges.push(Edge { holder: *holder, sealed, masking_point, self_mask_point });
        }
        let view = self.view();
        let message = SealedShares::sign(edges, &view.chain, view.root, self.id(), &self.member.identity);
        self.dealt = Some(message.clone());
        Ok(message)
    }

    /// Both ends of the mail from a dealer to a holder, one of whom it is.
    pub fn mail_ends(&self, dealer: LeafIndex, holder: LeafIndex) -> MailEnds {
        let view = self.view();
        let other = if dealer == view.me { holder } else { dealer };
        let end = |leaf| (view.peer(leaf).client, view.peer(leaf).keys.channel);
        MailEnds {
            secret: self.secrets().channel,
            peer: view.peer(other).keys.channel,
            dealer: end(dealer),
            holder: end(holder),
            context: view.context(),
        }
    }

    /// The leaf hash of its own edge to a holder.
    pub fn edge_hash(&self, holder: LeafIndex) -> Digest {
        self.dealt.as_ref().and_then(|message| message.edge_to(holder)).expect("it dealt to its neighbours").hash()
    }

    /// §5.3: judges its mailbox.
    pub fn acknowledge(&mut self, mail: &[Vec<u8>]) -> Decided<Acknowledgement> {
        let (view, mut held, mut roots) = (self.view(), BTreeMap::new(), Vec::new());
        let degree = view.params.degree;
        let items: Vec<MailItem> = mail.iter().filter_map(|bytes| MailItem::decode(bytes, degree).ok()).collect();
        let mut reports = Vec::new();
        for dealer in &view.neighbours {
            let peer = view.peer(*dealer);
            let place = view.order.neighbours(*dealer).iter().position(|leaf| *leaf == view.me).expect("mutual");
            let genuine = items.iter().find(|item| {
                item.dealer == *dealer
                    && item.edge.holder == view.me
                    && item.edge_is_signed(degree, place)
                    && (self.checks.r01)(item.signed.statement(), &view.chain.from_client(peer.client, view.root))
                    && (self.checks.r37)(Side::Client, &item.signed, &peer.identity)
            });
            let Some(item) = genuine else {
                let altered = items.iter().find(|item| item.dealer == *dealer && item.edge.holder == view.me);
                reports.push(altered.map_or(EdgeReport::Missing, |item| (self.checks.r16_mail)(&item.edge)));
                continue;
            };
            roots.push(item.signed.root());
            let points = [item.edge.masking_point, item.edge.self_mask_point];
            let opened = (self.checks.r11_open)(&self.mail_ends(*dealer, view.me), &item.edge.sealed);
            reports.push(match opened.and_then(|plain| pair_of(&plain)) {
                Some(pair) if (self.checks.r13)(&pair, &points) => {
                    held.insert(*dealer, pair);
                    EdgeReport::Good
                }
                _ => EdgeReport::Complaint { edge: item.edge.hash() },
            });
        }
        let complaints = reports.iter().filter(|report| matches!(report, EdgeReport::Complaint { .. })).count() as u32;
        if complaints > view.params.openings_max() {
            return stop(16, "more bad edges than corrupt neighbours");
        }
        let (chain, root, key) = (view.chain, view.root, &self.member.identity);
        let message = Acknowledgement::sign(shares_digest(roots), reports, &chain, root, self.id(), key);
        self.mailbox = held.keys().copied().collect();
        self.held = held;
        Ok(message)
    }

    /// §5.4: opens what it must, or nothing.
    pub fn open(&self, complaints: &[Vec<u8>]) -> Decided<Option<Opening>> {
        let holders = (self.checks.r16)(self, complaints)?;
        let edges: BTreeMap<_, _> = holders.into_iter().map(|holder| (holder, self.share_for(holder))).collect();
        let view = self.view();
        let sign = |edges| Opening::sign(edges, &view.chain, view.root, self.id(), &self.member.identity);
        Ok((!edges.is_empty()).then(|| sign(edges)))
    }

    /// §5.5: masks what it trained under the core shown; `said` is whom the server would have it mask with.
    pub fn mask(&mut self, core: &[u8], said: &[LeafIndex], input: &dyn Fn(u64) -> RingVector) -> Decided<Vec<u8>> {
        let view = self.view().clone();
        let statement = self.statement_of_aggregator(core, labels::CORE, &view.chain.from_aggregator(view.root))?;
        let Ok(core) = CoreSet::from_statement(statement, view.params.n) else { return stop(37, "not canonical") };
        let (members, root) = (self.checks.r17)(self, &core)?;
        if let Some(cost) = veilsum_crypto::client::policy::round_charge_of(&self.header().params) {
            let key = (self.header().task.0, self.header().counter);
            let upload = Charging::Upload { cost: &cost, budget: self.member.policy.budget };
            let mut ledger = self.ledger.clone();
            (self.checks.r26)(&mut ledger, key, &upload)?;
            self.ledger = ledger;
        }
        let peers = (self.checks.r18)(self, &members, said);
        let mut slot = self.upload.take();
        let mut masked_now = None;
        let message = (self.checks.r03)(&mut slot, &mut || {
            let z = input(view.params.share_variance);
            let message = self.masked(&z, root, &peers);
            masked_now = Some(z);
            message
        });
        self.upload = slot;
        self.input = masked_now.or(self.input.take());
        self.core = Some((members, root));
        if self.upload.is_some() {
            (self.checks.r31)(&mut self.secrets); // only once the bytes are written down
        }
        Ok(message)
    }

    /// y = z + mask(self) + pairwise masks with these, signed.
    fn masked(&self, z: &RingVector, core: Digest, peers: &[LeafIndex]) -> Vec<u8> {
        let view = self.view();
        let secrets = self.secrets();
        let context = CoreContext { roster: view.context(), core };
        let mut y = z.clone();
        let mask = |key| (self.checks.r32)(key, z.len(), z.bits());
        let self_mask = SelfMaskSecret::from_scalar(&ShareScalar::from_scalar(secrets.self_mask));
        y.add_assign(&mask(self_mask.into_mask_key(self.id(), &context))).expect("one ring");
        for leaf in peers {
            let peer = view.peer(*leaf);
            let ends =
                PairEnds { secret: secrets.masking, me: self.id(), peer: (peer.client, peer.keys.masking), context };
            let mask = mask((self.checks.r10)(&ends));
            let added = if view.me < *leaf { y.add_assign(&mask) } else { y.sub_assign(&mask) };
            added.expect("one ring");
        }
        MaskedInput::sign(&y, &view.chain, core, self.id(), &self.member.identity).encode()
    }

    /// The aggregator says that there is no sum (§5.8, outcome 2).
    pub fn came_to_nothing(&mut self) {
        let key = (self.header().task.0, self.header().counter);
        let mut ledger = std::mem::take(&mut self.ledger);
        (self.checks.r26)(&mut ledger, key, &Charging::CameToNothing).expect("it asks for nothing");
        self.ledger = ledger;
    }

    /// §5.6: accepts a list, or stops; a member of the agreement set signs it.
    pub fn confirm(&mut self, survivors: &[u8], uploads: &[Vec<u8>]) -> Decided<Option<Vec<u8>>> {
        let view = self.view();
        let (core, core_root) = self.core.clone().expect("it uploaded");
        let place = view.chain.from_aggregator(core_root);
        let statement = self.statement_of_aggregator(survivors, labels::SURVIVORS, &place)?;
        let Ok(list) = Survivors::from_statement(statement, view.params.n) else { return stop(37, "not canonical") };
        (self.checks.r20)(list.members(), &core)?;
        (self.checks.r15)(&view.params, list.members())?;
        (self.checks.r21)(self, list.members())?;
        (self.checks.r22)(self, list.members(), core_root, uploads)?;
        (self.checks.r23)(self.accepted.last().map(|(_, root)| *root), list.root())?;
        let confirmation = Confirmation::sign(&view.chain, list.root(), self.id(), &self.member.identity).encode();
        let confirmation = view.order.agrees(view.me).then_some(confirmation);
        self.accepted.push((list.members().clone(), list.root()));
        Ok(confirmation)
    }

    /// §5.7: answers for the list that it accepted last. One answer a round, as the journal has one slot.
    pub fn unmask(&mut self, confirmations: &[Vec<u8>]) -> Decided<Given> {
        let (list, root) = self.accepted.last().cloned().expect("it accepted a list");
        (self.checks.r24)(self, &list, root, confirmations)?;
        let view = self.view.as_ref().expect("it has examined a roster");
        let (core, _) = self.core.as_ref().expect("it uploaded");
        let mut shares = Vec::new();
        let mut body = Vec::new();
        for owner in view.neighbours.iter().filter(|leaf| core.has(**leaf)) {
            let given = self.held.get(owner).map(|pair| (self.checks.r25)(list.has(*owner), pair)).unwrap_or_default();
            body.push(u8::from(!given.is_empty()));
            body.extend(given.iter().flat_map(|(_, share)| *share.as_bytes()));
            shares.push((*owner, given));
        }
        let place = veilsum_crypto::messages::answer::place(&view.chain, root, self.id());
        let signed = place.statement(labels::ANSWER, body).sign(&self.member.identity);
        let given = Given { holder: view.me, shares, signed };
        self.held.clear();
        Ok(given)
    }
}

/// One answer, as its receiver reads it.
#[derive(Clone)]
pub struct Given {
    /// Whose shares.
    pub holder: LeafIndex,
    /// By owner; nothing where it holds none.
    pub shares: Vec<(LeafIndex, Vec<(Kind, ShareScalar)>)>,
    /// As it was signed.
    pub signed: Signed,
}

/// A pair that means nothing.
pub fn random_pair() -> SharePair {
    SharePair { masking: ShareScalar::from_scalar(scalar()), self_mask: ShareScalar::from_scalar(scalar()) }
}

/// Two scalars, if they are any.
pub fn pair_of(plain: &[u8; 64]) -> Option<SharePair> {
    let half = |at: usize| ShareScalar::from_bytes(plain[at..at + 32].try_into().expect("half of 64 bytes"));
    Some(SharePair { masking: half(0)?, self_mask: half(32)? })
}

/// A point that travels; for keys that R-09 has passed.
pub fn point(bytes: [u8; 32]) -> RistrettoPoint {
    CompressedRistretto(bytes).decompress().expect("a point")
}
