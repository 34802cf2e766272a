-- Which replica computes a closing, so that two do not spend the same minutes on it. Never needed for what is right: the
-- version that a commit names decides. docs/decisions/0021-leases-without-clocks.md

CREATE TABLE leases (
    round       BYTEA  NOT NULL PRIMARY KEY CHECK (LENGTH(round) = 16), -- whose closing
    -- what changes:
    version     BIGINT NOT NULL,  -- the commit that the closing begins from, as in rounds; with each closing
    holder      BYTEA  NOT NULL CHECK (LENGTH(holder) = 16), -- the replica at work, by the token it drew at its start; when one takes it
    beats       BIGINT NOT NULL,  -- grows while the holder lives: every second of the work, and when somebody takes it
    attempts    BIGINT NOT NULL   -- how often this closing was begun; counts from 1 in every closing
);
