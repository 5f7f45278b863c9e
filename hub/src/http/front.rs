//! The public listener's front: a connection that begins with a whole handshake never meets the HTTP server, whose
//! buffers cost more than the session that is made of it. Whatever is not exactly that goes on to HTTP, with the bytes
//! that were read.

use std::{cell::RefCell, io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use axum::response::Response;
use common::{
    credential::Denied,
    http::{Front, Rewound},
    protocol::Dialect,
    token::Identity,
};
use futures_util::FutureExt;
use http::{StatusCode, header};
use http_body_util::BodyExt;
use httparse::{EMPTY_HEADER, Request, Status};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    admit::{Admitted, Screened, admit, refuse, screen},
    head::Head,
    seat::take_in,
};
use crate::{Hub, receive::Wire, ws::DEFLATE_ANSWER};

/// Longest head that is read here; it holds the longest token. HTTP has a limit of its own for longer ones.
const MAX_HEAD: usize = 20 * 1024;

/// Most fields of a head that is read here.
const MAX_FIELDS: usize = 48;

const METHOD: &[u8] = b"GET ";

/// Where sockets are opened, and what is spoken there without a sub-protocol.
const PATHS: [(&str, Dialect); 3] = [
    ("/api/v1/ws", Dialect::Seeds { unread: false }),
    ("/api/v1/websocket/connect", Dialect::Seeds { unread: false }),
    ("/ws", Dialect::Seeds { unread: true }),
];

thread_local! {
    /// Belongs to the thread, as a connection that waits for a head needs none.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_HEAD]);
}

/// The front for a public listener. `header_timeout`: time to receive a head.
#[must_use]
pub fn front(hub: &Hub, header_timeout: Duration) -> Front {
    let hub = hub.clone();
    Arc::new(move |stream, peer, stop| {
        let meeting = meet(hub.clone(), stream, peer, header_timeout);
        Box::pin(async move {
            tokio::select! {
                biased;
                rewound = meeting => rewound,
                // It has not asked for anything yet.
                () = stop.cancelled() => None,
            }
        })
    })
}

/// What the bytes that came so far are.
enum Judged {
    /// They may become a handshake.
    Part,
    /// Not for here.
    Other,
    /// A handshake on one of the paths, decided; and what came behind it.
    Handshake(&'static str, Decided, Vec<u8>),
    /// A handshake whose token or API key has to be looked up.
    Unknown(Box<Screened>),
}

/// A handshake that goes on, and the answer that says so.
struct Go {
    admitted: Admitted,
    answer: String,
}

async fn meet(
    hub: Hub,
    mut stream: TcpStream,
    peer: SocketAddr,
    header_timeout: Duration,
) -> Option<Rewound> {
    let deadline = Instant::now() + header_timeout;
    let mut held = Vec::new();
    loop {
        // As HTTP does: who sends no head in time is cut off.
        timeout_at(deadline, stream.readable()).await.ok()?.ok()?;
        let began = Instant::now();
        let (path, decided, behind) = match read(&hub, &stream, peer, &mut held) {
            Ok(Judged::Part) => continue,
            Ok(Judged::Other) => return Some(Rewound::new(stream, held.into())),
            Ok(Judged::Handshake(path, decided, behind)) => (path, decided, behind),
            Ok(Judged::Unknown(screened)) => look_up(&hub, &screened, &held).await?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        };
        match decided {
            Ok(go) => {
                log_access(path, StatusCode::SWITCHING_PROTOCOLS, began);
                let Go { admitted, answer } = *go;
                // Where the client has gone, its seat is given back here.
                stream.write_all(answer.as_bytes()).await.ok()?;
                take_in(&hub, admitted, stream, behind).await;
                return None;
            }
            Err(refusal) => {
                log_access(path, refusal.status(), began);
                // A node that is full has no connection to spare for who has to come back anyway.
                let is_last = refusal.headers().contains_key(header::RETRY_AFTER);
                stream.write_all(&encode(refusal, is_last)).await.ok()?;
                if is_last {
                    stream.shutdown().await.ok()?;
                    return None;
                }
                return Some(Rewound::new(stream, behind.into()));
            }
        }
    }
}

/// Takes what the socket has and judges it. `held` has what came before, and afterwards all that came, unless that was a
/// handshake. No await in here: the buffer is shared by all connections of the thread.
fn read(hub: &Hub, stream: &TcpStream, peer: SocketAddr, held: &mut Vec<u8>) -> std::io::Result<Judged> {
    BUFFER.with_borrow_mut(|buffer| {
        let (before, room) = buffer.split_at_mut(held.len());
        before.copy_from_slice(held);
        let taken = stream.try_read(room)?;
        if taken == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let bytes = &buffer[..held.len() + taken];
        let judged = judge(hub, peer, bytes);
        if !matches!(judged, Judged::Handshake(..)) {
            held.clear();
            held.extend_from_slice(bytes);
        }
        Ok(judged)
    })
}

fn judge(hub: &Hub, peer: SocketAddr, bytes: &[u8]) -> Judged {
    let Some(parsed) = parse(bytes) else {
        return Judged::Other;
    };
    let Some(Parsed {
        path,
        without_subprotocol,
        head,
        len,
    }) = parsed
    else {
        return Judged::Part;
    };
    let screened = match screen(hub, &head, peer.ip()) {
        Ok(screened) => screened,
        Err(refused) => return Judged::Handshake(path, Err(refuse(hub, refused)), bytes[len..].to_vec()),
    };
    let known = hub
        .inner
        .shared
        .credentials
        .known_once(screened.shown(&head), screened.address);
    match known {
        Some(verified) => {
            let decided = decide(hub, &head, &screened, verified, without_subprotocol);
            Judged::Handshake(path, decided, bytes[len..].to_vec())
        }
        None => Judged::Unknown(Box::new(screened)),
    }
}

type Decided = Result<Box<Go>, Response>;

/// Waits for who has sent the handshake in these bytes, and decides.
async fn look_up(hub: &Hub, screened: &Screened, bytes: &[u8]) -> Option<(&'static str, Decided, Vec<u8>)> {
    // They were a whole handshake a moment ago.
    let parsed = parse(bytes).flatten()?;
    let shown = screened.shown(&parsed.head);
    let verified = hub.inner.shared.credentials.verify(shown, screened.address).await;
    let decided = decide(hub, &parsed.head, screened, verified, parsed.without_subprotocol);
    Some((parsed.path, decided, bytes[parsed.len..].to_vec()))
}

#[expect(clippy::result_large_err, reason = "the answer, which is written at once")]
fn decide(
    hub: &Hub,
    head: &Head<'_>,
    screened: &Screened,
    verified: Result<Arc<Identity>, Denied>,
    without_subprotocol: Dialect,
) -> Decided {
    match admit(hub, head, screened, verified, without_subprotocol) {
        Ok(admitted) => {
            let answer = answer(head, admitted.protocol.as_deref(), admitted.wire);
            Ok(Box::new(Go { admitted, answer }))
        }
        Err(refused) => Err(refuse(hub, refused)),
    }
}

/// A whole handshake.
#[derive(Debug)]
struct Parsed<'a> {
    path: &'static str,
    without_subprotocol: Dialect,
    head: Head<'a>,
    /// Bytes of the head.
    len: usize,
}

/// Reads a handshake, or the part of one (`Some(None)`). None for everything that HTTP had better look at.
fn parse(bytes: &[u8]) -> Option<Option<Parsed<'_>>> {
    if !begins_like_a_handshake(bytes) {
        return None;
    }
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut request = Request::new(&mut fields);
    let Status::Complete(len) = request.parse(bytes).ok()? else {
        return (bytes.len() < MAX_HEAD).then_some(None);
    };
    let target = request.path?;
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let (path, without_subprotocol) = PATHS.into_iter().find(|(known, _)| *known == path)?;
    let head = Head::new(
        query,
        request.headers.iter().map(|field| (field.name, field.value)),
    );
    let is_plain = query.unwrap_or_default().bytes().all(is_query_byte);
    let is_handshake = request.method == Some("GET") && request.version == Some(1) && head.is_upgrade();
    (is_handshake && is_plain && !head.has_body()).then_some(Some(Parsed {
        path,
        without_subprotocol,
        head,
        len,
    }))
}

/// RFC 3986 section 3.4.
fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/?".contains(&byte)
}

fn begins_like_a_handshake(bytes: &[u8]) -> bool {
    let Some((method, target)) = bytes.split_at_checked(METHOD.len()) else {
        return METHOD.starts_with(bytes);
    };
    method == METHOD
        && PATHS.iter().any(|(path, _)| {
            let path = path.as_bytes();
            match target.split_at_checked(path.len()) {
                None => path.starts_with(target),
                Some((begin, rest)) => begin == path && matches!(rest.first(), None | Some(b' ' | b'?')),
            }
        })
}

fn answer(head: &Head<'_>, protocol: Option<&str>, wire: Wire) -> String {
    let accept = head.accept();
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: \
         {accept}\r\n"
    );
    if let Some(protocol) = protocol {
        answer.push_str("sec-websocket-protocol: ");
        answer.push_str(protocol);
        answer.push_str("\r\n");
    }
    if wire == Wire::Deflate {
        answer.push_str("sec-websocket-extensions: ");
        answer.push_str(DEFLATE_ANSWER);
        answer.push_str("\r\n");
    }
    answer.push_str("\r\n");
    answer
}

/// A refusal as HTTP/1.1.
fn encode(refusal: Response, is_last: bool) -> Vec<u8> {
    let (parts, body) = refusal.into_parts();
    // The body lies in memory, so it is there at once.
    let body = body
        .collect()
        .now_or_never()
        .and_then(Result::ok)
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    for (name, value) in &parts.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    if is_last {
        bytes.extend_from_slice(b"connection: close\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// The line that HTTP's access log has for every request. No query: tokens may stand there.
fn log_access(path: &'static str, status: StatusCode, began: Instant) {
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(target: "access", method = "GET", path, status = status.as_u16(), duration_ms, "request");
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use proptest::prelude::*;

    use super::*;

    const REST: &str = " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[test]
    fn whole_handshakes_are_read() {
        for (target, unread) in [
            ("/api/v1/ws", false),
            ("/api/v1/ws?token=a.b-c_d&user_id=%C3%A4", false),
            ("/api/v1/websocket/connect", false),
            ("/ws?", true),
        ] {
            let text = format!("GET {target}{REST}behind");
            let parsed = parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(&text[parsed.len..], "behind");
            assert_eq!(parsed.without_subprotocol, Dialect::Seeds { unread });
        }
    }

    #[test]
    fn every_beginning_of_one_is_a_part() {
        let text = format!("GET /ws?token=a{REST}");
        for end in 0..text.len() {
            assert!(matches!(parse(&text.as_bytes()[..end]), Some(None)), "{end}");
        }
        let long = format!("GET /ws?token={}", "a".repeat(MAX_HEAD));
        assert!(parse(long.as_bytes()).is_none());
    }

    #[test]
    fn everything_else_is_for_http() {
        let whole = format!("GET /ws{REST}");
        for (from, to) in [
            ("GET", "POST"),
            ("GET", "get"),
            ("GET", "\r\nGET"),
            ("/ws", "/"),
            ("/ws", "/wss"),
            ("/ws", "/ws/"),
            ("/ws", "/ws#a"),
            ("/ws", "/ws?a=\""),
            ("/ws", "http://a/ws"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("HTTP/1.1", "HTTP/2.0"),
            ("Host: a", "Host: a\r\nContent-Length: 0"),
            ("Host: a", "Host: a\r\nTransfer-Encoding: chunked"),
            ("Host: a", "Host: a\r\n folded"),
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("Version: 13", "Version: 8"),
            ("\r\n\r\n", "\r\n\0\r\n\r\n"),
        ] {
            let other = whole.replacen(from, to, 1);
            assert!(parse(other.as_bytes()).is_none(), "{from} {to}");
        }
        let many = format!("Host: a\r\n{}", "a: b\r\n".repeat(MAX_FIELDS));
        assert!(parse(whole.replace("Host: a\r\n", &many).as_bytes()).is_none());
    }

    #[test]
    fn refusals_are_whole_answers() {
        let refusal = (StatusCode::FORBIDDEN, [("x-a", "b")], "no").into_response();
        let text = String::from_utf8(encode(refusal, true)).unwrap();
        assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
        assert!(
            text.ends_with("x-a: b\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(mut text in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..300) {
            parse(&text);
            let whole = format!("GET /ws{REST}");
            let at = at.min(whole.len());
            text.splice(0..0, whole.bytes().take(at));
            parse(&text);
        }
    }
}
