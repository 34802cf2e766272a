"""A client, bytes in and bytes out (protocol 4.5, 5). No I/O of its own beside its journal.

Each method takes what was read from the service and returns what is to be sent; what must be durable is in the
journal before a method returns. A refusal after the header slot is written writes the abort slot.
"""

from dataclasses import dataclass
from functools import wraps

from . import (acknowledge, answer, certificate, confirm, core, header, leaf, log, merkle, noise, opening, privacy,
               result, ring, ristretto, roster, share, shamir, survivors, update, upload, x25519)
from .encoding import H, Reader
from .errors import LeftOut, NotCanonical, Refused

RANDOM_LEAVES = 16


@dataclass
class Identity:
    client: bytes
    seed: bytes
    certificate: bytes                # signed


def refusing(method):
    """A refusal abandons the round: the abort slot is written (protocol 4.5)."""
    @wraps(method)
    def inner(self, *args, **kwargs):
        try:
            return method(self, *args, **kwargs)
        except Refused as error:
            self.abandon(error.why)
            raise
    return inner


def stop_frames(raw, most, length, sender_at, kind):
    """Signed statements in a frame, strictly ascending by sender, which is by leaf index."""
    items = share.frames(raw, most, kind)
    if any(len(x) < sender_at + 16 or length not in (None, len(x)) for x in items):
        raise NotCanonical(f"{kind}: a length")
    senders = [x[sender_at:sender_at + 16] for x in items]
    if any(a >= b for a, b in zip(senders, senders[1:])):
        raise NotCanonical(f"{kind}: not strictly ascending")
    return items


def sender_offset(label):
    return 1 + len(label) + 2 + 64


class Participant:
    def __init__(self, identity, policy, journal, rng, *, now, wall=None, evidence=None):
        """`now` and `wall` give microseconds: a monotonic clock, and wall time."""
        self.identity, self.policy, self.journal, self.rng = identity, policy, journal, rng
        self.now, self.wall = now, wall or now
        self.evidence = evidence if evidence is not None else []
        self.open = False                # the header slot is written, neither answered nor aborted
        self.noised = None               # the ring vector before masking, for tests that want the plain sum

    # ---- the journal ----------------------------------------------------------------------------------------------

    def _write(self, slot, **holds):
        self.journal.write(self.header.task, self.header.counter, slot, holds)

    def abandon(self, why):
        if self.open:
            self._write("abort", why=why)
            self._erase("s", "b", "c", "shares", "received")
            self.open = False

    def _erase(self, *names):
        self.journal.erase(self.header.task, self.header.counter, *names)

    # ---- advertise ------------------------------------------------------------------------------------------------

    def advertise(self, raw_header, model=None, fetch_consistency=None, fetch_revocations=None):
        """Judges a header (protocol 5.1); returns the leaf to send. A refusal here writes nothing."""
        policy, journal = self.policy, self.journal
        signed, h = header.decode(raw_header, policy.aggregator_key)
        if h.authority_key != policy.authority_key:
            raise Refused("another authority key than the pinned one", "R-02")
        policy.check_counter(h.counter, journal.last_counter(h.task))
        h.check_values()
        policy.check_header(h)
        if model is not None and H(model) != h.model_hash:
            raise Refused("the model's bytes have another hash", "R-02")
        charge = privacy.curve(h.max_squared_norm, h.vector_len, h.total_variance)
        if charge is None and policy.noise_multiplier_min > 0:
            raise Refused("no noise", "R-02")
        if policy.budget_epsilon is not None and charge is not None:
            ledger = privacy.Ledger()
            ledger.charges = journal.charges()
            if ledger.epsilon_with(charge, policy.budget_delta, (h.task, h.counter)) > policy.budget_epsilon:
                raise Refused("the budget does not cover this round", "R-26")
        policy.check_clock(h.opened_at, self.wall())

        # the log
        name = "log/" + h.aggregator_key.hex()
        known = journal.recall(name)
        if known is not None:
            old = known[0], bytes.fromhex(known[1])
            log.check_extends(old, (h.log_size, h.log_root), fetch_consistency or (lambda a, b: b""))
        if h.log_size == 0 and h.log_root != merkle.root_of_hashes([]):
            raise Refused("a log of size 0 with a root of something", "R-33")

        # revocations
        self.revoked = None
        name = "revocations/" + h.authority_key.hex()
        seen = journal.recall(name)
        if seen is not None and (h.revocation_number < seen[0] or h.revocation_number == seen[0]
                                 and h.revocation_digest.hex() != seen[1]):
            raise Refused("an older revocation list, or another one of the same number", "R-36")
        if h.revocation_number:
            raw_list = fetch_revocations(h.revocation_digest)
            self.revoked = certificate.decode_revocation(raw_list, h.authority_key, h.revocation_digest,
                                                         h.revocation_number)
        signed_cert, cert = certificate.decode(self.identity.certificate)
        certificate.check(signed_cert, cert, h.authority_key, h.opened_at, self.revoked)

        # keys, slot, message
        self.header, self.context = h, signed.root()
        self.s, self.b = self.rng.secret(), self.rng.secret()
        self.c, nonce = self.rng.bytes(32), self.rng.bytes(32)
        S, B, C = ristretto.times_base(self.s), ristretto.times_base(self.b), x25519.public(self.c)
        advert = leaf.advert_statement(self.context, self.identity.client, S, B, C, nonce).signed(self.identity.seed)
        self.leaf_raw = leaf.encode(self.identity.certificate, advert)
        self.own = leaf.decode(self.leaf_raw)
        self.advertised_at, self.advertised_wall = self.now(), self.wall()
        self._write("header", header=raw_header.hex(), wall=self.advertised_wall, leaf=self.leaf_raw.hex(),
                    s=ristretto.scalar_bytes(self.s).hex(), b=ristretto.scalar_bytes(self.b).hex(), c=self.c.hex())
        self.open = True
        journal.remember("log/" + h.aggregator_key.hex(), [h.log_size, h.log_root.hex()])
        if h.revocation_number:
            journal.remember(name, [h.revocation_number, h.revocation_digest.hex()])
        return self.leaf_raw

    # ---- share ----------------------------------------------------------------------------------------------------

    def _first(self, what, signed):
        """R-02: the first valid statement of a kind counts; a different one is kept as evidence."""
        name = f"{what}/{self.header.task.hex()}/{self.header.counter}"
        seen = self.journal.recall(name)
        if seen is not None and seen != signed.root().hex():
            self.evidence.append((what, seen, signed.raw()))
            raise Refused(f"a second {what}", "R-02")
        self.journal.remember(name, signed.root().hex())

    @refusing
    def read_roster(self, raw):
        """Checks the roster (protocol 5.2 steps 1 to 3); returns the leaf indices to ask for, ascending."""
        monotonic, wall = self.now() - self.advertised_at, self.wall() - self.advertised_wall
        if monotonic < 0 or wall < 0:
            raise Refused("a clock ran backwards", "R-08")
        if max(monotonic, wall) > self.policy.roster_deadline:
            raise Refused("the roster came too late", "R-08")
        r = roster.decode(raw, self.header, self.context)
        self._first("roster", r.signed)
        self.round = roster.Round(self.header, self.context, r)
        self.me = self.round.index.get(self.identity.client)
        if self.me is None:
            raise LeftOut("not on the roster")
        if r.entries[self.me][1] != self.own.digest():
            raise Refused("the roster holds another leaf of this client")
        around = self.round.graph.neighbours(self.me)
        need = {self.me, *around, *self.round.graph.agreement}
        need |= set(self.rng.sample([i for i in range(self.round.n) if i not in need], RANDOM_LEAVES))
        self.wanted = sorted(need)
        return self.wanted

    @refusing
    def read_leaves(self, raw):
        """Checks the leaves asked for (steps 3, 4), deals (5, 6): returns the share message."""
        rnd = self.round
        r = Reader(raw)
        self.leaves = {}
        for i in self.wanted:
            if r.u32() != leaf.LENGTH:
                raise NotCanonical("leaves: a length")
            x = leaf.decode(r.take(leaf.LENGTH))
            if (x.client, x.digest()) != rnd.roster.entries[i]:
                raise Refused("a leaf that is not the roster's", "R-06")
            leaf.check(x, self.header, self.context, revoked=self.revoked)
            self.leaves[i] = x
        r.end()
        if self.leaves[self.me].nonce != self.own.nonce:
            raise Refused("the own leaf has another nonce", "R-06")
        if not leaf.different(self.leaves.values()):
            raise Refused("keys of the roster are not different", "R-09")
        self.policy.check_group(self.leaves.values(), rnd.n, self.header.gamma)
        self._write("roster", root=rnd.root.hex(), leaves={str(i): x.raw.hex() for i, x in self.leaves.items()})
        return self.deal()

    def deal(self):
        rnd = self.round
        around = rnd.graph.neighbours(self.me)
        self.s_poly, s_shares = shamir.deal(self.s, rnd.t, around, self.rng.coefficient)
        self.b_poly, b_shares = shamir.deal(self.b, rnd.t, around, self.rng.coefficient)
        self.dealt = {j: (s_shares[j], b_shares[j]) for j in around}
        edges = [share.seal_edge(rnd, self.me, j, self.c, self.own.C, self.leaves[j].C, *self.dealt[j])
                 for j in around]
        self.edges = {e.holder: e for e in edges}
        edges_root = merkle.root([e.encode() for e in edges])
        message = share.encode(
            share.share_statement(rnd, self.identity.client, edges_root).signed(self.identity.seed), edges)
        self._write("share", message=message.hex(),
                    shares={str(j): [ristretto.scalar_bytes(x).hex() for x in pair] for j, pair in self.dealt.items()})
        return message

    # ---- acknowledge, open ----------------------------------------------------------------------------------------

    @refusing
    def read_mail(self, raw):
        """The acknowledgement (protocol 5.3)."""
        rnd = self.round
        mail = share.read_mailbox(raw, rnd, self.me, self.leaves)
        self.received, entries, roots = {}, [], []
        for j in rnd.graph.neighbours(self.me):
            if j not in mail:
                entries.append((acknowledge.MISSING, None))
                continue
            share_root, edge = mail[j]
            opened = share.open_edge(rnd, j, edge, self.c, self.leaves[j].C, self.own.C)
            self.received[j] = share.Received(share_root, edge, opened)
            roots.append(share_root)
            entries.append((acknowledge.GOOD, None) if opened else (acknowledge.COMPLAINT, edge.leaf_hash()))
        ack = acknowledge.Acknowledgement(tuple(entries), acknowledge.shares_digest(roots))
        if ack.complaints() > rnd.most_complaints:
            raise Refused("more bad edges than liars can be neighbours", "R-16")
        message = acknowledge.ack_statement(rnd, self.identity.client, ack).signed(self.identity.seed)
        self._write("acknowledgement", message=message.hex(), received={
            str(j): [x.edge.encode().hex(), [ristretto.scalar_bytes(v).hex() for v in x.shares or ()]]
            for j, x in self.received.items()})
        self.c = None
        self._erase("c")
        return message

    @refusing
    def read_complaints(self, raw):
        """The opening (protocol 5.4), or None where nothing is to be opened."""
        rnd = self.round
        items = stop_frames(raw, rnd.k, None, sender_offset(acknowledge.LABEL), "complaints")
        counted = []
        for item in items:
            i = acknowledge.counted_complaint(item, rnd, self.me, self.leaves, self.edges)
            if i is not None:
                counted.append(i)
        if not counted:
            return None
        if len(counted) > rnd.most_complaints:
            raise Refused("more complaints than liars can be neighbours", "R-16")
        opened = opening.Opening(tuple((i, *self.dealt[i]) for i in sorted(counted)))
        message = opening.opening_statement(rnd, self.identity.client, opened).signed(self.identity.seed)
        self._write("opening", message=message.hex())
        return message

    # ---- mask -----------------------------------------------------------------------------------------------------

    def complained(self):
        """{dealer: edge} of this client's own complaints."""
        return {j: x.edge for j, x in self.received.items() if x.shares is None}

    @refusing
    def read_core(self, raw, raw_openings=None):
        """Checks the core, takes opened shares (protocol 5.5 steps 1, 2)."""
        rnd = self.round
        self.shares = {j: x.shares for j, x in self.received.items() if x.shares}
        if raw_openings is not None:
            for item in stop_frames(raw_openings, rnd.k, None, sender_offset(opening.LABEL), "openings"):
                found = opening.opened_share(item, rnd, self.me, self.leaves, self.complained())
                if found is not None:
                    self.shares[found[0]] = found[1:]
        signed, members = core.decode(raw, rnd)
        self._first("core", signed)
        core.check(members, rnd, self.me)
        self.core, self.core_root = members, signed.root()
        self._write("core", core=raw.hex(), opened={
            str(j): [ristretto.scalar_bytes(v).hex() for v in pair] for j, pair in self.shares.items()})
        self._erase("shares")                               # share values are held until the core closes
        return members

    def draw_noise(self):
        """The noise share, drawn before the data are read (protocol 6, 6.3)."""
        h = self.header
        variance = -(-h.total_variance // self.round.h)
        return noise.skellam(variance, h.vector_len, self.rng)

    @refusing
    def mask(self, x, weight=None, noise_share=None):
        """The masked input (protocol 5.5 steps 3 to 5, 6)."""
        h = self.header
        drawn = self.draw_noise() if noise_share is None else noise_share
        y = update.scaled(x, h, weight)
        z, _ = update.round_conditionally(y, h.max_squared_norm, self.rng)
        return self.mask_ring_element(update.noised(z, drawn, h.ring_bits))

    @refusing
    def mask_ring_element(self, element):
        h, rnd = self.header, self.round
        self.noised = ring.pack(element, h.ring_bits)
        S_of = {j: x.S for j, x in self.leaves.items()}
        y = upload.mask_vector(element, rnd, self.core_root, self.core, self.me, self.s, self.b, S_of)
        packed = ring.pack(y, h.ring_bits)
        message = upload.upload_statement(rnd, self.core_root, self.identity.client, packed).signed(
            self.identity.seed) + packed
        charge = privacy.curve(h.max_squared_norm, h.vector_len, h.total_variance)
        self._write("upload", message=message.hex(), charge=[x.hex() for x in charge or ()])
        self.s = self.b = None
        self._erase("s", "b")
        return message

    # ---- confirm, unmask, verify ----------------------------------------------------------------------------------

    @refusing
    def read_survivors(self, raw, raw_uploads):
        """The confirm, or None for who is not of the agreement set (protocol 5.6)."""
        rnd = self.round
        if self.journal.slot(self.header.task, self.header.counter, "upload") is None:
            raise Refused("did not upload", "R-21")
        s = survivors.decode(raw, rnd, self.core_root, self.core)
        self._first("survivors", s.signed)
        uploads = stop_frames(raw_uploads, rnd.k, 223, sender_offset(upload.LABEL), "uploads")
        survivors.check(s, uploads, rnd, self.core_root, self.me, self.leaves)
        self.survivors, self.survivors_root = s, s.signed.root()
        message = None
        if self.me in rnd.graph.agreement:
            message = confirm.confirm_statement(rnd, self.survivors_root, self.identity.client).signed(
                self.identity.seed)
        self._write("survivors", statement=raw.hex(), confirm=message.hex() if message else None)
        return message

    @refusing
    def read_confirmations(self, raw):
        """The answer (protocol 5.7)."""
        rnd = self.round
        confirm.check_shown(raw, rnd, self.survivors_root, self.survivors, self.leaves)
        entries = answer.entries_for(rnd, self.core, self.survivors.members, self.me, self.shares)
        message = answer.answer_statement(rnd, self.survivors_root, self.identity.client, entries).signed(
            self.identity.seed)
        self._write("answer", message=message.hex())
        self.open = False
        self._erase("received", "opened", "shares")
        return message

    def read_result(self, raw):
        """(result, mean or None) (protocol 5.8, 6.4)."""
        r = result.decode(raw, self.round, self.survivors_root, len(self.survivors.members))
        mean = None if r.outcome != result.RELEASED else update.decode_sum(r.total, self.header, r.count)
        return r, mean


