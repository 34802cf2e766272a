-- Tasks, models and rounds, and everything a round receives. docs/protocol.md §8
--
-- In every table the columns written once come first, then those that change. Ids and times are made
-- by the program; times are microseconds since 1970 UTC. A body column that is not marked "sealed"
-- holds what its sender signed for the aggregator to read.

-- A training task, as the operator created it. Never deleted.
CREATE TABLE tasks (
    task        BYTEA  NOT NULL PRIMARY KEY CHECK (LENGTH(task) = 16), -- TaskId
    file        TEXT   NOT NULL,  -- the task file, TOML, as given
    created_us  BIGINT NOT NULL,  -- when it was created
    -- what changes:
    model       BYTEA  NOT NULL,  -- SHA-256 of the current model; with the commit that publishes a round
    counter     BIGINT NOT NULL CHECK (counter >= 0),  -- of the newest round, 0 before the first; when a round opens
    open        BIGINT NOT NULL CHECK (open IN (0, 1)) -- 1 while a round is open; when one opens or is over
);

-- Model bytes, by digest. Written once, never deleted: a header may name any of them.
CREATE TABLE models (
    digest      BYTEA  NOT NULL PRIMARY KEY CHECK (LENGTH(digest) = 32), -- SHA-256 of bytes
    bytes       BYTEA  NOT NULL   -- as served
);

-- One training round. Deleted by `purge` after it is over; its header is a statement and stays.
CREATE TABLE rounds (
    round       BYTEA  NOT NULL PRIMARY KEY CHECK (LENGTH(round) = 16), -- RoundId
    task        BYTEA  NOT NULL,  -- of which task
    counter     BIGINT NOT NULL CHECK (counter > 0), -- counts the rounds of the task from 1
    salt        BYTEA  NOT NULL,  -- 32 random bytes: log leaves tell nothing to those who lack them, R-35
    -- what changes, all of it in every commit:
    version     BIGINT NOT NULL,  -- every commit adds one and names the one it read
    phase       BIGINT NOT NULL CHECK (phase BETWEEN 0 AND 8), -- PhaseKind
    state       BYTEA  NOT NULL,  -- Phase::encode: settled facts
    opened_us   BIGINT NOT NULL,  -- when this phase opened
    over_us     BIGINT,           -- when the round was over; NULL until then
    UNIQUE (task, counter)
);
CREATE INDEX rounds_over ON rounds (over_us);

-- Where admissions and closing meet: eight rows a round, made when it opens. An admission holds one
-- of them until it commits; the fence writes all, so it waits for admissions and stops new ones.
CREATE TABLE gates (
    round       BYTEA  NOT NULL,  -- of which round
    gate        BIGINT NOT NULL CHECK (gate BETWEEN 0 AND 7), -- which of the eight
    -- what changes:
    open_for    BIGINT NOT NULL,  -- the phase that may be admitted, or -1; with the fence and with every commit
    batches     BIGINT NOT NULL,  -- admissions in this phase; with every admission, 0 when a phase opens
    clients     BIGINT NOT NULL,  -- fresh clients in this phase; likewise
    last_us     BIGINT NOT NULL,  -- when the last of them came; likewise, the opening of the phase before
    PRIMARY KEY (round, gate)
);

-- One row per client and phase: who counts. Its primary key is what makes a client count once.
CREATE TABLE received (
    round       BYTEA  NOT NULL,  -- in which round
    phase       BIGINT NOT NULL,  -- PhaseKind: what the message is
    client      BYTEA  NOT NULL CHECK (LENGTH(client) = 16), -- ClientId: whose
    digest      BYTEA  NOT NULL,  -- SHA-256 of the whole message: the same bytes again succeed; outlives the body
    -- what changes:
    body        BYTEA,            -- the message (of a masked input: the statement only; of an answer: sealed by the round key); NULL once erased
    PRIMARY KEY (round, phase, client)
);

-- Keys that must be unique in a round: whoever claims one first has it, R-09. Deleted when the round is erased.
CREATE TABLE claims (
    round       BYTEA  NOT NULL,  -- in which round
    claim       BYTEA  NOT NULL,  -- digest of the key
    client      BYTEA  NOT NULL,  -- who has it
    PRIMARY KEY (round, claim)
);

-- Mailboxes: shares on the way to their holders, sealed by the dealer for the holder. Deleted when the round is erased.
CREATE TABLE mail (
    round       BYTEA  NOT NULL,  -- in which round
    recipient   BYTEA  NOT NULL,  -- ClientId: for whom
    dealer      BYTEA  NOT NULL,  -- ClientId: from whom
    item        BYTEA  NOT NULL,  -- mail item, sealed by the dealer for the recipient
    PRIMARY KEY (round, recipient, dealer)
);

-- Sums of masked inputs, one per admission, cut in segments. A sum over a single input is that input,
-- and the write-ahead log remembers it: so they are sealed. Deleted when the round is erased.
CREATE TABLE partial_sums (
    round       BYTEA  NOT NULL,  -- of which round
    batch       BYTEA  NOT NULL,  -- 16 random bytes, one value per admission
    segment     BIGINT NOT NULL,  -- from 0
    inputs      BIGINT NOT NULL CHECK (inputs > 0), -- how many inputs were added up; the same in all segments
    sealed      BYTEA  NOT NULL,  -- sealed by the round key: at most 1 MiB of the packed sum
    PRIMARY KEY (round, batch, segment)
);

-- The key that seals a round's sums. Deleted when the round is erased, and the sums with it.
CREATE TABLE round_keys (
    round       BYTEA  NOT NULL PRIMARY KEY, -- of which round
    sealed      BYTEA  NOT NULL   -- sealed by the service key: 32 random bytes
);

-- Who is named for what, with proof. Never deleted.
CREATE TABLE faults (
    round       BYTEA  NOT NULL,  -- in which round
    phase       BIGINT NOT NULL,  -- PhaseKind: in which phase
    client      BYTEA  NOT NULL,  -- ClientId: who
    rule        BIGINT NOT NULL CHECK (rule BETWEEN 0 AND 255), -- the rule broken
    evidence    BYTEA  NOT NULL,  -- bytes that bear the client's valid signature
    PRIMARY KEY (round, phase, client)
);
