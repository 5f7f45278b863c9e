-- What was accepted, and the answers that repeats get.
-- Portable types only: INTEGER microseconds, BLOB of 16 bytes for ids, TEXT, JSON as TEXT.

CREATE TABLE notifications (
    id BLOB NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    sender TEXT NOT NULL,
    audience TEXT,
    content TEXT NOT NULL,
    kind TEXT NOT NULL,
    category TEXT,
    lane INTEGER NOT NULL,
    strategy TEXT NOT NULL,
    channels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    visible_at INTEGER NOT NULL,
    expires_at INTEGER,
    withdrawn INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Accepted, not yet visible: no position is given before its time.
CREATE TABLE scheduled (
    visible_at INTEGER NOT NULL,
    notification_id BLOB NOT NULL,
    routes TEXT NOT NULL,
    PRIMARY KEY (visible_at, notification_id)
) WITHOUT ROWID;

CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    credential TEXT NOT NULL,
    route TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    status INTEGER NOT NULL,
    response TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, credential, route, key)
) WITHOUT ROWID;

CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE totals (
    tenant TEXT NOT NULL PRIMARY KEY,
    created INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    failed INTEGER NOT NULL
) WITHOUT ROWID;
