-- What a law demands outlasts the erasure of its person, until its period is over.
ALTER TABLE subject_key ADD COLUMN kept_until BIGINT; -- until when it outlasts the erasure of its subject; null: it does not
CREATE INDEX subject_key_kept ON subject_key (kept_until, leaf) WHERE kept_until IS NOT NULL AND ended_by IS NULL;
