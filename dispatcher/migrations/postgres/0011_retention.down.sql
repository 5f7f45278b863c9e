DROP FUNCTION forget_month(BIGINT);
DROP FUNCTION needed_notifications(UUID, UUID, BIGINT, BIGINT);
DROP INDEX notifications_expiry;
DROP INDEX jobs_turn;
ALTER TABLE jobs DROP COLUMN lane;
DROP INDEX delivery_history_age;
DROP INDEX receipts_notification;
DROP INDEX inbox_age;
ALTER TABLE counters DROP COLUMN gone;
