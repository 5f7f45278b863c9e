//! Who may open a socket: one decision for handshakes that HTTP read and for those that the front read.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use axum::response::{IntoResponse, Response};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use common::{
    http::Problem,
    protocol::{BEARER_PREFIX, Dialect, SUBPROTOCOL},
    token::{Identity, TokenError},
    topic::TopicKey,
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use sha1::{Digest, Sha1};

use crate::{
    Hub,
    limits::{Refusal, Seat},
    receive::Wire,
    ws::accepts_deflate,
};

/// RFC 6455 section 1.3.
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a handshake says, borrowed from where it was read.
#[derive(Debug, Default)]
pub(super) struct Head<'a> {
    query: Option<&'a str>,
    host: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    forwarded: Option<&'a [u8]>,
    upgrade: bool,
    connection: bool,
    version: bool,
    key: Option<&'a [u8]>,
    keys: usize,
    offered: Offered<'a>,
    /// It offers permessage-deflate in a form that can be kept.
    deflate: bool,
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
    fn origin_allowed(&self, allowed: &[String]) -> bool {
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

    fn bearer(&self) -> Option<&'a str> {
        let (scheme, token) = text(self.authorization?)?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }

    /// The client's address: the peer's, or what a trusted proxy says.
    fn client_address(&self, peer: IpAddr, trusted: &[String]) -> IpAddr {
        if !trusted
            .iter()
            .any(|proxy| proxy == "*" || proxy.parse() == Ok(peer))
        {
            return peer;
        }
        // The last entry is what the trusted proxy itself saw.
        self.forwarded
            .and_then(text)
            .and_then(|list| list.rsplit(',').next())
            .and_then(|last| last.trim().parse().ok())
            .unwrap_or(peer)
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
struct Offered<'a> {
    carillon: bool,
    bearer: Option<&'a str>,
    token: Option<&'a str>,
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

#[derive(Debug, Default, serde::Deserialize)]
struct Query {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    tenant_id: Option<String>,
}

impl Query {
    fn new(query: Option<&str>) -> Result<Self, Refused> {
        let Some(query) = query else {
            return Ok(Self::default());
        };
        // What was read as a target is one; a root path stands for the one it has.
        let uri = format!("/?{query}")
            .parse()
            .unwrap_or_else(|_| Uri::from_static("/"));
        common::http::parse_query(&uri).map_err(|problem| ("query", problem.into()))
    }

    /// Names in the query must be those of the token.
    fn agrees_with(&self, identity: &Identity) -> Result<(), Refused> {
        let differs = |given: &Option<String>, is: &str| given.as_deref().is_some_and(|given| given != is);
        let field = if differs(&self.user_id, identity.user.as_str()) {
            "user_id"
        } else if differs(&self.tenant_id, identity.tenant.as_str()) {
            "tenant_id"
        } else {
            return Ok(());
        };
        let detail = format!("`{field}` is not that of the token");
        Err((
            "not_the_tokens",
            Problem::new(StatusCode::FORBIDDEN, "not_the_tokens", detail)
                .field(field)
                .into(),
        ))
    }
}

/// A handshake that may go on.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) identity: Identity,
    /// The implicit topics, the user's own first.
    pub(super) keys: Arc<[TopicKey]>,
    pub(super) seat: Seat,
    pub(super) dialect: Dialect,
    /// The sub-protocol that is answered.
    pub(super) protocol: Option<Box<str>>,
    /// How frames go; what is not plain is answered as an extension.
    pub(super) wire: Wire,
}

/// The label of the metric, and what the client is told.
pub(super) type Refused = (&'static str, Box<Problem>);

/// Decides about a handshake; the cheap questions first. `without_subprotocol` is spoken where `carillon.v1` is not
/// offered.
pub(super) fn admit(
    hub: &Hub,
    head: &Head<'_>,
    peer: IpAddr,
    without_subprotocol: Dialect,
) -> Result<Admitted, Refused> {
    let connections = &hub.inner.connections;
    if hub.refusing() {
        let after = Duration::from_millis(fastrand::u64(1000..5000)).max(connections.comeback());
        return Err((
            "draining",
            Problem::unavailable("this node is stopping; connect again", after).into(),
        ));
    }
    connections.has_room().map_err(|refusal| refused(hub, refusal))?;
    if !head.origin_allowed(&hub.inner.allowed_origins) {
        let detail = "pages of this origin may not connect (server.allowed_origins)";
        return Err((
            "origin",
            Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail)
                .field("Origin")
                .into(),
        ));
    }
    connections
        .take_handshake()
        .map_err(|refusal| refused(hub, refusal))?;
    let query = Query::new(head.query)?;
    let token = query
        .token
        .as_deref()
        .or_else(|| head.bearer())
        .or(head.offered.token);
    let identity = token
        .ok_or(TokenError::Missing)
        .and_then(|token| hub.inner.shared.verifier.verify(token))
        .map_err(|error| (error.code(), Problem::from(error).into()))?;
    query.agrees_with(&identity)?;
    let address = head.client_address(peer, &hub.inner.trusted_proxies);
    let keys = hub.keys(&identity);
    let seat = connections
        .admit(&identity.tenant, &keys[0], address)
        .map_err(|refusal| refused(hub, refusal))?;
    let (dialect, protocol) = match (head.offered.carillon, head.offered.bearer) {
        (true, _) => (Dialect::CarillonV1, Some(SUBPROTOCOL)),
        // A browser that offers a protocol and is answered none closes the connection (RFC 6455 section 4.1).
        (false, bearer) => (without_subprotocol, bearer),
    };
    Ok(Admitted {
        identity,
        keys,
        seat,
        dialect,
        protocol: protocol.map(Into::into),
        wire: if hub.inner.shared.config.compression && head.deflate {
            Wire::Deflate
        } else {
            Wire::Plain
        },
    })
}

/// Where the metric's label is `not_an_upgrade`.
pub(super) fn not_an_upgrade() -> Refused {
    let problem = Problem::new(
        StatusCode::UPGRADE_REQUIRED,
        "upgrade_required",
        "open this address as a WebSocket: this is no whole handshake of version 13",
    );
    ("not_an_upgrade", problem.into())
}

fn refused(hub: &Hub, refusal: Refusal) -> Refused {
    let after = Duration::from_millis(fastrand::u64(1000..10_000));
    let too_many =
        |code, detail: &str| Problem::new(StatusCode::TOO_MANY_REQUESTS, code, detail).retry_after(after);
    let comeback = || hub.inner.connections.comeback();
    let problem = match refusal {
        Refusal::Rate => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "handshake_rate",
            "too many connect at once; come back later",
        )
        .retry_after(comeback()),
        Refusal::Node => Problem::unavailable(
            "this node has as many sessions as it may have",
            after.max(comeback()),
        ),
        Refusal::Tenant => too_many("tenant_full", "the tenant has as many sessions as it may have"),
        Refusal::User => too_many("user_full", "the user has as many sessions as a user may have"),
        Refusal::Address => too_many("address_full", "this address has as many sessions as it may have"),
    };
    (refusal.label(), problem.into())
}

/// Counts a refusal and words its answer.
pub(super) fn refuse(hub: &Hub, (label, problem): Refused) -> Response {
    hub.inner.shared.metrics.refused(label);
    let is_no_upgrade = problem.status == StatusCode::UPGRADE_REQUIRED;
    let mut response = problem.into_response();
    if is_no_upgrade {
        // RFC 9110 section 15.5.22, RFC 6455 section 4.4.
        response
            .headers_mut()
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
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
