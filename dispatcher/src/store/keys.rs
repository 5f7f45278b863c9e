//! A reader's keys, and where its sight of each begins.

use std::collections::{HashMap, HashSet};

use super::{StoreError, access::Access, positions::FILTERED, sql::inbox as sql};
use crate::model::{Micros, ReaderKeys};

/// A reader's keys as parameters: plain ones, and those under which rows of expressions lie.
pub(super) struct Keys {
    pub(super) plain: Vec<String>,
    pub(super) filtered: Vec<String>,
    pub(super) all: Vec<String>,
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
            all: plain.iter().chain(&filtered).cloned().collect(),
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
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    keys: &[String],
) -> Result<HashMap<String, Floor>, StoreError> {
    let rows: Vec<(String, i64, i64, i64, i64, Option<i64>)> = conn
        .query(sql::FLOORS)
        .bind(reader.tenant.as_str())
        .bind(reader.user.as_str())
        .list(keys)
        .all()
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
