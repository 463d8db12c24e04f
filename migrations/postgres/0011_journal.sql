-- What has changed and is not in the journal of the sinks yet. The rows say what to look at, not what it was.
CREATE TABLE journal_mark (
    -- Immutable.
    kind    SMALLINT NOT NULL, -- see store/journal.rs
    key     TEXT     NOT NULL,
    -- Mutable.
    changes BIGINT   NOT NULL, -- since the row was made, 1 and upwards
    PRIMARY KEY (kind, key)
);

-- Up to which entry of the journal this database knows everything. One row.
CREATE TABLE journal_head (
    -- Immutable.
    id   SMALLINT PRIMARY KEY CHECK (id = 1),
    -- Mutable.
    upto BIGINT   NOT NULL -- the stamp of an entry; 0 before the first
);
INSERT INTO journal_head (id, upto) VALUES (1, 0);
