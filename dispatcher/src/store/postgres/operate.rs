//! What operators do: pauses, cancelling, replacing, dead letters. What is dead lies in `delivery_history`.

pub(in crate::store) const PAUSES: &str =
    "SELECT tenant, channel, reason, paused_by, paused_at, ends_at FROM pauses ORDER BY tenant, channel";

pub(in crate::store) const PAUSE: &str = "
INSERT INTO pauses (tenant, channel, reason, paused_by, paused_at, ends_at)
VALUES ($1::text, $2::text, $3::text, $4::text, $5::bigint, $6::bigint)
ON CONFLICT (tenant, channel) DO UPDATE SET reason = excluded.reason, paused_by = excluded.paused_by,
  paused_at = excluded.paused_at, ends_at = excluded.ends_at";

pub(in crate::store) const RESUME: &str = "
DELETE FROM pauses WHERE tenant = $1::text AND channel = $2::text AND (ends_at IS NULL OR ends_at > $3::bigint)";

/// Those that ended by themselves.
pub(in crate::store) const FORGET_PAUSES: &str = "DELETE FROM pauses WHERE ends_at <= $1::bigint";

pub(in crate::store) const MARK_CANCELLED: &str = "
UPDATE notifications SET cancelled_at = coalesce(cancelled_at, $3::bigint) WHERE id = $1::uuid AND tenant = $2::text
RETURNING visible_at";

/// Of all deliveries of a notification: pending, running, over, delivered, cancelled, cancelled since `$2`.
pub(in crate::store) const CANCEL_COUNTS: &str = "
SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'running'),
  count(*) FILTER (WHERE state NOT IN ('pending', 'running')), count(*) FILTER (WHERE state = 'delivered'),
  count(*) FILTER (WHERE state = 'cancelled'), count(*) FILTER (WHERE state = 'cancelled' AND updated_at >= $2::bigint)
FROM all_deliveries WHERE notification_id = $1::uuid";

/// What has to be known, and stay so, while a notification is replaced.
pub(in crate::store) const REPLACEABLE: &str = "
SELECT visible_at, created_at, withdrawn, CASE WHEN cancelled_at IS NULL THEN 0 ELSE 1 END::bigint FROM notifications
WHERE id = $1::uuid AND tenant = $2::text FOR UPDATE";

/// How many of a notification's deliveries a worker has or had, and how many had a failed end from the beginning. Locks
/// nothing: who makes it visible locks its deliveries after its time.
pub(in crate::store) const REPLACED_DELIVERIES: &str = "
SELECT (SELECT count(*) FROM deliveries WHERE notification_id = $1::uuid AND token > 0)
    + (SELECT count(*) FROM delivery_history WHERE notification_id = $1::uuid AND token > 0),
  (SELECT count(*) FROM delivery_history WHERE notification_id = $1::uuid AND state IN ('dead', 'expired'))";

pub(in crate::store) const FORGET_DELIVERIES: &str = "
WITH gone AS (DELETE FROM delivery_history WHERE notification_id = $1::uuid)
DELETE FROM deliveries WHERE notification_id = $1::uuid";

pub(in crate::store) const DROP_CHAINS: &str = "DELETE FROM chains WHERE notification_id = $1::uuid";

pub(in crate::store) const FORGET_JOB: &str = "DELETE FROM jobs WHERE notification_id = $1::uuid";

/// The same row says something else; takes what is inserted for a new one. The row stays: who waits for it, to cancel or
/// to change it too, would not find another one with its id.
pub(in crate::store) const REPLACE_NOTIFICATION: &str = "
UPDATE notifications n SET sender = r.sender, audience = r.audience, content = r.content, kind = r.kind,
  category = r.category, lane = r.lane, strategy = r.strategy, channels = r.channels, created_at = r.created_at,
  visible_at = r.visible_at, expires_at = r.expires_at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
  $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[])
  AS r (id, tenant, sender, audience, content, kind, category, lane, strategy, channels, created_at, visible_at, expires_at)
WHERE n.id = r.id AND n.tenant = r.tenant";

/// Newest first: `$1` the tenant, `$2` and `$3` the place before which to begin, then what is filtered, `$10` the number.
pub(in crate::store) const DEAD_LETTERS: &str = "
SELECT d.id, d.notification_id, d.channel, d.\"user\", d.address, d.lane, d.reason, d.updated_at,
  (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = d.id),
  (SELECT a.response FROM attempts a WHERE a.delivery_id = d.id ORDER BY a.number DESC LIMIT 1),
  n.created_at, n.expires_at,
  coalesce((SELECT e.content FROM delivery_edits e WHERE e.delivery_id = d.id), n.content)
FROM delivery_history d JOIN notifications n ON n.id = d.notification_id
WHERE d.state = 'dead' AND d.tenant = $1::text AND (d.updated_at, d.id) < ($2::bigint, $3::uuid)
  AND ($4::text IS NULL OR d.reason = $4::text) AND ($5::text IS NULL OR d.channel = $5::text)
  AND ($6::text IS NULL OR d.\"user\" = $6::text) AND ($7::uuid IS NULL OR d.notification_id = $7::uuid)
  AND d.updated_at >= $8::bigint AND d.updated_at < $9::bigint
  AND coalesce(d.reason, '') NOT LIKE 'discarded%' AND d.channel <> 'in_app'
ORDER BY d.updated_at DESC, d.id DESC LIMIT $10::bigint";

pub(in crate::store) const DEAD_LETTER: &str = "
SELECT d.id, d.notification_id, d.channel, d.\"user\", d.address, d.lane, d.reason, d.updated_at,
  (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = d.id),
  (SELECT a.response FROM attempts a WHERE a.delivery_id = d.id ORDER BY a.number DESC LIMIT 1),
  n.created_at, n.expires_at,
  coalesce((SELECT e.content FROM delivery_edits e WHERE e.delivery_id = d.id), n.content)
FROM delivery_history d JOIN notifications n ON n.id = d.notification_id
WHERE d.id = $1::uuid AND d.tenant = $2::text AND d.state = 'dead' AND d.channel <> 'in_app'
  AND coalesce(d.reason, '') NOT LIKE 'discarded%'";

/// What is dead of a notification and can be sent again, `$3` of it after `$2`. The inner part keeps the planner from
/// walking the whole history in the order of its ids.
pub(in crate::store) const DEAD_OF: &str = "
WITH d AS MATERIALIZED (
  SELECT id, channel, state, reason FROM delivery_history
  WHERE notification_id = $1::uuid AND state = 'dead' AND channel <> 'in_app'
    AND coalesce(reason, '') NOT LIKE 'discarded%')
SELECT * FROM d WHERE id > $2::uuid ORDER BY id LIMIT $3::bigint";

/// Those of these deliveries that are a notification's.
pub(in crate::store) const NAMED_OF: &str = "
SELECT id, channel, state, reason FROM all_deliveries WHERE notification_id = $1::uuid AND id = ANY($2::uuid[])";

/// Dead deliveries of tenant `$1` come back from the history and are due at `$4`; takes `[delivery, further attempts]`.
/// Their tokens go on growing. Not those whose notification will not be sent any more, nor rows of the inbox: nobody claims
/// them.
pub(in crate::store) const REDRIVE: &str = concat!(
    "
WITH dead AS MATERIALIZED (
  SELECT h.id, h.notification_id, s.attempts FROM unnest($2::uuid[], $3::bigint[]) AS s (id, attempts) JOIN delivery_history h ON h.id = s.id
  JOIN notifications n ON n.id = h.notification_id
  WHERE h.tenant = $1::text AND h.state = 'dead' AND h.channel <> 'in_app'
    AND coalesce(h.reason, '') NOT LIKE 'discarded%' AND n.withdrawn = 0 AND n.cancelled_at IS NULL
    AND (n.expires_at IS NULL OR n.expires_at > $4::bigint)
  ORDER BY h.id FOR UPDATE OF h
), gone AS (
  DELETE FROM delivery_history h USING dead WHERE h.id = dead.id AND h.notification_id = dead.notification_id
  RETURNING h.id, h.notification_id, h.tenant, h.channel, h.\"user\", h.address, h.lane, h.token,
    dead.attempts
)
INSERT INTO deliveries (",
    columns!(),
    ")
SELECT id, notification_id, tenant, channel, \"user\", address, lane, 'pending', NULL, $4::bigint, NULL, token,
  attempts + (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = gone.id), NULL, $4::bigint
FROM gone
RETURNING id, lane"
);

/// Whether another delivery of its notification has the address that `$1` is to get.
pub(in crate::store) const ADDRESS_TAKEN: &str = "
SELECT count(*) FROM delivery_history d JOIN all_deliveries o ON o.notification_id = d.notification_id AND o.id <> d.id
  AND o.channel = d.channel AND o.address = $2::text AND o.\"user\" IS NOT DISTINCT FROM d.\"user\"
WHERE d.id = $1::uuid";

pub(in crate::store) const EDIT_ADDRESS: &str =
    "UPDATE deliveries SET address = $2::text WHERE id = $1::uuid";

pub(in crate::store) const EDIT_CONTENT: &str = "
INSERT INTO delivery_edits (delivery_id, notification_id, content, edited_by, edited_at)
SELECT id, notification_id, $2::text, $3::text, $4::bigint FROM deliveries WHERE id = $1::uuid
ON CONFLICT (delivery_id) DO UPDATE SET content = excluded.content, edited_by = excluded.edited_by,
  edited_at = excluded.edited_at";

/// Dead deliveries `$2` of tenant `$1` are no dead letters any more; they stay dead.
pub(in crate::store) const DISCARD: &str = "
UPDATE delivery_history h SET reason = 'discarded:' || coalesce(h.reason, 'unknown'), updated_at = $3::bigint
FROM unnest($2::uuid[]) AS s (id)
WHERE h.id = s.id AND h.tenant = $1::text AND h.state = 'dead' AND coalesce(h.reason, '') NOT LIKE 'discarded%'
RETURNING h.id";

/// Edits of deliveries that are forgotten.
pub(in crate::store) const FORGET_EDITS: &str = "
WITH old AS MATERIALIZED (
  SELECT e.delivery_id FROM delivery_edits e WHERE e.edited_at < $1::bigint
    AND NOT EXISTS (SELECT 1 FROM notifications n WHERE n.id = e.notification_id)
  LIMIT $2::bigint FOR UPDATE SKIP LOCKED)
DELETE FROM delivery_edits e USING old WHERE e.delivery_id = old.delivery_id";
