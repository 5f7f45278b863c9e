//! The contract's values as JSON, and back.

use jiff::Timestamp;
use prost_types::{Struct, value::Kind};
use serde_json::{Map, Number, Value, json};

use crate::v1::{Target, target};

/// Whole numbers up to here are exact in the contract's only kind of number.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A value that JSON cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotJson;

/// Whom something is for, as `to` of the HTTP API. An empty target is an empty object, which that API refuses.
#[must_use]
pub fn target(given: &Target) -> Value {
    let members = |list: &crate::v1::Targets| list.members.iter().map(target).collect::<Value>();
    let mut fields = match &given.kind {
        None => json!({}),
        Some(target::Kind::User(name)) => json!({ "user": name }),
        Some(target::Kind::Users(users)) => json!({ "users": users.names }),
        Some(target::Kind::Role(name)) => json!({ "role": name }),
        Some(target::Kind::Store(name)) => json!({ "store": name }),
        Some(target::Kind::Topic(name)) => json!({ "topic": name }),
        Some(target::Kind::Tenant(all)) => json!({ "tenant": all }),
        Some(target::Kind::Everyone(all)) => json!({ "everyone": all }),
        Some(target::Kind::AllOf(list)) => json!({ "all_of": members(list) }),
        Some(target::Kind::AnyOf(list)) => json!({ "any_of": members(list) }),
    };
    if let Some(except) = &given.except {
        let mut left_out = Map::new();
        if !except.users.is_empty() {
            left_out.insert("users".to_owned(), json!(except.users));
        }
        if let Some(session) = &except.session {
            left_out.insert("session".to_owned(), json!(session));
        }
        fields["except"] = Value::Object(left_out);
    }
    fields
}

/// An object. Whole numbers are written without a fraction, as who counts means it.
///
/// # Errors
/// [`NotJson`] for infinities and what is no number.
pub fn object(given: &Struct) -> Result<Map<String, Value>, NotJson> {
    given
        .fields
        .iter()
        .map(|(name, one)| Ok((name.clone(), value(one)?)))
        .collect()
}

fn value(given: &prost_types::Value) -> Result<Value, NotJson> {
    Ok(match &given.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(truth)) => Value::Bool(*truth),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::NumberValue(number)) => Value::Number(self::number(*number).ok_or(NotJson)?),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(value).collect::<Result<_, _>>()?),
        Some(Kind::StructValue(fields)) => Value::Object(object(fields)?),
    })
}

fn number(given: f64) -> Option<Number> {
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and within the range")]
    if given.fract() == 0.0 && given.abs() <= EXACT {
        return Some(Number::from(given as i64));
    }
    Number::from_f64(given)
}

/// The object as a message.
#[must_use]
pub fn structure(given: &Map<String, Value>) -> Struct {
    let fields = given.iter().map(|(name, one)| (name.clone(), message(one)));
    Struct {
        fields: fields.collect(),
    }
}

fn message(given: &Value) -> prost_types::Value {
    let kind = match given {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        // Every number of JSON has one.
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(list) => Kind::ListValue(prost_types::ListValue {
            values: list.iter().map(message).collect(),
        }),
        Value::Object(fields) => Kind::StructValue(structure(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A time as RFC 3339.
///
/// # Errors
/// [`NotJson`] outside of the years that have a text.
pub fn time(given: &prost_types::Timestamp) -> Result<String, NotJson> {
    let time = Timestamp::new(given.seconds, given.nanos).map_err(|_| NotJson)?;
    Ok(time.to_string())
}

/// A time from RFC 3339; none where it is none.
#[must_use]
pub fn timestamp(given: &str) -> Option<prost_types::Timestamp> {
    let time: Timestamp = given.parse().ok()?;
    Some(prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Except, Targets, Users};

    #[test]
    fn s3_2_values_are_what_the_http_api_calls_them() {
        let fields = json!({"count": 3, "half": 0.5, "list": [1, "a", null, true], "deep": {"a": {"b": -7}}});
        let Value::Object(fields) = fields else {
            unreachable!()
        };
        assert_eq!(object(&structure(&fields)), Ok(fields));
        let infinite = prost_types::Value {
            kind: Some(Kind::NumberValue(f64::INFINITY)),
        };
        let mut odd = Struct::default();
        odd.fields.insert("a".to_owned(), infinite);
        assert_eq!(object(&odd), Err(NotJson));

        let text = "2026-11-21T03:04:05.25Z";
        let stamp = timestamp(text).unwrap();
        assert_eq!(time(&stamp).as_deref(), Ok(text));
        let beyond = prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert_eq!(time(&beyond), Err(NotJson));
        assert!(timestamp("tomorrow").is_none());
    }

    #[test]
    fn s3_2_targets_are_what_the_http_api_calls_them() {
        let of = |kind| Target {
            kind: Some(kind),
            except: None,
        };
        let one = of(target::Kind::User("u1".to_owned()));
        let role = of(target::Kind::Role("r".to_owned()));
        let both = Target {
            kind: Some(target::Kind::AllOf(Targets {
                members: vec![one, role],
            })),
            except: Some(Except {
                users: vec!["u2".to_owned()],
                session: Some("s".to_owned()),
            }),
        };
        assert_eq!(
            target(&both),
            json!({"all_of":[{"user":"u1"},{"role":"r"}],"except":{"users":["u2"],"session":"s"}})
        );
        let several = of(target::Kind::Users(Users {
            names: vec!["a".to_owned()],
        }));
        assert_eq!(target(&several), json!({"users":["a"]}));
        assert_eq!(target(&of(target::Kind::Tenant(true))), json!({"tenant":true}));
        assert_eq!(target(&Target::default()), json!({}));
    }
}
