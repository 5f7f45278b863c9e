//! The audit log, and revisions.

/// Entries of an audit log: `?2` the action or its noun, `?3` who, `?4` and `?5` the object's kind and id, `?6` and `?7` the
/// bounds of the time, `?8` and `?9` the place of the last one of the page before, `?10` so many.
macro_rules! audit {
    ($whose:literal) => {
        concat!(
            "
SELECT id, tenant, caller_tenant, credential, credential_id, username, action, object_kind, object_id, was, became, address,
  request, at
FROM audit WHERE ",
            $whose,
            " AND (?2 IS NULL OR action = ?2 OR substr(action, 1, length(?2) + 1) = ?2 || '.')
  AND (?3 IS NULL OR credential_id = ?3 OR username = ?3)
  AND (?4 IS NULL OR object_kind = ?4) AND (?5 IS NULL OR object_id = ?5)
  AND at >= ?6 AND at < ?7 AND (at, id) < (?8, ?9)
ORDER BY at DESC, id DESC LIMIT ?10"
        )
    };
}

pub(in crate::store) const APPEND_AUDIT: &str = "
INSERT INTO audit (id, tenant, caller_tenant, credential, credential_id, username, action, object_kind, object_id, was,
  became, address, request, at)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
  value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13 FROM json_each(?1) WHERE true
ON CONFLICT (id) DO NOTHING";

pub(in crate::store) const AUDIT_OF_TENANT: &str = audit!("tenant = ?1");

pub(in crate::store) const AUDIT_OF_OBJECT: &str =
    audit!("tenant = ?1 AND object_kind = ?4 AND object_id = ?5");

pub(in crate::store) const AUDIT_OF_ALL: &str = audit!("?1 IS NOT NULL");

/// What was before `?1` may be forgotten from now on.
pub(in crate::store) const MAY_FORGET_AUDIT: &str = "
INSERT INTO audit_kept (id, since) VALUES (1, ?1)
ON CONFLICT (id) DO UPDATE SET since = max(since, excluded.since)";

pub(in crate::store) const FORGET_AUDIT: &str = "
DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ?1 ORDER BY at, id LIMIT ?2)";

pub(in crate::store) const REVISE: &str = "
INSERT INTO revisions (name, revision) VALUES (?1, 1) ON CONFLICT (name) DO UPDATE SET revision = revision + 1";

pub(in crate::store) const REVISIONS: &str = "SELECT name, revision FROM revisions ORDER BY name";
