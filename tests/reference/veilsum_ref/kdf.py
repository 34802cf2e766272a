"""HKDF and the three derived keys (protocol 2.1, R-10, R-32)."""

import hashlib
import hmac

from .encoding import lab


def hkdf(ikm, salt, info, length):
    """RFC 5869 with SHA-256: extract, then expand."""
    prk = hmac.new(salt, ikm, hashlib.sha256).digest()
    out, block = b"", b""
    for i in range(1, -(-length // 32) + 1):
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha256).digest()
        out += block
    return out[:length]


def pair_info(core_root, id_lo, id_hi, s_lo, s_hi, context):
    return lab("mask") + core_root + id_lo + id_hi + s_lo + s_hi + context


def pair_key(agreed, roster_root, core_root, id_lo, id_hi, s_lo, s_hi, context):
    """`agreed` is the encoding of s_u * S_v; lo is the client with the lower leaf index."""
    return hkdf(agreed, roster_root, pair_info(core_root, id_lo, id_hi, s_lo, s_hi, context), 16)


def self_info(core_root, client, context):
    return lab("self") + core_root + client + context


def self_key(b, roster_root, core_root, client, context):
    """`b` is the self-mask secret, 32 bytes."""
    return hkdf(b, roster_root, self_info(core_root, client, context), 16)


def mail_info(dealer, holder, c_dealer, c_holder):
    return lab("veilsum/1/share-mail") + dealer + holder + c_dealer + c_holder


def mail_key(agreed, roster_root, dealer, holder, c_dealer, c_holder):
    return hkdf(agreed, roster_root, mail_info(dealer, holder, c_dealer, c_holder), 32)
