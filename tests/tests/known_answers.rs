//! Known answers of the standards behind the primitives, as this crate calls them. C-103
//!
//! The first answer of each stands beside its primitive in crypto/src/primitives; these are the further ones. Ristretto's
//! are in tests/vectors/v1/ristretto.json.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::aes::cipher::BlockCipherEncrypt as _;
use aes_gcm::aes::{Aes128, Aes256};
use aes_gcm::{Aes256Gcm, Key};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256, Sha512};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::primitives::prg::MaskKey;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey};

fn bytes<const N: usize>(digits: &str) -> [u8; N] {
    hex::decode(digits).expect("hex").try_into().expect("as many bytes as asked")
}

/// C-103: FIPS 180-4, the examples of NIST's CAVS and FIPS 180-2.
#[test]
fn hashes_are_those_of_fips_180_4() {
    let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    let million = vec![b'a'; 1_000_000];
    for (message, digest) in [
        (&b""[..], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (two_blocks, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
        (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ] {
        assert_eq!(hex::encode(Sha256::digest(message)), digest);
    }
    let abc = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    assert_eq!(hex::encode(Sha512::digest(b"abc")), abc);
}

/// C-103: RFC 5869 §A.2 (long inputs) and §A.3 (no salt, no info).
#[test]
fn hkdf_is_that_of_rfc_5869() {
    let range = |from, to: u16| (from..to).map(|byte| byte as u8).collect::<Vec<u8>>();
    let mut output = [0; 82];
    let long = Hkdf::<Sha256>::new(Some(&range(0x60, 0xb0)), &range(0, 0x50));
    long.expand(&range(0xb0, 0x100), &mut output).expect("short");
    let expected = "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87";
    assert_eq!(hex::encode(output), expected);
    let mut output = [0; 42];
    Hkdf::<Sha256>::new(Some(&[]), &[0x0b; 22]).expand(&[], &mut output).expect("short");
    let expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8";
    assert_eq!(hex::encode(output), expected);
}

/// C-103: RFC 8032 §7.1, tests 1 and 3 and SHA(abc); signatures hold by the one predicate, and with one bit changed do not.
#[test]
fn signatures_are_those_of_rfc_8032() {
    let abc = hex::encode(Sha512::digest(b"abc"));
    for (seed, public, message, signature) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
        (
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            &abc,
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
        ),
    ] {
        let key = IdentityPublicKey::from_bytes(bytes(public)).expect("a key");
        assert_eq!(IdentitySecretKey::from_bytes(&bytes(seed)).public(), key);
        let (message, signature) = (hex::decode(message).expect("hex"), bytes::<64>(signature));
        assert!(key.verify_strict(&message, &signature));
        for bit in 0..512 {
            let mut other = signature;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verify_strict(&message, &other), "bit {bit}");
        }
    }
}

/// C-103: RFC 7748 §5.2, the second vector and a thousand iterations, and §6.1.
#[test]
fn x25519_is_that_of_rfc_7748() {
    let agreed = x25519_dalek::x25519(
        bytes("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
        bytes("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"),
    );
    assert_eq!(agreed, bytes("95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"));
    let mut nine = [0; 32];
    nine[0] = 9;
    let (mut k, mut u) = (nine, nine);
    for _ in 0..1_000 {
        (k, u) = (x25519_dalek::x25519(k, u), k);
    }
    assert_eq!(k, bytes("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
    let alice = bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let (of_alice, of_bob) = (x25519_dalek::x25519(alice, nine), x25519_dalek::x25519(bob, nine));
    let shared = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!((x25519_dalek::x25519(alice, of_bob), x25519_dalek::x25519(bob, of_alice)), (shared, shared));
}

/// C-103: McGrew and Viega's test cases 13, 15 and 16 for AES-256-GCM.
#[test]
fn aes_256_gcm_is_that_of_its_authors() {
    let seal = |key, nonce: [u8; 12], msg: &[u8], aad: &[u8]| {
        let sealed = Aes256Gcm::new(&Key::<Aes256Gcm>::from(key)).encrypt(&nonce.into(), Payload { msg, aad });
        hex::encode(sealed.expect("short"))
    };
    assert_eq!(seal([0; 32], [0; 12], b"", b""), "530f8afbc74536b9a963b4f1c4cb738b");
    let key: [u8; 32] = bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    let nonce = bytes("cafebabefacedbaddecaf888");
    let plain: [u8; 64] = bytes(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
    );
    let whole = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015adb094dac5d93471bdec1a502270e3cc6c";
    assert_eq!(seal(key, nonce, &plain, b""), whole);
    let aad: [u8; 20] = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let with_aad = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b";
    assert_eq!(seal(key, nonce, &plain[..60], &aad), with_aad);
}

/// C-103: SP 800-38A, F.5.1 and F.5.5: the block cipher on the document's counter blocks gives its key streams. The
/// document increments its blocks as big-endian integers; suite 1 counts in the first eight bytes, little-endian, from zero
/// (protocol §2.4), so that block i of a mask is the cipher on u64(i) ‖ eight zero bytes, and nothing else of the mode differs.
#[test]
fn counter_mode_is_that_of_sp_800_38a_but_for_the_order_of_the_counter() {
    let plain: [u8; 64] = bytes(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
    );
    let sealed_128 = "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee";
    let sealed_256 = "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5";
    let aes_128 = Aes128::new(&bytes("2b7e151628aed2a6abf7158809cf4f3c").into());
    let aes_256 = Aes256::new(&bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").into());
    let first = u128::from_be_bytes(bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"));
    let counted = |encrypt: &dyn Fn(&mut [u8; 16]), blocks: u128| -> String {
        let stream = (0..blocks).flat_map(|block| {
            let mut counter = (first + block).to_be_bytes();
            encrypt(&mut counter);
            counter
        });
        hex::encode(plain.iter().zip(stream).map(|(plain, mask)| plain ^ mask).collect::<Vec<u8>>())
    };
    assert_eq!(counted(&|block| aes_128.encrypt_block(block.into()), 4), sealed_128);
    assert_eq!(counted(&|block| aes_256.encrypt_block(block.into()), 2), sealed_256);

    // A mask of suite 1 under the document's key.
    let mut mask = RingVector::zeros(1_000, RingBits::MAX);
    mask.add_mask(MaskKey::from_bytes(bytes("2b7e151628aed2a6abf7158809cf4f3c")));
    for (index, block) in mask.pack().as_chunks::<16>().0.iter().enumerate() {
        let mut counter = [0; 16];
        counter[..8].copy_from_slice(&(index as u64).to_le_bytes());
        aes_128.encrypt_block((&mut counter).into());
        assert_eq!(*block, counter, "block {index}");
    }
}
