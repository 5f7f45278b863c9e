-- Positions, the inbox, the change feed, and what readers did.

-- `position` counts the entries of a key's feed, `items` its inbox rows. Entries up to `floor` may be gone.
CREATE TABLE counters (
    key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL,
    items BIGINT NOT NULL,
    floor BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- Rows with a filter lie under 'x:' and the key, with a counter of their own.
CREATE TABLE inbox (
    key TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    notification_id UUID NOT NULL,
    visible_at BIGINT NOT NULL,
    filter TEXT,
    withdrawn BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (key, position)
);

CREATE INDEX inbox_notification ON inbox (notification_id, key);
CREATE INDEX inbox_withdrawn ON inbox (key, ordinal) WHERE withdrawn = 1;

CREATE TABLE changes (
    key TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    op TEXT NOT NULL,
    notification_id UUID,
    at BIGINT NOT NULL,
    PRIMARY KEY (key, position)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX changes_age ON changes (at);

-- Membership, watermark and counts of one reader under one key.
-- Above the watermark (or the membership's begin) every row counts as unread but the `done` ones; below it only the
-- `reopened` ones do.
CREATE TABLE readers (
    tenant TEXT COLLATE "C" NOT NULL,
    "user" TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    since_position BIGINT NOT NULL,
    since_ordinal BIGINT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    -- Whether the newest token still carried the key.
    current BIGINT NOT NULL,
    read_position BIGINT NOT NULL DEFAULT 0,
    read_ordinal BIGINT NOT NULL DEFAULT 0,
    read_at BIGINT,
    done BIGINT NOT NULL DEFAULT 0,
    reopened BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, "user", key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE receipts (
    tenant TEXT COLLATE "C" NOT NULL,
    "user" TEXT COLLATE "C" NOT NULL,
    notification_id UUID NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    ordinal BIGINT NOT NULL,
    delivered_at BIGINT,
    seen_at BIGINT,
    read_at BIGINT,
    archived_at BIGINT,
    deleted_at BIGINT,
    -- Explicitly unread below the watermark.
    reopened BIGINT NOT NULL,
    -- Read, archived or deleted by itself.
    done BIGINT NOT NULL,
    PRIMARY KEY (tenant, "user", notification_id)
) WITH (fillfactor = 85);

CREATE INDEX receipts_ordinal ON receipts (tenant, "user", key, ordinal, done);
CREATE INDEX receipts_reopened ON receipts (tenant, "user", key, ordinal) WHERE reopened = 1;
CREATE INDEX receipts_reopened_notification ON receipts (notification_id) WHERE reopened = 1;
