//! Wycheproof's vectors against the primitives as they are used here. Attack E11 of the catalogue.
//!
//! Comes in: the files of `tests/vectors/wycheproof`. Goes out: figures, or the first case that does not hold, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key};
use hkdf::Hkdf;
use serde_json::Value;
use sha2::Sha256;
use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::primitives::agreement::{ChannelPublicKey, ChannelSecretKey, MailEdge};
use veilsum_crypto::primitives::context::RosterContext;
use veilsum_crypto::primitives::signature::IdentityPublicKey;

/// What came of one file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Cases in the file.
    pub cases: usize,
    /// Cases that were run; the others cannot be expressed here.
    pub run: usize,
    /// Of those, cases that Wycheproof calls valid or acceptable and that are taken, with the result that it names.
    pub taken: usize,
    /// Cases that Wycheproof calls invalid and that are refused.
    pub refused: usize,
    /// Cases that Wycheproof calls valid or acceptable and that are refused on purpose: by flag, their numbers.
    pub refused_on_purpose: BTreeMap<String, BTreeSet<u64>>,
}

/// All four files, by name.
///
/// # Errors
/// The first case that does not hold.
pub fn all() -> Result<BTreeMap<&'static str, Figures>, String> {
    Ok(BTreeMap::from([
        ("Ed25519", ed25519()?),
        ("X25519", x25519()?),
        ("AES-GCM", aes_gcm()?),
        ("HKDF-SHA-256", hkdf_sha256()?),
    ]))
}

/// One case, and its group.
struct Case<'a> {
    group: &'a Value,
    test: &'a Value,
}

impl Case<'_> {
    fn bytes(&self, field: &str) -> Vec<u8> {
        hex::decode(self.test[field].as_str().expect("a string")).expect("hex")
    }

    fn number(&self) -> u64 {
        self.test["tcId"].as_u64().expect("a number")
    }

    fn is_invalid(&self) -> bool {
        self.test["result"] == "invalid"
    }

    fn flags(&self) -> Vec<String> {
        let flags = self.test["flags"].as_array().expect("a list");
        flags.iter().map(|flag| flag.as_str().expect("a string").to_string()).collect()
    }
}

/// Whether a case was taken, with what result.
enum Verdict {
    Taken,
    Refused,
    /// Of a shape that does not occur here.
    Inexpressible,
    Wrong(&'static str),
}

fn run(file: &str, judge: impl Fn(&Case<'_>) -> Verdict) -> Result<Figures, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/wycheproof").join(file);
    let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let vectors: Value = serde_json::from_slice(&text).map_err(|error| format!("{file}: {error}"))?;
    let mut figures = Figures::default();
    for group in vectors["testGroups"].as_array().expect("groups") {
        for test in group["tests"].as_array().expect("tests") {
            let case = Case { group, test };
            figures.cases += 1;
            let wrong = |what: &str| format!("{file}, case {}: {what} ({})", case.number(), test["comment"]);
            let verdict = judge(&case);
            figures.run += usize::from(!matches!(verdict, Verdict::Inexpressible));
            match verdict {
                Verdict::Inexpressible => {}
                Verdict::Taken if case.is_invalid() => return Err(wrong("taken although it is invalid")),
                Verdict::Taken => figures.taken += 1,
                Verdict::Refused if case.is_invalid() => figures.refused += 1,
                Verdict::Refused => {
                    for flag in case.flags() {
                        figures.refused_on_purpose.entry(flag).or_default().insert(case.number());
                    }
                }
                Verdict::Wrong(what) => return Err(wrong(what)),
            }
        }
    }
    if vectors["numberOfTests"].as_u64() != Some(figures.cases as u64) {
        return Err(format!("{file}: {} cases were expected, {} were found", vectors["numberOfTests"], figures.cases));
    }
    Ok(figures)
}

/// The predicate of R-37 on any message.
///
/// # Errors
/// The first case that does not hold.
pub fn ed25519() -> Result<Figures, String> {
    run("ed25519_test.json", |case| {
        let key = hex::decode(case.group["publicKey"]["pk"].as_str().expect("a key")).expect("hex");
        let Ok(Ok(key)) = key.try_into().map(IdentityPublicKey::from_bytes) else { return Verdict::Refused };
        // A signature of another length cannot stand in a statement: its field has 64 bytes.
        let Ok(signature) = case.bytes("sig").try_into() else { return Verdict::Refused };
        if key.verify_strict(&case.bytes("msg"), &signature) { Verdict::Taken } else { Verdict::Refused }
    })
}

/// The key check of R-09, and mail sealed under the agreed secret: production seals, an independent derivation opens.
///
/// # Errors
/// The first case that does not hold.
pub fn x25519() -> Result<Figures, String> {
    run("x25519_test.json", |case| {
        let bytes = |field| -> [u8; 32] { case.bytes(field).try_into().expect("32 bytes") };
        let Ok(public) = ChannelPublicKey::from_bytes(bytes("public")) else { return Verdict::Refused };
        let (dealer, shared) = (ChannelSecretKey::from_bytes(bytes("private")), bytes("shared"));
        let ends = MailEdge {
            dealer: ClientId([1; 16]),
            holder: ClientId([2; 16]),
            dealer_key: dealer.public(),
            holder_key: public,
        };
        let context = RosterContext { header: Digest([3; 32]), roster: Digest([4; 32]) };
        let sealed = dealer.mail_key(&public, ends, &context).seal(&[0x42; 64], b"aad");
        let label: &[u8] = b"\x14veilsum/1/share-mail";
        let info = [label, &[1; 16], &[2; 16], dealer.public().as_bytes(), public.as_bytes()].concat();
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(Some(&[4; 32]), &shared).expand(&info, &mut key).expect("one block");
        let payload = Payload { msg: &sealed, aad: b"aad" };
        match Aes256Gcm::new(&Key::<Aes256Gcm>::from(key)).decrypt(&[0; 12].into(), payload) {
            Ok(plain) if plain == [0x42; 64] => Verdict::Taken,
            _ => Verdict::Wrong("another secret was agreed on"),
        }
    })
}

/// AES-256-GCM with a nonce of 96 bits, both ways.
///
/// # Errors
/// The first case that does not hold.
pub fn aes_gcm() -> Result<Figures, String> {
    run("aes_gcm_test.json", |case| {
        let (Ok(key), Ok(nonce)) = (<[u8; 32]>::try_from(case.bytes("key")), <[u8; 12]>::try_from(case.bytes("iv")))
        else {
            return Verdict::Inexpressible;
        };
        let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(key));
        let (message, aad) = (case.bytes("msg"), case.bytes("aad"));
        let sealed = [case.bytes("ct"), case.bytes("tag")].concat();
        match cipher.decrypt(&nonce.into(), Payload { msg: &sealed, aad: &aad }) {
            Err(_) => Verdict::Refused,
            Ok(plain) if plain != message => Verdict::Wrong("another plaintext"),
            Ok(_) => match cipher.encrypt(&nonce.into(), Payload { msg: &message, aad: &aad }) {
                Ok(again) if again == sealed => Verdict::Taken,
                _ => Verdict::Wrong("another ciphertext"),
            },
        }
    })
}

/// HKDF-SHA-256, extract and expand.
///
/// # Errors
/// The first case that does not hold.
pub fn hkdf_sha256() -> Result<Figures, String> {
    run("hkdf_sha256_test.json", |case| {
        let size = usize::try_from(case.test["size"].as_u64().expect("a size")).expect("small");
        let mut output = vec![0; size];
        let extracted = Hkdf::<Sha256>::new(Some(&case.bytes("salt")), &case.bytes("ikm"));
        match extracted.expand(&case.bytes("info"), &mut output) {
            Err(_) => Verdict::Refused,
            Ok(()) if output == case.bytes("okm") => Verdict::Taken,
            Ok(()) => Verdict::Wrong("another key"),
        }
    })
}
