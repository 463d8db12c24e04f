-- Identifiers of people who object to direct marketing, each by a name under a key of the vault's own. A row tells that
-- somebody objects, not who: there is no person, no type and no time in it, and it stays when the person is erased.
CREATE TABLE suppression (
    -- Immutable.
    name BLOB PRIMARY KEY -- 32 bytes
) WITHOUT ROWID;
