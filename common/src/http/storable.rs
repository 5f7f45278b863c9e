//! Texts that cannot be stored: PostgreSQL's have no U+0000, so no request's may.

use http::StatusCode;
use memchr::memmem;
use serde_json::Value;

use super::{Problem, comments::without_comments};

/// What is wrong with a text that holds it.
const DETAIL: &str = "holds the character U+0000, which cannot be stored; leave it out";

/// Refuses a JSON text with U+0000 in a string or a key. What is no JSON passes, as who parses it says so better.
///
/// # Errors
/// [`Problem`], 422 with the field.
pub fn refuse_nul(json: &[u8]) -> Result<(), Problem> {
    // The character itself is no JSON, so it can only be written in this way. Nearly nobody does.
    const WRITTEN: &[u8] = b"\\u0000";
    if memmem::find(json, WRITTEN).is_none() {
        return Ok(());
    }
    let parse = |json: &[u8]| serde_json::from_slice::<Value>(json).ok();
    let found = parse(json)
        .or_else(|| without_comments(json).and_then(|json| parse(&json)))
        .and_then(|value| place(&value));
    match found {
        None => Ok(()),
        Some(place) if place.is_empty() => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_value",
            DETAIL,
        )),
        Some(place) => Err(Problem::invalid("invalid_value", place, DETAIL)),
    }
}

/// Where the first one is, as fields are named: `data.list[2]`. A key that holds one is named with what stands for it.
fn place(value: &Value) -> Option<String> {
    let within = |outer: &str, inner: &str| match inner {
        "" => outer.to_owned(),
        _ if inner.starts_with('[') => format!("{outer}{inner}"),
        _ => format!("{outer}.{inner}"),
    };
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| Some(within(&format!("[{index}]"), &place(item)?))),
        Value::Object(fields) => fields.iter().find_map(|(key, value)| {
            if key.contains('\0') {
                return Some(key.replace('\0', "\\u0000"));
            }
            Some(within(key, &place(value)?))
        }),
        _ => None,
    }
}

/// Refuses a query with U+0000, which is written `%00`, in a name or a value.
///
/// # Errors
/// [`Problem`], 422 with the field.
pub(super) fn refuse_nul_in_query(query: &str) -> Result<(), Problem> {
    // No `%00` stands for anything else, as what precedes it can be no escape that ends within it.
    let Some(pair) = query.split('&').find(|pair| pair.contains("%00")) else {
        return Ok(());
    };
    let name = pair.split('=').next().unwrap_or_default();
    Err(Problem::invalid("invalid_query", name, DETAIL))
}

/// Refuses a part of a path with U+0000.
///
/// # Errors
/// [`Problem`], 422 with `field`.
pub fn refuse_nul_in(field: &'static str, text: &str) -> Result<(), Problem> {
    if text.contains('\0') {
        return Err(Problem::invalid("invalid_value", field, DETAIL));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_character_is_found_wherever_it_is_and_nothing_else_is() {
        for (json, field) in [
            (r#""a\u0000""#, None),
            (r#"{"a":1,"title":"\u0000"}"#, Some("title")),
            (
                r#"{"data":{"list":["a",{"b":"x\u0000"}]}}"#,
                Some("data.list[1].b"),
            ),
            (r#"["a","\u0000"]"#, Some("[1]")),
            (r#"[["\u0000"]]"#, Some("[0][0]")),
            (r#"{"a\u0000":1}"#, Some("a\\u0000")),
            (r#"{"b":{"a\u0000":1}}"#, Some("b.a\\u0000")),
            // An escaped backslash before it makes it one.
            (r#"{"a":"\\\u0000"}"#, Some("a")),
            ("{\"a\":\"\\u0000\" // why\n}", Some("a")),
        ] {
            let problem = refuse_nul(json.as_bytes()).unwrap_err();
            assert_eq!(
                (problem.status.as_u16(), problem.code, problem.field.as_deref()),
                (422, "invalid_value", field),
                "{json}"
            );
        }
        for json in [
            r#"{"a":"\\u0000"}"#,
            r#"{"a":"\u00000"#,
            r#"{"a":"u0000 \u0001"}"#,
            "{\"a\":1 // \\u0000\n}",
        ] {
            assert_eq!(refuse_nul(json.as_bytes()), Ok(()), "{json}");
        }
    }

    #[test]
    fn a_query_is_read_as_its_parser_reads_it() {
        for query in ["a=%00", "a=1&b=x%00y", "%00=1", "a=%%00", "a=%2%00", "a&b%00"] {
            let decoded = url::form_urlencoded::parse(query.as_bytes())
                .any(|(name, value)| name.contains('\0') || value.contains('\0'));
            assert!(decoded, "{query}");
            assert!(refuse_nul_in_query(query).is_err(), "{query}");
        }
        for query in ["", "a=%2500", "a=00&b=%01", "a=%0&b=0"] {
            assert_eq!(refuse_nul_in_query(query), Ok(()), "{query}");
        }
        let problem = refuse_nul_in_query("limit=1&user=a%00").unwrap_err();
        assert_eq!(
            (problem.status.as_u16(), problem.code, problem.field.as_deref()),
            (422, "invalid_query", Some("user"))
        );
    }
}
