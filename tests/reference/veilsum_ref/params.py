"""Counts, degree and threshold, headroom, noise shares: from header and n alone (protocol 3; R-04, R-14)."""

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np


def ceil_gamma(gamma, n):
    """c = ceil(gamma n), gamma in millionths (protocol 3.1)."""
    return (gamma * n + 999_999) // 1_000_000


def floor_delta(delta, n):
    """T = floor(delta n)."""
    return delta * n // 1_000_000


def default_cohort_min(roster_min, delta):
    return max(2, roster_min - floor_delta(delta, roster_min))


def fewest(cohort_min, n, delta):
    """max(cohort_min, n - T): the fewest of a core, and of a sum."""
    return max(cohort_min, n - floor_delta(delta, n))


def honest(cohort_min, n, gamma, delta):
    """h (R-14)."""
    return fewest(cohort_min, n, delta) - ceil_gamma(gamma, n)


def share_variance(total_variance, h):
    return -(-total_variance // h)


# ---- (k, t) -------------------------------------------------------------------------------------------------------

NEAR = 1e-6


def _exact_a(n, c, k, x_from, limit):
    """n Pr[X >= x_from] <= 2^-limit, X hypergeometric (k of n - 1, c marked), in integers."""
    ways = sum(math.comb(c, x) * math.comb(n - 1 - c, k - x) for x in range(max(0, x_from), min(k, c) + 1))
    return (n * ways) << limit <= math.comb(n - 1, k)


def _exact_b(n, k, b, limit):
    if k > b:
        return True
    # n (n-k-1) / 2 * prod (b-j)/(n-j) <= 2^-limit
    return (n * (n - k - 1) * math.perm(b, k)) << limit <= 2 * math.perm(n, k)


def _exact_c(n, d, k, t, limit):
    good = n - 1 - d
    ways = sum(math.comb(good, y) * math.comb(d, k - y) for y in range(max(0, k - d), min(t - 1, k, good) + 1))
    return (n * ways) << limit <= math.comb(n - 1, k)


@lru_cache(maxsize=8)
def _log2_factorials(n):
    return np.concatenate([[0.0], np.cumsum(np.log2(np.arange(1, n + 1, dtype=np.longdouble)))])


def _log2_hypergeometric(lf, total, marked, draws):
    """(lowest value, log2 of the probability of each value from there on)."""
    low, high = max(0, draws - (total - marked)), min(draws, marked)
    x = np.arange(low, high + 1)
    rest = total - marked
    value = (lf[marked] - lf[x] - lf[marked - x] + lf[rest] - lf[draws - x] - lf[rest - draws + x]
             - (lf[total] - lf[draws] - lf[total - draws]))
    return low, value


def _log2_suffix(values):
    """log2 of the sums of 2^v over values[i:]."""
    top = values.max()
    sums = np.cumsum(np.exp2(values - top)[::-1])[::-1]
    with np.errstate(divide="ignore"):
        return np.log2(sums) + top


def log2_a(n, c, k, t, lf=None):
    """log2 p_A."""
    if 2 * t <= k:
        return math.log2(n)
    lf = _log2_factorials(n) if lf is None else lf
    low, v = _log2_hypergeometric(lf, n - 1, c, k)
    i = 2 * t - k - low
    return -math.inf if i >= len(v) else float(math.log2(n) + _log2_suffix(v)[max(0, i)])


def log2_b(n, k, b, lf=None):
    """log2 p_B."""
    if k > b:
        return -math.inf
    lf = _log2_factorials(n) if lf is None else lf
    return float(math.log2(n * (n - k - 1)) - 1 + lf[b] - lf[b - k] - lf[n] + lf[n - k])


def log2_c(n, d, k, t, lf=None):
    """log2 p_C."""
    lf = _log2_factorials(n) if lf is None else lf
    low, v = _log2_hypergeometric(lf, n - 1, n - 1 - d, k)
    i = t - 1 - low
    if i < 0:
        return -math.inf
    return float(math.log2(n) + _log2_suffix(v[::-1])[max(0, len(v) - 1 - i)])


def _holds(log2_value, limit, exact):
    """log2 value <= -limit; decided in integers where binary64 is within 10^-6 of the limit."""
    if abs(log2_value + limit) <= NEAR:
        return exact()
    return log2_value < -limit


@lru_cache(maxsize=4096)
def degree_threshold(n, c, d, sigma, eta):
    """(k, t, complete) or None if infeasible (protocol 3.2)."""
    if c + d > n - 2:
        return None
    b = min(n, c + d)
    lf = _log2_factorials(n)
    limit = sigma + 1
    for k in range(2, n - 1, 2):
        if not _holds(log2_b(n, k, b, lf), limit, lambda k=k: _exact_b(n, k, b, limit)):
            continue
        low, v = _log2_hypergeometric(lf, n - 1, c, k)
        suffix = _log2_suffix(v) + math.log2(n)
        t = None
        # smallest t with p_A within its limit; 2t > k is necessary, because p_A = n otherwise
        x = max(k // 2 + 1, 2) * 2 - k
        while x <= k:
            i = x - low
            value = -math.inf if i >= len(suffix) else float(suffix[max(0, i)])
            if _holds(value, limit, lambda x=x, k=k: _exact_a(n, c, k, x, limit)):
                t = (x + k) // 2
                break
            x += 2
        if t is None:
            continue
        if _holds(log2_c(n, d, k, t, lf), eta, lambda k=k, t=t: _exact_c(n, d, k, t, eta)):
            return k, t, False
    t = -(-(n + c) // 2)
    if t <= n - 1 - d:
        return n - 1, t, True
    return None


def degree_threshold_exact(n, c, d, sigma, eta):
    """The same in exact integers throughout: slow, for comparison at small n."""
    if c + d > n - 2:
        return None
    b = min(n, c + d)
    for k in range(2, n - 1, 2):
        if not _exact_b(n, k, b, sigma + 1):
            continue
        for t in range(2, k + 1):
            if 2 * t > k and _exact_a(n, c, k, 2 * t - k, sigma + 1):
                if _exact_c(n, d, k, t, eta):
                    return k, t, False
                break
    t = -(-(n + c) // 2)
    return (n - 1, t, True) if t <= n - 1 - d else None


# ---- headroom -----------------------------------------------------------------------------------------------------

def headroom_holds(r, n, max_squared_norm, total_variance, cohort_min, gamma, delta, wrap_bits):
    """The ring bits r suffice for a roster of n (protocol 3.3)."""
    x = (1 << (r - 1)) - 1 - n * math.isqrt(max_squared_norm)
    if x < 0:
        return False
    if total_variance == 0:
        return True
    h = honest(cohort_min, n, gamma, delta)
    if h < 1:
        return False
    v = share_variance(total_variance, h)
    return math.erfc(x / math.sqrt(n * v) / math.sqrt(2)) <= 2.0 ** -wrap_bits


def least_r(roster_min, roster_max, max_squared_norm, total_variance, cohort_min, gamma, delta, wrap_bits):
    """The smallest r in 8..=64 that suffices for every roster size; None if none does."""
    r = 8
    for n in range(roster_min, roster_max + 1):
        while not headroom_holds(r, n, max_squared_norm, total_variance, cohort_min, gamma, delta, wrap_bits):
            r += 1
            if r > 64:
                return None
    return r


def default_squared_norm(clip, scale, vector_len):
    """floor(min((S + sqrt D)^2, S^2 + D/4 + S + sqrt(D)/2)), S = clip * scale (protocol 6.2).

    S is the product rounded to binary64; all after it is exact, the floor by a search over integers.
    """
    s = Fraction(clip * scale)
    d = vector_len

    def at_most_first(m):            # m <= s^2 + d + 2 s sqrt(d)
        rest = m - s * s - d
        return rest <= 0 or rest * rest <= 4 * s * s * d

    def at_most_second(m):           # m <= s^2 + d/4 + s + sqrt(d)/2
        rest = m - s * s - Fraction(d, 4) - s
        return rest <= 0 or 4 * rest * rest <= d

    low, high = 0, int(s * s + d + 2 * s * (math.isqrt(d) + 1)) + 2
    while low < high:
        mid = (low + high + 1) // 2
        if at_most_first(mid) and at_most_second(mid):
            low = mid
        else:
            high = mid - 1
    return low
