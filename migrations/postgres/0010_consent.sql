-- Purposes, notices and collection points. A row is a document that was defined once; a change is another row.
CREATE TABLE catalogue (
    -- Immutable.
    seq        BIGINT PRIMARY KEY,  -- 1 and upwards, without gaps
    kind       TEXT   NOT NULL,     -- purpose, notice or point
    code       TEXT   NOT NULL,
    version    BIGINT NOT NULL,     -- of this code, 1 and upwards
    document   TEXT   NOT NULL,     -- JSON
    defined_by TEXT   NOT NULL,     -- the caller
    defined_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX catalogue_version ON catalogue (kind, code, version);

-- What people decided. Nothing here is personal data, and nothing is ever changed or deleted: the personal parts of the
-- evidence are values of the person, in `token`.
CREATE TABLE consent_event (
    -- Immutable.
    id            BYTEA   PRIMARY KEY, -- UUIDv7
    subject       BYTEA   NOT NULL REFERENCES subject (id),
    number        BIGINT NOT NULL,    -- its place in the person's chain, 1 and upwards
    purpose       TEXT   NOT NULL,
    document      TEXT   NOT NULL,    -- JSON, as hashed
    previous_hash BYTEA,               -- 32 bytes: of the event before in the person's chain
    hash          BYTEA   NOT NULL,    -- 32 bytes
    effective_at  BIGINT NOT NULL,
    recorded_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX consent_event_chain ON consent_event (subject, number);

-- What the events of a person come to, purpose by purpose.
CREATE TABLE standing (
    -- Immutable.
    subject    BYTEA   NOT NULL REFERENCES subject (id),
    purpose    TEXT   NOT NULL,
    -- Mutable.
    document   TEXT   NOT NULL, -- JSON
    due_at     BIGINT,          -- the next moment at which it should be looked at, whatever the notices say
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (subject, purpose)
);
CREATE INDEX standing_due ON standing (due_at, subject, purpose);
CREATE INDEX standing_purpose ON standing (purpose, subject);
