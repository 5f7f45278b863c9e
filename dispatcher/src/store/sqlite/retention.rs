//! Forgetting what is old.

/// The oldest rows of all inboxes: `?1` before this time, `?2` so many.
pub(in crate::store) const OLD_ROWS: &str = "
SELECT key, notification_id FROM inbox WHERE visible_at < ?1 ORDER BY visible_at LIMIT ?2";

/// The first rows of one key. `?1` the key, `?2` so many.
pub(in crate::store) const FIRST_ROWS: &str = "
SELECT position, ordinal, notification_id, visible_at FROM inbox WHERE key = ?1 ORDER BY position LIMIT ?2";

/// Rows of notifications under keys of expressions.
pub(in crate::store) const FILTERED_ROWS: &str = "
SELECT i.key, i.position, i.ordinal, i.notification_id FROM json_each(?1) j
CROSS JOIN inbox i ON i.notification_id = unhex(j.value) AND i.key >= 'x:' AND i.key < 'x;'";

/// How many receipts there are of notifications.
pub(in crate::store) const COUNT_RECEIPTS: &str = "
SELECT r.notification_id, count(*) FROM json_each(?1) j
CROSS JOIN receipts r ON r.notification_id = unhex(j.value) GROUP BY r.notification_id";

/// Takes `[key, position]`.
pub(in crate::store) const DELETE_ROWS: &str = "
DELETE FROM inbox WHERE (key, position) IN
  (SELECT CAST(value ->> 0 AS TEXT), CAST(value ->> 1 AS INTEGER) FROM json_each(?1))";

/// Nobody else writes while a transaction of SQLite does.
pub(in crate::store) const LOCK_READERS: &str = "SELECT ?1 IS NULL";

/// What receipts of `[key, notification]` added to their readers' counts is taken out again.
pub(in crate::store) const UNCOUNT: &str = "
UPDATE readers SET done = readers.done - s.done, reopened = readers.reopened - s.reopened
FROM (SELECT r.tenant, r.user, r.key,
    sum(r.done = 1 AND r.ordinal > max(m.since_ordinal, m.read_ordinal)) AS done,
    sum(r.reopened = 1 AND r.done = 0) AS reopened
  FROM json_each(?1) j
  CROSS JOIN receipts r ON r.notification_id = unhex(j.value ->> 1) AND r.key = j.value ->> 0
  CROSS JOIN readers m ON m.tenant = r.tenant AND m.user = r.user AND m.key = r.key
  WHERE r.key NOT LIKE 'x:%' GROUP BY 1, 2, 3) s
WHERE readers.tenant = s.tenant AND readers.user = s.user AND readers.key = s.key";

/// Takes `[key, notification]`.
pub(in crate::store) const DELETE_RECEIPTS: &str = "
DELETE FROM receipts WHERE (tenant, user, notification_id) IN
  (SELECT r.tenant, r.user, r.notification_id FROM json_each(?1) j
   CROSS JOIN receipts r ON r.notification_id = unhex(j.value ->> 1) AND r.key = j.value ->> 0)";

/// Of `[key, position, ordinal]` all up to there is gone: a cursor below has missed entries, and nobody counts the rows.
pub(in crate::store) const RAISE_GONE: &str = "
UPDATE counters SET floor = max(floor, s.position), gone = max(gone, s.ordinal)
FROM (SELECT value ->> 0 AS key, value ->> 1 AS position, value ->> 2 AS ordinal FROM json_each(?1)) s
WHERE counters.key = s.key";

/// Rows that may be forgotten any moment stay while a transaction looks at them.
pub(in crate::store) const LOCK_OLD_ROWS: &str = "SELECT ?1 IS NULL OR ?2 IS NULL OR ?3 IS NULL";

/// Notifications that nothing needs any more: `?1` with ids below, `?2` before this time, `?3` so many.
pub(in crate::store) const OLD_NOTIFICATIONS: &str = "
SELECT n.id FROM notifications n
WHERE n.id < ?1 AND n.visible_at < ?2
  AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.notification_id = n.id)
  AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.notification_id = n.id
    AND (+d.state IN ('pending', 'running') OR d.updated_at >= ?2))
  AND NOT EXISTS (SELECT 1 FROM scheduled s WHERE s.visible_at = n.visible_at AND s.notification_id = n.id)
  AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.notification_id = n.id AND j.done = 0)
  AND NOT EXISTS (SELECT 1 FROM chains c WHERE c.notification_id = n.id AND c.open = 1)
ORDER BY n.id LIMIT ?3";

/// Deliveries of notifications `?1`, `?2` so many.
pub(in crate::store) const OLD_DELIVERIES: &str = "
SELECT d.id FROM json_each(?1) j CROSS JOIN deliveries d ON d.notification_id = unhex(j.value) LIMIT ?2";

pub(in crate::store) const DELETE_ATTEMPTS: &str = "
DELETE FROM attempts WHERE delivery_id IN (SELECT unhex(value) FROM json_each(?1))";

pub(in crate::store) const DELETE_DELIVERIES: &str = "
DELETE FROM deliveries WHERE id IN (SELECT unhex(value) FROM json_each(?1)) AND +state NOT IN ('pending', 'running')";

pub(in crate::store) const DELETE_JOBS: &str = "
DELETE FROM jobs WHERE notification_id IN (SELECT unhex(value) FROM json_each(?1)) AND done = 1";

pub(in crate::store) const DELETE_NOTIFICATIONS: &str = "
DELETE FROM notifications WHERE id IN (SELECT unhex(value) FROM json_each(?1))";

/// SQLite has no partitions: `OLD_NOTIFICATIONS` finds all.
pub(in crate::store) const FORGET_MONTH: &str = "SELECT 0 * ?1";

pub(in crate::store) const ENSURE_PARTITIONS: &str = "SELECT 0 * ?1";
