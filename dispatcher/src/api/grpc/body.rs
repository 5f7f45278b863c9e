//! A notification of the contract as the body that the REST API reads: one meaning, and one place that judges it.

use common::http::Problem;
use prost_types::{Struct, Timestamp};
use proto::{json, v1};
use serde_json::{Map, Value};

/// The body's fields; what is not set is not there.
pub(super) fn body(request: v1::SendNotificationRequest) -> Result<Map<String, Value>, Problem> {
    let mut fields = Fields(Map::new());
    fields.put("tenant_id", request.tenant_id);
    fields.put("user_id", request.user_id);
    fields.put("channel", request.channel);
    fields.put("priority", request.priority.map(priority));
    fields.put("template_id", request.template_id);
    fields.object("variables", request.variables.as_ref())?;
    fields.put("title", request.title);
    fields.put("content", request.content);
    fields.object("metadata", request.metadata.as_ref())?;
    fields.time("scheduled_at", request.scheduled_at.as_ref())?;
    fields.put("to", request.to.as_ref().map(json::target));
    fields.list("user_ids", request.user_ids);
    fields.put("role", request.role);
    fields.put("store_id", request.store_id);
    fields.list("recipients", request.recipients);
    fields.list("channels", request.channels);
    fields.put("strategy", request.strategy);
    fields.list("steps", request.steps.into_iter().map(step).collect());
    fields.put("attempts_before_next", request.attempts_before_next);
    fields.put("stop_on", request.stop_on);
    fields.put("kind", request.kind);
    fields.put("category", request.category);
    fields.put("html", request.html);
    fields.put("locale", request.locale);
    fields.object("data", request.data.as_ref())?;
    fields.put("delay", request.delay.map(duration));
    fields.time("expires_at", request.expires_at.as_ref())?;
    fields.put("collapse_key", request.collapse_key);
    fields.put("group_key", request.group_key);
    fields.put("idempotency_key", request.idempotency_key);
    fields.put("receipt", request.receipt);
    fields.put("source", request.source);
    Ok(fields.0)
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    fn list(&mut self, name: &str, items: Vec<impl Into<Value>>) {
        self.put(name, (!items.is_empty()).then_some(items));
    }

    fn object(&mut self, name: &str, given: Option<&Struct>) -> Result<(), Problem> {
        let read = given.map(json::object).transpose();
        let detail = "holds a number that is infinite or none";
        self.put(
            name,
            read.map_err(|_| Problem::invalid("invalid_value", name, detail))?,
        );
        Ok(())
    }

    fn time(&mut self, name: &str, given: Option<&Timestamp>) -> Result<(), Problem> {
        let read = given.map(json::time).transpose();
        let detail = "is no time between the years -9999 and 9999";
        self.put(
            name,
            read.map_err(|_| Problem::invalid("invalid_value", name, detail))?,
        );
        Ok(())
    }
}

fn step(given: v1::Step) -> Value {
    let mut fields = Fields(Map::new());
    fields.put("channel", Some(given.channel));
    fields.put("after", given.after.map(duration));
    fields.put("unless", given.unless);
    fields.put("attempts", given.attempts);
    Value::Object(fields.0)
}

/// `1` to `5` are numbers; all else is a name.
fn priority(text: String) -> Value {
    match text.parse::<u8>() {
        Ok(number) => Value::from(number),
        Err(_) => Value::String(text),
    }
}

/// Digits alone are seconds, as a number; all else is a duration's text.
fn duration(text: String) -> Value {
    match text.parse::<u64>() {
        Ok(seconds) => Value::from(seconds),
        Err(_) => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::NotificationBody;

    #[test]
    fn s3_2_a_notification_is_the_body_that_the_rest_api_reads() {
        let text = |text: &str| Some(text.to_owned());
        let data = json!({"a": 1, "b": [true]});
        let object = json::structure(data.as_object().unwrap());
        let request = v1::SendNotificationRequest {
            user_id: text("u1"),
            priority: text("2"),
            title: text("t"),
            variables: Some(object.clone()),
            data: Some(object),
            scheduled_at: json::timestamp("2026-11-21T03:00:00Z"),
            channels: vec!["in_app".to_owned(), "email".to_owned()],
            steps: vec![v1::Step {
                channel: "sms".to_owned(),
                after: text("90"),
                unless: None,
                attempts: Some(2),
            }],
            delay: text("10m"),
            receipt: Some(false),
            ..v1::SendNotificationRequest::default()
        };
        let fields = Value::Object(body(request).unwrap());
        let expected = json!({
            "user_id": "u1", "priority": 2, "title": "t", "variables": data, "data": data,
            "scheduled_at": "2026-11-21T03:00:00Z", "channels": ["in_app", "email"],
            "steps": [{"channel": "sms", "after": 90, "attempts": 2}], "delay": "10m", "receipt": false,
        });
        assert_eq!(fields, expected);
        let read: NotificationBody = serde_json::from_value(fields).unwrap();
        assert_eq!(read.receipt, Some(false));
        assert!(body(v1::SendNotificationRequest::default()).unwrap().is_empty());
    }
}
