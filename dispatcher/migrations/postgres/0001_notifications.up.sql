-- What was accepted, and the answers that repeats get.
-- The same tables and columns as SQLite's: BIGINT microseconds and flags, UUID ids, TEXT, JSON as TEXT. Text that is
-- compared or ordered is compared by its bytes, as there.

-- The smallest id that begins at a time: ids are UUIDv7, so the bounds of a month are ids.
CREATE FUNCTION id_floor(at TIMESTAMPTZ) RETURNS UUID LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

-- Makes the partition of one month (UTC) of a table that is partitioned by an id, if it is not there. Rows that came
-- before their partition wait in the default one and move. Answers whether it was made.
CREATE FUNCTION ensure_partition(parent TEXT, month TIMESTAMPTZ) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
DECLARE
    part TEXT := parent || to_char(month AT TIME ZONE 'UTC', '"_"YYYY"_"MM');
    low UUID := id_floor(month);
    high UUID := id_floor(((month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC');
    key TEXT;
    options TEXT[];
BEGIN
    IF to_regclass(format('%I', part)) IS NOT NULL THEN
        RETURN false;
    END IF;
    SELECT a.attname INTO STRICT key FROM pg_partitioned_table p JOIN pg_attribute a
        ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
        WHERE p.partrelid = to_regclass(format('%I', parent));
    SELECT c.reloptions INTO options FROM pg_class c WHERE c.oid = to_regclass(format('%I', parent || '_default'));
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING GENERATED) %s', part, parent,
        coalesce('WITH (' || array_to_string(options, ', ') || ')', ''));
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
        parent || '_default', key, low, key, high, part);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, low, high);
    RETURN true;
END
$$;

-- Makes the partitions of this month and of so many to come, of every table that is partitioned by an id; answers how
-- many were missing. Several processes may call it at once.
CREATE FUNCTION ensure_partitions(ahead BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    parent TEXT;
    first TIMESTAMPTZ := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    month TIMESTAMPTZ;
    made BIGINT := 0;
BEGIN
    -- The default partitions are locked for a moment; who cannot have them at once comes again later.
    PERFORM set_config('lock_timeout', '500ms', true);
    PERFORM pg_advisory_xact_lock(hashtextextended('partitions of ' || current_schema(), 0));
    FOR parent IN SELECT c.relname FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
        WHERE c.relnamespace = current_schema()::regnamespace AND p.partstrat = 'r' ORDER BY c.relname
    LOOP
        FOR step IN 0 .. ahead LOOP
            month := ((first AT TIME ZONE 'UTC') + step * interval '1 month') AT TIME ZONE 'UTC';
            IF ensure_partition(parent, month) THEN
                made := made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

CREATE TABLE notifications (
    id UUID NOT NULL PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    sender TEXT NOT NULL,
    audience TEXT,
    content TEXT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    category TEXT COLLATE "C",
    lane BIGINT NOT NULL,
    strategy TEXT NOT NULL,
    channels TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    visible_at BIGINT NOT NULL,
    expires_at BIGINT,
    withdrawn BIGINT NOT NULL DEFAULT 0
) PARTITION BY RANGE (id);

-- Ids of no month that has a partition.
CREATE TABLE notifications_default PARTITION OF notifications DEFAULT WITH (fillfactor = 95);

-- Accepted, not yet visible: no position is given before its time.
CREATE TABLE scheduled (
    visible_at BIGINT NOT NULL,
    notification_id UUID NOT NULL,
    routes TEXT NOT NULL,
    PRIMARY KEY (visible_at, notification_id)
);

CREATE TABLE idempotency (
    tenant TEXT COLLATE "C" NOT NULL,
    credential TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    request_hash BYTEA NOT NULL,
    status BIGINT NOT NULL,
    response TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, credential, route, key)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX idempotency_expiry ON idempotency (expires_at);

-- Several rows a tenant, so that commits of one tenant do not wait for each other: the sum counts.
CREATE TABLE totals (
    tenant TEXT COLLATE "C" NOT NULL,
    slot BIGINT NOT NULL,
    created BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    PRIMARY KEY (tenant, slot)
) WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

SELECT ensure_partitions(3);
