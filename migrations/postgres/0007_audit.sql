-- Who did what: batches of entries, each batch chained to the one before. Never a value.

CREATE TABLE audit_batch (
    -- Immutable.
    node       BYTEA  NOT NULL, -- 16 bytes: whose chain
    seq        BIGINT NOT NULL, -- 1 and up, without a gap
    prev_hash  BYTEA  NOT NULL, -- hash of the batch before; zeros for the first
    merkle     BYTEA  NOT NULL, -- RFC 6962 root over the entries
    entries    BIGINT NOT NULL, -- how many
    body       TEXT   NOT NULL, -- one JSON document a line
    created_at BIGINT NOT NULL,
    PRIMARY KEY (node, seq)
);
