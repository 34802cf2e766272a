"""What a refusal is.

`status` is the code that the aggregator answers (wire 9), or None where only clients judge. `rule` is the rule that is
named, or None. On the client's side a refusal abandons the round (protocol, introduction).
"""


class Refused(Exception):
    def __init__(self, why, rule=None, status=None, proves=False):
        super().__init__(why)
        self.why = why
        self.rule = rule
        self.status = status
        self.proves = proves            # the message alone is evidence against its signer (protocol 4.1)

    @property
    def left_out(self):
        """The round goes on without this client: a lie, or a late message; nobody can tell (docs/operating.md)."""
        return isinstance(self, LeftOut)

    def __repr__(self):
        return f"Refused({self.why!r}, rule={self.rule}, status={self.status})"


class LeftOut(Refused):
    """Not on the roster, not in the core, not among the survivors."""


class NotCanonical(Refused):
    """Layout, lengths, encodings: 400 R-37 (wire 9)."""

    def __init__(self, why):
        super().__init__(why, "R-37", 400)


class Over(Refused):
    """410: the phase or the round is over; `word` is the first word of the detail (wire 9)."""

    def __init__(self, word):
        super().__init__(word, None, 410)
        self.word = word
