"""The header: layout, what is malformed (protocol 5.1 step 3; wire 4.1)."""

import math
from dataclasses import dataclass, fields

from . import ed25519, params, statement
from .encoding import ZERO32, Reader, f64, key_id, u8, u16, u32, u64
from .errors import NotCanonical, Refused
from .statement import Statement

LABEL = "veilsum/1/header"
WINDOWS = ("advertise", "share", "acknowledge", "open", "mask", "confirm", "unmask")


@dataclass(frozen=True)
class Header:
    suite: int
    task: bytes
    counter: int
    opened_at: int
    aggregator_key: bytes
    authority_key: bytes
    revocation_number: int
    revocation_digest: bytes
    model_hash: bytes
    log_size: int
    log_root: bytes
    layout_hash: bytes
    vector_len: int
    weight_max: int
    ring_bits: int
    wrap_bits: int
    max_squared_norm: int
    scale: float
    clip: float
    total_variance: int
    roster_min: int
    roster_max: int
    cohort_min: int
    gamma: int
    delta: int
    sigma: int
    eta: int
    dp_delta: float
    windows: tuple

    def body(self):
        return b"".join((
            u16(self.suite), self.task, u64(self.counter), u64(self.opened_at), self.aggregator_key,
            self.authority_key, u64(self.revocation_number), self.revocation_digest, self.model_hash,
            u64(self.log_size), self.log_root, self.layout_hash, u32(self.vector_len), u32(self.weight_max),
            u8(self.ring_bits), u8(self.wrap_bits), u64(self.max_squared_norm), f64(self.scale), f64(self.clip),
            u64(self.total_variance), u32(self.roster_min), u32(self.roster_max), u32(self.cohort_min),
            u32(self.gamma), u32(self.delta), u16(self.sigma), u16(self.eta), f64(self.dp_delta),
            *[u32(w) for w in self.windows]))

    def statement(self):
        return Statement(LABEL, sender=key_id(self.aggregator_key), body=self.body())

    # what follows from header and n alone

    def corrupt(self, n):
        return params.ceil_gamma(self.gamma, n)

    def losses(self, n):
        return params.floor_delta(self.delta, n)

    def fewest(self, n):
        return params.fewest(self.cohort_min, n, self.delta)

    def honest(self, n):
        return params.honest(self.cohort_min, n, self.gamma, self.delta)

    def degree_threshold(self, n):
        return params.degree_threshold(n, self.corrupt(n), self.losses(n), self.sigma, self.eta)

    def least_r(self):
        return params.least_r(self.roster_min, self.roster_max, self.max_squared_norm, self.total_variance,
                              self.cohort_min, self.gamma, self.delta, self.wrap_bits)

    def noise_multiplier_at_least(self, least):
        """sqrt(total_variance) / (clip * scale) >= least, in binary64 as it is written."""
        return math.sqrt(self.total_variance) / (self.clip * self.scale) >= least

    def check_values(self):
        """Step 3 of protocol 5.1: refuses a malformed header."""
        for holds, why in self.conditions():
            if not holds():
                raise Refused("malformed header: " + why, "R-02")

    def conditions(self):
        two52 = 2.0 ** 52
        return (
            (lambda: self.suite == 1, "suite"),
            (lambda: self.counter >= 1, "counter 0"),
            (lambda: 1 <= self.vector_len <= 2**28, "vector_len"),
            (lambda: not (self.vector_len == 1 and self.weight_max > 0), "weights without a vector"),
            (lambda: 8 <= self.ring_bits <= 64, "ring_bits"),
            (lambda: 1 <= self.wrap_bits <= 128, "wrap_bits"),
            (lambda: 3 <= self.roster_min <= self.roster_max <= 16384, "roster bounds"),
            (lambda: 2 <= self.cohort_min <= self.roster_max, "cohort_min"),
            (lambda: self.gamma < 1_000_000 and self.delta < 1_000_000, "gamma or delta"),
            (lambda: self.roster_min - self.losses(self.roster_min) >= self.cohort_min,
             "roster_min - T below cohort_min"),
            (lambda: 1 <= self.sigma <= 256 and 1 <= self.eta <= 256, "sigma or eta"),
            (lambda: 0 < self.scale <= two52 and 0 < self.clip <= two52, "scale or clip"),
            (lambda: 0 < self.dp_delta < 1, "dp_delta"),
            (lambda: self.clip * self.scale <= 2**31, "clip * scale"),
            (lambda: 1 <= self.max_squared_norm <= 2**62, "max_squared_norm"),
            (lambda: self.total_variance <= 2**52, "total_variance"),
            (lambda: all(self.windows), "a window of 0 ms"),
            (lambda: max(self.windows) <= 86_400_000, "a window of more than a day"),
            (lambda: all(self.honest(n) >= 1 for n in range(self.roster_min, self.roster_max + 1)), "h < 1"),
            (lambda: (self.least_r() or 65) <= self.ring_bits, "ring_bits below the least r"),
            (lambda: (self.revocation_number == 0) == (self.revocation_digest == ZERO32), "revocation"),
        )


def decode_body(body):
    r = Reader(body)
    h = Header(
        r.u16(), r.take(16), r.u64(), r.u64(), r.take(32), r.take(32), r.u64(), r.take(32), r.take(32), r.u64(),
        r.take(32), r.take(32), r.u32(), r.u32(), r.u8(), r.u8(), r.u64(), r.f64(), r.f64(), r.u64(), r.u32(), r.u32(),
        r.u32(), r.u32(), r.u32(), r.u16(), r.u16(), r.f64(), tuple(r.u32() for _ in WINDOWS))
    r.end()
    for key in (h.aggregator_key, h.authority_key):
        if not ed25519.is_identity_key(key):
            raise NotCanonical("header: not an identity key")
    return h


def decode(raw, aggregator_key):
    """Statement and layout, as wire 4.1 orders, under the key that the reader pinned: (signed, header)."""
    signed = statement.decode(raw, LABEL, 344)
    statement.check(signed, key=aggregator_key, sender=key_id(aggregator_key))
    h = decode_body(signed.body)
    if h.aggregator_key != aggregator_key:
        raise Refused("header: another aggregator key than the pinned one", "R-02")
    return signed, h


NAMES = tuple(f.name for f in fields(Header))
