//! Speed of the numeric half of the crate, as ratios taken in one run.
//!
//! `cargo bench --bench numbers` prints one line a figure; medians of 41 runs on one thread.

use std::hint::black_box;
use std::time::Instant;

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr64LE;
use veilsum_crypto::graph::{Adversary, GraphQuery, search};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::primitives::prg::{MaskKey, NoiseSeed};
use veilsum_crypto::privacy::skellam::SkellamSampler;

const ELEMENTS: usize = 1_000_000;

fn main() {
    for bits in [16, 20, 32] {
        ring(RingBits::new(bits).expect("8 to 64"));
    }
    for variance in [25, 39_600, 1_000_000, 1 << 26] {
        skellam(variance);
    }
    graph();
}

fn ring(bits: RingBits) {
    let bytes = RingVector::packed_bytes(ELEMENTS, bits);
    let keystream_s = median_s(|| {
        let mut cipher = Ctr64LE::<Aes128>::new(&[1; 16].into(), &[0; 16].into());
        let mut block = [0; 4096];
        for _ in 0..bytes.div_ceil(block.len()) {
            cipher.write_keystream(&mut block);
            black_box(&block);
        }
    });
    let mut sum = RingVector::zeros(ELEMENTS, bits);
    let add_mask_s = median_s(|| sum.add_mask(MaskKey::from_bytes([1; 16])));
    let packed = sum.pack();
    let add_packed_s = median_s(|| sum.add_packed(&packed).expect("one shape"));
    let pack_s = median_s(|| drop(black_box(sum.pack())));
    let unpack_s = median_s(|| drop(black_box(RingVector::unpack(&packed, ELEMENTS, bits))));
    let signed = sum.to_signed();
    let to_signed_s = median_s(|| drop(black_box(sum.to_signed())));
    let from_signed_s = median_s(|| drop(black_box(RingVector::from_signed(&signed, bits))));
    let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
    println!(
        "r = {}, d = 1M: keystream {:.3} ms, add_mask {:.3} ms ({:.1} x keystream); packed GB/s: \
         keystream {:.1}, add_mask {:.1}, add_packed {:.1}, pack {:.1}, unpack {:.1}, \
         to_signed {:.1}, from_signed {:.1}",
        bits.get(),
        keystream_s * 1e3,
        add_mask_s * 1e3,
        add_mask_s / keystream_s,
        rate(keystream_s),
        rate(add_mask_s),
        rate(add_packed_s),
        rate(pack_s),
        rate(unpack_s),
        rate(to_signed_s),
        rate(from_signed_s),
    );
}

fn skellam(variance: u64) {
    let build_s = median_s(|| drop(black_box(SkellamSampler::new(variance))));
    let sampler = SkellamSampler::new(variance).expect("within the limit");
    let noise_s = median_s(|| drop(black_box(sampler.noise(NoiseSeed::from_bytes([1; 32]), 100_000))));
    println!("Skellam variance {variance}: table {:.2} ms, {:.1} M samples/s", build_s * 1e3, 0.1 / noise_s,);
}

fn graph() {
    let query = GraphQuery {
        clients: 1_000_000,
        corrupt: 330_000,
        dropped: 330_000,
        security_bits: 80,
        completion_bits: 30,
        adversary: Adversary::SemiMalicious,
    };
    let search_s = median_s(|| _ = black_box(search(&query)));
    println!("graph, a million clients, gamma = delta = 0.33: {:.2} ms", search_s * 1e3);
}

fn median_s(mut run: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..41)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
