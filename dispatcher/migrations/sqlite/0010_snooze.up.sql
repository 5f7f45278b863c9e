-- Until when a reader has put a notification off; it counts as done until then.
ALTER TABLE receipts ADD COLUMN snoozed_until INTEGER;

CREATE INDEX receipts_snoozed ON receipts (snoozed_until) WHERE snoozed_until IS NOT NULL;
