"""Answers (protocol 5.7; R-25, R-28; wire 6.7)."""

from . import ristretto, statement
from .encoding import Reader, u8
from .errors import NotCanonical
from .statement import Statement

LABEL = "veilsum/1/answer"


def entries_for(round_, core, survivors, me, shares):
    """The share of b for a neighbour in L, of s for one lost, None where it is not held (R-25)."""
    inside, living, out = set(core), set(survivors), []
    for j in round_.graph.neighbours(me):
        if j in inside:
            held = shares.get(j)
            out.append(None if held is None else held[1] if j in living else held[0])
    return out


def body(entries):
    return b"".join(u8(0) if x is None else u8(1) + ristretto.scalar_bytes(x) for x in entries)


def answer_statement(round_, survivors_root, client, entries):
    return Statement(LABEL, round_.context, survivors_root, client, round_.aggregator_id, body(entries))


def decode_body(raw, m):
    r = Reader(raw)
    out = []
    for _ in range(m):
        present = r.u8()
        if present > 1:
            raise NotCanonical(f"an entry {present}")
        out.append(ristretto.scalar(r.take(32)) if present else None)
    r.end()
    return out


def accept(raw, round_, core, survivors_root, client, leaf):
    """From a member of L: {neighbour: share or None}."""
    inside = set(core)
    around = [j for j in round_.graph.neighbours(round_.index[client]) if j in inside]
    m = len(around)
    signed = statement.decode(raw, LABEL, m, 33 * m)
    statement.check(signed, context=round_.context, previous=survivors_root, sender=client,
                    receiver=round_.aggregator_id, key=leaf.identity_key, at_service=True)
    return signed, dict(zip(around, decode_body(signed.body, m)))
