//! Every decoder with any bytes: what it takes, it writes again byte for byte (one encoding a message), and what it does not
//! take it refuses in words.

use veilsum_aggregator::round::{charge_bytes, charge_from_bytes, learn};
use veilsum_aggregator::store::seal::{RoundKey, ServiceKey};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, RoundId, TaskId};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::masked_input::Upload;
use veilsum_crypto::messages::*;
use veilsum_crypto::primitives::agreement::{ChannelPublicKey, Point};
use veilsum_crypto::primitives::codec::{DecodeError, Reader};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, Signed, Statement};
use veilsum_crypto::privacy::budget::Ledger;
use veilsum_crypto::server::{PhaseKind, StatementKind};

use super::Target;
use super::edit::{Input, edit};
use super::stage::{ACCUSED, STAGE};

/// Messages and statements.
pub const MESSAGES: Target = Target {
    name: "messages",
    what: "the decoders of all messages and statements: what they take they write again, byte for byte",
    run: run_messages,
    seeds: message_seeds,
    words: &["veilsum/1/header", "veilsum/1/roster", "veilsum/1/core", "veilsum/1/survivors", "veilsum/1/result"],
    portion: 36,
    finish: super::nothing,
};

/// What messages are made of, and what only the programs themselves write.
pub const PARTS: Target = Target {
    name: "parts",
    what: "the decoders of points, keys, scalars, vectors, bitmaps, trees, ledgers, charges, models and sealed sums",
    run: run_parts,
    seeds: part_seeds,
    words: &["F32", "model", "dtype", "shape", "data_offsets", "__metadata__"],
    portion: 30,
    finish: super::nothing,
};

/// Gives what it would write, or refuses; the number is k, n or a count.
type Decoder = fn(&[u8], u32) -> Result<Vec<u8>, DecodeError>;

/// Message decoders by number.
const DECODERS: [Decoder; 18] = [
    |bytes, _| KeyAdvertisement::decode(bytes).map(|message| message.encode()),
    |bytes, k| SealedShares::decode(bytes, k).map(|message| message.encode()),
    |bytes, k| Acknowledgement::decode(bytes, k).map(|message| message.encode()),
    |bytes, k| Opening::decode(bytes, k).map(|message| message.encode()),
    |bytes, _| MaskedInput::decode(bytes, &STAGE.world.facts.header.params).map(|message| message.encode()),
    |bytes, _| Confirmation::decode(bytes).map(|message| message.encode()),
    |bytes, k| Answer::decode(bytes, k as usize).map(|message| message.encode()),
    |bytes, _| ReadPermit::decode(bytes).map(|message| message.encode()),
    |bytes, _| Upload::decode(bytes).map(|upload| upload.signed().encode()),
    |bytes, _| Certificate::decode(bytes).map(|certificate| certificate.encode()),
    |bytes, _| RevocationList::decode(bytes, &STAGE.world.authority.public()).map(|list| list.encode()),
    |bytes, _| {
        let statement = Statement::decode(bytes, labels::HEADER)?;
        Header::from_statement(&statement).map(|header| header.statement().encode())
    },
    |bytes, _| {
        let mut reader = Reader::new(bytes);
        let roster = Roster::from_parts(Statement::read(&mut reader, labels::ROSTER)?, reader.rest())?;
        Ok([roster.statement().encode(), roster.list()].concat())
    },
    |bytes, n| {
        CoreSet::from_statement(Statement::decode(bytes, labels::CORE)?, n).map(|core| core.statement().encode())
    },
    |bytes, n| {
        let statement = Statement::decode(bytes, labels::SURVIVORS)?;
        Survivors::from_statement(statement, n).map(|survivors| survivors.statement().encode())
    },
    |bytes, _| {
        let statement = Statement::decode(bytes, labels::RESULT)?;
        RoundResult::from_statement(statement).map(|result| result.statement().encode())
    },
    |bytes, k| {
        // A mail item is written by its dealer alone: its parts are looked at instead.
        let item = MailItem::decode(bytes, k)?;
        item.edge_is_signed(k, 0);
        Ok(bytes.to_vec())
    },
    |bytes, _| Evidence::decode(bytes).map(|evidence| evidence.encode()),
];

/// `u8 decoder, u8 bound (k, n or count)`, then the bytes.
fn run_messages(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (number, bound) = (input.below(DECODERS.len() + 1), u32::from(input.byte()));
    let bytes = input.rest();
    let Some(decoder) = DECODERS.get(number) else { return run_signed(bytes) };
    match decoder(bytes, bound) {
        Ok(again) => assert!(again == bytes, "decoder {number} took bytes that it would not write"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Under each label: what is taken is written again, and no two labels take the same bytes.
fn run_signed(bytes: &[u8]) {
    let taken = labels::STATEMENTS.into_iter().filter_map(|label| Signed::decode(bytes, label).ok());
    let taken: Vec<Signed> = taken.collect();
    assert!(taken.len() <= 1, "two labels took one message");
    for signed in taken {
        assert!(signed.encode() == bytes, "a statement is written as it was read");
        assert!(!signed.contradicts(&signed), "nothing contradicts itself");
        signed.is_by(&STAGE.world.authority.public());
    }
}

fn message_seeds() -> Vec<Vec<u8>> {
    let stage = &*STAGE;
    let k = stage.aggregator.phase.assembly().expect("a roster").params().degree as u8;
    let numbered = |number: usize, bound: u8, bytes: &[u8]| [&[number as u8, bound], bytes].concat();
    let mut seeds = Vec::new();
    for (number, phase) in super::stage::OPEN_PHASES.into_iter().enumerate() {
        for message in stage.messages[&phase].values().take(2) {
            seeds.push(numbered(number, k, message));
            seeds.push(numbered(DECODERS.len(), 0, message));
        }
    }
    let client = stage.client(0);
    let permit = ReadPermit::sign("/v1/rounds/00/core", &stage.world.facts.chain, client, stage.key(0));
    seeds.push(numbered(7, 0, &permit.encode()));
    seeds.push(numbered(8, 0, &stage.aggregator.received[&PhaseKind::Masking][&client]));
    seeds.push(numbered(9, 0, &stage.world.members[0].certificate.encode()));
    let ended = [(client, veilsum_crypto::testing::NOON)].into();
    seeds.push(numbered(10, 0, &RevocationList::issue(1, ended, &stage.world.authority).encode()));
    seeds.push(numbered(11, 0, &stage.world.facts.header.statement().encode()));
    let kinds = [StatementKind::Roster, StatementKind::Core, StatementKind::Survivors, StatementKind::Result];
    for (number, kind) in (12..).zip(kinds) {
        let (bytes, attachment) = &stage.aggregator.statements[&kind];
        let attachment = if kind == StatementKind::Roster { attachment.as_slice() } else { &[] };
        seeds.push(numbered(number, 8, &[bytes, attachment].concat()));
    }
    let (leaf, message, dealer) = (vec![1; 3], vec![2; 4], vec![3; 5]);
    let answer = Evidence::Answer {
        leaf: leaf.clone(),
        answer: message.clone(),
        acknowledgement: message.clone(),
        roots: vec![Digest([6; 32])],
        dealer,
        mail: vec![7],
    };
    let kinds = [
        Evidence::Message { leaf: leaf.clone(), message: message.clone() },
        Evidence::Contradiction { leaf: leaf.clone(), first: message.clone(), second: message.clone() },
        Evidence::Opening { leaf, opening: message, mail: vec![7] },
        answer,
    ];
    seeds.extend(kinds.map(|evidence| numbered(17, 0, &evidence.encode())));
    seeds.extend(stage.aggregator.mail[&client].iter().take(3).map(|item| numbered(16, k, item)));
    seeds
}

/// `u8 what`, then its bytes.
fn run_parts(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.below(14) {
        0 => {
            let bytes = input.array();
            if let Ok(point) = Point::from_bytes(bytes) {
                assert_eq!(point.point().compress().to_bytes(), bytes, "one encoding a point");
                assert_ne!(bytes, [0; 32], "never the identity");
            }
        }
        1 => {
            let bytes = input.array();
            if let Ok(key) = ChannelPublicKey::from_bytes(bytes) {
                assert_eq!(*key.as_bytes(), bytes);
                assert!(bytes[31] < 0x80, "reduced");
            }
        }
        2 => {
            let bytes = input.array();
            if let Ok(key) = IdentityPublicKey::from_bytes(bytes) {
                assert_eq!(*key.as_bytes(), bytes);
            }
        }
        3 => {
            let bytes = input.array();
            if let Some(scalar) = ShareScalar::from_bytes(&bytes) {
                assert_eq!(*scalar.as_bytes(), bytes, "one encoding a scalar");
            }
        }
        4 => run_vector(&mut input),
        5 => {
            let n = input.number() as u32;
            let bytes = input.rest();
            let mut reader = Reader::new(bytes);
            if let Ok(set) = Bitmap::read(&mut reader, n) {
                let mut again = Vec::new();
                set.write(&mut again);
                assert_eq!(again, bytes[..bytes.len() - reader.left()], "one encoding a set");
                assert_eq!(set.leaves().count() as u32, set.count());
                assert!(!set.has(LeafIndex(n)), "nobody beyond n");
            }
        }
        6 => run_tree(&mut input),
        7 => {
            let bytes = input.rest();
            if let Ok(ledger) = Ledger::decode(bytes) {
                assert_eq!(ledger.encode(), bytes, "one encoding a ledger");
                assert!(ledger.epsilon_spent(1e-5) >= 0.0);
            }
        }
        8 => {
            let bytes = input.rest();
            if let Some(curve) = charge_from_bytes(bytes) {
                assert_eq!(charge_bytes(&curve), bytes, "one encoding a charge");
                assert!(curve.epsilon(1e-5).epsilon >= 0.0);
            }
        }
        9 => {
            let len = input.number() as u32;
            if let Ok(model) = learn::from_bytes(input.rest(), len) {
                assert_eq!(model.len(), len as usize);
            }
        }
        10 => {
            let key = ServiceKey::from_hex(&"5e".repeat(32)).expect("32 bytes");
            assert!(RoundKey::unwrap(input.rest(), &key, RoundId([1; 16])).is_err(), "nobody sealed this");
        }
        11 => {
            let text = String::from_utf8_lossy(input.rest()).into_owned();
            let said = [
                ClientId::from_hex(&text).map(|id| id.to_string()),
                TaskId::from_hex(&text).map(|id| id.to_string()),
                Digest::from_hex(&text).map(|id| id.to_string()),
            ];
            said.into_iter().flatten().for_each(|again| assert_eq!(again, text, "one spelling an id"));
            let _ = ServiceKey::from_hex(&text);
        }
        12 => {
            let sealed = input.rest();
            assert!(STAGE.world.saving.open(sealed).is_none(), "nobody sealed this");
        }
        _ => run_policy(&mut input),
    }
}

/// Packed vectors of any width: one encoding, and sums wrap as integers do.
fn run_vector(input: &mut Input<'_>) {
    let Ok(bits) = RingBits::new(input.byte()) else { return };
    let len = input.below(64);
    let (bytes, addend) = (input.take(RingVector::packed_bytes(len, bits)), input.rest());
    let Ok(mut vector) = RingVector::unpack(bytes, len, bits) else { return };
    assert_eq!(vector.pack(), bytes, "one encoding a vector");
    let before = vector.to_signed();
    if vector.add_packed(addend).is_ok() {
        let other = RingVector::unpack(addend, len, bits).expect("as it was added").to_signed();
        let whole = u64::MAX >> (64 - u32::from(bits.get()));
        for ((sum, a), b) in vector.to_signed().into_iter().zip(before).zip(other) {
            assert_eq!(sum.cast_unsigned() & whole, a.wrapping_add(b).cast_unsigned() & whole, "addition in the ring");
        }
    }
}

/// Paths and growth proofs of the wrong length, place or size.
fn run_tree(input: &mut Input<'_>) {
    let (index, size) = (u64::from_le_bytes(input.array()), u64::from_le_bytes(input.array()));
    let (old_size, new_size) = (u64::from_le_bytes(input.array()), u64::from_le_bytes(input.array()));
    let path: Vec<Digest> = input.rest().chunks_exact(32).map(|hash| Digest(hash.try_into().expect("32"))).collect();
    let root = merkle::root_from_path(Digest([7; 32]), index, size, &path);
    assert_eq!(root.is_some(), index < size && path.len() == merkle::path_len(index, size));
    let head = |size, root| merkle::TreeHead { size, root };
    let (old, new) = (head(old_size, Digest([1; 32])), head(new_size, Digest([2; 32])));
    assert!(!merkle::extends(old, new, &path), "roots that nobody hashed are in no proof");
    merkle::Frontier::from_parts(size, path);
}

/// A header's numbers under a policy: the client's first judgement.
fn run_policy(input: &mut Input<'_>) {
    let facts = &STAGE.world.facts;
    let mut body = facts.header.statement().body;
    edit(&mut body, &[], input);
    let statement = Statement { body, ..facts.header.statement() };
    if let Ok(header) = Header::from_statement(&statement) {
        let policy = &STAGE.world.members[0].policy;
        if policy.permits(&header, header.task).is_ok() {
            let params = &header.params;
            assert_eq!(params.check(), Ok(()), "a header is not permitted whose numbers do not hold");
        }
    }
}

fn part_seeds() -> Vec<Vec<u8>> {
    let stage = &*STAGE;
    let numbered = |number: u8, bytes: &[u8]| [&[number], bytes].concat();
    let assembly = stage.aggregator.phase.assembly().expect("a roster");
    let member = assembly.member(LeafIndex(ACCUSED as u32));
    let mut bitmap = 13_u16.to_le_bytes().to_vec();
    Bitmap::of(13, [LeafIndex(0), LeafIndex(12)]).write(&mut bitmap);
    let charge = veilsum_crypto::client::policy::round_charge_of(&stage.world.facts.header.params).expect("noise");
    let mut ledger = Ledger::default();
    ledger.charge(([1; 16], 1), charge.clone());
    let budget = veilsum_crypto::privacy::budget::Budget { epsilon: 1e6, delta: 1e-5 };
    ledger.reserve(([1; 16], 2), charge.clone(), budget).expect("a large budget");
    let model = [&3_u16.to_le_bytes()[..], &learn::to_bytes(&[1.0, -2.0, 0.5])].concat();
    let key = ServiceKey::from_hex(&"5e".repeat(32)).expect("32 bytes");
    let vector = RingVector::from_signed(&[1, -1, 77], RingBits::new(20).expect("in range")).pack();
    let mut seeds = vec![
        numbered(0, member.masking.0.as_bytes()),
        numbered(1, member.channel.as_bytes()),
        numbered(2, member.identity.as_bytes()),
        numbered(3, &[3; 32]),
        numbered(4, &[&[20, 3], &vector[..], &vector].concat()),
        numbered(5, &bitmap),
        numbered(6, &[&[3_u8, 0, 0, 0, 0, 0, 0, 0][..], &[9, 0, 0, 0, 0, 0, 0, 0], &[0; 16], &[5; 96]].concat()),
        numbered(7, &ledger.encode()),
        numbered(8, &charge_bytes(&charge)),
        numbered(9, &model),
        numbered(10, &RoundKey::generate().wrap(&key, RoundId([2; 16]))),
        numbered(11, stage.client(0).to_string().as_bytes()),
        numbered(11, Digest([0xab; 32]).to_string().as_bytes()),
        numbered(12, &stage.states[0].plain),
    ];
    seeds.extend((0..10_u8).map(|kind| vec![13, 1, kind, 250, 0, 1, 0, 0, 0]));
    seeds
}
