-- Rotations of keys, and the log of what happened to the keys. No key and no value is here.

CREATE TABLE rotation (
    -- Immutable.
    id           BLOB   PRIMARY KEY, -- UUIDv7
    kind         BIGINT NOT NULL,    -- model::RotationKind
    target       TEXT   NOT NULL,    -- the subject whose key it is; empty for a key of the vault's own
    requested_by TEXT   NOT NULL,    -- the caller
    created_at   BIGINT NOT NULL,
    -- Mutable.
    state        BIGINT NOT NULL,    -- model::RotationState
    done         BIGINT NOT NULL,    -- how much of the total is done
    total        BIGINT NOT NULL,
    step         TEXT   NOT NULL,    -- JSON: where it stands; a step is made only by whoever finds it as expected
    detail       TEXT   NOT NULL,    -- what it waits for, or what came of it, in words
    updated_at   BIGINT NOT NULL,
    finished_at  BIGINT
);
-- One at a time of each kind, and of subjects' keys one for each subject.
CREATE UNIQUE INDEX rotation_running ON rotation (kind, target) WHERE state = 1;
CREATE INDEX rotation_created_at ON rotation (created_at, id);

-- What happened to the keys. Only ever added to.
CREATE TABLE key_event (
    -- Immutable.
    id     BLOB   PRIMARY KEY, -- UUIDv7
    at     BIGINT NOT NULL,
    actor  TEXT   NOT NULL,    -- the caller or the node
    kind   BIGINT NOT NULL,    -- model::KeyEventKind
    detail TEXT   NOT NULL     -- ids, counts and epochs in words, never a value
);
CREATE INDEX key_event_at ON key_event (at, id);
