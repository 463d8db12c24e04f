-- Legal holds: copies of values, under keys that no erasure and no end of retention takes along.
CREATE TABLE hold (
    -- Immutable.
    id          BLOB    PRIMARY KEY, -- UUIDv7
    matter      TEXT    NOT NULL,    -- the case; a label that names nobody
    basis       TEXT    NOT NULL,    -- a legal ground or a ticket
    by_token    BOOLEAN NOT NULL,    -- whether tokens were named, and not whole subjects
    asked       BLOB    NOT NULL,    -- SHA-256 of what was named
    placed_by   TEXT    NOT NULL,
    placed_at   BIGINT  NOT NULL,
    -- Mutable.
    released_by TEXT,
    released_at BIGINT,
    release_reason TEXT              -- a legal ground or a ticket
);
CREATE INDEX hold_matter ON hold (matter, id);

-- Of whom a hold keeps copies.
CREATE TABLE held_subject (
    -- Immutable.
    hold      BLOB   NOT NULL REFERENCES hold (id),
    subject   BLOB   NOT NULL REFERENCES subject (id),
    -- Mutable.
    leaf      BIGINT,          -- of the key that the copies are under; null: there was nothing to copy
    copied    BIGINT NOT NULL, -- so many values
    lost      BIGINT NOT NULL, -- so many more are not there: they do not open, or a restored database has no copy
    PRIMARY KEY (hold, subject)
);
CREATE INDEX held_subject_subject ON held_subject (subject, hold);

-- The copies.
CREATE TABLE held_value (
    -- Immutable.
    hold    BLOB   NOT NULL REFERENCES hold (id),
    token   BLOB   NOT NULL REFERENCES token (id),
    leaf    BIGINT NOT NULL, -- of the key that seals it
    version BIGINT NOT NULL, -- which value of the token it is
    sealed  BLOB   NOT NULL, -- the envelope
    PRIMARY KEY (hold, token)
);
CREATE INDEX held_value_token ON held_value (token, hold);
CREATE INDEX held_value_leaf ON held_value (leaf);
ALTER TABLE retention_run ADD COLUMN hold BLOB; -- the hold whose copies it destroys; null: what was kept long enough, or parts of a call
