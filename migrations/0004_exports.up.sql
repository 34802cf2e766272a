-- Revocation lists, and what exports need when rounds are long over. docs/protocol.md §4.3, §9
--
-- From here on received.body stays when a round is over, except of answers and of rounds without a roster, until the
-- operator's retention for exports ends.

-- Lists that the enrolment authority signed. Written once, never deleted: an old header may name any of them.
CREATE TABLE revocations (
    digest      BYTEA  NOT NULL PRIMARY KEY CHECK (LENGTH(digest) = 32), -- root of the list: what headers name
    authority   BYTEA  NOT NULL CHECK (LENGTH(authority) = 16), -- who signed it: the first 16 bytes of SHA-256 of its key
    number      BIGINT NOT NULL CHECK (number > 0),  -- counts the lists of an authority; the largest is in force
    bytes       BYTEA  NOT NULL,  -- signed, as served
    received_us BIGINT NOT NULL,  -- when the operator gave it to the service
    UNIQUE (authority, number)
);

-- Which round had which counter. Written once when it opens, never deleted: later rounds of the task account for it.
CREATE TABLE task_rounds (
    task        BYTEA  NOT NULL,  -- of which task
    counter     BIGINT NOT NULL CHECK (counter > 0), -- as in rounds
    round       BYTEA  NOT NULL CHECK (LENGTH(round) = 16), -- its header is in statements
    salt        BYTEA  NOT NULL CHECK (LENGTH(salt) = 32),  -- as in rounds, which purge deletes
    PRIMARY KEY (task, counter)
);
INSERT INTO task_rounds (task, counter, round, salt) SELECT task, counter, round, salt FROM rounds;
