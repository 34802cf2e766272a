"""The ring Z mod 2^r, packing, and mask keystreams (protocol 2.3, 2.4, R-32).

Vectors are numpy arrays of uint64, every element below 2^r.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .errors import NotCanonical


def packed_length(m, r):
    return (m * r + 7) // 8


def modulus_mask(r):
    return np.uint64((1 << r) - 1)


def reduce(vector, r):
    """Integers (numpy int64 or uint64) into the ring."""
    return np.asarray(vector).astype(np.uint64) & modulus_mask(r)


def _unpack_bits(raw, m, r):
    """m elements of r bits from a little-endian bit string."""
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[:m * r].reshape(m, r)
    padded = np.zeros((m, 64), np.uint8)
    padded[:, :r] = bits
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").reshape(m).astype(np.uint64)


def unpack(raw, m, r):
    """Elements of a packed vector; another length or spare bits are not canonical."""
    if len(raw) != packed_length(m, r):
        raise NotCanonical("a packed vector of another length")
    spare = 8 * len(raw) - m * r
    if spare and raw[-1] >> (8 - spare):
        raise NotCanonical("spare bits of a packed vector are not zero")
    out = np.empty(m, np.uint64)
    step = 1 << 16                       # a multiple of 8 elements is a whole number of bytes
    for lo in range(0, m, step):
        hi = min(m, lo + step)
        out[lo:hi] = _unpack_bits(raw[lo * r // 8:packed_length(hi, r)], hi - lo, r)
    return out


def pack(vector, r):
    """ceil(m r / 8) bytes; element j occupies bits j r .. (j+1) r - 1."""
    vector = np.ascontiguousarray(vector, "<u8")
    out = []
    step = 1 << 16
    for lo in range(0, len(vector), step):
        part = vector[lo:lo + step]
        bits = np.unpackbits(part.view(np.uint8).reshape(len(part), 8), axis=1, bitorder="little")[:, :r]
        out.append(np.packbits(bits.reshape(-1), bitorder="little").tobytes())
    return b"".join(out)


def keystream(key, length):
    """AES-128 over the blocks u64(i), eight zero bytes; `length` bytes of it."""
    blocks = -(-length // 16)
    if blocks > 1 << 32:
        raise ValueError("no key yields more than 2^32 blocks (R-32)")
    counters = np.zeros((blocks, 2), "<u8")
    counters[:, 0] = np.arange(blocks, dtype=np.uint64)
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return (encryptor.update(counters.tobytes()) + encryptor.finalize())[:length]


def mask(key, m, r):
    """The mask of m elements under a key."""
    raw = bytearray(keystream(key, packed_length(m, r)))
    spare = 8 * len(raw) - m * r
    if spare:
        raw[-1] &= 0xff >> spare
    return unpack(bytes(raw), m, r)


def centre(vector, r):
    """Each element e as e, or e - 2^r if e >= 2^(r-1) (protocol 6.4); int64."""
    vector = np.asarray(vector, np.uint64)
    if r == 64:
        return vector.view(np.int64).copy()
    out = vector.astype(np.int64)
    out[vector >= np.uint64(1 << (r - 1))] -= np.int64(1 << r) if r < 63 else np.int64(-2**63)
    return out
