-- What was fixed, and the append-only log over it. docs/protocol.md §4.2, §9

-- Statements of the aggregator's chain, unsigned: only what is read back is signed. One of a kind a
-- round, R-30. Written once, never deleted.
CREATE TABLE statements (
    round       BYTEA  NOT NULL,  -- of which round
    kind        BIGINT NOT NULL CHECK (kind BETWEEN 0 AND 4), -- StatementKind
    bytes       BYTEA  NOT NULL,  -- the bytes to sign
    attachment  BYTEA  NOT NULL,  -- what is served after the signature; may be empty
    PRIMARY KEY (round, kind)
);

-- The log's leaves, in order. Written once, never deleted.
CREATE TABLE log_entries (
    leaf        BIGINT NOT NULL PRIMARY KEY CHECK (leaf >= 0), -- from 0, without gaps
    hash        BYTEA  NOT NULL CHECK (LENGTH(hash) = 32)      -- RFC 6962 leaf hash
);

-- What is needed to append: one row, made with the first leaf. It changes with every append.
CREATE TABLE log_head (
    head        BIGINT NOT NULL PRIMARY KEY CHECK (head = 0), -- there is one row
    -- what changes:
    size        BIGINT NOT NULL CHECK (size > 0), -- leaves so far; an append names the size it read
    frontier    BYTEA  NOT NULL,  -- roots of the full subtrees, largest first, 32 bytes each
    root        BYTEA  NOT NULL   -- RFC 6962 root over all leaves
);
