"""Whole rounds in memory, from a seed: clients that vanish, clients that lie (for tests and vectors)."""

import hashlib

import numpy as np

from . import certificate, ed25519, merkle, params, ring
from .aggregator import PHASES, Aggregator
from .encoding import ZERO32
from .errors import Refused
from .header import Header
from .journal import Journal
from .participant import Identity, Participant
from .policy import Policy
from .rng import Seeded

OPENED_AT = 1_760_000_000_000_000
SECOND = 1_000_000


def seed_of(*names):
    return hashlib.sha256("/".join(map(str, names)).encode()).digest()


def make_header(seed, n, *, vector_len=16, clip=2.0, scale=64.0, multiplier=0.0, delta=100_000, gamma=50_000,
                weight_max=0, cohort_min=None, roster_min=None, counter=1, wrap_bits=40, **changes):
    """A header of a task of n clients, with default bound and least ring bits."""
    roster_min = n if roster_min is None else roster_min
    cohort_min = params.default_cohort_min(roster_min, delta) if cohort_min is None else cohort_min
    norm = params.default_squared_norm(clip, scale, vector_len)
    variance = int(np.ceil((multiplier * clip * scale) ** 2))
    values = dict(
        suite=1, task=seed_of(seed, "task")[:16], counter=counter, opened_at=OPENED_AT,
        aggregator_key=ed25519.public_key(seed_of(seed, "aggregator")),
        authority_key=ed25519.public_key(seed_of(seed, "authority")),
        revocation_number=0, revocation_digest=ZERO32, model_hash=seed_of(seed, "model"), log_size=0,
        log_root=merkle.root_of_hashes([]), layout_hash=seed_of(seed, "layout"), vector_len=vector_len,
        weight_max=weight_max, ring_bits=0, wrap_bits=wrap_bits, max_squared_norm=norm, scale=scale, clip=clip,
        total_variance=variance, roster_min=roster_min, roster_max=n, cohort_min=cohort_min, gamma=gamma, delta=delta,
        sigma=80, eta=30, dp_delta=1e-5, windows=(1000,) * 7)
    values["ring_bits"] = params.least_r(roster_min, n, norm, variance, cohort_min, gamma, delta, wrap_bits)
    values.update(changes)
    return Header(**values)


def enrol(seed, i, not_before=OPENED_AT - 3600 * SECOND, life=7 * 24 * 3600 * SECOND, group=0, group_size=1):
    """The i-th client's identity."""
    client = seed_of(seed, "client", i)[:16]
    secret = seed_of(seed, "identity", i)
    cert = certificate.Certificate(client, ed25519.public_key(secret), group, group_size, not_before,
                                   not_before + life)
    return Identity(client, secret, cert.issue(seed_of(seed, "authority")))


class Play:
    """One round. `lost` maps client numbers to the phase from which they are silent; `lie(play, phase, i, message)`
    may replace what a client sends (None: silence)."""

    def __init__(self, seed, header, count, *, vectors=None, weights=None, lost=None, lie=None, policy=None,
                 log_=None, elements=None):
        self.seed, self.header = seed, header
        self.authority_seed = seed_of(seed, "authority")
        self.lost, self.lie = lost or {}, lie or (lambda play, phase, i, message: message)
        self.aggregator = Aggregator(seed_of(seed, "aggregator"), header, Seeded(f"{seed}/service"), log_)
        self.policy = policy or Policy(header.aggregator_key, header.authority_key, cohort_min=header.cohort_min,
                                       gamma_min=header.gamma, delta_max=header.delta,
                                       wrap_bits_min=header.wrap_bits)
        self.identities = [enrol(seed, i) for i in range(count)]
        clock = lambda: OPENED_AT + SECOND                                      # noqa: E731
        self.clients = [Participant(x, self.policy, Journal(), Seeded(f"{seed}/client/{i}"), now=clock)
                        for i, x in enumerate(self.identities)]
        for i, c in enumerate(self.clients):
            c.number = i
        rng = np.random.default_rng(int.from_bytes(seed_of(seed, "vectors")[:8], "little"))
        d = header.vector_len - (1 if header.weight_max else 0)
        self.vectors = vectors if vectors is not None else [
            (rng.standard_normal(d) * header.clip / max(1.0, d**0.5)).astype(np.float32) for _ in range(count)]
        self.weights, self.elements = weights, elements
        self.answers = []                        # (phase, client number, status, rule)
        self.refused = {}                        # client number -> Refused
        self.wire = []                           # every message in order: (kind, who, bytes)
        self.mean = {}

    def silent(self, i, phase):
        return i in self.refused or i in self.lost and PHASES.index(phase) >= PHASES.index(self.lost[i])

    def send(self, phase, i, message):
        message = self.lie(self, phase, i, message)
        for body in message if isinstance(message, list) else [message]:
            if body is None:
                continue
            status, rule, word = self.aggregator.put(phase, self.identities[i].client, body)
            self.wire.append((phase, i, body, status))
            self.answers.append((phase, i, status, rule, word))

    def act(self, phase, i, step):
        """Runs one client's step of a phase and sends what comes of it."""
        if self.silent(i, phase):
            return
        try:
            message = step(self.clients[i])
        except Refused as error:
            self.refused[i] = error
            return
        if message is not None:
            self.send(phase, i, message)

    def everyone(self, phase, step):
        for i in range(len(self.clients)):
            self.act(phase, i, step)
        if self.aggregator.over is None:
            self.aggregator.close()

    def run(self):
        a = self.aggregator
        self.everyone("advertise", lambda c: c.advertise(a.header_raw))
        steps = (
            ("share", lambda c: c.read_leaves(a.serve_leaves(c.read_roster(a.roster_raw)))),
            ("acknowledge", lambda c: c.read_mail(a.serve_mail(c.identity.client))),
            ("open", lambda c: c.read_complaints(a.serve_complaints(c.identity.client))),
            ("mask", self._mask),
            ("confirm", lambda c: c.read_survivors(a.survivors_raw, a.serve_uploads(c.identity.client))),
            ("unmask", lambda c: c.read_confirmations(a.serve_confirmations())),
        )
        for phase, step in steps:
            if a.over is not None:
                break
            if PHASES[a.phase] != phase:                    # the open phase is skipped
                continue
            self.everyone(phase, step)
        if a.result_raw is not None:
            for i, c in enumerate(self.clients):
                if not self.silent(i, "unmask"):
                    self.result, self.mean[i] = c.read_result(a.result_raw)
        return self

    def _mask(self, c):
        a, i = self.aggregator, c.number
        c.read_core(a.core_raw, a.serve_openings(c.identity.client) if c.complained() else None)
        if self.elements is not None:
            return c.mask_ring_element(self.elements[i])
        return c.mask(self.vectors[i], None if self.weights is None else self.weights[i])

    def plain_sum(self):
        """The sum of the survivors' noised vectors, in the ring."""
        h = self.header
        total = ring.reduce([0] * h.vector_len, h.ring_bits)
        for c in self.clients:
            if getattr(c, "me", None) in set(self.aggregator.survivors):
                total = total + ring.unpack(c.noised, h.vector_len, h.ring_bits)
        return total & ring.modulus_mask(h.ring_bits)
