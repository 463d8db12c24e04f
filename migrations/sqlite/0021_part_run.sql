-- Parts of a call that are destroyed before their time go by a run of their own.
ALTER TABLE retention_run ADD COLUMN call BLOB; -- the call whose parts it destroys; null: what was kept long enough
ALTER TABLE retention_run ADD COLUMN reason TEXT NOT NULL DEFAULT 'retention'; -- a legal ground or a ticket
