-- The search index: encrypted buckets of fixed-size chunks, each bucket under a leaf of the key tree of its own.
-- An erasure writes the buckets it touches anew under fresh leaves and punctures the old ones.

-- An index under one key. While a new one is built there are two: both are written, the current one is read.
CREATE TABLE index_generation (
    -- Immutable.
    generation   BIGINT PRIMARY KEY,
    leaf         BIGINT NOT NULL, -- the leaf of the key that names its buckets
    first_bucket BIGINT NOT NULL, -- its buckets have numbers of their own, from here on
    buckets      BIGINT NOT NULL, -- how many
    -- Mutable.
    state        BIGINT NOT NULL  -- store::index::Stage
);

CREATE TABLE index_bucket (
    -- Immutable.
    bucket BIGINT PRIMARY KEY, -- across all generations
    -- Mutable.
    leaf   BIGINT NOT NULL, -- whose key seals the bucket's chunks
    chunks BIGINT NOT NULL, -- how many chunks it has; at least one
    -- Whether an entry was taken out since the bucket got its leaf. Old copies still have it, so the next erasure
    -- writes the bucket anew whoever it is about.
    dirty  BOOLEAN NOT NULL
);

CREATE TABLE index_chunk (
    -- Immutable.
    bucket BIGINT NOT NULL REFERENCES index_bucket (bucket),
    chunk  BIGINT NOT NULL, -- 0 and up; only the last one has room
    -- Mutable.
    blob   BYTEA  NOT NULL, -- sealed, of equal length everywhere
    PRIMARY KEY (bucket, chunk)
);
