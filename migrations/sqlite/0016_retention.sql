-- What is under a key whose retention class has a period ends with its cohort: the values of one month.
ALTER TABLE subject_key ADD COLUMN cohort BIGINT;   -- the month in which its values were kept, counted from January 1970; null: any
ALTER TABLE subject_key ADD COLUMN ended_by BLOB;   -- the run that destroyed it because its retention had ended; zeros: found destroyed
CREATE INDEX subject_key_due ON subject_key (class, cohort, leaf) WHERE ended_by IS NULL;
CREATE INDEX subject_key_undated ON subject_key (class, subject) WHERE cohort IS NULL AND ended_by IS NULL;
ALTER TABLE token ADD COLUMN ended_at BIGINT;       -- when the value was destroyed because its retention had ended

-- Runs that destroy what was kept long enough.
CREATE TABLE retention_run (
    -- Immutable.
    id         BLOB   PRIMARY KEY, -- UUIDv7
    started_by TEXT   NOT NULL,    -- the caller; lacuna for the vault itself
    started_at BIGINT NOT NULL,
    -- Mutable.
    state      BIGINT NOT NULL,    -- model::RunState
    owner      BLOB,              -- the node that sweeps, while it does
    items      TEXT   NOT NULL,    -- JSON: so many values of such a class and month
    epoch      BIGINT,             -- the epoch of the key tree that lacks the keys
    ended_at   BIGINT,             -- when the keys were gone
    receipt    BLOB                -- signed
);
CREATE INDEX retention_run_state ON retention_run (state);

-- What the clock has shown, so that one that jumps ahead destroys nothing. One row.
CREATE TABLE retention_clock (
    -- Immutable.
    id         SMALLINT PRIMARY KEY CHECK (id = 1),
    -- Mutable.
    seen_at    BIGINT   NOT NULL, -- when somebody last looked; 0 before that
    trusted_at BIGINT   NOT NULL, -- when a doubt ends; the last of all times: when a person says so
    believed_at BIGINT  NOT NULL  -- the highest time that was believed; 0 before that
);
INSERT INTO retention_clock (id, seen_at, trusted_at, believed_at) VALUES (1, 0, 0, 0);
