"""Where chance comes from: the operating system, or a seed (for vectors and replays)."""

import hashlib
import secrets

from .edwards import L


class Os:
    """The operating system's generator."""

    def bytes(self, n):
        return secrets.token_bytes(n)

    def below(self, n):
        """Uniform over 0..n-1, by rejection."""
        size = (n.bit_length() + 7) // 8
        mask = (1 << n.bit_length()) - 1
        while True:
            value = int.from_bytes(self.bytes(size), "little") & mask
            if value < n:
                return value

    def secret(self):
        """A random scalar for a secret: 1..l-1 (protocol 2.2)."""
        return 1 + self.below(L - 1)

    def coefficient(self):
        """A random scalar for a coefficient: 0..l-1."""
        return self.below(L)

    def sample(self, population, count):
        """`count` different members of a list, uniformly."""
        rest = list(population)
        out = []
        for _ in range(min(count, len(rest))):
            out.append(rest.pop(self.below(len(rest))))
        return out


class Seeded(Os):
    """SHA-256 in counter mode over a seed. Not a cryptographic choice: it makes runs repeat."""

    def __init__(self, seed):
        self.seed = seed if isinstance(seed, bytes) else str(seed).encode()
        self.counter = 0
        self.buffer = b""

    def bytes(self, n):
        while len(self.buffer) < n:
            block = hashlib.sha256(b"veilsum_ref rng" + len(self.seed).to_bytes(4, "little") + self.seed
                                   + self.counter.to_bytes(8, "little")).digest()
            self.counter += 1
            self.buffer += block
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def child(self, name):
        return Seeded(self.seed + b"/" + str(name).encode())
