-- Notifications that are made again and again.

CREATE TABLE schedules (
    id UUID NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT,
    author TEXT NOT NULL,
    -- When, what, and with which rights: JSON.
    said TEXT NOT NULL,
    state TEXT NOT NULL,
    -- The occurrence that comes next.
    next_at BIGINT,
    -- When somebody has to look: at the next occurrence, later by the jitter, or when the lease of who makes it runs out.
    due_at BIGINT,
    -- Grows with each claim, end and change, and is never reset: a write that names an older one changes nothing.
    token BIGINT NOT NULL,
    worker TEXT,
    runs BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    missed BIGINT NOT NULL,
    last_at BIGINT,
    last_notification UUID,
    last_error TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE INDEX schedules_due ON schedules (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX schedules_tenant ON schedules (tenant, id);
CREATE UNIQUE INDEX schedules_name ON schedules (tenant, name) WHERE name IS NOT NULL;
