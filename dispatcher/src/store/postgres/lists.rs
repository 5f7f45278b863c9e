//! What a reader's inbox shows, a part of one key at a time; the walk over all keys is made of these.
//!
//! `$1` the reader's keys, `$2` user, `$3` tenant, `$4` place (`inbox`, `archived`, `snoozed`, `all`), `$5` read or unread,
//! `$6` seen or unseen, `$7` kind, `$8` category; NULL for any. Lists: `$9` groups that are passed over, `$10` key, rows
//! after the position `$11` and before `$12`, `$13` all is read up to this ordinal, `$14` limit, `$15` group.

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
            "i.withdrawn = 0 AND r.deleted_at IS NULL
  AND CASE $4::text WHEN 'all' THEN true WHEN 'archived' THEN r.archived_at IS NOT NULL
    WHEN 'snoozed' THEN r.snoozed_until IS NOT NULL ELSE r.archived_at IS NULL AND r.snoozed_until IS NULL END
  AND ($5::int::bool IS NULL OR $5::int::bool = ",
            is_read!($up_to),
            ")
  AND ($6::int::bool IS NULL OR $6::int::bool = (r.seen_at IS NOT NULL OR ",
            is_read!($up_to),
            "))
  AND (($7::text IS NULL AND $8::text IS NULL) OR EXISTS (SELECT 1 FROM notifications n WHERE n.id = i.notification_id
    AND ($7::text IS NULL OR n.kind = $7::text) AND ($8::text IS NULL OR n.category = $8::text)))
  AND ",
            fits!()
        )
    };
}

/// Whether the row is in the part of its key that is asked for.
macro_rules! in_part {
    () => {
        "i.position > $11::bigint AND i.position < $12::bigint AND ($15::text IS NULL OR i.group_key = $15::text)
  AND (i.group_key IS NULL OR NOT i.group_key = ANY ($9::text[]))"
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
FROM inbox i LEFT JOIN receipts r ON r.tenant = $3::text AND r.\"user\" = $2::text AND r.notification_id = i.notification_id
WHERE i.key = $10::text AND ",
    in_part!(),
    " AND ",
    wanted!("$13::bigint"),
    "
ORDER BY i.position DESC LIMIT $14::bigint"
);

/// The same, along one group of the key.
pub(in crate::store) const LIST_GROUP: &str = concat!(
    "SELECT ",
    shown!(),
    "
FROM inbox i
LEFT JOIN receipts r ON r.tenant = $3::text AND r.\"user\" = $2::text AND r.notification_id = i.notification_id
WHERE i.key = $10::text AND i.group_key = $15::text AND ",
    in_part!(),
    " AND ",
    wanted!("$13::bigint"),
    "
ORDER BY i.position DESC LIMIT $14::bigint"
);

/// Of what all was read up to, what is unread again.
pub(in crate::store) const LIST_REOPENED: &str = concat!(
    "SELECT ",
    shown!(),
    "
FROM receipts r
  JOIN inbox i ON i.notification_id = r.notification_id AND i.key = r.key
WHERE r.tenant = $3::text AND r.\"user\" = $2::text AND r.key = $10::text AND r.reopened = 1 AND r.done = 0 AND ",
    in_part!(),
    " AND ",
    wanted!("$13::bigint"),
    "
ORDER BY r.ordinal DESC LIMIT $14::bigint"
);

/// What was taken out of the inbox: put away or put off.
pub(in crate::store) const LIST_KEPT: &str = concat!(
    "SELECT ",
    shown!(),
    "
FROM receipts r
  JOIN inbox i ON i.notification_id = r.notification_id AND i.key = r.key
WHERE r.tenant = $3::text AND r.\"user\" = $2::text AND r.key = $10::text AND (r.archived_at IS NOT NULL OR r.snoozed_until IS NOT NULL) AND ",
    in_part!(),
    " AND ",
    wanted!("$13::bigint"),
    "
ORDER BY r.ordinal DESC LIMIT $14::bigint"
);

/// Groups in parts of keys: how many notifications, and how many of them unread, among the newest thousand rows of each
/// key. `$9` the groups, from `$10` parts: `[key, after, before, all read up to this ordinal]`.
pub(in crate::store) const GROUPS: &str = concat!(
    "SELECT i.group_key, count(DISTINCT i.notification_id),
  count(DISTINCT CASE WHEN NOT ",
    is_read!("k.read_up_to"),
    " THEN i.notification_id END)
FROM unnest($10::text[], $11::bigint[], $12::bigint[], $13::bigint[]) AS k (key, after, before, read_up_to)
  CROSS JOIN unnest($9::text[]) AS j (name)
  CROSS JOIN LATERAL (SELECT o.* FROM inbox o
    WHERE o.key = k.key AND o.group_key = j.name AND o.position > k.after AND o.position < k.before
    ORDER BY o.position DESC LIMIT 1000) i
  LEFT JOIN receipts r ON r.tenant = $3::text AND r.\"user\" = $2::text AND r.notification_id = i.notification_id
WHERE ",
    wanted!("k.read_up_to"),
    "
GROUP BY i.group_key"
);

/// Which of these groups have a row in parts of keys; the parameters are those of `GROUPS`.
pub(in crate::store) const GROUPS_THERE: &str = concat!(
    "SELECT j.name FROM unnest($9::text[]) AS j (name) WHERE EXISTS (SELECT 1
FROM unnest($10::text[], $11::bigint[], $12::bigint[], $13::bigint[]) AS k (key, after, before, read_up_to)
  JOIN inbox i ON i.key = k.key AND i.group_key = j.name AND i.position > k.after AND i.position < k.before
  LEFT JOIN receipts r ON r.tenant = $3::text AND r.\"user\" = $2::text AND r.notification_id = i.notification_id
WHERE ",
    wanted!("k.read_up_to"),
    ")"
);

/// Those of these notifications that the reader was shown by another key's row. `$3` ids, from `$4` parts: `[key, after,
/// before]`.
pub(in crate::store) const PASSED: &str = concat!(
    "SELECT DISTINCT i.notification_id
FROM unnest($3::uuid[]) AS j (id) JOIN inbox i ON i.notification_id = j.id
  JOIN unnest($4::text[], $5::bigint[], $6::bigint[]) AS k (key, after, before)
    ON k.key = i.key AND i.position > k.after AND i.position < k.before
WHERE ",
    fits!()
);
