//! As much HTTP/1.1 as a publisher and a WebSocket handshake need (RFC 9112, RFC 6455 section 4).

use base64::{Engine, prelude::BASE64_STANDARD};
use sha1::{Digest, Sha1};

/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Largest body of a request, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// Whom a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// `/ws`, `/pub`.
    All,
    /// `/ws/{number}`, `/pub/{number}`.
    User(u32),
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// Upgrade, with the value for `Sec-WebSocket-Accept`.
    Subscribe(Topic, String),
    /// Send the body to the topic.
    Publish(Topic, &'a [u8]),
    /// Whether the server is there.
    Ready,
    /// No such thing.
    Unknown,
}

/// What cannot be read as a request; the connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The first request of `bytes` and its length; none when it is not whole yet.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Request<'_>, usize)>, Malformed> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > MAX_HEAD {
            Err(Malformed)
        } else {
            Ok(None)
        };
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| Malformed)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(Malformed);
    };
    let (mut len, mut key) = (0, None);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Malformed)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            len = value.parse().map_err(|_| Malformed)?;
        } else if name.eq_ignore_ascii_case("sec-websocket-key") {
            key = Some(value);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Malformed);
        }
    }
    if len > MAX_BODY {
        return Err(Malformed);
    }
    let begin = end + 4;
    let Some(body) = bytes.get(begin..begin + len) else {
        return Ok(None);
    };
    let path = target.split('?').next().unwrap_or_default();
    let request = match (method, key) {
        ("GET", Some(key)) => topic(path, "/ws").map(|topic| Request::Subscribe(topic, accept(key))),
        ("POST", _) => topic(path, "/pub").map(|topic| Request::Publish(topic, body)),
        ("GET", None) if path == "/ready" => Some(Request::Ready),
        _ => None,
    };
    Ok(Some((request.unwrap_or(Request::Unknown), begin + len)))
}

fn topic(path: &str, root: &str) -> Option<Topic> {
    match path.strip_prefix(root)? {
        "" => Some(Topic::All),
        rest => rest.strip_prefix('/')?.parse().ok().map(Topic::User),
    }
}

/// RFC 6455 section 4.2.2, step 5.4.
fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(hash.finalize())
}

/// One whole text frame, as a server sends it (RFC 6455 section 5.2).
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x81);
    match payload.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=65_535 => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_answered_as_in_the_rfc() {
        let bytes =
            b"GET /ws/7?x=1 HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let (request, used) = parse(bytes).unwrap().unwrap();
        assert_eq!(
            request,
            Request::Subscribe(Topic::User(7), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned())
        );
        assert_eq!(used, bytes.len());
    }

    #[test]
    fn requests_in_one_piece_or_many_are_the_same() {
        let bytes = b"POST /pub HTTP/1.1\r\ncontent-length: 2\r\n\r\nhiPOST /pub/3 HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
        for end in 0..41 {
            assert_eq!(parse(&bytes[..end]), Ok(None), "after {end} bytes");
        }
        let (request, used) = parse(bytes).unwrap().unwrap();
        assert_eq!(request, Request::Publish(Topic::All, b"hi"));
        let (request, rest) = parse(&bytes[used..]).unwrap().unwrap();
        assert_eq!(request, Request::Publish(Topic::User(3), b""));
        assert_eq!(used + rest, bytes.len());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in [
            &b"\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"POST /pub HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"POST /pub HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
            b"POST /pub HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert_eq!(parse(bad), Err(Malformed), "{}", String::from_utf8_lossy(bad));
        }
        let unknown = parse(b"GET /wsx HTTP/1.1\r\nSec-WebSocket-Key: k\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(unknown.0, Request::Unknown);
    }

    #[test]
    fn frames_carry_their_length() {
        assert_eq!(frame(b"ab"), [0x81, 2, b'a', b'b']);
        assert_eq!(frame(&[0; 300])[..4], [0x81, 126, 1, 44]);
        assert_eq!(
            frame(&[0; 70_000])[..10],
            [0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]
        );
    }
}
