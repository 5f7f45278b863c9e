//! Request bodies: read within a limit, parsed with the field's name in the error.

use axum::{
    body::{Bytes, HttpBody},
    extract::{FromRequest, Request},
};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Problem,
    comments::without_comments,
    storable::{refuse_nul, refuse_nul_in_query},
};

/// Largest body where a route sets no [`BodyLimit`], in bytes.
const DEFAULT_LIMIT: usize = 256 * 1024;

/// Time in which a body has to arrive. It bounds what a client that stalls can hold.
pub const BODY_TIME: std::time::Duration = std::time::Duration::from_secs(30);

/// A request extension that sets the largest body of the routes it is put on, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

/// A request extension that bounds how deep arrays and objects nest in bodies of the routes it is put on.
#[derive(Debug, Clone, Copy)]
pub struct BodyDepth(pub usize);

/// A body that says it is JSON, within the route's limit, not yet parsed: see [`parse_body`].
#[derive(Debug, Clone)]
pub struct JsonText(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonText {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let limit = request
            .extensions()
            .get::<BodyLimit>()
            .map_or(DEFAULT_LIMIT, |limit| limit.0);
        let too_large = || body_too_large(limit);
        let depth = request.extensions().get::<BodyDepth>().map(|depth| depth.0);
        // A length that is announced is believed before anything of it is read.
        if request.body().size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        let arriving = Limited::new(request.into_body(), limit).collect();
        let Ok(body) = tokio::time::timeout(BODY_TIME, arriving).await else {
            return Err(body_timeout());
        };
        match body {
            Ok(body) => {
                let body = body.to_bytes();
                if let Some(most) = depth {
                    check_depth(&body, most)?;
                }
                Ok(Self(body))
            }
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(_) => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "body_incomplete",
                "the body did not arrive whole",
            )),
        }
    }
}

/// 413: a body that is longer than it may be.
#[must_use]
pub fn body_too_large(limit: usize) -> Problem {
    let detail = format!("the body may have at most {limit} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// Refuses JSON that nests deeper than `most`.
///
/// # Errors
/// [`Problem`], 422.
pub fn check_depth(json: &[u8], most: usize) -> Result<(), Problem> {
    if depth_of(json) > most {
        return Err(too_deep(most));
    }
    Ok(())
}

/// How deep arrays and objects nest, without looking whether the text is JSON otherwise.
fn depth_of(json: &[u8]) -> usize {
    let (mut depth, mut most, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                most = most.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// 422: the body nests deeper than is read.
fn too_deep(most: usize) -> Problem {
    let detail = format!("arrays and objects may nest {most} deep");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too_deep", detail)
}

/// 408: the body did not arrive within [`BODY_TIME`].
#[must_use]
pub fn body_timeout() -> Problem {
    let detail = "the body took too long to arrive";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
}

/// A JSON object as body, and its bytes. No text in it holds U+0000.
#[derive(Debug, Clone)]
pub struct JsonBody<T>(pub T, pub Bytes);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let JsonText(body) = JsonText::from_request(request, state).await?;
        refuse_nul(&body)?;
        let parsed = parse_body(&body, &mut Vec::new())?;
        Ok(Self(parsed, body))
    }
}

/// Parses a request's body, which is an object. `spare` keeps the text where line comments had to be taken out of it.
///
/// # Errors
/// [`Problem`]: as [`parse_json`].
pub fn parse_body<'de, T: Deserialize<'de>>(body: &'de [u8], spare: &'de mut Vec<u8>) -> Result<T, Problem> {
    // Derived structs also read arrays, field by field; a request is an object.
    if body.trim_ascii_start().first() == Some(&b'[') {
        whole(body)?;
        let detail = "the body has to be a JSON object";
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_value",
            detail,
        ));
    }
    let problem = match parse_json(body) {
        Err(problem) if problem.status == StatusCode::BAD_REQUEST => problem,
        parsed => return parsed,
    };
    // The seeds' documents write their examples with line comments; what they write has to work.
    let Some(stripped) = without_comments(body) else {
        return Err(problem);
    };
    *spare = stripped;
    // Where it is no JSON without them either, it is told of what was sent.
    parse_json(spare).map_err(|stripped| {
        if stripped.status == StatusCode::BAD_REQUEST {
            problem
        } else {
            stripped
        }
    })
}

/// Refuses what is no JSON to its end, whatever else is wrong with its beginning.
fn whole(json: &[u8]) -> Result<(), Problem> {
    serde_json::from_slice::<serde::de::IgnoredAny>(json)
        .map(|_| ())
        .map_err(|error| problem(".", &error))
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if is_json(kind) {
        return Ok(());
    }
    Err(not_json())
}

/// Whether a content type, without its parameters, is JSON's.
#[must_use]
pub fn is_json(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("application/json")
        || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// 415: the body is not said to be JSON.
#[must_use]
pub fn not_json() -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not_json",
        "send the body as JSON with `Content-Type: application/json`",
    )
}

/// Parses JSON; an error is 400 where it is not JSON, and 422 with the field where it is not what is wanted.
///
/// # Errors
/// [`Problem`].
pub fn parse_json<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, Problem> {
    // Following the path to the field costs more than parsing does, so only what is wrong is read that way.
    if let Ok(value) = serde_json::from_slice(json) {
        return Ok(value);
    }
    whole(json)?;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        problem(&path, error.inner())
    })?;
    deserializer.end().map_err(|error| problem(".", &error))?;
    Ok(value)
}

fn problem(path: &str, error: &serde_json::Error) -> Problem {
    use serde_json::error::Category;
    let text = error.to_string();
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => Problem::new(
            StatusCode::BAD_REQUEST,
            "not_json",
            format!("the body is not JSON: {text}"),
        ),
        Category::Data => {
            let detail = in_words(text.split(" at line ").next().unwrap_or_default());
            let unknown = quoted(&detail, "unknown field `");
            let missing = quoted(&detail, "missing field `");
            let field = match (unknown.or(missing), path) {
                (Some(field), ".") => field.to_owned(),
                (Some(field), path) if path == field || path.ends_with(&format!(".{field}")) => {
                    path.to_owned()
                }
                (Some(field), path) => format!("{path}.{field}"),
                (None, ".") => {
                    return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", detail);
                }
                (None, path) => path.to_owned(),
            };
            let code = match (unknown, missing) {
                (Some(_), _) => "unknown_field",
                (_, Some(_)) => "missing_field",
                _ => "invalid_value",
            };
            Problem::invalid(code, field, detail)
        }
    }
}

/// What is wrong without the names that types have in Rust.
fn in_words(detail: &str) -> String {
    let Some((found, expected)) = detail.rsplit_once(", expected ") else {
        return detail.to_owned();
    };
    let number = |most: u64| format!("a whole number from 0 to {most}");
    let expected = match expected {
        "u8" => number(u8::MAX.into()),
        "u16" => number(u16::MAX.into()),
        "u32" => number(u32::MAX.into()),
        "u64" | "usize" => number(u64::MAX),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        other if other.starts_with("struct ") => "a JSON object".to_owned(),
        other => other.to_owned(),
    };
    format!("{found}, expected {expected}")
}

fn quoted<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix)?.split('`').next()
}

/// Parses a query string; an error is 422 with what is wrong. No text in it holds U+0000.
///
/// # Errors
/// [`Problem`].
pub fn parse_query<T: DeserializeOwned>(uri: &http::Uri) -> Result<T, Problem> {
    refuse_nul_in_query(uri.query().unwrap_or_default())?;
    axum::extract::Query::<T>::try_from_uri(uri)
        .map(|query| query.0)
        .map_err(|rejection| {
            let detail = rejection.body_text();
            let detail = detail
                .strip_prefix("Failed to deserialize query string: ")
                .unwrap_or(&detail);
            let detail = query_in_words(detail);
            let field = quoted(&detail, "unknown field `")
                .or_else(|| quoted(&detail, "missing field `"))
                .or_else(|| {
                    detail
                        .split_once(": ")
                        .map(|(field, _)| field)
                        .filter(|field| !field.contains(' '))
                })
                .map(str::to_owned);
            let mut problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", detail);
            problem.field = field;
            problem
        })
}

/// What is wrong in a query, where the parser of numbers only says it of their digits.
fn query_in_words(detail: &str) -> String {
    let Some((field, why)) = detail.split_once(": ") else {
        return detail.to_owned();
    };
    let why = match why {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "a whole number is expected, in digits"
        }
        "number too large to fit in target type" => "the number is too large",
        other => other,
    };
    format!("{field}: {why}")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code, reason = "only parsed")]
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code, reason = "only parsed")]
        number: u8,
    }

    #[test]
    fn depth_is_counted_outside_of_texts() {
        for (json, depth) in [
            ("", 0),
            ("1", 0),
            ("{}", 1),
            (r#"{"a":[{"b":1},[]]}"#, 3),
            (r#"{"a":"[[[\"[{"}"#, 1),
            (r#"{"a":"\\"}[[]]"#, 2),
            ("}}[[", 2),
        ] {
            assert_eq!(depth_of(json.as_bytes()), depth, "{json}");
        }
    }

    #[test]
    fn errors_do_not_speak_rust() {
        for (json, detail) in [
            ("null", "invalid type: null, expected a JSON object"),
            ("5", "invalid type: integer `5`, expected a JSON object"),
            (r#""x""#, r#"invalid type: string "x", expected a JSON object"#),
            (
                r#"{"inner":5}"#,
                "invalid type: integer `5`, expected a JSON object",
            ),
            (
                r#"{"inner":{"number":300}}"#,
                "invalid value: integer `300`, expected a whole number from 0 to 255",
            ),
            // What the caller wrote stays.
            (
                r#"{"inner":{"number":", expected u8"}}"#,
                r#"invalid type: string ", expected u8", expected a whole number from 0 to 255"#,
            ),
            (
                r#"{"inner":{"number":1,"x":2}}"#,
                "unknown field `x`, expected `number`",
            ),
        ] {
            let problem = parse_json::<Outer>(json.as_bytes()).unwrap_err();
            assert_eq!(
                (problem.status.as_u16(), problem.detail.as_str()),
                (422, detail),
                "{json}"
            );
        }
        for (query, detail) in [
            ("number=a", "number: a whole number is expected, in digits"),
            ("number=", "number: a whole number is expected, in digits"),
            ("number=300", "number: the number is too large"),
        ] {
            let uri: http::Uri = format!("/x?{query}").parse().unwrap();
            let problem = parse_query::<Inner>(&uri).unwrap_err();
            assert_eq!(
                (problem.detail.as_str(), problem.field.as_deref()),
                (detail, Some("number")),
                "{query}"
            );
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (json, status, code, field) in [
            ("{", 400, "not_json", None),
            ("", 400, "not_json", None),
            ("{\"inner\":{\"number\":1}} x", 400, "not_json", None),
            ("{\"x\":1", 400, "not_json", None),
            ("[1,", 400, "not_json", None),
            ("[]", 422, "invalid_value", None),
            ("{}", 422, "missing_field", Some("inner")),
            ("{\"inner\":{}}", 422, "missing_field", Some("inner.number")),
            (
                "{\"inner\":{\"number\":\"x\"}}",
                422,
                "invalid_value",
                Some("inner.number"),
            ),
            (
                "{\"inner\":{\"number\":1,\"x\":2}}",
                422,
                "unknown_field",
                Some("inner.x"),
            ),
            ("{\"x\":1}", 422, "unknown_field", Some("x")),
        ] {
            let problem = parse_json::<Outer>(json.as_bytes()).unwrap_err();
            assert_eq!(
                (problem.status.as_u16(), problem.code),
                (status, code),
                "{json}: {problem:?}"
            );
            assert_eq!(problem.field.as_deref(), field, "{json}: {problem:?}");
        }
    }
}
