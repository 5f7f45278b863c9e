DROP TABLE totals;
DROP TABLE idempotency;
DROP TABLE scheduled;
DROP TABLE notifications;
DROP FUNCTION ensure_partitions(BIGINT);
DROP FUNCTION ensure_partition(TEXT, TIMESTAMPTZ);
DROP FUNCTION id_floor(TIMESTAMPTZ);
