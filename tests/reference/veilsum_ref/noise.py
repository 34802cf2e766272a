"""Skellam noise by exact integer arithmetic (protocol 6.3, 10.1).

The law of X = Poisson(v/2) - Poisson(v/2) is p(x) = e^-v I_x(v). Its table is made by the recurrence
I_{x-1} = I_{x+1} + (2x/v) I_x downward from far out in the tail, in integers of 320 bits, scaled so that the whole
adds up to one. |X| is then drawn by inversion in 127-bit fixed point, and a sign bit is added.

Distance from the exact law, per draw, in total variation: below 2^-100. It has two parts: the mass beyond the end of
the table, below 2^-110, and the rounding of its entries, below 2^-127 each (at most 2^20 entries).
"""

from functools import lru_cache

import numpy as np

BITS = 127
_WORK = 320


def pmf_table(v):
    """p(0), p(1), … as integers over 2^320, as far as the tail matters."""
    # The table's end: 13 sd + 60 is far beyond where the tail falls below 2^-110, for every v up to 2^32. The recurrence
    # starts further out from an arbitrary value; what is wrong at the start does not reach the table's digits.
    end = int(13 * v**0.5) + 60
    start = end + 40 + end // 8
    above, here = 0, 1 << 256
    values = [0] * start + [here]
    for x in range(start, 0, -1):
        above, here = here, above + 2 * x * here // v
        values[x - 1] = here
    total = values[0] + 2 * sum(values[1:])
    return [(value << _WORK) // total for value in values]


@lru_cache(maxsize=4)
def cumulative(v):
    """floor(2^127 Pr[|X| <= x]) for x = 0, 1, …, until nothing is missing but the tail."""
    table, out, acc = pmf_table(v), [], 0
    for x, p in enumerate(table):
        acc += p if x == 0 else 2 * p
        out.append(min(acc >> (_WORK - BITS), (1 << BITS) - 1))
        if acc >= (1 << _WORK) - (1 << (_WORK - 112)):
            break
    out[-1] = 1 << BITS                                         # the tail falls on the last entry
    return out


def skellam(v, m, rng):
    """m independent draws of variance v, int64."""
    if v == 0:
        return np.zeros(m, np.int64)
    if v > 1 << 32:
        raise ValueError("a variance above 2^32 is not supported")
    table = cumulative(v)
    high = np.array([min(c >> 63, (1 << 64) - 1) for c in table], np.uint64)
    raw = np.frombuffer(rng.bytes(16 * m), "<u8").reshape(m, 2)
    low, top = raw[:, 0], raw[:, 1]                             # 128 bits: 127 for |X|, one for the sign
    sign = low & np.uint64(1)
    # u = top * 2^63 + (low >> 1), 127 bits; |X| is the number of entries that are <= u
    out = np.searchsorted(high, top, side="right").astype(np.int64)
    exact = np.searchsorted(high, top, side="left") != out   # equal leading bits: decide in integers
    for i in np.nonzero(exact)[0]:
        u = int(top[i]) << 63 | int(low[i]) >> 1
        out[i] = sum(c <= u for c in table)
    return np.where(sign == 1, -out, out)
