"""An aggregator in memory: admission in the order of wire 8.1, closing as in protocol 5 and 8.

One round. `put` answers (status, rule, word). `close` ends the phase that is open; which is next follows. Everything
served is a method. There is no clock: the caller closes phases.
"""

from . import (acknowledge, answer, confirm, core, ed25519, header, leaf, log, opening, read, result, ring,
               ristretto, roster, shamir, share, statement, survivors, upload)
from .encoding import H, framed, key_id
from .errors import Refused

PHASES = header.WINDOWS


class Aggregator:
    def __init__(self, seed, head, rng, log_=None, group=None, salt=None, revoked=None):
        """`head` is the Header; `seed` the aggregator's signing seed."""
        self.seed, self.header, self.rng, self.group, self.revoked = seed, head, rng, group, revoked
        assert ed25519.public_key(seed) == head.aggregator_key
        self.id = key_id(head.aggregator_key)
        self.header_raw = head.statement().signed(seed)
        self.context = head.statement().root()
        self.log = log_ or log.Log()
        self.salt = salt or rng.bytes(32)
        self.phase = 0                                    # index of the open phase; 7 when over
        self.over = None                                  # word of wire 9 once the round is over
        self.received = {name: {} for name in PHASES}     # phase -> client id -> bytes
        self.faults = []                                  # (phase, client id, rule): one per phase and client
        self.leaves, self.claims = {}, {}
        self.round = None
        self.result_raw = None
        self._append(self.context)
        if head.total_variance:
            self._append_ledger(log.RESERVED)

    # ---- the log --------------------------------------------------------------------------------------------------

    def _append(self, root):
        self.log.append(log.entry(self.salt, root))

    def _append_ledger(self, kind):
        self._append(log.ledger_root(self.header.task, self.header.counter, self.context, kind))

    # ---- admission ------------------------------------------------------------------------------------------------

    def put(self, phase, client, body):
        """(status, rule, word): what the service answers."""
        try:
            self._put(phase, client, body)
            return 204, None, None
        except Refused as error:
            self._keep_evidence(phase, client, bytes(body), error)
            return error.status, error.rule, getattr(error, "word", error.why)

    # ---- who is named (protocol 4.1, 8) ---------------------------------------------------------------------------

    def name(self, phase, client, rule):
        if not any(f[:2] == (phase, client) for f in self.faults):
            self.faults.append((phase, client, rule))

    def _keep_evidence(self, phase, client, body, error):
        """What a message that is not admitted proves: by itself, or with the one that was admitted."""
        if self.over is not None or PHASES.index(phase) > self.phase:
            return
        if error.proves:
            self.name(phase, client, error.rule)
            return
        earlier = self.received[phase].get(client)
        if earlier is None or earlier == body:
            return
        try:
            old, new = self._statement_of(phase, earlier), self._statement_of(phase, body)
        except Refused:
            return
        key = self.settled["advertise"][client].identity_key
        if new.verifies(key) and statement.contradict(old.statement, new.statement):
            self.name(phase, client, {"mask": "R-19", "confirm": "R-23"}.get(phase, "R-03"))

    def _statement_of(self, phase, body):
        if phase == "advertise":
            return leaf.decode(body).advert
        return statement.decode_any(body[:{"share": 214, "mask": 223}.get(phase, len(body))])

    def _put(self, phase, client, body):
        at = PHASES.index(phase)
        if at > self.phase:
            raise Refused("the phase is not open yet", None, 425)
        if at > 0 and client not in self.round.index:
            raise Refused("not on the roster", None, 404)
        if at < self.phase:
            self._from_memory(phase, client, body)
            return
        getattr(self, "_entitled_" + phase, lambda i: None)(self.round.index[client] if at else None)
        earlier = self.received[phase].get(client)
        settled = getattr(self, "_accept_" + phase)(client, bytes(body))
        if earlier is not None:
            if earlier == body:
                return
            raise Refused("other bytes than admitted", "R-19" if phase == "mask" else "R-03", 409)
        if phase == "advertise":
            self._claim(settled)
        self.received[phase][client] = bytes(body)
        self.settled[phase][client] = settled

    def _from_memory(self, phase, client, body):
        earlier = self.received[phase].get(client)
        if earlier is None:
            raise Refused(self.over or "phase-closed", None, 410)
        if earlier != body:
            raise Refused("other bytes than admitted", "R-19" if phase == "mask" else "R-03", 409)

    def _claim(self, x):
        mine = {("id", x.client), ("identity", x.identity_key)} | {("key", k) for k in (x.S, x.B, x.C)}
        if any(c in self.claims for c in mine):
            raise Refused("an id or a key that is taken", "R-09", 409)
        for c in mine:
            self.claims[c] = x.client

    @property
    def settled(self):
        if not hasattr(self, "_settled"):
            self._settled = {name: {} for name in PHASES}
        return self._settled

    def _leaf(self, client):
        return self.leaves[self.round.index[client]]

    def _accept_advertise(self, client, body):
        x = leaf.decode(body)
        leaf.check(x, self.header, self.context, path_client=client, group=self.group, revoked=self.revoked)
        return x

    def _accept_share(self, client, body):
        return share.accept(body, self.round, client, self._leaf(client))

    def _entitled_acknowledge(self, i):
        if i not in self.dealt:
            raise Refused("did not deal", "R-17", 422)

    def _accept_acknowledge(self, client, body):
        return acknowledge.accept(body, self.round, client, self._leaf(client), self.dealt)

    def _entitled_open(self, i):
        if i not in self.complaints:
            raise Refused("nobody complained", "R-16", 422)

    def _accept_open(self, client, body):
        return opening.accept(body, self.round, client, self._leaf(client),
                              self.complaints[self.round.index[client]])

    def _entitled_mask(self, i):
        if i not in self.core:
            raise Refused("not in the core", "R-17", 422)

    def _accept_mask(self, client, body):
        return upload.accept(body, self.round, self.core_root, client, self._leaf(client))

    def _entitled_confirm(self, i):
        if i not in self.round.graph.agreement:
            raise Refused("not of the agreement set", "R-23", 422)
        if i not in self.survivors:
            raise Refused("did not upload", "R-21", 422)

    def _accept_confirm(self, client, body):
        return confirm.accept(body, self.round, self.survivors_root, client, self._leaf(client))

    def _entitled_unmask(self, i):
        if i not in self.survivors:
            raise Refused("not among the survivors", "R-21", 422)

    def _accept_unmask(self, client, body):
        return answer.accept(body, self.round, self.core, self.survivors_root, client, self._leaf(client))

    # ---- closing --------------------------------------------------------------------------------------------------

    def _abandon(self, word, charged=False):
        self.over = word
        if not charged and self.header.total_variance:
            self._append_ledger(log.LAPSED)
        self.phase = len(PHASES)

    def close(self):
        """Closes the open phase."""
        getattr(self, "_close_" + PHASES[self.phase])()

    def _sign(self, statement_):
        self._append(statement_.root())
        return statement_.signed(self.seed)

    def _close_advertise(self):
        h = self.header
        nonce = self.rng.bytes(32)
        clients = sorted(self.settled["advertise"])
        if len(clients) > h.roster_max:
            clients = sorted(sorted(clients, key=lambda c: H(nonce, c))[:h.roster_max])
        n = len(clients)
        if n < h.roster_min:
            return self._abandon("roster-too-small")
        found = h.degree_threshold(n)
        if found is None:
            return self._abandon("roster-infeasible")
        k, t, _ = found
        self.leaves = {i: self.settled["advertise"][c] for i, c in enumerate(clients)}
        entries = tuple((x.client, x.digest()) for x in self.leaves.values())
        signed = self._sign(roster.roster_statement(self.context, self.id, n, k, t, h.honest(n), nonce,
                                                    roster.tree_root(entries)))
        self.roster_raw = roster.encode(signed, entries)
        self.round = roster.Round(h, self.context, roster.decode(self.roster_raw, h, self.context))
        self.phase = 1

    def _close_share(self):
        self.dealt = {self.round.index[c]: m for c, m in self.settled["share"].items()}
        if len(self.dealt) < self.round.fewest:
            return self._abandon("core-too-small")
        self.phase = 2

    def _close_acknowledge(self):
        rnd = self.round
        acks = {rnd.index[c]: ack for c, (_, ack) in self.settled["acknowledge"].items()}
        self.candidates = {i for i, ack in acks.items() if self._fits(i, ack)}
        self.complaints = {}
        for i in sorted(self.candidates):
            for dealer, (kind, _) in zip(rnd.graph.neighbours(i), acks[i].entries):
                if kind == acknowledge.COMPLAINT and dealer in self.candidates:
                    self.complaints.setdefault(dealer, []).append(i)
        self.settles = {}                                  # (dealer, holder) -> opened shares
        self.phase = 3
        if not self.complaints:
            self._fix_core(set(self.candidates))

    def _fits(self, i, ack):
        """Steps 1 and 2 of protocol 5.3's close: digest, complaint hashes, nothing served that is reported missing."""
        rnd, roots = self.round, []
        for dealer, (kind, edge) in zip(rnd.graph.neighbours(i), ack.entries):
            served = self.dealt.get(dealer)
            if kind == acknowledge.MISSING:
                if served is not None:
                    return False
                continue
            roots.append(served.signed.root())
            place = rnd.graph.place(dealer, i)
            if kind == acknowledge.COMPLAINT and edge != served.edges[place].leaf_hash():
                return False
        return acknowledge.shares_digest(roots) == ack.shares_digest

    def _close_open(self):
        rnd, start = self.round, set(self.candidates)
        for dealer, complainers in self.complaints.items():
            admitted = self.settled["open"].get(rnd.ids[dealer])
            if admitted is None:
                start.discard(dealer)                      # vanished, unnamed
                continue
            _, opened = admitted
            good = True
            for holder, s_i, b_i in opened.entries:
                edge = self.dealt[dealer].edges[rnd.graph.place(dealer, holder)]
                good = good and share.matches(edge, s_i, b_i)
            if good:
                for holder, s_i, b_i in opened.entries:
                    self.settles[dealer, holder] = s_i, b_i
            else:
                start.discard(dealer)
                self.name("open", rnd.ids[dealer], "R-16")
        self._fix_core(start)

    def _fix_core(self, start):
        rnd = self.round
        members = core.compute(rnd.graph, rnd.t, start)
        if len(members) < rnd.fewest:
            return self._abandon("core-too-small")
        self.core = members
        statement_ = core.core_statement(rnd, members)
        self.core_raw, self.core_root = self._sign(statement_), statement_.root()
        for dealer in sorted(self.complaints):
            admitted = self.settled["open"].get(rnd.ids[dealer])
            if admitted is not None:
                self._append(admitted[0].root())
        if self.header.total_variance:
            self._append_ledger(log.SPENT)
        self.phase = 4

    def _close_mask(self):
        rnd = self.round
        members = sorted(rnd.index[c] for c in self.settled["mask"])
        inside = set(members)
        weak = any(sum(j in inside for j in rnd.graph.neighbours(i)) < rnd.t for i in self.core)
        if len(members) < rnd.fewest or weak:
            return self._abandon("too-few-survivors", charged=True)
        self.survivors = members
        roots = [(i, self.settled["mask"][rnd.ids[i]][0].root()) for i in members]
        statement_ = survivors.survivors_statement(rnd, self.core_root, members, survivors.uploads_root(roots))
        self.survivors_raw, self.survivors_root = self._sign(statement_), statement_.root()
        self.phase = 5

    def _close_confirm(self):
        if len(self.settled["confirm"]) < self.round.t:
            return self._abandon("not-confirmed", charged=True)
        self.phase = 6

    def _shares_of(self, owner, lost):
        """(holder, share) present in admitted answers, ascending by the holder's leaf index."""
        out = []
        for i in self.survivors:
            admitted = self.settled["unmask"].get(self.round.ids[i])
            if admitted is not None and owner in admitted[1] and admitted[1][owner] is not None:
                out.append((i, admitted[1][owner]))
        return out

    def _rebuild(self, owner, lost):
        """R-29: the secret s of a lost client, b of a living one; None if it cannot be rebuilt."""
        rnd = self.round
        public = self.leaves[owner].S if lost else self.leaves[owner].B
        shares = self._shares_of(owner, lost)
        if len(shares) >= rnd.t:
            secret = shamir.rebuild(shares[:rnd.t])
            if ristretto.times_base(secret) == public:
                return secret
        good = []
        for holder, value in shares:
            edge = self.dealt[owner].edges[rnd.graph.place(owner, holder)]
            if ristretto.times_base(value) == (edge.P_s if lost else edge.P_b):
                good.append((holder, value))
            else:
                if (owner, holder) not in self.settles:     # evidence needs an entry acknowledged as good
                    self.name("unmask", rnd.ids[holder], "R-29")
        if len(good) < rnd.t:
            return None
        secret = shamir.rebuild(good[:rnd.t])
        return secret if ristretto.times_base(secret) == public else None

    def _close_unmask(self):
        rnd, h = self.round, self.header
        m, r = h.vector_len, h.ring_bits
        living = set(self.survivors)
        lost = [i for i in self.core if i not in living]
        self.secrets = {i: self._rebuild(i, i not in living) for i in self.core}
        if any(x is None for x in self.secrets.values()):
            statement_ = result.result_statement(rnd, self.survivors_root, len(living), None)
            self.result_raw = self._sign(statement_)
            self.phase, self.over = 7, "not-opened"
            return
        total = ring.reduce([0] * m, r)
        for i in self.survivors:
            total = total + self.settled["mask"][rnd.ids[i]][1]
            total = total - ring.mask(upload.self_key_of(rnd, self.core_root, i, self.secrets[i]), m, r)
        for u in lost:
            for v in rnd.graph.neighbours(u):
                if v not in living:
                    continue
                key = upload.pair_key_of(rnd, self.core_root, u, v, self.secrets[u], self.leaves[u].S,
                                         self.leaves[v].S)
                pair = ring.mask(key, m, r)
                total = total - pair if v < u else total + pair
        packed = ring.pack(total & ring.modulus_mask(r), r)
        statement_ = result.result_statement(rnd, self.survivors_root, len(living), packed)
        self.result_raw = self._sign(statement_) + packed
        self.phase, self.over = 7, "published"

    # ---- what is served -------------------------------------------------------------------------------------------

    def serve_leaves(self, indices):
        return b"".join(framed(self.leaves[i].raw) for i in indices)

    def serve_mail(self, client):
        rnd = self.round
        me = rnd.index[client]
        items = [share.mail_item(d, self.dealt[d], rnd.graph.place(d, me))
                 for d in sorted(rnd.graph.neighbours(me)) if d in self.dealt]
        return share.frame(items)

    def serve_complaints(self, client):
        if self.phase != 3:
            return share.frame([])
        me = self.round.index[client]
        return share.frame([self.settled["acknowledge"][self.round.ids[i]][0].raw()
                            for i in sorted(self.complaints.get(me, []))])

    def serve_openings(self, client):
        me = self.round.index[client]
        return share.frame([self.settled["open"][self.round.ids[d]][0].raw()
                            for d in sorted(self.complaints) if me in self.complaints[d]
                            and self.round.ids[d] in self.settled["open"]])

    def serve_uploads(self, client):
        inside = set(self.survivors)
        around = sorted(j for j in self.round.graph.neighbours(self.round.index[client]) if j in inside)
        return share.frame([self.settled["mask"][self.round.ids[j]][0].raw() for j in around])

    def serve_confirmations(self):
        return confirm.encode_shown([signed.raw() for _, signed in sorted(self.settled["confirm"].items())])

    def check_read(self, value, target, client=None):
        """R-35 for a resource of members (client None) or of one client."""
        keys = {x.client: x.identity_key for x in self.leaves.values()} or {
            c: x.identity_key for c, x in self.settled["advertise"].items()}
        if client is not None:
            keys = {c: k for c, k in keys.items() if c == client}
        return read.check(value, self.context, target, keys)


