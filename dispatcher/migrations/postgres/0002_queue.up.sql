-- Deliveries with lease and fencing token, their attempts, and the fan-out of groups.

CREATE TABLE deliveries (
    id BLOB NOT NULL PRIMARY KEY,
    notification_id BLOB NOT NULL,
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    user TEXT,
    address TEXT,
    lane INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    due_at INTEGER NOT NULL,
    lease_until INTEGER,
    -- Grows with each claim and is never reset: a write that names an older one changes nothing.
    token INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    worker TEXT,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Also what makes a repeated page of a group's fan-out harmless.
CREATE UNIQUE INDEX deliveries_recipient ON deliveries (notification_id, user, channel, address);
CREATE INDEX deliveries_due ON deliveries (lane, due_at, id) WHERE state = 'pending';
CREATE INDEX deliveries_leased ON deliveries (lease_until) WHERE state = 'running';

CREATE TABLE attempts (
    delivery_id BLOB NOT NULL,
    number INTEGER NOT NULL,
    token INTEGER NOT NULL,
    provider TEXT,
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    outcome TEXT,
    reason TEXT,
    response TEXT,
    PRIMARY KEY (delivery_id, number)
) WITHOUT ROWID;

CREATE TABLE jobs (
    notification_id BLOB NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    job TEXT NOT NULL,
    cursor TEXT,
    -- When it is due, or until when it is leased.
    next_at INTEGER NOT NULL,
    token INTEGER NOT NULL,
    worker TEXT,
    done INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX jobs_open ON jobs (next_at) WHERE done = 0;
