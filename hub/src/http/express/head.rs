//! The head of a request, as far as it is served here. What it does not know, or could read otherwise than the ordinary
//! server does, is left to that server.

use common::http::bearer;

use super::super::key::fits;

/// Header lines of a publish at the most.
const MAX_HEADERS: usize = 32;

/// The one path.
pub(super) const PATH: &str = "/api/v1/publish";

/// What stands at the beginning of a connection's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head<'a> {
    /// Not a whole head yet.
    Partial,
    /// A request for the ordinary server.
    Other,
    /// A publish.
    Publish(Publish<'a>),
}

/// A publish's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publish<'a> {
    /// Bytes of the head; the body stands behind.
    pub(super) head: usize,
    /// Bytes of the body.
    pub(super) body: usize,
    /// The token or API key.
    pub(super) shown: Option<&'a str>,
    /// What proxies say of the client's address.
    pub(super) forwarded: Option<&'a str>,
    /// The content type, without parameters.
    pub(super) content_type: Option<&'a str>,
    /// The `Idempotency-Key` header.
    pub(super) key: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// Reads a head. Bodies over `limit` bytes are for the ordinary server, which refuses them.
    pub(super) fn read(bytes: &'a [u8], limit: usize) -> Self {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let head = match request.parse(bytes) {
            Ok(httparse::Status::Complete(head)) => head,
            Ok(httparse::Status::Partial) => return Self::Partial,
            // The ordinary server knows how to refuse it.
            Err(_) => return Self::Other,
        };
        if (request.method, request.path, request.version) != (Some("POST"), Some(PATH), Some(1)) {
            return Self::Other;
        }
        Self::publish(head, request.headers, limit).map_or(Self::Other, Self::Publish)
    }

    /// None where something is repeated, or asks for more than a plain exchange.
    fn publish(head: usize, headers: &[httparse::Header<'a>], limit: usize) -> Option<Publish<'a>> {
        let (mut length, mut authorization, mut content_type, mut key) = (None, None, None, None);
        let (mut api_key, mut forwarded) = (None, None);
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            match header.name.len() {
                14 if is("content-length") => once(&mut length, number(header.value)?)?,
                13 if is("authorization") => once(&mut authorization, text(header.value)?)?,
                9 if is("x-api-key") => once(&mut api_key, text(header.value)?)?,
                // The last one is the proxy's own.
                15 if is("x-forwarded-for") => forwarded = text(header.value),
                12 if is("content-type") => once(&mut content_type, text(header.value)?)?,
                15 if is("idempotency-key") => once(&mut key, text(header.value).filter(|key| fits(key))?)?,
                10 if is("connection") && !header.value.eq_ignore_ascii_case(b"keep-alive") => return None,
                17 if is("transfer-encoding") => return None,
                16 if is("content-encoding") => return None,
                7 if is("upgrade") => return None,
                6 if is("expect") || is("origin") => return None,
                _ => {}
            }
        }
        Some(Publish {
            head,
            body: length.filter(|length| *length <= limit)?,
            shown: authorization.and_then(bearer).or_else(|| api_key.map(str::trim)),
            forwarded,
            content_type: content_type.map(|kind| kind.split(';').next().unwrap_or_default().trim()),
            key,
        })
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

/// Visible ASCII and spaces, as the ordinary server reads header values.
fn text(value: &[u8]) -> Option<&str> {
    let visible = value.iter().all(|byte| (b' '..0x7f).contains(byte));
    visible.then(|| std::str::from_utf8(value).ok()).flatten()
}

/// Digits only: no sign, no list (RFC 9110 section 8.6).
fn number(value: &[u8]) -> Option<usize> {
    if value.is_empty() || value.len() > 15 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text(value)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(line: &str, headers: &[&str]) -> Vec<u8> {
        let mut text = format!("{line}\r\n");
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text.into()
    }

    const LINE: &str = "POST /api/v1/publish HTTP/1.1";
    const PLAIN: &[&str] = &[
        "Host: h",
        "authorization: bearer  a.b.c ",
        "Content-Type: application/json; charset=utf-8",
        "CONTENT-LENGTH: 2",
        "Connection: Keep-Alive",
        "Idempotency-Key: k 1",
    ];

    #[test]
    fn a_plain_publish_is_read() {
        let bytes = request(LINE, PLAIN);
        let expected = Publish {
            head: bytes.len(),
            body: 2,
            shown: Some("a.b.c"),
            forwarded: None,
            content_type: Some("application/json"),
            key: Some("k 1"),
        };
        assert_eq!(Head::read(&bytes, 2), Head::Publish(expected));
        for end in 0..bytes.len() {
            assert_eq!(Head::read(&bytes[..end], 2), Head::Partial, "{end}");
        }
    }

    #[test]
    fn a_key_has_a_header_of_its_own() {
        let shown = |headers: &[&str]| match Head::read(&request(LINE, headers), 2) {
            Head::Publish(publish) => publish.shown.map(str::to_owned),
            other => panic!("{other:?}"),
        };
        let length = "Content-Length: 2";
        assert_eq!(shown(&[length, "X-API-Key: ck_a_b "]).as_deref(), Some("ck_a_b"));
        let both = [length, "x-api-key: ck_a_b", "Authorization: Bearer t"];
        assert_eq!(shown(&both).as_deref(), Some("t"));
        assert_eq!(shown(&[length]), None);
    }

    #[test]
    fn what_is_not_plain_is_for_the_ordinary_server() {
        for line in [
            "GET /api/v1/publish HTTP/1.1",
            "POST /api/v1/publish HTTP/1.0",
            "POST /api/v1/publish/ HTTP/1.1",
            "POST /api/v1/publish?x=1 HTTP/1.1",
            "POST /api/v1/publish/batch HTTP/1.1",
            "POST http://h/api/v1/publish HTTP/1.1",
            "nonsense",
            "PRI * HTTP/2.0",
        ] {
            assert_eq!(Head::read(&request(line, PLAIN), 2), Head::Other, "{line}");
        }
        for odd in [
            "Content-Length: 2",
            "Content-Length: 3",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Expect: 100-continue",
            "Connection: close",
            "Connection: keep-alive, upgrade",
            "Upgrade: websocket",
            "Content-Encoding: gzip",
            "Origin: https://example.com",
            "Authorization: Bearer x",
            "X-API-Key: a\r\nX-API-Key: b",
            "Content-Type: text/plain",
            "Idempotency-Key: k 1",
            "bad header",
        ] {
            let headers: Vec<_> = PLAIN.iter().copied().chain([odd]).collect();
            assert_eq!(Head::read(&request(LINE, &headers), 2), Head::Other, "{odd}");
        }
        for key in ["", "\u{e4}", &"x".repeat(257)] {
            let key = format!("Idempotency-Key: {key}");
            assert_eq!(
                Head::read(&request(LINE, &[PLAIN[3], &key]), 2),
                Head::Other,
                "{key}"
            );
        }
        for length in ["+2", "-2", "2,2", "0x2", "", "2 2", "3", "9999999999999999999"] {
            let length = format!("Content-Length: {length}");
            assert_eq!(Head::read(&request(LINE, &[&length]), 2), Head::Other, "{length}");
        }
        assert_eq!(Head::read(&request(LINE, &["Host: h"]), 2), Head::Other);
        let many = vec!["a: b"; MAX_HEADERS + 1];
        assert_eq!(Head::read(&request(LINE, &many), 2), Head::Other);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), keep in 0usize..200) {
            Head::read(&bytes, 100);
            let mut mixed = request(LINE, PLAIN);
            mixed.truncate(keep);
            mixed.extend(bytes);
            if let Head::Publish(publish) = Head::read(&mixed, 100) {
                prop_assert!(publish.head <= mixed.len() && publish.body <= 100);
            }
        }
    }
}
