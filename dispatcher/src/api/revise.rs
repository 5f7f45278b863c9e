//! A change of a notification as a whole body: what the change does not name is taken from what is stored. No I/O.

use common::{http::Problem, target::Target};
use serde_json::Value;

use super::{address::IN_METADATA, body::NotificationBody, draft::audience};
use crate::model::{Delivery, Notification, Strategy};

/// The whole body, and what of it is new.
#[derive(Debug)]
pub(super) struct Revision {
    pub(super) body: NotificationBody,
    /// Another time was named.
    pub(super) moved: bool,
    /// No template was named.
    pub(super) keeps_text: bool,
    /// The addresses are those that it had.
    pub(super) keeps_addresses: bool,
}

/// Lays a change over what is stored.
pub(super) fn revise(
    mut body: NotificationBody,
    stored: &Notification,
    deliveries: &[Delivery],
) -> Result<Revision, Problem> {
    if body.idempotency_key.is_some() {
        return Err(Problem::invalid(
            "conflict",
            "idempotency_key",
            "a change has no key: it can be repeated as it is",
        ));
    }
    if body.dry_run == Some(true) {
        return Err(Problem::invalid(
            "not_here",
            "dry_run",
            "a change has no dry run; leave it out, or try the whole body with `POST /api/v1/notifications?dry_run=true`",
        ));
    }
    if stored.strategy != Strategy::All && body.strategy.is_none() {
        return Err(Problem::invalid(
            "missing_field",
            "strategy",
            "a change lays the chain out anew: name the strategy again, with its steps and the addresses that it had",
        ));
    }
    let moved = body.schedule_at.is_some() || body.scheduled_at.is_some() || body.delay.is_some();
    let keeps_text = body.template.is_none() && body.template_name.is_none() && body.template_id.is_none();
    let content = &stored.content;
    if keeps_text {
        if body.title.is_none() && body.subject.is_none() {
            body.title = Some(content.title.clone());
        }
        // HTML belongs to the text that it was written for.
        if body.content.is_none() && body.message.is_none() {
            body.content = Some(content.content.clone());
            body.html = body.html.or_else(|| content.html.clone());
        }
    }
    let keeps_addresses = keep_target(&mut body, stored, deliveries)?;
    let names_channels = body.channels.is_some()
        || body.channel.is_some()
        || body.channel_type.is_some()
        || body.steps.is_some();
    if !names_channels && keeps_text {
        body.channels = Some(stored.channels.clone());
    }
    if body.kind.is_none() && body.kind_alias.is_none() {
        body.kind = Some(content.kind.as_str().to_owned());
    }
    if body.priority.is_none() && !content.priority.is_null() {
        body.priority = Some(content.priority.clone());
    }
    if body.data.is_none() && body.extra_data.is_none() && body.metadata.is_none() {
        body.data = match &content.data {
            Some(Value::Object(data)) => Some(data.clone()),
            _ => None,
        };
    }
    let keep = |new: Option<String>, old: &Option<String>| new.or_else(|| old.clone());
    body.category = keep(body.category, &content.category);
    body.source = keep(body.source, &content.source);
    body.group_key = keep(body.group_key, &content.group_key);
    body.collapse_key = keep(body.collapse_key, &content.collapse_key);
    body.receipt = body.receipt.or(Some(content.receipt));
    if body.expires_at.is_none() {
        body.expires_at = stored.expires_at.map(|at| at.rfc3339());
    }
    if !moved {
        body.schedule_at = Some(stored.visible_at.rfc3339());
    }
    Ok(Revision {
        body,
        moved,
        keeps_text,
        keeps_addresses,
    })
}

/// The stored target where no other is named, and with it the addresses that it had, unless others are named. Those of
/// a single user may come from its contact: they do not go over to another target. Says whether there are such.
fn keep_target(
    body: &mut NotificationBody,
    stored: &Notification,
    deliveries: &[Delivery],
) -> Result<bool, Problem> {
    let same = match audience(body)? {
        None => {
            body.to.clone_from(&stored.audience);
            true
        }
        named => named == stored.audience,
    };
    // Of a chain only the first step has deliveries.
    if names_address(body) || stored.strategy != Strategy::All {
        return Ok(false);
    }
    let single = match stored.audience.as_ref().map(|audience| &audience.target) {
        Some(Target::User(_)) => true,
        Some(Target::Users(users)) => users.len() == 1,
        _ => false,
    };
    let mut addresses: Vec<String> = Vec::new();
    for delivery in deliveries {
        // Those of several users come from their contacts, and are looked up again.
        let stays = delivery.user.is_none() || (same && single);
        if let Some(address) = delivery.address.as_ref().filter(|_| stays)
            && !addresses.contains(address)
        {
            addresses.push(address.clone());
        }
    }
    if addresses.is_empty() {
        return Ok(false);
    }
    body.recipients = Some(addresses);
    Ok(true)
}

fn names_address(body: &NotificationBody) -> bool {
    let of_metadata = body.metadata.as_ref().is_some_and(|metadata| {
        let address = |field: &&str| metadata.get(*field).is_some_and(|value| !value.is_null());
        IN_METADATA.iter().any(address)
    });
    body.recipient.is_some() || body.recipients.is_some() || body.target.is_some() || of_metadata
}
