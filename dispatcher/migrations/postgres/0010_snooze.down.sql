DROP INDEX receipts_snoozed;
ALTER TABLE receipts DROP COLUMN snoozed_until;
