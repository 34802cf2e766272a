"""Integers, fields, frames, bitmaps (protocol 1, wire 1)."""

import hashlib
import math
import struct

from .errors import NotCanonical

ZERO16 = bytes(16)
ZERO32 = bytes(32)


def H(*parts):
    """SHA-256 of the concatenation (protocol 2.1)."""
    return hashlib.sha256(b"".join(parts)).digest()


def lab(label):
    """u8 length, then the label in ASCII (protocol 1)."""
    raw = label.encode("ascii")
    return bytes([len(raw)]) + raw


def u8(x):
    return x.to_bytes(1, "little")


def u16(x):
    return x.to_bytes(2, "little")


def u32(x):
    return x.to_bytes(4, "little")


def u64(x):
    return x.to_bytes(8, "little")


def f64(x):
    return struct.pack("<d", x)


def framed(x):
    return u32(len(x)) + x


def key_id(public_key):
    """The id of an aggregator, an authority or an auditor (protocol 4.1)."""
    return H(public_key)[:16]


class Reader:
    """Reads fields in order; anything that does not fit is not canonical (wire 1, the decoder)."""

    def __init__(self, raw):
        self.raw = bytes(raw)
        self.at = 0

    def left(self):
        return len(self.raw) - self.at

    def take(self, n):
        if n > self.left():
            raise NotCanonical(f"{n} bytes wanted at offset {self.at}, {self.left()} left")
        part = self.raw[self.at:self.at + n]
        self.at += n
        return part

    def uint(self, n):
        return int.from_bytes(self.take(n), "little")

    def u8(self):
        return self.uint(1)

    def u16(self):
        return self.uint(2)

    def u32(self):
        return self.uint(4)

    def u64(self):
        return self.uint(8)

    def f64(self):
        """Only finite numbers from +0 up are canonical (wire 1)."""
        x = struct.unpack("<d", self.take(8))[0]
        if not math.isfinite(x) or math.copysign(1.0, x) < 0:
            raise NotCanonical("a binary64 that is negative or not finite")
        return x

    def end(self):
        if self.left():
            raise NotCanonical(f"{self.left()} bytes left over")


def bitmap_of(members, n):
    """Bit i is bit (i mod 8) of byte floor(i / 8) (wire 1)."""
    raw = bytearray((n + 7) // 8)
    for i in members:
        if not 0 <= i < n:
            raise ValueError("member outside the roster")
        raw[i // 8] |= 1 << (i % 8)
    return bytes(raw)


def members_of(bitmap, n):
    """The members, ascending; bits n and above must be zero."""
    if len(bitmap) != (n + 7) // 8:
        raise NotCanonical("bitmap of another length")
    value = int.from_bytes(bitmap, "little")
    if value >> n:
        raise NotCanonical("padding bits of a bitmap are not zero")
    return [i for i in range(n) if value >> i & 1]
