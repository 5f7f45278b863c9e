//! What a handshake's head says, whoever read it.

use std::net::{IpAddr, Ipv4Addr};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use common::{
    http::{API_KEY_HEADER, bearer},
    protocol::{BEARER_PREFIX, SUBPROTOCOL},
};
use http::{HeaderMap, Uri, header};
use sha1::{Digest, Sha1};

use crate::ws::accepts_deflate;

/// RFC 6455 section 1.3.
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a handshake says, borrowed from where it was read.
#[derive(Debug, Default)]
pub(super) struct Head<'a> {
    pub(super) query: Option<&'a str>,
    host: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    api_key: Option<&'a [u8]>,
    forwarded: Option<&'a [u8]>,
    upgrade: bool,
    connection: bool,
    version: bool,
    key: Option<&'a [u8]>,
    keys: usize,
    pub(super) offered: Offered<'a>,
    /// It offers permessage-deflate in a form that can be kept.
    pub(super) deflate: bool,
    /// It announces a body.
    body: bool,
}

impl<'a> Head<'a> {
    /// Gathers what counts of a request's query and fields.
    pub(super) fn new(query: Option<&'a str>, fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut head = Self {
            query,
            ..Self::default()
        };
        for (name, value) in fields {
            head.field(name, value);
        }
        head
    }

    pub(super) fn of(uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        let fields = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        Self::new(uri.query(), fields)
    }

    fn field(&mut self, name: &str, value: &'a [u8]) {
        let is = |other: header::HeaderName| name.eq_ignore_ascii_case(other.as_str());
        let has = |token| list(value).any(|item| item.eq_ignore_ascii_case(token));
        if is(header::UPGRADE) {
            self.upgrade |= has("websocket");
        } else if is(header::CONNECTION) {
            self.connection |= has("upgrade");
        } else if is(header::SEC_WEBSOCKET_VERSION) {
            self.version = value == b"13";
        } else if is(header::SEC_WEBSOCKET_KEY) {
            self.key = Some(value);
            self.keys += 1;
        } else if is(header::SEC_WEBSOCKET_PROTOCOL) {
            self.offered.add(value);
        } else if is(header::SEC_WEBSOCKET_EXTENSIONS) {
            self.deflate |= text(value).is_some_and(accepts_deflate);
        } else if is(header::HOST) {
            self.host.get_or_insert(value);
        } else if is(header::ORIGIN) {
            self.origin.get_or_insert(value);
        } else if is(header::AUTHORIZATION) {
            self.authorization.get_or_insert(value);
        } else if is(API_KEY_HEADER) {
            self.api_key.get_or_insert(value);
        } else if name.eq_ignore_ascii_case("x-forwarded-for") {
            // The last one is the proxy's own.
            self.forwarded = Some(value);
        } else if is(header::CONTENT_LENGTH) || is(header::TRANSFER_ENCODING) || is(header::EXPECT) {
            self.body = true;
        }
    }

    /// RFC 6455 section 4.2.1.
    pub(super) fn is_upgrade(&self) -> bool {
        let key = self.key.and_then(|key| BASE64.decode(key).ok());
        self.upgrade
            && self.connection
            && self.version
            && self.keys == 1
            && key.is_some_and(|key| key.len() == 16)
    }

    /// Whether something other than frames may follow.
    pub(super) fn has_body(&self) -> bool {
        self.body
    }

    /// The proof that the handshake was understood (RFC 6455 section 4.2.2).
    pub(super) fn accept(&self) -> String {
        let digest = Sha1::new()
            .chain_update(self.key.unwrap_or_default())
            .chain_update(ACCEPT_SUFFIX)
            .finalize();
        BASE64.encode(digest)
    }

    /// Browsers send an origin; other clients need none. The server's own page is always allowed.
    pub(super) fn origin_allowed(&self, allowed: &[String]) -> bool {
        let Some(origin) = self.origin else {
            return true;
        };
        let Some(origin) = text(origin) else { return false };
        let own = origin
            .split_once("://")
            .map(|(_, rest)| rest)
            .zip(self.host.and_then(text))
            // A page of this machine that opens a socket to this machine by another of its names or ports is a
            // developer's. No browser sends a token by itself, so nothing is opened that the page could not open anyway.
            .is_some_and(|(origin, host)| origin == host || (is_loopback(origin) && is_loopback(host)));
        own || allowed
            .iter()
            .any(|pattern| common::topic::matches_pattern(pattern, origin))
    }

    /// The token or API key in a header.
    pub(super) fn shown(&self) -> Option<&'a str> {
        self.authorization
            .and_then(text)
            .and_then(bearer)
            .or_else(|| self.api_key.and_then(text).map(str::trim))
    }

    /// The client's address: the peer's, or what a trusted proxy says.
    pub(super) fn client_address(&self, peer: IpAddr, trusted: &[String]) -> IpAddr {
        common::http::client_address(peer, self.forwarded.and_then(text), trusted)
    }
}

/// A field's value, if it is visible ASCII as all that is looked at here has to be.
fn text(value: &[u8]) -> Option<&str> {
    let is_text = value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    std::str::from_utf8(value).ok().filter(|_| is_text)
}

/// The items of a list (RFC 9110 section 5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &str> {
    text(value)
        .into_iter()
        .flat_map(|text| text.split(','))
        .map(str::trim)
}

/// Whether a host, with or without a port, is this machine by name or address.
fn is_loopback(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix("[::1]") {
        return rest.is_empty() || rest.starts_with(':');
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name == "localhost"
        || name
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

/// What the client offers as sub-protocols.
#[derive(Debug, Default)]
pub(super) struct Offered<'a> {
    pub(super) carillon: bool,
    pub(super) bearer: Option<&'a str>,
    pub(super) token: Option<&'a str>,
}

impl<'a> Offered<'a> {
    fn add(&mut self, value: &'a [u8]) {
        for name in list(value) {
            self.carillon |= name == SUBPROTOCOL;
            if let Some(token) = name.strip_prefix(BEARER_PREFIX) {
                self.bearer = Some(name);
                self.token = Some(token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head<'a>(fields: &'a [(&'a str, &'a str)]) -> Head<'a> {
        Head::new(None, fields.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn origins_are_checked() {
        let allowed = ["https://*.example.com".to_owned()];
        for (origin, host, is_allowed) in [
            (None, "a", true),
            (Some("http://localhost:8000"), "localhost:8000", true),
            (Some("http://localhost:9000"), "localhost:8000", true),
            (Some("http://127.0.0.1:9000"), "localhost:8000", true),
            (Some("http://[::1]:9000"), "127.0.0.1:8000", true),
            (Some("http://localhost:9000"), "carillon.example", false),
            (Some("http://localhost.evil.net"), "localhost:8000", false),
            (Some("http://127.0.0.1.evil.net"), "localhost:8000", false),
            (Some("http://evil.net"), "localhost:8000", false),
            (Some("https://a.example.com"), "b", true),
            (Some("https://example.com.evil.net"), "b", false),
            (Some("null"), "b", false),
        ] {
            let mut pairs = vec![("host", host)];
            pairs.extend(origin.map(|origin| ("origin", origin)));
            assert_eq!(head(&pairs).origin_allowed(&allowed), is_allowed, "{origin:?}");
        }
    }

    #[test]
    fn sub_protocols_carry_dialect_and_token() {
        for fields in [
            &[("sec-websocket-protocol", "carillon.v1, bearer.abc")][..],
            &[
                ("Sec-WebSocket-Protocol", "bearer.abc"),
                ("sec-websocket-protocol", "carillon.v1"),
            ],
        ] {
            let head = head(fields);
            assert!(head.offered.carillon);
            assert_eq!(head.offered.token, Some("abc"));
        }
        assert!(head(&[]).offered.token.is_none());
    }

    #[test]
    fn only_a_whole_handshake_is_one() {
        let whole = [
            ("upgrade", "h2c, WebSocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        assert!(head(&whole).is_upgrade());
        assert_eq!(head(&whole).accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for missing in 0..4 {
            let mut part = whole.to_vec();
            part.remove(missing);
            assert!(!head(&part).is_upgrade());
        }
        let twice = [whole.as_slice(), &whole[2..3]].concat();
        assert!(!head(&twice).is_upgrade(), "two keys");
        let other = [whole.as_slice(), &[("sec-websocket-version", "8")]].concat();
        assert!(!head(&other).is_upgrade(), "another version");
        assert!(!head(&whole).has_body());
        let with_body = [whole.as_slice(), &[("Content-Length", "3")]].concat();
        assert!(head(&with_body).has_body());
    }

    #[test]
    fn a_trusted_proxys_own_entry_counts() {
        let peer = IpAddr::from([127, 0, 0, 1]);
        let trusted = ["127.0.0.1".to_owned()];
        let fields = [
            ("X-Forwarded-For", "8.8.8.8"),
            ("x-forwarded-for", "9.9.9.9, 10.0.0.1"),
        ];
        assert_eq!(
            head(&fields).client_address(peer, &trusted),
            IpAddr::from([10, 0, 0, 1])
        );
        assert_eq!(head(&fields).client_address(peer, &[]), peer);
        let none = [("x-forwarded-for", "unknown")];
        assert_eq!(head(&none).client_address(peer, &trusted), peer);
    }
}
