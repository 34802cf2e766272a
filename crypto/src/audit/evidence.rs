//! Evidence: each item is signed by whom it names, and breaks the rule that it names. docs/protocol.md §4.1, §9 step 13
//!
//! A message that was refused is judged once more by the function that refused it. The other kinds are compared here.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::export::{Export, ExportError, Named, Section};
use super::replay::Played;
use super::report::Figures;
use super::wrong;
use crate::ids::{ClientId, Digest, LeafIndex};
use crate::messages::acknowledgement::shares_digest;
use crate::messages::key_advertisement::leaf_digest;
use crate::messages::{Acknowledgement, Answer, EdgeReport, Evidence, KeyAdvertisement, MailItem, Opening, answer};
use crate::primitives::agreement::Point;
use crate::primitives::labels::{self, Label};
use crate::primitives::signature::{IdentityPublicKey, Signed};
use crate::server::{self, PhaseKind, StatementKind};

/// All of it; whoever is named by closing a phase again must be there.
pub(super) fn all(export: &Export, played: &Played, figures: &mut Figures) -> Result<Option<()>, ExportError> {
    let section = Section::Evidence;
    for named in &export.evidence {
        convicts(played, named)
            .or_else(|why| wrong(section, format!("against {} by R-{:02}: {why}", named.client, named.rule)))?;
    }
    for (phase, client) in &played.named {
        let is_there = |named: &&Named| named.phase == *phase as u8 && named.client == *client;
        if !export.evidence.iter().any(|named| is_there(&named)) {
            return wrong(section, format!("{client} is named by what it opened, and no evidence against it is there"));
        }
    }
    figures.number("named", export.evidence.len());
    Ok((!export.evidence.is_empty()).then_some(()))
}

/// Whether an item proves what it says.
fn convicts(played: &Played, named: &Named) -> Result<(), String> {
    let phase = PhaseKind::from_number(named.phase).filter(|phase| !phase.is_over()).ok_or("there is no such phase")?;
    let evidence = Evidence::decode(&named.evidence).map_err(|error| error.to_string())?;
    if let Evidence::Message { leaf, message } = &evidence {
        return breaks_by_itself(played, named, phase, leaf, message);
    }
    let (Evidence::Contradiction { leaf, .. } | Evidence::Opening { leaf, .. } | Evidence::Answer { leaf, .. }) =
        &evidence
    else {
        return Err("it is of no kind".to_string());
    };
    let key = identity(played, named.client, phase, leaf)?;
    match &evidence {
        Evidence::Contradiction { first, second, .. } => contradicts(played, named, phase, &key, [first, second]),
        Evidence::Opening { opening, mail, .. } if (phase, named.rule) == (PhaseKind::Opening, 16) => {
            opened_wrongly(played, named.client, &key, opening, mail)
        }
        Evidence::Answer { answer, acknowledgement, roots, dealer, mail, .. }
            if (phase, named.rule) == (PhaseKind::Unmasking, 29) =>
        {
            let given = Given { answer, acknowledgement, roots, dealer, mail };
            answered_wrongly(played, named.client, &key, &given)
        }
        _ => Err("this kind of evidence is of another phase or rule".to_string()),
    }
}

/// The same function says the same of it again: a rule that the message breaks under its sender's own signature.
fn breaks_by_itself(
    played: &Played,
    named: &Named,
    phase: PhaseKind,
    leaf: &[u8],
    message: &[u8],
) -> Result<(), String> {
    if phase == PhaseKind::Advertising {
        if leaf != message {
            return Err("in advertise the message is the leaf itself".to_string());
        }
    } else {
        identity(played, named.client, phase, leaf)?;
    }
    let standing = played.phases.get(&phase).ok_or("the round did not come so far")?;
    match server::accept(&played.facts, standing, phase, named.client, message) {
        Err(rejection)
            if rejection.is_proved_by_message() && rejection.rule().map(|rule| rule.0) == Some(named.rule) =>
        {
            Ok(())
        }
        Err(rejection) => Err(format!("what it proves is another thing: {rejection}")),
        Ok(_) => Err("an honest client could have sent it".to_string()),
    }
}

/// The key under which a client signs, from its leaf: the one on the roster, from share on.
fn identity(played: &Played, client: ClientId, phase: PhaseKind, leaf: &[u8]) -> Result<IdentityPublicKey, String> {
    let advert = KeyAdvertisement::decode(leaf).map_err(|error| format!("the leaf: {error}"))?;
    if advert.client() != client {
        return Err("the leaf is another client's".to_string());
    }
    let member = advert.check(&played.facts.header, &played.facts.revoked);
    let member = member.map_err(|rejection| format!("the leaf: {rejection}"))?;
    if phase != PhaseKind::Advertising && leaf_at(played, client, leaf).is_none() {
        return Err("the leaf is not the one on the roster".to_string());
    }
    Ok(member.identity)
}

/// Where a client stands, if the roster has this very leaf.
fn leaf_at(played: &Played, client: ClientId, leaf: &[u8]) -> Option<LeafIndex> {
    let roster = played.assembly.as_ref()?.roster();
    let at = roster.leaf_of(client)?;
    (roster.members()[at.index()].1 == leaf_digest(leaf)).then_some(at)
}

/// of two statements an honest client signs one.
fn contradicts(
    played: &Played,
    named: &Named,
    phase: PhaseKind,
    key: &IdentityPublicKey,
    statements: [&Vec<u8>; 2],
) -> Result<(), String> {
    let (label, rule) = match phase {
        PhaseKind::Advertising => (labels::ADVERT, 3),
        PhaseKind::Sharing => (labels::SHARE, 3),
        PhaseKind::Acknowledging => (labels::ACKNOWLEDGEMENT, 3),
        PhaseKind::Opening => (labels::OPENING, 3),
        PhaseKind::Masking => (labels::UPLOAD, 19),
        PhaseKind::Confirming => (labels::CONFIRM, 23),
        _ => (labels::ANSWER, 3),
    };
    if named.rule != rule {
        return Err(format!("two statements of this phase break R-{rule:02}"));
    }
    let read = |bytes: &[u8]| signed(bytes, label, named.client, key).map_err(|why| why.to_string());
    let (first, second) = (read(statements[0])?, read(statements[1])?);
    if first.statement().context != played.facts.chain.context {
        return Err("the statements are of another round".to_string());
    }
    if first.contradicts(&second) { Ok(()) } else { Err("the statements do not contradict each other".to_string()) }
}

fn signed(bytes: &[u8], label: Label, client: ClientId, key: &IdentityPublicKey) -> Result<Signed, String> {
    let signed = Signed::decode(bytes, label).map_err(|error| error.to_string())?;
    if signed.statement().sender != client.into() || !signed.is_by(key) {
        return Err("a statement is not signed by whom it names".to_string());
    }
    Ok(signed)
}

/// a share that does not match the point which its dealer had signed.
fn opened_wrongly(
    played: &Played,
    dealer: ClientId,
    key: &IdentityPublicKey,
    opening: &[u8],
    mail: &[u8],
) -> Result<(), String> {
    let degree = played.assembly().params().degree;
    let opening = Opening::decode(opening, degree).map_err(|error| error.to_string())?;
    let place = played.facts.chain.from_client(dealer, played.root(StatementKind::Roster));
    if !opening.signed().statement().stands_at(&place) || !opening.signed().is_by(key) {
        return Err("the opening is not signed by the dealer in this round".to_string());
    }
    let (edge, _) = edge_of(played, dealer, key, mail)?;
    let pair = opening.edges().get(&edge.holder).ok_or("the opening does not open this edge")?;
    if Point::of(&pair.masking) == edge.masking_point && Point::of(&pair.self_mask) == edge.self_mask_point {
        return Err("the opened shares match the signed points".to_string());
    }
    Ok(())
}

/// A dealer's signed edge, and the root of the share statement that signs it.
fn edge_of(
    played: &Played,
    dealer: ClientId,
    key: &IdentityPublicKey,
    mail: &[u8],
) -> Result<(crate::messages::Edge, Digest), String> {
    let assembly = played.assembly();
    let item = MailItem::decode(mail, assembly.params().degree).map_err(|error| error.to_string())?;
    let at = assembly.roster().leaf_of(dealer).ok_or("the dealer is not on the roster")?;
    let place = played.facts.chain.from_client(dealer, played.root(StatementKind::Roster));
    let holder = assembly.order().neighbours(at).iter().position(|leaf| *leaf == item.edge.holder);
    let holder = holder.ok_or("the edge is for nobody in the dealer's order")?;
    let is_signed = item.dealer == at
        && item.signed.statement().stands_at(&place)
        && item.signed.is_by(key)
        && item.edge_is_signed(assembly.params().degree, holder);
    if is_signed { Ok((item.edge, item.signed.root())) } else { Err("the dealer has not signed this edge".to_string()) }
}

/// The parts of evidence by R-29.
struct Given<'a> {
    answer: &'a [u8],
    acknowledgement: &'a [u8],
    roots: &'a [Digest],
    dealer: &'a [u8],
    mail: &'a [u8],
}

/// a share, of the kind that the survivors demand, that does not match what its holder had acknowledged as good.
fn answered_wrongly(
    played: &Played,
    holder: ClientId,
    key: &IdentityPublicKey,
    given: &Given<'_>,
) -> Result<(), String> {
    let (Some(core), Some(survivors)) = (&played.core, &played.survivors) else {
        return Err("the round has no survivors".to_string());
    };
    let (assembly, chain) = (played.assembly(), &played.facts.chain);
    let neighbours = assembly.order().neighbours(assembly.roster().leaf_of(holder).ok_or("nobody of the roster")?);
    let asked: Vec<_> = neighbours.iter().copied().filter(|leaf| core.members().has(*leaf)).collect();

    let answer = Answer::decode(given.answer, asked.len()).map_err(|error| error.to_string())?;
    let place = answer::place(chain, survivors.root(), holder);
    if !answer.signed().statement().stands_at(&place) || !answer.signed().is_by(key) {
        return Err("the answer is not signed by its holder in this round".to_string());
    }
    let report = Acknowledgement::decode(given.acknowledgement, assembly.params().degree);
    let report = report.map_err(|error| error.to_string())?;
    let place = chain.from_client(holder, played.root(StatementKind::Roster));
    if !report.signed().statement().stands_at(&place) || !report.signed().is_by(key) {
        return Err("the acknowledgement is not signed by the holder in this round".to_string());
    }
    let dealers = report.reported_on(&neighbours);
    if dealers.len() != given.roots.len() || shares_digest(given.roots.iter().copied()) != report.shares() {
        return Err("these share statements are not those that the holder acknowledged".to_string());
    }

    let advert = KeyAdvertisement::decode(given.dealer).map_err(|error| error.to_string())?;
    let dealer = advert.client();
    let at = leaf_at(played, dealer, given.dealer).ok_or("the dealer's leaf is not the one on the roster")?;
    let (edge, root) = edge_of(played, dealer, &assembly.member(at).identity, given.mail)?;
    let is_acknowledged = dealers.iter().zip(given.roots).any(|(of, signed)| *of == at && *signed == root);
    let is_good = neighbours.iter().zip(report.reports()).any(|(of, entry)| *of == at && *entry == EdgeReport::Good);
    if !(is_acknowledged && is_good) || assembly.roster().client(edge.holder) != holder {
        return Err("the holder has not acknowledged this very edge as good".to_string());
    }
    let share = asked.iter().zip(answer.shares()).find(|(of, _)| **of == at).and_then(|(_, share)| share.as_ref());
    let share = share.ok_or("the answer gives no share of this dealer")?;
    let point = if survivors.members().has(at) { edge.self_mask_point } else { edge.masking_point };
    if Point::of(share) == point { Err("the share matches the signed point".to_string()) } else { Ok(()) }
}
