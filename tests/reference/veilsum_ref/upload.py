"""Masked inputs (protocol 5.5; R-10, R-18, R-19, R-32; wire 6.5)."""

import numpy as np

from . import kdf, ring, ristretto, statement
from .encoding import H, Reader, u64
from .errors import NotCanonical, Refused
from .statement import Statement

LABEL = "veilsum/1/upload"


def pair_key_of(round_, core_root, me, other, s_me, S_me, S_other):
    """The key of the pair; `s_me` is an integer, S are encodings."""
    agreed = ristretto.times(s_me, S_other)
    lo_is_me = me < other
    id_lo, id_hi = (round_.ids[me], round_.ids[other]) if lo_is_me else (round_.ids[other], round_.ids[me])
    s_lo, s_hi = (S_me, S_other) if lo_is_me else (S_other, S_me)
    return kdf.pair_key(agreed, round_.root, core_root, id_lo, id_hi, s_lo, s_hi, round_.context)


def self_key_of(round_, core_root, me, b_me):
    return kdf.self_key(ristretto.scalar_bytes(b_me), round_.root, core_root, round_.ids[me], round_.context)


def mask_vector(z, round_, core_root, core, me, s, b, S_of):
    """y = z + self mask + masks of higher neighbours - masks of lower ones, over neighbours in the core (R-18)."""
    m, r = round_.header.vector_len, round_.header.ring_bits
    y = np.array(z, np.uint64)
    y += ring.mask(self_key_of(round_, core_root, me, b), m, r)
    inside = set(core)
    for other in round_.graph.neighbours(me):
        if other not in inside:
            continue
        pair = ring.mask(pair_key_of(round_, core_root, me, other, s, S_of[me], S_of[other]), m, r)
        y = y + pair if other > me else y - pair
    return y & ring.modulus_mask(r)


def upload_statement(round_, core_root, client, packed):
    return Statement(LABEL, round_.context, core_root, client, body=u64(len(packed)) + H(packed))


def accept(raw, round_, core_root, client, leaf):
    """The aggregator's accept, from a member of the core: (signed, vector)."""
    signed, packed = statement.front(raw, LABEL)
    statement.check(signed, context=round_.context, previous=core_root, sender=client, key=leaf.identity_key,
                    at_service=True)
    if len(signed.body) != 40 or len(packed) != round_.vector_bytes:
        raise NotCanonical(f"a masked input of {len(raw)} bytes")
    r = Reader(signed.body)
    if r.u64() != round_.vector_bytes:
        raise Refused("another length than the vector's", "R-19", 422)
    vector = ring.unpack(packed, round_.header.vector_len, round_.header.ring_bits)
    if H(packed) != r.take(32):
        raise Refused("another digest than the vector's", "R-19", 422)
    return signed, vector
