//! The audit log: searched in pages, and exported whole.

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    audit::AuditEntry,
    http::{Caller, Problem},
};
use futures_util::stream;
use http::header;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{Auditor, QueryOf},
    place,
    problems::store_problem,
    state::ApiState,
    times,
    words::short,
};
use crate::{
    model::{AuditFilter, AuditPlace, Micros},
    store::{Store, StoreError},
};

/// Entries of one answer at the most, and where the caller names no limit.
const MAX_LIMIT: u32 = 500;
const DEFAULT_LIMIT: u32 = 100;

/// Entries that an export reads at once.
const EXPORT_PAGE: u32 = 500;

/// Which entries; everything that is named has to fit.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilterQuery {
    /// What was done: an action such as `template.create`, or its noun, `template`.
    action: Option<String>,
    /// By whom: a credential's id (an API key's, or a token's `sub`), or a user.
    who: Option<String>,
    /// With what kind of thing: `template`, `contact`, `schedule`, `notification`, `delivery`, `channel`, `sessions` …
    object: Option<String>,
    /// With which: its id or name.
    object_id: Option<String>,
    /// At this time or later, RFC 3339.
    from: Option<String>,
    /// Before this time, RFC 3339.
    to: Option<String>,
    /// Of every tenant and of the platform: needs the scope `platform:admin`. Default: of the caller's own tenant.
    all_tenants: bool,
    /// Only for a list: entries of the answer, 1 to 500; default 100.
    limit: Option<u32>,
    /// Only for a list: `next` of an earlier answer.
    after: Option<String>,
}

impl FilterQuery {
    fn read(&self, caller: &Caller) -> Result<AuditFilter, Problem> {
        if self.all_tenants && !caller.has_scope("platform:admin") {
            return Err(Problem::scope_missing("platform:admin").field("all_tenants"));
        }
        let time = |field, text: &Option<String>| text.as_deref().map(|text| times::time(field, text));
        Ok(AuditFilter {
            tenant: (!self.all_tenants).then(|| caller.tenant.clone()),
            action: short("action", self.action.clone())?,
            who: short("who", self.who.clone())?,
            object_kind: short("object", self.object.clone())?,
            object_id: short("object_id", self.object_id.clone())?,
            from: time("from", &self.from).transpose()?,
            to: time("to", &self.to).transpose()?,
        })
    }
}

/// Something that was changed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditView {
    /// The entry's own id.
    #[schema(format = "uuid")]
    id: String,
    /// When.
    at: String,
    /// What was done.
    action: String,
    /// Whose thing it was; none: the platform's.
    tenant_id: Option<String>,
    /// By whom.
    who: WhoView,
    /// With what.
    object: ObjectView,
    /// What it was. What is secret, an address, or said to somebody is `masked:` and a part of its digest.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// What it became, likewise.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
    /// Whence.
    from: WhenceView,
}

/// Who changed something.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WhoView {
    /// `token`, `key`, `command`; `platform` for an administrator of the platform, of whom a tenant is told no more.
    credential: &'static str,
    /// A key's id, or a token's `sub`.
    id: Option<String>,
    /// In whose name.
    user_id: Option<String>,
}

/// What was changed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ObjectView {
    /// What kind of thing.
    kind: String,
    /// Which.
    id: String,
}

/// From where something was changed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WhenceView {
    /// The client's address.
    address: Option<String>,
    /// What the caller named its request (`X-Request-Id`).
    request_id: Option<String>,
}

impl AuditView {
    /// As somebody sees it: `whole` for the platform, else a tenant's auditor.
    fn of(entry: AuditEntry, whole: bool) -> Self {
        let origin = entry.origin;
        let is_own = whole || entry.tenant.as_ref() == Some(&origin.tenant);
        Self {
            id: entry.id.to_string(),
            at: Micros(entry.at_us).rfc3339(),
            action: entry.action.into_owned(),
            tenant_id: entry.tenant.map(|tenant| tenant.to_string()),
            who: WhoView {
                credential: if is_own {
                    origin.credential.as_str()
                } else {
                    "platform"
                },
                id: is_own.then_some(origin.credential_id),
                user_id: is_own.then(|| origin.user.to_string()),
            },
            object: ObjectView {
                kind: entry.object_kind.into_owned(),
                id: entry.object_id,
            },
            before: entry.before,
            after: entry.after,
            from: WhenceView {
                address: origin
                    .address
                    .filter(|_| is_own)
                    .map(|address| address.to_string()),
                request_id: origin.request.filter(|_| is_own),
            },
        }
    }
}

/// Entries of the audit log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditPage {
    /// The newest first.
    entries: Vec<AuditView>,
    /// Where the next page begins; none: this was the last.
    next: Option<String>,
}

/// Search the audit log
///
/// Who changed what, the newest first. Needs the scope `audit:read`.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit", params(FilterQuery),
    responses((status = 200, body = AuditPage), (status = 422, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Auditor(caller): Auditor,
    QueryOf(query): QueryOf<FilterQuery>,
) -> Result<Json<AuditPage>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let detail = format!("from 1 to {MAX_LIMIT}");
        return Err(Problem::invalid("invalid_query", "limit", detail));
    }
    let after = query.after.as_deref().map(place::decode).transpose()?;
    let after = after.map(|(at, id)| AuditPlace { at, id });
    let filter = query.read(&caller)?;
    let (entries, next) = state
        .store()
        .audit(&filter, after, limit)
        .await
        .map_err(store_problem)?;
    let whole = caller.has_scope("platform:admin");
    let views = entries.into_iter().map(|entry| AuditView::of(entry, whole));
    Ok(Json(AuditPage {
        entries: views.collect(),
        next: next.map(|next| place::encode(next.at, next.id)),
    }))
}

/// Export the audit log
///
/// All that fits, the newest first, one JSON object a line as in `GET /api/v1/audit`. It ends with what was written when it
/// began; an answer that breaks off is not whole. Needs the scope `audit:read`.
#[utoipa::path(
    get, path = "/api/v1/audit/export", tag = "audit", params(FilterQuery),
    responses(
        (status = 200, description = "One entry a line", content_type = "application/x-ndjson"),
        (status = 422, body = Problem), (status = 503, body = Problem)
    )
)]
pub(crate) async fn export(
    State(state): State<ApiState>,
    Auditor(caller): Auditor,
    QueryOf(query): QueryOf<FilterQuery>,
) -> Result<Response, Problem> {
    for (field, is_there) in [("limit", query.limit.is_some()), ("after", query.after.is_some())] {
        if is_there {
            let detail = "an export is whole; narrow it by `from` and `to`";
            return Err(Problem::invalid("conflict", field, detail));
        }
    }
    let mut filter = query.read(&caller)?;
    filter.to.get_or_insert_with(Micros::now);
    let export = AuditExport {
        store: state.store().clone(),
        filter,
        whole: caller.has_scope("platform:admin"),
        next: Some(None),
    };
    let lines = stream::unfold(export, async |mut export: AuditExport| {
        let page = export.page().await?;
        Some((page, export))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// What is left of an export: the entries that fit, the newest first, one JSON object a line.
#[derive(Debug)]
pub struct AuditExport {
    store: Store,
    filter: AuditFilter,
    whole: bool,
    /// Where the next page begins, the first at the newest; none: there is no more.
    next: Option<Option<AuditPlace>>,
}

impl AuditExport {
    /// All that fits, as the platform's administrator sees it.
    #[must_use]
    pub fn whole(store: Store, filter: AuditFilter) -> Self {
        Self {
            store,
            filter,
            whole: true,
            next: Some(None),
        }
    }

    /// Some lines; none: there are no more.
    pub async fn page(&mut self) -> Option<Result<Bytes, StoreError>> {
        let after = self.next.take()?;
        let (entries, next) = match self.store.audit(&self.filter, after, EXPORT_PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "an export of the audit log breaks off");
                return Some(Err(error));
            }
        };
        self.next = next.map(Some);
        let mut lines = Vec::new();
        for entry in entries {
            // Texts and JSON always serialise.
            serde_json::to_writer(&mut lines, &AuditView::of(entry, self.whole)).unwrap_or_default();
            lines.push(b'\n');
        }
        Some(Ok(lines.into()))
    }
}
