-- What happens during calls. Clear, and of nobody but a party's number.
CREATE TABLE call_event (
    -- Immutable.
    source_system  TEXT   NOT NULL,
    source_call_id TEXT   NOT NULL,
    event_id       TEXT   NOT NULL, -- what the system calls it, within the leg
    call           BLOB   NOT NULL REFERENCES call (id),
    kind           BIGINT NOT NULL, -- model::CallEventKind
    party          BIGINT NOT NULL, -- the number in the call, or 0
    cause          BIGINT NOT NULL, -- model::PauseCause, or 0
    decision       BIGINT NOT NULL, -- model::Recording, or 0
    happened_at    BIGINT NOT NULL,
    told_at        BIGINT NOT NULL,
    PRIMARY KEY (source_system, source_call_id, event_id)
);
CREATE INDEX call_event_call ON call_event (call, kind, happened_at);

-- A value may be told with several calls: it is deleted when none has it any more.
CREATE INDEX call_value_token ON call_value (token);
