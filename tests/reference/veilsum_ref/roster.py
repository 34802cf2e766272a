"""The roster (protocol 5.1, 5.2, R-05; wire 4.4), and the facts of a round that follow from it."""

from dataclasses import dataclass, field

from . import merkle, statement
from .encoding import Reader, key_id, u16, u32
from .errors import NotCanonical, Refused
from .graph import Graph
from .statement import Statement

LABEL = "veilsum/1/roster"


@dataclass(frozen=True)
class Roster:
    n: int
    k: int
    t: int
    h: int
    closing_nonce: bytes
    tree_root: bytes
    entries: tuple = field(repr=False)           # (client id, leaf digest) by leaf index
    signed: statement.Signed = field(repr=False)

    def root(self):
        return self.signed.root()


def tree_root(entries):
    return merkle.root([client + digest for client, digest in entries])


def roster_statement(context, aggregator_id, n, k, t, h, closing_nonce, root):
    body = u32(n) + u16(k) + u16(t) + u32(h) + closing_nonce + root
    return Statement(LABEL, context, context, aggregator_id, body=body)


def encode(signed, entries):
    return signed + b"".join(client + digest for client, digest in entries)


def decode(raw, header, context):
    """Everything that wire 4.4 lists, in its order."""
    if not 259 + 48 * header.roster_min <= len(raw) <= 259 + 48 * header.roster_max:
        raise NotCanonical(f"a roster of {len(raw)} bytes")
    signed = statement.decode(raw[:259], LABEL, 76)
    statement.check(signed, context=context, previous=context, sender=key_id(header.aggregator_key),
                    key=header.aggregator_key)
    r = Reader(signed.body)
    n, k, t, h, closing_nonce, root = r.u32(), r.u16(), r.u16(), r.u32(), r.take(32), r.take(32)
    r.end()
    if not header.roster_min <= n <= header.roster_max:
        raise Refused("roster: n out of bounds", "R-05")
    if len(raw) != 259 + 48 * n:
        raise NotCanonical("roster: n and length do not fit")
    r = Reader(raw[259:])
    entries = tuple((r.take(16), r.take(32)) for _ in range(n))
    if any(a[0] >= b[0] for a, b in zip(entries, entries[1:])):
        raise Refused("roster: not strictly ascending", "R-05")
    if tree_root(entries) != root:
        raise Refused("roster: the tree has another root", "R-05")
    found = header.degree_threshold(n)
    if found is None or (k, t) != found[:2]:
        raise Refused("roster: k, t are not those of n", "R-04")
    if h != header.honest(n) or h < 1:
        raise Refused("roster: h is not that of n", "R-14")
    return Roster(n, k, t, h, closing_nonce, root, entries, signed)


class Round:
    """What everybody derives from header and roster."""

    def __init__(self, header, context, roster):
        self.header, self.context, self.roster = header, context, roster
        self.id = context[:16]
        self.root = roster.root()
        self.n, self.k, self.t, self.h = roster.n, roster.k, roster.t, roster.h
        self.graph = Graph(self.root, self.n, self.k)
        self.ids = [client for client, _ in roster.entries]
        self.index = {client: i for i, client in enumerate(self.ids)}
        self.fewest = header.fewest(self.n)
        self.most_complaints = 2 * self.t - self.k - 1
        self.vector_bytes = (header.vector_len * header.ring_bits + 7) // 8
        self.aggregator_id = key_id(header.aggregator_key)
