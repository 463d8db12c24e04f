-- That callers were disabled, or enabled again. A row is a decision; a change is another row.
CREATE TABLE caller_change (
    -- Immutable.
    seq        BIGINT  PRIMARY KEY, -- 1 and upwards, without gaps
    caller     TEXT    NOT NULL,    -- the name in the configuration
    disabled   BOOLEAN NOT NULL,
    reason     TEXT    NOT NULL,    -- a code or a ticket, or empty
    changed_by TEXT    NOT NULL,    -- the caller
    changed_at BIGINT  NOT NULL
);
