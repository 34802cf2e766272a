"""Certificates and revocation lists (protocol 4.3, R-36; wire 4.2, 4.3)."""

from dataclasses import dataclass, field

from . import ed25519, statement
from .encoding import Reader, key_id, u32, u64
from .errors import NotCanonical, Refused
from .statement import Statement

LIFE = 30 * 24 * 3600 * 1_000_000        # microseconds


@dataclass(frozen=True)
class Certificate:
    client: bytes
    identity_key: bytes
    group: int
    group_size: int
    not_before: int
    not_after: int

    def body(self):
        return (self.client + self.identity_key + u32(self.group) + u32(self.group_size) + u64(self.not_before)
                + u64(self.not_after))

    def issue(self, authority_seed):
        sender = key_id(ed25519.public_key(authority_seed))
        return Statement("veilsum/1/certificate", sender=sender, receiver=self.client, body=self.body()
                         ).signed(authority_seed)

    def valid_at(self, time):
        return self.not_before <= time < self.not_after


def decode(raw):
    """Layout and canonical encodings: (signed statement, certificate)."""
    signed = statement.decode(raw, "veilsum/1/certificate", 72)
    r = Reader(signed.body)
    c = Certificate(r.take(16), r.take(32), r.u32(), r.u32(), r.u64(), r.u64())
    r.end()
    if not ed25519.is_identity_key(c.identity_key):
        raise NotCanonical("certificate: not an identity key")
    if c.group_size < 1:
        raise NotCanonical("certificate: a group of nobody")
    if not c.not_before < c.not_after:
        raise NotCanonical("certificate: ends before it begins")
    return signed, c


def check(signed, c, authority_key, time, revoked=None, life=LIFE):
    """Part 1 of the leaf check (protocol 5.1): statement, receiver, validity, life, revocation. 403 R-06."""
    try:
        statement.check(signed, key=authority_key, sender=key_id(authority_key), receiver=c.client)
    except Refused as error:
        raise Refused("certificate: " + error.why, "R-06", 403) from None
    if not c.valid_at(time):
        raise Refused("certificate: not valid at opened_at", "R-06", 403)
    if c.not_after - c.not_before > life:
        raise Refused("certificate: lives longer than 30 days", "R-06", 403)
    if revoked is not None and revoked.revokes(c):
        raise Refused("certificate: revoked", "R-06", 403)


@dataclass(frozen=True)
class Revocation:
    number: int
    entries: tuple = field(default_factory=tuple)        # (client id, time), strictly ascending by id

    def body(self):
        return u64(self.number) + u32(len(self.entries)) + b"".join(c + u64(t) for c, t in self.entries)

    def issue(self, authority_seed):
        sender = key_id(ed25519.public_key(authority_seed))
        return Statement("veilsum/1/revocation", sender=sender, body=self.body()).signed(authority_seed)

    def revokes(self, certificate):
        return any(c == certificate.client and certificate.not_before < t for c, t in self.entries)


def decode_revocation(raw, authority_key, digest=None, number=None):
    """A revocation list, checked as wire 4.3 orders."""
    signed = statement.decode(raw, "veilsum/1/revocation", 12, 12 + 24 * 1_000_000)
    r = Reader(signed.body)
    listed, count = r.u64(), r.u32()
    if r.left() != 24 * count:
        raise NotCanonical("revocation list: count and length do not fit")
    statement.check(signed, key=authority_key, sender=key_id(authority_key))
    entries = tuple((r.take(16), r.u64()) for _ in range(count))
    if any(a[0] >= b[0] for a, b in zip(entries, entries[1:])):
        raise NotCanonical("revocation list: not strictly ascending")
    if listed < 1:
        raise NotCanonical("revocation list: number 0")
    if digest is not None and signed.root() != digest:
        raise Refused("revocation list: another digest", "R-36")
    if number is not None and listed != number:
        raise Refused("revocation list: another number", "R-36")
    return Revocation(listed, entries)
