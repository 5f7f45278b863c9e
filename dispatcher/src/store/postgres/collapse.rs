//! Notifications that replace each other.

/// Takes `[tenant, key, target, notification]`, locked in their order: it stands for them from `$5` on; answers the one that
/// did before, if any.
pub(in crate::store) const TAKE_COLLAPSES: &str = "
INSERT INTO collapses AS c (tenant, key, target, notification_id, previous, at)
SELECT t.tenant, t.key, t.target, t.id, NULL, $5::bigint
FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) AS t (tenant, key, target, id)
ORDER BY t.tenant COLLATE \"C\", t.key COLLATE \"C\", t.target COLLATE \"C\"
ON CONFLICT (tenant, key, target) DO UPDATE SET
  previous = CASE WHEN c.notification_id = excluded.notification_id THEN c.previous ELSE c.notification_id END,
  notification_id = excluded.notification_id, at = excluded.at
RETURNING tenant, previous";

/// Keys under which inboxes hold these notifications.
pub(in crate::store) const INBOX_KEYS: &str = "
SELECT DISTINCT i.key FROM unnest($1::uuid[]) AS j (id) JOIN inbox i ON i.notification_id = j.id AND i.withdrawn = 0";

/// What a notification replaced.
pub(in crate::store) const REPLACED_BY: &str = "
SELECT previous FROM collapses
WHERE tenant = $1::text AND key = $2::text AND target = $3::text AND notification_id = $4::uuid AND previous IS NOT NULL";

/// A notification stands for this no more.
pub(in crate::store) const LEAVE_COLLAPSE: &str = "
DELETE FROM collapses WHERE tenant = $1::text AND key = $2::text AND target = $3::text AND notification_id = $4::uuid";

/// Forgets who stood for what before `$1`.
pub(in crate::store) const PRUNE_COLLAPSES: &str = "
DELETE FROM collapses c USING (SELECT tenant, key, target FROM collapses WHERE at < $1::bigint
  ORDER BY at LIMIT $2::bigint FOR UPDATE SKIP LOCKED) o
WHERE c.tenant = o.tenant AND c.key = o.key AND c.target = o.target";
