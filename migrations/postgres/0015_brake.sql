-- What callers have used of their limits: how many of what, within the time that has just passed.
CREATE TABLE brake_use (
    -- Immutable.
    process BYTEA  NOT NULL, -- 16 bytes: which process counted
    counted BIGINT NOT NULL, -- store::brake::Counted
    caller  TEXT   NOT NULL, -- the name in the configuration
    part    BIGINT NOT NULL, -- when the part of time ends
    -- Mutable.
    count   BIGINT NOT NULL,
    PRIMARY KEY (process, counted, caller, part)
);
CREATE INDEX brake_use_part ON brake_use (part);

-- Requests for approval of what one caller wants to read in bulk.
CREATE TABLE approval (
    -- Immutable.
    id            BYTEA  PRIMARY KEY, -- UUIDv7
    caller        TEXT   NOT NULL,    -- who asks
    purpose       TEXT   NOT NULL,
    redaction     TEXT   NOT NULL,
    channel       BIGINT NOT NULL,    -- model::Channel
    justification TEXT   NOT NULL,    -- a ticket, or empty
    tokens        BIGINT NOT NULL,    -- how many
    digest        BYTEA  NOT NULL,    -- 32 bytes: over all of that, and the tokens
    requested_at  BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    -- Mutable.
    state         BIGINT NOT NULL,    -- model::ApprovalState
    decided_by    TEXT   NOT NULL,    -- a caller, or empty
    decided_at    BIGINT,
    reason        TEXT   NOT NULL,    -- a code or a ticket, or empty
    used_at       BIGINT
);
CREATE INDEX approval_asked ON approval (caller, digest);
CREATE UNIQUE INDEX approval_pending ON approval (caller, digest) WHERE state = 1; -- nobody waits twice for the same
CREATE INDEX approval_expires_at ON approval (expires_at);

-- Subjects that do not exist, and that nobody has a reason to touch.
CREATE TABLE honey (
    -- Immutable.
    subject   BYTEA  PRIMARY KEY,
    label     TEXT   NOT NULL,   -- a code or a ticket, or empty
    placed_by TEXT   NOT NULL,   -- the caller
    placed_at BIGINT NOT NULL
);
