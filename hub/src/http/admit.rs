//! Who may open a socket: one decision for handshakes that HTTP read and for those that the front read.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response};
use common::{
    credential::Denied,
    http::Problem,
    protocol::{Dialect, SUBPROTOCOL},
    token::Identity,
    topic::TopicKey,
};
use http::{HeaderValue, StatusCode, Uri, header};

use super::head::Head;
use crate::{
    Hub,
    limits::{Refusal, Seat},
    receive::Wire,
};

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

/// What a handshake says of the caller, where nothing else speaks against it.
#[derive(Debug)]
pub(super) struct Screened {
    query: Query,
    /// Where the client is.
    pub(super) address: IpAddr,
}

impl Screened {
    /// The token or API key; empty where there is none.
    pub(super) fn shown<'a>(&'a self, head: &Head<'a>) -> &'a str {
        let given = self.query.token.as_deref();
        given
            .or_else(|| head.shown())
            .or(head.offered.token)
            .unwrap_or_default()
    }
}

/// Asks about a handshake what costs little: everything but who the caller is.
pub(super) fn screen(hub: &Hub, head: &Head<'_>, peer: IpAddr) -> Result<Screened, Refused> {
    let connections = &hub.inner.connections;
    if hub.refusing() {
        let after = Duration::from_millis(fastrand::u64(1000..5000)).max(connections.comeback());
        return Err((
            "draining",
            Problem::unavailable("this node is stopping; connect again", after).into(),
        ));
    }
    if !hub.inner.shared.bus.ready() {
        // The topics of the session could not be confirmed. It is told before the upgrade, as browsers cannot see why a socket
        // was closed at once; and those who wait for the same bus do not come back together.
        let after = Duration::from_millis(fastrand::u64(1000..5000)).max(connections.comeback());
        let detail = "the bus is not there, so that nothing could reach this session; connect again";
        return Err(("bus", Problem::unavailable(detail, after).into()));
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
    Ok(Screened {
        query: Query::new(head.query)?,
        address: head.client_address(peer, &hub.inner.trusted_proxies),
    })
}

/// Admits a caller that is known by now. `without_subprotocol` is spoken where `carillon.v1` is not offered.
pub(super) fn admit(
    hub: &Hub,
    head: &Head<'_>,
    Screened { query, address }: &Screened,
    verified: Result<Arc<Identity>, Denied>,
    without_subprotocol: Dialect,
) -> Result<Admitted, Refused> {
    let connections = &hub.inner.connections;
    let identity = verified.map_err(|denied| (denied.code(), Problem::from(denied).into()))?;
    let identity = Arc::unwrap_or_clone(identity);
    query.agrees_with(&identity)?;
    let keys = hub.keys(&identity);
    let seat = connections
        .admit(&identity.tenant, &keys[0], *address)
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

/// Decides about a handshake, and waits for what is not known of the caller.
pub(super) async fn admit_whoever(
    hub: &Hub,
    head: &Head<'_>,
    peer: IpAddr,
    without_subprotocol: Dialect,
) -> Result<Admitted, Refused> {
    let screened = screen(hub, head, peer)?;
    let credentials = &hub.inner.shared.credentials;
    let shown = screened.shown(head);
    let verified = match credentials.known_once(shown, screened.address) {
        Some(verified) => verified,
        None => credentials.verify(shown, screened.address).await,
    };
    admit(hub, head, &screened, verified, without_subprotocol)
}

/// Where the metric's label is `not_an_upgrade`.
pub(super) fn not_get() -> Refused {
    let problem = Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "a WebSocket is opened by GET (RFC 6455 section 4.1)",
    );
    ("not_an_upgrade", problem.into())
}

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
    let status = problem.status;
    let mut response = problem.into_response();
    let headers = response.headers_mut();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110 section 15.5.6.
        headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
    } else if status == StatusCode::UPGRADE_REQUIRED {
        // RFC 9110 section 15.5.22, RFC 6455 section 4.4.
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}
