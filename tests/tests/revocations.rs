//! The authority's revocation list, from the operator's hand to the clients that heed it. R-36, docs/protocol.md §4.3

use std::collections::BTreeMap;

use sqlx::{AnyConnection, Connection, Executor};
use veilsum_aggregator::round::RoundError;
use veilsum_client::{Identity, LeftOut, Participant, RoundOutcome};
use veilsum_crypto::ids::{ClientId, Timestamp};
use veilsum_crypto::messages::RevocationList;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::rules::CertificateError;
use veilsum_crypto::testing::os_rng;
use verification::hostile::request;
use verification::world::*;

/// Every certificate of these clients ends.
fn list(number: u64, ended: &[ClientId], authority: &IdentitySecretKey) -> Vec<u8> {
    let entries: BTreeMap<ClientId, Timestamp> = ended.iter().map(|client| (*client, Timestamp(u64::MAX))).collect();
    RevocationList::issue(number, entries, authority).encode()
}

/// Why a client stopped, as a rule.
fn stopped_by(ending: &Ending) -> Option<u8> {
    match ending {
        Ending::Outcome(RoundOutcome::Stopped { why, .. }) => Some(why.rule().0),
        _ => None,
    }
}

/// C-60, A21: a stolen key stops working with the next round, and nobody else is disturbed.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_client_is_turned_away_and_the_others_release_their_sum() {
    let world = World::new(Shape { rounds: 2, ..Shape::of(5) }).await;
    let stolen = world.clients[4].id;
    let first = world.round(1).await;
    let signed = list(3, &[stolen], &world.authority);
    let (row, fresh) = world.rounds().publish_revocations(signed.clone()).await.expect("the authority's list");
    assert!(fresh);
    world.play(&[]).await;
    world.is_exact_sum_of(first, &world.ids(0..5)).await; // it opened before the list came

    let header = world.header(2).await;
    assert_eq!((header.revocation_number, header.revocation_digest), (3, row.digest));
    let served = request(world.address, "GET", &format!("/v1/revocations/{}", row.digest), &[], &[]).await;
    assert_eq!((served.status, &served.body), (200, &signed));
    let endings = world.play(&[]).await;
    let own_software = matches!(
        endings[4],
        Ending::Outcome(RoundOutcome::LeftOut { reason: LeftOut::Certificate(CertificateError::Revoked), .. })
    );
    assert!(own_software, "it sees that it was revoked: {:?}", endings[4]);
    world.is_exact_sum_of(header.round(), &world.ids(0..4)).await;
}

/// C-60, R-36: the aggregator's own gate, whatever the client's software thinks of its certificate.
#[tokio::test(flavor = "multi_thread")]
async fn an_advert_under_a_revoked_certificate_is_refused_and_one_after_enrolment_anew_is_admitted() {
    let mut world = World::new(Shape { rounds: 2, ..Shape::of(5) }).await;
    let (client, began) = (world.clients[0].id, world.membership(0).certificate.body().not_before);
    let entries = BTreeMap::from([(client, Timestamp(began.0 + 1))]);
    let signed = RevocationList::issue(1, entries, &world.authority).encode();
    world.rounds().publish_revocations(signed).await.expect("the authority's list");
    let first = world.round(1).await; // opened before: nothing is revoked in it
    world.play(&[]).await;
    world.over(first).await;

    let header = world.header(2).await;
    let member = world.membership(0);
    let advert = {
        use veilsum_crypto::messages::KeyAdvertisement;
        use veilsum_crypto::messages::key_advertisement::RoundKeys;
        use veilsum_crypto::primitives::agreement::{ChannelSecretKey, MaskingSecretKey, SelfMaskSecret};
        let keys = RoundKeys {
            masking: MaskingSecretKey::generate(&mut os_rng()).public(),
            self_mask: SelfMaskSecret::generate(&mut os_rng()).public(),
            channel: ChannelSecretKey::generate(&mut os_rng()).public(),
            nonce: random(),
        };
        KeyAdvertisement::sign(member.certificate.clone(), keys, &header, &member.identity).encode()
    };
    let path = format!("/v1/rounds/{}/advertise/{client}", header.round());
    request(world.address, "PUT", &path, &[], &advert).await.is(403, Some(6));
    let authority = IdentitySecretKey::from_bytes(&world.authority.to_bytes());
    world.recertify(0, &authority, |body| body.not_before = Timestamp(body.not_before.0 + 1));
    world.play(&[]).await;
    world.is_exact_sum_of(header.round(), &world.ids(0..5)).await; // the old certificate ended, the client did not
}

/// C-258: whoever comes back with new keys comes back with its ledger, over HTTP as before.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_enrolled_again_still_knows_what_its_data_cost() {
    let mut world = World::new(Shape { rounds: 4, ..Shape::of(5) }).await;
    let spent = async |world: &World, identity: Identity| {
        let state = world.clients[0].state.clone();
        let participant = Participant::open(identity, world.join(), &state, world.line()).await?;
        participant.epsilon_spent().await
    };
    let first = world.round(1).await;
    world.play(&[]).await;
    world.over(first).await;
    let charged = spent(&world, world.identity(0)).await.expect("its own state");
    assert!(charged > 0.0);

    let (old, client) = (world.identity(0), world.clients[0].id);
    let ended = Timestamp(old.certificate().body().not_before.0 + 1);
    world.enrol_again(0, |body| body.not_before = ended);
    let member = world.membership(0);
    let key = IdentitySecretKey::from_bytes(&member.identity.to_bytes());
    let again = old.succeeded_by(key, member.certificate.clone()).expect("the same client");
    assert_eq!(spent(&world, again).await.expect("its own state"), charged);

    let signed = RevocationList::issue(1, BTreeMap::from([(client, ended)]), &world.authority).encode();
    world.rounds().publish_revocations(signed).await.expect("the authority's list");
    let (mut second, mut counter) = (world.round(2).await, 2);
    while world.header(counter).await.revocation_number == 0 {
        world.play(&[]).await; // it opened before the list came
        world.over(second).await;
        counter += 1;
        second = world.round(counter).await;
    }
    world.play(&[]).await;
    world.is_exact_sum_of(second, &world.ids(0..5)).await;
    let after = spent(&world, world.identity(0)).await.expect("its own state");
    assert!(after > charged, "and goes on adding to it");
}

/// C-61: numbers only grow, and only the authority's lists are taken up.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_list_and_one_that_another_authority_signed_are_not_taken_up() {
    let world = World::new(Shape::of(3)).await;
    let publish = async |bytes: Vec<u8>| world.rounds().publish_revocations(bytes).await;
    let second = list(2, &[], &world.authority);
    assert!(publish(second.clone()).await.expect("the first that came").1);
    assert!(!publish(second.clone()).await.expect("the same again").1);
    let refused = [list(1, &[], &world.authority), list(2, &[world.clients[0].id], &world.authority)];
    for older in refused {
        assert!(matches!(publish(older).await, Err(RoundError::Conflict { rule: Some(36), .. })));
    }
    let other = IdentitySecretKey::generate(&mut os_rng());
    let forged = publish(list(9, &[], &other)).await;
    assert!(matches!(forged, Err(RoundError::Unacceptable { rule: Some(36), .. })), "{forged:?}");
    let mut altered = list(9, &[], &world.authority);
    altered[130] ^= 1;
    assert!(publish(altered).await.is_err());
    assert!(matches!(publish(b"no list".to_vec()).await, Err(RoundError::Malformed(_))));
    assert_eq!(world.rounds().newest_revocations().await.expect("it answers").map(|row| row.bytes), Some(second));
}

/// C-61, A21: a service that was set back to an older list is not answered: clients remember number and digest in their saved
/// state, across restarts of both sides.
#[tokio::test(flavor = "multi_thread")]
async fn clients_refuse_a_service_that_went_back_to_an_older_list() {
    let mut world = World::new(Shape { rounds: 4, ..Shape::of(3) }).await;
    let first = world.round(1).await;
    world.rounds().publish_revocations(list(5, &[], &world.authority)).await.expect("the authority's list");
    world.play(&[]).await;
    world.over(first).await;
    let second = world.round(2).await;
    assert!(world.play(&[]).await.iter().all(|ending| ending.verified().is_some()), "under list 5");
    world.over(second).await;

    // Restored from an older backup; round 3 was open already, and is left to end by itself.
    world.stop().await;
    let database = format!("sqlite:{}", world.folder.path().join("world.sqlite").display());
    let mut connection = AnyConnection::connect(&database).await.expect("it connects");
    connection.execute("DELETE FROM revocations").await.expect("they are gone");
    connection
        .execute("UPDATE rounds SET over_us = 1, phase = 8, state = X'0801' WHERE counter = 3")
        .await
        .expect("over");
    connection.execute("UPDATE tasks SET open = 0").await.expect("the next may open");
    connection.close().await.expect("it closes");
    world.start().await;
    assert_eq!(world.header(4).await.revocation_number, 0, "set back");
    let endings = world.play(&[]).await;
    assert!(endings.iter().all(|ending| stopped_by(ending) == Some(36)), "{endings:?}");
}
