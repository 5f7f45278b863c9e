-- Rows of a key up to the ordinal `gone` are forgotten: they count as seen by everybody.
ALTER TABLE counters ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;

CREATE INDEX inbox_age ON inbox (visible_at);
CREATE INDEX receipts_notification ON receipts (notification_id, user, key);
