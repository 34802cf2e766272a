//! Wycheproof: which cases hold, and exactly which are refused on purpose. C-101

use std::collections::BTreeSet;

use verification::wycheproof::{self, Figures};

/// C-101: the predicate of R-37 takes every valid signature and no invalid one.
#[test]
fn ed25519_signatures_hold_as_wycheproof_says() {
    let Figures { cases, run, taken, refused, refused_on_purpose } = wycheproof::ed25519().expect("every case");
    assert_eq!((cases, run, taken, refused), (151, 151, 88, 63));
    assert!(refused_on_purpose.is_empty(), "strictness costs no valid signature: {refused_on_purpose:?}");
}

/// C-101, R-09: what is refused although Wycheproof finds it acceptable is of small order or not in its one encoding.
#[test]
fn x25519_keys_agree_as_wycheproof_says_or_are_refused_on_purpose() {
    let Figures { cases, run, taken, refused, refused_on_purpose } = wycheproof::x25519().expect("every case");
    let purpose = |flag: &str| refused_on_purpose.get(flag).cloned().unwrap_or_default();
    let small_order = purpose("LowOrderPublic");
    let refused_keys: BTreeSet<u64> = small_order.union(&purpose("NonCanonicalPublic")).copied().collect();
    let all: BTreeSet<u64> = refused_on_purpose.values().flatten().copied().collect();
    assert_eq!(all, refused_keys, "every key refused is of small order or not canonical");
    assert_eq!(purpose("ZeroSharedSecret"), small_order, "a secret of zeros comes from keys of small order only");
    assert_eq!((cases, run, refused), (518, 518, 0), "Wycheproof calls none invalid");
    assert_eq!((taken, refused_keys.len(), small_order.len()), (474, 44, 31));
}

/// C-101: AES-256-GCM with nonces of 96 bits; other sizes do not occur.
#[test]
fn aes_gcm_holds_as_wycheproof_says() {
    let Figures { cases, run, taken, refused, refused_on_purpose } = wycheproof::aes_gcm().expect("every case");
    assert_eq!((cases, run, taken + refused), (316, 66, 66));
    assert!(taken > 0 && refused > 0 && refused_on_purpose.is_empty());
}

/// C-101.
#[test]
fn hkdf_holds_as_wycheproof_says() {
    let Figures { cases, run, taken, refused, refused_on_purpose } = wycheproof::hkdf_sha256().expect("every case");
    assert_eq!((cases, run, taken, refused), (86, 86, 83, 3));
    assert!(refused_on_purpose.is_empty());
}
