//! What a receiver gets: body and headers of one attempt.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_TYPE, USER_AGENT},
};
use serde::Serialize;
use serde_json::Value;

use super::sign::Keys;
use crate::{
    config::WebhookFormat,
    model::{Claimed, Kind, Micros},
};

/// Names of events, as Standard Webhooks has them.
const MAX_EVENT: usize = 128;

/// Where nobody named the event.
const EVENT: &str = "notification";

/// Standard Webhooks' payload. The same bytes in every attempt.
#[derive(Serialize)]
struct Standard<'a> {
    #[serde(rename = "type")]
    event: &'a str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    notification_id: String,
    tenant_id: &'a str,
    user_id: Option<&'a str>,
    title: &'a str,
    content: &'a str,
    kind: Kind,
    priority: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
}

/// S3's payload, with its members in its order; `signature` is the last one.
#[derive(Serialize)]
struct VoiceAssistant<'a> {
    event_type: &'a str,
    notification_id: String,
    title: &'a str,
    content: &'a str,
    user_id: Option<&'a str>,
    tenant_id: &'a str,
    timestamp: i64,
    signature: &'a str,
}

/// Body and headers of one attempt, signed.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) body: Bytes,
    pub(super) headers: HeaderMap,
}

/// Makes the payload of an attempt that begins `now`. In S3's format the signature is over the body in which the value
/// of `signature` is empty; the headers of Standard Webhooks are there in both formats and cover the body as it is.
pub(super) fn payload(
    delivery: &Claimed,
    format: WebhookFormat,
    keys: &Keys,
    now: Micros,
) -> Result<Payload, serde_json::Error> {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let named = named_event(delivery);
    let body = match format {
        WebhookFormat::Standard => {
            headers.insert(
                USER_AGENT,
                HeaderValue::from_static(concat!("Carillon/", env!("CARGO_PKG_VERSION"))),
            );
            standard(
                delivery,
                named.filter(|name| is_standard_event(name)).unwrap_or(EVENT),
            )?
        }
        WebhookFormat::Voiceassistant => {
            headers.insert(
                USER_AGENT,
                HeaderValue::from_static("VoiceAssistant-Notification/1.0"),
            );
            let (body, signature) = voice_assistant(delivery, named.unwrap_or(EVENT), keys, now)?;
            insert(&mut headers, "x-signature", &signature);
            body
        }
    };
    let id = delivery.id.to_string();
    let timestamp = now.seconds();
    insert(
        &mut headers,
        "webhook-signature",
        &keys.standard(&id, timestamp, &body),
    );
    insert(&mut headers, "webhook-id", &id);
    insert(&mut headers, "webhook-timestamp", &timestamp.to_string());
    Ok(Payload {
        body: body.into(),
        headers,
    })
}

/// The values are digits, letters and base64, which are values of headers.
fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn standard(delivery: &Claimed, event: &str) -> Result<Vec<u8>, serde_json::Error> {
    let content = &delivery.content;
    serde_json::to_vec(&Standard {
        event,
        timestamp: delivery.visible_at.rfc3339(),
        data: Data {
            notification_id: delivery.notification.to_string(),
            tenant_id: delivery.tenant.as_str(),
            user_id: delivery.user.as_ref().map(|user| user.as_str()),
            title: &content.title,
            content: &content.content,
            kind: content.kind,
            priority: &content.priority,
            category: content.category.as_deref(),
            data: content.data.as_ref(),
        },
    })
}

fn voice_assistant(
    delivery: &Claimed,
    event: &str,
    keys: &Keys,
    now: Micros,
) -> Result<(Vec<u8>, String), serde_json::Error> {
    let mut body = VoiceAssistant {
        event_type: event,
        notification_id: delivery.notification.to_string(),
        title: &delivery.content.title,
        content: &delivery.content.content,
        user_id: delivery.user.as_ref().map(|user| user.as_str()),
        tenant_id: delivery.tenant.as_str(),
        timestamp: now.seconds(),
        signature: "",
    };
    let signature = keys.hex(&serde_json::to_vec(&body)?);
    body.signature = &signature;
    let bytes = serde_json::to_vec(&body)?;
    Ok((bytes, signature))
}

/// The event that the caller named: `event_type` of the data, else the category.
fn named_event(delivery: &Claimed) -> Option<&str> {
    let content = &delivery.content;
    let of_data = content
        .data
        .as_ref()
        .and_then(|data| data.get("event_type")?.as_str());
    of_data
        .or(content.category.as_deref())
        .filter(|name| !name.is_empty() && name.len() <= MAX_EVENT)
}

fn is_standard_event(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
}
