"""Confirms (protocol 5.6, 5.7; R-23, R-24; wire 6.6, 7)."""

from . import statement
from .encoding import Reader
from .errors import NotCanonical, Refused
from .share import frame
from .statement import Statement

LABEL = "veilsum/1/confirm"
LENGTH = 184


def confirm_statement(round_, survivors_root, client):
    return Statement(LABEL, round_.context, survivors_root, client)


def accept(raw, round_, survivors_root, client, leaf):
    signed = statement.decode(raw, LABEL, 0)
    statement.check(signed, context=round_.context, previous=survivors_root, sender=client, key=leaf.identity_key,
                    at_service=True)
    return signed


def encode_shown(signed):
    """The body of `confirmations`: ascending by leaf index."""
    return frame(signed)


def check_shown(raw, round_, survivors_root, survivors, leaves):
    """R-24: t distinct valid confirms of members of the agreement set that are in L. Returns those that counted."""
    r = Reader(raw)
    count = r.u16()
    if not round_.t <= count <= round_.k:
        raise NotCanonical(f"confirmations: {count} of them")
    items = []
    for _ in range(count):
        if r.u32() != LENGTH:
            raise NotCanonical("confirmations: a length")
        items.append(r.take(LENGTH))
    r.end()
    at = 1 + len(LABEL) + 2 + 64                     # the sender lies here in every confirm
    senders = [item[at:at + 16] for item in items]
    if any(a >= b for a, b in zip(senders, senders[1:])):
        raise NotCanonical("confirmations: not strictly ascending")
    agreement, inside, counted = set(round_.graph.agreement), set(survivors.members), []
    for item in items:
        try:
            signed = statement.decode(item, LABEL, 0)
            i = round_.index.get(signed.sender)
            if i is None or i not in agreement or i not in inside or i in counted:
                continue
            statement.check(signed, context=round_.context, previous=survivors_root, sender=round_.ids[i],
                            key=leaves[i].identity_key)
        except Refused:
            continue
        counted.append(i)
        if len(counted) == round_.t:
            return counted
    raise Refused("fewer than t valid confirms", "R-24")
