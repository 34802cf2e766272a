"""The core (protocol 5.4, 5.5; R-17; wire 4.5)."""

from . import statement
from .encoding import Reader, bitmap_of, members_of, u32
from .errors import LeftOut, NotCanonical, Refused
from .statement import Statement

LABEL = "veilsum/1/core"


def compute(graph, t, start):
    """Repeatedly removes everyone with fewer than t neighbours inside; the result does not depend on the order."""
    core = set(start)
    while True:
        weak = {i for i in core if sum(j in core for j in graph.neighbours(i)) < t}
        if not weak:
            return sorted(core)
        core -= weak


def core_statement(round_, members):
    body = u32(round_.n) + u32(len(members)) + bitmap_of(members, round_.n)
    return Statement(LABEL, round_.context, round_.root, round_.aggregator_id, body=body)


def decode(raw, round_):
    """Statement and bitmap (wire 4.5): (signed, members)."""
    signed = statement.decode(raw, LABEL, 8 + (round_.n + 7) // 8)
    statement.check(signed, context=round_.context, previous=round_.root, sender=round_.aggregator_id,
                    key=round_.header.aggregator_key)
    r = Reader(signed.body)
    n, count, bitmap = r.u32(), r.u32(), r.take((round_.n + 7) // 8)
    r.end()
    if n != round_.n:
        raise NotCanonical("core: another n")
    members = members_of(bitmap, n)
    if len(members) != count:
        raise NotCanonical("core: count is not the number of bits set")
    return signed, members


def check(members, round_, me):
    """R-17, as a client checks it before it masks."""
    inside = set(members)
    if me not in inside:
        raise LeftOut("not in the core", "R-17")
    if sum(j in inside for j in round_.graph.neighbours(me)) < round_.t:
        raise Refused("fewer than t neighbours in the core", "R-17")
    if len(members) < round_.fewest:
        raise Refused("the core is too small", "R-17")
