//! Round keys: what two clients can derive together, and what only one can. §2.2, §4.4
//!
//! | key | group | for |
//! |---|---|---|
//! | masking `s_u`, `S_u` | Ristretto | pairwise masks; shared, rebuilt for who drops |
//! | self mask `b_u`, `B_u` | Ristretto | the own mask; shared, rebuilt for who survives |
//! | channel `c_u`, `C_u` | X25519 | sealing shares to their holder |
//!
//! Each is a type of its own, so that the compiler refuses to swap them.

use alloc::boxed::Box;
use core::fmt;

use curve25519_dalek::{RistrettoPoint, Scalar, ristretto::CompressedRistretto, traits::IsIdentity};
use rand_core::CryptoRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::codec::DecodeError;
use super::context::{CoreContext, RosterContext};
use super::labels;
use super::prg::MaskKey;
use super::seal::MailKey;
use crate::ids::ClientId;
use crate::math::shamir::ShareScalar;

/// A Ristretto point in its one encoding, never the identity. R-09
#[derive(Clone, Copy)]
pub struct Point {
    bytes: [u8; 32],
    point: RistrettoPoint,
}

impl Point {
    /// Decodes; refuses what is not canonical, and the identity.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, DecodeError> {
        match CompressedRistretto(bytes).decompress() {
            Some(point) if !point.is_identity() => Ok(Self { bytes, point }),
            _ => Err(DecodeError::NotCanonical {
                field: "point",
                expected: "a canonical Ristretto point other than the identity",
            }),
        }
    }

    /// `scalar * G`.
    pub fn of(scalar: &ShareScalar) -> Self {
        let point = RistrettoPoint::mul_base(scalar.scalar());
        Self { bytes: point.compress().to_bytes(), point }
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The point.
    pub fn point(&self) -> &RistrettoPoint {
        &self.point
    }
}

impl PartialEq for Point {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
impl Eq for Point {}
impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Point({})", crate::ids::Digest(self.bytes))
    }
}

macro_rules! scalar_key {
    ($(#[$secret_doc:meta])* $secret:ident, $(#[$public_doc:meta])* $public:ident) => {
        $(#[$secret_doc])*
        ///
        /// It stays at one place of the heap: moving it leaves no copy behind.
        pub struct $secret(Box<Zeroizing<Scalar>>);

        impl ZeroizeOnDrop for $secret {}

        impl $secret {
            /// A fresh key: uniform, and zero only with probability 2^-252.
            pub fn generate(rng: &mut impl CryptoRng) -> Self {
                Self(Box::new(Zeroizing::new(Scalar::random(rng))))
            }

            /// Takes up a key rebuilt from shares.
            pub fn from_scalar(scalar: &ShareScalar) -> Self {
                Self(Box::new(Zeroizing::new(*scalar.scalar())))
            }

            /// The secret as what Shamir shares are made of.
            pub fn to_scalar(&self) -> ShareScalar {
                ShareScalar::from_scalar(**self.0)
            }

            /// The public half.
            pub fn public(&self) -> $public {
                $public(Point::of(&self.to_scalar()))
            }
        }

        impl fmt::Debug for $secret {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($secret), "(..)"))
            }
        }

        $(#[$public_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $public(pub Point);
    };
}

scalar_key!(
    /// `s_u`: agrees on pairwise masks. Wiped when dropped.
    MaskingSecretKey,
    /// `S_u = s_u * G`.
    MaskingPublicKey
);
scalar_key!(
    /// `b_u`: the client's own mask. Wiped when dropped.
    SelfMaskSecret,
    /// `B_u = b_u * G`: what a rebuilt secret is checked against.
    SelfMaskPublicKey
);

impl MaskingSecretKey {
    /// The key of the mask that `me` and `peer` share: the same for both, for this core only. §5.5, R-10
    pub fn pair_mask_key(&self, me: ClientId, peer: (ClientId, &MaskingPublicKey), context: &CoreContext) -> MaskKey {
        let (peer_id, peer_key) = peer;
        let shared = Zeroizing::new((peer_key.0.point * **self.0).compress().to_bytes());
        let mine = *self.public().0.as_bytes();
        let theirs = *peer_key.0.as_bytes();
        let (lower, higher) =
            if me < peer_id { ((me, mine), (peer_id, theirs)) } else { ((peer_id, theirs), (me, mine)) };
        let key = context.roster.derive::<16>(
            &shared,
            labels::PAIR_MASK,
            &[&context.core.0, &lower.0.0, &higher.0.0, &lower.1, &higher.1, &context.roster.header.0],
        );
        MaskKey::from_bytes(*key)
    }
}

impl SelfMaskSecret {
    /// Consumes the secret: one that masked two inputs would reveal their difference. §5.5
    pub fn into_mask_key(self, me: ClientId, context: &CoreContext) -> MaskKey {
        let key = context.roster.derive::<16>(
            self.0.as_bytes(),
            labels::SELF_MASK,
            &[&context.core.0, &me.0, &context.roster.header.0],
        );
        MaskKey::from_bytes(*key)
    }
}

/// `c_u`: opens shares sealed to this client. Wiped when dropped; it stays at one place of the heap.
pub struct ChannelSecretKey(Box<StaticSecret>);

impl ChannelSecretKey {
    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(Box::new(StaticSecret::random_from_rng(rng)))
    }

    /// From saved state.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Box::new(StaticSecret::from(bytes)))
    }

    /// For saved state.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> ChannelPublicKey {
        ChannelPublicKey(PublicKey::from(&*self.0).to_bytes())
    }

    /// The key that seals one pair of shares from `dealer` to `holder`; one of the two is ours. §2.6, R-11
    pub fn mail_key(&self, peer: &ChannelPublicKey, edge: MailEdge, context: &RosterContext) -> MailKey {
        let shared = self.0.diffie_hellman(&PublicKey::from(peer.0));
        let MailEdge { dealer, holder, dealer_key, holder_key } = edge;
        let key = context.derive::<32>(
            shared.as_bytes(),
            labels::SHARE_MAIL,
            &[&dealer.0, &holder.0, &dealer_key.0, &holder_key.0],
        );
        MailKey::new(key)
    }
}

impl fmt::Debug for ChannelSecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelSecretKey(..)")
    }
}

/// Both ends of one piece of mail.
#[derive(Clone, Copy)]
pub struct MailEdge {
    /// Who made the shares.
    pub dealer: ClientId,
    /// Who keeps them.
    pub holder: ClientId,
    /// The dealer's channel key.
    pub dealer_key: ChannelPublicKey,
    /// The holder's channel key.
    pub holder_key: ChannelPublicKey,
}

/// `C_u`: an X25519 key in its one encoding, not of small order. R-09
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelPublicKey([u8; 32]);

impl ChannelPublicKey {
    /// Refuses a set high bit, values not below 2^255 - 19, and points of small order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, DecodeError> {
        let reduced = !(bytes[31] & 0x80 != 0
            || (bytes[31] == 0x7f && bytes[1..31].iter().all(|byte| *byte == 0xff) && bytes[0] >= 0xed));
        // A multiple of the cofactor sends points of small order, and only those, to zero. RFC 7748 §6.1
        let contributes = x25519_dalek::x25519([0x40; 32], bytes) != [0; 32];
        if reduced && contributes {
            Ok(Self(bytes))
        } else {
            Err(DecodeError::NotCanonical {
                field: "channel key",
                expected: "a reduced X25519 key that is not of small order",
            })
        }
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Digest;

    fn bytes(hex: &str) -> [u8; 32] {
        Digest::from_hex(hex).expect("64 digits").0
    }

    /// RFC 7748 §5.2, first vector.
    #[test]
    fn x25519_is_that_of_rfc_7748() {
        let scalar = bytes("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
        let u = bytes("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
        assert_eq!(
            x25519_dalek::x25519(scalar, u),
            bytes("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
        );
    }

    /// RFC 9496 §A.1: multiples of the generator, and the identity refused. R-09
    #[test]
    fn ristretto_is_that_of_rfc_9496_and_the_identity_is_no_key() {
        let one = ShareScalar::from_scalar(Scalar::ONE);
        assert_eq!(
            Point::of(&one).as_bytes(),
            &bytes("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76")
        );
        let two = ShareScalar::from_scalar(Scalar::from(2u8));
        assert_eq!(
            Point::of(&two).as_bytes(),
            &bytes("6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919")
        );
        assert!(Point::from_bytes([0; 32]).is_err());
        // RFC 9496 §A.2: a non-canonical field element and a negative one
        assert!(Point::from_bytes(bytes("00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff")).is_err());
        assert!(Point::from_bytes(bytes("0100000000000000000000000000000000000000000000000000000000000000")).is_err());
    }

    /// the twelve values of small order or not reduced that circulate for X25519.
    #[test]
    fn degenerate_channel_keys_are_refused() {
        for key in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0900000000000000000000000000000000000000000000000000000000000080",
            "f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            assert!(ChannelPublicKey::from_bytes(bytes(key)).is_err(), "{key}");
        }
        let mut nine = [0; 32];
        nine[0] = 9;
        assert!(ChannelPublicKey::from_bytes(nine).is_ok());
    }

    fn context(core: u8) -> CoreContext {
        CoreContext {
            roster: RosterContext { header: Digest([1; 32]), roster: Digest([2; 32]) },
            core: Digest([core; 32]),
        }
    }

    /// both ends derive one key; a client with another view derives another.
    #[test]
    fn two_clients_agree_on_a_mask_only_under_one_core() {
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        let (a, b) = (MaskingSecretKey::generate(&mut rng), MaskingSecretKey::generate(&mut rng));
        let (alice, bob) = (ClientId([1; 16]), ClientId([2; 16]));
        let mut from_alice =
            crate::math::ring::RingVector::zeros(8, crate::math::ring::RingBits::new(32).expect("in range"));
        let mut from_bob = from_alice.clone();
        from_alice.add_mask(a.pair_mask_key(alice, (bob, &b.public()), &context(3)));
        from_bob.add_mask(b.pair_mask_key(bob, (alice, &a.public()), &context(3)));
        assert_eq!(from_alice, from_bob);
        let mut elsewhere =
            crate::math::ring::RingVector::zeros(8, crate::math::ring::RingBits::new(32).expect("in range"));
        elsewhere.add_mask(b.pair_mask_key(bob, (alice, &a.public()), &context(4)));
        assert_ne!(from_alice, elsewhere);
    }
}
