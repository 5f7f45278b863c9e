-- Which notification stands for a key and a target. `target` is a hash of whom it is for; `previous` the one it replaced.
CREATE TABLE collapses (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    target TEXT NOT NULL,
    notification_id BLOB NOT NULL,
    previous BLOB,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant, key, target)
) WITHOUT ROWID;

CREATE INDEX collapses_age ON collapses (at);
