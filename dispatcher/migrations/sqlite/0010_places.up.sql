-- Until when a reader has put a notification off; it counts as done until then.
ALTER TABLE receipts ADD COLUMN snoozed_until INTEGER;

CREATE INDEX receipts_snoozed ON receipts (snoozed_until) WHERE snoozed_until IS NOT NULL;

-- What a reader took out of the inbox is found without walking through it.
CREATE INDEX receipts_kept ON receipts (tenant, user, key, ordinal)
    WHERE archived_at IS NOT NULL OR snoozed_until IS NOT NULL;

-- Rows of one group are found together.
ALTER TABLE inbox ADD COLUMN group_key TEXT;
ALTER TABLE scheduled ADD COLUMN group_key TEXT;

UPDATE inbox SET group_key = replace(n.content, '\u0000', '\ufffd') ->> 'group_key'
    FROM notifications n WHERE n.id = inbox.notification_id AND n.content LIKE '%"group_key"%';
UPDATE scheduled SET group_key = replace(n.content, '\u0000', '\ufffd') ->> 'group_key'
    FROM notifications n WHERE n.id = scheduled.notification_id AND n.content LIKE '%"group_key"%';

CREATE INDEX inbox_group ON inbox (key, group_key, position) WHERE group_key IS NOT NULL;
