DROP INDEX notifications_expiry;
DROP INDEX jobs_turn;
ALTER TABLE jobs DROP COLUMN lane;
DROP INDEX receipts_notification;
DROP INDEX inbox_age;
ALTER TABLE counters DROP COLUMN gone;
