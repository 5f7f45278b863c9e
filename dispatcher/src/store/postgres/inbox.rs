//! The inbox, the change feed and what readers do.

/// Positions and items of keys.
pub(in crate::store) const COUNTERS: &str = "
SELECT c.key, c.position, c.items, c.floor FROM unnest($1::text[]) AS j (key) JOIN counters c ON c.key = j.key";

/// A reader's rows under keys.
pub(in crate::store) const FLOORS: &str = "
SELECT m.key, m.since_position, m.read_position, m.since_ordinal, m.read_ordinal, m.read_at
FROM unnest($3::text[]) AS j (key)
JOIN readers m ON m.tenant = $1::text AND m.\"user\" = $2::text AND m.key = j.key";

/// What is said in these notifications.
pub(in crate::store) const CONTENTS: &str = "
SELECT n.id, n.audience, n.content, n.created_at FROM unnest($1::uuid[]) AS j (id) JOIN notifications n ON n.id = j.id";

/// Rows of notifications under the reader's keys with the reader's receipt. `$3` tenant, `$4` ids, `$5` all keys.
pub(in crate::store) const STATES: &str = concat!(
    "SELECT i.notification_id, i.key, i.position, i.ordinal, r.key, r.ordinal, r.delivered_at, r.seen_at, r.read_at,
  r.archived_at, r.deleted_at, r.snoozed_until, coalesce(r.reopened, 0)
FROM unnest($4::uuid[]) AS j (id) JOIN inbox i ON i.notification_id = j.id
LEFT JOIN receipts r ON r.tenant = $3::text AND r.\"user\" = $2::text AND r.notification_id = i.notification_id
WHERE i.key = ANY ($5::text[]) AND i.withdrawn = 0 AND ",
    fits!()
);

/// For all plain keys together: items, less the floor, less what is done, and what was reopened; less what was withdrawn
/// above the floor and not done. `$1` tenant, `$2` user, `$3` keys.
pub(in crate::store) const UNREAD_PLAIN: &str = "
SELECT coalesce(sum(u.items - u.floor - u.done + u.reopened - (
    SELECT count(*) FROM inbox w WHERE w.key = u.key AND w.withdrawn = 1 AND w.ordinal > u.floor
      AND NOT EXISTS (SELECT 1 FROM receipts r
        WHERE r.tenant = $1::text AND r.\"user\" = $2::text AND r.notification_id = w.notification_id AND r.done = 1)
  )), 0)::bigint
FROM (SELECT c.key, c.items, greatest(coalesce(m.since_ordinal, 0), coalesce(m.read_ordinal, 0), c.gone) AS floor,
    coalesce(m.done, 0) AS done, coalesce(m.reopened, 0) AS reopened
  FROM unnest($3::text[]) AS j (key) JOIN counters c ON c.key = j.key
  LEFT JOIN readers m ON m.tenant = $1::text AND m.\"user\" = $2::text AND m.key = c.key) u";

/// Unread rows of expressions, each notification once. `$3` tenant, `$4` the keys with `x:`.
pub(in crate::store) const UNREAD_FILTERED: &str = concat!(
    "SELECT count(*) FROM (
SELECT i.notification_id FROM unnest($4::text[]) AS j (key)
  LEFT JOIN readers m ON m.tenant = $3::text AND m.\"user\" = $2::text AND m.key = j.key
  JOIN inbox i ON i.key = j.key AND i.position > greatest(coalesce(m.since_position, 0), coalesce(m.read_position, 0))
  LEFT JOIN receipts r ON r.tenant = $3::text AND r.\"user\" = $2::text AND r.notification_id = i.notification_id
WHERE i.withdrawn = 0 AND coalesce(r.done, 0) = 0 AND ",
    fits!(),
    "
UNION
SELECT i.notification_id FROM unnest($4::text[]) AS j (key)
  JOIN receipts r ON r.tenant = $3::text AND r.\"user\" = $2::text AND r.key = j.key AND r.reopened = 1 AND r.done = 0
  JOIN inbox i ON i.notification_id = r.notification_id AND i.key = r.key AND i.withdrawn = 0
WHERE ",
    fits!(),
    ") AS unread"
);

/// Arrivals under one key after a position. `$3` key, `$4` position, `$5` limit.
pub(in crate::store) const FEED_ARRIVALS: &str = concat!(
    "SELECT i.position, i.notification_id FROM inbox i
WHERE i.key = $3::text AND i.position > $4::bigint AND i.withdrawn = 0 AND ",
    fits!(),
    " ORDER BY i.position LIMIT $5::bigint"
);

/// Changes under one key after a position; a withdrawal only where the reader could see the row.
pub(in crate::store) const FEED_CHANGES: &str = concat!(
    "SELECT c.position, c.op, c.notification_id, c.at FROM changes c
WHERE c.key = $3::text AND c.position > $4::bigint AND (c.op <> 'withdraw' OR EXISTS (SELECT 1 FROM inbox i
  WHERE i.notification_id = c.notification_id AND i.key = c.key AND ",
    fits!(),
    ")) ORDER BY c.position LIMIT $5::bigint"
);

/// Adds `[key, position, op, notification, at]`.
pub(in crate::store) const INSERT_CHANGES: &str = "
INSERT INTO changes (key, position, op, notification_id, at)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::uuid[], $5::bigint[])";

/// All keys under which a user was seen.
pub(in crate::store) const KNOWN_MEMBERSHIPS: &str = "
SELECT m.tenant, m.\"user\", m.key FROM unnest($1::text[], $2::text[]) AS w (tenant, name)
JOIN readers m ON m.tenant = w.tenant AND m.\"user\" = w.name";

/// Keys under which a user was seen, and whether its newest token carried them.
pub(in crate::store) const CURRENT_MEMBERSHIPS: &str = "
SELECT key, current FROM readers WHERE tenant = $1::text AND \"user\" = $2::text";

/// The position of the newest row of a key that is older than a time, 0 for none. Binary search: rows of a key are in the
/// order of their times but for the moments between accepting and committing.
pub(in crate::store) const NEWEST_BEFORE: &str = "
WITH RECURSIVE search (low, high) AS (
  SELECT 0::bigint, position FROM counters WHERE key = $1::text
  UNION ALL
  SELECT CASE WHEN s.older THEN s.middle ELSE s.low END, CASE WHEN s.older THEN s.high ELSE s.middle - 1 END
  FROM (SELECT low, high, (low + high + 1) / 2 AS middle,
      coalesce((SELECT i.visible_at FROM inbox i WHERE i.key = $1::text AND i.position <= (low + high + 1) / 2
        ORDER BY i.position DESC LIMIT 1), 0) < $2::bigint AS older
    FROM search WHERE low < high) s)
SELECT low FROM search WHERE low >= high LIMIT 1";

/// The ordinal of the newest row up to a position.
pub(in crate::store) const ORDINAL_AT: &str = "
SELECT ordinal FROM inbox WHERE key = $1::text AND position <= $2::bigint ORDER BY position DESC LIMIT 1";

/// The time of the oldest row after a position.
pub(in crate::store) const FIRST_AFTER: &str = "
SELECT visible_at FROM inbox WHERE key = $1::text AND position > $2::bigint ORDER BY position LIMIT 1";

/// Adds `[tenant, user, key, since_position, since_ordinal]`.
pub(in crate::store) const INSERT_MEMBERSHIPS: &str = "
INSERT INTO readers (tenant, \"user\", key, since_position, since_ordinal, first_seen, last_seen, current)
SELECT m.tenant, m.name, m.key, m.position, m.ordinal, $6::bigint, $6::bigint, 1
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS m (tenant, name, key, position, ordinal)
ORDER BY m.tenant COLLATE \"C\", m.name COLLATE \"C\", m.key COLLATE \"C\"
ON CONFLICT (tenant, \"user\", key) DO NOTHING";

/// Sets `[tenant, user, key, current]`.
pub(in crate::store) const REFRESH_MEMBERSHIPS: &str = "
WITH held AS MATERIALIZED (
  SELECT m.tenant, m.\"user\", m.key, w.current
  FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS w (tenant, name, key, current)
  JOIN readers m ON m.tenant = w.tenant AND m.\"user\" = w.name AND m.key = w.key
  ORDER BY m.tenant, m.\"user\", m.key FOR NO KEY UPDATE OF m)
UPDATE readers m SET current = held.current,
  last_seen = CASE WHEN held.current = 1 THEN $5::bigint ELSE m.last_seen END
FROM held WHERE m.tenant = held.tenant AND m.\"user\" = held.\"user\" AND m.key = held.key";

/// Puts `[id, key, ordinal, delivered, seen, read, archived, deleted, snoozed, reopened, done]`.
pub(in crate::store) const PUT_RECEIPTS: &str = "
INSERT INTO receipts (tenant, \"user\", notification_id, key, ordinal, delivered_at, seen_at, read_at, archived_at,
  deleted_at, snoozed_until, reopened, done)
SELECT $1::text, $2::text, p.* FROM unnest($3::uuid[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
  $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
  AS p (id, key, ordinal, delivered, seen, read, archived, deleted, snoozed, reopened, done)
ORDER BY p.id
ON CONFLICT (tenant, \"user\", notification_id) DO UPDATE SET
  delivered_at = excluded.delivered_at, seen_at = excluded.seen_at, read_at = excluded.read_at,
  archived_at = excluded.archived_at, deleted_at = excluded.deleted_at,
  snoozed_until = excluded.snoozed_until, reopened = excluded.reopened, done = excluded.done";

/// What was put off until now or before. `$1` now, `$2` limit.
pub(in crate::store) const DUE_SNOOZES: &str = "
SELECT tenant, \"user\", notification_id FROM receipts WHERE snoozed_until <= $1::bigint
ORDER BY snoozed_until LIMIT $2::bigint";

/// What could not come back, as its reader no longer sees it, is looked at again later. `$1` tenant, `$2` user, `$3` id,
/// `$4` now, `$5` when.
pub(in crate::store) const PUT_OFF_SNOOZE: &str = "
UPDATE receipts SET snoozed_until = $5::bigint
WHERE tenant = $1::text AND \"user\" = $2::text AND notification_id = $3::uuid AND snoozed_until <= $4::bigint";

/// Adds `[key, done, reopened]` to a reader's counts; a reader that was never seen gets its rows here.
pub(in crate::store) const ADD_COUNTS: &str = "
INSERT INTO readers AS m (tenant, \"user\", key, since_position, since_ordinal, first_seen, last_seen, current, done, reopened)
SELECT $1::text, $2::text, a.key, 0, 0, $6::bigint, $6::bigint, 1, a.done, a.reopened
FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS a (key, done, reopened)
ORDER BY a.key COLLATE \"C\"
ON CONFLICT (tenant, \"user\", key) DO UPDATE SET
  done = m.done + excluded.done, reopened = m.reopened + excluded.reopened";

/// Raises watermarks to `[key, position, ordinal]`; never lowers one.
pub(in crate::store) const RAISE_WATERMARKS: &str = "
INSERT INTO readers AS m (tenant, \"user\", key, since_position, since_ordinal, first_seen, last_seen, current,
  read_position, read_ordinal, read_at)
SELECT $1::text, $2::text, w.key, 0, 0, $6::bigint, $6::bigint, 1, w.position, w.ordinal, $6::bigint
FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS w (key, position, ordinal)
ORDER BY w.key COLLATE \"C\"
ON CONFLICT (tenant, \"user\", key) DO UPDATE SET
  read_at = CASE WHEN excluded.read_position > m.read_position THEN excluded.read_at ELSE m.read_at END,
  read_ordinal = greatest(m.read_ordinal, excluded.read_ordinal),
  read_position = greatest(m.read_position, excluded.read_position)";

/// What was explicitly unread up to `[key, position, ordinal]` is read; what is put off comes back as it was.
pub(in crate::store) const CLOSE_REOPENED: &str = "
WITH held AS MATERIALIZED (
  SELECT r.notification_id FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS w (key, position, ordinal)
  JOIN receipts r ON r.tenant = $1::text AND r.\"user\" = $2::text AND r.key = w.key AND r.ordinal <= w.ordinal
    AND r.reopened = 1 AND r.snoozed_until IS NULL
  ORDER BY r.notification_id FOR NO KEY UPDATE OF r)
UPDATE receipts r SET reopened = 0, read_at = $6::bigint, done = 1
FROM held WHERE r.tenant = $1::text AND r.\"user\" = $2::text AND r.notification_id = held.notification_id";

/// After a watermark moved: counts again what is kept per key. `[key, position, ordinal]` as they were raised.
pub(in crate::store) const RECOUNT: &str = "
WITH held AS MATERIALIZED (
  SELECT m.key FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS w (key, position, ordinal)
  JOIN readers m ON m.tenant = $1::text AND m.\"user\" = $2::text AND m.key = w.key
  WHERE $6::bigint IS NOT NULL ORDER BY m.key FOR NO KEY UPDATE OF m)
UPDATE readers m SET
  done = (SELECT count(*) FROM receipts r WHERE r.tenant = $1::text AND r.\"user\" = $2::text AND r.key = m.key
    AND r.ordinal > greatest(m.since_ordinal, m.read_ordinal) AND r.done = 1),
  reopened = (SELECT count(*) FROM receipts r WHERE r.tenant = $1::text AND r.\"user\" = $2::text AND r.key = m.key
    AND r.reopened = 1 AND r.done = 0)
FROM held WHERE m.tenant = $1::text AND m.\"user\" = $2::text AND m.key = held.key";

pub(in crate::store) const WITHDRAW: &str = "
UPDATE notifications SET withdrawn = 1 WHERE id = $1::uuid AND tenant = $2::text AND withdrawn = 0 RETURNING visible_at";

pub(in crate::store) const WITHDRAW_ROWS: &str =
    "UPDATE inbox SET withdrawn = 1 WHERE notification_id = $1::uuid RETURNING key";

/// Explicitly unread below a watermark were counted singly; they are no more. Closes them too: one who made one since
/// is not counted twice.
pub(in crate::store) const UNCOUNT_REOPENED: &str = "
WITH closed AS (
  UPDATE receipts SET reopened = 0 WHERE notification_id = $1::uuid AND reopened = 1
  RETURNING tenant, \"user\" AS username, key, done
), held AS MATERIALIZED (
  SELECT m.tenant, m.\"user\" AS username, m.key FROM closed c
  JOIN readers m ON m.tenant = c.tenant AND m.\"user\" = c.username AND m.key = c.key
  WHERE c.done = 0 ORDER BY 1, 2, 3 FOR NO KEY UPDATE OF m)
UPDATE readers m SET reopened = m.reopened - 1
FROM held WHERE m.tenant = held.tenant AND m.\"user\" = held.username AND m.key = held.key";

/// What `UNCOUNT_REOPENED` left open: nothing, unless one was opened in between.
pub(in crate::store) const CLEAR_REOPENED: &str =
    "UPDATE receipts SET reopened = 0 WHERE notification_id = $1::uuid AND reopened = 1";

pub(in crate::store) const OLD_CHANGES: &str =
    "SELECT key, position FROM changes WHERE at < $1::bigint ORDER BY at LIMIT $2::bigint";

/// Takes `[key, position]`.
pub(in crate::store) const PRUNE_CHANGES: &str = "
DELETE FROM changes c USING unnest($1::text[], $2::bigint[]) AS p (key, position)
WHERE c.key = p.key AND c.position = p.position";

/// Raises the floors of `[key, position]`: a cursor below one may have missed an entry.
pub(in crate::store) const RAISE_FLOORS: &str = "
WITH held AS MATERIALIZED (
  SELECT c.key, s.position FROM (SELECT p.key, max(p.position) AS position
    FROM unnest($1::text[], $2::bigint[]) AS p (key, position) GROUP BY p.key) s
  JOIN counters c ON c.key = s.key
  ORDER BY c.key FOR NO KEY UPDATE OF c)
UPDATE counters c SET floor = greatest(c.floor, held.position) FROM held WHERE c.key = held.key";

/// Holds the rows of one reader, in the order of their keys: its counts and watermarks are read, judged and written again by
/// one transaction at a time.
pub(in crate::store) const LOCK_READER: &str = "
SELECT key FROM readers WHERE tenant = $1::text AND \"user\" = $2::text ORDER BY key FOR NO KEY UPDATE";

/// Keeps notifications from being withdrawn until the transaction ends.
pub(in crate::store) const LOCK_NOTIFICATIONS: &str = "
SELECT n.id FROM (SELECT * FROM unnest($1::uuid[]) AS j (id) ORDER BY id) j
CROSS JOIN LATERAL (SELECT n.id FROM notifications n WHERE n.id = j.id FOR SHARE) n";
