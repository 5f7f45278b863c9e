-- Until when a reader has put a notification off; it counts as done until then.
ALTER TABLE receipts ADD COLUMN snoozed_until BIGINT;

CREATE INDEX receipts_snoozed ON receipts (snoozed_until) WHERE snoozed_until IS NOT NULL;

-- What a reader took out of the inbox is found without walking through it.
CREATE INDEX receipts_kept ON receipts (tenant, "user", key, ordinal)
    WHERE archived_at IS NOT NULL OR snoozed_until IS NOT NULL;

-- Rows of one group are found together.
ALTER TABLE inbox ADD COLUMN group_key TEXT COLLATE "C";
ALTER TABLE scheduled ADD COLUMN group_key TEXT COLLATE "C";

UPDATE inbox i SET group_key = replace(n.content, '\u0000', '\ufffd')::jsonb ->> 'group_key'
    FROM notifications n WHERE n.id = i.notification_id AND n.content LIKE '%"group_key"%';
UPDATE scheduled s SET group_key = replace(n.content, '\u0000', '\ufffd')::jsonb ->> 'group_key'
    FROM notifications n WHERE n.id = s.notification_id AND n.content LIKE '%"group_key"%';

CREATE INDEX inbox_group ON inbox (key, group_key, position) WHERE group_key IS NOT NULL;
