//! `GET /api/v1/sse`: a session as a stream of Server-Sent Events (HTML standard, section 9.2).

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use common::http::{Connection, Problem};
use http::{HeaderName, HeaderValue, header, request::Parts};

use super::{Opened, ending::Ending, frames::Frame, vector::Seen};
use crate::{Hub, http::admit};

/// Bytes that one step gives the connection. It keeps several for a client that is slow.
const CHUNK: usize = 8 * 1024;

/// A stream of events
///
/// The frames of docs/protocol.md, each as one event, whose id is the whole vector of positions: a client that comes back
/// with it, to any node, misses nothing. For browsers' `EventSource`.
#[utoipa::path(get, path = "/api/v1/sse", tag = "sockets", security(("bearer" = [])),
    params(("token" = Option<String>, Query, description = "The token, where no header can be sent"),
        ("user_id" = Option<String>, Query, description = "Has to be the token's"),
        ("tenant_id" = Option<String>, Query, description = "Has to be the token's"),
        ("topics" = Option<String>, Query, description = "Explicit topics: `a,b`, or a JSON array"),
        ("positions" = Option<String>, Query, description = "JSON object of positions by topic"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last event's id; wins over `positions`")),
    responses((status = 200, description = "Events, until the session ends", content_type = "text/event-stream"),
        (status = 401, body = Problem), (status = 403, body = Problem), (status = 422, body = Problem),
        (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(in crate::http) async fn sse(State(hub): State<Hub>, parts: Parts) -> Response {
    let entered = match super::enter(&hub, &parts).await {
        Ok(entered) => entered,
        Err(refused) => return admit::refuse(&hub, refused),
    };
    let connection = parts.extensions.get::<Connection>().cloned();
    if let Some(connection) = &connection {
        connection.leave_count();
    }
    let opened = super::open(&hub, "sse", connection.clone(), entered).await;
    let events = Events::new(opened, connection, hub.inner.shared.config.close_timeout.0);
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // The stream has left the listener's count, and a client that does not read its end is hung up on.
        (header::CONNECTION, HeaderValue::from_static("close")),
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, Body::new(events)).into_response()
}

/// The answer's body. Dropping it ends the session.
struct Events {
    opened: Opened,
    /// What the connection has not taken.
    ready: BytesMut,
    ended: bool,
    connection: Option<Connection>,
    close_timeout: Duration,
}

impl Events {
    fn new(opened: Opened, connection: Option<Connection>, close_timeout: Duration) -> Self {
        // Spread, so that streams that are cut together do not come back together.
        let retry = format!("retry: {}\n\n", fastrand::u32(1000..=3000));
        Self {
            opened,
            ready: retry.as_bytes().into(),
            ended: false,
            connection,
            close_timeout,
        }
    }

    fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Text(json) => {
                let (seen, moved) = self.opened.vector.take(&json);
                if moved {
                    let mut id = b"id: ".to_vec();
                    self.opened.vector.write(&mut id);
                    self.ready.extend_from_slice(&id);
                    self.ready.extend_from_slice(b"\n");
                }
                if seen == Seen::Pong {
                    // A comment; with an id and no data it is no event, but counts as the last id.
                    self.ready.extend_from_slice(b":\n\n");
                } else {
                    write_data(&json, &mut self.ready);
                }
            }
            Frame::Close { code, reason } => {
                let last = Last::new(code, &reason);
                if let Some(after) = last.retry_after_ms {
                    self.ready
                        .extend_from_slice(format!("retry: {after}\n").as_bytes());
                }
                // Numbers and texts always serialise.
                write_data(&serde_json::to_vec(&last).unwrap_or_default(), &mut self.ready);
                self.end();
            }
        }
    }

    /// Nothing more comes. The client has the time of an orderly close to take what is on its way.
    fn end(&mut self) {
        self.ended = true;
        if let Some(connection) = self.connection.take() {
            let timeout = self.close_timeout;
            tokio::spawn(async move {
                tokio::time::sleep(timeout).await;
                connection.hang_up();
            });
        }
    }
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        let events = &mut *self;
        while !events.ended && events.ready.len() < CHUNK {
            match events.opened.frames.poll_next(context) {
                Poll::Ready(Some(frame)) => events.frame(frame),
                Poll::Ready(None) => events.end(),
                Poll::Pending if events.ready.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if events.ready.is_empty() {
            return Poll::Ready(None);
        }
        let len = events.ready.len().min(CHUNK);
        let chunk = events.ready.split_to(len).freeze();
        if events.ready.is_empty() {
            // The memory goes with the chunk: an idle stream keeps none.
            events.ready = BytesMut::new();
        }
        Poll::Ready(Some(Ok(hyper::body::Frame::data(chunk))))
    }
}

/// A frame as the data of an event. Its line breaks, which can only stand between its parts, begin lines of their own.
fn write_data(json: &[u8], text: &mut BytesMut) {
    for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
        text.extend_from_slice(b"data: ");
        text.extend_from_slice(line);
        text.extend_from_slice(b"\n");
    }
    text.extend_from_slice(b"\n");
}

/// The event that tells why the stream ends.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
struct Last<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: u16,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u32>,
}

impl<'a> Last<'a> {
    fn new(code: u16, reason: &'a str) -> Self {
        let ending = Ending::new(code, reason);
        Self {
            kind: "close",
            code,
            reason: ending.reason,
            retry_after_ms: ending.retry_after_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_begin_lines_of_data() {
        let mut text = BytesMut::new();
        write_data(b"{\"a\":\r\n1,\n\"b\":2}", &mut text);
        assert_eq!(&text[..], b"data: {\"a\":\ndata: \ndata: 1,\ndata: \"b\":2}\n\n");
    }
}
