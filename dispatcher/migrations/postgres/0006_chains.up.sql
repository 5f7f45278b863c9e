-- Chains of channels: what follows what for one recipient. The chain itself is one JSON text, changed as a whole by
-- whoever holds the row; the columns beside it are what queries need.

CREATE TABLE chains (
    -- Its deliveries have ids of the same family.
    id UUID NOT NULL PRIMARY KEY,
    notification_id UUID NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    -- Empty for addresses alone.
    "user" TEXT COLLATE "C" NOT NULL,
    lane BIGINT NOT NULL,
    open BIGINT NOT NULL,
    -- When time moves it.
    next_at BIGINT,
    -- A channel failed, and administrators have not been told.
    untold BIGINT NOT NULL,
    chain TEXT NOT NULL,
    updated_at BIGINT NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX chains_recipient ON chains (notification_id, "user");
CREATE INDEX chains_open ON chains (tenant, "user") WHERE open = 1;
CREATE INDEX chains_due ON chains (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX chains_untold ON chains (updated_at) WHERE untold = 1;
CREATE INDEX chains_closed ON chains (updated_at) WHERE open = 0;
