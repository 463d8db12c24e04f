-- Tokens and the sealed values behind them. A row outlives its value, so that a token is never issued twice.

CREATE TABLE token (
    -- Immutable.
    id         BYTEA   PRIMARY KEY, -- UUIDv7: the row id; an opaque token is one cipher block over it
    subject    BYTEA   NOT NULL REFERENCES subject (id),
    type       BIGINT  NOT NULL,    -- model::FieldType
    class      TEXT    NOT NULL,    -- retention class
    format     BIGINT  NOT NULL,    -- model::TokenFormat
    shaped     TEXT    UNIQUE,      -- the token itself when it is shaped: random, nothing of the value
    tags       TEXT    NOT NULL,    -- a JSON array of labels
    expires_at BIGINT,              -- when it stops revealing
    single_use BOOLEAN NOT NULL,    -- whether the first reveal is the last
    created_at BIGINT  NOT NULL,
    -- Mutable.
    leaf       BIGINT  NOT NULL,    -- the leaf whose key seals the value
    key_version BIGINT NOT NULL,    -- the key version at that leaf
    source     TEXT    NOT NULL,    -- where the value came from
    version    BIGINT  NOT NULL,    -- counts changes of the value; the etag
    spent_at   BIGINT,              -- when a single-use token was revealed
    deleted_at BIGINT,              -- when a caller deleted it
    sealed     BYTEA                -- the envelope; absent once deleted or erased
);
CREATE INDEX token_subject ON token (subject, id);
