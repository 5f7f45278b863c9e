//! PostgreSQL's catalogue: the statements of the store, under the names of SQLite's.
//!
//! Rows go in by the hundred as one array for each column (`unnest`). What writes many rows locks them first, in the
//! order in which every transaction does (keys, counters, deliveries by id), in a `MATERIALIZED` part of the statement, so
//! that two writers wait for each other but never in a circle. After such a wait PostgreSQL looks at the row again, but at
//! no other table: what a statement decides has to stand in the row that it locks.
//!
//! `deliveries` holds only what is pending or running; the statement that ends a delivery moves it to
//! `delivery_history`. `all_deliveries` shows both. Numbers are `bigint`, also flags and counts, as in SQLite.

/// The columns of `deliveries` and of `delivery_history`, in order.
macro_rules! columns {
    () => {
        "id, notification_id, tenant, channel, \"user\", address, lane, state, reason, due_at, lease_until, token, \
         max_attempts, worker, updated_at"
    };
}

/// States that nothing leaves by itself: their rows belong to `delivery_history`.
macro_rules! terminal {
    () => {
        "('delivered', 'skipped', 'suppressed', 'expired', 'cancelled', 'dead')"
    };
}

/// The filter of the inbox row `i`. A NUL is no text to PostgreSQL, and no user who could read has one.
macro_rules! filter {
    () => {
        r"replace(i.filter, '\u0000', '\ufffd')::jsonb"
    };
}

/// Whether the filter of the inbox row `i` lets the reader through: `$1` the reader's keys, `$2` the user.
macro_rules! fits {
    () => {
        concat!(
            "(i.filter IS NULL OR (coalesce(",
            filter!(),
            " -> 'require' <@ to_jsonb($1::text[]), true)
    AND NOT coalesce(",
            filter!(),
            " -> 'except' ? $2::text, false)))"
        )
    };
}

pub(super) mod accept;
pub(super) mod api_keys;
pub(super) mod audit;
pub(super) mod chains;
pub(super) mod collapse;
pub(super) mod connect;
pub(super) mod events;
pub(super) mod history;
pub(super) mod inbox;
pub(super) mod lists;
#[cfg(test)]
mod months;
pub(super) mod operate;
#[cfg(test)]
mod plans;
pub(super) mod queue;
pub(super) mod records;
pub(super) mod retention;
pub(super) mod schedules;
pub(super) mod settings;
pub(super) mod stops;
