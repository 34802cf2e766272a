"""Ed25519 signatures and the one predicate that verifies them (protocol 2.7, R-37)."""

import hashlib

from . import edwards
from .edwards import L, P


def _sha512(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def encode_point(point):
    x, y, z, _ = point
    inverse = pow(z, P - 2, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decode_point(raw):
    """A point from its 32 bytes, y below 2^255 - 19; None where there is none."""
    value = int.from_bytes(raw, "little")
    sign, y = value >> 255, value & (1 << 255) - 1
    if y >= P:
        return None
    x = edwards.recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def _expand(seed):
    h = hashlib.sha512(seed).digest()
    a = int.from_bytes(h[:32], "little")
    a = a & (1 << 254) - 8 | 1 << 254
    return a, h[32:]


def public_key(seed):
    return encode_point(edwards.mul_base(_expand(seed)[0] % L))


def sign(seed, message):
    """RFC 8032 5.1.6; deterministic."""
    a, prefix = _expand(seed)
    public = encode_point(edwards.mul_base(a % L))
    r = _sha512(prefix, message) % L
    big_r = encode_point(edwards.mul_base(r))
    s = (r + _sha512(big_r, public, message) * a) % L
    return big_r + s.to_bytes(32, "little")


_identity_keys = {}


def is_identity_key(public):
    """Step 1: canonical, on the curve, not of small order."""
    return _identity_point(public) is not None


def _identity_point(public):
    if public not in _identity_keys:
        point = decode_point(public) if len(public) == 32 else None
        if point is not None and edwards.is_small_order(point):
            point = None
        _identity_keys[public] = point
    return _identity_keys[public]


def verify(public, message, signature):
    """R-37, in its three steps."""
    a = _identity_point(public)
    if a is None or len(signature) != 64:
        return False
    r_bytes, s = signature[:32], int.from_bytes(signature[32:], "little")
    if s >= L:
        return False
    r = decode_point(r_bytes)
    if r is None or edwards.is_small_order(r):
        return False
    q = _sha512(r_bytes, public, message) % L
    check = edwards.add(edwards.mul_base(s), edwards.mul(q, edwards.neg(a)))
    return encode_point(check) == r_bytes
