-- What every round costs in privacy, R-26. A row is reserved when its round opens and spent with the
-- commit that opens masking; a round that ends before that deletes it. Spent rows are never deleted.
CREATE TABLE ledger (
    task        BYTEA  NOT NULL,  -- of which task
    counter     BIGINT NOT NULL,  -- the round's
    charge      BYTEA  NOT NULL,  -- RdpCurve bytes
    -- what changes:
    state       TEXT   NOT NULL CHECK (state IN ('reserved', 'spent')), -- only from reserved to spent
    PRIMARY KEY (task, counter)
);
