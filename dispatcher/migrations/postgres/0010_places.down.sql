DROP INDEX inbox_group;
ALTER TABLE scheduled DROP COLUMN group_key;
ALTER TABLE inbox DROP COLUMN group_key;
DROP INDEX receipts_kept;
DROP INDEX receipts_snoozed;
ALTER TABLE receipts DROP COLUMN snoozed_until;
