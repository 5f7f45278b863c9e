-- Positions, the inbox, the change feed, and what readers did.

-- `position` counts the entries of a key's feed, `items` its inbox rows. Entries up to `floor` may be gone.
CREATE TABLE counters (
    key TEXT NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL,
    items INTEGER NOT NULL,
    floor INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Rows with a filter lie under 'x:' and the key, with a counter of their own.
CREATE TABLE inbox (
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    notification_id BLOB NOT NULL,
    visible_at INTEGER NOT NULL,
    filter TEXT,
    withdrawn INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (key, position)
) WITHOUT ROWID;

CREATE INDEX inbox_notification ON inbox (notification_id, key);
CREATE INDEX inbox_withdrawn ON inbox (key, ordinal) WHERE withdrawn = 1;

CREATE TABLE changes (
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    op TEXT NOT NULL,
    notification_id BLOB,
    at INTEGER NOT NULL,
    PRIMARY KEY (key, position)
) WITHOUT ROWID;

CREATE INDEX changes_age ON changes (at);

-- Membership, watermark and counts of one reader under one key.
-- Above the watermark (or the membership's begin) every row counts as unread but the `done` ones; below it only the
-- `reopened` ones do.
CREATE TABLE readers (
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    key TEXT NOT NULL,
    since_position INTEGER NOT NULL,
    since_ordinal INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    -- Whether the newest token still carried the key.
    current INTEGER NOT NULL,
    read_position INTEGER NOT NULL DEFAULT 0,
    read_ordinal INTEGER NOT NULL DEFAULT 0,
    read_at INTEGER,
    done INTEGER NOT NULL DEFAULT 0,
    reopened INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, user, key)
) WITHOUT ROWID;

CREATE TABLE receipts (
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    notification_id BLOB NOT NULL,
    key TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    delivered_at INTEGER,
    seen_at INTEGER,
    read_at INTEGER,
    archived_at INTEGER,
    deleted_at INTEGER,
    -- Explicitly unread below the watermark.
    reopened INTEGER NOT NULL,
    -- Read, archived or deleted by itself.
    done INTEGER NOT NULL,
    PRIMARY KEY (tenant, user, notification_id)
) WITHOUT ROWID;

CREATE INDEX receipts_ordinal ON receipts (tenant, user, key, ordinal, done);
CREATE INDEX receipts_reopened ON receipts (tenant, user, key, ordinal) WHERE reopened = 1;
CREATE INDEX receipts_reopened_notification ON receipts (notification_id) WHERE reopened = 1;
