//! What of an inbox a query asks for.

use common::http::Problem;

use super::words::{parse_kind, short};
use crate::model::{ListFilter, Place};

/// Rows of one list at the most.
const MAX_LIMIT: u32 = 200;
/// Rows of a list that names no limit.
const DEFAULT_LIMIT: u32 = 20;

/// As the query says it.
pub(crate) struct Wanted {
    pub(crate) kind: Option<String>,
    /// As `type`.
    pub(crate) kind_alias: Option<String>,
    pub(crate) category: Option<String>,
    pub(crate) group_key: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) limit: Option<u32>,
}

impl Wanted {
    /// Judged; 422 names the parameter.
    pub(crate) fn filter(self) -> Result<ListFilter, Problem> {
        let kind = match (self.kind, self.kind_alias) {
            (Some(kind), _) => Some(parse_kind("kind", &kind)?),
            (None, Some(kind)) => Some(parse_kind("type", &kind)?),
            (None, None) => None,
        };
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::invalid(
                "invalid_query",
                "limit",
                format!("from 1 to {MAX_LIMIT}"),
            ));
        }
        Ok(ListFilter {
            kind: kind.map(|kind| kind.as_str().to_owned()),
            category: short("category", self.category)?,
            group_key: short("group_key", self.group_key)?,
            limit,
            ..of_state(self.state.as_deref())?
        })
    }
}

/// Where to look, and for what there.
fn of_state(state: Option<&str>) -> Result<ListFilter, Problem> {
    let (place, is_read, is_seen) = match state {
        None => (Place::Inbox, None, None),
        Some("unread") => (Place::Inbox, Some(false), None),
        Some("read") => (Place::Inbox, Some(true), None),
        Some("unseen") => (Place::Inbox, None, Some(false)),
        Some("seen") => (Place::Inbox, None, Some(true)),
        Some("archived") => (Place::Archived, None, None),
        Some("snoozed") => (Place::Snoozed, None, None),
        Some("all") => (Place::All, None, None),
        Some(_) => {
            return Err(Problem::invalid(
                "invalid_query",
                "state",
                "one of `unread`, `read`, `unseen`, `seen`, `archived`, `snoozed`, `all`",
            ));
        }
    };
    Ok(ListFilter {
        place,
        is_read,
        is_seen,
        ..ListFilter::default()
    })
}
