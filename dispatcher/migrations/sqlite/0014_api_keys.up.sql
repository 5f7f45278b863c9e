-- Keys of services. Of a secret only its SHA-256 is kept.
CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    -- JSON: a list of texts.
    scopes TEXT NOT NULL,
    role TEXT,
    hash TEXT NOT NULL,
    -- The secret before it, and until when it counts.
    previous_hash TEXT,
    previous_until INTEGER,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    rotated_at INTEGER,
    revoked_at INTEGER,
    last_used_at INTEGER,
    -- The revision of all keys with which it was changed last.
    revision INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX api_keys_tenant ON api_keys (tenant, id);
CREATE INDEX api_keys_revision ON api_keys (revision);
