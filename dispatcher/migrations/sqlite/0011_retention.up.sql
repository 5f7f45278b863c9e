-- Rows of a key up to the ordinal `gone` are forgotten: they count as seen by everybody.
ALTER TABLE counters ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;

CREATE INDEX inbox_age ON inbox (visible_at);
CREATE INDEX receipts_notification ON receipts (notification_id, user, key);

-- A fan-out has the lane of its notification; the most important goes first.
ALTER TABLE jobs ADD COLUMN lane INTEGER NOT NULL DEFAULT 1;
UPDATE jobs SET lane = coalesce((SELECT n.lane FROM notifications n WHERE n.id = jobs.notification_id), 1) WHERE done = 0;
CREATE INDEX jobs_turn ON jobs (lane, next_at) WHERE done = 0;

-- What expires is found when its time has come, whatever it waits for.
CREATE INDEX notifications_expiry ON notifications (expires_at) WHERE expires_at IS NOT NULL;
