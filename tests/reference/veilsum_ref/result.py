"""The result (protocol 5.7, 5.8; wire 4.7)."""

from dataclasses import dataclass

from . import ring, statement
from .encoding import H, ZERO32, Reader, u8, u32
from .errors import NotCanonical, Refused
from .statement import Statement

LABEL = "veilsum/1/result"
RELEASED, NOT_OPENED = 1, 2


@dataclass(frozen=True)
class Result:
    signed: statement.Signed
    count: int
    outcome: int
    total: object              # the sum, uint64 elements, or None
    packed: bytes


def result_statement(round_, survivors_root, count, packed):
    """`packed` is None if the sum could not be opened."""
    digest, outcome = (ZERO32, NOT_OPENED) if packed is None else (H(packed), RELEASED)
    return Statement(LABEL, round_.context, survivors_root, round_.aggregator_id,
                     body=u32(count) + digest + u8(outcome))


def decode(raw, round_, survivors_root, survivors_count):
    """Everything a client checks of it (protocol 5.8)."""
    if len(raw) not in (220, 220 + round_.vector_bytes):
        raise NotCanonical(f"a result of {len(raw)} bytes")
    signed = statement.decode(raw[:220], LABEL, 37)
    statement.check(signed, context=round_.context, previous=survivors_root, sender=round_.aggregator_id,
                    key=round_.header.aggregator_key)
    r = Reader(signed.body)
    count, digest, outcome = r.u32(), r.take(32), r.u8()
    r.end()
    packed = raw[220:]
    if outcome not in (RELEASED, NOT_OPENED) or (outcome == RELEASED) != (len(raw) != 220):
        raise NotCanonical("result: outcome and length do not fit")
    if count != survivors_count:
        raise Refused("result: another count than the survivors'", None)
    if outcome == NOT_OPENED:
        if digest != ZERO32:
            raise NotCanonical("result: a digest without a sum")
        return Result(signed, count, outcome, None, b"")
    total = ring.unpack(packed, round_.header.vector_len, round_.header.ring_bits)
    if H(packed) != digest:
        raise Refused("result: another digest than the sum's", None)
    return Result(signed, count, outcome, total, packed)
