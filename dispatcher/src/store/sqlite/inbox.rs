//! The inbox, the change feed and what readers do.

/// Positions and items of keys.
pub(in crate::store) const COUNTERS: &str = "
SELECT c.key, c.position, c.items, c.floor FROM json_each(?1) j CROSS JOIN counters c ON c.key = j.value";

/// A reader's rows under keys.
pub(in crate::store) const FLOORS: &str = "
SELECT m.key, m.since_position, m.read_position, m.since_ordinal, m.read_ordinal, m.read_at
FROM json_each(?3) j CROSS JOIN readers m ON m.tenant = ?1 AND m.user = ?2 AND m.key = j.value";

/// What is said in these notifications.
pub(in crate::store) const CONTENTS: &str = "
SELECT n.id, n.audience, n.content, n.created_at FROM json_each(?1) j CROSS JOIN notifications n ON n.id = unhex(j.value)";

/// Rows of notifications under the reader's keys with the reader's receipt. `?3` tenant, `?4` ids, `?5` all keys.
pub(in crate::store) const STATES: &str = concat!(
    "SELECT i.notification_id, i.key, i.position, i.ordinal, r.key, r.ordinal, r.delivered_at, r.seen_at, r.read_at,
  r.archived_at, r.deleted_at, r.snoozed_until, coalesce(r.reopened, 0)
FROM json_each(?4) j CROSS JOIN inbox i ON i.notification_id = unhex(j.value)
LEFT JOIN receipts r ON r.tenant = ?3 AND r.user = ?2 AND r.notification_id = i.notification_id
WHERE i.key IN (SELECT value FROM json_each(?5)) AND +i.withdrawn = 0 AND ",
    fits!()
);

/// For each plain key: items, floor, done, reopened, and what was withdrawn above the floor and not done. `?1` tenant,
/// `?2` user, `?3` keys.
pub(in crate::store) const UNREAD_PLAIN: &str = "
SELECT coalesce(sum(u.items - u.floor - u.done + u.reopened - (
    SELECT count(*) FROM inbox w WHERE w.key = u.key AND w.withdrawn = 1 AND w.ordinal > u.floor
      AND NOT EXISTS (SELECT 1 FROM receipts r
        WHERE r.tenant = ?1 AND r.user = ?2 AND r.notification_id = w.notification_id AND r.done = 1))), 0)
FROM (SELECT c.key, c.items, max(coalesce(m.since_ordinal, 0), coalesce(m.read_ordinal, 0), c.gone) AS floor,
    coalesce(m.done, 0) AS done, coalesce(m.reopened, 0) AS reopened
  FROM json_each(?3) j CROSS JOIN counters c ON c.key = j.value
  LEFT JOIN readers m ON m.tenant = ?1 AND m.user = ?2 AND m.key = c.key) u";

/// Unread rows of expressions, each notification once. `?3` tenant, `?4` the keys with `x:`.
pub(in crate::store) const UNREAD_FILTERED: &str = concat!(
    "SELECT count(*) FROM (
SELECT i.notification_id FROM json_each(?4) j
  LEFT JOIN readers m ON m.tenant = ?3 AND m.user = ?2 AND m.key = j.value
  CROSS JOIN inbox i ON i.key = j.value
    AND i.position > max(coalesce(m.since_position, 0), coalesce(m.read_position, 0))
  LEFT JOIN receipts r ON r.tenant = ?3 AND r.user = ?2 AND r.notification_id = i.notification_id
WHERE +i.withdrawn = 0 AND coalesce(r.done, 0) = 0 AND ",
    fits!(),
    "
UNION
SELECT i.notification_id FROM json_each(?4) j
  CROSS JOIN receipts r INDEXED BY receipts_reopened
    ON r.tenant = ?3 AND r.user = ?2 AND r.key = j.value AND r.reopened = 1 AND +r.done = 0
  CROSS JOIN inbox i INDEXED BY inbox_notification ON i.notification_id = r.notification_id AND i.key = r.key AND i.withdrawn = 0
WHERE ",
    fits!(),
    ")"
);

/// Arrivals under one key after a position. `?3` key, `?4` position, `?5` limit.
pub(in crate::store) const FEED_ARRIVALS: &str = concat!(
    "SELECT i.position, i.notification_id FROM inbox i WHERE i.key = ?3 AND i.position > ?4 AND +i.withdrawn = 0 AND ",
    fits!(),
    " ORDER BY i.position LIMIT ?5"
);

/// Changes under one key after a position; a withdrawal only where the reader could see the row.
pub(in crate::store) const FEED_CHANGES: &str = concat!(
    "SELECT c.position, c.op, c.notification_id, c.at FROM changes c
WHERE c.key = ?3 AND c.position > ?4 AND (c.op <> 'withdraw' OR EXISTS (SELECT 1 FROM inbox i INDEXED BY inbox_notification
  WHERE i.notification_id = c.notification_id AND i.key = c.key AND ",
    fits!(),
    ")) ORDER BY c.position LIMIT ?5"
);

/// Adds `[key, position, op, notification, at]`.
pub(in crate::store) const INSERT_CHANGES: &str = "
INSERT INTO changes (key, position, op, notification_id, at)
SELECT value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3), value ->> 4 FROM json_each(?1)";

/// All keys under which a user was seen.
pub(in crate::store) const KNOWN_MEMBERSHIPS: &str = "
SELECT m.tenant, m.user, m.key FROM json_each(?1) j
CROSS JOIN readers m ON m.tenant = j.value ->> 0 AND m.user = j.value ->> 1";

/// Keys under which a user was seen, and whether its newest token carried them.
pub(in crate::store) const CURRENT_MEMBERSHIPS: &str = "
SELECT key, current FROM readers WHERE tenant = ?1 AND user = ?2";

/// The position of the newest row of a key that is older than a time, 0 for none. Binary search: rows of a key are in the
/// order of their times but for the moments between accepting and committing.
pub(in crate::store) const NEWEST_BEFORE: &str = "
WITH RECURSIVE search (low, high) AS (
  SELECT 0, position FROM counters WHERE key = ?1
  UNION ALL
  SELECT
    CASE WHEN coalesce((SELECT visible_at FROM inbox WHERE key = ?1 AND position <= (low + high + 1) / 2
      ORDER BY position DESC LIMIT 1), 0) < ?2 THEN (low + high + 1) / 2 ELSE low END,
    CASE WHEN coalesce((SELECT visible_at FROM inbox WHERE key = ?1 AND position <= (low + high + 1) / 2
      ORDER BY position DESC LIMIT 1), 0) < ?2 THEN high ELSE (low + high + 1) / 2 - 1 END
  FROM search WHERE low < high)
SELECT low FROM search WHERE low >= high LIMIT 1";

/// The ordinal of the newest row up to a position.
pub(in crate::store) const ORDINAL_AT: &str =
    "SELECT ordinal FROM inbox WHERE key = ?1 AND position <= ?2 ORDER BY position DESC LIMIT 1";

/// The time of the oldest row after a position.
pub(in crate::store) const FIRST_AFTER: &str =
    "SELECT visible_at FROM inbox WHERE key = ?1 AND position > ?2 ORDER BY position LIMIT 1";

/// Adds `[tenant, user, key, since_position, since_ordinal]`.
pub(in crate::store) const INSERT_MEMBERSHIPS: &str = "
INSERT INTO readers (tenant, user, key, since_position, since_ordinal, first_seen, last_seen, current)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, ?2, ?2, 1 FROM json_each(?1) WHERE true
ON CONFLICT (tenant, user, key) DO NOTHING";

/// Sets `[tenant, user, key, current]`.
pub(in crate::store) const REFRESH_MEMBERSHIPS: &str = "
UPDATE readers SET current = j.value ->> 3, last_seen = CASE WHEN j.value ->> 3 = 1 THEN ?2 ELSE last_seen END
FROM json_each(?1) j WHERE tenant = j.value ->> 0 AND user = j.value ->> 1 AND readers.key = j.value ->> 2";

/// Puts `[id, key, ordinal, delivered, seen, read, archived, deleted, snoozed, reopened, done]`.
pub(in crate::store) const PUT_RECEIPTS: &str = "
INSERT INTO receipts (tenant, user, notification_id, key, ordinal, delivered_at, seen_at, read_at, archived_at,
  deleted_at, snoozed_until, reopened, done)
SELECT ?1, ?2, unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
  value ->> 7, value ->> 8, value ->> 9, value ->> 10 FROM json_each(?3) WHERE true
ON CONFLICT (tenant, user, notification_id) DO UPDATE SET
  delivered_at = excluded.delivered_at, seen_at = excluded.seen_at, read_at = excluded.read_at,
  archived_at = excluded.archived_at, deleted_at = excluded.deleted_at,
  snoozed_until = excluded.snoozed_until, reopened = excluded.reopened, done = excluded.done";

/// What was put off until now or before. `?1` now, `?2` limit.
pub(in crate::store) const DUE_SNOOZES: &str = "
SELECT tenant, user, notification_id FROM receipts WHERE snoozed_until <= ?1 ORDER BY snoozed_until LIMIT ?2";

/// What could not come back, as its reader no longer sees it, is looked at again later. `?1` tenant, `?2` user, `?3` id,
/// `?4` now, `?5` when.
pub(in crate::store) const PUT_OFF_SNOOZE: &str = "
UPDATE receipts SET snoozed_until = ?5 WHERE tenant = ?1 AND user = ?2 AND notification_id = ?3 AND snoozed_until <= ?4";

/// Adds `[key, done, reopened]` to a reader's counts; a reader that was never seen gets its rows here.
pub(in crate::store) const ADD_COUNTS: &str = "
INSERT INTO readers (tenant, user, key, since_position, since_ordinal, first_seen, last_seen, current, done, reopened)
SELECT ?1, ?2, value ->> 0, 0, 0, ?4, ?4, 1, value ->> 1, value ->> 2 FROM json_each(?3) WHERE true
ON CONFLICT (tenant, user, key) DO UPDATE SET done = done + excluded.done, reopened = reopened + excluded.reopened";

/// Raises watermarks to `[key, position, ordinal]`; never lowers one.
pub(in crate::store) const RAISE_WATERMARKS: &str = "
INSERT INTO readers (tenant, user, key, since_position, since_ordinal, first_seen, last_seen, current, read_position,
  read_ordinal, read_at)
SELECT ?1, ?2, value ->> 0, 0, 0, ?4, ?4, 1, value ->> 1, value ->> 2, ?4 FROM json_each(?3) WHERE true
ON CONFLICT (tenant, user, key) DO UPDATE SET
  read_at = CASE WHEN excluded.read_position > read_position THEN excluded.read_at ELSE read_at END,
  read_ordinal = max(read_ordinal, excluded.read_ordinal),
  read_position = max(read_position, excluded.read_position)";

/// What was explicitly unread up to `[key, position, ordinal]` is read; what is put off comes back as it was.
pub(in crate::store) const CLOSE_REOPENED: &str = "
UPDATE receipts INDEXED BY receipts_reopened SET reopened = 0, read_at = ?4, done = 1
FROM (SELECT value ->> 0 AS key, value ->> 2 AS ordinal FROM json_each(?3)) s
WHERE receipts.tenant = ?1 AND receipts.user = ?2 AND receipts.key = s.key AND receipts.ordinal <= s.ordinal
  AND receipts.reopened = 1 AND receipts.snoozed_until IS NULL";

/// After a watermark moved: counts again what is kept per key.
pub(in crate::store) const RECOUNT: &str = "
UPDATE readers SET
  done = (SELECT count(*) FROM receipts r WHERE r.tenant = ?1 AND r.user = ?2 AND r.key = readers.key
    AND r.ordinal > max(readers.since_ordinal, readers.read_ordinal) AND r.done = 1),
  reopened = (SELECT count(*) FROM receipts r INDEXED BY receipts_reopened WHERE r.tenant = ?1 AND r.user = ?2 AND r.key = readers.key
    AND r.reopened = 1 AND +r.done = 0)
WHERE tenant = ?1 AND user = ?2 AND key IN (SELECT value ->> 0 FROM json_each(?3))";

pub(in crate::store) const WITHDRAW: &str = "UPDATE notifications SET withdrawn = 1 WHERE id = ?1 AND tenant = ?2 AND withdrawn = 0 RETURNING visible_at";

pub(in crate::store) const WITHDRAW_ROWS: &str = "
UPDATE inbox SET withdrawn = 1
WHERE (key, position) IN (SELECT key, position FROM inbox WHERE notification_id = ?1) RETURNING key";

/// Explicitly unread below a watermark were counted singly; they are no more.
pub(in crate::store) const UNCOUNT_REOPENED: &str = "
UPDATE readers SET reopened = readers.reopened - 1
FROM (SELECT tenant, user, key FROM receipts WHERE notification_id = ?1 AND reopened = 1 AND done = 0) s
WHERE readers.tenant = s.tenant AND readers.user = s.user AND readers.key = s.key";

pub(in crate::store) const CLEAR_REOPENED: &str =
    "UPDATE receipts SET reopened = 0 WHERE notification_id = ?1 AND reopened = 1";

pub(in crate::store) const OLD_CHANGES: &str =
    "SELECT key, position FROM changes WHERE at < ?1 ORDER BY at LIMIT ?2";

/// Takes `[key, position]`.
pub(in crate::store) const PRUNE_CHANGES: &str = "
DELETE FROM changes WHERE (key, position) IN
  (SELECT CAST(value ->> 0 AS TEXT), CAST(value ->> 1 AS INTEGER) FROM json_each(?1))";

/// Raises the floors of `[key, position]`: a cursor below one may have missed an entry.
pub(in crate::store) const RAISE_FLOORS: &str = "
UPDATE counters SET floor = max(floor, s.position)
FROM (SELECT value ->> 0 AS key, max(value ->> 1) AS position FROM json_each(?1) GROUP BY 1) s
WHERE counters.key = s.key";

/// Nobody else writes while a transaction of SQLite does.
pub(in crate::store) const LOCK_READER: &str = "SELECT ?1 IS NULL OR ?2 IS NULL";

pub(in crate::store) const LOCK_NOTIFICATIONS: &str = "SELECT ?1 IS NULL";
