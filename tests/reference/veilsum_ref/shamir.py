"""Shamir's sharing over the scalars (protocol 2.2, R-12)."""

from .edwards import L


def evaluate(coefficients, x):
    """f(x), coefficients from the constant one upward."""
    value = 0
    for a in reversed(coefficients):
        value = (value * x + a) % L
    return value


def deal(secret, t, holders, draw):
    """(coefficients, share by holder's leaf index); drawn again where a share is 0."""
    while True:
        coefficients = [secret] + [draw() for _ in range(t - 1)]
        shares = {i: evaluate(coefficients, i + 1) for i in holders}
        if all(shares.values()):
            return coefficients, shares


def rebuild(shares):
    """Interpolates at 0 over (leaf index, share) pairs with distinct indices."""
    xs = [i + 1 for i, _ in shares]
    if len(set(xs)) != len(xs):
        raise ValueError("a duplicate index")
    secret = 0
    for x, (_, y) in zip(xs, shares):
        num = den = 1
        for other in xs:
            if other != x:
                num = num * other % L
                den = den * (other - x) % L
        secret = (secret + y * num * pow(den, L - 2, L)) % L
    return secret
