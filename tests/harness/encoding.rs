//! Distinct statements never have equal bytes. Attack E10 of the catalogue.
//!
//! The tuples are made to collide if anything were ambiguous: the same bytes cut at every place between two fields, entries
//! that look like the beginning of the next, empty and repeated parts.

use std::collections::{BTreeMap, BTreeSet};

use rand_core::Rng as _;
use sha2::{Digest as _, Sha256};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, Party};
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{
    Acknowledgement, Answer, Bitmap, Chain, CoreSet, EdgeReport, Evidence, Opening, Survivors,
};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Place};
use veilsum_crypto::testing::SeededRng;

/// What was compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Distinct tuples encoded.
    pub tuples: u64,
    /// Pairs of them: each against each.
    pub pairs: u64,
}

/// At least `tuples` distinct ones, each against each.
///
/// # Errors
/// Two distinct tuples with equal bytes, in words.
pub fn no_two_tuples_encode_equally(tuples: u64, seed: u64) -> Result<Figures, String> {
    let mut made = Made::default();
    let mut rng = SeededRng::new(seed, 0);
    let key = IdentitySecretKey::from_bytes(&[1; 32]);
    for round in 0_u64.. {
        if made.by_bytes.len() as u64 >= tuples {
            break;
        }
        statements(&mut made, &mut rng, round)?;
        lists(&mut made, &mut rng, &key)?;
        evidence(&mut made, &mut rng)?;
    }
    let tuples = made.by_bytes.len() as u64;
    Ok(Figures { tuples, pairs: tuples * (tuples - 1) / 2 })
}

/// Encodings seen, each with its tuple as it was described; and descriptions, so that no tuple counts twice.
#[derive(Default)]
struct Made {
    by_bytes: BTreeMap<[u8; 32], String>,
    described: BTreeSet<String>,
}

impl Made {
    fn add(&mut self, described: String, bytes: &[u8]) -> Result<(), String> {
        if !self.described.insert(described.clone()) {
            return Ok(());
        }
        // SHA-256 stands for the bytes: an equal hash would be a find of another kind.
        match self.by_bytes.insert(Sha256::digest(bytes).into(), described.clone()) {
            None => Ok(()),
            Some(other) => Err(format!("these encode equally: {other} and {described}")),
        }
    }
}

fn random(rng: &mut SeededRng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    // Bytes that are lengths and tags elsewhere.
    bytes.iter_mut().for_each(|byte| *byte = [0, 1, 2, 16, 32, *byte][usize::from(*byte) % 6]);
    bytes
}

/// One string, cut at every place into what comes before the body and the body; under two labels.
fn statements(made: &mut Made, rng: &mut SeededRng, round: u64) -> Result<(), String> {
    let whole = random(rng, 96 + 40);
    let label = labels::STATEMENTS[round as usize % labels::STATEMENTS.len()];
    for cut in 96..=whole.len() {
        let front: &[u8; 96] = whole[cut - 96..cut].try_into().expect("96 bytes");
        let place = Place {
            context: Digest(front[..32].try_into().expect("32")),
            previous: Digest(front[32..64].try_into().expect("32")),
            sender: Party(front[64..80].try_into().expect("16")),
            receiver: Party(front[80..].try_into().expect("16")),
        };
        for label in [label, labels::CONFIRM] {
            let statement = place.statement(label, whole[cut..].to_vec());
            made.add(
                format!("{} {} {}", label.as_str(), hex::encode(front), hex::encode(&whole[cut..])),
                &statement.encode(),
            )?;
        }
    }
    Ok(())
}

/// Lists with entries of several lengths: reports, answers, openings, bitmaps.
fn lists(made: &mut Made, rng: &mut SeededRng, key: &IdentitySecretKey) -> Result<(), String> {
    let chain = Chain { context: Digest([7; 32]), aggregator: Party([8; 16]) };
    let (roster, client) = (Digest([9; 32]), ClientId([3; 16]));
    let edge: [u8; 32] = random(rng, 32).try_into().expect("32 bytes");
    for shape in 0..32_u32 {
        let len = shape % 4 + 1;
        let reports: Vec<EdgeReport> = (0..len)
            .map(|at| match (shape >> at) % 3 {
                0 => EdgeReport::Missing,
                1 => EdgeReport::Good,
                _ => EdgeReport::Complaint { edge: Digest(edge) },
            })
            .collect();
        let described = format!("acknowledgement {reports:?}");
        let message = Acknowledgement::sign(Digest(edge), reports, &chain, roster, client, key);
        made.add(described, &message.signed().statement().encode())?;

        let scalar = |byte: u8| ShareScalar::from_bytes(&[byte & 0x0f; 32]).expect("below the order");
        let shares: Vec<Option<ShareScalar>> =
            (0..len).map(|at| (shape >> at & 1 == 1).then(|| scalar(edge[at as usize]))).collect();
        let described = format!(
            "answer {:?}",
            shares.iter().map(|share| share.as_ref().map(ShareScalar::as_bytes)).collect::<Vec<_>>()
        );
        let message = Answer::sign(shares, &chain, roster, client, key);
        made.add(described, &message.signed().statement().encode())?;

        let pairs: BTreeMap<LeafIndex, SharePair> = (0..len)
            .map(|at| {
                let pair = SharePair { masking: scalar(edge[at as usize]), self_mask: scalar(edge[at as usize + 4]) };
                (LeafIndex(at + shape / 4), pair)
            })
            .collect();
        let text = |pair: &SharePair| hex::encode([*pair.masking.as_bytes(), *pair.self_mask.as_bytes()].concat());
        let described: Vec<String> = pairs.iter().map(|(leaf, pair)| format!("{leaf:?} {}", text(pair))).collect();
        let message = Opening::sign(pairs, &chain, roster, client, key);
        made.add(format!("opening {described:?}"), &message.signed().statement().encode())?;

        let n = 5 + shape;
        let set = Bitmap::of(n, edge.iter().take(len as usize).map(|byte| LeafIndex(u32::from(*byte) % n)));
        let described = format!("set of {n}: {:?}", set.leaves().collect::<Vec<_>>());
        made.add(format!("core {described}"), &CoreSet::fix(set.clone(), &chain, roster).statement().encode())?;
        let survivors = Survivors::fix(set, Digest(edge), &chain, roster);
        made.add(format!("survivors {described} {}", hex::encode(edge)), &survivors.statement().encode())?;
    }
    Ok(())
}

/// One string, cut into parts at every place.
fn evidence(made: &mut Made, rng: &mut SeededRng) -> Result<(), String> {
    let whole = random(rng, 24);
    for first in 0..=whole.len() {
        for second in (first..=whole.len()).step_by(5) {
            let (a, b, c) = (whole[..first].to_vec(), whole[first..second].to_vec(), whole[second..].to_vec());
            let kinds = [
                Evidence::Contradiction { leaf: a.clone(), first: b.clone(), second: c.clone() },
                Evidence::Opening { leaf: a, opening: b, mail: c },
            ];
            for kind in kinds {
                made.add(format!("{kind:?}"), &kind.encode())?;
            }
        }
    }
    Ok(())
}
