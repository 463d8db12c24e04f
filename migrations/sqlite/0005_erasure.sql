-- Erasures, from the request to the receipt. Never deleted.

CREATE TABLE erasure (
    -- Immutable.
    id             BLOB   PRIMARY KEY, -- UUIDv7
    subject        BLOB   NOT NULL REFERENCES subject (id),
    reason         TEXT   NOT NULL,    -- a legal ground or a ticket
    requested_by   TEXT   NOT NULL,    -- the caller
    requested_at   BIGINT NOT NULL,
    -- Mutable.
    execute_at     BIGINT,             -- when a scheduled one is due
    state          BIGINT NOT NULL,    -- model::ErasureState
    plan           TEXT   NOT NULL,    -- JSON: what is destroyed and what is kept
    epoch          BIGINT,             -- the epoch whose root lacks the keys
    shredded_at    BIGINT,             -- when the slot had advanced
    pending_reason TEXT,               -- what it waits for
    receipt        BLOB                -- the signed receipt
);
CREATE INDEX erasure_state ON erasure (state, execute_at);
