-- Which notification stands for a key and a target. `target` is a hash of whom it is for; `previous` the one it replaced.
CREATE TABLE collapses (
    tenant TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    notification_id UUID NOT NULL,
    previous UUID,
    at BIGINT NOT NULL,
    PRIMARY KEY (tenant, key, target)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX collapses_age ON collapses (at);
