-- Notifications that are made again and again.

CREATE TABLE schedules (
    id BLOB NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT,
    author TEXT NOT NULL,
    -- When, what, and with which rights: JSON.
    said TEXT NOT NULL,
    state TEXT NOT NULL,
    -- The occurrence that comes next.
    next_at INTEGER,
    -- When somebody has to look: at the next occurrence, later by the jitter, or when the lease of who makes it runs out.
    due_at INTEGER,
    -- Grows with each claim, end and change, and is never reset: a write that names an older one changes nothing.
    token INTEGER NOT NULL,
    worker TEXT,
    runs INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    missed INTEGER NOT NULL,
    last_at INTEGER,
    last_notification BLOB,
    last_error TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX schedules_due ON schedules (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX schedules_tenant ON schedules (tenant, id);
CREATE UNIQUE INDEX schedules_name ON schedules (tenant, name) WHERE name IS NOT NULL;
