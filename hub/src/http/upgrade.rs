//! The handshake as HTTP reads it: for those that are not the first request of their connection, and for the odd ones.

use std::net::{IpAddr, Ipv4Addr};

use axum::{
    extract::{Request, State},
    response::Response,
};
use common::{
    http::{BoundedWrites, Peer, Problem, Rewound},
    protocol::Dialect,
};
use http::{HeaderValue, Method, StatusCode, Version, header};
use hyper_util::rt::TokioIo;

use super::{
    admit::{admit_whoever, not_an_upgrade, not_get, refuse},
    head::Head,
    seat::take_in,
};
use crate::{Hub, receive::Wire, ws::DEFLATE_ANSWER};

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

async fn upgrade(hub: &Hub, mut request: Request, without_subprotocol: Dialect) -> Response {
    let peer = request
        .extensions()
        .get::<Peer>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    // A route of GET takes HEAD, too.
    if request.method() != Method::GET {
        return refuse(hub, not_get());
    }
    let head = Head::of(request.uri(), request.headers());
    if request.version() < Version::HTTP_11 || !head.is_upgrade() {
        return refuse(hub, not_an_upgrade());
    }
    let mut admitted = match admit_whoever(hub, &head, peer, without_subprotocol).await {
        Ok(admitted) => admitted,
        Err(refused) => return refuse(hub, refused),
    };
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    // Base64, and what came as a field's value, are values.
    let values = [
        (header::SEC_WEBSOCKET_ACCEPT, Some(head.accept())),
        (
            header::SEC_WEBSOCKET_PROTOCOL,
            admitted.protocol.take().map(String::from),
        ),
        (
            header::SEC_WEBSOCKET_EXTENSIONS,
            (admitted.wire == Wire::Deflate).then(|| DEFLATE_ANSWER.to_owned()),
        ),
    ];
    for (name, value) in values {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let hub = hub.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<BoundedWrites<Rewound>>>() else {
            return;
        };
        let (stream, unread) = parts.io.into_inner().into_inner().into_parts();
        // Copied, because the buffer it lies in has 8 KiB and would live as long as the session.
        let early = [&parts.read_buf[..], &unread].concat();
        drop((parts.read_buf, unread));
        take_in(&hub, admitted, stream, early).await;
    });
    response
}
