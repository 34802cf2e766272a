//! The decisions of docs/protocol.md, one function a rule: what a gullible client or aggregator asks before it goes on.
//!
//! [`Checks::all`] decides as the protocol says, by the functions of `veilsum_crypto` wherever it exposes them. An attack takes
//! them and exchanges exactly one for a patched copy. Nothing here is part of what is shipped, and nothing that is shipped
//! has such a switch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use curve25519_dalek::{RistrettoPoint, Scalar};
use veilsum_crypto::client::{Moment, Policy};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, TaskId};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::math::shamir::{ShareScalar, is_low_degree_vartime};
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::masked_input::Upload;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{
    Acknowledgement, Bitmap, Certificate, Chain, Confirmation, CoreSet, Edge, EdgeReport, Header, ReadPermit,
    RevocationList,
};
use veilsum_crypto::params::{MILLION, RosterParams, RoundParams};
use veilsum_crypto::primitives::agreement::{
    ChannelPublicKey, ChannelSecretKey, MailEdge, MaskingPublicKey, MaskingSecretKey, Point,
};
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle::{TreeHead, extends};
use veilsum_crypto::primitives::prg::{MaskKey, NoiseSeed};
use veilsum_crypto::primitives::signature::{IdentityPublicKey, Place, Signed, Statement};
use veilsum_crypto::privacy::accountant::RdpCurve;
use veilsum_crypto::privacy::budget::{Budget, ChargeKey, Ledger};
use veilsum_crypto::privacy::skellam::SkellamSampler;
use veilsum_crypto::testing::os_rng;
use veilsum_crypto::update::{ModelUpdate, Privacy, prepare};

use super::gullible::{Client, Secrets};

pub mod decide;

/// Who was asked stops, or refuses, under this rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stop {
    /// Its number.
    pub rule: u8,
    /// In words.
    pub why: String,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R-{:02}: {}", self.rule, self.why)
    }
}

/// What a decision comes to.
pub type Decided<T = ()> = Result<T, Stop>;

/// Stops under a rule.
pub fn stop<T>(rule: u8, why: impl Into<String>) -> Decided<T> {
    Err(Stop { rule, why: why.into() })
}

fn holds(rule: u8, holds: bool, why: &str) -> Decided {
    if holds { Ok(()) } else { stop(rule, why) }
}

/// The public keys of one leaf, as they travel: whether they are any is R-09's to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawKeys {
    /// S.
    pub masking: [u8; 32],
    /// B.
    pub self_mask: [u8; 32],
    /// C.
    pub channel: [u8; 32],
}

/// What the key of a pairwise mask is made from.
pub struct PairEnds {
    /// s of the one who derives.
    pub secret: Scalar,
    /// Who derives.
    pub me: ClientId,
    /// The neighbour, and its S.
    pub peer: (ClientId, [u8; 32]),
    /// Header, roster and core.
    pub context: CoreContext,
}

/// What seals one pair of shares.
pub struct MailEnds {
    /// c of the one who seals or opens.
    pub secret: [u8; 32],
    /// C of the other.
    pub peer: [u8; 32],
    /// Who made the shares.
    pub dealer: (ClientId, [u8; 32]),
    /// Who keeps them.
    pub holder: (ClientId, [u8; 32]),
    /// Header and roster.
    pub context: RosterContext,
}

impl MailEnds {
    /// The associated data, §2.6.
    pub fn aad(&self) -> Vec<u8> {
        Place {
            context: self.context.header,
            previous: self.context.roster,
            sender: self.dealer.0.into(),
            receiver: self.holder.0.into(),
        }
        .statement(labels::SHARE_MAIL, Vec::new())
        .before_body()
    }
}

/// Everything that the core is computed from, §5.3 and §5.4.
pub struct CoreFacts<'a> {
    /// n, k, t.
    pub params: &'a RosterParams,
    /// Neighbours of every leaf.
    pub neighbours: &'a dyn Fn(LeafIndex) -> Vec<LeafIndex>,
    /// Whose share message was admitted.
    pub dealt: &'a Bitmap,
    /// Who reported what, in its neighbour order.
    pub reports: &'a BTreeMap<LeafIndex, Vec<EdgeReport>>,
}

/// Of one secret, which share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Of s.
    Masking,
    /// Of b.
    SelfMask,
}

/// What an upload that arrives is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    /// The client's first: added.
    Fresh,
    /// The same bytes again: answered 204, not added.
    Again,
    /// Other bytes: answered 409.
    Other,
}

/// Something that touches a client's ledger.
pub enum Charging<'a> {
    /// Before the first uploaded byte.
    Upload {
        /// The worst case of this round.
        cost: &'a RdpCurve,
        /// What the device's data may cost in all.
        budget: Budget,
    },
    /// The aggregator says that the round came to nothing.
    CameToNothing,
}

/// One secret that the aggregator rebuilds.
pub struct Rebuilding<'a> {
    /// Shares that answers gave, by holder.
    pub shares: &'a BTreeMap<LeafIndex, ShareScalar>,
    /// What the dealer signed of each share.
    pub points: &'a BTreeMap<LeafIndex, Point>,
    /// B or S.
    pub key: Point,
    /// t.
    pub threshold: usize,
    /// Where holders' shares were evaluated.
    pub at: fn(LeafIndex) -> Scalar,
}

/// What became of it.
#[derive(Default)]
pub struct Rebuilt {
    /// The secret, if it was found.
    pub secret: Option<Scalar>,
    /// Whose signed answer was wrong.
    pub liars: BTreeSet<LeafIndex>,
}

/// Which side verifies a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// A client.
    Client,
    /// The aggregator.
    Aggregator,
}

/// A read that the service is asked to answer.
pub struct Read<'a> {
    /// The signed statement that came with it.
    pub permit: Option<&'a [u8]>,
    /// The request target.
    pub path: &'a str,
    /// The round.
    pub chain: &'a Chain,
    /// Who may: roster members and their keys.
    pub readers: &'a BTreeMap<ClientId, IdentityPublicKey>,
}

macro_rules! checks {
    ($($(#[$doc:meta])* $rule:ident: $decision:ty,)*) => {
        /// One decision a rule. §5 says where each is asked.
        #[derive(Clone, Copy)]
        pub struct Checks { $($(#[$doc])* pub $rule: $decision,)* }

        impl Checks {
            /// As the protocol says.
            ///
            /// Their addresses are taken here and nowhere else: the compiler may copy a function into whatever crate names it, and
            /// then one decision would have two.
            #[inline(never)]
            pub fn all() -> Self {
                Self { $($rule: decide::$rule,)* }
            }

            /// The decisions that are not the same function in both.
            pub fn changed(&self, other: &Self) -> Vec<&'static str> {
                let mut changed = Vec::new();
                $(if !std::ptr::fn_addr_eq(self.$rule, other.$rule) {
                    changed.push(stringify!($rule));
                })*
                changed
            }
        }
    };
}

checks! {
    /// Whether a statement stands where it is expected.
    r01: fn(&Statement, &Place) -> bool,
    /// Whether a header is one to answer, after this last counter.
    r02: fn(&Policy, &Header, TaskId, u64) -> Decided,
    /// The bytes to send again: what stands in the journal, made afresh only if nothing does.
    r03: fn(&mut Option<Vec<u8>>, &mut dyn FnMut() -> Vec<u8>) -> Vec<u8>,
    /// (k, t, h), given those that the roster states.
    r04: fn(&RoundParams, RosterParams) -> Decided<RosterParams>,
    /// Whether a roster lists nobody twice, given the identity keys of the leaves that were opened.
    r05: fn(&[ClientId], &[IdentityPublicKey]) -> Decided,
    /// Whether a certificate holds.
    r06: fn(&Certificate, &Header, &RevocationList) -> Decided,
    /// Whether a roster of n covers the group of both certificates.
    r07: fn(&Policy, u32, [&CertificateBody; 2]) -> Decided,
    /// Whether the roster came in time: advert, roster.
    r08: fn(&Policy, [Moment; 2]) -> Decided,
    /// Whether these keys are canonical, of large order, and pairwise different.
    r09: fn(&[RawKeys]) -> Decided,
    /// The key of a pairwise mask.
    r10: fn(&PairEnds) -> MaskKey,
    /// A pair of shares, sealed; `None` where the agreed secret is none (§2.2).
    r11_seal: fn(&MailEnds, &[u8; 64]) -> Option<[u8; 80]>,
    /// The same, opened; `None` where it does not open.
    r11_open: fn(&MailEnds, &[u8; 80]) -> Option<[u8; 64]>,
    /// Where a holder's share is evaluated.
    r12: fn(LeafIndex) -> Scalar,
    /// Whether a pair of shares matches the points that its dealer signed.
    r13: fn(&SharePair, &[Point; 2]) -> bool,
    /// The variance of one client's noise.
    r14: fn(&RoundParams, u32) -> u64,
    /// Whether the survivors are enough.
    r15: fn(&RosterParams, &Bitmap) -> Decided,
    /// What a holder reports of mail that its dealer did not sign as it came.
    r16_mail: fn(&Edge) -> EdgeReport,
    /// Which edges a dealer opens, given the complaints it is shown.
    r16: fn(&Client, &[Vec<u8>]) -> Decided<BTreeSet<LeafIndex>>,
    /// Whom a client masks with at most, and the root that stands for them, given the core it is shown.
    r17: fn(&Client, &CoreSet) -> Decided<(Bitmap, Digest)>,
    /// The core.
    r17_core: fn(&CoreFacts<'_>) -> Bitmap,
    /// Whom a client masks with, given its core and what the server says.
    r18: fn(&Client, &Bitmap, &[LeafIndex]) -> Vec<LeafIndex>,
    /// What an upload is, after those that came before.
    r19: fn(&mut BTreeMap<ClientId, Digest>, ClientId, Digest) -> Counted,
    /// Whether the survivors are within the core.
    r20: fn(&Bitmap, &Bitmap) -> Decided,
    /// Whether a client is listed, with enough of its neighbours.
    r21: fn(&Client, &Bitmap) -> Decided,
    /// Whether every neighbour listed has signed its upload under this core root.
    r22: fn(&Client, &Bitmap, Digest, &[Vec<u8>]) -> Decided,
    /// Whether a client accepts a survivor root, after the one it accepted.
    r23: fn(Option<Digest>, Digest) -> Decided,
    /// Whether the agreement set has signed this root.
    r24: fn(&Client, &Bitmap, Digest, &[Vec<u8>]) -> Decided,
    /// Which shares of a neighbour a client gives out, given whether it is listed.
    r25: fn(bool, &SharePair) -> Vec<(Kind, ShareScalar)>,
    /// What is charged, and refunded.
    r26: fn(&mut Ledger, ChargeKey, &Charging<'_>) -> Decided,
    /// Whether an answer counts as this client's.
    r28: fn(&Signed, &IdentityPublicKey) -> bool,
    /// A secret from shares.
    r29: fn(&Rebuilding<'_>) -> Rebuilt,
    /// The statement to sign, given what was fixed before and what would be fixed now.
    r30: fn(&mut Option<Statement>, Statement) -> Statement,
    /// What is left of a client's secrets once its masked bytes are written down.
    r31: fn(&mut Option<Secrets>),
    /// A mask.
    r32: fn(MaskKey, usize, RingBits) -> RingVector,
    /// Whether a log only grew.
    r33: fn(Option<TreeHead>, TreeHead, &[Digest]) -> Decided,
    /// A weighted update in the ring: values, weight.
    r34: fn(Vec<f32>, f32, &RoundParams) -> Decided<RingVector>,
    /// Whether a read is answered.
    r35: fn(&Read<'_>) -> bool,
    /// Whether a signature holds.
    r37: fn(Side, &Signed, &IdentityPublicKey) -> bool,
    /// Whether a dealer's points lie on one polynomial.
    r38: fn([&RistrettoPoint; 2], &[(LeafIndex, [&RistrettoPoint; 2])], &[Scalar]) -> bool,
}

/// Lagrange at zero over these shares.
pub fn interpolate(shares: &[(LeafIndex, Scalar)], at: fn(LeafIndex) -> Scalar) -> Scalar {
    interpolate_at(Scalar::ZERO, shares, at)
}

/// Lagrange at x.
pub fn interpolate_at(x: Scalar, shares: &[(LeafIndex, Scalar)], at: fn(LeafIndex) -> Scalar) -> Scalar {
    let weight = |of: LeafIndex| -> Scalar {
        let others = shares.iter().map(|(leaf, _)| *leaf).filter(|leaf| *leaf != of);
        let (above, below) = others.fold((Scalar::ONE, Scalar::ONE), |(above, below), other| {
            (above * (x - at(other)), below * (at(of) - at(other)))
        });
        above * below.invert()
    };
    shares.iter().map(|(leaf, share)| weight(*leaf) * share).sum()
}
