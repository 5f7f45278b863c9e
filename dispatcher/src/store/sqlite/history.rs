//! What operators look at: lists, how far something is, sums.

/// The last id of so many rows and one more before `?1`, not below `?2`; none where there are fewer.
pub(in crate::store) const WINDOW_END: &str =
    "SELECT id FROM notifications WHERE id < ?1 AND id >= ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3";

/// A tenant's notifications from `?2` to before `?1`, the newest first. `?3` tenant, `?4` sender, `?5` kind, `?6` category,
/// `?7` and `?8` texts that the content has to hold, `?9` channel, `?10` user, `?11` not before, `?12` before, `?13` the present,
/// `?14` status, `?15` limit.
pub(in crate::store) const LIST_SENT: &str = "
SELECT * FROM (
  SELECT n.id, n.sender, n.audience, n.content, n.lane, n.strategy, n.channels, n.created_at, n.visible_at, n.expires_at,
    n.withdrawn,
    (SELECT CASE
        WHEN n.withdrawn = 1 THEN 'cancelled'
        WHEN total(d.state IN ('pending', 'running')) > 0
          OR EXISTS (SELECT 1 FROM jobs j WHERE j.notification_id = n.id AND j.done = 0)
          OR EXISTS (SELECT 1 FROM chains c WHERE c.notification_id = n.id AND c.open = 1)
          THEN CASE WHEN n.visible_at > ?13 THEN 'scheduled' ELSE 'pending' END
        WHEN total(d.state = 'delivered') > 0 OR count(*) = 0 THEN 'sent'
        WHEN total(d.state IN ('dead', 'expired')) > 0 THEN 'failed'
        WHEN total(d.state = 'cancelled') > 0 THEN 'cancelled'
        ELSE 'skipped' END
      FROM all_deliveries d WHERE d.notification_id = n.id) AS status
  FROM notifications n
  WHERE n.id < ?1 AND n.id >= ?2 AND +n.tenant = ?3
    AND (?4 IS NULL OR n.sender = ?4) AND (?5 IS NULL OR n.kind = ?5) AND (?6 IS NULL OR n.category = ?6)
    AND (?7 IS NULL OR instr(n.content, ?7) > 0) AND (?8 IS NULL OR instr(n.content, ?8) > 0)
    AND (coalesce(?9, ?10) IS NULL OR EXISTS (SELECT 1 FROM all_deliveries d WHERE d.notification_id = n.id
      AND (?9 IS NULL OR d.channel = ?9) AND (?10 IS NULL OR d.user = ?10)))
    AND n.created_at >= ?11 AND n.created_at < ?12
) WHERE ?14 IS NULL OR status = ?14
ORDER BY id DESC LIMIT ?15";

/// A notification's deliveries by channel, state and reason, with the last change.
pub(in crate::store) const PROGRESS: &str = "
SELECT channel, state, reason, count(*), max(updated_at) FROM all_deliveries WHERE notification_id = ?1
GROUP BY channel, state, reason";

/// Deliveries of a notification that failed.
pub(in crate::store) const FAILURES: &str = "
SELECT id, channel, user, address, state, reason, due_at, updated_at FROM all_deliveries
WHERE notification_id = ?1 AND state IN ('dead', 'expired') ORDER BY id LIMIT ?2";

/// Whether a notification's fan-out has ended, and when it was last seen.
pub(in crate::store) const FAN_OUT: &str = "SELECT done, updated_at FROM jobs WHERE notification_id = ?1";

/// The newest notifications of a tenant from `?1` to before `?2`, at most `?4`: how many, and the first of them.
pub(in crate::store) const WINDOW: &str = "
SELECT count(*), coalesce(min(created_at), 0) FROM (
  SELECT created_at FROM notifications WHERE id >= ?1 AND id < ?2 AND +tenant = ?3 ORDER BY id DESC LIMIT ?4)";

/// Their deliveries by channel and state.
pub(in crate::store) const SUMS: &str = "
SELECT d.channel, d.state, count(*) FROM (
  SELECT id FROM notifications WHERE id >= ?1 AND id < ?2 AND +tenant = ?3 ORDER BY id DESC LIMIT ?4) s
CROSS JOIN all_deliveries d ON d.notification_id = s.id
GROUP BY d.channel, d.state";

/// Pending deliveries of each tenant.
pub(in crate::store) const TENANT_DEPTHS: &str =
    "SELECT tenant, count(*) FROM deliveries WHERE state = 'pending' GROUP BY tenant";
