#!/usr/bin/env python3
"""A live client of suite 1 in Python: takes part in rounds of a running service, over HTTP.

    python3 tests/reference/client.py --identity identity.toml --join join.toml --vector update.npy

It makes all checks of docs/protocol.md itself. One file, its journal, lies beside the identity: write-once slots and the
ledger, sealed with the identity's saving key. Never use one identity with this client and another one: two journals
are two clients under one name.

Exit codes, as of `veilsum join` (docs/operating.md): 0 done; 1 a fault of file, network or service; 2 usage; 3 refused: a
check failed here, or the service refused a message; 4 no sum: the round was abandoned or went on without this client.
"""

import argparse
import http.client
import json
import os
import ssl
import sys
import time
import tomllib
import urllib.parse

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from veilsum_ref import privacy, read, ring  # noqa: E402
from veilsum_ref.errors import Refused  # noqa: E402
from veilsum_ref.header import WINDOWS  # noqa: E402
from veilsum_ref.journal import FileJournal  # noqa: E402
from veilsum_ref.participant import Identity, Participant  # noqa: E402
from veilsum_ref.policy import Policy  # noqa: E402
from veilsum_ref.rng import Os  # noqa: E402

LONGEST_WAIT = 20_000                 # of one read, milliseconds
LEAVES = 512                          # indices of one request


class Usage(Exception):
    """Exit code 2."""


class Fault(Exception):
    """Exit code 1."""


class NoSum(Exception):
    """Exit code 4."""


class Dropped(Exception):
    """The client vanishes because it was told to."""


class Problem(Exception):
    """A 4xx answer."""

    def __init__(self, status, rule, detail, what):
        super().__init__(f"{what}: {status} {rule or ''} {detail}".strip())
        self.status, self.rule, self.detail = status, rule, detail


# ---- HTTP ---------------------------------------------------------------------------------------------------------------

class Service:
    def __init__(self, server, deadline, say, ca_file=None):
        url = urllib.parse.urlsplit(server)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise Usage(f"{server}: an http:// or https:// address is needed")
        self.tls = ssl.create_default_context(cafile=ca_file) if url.scheme == "https" else None
        self.host, self.prefix = url.hostname, url.path.rstrip("/")
        self.port = url.port or (443 if self.tls else 80)
        self.deadline, self.say = deadline, say
        self.connection, self.used = None, 0.0

    def _once(self, method, target, body, headers):
        if self.connection is not None and time.monotonic() - self.used > 8:
            self.close()                      # the service closes idle connections after 10 s
        if self.connection is None:
            seconds = LONGEST_WAIT / 1000 + 30
            self.connection = http.client.HTTPSConnection(self.host, self.port, timeout=seconds, context=self.tls) \
                if self.tls else http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        try:
            self.connection.request(method, self.prefix + target, body, headers)
            answer = self.connection.getresponse()
            data = answer.read()
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise Fault(f"{self.host}: {error.verify_message}") from None
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        self.used = time.monotonic()
        return answer.status, answer.headers, data

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def request(self, method, target, body=None, headers=None):
        """The first answer that is not to be tried again: (status, bytes). The same bytes each time (protocol 7.3)."""
        pause = 0.1
        while True:
            problem = None
            try:
                status, answered, data = self._once(method, target, body, headers or {})
                if status < 400:
                    return status, data
                problem = self._problem(status, data, f"{method} {target}")
                if status not in (425, 429) and status < 500:
                    raise problem
                wait = answered.get("Retry-After", "")
                pause = float(wait) if wait.isdigit() else pause
            except (OSError, http.client.HTTPException) as error:
                problem = Fault(f"{method} {target}: {error}")
            if time.monotonic() + pause > self.deadline:
                raise problem if isinstance(problem, Fault) else Fault(str(problem))
            self.say(f"again in {pause:.1f} s: {problem}")
            time.sleep(pause)
            pause = min(pause * 2, 5)

    @staticmethod
    def _problem(status, data, what):
        try:
            body = json.loads(data)
            return Problem(status, body["rule"], body["detail"], what)
        except (ValueError, KeyError, TypeError):
            return Problem(status, None, "", what)

    def get(self, target, headers=None, wait=True):
        """The body, waiting for what is not settled; `wait` goes behind what else is asked (wire 8.2)."""
        while True:
            asked = target
            if wait:
                asked += ("&" if "?" in target else "?") + f"wait={LONGEST_WAIT}"
            status, data = self.request("GET", asked, headers=headers)
            if status == 200:
                return data
            if not wait or time.monotonic() > self.deadline:
                raise NoSum(f"GET {target}: nothing came in time")


# ---- files --------------------------------------------------------------------------------------------------------------

def load_toml(path, form):
    try:
        with open(path, "rb") as f:
            content = tomllib.load(f)
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise Usage(f"{path}: {error}") from None
    if content.get("format") != form:
        raise Usage(f"{path}: format {content.get('format')!r} where {form!r} is due")
    return content


def hexed(content, key, size, path):
    try:
        raw = bytes.fromhex(content[key])
    except (KeyError, TypeError, ValueError):
        raise Usage(f"{path}: {key} is missing, or not hexadecimal") from None
    if size is not None and len(raw) != size:
        raise Usage(f"{path}: {key} has {len(raw)} bytes where {size} are due")
    return raw


def load_identity(path):
    if os.path.exists(path) and os.stat(path).st_mode & 0o077:
        raise Usage(f"{path}: others than its owner can read it; chmod 600 it")
    content = load_toml(path, "veilsum-identity-1")
    identity = Identity(hexed(content, "client", 16, path), hexed(content, "secret_seed", 32, path),
                        hexed(content, "certificate", 260, path))
    return identity, hexed(content, "saving_key", 32, path)


POLICY = {                       # key of the join file -> (field of Policy, how it is read)
    "cohort_min": ("cohort_min", int),
    "corrupt_fraction_min": ("gamma_min", int),
    "dropout_tolerance_max": ("delta_max", int),
    "security_bits_min": ("sigma_min", int),
    "completion_bits_min": ("eta_min", int),
    "noise_multiplier_min": ("noise_multiplier_min", float),
    "wrap_bits_min": ("wrap_bits_min", int),
    "clip_norm_max": ("clip_max", float),
    "dp_delta_max": ("dp_delta_max", float),
    "budget_epsilon": ("budget_epsilon", float),
    "budget_delta": ("budget_delta", float),
    "layout": ("layout", bytes.fromhex),
    "clock_apart_max_s": ("clock_apart", lambda s: int(s) * 1_000_000),
    "roster_deadline_ms": ("roster_deadline", lambda ms: int(ms) * 1000),
    "window_max_s": ("window_max", lambda s: int(s) * 1000),
}


def load_join(path):
    content = load_toml(path, "veilsum-join-1")
    values = {}
    for key, value in content.get("policy", {}).items():
        if key not in POLICY:
            raise Usage(f"{path}: unknown key {key} in [policy]")
        name, convert = POLICY[key]
        try:
            values[name] = convert(value)
        except (TypeError, ValueError):
            raise Usage(f"{path}: {key} = {value!r}") from None
    if "cohort_min" in values:
        values["smallest_sum_min"] = values["cohort_min"]
    policy = Policy(hexed(content, "aggregator_key", 32, path), hexed(content, "authority_key", 32, path), **values)
    return content.get("server"), content.get("ca_file"), hexed(content, "task", 16, path), policy


def load_vector(path):
    try:
        x = np.load(path, allow_pickle=False)
    except OSError as error:
        raise Usage(f"{path}: {error}") from None
    except ValueError:
        raise Usage(f"{path}: not a .npy file of numbers") from None
    if x.ndim != 1 or x.dtype not in (np.float32, np.float64):
        raise Usage(f"{path}: one vector of 32- or 64-bit floats is needed, this is {x.dtype} of shape {x.shape}")
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


# ---- a round ------------------------------------------------------------------------------------------------------------

class Round:
    """One round over HTTP: reads, lets the participant judge, sends."""

    def __init__(self, options, service, participant, identity, say):
        self.o, self.service, self.p, self.identity, self.say = options, service, participant, identity, say
        self.steps = []

    def signed_get(self, name, query=""):
        base = f"/v1/rounds/{self.p.context[:16].hex()}/{name}"
        value = read.header_value(self.p.context, self.identity.client, base + query, self.identity.seed)
        return self.service.get(base + query, {"Veilsum-Read": value})

    def own(self, name):
        return self.signed_get(f"{name}/{self.identity.client.hex()}")

    def vanish(self, when, phase):
        if (self.o.dropout_before if when == "before" else self.o.dropout_after) == phase:
            raise Dropped(f"vanished {when} {phase}")

    def send(self, phase, message):
        if message is not None:
            target = f"/v1/rounds/{self.p.context[:16].hex()}/{phase}/{self.identity.client.hex()}"
            self.service.request("PUT", target, message, {"Content-Type": "application/octet-stream"})
            self.steps.append(phase)
            self.say(f"sent {phase}, {len(message)} bytes")
        self.vanish("after", phase)

    def public(self, target):
        try:
            return self.service.get(target, wait=False)
        except NoSum:
            raise Fault(f"GET {target}: nothing there") from None

    def play(self, raw_header, x, weight):
        p, model = self.p, None

        def consistency(old, new):
            return self.public(f"/v1/log/consistency?from={old}&to={new}")

        def revocations(digest):
            return self.public(f"/v1/revocations/{digest.hex()}")

        model_hash = raw_header[1 + 16 + 2 + 64 + 32 + 4 + 138:][:32]     # its place in a header (wire 4.1)
        if len(raw_header) == 527:
            model = self.public(f"/v1/models/{model_hash.hex()}")
        self.vanish("before", "advertise")
        leaf = p.advertise(raw_header, model, consistency, revocations)
        h = p.header
        length = h.vector_len - (1 if h.weight_max else 0)
        if len(x) != length:
            p.abandon("the vector has another length")
            raise Usage(f"the vector has {len(x)} coordinates, the task {length}")
        self.send("advertise", leaf)
        self.vanish("before", "share")
        wanted = p.read_roster(self.signed_get("roster"))
        leaves = b""
        for i in range(0, len(wanted), LEAVES):
            leaves += self.signed_get("leaves", "?i=" + ",".join(map(str, wanted[i:i + LEAVES])))
        self.send("share", p.read_leaves(leaves))
        self.vanish("before", "acknowledge")
        self.send("acknowledge", p.read_mail(self.own("mail")))
        noise = p.draw_noise()                                           # before the data are looked at
        self.vanish("before", "open")
        self.send("open", p.read_complaints(self.own("complaints")))
        self.vanish("before", "mask")
        core = self.signed_get("core")
        p.read_core(core, self.own("openings") if p.complained() else None)
        message = p.mask(x, weight, noise)
        written = self.record_noised()
        try:
            self.send("mask", message)
        except Problem:
            for path in written:                                         # not in the sum
                os.remove(path)
            raise
        self.vanish("before", "confirm")
        survivors = self.signed_get("survivors")
        try:
            self.send("confirm", p.read_survivors(survivors, self.own("uploads")))
        except Problem as problem:
            # t confirms are enough: the phase may have closed before this one came, and the round goes on
            if problem.status != 410 or not problem.detail.startswith("phase-closed"):
                raise
            self.say("the confirm was not needed any more")
        self.vanish("before", "unmask")
        self.send("unmask", p.read_confirmations(self.signed_get("confirmations")))
        result, mean = p.read_result(self.signed_get("result"))
        if self.o.record and result.packed:
            keep(self.name("sum"), result.packed)
        return result, mean

    def name(self, kind):
        return os.path.join(self.o.record, f"{self.p.context[:16].hex()}-{self.identity.client.hex()}.{kind}")

    def record_noised(self):
        """For a test's plain sum: never do this in earnest. The paths written, before the upload is sent.

        --record DIR: DIR/{round}-{client}.noised, the ring vector with its noise before masking, packed (protocol 2.3);
        and later .sum, the packed sum that this client accepted. --record-words DIR: DIR/{counter}/{client}, the same
        vector as u64, as `veilsum demo` keeps its own clients' in `noised`.
        """
        paths, p = [], self.p
        if self.o.record:
            paths.append(self.name("noised"))
            keep(paths[-1], p.noised)
        if self.o.record_words:
            paths.append(os.path.join(self.o.record_words, str(p.header.counter), self.identity.client.hex()))
            keep(paths[-1], ring.unpack(p.noised, p.header.vector_len, p.header.ring_bits).astype("<u8").tobytes())
        return paths


def keep(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(path + ".new", path)


def take_part(o, say):
    identity, saving_key = load_identity(o.identity)
    join = o.join or os.path.join(os.path.dirname(os.path.abspath(o.identity)), "join.toml")
    server, ca_file, task, policy = load_join(join)
    x = load_vector(o.vector)
    journal = FileJournal(o.journal or o.identity + ".journal", saving_key)
    for open_task, counter in journal.unfinished():
        journal.write(open_task, counter, "abort", {"why": "interrupted"})
        journal.erase(open_task, counter, "s", "b", "c", "shares", "received")
        say(f"round {counter} was interrupted: it is abandoned")
    service = Service(o.server or server, time.monotonic() + o.within, say, o.ca or ca_file)
    service_clock = dict(now=lambda: time.monotonic_ns() // 1000, wall=lambda: time.time_ns() // 1000)
    done, after = [], journal.last_counter(task)
    while len(done) < o.rounds:
        raw = service.get(f"/v1/tasks/{task.hex()}/header?after={after}")
        evidence = []
        p = Participant(identity, policy, journal, Os(), evidence=evidence, **service_clock)
        round_ = Round(o, service, p, identity, say)
        report = {"client": identity.client.hex()}
        try:
            result, mean = round_.play(raw, x, o.weight)
            report |= {"outcome": "released" if result.outcome == 1 else "not-opened", "count": result.count}
            if mean is not None and o.out:
                np.save(o.out, mean)
        except Dropped as gone:
            report["outcome"] = str(gone)
            p.abandon(str(gone))
        except Problem as problem:
            p.abandon(str(problem))
            over = problem.status == 410
            if over and problem.detail.split(":")[0] == "phase-closed" and round_.steps == [] and not o.once:
                say(f"too late for this round: {problem.detail}")
                after = p.header.counter
                continue
            report |= {"outcome": "refused by the service" if not over else problem.detail, "status": problem.status,
                       "rule": problem.rule}
            done.append(report | about(p, round_))
            raise (NoSum if over else Refused)(str(problem)) from None
        except Refused as error:
            # a refusal after the header slot has written the abort slot; before it, a newer header may be judged
            if error.left_out and round_.steps == ["advertise"] and not o.once:
                say(f"{error.why}: waiting for the next round")
                after = p.header.counter
                continue
            report |= {"outcome": "left out" if error.left_out else "refused", "why": error.why, "rule": error.rule,
                       "evidence": len(evidence)}
            done.append(report | about(p, round_))
            if error.left_out:
                raise NoSum(error.why) from None
            raise
        except (Fault, NoSum, Usage) as error:
            p.abandon(str(error))
            raise
        finally:
            o.reports = done
        done.append(report | about(p, round_))
        if report["outcome"].startswith("vanished"):
            break
        after = p.header.counter
    return done


def about(p, round_):
    """What a report says of a round: the figures that were checked."""
    out = {"steps": round_.steps}
    if hasattr(p, "header"):
        h = p.header
        out |= {"round": p.context[:16].hex(), "counter": h.counter, "log": "unwitnessed",
                "corrupt": f"assumed: at most {h.gamma} millionths of every roster"}
    if hasattr(p, "round"):
        out |= {"n": p.round.n, "k": p.round.k, "t": p.round.t, "h": p.round.h, "index": p.me}
    # over all rounds of this journal, this one included once it is masked; the conversion of no charge at all is above 0
    ledger = privacy.Ledger()
    ledger.charges = p.journal.charges()
    out |= {"epsilon_spent": privacy.epsilon(ledger.total(), p.policy.budget_delta)[0]}
    if hasattr(p, "core"):
        out |= {"core": len(p.core)}
    if hasattr(p, "survivors"):
        out |= {"survivors": len(p.survivors.members), "agreement": p.me in p.round.graph.agreement}
    return out


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", help="http:// address; default: the join file's")
    parser.add_argument("--ca", help="for https://: believe the certificates in this file and no others")
    parser.add_argument("--identity", required=True, help="identity TOML file, mode 0600")
    parser.add_argument("--join", help="join TOML file; default: join.toml beside the identity")
    parser.add_argument("--vector", required=True, help=".npy file, one vector of floats")
    parser.add_argument("--weight", type=float, help="for tasks with weights")
    parser.add_argument("--out", help="write the mean here, .npy")
    parser.add_argument("--rounds", type=int, default=1, help="take part in so many rounds (default 1)")
    parser.add_argument("--once", action="store_true", help="do not wait for another round when too late for this one")
    parser.add_argument("--within", type=float, default=300, help="seconds for all of it (default 300)")
    parser.add_argument("--journal", help="default: beside the identity")
    parser.add_argument("--record", metavar="DIR", help="for tests: keep the noised vector before masking")
    parser.add_argument("--record-words", metavar="DIR", help="for tests: the same as u64, as the demo keeps it")
    parser.add_argument("--dropout-after", choices=WINDOWS, help="for tests: vanish after sending this phase")
    parser.add_argument("--dropout-before", choices=WINDOWS, help="for tests: vanish before sending this phase")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    parser.add_argument("--quiet", action="store_true")
    o = parser.parse_args(argv)
    o.reports = []

    def say(text):
        if not o.quiet and not o.json:
            print(text, file=sys.stderr)

    code, error = 0, None
    try:
        o.reports = take_part(o, say)
        if any(r["outcome"] == "not-opened" for r in o.reports):
            code = 4
    except Usage as e:
        code, error = 2, e
    except Refused as e:
        code, error = 3, f"{e.why}{f' ({e.rule})' if e.rule else ''}"
    except NoSum as e:
        code, error = 4, e
    except (Fault, OSError) as e:
        code, error = 1, e
    if o.json:
        print(json.dumps({"rounds": o.reports, "error": None if error is None else str(error), "code": code}))
    else:
        for r in o.reports:
            print(" ".join(f"{k}={v}" for k, v in r.items()))
    if error is not None:
        print(f"client.py: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
