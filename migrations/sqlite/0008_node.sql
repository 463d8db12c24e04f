-- Processes that hold keys of this vault in memory, each with a lease that it must renew. Only a database that several
-- processes may share has any.

CREATE TABLE node (
    -- Immutable.
    id        BLOB  PRIMARY KEY, -- 16 bytes, new with every start
    name      TEXT   NOT NULL,    -- the host, for people
    process   TEXT   NOT NULL,    -- by which a process on the same machine can tell whether it still runs
    joined_at BIGINT NOT NULL,
    -- Mutable.
    renewals  BIGINT NOT NULL,    -- rises with every sign of life; a lease is judged by its standing still
    epoch     BIGINT NOT NULL,    -- the newest announced epoch whose deaths the node has applied
    landed    BIGINT NOT NULL,    -- the newest landing that the node has answered
    seen_at   BIGINT NOT NULL     -- by the node's own clock, for people
);

-- Processes that may be writing. One that is here and is no node has ended in the midst of its work; on a database of one
-- process that is whoever is here when the next one starts.
CREATE TABLE index_writer (
    -- Immutable.
    node BLOB PRIMARY KEY
);
