//! What operators do: pauses, cancelling, replacing, dead letters.

pub(in crate::store) const PAUSES: &str =
    "SELECT tenant, channel, reason, paused_by, paused_at, ends_at FROM pauses ORDER BY tenant, channel";

pub(in crate::store) const PAUSE: &str = "
INSERT INTO pauses (tenant, channel, reason, paused_by, paused_at, ends_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (tenant, channel) DO UPDATE SET reason = excluded.reason, paused_by = excluded.paused_by,
  paused_at = excluded.paused_at, ends_at = excluded.ends_at";

pub(in crate::store) const RESUME: &str =
    "DELETE FROM pauses WHERE tenant = ?1 AND channel = ?2 AND (ends_at IS NULL OR ends_at > ?3)";

/// Those that ended by themselves.
pub(in crate::store) const FORGET_PAUSES: &str = "DELETE FROM pauses WHERE ends_at <= ?1";

pub(in crate::store) const MARK_CANCELLED: &str = "
UPDATE notifications SET cancelled_at = coalesce(cancelled_at, ?3) WHERE id = ?1 AND tenant = ?2
RETURNING visible_at";

/// Of all deliveries of a notification: pending, running, over, delivered, cancelled, cancelled since `?2`.
pub(in crate::store) const CANCEL_COUNTS: &str = "
SELECT coalesce(sum(state = 'pending'), 0), coalesce(sum(state = 'running'), 0),
  coalesce(sum(state NOT IN ('pending', 'running')), 0), coalesce(sum(state = 'delivered'), 0),
  coalesce(sum(state = 'cancelled'), 0), coalesce(sum(state = 'cancelled' AND updated_at >= ?2), 0)
FROM deliveries WHERE notification_id = ?1";

/// What has to be known, and stay so, while a notification is replaced.
pub(in crate::store) const REPLACEABLE: &str = "
SELECT visible_at, created_at, withdrawn, CASE WHEN cancelled_at IS NULL THEN 0 ELSE 1 END FROM notifications
WHERE id = ?1 AND tenant = ?2";

/// How many of a notification's deliveries a worker has or had, and how many had a failed end from the beginning.
pub(in crate::store) const REPLACED_DELIVERIES: &str = "
SELECT coalesce(sum(token > 0), 0), coalesce(sum(state IN ('dead', 'expired')), 0) FROM deliveries
WHERE notification_id = ?1";

pub(in crate::store) const FORGET_DELIVERIES: &str = "DELETE FROM deliveries WHERE notification_id = ?1";

pub(in crate::store) const DROP_CHAINS: &str = "DELETE FROM chains WHERE notification_id = ?1";

pub(in crate::store) const FORGET_JOB: &str = "DELETE FROM jobs WHERE notification_id = ?1";

/// The same row says something else; takes what is inserted for a new one.
pub(in crate::store) const REPLACE_NOTIFICATION: &str = "
UPDATE notifications SET sender = s.row ->> 2, audience = s.row ->> 3, content = s.row ->> 4, kind = s.row ->> 5,
  category = s.row ->> 6, lane = s.row ->> 7, strategy = s.row ->> 8, channels = s.row ->> 9, created_at = s.row ->> 10,
  visible_at = s.row ->> 11, expires_at = s.row ->> 12
FROM (SELECT unhex(value ->> 0) AS id, value AS row FROM json_each(?1)) s
WHERE notifications.id = s.id AND notifications.tenant = s.row ->> 1";

/// Newest first: `?1` the tenant, `?2` and `?3` the place before which to begin, then what is filtered, `?10` the number.
pub(in crate::store) const DEAD_LETTERS: &str = "
SELECT d.id, d.notification_id, d.channel, d.user, d.address, d.lane, d.reason, d.updated_at,
  (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = d.id),
  (SELECT a.response FROM attempts a WHERE a.delivery_id = d.id ORDER BY a.number DESC LIMIT 1),
  n.created_at, n.expires_at,
  coalesce((SELECT e.content FROM delivery_edits e WHERE e.delivery_id = d.id), n.content)
FROM deliveries d CROSS JOIN notifications n ON n.id = d.notification_id
WHERE d.state = 'dead' AND d.tenant = ?1 AND (d.updated_at, d.id) < (?2, ?3)
  AND (?4 IS NULL OR d.reason = ?4) AND (?5 IS NULL OR d.channel = ?5) AND (?6 IS NULL OR d.user = ?6)
  AND (?7 IS NULL OR d.notification_id = ?7) AND d.updated_at >= ?8 AND d.updated_at < ?9
  AND coalesce(d.reason, '') NOT LIKE 'discarded%' AND d.channel <> 'in_app'
ORDER BY d.updated_at DESC, d.id DESC LIMIT ?10";

pub(in crate::store) const DEAD_LETTER: &str = "
SELECT d.id, d.notification_id, d.channel, d.user, d.address, d.lane, d.reason, d.updated_at,
  (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = d.id),
  (SELECT a.response FROM attempts a WHERE a.delivery_id = d.id ORDER BY a.number DESC LIMIT 1),
  n.created_at, n.expires_at,
  coalesce((SELECT e.content FROM delivery_edits e WHERE e.delivery_id = d.id), n.content)
FROM deliveries d CROSS JOIN notifications n ON n.id = d.notification_id
WHERE d.id = ?1 AND d.tenant = ?2 AND +d.state = 'dead' AND d.channel <> 'in_app'
  AND coalesce(d.reason, '') NOT LIKE 'discarded%'";

/// What is dead of a notification and can be sent again, `?3` of it after `?2`.
pub(in crate::store) const DEAD_OF: &str = "
SELECT id, channel, state, reason FROM deliveries
WHERE notification_id = ?1 AND +state = 'dead' AND channel <> 'in_app' AND coalesce(reason, '') NOT LIKE 'discarded%'
  AND +id > ?2
ORDER BY +id LIMIT ?3";

/// Those of these deliveries that are a notification's.
pub(in crate::store) const NAMED_OF: &str = "
SELECT id, channel, state, reason FROM deliveries
WHERE id IN (SELECT unhex(value) FROM json_each(?2)) AND +notification_id = ?1";

/// Dead deliveries of tenant `?1` are due at `?3`; takes `[delivery, further attempts]`. Their tokens go on growing. Not those whose
/// notification will not be sent any more, nor rows of the inbox: nobody claims them.
pub(in crate::store) const REDRIVE: &str = "
UPDATE deliveries SET state = 'pending', reason = NULL, due_at = ?3, lease_until = NULL, worker = NULL, updated_at = ?3,
  max_attempts = s.attempts + (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = deliveries.id)
FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS attempts FROM json_each(?2)) s
WHERE deliveries.id = s.id AND deliveries.tenant = ?1 AND +deliveries.state = 'dead' AND deliveries.channel <> 'in_app'
  AND coalesce(deliveries.reason, '') NOT LIKE 'discarded%'
  AND EXISTS (SELECT 1 FROM notifications n WHERE n.id = deliveries.notification_id AND n.withdrawn = 0
    AND n.cancelled_at IS NULL AND (n.expires_at IS NULL OR n.expires_at > ?3))
RETURNING id, lane";

/// Whether another delivery of its notification has the address that `?1` is to get.
pub(in crate::store) const ADDRESS_TAKEN: &str = "
SELECT count(*) FROM deliveries d CROSS JOIN deliveries o ON o.notification_id = d.notification_id AND o.id <> d.id
  AND o.channel = d.channel AND o.address = ?2 AND o.user IS d.user
WHERE d.id = ?1";

pub(in crate::store) const EDIT_ADDRESS: &str = "UPDATE deliveries SET address = ?2 WHERE id = ?1";

pub(in crate::store) const EDIT_CONTENT: &str = "
INSERT INTO delivery_edits (delivery_id, notification_id, content, edited_by, edited_at)
SELECT id, notification_id, ?2, ?3, ?4 FROM deliveries WHERE id = ?1
ON CONFLICT (delivery_id) DO UPDATE SET content = excluded.content, edited_by = excluded.edited_by,
  edited_at = excluded.edited_at";

/// Dead deliveries `?2` of tenant `?1` are no dead letters any more; they stay dead.
pub(in crate::store) const DISCARD: &str = "
UPDATE deliveries SET reason = 'discarded:' || coalesce(reason, 'unknown'), updated_at = ?3
FROM (SELECT unhex(value) AS id FROM json_each(?2)) s
WHERE deliveries.id = s.id AND deliveries.tenant = ?1 AND +deliveries.state = 'dead'
  AND coalesce(deliveries.reason, '') NOT LIKE 'discarded%'
RETURNING deliveries.id";

/// Edits of deliveries that are forgotten.
pub(in crate::store) const FORGET_EDITS: &str = "
DELETE FROM delivery_edits WHERE delivery_id IN (
  SELECT e.delivery_id FROM delivery_edits e WHERE e.edited_at < ?1
    AND NOT EXISTS (SELECT 1 FROM notifications n WHERE n.id = e.notification_id)
  LIMIT ?2)";
