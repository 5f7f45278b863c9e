-- Who changed what; how often what all processes remember was changed; settings that were changed while processes run.

CREATE TABLE audit (
    id BLOB NOT NULL PRIMARY KEY,
    -- Whose thing was changed; empty: the platform's.
    tenant TEXT NOT NULL,
    -- By whom.
    caller_tenant TEXT NOT NULL,
    credential TEXT NOT NULL,
    credential_id TEXT NOT NULL,
    username TEXT NOT NULL,
    action TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id TEXT NOT NULL,
    -- JSON, masked.
    was TEXT,
    became TEXT,
    address TEXT,
    request TEXT,
    at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX audit_time ON audit (at, id);
CREATE INDEX audit_tenant ON audit (tenant, at, id);
CREATE INDEX audit_object ON audit (tenant, object_kind, object_id, at, id);

-- What was before this time may be forgotten; everything else stays as it was written.
CREATE TABLE audit_kept (
    id INTEGER NOT NULL PRIMARY KEY,
    since INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is not changed');
END;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
WHEN OLD.at >= coalesce((SELECT max(since) FROM audit_kept), -9223372036854775808)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is not deleted before its time');
END;

-- Grows with every change of a kind of thing that processes remember.
CREATE TABLE revisions (
    name TEXT NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL
) WITHOUT ROWID;

-- Every version of every setting; the last one holds, and without a value the file's does.
CREATE TABLE settings (
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value TEXT,
    changed_by TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (key, version)
) WITHOUT ROWID;
