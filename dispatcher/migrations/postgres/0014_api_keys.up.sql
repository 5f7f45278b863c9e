-- Keys of services. Of a secret only its SHA-256 is kept.
CREATE TABLE api_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    -- JSON: a list of texts.
    scopes TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C",
    hash TEXT COLLATE "C" NOT NULL,
    -- The secret before it, and until when it counts.
    previous_hash TEXT COLLATE "C",
    previous_until BIGINT,
    created_by TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    rotated_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT,
    -- The revision of all keys with which it was changed last.
    revision BIGINT NOT NULL
);

CREATE INDEX api_keys_tenant ON api_keys (tenant, id);
CREATE INDEX api_keys_revision ON api_keys (revision);
