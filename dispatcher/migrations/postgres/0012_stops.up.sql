-- Notifications that were taken back and had more pending deliveries than one transaction ends: the rest is ended after it.
CREATE TABLE stops (
    notification_id UUID NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL
);

-- What was discarded is not in the way of the list.
DROP INDEX deliveries_dead;
CREATE INDEX deliveries_dead ON delivery_history (tenant, updated_at, id)
    WHERE state = 'dead' AND coalesce(reason, '') NOT LIKE 'discarded%';
