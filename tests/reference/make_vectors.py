"""Writes tests/vectors/v1/*.json: known answers, good and bad, for every message and step of suite 1.

    python3 tests/reference/make_vectors.py [FOLDER]

The same bytes every time. The format of each file is in tests/vectors/v1/README.md. Every case is played against the
model when it is made: a case whose answer is not the one written here stops the program.
"""

import hashlib
import json
import math
import os
import random
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from veilsum_ref import (acknowledge, answer, certificate, confirm, core, ed25519, edwards, encoding, graph, header,  # noqa: E402
                         kdf, leaf, log, low_degree, merkle, opening, params, privacy, read, result, ring, ristretto,
                         roster, sealing, shamir, share, simulate, statement, survivors, update, upload, x25519)
from veilsum_ref.encoding import H, ZERO16, ZERO32, framed, u16, u32, u64  # noqa: E402
from veilsum_ref.errors import Refused  # noqa: E402
from veilsum_ref.statement import Statement  # noqa: E402

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors", "v1")
SEED = "veilsum/1/vectors"
L = edwards.L
FILES = {}


def plain(x):
    """Bytes as hex, numpy as lists, integers from 2^53 on as decimal strings, binary64 as it is."""
    if isinstance(x, (bytes, bytearray)):
        return bytes(x).hex()
    if isinstance(x, (bool, str, type(None), float)):
        return x
    if isinstance(x, (int, np.integer)):
        x = int(x)
        return x if abs(x) < 2**53 else str(x)
    if isinstance(x, dict):
        return {str(k): plain(v) for k, v in x.items()}
    return [plain(v) for v in x]


def ints(values):
    """Integers that may be large, all as decimal strings."""
    return [str(int(v)) for v in values]


class File:
    def __init__(self, subject, about, **shared):
        self.content = {"format": "veilsum-vectors-1", "subject": subject, "about": about}
        if shared:
            self.content["shared"] = plain(shared)
        self.cases = self.content["cases"] = []
        self.names = set()
        FILES[subject] = self.content

    def _add(self, name, comment, valid, inputs, **more):
        assert name not in self.names, name
        self.names.add(name)
        self.cases.append({"name": name, "comment": comment, "valid": valid, **plain(inputs), **plain(more)})

    def good(self, name, comment="", **inputs):
        self._add(name, comment, True, inputs)

    def bad(self, name, why, *, rule=None, status=None, comment="", **inputs):
        self._add(name, comment, False, inputs, why=why, status=status, rule=rule)

    def judged(self, name, why, call, *, rule=None, comment="", **inputs):
        """A bad one that the client refuses: `call` must raise Refused."""
        try:
            call()
        except Refused as error:
            found = error.rule
            if rule == "any":
                rule = None
            elif found != rule:
                raise AssertionError(f"{name}: {error!r}, rule {rule} expected") from None
            self.bad(name, why, rule=rule, status=None, comment=comment, **inputs)
            return
        raise AssertionError(f"{name}: not refused")


def scalar_bytes(x):
    return ristretto.scalar_bytes(x)


def seed_of(*names):
    return simulate.seed_of(SEED, *names)


def restate(signed_raw, seed, **changes):
    """A signed statement with other fields, signed again."""
    signed = statement.decode_any(signed_raw)
    return replace(signed.statement, **changes).signed(seed)


def flip(raw, at, bit=1):
    out = bytearray(raw)
    out[at] ^= bit
    return bytes(out)


def plus_order(signed):
    """The signature's S as S + l."""
    s = int.from_bytes(signed[-32:], "little") + L
    return signed[:-32] + s.to_bytes(32, "little")


def statement_faults(signed, tail, seed, other_seed, other_client, *, exact=True):
    """(name, message, why, status, rule): what can be wrong with the statement of a PUT (wire 8.1)."""
    s = statement.decode_any(signed).statement
    other_label = "veilsum/1/read" if s.label != "veilsum/1/read" else "veilsum/1/core"
    twin = {"veilsum/1/advert": "veilsum/1/roster", "veilsum/1/upload": "veilsum/1/answer",
            "veilsum/1/answer": "veilsum/1/upload", "veilsum/1/confirm": "veilsum/1/opening",
            "veilsum/1/opening": "veilsum/1/confirm"}.get(s.label, other_label)
    at_length = 1 + len(s.label) + 2 + 64 + 32

    def re(**changes):
        return restate(signed, seed, **changes) + tail

    out = [
        ("other-label", re(label=twin), "the label of another statement", 400, "R-37"),
        ("unknown-label", re(label=s.label[:-1] + "x"), "a label that is not known", 400, "R-37"),
        ("version-2", re(version=2), "version 2", 400, "R-37"),
        ("version-0", re(version=0), "version 0", 400, "R-37"),
        ("other-context", re(context=flip(s.context, 0)), "the context of another round", 422, "R-01"),
        ("zero-context", re(context=ZERO32), "no context", 422, "R-01"),
        ("other-previous", re(previous=flip(s.previous, 31, 128)), "another statement before", 422, "R-01"),
        ("zero-previous", re(previous=ZERO32), "nothing before", 422, "R-01"),
        ("other-sender", re(sender=other_client), "another client's id as sender", 403, None),
        ("other-receiver", re(receiver=flip(s.receiver, 0)), "another receiver", 422, "R-01"),
        # with bytes behind the statement, one that is a byte longer can still be read, and is judged first (wire 8.1)
        ("body-length-short", flip(signed, at_length) + tail, "the body's length field is off by one",
         403 if tail else 400, "R-37"),
        ("body-length-huge", signed[:at_length] + b"\xff" * 4 + signed[at_length + 4:] + tail,
         "the body's length field is 2^32 - 1", 400, "R-37"),
        ("truncated", (signed + tail)[:-1], "a byte is missing", 400, "R-37"),
        ("empty", b"", "nothing", 400, "R-37"),
        ("one-byte", b"\x10", "one byte", 400, "R-37"),
        ("signature-flipped", flip(signed, len(signed) - 64) + tail, "a bit of R is flipped", 403, "R-37"),
        ("signature-s-flipped", flip(signed, len(signed) - 32) + tail, "a bit of S is flipped", 403, "R-37"),
        ("signature-s-plus-l", plus_order(signed) + tail, "S + l in place of S", 403, "R-37"),
        ("signature-zero", signed[:-64] + bytes(64) + tail, "a signature of zeros", 403, "R-37"),
        ("signed-by-another", s.signed(other_seed) + tail, "signed by another client's key", 403, "R-37"),
        ("context-and-signature", flip(re(context=flip(s.context, 5)), len(signed) - 64),
         "two faults: the context is looked at first", 422, "R-01"),
        ("sender-and-context", re(sender=other_client, context=flip(s.context, 5)),
         "two faults: the sender is looked at first", 403, None),
        ("label-and-sender", re(label=s.label[:-1] + "x", sender=other_client),
         "two faults: the label is looked at first", 400, "R-37"),
    ]
    if tail or exact:
        out.append(("one-byte-more", signed + tail + b"\0", "a byte is left over", [400, 413], ["R-37", None]))
    return out


def disagrees(text):
    raise AssertionError(text)


class Puts:
    """Plays the cases of one phase against the aggregator when the chosen client's good message comes."""

    def __init__(self, file, aggregator, phase, client):
        self.file, self.aggregator, self.phase, self.client = file, aggregator, phase, client

    def bad(self, name, message, why, status, rule, comment="", client=None):
        client = client or self.client
        self.aggregator.faults = []
        found = self.aggregator.put(self.phase, client, message)[:2]
        names = self.aggregator.faults[0][2] if self.aggregator.faults else None
        self.aggregator.faults = []
        statuses = status if isinstance(status, list) else [status]
        rules = rule if isinstance(rule, list) else [rule]
        if found[0] not in statuses or found[1] not in rules:
            disagrees(f"{self.phase} {name}: {found}, {status} {rule} expected")
        self.file.bad(name, why, status=status, rule=rule, comment=comment, client=client, message=message,
                      names=names)

    def good(self, name, message, comment="", client=None, **more):
        client = client or self.client
        found = self.aggregator.put(self.phase, client, message)
        assert found[0] == 204, (self.phase, name, found)
        self.file.good(name, comment, client=client, message=message, **more)


# ---- subjects that need no round -----------------------------------------------------------------------------------

def make_statement():
    f = File("statement", "Encoding, root and signature of statements; decoding under an expected label.")
    seed, other = seed_of("statement", "key"), seed_of("statement", "other")
    f.content["shared"] = plain({"seed": seed, "public_key": ed25519.public_key(seed)})
    bodies = {"header": 344, "certificate": 72, "advert": 128, "roster": 76, "share": 32, "acknowledgement": 70,
              "opening": 70, "core": 9, "upload": 40, "survivors": 41, "confirm": 0, "answer": 33, "result": 37,
              "read": 52, "revocation": 36}
    for name, size in bodies.items():
        label = "veilsum/1/" + name
        s = Statement(label, seed_of(name, "context"), seed_of(name, "previous"), seed_of(name, "sender")[:16],
                      seed_of(name, "receiver")[:16], (seed_of(name, "body") * 11)[:size])
        signed = s.signed(seed)
        assert len(signed) == 167 + len(label) + size
        f.good(name, "fields, statement bytes, root and signed statement", label=label, context=s.context,
               previous=s.previous, sender=s.sender, receiver=s.receiver, body=s.body, statement=s.encode(),
               root=s.root(), signed=signed, body_min=size, body_max=size)
    label = "veilsum/1/confirm"
    s = Statement(label, seed_of("c"), seed_of("p"), seed_of("s")[:16])
    signed = s.signed(seed)
    for name, raw, why in (
            ("label-unknown", replace(s, label="veilsum/1/confirn").signed(seed), "an unknown label"),
            ("label-other", replace(s, label="veilsum/1/opening").signed(seed), "another known label of equal length"),
            ("label-longer", replace(s, label="veilsum/1/survivors").signed(seed), "a longer label"),
            ("label-version-2", replace(s, label="veilsum/2/confirm").signed(seed), "a label of another suite"),
            ("label-share-mail", replace(s, label="veilsum/1/share-mail").signed(seed), "a label that is never signed"),
            ("version-0", replace(s, version=0).signed(seed), "version 0"),
            ("version-2", replace(s, version=2).signed(seed), "version 2"),
            ("version-256", replace(s, version=256).signed(seed), "version 1 in big-endian"),
            ("empty", b"", "nothing"),
            ("label-length-only", b"\x11", "the label's length and nothing else"),
            ("label-length-255", b"\xff" + signed[1:], "a label longer than what remains"),
            ("label-length-0", b"\0" + signed[1:], "an empty label"),
            ("truncated", signed[:-1], "a byte of the signature is missing"),
            ("no-signature", s.encode(), "no signature"),
            ("longer", signed + b"\0", "a byte is left over"),
            ("body-length-1", signed[:116] + u32(1) + signed[120:], "a body length of 1 where the body is empty"),
            ("body-length-huge", signed[:116] + u32(2**32 - 1) + signed[120:], "a body length of 2^32 - 1"),
            ("body-too-long", replace(s, body=b"x").signed(seed), "a body where none is due")):
        f.judged(name, why, lambda raw=raw: statement.decode(raw, label, 0), rule="R-37", label=label, signed=raw,
                 body_min=0, body_max=0)
    for name, raw, why in (
            ("signature-flipped", flip(signed, len(signed) - 64), "a bit of R is flipped"),
            ("signature-s-plus-l", plus_order(signed), "S + l"),
            ("signed-by-another", s.signed(other), "signed by another key"),
            ("content-flipped", flip(signed, 20), "a bit of the context is flipped")):
        d = statement.decode(raw, label, 0)
        assert not d.verifies(ed25519.public_key(seed))
        f.bad(name, why, rule="R-37", status=403, label=label, signed=raw, body_min=0, body_max=0)


def make_evidence():
    seed = seed_of("evidence", "key")
    f = File("evidence", "Do two signed statements of one sender contradict each other? `contradict` is the answer; "
             "all signatures hold under `public_key`.", public_key=ed25519.public_key(seed))
    ctx, prev = seed_of("e", 1), seed_of("e", 2)
    who = seed_of("e", 3)[:16]

    def pair(name, a, b, expected, comment=""):
        assert statement.contradict(a, b) == expected == statement.contradict(b, a), name
        f.good(name, comment, a=a.signed(seed), b=b.signed(seed), contradict=expected)

    for label in sorted(statement.ONE_EACH):
        a = Statement(label, ctx, prev, who, body=b"one")
        pair(label[10:] + "-twice", a, replace(a, body=b"two"), True)
        pair(label[10:] + "-same", a, a, False, "the same statement")
        pair(label[10:] + "-other-previous", a, replace(a, body=b"two", previous=seed_of("e", 4)), False,
             "another statement before")
        pair(label[10:] + "-other-context", a, replace(a, body=b"two", context=seed_of("e", 5)), False, "another round")
    a = Statement("veilsum/1/confirm", ctx, prev, who)
    pair("confirm-two-roots", a, replace(a, previous=seed_of("e", 4)), True, "two survivor lists confirmed in one round")
    pair("confirm-two-rounds", a, replace(a, previous=seed_of("e", 4), context=seed_of("e", 5)), False)
    pair("share-other-sender", Statement("veilsum/1/share", ctx, prev, who, body=b"one"),
         Statement("veilsum/1/share", ctx, prev, seed_of("e", 6)[:16], body=b"two"), False, "two senders")
    pair("receiver-differs", Statement("veilsum/1/answer", ctx, prev, who, body=b"one"),
         Statement("veilsum/1/answer", ctx, prev, who, who, body=b"one"), True, "the receiver differs")
    head = simulate.make_header(SEED, 8)
    a = Statement("veilsum/1/header", sender=who, body=head.body())
    b = Statement("veilsum/1/header", sender=who, body=replace(head, clip=3.0).body())
    pair("header-same-counter", a, b, True, "one task, one counter")
    pair("header-next-counter", a, replace(b, body=replace(head, counter=2).body()), False)
    pair("header-other-task", a, replace(b, body=replace(head, task=seed_of("e", 7)[:16]).body()), False)
    a = Statement("veilsum/1/read", ctx, ZERO32, who, body=b"/v1/a")
    pair("read-two", a, replace(a, body=b"/v1/b"), False, "reads never contradict")
    a = Statement("veilsum/1/certificate", sender=who, receiver=who, body=b"one")
    pair("certificate-two", a, replace(a, body=b"two"), False, "certificates never contradict")
    pair("labels-differ", Statement("veilsum/1/core", ctx, prev, who, body=b"one"),
         Statement("veilsum/1/roster", ctx, prev, who, body=b"two"), False)


def make_ed25519():
    f = File("ed25519", "The one predicate of R-37: strict, without cofactor.")

    def check(name, public, message, signature, valid, why="", comment=""):
        assert ed25519.verify(public, message, signature) is valid, name
        if valid:
            f.good(name, comment, public_key=public, message=message, signature=signature)
        else:
            f.bad(name, why, rule="R-37", comment=comment, public_key=public, message=message, signature=signature)

    for seed, message in (("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", ""),
                          ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "72"),
                          ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "af82")):
        seed, message = bytes.fromhex(seed), bytes.fromhex(message)
        check(f"rfc8032-{len(message)}", ed25519.public_key(seed), message, ed25519.sign(seed, message), True,
              comment="RFC 8032 7.1")
    seed = seed_of("ed25519")
    public, message = ed25519.public_key(seed), b"veilsum"
    good = ed25519.sign(seed, message)
    check("plain", public, message, good, True)
    check("other-message", public, b"veilsum.", good, False, "another message")
    check("s-plus-l", public, message, good[:32] + (int.from_bytes(good[32:], "little") + L).to_bytes(32, "little"),
          False, "S is not below l")
    check("s-equals-l", public, message, good[:32] + L.to_bytes(32, "little"), False, "S is l")
    check("s-high-bits", public, message, good[:63] + bytes([good[63] | 0xe0]), False, "high bits of S are set")
    check("zeros", public, message, bytes(64), False, "R of zeros is of small order")
    a, _ = ed25519._expand(seed)
    # the points of order 1, 2, 4, 8
    torsion = []
    order8 = next(p for p in (edwards.mul(L, ed25519.decode_point(u64(y) + bytes(24)))
                              for y in range(2, 200) if ed25519.decode_point(u64(y) + bytes(24)))
                  if not _is_identity(edwards.double(edwards.double(p))))
    for i in range(8):
        torsion.append(edwards.mul(i, order8) if i else edwards.IDENTITY)
    for i, point in enumerate(torsion):
        small = ed25519.encode_point(point)
        # with A of small order and R = S B, every message verifies where q A = 0
        for m in range(200):
            text = b"small %d" % m
            s = 7
            r = ed25519.encode_point(edwards.mul_base(s))
            q = int.from_bytes(hashlib.sha512(r + small + text).digest(), "little") % L
            if q % 8 == 0:
                break
        check(f"a-small-order-{i}", small, text, r + s.to_bytes(32, "little"), False,
              "A is of small order", "the equation itself holds")
        sig = small + bytes(32)
        check(f"r-small-order-{i}", public, message, sig, False, "R is of small order")
    # R = identity with an equation that holds: S B = R + q A, r = 0
    r = ed25519.encode_point(edwards.IDENTITY)
    q = ed25519._sha512(r, public, message) % L
    check("r-identity-holds", public, message, r + (q * a % L).to_bytes(32, "little"), False, "R is of small order",
          "the equation itself holds")
    # non-canonical encodings: y + p for small y that are on the curve
    for y in range(2, 19):
        raw = (y + edwards.P).to_bytes(32, "little")
        if ed25519.decode_point(u64(y) + bytes(24)) is not None:
            check(f"a-y-plus-p-{y}", raw, message, good, False, "A is not canonical")
            check(f"r-y-plus-p-{y}", public, message, raw + good[32:], False, "R is not canonical")
            break
    check("a-identity-y-plus-p", (1 + edwards.P).to_bytes(32, "little"), message, good, False, "A is not canonical")
    check("a-x-zero-sign", (1 | 1 << 255).to_bytes(32, "little"), message, good, False,
          "A has x = 0 and its sign bit set")
    check("a-not-on-curve", next(u64(y) + bytes(24) for y in range(2, 99)
                                 if ed25519.decode_point(u64(y) + bytes(24)) is None), message, good, False,
          "A is on no curve point")
    # A of mixed order: allowed, if the equation without cofactor holds
    mixed = edwards.add(edwards.mul_base(a % L), torsion[1])
    public_mixed = ed25519.encode_point(mixed)
    found = {}
    for m in range(400):
        text = b"mixed %d" % m
        r_scalar = 1234567 + m
        r = ed25519.encode_point(edwards.mul_base(r_scalar))
        q = ed25519._sha512(r, public_mixed, text) % L
        s = (r_scalar + q * a) % L
        kind = q % 8 == 0
        if kind not in found:
            found[kind] = (text, r + s.to_bytes(32, "little"))
        if len(found) == 2:
            break
    check("a-mixed-order-holds", public_mixed, *found[True], True,
          comment="A has a part of order 8; q is a multiple of 8, so the equation without cofactor holds")
    check("a-mixed-order-cofactor-only", public_mixed, *found[False], False,
          "holds only when multiplied by the cofactor", "verifiers with cofactor accept it")
    # R with a torsion part: holds only with cofactor
    r_point = edwards.add(edwards.mul_base(99), torsion[1])
    r = ed25519.encode_point(r_point)
    q = ed25519._sha512(r, public, message) % L
    check("r-mixed-order", public, message, r + ((99 + q * a) % L).to_bytes(32, "little"), False,
          "holds only when multiplied by the cofactor", "verifiers with cofactor accept it")
    check("short", public, message, good[:63], False, "63 bytes")
    check("long", public, message, good + b"\0", False, "65 bytes")


def _is_identity(p):
    return p[0] % edwards.P == 0 and (p[1] - p[2]) % edwards.P == 0


RISTRETTO_BAD = {
    "non-canonical": """00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
        ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f
        f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f
        edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f""",
    "negative": """0100000000000000000000000000000000000000000000000000000000000000
        01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f
        ed57ffd8c914fb201471d1c3d245ce3c746fcbe63a3679d51b6a516ebebe0e20
        c34c4e1826e5d403b78e246e88aa051c36ccf0aafebffe137d148a2bf9104562
        c940e5a4404157cfb1628b108db051a8d439e1a421394ec4ebccb9ec92a8ac78
        47cfc5497c53dc8e61c91d17fd626ffb1c49e2bca94eed052281b510b1117a24
        f1c6165d33367351b0da8f6e4511010c68174a03b6581212c71c0e1d026c3c72
        87260f7a2f12495118360f02c26a470f450dadf34a413d21042b43b9d93e1309""",
    "no-square": """26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371
        4eac077a713c57b4f4397629a4145982c661f48044dd3f96427d40b147d9742f
        de6a7b00deadc788eb6b6c8d20c0ae96c2f2019078fa604fee5b87d6e989ad7b
        bcab477be20861e01e4a0e295284146a510150d9817763caf1a6f4b422d67042
        2a292df7e32cababbd9de088d1d1abec9fc0440f637ed2fba145094dc14bea08
        f4a9e534fc0d216c44b218fa0c42d99635a0127ee2e53c712f70609649fdff22
        8268436f8c4126196cf64b3c7ddbda90746a378625f9813dd9b8457077256731
        2810e5cbc2cc4d4eece54f61c6f69758e289aa7ab440b3cbeaa21995c2f4232b""",
    "negative-xy": """3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e
        a45fdc55c76448c049a1ab33f17023edfb2be3581e9c7aade8a6125215e04220
        d483fe813c6ba647ebbfd3ec41adca1c6130c2beeee9d9bf065c8d151c5f396e
        8a2e1d30050198c65a54483123960ccc38aef6848e1ec8f5f780e8523769ba32
        32888462f8b486c68ad7dd9610be5192bbeaf3b443951ac1a8118419d9fa097b
        227142501b9d4355ccba290404bde41575b037693cef1f438c47f8fbf35d1165
        5c37cc491da847cfeb9281d407efc41e15144c876e0170b499a96a22ed31e01e
        445425117cb8c90edcbc7c1cc0e74f747f2c1efa5630a967c64f287792a48a4b""",
    "y-zero": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "identity": "0000000000000000000000000000000000000000000000000000000000000000",
}


def make_ristretto():
    f = File("ristretto", "Points and scalars (protocol 2.2). A good case with `scalar` has `point` = scalar * G, and "
             "`times` * that point = `product`.")
    for i in list(range(1, 17)) + [L - 1, L - 2, 2**252]:
        k = i % L
        point = ristretto.times_base(k)
        f.good(f"multiple-{i}", scalar=scalar_bytes(k), point=point, times=scalar_bytes(12345 + k),
               product=ristretto.times(12345 + k, point))
    for kind, text in RISTRETTO_BAD.items():
        for j, raw in enumerate(text.split()):
            f.judged(f"{kind}-{j}", f"not a point: {kind}", lambda raw=raw: ristretto.point(bytes.fromhex(raw)),
                     rule="R-37", encoding=raw)
    for name, value in (("zero", 0), ("one", 1), ("l-minus-1", L - 1)):
        f.good("scalar-" + name, "canonical", scalar_encoding=value.to_bytes(32, "little"))
    for name, value in (("l", L), ("l-plus-1", L + 1), ("2^255", 2**255), ("max", 2**256 - 1)):
        f.judged("scalar-" + name, "not below l", lambda v=value: ristretto.scalar(v.to_bytes(32, "little")),
                 rule="R-37", scalar_encoding=value.to_bytes(32, "little"))


def make_channel_key():
    f = File("channel_key", "X25519 keys: which public keys are refused; agreement.")
    for i in range(4):
        a, b = seed_of("x25519", i, "a"), seed_of("x25519", i, "b")
        A, B = x25519.public(a), x25519.public(b)
        assert x25519.agree(a, B) == x25519.agree(b, A)
        f.good(f"agree-{i}", secret=a, public=A, other_secret=b, other_public=B, agreed=x25519.agree(a, B))
    for i, raw in enumerate(sorted(x25519.SMALL_ORDER)):
        f.judged(f"small-order-{i}", "of small order", lambda raw=raw: x25519.channel_key(raw), rule="R-37", key=raw)
    good = x25519.public(seed_of("x25519", 0, "a"))
    for name, raw in (("high-bit", good[:31] + bytes([good[31] | 128])), ("p", edwards.P.to_bytes(32, "little")),
                      ("p-plus-1", (edwards.P + 1).to_bytes(32, "little")),
                      ("p-plus-9", (edwards.P + 9).to_bytes(32, "little")),
                      ("2^255-1", (2**255 - 1).to_bytes(32, "little"))):
        f.judged(name, "not canonical", lambda raw=raw: x25519.channel_key(raw), rule="R-37", key=raw)


def make_keys():
    f = File("keys", "Derived keys (protocol 2.1): HKDF of the info shown, and the key.")
    for i in range(3):
        args = [seed_of("kdf", i, x) for x in range(8)]
        ikm, rr, cr, sl, sh, ctx = args[:6]
        lo, hi = args[6][:16], args[7][:16]
        f.good(f"pair-{i}", kind="pair", agreed=ikm, roster_root=rr, core_root=cr, id_lo=lo, id_hi=hi, S_lo=sl,
               S_hi=sh, context=ctx, info=kdf.pair_info(cr, lo, hi, sl, sh, ctx),
               key=kdf.pair_key(ikm, rr, cr, lo, hi, sl, sh, ctx))
        f.good(f"self-{i}", kind="self", b=scalar_bytes(int.from_bytes(ikm, "little")), roster_root=rr, core_root=cr,
               id=lo, context=ctx, info=kdf.self_info(cr, lo, ctx),
               key=kdf.self_key(scalar_bytes(int.from_bytes(ikm, "little")), rr, cr, lo, ctx))
        f.good(f"mail-{i}", kind="mail", agreed=ikm, roster_root=rr, dealer=lo, holder=hi, C_dealer=sl, C_holder=sh,
               info=kdf.mail_info(lo, hi, sl, sh), key=kdf.mail_key(ikm, rr, lo, hi, sl, sh))


def make_keystream():
    f = File("keystream", "Mask keystreams (protocol 2.4): `elements` are decimal strings; the mask of `count` elements "
             "of `ring_bits` bits; `packed` is that mask packed.")
    for i, (r, m) in enumerate(((8, 9), (9, 17), (13, 11), (16, 12), (20, 7), (31, 9), (32, 9), (33, 9), (47, 6),
                                (63, 5), (64, 5), (16, 300))):
        key = seed_of("stream", i)[:16]
        mask = ring.mask(key, m, r)
        f.good(f"r{r}-m{m}", key=key, ring_bits=r, count=m, keystream=ring.keystream(key, 64), elements=ints(mask),
               packed=ring.pack(mask, r))


def make_packing():
    f = File("packing", "Packed vectors (protocol 2.3): decimal strings to bytes and back; bad lengths and spare bits.")
    rng = random.Random(1)
    for r in (8, 9, 13, 16, 20, 24, 31, 32, 33, 48, 63, 64):
        for m in (1, 2, 7):
            values = [rng.choice((0, (1 << r) - 1, rng.getrandbits(r))) for _ in range(m)]
            packed = ring.pack(np.array(values, np.uint64), r)
            assert list(ring.unpack(packed, m, r)) == values
            f.good(f"r{r}-m{m}", ring_bits=r, count=m, elements=ints(values), packed=packed)
    for r, m in ((9, 1), (13, 3), (20, 1), (33, 3), (63, 1)):
        packed = ring.pack(np.zeros(m, np.uint64), r)
        spare = 8 * len(packed) - r * m
        for bit in {0, spare - 1}:
            raw = flip(packed, len(packed) - 1, 1 << (8 - spare + bit))
            f.judged(f"spare-r{r}-m{m}-bit{bit}", "a spare bit is set", lambda: ring.unpack(raw, m, r), rule="R-37",
                     ring_bits=r, count=m, packed=raw)
        for name, raw in (("short", packed[:-1]), ("long", packed + b"\0"), ("empty", b"")):
            f.judged(f"{name}-r{r}-m{m}", "another length", lambda raw=raw: ring.unpack(raw, m, r), rule="R-37",
                     ring_bits=r, count=m, packed=raw)


def make_merkle():
    f = File("merkle", "Trees of RFC 6962 over leaf data u32(0), u32(1), …; root and every audit path for each size; bad "
             "paths. `position`, `size`, `path`, `leaf` (data), `root`.")
    for m in list(range(1, 10)) + [16, 17, 38]:
        data = [u32(i) for i in range(m)]
        hashes = [merkle.leaf_hash(x) for x in data]
        root = merkle.root_of_hashes(hashes)
        for p in (range(m) if m < 10 else (0, m // 2, m - 1)):
            path = merkle.path(p, hashes)
            assert len(path) == merkle.path_length(p, m)
            assert merkle.root_from_path(hashes[p], p, m, path) == root
            f.good(f"m{m}-p{p}", size=m, position=p, leaf=data[p], path=path, root=root)
    data = [u32(i) for i in range(7)]
    hashes = [merkle.leaf_hash(x) for x in data]
    root = merkle.root_of_hashes(hashes)
    for p in (0, 4, 6):
        path = merkle.path(p, hashes)
        for name, hs in (("short", path[:-1]), ("long", path + [hashes[0]]), ("none", [])):
            f.judged(f"{name}-p{p}", "a path of another length",
                     lambda hs=hs: merkle.root_from_path(hashes[p], p, 7, hs), rule="R-37", size=7, position=p,
                     leaf=data[p], path=hs, root=root)
        for name, q, hs in (("flipped", p, [flip(path[0], 0)] + path[1:]), ("reversed", p, path[::-1]),
                            ("position", (p + 1) % 6, path)):
            try:
                if merkle.root_from_path(hashes[p], q, 7, hs) == root:
                    continue
            except Refused:
                pass
            f.bad(f"{name}-p{p}", "the path does not lead to the root", size=7, position=q, leaf=data[p], path=hs,
                  root=root)
    f.judged("position-out", "no such position", lambda: merkle.root_from_path(hashes[6], 7, 7, merkle.path(6, hashes)),
             rule="R-37", size=7, position=7, leaf=data[6], path=merkle.path(6, hashes), root=root)


def make_consistency():
    f = File("consistency", "Consistency proofs of the log (RFC 6962 2.1.2), leaf data as in merkle.json. `proof` is the "
             "body that is served: count u8, hashes.")
    hashes = [merkle.leaf_hash(u32(i)) for i in range(40)]
    roots = {m: merkle.root_of_hashes(hashes[:m]) for m in range(0, 41)}

    def case(name, a, ra, b, rb, proof, valid, why=""):
        try:
            log.check_extends((a, ra), (b, rb), lambda x, y: proof)
            found = True
        except Refused as error:
            found = False
            assert error.rule in ("R-33", "R-37"), name
        assert found is valid, name
        inputs = dict(old_size=a, old_root=ra, new_size=b, new_root=rb, proof=proof)
        if valid:
            f.good(name, **inputs)
        else:
            f.bad(name, why, rule="R-33", **inputs)

    for a, b in ((1, 1), (1, 2), (1, 8), (2, 3), (3, 7), (4, 7), (4, 8), (6, 7), (6, 8), (7, 40), (8, 9), (8, 40),
                 (16, 33), (17, 33), (31, 32), (32, 40), (33, 40), (39, 40), (40, 40)):
        proof = log.encode_proof([] if a == b else merkle.consistency(a, hashes[:b]))
        case(f"{a}-{b}", a, roots[a], b, roots[b], proof, True)
    case("0-5", 0, roots[0], 5, roots[5], b"\0", True)
    good = merkle.consistency(6, hashes[:11])
    enc = log.encode_proof
    case("shrank", 11, roots[11], 6, roots[6], enc(good), False, "the log shrank")
    case("forked", 6, roots[6], 6, roots[5], b"\0", False, "equal size, another root")
    case("old-root", 6, roots[5], 11, roots[11], enc(good), False, "another old root")
    case("new-root", 6, roots[6], 11, roots[10], enc(good), False, "another new root")
    case("short", 6, roots[6], 11, roots[11], enc(good[:-1]), False, "a hash is missing")
    case("long", 6, roots[6], 11, roots[11], enc(good + [good[0]]), False, "a hash too many")
    case("none", 6, roots[6], 11, roots[11], enc([]), False, "no hashes")
    case("order", 6, roots[6], 11, roots[11], enc(good[::-1]), False, "another order")
    case("other-sizes", 6, roots[6], 12, roots[12], enc(good), False, "the proof of another size")
    case("count", 6, roots[6], 11, roots[11], bytes([len(good) + 1]) + b"".join(good), False, "count does not fit")
    case("left-over", 6, roots[6], 11, roots[11], enc(good) + b"\0", False, "a byte is left over")
    case("too-many", 6, roots[6], 11, roots[11], enc([good[0]] * 65), False, "more than 64 hashes")
    case("empty", 6, roots[6], 11, roots[11], b"", False, "nothing")


def make_log():
    f = File("log", "Log entries (protocol 9): `data` is the entry, `leaf_hash` its leaf of the tree.")
    task, ctx, salt = seed_of("log", "task")[:16], seed_of("log", "context"), seed_of("log", "salt")
    for kind, name in ((1, "reserved"), (2, "spent"), (3, "lapsed")):
        for counter in (1, 2**40):
            root = log.ledger_root(task, counter, ctx, kind)
            data = log.entry(salt, root)
            f.good(f"ledger-{name}-{counter}", kind=kind, task=task, counter=str(counter), context=ctx, salt=salt,
                   root=root, data=data, leaf_hash=merkle.leaf_hash(data))
    root = seed_of("log", "statement")
    data = log.entry(salt, root)
    f.good("statement", salt=salt, root=root, data=data, leaf_hash=merkle.leaf_hash(data))


def make_ring_order():
    f = File("ring_order", "Ring order, neighbours and agreement set (protocol 3.2). `order` is leaf indices by "
             "position; `neighbours` is by leaf index, each in its neighbour order.")
    for n, k in ((3, 2), (5, 2), (5, 4), (8, 4), (8, 6), (8, 7), (13, 6), (16, 15), (40, 10), (300, 4)):
        root = seed_of("ring", n, k)
        g = graph.Graph(root, n, k)
        f.good(f"n{n}-k{k}", "complete" if k == n - 1 else "sparse", roster_root=root, n=n, k=k, order=g.ring,
               neighbours=[g.neighbours(i) for i in range(n)] if n < 100 else None, agreement=g.agreement,
               first_hash=graph.ring_hash(root, 0))


def make_degree_threshold():
    f = File("degree_threshold", "(k, t) from n, c, d, sigma, eta (protocol 3.2); `valid` false: infeasible. With gamma "
             "and delta in millionths where c and d come from them.")
    cases = []
    for n in (3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 24, 32, 48, 58, 64, 100, 128, 200, 256, 300, 500, 1000):
        for gamma in (0, 10_000, 50_000, 100_000, 200_000, 330_000):
            for delta in (0, 50_000, 100_000, 250_000, 330_000):
                if (n * 7 + gamma // 10_000 * 3 + delta // 10_000) % 3 and n > 64:
                    continue
                cases.append((n, gamma, delta, 80, 30))
    cases += [(2000, 50_000, 100_000, 80, 30), (10_000, 50_000, 100_000, 80, 30), (16_384, 50_000, 100_000, 80, 30),
              (16_384, 10_000, 50_000, 80, 30), (64, 50_000, 250_000, 40, 20), (64, 50_000, 250_000, 128, 40),
              (64, 50_000, 100_000, 1, 1), (64, 50_000, 100_000, 256, 256), (1000, 50_000, 100_000, 40, 30)]
    for n, gamma, delta, sigma, eta in cases:
        c, d = params.ceil_gamma(gamma, n), params.floor_delta(delta, n)
        found = params.degree_threshold(n, c, d, sigma, eta)
        if n <= 32:
            assert found == params.degree_threshold_exact(n, c, d, sigma, eta)
        name = f"n{n}-gamma{gamma}-delta{delta}-sigma{sigma}-eta{eta}"
        inputs = dict(n=n, gamma=gamma, delta=delta, c=c, d=d, sigma=sigma, eta=eta)
        if found:
            f.good(name, "complete" if found[2] else "sparse", **inputs, k=found[0], t=found[1], complete=found[2])
        else:
            f.bad(name, "infeasible", rule="R-04", **inputs)


def make_headroom():
    f = File("headroom", "Honest noise shares, share variance and least ring bits (protocol 3.3, 3.4). `by_n` lists n, c, "
             "T, h, share variance. `least_r` null: nothing up to 64 bits suffices.")
    base = dict(roster_min=58, roster_max=64, max_squared_norm=109_717, total_variance=1_742_400, cohort_min=48,
                gamma=50_000, delta=100_000, wrap_bits=40)
    variants = [base, dict(base, delta=250_000, roster_min=64), dict(base, total_variance=0), dict(base, wrap_bits=1),
                dict(base, wrap_bits=128), dict(base, max_squared_norm=2**62), dict(base, total_variance=2**52),
                dict(base, max_squared_norm=1), dict(base, max_squared_norm=2**62, total_variance=2**52,
                                                     roster_max=16_384, roster_min=16_380, cohort_min=2),
                dict(base, roster_min=3, roster_max=3, cohort_min=3), dict(base, max_squared_norm=2**60)]
    for i, v in enumerate(variants):
        ns = sorted({v["roster_min"], v["roster_max"], (v["roster_min"] + v["roster_max"]) // 2})
        rows = []
        for n in ns:
            h = params.honest(v["cohort_min"], n, v["gamma"], v["delta"])
            rows.append([n, params.ceil_gamma(v["gamma"], n), params.floor_delta(v["delta"], n), h,
                         str(params.share_variance(v["total_variance"], h))])
        least = params.least_r(**v)
        f.good(f"case-{i}", **{k: str(x) if x >= 2**53 else x for k, x in v.items()}, by_n=rows, least_r=least)
    for clip, scale, d in ((2.0, 165.0, 1862), (2.0, 64.0, 16), (1.0, 1.0, 1), (0.5, 1.0, 1), (0.1, 10.0, 1000000),
                           (1.0, 1024.0, 250), (3.7, 1e4, 12345), (1e-3, 1e-3, 5), (2.0**31, 1.0, 2**28), (0.7, 10.0, 4),
                           (0.1, 30.0, 4), (0.7, 100.0, 64)):
        f.good(f"default-bound-{clip}-{scale}-{d}", clip=clip, scale=scale, vector_len=d,
               max_squared_norm=str(params.default_squared_norm(clip, scale, d)))


def make_shamir():
    f = File("shamir", "Sharing and rebuilding (protocol 2.2). `coefficients` are the polynomial's from the constant one "
             "upward, in hex, 32 bytes little-endian, as are shares; `holders` are leaf indices.")
    rng = random.Random(2)
    for t, holders in ((1, [3]), (2, [0, 5]), (3, [1, 2, 7, 4]), (5, [0, 9, 8, 3, 2, 100, 16383]),
                       (12, list(range(2, 38, 2)))):
        coefficients = [rng.randrange(L) for _ in range(t)]
        shares = [shamir.evaluate(coefficients, i + 1) for i in holders]
        chosen = rng.sample(range(len(holders)), t)
        pick = [(holders[i], shares[i]) for i in chosen]
        assert shamir.rebuild(pick) == coefficients[0]
        f.good(f"t{t}", t=t, coefficients=[scalar_bytes(x) for x in coefficients], holders=holders,
               shares=[scalar_bytes(x) for x in shares], rebuild_from=[i for i, _ in pick],
               secret=scalar_bytes(coefficients[0]), public=ristretto.times_base(coefficients[0]))
    f.bad("duplicate-index", "a duplicate index rebuilds nothing", rule="R-12", t=2, rebuild_from=[3, 3],
          shares=[scalar_bytes(5), scalar_bytes(6)])


def make_low_degree():
    f = File("low_degree", "The low-degree test (R-38) on points alone: `holders` in neighbour order, points P_s and P_b, "
             "S and B, the share statement's root. `f` and `factor` are the expanded coefficients.")
    rng = random.Random(3)

    def case(name, t, holders, bend, valid, why=""):
        s, b = [rng.randrange(1, L) for _ in range(t)], [rng.randrange(1, L) for _ in range(t)]
        ps = [shamir.evaluate(s, i + 1) for i in holders]
        pb = [shamir.evaluate(b, i + 1) for i in holders]
        big_s, big_b = s[0], b[0]
        ps, pb, big_s, big_b = bend(ps, pb, big_s, big_b)
        root = seed_of("low", name)
        S, B = ristretto.times_base(big_s), ristretto.times_base(big_b)
        edges = [(i, ristretto.times_base(x), ristretto.times_base(y)) for i, x, y in zip(holders, ps, pb)]
        assert low_degree.passes(root, t, S, B, edges) is valid, name
        k = len(holders)
        inputs = dict(share_root=root, t=t, holders=holders, S=S, B=B, P_s=[e[1] for e in edges],
                      P_b=[e[2] for e in edges], f=[scalar_bytes(low_degree.expand(root, m)) for m in range(k - t + 1)],
                      factor=scalar_bytes(low_degree.expand(root, k - t + 1)))
        if valid:
            f.good(name, **inputs)
        else:
            f.bad(name, why, rule="R-38", status=422, **inputs)

    around = [7, 3, 0, 5, 2, 6]
    case("good", 5, around, lambda *a: a, True)
    case("good-k-equals-t", 4, [0, 2, 5, 9], lambda *a: a, True)
    case("good-t-2", 2, around, lambda *a: a, True)
    case("good-swapped-order", 5, around[::-1], lambda *a: a, True)
    case("one-point-s", 5, around, lambda s, b, S, B: (s[:2] + [s[2] + 1] + s[3:], b, S, B), False, "one P_s is off")
    case("one-point-b", 5, around, lambda s, b, S, B: (s, b[:5] + [b[5] + 1], S, B), False, "one P_b is off")
    case("other-S", 5, around, lambda s, b, S, B: (s, b, S + 1, B), False, "S is another secret's")
    case("other-B", 5, around, lambda s, b, S, B: (s, b, S, B + 1), False, "B is another secret's")
    case("swapped-polynomials", 5, around, lambda s, b, S, B: (b, s, S, B), False, "P_s and P_b are exchanged")
    case("degree-t", 4, around, lambda s, b, S, B: ([x + 7 * math.prod(i + 1 - j for j in (0, 8, 9, 10)) for x, i
                                                     in zip(s, around)], b, S, B), False, "a polynomial of degree t")
    case("cancelling", 5, around, lambda s, b, S, B: ([x + 1 for x in s], [x - 1 for x in b], S, B), False,
         "errors that cancel without the factor")
    case("k-equals-t-off", 4, [0, 2, 5, 9], lambda s, b, S, B: ([s[0] + 1] + s[1:], b, S, B), False, "one P_s is off")


def make_core_compute():
    f = File("core_compute", "The core from its start (R-17): neighbours from `roster_root`, n, k as in ring_order.json.")
    rng = random.Random(4)
    for n, k, t, lost in ((8, 6, 5, 1), (8, 6, 5, 2), (13, 6, 4, 2), (13, 6, 4, 5), (40, 10, 7, 9), (40, 10, 8, 14),
                          (5, 4, 3, 1), (5, 4, 3, 3), (64, 18, 12, 12), (64, 18, 12, 26)):
        root = seed_of("core", n, k, lost)
        g = graph.Graph(root, n, k)
        start = sorted(set(range(n)) - set(rng.sample(range(n), lost)))
        f.good(f"n{n}-k{k}-t{t}-lost{lost}", roster_root=root, n=n, k=k, t=t, start=start,
               core=core.compute(g, t, start))


def make_rounding():
    f = File("clip_round", "What every accepted rounding must fulfil (protocol 6.2): each z_i is floor or ceil of y_i (or "
             "y truncated, or zero), and the sum of squares, exact, is at most the bound. `accepted` says whether this z "
             "passes the norm check. `x` are binary32 values, `clipped` binary64 to 1e-12 relative.")
    rng = random.Random(5)
    for i in range(8):
        d = rng.randrange(1, 12)
        x = np.array([rng.gauss(0, 3) for _ in range(d)], np.float32)
        if i == 0:
            x[:] = 0
        c, scale = 2.0, 64.0
        clipped = update.clip(x, c)
        bound = params.default_squared_norm(c, scale, d)
        z = np.floor(clipped * scale).astype(np.int64) + np.array([rng.randrange(2) for _ in range(d)])
        f.good(f"clip-{i}", x=[float(v) for v in x], clip=c, scale=scale, max_squared_norm=bound,
               clipped=[float(v) for v in clipped], z=[int(v) for v in z],
               squared_norm=str(update.squared_norm(z)), accepted=update.squared_norm(z) <= bound)
    for name, z, bound in (("at-bound", [3, 4], 25), ("beyond-bound", [3, 4], 24),
                           ("large", [2**30, -2**30], 2**61), ("large-beyond", [2**30, -2**30, 1], 2**61)):
        f.good(name, z=z, max_squared_norm=str(bound), squared_norm=str(update.squared_norm(z)),
               accepted=update.squared_norm(z) <= bound)
    for name in ("nan", "inf", "-inf"):
        f.judged("not-finite-" + name, "a value that is not finite: the client abandons",
                 lambda name=name: update.clip([1.0, float(name)], 1.0), rule=None, x=["1.0", name], clip=1.0)


def make_weights():
    f = File("weights", "Weights (R-34): y before rounding, binary64 to 1e-12 relative; the weighted mean of a sum.")
    head = simulate.make_header(SEED, 8, vector_len=5, weight_max=100, scale=64.0)
    for i, (x, w) in enumerate((([1.0, -1.0, 0.5, 0.25], 100.0), ([3.0, 4.0, 0.0, 12.0], 50.0), ([0.0] * 4, 1.0),
                                ([1.0, 0, 0, 0], 0.5))):
        y = update.scaled(np.array(x, np.float32), head, w)
        assert math.sqrt(sum(v * v for v in y)) <= head.clip * head.scale * (1 + 1e-12)
        f.good(f"encode-{i}", x=x, weight=w, weight_max=100, clip=2.0, scale=64.0, y=[float(v) for v in y])
    for name, w in (("zero", 0.0), ("negative", -1.0), ("above", 100.5), ("nan", float("nan")), ("inf", float("inf"))):
        f.judged("weight-" + name, "a weight that is not above 0 and at most weight_max",
                 lambda w=w: update.scaled(np.zeros(4, np.float32), head, w), rule="R-34", x=[0.0] * 4, weight=str(w),
                 weight_max=100, clip=2.0, scale=64.0)


def make_decode():
    f = File("decode", "From the sum to the mean (protocol 6.4, 6.5): `sum` decimal strings below 2^ring_bits; `centred` "
             "integers; `mean` binary64 to 1e-12 relative, null where there is none.")
    rng = random.Random(6)
    for r in (8, 16, 20, 33, 52, 63, 64):
        for weight_max in (0, 10):
            head = replace(simulate.make_header(SEED, 8, vector_len=5, weight_max=weight_max), ring_bits=r)
            values = [0, (1 << (r - 1)) - 1, 1 << (r - 1), (1 << r) - 1, rng.getrandbits(r - 2)]
            total = np.array(values, np.uint64)
            centred = ring.centre(total, r)
            mean = update.decode_sum(total, head, 7)
            f.good(f"r{r}-w{weight_max}", ring_bits=r, clip=2.0, scale=64.0, weight_max=weight_max, count=7,
                   sum=ints(values), centred=ints(centred), mean=[float(v) for v in mean])
    head = replace(simulate.make_header(SEED, 8, vector_len=3, weight_max=10), ring_bits=16)
    for name, last in (("zero", 0), ("negative", 40_000)):
        total = np.array([1, 2, last], np.uint64)
        assert update.decode_sum(total, head, 7) is None
        f.good(f"weight-{name}", "e_last <= 0: no mean", ring_bits=16, clip=2.0, scale=64.0, weight_max=10, count=7,
               sum=ints(total), centred=ints(ring.centre(total, 16)), mean=None)


def make_epsilon():
    f = File("epsilon", "Accounting (protocol 10.2). `rdp` maps some orders to the exact curve of one round, `epsilon` is "
             "exact, both to 1e-12 relative; an implementation's figures are at least these, and at most 1e-9 above.")
    for norm, d, mu, rounds, delta in (
            (109_717, 1862, 1_742_400, 1, 1e-5), (109_717, 1862, 1_742_400, 12, 1e-5), (109_717, 1862, 1_742_400, 100, 1e-5),
            (1, 1, 1, 1, 1e-5), (100, 10, 25, 3, 1e-6), (25, 2**20, 10_000, 50, 1e-8), (2**40, 1000, 2**46, 5, 1e-5),
            (16_384, 64, 2**30, 1, 1e-5), (16_384, 64, 100, 1, 1e-5), (109_717, 1862, 2**52, 1, 0.5)):
        d2 = Fraction(norm)
        values = {}
        for a in privacy.ORDERS:
            root = math.sqrt(norm)
            d1 = root * min(math.sqrt(d), root)
            values[a] = rounds * privacy.rdp(a, root, d1, float(mu))
        eps, order = privacy.epsilon(tuple(values.values()), delta)
        one = {a: values[a] / rounds for a in (2, 3, 8, 32, 128, 256, 1024)}
        f.good(f"norm{norm}-d{d}-mu{mu}-rounds{rounds}-delta{delta}", max_squared_norm=str(d2), vector_len=d,
               total_variance=str(mu), rounds=rounds, dp_delta=delta, rdp=one, epsilon=eps, order=order)


# ---- certificates and headers --------------------------------------------------------------------------------------

def make_certificate():
    authority = seed_of("authority")
    public = ed25519.public_key(authority)
    now = simulate.OPENED_AT
    day = 24 * 3600 * 1_000_000
    f = File("certificate", "Certificates judged at `time` under `authority_key` (wire 4.2, protocol 4.3, 5.1).",
             authority_seed=authority, authority_key=public, time=str(now))
    client, key = seed_of("cert", "client")[:16], ed25519.public_key(seed_of("cert", "key"))
    base = certificate.Certificate(client, key, 3, 40, now - day, now + day)

    def judge(raw):
        signed, c = certificate.decode(raw)
        certificate.check(signed, c, public, now)

    def good(name, c, comment=""):
        raw = c.issue(authority)
        judge(raw)
        f.good(name, comment, signed=raw, client=c.client, identity_key=c.identity_key, group=c.group,
               group_size=c.group_size, not_before=str(c.not_before), not_after=str(c.not_after))

    def bad(name, raw, why, rule):
        f.judged(name, why, lambda: judge(raw), rule=rule, signed=raw)

    good("plain", base)
    good("starts-now", replace(base, not_before=now), "valid from its first microsecond")
    good("thirty-days", replace(base, not_before=now - day, not_after=now + 29 * day), "the longest life")
    good("ends-next", replace(base, not_after=now + 1), "its last microsecond")
    bad("not-yet", replace(base, not_before=now + 1).issue(authority), "not yet valid", "R-06")
    bad("ended", replace(base, not_after=now).issue(authority), "not_after is the first time at which it is invalid",
        "R-06")
    bad("too-long", replace(base, not_after=base.not_before + 30 * day + 1).issue(authority),
        "lives a microsecond longer than 30 days", "R-06")
    bad("backwards", replace(base, not_after=base.not_before).issue(authority), "not_before is not below not_after",
        "R-37")
    bad("group-of-nobody", replace(base, group_size=0).issue(authority), "group_size 0", "R-37")
    bad("identity-small-order", replace(base, identity_key=bytes(32)).issue(authority),
        "an identity key of small order", "R-37")
    bad("identity-not-canonical", replace(base, identity_key=(edwards.P + 1).to_bytes(32, "little")).issue(authority),
        "an identity key that is not canonical", "R-37")
    raw = base.issue(authority)
    bad("receiver", restate(raw, authority, receiver=flip(client, 0)), "the receiver is not the client of the body",
        "R-06")
    bad("sender", restate(raw, authority, sender=flip(base.client, 0)), "the sender is not the authority", "R-06")
    bad("context", restate(raw, authority, context=flip(ZERO32, 0)), "a context", "R-06")
    bad("previous", restate(raw, authority, previous=flip(ZERO32, 0)), "a statement before", "R-06")
    bad("other-authority", base.issue(seed_of("other authority")), "another authority", "R-06")
    bad("signature", flip(raw, len(raw) - 1), "the signature does not hold", "R-06")
    bad("label", restate(raw, authority, label="veilsum/1/revocation"), "another label", "R-37")
    bad("version", restate(raw, authority, version=2), "version 2", "R-37")
    bad("short", raw[:-1], "a byte is missing", "R-37")
    bad("long", raw + b"\0", "a byte is left over", "R-37")

    f = File("revocation", "Revocation lists (wire 4.3), asked for by `digest` and `number`; and what they revoke: `revokes`"
             " lists [client, not_before of a certificate, revoked or not].", authority_seed=authority,
             authority_key=public)
    entries = tuple(sorted((seed_of("revoked", i)[:16], now - i) for i in range(5)))
    lists = certificate.Revocation(7, entries)
    raw = lists.issue(authority)
    root = statement.decode_any(raw).root()
    some = entries[2]
    revokes = [[some[0], str(t), t < some[1]] for t in (some[1] - 1, some[1], some[1] + 1)]
    revokes.append([flip(some[0], 15), str(some[1] - 1), False])
    for c, t, expected in revokes:
        assert lists.revokes(replace(base, client=c, not_before=int(t))) is expected
    f.good("plain", signed=raw, digest=root, number=7, entries=[[c, str(t)] for c, t in entries], revokes=revokes)
    empty = certificate.Revocation(1).issue(authority)
    f.good("empty", signed=empty, digest=statement.decode_any(empty).root(), number=1, entries=[], revokes=[])

    def bad_list(name, raw, why, rule, digest=None, number=7):
        digest = statement.decode_any(raw).root() if digest is None and len(raw) > 200 else digest or root
        f.judged(name, why, lambda: certificate.decode_revocation(raw, public, digest, number), rule=rule, signed=raw,
                 digest=digest, number=number)

    def broken(entries_, number=7, count=None):
        r = certificate.Revocation(number, entries_)
        body = r.body() if count is None else u64(number) + u32(count) + r.body()[12:]
        return restate(raw, authority, body=body)

    bad_list("descending", broken(entries[::-1]), "not ascending", "R-37")
    bad_list("twice", broken(entries[:1] + entries[:1]), "one client twice", "R-37")
    bad_list("number-0", broken(entries, number=0), "number 0", "R-37", number=0)
    bad_list("count-more", broken(entries, count=6), "count is one more", "R-37")
    bad_list("count-huge", broken(entries, count=2**32 - 1), "count is 2^32 - 1", "R-37")
    bad_list("other-number", raw, "not the number asked for", "R-36", number=8)
    bad_list("other-digest", raw, "not the digest asked for", "R-36", digest=flip(root, 3))
    bad_list("signature", flip(raw, len(raw) - 64), "the signature does not hold", "R-37")
    bad_list("other-authority", lists.issue(seed_of("other authority")), "another authority", "R-01")
    bad_list("receiver", restate(raw, authority, receiver=flip(ZERO16, 0)), "a receiver", "R-01")
    bad_list("context", restate(raw, authority, context=flip(ZERO32, 0)), "a context", "R-01")
    bad_list("short", raw[:-1], "a byte is missing", "R-37", digest=root)


def make_header():
    seed = simulate.seed_of(SEED, "aggregator")
    base = simulate.make_header(SEED, 8, vector_len=11, multiplier=1.0, gamma=200_000, delta=200_000, roster_min=8)
    base = replace(base, wrap_bits=40)
    public = base.aggregator_key
    f = File("header", "Headers under the pinned `aggregator_key`: layout, and what is malformed (protocol 5.1 step 3). "
             "`derived` lists n, c, T, h, k, t for some n of the bounds; null for k and t where infeasible.",
             aggregator_seed=seed, aggregator_key=public)

    def judge(raw):
        _, h = header.decode(raw, public)
        h.check_values()
        return h

    def good(name, h, comment=""):
        raw = h.statement().signed(seed)
        judge(raw)
        rows = []
        for n in sorted({h.roster_min, h.roster_max}):
            k, t = (h.degree_threshold(n) or (None, None))[:2]
            rows.append([n, h.corrupt(n), h.losses(n), h.honest(n), k, t])
        fields = {name: getattr(h, name) for name in header.NAMES}
        fields = {k: str(v) if isinstance(v, int) and k in BIG else v for k, v in fields.items()}
        f.good(name, comment, signed=raw, context=h.statement().root(), fields=fields, least_r=h.least_r(),
               derived=rows)

    def bad(name, h, why, comment=""):
        raw = h.statement().signed(seed)
        f.judged(name, why, lambda: judge(raw), rule="R-02", signed=raw, comment=comment)

    def bad_raw(name, raw, why, rule):
        f.judged(name, why, lambda: judge(raw), rule=rule, signed=raw)

    good("plain", base)
    big = simulate.make_header(SEED, 64, vector_len=1862, scale=165.0, multiplier=4.0, roster_min=58)
    good("large", big)
    good("without-noise", simulate.make_header(SEED, 5, vector_len=3))
    good("weights", simulate.make_header(SEED, 5, vector_len=3, weight_max=1000))
    good("more-ring-bits", replace(base, ring_bits=64), "above the least r is allowed")
    good("smallest-roster", simulate.make_header(SEED, 3, vector_len=1, delta=0), "three clients, one coordinate")
    good("huge-bound", replace(base, max_squared_norm=2**62, ring_bits=64, counter=2**63),
         "values that need all 64 bits")
    good("revocation-list", replace(base, revocation_number=3, revocation_digest=seed_of("r")))
    good("infeasible-inside", simulate.make_header(SEED, 4, vector_len=1, delta=0, gamma=250_000, roster_min=3,
                                                   cohort_min=2),
         "whether (k, t) exists is no question of the header")
    for name, change, why in (
            ("suite-0", dict(suite=0), "suite"), ("suite-2", dict(suite=2), "suite"),
            ("counter-0", dict(counter=0), "counter 0"),
            ("vector-0", dict(vector_len=0), "vector_len 0"),
            ("vector-large", dict(vector_len=2**28 + 1), "vector_len above 2^28"),
            ("weight-alone", dict(vector_len=1, weight_max=5), "vector_len 1 with weights"),
            ("ring-7", dict(ring_bits=7), "ring_bits below 8"), ("ring-65", dict(ring_bits=65), "ring_bits above 64"),
            ("ring-0", dict(ring_bits=0), "ring_bits 0"),
            ("ring-least-minus-1", dict(ring_bits=base.least_r() - 1), "ring_bits below the least r"),
            ("wrap-0", dict(wrap_bits=0), "wrap_bits 0"), ("wrap-129", dict(wrap_bits=129, ring_bits=64), "wrap_bits"),
            ("roster-min-2", dict(roster_min=2), "roster_min 2"),
            ("roster-crossed", dict(roster_min=9), "roster_min above roster_max"),
            ("roster-max", dict(roster_max=16_385), "roster_max above 16384"),
            ("cohort-1", dict(cohort_min=1), "cohort_min 1"),
            ("cohort-above", dict(cohort_min=9), "cohort_min above roster_max"),
            ("cohort-unreachable", dict(cohort_min=8), "roster_min - T is below cohort_min"),
            ("gamma-1", dict(gamma=1_000_000), "gamma 1"), ("delta-1", dict(delta=1_000_000), "delta 1"),
            ("sigma-0", dict(sigma=0), "sigma 0"), ("sigma-257", dict(sigma=257), "sigma 257"),
            ("eta-0", dict(eta=0), "eta 0"), ("eta-257", dict(eta=257), "eta 257"),
            ("scale-0", dict(scale=0.0), "scale 0"), ("clip-0", dict(clip=0.0), "clip 0"),
            ("scale-large", dict(scale=2.0**53, clip=1e-9), "scale above 2^52"),
            ("clip-large", dict(clip=2.0**53, scale=1e-9), "clip above 2^52"),
            ("product-large", dict(clip=65536.0, scale=32768.5, ring_bits=64), "clip * scale above 2^31"),
            ("dp-delta-0", dict(dp_delta=0.0), "dp_delta 0"), ("dp-delta-1", dict(dp_delta=1.0), "dp_delta 1"),
            ("norm-0", dict(max_squared_norm=0), "max_squared_norm 0"),
            ("norm-large", dict(max_squared_norm=2**62 + 1, ring_bits=64), "max_squared_norm above 2^62"),
            ("variance-large", dict(total_variance=2**52 + 1, ring_bits=64), "total_variance above 2^52"),
            ("window-0", dict(windows=(1000, 1000, 0, 1000, 1000, 1000, 1000)), "a window of 0 ms"),
            ("window-last-0", dict(windows=(1000,) * 6 + (0,)), "a window of 0 ms"),
            ("window-day", dict(windows=(86_400_001,) + (1000,) * 6), "a window of more than a day"),
            ("h-0", dict(gamma=900_000), "h is below 1"),
            ("revocation-number", dict(revocation_number=1), "a number without a digest"),
            ("revocation-digest", dict(revocation_digest=seed_of("x")), "a digest without a number")):
        bad(name, replace(base, **change), why)
    raw = base.statement().signed(seed)
    body = base.body()
    for name, value in (("nan", b"\0\0\0\0\0\0\xf8\x7f"), ("infinite", b"\0\0\0\0\0\0\xf0\x7f"),
                        ("minus-zero", b"\0" * 7 + b"\x80"), ("negative", encoding.f64(-2.0))):
        for field, at in (("scale", 260), ("clip", 268), ("dp-delta", 308)):
            bad_raw(f"{field}-{name}", restate(raw, seed, body=body[:at] + value + body[at + 8:]),
                    f"{field} is not a canonical binary64", "R-37")
    other = ed25519.public_key(seed_of("other aggregator"))
    bad_raw("aggregator-key", restate(raw, seed, body=body[:34] + other + body[66:]),
            "the body has another aggregator key than the pinned one", "R-02")
    bad_raw("aggregator-key-small", restate(raw, seed, body=body[:34] + bytes(32) + body[66:]),
            "an aggregator key of small order", "R-37")
    bad_raw("authority-key-small", restate(raw, seed, body=body[:66] + b"\1" + bytes(31) + body[98:]),
            "an authority key of small order", "R-37")
    bad_raw("signed-by-another", base.statement().signed(seed_of("other aggregator")), "signed by another key", "R-37")
    bad_raw("context", restate(raw, seed, context=flip(ZERO32, 0)), "a context", "R-01")
    bad_raw("previous", restate(raw, seed, previous=flip(ZERO32, 0)), "a statement before", "R-01")
    bad_raw("receiver", restate(raw, seed, receiver=flip(ZERO16, 0)), "a receiver", "R-01")
    bad_raw("sender", restate(raw, seed, sender=flip(encoding.key_id(public), 0)), "another sender", "R-01")
    bad_raw("label", restate(raw, seed, label="veilsum/1/upload"), "another label", "R-37")
    bad_raw("version", restate(raw, seed, version=2), "version 2", "R-37")
    bad_raw("body-short", restate(raw, seed, body=body[:-1]), "a body of 343 bytes", "R-37")
    bad_raw("body-long", restate(raw, seed, body=body + b"\0"), "a body of 345 bytes", "R-37")
    bad_raw("truncated", raw[:-1], "a byte is missing", "R-37")
    bad_raw("empty", b"", "nothing", "R-37")


BIG = {"counter", "opened_at", "revocation_number", "log_size", "max_squared_norm", "total_variance"}


# ---- a round, message by message -----------------------------------------------------------------------------------

class Recorded(simulate.Play):
    """A play that keeps a copy of every client before each of its steps, and its secrets."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.before, self.secrets, self.served = {}, {}, {}

    def act(self, phase, i, step):
        import copy
        if not self.silent(i, phase):
            self.before[phase, i] = copy.deepcopy(self.clients[i])
        super().act(phase, i, step)

    def send(self, phase, i, message):
        c = self.clients[i]
        if phase == "advertise":
            self.secrets[i] = {"s": scalar_bytes(c.s), "b": scalar_bytes(c.b), "c": c.c, "nonce": c.own.nonce}
        if phase == "share":
            self.secrets[i]["s_coefficients"] = [scalar_bytes(x) for x in c.s_poly]
            self.secrets[i]["b_coefficients"] = [scalar_bytes(x) for x in c.b_poly]
        super().send(phase, i, message)

    def everyone(self, phase, step):
        a = self.aggregator
        if phase == "open":
            self.served["complaints"] = {i: a.serve_complaints(c.identity.client) for i, c in enumerate(self.clients)}
        super().everyone(phase, step)

    def number(self, leaf_index):
        """The client number of a leaf index."""
        return next(i for i, c in enumerate(self.clients)
                    if c.identity.client == self.aggregator.round.ids[leaf_index])


def spoil_edge(play, i, message, holder):
    """The dealer's message with the edge for a holder (leaf index) sealed wrongly; the dealer knows it by heart."""
    c = play.clients[i]
    edge = c.edges[holder]
    c.edges[holder] = replace(edge, ciphertext=flip(edge.ciphertext, 3))
    return resign_share(c, list(c.edges.values()))


def resign_share(c, edges, **changes):
    s = replace(share.share_statement(c.round, c.identity.client, merkle.root([e.encode() for e in edges])), **changes)
    return share.encode(s.signed(c.identity.seed), edges)


HEAD = dict(vector_len=11, multiplier=1.0, gamma=200_000, delta=200_000, roster_min=7)
PLAIN, SPOILER, LOST = 0, 2, 5


def who(play, i):
    c = play.clients[i]
    return c.identity.client


def round_shared(play, **more):
    a = play.aggregator
    out = {"aggregator_seed": a.seed, "header": a.header_raw, "context": a.context}
    if a.round is not None:
        out |= {"roster": a.roster_raw, "roster_root": a.round.root, "leaves": [x.raw for x in a.leaves.values()],
                "n": a.round.n, "k": a.round.k, "t": a.round.t}
    return out | more


def leaf_index(play, i):
    return play.aggregator.round.index[who(play, i)]


def make_round_files():
    head = simulate.make_header(SEED, 8, **HEAD)
    files = {}

    def lie(play, phase, i, message):
        if phase == "share" and i == SPOILER:
            victim = leaf_index(play, PLAIN)
            assert victim in play.clients[i].edges and leaf_index(play, LOST) != victim
            message = spoil_edge(play, i, message, victim)
        subject = SPOILER if phase == "open" else PLAIN
        if phase in ("confirm",):
            subject = next(j for j in range(8) if j != LOST and leaf_index(play, j) in play.aggregator.round.graph.agreement)
        if i == subject and phase not in files:
            files[phase] = True
            globals()["put_" + phase](play, i, message)
        return message

    play = Recorded(SEED, head, 8, lost={LOST: "mask"}, lie=lie)
    play.run()
    a = play.aggregator
    assert a.over == "published" and not play.refused, (a.over, play.refused)
    assert np.array_equal(play.plain_sum(), play.result.total)
    assert set(files) == set(header.WINDOWS)
    get_roster(play)
    get_leaves(play)
    get_mail(play)
    get_complaints(play)
    get_openings(play)
    get_core(play)
    get_survivors(play)
    get_confirmations(play)
    get_result(play)
    make_read(play)
    make_policy(play)
    make_sealing(play)
    clean = Recorded(SEED, head, 8, lost={LOST: "mask"}, lie=lambda p, phase, i, m: spoil_edge(
        p, i, m, leaf_index(p, PLAIN)) if (phase, i) == ("share", SPOILER) else m).run()
    assert clean.aggregator.result_raw == a.result_raw and not clean.aggregator.faults
    FILES["round"] = round_file(clean, "One whole round: 8 clients; one deals a spoilt edge, is complained about and opens "
                                "it; one is lost before masking.", secrets=True)


def someone_else(play, i):
    """An identity that is not the i-th."""
    return play.identities[1 if i != 1 else 3]


def put_advertise(play, i, message):
    a, c = play.aggregator, play.clients[i]
    f = File("advertise", "PUT of a leaf while advertising, as the first messages of a round (wire 6.1, 8.1). `client` is "
             "the path's.", **round_shared(play))
    p = Puts(f, a, "advertise", c.identity.client)
    seed, authority = c.identity.seed, play.authority_seed
    cert_raw, advert = message[4:264], message[268:]
    other = someone_else(play, i)
    for name, bad, why, status, rule in statement_faults(advert, b"", seed, other.seed, other.client, exact=False):
        if name in ("empty", "one-byte", "truncated"):
            continue
        if name in ("other-sender", "sender-and-context"):        # wire 8.1: the path is compared with the certificate's client
            why, status, rule = why.replace("the sender is looked at first", "both of the chain"), 422, "R-01"
        p.bad("advert-" + name, framed(cert_raw) + framed(bad) if len(bad) == 311 else message[:264] + u32(311) + bad,
              why, status, rule)
    p.bad("empty", b"", "nothing", 400, "R-37")
    p.bad("short", message[:-1], "a byte is missing", 400, "R-37")
    p.bad("long", message + b"\0", "a byte is left over", [400, 413], ["R-37", None])
    p.bad("certificate-length", u32(259) + message[4:], "the certificate's length", 400, "R-37")
    p.bad("advert-length", message[:264] + u32(312) + message[268:], "the advert's length", 400, "R-37")
    S, B, C, nonce = (advert_body(advert)[j:j + 32] for j in (0, 32, 64, 96))

    def keys(S=S, B=B, C=C, seed=seed, cert=cert_raw, client=c.identity.client):
        return leaf.encode(cert, leaf.advert_statement(a.context, client, S, B, C, nonce).signed(seed))

    for name, change in (("S-identity", dict(S=bytes(32))), ("B-identity", dict(B=bytes(32))),
                         ("S-not-canonical", dict(S=edwards.P.to_bytes(32, "little"))),
                         ("B-negative", dict(B=b"\1" + bytes(31))), ("C-zero", dict(C=bytes(32))),
                         ("C-small-order", dict(C=sorted(x25519.SMALL_ORDER)[2])),
                         ("C-high-bit", dict(C=C[:31] + bytes([C[31] | 128])))):
        p.bad(name, keys(**change), "a key that R-09 refuses", 400, "R-37",
              comment="canonical encodings belong to the decoder (wire 1)")
    p.bad("S-equals-B", keys(B=S), "S and B are the same", 422, "R-09")
    _, cert = certificate.decode(cert_raw)
    for name, change, why in (("ended", dict(not_after=play.header.opened_at), "ended at opened_at"),
                              ("not-yet", dict(not_before=play.header.opened_at + 1), "not yet valid"),
                              ("too-long", dict(not_after=cert.not_before + certificate.LIFE + 1),
                               "lives longer than 30 days")):
        p.bad("certificate-" + name, keys(cert=replace(cert, **change).issue(authority)), why, 403, "R-06")
    p.bad("certificate-other-authority", keys(cert=cert.issue(seed_of("no authority"))), "another authority", 403, "R-06")
    p.bad("certificate-receiver", keys(cert=restate(cert_raw, authority, receiver=other.client)), "another receiver", 403,
          "R-06")
    p.bad("certificate-signature", keys(cert=flip(cert_raw, 259)), "the certificate's signature", 403, "R-06")
    p.bad("certificate-of-another", keys(cert=other.certificate), "another client's certificate", 403, None,
          comment="the path is compared with the certificate's client (wire 8.1)")
    p.bad("certificate-identity", keys(cert=replace(cert, identity_key=bytes(32)).issue(authority)),
          "an identity key of small order", 400, "R-37")
    p.good("good", message)
    p.good("again", message, "the same bytes again")
    fresh = keys(S=ristretto.times_base(77))
    p.bad("other-bytes", fresh, "another advert of the same client", 409, "R-03")
    # another client that copies one key
    for name, change in (("S", dict(S=S)), ("B", dict(B=B)), ("C", dict(C=C)), ("S-as-B", dict(B=S)),
                         ("B-as-S", dict(S=B))):
        d = {"S": ristretto.times_base(101), "B": ristretto.times_base(102), "C": x25519.public(seed_of("own C"))} | change
        p.bad("copied-" + name, keys(**d, seed=other.seed, cert=other.certificate, client=other.client),
              "a key of another advert", 409, "R-09", client=other.client)
    _, other_cert = certificate.decode(other.certificate)
    same_identity = replace(other_cert, identity_key=cert.identity_key).issue(authority)
    p.bad("copied-identity-key", keys(S=ristretto.times_base(103), B=ristretto.times_base(104),
                                      C=x25519.public(seed_of("own C")), cert=same_identity, client=other.client),
          "another client with the same identity key", 409, "R-09", client=other.client)


def advert_body(advert):
    return statement.decode_any(advert).body


def put_share(play, i, message):
    a, c = play.aggregator, play.clients[i]
    f = File("share", "PUT of a share message (wire 6.2, protocol 5.2).", **round_shared(play))
    p = Puts(f, a, "share", c.identity.client)
    seed, rnd = c.identity.seed, a.round
    other = someone_else(play, i)
    signed, tail = message[:214], message[214:]
    for name, bad, why, status, rule in statement_faults(signed, tail, seed, other.seed, other.client):
        p.bad(name, bad, why, status, rule)
    edges = list(c.edges.values())
    near = [e.holder for e in edges]
    outsider = next(j for j in range(rnd.n) if j not in near and j != c.me)

    def with_edge(j, **changes):
        return edges[:j] + [replace(edges[j], **changes)] + edges[j + 1:]

    p.bad("edge-missing", resign_share(c, edges[:-1]), "an edge too few", 400, "R-37")
    p.bad("edge-more", resign_share(c, edges + edges[:1]), "an edge too many", [400, 413], ["R-37", None])
    p.bad("edge-order", resign_share(c, edges[1:] + edges[:1]), "another order of holders", 422, "R-13")
    p.bad("edge-ascending", resign_share(c, sorted(edges, key=lambda e: e.holder)), "holders by leaf index", 422, "R-13")
    p.bad("holder-twice", resign_share(c, with_edge(1, holder=near[0])), "one holder twice", 422, "R-13")
    p.bad("holder-stranger", resign_share(c, with_edge(1, holder=outsider)), "a holder who is no neighbour", 422, "R-13")
    p.bad("holder-self", resign_share(c, with_edge(1, holder=c.me)), "the dealer itself", 422, "R-13")
    p.bad("holder-n", resign_share(c, with_edge(1, holder=rnd.n)), "a holder of no leaf", 422, "R-13")
    p.bad("holder-max", resign_share(c, with_edge(1, holder=2**32 - 1)), "a holder of no leaf", 422, "R-13")
    for name, raw in (("identity", bytes(32)), ("not-canonical", b"\xff" * 32), ("negative", b"\1" + bytes(31))):
        p.bad("P_s-" + name, resign_share(c, with_edge(2, P_s=raw)), "P_s is no point", 400, "R-37")
        p.bad("P_b-" + name, resign_share(c, with_edge(2, P_b=raw)), "P_b is no point", 400, "R-37")
    p.bad("edges-root", share.encode(share.share_statement(rnd, c.identity.client, flip(signed[118:150], 0)).signed(seed),
                                     edges), "the signed root is another", 422, "R-13")
    p.bad("ciphertext-after-signing", signed + share.encode(b"", with_edge(0, ciphertext=flip(edges[0].ciphertext, 79))),
          "an edge was changed after signing", 422, "R-13")
    p.bad("point-and-holder", resign_share(c, [replace(e, P_s=bytes(32)) if j == 4 else e for j, e in
                                               enumerate(with_edge(1, holder=near[0]))]),
          "two faults: points are looked at first", 400, "R-37")
    bent = ristretto.times_base(c.dealt[near[3]][0] + 1)
    p.bad("holder-and-low-degree", resign_share(c, [replace(e, P_s=bent) if j == 3 else e for j, e in
                                                    enumerate(with_edge(1, holder=near[0]))]),
          "two faults: holders are looked at first", 422, "R-13")
    p.bad("low-degree-s", resign_share(c, with_edge(3, P_s=bent)), "P_s lies off the polynomial", 422, "R-38")
    bent = ristretto.times_base(c.dealt[near[5]][1] + 1)
    p.bad("low-degree-b", resign_share(c, with_edge(5, P_b=bent)), "P_b lies off the polynomial", 422, "R-38")
    swapped = [replace(e, P_s=e.P_b, P_b=e.P_s) for e in edges]
    p.bad("low-degree-swapped", resign_share(c, swapped), "P_s and P_b are exchanged", 422, "R-38")
    p.bad("constant", resign_share(c, [replace(e, P_s=c.own.S, P_b=c.own.B) for e in edges][:-1] + edges[-1:]),
          "all but one share are the secret itself", 422, "R-38")
    stranger = seed_of("stranger")[:16]
    p.bad("stranger", message, "a client that is not on the roster", 404, None, client=stranger)
    p.good("good", message)
    p.good("again", message, "the same bytes again")
    p.bad("other-bytes", resign_share(c, with_edge(0, ciphertext=flip(edges[0].ciphertext, 0))),
          "a second share message", 409, "R-03")


def put_acknowledge(play, i, message):
    a, c = play.aggregator, play.clients[i]
    f = File("acknowledge", "PUT of an acknowledgement (wire 6.3, protocol 5.3). `dealt` are the leaf indices whose share "
             "message was admitted.", **round_shared(play, dealt=sorted(a.dealt)))
    p = Puts(f, a, "acknowledge", c.identity.client)
    seed, rnd = c.identity.seed, a.round
    other = someone_else(play, i)
    for name, bad, why, status, rule in statement_faults(message, b"", seed, other.seed, other.client, exact=False):
        if name == "other-label":
            bad = restate(message, seed, label="veilsum/1/confirm" + "xxxxxxxx")
        p.bad(name, bad, why, status, rule)
    ack = acknowledge.decode_body(statement.decode_any(message).body, rnd.k)

    def body(raw):
        return restate(message, seed, body=raw)

    good, any_hash = bytes([1]) * rnd.k, b"\2" + seed_of("edge")
    p.bad("entry-3", body(b"\3" + good[1:] + ack.shares_digest), "an entry of 3", 400, "R-37")
    p.bad("entry-few", body(good[1:] + ack.shares_digest), "an entry is missing", 400, "R-37")
    p.bad("entry-more", body(good + b"\1" + ack.shares_digest), "an entry too many", 400, "R-37")
    p.bad("no-digest", body(good), "no shares digest", 400, "R-37")
    p.bad("complaint-without-hash", body(b"\2" + good[1:] + ack.shares_digest), "a complaint without an edge hash", 400,
          "R-37")
    p.bad("left-over", body(good + ack.shares_digest + bytes(32)), "32 bytes left over", 400, "R-37")
    p.bad("too-long", body(any_hash * rnd.k + ack.shares_digest + b"\0"), "longer than any acknowledgement", [400, 413],
          ["R-37", None])
    most = rnd.most_complaints
    p.bad("complaints", body(any_hash * (most + 1) + bytes([1]) * (rnd.k - most - 1) + ack.shares_digest),
          f"{most + 1} complaints where {most} are allowed", 422, "R-16")
    p.bad("complaints-all", body(any_hash * rnd.k + ack.shares_digest), "complaints about everybody", 422, "R-16")
    p.bad("entry-3-and-complaints", body(any_hash * (rnd.k - 1) + b"\3" + ack.shares_digest),
          "two faults: entries are looked at first", 400, "R-37")
    p.good("good", message, "with one complaint", entries=[kind for kind, _ in ack.entries],
           shares_digest=ack.shares_digest, complaints=ack.complaints())
    p.good("again", message, "the same bytes again")
    p.bad("other-bytes", body(good + ack.shares_digest), "a second acknowledgement", 409, "R-03")


def put_open(play, i, message):
    a, c = play.aggregator, play.clients[i]
    me = leaf_index(play, i)
    f = File("open", "PUT of an opening (wire 6.4, protocol 5.4) by a dealer of whom `complainers` (leaf indices) complained.",
             **round_shared(play, complainers=a.complaints[me], dealer=me))
    p = Puts(f, a, "open", c.identity.client)
    seed, rnd = c.identity.seed, a.round
    other = someone_else(play, i)
    for name, bad, why, status, rule in statement_faults(message, b"", seed, other.seed, other.client, exact=False):
        if name in ("one-byte-more",):
            continue
        p.bad(name, bad, why, status, rule)
    holder, s_i, b_i = opening.decode_body(statement.decode_any(message).body).entries[0]

    def entry(holder=holder, s=scalar_bytes(s_i), b=scalar_bytes(b_i)):
        return u32(holder) + s + b

    def body(raw, count=1):
        return restate(message, seed, body=u16(count) + raw)

    another = next(j for j in c.edges if j != holder)
    low, high = sorted((holder, another))
    p.bad("count-0", body(entry(), 0), "count 0", 400, "R-37")
    p.bad("count-2", body(entry(), 2), "count and length do not fit", 400, "R-37")
    p.bad("none", body(b"", 0), "no entry", 400, "R-37")
    p.bad("s-not-canonical", body(entry(s=L.to_bytes(32, "little"))), "s_i is l", 400, "R-37")
    p.bad("b-not-canonical", body(entry(b=b"\xff" * 32)), "b_i is not below l", 400, "R-37")
    p.bad("twice", body(entry() * 2, 2), "one holder twice", 400, "R-37")
    p.bad("descending", body(entry(high) + entry(low), 2), "holders descending", 400, "R-37")
    p.bad("holder-n", body(entry(rnd.n)), "a holder of no leaf", 422, "R-16")
    p.bad("other-holder", body(entry(another)), "a holder who did not complain", 422, "R-16")
    p.bad("other-holder-and-scalar", body(entry(another, s=b"\xff" * 32)), "two faults: scalars are looked at first", 400,
          "R-37")
    p.bad("one-more", body(entry(low) + entry(high), 2), "a holder too many, who did not complain", 422, "R-16")
    p.bad("too-many", body(b"".join(entry(j) for j in range(rnd.most_complaints + 1)), rnd.most_complaints + 1),
          "more than 2t - k - 1 entries", [400, 413, 422], ["R-37", None, "R-16"])
    p.bad("not-complained-about", message, "a client of whom nobody complained", 422, "R-16",
          client=someone_else(play, i).client)
    wrong = body(entry(s=scalar_bytes(s_i + 1)))
    f.good("wrong-shares", "shares that do not match are admitted: they are judged when the phase closes "
           "(not played here)", client=c.identity.client, message=wrong)
    p.good("good", message, holder=holder, s_i=scalar_bytes(s_i), b_i=scalar_bytes(b_i))
    p.good("again", message, "the same bytes again")
    p.bad("other-bytes", wrong, "a second opening", 409, "R-03")


def put_mask(play, i, message):
    a, c = play.aggregator, play.clients[i]
    rnd = a.round
    r, m = a.header.ring_bits, a.header.vector_len
    f = File("upload", "PUT of a masked input (wire 6.5, protocol 5.5), and how it is made: `element` (decimal strings) is the"
             " ring vector with its noise, `s`, `b` the client's secrets; `keys` lists [neighbour, pair key] for the "
             "neighbours in the core; `masked` is packed.", **round_shared(play, core=a.core_raw, core_root=a.core_root,
                                                                        core_members=a.core))
    p = Puts(f, a, "mask", c.identity.client)
    seed = c.identity.seed
    other = someone_else(play, i)
    signed, tail = message[:223], message[223:]
    for name, bad, why, status, rule in statement_faults(signed, tail, seed, other.seed, other.client):
        p.bad(name, bad, why, status, rule)

    def up(packed, length=None, digest=None):
        s = Statement("veilsum/1/upload", a.context, a.core_root, c.identity.client,
                      body=u64(len(packed) if length is None else length) + (digest or H(packed)))
        return s.signed(seed) + packed

    p.bad("short", up(tail[:-1]), "a byte of the vector is missing", 400, "R-37")
    p.bad("long", up(tail + b"\0"), "a byte of the vector too many", [400, 413], ["R-37", None])
    p.bad("length-field", up(tail, length=len(tail) + 1), "the length field is off by one", 422, "R-19")
    p.bad("length-max", up(tail, length=2**64 - 1), "the length field is 2^64 - 1", 422, "R-19")
    spare = 8 * len(tail) - r * m
    assert spare
    p.bad("spare-bit", up(flip(tail, len(tail) - 1, 128)), "a spare bit is set", 400, "R-37")
    p.bad("digest", up(tail, digest=seed_of("digest")), "another digest", 422, "R-19")
    p.bad("vector-flipped", signed + flip(tail, 0), "the vector was changed after signing", 422, "R-19")
    p.bad("spare-bit-and-digest", up(flip(tail, len(tail) - 1, 128), digest=seed_of("digest")),
          "two faults", [400, 422], ["R-37", "R-19"], comment="in either order (wire 6.5)")
    p.bad("spare-bit-after-signing", signed + flip(tail, len(tail) - 1, 128),
          "two faults", [400, 422], ["R-37", "R-19"], comment="in either order (wire 6.5)")
    element = ring.unpack(c.noised, m, r)
    s_secret, b_secret = (int.from_bytes(play.secrets[i][x], "little") for x in "sb")
    S_of = {j: x.S for j, x in c.leaves.items()}
    keys = [[j, upload.pair_key_of(rnd, a.core_root, c.me, j, s_secret, S_of[c.me], S_of[j])]
            for j in rnd.graph.neighbours(c.me) if j in a.core]
    p.good("good", message, element=ints(element), s=scalar_bytes(s_secret), b=scalar_bytes(b_secret),
           self_key=upload.self_key_of(rnd, a.core_root, c.me, b_secret), keys=keys, masked=tail)
    p.good("again", message, "the same bytes again")
    p.bad("other-bytes", up(flip(tail, 0)), "a second masked input", 409, "R-19")


def put_confirm(play, i, message):
    a, c = play.aggregator, play.clients[i]
    rnd = a.round
    f = File("confirm", "PUT of a confirm (wire 6.6, protocol 5.6).",
             **round_shared(play, core=a.core_raw, survivors=a.survivors_raw, survivors_root=a.survivors_root,
                            agreement=rnd.graph.agreement, members=a.survivors))
    p = Puts(f, a, "confirm", c.identity.client)
    seed = c.identity.seed
    other = someone_else(play, i)
    for name, bad, why, status, rule in statement_faults(message, b"", seed, other.seed, other.client):
        p.bad(name, bad, why, status, rule)
    p.bad("core-root", restate(message, seed, previous=a.core_root), "over the core instead", 422, "R-01")
    outside = next(j for j in range(rnd.n) if j not in rnd.graph.agreement)
    if outside in a.survivors:
        x = play.identities[play.number(outside)]
        s = confirm.confirm_statement(rnd, a.survivors_root, x.client)
        p.bad("not-agreement", s.signed(x.seed), "a client outside the agreement set", 422, "R-23", client=x.client)
    lost = play.identities[LOST]
    s = confirm.confirm_statement(rnd, a.survivors_root, lost.client)
    p.bad("not-survivor", s.signed(lost.seed), "a client that did not upload", 422,
          "R-21" if leaf_index(play, LOST) in rnd.graph.agreement else "R-23", client=lost.client)
    p.good("good", message)
    p.good("again", message, "the same bytes again")


def put_unmask(play, i, message):
    a, c = play.aggregator, play.clients[i]
    rnd = a.round
    around = [j for j in rnd.graph.neighbours(c.me) if j in a.core]
    f = File("answer", "PUT of an answer (wire 6.7, protocol 5.7). `around`: the sender's neighbours in the core, in order.",
             **round_shared(play, core=a.core_raw, survivors=a.survivors_raw, survivors_root=a.survivors_root,
                            members=a.survivors, around=around))
    p = Puts(f, a, "unmask", c.identity.client)
    seed = c.identity.seed
    other = someone_else(play, i)
    for name, bad, why, status, rule in statement_faults(message, b"", seed, other.seed, other.client, exact=False):
        p.bad(name, bad, why, status, rule)
    p.bad("receiver-zero", restate(message, seed, receiver=ZERO16), "no receiver", 422, "R-01")
    entries = answer.decode_body(statement.decode_any(message).body, len(around))

    def body(raw):
        return restate(message, seed, body=raw)

    raw = answer.body(entries)
    p.bad("entry-missing", body(answer.body(entries[:-1])), "an entry too few", 400, "R-37")
    p.bad("entry-more", body(raw + b"\0"), "an entry too many", [400, 413], ["R-37", None])
    p.bad("present-2", body(b"\2" + raw[1:]), "an entry of 2", 400, "R-37")
    p.bad("share-l", body(b"\1" + L.to_bytes(32, "little") + raw[33:]), "a share that is l", 400, "R-37")
    p.bad("share-cut", body(b"\0" + raw[1:]), "marked missing, and there", 400, "R-37")
    p.bad("too-short", body(bytes(len(around) - 1)), "shorter than any answer", 400, "R-37")
    lost = play.identities[LOST]
    s = answer.answer_statement(rnd, a.survivors_root, lost.client, [None] * len(around))
    p.bad("not-survivor", s.signed(lost.seed), "a client that did not upload", 422, "R-21", client=lost.client)
    f.good("wrong-share", "a share that does not match is admitted: it is judged when the phase closes (not played here)",
           client=c.identity.client, message=body(b"\1" + scalar_bytes(5) + raw[33:]))
    f.good("all-missing", "nothing is held (not played here)", client=c.identity.client, message=body(bytes(len(around))))
    p.good("good", message, entries=[None if x is None else scalar_bytes(x) for x in entries],
           kinds=["b" if j in a.survivors else "s" for j in around])
    p.good("again", message, "the same bytes again")
    p.bad("other-bytes", body(b"\0" + raw[33:]), "a second answer", 409, "R-03")


# ---- what clients judge --------------------------------------------------------------------------------------------

def client_state(play, i):
    c = play.clients[i]
    out = {"client": c.identity.client, "identity_seed": c.identity.seed, "certificate": c.identity.certificate,
           "leaf": c.leaf_raw, "secrets": play.secrets[i]}
    if play.aggregator.round:
        out["index"] = leaf_index(play, i)
    return out


def fresh(play, phase, i):
    import copy
    return copy.deepcopy(play.before[phase, i])


def aggregator_faults(signed, seed, tail=b""):
    """(name, bytes, why, rule): what can be wrong with a statement of the aggregator, for clients."""
    s = statement.decode_any(signed).statement
    out = []

    def re(name, why, rule, **changes):
        out.append((name, restate(signed, seed, **changes) + tail, why, rule))

    re("label", "another label", "R-37", label="veilsum/1/result" if s.label != "veilsum/1/result" else "veilsum/1/answer")
    re("version", "version 2", "R-37", version=2)
    re("context", "the context of another round", "R-01", context=flip(s.context, 0))
    re("previous", "another statement before", "R-01", previous=flip(s.previous, 0))
    re("sender", "another sender", "R-01", sender=flip(s.sender, 0))
    re("receiver", "a receiver", "R-01", receiver=flip(s.receiver, 0))
    out.append(("signature", flip(signed, len(signed) - 32) + tail, "the signature does not hold", "R-37"))
    out.append(("signature-s-plus-l", plus_order(signed) + tail, "S + l", "R-37"))
    out.append(("signed-by-another", s.signed(seed_of("other aggregator")) + tail, "signed by another key", "R-37"))
    out.append(("empty", b"", "nothing", "R-37"))
    out.append(("short", (signed + tail)[:-1], "a byte is missing", "R-37"))
    out.append(("long", signed + tail + b"\0", "a byte is left over", "R-37"))
    return out


def get_roster(play):
    a = play.aggregator
    i = PLAIN
    f = File("roster", "GET of the roster (wire 4.4), judged by the client of `shared` that sent its leaf (protocol 5.2). All "
             "rosters but those that say so are signed by the aggregator.",
             **round_shared(play) | client_state(play, i))
    rnd = a.round
    base, entries = a.roster_raw[:259], list(rnd.roster.entries)

    def build(entries=entries, n=None, k=rnd.k, t=rnd.t, h=rnd.h, root=None, nonce=rnd.roster.closing_nonce):
        n = len(entries) if n is None else n
        s = roster.roster_statement(a.context, a.id, n, k, t, h, nonce, root or roster.tree_root(entries))
        return roster.encode(s.signed(a.seed), entries)

    def bad(name, raw, why, rule):
        f.judged(name, why, lambda: fresh(play, "share", i).read_roster(raw), rule=rule, body=raw)

    assert build() == a.roster_raw
    f.good("good", body=a.roster_raw, root=rnd.root, n=rnd.n, k=rnd.k, t=rnd.t, h=rnd.h,
           closing_nonce=rnd.roster.closing_nonce, tree_root=rnd.roster.tree_root, index=leaf_index(play, i),
           order=rnd.graph.ring, neighbours=rnd.graph.neighbours(leaf_index(play, i)), agreement=rnd.graph.agreement)
    for name, raw, why, rule in aggregator_faults(base, a.seed, a.roster_raw[259:]):
        bad(name, raw, why, rule)
    bad("k", build(k=4), "k is not that of n", "R-04")
    bad("t", build(t=rnd.t - 1), "t is not that of n", "R-04")
    bad("t-more", build(t=rnd.t + 1), "t is not that of n", "R-04")
    bad("h", build(h=rnd.h + 1), "h is not that of n", "R-14")
    bad("h-0", build(h=0), "h is 0", "R-14")
    me = leaf_index(play, i)
    without = entries[:me] + entries[me + 1:]
    k7, t7, _ = play.header.degree_threshold(7)
    bad("without-me", build(without, k=k7, t=t7, h=play.header.honest(7)), "the client is not on it", None)
    bad("other-leaf", build(entries[:me] + [(entries[me][0], seed_of("leaf"))] + entries[me + 1:]),
        "another leaf of the client", None)
    swapped = entries[:2][::-1] + entries[2:]
    bad("order", build(swapped), "not ascending", "R-05")
    bad("twice", build(entries[:1] + entries[:1] + entries[2:]), "one id twice", "R-05")
    bad("tree", build(root=seed_of("tree")), "the tree has another root", "R-05")
    bad("entry-changed", base + flip(a.roster_raw[259:], 48 * 7 + 20), "an entry was changed after signing", "R-05")
    other = next(j for j in range(rnd.n) if j != me)
    bad("id-changed", base + flip(a.roster_raw[259:], 48 * other + 15), "the id beside a leaf digest was changed after "
        "signing", "R-05")
    bad("n-field", build(n=7), "n does not fit the length", "R-37")
    bad("n-below", build(entries[:6], k=4, t=3, h=1), "fewer than roster_min", "R-37")
    bad("n-field-below", build(n=6), "n is below roster_min", "R-05")
    bad("n-field-above", build(n=9), "n is above roster_max", "R-05")


def get_leaves(play):
    a = play.aggregator
    i = PLAIN
    rnd = a.round
    f = File("leaves", "GET of leaves (wire 7), judged by the client of `shared`, which asked for `indices` after it read the "
             "roster `roster_body` (protocol 5.2 step 3).", **round_shared(play) | client_state(play, i))
    c = fresh(play, "share", i)
    wanted = c.read_roster(a.roster_raw)
    body = a.serve_leaves(wanted)
    fresh(play, "share", i)

    def judge(raw, roster_raw=a.roster_raw):
        c = fresh(play, "share", i)
        c.read_roster(roster_raw)
        c.read_leaves(raw)

    judge(body)
    f.good("good", indices=wanted, roster_body=a.roster_raw, body=body)
    at = [583 * j for j in range(len(wanted))]

    def bad(name, raw, why, rule):
        f.judged(name, why, lambda: judge(raw), rule=rule, indices=wanted, roster_body=a.roster_raw, body=raw)

    bad("missing", body[:at[-1]], "a leaf is missing", "R-37")
    bad("more", body + body[:583], "a leaf too many", "R-37")
    bad("order", body[583:1166] + body[:583] + body[1166:], "another order", "R-06")
    bad("length", u32(580) + body[4:], "a length", "R-37")
    bad("empty", b"", "nothing", "R-37")
    bad("flipped-nonce", flip(body, at[2] + 4 + 579 - 65), "a leaf that is not the roster's", "R-06")

    # leaves that the roster holds, and that are bad
    def forged(name, j, make, why, rule):
        leaves = {x: a.leaves[x].raw for x in range(rnd.n)}
        leaves[j] = make(a.leaves[j], play.identities[play.number(j)])
        entries = tuple((rnd.ids[x], H(leaves[x])) for x in range(rnd.n))
        s = roster.roster_statement(a.context, a.id, rnd.n, rnd.k, rnd.t, rnd.h, rnd.roster.closing_nonce,
                                    roster.tree_root(entries))
        roster_raw = roster.encode(s.signed(a.seed), entries)
        raw = b"".join(framed(leaves[x]) for x in wanted)
        f.judged(name, why, lambda: judge(raw, roster_raw), rule=rule, indices=wanted, roster_body=roster_raw, body=raw)

    me = leaf_index(play, i)
    j = rnd.graph.neighbours(me)[0]
    authority = play.authority_seed

    def advert(x, seed, **change):
        d = dict(S=x.S, B=x.B, C=x.C, nonce=x.nonce) | change
        return leaf.advert_statement(a.context, x.client, d["S"], d["B"], d["C"], d["nonce"]).signed(seed)

    def cert(x, **change):
        return replace(x.certificate, **change).issue(authority)

    forged("ghost", j, lambda x, y: leaf.encode(x.certificate.issue(seed_of("no authority")), x.advert.raw()),
           "a certificate of another authority", "R-06")
    forged("ended", j, lambda x, y: leaf.encode(cert(x, not_after=play.header.opened_at), x.advert.raw()),
           "a certificate that ended at opened_at", "R-06")
    forged("long-lived", j, lambda x, y: leaf.encode(cert(x, not_after=x.certificate.not_before + certificate.LIFE + 1),
                                                     x.advert.raw()), "a certificate of more than 30 days", "R-06")
    forged("advert-unsigned", j, lambda x, y: leaf.encode(x.signed_certificate.raw(), advert(x, seed_of("nobody"))),
           "an advert that its client did not sign", "R-37")
    forged("advert-old", j, lambda x, y: leaf.encode(x.signed_certificate.raw(), restate(
        x.advert.raw(), y.seed, context=seed_of("old"), previous=seed_of("old"))), "an advert of another round", "R-01")
    forged("copied-S", j, lambda x, y: leaf.encode(x.signed_certificate.raw(), advert(x, y.seed, S=a.leaves[me].S)),
           "S of another leaf", "R-09")
    forged("copied-C-of-third", j, lambda x, y: leaf.encode(x.signed_certificate.raw(), advert(
        x, y.seed, C=a.leaves[next(q for q in range(rnd.n) if q not in (j, me))].C)), "C of another leaf", "R-09")
    forged("S-as-B", j, lambda x, y: leaf.encode(x.signed_certificate.raw(), advert(x, y.seed, B=a.leaves[me].S)),
           "B is S of another leaf", "R-09")
    forged("identity-twice", j, lambda x, y: leaf.encode(
        cert(x, identity_key=a.leaves[me].identity_key), advert(x, play.identities[i].seed)),
        "one identity key under two ids", "R-09")
    forged("small-C", j, lambda x, y: leaf.encode(x.signed_certificate.raw(), advert(x, y.seed, C=bytes(32))),
           "a channel key of small order", "R-37")
    forged("other-client", j, lambda x, y: a.leaves[next(q for q in range(rnd.n) if q not in (j, me))].raw,
           "a leaf of another client", "R-06")


def get_mail(play):
    a = play.aggregator
    i = PLAIN
    rnd = a.round
    me = leaf_index(play, i)
    f = File("mail", "GET of a mailbox (wire 5.3, 7), and the acknowledgement that the holder of `shared` makes of it "
             "(protocol 5.3): `entries` 0 missing, 1 good, 2 complaint, in the holder's neighbour order `neighbours`. Where "
             "`valid` is false the holder refuses the mailbox whole and sends nothing.",
             **round_shared(play) | client_state(play, i) | {"neighbours": rnd.graph.neighbours(me)})
    body = a.serve_mail(who(play, i))
    items = share.frames(body, rnd.k, "mail")

    def case(name, items_, comment, expect=None, raw=None):
        raw = share.frame(items_) if raw is None else raw
        c = fresh(play, "acknowledge", i)
        message = c.read_mail(raw)
        ack = acknowledge.decode_body(statement.decode_any(message).body, rnd.k)
        kinds = [kind for kind, _ in ack.entries]
        if expect is not None:
            changed = {j: kind for j, kind, was in zip(rnd.graph.neighbours(me), kinds, base_kinds) if kind != was}
            assert changed == expect, (name, changed, expect)
        f.good(name, comment, body=raw, entries=kinds, shares_digest=ack.shares_digest, acknowledgement=message)
        return kinds

    base_kinds = case("good", items, "as it was served: one edge is spoilt, the others are good")
    dealer_of = [int.from_bytes(x[:4], "little") for x in items]
    spoiler = leaf_index(play, SPOILER)
    at = next(j for j, d in enumerate(dealer_of) if d != spoiler)
    d = dealer_of[at]
    item = items[at]
    dealer = play.clients[play.number(d)]

    def with_item(new):
        return items[:at] + [new] + items[at + 1:]

    case("missing-item", items[:at] + items[at + 1:], "an item is missing", {d: 0})
    case("empty", [], "an empty mailbox", {j: 0 for j in dealer_of})
    for name, offset in (("statement-flipped", 30), ("signature-flipped", 4 + 214 - 1), ("edge-flipped", 4 + 214 + 30),
                         ("point-flipped", 4 + 214 + 84 + 3), ("path-flipped", len(item) - 1)):
        case(name, with_item(flip(item, offset)), "altered on the way: missing, never a complaint", {d: 0})
    case("position", with_item(item[:366] + u16(int.from_bytes(item[366:368], "little") ^ 1) + item[368:]),
         "another position: missing", {d: 0})
    case("short-item", with_item(item[:-32]), "a path that is one hash short: missing", {d: 0})
    case("long-item", with_item(item + bytes(32)), "a path that is one hash long: missing", {d: 0})
    case("cut-item", with_item(item[:100]), "an item cut short: missing", {d: 0})
    strangers = [j for j in range(rnd.n) if j not in dealer_of and j != me]
    for s in strangers[:1]:
        more = sorted(items + [u32(s) + item[4:]], key=lambda x: int.from_bytes(x[:4], "little"))
        if len(more) <= rnd.k:
            case("stranger", more, "an item of no neighbour is ignored", {})
    swapped = sorted(items[:at] + items[at + 1:] + [u32(strangers[0]) + item[4:]],
                     key=lambda x: int.from_bytes(x[:4], "little"))
    case("stranger-instead", swapped, "an item of no neighbour is ignored; its place is missing", {d: 0})

    # another edge of the same dealer
    other_place = (rnd.graph.place(d, me) + 1) % rnd.k
    case("edge-of-another", with_item(share.mail_item(d, a.dealt[d], other_place)),
         "an edge for another holder: missing", {d: 0})

    def redeal(name, comment, expect, **changes):
        """A message signed by the dealer with another edge for this holder."""
        edges = list(a.dealt[d].edges)
        place = rnd.graph.place(d, me)
        edges[place] = replace(edges[place], **{k: v(edges[place]) if callable(v) else v for k, v in changes.items()})
        s = share.share_statement(rnd, rnd.ids[d], merkle.root([e.encode() for e in edges]))
        m = share.ShareMessage(statement.decode(s.signed(dealer.identity.seed), share.LABEL, 32), tuple(edges))
        case(name, with_item(share.mail_item(d, m, place)), comment, expect)

    s_i, b_i = dealer.dealt[me]

    def sealed(s, b):
        plain = s + b
        key = kdf.mail_key(x25519.agree(play.secrets[play.number(d)]["c"], a.leaves[me].C), rnd.root, rnd.ids[d],
                           rnd.ids[me], a.leaves[d].C, a.leaves[me].C)
        return sealing.seal(key, plain, sealing.associated_data(a.context, rnd.root, rnd.ids[d], rnd.ids[me]))

    edges = list(a.dealt[d].edges)
    place = rnd.graph.place(d, me)
    other_place = (place + 1) % rnd.k
    edges[other_place] = replace(edges[other_place], ciphertext=flip(edges[other_place].ciphertext, 0))
    s = share.share_statement(rnd, rnd.ids[d], merkle.root([e.encode() for e in edges])).signed(dealer.identity.seed)
    case("second-message", with_item(share.mail_item(d, share.ShareMessage(
        statement.decode(s, share.LABEL, 32), tuple(edges)), place)),
        "another share message of the same dealer, validly signed, with the same edge for this holder: good, under another "
        "shares digest", {})
    redeal("signed-ciphertext", "a ciphertext that does not open, under the dealer's signature: a complaint", {d: 2},
           ciphertext=lambda e: flip(e.ciphertext, 79))
    redeal("signed-wrong-s", "s_i does not match P_s: a complaint", {d: 2},
           ciphertext=sealed(scalar_bytes(s_i + 1), scalar_bytes(b_i)))
    redeal("signed-wrong-b", "b_i does not match P_b: a complaint", {d: 2},
           ciphertext=sealed(scalar_bytes(s_i), scalar_bytes(b_i + 1)))
    redeal("signed-not-canonical", "s_i + l inside: a complaint", {d: 2},
           ciphertext=sealed((s_i + L).to_bytes(32, "little"), scalar_bytes(b_i)))
    redeal("signed-other-point", "P_s is another point: a complaint", {d: 2}, P_s=ristretto.times_base(5))
    redeal("signed-no-point", "P_s is no point: missing, for the item does not decode", {d: 0}, P_s=b"\xff" * 32)
    redeal("signed-identity", "P_b is the identity: missing", {d: 0}, P_b=bytes(32))

    def bad(name, raw, why):
        f.judged(name, why, lambda: fresh(play, "acknowledge", i).read_mail(raw), rule="R-37", body=raw)

    bad("order", share.frame(items[::-1]), "not ascending")
    bad("twice", share.frame(items[:1] + items[:1] + items[2:]), "one dealer twice")
    bad("count-more", u16(len(items) + 1) + body[2:], "count is one more")
    bad("count-less", u16(len(items) - 1) + body[2:], "an item is left over")
    bad("count-max", u16(65535) + body[2:], "count is 65535")
    bad("length-huge", body[:2] + b"\xff" * 4 + body[6:], "an item of 2^32 - 1 bytes")
    bad("left-over", body + b"\0", "a byte is left over")
    bad("nothing", b"", "nothing")
    # more bad edges than liars can be neighbours
    new = list(items)
    bent = 0
    for j, dj in enumerate(dealer_of):
        if dj != spoiler and bent < rnd.most_complaints:
            edges = list(a.dealt[dj].edges)
            place = rnd.graph.place(dj, me)
            edges[place] = replace(edges[place], ciphertext=flip(edges[place].ciphertext, 0))
            s = share.share_statement(rnd, rnd.ids[dj], merkle.root([e.encode() for e in edges]))
            seed = play.identities[play.number(dj)].seed
            new[j] = share.mail_item(dj, share.ShareMessage(statement.decode(s.signed(seed), share.LABEL, 32),
                                                            tuple(edges)), place)
            bent += 1
    raw = share.frame(new)
    f.judged("too-many-complaints", "more than 2t - k - 1 complaints: the holder sends nothing and abandons",
             lambda: fresh(play, "acknowledge", i).read_mail(raw), rule="R-16", body=raw)


def get_complaints(play):
    a = play.aggregator
    i = SPOILER
    rnd = a.round
    me = leaf_index(play, i)
    c = play.before["open", i]
    f = File("complaints", "GET of complaints, and the opening that the dealer of `shared` makes of them (wire 7, protocol 5.4):"
             " `opening` null: nothing is opened. `edges` and `shares` (s_i, b_i) are the dealer's, in its neighbour order.",
             **round_shared(play) | client_state(play, i) | {
                 "edges": [e.encode() for e in c.edges.values()],
                 "shares": [[scalar_bytes(x) for x in c.dealt[j]] for j in c.edges],
                 "neighbours": rnd.graph.neighbours(me)})
    body = play.served["complaints"][i]
    genuine = share.frames(body, rnd.k, "complaints")[0]
    complainer = leaf_index(play, PLAIN)
    seed = play.identities[PLAIN].seed

    def case(name, items, comment, opens):
        raw = share.frame(items)
        message = fresh(play, "open", i).read_complaints(raw)
        assert (message is not None) is opens, name
        f.good(name, comment, body=raw, opening=message)

    case("good", [genuine], "one genuine complaint", True)
    case("none", [], "no complaint", False)
    ack = acknowledge.decode_body(statement.decode_any(genuine).body, rnd.k)
    place = rnd.graph.place(complainer, me)

    def changed(entries, digest=ack.shares_digest, **more):
        return restate(genuine, seed, body=acknowledge.Acknowledgement(tuple(entries), digest).body(), **more)

    entries = list(ack.entries)

    def with_entry(kind, edge=None):
        return entries[:place] + [(kind, edge)] + entries[place + 1:]

    case("no-complaint", [changed(with_entry(1))], "an acknowledgement that does not complain about this dealer", False)
    case("missing", [changed(with_entry(0))], "missing is no complaint", False)
    case("other-edge", [changed(with_entry(2, seed_of("edge")))], "the hash of another edge", False)
    case("signature", [flip(genuine, len(genuine) - 1)], "the signature does not hold", False)
    case("in-another-name", [restate(genuine, seed_of("server"))], "signed by somebody else", False)
    case("other-context", [restate(genuine, seed, context=seed_of("c"))], "of another round", False)
    case("other-previous", [restate(genuine, seed, previous=seed_of("p"))], "over another roster", False)
    case("receiver", [restate(genuine, seed, receiver=rnd.aggregator_id)], "with a receiver", False)
    stranger = next(j for j in range(rnd.n) if j not in c.edges and j != me)
    x = play.identities[play.number(stranger)]
    hash_ = c.edges[complainer].leaf_hash()
    s = acknowledge.ack_statement(rnd, x.client, acknowledge.Acknowledgement(tuple([(2, hash_)] + [(1, None)] *
                                                                                   (rnd.k - 1)), ack.shares_digest))
    case("no-neighbour", [s.signed(x.seed)], "a client that is no neighbour", False)
    many = with_entry(2, hash_)
    for j in range(rnd.k):
        if sum(kind == 2 for kind, _ in many) > rnd.most_complaints:
            break
        if many[j][0] != 2:
            many[j] = (2, seed_of("e", j))
    case("too-many-in-one", [changed(many)], "an acknowledgement with more than 2t - k - 1 complaints is invalid", False)
    def complaint_of(j):
        """A valid complaint of neighbour j about this dealer."""
        y = play.identities[play.number(j)]
        at = rnd.graph.place(j, me)
        e = [(1, None)] * rnd.k
        e[at] = (2, c.edges[j].leaf_hash())
        return acknowledge.ack_statement(rnd, y.client, acknowledge.Acknowledgement(tuple(e), seed_of("d"))).signed(y.seed)

    near = sorted(c.edges)
    most = rnd.most_complaints
    case("most", [complaint_of(j) for j in near[:most]], "2t - k - 1 complaints are opened", True)
    case("mixed", [complaint_of(near[0]), flip(complaint_of(near[1]), 30)],
         "a bad one beside a good one", True)

    def bad(name, raw, why, rule):
        f.judged(name, why, lambda: fresh(play, "open", i).read_complaints(raw), rule=rule, body=raw)

    bad("more-than-most", share.frame([complaint_of(j) for j in near[:most + 1]]),
        "more than 2t - k - 1 complaints: opens none and abandons", "R-16")
    bad("order", share.frame([complaint_of(near[1]), complaint_of(near[0])]), "not ascending", "R-37")
    bad("twice", share.frame([genuine, genuine]), "one complainer twice", "R-37")
    bad("count", u16(2) + body[2:], "count does not fit", "R-37")
    bad("left-over", body + b"\0", "a byte is left over", "R-37")
    bad("nothing", b"", "nothing", "R-37")


def get_openings(play):
    a = play.aggregator
    i = PLAIN
    rnd = a.round
    me = leaf_index(play, i)
    spoiler = leaf_index(play, SPOILER)
    edge = next(e for e in a.dealt[spoiler].edges if e.holder == me)
    f = File("openings", "GET of openings by the complainer of `shared`, which complained about `dealer` over `edge`: `shares` is"
             " what it takes, null where the share stays missing (wire 7, protocol 5.5).",
             **round_shared(play) | client_state(play, i) | {"dealer": spoiler, "edge": edge.encode(), "core": a.core_raw})
    body = a.serve_openings(who(play, i))
    genuine = share.frames(body, rnd.k, "openings")[0]
    seed = play.identities[SPOILER].seed

    def case(name, items, comment, taken):
        raw = share.frame(items)
        c = fresh(play, "mask", i)
        c.read_core(a.core_raw, raw)
        shares = c.shares.get(spoiler)
        assert (shares is not None) is taken, name
        f.good(name, comment, body=raw, shares=None if shares is None else [scalar_bytes(x) for x in shares])

    case("good", [genuine], "", True)
    case("none", [], "no opening", False)
    holder, s_i, b_i = opening.decode_body(statement.decode_any(genuine).body).entries[0]

    def entry(h, s, b):
        return u32(h) + scalar_bytes(s) + scalar_bytes(b)

    def body_of(raw, count=1, **more):
        return restate(genuine, seed, body=u16(count) + raw, **more)

    case("wrong-s", [body_of(entry(holder, s_i + 1, b_i))], "s_i does not match", False)
    case("wrong-b", [body_of(entry(holder, s_i, b_i + 1))], "b_i does not match", False)
    case("other-holder", [body_of(entry(holder + 1, s_i, b_i))], "for another holder", False)
    more = [holder, holder + 1] if holder + 1 < rnd.n else [holder - 1, holder]
    case("among-others", [body_of(b"".join(entry(h, s_i, b_i) for h in more), 2)], "beside another holder", True)
    case("signature", [flip(genuine, len(genuine) - 1)], "the signature does not hold", False)
    case("other-context", [restate(genuine, seed, context=seed_of("c"))], "of another round", False)
    x = play.identities[1]
    case("other-dealer", [opening.opening_statement(rnd, x.client, opening.Opening(((holder, s_i, b_i),))).signed(x.seed)],
         "of a dealer that was not complained about", False)

    def bad(name, raw, why):
        f.judged(name, why, lambda: fresh(play, "mask", i).read_core(a.core_raw, raw), rule="R-37", body=raw)

    bad("twice", share.frame([genuine, genuine]), "one dealer twice")
    bad("left-over", body + b"\0", "a byte is left over")
    bad("count", u16(2) + body[2:], "count does not fit")


def get_core(play):
    a = play.aggregator
    i = PLAIN
    rnd = a.round
    me = leaf_index(play, i)
    f = File("core", "GET of the core (wire 4.5), judged by the client of `shared` (R-17).",
             **round_shared(play) | client_state(play, i))

    def build(members, n=rnd.n, count=None, bitmap=None):
        body = u32(n) + u32(len(members) if count is None else count) + (bitmap or encoding.bitmap_of(members, rnd.n))
        return Statement(core.LABEL, a.context, rnd.root, a.id, body=body).signed(a.seed)

    def bad(name, raw, why, rule):
        f.judged(name, why, lambda: fresh(play, "mask", i).read_core(raw), rule=rule, body=raw)

    everybody = list(range(rnd.n))
    assert build(a.core) == a.core_raw
    f.good("good", body=a.core_raw, root=a.core_root, members=a.core)
    near = rnd.graph.neighbours(me)
    one_less = [j for j in everybody if j != near[0]]
    fresh(play, "mask", i).read_core(build(one_less))
    f.good("one-less", "the fewest that may be", body=build(one_less), members=one_less,
           root=statement.decode_any(build(one_less)).root())
    for name, raw, why, rule in aggregator_faults(a.core_raw, a.seed):
        bad(name, raw, why, rule)
    bad("without-me", build([j for j in everybody if j != me]), "the client is not in it", "R-17")
    bad("few-neighbours", build([j for j in everybody if j not in near[:2]]), "fewer than t of its neighbours", "R-17")
    bad("too-small", build([j for j in everybody if j not in (near[0], near[1])]), "too few members", "R-17")
    far = [j for j in everybody if j not in near and j != me]
    bad("fewest", build([j for j in everybody if j not in far[:1] + near[:1]]), "fewer than max(cohort_min, n - T)",
        "R-17")
    bad("n", build(a.core, n=rnd.n + 1), "another n", "R-37")
    bad("count-more", build(a.core, count=len(a.core) - 1), "count is not the number of bits set", "R-37")
    bad("count-less", build(a.core, count=2**32 - 1), "count is 2^32 - 1", "R-37")
    f2 = File("bitmap", "Bitmaps (wire 1).")
    for n, members in ((1, [0]), (8, [0, 7]), (9, [8]), (13, [0, 3, 12]), (64, list(range(0, 64, 3))), (17, [])):
        f2.good(f"n{n}-{len(members)}", n=n, members=members, bitmap=encoding.bitmap_of(members, n))
    for n, raw, why in ((9, b"\0\2", "a padding bit"), (9, b"\0\x80", "a padding bit"), (13, b"\0\x20", "a padding bit"),
                        (8, b"\0\0", "another length"), (9, b"\0", "another length"), (1, b"\2", "a padding bit")):
        f2.judged(f"n{n}-{raw.hex()}", why, lambda n=n, raw=raw: encoding.members_of(raw, n), rule="R-37", n=n, bitmap=raw)


def get_survivors(play):
    a = play.aggregator
    rnd = a.round
    i = next(j for j in range(8) if j != LOST and leaf_index(play, j) in rnd.graph.agreement)
    me = leaf_index(play, i)
    f = File("survivors", "GET of survivors and of the neighbours' upload statements (wire 4.6, 7), judged by the client of "
             "`shared`, which uploaded and is of the agreement set (R-15, R-20 to R-23): `confirm` is what it sends.",
             **round_shared(play) | client_state(play, i) | {
                 "core": a.core_raw, "core_root": a.core_root, "uploaded": a.received["mask"][who(play, i)]})
    raw_uploads = a.serve_uploads(who(play, i))
    items = share.frames(raw_uploads, rnd.k, "uploads")
    L_ = a.survivors
    roots = {j: a.settled["mask"][rnd.ids[j]][0].root() for j in L_}

    def build(members=L_, n=rnd.n, count=None, root=None):
        root = root or survivors.uploads_root([(j, roots.get(j, ZERO32)) for j in members])
        body = u32(n) + u32(len(members) if count is None else count) + encoding.bitmap_of(members, rnd.n) + root
        return Statement(survivors.LABEL, a.context, a.core_root, a.id, body=body).signed(a.seed)

    def bad(name, raw, why, rule, uploads=raw_uploads):
        f.judged(name, why, lambda: fresh(play, "confirm", i).read_survivors(raw, uploads), rule=rule, body=raw,
                 uploads=uploads)

    assert build() == a.survivors_raw
    message = fresh(play, "confirm", i).read_survivors(a.survivors_raw, raw_uploads)
    f.good("good", body=a.survivors_raw, uploads=raw_uploads, root=a.survivors_root, members=L_,
           uploads_root=survivors.uploads_root(sorted(roots.items())), confirm=message)
    for name, raw, why, rule in aggregator_faults(a.survivors_raw, a.seed):
        bad(name, raw, why, rule)
    near = rnd.graph.neighbours(me)
    living = [j for j in near if j in L_]
    bad("without-me", build(sorted(set(L_) - {me} | {leaf_index(play, LOST)})), "the client is not listed", "R-21")
    bad("few", build([j for j in L_ if j != living[0]]), "fewer than max(cohort_min, n - T)", "R-15")
    bad("n", build(n=9), "another n", "R-37")
    bad("count", build(count=len(L_) + 1), "count is not the number of bits set", "R-37")
    bad("previous-roster", restate(a.survivors_raw, a.seed, previous=rnd.root), "names the roster as its previous", "R-01")
    lost = leaf_index(play, LOST)
    bad("lost-listed", build(sorted(L_ + [lost])), "a neighbour is listed whose upload statement is not served"
        if lost in near else "a client is listed that did not upload", "R-22") if lost in near else None
    bad("upload-missing", a.survivors_raw, "an upload statement is missing", "R-22", share.frame(items[1:]))
    bad("uploads-none", a.survivors_raw, "no upload statements", "R-22", share.frame([]))
    bad("upload-signature", a.survivors_raw, "an upload statement's signature does not hold", "R-22",
        share.frame([flip(items[0], 222)] + items[1:]))
    first = statement.decode_any(items[0])
    seed0 = play.identities[play.number(rnd.index[first.sender])].seed
    bad("upload-other-core", a.survivors_raw, "a neighbour uploaded over another core", "R-22",
        share.frame([restate(items[0], seed0, previous=seed_of("core"))] + items[1:]))
    bad("upload-other-round", a.survivors_raw, "an upload of another round", "R-22",
        share.frame([restate(items[0], seed0, context=seed_of("context"))] + items[1:]))
    bad("uploads-order", a.survivors_raw, "not ascending", "R-37", share.frame(items[::-1]))
    bad("uploads-twice", a.survivors_raw, "one twice", "R-37", share.frame(items[:1] + items[:-1]))
    bad("uploads-left-over", a.survivors_raw, "a byte is left over", "R-37", raw_uploads + b"\0")
    bad("uploads-length", a.survivors_raw, "an upload statement of another length", "R-37",
        share.frame([items[0] + b"\0"] + items[1:]))
    # outside the core: a core without one member, and a list with it
    f2 = File("uploads_tree", "The tree of uploads (protocol 2.5).")
    f2.good("round", members=L_, upload_roots=[roots[j] for j in L_],
            uploads_root=survivors.uploads_root(sorted(roots.items())))
    for m in (1, 2, 5):
        pairs = [(3 * j, seed_of("upload", m, j)) for j in range(m)]
        f2.good(f"m{m}", members=[j for j, _ in pairs], upload_roots=[r for _, r in pairs],
                uploads_root=survivors.uploads_root(pairs))


def get_confirmations(play):
    a = play.aggregator
    i = PLAIN
    rnd = a.round
    f = File("confirmations", "GET of confirmations (wire 7), judged by the client of `shared` (R-24): `answer` is what it sends. "
             "`agreement` is the agreement set, `members` L, `t` the quorum.",
             **round_shared(play) | client_state(play, i) | {
                 "core": a.core_raw, "survivors": a.survivors_raw, "survivors_root": a.survivors_root,
                 "agreement": rnd.graph.agreement, "members": a.survivors,
                 "held": {j: [scalar_bytes(x) for x in pair] for j, pair in play.before["unmask", i].shares.items()}})
    body = a.serve_confirmations()
    items = share.frames(body, rnd.k, "confirmations")
    t = rnd.t

    def case(name, items_, comment):
        raw = share.frame(items_)
        f.good(name, comment, body=raw, answer=fresh(play, "unmask", i).read_confirmations(raw))

    def bad(name, raw, why, rule="R-37"):
        f.judged(name, why, lambda: fresh(play, "unmask", i).read_confirmations(raw), rule=rule, body=raw)

    case("good", items, "all of them")
    case("t", items[:t], "t of them")
    case("one-bad", [flip(items[0], 183)] + items[1:], "one more than t, one whose signature does not hold: ignored") \
        if len(items) > t else None
    bad("fewer", share.frame(items[:t - 1]), "fewer than t")
    bad("t-one-bad", share.frame([flip(items[0], 183)] + items[1:t]), "t, one of them bad", "R-24")
    seeds = {x.client: x.seed for x in play.identities}

    def by(j, **changes):
        x = rnd.ids[j]
        s = confirm.confirm_statement(rnd, a.survivors_root, x)
        return replace(s, **changes).signed(seeds[x])

    def senders(list_):
        return sorted(list_, key=lambda raw: statement.decode_any(raw).sender)

    outside = next(j for j in range(rnd.n) if j not in rnd.graph.agreement)
    few = items[:t - 1]
    if outside in a.survivors:
        bad("outsider", share.frame(senders(few + [by(outside)])), "t, one of a client outside the agreement set", "R-24")
    lost = leaf_index(play, LOST)
    if lost in rnd.graph.agreement:
        bad("lost", share.frame(senders(few + [by(lost)])), "t, one of a client that is not in L", "R-24")
    taken = rnd.index[statement.decode_any(items[t - 1]).sender]
    bad("other-root", share.frame(senders(few + [by(taken, previous=seed_of("root"))])), "t, one over another list", "R-24")
    bad("other-round", share.frame(senders(few + [by(taken, context=seed_of("c"))])), "t, one of another round", "R-24")
    bad("stranger", share.frame(senders(few + [replace(confirm.confirm_statement(rnd, a.survivors_root, seed_of("s")[:16])
                                                       ).signed(seed_of("s"))])), "t, one of nobody of the roster", "R-24")
    bad("twice", share.frame(items[:1] + items[:t - 1]), "one twice")
    bad("order", share.frame(items[:t][::-1]), "not ascending")
    bad("left-over", body + b"\0", "a byte is left over")
    bad("count", u16(len(items) + 1) + body[2:], "count does not fit")
    bad("length", body[:2] + u32(185) + body[6:], "a length")
    bad("nothing", b"", "nothing")
    bad("more-than-k", share.frame(items + [bytes(184)] * (rnd.k + 1 - len(items))), "more than k")


def get_result(play):
    import copy
    a = play.aggregator
    i = PLAIN
    f = File("result", "GET of the result (wire 4.7), judged by the client of `shared` (protocol 5.8).",
             **round_shared(play) | client_state(play, i) | {
                 "core": a.core_raw, "survivors": a.survivors_raw, "survivors_root": a.survivors_root})
    raw = a.result_raw
    packed = raw[220:]
    base = play.clients[i]

    def build(count=len(a.survivors), digest=None, outcome=1, tail=packed):
        body = u32(count) + (H(tail) if digest is None else digest) + bytes([outcome])
        return Statement(result.LABEL, a.context, a.survivors_root, a.id, body=body).signed(a.seed) + tail

    def bad(name, raw, why, rule="R-37"):
        f.judged(name, why, lambda: copy.deepcopy(base).read_result(raw), rule=rule, body=raw)

    assert build() == raw
    r, mean = base.read_result(raw)
    f.good("released", body=raw, outcome=1, count=r.count, sum=ints(r.total), mean=[float(x) for x in mean])
    none = build(digest=ZERO32, outcome=2, tail=b"")
    base.read_result(none)
    f.good("not-opened", body=none, outcome=2, count=r.count, sum=None, mean=None)
    for name, bad_raw, why, rule in aggregator_faults(raw[:220], a.seed, packed):
        bad(name, bad_raw, why, rule)
    bad("count", build(count=len(a.survivors) - 1), "another count than the survivors'", None)
    bad("count-0", build(count=0), "count 0", None)
    bad("outcome-0", build(outcome=0), "outcome 0")
    bad("outcome-3", build(outcome=3), "outcome 3")
    bad("outcome-2-with-sum", build(outcome=2, digest=ZERO32), "outcome 2 with a sum")
    bad("outcome-1-without-sum", build(tail=b"", digest=H(packed)), "outcome 1 without a sum")
    bad("outcome-2-digest", build(tail=b"", digest=H(packed), outcome=2), "outcome 2 with a digest")
    bad("digest", build(digest=seed_of("digest")), "another digest", None)
    bad("sum-flipped", flip(raw, 220), "the sum was changed after signing", None)
    bad("spare", build(tail=flip(packed, len(packed) - 1, 128)), "a spare bit of the sum is set")


def make_sum():
    head = simulate.make_header(SEED + "/sum", 10, vector_len=7, gamma=100_000, delta=200_000, scale=16.0)
    play = Recorded(SEED + "/sum", head, 10, lost={LOST: "mask"}).run()
    a = play.aggregator
    assert a.over == "published"
    rnd = a.round
    living = set(a.survivors)
    f = File("sum", "From masked inputs and answers to the sum (protocol 5.7, R-29). `uploads` packed, by leaf index of L; "
             "`answers` by leaf index: signed answers; `secrets` by leaf index of the core: b of the living, s of the lost; "
             "`points` by leaf index of the core: [S, B, [[holder, P_s, P_b], …]]; `named` leaf indices named by R-29.",
             **round_shared(play, core=a.core_raw, core_root=a.core_root, core_members=a.core, survivors=a.survivors_raw,
                            survivors_root=a.survivors_root, members=a.survivors))
    points = {j: [a.leaves[j].S, a.leaves[j].B, [[e.holder, e.P_s, e.P_b] for e in a.dealt[j].edges]] for j in a.core}
    uploads = {j: ring.pack(a.settled["mask"][rnd.ids[j]][1], a.header.ring_bits) for j in a.survivors}
    admitted = {j: a.received["unmask"][rnd.ids[j]] for j in a.survivors}

    def rebuild(answers):
        import copy
        b = copy.copy(a)
        b.faults, b.log = [], log.Log()
        b._settled = dict(a.settled)
        b._settled["unmask"] = {}
        for j, raw in answers.items():
            b._settled["unmask"][rnd.ids[j]] = answer.accept(raw, rnd, a.core, a.survivors_root, rnd.ids[j], a.leaves[j])
        b._close_unmask()
        named = sorted({rnd.index[c] for _, c, _ in b.faults})
        return b, named

    def case(name, answers, comment, outcome, names):
        b, named = rebuild(answers)
        assert named == names and (b.over == "published") is (outcome == 1), (name, named, b.over)
        if outcome == 1:
            assert b.result_raw == a.result_raw
        f.good(name, comment, uploads=uploads, answers=answers, points=points if name == "good" else None,
               secrets={j: None if x is None else scalar_bytes(x) for j, x in b.secrets.items()}, named=named,
               outcome=outcome, sum=b.result_raw[220:] or None, result=b.result_raw)

    case("good", admitted, "", 1, [])
    one = a.survivors[0]
    case("one-silent", {j: raw for j, raw in admitted.items() if j != one}, "one survivor does not answer", 1, [])
    near = [j for j in rnd.graph.neighbours(one) if j in a.core]

    def lying(j, place, delta=1):
        near = [q for q in rnd.graph.neighbours(j) if q in a.core]
        entries = answer.decode_body(statement.decode_any(admitted[j]).body, len(near))
        entries[place] = None if delta is None else (entries[place] or 0) + delta
        s = answer.answer_statement(rnd, a.survivors_root, rnd.ids[j], [x if x is None else x % L for x in entries])
        return s.signed(play.identities[play.number(j)].seed)

    for place, j in enumerate(near):
        kind = "b" if j in living else "s"
        # name only where the lie is among the first t shares: then the first rebuild fails and each share is checked
        holders = [q for q in a.survivors if q in rnd.graph.neighbours(j)]
        if one in holders[:rnd.t]:
            case(f"one-lies-about-{kind}-of-{j}", admitted | {one: lying(one, place)},
                 f"the share of {kind} of {j} is off by one: named, and the sum is right", 1, [one])
            if kind == "s":
                break
    fewest = {j: raw for j, raw in admitted.items() if j in a.survivors[:rnd.t - 1]}
    case("too-few", fewest, "fewer than t shares: not opened", 2, [])


def make_read(play):
    a = play.aggregator
    x = play.identities[PLAIN]
    y = play.identities[1]
    rid = a.context[:16].hex()
    f = File("read", "The header Veilsum-Read (wire 8.3, R-35), for a `target` of this round; `owner`: the client whose resource it "
             "is, or null.", **round_shared(play))

    def case(name, target, comment="", reader=x, owner=None, sent=None):
        value = read.header_value(a.context, reader.client, target, reader.seed)
        try:
            a.check_read(value, target, owner)
        except Refused as error:
            disagrees(f"read {name}: {error!r}")
        f.good(name, comment, target=target, value=value, reader=reader.client, owner=owner)

    def bad(name, target, value, why, rule, owner=None):
        try:
            a.check_read(value, target, owner)
            found = 200, None
        except Refused as error:
            found = error.status, error.rule
        if found != (403, rule):
            disagrees(f"read {name} ({why}): {found}, 403 {rule} expected")
        f.bad(name, why, rule=rule, status=403, target=target, value=value, owner=owner)

    target = f"/v1/rounds/{rid}/core"
    leaves = f"/v1/rounds/{rid}/leaves?i=0,5,7"
    mail = f"/v1/rounds/{rid}/mail/{x.client.hex()}"
    case("core", target)
    case("leaves", leaves)
    case("mail", mail, owner=x.client)
    case("other-member", target, reader=y)
    good = read.header_value(a.context, x.client, target, x.seed)
    raw = bytes.fromhex(good)

    def re(**changes):
        return restate(raw, x.seed, **changes).hex()

    bad("absent", target, None, "no header", "R-35")
    bad("empty", target, "", "nothing", "R-35")
    bad("odd", target, good[:-1], "an odd number of digits", "R-35")
    bad("upper-case", target, good.upper(), "upper-case digits", "R-35")
    bad("no-hex", target, "zz" + good[2:], "no hexadecimal digits", "R-35")
    bad("prefix", target, "0x" + good, "a prefix", "R-35")
    bad("cut", target, good[:-2], "a byte is missing", "R-35")
    bad("longer", target, good + "00", "a byte is left over", "R-35")
    bad("too-long", target, good + "0" * 8000, "more than 8,000 digits", "R-35")
    bad("other-target", f"/v1/rounds/{rid}/roster", good, "signed for another target", "R-37")
    bad("leaves-other-indices", leaves, read.header_value(a.context, x.client, leaves[:-1] + "6", x.seed),
        "signed for other indices", "R-37")
    bad("leaves-without-indices", leaves, read.header_value(a.context, x.client, leaves.split("?")[0], x.seed),
        "signed without its indices", "R-37")
    bad("other-context", target, re(context=seed_of("c")), "of another round", "R-37")
    bad("previous", target, re(previous=a.context), "a statement before", "R-37")
    bad("receiver", target, re(receiver=a.context[:16]), "a receiver", "R-37")
    bad("label", target, re(label="veilsum/1/core"), "another label", "R-35")
    bad("version", target, re(version=2), "version 2", "R-35")
    bad("stranger", target, read.header_value(a.context, seed_of("s")[:16], target, seed_of("s")),
        "a reader without the right", "R-35")
    bad("mail-of-another", mail, read.header_value(a.context, y.client, mail, y.seed), "another client's mail", "R-35",
        owner=x.client)
    bad("signature", target, flip(raw, len(raw) - 1).hex(), "the signature does not hold", "R-37")
    bad("in-another-name", target, read.header_value(a.context, x.client, target, y.seed), "signed by another member",
        "R-37")
    bad("s-plus-l", target, plus_order(raw).hex(), "S + l", "R-37")


def make_policy(play):
    """Floors of protocol 5.1 step 4, counters, clock."""
    from veilsum_ref.policy import Policy
    h = replace(play.header, roster_min=8, cohort_min=7)
    h = replace(h, ring_bits=h.least_r())
    base = Policy(h.aggregator_key, h.authority_key, cohort_min=7, gamma_min=200_000, delta_max=200_000, sigma_min=80,
                  eta_min=30, wrap_bits_min=40, noise_multiplier_min=1.0, clip_max=2.0, dp_delta_max=1e-5,
                  smallest_sum_min=7)
    f = File("policy", "Headers against a client's policy (protocol 5.1 steps 2, 4, 5). Fractions are millionths; `last` is "
             "the last counter of the task, `now` the wall clock in microseconds. Names as in the policy of `shared`.",
             header=h.statement().signed(simulate.seed_of(SEED, "aggregator")), aggregator_key=h.aggregator_key,
             authority_key=h.authority_key)
    keys = ("cohort_min", "gamma_min", "delta_max", "sigma_min", "eta_min", "wrap_bits_min", "noise_multiplier_min", "clip_max",
            "dp_delta_max", "smallest_sum_min", "budget_epsilon", "budget_delta", "layout", "model_hash", "vector_len",
            "weight_max")

    def judge(policy, last, now):
        policy.check_counter(h.counter, last)
        policy.check_header(h)
        if policy.budget_epsilon is not None:
            charge = privacy.curve(h.max_squared_norm, h.vector_len, h.total_variance)
            if privacy.epsilon(charge, policy.budget_delta)[0] > policy.budget_epsilon:
                raise Refused("budget", "R-26")
        policy.check_clock(h.opened_at, now)

    def inputs(policy, last, now):
        return {"policy": {k: getattr(policy, k) for k in keys}, "last": str(last), "now": str(now)}

    def good(name, last=0, now=h.opened_at, **change):
        p = replace(base, **change)
        judge(p, last, now)
        f.good(name, **inputs(p, last, now))

    def bad(name, why, last=0, now=h.opened_at, rule="R-02", **change):
        p = replace(base, **change)
        f.judged(name, why, lambda: judge(p, last, now), rule=rule, **inputs(p, last, now))

    eps, _ = privacy.epsilon(privacy.curve(h.max_squared_norm, h.vector_len, h.total_variance), 1e-5)
    good("at-every-floor")
    good("clock-ahead", now=h.opened_at + 600_000_000)
    good("clock-behind", now=h.opened_at - 600_000_000)
    good("pinned", layout=h.layout_hash, model_hash=h.model_hash, vector_len=11, weight_max=0)
    good("budget", budget_epsilon=eps * (1 + 1e-8))
    bad("cohort-min", "cohort_min", cohort_min=8)
    bad("gamma", "gamma", gamma_min=200_001)
    bad("delta", "delta", delta_max=199_999)
    bad("sigma", "sigma", sigma_min=81)
    bad("eta", "eta", eta_min=31)
    bad("wrap-bits", "wrap_bits", wrap_bits_min=41)
    bad("noise", "noise multiplier", noise_multiplier_min=1.001)
    bad("clip", "clip", clip_max=1.999)
    bad("dp-delta", "dp_delta", dp_delta_max=9.9e-6)
    bad("smallest-sum", "the smallest permitted sum", smallest_sum_min=8)
    bad("layout", "another layout", layout=seed_of("another layout"))
    bad("model", "another model", model_hash=seed_of("another model"))
    bad("vector-len", "another vector_len", vector_len=12)
    bad("weight-max", "weights", weight_max=5)
    bad("budget-exceeded", "the budget does not cover it", rule="R-26", budget_epsilon=eps * (1 - 1e-6))
    bad("counter-seen", "a counter that was seen", last=1)
    bad("counter-old", "a counter below the last", last=2)
    bad("clock-far-ahead", "opened_at is more than 10 minutes away", now=h.opened_at + 600_000_001)
    bad("clock-far-behind", "opened_at is more than 10 minutes away", now=h.opened_at - 600_000_001)
    f2 = File("counter", "Is a header's counter accepted after the last one (R-02)?")
    for counter, last, valid in ((1, 0, True), (2, 1, True), (1, 1, False), (2**20, 0, True), (2**20 + 1, 0, False),
                                 (2**20 + 5, 5, True), (2**64 - 1, 0, False), (7, 9, False)):
        inputs_ = dict(counter=str(counter), last=str(last))
        try:
            base.check_counter(counter, last)
            assert valid
            f2.good(f"{counter}-after-{last}", **inputs_)
        except Refused:
            assert not valid
            f2.bad(f"{counter}-after-{last}", "not above the last, or more than 2^20 above it", rule="R-02", **inputs_)


def make_sealing(play):
    a = play.aggregator
    rnd = a.round
    f = File("sealing", "Sealed edges (protocol 2.6, wire 5.2): shares s_i, b_i, channel secrets of both; the mail key, associated "
             "data, and the edge. Bad ones do not open for the holder.")
    i = PLAIN
    c = play.before["acknowledge", i]
    d = c.me
    for h in list(c.edges)[:3]:
        holder = play.number(h)
        e = c.edges[h]
        agreed = x25519.agree(play.secrets[i]["c"], a.leaves[h].C)
        key = kdf.mail_key(agreed, rnd.root, rnd.ids[d], rnd.ids[h], a.leaves[d].C, a.leaves[h].C)
        data = sealing.associated_data(a.context, rnd.root, rnd.ids[d], rnd.ids[h])
        common = dict(context=a.context, roster_root=rnd.root, dealer_id=rnd.ids[d], holder_id=rnd.ids[h], holder=h,
                      dealer_c=play.secrets[i]["c"], holder_c=play.secrets[holder]["c"], C_dealer=a.leaves[d].C,
                      C_holder=a.leaves[h].C)
        f.good(f"edge-{h}", **common, s_i=scalar_bytes(c.dealt[h][0]), b_i=scalar_bytes(c.dealt[h][1]), agreed=agreed,
               mail_key=key, associated_data=data, edge=e.encode(), leaf_hash=e.leaf_hash())
        for name, change in (("ciphertext", dict(ciphertext=flip(e.ciphertext, 0))),
                             ("tag", dict(ciphertext=flip(e.ciphertext, 79))),
                             ("other-data", dict(ciphertext=sealing.seal(
                                 key, scalar_bytes(c.dealt[h][0]) + scalar_bytes(c.dealt[h][1]),
                                 sealing.associated_data(a.context, rnd.root, rnd.ids[h], rnd.ids[d])))),
                             ("other-shares", dict(ciphertext=sealing.seal(
                                 key, scalar_bytes(1) + scalar_bytes(2), data)))):
            bent = replace(e, **change)
            assert share.open_edge(rnd, d, bent, play.secrets[holder]["c"], a.leaves[d].C, a.leaves[h].C) is None
            f.bad(f"edge-{h}-{name}", "does not open, or does not match its points", rule="R-13", **common,
                  edge=bent.encode())


# ---- whole rounds ---------------------------------------------------------------------------------------------------

def round_file(play, about, secrets=False):
    """A round as the aggregator sees it: messages in order with their answers, and what each close fixes."""
    a = play.aggregator
    rnd = a.round
    out = {"format": "veilsum-vectors-1", "subject": "round", "about": about}
    out["aggregator"] = plain({"seed": a.seed, "closing_nonce": rnd.roster.closing_nonce, "log_salt": a.salt})
    out["header"] = plain(a.header_raw)
    out["context"] = plain(a.context)
    clients = []
    for i, c in enumerate(play.clients):
        one = {"client": c.identity.client}
        if secrets:
            one |= {"identity_seed": c.identity.seed, "certificate": c.identity.certificate, **play.secrets[i],
                    "noised": c.noised}
        if who(play, i) in rnd.index:
            one["index"] = leaf_index(play, i)
        clients.append(one)
    out["clients"] = plain(clients)
    phases = []
    for phase in header.WINDOWS:
        sent = [{"client": who(play, i), "message": body, "status": status} for p, i, body, status in play.wire if p == phase]
        phases.append(plain({"phase": phase, "messages": sent}))
    out["phases"] = phases
    served = {"roster": a.roster_raw}
    if hasattr(a, "dealt"):
        if secrets:
            served["mail"] = {rnd.ids[j]: a.serve_mail(rnd.ids[j]) for j in range(rnd.n)}
        served["dealt"] = sorted(a.dealt)
    if hasattr(a, "candidates"):
        served["candidates"] = sorted(a.candidates)
        served["complaints"] = [[d, sorted(hs)] for d, hs in sorted(a.complaints.items())]
    if hasattr(a, "core"):
        served["core"] = a.core_raw
        served["core_members"] = a.core
        served["openings"] = {rnd.ids[j]: a.serve_openings(rnd.ids[j]) for j in range(rnd.n)
                              if len(a.serve_openings(rnd.ids[j])) > 2}
    if hasattr(a, "survivors"):
        served["survivors"] = a.survivors_raw
        served["survivors_members"] = a.survivors
        served["uploads"] = {rnd.ids[j]: a.serve_uploads(rnd.ids[j]) for j in a.survivors}
        served["confirmations"] = a.serve_confirmations()
    if a.result_raw is not None:
        served["result"] = a.result_raw
    out["served"] = {k: {x.hex(): y.hex() for x, y in v.items()} if isinstance(v, dict) else plain(v)
                     for k, v in served.items()}
    out["ended"] = a.over
    out["named"] = plain([list(x) for x in sorted(a.faults, key=lambda x: (header.WINDOWS.index(x[0]), x[1]))])
    out["log"] = plain({"entries": a.log.hashes, "size": a.log.head()[0], "root": a.log.head()[1]})
    return out


def make_rounds():
    """Rounds with liars and losses, from the aggregator's side."""
    rounds = []
    head = simulate.make_header(SEED + "/rounds", 6, vector_len=3, gamma=200_000, delta=200_000, scale=4.0)

    def play(name, about, ended, named, lost=None, lie=None, refused=()):
        p = Recorded(f"{SEED}/rounds", head, 6, lost=lost or {}, lie=lie)
        p.run()
        a = p.aggregator
        assert a.over == ended, (name, a.over, p.refused)
        found = [([c.identity.client for c in p.clients].index(x), rule) for _, x, rule in a.faults]
        assert found == named, (name, found)
        assert sorted(p.refused) == sorted(refused), (name, p.refused)
        if ended == "published":
            assert np.array_equal(p.plain_sum(), p.result.total)
        rounds.append({"name": name, **round_file(p, about)})

    def at(phase, number, do):
        def lie(p, phase_, i, message):
            return do(p, i, message) if (phase_, i) == (phase, number) else message
        return lie

    def both(*lies):
        def lie(p, phase, i, message):
            for x in lies:
                message = x(p, phase, i, message)
            return message
        return lie

    play("plain", "Nobody lies and nobody is lost: the open phase is skipped.", "published", [])
    p_plain = Recorded(f"{SEED}/rounds", head, 6).run()
    for phase in ("share", "acknowledge", "mask", "unmask"):
        play("lost-" + phase, f"One client is silent from {phase} on.", "published", [], lost={1: phase})
    play("two-lost", "Two are lost before masking, one more than may be.", "too-few-survivors", [],
         lost={1: "mask", 3: "mask"})
    play("too-few-deal", "Two do not deal.", "core-too-small", [], lost={1: "share", 3: "share"})
    play("not-confirmed", "Nobody confirms.", "not-confirmed", [], lost={i: "confirm" for i in range(6)})
    play("not-opened", "Too few answer.", "not-opened", [], lost={0: "unmask", 1: "unmask"})

    def holder_of(p, i):
        return leaf_index(p, (i + 1) % 6)

    spoil = at("share", 2, lambda p, i, m: spoil_edge(p, i, m, holder_of(p, i)))
    play("complaint-opened", "A dealer spoils an edge, and opens it.", "published", [], lie=spoil)

    def wrong(p, i, m):
        c = p.clients[i]
        opened = opening.decode_body(statement.decode_any(m).body)
        bent = opening.Opening(tuple((h, s + 1, b) for h, s, b in opened.entries))
        return opening.opening_statement(c.round, c.identity.client, bent).signed(c.identity.seed)

    play("wrong-opening", "A dealer spoils an edge and opens it wrongly: named, and outside the core.", "published",
         [(2, "R-16")], lie=both(spoil, at("open", 2, wrong)), refused=(2,))
    play("no-opening", "A dealer spoils an edge and opens nothing: outside the core, unnamed.", "published", [],
         lie=both(spoil, at("open", 2, lambda p, i, m: None)), refused=(2,))

    def reports_missing(p, i, m):
        c = p.clients[i]
        ack = acknowledge.decode_body(statement.decode_any(m).body, c.round.k)
        roots = [c.received[j].share_root for j in c.round.graph.neighbours(c.me)][1:]
        entries = ((0, None),) + ack.entries[1:]
        return acknowledge.ack_statement(c.round, c.identity.client, acknowledge.Acknowledgement(
            entries, acknowledge.shares_digest(roots))).signed(c.identity.seed)

    play("reports-missing", "A holder reports mail as missing that was served: outside the core, unnamed.", "published", [],
         lie=at("acknowledge", 3, reports_missing), refused=(3,))

    def false_complaint(p, i, m):
        c = p.clients[i]
        ack = acknowledge.decode_body(statement.decode_any(m).body, c.round.k)
        first = c.round.graph.neighbours(c.me)[0]
        entries = ((2, c.received[first].edge.leaf_hash()),) + ack.entries[1:]
        return acknowledge.ack_statement(c.round, c.identity.client, acknowledge.Acknowledgement(
            entries, ack.shares_digest)).signed(c.identity.seed)

    play("false-complaint", "A holder complains about a good edge: its dealer opens it, nobody is named.", "published", [],
         lie=at("acknowledge", 3, false_complaint))

    def wrong_hash(p, i, m):
        c = p.clients[i]
        ack = acknowledge.decode_body(statement.decode_any(m).body, c.round.k)
        entries = ((2, seed_of("another edge")),) + ack.entries[1:]
        return acknowledge.ack_statement(c.round, c.identity.client, acknowledge.Acknowledgement(
            entries, ack.shares_digest)).signed(c.identity.seed)

    play("complaint-other-edge", "A complaint names another edge: the holder is outside the core, unnamed, and nobody opens.",
         "published", [], lie=at("acknowledge", 3, wrong_hash), refused=(3,))

    def other_digest(p, i, m):
        c = p.clients[i]
        ack = acknowledge.decode_body(statement.decode_any(m).body, c.round.k)
        return acknowledge.ack_statement(c.round, c.identity.client, acknowledge.Acknowledgement(
            ack.entries, seed_of("another digest"))).signed(c.identity.seed)

    play("other-shares-digest", "A holder acknowledges other share messages than those admitted: outside the core, unnamed.",
         "published", [], lie=at("acknowledge", 3, other_digest), refused=(3,))

    def lies_in_answer(p, i, m):
        c = p.clients[i]
        body = statement.decode_any(m).body
        entries = answer.decode_body(body, sum(j in c.core for j in c.round.graph.neighbours(c.me)))
        entries = [x if x is None else (x + 1) % L for x in entries]
        return answer.answer_statement(c.round, c.survivors_root, c.identity.client, entries).signed(c.identity.seed)

    # the liar must be among the first t holders of somebody: the one with the lowest leaf index is
    numbers = sorted(range(6), key=lambda i: simulate.enrol(f"{SEED}/rounds", i).client)
    liar = numbers[0]
    play("wrong-answer", "An answer holds wrong shares: its sender is named, the sum is right.", "published",
         [(liar, "R-29")],
         lie=at("unmask", liar, lies_in_answer))
    play("off-polynomial", "A dealer's points lie on no polynomial: refused and named, and the dealer is outside.", "published", [(4, "R-38")],
         lie=at("share", 4, lambda p, i, m: resign_share(p.clients[i], [
             replace(e, P_s=ristretto.times_base(p.clients[i].dealt[e.holder][0] + (j == 1)))
             for j, e in enumerate(p.clients[i].edges.values())])), refused=(4,))
    def twice(p, i, m):
        c = p.clients[i]
        packed = flip(m[223:], 0)
        again = upload.upload_statement(c.round, c.core_root, c.identity.client, packed).signed(c.identity.seed) + packed
        return [m, again]

    play("two-uploads", "A client sends two masked inputs: the first stands, it is named.", "published", [(3, "R-19")],
         lie=at("mask", 3, twice))

    def two_confirms(p, i, m):
        c = p.clients[i]
        return [m, replace(confirm.confirm_statement(c.round, c.survivors_root, c.identity.client),
                           previous=seed_of("another list")).signed(c.identity.seed)]

    confirming = next(i for i in range(6) if leaf_index(p_plain, i) in p_plain.aggregator.round.graph.agreement)
    play("two-confirms", "A client confirms another list too: refused by R-01, and named.", "published",
         [(confirming, "R-23")], lie=at("confirm", confirming, two_confirms))
    FILES["rounds"] = {"format": "veilsum-vectors-1", "subject": "rounds",
                       "about": "Rounds with losses and liars, from the aggregator's side; each as round.json, without secrets.",
                       "rounds": rounds}


def build():
    FILES.clear()
    for make in (make_statement, make_evidence, make_ed25519, make_ristretto, make_channel_key, make_keys, make_keystream,
                 make_packing, make_merkle, make_consistency, make_log, make_ring_order, make_degree_threshold, make_headroom,
                 make_shamir, make_low_degree, make_core_compute, make_rounding, make_weights, make_decode, make_epsilon,
                 make_certificate, make_header, make_round_files, make_sum,
                 make_rounds):
        make()
    return {name: dump(content) for name, content in sorted(FILES.items())}


def dump(content):
    """JSON with one line for each entry of the file, and one for each case, phase or round."""
    lines = []
    for key, value in content.items():
        if key in ("cases", "phases", "rounds"):
            text = "[\n" + ",\n".join(json.dumps(x, ensure_ascii=True) for x in value) + "\n]"
        else:
            text = json.dumps(value, ensure_ascii=True)
        lines.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else FOLDER
    os.makedirs(folder, exist_ok=True)
    total = 0
    for name, text in build().items():
        total += len(text)
        with open(os.path.join(folder, name + ".json"), "w", encoding="ascii") as f:
            f.write(text)
        cases = FILES[name].get("cases", FILES[name].get("rounds", []))
        print(f"{name:20} {len(text):8} bytes {len(cases):5} cases, {sum(not c.get('valid', True) for c in cases)} bad")
    print(f"{total} bytes")


if __name__ == "__main__":
    main()
