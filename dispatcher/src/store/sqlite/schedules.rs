//! Schedules.

/// What is read of a schedule, in the order of `schedules::Row`.
macro_rules! row {
    () => {
        "id, tenant, name, author, said, state, next_at, runs, failed, missed, last_at, last_notification, last_error, \
         created_at, updated_at"
    };
}

/// ?1 id, ?2 tenant, ?3 name, ?4 author, ?5 said, ?6 state, ?7 next_at, ?8 due_at, ?9 now, ?10 the tenant's most.
pub(in crate::store) const INSERT_SCHEDULE: &str =
    "INSERT INTO schedules (id, tenant, name, author, said, state, next_at, due_at,
        token, runs, failed, missed, created_at, updated_at)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, 0, 0, ?9, ?9
    WHERE (SELECT count(*) FROM schedules WHERE tenant = ?2) < ?10";

/// ?1 id, ?2 tenant.
pub(in crate::store) const SCHEDULE: &str =
    concat!("SELECT ", row!(), " FROM schedules WHERE id = ?1 AND tenant = ?2");

/// As [`SCHEDULE`]: there is one writer.
pub(in crate::store) const LOCK_SCHEDULE: &str = SCHEDULE;

/// ?1 tenant, ?2 author or all, ?3 state or all, ?4 after this id, ?5 limit.
pub(in crate::store) const LIST_SCHEDULES: &str = concat!(
    "SELECT ",
    row!(),
    " FROM schedules WHERE tenant = ?1 AND (?2 IS NULL OR author = ?2) AND (?3 IS NULL OR state = ?3) AND id > ?4
    ORDER BY id LIMIT ?5"
);

/// ?1 id, ?2 name, ?3 author, ?4 said, ?5 state, ?6 next_at, ?7 due_at, ?8 updated_at. Whoever holds it loses it.
pub(in crate::store) const CHANGE_SCHEDULE: &str =
    "UPDATE schedules SET name = ?2, author = ?3, said = ?4, state = ?5,
        next_at = ?6, due_at = ?7, updated_at = ?8, token = token + 1, worker = NULL
    WHERE id = ?1";

/// ?1 id, ?2 tenant.
pub(in crate::store) const DELETE_SCHEDULE: &str = "DELETE FROM schedules WHERE id = ?1 AND tenant = ?2";

/// ?1 now, ?2 worker, ?3 until when it is leased, ?4 limit.
pub(in crate::store) const CLAIM_SCHEDULES: &str = concat!(
    "UPDATE schedules SET token = token + 1, worker = ?2, due_at = ?3
    WHERE id IN (SELECT id FROM schedules WHERE due_at <= ?1 ORDER BY due_at LIMIT ?4)
    RETURNING ",
    row!(),
    ", token"
);

/// ?1 id, ?2 token, ?3 next_at, ?4 due_at, ?5 state, ?6 runs, ?7 failed and ?8 missed to add, ?9 the occurrence, ?10 its
/// notification, ?11 or why there is none.
pub(in crate::store) const END_OCCURRENCE: &str = "UPDATE schedules SET token = token + 1, worker = NULL, next_at = ?3, due_at = ?4,
        state = ?5, runs = runs + ?6, failed = failed + ?7, missed = missed + ?8, last_at = coalesce(?9, last_at),
        last_notification = coalesce(?10, last_notification),
        last_error = CASE WHEN ?9 IS NULL THEN last_error ELSE ?11 END
    WHERE id = ?1 AND token = ?2";

/// ?1 id, ?2 token, ?3 due_at.
pub(in crate::store) const PUT_OFF_SCHEDULE: &str =
    "UPDATE schedules SET token = token + 1, worker = NULL, due_at = ?3 WHERE id = ?1 AND token = ?2";

pub(in crate::store) const NEXT_SCHEDULE: &str =
    "SELECT due_at FROM schedules WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1";
