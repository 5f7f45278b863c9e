-- Who changed what; how often what all processes remember was changed; settings that were changed while processes run.

CREATE TABLE audit (
    id UUID NOT NULL PRIMARY KEY,
    -- Whose thing was changed; empty: the platform's.
    tenant TEXT COLLATE "C" NOT NULL,
    -- By whom.
    caller_tenant TEXT COLLATE "C" NOT NULL,
    credential TEXT COLLATE "C" NOT NULL,
    credential_id TEXT COLLATE "C" NOT NULL,
    username TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    object_kind TEXT COLLATE "C" NOT NULL,
    object_id TEXT COLLATE "C" NOT NULL,
    -- JSON, masked.
    was TEXT,
    became TEXT,
    address TEXT,
    request TEXT,
    at BIGINT NOT NULL
);

CREATE INDEX audit_time ON audit (at, id);
CREATE INDEX audit_tenant ON audit (tenant, at, id);
CREATE INDEX audit_object ON audit (tenant, object_kind, object_id, at, id);

-- What was before this time may be forgotten; everything else stays as it was written.
CREATE TABLE audit_kept (
    id BIGINT NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL
);

CREATE FUNCTION audit_stays() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.at < (SELECT max(since) FROM audit_kept) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is not changed, and not deleted before its time';
END
$$;

CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_stays();
CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_stays();

-- Grows with every change of a kind of thing that processes remember.
CREATE TABLE revisions (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL
) WITH (fillfactor = 50);

-- Every version of every setting; the last one holds, and without a value the file's does.
CREATE TABLE settings (
    key TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    value TEXT,
    changed_by TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (key, version)
);
