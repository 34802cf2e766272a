//! Requests in form: ids, phases, queries and signed reads. docs/wire.md §8

use std::time::Duration;

use axum::http::{HeaderMap, Uri};
use veilsum_crypto::ids::{ClientId, RoundId};
use veilsum_crypto::messages::{KeyAdvertisement, ReadPermit};
use veilsum_crypto::server::PhaseKind;

use super::{Problem, WAIT_MAX};
use crate::round::overview::phase_word;
use crate::round::{Gone, RoundError, Rounds, View};
use crate::store::Store;

/// Digits of a signed read at most.
const PERMIT_DIGITS_MAX: usize = 8_000;

/// A round id in an address.
pub fn round(text: &str) -> Result<RoundId, Problem> {
    RoundId::from_hex(text).ok_or_else(|| Problem::unknown("round"))
}

/// A client id in an address.
pub fn client(text: &str) -> Result<ClientId, Problem> {
    ClientId::from_hex(text).ok_or_else(|| Problem::unknown("client"))
}

/// A phase in an address.
pub fn phase(text: &str) -> Result<PhaseKind, Problem> {
    let mut phases = PhaseKind::ALL.into_iter().filter(|phase| !phase.is_over());
    phases.find(|phase| phase_word(*phase) == text).ok_or_else(|| Problem::unknown("phase"))
}

/// A decimal number in its one form: digits only, no leading zero.
pub fn decimal(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// The parameters of a query: each known, none twice.
pub struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    /// Reads the query of an address.
    pub fn new(uri: &'a Uri, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for part in uri.query().unwrap_or("").split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if !known.contains(&name) || pairs.iter().any(|(seen, _)| *seen == name) {
                let list = known.join(", ");
                return Err(Problem::malformed(format!("query parameters are: {list}; each once; \"{name}\" is not")));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// A parameter as text.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(seen, _)| *seen == name).map(|(_, value)| *value)
    }

    /// A parameter as a number; absent: 0.
    pub fn number(&self, name: &str) -> Result<u64, Problem> {
        match self.get(name) {
            None => Ok(0),
            Some(text) => decimal(text)
                .ok_or_else(|| Problem::malformed(format!("{name} must be a decimal number, not \"{text}\""))),
        }
    }

    /// `wait`, ms, at most 30 s.
    pub fn wait(&self) -> Result<Duration, Problem> {
        Ok(Duration::from_millis(self.number("wait")?).min(WAIT_MAX))
    }
}

/// Who reads, by what right. R-35
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// A client of the round.
    Member(ClientId),
    /// The holder of a key that the operator pinned.
    Auditor,
}

/// who reads, and by what right. Checked before waiting.
pub async fn reader<S: Store>(
    rounds: &Rounds<S>,
    view: &View,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Reader, RoundError> {
    let forbidden = |why| RoundError::Forbidden { rule: 35, why };
    let digits = headers
        .get("veilsum-read")
        .and_then(|value| value.to_str().ok())
        .filter(|digits| digits.len() <= PERMIT_DIGITS_MAX)
        .ok_or(forbidden("this read needs one header Veilsum-Read: a signed read statement in hexadecimal"))?;
    let permit = hex::decode(digits)
        .ok()
        .filter(|bytes| hex::encode(bytes) == digits) // lower case only
        .and_then(|bytes| ReadPermit::decode(&bytes).ok())
        .ok_or(forbidden("Veilsum-Read is not a signed read statement in lower-case hexadecimal"))?;
    let reader = permit.reader();
    let is_signed_by = |key| match permit.permits(&target(uri), &view.facts.chain, key) {
        true => Ok(()),
        false => Err(RoundError::Forbidden {
            rule: 37,
            why: "Veilsum-Read is not signed by its sender for this target and round",
        }),
    };
    if let Some(key) = rounds.keys().auditors.iter().find(|key| ClientId::from(key.party()) == reader) {
        return is_signed_by(key).map(|()| Reader::Auditor);
    }
    let key = match view.phase.assembly() {
        Some(assembly) => assembly.find(reader).ok().map(|(_, member)| member.identity),
        None if view.gone().is_some() => return Err(RoundError::Gone(view.gone().unwrap_or(Gone::Erased))),
        // Before the roster is fixed: whose advert is admitted.
        None => rounds
            .bodies(view.round, PhaseKind::Advertising, Some(&[reader]))
            .await?
            .get(&reader)
            .and_then(|leaf| KeyAdvertisement::decode(leaf).ok())
            .map(|advert| advert.certificate().body().identity),
    };
    if key.is_none() && view.phase.assembly().is_none() {
        // Adverts are erased with a round that got no roster: whoever looked at an older view asks the newest one.
        let newest = rounds.reload(view.round).await?;
        if newest.version > view.version {
            return Box::pin(self::reader(rounds, &newest, uri, headers)).await;
        }
    }
    let key = key.ok_or(forbidden("only who takes part in this round, or a pinned auditor, may read this"))?;
    is_signed_by(&key).map(|()| Reader::Member(reader))
}

/// What a read statement is about: the path, and `i` where there is one; never `wait`.
fn target(uri: &Uri) -> String {
    let indices = uri.query().unwrap_or("").split('&').find(|part| part.starts_with("i="));
    match indices {
        Some(indices) => format!("{}?{indices}", uri.path()),
        None => uri.path().to_string(),
    }
}
