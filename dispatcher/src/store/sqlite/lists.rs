//! What a reader's inbox shows, a part of one key at a time; the walk over all keys is made of these.
//!
//! `?1` the reader's keys, `?2` user, `?3` tenant, `?4` place (`inbox`, `archived`, `snoozed`, `all`), `?5` read or unread,
//! `?6` seen or unseen, `?7` kind, `?8` category; NULL for any. Lists: `?9` groups that are passed over, `?10` key, rows
//! after the position `?11` and before `?12`, `?13` all is read up to this ordinal, `?14` limit, `?15` group.

/// Whether the reader has read the inbox row `i` with the receipt `r`, by itself or with all up to an ordinal.
macro_rules! is_read {
    ($up_to:literal) => {
        concat!(
            "(r.read_at IS NOT NULL OR (coalesce(r.reopened, 0) = 0 AND i.ordinal <= ",
            $up_to,
            "))"
        )
    };
}

/// Whether the inbox row `i` with the receipt `r` is what is asked for.
macro_rules! wanted {
    ($up_to:literal) => {
        concat!(
            "+i.withdrawn = 0 AND r.deleted_at IS NULL
  AND CASE ?4 WHEN 'all' THEN 1 WHEN 'archived' THEN r.archived_at IS NOT NULL
    WHEN 'snoozed' THEN r.snoozed_until IS NOT NULL ELSE r.archived_at IS NULL AND r.snoozed_until IS NULL END
  AND (?5 IS NULL OR ?5 = ",
            is_read!($up_to),
            ")
  AND (?6 IS NULL OR ?6 = (r.seen_at IS NOT NULL OR ",
            is_read!($up_to),
            "))
  AND ((?7 IS NULL AND ?8 IS NULL) OR EXISTS (SELECT 1 FROM notifications n WHERE n.id = i.notification_id
    AND (?7 IS NULL OR n.kind = ?7) AND (?8 IS NULL OR n.category = ?8)))
  AND ",
            fits!()
        )
    };
}

/// Whether the row is in the part of its key that is asked for.
macro_rules! in_part {
    () => {
        "i.position > ?11 AND i.position < ?12 AND (?15 IS NULL OR i.group_key = ?15)
  AND (i.group_key IS NULL OR i.group_key NOT IN (SELECT value FROM json_each(?9)))"
    };
}

/// What a list says of a row.
macro_rules! shown {
    () => {
        "i.notification_id, i.visible_at, i.position, i.ordinal, i.group_key, r.read_at, r.seen_at, r.archived_at,
  r.snoozed_until, coalesce(r.reopened, 0)"
    };
}

/// The newest first, along the key.
pub(in crate::store) const LIST: &str = concat!(
    "SELECT ",
    shown!(),
    "
FROM inbox i LEFT JOIN receipts r ON r.tenant = ?3 AND r.user = ?2 AND r.notification_id = i.notification_id
WHERE i.key = ?10 AND ",
    in_part!(),
    " AND ",
    wanted!("?13"),
    "
ORDER BY i.position DESC LIMIT ?14"
);

/// The same, along one group of the key.
pub(in crate::store) const LIST_GROUP: &str = concat!(
    "SELECT ",
    shown!(),
    "
FROM inbox i INDEXED BY inbox_group
LEFT JOIN receipts r ON r.tenant = ?3 AND r.user = ?2 AND r.notification_id = i.notification_id
WHERE i.key = ?10 AND i.group_key = ?15 AND ",
    in_part!(),
    " AND ",
    wanted!("?13"),
    "
ORDER BY i.position DESC LIMIT ?14"
);

/// Of what all was read up to, what is unread again.
pub(in crate::store) const LIST_REOPENED: &str = concat!(
    "SELECT ",
    shown!(),
    "
FROM receipts r INDEXED BY receipts_reopened
  CROSS JOIN inbox i INDEXED BY inbox_notification ON i.notification_id = r.notification_id AND i.key = r.key
WHERE r.tenant = ?3 AND r.user = ?2 AND r.key = ?10 AND r.reopened = 1 AND +r.done = 0 AND ",
    in_part!(),
    " AND ",
    wanted!("?13"),
    "
ORDER BY r.ordinal DESC LIMIT ?14"
);

/// What was taken out of the inbox: put away or put off.
pub(in crate::store) const LIST_KEPT: &str = concat!(
    "SELECT ",
    shown!(),
    "
FROM receipts r INDEXED BY receipts_kept
  CROSS JOIN inbox i INDEXED BY inbox_notification ON i.notification_id = r.notification_id AND i.key = r.key
WHERE r.tenant = ?3 AND r.user = ?2 AND r.key = ?10 AND (r.archived_at IS NOT NULL OR r.snoozed_until IS NOT NULL) AND ",
    in_part!(),
    " AND ",
    wanted!("?13"),
    "
ORDER BY r.ordinal DESC LIMIT ?14"
);

/// Groups in parts of keys: how many notifications, and how many of them unread, among the newest thousand rows of each
/// key. `?9` the groups, `?10` parts: `[key, after, before, all read up to this ordinal]`.
pub(in crate::store) const GROUPS: &str = concat!(
    "SELECT i.group_key, count(DISTINCT i.notification_id),
  count(DISTINCT CASE WHEN NOT ",
    is_read!("j.value ->> 3"),
    " THEN i.notification_id END)
FROM json_each(?10) j CROSS JOIN json_each(?9) q
  CROSS JOIN inbox i INDEXED BY inbox_group ON i.key = j.value ->> 0 AND i.group_key = q.value
    AND i.position > j.value ->> 1 AND i.position < j.value ->> 2
    AND i.position >= (SELECT coalesce(min(s.position), 0) FROM (SELECT o.position FROM inbox o INDEXED BY inbox_group
      WHERE o.key = j.value ->> 0 AND o.group_key = q.value AND o.position < j.value ->> 2
      ORDER BY o.position DESC LIMIT 1000) s)
  LEFT JOIN receipts r ON r.tenant = ?3 AND r.user = ?2 AND r.notification_id = i.notification_id
WHERE ",
    wanted!("j.value ->> 3"),
    "
GROUP BY i.group_key"
);

/// Which of these groups have a row in parts of keys; the parameters are those of `GROUPS`.
pub(in crate::store) const GROUPS_THERE: &str = concat!(
    "SELECT q.value FROM json_each(?9) q WHERE EXISTS (SELECT 1
FROM json_each(?10) j
  CROSS JOIN inbox i INDEXED BY inbox_group ON i.key = j.value ->> 0 AND i.group_key = q.value
    AND i.position > j.value ->> 1 AND i.position < j.value ->> 2
  LEFT JOIN receipts r ON r.tenant = ?3 AND r.user = ?2 AND r.notification_id = i.notification_id
WHERE ",
    wanted!("j.value ->> 3"),
    ")"
);

/// Those of these notifications that the reader was shown by another key's row. `?3` ids, `?4` parts: `[key, after,
/// before]`.
pub(in crate::store) const PASSED: &str = concat!(
    "SELECT DISTINCT i.notification_id
FROM json_each(?3) j CROSS JOIN inbox i INDEXED BY inbox_notification ON i.notification_id = unhex(j.value)
  CROSS JOIN json_each(?4) q ON q.value ->> 0 = i.key AND i.position > q.value ->> 1 AND i.position < q.value ->> 2
WHERE ",
    fits!()
);
