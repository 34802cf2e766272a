//! Attacks on what the aggregator does for all.

use std::collections::BTreeMap;

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use curve25519_dalek::traits::IsIdentity as _;
use sha2::{Digest as _, Sha512};
use veilsum_aggregator::store::seal::ServiceKey;
use veilsum_aggregator::store::sql::{SqlStore, migrate};
use veilsum_aggregator::store::{Committed, NewRound, Store as _};
use veilsum_crypto::ids::LeafIndex;
use veilsum_crypto::messages::{Bitmap, ReadPermit};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey, Signed, Statement};
use veilsum_crypto::server::{Effect, Phase, PhaseKind, Received, StatementKind, close};
use veilsum_crypto::testing::{NOON, Play, TASK, now, small_params};

use super::uploads::runtime;
use crate::hostile::Hand;
use crate::without::checks::{Read, Side, stop};
use crate::without::stage::{Stage, input};
use crate::without::{Played, WithoutRule, real};
use crate::world::{Shape, World};

/// All of this file.
pub fn all() -> Vec<WithoutRule> {
    vec![second_roster(), strangers_read(), split_verdict()]
}

/// An honest aggregator crashes after it has signed a roster and served it to some, and before it has written it down. It comes
/// back, draws another closing nonce and signs another roster. Both signatures are genuine and contradict each other; its
/// clients stand on two rings, and neither has enough of them.
fn second_roster() -> WithoutRule {
    WithoutRule {
        with: "what is signed was fixed in one commit before: the same roster is read back and signed again",
        without: "an honest aggregator has signed two rosters of one round, and the round is abandoned",
        patch: |checks| checks.r30 = |_, now| now,
        real: || runtime().block_on(two_rosters_in_one_store()),
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.advertise()?;
            let (mut fixed, mut served) = (None, Vec::new());
            for nonce in [[1; 32], [2; 32]] {
                let drawn = stage.roster_of(&stage.leaves, &stage.params(), nonce);
                let mut reader = Reader::new(&drawn);
                let statement = Signed::read(&mut reader, labels::ROSTER).expect("as made").statement().clone();
                let list = reader.rest().to_vec();
                let signed = (checks.r30)(&mut fixed, statement).sign(&stage.world.aggregator);
                served.push((signed, list));
                // Here it crashes, and comes back.
            }
            let mut by_roster: BTreeMap<_, u32> = BTreeMap::new();
            for (number, client) in stage.clients.iter_mut().enumerate() {
                let (signed, list) = &served[number % 2];
                let roster = [signed.encode(), list.clone()].concat();
                client.examine(&roster, &|leaf| stage.leaves[leaf.index()].clone(), now())?;
                *by_roster.entry(client.view().root).or_default() += 1;
            }
            let (most, needed) = (by_roster.into_values().max().expect("twelve"), stage.params().survivors_min);
            if !served[0].0.contradicts(&served[1].0) || most >= needed {
                return stop(30, "the roster that was fixed is signed again: one roster, all twelve on it");
            }
            Ok(format!("two signed rosters, evidence against an honest aggregator; {most} on a ring, {needed} needed"))
        },
        ..WithoutRule::new(30, "the second roster")
    }
}

/// The real aggregator closes a phase twice, with another nonce each time, as before and after a crash; one commit is the first.
async fn two_rosters_in_one_store() -> Played {
    let mut play = Play::new(small_params(12, 8));
    play.advertise();
    let (facts, bodies) = (&play.world.facts, &play.aggregator.received[&PhaseKind::Advertising]);
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("rounds.sqlite").display());
    migrate(&url).await.expect("an empty database");
    let store =
        SqlStore::open(&url, ServiceKey::from_hex(&"5e".repeat(32)).expect("32 bytes")).await.expect("it opens");
    store.create_task(TASK, "a task", b"a model", NOON).await.expect("the store answers");
    let round = facts.header.round();
    let new = NewRound {
        round,
        task: TASK,
        counter: 1,
        header: facts.header.statement().encode(),
        state: Phase::first().encode(),
        opened: NOON,
        salt: [5; 32],
        charge: b"a charge".to_vec(),
    };
    store.open_round(&new).await.expect("the store answers");
    let version = store.load(round).await.expect("the store answers").expect("it is open").version;
    let (mut fixed, mut committed) = (Vec::new(), Vec::new());
    for nonce in [[1; 32], [2; 32]] {
        let received = Received { bodies: bodies.clone(), ..Received::default() };
        let (phase, effects) = close(facts, Phase::first(), received, nonce);
        fixed.extend(effects.iter().find_map(|effect| match effect {
            Effect::Statement { kind: StatementKind::Roster, bytes, .. } => Some(bytes.clone()),
            _ => None,
        }));
        let written = store.commit(round, version, phase.kind(), &phase.encode(), &effects, NOON).await;
        committed.push(written.expect("the store answers"));
    }
    assert_ne!(fixed[0], fixed[1], "another nonce, another roster");
    let (read_back, _) = store.statement(round, StatementKind::Roster).await.expect("it answers").expect("it is fixed");
    if committed == [Committed::Yes, Committed::Conflict] && read_back == fixed[0] {
        return stop(30, "the second commit conflicts; what is read back, and signed, is the first");
    }
    Ok(format!("{committed:?}"))
}

/// Somebody who is in no roster and has no key asks for one. That a person takes part is personal data.
fn strangers_read() -> WithoutRule {
    WithoutRule {
        with: "a read without a roster member's permit for that very path is refused",
        without: "a stranger learns the ids of all who take part",
        patch: |checks| checks.r35 = |_| true,
        real: || {
            runtime().block_on(async {
                let world = World::new(Shape::patient(3)).await;
                let mut hands = Vec::new();
                for number in 0..3 {
                    let mut hand = Hand::new(&world, number, 1).await;
                    let advert = hand.advert().await;
                    hand.put("advertise", &advert).await.is_admitted();
                    hands.push(hand);
                }
                world.reached(hands[0].round, PhaseKind::Sharing).await;
                let path = hands[0].path("roster");
                assert_eq!(hands[0].get(&path, Some(&hands[0].permit(&path))).await.status, 200, "a member reads it");
                let answer = hands[0].get(&path, None).await;
                if answer.status == 200 {
                    return Ok("the roster was served to a stranger".into());
                }
                answer.is(403, Some(35));
                stop(35, "answered 403, R-35")
            })
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.advertise()?;
            stage.examine()?;
            let (path, chain) = ("/v1/rounds/7/roster", &stage.world.facts.chain);
            let member = |member: &std::sync::Arc<veilsum_crypto::client::Membership>| {
                (member.client(), member.identity.public())
            };
            let readers = stage.world.members.iter().map(member).collect();
            let stranger = IdentitySecretKey::generate(&mut veilsum_crypto::testing::os_rng());
            let permit = ReadPermit::sign(path, chain, stage.clients[0].id(), &stranger).encode();
            if !(checks.r35)(&Read { permit: Some(&permit), path, chain, readers: &readers }) {
                return stop(35, "a permit that no member signed is refused");
            }
            let mut reader = Reader::new(&stage.roster);
            Signed::read(&mut reader, labels::ROSTER).expect("as served");
            let ids: Vec<_> = reader.rest().chunks(48).map(|entry| entry[..16].to_vec()).collect();
            if ids != stage.clients.iter().map(|client| client.id().0.to_vec()).collect::<Vec<_>>() {
                return stop(35, "what the stranger reads is not the roster");
            }
            Ok(format!("the ids of all {} participants", ids.len()))
        },
        ..WithoutRule::new(35, "the stranger who reads")
    }
}

/// One corrupt client signs its upload with a commitment that has a part of small order. A verifier that multiplies by the
/// cofactor, as batches do, accepts it; a strict one does not. Where the aggregator is the one and clients are the other, it
/// lists a survivor that none of its neighbours can accept.
fn split_verdict() -> WithoutRule {
    WithoutRule {
        with: "both sides verify strictly: the upload is refused when it arrives",
        without: "the aggregator admits what all its neighbours refuse: the list is not confirmed, the round stops",
        patch: |checks| {
            checks.r37 = |side, signed, key| match side {
                Side::Aggregator => with_cofactor(signed, key),
                Side::Client => signed.is_by(key),
            }
        },
        real: || {
            let mut mixed = real::Mixed::new(Play::new(small_params(12, 8)), [LIAR.index()]);
            let clients = mixed.advertise();
            let clients = mixed.share(clients);
            mixed.acknowledge(clients);
            let core = mixed.play.aggregator.served(&mixed.play.world, StatementKind::Core);
            let (client, liar) = mixed.liars.iter_mut().next().expect("one");
            let world = &mixed.play.world;
            let message = liar.mask(&core, &[], &|variance| input(world, LIAR, variance))?;
            let bent = with_small_order_part(&message, &liar.member.identity);
            real::refused(mixed.play.aggregator.put(&mixed.play.world, *client, &bent))
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.acknowledged()?;
            let members = stage.fix_core();
            let core = stage.core_of(members);
            for leaf in stage.all() {
                stage.mask_one(leaf, &core, &[])?;
                let honest = stage.uploads[&leaf].clone();
                let liar = &stage.clients[leaf.index()].member.identity;
                let sent = if leaf == LIAR { with_small_order_part(&honest, liar) } else { honest };
                stage.admit_upload(leaf, &sent)?;
            }
            stage.core = Some(core);
            let list = stage.list_of(Bitmap::of(12, stage.all()));
            let mut confirmed = 0;
            for leaf in stage.all().into_iter().filter(|leaf| *leaf != LIAR) {
                let signed = stage.confirm_one(leaf, &list);
                confirmed += u32::from(matches!(signed, Ok(Some(_))));
            }
            let needed = stage.params().threshold;
            if confirmed >= needed {
                return stop(37, format!("{confirmed} confirm the list"));
            }
            Ok(format!("{confirmed} of the {needed} confirmations needed: the round is abandoned"))
        },
        ..WithoutRule::new(37, "the split verdict")
    }
}

const LIAR: LeafIndex = LeafIndex(5);

/// The same upload, signed so that only verifiers with a cofactor accept it: R = r B + T, T of order 8, S = r + q a.
fn with_small_order_part(upload: &[u8], key: &IdentitySecretKey) -> Vec<u8> {
    let mut reader = Reader::new(upload);
    let statement: Statement = Signed::read(&mut reader, labels::UPLOAD).expect("an upload").statement().clone();
    let expanded: [u8; 64] = Sha512::digest(*key.to_bytes()).into();
    let secret = Scalar::from_bytes_mod_order(clamp_integer(expanded[..32].try_into().expect("32 bytes")));
    let nonce = crate::without::gullible::scalar();
    let torsion = curve25519_dalek::constants::EIGHT_TORSION[1];
    let commitment = (EdwardsPoint::mul_base(&nonce) + torsion).compress();
    let message = statement.encode();
    let response = nonce + challenge(&commitment, &key.public(), &message) * secret;
    [&message[..], commitment.as_bytes(), response.as_bytes(), reader.rest()].concat()
}

fn challenge(commitment: &CompressedEdwardsY, key: &IdentityPublicKey, message: &[u8]) -> Scalar {
    let hash = Sha512::new_with_prefix(commitment.as_bytes()).chain_update(key.as_bytes()).chain_update(message);
    Scalar::from_hash(hash)
}

/// 8 (S B - q A - R) is the identity: what a batch verifier asks.
fn with_cofactor(signed: &Signed, key: &IdentityPublicKey) -> bool {
    let (bytes, message) = (signed.encode(), signed.statement().encode());
    let half = |at: usize| <[u8; 32]>::try_from(&bytes[message.len() + at..][..32]).expect("64 bytes");
    let commitment = CompressedEdwardsY(half(0));
    let decoded = (commitment.decompress(), CompressedEdwardsY(*key.as_bytes()).decompress());
    let (Some(r), Some(a)) = decoded else { return false };
    let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(half(32))) else { return false };
    let difference = EdwardsPoint::mul_base(&s) - challenge(&commitment, key, &message) * a - r;
    difference.mul_by_cofactor().is_identity()
}
