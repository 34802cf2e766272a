//! Exports that were changed, cut, reordered, merged, or made by an operator that lies.

use std::ops::Range;

use veilsum_crypto::audit::export::List;
use veilsum_crypto::audit::{Export, Outcome, Pins, Section, audit_bytes};
use veilsum_crypto::ids::*;
use veilsum_crypto::messages::Bitmap;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::testing::*;

use crate::made::*;
use crate::stage::*;

/// Where each section stands in the file, read by the text of docs/wire.md §13 and by nothing of the codec.
fn places(bytes: &[u8]) -> Vec<(Section, Range<usize>)> {
    const BEGINNING: usize = 1 + 16 + 2;
    let (mut places, mut at) = (vec![(Section::Beginning, 0..BEGINNING)], BEGINNING);
    for section in Section::ALL {
        assert_eq!(bytes[at], section as u8);
        let length = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().expect("four")) as usize;
        places.push((section, at..at + 5 + length));
        at += 5 + length;
    }
    assert_eq!(at, bytes.len());
    places
}

/// What is not signed as such is tried byte by byte.
fn is_tried_whole(section: Section) -> bool {
    use Section::{Beginning, Checkpoint, Growth, Salt};
    matches!(section, Beginning | Salt | Checkpoint | Growth)
}

/// C-68: whatever byte is changed, the audit fails and names the section that holds it. `VEILSUM_FLIPS=all` tries every byte
/// with every bit; otherwise every byte of what nobody signed, and a sample of the rest.
#[test]
fn a_changed_byte_is_found_and_the_section_that_holds_it_is_named() {
    let all = std::env::var("VEILSUM_FLIPS").is_ok_and(|value| value == "all");
    let (export, pins) = released(false); // with evidence, an opening, a lapsed round, a revocation list
    let bytes = export.encode();
    assert!(audit_bytes(&bytes, &pins).holds());
    let mut chance = [0; 8];
    rand_core::Rng::fill_bytes(&mut os_rng(), &mut chance);
    let seed = u64::from_le_bytes(chance);
    println!("seed {seed}");
    let mut tried = 0;
    for (section, range) in places(&bytes) {
        let stride = if all || is_tried_whole(section) { 1 } else { 1 + range.len() / 40 };
        for at in range.clone().skip(seed as usize % stride).step_by(stride).chain(range.start..range.start + 5) {
            let bits = if all { 0..8 } else { (at as u64 ^ seed) as u32 % 8..(at as u64 ^ seed) as u32 % 8 + 1 };
            for bit in bits {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let report = audit_bytes(&changed, &pins);
                let Some(check) = report.failure() else {
                    panic!("byte {at}, bit {bit}, of {section}: nothing was found\n{report}")
                };
                assert_eq!(check.section, section, "byte {at}, bit {bit}, of {section}:\n{report}");
                tried += 1;
            }
        }
    }
    println!("{tried} changes of {} bytes, each found and its section named", bytes.len());
}

fn list_of(export: &mut Export, section: Section) -> Option<&mut List> {
    Some(match section {
        Section::Leaves => &mut export.leaves,
        Section::Shares => &mut export.shares,
        Section::Acknowledgements => &mut export.acknowledgements,
        Section::Openings => &mut export.openings,
        Section::Uploads => &mut export.uploads,
        Section::Confirms => &mut export.confirms,
        _ => return None,
    })
}

/// C-69: an export that lacks a message, a statement, an entry or a whole section does not pass.
#[test]
fn an_export_that_was_cut_is_refused() {
    let (export, pins) = released(false);
    let mut cut = 0;
    for section in Section::ALL {
        let Some(list) = list_of(&mut export.clone(), section).cloned() else { continue };
        for leaf in list.keys().copied() {
            let mut less = export.clone();
            list_of(&mut less, section).expect("a list").remove(&leaf);
            let report = report(&less, &pins);
            let spare = section == Section::Confirms && less.confirms.len() >= 5;
            assert_eq!(report.holds(), spare, "without {section} of leaf {}: {report}", leaf.0);
            cut += 1;
        }
    }
    for alter in [
        (|export: &mut Export| export.revocations.clear()) as fn(&mut Export),
        |export| export.roster.clear(),
        |export| export.core.clear(),
        |export| export.survivors.clear(),
        |export| export.result.clear(),
        |export| export.evidence.clear(),
        |export| drop(export.ledger.pop()),
        |export| drop(export.ledger.remove(0)),
        |export| export.ledger.clear(),
        |export| drop(export.log.pop()),
        |export| drop(export.log.remove(3)),
        |export| export.log.clear(),
        |export| export.growth.truncate(1),
        |export| export.checkpoint.clear(),
        |export| export.leaves.clear(),
        |export| export.confirms.clear(),
    ] {
        let mut less = export.clone();
        alter(&mut less);
        let report = report(&less, &pins);
        assert!(!report.holds(), "{report}");
        cut += 1;
    }
    println!("{cut} cuts, each refused");
}

/// C-69: a section of another round of the same clients, operator and log does not fit in.
#[test]
fn an_export_merged_from_two_rounds_is_refused() {
    let (export, pins) = released(true);
    // The same keys and clients, played again: every other statement is another.
    let (other, _) = released(true);
    for section in Section::ALL {
        let mut merged = export.clone();
        match section {
            Section::Header => merged.header.clone_from(&other.header),
            Section::Revocations => merged.revocations.clone_from(&other.revocations),
            Section::Roster => merged.roster.clone_from(&other.roster),
            Section::Leaves => merged.leaves.clone_from(&other.leaves),
            Section::Shares => merged.shares.clone_from(&other.shares),
            Section::Acknowledgements => merged.acknowledgements.clone_from(&other.acknowledgements),
            Section::Openings => merged.openings.clone_from(&other.openings),
            Section::Core => merged.core.clone_from(&other.core),
            Section::Uploads => merged.uploads.clone_from(&other.uploads),
            Section::Survivors => merged.survivors.clone_from(&other.survivors),
            Section::Confirms => merged.confirms.clone_from(&other.confirms),
            Section::Result => merged.result.clone_from(&other.result),
            Section::Ledger => merged.ledger.clone_from(&other.ledger),
            Section::Checkpoint => merged.checkpoint.clone_from(&other.checkpoint),
            Section::Log => merged.log.clone_from(&other.log),
            Section::Beginning | Section::Evidence | Section::Salt | Section::Growth => continue,
        }
        // A checkpoint of the same log, signed too early or too late, is itself good: what is proved under it is not.
        // Of a log section none of whose paths fit, nobody can say whether it or the salt is another round's.
        let found_in = match section {
            Section::Checkpoint => Section::Growth,
            Section::Log => Section::Salt,
            other => other,
        };
        let why = fails(&merged, &pins, found_in);
        assert!(why.len() > 10, "{section}: {why}");
    }
}

/// A round, and the key of its operator, who will lie.
fn honest() -> (IdentitySecretKey, Export, Pins) {
    let mut stage = Stage::twelve();
    let clients = stage.advertise();
    let clients = stage.play.share(clients);
    let clients = stage.play.acknowledge(clients);
    let mut clients = stage.play.mask(clients);
    lose(&mut clients, 1);
    let clients = stage.play.confirm(clients);
    stage.play.unmask(clients);
    let operator = IdentitySecretKey::from_bytes(&stage.play.world.aggregator.to_bytes());
    let (export, pins) = stage.export();
    (operator, export, pins)
}

/// C-58: what the operator signs, it must have from its clients: another core, list, roster or result under its own valid
/// signature is found.
#[test]
fn statements_that_the_clients_messages_do_not_lead_to_are_found_though_they_are_signed() {
    let (operator, export, pins) = honest();
    assert!(report(&export, &pins).holds());
    let smaller = |body: &mut Vec<u8>| {
        let set = Bitmap::of(12, (0..11).map(LeafIndex));
        let mut bytes = Vec::new();
        set.write(&mut bytes);
        body[..bytes.len()].copy_from_slice(&bytes);
    };
    let mut lie = export.clone();
    lie.core = signed_anew(&operator, &export.core, labels::CORE, |statement| smaller(&mut statement.body));
    assert!(fails(&lie, &pins, Section::Core).contains("another core"));

    let mut lie = export.clone();
    lie.survivors = signed_anew(&operator, &export.survivors, labels::SURVIVORS, |statement| {
        smaller(&mut statement.body);
        statement.body[8] ^= 1; // and one of them, so that it is not the honest list again
    });
    fails(&lie, &pins, Section::Survivors);
    let mut lie = export.clone();
    lie.survivors = signed_anew(&operator, &export.survivors, labels::SURVIVORS, |statement| {
        *statement.body.last_mut().expect("root") ^= 1
    });
    assert!(fails(&lie, &pins, Section::Survivors).contains("another survivor list"));

    for (at, what) in [(4, "k"), (6, "t"), (8, "h"), (12, "nonce"), (44, "tree root")] {
        let mut lie = export.clone();
        lie.roster = signed_anew(&operator, &export.roster, labels::ROSTER, |statement| statement.body[at] ^= 1);
        let report = report(&lie, &pins);
        assert!(!report.holds(), "another {what}");
    }
    for at in [0, 4] {
        let mut lie = export.clone();
        lie.result = signed_anew(&operator, &export.result, labels::RESULT, |statement| statement.body[at] ^= 1);
        fails(&lie, &pins, Section::Result);
    }
    // A header below its own least ring, signed.
    let mut lie = export.clone();
    lie.header = signed_anew(&operator, &export.header, labels::HEADER, |statement| statement.body[250] = 8);
    assert!(fails(&lie, &pins, Section::Header).contains("ring_bits"));
    // A cheaper history: an earlier header with more noise than was promised is another header, and no lapse is proved by it.
    let mut lie = export.clone();
    lie.ledger[1].header =
        signed_anew(&operator, &export.ledger[1].header, labels::HEADER, |statement| statement.body[276] ^= 1);
    assert!(fails(&lie, &pins, Section::Ledger).contains("lapsed"));
    let mut lie = export.clone();
    lie.ledger[0].lapse.clone_from(&export.ledger[1].lapse);
    assert!(fails(&lie, &pins, Section::Ledger).contains("lapsed"));
    let mut lie = export.clone();
    lie.ledger.swap(0, 1);
    fails(&lie, &pins, Section::Ledger);
}

/// C-58, R-09: one key under two names, in leaves that nobody opened, is found in the whole roster.
#[test]
fn a_roster_with_one_key_twice_is_found_though_everything_is_signed() {
    let mut stage = Stage::twelve();
    let (one, mut two) = (Liar::new(&stage.play.world, 3), Liar::new(&stage.play.world, 7));
    two.keys.channel = one.keys.channel;
    let leaves = [(one.client(), one.advert(&stage.play.world)), (two.client(), two.advert(&stage.play.world))];
    // The double's leaf slips past the store's claims here: `Aggregator` of the tests keeps none.
    stage.advertise_with(&leaves);
    let (export, pins) = stage.export();
    assert!(fails(&export, &pins, Section::Leaves).contains("R-09"));
}

/// C-69: sections in another order, or twice, are refused by name.
#[test]
fn a_reordered_file_is_refused_in_words() {
    let (export, pins) = released(true);
    let bytes = export.encode();
    let places = places(&bytes);
    for pair in places[1..].windows(2) {
        let [(first, one), (_, two)] = pair else { unreachable!() };
        let swapped = [&bytes[..one.start], &bytes[two.clone()], &bytes[one.clone()], &bytes[two.end..]].concat();
        let report = audit_bytes(&swapped, &pins);
        let failure = report.failure().expect("it is refused");
        assert_eq!((failure.name, failure.section), ("form", *first));
        assert!(matches!(&failure.outcome, Outcome::Failed(why) if why.contains("order")));
        assert!(report.checks[1..].iter().all(|check| check.outcome == Outcome::NotReached));
    }
}
