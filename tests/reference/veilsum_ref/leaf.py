"""Adverts and leaves, and the leaf check that both sides make (protocol 4.4, 5.1; wire 5.1, 6.1)."""

from dataclasses import dataclass

from . import certificate, ristretto, statement, x25519
from .encoding import H, Reader, framed
from .errors import NotCanonical, Refused
from .statement import Statement

LENGTH = 579


@dataclass(frozen=True)
class Leaf:
    raw: bytes
    signed_certificate: statement.Signed
    certificate: certificate.Certificate
    advert: statement.Signed
    S: bytes
    B: bytes
    C: bytes
    nonce: bytes

    @property
    def client(self):
        return self.certificate.client

    @property
    def identity_key(self):
        return self.certificate.identity_key

    def digest(self):
        return H(self.raw)

    def claims(self):
        """What must be unique in a roster (R-09); the kinds are kept apart, but S, B and C are compared as strings."""
        return {self.S, self.B, self.C}


def advert_statement(context, client, S, B, C, nonce):
    return Statement("veilsum/1/advert", context, context, client, body=S + B + C + nonce)


def encode(signed_certificate, signed_advert):
    return framed(signed_certificate) + framed(signed_advert)


def decode(raw):
    """Layout, labels, encodings. The advert's body is decoded here: it is short (wire 1)."""
    if len(raw) != LENGTH:
        raise NotCanonical(f"a leaf of {len(raw)} bytes")
    r = Reader(raw)
    if r.u32() != 260:
        raise NotCanonical("leaf: length of the certificate")
    cert_raw = r.take(260)
    if r.u32() != 311:
        raise NotCanonical("leaf: length of the advert")
    signed_cert, cert = certificate.decode(cert_raw)
    advert = statement.decode(r.take(311), "veilsum/1/advert", 128)
    r.end()
    b = advert.body
    leaf = Leaf(bytes(raw), signed_cert, cert, advert, b[:32], b[32:64], b[64:96], b[96:])
    ristretto.point(leaf.S)
    ristretto.point(leaf.B)
    x25519.channel_key(leaf.C)
    return leaf


def check(leaf, header, context, *, path_client=None, revoked=None, group=None, life=certificate.LIFE):
    """The leaf check. With `path_client`, in the order of a PUT (wire 8.1): sender, chain, certificate, signature."""
    if path_client is not None and leaf.client != path_client:
        raise Refused("another client than the path's", None, 403)
    s = leaf.advert.statement
    if s.context != context or s.previous != context:
        raise Refused("advert: another context or previous", "R-01", 422)
    if s.sender != leaf.client:
        raise Refused("advert: another sender than the certificate's client", "R-01", 422)
    if s.receiver != bytes(16):
        raise Refused("advert: a receiver", "R-01", 422)
    certificate.check(leaf.signed_certificate, leaf.certificate, header.authority_key, header.opened_at, revoked, life)
    if not leaf.advert.verifies(leaf.identity_key):
        raise Refused("advert: the signature does not hold", "R-37", 403)
    if len(leaf.claims()) != 3:
        raise Refused("advert: S, B and C are not different", "R-09", 422, proves=True)
    if group is not None and leaf.certificate.group != group:
        raise Refused("certificate of another group", "R-07", 422)


def different(leaves):
    """Ids, identity keys, and S, B, C over all these leaves are pairwise different (R-09)."""
    keys = [k for leaf in leaves for k in (leaf.S, leaf.B, leaf.C)]
    return (len(set(keys)) == len(keys) and len({x.identity_key for x in leaves}) == len(leaves)
            and len({x.client for x in leaves}) == len(leaves))
