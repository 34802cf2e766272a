"""Merkle trees, audit paths and consistency proofs (protocol 2.5, 9; RFC 6962 2.1)."""

from .encoding import H
from .errors import NotCanonical


def leaf_hash(data):
    return H(b"\0", data)


def node_hash(left, right):
    return H(b"\1", left, right)


def _split(m):
    """The largest power of two below m."""
    return 1 << (m - 1).bit_length() - 1


def root_of_hashes(hashes):
    if not hashes:
        return H(b"")              # RFC 6962; only the log of size 0 has it
    if len(hashes) == 1:
        return hashes[0]
    q = _split(len(hashes))
    return node_hash(root_of_hashes(hashes[:q]), root_of_hashes(hashes[q:]))


def root(leaves):
    return root_of_hashes([leaf_hash(x) for x in leaves])


def path_length(position, m):
    """Wire 5.3: the number of hashes of an audit path."""
    if m == 1:
        return 0
    q = _split(m)
    return 1 + (path_length(position, q) if position < q else path_length(position - q, m - q))


def path(position, hashes):
    """The audit path in the order of RFC 6962 2.1.1, from the leaf upward."""
    if len(hashes) == 1:
        return []
    q = _split(len(hashes))
    if position < q:
        return path(position, hashes[:q]) + [root_of_hashes(hashes[q:])]
    return path(position - q, hashes[q:]) + [root_of_hashes(hashes[:q])]


def root_from_path(leaf, position, m, hashes):
    """The root that a path leads to; a path of another length is refused."""
    if not 0 <= position < m or len(hashes) != path_length(position, m):
        raise NotCanonical("an audit path of another length")

    def up(position, m, hashes):
        if m == 1:
            return leaf
        q = _split(m)
        if position < q:
            return node_hash(up(position, q, hashes[:-1]), hashes[-1])
        return node_hash(hashes[-1], up(position - q, m - q, hashes[:-1]))

    return up(position, m, list(hashes))


def consistency(old, hashes):
    """RFC 6962 2.1.2: PROOF(old, D[n]), 0 < old <= n."""
    def sub(m, part, whole):
        if m == len(part):
            return [] if whole else [root_of_hashes(part)]
        q = _split(len(part))
        if m <= q:
            return sub(m, part[:q], whole) + [root_of_hashes(part[q:])]
        return sub(m - q, part[q:], False) + [root_of_hashes(part[:q])]

    return sub(old, hashes, True)


def check_consistency(old_size, old_root, new_size, new_root, proof):
    """True if the proof shows that the tree of new_size extends that of old_size."""
    if not 0 < old_size <= new_size:
        return False
    if old_size == new_size:
        return not proof and old_root == new_root

    # Rebuild both roots along the recursion of RFC 6962 2.1.2, taking hashes from the end of the proof.
    proof = list(proof)

    def sub(m, n, whole):
        if m == n:
            if whole:
                return old_root, old_root
            if not proof:
                raise IndexError
            node = proof.pop()
            return node, node
        q = _split(n)
        if not proof:
            raise IndexError
        other = proof.pop()
        if m <= q:
            old, new = sub(m, q, whole)
            return old, node_hash(new, other)
        old, new = sub(m - q, n - q, False)
        return node_hash(other, old), node_hash(other, new)

    try:
        old, new = sub(old_size, new_size, True)
    except IndexError:
        return False
    return not proof and old == old_root and new == new_root
