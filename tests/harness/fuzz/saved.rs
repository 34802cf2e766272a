//! States that come back from disk or database altered. They are sealed or behind the database's walls: altered ones mean a
//! damaged disk or a defect of ours; they are refused in words, and never end in a panic later on.

use std::path::Path;

use veilsum_client::saved::{Journal, Notes};
use veilsum_crypto::client::{Resumed, Sealed};
use veilsum_crypto::primitives::codec::{Reader, write_prefixed};
use veilsum_crypto::primitives::seal::SavingKey;
use veilsum_crypto::server::{Phase, PhaseKind, accept, close};
use veilsum_crypto::testing::{SeededRng, now};

use super::Target;
use super::edit::{Input, edit};
use super::stage::{OPEN_PHASES, STAGE};

/// Saved states of clients.
pub const CLIENT: Target = Target {
    name: "saved-client",
    what: "a client's sealed state with other contents: it is refused, or every later step works or refuses",
    run: run_client,
    seeds: client_seeds,
    words: &[],
    portion: 4,
    finish: super::nothing,
};

/// Stored phases of the aggregator.
pub const SERVER: Target = Target {
    name: "saved-server",
    what: "a stored phase with other contents: it is refused, or accepting and closing work on it",
    run: run_server,
    seeds: server_seeds,
    words: &[],
    portion: 3,
    finish: super::nothing,
};

/// The journal file of the client library.
pub const JOURNAL: Target = Target {
    name: "journal",
    what: "the journal file with other bytes, sealed or not: it is refused in words or read as it was written",
    run: run_journal,
    seeds: journal_seeds,
    words: &["veilsum state v1"],
    portion: 2,
    finish: super::nothing,
};

/// `u8 state, u8 how`, then edits. how: 0 of the whole plaintext | 1 of the phase, lengths mended | 2 of the message.
fn run_client(bytes: &[u8]) {
    let stage = &*STAGE;
    let mut input = Input::new(bytes);
    let state = input.of(&stage.states);
    let mut plain = state.plain.clone();
    match input.below(3) {
        0 => edit(&mut plain, &stage.donors(), &mut input),
        which => {
            let mut reader = Reader::new(&plain[2..]);
            let mut phase = reader.prefixed("phase").expect("as written").to_vec();
            let mut message = reader.prefixed("message").expect("as written").to_vec();
            edit(if which == 1 { &mut phase } else { &mut message }, &stage.donors(), &mut input);
            plain.truncate(2);
            write_prefixed(&mut plain, &phase);
            write_prefixed(&mut plain, &message);
        }
    }
    let Ok(resumed) = stage.resume(state.number, &plain) else { return };
    go_on(resumed, &state.served);
    let Ok(resumed) = stage.resume(state.number, &plain) else { unreachable!("it opened once") };
    stage.world.turn(resumed.give_up());
}

/// Takes the steps that are left, as far as honest answers lead.
fn go_on(resumed: Resumed, served: &[Vec<u8>]) {
    let stage = &*STAGE;
    let mut rng = SeededRng::new(4, 0);
    let (first, rest) = served.split_first().map_or((&[][..], &[][..]), |(first, rest)| (first.as_slice(), rest));
    match resumed {
        Resumed::Enrolled(_) => {}
        Resumed::AwaitingRoster(phase, _) => {
            let Ok(evidence) = phase.examine(first, now(), &mut rng) else { return };
            let leaves = evidence.wanted().iter().copied().zip(rest.iter().cloned()).collect();
            let (phase, _) = stage.world.turn(phase.pin(&evidence));
            if let Ok(turn) = phase.share(evidence, &leaves, &mut rng) {
                stage.world.turn(turn);
            }
        }
        Resumed::AwaitingMail(phase, _) => {
            if let Ok(turn) = phase.acknowledge(served) {
                stage.world.turn(turn);
            }
        }
        Resumed::ReadyToMask(mut phase, _) => {
            let complaints = stage.aggregator.bodies(PhaseKind::Acknowledging);
            phase.take_openings(&stage.aggregator.bodies(PhaseKind::Opening));
            let Ok(opened) = phase.open(&complaints) else { return };
            let phase = match opened {
                veilsum_crypto::client::Opened::Nothing(phase) => phase,
                veilsum_crypto::client::Opened::Opening(turn) => stage.world.turn(turn).0,
            };
            let Ok(turn) = phase.pin(first) else { return };
            let (phase, _) = stage.world.turn(turn);
            // A damaged state may say any variance; the sampler has a reach.
            let update = stage.world.update(1.0, 0, phase.share_variance().min(1 << 20));
            if let Ok(turn) = phase.mask(first, update) {
                stage.world.turn(turn);
            }
        }
        Resumed::AwaitingSurvivors(phase, _) => {
            if let Ok(turn) = phase.confirm(first, rest) {
                stage.world.turn(turn);
            }
        }
        Resumed::ReadyToUnmask(phase, _) => {
            if let Ok(turn) = phase.unmask(served) {
                stage.world.turn(turn);
            }
        }
        Resumed::AwaitingResult(phase, _) => {
            if let Ok((_, turn)) = phase.verify(first) {
                stage.world.turn(turn);
            }
        }
    }
}

fn client_seeds() -> Vec<Vec<u8>> {
    let states = 0..STAGE.states.len() as u8;
    states.flat_map(|state| (0..3).map(move |how| vec![state, how, 1, 1, 200, 0, 3])).collect()
}

/// `u8 phase`, then edits of its stored bytes.
fn run_server(bytes: &[u8]) {
    let stage = &*STAGE;
    let facts = &stage.world.facts;
    let mut input = Input::new(bytes);
    let kind = *input.of(&PhaseKind::ALL[..8]);
    let mut stored = stage.phases[&kind].encode();
    edit(&mut stored, &stage.donors(), &mut input);
    let Ok(phase) = Phase::decode(&stored, facts) else { return };
    assert!(phase.encode() == stored, "one encoding a phase");
    phase.enough(8);
    let kind = phase.kind();
    if let Some(messages) = stage.messages.get(&kind) {
        for (client, message) in messages.iter().take(2) {
            let _ = accept(facts, &phase, kind, *client, message);
        }
    }
    close(facts, phase, stage.received(kind), [7; 32]);
}

fn server_seeds() -> Vec<Vec<u8>> {
    let phases = 0..=OPEN_PHASES.len() as u8;
    phases.flat_map(|phase| [vec![phase, 0], vec![phase, 1, 1, 9, 0, 3], vec![phase, 1, 0x81, 9, 0, 3]]).collect()
}

/// A folder for one execution. In memory where the system has such a place: a campaign writes millions of small files.
pub(super) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

/// `u8 how`, then edits: 0 of the sealed file | 1 of the plaintext, sealed again | 2 the bytes as they stand, sealed.
fn run_journal(bytes: &[u8]) {
    let key = || SavingKey::from_bytes([6; 32]);
    let mut input = Input::new(bytes);
    let how = input.below(3);
    let mut plain = journal_plain();
    if how == 1 {
        edit(&mut plain, &STAGE.donors(), &mut input);
    } else if how == 2 {
        plain = input.rest().to_vec();
    }
    let mut file = key().seal(&mut SeededRng::new(5, 0), &plain);
    if how == 0 {
        edit(&mut file, &[], &mut input);
    }
    let folder = scratch();
    let path = folder.path().join("state");
    std::fs::write(&path, &file).expect("room");
    let journal = Journal::open(&path, key()).expect("nobody else holds it");
    match journal.read() {
        Ok(None) => panic!("there is a file"),
        Ok(Some((notes, phase))) => {
            let mut again = b"veilsum state v1".to_vec();
            write_prefixed(&mut again, &notes.header);
            write_prefixed(&mut again, &notes.roster);
            again.extend_from_slice(&phase);
            assert!(again == plain, "read as it was written");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn journal_plain() -> Vec<u8> {
    let stage = &*STAGE;
    let mut plain = b"veilsum state v1".to_vec();
    let Notes { header, roster } = Notes { header: stage.world.header(), roster: vec![1, 2, 3] };
    write_prefixed(&mut plain, &header);
    write_prefixed(&mut plain, &roster);
    let Sealed(sealed) = Sealed(stage.world.saving.seal(&mut SeededRng::new(5, 1), &stage.states[0].plain));
    plain.extend(sealed);
    plain
}

fn journal_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        (0..2).flat_map(|how| (0..10).map(move |kind| vec![how, 1, kind, 20, 0, 1])).collect();
    seeds.push([&[2], &journal_plain()[..]].concat());
    seeds
}
