"""Acknowledgements and complaints (protocol 5.3, 5.4 step 2; R-16, R-17; wire 6.3)."""

from dataclasses import dataclass

from . import statement
from .encoding import H, Reader, u8
from .errors import NotCanonical, Refused
from .statement import Statement

LABEL = "veilsum/1/acknowledgement"
MISSING, GOOD, COMPLAINT = 0, 1, 2


@dataclass(frozen=True)
class Acknowledgement:
    """`entries` holds, in the sender's neighbour order, (kind, edge hash or None)."""
    entries: tuple
    shares_digest: bytes

    def body(self):
        return b"".join(u8(kind) + (edge or b"") for kind, edge in self.entries) + self.shares_digest

    def complaints(self):
        return sum(kind == COMPLAINT for kind, _ in self.entries)


def shares_digest(share_roots):
    """H over the roots behind the entries 1 and 2, in neighbour order."""
    return H(*share_roots)


def ack_statement(round_, client, ack):
    return Statement(LABEL, round_.context, round_.root, client, body=ack.body())


def decode(raw, k):
    """(signed, body bytes still closed): length, layout, label."""
    return statement.decode(raw, LABEL, k + 32, 33 * k + 32)


def decode_body(body, k):
    r = Reader(body)
    entries = []
    for _ in range(k):
        kind = r.u8()
        if kind > COMPLAINT:
            raise NotCanonical(f"an entry {kind}")
        entries.append((kind, r.take(32) if kind == COMPLAINT else None))
    digest = r.take(32)
    r.end()
    return Acknowledgement(tuple(entries), digest)


def accept(raw, round_, client, leaf, dealt):
    """The aggregator's accept. `dealt` holds the leaf indices whose share message was admitted."""
    signed = decode(raw, round_.k)
    statement.check(signed, context=round_.context, previous=round_.root, sender=client, key=leaf.identity_key,
                    at_service=True)
    ack = decode_body(signed.body, round_.k)
    if ack.complaints() > round_.most_complaints:
        raise Refused("too many complaints", "R-16", 422, proves=True)
    for dealer, (kind, _) in zip(round_.graph.neighbours(round_.index[client]), ack.entries):
        if kind != MISSING and dealer not in dealt:
            raise Refused("an entry for a neighbour that did not deal", "R-17", 422)
    return signed, ack


def counted_complaint(raw, round_, dealer, leaves, edges):
    """The complainer's leaf index if this acknowledgement holds a complaint that a dealer counts (R-16), else None.

    `edges` are the edges that the dealer persisted, by holder.
    """
    try:
        signed = decode(raw, round_.k)
        complainer = round_.index.get(signed.sender)
        if complainer is None or complainer not in edges:
            return None
        statement.check(signed, context=round_.context, previous=round_.root, sender=round_.ids[complainer],
                        key=leaves[complainer].identity_key)
        ack = decode_body(signed.body, round_.k)
    except Refused:
        return None
    if ack.complaints() > round_.most_complaints:
        return None
    kind, edge = ack.entries[round_.graph.place(complainer, dealer)]
    return complainer if kind == COMPLAINT and edge == edges[complainer].leaf_hash() else None
