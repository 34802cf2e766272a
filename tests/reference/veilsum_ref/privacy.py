"""Epsilon and ledgers (protocol 10)."""

import math
from decimal import Context, Decimal
from fractions import Fraction

ORDERS = tuple(range(2, 129)) + (256, 320, 512, 1024)
UP = 1.0 + 2.0**-46


def _add(a, b):
    """A sum, raised to the next binary64 number where both are above 0."""
    if a == 0 or b == 0:
        return a + b
    return math.nextafter(a + b, math.inf)


def sensitivities(max_squared_norm, vector_len):
    """(D2, D1), each multiplied by 1 + 2^-46."""
    d2 = math.sqrt(max_squared_norm)
    d1 = d2 * min(math.sqrt(vector_len), d2)
    return d2 * UP, d1 * UP


def rdp(order, d2, d1, mu):
    """One round at one order, without directed rounding (protocol 10.2)."""
    return order * d2 * d2 / (2 * mu) + min(((2 * order - 1) * d2 * d2 + 6 * d1) / (4 * mu * mu), 3 * d1 / (2 * mu))


def curve(max_squared_norm, vector_len, total_variance):
    """The charge of one round: RDP by order, errors upward. None without noise: there is no bound."""
    if total_variance == 0:
        return None
    d2, d1 = sensitivities(max_squared_norm, vector_len)
    mu = float(total_variance)
    out = []
    for a in ORDERS:
        first = a * d2 * d2 / (2 * mu)
        second = min(_add((2 * a - 1) * d2 * d2, 6 * d1) / (4 * mu * mu), 3 * d1 / (2 * mu))
        out.append(_add(first, second) * UP)
    return tuple(out)


def compose(a, b):
    """Rounds add up per order."""
    return tuple(_add(x, y) for x, y in zip(a, b))


_decimal = Context(prec=50)


def _ceil_float(value):
    """The smallest binary64 not below a Decimal."""
    x = float(value)
    return math.nextafter(x, math.inf) if Fraction(x) < Fraction(value) else x


def epsilon(curve_, delta):
    """(epsilon, best order) of a curve, rounded up to the next binary64 number."""
    if all(r == 0 for r in curve_):  # nothing was charged
        return 0.0, ORDERS[0]
    delta = Decimal(delta)
    best = None
    for a, r in zip(ORDERS, curve_):
        a_ = Decimal(a)
        value = (Decimal(r) + _decimal.ln(1 - _decimal.divide(Decimal(1), a_))
                 - _decimal.divide(_decimal.ln(_decimal.multiply(delta, a_)), a_ - 1))
        if best is None or value < best[0]:
            best = value, a
    value, order = best
    # 50 digits: an error below 10^-40 relative is added before rounding up
    value = value + abs(value).copy_abs() * Decimal(10) ** -40
    return max(0.0, _ceil_float(value)), order


class Ledger:
    """Append-only, keyed (task, counter); repeating a charge changes nothing (protocol 10.3, R-26)."""

    def __init__(self):
        self.charges = {}

    def total(self):
        out = (0.0,) * len(ORDERS)
        for charge in self.charges.values():
            out = compose(out, charge)
        return out

    def epsilon_with(self, charge, delta, key=None):
        """Epsilon if this charge came on top."""
        total = self.total()
        if charge is not None and key not in self.charges:
            total = compose(total, charge)
        return epsilon(total, delta)[0]

    def charge(self, task, counter, charge):
        if charge is not None:
            self.charges.setdefault((task, counter), tuple(charge))
