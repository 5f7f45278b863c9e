//! Words and short texts of bodies and queries: kinds, priorities, channels.

use common::http::Problem;
use serde_json::Value;

use crate::model::{Channel, Kind, Lane};

/// Longest title, in characters.
const MAX_TITLE: usize = 1024;

/// Longest short text (category, keys, source), in bytes.
const MAX_SHORT: usize = 256;

pub(crate) fn parse_kind(field: &'static str, name: &str) -> Result<Kind, Problem> {
    Kind::parse(name).ok_or_else(|| {
        Problem::invalid(
            "unknown_kind",
            field,
            "one of info, success, warning, error, alert",
        )
    })
}

pub(crate) fn priority(value: Value) -> Result<(Value, Lane), Problem> {
    let lane = match &value {
        Value::String(word) => Lane::of_priority(word),
        Value::Number(number) => number
            .as_u64()
            .and_then(|number| Lane::of_priority(&number.to_string())),
        _ => None,
    };
    let lane = lane.ok_or_else(|| {
        Problem::invalid(
            "unknown_priority",
            "priority",
            "one of critical, urgent, high, medium, normal, low, or 1 to 5",
        )
    })?;
    Ok((value, lane))
}

pub(crate) fn parse_channels(
    field: &'static str,
    names: Vec<String>,
) -> Result<Vec<(String, Channel)>, Problem> {
    let mut channels: Vec<(String, Channel)> = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let channel = name.parse::<Channel>().map_err(|error| {
            let field = if field == "channels" {
                format!("channels[{index}]")
            } else {
                field.to_owned()
            };
            let known: Vec<&str> = Channel::ALL.iter().map(|channel| channel.as_str()).collect();
            Problem::invalid(
                "unknown_channel",
                field,
                format!("{error}; known are {}", known.join(", ")),
            )
        })?;
        if !channels.iter().any(|(_, known)| *known == channel) {
            channels.push((name, channel));
        }
    }
    if channels.is_empty() {
        Err(Problem::invalid("invalid_value", field, "names no channel"))
    } else {
        Ok(channels)
    }
}

/// A headline: bounded.
pub(crate) fn check_title(field: &'static str, title: &str) -> Result<(), Problem> {
    if title.chars().count() > MAX_TITLE {
        return Err(Problem::invalid(
            "too_long",
            field,
            format!("a title has at most {MAX_TITLE} characters"),
        ));
    }
    Ok(())
}

/// A short text: not empty, bounded.
pub(crate) fn short(field: &'static str, text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.is_empty() => Err(Problem::invalid(
            "invalid_value",
            field,
            format!("cannot be empty: leave it out, or write 1 to {MAX_SHORT} bytes"),
        )),
        Some(text) if text.len() > MAX_SHORT => Err(Problem::invalid(
            "too_long",
            field,
            format!("has 1 to {MAX_SHORT} bytes"),
        )),
        text => Ok(text),
    }
}
