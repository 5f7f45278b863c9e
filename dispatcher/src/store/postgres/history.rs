//! What operators look at: lists, how far something is, sums.

/// The last id of so many rows and one more before `$1`, not below `$2`; none where there are fewer.
pub(in crate::store) const WINDOW_END: &str = "
SELECT id FROM notifications WHERE id < $1::uuid AND id >= $2::uuid ORDER BY id DESC LIMIT 1 OFFSET $3::bigint";

/// A tenant's notifications from `$2` to before `$1`, the newest first. `$3` tenant, `$4` sender, `$5` kind, `$6` category,
/// `$7` and `$8` texts that the content has to hold, `$9` channel, `$10` user, `$11` not before, `$12` before, `$13` the
/// present, `$14` status, `$15` limit.
pub(in crate::store) const LIST_SENT: &str = "
SELECT * FROM (
  SELECT n.id, n.sender, n.audience, n.content, n.lane, n.strategy, n.channels, n.created_at, n.visible_at, n.expires_at,
    n.withdrawn,
    (SELECT CASE
        WHEN n.withdrawn = 1 THEN 'cancelled'
        WHEN count(*) FILTER (WHERE d.state IN ('pending', 'running')) > 0
          OR EXISTS (SELECT 1 FROM jobs j WHERE j.notification_id = n.id AND j.done = 0)
          OR EXISTS (SELECT 1 FROM chains c WHERE c.notification_id = n.id AND c.open = 1)
          THEN CASE WHEN n.visible_at > $13::bigint THEN 'scheduled' ELSE 'pending' END
        WHEN count(*) FILTER (WHERE d.state = 'delivered') > 0 OR count(*) = 0 THEN 'sent'
        WHEN count(*) FILTER (WHERE d.state IN ('dead', 'expired')) > 0 THEN 'failed'
        WHEN count(*) FILTER (WHERE d.state = 'cancelled') > 0 THEN 'cancelled'
        ELSE 'skipped' END
      FROM all_deliveries d WHERE d.notification_id = n.id) AS status
  FROM notifications n
  WHERE n.id < $1::uuid AND n.id >= $2::uuid AND n.tenant = $3::text
    AND ($4::text IS NULL OR n.sender = $4::text) AND ($5::text IS NULL OR n.kind = $5::text)
    AND ($6::text IS NULL OR n.category = $6::text)
    AND ($7::text IS NULL OR strpos(n.content, $7::text) > 0) AND ($8::text IS NULL OR strpos(n.content, $8::text) > 0)
    AND (coalesce($9::text, $10::text) IS NULL OR EXISTS (SELECT 1 FROM all_deliveries d WHERE d.notification_id = n.id
      AND ($9::text IS NULL OR d.channel = $9::text) AND ($10::text IS NULL OR d.\"user\" = $10::text)))
    AND n.created_at >= $11::bigint AND n.created_at < $12::bigint
) n WHERE $14::text IS NULL OR n.status = $14::text
ORDER BY n.id DESC LIMIT $15::bigint";

/// A notification's deliveries by channel, state and reason, with the last change.
pub(in crate::store) const PROGRESS: &str = "
SELECT channel, state, reason, count(*)::bigint, max(updated_at)::bigint FROM all_deliveries
WHERE notification_id = $1::uuid GROUP BY channel, state, reason";

/// Deliveries of a notification that failed. The inner part keeps the planner from walking all in the order of their ids.
pub(in crate::store) const FAILURES: &str = "
WITH d AS MATERIALIZED (
  SELECT id, channel, \"user\", address, state, reason, due_at, updated_at FROM all_deliveries
  WHERE notification_id = $1::uuid AND state IN ('dead', 'expired'))
SELECT * FROM d ORDER BY id LIMIT $2::bigint";

/// Whether a notification's fan-out has ended, and when it was last seen.
pub(in crate::store) const FAN_OUT: &str =
    "SELECT done, updated_at FROM jobs WHERE notification_id = $1::uuid";

/// The newest notifications of a tenant from `$1` to before `$2`, at most `$4`: how many, and the first of them.
pub(in crate::store) const WINDOW: &str = "
SELECT count(*)::bigint, coalesce(min(created_at), 0)::bigint FROM (
  SELECT created_at FROM notifications WHERE id >= $1::uuid AND id < $2::uuid AND tenant = $3::text
  ORDER BY id DESC LIMIT $4::bigint) n";

/// Their deliveries by channel and state.
pub(in crate::store) const SUMS: &str = "
WITH n AS MATERIALIZED (
  SELECT id FROM notifications WHERE id >= $1::uuid AND id < $2::uuid AND tenant = $3::text
  ORDER BY id DESC LIMIT $4::bigint)
SELECT d.channel, d.state, count(*)::bigint
FROM n CROSS JOIN LATERAL (SELECT channel, state FROM all_deliveries WHERE notification_id = n.id) d
GROUP BY d.channel, d.state";

/// Pending deliveries of each tenant.
pub(in crate::store) const TENANT_DEPTHS: &str =
    "SELECT tenant, count(*)::bigint FROM deliveries WHERE state = 'pending' GROUP BY tenant";
