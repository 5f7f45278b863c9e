//! Commands from client to hub: one JSON object a text frame, and the seeds' bare `ping`.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::MAX_ITEMS;
use crate::{
    ids::{MessageId, Name},
    message::Position,
};

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The bare text `ping` of the seeds: answered with a Pong control frame.
    TextPing,
    /// `{"type":"ping"}`
    Ping,
    /// `subscribe` with `topic`, or the seeds' `channel`.
    Subscribe(Name),
    /// `unsubscribe`
    Unsubscribe(Name),
    /// `resume`: positions by public topic name. A position that cannot be read resyncs its topic.
    Resume(Vec<(String, Option<Position>)>),
    /// `ack`
    Ack(Vec<MessageId>),
    /// `read`
    Read(ReadWhat),
    /// `refresh`
    Refresh(String),
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadWhat {
    /// These.
    Ids(Vec<MessageId>),
    /// Everything.
    All,
}

/// Why a command was not understood. The session lives on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not a JSON object with a `type`.
    #[error("send one JSON object with a `type`")]
    Malformed,
    /// A type that this version does not know.
    #[error("there is no command `{0}`")]
    Unknown(String),
    /// A field is missing or wrong.
    #[error("`{field}`: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why.
        reason: &'static str,
    },
}

impl CommandError {
    /// The stable code of the `error` frame.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown(_) => "unknown_command",
            Self::Field { .. } => "invalid_field",
        }
    }
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    positions: Option<HashMap<String, String>>,
    #[serde(default)]
    ids: Option<Vec<String>>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    token: Option<String>,
}

impl Command {
    /// Reads a text frame.
    ///
    /// # Errors
    /// [`CommandError`] says what was not understood.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        if text == "ping" {
            return Ok(Self::TextPing);
        }
        // Derived structs also read arrays, field by field; a command is an object.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(CommandError::Malformed);
        }
        let raw: Raw<'_> = serde_json::from_str(text).map_err(|_| misread(text))?;
        match &*raw.kind {
            "ping" => Ok(Self::Ping),
            "subscribe" => topic(raw).map(Self::Subscribe),
            "unsubscribe" => topic(raw).map(Self::Unsubscribe),
            "resume" => {
                let positions = raw.positions.ok_or_else(|| missing("positions"))?;
                bounded("positions", positions.len())?;
                Ok(Self::Resume(
                    positions
                        .into_iter()
                        .map(|(topic, at)| (topic, at.parse().ok()))
                        .collect(),
                ))
            }
            "ack" => ids(raw.ids, raw.id).map(Self::Ack),
            "read" if raw.all => Ok(Self::Read(ReadWhat::All)),
            "read" => ids(raw.ids, raw.id).map(|ids| Self::Read(ReadWhat::Ids(ids))),
            "refresh" => raw.token.map(Self::Refresh).ok_or_else(|| missing("token")),
            other => Err(CommandError::Unknown(other.chars().take(40).collect())),
        }
    }
}

/// What is wrong with a text that is no command: a field of another type than it has to have, or the whole.
fn misread(text: &str) -> CommandError {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return CommandError::Malformed;
    };
    if !fields.get("type").is_some_and(Value::is_string) {
        return CommandError::Malformed;
    }
    let is_text = |value: &Value| value.is_string() || value.is_null();
    let wrong = |(name, field): (&String, &Value)| {
        let (field, fits, reason) = match name.as_str() {
            "topic" => ("topic", is_text(field), "has to be a text"),
            "channel" => ("channel", is_text(field), "has to be a text"),
            "id" => ("id", is_text(field), "has to be a text"),
            "token" => ("token", is_text(field), "has to be a text"),
            "all" => ("all", field.is_boolean(), "has to be true or false"),
            "ids" => {
                let of_texts = |ids: &Vec<Value>| ids.iter().all(Value::is_string);
                let fits = field.is_null() || field.as_array().is_some_and(of_texts);
                ("ids", fits, "has to be a list of ids")
            }
            "positions" => {
                let of_texts = |at: &Map<String, Value>| at.values().all(Value::is_string);
                let fits = field.is_null() || field.as_object().is_some_and(of_texts);
                ("positions", fits, "has to be an object of topics and positions")
            }
            _ => return None,
        };
        (!fits).then_some(CommandError::Field { field, reason })
    };
    fields.iter().find_map(wrong).unwrap_or(CommandError::Malformed)
}

fn missing(field: &'static str) -> CommandError {
    CommandError::Field {
        field,
        reason: "is missing",
    }
}

fn bounded(field: &'static str, len: usize) -> Result<(), CommandError> {
    if len <= MAX_ITEMS {
        Ok(())
    } else {
        Err(CommandError::Field {
            field,
            reason: "has more than 1000 entries",
        })
    }
}

fn topic(raw: Raw<'_>) -> Result<Name, CommandError> {
    let name = raw.topic.or(raw.channel).ok_or_else(|| missing("topic"))?;
    Name::new(&name).map_err(|_| CommandError::Field {
        field: "topic",
        reason: "a name has 1 to 256 bytes, and no U+0000 among them",
    })
}

fn ids(many: Option<Vec<String>>, one: Option<String>) -> Result<Vec<MessageId>, CommandError> {
    let texts = match (many, one) {
        (Some(many), None) => many,
        (None, Some(one)) => vec![one],
        (Some(_), Some(_)) => {
            return Err(CommandError::Field {
                field: "ids",
                reason: "give `ids` or `id`, not both",
            });
        }
        (None, None) => return Err(missing("ids")),
    };
    bounded("ids", texts.len())?;
    let parse = |text: &String| {
        text.parse().map_err(|_| CommandError::Field {
            field: "ids",
            reason: "holds what is no id",
        })
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_both_dialects_parse() {
        let id = "0190163d-8694-739b-aea5-966c26f8ad90";
        let name = |text: &str| Name::new(text).unwrap();
        for (text, command) in [
            ("ping".to_owned(), Command::TextPing),
            (r#"{"type":"ping"}"#.to_owned(), Command::Ping),
            (
                r#"{"type":"subscribe","channel":"trading_alerts"}"#.to_owned(),
                Command::Subscribe(name("trading_alerts")),
            ),
            (
                r#"{"type":"unsubscribe","topic":"a"}"#.to_owned(),
                Command::Unsubscribe(name("a")),
            ),
            (
                format!(r#"{{"type":"ack","id":"{id}"}}"#),
                Command::Ack(vec![id.parse().unwrap()]),
            ),
            (
                format!(r#"{{"type":"read","ids":["{id}"]}}"#),
                Command::Read(ReadWhat::Ids(vec![id.parse().unwrap()])),
            ),
            (
                r#"{"type":"read","all":true}"#.to_owned(),
                Command::Read(ReadWhat::All),
            ),
            (
                r#"{"type":"refresh","token":"t"}"#.to_owned(),
                Command::Refresh("t".to_owned()),
            ),
            (
                r#"{"type":"resume","positions":{"user":"x"}}"#.to_owned(),
                Command::Resume(vec![("user".to_owned(), None)]),
            ),
        ] {
            assert_eq!(Command::parse(&text), Ok(command), "{text}");
        }
    }

    #[test]
    fn anything_else_says_what_is_wrong() {
        for (text, code) in [
            ("", "malformed"),
            ("PING", "malformed"),
            ("[]", "malformed"),
            (r#"["ping"]"#, "malformed"),
            (r#" ["subscribe","x"]"#, "malformed"),
            ("{}", "malformed"),
            (r#"{"type":1}"#, "malformed"),
            (r#"{"type":"dance"}"#, "unknown_command"),
            (r#"{"type":"subscribe"}"#, "invalid_field"),
            (r#"{"type":"subscribe","topic":""}"#, "invalid_field"),
            (r#"{"type":"ack","ids":["x"]}"#, "invalid_field"),
            (r#"{"type":"read"}"#, "invalid_field"),
            (r#"{"type":"refresh"}"#, "invalid_field"),
        ] {
            assert_eq!(Command::parse(text).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named() {
        for (text, named) in [
            (r#"{"type":"read","ids":5}"#, "ids"),
            (r#"{"type":"ack","ids":[5]}"#, "ids"),
            (r#"{"type":"ack","ids":{"a":"b"}}"#, "ids"),
            (r#"{"type":"ack","id":5}"#, "id"),
            (r#"{"type":"read","all":"yes"}"#, "all"),
            (r#"{"type":"subscribe","topic":["a"]}"#, "topic"),
            (r#"{"type":"subscribe","channel":1}"#, "channel"),
            (r#"{"type":"resume","positions":["user"]}"#, "positions"),
            (r#"{"type":"resume","positions":{"user":1}}"#, "positions"),
            (r#"{"type":"refresh","token":{}}"#, "token"),
        ] {
            let error = Command::parse(text).unwrap_err();
            assert!(
                matches!(error, CommandError::Field { field, .. } if field == named),
                "{text}: {error:?}"
            );
        }
        // None of them is to blame: the type is, or the text as a whole.
        for text in [
            r#"{"type":1,"ids":5}"#,
            r#"{"type":"read","ids":5"#,
            r#"{"type":"read","all":true,"all":true}"#,
        ] {
            assert_eq!(Command::parse(text), Err(CommandError::Malformed), "{text}");
        }
    }
}
