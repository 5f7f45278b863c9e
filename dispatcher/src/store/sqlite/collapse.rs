//! Notifications that replace each other.

/// Takes `[tenant, key, target, notification]`: it stands for them from `?2` on; answers the one that did before, if any.
pub(in crate::store) const TAKE_COLLAPSES: &str = "
INSERT INTO collapses (tenant, key, target, notification_id, previous, at)
SELECT value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3), NULL, ?2 FROM json_each(?1) WHERE true
ON CONFLICT (tenant, key, target) DO UPDATE SET
  previous = CASE WHEN collapses.notification_id = excluded.notification_id THEN collapses.previous
    ELSE collapses.notification_id END,
  notification_id = excluded.notification_id, at = excluded.at
RETURNING tenant, previous";

/// Keys under which inboxes hold these notifications.
pub(in crate::store) const INBOX_KEYS: &str = "
SELECT DISTINCT i.key FROM json_each(?1) j CROSS JOIN inbox i ON i.notification_id = unhex(j.value) AND i.withdrawn = 0";

/// What a notification replaced.
pub(in crate::store) const REPLACED_BY: &str = "
SELECT previous FROM collapses
WHERE tenant = ?1 AND key = ?2 AND target = ?3 AND notification_id = ?4 AND previous IS NOT NULL";

/// A notification stands for this no more.
pub(in crate::store) const LEAVE_COLLAPSE: &str =
    "DELETE FROM collapses WHERE tenant = ?1 AND key = ?2 AND target = ?3 AND notification_id = ?4";

/// Forgets who stood for what before `?1`.
pub(in crate::store) const PRUNE_COLLAPSES: &str = "
DELETE FROM collapses WHERE (tenant, key, target) IN
  (SELECT tenant, key, target FROM collapses WHERE at < ?1 ORDER BY at LIMIT ?2)";
