-- Who did what: batches of entries, each batch chained to the one before. Never a value.

CREATE TABLE audit_batch (
    -- Immutable.
    node       BYTEA  NOT NULL, -- 16 bytes: whose chain
    seq        BIGINT NOT NULL, -- 1 and up, without a gap
    prev_hash  BYTEA  NOT NULL, -- hash of the batch before; zeros for the first
    merkle     BYTEA  NOT NULL, -- RFC 6962 root over the entries
    entries    BIGINT NOT NULL, -- how many
    created_at BIGINT NOT NULL,
    marks      BYTEA  NOT NULL, -- the first 8 bytes of the leaf hash of each entry, in order
    body       TEXT   NOT NULL, -- one JSON document a line
    PRIMARY KEY (node, seq)
);

CREATE INDEX audit_batch_time ON audit_batch (created_at, node, seq);

-- How far each chain has come, and how far it was cut off when that was old enough; signed.

CREATE TABLE audit_mark (
    node       BYTEA  NOT NULL, -- 16 bytes: whose chain
    kind       BIGINT NOT NULL, -- 0 checkpoint, 1 cut
    size       BIGINT NOT NULL, -- up to which batch
    frontier   BYTEA  NOT NULL, -- the roots of the complete trees up to there, the largest first
    note       TEXT   NOT NULL, -- signed
    created_at BIGINT NOT NULL,
    PRIMARY KEY (node, kind)
);
