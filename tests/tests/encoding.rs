//! E10: encodings are unambiguous. C-102

use verification::encoding::no_two_tuples_encode_equally;

/// C-102: 10^8 pairs of distinct tuples, made to collide if anything were ambiguous, have distinct bytes.
#[test]
fn e10_no_two_of_a_hundred_million_pairs_of_tuples_encode_equally() {
    let figures = no_two_tuples_encode_equally(15_000, 11).expect("distinct tuples have distinct bytes");
    assert!(figures.pairs >= 100_000_000, "{figures:?}");
}
