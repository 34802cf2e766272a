"""Tests of the second implementation: RFC vectors, known answers, independent tables, whole rounds, vectors on disk.

    python3 tests/reference/test_reference.py            all but the slow rows and the live service
    SLOW=1 python3 tests/reference/test_reference.py     rows of the graph tables up to n = 10,000, not 2,000
    VEILSUM=target/release/veilsum python3 …             also rounds against that program
"""

import csv
import json
import math
import os
import sys
import tempfile
import unittest
from dataclasses import replace
from fractions import Fraction

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import make_vectors  # noqa: E402
from test_live import Demo, Live, Mixed  # noqa: E402, F401
from veilsum_ref import (core, ed25519, edwards, encoding, graph, kdf, low_degree, merkle, noise, params,  # noqa: E402
                         privacy, ring, ristretto, shamir, simulate, statement, update, x25519)
from veilsum_ref.errors import Refused  # noqa: E402
from veilsum_ref.header import WINDOWS  # noqa: E402
from veilsum_ref.journal import FileJournal, Journal  # noqa: E402
from veilsum_ref.rng import Os, Seeded  # noqa: E402

SLOW = bool(os.environ.get("SLOW"))


def table(*path):
    with open(os.path.join(HERE, *path), encoding="ascii") as f:
        return list(csv.DictReader(f))


class Rfc(unittest.TestCase):
    def test_ristretto_multiples(self):
        """RFC 9496 A.1."""
        expected = """0000000000000000000000000000000000000000000000000000000000000000
            e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76
            6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919
            94741f5d5d52755ece4f23f044ee27d5d1ea1e2bd196b462166b16152a9d0259
            da80862773358b466ffadfe0b3293ab3d9fd53c5ea6c955358f568322daf6a57
            e882b131016b52c1d3337080187cf768423efccbb517bb495ab812c4160ff44e
            f64746d3c92b13050ed8d80236a7f0007c3b3f962f5ba793d19a601ebb1df403
            44f53520926ec81fbd5a387845beb7df85a96a24ece18738bdcfa6a7822a176d
            903293d8f2287ebe10e2374dc1a53e0bc887e592699f02d077d5263cdd55601c
            02622ace8f7303a31cafc63f8fc48fdc16e1c8c8d234b2f0d6685282a9076031
            20706fd788b2720a1ed2a5dad4952b01f413bcf0e7564de8cdc816689e2db95f
            bce83f8ba5dd2fa572864c24ba1810f9522bc6004afe95877ac73241cafdab42
            e4549ee16b9aa03099ca208c67adafcafa4c3f3e4e5303de6026e3ca8ff84460
            aa52e000df2e16f55fb1032fc33bc42742dad6bd5a8fc0be0167436c5948501f
            46376b80f409b29dc2b5f6f0c52591990896e5716f41477cd30085ab7f10301e
            e0c418f7c8d9c4cdd7395b93ea124f3ad99021bb681dfc3302a9d99a2e53e64e""".split()
        for i, hexed in enumerate(expected):
            self.assertEqual(ristretto.times_base(i).hex(), hexed)
            self.assertEqual(ristretto.encode(edwards.mul(i, edwards.BASE)).hex(), hexed)
            point = ristretto.decode(bytes.fromhex(hexed))
            self.assertEqual(ristretto.encode(point).hex(), hexed)

    def test_ristretto_refused(self):
        """RFC 9496 A.2."""
        count = 0
        for kind, text in make_vectors.RISTRETTO_BAD.items():
            for hexed in text.split():
                if kind != "identity":
                    self.assertIsNone(ristretto.decode(bytes.fromhex(hexed)), hexed)
                with self.assertRaises(Refused):
                    ristretto.point(bytes.fromhex(hexed))
                count += 1
        self.assertEqual(count, 30)

    def test_group_laws(self):
        for i in range(5):
            a, b = (int.from_bytes(encoding.H(b"laws", bytes([i, x])), "little") % edwards.L for x in (0, 1))
            A, B = ristretto.times_base(a), ristretto.times_base(b)
            self.assertEqual(ristretto.times(b, A), ristretto.times(a, B))
            self.assertEqual(ristretto.encode(edwards.add(ristretto.point(A), ristretto.point(B))),
                             ristretto.times_base(a + b))
        self.assertTrue(ristretto.is_identity(edwards.mul_base(edwards.L)))

    def test_ed25519(self):
        """RFC 8032 7.1."""
        for seed, public, message, signature in (
                ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                 "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
                 "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
                 "d25bf5f0595bbe24655141438e7a100b"),
                ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                 "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
                 "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
                 "387b2eaeb4302aeeb00d291612bb0c00")):
            seed, message = bytes.fromhex(seed), bytes.fromhex(message)
            self.assertEqual(ed25519.public_key(seed).hex(), public)
            self.assertEqual(ed25519.sign(seed, message).hex(), signature)
            self.assertTrue(ed25519.verify(bytes.fromhex(public), message, bytes.fromhex(signature)))

    def test_ed25519_against_a_library(self):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        for i in range(5):
            seed, message = encoding.H(b"seed", bytes([i])), b"m" * i
            key = Ed25519PrivateKey.from_private_bytes(seed)
            self.assertEqual(key.public_key().public_bytes_raw(), ed25519.public_key(seed))
            self.assertEqual(key.sign(message), ed25519.sign(seed, message))

    def test_x25519(self):
        """RFC 7748 6.1."""
        a = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
        b = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
        self.assertEqual(x25519.public(a).hex(), "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
        shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
        self.assertEqual(x25519.agree(a, x25519.public(b)).hex(), shared)
        self.assertEqual(x25519.agree(b, x25519.public(a)).hex(), shared)
        for raw in x25519.SMALL_ORDER:
            with self.assertRaises(Refused):
                x25519.agree(b, raw)

    def test_hkdf(self):
        """RFC 5869 A.1."""
        okm = kdf.hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xf0, 0xfa)), 42)
        self.assertEqual(okm.hex(), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")

    def test_consistency_of_every_small_tree(self):
        hashes = [merkle.leaf_hash(bytes([i])) for i in range(20)]
        roots = [merkle.root_of_hashes(hashes[:i]) for i in range(21)]
        for b in range(1, 21):
            for a in range(1, b + 1):
                proof = merkle.consistency(a, hashes[:b])
                self.assertTrue(merkle.check_consistency(a, roots[a], b, roots[b], proof))
                self.assertFalse(merkle.check_consistency(a, roots[a - 1], b, roots[b], proof))
                for i in range(len(proof)):
                    bent = proof[:i] + [merkle.leaf_hash(b"x")] + proof[i + 1:]
                    self.assertFalse(merkle.check_consistency(a, roots[a], b, roots[b], bent))
        # RFC 6962's own examples of paths: 7 leaves
        self.assertEqual([merkle.path_length(i, 7) for i in range(7)], [3, 3, 3, 3, 3, 3, 2])


class KnownAnswers(unittest.TestCase):
    """Wire 12."""
    R, K, X = bytes(range(32)), b"\xc0" * 32, b"\xcc" * 32
    one, two = b"\1" * 16, b"\2" * 16

    def test_ring_order(self):
        self.assertEqual(graph.ring_hash(self.R, 0).hex(),
                         "0a60b5c07340dc70a1d139375a406dadce1ef4f82af020e31b8e226bf06c373a")
        self.assertEqual(graph.ring_order(self.R, 8), [0, 4, 1, 6, 2, 5, 7, 3])
        self.assertEqual(graph.Graph(self.R, 8, 4).neighbours(0), [7, 3, 4, 1])
        self.assertEqual(graph.Graph(self.R, 8, 7).neighbours(4), [0, 1, 6, 2, 5, 7, 3])

    def test_low_degree(self):
        self.assertEqual(low_degree.expand(self.R, 0),
                         6884261774131976801542909879120181028499023501652417842954206175270048254051)

    def test_keys(self):
        key = kdf.self_key(b"\7" + bytes(31), self.R, self.K, self.one, self.X)
        self.assertEqual(key.hex(), "78572ac3bd4d067dae82c02145d41f3d")
        self.assertEqual(len(kdf.self_info(self.K, self.one, self.X)), 85)
        self.assertEqual(ring.keystream(key, 32).hex(), "b11026989f368dbd0fd74189fb3c9d56e3a5afa8caca2c7a00a6d519d388cdb7")
        self.assertEqual(list(ring.mask(key, 6, 16)), [4273, 38950, 13983, 48525, 55055, 35137])
        self.assertEqual(list(ring.mask(key, 6, 20)), [397489, 653698, 888118, 880891, 756033, 644047])
        args = (b"\x77" * 32, self.R, self.K, self.one, self.two, b"\x51" * 32, b"\x52" * 32, self.X)
        self.assertEqual(kdf.pair_key(*args).hex(), "3f5028cbb0b811f0b71262ebf325d9c8")
        self.assertEqual(len(kdf.pair_info(*args[2:])), 165)
        args = (b"\x77" * 32, self.R, self.one, self.two, b"\x61" * 32, b"\x62" * 32)
        self.assertEqual(kdf.mail_key(*args).hex(), "084349c83c0f3d9d317397ff86678edc491bb58f45204900fb9d1ac9aceec98b")
        self.assertEqual(len(kdf.mail_info(*args[2:])), 117)

    def test_packing(self):
        self.assertEqual(ring.pack(np.array([1, 1048575, 74565], np.uint64), 20).hex(), "0100f0ffff452301")

    def test_statement(self):
        s = statement.Statement("veilsum/1/confirm", self.X, self.R, self.one)
        self.assertEqual(s.encode().hex(), "117665696c73756d2f312f636f6e6669726d0100" + "cc" * 32 + self.R.hex() + "01" * 16
                         + "00" * 20)
        self.assertEqual(s.root().hex(), "9750a1ad13088a77e1b4c26182ecd922c27ad6008de070270947fe356a528965")
        self.assertEqual(encoding.key_id(b"\xa9" * 32).hex(), "deb1be905612fd9174f9d8fa47a026b1")

    def test_tree(self):
        self.assertEqual(merkle.root([encoding.u32(i) for i in range(5)]).hex(),
                         "189d49226fdabb0c4749d023934679e8cf3125d49bc51a0d9c369d66ce335f0e")
        self.assertEqual([merkle.path_length(i, 5) for i in range(5)], [3, 3, 3, 3, 1])

    def test_examples_of_the_text(self):
        """Protocol 3.2, 10.3."""
        for n, delta, c, T, k, t in ((64, 250_000, 4, 16, 38, 22), (64, 100_000, 4, 6, 18, 12), (1000, 100_000, 50, 100, 108, 73),
                                     (10_000, 100_000, 500, 1000, 140, 95)):
            self.assertEqual((params.ceil_gamma(50_000, n), params.floor_delta(delta, n)), (c, T))
            self.assertEqual(params.degree_threshold(n, c, T, 80, 30)[:2], (k, t))
        self.assertEqual(params.default_squared_norm(2.0, 165.0, 1862), 109_717)
        h = params.honest(48, 64, 50_000, 250_000)
        self.assertEqual((h, params.share_variance(1_742_400, h)), (44, 39_600))
        self.assertEqual(params.least_r(64, 64, 109_717, 1_742_400, 48, 50_000, 250_000, 40), 16)
        one = privacy.curve(109_717, 1862, 1_742_400)
        twelve = one
        for _ in range(11):
            twelve = privacy.compose(twelve, one)
        for curve, expected, order in ((one, 1.0168, 18), (twelve, 4.0288, 6)):
            epsilon, best = privacy.epsilon(curve, 1e-5)
            self.assertEqual((round(epsilon, 4), best), (expected, order))

    def test_sizes_of_the_text(self):
        """Wire 11."""
        for n, k, t, d, r, roster, share, mail, ack, core_, masked in (
                (64, 38, 22, 1862, 16, 3331, 5838, {464, 496, 528, 560}, 262, 197, 3947),
                (1000, 108, 73, 1_000_000, 20, 48_259, 16_198, {528, 560, 592}, 332, 314, 2_500_223)):
            self.assertEqual(259 + 48 * n, roster)
            self.assertEqual(214 + 148 * k, share)
            lengths = {368 + 32 * merkle.path_length(p, k) for p in range(k)}
            self.assertTrue(lengths <= mail and {min(mail), max(mail)} <= lengths)
            self.assertEqual(224 + k, ack)
            self.assertEqual(189 + (n + 7) // 8, core_)
            self.assertEqual(223 + ring.packed_length(d, r), masked)


class Tables(unittest.TestCase):
    def graph_rows(self, name):
        for row in table("graph", name):
            if row["model"] == "semi_malicious" and int(row["n"]) <= (10_000 if SLOW else 2000):
                yield row

    def compare(self, row):
        n, c, d, sigma, eta = (int(row[x]) for x in ("n", "c", "d", "sigma", "eta"))
        found = params.degree_threshold(n, c, d, sigma, eta)
        if row["graph"] == "infeasible":
            self.assertIsNone(found, row)
            return
        k, t, complete = found
        self.assertEqual((k, t, complete), (int(row["k"]), int(row["t_min"]), row["graph"] == "complete"), row)
        if not complete:
            for name, value in (("log2_pA", params.log2_a(n, c, k, t)), ("log2_pB", params.log2_b(n, k, min(n, c + d))),
                                ("log2_pC", params.log2_c(n, d, k, t))):
                expected = float(row[name])
                self.assertTrue(value == expected or abs(value - expected) < 1e-5, (row, name, value))

    def test_degree_threshold(self):
        count = 0
        for name in ("graph_params_protocol_public.csv", "graph_params_public.csv"):
            for row in self.graph_rows(name):
                self.compare(row)
                count += 1
        self.assertGreater(count, 500)

    def test_degree_threshold_in_integers(self):
        """binary64 with exact ties against integers throughout."""
        for n in (3, 4, 5, 8, 12, 20, 33, 64):
            for c in range(0, n // 3 + 1):
                for d in range(0, n // 3 + 1, max(1, n // 12)):
                    self.assertEqual(params.degree_threshold(n, c, d, 40, 20), params.degree_threshold_exact(n, c, d, 40, 20),
                                     (n, c, d))

    def test_counts(self):
        """c and d of the protocol's table are ceil(gamma n) and floor(delta n)."""
        for row in table("graph", "graph_params_protocol_public.csv"):
            n = int(row["n"])
            gamma, delta = (int(Fraction(row[x]) * 1_000_000) for x in ("gamma", "delta"))
            self.assertEqual((params.ceil_gamma(gamma, n), params.floor_delta(delta, n)), (int(row["c"]), int(row["d"])))

    def test_skellam_accounting(self):
        count = 0
        for row in table("privacy", "distributed_bounds_public.csv"):
            if row["mechanism"] != "skellam" or float(row["sampling_q"]) != 1.0:
                continue
            d2, d1, mu = float(row["l2_sens_int"]), float(row["l1_sens_int"]), float(row["central_sigma_int"]) ** 2
            for order in (2, 8, 32, 128):
                expected = float(row[f"rdp_alpha{order}"])
                self.assertLess(abs(privacy.rdp(order, d2, d1, mu) / expected - 1), 1e-9, row["id"])
            orders = [a for a in privacy.ORDERS if a <= 256]
            rounds = int(row["rounds"])
            curve = tuple(rounds * privacy.rdp(a, d2, d1, mu) if a in orders else math.inf for a in privacy.ORDERS)
            epsilon, best = privacy.epsilon(tuple(x if x < math.inf else 1e300 for x in curve), float(row["delta"]))
            self.assertLess(abs(epsilon / float(row["eps_bound"]) - 1), 1e-9, row["id"])
            self.assertEqual(best, int(row["best_order"]), row["id"])
            count += 1
        self.assertGreater(count, 20)

    def test_upward(self):
        """The curve with directed rounding is above the exact one, and by little."""
        for norm, d, mu in ((109_717, 1862, 1_742_400), (1, 1, 1), (2**40, 10**6, 2**50)):
            up = privacy.curve(norm, d, mu)
            for a, value in zip(privacy.ORDERS, up):
                # RDP(a) in exact fractions, with square roots from below
                root = Fraction(math.isqrt(norm * 10**40), 10**20)
                rest = min(Fraction(math.isqrt(d * 10**40), 10**20), root)
                d1 = root * rest
                exact = Fraction(a * norm, 2 * mu) + min(((2 * a - 1) * norm + 6 * d1) / Fraction(4 * mu * mu), 3 * d1 / (2 * mu))
                self.assertGreaterEqual(Fraction(value), exact)
                self.assertLess(value / float(exact), 1 + 1e-12)

    def test_rounding_bounds(self):
        count = 0
        for row in table("privacy", "rounding_public.csv"):
            if abs(float(row["beta"]) - math.exp(-0.5)) > 1e-9:
                continue
            found = params.default_squared_norm(float(row["scaled_clip"]), 1.0, int(row["dim"]))
            self.assertEqual(found, int(row["max_integer_squared_norm"]), row)
            count += 1
        self.assertGreater(count, 5)

    def test_skellam_law(self):
        tables = {}
        count = 0
        for row in table("privacy", "sampler_pmf_public.csv"):
            if row["distribution"] != "skellam(variance)":
                continue
            v = Fraction(row["param"])
            if v.denominator != 1:
                continue                         # variances are integers here
            v = int(v)
            if v not in tables:
                tables[v] = noise.pmf_table(v)
            p = tables[v]

            def mass(x):
                return p[abs(x)] if abs(x) < len(p) else 0
            lo = -len(p) if row["lo"] == "-inf" else int(row["lo"])
            hi = len(p) if row["hi"] == "inf" else int(row["hi"])
            value = sum(mass(x) for x in range(lo, hi + 1)) / 2.0**320
            self.assertLess(abs(value - float(row["prob"])), 1e-15 + 1e-12 * float(row["prob"]), row)
            count += 1
        self.assertGreater(count, 50)


class Noise(unittest.TestCase):
    def test_table_is_a_law(self):
        for v in (1, 2, 17, 39_600, 10**6):
            table_ = noise.pmf_table(v)
            total = table_[0] + 2 * sum(table_[1:])
            self.assertLess(abs(total - (1 << 320)), 1 << 32)
            variance = 2 * sum(x * x * p for x, p in enumerate(table_)) / (1 << 320)
            self.assertAlmostEqual(variance / v, 1, places=9)
            c = noise.cumulative(v)
            self.assertEqual(c[-1], 1 << 127)
            self.assertTrue(all(a <= b for a, b in zip(c, c[1:])))
            # what the table leaves out (protocol 6.3: at most 2^-100 per draw)
            tail = (1 << 320) - table_[0] - 2 * sum(table_[1:len(c)])
            self.assertLess(tail + len(c) * (1 << 193), 1 << 220)

    def test_draws(self):
        v, m = 39_600, 40_000
        x = noise.skellam(v, m, Seeded("draws"))
        self.assertLess(abs(float(x.mean())), 6 * math.sqrt(v / m))
        self.assertLess(abs(float(x.var()) / v - 1), 6 * math.sqrt(2 / m))
        self.assertEqual(list(noise.skellam(0, 3, Os())), [0, 0, 0])
        x = noise.skellam(1, 20_000, Seeded("one"))
        p0 = float((x == 0).mean())
        self.assertLess(abs(p0 - noise.pmf_table(1)[0] / 2**320), 0.02)

    def test_inversion_in_integers(self):
        """numpy's search against a plain one, ties of the leading bits included."""
        table_ = noise.cumulative(5)

        class Fixed:
            def __init__(self, words):
                self.words = words

            def bytes(self, n):
                return np.array(self.words, "<u8").tobytes()

        words, expected = [], []
        for c in table_[:-1]:
            for u in (c - 1, c, c + 1):
                words += [(u & (1 << 63) - 1) << 1, u >> 63]
                expected.append(sum(x <= u for x in table_))
        self.assertEqual(list(noise.skellam(5, len(expected), Fixed(words))), expected)


class Parts(unittest.TestCase):
    def test_core_does_not_depend_on_the_order(self):
        import random
        rng = random.Random(1)
        for _ in range(30):
            n = rng.choice((9, 20, 41))
            k = rng.choice((4, 6, 8))
            t = rng.randrange(2, k + 1)
            g = graph.Graph(os.urandom(32), n, k)
            start = [i for i in range(n) if rng.random() < 0.8]
            inside = set(start)
            order = list(range(n))
            while True:                                     # one at a time, in any order
                rng.shuffle(order)
                weak = next((i for i in order if i in inside and sum(j in inside for j in g.neighbours(i)) < t), None)
                if weak is None:
                    break
                inside.discard(weak)
            self.assertEqual(core.compute(g, t, start), sorted(inside))

    def test_neighbours_are_mutual(self):
        for n, k in ((5, 2), (5, 4), (16, 6), (9, 8)):
            g = graph.Graph(os.urandom(32), n, k)
            for i in range(n):
                around = g.neighbours(i)
                self.assertEqual(len(set(around)), k)
                self.assertTrue(all(i in g.neighbours(j) for j in around))

    def test_shamir(self):
        rng = Os()
        secret = rng.secret()
        coefficients, shares = shamir.deal(secret, 4, [0, 3, 5, 9, 200], rng.coefficient)
        self.assertEqual(len(coefficients), 4)
        for leave in shares:
            self.assertEqual(shamir.rebuild([x for x in shares.items() if x[0] != leave]), secret)
        with self.assertRaises(ValueError):
            shamir.rebuild([(1, 5), (1, 5)])
        # a share of 0 is drawn again
        draws = iter([edwards.L - 1, 7])
        self.assertEqual(shamir.deal(1, 2, [0], lambda: next(draws)), ([1, 7], {0: 8}))

    def test_packing_at_every_width(self):
        rng = np.random.default_rng(1)
        for r in range(8, 65):
            x = rng.integers(0, 2**63, 1000, np.uint64) * np.uint64(2) & ring.modulus_mask(r)
            packed = ring.pack(x, r)
            self.assertEqual(len(packed), ring.packed_length(1000, r))
            self.assertTrue(np.array_equal(ring.unpack(packed, 1000, r), x))
            value = int.from_bytes(packed, "little")
            self.assertEqual([value >> r * i & (1 << r) - 1 for i in range(5)], [int(v) for v in x[:5]])
        x = rng.integers(0, 2**20, 200_000, np.uint64)
        self.assertTrue(np.array_equal(ring.unpack(ring.pack(x, 20), 200_000, 20), x))

    def test_rounding(self):
        head = simulate.make_header("r", 8, vector_len=40)
        y = update.scaled(np.full(40, 0.3, np.float32), head)
        rng = Seeded("rounding")
        total = np.zeros(40)
        for _ in range(200):
            z, tries = update.round_conditionally(y, head.max_squared_norm, rng)
            self.assertLessEqual(update.squared_norm(z), head.max_squared_norm)
            total += z
        self.assertLess(np.abs(total / 200 - y).max(), 0.2)
        y = np.tile([3.9999, -3.9999], 50)
        z, tries = update.round_conditionally(y, 900, rng)                        # only truncation fits
        self.assertEqual((list(z), tries), ([3, -3] * 50, None))
        z, tries = update.round_conditionally(y, 899, rng)
        self.assertEqual((list(z), tries), ([0] * 100, None))
        for bad in (float("nan"), float("inf")):
            with self.assertRaises(Refused):
                update.clip([1.0, bad], 1.0)
        self.assertEqual(list(update.clip(np.zeros(3, np.float32), 1.0)), [0, 0, 0])


class Journals(unittest.TestCase):
    def test_write_once(self):
        task = bytes(16)
        for journal in (Journal(), None):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "journal")
                key = bytes(range(32))
                journal = journal or FileJournal(path, key)
                journal.write(task, 1, "header", {"s": "secret", "x": 1})
                with self.assertRaises(Refused):
                    journal.write(task, 1, "header", {"x": 2})
                journal.write(task, 1, "upload", {"charge": [(0.5).hex()]})
                journal.erase(task, 1, "s")
                self.assertEqual(journal.slot(task, 1, "header"), {"x": 1})
                journal.remember("a", [1, "b"])
                journal.remember("a", [2, "b"])
                self.assertEqual(journal.unfinished(), [(task, 1)])
                journal.write(task, 1, "abort", {"why": "test"})
                with self.assertRaises(Refused):
                    journal.write(task, 1, "answer", {})
                self.assertEqual((journal.last_counter(task), journal.last_counter(bytes(15) + b"1"), journal.unfinished()),
                                 (1, 0, []))
                if isinstance(journal, FileJournal):
                    self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
                    with open(path, encoding="ascii") as f:
                        self.assertNotIn("secret", f.read())
                    with self.assertRaises(Refused):
                        FileJournal(path, key)                       # locked
                    journal.close()
                    with open(path, "a", encoding="ascii") as f:
                        f.write("torn")                              # a line that was never finished
                    again = FileJournal(path, key)
                    self.assertEqual(again.recall("a"), [2, "b"])
                    self.assertEqual(again.records, journal.records)
                    self.assertEqual(again.charges(), {(task, 1): (0.5,)})
                    again.close()
                    with self.assertRaises(Refused):
                        FileJournal(path, bytes(32))                 # another key


class Rounds(unittest.TestCase):
    """Whole rounds in memory."""

    def play(self, n, seed, lost=None, lie=None, count=None, **head):
        h = simulate.make_header(seed, n, **head)
        return simulate.Play(seed, h, count or n, lost=lost, lie=lie).run()

    def exact(self, p, survivors):
        self.assertEqual(p.aggregator.over, "published")
        self.assertEqual(p.result.count, survivors)
        self.assertTrue(np.array_equal(p.plain_sum(), p.result.total))

    def test_everybody(self):
        p = self.play(8, "t1", vector_len=2000, multiplier=1.0)
        self.exact(p, 8)
        self.assertEqual([x for x in p.answers if x[2] != 204], [])

    def test_noise_of_the_mean(self):
        p = self.play(6, "t2", vector_len=500, multiplier=0.0)
        self.exact(p, 6)
        exact = sum(p.vectors) / 6
        self.assertLess(np.abs(p.mean[0] - exact).max(), 1 / p.header.scale)

    def test_lost_at_every_phase(self):
        for phase in WINDOWS:
            head = dict(vector_len=5, delta=200_000, roster_min=8 if phase == "advertise" else 9, gamma=100_000)
            p = self.play(9, "t3" + phase, lost={4: phase}, **head)
            in_sum = phase in ("open", "confirm", "unmask")
            if phase == "open":                              # the open phase is skipped; silent from masking on
                in_sum = False
            self.exact(p, 9 if in_sum else 8)

    def test_weights(self):
        h = simulate.make_header("t4", 5, vector_len=9, weight_max=100, scale=4096.0)
        weights = [1.0, 100.0, 50.0, 3.5, 20.0]
        p = simulate.Play("t4", h, 5, weights=weights).run()
        self.exact(p, 5)
        mean = sum(w * update.clip(v, h.clip) for w, v in zip(weights, p.vectors)) / sum(weights)
        self.assertLess(np.abs(p.mean[0] - mean).max(), 0.005)

    def test_every_ring_width(self):
        for r in (16, 20, 33, 63, 64):
            p = self.play(4, f"t5{r}", vector_len=7, multiplier=1.0, ring_bits=r, gamma=50_000, delta=0)
            self.exact(p, 4)

    def test_complete_graph(self):
        p = self.play(5, "t6", lost={2: "mask"}, vector_len=5, delta=200_000, roster_min=5)
        self.assertEqual((p.aggregator.round.k, p.aggregator.round.t), (4, 3))
        self.exact(p, 4)

    def test_more_adverts_than_roster_max(self):
        h = simulate.make_header("t7", 5, vector_len=3, delta=0)
        p = simulate.Play("t7", h, 7).run()
        self.exact(p, 5)
        self.assertEqual(len(p.refused), 2)                  # those whom the lots left out

    def test_abandoned(self):
        for phase, word in (("share", "core-too-small"), ("acknowledge", "core-too-small"), ("mask", "too-few-survivors"),
                            ("confirm", "not-confirmed"), ("unmask", "not-opened")):
            p = self.play(6, "t8" + phase, lost={i: phase for i in (0, 1, 2, 3)}, vector_len=3, delta=200_000)
            self.assertEqual(p.aggregator.over, word)

    def test_ledger_of_the_log(self):
        """Reserved and spent, or lapsed (protocol 9)."""
        p = self.play(5, "t9", vector_len=3, multiplier=1.0, delta=0)
        self.assertEqual(p.aggregator.log.head()[0], 2 + 1 + 2 + 1 + 1)
        p = self.play(5, "t10", vector_len=3, multiplier=1.0, delta=0, lost={i: "share" for i in range(5)})
        self.assertEqual(p.aggregator.log.head()[0], 2 + 1 + 1)

    def test_a_second_round_extends_the_log(self):
        first = self.play(5, "t11", vector_len=3, multiplier=1.0, delta=0)
        size, root = first.aggregator.log.head()
        h = replace(first.header, counter=2, log_size=size, log_root=root)
        second = simulate.Play("t11", h, 5, log_=first.aggregator.log)
        for c, old in zip(second.clients, first.clients):
            c.journal = old.journal
        log = second.aggregator.log
        old_step = second.everyone

        def with_log(phase, step):
            if phase == "advertise":
                from veilsum_ref.log import encode_proof
                step = lambda c: c.advertise(second.aggregator.header_raw,                        # noqa: E731
                                             fetch_consistency=lambda a, b: encode_proof(log.consistency(a, b)))
            old_step(phase, step)
        second.everyone = with_log
        second.run()
        self.exact(second, 5)
        third = replace(h, counter=3, log_size=3, log_root=root)
        with self.assertRaises(Refused) as caught:
            first.clients[0].advertise(third.statement().signed(simulate.seed_of("t11", "aggregator")))
        self.assertEqual(caught.exception.rule, "R-33")

    def test_replay_is_refused(self):
        p = self.play(5, "t12", vector_len=3, delta=0)
        with self.assertRaises(Refused) as caught:
            p.clients[0].advertise(p.aggregator.header_raw)
        self.assertEqual(caught.exception.rule, "R-02")

    def test_deadline(self):
        h = simulate.make_header("t13", 5, vector_len=3, delta=0)
        p = simulate.Play("t13", h, 5)
        times = [simulate.OPENED_AT]
        c = p.clients[0]
        c.now = c.wall = lambda: times[0]
        for i, other in enumerate(p.clients):
            p.send("advertise", i, other.advertise(p.aggregator.header_raw))
        p.aggregator.close()
        times[0] += 120_000_001
        with self.assertRaises(Refused) as caught:
            c.read_roster(p.aggregator.roster_raw)
        self.assertEqual(caught.exception.rule, "R-08")
        self.assertIsNotNone(c.journal.slot(h.task, h.counter, "abort"))

    def test_groups(self):
        """R-07."""
        for cover, corrupt, refused in (("1/2", "1/50", False), ("1/2", "1/30", True), ("6/5", "1/50", True)):
            h = simulate.make_header("t16", 5, vector_len=3, delta=0)
            p = simulate.Play("t16", h, 5)
            p.identities = [simulate.enrol("t16", i, group=7, group_size=5) for i in range(5)]
            for c, x in zip(p.clients, p.identities):
                c.identity = x
                c.policy = replace(c.policy, group_cover=Fraction(cover), group_corrupt=Fraction(corrupt))
            p.run()
            self.assertEqual({e.rule for e in p.refused.values()}, {"R-07"} if refused else set())

    def test_secrets_are_erased(self):
        p = self.play(5, "t14", vector_len=3, delta=0)
        text = json.dumps(p.clients[0].journal.records)
        for field in ('"s"', '"b"', '"c"', '"shares"', '"received"', '"opened"'):
            self.assertNotIn(field + ":", text.replace(" ", ""))

    def test_second_statement(self):
        """R-02: the first valid core counts."""
        from veilsum_ref import core as core_
        h = simulate.make_header("t15", 8, vector_len=3, delta=200_000)
        p = simulate.Play("t15", h, 8)
        seen = []

        def mask(c):
            raw = p.aggregator.core_raw
            if c.number == 0:
                members = [i for i in range(8) if i != p.aggregator.round.graph.neighbours(c.me)[0]]
                other = core_.core_statement(p.aggregator.round, members).signed(p.aggregator.seed)
                c._first("core", statement.decode_any(other))
                try:
                    c.read_core(raw)
                except Refused as error:
                    seen.append(error.rule)
                    raise
            return p.__class__._mask(p, c)
        p._mask = mask
        p.run()
        self.assertEqual(seen, ["R-02"])
        self.assertEqual(len(p.clients[0].evidence), 1)


class Vectors(unittest.TestCase):
    def test_the_files_are_those_that_the_program_makes(self):
        made = make_vectors.build()
        folder = os.path.join(HERE, "..", "vectors", "v1")
        on_disk = {name[:-5] for name in os.listdir(folder) if name.endswith(".json")}
        self.assertEqual(on_disk, set(made))
        for name, text in made.items():
            with open(os.path.join(folder, name + ".json"), encoding="ascii") as f:
                self.assertEqual(f.read(), text, f"{name}.json: run make_vectors.py")


if __name__ == "__main__":
    unittest.main()
