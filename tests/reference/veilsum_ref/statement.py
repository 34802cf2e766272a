"""The one signed type (protocol 4.1, R-01; wire 3)."""

from dataclasses import dataclass

from . import ed25519
from .encoding import H, ZERO16, ZERO32, Reader, lab, u16, u32
from .errors import NotCanonical, Refused

LABELS = tuple("veilsum/1/" + x for x in (
    "header", "certificate", "advert", "roster", "share", "acknowledgement", "opening", "core", "upload", "survivors",
    "confirm", "answer", "result", "read", "revocation"))
VERSION = 1


@dataclass(frozen=True)
class Statement:
    label: str
    context: bytes = ZERO32
    previous: bytes = ZERO32
    sender: bytes = ZERO16
    receiver: bytes = ZERO16
    body: bytes = b""
    version: int = VERSION

    def encode(self):
        return (lab(self.label) + u16(self.version) + self.context + self.previous + self.sender + self.receiver
                + u32(len(self.body)) + self.body)

    def root(self):
        """SHA-256 of the statement bytes, without the signature."""
        return H(self.encode())

    def signed(self, seed):
        """signed(X): the statement, then its signature."""
        raw = self.encode()
        return raw + ed25519.sign(seed, raw)


@dataclass(frozen=True)
class Signed:
    statement: Statement
    signature: bytes

    @property
    def body(self):
        return self.statement.body

    @property
    def sender(self):
        return self.statement.sender

    def root(self):
        return self.statement.root()

    def raw(self):
        return self.statement.encode() + self.signature

    def verifies(self, key):
        return ed25519.verify(key, self.statement.encode(), self.signature)


def fixed_length(label):
    """Bytes of a signed statement without its body."""
    return 167 + len(label)


def decode(raw, label, shortest=0, longest=None):
    """A signed statement of this label with a body of `shortest` to `longest` bytes: length, layout, label, version.

    The length of the whole is checked first (wire 1); every failure is "not canonical".
    """
    if longest is None:
        longest = shortest
    size = len(raw) - fixed_length(label)
    if not shortest <= size <= longest:
        raise NotCanonical(f"{label}: {len(raw)} bytes, a body of {shortest} to {longest} expected")
    r = Reader(raw)
    name = r.take(r.u8())
    version = r.u16()
    context, previous = r.take(32), r.take(32)
    sender, receiver = r.take(16), r.take(16)
    length = r.u32()
    if length != r.left() - 64:
        raise NotCanonical("body length does not fit")
    body = r.take(length)
    signature = r.take(64)
    r.end()
    if name != label.encode():
        raise NotCanonical(f"label {name!r} where {label} is due")
    if version != VERSION:
        raise NotCanonical(f"version {version}")
    return Signed(Statement(label, context, previous, sender, receiver, body), signature)


def front(raw, label):
    """(signed statement, what lies behind it): of a message with an attachment, as far as its own lengths say (wire 8.1).

    How long its body may be is the caller's to judge, after the signature.
    """
    r = Reader(raw)
    r.take(r.u8())
    r.take(2 + 64 + 32)
    end = len(raw) - r.left() + 4
    end += r.u32() + 64
    if end > len(raw):
        raise NotCanonical(f"{label}: ends within its statement")
    return decode(raw[:end], label, 0, end), raw[end:]


def decode_any(raw):
    """A signed statement of any known label, layout only (for evidence)."""
    r = Reader(raw)
    try:
        name = r.take(r.u8()).decode("ascii")
    except UnicodeDecodeError:
        raise NotCanonical("label is not ASCII") from None
    if name not in LABELS:
        raise NotCanonical(f"unknown label {name!r}")
    return decode(raw, name, 0, len(raw))


def check(signed, *, key, context=ZERO32, previous=ZERO32, sender=None, receiver=ZERO16, at_service=False):
    """Check against an expectation: context, previous, sender, receiver, then the signature (protocol 4.1).

    `at_service`: in the order of a PUT, where the sender comes first and has a code of its own (wire 8.1).
    """
    s = signed.statement

    def chain():
        if s.context != context:
            raise Refused("another context", "R-01", 422)
        if s.previous != previous:
            raise Refused("another previous", "R-01", 422)

    def who():
        if sender is not None and s.sender != sender:
            raise Refused("another sender", None if at_service else "R-01", 403)

    if at_service:
        who()
        chain()
    else:
        chain()
        who()
    if s.receiver != receiver:
        raise Refused("another receiver", "R-01", 422)
    if not signed.verifies(key):
        raise Refused("the signature does not hold", "R-37", 403)


ONE_EACH = {"veilsum/1/" + x for x in (
    "advert", "roster", "share", "acknowledgement", "opening", "core", "upload", "survivors", "answer", "result")}


def contradict(a, b):
    """Two different validly signed statements that no honest sender makes (protocol 4.1, Evidence).

    Both signatures are the caller's to verify.
    """
    if a.encode() == b.encode() or a.label != b.label or a.sender != b.sender:
        return False
    if a.label in ONE_EACH:
        return a.context == b.context and a.previous == b.previous
    if a.label == "veilsum/1/confirm":
        return a.context == b.context
    if a.label == "veilsum/1/header":
        return len(a.body) == len(b.body) == 344 and a.body[2:26] == b.body[2:26]
    return False
