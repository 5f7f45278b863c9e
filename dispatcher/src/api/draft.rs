//! What a body means: aliases resolved, target and addresses told apart, every field checked. No I/O.

use common::{
    http::Problem,
    ids::Name,
    target::{Audience, MAX_MEMBERS, Target},
    token::Identity,
};
use http::StatusCode;
use serde_json::{Map, Value};

use super::{
    address::Addresses,
    arrangement::Arrangement,
    body::NotificationBody,
    times,
    words::{check_title, parse_channels, parse_kind, priority, short},
};
use crate::model::{Channel, Kind, Lane, Micros};

/// A checked body, before template and contacts are looked up.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) audience: Option<Audience>,
    pub(crate) addresses: Addresses,
    pub(crate) title: Option<String>,
    pub(crate) content: Option<String>,
    pub(crate) html: Option<String>,
    pub(crate) kind: Option<Kind>,
    pub(crate) priority: Option<(Value, Lane)>,
    pub(crate) category: Option<String>,
    /// By the names that the caller used, each channel once.
    pub(crate) channels: Option<Vec<(String, Channel)>>,
    pub(crate) arrangement: Arrangement,
    pub(crate) template: Option<TemplateReference>,
    /// The field's name as the caller wrote it, and the values.
    pub(crate) variables: (&'static str, Map<String, Value>),
    pub(crate) data: Option<Value>,
    pub(crate) source: Option<String>,
    pub(crate) group_key: Option<String>,
    pub(crate) collapse_key: Option<String>,
    pub(crate) receipt: bool,
    pub(crate) now: Micros,
    pub(crate) visible_at: Micros,
    pub(crate) expires_at: Option<Micros>,
}

/// A template that the body names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateReference {
    /// The field that names it.
    pub(crate) field: &'static str,
    /// Its name or id.
    pub(crate) name: String,
}

/// Reads a body for a caller.
pub(crate) fn draft(body: NotificationBody, caller: &Identity, now: Micros) -> Result<Draft, Problem> {
    if let Some(tenant) = &body.tenant_id
        && tenant != caller.tenant.as_str()
    {
        return Err(tenant_mismatch());
    }
    let audience = if means_whole_tenant(&body) {
        // Who forgets the target must not tell everyone by it; who writes `{"tenant":true}` means it.
        if !caller.has_scope("notifications:broadcast") {
            return Err(Problem::scope_missing("notifications:broadcast").field("to"));
        }
        Some(Target::Tenant.into())
    } else {
        audience(&body)?
    };
    if let Some(audience) = &audience {
        authorize(audience, caller)?;
    }
    let arrangement = Arrangement::read(&body, audience.as_ref())?;
    let mut addresses = Addresses::default();
    give_addresses(&mut addresses, &body)?;
    let data = data(body.data, body.extra_data, body.metadata, &mut addresses)?;
    arrangement.check_addresses(audience.as_ref(), &addresses)?;

    let schedule = one([
        ("schedule_at", body.schedule_at),
        ("scheduled_at", body.scheduled_at),
    ])?;
    let visible_at = times::visible_at(
        now,
        schedule.as_ref().map(|(field, text)| (*field, text.as_str())),
        body.delay.as_ref(),
    )?;
    let expires_at = body
        .expires_at
        .map(|text| times::time("expires_at", &text))
        .transpose()?;
    if expires_at.is_some_and(|at| at <= visible_at) {
        return Err(Problem::invalid(
            "invalid_time",
            "expires_at",
            "it would expire before it is sent",
        ));
    }

    let title = one([("title", body.title), ("subject", body.subject)])?;
    if let Some((field, title)) = &title {
        check_title(field, title)?;
    }
    let template = one([
        ("template", body.template),
        ("template_name", body.template_name),
        ("template_id", body.template_id),
    ])?;
    let channels = one([
        ("channels", body.channels.or_else(|| arrangement.names())),
        ("channel", body.channel.map(|name| vec![name])),
        ("channel_type", body.channel_type.map(|name| vec![name])),
    ])?;
    let kind = one([("kind", body.kind), ("type", body.kind_alias)])?;
    short("locale", body.locale)?;
    short("idempotency_key", body.idempotency_key)?;
    Ok(Draft {
        audience,
        addresses,
        title: title.map(|(_, title)| title),
        content: one([("content", body.content), ("message", body.message)])?.map(|(_, content)| content),
        html: body.html,
        kind: kind.map(|(field, name)| parse_kind(field, &name)).transpose()?,
        priority: body.priority.map(priority).transpose()?,
        category: short("category", body.category)?,
        channels: channels
            .map(|(field, names)| parse_channels(field, names))
            .transpose()?,
        arrangement,
        template: template.map(|(field, name)| TemplateReference { field, name }),
        variables: one([
            ("variables", body.variables),
            ("template_vars", body.template_vars),
        ])?
        .unwrap_or_else(|| ("variables", Map::new())),
        data,
        source: short("source", body.source)?,
        group_key: short("group_key", body.group_key)?,
        collapse_key: short("collapse_key", body.collapse_key)?,
        receipt: body.receipt.unwrap_or_default(),
        now,
        visible_at,
        expires_at,
    })
}

/// 403: a body that names another tenant.
pub(crate) fn tenant_mismatch() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "tenant_mismatch",
        "the token is of another tenant; leave `tenant_id` out",
    )
    .field("tenant_id")
}

/// The one value among a thing's names; several are fine when they say the same.
pub(crate) fn one<T: PartialEq, const N: usize>(
    fields: [(&'static str, Option<T>); N],
) -> Result<Option<(&'static str, T)>, Problem> {
    let mut found: Option<(&'static str, T)> = None;
    for (field, value) in fields {
        let Some(value) = value else { continue };
        match &found {
            None => found = Some((field, value)),
            Some((_, first)) if *first == value => {}
            Some((first, _)) => return Err(conflict(field, first)),
        }
    }
    Ok(found)
}

fn conflict(field: &str, first: &str) -> Problem {
    Problem::invalid(
        "conflict",
        field,
        format!("`{field}` and `{first}` are two names of one thing and differ"),
    )
}

/// Only S1's broadcast: a `message`, and nothing that says for whom or by what.
fn means_whole_tenant(body: &NotificationBody) -> bool {
    body.message.is_some()
        && body.to.is_none()
        && body.user_id.is_none()
        && body.user_ids.is_none()
        && body.role.is_none()
        && body.store_id.is_none()
        && body.recipient.is_none()
        && body.recipients.is_none()
        && body.target.is_none()
        && body.channel.is_none()
        && body.channel_type.is_none()
        && body.channels.is_none()
}

/// `to`, or the seeds' fields: `user_id` wins over `role` and `store_id`, which together mean both.
pub(super) fn audience(body: &NotificationBody) -> Result<Option<Audience>, Problem> {
    let named = if let Some(user) = &body.user_id {
        Some(("user_id", Target::User(name("user_id", user)?)))
    } else if let Some(users) = &body.user_ids {
        Some(("user_ids", Target::Users(users_of(users)?)))
    } else {
        let role = body
            .role
            .as_ref()
            .map(|role| name("role", role).map(Target::Role))
            .transpose()?;
        let store = body
            .store_id
            .as_ref()
            .map(|store| name("store_id", store).map(Target::Store))
            .transpose()?;
        match (role, store) {
            (Some(role), Some(store)) => Some(("role", Target::AllOf(vec![role, store]))),
            (Some(role), None) => Some(("role", role)),
            (None, Some(store)) => Some(("store_id", store)),
            (None, None) => None,
        }
    };
    if let (Some(_), Some(users)) = (&body.user_id, &body.user_ids)
        && users.iter().any(|user| Some(user) != body.user_id.as_ref())
    {
        return Err(conflict("user_ids", "user_id"));
    }
    if body.user_ids.is_some() && body.user_id.is_none() {
        for (field, present) in [
            ("role", body.role.is_some()),
            ("store_id", body.store_id.is_some()),
        ] {
            if present {
                return Err(Problem::invalid(
                    "conflict",
                    field,
                    "`user_ids` already says for whom; use `to` for expressions",
                ));
            }
        }
    }
    match (&body.to, named) {
        (Some(to), Some((field, target))) if to.target != target => Err(conflict(field, "to")),
        (Some(to), _) => Ok(Some(to.clone())),
        (None, named) => Ok(named.map(|(_, target)| target.into())),
    }
}

fn users_of(users: &[String]) -> Result<Vec<Name>, Problem> {
    match users.len() {
        0 => return Err(Problem::invalid("invalid_value", "user_ids", "names nobody")),
        count if count > MAX_MEMBERS => {
            return Err(Problem::invalid(
                "too_many",
                "user_ids",
                format!("names more than {MAX_MEMBERS} users"),
            ));
        }
        _ => {}
    }
    let mut names: Vec<Name> = Vec::with_capacity(users.len());
    let mut seen = std::collections::HashSet::with_capacity(users.len());
    for (index, user) in users.iter().enumerate() {
        let user = Name::new(user).map_err(|error| {
            Problem::invalid("invalid_name", format!("user_ids[{index}]"), error.to_string())
        })?;
        if seen.insert(user.clone()) {
            names.push(user);
        }
    }
    Ok(names)
}

fn name(field: &'static str, text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|error| Problem::invalid("invalid_name", field, error.to_string()))
}

/// Everyone of all tenants is for platform administrators.
fn authorize(audience: &Audience, caller: &Identity) -> Result<(), Problem> {
    if audience.target.reaches_everyone() && !caller.has_scope("platform:admin") {
        return Err(Problem::scope_missing("platform:admin").field("to"));
    }
    Ok(())
}

fn give_addresses(addresses: &mut Addresses, body: &NotificationBody) -> Result<(), Problem> {
    for (field, address) in [("recipient", &body.recipient), ("target", &body.target)] {
        if let Some(address) = address {
            addresses.give(field, address)?;
        }
    }
    if let Some(recipients) = &body.recipients {
        if recipients.is_empty() || recipients.len() > MAX_MEMBERS {
            return Err(Problem::invalid(
                "invalid_value",
                "recipients",
                format!("names 1 to {MAX_MEMBERS} addresses"),
            ));
        }
        for (index, address) in recipients.iter().enumerate() {
            addresses.give(format!("recipients[{index}]"), address)?;
        }
    }
    Ok(())
}

/// What clients get: `data` or its alias, or what `metadata` holds beside addresses.
fn data(
    data: Option<Map<String, Value>>,
    extra: Option<Map<String, Value>>,
    metadata: Option<Map<String, Value>>,
    addresses: &mut Addresses,
) -> Result<Option<Value>, Problem> {
    let data = one([("data", data), ("extra_data", extra)])?;
    let Some(mut metadata) = metadata else {
        return Ok(data.map(|(_, data)| Value::Object(data)));
    };
    addresses.take_from(&mut metadata)?;
    match data {
        None => Ok(Some(Value::Object(metadata))),
        Some((_, data)) if metadata.is_empty() || metadata == data => Ok(Some(Value::Object(data))),
        Some((field, _)) => Err(conflict("metadata", field)),
    }
}

#[cfg(test)]
#[path = "draft_tests/mod.rs"]
mod tests;
