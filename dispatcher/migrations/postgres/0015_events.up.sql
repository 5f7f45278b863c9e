-- What became notifications by rules, and the rules.

-- One row an event that was taken in, written with its notifications: who brings it again changes nothing.
CREATE TABLE events (
    -- Where it was read: `kafka:<topic>/<partition>`, `outbox:<table>`.
    origin TEXT NOT NULL,
    -- Its offset, or its number in the outbox.
    position BIGINT NOT NULL,
    -- Its time there: a topic or table that was made anew counts its positions from the start again.
    stamped BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- Its own name, where it has one.
    source TEXT,
    event_id TEXT,
    notifications BIGINT NOT NULL,
    taken_at BIGINT NOT NULL,
    PRIMARY KEY (origin, position, stamped)
);

CREATE UNIQUE INDEX events_name ON events (tenant, source, event_id) WHERE event_id IS NOT NULL;
CREATE INDEX events_age ON events (taken_at);

-- Every version of every rule. The newest holds; without a body the rule is deleted.
CREATE TABLE rules (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT,
    author TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, name, version)
);
