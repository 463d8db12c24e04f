-- A part of a call has a key of its own, so that it can be destroyed alone.
ALTER TABLE subject_key ADD COLUMN part BLOB; -- the part of a call that it is for; null: whatever else is kept in the class

-- Parts of calls. What is here is clear and names nobody; addresses, contents and media keys are tokens.
CREATE TABLE call_part (
    -- Immutable.
    id          BLOB   PRIMARY KEY,
    call        BLOB   NOT NULL REFERENCES call (id),
    party       BIGINT NOT NULL, -- whose it is, by the number in the call
    kind        BIGINT NOT NULL, -- model::PartKind
    class       TEXT   NOT NULL, -- retention class
    media_type  TEXT   NOT NULL, -- of what it stands for, or empty
    sha256      BLOB,            -- of what it stands for
    occurred_at BIGINT,          -- when that was made
    body        BIGINT NOT NULL, -- model::PartBody
    content     BLOB   REFERENCES token (id), -- where it lies, or what it is
    media_key   BLOB   REFERENCES token (id), -- the key of what lies elsewhere
    created_at  BIGINT NOT NULL
);
CREATE INDEX call_part_call ON call_part (call, id);
