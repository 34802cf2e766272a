//! What holds in every phase.

use std::sync::Arc;

use curve25519_dalek::Scalar;
use curve25519_dalek::scalar::clamp_integer;
use sha2::{Digest as _, Sha512};
use veilsum_crypto::client::*;
use veilsum_crypto::ids::*;
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::messages::*;
use veilsum_crypto::primitives::agreement::{ChannelSecretKey, MailEdge};
use veilsum_crypto::primitives::codec::DecodeError;
use veilsum_crypto::primitives::context::RosterContext;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::prg::MaskKey;
use veilsum_crypto::primitives::seal::SavingKey;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed, Statement};
use veilsum_crypto::rules::{Rejection, ServerMisbehaved};
use veilsum_crypto::server::*;
use veilsum_crypto::testing::*;

use crate::stage::*;

/// genuine statements of the aggregator, spliced in from another round or another roster.
#[test]
fn r01_a_core_of_another_round_or_roster_stops_the_client() {
    let mut play = twelve();
    let mut clients = acknowledged(&mut play);
    let chain = play.world.facts.chain;
    let everybody = all_but(&play, &[]);
    let elsewhere = Chain { context: Digest([4; 32]), ..chain };
    let lies = [
        CoreSet::fix(everybody.clone(), &chain, Digest([4; 32])),
        CoreSet::fix(everybody.clone(), &elsewhere, assembly(&play).root()),
        CoreSet::fix(everybody, &Chain { aggregator: Party([4; 16]), ..chain }, assembly(&play).root()),
    ];
    for lie in lies {
        let (_, phase) = clients.pop_first().expect("twelve");
        let step = mask(&play, phase, &play.world.signed(lie.statement().clone()));
        assert_eq!(stopped(step), ServerMisbehaved::OutOfChain { statement: "core" });
    }
}

/// a core that somebody else signed in the aggregator's name.
#[test]
fn r01_a_core_that_the_pinned_key_did_not_sign_stops_the_client() {
    let mut play = twelve();
    let (_, phase) = acknowledged(&mut play).pop_first().expect("twelve");
    let forger = IdentitySecretKey::generate(&mut os_rng());
    let core = core_in_force(&play).statement().clone().sign(&forger).encode();
    assert_eq!(stopped(mask(&play, phase, &core)), ServerMisbehaved::Signature { statement: "core" });
}

/// what a client signed for another chain, another receiver or another name counts for nothing here.
#[test]
fn r01_a_client_statement_out_of_its_place_is_refused() {
    let mut play = twelve();
    let clients = play.advertise();
    let (replayed, other) = (client_id(0), client_id(1));
    let key = &member(&play, replayed).identity;
    let reports = vec![EdgeReport::Missing; assembly(&play).params().degree as usize];
    let elsewhere =
        Acknowledgement::sign(Digest([0; 32]), reports, &play.world.facts.chain, Digest([4; 32]), replayed, key)
            .encode();
    let clients = play.share(clients);
    assert_eq!(refused(play.aggregator.put(&play.world, replayed, &elsewhere)), Rejection::OutOfChain);

    let clients = play.acknowledge(clients);
    let clients = play.mask(clients);
    let mut clients = play.confirm(clients);
    let confirmations = play.aggregator.bodies(PhaseKind::Confirming);
    let (_, phase) = clients.pop_first().expect("twelve");
    let (_, answer) = play.world.turn(phase.unmask(&confirmations).expect("they agree"));
    let statement = Signed::decode(&answer, labels::ANSWER).expect("an answer").statement().clone();
    assert_eq!(statement.receiver, play.world.aggregator.public().party(), "an answer is for the aggregator alone");
    let to_all = Statement { receiver: Party::EVERYBODY, ..statement }.sign(&member(&play, replayed).identity);
    assert_eq!(refused(play.aggregator.put(&play.world, replayed, &to_all.encode())), Rejection::OutOfChain);
    assert_eq!(refused(play.aggregator.put(&play.world, other, &answer)), Rejection::OtherSender { named: other });
}

/// where the journal cannot be written the message does not exist; `persist` is the only way to it.
#[test]
fn r03_nothing_is_sent_that_is_not_written_down() {
    let world = World::new(small_params(12, 8));
    let header = world.header();
    let step = world.enrolled(0).advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng());
    let sent = step.expect("an honest header").persist(&world.saving, &mut os_rng(), |_| Err("the disk is full"));
    assert!(matches!(sent, Err("the disk is full")), "the message was handed out though nothing was written");
}

/// Takes a step, crashes after writing it down, and comes back with the phase that stood there.
macro_rules! crash {
    ($play:expr, $member:expr, $phase:ident, $step:expr) => {{
        let (disk, sent) = $play.world.written($step.expect("honest"));
        for (at, altered) in [(0, "the nonce"), (disk.len() / 2, "the phase"), (disk.len() - 1, "the tag")] {
            let mut disk = disk.clone();
            disk[at] ^= 1;
            let opened = Resumed::open(&$play.world.saving, &disk, &$member);
            assert!(matches!(opened, Err(OpenError::Unauthentic)), "{altered} was altered");
        }
        let stolen = Resumed::open(&SavingKey::from_bytes([6; 32]), &disk, &$member);
        assert!(matches!(stolen, Err(OpenError::Unauthentic)), "it opened under another key");
        match Resumed::open(&$play.world.saving, &disk, &$member) {
            Ok(Resumed::$phase(phase, again)) => {
                assert_eq!(again, sent, "a retry sends the identical bytes");
                if !sent.is_empty() {
                    $play.put($member.client(), &sent);
                    $play.put($member.client(), &again);
                }
                phase
            }
            other => panic!("{} does not stand there: {other:?}", stringify!($phase)),
        }
    }};
}

/// a client that loses its process in every phase sends the same bytes again, and the sum is exact. Its journal opens
/// under its own key only, and not if it was altered.
#[test]
fn r03_a_client_restarted_in_every_phase_stays_in_the_round() {
    let mut play = twelve();
    let number = 3;
    let me: Arc<Membership> = play.world.members[number].clone();
    let id = me.client();
    let header = play.world.header();
    let advert = play.world.enrolled(number).advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng());
    let phase = crash!(play, me, AwaitingRoster, advert);
    let sent = play.aggregator.received[&PhaseKind::Advertising][&id].clone();
    let others = advertise_with(&mut play, &[(id, sent)]);

    let roster = play.aggregator.served(&play.world, StatementKind::Roster);
    let leaves = play.aggregator.leaves((0..12).map(LeafIndex));
    let phase = crash!(play, me, AwaitingMail, deal(&play.world, phase, &roster, &leaves));
    let others = play.share(others);
    let mail = play.aggregator.mail[&id].clone();
    let phase = crash!(play, me, ReadyToMask, phase.acknowledge(&mail));
    let others = play.acknowledge(others);
    let core = play.aggregator.served(&play.world, StatementKind::Core);
    let update = play.world.update(1.0, 1, phase.share_variance());
    play.noised.insert(id, update.values().to_vec());
    let phase = crash!(play, me, AwaitingSurvivors, phase.mask(&core, update));
    let others = play.mask(others);
    let survivors = play.aggregator.served(&play.world, StatementKind::Survivors);
    let shown = uploads(&play, id);
    let phase = crash!(play, me, ReadyToUnmask, phase.confirm(&survivors, &shown));
    let others = play.confirm(others);
    let confirmations = play.aggregator.bodies(PhaseKind::Confirming);
    let phase = crash!(play, me, AwaitingResult, phase.unmask(&confirmations));
    let mut all = play.unmask(others);
    all.insert(id, phase);
    verify(&play, all);
}

/// state of another program version, or of no phase, is not taken for a phase.
#[test]
fn r03_a_saved_state_of_another_version_or_of_no_phase_is_refused() {
    let world = World::new(small_params(12, 8));
    let open = |plaintext: &[u8]| {
        let sealed = world.saving.seal(&mut os_rng(), plaintext);
        Resumed::open(&world.saving, &sealed, &world.members[0]).expect_err("no phase")
    };
    for version in [0, 3] {
        assert_eq!(open(&[version, 0, 0, 0, 0, 0, 0, 0, 0, 0]), OpenError::Version(version));
    }
    let none = DecodeError::NotCanonical { field: "phase", expected: "0 to 6" };
    assert_eq!(open(&[1, 7, 0, 0, 0, 0, 0, 0, 0, 0]), OpenError::Damaged(none));
    assert!(matches!(open(&[1, 1, 0, 0, 0, 0, 0, 0, 0, 0]), OpenError::Damaged(DecodeError::Short { .. })));
}

/// two messages under one GCM key and nonce give away their difference. A saved state draws its nonce anew; a mail key
/// has a direction, so that the two messages of a pair never share one. (`MailKey::seal` consumes the key.)
#[test]
fn r11_no_key_seals_twice_under_one_nonce() {
    let saving = SavingKey::from_bytes([5; 32]);
    let (one, two) = (saving.seal(&mut os_rng(), b"state"), saving.seal(&mut os_rng(), b"state"));
    assert_ne!(one[..12], two[..12], "the nonce of a saved state came twice");

    let (alice, bob) = (ChannelSecretKey::generate(&mut os_rng()), ChannelSecretKey::generate(&mut os_rng()));
    let context = RosterContext { header: Digest([1; 32]), roster: Digest([2; 32]) };
    let there =
        MailEdge { dealer: client_id(1), holder: client_id(2), dealer_key: alice.public(), holder_key: bob.public() };
    let back =
        MailEdge { dealer: client_id(2), holder: client_id(1), dealer_key: bob.public(), holder_key: alice.public() };
    let sealed = alice.mail_key(&bob.public(), there, &context).seal(&[7; 64], b"");
    assert!(bob.mail_key(&alice.public(), there, &context).open(&sealed, b"").is_some());
    assert!(bob.mail_key(&alice.public(), back, &context).open(&sealed, b"").is_none(), "one key in both directions");
}

/// a keystream used for two purposes reveals a difference: every use has its own label, every stream starts at zero.
#[test]
fn r32_each_kind_of_mask_has_a_label_and_a_stream_from_zero() {
    assert_ne!(labels::SELF_MASK.bytes(), labels::PAIR_MASK.bytes(), "one label for two kinds of mask");
    let mut vector = RingVector::zeros(2, RingBits::MAX);
    vector.add_mask(MaskKey::from_bytes([0; 16]));
    let block = 0x66e94bd4ef8a2c3b884cfa59ca342b2e_u128; // AES-128 of zeros under the zero key: GCM test case 1
    assert_eq!(vector.pack(), block.to_be_bytes(), "block 0 is that of counter 0");
}

/// a coordinate that the mask leaves out is read in clear, the last one (a weight, a counter) like any other.
#[test]
fn r32_masks_cover_every_coordinate() {
    let params = veilsum_crypto::params::RoundParams { ring_bits: RingBits::MAX, ..small_params(12, 9) };
    let mut play = Play::new(params);
    let clients = acknowledged(&mut play);
    let core = play.aggregator.served(&play.world, StatementKind::Core);
    for (_, phase) in clients.into_iter().take(2) {
        let update = play.world.update(1.0, 8, phase.share_variance());
        let plain = update.values().to_vec();
        let (_, body) = play.world.turn(phase.mask(&core, update).expect("an honest core"));
        let sent =
            MaskedInput::decode(&body, &params).expect("as sent").vector(&params).expect("in the ring").to_signed();
        assert!(plain.iter().zip(&sent).all(|(plain, sent)| plain != sent), "a coordinate went out in clear");
    }
}

/// participation is personal data: a signed permit opens one path of one round to its signer, and nothing else.
#[test]
fn r35_a_read_permit_opens_one_path_of_one_round_to_its_reader() {
    let world = World::new(small_params(12, 8));
    let chain = world.facts.chain;
    let reader = &world.members[0];
    let permit = ReadPermit::sign("/v1/rounds/7/roster", &chain, reader.client(), &reader.identity);
    let permit = ReadPermit::decode(&permit.encode()).expect("as signed");
    let own = reader.identity.public();
    assert!(permit.permits("/v1/rounds/7/roster", &chain, &own));
    assert!(!permit.permits("/v1/rounds/7/survivors", &chain, &own), "it opened another path");
    let elsewhere = Chain { context: Digest([4; 32]), ..chain };
    assert!(!permit.permits("/v1/rounds/7/roster", &elsewhere, &own), "it opened another round");
    let other = world.members[1].identity.public();
    assert!(!permit.permits("/v1/rounds/7/roster", &chain, &other), "it opened for another reader");
}

/// A signature of whoever holds `key` with the identity for R: it verifies wherever R is only compared, not judged.
fn with_small_order_commitment(statement: &Statement, key: &IdentitySecretKey) -> Vec<u8> {
    let mut commitment = [0; 32];
    commitment[0] = 1; // the identity of edwards25519
    let expanded: [u8; 64] = Sha512::digest(*key.to_bytes()).into();
    let half = expanded[..32].try_into().expect("32 bytes");
    let secret = Scalar::from_bytes_mod_order(clamp_integer(half));
    let bytes = statement.encode();
    let challenge = Sha512::new_with_prefix(commitment).chain_update(key.public().as_bytes()).chain_update(&bytes);
    let response = Scalar::from_hash(challenge) * secret;
    [&bytes[..], &commitment, response.as_bytes()].concat()
}

/// where two verifiers disagree on one signature the server chooses who sees which. One predicate, the strict one.
#[test]
fn r37_a_signature_that_only_lax_verifiers_accept_is_refused() {
    let mut play = twelve();
    let clients = play.advertise();
    play.share(clients);
    let holder = client_id(4);
    let honest = acknowledgement(&play, holder, |_| EdgeReport::Good);
    let statement = Signed::decode(&honest, labels::ACKNOWLEDGEMENT).expect("signed").statement().clone();
    let key = &member(&play, holder).identity;
    let lax = with_small_order_commitment(&statement, key);
    assert_eq!(refused(play.aggregator.put(&play.world, holder, &lax)), Rejection::BadSignature { client: holder });

    // S + l names the same scalar; it is another encoding of the same signature.
    let order = Scalar::ZERO - Scalar::ONE; // l - 1, canonical
    let mut malleated = honest.clone();
    let at = malleated.len() - 32;
    let mut carry = 1_u16;
    for (byte, of_order) in malleated[at..].iter_mut().zip(order.as_bytes()) {
        carry += u16::from(*byte) + u16::from(*of_order);
        *byte = carry as u8;
        carry >>= 8;
    }
    let judged = play.aggregator.put(&play.world, holder, &malleated);
    assert_eq!(refused(judged), Rejection::BadSignature { client: holder });
    assert_eq!(play.aggregator.put(&play.world, holder, &honest), Ok(()));
}

/// a message is consumed whole and has one encoding.
#[test]
fn r37_a_message_with_bytes_left_over_or_another_label_is_refused() {
    let mut play = twelve();
    let clients = play.advertise();
    play.share(clients);
    let holder = client_id(4);
    let honest = acknowledgement(&play, holder, |_| EdgeReport::Good);
    let longer = [&honest[..], &[0]].concat();
    let judged = play.aggregator.put(&play.world, holder, &longer);
    assert_eq!(refused(judged), Rejection::Decode(DecodeError::LeftOver(1)));
    let statement = Signed::decode(&honest, labels::ACKNOWLEDGEMENT).expect("signed").statement().clone();
    let relabelled = Statement { label: labels::OPENING, ..statement }.sign(&member(&play, holder).identity).encode();
    let judged = play.aggregator.put(&play.world, holder, &relabelled);
    let expected = DecodeError::Label { expected: labels::ACKNOWLEDGEMENT.as_str() };
    assert_eq!(refused(judged), Rejection::Decode(expected));
}
