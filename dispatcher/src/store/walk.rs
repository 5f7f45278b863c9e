//! A walk down a reader's keys at once: the newest of all first, each key along its positions.
//!
//! Every key's rows come in the order of their positions, and the heads are merged by time and id. So where a walk stands
//! is a position of each key, which needs no row to exist, and what arrives later lies above all of them.

use std::collections::{HashMap, HashSet, VecDeque};

use uuid::Uuid;

use super::{
    StoreError,
    access::{Access, Statement},
    inbox::View,
    keys::{Floor, Keys},
    sql::lists as sql,
};
use crate::model::{ListFilter, Place, ReaderKeys, WalkCursor};

/// Positions of a key that are looked at first where rows are looked for along it; each further look takes more.
const WINDOW: i64 = 256;
/// How much more.
const GROWTH: i64 = 4;

/// A row on its way into the list.
pub(super) struct Listed {
    pub(super) id: Uuid,
    pub(super) group: Option<String>,
    pub(super) view: View,
    /// Filed for readers that fit, who may have it by other keys too.
    pub(super) is_filtered: bool,
    visible_at: i64,
    position: i64,
}

/// The rows of one key that are still to come.
struct Source<'a> {
    key: &'a str,
    floor: Floor,
    /// What of the key is left, from the top.
    parts: VecDeque<Part>,
    /// Rows from here on have been looked at.
    below: i64,
    window: i64,
    rows: VecDeque<Listed>,
}

/// Rows after a position, as one statement finds them.
struct Part {
    statement: Statement,
    after: i64,
    /// It looks at every row on its way; the others find what they look for by an index.
    is_along: bool,
}

/// What does not change on the way.
pub(super) struct Walk<'a> {
    reader: &'a ReaderKeys,
    keys: &'a Keys,
    filter: &'a ListFilter,
    group_key: Option<String>,
    /// One row of each group.
    folds: bool,
    /// Positions that may still be looked at.
    budget: i64,
    sources: Vec<Source<'a>>,
    begins: WalkCursor,
    seen: HashSet<Uuid>,
    groups: HashSet<String>,
}

impl<'a> Walk<'a> {
    /// From the top, or from where an earlier walk stood. `counters`: position and number of rows of each key.
    pub(super) fn new(
        reader: &'a ReaderKeys,
        keys: &'a Keys,
        floors: &HashMap<String, Floor>,
        counters: &[(String, i64, i64, i64)],
        filter: &'a ListFilter,
        from: Option<&WalkCursor>,
        budget: i64,
    ) -> Self {
        let counters: HashMap<&str, (i64, i64)> = counters
            .iter()
            .map(|(key, position, items, _)| (key.as_str(), (*position, *items)))
            .collect();
        let mut begins = WalkCursor::default();
        let mut sources = Vec::new();
        for key in keys.all() {
            // Most keys of most readers never had a row.
            let Some(&(position, items)) = counters.get(key) else {
                continue;
            };
            let (below, end) = match from {
                None if items > 0 => (position + 1, position + 1),
                Some(from) if from.0.contains_key(key) => {
                    let (below, end) = from.0.get(key).copied().unwrap_or_default();
                    (below.min(position + 1), end.min(position + 1))
                }
                // Nothing yet, or new since the walk began.
                _ => continue,
            };
            let floor = floors.get(key).copied().unwrap_or_default();
            begins.0.insert(key.to_owned(), (below, end));
            sources.push(Source {
                key,
                floor,
                parts: parts(filter, &floor),
                below,
                window: WINDOW.max(8 * i64::from(filter.limit)),
                rows: VecDeque::new(),
            });
        }
        Self {
            reader,
            keys,
            filter,
            // As it is filed.
            group_key: filter.group_key.as_deref().map(super::positions::filed_group),
            folds: filter.fold,
            budget,
            sources,
            begins,
            seen: HashSet::new(),
            groups: HashSet::new(),
        }
    }

    /// Up to so many, none of which came before.
    pub(super) async fn take(
        &mut self,
        conn: &mut Access<'_>,
        wanted: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let mut taken = Vec::new();
        while taken.len() < wanted
            && let Some(at) = self.head(conn, wanted - taken.len()).await?
            && let Some(row) = self
                .sources
                .get_mut(at)
                .and_then(|source| source.rows.pop_front())
        {
            self.seen.insert(row.id);
            if self.folds
                && let Some(group) = &row.group
            {
                self.groups.insert(group.clone());
            }
            taken.push(row);
        }
        Ok(taken)
    }

    /// Where it stands; none: at the end.
    pub(super) async fn stands(&mut self, conn: &mut Access<'_>) -> Result<Option<WalkCursor>, StoreError> {
        let head = self.head(conn, 1).await?;
        if head.is_none() && self.sources.iter().all(|source| source.parts.is_empty()) {
            return Ok(None);
        }
        let mut stands = self.begins.clone();
        for source in &self.sources {
            if let Some((below, _)) = stands.0.get_mut(source.key) {
                *below = match source.rows.front() {
                    Some(row) => row.position + 1,
                    None if source.parts.is_empty() => 0,
                    None => source.below,
                };
            }
        }
        Ok(Some(stands))
    }

    /// Whose row is the next that did not come before; none: there is none, or too much would have to be looked at.
    async fn head(&mut self, conn: &mut Access<'_>, wanted: usize) -> Result<Option<usize>, StoreError> {
        loop {
            for at in 0..self.sources.len() {
                if !self.fill(conn, at, wanted).await? {
                    return Ok(None);
                }
            }
            let newest = self
                .sources
                .iter()
                .enumerate()
                .filter_map(|(at, source)| source.rows.front().map(|row| ((row.visible_at, row.id), at)))
                .max();
            let Some((_, at)) = newest else {
                return Ok(None);
            };
            let Some(source) = self.sources.get_mut(at) else {
                return Ok(None);
            };
            let came_before = source.rows.front().is_some_and(|row| {
                let folded = row
                    .group
                    .as_ref()
                    .is_some_and(|group| self.groups.contains(group));
                self.seen.contains(&row.id) || folded
            });
            if !came_before {
                return Ok(Some(at));
            }
            source.rows.pop_front();
        }
    }

    /// Reads on until the key has a row at hand, or has none left. False: there may be one, but too far away.
    async fn fill(&mut self, conn: &mut Access<'_>, at: usize, wanted: usize) -> Result<bool, StoreError> {
        let limit = i64::try_from(wanted).unwrap_or(i64::MAX).saturating_add(1);
        let passed_over: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        let Some(source) = self.sources.get_mut(at) else {
            return Ok(true);
        };
        while source.rows.is_empty()
            && let Some(part) = source.parts.front()
        {
            let after = if part.is_along {
                if self.budget <= 0 {
                    return Ok(false);
                }
                part.after.max(source.below - 1 - source.window.min(self.budget))
            } else {
                part.after
            };
            let (is_along, is_last) = (part.is_along, after == part.after);
            let rows: Vec<ListRow> = conn
                .query(part.statement)
                .list(&self.keys.plain)
                .bind(self.reader.user.as_str())
                .bind(self.reader.tenant.as_str())
                .bind(self.filter.place.as_str())
                .bind(self.filter.is_read)
                .bind(self.filter.is_seen)
                .bind(&self.filter.kind)
                .bind(&self.filter.category)
                .list(&passed_over)
                .bind(source.key)
                .bind(after)
                .bind(source.below)
                .bind(source.floor.read_ordinal)
                .bind(limit)
                .bind(&self.group_key)
                .all()
                .await?;
            let before = source.below;
            if i64::try_from(rows.len()).unwrap_or(i64::MAX) >= limit {
                source.below = rows.last().map_or(source.below, |row| row.2);
            } else {
                source.below = source.below.min(after + 1);
                source.window = source.window.saturating_mul(GROWTH);
                if is_last {
                    source.parts.pop_front();
                }
            }
            if is_along {
                self.budget -= before - source.below;
            }
            source
                .rows
                .extend(rows.into_iter().map(|row| listed(row, source.key, &source.floor)));
        }
        Ok(true)
    }

    /// All rows that were there when the walk began: `[key, after, before, all read up to this ordinal]`.
    pub(super) fn whole(&self) -> Vec<KeyPart<'a>> {
        self.sources
            .iter()
            .filter_map(|source| {
                let (_, end) = self.begins.0.get(source.key)?;
                let floor = &source.floor;
                Some((source.key, floor.since_position, *end, floor.read_ordinal))
            })
            .collect()
    }

    /// The same of what earlier pages have passed.
    pub(super) fn passed(&self) -> Vec<KeyPart<'a>> {
        let mut parts = self.whole();
        for (key, after, ..) in &mut parts {
            let below = self.begins.0.get(*key).map_or(0, |(below, _)| *below);
            *after = (*after).max(below - 1);
        }
        parts
    }
}

/// Key, after, before, all read up to this ordinal.
pub(super) type KeyPart<'a> = (&'a str, i64, i64, i64);

/// The statements that find what is wanted of a key.
fn parts(filter: &ListFilter, floor: &Floor) -> VecDeque<Part> {
    let part = |statement, after, is_along| Part {
        statement,
        after,
        is_along,
    };
    let since = floor.since_position;
    if matches!(filter.place, Place::Archived | Place::Snoozed) {
        return VecDeque::from([part(sql::LIST_KEPT, since, false)]);
    }
    if filter.group_key.is_some() {
        return VecDeque::from([part(sql::LIST_GROUP, since, false)]);
    }
    // Below the watermark only what was reopened is unread.
    if filter.is_read == Some(false) && filter.place == Place::Inbox && floor.read_position > since {
        return VecDeque::from([
            part(sql::LIST, floor.read_position, true),
            part(sql::LIST_REOPENED, since, false),
        ]);
    }
    VecDeque::from([part(sql::LIST, since, true)])
}

/// Id, visible, position, ordinal, group, read, seen, archived, snoozed, reopened.
type ListRow = (
    Uuid,
    i64,
    i64,
    i64,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    i64,
);

fn listed(row: ListRow, key: &str, floor: &Floor) -> Listed {
    let (id, visible_at, position, ordinal, group, read, seen, archived, snoozed, reopened) = row;
    Listed {
        id,
        group,
        view: View::new(ordinal, floor, [read, seen, archived, snoozed], reopened != 0),
        is_filtered: key.starts_with(super::positions::FILTERED),
        visible_at,
        position,
    }
}
