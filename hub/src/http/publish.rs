//! The publish API: `POST /api/v1/publish`, `/publish/batch`, and S0's broadcast.

use std::{fmt, marker::PhantomData};

use axum::{extract::State, response::Response};
use bytes::Bytes;
use common::{
    bus::Publication,
    http::{Caller, JsonText, Problem, parse_body},
    ids::MessageId,
    message::{FrameKind, Header, Priority},
    policy::SlowPolicy,
    target::{Audience, Except, MAX_MEMBERS, Route, Target},
    token::Identity,
};
use http::StatusCode;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::{
    answer::{AnswerBody, BatchAnswerBody, Results, json_response},
    key::{self, HeaderKey, NoHeaderKey},
    publisher::Publisher,
    round::{Prepared, Round, publish_one},
};
use crate::Hub;

/// Publishes of one batch at the most.
const MAX_BATCH: usize = 1000;

/// One publish.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishBody<'a> {
    /// For whom: `{"user":"u1"}`, `{"role":"r"}`, `{"topic":"name"}`, `{"tenant":true}`, or an expression.
    #[schema(value_type = Object)]
    to: Audience,
    /// Any JSON; forwarded byte for byte.
    #[serde(borrow)]
    #[schema(value_type = serde_json::Value)]
    data: &'a RawValue,
    /// The frame's type; default `message`. Names that the protocol uses are refused.
    #[serde(default, rename = "type")]
    #[schema(rename = "type")]
    kind: Option<String>,
    /// `low`, `medium`, `high`, `critical`; critical is never dropped.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    priority: Priority,
    /// Not delivered after so many milliseconds.
    #[serde(default)]
    ttl_ms: Option<u32>,
    /// Replaces queued messages with the same key, where the topic's policy is `latest`.
    #[serde(default)]
    conflate: Option<String>,
    /// What happens where it waits for a slow reader, instead of what its topic says: `evict`, `drop_oldest`, `latest`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    slow: Option<SlowPolicy>,
    /// False: at most once, no offset, no replay.
    #[serde(default = "yes")]
    history: bool,
    /// Who is left out; joined with what stands in `to`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    except: Option<Object<Except>>,
    /// A repeat with the same key sends only what is missing, and gives the first result.
    #[serde(default)]
    idempotency_key: Option<String>,
}

/// A JSON object. Derived structs also read arrays, field by field, which no caller means.
#[derive(Debug)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

fn yes() -> bool {
    true
}

/// Publishes that share nothing but the request.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchBody<'a> {
    /// At most 1,000.
    #[serde(borrow)]
    #[schema(value_type = Vec<PublishBody<'_>>)]
    messages: Vec<Object<PublishBody<'a>>>,
}

/// Publishes to whoever is connected now. Needs the scope `publish`.
#[utoipa::path(post, path = "/api/v1/publish", tag = "publish", security(("bearer" = [])), request_body = PublishBody<'_>,
    params(("Idempotency-Key" = Option<String>, Header, description = "As `idempotency_key` of the body")),
    responses((status = 200, body = AnswerBody), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn publish(
    State(hub): State<Hub>,
    caller: Caller,
    HeaderKey(key): HeaderKey,
    JsonText(text): JsonText,
) -> Result<Response, Problem> {
    let mut answer = Vec::with_capacity(256);
    let publisher = &hub.inner.publisher;
    let prepared = read(publisher, &caller, &text, key.as_deref())?;
    publish_one(publisher, prepared).await?.write(&mut answer);
    Ok(json_response(answer))
}

/// Reads the publish of a request's body, whose idempotency key may stand in a header.
pub(super) fn read(
    publisher: &Publisher,
    caller: &Caller,
    text: &[u8],
    header_key: Option<&str>,
) -> Result<Prepared, Problem> {
    let mut spare = Vec::new();
    let mut body: PublishBody<'_> = parse_body(text, &mut spare)?;
    caller.require("publish")?;
    body.idempotency_key = key::joined(header_key, body.idempotency_key)?;
    prepare(publisher, caller, body)
}

/// Publishes up to 1,000 messages; each stands for itself.
#[utoipa::path(post, path = "/api/v1/publish/batch", tag = "publish", security(("bearer" = [])), request_body = BatchBody<'_>,
    responses((status = 200, body = BatchAnswerBody), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn publish_batch(
    State(hub): State<Hub>,
    caller: Caller,
    _: NoHeaderKey,
    JsonText(text): JsonText,
) -> Result<Response, Problem> {
    let mut spare = Vec::new();
    let body: BatchBody<'_> = parse_body(&text, &mut spare)?;
    caller.require("publish")?;
    if body.messages.len() > MAX_BATCH {
        return Err(Problem::invalid(
            "too_many",
            "messages",
            "a batch has at most 1000 messages",
        ));
    }
    let mut results = Results::new(body.messages.len());
    let mut messages = body.messages.into_iter().peekable();
    let mut round = Round::new(&hub);
    while let Some(message) = messages.next() {
        round.add(prepare(&hub.inner.publisher, &caller, message.0));
        if round.is_full() || messages.peek().is_none() {
            hub.inner.pressure.relief().await;
            for result in round.publish(&hub.inner.publisher).await {
                results.add(&result);
            }
        }
    }
    Ok(json_response(results.finish()))
}

/// Looks whether a publish can be carried out, and lays out what goes to the bus.
fn prepare(publisher: &Publisher, caller: &Identity, body: PublishBody<'_>) -> Result<Prepared, Problem> {
    let kind = body.kind.as_deref().unwrap_or("message");
    check_type(kind)?;
    if body.to.target.reaches_everyone() && !caller.has_scope("platform:admin") {
        return Err(Problem::scope_missing("platform:admin").field("to"));
    }
    let id = match &body.idempotency_key {
        Some(key) if !key::fits(key) => {
            return Err(Problem::invalid(
                "invalid_value",
                "idempotency_key",
                "a key has 1 to 256 bytes",
            ));
        }
        Some(key) => MessageId::derived(&caller.tenant, caller.user.as_str(), key),
        None => MessageId::generate(),
    };
    if body
        .conflate
        .as_ref()
        .is_some_and(|key| !(1..=256).contains(&key.len()))
    {
        return Err(Problem::invalid(
            "invalid_value",
            "conflate",
            "a key has 1 to 256 bytes; leave it out for none",
        ));
    }
    if body.slow == Some(SlowPolicy::Latest) && body.conflate.is_none() {
        return Err(Problem::invalid(
            "invalid_value",
            "slow",
            "`latest` needs a `conflate` key: it says which message the newer one replaces",
        ));
    }
    let payload = payload(kind, id, body.data);
    let limit = publisher.max_publish;
    if payload.len() > limit {
        let detail = format!("the frame of a publish, its data with type and id, has at most {limit} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail).field("data"));
    }
    let mut header = Header::new(id, FrameKind::Message);
    header.priority = body.priority;
    header.expires_at = body.ttl_ms.map(|ttl| header.at.saturating_add(i64::from(ttl)));
    header.conflate = body.conflate;
    header.slow = body.slow;
    header.except = joined(body.to.except, body.except.map(|except| except.0))?;
    header.any = body.to.target.any_members(&caller.tenant);
    let several = matches!(body.to.target, Target::Users(_) | Target::AnyOf(_));
    let mut publications = SmallVec::new();
    let mut routes = body.to.target.routes(&caller.tenant).into_iter().peekable();
    while let Some(route) = routes.next() {
        let idempotency_key = body.idempotency_key.as_ref().map(|_| route_key(id, &route));
        let mut own = if routes.peek().is_some() {
            header.clone()
        } else {
            // The last one, most often the only one, needs no copy.
            std::mem::replace(&mut header, Header::new(id, FrameKind::Message))
        };
        own.require = route.require;
        publications.push(Publication {
            key: route.key,
            header: own,
            payload: payload.clone(),
            history: body.history,
            idempotency_key,
        });
    }
    Ok(Prepared {
        id,
        several,
        publications,
    })
}

/// What a repeat of the publish on this route is known by. The id is derived from the caller's key, and distinct for
/// tenants and credentials; two members of `any_of` may go by one topic and differ in the rest.
fn route_key(id: MessageId, route: &Route) -> String {
    let mut key = id.to_string();
    for required in &route.require {
        key.push(' ');
        key.push_str(required.as_str());
    }
    key
}

/// Frame types that mean something to clients; a publish must not look like one.
fn check_type(kind: &str) -> Result<(), Problem> {
    const RESERVED: &[&str] = &[
        "welcome",
        "notification",
        "unread",
        "changed",
        "subscribed",
        "unsubscribed",
        "recovered",
        "gap",
        "resync",
        "expiring",
        "error",
        "pong",
        "close",
        "ping",
        "join",
        "leave",
    ];
    let fits = (1..=64).contains(&kind.len())
        && kind
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !fits {
        return Err(Problem::invalid(
            "invalid_value",
            "type",
            "a type has 1 to 64 characters of A-Z a-z 0-9 . _ -",
        ));
    }
    if RESERVED.contains(&kind) {
        return Err(Problem::invalid(
            "reserved_type",
            "type",
            format!("`{kind}` is a type of the protocol"),
        ));
    }
    Ok(())
}

/// The frame without topic and position. The data is copied byte for byte.
fn payload(kind: &str, id: MessageId, data: &RawValue) -> Bytes {
    let data = data.get();
    let parts = [r#"{"type":""#, kind, r#"","id":""#];
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len()).sum::<usize>() + data.len() + 46);
    parts
        .iter()
        .for_each(|part| out.extend_from_slice(part.as_bytes()));
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    out.extend_from_slice(id.0.hyphenated().encode_lower(&mut text).as_bytes());
    out.extend_from_slice(br#"","data":"#);
    out.extend_from_slice(data.as_bytes());
    out.push(b'}');
    out.into()
}

fn joined(mut first: Except, second: Option<Except>) -> Result<Except, Problem> {
    let Some(second) = second else { return Ok(first) };
    first.users.extend(second.users);
    first.users.extend(second.user);
    if first.session.is_some() && second.session.is_some() && first.session != second.session {
        return Err(Problem::invalid(
            "invalid_value",
            "except.session",
            "one session can be left out",
        ));
    }
    first.session = first.session.or(second.session);
    if first.users.len() > MAX_MEMBERS {
        let detail = format!("at most {MAX_MEMBERS} users can be left out in all");
        return Err(Problem::invalid("invalid_value", "except.users", detail));
    }
    Ok(first)
}

/// S0's broadcast: to the caller's tenant, or to one of its topics.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BroadcastBody<'a> {
    /// What is said; any JSON. One of `message`, `data` and `content`.
    #[serde(borrow, alias = "data", alias = "content")]
    #[schema(value_type = serde_json::Value)]
    message: &'a RawValue,
    /// A topic; without it the whole tenant.
    #[serde(default, alias = "topic")]
    #[schema(value_type = Option<String>)]
    channel: Option<common::ids::Name>,
    /// The frame's type; default `message`.
    #[serde(default, rename = "type")]
    #[schema(rename = "type")]
    kind: Option<String>,
}

/// Tells everyone of the caller's tenant who is connected. Needs the scope `publish`.
#[utoipa::path(post, path = "/api/v1/websocket/broadcast", tag = "publish", security(("bearer" = [])),
    request_body = BroadcastBody<'_>,
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key gives the first result")),
    responses((status = 200, body = AnswerBody), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn broadcast(
    State(hub): State<Hub>,
    caller: Caller,
    HeaderKey(idempotency_key): HeaderKey,
    JsonText(text): JsonText,
) -> Result<Response, Problem> {
    let mut spare = Vec::new();
    let body: BroadcastBody<'_> = parse_body(&text, &mut spare)?;
    caller.require("publish")?;
    let target = body.channel.map_or(Target::Tenant, Target::Topic);
    let publish = PublishBody {
        to: target.into(),
        data: body.message,
        kind: body.kind,
        priority: Priority::default(),
        ttl_ms: None,
        conflate: None,
        slow: None,
        history: true,
        except: None,
        idempotency_key,
    };
    let mut answer = Vec::with_capacity(256);
    let publisher = &hub.inner.publisher;
    let prepared = prepare(publisher, &caller, publish)?;
    publish_one(publisher, prepared).await?.write(&mut answer);
    Ok(json_response(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_forwarded_byte_for_byte() {
        let data: Box<RawValue> = serde_json::from_str("{ \"a\" : 1.50, \"b\":\"\\u00e4\" }").unwrap();
        let id = MessageId::generate();
        let payload = payload("message", id, &data);
        let text = std::str::from_utf8(&payload).unwrap();
        assert!(text.ends_with("\"data\":{ \"a\" : 1.50, \"b\":\"\\u00e4\" }}"));
    }

    #[test]
    fn types_of_the_protocol_are_reserved() {
        assert!(check_type("price.update").is_ok());
        for bad in ["", "notification", "welcome", "a\"b", "ä", &"x".repeat(65)] {
            assert!(check_type(bad).is_err(), "{bad}");
        }
    }
}
