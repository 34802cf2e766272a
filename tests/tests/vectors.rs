//! The known answers of docs/wire.md §12 against this implementation.
//!
//! Where a key cannot be looked at from outside (mask keys, mail keys), the derivation is written down here a second
//! time, after the document: it must give the document's number, and the implementation must use what it gives.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key};
use curve25519_dalek::Scalar;
use sha2::{Digest as _, Sha256, Sha512};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, Party};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::{Chain, Edge, SealedShares};
use veilsum_crypto::params::{RingOrder, RosterParams};
use veilsum_crypto::primitives::agreement::{ChannelSecretKey, MailEdge, MaskingSecretKey, Point, SelfMaskSecret};
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle;
use veilsum_crypto::primitives::prg::MaskKey;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Place};
use veilsum_crypto::testing::os_rng;

/// Roster root R, core root K, context X of the document.
fn context() -> CoreContext {
    CoreContext { roster: RosterContext { header: Digest([0xcc; 32]), roster: r() }, core: Digest([0xc0; 32]) }
}

fn r() -> Digest {
    Digest(std::array::from_fn(|at| at as u8))
}

const ONE: ClientId = ClientId([1; 16]);
const TWO: ClientId = ClientId([2; 16]);

fn lab(label: &str) -> Vec<u8> {
    [&[label.len() as u8], label.as_bytes()].concat()
}

/// HMAC-SHA-256, RFC 2104, for keys of at most a block.
fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::digest([&block.map(|byte| byte ^ 0x36)[..], data].concat());
    Sha256::digest([&block.map(|byte| byte ^ 0x5c)[..], &inner[..]].concat()).into()
}

/// HKDF-SHA-256, RFC 5869, of at most one block of output.
fn hkdf<const N: usize>(ikm: &[u8], salt: &[u8], info: &[u8]) -> [u8; N] {
    let block = hmac(&hmac(salt, ikm), &[info, &[1]].concat());
    std::array::from_fn(|at| block[at])
}

/// The elements of a mask, read from the vector that holds nothing else.
fn mask(key: MaskKey, bits: u8, len: usize) -> Vec<u64> {
    let mut vector = RingVector::zeros(len, RingBits::new(bits).expect("in range"));
    vector.add_mask(key);
    let whole = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    vector.to_signed().into_iter().map(|value| value as u64 & whole).collect()
}

fn eight(degree: u32) -> RingOrder {
    let params = RosterParams {
        n: 8,
        corrupt: 1,
        tolerated: 1,
        degree,
        threshold: 3,
        honest: 6,
        survivors_min: 7,
        share_variance: 0,
    };
    RingOrder::new(&r(), &params)
}

fn leaves(leaves: &[LeafIndex]) -> Vec<u32> {
    leaves.iter().map(|leaf| leaf.0).collect()
}

/// C-31: the ring, neighbours and agreement set follow from the roster root alone.
#[test]
fn the_ring_order_and_its_neighbours_are_those_of_the_document() {
    let first = Sha256::digest([lab("veilsum/1/ring"), r().0.to_vec(), 0_u32.to_le_bytes().to_vec()].concat());
    assert_eq!(hex::encode(first), "0a60b5c07340dc70a1d139375a406dadce1ef4f82af020e31b8e226bf06c373a");
    let sparse = eight(4);
    assert_eq!(leaves(&sparse.neighbours(LeafIndex(0))), [7, 3, 4, 1]);
    assert_eq!(leaves(sparse.agreement_set()), [0, 4, 1, 6], "ring positions 0 to k - 1");
    let complete = eight(7);
    assert_eq!(leaves(&complete.neighbours(LeafIndex(4))), [0, 1, 6, 2, 5, 7, 3]);
    assert_eq!(leaves(complete.agreement_set()), [0, 4, 1, 6, 2, 5, 7], "everybody but the last position");
}

/// C-31. The document's number has R in place of the share root, which no signed message has: the formula is checked
/// against the document here, and the implementation against the formula on a message.
#[test]
fn the_coefficients_of_the_low_degree_test_are_those_of_the_document() {
    let e = |root: &[u8; 32], m: u32| {
        let hash = Sha512::digest([lab("veilsum/1/low-degree"), root.to_vec(), m.to_le_bytes().to_vec()].concat());
        Scalar::from_bytes_mod_order_wide(&hash.into())
    };
    let known = "6884261774131976801542909879120181028499023501652417842954206175270048254051";
    assert_eq!(decimal(e(&r().0, 0).as_bytes()), known);

    let share = |number: u64| Point::of(&ShareScalar::from_scalar(Scalar::from(number)));
    let edge = |holder| Edge {
        holder: LeafIndex(holder),
        sealed: [9; 80],
        masking_point: share(3),
        self_mask_point: share(4),
    };
    let chain = Chain { context: Digest([0xcc; 32]), aggregator: Party([0xa9; 16]) };
    let key = IdentitySecretKey::from_bytes(&[7; 32]);
    let message = SealedShares::sign((1..6).map(edge).collect(), &chain, r(), ONE, &key);
    let coefficients = message.low_degree_coefficients(3); // k = 5, t = 3: f_0, f_1, f_2 and the factor
    let expected: Vec<Scalar> = (0..4).map(|m| e(&message.signed().root().0, m)).collect();
    assert_eq!(coefficients, expected);
}

/// 32 little-endian bytes in decimal.
fn decimal(bytes: &[u8; 32]) -> String {
    let (mut left, mut digits) = (bytes.to_vec(), Vec::new());
    while left.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u32;
        for byte in left.iter_mut().rev() {
            let value = rest * 256 + u32::from(*byte);
            (*byte, rest) = ((value / 10) as u8, value % 10);
        }
        digits.push(char::from_digit(rest, 10).expect("below ten"));
    }
    digits.iter().rev().collect()
}

/// C-31: key, keystream and masks of the self mask.
#[test]
fn the_self_mask_is_that_of_the_document() {
    let known: [u8; 16] = hex::decode("78572ac3bd4d067dae82c02145d41f3d").expect("hex").try_into().expect("16 bytes");
    let mut b = [0; 32];
    b[0] = 7;
    let info = [lab("self"), vec![0xc0; 32], vec![1; 16], vec![0xcc; 32]].concat();
    assert_eq!(info.len(), 85);
    assert_eq!(hkdf::<16>(&b, &r().0, &info), known);

    let derived =
        || SelfMaskSecret::from_scalar(&ShareScalar::from_bytes(&b).expect("7")).into_mask_key(ONE, &context());
    let sixteen = [4273, 38950, 13983, 48525, 55055, 35137];
    let twenty = [397489, 653698, 888118, 880891, 756033, 644047];
    assert_eq!(mask(derived(), 16, 6), sixteen);
    assert_eq!(mask(derived(), 20, 6), twenty);
    assert_eq!(mask(MaskKey::from_bytes(known), 20, 6), twenty);
    let keystream: Vec<u8> = mask(derived(), 64, 4).into_iter().flat_map(u64::to_le_bytes).collect();
    assert_eq!(hex::encode(keystream), "b11026989f368dbd0fd74189fb3c9d56e3a5afa8caca2c7a00a6d519d388cdb7");
}

/// C-31. The document's number has strings that are no points in place of keys: the layout is checked against the
/// document, the implementation against the layout, from both ends of a pair.
#[test]
fn pair_keys_are_derived_as_in_the_document() {
    let key = |ikm: &[u8; 32], lower: &[u8; 32], higher: &[u8; 32]| {
        let parts =
            [lab("mask"), vec![0xc0; 32], vec![1; 16], vec![2; 16], lower.to_vec(), higher.to_vec(), vec![0xcc; 32]];
        let info = parts.concat();
        assert_eq!(info.len(), 165);
        hkdf::<16>(ikm, &r().0, &info)
    };
    assert_eq!(hex::encode(key(&[0x77; 32], &[0x51; 32], &[0x52; 32])), "3f5028cbb0b811f0b71262ebf325d9c8");

    let (one, two) = (MaskingSecretKey::generate(&mut os_rng()), MaskingSecretKey::generate(&mut os_rng()));
    let agreed = Point::of(&ShareScalar::from_scalar(*one.to_scalar().scalar() * *two.to_scalar().scalar()));
    let (lower, higher) = (one.public(), two.public());
    let expected = key(agreed.as_bytes(), lower.0.as_bytes(), higher.0.as_bytes());
    let expected = mask(MaskKey::from_bytes(expected), 20, 6);
    assert_eq!(mask(one.pair_mask_key(ONE, (TWO, &higher), &context()), 20, 6), expected);
    assert_eq!(mask(two.pair_mask_key(TWO, (ONE, &lower), &context()), 20, 6), expected);
}

/// C-31. As for pair keys; the associated data have the document's 119 bytes, and the nonce is zero.
#[test]
fn share_mail_is_sealed_as_in_the_document() {
    let key = |ikm: &[u8; 32], dealer: &[u8; 32], holder: &[u8; 32]| {
        let parts = [lab("veilsum/1/share-mail"), vec![1; 16], vec![2; 16], dealer.to_vec(), holder.to_vec()];
        let info = parts.concat();
        assert_eq!(info.len(), 117);
        hkdf::<32>(ikm, &r().0, &info)
    };
    let known = "084349c83c0f3d9d317397ff86678edc491bb58f45204900fb9d1ac9aceec98b";
    assert_eq!(hex::encode(key(&[0x77; 32], &[0x61; 32], &[0x62; 32])), known);

    // RFC 7748 §6.1: Alice deals to Bob, and the secret that they agree on is known.
    let bytes = |digits| Digest::from_hex(digits).expect("64 digits").0;
    let dealer =
        ChannelSecretKey::from_bytes(bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
    let holder =
        ChannelSecretKey::from_bytes(bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
    let agreed = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    let (dealer_key, holder_key) = (dealer.public(), holder.public());
    let key = key(&agreed, dealer_key.as_bytes(), holder_key.as_bytes());
    let place = Place { context: Digest([0xcc; 32]), previous: r(), sender: ONE.into(), receiver: TWO.into() };
    let aad = place.statement(labels::SHARE_MAIL, Vec::new()).before_body();
    let expected = [lab("veilsum/1/share-mail"), vec![1, 0], vec![0xcc; 32], r().0.to_vec(), vec![1; 16], vec![2; 16]];
    assert_eq!((aad.len(), &aad), (119, &expected.concat()));

    let ends = MailEdge { dealer: ONE, holder: TWO, dealer_key, holder_key };
    let sealed = dealer.mail_key(&holder_key, ends, &context().roster).seal(&[0x42; 64], &aad);
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(key));
    let opened = cipher.decrypt(&[0; 12].into(), Payload { msg: &sealed, aad: &aad }).expect("sealed under this key");
    assert_eq!(opened, [0x42; 64]);
}

/// C-31.
#[test]
fn vectors_are_packed_as_in_the_document() {
    let bits = RingBits::new(20).expect("in range");
    let vector = RingVector::from_signed(&[1, 1_048_575, 74_565], bits);
    assert_eq!(hex::encode(vector.pack()), "0100f0ffff452301");
    assert!(RingVector::unpack(&vector.pack(), 3, bits).expect("as packed") == vector);
}

/// C-31.
#[test]
fn a_confirm_statement_and_its_root_are_those_of_the_document() {
    let chain = Chain { context: Digest([0xcc; 32]), aggregator: Party([0xa9; 16]) };
    let statement = chain.from_client(ONE, r()).statement(labels::CONFIRM, Vec::new());
    let parts = [
        "117665696c73756d2f312f636f6e6669726d0100",
        &"cc".repeat(32),
        &r().to_string(),
        &"01".repeat(16),
        &"00".repeat(16),
        "00000000",
    ];
    assert_eq!(hex::encode(statement.encode()), parts.concat());
    assert_eq!(statement.encode().len(), 120);
    assert_eq!(statement.root().to_string(), "9750a1ad13088a77e1b4c26182ecd922c27ad6008de070270947fe356a528965");
}

/// C-31.
#[test]
fn a_tree_of_five_leaves_has_the_root_and_the_paths_of_the_document() {
    let leaves: Vec<Digest> = (0..5_u32).map(|data| merkle::leaf_hash(&[&data.to_le_bytes()])).collect();
    assert_eq!(merkle::root(&leaves).to_string(), "189d49226fdabb0c4749d023934679e8cf3125d49bc51a0d9c369d66ce335f0e");
    let lengths: Vec<usize> = merkle::inclusion_paths(&leaves).iter().map(Vec::len).collect();
    assert_eq!(lengths, [3, 3, 3, 3, 1]);
    assert_eq!((0..5).map(|at| merkle::path_len(at, 5)).collect::<Vec<_>>(), lengths);
}

/// C-31. The document's key is no point of the curve: hash and name are checked each by itself.
#[test]
fn an_aggregator_is_named_as_in_the_document() {
    assert_eq!(hex::encode(&Sha256::digest([0xa9; 32])[..16]), "deb1be905612fd9174f9d8fa47a026b1");
    let key = IdentitySecretKey::from_bytes(&[7; 32]).public();
    assert_eq!(key.party().0, Sha256::digest(key.as_bytes())[..16]);
}
