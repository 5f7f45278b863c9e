-- Chains of channels: what follows what for one recipient. The chain itself is one JSON text, changed as a whole by
-- whoever holds the row; the columns beside it are what queries need.

CREATE TABLE chains (
    -- Its deliveries have ids of the same family.
    id BLOB NOT NULL PRIMARY KEY,
    notification_id BLOB NOT NULL,
    tenant TEXT NOT NULL,
    -- Empty for addresses alone.
    user TEXT NOT NULL,
    lane INTEGER NOT NULL,
    open INTEGER NOT NULL,
    -- When time moves it.
    next_at INTEGER,
    -- A channel failed, and administrators have not been told.
    untold INTEGER NOT NULL,
    chain TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX chains_recipient ON chains (notification_id, user);
CREATE INDEX chains_open ON chains (tenant, user) WHERE open = 1;
CREATE INDEX chains_due ON chains (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX chains_untold ON chains (updated_at) WHERE untold = 1;
CREATE INDEX chains_closed ON chains (updated_at) WHERE open = 0;
