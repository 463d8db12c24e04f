-- Calls of a contact centre. What is here is clear and names nobody; the values of parties are tokens.
CREATE TABLE call (
    -- Immutable.
    id            BYTEA  PRIMARY KEY, -- UUIDv7
    source_system TEXT   NOT NULL,    -- which system tells of it
    created_at    BIGINT NOT NULL,
    -- Mutable.
    group_id      TEXT,               -- what its legs have in common there
    started_at    BIGINT NOT NULL,    -- when the first leg began
    ended_at      BIGINT,             -- when the last leg ended
    version       BIGINT NOT NULL,    -- counts changes; the etag
    UNIQUE (source_system, group_id)
);

-- Legs of calls, as they were told last.
CREATE TABLE call_leg (
    -- Immutable.
    source_system  TEXT   NOT NULL,
    source_call_id TEXT   NOT NULL,
    call           BYTEA  NOT NULL REFERENCES call (id),
    -- Mutable.
    revision       BIGINT NOT NULL,
    digest         BYTEA,           -- the token of a digest of what was told: sealed under a party's key
    parties        BYTEA  NOT NULL, -- a byte each: the numbers of the parties, in the order in which they are told
    direction      BIGINT NOT NULL, -- model::Direction
    dialled        TEXT   NOT NULL, -- the company's number, or empty
    queue          TEXT   NOT NULL, -- a code, or empty
    skill          TEXT   NOT NULL, -- a code, or empty
    campaign       TEXT   NOT NULL, -- a code, or empty
    contact_list   TEXT   NOT NULL, -- a code, or empty
    started_at     BIGINT NOT NULL,
    rung_at        BIGINT,
    answered_at    BIGINT,
    ended_at       BIGINT,
    holds          BIGINT NOT NULL, -- how often somebody was put on hold
    held_for       BIGINT NOT NULL, -- for how many seconds together
    disposition    BIGINT NOT NULL, -- model::Disposition, or 0
    PRIMARY KEY (source_system, source_call_id)
);
CREATE INDEX call_leg_call ON call_leg (call);
CREATE INDEX call_leg_queue ON call_leg (queue, call);

-- Who took part.
CREATE TABLE call_party (
    -- Immutable.
    call       BYTEA  NOT NULL REFERENCES call (id),
    party      BIGINT NOT NULL, -- the number in the call, from 1
    role       BIGINT NOT NULL, -- model::PartyRole
    -- Mutable.
    subject    BYTEA  NOT NULL REFERENCES subject (id),
    candidates BYTEA  NOT NULL, -- 16 bytes each: subjects that they may be
    PRIMARY KEY (call, party)
);
CREATE INDEX call_party_subject ON call_party (subject, call);

-- What is kept of parties.
CREATE TABLE call_value (
    -- Immutable.
    call  BYTEA  NOT NULL REFERENCES call (id),
    party BIGINT NOT NULL,
    field BIGINT NOT NULL, -- model::CallField
    -- Mutable.
    token BYTEA  NOT NULL REFERENCES token (id),
    PRIMARY KEY (call, party, field)
);
