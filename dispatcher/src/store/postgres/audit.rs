//! The audit log, and revisions.

/// Entries of an audit log: `$2` the action or its noun, `$3` who, `$4` and `$5` the object's kind and id, `$6` and `$7` the
/// bounds of the time, `$8` and `$9` the place of the last one of the page before, `$10` so many.
macro_rules! audit {
    ($whose:literal) => {
        concat!(
            "
SELECT id, tenant, caller_tenant, credential, credential_id, username, action, object_kind, object_id, was, became, address,
  request, at
FROM audit WHERE ",
            $whose,
            " AND ($2::text IS NULL OR action = $2::text OR substr(action, 1, length($2::text) + 1) = $2::text || '.')
  AND ($3::text IS NULL OR credential_id = $3::text OR username = $3::text)
  AND ($4::text IS NULL OR object_kind = $4::text) AND ($5::text IS NULL OR object_id = $5::text)
  AND at >= $6::bigint AND at < $7::bigint AND (at, id) < ($8::bigint, $9::uuid)
ORDER BY at DESC, id DESC LIMIT $10::bigint"
        )
    };
}

pub(in crate::store) const APPEND_AUDIT: &str = "
INSERT INTO audit (id, tenant, caller_tenant, credential, credential_id, username, action, object_kind, object_id, was,
  became, address, request, at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
  $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[])
ON CONFLICT (id) DO NOTHING";

pub(in crate::store) const AUDIT_OF_TENANT: &str = audit!("tenant = $1::text");

pub(in crate::store) const AUDIT_OF_OBJECT: &str =
    audit!("tenant = $1::text AND object_kind = $4::text AND object_id = $5::text");

pub(in crate::store) const AUDIT_OF_ALL: &str = audit!("$1::text IS NOT NULL");

/// What was before `$1` may be forgotten from now on.
pub(in crate::store) const MAY_FORGET_AUDIT: &str = "
INSERT INTO audit_kept (id, since) VALUES (1, $1::bigint)
ON CONFLICT (id) DO UPDATE SET since = greatest(audit_kept.since, excluded.since)";

pub(in crate::store) const FORGET_AUDIT: &str = "
DELETE FROM audit WHERE id = ANY (ARRAY(
  SELECT o.id FROM audit o WHERE o.at < $1::bigint ORDER BY o.at, o.id LIMIT $2::bigint))";

pub(in crate::store) const REVISE: &str = "
INSERT INTO revisions (name, revision) VALUES ($1::text, 1) ON CONFLICT (name) DO UPDATE SET revision = revisions.revision + 1";

pub(in crate::store) const REVISIONS: &str = "SELECT name, revision FROM revisions ORDER BY name";
