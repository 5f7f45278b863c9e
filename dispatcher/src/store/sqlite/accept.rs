//! Accepting.

/// Answers that are still kept for the keys `[tenant, credential, route, key]`.
pub(in crate::store) const KNOWN_KEYS: &str = "
SELECT i.tenant, i.credential, i.route, i.key, i.request_hash, i.status, i.response
FROM json_each(?1) j CROSS JOIN idempotency i
  ON i.tenant = j.value ->> 0 AND i.credential = j.value ->> 1 AND i.route = j.value ->> 2 AND i.key = j.value ->> 3
WHERE i.expires_at > ?2";

/// Only an expired row that is in the way is replaced: `?3` is the present.
pub(in crate::store) const KEEP_KEYS: &str = "
INSERT INTO idempotency (tenant, credential, route, key, request_hash, status, response, expires_at)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5, value ->> 6, ?2
FROM json_each(?1) WHERE true
ON CONFLICT (tenant, credential, route, key) DO UPDATE SET
  request_hash = excluded.request_hash, status = excluded.status, response = excluded.response,
  expires_at = excluded.expires_at
WHERE idempotency.expires_at <= ?3";

pub(in crate::store) const AMEND_ANSWER: &str = "
UPDATE idempotency SET response = ?5 WHERE tenant = ?1 AND credential = ?2 AND route = ?3 AND key = ?4";

/// Takes `[key, entries, items]`, sorted by key: the order in which every transaction locks them.
pub(in crate::store) const TAKE_POSITIONS: &str = "
INSERT INTO counters (key, position, items)
SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1) WHERE true
ON CONFLICT (key) DO UPDATE SET position = position + excluded.position, items = items + excluded.items
RETURNING key, position, items";

pub(in crate::store) const INSERT_NOTIFICATIONS: &str = "
INSERT INTO notifications
  (id, tenant, sender, audience, content, kind, category, lane, strategy, channels, created_at, visible_at, expires_at)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
  value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12
FROM json_each(?1)";

pub(in crate::store) const INSERT_INBOX: &str = "
INSERT INTO inbox (key, position, ordinal, notification_id, visible_at, filter, group_key)
SELECT value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3), value ->> 4, value ->> 5,
  value ->> 6 FROM json_each(?1)";

pub(in crate::store) const INSERT_SCHEDULED: &str = "
INSERT INTO scheduled (visible_at, notification_id, routes, group_key)
SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3 FROM json_each(?1)";

/// One recipient gets a notification by one channel at one address once.
pub(in crate::store) const INSERT_DELIVERIES: &str = "
INSERT INTO deliveries
  (id, notification_id, tenant, channel, user, address, lane, state, reason, due_at, lease_until, token, max_attempts,
   updated_at)
SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
  value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13
FROM json_each(?1) WHERE true
ON CONFLICT (notification_id, user, channel, address) DO NOTHING";

pub(in crate::store) const INSERT_JOBS: &str = "
INSERT INTO jobs (notification_id, tenant, job, next_at, lane, token, done, updated_at)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, 0, 0, ?2 FROM json_each(?1)";

/// Adds `[tenant, created, sent, failed]`.
pub(in crate::store) const ADD_TOTALS: &str = "
INSERT INTO totals (tenant, created, sent, failed)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?1) WHERE true
ON CONFLICT (tenant) DO UPDATE SET
  created = created + excluded.created, sent = sent + excluded.sent, failed = failed + excluded.failed";

pub(in crate::store) const PRUNE_KEYS: &str = "
DELETE FROM idempotency WHERE (tenant, credential, route, key) IN
  (SELECT tenant, credential, route, key FROM idempotency WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";

/// Whether a notification is there.
pub(in crate::store) const IS_STORED: &str = "SELECT 1 FROM notifications WHERE id = ?1";

/// Those of these notifications that are there.
pub(in crate::store) const ARE_STORED: &str =
    "SELECT id FROM notifications WHERE id IN (SELECT unhex(value) FROM json_each(?1))";
