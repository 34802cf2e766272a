"""The transparency log (protocol 9, R-33)."""

import base64

from . import merkle
from .encoding import H, u8, u64
from .errors import NotCanonical, Refused

RESERVED, SPENT, LAPSED = 1, 2, 3


def ledger_root(task, counter, context, kind):
    """The root of a ledger entry."""
    return H(task, u64(counter), context, u8(kind))


def entry(salt, root):
    """The 32 bytes of an entry."""
    return H(salt, root)


class Log:
    """The aggregator's side, in memory."""

    def __init__(self):
        self.hashes = []

    def append(self, data):
        self.hashes.append(merkle.leaf_hash(data))

    def head(self):
        return len(self.hashes), merkle.root_of_hashes(self.hashes)

    def consistency(self, old, new):
        return [] if old == new else merkle.consistency(old, self.hashes[:new])


def decode_proof(raw):
    """count u8, at most 64, then the hashes (wire 7)."""
    if not raw or raw[0] > 64 or len(raw) != 1 + 32 * raw[0]:
        raise NotCanonical("a consistency proof of another length")
    return [raw[1 + 32 * i:33 + 32 * i] for i in range(raw[0])]


def encode_proof(hashes):
    return u8(len(hashes)) + b"".join(hashes)


def check_extends(old, new, fetch):
    """R-33: the log at `new` (size, root) extends the one at `old`; `fetch(from, to)` gets a proof's bytes."""
    (old_size, old_root), (new_size, new_root) = old, new
    if new_size < old_size:
        raise Refused("the log shrank", "R-33")
    if new_size == old_size:
        if new_root != old_root:
            raise Refused("the log forked", "R-33")
        return
    if old_size == 0:
        return
    if not merkle.check_consistency(old_size, old_root, new_size, new_root, decode_proof(fetch(old_size, new_size))):
        raise Refused("the log's consistency is not shown", "R-33")


def parse_checkpoint(note):
    """(origin, size, root) of a tlog-checkpoint note; its signature is not looked at."""
    text = note.decode("utf-8").split("\n\n")[0].split("\n")
    return text[0], int(text[1]), base64.b64decode(text[2])
