//! A liar: a certified member of the roster that knows its own secrets, and builds any message from them.
//!
//! It judges nothing and keeps to nothing: what to send, and when, is for its caller. Messages are made from what everybody
//! sees of a round ([`Stage`]), so that puppets move in memory and over HTTP alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use curve25519_dalek::Scalar;
use veilsum_crypto::client::Membership;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::math::shamir::{Polynomial, ShareScalar};
use veilsum_crypto::messages::acknowledgement::shares_digest;
use veilsum_crypto::messages::key_advertisement::RoundKeys;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{
    self, Acknowledgement, Answer, AnswerShare, Bitmap, Certificate, Chain, Confirmation, Edge, EdgeReport, Header,
    KeyAdvertisement, MailItem, MaskedInput, SealedShares,
};
use veilsum_crypto::primitives::agreement::{ChannelSecretKey, MailEdge, MaskingSecretKey, Point, SelfMaskSecret};
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::seal::{MailKey, SEALED_SHARES_BYTES};
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Place};
use veilsum_crypto::server::Assembly;

use crate::dice::Dice;

/// What everybody sees of a round whose roster is fixed.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    /// The header.
    pub header: &'a Header,
    /// Roster, ring and keys.
    pub assembly: &'a Assembly,
}

impl Stage<'_> {
    /// Where statements stand.
    pub fn chain(&self) -> Chain {
        self.header.chain()
    }

    /// A client's leaf.
    pub fn leaf(&self, client: ClientId) -> LeafIndex {
        self.assembly.roster().leaf_of(client).expect("on the roster")
    }

    /// A leaf's client.
    pub fn client(&self, leaf: LeafIndex) -> ClientId {
        self.assembly.roster().client(leaf)
    }

    /// A client's neighbours, in its order.
    pub fn neighbours(&self, client: ClientId) -> Vec<ClientId> {
        let neighbours = self.assembly.order().neighbours(self.leaf(client));
        neighbours.into_iter().map(|leaf| self.client(leaf)).collect()
    }

    /// Everybody.
    pub fn everybody(&self) -> Vec<ClientId> {
        self.assembly.roster().members().iter().map(|(client, _)| *client).collect()
    }

    fn context(&self) -> RosterContext {
        RosterContext { header: self.chain().context, roster: self.assembly.root() }
    }
}

/// How a sealed share is spoilt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoil {
    /// The ciphertext does not open.
    Garbled,
    /// It opens to bytes that are no scalars.
    Unreduced,
    /// The share of s is another.
    OtherMasking,
    /// The share of b is another.
    OtherSelfMask,
    /// Both are those of another holder.
    OfAnotherHolder,
    /// It is sealed as if it were for another holder.
    ForAnotherHolder,
}

impl Spoil {
    /// All of them.
    pub const ALL: [Spoil; 6] = [
        Spoil::Garbled,
        Spoil::Unreduced,
        Spoil::OtherMasking,
        Spoil::OtherSelfMask,
        Spoil::OfAnotherHolder,
        Spoil::ForAnotherHolder,
    ];
}

/// A liar and its secrets.
pub struct Puppet {
    /// Who it is.
    pub member: Arc<Membership>,
    /// Its keys of the round, as advertised.
    pub keys: RoundKeys,
    masking: MaskingSecretKey,
    self_mask: SelfMaskSecret,
    channel: ChannelSecretKey,
    polynomials: Option<[Polynomial; 2]>,
    /// Shares of others that it holds, by dealer, where its mail opened and matched.
    pub held: BTreeMap<ClientId, SharePair>,
}

impl Puppet {
    /// With fresh keys.
    pub fn new(member: Arc<Membership>, dice: &mut Dice) -> Self {
        let masking = MaskingSecretKey::generate(dice);
        let self_mask = SelfMaskSecret::generate(dice);
        let channel = ChannelSecretKey::generate(dice);
        let keys = RoundKeys {
            masking: masking.public(),
            self_mask: self_mask.public(),
            channel: channel.public(),
            nonce: dice.bytes(),
        };
        Self { member, keys, masking, self_mask, channel, polynomials: None, held: BTreeMap::new() }
    }

    /// Its id.
    pub fn client(&self) -> ClientId {
        self.member.client()
    }

    /// What it signs with.
    pub fn identity(&self) -> &IdentitySecretKey {
        &self.member.identity
    }

    /// A leaf with these keys under this certificate.
    pub fn advert(&self, header: &Header, certificate: &Certificate, keys: RoundKeys) -> Vec<u8> {
        KeyAdvertisement::sign(certificate.clone(), keys, header, self.identity()).encode()
    }

    /// Draws the polynomials that it deals from.
    pub fn shuffle(&mut self, stage: &Stage<'_>, dice: &mut Dice) {
        let threshold = stage.assembly.params().threshold;
        let mut hide = |secret: ShareScalar| Polynomial::hide(secret, threshold, dice);
        self.polynomials = Some([hide(self.masking.to_scalar()), hide(self.self_mask.to_scalar())]);
    }

    /// The shares that an honest dealer would give this holder.
    pub fn pair(&self, holder: LeafIndex) -> SharePair {
        let [masking, self_mask] = self.polynomials.as_ref().expect("it has shuffled");
        SharePair { masking: masking.share_for(holder), self_mask: self_mask.share_for(holder) }
    }

    /// Its edges, with the shares of some holders spoilt; points stay on the polynomial.
    pub fn edges(&self, stage: &Stage<'_>, spoilt: &BTreeMap<ClientId, Spoil>, dice: &mut Dice) -> Vec<Edge> {
        let neighbours = stage.neighbours(self.client());
        let edge = |(at, holder): (usize, &ClientId)| {
            let leaf = stage.leaf(*holder);
            let pair = self.pair(leaf);
            let other = neighbours[(at + 1) % neighbours.len()];
            let spoil = spoilt.get(holder).copied();
            let random = |dice: &mut Dice| ShareScalar::from_scalar(Scalar::random(dice));
            let inside = match spoil {
                Some(Spoil::OtherMasking) => SharePair { masking: random(dice), ..pair.clone() },
                Some(Spoil::OtherSelfMask) => SharePair { self_mask: random(dice), ..pair.clone() },
                Some(Spoil::OfAnotherHolder) => self.pair(stage.leaf(other)),
                _ => pair.clone(),
            };
            let mut plaintext = [0; 64];
            plaintext[..32].copy_from_slice(inside.masking.as_bytes());
            plaintext[32..].copy_from_slice(inside.self_mask.as_bytes());
            if spoil == Some(Spoil::Unreduced) {
                plaintext[32..].fill(0xff);
            }
            let to = if spoil == Some(Spoil::ForAnotherHolder) { other } else { *holder };
            let mut sealed = self.seal(stage, to, &plaintext);
            if spoil == Some(Spoil::Garbled) {
                sealed[dice.index(SEALED_SHARES_BYTES)] ^= 1 << dice.index(8);
            }
            Edge {
                holder: leaf,
                sealed,
                masking_point: Point::of(&pair.masking),
                self_mask_point: Point::of(&pair.self_mask),
            }
        };
        let mut edges = Vec::with_capacity(neighbours.len());
        let mut edge = edge;
        for each in neighbours.iter().enumerate() {
            edges.push(edge(each));
        }
        edges
    }

    /// Signs edges.
    pub fn shares(&self, stage: &Stage<'_>, edges: Vec<Edge>) -> Vec<u8> {
        SealedShares::sign(edges, &stage.chain(), stage.assembly.root(), self.client(), self.identity()).encode()
    }

    fn seal(&self, stage: &Stage<'_>, holder: ClientId, plaintext: &[u8; 64]) -> [u8; SEALED_SHARES_BYTES] {
        let theirs = stage.assembly.member(stage.leaf(holder));
        let ends =
            MailEdge { dealer: self.client(), holder, dealer_key: self.keys.channel, holder_key: theirs.channel };
        let key = self.channel.mail_key(&theirs.channel, ends, &stage.context());
        key.seal(plaintext, &associated(stage, self.client(), holder))
    }

    /// Opens its mail; keeps what matches. Also the roots of the share statements, by dealer.
    pub fn read_mail(&mut self, stage: &Stage<'_>, mail: &[Vec<u8>]) -> BTreeMap<ClientId, Digest> {
        let mut roots = BTreeMap::new();
        for item in mail {
            let Ok(item) = MailItem::decode(item, stage.assembly.params().degree) else { continue };
            let dealer = stage.client(item.dealer);
            roots.insert(dealer, item.signed.root());
            let theirs = stage.assembly.member(item.dealer);
            let ends =
                MailEdge { dealer, holder: self.client(), dealer_key: theirs.channel, holder_key: self.keys.channel };
            let key: MailKey = self.channel.mail_key(&theirs.channel, ends, &stage.context());
            let Some(plain) = key.open(&item.edge.sealed, &associated(stage, dealer, self.client())) else { continue };
            let scalar = |from: usize| ShareScalar::from_bytes(plain[from..from + 32].try_into().expect("32 of 64"));
            let (Some(masking), Some(self_mask)) = (scalar(0), scalar(32)) else { continue };
            if Point::of(&masking) == item.edge.masking_point && Point::of(&self_mask) == item.edge.self_mask_point {
                self.held.insert(dealer, SharePair { masking, self_mask });
            }
        }
        roots
    }

    /// Reports in its own order, over the share statements whose roots are given.
    pub fn acknowledgement(&self, stage: &Stage<'_>, reports: Vec<EdgeReport>, roots: &[Digest]) -> Vec<u8> {
        let digest = shares_digest(roots.iter().copied());
        let root = stage.assembly.root();
        Acknowledgement::sign(digest, reports, &stage.chain(), root, self.client(), self.identity()).encode()
    }

    /// Opens edges with these shares.
    pub fn opening(&self, stage: &Stage<'_>, edges: BTreeMap<LeafIndex, SharePair>) -> Vec<u8> {
        let root = stage.assembly.root();
        messages::Opening::sign(edges, &stage.chain(), root, self.client(), self.identity()).encode()
    }

    /// Masks these values as an honest client would.
    pub fn masked(&self, stage: &Stage<'_>, core: (Digest, &Bitmap), values: &[i64]) -> RingVector {
        let (root, members) = core;
        let context = CoreContext { roster: stage.context(), core: root };
        let (me, leaf) = (self.client(), stage.leaf(self.client()));
        let mut vector = RingVector::from_signed(values, stage.header.params.ring_bits);
        vector.add_mask(SelfMaskSecret::from_scalar(&self.self_mask.to_scalar()).into_mask_key(me, &context));
        for neighbour in stage.neighbours(me).into_iter().map(|client| stage.leaf(client)) {
            if !members.has(neighbour) {
                continue;
            }
            let peer = stage.assembly.member(neighbour);
            let key = self.masking.pair_mask_key(me, (peer.client, &peer.masking), &context);
            if leaf < neighbour { vector.add_mask(key) } else { vector.sub_mask(key) }
        }
        vector
    }

    /// Signs a vector.
    pub fn upload(&self, stage: &Stage<'_>, core: Digest, vector: &RingVector) -> Vec<u8> {
        MaskedInput::sign(vector, &stage.chain(), core, self.client(), self.identity()).encode()
    }

    /// Confirms a list.
    pub fn confirmation(&self, chain: &Chain, survivors: Digest) -> Vec<u8> {
        Confirmation::sign(chain, survivors, self.client(), self.identity()).encode()
    }

    /// Gives out shares.
    pub fn answer(&self, chain: &Chain, survivors: Digest, shares: Vec<AnswerShare>) -> Vec<u8> {
        Answer::sign(shares, chain, survivors, self.client(), self.identity()).encode()
    }
}

/// Associated data of share mail.
fn associated(stage: &Stage<'_>, dealer: ClientId, holder: ClientId) -> Vec<u8> {
    let place = Place {
        context: stage.chain().context,
        previous: stage.assembly.root(),
        sender: dealer.into(),
        receiver: holder.into(),
    };
    place.statement(labels::SHARE_MAIL, Vec::new()).before_body()
}
