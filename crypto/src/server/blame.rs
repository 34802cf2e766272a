//! What a message that was not admitted proves against its sender. §4.1, §8
//!
//! A refused message, or other bytes than those admitted before: by itself or together with them it may be evidence. What
//! is found at close (wrong openings, wrong answers) is named in `server/open.rs` and `server/unmask.rs`.

use super::{Assembly, Effect, PhaseKind, RoundFacts};
use crate::ids::ClientId;
use crate::messages::{Evidence, KeyAdvertisement};
use crate::primitives::codec::Reader;
use crate::primitives::labels;
use crate::primitives::signature::Signed;
use crate::rules::Rejection;

/// Whether `client` itself signed what it sent for `phase`, whatever is wrong with it: only then the rest is worth a look
/// into the store. `assembly` is there from the share phase on.
pub fn is_signed_by(
    facts: &RoundFacts,
    assembly: Option<&Assembly>,
    phase: PhaseKind,
    client: ClientId,
    message: &[u8],
) -> bool {
    if phase == PhaseKind::Advertising {
        let Ok(advert) = KeyAdvertisement::decode(message) else { return false };
        let judged = advert.check(&facts.header, &facts.revoked);
        return advert.client() == client && matches!(judged, Ok(_) | Err(Rejection::RepeatedKey));
    }
    let (Some(signed), Some(assembly)) = (statement_of(phase, message), assembly) else { return false };
    let Ok((_, member)) = assembly.find(client) else { return false };
    signed.statement().context == facts.chain.context
        && signed.statement().sender == client.into()
        && signed.is_by(&member.identity)
}

/// The fault that a message proves, if it does. It must be [signed by](is_signed_by) its sender; `refused` says why it was
/// refused, if it was; `leaf` is the sender's admitted advert; `admitted` is what it sent for this phase before, as stored.
pub fn blame(
    phase: PhaseKind,
    client: ClientId,
    refused: Option<&Rejection>,
    leaf: Option<&[u8]>,
    admitted: Option<&[u8]>,
    message: &[u8],
) -> Option<Effect> {
    let fault = |rule, evidence: Evidence| Effect::Fault { client, rule, evidence: evidence.encode() };
    if let Some(rejection) = refused.filter(|rejection| rejection.is_proved_by_message()) {
        let leaf = if phase == PhaseKind::Advertising { message } else { leaf? };
        let evidence = Evidence::Message { leaf: leaf.to_vec(), message: message.to_vec() };
        return Some(fault(rejection.rule()?.0, evidence));
    }
    let leaf = leaf?;
    let key = KeyAdvertisement::decode(leaf).ok()?.certificate().body().identity;
    let (first, second) = (statement_of(phase, admitted?)?, statement_of(phase, message)?);
    if !first.contradicts(&second) || !second.is_by(&key) {
        return None;
    }
    let rule = match phase {
        PhaseKind::Masking => 19,
        PhaseKind::Confirming => 23,
        _ => 3,
    };
    Some(fault(rule, Evidence::Contradiction { leaf: leaf.to_vec(), first: first.encode(), second: second.encode() }))
}

/// The client's statement in a message, without what is attached.
fn statement_of(phase: PhaseKind, message: &[u8]) -> Option<Signed> {
    let label = match phase {
        PhaseKind::Advertising => return Some(KeyAdvertisement::decode(message).ok()?.advert().clone()),
        PhaseKind::Sharing => labels::SHARE,
        PhaseKind::Acknowledging => labels::ACKNOWLEDGEMENT,
        PhaseKind::Opening => labels::OPENING,
        PhaseKind::Masking => labels::UPLOAD,
        PhaseKind::Confirming => labels::CONFIRM,
        PhaseKind::Unmasking => labels::ANSWER,
        PhaseKind::Published | PhaseKind::Abandoned => return None,
    };
    Signed::read(&mut Reader::new(message), label).ok()
}
