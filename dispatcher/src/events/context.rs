//! What expressions see of an event.

use serde_json::{Map, Value, json};

use crate::model::Event;

/// The event's own members by their names; those of an object `data` in it beside them, where nothing else has the name;
/// all it brings as `data`; and what is known of it as `event`.
pub(crate) fn variables(event: &Event) -> Map<String, Value> {
    let mut variables = match &event.data {
        Value::Object(members) => members.clone(),
        _ => Map::new(),
    };
    if let Some(Value::Object(inner)) = variables.get("data").cloned() {
        for (name, value) in inner {
            variables.entry(name).or_insert(value);
        }
    } else {
        variables.insert("data".to_owned(), event.data.clone());
    }
    variables.insert(
        "event".to_owned(),
        json!({
            "type": event.kind,
            "id": event.id,
            "source": event.source,
            "subject": event.subject,
            "time": event.time,
        }),
    );
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: Value) -> Event {
        Event {
            kind: "task.completed".to_owned(),
            id: Some("7".to_owned()),
            source: None,
            tenant: None,
            subject: None,
            time: None,
            data,
        }
    }

    #[test]
    fn members_are_seen_wherever_a_body_has_them() {
        let seen = variables(&event(
            json!({"event_type": "task.completed", "user_id": "u1", "data": {"user_id": "u2", "task": "t"}}),
        ));
        assert_eq!(seen["user_id"], "u1");
        assert_eq!(seen["task"], "t");
        assert_eq!(seen["data"]["user_id"], "u2");
        assert_eq!(seen["event"]["id"], "7");
        let seen = variables(&event(json!([1, 2])));
        assert_eq!(seen["data"], json!([1, 2]));
        assert_eq!(seen["event"]["type"], "task.completed");
        assert_eq!(variables(&event(json!({"a": 1})))["data"]["a"], 1);
    }
}
