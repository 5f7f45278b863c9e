//! The header `Idempotency-Key`: another place for the `idempotency_key` of a body that is one publish.

use axum::extract::FromRequestParts;
use common::http::Problem;
use http::{HeaderMap, HeaderName, request::Parts};

const NAME: HeaderName = HeaderName::from_static("idempotency-key");

/// As problems name it.
const FIELD: &str = "Idempotency-Key";

/// Whether a key has a length that keys have.
pub(super) fn fits(key: &str) -> bool {
    (1..=256).contains(&key.len())
}

/// What the header says.
#[derive(Debug)]
pub(super) struct HeaderKey(pub(super) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for HeaderKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        read(&parts.headers).map(Self)
    }
}

/// A request of several publishes, for which one key says nothing.
#[derive(Debug)]
pub(super) struct NoHeaderKey;

impl<S: Send + Sync> FromRequestParts<S> for NoHeaderKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        if !parts.headers.contains_key(NAME) {
            return Ok(Self);
        }
        Err(Problem::invalid(
            "invalid_value",
            FIELD,
            "a header cannot be the key of several publishes; put `idempotency_key` into each of them",
        ))
    }
}

pub(super) fn read(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(key), None) if fits(key) => Ok(Some(key.to_owned())),
        _ => Err(Problem::invalid(
            "invalid_value",
            FIELD,
            "the header stands once, and its key has 1 to 256 visible ASCII characters",
        )),
    }
}

/// The key of a publish, which may stand in the header, in the body, or the same in both.
pub(super) fn joined(of_header: Option<&str>, of_body: Option<String>) -> Result<Option<String>, Problem> {
    match (of_header, of_body) {
        (Some(header), Some(body)) if header != body => Err(Problem::invalid(
            "conflict",
            FIELD,
            "the body's `idempotency_key` is another; send one of them, or the same twice",
        )),
        (of_header, of_body) => Ok(of_body.or_else(|| of_header.map(str::to_owned))),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn one_visible_value_is_read() {
        let long = "x".repeat(257);
        for (values, expected) in [
            (vec![], Some(None)),
            (vec!["k"], Some(Some("k"))),
            (vec![&long[1..]], Some(Some(&long[1..]))),
            (vec!["k", "k"], None),
            (vec![""], None),
            (vec![long.as_str()], None),
            (vec!["\u{e4}"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(NAME, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let expected = expected.map(|key| key.map(str::to_owned));
            assert_eq!(read(&headers).ok(), expected, "{values:?}");
        }
    }

    #[test]
    fn header_and_body_must_not_differ() {
        let body = |key: &str| Some(key.to_owned());
        assert_eq!(joined(None, None).unwrap(), None);
        assert_eq!(joined(Some("k"), None).unwrap(), body("k"));
        assert_eq!(joined(None, body("k")).unwrap(), body("k"));
        assert_eq!(joined(Some("k"), body("k")).unwrap(), body("k"));
        assert_eq!(joined(Some("k"), body("l")).unwrap_err().code, "conflict");
    }
}
