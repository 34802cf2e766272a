"""The low-degree test (protocol 5.2, R-38)."""

import hashlib

from . import edwards, ristretto
from .edwards import L
from .encoding import lab, u32


def expand(share_root, m):
    """e(m)."""
    wide = hashlib.sha512(lab("veilsum/1/low-degree") + share_root + u32(m)).digest()
    return int.from_bytes(wide, "little") % L


def weights(xs, f):
    """w_i = f(x_i) / prod over j != i of (x_i - x_j)."""
    out = []
    for x in xs:
        value = 0
        for a in reversed(f):
            value = (value * x + a) % L
        den = 1
        for other in xs:
            if other != x:
                den = den * (x - other) % L
        out.append(value * pow(den, L - 2, L) % L)
    return out


def passes(share_root, t, S, B, edges):
    """`edges` are (holder, P_s, P_b), encodings, in neighbour order."""
    k = len(edges)
    f = [expand(share_root, m) for m in range(k - t + 1)]
    factor = expand(share_root, k - t + 1)
    ws = weights([0] + [holder + 1 for holder, _, _ in edges], f)
    points = [(S, B)] + [(p_s, p_b) for _, p_s, p_b in edges]
    terms = []
    for w, (p_s, p_b) in zip(ws, points):
        terms.append((w, ristretto.point(p_s)))
        terms.append((w * factor % L, ristretto.point(p_b)))
    return ristretto.is_identity(edwards.multi(terms))
