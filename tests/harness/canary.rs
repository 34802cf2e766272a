//! Secrets that the test knows never appear where people and machines read: logs at their loudest, answers, metrics, files.
//! Attack H04 of the catalogue.
//!
//! Real processes (`veilsum serve`, stepping clients, `veilsum join`) at `RUST_LOG=trace` play a round; errors of every kind
//! are provoked; then every sink is searched for every secret, raw and in each form in which programs print bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use base64ct::{Base64Unpadded, Encoding as _};

use crate::memory::Secret;

mod play;

pub use play::{Heard, h04};

/// Text or bytes that somebody may read.
#[derive(Clone, Debug)]
pub struct Sink {
    /// A file, or what was asked.
    pub name: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// What was searched, and what was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Sinks.
    pub sinks: usize,
    /// Bytes in them.
    pub bytes: usize,
    /// Secrets looked for.
    pub secrets: usize,
    /// Forms of each, all in all.
    pub needles: usize,
    /// By sink: secret and form.
    pub found: BTreeMap<String, BTreeSet<String>>,
}

/// Every form in which a secret could be printed, by name.
pub fn forms(secret: &Secret) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = &secret.bytes;
    assert!(bytes.len() >= 16, "{} is too short", secret.name);
    let mut forms = vec![("raw", bytes[..16].to_vec()), ("raw", bytes[bytes.len() - 16..].to_vec())];
    forms.push(("hexadecimal", hex::encode(&bytes[..12]).into_bytes()));
    forms.push(("hexadecimal", hex::encode(&bytes[bytes.len() - 12..]).into_bytes()));
    forms.push(("upper-case hexadecimal", hex::encode_upper(&bytes[..12]).into_bytes()));
    forms.push((
        "reversed hexadecimal",
        hex::encode(bytes.iter().rev().take(12).copied().collect::<Vec<u8>>()).into_bytes(),
    ));
    for skipped in 0..3 {
        // Wherever it begins in a longer string: twelve bytes on a boundary of three are sixteen digits of their own.
        let standard = Base64Unpadded::encode_string(&bytes[skipped..skipped + 12]);
        forms.push(("base64", standard.replace('+', "-").replace('/', "_").into_bytes()));
        forms.push(("base64", standard.into_bytes()));
    }
    let decimals: Vec<String> = bytes[..8].iter().map(u8::to_string).collect();
    forms.push(("decimal list", decimals.join(", ").into_bytes()));
    forms.push(("decimal list", decimals.join(",").into_bytes()));
    let mut escaped = String::new();
    bytes[..12].iter().for_each(|byte| write!(escaped, "{}", byte.escape_ascii()).expect("a string takes everything"));
    forms.push(("escaped bytes", escaped.replace('\\', "\\\\").into_bytes()));
    forms.push(("escaped bytes", escaped.into_bytes()));
    if secret.name.starts_with("noised values") {
        forms.extend(numbers(
            "integers",
            bytes.as_chunks::<8>().0.iter().map(|eight| i64::from_le_bytes(*eight).to_string()),
        ));
    }
    if secret.name.starts_with("update") {
        forms.extend(numbers(
            "floats",
            bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four).to_string()),
        ));
    }
    forms
}

fn numbers(name: &'static str, values: impl Iterator<Item = String>) -> Vec<(&'static str, Vec<u8>)> {
    let values: Vec<String> = values.take(4).collect();
    vec![(name, values.join(", ").into_bytes()), (name, values.join(",").into_bytes())]
}

/// Looks for every form of every secret in every sink.
pub fn search(sinks: &[Sink], secrets: &[Secret]) -> Figures {
    let needles: Vec<(String, Vec<u8>)> = secrets
        .iter()
        .flat_map(|secret| forms(secret).into_iter().map(|(form, bytes)| (format!("{} ({form})", secret.name), bytes)))
        .collect();
    let mut by_start: BTreeMap<[u8; 3], Vec<usize>> = BTreeMap::new();
    for (at, (_, bytes)) in needles.iter().enumerate() {
        by_start.entry(bytes[..3].try_into().expect("long enough")).or_default().push(at);
    }
    let mut figures = Figures { secrets: secrets.len(), needles: needles.len(), ..Figures::default() };
    for Sink { name, bytes } in sinks {
        figures.sinks += 1;
        figures.bytes += bytes.len();
        for (offset, start) in bytes.array_windows::<3>().enumerate() {
            for at in by_start.get(start).into_iter().flatten() {
                let (what, needle) = &needles[*at];
                if bytes[offset..].starts_with(needle) {
                    figures.found.entry(name.clone()).or_default().insert(what.clone());
                }
            }
        }
    }
    figures
}

/// Every file below a folder, but for those whose path ends so: the places where secrets belong.
///
/// # Errors
/// What the system said.
pub fn files(folder: &Path, but: &[&str]) -> std::io::Result<Vec<Sink>> {
    let mut sinks = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.to_string_lossy().into_owned();
        if path.is_dir() {
            sinks.extend(files(&path, but)?);
        } else if !but.iter().any(|end| name.ends_with(end)) {
            sinks.push(Sink { name, bytes: std::fs::read(&path)? });
        }
    }
    Ok(sinks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The search finds a secret in each form, wherever it begins; without it nothing else here would mean anything.
    #[test]
    fn a_secret_is_found_in_every_form() {
        let secret = Secret::new("canary", (1..=32).map(|byte: u8| byte.wrapping_mul(37)).collect::<Vec<u8>>());
        let digits = |bytes: &[u8]| Base64Unpadded::encode_string(bytes);
        let before = |count: usize| [&b"xyz"[..count], &secret.bytes].concat();
        let said = [
            format!("{:?}", secret.bytes),
            serde_json::to_string(&secret.bytes).expect("a list"),
            hex::encode(&secret.bytes),
            hex::encode_upper(&secret.bytes),
            hex::encode(secret.bytes.iter().rev().copied().collect::<Vec<u8>>()),
            digits(&before(0)),
            digits(&before(1)),
            digits(&before(2)).replace('+', "-").replace('/', "_"),
            format!("b\"{}\"", secret.bytes.escape_ascii()),
            serde_json::to_string(&secret.bytes.escape_ascii().to_string()).expect("a string"),
        ];
        for text in said {
            let sink = Sink { name: "said".into(), bytes: format!("before {text} after").into_bytes() };
            assert_eq!(search(&[sink], std::slice::from_ref(&secret)).found.len(), 1, "{text}");
        }
        let raw = [&[1, 2, 3][..], &secret.bytes[..16], &[9]].concat();
        assert_eq!(search(&[Sink { name: "raw".into(), bytes: raw }], std::slice::from_ref(&secret)).found.len(), 1);
        let other = Sink { name: "other".into(), bytes: hex::encode(&secret.bytes[1..9]).into_bytes() };
        assert!(search(&[other], &[secret]).found.is_empty());
    }
}
