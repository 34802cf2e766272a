"""ristretto255 and its scalars (protocol 2.2, RFC 9496)."""

from . import edwards
from .edwards import BASE, D, IDENTITY, L, P, SQRT_M1
from .errors import NotCanonical

IDENTITY_BYTES = bytes(32)


def _sqrt_ratio(u, v):
    """RFC 9496 4.2, SQRT_RATIO_M1: (was_square, root)."""
    r = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    check = v * r * r % P
    correct = check == u % P
    flipped = check == -u % P
    flipped_i = check == -u * SQRT_M1 % P
    if flipped or flipped_i:
        r = r * SQRT_M1 % P
    if r & 1:
        r = P - r
    return correct or flipped, r


INVSQRT_A_MINUS_D = _sqrt_ratio(1, -1 - D)[1]


def decode(raw):
    """RFC 9496 4.3.1: the point, or None for a string that is no canonical encoding. Accepts the identity."""
    s = int.from_bytes(raw, "little")
    if len(raw) != 32 or s >= P or s & 1:
        return None
    ss = s * s % P
    u1, u2 = (1 - ss) % P, (1 + ss) % P
    u2_sq = u2 * u2 % P
    v = (-D * u1 * u1 - u2_sq) % P
    square, inverse = _sqrt_ratio(1, v * u2_sq % P)
    den_x = inverse * u2 % P
    den_y = inverse * den_x % P * v % P
    x = 2 * s * den_x % P
    if x & 1:
        x = P - x
    y = u1 * den_y % P
    t = x * y % P
    if not square or t & 1 or y == 0:
        return None
    return x, y, 1, t


def encode(point):
    """RFC 9496 4.3.2."""
    x0, y0, z0, t0 = point
    u1 = (z0 + y0) * (z0 - y0) % P
    u2 = x0 * y0 % P
    _, inverse = _sqrt_ratio(1, u1 * u2 % P * u2 % P)
    den1 = inverse * u1 % P
    den2 = inverse * u2 % P
    z_inv = den1 * den2 % P * t0 % P
    if t0 * z_inv % P & 1:
        x, y = y0 * SQRT_M1 % P, x0 * SQRT_M1 % P
        den = den1 * INVSQRT_A_MINUS_D % P
    else:
        x, y, den = x0, y0, den2
    if x * z_inv % P & 1:
        y = -y % P
    s = den * (z0 - y) % P
    if s & 1:
        s = P - s
    return s.to_bytes(32, "little")


_points = {}


def point(raw):
    """A *point* of the protocol: canonical and not the identity; else not canonical."""
    if raw not in _points:
        if len(_points) > 200_000:
            _points.clear()
        _points[raw] = None if raw == IDENTITY_BYTES else decode(raw)
    if _points[raw] is None:
        raise NotCanonical("not a point: no canonical ristretto255 encoding, or the identity")
    return _points[raw]


def scalar(raw):
    """A scalar: 32 bytes, below l."""
    value = int.from_bytes(raw, "little")
    if len(raw) != 32 or value >= L:
        raise NotCanonical("not a scalar: not below the group order")
    return value


def scalar_bytes(value):
    return (value % L).to_bytes(32, "little")


def times_base(value):
    """The encoding of value * G."""
    return encode(edwards.mul_base(value % L))


def times(value, raw):
    """The encoding of value * point."""
    return encode(edwards.mul(value % L, point(raw)))


def is_identity(p):
    """The identity's class: x = 0 or y = 0."""
    return p[0] % P == 0 or p[1] % P == 0


__all__ = ["BASE", "IDENTITY", "L", "decode", "encode", "point", "scalar", "scalar_bytes", "times", "times_base",
           "is_identity", "IDENTITY_BYTES"]
