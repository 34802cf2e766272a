"""Ring order, neighbours, agreement set (protocol 3.2)."""

from .encoding import H, lab, u32


class Graph:
    """Who is whose neighbour. Everything is in leaf indices."""

    def __init__(self, roster_root, n, k, complete=None):
        self.n, self.k = n, k
        self.complete = k == n - 1 if complete is None else complete
        self.ring = ring_order(roster_root, n)                 # leaf index by position
        self.position = [0] * n
        for p, i in enumerate(self.ring):
            self.position[i] = p
        self.agreement = self.ring[:k]

    def neighbours(self, i):
        """In neighbour order of the client with leaf index i."""
        p = self.position[i]
        if self.complete:
            return [self.ring[q] for q in range(self.n) if q != p]
        half = self.k // 2
        offsets = list(range(-half, 0)) + list(range(1, half + 1))
        return [self.ring[(p + o) % self.n] for o in offsets]

    def place(self, i, j):
        """The place of j in the neighbour order of i, or None."""
        around = self.neighbours(i)
        return around.index(j) if j in around else None


def ring_hash(roster_root, i):
    return H(lab("veilsum/1/ring"), roster_root, u32(i))


def ring_order(roster_root, n):
    return sorted(range(n), key=lambda i: ring_hash(roster_root, i))
