"""Rounds over HTTP against the program that VEILSUM names: of client.py alone, and of it and `veilsum join` together.

test_reference.py takes these classes in; without VEILSUM they are skipped. Clients that are to be lost are lost by themselves
(client.py) or killed (the program); each costs the window of the phase it is missed in, and every other phase closes
because all came. Windows are long, for machines that have other things to do.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import numpy as np

from veilsum_ref import ring

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENT = [sys.executable, os.path.join(HERE, "client.py")]
LEN = 100
WITHIN = "240"                        # seconds for one client; far more than a round needs

TASK = """format = "veilsum-task-1"
name = "live"
rounds = 1000
invited = {n}
roster_min = {n_min}
roster_max = {n}
cohort_min = {cohort_min}
corrupt_fraction = 0.05
dropout_tolerance = {delta}
model_len = 100
layout = "0000000000000000000000000000000000000000000000000000000000000000"
clip_norm = 2.0
scale = {scale}
noise_multiplier = {noise}
budget_epsilon = 8.0
windows_ms = [120000, 8000, 8000, 8000, 8000, 8000, 8000]
grace_ms = 2000
server_rate = [1.0, 1.0]
"""

live = unittest.skipUnless(os.environ.get("VEILSUM"), "VEILSUM names no program")


def program():
    return os.path.abspath(os.environ["VEILSUM"])


class Served:
    """`veilsum serve` with one task in a folder of its own, and identities c0, c1, … by its authority."""

    def __init__(self, n, **task):
        self.n, self.task = n, TASK.format(n=n, **task)

    def run(self, *args):
        return subprocess.run([program(), *args], cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder, self.clients, self.service = self.temporary.name, [], None
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        key = self.run("authority", "init", "--dir", "authority").split('"')[1]
        for i in range(self.n):
            os.mkdir(self.path(f"c{i}"))
            self.run("authority", "enrol", "--dir", "authority", "--out", f"c{i}/identity.toml")
        ports = []
        for _ in range(2):
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                ports.append(s.getsockname()[1])
        with open(self.path("task.toml"), "w", encoding="ascii") as f:
            f.write(self.task)
        with open(self.path("veilsum.toml"), "w", encoding="ascii") as f:
            f.write(f'listen = "127.0.0.1:{ports[0]}"\noperations = "127.0.0.1:{ports[1]}"\ndata_dir = "data"\n'
                    f'authority_key = "{key}"\n[[tasks]]\nfile = "task.toml"\n')
        with open(self.path("service.log"), "wb") as log:
            self.service = subprocess.Popen([program(), "serve", "--config", "veilsum.toml"], cwd=self.folder, stdout=log,
                                            stderr=log)
        while not self.joins():
            if self.service.poll() is not None:
                raise AssertionError("the service ended: " + self.log())
            time.sleep(0.1)
        self.join = f"data/{self.joins()[0]}"

    def joins(self):
        data = self.path("data")
        return [x for x in os.listdir(data) if x.startswith("join-")] if os.path.isdir(data) else []

    def log(self):
        with open(self.path("service.log"), encoding="utf-8") as f:
            return f.read()

    def __exit__(self, *_):
        for process in [*self.clients, *filter(None, [self.service])]:
            if process.poll() is None:
                process.terminate()
            process.communicate()
        self.temporary.cleanup()

    def begin(self, command, i, *options):
        """Starts one client on its identity and vector."""
        process = subprocess.Popen(
            [*command, "--identity", f"c{i}/identity.toml", "--join", self.join, "--vector", f"c{i}/update.npy", "--out",
             f"c{i}/mean.npy", "--within", WITHIN, *options], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)
        self.clients.append(process)
        return process

    def python(self, i, *options):
        return self.begin(CLIENT, i, "--json", "--once", *options)

    def rust(self, i, *options):
        return self.begin([program(), "join"], i, "--state", f"c{i}/state", *options)

    def vector(self, i, values):
        np.save(self.path(f"c{i}", "update.npy"), values.astype(np.float32))

    def mean(self, i):
        return np.load(self.path(f"c{i}", "mean.npy"))

    def recorded(self, folder, kind):
        for name in sorted(os.listdir(self.path(folder))):
            if name.endswith("." + kind):
                with open(self.path(folder, name), "rb") as f:
                    yield f.read()


@live
class Live(unittest.TestCase):
    """Rounds of client.py, all clients in Python. The released sum is the plain sum of the noised vectors, bit for bit."""

    def test_rounds(self):
        with Served(6, n_min=5, cohort_min=4, delta=0.2, scale=165.0, noise=8.0) as served:
            for i in range(6):
                served.vector(i, np.random.default_rng(i).standard_normal(LEN) * 0.1)
            for name, lost, survivors in (("nobody lost", [], 6), ("lost after share", ["--dropout-after", "share"], 5),
                                          ("lost after acknowledge", ["--dropout-after", "acknowledge"], 5),
                                          ("lost after mask", ["--dropout-after", "mask"], 6),
                                          ("lost before unmask", ["--dropout-before", "unmask"], 6)):
                with self.subTest(name):
                    self.one(served, name.replace(" ", "-"), lost, survivors)

    def one(self, served, record, lost, survivors):
        clients = [served.python(i, "--record", record, *(lost if i == 5 else [])) for i in range(6)]
        outs = [c.communicate() for c in clients]
        reports = [json.loads(out) for out, _ in outs]
        self.assertEqual([r["code"] for r in reports], [0] * 6, (outs, served.log()))
        self.assertEqual({r["rounds"][0].get("survivors") for r in reports} - {None}, {survivors})
        sums = set(served.recorded(record, "sum"))
        self.assertEqual(len(sums), 1)
        packed = sums.pop()
        bits = len(packed) * 8 // LEN
        noised = list(served.recorded(record, "noised"))   # whoever was lost before its upload leaves none
        self.assertEqual(len(noised), survivors)
        total = sum(ring.unpack(x, LEN, bits) for x in noised) & ring.modulus_mask(bits)
        self.assertTrue(np.array_equal(total, ring.unpack(packed, LEN, bits)))


@live
class Mixed(unittest.TestCase):
    """One round of eight clients: four are `veilsum join`, four are client.py, each reading, checking, masking for and
    rebuilding the others'. Of eight, two may be lost; the graph is not complete (k = 6, t = 4)."""

    SCALE = 64
    PYTHON, RUST = (0, 1, 2, 3), (4, 5, 6, 7)

    def test_the_exact_sum_with_one_of_each_lost(self):
        """Without noise. A Python client is lost after its shares, and is not in the core; a Rust client is killed after its
        acknowledgement, and its masking secret is rebuilt from the shares that three of each kind hold."""
        with Served(8, n_min=8, cohort_min=6, delta=0.25, scale=float(self.SCALE), noise=0.0) as served:
            # Steps of 3 / scale: scaled values are whole, and so is a sixth of their sum in steps of 1 / (2 scale).
            steps = [np.random.default_rng(i).integers(-4, 5, LEN) * 3 for i in range(8)]
            for i, x in enumerate(steps):
                served.vector(i, x / self.SCALE)
            lost = (3, 7)
            clients = {i: served.python(i, "--record", "record", *(["--dropout-after", "share"] if i in lost else []))
                       for i in self.PYTHON}
            clients |= {i: served.rust(i, *(["--json"] if i not in lost else [])) for i in self.RUST}
            killed = threading.Thread(target=kill_after, args=(clients.pop(7), "sent: acknowledge"))
            killed.start()
            reports = self.ended(served, clients)
            killed.join()
            gone = reports.pop(3)
            self.assertEqual((gone["outcome"], gone["steps"]), ("vanished after share", ["advertise", "share"]))
            self.assertEqual(served.clients[-1].returncode, -signal.SIGKILL)
            self.agree(served, reports, 6)
            self.assertEqual({x["n"] - x["core"] for i, x in reports.items() if i in self.PYTHON}, {1})

            exact = sum(x for i, x in enumerate(steps) if i not in lost)
            self.assertTrue(np.any(exact))
            for i in reports:
                mean = served.mean(i)
                self.assertTrue(np.array_equal(mean * mean.dtype.type(6), exact / self.SCALE), i)
            # Without noise no charge is written (protocol 10.2), and what was not charged is not spent.
            self.assertEqual(self.same_epsilon(reports), 0.0)

    def test_one_result_and_one_epsilon_with_noise(self):
        """A Python client is lost after its upload: it is counted, and its self mask is rebuilt."""
        with Served(8, n_min=8, cohort_min=6, delta=0.25, scale=float(self.SCALE), noise=8.0) as served:
            for i in range(8):
                served.vector(i, np.random.default_rng(i).standard_normal(LEN) * 0.1)
            clients = {i: served.python(i, "--record", "record", *(["--dropout-after", "mask"] if i == 3 else []))
                       for i in self.PYTHON}
            clients |= {i: served.rust(i, "--json") for i in self.RUST}
            reports = self.ended(served, clients)
            self.assertEqual(reports.pop(3)["outcome"], "vanished after mask")
            self.agree(served, reports, 8)
            self.assertGreater(self.same_epsilon(reports), 0.1)

    def same_epsilon(self, reports):
        """What all say was spent. Each program rounds its own arithmetic upward; the documents leave the last digits open
        (decision 0012), so that between the two only 1e-12 of it is permitted, and within one of them nothing."""
        python, rust = ({x["epsilon_spent"] for i, x in reports.items() if i in kind} for kind in (self.PYTHON, self.RUST))
        self.assertEqual((len(python), len(rust)), (1, 1), (python, rust))
        one, other = python.pop(), rust.pop()
        self.assertLessEqual(abs(one - other), 1e-12 * other)
        return other

    def ended(self, served, clients):
        """The report of each client: of its one round."""
        outs = {i: c.communicate() for i, c in clients.items()}
        self.assertEqual({i: c.returncode for i, c in clients.items()}, dict.fromkeys(clients, 0), (outs, served.log()))
        said = {i: json.loads(out) for i, (out, _) in outs.items()}
        for i in self.PYTHON:
            self.assertEqual(len(said[i]["rounds"]), 1)
        return {i: x["rounds"][0] if i in self.PYTHON else x for i, x in said.items()}

    def agree(self, served, reports, survivors):
        """All saw one round, one list and one sum, and released it."""
        for key, value in (("outcome", "released"), ("survivors", survivors), ("counter", 1)):
            self.assertEqual({i: x[key] for i, x in reports.items()}, dict.fromkeys(reports, value))
        self.assertEqual(len({x["round"] for x in reports.values()}), 1)
        self.assertTrue(all(reports[i]["update_included"] for i in reports if i in self.RUST))
        sums = set(served.recorded("record", "sum"))       # the packed sum of the signed result, as Python clients took it
        self.assertEqual(len(sums), 1)
        packed = sums.pop()
        bits = len(packed) * 8 // LEN
        total = ring.centre(ring.unpack(packed, LEN, bits), bits)
        for i in reports:
            mean = served.mean(i)
            self.assertEqual(mean.dtype, np.float64 if i in self.PYTHON else np.float32)
            # float32 keeps far more than the digits of these sums, so that the integers come back whole
            self.assertLess(int(np.abs(total).max()), 1 << 20)
            self.assertTrue(np.array_equal(np.rint(mean.astype(np.float64) * survivors * self.SCALE), total), i)
            self.assertTrue(np.array_equal(mean.astype(np.float32), served.mean(next(iter(reports))).astype(np.float32)), i)


def kill_after(process, line):
    """Kills a client as soon as it has said this."""
    for said in process.stdout:
        if line in said:
            process.kill()
            break
    process.communicate()


@live
class Demo(unittest.TestCase):
    """Rounds of `veilsum demo`, whose own clients are the project's, with one client more that is client.py."""

    def test_with_clients_of_the_demo(self):
        """The demo compares each sum with the plain sum over all that lies in `noised`."""
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(folder + "/text")
            with open(folder + "/text/a.txt", "w", encoding="ascii") as f:
                f.write("".join(f"{i} times {i} is {i * i}.\n" for i in range(3000)))
            demo = subprocess.Popen([program(), "demo", "--clients", "8", "--cohort", "5", "--rounds", "8", "--dropout", "0.3",
                                     "--data", "text", "--data-dir", "d", "--json"], cwd=folder, stdout=subprocess.PIPE,
                                    stderr=subprocess.DEVNULL, text=True)
            try:
                while not os.path.exists(folder + "/d/spare/join.toml"):
                    self.assertIsNone(demo.poll())
                    time.sleep(0.05)
                time.sleep(0.2)
                with open(folder + "/d/spare/join.toml", encoding="ascii") as f:
                    join = f.read()
                with open(folder + "/d/spare/join.toml", "w", encoding="ascii") as f:
                    f.write("\n".join("budget_epsilon = 50.0" if x.startswith("budget_epsilon") else x
                                      for x in join.split("\n")))
                np.save(folder + "/v.npy", np.full(1862, 0.001, np.float32))
                client = subprocess.run(
                    [*CLIENT, "--identity", "d/spare/identity.toml", "--vector", "v.npy", "--rounds", "8", "--within", "50",
                     "--record-words", "d/noised", "--json"], cwd=folder, capture_output=True, text=True, check=False)
                out, _ = demo.communicate(timeout=240)
            finally:
                demo.kill()
                demo.communicate()
            mine = [r for r in json.loads(client.stdout)["rounds"] if r["outcome"] == "released"]
            self.assertGreater(len(mine), 0, client.stdout + client.stderr)
            for r in json.loads(out)["rounds"]:
                if r["status"] == "released":
                    self.assertTrue(r["bit_exact"], r)


if __name__ == "__main__":
    unittest.main()
