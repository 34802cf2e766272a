"""Signed reads (protocol 7.2, R-35; wire 8.3)."""

import re

from . import statement
from .encoding import ZERO32
from .errors import NotCanonical, Refused
from .statement import Statement

LABEL = "veilsum/1/read"
MOST_DIGITS = 8000


def read_statement(context, reader, target):
    return Statement(LABEL, context, sender=reader, body=target.encode("ascii"))


def header_value(context, reader, target, seed):
    return read_statement(context, reader, target).signed(seed).hex()


def check(value, context, target, keys):
    """`keys` maps readers with a right to this resource to their keys. Returns the reader."""
    if value is None or len(value) > MOST_DIGITS or len(value) % 2 or not re.fullmatch("[0-9a-f]*", value):
        raise Refused("absent or malformed", "R-35", 403)
    try:
        signed = statement.decode(bytes.fromhex(value), LABEL, 0, 4000)
    except NotCanonical:
        raise Refused("absent or malformed", "R-35", 403) from None
    s = signed.statement
    if s.context != context or s.previous != ZERO32 or s.receiver != bytes(16) or s.body != target.encode("ascii"):
        raise Refused("signed for something else", "R-37", 403)
    if s.sender not in keys:
        raise Refused("a reader without the right", "R-35", 403)
    if not signed.verifies(keys[s.sender]):
        raise Refused("the signature does not hold", "R-37", 403)
    return s.sender
