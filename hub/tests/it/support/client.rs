//! A WebSocket client that shows every frame and may break every rule.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{Answer, soon};
use crate::malformed::masked;

/// What a handshake says.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Bytes right behind it, in the same write.
    pub(crate) behind: Vec<u8>,
    /// The source address.
    pub(crate) source: [u8; 4],
    /// Receive buffer of the socket; 0 leaves it to the kernel.
    pub(crate) receive_buffer: u32,
}

impl Handshake {
    /// What RFC 6455 asks for.
    pub(crate) fn new(path: &str) -> Self {
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        Self {
            path: path.to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            behind: Vec::new(),
            source: [127, 0, 0, 1],
            receive_buffer: 0,
        }
    }

    pub(crate) fn v1(token: &str) -> Self {
        Self::new("/api/v1/ws")
            .header("Sec-WebSocket-Protocol", "carillon.v1")
            .header("Authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn seeds(path: &str, token: &str) -> Self {
        Self::new(&format!("{path}?token={token}"))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// All that is sent.
    pub(crate) fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut request = format!("GET {} HTTP/1.1\r\nHost: {address}\r\n", self.path);
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        [request.as_bytes(), &self.behind].concat()
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }
}

/// What the server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// The stream ended.
    End,
}

/// A client over a plain socket.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    pending: Vec<u8>,
    /// The handshake's answer.
    pub(crate) answer: Answer,
    /// The welcome of a carillon.v1 session.
    pub(crate) welcome: Value,
    /// Bytes of all frames.
    pub(crate) received: usize,
    /// Frames that were compressed.
    pub(crate) compressed: usize,
}

impl Client {
    /// Tries a handshake; whatever the answer is.
    pub(crate) async fn attempt(address: SocketAddr, handshake: &Handshake) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if handshake.receive_buffer > 0 {
            socket.set_recv_buffer_size(handshake.receive_buffer).unwrap();
        }
        socket.bind((handshake.source, 0).into()).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(&handshake.bytes(address)).await.unwrap();
        Self::over(stream).await
    }

    /// A client over a stream on which a handshake was sent; whatever the answer is.
    pub(crate) async fn over(mut stream: TcpStream) -> Self {
        let mut pending = Vec::new();
        let head = async {
            loop {
                if let Some(end) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
                    return end + 4;
                }
                assert!(
                    stream.read_buf(&mut pending).await.unwrap() > 0,
                    "the handshake was not answered"
                );
            }
        };
        let end = soon("the handshake's answer", head).await;
        let mut head: Vec<u8> = pending.drain(..end).collect();
        if !head.starts_with(b"HTTP/1.1 101 ") {
            let length = Answer::parse(&head)
                .header("content-length")
                .map_or(0, |length| length.parse().unwrap());
            while pending.len() < length && stream.read_buf(&mut pending).await.unwrap() > 0 {}
            head.extend(pending.drain(..length));
        }
        Self {
            stream,
            pending,
            answer: Answer::parse(&head),
            welcome: Value::Null,
            received: 0,
            compressed: 0,
        }
    }

    /// Opens a socket.
    pub(crate) async fn open(address: SocketAddr, handshake: &Handshake) -> Self {
        let client = Self::attempt(address, handshake).await;
        assert_eq!(client.answer.status, 101, "{:?}", client.answer);
        // The key is the example of RFC 6455 section 1.3, and so is the answer to it.
        assert_eq!(
            client.answer.header("sec-websocket-accept"),
            Some("s3pplmbitxaq9kygzzhzrbk+xoo=")
        );
        client
    }

    /// Takes the welcome.
    pub(crate) async fn welcomed(mut self) -> Self {
        self.welcome = self.json().await;
        assert_eq!(self.welcome["type"], "welcome");
        self
    }

    /// The session's id.
    pub(crate) fn session(&self) -> &str {
        self.welcome["session"].as_str().unwrap()
    }

    /// Where a topic stood at the welcome.
    pub(crate) fn position(&self, topic: &str) -> String {
        self.welcome["positions"][topic].as_str().unwrap().to_owned()
    }

    pub(crate) async fn send(&mut self, command: &Value) {
        self.text(&command.to_string()).await;
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.raw(&masked(0x81, text.as_bytes())).await;
    }

    /// Sends bytes as they are. The server may have closed already.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.ok();
    }

    /// The next frame, whatever it is.
    pub(crate) async fn frame(&mut self) -> Frame {
        loop {
            if let Some((opcode, payload)) = self.cut() {
                return match opcode {
                    1 => Frame::Text(String::from_utf8(payload).unwrap()),
                    8 => {
                        let code = payload
                            .get(..2)
                            .map(|code| u16::from_be_bytes([code[0], code[1]]));
                        Frame::Close(
                            code,
                            String::from_utf8(payload.get(2..).unwrap_or_default().to_vec()).unwrap(),
                        )
                    }
                    9 => Frame::Ping(payload),
                    10 => Frame::Pong(payload),
                    other => panic!("a server never sends opcode {other}"),
                };
            }
            // A reset comes where the server closed with bytes of ours unread.
            if soon("a frame", self.stream.read_buf(&mut self.pending))
                .await
                .unwrap_or(0)
                == 0
            {
                assert!(
                    self.pending.is_empty(),
                    "a torn frame: {} bytes",
                    self.pending.len()
                );
                return Frame::End;
            }
        }
    }

    /// The next text frame, which is a JSON object. Pings are answered.
    pub(crate) async fn json(&mut self) -> Value {
        // Bounded as a whole: heartbeats would keep a wait for each frame alive.
        soon("a text frame", self.any_json()).await
    }

    async fn any_json(&mut self) -> Value {
        loop {
            match self.frame().await {
                Frame::Text(text) => return serde_json::from_str(&text).unwrap(),
                Frame::Ping(payload) => self.raw(&masked(0x8A, &payload)).await,
                other => panic!("no text frame but {other:?}"),
            }
        }
    }

    /// The next text frame of a type; another one fails the test.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.json().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// All text frames up to the answer to a `ping`, which comes behind what was put before the session earlier.
    pub(crate) async fn until_pong(&mut self) -> Vec<Value> {
        self.send(&serde_json::json!({"type":"ping"})).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.json().await;
            if frame["type"] == "pong" {
                return frames;
            }
            frames.push(frame);
        }
    }

    /// All text frames up to one of a type, and then nothing up to a pong.
    pub(crate) async fn until_pong_and(&mut self, kind: &str) -> Vec<Value> {
        let mut frames = self.until_pong().await;
        // A replay is read beside the session's commands, so the pong may come first.
        while frames.last().is_none_or(|frame| frame["type"] != kind) {
            frames.push(self.json().await);
        }
        frames.pop();
        frames
    }

    /// Text frames up to one whose `data` is this, which is not among them.
    pub(crate) async fn until_data(&mut self, data: &str) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.json().await;
            if frame["data"] == data {
                return frames;
            }
            frames.push(frame);
        }
    }

    /// Reads to the Close frame and to the end behind it. Text frames before it are passed over.
    pub(crate) async fn closed(mut self) -> (Option<u16>, String) {
        loop {
            match self.frame().await {
                Frame::Close(code, reason) => {
                    assert_eq!(self.frame().await, Frame::End, "nothing may follow a close frame");
                    return (code, reason);
                }
                Frame::End => panic!("the end came without a close frame"),
                Frame::Text(_) | Frame::Ping(_) | Frame::Pong(_) => {}
            }
        }
    }

    /// Sends bytes as they are, and answers whether the socket still takes any.
    pub(crate) async fn try_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Closes in order, and waits for the server's answer and the end.
    pub(crate) async fn close(mut self) {
        self.raw(&masked(0x88, &1000_u16.to_be_bytes())).await;
        let closed = self.closed().await;
        assert_eq!(closed, (Some(1000), String::new()));
    }

    /// The next whole server frame (unmasked, unfragmented).
    fn cut(&mut self) -> Option<(u8, Vec<u8>)> {
        let &[first, second, ..] = self.pending.as_slice() else {
            return None;
        };
        assert_eq!(second & 0x80, 0, "a server's frame is masked");
        let compressed = first == 0xC1 && self.answer.header("sec-websocket-extensions").is_some();
        assert!(first & 0xF0 == 0x80 || compressed, "reserved bits, or a fragment");
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
        let mut payload = self.pending.get(header..header + len)?.to_vec();
        self.pending.drain(..header + len);
        self.received += header + len;
        if compressed {
            self.compressed += 1;
            payload = inflated(&payload);
        }
        Some((first & 0x0f, payload))
    }
}

/// A message without context take-over, from its beginning (RFC 7692 section 7.2.2).
fn inflated(payload: &[u8]) -> Vec<u8> {
    let whole = [payload, &[0, 0, 0xFF, 0xFF]].concat();
    let mut out = Vec::with_capacity(1024 * 1024);
    flate2::Decompress::new(false)
        .decompress_vec(&whole, &mut out, flate2::FlushDecompress::Sync)
        .unwrap();
    out
}

/// The opposite, as a client sends it.
pub(crate) fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 1024);
    flate2::Compress::new(flate2::Compression::best(), false)
        .compress_vec(payload, &mut out, flate2::FlushCompress::Sync)
        .unwrap();
    out.truncate(out.len() - 4);
    out
}
