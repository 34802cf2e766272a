//! The vectors of the second implementation (tests/vectors/v1, tests/reference) against this one: whole rounds from both
//! sides, byte for byte, and every step that has a function of its own.
//!
//! What the vectors say of HTTP (status codes of bad messages) is played against a running service by
//! `tests/reference/probe.py`.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;
use veilsum_aggregator::store::{Charge, ledger_entry, statement_entry};
use veilsum_crypto::client::*;
use veilsum_crypto::graph::{self, Adversary, GraphKind, GraphQuery};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, RoundId, TaskId, Timestamp};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::math::shamir::{Interpolation, ShareScalar};
use veilsum_crypto::messages::bitmap::Bitmap;
use veilsum_crypto::messages::{Certificate, Header, RevocationList};
use veilsum_crypto::params::RosterParams;
use veilsum_crypto::primitives::agreement::{ChannelPublicKey, ChannelSecretKey, Point};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels::{self, Label};
use veilsum_crypto::primitives::merkle::{self, TreeHead};
use veilsum_crypto::primitives::prg::{MaskKey, NoiseSeed};
use veilsum_crypto::primitives::seal::SavingKey;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey, Signed, Statement};
use veilsum_crypto::privacy::SkellamSampler;
use veilsum_crypto::privacy::accountant::{IntegerRound, skellam_curve};
use veilsum_crypto::privacy::budget::Budget;
use veilsum_crypto::server::{self, Effect, Keep, Phase, PhaseKind, Received, RoundFacts, StatementKind};
use veilsum_crypto::testing::os_rng;
use veilsum_crypto::update::{ModelUpdate, Privacy, decode_sum, decode_weighted, prepare};

/// A file of tests/vectors/v1.
fn file(subject: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/v1").join(format!("{subject}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["format"], "veilsum-vectors-1");
    assert_eq!(json["subject"].as_str().map(|said| said == subject || said == "round"), Some(true), "{subject}");
    json
}

/// Calls `judge` with every case, and says which one failed.
fn cases(subject: &str, judge: impl Fn(&Value, &Value)) {
    let json = file(subject);
    let all = json["cases"].as_array().expect("cases");
    assert!(!all.is_empty());
    for case in all {
        let name = case["name"].as_str().expect("a name");
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judge(&json["shared"], case)));
        assert!(judged.is_ok(), "{subject}: case \"{name}\" ({})", case["comment"]);
    }
}

fn valid(case: &Value) -> bool {
    case["valid"].as_bool().expect("valid")
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hex")).expect("hex")
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("so many bytes")
}

fn digest(value: &Value) -> Digest {
    Digest(array(value))
}

/// A number, or a decimal string.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| value.as_str().expect("a number").parse().expect("decimal"))
}

fn integer(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| value.as_str().expect("a number").parse().expect("decimal"))
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn leaves(value: &Value) -> Vec<LeafIndex> {
    list(value).iter().map(|leaf| LeafIndex(number(leaf) as u32)).collect()
}

fn close_to(ours: f64, theirs: f64, relative: f64) {
    assert!((ours - theirs).abs() <= relative * theirs.abs().max(1e-300), "{ours} against {theirs}");
}

// Whole rounds, from the aggregator's side.

const PHASES: [(&str, PhaseKind); 7] = [
    ("advertise", PhaseKind::Advertising),
    ("share", PhaseKind::Sharing),
    ("acknowledge", PhaseKind::Acknowledging),
    ("open", PhaseKind::Opening),
    ("mask", PhaseKind::Masking),
    ("confirm", PhaseKind::Confirming),
    ("unmask", PhaseKind::Unmasking),
];

fn header_of(round: &Value) -> (Vec<u8>, Header) {
    let served = bytes(&round["header"]);
    let signed = Signed::decode(&served, labels::HEADER).expect("a signed header");
    let header = Header::from_statement(signed.statement()).expect("a header");
    assert!(signed.is_by(&header.aggregator_key));
    assert_eq!(header.chain().context, digest(&round["context"]));
    (served, header)
}

/// Plays the messages of a round against `accept` and `close`, and compares everything that follows from them.
fn replay(round: &Value) {
    let (_, header) = header_of(round);
    let key = IdentitySecretKey::from_bytes(&array(&round["aggregator"]["seed"]));
    let nonce = array(&round["aggregator"]["closing_nonce"]);
    let params = header.params;
    let facts = RoundFacts::new(header, RevocationList::none());
    let mut phase = Phase::first();
    let mut sum = RingVector::zeros(params.vector_len as usize, params.ring_bits);
    let mut admitted: BTreeMap<PhaseKind, BTreeMap<ClientId, Vec<u8>>> = BTreeMap::new();
    let mut kept: BTreeMap<PhaseKind, BTreeMap<ClientId, Vec<u8>>> = BTreeMap::new();
    let mut mail: BTreeMap<ClientId, Vec<Vec<u8>>> = BTreeMap::new();
    let mut served: BTreeMap<StatementKind, Vec<u8>> = BTreeMap::new();
    let mut named = Vec::new();
    for (name, kind) in PHASES {
        let played = list(&round["phases"]).iter().find(|played| played["phase"] == name);
        let messages = played.map(|played| list(&played["messages"]).as_slice()).unwrap_or_default();
        if phase.kind() != kind {
            assert!(messages.is_empty() || phase.kind().is_over(), "{name} was skipped here, and played there");
            continue;
        }
        for message in messages {
            let (client, body) = (ClientId(array(&message["client"])), bytes(&message["message"]));
            let first = admitted.get(&kind).and_then(|of| of.get(&client));
            let status = match (first, server::accept(&facts, &phase, kind, client, &body)) {
                (Some(first), Ok(_)) => {
                    if *first == body {
                        204
                    } else {
                        409
                    }
                }
                (None, Ok(accepted)) => {
                    let body_kept = match accepted.keep() {
                        Keep::Body(kept) => kept.clone(),
                        Keep::Mail { body, to } => {
                            to.iter().for_each(|(holder, item)| mail.entry(*holder).or_default().push(item.clone()));
                            body.clone()
                        }
                        Keep::Sum { statement, vector } => {
                            sum.add_assign(vector).expect("one ring");
                            statement.clone()
                        }
                    };
                    admitted.entry(kind).or_default().insert(client, body.clone());
                    kept.entry(kind).or_default().insert(client, body_kept);
                    204
                }
                (_, Err(rejection)) => {
                    if let (true, Some(rule)) = (rejection.is_proved_by_message(), rejection.rule()) {
                        named.push((name, client, rule.0));
                    }
                    if rejection.rule().is_some() { 422 } else { 400 }
                }
            };
            assert_eq!(status, number(&message["status"]), "{name} of {client}");
        }
        let earlier = Received::needs(kind).iter().map(|of| (*of, kept.get(of).cloned().unwrap_or_default())).collect();
        let mut received = Received::new(kept.get(&kind).cloned().unwrap_or_default(), earlier);
        received.sum = (kind == PhaseKind::Unmasking).then(|| sum.clone());
        let (next, effects) = server::close(&facts, phase, received, nonce);
        phase = Phase::decode(&next.encode(), &facts).expect("as encoded");
        for effect in effects {
            match effect {
                Effect::Statement { kind, bytes, attachment } => {
                    let signed = Statement::decode(&bytes, kind.label()).expect("its own").sign(&key).encode();
                    served.insert(kind, [signed, attachment].concat());
                }
                Effect::Fault { client, rule, .. } => named.push((name, client, rule)),
                _ => {}
            }
        }
    }
    for (name, kind) in [
        ("roster", StatementKind::Roster),
        ("core", StatementKind::Core),
        ("survivors", StatementKind::Survivors),
        ("result", StatementKind::Result),
    ] {
        let theirs = round["served"].get(name).filter(|value| value.is_string()).map(bytes);
        assert_eq!(served.get(&kind), theirs.as_ref(), "{name}");
    }
    for (client, body) in round["served"].get("mail").and_then(Value::as_object).into_iter().flatten() {
        let mut ours = mail.get(&ClientId::from_hex(client).expect("hex")).cloned().unwrap_or_default();
        ours.sort_by_key(|item| u32::from_le_bytes(item[..4].try_into().expect("a dealer")));
        let mut framed = (ours.len() as u16).to_le_bytes().to_vec();
        ours.iter().for_each(|item| veilsum_crypto::primitives::codec::write_prefixed(&mut framed, item));
        assert_eq!(framed, bytes(body), "mail of {client}");
    }
    let ended = match phase {
        Phase::Published(_) => "published",
        Phase::Abandoned(reason, _) => reason.word(),
        _ => "open",
    };
    assert_eq!(round["ended"], ended);
    // Contradictions (two uploads, two confirmations) are named by the service, which keeps the first message.
    let by_service = [19, 23];
    let theirs: Vec<_> = list(&round["named"])
        .iter()
        .map(|row| {
            let rule: u8 = row[2].as_str().expect("a rule")[2..].parse().expect("a number");
            (row[0].as_str().expect("a phase").to_string(), ClientId(array(&row[1])), rule)
        })
        .filter(|(_, _, rule)| !by_service.contains(rule))
        .collect();
    let ours: std::collections::BTreeSet<_> =
        named.into_iter().map(|(phase, client, rule)| (phase.to_string(), client, rule)).collect();
    assert_eq!(ours, theirs.into_iter().collect());
}

#[test]
fn a_whole_round_gives_the_same_statements_mail_and_sum() {
    replay(&file("round"));
}

#[test]
fn rounds_with_liars_and_losses_give_the_same_statements_names_and_ends() {
    let json = file("rounds");
    let rounds = list(&json["rounds"]);
    assert!(rounds.len() >= 10);
    for round in rounds {
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| replay(round)));
        assert!(played.is_ok(), "round {}", round["name"]);
    }
}

// The same round, from every client's side.

/// Chance that was drawn elsewhere: what comes out is what the other implementation drew.
struct Script(VecDeque<u8>);

impl Script {
    fn of(parts: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(parts.into_iter().flatten().collect())
    }

    /// 64 bytes that reduce to a scalar.
    fn scalar(value: &Value) -> Vec<u8> {
        [bytes(value), vec![0; 32]].concat()
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut four = [0; 4];
        self.try_fill_bytes(&mut four)?;
        Ok(u32::from_le_bytes(four))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut eight = [0; 8];
        self.try_fill_bytes(&mut eight)?;
        Ok(u64::from_le_bytes(eight))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.fill_with(|| self.0.pop_front().expect("no more is drawn than the other implementation drew"));
        Ok(())
    }
}

impl TryCryptoRng for Script {}

macro_rules! written {
    ($turn:expr) => {{
        let write = |_: &Sealed| Ok::<_, Infallible>(());
        $turn.persist(&SavingKey::from_bytes([5; 32]), &mut os_rng(), write).expect("writes nothing")
    }};
}

fn items(body: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(body);
    let count = reader.u16("count").expect("a count");
    (0..count).map(|_| reader.prefixed("item").expect("an item").to_vec()).collect()
}

/// A policy that asks for nothing but what makes a header well-formed.
fn without_floors(header: &Header) -> Policy {
    let mut policy = Policy::new(header.aggregator_key, header.authority_key);
    policy.dropout_tolerance_max = 999_999;
    policy.corrupt_fraction_min = 0;
    policy.noise_multiplier_min = 0.0;
    policy.security_bits_min = 1;
    policy.completion_bits_min = 1;
    policy.wrap_bits_min = 1;
    policy.clip_norm_max = f64::MAX;
    policy.dp_delta_max = 1.0;
    policy.budget = Budget { epsilon: 1e9, delta: header.params.dp_delta };
    policy
}

#[test]
fn every_client_of_the_round_sends_the_same_bytes_for_equal_keys_and_coefficients() {
    let round = file("round");
    let (header_bytes, header) = header_of(&round);
    let served = &round["served"];
    let leaf_of: BTreeMap<String, Vec<u8>> = list(&round["phases"][0]["messages"])
        .iter()
        .map(|message| (message["client"].as_str().expect("an id").to_string(), bytes(&message["message"])))
        .collect();
    let sent = |phase: &str, client: &str| {
        let played = list(&round["phases"]).iter().find(|played| played["phase"] == phase).expect("played");
        let message = list(&played["messages"]).iter().find(|message| message["client"] == client);
        message.map(|message| bytes(&message["message"]))
    };
    let (mut compared, mut uploads, mut spoilt) = (0, 0, 0);
    for of in list(&round["clients"]) {
        let id = of["client"].as_str().expect("an id");
        let policy = without_floors(&header);
        let member = Arc::new(Membership {
            identity: IdentitySecretKey::from_bytes(&array(&of["identity_seed"])),
            certificate: Certificate::decode(&bytes(&of["certificate"])).expect("a certificate"),
            policy,
        });
        let now = Moment { wall: header.opened_at, monotonic_ms: 0 };

        let mut keys =
            Script::of([Script::scalar(&of["s"]), Script::scalar(&of["b"]), bytes(&of["c"]), bytes(&of["nonce"])]);
        let enrolled = Enrolled::new(member, Memory::new());
        let turn = enrolled.advertise(header.task, &header_bytes, &HeaderEvidence::default(), now, &mut keys);
        let (awaiting, advert) = written!(turn.expect("an honest header"));
        assert_eq!(advert, leaf_of[id], "advert of {id}");

        let roster = bytes(&served["roster"]);
        let evidence = awaiting.examine(&roster, now, &mut os_rng()).expect("an honest roster");
        let (awaiting, _) = written!(awaiting.pin(&evidence));
        let order: Vec<&String> = leaf_of.keys().collect(); // ids ascending: leaf indices
        let opened = evidence.wanted().iter().map(|leaf| (*leaf, leaf_of[order[leaf.index()]].clone())).collect();
        let coefficients = ["s_coefficients", "b_coefficients"].iter().flat_map(|kind| list(&of[*kind]).iter().skip(1));
        let mut polynomials = Script::of(coefficients.map(Script::scalar));
        let turn = awaiting.share(evidence, &opened, &mut polynomials).expect("honest leaves");
        let (awaiting, shares) = written!(turn);
        if sent("share", id).as_ref() != Some(&shares) {
            spoilt += 1; // the one dealer that spoils an edge on purpose
            continue;
        }
        let turn = awaiting.acknowledge(&items(&bytes(&served["mail"][id]))).expect("honest mail");
        let (mut ready, acknowledgement) = written!(turn);
        assert_eq!(sent("acknowledge", id).as_ref(), Some(&acknowledgement), "acknowledgement of {id}");
        compared += 1;

        let core = bytes(&served["core"]);
        (ready, _) = written!(ready.pin(&core).expect("an honest core"));
        if let Some(openings) = served["openings"].get(id).filter(|_| ready.has_complained()) {
            ready.take_openings(&items(&bytes(openings)));
        }
        let Some(upload) = sent("mask", id) else { continue };
        // The masks are what the upload differs by from what was noised: the same in both, whatever was noised.
        let params = header.params;
        let len = params.vector_len as usize;
        let noise = SkellamSampler::new(ready.share_variance()).expect("in range");
        let noise = noise.noise(NoiseSeed::generate(&mut os_rng()), len);
        let privacy =
            Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: params.max_squared_norm };
        let values = vec![0.0; len - usize::from(params.weight_max > 0)];
        let mut update = ModelUpdate::new(values).expect("finite");
        if params.weight_max > 0 {
            update = update.with_weight(1.0, params.weight_max).expect("in range");
        }
        let noised = prepare(update, noise, &privacy, &mut os_rng()).expect("same length");
        let ours_noised = RingVector::from_signed(noised.values(), params.ring_bits);
        let (awaiting, input) = written!(ready.mask(&core, noised).expect("an honest core"));
        let masks = |message: &[u8], noised: &RingVector| {
            let mut vector = RingVector::unpack(&message[223..], len, params.ring_bits).expect("packed");
            vector.sub_assign(noised).expect("one ring");
            vector.pack()
        };
        let theirs_noised = RingVector::unpack(&bytes(&of["noised"]), len, params.ring_bits).expect("packed");
        assert_eq!(masks(&input, &ours_noised), masks(&upload, &theirs_noised), "masks of {id}");
        uploads += 1;

        let survivors = bytes(&served["survivors"]);
        let turn = awaiting.confirm(&survivors, &items(&bytes(&served["uploads"][id]))).expect("an honest list");
        let (ready, confirmation) = written!(turn);
        assert_eq!(sent("confirm", id).unwrap_or_default(), confirmation, "confirmation of {id}");
        let (awaiting, answer) = written!(ready.unmask(&items(&bytes(&served["confirmations"]))).expect("they agree"));
        assert_eq!(sent("unmask", id).as_ref(), Some(&answer), "answer of {id}");
        let (verified, _) = awaiting.verify(&bytes(&served["result"])).expect("an honest result");
        assert!(verified.sum.is_some());
    }
    let n = list(&round["clients"]).len();
    assert_eq!((compared, uploads, spoilt), (n - 1, n - 2, 1), "one client spoils an edge, another is lost");
}

// Steps.

fn label_of(text: &str) -> Label {
    *labels::STATEMENTS.iter().find(|label| label.as_str() == text).expect("a label of statements")
}

#[test]
fn statements_are_the_same_bytes_and_bad_ones_are_refused() {
    cases("statement", |shared, case| {
        let label = label_of(case["label"].as_str().expect("a label"));
        let signed = bytes(&case["signed"]);
        let public = IdentityPublicKey::from_bytes(array(&shared["public_key"])).expect("a key");
        let body = number(&case["body_min"]) as usize..=number(&case["body_max"]) as usize;
        let decoded =
            Signed::decode(&signed, label).ok().filter(|signed| body.contains(&signed.statement().body.len()));
        let holds = decoded.as_ref().is_some_and(|signed| signed.is_by(&public));
        assert_eq!(holds, valid(case));
        if let Some(decoded) = decoded.filter(|_| valid(case)) {
            let statement = decoded.statement();
            assert_eq!(statement.encode(), bytes(&case["statement"]));
            assert_eq!(statement.root(), digest(&case["root"]));
            let key = IdentitySecretKey::from_bytes(&array(&shared["seed"]));
            assert_eq!(statement.clone().sign(&key).encode(), signed, "deterministic");
        }
    });
}

#[test]
fn ed25519_is_verified_by_the_same_predicate() {
    use ed25519_dalek::{Signature, VerifyingKey};
    // As `Signed::is_by`, which takes statements only: canonical key, then the strict equation.
    cases("ed25519", |_, case| {
        // A public key that is refused refuses every signature.
        let judged = IdentityPublicKey::from_bytes(array(&case["public_key"])).is_ok_and(|key| {
            let key = VerifyingKey::from_bytes(key.as_bytes()).expect("it was checked");
            let signature = Signature::from_slice(&bytes(&case["signature"]));
            signature.is_ok_and(|signature| key.verify_strict(&bytes(&case["message"]), &signature).is_ok())
        });
        assert_eq!(judged, valid(case));
    });
}

#[test]
fn points_and_scalars_are_the_same() {
    cases("ristretto", |_, case| {
        if let Some(encoding) = case.get("encoding") {
            assert!(
                bytes(encoding).try_into().is_ok_and(|bytes: [u8; 32]| Point::from_bytes(bytes).is_ok()) == valid(case)
            );
        } else if let Some(encoding) = case.get("scalar_encoding") {
            assert_eq!(ShareScalar::from_bytes(&array(encoding)).is_some(), valid(case));
        } else {
            let scalar = ShareScalar::from_bytes(&array(&case["scalar"])).expect("canonical");
            let point = Point::of(&scalar);
            assert_eq!(point.as_bytes(), &array::<32>(&case["point"]));
            let times = ShareScalar::from_bytes(&array(&case["times"])).expect("canonical");
            let product = point.point() * times.scalar();
            assert_eq!(product.compress().as_bytes(), &array::<32>(&case["product"]));
        }
    });
}

#[test]
fn channel_keys_are_the_same_and_bad_ones_are_refused() {
    cases("channel_key", |_, case| {
        if let Some(key) = case.get("key") {
            assert_eq!(ChannelPublicKey::from_bytes(array(key)).is_ok(), valid(case));
        } else {
            let secret = ChannelSecretKey::from_bytes(array(&case["secret"]));
            assert_eq!(secret.public().as_bytes(), &array::<32>(&case["public"]));
        }
    });
}

#[test]
fn masks_and_packing_are_the_same() {
    cases("keystream", |_, case| {
        let bits = RingBits::new(number(&case["ring_bits"]) as u8).expect("in range");
        let mut vector = RingVector::zeros(number(&case["count"]) as usize, bits);
        vector.add_mask(MaskKey::from_bytes(array(&case["key"])));
        assert_eq!(vector.pack(), bytes(&case["packed"]));
    });
    cases("packing", |_, case| {
        let bits = RingBits::new(number(&case["ring_bits"]) as u8).expect("in range");
        let packed = bytes(&case["packed"]);
        let vector = RingVector::unpack(&packed, number(&case["count"]) as usize, bits);
        assert_eq!(vector.is_ok(), valid(case));
        if let Ok(vector) = vector {
            assert_eq!(vector.pack(), packed);
            let modulus = 1_i128 << bits.get();
            let ours: Vec<i128> =
                vector.to_signed().iter().map(|value| i128::from(*value).rem_euclid(modulus)).collect();
            let theirs =
                list(&case["elements"]).iter().map(|value| value.as_str().expect("decimal").parse().expect("decimal"));
            assert_eq!(ours, theirs.collect::<Vec<i128>>());
        }
    });
}

#[test]
fn bitmaps_trees_and_log_entries_are_the_same() {
    cases("bitmap", |_, case| {
        // In statements n and the count stand before the bits.
        let (bits, n) = (bytes(&case["bitmap"]), number(&case["n"]) as u32);
        let count: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
        let encoded = [n.to_le_bytes().as_slice(), &count.to_le_bytes(), &bits].concat();
        let mut reader = Reader::new(&encoded);
        let read = Bitmap::read(&mut reader, n).ok().filter(|_| reader.left() == 0);
        assert_eq!(read.is_some(), valid(case));
        if let Some(bitmap) = read {
            assert_eq!(bitmap.leaves().collect::<Vec<_>>(), leaves(&case["members"]));
        }
    });
    cases("merkle", |_, case| {
        let path: Vec<Digest> = list(&case["path"]).iter().map(digest).collect();
        let leaf = merkle::leaf_hash(&[&bytes(&case["leaf"])]);
        let root = merkle::root_from_path(leaf, number(&case["position"]), number(&case["size"]), &path);
        assert_eq!(root == Some(digest(&case["root"])), valid(case));
    });
    cases("consistency", |_, case| {
        let old = TreeHead { size: number(&case["old_size"]), root: digest(&case["old_root"]) };
        let new = TreeHead { size: number(&case["new_size"]), root: digest(&case["new_root"]) };
        let proof = bytes(&case["proof"]);
        let framed = proof.first().is_some_and(|count| *count <= 64 && proof.len() == 1 + 32 * usize::from(*count));
        let path: Vec<Digest> = proof
            .get(1..)
            .unwrap_or_default()
            .chunks_exact(32)
            .map(|hash| Digest(hash.try_into().expect("32")))
            .collect();
        assert_eq!(framed && merkle::extends(old, new, &path), valid(case));
    });
    cases("log", |_, case| {
        let salt = array(&case["salt"]);
        let data = match case.get("kind") {
            Some(kind) => {
                let charge = match number(kind) {
                    1 => Charge::Reserved,
                    2 => Charge::Spent,
                    _ => Charge::Lapsed,
                };
                ledger_entry(
                    &salt,
                    TaskId(array(&case["task"])),
                    number(&case["counter"]),
                    digest(&case["context"]),
                    charge,
                )
            }
            // Only the root is given: the same hash over it.
            None => {
                Digest(<sha2::Sha256 as sha2::Digest>::digest([salt.as_slice(), &bytes(&case["root"])].concat()).into())
            }
        };
        assert_eq!(data, digest(&case["data"]));
        assert_eq!(merkle::leaf_hash(&[data.as_bytes()]), digest(&case["leaf_hash"]));
    });
    let statement = b"any statement";
    let root = <sha2::Sha256 as sha2::Digest>::digest(statement);
    let expected = <sha2::Sha256 as sha2::Digest>::digest([[7; 32].as_slice(), &root].concat());
    assert_eq!(statement_entry(&[7; 32], statement), Digest(expected.into()), "entries hash salt and root");
}

#[test]
fn degrees_and_thresholds_are_the_same() {
    cases("degree_threshold", |_, case| {
        let query = GraphQuery {
            clients: number(&case["n"]) as u32,
            corrupt: number(&case["c"]) as u32,
            dropped: number(&case["d"]) as u32,
            security_bits: number(&case["sigma"]) as u16,
            completion_bits: number(&case["eta"]) as u16,
            adversary: Adversary::SemiMalicious,
        };
        match graph::search(&query) {
            Ok(found) => {
                assert!(valid(case), "feasible here: {found:?}");
                assert_eq!(
                    (u64::from(found.degree), u64::from(found.threshold)),
                    (number(&case["k"]), number(&case["t"]))
                );
                assert_eq!(found.kind == GraphKind::Complete, case["complete"] == true);
            }
            Err(_) => assert!(!valid(case), "infeasible here"),
        }
    });
}

#[test]
fn shares_rebuild_the_same_secrets() {
    cases("shamir", |_, case| {
        let holders = leaves(&case["rebuild_from"]);
        let mut distinct = holders.clone();
        distinct.sort();
        distinct.dedup();
        if !valid(case) {
            return; // R-12 is kept by the types and by `accept`: holders come from bitmaps, scalars from the codec
        }
        assert_eq!(distinct.len(), holders.len());
        let shares: Vec<ShareScalar> = holders
            .iter()
            .map(|leaf| {
                let place = leaves(&case["holders"]).iter().position(|holder| holder == leaf).expect("a holder");
                ShareScalar::from_bytes(&array(&case["shares"][place])).expect("canonical")
            })
            .collect();
        let secret = Interpolation::at_zero_vartime(&holders).combine(&shares);
        assert_eq!(secret.as_bytes(), &array::<32>(&case["secret"]));
    });
}

#[test]
fn sums_decode_to_the_same_means() {
    cases("decode", |_, case| {
        let bits = RingBits::new(number(&case["ring_bits"]) as u8).expect("in range");
        let centred: Vec<i64> = list(&case["centred"]).iter().map(integer).collect();
        let sum = RingVector::from_signed(&centred, bits);
        let modulus = 1_i128 << bits.get();
        let theirs: Vec<i128> =
            list(&case["sum"]).iter().map(|value| value.as_str().expect("decimal").parse().expect("decimal")).collect();
        let ours: Vec<i128> = sum.to_signed().iter().map(|value| i128::from(*value).rem_euclid(modulus)).collect();
        assert_eq!(ours, theirs);
        assert_eq!(sum.to_signed(), centred);
        let (clip, scale, count) = (case["clip"].as_f64(), case["scale"].as_f64(), number(&case["count"]) as u32);
        let mean = if number(&case["weight_max"]) > 0 {
            decode_weighted(&sum, clip.expect("a number"))
        } else {
            decode_sum(&sum, scale.expect("a number"), count)
        };
        match case["mean"].as_array() {
            None => assert!(mean.is_err()),
            Some(theirs) => {
                let mean = mean.expect("a mean");
                assert_eq!(mean.len(), theirs.len());
                // The mean is kept as binary32.
                mean.iter()
                    .zip(theirs)
                    .for_each(|(ours, theirs)| close_to((*ours).into(), theirs.as_f64().expect("a number"), 1e-6));
            }
        }
    });
}

#[test]
fn rounds_cost_the_same_epsilon() {
    cases("epsilon", |_, case| {
        let round = IntegerRound {
            max_squared_norm: number(&case["max_squared_norm"]),
            dim: number(&case["vector_len"]),
            variance: number(&case["total_variance"]),
        };
        let curve = skellam_curve(round);
        for (order, theirs) in case["rdp"].as_object().expect("by order") {
            let place = curve.orders().iter().position(|ours| ours.to_string() == *order).expect("an order of ours");
            let (ours, theirs) = (curve.divergences()[place], theirs.as_f64().expect("a number"));
            assert!(
                ours >= theirs * (1.0 - 1e-12) && ours <= theirs * (1.0 + 1e-9),
                "order {order}: {ours} against {theirs}"
            );
        }
        let rounds = number(&case["rounds"]) as u32;
        let ours = curve.times(rounds).epsilon(case["dp_delta"].as_f64().expect("a number"));
        let theirs = case["epsilon"].as_f64().expect("a number");
        assert!(
            ours.epsilon >= theirs * (1.0 - 1e-12) && ours.epsilon <= theirs * (1.0 + 1e-9) + 1e-12,
            "{ours:?} against {theirs}"
        );
    });
}

#[test]
fn headers_and_certificates_are_read_alike() {
    cases("header", |shared, case| {
        let key = IdentityPublicKey::from_bytes(array(&shared["aggregator_key"])).expect("a key");
        let read = Signed::decode(&bytes(&case["signed"]), labels::HEADER)
            .ok()
            .filter(|signed| signed.is_by(&key))
            .and_then(|signed| Header::from_statement(signed.statement()).ok())
            .filter(|header| header.aggregator_key == key)
            .filter(|header| header.counter > 0 && header.params.check().is_ok())
            .filter(|header| {
                header.params.ring_bits_needed().is_ok_and(|least| header.params.ring_bits.get() >= least.get())
            })
            // Here such a header is refused when the list that it names is judged: there is none with this number and digest.
            .filter(|header| (header.revocation_number == 0) == (header.revocation_digest == Digest::NONE));
        assert_eq!(read.is_some(), valid(case), "{}", case["why"]);
        let Some(header) = read else { return };
        assert_eq!(header.chain().context, digest(&case["context"]));
        assert_eq!(header.round(), RoundId(array(&Value::from(hex::encode(&bytes(&case["context"])[..16])))));
        assert_eq!(u64::from(header.params.ring_bits_needed().expect("checked").get()), number(&case["least_r"]));
        for row in list(&case["derived"]) {
            let [n, c, t_lost, h, k, t] = [0, 1, 2, 3, 4, 5].map(|at| number(&row[at]));
            let derived = RosterParams::derive(n as u32, &header.params).expect("feasible");
            assert_eq!((u64::from(derived.degree), u64::from(derived.threshold), u64::from(derived.honest)), (k, t, h));
            assert_eq!(u64::from(header.params.corrupt(n as u32)), c);
            assert_eq!(u64::from(header.params.tolerated(n as u32)), t_lost);
        }
    });
    cases("certificate", |shared, case| {
        let authority = IdentityPublicKey::from_bytes(array(&shared["authority_key"])).expect("a key");
        let time = Timestamp(number(&shared["time"]));
        let certificate = Certificate::decode(&bytes(&case["signed"])).ok();
        let holds = certificate
            .as_ref()
            .is_some_and(|certificate| certificate.check(&authority, time, &RevocationList::none()).is_ok());
        assert_eq!(holds, valid(case), "{}", case["why"]);
        if let Some(certificate) = certificate.filter(|_| valid(case)) {
            assert_eq!(certificate.body().client, ClientId(array(&case["client"])));
            assert_eq!(u64::from(certificate.body().group), number(&case["group"]));
        }
    });
}
