"""The curve under Ed25519 and ristretto255, on plain integers (RFC 8032 5.1, RFC 9496 4).

Points are extended coordinates (X, Y, Z, T) of -x^2 + y^2 = 1 + d x^2 y^2, with x = X/Z, y = Y/Z, T = XY/Z.
"""

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
D2 = 2 * D % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
IDENTITY = (0, 1, 1, 0)


def add(a, b):
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    m = (y1 - x1) * (y2 - x2) % P
    n = (y1 + x1) * (y2 + x2) % P
    c = t1 * D2 % P * t2 % P
    d = 2 * z1 * z2 % P
    e, f, g, h = n - m, d - c, d + c, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def double(a):
    x, y, z, _ = a
    xx, yy = x * x % P, y * y % P
    c = 2 * z * z % P
    h = xx + yy
    e = h - (x + y) * (x + y) % P
    g = xx - yy
    f = c + g
    return e * f % P, g * h % P, f * g % P, e * h % P


def neg(a):
    x, y, z, t = a
    return (-x % P, y, z, -t % P)


def _table(point):
    """0..15 times the point."""
    table = [IDENTITY, point]
    for _ in range(14):
        table.append(add(table[-1], point))
    return table


def multi(terms):
    """The sum of scalar * point over (scalar, point) pairs: windows of four bits."""
    prepared = [(s, _table(p)) for s, p in terms if s]
    if not prepared:
        return IDENTITY
    top = max(s.bit_length() for s, _ in prepared)
    acc = IDENTITY
    for shift in range((top + 3) // 4 * 4 - 4, -1, -4):
        if acc is not IDENTITY:
            acc = double(double(double(double(acc))))
        for s, table in prepared:
            digit = s >> shift & 15
            if digit:
                acc = add(acc, table[digit])
    return acc


def mul(scalar, point):
    return multi([(scalar, point)])


def recover_x(y, sign):
    """x of a point with this y and this low bit of x; None where there is none (RFC 8032 5.1.3)."""
    u = (y * y - 1) % P
    v = (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        if (v * x * x + u) % P:
            return None
        x = x * SQRT_M1 % P
    if x == 0 and sign:
        return None
    return P - x if x & 1 != sign else x


_BY = 4 * pow(5, P - 2, P) % P
_BX = recover_x(_BY, 0)
BASE = (_BX, _BY, 1, _BX * _BY % P)
_base_table = []


def mul_base(scalar):
    """scalar * BASE from a table of windows of eight bits."""
    if not _base_table:
        step = BASE
        for _ in range(32):
            row = [IDENTITY]
            for _ in range(255):
                row.append(add(row[-1], step))
            _base_table.append(row)
            step = add(row[-1], step)
    acc = IDENTITY
    for i in range(32):
        digit = scalar >> 8 * i & 255
        if digit:
            acc = add(acc, _base_table[i][digit])
    return acc


def is_small_order(point):
    x, y, z, _ = double(double(double(point)))
    return x % P == 0 and (y - z) % P == 0
