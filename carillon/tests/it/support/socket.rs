//! WebSocket clients: one that keeps the rules, and one that need not.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, handshake};
use http_body_util::Empty;
use hyper::{Request, header, upgrade::Upgraded};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longest wait for a frame.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of the sub-protocol `carillon.v1`.
pub(crate) struct Socket {
    inner: FragmentCollector<TokioIo<Upgraded>>,
}

impl Socket {
    /// Opens a socket and waits for its `welcome`.
    pub(crate) async fn open(address: SocketAddr, token: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let request = Request::get("/api/v1/ws")
            .header(header::HOST, address.to_string())
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, handshake::generate_key())
            .header(header::SEC_WEBSOCKET_PROTOCOL, "carillon.v1")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let (socket, answer) = handshake::client(&TokioExecutor::new(), request, stream)
            .await
            .unwrap();
        assert_eq!(
            answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL).unwrap(),
            "carillon.v1"
        );
        let mut socket = Self {
            inner: FragmentCollector::new(socket),
        };
        assert_eq!(socket.next().await["type"], "welcome");
        socket
    }

    /// Sends a command.
    pub(crate) async fn send(&mut self, command: &Value) {
        let text = command.to_string().into_bytes();
        self.inner
            .write_frame(Frame::text(Payload::Owned(text)))
            .await
            .unwrap();
    }

    /// The next frame that is not a heartbeat.
    pub(crate) async fn next(&mut self) -> Value {
        let frame = timeout(PATIENCE, self.inner.read_frame())
            .await
            .expect("no frame came")
            .unwrap();
        assert_eq!(frame.opcode, OpCode::Text, "{:?}", frame.payload);
        serde_json::from_slice(&frame.payload).unwrap()
    }

    /// The next frame that is not a heartbeat, whenever it comes; none when the socket is closed.
    pub(crate) async fn following(&mut self) -> Option<Value> {
        let frame = self.inner.read_frame().await.ok()?;
        match frame.opcode {
            OpCode::Text => serde_json::from_slice(&frame.payload).ok(),
            _ => None,
        }
    }

    /// All frames up to the answer to a `ping`, which comes behind everything that was sent before it.
    pub(crate) async fn until_pong(&mut self) -> Vec<Value> {
        self.send(&serde_json::json!({"type":"ping"})).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await;
            if frame["type"] == "pong" {
                return frames;
            }
            frames.push(frame);
        }
    }
}

/// A socket on which any bytes can be sent after the handshake.
pub(crate) struct RawSocket {
    stream: TcpStream,
    pending: Vec<u8>,
}

/// Asks for a socket; the answer is still to be read.
async fn ask(address: SocketAddr, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /api/v1/ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: carillon.v1\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The status of the answer to a handshake with this query.
pub(crate) async fn refusal_status(address: SocketAddr, token: &str, query: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /api/v1/ws?{query} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut line = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut line))
        .await
        .unwrap()
        .unwrap();
    std::str::from_utf8(&line[9..]).unwrap().parse().unwrap()
}

/// The whole answer to a handshake that is refused for now, after which the server closes the connection.
pub(crate) async fn refusal(address: SocketAddr, token: &str) -> String {
    let mut stream = ask(address, token).await;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .expect("the connection stays open")
        .unwrap();
    answer
}

impl RawSocket {
    pub(crate) async fn open(address: SocketAddr, token: &str) -> Self {
        let stream = ask(address, token).await;
        let mut socket = Self {
            stream,
            pending: Vec::new(),
        };
        let end = loop {
            if let Some(end) = socket.pending.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(socket.read().await, "the handshake was not answered");
        };
        let head = String::from_utf8(socket.pending.drain(..end).collect()).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The key is the example of RFC 6455 section 1.3, and so is the answer to it.
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        socket
    }

    /// Sends bytes as they are. The server may have closed already.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.ok();
    }

    /// Reads to the Close frame, and to the end of the stream behind it; the answer is the close code.
    pub(crate) async fn closed(self) -> Option<u16> {
        self.read_to_close(false).await
    }

    /// As [`Self::closed`], of a session that is told nothing else.
    pub(crate) async fn closed_unwelcomed(self) -> Option<u16> {
        self.read_to_close(true).await
    }

    async fn read_to_close(mut self, at_once: bool) -> Option<u16> {
        let read = async {
            loop {
                while let Some((opcode, payload)) = self.frame() {
                    assert!(opcode == 8 || !at_once, "{}", String::from_utf8_lossy(&payload));
                    if opcode == 8 {
                        let code = payload
                            .get(..2)
                            .map(|code| u16::from_be_bytes([code[0], code[1]]));
                        // Nothing may follow a Close.
                        while self.read().await {}
                        assert!(self.pending.is_empty(), "{:?}", self.pending);
                        return Some(code.unwrap_or(1005));
                    }
                }
                if !self.read().await {
                    return None;
                }
            }
        };
        timeout(PATIENCE, read).await.expect("the socket was not closed")
    }

    async fn read(&mut self) -> bool {
        // A reset comes where the server closed with bytes of ours unread.
        matches!(
            timeout(PATIENCE, self.stream.read_buf(&mut self.pending))
                .await
                .expect("nothing came"),
            Ok(1..)
        )
    }

    /// The next whole server frame (unmasked, RFC 6455 section 5.1).
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let &[first, second, ..] = self.pending.as_slice() else {
            return None;
        };
        assert_eq!(second & 0x80, 0, "a server's frame is masked");
        let (header, len) = match second {
            126 => (
                4,
                usize::from(u16::from_be_bytes(self.pending.get(2..4)?.try_into().unwrap())),
            ),
            127 => (
                10,
                u64::from_be_bytes(self.pending.get(2..10)?.try_into().unwrap()) as usize,
            ),
            len => (2, usize::from(len)),
        };
        let payload = self.pending.get(header..header + len)?.to_vec();
        self.pending.drain(..header + len);
        Some((first & 0x0f, payload))
    }
}
