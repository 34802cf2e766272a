//! Attacks on the one upload of a client.

use veilsum_crypto::client::Resumed;
use veilsum_crypto::ids::LeafIndex;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::MaskedInput;
use veilsum_crypto::primitives::agreement::Point;
use veilsum_crypto::server::StatementKind;
use veilsum_crypto::testing::{Play, small_params};

use super::dealers::open_all;
use crate::hostile::{Hand, finish};
use crate::without::checks::{Counted, decide, stop};
use crate::without::stage::{Stage, input};
use crate::without::{WithoutRule, real};
use crate::world::{Shape, World};

/// All of this file.
pub fn all() -> Vec<WithoutRule> {
    vec![masked_again(), sent_again(), seized_device(), bare_coordinate()]
}

const TARGET: LeafIndex = LeafIndex(0);

/// The reply to an upload is lost; the client restarts from what it wrote down before, trains a little more, and masks again
/// under the same keys. The aggregator has two vectors under one mask.
fn masked_again() -> WithoutRule {
    WithoutRule {
        with: "the bytes were written down before they were sent: the same bytes go out again",
        without: "two vectors under one mask: the exact difference of two inputs",
        patch: |checks| checks.r03 = |_, fresh| fresh(),
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let mut clients = real::acknowledged(&mut play);
            let (target, phase) = clients.pop_first().expect("twelve");
            let core = play.aggregator.served(&play.world, StatementKind::Core);
            let update = play.world.update(1.0, 0, phase.share_variance());
            let (disk, first) = play.world.written(phase.mask(&core, update)?);
            match Resumed::open(&play.world.saving, &disk, real::member(&play, target)).expect("as written") {
                Resumed::AwaitingSurvivors(_, again) if again == first => {
                    stop(3, "after a restart it sends the same bytes, and has no step that masks")
                }
                other => Ok(format!("it stands at {other:?}")),
            }
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.acknowledged()?;
            let core = stage.core_of(stage.all_but(&[]));
            stage.mask_one(TARGET, &core, &[])?;
            let (first, x) = (stage.vector(&stage.uploads[&TARGET]), stage.input(TARGET).clone());
            // The answer does not come.
            let (served, world) = (stage.served(&core), &stage.world);
            let trained_more = |variance| input(world, LeafIndex(3), variance);
            let again = stage.clients[TARGET.index()].mask(&served, &[], &trained_more)?;
            let (again, x_again) = (stage.vector(&again), stage.input(TARGET));
            let difference = |a: &RingVector, b: &RingVector| {
                let mut difference = a.clone();
                difference.sub_assign(b).expect("one ring");
                difference
            };
            if again == first || difference(&first, &again) != difference(&x, x_again) {
                return stop(3, "the second upload is the first, byte for byte");
            }
            Ok("the exact difference of two inputs of one client".into())
        },
        ..WithoutRule::new(3, "the upload masked again")
    }
}

/// Somebody on the way repeats a client's signed upload. Counted twice its input is in the sum twice, and its mask is left in:
/// the aggregator signs a wrong sum, and everybody believes it.
fn sent_again() -> WithoutRule {
    WithoutRule {
        with: "the same bytes again succeed and are counted once; others are refused",
        without: "the upload is added twice: a wrong sum is signed and believed",
        patch: |checks| checks.r19 = |_, _, _| Counted::Fresh,
        real: || runtime().block_on(upload_sent_again_over_http()),
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.uploaded()?;
            let message = stage.uploads[&TARGET].clone();
            stage.add(TARGET, &message);
            let (_, sum) = open_all(&mut stage)?;
            if sum == Some(stage.plain_sum(stage.all())) {
                return stop(19, "the upload counts once: the sum is exact");
            }
            Ok("a wrong sum: one client's vector is in it twice".into())
        },
        ..WithoutRule::new(19, "the re-sent upload")
    }
}

/// Three clients over HTTP; the first sends its upload twice, and then another one.
async fn upload_sent_again_over_http() -> crate::without::Played {
    let world = World::new(Shape::patient(3)).await;
    let round = world.round(1).await;
    let mut hands = Vec::new();
    for number in 0..3 {
        hands.push(Hand::new(&world, number, 1).await);
    }
    let [mut first, second, third] = <[Hand; 3]>::try_from(hands).unwrap_or_else(|_| panic!("three"));
    let twice = async {
        for phase in ["advertise", "share", "acknowledge"] {
            let message = match phase {
                "advertise" => first.advert().await,
                "share" => first.deal().await,
                _ => first.acknowledge().await,
            };
            first.put(phase, &message).await.is_admitted();
        }
        let (message, values) = first.mask().await;
        world.noised.lock().expect("no panic").insert(first.client(), values);
        first.put("mask", &message).await.is_admitted();
        first.put("mask", &message).await.is_admitted();
        let mut other = message;
        *other.last_mut().expect("a vector") ^= 1;
        let refused = first.put("mask", &other).await.status;
        assert!(refused == 422 || refused == 409, "another vector is refused");
        finish(&world, first).await;
    };
    tokio::join!(twice, finish(&world, second), finish(&world, third));
    world.over(round).await;
    let survivors = world.survivors(round).await;
    let released = world.released(round).await.expect("a sum");
    let (mut plain, noised) =
        (RingVector::zeros(released.len(), released.bits()), world.noised.lock().expect("no panic"));
    for client in &survivors {
        plain.add_assign(&RingVector::from_signed(&noised[client], released.bits())).expect("one ring");
    }
    if released == plain {
        stop(19, "answered 204 twice and counted once: the sum is exact")
    } else {
        Ok("counted twice".into())
    }
}

/// A runtime for attacks that run against the real service.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// The device is taken after the upload, with everything on it, by somebody who recorded what it sent. Secrets that were not
/// erased take the masks off.
fn seized_device() -> WithoutRule {
    WithoutRule {
        with: "s and b are erased with the step that writes the masked bytes down: nothing opens them",
        without: "s and b lie on the device: its upload is opened exactly",
        patch: |checks| checks.r31 = |_| {},
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let clients = play.advertise();
            let mut clients = play.share(clients);
            let (target, phase) = clients.pop_first().expect("twelve");
            let mail = play.aggregator.mail[&target].clone();
            let (before, body) = play.world.written(phase.acknowledge(&mail)?);
            play.put(target, &body);
            let Ok(Resumed::ReadyToMask(phase, _)) =
                Resumed::open(&play.world.saving, &before, real::member(&play, target))
            else {
                panic!("it is ready to mask")
            };
            play.acknowledge(clients);
            let core = play.aggregator.served(&play.world, StatementKind::Core);
            let update = play.world.update(1.0, 0, phase.share_variance());
            let (after, _) = play.world.written(phase.mask(&core, update)?);
            let keys = real::assembly(&play).member(real::leaf(&play, target)).clone();
            // Every 32 bytes of what is on the device, tried as s and as b.
            let found = |disk: &[u8]| {
                let plain = play.world.saving.open(disk).expect("its own key is on the device");
                let tried =
                    plain.windows(32).filter_map(|bytes| ShareScalar::from_bytes(bytes.try_into().expect("32")));
                tried
                    .map(|scalar| Point::of(&scalar))
                    .filter(|point| [keys.masking.0, keys.self_mask.0].contains(point))
                    .count()
            };
            assert_eq!(found(&before), 2, "before it masks both are there, so the search would find them");
            match found(&after) {
                0 => stop(31, "neither secret is on the device any more"),
                some => Ok(format!("{some} secrets were left")),
            }
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.uploaded()?;
            let Some(left) = stage.clients[TARGET.index()].secrets else { return stop(31, "no secret is left") };
            let core = stage.core.as_ref().expect("it is fixed").root();
            let near = stage.view().order.neighbours(TARGET);
            let recovered = stage.open_input(TARGET, left.self_mask, left.masking, &near, core);
            stage.is_the_input(TARGET, &recovered, 31)
        },
        ..WithoutRule::new(31, "the seized device")
    }
}

/// The mask is expanded for the coordinates of the model and not for the one behind them, a weight or a counter. That one is read
/// in clear in every upload.
fn bare_coordinate() -> WithoutRule {
    WithoutRule {
        with: "every coordinate is masked",
        without: "the last coordinate of all twelve clients is read in clear",
        patch: |checks| {
            checks.r32 = |key, len, bits| {
                let mut values = decide::r32(key, len, bits).to_signed();
                *values.last_mut().expect("vectors are not empty") = 0;
                RingVector::from_signed(&values, bits)
            }
        },
        real: || {
            let params = small_params(12, 8);
            let mut play = Play::new(params);
            let clients = real::acknowledged(&mut play);
            let core = play.aggregator.served(&play.world, StatementKind::Core);
            let mut bare = 0;
            for phase in clients.into_values() {
                let update = play.world.update(1.0, 7, phase.share_variance());
                let plain = RingVector::from_signed(update.values(), params.ring_bits).to_signed();
                let (_, body) = play.world.turn(phase.mask(&core, update)?);
                let sent = MaskedInput::decode(&body, &params).and_then(|sent| sent.vector(&params)).expect("as sent");
                bare += usize::from(sent.to_signed().last() == plain.last());
            }
            if bare == 12 {
                Ok("the last coordinate went out in clear".into())
            } else {
                stop(32, "all coordinates are masked")
            }
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.uploaded()?;
            let last = |vector: &RingVector| vector.to_signed().last().copied();
            let bare = |leaf: &LeafIndex| last(&stage.vector(&stage.uploads[leaf])) == last(stage.input(*leaf));
            match stage.all().iter().filter(|leaf| bare(leaf)).count() {
                12 => Ok("the last coordinate of 12 of 12 inputs is read in clear".into()),
                _ => stop(32, "all coordinates are masked"),
            }
        },
        ..WithoutRule::new(32, "the bare coordinate")
    }
}
