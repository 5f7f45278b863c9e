//! API keys. A change begins with the revision, whose row is locked from then on, and which is the key's then.

/// The revision that the change at hand has made.
macro_rules! revision {
    () => {
        "(SELECT revision FROM revisions WHERE name = 'keys')"
    };
}

/// What is read of a key, in the order of `api_keys::Row`.
macro_rules! row {
    () => {
        "id, tenant, name, scopes, role, created_by, created_at, expires_at, rotated_at, previous_until, revoked_at, \
         last_used_at"
    };
}

/// What nodes need of a key, in the order of `api_keys::RecordRow`.
macro_rules! record {
    () => {
        "id, tenant, scopes, role, hash, previous_hash, previous_until, expires_at, \
         (revoked_at IS NOT NULL)::int::bigint, revision"
    };
}

/// $1 id, $2 tenant, $3 name, $4 scopes, $5 role, $6 hash, $7 created_by, $8 now, $9 expires_at, $10 the tenant's most.
pub(in crate::store) const INSERT_KEY: &str = concat!(
    "INSERT INTO api_keys (id, tenant, name, scopes, role, hash, created_by, created_at, expires_at, revision)
    SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text, $8::bigint, $9::bigint, ",
    revision!(),
    " WHERE (SELECT count(*) FROM api_keys
        WHERE tenant = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $8)) < $10::bigint"
);

/// $1 tenant, $2 what ended before.
pub(in crate::store) const FORGET_KEYS: &str = "DELETE FROM api_keys
    WHERE tenant = $1 AND least(revoked_at, expires_at) < $2 RETURNING id";

/// $1 id, $2 tenant or any.
pub(in crate::store) const KEY: &str = concat!(
    "SELECT ",
    row!(),
    " FROM api_keys WHERE id = $1 AND ($2::text IS NULL OR tenant = $2)"
);

/// $1 tenant or all, $2 state or all, $3 now, $4 after this id, $5 limit.
pub(in crate::store) const LIST_KEYS: &str = concat!(
    "SELECT ",
    row!(),
    " FROM api_keys WHERE ($1::text IS NULL OR tenant = $1) AND id > $4
        AND ($2::text IS NULL OR $2 = CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= $3 THEN 'expired'
            ELSE 'active' END)
    ORDER BY id LIMIT $5"
);

/// $1 id, $2 hash, $3 until when the one before counts, $4 now.
pub(in crate::store) const ROTATE_KEY: &str = concat!(
    "UPDATE api_keys SET previous_hash = hash, previous_until = $3, hash = $2, rotated_at = $4, revision = ",
    revision!(),
    " WHERE id = $1"
);

/// $1 id, $2 now.
pub(in crate::store) const REVOKE_KEY: &str = concat!(
    "UPDATE api_keys SET revoked_at = $2, revision = ",
    revision!(),
    " WHERE id = $1"
);

/// $1 ids.
pub(in crate::store) const KEY_RECORDS: &str =
    concat!("SELECT ", record!(), " FROM api_keys WHERE id = ANY($1::text[])");

/// $1 after this revision, $2 limit.
pub(in crate::store) const CHANGED_KEYS: &str = concat!(
    "SELECT ",
    record!(),
    " FROM api_keys WHERE revision > $1 ORDER BY revision LIMIT $2"
);

/// $1 ids, $2 tenants, $3 times. A use within a minute of the one that is known is not written. Keys are locked in the order of
/// their ids.
pub(in crate::store) const USED_KEYS: &str = "WITH used AS MATERIALIZED (
        SELECT k.id, u.at FROM api_keys k
        JOIN (SELECT id, tenant, max(at) AS at FROM unnest($1::text[], $2::text[], $3::bigint[]) AS r(id, tenant, at)
            GROUP BY id, tenant) u ON k.id = u.id AND k.tenant = u.tenant
        WHERE coalesce(k.last_used_at, 0) <= u.at - 60000000 ORDER BY k.id FOR UPDATE OF k
    )
    UPDATE api_keys k SET last_used_at = used.at FROM used WHERE k.id = used.id";
