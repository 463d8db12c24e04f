-- The vault itself and its key state. Nothing here opens anything without the root slot, which lives elsewhere.

CREATE TABLE vault (
    -- Immutable.
    id         BIGINT PRIMARY KEY CHECK (id = 1), -- there is one vault in a database
    tree       BYTEA  NOT NULL,                   -- 16 bytes: the id of its key tree
    created_at BIGINT NOT NULL                    -- microseconds since 1970
);

CREATE TABLE key_tree (
    -- Immutable.
    tree      BYTEA  PRIMARY KEY,
    -- Mutable.
    root_id   BYTEA  NOT NULL, -- 16 bytes: which root key opens the tree, as far as this database knows
    epoch     BIGINT NOT NULL, -- how often the root has changed
    next_leaf BIGINT NOT NULL, -- the lowest leaf never handed out
    -- From here to before there: leaves kept for index buckets, so that these are close to each other. Nothing was sealed
    -- under them yet.
    spare_leaf BIGINT NOT NULL,
    spare_end  BIGINT NOT NULL,
    fence     BIGINT NOT NULL, -- the newest epoch whose deaths were announced; the slot may not have advanced to it yet
    wanted    BIGINT NOT NULL, -- an epoch that somebody waits for; whoever leads sees to it
    landing   BIGINT NOT NULL, -- how often the nodes were asked to let land what is under way
    leader    BYTEA,          -- the node that shreds; nobody when null
    term      BIGINT NOT NULL  -- how often the lead has changed hands
);

-- Pages of the key tree, written anew with every change, never in place.
CREATE TABLE key_page (
    -- Immutable.
    level   BIGINT NOT NULL, -- 0 is the root
    prefix  BIGINT NOT NULL, -- the leading bits that all leaves below the page share
    version BYTEA  NOT NULL, -- 16 bytes: the public name of its key
    epoch   BIGINT NOT NULL, -- for which epoch it was made
    blob    BYTEA  NOT NULL, -- sealed under a single-use key that the parent page holds
    PRIMARY KEY (level, prefix, version)
);
CREATE INDEX key_page_epoch ON key_page (epoch);

-- Leaves that were handed out since the last change of the root. Something may have been sealed under one that no row
-- names, in a transaction that was undone: the next change of the root takes those along, and removes the range.
CREATE TABLE open_leaf (
    -- Immutable.
    first BIGINT PRIMARY KEY,
    last  BIGINT NOT NULL
);

-- Leaves that are gone for ever, or will be once the slot has advanced to the epoch.
CREATE TABLE punctured (
    -- Immutable.
    first BIGINT NOT NULL, -- first leaf of the range
    last  BIGINT NOT NULL, -- last leaf of the range
    -- Mutable.
    epoch BIGINT NOT NULL, -- the epoch that lacks them
    PRIMARY KEY (first, last)
);
CREATE INDEX punctured_epoch ON punctured (epoch);
