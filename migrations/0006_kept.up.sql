-- Which rounds still keep messages: looked for every hour, and not among all that was ever received.

ALTER TABLE rounds ADD COLUMN
    bodies_gone BIGINT CHECK (bodies_gone = 1); -- 1 once retention erased every body of the round; then. NULL before

CREATE INDEX rounds_kept ON rounds (bodies_gone, over_us);
