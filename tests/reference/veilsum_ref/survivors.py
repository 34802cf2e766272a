"""Survivors (protocol 5.5, 5.6; R-15, R-20, R-21, R-22; wire 4.6)."""

from dataclasses import dataclass

from . import merkle, statement
from .encoding import Reader, bitmap_of, members_of, u32
from .errors import LeftOut, NotCanonical, Refused
from .statement import Statement

LABEL = "veilsum/1/survivors"


@dataclass(frozen=True)
class Survivors:
    signed: statement.Signed
    members: tuple
    uploads_root: bytes


def uploads_root(upload_roots):
    """`upload_roots` are (leaf index, root(upload statement)), ascending."""
    return merkle.root([u32(i) + root for i, root in upload_roots])


def survivors_statement(round_, core_root, members, root):
    body = u32(round_.n) + u32(len(members)) + bitmap_of(members, round_.n) + root
    return Statement(LABEL, round_.context, core_root, round_.aggregator_id, body=body)


def decode(raw, round_, core_root, core):
    signed = statement.decode(raw, LABEL, 40 + (round_.n + 7) // 8)
    statement.check(signed, context=round_.context, previous=core_root, sender=round_.aggregator_id,
                    key=round_.header.aggregator_key)
    r = Reader(signed.body)
    n, count, bitmap, root = r.u32(), r.u32(), r.take((round_.n + 7) // 8), r.take(32)
    r.end()
    if n != round_.n:
        raise NotCanonical("survivors: another n")
    members = members_of(bitmap, n)
    if len(members) != count:
        raise NotCanonical("survivors: count is not the number of bits set")
    if not set(members) <= set(core):
        raise Refused("survivors: not within the core", "R-21")
    return Survivors(signed, tuple(members), root)


def check(survivors, uploads, round_, core_root, me, leaves):
    """R-15, R-21, R-22, the client's one decision. `uploads` are the signed upload statements served, raw."""
    inside = set(survivors.members)
    if len(inside) < round_.fewest:
        raise Refused("too few survivors", "R-15")
    if me not in inside:
        raise LeftOut("not among the survivors", "R-21")
    around = [j for j in round_.graph.neighbours(me) if j in inside]
    if len(around) < round_.t:
        raise Refused("fewer than t neighbours survive", "R-21")
    held = set()
    for raw in uploads:
        try:
            signed = statement.decode(raw, "veilsum/1/upload", 40)
            i = round_.index.get(signed.sender)
            if i not in around:
                raise Refused("of nobody whose upload is due", "R-22")
            statement.check(signed, context=round_.context, previous=core_root, sender=round_.ids[i],
                            key=leaves[i].identity_key)
        except Refused as error:
            raise Refused("an upload statement fails: " + error.why, "R-22") from None
        held.add(i)
    if held != set(around):
        raise Refused("no upload statement of a neighbour that survives", "R-22")
