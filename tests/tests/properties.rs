//! What holds for all values of a kind, tried on many: encodings, sets, shares, the ring at every width. C-104
//!
//! proptest prints the case and its seed when one fails. The core's own property (the order of removal does not matter, and
//! it is the largest) stands in crypto/src/server/open.rs, where the function is.

use std::collections::{BTreeMap, BTreeSet};

use curve25519_dalek::Scalar;
use proptest::prelude::*;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, Party, TaskId, Timestamp};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::math::shamir::{Interpolation, Polynomial, ShareScalar};
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::masked_input::Upload;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{
    Acknowledgement, Answer, Bitmap, Certificate, Chain, Confirmation, CoreSet, Edge, EdgeReport, Evidence, Header,
    MailItem, MaskedInput, Opening, ReadPermit, RevocationList, Roster, RoundResult, SealedShares, Survivors,
};
use veilsum_crypto::params::{RosterParams, RoundParams, Windows};
use veilsum_crypto::primitives::agreement::Point;
use veilsum_crypto::primitives::codec::{DecodeError, Reader};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle::TreeHead;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed, Statement};
use veilsum_crypto::testing::{SeededRng, small_params};

const CLIENT: ClientId = ClientId([3; 16]);

fn key() -> IdentitySecretKey {
    IdentitySecretKey::from_bytes(&[7; 32])
}

fn chain() -> Chain {
    Chain { context: Digest([0xcc; 32]), aggregator: Party([0xa9; 16]) }
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn scalar() -> impl Strategy<Value = ShareScalar> {
    any::<[u8; 32]>().prop_map(|bytes| ShareScalar::from_scalar(Scalar::from_bytes_mod_order(bytes)))
}

fn pair() -> impl Strategy<Value = SharePair> {
    (scalar(), scalar()).prop_map(|(masking, self_mask)| SharePair { masking, self_mask })
}

fn report() -> impl Strategy<Value = EdgeReport> {
    prop_oneof![
        Just(EdgeReport::Missing),
        Just(EdgeReport::Good),
        digest().prop_map(|edge| EdgeReport::Complaint { edge })
    ]
}

fn edges() -> impl Strategy<Value = Vec<Edge>> {
    let edge = (any::<[u8; 80]>(), 1..u64::MAX, 1..u64::MAX);
    prop::collection::vec(edge, 1..9).prop_map(|edges| {
        let point = |number: u64| Point::of(&ShareScalar::from_scalar(Scalar::from(number)));
        edges
            .into_iter()
            .enumerate()
            .map(|(at, (sealed, p, q))| Edge {
                holder: LeafIndex(3 * at as u32),
                sealed,
                masking_point: point(p),
                self_mask_point: point(q),
            })
            .collect()
    })
}

/// Statement bytes are read as they were written; one byte fewer, one more or one changed is another message or none.
fn survives<T>(
    bytes: &[u8],
    changed: usize,
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(&encode(&decode(bytes).expect("as written")), bytes);
    prop_assert!(decode(&bytes[..bytes.len() - 1]).is_err(), "one byte short");
    prop_assert!(decode(&[bytes, &[0]].concat()).is_err(), "one byte over");
    let mut other = bytes.to_vec();
    other[changed % bytes.len()] ^= 1 << (changed % 8);
    if let Ok(message) = decode(&other) {
        prop_assert_eq!(encode(&message), other, "what is taken is written again");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// C-104
    #[test]
    fn client_messages_survive_the_wire(
        reports in prop::collection::vec(report(), 0..20),
        answers in prop::collection::vec(prop::option::of(scalar()), 0..20),
        opened in prop::collection::btree_map(any::<u32>().prop_map(LeafIndex), pair(), 1..9),
        edges in edges(),
        values in prop::collection::vec(any::<i64>(), 1..50),
        bits in 8..=64_u8,
        digest in digest(),
        changed: usize,
    ) {
        let (chain, key) = (chain(), key());
        let count = reports.len() as u32;
        let message = Acknowledgement::sign(digest, reports, &chain, digest, CLIENT, &key).encode();
        survives(&message, changed, |bytes| Acknowledgement::decode(bytes, count), Acknowledgement::encode)?;

        let count = answers.len();
        let message = Answer::sign(answers, &chain, digest, CLIENT, &key).encode();
        survives(&message, changed, |bytes| Answer::decode(bytes, count), Answer::encode)?;

        let message = Opening::sign(opened, &chain, digest, CLIENT, &key).encode();
        survives(&message, changed, |bytes| Opening::decode(bytes, 9), Opening::encode)?;

        let message = Confirmation::sign(&chain, digest, CLIENT, &key).encode();
        survives(&message, changed, Confirmation::decode, Confirmation::encode)?;

        let params = RoundParams {
            vector_len: values.len() as u32,
            ring_bits: RingBits::new(bits).expect("8 to 64"),
            ..small_params(3, 1)
        };
        let vector = RingVector::from_signed(&values, params.ring_bits);
        let message = MaskedInput::sign(&vector, &chain, digest, CLIENT, &key);
        prop_assert!(message.vector_is_signed());
        prop_assert_eq!(message.vector(&params), Ok(vector));
        let statement = message.upload().signed().encode();
        survives(&statement, changed, Upload::decode, |upload| upload.signed().encode())?;
        survives(&message.encode(), changed, |bytes| MaskedInput::decode(bytes, &params), MaskedInput::encode)?;

        let degree = edges.len() as u32;
        let message = SealedShares::sign(edges, &chain, digest, CLIENT, &key);
        prop_assert!(message.edges_are_signed());
        survives(&message.encode(), changed, |bytes| SealedShares::decode(bytes, degree), SealedShares::encode)?;
        for (place, (holder, item)) in message.mail(LeafIndex(5)).into_iter().enumerate() {
            let item = MailItem::decode(&item, degree).expect("as written");
            prop_assert_eq!((item.dealer, item.edge.holder), (LeafIndex(5), holder));
            prop_assert!(item.edge_is_signed(degree, place));
            prop_assert!(!item.edge_is_signed(degree, place + 1), "at its own place only");
        }
    }

    /// C-104
    #[test]
    fn statements_of_aggregator_and_authority_survive_the_wire(
        members in prop::collection::btree_map(any::<[u8; 16]>(), digest(), 1..40),
        leaves in prop::collection::btree_set(0..40_u32, 0..40),
        revoked in prop::collection::btree_map(any::<[u8; 16]>(), any::<u64>(), 0..20),
        numbers: [u64; 8],
        small: [u32; 12],
        digest in digest(),
        path in "/v1/[a-z0-9/?=,]{0,60}",
        changed: usize,
    ) {
        let (chain, key) = (chain(), key());
        let statement_of = |label| move |bytes: &[u8]| Statement::decode(bytes, label);

        let params = RosterParams {
            n: members.len() as u32, corrupt: 1, tolerated: 1, degree: small[0] & 0xffff, threshold: small[1] & 0xffff,
            honest: small[2], survivors_min: 2, share_variance: 1,
        };
        let members: Vec<_> = members.into_iter().map(|(id, leaf)| (ClientId(id), leaf)).collect();
        let roster = Roster::fix(&chain, &params, digest.0, members.clone());
        prop_assert_eq!(&Roster::from_parts(roster.statement().clone(), &roster.list()), &Ok(roster.clone()));
        prop_assert!(roster.names(&params));
        for (at, (client, _)) in members.iter().enumerate() {
            prop_assert_eq!(roster.leaf_of(*client), Some(LeafIndex(at as u32)));
        }

        let set = Bitmap::of(40, leaves.iter().map(|leaf| LeafIndex(*leaf)));
        let core = CoreSet::fix(set.clone(), &chain, digest);
        let decode = |bytes: &[u8]| CoreSet::from_statement(statement_of(labels::CORE)(bytes)?, 40);
        survives(&core.statement().encode(), changed, decode, |core| core.statement().encode())?;
        let survivors = Survivors::fix(set, digest, &chain, digest);
        let decode = |bytes: &[u8]| Survivors::from_statement(statement_of(labels::SURVIVORS)(bytes)?, 40);
        survives(&survivors.statement().encode(), changed, decode, |list| list.statement().encode())?;
        let sum = RingVector::from_signed(&[1, -2, 3], RingBits::MIN);
        for result in [RoundResult::released(&sum, small[0], &chain, digest).0, RoundResult::not_opened(small[1], &chain, digest)] {
            let decode = |bytes: &[u8]| RoundResult::from_statement(statement_of(labels::RESULT)(bytes)?);
            survives(&result.statement().encode(), changed, decode, |result| result.statement().encode())?;
        }

        let (begins, ends) = (numbers[0] >> 1, (numbers[0] >> 1) + 1 + (numbers[1] >> 1));
        let body = CertificateBody {
            client: CLIENT, identity: key.public(), group: small[3], group_size: small[4].max(1),
            not_before: Timestamp(begins), not_after: Timestamp(ends),
        };
        survives(&Certificate::issue(body, &key).encode(), changed, Certificate::decode, Certificate::encode)?;
        for senseless in [
            CertificateBody { group_size: 0, ..body },
            CertificateBody { not_after: body.not_before, ..body },
            CertificateBody { not_before: body.not_after, not_after: body.not_before, ..body },
        ] {
            let refused = Certificate::decode(&Certificate::issue(senseless, &key).encode());
            prop_assert!(matches!(refused, Err(DecodeError::NotCanonical { .. })), "{:?}", refused);
        }
        let entries = revoked.into_iter().map(|(id, before)| (ClientId(id), Timestamp(before))).collect();
        let list = RevocationList::issue(numbers[2].max(1), entries, &key).encode();
        survives(&list, changed, |bytes| RevocationList::decode(bytes, &key.public()), RevocationList::encode)?;
        let permit = ReadPermit::sign(&path, &chain, CLIENT, &key).encode();
        survives(&permit, changed, ReadPermit::decode, ReadPermit::encode)?;

        let params = RoundParams {
            vector_len: small[0], weight_max: small[1], max_squared_norm: numbers[3], total_variance: numbers[4],
            scale: f64::from(small[2]), clip_norm: f64::from(small[3]) / 7.0, roster_min: small[4], roster_max: small[5],
            cohort_min: small[6], corrupt_fraction: small[7], dropout_tolerance: small[8],
            windows: Windows(small[5..].try_into().expect("seven")), ..small_params(3, 1)
        };
        let header = Header {
            task: TaskId(digest.0[..16].try_into().expect("16")), counter: numbers[5].max(1), opened_at: Timestamp(numbers[6]),
            aggregator_key: key.public(), authority_key: key.public(), revocation_number: numbers[7],
            revocation_digest: digest, model_hash: digest, log: TreeHead { size: numbers[0], root: digest },
            layout_hash: digest, params,
        };
        let decode = |bytes: &[u8]| Header::from_statement(&statement_of(labels::HEADER)(bytes)?);
        survives(&header.statement().encode(), changed, decode, |header| header.statement().encode())?;
    }

    /// C-104: only as it was signed: any other label, any field moved into its neighbour, is no such message.
    #[test]
    fn a_signature_holds_for_one_statement_only(body in prop::collection::vec(any::<u8>(), 0..60), at: usize, flip in 1..=255_u8) {
        let signed = chain().from_client(CLIENT, Digest([1; 32])).statement(labels::CONFIRM, body).sign(&key());
        let mut bytes = signed.encode();
        prop_assert!(Signed::decode(&bytes, labels::CONFIRM).expect("as written").is_by(&key().public()));
        let at = at % bytes.len();
        bytes[at] ^= flip;
        prop_assert!(!Signed::decode(&bytes, labels::CONFIRM).is_ok_and(|other| other.is_by(&key().public())), "byte {}", at);
    }

    /// C-104: a bitmap is the set that it is made of.
    #[test]
    fn a_bitmap_is_a_set(
        n in 0..300_u32,
        one in prop::collection::btree_set(0..330_u32, 0..60),
        two in prop::collection::btree_set(0..330_u32, 0..60),
        asked in prop::collection::vec(0..330_u32, 0..40),
    ) {
        let of = |set: &BTreeSet<u32>| Bitmap::of(n, set.iter().map(|leaf| LeafIndex(*leaf)));
        let (a, b) = (of(&one), of(&two));
        let model: BTreeSet<u32> = one.into_iter().filter(|leaf| *leaf < n).collect();
        let other: BTreeSet<u32> = two.into_iter().filter(|leaf| *leaf < n).collect();
        prop_assert_eq!(a.count() as usize, model.len());
        prop_assert_eq!(a.leaves().map(|leaf| leaf.0).collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(a.is_within(&b), model.is_subset(&other));
        prop_assert_eq!(a == b, model == other);
        let asked: Vec<LeafIndex> = asked.into_iter().map(LeafIndex).collect();
        let inside = asked.iter().filter(|leaf| model.contains(&leaf.0)).count();
        prop_assert_eq!(a.count_of(&asked) as usize, inside);
        let mut bytes = Vec::new();
        a.write(&mut bytes);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(Bitmap::read(&mut reader, n), Ok(a));
        prop_assert_eq!(reader.left(), 0);
        prop_assert!(Bitmap::read(&mut Reader::new(&bytes), n + 1).is_err(), "over another roster");
    }

    /// C-104: any t of the shares rebuild the secret, in any order; a share changed rebuilds another; sums of shares are
    /// shares of the sum.
    #[test]
    fn shares_rebuild_what_was_shared(
        t in 1..12_u32,
        more in 0..8_u32,
        secrets in (scalar(), scalar()),
        order in any::<prop::sample::Index>(),
        indices in prop::collection::btree_set(0..20_000_u32, 20),
        seed: u64,
    ) {
        let mut rng = SeededRng::new(seed, 0);
        let (one, two) = (Polynomial::hide(secrets.0.clone(), t, &mut rng), Polynomial::hide(secrets.1.clone(), t, &mut rng));
        let mut holders: Vec<LeafIndex> = indices.into_iter().map(LeafIndex).take((t + more) as usize).collect();
        let turn = order.index(holders.len());
        holders.rotate_left(turn);
        let chosen = &holders[..t as usize];
        let shares = |polynomial: &Polynomial| chosen.iter().map(|holder| polynomial.share_for(*holder)).collect::<Vec<_>>();
        let weights = Interpolation::at_zero_vartime(chosen);
        let combined = |shares: &[ShareScalar]| *weights.combine(shares).scalar();
        prop_assert_eq!(combined(&shares(&one)), *secrets.0.scalar());
        let both: Vec<ShareScalar> = shares(&one)
            .iter()
            .zip(shares(&two))
            .map(|(a, b)| ShareScalar::from_scalar(a.scalar() + b.scalar()))
            .collect();
        prop_assert_eq!(combined(&both), secrets.0.scalar() + secrets.1.scalar());
        let mut wrong = shares(&one);
        wrong[turn % t as usize] = ShareScalar::from_scalar(wrong[turn % t as usize].scalar() + Scalar::ONE);
        prop_assert_ne!(combined(&wrong), *secrets.0.scalar());
        if t > 1 {
            // A share at zero would be the secret; none of one holder is.
            prop_assert!(shares(&one).iter().all(|share| share.as_bytes() != secrets.0.as_bytes()));
        }
    }

    /// C-104: evidence survives the store, whatever its parts.
    #[test]
    fn evidence_survives_the_store(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 5), roots in prop::collection::vec(digest(), 0..5)) {
        let part = |at: usize| parts[at].clone();
        let all = [
            Evidence::Message { leaf: part(0), message: part(1) },
            Evidence::Contradiction { leaf: part(0), first: part(1), second: part(2) },
            Evidence::Opening { leaf: part(0), opening: part(1), mail: part(2) },
            Evidence::Answer { leaf: part(0), answer: part(1), acknowledgement: part(2), roots, dealer: part(3), mail: part(4) },
        ];
        for evidence in all {
            prop_assert_eq!(Evidence::decode(&evidence.encode()), Ok(evidence));
        }
    }
}

/// Elements of the ring as they are defined: bit j r + i of the string is bit i of element j.
fn elements(packed: &[u8], len: usize, bits: u8) -> Vec<u64> {
    let bit = |at: usize| u64::from(packed[at / 8] >> (at % 8) & 1);
    let width = usize::from(bits);
    (0..len).map(|j| (0..width).fold(0, |element, i| element | bit(j * width + i) << i)).collect()
}

/// C-104: at each of the 57 widths, and at lengths around every boundary of bytes, words and blocks, sums and differences
/// are those of integers modulo 2^r, and a sum of many does not depend on the order.
#[test]
fn the_ring_is_a_ring_at_every_width() {
    use rand_core::Rng as _;
    let mut rng = SeededRng::new(5, 0);
    for bits in 8..=64_u8 {
        let ring = RingBits::new(bits).expect("8 to 64");
        let whole = u64::MAX >> (64 - bits);
        for len in [1, 2, 7, 8, 9, 63, 64, 65, 511, 513, 1_040] {
            let drawn = |rng: &mut SeededRng| -> Vec<i64> {
                // Ends of the range, so that every carry happens, among others.
                let ends = [0, -1, 1, i64::MAX, i64::MIN];
                (0..len)
                    .map(|_| {
                        if rng.next_u32().is_multiple_of(2) {
                            ends[rng.next_u32() as usize % 5]
                        } else {
                            rng.next_u64() as i64
                        }
                    })
                    .collect()
            };
            let inputs: Vec<Vec<i64>> = (0..5).map(|_| drawn(&mut rng)).collect();
            let vectors: Vec<RingVector> = inputs.iter().map(|values| RingVector::from_signed(values, ring)).collect();
            for (values, vector) in inputs.iter().zip(&vectors) {
                let expected: Vec<u64> = values.iter().map(|value| value.cast_unsigned() & whole).collect();
                assert_eq!(elements(&vector.pack(), len, bits), expected, "{bits} bits, {len} elements");
                assert_eq!(vector.pack().len(), (len * usize::from(bits)).div_ceil(8));
                let signed: Vec<i64> =
                    expected.iter().map(|element| (element << (64 - bits)).cast_signed() >> (64 - bits)).collect();
                assert_eq!(vector.to_signed(), signed);
                assert!(RingVector::unpack(&vector.pack(), len, ring).expect("as packed") == *vector);
            }
            let mut sum = RingVector::zeros(len, ring);
            vectors.iter().for_each(|vector| sum.add_assign(vector).expect("one ring"));
            let expected: Vec<u64> = (0..len)
                .map(|at| inputs.iter().fold(0_u64, |sum, values| sum.wrapping_add(values[at].cast_unsigned())) & whole)
                .collect();
            assert_eq!(elements(&sum.pack(), len, bits), expected, "{bits} bits, {len} elements: the sum");
            let mut backwards = RingVector::zeros(len, ring);
            vectors.iter().rev().for_each(|vector| backwards.add_packed(&vector.pack()).expect("one ring"));
            assert!(backwards == sum, "in any order, packed or not");
            vectors.iter().for_each(|vector| backwards.sub_assign(vector).expect("one ring"));
            assert!(backwards == RingVector::zeros(len, ring), "and back to nothing");
        }
    }
}

/// C-104: spare bits other than zero are no vector, at every width and length that has them.
#[test]
fn spare_bits_are_zero_at_every_width() {
    let mut with_spare_bits = BTreeMap::new();
    for bits in 8..=64_u8 {
        let ring = RingBits::new(bits).expect("8 to 64");
        for len in 1..=17_usize {
            let packed = RingVector::zeros(len, ring).pack();
            for bit in len * usize::from(bits)..packed.len() * 8 {
                let mut other = packed.clone();
                other[bit / 8] |= 1 << (bit % 8);
                assert!(RingVector::unpack(&other, len, ring).is_err(), "{bits} bits, {len} elements, bit {bit}");
                assert!(RingVector::zeros(len, ring).add_packed(&other).is_err());
                *with_spare_bits.entry(bits % 8).or_insert(0) += 1;
            }
        }
    }
    assert_eq!(
        with_spare_bits.keys().copied().collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6, 7],
        "every kind of width has some"
    );
}
