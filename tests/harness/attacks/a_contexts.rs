//! A, continued: clients are to work in two contexts at once: another model, another scale, another layout for one of them.

use veilsum_client::ParticipantError;
use veilsum_client::transport::Reply;
use veilsum_crypto::ids::Digest;
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::messages::key_advertisement::leaf_digest;
use veilsum_crypto::messages::{Header, Roster};
use veilsum_crypto::primitives::agreement::{MaskingSecretKey, SelfMaskSecret};
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::testing::{World, client_id, small_params};

use super::dice::{Dice, uniform_p};
use super::{Scale, Seen, trying};
use crate::hostile::front::Asked;
use crate::hostile::server::{Server, indices};
use crate::hostile::victims::{face, face_all, from};
use crate::world::sha256;

/// Victim 0 is shown another header than the others, under one counter; rosters and leaves follow from what was answered.
async fn two_headers(change: impl Fn(&mut Header) + Send + Clone + 'static) -> Vec<crate::hostile::victims::Faced> {
    let lie = move |server: &mut Server, asked: &Asked| {
        let mut other = server.play.world.facts.header.clone();
        change(&mut other);
        let is_target = from(asked) == 0;
        let header = if is_target { &other } else { &server.play.world.facts.header };
        let chain = header.chain();
        if asked.path.starts_with("/v1/tasks/") && is_target {
            let body = if asked.path.ends_with("after=0") { server.signed(&header.statement()) } else { Vec::new() };
            return Some(Reply::new(if body.is_empty() { 204 } else { 200 }, body));
        }
        if asked.path.ends_with(&sha256(OTHER_MODEL).to_string()) {
            return Some(Reply::new(200, OTHER_MODEL));
        }
        let leaf = |number| server.heard(server.client(number), "advertise").map(<[u8]>::to_vec);
        let leaves: Option<Vec<Vec<u8>>> = (0..6).map(leaf).collect();
        if !asked.path.starts_with("/v1/rounds/") || asked.method == "PUT" {
            return None;
        }
        let Some(leaves) = leaves else { return Some(Reply::new(204, [])) };
        if asked.reads("leaves") {
            let mut body = Vec::new();
            let shown = indices(asked).into_iter().map(|leaf| &leaves[leaf.index()]);
            shown.for_each(|leaf| veilsum_crypto::primitives::codec::write_prefixed(&mut body, leaf));
            return Some(Reply::new(200, body));
        }
        if asked.reads("roster") {
            let params = veilsum_crypto::params::RosterParams::derive(6, &header.params).expect("feasible");
            let members = leaves.iter().enumerate().map(|(at, leaf)| (client_id(at as u32), leaf_digest(leaf)));
            let roster = Roster::fix(&chain, &params, [9; 32], members.collect());
            return Some(Reply::new(200, [server.signed(roster.statement()), roster.list()].concat()));
        }
        None
    };
    let mut server = Server::six().against(0..6).telling(lie);
    server.is_deaf = true;
    face_all(server).await.0
}

/// What victim 0 of A13 is to train from.
const OTHER_MODEL: &[u8] = b"another model";

/// If clients under two contexts could be made to go on: their masked vectors, from seeded keys, and what a server that knows
/// every self mask has left of the sum. Returns chi-squared's p for its bytes, and whether with one context it is exact.
fn forced(seed: u64, change: impl Fn(&mut Header)) -> (f64, bool) {
    const LEN: usize = 1 << 14;
    let (mut dice, bits) = (Dice::new(seed), RingBits::new(16).expect("in range"));
    let header = World::new(small_params(6, 8)).facts.header;
    let mut other = header.clone();
    change(&mut other);
    let secrets: Vec<_> = (0..6).map(|_| (MaskingSecretKey::from_scalar(&dice.scalar()), dice.scalar())).collect();
    let inputs: Vec<RingVector> =
        (0..6_i64).map(|number| RingVector::from_signed(&vec![number - 3; LEN], bits)).collect();
    // Root of the seed, not of the keys: contexts must be equal in every run.
    let (roster, core) = (Digest(dice.bytes()), Digest(dice.bytes()));
    let context = |header: &Header| {
        let header = Header { aggregator_key: IdentitySecretKey::from_bytes(&[4; 32]).public(), ..header.clone() };
        let header = Header { authority_key: header.aggregator_key, ..header };
        CoreContext { roster: RosterContext { header: header.chain().context, roster }, core }
    };
    let unmasked_sum = |headers: [&Header; 6]| {
        let mut sum = RingVector::zeros(LEN, bits);
        for me in 0..6 {
            let (context, id) = (context(headers[me]), |number: usize| client_id(number as u32));
            let mut vector = RingVector::zeros(LEN, bits);
            vector.add_assign(&inputs[me]).expect("one ring");
            vector.add_mask(SelfMaskSecret::from_scalar(&secrets[me].1).into_mask_key(id(me), &context));
            for peer in (0..6).filter(|peer| *peer != me) {
                let key = secrets[me].0.pair_mask_key(id(me), (id(peer), &secrets[peer].0.public()), &context);
                if me < peer { vector.add_mask(key) } else { vector.sub_mask(key) }
            }
            sum.add_assign(&vector).expect("one ring");
            sum.sub_mask(SelfMaskSecret::from_scalar(&secrets[me].1).into_mask_key(id(me), &context));
        }
        sum
    };
    let mut plain = RingVector::zeros(LEN, bits);
    inputs.iter().for_each(|input| plain.add_assign(input).expect("one ring"));
    let is_exact = unmasked_sum([&header; 6]) == plain;
    let mut left = unmasked_sum([&other, &header, &header, &header, &header, &header]);
    left.sub_assign(&plain).expect("one ring");
    let mut counts = [0; 256];
    left.pack().iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    (uniform_p(&counts), is_exact)
}

/// Smallest p over the seeds, which must not be smaller than chance allows for so many.
fn noise_of(scale: Scale, change: impl Fn(&mut Header) + Copy) -> (f64, usize) {
    let seeds = scale.times(4);
    let least = (1..=seeds as u64).map(|seed| {
        let (p, is_exact) = forced(seed, change);
        assert!(is_exact, "seed {seed}: under one context the masks cancel");
        p
    });
    let least = least.fold(1.0, f64::min);
    assert!(least > 0.01 / seeds as f64, "what is left is not uniform: p = {least} over {seeds} seeds");
    (least, seeds)
}

/// A13. The target is to train from another model than the others.
pub async fn a13_model_inconsistency(scale: Scale) -> Seen {
    // Other bytes under the hash of the header.
    let exchanged =
        Server::six().telling(|_, asked| asked.path.starts_with("/v1/models/").then(|| Reply::new(200, OTHER_MODEL)));
    let (faced, _) = face(exchanged, |_| {}).await;
    assert!(matches!(faced.ended, Err(ParticipantError::Model { .. })), "{:?}", faced.ended);
    assert_eq!(faced.sent, [""; 0]);
    // Another header, which names them: then its leaf is of another context than the roster of the others.
    let change = |header: &mut Header| header.model_hash = sha256(OTHER_MODEL);
    let faced = two_headers(change).await;
    faced.iter().for_each(|one| one.stopped(6, &["advertise"]));
    let (p, seeds) = noise_of(scale, change);
    Seen::new(format!(
        "other bytes under the signed hash: no advert. Two headers in one round, one with another model: 6 of 6 real clients stopped \
         before they dealt (R-06). Forced on, a server that knows all self masks is left with noise: least p {p:.3} over {seeds} \
         seeds; under one header the same sum is exact"
    ))
    .count("aborts", 7)
    .figure("least p", p)
}

/// A14. The target has another scale, another layout.
pub async fn a14_parameter_inconsistency(scale: Scale) -> Seen {
    type Change = fn(&mut Header);
    let changes: [(&str, Change); 3] = [
        ("scale", |header| header.params.scale *= 1.001),
        ("layout", |header| header.layout_hash = Digest([3; 32])),
        ("max_squared_norm", |header| header.params.max_squared_norm -= 1),
    ];
    let (mut least, mut aborts) = (1.0_f64, 0);
    for (what, change) in changes {
        trying(what);
        let faced = two_headers(change).await;
        faced.iter().for_each(|one| one.stopped(6, &["advertise"]));
        aborts += faced.len();
        least = least.min(noise_of(scale, change).0);
    }
    // A layout that is pinned is not even answered.
    let (faced, _) = face(Server::six(), |join| join.policy.layout = Some(Digest([3; 32]))).await;
    faced.stopped(2, &[]);
    Seen::new(format!(
        "another scale, layout or norm bound for one client of six: {aborts} of {aborts} real clients stopped before they dealt \
         (R-06); forced on, the sum is noise: least p {least:.3}; a pinned layout is not even answered (R-02)"
    ))
    .count("aborts", aborts + 1)
    .figure("least p", least)
}
