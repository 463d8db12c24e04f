-- The search index: encrypted buckets of fixed-size chunks, each bucket under a leaf of the key tree of its own.
-- An erasure writes the buckets it touches anew under fresh leaves and punctures the old ones.

CREATE TABLE index_bucket (
    -- Immutable.
    bucket BIGINT PRIMARY KEY,
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
    blob   BLOB   NOT NULL, -- sealed, of equal length everywhere
    PRIMARY KEY (bucket, chunk)
);
