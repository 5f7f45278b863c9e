-- Rows of a key up to the ordinal `gone` are forgotten: they count as seen by everybody.
ALTER TABLE counters ADD COLUMN gone BIGINT NOT NULL DEFAULT 0;

CREATE INDEX inbox_age ON inbox (visible_at);
-- By user too: a list that enters here meets the reader's own row, however many have one of the notification.
CREATE INDEX receipts_notification ON receipts (notification_id, "user", key);

-- What ended lies in the order in which it ended.
CREATE INDEX delivery_history_age ON delivery_history USING brin (updated_at);

-- The notifications with ids in a range that something still needs: a row of an inbox, a delivery on its way or one that
-- ended lately, their own time that has not come, a fan-out. At most so many.
CREATE FUNCTION needed_notifications(low UUID, high UUID, since BIGINT, most BIGINT) RETURNS UUID[]
    LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(id), '{}') FROM (
        SELECT id FROM (
            SELECT notification_id AS id FROM inbox WHERE notification_id >= low AND notification_id < high
            UNION SELECT notification_id FROM deliveries WHERE notification_id >= low AND notification_id < high
            UNION SELECT notification_id FROM scheduled WHERE notification_id >= low AND notification_id < high
            UNION SELECT notification_id FROM jobs
                WHERE notification_id >= low AND notification_id < high AND done = 0
            UNION SELECT notification_id FROM chains
                WHERE notification_id >= low AND notification_id < high AND open = 1
            UNION SELECT notification_id FROM delivery_history
                WHERE notification_id >= low AND notification_id < high AND updated_at >= since) used
        LIMIT most) found
$$;

-- Drops the partitions of one month, the oldest that ended before a time (microseconds) and of which little is needed;
-- that little moves to the default partitions. Attempts of a month go after every notification that could have them.
-- Answers how many months: 0 or 1. Who cannot have the locks at once comes again later.
CREATE FUNCTION forget_month(before BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    -- More than so many in use: the month waits.
    most CONSTANT BIGINT := 1000;
    bound UUID := id_floor(to_timestamp(before / 1000000.0));
    suffix TEXT;
    month TIMESTAMPTZ;
    low UUID;
    high UUID;
    needed UUID[];
    said notifications[];
    ended delivery_history[];
    tried attempts[];
BEGIN
    PERFORM set_config('lock_timeout', '500ms', true);
    PERFORM pg_advisory_xact_lock(hashtextextended('partitions of ' || current_schema(), 0));
    FOR suffix IN SELECT right(c.relname, 8) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass('notifications') AND c.relname ~ '_[0-9]{4}_[0-9]{2}$' ORDER BY 1
    LOOP
        month := make_timestamptz(substr(suffix, 2, 4)::int, substr(suffix, 7, 2)::int, 1, 0, 0, 0, 'UTC');
        low := id_floor(month);
        high := id_floor(((month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC');
        EXIT WHEN high > bound;
        CONTINUE WHEN cardinality(needed_notifications(low, high, before, most + 1)) > most;
        EXECUTE format('LOCK TABLE %I, %I IN ACCESS EXCLUSIVE MODE',
            'notifications' || suffix, 'delivery_history' || suffix);
        -- Once more, now that nobody can bring anything back.
        needed := needed_notifications(low, high, before, most + 1);
        CONTINUE WHEN cardinality(needed) > most;
        said := ARRAY(SELECT n FROM notifications n WHERE n.id = ANY (needed));
        ended := ARRAY(SELECT h FROM delivery_history h WHERE h.notification_id = ANY (needed));
        EXECUTE format('DROP TABLE %I, %I', 'notifications' || suffix, 'delivery_history' || suffix);
        INSERT INTO notifications SELECT (n).* FROM unnest(said) n;
        INSERT INTO delivery_history SELECT (h).* FROM unnest(ended) h;
        RETURN 1;
    END LOOP;
    FOR suffix IN SELECT right(c.relname, 8) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass('attempts') AND c.relname ~ '_[0-9]{4}_[0-9]{2}$' ORDER BY 1
    LOOP
        EXIT WHEN EXISTS (SELECT 1 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = to_regclass('notifications') AND c.relname ~ '_[0-9]{4}_[0-9]{2}$'
                AND right(c.relname, 8) <= suffix);
        month := make_timestamptz(substr(suffix, 2, 4)::int, substr(suffix, 7, 2)::int, 1, 0, 0, 0, 'UTC');
        low := id_floor(month);
        high := id_floor(((month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC');
        EXIT WHEN high > bound;
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', 'attempts' || suffix);
        tried := ARRAY(SELECT a FROM (
                SELECT id FROM deliveries WHERE id >= low AND id < high
                UNION SELECT id FROM delivery_history WHERE id >= low AND id < high) d
            JOIN attempts a ON a.delivery_id = d.id);
        EXECUTE format('DROP TABLE %I', 'attempts' || suffix);
        INSERT INTO attempts SELECT (a).* FROM unnest(tried) a;
        RETURN 1;
    END LOOP;
    RETURN 0;
EXCEPTION WHEN lock_not_available THEN
    RETURN 0;
END
$$;

-- A fan-out has the lane of its notification; the most important goes first.
ALTER TABLE jobs ADD COLUMN lane BIGINT NOT NULL DEFAULT 1;
UPDATE jobs SET lane = coalesce((SELECT n.lane FROM notifications n WHERE n.id = jobs.notification_id), 1) WHERE done = 0;
CREATE INDEX jobs_turn ON jobs (lane, next_at) WHERE done = 0;

-- What expires is found when its time has come, whatever it waits for.
CREATE INDEX notifications_expiry ON notifications (expires_at) WHERE expires_at IS NOT NULL;
