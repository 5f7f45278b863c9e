//! Contacts: where users can be reached.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::{Caller, JsonBody, Problem},
    ids::Name,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    address::{fits, no_webhook},
    extract::{ContactWriter, UserOf},
    marks::Done,
    problems::store_problem,
    state::ApiState,
};
use crate::model::{Channel, Contact};

/// Refuses what can be no address, language or zone.
fn check(state: &ApiState, prefix: &str, contact: &Contact) -> Result<(), Problem> {
    let addresses = [
        ("email", Channel::Email, &contact.email),
        ("phone", Channel::Sms, &contact.phone),
        ("wecom", Channel::Wecom, &contact.wecom),
        ("feishu", Channel::Feishu, &contact.feishu),
        ("telegram", Channel::Telegram, &contact.telegram),
        ("slack", Channel::Slack, &contact.slack),
        ("discord", Channel::Discord, &contact.discord),
        ("webhook_url", Channel::Webhook, &contact.webhook_url),
    ];
    for (field, channel, address) in addresses {
        let Some(address) = address else { continue };
        // An id of a provider may look like anything, also like an email address.
        let id = !matches!(channel, Channel::Email | Channel::Sms | Channel::Webhook);
        let short = (1..=2048).contains(&address.len()) && !address.chars().any(char::is_control);
        if !short || !(id || fits(channel, address)) {
            return Err(Problem::invalid(
                "invalid_address",
                format!("{prefix}{field}"),
                format!("this is no address for `{}`", channel.as_str()),
            ));
        }
    }
    if let Some(url) = &contact.webhook_url {
        let judged = state.service.check_webhook(url);
        judged.map_err(|why| no_webhook(format!("{prefix}webhook_url"), why))?;
    }
    if let Some(zone) = &contact.time_zone
        && jiff::tz::TimeZone::get(zone).is_err()
    {
        return Err(Problem::invalid(
            "invalid_value",
            format!("{prefix}time_zone"),
            "name an IANA time zone, for example `Asia/Shanghai`",
        ));
    }
    if contact
        .language
        .as_ref()
        .is_some_and(|language| !is_language(language))
    {
        return Err(Problem::invalid(
            "invalid_value",
            format!("{prefix}language"),
            "name a BCP 47 language, for example `zh-CN`",
        ));
    }
    Ok(())
}

fn is_language(text: &str) -> bool {
    text.len() <= 35
        && text
            .split('-')
            .all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Set a user's contact
///
/// Replaces what was known. Needs the scope `contacts:write`.
#[utoipa::path(
    put, path = "/api/v1/contacts/{user}", tag = "contacts", request_body = Contact,
    params(("user" = String, Path, description = "The user's id")),
    responses((status = 200, body = Contact), (status = 422, body = Problem))
)]
pub(crate) async fn put(
    State(state): State<ApiState>,
    ContactWriter(caller): ContactWriter,
    origin: Origin,
    UserOf(user): UserOf,
    JsonBody(contact, _): JsonBody<Contact>,
) -> Result<Json<Contact>, Problem> {
    check(&state, "", &contact)?;
    state
        .store()
        .put_contact(&caller.tenant, &user, &contact, &origin)
        .await
        .map_err(store_problem)?;
    Ok(Json(contact))
}

/// Get a user's contact
///
/// Needs the scope `contacts:write`, or to be the user.
#[utoipa::path(
    get, path = "/api/v1/contacts/{user}", tag = "contacts",
    params(("user" = String, Path, description = "The user's id")),
    responses((status = 200, body = Contact), (status = 404, body = Problem))
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    UserOf(user): UserOf,
) -> Result<Json<Contact>, Problem> {
    if caller.user != user {
        caller.require("contacts:write")?;
    }
    let contact = state
        .store()
        .contact(&caller.tenant, &user)
        .await
        .map_err(store_problem)?;
    contact
        .map(Json)
        .ok_or_else(|| Problem::not_found("there is no contact of this user"))
}

/// Delete a user's contact
///
/// Needs the scope `contacts:write`.
#[utoipa::path(
    delete, path = "/api/v1/contacts/{user}", tag = "contacts",
    params(("user" = String, Path, description = "The user's id")),
    responses((status = 200, body = Done), (status = 404, body = Problem))
)]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    ContactWriter(caller): ContactWriter,
    origin: Origin,
    UserOf(user): UserOf,
) -> Result<Json<Done>, Problem> {
    if state
        .store()
        .delete_contact(&caller.tenant, &user, &origin)
        .await
        .map_err(store_problem)?
    {
        Ok(Json(Done::one("联系人已删除")))
    } else {
        Err(Problem::not_found("there is no contact of this user"))
    }
}

/// Contacts of several users.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkContacts {
    /// By user, at most `limits.bulk_items` (1000).
    contacts: BTreeMap<String, Contact>,
}

/// How many were set.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct ContactsAnswer {
    success: bool,
    count: usize,
}

/// Set contacts of several users
///
/// All or none. Needs the scope `contacts:write`.
#[utoipa::path(
    put, path = "/api/v1/contacts", tag = "contacts", request_body = BulkContacts,
    responses((status = 200, body = ContactsAnswer), (status = 422, body = Problem))
)]
pub(crate) async fn put_all(
    State(state): State<ApiState>,
    ContactWriter(caller): ContactWriter,
    origin: Origin,
    JsonBody(body, _): JsonBody<BulkContacts>,
) -> Result<Json<ContactsAnswer>, Problem> {
    let most = state.limits.bulk_items;
    if body.contacts.len() > most {
        return Err(Problem::invalid(
            "too_many",
            "contacts",
            format!("at most {most} contacts"),
        ));
    }
    let mut contacts = Vec::with_capacity(body.contacts.len());
    for (user, contact) in body.contacts {
        check(&state, &format!("contacts.{user}."), &contact)?;
        let name = Name::new(&user).map_err(|error| {
            Problem::invalid("invalid_name", format!("contacts.{user}"), error.to_string())
        })?;
        contacts.push((name, contact));
    }
    let count = contacts.len();
    state
        .store()
        .put_contacts(&caller.tenant, contacts, &origin)
        .await
        .map_err(store_problem)?;
    Ok(Json(ContactsAnswer { success: true, count }))
}
