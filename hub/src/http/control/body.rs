//! Who is meant: a target as in a publish, or by simple names in the query.

use common::{
    http::{Problem, parse_query},
    ids::Name,
    target::{Audience, Target},
};
use http::Uri;
use serde::Deserialize;

use crate::worker::control::Page;

/// Entries of a page where the caller says nothing, and at the most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// The sessions that are meant.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) to: Audience,
    pub(super) session: Option<String>,
    /// Where the caller named the target.
    pub(super) field: &'static str,
}

impl Wanted {
    /// What stands in a body.
    pub(super) fn new(to: Audience, session: Option<String>) -> Self {
        Self {
            to,
            session,
            field: "to",
        }
    }
}

/// Sessions by a target.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectBody {
    /// For whom, as in a publish: `{"user":"u1"}`, `{"role":"r"}`, `{"tenant":true}`, or an expression, with `except`.
    #[schema(value_type = Object)]
    pub(super) to: Audience,
    /// Only this session of the target.
    #[serde(default)]
    pub(super) session: Option<String>,
}

/// A page of sessions or users by a target.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PageBody {
    /// For whom, as in a publish.
    #[schema(value_type = Object)]
    to: Audience,
    /// Only this session of the target.
    #[serde(default)]
    session: Option<String>,
    /// Entries of the page, 1 to 1,000; default 100.
    #[serde(default)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
}

/// Sessions by names. Several names mean sessions that fit all of them; none means the tenant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamesQuery {
    tenant: Option<String>,
    user: Option<String>,
    role: Option<String>,
    store: Option<String>,
    topic: Option<String>,
    everyone: Option<bool>,
    session: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
    node: Option<String>,
}

/// Whose sessions, and where: beside a body all that the query has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scope {
    /// A tenant that the caller names.
    pub(super) tenant: Option<String>,
    /// Only this node.
    pub(super) node: Option<String>,
}

/// Where a page begins and how long it is, as the caller wrote it.
#[derive(Debug)]
pub(super) struct PageOf {
    limit: Option<usize>,
    after: Option<String>,
}

impl PageOf {
    /// The page; `read` reads the cursor.
    pub(super) fn page<C>(self, read: impl FnOnce(&str) -> Option<C>) -> Result<Page<C>, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::invalid(
                "invalid_value",
                "limit",
                "a page has 1 to 1000 entries",
            ));
        }
        let after = match self.after {
            None => None,
            Some(text) => Some(read(&text).ok_or_else(|| {
                Problem::invalid(
                    "invalid_cursor",
                    "after",
                    "give `next` of the page before, or nothing",
                )
            })?),
        };
        Ok(Page { after, limit })
    }
}

impl SelectBody {
    pub(super) fn wanted(self) -> Wanted {
        Wanted::new(self.to, self.session)
    }
}

impl PageBody {
    pub(super) fn into_parts(self) -> (Wanted, PageOf) {
        let wanted = Wanted::new(self.to, self.session);
        let page = PageOf {
            limit: self.limit,
            after: self.after,
        };
        (wanted, page)
    }
}

/// What the query beside a body says.
pub(super) fn scope(uri: &Uri) -> Result<Scope, Problem> {
    parse_query(uri)
}

/// Scope, sessions and page of a query.
pub(super) fn names(uri: &Uri) -> Result<(Scope, Wanted, PageOf), Problem> {
    let query: NamesQuery = parse_query(uri)?;
    let mut targets = Vec::new();
    if query.everyone == Some(true) {
        targets.push(Target::Everyone);
    }
    for (field, given, target) in [
        ("user", query.user, Target::User as fn(Name) -> Target),
        ("store", query.store, Target::Store),
        ("role", query.role, Target::Role),
        ("topic", query.topic, Target::Topic),
    ] {
        if let Some(given) = given {
            targets.push(target(name(field, &given)?));
        }
    }
    let target = match targets.len() {
        0 => Target::Tenant,
        1 => targets.pop().unwrap_or(Target::Tenant),
        _ => Target::AllOf(targets),
    };
    let wanted = Wanted {
        to: target.into(),
        session: query.session,
        // Of all that the query can name, only this may be refused.
        field: "everyone",
    };
    let page = PageOf {
        limit: query.limit,
        after: query.after,
    };
    let scope = Scope {
        tenant: query.tenant,
        node: query.node,
    };
    Ok((scope, wanted, page))
}

/// A name, or which field is none.
pub(super) fn name(field: &'static str, text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|error| Problem::invalid("invalid_value", field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_query_narrow_each_other() {
        let target = |query: &str| {
            let uri: Uri = format!("/x?{query}").parse().unwrap();
            names(&uri).map(|(_, wanted, _)| serde_json::to_string(&wanted.to).unwrap())
        };
        for (query, expected) in [
            ("", r#"{"tenant":true}"#),
            ("user=a%20b", r#"{"user":"a b"}"#),
            ("role=r&store=1", r#"{"all_of":[{"store":"1"},{"role":"r"}]}"#),
            ("everyone=true", r#"{"everyone":true}"#),
            ("everyone=false&topic=x", r#"{"topic":"x"}"#),
        ] {
            assert_eq!(target(query).unwrap(), expected, "{query}");
        }
        for (query, code, field) in [
            ("user=", "invalid_value", "user"),
            ("usr=a", "invalid_query", "usr"),
            ("limit=x", "invalid_query", "limit"),
        ] {
            let problem = target(query).unwrap_err();
            assert_eq!(
                (problem.code, problem.field.as_deref()),
                (code, Some(field)),
                "{query}"
            );
        }
    }

    #[test]
    fn pages_are_bounded() {
        let page = |limit, after: Option<&str>| {
            let page = PageOf {
                limit,
                after: after.map(str::to_owned),
            };
            page.page(|text| (text == "good").then_some(()))
        };
        assert_eq!(page(None, None).unwrap().limit, 100);
        assert!(page(Some(1000), Some("good")).unwrap().after.is_some());
        for (limit, after, field) in [
            (Some(0), None, "limit"),
            (Some(1001), None, "limit"),
            (None, Some("bad"), "after"),
        ] {
            assert_eq!(page(limit, after).unwrap_err().field.as_deref(), Some(field));
        }
    }
}
