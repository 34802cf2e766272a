-- Which service key sealed what, so that the key can be exchanged while rounds are open. docs/operating.md, "Keys"
--
-- From here on round_keys.sealed changes too: with `veilsum keys rotate --reseal`, together with sealed_by. What was sealed
-- before this migration names no key; whoever holds the key finds it by trying.

ALTER TABLE round_keys ADD COLUMN
    sealed_by   BYTEA CHECK (LENGTH(sealed_by) = 8); -- the service key that sealed it, by its id; NULL before keys had ids

-- The service keys that sealed something here, by their ids alone. Never deleted: a retired key stays retired.
CREATE TABLE sealing_keys (
    id          BYTEA  NOT NULL PRIMARY KEY CHECK (LENGTH(id) = 8), -- the first 8 bytes of SHA-256 of the key
    -- what changes:
    newest_us   BIGINT NOT NULL,  -- when a round last opened under it; then
    retired_us  BIGINT            -- when `veilsum keys rotate --reseal` retired it; then. NULL while it may seal
);
