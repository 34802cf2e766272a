"""What a client insists on (protocol 4.5, 5.1 steps 4 to 6)."""

from dataclasses import dataclass
from fractions import Fraction

from . import params
from .errors import Refused

FURTHEST = 1 << 20


@dataclass(frozen=True)
class Policy:
    aggregator_key: bytes
    authority_key: bytes
    cohort_min: int = 2
    gamma_min: int = 50_000
    delta_max: int = 100_000
    sigma_min: int = 80
    eta_min: int = 30
    wrap_bits_min: int = 40
    noise_multiplier_min: float = 0.0
    clip_max: float = 2.0**52
    dp_delta_max: float = 1e-5
    smallest_sum_min: int = 2
    budget_epsilon: float | None = None
    budget_delta: float = 1e-5
    layout: bytes | None = None
    model_hash: bytes | None = None
    vector_len: int | None = None
    weight_max: int | None = None
    window_max: int = 86_400 * 1_000              # milliseconds
    clock_apart: int = 600 * 1_000_000            # microseconds
    roster_deadline: int = 120 * 1_000_000        # microseconds
    group_cover: Fraction | None = None           # rho of R-07; None: gamma is assumed for every roster
    group_corrupt: Fraction = Fraction(1, 20)

    def check_header(self, h):
        """The floors of step 4."""
        floors = (
            (h.gamma >= self.gamma_min, "gamma"),
            (h.sigma >= self.sigma_min, "sigma"),
            (h.eta >= self.eta_min, "eta"),
            (h.cohort_min >= self.cohort_min, "cohort_min"),
            (h.wrap_bits >= self.wrap_bits_min, "wrap_bits"),
            (h.fewest(h.roster_min) >= self.smallest_sum_min, "the smallest permitted sum"),
            (h.clip <= self.clip_max, "clip"),
            (h.dp_delta <= self.dp_delta_max, "dp_delta"),
            (h.delta <= self.delta_max, "delta"),
            (max(h.windows) <= self.window_max, "the longest window"),
            (h.max_squared_norm <= params.default_squared_norm(h.clip, h.scale, h.vector_len), "max_squared_norm"),
            (h.noise_multiplier_at_least(self.noise_multiplier_min), "noise multiplier"),
            (self.layout is None or h.layout_hash == self.layout, "layout hash"),
            (self.model_hash is None or h.model_hash == self.model_hash, "model hash"),
            (self.vector_len is None or h.vector_len == self.vector_len, "vector_len"),
            (self.weight_max is None or h.weight_max == self.weight_max, "weight_max"),
        )
        for holds, what in floors:
            if not holds:
                raise Refused("below the policy's floor: " + what, "R-02")

    def check_counter(self, counter, last):
        if not last < counter <= last + FURTHEST:
            raise Refused(f"counter {counter} after {last}", "R-02")

    def check_clock(self, opened_at, now):
        if abs(opened_at - now) > self.clock_apart:
            raise Refused("opened_at is too far from the clock", "R-02")

    def check_group(self, leaves, n, gamma):
        """R-07 over the opened leaves: one group, covered by the roster, and gamma fits, in exact fractions.

        Without a group cover the policy says "assumed: at most gamma of every roster is corrupt".
        """
        if self.group_cover is None:
            return
        groups = {(x.certificate.group, x.certificate.group_size) for x in leaves}
        if len(groups) != 1:
            raise Refused("leaves of several groups", "R-07")
        size = groups.pop()[1]
        cover = Fraction(self.group_cover)
        if n < cover * size:
            raise Refused("the roster does not cover the group", "R-07")
        if Fraction(gamma, 1_000_000) < Fraction(self.group_corrupt) / cover:
            raise Refused("gamma is below the group's corrupt fraction over its cover", "R-07")
