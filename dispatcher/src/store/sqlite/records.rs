//! Notifications as they are shown, contacts, templates, sums.

pub(in crate::store) const NOTIFICATION: &str = "
SELECT id, tenant, sender, audience, content, lane, strategy, channels, created_at, visible_at, expires_at, withdrawn,
  EXISTS (SELECT 1 FROM jobs j WHERE j.notification_id = ?1 AND j.done = 0)
    OR EXISTS (SELECT 1 FROM deliveries d WHERE d.notification_id = ?1 AND +d.state IN ('pending', 'running'))
FROM notifications WHERE id = ?1 AND tenant = ?2";

pub(in crate::store) const DELIVERIES: &str = "
SELECT id, channel, user, address, state, reason, due_at, updated_at FROM deliveries WHERE notification_id = ?1
ORDER BY id LIMIT ?2";

pub(in crate::store) const ATTEMPTS: &str = "
SELECT a.delivery_id, a.number, a.started_at, a.finished_at, a.outcome, a.reason, a.response
FROM json_each(?1) j CROSS JOIN attempts a ON a.delivery_id = unhex(j.value)
ORDER BY a.delivery_id, a.number";

pub(in crate::store) const PUT_CONTACTS: &str = "
INSERT INTO contacts (tenant, user, body, updated_at)
SELECT ?1, value ->> 0, value ->> 1, ?3 FROM json_each(?2) WHERE true
ON CONFLICT (tenant, user) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at";

pub(in crate::store) const CONTACTS: &str = "
SELECT c.user, c.body FROM json_each(?2) j CROSS JOIN contacts c ON c.tenant = ?1 AND c.user = j.value";

pub(in crate::store) const DELETE_CONTACT: &str = "DELETE FROM contacts WHERE tenant = ?1 AND user = ?2";

pub(in crate::store) const INSERT_TEMPLATE: &str = "
INSERT INTO templates (id, tenant, name, version, created_at) VALUES (?1, ?2, ?3, 1, ?4)
ON CONFLICT (tenant, name) DO NOTHING";

pub(in crate::store) const INSERT_TEMPLATE_VERSION: &str =
    "INSERT INTO template_versions (template_id, version, body, created_at) VALUES (?1, 1, ?2, ?3)";

pub(in crate::store) const TEMPLATE_BY_ID: &str = "
SELECT t.id, t.version, v.body, t.created_at, v.created_at FROM templates t
JOIN template_versions v ON v.template_id = t.id AND v.version = t.version WHERE t.id = ?1 AND t.tenant = ?2";

pub(in crate::store) const TEMPLATE_BY_NAME: &str = "
SELECT t.id, t.version, v.body, t.created_at, v.created_at FROM templates t
JOIN template_versions v ON v.template_id = t.id AND v.version = t.version WHERE t.tenant = ?1 AND t.name = ?2";

pub(in crate::store) const TEMPLATES: &str = "
SELECT t.id, t.version, v.body, t.created_at, v.created_at FROM templates t
JOIN template_versions v ON v.template_id = t.id AND v.version = t.version WHERE t.tenant = ?1 ORDER BY t.name";

pub(in crate::store) const TOTALS: &str = "SELECT created, sent, failed FROM totals WHERE tenant = ?1";

/// What all users of a tenant have not read of plain rows: `?1` the tenant; `?2` and `?3` bound the keys of its users.
/// First every user's own rows as if nobody had read any, so that users who never came count; then, for each reader, what
/// its other keys add and what it has done. Grows with the tenant's users and their keys, not with their inboxes.
pub(in crate::store) const UNREAD_OF_TENANT: &str = "
SELECT (
  SELECT coalesce(sum(c.items - c.gone - (SELECT count(*) FROM inbox w WHERE w.key = c.key AND w.withdrawn = 1)), 0)
  FROM counters c WHERE c.key >= ?2 AND c.key < ?3
) + (
  SELECT coalesce(sum(
    CASE WHEN u.key >= ?2 AND u.key < ?3
      THEN u.gone + (SELECT count(*) FROM inbox w WHERE w.key = u.key AND w.withdrawn = 1)
      ELSE u.items END
    - u.floor - u.done + u.reopened - (
      SELECT count(*) FROM inbox w WHERE w.key = u.key AND w.withdrawn = 1 AND w.ordinal > u.floor
        AND NOT EXISTS (SELECT 1 FROM receipts r
          WHERE r.tenant = ?1 AND r.user = u.user AND r.notification_id = w.notification_id AND r.done = 1))), 0)
  FROM (SELECT m.user, c.key, c.items, max(m.since_ordinal, m.read_ordinal, c.gone) AS floor, c.gone,
    m.done, m.reopened
    FROM readers m CROSS JOIN counters c ON c.key = m.key
    WHERE m.tenant = ?1 AND m.current = 1 AND m.key NOT LIKE 'x:%') u
)";
