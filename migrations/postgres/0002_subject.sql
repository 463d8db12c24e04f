-- People, by pseudonym. A row is never deleted: an erased person differs from one who never was.

CREATE TABLE subject (
    -- Immutable.
    id                 BYTEA   PRIMARY KEY, -- UUIDv7
    kind               TEXT    NOT NULL,    -- what the person is to the controller
    jurisdiction       TEXT    NOT NULL,    -- ISO 3166 code, or empty
    source             TEXT    NOT NULL,    -- where the subject came from
    created_at         BIGINT  NOT NULL,
    -- Mutable.
    state              BIGINT  NOT NULL,    -- model::SubjectState
    restriction_ground TEXT,                -- why processing is restricted
    restricted_at      BIGINT,              -- since when
    profiling          BOOLEAN NOT NULL,    -- whether the person may be profiled
    suppressed_at      BIGINT,              -- since when the person objects to direct marketing
    erasure            BYTEA,                -- the erasure scheduled, under way or done
    erased_at          BIGINT,              -- when the keys were destroyed
    version            BIGINT  NOT NULL     -- counts changes; the etag
);

-- Which leaf of the key tree holds a subject's key for a retention class. No key is here.
CREATE TABLE subject_key (
    -- Immutable.
    leaf       BIGINT PRIMARY KEY,
    subject    BYTEA  NOT NULL REFERENCES subject (id),
    class      TEXT   NOT NULL, -- retention class
    version    BIGINT NOT NULL, -- key version
    created_at BIGINT NOT NULL,
    -- Mutable.
    state      BIGINT NOT NULL  -- model::KeyState
);
CREATE INDEX subject_key_subject ON subject_key (subject);
