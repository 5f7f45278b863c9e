//! Accepting.

/// Answers that are still kept for the keys `[tenant, credential, route, key]`.
pub(in crate::store) const KNOWN_KEYS: &str = "
SELECT i.tenant, i.credential, i.route, i.key, i.request_hash, i.status, i.response
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS j (tenant, credential, route, key)
JOIN idempotency i ON i.tenant = j.tenant AND i.credential = j.credential AND i.route = j.route AND i.key = j.key
WHERE i.expires_at > $5::bigint";

/// A row that is in the way is an expired one, or one that another process has just written: that one is left, and the
/// number of affected rows falls short. Then this transaction has judged too early: it is to be rolled back and done again.
/// `$8` when the new ones expire, `$9` the present.
pub(in crate::store) const KEEP_KEYS: &str = "
INSERT INTO idempotency (tenant, credential, route, key, request_hash, status, response, expires_at)
SELECT k.*, $8::bigint
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bigint[], $7::text[])
  AS k (tenant, credential, route, key, request_hash, status, response)
ORDER BY k.tenant COLLATE \"C\", k.credential COLLATE \"C\", k.route COLLATE \"C\", k.key COLLATE \"C\"
ON CONFLICT (tenant, credential, route, key) DO UPDATE SET
  request_hash = excluded.request_hash, status = excluded.status, response = excluded.response,
  expires_at = excluded.expires_at
WHERE idempotency.expires_at <= $9::bigint";

pub(in crate::store) const AMEND_ANSWER: &str = "
UPDATE idempotency SET response = $5::text
WHERE tenant = $1::text AND credential = $2::text AND route = $3::text AND key = $4::text";

/// Takes `[key, entries, items]`, locks the counters in the order of their keys.
pub(in crate::store) const TAKE_POSITIONS: &str = "
INSERT INTO counters AS c (key, position, items)
SELECT t.key, t.entries, t.items FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS t (key, entries, items)
ORDER BY t.key COLLATE \"C\"
ON CONFLICT (key) DO UPDATE SET position = c.position + excluded.position, items = c.items + excluded.items
RETURNING key, position, items";

pub(in crate::store) const INSERT_NOTIFICATIONS: &str = "
INSERT INTO notifications
  (id, tenant, sender, audience, content, kind, category, lane, strategy, channels, created_at, visible_at, expires_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
  $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[])";

pub(in crate::store) const INSERT_INBOX: &str = "
INSERT INTO inbox (key, position, ordinal, notification_id, visible_at, filter, group_key)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::uuid[], $5::bigint[], $6::text[], $7::text[])";

pub(in crate::store) const INSERT_SCHEDULED: &str = "
INSERT INTO scheduled (visible_at, notification_id, routes, group_key)
SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[])";

/// One recipient gets a notification by one channel at one address once: also where the first delivery has ended. What
/// has ended when it is made goes to the history at once.
///
/// A row is either in `deliveries` or in the history of one snapshot, so the look at both misses nothing that was there
/// before; two writers of one notification at once are kept apart by its job's row, and by the unique index.
pub(in crate::store) const INSERT_DELIVERIES: &str = concat!(
    "
WITH i AS MATERIALIZED (
  SELECT n.* FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[],
    $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[])
    AS n (id, notification_id, tenant, channel, \"user\", address, lane, state, reason, due_at, lease_until, token,
      max_attempts, updated_at)
  WHERE n.\"user\" IS NULL OR n.address IS NULL OR NOT (
    EXISTS (SELECT 1 FROM deliveries d WHERE d.notification_id = n.notification_id
      AND delivery_recipient(d.channel, d.\"user\", d.address) = delivery_recipient(n.channel, n.\"user\", n.address))
    OR EXISTS (SELECT 1 FROM delivery_history h WHERE h.notification_id = n.notification_id
      AND delivery_recipient(h.channel, h.\"user\", h.address) = delivery_recipient(n.channel, n.\"user\", n.address)))
), ended AS (
  INSERT INTO delivery_history (",
    columns!(),
    ")
  SELECT DISTINCT ON (i.notification_id, coalesce(delivery_recipient(i.channel, i.\"user\", i.address), i.id))
    i.id, i.notification_id, i.tenant, i.channel, i.\"user\", i.address, i.lane, i.state, i.reason, i.due_at, NULL, i.token,
    i.max_attempts, NULL, i.updated_at
  FROM i WHERE i.state IN ",
    terminal!(),
    "
)
INSERT INTO deliveries
  (id, notification_id, tenant, channel, \"user\", address, lane, state, reason, due_at, lease_until, token, max_attempts,
   updated_at)
SELECT i.* FROM i WHERE i.state NOT IN ",
    terminal!(),
    "
ON CONFLICT (notification_id, delivery_recipient(channel, \"user\", address)) DO NOTHING"
);

pub(in crate::store) const INSERT_JOBS: &str = "
INSERT INTO jobs (notification_id, tenant, job, next_at, lane, token, done, updated_at)
SELECT j.*, 0, 0, $6::bigint FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
  AS j (id, tenant, job, next_at, lane)";

/// Adds `[tenant, created, sent, failed]` in the slot of this connection.
pub(in crate::store) const ADD_TOTALS: &str = "
INSERT INTO totals AS t (tenant, slot, created, sent, failed)
SELECT a.tenant, pg_backend_pid() % 64, a.created, a.sent, a.failed
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS a (tenant, created, sent, failed)
ORDER BY a.tenant COLLATE \"C\"
ON CONFLICT (tenant, slot) DO UPDATE SET
  created = t.created + excluded.created, sent = t.sent + excluded.sent, failed = t.failed + excluded.failed";

pub(in crate::store) const PRUNE_KEYS: &str = "
WITH old AS MATERIALIZED (
  SELECT tenant, credential, route, key FROM idempotency WHERE expires_at <= $1::bigint
  ORDER BY expires_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED)
DELETE FROM idempotency i USING old
WHERE i.tenant = old.tenant AND i.credential = old.credential AND i.route = old.route AND i.key = old.key";

/// Whether a notification is there.
pub(in crate::store) const IS_STORED: &str = "SELECT 1::bigint FROM notifications WHERE id = $1";

/// Those of these notifications that are there.
pub(in crate::store) const ARE_STORED: &str = "SELECT id FROM notifications WHERE id = ANY($1::uuid[])";
