-- What changed, for the systems that keep copies: pseudonyms, codes and times, never a value.

-- Events on their way into the history: written in the transaction of the change that they tell of.
CREATE TABLE outbox_entry (
    -- Immutable.
    subject    BYTEA  NOT NULL, -- whom it is about; sixteen zero bytes for nobody in particular
    number     BIGINT NOT NULL, -- in which order those about one subject came, as far as they are here
    id         BYTEA  NOT NULL, -- UUIDv7
    kind       BIGINT NOT NULL, -- model::OutboxKind
    token      BYTEA,           -- the row of a token
    document   TEXT   NOT NULL, -- JSON: ids and codes
    created_at BIGINT NOT NULL,
    PRIMARY KEY (subject, number)
);
CREATE INDEX outbox_entry_number ON outbox_entry (number, created_at, id);

-- The history: events in their final order.
CREATE TABLE outbox (
    -- Immutable.
    position   BIGINT PRIMARY KEY, -- 1 and upwards, without gaps; the oldest ones are removed in time
    mark       BYTEA  NOT NULL,    -- 8 bytes: tells this history up to here from every other
    id         BYTEA  NOT NULL,
    subject    BYTEA  NOT NULL,
    kind       BIGINT NOT NULL,
    token      BYTEA,
    document   TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    placed_at  BIGINT NOT NULL     -- when it got its position
);
CREATE INDEX outbox_subject ON outbox (subject, position);

-- Where the history ends. Whoever lengthens it holds this row until the commit.
CREATE TABLE outbox_head (
    -- Immutable.
    id       BIGINT PRIMARY KEY CHECK (id = 1),
    -- Mutable.
    history  BYTEA  NOT NULL, -- 8 bytes: its name; another one once the database has gone back in time
    position BIGINT NOT NULL, -- of the newest event; 0 before the first
    mark     BYTEA  NOT NULL  -- of the newest event
);

-- Systems that are told, and how far they have said so.
CREATE TABLE consumer (
    -- Immutable.
    name            TEXT   PRIMARY KEY,
    registered_at   BIGINT NOT NULL,
    -- Mutable.
    history         BYTEA  NOT NULL, -- 8 bytes: the history that it has acknowledged, by its name
    position        BIGINT NOT NULL, -- up to here, inclusive
    acknowledged_by TEXT   NOT NULL, -- the caller
    acknowledged_at BIGINT NOT NULL
);

-- When they said so.
CREATE TABLE acknowledgement (
    -- Immutable.
    consumer TEXT   NOT NULL,
    position BIGINT NOT NULL,
    caller   TEXT   NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (consumer, position)
);
