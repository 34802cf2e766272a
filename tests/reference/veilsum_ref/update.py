"""From a model update to ring elements and back (protocol 6; R-34)."""

import math
from fractions import Fraction

import numpy as np

from . import ring
from .errors import Refused

TRIES = 64


def clip(x, bound):
    """x' = x min(1, C / ||x||), in binary64."""
    x = np.asarray(x, np.float32).astype(np.float64)
    if not np.all(np.isfinite(x)):
        raise Refused("a value that is not finite", None)
    norm = math.sqrt(float(np.dot(x, x)))
    if norm == 0:
        return x
    return x * min(1.0, bound / norm)


def scaled(x, header, weight=None):
    """y: clipped, with its weight where the task has weights, in integer units (6.2, 6.5)."""
    d = header.vector_len - (1 if header.weight_max else 0)
    if len(x) != d:
        raise ValueError(f"{len(x)} coordinates, {d} expected")
    clipped = clip(x, header.clip)
    if not header.weight_max:
        return clipped * header.scale
    if weight is None or not math.isfinite(weight) or not 0 < weight <= header.weight_max:
        raise Refused("a weight out of bounds", "R-34")
    full = np.concatenate([clipped, [header.clip]])
    return (weight / header.weight_max) * full / math.sqrt(2) * header.scale


def squared_norm(z):
    """Exactly, in integers."""
    return sum(int(v) * int(v) for v in z)


def round_conditionally(y, max_squared_norm, rng):
    """z by protocol 6.2: up to 64 tries, then truncation, then zero. (z, tries used or None)."""
    low = np.floor(y)
    # A Bernoulli(f) draw with f a binary64 in [0, 1): a uniform multiple of 2^-64 is below f. A fraction below 2^-12
    # may have bits below 2^-64; its probability then errs by less than 2^-64, which only rounding's mean can feel.
    threshold = np.array([int(Fraction(float(f)) * 2**64) for f in (y - low)], dtype=object)
    for attempt in range(1, TRIES + 1):
        draws = np.frombuffer(rng.bytes(8 * len(y)), "<u8")
        z = [int(a) + (int(u) < t) for a, u, t in zip(low, draws, threshold)]
        if squared_norm(z) <= max_squared_norm:
            return np.array(z, np.int64), attempt
    z = np.trunc(y).astype(np.int64)
    if squared_norm(z) > max_squared_norm:
        z = np.zeros(len(y), np.int64)
    return z, None


def noised(z, noise, r):
    """The ring element (z + noise) mod 2^r (6.3)."""
    return ring.reduce(np.asarray(z, np.int64) + np.asarray(noise, np.int64), r)


def decode_sum(total, header, count):
    """(kind, values): the mean of protocol 6.4, or the weighted mean of 6.5, or None where there is no mean."""
    e = ring.centre(total, header.ring_bits).astype(np.float64)
    if not header.weight_max:
        return e / header.scale / count
    if e[-1] <= 0:
        return None
    return header.clip * e[:-1] / e[-1]
