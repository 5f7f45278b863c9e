//! The handshake: who, from where, how much is free, and then the socket goes to its worker.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use common::{
    http::{Peer, Problem, bearer},
    protocol::{BEARER_PREFIX, Dialect, SUBPROTOCOL},
    receipts::{Reader, Receipt},
    token::{Identity, TokenError},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::{
    Hub,
    limits::{Refusal, Seat},
    worker::{NewSession, Who},
};

/// Open a WebSocket
///
/// With the sub-protocol `carillon.v1` everything of docs/protocol.md is available; without one the session gets
/// notifications and messages only. The token comes as `?token=`, `Authorization: Bearer` or sub-protocol `bearer.<jwt>`.
#[utoipa::path(get, path = "/api/v1/ws", tag = "sockets", security(("bearer" = [])),
    params(("token" = Option<String>, Query, description = "The token, where no header can be sent"),
        ("user_id" = Option<String>, Query, description = "Has to be the token's"),
        ("tenant_id" = Option<String>, Query, description = "Has to be the token's")),
    responses((status = 101, description = "The connection is a WebSocket now"), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 426, body = Problem), (status = 429, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn carillon(State(hub): State<Hub>, request: Request) -> Response {
    upgrade(&hub, request, Dialect::Seeds { unread: false }).await
}

/// Open a WebSocket, by S0's name
#[utoipa::path(get, path = "/api/v1/websocket/connect", tag = "sockets", security(("bearer" = [])),
    params(("token" = Option<String>, Query, description = "The token, where no header can be sent")),
    responses((status = 101, description = "The connection is a WebSocket now"), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 426, body = Problem), (status = 429, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn cashup(State(hub): State<Hub>, request: Request) -> Response {
    upgrade(&hub, request, Dialect::Seeds { unread: false }).await
}

/// Open a WebSocket, by S3's name
///
/// Its sessions get `unread` frames too.
#[utoipa::path(get, path = "/ws", tag = "sockets", security(("bearer" = [])),
    params(("token" = Option<String>, Query, description = "The token, where no header can be sent")),
    responses((status = 101, description = "The connection is a WebSocket now"), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 426, body = Problem), (status = 429, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn voice_assistant(State(hub): State<Hub>, request: Request) -> Response {
    upgrade(&hub, request, Dialect::Seeds { unread: true }).await
}

#[expect(clippy::unused_async, reason = "handlers are async")]
async fn upgrade(hub: &Hub, mut request: Request, without_subprotocol: Dialect) -> Response {
    let admitted = match admit(hub, &request, without_subprotocol) {
        Ok(admitted) => admitted,
        Err(refused) => return refuse(hub, refused),
    };
    let Admitted {
        identity,
        seat,
        dialect,
        protocol,
    } = admitted;
    let Ok((response, upgraded)) = fastwebsockets::upgrade::upgrade(&mut request) else {
        let problem = not_an_upgrade("this is no handshake of WebSocket version 13");
        return refuse(hub, ("not_an_upgrade", problem.into()));
    };
    let hub = hub.clone();
    tokio::spawn(async move {
        let Ok(socket) = upgraded.await else { return };
        let upgraded = socket.into_inner().into_inner();
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
            return;
        };
        // Copied, because the buffer it lies in has 8 KiB and would live as long as the session.
        let early = parts.read_buf.to_vec();
        let stream = parts.io.into_inner();
        forget_wakers(&stream);
        set_send_buffer(&stream, hub.inner.shared.config.send_buffer.0);
        let who = introduce(&hub, identity).await;
        hub.hand_over(NewSession {
            stream: stream.into(),
            who,
            dialect,
            early,
            seat,
        })
        .await;
    });
    let mut response = response.map(axum::body::Body::new);
    if let Some(protocol) = protocol {
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// Names a new session, and tells the dispatcher of it.
pub(super) async fn introduce(hub: &Hub, identity: Identity) -> Arc<Who> {
    let reader = Reader {
        tenant: identity.tenant.clone(),
        user: identity.user.clone(),
        session: Uuid::now_v7().simple().to_string().into(),
        keys: identity
            .keys()
            .iter()
            .map(|key| hub.inner.registry.shared(key))
            .collect(),
    };
    // Keys that are new to a known user count from now.
    hub.inner
        .shared
        .receipts
        .send(Receipt::Seen {
            reader: reader.clone(),
        })
        .await;
    Arc::new(Who { identity, reader })
}

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

struct Admitted {
    identity: Identity,
    seat: Seat,
    dialect: Dialect,
    protocol: Option<HeaderValue>,
}

pub(super) type Refused = (&'static str, Box<Problem>);

fn admit(hub: &Hub, request: &Request, without_subprotocol: Dialect) -> Result<Admitted, Refused> {
    let headers = request.headers();
    if request.version() < http::Version::HTTP_11 || !is_upgrade(headers) {
        return Err((
            "not_an_upgrade",
            not_an_upgrade("open this address as a WebSocket").into(),
        ));
    }
    let offered = Offered::new(headers);
    let (identity, seat) = enter(hub, request, offered.token)?;
    let (dialect, protocol) = match (offered.carillon, offered.bearer) {
        (true, _) => (Dialect::CarillonV1, Some(HeaderValue::from_static(SUBPROTOCOL))),
        // A browser that offers a protocol and is answered none closes the connection (RFC 6455 section 4.1).
        (false, Some(bearer)) => (without_subprotocol, HeaderValue::from_str(bearer).ok()),
        (false, None) => (without_subprotocol, None),
    };
    Ok(Admitted {
        identity,
        seat,
        dialect,
        protocol,
    })
}

/// What every transport asks of who wants a session: an origin, a turn, a token, and room.
pub(super) fn enter(
    hub: &Hub,
    request: &Request,
    offered_token: Option<&str>,
) -> Result<(Identity, Seat), Refused> {
    let headers = request.headers();
    if hub.refusing() {
        let after = Duration::from_millis(fastrand::u64(1000..5000));
        return Err((
            "draining",
            Problem::unavailable("this node is stopping; connect again", after).into(),
        ));
    }
    if !origin_allowed(headers, &hub.inner.allowed_origins) {
        let detail = "pages of this origin may not connect (server.allowed_origins)";
        return Err((
            "origin",
            Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail)
                .field("Origin")
                .into(),
        ));
    }
    hub.inner.connections.take_handshake().map_err(refused)?;
    let query = Query::new(request.uri())?;
    let token = query
        .token
        .as_deref()
        .or_else(|| bearer(headers))
        .or(offered_token);
    let identity = token
        .ok_or(TokenError::Missing)
        .and_then(|token| hub.inner.shared.verifier.verify(token))
        .map_err(|error| (error.code(), Problem::from(error).into()))?;
    query.agrees_with(&identity)?;
    let address = client_address(request, &hub.inner.trusted_proxies);
    let seat = hub.inner.connections.admit(&identity, address).map_err(refused)?;
    Ok((identity, seat))
}

fn not_an_upgrade(detail: &str) -> Problem {
    Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail)
}

fn refused(refusal: Refusal) -> Refused {
    let after = Duration::from_millis(fastrand::u64(1000..10_000));
    let too_many =
        |code, detail: &str| Problem::new(StatusCode::TOO_MANY_REQUESTS, code, detail).retry_after(after);
    let problem = match refusal {
        Refusal::Rate(wait) => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "handshake_rate",
            "too many connect at once; come back later",
        )
        .retry_after(wait),
        Refusal::Node => Problem::unavailable("this node has as many sessions as it may have", after),
        Refusal::Tenant => too_many("tenant_full", "the tenant has as many sessions as it may have"),
        Refusal::User => too_many("user_full", "the user has as many sessions as a user may have"),
        Refusal::Address => too_many("address_full", "this address has as many sessions as it may have"),
    };
    (refusal.label(), problem.into())
}

/// RFC 6455 section 4.2.1.
fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name: header::HeaderName, token: &str| {
        let values = headers.get_all(name);
        let mut tokens = values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        tokens.any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().and_then(|key| BASE64.decode(key.as_bytes()).ok());
    has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && key.is_some_and(|key| key.len() == 16)
        && keys.next().is_none()
}

/// Browsers send an origin; other clients need none. The server's own page is always allowed.
fn origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin
        .split_once("://")
        .map(|(_, rest)| rest)
        .zip(host)
        // A page of this machine that opens a socket to this machine by another of its names or ports is a developer's.
        // No browser sends a token by itself, so nothing is opened that the page could not open anyway.
        .is_some_and(|(origin, host)| origin == host || (is_loopback(origin) && is_loopback(host)));
    own || allowed
        .iter()
        .any(|pattern| common::topic::matches_pattern(pattern, origin))
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

/// The client's address: the peer's, or what a trusted proxy says.
fn client_address(request: &Request, trusted: &[String]) -> IpAddr {
    let peer = request
        .extensions()
        .get::<Peer>()
        .map_or_else(|| IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    if !trusted
        .iter()
        .any(|proxy| proxy == "*" || proxy.parse() == Ok(peer))
    {
        return peer;
    }
    // The last entry is what the trusted proxy itself saw.
    let forwarded = request
        .headers()
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok());
    forwarded
        .and_then(|list| list.rsplit(',').next())
        .and_then(|last| last.trim().parse().ok())
        .unwrap_or(peer)
}

/// The socket still knows the task that did the handshake as the one to wake, and so would keep that task's memory until
/// something arrives. Polling once with a waker that does nothing puts it out of there.
fn forget_wakers(stream: &TcpStream) {
    let mut context = Context::from_waker(Waker::noop());
    // What they say does not matter: the reader looks for itself.
    drop(stream.poll_read_ready(&mut context));
    drop(stream.poll_write_ready(&mut context));
}

fn set_send_buffer(stream: &TcpStream, bytes: usize) {
    if bytes > 0
        && let Err(error) = socket2::SockRef::from(stream).set_send_buffer_size(bytes)
    {
        tracing::debug!(%error, "the send buffer cannot be set");
    }
}

/// What the client offers as sub-protocols.
#[derive(Default)]
struct Offered<'a> {
    carillon: bool,
    bearer: Option<&'a str>,
    token: Option<&'a str>,
}

impl<'a> Offered<'a> {
    fn new(headers: &'a HeaderMap) -> Self {
        let mut offered = Self::default();
        let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
        for name in values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
        {
            let name = name.trim();
            offered.carillon |= name == SUBPROTOCOL;
            if let Some(token) = name.strip_prefix(BEARER_PREFIX) {
                offered.bearer = Some(name);
                offered.token = Some(token);
            }
        }
        offered
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
    fn new(uri: &Uri) -> Result<Self, Refused> {
        common::http::parse_query(uri).map_err(|problem| ("query", problem.into()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
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
            assert_eq!(
                origin_allowed(&headers(&pairs), &allowed),
                is_allowed,
                "{origin:?}"
            );
        }
    }

    #[test]
    fn sub_protocols_carry_dialect_and_token() {
        let given = headers(&[("sec-websocket-protocol", "carillon.v1, bearer.abc")]);
        let offered = Offered::new(&given);
        assert!(offered.carillon);
        assert_eq!(offered.token, Some("abc"));
        assert!(Offered::new(&headers(&[])).token.is_none());
    }

    #[test]
    fn only_a_whole_handshake_is_one() {
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let whole = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            key,
        ];
        assert!(is_upgrade(&headers(&whole)));
        for missing in 0..3 {
            let mut part = whole.to_vec();
            part.remove(missing);
            assert!(!is_upgrade(&headers(&part)));
        }
    }
}
