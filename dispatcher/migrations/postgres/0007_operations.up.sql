-- What operators do: pauses, cancelled notifications, dead letters and edits of them; and claims fair by tenant.

ALTER TABLE notifications ADD COLUMN cancelled_at BIGINT;

-- An empty tenant is every tenant, an empty channel every channel that leaves this system.
CREATE TABLE pauses (
    tenant TEXT COLLATE "C" NOT NULL,
    channel TEXT COLLATE "C" NOT NULL,
    reason TEXT,
    paused_by TEXT NOT NULL,
    paused_at BIGINT NOT NULL,
    ends_at BIGINT,
    PRIMARY KEY (tenant, channel)
);

-- What is said to one recipient instead of the notification's content.
CREATE TABLE delivery_edits (
    delivery_id UUID NOT NULL PRIMARY KEY,
    notification_id UUID NOT NULL,
    content TEXT NOT NULL,
    edited_by TEXT NOT NULL,
    edited_at BIGINT NOT NULL
);

CREATE INDEX deliveries_dead ON delivery_history (tenant, updated_at, id) WHERE state = 'dead';

-- A lane's work lies by channel and tenant, so that neither a paused channel's nor a busy tenant's backlog is in the way of
-- another's: a claim goes from tenant to tenant.
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (lane, channel, tenant, due_at, id) WHERE state = 'pending';
