//! A reader's keys, and where its sight of each begins.

use std::collections::{HashMap, HashSet};

use sqlx::SqliteConnection;

use super::{StoreError, codec::json, positions::FILTERED, sqlite::inbox as sql};
use crate::model::{Micros, ReaderKeys};

/// A reader's keys as parameters: plain ones, and those under which rows of expressions lie.
pub(super) struct Keys {
    pub(super) plain: Vec<String>,
    pub(super) filtered: Vec<String>,
    pub(super) plain_json: String,
    pub(super) filtered_json: String,
    pub(super) all_json: String,
}

impl Keys {
    pub(super) fn of(reader: &ReaderKeys) -> Result<Self, StoreError> {
        let mut seen = HashSet::with_capacity(reader.keys.len());
        let plain: Vec<String> = reader
            .keys
            .iter()
            .filter(|key| seen.insert(key.as_str()))
            .map(|key| key.as_str().to_owned())
            .collect();
        let filtered: Vec<String> = plain.iter().map(|key| format!("{FILTERED}{key}")).collect();
        Ok(Self {
            plain_json: json(&plain)?,
            filtered_json: json(&filtered)?,
            all_json: json(&plain.iter().chain(&filtered).collect::<Vec<_>>())?,
            plain,
            filtered,
        })
    }

    /// The reader's own key first.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.plain.iter().chain(&self.filtered).map(String::as_str)
    }
}

/// Where a reader's sight of a key begins, and up to where all was read at once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Floor {
    pub(super) since_position: i64,
    pub(super) read_position: i64,
    pub(super) since_ordinal: i64,
    pub(super) read_ordinal: i64,
    pub(super) read_at: Option<Micros>,
}

impl Floor {
    /// Rows up to here are read unless they were reopened.
    pub(super) fn ordinal(&self) -> i64 {
        self.since_ordinal.max(self.read_ordinal)
    }
}

pub(super) async fn floors(
    conn: &mut SqliteConnection,
    reader: &ReaderKeys,
    keys: &str,
) -> Result<HashMap<String, Floor>, StoreError> {
    let rows: Vec<(String, i64, i64, i64, i64, Option<i64>)> = sqlx::query_as(sql::FLOORS)
        .bind(reader.tenant.as_str())
        .bind(reader.user.as_str())
        .bind(keys)
        .fetch_all(conn)
        .await?;
    Ok(rows
        .into_iter()
        .map(
            |(key, since_position, read_position, since_ordinal, read_ordinal, read_at)| {
                let read_at = read_at.map(Micros);
                (
                    key,
                    Floor {
                        since_position,
                        read_position,
                        since_ordinal,
                        read_ordinal,
                        read_at,
                    },
                )
            },
        )
        .collect())
}
