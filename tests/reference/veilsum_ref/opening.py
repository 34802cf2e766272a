"""Openings (protocol 5.4; R-16; wire 6.4)."""

from dataclasses import dataclass

from . import ristretto, statement
from .encoding import Reader, u16, u32
from .errors import NotCanonical, Refused
from .statement import Statement

LABEL = "veilsum/1/opening"


@dataclass(frozen=True)
class Opening:
    """(holder, s_i, b_i), ascending by holder; shares are integers."""
    entries: tuple

    def body(self):
        return u16(len(self.entries)) + b"".join(
            u32(i) + ristretto.scalar_bytes(s) + ristretto.scalar_bytes(b) for i, s, b in self.entries)

    def of(self, holder):
        return next(((s, b) for i, s, b in self.entries if i == holder), None)


def opening_statement(round_, client, opening):
    return Statement(LABEL, round_.context, round_.root, client, body=opening.body())


def decode(raw, most):
    """Length, layout, label; then the body, which is short: count, order, scalars."""
    signed = statement.decode(raw, LABEL, 2 + 68, 2 + 68 * most)
    return signed


def decode_body(body):
    r = Reader(body)
    count = r.u16()
    if count < 1 or r.left() != 68 * count:
        raise NotCanonical("opening: count and length do not fit")
    entries = tuple((r.u32(), ristretto.scalar(r.take(32)), ristretto.scalar(r.take(32))) for _ in range(count))
    r.end()
    if any(a[0] >= b[0] for a, b in zip(entries, entries[1:])):
        raise NotCanonical("opening: not strictly ascending")
    return Opening(entries)


def accept(raw, round_, client, leaf, complainers):
    """The aggregator's accept, from a dealer complained about."""
    signed = decode(raw, round_.most_complaints)
    statement.check(signed, context=round_.context, previous=round_.root, sender=client, key=leaf.identity_key,
                    at_service=True)
    opening = decode_body(signed.body)
    if [i for i, _, _ in opening.entries] != sorted(complainers):
        raise Refused("the holders are not the complainers", "R-16", 422)
    return signed, opening


def opened_share(raw, round_, me, leaves, complained):
    """(dealer, s_i, b_i) that a complainer takes from an opening, or None (protocol 5.5 step 1).

    `complained` maps dealers that this client complained about to their edges.
    """
    from . import share
    try:
        signed = decode(raw, round_.most_complaints)
        dealer = round_.index.get(signed.sender)
        if dealer not in complained:
            return None
        statement.check(signed, context=round_.context, previous=round_.root, sender=round_.ids[dealer],
                        key=leaves[dealer].identity_key)
        entry = decode_body(signed.body).of(me)
    except Refused:
        return None
    if entry is None or not share.matches(complained[dealer], *entry):
        return None
    return dealer, *entry
