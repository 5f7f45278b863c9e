//! Forgetting what is old.

/// The oldest rows of all inboxes: `$1` before this time, `$2` so many.
pub(in crate::store) const OLD_ROWS: &str = "
SELECT key, notification_id FROM inbox WHERE visible_at < $1::bigint ORDER BY visible_at LIMIT $2::bigint";

/// The first rows of one key. `$1` the key, `$2` so many.
pub(in crate::store) const FIRST_ROWS: &str = "
SELECT position, ordinal, notification_id, visible_at FROM inbox WHERE key = $1::text
ORDER BY position LIMIT $2::bigint";

/// Rows of notifications under keys of expressions.
pub(in crate::store) const FILTERED_ROWS: &str = "
SELECT i.key, i.position, i.ordinal, i.notification_id FROM unnest($1::uuid[]) AS j (id)
JOIN inbox i ON i.notification_id = j.id AND i.key >= 'x:' AND i.key < 'x;'";

/// How many receipts there are of notifications.
pub(in crate::store) const COUNT_RECEIPTS: &str = "
SELECT r.notification_id, count(*) FROM unnest($1::uuid[]) AS j (id)
JOIN receipts r ON r.notification_id = j.id GROUP BY r.notification_id";

/// Takes `[key, position]`. Locks the rows in this order, as every other statement that does.
pub(in crate::store) const DELETE_ROWS: &str = "
WITH held AS MATERIALIZED (
  SELECT i.key, i.position
  FROM (SELECT * FROM unnest($1::text[], $2::bigint[]) AS p (key, position) ORDER BY key COLLATE \"C\", position) p
  CROSS JOIN LATERAL (SELECT i.key, i.position FROM inbox i
    WHERE i.key = p.key AND i.position = p.position FOR UPDATE) i)
DELETE FROM inbox i USING held WHERE i.key = held.key AND i.position = held.position";

/// Holds the readers who have receipts of `[key, notification]`.
pub(in crate::store) const LOCK_READERS: &str = "
WITH wanted AS MATERIALIZED (
  SELECT DISTINCT r.tenant, r.\"user\" AS username, r.key
  FROM unnest($1::text[], $2::uuid[]) AS p (key, id)
  JOIN receipts r ON r.notification_id = p.id AND r.key = p.key)
SELECT m.key FROM (SELECT * FROM wanted ORDER BY tenant, username, key) w
CROSS JOIN LATERAL (SELECT m.key FROM readers m
  WHERE m.tenant = w.tenant AND m.\"user\" = w.username AND m.key = w.key FOR NO KEY UPDATE) m";

/// What receipts of `[key, notification]` added to their readers' counts is taken out again.
pub(in crate::store) const UNCOUNT: &str = "
WITH sums AS MATERIALIZED (
  SELECT r.tenant, r.\"user\" AS username, r.key,
    count(*) FILTER (WHERE r.done = 1 AND r.ordinal > greatest(m.since_ordinal, m.read_ordinal)) AS done,
    count(*) FILTER (WHERE r.reopened = 1 AND r.done = 0) AS reopened
  FROM unnest($1::text[], $2::uuid[]) AS p (key, id)
  JOIN receipts r ON r.notification_id = p.id AND r.key = p.key
  JOIN readers m ON m.tenant = r.tenant AND m.\"user\" = r.\"user\" AND m.key = r.key
  WHERE r.key NOT LIKE 'x:%' GROUP BY 1, 2, 3)
UPDATE readers m SET done = m.done - s.done, reopened = m.reopened - s.reopened
FROM sums s WHERE m.tenant = s.tenant AND m.\"user\" = s.username AND m.key = s.key";

/// Takes `[key, notification]`.
pub(in crate::store) const DELETE_RECEIPTS: &str = "
DELETE FROM receipts r USING unnest($1::text[], $2::uuid[]) AS p (key, id)
WHERE r.notification_id = p.id AND r.key = p.key";

/// Of `[key, position, ordinal]` all up to there is gone: a cursor below has missed entries, and nobody counts the rows.
pub(in crate::store) const RAISE_GONE: &str = "
WITH held AS MATERIALIZED (
  SELECT c.key, p.position, p.ordinal
  FROM (SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS p (key, position, ordinal)
    ORDER BY key COLLATE \"C\") p
  CROSS JOIN LATERAL (SELECT c.key FROM counters c WHERE c.key = p.key FOR NO KEY UPDATE) c)
UPDATE counters c SET floor = greatest(c.floor, held.position), gone = greatest(c.gone, held.ordinal)
FROM held WHERE c.key = held.key";

/// Rows that may be forgotten any moment stay while a transaction looks at them: of notifications `$1` under keys `$2`
/// those from before `$3`.
pub(in crate::store) const LOCK_OLD_ROWS: &str = "
WITH old AS MATERIALIZED (
  SELECT i.key, i.position FROM unnest($1::uuid[]) AS j (id) JOIN inbox i ON i.notification_id = j.id
  WHERE i.key = ANY ($2::text[]) AND i.visible_at < $3::bigint)
SELECT i.key FROM (SELECT * FROM old ORDER BY key, position) o
CROSS JOIN LATERAL (SELECT i.key FROM inbox i WHERE i.key = o.key AND i.position = o.position FOR KEY SHARE) i";

/// Notifications of no month that nothing needs any more: `$1` with ids below, `$2` before this time, `$3` so many. Those
/// of a month go with it.
pub(in crate::store) const OLD_NOTIFICATIONS: &str = "
SELECT n.id FROM notifications_default n
WHERE n.id < $1::uuid AND n.visible_at < $2::bigint
  AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.notification_id = n.id)
  AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.notification_id = n.id)
  AND NOT EXISTS (SELECT 1 FROM delivery_history h WHERE h.notification_id = n.id AND h.updated_at >= $2::bigint)
  AND NOT EXISTS (SELECT 1 FROM scheduled s WHERE s.visible_at = n.visible_at AND s.notification_id = n.id)
  AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.notification_id = n.id AND j.done = 0)
  AND NOT EXISTS (SELECT 1 FROM chains c WHERE c.notification_id = n.id AND c.open = 1)
ORDER BY n.id LIMIT $3::bigint FOR UPDATE SKIP LOCKED";

/// Deliveries of notifications `$1`, `$2` so many.
pub(in crate::store) const OLD_DELIVERIES: &str = "
SELECT h.id FROM unnest($1::uuid[]) AS j (id) JOIN delivery_history h ON h.notification_id = j.id LIMIT $2::bigint";

pub(in crate::store) const DELETE_ATTEMPTS: &str = "
DELETE FROM attempts a USING unnest($1::uuid[]) AS j (id) WHERE a.delivery_id = j.id";

pub(in crate::store) const DELETE_DELIVERIES: &str = "
DELETE FROM delivery_history h USING unnest($1::uuid[]) AS j (id) WHERE h.id = j.id";

pub(in crate::store) const DELETE_JOBS: &str = "
DELETE FROM jobs USING unnest($1::uuid[]) AS j (id) WHERE jobs.notification_id = j.id AND jobs.done = 1";

pub(in crate::store) const DELETE_NOTIFICATIONS: &str = "
DELETE FROM notifications n USING unnest($1::uuid[]) AS j (id) WHERE n.id = j.id";

/// Drops the partitions of one month that ended before `$1`; answers 0 where there is none.
pub(in crate::store) const FORGET_MONTH: &str = "SELECT forget_month($1::bigint)";

/// Makes the partitions of this month and of `$1` to come; answers how many were missing.
pub(in crate::store) const ENSURE_PARTITIONS: &str = "SELECT ensure_partitions($1::bigint)";
