//! Events that were taken in, and rules.

/// Takes `[origin, position, stamped, tenant, kind, source, event_id, notifications]`; answers those that are new.
pub(in crate::store) const TAKE_EVENTS: &str = "
INSERT INTO events (origin, position, stamped, tenant, kind, source, event_id, notifications, taken_at)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, ?2
FROM json_each(?1) WHERE true
ON CONFLICT DO NOTHING RETURNING origin, position, stamped";

pub(in crate::store) const PRUNE_EVENTS: &str = "
DELETE FROM events WHERE (origin, position, stamped) IN
  (SELECT origin, position, stamped FROM events WHERE taken_at <= ?1 ORDER BY taken_at LIMIT ?2)";

/// The rules of `?1` that hold.
pub(in crate::store) const RULES: &str = "
SELECT r.name, r.version, r.body, r.author, r.created_at FROM rules r
WHERE r.tenant = ?1 AND r.body IS NOT NULL
  AND r.version = (SELECT max(n.version) FROM rules n WHERE n.tenant = r.tenant AND n.name = r.name)
ORDER BY r.name";

/// Every version of a rule that is kept, the newest first.
pub(in crate::store) const RULE_VERSIONS: &str = "
SELECT name, version, body, author, created_at FROM rules WHERE tenant = ?1 AND name = ?2 ORDER BY version DESC";

/// ?1 tenant, ?2 name, ?3 version, ?4 body, ?5 author, ?6 now.
pub(in crate::store) const PUT_RULE: &str = "
INSERT INTO rules (tenant, name, version, body, author, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Versions up to `?3` of a rule.
pub(in crate::store) const FORGET_RULE_VERSIONS: &str =
    "DELETE FROM rules WHERE tenant = ?1 AND name = ?2 AND version <= ?3";
