-- Answers to writes that carried a request_id, so that the same id gets the first answer. Ids only.

CREATE TABLE request (
    -- Immutable.
    caller     TEXT   NOT NULL,
    id         BYTEA  NOT NULL, -- the UUID
    deed       TEXT   NOT NULL, -- the rpc
    subject    BYTEA,            -- the subject answered
    answer     TEXT   NOT NULL, -- JSON: ids of what was made
    created_at BIGINT NOT NULL,
    PRIMARY KEY (caller, id)
);
CREATE INDEX request_created_at ON request (created_at);
