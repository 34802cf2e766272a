"""A client's durable memory: write-once slots per (task, counter), and what it remembers beyond rounds (protocol 4.5).

In memory, or in a file of JSON lines. The file has mode 0600, and every line is flushed to the disk (fsync) before
`write` returns. Given a key, each line is sealed by AES-256-GCM with a fresh random nonce (protocol 2.6), its number
as associated data. The format of a saved state is no part of the protocol; this one is this package's own.

Erasing rewrites the file without what is erased and replaces the old one. What the file system keeps of the old
blocks is outside its reach.
"""

import fcntl
import json
import os
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import Refused

SLOTS = ("header", "roster", "share", "acknowledgement", "opening", "core", "upload", "survivors", "answer", "abort")


class Journal:
    """In memory."""

    def __init__(self):
        self.records = []                       # dicts, in the order written

    # storage, overridden by the file

    def _append(self, record):
        self.records.append(record)

    def _rewrite(self):
        pass

    # slots

    def slot(self, task, counter, name):
        for r in self.records:
            if r["kind"] == "slot" and (r["task"], r["counter"], r["slot"]) == (task.hex(), counter, name):
                return r["holds"]
        return None

    def write(self, task, counter, name, holds):
        """Fills a slot; refuses a second filling, and everything after an abort or an answer."""
        assert name in SLOTS
        taken = [r["slot"] for r in self.of_round(task, counter)]
        if name in taken or "abort" in taken or "answer" in taken:
            raise Refused(f"the slot {name} of counter {counter} is written or closed", "R-03")
        self._append({"kind": "slot", "task": task.hex(), "counter": counter, "slot": name, "holds": holds})

    def of_round(self, task, counter):
        return [r for r in self.records if r["kind"] == "slot" and r["task"] == task.hex() and r["counter"] == counter]

    def erase(self, task, counter, *names):
        """Removes fields from the slots of a round (R-31)."""
        for r in self.of_round(task, counter):
            for name in names:
                r["holds"].pop(name, None)
        self._rewrite()

    def last_counter(self, task):
        return max((r["counter"] for r in self.records if r["kind"] == "slot" and r["task"] == task.hex()), default=0)

    def unfinished(self):
        """(task, counter) of rounds that neither answered nor aborted."""
        state = {}
        for r in self.records:
            if r["kind"] == "slot":
                key = bytes.fromhex(r["task"]), r["counter"]
                state[key] = state.get(key, False) or r["slot"] in ("answer", "abort")
        return [key for key, done in state.items() if not done]

    # what is remembered beyond rounds: the newest value per name

    def remember(self, name, value):
        if self.recall(name) != value:
            self._append({"kind": "memory", "name": name, "value": value})

    def recall(self, name, default=None):
        for r in reversed(self.records):
            if r["kind"] == "memory" and r["name"] == name:
                return r["value"]
        return default

    # the ledger

    def charges(self):
        return {(bytes.fromhex(r["task"]), r["counter"]): tuple(float.fromhex(x) for x in r["holds"]["charge"])
                for r in self.records if r["kind"] == "slot" and r["slot"] == "upload" and r["holds"].get("charge")}


class FileJournal(Journal):
    def __init__(self, path, key=None):
        super().__init__()
        self.path, self.key = path, key
        self.lock = open(path + ".lock", "a", encoding="ascii")
        os.chmod(path + ".lock", 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.lock.close()
            raise Refused("another process uses this journal", "R-03") from None
        if os.path.exists(path):
            if os.stat(path).st_mode & 0o077:
                raise Refused("the journal is readable by others than its owner")
            with open(path, encoding="ascii") as f:
                text = f.read()
            complete = text[:text.rfind("\n") + 1]         # a torn last line was never acknowledged
            try:
                self.records = [self._open(i, line) for i, line in enumerate(complete.splitlines())]
            except Refused:
                self.close()
                raise
            if complete != text:
                self._rewrite()

    def close(self):
        self.lock.close()

    def _seal(self, number, record):
        plain = json.dumps(record, sort_keys=True)
        if self.key is None:
            return plain
        nonce = secrets.token_bytes(12)
        return (nonce + AESGCM(self.key).encrypt(nonce, plain.encode(), b"veilsum_ref journal %d" % number)).hex()

    def _open(self, number, line):
        try:
            if self.key is None:
                return json.loads(line)
            raw = bytes.fromhex(line)
            return json.loads(AESGCM(self.key).decrypt(raw[:12], raw[12:], b"veilsum_ref journal %d" % number))
        except (ValueError, InvalidTag):
            raise Refused("the journal is damaged, or of another identity") from None

    def _append(self, record):
        new = not os.path.exists(self.path)
        with open(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="ascii") as f:
            f.write(self._seal(len(self.records), record) + "\n")
            f.flush()
            os.fsync(f.fileno())
        if new:
            self._sync_folder()
        self.records.append(record)

    def _rewrite(self):
        temporary = self.path + ".new"
        with open(os.open(temporary, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
            for i, record in enumerate(self.records):
                f.write(self._seal(i, record) + "\n")
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, self.path)
        self._sync_folder()

    def _sync_folder(self):
        folder = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
