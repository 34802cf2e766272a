"""Channel keys: X25519 with the refusals of protocol 2.2 (R-09)."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from .edwards import P
from .errors import NotCanonical, Refused

SMALL_ORDER = {bytes.fromhex(x) for x in (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)}


def channel_key(raw):
    """Highest bit clear, below 2^255 - 19, not of small order."""
    if len(raw) != 32 or raw[31] & 0x80 or int.from_bytes(raw, "little") >= P or raw in SMALL_ORDER:
        raise NotCanonical("not a channel key: not canonical, or of small order")
    return raw


def public(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agree(secret, raw):
    """X25519(secret, public); an agreed secret of zeros is refused."""
    channel_key(raw)
    try:
        shared = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(raw))
    except ValueError as error:
        raise Refused("the agreed X25519 secret is zero", "R-09") from error
    if shared == bytes(32):
        raise Refused("the agreed X25519 secret is zero", "R-09")
    return shared
