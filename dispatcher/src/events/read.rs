//! From bytes to an event: CloudEvents 1.0 in JSON, structured and binary, and the seeds' bodies (`event_type` …).
//!
//! CloudEvents: core specification, JSON event format, Kafka protocol binding (headers `ce_…`, UTF-8 as they are) and, for what
//! a bridge from HTTP left as it was, HTTP protocol binding (headers `ce-…`, quoted and percent-encoded).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::http::refuse_nul;
use serde_json::{Map, Value};

use crate::model::Event;

/// Bytes of a type, of a subject, and of other attributes.
const MAX_KIND: usize = 256;
const MAX_ATTRIBUTE: usize = 1024;

/// Why an event cannot be read; no second try changes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Unreadable {
    /// Stable, for programs.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) detail: String,
}

fn unreadable(code: &'static str, detail: impl Into<String>) -> Unreadable {
    Unreadable {
        code,
        detail: detail.into(),
    }
}

/// Reads a message with its headers, whose names may repeat; the last one counts.
///
/// # Errors
/// [`Unreadable`].
#[cfg_attr(
    not(any(test, feature = "kafka")),
    expect(dead_code, reason = "only topics have messages")
)]
pub(crate) fn message<'a>(
    payload: &[u8],
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Event, Unreadable> {
    let mut attributes = BTreeMap::new();
    let mut content_type = None;
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        if name == "content-type" {
            let text = std::str::from_utf8(value)
                .map_err(|_| unreadable("invalid_header", "`content-type` is not UTF-8"))?;
            content_type = Some(text.to_owned());
        } else if let Some(attribute) = name.strip_prefix("ce_") {
            let text = std::str::from_utf8(value)
                .map_err(|_| unreadable("invalid_header", format!("`{name}` is not UTF-8")))?;
            attributes.insert(attribute.to_owned(), text.to_owned());
        } else if let Some(attribute) = name.strip_prefix("ce-") {
            attributes.insert(attribute.to_owned(), header_value(&name, value)?);
        }
    }
    let kind = content_type
        .as_deref()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if kind.starts_with("application/cloudevents-batch") {
        return Err(unreadable(
            "unsupported_content_type",
            "a batch of events is no message; send each event as one",
        ));
    }
    if kind.starts_with("application/cloudevents") {
        let format = kind.split(';').next().unwrap_or_default().trim();
        if format != "application/cloudevents+json" && format != "application/cloudevents" {
            return Err(unreadable(
                "unsupported_content_type",
                format!("`{format}` is not read; `application/cloudevents+json` is"),
            ));
        }
        return structured(object(json(payload)?)?);
    }
    if attributes.contains_key("specversion") {
        return binary(payload, content_type, attributes);
    }
    value(json(payload)?)
}

/// Reads an event that is a JSON value: structured, or a seed's body.
///
/// # Errors
/// [`Unreadable`].
pub(crate) fn value(value: Value) -> Result<Event, Unreadable> {
    let members = object(value)?;
    if members.contains_key("specversion") {
        structured(members)
    } else {
        seed(members)
    }
}

fn json(payload: &[u8]) -> Result<Value, Unreadable> {
    if payload.is_empty() {
        return Err(unreadable("empty", "the message has no value"));
    }
    let value =
        serde_json::from_slice(payload).map_err(|error| unreadable("invalid_json", error.to_string()))?;
    refuse_nul(payload).map_err(|problem| unreadable("invalid_value", problem.detail))?;
    Ok(value)
}

fn object(value: Value) -> Result<Map<String, Value>, Unreadable> {
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(unreadable("invalid_event", "an event is a JSON object")),
    }
}

/// S3's body: `event_type`, and whatever else it brings.
fn seed(members: Map<String, Value>) -> Result<Event, Unreadable> {
    let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
    let kind = text("event_type").ok_or_else(|| {
        unreadable(
            "missing_event_type",
            "neither `event_type`, a text, nor a CloudEvent's `specversion` and `type`",
        )
    })?;
    check("event_type", &kind, MAX_KIND)?;
    let id = match members.get("event_id") {
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => text("event_id"),
    };
    let (source, tenant, time) = (text("source"), text("tenant_id"), text("timestamp"));
    for (name, value) in [("event_id", &id), ("source", &source)] {
        if let Some(value) = value {
            check(name, value, MAX_ATTRIBUTE)?;
        }
    }
    Ok(Event {
        kind,
        id,
        source,
        tenant,
        subject: None,
        time,
        data: Value::Object(members),
    })
}

/// The JSON event format.
fn structured(mut members: Map<String, Value>) -> Result<Event, Unreadable> {
    let data = members.remove("data").filter(|data| !data.is_null());
    let encoded = members.remove("data_base64").filter(|data| !data.is_null());
    let mut attributes = BTreeMap::new();
    for (name, value) in members {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Bool(truth) => truth.to_string(),
            Value::Number(number) if number.is_i64() => number.to_string(),
            _ => {
                return Err(unreadable(
                    "invalid_attribute",
                    format!("`{name}` is no text, boolean or integer"),
                ));
            }
        };
        attributes.insert(name, text);
    }
    let data = match (data, encoded) {
        (Some(_), Some(_)) => {
            return Err(unreadable(
                "invalid_event",
                "`data` and `data_base64` exclude each other",
            ));
        }
        (Some(data), None) => {
            // What is declared as JSON is the value itself; a text in it stays a text.
            if !is_json(attributes.get("datacontenttype")) && !data.is_string() {
                return Err(unreadable(
                    "invalid_event",
                    "`data` of a type that is not JSON is a text",
                ));
            }
            data
        }
        (None, Some(Value::String(encoded))) => {
            let bytes = STANDARD
                .decode(encoded)
                .map_err(|error| unreadable("invalid_event", format!("`data_base64`: {error}")))?;
            payload_of(&bytes, attributes.get("datacontenttype"))?
        }
        (None, Some(_)) => return Err(unreadable("invalid_event", "`data_base64` is a text")),
        (None, None) => Value::Null,
    };
    with_attributes(attributes, data)
}

/// Binary mode: attributes in headers, the payload as it is.
fn binary(
    payload: &[u8],
    content_type: Option<String>,
    mut attributes: BTreeMap<String, String>,
) -> Result<Event, Unreadable> {
    if attributes.contains_key("datacontenttype") {
        return Err(unreadable(
            "invalid_header",
            "the payload's type stands in `content-type`, not in an attribute of its own",
        ));
    }
    attributes.extend(content_type.map(|kind| ("datacontenttype".to_owned(), kind)));
    let data = if payload.is_empty() {
        Value::Null
    } else {
        payload_of(payload, attributes.get("datacontenttype"))?
    };
    with_attributes(attributes, data)
}

/// Bytes as the value that they declare to be: JSON, text, and what is neither as base64.
fn payload_of(bytes: &[u8], content_type: Option<&String>) -> Result<Value, Unreadable> {
    if is_json(content_type) {
        return json(bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(Value::String(text.to_owned())),
        _ => Ok(Value::String(STANDARD.encode(bytes))),
    }
}

/// Whether a type is JSON: without one it is taken for `application/json`.
fn is_json(content_type: Option<&String>) -> bool {
    let Some(content_type) = content_type else {
        return true;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = essence.rsplit_once('/').map_or("", |(_, subtype)| subtype);
    subtype.eq_ignore_ascii_case("json") || subtype.to_ascii_lowercase().ends_with("+json")
}

fn with_attributes(mut attributes: BTreeMap<String, String>, data: Value) -> Result<Event, Unreadable> {
    for (name, value) in &attributes {
        if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        {
            return Err(unreadable(
                "invalid_attribute",
                format!("`{name}`: names of attributes have a to z and 0 to 9"),
            ));
        }
        check(name, value, MAX_ATTRIBUTE)?;
    }
    let mut needed = |name: &str| {
        attributes
            .remove(name)
            .ok_or_else(|| unreadable("missing_attribute", format!("a CloudEvent needs `{name}`")))
    };
    let version = needed("specversion")?;
    if version != "1.0" {
        return Err(unreadable(
            "unsupported_version",
            format!("CloudEvents {version} is not read; 1.0 is"),
        ));
    }
    let (id, source, kind) = (needed("id")?, needed("source")?, needed("type")?);
    check("type", &kind, MAX_KIND)?;
    if source
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || "<>\"{}|\\^`".contains(c))
    {
        return Err(unreadable("invalid_attribute", "`source` is no URI reference"));
    }
    let time = attributes.remove("time");
    if let Some(text) = &time
        && text.parse::<jiff::Timestamp>().is_err()
    {
        return Err(unreadable("invalid_attribute", "`time` is no time of RFC 3339"));
    }
    let of_data = || data.get("tenant_id").and_then(Value::as_str).map(str::to_owned);
    Ok(Event {
        kind,
        id: Some(id),
        source: Some(source),
        tenant: attributes.remove("tenantid").or_else(of_data),
        subject: attributes.remove("subject"),
        time,
        data,
    })
}

fn check(name: &str, value: &str, most: usize) -> Result<(), Unreadable> {
    if value.is_empty() {
        return Err(unreadable("invalid_attribute", format!("`{name}` is empty")));
    }
    if value.len() > most {
        return Err(unreadable(
            "invalid_attribute",
            format!("`{name}` has more than {most} bytes"),
        ));
    }
    if value.contains('\0') {
        return Err(unreadable("invalid_attribute", format!("`{name}` holds U+0000")));
    }
    Ok(())
}

/// A header's value of the HTTP binding: quotes are taken off first, then one round of percent-decoding.
fn header_value(name: &str, value: &[u8]) -> Result<String, Unreadable> {
    let refuse = |what: &str| unreadable("invalid_header", format!("`{name}` {what}"));
    let text = std::str::from_utf8(value).map_err(|_| refuse("is not UTF-8"))?;
    let unquoted = match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inner) => {
            let mut plain = String::with_capacity(inner.len());
            let mut characters = inner.chars();
            while let Some(character) = characters.next() {
                plain.push(match character {
                    '\\' => characters.next().ok_or_else(|| refuse("ends in a quoted pair"))?,
                    '"' => return Err(refuse("has a quote inside of quotes")),
                    other => other,
                });
            }
            plain
        }
        None => text.to_owned(),
    };
    let mut bytes = Vec::with_capacity(unquoted.len());
    let mut rest = unquoted.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        match rest {
            [high, low, tail @ ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = tail;
                }
                _ => return Err(refuse("has a `%` without two digits behind it")),
            },
            _ => return Err(refuse("has a `%` without two digits behind it")),
        }
    }
    String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8 once it is decoded"))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
