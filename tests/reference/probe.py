#!/usr/bin/env python3
"""Sends every bad message of the vectors to a running service, and compares its answers with those of wire.md.

    python3 tests/reference/probe.py --join join.toml --authority authority.key

It plays one round with eight clients that it certifies itself with the authority's key: for a service that was made for
it, with a task of its own (`--print-task` prints one). One client spoils an edge, one is lost. In every phase one client
first sends all that it must not, then what it must. Then reads that must be refused. Exit code 0: no disagreement.
"""

import argparse
import http.client
import json
import secrets
import sys
import time

import numpy as np

import client as live
import make_vectors as vectors
from veilsum_ref import certificate, ed25519, read, ristretto, statement
from veilsum_ref.errors import Refused
from veilsum_ref.journal import Journal
from veilsum_ref.participant import Identity, Participant
from veilsum_ref.policy import Policy
from veilsum_ref.rng import Os

TASK = """format = "veilsum-task-1"
name = "probe"
rounds = 100000
invited = 8
roster_min = 7
roster_max = 8
corrupt_fraction = 0.2
dropout_tolerance = 0.2
model_len = 11
layout = "0000000000000000000000000000000000000000000000000000000000000000"
clip_norm = 2.0
scale = 64.0
noise_multiplier = 1.0
budget_epsilon = 1000000.0
windows_ms = [20000, 20000, 20000, 20000, 6000, 20000, 20000]
grace_ms = 1000
server_rate = [1.0, 1.0]
"""


class Over:
    """The service in the place of vectors' aggregator: `put` goes over HTTP."""

    def __init__(self, service):
        self.service, self.faults, self.seed = service, [], b""
        self.round, self.leaves = None, {}

    def put(self, phase, client_id, body):
        target = f"/v1/rounds/{self.context[:16].hex()}/{phase}/{client_id.hex()}"
        for _ in range(2):
            try:
                status, _, data = self.service._once("PUT", target, body, {"Content-Type": "application/octet-stream"})
                break
            except (OSError, http.client.HTTPException):
                continue                          # the service closes a connection after 413
        if status == 204:
            return 204, None, None
        problem = self.service._problem(status, data, phase)
        return status, problem.rule, problem.detail


    def check_read(self, value, target, owner):
        """A read over HTTP; raises what is refused."""
        status, problem = self.get(target, value)
        Compare.seen += 1
        if status >= 400:
            raise Refused(problem.detail, problem.rule, status)

    def get(self, target, value=None):
        headers = {} if value is None else {"Veilsum-Read": value}
        status, _, data = self.service._once("GET", target, None, headers)
        return status, self.service._problem(status, data, target) if status >= 400 else data


class Compare(vectors.Puts):
    """Collects disagreements instead of stopping."""
    seen, wrong = 0, []

    def bad(self, name, message, why, status, rule, comment="", client=None):
        found = self.aggregator.put(self.phase, client or self.client, message)
        statuses = status if isinstance(status, list) else [status]
        rules = rule if isinstance(rule, list) else [rule]
        Compare.seen += 1
        if found[0] not in statuses or found[1] not in rules:
            Compare.wrong.append(f"{self.phase} {name} ({why}): {status} {rule} expected, the service says {found}")
        elif len(statuses) + len(rules) > 2:
            print(f"open question: {self.phase} {name} ({why}): {status} {rule}, the service says {found}")

    def good(self, name, message, comment="", client=None, **more):
        found = self.aggregator.put(self.phase, client or self.client, message)
        Compare.seen += 1
        if found[0] == 410 and self.phase == "advertise":
            raise SystemExit("advertising is over in this round: run it again")
        if found[0] != 204:
            Compare.wrong.append(f"{self.phase} {name}: 204 expected, the service says {found}")


class Play:
    """What the cases of make_vectors ask of a play."""

    def number(self, leaf_index):
        return next(i for i, c in enumerate(self.clients) if c.identity.client == self.aggregator.round.ids[leaf_index])


def expect(service, method, target, statuses, body=None, headers=None, rules=None):
    for _ in range(2):
        try:
            status, answered, data = service._once(method, target, body, headers or {})
            break
        except (OSError, http.client.HTTPException):
            continue
    Compare.seen += 1
    problem = service._problem(status, data, target) if status >= 400 else None
    shape = problem is None or answered.get("Content-Type") == "application/problem+json" and all(
        k in json.loads(data) for k in ("type", "title", "status", "detail", "rule"))
    if status not in statuses or rules and problem.rule not in rules or not shape:
        Compare.wrong.append(f"{method} {target} {headers or ''}: {statuses} {rules or ''} expected, the service says {status} "
                             f"{problem and (problem.rule, problem.detail)} {data[:80] if not shape else ''}")
    return status, problem


def paths(play, a, service, task):
    """Paths, parameters, encodings: wire 8.1, 8.2, 9. Played while the confirm phase is open."""
    x, y = play.identities[0], play.identities[1]
    rid, cid = a.context[:16].hex(), x.client.hex()
    put = f"/v1/rounds/{rid}"

    def signed(target, who=x):
        return {"Veilsum-Read": read.header_value(a.context, who.client, target, who.seed)}

    def e(*args, **kwargs):
        return expect(service, *args, **kwargs)

    e("PUT", f"{put}/nophase/{cid}", [404], b"")
    e("PUT", f"{put}/mask/{cid[:-1]}", [404], b"")
    e("PUT", f"{put}/mask/{cid.upper()}", [404] if cid.upper() != cid else [400, 410], b"")
    e("PUT", f"/v1/rounds/{secrets.token_hex(16)}/mask/{cid}", [404], b"")
    e("PUT", f"{put}/unmask/{cid}", [425], b"x")
    e("PUT", f"{put}/confirm/{secrets.token_hex(16)}", [404], b"x")
    e("PUT", f"{put}/confirm/{cid}", [415], b"x", headers={"Content-Encoding": "gzip"})
    e("PUT", f"{put}/confirm/{cid}", [413], bytes(100_000))
    for phase, message in (("share", None), ("acknowledge", None)):
        e("PUT", f"{put}/{phase}/{cid}", [400, 409, 413], b"x", rules=["R-03", "R-37", None])
    e("GET", f"/v1/tasks/{task.hex()}/header?after=0", [200])
    e("GET", f"/v1/tasks/{task.hex()}/header?after=18446744073709551615", [204])
    for query in ("?after=x", "?after=-1", "?after=01", "?after=", "?after=1&after=1", "?wait=1&wait=1", "?other=1", "?wait=x",
                  "?after=18446744073709551616"):
        e("GET", f"/v1/tasks/{task.hex()}/header{query}", [400])
    e("GET", f"/v1/tasks/{secrets.token_hex(16)}/header", [404])
    e("GET", f"/v1/tasks/{task.hex().upper()}/header", [404])
    e("GET", f"{put}/header", [200])
    e("GET", f"/v1/rounds/{secrets.token_hex(16)}/header", [404])
    e("GET", f"{put}/nothing", [404])
    e("GET", "/v1/", [404])
    target = f"{put}/result"
    e("GET", target, [204], headers=signed(target))
    e("GET", target + "?wait=100", [204], headers=signed(target))
    e("GET", target + "?wait=100", [403], headers=signed(target + "?wait=100"), rules=["R-37"])
    for indices, statuses in (("0", [200]), ("0,5,7", [200]), ("7,5,0", [200]), ("8", [400, 404]), ("0,0", [400]), ("", [400]),
                              ("0,", [400]), (",0", [400]), ("0,,1", [400]), ("00", [400]), ("-1", [400]), ("+1", [400]),
                              ("0%2C1", [400]), ("4294967296", [400]), ("x", [400])):
        target = f"{put}/leaves?i={indices}"
        e("GET", target, statuses, headers=signed(target))
    target = f"{put}/leaves?i=0,1"
    e("GET", target + "&wait=10", [200], headers=signed(target))
    e("GET", target + "&i=2", [400], headers=signed(target))
    target = f"{put}/leaves"
    e("GET", target, [400], headers=signed(target))
    for name in ("mail", "complaints", "openings", "uploads"):
        own, other = f"{put}/{name}/{cid}", f"{put}/{name}/{y.client.hex()}"
        e("GET", own, [200], headers=signed(own))
        e("GET", other, [403], headers=signed(other), rules=["R-35"])
        e("GET", own, [403], rules=["R-35"])
        stranger = f"{put}/{name}/{secrets.token_hex(16)}"
        e("GET", stranger, [403, 404], headers=signed(stranger))
    e("GET", f"/v1/models/{a.header.model_hash.hex()}", [200])
    e("GET", f"/v1/models/{secrets.token_hex(32)}", [404])
    e("GET", f"/v1/revocations/{secrets.token_hex(32)}", [404])
    e("GET", "/v1/log/checkpoint", [200])
    for query, statuses in (("?from=1&to=1", [200]), ("?from=0&to=1", [404]), ("?from=2&to=1", [404]),
                            ("?from=1&to=99999999", [404]), ("?from=1", [400, 404]), ("?to=1", [400, 404]), ("", [400, 404]),
                            ("?from=1&to=1&from=1", [400]), ("?from=1&to=1&wait=5", [400])):
        e("GET", f"/v1/log/consistency{query}", statuses)
    e("PUT", f"{put}/header", [404, 405], b"")
    e("POST", f"{put}/confirm/{cid}", [404, 405], b"")
    e("DELETE", f"{put}/header", [404, 405])


def after_the_round(play, a, service):
    """Published counts as closed for all phases; what was admitted is remembered, what was served is erased."""
    x = play.identities[0]
    rid, cid = a.context[:16].hex(), x.client.hex()
    put = f"/v1/rounds/{rid}"
    sent = play.clients[0].journal.slot(a.header.task, a.header.counter, "upload")["message"]
    e = expect
    e(service, "PUT", f"{put}/mask/{cid}", [204], bytes.fromhex(sent))
    e(service, "PUT", f"{put}/mask/{cid}", [409], vectors.flip(bytes.fromhex(sent), 300 if len(sent) > 700 else 230),
      rules=["R-19"])
    share_message = bytes.fromhex(play.clients[0].journal.slot(a.header.task, a.header.counter, "share")["message"])
    e(service, "PUT", f"{put}/share/{cid}", [204], share_message)
    e(service, "PUT", f"{put}/share/{cid}", [409], vectors.flip(share_message, 300), rules=["R-03"])
    lost = play.identities[vectors.LOST].client.hex()
    _, problem = e(service, "PUT", f"{put}/unmask/{lost}", [410], b"x")
    print("a lost client, late:", problem)
    for name in ("header", "roster", "core", "survivors", "result", "confirmations", "leaves?i=0", f"mail/{cid}",
                 f"complaints/{cid}", f"openings/{cid}", f"uploads/{cid}"):
        target = f"{put}/{name}"
        status, problem = e(service, "GET", target, [200, 410], headers={
            "Veilsum-Read": read.header_value(a.context, x.client, target, x.seed)})
        print(f"after the round: {name.split('/')[0]} {status}", problem.detail if problem else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--join")
    parser.add_argument("--authority", help="the authority's key file")
    parser.add_argument("--print-task", action="store_true")
    o = parser.parse_args()
    if o.print_task:
        print(TASK, end="")
        return 0
    server, _, task, pinned = live.load_join(o.join)
    service = live.Service(server, time.monotonic() + 240, print)
    vectors.Puts, vectors.disagrees = Compare, Compare.wrong.append
    with open(o.authority, encoding="ascii") as f:
        authority = bytes.fromhex(f.read().strip())

    play, a = Play(), Over(service)
    play.aggregator, play.authority_seed, play.secrets = a, authority, {}
    now = time.time_ns() // 1000
    play.identities = []
    for _ in range(8):
        seed, client_id = secrets.token_bytes(32), secrets.token_bytes(16)
        cert = certificate.Certificate(client_id, ed25519.public_key(seed), 0, 8, now - 3_600_000_000,
                                       now + 86_400_000_000)
        play.identities.append(Identity(client_id, seed, cert.issue(authority)))
    after = 0
    while True:                                       # a header that is fresh enough for all that follows
        raw_header = service.get(f"/v1/tasks/{task.hex()}/header?after={after}")
        signed = statement.decode(raw_header, "veilsum/1/header", 344)
        opened = int.from_bytes(signed.body[26:34], "little")
        if time.time_ns() // 1000 - opened < 3_000_000:
            break
        after = int.from_bytes(signed.body[18:26], "little")
    policy = Policy(pinned.aggregator_key, pinned.authority_key, delta_max=999_999, wrap_bits_min=1)
    clock = dict(now=lambda: time.monotonic_ns() // 1000, wall=lambda: time.time_ns() // 1000)
    play.clients = [Participant(x, policy, Journal(), Os(), **clock) for x in play.identities]

    def get(c, name, query="", own=False):
        base = f"/v1/rounds/{a.context[:16].hex()}/{name}" + (f"/{c.identity.client.hex()}" if own else "")
        value = read.header_value(a.context, c.identity.client, base + query, c.identity.seed)
        return service.get(base + query, {"Veilsum-Read": value})

    def everyone(phase, step, subject=vectors.PLAIN, lost=()):
        order = [subject] + [i for i in range(8) if i != subject]
        for i in order:
            if i in lost:
                continue
            message = step(play.clients[i])
            if message is None:
                continue
            if phase == "share" and i == vectors.SPOILER:
                message = vectors.spoil_edge(play, i, message, vectors.leaf_index(play, vectors.PLAIN))
            if i == subject:
                getattr(vectors, "put_" + phase)(play, i, message)
            else:
                found = a.put(phase, play.identities[i].client, message)
                if found[0] != 204 and (phase, found[0]) != ("confirm", 410):     # t confirms are enough
                    Compare.wrong.append(f"{phase} of client {i}: {found}")

    def advertise(c):
        message = c.advertise(raw_header, None, lambda x, y: service.get(f"/v1/log/consistency?from={x}&to={y}"))
        a.context, a.header, play.header = c.context, c.header, c.header
        a.header_raw = raw_header
        i = play.clients.index(c)
        play.secrets[i] = {"s": ristretto.scalar_bytes(c.s), "b": ristretto.scalar_bytes(c.b)}
        return message

    def deal(c):
        raw = get(c, "roster")
        wanted = c.read_roster(raw)
        message = c.read_leaves(get(c, "leaves", "?i=" + ",".join(map(str, wanted))))
        a.round, a.roster_raw, a.leaves = c.round, raw, c.leaves
        if c is play.clients[vectors.PLAIN]:
            around = [play.number(j) for j in c.round.graph.neighbours(c.me)]
            vectors.SPOILER = next(i for i in around if i != vectors.LOST)
        return message

    def mask(c):
        a.core_raw = get(c, "core")
        a.core = c.read_core(a.core_raw, get(c, "openings", own=True) if c.complained() else None)
        a.core_root = c.core_root
        return c.mask(np.full(11, 0.1, np.float32))

    def survive(c):
        a.survivors_raw = get(c, "survivors")
        message = c.read_survivors(a.survivors_raw, get(c, "uploads", own=True))
        if not hasattr(a, "survivors"):
            a.survivors, a.survivors_root = list(c.survivors.members), c.survivors_root
            vectors.make_read(play)
            paths(play, a, service, task)
        return message

    def the_round():
        everyone("advertise", advertise)
        everyone("share", deal)
        a.dealt = set(range(8))
        everyone("acknowledge", lambda c: c.read_mail(get(c, "mail", own=True)))
        spoiler = vectors.leaf_index(play, vectors.SPOILER)
        a.complaints = {spoiler: [vectors.leaf_index(play, vectors.PLAIN)]}
        everyone("open", lambda c: c.read_complaints(get(c, "complaints", own=True)), 
                 subject=vectors.SPOILER)
        lost = {vectors.LOST}
        everyone("mask", mask, lost=lost)
        agreeing = next(i for i in range(8) if i not in lost
                        and vectors.leaf_index(play, i) in a.round.graph.agreement)
        print("the lost client is of the agreement set:", vectors.leaf_index(play, vectors.LOST) in a.round.graph.agreement)
        everyone("confirm", survive, subject=agreeing, lost=lost)
        everyone("unmask", lambda c: c.read_confirmations(get(c, "confirmations")), lost=lost)
        first = play.clients[0]
        result, _ = first.read_result(get(first, "result"))
        print(f"round {a.context[:16].hex()}: outcome {result.outcome}, {result.count} survivors of 8")
        after_the_round(play, a, service)

    try:
        the_round()
    finally:
        for line in Compare.wrong:
            print("DISAGREES:", line)
        print(f"{Compare.seen} messages compared, {len(Compare.wrong)} disagreements")
    return 1 if Compare.wrong else 0
if __name__ == "__main__":
    sys.exit(main())
