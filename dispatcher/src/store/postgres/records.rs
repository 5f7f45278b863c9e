//! Notifications as they are shown, contacts, templates, sums.

pub(in crate::store) const NOTIFICATION: &str = "
SELECT id, tenant, sender, audience, content, lane, strategy, channels, created_at, visible_at, expires_at, withdrawn,
  (EXISTS (SELECT 1 FROM jobs j WHERE j.notification_id = $1::uuid AND j.done = 0)
    OR EXISTS (SELECT 1 FROM deliveries d WHERE d.notification_id = $1::uuid AND d.state IN ('pending', 'running'))
  )::int::bigint
FROM notifications WHERE id = $1::uuid AND tenant = $2::text";

/// The inner part keeps the planner from walking all deliveries in the order of their ids.
pub(in crate::store) const DELIVERIES: &str = "
WITH d AS MATERIALIZED (
  SELECT id, channel, \"user\", address, state, reason, due_at, updated_at FROM all_deliveries
  WHERE notification_id = $1::uuid)
SELECT * FROM d ORDER BY id LIMIT $2::bigint";

pub(in crate::store) const ATTEMPTS: &str = "
SELECT a.delivery_id, a.number, a.started_at, a.finished_at, a.outcome, a.reason, a.response
FROM unnest($1::uuid[]) AS j (id) JOIN attempts a ON a.delivery_id = j.id
ORDER BY a.delivery_id, a.number";

/// Of several for one user the last counts.
pub(in crate::store) const PUT_CONTACTS: &str = "
INSERT INTO contacts (tenant, \"user\", body, updated_at)
SELECT DISTINCT ON (c.username COLLATE \"C\") $1::text, c.username, c.body, $4::bigint
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS c (username, body, number)
ORDER BY c.username COLLATE \"C\", c.number DESC
ON CONFLICT (tenant, \"user\") DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at";

pub(in crate::store) const CONTACTS: &str = "
SELECT c.\"user\", c.body FROM unnest($2::text[]) AS j (username)
JOIN contacts c ON c.tenant = $1::text AND c.\"user\" = j.username";

pub(in crate::store) const DELETE_CONTACT: &str =
    "DELETE FROM contacts WHERE tenant = $1::text AND \"user\" = $2::text";

pub(in crate::store) const INSERT_TEMPLATE: &str = "
INSERT INTO templates (id, tenant, name, version, created_at) VALUES ($1::uuid, $2::text, $3::text, 1, $4::bigint)
ON CONFLICT (tenant, name) DO NOTHING";

pub(in crate::store) const INSERT_TEMPLATE_VERSION: &str = "
INSERT INTO template_versions (template_id, version, body, created_at) VALUES ($1::uuid, 1, $2::text, $3::bigint)";

pub(in crate::store) const TEMPLATE_BY_ID: &str = "
SELECT t.id, t.version, v.body, t.created_at, v.created_at FROM templates t
JOIN template_versions v ON v.template_id = t.id AND v.version = t.version WHERE t.id = $1::uuid AND t.tenant = $2::text";

pub(in crate::store) const TEMPLATE_BY_NAME: &str = "
SELECT t.id, t.version, v.body, t.created_at, v.created_at FROM templates t
JOIN template_versions v ON v.template_id = t.id AND v.version = t.version WHERE t.tenant = $1::text AND t.name = $2::text";

pub(in crate::store) const TEMPLATES: &str = "
SELECT t.id, t.version, v.body, t.created_at, v.created_at FROM templates t
JOIN template_versions v ON v.template_id = t.id AND v.version = t.version WHERE t.tenant = $1::text ORDER BY t.name";

/// A tenant's slots together; no row for a tenant without any.
pub(in crate::store) const TOTALS: &str = "
SELECT sum(created)::bigint, sum(sent)::bigint, sum(failed)::bigint FROM totals WHERE tenant = $1::text HAVING count(*) > 0";

/// What all users of a tenant have not read of plain rows: `$1` the tenant; `$2` and `$3` bound the keys of its users.
/// First every user's own rows as if nobody had read any, so that users who never came count; then, for each reader, what
/// its other keys add and what it has done. Grows with the tenant's users and their keys, not with their inboxes.
pub(in crate::store) const UNREAD_OF_TENANT: &str = "
SELECT ((
  SELECT coalesce(sum(c.items - c.gone - (SELECT count(*) FROM inbox w WHERE w.key = c.key AND w.withdrawn = 1)), 0)
  FROM counters c WHERE c.key >= $2::text AND c.key < $3::text
) + (
  SELECT coalesce(sum(
    CASE WHEN u.key >= $2::text AND u.key < $3::text
      THEN u.gone + (SELECT count(*) FROM inbox w WHERE w.key = u.key AND w.withdrawn = 1)
      ELSE u.items END
    - u.floor - u.done + u.reopened - (
      SELECT count(*) FROM inbox w WHERE w.key = u.key AND w.withdrawn = 1 AND w.ordinal > u.floor
        AND NOT EXISTS (SELECT 1 FROM receipts r
          WHERE r.tenant = $1::text AND r.\"user\" = u.username AND r.notification_id = w.notification_id
            AND r.done = 1))), 0)
  FROM (SELECT m.\"user\" AS username, c.key, c.items, greatest(m.since_ordinal, m.read_ordinal, c.gone) AS floor, c.gone,
    m.done, m.reopened
    FROM readers m JOIN counters c ON c.key = m.key
    WHERE m.tenant = $1::text AND m.current = 1 AND m.key NOT LIKE 'x:%') u
))::bigint";
