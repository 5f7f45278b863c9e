//! SQLite's catalogue: every statement of the store, and how a connection is set up. Each database gets one such module
//! with the same names.
//!
//! Rows go in by the hundred as one JSON text (`json_each`), ids in it as hexadecimal. `CROSS JOIN` is SQLite's way to fix
//! the order of a join; a unary `+` keeps a condition from choosing an index.

/// Whether the filter of the inbox row `i` lets the reader through: `?1` the reader's keys, `?2` the user.
macro_rules! fits {
    () => {
        "(i.filter IS NULL OR (
    NOT EXISTS (SELECT 1 FROM json_each(i.filter, '$.require') q
      WHERE q.value NOT IN (SELECT value FROM json_each(?1)))
    AND NOT EXISTS (SELECT 1 FROM json_each(i.filter, '$.except') q WHERE q.value = ?2)))"
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
pub(super) mod operate;
pub(super) mod queue;
pub(super) mod records;
pub(super) mod retention;
pub(super) mod schedules;
pub(super) mod settings;
pub(super) mod stops;
