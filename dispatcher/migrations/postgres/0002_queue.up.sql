-- Deliveries with lease and fencing token, their attempts, and the fan-out of groups.

-- Who gets it by what, as one short key; none where user or address is none, as such rows never repeat one another. The
-- channel's name has no colon and the user's length is named, so that no two recipients have one text.
CREATE FUNCTION delivery_recipient(channel TEXT, username TEXT, address TEXT) RETURNS UUID
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT md5(channel || ':' || length(username)::text || ':' || username || ':' || address)::uuid
$$;

-- The hot table: only what is pending or running. What reaches a terminal state moves to `delivery_history` by the same
-- statement. Heartbeats change columns that no index has, and find room on their page.
CREATE TABLE deliveries (
    id UUID NOT NULL PRIMARY KEY,
    notification_id UUID NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    channel TEXT COLLATE "C" NOT NULL,
    "user" TEXT COLLATE "C",
    address TEXT COLLATE "C",
    lane BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    reason TEXT,
    due_at BIGINT NOT NULL,
    lease_until BIGINT,
    -- Grows with each claim and is never reset: a write that names an older one changes nothing.
    token BIGINT NOT NULL,
    max_attempts BIGINT NOT NULL,
    worker TEXT,
    updated_at BIGINT NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);

-- Also what makes a repeated page of a group's fan-out harmless.
CREATE UNIQUE INDEX deliveries_recipient
    ON deliveries (notification_id, delivery_recipient(channel, "user", address));
CREATE INDEX deliveries_due ON deliveries (lane, due_at, id) WHERE state = 'pending';
CREATE INDEX deliveries_running ON deliveries (id) WHERE state = 'running';

-- Terminal ones, in the month of their notification.
CREATE TABLE delivery_history (
    id UUID NOT NULL,
    notification_id UUID NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    channel TEXT COLLATE "C" NOT NULL,
    "user" TEXT COLLATE "C",
    address TEXT COLLATE "C",
    lane BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    reason TEXT,
    due_at BIGINT NOT NULL,
    lease_until BIGINT,
    token BIGINT NOT NULL,
    max_attempts BIGINT NOT NULL,
    worker TEXT,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (id, notification_id)
) PARTITION BY RANGE (notification_id);

CREATE TABLE delivery_history_default PARTITION OF delivery_history DEFAULT;

CREATE INDEX delivery_history_recipient
    ON delivery_history (notification_id, delivery_recipient(channel, "user", address));

CREATE TABLE attempts (
    delivery_id UUID NOT NULL,
    number BIGINT NOT NULL,
    token BIGINT NOT NULL,
    provider TEXT,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    outcome TEXT,
    reason TEXT,
    response TEXT,
    PRIMARY KEY (delivery_id, number)
) PARTITION BY RANGE (delivery_id);

-- An attempt is written when it begins and once more when it ends.
CREATE TABLE attempts_default PARTITION OF attempts DEFAULT WITH (fillfactor = 75);

CREATE TABLE jobs (
    notification_id UUID NOT NULL PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    job TEXT NOT NULL,
    cursor TEXT,
    -- When it is due, or until when it is leased.
    next_at BIGINT NOT NULL,
    token BIGINT NOT NULL,
    worker TEXT,
    done BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX jobs_open ON jobs (next_at) WHERE done = 0;

SELECT ensure_partitions(3);
