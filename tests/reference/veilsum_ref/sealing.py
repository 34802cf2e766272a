"""AES-256-GCM under the mail key (protocol 2.6, R-11, wire 5.2)."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .encoding import lab, u16

NONCE = bytes(12)


def associated_data(context, roster_root, dealer, holder):
    """119 bytes: a statement without body length and body."""
    return lab("veilsum/1/share-mail") + u16(1) + context + roster_root + dealer + holder


def seal(key, plain, data):
    return AESGCM(key).encrypt(NONCE, plain, data)


def unseal(key, sealed, data):
    """The plain bytes, or None."""
    try:
        return AESGCM(key).decrypt(NONCE, sealed, data)
    except InvalidTag:
        return None
