-- One name for what is on its way and what has ended: read deliveries through it, write to `deliveries`.
CREATE VIEW all_deliveries AS
SELECT id, notification_id, tenant, channel, "user", address, lane, state, reason, due_at, lease_until, token, max_attempts,
    worker, updated_at FROM deliveries
UNION ALL
SELECT id, notification_id, tenant, channel, "user", address, lane, state, reason, due_at, lease_until, token, max_attempts,
    worker, updated_at FROM delivery_history;
