"""Share messages, edges, mail items, mailboxes (protocol 5.2, 5.3; R-11, R-12, R-13, R-38; wire 5.2, 5.3, 6.2, 7)."""

from dataclasses import dataclass

from . import kdf, low_degree, merkle, ristretto, sealing, statement, x25519
from .encoding import Reader, framed, u16, u32
from .errors import NotCanonical, Refused
from .statement import Statement

LABEL = "veilsum/1/share"
EDGE = 148


@dataclass(frozen=True)
class Edge:
    holder: int
    ciphertext: bytes
    P_s: bytes
    P_b: bytes

    def encode(self):
        return u32(self.holder) + self.ciphertext + self.P_s + self.P_b

    def leaf_hash(self):
        return merkle.leaf_hash(self.encode())


def decode_edge(raw):
    r = Reader(raw)
    edge = Edge(r.u32(), r.take(80), r.take(32), r.take(32))
    r.end()
    ristretto.point(edge.P_s)
    ristretto.point(edge.P_b)
    return edge


def seal_edge(round_, dealer, holder, c_dealer_secret, C_dealer, C_holder, s_i, b_i):
    """The edge of a dealer (leaf index) for a holder, shares given as integers."""
    key = kdf.mail_key(x25519.agree(c_dealer_secret, C_holder), round_.root, round_.ids[dealer], round_.ids[holder],
                       C_dealer, C_holder)
    data = sealing.associated_data(round_.context, round_.root, round_.ids[dealer], round_.ids[holder])
    plain = ristretto.scalar_bytes(s_i) + ristretto.scalar_bytes(b_i)
    return Edge(holder, sealing.seal(key, plain, data), ristretto.times_base(s_i), ristretto.times_base(b_i))


def open_edge(round_, dealer, edge, c_holder_secret, C_dealer, C_holder):
    """(s_i, b_i) if the edge is good, else None: a complaint (protocol 5.3 step 2)."""
    holder = edge.holder
    try:
        agreed = x25519.agree(c_holder_secret, C_dealer)
        key = kdf.mail_key(agreed, round_.root, round_.ids[dealer], round_.ids[holder], C_dealer, C_holder)
        data = sealing.associated_data(round_.context, round_.root, round_.ids[dealer], round_.ids[holder])
        plain = sealing.unseal(key, edge.ciphertext, data)
        if plain is None or len(plain) != 64:
            return None
        s_i, b_i = ristretto.scalar(plain[:32]), ristretto.scalar(plain[32:])
    except Refused:
        return None
    if not matches(edge, s_i, b_i):
        return None
    return s_i, b_i


def matches(edge, s_i, b_i):
    return ristretto.times_base(s_i) == edge.P_s and ristretto.times_base(b_i) == edge.P_b


def share_statement(round_, client, edges_root):
    return Statement(LABEL, round_.context, round_.root, client, body=edges_root)


def encode(signed, edges):
    return signed + b"".join(e.encode() for e in edges)


@dataclass(frozen=True)
class ShareMessage:
    signed: statement.Signed
    edges: tuple

    def edges_root(self):
        return self.signed.body


def accept(raw, round_, client, leaf):
    """The aggregator's accept, in the order of wire 8.1 (b to f of protocol 5)."""
    k = round_.k
    signed, tail = statement.front(raw, LABEL)
    statement.check(signed, context=round_.context, previous=round_.root, sender=client, key=leaf.identity_key,
                    at_service=True)
    if len(signed.body) != 32 or len(tail) != EDGE * k:
        raise NotCanonical(f"a share message of {len(raw)} bytes")
    edges = tuple(decode_edge(tail[EDGE * i:EDGE * (i + 1)]) for i in range(k))
    if merkle.root([e.encode() for e in edges]) != signed.body:
        raise Refused("the edges have another root", "R-13", 422)
    if [e.holder for e in edges] != round_.graph.neighbours(round_.index[client]):
        raise Refused("the holders are not the neighbours in order", "R-13", 422, proves=True)
    if not low_degree.passes(signed.root(), round_.t, leaf.S, leaf.B, [(e.holder, e.P_s, e.P_b) for e in edges]):
        raise Refused("the points lie on no polynomial of degree t - 1", "R-38", 422, proves=True)
    return ShareMessage(signed, edges)


# ---- mail ---------------------------------------------------------------------------------------------------------

def mail_item(dealer, message, position):
    """Bytes of the mail item for the holder at this place of the dealer's neighbour order."""
    hashes = [e.leaf_hash() for e in message.edges]
    path = merkle.path(position, hashes)
    return u32(dealer) + message.signed.raw() + message.edges[position].encode() + u16(position) + b"".join(path)


def frames(raw, most, kind):
    """count u16, then count times u32 length, bytes (wire 7)."""
    r = Reader(raw)
    count = r.u16()
    if count > most:
        raise NotCanonical(f"{kind}: {count} items")
    out = [r.take(r.u32()) for _ in range(count)]
    r.end()
    return out


def frame(items):
    return u16(len(items)) + b"".join(framed(x) for x in items)


@dataclass(frozen=True)
class Received:
    """An entry that is not missing: the dealer's share root and edge, and the shares if they are good."""
    share_root: bytes
    edge: Edge
    shares: tuple | None


def read_mailbox(raw, round_, me, leaves):
    """{dealer: (share root, edge)} for the items that pass (protocol 5.3 step 1; wire 5.3)."""
    items = frames(raw, round_.k, "mail")
    dealers = []
    for item in items:
        if len(item) < 4:
            raise NotCanonical("a mail item without a dealer")
        dealers.append(int.from_bytes(item[:4], "little"))
    if any(a >= b for a, b in zip(dealers, dealers[1:])):
        raise NotCanonical("mail: not strictly ascending by dealer")
    out = {}
    around = set(round_.graph.neighbours(me))
    for dealer, item in zip(dealers, items):
        if dealer not in around:
            continue
        try:
            out[dealer] = read_item(item, round_, me, dealer, leaves[dealer])
        except Refused:
            continue
    return out


def read_item(item, round_, me, dealer, leaf):
    """(share root, edge), or refused: then the entry is missing."""
    position = round_.graph.place(dealer, me)
    if len(item) != 368 + 32 * merkle.path_length(position, round_.k):
        raise NotCanonical("a mail item of another length")
    r = Reader(item)
    r.u32()
    signed_raw, edge_raw, at = r.take(214), r.take(EDGE), r.u16()
    path = [r.take(32) for _ in range(r.left() // 32)]
    if at != position:
        raise Refused("another place in the dealer's neighbour order", "R-13")
    signed = statement.decode(signed_raw, LABEL, 32)
    statement.check(signed, context=round_.context, previous=round_.root, sender=round_.ids[dealer],
                    key=leaf.identity_key)
    edge = decode_edge(edge_raw)
    if edge.holder != me:
        raise Refused("an edge of another holder", "R-13")
    if merkle.root_from_path(edge.leaf_hash(), position, round_.k, path) != signed.body:
        raise Refused("the path does not lead to the signed root", "R-13")
    return signed.root(), edge
